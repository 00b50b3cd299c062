import { describe, expect, it } from 'vitest';
import { csvCell, toCsv, toJson } from './download';
import { rowsOf } from './testing';

describe('CSV', () => {
  it('quotes what would break a line, and disarms what would be a formula', () => {
    expect(csvCell('a,b')).toBe('"a,b"');
    expect(csvCell('say "x"')).toBe('"say ""x"""');
    expect(csvCell('a\nb')).toBe('"a\nb"');
    expect(csvCell('=1+1')).toBe("'=1+1");
    expect(csvCell('@x')).toBe("'@x");
    expect(csvCell('-9 W')).toBe('-9 W');
    expect(csvCell('-x')).toBe("'-x");
    expect(csvCell(' x')).toBe('" x"');
  });

  it('has a line per row in the order shown, with the digits of the record', () => {
    const rows = rowsOf([
      { run: 'ab', line: 1, decode_tok_s: 438.5, label: '=cmd()' },
      { run: 'ab', line: 2, decode_tok_s: null, label: null },
    ]);
    expect(toCsv(rows, [1, 0])).toBe("id,run,line,decode_tok_s,label\r\nab-2,ab,2,,\r\nab-1,ab,1,438.5,'=cmd()\r\n");
  });
});

describe('JSON', () => {
  it('is a list of objects, with what is not known left out', () => {
    const rows = rowsOf([
      {
        run: 'ab',
        line: 1,
        label: '</script>',
        findings: [{ level: 'wrong', field: null, text: 'x' }],
        ttft_ms: null,
        'decode_tok_s.size': { n: 5, level: 0.9375 },
      },
    ]);
    expect(JSON.parse(toJson(rows, [0]))).toEqual([
      {
        id: 'ab-1',
        run: 'ab',
        line: 1,
        label: '</script>',
        findings: [{ level: 'wrong', field: null, text: 'x' }],
        'decode_tok_s.size': { n: 5, level: 0.9375 },
      },
    ]);
  });
});
