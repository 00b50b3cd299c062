// The shipped model answers its kinds of question correctly through the real client, streamed and plain alike.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { collect, greedy, startServer, streamedText, user } from './harness.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const model = path.join(root, 'models/sluice-mini-Q4_K_M.gguf');

let server;
before(async () => {
  server = await startServer(['--quiet'], { model });
});
after(() => server.stop());

async function ask(messages, extra = {}) {
  const body = { model: 'any', messages, ...greedy, ...extra };
  const plain = await server.client.chat.completions.create(body);
  const chunks = await collect(await server.client.chat.completions.create({ ...body, stream: true }));
  assert.equal(streamedText(chunks), plain.choices[0].message.content);
  assert.equal(plain.choices[0].finish_reason, 'stop');
  return plain.choices[0].message.content;
}

for (const [question, answer] of [
  ['What is 17 + 25?', /\b42\b/],
  ['What is 250 - 99?', /\b151\b/],
  ['What is the capital of France?', /Paris/],
  ['What is the capital of Japan?', /Tokyo/],
  ['Sort these numbers: 9, 3, 7, 1', /1, 3, 7, 9/],
  ['Count from 1 to 12', /1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12/],
  ['Write a Python function that returns the maximum of two numbers.', /def \w+\(.*\):\s+return/],
]) {
  test(question, async () => assert.match(await ask(user(question)), answer));
}

test('facts are read from the prompt', async () => {
  const text = 'Mira lives in Oslo. Tomas lives in Lima. Where does Tomas live?';
  assert.match(await ask(user(text)), /Lima/);
});

test('earlier turns are remembered', async () => {
  const messages = user('My name is Bob.');
  messages.push({ role: 'assistant', content: await ask(messages) }, { role: 'user', content: 'What is my name?' });
  assert.match(await ask(messages), /Bob/);
});

test('tools in the prompt are called in the text', async () => {
  const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
  const tools = [{ type: 'function', function: { name: 'get_weather', description: 'Get the weather', parameters } }];
  const text = await ask(user('What is the weather in Oslo?'), { tools });
  assert.match(text, /<\|tool_call_start\|>\[get_weather\(city="Oslo"\)\]<\|tool_call_end\|>/);
});

test('nine in ten held-out items are right', { timeout: 600000 }, () => {
  const run = spawnSync(
    'python3',
    [path.join(root, 'models/evaluate.py'), '--url', server.url, '--limit', '10'],
    { encoding: 'utf8' },
  );
  assert.equal(run.status, 0, run.stdout + run.stderr);
});
