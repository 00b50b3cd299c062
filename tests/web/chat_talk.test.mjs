// Talking on the chat page: the real binary, the shipped model, Chromium.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { busySlots, modelPath, randomModel, startServer, until } from '../server/harness.mjs';
import { assertAccessible, assertFitsWidth, assertQuiet, openPage, PHONE, screenshot } from './browser.mjs';
import { answered, answers, ask, kept, neverEnd, pacedServer, questions, scriptAnswer } from './chat_page.mjs';

const shipped = modelPath() !== randomModel();
let server;
before(async () => (server = await startServer(['--quiet'])));
after(() => server.stop());

test('a conversation: answers, figures, and history after a reload', { skip: !shipped && 'no shipped model' }, async () => {
  const page = await openPage(server.url);
  await page.getByText('sluice mini', { exact: true }).waitFor();
  await assertAccessible(page, 'the empty page');
  await screenshot(page, 'chat-welcome');
  assert.match(await ask(page, 'What is the capital of France?'), /Paris/);
  const figures = await page.locator('.stats').innerText();
  for (const wanted of [/tok\/s/, /to first token/, /\d+ tokens/, /0 of \d+ prompt tokens cached/]) assert.match(figures, wanted);
  assert.match(await page.locator('#context').innerText(), /^\d+ of 8,192 tokens$/);
  assert.match(await ask(page, 'Write a Python function that adds two numbers.'), /return a \+ b/);
  assert.ok((await page.locator('.hljs-keyword').count()) > 0, 'code has colours');
  await assertAccessible(page, 'a conversation');
  await screenshot(page, 'chat-light');

  await page.reload();
  assert.equal(await answers(page).count(), 2);
  assert.match(await answers(page).first().innerText(), /Paris/);
  assert.match(await page.locator('.stats').first().innerText(), /tok\/s/);
  await ask(page, 'Tell me a long story.');
  await ask(page, 'Thank you.');
  assert.match(await page.locator('.stats').last().innerText(), /\b(64|128|192|256) of \d+ prompt tokens cached/);
  assert.equal(await kept(page).count(), 1);
  await page.getByRole('button', { name: 'New chat' }).click();
  assert.equal(await answers(page).count(), 0);
  await page.getByRole('button', { name: 'What is the capital of France?', exact: true }).last().click();
  await answered(page);
  assert.equal(await kept(page).count(), 2);
  assertQuiet(page);
});

test('edit and ask again, another answer, and back to the first', { skip: !shipped && 'no shipped model' }, async () => {
  const page = await openPage(server.url);
  await ask(page, 'What is the capital of France?');
  await questions(page).first().hover();
  await page.getByRole('button', { name: 'Edit and ask again' }).click();
  await page.getByLabel('Your message').fill('What is the capital of Italy?');
  await page.getByRole('button', { name: 'Ask again', exact: true }).click();
  assert.match(await answered(page), /Rome/);
  assert.equal(await questions(page).count(), 1);
  await page.getByRole('button', { name: 'Version before' }).press('Enter');
  assert.match(await answers(page).innerText(), /Paris/);
  await page.keyboard.press('Enter'); // the focus has stayed among the versions
  assert.match(await answers(page).innerText(), /Rome/);
  await page.keyboard.press('Enter');
  assert.match(await answers(page).innerText(), /Paris/);
  await page.getByRole('button', { name: 'Another answer' }).click();
  await answered(page);
  assert.equal(await page.getByRole('group', { name: 'Versions' }).count(), 2, 'of the question and of the answer');
  await page.reload();
  assert.match(await questions(page).innerText(), /France/);
  await page.getByRole('button', { name: 'Version after' }).first().click();
  assert.match(await answers(page).innerText(), /Rome/);
  await page.getByLabel('Message', { exact: true }).press('ArrowUp');
  await page.getByLabel('Your message').press('Escape');
  assert.equal(await page.locator('.edit-form').count(), 0);
  assertQuiet(page);
});

test('stopping frees the server, and what came is kept', async () => {
  const endless = await startServer(['--quiet', '--no-draft', '--backend', 'ref'], { model: randomModel() });
  const page = await openPage(endless.url);
  await neverEnd(page);
  const first = async () => {
    await page.getByLabel('Message', { exact: true }).fill('Go on and on');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.querySelector('article.assistant:last-child .markdown')?.textContent.length > 20);
    assert.match(await page.locator('.stats').last().innerText(), /tok\/s/, 'figures while it is written');
  };
  await first();
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByText('Stopped.', { exact: true }).first().waitFor();
  await until(async () => (await busySlots(endless)).length === 0, 'the slot is free');
  await first();
  await page.keyboard.press('Escape');
  await answered(page);
  await until(async () => (await busySlots(endless)).length === 0, 'the slot is free');
  const text = await answers(page).last().innerText();
  await page.reload();
  assert.equal(await answers(page).last().innerText(), text);

  await first();
  await page.reload(); // in the middle of an answer
  await until(async () => (await busySlots(endless)).length === 0, 'the slot is free');
  assert.ok((await answers(page).last().innerText()).length > 0, 'what had come is there');
  assert.match(await page.locator('.note').last().innerText(), /closed/);

  await first();
  await page.getByRole('button', { name: 'Delete Go on and on' }).click(); // in the middle of another
  await until(async () => (await busySlots(endless)).length === 0, 'the slot is free');
  assert.equal(await kept(page).count(), 0);
  await page.reload();
  assert.equal(await kept(page).count(), 0);
  assertQuiet(page);
  await page.close();
  await endless.stop();
});

test('who scrolls up while an answer grows stays there', async () => {
  const page = await openPage(await pacedServer(server), { viewport: { width: 1000, height: 420 } });
  const scroller = page.locator('#scroller');
  const below = () => scroller.evaluate((s) => s.scrollHeight - s.scrollTop - s.clientHeight);
  await page.getByLabel('Message', { exact: true }).fill('Go on and on');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.getElementById('scroller').scrollTop > 60);
  assert.ok((await below()) < 40, 'the end is followed');
  await scroller.hover();
  await page.mouse.wheel(0, -30);
  await page.waitForFunction(() => !document.getElementById('to-end').hidden);
  const top = await scroller.evaluate((s) => s.scrollTop);
  const length = (await answers(page).innerText()).length;
  await page.waitForFunction((n) => document.querySelector('.markdown').innerText.length > n, length);
  assert.equal(await scroller.evaluate((s) => s.scrollTop), top);
  await page.getByRole('button', { name: 'To the end' }).click();
  assert.ok((await below()) < 40);
  await page.getByRole('button', { name: 'Stop' }).click();
  await answered(page);
  assertQuiet(page);
});

test('settings of a chat go to the server, and stay with the chat', async () => {
  const page = await openPage(server.url);
  const asked = await scriptAnswer(page, 'Yes.');
  await ask(page, 'First');
  assert.deepEqual(asked[0].messages, [{ role: 'user', content: 'First' }]);
  assert.ok(!('temperature' in asked[0]) && !('seed' in asked[0]), 'the model’s own values hold');

  await page.keyboard.press('Control+,');
  await page.getByLabel('System prompt').fill('Be brief.');
  const temperature = page.getByLabel('Temperature');
  const own = JSON.parse(await (await fetch(`${server.url}/props`)).text()).default_generation_settings.params;
  assert.equal(await temperature.getAttribute('placeholder'), String(own.temperature));
  assert.equal(await page.getByLabel('Repetition penalty').getAttribute('placeholder'), String(own.repeat_penalty));
  await temperature.fill('9');
  await page.getByText('A number from 0 to 5').waitFor();
  await temperature.fill('0.2');
  await page.getByLabel('Seed').fill('42');
  await page.getByLabel('Top k').press('ArrowUp');
  await assertAccessible(page, 'the settings');
  await screenshot(page, 'chat-settings');
  await page.keyboard.press('Escape');
  await ask(page, 'Second');
  assert.equal(asked[1].messages[0].content, 'Be brief.');
  assert.deepEqual(asked[1].messages.map((m) => m.role), ['system', 'user', 'assistant', 'user']);
  assert.deepEqual([asked[1].temperature, asked[1].seed, asked[1].top_k], [0.2, 42, own.top_k + 1]);
  assert.equal(asked[1].stream, true);

  await page.reload();
  await page.getByRole('button', { name: 'Settings of this chat' }).click();
  assert.equal(await temperature.inputValue(), '0.2');
  await page.getByRole('button', { name: 'Use for new chats' }).click();
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+Shift+O');
  await ask(page, 'Third');
  assert.equal(asked[2].seed, 42);
  await page.getByRole('button', { name: 'Settings of this chat' }).click();
  await page.getByRole('button', { name: 'Model’s values' }).or(page.getByRole('button', { name: "Model's values" })).click();
  await page.keyboard.press('Escape');
  await ask(page, 'Fourth');
  assert.ok(!('seed' in asked[3]));
  assertQuiet(page);
});

test('text files go into the prompt; others are refused in a sentence', async () => {
  const page = await openPage(server.url);
  const asked = await scriptAnswer(page, 'Read.');
  const attach = (name, text) =>
    page.getByLabel('Text files to attach').setInputFiles({ name, mimeType: 'text/plain', buffer: Buffer.from(text) });
  await attach('notes.txt', 'the secret is 7\n');
  await page.locator('#files').getByText(/\d+ tokens/).waitFor();
  await attach('image.png', Buffer.from([0x89, 0x50, 0, 1, 255]));
  await page.getByText('image.png is no text file in UTF-8.').waitFor();
  await attach('big.txt', 'x'.repeat((1 << 20) + 1));
  await page.getByText(/big\.txt is larger than 1\.00.MiB, the most that can be attached\./).waitFor();
  await attach('gone.txt', 'gone');
  await page.getByRole('button', { name: 'Remove gone.txt' }).click();
  await assertAccessible(page, 'attached files');
  await screenshot(page, 'chat-files');
  await ask(page, 'What is the secret?');
  assert.equal(asked[0].messages[0].content, 'File notes.txt:\n```\nthe secret is 7\n```\n\nWhat is the secret?');
  await page.locator('details.file summary').click();
  await page.getByText('the secret is 7').waitFor();
  assertQuiet(page);
});

const WIDE = `A long line of code and a wide table:

\`\`\`python
x = "${'wide '.repeat(60)}"
\`\`\`

| ${'column | '.repeat(12)}
|${'---|'.repeat(12)}
| ${'value1 | '.repeat(12)}

${'averyveryverylongword'.repeat(12)}

1. one
2. two`;

test('a phone: nothing sticks out, the list of chats slides in', async () => {
  const page = await openPage(server.url, { viewport: PHONE });
  await assertFitsWidth(page);
  await assertAccessible(page, 'the empty page on a phone');
  await screenshot(page, 'chat-phone-welcome');
  await scriptAnswer(page, WIDE);
  await ask(page, 'x'.repeat(200));
  await assertFitsWidth(page);
  await assertAccessible(page, 'a conversation on a phone');
  await screenshot(page, 'chat-phone');
  assert.equal(await kept(page).isVisible(), false);
  await page.getByRole('button', { name: 'Show the list of chats' }).click();
  assert.equal(await kept(page).isVisible(), true);
  await screenshot(page, 'chat-phone-list');
  await assertAccessible(page, 'the list on a phone');
  await kept(page).click();
  assert.equal(await kept(page).isVisible(), false);
  for (const name of ['Settings of this chat']) await page.getByRole('button', { name }).click();
  await assertFitsWidth(page);
  await screenshot(page, 'chat-phone-settings');
  assertQuiet(page);
});

test('light and dark: as the system, or as chosen', async () => {
  const page = await openPage(server.url, { scheme: 'dark' });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await scriptAnswer(page, '# Title\n\nText with `code`, a [link](https://x.example) and\n\n```python\ndef f(a):\n    return "x" + str(3)  # why\n```\n\n> quoted\n\n| a | b |\n|---|--:|\n| 1 | 2 |');
  await ask(page, 'Show me everything');
  const dark = await ground();
  await assertAccessible(page, 'the dark page');
  await screenshot(page, 'chat-dark');
  const theme = page.locator('#theme');
  await theme.click();
  assert.match(await theme.getAttribute('aria-label'), /light/);
  const light = await ground();
  assert.notEqual(light, dark);
  await assertAccessible(page, 'the light page');
  await screenshot(page, 'chat-markdown-light');
  await page.reload();
  assert.equal(await ground(), light, 'the choice is kept');
  assertQuiet(page);
});

test('keys: everything that the list of shortcuts names', async () => {
  const page = await openPage(server.url);
  await scriptAnswer(page, 'Yes.');
  const input = page.getByLabel('Message', { exact: true });
  await input.fill('one');
  await input.press('Shift+Enter');
  await page.keyboard.type('two');
  await input.press('Enter');
  await answered(page);
  assert.equal(await page.locator('.bubble').innerText(), 'one\ntwo');
  await page.keyboard.press('Control+/');
  await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor();
  await assertAccessible(page, 'the list of shortcuts');
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+b');
  assert.equal(await page.locator('#sidebar').isVisible(), false);
  await page.keyboard.press('Control+k');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'search');
  await page.keyboard.press('Control+Shift+O');
  assert.equal(await questions(page).count(), 0);
  await page.keyboard.type('typed at once');
  assert.equal(await input.inputValue(), 'typed at once', 'a new chat has the cursor in the message');
  assertQuiet(page);
});
