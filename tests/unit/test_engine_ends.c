/* How requests end on the scripted backend, other than by their own: cancelled, late, failed, drained, shut down. */
#include "unit/engine_fake.h"

/* ---- Cancellation ------------------------------------------------------------------------------------------ */

static void expect_cancelled(sluice_request *r) {
    struct answer *a = answer_new();
    answer_read(a, r);
    assert_int_equal(a->last.kind, SLUICE_EVENT_ERROR);
    assert_int_equal(a->last.error.status, SLUICE_E_CANCELLED);
    answer_free(a);
    sluice_request_free(r);
}

static void check_cancel(void) {
    sluice_engine *e = rig_open_shape(1, 16, RIG_CTX);
    atomic_store(&rig_fake.delay_us, 500);
    sluice_request_options o = rig_exactly(rig_prompt, 10, 4000), longest = rig_exactly(rig_prompt, 4000, 10);
    sluice_event event;
    sluice_request *running = rig_submit(e, &o), *queued = rig_submit(e, &o);
    assert_int_equal(sluice_request_wait(running, &event, 10000), SLUICE_EVENT_TOKEN);
    sluice_request_cancel(queued); /* while it waits */
    expect_cancelled(queued);
    sluice_request_cancel(running); /* while it generates: one more step may just have begun */
    unsigned steps = atomic_load(&rig_fake.steps);
    expect_cancelled(running);
    assert_true(atomic_load(&rig_fake.steps) - steps <= (rig_fake.mode.samples ? 2 : 1));
    sluice_request *next = rig_submit(e, &longest);
    usleep(5000);
    sluice_request_cancel(next); /* while its prompt is computed */
    sluice_request_cancel(next);
    expect_cancelled(next);
    o = rig_exactly(rig_prompt, 10, 3);
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

static void test_cancel(void **state) {
    (void)state;
    check_cancel();
    rig_fake.mode.samples = true; /* a step ahead */
    check_cancel();
}

/* Requests freed at any moment, read or not, leave the engine whole. */
static void test_cancel_anywhere(void **state) {
    (void)state;
    sluice_engine *solo = rig_open_solo(0, 512), *e = rig_open_shape(4, 16, 512);
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
    assert_int_equal(m.pages_free + m.pages_cached, m.pages_total);
    sluice_engine_free(solo);
    sluice_engine_free(e);
}

/* ---- Failures ---------------------------------------------------------------------------------------------- */

static void fail_steps(bool samples) {
    rig_fake.mode.samples = samples;
    sluice_engine *e = rig_open_shape(4, 0, 512);
    sluice_request_options o = rig_exactly(rig_prompt, 40, 50);
    o.no_draft = true; /* one step a token */
    struct answer *good = rig_ask(e, &o);
    atomic_int *const failures[] = {&rig_fake.fail_submit, &rig_fake.fail_wait, &rig_fake.nan_row};
    for (int kind = 0; kind < 3; kind++) {
        for (int at = 1; at < 20; at += 6) {
            atomic_store(failures[kind], at);
            struct answer *bad = rig_ask(e, &o);
            assert_int_equal(bad->last.kind, SLUICE_EVENT_ERROR);
            assert_int_equal(bad->last.error.status, SLUICE_E_BACKEND);
            assert_non_null(strstr(bad->last.error.text, kind < 2 ? "scripted failure" : "not finite"));
            if (samples && kind == 0) { /* the step before it was still under way */
                assert_in_range(bad->n, at > 1 ? at - 2 : 0, at - 1);
            } else {
                assert_int_equal(bad->n, at - 1);
            }
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

static void test_failed_step(void **state) {
    (void)state;
    fail_steps(false);
    fail_steps(true);
}

/* A row that cannot be drawn from ends its request with the sampler's words, wherever it is drawn; its neighbours go
 * on. */
static void test_nothing_to_draw(void **state) {
    (void)state;
    sluice_logit_bias bans[RIG_VOCAB];
    for (int i = 0; i < RIG_VOCAB; i++) {
        bans[i] = (sluice_logit_bias){.token = i, .bias = -100};
    }
    for (int samples = 0; samples < 2; samples++) {
        rig_fake.mode.samples = samples;
        sluice_engine *e = rig_open_shape(4, 0, 512);
        sluice_request_options good = rig_exactly(rig_prompt, 40, 50), bad = good, other = good;
        bad.logit_bias = bans;
        bad.n_logit_bias = RIG_VOCAB;
        other.sampling.seed = 9;
        struct answer *alone = rig_ask(e, &good);
        sluice_request *r[3] = {rig_submit(e, &good), rig_submit(e, &bad), rig_submit(e, &other)};
        for (int i = 0; i < 3; i++) {
            struct answer *a = answer_new();
            answer_read(a, r[i]);
            if (i == 1) {
                assert_int_equal(a->last.error.status, SLUICE_E_ARG);
                assert_non_null(strstr(a->last.error.text, "bans every token"));
                assert_int_equal(a->n, 0);
            } else {
                assert_int_equal(a->last.kind, SLUICE_EVENT_DONE);
            }
            if (i == 0) {
                answer_assert_equal(a, alone);
            }
            answer_free(a);
            sluice_request_free(r[i]);
        }
        answer_free(alone);
        sluice_engine_free(e);
    }
}

/* A failed rewind ends its request; others of the same step go on. */
static void test_failed_rewind(void **state) {
    (void)state;
    rig_fake.mode.periodic = true;
    sluice_engine *e = rig_open_shape(2, 0, 1024);
    atomic_store(&rig_fake.pad_us, 30);
    sluice_request_options o = rig_periodic(400);
    struct answer *good = rig_ask(e, &o);
    assert_int_equal(good->last.kind, SLUICE_EVENT_DONE);
    assert_true(atomic_load(&rig_fake.rewinds) > 0);
    atomic_store(&rig_fake.fail_rewind, 2);
    sluice_request *r[2] = {rig_submit(e, &o), rig_submit(e, &o)};
    uint32_t failed = 0;
    for (int i = 0; i < 2; i++) {
        struct answer *a = answer_new();
        answer_read(a, r[i]);
        if (a->last.kind == SLUICE_EVENT_ERROR) {
            assert_int_equal(a->last.error.status, SLUICE_E_BACKEND);
            assert_null(answer_prefix_difference(a, good));
            failed++;
        } else {
            answer_assert_equal(a, good);
        }
        answer_free(a);
        sluice_request_free(r[i]);
    }
    assert_int_equal(failed, 1);
    answer_free(good);
    sluice_engine_free(e);
}

/* ---- Deadlines ---------------------------------------------------------------------------------------------- */

static void expect_late(sluice_engine *e, sluice_request_options o, uint32_t timeout_ms, uint32_t least) {
    o.timeout_ms = timeout_ms;
    uint64_t start = clock_ns();
    struct answer *a = rig_ask(e, &o);
    assert_int_equal(a->last.kind, SLUICE_EVENT_ERROR);
    assert_int_equal(a->last.error.status, SLUICE_E_TIMEOUT);
    assert_true(clock_ms_since(start) >= timeout_ms);
    assert_true(clock_ms_since(start) < timeout_ms + 2000);
    assert_true(a->n >= least);
    answer_free(a);
}

static void test_deadlines(void **state) {
    (void)state;
    sluice_engine *e = rig_open_shape(1, 16, RIG_CTX);
    atomic_store(&rig_fake.delay_us, 2000);
    sluice_request_options stream = rig_exactly(rig_prompt, 10, 4000),
                           longest = rig_exactly(rig_prompt + 100, 4000, 10);
    expect_late(e, stream, 60, 2);  /* while it generates */
    expect_late(e, longest, 60, 0); /* while its prompt is computed */
    sluice_request *busy = rig_submit(e, &stream);
    sluice_event event;
    assert_int_equal(sluice_request_wait(busy, &event, 10000), SLUICE_EVENT_TOKEN);
    expect_late(e, rig_exactly(rig_prompt, 10, 1), 40, 0); /* while it waits */
    sluice_request_options in_time = rig_exactly(rig_prompt, 10, 3);
    in_time.timeout_ms = 20000;
    sluice_request_free(busy);
    struct answer *a = rig_ask(e, &in_time);
    assert_int_equal(a->last.kind, SLUICE_EVENT_DONE);
    answer_free(a);
    sluice_engine_metrics m;
    sluice_engine_get_metrics(e, &m);
    assert_int_equal(m.requests_failed, 3);
    assert_int_equal(m.requests_cancelled, 1);
    sluice_engine_free(e);
}

/* An engine whose only request waits for nothing but its deadline must wake up for it. */
static void test_deadline_of_a_sleeper(void **state) {
    (void)state;
    sluice_engine *e = rig_open_shape(1, 16, 256);
    atomic_store(&rig_fake.delay_us, 300000); /* one step is longer than the limit */
    expect_late(e, rig_exactly(rig_prompt, 10, 100), 50, 0);
    sluice_engine_free(e);
}

/* ---- Shutdown ---------------------------------------------------------------------------------------------- */

static void *wait_for_end(void *arg) {
    struct answer *a = answer_new();
    answer_read(a, arg);
    bool right = a->last.kind == SLUICE_EVENT_ERROR && a->last.error.status == SLUICE_E_CANCELLED;
    answer_free(a);
    return right ? arg : NULL;
}

static void *drain(void *arg) {
    return sluice_engine_drain(arg, -1) ? arg : NULL;
}

static void test_drain(void **state) {
    (void)state;
    sluice_engine *e = rig_open_shape(2, 16, 512);
    atomic_store(&rig_fake.delay_us, 1000);
    sluice_request_options o = rig_exactly(rig_prompt, 20, 60);
    sluice_request *r[5];
    for (int i = 0; i < 5; i++) {
        r[i] = rig_submit(e, &o);
    }
    assert_false(sluice_engine_drain(e, 0));
    assert_false(sluice_engine_drain(e, 20));
    rig_expect_refused(e, o, SLUICE_E_BUSY, "");
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, drain, e), 0);
    assert_true(sluice_engine_drain(e, -1));
    void *drained;
    pthread_join(other, &drained);
    assert_non_null(drained);
    for (int i = 0; i < 5; i++) { /* what had been taken in was finished */
        struct answer *a = answer_new();
        answer_read(a, r[i]);
        assert_int_equal(a->last.kind, SLUICE_EVENT_DONE);
        assert_int_equal(a->n, 60);
        answer_free(a);
        sluice_request_free(r[i]);
    }
    rig_expect_refused(e, o, SLUICE_E_BUSY, "");
    sluice_engine_free(e);
}

static void test_free_while_running(void **state) {
    (void)state;
    atomic_store(&rig_fake.delay_us, 300);
    for (int round = 0; round < 10; round++) {
        sluice_engine *e = rig_open_shape(2, 16, RIG_CTX);
        sluice_request_options o = rig_exactly(rig_prompt, 100, 3900);
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
#define TEST(name) cmocka_unit_test_teardown(name, rig_clean)
    const struct CMUnitTest tests[] = {
        TEST(test_cancel),
        TEST(test_cancel_anywhere),
        TEST(test_failed_step),
        TEST(test_nothing_to_draw),
        TEST(test_failed_rewind),
        TEST(test_deadlines),
        TEST(test_deadline_of_a_sleeper),
        TEST(test_drain),
        TEST(test_free_while_running),
    };
    return cmocka_run_group_tests(tests, rig_setup, NULL);
}
