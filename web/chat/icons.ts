// Icons of the sprite in index.html, and buttons that show one.
import { h } from './dom';

const SVG = 'http://www.w3.org/2000/svg';

export function icon(name: string): SVGSVGElement {
  const svg = document.createElementNS(SVG, 'svg');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

export function iconButton(name: string, label: string, onclick: (event: MouseEvent) => void): HTMLButtonElement {
  const button = h('button', { type: 'button', class: 'icon', 'aria-label': label, title: label, onclick });
  button.append(icon(name));
  return button;
}

/** Shows a check mark for a moment: it was done. */
export function flashDone(button: HTMLButtonElement): void {
  const use = button.querySelector('use');
  const was = use?.getAttribute('href');
  if (!use || !was || was === '#i-check') return;
  use.setAttribute('href', '#i-check');
  setTimeout(() => use.setAttribute('href', was), 1500);
}
