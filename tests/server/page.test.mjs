// The page for browsers as bytes: who gets it, in which form, with which headers. Browsers themselves: tests/web.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { randomModel, startServer } from './harness.mjs';

let server;
before(async () => (server = await startServer(['--quiet', '--ctx', '256', '--api-key', 'k'], { model: randomModel() })));
after(() => server.stop());

// fetch() asks for compressed bytes and hides that it got them.
function ask(path, headers = {}, { method = 'GET', from = server } = {}) {
  return new Promise((resolve, reject) => {
    const req = http.request(from.url + path, { method, headers: { connection: 'close', ...headers } }, (res) => {
      const parts = [];
      res.on('data', (d) => parts.push(d));
      res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(parts) }));
    });
    req.on('error', reject);
    req.end();
  });
}

const browser = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8', 'accept-encoding': 'gzip, deflate, br' };
const built = async () => (await ask('/web/chat.js')).status === 200;

test('programs get the list of endpoints, browsers the page', async () => {
  for (const headers of [{}, { accept: '*/*' }, { accept: 'application/json' }]) {
    const r = await ask('/', headers);
    assert.equal(r.status, 200);
    assert.match(r.headers['content-type'], /^text\/plain/);
    assert.match(r.body.toString(), /POST \/v1\/chat\/completions/);
  }
  const page = await ask('/', { accept: browser.accept });
  assert.equal(page.status, 200);
  assert.equal(page.headers['content-type'], 'text/html; charset=utf-8');
  assert.equal(page.headers['content-encoding'], undefined);
  assert.match(page.body.toString(), /^<!doctype html>[^]*<title>sluice<\/title>[^]*<\/html>\n?$/);
});

test('the page runs nothing inline, and nothing of others', async () => {
  const { headers, body } = await ask('/', { accept: browser.accept });
  const policy = headers['content-security-policy'];
  for (const rule of [/default-src 'none'/, /script-src 'self'/, /connect-src 'self'/, /frame-ancestors 'none'/, /base-uri 'none'/]) {
    assert.match(policy, rule);
  }
  assert.doesNotMatch(policy, /unsafe|https?:|\*/);
  assert.equal(headers['x-content-type-options'], 'nosniff');
  assert.equal(headers['referrer-policy'], 'no-referrer');
  assert.match(headers.vary, /Accept-Encoding/);
  assert.doesNotMatch(body.toString(), /<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/);
});

test('gzip where it is taken, plain bytes where not: the same', async (t) => {
  if (!(await built())) return t.skip('built without the web pages');
  const plain = await ask('/web/chat.css');
  assert.equal(plain.headers['content-type'], 'text/css; charset=utf-8');
  for (const accepted of ['gzip', 'deflate, GZIP;q=0.5', 'br,gzip ;q=1']) {
    const packed = await ask('/web/chat.css', { 'accept-encoding': accepted });
    assert.equal(packed.headers['content-encoding'], 'gzip', accepted);
    assert.equal(packed.headers['content-type'], plain.headers['content-type']);
    assert.equal(packed.headers.etag, plain.headers.etag);
    assert.deepEqual(gunzipSync(packed.body), plain.body);
  }
  for (const refused of ['', 'identity', 'gzip;q=0', 'gzip; q=0.0', 'xgzip', 'gzipx']) {
    const r = await ask('/web/chat.css', { 'accept-encoding': refused });
    assert.equal(r.headers['content-encoding'], undefined, refused);
    assert.deepEqual(r.body, plain.body);
  }
});

test('a file that the browser has is not sent again', async (t) => {
  if (!(await built())) return t.skip('built without the web pages');
  const first = await ask('/', browser);
  const { etag } = first.headers;
  assert.match(etag, /^W\/"[0-9a-f]{20}"$/);
  assert.equal(first.headers['cache-control'], 'no-cache');
  for (const tags of [etag, etag.slice(2), `"other", ${etag}`, '*']) {
    const again = await ask('/', { ...browser, 'if-none-match': tags });
    assert.equal(again.status, 304, tags);
    assert.equal(again.body.length, 0);
    assert.equal(again.headers.etag, etag);
  }
  assert.equal((await ask('/', { ...browser, 'if-none-match': 'W/"other"' })).status, 200);
  const head = await ask('/', browser, { method: 'HEAD' });
  assert.equal(head.status, 200);
  assert.equal(head.body.length, 0);
  assert.equal(Number(head.headers['content-length']), first.body.length);
  assert.equal(head.headers.etag, etag);
});

test('every file that the page names is there; nothing else is', async (t) => {
  if (!(await built())) return t.skip('built without the web pages');
  const page = (await ask('/', { accept: 'text/html' })).body.toString();
  const named = [...page.matchAll(/(?:src|href)="(web\/[^"]+)"/g)].map((m) => m[1]);
  assert.ok(named.length >= 3);
  for (const name of named) assert.equal((await ask(`/${name}`)).status, 200, name);
  for (const name of ['index', 'chat.js/', '../chat.js', '..%2fchat.js', 'x'.repeat(300), '%00']) {
    assert.equal((await ask(`/web/${name}`)).status, 404, name);
  }
  assert.equal((await ask('/web/')).status, 404);
  assert.equal((await ask('/', {}, { method: 'POST' })).status, 405);
});

test('the key protects the API, not the page', async () => {
  assert.equal((await ask('/', browser)).status, 200);
  assert.equal((await ask('/props', browser)).status, 401);
  assert.equal((await ask('/props', { ...browser, authorization: 'Bearer k' })).status, 200);
});

test('--no-web leaves only the API', async () => {
  const bare = await startServer(['--quiet', '--ctx', '256', '--no-web'], { model: randomModel() });
  const r = await ask('/', browser, { from: bare });
  assert.match(r.headers['content-type'], /^text\/plain/);
  assert.equal((await ask('/web/chat.js', browser, { from: bare })).status, 404);
  await bare.stop();
});
