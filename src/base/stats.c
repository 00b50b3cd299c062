#include "base/stats.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double stats_mean(const double *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i];
    }
    return n ? sum / (double)n : 0;
}

double stats_sd(const double *x, size_t n) {
    if (n < 2) {
        return 0;
    }
    double mean = stats_mean(x, n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (x[i] - mean) * (x[i] - mean);
    }
    return sqrt(sum / (double)(n - 1));
}

static int compare_double(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

void stats_sort(double *x, size_t n) {
    if (n > 1) {
        qsort(x, n, sizeof *x, compare_double);
    }
}

double stats_quantile_sorted(const double *sorted, size_t n, double p) {
    if (n == 0) {
        return 0;
    }
    double pos = p * (double)(n - 1);
    size_t i = (size_t)pos;
    if (i + 1 >= n) {
        return sorted[n - 1];
    }
    return sorted[i] + (pos - (double)i) * (sorted[i + 1] - sorted[i]);
}

bool stats_quantile(const double *x, size_t n, double p, double *out) {
    double *sorted = n ? mem_alloc(n * sizeof *sorted) : NULL;
    if (!sorted) {
        return false;
    }
    memcpy(sorted, x, n * sizeof *sorted);
    stats_sort(sorted, n);
    *out = stats_quantile_sorted(sorted, n, p);
    mem_free(sorted);
    return true;
}

bool stats_median(const double *x, size_t n, double *out) {
    return stats_quantile(x, n, 0.5, out);
}

/* splitmix64: tiny, full period, good enough to pick indices. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

bool stats_bootstrap_median(const double *x, size_t n, double level, uint64_t seed, double ci[2]) {
    if (n == 0) {
        return false;
    }
    double *medians = mem_alloc((STATS_CI_RESAMPLES + n) * sizeof *medians);
    if (!medians) {
        return false;
    }
    double *draw = medians + STATS_CI_RESAMPLES;
    uint64_t state = seed;
    for (int r = 0; r < STATS_CI_RESAMPLES; r++) {
        for (size_t i = 0; i < n; i++) {
            draw[i] =
                x[(next_random(&state) >> 32) * n >> 32]; /* n < 2^32: the high bits scaled, no modulo bias to see */
        }
        stats_sort(draw, n);
        medians[r] = stats_quantile_sorted(draw, n, 0.5);
    }
    stats_sort(medians, STATS_CI_RESAMPLES);
    ci[0] = stats_quantile_sorted(medians, STATS_CI_RESAMPLES, (1 - level) / 2);
    ci[1] = stats_quantile_sorted(medians, STATS_CI_RESAMPLES, (1 + level) / 2);
    mem_free(medians);
    return true;
}

double stats_order_interval(const double *sorted, size_t n, double level, double interval[2]) {
    if (n == 0) {
        return 0;
    }
    double below = 0; /* P(Binomial(n, 1/2) <= k) */
    double log_term = -(double)n * log(2);
    size_t best = 0;
    double coverage = 1 - 2 * exp(log_term);
    for (size_t k = 0; 2 * k + 1 < n; k++) {
        below += exp(log_term);
        if (1 - 2 * below < level) {
            break;
        }
        best = k;
        coverage = 1 - 2 * below;
        log_term += log((double)(n - k) / (double)(k + 1));
    }
    interval[0] = sorted[best];
    interval[1] = sorted[n - 1 - best];
    return coverage > 0 ? coverage : 0;
}

bool stats_summarise(const double *x, size_t n, struct stats_summary *out) {
    *out = (struct stats_summary){.n = n};
    if (n == 0) {
        return true;
    }
    double *sorted = mem_alloc(n * sizeof *sorted);
    if (!sorted) {
        return false;
    }
    memcpy(sorted, x, n * sizeof *sorted);
    stats_sort(sorted, n);
    out->median = stats_quantile_sorted(sorted, n, 0.5);
    out->min = sorted[0];
    out->max = sorted[n - 1];
    out->mean = stats_mean(x, n);
    out->sd = stats_sd(x, n);
    bool ok = true;
    if (n >= STATS_CI_MIN_N) {
        /* from the sorted copy, so that the order in which samples came cannot change the interval */
        ok = stats_bootstrap_median(sorted, n, 0.95, STATS_DEFAULT_SEED, out->ci95);
        out->has_ci = ok;
        out->level = stats_order_interval(sorted, n, 0.95, out->interval);
        out->has_interval = true;
    }
    mem_free(sorted);
    return ok;
}
