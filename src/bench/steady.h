/* Were the samples of a row taken from one steady state? Two tests on their order and on their spread; each has a false
 * alarm in about 1% of steady rows (tests/unit/test_paired.c simulates). */
#ifndef BENCH_STEADY_H
#define BENCH_STEADY_H

#include <stdbool.h>
#include <stddef.h>

#define STEADY_DRIFT_MIN 0.03 /* changes below this share are not worth a word */
#define STEADY_MODES_MIN 0.05 /* nor are two levels closer than this */

/* Values in the order they were taken. Mann-Kendall test at 1%, and the change over the row by Theil-Sen's slope as a share of
 * the median. false under 5 values or when memory is out. */
bool steady_drift(const double *x, size_t n, double *change);
/* Two levels: the split into two groups, each a fifth of the values or more, that leaves the least squares; the groups are called
 * modes when their means lie further apart than anything a single level of this size shows in 99% of draws, and by STEADY_MODES_MIN.
 * levels: the two means. false under 10 values or when memory is out. */
bool steady_bimodal(const double *x, size_t n, double levels[2]);

#endif
