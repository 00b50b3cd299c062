import { expect, test } from 'vitest';
import { readTextFile } from './composer';
import { fileName } from './app';
import { FIELDS, readField } from './settings';
import { dayName } from './sidebar';

const field = (key: string) => FIELDS.find((f) => f.key === key)!;

test('numbers of the settings', () => {
  expect(readField(field('temperature'), '')).toBeNull();
  expect(readField(field('temperature'), ' 0,7 ')).toBe(0.7);
  expect(readField(field('temperature'), '0')).toBe(0);
  expect(readField(field('temperature'), '6')).toBe('A number from 0 to 5');
  expect(readField(field('temperature'), 'hot')).toBe('A number from 0 to 5');
  expect(readField(field('top_k'), '40')).toBe(40);
  expect(readField(field('top_k'), '1.5')).toMatch(/whole/);
  expect(readField(field('presence_penalty'), '-2')).toBe(-2);
  expect(readField(field('seed'), '1e3')).toBe(1000);
  expect(readField(field('max_tokens'), '0')).toMatch(/from 1/);
});

test('files that can be attached', async () => {
  expect(await readTextFile(new File(['grüße\n'], 'a.txt'))).toEqual({ name: 'a.txt', text: 'grüße\n' });
  expect(await readTextFile(new File([], 'a.txt'))).toMatch(/is empty/);
  expect(await readTextFile(new File([Uint8Array.of(0xff, 0xfe, 0)], 'a.bin'))).toMatch(/no text file/);
  expect(await readTextFile(new File(['a\0b'], 'a.bin'))).toMatch(/no text file/);
  expect(await readTextFile(new File(['x'.repeat((1 << 20) + 1)], 'big.txt'))).toMatch(/larger than/);
});

test('names of files and days', () => {
  expect(fileName('What is "this"? / Größe')).toBe('What-is-this-Größe');
  expect(fileName('???')).toBe('chat');
  const now = new Date(2026, 4, 20, 12).getTime();
  const at = (day: number, month = 4) => dayName(new Date(2026, month, day, 11).getTime(), now);
  expect([at(20), at(19), at(15), at(1), at(3, 2)]).toEqual(['Today', 'Yesterday', 'The last 7 days', 'May 2026', 'March 2026']);
});
