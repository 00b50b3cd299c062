// Where chats are kept: IndexedDB, one record per chat. Where the browser grants none, memory, for as long as the page is open.
import { readChat } from './portable';
import type { Chat } from './types';

export interface Storage {
  readonly lasting: boolean;
  load(): Promise<{ chats: Chat[]; damaged: number }>;
  get(id: string): Promise<Chat | null>;
  /** Rejects with QuotaExceededError where the browser has no room. */
  put(chat: Chat): Promise<void>;
  remove(id: string): Promise<void>;
}

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error('IndexedDB failed'));
  });
}

class Database implements Storage {
  readonly lasting = true;
  constructor(private readonly db: IDBDatabase) {}

  private store(mode: IDBTransactionMode): { store: IDBObjectStore; transaction: IDBTransaction; done: Promise<void> } {
    const transaction = this.db.transaction('chats', mode);
    const done = new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error ?? new Error('IndexedDB failed'));
    });
    done.catch(() => undefined); // a reader may not wait for it
    return { store: transaction.objectStore('chats'), transaction, done };
  }

  async load(): Promise<{ chats: Chat[]; damaged: number }> {
    const rows: unknown[] = await settled(this.store('readonly').store.getAll());
    const chats = rows.flatMap((row) => tryRead(row) ?? []);
    return { chats, damaged: rows.length - chats.length };
  }

  async get(id: string): Promise<Chat | null> {
    return tryRead(await settled<unknown>(this.store('readonly').store.get(id)));
  }

  async put(chat: Chat): Promise<void> {
    const { store, transaction, done } = this.store('readwrite');
    store.put(chat);
    transaction.commit(); // at once: the page may be going away
    await done;
  }

  async remove(id: string): Promise<void> {
    const { store, done } = this.store('readwrite');
    store.delete(id);
    await done;
  }
}

function tryRead(row: unknown): Chat | null {
  try {
    return readChat(row);
  } catch {
    return null;
  }
}

/** Also what the unit tests use. */
export class Memory implements Storage {
  readonly lasting = false;
  readonly rows = new Map<string, string>();

  load(): Promise<{ chats: Chat[]; damaged: number }> {
    const chats = [...this.rows.values()].flatMap((row) => tryRead(JSON.parse(row)) ?? []);
    return Promise.resolve({ chats, damaged: this.rows.size - chats.length });
  }
  get(id: string): Promise<Chat | null> {
    const row = this.rows.get(id);
    return Promise.resolve(row === undefined ? null : tryRead(JSON.parse(row)));
  }
  put(chat: Chat): Promise<void> {
    this.rows.set(chat.id, JSON.stringify(chat));
    return Promise.resolve();
  }
  remove(id: string): Promise<void> {
    this.rows.delete(id);
    return Promise.resolve();
  }
}

export async function openStorage(): Promise<Storage> {
  try {
    const request = indexedDB.open('sluice', 1);
    request.onupgradeneeded = () => request.result.createObjectStore('chats', { keyPath: 'id' });
    return new Database(await settled(request));
  } catch {
    return new Memory();
  }
}
