import { describe, expect, it } from 'vitest';
import {
  addressOf,
  differenceText,
  differing,
  type Field,
  fieldsOf,
  idsOf,
  pairedOf,
  ratioVerdict,
  relation,
  unpairedRatio,
} from './compare';
import type { CompareData } from './data';
import type { Figure } from './rows';
import { rowsOf } from './testing';

const FIELDS: Field[] = [
  { name: 'model', classes: ['workload', 'stack', 'hardware'], values: ['m', 'm', 'm', 'm', 'other', ''] },
  { name: 'concurrency', classes: ['workload', 'stack', 'hardware'], values: ['1', '1', '1', '1', '4', ''] },
  {
    name: 'engine',
    classes: ['stack', 'hardware'],
    values: ['llama.cpp', 'llama.cpp', 'llama.cpp', 'sluice', 'sluice', ''],
  },
  { name: 'power_cap', classes: ['hardware'], values: ['350', '350', '450', '350', '350', ''] },
];
const rows = rowsOf([
  { unfit: null, qualified: 'true' },
  { unfit: null, qualified: 'true' },
  { unfit: null, qualified: 'true' },
  { unfit: null, qualified: 'true' },
  { unfit: null, qualified: 'true' },
  { unfit: 'the row is invalid', qualified: 'false' },
]);
const of = (a: number, b: number): ReturnType<typeof relation> => relation(rows, FIELDS, a, b, 'A', 'B');

describe('what may be compared', () => {
  it('names the narrowest class that two rows share', () => {
    expect(of(0, 1)).toEqual({ ranked: true, why: null, shared: 'hardware' });
    expect(of(0, 2)).toEqual({ ranked: true, why: null, shared: 'stack' });
    expect(of(0, 3)).toEqual({ ranked: true, why: null, shared: 'workload' });
  });

  it('refuses other work and says in what', () => {
    expect(of(0, 4)).toEqual({
      ranked: false,
      why: 'not the same work: model (m, other), concurrency (1, 4)',
      shared: null,
    });
  });

  it('refuses unfit rows before anything else', () => {
    expect(of(0, 5).why).toBe('B is invalid');
    expect(of(5, 0).why).toBe('A is invalid');
  });

  it('refuses a row of measured quality beside one without', () => {
    const mixed = rowsOf([
      { qualified: 'true', unfit: null },
      { qualified: 'false', unfit: null },
    ]);
    expect(relation(mixed, FIELDS, 0, 1, 'A', 'B').why).toBe('only A has measured quality');
    expect(relation(mixed, FIELDS, 1, 0, 'A', 'B').why).toBe('only B has measured quality');
    const other: Field[] = [{ name: 'model', classes: ['workload'], values: ['m', 'n'] }];
    expect(relation(mixed, other, 0, 1, 'A', 'B').why).toBe('not the same work: model (m, n)');
  });

  it('writes out short values only', () => {
    const long = 'x'.repeat(24);
    expect(differenceText([{ name: 'sampling', classes: ['workload'], values: [long, 'y'] }], 0, 1)).toBe('sampling');
    expect(differenceText(differing(FIELDS, 0, 5, 'workload'), 0, 5)).toBe(
      'model (m, unknown), concurrency (1, unknown)',
    );
  });

  it('reads the fields of the data file', () => {
    const data = {
      fields: [{ name: 'model', classes: ['workload'] }],
      values: [{ dict: ['m', 'n'], column: '0*2,,1' }],
      comparisons: [],
    } as unknown as CompareData;
    expect(fieldsOf(data, 4)[0]?.values).toEqual(['m', 'm', '', 'n']);
  });
});

const figure = (median: number, lo: number | null, hi: number | null, level: number | null = 0.96): Figure => ({
  median,
  lo,
  hi,
  size: { n: 11, level },
  printed: false,
  digits: String(median),
});

describe('ratios', () => {
  it('of rows measured apart hold whenever both medians lie in their intervals', () => {
    const r = unpairedRatio(figure(100, 90, 110, 0.96), figure(150, 140, 160, 0.9375));
    expect(r?.value).toBe(1.5);
    expect(r?.lo).toBeCloseTo(140 / 110);
    expect(r?.hi).toBeCloseTo(160 / 90);
    expect(r?.level).toBeCloseTo(0.8975);
  });

  it('have no interval where a median has none, and none at all without both', () => {
    expect(unpairedRatio(figure(100, null, null), figure(150, 140, 160))).toMatchObject({
      value: 1.5,
      lo: null,
      hi: null,
    });
    expect(
      unpairedRatio({ ...figure(100, null, null), size: null, printed: true }, figure(150, 140, 160))?.how,
    ).toContain('printed');
    expect(unpairedRatio(null, figure(1, 1, 1))).toBeNull();
    expect(unpairedRatio(figure(0, 0, 0), figure(1, 1, 1))).toBeNull();
  });

  it('decide nothing while 1 lies within; less is better for times', () => {
    expect(ratioVerdict({ lo: 0.9, hi: 1.1 }, 'decode_tok_s')).toBe('undecided');
    expect(ratioVerdict({ lo: 1.1, hi: 1.2 }, 'decode_tok_s')).toBe('better');
    expect(ratioVerdict({ lo: 1.1, hi: 1.2 }, 'ttft_ms')).toBe('worse');
    expect(ratioVerdict({ lo: 0.8, hi: 0.9 }, 'ttft_ms')).toBe('better');
    expect(ratioVerdict({ lo: null, hi: null }, 'ttft_ms')).toBeNull();
  });

  it('of a paired comparison turn with its rows', () => {
    const line = {
      row: 'chat',
      metric: 'decode_tok_s',
      blocks: 12,
      ratio: 2,
      interval: [1.6, 2.5],
      level: 0.95,
      smallest_effect: 0.1,
      verdict: 'better',
      stopped: 'width',
      reasons: [],
      run: 'r',
      line: 9,
      a: 'r-1',
      b: 'r-2',
    };
    const data = { comparisons: [line, { ...line, a: null }] } as unknown as CompareData;
    expect(pairedOf(data, 'r-1', 'r-2')).toMatchObject([
      { ratio: 2, interval: [1.6, 2.5], verdict: 'better', turned: false },
    ]);
    expect(pairedOf(data, 'r-2', 'r-1')).toMatchObject([
      { ratio: 0.5, interval: [0.4, 0.625], verdict: 'worse', turned: true },
    ]);
    expect(pairedOf(data, 'r-1', 'r-3')).toEqual([]);
  });
});

describe('the address of a comparison', () => {
  it('holds the rows in their order, each once', () => {
    expect(idsOf('?a=x-1&b=y-2&c=x-1')).toEqual(['x-1', 'y-2']);
    expect(idsOf(addressOf(['x-1', 'y-2', 'z-3']))).toEqual(['x-1', 'y-2', 'z-3']);
    expect(idsOf('')).toEqual([]);
  });
});
