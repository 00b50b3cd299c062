// @vitest-environment jsdom
import { describe, expect, it } from 'vitest';
import { stackName } from './cells';
import { columnsOf } from './columns';
import type { Rows } from './rows';
import { type PlainRow, rowsOf } from './testing';
import { PAGE_COLUMNS, shownColumns, VIEWS } from './views';

function cell(rows: Rows, id: string, i = 0): { text: string; html: string; title: string; href: string | null } {
  const made = columnsOf([id])[0]?.cell(rows, i, '../');
  const box = document.createElement('div');
  box.append(
    ...(made?.main ?? []).map((c) => (c instanceof Node ? c : String(c ?? ''))),
    '|',
    ...(made?.sub ?? []).map((c) => (c instanceof Node ? c : String(c ?? ''))),
  );
  return {
    text: (box.textContent ?? '').replaceAll('\u202f', ' '),
    html: box.innerHTML,
    title: made?.title ?? box.querySelector('[title]')?.getAttribute('title') ?? '',
    href: box.querySelector('a')?.getAttribute('href') ?? null,
  };
}

const measured: PlainRow = {
  run: 'ab',
  line: 7,
  kind: 'api',
  decode_tok_s: 439.94,
  'decode_tok_s.lo': 431.2,
  'decode_tok_s.hi': 447.4,
  'decode_tok_s.size': { n: 11, level: 0.98828125 },
  ttft_ms: 1530.2,
  'ttft_ms.lo': 980,
  'ttft_ms.hi': 1600,
  'ttft_ms.size': { n: 11, level: 0.98 },
};

describe('cells', () => {
  it('show a figure with its interval, and lead to its line', () => {
    const c = cell(rowsOf([measured]), 'decode_tok_s');
    expect(c.text).toBe('439.9|431–447');
    expect(c.href).toBe('../runs/ab.html#L7');
    expect(c.title).toContain('98.828 %'.replace(' ', '\u202f'));
  });

  it('give both ends of a time in one unit', () => {
    expect(cell(rowsOf([measured]), 'ttft_ms').text).toBe('1.53 s|0.98–1.60 s');
  });

  it('show a printed figure as its source printed it', () => {
    const rows = rowsOf([
      {
        run: 'ab',
        line: 7,
        kind: 'legacy',
        ttft_ms: 21,
        decode_tok_s: 438,
        printed: { ttft: '21ms', decode_tok_s: '438.0', vram_delta: '-0.009 GiB' },
      },
    ]);
    expect(cell(rows, 'ttft_ms').text).toBe('21ms|');
    expect(cell(rows, 'decode_tok_s')).toMatchObject({ text: '438.0|', href: '../runs/ab.html#L7' });
    expect(cell(rows, 'decode_tok_s').title).toContain('no interval');
    expect(cell(rows, 'memory').text).toBe('-0.009 GiB|change');
  });

  it('say why a value is missing', () => {
    expect(cell(rowsOf([{ kind: 'legacy', source: 'legacy' }]), 'itl_ms').title).toContain(
      'the source does not state it',
    );
    expect(cell(rowsOf([{ kind: 'api' }]), 'limit_share').title).toContain('no measured limit');
    expect(cell(rowsOf([{ kind: 'api', error: 'connection refused' }]), 'decode_tok_s').title).toContain(
      'connection refused',
    );
    expect(cell(rowsOf([{ kind: 'raw', test: 'raw' }]), 'ttft_ms').title).toContain('raw test has one rate');
  });

  it('strike out energy that is not valid', () => {
    const rows = rowsOf([
      { run: 'a', line: 1, j_per_output_token: 0.771, energy_valid: 'false', energy_reasons: ['the window is 2 s'] },
    ]);
    expect(cell(rows, 'j_per_output_token').html).toContain('<s>');
    expect(cell(rows, 'j_per_output_token').title).toContain('the window is 2 s');
  });

  it('never turn a record’s text into markup', () => {
    const hostile = '<img src=x onerror=alert(1)>"\'&\u2028';
    const rows = rowsOf([
      {
        run: 'ab',
        line: 1,
        kind: hostile,
        model: hostile,
        model_slug: '"><script>',
        hardware: hostile,
        hardware_slug: 'x',
        engine: hostile,
        build: hostile,
        device_api: hostile,
        label: hostile,
        workload: hostile,
        row: hostile,
        cache: hostile,
        quantization: hostile,
        verdict: hostile,
        verdict_reasons: [hostile],
        quality_reason: hostile,
        comparable: hostile,
        findings: [{ level: 'wrong', field: 'model', text: hostile }],
      },
    ]);
    for (const id of [...PAGE_COLUMNS, 'model']) {
      const box = document.createElement('div');
      box.innerHTML = cell(rows, id).html;
      expect(box.querySelector('img, script')).toBeNull();
    }
    expect(cell(rows, 'model').text).toContain(hostile);
  });

  it('name an engine once', () => {
    expect(stackName('sluice', 'sluice 0.1.0')).toBe('sluice 0.1.0');
    expect(stackName('llama.cpp', 'b9174')).toBe('llama.cpp b9174');
    expect(stackName(null, null)).toBe('engine not known');
  });
});

describe('views', () => {
  it('name columns that are there', () => {
    for (const view of VIEWS) {
      expect(columnsOf(view.columns).length).toBe(view.columns.length);
    }
    expect(() => columnsOf(['nothing'])).toThrow();
  });

  it('leave out optional columns that no row knows', () => {
    const ids = (row: PlainRow): string[] => shownColumns(rowsOf([row]), PAGE_COLUMNS).map((c) => c.id);
    expect(ids(measured)).not.toContain('tok_s');
    expect(ids({ ...measured, tok_s: 3 })).toContain('tok_s');
    expect(ids(measured)).toContain('j_per_output_token');
  });
});
