/*
 * Same request, same tokens (engine_world.h) on real backends: a small model of each kind and the shipped one, on every
 * backend that runs here. Alone on one thread = in company on two = cached = preempted = restored = drafted.
 *
 * SLUICE_TRUTH_ROUNDS  as in test_engine_truth.c; two hundred of them are one round here
 */
#include "unit/engine_world.h"

static const struct {
    const char *path;
    uint32_t n_cpu, n_ref; /* requests on a fast backend, and on the slow one */
} models[] = {{TEST_DATA "/golden/peer/moe-Q4_K_M.gguf", 40, 3},
              {TEST_DATA "/golden/peer/dense-Q8_0.gguf", 40, 4},
              {REPO_DIR "/models/sluice-mini-Q4_K_M.gguf", 24, 1}};

/* One in so many of the requests, where all is that much slower; a backend left without any is left out. */
#if defined(__SANITIZE_THREAD__)
#define SHARE 8
#elif defined(__SANITIZE_ADDRESS__)
#define SHARE 3
#else
#define SHARE 1
#endif

static char state_path[64];

static sluice_engine *open_engine(sluice_model *model, const char *backend, sluice_engine_options o) {
    o.backend = backend;
    sluice_engine *e = NULL;
    sluice_error err = {0};
    if (sluice_engine_create(model, &o, &e, &err) != SLUICE_OK) {
        fail_msg("%s: %s", backend, err.text);
    }
    return e;
}

static sluice_engine_options solo_options(uint32_t ctx) {
    sluice_engine_options o = sluice_engine_options_default();
    o.n_slots = 1;
    o.n_threads = 1;
    o.ctx_per_slot = ctx;
    o.cache_bytes_max = 0;
    o.draft_max = 0;
    return o;
}

/* Too few pages for all slots, chunks that do not divide them. */
static sluice_engine_options company_options(uint32_t ctx, uint64_t page_bytes, uint64_t seed) {
    sluice_engine_options o = sluice_engine_options_default();
    o.n_slots = 3 + (uint32_t)(seed % 4);
    o.n_threads = 2;
    o.ctx_per_slot = ctx;
    o.queue_max = 100;
    o.prefill_chunk = seed % 2 ? 24 : 100;
    o.draft_max = 12;
    o.kv_bytes_max = page_bytes * (plan_pages(ctx) + 2);
    return o;
}

static void check_backend(sluice_model *model, const char *backend, uint32_t n, uint64_t seed,
                          struct world_totals *totals) {
    uint32_t n_vocab = sluice_model_get_info(model)->n_vocab;
    struct world w = {.seed = seed, .n_vocab = n_vocab, .alphabet = seed % 2 ? 8 : n_vocab, .ctx = 320};
    w.answer_max = 130;
    snprintf(w.shape, sizeof w.shape, "%s, %s", sluice_model_get_info(model)->name, backend);
    sluice_engine *e = open_engine(model, backend, solo_options(w.ctx));
    uint64_t page_bytes = sluice_engine_get_info(e)->page_bytes;
    world_make(&w, n, e);
    sluice_engine_free(e);
    for (int turn = 0; turn < 2; turn++) {
        e = open_engine(model, backend, company_options(w.ctx, page_bytes, seed + (uint64_t)turn));
        sluice_error err = {0};
        if (turn == 1 && sluice_engine_restore(e, state_path, NULL, &err) != SLUICE_OK) {
            fail_msg("restore: %s", err.text);
        }
        world_run(&w, e, seed, n + n / 3, 10, state_path, totals);
        if (sluice_engine_save(e, state_path, NULL, &err) != SLUICE_OK) {
            fail_msg("save: %s", err.text);
        }
        world_settle(e, seed, totals);
        sluice_engine_free(e);
    }
    unlink(state_path);
    world_free(&w);
}

static void check_model(const char *path, uint32_t n_fast, uint32_t n_slow, uint64_t seed,
                        struct world_totals *totals) {
    sluice_model *model;
    sluice_error err = {0};
    if (sluice_model_load(path, &model, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    for (const struct backend_ops *const *b = backend_list(); *b; b++) {
        uint32_t n = strcmp((*b)->name, "ref") == 0 ? n_slow : n_fast;
        if (n > 0 && (*b)->probe(&err) == SLUICE_OK) {
            uint64_t start = clock_ns();
            check_backend(model, (*b)->name, n, seed, totals);
            printf("%s on %s: %.1f s\n", sluice_model_get_info(model)->name, (*b)->name, clock_ms_since(start) / 1000);
        }
    }
    sluice_model_free(model);
}

static void test_same_request_same_tokens(void **state) {
    (void)state;
    const char *text = getenv("SLUICE_TRUTH_ROUNDS");
    uint64_t rounds = text ? strtoull(text, NULL, 10) / 200 : 1;
    struct world_totals t = {0};
    snprintf(state_path, sizeof state_path, "/tmp/sluice-models-%d.state", (int)getpid());
    for (uint64_t i = 0; i < (rounds ? rounds : 1); i++) {
        for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
            check_model(models[m].path, models[m].n_cpu / SHARE, models[m].n_ref / SHARE, 2 * i + m, &t);
        }
    }
    printf("%llu answers; %llu preemptions, %llu prompt tokens cached, %llu of %llu drafts held\n",
           (unsigned long long)t.done, (unsigned long long)t.preempted, (unsigned long long)t.cached,
           (unsigned long long)t.accepted, (unsigned long long)t.drafts);
    assert_true(SHARE > 1 || (t.preempted > 0 && t.cached > 0 && t.drafts > t.accepted && t.accepted > 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_request_same_tokens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
