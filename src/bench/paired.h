/*
 * Two targets compared by pairs. A block measures A, B, B, A (or B, A, A, B), so that a steady drift falls on both alike; its value
 * is the difference of the mean logarithms. Over the blocks: the Hodges-Lehmann estimate with the interval that the
 * Wilcoxon signed-rank statistic gives, exact for any distribution symmetric about its centre, which A against A is by
 * construction (Hollander, Wolfe, Chicken: Nonparametric Statistical Methods, sections 3.2-3.3).
 *
 * Stopping early at a wished width looks at the data more than once. Only the counts of paired_looks are looked at, and
 * PAIRED_LEVEL is set so that intervals that end a run by this rule cover in at least 95% of simulated runs
 * (tests/unit/test_paired.c simulates with the rule in force).
 */
#ifndef BENCH_PAIRED_H
#define BENCH_PAIRED_H

#include <stdbool.h>
#include <stddef.h>

#define PAIRED_BLOCKS_MIN 6
#define PAIRED_BLOCKS_MAX 128
#define PAIRED_LEVEL      0.97 /* of each look */
#define PAIRED_COVERAGE   0.95 /* of the interval a run ends with */

struct paired {
    size_t n;
    double ratio;           /* B over A */
    double interval[2];     /* of the ratio; [0, inf] when n is too small for the level */
    double level;           /* that this interval has by itself, without looks before it */
    double smallest_effect; /* that would have been found with 80% chance, as a share: 0.02 is 2% */
};

enum paired_verdict { PAIRED_BETTER, PAIRED_WORSE, PAIRED_SAME, PAIRED_UNDECIDED };

/* The value of a block: mean log b - mean log a; NAN when a value is not positive. */
double paired_block(const double *a, size_t n_a, const double *b, size_t n_b);
/* x: values of n blocks, n <= PAIRED_BLOCKS_MAX. false when memory is out. */
bool paired_estimate(const double *x, size_t n, double level, struct paired *out);
/* true where a run that stops at a wished width may look: 6, 8, 12, 16, 24, 32, ... blocks */
bool paired_looks(size_t n);
/* Half the interval's width as a share of the ratio: what a wished width is compared with. */
double paired_half_width(const struct paired *p);
/* B against A for a metric of which more (or less) is better. width: the wished half width, a share; an interval that holds
 * 1 says "no difference" only if it is at most that wide. */
enum paired_verdict paired_judge(const struct paired *p, bool more_is_better, double width);
extern const char *const paired_verdicts[4]; /* as in records */

#endif
