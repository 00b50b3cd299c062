/* A button that copies a text and says so. */
import { announce, h, on } from './dom';

/** Through the clipboard where the page may, else (file:// in some browsers) through a selection. */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h('textarea', { class: 'visually-hidden', 'aria-hidden': 'true' });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}

export function copyButton(text: () => string, title = 'Copy'): HTMLElement {
  const button = h('button', { type: 'button', class: 'button copy' }, title);
  on(button, 'click', () => {
    void copy(text()).then((done) => {
      button.textContent = done ? 'Copied' : 'Not copied: select it by hand';
      announce(done ? 'Copied' : 'Not copied');
      setTimeout(() => (button.textContent = title), 2000);
    });
  });
  return button;
}
