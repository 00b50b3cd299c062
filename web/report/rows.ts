/* A table of data.ts with its columns decoded when they are first looked at: a view pays only for what it shows. */
import type {
  Column,
  Finding,
  IntervalMetric,
  JsonColumn,
  JsonDictionaries,
  MedianMetric,
  NumberColumn,
  Size,
  Table,
  TextColumn,
} from './data';

export interface Figure {
  median: number;
  lo: number | null;
  hi: number | null;
  /** Null: printed, or this page's data leaves it out. */
  size: Size | null;
  /** As a source printed it; its samples are not known. */
  printed: boolean;
  /** The digits as they stand in the record. */
  digits: string;
}

/** The items of a column, runs of equal values spelled out; "" is "not known". */
export function expand(column: Column | undefined, n: number): string[] {
  const items: string[] = [];
  if (column !== undefined && n > 0) {
    for (const item of column.split(',')) {
      const star = item.indexOf('*');
      if (star < 0) {
        items.push(item);
      } else {
        const value = item.slice(0, star);
        for (let k = Number(item.slice(star + 1)); k > 0; k -= 1) {
          items.push(value);
        }
      }
    }
  }
  if (column !== undefined && items.length !== n) {
    throw new Error(`a column of ${items.length} items in a table of ${n} rows`);
  }
  while (items.length < n) {
    items.push('');
  }
  return items;
}

export class Rows {
  readonly n: number;
  private readonly decoded = new Map<string, string[]>();
  private readonly numeric = new Map<string, Float64Array>();
  private readonly coded = new Map<string, Int32Array>();

  constructor(readonly table: Table) {
    this.n = table.n;
  }

  /** The items as they are written, with the record's digits. */
  tokens(name: keyof Table['columns']): string[] {
    let items = this.decoded.get(name);
    if (!items) {
      items = expand(this.table.columns[name], this.n);
      this.decoded.set(name, items);
    }
    return items;
  }

  /** NaN where not known. */
  numbers(name: NumberColumn): Float64Array {
    let values = this.numeric.get(name);
    if (!values) {
      values = Float64Array.from(this.tokens(name), (token) => (token === '' ? NaN : Number(token)));
      this.numeric.set(name, values);
    }
    return values;
  }

  number(name: NumberColumn, i: number): number | null {
    const v = this.numbers(name)[i];
    return v === undefined || Number.isNaN(v) ? null : v;
  }

  /** Indexes into the column's dictionary, -1 where not known. */
  codes(name: TextColumn | JsonColumn | `${IntervalMetric}.size`): Int32Array {
    let values = this.coded.get(name);
    if (!values) {
      values = Int32Array.from(this.tokens(name), (token) => (token === '' ? -1 : Number(token)));
      this.coded.set(name, values);
    }
    return values;
  }

  dictionary(name: TextColumn): readonly string[] {
    return this.table.dict[name] ?? [];
  }

  text(name: TextColumn, i: number): string | null {
    return this.dictionary(name)[this.codes(name)[i] ?? -1] ?? null;
  }

  is(name: TextColumn, i: number, value: string): boolean {
    return this.text(name, i) === value;
  }

  json<K extends JsonColumn>(name: K, i: number): JsonDictionaries[K][number] | null {
    const dictionary = this.table.dict[name] as JsonDictionaries[K] | undefined;
    return dictionary?.[this.codes(name)[i] ?? -1] ?? null;
  }

  findings(i: number): Finding[] {
    return this.json('findings', i) ?? [];
  }

  figure(name: IntervalMetric, i: number): Figure | null {
    const median = this.number(name, i);
    if (median === null) {
      return null;
    }
    const code = this.codes(`${name}.size`)[i] ?? -1;
    const size = this.table.dict.size?.[code] ?? null;
    return {
      median,
      lo: this.number(`${name}.lo`, i),
      hi: this.number(`${name}.hi`, i),
      size,
      printed: size === null && this.json('printed', i) !== null,
      digits: this.tokens(name)[i] ?? '',
    };
  }

  has(name: NumberColumn | TextColumn | MedianMetric | JsonColumn): boolean {
    return this.table.columns[name] !== undefined;
  }

  id(i: number): string {
    return `${this.text('run', i) ?? ''}-${this.tokens('line')[i] ?? ''}`;
  }

  /** Where the row's numbers were recorded: the very line, on its run's page. */
  href(i: number): string {
    return lineHref(this.text('run', i) ?? '', Number(this.tokens('line')[i]));
  }
}

/** The line of a record as an address within the site; the caller puts the way to the site's root before it. */
export function lineHref(run: string, line: number): string {
  return `runs/${encodeURIComponent(run)}.html#L${line}`;
}
