import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { collect, get, greedy, post, startServer, streamedText } from './harness.mjs';

let server, complete;
before(async () => {
  server = await startServer(['--quiet']);
  complete = (body) =>
    server.client.completions.create({
      model: 'any',
      prompt: 'The sea',
      max_tokens: 10,
      ignore_eos: true,
      ...greedy,
      ...body,
    });
});
after(() => server.stop());

test('a plain and a streamed completion are the same', async () => {
  const r = await complete({});
  assert.match(r.id, /^cmpl-/);
  assert.equal(r.object, 'text_completion');
  assert.equal(r.usage.completion_tokens, 10);
  assert.equal(r.choices[0].finish_reason, 'length');
  const chunks = await collect(await complete({ stream: true }));
  assert.equal(streamedText(chunks), r.choices[0].text);
  assert.ok(chunks.every((c) => c.object === 'text_completion'));
  assert.equal((await complete({ max_tokens: null })).usage.completion_tokens, 16); // the API's default
});

test('text and its token ids are the same prompt', async () => {
  const { tokens } = (await post(server, '/tokenize', { content: 'The sea', add_special: true })).json;
  const [text, ids] = [await complete({}), await complete({ prompt: tokens })];
  assert.equal(ids.choices[0].text, text.choices[0].text);
  assert.equal(ids.usage.prompt_tokens, tokens.length);
});

test('several prompts, several answers each', async () => {
  const prompts = ['The sea', 'A hill', 'One'];
  const r = await complete({ prompt: prompts, n: 2, temperature: 1, seed: 3 });
  assert.deepEqual(
    r.choices.map((c) => c.index),
    [0, 1, 2, 3, 4, 5],
  );
  for (let p = 0; p < 3; p++) {
    for (let i = 0; i < 2; i++) {
      const alone = await complete({ prompt: prompts[p], temperature: 1, seed: 3 + i });
      assert.equal(r.choices[2 * p + i].text, alone.choices[0].text);
    }
  }
  const ids = await complete({ prompt: [[100, 101], [102]] });
  assert.equal(ids.choices.length, 2);
});

test('echo puts the prompt first', async () => {
  const bare = await complete({});
  assert.equal((await complete({ echo: true })).choices[0].text, 'The sea' + bare.choices[0].text);
  const chunks = await collect(await complete({ echo: true, stream: true }));
  assert.equal(streamedText(chunks), 'The sea' + bare.choices[0].text);
});

test('legacy logprobs', async () => {
  const r = await complete({ logprobs: 2 });
  const l = r.choices[0].logprobs;
  const n = l.tokens.length;
  assert.ok(n > 0 && n <= 10);
  assert.deepEqual([l.token_logprobs.length, l.top_logprobs.length, l.text_offset.length], [n, n, n]);
  assert.equal(l.text_offset[0], 0);
  for (let i = 0; i < n; i++) {
    assert.ok(Object.keys(l.top_logprobs[i]).length <= 2);
    assert.equal(l.top_logprobs[i][l.tokens[i]], l.token_logprobs[i]);
    if (i > 0) assert.ok(l.text_offset[i] >= l.text_offset[i - 1]);
  }
  const alone = (await complete({ logprobs: 0 })).choices[0].logprobs; // the chosen token is always listed
  assert.deepEqual(alone.tokens, l.tokens);
  alone.tokens.forEach((t, i) => assert.deepEqual(alone.top_logprobs[i], { [t]: alone.token_logprobs[i] }));
  const chunks = await collect(await complete({ logprobs: 2, stream: true }));
  const lists = chunks.map((c) => c.choices[0].logprobs).filter(Boolean);
  assert.deepEqual(
    lists.flatMap((x) => x.tokens),
    l.tokens,
  );
  assert.deepEqual(
    lists.flatMap((x) => x.text_offset),
    l.text_offset,
  );
});

test('tokenize and detokenize undo each other', async () => {
  for (const content of ['', 'plain words', 'Grüße \u{1F600} 漢字\n\ttab', 'a<|im_end|>b']) {
    for (const parse_special of [true, false]) {
      const t = (await post(server, '/tokenize', { content, parse_special })).json;
      const d = (await post(server, '/detokenize', { tokens: t.tokens })).json;
      assert.equal(d.content, content);
    }
  }
  const special = (await post(server, '/tokenize', { content: '<|im_end|>' })).json.tokens;
  assert.equal(special.length, 1);
  const pieces = (await post(server, '/tokenize', { content: 'hé', with_pieces: true })).json.tokens;
  const bytes = pieces.flatMap((p) => (typeof p.piece === 'string' ? [...Buffer.from(p.piece)] : p.piece));
  assert.equal(Buffer.from(bytes).toString(), 'hé');
  const bos = (await post(server, '/tokenize', { content: 'x', add_special: true })).json.tokens;
  assert.equal(bos.length, 2);
  for (const [route, body] of [
    ['/tokenize', {}],
    ['/tokenize', { content: 5 }],
    ['/tokenize', { content: 'a', x: 1 }],
    ['/tokenize', { content: 'a', add_special: 1 }],
    ['/detokenize', {}],
    ['/detokenize', { tokens: ['a'] }],
    ['/detokenize', { tokens: [-1] }],
    ['/detokenize', { tokens: [1e9] }],
    ['/apply-template', {}],
  ]) {
    const r = await post(server, route, body);
    assert.equal(r.status, 400, `${route} ${JSON.stringify(body)}`);
    assert.equal(r.json.error.type, 'invalid_request_error');
  }
});

test('what the server says about itself', async () => {
  const list = await server.client.models.list();
  assert.equal(list.data.length, 1);
  const model = await server.client.models.retrieve(list.data[0].id);
  assert.deepEqual(model, list.data[0]);
  await assert.rejects(server.client.models.retrieve('other'), { status: 404, code: 'model_not_found' });
  assert.deepEqual(JSON.parse((await get(server, '/health')).text), { status: 'ok' });
  const props = JSON.parse((await get(server, '/props')).text);
  const slots = JSON.parse((await get(server, '/slots')).text);
  assert.equal(slots.length, props.total_slots);
  assert.equal(slots[0].n_ctx, props.default_generation_settings.n_ctx);
  assert.ok(props.device && props.backend);
  assert.match((await get(server, '/')).text, /sluice/);
  assert.match((await get(server, '/metrics')).text, /^sluice_requests_total \d+$/m);
  const head = await fetch(`${server.url}/health`, { method: 'HEAD' });
  assert.equal(head.status, 200);
});
