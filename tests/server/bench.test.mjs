// `sluice bench` as a user runs it: its own server, probe and engine-only rows, a record that `sluice check` accepts.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { binary, modelPath, slow, startServer } from './harness.mjs';

const dir = mkdtempSync(path.join(tmpdir(), 'sluice-bench-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const sluice = (...args) => spawnSync(binary, args, { encoding: 'utf8', timeout: 240000 * slow });
const lines = (file) => readFileSync(file, 'utf8').trim().split('\n').map((l) => JSON.parse(l));
const of = (all, kind) => all.filter((l) => l.kind === kind);

function checked(file) {
  const check = sluice('check', file);
  assert.equal(check.status, 0, check.stdout + check.stderr);
  return lines(file);
}

test('one command: probe, engine-only rows, API rows, verified cold and warm', () => {
  const file = path.join(dir, 'own.jsonl');
  const run = sluice('bench', '--suite', 'quick', '-m', modelPath(), '--label', 'a label', '--json', file);
  assert.equal(run.status, 0, run.stderr);
  const all = checked(file);
  assert.equal(all[0].label, 'a label');
  assert.equal(all[0].target.engine, 'sluice');
  assert.equal(all[0].target.own_server, true);
  assert.match(all[0].model_file.sha256, /^[0-9a-f]{64}$/);
  assert.ok(all[0].model_file.n_params_active < all[0].model_file.n_params);
  assert.equal(all[0].target.url, null);
  assert.ok(of(all, 'probe')[0].items.some((i) => i.name === 'read' && i.max > 0));
  const rows = Object.fromEntries(of(all, 'row').map((r) => [r.row, r]));
  const left = of(all, 'end')[0].left_out; // on a busy machine the seconds do not do for all; then they are named
  const holds = (name, check) => (rows[name] ? check(rows[name]) : assert.ok(left.some((l) => l.row === name), `${name}: no row, not named`));
  holds('pp602', (row) => assert.ok(row.test === 'raw' && row.limit.share > 0));
  assert.equal(rows['agent/c1/cold'].cache_state, 'verified');
  assert.equal(rows['agent/c1/cold'].metrics.prompt_tokens.median, 602);
  holds('agent/c1/warm', (row) => assert.ok(row.cache_state === 'verified' && row.metrics.cached_tokens.median >= 301));
  assert.ok(rows['chat/c1/cold'].limit.share > 0);
  holds('agent/c4/cold', (row) => assert.ok(row.concurrency === 4 && run.stdout.includes('agent/c4/cold')));
  const sums = of(all, 'sample').filter((s) => s.row.includes('cold')).map((s) => s.prompt_sha256);
  assert.equal(new Set(sums).size, sums.length); // no two requests alike
});

test('against a running server, appended to a file, with natural stops', async () => {
  const server = await startServer(['--slots', '2', '--no-draft']);
  const file = path.join(dir, 'url.jsonl');
  for (let i = 0; i < 2; i++) {
    const run = spawn(binary, ['bench', '--url', server.url, '--suite', 'quick', '--natural-stop', '--json', file]);
    assert.equal(await new Promise((resolve) => run.on('exit', resolve)), 0);
  }
  await server.stop();
  const all = checked(file);
  assert.equal(of(all, 'run').length, 2);
  assert.equal(all[0].target.slots, 2);
  assert.equal(all[0].sampling.ignore_eos, null);
  assert.ok(of(all, 'row').every((r) => r.natural_stop && r.row.endsWith('/natural')));
  assert.equal(of(all, 'probe').length, 0); // what file that server runs is not known
});

test('an interrupted run keeps what it measured', async () => {
  const server = await startServer(['--slots', '4']);
  const file = path.join(dir, 'interrupted.jsonl');
  const run = spawn(binary, ['bench', '--url', server.url, '--suite', 'page', '--json', file]);
  const ended = new Promise((resolve) => run.on('exit', resolve));
  let seen = '';
  run.stdout.on('data', (d) => {
    if (!seen.includes('chat/c1/cold') && (seen += d).includes('chat/c1/cold')) run.kill('SIGINT');
  });
  assert.equal(await ended, 1);
  await server.stop();
  const all = checked(file);
  assert.equal(all.at(-1).kind, 'end');
  assert.equal(all.at(-1).interrupted, true);
  assert.ok(of(all, 'sample').length >= 7);
});

test('what cannot work is said in a sentence', () => {
  for (const [args, status, words] of [
    [['--url', 'http://127.0.0.1:1'], 1, /nothing answers at http:\/\/127\.0\.0\.1:1/],
    [['--suite', 'slow'], 2, /there is no suite "slow"/],
    [['--raw'], 2, /--raw needs --url and -m/],
    [['--slo-ttft', '5'], 2, /belong to --suite load/],
    [['-m', '/nonexistent.gguf'], 1, /nonexistent\.gguf/],
    [['--json', '/nonexistent/r.jsonl'], 1, /nonexistent/],
  ]) {
    const run = sluice('bench', ...args);
    assert.equal(run.status, status, run.stderr);
    assert.match(run.stderr, words);
  }
});
