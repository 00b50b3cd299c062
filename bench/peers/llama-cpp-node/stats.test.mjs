import assert from "node:assert/strict";
import {test} from "node:test";
import {interval, median, quantile, summary} from "./stats.mjs";

test("quantiles are linear between neighbours", () => {
    assert.equal(median([3, 1, 2]), 2);
    assert.equal(median([4, 1, 2, 3]), 2.5);
    assert.ok(Math.abs(quantile([1, 2, 3, 4, 5], 0.9) - 4.6) < 1e-12);
    assert.equal(quantile([7], 0.5), 7);
});

test("the interval follows the exact bootstrap distribution of small samples", () => {
    assert.deepEqual(interval([10, 20, 30, 40, 50]), [10, 50]);
    assert.deepEqual(interval([10, 20, 30, 40, 50, 60, 70]), [20, 60]);
    assert.deepEqual(interval([70, 20, 30, 40, 60, 50, 10]), [20, 60]);
    assert.equal(interval([1, 2, 3, 4]), null);
});

test("a summary keeps the order of its samples", () => {
    assert.deepEqual(summary([2, 1, 3]), {median: 2, ci95: null, samples: [2, 1, 3]});
});
