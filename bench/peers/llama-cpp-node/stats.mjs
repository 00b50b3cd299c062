// Median and bootstrap interval as `sluice raw` gives them (src/base/stats.c): linear quantiles, 4000 seeded resamples,
// an interval from 5 values on.

const resamples = 4000;
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

// 95% interval of the median; null when there are too few values to say.
export function interval(x) {
    if (x.length < minimum) {
        return null;
    }
    const random = randomSource(81);
    const sorted = [...x].sort(ascending);
    const medians = Array.from({length: resamples}, () =>
        median(Array.from(sorted, () => sorted[Math.floor(random() * sorted.length)]))).sort(ascending);
    return [quantile(medians, 0.025), quantile(medians, 0.975)];
}

export function summary(samples) {
    return {median: median(samples), ci95: interval(samples), samples};
}
