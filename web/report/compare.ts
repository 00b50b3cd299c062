/*
 * What may be compared, and what a ratio is worth. The rules are those of `sluice compare` (docs/records.md, last
 * section), on the same field values.
 */
import type { CompareData, IntervalMetric } from './data';
import { expand, type Figure, type Rows } from './rows';

export type Class = 'workload' | 'stack' | 'hardware';
export const CLASSES: readonly Class[] = ['workload', 'stack', 'hardware'];

export interface Field {
  name: string;
  classes: readonly Class[];
  /** Value of every row; "" is not known, and equal to another that is not. */
  values: string[];
}

/** The fields with their values for the rows of the index. */
export function fieldsOf(data: CompareData, n: number): Field[] {
  return data.fields.map((field, f) => {
    const column = data.values[f];
    const codes = expand(column?.column, n);
    return {
      name: field.name,
      classes: field.classes,
      values: codes.map((code) => (code === '' ? '' : (column?.dict[Number(code)] ?? ''))),
    };
  });
}

export function differing(fields: readonly Field[], a: number, b: number, of: Class | null = null): Field[] {
  return fields.filter((field) => (of === null || field.classes.includes(of)) && field.values[a] !== field.values[b]);
}

/** "concurrency (1, 4), sampling": short values are shown. */
export function differenceText(fields: readonly Field[], a: number, b: number): string {
  return fields
    .map((field) => {
      const [x = '', y = ''] = [field.values[a], field.values[b]];
      return x.length < 24 && y.length < 24 ? `${field.name} (${x || 'unknown'}, ${y || 'unknown'})` : field.name;
    })
    .join(', ');
}

export interface Relation {
  /** May one be called faster than the other? */
  ranked: boolean;
  /** Why not; null where it may. */
  why: string | null;
  /** The narrowest class that both share; null where they did not do the same work. */
  shared: Class | null;
}

/** "the row has no cache": what unfits a row, as what is said after its name. */
function unfitText(reason: string): string {
  return reason.replace(/^the row /, '');
}

/** How row b stands to row a; the names are what the reasons call them. */
export function relation(
  rows: Rows,
  fields: readonly Field[],
  a: number,
  b: number,
  nameA: string,
  nameB: string,
): Relation {
  const unfit = [
    [nameA, rows.text('unfit', a)],
    [nameB, rows.text('unfit', b)],
  ].flatMap(([name, reason]) => (typeof reason === 'string' ? [`${name ?? ''} ${unfitText(reason)}`] : []));
  const work = differing(fields, a, b, 'workload');
  const shared = work.length
    ? null
    : (CLASSES.filter((c) => differing(fields, a, b, c).length === 0).pop() ?? 'workload');
  const refuse = (why: string): Relation => ({ ranked: false, why, shared });
  if (unfit.length) {
    return refuse(unfit.join('; '));
  }
  if (work.length) {
    return refuse(`not the same work: ${differenceText(work, a, b)}`);
  }
  const qualifiedA = rows.is('qualified', a, 'true');
  if (qualifiedA !== rows.is('qualified', b, 'true')) {
    return refuse(`only ${qualifiedA ? nameA : nameB} has measured quality`);
  }
  return { ranked: true, why: null, shared };
}

export interface Ratio {
  value: number;
  lo: number | null;
  hi: number | null;
  level: number | null;
  /** Which interval it is, or why there is none. */
  how: string;
}

/** b over a where the two were measured in turns: the record's own estimate. */
export interface Paired {
  ratio: number | null;
  interval: [number, number] | null;
  level: number | null;
  blocks: number;
  verdict: string;
  stopped: string;
  reasons: readonly string[];
  smallest_effect: number | null;
  run: string;
  line: number;
  metric: string;
  /** True where the record has them the other way round. */
  turned: boolean;
}

/** The comparison lines between two rows, turned so that they say b over a. */
export function pairedOf(data: CompareData, a: string, b: string): Paired[] {
  return data.comparisons.flatMap((c) => {
    const straight = c.a === a && c.b === b;
    const turned = c.a === b && c.b === a;
    if ((!straight && !turned) || c.a === null || c.b === null) {
      return [];
    }
    const flip = (v: number): number => (turned ? 1 / v : v);
    const interval = c.interval && (turned ? ([1 / c.interval[1], 1 / c.interval[0]] as [number, number]) : c.interval);
    const verdict =
      turned && (c.verdict === 'better' || c.verdict === 'worse')
        ? c.verdict === 'better'
          ? 'worse'
          : 'better'
        : c.verdict;
    return [
      {
        ratio: c.ratio === null ? null : flip(c.ratio),
        interval,
        level: c.level,
        blocks: c.blocks,
        verdict,
        stopped: c.stopped,
        reasons: c.reasons,
        smallest_effect: c.smallest_effect,
        run: c.run,
        line: c.line,
        metric: c.metric,
        turned,
      },
    ];
  });
}

/**
 * The ratio of two medians from rows that were measured apart. Its interval holds whenever both medians lie in theirs:
 * [lo b / hi a, hi b / lo a], so its level is at least level a + level b - 1 whatever the two have in common.
 */
export function unpairedRatio(a: Figure | null, b: Figure | null): Ratio | null {
  if (!a || !b || !(a.median > 0) || !(b.median > 0)) {
    return null;
  }
  const value = b.median / a.median;
  if (a.printed || b.printed) {
    return {
      value,
      lo: null,
      hi: null,
      level: null,
      how: 'of printed figures: their spread is not known, so the ratio has no interval',
    };
  }
  if (
    a.lo === null ||
    a.hi === null ||
    b.lo === null ||
    b.hi === null ||
    !(a.lo > 0) ||
    a.size?.level == null ||
    b.size?.level == null
  ) {
    return { value, lo: null, hi: null, level: null, how: 'no interval: one of the medians has none' };
  }
  const level = Math.max(0, a.size.level + b.size.level - 1);
  return {
    value,
    lo: b.lo / a.hi,
    hi: b.hi / a.lo,
    level,
    how:
      'measured apart: wide enough to hold whenever both medians lie in their own intervals; what changed on ' +
      'the machine between the two runs is not in it',
  };
}

/** Does a ratio say which is faster? Below 1 is better for times. */
export function ratioVerdict(
  r: { lo: number | null; hi: number | null },
  metric: string,
): 'better' | 'worse' | 'undecided' | null {
  if (r.lo === null || r.hi === null) {
    return null;
  }
  if (r.lo <= 1 && r.hi >= 1) {
    return 'undecided';
  }
  return r.lo > 1 === !metric.endsWith('_ms') ? 'better' : 'worse';
}

export const COMPARED: readonly { id: IntervalMetric; title: string; unit: 'tok/s' | 'ms' }[] = [
  { id: 'decode_tok_s', title: 'Decode', unit: 'tok/s' },
  { id: 'aggregate_tok_s', title: 'All streams together', unit: 'tok/s' },
  { id: 'tok_s', title: 'Raw', unit: 'tok/s' },
  { id: 'client_tok_s', title: 'End to end', unit: 'tok/s' },
  { id: 'prefill_tok_s', title: 'Prefill', unit: 'tok/s' },
  { id: 'ttft_ms', title: 'TTFT', unit: 'ms' },
  { id: 'tpot_ms', title: 'TPOT', unit: 'ms' },
  { id: 'itl_ms', title: 'ITL', unit: 'ms' },
  { id: 'latency_ms', title: 'Latency', unit: 'ms' },
];

/** Ids in an address's query, a= to z=, each once. */
export function idsOf(query: string): string[] {
  const params = new URLSearchParams(query);
  const ids: string[] = [];
  for (let c = 97; c <= 122; c += 1) {
    const id = params.get(String.fromCharCode(c));
    if (id && !ids.includes(id)) {
      ids.push(id);
    }
  }
  return ids;
}

export function addressOf(ids: readonly string[]): string {
  return `?${ids.map((id, k) => `${String.fromCharCode(97 + k)}=${encodeURIComponent(id)}`).join('&')}`;
}
