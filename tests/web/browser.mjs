// Debian's Chromium driven by Playwright, and the watch that every page is under: no error on the console, no request to
// any other host, nothing that axe-core calls serious.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const require = createRequire(path.join(root, 'web/package.json'));
const { chromium } = require('playwright-core');
const axeSource = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

export const slow = Number(process.env.SLUICE_TEST_SLOW ?? 1);
export const PHONE = { width: 390, height: 844 };
export const DESKTOP = { width: 1280, height: 800 };

let launched;
const closing = [];
after(async () => {
  for (const close of closing.reverse()) await close();
  await (await launched)?.close();
});

/** The one browser of a test file. */
export function browser() {
  launched ??= chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--disable-gpu', '--force-color-profile=srgb'],
  });
  return launched;
}

/**
 * A page in a browser profile of its own, opened at `url`, watched from its first byte. `page.watch` holds what was seen.
 * `scheme` is 'light' or 'dark'; `setUp(page)` runs before the first request.
 */
export async function openPage(url, { viewport = DESKTOP, scheme = 'light', context: given, setUp } = {}) {
  const context =
    given ??
    (await (await browser()).newContext({ viewport, colorScheme: scheme, acceptDownloads: true, reducedMotion: 'reduce' }));
  const page = await context.newPage();
  page.setDefaultTimeout(20000 * slow);
  page.watch = { errors: [], external: [] };
  page.on('console', (m) => ['error', 'warning'].includes(m.type()) && page.watch.errors.push(m.text()));
  page.on('pageerror', (e) => page.watch.errors.push(String(e)));
  page.on('request', (r) => isForeign(r.url(), url) && page.watch.external.push(r.url()));
  if (setUp) await setUp(page);
  await page.goto(url);
  return page;
}

function isForeign(requested, home) {
  const [a, b] = [new URL(requested), new URL(home)];
  return !['data:', 'blob:', 'about:'].includes(a.protocol) && (a.protocol !== b.protocol || a.host !== b.host);
}

/** Fails on any console error and any request to another host so far. `allow`: patterns of errors that the test provoked. */
export function assertQuiet(page, allow = []) {
  assert.deepEqual(page.watch.external, [], 'requests to other hosts');
  const errors = page.watch.errors.filter((text) => !allow.some((pattern) => pattern.test(text)));
  assert.deepEqual(errors, [], 'errors on the console');
}

/** Fails on what axe-core finds serious or critical; names the rule and the elements. */
export async function assertAccessible(page, what = 'the page') {
  await page.evaluate(axeSource);
  const found = await page.evaluate(async () => {
    const result = await window.axe.run(document, { resultTypes: ['violations'] });
    return result.violations
      .filter((v) => v.impact === 'serious' || v.impact === 'critical')
      .map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.target.join(' ')).slice(0, 5).join(' | ')}`);
  });
  assert.deepEqual(found, [], `axe-core on ${what}`);
}

/** Fails if the page scrolls sideways. */
export async function assertFitsWidth(page) {
  const [wide, shown] = await page.evaluate(() => [
    document.documentElement.scrollWidth,
    document.documentElement.clientWidth,
  ]);
  assert.ok(wide <= shown, `the page is ${wide} px wide on a screen of ${shown}`);
}

/** Writes NAME.png where $SLUICE_SCREENSHOTS names a folder; else nothing. */
export async function screenshot(page, name, options = {}) {
  const folder = process.env.SLUICE_SCREENSHOTS;
  if (folder) await page.screenshot({ path: path.join(folder, `${name}.png`), ...options });
}

const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json', '.svg': 'image/svg+xml' };

/** Serves a folder's files on loopback until the tests end; returns the URL without a slash at its end. */
export async function serveFolder(folder) {
  const server = http.createServer((req, res) => {
    const name = decodeURIComponent(new URL(req.url, 'http://x').pathname).replace(/\/$/, '/index.html');
    const file = path.join(folder, path.normalize(name));
    if (!existsSync(file)) return res.writeHead(404).end();
    res.writeHead(200, { 'content-type': types[path.extname(file)] ?? 'application/octet-stream' }).end(readFileSync(file));
  });
  return listen(server);
}

/** Starts a node:http server on loopback until the tests end; returns its URL. */
export async function listen(server) {
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => (server.closeAllConnections(), new Promise((resolve) => server.close(resolve))));
  return `http://127.0.0.1:${server.address().port}`;
}
