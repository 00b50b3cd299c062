// Chats kept in the browser: named, searched, deleted, exported, imported, shown in two tabs.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { randomModel, startServer } from '../server/harness.mjs';
import { assertAccessible, assertQuiet, openPage, screenshot } from './browser.mjs';
import { answers, ask, kept, scriptAnswer } from './chat_page.mjs';

let server;
before(async () => (server = await startServer(['--quiet', '--ctx', '512'], { model: randomModel() })));
after(() => server.stop());

async function download(page, click) {
  const [file] = await Promise.all([page.waitForEvent('download'), click()]);
  return { name: file.suggestedFilename(), text: readFileSync(await file.path(), 'utf8') };
}

const importText = (page, text) =>
  page.getByLabel('File to import').setInputFiles({ name: 'chats.json', mimeType: 'application/json', buffer: Buffer.from(text) });

test('rename, search, delete, undo', async () => {
  const page = await openPage(server.url);
  await scriptAnswer(page, 'An answer about rivers.');
  await ask(page, 'First question');
  await page.getByRole('button', { name: 'New chat' }).click();
  await ask(page, 'Second question');
  assert.deepEqual(await kept(page).allInnerTexts(), ['Second question', 'First question']);

  await page.getByRole('button', { name: 'Rename Second question' }).click();
  await page.getByLabel('Name of the chat').fill('Named by hand');
  await page.keyboard.press('Enter');
  assert.deepEqual(await kept(page).allInnerTexts(), ['Named by hand', 'First question']);
  assert.equal(await page.locator('h1').innerText(), 'Named by hand');
  await page.getByRole('button', { name: 'Rename Named by hand' }).click();
  await page.getByLabel('Name of the chat').fill('Never');
  await page.keyboard.press('Escape');
  await page.reload();
  assert.deepEqual(await kept(page).allInnerTexts(), ['Named by hand', 'First question']);

  const search = page.getByLabel('Search in all chats');
  await search.fill('first');
  assert.deepEqual(await kept(page).allInnerTexts(), ['First question']);
  await search.fill('rivers');
  assert.equal(await page.locator('#chats mark').first().innerText(), 'rivers');
  await assertAccessible(page, 'a search');
  await screenshot(page, 'chat-search');
  await search.fill('nowhere');
  await page.getByText('No chat has these words.').waitFor();
  await search.fill('');

  await page.getByRole('button', { name: 'Delete Named by hand' }).click();
  assert.deepEqual(await kept(page).allInnerTexts(), ['First question']);
  await page.getByRole('button', { name: 'Undo' }).click();
  assert.equal(await kept(page).count(), 2);
  await page.getByRole('button', { name: 'Delete Named by hand' }).click();
  await page.reload();
  assert.deepEqual(await kept(page).allInnerTexts(), ['First question']);
  assertQuiet(page);
});

test('export, delete, import: the same chat', async () => {
  const page = await openPage(server.url);
  await scriptAnswer(page, '**Bold** answer');
  await ask(page, 'A question');
  const { name, text } = await download(page, () => page.getByRole('button', { name: 'Export all chats' }).click());
  assert.match(name, /^sluice-chats-\d{4}-\d\d-\d\d\.json$/);
  await page.getByRole('button', { name: 'Settings of this chat' }).click();
  const markdown = await download(page, () => page.getByRole('button', { name: 'Export as Markdown' }).click());
  assert.equal(markdown.name, 'A-question.md');
  assert.equal(markdown.text, '# A question\n\n## Question\n\nA question\n\n## Answer\n\n**Bold** answer\n');
  const one = await download(page, () => page.getByRole('button', { name: 'Export as JSON' }).click());
  assert.deepEqual(JSON.parse(one.text), JSON.parse(text));
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Delete A question' }).click();
  assert.equal(await kept(page).count(), 0);

  await importText(page, text);
  await page.getByText('1 chat is imported.').waitFor();
  assert.equal(await answers(page).innerText(), 'Bold answer');
  await importText(page, text);
  await page.waitForFunction(() => document.querySelectorAll('#chats li').length === 2);
  await importText(page, '{"format":"sluice-chats","version":1,"chats":[{"messages":[]}]}');
  await page.getByText('This is no file of chats: chats[0].id is no text.').waitFor();
  await importText(page, 'not json');
  await page.getByText('This is no file of chats: it holds no JSON.').waitFor();
  await page.reload();
  assert.equal(await kept(page).count(), 2);
  assertQuiet(page);
});

test('two tabs show the same chats', async () => {
  const one = await openPage(server.url);
  await scriptAnswer(one, 'Hello.');
  await ask(one, 'From the first tab');
  const two = await openPage(server.url, { context: one.context() });
  await scriptAnswer(two, 'Hello again.');
  await kept(two).click();
  await ask(two, 'From the second tab');
  await one.getByText('Hello again.').waitFor();
  await two.getByRole('button', { name: 'Delete From the first tab' }).click();
  await one.waitForFunction(() => document.querySelectorAll('#chats li').length === 0);
  assertQuiet(one);
  assertQuiet(two);
});

test('a browser without storage: the page works and says that it keeps nothing', async () => {
  const page = await openPage(server.url, {
    setUp: (p) => p.addInitScript(() => Object.defineProperty(window, 'indexedDB', { value: undefined })),
  });
  await page.getByText('This browser keeps nothing: chats last until the page is closed.').waitFor();
  await scriptAnswer(page, 'Hello.');
  assert.equal(await ask(page, 'Hi'), 'Hello.');
  assert.equal(await kept(page).count(), 1);
  assertQuiet(page);
});
