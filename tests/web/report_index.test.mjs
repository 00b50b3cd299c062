// The index of the report site with 10,000 synthetic rows beside the project's own records, opened from the disk:
// filters, words, order, the address, choosing rows, downloads, and how fast it is there.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import { assertAccessible, assertFitsWidth, assertQuiet, openPage, PHONE, root, screenshot, slow } from './browser.mjs';
import { assertContrast, choose, counts, dataOf, fileUrl, makeSite, results, work } from './report_site.mjs';

const SYNTHETIC = 10000;
const FIRST_PAINT_MS = 1000; // the target on a quiet machine of two cores
let site;
let all;

before(() => {
  const synthetic = path.join(work, 'synthetic.jsonl');
  execFileSync(process.execPath, [
    path.join(root, 'tests/tools/synthetic-records.mjs'),
    '--rows',
    String(SYNTHETIC),
    '-o',
    synthetic,
  ]);
  site = makeSite('big', [results, synthetic]);
  all = dataOf(site, 'index').table.n;
});

const index = (fragment = '', options = {}) => openPage(fileUrl(site, `index.html${fragment}`), options);
const row = (page, k) => page.locator('.grid tbody tr[data-id]').nth(k);
const column = async (page, title) =>
  (await page.locator('.grid thead th').allInnerTexts()).findIndex(
    (text) => text.trim().split('\n')[0].replace(/[↑↓]/, '').trim() === title,
  );
const cells = async (page, title) => {
  const at = await column(page, title);
  return page
    .locator('.grid tbody tr[data-id]')
    .evaluateAll((rows, k) => rows.map((r) => r.children[k].querySelector('.main').textContent.trim()), at);
};
const numbers = async (page, title) =>
  (await cells(page, title))
    .filter((t) => !t.startsWith('—'))
    .map((t) => Number(t.replaceAll('\u202f', '').replace('−', '-')));

test('10,000 rows are there within a second', async (t) => {
  assert.ok(all >= SYNTHETIC + 25, `${all} rows`);
  const paints = [];
  for (let k = 0; k < 5; k++) {
    const page = await index();
    await page.waitForSelector('body.live');
    paints.push(
      await page.evaluate(
        () =>
          new Promise((resolve) => {
            const look = () => {
              const paint = performance.getEntriesByName('first-contentful-paint')[0];
              if (!paint) return requestAnimationFrame(look);
              const live = performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd;
              return resolve({ paint: paint.startTime, live });
            };
            look();
          }),
      ),
    );
    assertQuiet(page);
    await page.context().close();
  }
  const best = (key) => Math.round(Math.min(...paints.map((p) => p[key])));
  t.diagnostic(
    `first paint of ${all} rows: ${best('paint')} ms, all interactive: ${best('live')} ms ` +
      `(best of ${paints.length}; the target is ${FIRST_PAINT_MS} ms)`,
  );
  // Other tests run beside this one: the best of five loads counts, and it may take thrice the target.
  assert.ok(best('paint') < FIRST_PAINT_MS * 3 * slow, `first paint after ${best('paint')} ms`);
});

test('only rows in sight are in the document, and a scroll brings the others', async () => {
  const page = await index();
  assert.ok((await page.locator('.grid tbody tr').count()) < 120);
  assert.equal(await page.locator('.grid').getAttribute('aria-rowcount'), String(all + 1));
  const first = await row(page, 0).getAttribute('data-id');
  await page.locator('.grid-box').evaluate((box) => {
    box.scrollTop = box.scrollHeight;
  });
  await page.waitForFunction(
    (n) =>
      [...document.querySelectorAll('.grid tbody tr[aria-rowindex]')].some(
        (r) => Number(r.getAttribute('aria-rowindex')) === n + 1,
      ),
    all,
  );
  assert.notEqual(await row(page, 0).getAttribute('data-id'), first);
  assertQuiet(page);
});

test('facets and words narrow the rows, the address keeps them, back takes them off', async () => {
  const page = await index();
  assert.deepEqual(await counts(page), { shown: all, all });
  await choose(page, 'kind', 'legacy');
  assert.deepEqual(await counts(page), { shown: 25, all });
  assert.match(page.url(), /#kind=legacy$/);
  await choose(page, 'concurrency', '4');
  const narrowed = (await counts(page)).shown;
  assert.ok(narrowed > 0 && narrowed < 25);
  await page.getByRole('searchbox').fill('5070 vulkan');
  await page.waitForFunction(() => document.querySelector('.count').textContent.startsWith('1 of'));
  assert.match(page.url(), /q=5070\+vulkan/);
  await page.reload();
  assert.equal((await counts(page)).shown, 1);
  assert.equal(await page.getByRole('searchbox').inputValue(), '5070 vulkan');
  await page.goBack();
  assert.equal((await counts(page)).shown, narrowed);
  await page.goBack();
  assert.equal((await counts(page)).shown, 25);
  await page.goBack();
  assert.equal((await counts(page)).shown, all);
  assertQuiet(page);
});

test('a facet says how many rows each value would leave, and can be taken off again', async () => {
  const page = await index('#kind=legacy');
  await page.locator('details[data-facet="hardware"] summary').click();
  const choices = await page.locator('details[data-facet="hardware"] .choice:not(.none)').allInnerTexts();
  const sum = choices.reduce((n, text) => n + Number(text.split('\n').pop().replaceAll('\u202f', '')), 0);
  assert.equal(sum, 25);
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Remove filter Kind: legacy' }).click();
  assert.equal((await counts(page)).shown, all);
  await index('#verdict=nonsense').then(async (other) => {
    assert.equal((await counts(other)).shown, 0);
    assert.match(await other.locator('.empty').first().innerText(), /No row matches/);
    await other.getByRole('button', { name: 'Clear filters' }).click();
    assert.equal((await counts(other)).shown, all);
  });
});

test('typing stays fast', async (t) => {
  const page = await index();
  const times = await page.evaluate(async () => {
    const box = document.querySelector('input[type=search]');
    const taken = [];
    for (const text of ['r', 'rt', 'rtx', 'rtx ', 'rtx 5', 'rtx 50', 'rtx 507', 'rtx 5070', '']) {
      const start = performance.now();
      box.value = text;
      box.dispatchEvent(new Event('input', { bubbles: true }));
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      taken.push(performance.now() - start);
    }
    return taken.sort((a, b) => a - b);
  });
  t.diagnostic(
    `a key stroke over ${all} rows: median ${Math.round(times[times.length >> 1])} ms, ` +
      `worst ${Math.round(times.at(-1))} ms`,
  );
  assert.ok(times[times.length >> 1] < 150 * slow, `median ${times[times.length >> 1]} ms`);
});

test('columns sort by click and by keyboard, unknown values last', async () => {
  const page = await index();
  const head = page.getByRole('columnheader', { name: /Decode/ });
  await head.getByRole('button').click();
  assert.equal(await head.getAttribute('aria-sort'), 'descending');
  assert.match(page.url(), /sort=-decode_tok_s/);
  const down = await numbers(page, 'Decode');
  assert.ok(down.length > 20);
  assert.deepEqual(
    down,
    [...down].sort((a, b) => b - a),
  );
  await head.getByRole('button').focus();
  await page.keyboard.press('Enter');
  assert.equal(await head.getAttribute('aria-sort'), 'ascending');
  const up = await numbers(page, 'Decode');
  assert.deepEqual(
    up,
    [...up].sort((a, b) => a - b),
  );
  assert.ok(await head.getByRole('button').evaluate((b) => b === document.activeElement), 'the focus stays');
  await page.keyboard.press('Enter');
  assert.equal(await head.getAttribute('aria-sort'), null);
  await page.locator('.grid-box').evaluate((box) => {
    box.scrollTop = 0;
  });
  await page.goto(fileUrl(site, 'index.html#sort=-limit_share&kind=legacy'));
  await page.reload();
  assert.ok((await cells(page, 'Of the limit')).every((text) => text.startsWith('—')));
});

test('each view has columns of its own and keeps the filters', async () => {
  const page = await index('#model=LFM2+8B-A1B');
  for (const [view, title] of [
    ['Latency', 'ITL'],
    ['Raw', 'Raw'],
    ['Load', 'Together'],
    ['Energy', 'Energy'],
    ['Hardware', 'Memory'],
    ['Decode', 'Decode'],
  ]) {
    await page.getByRole('button', { name: view, exact: true }).first().click();
    assert.ok((await column(page, title)) >= 0, `${view} has ${title}`);
    assert.match(page.url(), /model=LFM2\+8B-A1B/);
  }
  await page.goto(fileUrl(site, 'index.html#view=raw'));
  await page.reload();
  assert.match(await page.locator('.count').innerText(), /rows, this view leaves .* out/);
  assertQuiet(page);
});

test('figures carry their interval and lead to the line that they stand in', async () => {
  const page = await index('#sort=-decode_tok_s&verdict=clean');
  const cell = row(page, 0)
    .locator('td')
    .nth((await column(page, 'Decode')) - 1);
  assert.match(await row(page, 0).innerText(), /\d–\d/);
  const id = await row(page, 0).getAttribute('data-id');
  const link = row(page, 0).locator('a.value').first();
  assert.equal(await link.getAttribute('href'), `./runs/${id.split('-')[0]}.html#L${id.split('-')[1]}`);
  assert.ok(await cell.count());
  await link.click();
  await page.waitForSelector('li.target pre');
  const shown = await page.locator('li.target pre').innerText();
  assert.match(shown, /"kind": "row"/);
  const record = dataOf(site, `raw-${id.split('-')[0]}`);
  const line = record.lines[Number(id.split('-')[1]) - record.first];
  assert.equal(JSON.parse(shown).prev, JSON.parse(line).prev);
  assert.equal(readFileSync(path.join(site, record.href), 'utf8').split('\n')[Number(id.split('-')[1]) - 1], line);
  assertQuiet(page);
});

test('two chosen rows go to the page that compares them', async () => {
  const page = await index('#kind=legacy');
  await row(page, 0).locator('input[type=checkbox]').check();
  assert.match(await page.locator('.tray').innerText(), /1 row chosen/);
  await row(page, 3).locator('input[type=checkbox]').focus();
  await page.keyboard.press('Space');
  const ids = await Promise.all([0, 3].map((k) => row(page, k).getAttribute('data-id')));
  assert.match(page.url(), /rows=/);
  await page.reload();
  assert.equal(await page.locator('.grid tr.chosen').count(), 2);
  await page.getByRole('link', { name: 'Compare', exact: true }).last().click();
  await page.waitForSelector('.relations');
  assert.equal(new URL(page.url()).search, `?a=${ids[0]}&b=${ids[1]}`);
  assert.match(await page.locator('.relation').innerText(), /B is not ranked against A/);
  assertQuiet(page);
});

test('what is shown can be saved as CSV and JSON', async () => {
  const page = await index('#kind=legacy&sort=-decode_tok_s');
  const save = async (name) => {
    await page.locator('.menu summary').click();
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name }).click()]);
    await page.keyboard.press('Escape');
    return readFileSync(await download.path(), 'utf8');
  };
  const csv = (await save('Rows shown, CSV')).trimEnd().split('\r\n');
  assert.equal(csv.length, 26);
  const at = csv[0].split(',').indexOf('decode_tok_s');
  assert.equal(csv[1].split(',')[at], '439.9');
  assert.equal(csv[2].split(',')[at], '438.0', 'with the digits of the record');
  const json = JSON.parse(await save('Rows shown, JSON'));
  assert.equal(json.length, 25);
  assert.equal(json[0].decode_tok_s, 439.9);
  assert.equal((await save('All rows, CSV')).trimEnd().split('\r\n').length, all + 1);
  assertQuiet(page);
});

test('the index is accessible, light and dark, and fits a phone', async () => {
  const page = await index();
  await assertAccessible(page, 'the index, light');
  await screenshot(page, 'report-index-light');
  await page.locator('details[data-facet="model"] summary').click();
  await assertAccessible(page, 'an open filter, light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await assertContrast(page, 'the index, dark');
  await screenshot(page, 'report-index-dark');
  const phone = await index('', { viewport: PHONE });
  await assertFitsWidth(phone);
  await phone.locator('.more > summary').click();
  await assertFitsWidth(phone);
  await phone.locator('.more > summary').click();
  await phone.locator('.grid-box').evaluate((box) => {
    box.scrollLeft = 300;
  });
  const pinned = await row(phone, 0).locator('.pinned').boundingBox();
  assert.ok(pinned.x < 20, 'what a row is stays in sight');
  await screenshot(phone, 'report-index-phone');
});
