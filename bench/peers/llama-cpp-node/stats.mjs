// Median and its interval as records have them (src/base/stats.c): linear quantiles, an interval from 5 values on.

const minimum = 5;

export function quantile(sorted, p) {
    const pos = p * (sorted.length - 1);
    const i = Math.floor(pos);
    return i + 1 >= sorted.length ? sorted[sorted.length - 1] : sorted[i] + (pos - i) * (sorted[i + 1] - sorted[i]);
}

const ascending = (a, b) => a - b;

export const median = (x) => quantile([...x].sort(ascending), 0.5);

// mulberry32
export function randomSource(seed) {
    let s = seed >>> 0;
    return () => {
        s = (s + 0x6d2b79f5) >>> 0;
        let t = s;
        t = Math.imul(t ^ (t >>> 15), t | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
}

// Order-statistic interval of the median (src/base/stats.c): the narrowest symmetric pair of sorted values with a level of at least
// 0.95, or min to max with the level that it has. null when there are too few values to say.
export function interval(x) {
    if (x.length < minimum) {
        return null;
    }
    const sorted = [...x].sort(ascending);
    const n = sorted.length;
    let term = 2 ** -n; // P(Binomial(n, 1/2) = k)
    let below = 0;
    let best = {k: 0, level: 1 - 2 * term};
    for (let k = 0; 2 * k + 1 < n; k++) {
        below += term;
        if (1 - 2 * below < 0.95) {
            break;
        }
        best = {k, level: 1 - 2 * below};
        term *= (n - k) / (k + 1);
    }
    return {range: [sorted[best.k], sorted[n - 1 - best.k]], level: best.level};
}

export function summary(samples) {
    const found = interval(samples);
    return {median: median(samples), interval: found?.range ?? null, level: found?.level ?? null, samples};
}
