/* Series over one time axis, a panel per unit, so that watts never share an axis with megahertz. */
import { type Child, s } from '../dom';
import { figure, fixed } from '../format';
import { type DataTable, type Mark, frame, legendEntry, textAt } from './frame';
import { extent, linear } from './scale';

export interface Track {
  name: string;
  values: (number | null)[];
}

export interface Panel {
  unit: string;
  tracks: Track[];
  zero?: boolean;
}

export interface LinesOptions {
  title: string;
  about: Child[];
  /** Seconds. */
  time: number[];
  panels: Panel[];
  table: DataTable;
  href?: string | null;
  empty?: string | null;
}

const PANEL = 118;

/** Keeps the smallest and largest value of every bucket, so that a long trace loses no peak when it is drawn. */
export function thin(time: readonly number[], values: readonly (number | null)[], buckets: number): [number, number][] {
  const points: [number, number][] = [];
  const n = values.length;
  const per = Math.max(1, Math.ceil(n / Math.max(buckets, 1)));
  for (let from = 0; from < n; from += per) {
    let lo = -1;
    let hi = -1;
    for (let i = from; i < Math.min(from + per, n); i += 1) {
      const v = values[i];
      if (typeof v === 'number' && typeof time[i] === 'number') {
        lo = lo < 0 || v < (values[lo] as number) ? i : lo;
        hi = hi < 0 || v > (values[hi] as number) ? i : hi;
      }
    }
    for (const i of lo === hi ? [lo] : [Math.min(lo, hi), Math.max(lo, hi)]) {
      if (i >= 0) {
        points.push([time[i] as number, values[i] as number]);
      }
    }
  }
  return points;
}

/** The panels as one figure. */
export function lines(options: LinesOptions): HTMLElement {
  const panels = options.panels.filter((panel) => panel.tracks.some((t) => t.values.some((v) => v !== null)));
  return frame({
    title: options.title,
    about: options.about,
    table: options.table,
    empty: panels.length ? null : (options.empty ?? 'Nothing was traced.'),
    legend: panels.flatMap((panel) =>
      panel.tracks.length > 1 ? panel.tracks.map((t, i) => legendEntry(i, `${t.name} (${panel.unit})`)) : [],
    ),
    draw: (width) => {
      const left = 58;
      const right = width - 12;
      const height = panels.length * PANEL + 40;
      const range = extent(options.time) ?? [0, 1];
      const x = linear(range[0], range[1], left, right, Math.max(3, Math.floor(width / 90)), true);
      const nodes: SVGElement[] = [];
      const marks: Mark[] = [];
      panels.forEach((panel, p) => {
        const top = p * PANEL + 26;
        const bottom = (p + 1) * PANEL - 6;
        const values = extent(panel.tracks.flatMap((t) => t.values)) ?? [0, 1];
        const y = linear(values[0], values[1], bottom, top, 3, panel.zero ?? false);
        for (const t of y.ticks) {
          nodes.push(s('line', { class: 'rule', x1: left, x2: right, y1: y.at(t), y2: y.at(t) }));
          nodes.push(textAt(left - 8, y.at(t) + 4, fixed(t, y.decimals), 'end'));
        }
        const only = panel.tracks.length === 1 ? panel.tracks[0]?.name : undefined;
        nodes.push(textAt(2, top - 10, only ? `${only}, ${panel.unit}` : panel.unit, 'start', 'axis-label'));
        panel.tracks.forEach((track, i) => {
          const points = thin(options.time, track.values, Math.floor((right - left) / 2));
          const d = points.map(([t, v], k) => `${k ? 'L' : 'M'}${x.at(t).toFixed(1)} ${y.at(v).toFixed(1)}`).join('');
          nodes.push(s('path', { class: `line s${i + 1}`, d }));
          for (const [t, v] of thin(options.time, track.values, 40)) {
            marks.push({
              x: x.at(t),
              y: y.at(v),
              text: `${track.name}: ${figure(v)} ${panel.unit} at ${figure(t, 3)} s`,
              href: options.href ?? null,
            });
          }
        });
      });
      const bottom = panels.length * PANEL;
      for (const t of x.ticks) {
        nodes.push(textAt(x.at(t), bottom + 14, fixed(t, x.decimals), 'middle'));
      }
      nodes.push(textAt(right, bottom + 32, 'seconds since the start of the run', 'end', 'axis-label'));
      return { width, height, nodes, marks };
    },
  });
}
