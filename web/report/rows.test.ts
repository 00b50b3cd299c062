import { describe, expect, it } from 'vitest';
import { expand, Rows } from './rows';
import { rowsOf } from './testing';

describe('columns', () => {
  it('spells out runs of equal values, of unknown ones too', () => {
    expect(expand('1*3,,2,*2', 7)).toEqual(['1', '1', '1', '', '2', '', '']);
    expect(expand(undefined, 2)).toEqual(['', '']);
    expect(expand('', 1)).toEqual(['']);
    expect(expand('', 0)).toEqual([]);
  });

  it('refuses a column that is longer or shorter than its table', () => {
    expect(() => expand('1,2', 3)).toThrow('2 items in a table of 3');
    expect(() => expand('1*4', 3)).toThrow('4 items');
  });

  it('keeps the digits of the record', () => {
    const rows = new Rows({ n: 2, dict: {}, columns: { decode_tok_s: '438.0,439.9', line: '5,6' } });
    expect(rows.figure('decode_tok_s', 0)).toMatchObject({ median: 438, digits: '438.0', lo: null, size: null });
    expect(rows.number('decode_tok_s', 1)).toBe(439.9);
  });

  it('tells a printed figure from one whose interval this page leaves out', () => {
    const rows = rowsOf([
      { decode_tok_s: 1, printed: { decode_tok_s: '1.0' } },
      { decode_tok_s: 2, printed: null },
      { decode_tok_s: 3, 'decode_tok_s.size': { n: 9, level: 0.96 }, 'decode_tok_s.lo': 2, 'decode_tok_s.hi': 4 },
    ]);
    expect([0, 1, 2].map((i) => rows.figure('decode_tok_s', i)?.printed)).toEqual([true, false, false]);
    expect(rows.figure('decode_tok_s', 2)).toMatchObject({ lo: 2, hi: 4, size: { n: 9, level: 0.96 } });
  });

  it('reads what is not known as null, never as zero', () => {
    const rows = rowsOf([{ ttft_ms: null, model: null, line: 3, run: 'ab' }]);
    expect(rows.number('ttft_ms', 0)).toBeNull();
    expect(rows.text('model', 0)).toBeNull();
    expect(rows.figure('ttft_ms', 0)).toBeNull();
    expect(rows.findings(0)).toEqual([]);
  });

  it('addresses the very line of a row', () => {
    const rows = rowsOf([{ run: '48d0ec36bfbe0000', line: 17 }]);
    expect(rows.id(0)).toBe('48d0ec36bfbe0000-17');
    expect(rows.href(0)).toBe('runs/48d0ec36bfbe0000.html#L17');
  });
});
