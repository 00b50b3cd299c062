// All chats, in memory and kept: saved soon after a change, never twice at once, and never lost silently.
import { newId, path, title } from './tree';
import type { Storage } from './storage';
import type { Chat } from './types';

const SAVE_DELAY_MS = 400;

export class Store {
  readonly chats = new Map<string, Chat>();
  private readonly dirty = new Set<string>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private writing: Promise<void> = Promise.resolve();

  constructor(
    private readonly storage: Storage,
    /** Called with one sentence when something cannot be kept; with null once that is over. */
    private readonly onTrouble: (sentence: string | null) => void,
    private readonly onSaved: (id: string) => void = () => undefined,
  ) {}

  async load(): Promise<void> {
    const { chats, damaged } = await this.storage.load().catch(() => ({ chats: [], damaged: NaN }));
    for (const chat of chats) this.chats.set(chat.id, chat);
    if (Number.isNaN(damaged)) this.onTrouble('The chats kept in this browser could not be read.');
    else if (damaged > 0) this.onTrouble(`${damaged} of the kept chats could not be read and ${damaged > 1 ? 'are' : 'is'} not shown.`);
    else if (!this.storage.lasting) this.onTrouble('This browser keeps nothing: chats last until the page is closed.');
  }

  /** Newest first. */
  sorted(): Chat[] {
    return [...this.chats.values()].sort((a, b) => b.updated - a.updated || (a.id < b.id ? -1 : 1));
  }

  /** A chat has changed. One that was deleted meanwhile, while its answer was written, stays deleted. */
  touch(chat: Chat): void {
    if (this.chats.has(chat.id)) this.save(chat);
  }

  /** Adds or marks as changed; saved within SAVE_DELAY_MS. */
  save(chat: Chat): void {
    this.chats.set(chat.id, chat);
    this.dirty.add(chat.id);
    this.timer ??= setTimeout(() => void this.flush(), SAVE_DELAY_MS);
  }

  remove(id: string): void {
    this.chats.delete(id);
    this.dirty.add(id);
    void this.flush();
  }

  /** Writes what has changed; resolves when it is kept or trouble was told. */
  flush(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.writing = this.writing.then(() => this.write());
    return this.writing;
  }

  private async write(): Promise<void> {
    for (const id of [...this.dirty]) {
      this.dirty.delete(id);
      const chat = this.chats.get(id);
      try {
        if (chat) await this.storage.put(chat);
        else await this.storage.remove(id);
        this.onSaved(id);
        if (this.storage.lasting) this.onTrouble(null);
      } catch (e) {
        this.dirty.add(id);
        const full = e instanceof DOMException && e.name === 'QuotaExceededError';
        this.onTrouble(
          full
            ? 'The browser has no room for more chats: export and delete some, or this one is lost when the page is closed.'
            : 'The browser could not keep this chat: export it, or it is lost when the page is closed.',
        );
        return; // tried again at the next change
      }
    }
  }

  /** Takes what another tab has written. */
  async reload(id: string): Promise<void> {
    const chat = await this.storage.get(id);
    if (chat) this.chats.set(id, chat);
    else this.chats.delete(id);
  }

  /** Adds chats of a file; one whose id is taken gets another. Returns them. */
  import(chats: Chat[]): Chat[] {
    for (const chat of chats) {
      if (this.chats.has(chat.id)) chat.id = newId();
      this.save(chat);
    }
    return chats;
  }
}

export interface Hit {
  chat: Chat;
  /** What stands around the first place found, or null where the title holds it. */
  snippet: { before: string; match: string; after: string } | null;
}

const AROUND = 32;

/** Chats whose title, prompt or conversation on show holds all words of the query, in the given order. */
export function search(chats: Chat[], query: string): Hit[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return chats.flatMap((chat) => {
    const name = title(chat).toLowerCase();
    const texts = [chat.system, ...path(chat).flatMap((m) => [m.text, ...(m.files ?? []).map((f) => f.name)])];
    const whole = texts.join('\n').toLowerCase();
    if (!words.every((w) => name.includes(w) || whole.includes(w))) return [];
    const missing = words.find((w) => !name.includes(w));
    return [{ chat, snippet: missing === undefined ? null : snippetOf(texts, missing) }];
  });
}

function snippetOf(texts: string[], word: string): Hit['snippet'] {
  for (const text of texts) {
    const at = text.toLowerCase().indexOf(word);
    if (at < 0) continue;
    const from = Math.max(0, at - AROUND);
    return {
      before: (from > 0 ? '…' : '') + text.slice(from, at),
      match: text.slice(at, at + word.length),
      after: text.slice(at + word.length, at + word.length + AROUND),
    };
  }
  return null;
}
