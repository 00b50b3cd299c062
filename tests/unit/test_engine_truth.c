/*
 * Same request, same tokens: families of random requests (engine_world.h) on engines of random shape over the scripted
 * backend. Alone = in company = cached = preempted = restored = drafted, token for token, text, logprobs and ends.
 *
 * SLUICE_TRUTH_ROUNDS  how many rounds (each a new engine and a new family)
 * SLUICE_TRUTH_SEED    the first round's seed; a failure prints its own
 */
#include "unit/engine_fake.h"
#include "unit/engine_world.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ROUNDS 40
#else
#define ROUNDS 200
#endif

/* ---- Rounds ------------------------------------------------------------------------------------------------ */

static sluice_engine_options random_options(uint64_t *rnd, uint32_t ctx) {
    static const uint32_t chunks[] = {0, 1, 7, 16, 63, 64, 100}, drafts[] = {0, 1, 4, 8, 15, 63};
    uint64_t page = model_page_bytes(&rig_weights);
    sluice_engine_options o = sluice_engine_options_default();
    o.n_slots = 1 + rig_below(rnd, 8);
    o.ctx_per_slot = ctx;
    o.prefill_chunk = chunks[rig_below(rnd, 7)];
    o.queue_max = 200;
    o.draft_max = drafts[rig_below(rnd, 6)];
    if (rig_below(rnd, 3)) { /* a pool that is soon full */
        o.kv_bytes_max = page * (plan_pages(ctx) + rig_below(rnd, 2 * o.n_slots + 1));
    }
    uint64_t cache[] = {0, page * rig_below(rnd, 12), UINT64_MAX, UINT64_MAX};
    o.cache_bytes_max = cache[rig_below(rnd, 4)];
    return o;
}

static void set_pace(uint64_t *rnd) {
    static const unsigned delays[] = {0, 0, 0, 100}, pads[] = {0, 10, 30};
    atomic_store(&rig_fake.delay_us, delays[rig_below(rnd, 4)]);
    atomic_store(&rig_fake.pad_us, pads[rig_below(rnd, 3)]);
}

static void end_engine(sluice_engine *e, uint64_t seed, bool cached, struct world_totals *totals) {
    world_settle(e, seed, totals);
    sluice_engine_metrics m;
    sluice_engine_get_metrics(e, &m);
    assert_true(cached || m.pages_cached == 0);
    assert_int_equal(m.requests_failed + m.requests_cancelled <= m.requests_total, true);
    if (seed % 2) {
        assert_true(sluice_engine_drain(e, 10000));
    } else {
        sluice_engine_clear_cache(e);
        sluice_engine_get_metrics(e, &m);
        assert_int_equal(m.pages_free, m.pages_total);
    }
    sluice_engine_free(e);
}

static void name_shape(struct world *w, const sluice_engine *e, const sluice_engine_options *o) {
    const struct rig_mode *m = &rig_fake.mode;
    const sluice_engine_info *info = sluice_engine_get_info(e);
    snprintf(w->shape, sizeof w->shape, "%u slots of %u, %u pages, chunk %u, cache %llu, drafts %u%s%s%s%s",
             info->n_slots, info->ctx_per_slot, info->n_pages, info->prefill_chunk,
             (unsigned long long)(o->cache_bytes_max / model_page_bytes(&rig_weights)), info->draft_max,
             m->samples ? ", samples" : "", m->periodic ? ", periodic" : "", m->two_classes ? ", two classes" : "",
             m->no_rewind ? ", no rewind" : "");
}

/* A second engine of another shape takes over the first one's cache. */
static void run_restored(struct world *w, uint64_t *rnd, const char *path, struct world_totals *totals,
                         uint64_t *restored) {
    sluice_engine_options o = random_options(rnd, w->ctx);
    sluice_engine *e = rig_open(&o);
    sluice_state_info info;
    sluice_error err = {0};
    if (sluice_engine_restore(e, path, &info, &err) != SLUICE_OK) {
        fail_msg("seed %llu: restore: %s", (unsigned long long)w->seed, err.text);
    }
    *restored += info.n_tokens;
    name_shape(w, e, &o);
    world_run(w, e, rig_rnd(rnd), w->n, 30, path, totals);
    end_engine(e, w->seed, o.cache_bytes_max > 0, totals);
}

static void run_round(uint64_t seed, const char *path, struct world_totals *totals, uint64_t *restored) {
    uint64_t rnd = seed;
    struct rig_mode mode = {.periodic = rig_below(&rnd, 2), .two_classes = rig_below(&rnd, 5) == 0};
    uint32_t ctx = 200 + rig_below(&rnd, 800);
    struct world w = {.seed = seed,
                      .n_vocab = RIG_VOCAB,
                      .alphabet = mode.two_classes ? RIG_NEVER_SAID
                                  : mode.periodic  ? 12
                                                   : RIG_VOCAB,
                      .ctx = ctx,
                      .answer_max = ctx / 4,
                      .only_prompts = mode.two_classes};
    rig_fake.mode = mode;
    atomic_store(&rig_fake.delay_us, 0);
    atomic_store(&rig_fake.pad_us, 0);
    sluice_engine *solo = rig_open_solo(rig_below(&rnd, 2) ? 0 : 1 + rig_below(&rnd, 100), ctx);
    world_make(&w, 24, solo);
    sluice_engine_free(solo);

    mode.samples = rig_below(&rnd, 2);
    mode.no_rewind = rig_below(&rnd, 8) == 0;
    rig_fake.mode = mode;
    set_pace(&rnd);
    bool twice = rig_below(&rnd, 3) == 0;
    sluice_engine_options o = random_options(&rnd, ctx);
    sluice_engine *e = rig_open(&o);
    name_shape(&w, e, &o);
    world_run(&w, e, rig_rnd(&rnd), w.n + 8, 2 + rig_below(&rnd, 30), twice ? path : NULL, totals);
    if (twice) {
        assert_int_equal(sluice_engine_save(e, path, NULL, NULL), SLUICE_OK);
    }
    end_engine(e, seed, o.cache_bytes_max > 0, totals);
    if (twice) {
        run_restored(&w, &rnd, path, totals, restored);
        unlink(path);
    }
    world_free(&w);
    if (atomic_load(&rig_fake.violations) > 0) {
        fail_msg("seed %llu: the engine broke the seam's rules", (unsigned long long)seed);
    }
}

static uint64_t from_environment(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static void test_same_request_same_tokens(void **state) {
    (void)state;
    uint64_t n = from_environment("SLUICE_TRUTH_ROUNDS", ROUNDS), first = from_environment("SLUICE_TRUTH_SEED", 1);
    struct world_totals t = {0};
    uint64_t restored = 0;
    char path[64];
    snprintf(path, sizeof path, "/tmp/sluice-truth-%d.state", (int)getpid());
    for (uint64_t i = 0; i < n; i++) {
        run_round(first + i, path, &t, &restored);
    }
    printf("%llu rounds: %llu answers, %llu cancelled, %llu late, %llu freed; %llu preemptions, %llu tokens computed "
           "again, %llu prompt tokens cached, %llu restored, %llu of %llu drafts held; %llu saves, %llu clears\n",
           (unsigned long long)n, (unsigned long long)t.done, (unsigned long long)t.cancelled,
           (unsigned long long)t.late, (unsigned long long)t.freed, (unsigned long long)t.preempted,
           (unsigned long long)t.recomputed, (unsigned long long)t.cached, (unsigned long long)restored,
           (unsigned long long)t.accepted, (unsigned long long)t.drafts, (unsigned long long)t.saves,
           (unsigned long long)t.clears);
    if (n >= ROUNDS) { /* it was about something */
        assert_true(t.done > 20 * n && t.cancelled > n / 4 && t.late > 0 && t.freed > n / 4);
        assert_true(t.preempted > n / 5 && t.recomputed > 0 && t.cached > 500 * n && restored > 5 * n);
        assert_true(t.accepted > 5 * n && t.drafts > t.accepted && t.saves > 0 && t.clears > 0);
    }
}

/* ---- Sampled drafts ---------------------------------------------------------------------------------------- */

#define SEEDS  4000
#define FORCED 24

/* Tokens 0, 1, 2, 3, ... over and over, with the answer forced to go on so far: a guess is always at hand. */
static sluice_request_options draftable(int32_t *prompt, uint32_t n, int32_t *forced) {
    sluice_request_options o = sluice_request_options_default(&rig_model);
    for (uint32_t i = 0; i < n + FORCED; i++) {
        *(i < n ? &prompt[i] : &forced[i - n]) = (int32_t)(i % 9);
    }
    o.tokens = prompt;
    o.n_tokens = n;
    o.forced = forced;
    o.n_forced = FORCED;
    o.max_tokens = FORCED + 4;
    o.ignore_eos = true;
    o.sampling.temperature = 4;
    o.sampling.top_p = 1;
    return o;
}

/* The exact distribution behind the forced tokens and `next` (-1: none). */
static void expected(const sluice_request_options *o, int32_t next, double p[RIG_VOCAB]) {
    struct rig_mode mode = {.periodic = true};
    float logits[RIG_VOCAB];
    uint64_t h = 0;
    int32_t all[256], last = 0;
    for (size_t i = 0; i < o->n_tokens + FORCED + (next >= 0); i++) {
        all[i] = i < o->n_tokens ? o->tokens[i] : i < o->n_tokens + FORCED ? o->forced[i - o->n_tokens] : next;
        h = rig_chain(h, all[i], false);
        last = (int32_t)i;
    }
    int32_t guess = -1;
    for (int32_t k = last - 1; k > 0 && guess < 0; k--) {
        guess = all[k] == all[last] && all[k - 1] == all[last - 1] ? all[k + 1] : -1;
    }
    rig_logits(&mode, h, guess, logits);
    double sum = 0;
    for (int v = 0; v < RIG_VOCAB; v++) {
        p[v] = v == RIG_END ? 0 : exp((double)logits[v] / (double)o->sampling.temperature);
        sum += p[v];
    }
    for (int v = 0; v < RIG_VOCAB; v++) {
        p[v] /= sum;
    }
}

/* Chi-square in units of its standard deviation above its mean; cells under 5 are put together. */
static double chi_square(const uint32_t *count, const double *p, uint32_t n) {
    double sum = 0, rest_p = 0, rest_n = 0;
    uint32_t cells = 0;
    for (int v = 0; v < RIG_VOCAB; v++) {
        double want = p[v] * n;
        if (want < 5) {
            rest_p += want;
            rest_n += count[v];
        } else {
            sum += (count[v] - want) * (count[v] - want) / want;
            cells++;
        }
    }
    if (rest_p >= 5) {
        sum += (rest_n - rest_p) * (rest_n - rest_p) / rest_p;
        cells++;
    } else {
        assert_true(rest_n <= rest_p + 6 * sqrt(rest_p) + 3);
    }
    assert_true(cells > 3);
    return (sum - (cells - 1)) / sqrt(2.0 * (cells - 1));
}

/* The first free token, and the one behind the commonest first: both drawn while drafts are verified. */
static void check_frequencies(bool samples) {
    int32_t prompt[90], forced[FORCED];
    sluice_request_options o = draftable(prompt, 90, forced);
    rig_fake.mode = (struct rig_mode){.periodic = true, .samples = samples};
    atomic_store(&rig_fake.pad_us, 20); /* a step costs the same with and without drafts: they are always worth it */
    sluice_engine_options options = sluice_engine_options_default();
    options.n_slots = 8;
    options.ctx_per_slot = 256;
    options.draft_max = 8;
    options.queue_max = SEEDS;
    sluice_engine *e = rig_open(&options);
    static uint32_t first[RIG_VOCAB], second[RIG_VOCAB];
    static sluice_request *r[SEEDS];
    memset(first, 0, sizeof first);
    memset(second, 0, sizeof second);
    double p[RIG_VOCAB];
    expected(&o, -1, p);
    int32_t common = 0;
    for (int v = 0; v < RIG_VOCAB; v++) {
        common = p[v] > p[common] ? v : common;
    }
    for (uint32_t i = 0; i < SEEDS; i++) {
        o.sampling.seed = rig_mix(i + 1);
        r[i] = rig_submit(e, &o);
    }
    uint32_t n_second = 0;
    for (uint32_t i = 0; i < SEEDS; i++) {
        struct answer *a = answer_new();
        answer_read(a, r[i]);
        assert_int_equal(a->n, FORCED + 4);
        assert_memory_equal(a->tokens, forced, sizeof forced);
        first[a->tokens[FORCED]]++;
        if (a->tokens[FORCED] == common) {
            second[a->tokens[FORCED + 1]]++;
            n_second++;
        }
        answer_free(a);
        sluice_request_free(r[i]);
    }
    sluice_engine_metrics m;
    sluice_engine_get_metrics(e, &m);
    sluice_engine_free(e);
    double chi_first = chi_square(first, p, SEEDS);
    expected(&o, common, p);
    double chi_second = chi_square(second, p, n_second);
    printf("%u seeds: chi-square %.2f and %.2f sd above its mean; %llu of %llu drafts held\n", SEEDS, chi_first,
           chi_second, (unsigned long long)m.draft_tokens_accepted, (unsigned long long)m.draft_tokens_total);
    assert_true(chi_first < 4 && chi_second < 4);
    assert_true(m.draft_tokens_total > SEEDS && m.draft_tokens_accepted < m.draft_tokens_total);
}

static void test_sampled_drafts_are_distributed_right(void **state) {
    (void)state;
    check_frequencies(false);
    check_frequencies(true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_same_request_same_tokens, rig_clean),
        cmocka_unit_test_teardown(test_sampled_drafts_are_distributed_right, rig_clean),
    };
    return cmocka_run_group_tests(tests, rig_setup, NULL);
}
