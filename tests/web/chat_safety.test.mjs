// What must not happen on the chat page, and what it says when something goes wrong.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { randomModel, startServer } from '../server/harness.mjs';
import { assertAccessible, assertQuiet, openPage, screenshot } from './browser.mjs';
import { answered, answers, ask, scriptAnswer } from './chat_page.mjs';

let server;
before(async () => (server = await startServer(['--quiet', '--ctx', '256'], { model: randomModel() })));
after(() => server.stop());

const HOSTILE = [
  '<script>window.hit = "script"</script>',
  '<img src=x onerror="window.hit = \'img\'">',
  '<img src="https://evil.example/pixel.png">',
  '![pixel](https://evil.example/pixel.png)',
  '<svg onload="window.hit = \'svg\'"><use href="https://evil.example/x.svg#a"/></svg>',
  '<style>@import "https://evil.example/x.css"; * { display: none !important }</style>',
  '<link rel="stylesheet" href="https://evil.example/x.css">',
  '<iframe src="https://evil.example"></iframe>',
  '<iframe srcdoc="<script>parent.hit = \'srcdoc\'</script>"></iframe>',
  '[click](javascript:window.hit="link")',
  '<a href="javascript:window.hit=\'a\'">click</a>',
  '<a href="data:text/html,<script>opener.hit=1</script>">click</a>',
  '<form action="https://evil.example"><input name=key autofocus onfocus="window.hit=\'focus\'"></form>',
  '<body onload="window.hit=\'body\'">',
  '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=x onerror=window.hit=1&gt;">',
  '<div id="app"></div><b id="input" class="skip" style="position:fixed;inset:0">over everything</b>',
  '<meta http-equiv="refresh" content="0;url=https://evil.example">',
  '<base href="https://evil.example/">',
  '```html\n<script>window.hit = "code"</script>\n```',
  '`<img src=x onerror="window.hit=1">`',
].join('\n\n');

test('a hostile answer runs nothing, asks for nothing and stays in its place', async () => {
  for (const size of [3, 1000]) {
    const page = await openPage(server.url);
    await scriptAnswer(page, HOSTILE, { size });
    await ask(page, HOSTILE); // as a question too
    await page.waitForTimeout(200);
    assert.equal(await page.evaluate(() => window.hit), undefined);
    const left = await answers(page).evaluate((box) => ({
      bad: [...box.querySelectorAll('script, img, svg, style, link, iframe, form, input, meta, base, object, math, [id], [style]')].map((e) => e.outerHTML),
      links: [...box.querySelectorAll('a[href]')].map((a) => a.protocol),
    }));
    assert.deepEqual(left.bad, []);
    assert.deepEqual(left.links.filter((p) => p !== 'https:'), []);
    assert.equal(await page.evaluate(() => document.querySelectorAll('#input').length), 1);
    for (const link of await answers(page).getByText('click').all()) await link.click({ noWaitAfter: true });
    assert.equal(await page.evaluate(() => window.hit), undefined);
    assert.equal(new URL(page.url()).host, new URL(server.url).host);
    await page.reload();
    assert.equal(await page.evaluate(() => window.hit), undefined);
    if (size === 3) await screenshot(page, 'chat-hostile');
    assertQuiet(page); // the policy had nothing to stop: the sanitiser was enough
  }
});

test('the policy stands behind the sanitiser', async () => {
  const page = await openPage(server.url);
  const blocked = await page.evaluate(async () => {
    const seen = [];
    addEventListener('securitypolicyviolation', (e) => seen.push(e.effectiveDirective));
    try {
      document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.hit=1">');
    } catch {
      seen.push('trusted types');
    }
    const script = document.createElement('script');
    try {
      script.textContent = 'window.hit = 1';
      document.body.append(script);
    } catch {
      seen.push('trusted script');
    }
    await fetch('https://evil.example/').catch(() => seen.push('fetch'));
    return seen;
  });
  for (const wanted of ['trusted types', 'trusted script', 'fetch']) assert.ok(blocked.includes(wanted), `${wanted}: ${blocked}`);
  assert.equal(await page.evaluate(() => window.hit), undefined);
});

test('a key is asked for, judged, used and forgotten', async () => {
  const closed = await startServer(['--quiet', '--ctx', '256', '--api-key', 'sesame'], { model: randomModel() });
  const page = await openPage(closed.url);
  const dialog = page.getByRole('dialog', { name: 'API key' });
  await dialog.waitFor();
  await assertAccessible(page, 'the key dialog');
  await screenshot(page, 'chat-key');
  const key = page.getByLabel('Key', { exact: true });
  await key.fill('wrong');
  await key.press('Enter');
  await page.getByText('The API key is wrong.').waitFor();
  await key.fill('sesame');
  await key.press('Enter');
  await dialog.waitFor({ state: 'hidden' });
  await ask(page, 'Hi');
  assert.match(await page.locator('.stats').innerText(), /tokens?/);
  await page.reload(); // kept in this tab
  await page.getByText(/tiny|Q4_K_M/).first().waitFor();
  assert.equal(await dialog.isVisible(), false);
  const other = await openPage(closed.url, { context: page.context() });
  await other.getByRole('dialog', { name: 'API key' }).waitFor(); // but in no other
  await other.getByLabel('Key', { exact: true }).fill('sesame');
  await other.getByLabel(/Keep it in this browser/).check();
  await other.getByRole('button', { name: 'Use this key' }).click();
  await other.getByRole('dialog', { name: 'API key' }).waitFor({ state: 'hidden' });
  const third = await openPage(closed.url, { context: page.context() });
  await third.getByText(/Q4_K_M/).first().waitFor();

  // The key is lost meanwhile: the question waits for it.
  await page.evaluate(() => (sessionStorage.clear(), localStorage.clear()));
  await page.getByRole('button', { name: 'New chat' }).click(); // the first has filled its context, unless its answer was short
  await page.getByLabel('Message', { exact: true }).fill('Again');
  await page.keyboard.press('Enter');
  await dialog.waitFor();
  await key.fill('sesame');
  await key.press('Enter');
  await dialog.waitFor({ state: 'hidden' });
  await answered(page);
  assert.equal(await answers(page).count(), 1);
  assert.equal(await page.locator('.assistant .fault:visible').count(), 0);
  assertQuiet(page, [/401/]);
  assertQuiet(other, [/401/]);
  await page.context().close();
  await closed.stop();
});

test('what goes wrong is one sentence', async () => {
  const page = await openPage(server.url);
  const fault = page.locator('.assistant .fault').last();
  await ask(page, 'word '.repeat(600));
  assert.match(await fault.innerText(), /^[A-Z].*has \d+ tokens.*256 tokens.*\.$/);
  await assertAccessible(page, 'an error');
  await screenshot(page, 'chat-error');
  await page.getByRole('button', { name: 'New chat' }).click();
  await scriptAnswer(page, 'so far', { end: 'data: {"error":{"message":"the device failed"}}\n\n' });
  await ask(page, 'Hi');
  assert.equal(await fault.innerText(), 'The device failed.');
  await page.unroute('**/v1/chat/completions');
  await scriptAnswer(page, 'so far', { end: ': cut\n\n' });
  await ask(page, 'Hi');
  assert.equal(await fault.innerText(), 'The connection to the server broke off.');
  await page.unroute('**/v1/chat/completions');
  await scriptAnswer(page, 'the server is shutting down', { status: 503 });
  await ask(page, 'Hi');
  assert.equal(await fault.innerText(), 'The server is shutting down.');
  await page.unroute('**/v1/chat/completions');
  await page.route('**/v1/chat/completions', (route) => route.abort());
  await ask(page, 'Hi');
  assert.equal(await fault.innerText(), 'The server cannot be reached; is it still running?');
  await page.unroute('**/v1/chat/completions');
  await page.getByRole('button', { name: 'Try again' }).last().click();
  await answered(page);
  assert.equal(await page.locator('.assistant .fault:visible').count(), 3, 'asked again, it is answered');
  assertQuiet(page, [/400|503|ERR_FAILED/]);
});

test('a server that comes later is found', async () => {
  let down = true;
  const page = await openPage(server.url, {
    setUp: (p) => p.route('**/props', (route) => (down ? route.abort() : route.continue())),
  });
  await page.getByText('The server cannot be reached; is it still running?').waitFor();
  down = false;
  await page.getByText(/Q4_K_M/).first().waitFor();
  assert.equal(await page.locator('#notice').isVisible(), false);
  assertQuiet(page, [/ERR_FAILED/]);
});
