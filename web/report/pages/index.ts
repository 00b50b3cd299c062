/* The index: all rows of the site. */
import { h } from '../dom';
import type { IndexData } from '../data';
import { explorer } from '../explorer';
import { FACETS } from '../filters';
import { bytes, plural } from '../format';
import { Rows } from '../rows';
import { VIEWS } from '../views';

export function indexPage(data: IndexData, root: string): Node[] {
  const rows = new Rows(data.table);
  const wrong = data.files.reduce((sum, file) => sum + file.wrong, 0);
  return [
    h(
      'div',
      { class: 'intro' },
      h('h1', {}, 'Results'),
      h(
        'p',
        { class: 'soft' },
        `${plural(rows.n, 'row')} of ${plural(data.runs.length, 'run')} in ` +
          `${plural(data.files.length, 'record')}: ${plural(data.models.length, 'model')} on ` +
          `${plural(data.hardware.length, 'machine')}. `,
        'Every figure leads to the line of the record that it stands in.',
        wrong
          ? ` ${plural(wrong, 'finding')} of the checker ${wrong === 1 ? 'says' : 'say'} that a figure is ` +
              `wrong; the rows are marked.`
          : '',
      ),
    ),
    explorer({
      rows,
      root,
      label: 'All rows',
      views: VIEWS,
      facets: FACETS.map((facet) => facet.key),
      name: 'rows',
      links: [
        h('a', { class: 'item', href: `${root}downloads/rows.csv`, download: 'rows.csv' }, 'The whole site, CSV'),
        h('a', { class: 'item', href: `${root}downloads/rows.json`, download: 'rows.json' }, 'The whole site, JSON'),
      ],
    }),
    h(
      'section',
      { class: 'lists', 'aria-label': 'Ways in' },
      list(
        'Models',
        data.models.map((m) => [
          `${root}models/${m.slug}.html`,
          `${m.title}${m.quantization ? ` ${m.quantization}` : ''}`,
          plural(m.rows, 'row'),
        ]),
      ),
      list(
        'Hardware',
        data.hardware.map((m) => [`${root}hardware/${m.slug}.html`, m.title, plural(m.rows, 'row')]),
      ),
      list(
        'Records',
        data.files.map((f) => [
          root + f.href,
          f.href.replace(/^records\//, ''),
          `${plural(f.runs, 'run')}, ${plural(f.rows, 'row')}, ${bytes(f.bytes)}`,
        ]),
      ),
    ),
  ];
}

function list(title: string, entries: readonly [href: string, name: string, note: string][]): HTMLElement {
  return h(
    'section',
    { class: 'card' },
    h('h2', {}, title),
    h(
      'ul',
      { class: 'plain-list' },
      ...entries.map(([href, name, note]) => h('li', {}, h('a', { href }, name), h('span', { class: 'soft' }, note))),
    ),
  );
}
