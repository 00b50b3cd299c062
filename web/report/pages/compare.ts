/* Two or more rows side by side: the figures, what the rows differ in, and whether their ratio means anything. */
import { type Child, h } from '../dom';
import type { CompareData, IndexData, IntervalMetric, RunData } from '../data';
import { chip, dash, intervalText, milliseconds, stackName } from '../cells';
import { cacheText } from '../columns';
import {
  addressOf,
  CLASSES,
  COMPARED,
  differing,
  differenceText,
  type Field,
  fieldsOf,
  idsOf,
  type Paired,
  pairedOf,
  ratioVerdict,
  relation,
  type Relation,
  unpairedRatio,
} from '../compare';
import { dots, type Dot } from '../charts/dots';
import { whyMissing, whyNoInterval } from '../missing';
import * as format from '../format';
import { load } from '../loader';
import { type Figure, lineHref, Rows } from '../rows';

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';

interface Target {
  id: string;
  i: number;
  letter: string;
  own: { rows: Rows; i: number } | null;
}

interface Context {
  rows: Rows;
  fields: Field[];
  data: CompareData;
  targets: Target[];
  root: string;
}

/** A figure with its interval, from the run's own data; if those did not come, from the index. */
function figureOf(c: Context, metric: IntervalMetric, t: Target): Figure | null {
  return t.own ? t.own.rows.figure(metric, t.own.i) : c.rows.figure(metric, t.i);
}

function name(rows: Rows, i: number): string {
  return stackName(rows.text('engine', i), rows.text('build', i));
}

function head(c: Context, t: Target): HTMLElement {
  const { rows, root } = c;
  const ids = c.targets.map((other) => other.id);
  const first = [t.id, ...ids.filter((id) => id !== t.id)];
  const without = ids.filter((id) => id !== t.id);
  return h(
    'th',
    { scope: 'col' },
    h('div', { class: 'letter' }, t.letter, t === c.targets[0] ? h('span', { class: 'soft' }, ' the first') : null),
    h('div', { class: 'target' }, name(rows, t.i)),
    h(
      'div',
      { class: 'sub' },
      [
        rows.text('hardware', t.i),
        rows.number('power_cap_w', t.i) === null ? '' : `${format.plain(rows.number('power_cap_w', t.i) ?? 0)} W`,
      ]
        .filter(Boolean)
        .join(' · '),
    ),
    h(
      'div',
      { class: 'sub' },
      h('a', { href: root + rows.href(t.i) }, rows.text('row', t.i) ?? 'row'),
      rows.text('label', t.i) ? ` · ${rows.text('label', t.i) ?? ''}` : '',
    ),
    h(
      'div',
      { class: 'sub actions' },
      t === c.targets[0]
        ? null
        : h('a', { href: addressOf(first) }, 'make first', h('span', { class: 'visually-hidden' }, ` ${t.letter}`)),
      c.targets.length > 1
        ? h('a', { href: addressOf(without) }, 'take out', h('span', { class: 'visually-hidden' }, ` ${t.letter}`))
        : null,
    ),
  );
}

function relationCard(c: Context, t: Target, r: Relation, paired: readonly Paired[]): HTMLElement {
  const first = c.targets[0] as Target;
  const stack =
    r.shared === 'hardware' ? [] : differing(c.fields, first.i, t.i, r.shared === 'stack' ? 'hardware' : 'stack');
  const words: Child[] = r.ranked
    ? [
        h('b', {}, `${t.letter} may be compared with ${first.letter}`),
        r.shared === 'hardware'
          ? ': the same work on the same stack and hardware.'
          : r.shared === 'stack'
            ? ': the same work on the same stack.'
            : ': the same work.',
        stack.length
          ? ` They differ in ${differenceText(stack, first.i, t.i)}: that is what a ratio between them speaks of.`
          : '',
      ]
    : [h('b', {}, `${t.letter} is not ranked against ${first.letter}`), `: ${r.why ?? ''}.`];
  return h(
    'li',
    { class: `relation ${r.ranked ? 'may' : paired.length ? 'paired' : 'refused'}` },
    h(
      'p',
      {},
      h('span', { class: 'mark', 'aria-hidden': 'true' }, r.ranked ? '✓' : paired.length ? '!' : '✕'),
      ' ',
      ...words,
    ),
    paired.length
      ? h(
          'p',
          { class: 'sub' },
          `The two were measured in turns within one run (${format.plural(paired[0]?.blocks ?? 0, 'block')}): ` +
            `the ratios below are those of the record, `,
          r.ranked
            ? 'and no drift of the machine is in them.'
            : 'of these two as they ran; they are no ranking, for the reason above.',
        )
      : null,
  );
}

function pairedCell(c: Context, p: Paired): Child[] {
  const iv = p.interval ? format.interval(p.interval[0], p.interval[1], 4) : '';
  return [
    h(
      'a',
      { class: 'value', href: c.root + lineHref(p.run, p.line) },
      p.ratio === null ? format.DASH : format.ratio(p.ratio),
    ),
    h(
      'div',
      {
        class: 'sub',
        title:
          `signed-rank interval over ${format.plural(p.blocks, 'block')}` +
          (p.level === null ? '' : `, level ${format.level(p.level)}`),
      },
      iv ? `${iv}, paired` : 'paired, no interval yet',
    ),
    h('div', { class: `sub verdict-${p.verdict.replace(' ', '-')}` }, p.verdict),
  ];
}

function ratioCell(
  c: Context,
  metric: (typeof COMPARED)[number],
  t: Target,
  r: Relation,
  paired: readonly Paired[],
): Child[] {
  const own = paired.find((p) => p.metric === metric.id);
  if (own) {
    return pairedCell(c, own);
  }
  if (!r.ranked) {
    return [dash(`no ratio: ${r.why ?? ''}`)];
  }
  const first = c.targets[0] as Target;
  const value = unpairedRatio(figureOf(c, metric.id, first), figureOf(c, metric.id, t));
  if (!value) {
    return [dash('no ratio: one of the two has no value')];
  }
  const verdict = ratioVerdict(value, metric.id);
  const level = value.level === null ? '' : ` Level at least ${format.level(value.level)}.`;
  return [
    h('span', { class: 'value', title: value.how + level }, format.ratio(value.value)),
    h(
      'div',
      { class: 'sub', title: value.how + level },
      value.lo !== null && value.hi !== null ? format.interval(value.lo, value.hi, 4) : 'no interval',
    ),
    verdict
      ? h(
          'div',
          { class: `sub verdict-${verdict}` },
          verdict === 'undecided' ? 'undecided: 1 lies in the interval' : verdict,
        )
      : null,
  ];
}

function figureCell(c: Context, metric: (typeof COMPARED)[number], t: Target): Child[] {
  const f = figureOf(c, metric.id, t);
  if (!f) {
    return [dash(whyMissing(c.rows, t.i, metric.id))];
  }
  const text = metric.unit === 'ms' ? milliseconds(f.median, 3) : format.figure(f.median);
  const iv = intervalText(f, metric.unit === 'ms' ? milliseconds : undefined);
  return [
    h('a', { class: 'value', href: c.root + c.rows.href(t.i) }, text),
    h(
      'div',
      { class: 'sub', title: iv ? null : whyNoInterval(f) },
      iv || (f.printed ? 'printed' : f.size ? `n = ${f.size.n}` : 'no interval'),
    ),
  ];
}

function figureTable(c: Context, relations: readonly Relation[], paired: readonly Paired[][]): HTMLElement {
  const metrics = COMPARED.filter((m) => c.targets.some((t) => figureOf(c, m.id, t) !== null));
  const others = c.targets.slice(1);
  return h(
    'div',
    { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Figures side by side' },
    h(
      'table',
      { class: 'plain side' },
      h('caption', { class: 'visually-hidden' }, 'Figures of every target, and ratios to the first'),
      h(
        'thead',
        {},
        h(
          'tr',
          {},
          h('td', {}),
          ...c.targets.map((t) => head(c, t)),
          ...others.map((t) =>
            h(
              'th',
              { scope: 'col', class: 'ratio-head' },
              h('div', { class: 'letter' }, `${t.letter} / ${c.targets[0]?.letter ?? 'A'}`),
              h('div', { class: 'sub' }, 'ratio [interval]'),
            ),
          ),
        ),
      ),
      h(
        'tbody',
        {},
        ...metrics.map((m) =>
          h(
            'tr',
            {},
            h('th', { scope: 'row' }, m.title, h('span', { class: 'unit' }, m.unit)),
            ...c.targets.map((t) => h('td', { class: 'num' }, ...figureCell(c, m, t))),
            ...others.map((t, k) =>
              h('td', { class: 'num ratio' }, ...ratioCell(c, m, t, relations[k] as Relation, paired[k] ?? [])),
            ),
          ),
        ),
        h(
          'tr',
          {},
          h('th', { scope: 'row' }, 'Verdict'),
          ...c.targets.map((t) => h('td', { class: 'num' }, chip(c.rows.text('verdict', t.i) ?? 'unknown'))),
          ...others.map(() => h('td', {})),
        ),
        h(
          'tr',
          {},
          h('th', { scope: 'row' }, 'Cold / warm'),
          ...c.targets.map((t) => h('td', { class: 'num' }, cacheText(c.rows, t.i) || dash('not known'))),
          ...others.map(() => h('td', {})),
        ),
      ),
    ),
  );
}

function fieldTable(c: Context): HTMLElement {
  const first = c.targets[0] as Target;
  const differs = (f: Field): boolean => c.targets.some((t) => f.values[t.i] !== f.values[first.i]);
  const line = (f: Field): HTMLElement =>
    h(
      'tr',
      { class: differs(f) ? 'differs' : null },
      h('th', { scope: 'row' }, f.name.replaceAll('_', ' '), h('span', { class: 'unit' }, f.classes[0] ?? '')),
      ...c.targets.map((t) =>
        h('td', { class: f.values[t.i] === f.values[first.i] ? null : 'other' }, f.values[t.i] || dash('not known')),
      ),
    );
  const table = (caption: string, fields: readonly Field[]): HTMLElement =>
    h(
      'div',
      { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
      h(
        'table',
        { class: 'plain fields' },
        h('caption', { class: 'visually-hidden' }, caption),
        h(
          'thead',
          {},
          h('tr', {}, h('th', { scope: 'col' }, 'Field'), ...c.targets.map((t) => h('th', { scope: 'col' }, t.letter))),
        ),
        h('tbody', {}, ...fields.map(line)),
      ),
    );
  const order = (f: Field): number => CLASSES.indexOf(f.classes[0] ?? 'hardware');
  const changed = c.fields.filter(differs).sort((a, b) => order(a) - order(b));
  const equal = c.fields.filter((f) => !differs(f));
  return h(
    'section',
    { class: 'section' },
    h('h2', {}, 'What differs'),
    h(
      'p',
      { class: 'soft' },
      'The word below a field says what it belongs to: another workload is other work and refuses a ratio, ' +
        'another stack or hardware is what a ratio can speak of.',
    ),
    changed.length ? table('Fields that differ', changed) : h('p', { class: 'empty' }, 'No field differs.'),
    equal.length
      ? h(
          'details',
          { class: 'chart-data' },
          h('summary', {}, `${format.plural(equal.length, 'field')} equal`),
          table('Fields that are equal', equal),
        )
      : null,
  );
}

function ratioChart(c: Context, relations: readonly Relation[], paired: readonly Paired[][]): HTMLElement | null {
  const entries: Dot[] = [];
  c.targets.slice(1).forEach((t, k) => {
    const first = c.targets[0] as Target;
    for (const m of COMPARED) {
      const own = paired[k]?.find((p) => p.metric === m.id);
      const apart = relations[k]?.ranked ? unpairedRatio(figureOf(c, m.id, first), figureOf(c, m.id, t)) : null;
      const value = own?.ratio ?? apart?.value ?? null;
      if (value === null || value <= 0) {
        continue;
      }
      const lo = own ? (own.interval?.[0] ?? null) : (apart?.lo ?? null);
      const hi = own ? (own.interval?.[1] ?? null) : (apart?.hi ?? null);
      const iv = lo !== null && hi !== null ? ` [${format.interval(lo, hi, 4)}]` : ', no interval';
      entries.push({
        label: `${m.title} ${t.letter} / ${first.letter}`,
        sub: own ? 'paired' : 'measured apart',
        value,
        lo,
        hi,
        note: format.ratio(value),
        text:
          `${m.title}, ${t.letter} over ${first.letter}: ${format.ratio(value)}${iv}, ` +
          `${own ? 'paired' : 'measured apart'}. ${m.unit === 'ms' ? 'Less is better.' : 'More is better.'}`,
        href: own ? c.root + lineHref(own.run, own.line) : c.root + c.rows.href(t.i),
        series: own ? 0 : 1,
        hollow: lo === null,
      });
    }
  });
  return entries.length
    ? dots({
        title: `Ratios to ${c.targets[0]?.letter ?? 'A'}`,
        about: ['A whisker that crosses 1 decides nothing. Rates are better to the right, times to the left.'],
        label: `ratio to ${c.targets[0]?.letter ?? 'A'}`,
        dots: entries,
        legend: ['paired, measured in turns', 'measured apart'],
        reference: 1,
        table: {
          head: ['Figure', 'How', 'Ratio'],
          rows: entries.map((d) => [
            { text: d.label },
            { text: d.sub },
            {
              text:
                typeof d.lo === 'number' && typeof d.hi === 'number'
                  ? `${d.note} [${format.interval(d.lo, d.hi, 4)}]`
                  : d.note,
              href: d.href ?? null,
            },
          ]),
        },
      })
    : null;
}

/** The engines; of one engine alone, what it ran on. */
function titleOf(rows: Rows, targets: readonly Target[]): string {
  const names = [...new Set(targets.map((t) => name(rows, t.i)))];
  const machines = [...new Set(targets.map((t) => rows.text('hardware', t.i) ?? 'hardware not known'))];
  return names.length > 1 ? names.join(' and ') : `${names[0] ?? ''} on ${machines.join(' and ')}`;
}

/** The rows of each run, by its id; runs whose data cannot be loaded are left out. */
async function ownRows(ids: readonly string[], root: string): Promise<Map<string, Rows>> {
  const runs = [...new Set(ids.map((id) => id.replace(/-[0-9]+$/, '')))];
  const loaded = await Promise.allSettled(runs.map((run) => load<RunData>(root, `run-${run}`)));
  const byRun = new Map<string, Rows>();
  loaded.forEach((result, k) => {
    if (result.status === 'fulfilled') {
      byRun.set(runs[k] ?? '', new Rows(result.value.table));
    }
  });
  return byRun;
}

/** The page; `plain` is what stood there before, which shows what there is to compare. */
export async function comparePage(
  index: IndexData,
  data: CompareData,
  root: string,
  plain: readonly Node[],
): Promise<Node[]> {
  const rows = new Rows(index.table);
  const at = new Map(Array.from({ length: rows.n }, (_, i) => [rows.id(i), i]));
  const ids = idsOf(location.search);
  const known = ids.filter((id) => at.has(id));
  const unknown = ids.filter((id) => !at.has(id));
  const own = known.length > 1 ? await ownRows(known, root) : new Map<string, Rows>();
  const targets = known.map((id, k): Target => {
    const mine = own.get(id.replace(/-[0-9]+$/, ''));
    const i = mine ? Array.from({ length: mine.n }, (_, r) => mine.id(r)).indexOf(id) : -1;
    return { id, i: at.get(id) ?? 0, letter: LETTERS[k] ?? '?', own: mine && i >= 0 ? { rows: mine, i } : null };
  });
  const missing = unknown.length
    ? h('p', { class: 'refused-text' }, `Not in these records: ${unknown.join(', ')}.`)
    : null;
  if (targets.length < 2) {
    return [
      h(
        'p',
        { class: 'notice-soft' },
        targets.length ? 'One row alone has nothing to be compared with: ' : 'To put rows side by side, ',
        h('a', { href: `${root}index.html` }, 'choose two or more in the index'),
        ' and press “Compare”.',
      ),
      ...(missing ? [missing] : []),
      ...plain,
    ];
  }
  const intro = h(
    'div',
    { class: 'intro' },
    h('p', { class: 'over' }, 'Compare'),
    h('h1', {}, titleOf(rows, targets)),
    missing,
  );
  const c: Context = { rows, fields: fieldsOf(data, rows.n), data, targets, root };
  const first = targets[0] as Target;
  const relations = targets.slice(1).map((t) => relation(rows, c.fields, first.i, t.i, first.letter, t.letter));
  const paired = targets.slice(1).map((t) => pairedOf(data, first.id, t.id));
  const chart = ratioChart(c, relations, paired);
  return [
    intro,
    h(
      'ul',
      { class: 'relations', 'aria-label': 'What may be compared' },
      ...targets.slice(1).map((t, k) => relationCard(c, t, relations[k] as Relation, paired[k] ?? [])),
    ),
    h('section', { class: 'section' }, h('h2', {}, 'Figures'), figureTable(c, relations, paired)),
    ...(chart ? [h('section', { class: 'section' }, h('h2', { class: 'visually-hidden' }, 'Ratios'), chart)] : []),
    fieldTable(c),
  ];
}
