// The library as others use it: the example, an installed copy, and the server itself.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { binary, modelPath, slow } from './harness.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const build = path.dirname(path.resolve(binary));
const dir = mkdtempSync(path.join(tmpdir(), 'sluice-embedding-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const run = (command, args, options = {}) =>
  spawnSync(command, args, { encoding: 'utf8', timeout: 120000 * slow, ...options });
function works(command, args, options) {
  const r = run(command, args, options);
  assert.equal(r.status, 0, `${command} ${args.join(' ')}\n${r.stderr}${r.error ?? ''}`);
  return r.stdout;
}

const questions = 'What is the capital of France?\nWhat is 17 + 25?\n';
function chats(program, args, env = {}) {
  const out = works(program, args, { input: questions, env: { ...process.env, ...env } });
  assert.match(out, /Paris[^]*\n[^]*42/);
}

test('the example chats over two turns', () => {
  chats(path.join(build, 'chat_example'), [modelPath()]);
  const r = run(path.join(build, 'chat_example'), ['/nonexistent.gguf'], { input: '' });
  assert.equal(r.status, 1);
  assert.match(r.stderr, /^chat: .*nonexistent\.gguf.*\n$/);
});

test('an installed copy is found by pkg-config, takes no names, and works', () => {
  const prefix = path.join(dir, 'prefix');
  works('cmake', ['--install', build, '--prefix', prefix]);
  assert.deepEqual(readdirSync(path.join(prefix, 'include')), ['sluice.h']);
  const env = { ...process.env, PKG_CONFIG_PATH: path.join(prefix, 'lib/pkgconfig') };
  const flags = works('pkg-config', ['--cflags', '--libs', '--static', 'sluice'], { env }).trim().split(/\s+/);
  const [, sanitize] = /^SANITIZE:\w+=(.*)$/m.exec(readFileSync(path.join(build, 'CMakeCache.txt'), 'utf8')) ?? [];
  if (sanitize) flags.push(`-fsanitize=${sanitize}`);
  const program = path.join(dir, 'chat');
  // A program with functions of its own that are called like some of the library's.
  const own = path.join(dir, 'own.c');
  writeFileSync(own, 'int fail(void) { return 1; }\nint mem_alloc(void) { return 2; }\nint hash_new = 3;\n');
  works('cc', ['-Wall', '-Werror', path.join(root, 'examples/chat.c'), own, '-o', program, ...flags]);
  chats(program, [modelPath()]);
  const names = works('nm', ['-g', '--defined-only', path.join(prefix, 'lib/libsluice.a')])
    .split('\n')
    .flatMap((line) => / [A-Z] (\w+)$/.exec(line)?.[1] ?? []);
  const ours = names.filter((name) => !/^(__|_?\.)/.test(name)); // a sanitizer's are its own
  assert.ok(ours.length > 20 && ours.every((name) => name.startsWith('sluice_')), ours.join(' '));
  const declared = readFileSync(path.join(prefix, 'include/sluice.h'), 'utf8').matchAll(/\b(sluice_\w+)\(/g);
  assert.deepEqual([...ours].sort(), [...new Set([...declared].map((m) => m[1]))].sort(), 'declared = defined');
});

test('the installed program finds the installed model', () => {
  const prefix = path.join(dir, 'all');
  works('cmake', ['--install', build, '--prefix', prefix]);
  works('install', ['-D', '-m', '644', modelPath(), path.join(prefix, 'share/sluice/sluice-mini-Q4_K_M.gguf')]);
  const out = works(path.join(prefix, 'bin/sluice'), ['run', '-q', '--temp', '0', 'What is 17 + 25?'], {
    env: { ...process.env, SLUICE_MODEL: '' },
  });
  assert.match(out, /42/);
});

// The server and the commands that generate know the engine by its public header alone; `json` reads text, as `base` does.
test('nothing of the engine is included but sluice.h', () => {
  const files = readdirSync(path.join(root, 'src/server')).map((f) => `src/server/${f}`);
  for (const file of [...files, 'src/cli/cmd_run.c', 'src/cli/cmd_serve.c']) {
    for (const [, name] of readFileSync(path.join(root, file), 'utf8').matchAll(/^#include "(.+)"$/gm)) {
      assert.match(name, /^(sluice\.h|(base|json|web|server|cli)\/\w+\.h)$/, file);
    }
  }
});
