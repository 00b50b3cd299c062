/* A model's page and a machine's page: the same table and charts, seen from two sides. */
import { type Child, h, replace } from '../dom';
import type { Finding, HardwareData, ModelData } from '../data';
import { chip } from '../columns';
import { explorer } from '../explorer';
import { blockCard, factList, modelFacts, probeTable } from '../facts';
import { FACETS } from '../filters';
import { fieldName } from '../findings';
import { plural } from '../format';
import { rowCharts } from '../charts/rows';
import { lineHref, Rows } from '../rows';
import { PAGE_COLUMNS, type View } from '../views';

const LISTED_MAX = 60;

/** What the checker says of the rows, each thing once, with the rows that it is about. */
export function findingSection(rows: Rows, root: string): HTMLElement | null {
  const groups = new Map<string, { finding: Finding; rows: number[] }>();
  for (let i = 0; i < rows.n; i += 1) {
    for (const finding of rows.findings(i)) {
      const key = `${finding.level}\n${finding.text}`;
      const group = groups.get(key);
      if (group) {
        group.rows.push(i);
      } else {
        groups.set(key, { finding, rows: [i] });
      }
    }
  }
  if (!groups.size) {
    return null;
  }
  const entries = [...groups.values()].sort((a, b) => Number(b.finding.level === 'wrong') - Number(a.finding.level === 'wrong') || b.rows.length - a.rows.length);
  const link = (i: number): Child => h('a', { href: root + lineHref(rows.text('run', i) ?? '', Number(rows.tokens('line')[i])) }, rows.text('row', i) ?? 'row');
  return h(
    'section',
    { class: 'section', id: 'findings' },
    h('h2', {}, 'What is marked, and why'),
    h('p', { class: 'soft' }, 'The checker recomputes every figure. A row stays as it was measured or printed; what does not hold is said beside it.'),
    h(
      'ul',
      { class: 'findings wide' },
      ...entries.slice(0, LISTED_MAX).map(({ finding, rows: list }) =>
        h(
          'li',
          {},
          chip(finding.level),
          finding.field === null ? null : h('b', {}, `${fieldName(finding.field)}: `),
          finding.text,
          h('span', { class: 'soft' }, ` — ${plural(list.length, 'row')}: `, ...list.slice(0, 4).flatMap((i, k) => [k ? ', ' : '', link(i)]), list.length > 4 ? ' …' : ''),
        ),
      ),
    ),
    entries.length > LISTED_MAX ? h('p', { class: 'soft' }, `${entries.length - LISTED_MAX} more; each row’s own are behind its verdict.`) : null,
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
    h('section', { class: 'section' }, h('h2', {}, 'Charts'), h('p', { class: 'soft' }, 'Of the rows that the table shows: a filter changes both. Arrow keys walk through a chart, Enter opens the record line.'), charts),
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
    h('section', { class: 'section' }, h('h2', {}, 'Environments'), h('div', { class: 'cards' }, ...data.blocks.map((block) => blockCard(block, root, true)))),
  ];
}

export function hardwarePage(data: HardwareData, root: string): Node[] {
  const rows = new Rows(data.table);
  const probes = data.blocks.flatMap((block) => block.probes);
  return [
    h('div', { class: 'intro' }, h('p', { class: 'over' }, 'Hardware'), h('h1', {}, data.title), h('p', { class: 'soft' }, `${plural(rows.n, 'row')} in ${plural(new Set(data.blocks.flatMap((b) => b.runs)).size, 'run')}.`)),
    h(
      'section',
      { class: 'section' },
      h('h2', {}, 'What it can do'),
      probeTable(probes, root, `Probes of ${data.title}`) ?? h('p', { class: 'empty' }, 'No run on this hardware probed it: `sluice probe` or a bench with probes does.'),
    ),
    ...tableAndCharts({ rows, root, name: data.slug, title: data.title, columns: ['model', ...PAGE_COLUMNS.filter((id) => id !== 'hardware')], without: 'hardware' }),
    ...[findingSection(rows, root)].filter((node) => node !== null),
    h('section', { class: 'section' }, h('h2', {}, 'Environments'), h('div', { class: 'cards' }, ...data.blocks.map((block) => blockCard(block, root, false)))),
  ];
}
