/* Points over two axes, with whiskers for intervals and, where a series has an order, a line through its points. */
import type { Child } from '../dom';
import { s } from '../dom';
import { fixed } from '../format';
import { type DataTable, type Mark, frame, legendEntry, marker, textAt } from './frame';
import { type Scale, extent, linear, logarithmic } from './scale';

export interface Point {
  x: number;
  y: number;
  /** Interval of y. */
  lo?: number | null;
  hi?: number | null;
  /** What it is, as a sentence. */
  text: string;
  href?: string | null;
  hollow?: boolean;
  /** Written beside the mark. */
  note?: string;
}

export interface Series {
  name: string;
  points: Point[];
  /** What its line goes through; none: no line. */
  path?: { x: number; y: number }[];
}

export interface Axis {
  label: string;
  log?: boolean;
  zero?: boolean;
  /** Ticks at these values only (e.g. the power caps that were measured). */
  ticks?: number[];
}

export interface PlotOptions {
  title: string;
  about: Child[];
  x: Axis;
  y: Axis;
  series: Series[];
  height?: number;
  table: DataTable;
  legendExtra?: Child[];
  empty?: string | null;
}

function axis(a: Axis, values: number[], from: number, to: number, wanted: number): Scale {
  const range = extent(values) ?? [0, 1];
  return a.log && range[0] > 0
    ? logarithmic(range[0], range[1], from, to, wanted)
    : linear(range[0], range[1], from, to, wanted, a.zero ?? false);
}

/** Grid lines, ticks and titles of both axes. */
export function axes(x: Scale, y: Scale, area: Area, xLabel: string, yLabel: string, xTicks?: number[]): SVGElement[] {
  const nodes: SVGElement[] = [];
  for (const t of y.ticks) {
    const at = y.at(t);
    nodes.push(s('line', { class: 'rule', x1: area.left, x2: area.right, y1: at, y2: at }));
    nodes.push(
      textAt(
        area.left - 8,
        at + 4,
        fixed(t, y.log ? Math.max(0, -Math.floor(Math.log10(t) + 1e-9)) : y.decimals),
        'end',
      ),
    );
  }
  let end = -Infinity;
  for (const t of xTicks ?? x.ticks) {
    const at = x.at(t);
    const text = fixed(t, xTicks ? 0 : x.log ? Math.max(0, -Math.floor(Math.log10(t) + 1e-9)) : x.decimals);
    nodes.push(s('line', { class: 'tick-mark', x1: at, x2: at, y1: area.bottom, y2: area.bottom + 4 }));
    if (at - text.length * 3.6 > end) {
      nodes.push(textAt(at, area.bottom + 17, text, 'middle'));
      end = at + text.length * 3.6 + 6;
    }
  }
  nodes.push(s('line', { class: 'axis', x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom }));
  nodes.push(textAt(area.right, area.bottom + 34, xLabel, 'end', 'axis-label'));
  nodes.push(textAt(2, area.top - 12, yLabel, 'start', 'axis-label'));
  return nodes;
}

export interface Area {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

function drawSeries(
  series: Series,
  index: number,
  x: Scale,
  y: Scale,
  area: Area,
  nodes: SVGElement[],
  marks: Mark[],
): void {
  if (series.path && series.path.length > 1) {
    const d = series.path.map((p, i) => `${i ? 'L' : 'M'}${x.at(p.x).toFixed(1)} ${y.at(p.y).toFixed(1)}`).join('');
    nodes.push(s('path', { class: `line s${index + 1}`, d }));
  }
  for (const p of series.points) {
    const px = x.at(p.x);
    const py = y.at(p.y);
    if (typeof p.lo === 'number' && typeof p.hi === 'number') {
      const d = `M${px} ${y.at(p.lo).toFixed(1)}V${y.at(p.hi).toFixed(1)}`;
      nodes.push(s('path', { class: `whisker s${index + 1}`, d }));
    }
    nodes.push(marker(index, px, py, 4.5, p.hollow));
    if (p.note) {
      const flip = px + p.note.length * 6 + 10 > area.right;
      nodes.push(textAt(flip ? px - 8 : px + 8, py - 6, p.note, flip ? 'end' : 'start', 'note'));
    }
    marks.push({ x: px, y: py, text: p.text, href: p.href ?? null });
  }
}

/** A scatter or line chart as a figure. */
export function plot(options: PlotOptions): HTMLElement {
  const points = options.series.flatMap((series) => series.points);
  const all = (lo: 'lo' | 'hi'): number[] => points.map((p) => p[lo]).filter((v): v is number => typeof v === 'number');
  return frame({
    title: options.title,
    about: options.about,
    table: options.table,
    empty: points.length ? null : (options.empty ?? 'Nothing to draw.'),
    legend: [
      ...(options.series.length > 1 || options.legendExtra
        ? options.series.map((series, i) => legendEntry(i, series.name))
        : []),
      ...(options.legendExtra ?? []),
    ],
    draw: (width) => {
      const height = options.height ?? Math.round(Math.min(340, Math.max(240, width * 0.5)));
      const area = { left: 58, right: width - 14, top: 26, bottom: height - 42 };
      const wanted = Math.max(3, Math.floor((area.right - area.left) / 80));
      const x = axis(
        options.x,
        points.map((p) => p.x),
        area.left + 10,
        area.right - 10,
        wanted,
      );
      const y = axis(options.y, [...points.map((p) => p.y), ...all('lo'), ...all('hi')], area.bottom, area.top, 5);
      const nodes = axes(x, y, area, options.x.label, options.y.label, options.x.ticks);
      const marks: Mark[] = [];
      options.series.forEach((series, i) => drawSeries(series, i, x, y, area, nodes, marks));
      return { width, height, nodes, marks };
    },
  });
}
