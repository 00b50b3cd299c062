/* Statistics against values known by hand, and the bootstrap against its exact distribution for small samples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/stats.h"

#include <math.h>

#define NEAR(a, b) assert_true(fabs((a) - (b)) < 1e-9)

static void test_moments(void **state) {
    (void)state;
    const double x[] = {2, 4, 4, 4, 5, 5, 7, 9};
    NEAR(stats_mean(x, 8), 5);
    NEAR(stats_sd(x, 8), sqrt(32.0 / 7));
    NEAR(stats_sd(x, 1), 0);
    NEAR(stats_mean(x, 0), 0);
}

static void test_quantiles(void **state) {
    (void)state;
    const double x[] = {5, 1, 4, 2, 3};
    double v;
    assert_true(stats_median(x, 5, &v));
    NEAR(v, 3);
    assert_true(stats_median(x, 4, &v)); /* 1 2 4 5 */
    NEAR(v, 3);
    assert_true(stats_quantile(x, 5, 0.9, &v));
    NEAR(v, 4.6);
    assert_true(stats_quantile(x, 5, 0, &v));
    NEAR(v, 1);
    assert_true(stats_quantile(x, 5, 1, &v));
    NEAR(v, 5);
    assert_true(stats_quantile(x, 1, 0.25, &v));
    NEAR(v, 5);
    assert_false(stats_median(x, 0, &v));
    assert_true(x[0] == 5 && x[4] == 3); /* the input stays as it is */
}

/* Of n draws the median of an odd n is at most x[i] when more than half of them are: a binomial sum. For 5 values
 * even the smallest has 5.8% of the mass, so the interval is the range; for 7 the smallest has 1.0% and the second
 * 9.7%. */
static void test_bootstrap_exact(void **state) {
    (void)state;
    const double x[] = {10, 20, 30, 40, 50, 60, 70};
    double ci[2];
    assert_true(stats_bootstrap_median(x, 5, 0.95, 1, ci));
    NEAR(ci[0], 10);
    NEAR(ci[1], 50);
    assert_true(stats_bootstrap_median(x, 7, 0.95, 1, ci));
    NEAR(ci[0], 20);
    NEAR(ci[1], 60);
    const double same[] = {3, 3, 3, 3};
    assert_true(stats_bootstrap_median(same, 4, 0.95, 7, ci));
    NEAR(ci[0], 3);
    NEAR(ci[1], 3);
}

static double uniform(uint64_t *s) {
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return (double)(*s >> 11) / 9007199254740992.0;
}

/* The interval must hold the true median about as often as it says. */
static void test_bootstrap_coverage(void **state) {
    (void)state;
    uint64_t seed = 5;
    int hits = 0;
    for (int round = 0; round < 200; round++) {
        double x[15];
        double ci[2];
        for (int i = 0; i < 15; i++) {
            x[i] = uniform(&seed);
        }
        assert_true(stats_bootstrap_median(x, 15, 0.95, (uint64_t)round, ci));
        hits += ci[0] <= 0.5 && 0.5 <= ci[1];
    }
    assert_in_range(hits, 178, 199);
}

/* Levels from the binomial distribution, by hand: n = 5: 1 - 2/32; n = 6: 1 - 2/64; n = 10, second values: 1 - 22/1024. */
static void test_order_interval(void **state) {
    (void)state;
    double x[64];
    double in[2];
    for (int i = 0; i < 64; i++) {
        x[i] = i;
    }
    assert_true(stats_order_interval(x, 0, 0.95, in) == 0);
    assert_true(fabs(stats_order_interval(x, 5, 0.95, in) - 0.9375) < 1e-12 && in[0] == 0 && in[1] == 4);
    assert_true(fabs(stats_order_interval(x, 6, 0.95, in) - 0.96875) < 1e-12 && in[0] == 0 && in[1] == 5);
    assert_true(fabs(stats_order_interval(x, 10, 0.95, in) - (1 - 22.0 / 1024)) < 1e-12 && in[0] == 1 && in[1] == 8);
    assert_true(stats_order_interval(x, 1, 0.95, in) == 0 && in[0] == 0 && in[1] == 0);
    /* coverage of the true median, n = 9 normal-ish values, 4000 draws: at least the stated level */
    uint64_t state64 = 7;
    int covered = 0;
    double level = 0;
    for (int r = 0; r < 4000; r++) {
        double y[9];
        for (int i = 0; i < 9; i++) {
            state64 = state64 * 6364136223846793005u + 1442695040888963407u;
            y[i] = (double)(state64 >> 11) / 9007199254740992.0;
        }
        stats_sort(y, 9);
        level = stats_order_interval(y, 9, 0.95, in);
        covered += in[0] <= 0.5 && 0.5 <= in[1];
    }
    assert_true(covered > (level - 0.012) * 4000 && covered < (level + 0.012) * 4000);
}

static void test_summary(void **state) {
    (void)state;
    const double x[] = {9, 7, 5, 3, 1, 11};
    const double y[] = {11, 1, 3, 5, 7, 9};
    struct stats_summary a, b;
    assert_true(stats_summarise(x, 6, &a));
    assert_true(stats_summarise(y, 6, &b));
    assert_int_equal(a.n, 6);
    NEAR(a.median, 6);
    NEAR(a.mean, 6);
    NEAR(a.min, 1);
    NEAR(a.max, 11);
    assert_true(a.has_ci);
    assert_true(a.ci95[0] == b.ci95[0] && a.ci95[1] == b.ci95[1]); /* the order of samples changes nothing */
    assert_true(a.ci95[0] >= 1 && a.ci95[0] <= 6 && a.ci95[1] >= 6 && a.ci95[1] <= 11);
    assert_true(stats_summarise(x, 4, &a));
    assert_false(a.has_ci);
    assert_true(stats_summarise(x, 0, &a));
    assert_int_equal(a.n, 0);
}

static void test_no_memory(void **state) {
    (void)state;
    const double x[] = {1, 2, 3, 4, 5};
    struct stats_summary s;
    double v;
    for (long n = 1; n <= 2; n++) {
        mem_fail_nth(n);
        assert_false(stats_summarise(x, 5, &s));
    }
    mem_fail_nth(1);
    assert_false(stats_median(x, 5, &v));
    mem_fail_nth(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moments),         cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_bootstrap_exact), cmocka_unit_test(test_bootstrap_coverage),
        cmocka_unit_test(test_order_interval),  cmocka_unit_test(test_summary),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
