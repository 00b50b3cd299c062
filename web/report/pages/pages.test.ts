// @vitest-environment jsdom
import { describe, expect, it } from 'vitest';
import { rowsOf } from '../testing';
import { sortsOfFindings } from './model';
import { kindOf, layOut } from './raw';
import { panelsOf, unitOf } from './run';
import { barOf, gaps, type Sample } from './samples';

describe('a record line laid out', () => {
  it('keeps every byte of its values', () => {
    const line =
      '{"kind":"probe","median":391.0,"big":1e400,"name":"a \\"b\\" {[,:]} ' +
      '\\\\","list":[1.50,2],"deep":[{"a":[]},{"b":{}}],"none":{}}';
    const laid = layOut(line) ?? '';
    expect(laid.replace(/\n */g, '').replaceAll(', ', ',').replaceAll(': ', ':')).toBe(line.replaceAll(', ', ','));
    expect(laid).toContain('391.0');
    expect(laid).toContain('[1.50, 2]');
    expect(laid.split('\n').length).toBeGreaterThan(8);
  });

  it('is not tried on what is no JSON, or too long', () => {
    expect(layOut('{"kind":')).toBeNull();
    expect(layOut(`{"x":"${'a'.repeat(200_001)}"}`)).toBeNull();
  });

  it('says its kind', () => {
    expect(kindOf('{"kind":"sample","prev":""}')).toBe('sample');
    expect(kindOf('nothing')).toBe('');
  });
});

describe('samples', () => {
  it('give the gaps between tokens', () => {
    expect(gaps([10, 30, 30, 45])).toEqual([20, 0, 15]);
    expect(gaps([10])).toEqual([]);
  });

  it('give bars on the clock of the record', () => {
    const data = {
      target: 1,
      run: 3,
      stream: 2,
      send_ms: 2000,
      first_token_ms: 500,
      end_ms: 1500,
      token_ms: [500, 1500],
      ok: true,
      warmup: false,
    } as unknown as Sample['data'];
    expect(barOf({ line: 4, data }, '#L4', true)).toMatchObject({
      label: 'B 3.2',
      send: 2,
      first: 2.5,
      end: 3.5,
      tokens: [2.5, 3.5],
    });
    expect(barOf({ line: 4, data: { ...data, end_ms: null } }, '', false)).toBeNull();
  });
});

describe('traces', () => {
  it('put each unit on its own axis', () => {
    expect(unitOf('gpu0_sm_mhz')).toEqual({ unit: 'MHz', scale: 1 });
    expect(unitOf('steal_share')).toEqual({ unit: '%', scale: 100 });
    const panels = panelsOf({
      kind: 'trace',
      interval_ms: 100,
      t_ms: [0],
      series: { gpu0_w: [300], gpu0_sm_mhz: [1980], gpu0_mem_mhz: [null], rss_bytes: [2 ** 30] },
    });
    expect(panels.map((p) => [p.unit, p.tracks.map((t) => t.values[0])])).toEqual([
      ['W', [300]],
      ['MHz', [1980, null]],
      ['GiB', [1]],
    ]);
  });
});

describe('findings', () => {
  it('of one wording with other numbers are of one sort', () => {
    const wrong = (text: string): object => ({ level: 'legacy', field: 'client_tok_s', text });
    const rows = rowsOf([
      { findings: [wrong('client 385.1 tok/s is not 100 / 248ms')] },
      { findings: [wrong('client 99 tok/s is not 7 / 2.05s'), { level: 'wrong', field: null, text: 'other' }] },
      { findings: [wrong('client 385.1 tok/s is not 100 / 248ms')] },
    ]);
    const sorts = sortsOfFindings(rows);
    expect(sorts.map((told) => told.map((t) => t.rows))).toEqual([[[1]], [[0, 2], [1]]]);
  });
});
