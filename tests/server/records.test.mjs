// Records from outside: docs/records.schema.json and `sluice check` say the same of every line, whatever is done to it;
// what is exported loads where it should.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import Ajv2020 from 'ajv/dist/2020.js';
import { binary } from './harness.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const valid = path.join(root, 'tests/unit/data/record.jsonl');
const legacy = path.join(root, 'bench/results/legacy-lfm2-8b-a1b-page.jsonl');
const dir = mkdtempSync(path.join(tmpdir(), 'sluice-records-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const schema = JSON.parse(readFileSync(path.join(root, 'docs/records.schema.json'), 'utf8'));
const matches = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false }).compile(schema);
const lines = (file) => readFileSync(file, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line));

// Writes lines with a chain of their own; a "prev" that the test broke stays as it is.
function write(name, objects) {
  let prev = '0'.repeat(64);
  const text = objects.map(({ object, keepPrev }) => {
    const line = JSON.stringify(keepPrev ? object : { ...object, prev });
    prev = createHash('sha256').update(line).digest('hex');
    return `${line}\n`;
  });
  const file = path.join(dir, name);
  writeFileSync(file, text.join(''));
  return file;
}

const check = (...files) => {
  const r = spawnSync(binary, ['check', '--json', ...files], { encoding: 'utf8', maxBuffer: 1 << 28 });
  return { code: r.status, files: JSON.parse(r.stdout) };
};

const values = [null, true, 'x', '', -1, 0, 1.5, 5, 1e300, 2 ** 53, [], [1, 2], ['x'], {}, { x: 1 }, 'ab'.repeat(32)];

// Every member of an object and of what is in it: left out, and with each of the values.
function* mutations(object, at = []) {
  for (const [key, value] of Object.entries(object)) {
    const here = [...at, key];
    yield [here, undefined];
    for (const other of values) {
      // a wrong hash is the chain's business, not the form's
      if (here[0] !== 'prev' || other?.length !== 64) yield [here, other];
    }
    if (Array.isArray(value)) yield* mutations(Object.fromEntries(value.slice(0, 1).entries()), here);
    else if (value && typeof value === 'object') yield* mutations(value, here);
  }
  if (!Array.isArray(object)) yield [[...at, 'no_such_key'], 1];
}

function changed(object, [key, ...rest], value) {
  const copy = Array.isArray(object) ? [...object] : { ...object };
  if (rest.length) copy[key] = changed(copy[key], rest, value);
  else if (value === undefined) Array.isArray(copy) ? copy.splice(Number(key), 1) : delete copy[key];
  else copy[key] = value;
  return copy;
}

test('the shipped records match the schema', () => {
  for (const file of [valid, legacy]) {
    for (const line of lines(file)) assert.ok(matches(line), `${file}: ${JSON.stringify(matches.errors)}`);
    assert.equal(check(file).code, 0);
  }
});

test('schema and check agree on every changed line', () => {
  const seen = new Set();
  const cases = [];
  for (const line of [...lines(valid), ...lines(legacy)]) {
    const shape = `${line.kind} ${Object.keys(line)} ${line.test} ${line.targets ? 2 : 1}`;
    if (seen.has(shape)) continue; // one line of each form
    seen.add(shape);
    for (const [at, value] of mutations(line)) {
      const object = changed(line, at, value);
      cases.push({ object, at, value, keepPrev: at[0] === 'prev' });
    }
  }
  assert.ok(cases.length > 5000, `${cases.length} cases`);
  const run = { object: lines(valid)[0] };
  for (let from = 0; from < cases.length; from += 1500) {
    const part = cases.slice(from, from + 1500);
    const file = write(`changed-${from}.jsonl`, part.flatMap((c) => [run, c]));
    const written = lines(file);
    const bad = new Set(check(file).files[0].findings.filter((f) => f.form).map((f) => f.line));
    part.forEach((c, i) => {
      const number = 2 * i + 2;
      const schemaSays = matches(written[number - 1]);
      const what = `${c.object.kind} ${c.at.join('.')} = ${JSON.stringify(c.value)}`;
      const why = JSON.stringify(matches.errors?.[0]);
      const checkSays = !bad.has(number);
      assert.equal(checkSays, schemaSays, `${what}: the schema says ${schemaSays} (${why}), check ${checkSays}`);
    });
  }
});

test('a changed record has exit code 1, a noisy or legacy one 0', () => {
  const text = readFileSync(valid, 'utf8');
  const file = path.join(dir, 'changed.jsonl');
  writeFileSync(file, text.replace('"steal time 3%"', '"steal time 2%"'));
  const r = check(file, valid);
  assert.equal(r.code, 1);
  assert.deepEqual(r.files.map((f) => f.ok), [false, true]);
  assert.match(r.files[0].findings.find((f) => f.level === 'wrong').text, /chain is broken: line 17 is not the line/);
  const plain = spawnSync(binary, ['check', '-q', legacy], { encoding: 'utf8' });
  assert.equal(plain.status, 0);
  assert.match(plain.stdout, /ok: 5 records, 25 rows, 0 samples, 5 invalid/);
});

const noSqlite = spawnSync('sqlite3', ['--version']).error && 'no sqlite3';

test('SQL loads into sqlite3, and its figures are those of the record', { skip: noSqlite }, () => {
  const db = path.join(dir, 'records.db');
  const sql = execFileSync(binary, ['export', '--format', 'sql', valid, legacy]);
  execFileSync('sqlite3', ['-bail', db], { input: sql });
  execFileSync('sqlite3', ['-bail', db], { input: sql }); // a second load continues the numbers
  const ask = (query) => JSON.parse(execFileSync('sqlite3', ['-json', db, query], { encoding: 'utf8' }));
  assert.equal(ask('select count(*) n from runs')[0].n, 14);
  assert.equal(ask('select count(*) n from rows')[0].n, 58);
  assert.equal(ask('select count(*) n from samples')[0].n, 48);
  assert.equal(ask('select label from runs where run = 1')[0].label, 'a "label", with commas');
  const row = lines(valid).find((line) => line.kind === 'row');
  const own = ask(`select median, lo, n from metrics join rows using (row_id)
    where "row" = 'agent/c1/cold' and name = 'ttft_ms'`)[0];
  assert.equal(own.median, row.metrics.ttft_ms.median);
  assert.equal(own.lo, row.metrics.ttft_ms.interval[0]);
  assert.equal(own.n, 6);
  assert.equal(ask('pragma integrity_check')[0].integrity_check, 'ok');
  assert.equal(execFileSync('sqlite3', [db, 'pragma foreign_key_check'], { encoding: 'utf8' }), '');
});

test('commands explain themselves and refuse what they do not know', () => {
  for (const name of ['check', 'import', 'export', 'compare']) {
    const help = spawnSync(binary, [name, '--help'], { encoding: 'utf8' });
    assert.equal(help.status, 0);
    assert.match(help.stdout, new RegExp(`examples:\\n(.*\\n)*.*sluice ${name}`));
    assert.equal(spawnSync(binary, [name]).status, 2, `${name} without a file`);
    const missing = spawnSync(binary, [name, path.join(dir, 'nothing')], { encoding: 'utf8' });
    assert.equal(missing.status, 1);
    assert.match(missing.stderr, /nothing could not be opened/);
  }
  assert.equal(spawnSync(binary, ['export', valid, '--format', 'xml']).status, 2);
  assert.equal(spawnSync(binary, ['import', valid, '--format', 'xml']).status, 2);
  assert.equal(spawnSync(binary, ['compare', valid, '--metric', 'speed']).status, 2);
});
