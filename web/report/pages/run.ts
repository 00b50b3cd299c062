/* A run: how it was made, what came out, every sample of it, and the record itself. */
import { copyButton } from '../copy';
import { dots, type Dot } from '../charts/dots';
import { lines, type Panel } from '../charts/lines';
import { h } from '../dom';
import type { ComparisonLine, EndLine, PairLine, RecordLine, RunData, RunLine, TraceLine } from '../data';
import { chip } from '../cells';
import { explorer } from '../explorer';
import { environmentFacts, type Fact, factList, originFacts, probeTable, samplingText, targetFacts } from '../facts';
import { fieldName, levelChip } from '../findings';
import * as format from '../format';
import { Rows } from '../rows';
import { PAGE_COLUMNS } from '../views';
import { rawView } from './raw';
import { sampleSection } from './samples';

type Entry<K extends RecordLine['kind']> = { line: number; data: Extract<RecordLine, { kind: K }> };

function ofKind<K extends RecordLine['kind']>(data: RunData, kind: K): Entry<K>[] {
  return data.lines.filter((entry): entry is Entry<K> => entry.data.kind === kind);
}

/** What a series of a trace is measured in, by the end of its name. */
export function unitOf(name: string): { unit: string; scale: number } {
  const units: [RegExp, string, number][] = [
    [/_mhz$/, 'MHz', 1],
    [/_w$/, 'W', 1],
    [/_c$/, '°C', 1],
    [/_bytes$/, 'GiB', 2 ** -30],
    [/_share$/, '%', 100],
    [/throttle$/, 'throttle reasons', 1],
  ];
  const found = units.find(([pattern]) => pattern.test(name));
  return found ? { unit: found[1], scale: found[2] } : { unit: name, scale: 1 };
}

export function panelsOf(trace: TraceLine): Panel[] {
  const panels = new Map<string, Panel>();
  for (const [name, values] of Object.entries(trace.series)) {
    const { unit, scale } = unitOf(name);
    const panel = panels.get(unit) ?? { unit, tracks: [], zero: unit !== 'MHz' && unit !== '°C' };
    panel.tracks.push({
      name: name.replace(/_(mhz|w|c|bytes|share)$/, '').replaceAll('_', ' '),
      values: values.map((v) => (v === null ? null : v * scale)),
    });
    panels.set(unit, panel);
  }
  const order = ['W', 'MHz', '°C', 'throttle reasons', '%', 'GiB'];
  return [...panels.values()].sort((a, b) => ((order.indexOf(a.unit) + 99) % 99) - ((order.indexOf(b.unit) + 99) % 99));
}

function traceFigure(entry: Entry<'trace'>, here: string): HTMLElement {
  const { t_ms: times, series } = entry.data;
  const names = Object.keys(series);
  return lines({
    title: 'Clocks, power and load over the run',
    about: [
      format.plural(times.length, 'reading'),
      entry.data.interval_ms === null ? '' : `, one every ${format.duration(entry.data.interval_ms)}`,
      '. Peaks are kept where readings are closer than pixels.',
    ],
    time: times.map((t) => t / 1000),
    panels: panelsOf(entry.data),
    href: `${here}#L${entry.line}`,
    table: {
      head: ['Time, s', ...names],
      rows: times.map((t, k) => [
        { text: format.fixed(t / 1000, 1), href: `${here}#L${entry.line}` },
        ...names.map((name) => ({ text: String(series[name]?.[k] ?? format.DASH) })),
      ]),
    },
  });
}

function comparisonText(c: ComparisonLine): string {
  const iv = c.interval ? ` [${format.interval(c.interval[0], c.interval[1], 4)}]` : '';
  return `${c.ratio === null ? format.DASH : format.ratio(c.ratio)}${iv}`;
}

function comparisonSection(
  comparisons: readonly Entry<'comparison'>[],
  pairs: readonly Entry<'pair'>[],
  compareHref: string | null,
  here: string,
): HTMLElement | null {
  if (!comparisons.length) {
    return null;
  }
  const table = h(
    'div',
    { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Comparisons' },
    h(
      'table',
      { class: 'plain' },
      h('caption', { class: 'visually-hidden' }, 'Ratios of B over A'),
      h(
        'thead',
        {},
        h(
          'tr',
          {},
          ...['Row', 'Metric'].map((t) => h('th', { scope: 'col' }, t)),
          ...['B over A', 'Level', 'Blocks', 'Smallest effect'].map((t) => h('th', { scope: 'col', class: 'num' }, t)),
          ...['Verdict', 'Stopped by'].map((t) => h('th', { scope: 'col' }, t)),
        ),
      ),
      h(
        'tbody',
        {},
        ...comparisons.map(({ line, data: c }) =>
          h(
            'tr',
            {},
            h('th', { scope: 'row' }, c.row),
            h('td', {}, fieldName(c.metric)),
            h('td', { class: 'num' }, h('a', { class: 'value', href: `${here}#L${line}` }, comparisonText(c))),
            h('td', { class: 'num' }, c.level === null ? format.DASH : format.level(c.level)),
            h('td', { class: 'num' }, String(c.blocks)),
            h('td', { class: 'num' }, c.smallest_effect === null ? format.DASH : format.percent(c.smallest_effect, 2)),
            h(
              'td',
              { class: `verdict-${c.verdict.replace(' ', '-')}` },
              c.verdict,
              c.reasons.length ? h('div', { class: 'sub' }, c.reasons.join('; ')) : null,
            ),
            h('td', {}, c.stopped),
          ),
        ),
      ),
    ),
  );
  const main = comparisons[0];
  const blocks = pairs.filter(
    ({ data: p }) =>
      main && p.row === main.data.row && p.metric === main.data.metric && p.ratio !== null && p.ratio > 0,
  );
  const dot = (
    label: string,
    sub: string,
    value: number,
    lo: number | null,
    hi: number | null,
    line: number,
    p?: PairLine,
  ): Dot => ({
    label,
    sub,
    value,
    lo,
    hi,
    note: format.ratio(value),
    text: `${label}, ${sub}: ${format.ratio(value)}${p && !p.valid ? `, left out: ${p.reason ?? 'not valid'}` : ''}`,
    href: `${here}#L${line}`,
    series: p ? 1 : 0,
    hollow: p ? !p.valid : false,
  });
  const entries = [
    ...(main && main.data.ratio !== null
      ? [
          dot(
            'all blocks',
            fieldName(main.data.metric),
            main.data.ratio,
            main.data.interval?.[0] ?? null,
            main.data.interval?.[1] ?? null,
            main.line,
          ),
        ]
      : []),
    ...blocks.map(({ line, data: p }) => dot(`block ${p.block}`, p.order, p.ratio ?? 1, null, null, line, p)),
  ];
  return h(
    'section',
    { class: 'section' },
    h('h2', {}, 'B over A'),
    h(
      'p',
      { class: 'soft' },
      'Both targets ran in turns; a ratio above 1 means that B has the larger value.',
      compareHref ? ' ' : '',
      compareHref ? h('a', { href: compareHref }, 'Side by side') : null,
    ),
    table,
    entries.length
      ? dots({
          title: `Ratio block by block: ${main ? `${main.data.row}, ${fieldName(main.data.metric)}` : ''}`,
          about: [
            'Each block is a ratio of its own; the first line is the estimate from all of them with its ' +
              'interval. Hollow: a block that was left out.',
          ],
          label: 'B / A',
          dots: entries,
          legend: ['all blocks', 'a block'],
          reference: 1,
          table: {
            head: ['Block', 'Order', 'Ratio'],
            rows: entries.map((d) => [{ text: d.label }, { text: d.sub }, { text: d.note, href: d.href ?? null }]),
          },
        })
      : null,
  );
}

function noiseFacts(end: EndLine): Fact[] {
  const n = end.noise;
  return n === null
    ? []
    : [
        [
          'Calibration',
          n.calibration_before_ms === null || n.calibration_after_ms === null
            ? null
            : `${format.duration(n.calibration_before_ms)} before, ${format.duration(n.calibration_after_ms)} after` +
              (n.drift_share === null ? '' : `: drift ${format.percent(n.drift_share, 2)}`),
        ],
        [
          'Taken by others',
          [
            n.steal_share === null ? '' : `${format.percent(n.steal_share, 2)} stolen`,
            n.foreign_cpu_share === null ? '' : `${format.percent(n.foreign_cpu_share, 2)} by other processes`,
          ]
            .filter(Boolean)
            .join(', '),
        ],
        [
          'Heat and draw',
          [
            n.idle_c === null ? '' : `${n.idle_c} °C idle`,
            n.peak_c === null ? '' : `${n.peak_c} °C peak`,
            n.peak_w === null ? '' : `${n.peak_w} W peak`,
            n.throttled === true ? 'throttled' : '',
          ]
            .filter(Boolean)
            .join(', '),
        ],
      ];
}

/** The lines that facts stand in, as ways to them. */
function recorded(here: string, lines: readonly (number | undefined)[]): HTMLElement {
  const known = lines.filter((line) => line !== undefined);
  return h(
    'span',
    {},
    ...known.flatMap((line, k) => [k ? ', ' : '', h('a', { href: `${here}#L${line}` }, `line ${line}`)]),
  );
}

function runFacts(run: RunLine, end: EndLine | undefined): Fact[] {
  return [
    ['Date', run.date === null ? 'not stated' : `${run.date.replace('T', ' ').replace('Z', '')} UTC`],
    ['Tool', run.tool],
    ['Suite', [run.suite, run.suite_about].filter(Boolean).join(': ')],
    ['Took', end?.duration_s == null ? null : format.duration(end.duration_s * 1000)],
    ['Statistic', run.statistic],
    ['Sampling', samplingText(run.sampling)],
    ['Left out', end?.rows_left_out ? format.plural(end.rows_left_out, 'row') : null],
    ...originFacts(run.origin),
  ];
}

export function runPage(data: RunData, root: string): Node[] {
  const rows = new Rows(data.table);
  const here = `${root}runs/${encodeURIComponent(data.id)}.html`;
  const run = ofKind(data, 'run')[0]?.data;
  const runLine = ofKind(data, 'run')[0]?.line;
  const end = ofKind(data, 'end')[0];
  const comparisons = ofKind(data, 'comparison');
  const first = data.lines[0]?.line ?? 1;
  const raw = rawView(data.id, first, data.lines.length, root + data.file.href, data.file.href, root);
  const targets = run?.targets ?? (run?.target ? [run.target] : []);
  const probes = ofKind(data, 'probe').map((p) => ({ run: data.id, ...p }));
  const two = rows.n === 2 && comparisons.length ? `${root}compare.html?a=${rows.id(0)}&b=${rows.id(1)}` : null;
  const state = end?.data.verdict.state ?? null;
  const openFromAddress = (): void => {
    const line = /^#L([0-9]{1,9})$/.exec(location.hash)?.[1];
    if (line) {
      raw.open(Number(line));
    }
  };
  addEventListener('hashchange', openFromAddress);
  queueMicrotask(openFromAddress); // when the section is in the page
  const reasons = end?.data.verdict.reasons ?? [];
  return [
    h(
      'div',
      { class: 'intro' },
      h('p', { class: 'over' }, 'Run ', h('code', {}, data.id)),
      h('h1', {}, run?.label ?? run?.suite ?? data.id),
      h(
        'p',
        { class: 'soft links' },
        ...data.model_slugs.flatMap((slug, k) => [
          k ? ', ' : '',
          h(
            'a',
            { href: `${root}models/${encodeURIComponent(slug)}.html` },
            rows.n ? (rows.text('model', 0) ?? slug) : slug,
          ),
        ]),
        data.model_slugs.length ? ' on ' : '',
        h('a', { href: `${root}hardware/${encodeURIComponent(data.hardware_slug)}.html` }, data.hardware),
      ),
    ),
    h(
      'section',
      { class: `card verdict-card ${state ?? 'open'}` },
      h('h2', {}, 'Verdict ', state ? chip(state) : chip('interrupted')),
      state === null
        ? h('p', {}, 'The run has no end line: it was interrupted. What it measured until then is here.')
        : null,
      reasons.length
        ? h('ul', {}, ...reasons.map((reason) => h('li', {}, reason)))
        : state
          ? h('p', { class: 'soft' }, 'No reason to doubt it was found.')
          : null,
      data.findings.length
        ? h(
            'details',
            { class: 'chart-data', open: data.findings.length <= 6 },
            h('summary', {}, `${format.plural(data.findings.length, 'finding')} of the checker`),
            h(
              'ul',
              { class: 'findings' },
              ...data.findings.map((f) =>
                h(
                  'li',
                  {},
                  levelChip(f.level),
                  h('a', { href: `${here}#L${f.line}` }, `line ${f.line}`),
                  f.row === null ? ' ' : ` ${f.row} `,
                  f.field === null ? null : h('b', {}, `${fieldName(f.field)}: `),
                  f.text,
                ),
              ),
            ),
          )
        : null,
    ),
    h(
      'section',
      { class: 'section' },
      h('h2', {}, 'To repeat it'),
      run?.command
        ? h(
            'div',
            { class: 'command' },
            h('pre', { tabindex: 0, 'aria-label': 'Command' }, run.command),
            copyButton(() => run.command ?? ''),
          )
        : h('p', { class: 'empty' }, 'The source states no command.'),
      run ? factList([...runFacts(run, end?.data), ['Recorded in', recorded(here, [runLine, end?.line])]]) : null,
    ),
    ...(rows.n
      ? [
          h(
            'section',
            { class: 'section' },
            h('h2', {}, 'Rows'),
            explorer({
              rows,
              root,
              label: 'Rows of the run',
              views: [
                { id: 'all', title: 'All', columns: PAGE_COLUMNS.filter((id) => id !== 'hardware' && id !== 'label') },
              ],
              facets: [],
              links: [],
              name: `run-${data.id}`,
            }),
          ),
        ]
      : []),
    ...[comparisonSection(comparisons, ofKind(data, 'pair'), two, here)].filter((node) => node !== null),
    ...[sampleSection(ofKind(data, 'sample'), here)].filter((node) => node !== null),
    ...ofKind(data, 'trace').map((trace) =>
      h('section', { class: 'section' }, h('h2', {}, 'The machine meanwhile'), traceFigure(trace, here)),
    ),
    h(
      'section',
      { class: 'section' },
      h('h2', {}, 'Environment'),
      h(
        'div',
        { class: 'cards' },
        run
          ? h(
              'article',
              { class: 'card' },
              h('h3', {}, 'Machine'),
              factList([
                ...environmentFacts(run.environment),
                ...(end ? noiseFacts(end.data) : []),
                ['Recorded in', recorded(here, [runLine, end?.line])],
              ]),
            )
          : null,
        ...targets.map((t, k) =>
          h(
            'article',
            { class: 'card' },
            h('h3', {}, targets.length > 1 ? `Target ${'AB'[k] ?? ''}` : 'Target'),
            factList(targetFacts(t)),
          ),
        ),
      ),
      probeTable(probes, root, 'Probes of the run'),
    ),
    raw.element,
  ];
}
