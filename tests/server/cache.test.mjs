// What is kept between requests, and between runs.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { collect, get, greedy, metric, modelPath, post, randomModel, startServer, until, user } from './harness.mjs';

const page = 64; // tokens
let server, dir;
before(async () => {
  dir = mkdtempSync(path.join(tmpdir(), 'sluice-cache-'));
  server = await startServer(['--quiet', '--ctx', '2048', '--slots', '4'], { env: { XDG_CACHE_HOME: dir } });
});
after(async () => {
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

const ask = (body, s = server) =>
  s.client.chat.completions.create({ model: 'any', max_tokens: 24, ...greedy, ...body });
const cached = (r) => r.usage.prompt_tokens_details.cached_tokens;
const text = (r) => r.choices[0].message.content;
// Every test has a beginning of its own, so that none finds what another left.
const story = (name, words = 300) => [
  { role: 'system', content: `${name}. ${'You are a careful clerk who answers briefly. '.repeat(words / 10)}` },
  ...user('What is the capital of France?'),
];

async function ids(s, messages) {
  const { prompt } = (await post(s, '/apply-template', { messages })).json;
  return (await post(s, '/tokenize', { content: prompt, with_pieces: false })).json.tokens;
}

test('the same prompt again is taken from whole pages; the last token is always computed', async () => {
  const messages = story('Again');
  const first = await ask({ messages });
  assert.equal(cached(first), 0);
  const n = first.usage.prompt_tokens;
  assert.ok(n > 4 * page);
  const again = await ask({ messages });
  assert.equal(cached(again), Math.floor((n - 1) / page) * page);
  assert.equal(again.timings.cache_n, cached(again));
  assert.equal(again.timings.prompt_n, n - cached(again));
  assert.equal(text(again), text(first));
  const chunks = await collect(await ask({ messages, stream: true, stream_options: { include_usage: true } }));
  assert.equal(chunks.at(-1).usage.prompt_tokens_details.cached_tokens, cached(again));
});

test('prompts of every length about a page are taken as far as whole pages go', async () => {
  const tokens = Array.from({ length: 3 * page }, (_, i) => 300 + ((i * 7) % 500));
  const complete = (n, body) => post(server, '/v1/completions', { prompt: tokens.slice(0, n), max_tokens: 1, ...body });
  await complete(3 * page);
  for (const n of [1, page - 1, page, page + 1, 2 * page - 1, 2 * page, 2 * page + 1, 3 * page]) {
    const r = (await complete(n)).json;
    assert.equal(cached(r), Math.floor((n - 1) / page) * page, `${n} tokens`);
  }
});

test('the next turn of a chat computes what is new, and of the rest less than a page', async () => {
  const messages = story('Turns');
  const first = await ask({ messages });
  messages.push(first.choices[0].message, ...user('And of Italy? Answer in one word.'));
  const before = await metric(server, 'prompt_tokens_total');
  const second = await ask({ messages });
  const known = first.usage.prompt_tokens + first.usage.completion_tokens;
  const fresh = second.usage.prompt_tokens - known;
  assert.ok(fresh > 0 && fresh < 40, `${fresh} new tokens`);
  assert.ok(second.timings.prompt_n <= fresh + page, `${second.timings.prompt_n} computed, ${fresh} new`);
  assert.ok(cached(second) % page === 0 && cached(second) > known - page - 2);
  assert.equal((await metric(server, 'prompt_tokens_total')) - before, second.timings.prompt_n);
  // an edited history is used up to the page of the edit
  const edited = structuredClone(messages);
  edited[1].content = 'What is the capital of Spain?';
  const [a, b] = await Promise.all([ids(server, messages), ids(server, edited)]);
  const same = a.findIndex((id, i) => id !== b[i]);
  assert.equal(cached(await ask({ messages: edited })), Math.floor(same / page) * page);
});

test('cache_prompt false takes nothing and leaves nothing, and the answer is the same', async () => {
  const messages = story('Private');
  const off = await ask({ messages, cache_prompt: false });
  assert.equal(cached(off), 0);
  assert.equal(cached(await ask({ messages, cache_prompt: false })), 0);
  const on = await ask({ messages, cache_prompt: true });
  assert.equal(cached(on), 0, 'nothing was left');
  assert.equal(text(on), text(off));
  const again = await ask({ messages });
  assert.ok(cached(again) > 0);
  assert.equal(cached(await ask({ messages, cache_prompt: false })), 0);
});

test('several answers to one prompt compute it once', async () => {
  const messages = story('Several');
  const body = { messages, n: 4, temperature: 1.5, seed: 3, ignore_eos: true };
  const r = await ask(body);
  const n = r.usage.prompt_tokens;
  assert.equal(cached(r), 0);
  assert.equal(r.timings.prompt_n + r.timings.cache_n, 4 * n);
  assert.ok(r.timings.prompt_n <= n + 3 * page, `${r.timings.prompt_n} computed for ${n} tokens`);
  const again = await ask(body);
  assert.equal(cached(again), Math.floor((n - 1) / page) * page);
  assert.deepEqual(
    again.choices.map((c) => c.message.content),
    r.choices.map((c) => c.message.content),
  );
});

test('drafts change no answer and can be switched off', async () => {
  const list = Array.from({ length: 30 }, (_, i) => `item ${i}: apples, pears and plums`).join('\n');
  const body = { messages: user(`Repeat this list:\n${list}`), max_tokens: 120, ignore_eos: true, cache_prompt: false };
  const free = await ask(body);
  const off = await ask({ ...body, 'speculative.n_max': 0 });
  assert.equal(text(off), text(free));
  assert.deepEqual([off.timings.draft_n, off.timings.draft_n_accepted], [0, 0]);
  assert.ok(free.timings.draft_n_accepted <= free.timings.draft_n);
  const none = await startServer(['--quiet', '--no-draft']);
  const r = await ask(body, none);
  assert.equal(text(r), text(free));
  assert.equal(r.timings.draft_n, 0);
  assert.equal(JSON.parse((await get(none, '/props')).text).draft_max, 0);
  await none.stop();
});

test('metrics are Prometheus text, each with its help and type', async () => {
  const lines = (await get(server, '/metrics')).text.trimEnd().split('\n');
  const values = {};
  for (let i = 0; i < lines.length; i += 3) {
    const [, name] = /^# HELP (sluice_\w+) [A-Z].+$/.exec(lines[i]);
    const [, type] = new RegExp(`^# TYPE ${name} (counter|gauge)$`).exec(lines[i + 1]);
    assert.equal(name.endsWith('_total'), type === 'counter', name);
    values[name.slice(7)] = Number(new RegExp(`^${name} (\\d[\\d.e+-]*)$`).exec(lines[i + 2])[1]);
  }
  for (const name of ['requests_preempted_total', 'recomputed_tokens_total', 'draft_tokens_total']) {
    assert.ok(values[name] >= 0, name);
  }
  assert.ok(values.prompt_tokens_cached_total > 0 && values.draft_tokens_accepted_total >= 0);
  assert.ok(values.kv_pages_cached > 0);
  assert.equal(values.kv_pages_cached + values.kv_pages_free, values.kv_pages, 'idle: nothing is in use');
});

test('/props knows the model by fingerprint, and by SHA-256 once that is computed', async () => {
  const props = async () => JSON.parse((await get(server, '/props')).text);
  const p = await props();
  assert.match(p.model_fingerprint, /^[0-9a-f]{64}$/);
  assert.equal(p.page_tokens, page);
  await until(async () => (await props()).model_sha256, 'the SHA-256');
  assert.equal((await props()).model_sha256, createHash('sha256').update(readFileSync(modelPath())).digest('hex'));
});

test('with --cache-mem 0 nothing is kept, with little only a little', async () => {
  const messages = story('Little');
  for (const [size, most] of [
    ['0', 0],
    ['1', 0],
    ['2M', 2 << 20],
  ]) {
    const s = await startServer(['--cache-mem', size, '--ctx', '2048']);
    await ask({ messages }, s);
    const r = await ask({ messages }, s);
    const { page_bytes } = JSON.parse((await get(s, '/props')).text);
    assert.ok((await metric(s, 'kv_pages_cached')) * page_bytes <= most, size);
    if (most === 0) assert.equal(cached(r), 0);
    await until(() => /^ +cache +\d+ pages of 64 tokens, [\d.]+ [KM]iB each; /m.test(s.stderr), 'the start block');
    await s.stop();
  }
});

// ---- From run to run

const started = (file, { model = modelPath(), args = [] } = {}) =>
  startServer(['--cache-file', file, '--ctx', '2048', ...args], { model });
async function ended(s) {
  s.child.kill('SIGTERM');
  assert.deepEqual(await s.exited, { code: 0, signal: null }, s.stderr);
}

test('a restarted server goes on with the cache of the last one', async () => {
  const file = path.join(dir, 'restart.cache');
  const messages = story('Restart');
  let s = await started(file);
  const first = await ask({ messages }, s);
  await ended(s);
  assert.doesNotMatch(s.stderr, /^sluice: |restored/m, 'a missing file is the first start');
  const [, pages] = /^saved the cache: (\d+) pages, \d+ tokens to .*restart\.cache \([\d.]+ [KM]iB\)$/m.exec(s.stderr);
  assert.ok(Number(pages) >= Math.floor(first.usage.prompt_tokens / page));

  for (let run = 0; run < 2; run++) {
    s = await started(file);
    assert.match(s.stderr, new RegExp(`^ +restored +\\d+ pages, \\d+ tokens from .*restart\\.cache \\(`, 'm'));
    const r = await ask({ messages }, s);
    assert.equal(cached(r), Math.floor((r.usage.prompt_tokens - 1) / page) * page);
    assert.equal(text(r), text(first));
    await ended(s);
  }
});

test('a damaged or foreign cache file is refused, set aside and said; the server serves', async () => {
  const good = path.join(dir, 'good.cache');
  const messages = story('Damaged');
  let s = await started(good);
  const first = await ask({ messages }, s);
  await ended(s);
  const bytes = readFileSync(good);
  const damaged = Buffer.from(bytes);
  damaged[Math.floor(damaged.length * 0.6)] ^= 1;
  for (const [what, content, model] of [
    ['a flipped bit', damaged],
    ['a cut', bytes.subarray(0, bytes.length - 1000)],
    ['something else', Buffer.from('hello')],
    ['nothing', Buffer.alloc(0)],
    ["another model's", bytes, randomModel()],
  ]) {
    const file = path.join(dir, 'bad.cache');
    rmSync(`${file}.refused`, { force: true });
    writeFileSync(file, content);
    s = await started(file, { model, args: ['--quiet'] });
    const said = s.stderr.match(/^sluice: .*bad\.cache.*$/gm) ?? [];
    assert.equal(said.length, 1, `${what}: ${s.stderr}`);
    assert.deepEqual(readFileSync(`${file}.refused`), content, what);
    const r = await ask({ messages }, s);
    if (!model) {
      assert.equal(cached(r), 0, what);
      assert.equal(text(r), text(first));
    }
    await ended(s);
    assert.ok(existsSync(file), 'saved anew');
  }
  const copy = path.join(dir, 'copy.cache');
  copyFileSync(good, copy);
  s = await started(copy);
  assert.ok(cached(await ask({ messages }, s)) > 0, 'the good one still is');
  await ended(s);
});
