import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, test } from 'node:test';
import {
  busySlots,
  get,
  greedy,
  metric,
  post,
  randomModel,
  rawStream,
  sleep,
  slow,
  startServer,
  until,
  user,
} from './harness.mjs';

let server;
before(
  async () =>
    (server = await startServer(['--quiet', '--slots', '4', '--ctx', '1024', '--queue', '64'], {
      model: randomModel(),
    })),
);
after(() => server.stop());

test('32 clients at once each get their own answer', async () => {
  const ask = (i, stream) =>
    server.client.chat.completions.create({
      model: 'x',
      messages: user(`Number ${i} of many`),
      max_tokens: 10 + (i % 7),
      ignore_eos: true,
      ...greedy,
      stream,
    });
  const alone = [];
  for (let i = 0; i < 32; i++) alone.push((await ask(i, false)).choices[0].message.content);
  const together = await Promise.all(
    Array.from({ length: 32 }, async (_, i) => {
      if (i % 2) return (await ask(i, false)).choices[0].message.content;
      let text = '';
      for await (const c of await ask(i, true)) text += c.choices[0]?.delta.content ?? '';
      return text;
    }),
  );
  assert.deepEqual(together, alone);
  assert.equal((await busySlots(server)).length, 0);
});

test('/health answers while everything is busy', async () => {
  const streams = Array.from({ length: 12 }, (_, i) =>
    rawStream(server, { messages: user(`w${i} `.repeat(150)), max_tokens: 300, ignore_eos: true }),
  );
  await until(async () => (await busySlots(server)).length === 4, 'four busy slots');
  for (let i = 0; i < 20; i++) {
    const start = performance.now();
    assert.equal((await get(server, '/health')).status, 200);
    assert.ok(performance.now() - start < 250 * slow);
  }
  streams.forEach((s) => s.req.destroy());
  await until(async () => (await busySlots(server)).length === 0, 'no busy slot');
});

test('a client that reads nothing holds nobody up', async () => {
  const body = JSON.stringify({
    messages: user('Hi'),
    max_tokens: 900,
    ignore_eos: true,
    logprobs: true,
    top_logprobs: 20,
    stream: true,
  });
  const s = net.connect({ port: server.port, host: '127.0.0.1', highWaterMark: 1 }, () =>
    s.write(`POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`),
  );
  s.pause();
  await until(
    async () => (await busySlots(server)).length === 0 && (await metric(server, 'requests_waiting')) === 0,
    'the answer is through',
  );
  const r = await post(server, '/v1/chat/completions', { messages: user('Hi'), max_tokens: 2 });
  assert.equal(r.status, 200);
  s.destroy();
});

test('many connections that come and go leave nothing behind', async () => {
  for (let round = 0; round < 5; round++) {
    const streams = Array.from({ length: 40 }, (_, i) =>
      rawStream(server, { messages: user(`r${round}c${i}`), max_tokens: 500, ignore_eos: true }),
    );
    await sleep(5 * round);
    streams.forEach((s) => s.req.destroy());
    await Promise.all(streams.map((s) => s.closed));
  }
  await until(
    async () => (await busySlots(server)).length === 0 && (await metric(server, 'requests_waiting')) === 0,
    'all gone',
  );
  const r = await post(server, '/v1/chat/completions', { messages: user('Hi'), max_tokens: 2 });
  assert.equal(r.status, 200);
});

// One slot and a slow backend: there is time to leave while queued, in prefill or in the answer.
async function slowServer(run, ...args) {
  const s = await startServer(
    ['--quiet', '--slots', '1', '--ctx', '4096', '--backend', 'ref', '-t', '1', '--prefill-chunk', '8', ...args],
    { model: randomModel() },
  );
  try {
    await run(s);
  } finally {
    await s.stop();
  }
}

const long = { messages: user('many words of a long prompt '.repeat(120)), max_tokens: 5 };
const endless = { messages: user('Hi'), max_tokens: 4000, ignore_eos: true };
const idle = async (s) => (await busySlots(s)).length === 0;

test('a client that leaves is gone from the engine within 100 ms', () =>
  slowServer(async (s) => {
    for (const stream of [true, false]) {
      // while the answer is written
      const answering = rawStream(s, { ...endless, stream });
      await until(async () => (await busySlots(s))[0]?.next_token.n_decoded > 2, 'tokens');
      answering.req.destroy();
      assert.ok((await until(() => idle(s), 'slot free after the answer was cut')) < 100 * slow);

      // in prefill
      const reading = rawStream(s, { ...long, stream });
      await until(async () => (await busySlots(s))[0]?.n_prompt_tokens_processed > 0, 'prefill');
      const slot = (await busySlots(s))[0];
      assert.ok(
        slot.n_prompt_tokens_processed < slot.n_prompt_tokens,
        'the prompt is long enough to be cut in prefill',
      );
      reading.req.destroy();
      assert.ok((await until(() => idle(s), 'slot free after prefill was cut')) < 100 * slow);

      // while queued
      const holder = rawStream(s, { ...endless, stream });
      await until(async () => !(await idle(s)), 'busy');
      const queued = rawStream(s, { ...long, stream });
      await until(async () => (await metric(s, 'requests_waiting')) === 1, 'queued');
      queued.req.destroy();
      assert.ok((await until(async () => (await metric(s, 'requests_waiting')) === 0, 'queue empty')) < 100 * slow);
      assert.equal(await idle(s), false, 'the other request goes on');
      holder.req.destroy();
      await until(() => idle(s), 'slot free');
    }
  }));

test('a full queue is said with 503 and Retry-After', () =>
  slowServer(
    async (s) => {
      const holders = [rawStream(s, endless)];
      await until(async () => !(await idle(s)), 'busy');
      holders.push(rawStream(s, endless));
      await until(async () => (await metric(s, 'requests_waiting')) === 1, 'queued');
      const r = await post(s, '/v1/chat/completions', { messages: user('Hi') });
      assert.equal(r.status, 503);
      assert.equal(r.json.error.code, 'queue_full');
      assert.ok(Number(r.headers.get('retry-after')) > 0);
      // several answers in one request are queued together or not at all
      const many = await post(s, '/v1/chat/completions', { messages: user('Hi'), n: 4 });
      assert.equal(many.status, 503);
      assert.equal(await metric(s, 'requests_waiting'), 1);
      holders.forEach((h) => h.req.destroy());
      await until(() => idle(s), 'slot free');
      assert.equal((await post(s, '/v1/chat/completions', { messages: user('Hi'), max_tokens: 1 })).status, 200);
    },
    '--queue',
    '1',
  ));

test('connections beyond the limit are told so', async () => {
  const s = await startServer(['--quiet', '--connections', '8'], { model: randomModel() });
  const open = () =>
    new Promise((resolve, reject) => {
      const c = net.connect(s.port, '127.0.0.1', () => resolve(c));
      c.on('error', reject);
    });
  try {
    const held = await Promise.all(Array.from({ length: 8 }, open));
    for (const c of held) c.write('GET /health HTTP/1.1\r\nHost: x\r\n\r\n'); // answered and kept alive
    await Promise.all(held.map((c) => new Promise((resolve) => c.once('data', resolve))));
    const r = await get(s, '/health');
    assert.equal(r.status, 503);
    assert.equal(JSON.parse(r.text).error.code, 'too_many_connections');
    held.forEach((c) => c.destroy());
    await until(async () => (await get(s, '/health')).status === 200, 'room again');
  } finally {
    await s.stop();
  }
});
