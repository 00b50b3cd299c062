// Chats as JSON text: written for export, and read from files and storage with every field checked.
import type { Attachment, Chat, Finish, Message, Sampling, SamplingKey, Stats } from './types';

export const FORMAT = 'sluice-chats';
export const IMPORT_BYTES_MAX = 64 * 2 ** 20;

/** What is wrong with a file, as one sentence. */
export class ImportError extends Error {}

type Json = Record<string, unknown>;
const isObject = (v: unknown): v is Json => typeof v === 'object' && v !== null && !Array.isArray(v);

function expect(ok: boolean, where: string, what: string): asserts ok {
  if (!ok) throw new ImportError(`This is no file of chats: ${where} ${what}.`);
}

function text(v: unknown, where: string): string {
  expect(typeof v === 'string', where, 'is no text');
  return v;
}

function count(v: unknown, where: string): number {
  expect(typeof v === 'number' && Number.isFinite(v) && v >= 0, where, 'is no number from 0 up');
  return v;
}

const optionalCount = (v: unknown, where: string) => (v === null || v === undefined ? null : count(v, where));

const SAMPLING_KEYS: readonly SamplingKey[] = [
  'temperature',
  'top_p',
  'top_k',
  'min_p',
  'repetition_penalty',
  'presence_penalty',
  'frequency_penalty',
  'max_tokens',
  'seed',
];

export function readSampling(v: unknown, where: string): Sampling {
  expect(isObject(v), where, 'is no object');
  const sampling: Sampling = {};
  for (const key of SAMPLING_KEYS) {
    const value = v[key];
    if (value === undefined) continue;
    expect(typeof value === 'number' && Number.isFinite(value), `${where}.${key}`, 'is no number');
    sampling[key] = value;
  }
  return sampling;
}

function readStats(v: unknown, where: string): Stats {
  expect(isObject(v), where, 'is no object');
  return {
    ttft_ms: count(v['ttft_ms'], `${where}.ttft_ms`),
    total_ms: count(v['total_ms'], `${where}.total_ms`),
    tokens: count(v['tokens'], `${where}.tokens`),
    tokens_per_second: optionalCount(v['tokens_per_second'], `${where}.tokens_per_second`),
    prompt_tokens: optionalCount(v['prompt_tokens'], `${where}.prompt_tokens`),
    cached_tokens: optionalCount(v['cached_tokens'], `${where}.cached_tokens`),
    drafts: count(v['drafts'] ?? 0, `${where}.drafts`),
    drafts_accepted: count(v['drafts_accepted'] ?? 0, `${where}.drafts_accepted`),
  };
}

function readFiles(v: unknown, where: string): Attachment[] {
  expect(Array.isArray(v), where, 'is no list');
  return v.map((file: unknown, i) => {
    expect(isObject(file), `${where}[${i}]`, 'is no object');
    return { name: text(file['name'], `${where}[${i}].name`), text: text(file['text'], `${where}[${i}].text`) };
  });
}

const FINISHES: readonly Finish[] = ['stop', 'length', 'stopped', 'error'];

function readMessage(v: unknown, known: Set<string>, where: string): Message {
  expect(isObject(v), where, 'is no object');
  const { role, finish, parent } = v;
  expect(role === 'user' || role === 'assistant', `${where}.role`, 'is neither user nor assistant');
  expect(parent === null || (typeof parent === 'string' && known.has(parent)), `${where}.parent`, 'stands nowhere before');
  const message: Message = {
    id: text(v['id'], `${where}.id`),
    parent,
    role,
    text: text(v['text'], `${where}.text`),
    created: count(v['created'], `${where}.created`),
  };
  expect(message.id !== '' && !known.has(message.id), `${where}.id`, 'is empty or there twice');
  known.add(message.id);
  if (v['files'] !== undefined) message.files = readFiles(v['files'], `${where}.files`);
  if (finish !== undefined) {
    expect(FINISHES.includes(finish as Finish), `${where}.finish`, 'is unknown');
    message.finish = finish as Finish;
  }
  if (v['error'] !== undefined) message.error = text(v['error'], `${where}.error`);
  if (v['stats'] !== undefined) message.stats = readStats(v['stats'], `${where}.stats`);
  return message;
}

/** A chat out of anything; throws ImportError naming the field at fault. Unknown fields are dropped. */
export function readChat(v: unknown, where = 'the chat'): Chat {
  expect(isObject(v), where, 'is no object');
  expect(Array.isArray(v['messages']), `${where}.messages`, 'is no list');
  const known = new Set<string>();
  const messages = v['messages'].map((m: unknown, i) => readMessage(m, known, `${where}.messages[${i}]`));
  const chosen: Record<string, string> = {};
  for (const [parent, child] of Object.entries(isObject(v['chosen']) ? v['chosen'] : {})) {
    if (typeof child === 'string' && known.has(child) && (parent === '' || known.has(parent))) chosen[parent] = child;
  }
  const id = text(v['id'], `${where}.id`);
  expect(id !== '', `${where}.id`, 'is empty');
  return {
    id,
    title: text(v['title'], `${where}.title`),
    titled: v['titled'] === true,
    created: count(v['created'], `${where}.created`),
    updated: count(v['updated'], `${where}.updated`),
    system: text(v['system'] ?? '', `${where}.system`),
    sampling: readSampling(v['sampling'] ?? {}, `${where}.sampling`),
    messages,
    chosen,
  };
}

export function exportChats(chats: Chat[]): string {
  return JSON.stringify({ format: FORMAT, version: 1, chats }, null, 1);
}

/** The chats of an exported file; throws ImportError. */
export function importChats(json: string): Chat[] {
  let file: unknown;
  try {
    file = JSON.parse(json);
  } catch {
    throw new ImportError('This is no file of chats: it holds no JSON.');
  }
  expect(isObject(file) && file['format'] === FORMAT, 'the field "format"', `is not "${FORMAT}"`);
  expect(file['version'] === 1, 'the field "version"', 'is not 1; a newer page wrote it');
  expect(Array.isArray(file['chats']), 'the field "chats"', 'is no list');
  return file['chats'].map((chat: unknown, i) => readChat(chat, `chats[${i}]`));
}

/** A chat as Markdown, for people: the conversation on show. */
export function chatMarkdown(title: string, messages: Message[]): string {
  const parts = messages.map((m) => {
    const files = (m.files ?? []).map((f) => `*${f.name}*`).join(', ');
    return `## ${m.role === 'user' ? 'Question' : 'Answer'}\n\n${files ? `${files}\n\n` : ''}${m.text}`;
  });
  return `# ${title}\n\n${parts.join('\n\n')}\n`;
}
