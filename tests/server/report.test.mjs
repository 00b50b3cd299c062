// `sluice report`: what the command promises. The pages themselves are opened in tests/web, their data in tests/unit.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { binary } from './harness.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const valid = path.join(root, 'tests/unit/data/record.jsonl');
const legacy = path.join(root, 'bench/results/legacy-lfm2-8b-a1b-page.jsonl');
const base = mkdtempSync(path.join(tmpdir(), 'sluice-report-'));
after(() => rmSync(base, { recursive: true, force: true }));

let dir = base;
beforeEach(() => {
  dir = mkdtempSync(path.join(base, 'test-'));
});

const report = (args, options = {}) =>
  spawnSync(binary, ['report', ...args], { cwd: dir, encoding: 'utf8', maxBuffer: 1 << 26, ...options });

test('says what was written and where to open it', () => {
  const r = report(['site', valid, legacy]);
  assert.equal(r.status, 0, r.stderr);
  assert.equal(r.stderr, '');
  assert.match(r.stdout, /^\d+ rows of 7 runs from 2 records: \d+ pages, /);
  const [, url] = /^open (file:\/\/\S+)$/m.exec(r.stdout);
  assert.ok(existsSync(fileURLToPath(url)));
  assert.deepEqual(readdirSync(dir), ['site']);
  for (const name of readdirSync(path.join(dir, 'site/records'))) {
    assert.ok(
      readFileSync(path.join(dir, 'site/records', name)).equals(readFileSync(name === 'record.jsonl' ? valid : legacy)),
    );
  }
});

test('--json prints one object, -q nothing', () => {
  const r = report(['a b%ü', valid, '--json']);
  assert.equal(r.status, 0, r.stderr);
  const said = JSON.parse(r.stdout);
  assert.equal(said.records, 1);
  assert.equal(said.runs, 2);
  assert.equal(said.wrong, 0);
  assert.equal(said.folder, path.join(dir, 'a b%ü'));
  assert.ok(existsSync(fileURLToPath(said.url)));
  assert.equal(typeof said.interactive, 'boolean');
  const q = report(['-q', 'a b%ü', valid]);
  assert.deepEqual([q.status, q.stdout, q.stderr], [0, '', '']);
});

test('--plain writes no script and links to none', () => {
  const r = report(['site', valid, '--plain', '--json']);
  assert.equal(r.status, 0, r.stderr);
  assert.equal(JSON.parse(r.stdout).interactive, false);
  const names = readdirSync(path.join(dir, 'site'), { recursive: true });
  assert.deepEqual(
    names.filter((name) => name.endsWith('.js')),
    [],
  );
  for (const name of names.filter((name) => name.endsWith('.html'))) {
    assert.ok(!readFileSync(path.join(dir, 'site', name), 'utf8').includes('<script'), name);
  }
});

test('without records it takes those that come with sluice, from any folder', () => {
  const r = report(['site', '--json']);
  assert.equal(r.status, 0, r.stderr);
  const said = JSON.parse(r.stdout);
  assert.equal(
    said.records,
    readdirSync(path.join(root, 'bench/results')).filter((name) => name.endsWith('.jsonl')).length,
  );
  assert.ok(existsSync(path.join(dir, 'site/models/lfm2-8b-a1b-q4-k-m.html')));
});

test('a folder gives its records by name, "-" is standard input', () => {
  writeFileSync(path.join(dir, 'b.jsonl'), readFileSync(legacy));
  writeFileSync(path.join(dir, 'a.jsonl'), readFileSync(valid));
  writeFileSync(path.join(dir, 'notes.txt'), 'not a record');
  const folder = report(['site', '.', '--json']);
  assert.equal(folder.status, 0, folder.stderr);
  assert.deepEqual(readdirSync(path.join(dir, 'site/records')), ['a.jsonl', 'b.jsonl']);
  const input = report(['other', '-', '--json'], { input: readFileSync(valid) });
  assert.equal(input.status, 0, input.stderr);
  assert.deepEqual(readdirSync(path.join(dir, 'other/records')), ['standard-input.jsonl']);
});

test('a bad record is one sentence with file, line and field, and leaves nothing', () => {
  const lines = readFileSync(valid, 'utf8').split('\n');
  writeFileSync(
    path.join(dir, 'bad.jsonl'),
    [lines[0].replace('"suite":"quick"', '"suite":5'), ...lines.slice(1)].join('\n'),
  );
  const r = report(['site', legacy, 'bad.jsonl']);
  assert.equal(r.status, 1);
  assert.equal(r.stdout, '');
  assert.match(r.stderr, /^sluice: bad\.jsonl, line 1, suite: [^\n]+\n$/);
  assert.deepEqual(readdirSync(dir), ['bad.jsonl']);
});

test('usage: no folder, an unknown option, --help', () => {
  assert.equal(report([]).status, 2);
  assert.match(report([]).stderr, /folder/);
  assert.equal(report(['site', '--no-such']).status, 2);
  const help = report(['--help']);
  assert.equal(help.status, 0);
  for (const word of ['OUT_DIR', '--plain', '--json', '--quiet', 'bench/results'])
    assert.ok(help.stdout.includes(word), word);
  assert.match(spawnSync(binary, ['--help'], { encoding: 'utf8' }).stdout, /^ {2}report /m);
});

test('a folder of the user is not replaced', () => {
  const r = report(['.', valid]);
  assert.equal(r.status, 1);
  assert.match(r.stderr, /current folder/);
  writeFileSync(path.join(dir, 'mine'), 'x');
  const s = report([dir, valid], { cwd: base });
  assert.equal(s.status, 1);
  assert.match(s.stderr, /holds files and is no report/);
  assert.deepEqual(readdirSync(dir), ['mine']);
});

test('interrupted, it leaves the folder as it was', async () => {
  const generator = path.join(root, 'tests/tools/synthetic-records.mjs');
  const made = spawnSync(process.execPath, [generator, '--rows', '2000', '-o', path.join(dir, 'many.jsonl')], {
    encoding: 'utf8',
  });
  assert.equal(made.status, 0, made.stderr);
  const child = spawn(binary, ['report', 'site', 'many.jsonl'], { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.on('data', (bytes) => (said += bytes));
  const ended = new Promise((resolve) => child.on('exit', (code) => resolve(code)));
  while (child.exitCode === null && readdirSync(dir).length < 2) await new Promise((resolve) => setTimeout(resolve, 2));
  child.kill('SIGINT');
  assert.equal(await ended, 1);
  assert.match(said, /^sluice: interrupted/);
  assert.deepEqual(readdirSync(dir), ['many.jsonl']);
  assert.equal(report(['site', 'many.jsonl', '-q']).status, 0);
  assert.deepEqual(readdirSync(dir).sort(), ['many.jsonl', 'site']);
});
