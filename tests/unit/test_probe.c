/* The probe's loops do what they are timed for, and its report is consistent. Rates themselves depend on the
 * machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tools/probe.h"
#include "tools/probe_kernels.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BYTES (4u * PROBE_GRAIN)

static void check_memory(const struct probe_memory_kernels *k) {
    unsigned char *a = aligned_alloc(64, BYTES + 64);
    unsigned char *b = aligned_alloc(64, BYTES + 64);
    assert_true(a && b);
    for (int shape = 0; shape < PROBE_SHAPES; shape++) {
        memset(a, 0, BYTES + 64);
        memset(a + BYTES, 0xFF, 64);
        assert_true(k->read(a, BYTES, shape) == 0);
        for (size_t at = 0; at < BYTES; at += 61 * 8) { /* a bit anywhere is seen: every byte is read */
            a[at] = 1;
            assert_true(k->read(a, BYTES, shape) != 0);
            a[at] = 0;
        }
    }
    memset(a, 0, BYTES + 64);
    k->write(a, BYTES);
    for (size_t i = 0; i < BYTES; i++) {
        assert_int_equal(a[i], 0x5A);
    }
    for (size_t i = BYTES; i < BYTES + 64; i++) {
        assert_int_equal(a[i], 0);
    }
    for (size_t i = 0; i < BYTES; i++) {
        a[i] = (unsigned char)(i * 7 + (i >> 8));
    }
    memset(b, 0xEE, BYTES + 64);
    k->copy(b, a, BYTES);
    assert_memory_equal(a, b, BYTES);
    assert_int_equal(b[BYTES], 0xEE);
    free(a);
    free(b);
}

static void test_memory_kernels(void **state) {
    (void)state;
    static const struct probe_memory_kernels *const all[] = {&probe_memory_plain, &probe_memory_avx2,
                                                             &probe_memory_avx512};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i]->usable()) {
            check_memory(all[i]);
        }
    }
}

/* Operations scale with the rounds. */
static void test_compute_kernels(void **state) {
    (void)state;
    static const struct probe_compute_kernel *const all[] = {
        &probe_f32_plain, &probe_f32_avx2,     &probe_f32_avx512,      &probe_int8_plain,
        &probe_int8_avx2, &probe_int8_avxvnni, &probe_int8_avx512vnni, &probe_bf16_avx512,
        &probe_int8_amx,  &probe_bf16_amx,     &probe_f32_neon,        &probe_int8_neon,
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i]->usable()) {
            assert_true(all[i]->run(0) == 0);
            assert_true(all[i]->run(200) == 200 * all[i]->run(1));
        }
    }
}

static void on_progress(void *ctx, uint64_t done, uint64_t total) {
    uint64_t *last = ctx;
    assert_true(done == *last + 1 && done <= total);
    *last = done;
}

static void test_report(void **state) {
    (void)state;
    struct probe_report *r = calloc(1, sizeof *r);
    uint64_t done = 0;
    struct probe_options o = {.n_threads = 3, .seconds = 0.05, .progress = on_progress, .progress_ctx = &done};
    sluice_error err;
    struct buf b = {0};
    assert_non_null(r);
    assert_int_equal(probe_run(&o, r, &err), SLUICE_OK);
    assert_true(done > 0);
    assert_int_equal(r->n_memory, 3); /* 1, 2, 3 threads */
    assert_int_equal(r->memory[2].n_threads, 3);
    for (uint32_t i = 0; i < r->n_memory; i++) {
        const struct probe_rate *rates[] = {&r->memory[i].read, &r->memory[i].write, &r->memory[i].copy};
        for (int k = 0; k < 3; k++) {
            assert_true(rates[k]->passes >= 5 && rates[k]->least > 0);
            assert_true(rates[k]->best >= rates[k]->median && rates[k]->median >= rates[k]->least);
        }
        assert_true(r->memory[i].barrier_ns > 0 && r->memory[i].barrier_worst_ns >= r->memory[i].barrier_ns);
    }
    assert_true(r->n_peaks >= 4);
    for (uint32_t i = 0; i < r->n_peaks; i++) {
        assert_true(r->peaks[i].gop_s.passes >= 5 && r->peaks[i].gop_s.least > 0);
    }
    assert_int_equal(r->n_peaks / 2 + r->n_absent, 12); /* every loop is measured, with 1 and 3 threads, or named */
    probe_report_json(&b, r);
    assert_false(b.failed);
    struct json_object *root = json_tokener_parse(b.data);
    struct json_object *v;
    assert_non_null(root);
    assert_true(json_object_object_get_ex(root, "memory", &v));
    assert_int_equal(json_object_array_length(v), 3);
    assert_true(json_object_object_get_ex(root, "peak", &v));
    assert_int_equal(json_object_array_length(v), r->n_peaks);
    assert_true(json_object_object_get_ex(root, "absent", &v));
    assert_int_equal(json_object_array_length(v), r->n_absent);
    json_object_put(root);
    buf_reset(&b);
    probe_report_text(&b, r);
    for (const char *p = b.data; *p; p += strcspn(p, "\n") + (p[strcspn(p, "\n")] == '\n')) {
        assert_true(strcspn(p, "\n") <= 120);
    }
    buf_free(&b);
    free(r);
}

static void put_module(const char *root, int i, size_t n, const uint8_t *record) {
    char path[128];
    snprintf(path, sizeof path, "%s/17-%d", root, i);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/17-%d/raw", root, i);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(record, 1, n, f), n);
    fclose(f);
}

static void test_theory(void **state) {
    (void)state;
    char root[] = "/tmp/sluice-dmi-XXXXXX";
    assert_non_null(mkdtemp(root));
    struct probe_theory t;
    probe_theory_read(root, &t);
    assert_true(t.gb_s == 0 && t.n_modules == 0);
    uint8_t module[0x54] = {17, 0x54, [0x0A] = 64, [0x0C] = 0xFF, 0x7F, [0x15] = 0xC0, 0x12, [0x20] = 0x30, 0x11};
    put_module(root, 0, sizeof module, module); /* 64 bits, 4800 MT/s, run at 4400 */
    module[0x20] = module[0x21] = 0;
    put_module(root, 1, sizeof module, module); /* says its own speed only */
    module[0x0C] = module[0x0D] = 0;
    put_module(root, 2, sizeof module, module); /* an empty slot */
    module[0x0C] = 1;
    put_module(root, 3, 0x14, module); /* cut off before its speed */
    module[1] = 0x12;
    put_module(root, 4, sizeof module, module); /* a record of an old kind, shorter than its file */
    module[0] = 16;
    put_module(root, 5, sizeof module, module); /* something else */
    put_module(root, 6, 0, module);
    probe_theory_read(root, &t);
    assert_int_equal(t.n_modules, 2);
    assert_int_equal(t.mt_s, 4400);
    assert_true(t.gb_s > 8 * 9.2 - 1e-9 && t.gb_s < 8 * 9.2 + 1e-9);
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

static void test_single_figures(void **state) {
    (void)state;
    sluice_error err;
    const char *isa = NULL;
    assert_true(probe_read_bandwidth(1, 0.01, NULL, 0, &err) > 0.1);
    assert_true(probe_compute_peak("int8", 1, 0.01, &isa, &err) > 0.1);
    assert_non_null(isa);
    assert_true(probe_compute_peak("f32", 1, 0.01, NULL, &err) > 0.1);
    assert_true(probe_compute_peak("f64", 1, 0.01, NULL, &err) == 0);
    assert_int_equal(err.status, SLUICE_E_ARG);
}

static void test_no_memory(void **state) {
    (void)state;
    sluice_error err;
    for (long n = 1; n <= 3; n++) {
        mem_fail_nth(n);
        assert_true(probe_read_bandwidth(1, 0.01, NULL, 0, &err) == 0);
        mem_fail_nth(0);
        assert_int_equal(err.status, SLUICE_E_NOMEM);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_kernels), cmocka_unit_test(test_compute_kernels), cmocka_unit_test(test_report),
        cmocka_unit_test(test_theory),         cmocka_unit_test(test_single_figures),  cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
