/* The engine on a scripted backend: answers, company, order, drafts, readers. */
#include "unit/engine_fake.h"

/* ---- One request ------------------------------------------------------------------------------------------- */

static void test_one(void **state) {
    (void)state;
    sluice_engine *e = rig_open_shape(2, 16, 512);
    sluice_request_options o = rig_exactly(rig_prompt, 100, 20);
    o.no_draft = true; /* the steps are counted */
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
    sluice_engine *e = rig_open_shape(1, 0, 256);
    sluice_logit_bias bias = {.token = RIG_END, .bias = 100};
    sluice_request_options o = rig_exactly(rig_prompt, 5, 50);
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

    o = rig_exactly(rig_prompt, 250, 0); /* to the end of the context */
    a = rig_ask(e, &o);
    assert_int_equal(a->n, 6);
    assert_int_equal(a->last.finish, SLUICE_FINISH_LENGTH);
    answer_free(a);
    o = rig_exactly(rig_prompt, 255, 1000);
    a = rig_ask(e, &o);
    assert_int_equal(a->n, 1);
    answer_free(a);
    sluice_engine_free(e);
}

static void test_refusals(void **state) {
    (void)state;
    sluice_engine *e = rig_open_shape(1, 0, 256);
    sluice_request_options o = rig_exactly(rig_prompt, 256, 1);
    rig_expect_refused(e, o, SLUICE_E_LIMIT, "the prompt has 256 tokens");
    rig_expect_refused(e, o, SLUICE_E_LIMIT, "context of 256 tokens");
    rig_expect_refused(e, rig_exactly(rig_prompt, 0, 1), SLUICE_E_ARG, "empty");
    int32_t bad[3] = {1, RIG_VOCAB, -1};
    rig_expect_refused(e, rig_exactly(bad, 2, 1), SLUICE_E_ARG, "token 1 of the prompt is 160");
    rig_expect_refused(e, rig_exactly(bad + 2, 1, 1), SLUICE_E_ARG, "token 0 of the prompt is -1");
    o = rig_exactly(rig_prompt, 1, 1);
    o.sampling.temperature = NAN;
    rig_expect_refused(e, o, SLUICE_E_ARG, "temperature");
    o = rig_exactly(rig_prompt, 1, 1);
    o.top_logprobs = 21;
    rig_expect_refused(e, o, SLUICE_E_ARG, "top_logprobs");
    const char *stops[] = {""};
    o = rig_exactly(rig_prompt, 1, 1);
    o.stop = stops;
    o.n_stop = 1;
    rig_expect_refused(e, o, SLUICE_E_ARG, "stop string");
    sluice_engine_metrics m;
    sluice_engine_get_metrics(e, &m);
    assert_int_equal(m.requests_total, 0);
    sluice_engine_free(e);
}

static void test_queue_full(void **state) {
    (void)state;
    sluice_engine_options few = rig_options(1, 0, 256);
    few.queue_max = 2;
    sluice_engine *e = rig_open(&few);
    atomic_store(&rig_fake.delay_us, 2000);
    sluice_request_options o = rig_exactly(rig_prompt, 4, 100);
    sluice_request *r[3];
    for (int i = 0; i < 3; i++) {
        r[i] = rig_submit(e, &o);
    }
    rig_expect_refused(e, o, SLUICE_E_BUSY, "3 requests");
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
    sluice_engine *e = rig_open_shape(1, 0, 256);
    sluice_request_options o = rig_exactly(rig_prompt, 4, 300);
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

/* How a backend may behave, to be tried by what holds for all. */
static const struct rig_mode modes[] = {{.periodic = false},   {.samples = true},
                                        {.periodic = true},    {.periodic = true, .samples = true},
                                        {.two_classes = true}, {.periodic = true, .no_rewind = true}};
enum { N_MODES = sizeof modes / sizeof modes[0] };

static void test_company(void **state) {
    (void)state;
    static const uint32_t shapes[][2] = {{1, 1}, {2, 7}, {4, 64}, {8, 100}, {32, 0}};
    for (uint32_t m = 0; m < N_MODES; m++) {
        rig_fake.mode = (struct rig_mode){.periodic = modes[m].periodic, .two_classes = modes[m].two_classes};
        sluice_engine *solo = rig_open_solo(33, 1500);
        for (uint32_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            rig_fake.mode = modes[m];
            sluice_engine *e = rig_open_shape(shapes[i][0], shapes[i][1], 1500);
            rig_check_company(solo, e, RIG_VOCAB, 100 + i, 30);
            sluice_engine_free(e);
        }
        rig_check_company(solo, solo, RIG_VOCAB, 7, 30);
        sluice_engine_free(solo);
    }
}

/* A pool that holds two full contexts for eight slots: requests wait for pages and nothing leaks. */
static void test_few_pages(void **state) {
    (void)state;
    sluice_engine_options o = rig_options(8, 50, 640);
    o.kv_bytes_max = 20 * model_page_bytes(&rig_weights);
    sluice_engine *e = rig_open(&o), *solo = rig_open_solo(0, 640);
    assert_int_equal(sluice_engine_get_info(e)->n_pages, 20);
    for (uint64_t seed = 1; seed < 4; seed++) {
        rig_check_company(solo, e, RIG_VOCAB, seed, 60);
    }
    sluice_engine_metrics m;
    sluice_engine_get_metrics(e, &m);
    assert_int_equal(m.pages_total, 20);
    assert_int_equal(m.pages_free + m.pages_cached, 20);
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
    sluice_engine *e = rig_open_shape(4, 32, 256);
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
    sluice_engine *e = rig_open_shape(1, 0, 256);
    sluice_request *r[20];
    atomic_uint next = 0;
    struct place places[20];
    for (uint32_t i = 0; i < 20; i++) {
        sluice_request_options o =
            rig_exactly(rig_prompt, 100 - 5 * i, 5); /* shorter ones do not overtake in the queue */
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
    sluice_engine *e = rig_open_shape(3, 32, RIG_CTX);
    atomic_store(&rig_fake.delay_us, 1000);
    sluice_request_options o = rig_exactly(rig_prompt, 1, 3000);
    sluice_request *stream = rig_submit(e, &o);
    sluice_event event;
    assert_int_equal(sluice_request_wait(stream, &event, 10000), SLUICE_EVENT_TOKEN);
    unsigned lonely = atomic_load(&rig_fake.lonely_prompt_steps), before = atomic_load(&rig_fake.prompt_steps);
    sluice_request_options longest = rig_exactly(rig_prompt, 3000, 1), shortest = rig_exactly(rig_prompt, 20, 1);
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
    sluice_engine *e = rig_open_shape(2, 0, RIG_CTX);
    sluice_request_options o = rig_exactly(rig_prompt, 10, 4000);
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
    sluice_engine *e = rig_open_shape(1, 0, 256);
    atomic_store(&rig_fake.delay_us, 100000);
    sluice_request_options o = rig_exactly(rig_prompt, 10, 2);
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
    sluice_engine *e = rig_open_shape(4, 0, 256);
    sluice_request_options o = rig_exactly(rig_prompt, 10, 20);
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
    sluice_engine *e = rig_open_shape(1, 0, RIG_CTX);
    atomic_store(&rig_fake.delay_us, 20);
    sluice_request_options o = rig_exactly(rig_prompt, 10, 2000);
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
    sluice_engine *e = rig_open_shape(4, 0, RIG_CTX);
    struct listener l = {0};
    uint64_t rnd = 5;
    sluice_request_options o = rig_exactly(rig_prompt, 3, 1000);
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
    sluice_engine *e = rig_open_shape(1, 0, RIG_CTX);
    sluice_request_options o = rig_exactly(rig_prompt, 3, 1000);
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
    sluice_engine *e = rig_open_shape(2, 8, 512);
    atomic_store(&rig_fake.delay_us, 5000);
    sluice_request_options o = rig_exactly(rig_prompt, 20, 100);
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

static void test_drafts_save_steps(void **state) {
    (void)state;
    rig_fake.mode.periodic = true;
    for (int samples = 0; samples < 2; samples++) {
        rig_fake.mode.samples = samples;
        sluice_engine *e = rig_open_shape(2, 0, 1024);
        atomic_store(&rig_fake.pad_us, 50);
        sluice_request_options o = rig_periodic(600);
        o.no_draft = true;
        struct answer *plain = rig_ask(e, &o);
        unsigned steps = atomic_load(&rig_fake.steps);
        o.no_draft = false;
        o.no_cache = true;
        struct answer *drafted = rig_ask(e, &o);
        steps = atomic_load(&rig_fake.steps) - steps;
        answer_assert_equal(drafted, plain);
        const sluice_timings *t = &drafted->last.timings;
        assert_int_equal(plain->last.timings.draft_n, 0);
        assert_true(t->draft_accepted_n > 100 && t->draft_accepted_n <= t->draft_n);
        assert_true(steps <= 602 - t->draft_accepted_n + 2);
        sluice_engine_metrics m;
        sluice_engine_get_metrics(e, &m);
        assert_int_equal(m.draft_tokens_total, t->draft_n);
        assert_int_equal(m.draft_tokens_accepted, t->draft_accepted_n);
        answer_free(plain);
        answer_free(drafted);
        sluice_engine_free(e);
    }
}

/* ---- Forced tokens ----------------------------------------------------------------------------------------- */

/* An answer forced upon the model has the tokens, logprobs and end of the same answer given freely. */
static void test_forced(void **state) {
    (void)state;
    for (uint32_t m = 0; m < N_MODES; m++) {
        rig_fake.mode = modes[m];
        sluice_engine *e = rig_open_shape(2, 0, 512);
        sluice_request_options o = rig_exactly(rig_prompt, 70, 100);
        o.top_logprobs = 3;
        o.sampling.temperature = 0;
        struct answer *free_answer = rig_ask(e, &o);
        o.forced = free_answer->tokens;
        o.n_forced = 60;
        o.sampling.temperature = 1.5f; /* of no importance before the 61st */
        struct answer *half = rig_ask(e, &o);
        assert_int_equal(half->n, 100);
        assert_memory_equal(half->tokens, free_answer->tokens, 60 * sizeof half->tokens[0]);
        assert_true(memcmp(half->tokens + 60, free_answer->tokens + 60, 40 * sizeof half->tokens[0]) != 0);
        answer_free(half);
        o.n_forced = 100;
        o.max_tokens = 100;
        struct answer *forced = rig_ask(e, &o);
        answer_assert_equal(forced, free_answer);
        answer_free(forced);
        int32_t other[5] = {1, 2, 3, 4, RIG_END}; /* an end token ends it, forced or not */
        o.forced = other;
        o.n_forced = 5;
        o.ignore_eos = false;
        struct answer *ended = rig_ask(e, &o);
        assert_int_equal(ended->n, 5);
        assert_int_equal(ended->last.finish, SLUICE_FINISH_STOP);
        answer_free(ended);
        answer_free(free_answer);
        sluice_engine_free(e);
    }
    sluice_engine *e = rig_open_shape(1, 0, 512);
    int32_t bad[] = {1, RIG_VOCAB};
    sluice_request_options o = rig_exactly(rig_prompt, 5, 10);
    o.forced = bad;
    o.n_forced = 2;
    rig_expect_refused(e, o, SLUICE_E_ARG, "160");
    sluice_engine_free(e);
}

/* ---- A step ahead ------------------------------------------------------------------------------------------ */

static void test_step_ahead(void **state) {
    (void)state;
    rig_fake.mode.samples = true;
    sluice_engine *e = rig_open_shape(4, 0, 512);
    sluice_request_options o = rig_exactly(rig_prompt, 70, 200);
    unsigned steps = atomic_load(&rig_fake.steps), ahead = atomic_load(&rig_fake.ahead);
    answer_free(rig_ask(e, &o));
    steps = atomic_load(&rig_fake.steps) - steps;
    ahead = atomic_load(&rig_fake.ahead) - ahead;
    assert_true(ahead > 150); /* nearly every step was ready before the last one was over */
    assert_true(steps <= 202);
    sluice_engine_free(e);
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, rig_clean)
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
        TEST(test_forced),
        TEST(test_step_ahead),
        TEST(test_drafts_save_steps),
    };
    return cmocka_run_group_tests(tests, rig_setup, NULL);
}
