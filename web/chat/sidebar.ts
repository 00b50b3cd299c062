// The list of chats: by day, searched, renamed in place.
import { h } from './dom';
import { iconButton } from './icons';
import { search, type Hit } from './store';
import { title } from './tree';
import type { Chat } from './types';

export interface SidebarActions {
  open: (chat: Chat) => void;
  rename: (chat: Chat, name: string) => void;
  remove: (chat: Chat) => void;
}

const DAY_MS = 24 * 3600 * 1000;

/** The heading that a time stands under. */
export function dayName(time: number, now: number): string {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  if (time >= midnight) return 'Today';
  if (time >= midnight - DAY_MS) return 'Yesterday';
  if (time >= midnight - 7 * DAY_MS) return 'The last 7 days';
  return new Date(time).toLocaleDateString('en', { month: 'long', year: 'numeric' });
}

export interface SidebarState {
  chats: Chat[]; // newest first
  current: string;
  query: string;
  running: (id: string) => boolean;
}

export class Sidebar {
  private renaming = ''; // id

  constructor(
    private readonly box: HTMLElement,
    private readonly actions: SidebarActions,
  ) {}

  show(state: SidebarState): void {
    if (this.renaming && this.box.contains(document.activeElement)) return; // not under the reader's hands
    const focused = document.activeElement?.closest('[data-chat]')?.getAttribute('data-chat');
    const hits = state.query.trim() ? search(state.chats, state.query) : state.chats.map((chat) => ({ chat, snippet: null }));
    const groups: HTMLElement[] = [];
    let day = '';
    let list = h('ul');
    for (const hit of hits) {
      const name = dayName(hit.chat.updated, Date.now());
      if (name !== day) {
        day = name;
        list = h('ul', { 'aria-label': name });
        groups.push(h('h2', {}, name), list);
      }
      list.append(this.row(hit, state));
    }
    if (hits.length === 0) groups.push(h('p', { class: 'soft' }, state.query.trim() ? 'No chat has these words.' : 'No chats yet.'));
    this.box.replaceChildren(...groups);
    if (focused) this.box.querySelector<HTMLElement>(`[data-chat="${CSS.escape(focused)}"] button`)?.focus();
  }

  private row({ chat, snippet }: Hit, state: SidebarState): HTMLElement {
    const name = title(chat);
    const current = chat.id === state.current;
    const open = h(
      'button',
      { type: 'button', class: 'open', onclick: () => this.actions.open(chat), ...(current ? { 'aria-current': 'page' } : {}) },
      h('span', { class: 'name' }, name),
      snippet && h('span', { class: 'snippet' }, snippet.before, h('mark', {}, snippet.match), snippet.after),
    );
    const running = state.running(chat.id) && h('span', { class: 'pulse', role: 'img', 'aria-label': 'is being answered' });
    const row: HTMLElement = h(
      'li',
      { 'data-chat': chat.id, class: current ? 'current' : '' },
      open,
      running,
      iconButton('edit', `Rename ${name}`, () => this.startRename(row, chat)),
      iconButton('trash', `Delete ${name}`, () => this.actions.remove(chat)),
    );
    return row;
  }

  private startRename(row: HTMLElement, chat: Chat): void {
    this.renaming = chat.id;
    const input = h('input', { 'aria-label': 'Name of the chat', maxlength: '200' });
    input.value = title(chat);
    const end = (keep: boolean) => {
      if (!this.renaming) return;
      this.renaming = '';
      this.actions.rename(chat, keep ? input.value.trim() : title(chat));
      this.box.querySelector<HTMLElement>(`[data-chat="${CSS.escape(chat.id)}"] button`)?.focus();
    };
    input.addEventListener('keydown', (e) => {
      if (e.key === 'Enter' && !e.isComposing) end(true);
      if (e.key === 'Escape') {
        e.stopPropagation();
        end(false);
      }
    });
    input.addEventListener('blur', () => end(true));
    row.replaceChildren(input);
    input.focus();
    input.select();
  }
}
