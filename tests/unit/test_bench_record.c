/* Rows and records: every figure can be computed again from the samples that stand beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "bench/bench.h"

#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

static double uniform(uint64_t *s, double low, double high) {
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * (double)(*s >> 11) / 9007199254740992.0;
}

/* Times rounded to the microsecond, as the record keeps them. */
static double ms(double v) {
    return round(v * 1000) / 1000;
}

static struct sample make_sample(uint64_t *seed, double send) {
    struct sample s;
    sample_reset(&s);
    s.ok = true;
    s.send_ms = ms(send);
    s.first_byte_ms = ms(uniform(seed, 1, 5));
    s.first_token_ms = s.first_content_ms = ms(uniform(seed, 20, 90));
    s.last_token_ms = ms(s.first_token_ms + uniform(seed, 300, 900));
    s.end_ms = ms(s.last_token_ms + uniform(seed, 0.1, 2));
    s.prompt_tokens = 600 + (int64_t)uniform(seed, 0, 5);
    s.output_tokens = 90 + (int64_t)uniform(seed, 0, 20);
    s.cached_tokens = (int64_t)uniform(seed, 0, 64);
    s.chunks = 80;
    snprintf(s.finish, sizeof s.finish, "stop");
    return s;
}

static struct bench_record *make_record(void) {
    struct bench_record *r = calloc(1, sizeof *r);
    uint64_t seed = 3;
    assert_non_null(r);
    env_read(&r->env);
    snprintf(r->model, sizeof r->model, "m \"quoted\" \xE2\x82\xAC");
    snprintf(r->suite, sizeof r->suite, "page");
    r->read_gb_s = 20;
    r->file =
        (struct bench_model_file){.name = "f.gguf", .n_params = 8, .decode_bytes = 1000000, .kv_bytes_per_token = 1000};
    for (uint32_t c = 1; c <= 4; c *= 4) {
        struct row *row = &r->rows[r->n_rows++];
        *row = (struct row){.name = "agent", .cell = {&workload_agent, 0, c, 2, 5, 500, 0}, .warmups = 2, .runs = 5};
        row->samples = mem_calloc(5 * c, sizeof *row->samples);
        for (uint32_t i = 0; i < 5 * c; i++) {
            row->samples[row->n_samples++] = make_sample(&seed, 1000.0 * (i / c) + i % c);
        }
        assert_true(bench_row_summarise(row));
        bench_row_roof(row, &r->file, r->read_gb_s);
    }
    return r;
}

static void drop(struct bench_record *r) {
    bench_record_free(r);
    free(r);
}

static struct json_object *get(struct json_object *o, const char *key) {
    struct json_object *v = NULL;
    if (!json_object_object_get_ex(o, key, &v)) {
        fail_msg("no member %s", key);
    }
    return v;
}

static double num(struct json_object *o, const char *key) {
    return json_object_get_double(get(o, key));
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, size_t n) {
    qsort(x, n, sizeof *x, compare);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

static void check_median(struct json_object *row, const char *name, double *values, size_t n) {
    double shown = num(get(row, name), "median");
    double own = median(values, n);
    if (fabs(shown - own) > 1e-4 + 1e-6 * fabs(own)) {
        fail_msg("%s: the record says %f, its samples say %f", name, shown, own);
    }
}

/* From the JSON alone, with the formulas of the help text. */
static void recompute_row(struct json_object *row) {
    struct json_object *samples = get(row, "samples");
    size_t n = json_object_array_length(samples);
    size_t c = (size_t)num(row, "concurrency");
    double decode[20], client[20], prefill[20], ttft[20], tpot[20], total[20], aggregate[20];
    assert_int_equal(n, 5 * c);
    for (size_t i = 0; i < n; i++) {
        struct json_object *s = json_object_array_get_idx(samples, i);
        double out = num(s, "output_tokens");
        ttft[i] = num(s, "first_token_ms");
        tpot[i] = (num(s, "last_token_ms") - ttft[i]) / (out - 1);
        total[i] = num(s, "end_ms");
        decode[i] = 1000 / tpot[i];
        client[i] = 1000 * out / total[i];
        prefill[i] = 1000 * (num(s, "prompt_tokens") - num(s, "cached_tokens")) / ttft[i];
    }
    for (size_t r = 0; r < 5; r++) {
        double first = 1e18, last = 0, tokens = 0;
        for (size_t i = r * c; i < (r + 1) * c; i++) {
            struct json_object *s = json_object_array_get_idx(samples, i);
            double send = num(s, "send_ms");
            first = fmin(first, send);
            last = fmax(last, send + num(s, "end_ms"));
            tokens += num(s, "output_tokens");
        }
        aggregate[r] = 1000 * tokens / (last - first);
    }
    check_median(row, "decode_tok_s", decode, n);
    check_median(row, "client_tok_s", client, n);
    check_median(row, "prefill_tok_s", prefill, n);
    check_median(row, "ttft_ms", ttft, n);
    check_median(row, "tpot_ms", tpot, n);
    check_median(row, "total_ms", total, n);
    check_median(row, "aggregate_tok_s", aggregate, 5);
}

static void test_recompute(void **state) {
    (void)state;
    struct bench_record *r = make_record();
    struct buf b = {0};
    bench_record_json(&b, r);
    assert_false(b.failed);
    assert_null(memchr(b.data, '\n', b.len)); /* one line */
    struct json_object *o = json_tokener_parse(b.data);
    assert_non_null(o);
    assert_string_equal(json_object_get_string(get(o, "schema")), "sluice-bench");
    assert_int_equal((int)num(o, "version"), 1);
    assert_string_equal(json_object_get_string(get(get(o, "target"), "model")), "m \"quoted\" \xE2\x82\xAC");
    struct json_object *rows = get(o, "rows");
    assert_int_equal(json_object_array_length(rows), 2);
    recompute_row(json_object_array_get_idx(rows, 0));
    recompute_row(json_object_array_get_idx(rows, 1));
    /* one stream: share of the limit; four: not known from outside */
    struct json_object *row = json_object_array_get_idx(rows, 0);
    double positions = num(get(row, "prompt_tokens"), "median") + num(get(row, "output_tokens"), "median") / 2;
    double share = (1e6 + 1e3 * positions) * num(get(row, "decode_tok_s"), "median") * 1e-9 / 20;
    assert_true(fabs(num(row, "roof_share") - share) < 1e-4);
    assert_null(get(json_object_array_get_idx(rows, 1), "roof_share"));
    json_object_put(o);
    buf_free(&b);
    drop(r);
}

/* What is not known is null in the record and a dash in the table, never zero. */
static void test_unknown(void **state) {
    (void)state;
    struct bench_record *r = make_record();
    struct row *row = &r->rows[1];
    struct buf b = {0};
    for (uint32_t i = 0; i < row->n_samples; i++) {
        row->samples[i].output_tokens = row->samples[i].cached_tokens = -1;
    }
    row->samples[3].ok = false;
    snprintf(row->samples[3].error, sizeof row->samples[3].error, "it broke");
    assert_true(bench_row_summarise(row));
    assert_int_equal(row->n_failed, 1);
    assert_int_equal(row->metric[METRIC_AGGREGATE].n, 0);
    assert_int_equal(row->metric[METRIC_TTFT].n, 19);
    bench_record_json(&b, r);
    struct json_object *o = json_tokener_parse(b.data);
    assert_non_null(o);
    struct json_object *shown = json_object_array_get_idx(get(o, "rows"), 1);
    assert_null(get(shown, "decode_tok_s"));
    assert_null(get(shown, "aggregate_tok_s"));
    assert_null(get(shown, "cached_tokens"));
    assert_string_equal(json_object_get_string(get(shown, "error")), "it broke");
    assert_null(get(json_object_array_get_idx(get(shown, "samples"), 0), "output_tokens"));
    json_object_put(o);
    buf_free(&b);
    drop(r);
}

/* One failed request takes its whole round out of the aggregate, and no other. */
static void test_failed_round(void **state) {
    (void)state;
    struct bench_record *r = make_record();
    struct row *row = &r->rows[1];
    row->samples[6].ok = false;
    assert_true(bench_row_summarise(row));
    assert_int_equal(row->metric[METRIC_AGGREGATE].n, 4);
    assert_int_equal(row->metric[METRIC_DECODE].n, 19);
    assert_int_equal(bench_record_failed(r), 1);
    drop(r);
}

/* Streams decoding side by side, measured from the samples' own times. */
static void test_streams(void **state) {
    (void)state;
    struct row row = {.cell = {.concurrency = 2}};
    struct sample s[2];
    row.samples = s;
    row.n_samples = 2;
    for (int i = 0; i < 2; i++) {
        sample_reset(&s[i]);
        s[i].ok = true;
        s[i].send_ms = 0;
        s[i].output_tokens = 11;
        s[i].chunks = 11;
        s[i].first_token_ms = 10;
        s[i].last_token_ms = s[i].end_ms = 110;
    }
    assert_true(bench_row_summarise(&row));
    assert_true(fabs(row.metric[METRIC_STREAMS].median - 2) < 1e-9);
    assert_true(fabs(row.metric[METRIC_AGGREGATE].median - 200) < 1e-9);
    s[1].first_token_ms = 120; /* one after the other */
    s[1].last_token_ms = s[1].end_ms = 220;
    assert_true(bench_row_summarise(&row));
    assert_true(row.metric[METRIC_STREAMS].median < 1);
    assert_true(fabs(row.metric[METRIC_AGGREGATE].median - 100) < 1e-9);
}

static size_t columns(const char *line, size_t n) {
    size_t c = 0;
    for (size_t i = 0; i < n; i++) {
        c += ((unsigned char)line[i] & 0xC0) != 0x80;
    }
    return c;
}

static void test_table_width(void **state) {
    (void)state;
    struct bench_record *r = make_record();
    struct buf b = {0};
    snprintf(r->suite_about, sizeof r->suite_about, "s");
    r->rows[0].metric[METRIC_DECODE] = (struct stats_summary){.n = 5, .median = 99999, .min = 98765, .max = 99999};
    r->rows[0].metric[METRIC_TOTAL] = (struct stats_summary){.n = 5, .median = 999999};
    r->rows[0].cut = true;
    bench_table_head(&b, r);
    bench_table_row(&b, &r->rows[0]);
    bench_table_row(&b, &r->rows[1]);
    bench_table_foot(&b, r);
    assert_false(b.failed);
    for (const char *p = b.data; *p;) {
        size_t n = strcspn(p, "\n");
        if (columns(p, n) > 120) {
            fail_msg("%zu columns: %.*s", columns(p, n), (int)n, p);
        }
        p += n + (p[n] == '\n');
    }
    buf_free(&b);
    drop(r);
}

/* Every body is JSON with the members a server needs, and opens its first message with the nonce. */
static void test_bodies(void **state) {
    (void)state;
    static const char *const names[] = {"quick", "page", "depth", "load"};
    for (size_t n = 0; n < 4; n++) {
        struct suite suite;
        assert_true(suite_get(names[n], 8192, &suite));
        assert_string_equal(suite.name, names[n]);
        assert_true(suite.n_cells > 0 && suite.n_cells <= SUITE_CELLS_MAX);
        for (uint32_t i = 0; i < suite.n_cells; i++) {
            struct buf b = {0};
            workload_body(&b, &suite.cells[i], "a\"b", 123456789, WORKLOAD_TOKENS_PER_WORD, n == 0);
            assert_false(b.failed);
            struct json_object *o = json_tokener_parse(b.data);
            assert_non_null(o);
            assert_string_equal(json_object_get_string(get(o, "model")), "a\"b");
            assert_true(json_object_get_boolean(get(o, "stream")));
            assert_true(json_object_get_boolean(get(get(o, "stream_options"), "include_usage")));
            assert_int_equal((int)num(o, "temperature"), 0);
            assert_int_equal((uint32_t)num(o, "max_tokens"), suite.cells[i].max_tokens);
            assert_int_equal(json_object_object_get_ex(o, "ignore_eos", NULL), n == 0);
            struct json_object *messages = get(o, "messages");
            size_t last = json_object_array_length(messages) - 1;
            const char *text = json_object_get_string(get(json_object_array_get_idx(messages, 0), "content"));
            assert_memory_equal(text, "Request 123-456-789. ", 21);
            assert_string_equal(json_object_get_string(get(json_object_array_get_idx(messages, last), "role")), "user");
            json_object_put(o);
            buf_free(&b);
        }
    }
    struct suite s;
    assert_false(suite_get("nothing", 0, &s));
    assert_true(suite_get("depth", 0, &s)); /* unknown context: up to 4096 */
    assert_int_equal(s.cells[s.n_cells - 1].prompt_tokens, 2048);
    assert_true(suite_get("depth", 200, &s));
    assert_int_equal(s.n_cells, 1); /* at least one row, whatever the context */
}

static void test_no_memory(void **state) {
    (void)state;
    struct bench_record *r = make_record();
    bool ok = false;
    for (long n = 1; !ok; n++) {
        struct buf b = {0};
        mem_fail_nth(n);
        ok = bench_row_summarise(&r->rows[1]);
        bench_record_json(&b, r);
        bench_table_head(&b, r);
        bench_table_row(&b, &r->rows[1]);
        bench_table_foot(&b, r);
        workload_body(&b, &r->rows[0].cell, "m", 1, 1.3, false);
        mem_fail_nth(0);
        ok = ok && !b.failed;
        buf_free(&b);
        assert_true(n < 1000);
    }
    drop(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recompute), cmocka_unit_test(test_unknown),     cmocka_unit_test(test_failed_round),
        cmocka_unit_test(test_streams),   cmocka_unit_test(test_table_width), cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
