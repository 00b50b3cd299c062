// One answer being written: asks the server, fills the message, measures.
import { ApiError, type ChatMessage, type Piece } from './api';
import { before, promptText } from './tree';
import type { Chat, Message, Sampling, Stats } from './types';

/** The conversation as the API takes it, up to and without `answer`. Answers that say nothing are left out. */
export function requestMessages(chat: Chat, answer: Message): ChatMessage[] {
  const messages: ChatMessage[] = chat.system.trim() ? [{ role: 'system', content: chat.system }] : [];
  for (const m of before(chat, answer)) {
    const content = promptText(m);
    if (content || m.role === 'user') messages.push({ role: m.role, content });
  }
  return messages;
}

/** Measures an answer from its pieces; times in milliseconds of any one clock. */
export class Meter {
  readonly stats: Stats = {
    ttft_ms: 0,
    total_ms: 0,
    tokens: 0,
    tokens_per_second: null,
    prompt_tokens: null,
    cached_tokens: null,
    drafts: 0,
    drafts_accepted: 0,
  };
  private first: { at: number; tokens: number } | null = null;

  constructor(private readonly start: number) {}

  take(piece: Piece, now: number): void {
    const s = this.stats;
    s.total_ms = now - this.start;
    s.tokens = piece.tokens ?? s.tokens;
    s.prompt_tokens = piece.prompt_tokens ?? s.prompt_tokens;
    s.cached_tokens = piece.cached_tokens ?? s.cached_tokens;
    s.drafts = piece.drafts ?? s.drafts;
    s.drafts_accepted = piece.drafts_accepted ?? s.drafts_accepted;
    if (!this.first && piece.text) {
      this.first = { at: now, tokens: s.tokens };
      s.ttft_ms = now - this.start;
    } else if (this.first && piece.text && s.tokens > this.first.tokens && now > this.first.at) {
      s.tokens_per_second = ((s.tokens - this.first.tokens) * 1000) / (now - this.first.at);
    }
    s.tokens_per_second = piece.tokens_per_second ?? s.tokens_per_second;
  }
}

export interface RunOptions {
  stream: (messages: ChatMessage[], sampling: Sampling, signal: AbortSignal) => AsyncIterable<Piece>;
  now?: () => number;
  onChange: () => void; // the message has grown
}

/** Fills `answer`, whose finish (and error) tell how it ended. Rejects only with a 401, so that the reader can be asked. */
export async function run(chat: Chat, answer: Message, signal: AbortSignal, options: RunOptions): Promise<void> {
  const now = options.now ?? (() => performance.now());
  const meter = new Meter(now());
  answer.stats = meter.stats;
  try {
    for await (const piece of options.stream(requestMessages(chat, answer), chat.sampling, signal)) {
      meter.take(piece, now());
      answer.text += piece.text;
      if (piece.finish) answer.finish = piece.finish;
      options.onChange();
    }
    answer.finish ??= 'stop';
  } catch (e) {
    if (signal.aborted) {
      answer.finish = 'stopped';
    } else {
      answer.finish = 'error';
      answer.error = e instanceof ApiError ? e.message : 'Something went wrong on this page.';
      if (e instanceof ApiError && e.status === 401) throw e;
    }
  } finally {
    options.onChange();
  }
}
