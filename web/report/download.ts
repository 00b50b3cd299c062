/* Rows as CSV (RFC 4180) and JSON, with the digits of the records. */
import type { Rows } from './rows';
import type { Table } from './data';

type Name = keyof Table['columns'];

/** A cell: quoted where it must be, and never a formula in a spreadsheet. */
export function csvCell(text: string): string {
  const safe = /^[=+@\t\r]|^-(?![0-9.])/.test(text) ? `'${text}` : text;
  return /[",\r\n]|^[ \t]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function value(rows: Rows, name: Name, i: number): unknown {
  const token = rows.tokens(name)[i] ?? '';
  const dictionary = (rows.table.dict as Record<string, unknown[]>)[name.endsWith('.size') ? 'size' : name];
  return token === '' ? null : dictionary ? (dictionary[Number(token)] ?? null) : Number(token);
}

function names(rows: Rows): Name[] {
  return Object.keys(rows.table.columns) as Name[];
}

/** A line of names, then a line per row; objects and lists stand as JSON. */
export function toCsv(rows: Rows, order: Iterable<number>): string {
  const columns = names(rows);
  const dictionaries = rows.table.dict as Record<string, unknown[]>;
  const lines = [['id', ...columns].map(csvCell).join(',')];
  for (const i of order) {
    const cells = columns.map((name) => {
      if (!name.endsWith('.size') && !dictionaries[name]) {
        return rows.tokens(name)[i] ?? ''; // a number, as it was written
      }
      const v = value(rows, name, i);
      return v === null ? '' : csvCell(typeof v === 'string' ? v : JSON.stringify(v));
    });
    lines.push([rows.id(i), ...cells].join(','));
  }
  return `${lines.join('\r\n')}\r\n`;
}

/** A list of objects; what is not known is left out. */
export function toJson(rows: Rows, order: Iterable<number>): string {
  const columns = names(rows);
  const list = Array.from(order, (i) => {
    const row: Record<string, unknown> = { id: rows.id(i) };
    for (const name of columns) {
      const v = value(rows, name, i);
      if (v !== null) {
        row[name] = v;
      }
    }
    return JSON.stringify(row);
  });
  return `[\n${list.join(',\n')}\n]\n`;
}

/** Hands a text to the browser's downloads; nothing leaves the machine. */
export function save(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
