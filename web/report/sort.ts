/* Orders of rows: what is not known comes last both ways, equal rows keep the order of the records. */

export type Key = (i: number) => number | string | null;

const collator = new Intl.Collator('en', { numeric: true, sensitivity: 'base' });

/** Indexes 0 to n - 1 in the order of `key`. */
export function sorted(n: number, key: Key, descending: boolean): Uint32Array {
  const keys = Array.from({ length: n }, (_, i) => key(i));
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  const sign = descending ? -1 : 1;
  const texts = keys.some((k) => typeof k === 'string');
  // Texts are ranked once: a collator is slow, and there are few distinct ones.
  const ranks = new Map<string, number>();
  if (texts) {
    const distinct = [...new Set(keys.filter((k): k is string => typeof k === 'string' && k !== ''))];
    distinct.sort(collator.compare).forEach((text, rank) => ranks.set(text, rank));
  }
  const values = Float64Array.from(keys, (k) => (typeof k === 'string' ? (ranks.get(k) ?? NaN) : (k ?? NaN)));
  return order.sort((a, b) => {
    const x = values[a] as number;
    const y = values[b] as number;
    if (Number.isNaN(x) || Number.isNaN(y)) {
      return Number.isNaN(x) === Number.isNaN(y) ? a - b : Number.isNaN(x) ? 1 : -1;
    }
    return x === y ? a - b : (x - y) * sign;
  });
}
