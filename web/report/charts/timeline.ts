/* Requests as bars over the run's time: the wait for the first token, then a stroke for every token. */
import { type Child, s } from '../dom';
import { duration, fixed } from '../format';
import { type DataTable, type Mark, frame, textAt } from './frame';
import { extent, linear } from './scale';

export interface Bar {
  label: string;
  /** Seconds since the start of the record. */
  send: number;
  first: number | null;
  end: number;
  tokens: number[];
  ok: boolean;
  warmup: boolean;
  text: string;
  href?: string | null;
}

export interface TimelineOptions {
  title: string;
  about: Child[];
  bars: Bar[];
  /** True: each bar starts at zero, so that requests can be laid over each other. */
  aligned: boolean;
  table: DataTable;
  legend: Child[];
}

/** The timeline as a figure. */
export function timeline(options: TimelineOptions): HTMLElement {
  return frame({
    title: options.title,
    about: options.about,
    table: options.table,
    legend: options.legend,
    empty: options.bars.length ? null : 'No sample of this row has times.',
    draw: (width) => {
      const step = options.bars.length > 60 ? 7 : options.bars.length > 24 ? 14 : 18;
      const left = step >= 12 ? 74 : 14;
      const right = width - 12;
      const bottom = options.bars.length * step + 6;
      const origin = (b: Bar): number => (options.aligned ? b.send : 0);
      const range = extent(options.bars.flatMap((b) => [b.send - origin(b), b.end - origin(b)])) ?? [0, 1];
      const x = linear(range[0], range[1], left, right, Math.max(3, Math.floor(width / 90)), options.aligned);
      const nodes: SVGElement[] = [];
      const marks: Mark[] = [];
      for (const t of x.ticks) {
        nodes.push(s('line', { class: 'rule', x1: x.at(t), x2: x.at(t), y1: 0, y2: bottom }));
        nodes.push(textAt(x.at(t), bottom + 16, fixed(t, x.decimals), 'middle'));
      }
      nodes.push(
        textAt(
          right,
          bottom + 34,
          options.aligned ? 'seconds since the request was sent' : 'seconds since the start of the run',
          'end',
          'axis-label',
        ),
      );
      const thick = Math.max(3, step - 5);
      options.bars.forEach((b, i) => {
        const y = i * step + 3;
        const at = (t: number): number => x.at(t - origin(b));
        const first = b.first ?? b.end;
        const state = `${b.ok ? '' : ' failed'}${b.warmup ? ' warmup' : ''}`;
        nodes.push(
          s('rect', {
            class: `wait${state}`,
            x: at(b.send),
            y,
            width: Math.max(at(first) - at(b.send), 1),
            height: thick,
          }),
        );
        if (b.first !== null) {
          nodes.push(
            s('rect', {
              class: `stream${state}`,
              x: at(first),
              y,
              width: Math.max(at(b.end) - at(first), 1),
              height: thick,
            }),
          );
        }
        if (b.tokens.length) {
          const d = b.tokens.map((t) => `M${at(t).toFixed(1)} ${y}v${thick}`).join('');
          nodes.push(s('path', { class: 'tokens', d }));
        }
        if (step >= 12) {
          nodes.push(textAt(left - 8, y + thick - 1, b.label, 'end'));
        }
        marks.push({ x: Math.min(at(first), right), y: y + thick / 2, text: b.text, href: b.href ?? null });
      });
      return { width, height: bottom + 42, nodes, marks };
    },
  });
}

/** A request in words, for the tip and for those who hear it. */
export function barText(
  label: string,
  b: { send: number; first: number | null; end: number; tokens: number[] },
): string {
  const wait = b.first === null ? 'no token came' : `first token after ${duration((b.first - b.send) * 1000)}`;
  return (
    `${label}: sent at ${fixed(b.send, 2)} s, ${wait}, ended after ${duration((b.end - b.send) * 1000)}, ` +
    `${b.tokens.length} token times`
  );
}
