/* A model's page and a machine's page: the same table and charts, seen from two sides. */
import { type Child, h, replace } from '../dom';
import type { Finding, HardwareData, ModelData } from '../data';
import { explorer } from '../explorer';
import { blockCard, factList, modelFacts, probeTable } from '../facts';
import { FACETS } from '../filters';
import { fieldName, levelChip } from '../findings';
import { plain, plural } from '../format';
import { rowCharts } from '../charts/rows';
import { Rows } from '../rows';
import { PAGE_COLUMNS, type View } from '../views';

const LISTED_MAX = 40;

interface Told {
  finding: Finding;
  rows: number[];
}

/** Findings of one sort, that is of one wording with other numbers: sorts and, within them, texts each once. */
export function sortsOfFindings(rows: Rows): Told[][] {
  const sorts = new Map<string, Map<string, Told>>();
  for (let i = 0; i < rows.n; i += 1) {
    for (const finding of rows.findings(i)) {
      const sort =
        `${finding.level} ${finding.field ?? ''} ` +
        `${finding.text.replace(/[0-9][0-9.,]*(ms|s)?\b|"[^"]*"/g, '#').slice(0, 60)}`;
      const texts = sorts.get(sort) ?? new Map<string, Told>();
      sorts.set(sort, texts);
      const told = texts.get(finding.text);
      if (told) {
        told.rows.push(i);
      } else {
        texts.set(finding.text, { finding, rows: [i] });
      }
    }
  }
  const order = ['wrong', 'legacy', 'invalid', 'noisy', 'interrupted', 'unverified', 'unqualified'];
  const weight = (told: readonly Told[]): number => order.indexOf(told[0]?.finding.level ?? '');
  const size = (told: readonly Told[]): number => told.reduce((sum, { rows: list }) => sum + list.length, 0);
  return [...sorts.values()]
    .map((texts) => [...texts.values()])
    .sort((a, b) => weight(a) - weight(b) || size(b) - size(a));
}

/** What the checker says of the rows, each thing once, with the rows that it is about. */
export function findingSection(rows: Rows, root: string): HTMLElement | null {
  const sorts = sortsOfFindings(rows);
  if (!sorts.length) {
    return null;
  }
  const link = (i: number): Child =>
    h('a', { href: root + rows.href(i) }, `${rows.text('row', i) ?? 'row'}, ${rows.text('hardware', i) ?? ''}`);
  const text = ({ finding, rows: list }: Told): Child[] => [
    finding.text,
    h(
      'span',
      { class: 'soft' },
      ' (',
      ...list.slice(0, 3).flatMap((i, k) => [k ? '; ' : '', link(i)]),
      list.length > 3 ? `; ${plural(list.length - 3, 'more row')}` : '',
      ')',
    ),
  ];
  const item = (told: readonly Told[]): HTMLElement => {
    const [first, ...others] = told;
    const finding = first?.finding;
    return h(
      'li',
      {},
      levelChip(finding?.level ?? 'wrong'),
      finding?.field == null ? null : h('b', {}, `${fieldName(finding.field)}: `),
      ...(first ? text(first) : []),
      others.length
        ? h(
            'details',
            { class: 'chart-data' },
            h('summary', {}, `${plain(others.length)} more of this sort`),
            h(
              'ul',
              {},
              ...others.slice(0, LISTED_MAX).map((o) => h('li', {}, ...text(o))),
              others.length > LISTED_MAX ? h('li', {}, 'Further ones are behind the verdict of each row.') : null,
            ),
          )
        : null,
    );
  };
  return h(
    'section',
    { class: 'section', id: 'findings' },
    h('h2', {}, 'What is marked, and why'),
    h(
      'p',
      { class: 'soft' },
      'The checker recomputes every figure. A row stays as it was measured or printed; what does not hold is ' +
        'said beside it.',
    ),
    h('ul', { class: 'findings' }, ...sorts.slice(0, LISTED_MAX).map(item)),
  );
}

interface TableOptions {
  rows: Rows;
  root: string;
  name: string;
  title: string;
  columns: readonly string[];
  without: string;
}

/** The table with its charts below, which follow its filters. */
function tableAndCharts(o: TableOptions): Node[] {
  const view: View = { id: 'all', title: 'All', columns: o.columns };
  const charts = h('div', { class: 'chart-host' });
  let timer = 0;
  const draw = (order: readonly number[]): void => {
    clearTimeout(timer);
    // After the table is there, and not at every key stroke.
    timer = window.setTimeout(() => replace(charts, rowCharts(o.rows, order, o.root)), charts.firstChild ? 200 : 0);
  };
  return [
    explorer({
      rows: o.rows,
      root: o.root,
      label: `All rows of ${o.title}`,
      views: [view],
      facets: FACETS.map((f) => f.key).filter((key) => key !== o.without),
      links: [],
      name: o.name,
      shown: draw,
    }),
    h(
      'section',
      { class: 'section' },
      h('h2', {}, 'Charts'),
      h(
        'p',
        { class: 'soft' },
        'Of the rows that the table shows: a filter changes both. Arrow keys walk through a chart, Enter opens ' +
          'the record line.',
      ),
      charts,
    ),
  ];
}

export function modelPage(data: ModelData, root: string): Node[] {
  const rows = new Rows(data.table);
  const files = data.files.length ? data.files : [undefined];
  const reason = 'no record of this model states it';
  return [
    h(
      'div',
      { class: 'intro' },
      h('p', { class: 'over' }, 'Model'),
      h('h1', {}, data.title),
      ...files.map((entry) => factList(modelFacts(entry?.file, data.quantization, reason))),
    ),
    ...tableAndCharts({ rows, root, name: data.slug, title: data.title, columns: PAGE_COLUMNS, without: 'model' }),
    ...[findingSection(rows, root)].filter((node) => node !== null),
    h(
      'section',
      { class: 'section' },
      h('h2', {}, 'Environments'),
      h('div', { class: 'cards' }, ...data.blocks.map((block) => blockCard(block, root, true))),
    ),
  ];
}

export function hardwarePage(data: HardwareData, root: string): Node[] {
  const rows = new Rows(data.table);
  const probes = data.blocks.flatMap((block) => block.probes);
  return [
    h(
      'div',
      { class: 'intro' },
      h('p', { class: 'over' }, 'Hardware'),
      h('h1', {}, data.title),
      h(
        'p',
        { class: 'soft' },
        `${plural(rows.n, 'row')} in ${plural(new Set(data.blocks.flatMap((b) => b.runs)).size, 'run')}.`,
      ),
    ),
    h(
      'section',
      { class: 'section' },
      h('h2', {}, 'What it can do'),
      probeTable(probes, root, `Probes of ${data.title}`) ??
        h('p', { class: 'empty' }, 'No run on this hardware probed it: `sluice probe` or a bench with probes does.'),
    ),
    ...tableAndCharts({
      rows,
      root,
      name: data.slug,
      title: data.title,
      columns: ['model', ...PAGE_COLUMNS.filter((id) => id !== 'hardware')],
      without: 'hardware',
    }),
    ...[findingSection(rows, root)].filter((node) => node !== null),
    h(
      'section',
      { class: 'section' },
      h('h2', {}, 'Environments'),
      h('div', { class: 'cards' }, ...data.blocks.map((block) => blockCard(block, root, false))),
    ),
  ];
}
