// The report without scripts (`--plain`, and what a build without Node writes): opened from its folder, read on a phone
// and in the dark, every page judged by axe-core.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { assertAccessible, assertFitsWidth, assertQuiet, openPage, PHONE, root, screenshot } from './browser.mjs';

const binary = process.env.SLUICE_BIN ?? path.join(root, 'build/sluice');
const dir = mkdtempSync(path.join(tmpdir(), 'sluice-plain-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const site = path.join(dir, 'site');
const records = [
  'tests/unit/data/record.jsonl',
  'bench/results/legacy-lfm2-8b-a1b-page.jsonl',
  'bench/results/ab-llama-cpp.jsonl',
];
execFileSync(binary, ['report', site, ...records.map((name) => path.join(root, name)), '--plain', '-q']);
const url = (name) => pathToFileURL(path.join(site, name)).href;

test('the model page has the 25 rows of the results page and what is wrong with them', async () => {
  const page = await openPage(url('models/lfm2-8b-a1b-q4-k-m.html'));
  const rows = page.locator('tbody tr', { has: page.locator('.chip-legacy') });
  assert.equal(await rows.count(), 25);
  const first = rows.first();
  assert.match(await first.innerText(), /439\.9[\s\S]*385\.1[\s\S]*1474\.1[\s\S]*21 ms/);
  await first.locator('summary').click();
  assert.ok(
    await first.locator('li', { hasText: 'legacy: client 385.1 tok/s is not output tokens / latency' }).isVisible(),
  );
  await first.getByRole('link', { name: /^line / }).click();
  assert.match(await page.locator(':target').innerText(), /"decode_tok_s":"439\.9"/);
  assertQuiet(page);
});

test('every page is quiet, fits a phone, and has no serious fault', async () => {
  const names = [
    'index.html',
    'compare.html',
    ...['models', 'hardware', 'runs', 'raw'].map((folder) => {
      const files = readdirSync(path.join(site, folder));
      return `${folder}/${files.at(-1)}`;
    }),
  ];
  for (const [i, name] of [...names, 'index.html'].entries()) {
    const scheme = i % 2 ? 'dark' : 'light';
    const page = await openPage(url(name), { scheme, viewport: i > 1 ? PHONE : undefined });
    assert.ok(await page.locator('h1').isVisible());
    await assertFitsWidth(page);
    assertQuiet(page); // before axe-core, which fetches style sheets anew
    await assertAccessible(page, `${name} (${scheme})`);
    await screenshot(page, `plain-${i}-${name.replaceAll(/\W+/g, '-')}`);
    await page.context().close();
  }
});
