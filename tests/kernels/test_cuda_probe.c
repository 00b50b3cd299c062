/* The probe of a GPU gives figures that can be: a copy is no faster than the paper, a read no slower than a tenth of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/stats.h"
#include "tools/probe_gpu.h"

#include <stdio.h>
#include <string.h>

static struct probe_gpu seen;

static void keep(void *ctx, const struct probe_gpu *gpu) {
    (void)ctx;
    seen = *gpu;
}

static double median_of(const char *name) {
    for (uint32_t i = 0; i < seen.limits.n_items; i++) {
        double v = 0;
        if (strcmp(seen.limits.items[i].name, name) == 0 &&
            stats_median(seen.limits.items[i].samples, seen.limits.items[i].n, &v)) {
            return v;
        }
    }
    return -1;
}

static void test_limits(void **state) {
    (void)state;
    struct probe_gpu_options o = {.seconds = 0.1};
    sluice_error err = {0};
    struct buf text = {0};
    if (probe_gpu_run(&o, keep, NULL, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    probe_gpu_text(&text, &seen);
    printf("%s", text.data);
    buf_free(&text);
    double paper = probe_gpu_paper_gb_s(&seen.info);
    assert_true(median_of("read") > 50 && median_of("copy") > 50);
    assert_true(paper <= 0 || (median_of("read") < 1.05 * paper && median_of("read") > 0.1 * paper));
    assert_true(paper <= 0 || median_of("copy") < 1.05 * paper);
    assert_true(median_of("launch") > 0 && median_of("barrier") > 0.1 && median_of("barrier") < 100);
    assert_true(median_of("pcie_up") > 0.1);
    o.device = 1000;
    assert_true(probe_gpu_run(&o, keep, NULL, &err) != SLUICE_OK);
}

int main(void) {
    if (probe_gpu_count() == 0) {
        printf("skipped: probe of a GPU (no GPU)\n[  PASSED  ] 0 test(s).\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
