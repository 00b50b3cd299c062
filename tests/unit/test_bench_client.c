/* The client and whole suites against a loopback server that is well-behaved, slow or wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bench/bench.h"
#include "bench/client.h"
#include "unit/bench_fake_server.h"

#include <json-c/json.h>

static char base_url[64];

static int setup(void **state) {
    (void)state;
    sluice_error err;
    int port = fake_start();
    snprintf(base_url, sizeof base_url, "http://127.0.0.1:%d", port);
    return port > 0 && client_global_init(&err) == SLUICE_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    client_global_free();
    fake_stop();
    return 0;
}

static struct client *open_client(const char *url, uint32_t silence_s, const atomic_bool *stop) {
    struct client_options o = {
        .url = url, .api_key = "k-123", .silence_s = silence_s, .stop = stop, .zero_ns = clock_ns()};
    struct client *c = NULL;
    sluice_error err;
    assert_int_equal(client_open(&o, &c, &err), SLUICE_OK);
    return c;
}

static const char body[] = "{\"model\":\"m\",\"messages\":[],\"stream\":true}";

static struct sample ask(enum fake mode) {
    struct sample s;
    atomic_store(&fake_mode, mode);
    struct client *c = open_client(base_url, 1, NULL);
    client_chat(c, body, strlen(body), &s);
    client_close(c);
    return s;
}

static void check_good(const struct sample *s) {
    assert_true(s->ok);
    assert_int_equal(s->prompt_tokens, 40);
    assert_int_equal(s->output_tokens, 5);
    assert_int_equal(s->cached_tokens, 0);
    assert_int_equal(s->chunks, 4);
    assert_string_equal(s->finish, "stop");
    /* the order that times must have, and the wait before the first token; a busy machine may hand over the rest at once */
    assert_true(s->send_ms >= 0 && s->first_byte_ms > 0);
    assert_true(s->first_byte_ms <= s->first_token_ms && s->first_token_ms >= 9);
    assert_true(s->last_token_ms >= s->first_token_ms && s->end_ms >= s->last_token_ms);
    assert_true(sample_tpot_ms(s) * (s->output_tokens - 1) <= s->end_ms - s->first_token_ms + 1e-6);
}

static void test_good(void **state) {
    (void)state;
    struct sample s = ask(FAKE_GOOD);
    check_good(&s);
    assert_non_null(strstr(fake_last_body, "Authorization: Bearer k-123\r\n"));
    assert_non_null(strstr(fake_last_body, "POST /v1/chat/completions HTTP/1.1\r\n"));
    s = ask(FAKE_BYTE_BY_BYTE);
    check_good(&s);
}

/* Twenty requests over one client use one connection. */
static void test_keep_alive(void **state) {
    (void)state;
    atomic_store(&fake_mode, FAKE_GOOD);
    while (atomic_load(&fake_connections) > 0) {
        fake_sleep(1);
    }
    struct client *c = open_client(base_url, 5, NULL);
    for (int i = 0; i < 20; i++) {
        struct sample s;
        client_chat(c, body, strlen(body), &s);
        check_good(&s);
        assert_int_equal(atomic_load(&fake_connections), 1);
    }
    client_close(c);
}

static void test_bad_servers(void **state) {
    (void)state;
    static const struct {
        enum fake mode;
        bool refused;
        const char *words;
    } cases[] = {
        {FAKE_NO_STREAM, false, "without streaming"},
        {FAKE_TOO_MUCH, true, "HTTP 400: context exceeded"},
        {FAKE_TRUNCATED, false, "broke off"},
        {FAKE_CLOSED, false, "broke off"},
        {FAKE_NOT_FOUND, false, "HTTP 404: no such endpoint or model: no model x"},
        {FAKE_BROKEN, false, "HTTP 500: <h1>broken</h1>"},
        {FAKE_KEY, false, "--api-key"},
        {FAKE_SILENT, false, "sent nothing for 1 s"},
        {FAKE_ERROR, false, "the device is gone"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sample s = ask(cases[i].mode);
        assert_false(s.ok);
        assert_int_equal(s.refused, cases[i].refused);
        if (!strstr(s.error, cases[i].words)) {
            fail_msg("case %zu: \"%s\" lacks \"%s\"", i, s.error, cases[i].words);
        }
    }
    struct sample s;
    struct client *c = open_client("http://127.0.0.1:1", 1, NULL);
    client_chat(c, body, strlen(body), &s);
    client_close(c);
    assert_false(s.ok);
    assert_non_null(strstr(s.error, "nothing answers at http://127.0.0.1:1"));
}

static void test_stop(void **state) {
    (void)state;
    atomic_bool stop = true;
    struct sample s;
    atomic_store(&fake_mode, FAKE_SILENT);
    struct client *c = open_client(base_url, 60, &stop);
    uint64_t start = clock_ns();
    client_chat(c, body, strlen(body), &s);
    client_close(c);
    assert_false(s.ok);
    assert_string_equal(s.error, "interrupted");
    assert_true(clock_ms_since(start) < 3000);
}

static void test_base_url(void **state) {
    (void)state;
    static const struct {
        const char *url, *base; /* NULL: refused */
    } cases[] = {
        {"http://127.0.0.1:8080", "http://127.0.0.1:8080"},
        {"http://127.0.0.1:8080/", "http://127.0.0.1:8080"},
        {"http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"},
        {"https://user:secret@host/openai/v1/", "https://host/openai"},
        {"http://[::1]:80/a/b", "http://[::1]:80/a/b"},
        {"127.0.0.1:8080", NULL},
        {"http://", NULL},
        {"http:///v1", NULL},
        {"ftp://host", NULL},
        {"http://host/?a=b", NULL},
        {"http://ho st", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[64];
        sluice_error err;
        sluice_status status = client_base_url(cases[i].url, out, sizeof out, &err);
        assert_int_equal(status, cases[i].base ? SLUICE_OK : SLUICE_E_ARG);
        if (cases[i].base) {
            assert_string_equal(out, cases[i].base);
        }
    }
    assert_true(client_is_loopback("http://127.0.0.1:80") && client_is_loopback("http://[::1]") &&
                client_is_loopback("https://localhost:8080"));
    assert_false(client_is_loopback("http://192.168.1.1") || client_is_loopback("http://example.org/127."));
    char tight[12];
    assert_int_equal(client_base_url("http://127.0.0.1:8080", tight, sizeof tight, NULL), SLUICE_E_ARG);
}

/* ---- Suites */

static struct bench_record *run_suite(enum fake mode, const char *suite, const char *model, sluice_status expected,
                                      sluice_error *err) {
    struct bench_record *r = calloc(1, sizeof *r);
    struct bench_options o = {.url = base_url, .suite = suite, .model = model, .silence_s = 5, .nonce = 7};
    atomic_store(&fake_mode, mode);
    assert_non_null(r);
    assert_int_equal(bench_run(&o, r, err), expected);
    return r;
}

static void drop(struct bench_record *r) {
    bench_record_free(r);
    free(r);
}

static void test_page_suite(void **state) {
    (void)state;
    sluice_error err;
    struct bench_record *r = run_suite(FAKE_GOOD, "page", NULL, SLUICE_OK, &err);
    static const char *const names[] = {"chat", "codegen", "rag", "agent", "agent"};
    assert_int_equal(r->n_rows, 5);
    assert_string_equal(r->model, "fake-1");
    assert_string_equal(r->engine, "nobody");
    assert_int_equal(r->context, 2048);
    assert_int_equal(bench_record_failed(r), 0);
    for (uint32_t i = 0; i < 5; i++) {
        const struct row *row = &r->rows[i];
        assert_string_equal(row->name, names[i]);
        assert_int_equal(row->warmups, 2);
        assert_int_equal(row->runs, 5);
        assert_int_equal(row->n_samples, i == 4 ? 20 : 5);
        assert_true(row->metric[METRIC_DECODE].has_ci);
        assert_true(row->metric[METRIC_DECODE].median > 20 && row->metric[METRIC_DECODE].median < 290);
    }
    /* four streams side by side: the round's rate is well above one stream's */
    const struct stats_summary *m = r->rows[4].metric;
    assert_int_equal(m[METRIC_AGGREGATE].n, 5);
    assert_true(m[METRIC_STREAMS].median > 2);
    assert_true(m[METRIC_AGGREGATE].median > 1.5 * m[METRIC_CLIENT].median);
    drop(r);
}

/* A server that takes turns is seen as one. */
static void test_in_turn(void **state) {
    (void)state;
    sluice_error err;
    struct bench_record *r = run_suite(FAKE_IN_TURN, "load", "fake-2", SLUICE_OK, &err);
    struct buf b = {0};
    assert_string_equal(r->model, "fake-2");
    assert_int_equal(r->n_rows, 4);
    assert_true(r->rows[3].metric[METRIC_STREAMS].median < 1.2);
    bench_table_foot(&b, r);
    assert_non_null(strstr(b.data, "agent at 8: the server decodes one request after the other"));
    buf_free(&b);
    drop(r);
}

static void test_depth_suite(void **state) {
    (void)state;
    sluice_error err;
    struct bench_record *r = run_suite(FAKE_GOOD, "depth", NULL, SLUICE_OK, &err);
    assert_int_equal(r->n_rows, 3); /* 256, 512, 1024: 2048 does not leave room in a context of 2048 */
    assert_string_equal(r->rows[2].name, "depth 1024");
    drop(r);
    r = run_suite(FAKE_TOO_LONG, "depth", NULL, SLUICE_OK, &err); /* the context is smaller than it says */
    assert_true(r->n_rows >= 1 && r->n_rows < 3);
    assert_int_equal(bench_record_failed(r), 0);
    drop(r);
}

static void test_failing_suites(void **state) {
    (void)state;
    static const struct {
        enum fake mode;
        const char *words;
    } fatal[] = {{FAKE_NO_STREAM, "without streaming"}, {FAKE_BROKEN, "HTTP 500"},   {FAKE_KEY, "--api-key"},
                 {FAKE_NOT_FOUND, "HTTP 404"},          {FAKE_NO_MODELS, "--model"}, {FAKE_CLOSED, "broke off"}};
    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++) {
        sluice_error err = {0};
        struct bench_record *r = run_suite(fatal[i].mode, "page", NULL, SLUICE_E_IO, &err);
        assert_non_null(strstr(err.text, fatal[i].words));
        drop(r);
    }
    sluice_error err;
    struct bench_record *r = run_suite(FAKE_TOO_LONG, "page", NULL, SLUICE_OK, &err);
    assert_int_equal(r->rows[0].n_failed, 0);
    assert_true(r->rows[2].n_failed > 0 && r->rows[2].refused); /* rag does not fit: that row fails, the others stand */
    assert_non_null(strstr(r->rows[2].error, "context exceeded"));
    struct buf b = {0};
    bench_table_row(&b, &r->rows[2]);
    assert_non_null(strstr(b.data, "requests failed"));
    buf_free(&b);
    drop(r);
    r = run_suite(FAKE_NO_USAGE, "quick", NULL, SLUICE_OK, &err);
    assert_int_equal(r->rows[0].metric[METRIC_DECODE].n, 0);
    assert_true(r->rows[0].metric[METRIC_TTFT].n > 0);
    bench_table_foot(&b, r);
    assert_non_null(strstr(b.data, "reported no usage"));
    buf_free(&b);
    drop(r);
    r = calloc(1, sizeof *r);
    struct bench_options o = {.url = "http://127.0.0.1:1", .suite = "quick", .silence_s = 5};
    assert_int_equal(bench_run(&o, r, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "nothing answers"));
    drop(r);
}

/* Prompts differ from request to request at their very beginning. */
static void test_nonce(void **state) {
    (void)state;
    char first[32];
    sluice_error err;
    struct bench_record *r = run_suite(FAKE_GOOD, "quick", NULL, SLUICE_OK, &err);
    memcpy(first, strstr(fake_last_body, "Request "), 19);
    drop(r);
    r = run_suite(FAKE_GOOD, "depth", NULL, SLUICE_OK, &err);
    assert_memory_not_equal(first, strstr(fake_last_body, "Request "), 19);
    drop(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),    cmocka_unit_test(test_keep_alive),  cmocka_unit_test(test_bad_servers),
        cmocka_unit_test(test_stop),    cmocka_unit_test(test_base_url),    cmocka_unit_test(test_page_suite),
        cmocka_unit_test(test_in_turn), cmocka_unit_test(test_depth_suite), cmocka_unit_test(test_failing_suites),
        cmocka_unit_test(test_nonce),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
