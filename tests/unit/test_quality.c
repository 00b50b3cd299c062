/* Divergence from a reference: exact on constructed logits, true on the shipped model, unforgiving of damaged files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "backend/backend.h"
#include "tools/quality.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODEL REPO_DIR "/models/sluice-mini-Q4_K_M.gguf"
static char path[64];
static struct model *model;

static int setup(void **state) {
    (void)state;
    sluice_error err;
    snprintf(path, sizeof path, "/tmp/test_quality_%d", (int)getpid());
    return model_load(MODEL, &model, &err) == SLUICE_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    model_free(model);
    remove(path);
    return 0;
}

/* p = (1/2, 1/4, 1/8, 1/8), q = (1/4, 1/2, 1/8, 1/8): KL = 1/2 ln 2 - 1/4 ln 2. */
static void test_kl(void **state) {
    (void)state;
    int32_t ids[] = {0, 1, 2, 3};
    float p[] = {logf(4), logf(2), 0, 0};
    double lse = log(8);
    const float q[] = {logf(2), logf(4), 0, 0};
    struct quality_reference r = {.n_vocab = 4, .n = 1, .top = 4, .lse = &lse, .ids = ids, .logits = p};
    bool same;
    assert_true(fabs(quality_kl(&r, 0, q, &same) - 0.25 * log(2)) < 1e-6);
    assert_false(same);
    assert_true(quality_kl(&r, 0, p, &same) < 1e-6);
    assert_true(same);
    const float shifted[] = {logf(4) + 50, logf(2) + 50, 50, 50}; /* the same distribution */
    assert_true(quality_kl(&r, 0, shifted, &same) < 1e-5);
    r.top = 2; /* the last two are one event: the same on both sides here */
    assert_true(fabs(quality_kl(&r, 0, q, &same) - 0.25 * log(2)) < 1e-6);
    const float broken[] = {NAN, 0, 0, 0};
    assert_true(isinf(quality_kl(&r, 0, broken, &same)));
    r.top = 1; /* p (1/2, rest), q (1/4, rest): less than the whole, never more */
    assert_true(fabs(quality_kl(&r, 0, q, &same) - (0.5 * log(2) + 0.5 * log(0.5 / 0.75))) < 1e-6);
}

/* "The quick brown fox jumps over the lazy dog. It was a bright cold day and ...": what the model was made for. Tokens that never
 * follow each other put it where the choice of experts hangs on the last digit. */
static const int32_t text[] = {1,    282,  3195, 3174, 46,   1428, 3196, 3189, 3113, 3175, 46,   846,  60,
                               3183, 3121, 3117, 3460, 3457, 3184, 3119, 3113, 3348, 46,   1337, 3296, 3260,
                               3113, 3181, 46,   303,  411,  3379, 58,   3630, 3113, 3335, 3358, 46,   122,
                               451,  3119, 3113, 46,   814,  514,  3710, 46,   1937, 390,  60};

static void make(uint32_t n) {
    sluice_error err;
    assert_true(n <= sizeof text / sizeof text[0]);
    if (quality_make(model, NULL, 1, text, n, path, NULL, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
}

static void test_model(void **state) {
    (void)state;
    struct quality_reference r;
    struct quality_result ref;
    struct quality_result cpu;
    sluice_error err = {0};
    char why[160];
    make(40);
    assert_int_equal(quality_read(path, &r, &err), SLUICE_OK);
    assert_int_equal(r.n, 40);
    assert_int_equal(r.top, QUALITY_TOP);
    assert_int_equal(quality_measure(model, NULL, "ref", 1, &r, NULL, &ref, &err), SLUICE_OK);
    assert_true(ref.kl_max < 1e-9 && fabs(ref.top1_agreement - 1) < 1e-9); /* what the digits of the file lose */
    assert_int_equal(quality_measure(model, NULL, "cpu", 2, &r, NULL, &cpu, &err), SLUICE_OK);
    assert_true(cpu.kl_mean > 0 && cpu.kl_mean < 1e-3 && cpu.kl_p999 <= cpu.kl_max);
    quality_judge(&cpu, why, sizeof why);
    assert_string_equal(why, "");
    cpu.kl_mean = 0.3;
    quality_judge(&cpu, why, sizeof why);
    assert_non_null(strstr(why, "divergence"));
    r.model_bytes++;
    assert_int_equal(quality_measure(model, NULL, "ref", 1, &r, NULL, &ref, &err), SLUICE_E_ARG);
    r.model_bytes--;
    memset(r.model_sha256, 'a', 64);
    char other[65];
    memset(other, 'b', 64);
    other[64] = '\0';
    assert_int_equal(quality_measure(model, other, "ref", 1, &r, NULL, &ref, &err), SLUICE_E_ARG);
    assert_non_null(strstr(err.text, "another model"));
    mem_fail_nth(1);
    assert_int_equal(quality_measure(model, NULL, "ref", 1, &r, NULL, &ref, &err), SLUICE_E_NOMEM);
    quality_free(&r);
}

static struct buf content(void) {
    struct buf b = {0};
    char block[4096];
    size_t n;
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while ((n = fread(block, 1, sizeof block, f)) > 0) {
        buf_append(&b, block, n);
    }
    fclose(f);
    return b;
}

static void put(const char *bytes, size_t n) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

/* What stands where `from` stood must be refused with a sentence that names the line. */
static void expect_refusal(const struct buf *good, const char *from, const char *to, const char *words) {
    struct buf bad = {0};
    struct quality_reference r;
    sluice_error err = {0};
    const char *at = strstr(good->data, from);
    assert_non_null(at);
    buf_append(&bad, good->data, (size_t)(at - good->data));
    buf_puts(&bad, to);
    buf_puts(&bad, at + strlen(from));
    put(bad.data, bad.len);
    assert_int_equal(quality_read(path, &r, &err), SLUICE_E_FORMAT);
    if (!strstr(err.text, words)) {
        fail_msg("\"%s\" for \"%s\": %s", words, to, err.text);
    }
    buf_free(&bad);
}

static void test_damaged(void **state) {
    (void)state;
    struct quality_reference r;
    sluice_error err = {0};
    make(3);
    struct buf good = content();
    expect_refusal(&good, "reference 1", "reference 2", "line 1");
    expect_refusal(&good, "sha256 -", "sha256 xyz", "line 2");
    expect_refusal(&good, "positions 3", "positions 0", "line 5");
    expect_refusal(&good, "positions 3", "positions 99999999999999999999", "line 5");
    expect_refusal(&good, "positions 3", "positions 4", "fewer ids");
    expect_refusal(&good, "positions 3", "positions 2", "more ids");
    expect_refusal(&good, "top 64", "top 63", "more logits");
    expect_refusal(&good, "top 64", "top 65", "fewer logits");
    expect_refusal(&good, "tokens 1 ", "tokens 4096 ", "no token id");
    expect_refusal(&good, "tokens 1 ", "tokens -1 ", "no token id");
    const char *line = strchr(strstr(good.data, "tokens 1"), '\n') + 1;
    char lse[40];
    snprintf(lse, sizeof lse, "%.*s", (int)strcspn(line, " "), line);
    expect_refusal(&good, lse, "nan", "finite");
    expect_refusal(&good, lse, "-900", "more than 1");
    for (size_t n = 0; n + 1 < good.len; n += 7) { /* cut off anywhere */
        put(good.data, n);
        assert_int_equal(quality_read(path, &r, &err), SLUICE_E_FORMAT);
    }
    for (size_t i = 0; i < good.len; i += 3) { /* one byte changed: refused or read, nothing worse */
        char was = good.data[i];
        good.data[i] = (char)(was ^ (1 << (i % 7)));
        put(good.data, good.len);
        good.data[i] = was;
        if (quality_read(path, &r, &err) == SLUICE_OK) {
            quality_free(&r);
        }
    }
    put(good.data, good.len);
    for (long i = 1; i <= 4; i++) {
        mem_fail_nth(i);
        assert_int_equal(quality_read(path, &r, &err), SLUICE_E_NOMEM);
    }
    mem_fail_nth(0);
    assert_int_equal(quality_read("/nonexistent/x", &r, &err), SLUICE_E_IO);
    assert_int_equal(quality_make(model, NULL, 1, NULL, 0, path, NULL, &err), SLUICE_E_ARG);
    const int32_t one[] = {1};
    assert_int_equal(quality_make(model, NULL, 1, one, 1, "/nonexistent/x", NULL, &err), SLUICE_E_IO);
    assert_int_equal(quality_make(model, NULL, 1, one, 1, "/dev/full", NULL, &err), SLUICE_E_IO);
    buf_free(&good);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kl),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
