/* How an engine divides memory: defaults, options, refusals with their numbers. */
#include "base/status.h"
#include "engine/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* defines a macro fail() */

#define GIB (1ull << 30)
#define MIB (1ull << 20)
#define KIB (1ull << 10)

/* LFM2-8B-A1B Q4_K_M in round numbers: 12 KiB of KV per token, and with 288 KiB of conv state 1056 KiB per page. */
static struct model_layer layers[6] = {
    {true, .n_head_kv = 8}, {true, .n_head_kv = 8}, {true, .n_head_kv = 8},
    {true, .n_head_kv = 8}, {true, .n_head_kv = 8}, {true, .n_head_kv = 8},
};
static struct model weights = {.n_layer = 6,
                               .n_attn_layers = 6,
                               .layers = layers,
                               .head_dim = 64,
                               .n_head_kv_max = 8,
                               .n_conv_layers = 18,
                               .n_embd = 2048,
                               .conv_taps = 3};
static sluice_model model = {.model = &weights,
                             .info = {.name = "LFM2-8B-A1B",
                                      .n_ctx_train = 128000,
                                      .n_vocab = 65536,
                                      .kv_bytes_per_token = 12288,
                                      .tensor_bytes = 5 * GIB}};

static sluice_status plan(uint64_t available, uint32_t slots, uint32_t ctx, uint64_t kv, struct engine_plan *p,
                          sluice_error *err) {
    sluice_engine_options o = sluice_engine_options_default();
    o.n_slots = slots;
    o.ctx_per_slot = ctx;
    o.kv_bytes_max = kv;
    return plan_make(&model, &o, available, p, err);
}

static void expect(uint64_t available, uint32_t slots, uint32_t ctx, uint64_t kv, uint32_t want_ctx,
                   uint32_t want_pages) {
    struct engine_plan p;
    sluice_error err = {0};
    if (plan(available, slots, ctx, kv, &p, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(p.ctx_per_slot, want_ctx);
    assert_int_equal(p.n_pages, want_pages);
    assert_int_equal(p.pages_per_slot, plan_pages(want_ctx));
    assert_true(p.pages_per_slot <= p.n_pages);
}

static void refuse(uint64_t available, uint32_t slots, uint32_t ctx, uint64_t kv, sluice_status status,
                   const char *words) {
    struct engine_plan p;
    sluice_error err = {0};
    assert_int_equal(plan(available, slots, ctx, kv, &p, &err), status);
    if (!strstr(err.text, words)) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
    }
}

static void test_fits(void **state) {
    (void)state;
    expect(0, 4, 0, 0, 32768, 4 * 512); /* memory unknown: no reduction */
    expect(64 * GIB, 4, 0, 0, 32768, 4 * 512);
    expect(64 * GIB, 1, 128000, 0, 128000, 2000);
    expect(64 * GIB, 3, 1000, 0, 1000, 3 * 16); /* part of a page counts whole */
    model.info.n_ctx_train = 4096;
    expect(64 * GIB, 4, 0, 0, 4096, 4 * 64);
    model.info.n_ctx_train = 128000;
}

static void test_shrinks(void **state) {
    (void)state;
    struct engine_plan p;
    sluice_error err;
    /* 6 GiB less a sixteenth, 5 GiB of weights, 96 MiB of work and 1 MiB of states: 526 pages of 1056 KiB */
    assert_int_equal(plan(6 * GIB, 4, 0, 0, &p, &err), SLUICE_OK);
    assert_int_equal(p.ctx_per_slot, 526 / 4 * 64);
    assert_int_equal(p.n_pages, 526 / 4 * 4);
    assert_int_equal(plan_check(&p, 5 * GIB, 0, 64 * MIB, &err), SLUICE_OK);
    assert_int_equal(plan_check(&p, 7 * GIB, 0, 64 * MIB, &err), SLUICE_E_NOMEM);
}

static void test_pool(void **state) {
    (void)state;
    expect(64 * GIB, 4, 0, 1056 * MIB, 32768, 1024);     /* shared: each may reach 32768, not all at once */
    expect(64 * GIB, 4, 0, 33 * GIB, 32768, 32 * KIB);   /* more than the slots can use: the rest is cache */
    expect(64 * GIB, 8, 0, 100 * 1056 * KIB, 6400, 100); /* the context shrinks to the pool */
    expect(64 * GIB, 2, 6400, 100 * 1056 * KIB, 6400, 100);
    refuse(64 * GIB, 2, 6401, 100 * 1056 * KIB, SLUICE_E_NOMEM, "--kv-mem");
    refuse(64 * GIB, 2, 0, MIB / 2, SLUICE_E_NOMEM, "raise --kv-mem");
    refuse(6 * GIB, 4, 0, 6 * GIB, SLUICE_E_NOMEM, "lower --ctx or --slots"); /* a pool that memory cannot hold */
}

static void test_refusals(void **state) {
    (void)state;
    refuse(4 * GIB, 1, 0, 0, SLUICE_E_NOMEM, "smaller model");
    refuse(4 * GIB, 1, 0, 0, SLUICE_E_NOMEM, "5.00 GiB for weights");
    refuse(6 * GIB, 4, 32768, 0, SLUICE_E_NOMEM, "lower --ctx or --slots");
    refuse(6 * GIB, 4, 32768, 0, SLUICE_E_NOMEM, "4 slots of 32768 tokens");
    refuse(6 * GIB, 256, 0, 0, SLUICE_E_NOMEM, "--slots"); /* under 512 tokens each */
    refuse(0, 4, 128001, 0, SLUICE_E_ARG, "at most 128000");
    refuse(0, 4, 1, 0, SLUICE_E_ARG, "raise --ctx");
    refuse(0, 0, 0, 0, SLUICE_E_ARG, "--slots");
    refuse(0, 257, 0, 0, SLUICE_E_ARG, "256");
    sluice_engine_options o = sluice_engine_options_default();
    struct engine_plan p;
    o.n_threads = 257;
    assert_int_equal(plan_make(&model, &o, 0, &p, NULL), SLUICE_E_ARG);
    o.n_threads = 0;
    o.queue_max = 5000;
    assert_int_equal(plan_make(&model, &o, 0, &p, NULL), SLUICE_E_ARG);
}

static void test_cache_budget(void **state) {
    (void)state;
    sluice_engine_options o = sluice_engine_options_default();
    struct engine_plan p;
    o.n_slots = 4;
    assert_int_equal(plan_make(&model, &o, 64 * GIB, &p, NULL), SLUICE_OK);
    assert_int_equal(p.cached_pages_max, p.n_pages);
    o.cache_bytes_max = 10 * 1056 * KIB + 5;
    assert_int_equal(plan_make(&model, &o, 64 * GIB, &p, NULL), SLUICE_OK);
    assert_int_equal(p.cached_pages_max, 10);
    o.cache_bytes_max = 0;
    assert_int_equal(plan_make(&model, &o, 64 * GIB, &p, NULL), SLUICE_OK);
    assert_int_equal(p.cached_pages_max, 0);
    o.draft_max = LIMIT_DRAFTS + 1;
    assert_int_equal(plan_make(&model, &o, 64 * GIB, &p, NULL), SLUICE_E_ARG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fits),     cmocka_unit_test(test_shrinks),      cmocka_unit_test(test_pool),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_cache_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
