import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { openSync } from 'node:fs';
import { test } from 'node:test';
import { binary, busySlots, get, post, randomModel, rawStream, slow, startServer, until, user } from './harness.mjs';

const run = (...args) =>
  spawnSync(binary, ['serve', ...args], {
    encoding: 'utf8',
    timeout: 20000 * slow,
    env: { ...process.env, SLUICE_API_KEY: '' },
  });

test('the start block says what takes which memory, stdout only where it listens', async () => {
  const s = await startServer([], { model: randomModel() });
  assert.match(s.stdout, /^listening on http:\/\/127\.0\.0\.1:\d+\n$/);
  await until(() => /^ +chat /m.test(s.stderr), 'the start block');
  for (const row of [
    /model .*lfm2moe, Q4_K_M/,
    /weights \+ .* KV \+ .* work; .* spare/,
    /backend +\w+:/,
    /slots +\d+ x \d+ tokens/,
  ]) {
    assert.match(s.stderr, row);
  }
  await post(s, '/v1/chat/completions', { messages: user('Hi'), max_tokens: 3, ignore_eos: true });
  await get(s, '/no"where\n');
  const { code } = await s.stop();
  assert.equal(code, 0);
  assert.match(
    s.stderr,
    /^POST \/v1\/chat\/completions 200, \d+ prompt tokens \(\d+ cached\), 3 generated, [\d.]+ ms$/m,
  );
  assert.match(s.stderr, /^GET "\/no.*" 404, [\d.]+ ms$/m);
  assert.doesNotMatch(s.stderr, /AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error/);
});

test('an idle server ends at once and cleanly on either signal', async () => {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    const s = await startServer([], { model: randomModel() });
    await get(s, '/health'); // leaves a kept-alive connection open
    const start = performance.now();
    s.child.kill(signal);
    assert.deepEqual(await s.exited, { code: 0, signal: null });
    assert.ok(performance.now() - start < 1500 * slow);
    assert.doesNotMatch(s.stderr, /AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error/);
  }
});

test('running answers are finished before the end, new ones are refused', async () => {
  const s = await startServer([], { model: randomModel() });
  const max_tokens = Math.ceil(600 / slow);
  const stream = rawStream(s, { messages: user('Hi'), max_tokens, ignore_eos: true });
  const plain = post(s, '/v1/chat/completions', { messages: user('Ho'), max_tokens, ignore_eos: true });
  await until(async () => (await busySlots(s)).length === 2, 'two running');
  s.child.kill('SIGTERM');
  await until(
    () =>
      get(s, '/health').then(
        (r) => r.status !== 200,
        () => true,
      ),
    'new connections refused',
    2000 * slow,
  );
  await stream.closed;
  assert.match(stream.text, /"finish_reason":"length".*\n\ndata: \[DONE\]\n\n$/s);
  assert.equal((await plain).json.usage.completion_tokens, max_tokens);
  assert.deepEqual(await s.exited, { code: 0, signal: null });
});

test('a second signal cuts answers off: their clients are told', async () => {
  const s = await startServer(['--backend', 'ref', '-t', '1', '--slots', '1'], { model: randomModel() });
  const endless = { messages: user('Hi'), max_tokens: 4000, ignore_eos: true };
  const stream = rawStream(s, endless);
  await until(() => stream.text.includes('"content":'), 'first token');
  const queued = post(s, '/v1/chat/completions', endless);
  await until(async () => (await get(s, '/metrics')).text.includes('requests_waiting 1'), 'queued');
  const start = performance.now();
  s.child.kill('SIGTERM');
  await until(() => s.stderr.includes('stopping: '), 'the message');
  s.child.kill('SIGTERM');
  assert.deepEqual(await s.exited, { code: 0, signal: null });
  assert.ok(performance.now() - start < 3000 * slow);
  await stream.closed;
  assert.match(stream.text, /data: \{"error":\{"message":"the server is shutting down"/);
  assert.equal((await queued).status, 503);
  assert.doesNotMatch(s.stderr, /AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error/);
});

test('a taken port is one sentence with what to do', async () => {
  const s = await startServer(['--quiet'], { model: randomModel() });
  const r = run('-m', randomModel(), '--port', String(s.port));
  assert.equal(r.status, 1);
  assert.match(r.stderr, new RegExp(`^sluice: port ${s.port} on 127.0.0.1 is taken.*--port.*\n$`));
  assert.equal(r.stdout, '');
  await s.stop();
});

test('a standard output that takes nothing is no reason to die', async () => {
  const args = ['serve', '-m', randomModel(), '--port', '0', '--quiet'];
  const child = spawn(binary, args, { stdio: ['ignore', openSync('/dev/full', 'w'), 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (d) => (stderr += d));
  const exited = new Promise((resolve) => child.on('exit', resolve));
  await until(() => /cannot write to standard output: No space.*; listening on http/.test(stderr), 'the complaint');
  assert.equal((await fetch(`${/http:\S+/.exec(stderr)[0]}/health`)).status, 200);
  child.kill('SIGTERM');
  assert.equal(await exited, 0);
});

test('bad options and files are said before anything is served', () => {
  for (const [args, status, text] of [
    [['--port', '70000'], 2, /65535/],
    [['--slots', '100000'], 2, /256/],
    [['--nonsense'], 2, /nonsense/],
    [['-m', '/nonexistent/model.gguf'], 1, /model\.gguf/],
    [['-m', '/dev/zero'], 1, /device/],
    [['-m', randomModel(), '--host', '192.0.2.1', '--port', '0'], 2, /192\.0\.2\.1/],
    [['-m', randomModel(), '--backend', 'quantum', '--port', '0'], 2, /quantum/],
  ]) {
    const r = run(...args);
    assert.equal(r.status, status, r.stderr);
    assert.match(r.stderr, text);
    assert.equal(r.stdout, '');
  }
  const help = run('--help');
  assert.equal(help.status, 0);
  assert.match(help.stdout, /sluice serve/);
});

test('with an API key, only its owners come in', async () => {
  for (const [args, env] of [
    [['--api-key', 'sesame'], {}],
    [[], { SLUICE_API_KEY: 'sesame' }],
  ]) {
    const s = await startServer(['--quiet', ...args], { model: randomModel(), env });
    const body = { messages: user('Hi'), max_tokens: 1 };
    for (const authorization of [
      undefined,
      '',
      'Bearer',
      'Bearer ',
      'Bearer x',
      'Bearer sesam',
      'Bearer sesamee',
      'Basic sesame',
      'sesame',
    ]) {
      const r = await post(s, '/v1/chat/completions', body, authorization === undefined ? {} : { authorization });
      assert.equal(r.status, 401, authorization);
      assert.equal(r.json.error.code, 'invalid_api_key');
    }
    assert.equal((await post(s, '/v1/chat/completions', body, { authorization: 'Bearer sesame' })).status, 200);
    assert.equal((await get(s, '/v1/models')).status, 401);
    assert.equal((await get(s, '/slots')).status, 401);
    assert.equal((await get(s, '/health')).status, 200);
    assert.equal((await fetch(`${s.url}/v1/models`, { method: 'OPTIONS' })).status, 204);
    await s.stop();
  }
});
