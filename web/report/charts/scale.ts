/* Axes: where a value lies and which values deserve a tick. */

export interface Scale {
  /** Pixel of a value. */
  at(value: number): number;
  ticks: number[];
  /** Decimals that tell neighbouring ticks apart. */
  decimals: number;
  log: boolean;
}

/** A step of 1, 2 or 5 times a power of ten that cuts `span` into about `wanted` parts. */
export function niceStep(span: number, wanted: number): number {
  const raw = span / Math.max(wanted, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const rest = raw / power;
  const nice = rest < 1.5 ? 1 : rest < 3.5 ? 2 : rest < 7.5 ? 5 : 10;
  return nice * power;
}

/** Linear axis whose ends are ticks; `zero` pulls the origin in. */
export function linear(lo: number, hi: number, from: number, to: number, wanted: number, zero: boolean): Scale {
  let low = zero ? Math.min(0, lo) : lo;
  let high = zero ? Math.max(0, hi) : hi;
  if (low === high) {
    low -= Math.abs(low) / 2 || 1;
    high += Math.abs(high) / 2 || 1;
  }
  const step = niceStep(high - low, wanted);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  const ticks: number[] = [];
  for (let i = first; i <= last; i += 1) {
    ticks.push(Number((i * step).toPrecision(12)));
  }
  low = first * step;
  high = last * step;
  const scale = (to - from) / (high - low);
  return {
    at: (v) => from + (v - low) * scale,
    ticks,
    decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)),
    log: false,
  };
}

/** Logarithmic axis of positive values with ticks at 1, 2 and 5 times powers of ten, thinned to about `wanted`. */
export function logarithmic(lo: number, hi: number, from: number, to: number, wanted: number): Scale {
  const all: number[] = [];
  const start = Math.floor(Math.log10(lo)) - 1;
  const end = Math.ceil(Math.log10(hi)) + 1;
  for (let e = start; e <= end; e += 1) {
    for (const m of [1, 2, 5]) {
      all.push(Number(`${m}e${e}`));
    }
  }
  const below = all.filter((t) => t <= lo * (1 + 1e-9));
  const above = all.filter((t) => t >= hi * (1 - 1e-9));
  let low = below[below.length - 1] ?? lo;
  let high = above[0] ?? hi;
  if (low === high) {
    low /= 2;
    high *= 2;
  }
  let ticks = all.filter((t) => t >= low * (1 - 1e-9) && t <= high * (1 + 1e-9));
  if (ticks.length > wanted * 1.5) {
    const powers = ticks.filter((t) => Math.abs(Math.log10(t) - Math.round(Math.log10(t))) < 1e-9);
    ticks = powers.length >= 2 ? powers : ticks;
  }
  const a = Math.log(low);
  const scale = (to - from) / (Math.log(high) - a);
  const smallest = ticks[0] ?? low;
  return {
    at: (v) => from + (Math.log(v) - a) * scale,
    ticks,
    decimals: Math.max(0, -Math.floor(Math.log10(smallest) + 1e-9)),
    log: true,
  };
}

/** Smallest and largest finite value, or null where there is none. */
export function extent(values: Iterable<number | null | undefined>): [number, number] | null {
  let lo = Infinity;
  let hi = -Infinity;
  for (const v of values) {
    if (typeof v === 'number' && Number.isFinite(v)) {
      lo = Math.min(lo, v);
      hi = Math.max(hi, v);
    }
  }
  return lo <= hi ? [lo, hi] : null;
}
