// The conversation on show.
import { formatBytes, formatMs, formatParameters } from '../shared/format';
import { copyText, h } from './dom';
import { flashDone, icon, iconButton } from './icons';
import { GrowingMarkdown } from './markdown';
import { endNote, statsLine } from './stats';
import { path, siblings } from './tree';
import type { Chat, Message, ServerInfo } from './types';

export interface ThreadActions {
  ask: (text: string) => void;
  edit: (message: Message, text: string) => void;
  again: (answer: Message) => void;
  turn: (message: Message, step: number) => void;
  isRunning: (message: Message) => boolean;
}

/** A question beyond these scrolls in its own box, so that its answer is not far away. */
const LONG_CHARS = 1500;
const LONG_LINES = 20;

const EXAMPLES = [
  'What is the capital of France?',
  'Write a Python function that adds two numbers.',
  'Tell me a long story.',
  'Sort these numbers: 9, 3, 7, 1',
];

interface Shown {
  message: Message;
  element: HTMLElement;
  update: () => void;
}

export class Thread {
  private shown: Shown[] = [];

  constructor(
    private readonly box: HTMLElement,
    private readonly actions: ThreadActions,
  ) {
    box.addEventListener('click', (e) => {
      const button = e.target instanceof Element ? e.target.closest('button.copy-code') : null;
      if (button instanceof HTMLButtonElement) void copyCode(button);
    });
  }

  /** Shows a chat from its first message; what is on show already and unchanged stays as it is. */
  show(chat: Chat, server: ServerInfo | null): void {
    const messages = path(chat);
    let same = 0;
    while (same < messages.length && this.shown[same]?.message === messages[same]) same++;
    for (const { element } of this.shown.splice(same)) element.remove();
    if (this.shown.length === 0) this.box.replaceChildren();
    for (const message of messages.slice(same)) {
      const shown = message.role === 'user' ? this.question(chat, message) : this.answer(chat, message);
      this.shown.push(shown);
      this.box.append(shown.element);
    }
    for (const { update } of this.shown) update();
    if (messages.length === 0) this.box.replaceChildren(this.welcome(server));
  }

  /** The message has changed. */
  update(message: Message): void {
    this.shown.find((s) => s.message === message)?.update();
  }

  /** Keeps the focus on the button that turned a version, or on its neighbour where there is nothing more to turn to. */
  focusVersions(parent: string | null, step: number): void {
    const turned = this.shown.find((s) => s.message.parent === parent);
    const buttons = [...(turned?.element.querySelectorAll<HTMLButtonElement>('.versions button') ?? [])];
    if (step > 0) buttons.reverse();
    buttons.find((b) => !b.disabled)?.focus();
  }

  /** Starts editing the last question. */
  editLast(): void {
    const last = this.shown.findLast((s) => s.message.role === 'user');
    last?.element.querySelector<HTMLButtonElement>('button.edit')?.click();
  }

  private welcome(server: ServerInfo | null): HTMLElement {
    const facts = server
      ? [server.quantization, `${formatParameters(server.parameters)} parameters`, server.device || server.backend]
      : [];
    return h(
      'section',
      { class: 'welcome' },
      h('img', { src: document.querySelector<HTMLLinkElement>('link[rel=icon]')?.href ?? '', alt: '', width: '56', height: '56' }),
      h('h2', {}, server ? server.model : 'sluice'),
      h('p', { class: 'soft' }, facts.filter(Boolean).join(' · ')),
      h(
        'div',
        { class: 'examples' },
        ...EXAMPLES.map((text) => h('button', { type: 'button', onclick: () => this.actions.ask(text) }, text)),
      ),
      h('p', { class: 'soft small' }, 'Your chats stay in this browser; they go to this server and nowhere else.'),
    );
  }

  private versions(chat: Chat, message: Message): HTMLElement | null {
    const all = siblings(chat, message.parent);
    if (all.length < 2) return null;
    const at = all.indexOf(message);
    const step = (name: string, label: string, by: number) => {
      const button = iconButton(name, label, () => this.actions.turn(message, by));
      button.disabled = !all[at + by];
      return button;
    };
    return h(
      'span',
      { class: 'versions', role: 'group', 'aria-label': 'Versions' },
      step('left', 'Version before', -1),
      h('span', {}, `${at + 1} / ${all.length}`),
      step('right', 'Version after', 1),
    );
  }

  private question(chat: Chat, message: Message): Shown {
    const long = message.text.length > LONG_CHARS || message.text.split('\n').length > LONG_LINES;
    const scrolls = { tabindex: '0', role: 'region', 'aria-label': 'Your message, long' };
    const body = h('div', { class: long ? 'bubble long' : 'bubble', ...(long ? scrolls : {}) }, message.text);
    const actions = h('div', { class: 'actions' });
    const files = (message.files ?? []).map((file) =>
      h(
        'details',
        { class: 'file' },
        h('summary', {}, icon('file'), file.name, h('span', { class: 'soft' }, formatBytes(new Blob([file.text]).size))),
        h('pre', { tabindex: '0' }, file.text),
      ),
    );
    const said = h('div', { class: 'said' }, message.text ? body : null, actions);
    const element = h('article', { class: 'message user', 'aria-label': 'You' }, ...files, said);
    const edit = iconButton('edit', 'Edit and ask again', () => this.startEdit(element, message));
    edit.classList.add('edit');
    const copy = iconButton('copy', 'Copy', () => void copyWhole(copy, message.text));
    let drawn = '';
    const update = () => {
      const state = siblings(chat, message.parent).length.toString();
      if (state === drawn) return; // what has the focus keeps it
      drawn = state;
      const versions = this.versions(chat, message);
      actions.replaceChildren(...(versions ? [versions] : []), copy, edit);
    };
    return { message, element, update };
  }

  private startEdit(element: HTMLElement, message: Message): void {
    if (element.querySelector('form')) return;
    const area = h('textarea', { 'aria-label': 'Your message', rows: '3' });
    const close = () => {
      form.remove();
      element.classList.remove('editing');
      element.querySelector<HTMLButtonElement>('button.edit')?.focus();
    };
    const send = (event: Event) => {
      event.preventDefault();
      const text = area.value.trim();
      if (!text && !message.files) return;
      close();
      this.actions.edit(message, text);
    };
    const keys = (event: KeyboardEvent) => {
      if (event.key === 'Escape') {
        event.stopPropagation();
        close();
      } else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        send(event);
      }
    };
    const form = h(
      'form',
      { class: 'edit-form', onsubmit: send, onkeydown: keys },
      area,
      h(
        'div',
        { class: 'buttons' },
        h('button', { type: 'button', onclick: close }, 'Cancel'),
        h('button', { type: 'submit', class: 'primary' }, 'Ask again'),
      ),
    );
    area.value = message.text;
    element.classList.add('editing');
    element.append(form);
    area.style.height = `${Math.min(area.scrollHeight + 4, 320)}px`;
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }

  private answer(chat: Chat, message: Message): Shown {
    const text = h('div', { class: 'markdown' });
    const waiting = h('p', { class: 'waiting' });
    const fault = h('p', { class: 'fault' });
    const note = h('p', { class: 'soft note' });
    const actions = h('div', { class: 'actions' });
    const element = h('article', { class: 'message assistant', 'aria-label': 'Answer' }, text, waiting, fault, note, actions);
    const copy = iconButton('copy', 'Copy the answer', () => void copyWhole(copy, message.text));
    const again = iconButton('again', 'Another answer', () => this.actions.again(message));
    const retry = h('button', { type: 'button', class: 'retry', onclick: () => this.actions.again(message) }, 'Try again');
    const markdown = new GrowingMarkdown(text);
    let drawnText = '';
    let drawnRest = '';
    const update = () => {
      const running = this.actions.isRunning(message);
      const textState = `${running} ${message.text.length}`;
      if (drawnText !== textState) markdown.update(message.text, !running);
      drawnText = textState;
      const { stats, error, finish: ended } = message;
      const rest = JSON.stringify([running, message.text === '', stats, error, ended, siblings(chat, message.parent).length]);
      if (drawnRest === rest) return; // what has the focus keeps it
      drawnRest = rest;
      element.classList.toggle('running', running);
      waiting.hidden = !running || message.text !== '';
      waiting.textContent = `Reading the prompt … ${formatMs(Math.max(message.stats?.total_ms ?? 0, 0))}`;
      fault.hidden = !message.error;
      fault.textContent = message.error ?? '';
      note.textContent = running ? '' : endNote(message);
      note.hidden = !note.textContent;
      const versions = this.versions(chat, message);
      const whole = [...(versions ? [versions] : []), ...(message.text ? [copy] : []), message.error ? retry : again];
      actions.replaceChildren(...(running ? [] : whole), statsLine(message));
    };
    return { message, element, update };
  }
}

async function copyCode(button: HTMLButtonElement): Promise<void> {
  const code = button.closest('figure')?.querySelector('code')?.textContent ?? '';
  const copied = await copyText(code);
  button.textContent = copied ? 'Copied' : 'Not copied';
  setTimeout(() => (button.textContent = 'Copy'), 1500);
}

async function copyWhole(button: HTMLButtonElement, text: string): Promise<void> {
  if (await copyText(text)) flashDone(button);
}
