import assert from "node:assert/strict";
import {test} from "node:test";
import {interval, median, quantile, summary} from "./stats.mjs";

test("quantiles are linear between neighbours", () => {
    assert.equal(median([3, 1, 2]), 2);
    assert.equal(median([4, 1, 2, 3]), 2.5);
    assert.ok(Math.abs(quantile([1, 2, 3, 4, 5], 0.9) - 4.6) < 1e-12);
    assert.equal(quantile([7], 0.5), 7);
});

test("the interval is of order statistics, with the level that it has", () => {
    assert.deepEqual(interval([10, 20, 30, 40, 50]), {range: [10, 50], level: 1 - 2 / 32});
    assert.deepEqual(interval([60, 20, 30, 40, 50, 10]), {range: [10, 60], level: 1 - 2 / 64});
    const ten = interval([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert.deepEqual(ten.range, [2, 9]);
    assert.ok(Math.abs(ten.level - (1 - 22 / 1024)) < 1e-12);
    assert.equal(interval([1, 2, 3, 4]), null);
});

test("a summary keeps the order of its samples", () => {
    assert.deepEqual(summary([2, 1, 3]), {median: 2, interval: null, level: null, samples: [2, 1, 3]});
});
