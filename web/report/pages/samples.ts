/* Every request of a row: over the run's time, gap by gap, and as a table. */
import { barText, timeline, type Bar } from '../charts/timeline';
import { plot } from '../charts/plot';
import { type Child, h, on, replace } from '../dom';
import type { SampleLine } from '../data';
import { dash } from '../cells';
import * as format from '../format';

export interface Sample {
  line: number;
  data: SampleLine;
}

const DRAWN_MAX = 120;
const LISTED = 50;

function title(s: Sample): string {
  const { warmup, run, stream, target } = s.data;
  return `${warmup ? 'warm-up ' : ''}round ${run}${stream ? `, stream ${stream}` : ''}${target ? ', B' : ''}`;
}

export function barOf(s: Sample, href: string, two: boolean): Bar | null {
  const d = s.data;
  if (d.send_ms === null || d.end_ms === null) {
    return null;
  }
  const at = (ms: number): number => ((d.send_ms ?? 0) + ms) / 1000;
  const bar = {
    label: `${two ? `${'AB'[d.target] ?? ''} ` : ''}${d.run}${d.stream ? `.${d.stream}` : ''}`,
    send: at(0),
    first: d.first_token_ms === null ? null : at(d.first_token_ms),
    end: at(d.end_ms),
    tokens: (d.token_ms ?? []).map(at),
    ok: d.ok,
    warmup: d.warmup,
    href,
  };
  return { ...bar, text: `${barText(title(s), bar)}${d.ok ? '' : `; failed: ${d.error ?? 'no reason was recorded'}`}` };
}

/** Gaps between neighbouring tokens, in milliseconds. */
export function gaps(tokens: readonly number[]): number[] {
  return tokens.slice(1).map((t, k) => t - (tokens[k] as number));
}

function legendBox(cls: string, name: string): HTMLElement {
  return h('li', {}, h('span', { class: `swatch ${cls}`, 'aria-hidden': 'true' }), name);
}

function timelineFigure(samples: readonly Sample[], aligned: boolean, here: string): HTMLElement {
  const two = samples.some((s) => s.data.target === 1);
  const bars = samples.slice(0, DRAWN_MAX).flatMap((s) => barOf(s, `${here}#L${s.line}`, two) ?? []);
  return timeline({
    title: 'Timeline of the requests',
    about: [
      samples.length > DRAWN_MAX ? `The first ${DRAWN_MAX} of ${format.plural(samples.length, 'request')}. ` : '',
      'Each stroke is a token; strokes that stand together came in one piece of the stream. A bar without ' +
        'strokes: its token times are not known.',
    ],
    bars,
    aligned,
    legend: [
      legendBox('wait', 'waiting for the first token'),
      legendBox('stream', 'from the first token to the end'),
      legendBox('tokens', 'a token'),
      samples.some((s) => s.data.warmup) && legendBox('stream warmup', 'a warm-up'),
    ],
    table: {
      head: ['Request', 'Sent, s', 'First token, s', 'End, s', 'Tokens'],
      rows: bars.map((b) => [
        { text: b.label },
        { text: format.fixed(b.send, 3), href: b.href ?? null },
        { text: b.first === null ? format.DASH : format.fixed(b.first, 3) },
        { text: format.fixed(b.end, 3) },
        { text: String(b.tokens.length) },
      ]),
    },
  });
}

function gapFigure(chosen: Sample, here: string): HTMLElement {
  const list = gaps(chosen.data.token_ms ?? []);
  const sorted = [...list].sort((a, b) => a - b);
  const median = sorted.length
    ? ((sorted[(sorted.length - 1) >> 1] as number) + (sorted[sorted.length >> 1] as number)) / 2
    : null;
  const href = `${here}#L${chosen.line}`;
  return plot({
    title: 'Gaps between tokens',
    about: [
      median === null
        ? ''
        : `${title(chosen)}: ${format.plural(list.length, 'gap')}, median ${format.duration(median)}, longest ` +
          `${format.duration(sorted[sorted.length - 1] ?? 0)}. A gap of zero: two tokens in one piece of the stream.`,
    ],
    x: { label: 'token' },
    y: { label: 'gap, ms', zero: true },
    height: 220,
    series: [
      {
        name: 'gap',
        points: list.map((y, k) => ({
          x: k + 2,
          y,
          text: `token ${k + 2} came ${format.duration(y)} after the one before`,
          href,
        })),
      },
    ],
    table: {
      head: ['Token', 'Gap, ms'],
      rows: list.map((y, k) => [{ text: String(k + 2) }, { text: format.fixed(y, 3), href }]),
    },
    empty: 'No token times are known for this request.',
  });
}

const COLUMNS: readonly [title: string, value: (d: SampleLine) => number | null, show: (v: number) => string][] = [
  ['Sent', (d) => (d.send_ms === null ? null : d.send_ms / 1000), (v) => `${format.fixed(v, 3)} s`],
  [
    'Queue',
    (d) => (d.intended_ms === null || d.send_ms === null ? null : d.send_ms - d.intended_ms),
    (v) => format.duration(v),
  ],
  ['First token', (d) => d.first_token_ms, (v) => format.duration(v)],
  ['End', (d) => d.end_ms, (v) => format.duration(v)],
  ['Prompt', (d) => d.prompt_tokens, format.plain],
  ['Cached', (d) => d.cached_tokens, format.plain],
  ['Output', (d) => d.output_tokens, format.plain],
  [
    'tok/s',
    (d) =>
      d.first_token_ms !== null &&
      d.last_token_ms !== null &&
      d.last_token_ms > d.first_token_ms &&
      (d.output_tokens ?? 0) > 1
        ? (1000 * ((d.output_tokens ?? 0) - 1)) / (d.last_token_ms - d.first_token_ms)
        : null,
    (v) => format.figure(v),
  ],
];

function sampleTable(samples: readonly Sample[], here: string): HTMLElement {
  const used = COLUMNS.filter(([, value]) => samples.some((s) => value(s.data) !== null));
  const body = h('tbody');
  const line = (s: Sample): HTMLElement =>
    h(
      'tr',
      { class: s.data.ok ? null : 'bad-row' },
      h('th', { scope: 'row' }, h('a', { href: `${here}#L${s.line}` }, title(s))),
      ...used.map(([, value, show]) => {
        const v = value(s.data);
        return h(
          'td',
          { class: 'num' },
          v === null
            ? dash('not known for this request')
            : h('a', { href: `${here}#L${s.line}`, class: 'value', tabindex: -1 }, show(v)),
        );
      }),
      h(
        'td',
        {},
        s.data.ok
          ? (s.data.finish ?? dash('the target did not say why it stopped'))
          : `failed: ${s.data.error ?? (s.data.refused ? 'refused' : 'no reason')}`,
      ),
    );
  const more = h('button', { type: 'button', class: 'button' }, `Show all ${format.plain(samples.length)}`);
  more.hidden = samples.length <= LISTED;
  on(more, 'click', () => {
    replace(body, ...samples.map(line));
    more.remove();
  });
  replace(body, ...samples.slice(0, LISTED).map(line));
  return h(
    'div',
    {},
    h(
      'div',
      { class: 'scroll tall', tabindex: 0, role: 'region', 'aria-label': 'Samples' },
      h(
        'table',
        { class: 'plain' },
        h('caption', { class: 'visually-hidden' }, 'Samples of the row'),
        h(
          'thead',
          {},
          h(
            'tr',
            {},
            h('th', { scope: 'col' }, 'Request'),
            ...used.map(([name]) => h('th', { scope: 'col', class: 'num' }, name)),
            h('th', { scope: 'col' }, 'Finish'),
          ),
        ),
        body,
      ),
    ),
    more,
  );
}

/** All samples of a run, one row of it at a time. `here` is the page's own address without a fragment. */
export function sampleSection(samples: readonly Sample[], here: string): HTMLElement | null {
  if (!samples.length) {
    return null;
  }
  const keys = [...new Set(samples.map((s) => s.data.row))];
  const rowSelect = h(
    'select',
    { id: 'sample-row' },
    ...keys.map((key) => h('option', { value: key }, `${key} (${samples.filter((s) => s.data.row === key).length})`)),
  );
  const aligned = h('input', { type: 'checkbox', id: 'aligned' });
  const requestSelect = h('select', { id: 'sample-request' });
  const lineHost = h('div');
  const gapHost = h('div');
  const tableHost = h('div');
  let mine: Sample[] = [];
  const drawTimeline = (): void => replace(lineHost, timelineFigure(mine, aligned.checked, here));
  const drawGaps = (): void => {
    const chosen = mine.find((s) => String(s.line) === requestSelect.value);
    replace(gapHost, chosen ? gapFigure(chosen, here) : null);
  };
  const drawRow = (): void => {
    mine = samples.filter((s) => s.data.row === rowSelect.value);
    const timed = mine.filter((s) => (s.data.token_ms?.length ?? 0) > 1);
    replace(requestSelect, ...timed.map((s) => h('option', { value: s.line }, title(s))));
    const first = timed.find((s) => !s.data.warmup) ?? timed[0];
    requestSelect.value = first ? String(first.line) : '';
    requestLabel.hidden = timed.length === 0;
    drawTimeline();
    drawGaps();
    replace(tableHost, sampleTable(mine, here));
  };
  const requestLabel: HTMLElement = h('label', {}, h('span', {}, 'Request'), requestSelect);
  on(rowSelect, 'change', drawRow);
  on(aligned, 'change', drawTimeline);
  on(requestSelect, 'change', drawGaps);
  const controls: Child[] = [
    h('label', {}, h('span', {}, 'Row'), rowSelect),
    h('label', { class: 'check' }, aligned, h('span', {}, 'all from zero')),
  ];
  drawRow();
  return h(
    'section',
    { class: 'section' },
    h('h2', {}, 'Samples'),
    h('div', { class: 'pickers' }, ...controls),
    lineHost,
    h('div', { class: 'pickers' }, requestLabel),
    gapHost,
    tableHost,
  );
}
