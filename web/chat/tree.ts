// The tree of a chat's messages: which path is on show, and how it grows.
import type { Attachment, Chat, Message, Sampling } from './types';

export function newId(): string {
  return crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}

export function newChat(system = '', sampling: Sampling = {}, now = Date.now()): Chat {
  return {
    id: newId(),
    title: '',
    titled: false,
    created: now,
    updated: now,
    system,
    sampling: { ...sampling },
    messages: [],
    chosen: {},
  };
}

/** Messages that share a parent, oldest first. */
export function siblings(chat: Chat, parent: string | null): Message[] {
  return chat.messages.filter((m) => m.parent === parent);
}

/** The conversation on show: at every fork the chosen child, else the newest. */
export function path(chat: Chat): Message[] {
  const shown: Message[] = [];
  let parent: string | null = null;
  for (;;) {
    const children: Message[] = siblings(chat, parent);
    const wanted: string | undefined = chat.chosen[parent ?? ''];
    const next: Message | undefined = children.find((m) => m.id === wanted) ?? children.at(-1);
    if (!next) return shown;
    shown.push(next);
    parent = next.id;
  }
}

/** The messages from the first to this one, this one left out. */
export function before(chat: Chat, message: Message): Message[] {
  const found: Message[] = [];
  let parent = message.parent;
  while (parent !== null) {
    const above = chat.messages.find((m) => m.id === parent);
    if (!above) break;
    found.unshift(above);
    parent = above.parent;
  }
  return found;
}

/** Adds a message below `parent` and shows it. */
export function add(
  chat: Chat,
  parent: string | null,
  role: Message['role'],
  text: string,
  files: Attachment[] = [],
  now = Date.now(),
): Message {
  const message: Message = { id: newId(), parent, role, text, created: now };
  if (files.length > 0) message.files = files;
  chat.messages.push(message);
  chat.chosen[parent ?? ''] = message.id;
  chat.updated = now;
  return message;
}

/** Shows the sibling `step` places on; false where there is none. */
export function turn(chat: Chat, message: Message, step: number): boolean {
  const all = siblings(chat, message.parent);
  const next = all[all.indexOf(message) + step];
  if (!next) return false;
  chat.chosen[message.parent ?? ''] = next.id;
  return true;
}

const TITLE_CHARS = 60;

/** A title from the first question, unless the chat was named by hand. */
export function title(chat: Chat): string {
  if (chat.titled && chat.title) return chat.title;
  const first = path(chat)[0];
  const line = (first?.text.trim() || first?.files?.[0]?.name || '').split('\n', 1)[0] ?? '';
  const chars = Array.from(line);
  if (chars.length <= TITLE_CHARS) return line || 'New chat';
  return chars.slice(0, TITLE_CHARS).join('').replace(/\s+\S*$/, '') + '…';
}

/** What a message says to the model: its files first, each fenced by more backticks than it holds, then its text. */
export function promptText(message: Message): string {
  const parts = (message.files ?? []).map((file) => {
    const longest = Math.max(2, ...Array.from(file.text.matchAll(/`{3,}/g), (m) => m[0].length));
    const fence = '`'.repeat(longest + 1);
    return `File ${file.name}:\n${fence}\n${file.text.replace(/\n$/, '')}\n${fence}`;
  });
  if (message.text) parts.push(message.text);
  return parts.join('\n\n');
}
