// The pages of models, runs, machines and comparisons, from the project's own records, opened from the disk and once from
// a web server: what stands on them, where their numbers lead, and that their charts are drawn.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import {
  assertAccessible,
  assertFitsWidth,
  assertQuiet,
  openPage,
  PHONE,
  screenshot,
  serveFolder,
} from './browser.mjs';
import {
  assertContrast,
  dataOf,
  fileUrl,
  LEGACY,
  makeSite,
  pixelsOf,
  rechained,
  results,
  work,
} from './report_site.mjs';

const SEED_COLUMNS = [
  'Kind',
  'Comparable',
  'Hardware',
  'Backend',
  'Label',
  'Workload',
  'Conc.',
  'Decode',
  'End to end',
  'Prefill',
  'TTFT',
  'TPOT',
  'Prompt',
  'Output',
  'Latency',
  'Memory',
];
const OWN_COLUMNS = ['Cold / warm', 'Energy', 'Of the limit', 'Quality', 'Verdict'];
let site;
let pages; // name -> file with its query or fragment

before(() => {
  site = makeSite('own', [results]);
  const { models, hardware, runs } = dataOf(site, 'index');
  const { comparisons } = dataOf(site, 'compare');
  const model = models.find((m) => m.title === 'LFM2 8B-A1B');
  const paired = comparisons.find((c) => c.a && c.b && c.metric === 'decode_tok_s');
  const legacy = runs.find((r) => r.source === 'legacy');
  pages = {
    model: `models/${model.slug}.html`,
    hardware: `hardware/${hardware.find((m) => /3090/.test(m.title)).slug}.html`,
    run: `runs/${paired.run}.html`,
    'printed run': `runs/${legacy.id}.html`,
    comparison: `compare.html?a=${paired.a}&b=${paired.b}`,
    'all comparisons': 'compare.html',
  };
});

const open = async (name, options = {}) => {
  const page = await openPage(fileUrl(site, pages[name] ?? name), options);
  await page.waitForSelector('body.live');
  return page;
};
const heads = (page) =>
  page
    .locator('.grid thead th:not(.choose)')
    .evaluateAll((list) => list.map((th) => th.querySelector('.head').firstChild.textContent));

test('the model page has the columns of the page that people know, and more', async () => {
  const page = await open('model');
  const shown = await heads(page);
  assert.deepEqual(
    shown.filter((title) => SEED_COLUMNS.includes(title)),
    SEED_COLUMNS,
  );
  assert.deepEqual(
    shown.filter((title) => OWN_COLUMNS.includes(title)),
    OWN_COLUMNS,
  );
  const facts = await page.locator('.intro').innerText();
  for (const part of ['Q4_K_M', '8\u202fB', 'GGUF', 'LiquidAI/LFM2-8B-A1B-GGUF:Q4_K_M', '11624c2ea122'])
    assert.ok(facts.includes(part), part);
  const legacy = page.locator('.grid tbody tr', { has: page.locator('.chip-legacy') });
  assert.equal(await legacy.count(), 25);
  const first = await legacy.first().innerText();
  for (const part of [
    'NVIDIA GeForce RTX 3090',
    '450\u202fW max',
    'drv 590',
    'cuda-4f13cb7',
    'baseline-pl-450w',
    'chat',
    '439.9',
    '385.1',
    '1474.1',
    '21ms',
    '2.3',
    '31',
    '100',
    '248ms',
    '0.000 GiB',
  ])
    assert.ok(first.includes(part), `${part} in ${first}`);
  const caps = await page.locator('.block table.probes').allInnerTexts();
  assert.ok(caps.some((text) => text.includes('200\u202fW') && text.includes('391') && text.includes('65.4')));
  assertQuiet(page);
});

test('what is wrong in a printed row is marked, and said', async () => {
  const page = await open('model');
  const marked = page.locator('.grid td.marked');
  assert.ok((await marked.count()) >= 60, `${await marked.count()} marks`);
  const cell = marked.filter({ hasText: '385.1' });
  assert.match(await cell.getAttribute('title'), /client 385\.1 tok\/s is not output tokens/);
  await cell.locator('.flag').click();
  const dialog = page.getByRole('dialog');
  assert.match(await dialog.innerText(), /two statistics in one row/);
  await assertAccessible(page, 'the findings of a row');
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('dialog[open]').count(), 0);
  await page.locator('.grid tbody tr .reasons').nth(2).focus();
  await page.keyboard.press('Enter');
  await dialog.waitFor();
  await page.getByRole('button', { name: 'Close' }).click();
  assert.match(await page.locator('#findings').innerText(), /queued, not batched/);
});

test('charts are drawn, told in words, and walked through by keys', async () => {
  for (const [name, least] of [
    ['model', 3],
    ['run', 4],
    ['comparison', 1],
    ['hardware', 3],
  ]) {
    const page = await open(name);
    await page.waitForSelector('.chart svg');
    const plots = page.locator('.chart .plot');
    assert.ok((await plots.count()) >= least, `${name}: ${await plots.count()} charts`);
    for (let k = 0; k < (await plots.count()); k++) {
      const { inked, colours } = await pixelsOf(plots.nth(k));
      assert.ok(inked > 0.004 && colours > 5, `${name}, chart ${k}: ${inked} inked, ${colours} colours`);
    }
    const plot = plots.first();
    assert.ok(await plot.getAttribute('aria-labelledby'));
    await plot.focus();
    await page.keyboard.press('ArrowRight');
    const tip = plot.getByRole('status');
    const said = await tip.innerText();
    assert.ok(said.length > 20, said);
    await page.keyboard.press('End');
    assert.notEqual(await tip.innerText(), said);
    await page.keyboard.press('Escape');
    assert.equal(await tip.isVisible(), false);
    await page.locator('.chart .chart-data summary').first().click();
    await page.locator('.chart .chart-data tbody tr').first().waitFor();
    assertQuiet(page);
    await page.context().close();
  }
});

test('a filter changes the charts too', async () => {
  const page = await open(`${pages.model}#hardware=NVIDIA+GeForce+RTX+5070+%C2%B7+12+GiB`);
  await page.waitForSelector('.chart svg');
  assert.equal(await page.locator('.grid tbody tr[data-id]').count(), 5);
  await page.locator('.charts .chart-data summary').first().click();
  await page.locator('.charts .chart-data tbody tr').first().waitFor();
  const listed = await page.locator('.charts .chart-data').first().innerText();
  assert.ok(listed.includes('RTX 5070') && !listed.includes('RTX 3090'), listed);
});

test('Enter on a point of a chart opens its record line', async () => {
  const page = await open('model');
  await page.waitForSelector('.chart svg');
  await page.locator('.chart .plot').first().focus();
  await page.keyboard.press('Home');
  await page.keyboard.press('Enter');
  await page.waitForSelector('li.target pre');
  assert.match(page.url(), /runs\/[0-9a-f]{16}\.html#L\d+$/);
  assertQuiet(page);
});

test('every number of a row leads to its line, which the page shows', async () => {
  const page = await open('model');
  const rows = await page
    .locator('.grid tbody tr[data-id]')
    .evaluateAll((list) =>
      list.map((tr) => [tr.dataset.id, [...tr.querySelectorAll('a.value')].map((a) => a.getAttribute('href'))]),
    );
  for (const [id, hrefs] of rows) {
    const [run, line] = id.split('-');
    assert.ok(hrefs.length >= 8, `${id} has ${hrefs.length} figures`);
    for (const href of hrefs) assert.equal(href, `../runs/${run}.html#L${line}`);
    const raw = dataOf(site, `raw-${run}`);
    assert.equal(JSON.parse(raw.lines[Number(line) - raw.first]).kind, 'row');
  }
});

test('the run page shows every sample, the tokens, the machine, the command and the record', async () => {
  const page = await open('run');
  const run = dataOf(site, path.basename(pages.run, '.html').replace(/^/, 'run-'));
  const of = (kind) => run.lines.filter((entry) => entry.data.kind === kind);
  assert.equal(await page.locator('.command pre').innerText(), of('run')[0].data.command);
  await page
    .context()
    .grantPermissions(['clipboard-read', 'clipboard-write'])
    .catch(() => {});
  await page.locator('.command .copy').click();
  await page.getByRole('button', { name: 'Copied' }).waitFor();
  const more = page.getByRole('button', { name: /Show all/ });
  if (await more.isVisible()) await more.click();
  assert.equal(await page.locator('.scroll.tall tbody tr').count(), of('sample').length);
  const titles = await page.locator('.chart h3').allInnerTexts();
  for (const title of ['Timeline of the requests', 'Gaps between tokens', 'Clocks, power and load over the run'])
    assert.ok(titles.includes(title), title);
  const strokes = await page
    .locator('.tokens')
    .evaluateAll((paths) => paths.reduce((n, p) => n + (p.getAttribute('d') ?? '').split('M').length - 1, 0));
  assert.equal(
    strokes,
    of('sample').reduce((n, { data }) => n + (data.token_ms?.length ?? 0), 0),
  );
  const comparison = of('comparison').find(({ data }) => data.metric === 'decode_tok_s').data;
  assert.ok(
    (await page.locator('.section', { has: page.getByRole('heading', { name: 'B over A' }) }).innerText()).includes(
      comparison.ratio.toFixed(3),
    ),
  );
  assert.equal(await page.locator('.raw li').count(), 0, 'the record is not loaded before somebody looks');
  await page.locator('.raw-details > summary').click();
  await page.locator('.raw li').first().waitFor();
  await page.locator('.raw li button').nth(1).click();
  assert.match(await page.locator('.raw pre').innerText(), /"kind": "sample"/);
  await page.getByRole('link', { name: 'Side by side' }).click();
  await page.waitForSelector('.relations');
  assertQuiet(page);
});

test('the compare page gives the paired ratio of a record, and turns it with its rows', async () => {
  const page = await open('comparison');
  const { comparisons } = dataOf(site, 'compare');
  const { a, b } = Object.fromEntries(new URL(page.url()).searchParams);
  const decode = comparisons.find((c) => c.a === a && c.b === b && c.metric === 'decode_tok_s');
  const line = page.locator('table.side tbody tr', { hasText: 'Decode' });
  assert.ok((await line.innerText()).includes(`×${decode.ratio.toFixed(3)}`));
  assert.ok(
    (await line.innerText()).includes(`${decode.interval[0].toFixed(3)}–${decode.interval[1].toFixed(3)}, paired`),
  );
  await page.getByRole('link', { name: 'make first' }).click();
  await page.waitForSelector('.relations');
  assert.ok((await line.innerText()).includes(`×${(1 / decode.ratio).toFixed(3)}`));
  assertQuiet(page);
});

test('rows of one work may be compared, apart, with an interval that says what it is', async () => {
  const { n, dict, columns } = dataOf(site, 'index').table;
  assert.ok(n && dict && columns);
  const index = await openPage(fileUrl(site, 'index.html#comparable=hardware&q=mini'));
  const ids = await index.locator('.grid tbody tr[data-id]').evaluateAll((list) => list.map((tr) => tr.dataset.id));
  const other = ids.find((id) => id.split('-')[0] !== ids[0].split('-')[0]);
  const page = await open(`compare.html?a=${ids[0]}&b=${other}`);
  assert.match(
    await page.locator('.relation.may').innerText(),
    /B may be compared with A: the same work on the same stack and hardware/,
  );
  const ratio = page.locator('table.side tbody tr', { hasText: 'Decode' }).locator('.ratio');
  assert.match(await ratio.innerText(), /^×\d\.\d{3}\s+\d\.\d+–\d\.\d+/);
  assert.match(await ratio.locator('.value').getAttribute('title'), /measured apart.*Level at least/);
});

test('a comparison of other work is refused, with the fields that differ', async () => {
  const index = await openPage(fileUrl(site, 'index.html#kind=legacy&sort=-decode_tok_s'));
  const ids = await index.locator('.grid tbody tr[data-id]').evaluateAll((list) => list.map((tr) => tr.dataset.id));
  const page = await open(`compare.html?a=${ids[0]}&b=${ids[1]}&c=${ids[4]}`);
  const refusals = await page.locator('.relation.refused').allInnerTexts();
  assert.equal(refusals.length, 2);
  assert.match(refusals[0], /B is not ranked against A: A has a cache state that nobody verified; B has/);
  for (const text of await page.locator('td.ratio').allInnerTexts()) assert.match(text, /^—/);
  assert.ok((await page.locator('table.fields').first().innerText()).includes('workload'));
  const none = await open(`compare.html?a=${ids[0]}&b=0000000000000000-1`);
  assert.match(await none.locator('main').innerText(), /Not in these records: 0000000000000000-1/);
  for (const p of [page, none]) assertQuiet(p);
});

test('all pages are accessible, light and dark, and fit a phone', async () => {
  for (const name of Object.keys(pages)) {
    const page = await open(name);
    if (await page.locator('.chart-host').count()) await page.waitForSelector('.chart svg');
    assertQuiet(page); // before axe-core, which asks for the style sheet in a way that the page's policy refuses
    await assertAccessible(page, `${name}, light`);
    await screenshot(page, `report-${name.replace(' ', '-')}-light`, { fullPage: true });
    await page.emulateMedia({ colorScheme: 'dark' });
    await assertContrast(page, `${name}, dark`);
    await screenshot(page, `report-${name.replace(' ', '-')}-dark`, { fullPage: true });
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize(PHONE);
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50))));
    await assertFitsWidth(page);
    await screenshot(page, `report-${name.replace(' ', '-')}-phone`, { fullPage: true });
    await page.context().close();
  }
});

test('light and dark can be chosen and stay so', async () => {
  const page = await open('model', { scheme: 'light' });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.getByLabel('Theme').selectOption('dark');
  const dark = await ground();
  assert.notEqual(dark, light);
  await page.goto(fileUrl(site, pages.hardware));
  await page.waitForSelector('body.live');
  assert.equal(await ground(), dark);
  assertQuiet(page);
});

test('printing shows all rows and columns, and no controls', async () => {
  const page = await open('model');
  await page.setViewportSize({ width: 1060, height: 750 }); // A4, landscape
  await page.emulateMedia({ media: 'print' });
  await page.evaluate(() => dispatchEvent(new Event('beforeprint')));
  assert.equal(await page.locator('.grid tbody tr[data-id]').count(), 25);
  assert.equal(await page.locator('.ask').isVisible(), false);
  const [table, sheet] = await page
    .locator('.grid')
    .evaluate((grid) => [grid.scrollWidth, grid.parentElement.clientWidth]);
  assert.ok(table <= sheet + 2, `a table of ${table} px on a sheet of ${sheet}`);
});

test('the same site from a web server', async () => {
  const url = await serveFolder(site);
  for (const name of ['index.html', pages.model, `${pages.run}#L3`, pages.comparison]) {
    const page = await openPage(`${url}/${name}`);
    await page.waitForSelector('body.live');
    if (name.includes('#')) await page.waitForSelector('li.target pre');
    assertQuiet(page);
    await page.context().close();
  }
});

test('a record’s text stays text, whatever it holds', async () => {
  const hostile = '</script><img src=x onerror="document.title=\'hit\'">\u2028"\'`${1}';
  const file = path.join(work, 'hostile.jsonl');
  writeFileSync(
    file,
    rechained(LEGACY, (data) => {
      if (data.kind === 'run') {
        data.label = hostile;
        data.suite = hostile;
        data.target.engine = hostile;
        data.target.model = hostile;
        data.environment.gpus[0].name = hostile;
        data.origin.url = 'javascript:document.title="hit"';
      }
      return data;
    }),
  );
  const other = makeSite('hostile', [file]);
  const { models, hardware, runs } = dataOf(other, 'index');
  for (const name of [
    'index.html',
    `models/${models[0].slug}.html`,
    `hardware/${hardware[0].slug}.html`,
    `runs/${runs[0].id}.html#L1`,
    'compare.html',
  ]) {
    const page = await openPage(fileUrl(other, name));
    await page.waitForSelector('body.live');
    if (name.includes('#')) await page.waitForSelector('li.target pre');
    assert.equal(await page.locator('main img, main script').count(), 0, name);
    assert.equal(await page.locator('a[href^="javascript"]').count(), 0, name);
    assert.notEqual(await page.title(), 'hit');
    assertQuiet(page);
    await page.context().close();
  }
});

test('a page whose data is gone says so and keeps its plain form', async () => {
  const page = await openPage(fileUrl(site, pages.model), {
    setUp: (p) => p.route('**/data/*.js', (route) => route.abort()),
  });
  assert.match(await page.locator('.notice').innerText(), /data of this page could not be loaded/);
  assert.ok((await page.locator('main table').count()) > 0);
});
