// Writes the C table of the built pages that src/web looks names up in.
// Usage: node embed.mjs OUT.c SUMMARY.txt NAME=FILE...
// The same files give the same bytes: no time in the gzip header, no name of a system, the order as given.
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';

const types = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.json': 'application/json; charset=utf-8',
};

const [out, summary, ...files] = process.argv.slice(2);
let arrays = '';
let rows = '';
const sizes = new Map();
for (const [i, arg] of files.entries()) {
  const [name, file] = [arg.slice(0, arg.indexOf('=')), arg.slice(arg.indexOf('=') + 1)];
  const type = types[path.extname(name)];
  if (!type) throw new Error(`${name}: no content type is known for this ending; add it to web/embed.mjs`);
  const bytes = readFileSync(file);
  const packed = gzipSync(bytes, { level: 9 });
  packed[9] = 255; // "unknown system"
  const etag = createHash('sha256').update(bytes).digest('hex').slice(0, 20);
  const lines = packed.toString('hex').match(/.{1,56}/g).map((hex) => `    "${hex.replace(/../g, '\\x$&')}"`);
  arrays += `static const unsigned char file_${i}[] = /* ${name} */\n${lines.join('\n')};\n\n`;
  rows += `    {"${name}", "${type}", "W/\\"${etag}\\"", file_${i}, ${packed.length}, ${bytes.length}},\n`;
  const page = path.dirname(name);
  sizes.set(page, (sizes.get(page) ?? 0) + packed.length);
}
writeFileSync(
  out,
  `/* Made by web/embed.mjs; do not edit. */\n#include "web/web.h"\n\n${arrays}` +
    `const struct web_file web_files[] = {\n${rows}    {0},\n};\nconst size_t web_files_n = ${files.length};\n`,
);
const list = [...sizes].map(([page, n]) => `${page} ${Math.ceil(n / 1024)} KiB`).join(', ');
writeFileSync(summary, `web pages: built (${list} gzip'd)\n`);
