// `sluice ab` against servers whose speed is known by construction, and against the real one.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { binary, modelPath } from './harness.mjs';

const dir = mkdtempSync(path.join(tmpdir(), 'sluice-ab-'));
const servers = [];
after(() => {
  servers.forEach((s) => s.close());
  rmSync(dir, { recursive: true, force: true });
});

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// An OpenAI server that needs first_ms for the first token and token_ms for each further one. A token is a word.
async function fake({ first_ms = 10, token_ms = 5, cached = 0, fail = () => false } = {}) {
  const count = (messages) => messages.reduce((n, m) => n + m.content.split(/\s+/).filter(Boolean).length, 0) + 4;
  let streams = 0;
  const server = http.createServer(async (request, response) => {
    let text = '';
    for await (const part of request) text += part;
    const json = (value, status = 200) => {
      response.writeHead(status, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    if (request.url === '/v1/models') return json({ data: [{ id: 'fake', owned_by: 'fake' }] });
    if (request.url !== '/v1/chat/completions') return json({ error: { message: 'no such route' } }, 404);
    const body = JSON.parse(text);
    if (body.stream && fail(streams++)) return json({ error: { message: 'out of order' } }, 500);
    const usage = {
      prompt_tokens: count(body.messages),
      completion_tokens: body.max_tokens,
      total_tokens: count(body.messages) + body.max_tokens,
      prompt_tokens_details: { cached_tokens: Math.min(cached, count(body.messages) - 1) },
    };
    if (!body.stream) {
      return json({ choices: [{ message: { role: 'assistant', content: 'w' }, finish_reason: 'length' }], usage });
    }
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    const event = (value) => response.write(`data: ${JSON.stringify({ object: 'chat.completion.chunk', ...value })}\n\n`);
    const start = performance.now();
    for (let i = 0; i < body.max_tokens; i++) {
      await sleep(Math.max(0, start + first_ms + i * token_ms - performance.now()));
      event({ choices: [{ index: 0, delta: { content: 'w ' }, finish_reason: null }] });
    }
    event({ choices: [{ index: 0, delta: {}, finish_reason: 'length' }] });
    event({ choices: [], usage });
    response.end('data: [DONE]\n\n');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push(server);
  return `http://127.0.0.1:${server.address().port}`;
}

function ab(...args) {
  return new Promise((resolve) => {
    const child = spawn(binary, ['ab', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    const out = { stdout: '', stderr: '' };
    child.stdout.on('data', (d) => (out.stdout += d));
    child.stderr.on('data', (d) => (out.stderr += d));
    child.on('close', (code, signal) => resolve({ ...out, code, signal, child }));
    out.child = child;
  });
}

const lines = (text) => text.trim().split('\n').map((line) => JSON.parse(line));
const short = ['-n', '12', '-p', '60', '--workload', 'depth'];

test('a ratio that is built in comes out, with an interval around it', async () => {
  const a = await fake({ token_ms: 40, first_ms: 60 });
  const b = await fake({ token_ms: 20, first_ms: 30 });
  const file = path.join(dir, 'ab.jsonl');
  const { code, stdout, stderr } = await ab(a, b, '-n', '6', '-p', '60', '--workload', 'depth', '--blocks', '8', '--width', '20', '--json', file);
  assert.equal(code, 0, stderr);
  const record = lines(readFileSync(file, 'utf8'));
  const comparison = record.find((l) => l.kind === 'comparison' && l.metric === 'decode_tok_s');
  assert.ok(comparison.ratio > 1.5 && comparison.ratio < 2.6, `ratio ${comparison.ratio}`);
  assert.ok(comparison.interval[0] <= comparison.ratio && comparison.ratio <= comparison.interval[1]);
  assert.ok(comparison.interval[0] > 1);
  assert.equal(comparison.verdict, 'better');
  const ttft = record.find((l) => l.kind === 'comparison' && l.metric === 'ttft_ms');
  assert.ok(ttft.ratio < 1);
  assert.match(stdout, /decode_tok_s .* better/);
  // every request, in turns: A B B A, then B A A B
  const pairs = record.filter((l) => l.kind === 'pair' && l.metric === 'decode_tok_s');
  assert.ok(pairs.every((p) => p.valid && p.a.length === 2 && p.b.length === 2));
  assert.deepEqual([pairs[0].order, pairs[1].order], ['ABBA', 'BAAB']);
  const order = record.filter((l) => l.kind === 'sample').map((s) => s.target);
  assert.deepEqual(order.slice(0, 8), [0, 1, 1, 0, 1, 0, 0, 1]);
  const sums = new Set(record.filter((l) => l.kind === 'sample').map((s) => s.prompt_sha256));
  assert.equal(sums.size, order.length, 'two requests had the same prompt');
  const checked = await new Promise((resolve) => {
    const child = spawn(binary, ['check', file]);
    child.on('close', resolve);
  });
  assert.equal(checked, 0);
});

test('prompts that come from a cache make no comparison', async () => {
  const a = await fake();
  const b = await fake({ cached: 40 });
  const { code, stderr } = await ab(a, b, ...short, '--blocks', '6');
  assert.equal(code, 1);
  assert.match(stderr, /B took 40 tokens of a new prompt from a cache/);
});

test('blocks with a failed request do not count', async () => {
  const a = await fake({ token_ms: 2, first_ms: 4 });
  const b = await fake({ token_ms: 2, first_ms: 4, fail: (n) => n === 6 });
  const { code, stdout, stderr } = await ab(a, b, ...short, '--blocks', '7', '--width', '0.001', '--json', '-');
  assert.equal(code, 0, stderr);
  const record = lines(stdout);
  const invalid = record.filter((l) => l.kind === 'pair' && l.metric === 'decode_tok_s' && !l.valid);
  assert.equal(invalid.length, 1);
  assert.match(invalid[0].reason, /B: .*HTTP 500.*out of order/);
  const comparison = record.find((l) => l.kind === 'comparison');
  assert.equal(comparison.blocks, 7);
  assert.match(comparison.reasons.join(), /1 of 8 blocks were invalid/);
});

test('command lines, one at a time; what does not start says why', async () => {
  const serve = `'${binary}' serve -m '${modelPath()}' --port {port} -t 1 --quiet --api-key s3cret`;
  const file = path.join(dir, 'commands.jsonl');
  const args = ['-n', '8', '--blocks', '6', '--seconds', '1', '--one-at-a-time', '--json', file, '--api-key', 's3cret', '--label', 'A/A 1'];
  const { code, stdout, stderr } = await ab(serve, serve, ...args);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /only one target was up at a time/);
  assert.match(stdout, /starting A again took [\d.]+ s/);
  const run = lines(readFileSync(file, 'utf8'))[0];
  assert.equal(run.targets.length, 2);
  assert.equal(run.targets[0].url, null);
  assert.equal(readFileSync(file, 'utf8').includes('s3cret'), false, 'a key stands in the record');
  assert.match(run.command, /--api-key \*\*\*' .*--label 'A\/A 1'/);
  const bad = await ab(`sh -c 'echo no such model >&2; exit 3'`, serve);
  assert.equal(bad.code, 1);
  assert.match(bad.stderr, /did not start: no such model/);
  const usage = await ab('http://127.0.0.1:1');
  assert.equal(usage.code, 2);
});

test('an interruption keeps the blocks that were measured', async () => {
  const [a, b] = [await fake({ token_ms: 1 }), await fake({ token_ms: 1 })];
  const file = path.join(dir, 'cut.jsonl');
  const child = spawn(binary, ['ab', a, b, ...short, '--blocks', '100', '--width', '0.001', '--json', file]);
  const done = new Promise((resolve) => child.on('close', (code) => resolve(code)));
  let out = '';
  let sent = false; // a second signal would end it at once
  child.stdout.on('data', (d) => {
    out += d;
    if (/\n +2 +BAAB/.test(out) && !sent) sent = child.kill('SIGINT');
  });
  assert.equal(await done, 0);
  const record = lines(readFileSync(file, 'utf8'));
  assert.equal(record.find((l) => l.kind === 'comparison').stopped, 'interrupted');
  assert.equal(record.at(-1).kind, 'end');
  assert.equal(record.at(-1).interrupted, true);
});
