import { expect, test, vi } from 'vitest';
import { exportChats, ImportError, importChats, readChat } from './portable';
import { search, Store } from './store';
import { Memory } from './storage';
import { add, newChat, path } from './tree';
import type { Chat } from './types';

function conversation(question: string, answer: string): Chat {
  const chat = newChat('System words', { temperature: 0.5, seed: 7 });
  const q = add(chat, null, 'user', question, [{ name: 'notes.txt', text: 'file text' }]);
  const a = add(chat, q.id, 'assistant', answer);
  a.finish = 'stop';
  a.stats = {
    ttft_ms: 1,
    total_ms: 2,
    tokens: 3,
    tokens_per_second: null,
    prompt_tokens: 4,
    cached_tokens: 0,
    drafts: 0,
    drafts_accepted: 0,
  };
  return chat;
}

test('chats are saved together, soon, and come back as they were', async () => {
  vi.useFakeTimers();
  const storage = new Memory();
  const store = new Store(storage, () => undefined);
  const chat = conversation('q', 'a');
  store.save(chat);
  store.save(chat);
  expect(storage.rows.size).toBe(0);
  await vi.advanceTimersByTimeAsync(500);
  expect(storage.rows.size).toBe(1);
  vi.useRealTimers();

  const again = new Store(storage, () => undefined);
  await again.load();
  expect(again.sorted()).toEqual([chat]);
  again.remove(chat.id);
  await again.flush();
  expect(storage.rows.size).toBe(0);
});

test('a chat deleted while its answer is written stays deleted', async () => {
  const storage = new Memory();
  const store = new Store(storage, () => undefined);
  const chat = conversation('q', 'a');
  store.save(chat);
  store.remove(chat.id);
  store.touch(chat);
  await store.flush();
  expect(store.chats.size + storage.rows.size).toBe(0);
});

test('storage that cannot be read is told', async () => {
  const storage = new Memory();
  vi.spyOn(storage, 'load').mockRejectedValue(new Error('broken'));
  const told: (string | null)[] = [];
  await new Store(storage, (s) => told.push(s)).load();
  expect(told).toEqual(['The chats kept in this browser could not be read.']);
});

test('a full browser is told in one sentence, and saving goes on once there is room', async () => {
  const storage = new Memory();
  const told: (string | null)[] = [];
  const store = new Store(Object.assign(storage, { lasting: true }), (s) => told.push(s));
  const put = vi.spyOn(storage, 'put').mockRejectedValueOnce(new DOMException('full', 'QuotaExceededError'));
  const chat = conversation('q', 'a');
  store.save(chat);
  await store.flush();
  expect(told.at(-1)).toMatch(/no room/);
  expect(storage.rows.size).toBe(0);
  await store.flush();
  expect(put).toHaveBeenCalledTimes(2);
  expect(told.at(-1)).toBeNull();
  expect(storage.rows.size).toBe(1);
});

test('a damaged record is left out and told, the others come', async () => {
  const storage = new Memory();
  await storage.put(conversation('q', 'a'));
  storage.rows.set('bad', '{"id":"bad"}');
  const told: (string | null)[] = [];
  const store = new Store(storage, (s) => told.push(s));
  await store.load();
  expect(store.chats.size).toBe(1);
  expect(told[0]).toMatch(/1 of the kept chats could not be read/);
});

test('export and import: the same chats; an id that is taken gets another', async () => {
  const chat = conversation('q', 'a');
  const text = exportChats([chat]);
  expect(importChats(text)).toEqual([chat]);
  const store = new Store(new Memory(), () => undefined);
  store.save(chat);
  const [copy] = store.import(importChats(text));
  expect(copy?.id).not.toBe(chat.id);
  expect(store.chats.size).toBe(2);
  await store.flush();
});

test('files that are no chats are refused by the field at fault', () => {
  const good = JSON.parse(exportChats([conversation('q', 'a')])) as { chats: Record<string, unknown>[] };
  const broken = (change: (file: never) => void): string => {
    const copy = structuredClone(good);
    change(copy as never);
    return JSON.stringify(copy);
  };
  type File = { version: number; chats: (Omit<Chat, 'messages'> & { messages: Record<string, unknown>[] })[] };
  for (const [text, message] of [
    ['', /holds no JSON/],
    ['{}', /"format"/],
    ['[1]', /"format"/],
    [broken((f: File) => (f.version = 2)), /"version"/],
    [broken((f: File) => (f.chats[0]!.id = '')), /chats\[0\]\.id is empty/],
    [broken((f: File) => (f.chats[0]!.messages[0]!['role'] = 'system')), /messages\[0\]\.role/],
    [broken((f: File) => (f.chats[0]!.messages[0]!['parent'] = 'x')), /messages\[0\]\.parent/],
    [broken((f: File) => (f.chats[0]!.messages[1]!['id'] = f.chats[0]!.messages[0]!['id'])), /messages\[1\]\.id/],
    [broken((f: File) => (f.chats[0]!.messages[1]!['text'] = 5)), /messages\[1\]\.text is no text/],
    [broken((f: File) => (f.chats[0]!.messages[1]!['finish'] = 'odd')), /messages\[1\]\.finish/],
    [broken((f: File) => (f.chats[0]!.messages[1]!['stats'] = { tokens: -1 })), /stats/],
    [broken((f: File) => (f.chats[0]!.sampling = { seed: 'x' } as never)), /sampling\.seed/],
  ] as const) {
    expect(() => importChats(text)).toThrow(ImportError);
    expect(() => importChats(text)).toThrow(message);
  }
  expect(readChat({ ...good.chats[0], chosen: { '': 'nowhere', odd: 7 }, more: 1 }).chosen).toEqual({});
  expect(path(readChat({ ...good.chats[0], chosen: 'x' }))).toHaveLength(2);
});

test('search finds words in titles and texts, and shows where', () => {
  const chats = [conversation('What is a sluice gate?', 'A gate that holds water back.'), conversation('Tea?', 'Yes, with milk.')];
  expect(search(chats, 'SLUICE')).toEqual([{ chat: chats[0], snippet: null }]);
  const [hit] = search(chats, 'milk');
  expect(hit?.chat).toBe(chats[1]);
  expect(hit?.snippet).toEqual({ before: 'Yes, with ', match: 'milk', after: '.' });
  expect(search(chats, 'water gate')).toHaveLength(1);
  expect(search(chats, 'nowhere')).toEqual([]);
  expect(search(chats, 'notes.txt')).toHaveLength(2);
});
