/* A table as the report writer makes it, from rows as plain objects: for the tests. */
import type { Table } from './data';
import { Rows } from './rows';

export type PlainRow = Record<string, string | number | object | null>;

/** Numbers become number columns, all else dictionary columns; `M.size` shares one dictionary. */
export function tableOf(rows: readonly PlainRow[]): Table {
  const columns: Record<string, string> = {};
  const dict: Record<string, unknown[]> = {};
  for (const name of new Set(rows.flatMap((row) => Object.keys(row)))) {
    const isNumber = rows.every(
      (row) => row[name] === undefined || row[name] === null || typeof row[name] === 'number',
    );
    const entries = name.endsWith('.size') ? 'size' : name;
    columns[name] = rows
      .map((row) => {
        const value = row[name] ?? null;
        if (value === null || isNumber) {
          return value === null ? '' : String(value);
        }
        const list = (dict[entries] ??= []);
        const at = list.findIndex((other) => JSON.stringify(other) === JSON.stringify(value));
        return String(at < 0 ? list.push(value) - 1 : at);
      })
      .join(',');
  }
  return { n: rows.length, dict, columns } as Table;
}

export function rowsOf(rows: readonly PlainRow[]): Rows {
  return new Rows(tableOf(rows));
}
