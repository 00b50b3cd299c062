// What the page tells besides the conversation: short-lived notes, one lasting line, and text for screen readers.
import { byId, h } from './dom';

const TOAST_MS = 6000;

/** A note at the bottom for some seconds, with something to undo if given. */
export function toast(text: string, action?: { label: string; run: () => void }): void {
  const box = byId('toasts');
  const note = h('div', { class: 'toast' }, h('span', {}, text));
  if (action) {
    note.append(
      h('button', { type: 'button', onclick: () => (note.remove(), action.run()) }, action.label),
    );
  }
  while (box.childElementCount > 2) box.firstElementChild?.remove();
  box.append(note);
  setTimeout(() => note.remove(), TOAST_MS);
}

const notices = new Map<string, string>();

/** A line above the conversation about one topic, until it is taken back with null. */
export function notice(topic: 'storage' | 'server', sentence: string | null): void {
  if (sentence === null) notices.delete(topic);
  else notices.set(topic, sentence);
  const line = byId('notice');
  const text = [...notices.values()].join(' ');
  line.hidden = text === '';
  if (line.textContent !== text) line.textContent = text; // said again only when it is new
}

/** Says an answer to a screen reader paragraph by paragraph, as each is complete, never token by token. */
export class Announcer {
  private said = 0;

  constructor(private readonly box: HTMLElement) {}

  start(): void {
    this.said = 0;
    this.box.textContent = 'Answering.';
  }

  grow(text: string, whole: boolean): void {
    const end = whole ? text.length : text.lastIndexOf('\n\n');
    if (end <= this.said) return;
    this.box.textContent = text.slice(this.said, end).trim();
    this.said = end;
  }

  end(sentence: string): void {
    if (sentence) this.box.textContent = sentence;
  }
}
