/* Comparison by pairs, drift and two levels: exact small cases, and how often each is right on known distributions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "bench/paired.h"
#include "bench/steady.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static uint64_t seed = 1;

static double uniform(void) {
    uint64_t z = seed += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return ((double)((z ^ z >> 31) >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void) {
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

/* What the noise of one run may look like; a block's value is the difference of two of each. */
static double noise(int kind) {
    switch (kind) {
    case 0:
        return 0.01 * normal();
    case 1: /* heavy tails: now and then a disturbed run */
        return 0.01 * normal() / sqrt(uniform());
    case 2: /* one-sided: work of others only ever slows */
        return -0.01 * log(uniform());
    default: /* two levels */
        return (uniform() < 0.3 ? 0.05 : 0) + 0.005 * normal();
    }
}

static double block(int kind, double effect) {
    double a[2];
    double b[2];
    for (int i = 0; i < 2; i++) {
        a[i] = exp(noise(kind));
        b[i] = exp(effect + noise(kind));
    }
    return paired_block(a, 2, b, 2);
}

static void test_block(void **state) {
    (void)state;
    const double a[] = {100, 100};
    const double b[] = {110, 110};
    const double bad[] = {1, 0};
    assert_true(fabs(paired_block(a, 2, b, 2) - log(1.1)) < 1e-12);
    assert_true(isnan(paired_block(a, 2, bad, 2)));
}

/* n = 6: the outermost Walsh averages are at 1 - 2/64, which is too little for 97%; n = 7 has 1 - 2/128. */
static void test_exact(void **state) {
    (void)state;
    const double x[] = {0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07};
    struct paired p;
    assert_true(paired_estimate(x, 6, 0.97, &p));
    assert_true(p.level == 0 && isinf(p.interval[1]));
    assert_true(paired_estimate(x, 6, 0.95, &p));
    assert_true(fabs(p.level - (1 - 2 / 64.0)) < 1e-12);
    assert_true(fabs(p.interval[0] - exp(0.01)) < 1e-12 && fabs(p.interval[1] - exp(0.06)) < 1e-12);
    assert_true(paired_estimate(x, 7, 0.95, &p)); /* W <= 2: 3 of 128 a side */
    assert_true(fabs(p.level - (1 - 6 / 128.0)) < 1e-12);
    assert_true(fabs(p.ratio - exp(0.04)) < 1e-12);
    assert_true(fabs(p.interval[0] - exp(0.02)) < 1e-12); /* averages in order: .01, .015, .02 */
    assert_true(paired_estimate(x, 0, 0.95, &p) && isnan(p.ratio));
    mem_fail_nth(1);
    assert_false(paired_estimate(x, 6, 0.95, &p));
    const size_t looks[] = {6, 8, 12, 16, 24, 32, 48, 64, 96, 128};
    size_t at = 0;
    for (size_t n = 1; n <= PAIRED_BLOCKS_MAX; n++) {
        assert_int_equal(paired_looks(n), at < 10 && looks[at] == n);
        at += at < 10 && looks[at] == n;
    }
}

static void test_verdict(void **state) {
    (void)state;
    struct paired p = {.ratio = 1.05, .interval = {1.01, 1.09}};
    assert_int_equal(paired_judge(&p, true, 0.01), PAIRED_BETTER);
    assert_int_equal(paired_judge(&p, false, 0.01), PAIRED_WORSE);
    p = (struct paired){.ratio = 1, .interval = {0.995, 1.005}};
    assert_int_equal(paired_judge(&p, true, 0.01), PAIRED_SAME);
    assert_int_equal(paired_judge(&p, true, 0.001), PAIRED_UNDECIDED);
}

/* Whole runs with the stopping rule in force: blocks until the interval is as narrow as wished or the blocks run out. */
static double coverage(int kind, double effect, double width, size_t blocks_max, int runs) {
    int covered = 0;
    for (int r = 0; r < runs; r++) {
        double x[PAIRED_BLOCKS_MAX];
        struct paired p = {0};
        for (size_t n = 0; n < blocks_max;) {
            x[n++] = block(kind, effect);
            if (paired_looks(n) || n == blocks_max) {
                assert_true(paired_estimate(x, n, PAIRED_LEVEL, &p));
                if (paired_half_width(&p) <= width) {
                    break;
                }
            }
        }
        covered += p.interval[0] <= exp(effect) && exp(effect) <= p.interval[1];
    }
    return (double)covered / runs;
}

static void test_coverage(void **state) {
    (void)state;
    const double widths[] = {0.002, 0.005, 0.01, 0.03};
    double least = 1;
    for (int kind = 0; kind < 4; kind++) {
        for (size_t w = 0; w < 4; w++) {
            double c = coverage(kind, w % 2 ? 0.04 : 0, widths[w], 32, 1500);
            least = c < least ? c : least;
            if (c < PAIRED_COVERAGE - 0.012) { /* two standard errors of 1,500 runs */
                fail_msg("noise %d, wished width %.3f: covered in %.1f%%", kind, widths[w], 100 * c);
            }
        }
    }
    print_message("[  INFO    ] least coverage %.3f\n", least);
}

/* An effect of the stated smallest size is found in about 80% of runs. */
static void test_smallest_effect(void **state) {
    (void)state;
    int found = 0;
    const int runs = 600;
    double effect = 0;
    for (int r = 0; r < 50; r++) { /* what the runs themselves state, on average */
        double x[16];
        struct paired p;
        for (int i = 0; i < 16; i++) {
            x[i] = block(0, 0);
        }
        assert_true(paired_estimate(x, 16, 0.95, &p));
        effect += log1p(p.smallest_effect) / 50;
    }
    for (int r = 0; r < runs; r++) {
        double x[16];
        struct paired p;
        for (int i = 0; i < 16; i++) {
            x[i] = block(0, effect);
        }
        assert_true(paired_estimate(x, 16, 0.95, &p));
        found += paired_judge(&p, true, 0.01) == PAIRED_BETTER;
    }
    assert_true(found > 0.7 * runs && found < 0.92 * runs);
}

static void test_drift(void **state) {
    (void)state;
    double x[40];
    double change;
    const double sorted[] = {100, 103, 104, 106, 110};
    assert_true(steady_drift(sorted, 5, &change) && change > 0.05);
    assert_false(steady_drift(sorted, 4, &change));
    const double tiny[] = {100, 100.1, 100.2, 100.3, 100.4};
    assert_false(steady_drift(tiny, 5, &change));
    const size_t sizes[] = {5, 10, 20, 40};
    for (size_t s = 0; s < 4; s++) {
        int alarms = 0;
        int found = 0;
        for (int r = 0; r < 2000; r++) {
            for (size_t i = 0; i < sizes[s]; i++) {
                x[i] = 100 * (1 + 0.03 * normal());
            }
            alarms += steady_drift(x, sizes[s], &change);
            for (size_t i = 0; i < sizes[s]; i++) {
                x[i] *= 1 - 0.2 * (double)i / (double)(sizes[s] - 1);
            }
            found += steady_drift(x, sizes[s], &change);
        }
        assert_true(alarms <= 0.022 * 2000);
        assert_true(s == 0 || found > 0.8 * 2000);
    }
}

static void test_bimodal(void **state) {
    (void)state;
    double x[40];
    double levels[2];
    const size_t sizes[] = {10, 16, 24, 40};
    for (size_t s = 0; s < 4; s++) {
        int alarms = 0;
        int found = 0;
        for (int r = 0; r < 2000; r++) {
            for (size_t i = 0; i < sizes[s]; i++) {
                x[i] = 100 * (1 + 0.04 * normal());
            }
            alarms += steady_bimodal(x, sizes[s], levels);
            for (size_t i = 0; i < sizes[s]; i++) {
                x[i] = (i % 3 ? 100 : 75) * (1 + 0.02 * normal());
            }
            found += steady_bimodal(x, sizes[s], levels) && levels[0] < 80 && levels[1] > 95;
        }
        if (alarms > 0.015 * 2000 || found < 0.97 * 2000) {
            fail_msg("n = %zu: %d false alarms, %d found of 2000", sizes[s], alarms, found);
        }
    }
    assert_false(steady_bimodal(x, 9, levels));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block),    cmocka_unit_test(test_exact),           cmocka_unit_test(test_verdict),
        cmocka_unit_test(test_coverage), cmocka_unit_test(test_smallest_effect), cmocka_unit_test(test_drift),
        cmocka_unit_test(test_bimodal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
