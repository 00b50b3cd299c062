/* The charts of a model's page, drawn from the rows that its table shows. */
import { intervalText, milliseconds } from '../cells';
import { cacheText, workloadOf } from '../columns';
import { dots, type Dot } from './dots';
import { h } from '../dom';
import type { IntervalMetric } from '../data';
import { backendOf } from '../filters';
import * as format from '../format';
import { type Figure, type Rows } from '../rows';
import { SERIES_MAX } from './frame';
import { type Point, type Series, plot } from './plot';

const ROOF_MAX = 24;
const BARE_MAX = 12;
const POINTS_MAX = 600;

type Order = readonly number[];

/** A raw test that only reads prompts: its rate is none of decoding. */
function isPrefill(rows: Rows, i: number): boolean {
  return rows.is('test', i, 'raw') && (rows.is('limit_kind', i, 'matrix') || /^pp/.test(workloadOf(rows, i)));
}

/** "agent, 4 at a time, warm" */
function shape(rows: Rows, i: number): string {
  const c = rows.number('concurrency', i);
  const cache = rows.text('cache', i);
  return [
    workloadOf(rows, i),
    c !== null && c > 1 ? `${c} at a time` : '',
    cache === 'warm' || cache === 'cold' ? cache : '',
  ]
    .filter(Boolean)
    .join(', ');
}

function machine(rows: Rows, i: number): string {
  return [rows.text('hardware', i) ?? 'hardware not known', backendOf(rows, i)].filter(Boolean).join(' · ');
}

function capText(rows: Rows, i: number): string {
  const cap = rows.number('power_cap_w', i);
  return cap === null ? '' : `${format.plain(cap)} W`;
}

/** The rate that a row's limit is about: of all its streams together, and of a raw test its only one. */
export function limitedRate(rows: Rows, i: number): { metric: IntervalMetric; figure: Figure } | null {
  const metric: IntervalMetric = rows.is('test', i, 'raw')
    ? 'tok_s'
    : (rows.number('concurrency', i) ?? 1) > 1
      ? 'aggregate_tok_s'
      : 'decode_tok_s';
  const f = rows.figure(metric, i);
  return f ? { metric, figure: f } : null;
}

function figureText(f: Figure, unit: string): string {
  const iv = intervalText(f);
  return `${format.figure(f.median)}${iv ? ` [${iv}]` : ''} ${unit}${f.printed ? ', printed' : ''}`;
}

interface Rated {
  i: number;
  rate: Figure;
  share: number | null;
}

/** The newest row of each shape on each machine: many runs of one thing would be many equal lines. */
function newest(rows: Rows, list: readonly Rated[]): Rated[] {
  const byName = new Map<string, Rated>();
  for (const rated of list) {
    const { i } = rated;
    const name = [shape(rows, i), machine(rows, i), rows.text('build', i), capText(rows, i)].join('\n');
    const other = byName.get(name);
    if (!other || (rows.text('date', i) ?? '') > (rows.text('date', other.i) ?? '')) {
      byName.set(name, rated);
    }
  }
  return [...byName.values()];
}

/** Decode rates of one stream, each with the rate at which the memory alone would be the limit. */
export function roofChart(rows: Rows, order: Order, root: string): HTMLElement {
  // Streams that are decoded together share each reading of the weights: their roof is not the memory's alone.
  const single = order.filter(
    (i) => (rows.number('concurrency', i) ?? 1) <= 1 && (rows.number('batch', i) ?? 1) <= 1 && !isPrefill(rows, i),
  );
  const rated = single.flatMap((i): Rated[] => {
    const rate = limitedRate(rows, i);
    const share = rows.is('limit_kind', i, 'read') ? rows.number('limit_share', i) : null;
    return rate && rate.figure.median > 0 && !rows.is('limit_kind', i, 'matrix')
      ? [{ i, rate: rate.figure, share }]
      : [];
  });
  const limited = newest(
    rows,
    rated.filter((r) => r.share !== null),
  );
  const pool = limited.length ? limited : newest(rows, rated);
  const shown = [...pool].sort((a, b) => b.rate.median - a.rate.median).slice(0, limited.length ? ROOF_MAX : BARE_MAX);
  const entries = shown.map(({ i, rate, share }): Dot => {
    const roof = share === null || share <= 0 ? null : rate.median / share;
    const note = share === null ? 'no limit' : format.percent(share);
    const limit =
      roof === null
        ? 'limit not measured'
        : `${note} of the ${format.figure(roof)} tok/s that the measured memory bandwidth allows`;
    const text = `${shape(rows, i)} on ${machine(rows, i)}: ${figureText(rate, 'tok/s')}, ${limit}`;
    return {
      label: shape(rows, i),
      sub: [machine(rows, i), capText(rows, i)].filter(Boolean).join(' · '),
      value: rate.median,
      lo: rate.lo,
      hi: rate.hi,
      roof,
      note,
      text,
      href: root + rows.href(i),
      series: 0,
      hollow: rate.printed,
    };
  });
  return dots({
    title: 'Decoding against the bandwidth roof',
    about: [
      limited.length
        ? 'The stroke is the rate at which reading the weights alone would fill the measured memory bandwidth; ' +
          'the dot is what was reached.'
        : 'No row shown here has a measured limit beside it (bytes per token of the model file, or the ' +
          'machine’s read bandwidth, are not known), so no roof is drawn.',
      ' One stream each, the newest row of each engine, workload and power cap.',
      pool.length > shown.length ? ` The ${shown.length} fastest of ${pool.length}.` : '',
    ],
    label: 'tok/s',
    dots: entries,
    legend: [],
    table: {
      head: ['Row', 'Hardware', 'tok/s', 'Roof, tok/s', 'Share'],
      rows: entries.map((d, k) => [
        { text: d.label },
        { text: d.sub },
        { text: shown[k] ? figureText(shown[k].rate, '').trim() : '', href: d.href ?? null },
        { text: typeof d.roof === 'number' ? format.figure(d.roof) : format.DASH },
        { text: d.note },
      ]),
    },
    empty: 'No row shown here has a decode rate.',
  });
}

/** Rows in groups of one name each, those worth most first and no more than can be told apart. */
function grouped(
  order: Order,
  name: (i: number) => string,
  worth = (list: Order): number => list.length,
): [string, number[]][] {
  const groups = new Map<string, number[]>();
  for (const i of order) {
    const key = name(i);
    const group = groups.get(key);
    if (group) {
      group.push(i);
    } else {
      groups.set(key, [i]);
    }
  }
  const sorted = [...groups].sort((a, b) => worth(b[1]) - worth(a[1]));
  return sorted.slice(0, SERIES_MAX);
}

function median(list: readonly number[]): number {
  const sorted = [...list].sort((a, b) => a - b);
  return ((sorted[(sorted.length - 1) >> 1] ?? 0) + (sorted[sorted.length >> 1] ?? 0)) / 2;
}

/** Where a line goes: through the medians of the rows of one key, in the order in which the keys come. */
function middles(
  order: Order,
  key: (i: number) => number,
  x: (i: number) => number,
  y: (i: number) => number,
): { x: number; y: number }[] {
  const byKey = new Map<number, number[]>();
  for (const i of order) {
    byKey.set(key(i), [...(byKey.get(key(i)) ?? []), i]);
  }
  return [...byKey.values()].map((list) => ({ x: median(list.map(x)), y: median(list.map(y)) }));
}

function leftNote(shown: number, all: number): string {
  return shown < all ? ` ${format.plural(shown, 'row')} of ${format.plain(all)} drawn; a filter shows the others.` : '';
}

interface PointOptions {
  rows: Rows;
  root: string;
  x: (i: number) => number | null;
  y: IntervalMetric;
  yUnit: 'tok/s' | 'ms';
  text: (i: number) => string;
  hollow?: (i: number) => boolean;
  note?: (i: number) => string;
}

function points(o: PointOptions, list: Order): Point[] {
  return list.flatMap((i) => {
    const x = o.x(i);
    const f = o.rows.figure(o.y, i);
    if (x === null || !f) {
      return [];
    }
    return [
      {
        x,
        y: f.median,
        lo: f.lo,
        hi: f.hi,
        text: o.text(i),
        href: o.root + o.rows.href(i),
        hollow: o.hollow?.(i) ?? false,
        ...(o.note ? { note: o.note(i) } : {}),
      },
    ];
  });
}

/** Time to the first token over the prompt's length. */
export function ttftChart(rows: Rows, order: Order, root: string): HTMLElement {
  const usable = order.filter(
    (i) => (rows.number('prompt_tokens', i) ?? 0) > 0 && (rows.number('ttft_ms', i) ?? 0) > 0,
  );
  const groups = grouped(usable.slice(0, POINTS_MAX), (i) => machine(rows, i));
  const cold = (i: number): boolean => rows.is('cache', i, 'cold') && rows.is('cache_state', i, 'verified');
  const text = (i: number): string =>
    `${machine(rows, i)}, ${shape(rows, i)}: first token of ` +
    `${format.plain(rows.number('prompt_tokens', i) ?? 0)} prompt tokens after ` +
    `${milliseconds(rows.number('ttft_ms', i) ?? 0, 3)}, cache ${cacheText(rows, i) || 'not known'}`;
  const series = groups.map(([name, list]): Series => ({
    name,
    points: points(
      {
        rows,
        root,
        x: (i) => rows.number('prompt_tokens', i),
        y: 'ttft_ms',
        yUnit: 'ms',
        text,
        hollow: (i) => !cold(i),
      },
      list,
    ),
  }));
  const drawn = series.reduce((sum, s) => sum + s.points.length, 0);
  const listed = groups.flatMap(([, list]) => list);
  return plot({
    title: 'Time to the first token over the prompt',
    about: [
      `Filled: cold, and verified so. Hollow: warm, or of a cache state that nobody verified: such a prompt may ` +
        `not have been read at all.${leftNote(drawn, usable.length)}`,
    ],
    x: { label: 'prompt tokens', log: true },
    y: { label: 'TTFT, ms', log: true },
    series,
    table: {
      head: ['Row', 'Hardware', 'Cache', 'Prompt tokens', 'TTFT'],
      rows: listed.map((i) => [
        { text: shape(rows, i) },
        { text: machine(rows, i) },
        { text: cacheText(rows, i) },
        { text: format.plain(rows.number('prompt_tokens', i) ?? 0) },
        { text: milliseconds(rows.number('ttft_ms', i) ?? 0, 3), href: root + rows.href(i) },
      ]),
    },
    empty: 'No row shown here has both a prompt length and a time to the first token.',
  });
}

/** What all streams get together against what each waits. */
export function loadChart(rows: Rows, order: Order, root: string): HTMLElement {
  const usable = order.filter(
    (i) =>
      rows.number('aggregate_tok_s', i) !== null && rows.number('latency_ms', i) !== null && !rows.is('test', i, 'raw'),
  );
  const name = (i: number): string =>
    [machine(rows, i), rows.text('build', i), workloadOf(rows, i), rows.text('cache', i), capText(rows, i)]
      .filter(Boolean)
      .join(' · ');
  const load = (i: number): number => rows.number('rate_rps', i) ?? rows.number('concurrency', i) ?? 0;
  const groups = grouped(
    usable.slice(0, POINTS_MAX),
    name,
    (list) => new Set(list.map(load)).size * 1000 + list.length,
  );
  const at = (i: number): string => {
    const offered = rows.number('rate_rps', i);
    return offered !== null ? `${format.figure(offered, 3)}/s` : `c=${rows.number('concurrency', i) ?? '?'}`;
  };
  const text = (i: number): string =>
    `${name(i)}, ${at(i)}: ${format.figure(rows.number('aggregate_tok_s', i) ?? 0)} tok/s together, latency ` +
    `${milliseconds(rows.number('latency_ms', i) ?? 0, 3)}`;
  const series = groups.map(([title, list]): Series => {
    const byLoad = [...list].sort((a, b) => load(a) - load(b));
    return {
      name: title,
      path: middles(
        byLoad,
        load,
        (i) => rows.number('aggregate_tok_s', i) ?? 0,
        (i) => rows.number('latency_ms', i) ?? 0,
      ),
      points: points(
        {
          rows,
          root,
          x: (i) => rows.number('aggregate_tok_s', i),
          y: 'latency_ms',
          yUnit: 'ms',
          text,
          ...(list.length <= 8 ? { note: at } : {}),
        },
        byLoad,
      ),
    };
  });
  const drawn = series.reduce((sum, s) => sum + s.points.length, 0);
  return plot({
    title: 'Throughput against latency under load',
    about: [
      `Right and down is better. A line joins the loads of one engine, build, workload and power cap, through the ` +
        `middle of repeated runs.${leftNote(drawn, usable.length)}`,
    ],
    x: { label: 'tok/s of all streams together', zero: true },
    y: { label: 'latency, ms', zero: true },
    series,
    table: {
      head: ['Row', 'Load', 'tok/s together', 'Latency'],
      rows: groups.flatMap(([title, list]) =>
        list.map((i) => [
          { text: title },
          { text: at(i) },
          { text: format.figure(rows.number('aggregate_tok_s', i) ?? 0), href: root + rows.href(i) },
          { text: milliseconds(rows.number('latency_ms', i) ?? 0, 3), href: root + rows.href(i) },
        ]),
      ),
    },
    empty:
      'No row shown here states what all its streams made together. A rate of one stream times their number ' +
      'would be a guess: streams that queue do not add up.',
  });
}

/** Rate and energy per token over the power cap. */
export function powerCharts(rows: Rows, order: Order, root: string): HTMLElement[] {
  const name = (i: number): string => {
    const c = rows.number('concurrency', i) ?? 1;
    return [
      rows.text('hardware', i),
      backendOf(rows, i),
      rows.text('build', i),
      workloadOf(rows, i),
      c > 1 ? `c=${c}` : '',
      rows.is('cache', i, 'warm') ? 'warm' : '',
    ]
      .filter(Boolean)
      .join(' · ');
  };
  const chart = (
    title: string,
    about: string,
    label: string,
    value: (i: number) => Point | null,
    empty: string,
  ): HTMLElement => {
    const usable = order.filter((i) => rows.number('power_cap_w', i) !== null && value(i) !== null);
    const capOf = (i: number): number => rows.number('power_cap_w', i) ?? 0;
    const caps = (list: Order): number => new Set(list.map(capOf)).size;
    const groups = grouped(usable, name, (list) => caps(list) * 1000 + list.length);
    const series = groups.map(([title_, list]): Series => ({
      name: title_,
      path: middles(
        [...list].sort((a, b) => capOf(a) - capOf(b)),
        capOf,
        capOf,
        (i) => value(i)?.y ?? 0,
      ),
      points: list.flatMap((i) => value(i) ?? []),
    }));
    const drawn = groups.flatMap(([, list]) => list);
    const ticks = [...new Set(drawn.map(capOf))].sort((a, b) => a - b);
    return plot({
      title,
      about: [`${about}${leftNote(drawn.length, usable.length)}`],
      x: { label: 'power cap, W', ...(ticks.length <= 12 ? { ticks } : {}) },
      y: { label, zero: true },
      height: 300,
      series,
      table: {
        head: ['Row', 'Power cap', label],
        rows: drawn.map((i) => {
          const p = value(i);
          return [
            { text: name(i) },
            { text: capText(rows, i) },
            { text: p ? format.figure(p.y, 4) : '', href: root + rows.href(i) },
          ];
        }),
      },
      empty,
    });
  };
  const rate = (i: number): Point | null => {
    const f = isPrefill(rows, i) ? null : (limitedRate(rows, i)?.figure ?? null);
    const cap = rows.number('power_cap_w', i);
    return f && cap !== null
      ? {
          x: cap,
          y: f.median,
          lo: f.lo,
          hi: f.hi,
          text: `${name(i)} at ${format.plain(cap)} W: ${figureText(f, 'tok/s')}`,
          href: root + rows.href(i),
          hollow: f.printed,
        }
      : null;
  };
  const energy = (i: number): Point | null => {
    const j = rows.number('j_per_output_token', i);
    const cap = rows.number('power_cap_w', i);
    const valid = rows.is('energy_valid', i, 'true');
    return j !== null && cap !== null
      ? {
          x: cap,
          y: j,
          text: `${name(i)} at ${format.plain(cap)} W: ${format.figure(j, 3)} J per token${valid ? '' : ', not valid'}`,
          href: root + rows.href(i),
          hollow: !valid,
        }
      : null;
  };
  return [
    chart(
      'Rate over the power cap',
      'A line joins rows of one hardware, build and workload: rows of different builds are never joined. ' +
        'Hollow: printed figures.',
      'tok/s',
      rate,
      'No row shown here has a power cap.',
    ),
    chart(
      'Energy over the power cap',
      'Joules per output token. Hollow: the window of the measurement was not valid.',
      'J/token',
      energy,
      'No row shown here measured its energy and knows its power cap.',
    ),
  ];
}

/** All charts of the rows shown; those with nothing to show say why in a line each. */
export function rowCharts(rows: Rows, order: Order, root: string): HTMLElement {
  const all = [
    roofChart(rows, order, root),
    ttftChart(rows, order, root),
    loadChart(rows, order, root),
    ...powerCharts(rows, order, root),
  ];
  const isEmpty = (chart: HTMLElement): boolean => chart.querySelector('.empty') !== null;
  const empty = all.filter(isEmpty);
  return h(
    'div',
    {},
    h('div', { class: 'charts' }, ...all.filter((chart) => !isEmpty(chart))),
    empty.length
      ? h(
          'ul',
          { class: 'findings soft' },
          ...empty.map((chart) =>
            h(
              'li',
              {},
              h('b', {}, `${chart.querySelector('h3')?.textContent ?? ''}: `),
              chart.querySelector('.empty')?.textContent ?? '',
            ),
          ),
        )
      : null,
  );
}
