// The server, as the page uses it. Addresses are relative, so that a page behind a proxy's folder finds its own server.
import { readEvents } from './sse';
import type { Sampling, ServerInfo } from './types';

const KEY = 'sluice-api-key';

/** The key that the reader gave: for this tab, or kept in this browser. */
export const apiKey = {
  get(): string {
    try {
      return sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? '';
    } catch {
      return '';
    }
  },
  set(key: string, keep: boolean): void {
    this.forget();
    (keep ? localStorage : sessionStorage).setItem(KEY, key);
  },
  forget(): void {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
  },
};

/** Anything that went wrong, as one sentence. */
export class ApiError extends Error {
  constructor(
    readonly status: number, // 0: the server was not reached
    message: string,
  ) {
    super(message);
  }
}

type Json = Record<string, unknown>;
const isObject = (v: unknown): v is Json => typeof v === 'object' && v !== null && !Array.isArray(v);
const object = (v: unknown): Json => (isObject(v) ? v : {});
const number = (v: unknown): number | null => (typeof v === 'number' && Number.isFinite(v) ? v : null);
const string = (v: unknown): string => (typeof v === 'string' ? v : '');

function sentence(text: string): string {
  const trimmed = text.trim();
  const first = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

function errorOf(status: number, body: unknown): ApiError {
  const message = string(object(object(body)['error'])['message']);
  return new ApiError(status, sentence(message || `the server answered with status ${status}`));
}

async function request(url: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  const key = apiKey.get();
  if (key) headers.set('Authorization', `Bearer ${key}`);
  let response: Response;
  try {
    response = await fetch(url, { ...init, headers });
  } catch (e) {
    if (e instanceof DOMException && e.name === 'AbortError') throw e;
    throw new ApiError(0, 'The server cannot be reached; is it still running?');
  }
  if (!response.ok) {
    throw errorOf(response.status, await response.json().catch(() => null));
  }
  return response;
}

const post = (body: Json, signal?: AbortSignal): RequestInit => ({
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify(body),
  ...(signal ? { signal } : {}),
});

/** /props: the model, the machine, and the model's own sampling values. */
export async function fetchServerInfo(): Promise<ServerInfo> {
  const props = object(await (await request('props')).json());
  const defaults = object(props['default_generation_settings']);
  const params = object(defaults['params']);
  const recommended: Sampling = {};
  const put = (key: keyof Sampling, value: unknown) => {
    const n = number(value);
    if (n !== null) recommended[key] = n;
  };
  for (const key of ['temperature', 'top_p', 'top_k', 'min_p', 'presence_penalty', 'frequency_penalty'] as const) {
    put(key, params[key]);
  }
  put('repetition_penalty', params['repeat_penalty']);
  return {
    model: string(props['model_alias']) || 'model',
    architecture: string(props['architecture']),
    quantization: string(props['quantization']),
    backend: string(props['backend']),
    device: string(props['device']),
    parameters: number(props['n_params']) ?? 0,
    context: number(defaults['n_ctx']) ?? 0,
    build: string(props['build_info']),
    fileBytes: number(props['file_bytes']) ?? 0,
    recommended,
  };
}

/** How many tokens a text has for this model. */
export async function countTokens(text: string): Promise<number> {
  const answer = object(await (await request('tokenize', post({ content: text }))).json());
  return Array.isArray(answer['tokens']) ? answer['tokens'].length : 0;
}

export interface ChatMessage {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

/** One step of an answer; what a step does not tell is absent. */
export interface Piece {
  text: string;
  finish?: 'stop' | 'length';
  prompt_tokens?: number;
  tokens?: number; // generated so far
  cached_tokens?: number;
  tokens_per_second?: number; // the server's own figure, at the end
  drafts?: number;
  drafts_accepted?: number;
}

/** Reads one chunk of the stream; an error inside it is thrown. */
export function readPiece(data: string): Piece {
  let chunk: Json;
  try {
    chunk = object(JSON.parse(data));
  } catch {
    throw new ApiError(0, 'The server sent something that is no answer.');
  }
  if (chunk['error'] !== undefined) throw errorOf(500, chunk);
  const choices = chunk['choices'];
  const choice = object(Array.isArray(choices) ? choices[0] : null);
  const piece: Piece = { text: string(object(choice['delta'])['content']) };
  if (choice['finish_reason'] === 'stop' || choice['finish_reason'] === 'length') piece.finish = choice['finish_reason'];
  const usage = object(chunk['usage']);
  const timings = object(chunk['timings']);
  const put = (key: Exclude<keyof Piece, 'text' | 'finish'>, value: unknown) => {
    const n = number(value);
    if (n !== null) piece[key] = n;
  };
  put('prompt_tokens', usage['prompt_tokens']);
  put('tokens', usage['completion_tokens']);
  put('cached_tokens', object(usage['prompt_tokens_details'])['cached_tokens'] ?? timings['cache_n']);
  put('tokens_per_second', timings['predicted_per_second']);
  put('drafts', timings['draft_n']);
  put('drafts_accepted', timings['draft_n_accepted']);
  return piece;
}

/** Streams an answer. Ends normally only when the server said that it is whole. */
export async function* streamChat(messages: ChatMessage[], sampling: Sampling, signal: AbortSignal): AsyncGenerator<Piece> {
  const response = await request(
    'v1/chat/completions',
    post({ messages, stream: true, stream_options: { include_usage: true, continuous_usage_stats: true }, ...sampling }, signal),
  );
  if (!response.body) throw new ApiError(response.status, 'The server answered nothing.');
  try {
    for await (const data of readEvents(response.body)) {
      if (data === '[DONE]') return;
      yield readPiece(data);
    }
  } catch (e) {
    if (e instanceof ApiError || (e instanceof DOMException && e.name === 'AbortError')) throw e;
    throw new ApiError(0, 'The connection to the server broke off.');
  }
  throw new ApiError(0, 'The connection to the server broke off.');
}
