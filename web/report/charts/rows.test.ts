// @vitest-environment jsdom
import { describe, expect, it, vi } from 'vitest';
import { rowsOf } from '../testing';
import { limitedRate, roofChart } from './rows';

vi.stubGlobal(
  'ResizeObserver',
  class {
    observe(): void {
      // Nothing is laid out here: a chart's words and data are there without its drawing.
    }
  },
);

/** The data of a chart as text, row by row. */
function dataOf(chart: HTMLElement): string[] {
  const details = chart.querySelector('details') as HTMLDetailsElement;
  details.open = true;
  details.dispatchEvent(new Event('toggle'));
  return [...chart.querySelectorAll('tbody tr')].map((tr) =>
    [...tr.children].map((cell) => cell.textContent?.replaceAll('\u202f', ' ')).join(' | '),
  );
}

const base = { run: 'ab', line: 1, test: 'api', hardware: 'X', engine: 'e', limit_kind: 'read', limit_share: 0.5 };

describe('the roof', () => {
  it('is of one stream: the rate over its share', () => {
    const rows = rowsOf([
      { ...base, workload: 'chat', concurrency: 1, decode_tok_s: 400 },
      { ...base, workload: 'agent', concurrency: 4, decode_tok_s: 100, aggregate_tok_s: 390 },
      { ...base, test: 'raw', row: 'pp512', workload: 'pp', tok_s: 40_000, limit_kind: 'matrix' },
      { ...base, test: 'raw', row: 'tg128', workload: 'tg', tok_s: 420, limit_share: 0.6 },
    ]);
    expect(dataOf(roofChart(rows, [0, 1, 2, 3], './'))).toEqual([
      'tg128 | X · e | 420.0 | 700.0 | 60.0 %',
      'chat | X · e | 400.0 | 800.0 | 50.0 %',
    ]);
  });

  it('is left out where no limit was measured', () => {
    const rows = rowsOf([{ ...base, workload: 'chat', concurrency: 1, decode_tok_s: 400, limit_share: null }]);
    const chart = roofChart(rows, [0], './');
    expect(chart.textContent).toContain('no roof is drawn');
    expect(dataOf(chart)).toEqual(['chat | X · e | 400.0 | — | no limit']);
  });

  it('shows the newest of equal rows', () => {
    const rows = rowsOf([
      { ...base, workload: 'chat', decode_tok_s: 400, date: '2026-01-01' },
      { ...base, workload: 'chat', decode_tok_s: 300, date: '2026-02-01' },
    ]);
    expect(dataOf(roofChart(rows, [0, 1], './'))).toEqual(['chat | X · e | 300.0 | 600.0 | 50.0 %']);
  });
});

it('a row’s limit is about the rate of all its streams', () => {
  const rows = rowsOf([
    { test: 'api', concurrency: 4, decode_tok_s: 100, aggregate_tok_s: 390 },
    { test: 'raw', tok_s: 420, decode_tok_s: null },
    { test: 'api', concurrency: 4, decode_tok_s: 432, aggregate_tok_s: null },
  ]);
  expect([0, 1, 2].map((i) => limitedRate(rows, i)?.metric ?? null)).toEqual(['aggregate_tok_s', 'tok_s', null]);
});
