#include "bench/paired.h"

#include "base/mem.h"
#include "base/stats.h"

#include <math.h>
#include <string.h>

const char *const paired_verdicts[4] = {"better", "worse", "no difference", "undecided"};

double paired_block(const double *a, size_t n_a, const double *b, size_t n_b) {
    double sum_a = 0;
    double sum_b = 0;
    for (size_t i = 0; i < n_a; i++) {
        sum_a += log(a[i]);
    }
    for (size_t i = 0; i < n_b; i++) {
        sum_b += log(b[i]);
    }
    double d = sum_b / (double)n_b - sum_a / (double)n_a;
    return isfinite(d) ? d : NAN;
}

/* The largest k with P(W < k + 1) <= (1 - level) / 2, W the signed-rank statistic of n values: the interval then runs from
 * Walsh average k to the k-th from the end. -1 when even min and max miss the level. *coverage: what it really has. */
static long rank_quantile(size_t n, double level, double *p, double *coverage) {
    size_t top = n * (n + 1) / 2;
    memset(p, 0, (top + 1) * sizeof *p);
    p[0] = 1;
    for (size_t i = 1; i <= n; i++) { /* rank i is added with chance 1/2 */
        for (size_t s = i * (i + 1) / 2 + 1; s-- > 0;) {
            p[s] = 0.5 * (p[s] + (s >= i ? p[s - i] : 0));
        }
    }
    double below = 0;
    long k = -1;
    *coverage = 1 - 2 * p[0];
    for (size_t s = 0; s <= top / 2; s++) {
        below += p[s];
        if (2 * below > 1 - level) {
            break;
        }
        k = (long)s;
        *coverage = 1 - 2 * below;
    }
    return k;
}

bool paired_estimate(const double *x, size_t n, double level, struct paired *out) {
    *out = (struct paired){.n = n, .ratio = NAN, .interval = {0, INFINITY}, .smallest_effect = INFINITY};
    size_t m = n * (n + 1) / 2;
    double *walsh = mem_alloc((2 * m + 1) * sizeof *walsh);
    if (!walsh) {
        return false;
    }
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = i; k < n; k++) {
            walsh[at++] = 0.5 * (x[i] + x[k]);
        }
    }
    if (n > 0) {
        stats_sort(walsh, m);
        out->ratio = exp(stats_quantile_sorted(walsh, m, 0.5));
        long k = rank_quantile(n, level, walsh + m, &out->level);
        if (k >= 0) {
            double half = 0.5 * (walsh[m - 1 - (size_t)k] - walsh[k]);
            out->interval[0] = exp(walsh[k]);
            out->interval[1] = exp(walsh[m - 1 - (size_t)k]);
            /* two-sided 5% needs 1.96 standard errors, 80% power 0.84 more; the interval stands for about 1.96 of them */
            out->smallest_effect = exp(half * (1.96 + 0.84) / 1.96) - 1;
        } else {
            out->level = 0;
        }
    }
    mem_free(walsh);
    return true;
}

bool paired_looks(size_t n) {
    size_t power = 8;
    while (power < n) {
        power *= 2;
    }
    return n == PAIRED_BLOCKS_MIN || (n >= 8 && (n == power || 4 * n == 3 * power));
}

double paired_half_width(const struct paired *p) {
    return 0.5 * (p->interval[1] - p->interval[0]) / p->ratio;
}

enum paired_verdict paired_judge(const struct paired *p, bool more_is_better, double width) {
    if (p->interval[0] > 1) {
        return more_is_better ? PAIRED_BETTER : PAIRED_WORSE;
    }
    if (p->interval[1] < 1) {
        return more_is_better ? PAIRED_WORSE : PAIRED_BETTER;
    }
    return paired_half_width(p) <= width ? PAIRED_SAME : PAIRED_UNDECIDED;
}
