import { describe, expect, it } from 'vitest';
import { sorted } from './sort';

const order = (keys: (number | string | null)[], descending = false): number[] => [
  ...sorted(keys.length, (i) => keys[i] ?? null, descending),
];

describe('sorting', () => {
  it('puts what is not known last, both ways', () => {
    expect(order([3, null, 1, NaN, 2])).toEqual([2, 4, 0, 1, 3]);
    expect(order([3, null, 1, NaN, 2], true)).toEqual([0, 4, 2, 1, 3]);
    expect(order(['b', '', 'a'])).toEqual([2, 0, 1]);
    expect(order(['b', '', 'a'], true)).toEqual([0, 2, 1]);
  });

  it('keeps the order of equal rows, both ways', () => {
    expect(order([1, 0, 1, 0, 1])).toEqual([1, 3, 0, 2, 4]);
    expect(order([1, 0, 1, 0, 1], true)).toEqual([0, 2, 4, 1, 3]);
  });

  it('reads numbers within names, whatever the case', () => {
    expect(order(['b10174', 'b9174', 'B200'])).toEqual([2, 1, 0]);
  });

  it('orders 10,000 rows in a few milliseconds', () => {
    const keys = Array.from({ length: 10_000 }, (_, i) => (i * 7919) % 10_007);
    const result = order(keys);
    expect(
      result.every((row, k) => k === 0 || (keys[result[k - 1] as number] as number) <= (keys[row] as number)),
    ).toBe(true);
  });
});
