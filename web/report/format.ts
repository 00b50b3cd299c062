/* Figures as text. Digits follow what a measurement carries: four for a median, three for its interval's ends. */

export const DASH = '—';
const THIN = '\u202f'; // narrow no-break space

export function isNumber(v: number | null | undefined): v is number {
  return typeof v === 'number' && Number.isFinite(v);
}

function group(text: string): string {
  const [whole = '', part] = text.split('.');
  const digits = whole.replace(/^-/, '');
  const grouped = digits.length > 4 ? digits.replace(/\B(?=(\d{3})+$)/g, THIN) : digits;
  return (whole.startsWith('-') ? '−' : '') + grouped + (part === undefined ? '' : `.${part}`);
}

/** Decimals that leave `digits` significant ones; whole digits are never rounded away. */
export function decimalsFor(value: number, digits: number): number {
  const size = Math.abs(value);
  if (size === 0) {
    return 0;
  }
  // Through the exponent of the rounded value, so that 9.9996 takes the decimals of 10.00.
  const exponent = Number(size.toExponential(digits - 1).split('e')[1]);
  return Math.min(Math.max(digits - 1 - exponent, 0), 9);
}

/** A number with `digits` significant digits and grouped thousands. */
export function figure(value: number, digits = 4): string {
  return group(value.toFixed(decimalsFor(value, digits)));
}

export function fixed(value: number, decimals: number): string {
  return group(value.toFixed(decimals));
}

/** A whole number, or as many decimals as it has up to two. */
export function plain(value: number): string {
  return group(String(Number(value.toFixed(2))));
}

/** "431–447": both ends with the same decimals, "−0.4 to 0.2" where a sign would meet the dash. */
export function interval(lo: number, hi: number, digits = 3): string {
  const size = Math.max(Math.abs(lo), Math.abs(hi));
  const narrow = hi - lo < size * 10 ** -(digits - 1); // both ends would print alike
  const decimals = decimalsFor(size, narrow ? digits + 1 : digits);
  return `${fixed(lo, decimals)}${lo < 0 || hi < 0 ? ' to ' : '–'}${fixed(hi, decimals)}`;
}

export type Unit = 'tok/s' | 'ms' | 'J' | 'GB/s' | 'Tops/s' | 'tokens' | 'bytes' | 'share' | 'W' | 'rps' | '';

/** A duration in the unit that its size asks for. */
export function duration(ms: number, digits = 3): string {
  if (Math.abs(ms) >= 60_000) {
    return `${figure(ms / 60_000, digits)}${THIN}min`;
  }
  return Math.abs(ms) >= 1000 ? `${figure(ms / 1000, digits)}${THIN}s` : `${figure(ms, digits)}${THIN}ms`;
}

export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let size = n;
  let unit = 0;
  while (Math.abs(size) >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? plain(size) : figure(size, 3)}${THIN}${units[unit] ?? ''}`;
}

/** Parameters of a model: "8.34 B". */
export function count(n: number): string {
  for (const [scale, name] of [
    [1e12, 'T'],
    [1e9, 'B'],
    [1e6, 'M'],
    [1e3, 'K'],
  ] as const) {
    if (n >= scale) {
      return `${Number((n / scale).toPrecision(3))}${THIN}${name}`;
    }
  }
  return String(n);
}

export function percent(share: number, digits = 3): string {
  return `${figure(share * 100, digits)}${THIN}%`;
}

/** "×1.565": a ratio with three decimals, four digits from 10 on. */
export function ratio(value: number): string {
  return `×${value >= 10 ? figure(value, 4) : value.toFixed(3)}`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${plain(n)} ${n === 1 ? one : many}`;
}

/** "95 %" or "93.75 %": a level as it is, never rounded up. */
export function level(value: number): string {
  return `${Number((Math.floor(value * 1e5) / 1e3).toFixed(3))}${THIN}%`;
}
