import { expect, test } from 'vitest';
import { ApiError, readPiece, type ChatMessage, type Piece } from './api';
import { figures } from './stats';
import { requestMessages, run } from './run';
import { add, newChat } from './tree';
import type { Chat, Message } from './types';

function chatWith(question: string): { chat: Chat; answer: Message } {
  const chat = newChat('Be short.', { temperature: 0 });
  const q = add(chat, null, 'user', question);
  return { chat, answer: add(chat, q.id, 'assistant', '') };
}

/** A stream of pieces, each a given time after the one before. */
function script(clock: { ms: number }, pieces: [number, Piece][], seen: ChatMessage[][] = []) {
  return async function* (messages: ChatMessage[]): AsyncGenerator<Piece> {
    seen.push(messages);
    for (const [ms, piece] of pieces) {
      await Promise.resolve();
      clock.ms += ms;
      yield piece;
    }
  };
}

test('an answer is filled and measured', async () => {
  const { chat, answer } = chatWith('Hi');
  const clock = { ms: 1000 };
  const seen: ChatMessage[][] = [];
  const pieces: [number, Piece][] = [
    [5, { text: '', prompt_tokens: 20, tokens: 0 }],
    [45, { text: 'He', prompt_tokens: 20, tokens: 1 }],
    [10, { text: 'llo', prompt_tokens: 20, tokens: 2 }],
    [10, { text: '!', prompt_tokens: 20, tokens: 3 }],
  ];
  const live: (number | null)[] = [];
  const options = { now: () => clock.ms, onChange: () => live.push(answer.stats?.tokens_per_second ?? null) };
  await run(chat, answer, new AbortController().signal, { ...options, stream: script(clock, pieces, seen) });
  expect(seen).toEqual([
    [
      { role: 'system', content: 'Be short.' },
      { role: 'user', content: 'Hi' },
    ],
  ]);
  expect(answer.text).toBe('Hello!');
  expect(answer.finish).toBe('stop');
  expect(live.slice(0, 4)).toEqual([null, null, 100, 100]);
  expect(answer.stats).toMatchObject({ ttft_ms: 50, total_ms: 70, tokens: 3, tokens_per_second: 100, cached_tokens: null });

  const end: [number, Piece] = [1, { text: '', finish: 'length', cached_tokens: 16, tokens_per_second: 123, drafts: 4, drafts_accepted: 3 }];
  await run(chat, answer, new AbortController().signal, { ...options, stream: script(clock, [end]) });
  expect(answer.finish).toBe('length');
  expect(answer.stats).toMatchObject({ tokens_per_second: 123, cached_tokens: 16, drafts: 4, drafts_accepted: 3 });
});

test('stopping, failing and a key that is asked for', async () => {
  const abort = new AbortController();
  const stopped = chatWith('a');
  await run(stopped.chat, stopped.answer, abort.signal, {
    onChange: () => undefined,
    stream: async function* () {
      yield { text: 'so far' };
      abort.abort();
      throw new DOMException('aborted', 'AbortError');
    },
  });
  expect(stopped.answer).toMatchObject({ text: 'so far', finish: 'stopped' });
  expect(stopped.answer.error).toBeUndefined();

  const fails = (status: number) => ({
    onChange: () => undefined,
    stream: async function* (): AsyncGenerator<Piece> {
      throw new ApiError(status, 'The context is full.');
    },
  });
  const failed = chatWith('b');
  await run(failed.chat, failed.answer, new AbortController().signal, fails(400));
  expect(failed.answer).toMatchObject({ finish: 'error', error: 'The context is full.' });
  const denied = chatWith('c');
  await expect(run(denied.chat, denied.answer, new AbortController().signal, fails(401))).rejects.toThrow();
});

test('what the model is told: answers without text are left out', () => {
  const { chat, answer } = chatWith('one');
  const two = add(chat, answer.id, 'user', 'two', [{ name: 'f.txt', text: 'x' }]);
  chat.system = '  ';
  expect(requestMessages(chat, add(chat, two.id, 'assistant', ''))).toEqual([
    { role: 'user', content: 'one' },
    { role: 'user', content: 'File f.txt:\n```\nx\n```\n\ntwo' },
  ]);
});

test('chunks of the stream', () => {
  expect(readPiece('{"choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}')).toEqual({
    text: 'x',
    prompt_tokens: 3,
    tokens: 1,
  });
  const last = '{"choices":[{"delta":{},"finish_reason":"stop"}],"timings":{"cache_n":2,"predicted_per_second":9.5,"draft_n":0}}';
  expect(readPiece(last)).toEqual({ text: '', finish: 'stop', cached_tokens: 2, tokens_per_second: 9.5, drafts: 0 });
  expect(readPiece('{"choices":[],"usage":{"prompt_tokens_details":{"cached_tokens":64}}}')).toEqual({ text: '', cached_tokens: 64 });
  expect(() => readPiece('{"error":{"message":"the device failed"}}')).toThrow('The device failed.');
  expect(() => readPiece('nonsense')).toThrow(ApiError);
  for (const odd of ['null', '[]', '{"choices":7}', '{"choices":[null]}', '{"choices":[{"delta":{"content":5}}]}']) {
    expect(readPiece(odd)).toEqual({ text: '' });
  }
});

test('figures under an answer', () => {
  const { answer } = chatWith('x');
  expect(figures(answer)).toEqual([]);
  answer.stats = {
    ttft_ms: 84.2,
    total_ms: 900,
    tokens: 34,
    tokens_per_second: 253.2,
    prompt_tokens: 120,
    cached_tokens: 64,
    drafts: 20,
    drafts_accepted: 12,
  };
  expect(figures(answer).map((f) => f.text.replaceAll('\u202f', ' '))).toEqual([
    '253 tok/s',
    '84.2 ms to first token',
    '34 tokens',
    '64 of 120 prompt tokens cached',
    '12 of 20 drafts held',
  ]);
});
