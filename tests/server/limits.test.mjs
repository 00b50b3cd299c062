// Deadlines, and the options that are about time and what it went into.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import {
  binary,
  busySlots,
  metric,
  modelPath,
  post,
  randomModel,
  rawStream,
  slow,
  startServer,
  until,
  user,
} from './harness.mjs';

// A slow backend and one slot: nothing here ends before its deadline.
let server, dir;
before(async () => {
  dir = mkdtempSync(path.join(tmpdir(), 'sluice-limits-'));
  server = await startServer(['--quiet', '--backend', 'ref', '-t', '1', '--slots', '1', '--timeout', '2'], {
    model: randomModel(),
  });
});
after(async () => {
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

const endless = { messages: user('Hi'), max_tokens: 30000, ignore_eos: true };
const idle = async () => (await busySlots(server)).length === 0;

function isTimeout(error, ms) {
  assert.deepEqual([error.type, error.code, error.param], ['timeout', 'timeout', null]);
  assert.match(error.message, new RegExp(`\\b${ms} ms\\b`));
}

test('a request that passes its own time limit is answered 504', async () => {
  const failed = await metric(server, 'requests_failed_total');
  const start = performance.now();
  const r = await post(server, '/v1/chat/completions', { ...endless, timeout_ms: 150 });
  assert.ok(performance.now() - start < 1000 * slow);
  assert.equal(r.status, 504, r.text);
  isTimeout(r.json.error, 150);
  await until(idle, 'the slot is free');
  assert.equal(await metric(server, 'requests_failed_total'), failed + 1);
  await assert.rejects(
    server.client.chat.completions.create({ model: 'any', ...endless, timeout_ms: 50 }),
    (e) => e.status === 504 && e.type === 'timeout',
  );
});

test('in a stream it is the last event, after what came before', async () => {
  const s = rawStream(server, { ...endless, timeout_ms: 1500 });
  await s.closed;
  assert.equal(s.status, 200);
  const events = s.text.trimEnd().split('\n\n');
  assert.ok(events.length > 2, 'tokens came');
  isTimeout(JSON.parse(events.at(-1).slice('data: '.length)).error, 1500);
  assert.doesNotMatch(s.text, /\[DONE\]/);
  await until(idle, 'the slot is free');
});

test("the server's limit bounds every request, whatever it asks for, waiting included", async () => {
  const [first, second] = await Promise.all([
    post(server, '/v1/chat/completions', endless),
    post(server, '/v1/chat/completions', { ...endless, timeout_ms: 60000 }),
  ]);
  for (const r of [first, second]) {
    assert.equal(r.status, 504, r.text);
    isTimeout(r.json.error, 2000);
  }
  const r = await post(server, '/v1/chat/completions', { messages: user('Hi'), max_tokens: 1, timeout_ms: 60000 });
  assert.equal(r.status, 200, 'what ends in time is not touched');
});

test('fields whose promise is not kept are refused', async () => {
  for (const [field, value] of [
    ['t_max_predict_ms', 100],
    ['speculative.n_max', 8],
    ['timeout_ms', 0],
    ['cache_prompt', 'no'],
  ]) {
    const r = await post(server, '/v1/chat/completions', { ...endless, [field]: value });
    assert.equal(r.status, 400);
    assert.equal(r.json.error.param, field);
  }
});

const readTrace = (file) => JSON.parse(readFileSync(file, 'utf8'));

test('--trace writes what every step held', async () => {
  const file = path.join(dir, 'serve.json');
  const s = await startServer(['--trace', file], { model: randomModel() });
  await post(s, '/v1/chat/completions', { messages: user('Hi'), max_tokens: 5, ignore_eos: true });
  await s.stop();
  const events = readTrace(file);
  const requests = events.filter((e) => e.cat === 'request');
  assert.deepEqual([requests[0].ph, requests.at(-1).ph], ['b', 'e']);
  assert.ok(new Set(requests.map((e) => e.id)).size === 1);
  const spans = events.filter((e) => e.ph === 'X');
  assert.ok(spans.length >= 5 && spans.every((e) => e.ts >= 0 && e.dur >= 0));
  assert.ok(events.some((e) => e.ph === 'C'));
});

test('run traces too, and --no-draft changes nothing', () => {
  const file = path.join(dir, 'run.json');
  const run = (...args) =>
    spawnSync(binary, ['run', '-m', modelPath(), '-q', '--temp', '0', '-n', '30', ...args, 'What is 17 + 25?'], {
      encoding: 'utf8',
    });
  const plain = run('--trace', file);
  assert.equal(plain.status, 0, plain.stderr);
  assert.match(plain.stdout, /42/);
  assert.ok(readTrace(file).length > 5);
  assert.equal(run('--no-draft').stdout, plain.stdout);
});

test('options that cannot be are said before anything is served', () => {
  for (const [args, status, message] of [
    [['--no-draft', '--draft-max', '8'], 2, /exclude/],
    [['--draft-max', '64'], 2, /63/],
    [['--timeout', '5000000'], 2, /4294967/],
    [['--cache-mem', 'much'], 2, /size/],
    [['--cache-mem', '0', '--cache-file', path.join(dir, 'x')], 2, /nothing to save/],
    [['--cache-file', path.join(dir, 'none/x')], 1, /No such file/],
    [['--trace', path.join(dir, 'none/x')], 1, /No such file/],
  ]) {
    const r = spawnSync(binary, ['serve', '-m', randomModel(), '--port', '0', ...args], {
      encoding: 'utf8',
      timeout: 20000 * slow,
    });
    assert.equal(r.status, status, `${args}: ${r.stderr}`);
    assert.match(r.stderr, message);
    assert.equal(r.stdout, '');
  }
});
