// How numbers are written on every page: never more digits than they have worth, a thin space before the unit.

const NARROW = '\u202f';

/** Whole numbers with separators: 12345 -> "12,345". */
export function formatCount(n: number): string {
  return Number.isFinite(n) ? Math.round(n).toLocaleString('en-US') : '-';
}

/** `digits` significant digits, trailing zeros kept: 41.2 at 4 -> "41.20"; never an exponent. */
export function formatSignificant(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return '-';
  if (value === 0) return '0';
  const magnitude = Math.floor(Math.log10(Math.abs(value)));
  const decimals = Math.min(Math.max(digits - 1 - magnitude, 0), 20);
  return value.toLocaleString('en-US', { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/** Tokens per second. */
export function formatRate(perSecond: number): string {
  return `${formatSignificant(perSecond)}${NARROW}tok/s`;
}

/** A time given in milliseconds, in the unit that reads best: "0.84 ms", "312 ms", "4.20 s", "3 min 5 s". */
export function formatMs(ms: number): string {
  if (!Number.isFinite(ms)) return '-';
  if (ms < 999.5) return `${formatSignificant(ms)}${NARROW}ms`;
  if (ms < 119_500) return `${formatSignificant(ms / 1000)}${NARROW}s`;
  const s = Math.round(ms / 1000);
  return `${Math.floor(s / 60)}${NARROW}min ${s % 60}${NARROW}s`;
}

/** Bytes in powers of 1024: "81.2 KiB". */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return '-';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1023.5 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? String(value) : formatSignificant(value)}${NARROW}${units[unit] ?? ''}`;
}

/** A model's parameters: "12.6 M", "8.34 B". */
export function formatParameters(n: number): string {
  return n >= 1e9 ? `${(n / 1e9).toFixed(2)}${NARROW}B` : `${(n / 1e6).toFixed(1)}${NARROW}M`;
}
