/*
 * A table with its question: what the address asks for is found, ordered and shown; what the reader changes goes back
 * into the address, so that a page can be sent on, reloaded and gone back from.
 */
import { addressOf } from './compare';
import { Controls } from './controls';
import { type Child, announce, h, on } from './dom';
import { save, toCsv, toJson } from './download';
import { Finder, type State, fromFragment, toFragment } from './filters';
import { showFindings } from './findings';
import { plural } from './format';
import { Grid, NARROW } from './grid';
import type { Rows } from './rows';
import { sorted } from './sort';
import { type View, shownColumns } from './views';
import type { Column } from './cells';

export interface ExplorerOptions {
  rows: Rows;
  root: string;
  label: string;
  views: readonly View[];
  facets: readonly string[];
  links: Child[];
  /** Name of the files that are downloaded. */
  name: string;
  /** Whenever other rows are shown. */
  shown?: (order: readonly number[]) => void;
}

const CHOSEN_MAX = 12;
/** Tables of fewer rows are read, not searched. */
const SEARCHED_MIN = 8;

/** On a narrow screen: first what a row is and did, then its figures, and last what is mostly the same. */
function narrowed(list: readonly Column[]): Column[] {
  const last = ['kind', 'comparable', 'label', 'backend'];
  const rank = (c: Column): number =>
    c.pinned && c === list.find((other) => other.pinned)
      ? 0
      : c.id === 'workload' || c.id === 'concurrency'
        ? 1
        : last.includes(c.id)
          ? 3
          : 2;
  return [...list].sort((a, b) => rank(a) - rank(b));
}

export function explorer(options: ExplorerOptions): HTMLElement {
  const { rows, root, views } = options;
  const ids = views.map((view) => view.id);
  const columns = new Map<string, Column[]>();
  const narrow = matchMedia(NARROW);
  function layColumns(): void {
    for (const view of views) {
      const list = shownColumns(rows, view.columns);
      columns.set(view.id, narrow.matches ? narrowed(list) : list);
    }
  }
  layColumns();
  narrow.addEventListener('change', () => {
    layColumns();
    draw();
  });
  const idsOf = (view: string): string[] => (columns.get(view) ?? []).map((c) => c.id);
  const finder = new Finder(rows);
  const orders = new Map<string, Uint32Array>();
  let state: State = fromFragment(location.hash, ids, idsOf);

  const tray = h('div', { class: 'tray', role: 'region', 'aria-label': 'Rows to compare', hidden: true });
  const grid = new Grid({
    rows,
    root,
    label: options.label,
    sort: (column) => {
      const first = column.bigger ? `-${column.id}` : column.id;
      const second = column.bigger ? column.id : `-${column.id}`;
      state.sort = state.sort === first ? second : state.sort === second ? '' : first;
      update(false);
      announce(
        state.sort
          ? `Sorted by ${column.title}, ${state.sort.startsWith('-') ? 'descending' : 'ascending'}`
          : 'In the order of the records',
      );
    },
    choose: (id, chosen) => {
      state.chosen = chosen
        ? [...state.chosen.filter((other) => other !== id), id].slice(-CHOSEN_MAX)
        : state.chosen.filter((other) => other !== id);
      update(false);
    },
    showFindings: (i) => showFindings(rows, i, root),
  });
  const controls = new Controls({
    views,
    facets: options.facets,
    search: rows.n >= SEARCHED_MIN || options.facets.length > 0,
    links: options.links,
    changed: (typing) => (typing ? soon() : update(false)),
    download: (format, all) => {
      const order = all ? Array.from({ length: rows.n }, (_, i) => i) : current;
      const name = `${options.name}${all ? '' : '-shown'}.${format}`;
      save(
        name,
        format === 'csv' ? 'text/csv' : 'application/json',
        format === 'csv' ? toCsv(rows, order) : toJson(rows, order),
      );
      announce(`${plural(order.length, 'row')} saved as ${name}`);
    },
  });
  let current: number[] = [];
  let frame = 0;

  /** Key strokes that come faster than frames are answered once. */
  function soon(): void {
    if (!frame) {
      frame = requestAnimationFrame(() => {
        frame = 0;
        update(true);
      });
    }
  }

  function orderOf(view: View): Uint32Array | null {
    const sort = state.sort || (view.sort ?? '');
    const column = (columns.get(state.view) ?? []).find((c) => c.id === sort.replace(/^-/, ''));
    if (!column) {
      return null;
    }
    let order = orders.get(sort);
    if (!order) {
      order = sorted(rows.n, column.key(rows), sort.startsWith('-'));
      orders.set(sort, order);
    }
    return order;
  }

  let lastKey = '';
  function draw(): void {
    const view = views.find((v) => v.id === state.view) ?? (views[0] as View);
    const found = finder.match(state);
    const matching = view.keep ? found.rows.filter((i) => view.keep?.(rows, i)) : found.rows;
    const left = found.rows.length - matching.length;
    const order = orderOf(view);
    let list = matching;
    if (order) {
      const among = new Uint8Array(rows.n);
      matching.forEach((i) => (among[i] = 1));
      list = [];
      for (const i of order) {
        if (among[i]) {
          list.push(i);
        }
      }
    }
    // The same rows in the same order keep their place in the scroll.
    const key = `${state.view} ${state.sort}`;
    const same = key === lastKey && list.length === current.length && list.every((i, k) => i === current[k]);
    lastKey = key;
    current = same ? current : list;
    const sort = state.sort || (view.sort ?? '');
    grid.show({
      columns: columns.get(view.id) ?? [],
      order: current,
      sort: sort ? { id: sort.replace(/^-/, ''), descending: sort.startsWith('-') } : null,
      chosen: new Set(state.chosen),
      empty:
        rows.n === 0
          ? ['No rows.']
          : left > 0
            ? [`No ${view.kept ?? 'rows of this view'} among the ${plural(found.rows.length, 'row')} that match.`]
            : ['No row matches. Take a filter off to see more.'],
    });
    controls.update(
      state,
      found.choices,
      current.length,
      rows.n,
      left > 0 ? `, this view leaves ${plural(left, 'matching row')} out` : '',
    );
    drawTray();
    if (!same) {
      options.shown?.(current);
    }
  }

  function drawTray(): void {
    const n = state.chosen.length;
    tray.hidden = n === 0;
    tray.replaceChildren();
    if (n) {
      const clear = h('button', { type: 'button', class: 'link' }, 'Clear');
      on(clear, 'click', () => {
        state.chosen = [];
        update(false);
      });
      const address = `${root}compare.html${addressOf(state.chosen)}`;
      tray.append(
        h('span', {}, `${plural(n, 'row')} chosen`),
        n > 1
          ? h('a', { class: 'button primary', href: address }, 'Compare')
          : h('span', { class: 'soft' }, 'choose another one to compare'),
        clear,
      );
    }
  }

  let typed = false;

  /** The first key stroke of a word makes a step to go back to, and those after it change that step. */
  function update(typing: boolean): void {
    const fragment = toFragment(state, ids);
    const address = `${location.pathname}${location.search}${fragment ? `#${fragment}` : ''}`;
    if (`#${fragment}` !== (location.hash || '#')) {
      history[typing && typed ? 'replaceState' : 'pushState'](null, '', address);
    }
    typed = typing;
    draw();
  }

  addEventListener('popstate', () => {
    state = fromFragment(location.hash, ids, idsOf);
    draw();
  });
  draw();
  setTimeout(() => finder.prepare(), 300);
  return h('div', { class: 'explorer' }, controls.element, grid.element, tray);
}
