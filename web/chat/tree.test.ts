import { expect, test } from 'vitest';
import { add, before, newChat, path, promptText, siblings, title, turn } from './tree';

const texts = (chat: Parameters<typeof path>[0]) => path(chat).map((m) => m.text);

test('an edited question is a sibling, and both can be shown', () => {
  const chat = newChat();
  const q1 = add(chat, null, 'user', 'q1');
  const a1 = add(chat, q1.id, 'assistant', 'a1');
  const q2 = add(chat, a1.id, 'user', 'q2');
  add(chat, q2.id, 'assistant', 'a2');
  expect(texts(chat)).toEqual(['q1', 'a1', 'q2', 'a2']);
  const edited = add(chat, a1.id, 'user', 'q2, better');
  add(chat, edited.id, 'assistant', 'a3');
  expect(texts(chat)).toEqual(['q1', 'a1', 'q2, better', 'a3']);
  expect(siblings(chat, a1.id)).toEqual([q2, edited]);
  expect(turn(chat, edited, 1)).toBe(false);
  expect(turn(chat, edited, -1)).toBe(true);
  expect(texts(chat)).toEqual(['q1', 'a1', 'q2', 'a2']);
  expect(before(chat, q2)).toEqual([q1, a1]);
});

test('a second answer stands beside the first', () => {
  const chat = newChat();
  const q = add(chat, null, 'user', 'q');
  const a1 = add(chat, q.id, 'assistant', 'one');
  const a2 = add(chat, q.id, 'assistant', 'two');
  expect(path(chat)).toEqual([q, a2]);
  turn(chat, a2, -1);
  expect(path(chat)).toEqual([q, a1]);
  chat.chosen = {};
  expect(path(chat)).toEqual([q, a2]); // the newest where nothing was chosen
});

test('titles', () => {
  const chat = newChat();
  expect(title(chat)).toBe('New chat');
  add(chat, null, 'user', '  What is this?\nAnd more');
  expect(title(chat)).toBe('What is this?');
  chat.title = 'Mine';
  expect(title(chat)).toBe('What is this?');
  chat.titled = true;
  expect(title(chat)).toBe('Mine');
  const long = newChat();
  add(long, null, 'user', 'word '.repeat(40));
  expect(title(long).length).toBeLessThanOrEqual(61);
  expect(title(long)).toMatch(/word…$/);
  const onlyFile = newChat();
  add(onlyFile, null, 'user', '', [{ name: 'notes.txt', text: 'x' }]);
  expect(title(onlyFile)).toBe('notes.txt');
});

test('files go before the text, in a fence that they cannot close', () => {
  const chat = newChat();
  const m = add(chat, null, 'user', 'Explain.', [
    { name: 'a.md', text: 'x\n```js\n1\n```\n' },
    { name: 'b.txt', text: 'plain' },
  ]);
  expect(promptText(m)).toBe('File a.md:\n````\nx\n```js\n1\n```\n````\n\nFile b.txt:\n```\nplain\n```\n\nExplain.');
  expect(promptText(add(chat, m.id, 'assistant', 'Yes'))).toBe('Yes');
});
