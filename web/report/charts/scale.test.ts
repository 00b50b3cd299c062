import { describe, expect, it } from 'vitest';
import { thin } from './lines';
import { extent, linear, logarithmic, niceStep } from './scale';

describe('axes', () => {
  it('end at ticks and hold all values', () => {
    const x = linear(3.2, 441, 0, 100, 5, true);
    expect(x.ticks).toEqual([0, 100, 200, 300, 400, 500]);
    expect(x.at(0)).toBe(0);
    expect(x.at(500)).toBe(100);
    expect(x.decimals).toBe(0);
    expect(linear(0.1, 0.3, 0, 1, 4, false).decimals).toBe(2);
  });

  it('stand a single value', () => {
    const x = linear(5, 5, 0, 100, 5, false);
    expect(Number.isFinite(x.at(5))).toBe(true);
    const y = logarithmic(10, 10, 0, 100, 5);
    expect(y.at(10)).toBeGreaterThan(0);
    expect(y.at(10)).toBeLessThan(100);
  });

  it('give equal factors equal distances', () => {
    const y = logarithmic(15, 1600, 0, 100, 6);
    expect(y.at(40) - y.at(20)).toBeCloseTo(y.at(80) - y.at(40));
    expect(y.ticks[0]).toBeLessThanOrEqual(15);
    expect(y.ticks[y.ticks.length - 1]).toBeGreaterThanOrEqual(1000);
  });

  it('step by 1, 2 and 5', () => {
    expect([0.7, 7, 23, 90].map((span) => niceStep(span, 5))).toEqual([0.1, 1, 5, 20]);
  });

  it('look at finite values only', () => {
    expect(extent([null, 3, NaN, -1, undefined])).toEqual([-1, 3]);
    expect(extent([])).toBeNull();
  });
});

describe('a thinned trace', () => {
  it('keeps every peak', () => {
    const time = Array.from({ length: 1000 }, (_, i) => i);
    const values = time.map((t) => (t === 617 ? 99 : t === 800 ? -99 : t % 3));
    const points = thin(time, values, 20);
    expect(points.length).toBeLessThanOrEqual(40);
    expect(points).toContainEqual([617, 99]);
    expect(points).toContainEqual([800, -99]);
    expect(points.every(([t], k) => k === 0 || t > (points[k - 1]?.[0] ?? 0))).toBe(true);
  });

  it('leaves gaps where nothing was read', () => {
    expect(thin([1, 2, 3], [null, null, null], 10)).toEqual([]);
    expect(thin([1, 2], [5, null], 10)).toEqual([[1, 5]]);
  });
});
