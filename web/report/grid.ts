/*
 * A table of any number of rows: only those in sight, and a few around them, are in the document. It stays a table to
 * a screen reader, with the number of each row and of all of them. Rows are all of one height, so that where one lies
 * is known without laying it out. For printing, all rows are there.
 */
import { type Child, append, h, on } from './dom';
import type { Column } from './cells';
import { findingsAgainst } from './columns';
import type { Finding } from './data';
import type { Rows } from './rows';

export const ROW_HEIGHT = 46;
export const NARROW = '(max-width: 759px)';
const NARROW_MAX = 148;
const AROUND = 12;
/** More than this would take a printer, and the browser's layout, longer than anybody waits. */
const PRINTED_MAX = 3000;
/** Fewer rows than this are all kept in the document: nothing is gained by leaving some out. */
const WHOLE_MAX = 120;
/** As many rows as a page shows without a scroll of their own. */
const SHORT_MAX = 30;

export interface GridOptions {
  rows: Rows;
  root: string;
  label: string;
  /** A click on a column's head. */
  sort(column: Column): void;
  /** Null: rows cannot be chosen. */
  choose: ((id: string, chosen: boolean) => void) | null;
  showFindings(i: number): void;
}

export interface GridContent {
  columns: readonly Column[];
  /** Indexes of the rows to show, in their order. */
  order: readonly number[] | Uint32Array;
  sort: { id: string; descending: boolean } | null;
  chosen: ReadonlySet<string>;
  empty: Child[];
}

const LEVELS = ['wrong', 'legacy', 'invalid', 'noisy', 'unverified', 'interrupted'];

function worst(findings: readonly Finding[]): Finding | undefined {
  return [...findings].sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level))[0];
}

export class Grid {
  readonly element: HTMLElement;
  private readonly box: HTMLElement;
  private readonly table = h('table', { class: 'grid' });
  private readonly columnGroup = h('colgroup');
  private readonly head = h('thead');
  private readonly body = h('tbody');
  private readonly above = h('tr', { class: 'spacer', 'aria-hidden': 'true' }, h('td'));
  private readonly below = h('tr', { class: 'spacer', 'aria-hidden': 'true' }, h('td'));
  private readonly nothing = h('p', { class: 'empty', hidden: true });
  private content: GridContent = { columns: [], order: [], sort: null, chosen: new Set(), empty: [] };
  /** Where two columns would fill a screen, each is kept slim. */
  private readonly narrow = matchMedia(NARROW);
  private readonly drawn = new Map<number, HTMLTableRowElement>();
  private frame = 0;
  private printing = false;

  constructor(private readonly options: GridOptions) {
    append(this.body, this.above, this.below);
    append(
      this.table,
      h('caption', { class: 'visually-hidden' }, options.label),
      this.columnGroup,
      this.head,
      this.body,
    );
    this.box = h('div', { class: 'grid-box', tabindex: 0, role: 'region', 'aria-label': options.label }, this.table);
    const marked = Array.from({ length: options.rows.n }, (_, i) => i).some((i) =>
      findingsAgainst(options.rows, i).some((f) => f.field !== null),
    );
    this.element = h(
      'div',
      { class: 'grid-frame' },
      this.box,
      this.nothing,
      marked
        ? h(
            'p',
            { class: 'key' },
            h('span', { class: 'flag marked-wrong', 'aria-hidden': 'true' }),
            'a figure that does not hold, ',
            h('span', { class: 'flag', 'aria-hidden': 'true' }),
            'one that the checker doubts: a click on it, or on the findings in the last column, says why',
          )
        : null,
    );
    on(this.box, 'scroll', () => {
      this.box.classList.toggle('scrolled', this.box.scrollLeft > 0);
      this.later();
    });
    addEventListener('resize', () => this.later());
    addEventListener('beforeprint', () => this.print(true));
    addEventListener('afterprint', () => this.print(false));
    on(this.table, 'click', (event) => this.click(event));
    on(this.table, 'change', (event) => {
      const box = event.target;
      if (box instanceof HTMLInputElement && box.dataset['row'] && options.choose) {
        box.closest('tr')?.classList.toggle('chosen', box.checked);
        options.choose(box.dataset['row'], box.checked);
      }
    });
  }

  /** Shows other rows or columns. Keeps the place where only the chosen rows changed. */
  show(content: GridContent): void {
    const before = this.content;
    this.content = content;
    const sameHead =
      before.columns === content.columns &&
      before.sort?.id === content.sort?.id &&
      before.sort?.descending === content.sort?.descending;
    if (!sameHead) {
      this.drawHead(before.columns !== content.columns);
    }
    this.table.setAttribute('aria-rowcount', String(content.order.length + 1));
    this.table.setAttribute('aria-colcount', String(content.columns.length + (this.options.choose ? 1 : 0)));
    this.box.classList.toggle('short', content.order.length <= SHORT_MAX);
    this.nothing.hidden = content.order.length > 0;
    this.nothing.replaceChildren();
    append(this.nothing, ...content.empty);
    if (before.order !== content.order || before.columns !== content.columns) {
      for (const row of this.drawn.values()) {
        row.remove();
      }
      this.drawn.clear();
      if (before.order !== content.order) {
        this.box.scrollTop = 0;
      }
    } else {
      for (const row of this.drawn.values()) {
        this.mark(row);
      }
    }
    this.draw();
  }

  private mark(row: HTMLTableRowElement): void {
    const box = row.querySelector<HTMLInputElement>('input[data-row]');
    if (box) {
      box.checked = this.content.chosen.has(box.dataset['row'] ?? '');
      row.classList.toggle('chosen', box.checked);
    }
  }

  private click(event: MouseEvent): void {
    const target = event.target instanceof Element ? event.target : null;
    const sort = target?.closest<HTMLElement>('button[data-column]');
    const findings = target?.closest<HTMLElement>('[data-findings]');
    if (sort) {
      const column = this.content.columns.find((c) => c.id === sort.dataset['column']);
      if (column) {
        this.options.sort(column);
        this.head.querySelector<HTMLElement>(`button[data-column="${column.id}"]`)?.focus();
      }
    } else if (findings && !target?.closest('a')) {
      this.options.showFindings(Number(findings.dataset['findings']));
    }
  }

  private drawHead(columnsChanged: boolean): void {
    const { columns, sort } = this.content;
    const pinned = columns.find((c) => c.pinned);
    if (columnsChanged) {
      this.columnGroup.replaceChildren();
      const widths = [
        ...(this.options.choose ? [34] : []),
        ...columns.map((c) => (this.narrow.matches ? Math.min(c.width, NARROW_MAX) : c.width)),
      ];
      append(this.columnGroup, ...widths.map((width) => h('col', { width })));
      this.table.style.minWidth = `${widths.reduce((a, b) => a + b, 0)}px`;
    }
    const cells = columns.map((c) => {
      const mine = sort?.id === c.id;
      return h(
        'th',
        {
          scope: 'col',
          class: [c.num ? 'num' : '', c === pinned ? 'pinned' : ''].join(' ').trim() || null,
          'aria-sort': mine ? (sort.descending ? 'descending' : 'ascending') : null,
        },
        h(
          'button',
          { type: 'button', 'data-column': c.id, title: `${c.about}${c.unit ? ` (${c.unit})` : ''}` },
          h(
            'span',
            { class: 'head' },
            c.title,
            h('span', { class: 'arrow', 'aria-hidden': 'true' }, mine ? (sort.descending ? '↓' : '↑') : ''),
          ),
          c.unit ? h('span', { class: 'unit' }, c.unit) : null,
        ),
      );
    });
    this.head.replaceChildren(
      h(
        'tr',
        { 'aria-rowindex': 1 },
        this.options.choose
          ? h('th', { scope: 'col', class: 'choose' }, h('span', { class: 'visually-hidden' }, 'Compare'))
          : null,
        ...cells,
      ),
    );
  }

  private row(index: number): HTMLTableRowElement {
    const { rows, root, choose } = this.options;
    const i = this.content.order[index] ?? 0;
    const findings = findingsAgainst(rows, i);
    const pinned = this.content.columns.find((c) => c.pinned);
    const id = rows.id(i);
    const tr = h('tr', {
      'aria-rowindex': index + 2,
      'data-id': id,
      class: this.content.chosen.has(id) ? 'chosen' : null,
    });
    if (choose) {
      const about = ['hardware', 'engine', 'row'] as const;
      const name = `Compare ${about.map((column) => rows.text(column, i) ?? '').join(' ')}`;
      const box = h('input', { type: 'checkbox', 'data-row': id, 'aria-label': name });
      box.checked = this.content.chosen.has(id);
      tr.append(h('td', { class: 'choose' }, h('label', {}, box)));
    }
    for (const c of this.content.columns) {
      const cell = c.cell(rows, i, root);
      const found = findings.filter((f) => f.field !== null && c.fields.includes(f.field));
      const mark = worst(found);
      const title = [cell.title, ...found.map((f) => `${f.level}: ${f.text}`)].filter(Boolean).join('\n');
      const classes = [c.num ? 'num' : '', c === pinned ? 'pinned' : '', mark ? `marked marked-${mark.level}` : '']
        .join(' ')
        .trim();
      tr.append(
        h(
          c === pinned ? 'th' : 'td',
          {
            class: classes || null,
            title: title || null,
            scope: c === pinned ? 'row' : null,
            'data-findings': mark ? i : null,
          },
          h(
            'div',
            { class: 'main' },
            ...cell.main,
            mark
              ? h(
                  'span',
                  { class: 'flag' },
                  h('span', { class: 'visually-hidden' }, ` (${mark.level}: see the findings)`),
                )
              : null,
          ),
          h('div', { class: 'sub' }, ...(cell.sub ?? [])),
        ),
      );
    }
    return tr;
  }

  private later(): void {
    if (!this.frame) {
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        this.draw();
      });
    }
  }

  private print(printing: boolean): void {
    this.printing = printing;
    this.draw();
  }

  private draw(): void {
    const n = this.content.order.length;
    let from = 0;
    let to = n;
    if (this.printing) {
      to = Math.min(n, PRINTED_MAX);
    } else if (n > WHOLE_MAX) {
      const height = Math.max(this.box.clientHeight, 400);
      from = Math.max(0, Math.floor(this.box.scrollTop / ROW_HEIGHT) - AROUND);
      to = Math.min(n, Math.ceil((this.box.scrollTop + height) / ROW_HEIGHT) + AROUND);
    }
    const focused = document.activeElement;
    for (const [index, row] of this.drawn) {
      if ((index < from || index >= to) && !row.contains(focused)) {
        row.remove();
        this.drawn.delete(index);
      }
    }
    // In order, so that the ways of Tab and of a screen reader go down the rows.
    let next: ChildNode = this.below;
    for (let index = to - 1; index >= from; index -= 1) {
      let row = this.drawn.get(index);
      if (!row) {
        row = this.row(index);
        this.drawn.set(index, row);
      }
      if (row.nextSibling !== next) {
        this.body.insertBefore(row, next);
      }
      next = row;
    }
    const columns = this.content.columns.length + (this.options.choose ? 1 : 0);
    // A focused row that is out of sight stays in the document; it takes its height from the spacer on its side.
    const kept = [...this.drawn.keys()];
    const spacers: [HTMLTableRowElement, number][] = [
      [this.above, from - kept.filter((index) => index < from).length],
      [this.below, n - to - kept.filter((index) => index >= to).length],
    ];
    for (const [spacer, rows] of spacers) {
      const cell = spacer.firstElementChild as HTMLTableCellElement;
      cell.colSpan = columns;
      cell.style.height = `${rows * ROW_HEIGHT}px`;
      spacer.hidden = rows === 0;
    }
  }
}
