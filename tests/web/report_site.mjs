// What the tests of the report site share: sites made by the real binary, and a look at the pixels of a chart.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after } from 'node:test';
import { pathToFileURL } from 'node:url';
import { root, slow } from './browser.mjs';

export const results = path.join(root, 'bench/results');
export const LEGACY = path.join(results, 'legacy-lfm2-8b-a1b-page.jsonl');

const binary = path.resolve(process.env.SLUICE_BIN ?? path.join(root, 'build/sluice'));

/** A folder of this test file's own, gone when it ends. */
export const work = mkdtempSync(path.join(tmpdir(), 'sluice-report-'));
after(() => rmSync(work, { recursive: true, force: true }));

/** Writes a site with `sluice report` and returns its folder. */
export function makeSite(name, records) {
  const folder = path.join(work, name);
  execFileSync(binary, ['report', folder, ...records, '--quiet'], { timeout: 240000 * slow });
  return folder;
}

/** The address of a file of a site, as a reader who opens it from the disk has it. */
export function fileUrl(site, name) {
  const [file, rest = ''] = name.split(/(?=[?#])/, 2);
  return pathToFileURL(path.join(site, file)).href + rest;
}

/** What a data script of a site brings. */
export function dataOf(site, name) {
  let data;
  const text = readFileSync(path.join(site, 'data', `${name}.js`), 'utf8');
  new Function('sluice_report', text)((given, json) => {
    assert.equal(given, name);
    data = JSON.parse(json);
  });
  return data;
}

/** The lines of a record after `edit` changed their objects, chained anew. */
export function rechained(file, edit) {
  let prev = '0'.repeat(64);
  const lines = readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => {
      const data = edit(JSON.parse(line));
      data.prev = prev;
      const text = JSON.stringify(data);
      prev = createHash('sha256').update(text).digest('hex');
      return text;
    });
  return `${lines.join('\n')}\n`;
}

/** Share of a picture's pixels that are not its ground, and the number of colours: what tells a chart from a blank. */
export async function pixelsOf(locator) {
  const png = (await locator.screenshot()).toString('base64');
  const page = await locator.page().context().newPage();
  const seen = await page.evaluate(async (data) => {
    const image = new Image();
    image.src = `data:image/png;base64,${data}`;
    await image.decode();
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [image.width, image.height];
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const pixels = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
    const counts = new Map();
    for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
    return { inked: 1 - Math.max(...counts.values()) / pixels.length, colours: counts.size };
  }, png);
  await page.close();
  return seen;
}

/** Fails where text and ground lie too close: all that another scheme can change, after axe-core looked at everything. */
export async function assertContrast(page, what) {
  const found = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { runOnly: ['color-contrast'], preload: false });
    return violations.flatMap((v) => v.nodes.map((n) => `${n.target.join(' ')}: ${n.any[0]?.message ?? v.help}`));
  });
  assert.deepEqual(found.slice(0, 5), [], `contrast on ${what}`);
}

/** Number of source rows and of shown ones, as the page says them. */
export async function counts(page) {
  const text = (await page.locator('.count').first().innerText()).replaceAll('\u202f', '');
  const [, shown, all] = /^(\d+) of (\d+) rows?/.exec(text) ?? assert.fail(`no counts in "${text}"`);
  return { shown: Number(shown), all: Number(all) };
}

/** Opens a facet's list and ticks a value. */
export async function choose(page, facet, value) {
  const list = page.locator(`details[data-facet="${facet}"]`);
  if (!(await list.evaluate((node) => node.open))) await list.locator('summary').click();
  await list.locator('label.choice', { has: page.locator('.name', { hasText: new RegExp(`^${value}$`) }) }).click();
  await page.keyboard.press('Escape');
}
