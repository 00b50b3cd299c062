/* One line per target: a dot with its interval, and the limit that it runs against where one was measured. */
import { type Child, s } from '../dom';
import { figure, fixed } from '../format';
import { type DataTable, type Mark, frame, legendEntry, marker, textAt } from './frame';
import { type Scale, linear, logarithmic } from './scale';

export interface Dot {
  label: string;
  sub: string;
  value: number;
  lo?: number | null;
  hi?: number | null;
  /** The limit in the same unit. */
  roof?: number | null;
  /** At the right end of the line. */
  note: string;
  text: string;
  href?: string | null;
  series: number;
  hollow?: boolean;
}

export interface DotsOptions {
  title: string;
  about: Child[];
  label: string;
  dots: Dot[];
  legend: string[];
  legendExtra?: Child[];
  table: DataTable;
  /** A ratio is read against 1, on a logarithmic axis. */
  reference?: number;
  empty?: string | null;
}

const LINE = 38;

/** A text cut to the pixels that it may take; the tip and the table have all of it. */
function fitted(text: string, width: number, each: number): string {
  const room = Math.floor(width / each);
  return text.length > room ? `${text.slice(0, room - 1)}…` : text;
}

function line(
  d: Dot,
  x: Scale,
  top: number,
  left: number,
  right: number,
  narrow: boolean,
): { nodes: SVGElement[]; mark: Mark } {
  const y = top + (narrow ? 42 : 17);
  const nodes: SVGElement[] = [s('line', { class: 'rule', x1: left, x2: right, y1: y, y2: y })];
  if (narrow) {
    nodes.push(textAt(left, top + 12, fitted(d.label, right + 60, 7), 'start', 'dot-label'));
    nodes.push(textAt(left, top + 26, fitted(d.sub, right + 60, 6.2), 'start', 'dot-sub'));
  } else {
    nodes.push(textAt(left - 12, d.sub ? y - 2 : y + 4, fitted(d.label, left, 7), 'end', 'dot-label'));
    nodes.push(textAt(left - 12, y + 12, fitted(d.sub, left, 6), 'end', 'dot-sub'));
  }
  if (typeof d.roof === 'number') {
    const roof = x.at(d.roof);
    nodes.push(s('line', { class: 'to-roof', x1: x.at(d.value), x2: roof, y1: y, y2: y }));
    nodes.push(s('line', { class: 'roof', x1: roof, x2: roof, y1: y - 9, y2: y + 9 }));
  }
  if (typeof d.lo === 'number' && typeof d.hi === 'number') {
    nodes.push(
      s('path', { class: `whisker s${d.series + 1}`, d: `M${x.at(d.lo).toFixed(1)} ${y}H${x.at(d.hi).toFixed(1)}` }),
    );
  }
  nodes.push(marker(d.series, x.at(d.value), y, 5, d.hollow));
  nodes.push(textAt(right + 10, y + 4, d.note, 'start', 'dot-note'));
  return { nodes, mark: { x: x.at(d.value), y, text: d.text, href: d.href ?? null } };
}

function scaleOf(options: DotsOptions, from: number, to: number): Scale {
  const values = options.dots.flatMap((d) =>
    [d.value, d.lo, d.hi, d.roof].filter((v): v is number => typeof v === 'number'),
  );
  if (options.reference !== undefined) {
    const reference = options.reference;
    const pad = 1.06;
    const low = Math.min(reference, ...values) / pad;
    const high = Math.max(reference, ...values) * pad;
    if (high / low > 6) {
      return logarithmic(low, high, from, to, 7);
    }
    // Equal factors are equal distances: twice as fast lies as far from 1 as half as fast. Ticks stay round.
    const { ticks, decimals } = linear(low, high, from, to, 6, false);
    const a = Math.log(low);
    return {
      ticks: ticks.filter((t) => t >= low && t <= high),
      decimals,
      log: true,
      at: (v) => from + ((Math.log(v) - a) * (to - from)) / (Math.log(high) - a),
    };
  }
  return linear(0, Math.max(...values), from, to, Math.max(3, Math.floor((to - from) / 90)), true);
}

/** The dot plot as a figure. */
export function dots(options: DotsOptions): HTMLElement {
  return frame({
    title: options.title,
    about: options.about,
    table: options.table,
    empty: options.dots.length ? null : (options.empty ?? 'Nothing to draw.'),
    legend: [
      // Of series that are drawn: an entry for something that is not there would be looked for.
      ...(options.legend.length > 1 ? options.legend : []).flatMap((name, i) =>
        options.dots.some((d) => d.series === i) ? [legendEntry(i, name)] : [],
      ),
      ...(options.legendExtra ?? []),
    ],
    draw: (width) => {
      const narrow = width < 640;
      const step = narrow ? LINE + 20 : LINE;
      const widest = Math.max(...options.dots.map((d) => Math.max(d.label.length * 7, d.sub.length * 6)));
      const left = narrow ? 4 : Math.min(Math.max(widest + 16, 120), Math.round(width * 0.38));
      const noteWidth = Math.max(...options.dots.map((d) => d.note.length)) * 6.6 + 14;
      const right = width - noteWidth;
      const height = options.dots.length * step + 46;
      const x = scaleOf(options, left + 8, right - 8);
      const bottom = options.dots.length * step + 4;
      const nodes: SVGElement[] = [];
      const decimals = x.decimals;
      for (const t of x.ticks) {
        nodes.push(s('line', { class: 'rule', x1: x.at(t), x2: x.at(t), y1: 0, y2: bottom }));
        nodes.push(textAt(x.at(t), bottom + 16, x.log && decimals === 0 ? figure(t, 2) : fixed(t, decimals), 'middle'));
      }
      nodes.push(textAt(right - 8, bottom + 34, options.label, 'end', 'axis-label'));
      if (options.reference !== undefined) {
        const at = x.at(options.reference);
        nodes.push(s('line', { class: 'reference', x1: at, x2: at, y1: 0, y2: bottom }));
      }
      const marks: Mark[] = [];
      options.dots.forEach((d, i) => {
        const drawn = line(d, x, i * step, left, right, narrow);
        nodes.push(...drawn.nodes);
        marks.push(drawn.mark);
      });
      return { width, height, nodes, marks };
    },
  });
}
