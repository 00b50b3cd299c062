/* Statistics over small samples: what a benchmark row is made of. Everything is deterministic: the same samples
 * give the same interval on every machine. */
#ifndef BASE_STATS_H
#define BASE_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATS_CI_MIN_N     5    /* fewer samples say too little about a median to print an interval */
#define STATS_CI_RESAMPLES 4000 /* the 2.5% quantile then stands on 100 resamples */
#define STATS_DEFAULT_SEED 0x51u

struct stats_summary {
    size_t n;
    double median, mean, sd, min, max; /* sd: of the sample (n - 1); 0 for one value. All 0 when n is 0 */
    bool has_ci;
    double ci95[2]; /* bootstrap interval of the median */
    bool has_interval;
    double interval[2], level; /* order-statistic interval of the median and the coverage that it has at least */
};

double stats_mean(const double *x, size_t n);
double stats_sd(const double *x, size_t n); /* n - 1 below the line; 0 when n < 2 */

/* The p-quantile (0..1) of sorted values, linear between neighbours: position p*(n-1), as spreadsheets and R do. */
double stats_quantile_sorted(const double *sorted, size_t n, double p);
void stats_sort(double *x, size_t n);
/* Quantile and median of unsorted values; false when memory is out or n is 0. */
bool stats_quantile(const double *x, size_t n, double p, double *out);
bool stats_median(const double *x, size_t n, double *out);

/* Percentile bootstrap of the median at the given level (0.95): resamples with replacement, seeded. */
bool stats_bootstrap_median(const double *x, size_t n, double level, uint64_t seed, double ci[2]);

/* Order-statistic interval of the median of n sorted values (David & Nagaraja, Order Statistics, section 7.1): the narrowest
 * symmetric pair x[k], x[n-1-k] that covers the median of any continuous distribution with a chance of at least `level`;
 * min and max where no pair does. Returns the coverage it really has, 1 - 2 P(Binomial(n, 1/2) <= k); 0 when n is 0. */
double stats_order_interval(const double *sorted, size_t n, double level, double interval[2]);

/* All of the above; the intervals only from STATS_CI_MIN_N values on. false when memory is out. */
bool stats_summarise(const double *x, size_t n, struct stats_summary *out);

#endif
