/*
 * The engine's memory on the scripted backend: what is computed once and used again, who gives way when pages run out,
 * what is kept, saved and taken in again. Numbers of tokens are exact: nothing here depends on timing.
 */
#include "unit/engine_fake.h"

#include <sys/stat.h>

static sluice_engine_metrics metrics(sluice_engine *e) {
    sluice_engine_metrics m;
    sluice_engine_get_metrics(e, &m);
    return m;
}

static void settle(sluice_engine *e) {
    sluice_engine_metrics m;
    do {
        m = metrics(e);
    } while (m.requests_running + m.requests_waiting > 0);
}

/* Answers of requests that are under way together, in order. */
static void read_all(sluice_request **r, struct answer **a, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        a[i] = answer_new();
        answer_read(a[i], r[i]);
        sluice_request_free(r[i]);
        if (a[i]->last.kind != SLUICE_EVENT_DONE) {
            fail_msg("request %u: %s", i, a[i]->last.error.text);
        }
    }
}

static void free_all(struct answer **a, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        answer_free(a[i]);
    }
}

/* rig_prompt[0..n_shared), then n_own tokens of its own. */
static sluice_request_options branch(int32_t *tokens, uint32_t n_shared, uint32_t n_own, uint64_t seed, uint32_t n) {
    memcpy(tokens, rig_prompt, n_shared * sizeof *tokens);
    for (uint32_t i = 0; i < n_own; i++) {
        tokens[n_shared + i] = (int32_t)rig_below(&seed, RIG_VOCAB);
    }
    return rig_exactly(tokens, n_shared + n_own, n);
}

/* ---- Computed once ----------------------------------------------------------------------------------------- */

/* Requests with the same new beginning, under way together: its full pages are computed once, whoever does it. */
static void check_shared(uint32_t n, uint32_t n_shared, uint32_t chunk, bool samples) {
    static int32_t tokens[8][2000];
    rig_fake.mode.samples = samples;
    sluice_engine *e = rig_open_shape(n, chunk, 2048), *solo = rig_open_solo(0, 2048);
    atomic_store(&rig_fake.delay_us, 300); /* so that all have come before the first is through */
    sluice_request *r[8];
    struct answer *a[8];
    sluice_request_options o[8];
    for (uint32_t i = 0; i < n; i++) {
        o[i] = branch(tokens[i], n_shared, 10 + i, i + 1, 5);
        r[i] = rig_submit(e, &o[i]);
    }
    read_all(r, a, n);
    atomic_store(&rig_fake.delay_us, 0);
    uint32_t computed = 0, own = 0, shared_pages = n_shared / KV_PAGE_TOKENS * KV_PAGE_TOKENS;
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(a[i]->last.timings.prompt_n + a[i]->last.timings.cache_n, o[i].n_tokens);
        computed += a[i]->last.timings.prompt_n;
        own += (uint32_t)o[i].n_tokens - shared_pages;
        struct answer *alone = rig_ask(solo, &o[i]);
        answer_assert_equal(a[i], alone);
        answer_free(alone);
    }
    assert_int_equal(computed, shared_pages + own);
    assert_int_equal(metrics(e).prompt_tokens_total, computed);
    assert_int_equal(metrics(e).prompt_tokens_cached, (n - 1) * shared_pages);
    assert_int_equal(metrics(e).recomputed_tokens_total, 0);
    free_all(a, n);
    sluice_engine_free(e);
    sluice_engine_free(solo);
}

static void test_shared_beginning_is_computed_once(void **state) {
    (void)state;
    for (int samples = 0; samples < 2; samples++) {
        check_shared(2, 1500, 0, samples);
        check_shared(2, 1500, 50, samples);
        check_shared(2, 1280, 100, samples);
        check_shared(8, 700, 64, samples);
        check_shared(3, 100, 7, samples);
    }
}

/* n answers to one prompt: the last, incomplete page is each one's own. */
static void test_copies(void **state) {
    (void)state;
    sluice_engine *e = rig_open_shape(4, 0, 1024);
    sluice_request *r[4];
    struct answer *a[4];
    atomic_store(&rig_fake.delay_us, 300);
    for (uint32_t i = 0; i < 4; i++) {
        sluice_request_options o = rig_exactly(rig_prompt, 650, 30);
        o.sampling.seed = i;
        r[i] = rig_submit(e, &o);
    }
    read_all(r, a, 4);
    for (uint32_t i = 1; i < 4; i++) {
        assert_int_equal(a[i]->last.timings.cache_n, 640);
        assert_int_equal(a[i]->last.timings.prompt_n, 10);
        assert_true(memcmp(a[i]->tokens, a[0]->tokens, 30 * sizeof(int32_t)) != 0);
    }
    assert_int_equal(atomic_load(&rig_fake.violations), 0);
    free_all(a, 4);
    sluice_engine_free(e);
}

/* ---- Used again -------------------------------------------------------------------------------------------- */

/* Turn after turn of a growing chat: each computes what is new and at most one page of what is not. */
static void test_turns(void **state) {
    (void)state;
    for (int samples = 0; samples < 2; samples++) {
        rig_fake.mode.samples = samples;
        sluice_engine *e = rig_open_shape(2, 0, RIG_CTX), *solo = rig_open_solo(0, RIG_CTX);
        int32_t chat[RIG_CTX];
        uint32_t n = 4000, answers[] = {90, 64, 63, 1, 200}, turns[] = {4000, 30, 1, 64, 65};
        memcpy(chat, rig_prompt, sizeof chat);
        for (int turn = 0; turn < 5; turn++) {
            n += turn > 0 ? turns[turn] : 0;
            sluice_request_options o = rig_exactly(chat, n, answers[turn]);
            struct answer *a = rig_ask(e, &o), *alone = rig_ask(solo, &o);
            answer_assert_equal(a, alone);
            uint32_t most = turn == 0 ? n : KV_PAGE_TOKENS + turns[turn];
            assert_int_equal(a->last.timings.prompt_n + a->last.timings.cache_n, n);
            assert_in_range(a->last.timings.prompt_n, 1, most);
            memcpy(chat + n, a->tokens, a->n * sizeof *chat);
            n += a->n;
            answer_free(a);
            answer_free(alone);
        }
        sluice_engine_free(e);
        sluice_engine_free(solo);
    }
}

/* A prompt that is cached to its last token: one page is computed again, because its last logits are wanted. */
static void test_retry(void **state) {
    (void)state;
    sluice_engine *e = rig_open_shape(1, 0, 1024);
    static const uint32_t lengths[] = {63, 64, 65, 127, 128, 129, 640, 641};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        sluice_engine_clear_cache(e);
        assert_int_equal(metrics(e).pages_free, metrics(e).pages_total);
        sluice_request_options o = rig_exactly(rig_prompt, lengths[i], 20);
        struct answer *first = rig_ask(e, &o), *again = rig_ask(e, &o);
        answer_assert_equal(first, again);
        assert_int_equal(first->last.timings.cache_n, 0);
        assert_int_equal(again->last.timings.cache_n, (lengths[i] - 1) / KV_PAGE_TOKENS * KV_PAGE_TOKENS);
        answer_free(first);
        answer_free(again);
    }
    sluice_engine_free(e);
}

static void test_no_cache(void **state) {
    (void)state;
    sluice_engine *e = rig_open_shape(2, 0, 1024);
    sluice_request_options o = rig_exactly(rig_prompt, 300, 50);
    o.no_cache = true;
    answer_free(rig_ask(e, &o)); /* leaves nothing */
    assert_int_equal(metrics(e).pages_cached, 0);
    o.no_cache = false;
    struct answer *a = rig_ask(e, &o);
    assert_int_equal(a->last.timings.cache_n, 0);
    answer_free(a);
    assert_int_equal(metrics(e).pages_cached, 349 / KV_PAGE_TOKENS);
    o.no_cache = true;
    a = rig_ask(e, &o); /* takes nothing */
    assert_int_equal(a->last.timings.prompt_n, 300);
    answer_free(a);
    sluice_engine_free(e);
}

/* ---- Kept -------------------------------------------------------------------------------------------------- */

static void test_budget(void **state) {
    (void)state;
    for (uint32_t budget = 0; budget <= 6; budget += 3) {
        sluice_engine_options options = rig_options(2, 0, 1024);
        options.cache_bytes_max = budget * model_page_bytes(&rig_weights);
        sluice_engine *e = rig_open(&options);
        sluice_request_options o = rig_exactly(rig_prompt, 600, 1);
        answer_free(rig_ask(e, &o));
        settle(e);
        assert_int_equal(metrics(e).pages_cached, budget);
        struct answer *again = rig_ask(e, &o); /* the beginning is what is kept */
        assert_int_equal(again->last.timings.cache_n, budget * KV_PAGE_TOKENS);
        answer_free(again);
        sluice_engine_free(e);
    }
}

/* The least recently used goes first. */
static void test_least_recent_goes_first(void **state) {
    (void)state;
    sluice_engine_options options = rig_options(1, 0, 512);
    options.kv_bytes_max = 8 * model_page_bytes(&rig_weights);
    sluice_engine *e = rig_open(&options);
    sluice_request_options a = rig_exactly(rig_prompt, 130, 1), b = rig_exactly(rig_prompt + 1000, 130, 1);
    sluice_request_options c = rig_exactly(rig_prompt + 2000, 130, 1), d = rig_exactly(rig_prompt + 3000, 300, 1);
    const sluice_request_options *order[] = {&a, &b, &c, &a, &d}; /* 2 pages each, d needs 5 of 8: b and half of c go */
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        answer_free(rig_ask(e, order[i]));
    }
    struct answer *kept = rig_ask(e, &a);
    assert_int_equal(kept->last.timings.cache_n, 128);
    answer_free(kept);
    struct answer *gone = rig_ask(e, &b);
    assert_int_equal(gone->last.timings.cache_n, 0);
    answer_free(gone);
    sluice_engine_free(e);
}

/* ---- Who gives way ----------------------------------------------------------------------------------------- */

/* Three answers grow beyond what there is: the younger ones give way and go on later, token for token. */
static void check_preemption(struct rig_mode mode) {
    rig_fake.mode = (struct rig_mode){.periodic = mode.periodic, .two_classes = mode.two_classes};
    sluice_engine *solo = rig_open_solo(0, 768);
    rig_fake.mode = mode;
    sluice_engine_options options = rig_options(3, 0, 768);
    options.kv_bytes_max = 13 * model_page_bytes(&rig_weights);
    sluice_engine *e = rig_open(&options);
    atomic_store(&rig_fake.delay_us, 100);
    sluice_request *r[3];
    struct answer *a[3];
    sluice_request_options o[3];
    for (uint32_t i = 0; i < 3; i++) {
        o[i] = rig_exactly(rig_prompt + 500 * i, 130, 500);
        o[i].top_logprobs = 2;
        o[i].sampling.seed = i;
        r[i] = rig_submit(e, &o[i]);
    }
    read_all(r, a, 3);
    atomic_store(&rig_fake.delay_us, 0);
    for (uint32_t i = 0; i < 3; i++) {
        struct answer *alone = rig_ask(solo, &o[i]);
        answer_assert_equal(a[i], alone);
        assert_int_equal(a[i]->last.timings.prompt_n + a[i]->last.timings.cache_n, 130);
        answer_free(alone);
    }
    sluice_engine_metrics m = metrics(e);
    assert_true(m.requests_preempted >= 2);
    assert_true(m.recomputed_tokens_total > 0);
    assert_int_equal(m.prompt_tokens_total + m.prompt_tokens_cached, 3 * 130);
    assert_int_equal(m.generated_tokens_total, 1500);
    free_all(a, 3);
    sluice_engine_free(e);
    sluice_engine_free(solo);
}

static void test_preemption(void **state) {
    (void)state;
    check_preemption((struct rig_mode){0});
    check_preemption((struct rig_mode){.samples = true});
    check_preemption((struct rig_mode){.two_classes = true});
    check_preemption((struct rig_mode){.two_classes = true, .samples = true});
    check_preemption((struct rig_mode){.periodic = true});
    check_preemption((struct rig_mode){.periodic = true, .samples = true});
}

/* The oldest is never the one that gives way: its tokens are computed once. */
static void test_oldest_stays(void **state) {
    (void)state;
    sluice_engine_options options = rig_options(4, 0, 768);
    options.kv_bytes_max = 12 * model_page_bytes(&rig_weights);
    sluice_engine *e = rig_open(&options);
    atomic_store(&rig_fake.delay_us, 100);
    sluice_request_options o = rig_exactly(rig_prompt, 100, 660);
    o.no_draft = true;
    unsigned before = atomic_load(&rig_fake.steps);
    sluice_request *oldest = rig_submit(e, &o), *others[3];
    sluice_event event;
    assert_int_equal(sluice_request_wait(oldest, &event, 10000), SLUICE_EVENT_TOKEN);
    for (int i = 0; i < 3; i++) {
        sluice_request_options young = rig_exactly(rig_prompt + 1000 + 500 * i, 100, 600);
        others[i] = rig_submit(e, &young);
    }
    struct answer *a = answer_new();
    answer_read(a, oldest);
    unsigned steps = atomic_load(&rig_fake.steps) - before;
    assert_int_equal(a->n, 659);
    assert_true(steps <= 665); /* a row in every step from the first to the last */
    assert_true(metrics(e).requests_preempted > 0);
    answer_free(a);
    sluice_request_free(oldest);
    struct answer *rest[3];
    read_all(others, rest, 3);
    free_all(rest, 3);
    sluice_engine_free(e);
}

/* The same answer again fills a page that the tree has already, and holds both. In a pool that has no page to spare it
 * must let go of one to go on. */
static void test_pages_held_twice(void **state) {
    (void)state;
    for (int samples = 0; samples < 2; samples++) {
        rig_fake.mode.samples = samples;
        sluice_engine_options options = rig_options(1, 0, 256);
        options.kv_bytes_max = 4 * model_page_bytes(&rig_weights);
        sluice_engine *e = rig_open(&options);
        for (uint32_t n = 129; n < 193; n += 9) {
            sluice_engine_clear_cache(e);
            sluice_request_options o = rig_exactly(rig_prompt, n, 250 - n);
            struct answer *first = rig_ask(e, &o), *again = rig_ask(e, &o);
            answer_assert_equal(first, again);
            answer_free(first);
            answer_free(again);
        }
        assert_true(samples || metrics(e).requests_preempted > 0); /* a step ahead, the next page is taken in time */
        sluice_engine_free(e);
    }
}

/* Small requests that come without end beside one that needs nearly all memory: some overtake it, but not for ever. */
static void test_huge_among_small(void **state) {
    (void)state;
    sluice_engine_options options = rig_options(4, 0, 1280);
    options.kv_bytes_max = 20 * model_page_bytes(&rig_weights);
    sluice_engine *e = rig_open(&options);
    atomic_store(&rig_fake.delay_us, 50);
    sluice_request_options stream = rig_exactly(rig_prompt + 3000, 100, 150), huge = rig_exactly(rig_prompt, 1250, 5);
    sluice_request *small[3] = {NULL}, *first = rig_submit(e, &stream);
    sluice_event event;
    assert_int_equal(sluice_request_wait(first, &event, 10000), SLUICE_EVENT_TOKEN);
    sluice_request *waiting = rig_submit(e, &huge);
    struct answer *a = answer_new();
    uint32_t served = 0, turn = 0;
    uint64_t start = clock_ns();
    for (bool over = false; !over;) {
        for (int i = 0; i < 3; i++) {
            sluice_request_options o = rig_exactly(rig_prompt + 1500 + turn % 1000, 70, 20);
            if (!small[i]) {
                small[i] = rig_submit(e, &o);
                turn++;
            }
            sluice_event_kind kind = sluice_request_poll(small[i], &event);
            if (kind == SLUICE_EVENT_DONE) {
                sluice_request_free(small[i]);
                small[i] = NULL;
                served++;
            }
        }
        over = sluice_request_poll(waiting, &event) != SLUICE_EVENT_NONE && answer_add(a, &event);
        assert_true(clock_ms_since(start) < 30000);
    }
    assert_int_equal(a->last.kind, SLUICE_EVENT_DONE);
    assert_int_equal(a->n, 5);
    assert_in_range(served, 3, 200);
    for (int i = 0; i < 3; i++) {
        sluice_request_free(small[i]);
    }
    sluice_request_free(first);
    sluice_request_free(waiting);
    answer_free(a);
    sluice_engine_free(e);
}

/* ---- Saved and restored ------------------------------------------------------------------------------------ */

static char state_path[64], refused_path[80];

static int name_files(void **state) {
    snprintf(state_path, sizeof state_path, "/tmp/sluice-memory-%d.state", (int)getpid());
    snprintf(refused_path, sizeof refused_path, "%s.refused", state_path);
    return rig_setup(state);
}

static int remove_files(void **state) {
    (void)state;
    unlink(state_path);
    unlink(refused_path);
    return 0;
}

static bool exists(const char *path) {
    struct stat s;
    return stat(path, &s) == 0;
}

/* An engine that has answered a 600-token prompt, saved. */
static sluice_engine *saved_engine(sluice_state_info *info) {
    sluice_engine *e = rig_open_shape(2, 0, 1024);
    sluice_request_options o = rig_exactly(rig_prompt, 600, 50);
    answer_free(rig_ask(e, &o));
    sluice_error err = {0};
    if (sluice_engine_save(e, state_path, info, &err) != SLUICE_OK) {
        fail_msg("save: %s", err.text);
    }
    return e;
}

static void test_save_and_restore(void **state) {
    (void)state;
    sluice_state_info saved, restored;
    sluice_engine *e = saved_engine(&saved);
    assert_int_equal(saved.n_pages, 649 / KV_PAGE_TOKENS);
    assert_int_equal(saved.n_tokens, 640);
    struct stat file;
    assert_int_equal(stat(state_path, &file), 0);
    assert_int_equal(saved.n_bytes, file.st_size);
    sluice_request_options o = rig_exactly(rig_prompt, 620, 50);
    struct answer *there = rig_ask(e, &o);
    sluice_engine_free(e);

    e = rig_open_shape(3, 50, 768); /* another shape */
    assert_int_equal(sluice_engine_restore(e, state_path, &restored, NULL), SLUICE_OK);
    assert_int_equal(restored.n_pages, saved.n_pages);
    assert_int_equal(restored.n_bytes, saved.n_bytes);
    assert_int_equal(metrics(e).pages_cached, saved.n_pages);
    struct answer *here = rig_ask(e, &o);
    answer_assert_equal(here, there);
    assert_int_equal(here->last.timings.cache_n, 576);
    assert_int_equal(sluice_engine_restore(e, state_path, &restored, NULL), SLUICE_OK); /* has it already */
    assert_int_equal(restored.n_pages, 0);
    answer_free(here);
    answer_free(there);
    sluice_engine_free(e);

    sluice_engine_options few = rig_options(1, 0, 256);
    few.kv_bytes_max = 4 * model_page_bytes(&rig_weights);
    e = rig_open(&few); /* as far as there is room */
    assert_int_equal(sluice_engine_restore(e, state_path, &restored, NULL), SLUICE_OK);
    assert_int_equal(restored.n_pages, 4);
    sluice_engine_free(e);
}

static void change_byte(long at) {
    FILE *f = fopen(state_path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    int c = fgetc(f);
    fseek(f, -1, SEEK_CUR);
    fputc(c ^ 1, f);
    fclose(f);
}

static void expect_no_restore(sluice_engine *e, sluice_status status, bool refused) {
    sluice_error err = {0};
    assert_int_equal(sluice_engine_restore(e, state_path, NULL, &err), status);
    assert_true(strlen(err.text) > 10);
    assert_int_equal(metrics(e).pages_free, metrics(e).pages_total);
    assert_int_equal(exists(refused_path), refused);
    assert_true(!refused || !exists(state_path));
    unlink(refused_path);
}

static void test_refused_files(void **state) {
    (void)state;
    sluice_state_info saved;
    sluice_engine *e = rig_open_shape(2, 0, 1024);
    expect_no_restore(e, SLUICE_E_IO, false); /* none is there */
    long places[] = {0, 70, 2000, -200, -1};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        sluice_engine_free(saved_engine(&saved));
        change_byte(places[i]);
        expect_no_restore(e, SLUICE_E_FORMAT, true);
    }
    sluice_engine_free(saved_engine(&saved));
    assert_int_equal(truncate(state_path, (off_t)saved.n_bytes - 500), 0);
    expect_no_restore(e, SLUICE_E_FORMAT, true);
    const char *fingerprint = rig_model.info.fingerprint;
    rig_model.info.fingerprint = "f123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    sluice_engine_free(saved_engine(&saved));
    rig_model.info.fingerprint = fingerprint;
    expect_no_restore(e, SLUICE_E_UNSUPPORTED, true);
    sluice_engine_free(e);
}

/* The backend fails to give a page, or to take one: nothing is written, nothing is kept, and all goes on. */
static void test_failed_pages(void **state) {
    (void)state;
    sluice_state_info saved;
    sluice_engine *e = saved_engine(&saved);
    unlink(state_path);
    atomic_store(&rig_fake.fail_save, 3);
    assert_int_equal(sluice_engine_save(e, state_path, NULL, NULL), SLUICE_E_BACKEND);
    assert_false(exists(state_path));
    assert_int_equal(sluice_engine_save(e, state_path, NULL, NULL), SLUICE_OK);
    sluice_engine_free(e);
    e = rig_open_shape(2, 0, 1024);
    atomic_store(&rig_fake.fail_load, 3);
    expect_no_restore(e, SLUICE_E_BACKEND, false);
    assert_true(exists(state_path)); /* the file is not to blame */
    sluice_request_options o = rig_exactly(rig_prompt, 600, 50);
    struct answer *a = rig_ask(e, &o);
    assert_int_equal(a->last.timings.cache_n, 0);
    answer_free(a);
    assert_int_equal(sluice_engine_save(e, "/no/such/folder/x", NULL, NULL), SLUICE_E_IO);
    sluice_engine_free(e);
}

struct saver {
    pthread_t thread;
    sluice_engine *engine;
    atomic_bool over;
    uint32_t n_saved;
};

static void *save_on(void *arg) {
    struct saver *s = arg;
    while (!atomic_load(&s->over)) {
        s->n_saved += sluice_engine_save(s->engine, state_path, NULL, NULL) == SLUICE_OK;
    }
    return NULL;
}

/* Saving over and over beside requests that fight for pages; every file written is whole. */
static void test_save_beside_requests(void **state) {
    (void)state;
    sluice_engine_options options = rig_options(4, 0, 640);
    options.kv_bytes_max = 14 * model_page_bytes(&rig_weights);
    sluice_engine *e = rig_open(&options), *solo = rig_open_solo(0, 640);
    struct saver s = {.engine = e};
    assert_int_equal(pthread_create(&s.thread, NULL, save_on, &s), 0);
    for (uint64_t seed = 1; seed < 5; seed++) {
        rig_check_company(solo, e, RIG_VOCAB, seed, 40);
    }
    atomic_store(&s.over, true);
    pthread_join(s.thread, NULL);
    assert_true(s.n_saved > 3);
    sluice_engine *other = rig_open_shape(2, 0, 640);
    assert_int_equal(sluice_engine_restore(other, state_path, NULL, NULL), SLUICE_OK);
    rig_check_company(solo, other, RIG_VOCAB, 4, 40);
    sluice_engine_free(other);
    sluice_engine_free(solo);
    sluice_engine_free(e);
}

static int clean(void **state) {
    return remove_files(state) + rig_clean(state);
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, clean)
    const struct CMUnitTest tests[] = {
        TEST(test_shared_beginning_is_computed_once),
        TEST(test_copies),
        TEST(test_turns),
        TEST(test_retry),
        TEST(test_no_cache),
        TEST(test_budget),
        TEST(test_least_recent_goes_first),
        TEST(test_preemption),
        TEST(test_oldest_stays),
        TEST(test_pages_held_twice),
        TEST(test_huge_among_small),
        TEST(test_save_and_restore),
        TEST(test_refused_files),
        TEST(test_failed_pages),
        TEST(test_save_beside_requests),
    };
    return cmocka_run_group_tests(tests, name_files, NULL);
}
