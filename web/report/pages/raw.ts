/* A record's lines as they stand in the file, loaded when somebody looks, opened at the line that a number names. */
import { h, on, replace } from '../dom';
import type { RawData } from '../data';
import { copyButton } from '../copy';
import { plain, plural } from '../format';
import { loadRaw } from '../loader';

const PAGE = 100;
/** Longer lines are shown as they are: laying them out would stop the page. */
const LAID_OUT_MAX = 200_000;
const PREVIEW = 160;

/** "sample": what a line is, without parsing all of it. */
export function kindOf(line: string): string {
  return /^\{\s*"kind"\s*:\s*"([a-z]+)"/.exec(line)?.[1] ?? '';
}

/** A line over many lines, lists of numbers kept together; null where it is too long or no JSON. */
export function layOut(line: string): string | null {
  if (line.length > LAID_OUT_MAX) {
    return null;
  }
  try {
    // The digits of the record are kept: only the space between its tokens is made, its numbers are never read.
    JSON.parse(line);
  } catch {
    return null;
  }
  let out = '';
  let depth = 0;
  let text = false;
  let flat = 0; // depth inside a list that holds no object
  for (let k = 0; k < line.length; k += 1) {
    const c = line[k] as string;
    if (text) {
      out += c;
      if (c === '\\') {
        k += 1;
        out += line[k] ?? '';
      } else if (c === '"') {
        text = false;
      }
    } else if (c === '"') {
      text = true;
      out += c;
    } else if (c === '{' || c === '[') {
      const close = c === '{' ? '}' : ']';
      const end = line.indexOf(close, k);
      const inner = line.slice(k + 1, end);
      if (flat > 0 || inner.trim() === '' || (c === '[' && !/[{[]/.test(inner))) {
        flat += 1;
        out += c;
      } else {
        depth += 1;
        out += `${c}\n${'  '.repeat(depth)}`;
      }
    } else if (c === '}' || c === ']') {
      if (flat > 0) {
        flat -= 1;
        out += c;
      } else {
        depth -= 1;
        out += `\n${'  '.repeat(depth)}${c}`;
      }
    } else if (c === ',') {
      out += flat > 0 ? ', ' : `,\n${'  '.repeat(depth)}`;
    } else if (c === ':') {
      out += ': ';
    } else if (!/\s/.test(c)) {
      out += c;
    }
  }
  return out;
}

export interface RawView {
  element: HTMLElement;
  /** Opens the view at a line of the file. */
  open(line: number): void;
}

export function rawView(
  id: string,
  first: number,
  count: number,
  fileHref: string,
  fileName: string,
  root: string,
): RawView {
  let data: RawData | null = null;
  let loading: Promise<void> | null = null;
  let from = 0;
  let opened: number | null = null;
  const list = h('ol', { class: 'raw', role: 'list' });
  const status = h('p', { class: 'soft', role: 'status' });
  const earlier = h('button', { type: 'button', class: 'button' }, 'Earlier lines');
  const later = h('button', { type: 'button', class: 'button' }, 'Later lines');
  const details = h(
    'details',
    { class: 'raw-details' },
    h('summary', {}, `The record: ${plural(count, 'line')}, as measured`),
    h(
      'p',
      { class: 'soft' },
      'From ',
      h('a', { href: fileHref }, fileName),
      `, line ${plain(first)} to ${plain(first + count - 1)}. Each line holds the SHA-256 of the one before it.`,
    ),
    status,
    list,
    h('p', { class: 'pager' }, earlier, later),
  );

  function item(index: number): HTMLElement {
    const line = data?.lines[index] ?? '';
    const number = (data?.first ?? first) + index;
    const isOpen = number === opened;
    const button = h(
      'button',
      { type: 'button', class: 'line', 'aria-expanded': String(isOpen) },
      h('span', { class: 'no' }, String(number)),
      h('span', { class: 'kind' }, kindOf(line)),
      h('span', { class: 'text' }, line.slice(0, PREVIEW)),
    );
    on(button, 'click', () => {
      opened = isOpen ? null : number;
      history.replaceState(null, '', isOpen ? location.pathname + location.search : `#L${number}`);
      draw();
      list.querySelector<HTMLElement>(`#L${number} button`)?.focus({ preventScroll: true });
    });
    const li = h('li', { id: `L${number}`, class: isOpen ? 'target' : null }, button);
    if (isOpen) {
      const laid = layOut(line);
      li.append(
        h(
          'div',
          { class: 'whole' },
          copyButton(() => line, 'Copy line'),
          h(
            'pre',
            { tabindex: 0, 'aria-label': `Line ${number}` },
            laid ??
              (line.length > LAID_OUT_MAX
                ? `${line.slice(0, LAID_OUT_MAX)} … (${plain(line.length)} characters; the file has them all)`
                : line),
          ),
        ),
      );
    }
    return li;
  }

  function draw(): void {
    const n = data?.lines.length ?? 0;
    const to = Math.min(from + PAGE, n);
    replace(list, ...Array.from({ length: to - from }, (_, k) => item(from + k)));
    earlier.hidden = from === 0;
    later.hidden = to >= n;
    status.textContent =
      n > PAGE ? `Lines ${plain((data?.first ?? first) + from)} to ${plain((data?.first ?? first) + to - 1)}.` : '';
  }

  function turn(by: number): void {
    from = Math.max(0, from + by);
    draw();
    details.scrollIntoView();
  }
  on(earlier, 'click', () => turn(-PAGE));
  on(later, 'click', () => turn(PAGE));

  function loaded(): Promise<void> {
    loading ??= loadRaw(root, id).then(
      (raw) => {
        data = raw;
        draw();
      },
      (error: unknown) => {
        loading = null;
        const why = error instanceof Error ? error.message : String(error);
        status.textContent = `The lines could not be loaded: ${why}.`;
      },
    );
    if (!data) {
      status.textContent = 'Loading…';
    }
    return loading;
  }
  on(details, 'toggle', () => {
    if (details.open) {
      void loaded();
    }
  });

  return {
    element: h('section', { class: 'section', id: 'record' }, h('h2', {}, 'Record'), details),
    open: (line) => {
      opened = line;
      details.open = true;
      void loaded().then(() => {
        const n = data?.lines.length ?? 0;
        const index = line - (data?.first ?? first);
        if (index < 0 || index >= n) {
          status.textContent = `This record has no line ${line}.`;
          return;
        }
        from = Math.max(0, Math.min(index - 5, n - PAGE));
        draw();
        const target = document.getElementById(`L${line}`);
        target?.scrollIntoView({ block: 'start' });
        target?.querySelector('button')?.focus({ preventScroll: true });
      });
    },
  };
}
