/*
 * A whole scenario with the n-th allocation failing, for every n until none fails: engine, requests with shared
 * prompts, drafts, preemption, stop strings and penalties, saving, restoring, a second engine. Each failure is seen by
 * one call or ends one request; the engine then serves the next as if nothing had been.
 */
#include "unit/engine_fake.h"

#define N_REQUESTS 5

static char state_path[64], trace_path[64];
static sluice_request_options requests[N_REQUESTS];
static struct answer *right[N_REQUESTS];
static int32_t prompts[N_REQUESTS][200];

static const struct rig_mode kinds[] = {{.periodic = true}, {.periodic = true, .samples = true}};

static int setup(void **state) {
    snprintf(state_path, sizeof state_path, "/tmp/sluice-faults-%d.state", (int)getpid());
    snprintf(trace_path, sizeof trace_path, "/tmp/sluice-faults-%d.trace", (int)getpid());
    return rig_setup(state);
}

static int clean(void **state) {
    unlink(state_path);
    unlink(trace_path);
    return rig_clean(state);
}

/* Prompts of 150 tokens, the first 130 the same, that go round and round; answers that outgrow the pool together. */
static void make_requests(void) {
    static const char *const stops[] = {"never said", "zzzz"};
    static const sluice_logit_bias bias = {.token = 5, .bias = 1};
    for (uint32_t i = 0; i < N_REQUESTS; i++) {
        for (uint32_t k = 0; k < 150; k++) {
            prompts[i][k] = (int32_t)(k < 130 ? k % 9 : (k + i) % 9);
        }
        requests[i] = rig_exactly(prompts[i], 150, 150);
        requests[i].sampling.seed = i;
        requests[i].sampling.temperature = i % 2 ? 1 : 0;
        requests[i].sampling.repetition_penalty = i == 1 ? 1.05f : 1;
        requests[i].stop = stops;
        requests[i].n_stop = i == 2 ? 2 : 0;
        requests[i].logit_bias = &bias;
        requests[i].n_logit_bias = i == 3;
        requests[i].top_logprobs = i == 4 ? 3 : 0;
        requests[i].forced = prompts[i];
        requests[i].n_forced = i == 2 ? 12 : 0;
    }
    sluice_engine *solo = rig_open_solo(0, 384);
    for (uint32_t i = 0; i < N_REQUESTS; i++) {
        right[i] = rig_ask(solo, &requests[i]);
        assert_int_equal(right[i]->last.kind, SLUICE_EVENT_DONE);
    }
    sluice_engine_free(solo);
}

struct outcome {
    uint32_t refused, ended, preempted; /* calls that failed, requests that ended with an error */
    uint64_t accepted;
};

static bool refused(struct outcome *out, sluice_status status, const sluice_error *err) {
    if (status == SLUICE_OK) {
        return false;
    }
    assert_int_equal(status, SLUICE_E_NOMEM);
    assert_int_equal(err->status, SLUICE_E_NOMEM);
    assert_true(strlen(err->text) > 10);
    out->refused++;
    return true;
}

static sluice_engine *open_engine(struct outcome *out) {
    sluice_engine_options o = rig_options(3, 0, 384);
    o.kv_bytes_max = 9 * model_page_bytes(&rig_weights);
    o.trace_path = trace_path;
    sluice_engine *e = NULL;
    sluice_error err = {0};
    sluice_status status = engine_create_on(&rig_model, &rig_fake_ops, &o, &e, &err);
    if (refused(out, status, &err)) {
        mem_fail_nth(0);
        assert_null(e);
        assert_int_equal(engine_create_on(&rig_model, &rig_fake_ops, &o, &e, &err), SLUICE_OK);
    }
    return e;
}

/* All requests together; what ends is right, or was ended for want of memory after right tokens. */
static void ask_all(sluice_engine *e, struct outcome *out) {
    sluice_request *r[N_REQUESTS] = {NULL};
    for (uint32_t i = 0; i < N_REQUESTS; i++) {
        sluice_error err = {0};
        refused(out, sluice_request_submit(e, &requests[i], &r[i], &err), &err);
    }
    for (uint32_t i = 0; i < N_REQUESTS; i++) {
        if (!r[i]) {
            continue;
        }
        struct answer *a = answer_new();
        answer_read(a, r[i]);
        const char *difference = NULL;
        if (a->last.kind == SLUICE_EVENT_ERROR) {
            assert_int_equal(a->last.error.status, SLUICE_E_NOMEM);
            assert_true(strlen(a->last.error.text) > 10);
            difference = answer_prefix_difference(a, right[i]);
            out->ended++;
        } else {
            difference = answer_difference(a, right[i]);
        }
        if (difference) {
            fail_msg("request %u: %s", i, difference);
        }
        answer_free(a);
        sluice_request_free(r[i]);
    }
    sluice_engine_metrics m;
    sluice_engine_get_metrics(e, &m);
    out->preempted += (uint32_t)m.requests_preempted;
    out->accepted += m.draft_tokens_accepted;
}

/* No allocation fails now: everything must be right, and all memory back. */
static void check_whole(sluice_engine *e) {
    for (uint32_t i = 0; i < N_REQUESTS; i++) {
        struct answer *a = rig_ask(e, &requests[i]);
        answer_assert_equal(a, right[i]);
        answer_free(a);
    }
    sluice_engine_metrics m;
    do {
        sluice_engine_get_metrics(e, &m);
    } while (m.requests_running + m.requests_waiting > 0);
    assert_int_equal(m.pages_free + m.pages_cached, m.pages_total);
}

/* One pass; false once the n-th allocation does not come any more. */
static bool run_with_failure(long nth, struct outcome *out) {
    struct outcome now = {0};
    sluice_error err = {0};
    uint64_t before = mem_count();
    mem_fail_nth(nth);
    sluice_engine *e = open_engine(&now), *other = NULL;
    ask_all(e, &now);
    refused(&now, sluice_engine_save(e, state_path, NULL, &err), &err);
    if (access(state_path, R_OK) == 0) {
        other = open_engine(&now);
        refused(&now, sluice_engine_restore(other, state_path, NULL, &err), &err);
        ask_all(other, &now);
    }
    bool reached = mem_count() - before >= (uint64_t)nth;
    mem_fail_nth(0);
    assert_true(now.refused + now.ended <= 1); /* one failure, one victim at most */
    check_whole(e);
    if (other) {
        check_whole(other);
    }
    sluice_engine_free(other);
    sluice_engine_free(e);
    unlink(state_path);
    out->refused += now.refused;
    out->ended += now.ended;
    out->preempted += now.preempted;
    out->accepted += now.accepted;
    return reached;
}

static void test_every_allocation(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        rig_fake.mode = (struct rig_mode){.periodic = kinds[k].periodic};
        make_requests();
        rig_fake.mode = kinds[k];
        atomic_store(&rig_fake.pad_us, 20); /* drafts pay */
        struct outcome all = {0};
        long nth = 1;
        while (run_with_failure(nth, &all)) {
            nth++;
            assert_true(nth < 5000);
        }
        printf("%ld allocations: %u calls refused, %u requests ended, the others went unnoticed; %u preemptions, %llu "
               "drafts held\n",
               nth - 1, all.refused, all.ended, all.preempted, (unsigned long long)all.accepted);
        assert_true(all.refused > 40 && all.ended > 3 && all.preempted > 20 && all.accepted > 1000);
        for (uint32_t i = 0; i < N_REQUESTS; i++) {
            answer_free(right[i]);
        }
    }
}

/* Devices fail, too: any of their calls, at any time. One step's requests end with it, never the engine. */
static void test_every_device_call(void **state) {
    (void)state;
    atomic_int *const calls[] = {&rig_fake.fail_submit, &rig_fake.fail_wait, &rig_fake.fail_rewind, &rig_fake.nan_row};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        rig_fake.mode = (struct rig_mode){.periodic = kinds[k].periodic};
        make_requests();
        rig_fake.mode = kinds[k];
        atomic_store(&rig_fake.pad_us, 20);
        struct outcome ignored = {0};
        sluice_engine *e = open_engine(&ignored);
        uint32_t ended = 0;
        for (uint32_t round = 0; round < 60; round++) {
            atomic_store(calls[round % 4], 1 + (int)(rig_mix(round) % 120));
            sluice_request *r[N_REQUESTS];
            for (uint32_t i = 0; i < N_REQUESTS; i++) {
                r[i] = rig_submit(e, &requests[i]);
            }
            for (uint32_t i = 0; i < N_REQUESTS; i++) {
                struct answer *a = answer_new();
                answer_read(a, r[i]);
                bool error = a->last.kind == SLUICE_EVENT_ERROR;
                assert_true(!error || a->last.error.status == SLUICE_E_BACKEND);
                assert_null(error ? answer_prefix_difference(a, right[i]) : answer_difference(a, right[i]));
                ended += error;
                answer_free(a);
                sluice_request_free(r[i]);
            }
            atomic_store(calls[round % 4], 0);
            if (round % 10 == 9) {
                check_whole(e);
            }
        }
        assert_in_range(ended, 30, 60 * 3);
        check_whole(e);
        sluice_engine_free(e);
        for (uint32_t i = 0; i < N_REQUESTS; i++) {
            answer_free(right[i]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_every_allocation, clean),
                                       cmocka_unit_test_teardown(test_every_device_call, clean)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
