/* What is shown, as the address says it: facets, words, view, order and chosen rows, all in the URL's fragment. */
import type { NumberColumn, TextColumn } from './data';
import type { Rows } from './rows';

export interface Facet {
  key: string;
  title: string;
  /** The values of all rows as text; "" is "not known". */
  values(rows: Rows): string[];
  /** How a value is written. */
  show(value: string): string;
  numeric?: boolean;
}

function ofText(name: TextColumn): (rows: Rows) => string[] {
  return (rows) => {
    const dictionary = rows.dictionary(name);
    return Array.from(rows.codes(name), (code) => dictionary[code] ?? '');
  };
}

function ofNumber(name: NumberColumn): (rows: Rows) => string[] {
  return (rows) => Array.from(rows.numbers(name), (v) => (Number.isNaN(v) ? '' : String(v)));
}

const asIs = (value: string): string => value || 'not known';

/** An engine and the device interface that it runs on. */
export function backendOf(rows: Rows, i: number): string {
  const engine = rows.text('engine', i);
  const api = rows.text('device_api', i);
  return engine ? (api ? `${engine} (${api})` : engine) : '';
}

export const FACETS: readonly Facet[] = [
  { key: 'model', title: 'Model', values: ofText('model'), show: asIs },
  { key: 'hardware', title: 'Hardware', values: ofText('hardware'), show: asIs },
  {
    key: 'backend',
    title: 'Backend',
    values: (rows) => Array.from({ length: rows.n }, (_, i) => backendOf(rows, i)),
    show: asIs,
  },
  { key: 'workload', title: 'Workload', values: ofText('workload'), show: asIs },
  { key: 'concurrency', title: 'Concurrency', values: ofNumber('concurrency'), show: asIs, numeric: true },
  {
    key: 'cap',
    title: 'Power cap',
    values: ofNumber('power_cap_w'),
    show: (v) => (v ? `${v}\u202fW` : 'not known'),
    numeric: true,
  },
  { key: 'cache', title: 'Cold / warm', values: ofText('cache'), show: asIs },
  { key: 'kind', title: 'Kind', values: ofText('kind'), show: asIs },
  { key: 'comparable', title: 'Comparability', values: ofText('comparable'), show: asIs },
  { key: 'verdict', title: 'Verdict', values: ofText('verdict'), show: asIs },
];

export interface State {
  view: string;
  /** Column id, with "-" before it for descending; "" is the order of the records. */
  sort: string;
  words: string;
  facets: Map<string, Set<string>>;
  /** Ids of the rows chosen for comparing, in the order of choosing. */
  chosen: string[];
}

export function emptyState(view: string): State {
  return { view, sort: '', words: '', facets: new Map(), chosen: [] };
}

/** A value that is not known is written "-" in the address; one that is "-" or starts so is doubled. */
function encodeValue(value: string): string {
  return value === '' ? '-' : value.startsWith('-') ? `-${value}` : value;
}

function decodeValue(value: string): string {
  return value === '-' ? '' : value.startsWith('--') ? value.slice(1) : value;
}

/** The fragment (without "#") of a state; a state that is all default has an empty one. */
export function toFragment(state: State, views: readonly string[]): string {
  const params = new URLSearchParams();
  if (state.view !== views[0]) {
    params.append('view', state.view);
  }
  for (const facet of FACETS) {
    for (const value of [...(state.facets.get(facet.key) ?? [])].sort()) {
      params.append(facet.key, encodeValue(value));
    }
  }
  if (state.words.trim()) {
    params.append('q', state.words.trim());
  }
  if (state.sort) {
    params.append('sort', state.sort);
  }
  if (state.chosen.length) {
    params.append('rows', state.chosen.join(' '));
  }
  return params.toString();
}

/** The state that a fragment asks for; what it does not know is ignored. */
export function fromFragment(
  fragment: string,
  views: readonly string[],
  columns: (view: string) => readonly string[],
): State {
  const params = new URLSearchParams(fragment.replace(/^#/, ''));
  const wanted = params.get('view');
  const view = wanted !== null && views.includes(wanted) ? wanted : (views[0] ?? '');
  const state = emptyState(view);
  for (const facet of FACETS) {
    const values = params.getAll(facet.key).map(decodeValue);
    if (values.length) {
      state.facets.set(facet.key, new Set(values));
    }
  }
  state.words = params.get('q') ?? '';
  const sort = params.get('sort') ?? '';
  state.sort = columns(view).includes(sort.replace(/^-/, '')) ? sort : '';
  state.chosen = [
    ...new Set((params.get('rows') ?? '').split(' ').filter((id) => /^[0-9a-f]{1,32}-[0-9]{1,9}$/.test(id))),
  ];
  return state;
}

export interface Choice {
  value: string;
  /** Rows that would stay if this value alone were added to what the other facets ask for. */
  count: number;
}

export interface Matching {
  /** Indexes of the rows, in the order of the table. */
  rows: number[];
  choices: Map<string, Choice[]>;
}

/** Columns whose text the word search looks through. */
const SEARCHED: readonly TextColumn[] = [
  'model',
  'quantization',
  'hardware',
  'engine',
  'build',
  'device_api',
  'label',
  'workload',
  'row',
  'kind',
  'cache',
  'verdict',
  'suite',
  'run',
  'date',
];

/** Finds rows by words and facets; everything that does not depend on the question is prepared once. */
export class Finder {
  private readonly coded: { facet: Facet; codes: Int32Array; values: string[] }[];
  private haystack: string[] | null = null;

  constructor(private readonly rows: Rows) {
    this.coded = FACETS.map((facet) => {
      const index = new Map<string, number>();
      const codes = Int32Array.from(facet.values(rows), (value) => {
        let code = index.get(value);
        if (code === undefined) {
          code = index.size;
          index.set(value, code);
        }
        return code;
      });
      return { facet, codes, values: [...index.keys()] };
    });
  }

  private texts(): string[] {
    if (!this.haystack) {
      const columns = SEARCHED.map((name) => ({
        codes: this.rows.codes(name),
        lower: this.rows.dictionary(name).map((text) => text.toLowerCase()),
      }));
      this.haystack = Array.from({ length: this.rows.n }, (_, i) =>
        columns.map(({ codes, lower }) => lower[codes[i] ?? -1] ?? '').join('\n'),
      );
    }
    return this.haystack;
  }

  /** What the first word would wait for; to be called when there is time. */
  prepare(): void {
    this.texts();
  }

  match(state: State): Matching {
    const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
    const texts = words.length ? this.texts() : null;
    const wanted = this.coded.map(({ facet, values }) => {
      const chosen = state.facets.get(facet.key);
      return chosen?.size ? values.map((value) => chosen.has(value)) : null;
    });
    const counts = this.coded.map(({ values }) => new Int32Array(values.length));
    const found: number[] = [];
    for (let i = 0; i < this.rows.n; i += 1) {
      const text = texts?.[i];
      if (text !== undefined && !words.every((word) => text.includes(word))) {
        continue;
      }
      // A row that only one facet refuses still counts among that facet's own choices.
      let refusals = 0;
      let refusedBy = -1;
      for (let f = 0; f < wanted.length && refusals < 2; f += 1) {
        if (wanted[f] && !wanted[f]?.[this.coded[f]?.codes[i] ?? -1]) {
          refusals += 1;
          refusedBy = f;
        }
      }
      if (refusals === 0) {
        found.push(i);
        counts.forEach((count, f) => {
          const code = this.coded[f]?.codes[i] ?? 0;
          count[code] = (count[code] ?? 0) + 1;
        });
      } else if (refusals === 1) {
        const count = counts[refusedBy];
        const code = this.coded[refusedBy]?.codes[i] ?? 0;
        if (count) {
          count[code] = (count[code] ?? 0) + 1;
        }
      }
    }
    const choices = new Map<string, Choice[]>();
    this.coded.forEach(({ facet, values }, f) => {
      const list = values.map((value, code) => ({ value, count: counts[f]?.[code] ?? 0 }));
      choices.set(
        facet.key,
        list.sort((a, b) => compareValues(a.value, b.value, facet.numeric ?? false)),
      );
    });
    return { rows: found, choices };
  }
}

const collator = new Intl.Collator('en', { numeric: true });

function compareValues(a: string, b: string, numeric: boolean): number {
  if (a === '' || b === '') {
    return a === b ? 0 : a === '' ? 1 : -1;
  }
  return numeric ? Number(a) - Number(b) : collator.compare(a, b);
}
