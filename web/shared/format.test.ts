import { expect, test } from 'vitest';
import { formatBytes, formatCount, formatMs, formatRate, formatSignificant } from './format';

const plain = (s: string) => s.replaceAll('\u202f', ' ');

test('significant digits', () => {
  expect(formatSignificant(0)).toBe('0');
  expect(formatSignificant(41.23)).toBe('41.2');
  expect(formatSignificant(41.2, 4)).toBe('41.20');
  expect(formatSignificant(12345.6)).toBe('12,346');
  expect(formatSignificant(0.012345)).toBe('0.0123');
  expect(formatSignificant(-3.14159)).toBe('-3.14');
  expect(formatSignificant(Number.NaN)).toBe('-');
});

test('units', () => {
  expect(plain(formatRate(87.654))).toBe('87.7 tok/s');
  expect(plain(formatMs(0.84))).toBe('0.840 ms');
  expect(plain(formatMs(312.4))).toBe('312 ms');
  expect(plain(formatMs(4200))).toBe('4.20 s');
  expect(plain(formatMs(185_000))).toBe('3 min 5 s');
  expect(plain(formatBytes(1023))).toBe('1023 B');
  expect(plain(formatBytes(83_149))).toBe('81.2 KiB');
  expect(plain(formatBytes(5 * 2 ** 30))).toBe('5.00 GiB');
  expect(formatCount(1234567)).toBe('1,234,567');
});
