/* The engine on a scripted backend: answers, company, cancellation, failures, shutdown. */
#include "unit/engine_fake.h"

static sluice_model model;

static sluice_engine *open_engine(uint32_t n_slots, uint32_t chunk, uint32_t ctx) {
    sluice_engine_options o = sluice_engine_options_default();
    o.n_slots = n_slots;
    o.prefill_chunk = chunk;
    o.ctx_per_slot = ctx;
    o.queue_max = 2000;
    sluice_engine *e = NULL;
    sluice_error err = {0};
    if (engine_create_on(&model, &rig_fake_ops, &o, &e, &err) != SLUICE_OK) {
        fail_msg("create: %s", err.text);
    }
    return e;
}

/* A request that generates exactly n tokens. */
static sluice_request_options exactly(const int32_t *prompt, size_t n_prompt, uint32_t n) {
    sluice_request_options o = sluice_request_options_default(&model);
    o.tokens = prompt;
    o.n_tokens = n_prompt;
    o.max_tokens = n;
    o.ignore_eos = true;
    return o;
}

static int32_t prompt[RIG_CTX];

static int setup(void **state) {
    (void)state;
    model = rig_fake_model();
    for (int i = 0; i < RIG_CTX; i++) {
        prompt[i] = (int32_t)(rig_mix((uint64_t)i) % RIG_VOCAB);
    }
    return 0;
}

static int clean(void **state) {
    (void)state;
    atomic_store(&rig_fake.delay_us, 0);
    rig_fake.step_tokens_max = 0;
    return atomic_load(&rig_fake.violations) == 0 ? 0 : -1;
}

/* ---- One request ------------------------------------------------------------------------------------------- */

static void test_one(void **state) {
    (void)state;
    sluice_engine *e = open_engine(2, 16, 512);
    sluice_request_options o = exactly(prompt, 100, 20);
    struct answer *a = rig_ask(e, &o);
    assert_int_equal(a->n, 20);
    assert_int_equal(a->last.kind, SLUICE_EVENT_DONE);
    assert_int_equal(a->last.finish, SLUICE_FINISH_LENGTH);
    assert_null(a->last.stop_string);
    assert_int_equal(a->last.timings.prompt_n, 100);
    assert_int_equal(a->last.timings.cache_n, 0);
    assert_int_equal(a->last.timings.predicted_n, 20);
    assert_true(a->last.timings.queue_ms >= 0 && a->last.timings.prompt_ms > 0 && a->last.timings.predicted_ms > 0);
    sluice_engine_metrics m;
    sluice_engine_get_metrics(e, &m);
    assert_int_equal(m.requests_total, 1);
    assert_int_equal(m.prompt_tokens_total, 100);
    assert_int_equal(m.generated_tokens_total, 20);
    assert_int_equal(m.steps_total, 7 + 19); /* the last of 7 chunks gives the first token */
    assert_int_equal(m.requests_running + m.requests_waiting, 0);
    answer_free(a);
    sluice_engine_free(e);
}

static void test_ends(void **state) {
    (void)state;
    sluice_engine *e = open_engine(1, 0, 256);
    sluice_logit_bias bias = {.token = RIG_END, .bias = 100};
    sluice_request_options o = exactly(prompt, 5, 50);
    o.ignore_eos = false;
    o.logit_bias = &bias;
    o.n_logit_bias = 1;
    struct answer *a = rig_ask(e, &o);
    assert_int_equal(a->n, 1);
    assert_int_equal(a->tokens[0], RIG_END);
    assert_int_equal(a->text.len, 0);
    assert_int_equal(a->last.finish, SLUICE_FINISH_STOP);
    answer_free(a);

    bias.token = 95 + 6; /* "STOP" */
    assert_memory_equal(rig_tokens[101].bytes, "STOP", 4);
    const char *stops[] = {"never", "OPST"};
    o.stop = stops;
    o.n_stop = 2;
    a = rig_ask(e, &o);
    assert_int_equal(a->n, 2);
    assert_int_equal(a->text.len, 2);
    assert_memory_equal(a->text.data, "ST", 2);
    assert_int_equal(a->last.finish, SLUICE_FINISH_STOP);
    assert_string_equal(a->last.stop_string ? a->stop_string : "", "OPST");
    answer_free(a);

    o = exactly(prompt, 250, 0); /* to the end of the context */
    a = rig_ask(e, &o);
    assert_int_equal(a->n, 6);
    assert_int_equal(a->last.finish, SLUICE_FINISH_LENGTH);
    answer_free(a);
    o = exactly(prompt, 255, 1000);
    a = rig_ask(e, &o);
    assert_int_equal(a->n, 1);
    answer_free(a);
    sluice_engine_free(e);
}

static void expect_refused(sluice_engine *e, sluice_request_options o, sluice_status status, const char *words) {
    sluice_request *r = NULL;
    sluice_error err = {0};
    assert_int_equal(sluice_request_submit(e, &o, &r, &err), status);
    assert_int_equal(err.status, status);
    if (!strstr(err.text, words)) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
    }
    assert_null(r);
}

static void test_refusals(void **state) {
    (void)state;
    sluice_engine *e = open_engine(1, 0, 256);
    sluice_request_options o = exactly(prompt, 256, 1);
    expect_refused(e, o, SLUICE_E_LIMIT, "the prompt has 256 tokens");
    expect_refused(e, o, SLUICE_E_LIMIT, "context of 256 tokens");
    expect_refused(e, exactly(prompt, 0, 1), SLUICE_E_ARG, "empty");
    int32_t bad[3] = {1, RIG_VOCAB, -1};
    expect_refused(e, exactly(bad, 2, 1), SLUICE_E_ARG, "token 1 of the prompt is 160");
    expect_refused(e, exactly(bad + 2, 1, 1), SLUICE_E_ARG, "token 0 of the prompt is -1");
    o = exactly(prompt, 1, 1);
    o.sampling.temperature = NAN;
    expect_refused(e, o, SLUICE_E_ARG, "temperature");
    o = exactly(prompt, 1, 1);
    o.top_logprobs = 21;
    expect_refused(e, o, SLUICE_E_ARG, "top_logprobs");
    const char *stops[] = {""};
    o = exactly(prompt, 1, 1);
    o.stop = stops;
    o.n_stop = 1;
    expect_refused(e, o, SLUICE_E_ARG, "stop string");
    sluice_engine_metrics m;
    sluice_engine_get_metrics(e, &m);
    assert_int_equal(m.requests_total, 0);
    sluice_engine_free(e);
}

static void test_queue_full(void **state) {
    (void)state;
    sluice_engine_options options = sluice_engine_options_default();
    options.n_slots = 1;
    options.queue_max = 2;
    sluice_engine *e;
    assert_int_equal(engine_create_on(&model, &rig_fake_ops, &options, &e, NULL), SLUICE_OK);
    atomic_store(&rig_fake.delay_us, 2000);
    sluice_request_options o = exactly(prompt, 4, 100);
    sluice_request *r[3];
    for (int i = 0; i < 3; i++) {
        r[i] = rig_submit(e, &o);
    }
    expect_refused(e, o, SLUICE_E_BUSY, "3 requests");
    struct answer *a = answer_new();
    answer_read(a, r[0]);
    answer_free(a);
    sluice_request_free(r[0]);
    r[0] = rig_submit(e, &o); /* room again as soon as one has ended */
    for (int i = 0; i < 3; i++) {
        sluice_request_free(r[i]);
    }
    sluice_engine_free(e);
}

static void test_logprobs(void **state) {
    (void)state;
    sluice_engine *e = open_engine(1, 0, 256);
    sluice_request_options o = exactly(prompt, 4, 300);
    o.top_logprobs = 20;
    sluice_request *r = rig_submit(e, &o);
    sluice_event event;
    int n = 0;
    while (sluice_request_wait(r, &event, 10000) == SLUICE_EVENT_TOKEN) {
        n++;
        assert_int_equal(event.n_top, 20);
        assert_true(event.logprob <= event.top[0].logprob && event.top[0].logprob <= 0);
        assert_true(event.top[19].logprob <= event.top[0].logprob);
    }
    assert_int_equal(n, 252);
    sluice_request_free(r);
    sluice_engine_free(e);
}

/* ---- Company ----------------------------------------------------------------------------------------------- */

static void test_company(void **state) {
    (void)state;
    static const uint32_t shapes[][2] = {{1, 1}, {2, 7}, {4, 64}, {8, 100}, {32, 0}};
    sluice_engine *solo = open_engine(1, 33, 1500);
    for (uint32_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        sluice_engine *e = open_engine(shapes[i][0], shapes[i][1], 1500);
        rig_check_company(solo, e, RIG_VOCAB, 100 + i, 60);
        sluice_engine_free(e);
    }
    rig_check_company(solo, solo, RIG_VOCAB, 7, 30);
    sluice_engine_free(solo);
}

/* A pool that holds two full contexts for eight slots: requests wait for pages and nothing leaks. */
static void test_few_pages(void **state) {
    (void)state;
    sluice_engine_options o = sluice_engine_options_default();
    o.n_slots = 8;
    o.ctx_per_slot = 640;
    o.prefill_chunk = 50;
    o.kv_bytes_max = 20 * KV_PAGE_TOKENS * model.info.kv_bytes_per_token;
    sluice_engine *e, *solo = open_engine(1, 0, 640);
    assert_int_equal(engine_create_on(&model, &rig_fake_ops, &o, &e, NULL), SLUICE_OK);
    assert_int_equal(e->plan.n_pages, 20);
    for (uint64_t seed = 1; seed < 4; seed++) {
        rig_check_company(solo, e, RIG_VOCAB, seed, 60);
    }
    sluice_engine_free(solo);
    sluice_engine_free(e);
}

struct submitter {
    pthread_t thread;
    sluice_engine *engine;
    uint64_t seed;
    uint32_t n_done;
};

static void *submit_many(void *arg) {
    struct submitter *s = arg;
    struct rig_request q;
    for (int round = 0; round < 25; round++) {
        sluice_request *r[10];
        struct answer *a = answer_new();
        for (int i = 0; i < 10; i++) {
            rig_random_request(&q, &s->seed, RIG_VOCAB, 256);
            r[i] = rig_submit(s->engine, &q.o);
        }
        for (int i = 0; i < 10; i++) {
            a->n = 0;
            answer_read(a, r[i]);
            s->n_done += a->last.kind == SLUICE_EVENT_DONE;
            sluice_request_free(r[i]);
        }
        answer_free(a);
    }
    return NULL;
}

static void test_thousand(void **state) {
    (void)state;
    sluice_engine *e = open_engine(4, 32, 256);
    struct submitter s[4];
    for (int i = 0; i < 4; i++) {
        s[i] = (struct submitter){.engine = e, .seed = (uint64_t)i};
        assert_int_equal(pthread_create(&s[i].thread, NULL, submit_many, &s[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(s[i].thread, NULL);
        assert_int_equal(s[i].n_done, 250);
    }
    sluice_engine_metrics m;
    sluice_engine_get_metrics(e, &m);
    assert_int_equal(m.requests_total, 1000);
    assert_int_equal(m.requests_failed + m.requests_cancelled + m.requests_running + m.requests_waiting, 0);
    sluice_engine_free(e);
}

struct place { /* in the order of first tokens */
    atomic_uint *next;
    atomic_uint at; /* 0 = not yet */
};

static void take_place(void *ctx) {
    struct place *p = ctx;
    if (atomic_load(&p->at) == 0) {
        atomic_store(&p->at, atomic_fetch_add(p->next, 1) + 1);
    }
}

/* First come, first served. */
static void test_order(void **state) {
    (void)state;
    sluice_engine *e = open_engine(1, 0, 256);
    sluice_request *r[20];
    atomic_uint next = 0;
    struct place places[20];
    for (uint32_t i = 0; i < 20; i++) {
        sluice_request_options o = exactly(prompt, 100 - 5 * i, 5); /* shorter ones do not overtake in the queue */
        places[i] = (struct place){.next = &next};
        o.on_ready = take_place;
        o.on_ready_ctx = &places[i];
        r[i] = rig_submit(e, &o);
        assert_int_equal(sluice_request_id(r[i]), i + 1);
    }
    struct answer *a = answer_new();
    for (uint32_t i = 0; i < 20; i++) {
        a->n = 0;
        answer_read(a, r[i]);
        sluice_request_free(r[i]);
        assert_int_equal(atomic_load(&places[i].at), i + 1);
    }
    answer_free(a);
    sluice_engine_free(e);
}

/* While something generates, every step that computes a long prompt carries the generating row; a short prompt
 * overtakes. */
static void test_long_prompt_beside(void **state) {
    (void)state;
    sluice_engine *e = open_engine(3, 32, RIG_CTX);
    atomic_store(&rig_fake.delay_us, 1000);
    sluice_request_options o = exactly(prompt, 1, 3000);
    sluice_request *stream = rig_submit(e, &o);
    sluice_event event;
    assert_int_equal(sluice_request_wait(stream, &event, 10000), SLUICE_EVENT_TOKEN);
    unsigned lonely = atomic_load(&rig_fake.lonely_prompt_steps), before = atomic_load(&rig_fake.prompt_steps);
    sluice_request_options longest = exactly(prompt, 3000, 1), shortest = exactly(prompt, 20, 1);
    sluice_request *slow = rig_submit(e, &longest);
    sluice_request *fast = rig_submit(e, &shortest);
    assert_int_equal(sluice_request_wait(fast, &event, 10000), SLUICE_EVENT_TOKEN);
    assert_int_equal(sluice_request_poll(slow, &event), SLUICE_EVENT_NONE);
    struct answer *a = answer_new();
    answer_read(a, slow);
    assert_true(atomic_load(&rig_fake.prompt_steps) - before > 3000 / 40);
    assert_int_equal(atomic_load(&rig_fake.lonely_prompt_steps), lonely);
    answer_free(a);
    sluice_request_free(stream);
    sluice_request_free(slow);
    sluice_request_free(fast);
    sluice_engine_free(e);
}

/* ---- Readers ----------------------------------------------------------------------------------------------- */

static void test_slow_reader(void **state) {
    (void)state;
    sluice_engine *e = open_engine(2, 0, RIG_CTX);
    sluice_request_options o = exactly(prompt, 10, 4000);
    sluice_request *unread = rig_submit(e, &o);
    struct answer *read = rig_ask(e, &o), *late = answer_new();
    sluice_engine_metrics m;
    do {
        sluice_engine_get_metrics(e, &m);
    } while (m.requests_running > 0);
    answer_read(late, unread);
    answer_assert_equal(read, late);
    assert_int_equal(late->n, 4000);
    sluice_request_free(unread);
    answer_free(read);
    answer_free(late);
    sluice_engine_free(e);
}

static void test_wait_timeout(void **state) {
    (void)state;
    sluice_engine *e = open_engine(1, 0, 256);
    atomic_store(&rig_fake.delay_us, 100000);
    sluice_request_options o = exactly(prompt, 10, 2);
    sluice_request *r = rig_submit(e, &o);
    sluice_event event;
    uint64_t start = clock_ns();
    assert_int_equal(sluice_request_wait(r, &event, 0), SLUICE_EVENT_NONE);
    assert_int_equal(sluice_request_wait(r, &event, 20), SLUICE_EVENT_NONE);
    assert_true(clock_ms_since(start) >= 20);
    assert_int_equal(sluice_request_wait(r, &event, 10000), SLUICE_EVENT_TOKEN);
    sluice_request_free(r);
    sluice_engine_free(e);
}

static void test_idle_sleeps(void **state) {
    (void)state;
    sluice_engine *e = open_engine(4, 0, 256);
    sluice_request_options o = exactly(prompt, 10, 20);
    answer_free(rig_ask(e, &o));
    clockid_t clock;
    struct timespec t[2];
    assert_int_equal(pthread_getcpuclockid(e->box->thread, &clock), 0);
    usleep(20000);
    clock_gettime(clock, &t[0]);
    usleep(200000);
    clock_gettime(clock, &t[1]);
    int64_t used = (t[1].tv_sec - t[0].tv_sec) * 1000000000ll + t[1].tv_nsec - t[0].tv_nsec;
    assert_true(used < 1000000); /* 0.5% of 200 ms */
    sluice_engine_free(e);
}

/* Once the first tokens are out, a request whose reader keeps up allocates nothing. */
static void test_no_allocation_per_token(void **state) {
    (void)state;
    sluice_engine *e = open_engine(1, 0, RIG_CTX);
    atomic_store(&rig_fake.delay_us, 20);
    sluice_request_options o = exactly(prompt, 10, 2000);
    o.sampling.repetition_penalty = 1.1f;
    sluice_request *r = rig_submit(e, &o);
    sluice_event event;
    uint64_t count = 0;
    for (int i = 0; i < 1900; i++) {
        assert_int_equal(sluice_request_wait(r, &event, 10000), SLUICE_EVENT_TOKEN);
        count = i == 500 ? mem_count() : count;
    }
    assert_true(mem_count() - count < 1400 / 20); /* a chunk of about 100 tokens whenever the reader lags */
    sluice_request_free(r);
    sluice_engine_free(e);
}

struct listener {
    atomic_bool alive;
    atomic_uint calls, late;
};

static void on_ready(void *ctx) {
    struct listener *l = ctx;
    atomic_fetch_add(&l->calls, 1);
    if (!atomic_load(&l->alive)) {
        atomic_fetch_add(&l->late, 1);
    }
    usleep(20);
    if (!atomic_load(&l->alive)) {
        atomic_fetch_add(&l->late, 1);
    }
}

static void test_no_call_after_free(void **state) {
    (void)state;
    sluice_engine *e = open_engine(4, 0, RIG_CTX);
    struct listener l = {0};
    uint64_t rnd = 5;
    sluice_request_options o = exactly(prompt, 3, 1000);
    o.on_ready = on_ready;
    o.on_ready_ctx = &l;
    for (int i = 0; i < 300; i++) {
        atomic_store(&l.alive, true);
        sluice_request *r = rig_submit(e, &o);
        usleep(rig_below(&rnd, 400));
        sluice_request_free(r);
        atomic_store(&l.alive, false);
    }
    assert_int_equal(atomic_load(&l.late), 0);
    assert_true(atomic_load(&l.calls) > 0);
    sluice_engine_free(e);
}

static sluice_request *freed_inside;
static atomic_bool may_free;

static void free_inside(void *ctx) {
    (void)ctx;
    if (atomic_exchange(&may_free, false)) {
        sluice_request_free(freed_inside);
    }
}

static void test_free_inside_callback(void **state) {
    (void)state;
    sluice_engine *e = open_engine(1, 0, RIG_CTX);
    sluice_request_options o = exactly(prompt, 3, 1000);
    o.on_ready = free_inside;
    freed_inside = rig_submit(e, &o);
    atomic_store(&may_free, true);
    sluice_engine_metrics m;
    do {
        usleep(100);
        sluice_engine_get_metrics(e, &m);
    } while (m.requests_running + m.requests_waiting > 0);
    sluice_engine_free(e);
}

static void test_slot_states(void **state) {
    (void)state;
    sluice_engine *e = open_engine(2, 8, 512);
    atomic_store(&rig_fake.delay_us, 5000);
    sluice_request_options o = exactly(prompt, 20, 100);
    sluice_request *r = rig_submit(e, &o);
    sluice_event event;
    assert_int_equal(sluice_request_wait(r, &event, 10000), SLUICE_EVENT_TOKEN);
    sluice_slot_state s[2];
    assert_int_equal(sluice_engine_get_slots(e, s, 2), 2);
    assert_true(s[0].busy && !s[1].busy);
    assert_int_equal(s[0].request_id, sluice_request_id(r));
    assert_int_equal(s[0].n_prompt, 20);
    assert_int_equal(s[0].n_prompt_done, 20);
    assert_true(s[0].n_generated >= 1);
    assert_int_equal(sluice_engine_get_slots(e, NULL, 0), 2);
    sluice_request_free(r);
    sluice_engine_free(e);
}

/* ---- Cancellation ------------------------------------------------------------------------------------------ */

static void expect_cancelled(sluice_request *r) {
    struct answer *a = answer_new();
    answer_read(a, r);
    assert_int_equal(a->last.kind, SLUICE_EVENT_ERROR);
    assert_int_equal(a->last.error.status, SLUICE_E_CANCELLED);
    answer_free(a);
    sluice_request_free(r);
}

static void test_cancel(void **state) {
    (void)state;
    sluice_engine *e = open_engine(1, 16, RIG_CTX);
    atomic_store(&rig_fake.delay_us, 500);
    sluice_request_options o = exactly(prompt, 10, 4000), longest = exactly(prompt, 4000, 10);
    sluice_event event;
    sluice_request *running = rig_submit(e, &o), *queued = rig_submit(e, &o);
    assert_int_equal(sluice_request_wait(running, &event, 10000), SLUICE_EVENT_TOKEN);
    sluice_request_cancel(queued); /* while it waits */
    expect_cancelled(queued);
    sluice_request_cancel(running); /* while it generates: one more step may just have begun */
    unsigned steps = atomic_load(&rig_fake.steps);
    expect_cancelled(running);
    assert_true(atomic_load(&rig_fake.steps) - steps <= 1);
    sluice_request *next = rig_submit(e, &longest);
    usleep(5000);
    sluice_request_cancel(next); /* while its prompt is computed */
    sluice_request_cancel(next);
    expect_cancelled(next);
    o = exactly(prompt, 10, 3);
    sluice_request *done = rig_submit(e, &o);
    struct answer *a = answer_new();
    answer_read(a, done);
    assert_int_equal(a->last.kind, SLUICE_EVENT_DONE);
    sluice_request_cancel(done); /* too late: changes nothing */
    assert_int_equal(sluice_request_poll(done, &event), SLUICE_EVENT_NONE);
    answer_free(a);
    sluice_request_free(done);
    sluice_engine_metrics m;
    sluice_engine_get_metrics(e, &m);
    assert_int_equal(m.requests_cancelled, 3);
    assert_int_equal(m.requests_failed, 0);
    sluice_engine_free(e);
}

/* Requests freed at any moment, read or not, leave the engine whole. */
static void test_cancel_anywhere(void **state) {
    (void)state;
    sluice_engine *solo = open_engine(1, 0, 512), *e = open_engine(4, 16, 512);
    uint64_t rnd = 99;
    struct rig_request q;
    for (int round = 0; round < 400; round++) {
        sluice_request *r[8];
        for (int i = 0; i < 8; i++) {
            rig_random_request(&q, &rnd, RIG_VOCAB, 512);
            r[i] = rig_submit(e, &q.o);
            if (rig_below(&rnd, 4) == 0) {
                sluice_request_cancel(r[i]);
            }
        }
        for (int i = 0; i < 8; i++) {
            if (rig_below(&rnd, 2)) {
                usleep(rig_below(&rnd, 200));
            }
            sluice_request_free(r[i]);
        }
    }
    rig_check_company(solo, e, RIG_VOCAB, 3, 30);
    sluice_engine_metrics m;
    do {
        sluice_engine_get_metrics(e, &m);
    } while (m.requests_running + m.requests_waiting > 0);
    assert_int_equal(e->n_free_pages, e->plan.n_pages);
    sluice_engine_free(solo);
    sluice_engine_free(e);
}

/* ---- Failures ---------------------------------------------------------------------------------------------- */

static void test_failed_step(void **state) {
    (void)state;
    sluice_engine *e = open_engine(4, 0, 512);
    sluice_request_options o = exactly(prompt, 40, 50);
    struct answer *good = rig_ask(e, &o);
    atomic_int *const failures[] = {&rig_fake.fail_submit, &rig_fake.fail_wait, &rig_fake.nan_row};
    for (int kind = 0; kind < 3; kind++) {
        for (int at = 1; at < 20; at += 6) {
            atomic_store(failures[kind], at);
            struct answer *bad = rig_ask(e, &o);
            assert_int_equal(bad->last.kind, SLUICE_EVENT_ERROR);
            assert_int_equal(bad->last.error.status, SLUICE_E_BACKEND);
            assert_non_null(strstr(bad->last.error.text, kind < 2 ? "scripted failure" : "not finite"));
            assert_int_equal(bad->n, at - 1);
            assert_memory_equal(bad->tokens, good->tokens, bad->n * sizeof bad->tokens[0]);
            answer_free(bad);
            struct answer *again = rig_ask(e, &o);
            answer_assert_equal(again, good);
            answer_free(again);
        }
    }
    atomic_store(&rig_fake.fail_wait, 30); /* all requests of a step end with it */
    atomic_store(&rig_fake.delay_us, 1000);
    sluice_request *r[4];
    for (int i = 0; i < 4; i++) {
        r[i] = rig_submit(e, &o);
    }
    for (int i = 0; i < 4; i++) {
        struct answer *a = answer_new();
        answer_read(a, r[i]);
        assert_int_equal(a->last.error.status, SLUICE_E_BACKEND);
        answer_free(a);
        sluice_request_free(r[i]);
    }
    sluice_engine_metrics m;
    sluice_engine_get_metrics(e, &m);
    assert_int_equal(m.requests_failed, 3 * 4 + 4);
    answer_free(good);
    sluice_engine_free(e);
}

/* Creation, submission and generation with the n-th allocation failing, for every n until all goes through. */
static void test_allocation_failures(void **state) {
    (void)state;
    sluice_engine *whole = open_engine(2, 16, 512);
    const char *stops[] = {"never said", "zzzz"};
    sluice_request_options o = exactly(prompt, 40, 400);
    o.sampling.repetition_penalty = 1.1f;
    o.stop = stops;
    o.n_stop = 2;
    struct answer *good = rig_ask(whole, &o);
    sluice_engine_free(whole);
    uint32_t refused = 0, ended = 0;
    for (long nth = 1;; nth++) {
        sluice_engine_options options = sluice_engine_options_default();
        options.n_slots = 2;
        options.ctx_per_slot = 512;
        sluice_engine *e = NULL;
        sluice_request *r = NULL;
        sluice_error err = {0};
        mem_fail_nth(nth);
        sluice_status status = engine_create_on(&model, &rig_fake_ops, &options, &e, &err);
        if (status == SLUICE_OK) {
            status = sluice_request_submit(e, &o, &r, &err);
        }
        if (status != SLUICE_OK) {
            mem_fail_nth(0);
            assert_int_equal(status, SLUICE_E_NOMEM);
            assert_true(strlen(err.text) > 10);
            refused++;
            sluice_engine_free(e);
            continue;
        }
        struct answer *a = answer_new();
        sluice_event event;
        while (sluice_request_wait(r, &event, 20000) == SLUICE_EVENT_TOKEN) {
            a->tokens[a->n++] = event.token;
        }
        mem_fail_nth(0);
        assert_memory_equal(a->tokens, good->tokens, a->n * sizeof a->tokens[0]);
        sluice_request_free(r);
        struct answer *again = rig_ask(e, &o); /* the engine goes on */
        answer_assert_equal(again, good);
        answer_free(again);
        answer_free(a);
        sluice_engine_free(e);
        if (event.kind == SLUICE_EVENT_DONE) {
            break;
        }
        assert_int_equal(event.error.status, SLUICE_E_NOMEM);
        ended++;
    }
    assert_true(refused > 15 && ended > 3);
    answer_free(good);
}

/* ---- Shutdown ---------------------------------------------------------------------------------------------- */

static void *wait_for_end(void *arg) {
    struct answer *a = answer_new();
    answer_read(a, arg);
    bool right = a->last.kind == SLUICE_EVENT_ERROR && a->last.error.status == SLUICE_E_CANCELLED;
    answer_free(a);
    return right ? arg : NULL;
}

static void test_free_while_running(void **state) {
    (void)state;
    atomic_store(&rig_fake.delay_us, 300);
    for (int round = 0; round < 10; round++) {
        sluice_engine *e = open_engine(2, 16, RIG_CTX);
        sluice_request_options o = exactly(prompt, 100, 3900);
        sluice_request *r[6];
        pthread_t waiter;
        for (int i = 0; i < 6; i++) {
            r[i] = rig_submit(e, &o);
        }
        assert_int_equal(pthread_create(&waiter, NULL, wait_for_end, r[0]), 0);
        usleep((useconds_t)round * 500);
        sluice_request_free(r[5]);
        sluice_engine_free(e);
        void *right;
        pthread_join(waiter, &right);
        assert_non_null(right);
        sluice_request_cancel(r[0]); /* both are safe without an engine */
        sluice_request_free(r[0]);
        for (int i = 1; i < 5; i++) {
            expect_cancelled(r[i]);
        }
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, clean)
    const struct CMUnitTest tests[] = {
        TEST(test_one),
        TEST(test_ends),
        TEST(test_refusals),
        TEST(test_queue_full),
        TEST(test_logprobs),
        TEST(test_company),
        TEST(test_few_pages),
        TEST(test_thousand),
        TEST(test_order),
        TEST(test_long_prompt_beside),
        TEST(test_slow_reader),
        TEST(test_wait_timeout),
        TEST(test_idle_sleeps),
        TEST(test_no_allocation_per_token),
        TEST(test_no_call_after_free),
        TEST(test_free_inside_callback),
        TEST(test_slot_states),
        TEST(test_cancel),
        TEST(test_cancel_anywhere),
        TEST(test_failed_step),
        TEST(test_allocation_failures),
        TEST(test_free_while_running),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
