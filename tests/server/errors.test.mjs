import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { after, afterEach, before, test } from 'node:test';
import { get, post, randomModel, startServer, user } from './harness.mjs';

let server;
before(async () => (server = await startServer(['--quiet', '--ctx', '256'], { model: randomModel() })));
after(() => server.stop());
afterEach(async () => {
  const r = await server.client.chat.completions.create({ model: 'x', messages: user('Hi'), max_tokens: 1 });
  assert.equal(r.usage.completion_tokens, 1, 'the server lives');
});

const chat = (body, headers) => post(server, '/v1/chat/completions', body, headers);
const hi = { messages: user('Hi'), max_tokens: 1 };

function refused(r, status, { param = null, code = null, text } = {}) {
  assert.equal(r.status, status, r.text);
  assert.deepEqual(Object.keys(r.json.error), ['message', 'type', 'param', 'code']);
  assert.equal(r.json.error.param, param);
  assert.equal(r.json.error.code, code);
  assert.equal(r.json.error.type, status >= 500 ? 'server_error' : 'invalid_request_error');
  if (text) assert.match(r.json.error.message, text);
}

test('bodies that are no JSON object', async () => {
  for (const [body, text] of [
    ['', /empty/],
    ['x', /object/],
    ['[]', /object/],
    ['{', /byte 1/],
    ['{"messages":[]', /byte/],
    ['{"a":NaN}', /byte 5/],
    ['{"temperature":Infinity}', /byte/],
    ["{'a':1}", /byte 1/],
    ['{"a":1}x', /byte 7/],
    ['{"a":1,"a":1}', /twice/],
    [Buffer.from('{"messages":[{"role":"user","content":"\xff"}]}', 'latin1'), /UTF-8 at byte 39/],
    [Buffer.from([0, 1, 2, 255]), /object/],
    ['{"a":'.repeat(1000), /nests deeper than 64/],
    ['{"a":"\n"}', /control character/],
    ['{}\0', /byte 2/],
  ]) {
    refused(await chat(body), 400, { text });
  }
});

test('bodies that would take too much memory, or are compressed', async () => {
  refused(await chat(`{"a":[${'0,'.repeat(1 << 20)}0]}`), 400, { text: /more than 1048576 JSON values/ });
  refused(await chat(`{"a":[${'{},'.repeat(1 << 16)}0]}`), 400, { text: /more than 65536 JSON objects/ });
  const r = await chat(Buffer.from([31, 139, 8, 0]), { 'content-encoding': 'gzip' });
  refused(r, 415, { code: 'unsupported_encoding', text: /gzip/ });
});

test('fields that are wrong or unknown are named', async () => {
  for (const [fields, param] of [
    [{ temperature: -1 }, 'temperature'],
    [{ temperature: 'hot' }, 'temperature'],
    [{ top_p: 2 }, 'top_p'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ max_tokens: 1.5 }, 'max_tokens'],
    [{ n: 9 }, 'n'],
    [{ stop: [''] }, 'stop'],
    [{ stream: 'yes' }, 'stream'],
    [{ logit_bias: { x: 1 } }, 'logit_bias'],
    [{ logit_bias: { 99999999: 1 } }, 'logit_bias'],
    [{ top_logprobs: 3 }, 'top_logprobs'],
    [{ response_format: { type: 'json_object' } }, 'response_format'],
    [{ audio: {} }, 'audio'],
    [{ prediction: {} }, 'prediction'],
    [{ functions: [] }, 'functions'],
    [{ tool_choice: 'required' }, 'tool_choice'],
    [{ tempreature: 1 }, 'tempreature'],
    [{ store: true }, 'store'],
    [{ messages: [] }, 'messages'],
    [{ messages: 'hi' }, 'messages'],
    [{ messages: null }, 'messages'],
    [{ messages: [{ role: 'robot', content: 'x' }] }, 'messages[0].role'],
    [{ messages: [...user('x'), { role: 'user' }] }, 'messages[1].content'],
    [
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] },
      'messages[0].content[0].type',
    ],
    [{ tools: [{ type: 'web' }] }, 'tools[0].type'],
  ]) {
    refused(await chat({ ...hi, ...fields }), 400, { param });
  }
  refused(await post(server, '/v1/completions', { prompt: [1e9] }), 400, { param: 'prompt' });
  refused(await post(server, '/v1/completions', { max_tokens: 1 }), 400, { param: 'prompt' });
});

test('the official client gets its own error types', async () => {
  await assert.rejects(server.client.chat.completions.create({ model: 'x', messages: [] }), (e) => {
    assert.equal(e.constructor.name, 'BadRequestError');
    assert.equal(e.param, 'messages');
    return true;
  });
});

test('a prompt beyond the context says how long it is and what the limit is', async () => {
  for (const stream of [false, true]) {
    const r = await chat({ messages: user('word '.repeat(3000)), stream });
    refused(r, 400, { param: 'messages', code: 'context_length_exceeded', text: /has \d{4,5} tokens.*256 tokens/ });
  }
  const r = await post(server, '/v1/completions', { prompt: Array(256).fill(100) });
  refused(r, 400, { param: 'prompt', code: 'context_length_exceeded', text: /256 tokens/ });
  const fits = await post(server, '/v1/completions', {
    prompt: Array(255).fill(100),
    max_tokens: 50,
    ignore_eos: true,
  });
  assert.equal(fits.json.choices[0].finish_reason, 'length');
  assert.equal(fits.json.usage.completion_tokens, 1);
});

test('an oversize body is answered 413, announced or chunked', async () => {
  const big = Buffer.alloc(10 << 20, 0x20);
  refused(await chat(big), 413, { code: 'request_too_large', text: /8388608 bytes/ });
  const stream = () =>
    new ReadableStream({
      i: 0,
      pull(c) {
        if (this.i++ < 40) c.enqueue(new Uint8Array(256 << 10).fill(0x20));
        else c.close();
      },
    });
  refused(await chat(stream()), 413, { code: 'request_too_large' });
  refused(await post(server, '/nowhere', big), 404, { code: 'unknown_url' });
  const most = JSON.stringify({ ...hi, user: '' });
  const r = await chat(most.replace('"user":"', '"user":"' + 'x'.repeat((8 << 20) - most.length)));
  assert.equal(r.status, 200, 'exactly the limit');
});

test('a client that asks before it sends is answered at once', async () => {
  const req = http.request(`${server.url}/v1/completions`, {
    method: 'POST',
    headers: { connection: 'close', expect: '100-continue', 'content-length': 1e9 },
  });
  let asked = false;
  req.on('continue', () => (asked = true));
  const res = await new Promise((resolve, reject) => {
    req.on('response', resolve).on('error', reject);
    req.flushHeaders();
  });
  assert.equal(res.statusCode, 413);
  assert.equal(asked, false);
  req.destroy();
});

test('paths and methods', async () => {
  const nowhere = await post(server, '/v1/nowhere', {});
  refused(nowhere, 404, { code: 'unknown_url' });
  const wrong = await get(server, '/v1/chat/completions');
  assert.equal(wrong.status, 405);
  assert.equal(wrong.headers.get('allow'), 'POST, OPTIONS');
  refused({ ...(await post(server, '/v1/models', {})) }, 405, { code: 'method_not_allowed' });
  refused(await post(server, '/v1/completions/', {}), 404, { code: 'unknown_url' });
  const del = await fetch(`${server.url}/health`, { method: 'DELETE' });
  assert.equal(del.status, 405);
  assert.equal(del.headers.get('allow'), 'GET, HEAD, OPTIONS');
});

test('pages of other origins may call', async () => {
  const pre = await fetch(`${server.url}/v1/chat/completions`, {
    method: 'OPTIONS',
    headers: {
      origin: 'http://x.test',
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,x-stainless-os',
    },
  });
  assert.equal(pre.status, 204);
  assert.equal(pre.headers.get('access-control-allow-origin'), '*');
  assert.equal(pre.headers.get('access-control-allow-headers'), 'authorization,x-stainless-os');
  assert.match(pre.headers.get('access-control-allow-methods'), /POST/);
  const r = await chat({}, { origin: 'http://x.test' });
  assert.equal(r.headers.get('access-control-allow-origin'), '*');
});

test('bytes that are no HTTP, and requests cut short', async () => {
  const head = 'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n';
  for (const bytes of [
    '\0\0\0\0',
    'GET',
    'nonsense\r\n\r\n',
    'GET / HTTP/9.9\r\n\r\n',
    head,
    head + '{"messages":[',
    'GET /' + 'a'.repeat(70000),
  ]) {
    await new Promise((resolve) => {
      const s = net.connect(server.port, '127.0.0.1', () => {
        s.write(Buffer.from(bytes, 'latin1'));
        setTimeout(() => s.destroy(), 30);
      });
      s.on('error', () => {});
      s.on('close', resolve);
    });
  }
});

test('several requests on one connection, sent at once', async () => {
  const body = JSON.stringify(hi);
  const one = `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const text = await new Promise((resolve, reject) => {
    let got = '';
    const s = net.connect(server.port, '127.0.0.1', () =>
      s.write(one + one + 'GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
    );
    s.setEncoding('utf8')
      .on('data', (d) => (got += d))
      .on('close', () => resolve(got))
      .on('error', reject);
  });
  assert.equal(text.match(/HTTP\/1.1 200 OK/g).length, 3);
  assert.equal(text.match(/"chat.completion"/g).length, 2);
});
