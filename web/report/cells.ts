/* How cells are made: two lines, the figure above and what qualifies it below. */
import { type Child, h } from './dom';
import type { IntervalMetric, MedianMetric, NumberColumn, TextColumn } from './data';
import * as format from './format';
import { whyMissing, whyNoInterval } from './missing';
import type { Figure, Rows } from './rows';
import type { Key } from './sort';

export interface Cell {
  main: Child[];
  sub?: Child[];
  title?: string | null;
}

export interface Column {
  id: string;
  title: string;
  /** What the figure is, for the head's title. */
  about: string;
  unit?: string;
  width: number;
  num?: boolean;
  /** Stays in sight when the table is scrolled sideways. */
  pinned?: boolean;
  /** Left out where no row knows it. */
  optional?: boolean;
  /** The bigger value is the better one: the first click sorts downwards. */
  bigger?: boolean;
  key(rows: Rows): Key;
  cell(rows: Rows, i: number, root: string): Cell;
  /** Columns of data.ts whose findings mark this cell. */
  fields: readonly string[];
}

export function dash(reason: string): HTMLElement {
  return h(
    'span',
    { class: 'dash', title: reason },
    format.DASH,
    h('span', { class: 'visually-hidden' }, ` (${reason})`),
  );
}

export function chip(kind: string, text = kind): HTMLElement {
  return h('span', { class: `chip chip-${kind.replace(/[^a-z]/g, '')}` }, text);
}

/** An engine with its build; a build that names its engine says it alone. */
export function stackName(engine: string | null, build: string | null): string {
  if (engine !== null && build !== null) {
    return build.toLowerCase().startsWith(engine.toLowerCase()) ? build : `${engine} ${build}`;
  }
  return engine ?? build ?? 'engine not known';
}

/** A number as a way to its record line. One link of a row is reached by Tab, the others lead to the same line. */
export function linked(rows: Rows, i: number, root: string, text: string, first = false): HTMLElement {
  return h('a', { href: root + rows.href(i), class: 'value', tabindex: first ? null : -1 }, text);
}

export type Show = (value: number, digits: number) => string;
const rate: Show = (v, digits) => format.figure(v, digits);

/** Title of a figure with everything that is known of it. */
function figureTitle(f: Figure, unit: string): string {
  if (f.printed) {
    return `${f.digits} ${unit}, ${whyNoInterval(f)}`;
  }
  if (f.size === null) {
    return `${f.digits} ${unit}: median; its interval stands on the pages of the model and of the run`;
  }
  const n = `median of ${format.plural(f.size.n, 'value')}`;
  if (f.lo === null || f.hi === null) {
    return `${f.digits} ${unit}: ${n}; ${whyNoInterval(f)}`;
  }
  const level = f.size.level === null ? '' : `, ${format.level(f.size.level)} interval`;
  return `${f.digits} ${unit} [${f.lo}, ${f.hi}]: ${n}${level}`;
}

/** A figure as its source wrote it, e.g. "2.05s"; null where it was measured. */
export function printedText(rows: Rows, i: number, id: IntervalMetric): string | null {
  const printed = rows.json('printed', i);
  const value = printed?.[id] ?? printed?.[id.replace(/_ms$/, '')];
  return value === undefined || value === null ? null : String(value);
}

interface MetricOptions {
  id: IntervalMetric;
  title: string;
  about: string;
  unit: string;
  show?: Show;
  width?: number;
  bigger?: boolean;
  optional?: boolean;
  first?: boolean;
  /** Shown below in place of the interval. */
  sub?: (rows: Rows, i: number) => Child[];
}

export function metric(o: MetricOptions): Column {
  const show = o.show ?? rate;
  return {
    id: o.id,
    title: o.title,
    about: o.about,
    unit: o.unit,
    width: o.width ?? 96,
    num: true,
    optional: o.optional ?? false,
    bigger: o.bigger ?? false,
    fields: [o.id],
    key: (rows) => (i) => rows.number(o.id, i),
    cell: (rows, i, root) => {
      const f = rows.figure(o.id, i);
      if (!f) {
        return { main: [dash(whyMissing(rows, i, o.id))] };
      }
      if (f.printed) {
        return {
          main: [linked(rows, i, root, printedText(rows, i, o.id) ?? f.digits, o.first)],
          title: figureTitle(f, o.unit),
        };
      }
      return {
        main: [linked(rows, i, root, show(f.median, 4), o.first)],
        sub: o.sub?.(rows, i) ?? [intervalText(f, show) || (f.size ? `n = ${f.size.n}` : '')],
        title: figureTitle(f, o.unit),
      };
    },
  };
}

/** "431–447", times in the unit of the larger end; empty without an interval. */
export function intervalText(f: { lo: number | null; hi: number | null }, show: Show = rate): string {
  if (f.lo === null || f.hi === null) {
    return '';
  }
  if (show === milliseconds) {
    const seconds = Math.abs(f.hi) >= 1000;
    return `${format.interval(seconds ? f.lo / 1000 : f.lo, seconds ? f.hi / 1000 : f.hi)}${seconds ? ' s' : ''}`;
  }
  return format.interval(f.lo, f.hi);
}

export const milliseconds: Show = (v) => format.duration(v, 3);

export function percentiles(id: 'ttft_ms' | 'latency_ms' | 'itl_ms'): (rows: Rows, i: number) => Child[] {
  return (rows, i) => {
    const f = rows.figure(id, i);
    const iv = f ? intervalText(f, milliseconds) : '';
    const p95 = rows.number(`${id}.p95`, i);
    const p99 = rows.number(`${id}.p99`, i);
    const tail = p99 !== null ? `p99 ${milliseconds(p99, 3)}` : p95 !== null ? `p95 ${milliseconds(p95, 3)}` : '';
    return [iv || tail || (f?.size ? `n = ${f.size.n}` : '')];
  };
}

interface NumberOptions {
  id: NumberColumn | MedianMetric;
  title: string;
  about: string;
  unit?: string;
  show?: (v: number) => string;
  width?: number;
  bigger?: boolean;
  optional?: boolean;
  sub?: (rows: Rows, i: number) => Child[];
}

export function number(o: NumberOptions): Column {
  return {
    id: o.id,
    title: o.title,
    about: o.about,
    ...(o.unit === undefined ? {} : { unit: o.unit }),
    width: o.width ?? 78,
    num: true,
    optional: o.optional ?? false,
    bigger: o.bigger ?? false,
    fields: [o.id],
    key: (rows) => (i) => rows.number(o.id, i),
    cell: (rows, i, root) => {
      const v = rows.number(o.id, i);
      return v === null
        ? { main: [dash(whyMissing(rows, i, o.id))], sub: o.sub?.(rows, i) ?? [] }
        : { main: [linked(rows, i, root, (o.show ?? format.plain)(v))], sub: o.sub?.(rows, i) ?? [] };
    },
  };
}

interface TextOptions {
  id: string;
  title: string;
  about: string;
  width: number;
  fields?: readonly TextColumn[];
  pinned?: boolean;
  optional?: boolean;
  text: (rows: Rows, i: number) => string;
  cell?: (rows: Rows, i: number, root: string) => Cell;
}

export function text(o: TextOptions): Column {
  return {
    id: o.id,
    title: o.title,
    about: o.about,
    width: o.width,
    pinned: o.pinned ?? false,
    optional: o.optional ?? false,
    fields: o.fields ?? [o.id],
    key: (rows) => (i) => o.text(rows, i),
    cell:
      o.cell ??
      ((rows, i) => {
        const value = o.text(rows, i);
        return value ? { main: [value], title: value } : { main: [dash('not known')] };
      }),
  };
}
