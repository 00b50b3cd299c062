#include "bench/steady.h"

#include "base/mem.h"
#include "base/stats.h"

#include <math.h>
#include <string.h>

/* Under no trend S has mean 0 and variance n (n - 1) (2n + 5) / 18; with the continuity correction the normal tail is close
 * enough from n = 5 on, where only a perfectly sorted row passes 1% (Kendall: Rank Correlation Methods). */
bool steady_drift(const double *x, size_t n, double *change) {
    if (n < 5) {
        return false;
    }
    double *slopes = mem_alloc((n * (n - 1) / 2 + n) * sizeof *slopes);
    if (!slopes) {
        return false;
    }
    long s = 0;
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = i + 1; k < n; k++) {
            s += (x[k] > x[i]) - (x[k] < x[i]);
            slopes[m++] = (x[k] - x[i]) / (double)(k - i);
        }
    }
    stats_sort(slopes, m);
    double slope = stats_quantile_sorted(slopes, m, 0.5);
    memcpy(slopes, x, n * sizeof *x);
    stats_sort(slopes, n);
    double median = stats_quantile_sorted(slopes, n, 0.5);
    mem_free(slopes);
    double sd = sqrt((double)n * (double)(n - 1) * (double)(2 * n + 5) / 18);
    double z = s == 0 ? 0 : ((double)s - (s > 0 ? 1 : -1)) / sd;
    *change = median != 0 ? slope * (double)(n - 1) / median : 0;
    double bound = n == 5 ? 2.2 : 2.576; /* n = 5: the sorted row, 2 of 120 orders */
    return fabs(z) > bound && fabs(*change) > STEADY_DRIFT_MIN;
}

/* Distance of the two means over the pooled standard deviation inside the groups. A normal sample split where it splits best
 * shows 2.7 to 3.2 by itself; simulated 99.5% points are 6.6, 5.0, 4.3, 3.8 and 3.3 at 10, 16, 24, 40 and 100 values. */
static double modes_bound(size_t n) {
    return 2.9 + 37.0 / (double)n;
}

bool steady_bimodal(const double *x, size_t n, double levels[2]) {
    if (n < 10) {
        return false;
    }
    double *sorted = mem_alloc(n * sizeof *sorted);
    if (!sorted) {
        return false;
    }
    memcpy(sorted, x, n * sizeof *x);
    stats_sort(sorted, n);
    size_t least = (n + 4) / 5;
    double best = INFINITY;
    for (size_t split = least; split <= n - least; split++) {
        double low = stats_mean(sorted, split);
        double high = stats_mean(sorted + split, n - split);
        double squares = 0;
        for (size_t i = 0; i < n; i++) {
            double d = sorted[i] - (i < split ? low : high);
            squares += d * d;
        }
        if (squares < best) {
            best = squares;
            levels[0] = low;
            levels[1] = high;
        }
    }
    double middle = stats_quantile_sorted(sorted, n, 0.5);
    mem_free(sorted);
    double within = sqrt(best / (double)(n - 2));
    double apart = levels[1] - levels[0];
    return apart > modes_bound(n) * within && apart > STEADY_MODES_MIN * fabs(middle);
}
