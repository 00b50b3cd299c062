/*
 * What every chart has besides its marks: a caption, a legend that does not speak by colour alone, a walk through the
 * points by arrow keys with each point said aloud, and the same data as a table.
 */
import { type Child, freshId, h, on, replace, s } from '../dom';

export interface Mark {
  /** Pixels within the drawing. */
  x: number;
  y: number;
  /** One sentence: what a reader sees in the tip and hears when walking. */
  text: string;
  href?: string | null;
}

export interface DataTable {
  head: string[];
  /** A cell with a link shows where its number was recorded. */
  rows: { text: string; href?: string | null }[][];
}

export interface Drawing {
  width: number;
  height: number;
  nodes: SVGElement[];
  marks: Mark[];
}

export interface FrameOptions {
  title: string;
  /** What the chart says, in words. */
  about: Child[];
  draw: (width: number) => Drawing;
  legend?: Child[];
  table: DataTable;
  /** Said where the chart has nothing to show; the drawing is left out then. */
  empty?: string | null;
}

const SHAPES = ['circle', 'square', 'triangle', 'diamond', 'down', 'cross', 'plus', 'bar'] as const;
export const SERIES_MAX = SHAPES.length;

/** The mark of series `i` centred at (x, y): shape and colour both tell series apart; hollow ones have no fill. */
export function marker(i: number, x: number, y: number, size = 4.5, hollow = false): SVGElement {
  const shape = SHAPES[i % SHAPES.length] ?? 'circle';
  const attributes = { class: `mark s${(i % SHAPES.length) + 1}${hollow ? ' hollow' : ''}` };
  const r = size;
  const path = (d: string): SVGElement => s('path', { ...attributes, d });
  switch (shape) {
    case 'circle':
      return s('circle', { ...attributes, cx: x, cy: y, r });
    case 'square':
      return s('rect', { ...attributes, x: x - r * 0.9, y: y - r * 0.9, width: r * 1.8, height: r * 1.8 });
    case 'triangle':
      return path(`M${x} ${y - r * 1.15}L${x + r * 1.1} ${y + r * 0.85}H${x - r * 1.1}Z`);
    case 'diamond':
      return path(`M${x} ${y - r * 1.25}L${x + r * 1.25} ${y}L${x} ${y + r * 1.25}L${x - r * 1.25} ${y}Z`);
    case 'down':
      return path(`M${x} ${y + r * 1.15}L${x + r * 1.1} ${y - r * 0.85}H${x - r * 1.1}Z`);
    case 'cross':
      return s('path', {
        class: `${attributes.class} stroke`,
        d: `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}`,
      });
    case 'plus':
      return s('path', { class: `${attributes.class} stroke`, d: `M${x} ${y - r}V${y + r}M${x - r} ${y}H${x + r}` });
    case 'bar':
      return s('rect', { ...attributes, x: x - r * 0.45, y: y - r * 1.2, width: r * 0.9, height: r * 2.4 });
  }
}

/** A legend entry for series `i`. */
export function legendEntry(i: number, name: string, hollow = false): HTMLElement {
  return h(
    'li',
    {},
    s('svg', { width: 14, height: 14, 'aria-hidden': 'true', focusable: 'false' }, marker(i, 7, 7, 4.5, hollow)),
    name,
  );
}

export function textAt(x: number, y: number, text: string, anchor = 'start', cls = 'tick'): SVGElement {
  return s('text', { x, y, 'text-anchor': anchor, class: cls }, text);
}

function dataTable(title: string, table: DataTable): HTMLElement {
  const details = h('details', { class: 'chart-data' }, h('summary', {}, `Data of this chart (${table.rows.length})`));
  // Filled when first opened: a chart of thousands of points costs no table until somebody wants it.
  on(details, 'toggle', () => {
    if (details.open && !details.querySelector('table')) {
      const body = table.rows.map((row) =>
        h(
          'tr',
          {},
          ...row.map((cell, i) =>
            h(
              i === 0 ? 'th' : 'td',
              i === 0 ? { scope: 'row' } : { class: 'num' },
              cell.href ? h('a', { href: cell.href }, cell.text) : cell.text,
            ),
          ),
        ),
      );
      details.append(
        h(
          'div',
          { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `Data: ${title}` },
          h(
            'table',
            { class: 'plain' },
            h(
              'thead',
              {},
              h('tr', {}, ...table.head.map((name, i) => h('th', { scope: 'col', class: i ? 'num' : null }, name))),
            ),
            h('tbody', {}, ...body),
          ),
        ),
      );
    }
  });
  return details;
}

/** Moves the reading point through `marks`: arrows one by one, Home and End, Enter opens its record line. */
function walk(box: HTMLElement, tip: HTMLElement, current: () => Drawing): void {
  let at = -1;
  const show = (index: number): void => {
    const { marks, width } = current();
    const mark = marks[index];
    at = mark ? index : -1;
    const ring = box.querySelector<SVGElement>('.ring');
    if (!mark) {
      tip.hidden = true;
      ring?.setAttribute('visibility', 'hidden');
      return;
    }
    tip.hidden = false;
    tip.textContent = mark.text;
    const half = Math.min(tip.offsetWidth / 2, width / 2);
    tip.style.left = `${Math.min(Math.max(mark.x, half), width - half)}px`;
    const above = mark.y > tip.offsetHeight + 16;
    tip.style.top = `${above ? mark.y - tip.offsetHeight - 12 : mark.y + 14}px`;
    ring?.setAttribute('visibility', 'visible');
    ring?.setAttribute('cx', String(mark.x));
    ring?.setAttribute('cy', String(mark.y));
    box.style.cursor = mark.href ? 'pointer' : '';
  };
  on(box, 'keydown', (event) => {
    const last = current().marks.length - 1;
    const step: Record<string, number> = {
      ArrowRight: Math.min(at + 1, last),
      ArrowDown: Math.min(at + 1, last),
      ArrowLeft: Math.max(at - 1, 0),
      ArrowUp: Math.max(at - 1, 0),
      Home: 0,
      End: last,
      Escape: -1,
    };
    const next = step[event.key];
    const href = current().marks[at]?.href;
    if (event.key === 'Enter' && href) {
      location.href = href;
    } else if (next !== undefined && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      show(next);
    }
  });
  const nearest = (event: MouseEvent): number => {
    const area = box.getBoundingClientRect();
    const { marks } = current();
    let best = -1;
    let distance = 26 ** 2;
    marks.forEach((mark, i) => {
      const d = (mark.x - (event.clientX - area.left)) ** 2 + (mark.y - (event.clientY - area.top)) ** 2;
      if (d < distance) {
        best = i;
        distance = d;
      }
    });
    return best;
  };
  on(box, 'pointermove', (event) => {
    if (event.pointerType === 'mouse') {
      show(nearest(event));
    }
  });
  on(box, 'pointerleave', () => show(-1));
  on(box, 'blur', () => show(-1));
  on(box, 'click', (event) => {
    const index = nearest(event);
    const href = current().marks[index]?.href;
    if (href && index === at) {
      location.href = href;
    } else {
      show(index);
    }
  });
}

/** A chart: drawn at the width it has, again whenever that changes. */
export function frame(options: FrameOptions): HTMLElement {
  const titleId = freshId('chart');
  const aboutId = freshId('about');
  const figure = h(
    'figure',
    { class: 'chart' },
    h(
      'figcaption',
      {},
      h('h3', { id: titleId }, options.title),
      h('p', { id: aboutId, class: 'about' }, ...options.about),
    ),
  );
  if (options.empty) {
    figure.append(h('p', { class: 'empty' }, options.empty));
    return figure;
  }
  const tip = h('div', { class: 'tip', role: 'status', hidden: true });
  const surface = h('div', { class: 'surface' });
  const box = h(
    'div',
    {
      class: 'plot',
      tabindex: 0,
      role: 'group',
      'aria-roledescription': 'chart',
      'aria-labelledby': titleId,
      'aria-describedby': aboutId,
    },
    surface,
    tip,
  );
  let drawing: Drawing = { width: 0, height: 0, nodes: [], marks: [] };
  const render = (width: number): void => {
    drawing = options.draw(width);
    replace(
      surface,
      s(
        'svg',
        {
          width: drawing.width,
          height: drawing.height,
          viewBox: `0 0 ${drawing.width} ${drawing.height}`,
          'aria-hidden': 'true',
          focusable: 'false',
        },
        ...drawing.nodes,
        s('circle', { class: 'ring', r: 8, visibility: 'hidden' }),
      ),
    );
  };
  walk(box, tip, () => drawing);
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.floor(box.clientWidth);
    if (now > 0 && now !== width) {
      width = now;
      render(now);
    }
  }).observe(box);
  figure.append(box);
  if (options.legend?.length) {
    figure.append(h('ul', { class: 'legend', 'aria-label': 'Legend' }, ...options.legend));
  }
  figure.append(dataTable(options.title, options.table));
  return figure;
}
