/* Rows from samples with known times: figures, the cache's state, batching, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "bench/bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NEAR(a, b) assert_true(fabs((double)(a) - (double)(b)) < 1e-6 * (1 + fabs((double)(b))))

static struct cell make_cell(uint32_t concurrency, enum cache_mode cache) {
    return (struct cell){.workload = &workload_agent,
                         .prompt_tokens = 602,
                         .max_tokens = 11,
                         .concurrency = concurrency,
                         .runs = 5,
                         .cache = cache,
                         .arrival = ARRIVAL_CLOSED};
}

/* 11 tokens, the first after `first`, one every 10 ms. */
static void fill(struct sample *s, uint32_t run, uint32_t stream, double send, double first) {
    s->run = run;
    s->stream = stream;
    s->ok = true;
    s->send_ms = send;
    s->first_byte_ms = first / 2;
    s->first_token_ms = s->first_content_ms = first;
    s->last_token_ms = first + 100;
    s->end_ms = first + 101;
    s->prompt_tokens = 602;
    s->cached_tokens = 0;
    s->output_tokens = 11;
    s->chunks = 11;
    s->token_ms = mem_alloc(11 * sizeof(double));
    for (int i = 0; i < 11; i++) {
        s->token_ms[i] = first + 10 * i;
    }
}

/* Stream k of a round has its first token after first + k * spacing. */
static struct row make_row(uint32_t concurrency, enum cache_mode cache, double first, double spacing) {
    struct row row;
    struct cell cell = make_cell(concurrency, cache);
    row_init(&row, &cell, false);
    for (uint32_t r = 0; r < 5; r++) {
        struct sample *s = row_add_samples(&row, concurrency);
        for (uint32_t k = 0; k < concurrency; k++) {
            fill(&s[k], r, k, 1000.0 * r, first + r + k * spacing);
        }
    }
    row.runs = 5;
    return row;
}

static void test_figures(void **state) {
    (void)state;
    struct row row = make_row(1, CACHE_COLD, 40, 0);
    struct sample *w = row_add_samples(&row, 1); /* a warm-up counts nowhere */
    fill(w, 0, 0, 0, 900);
    w->warmup = true;
    assert_true(row_summarise(&row));
    const struct stats_summary *m = row.metric;
    assert_string_equal(row.key, "agent/c1/cold");
    NEAR(m[METRIC_TTFT].median, 42);
    NEAR(m[METRIC_TTFT].min, 40);
    NEAR(m[METRIC_TTFT].max, 44);
    assert_true(m[METRIC_TTFT].has_interval);
    NEAR(m[METRIC_TTFT].interval[0], 40);
    NEAR(m[METRIC_TTFT].interval[1], 44);
    NEAR(m[METRIC_TTFT].level, 0.9375);
    NEAR(m[METRIC_TPOT].median, 10);
    NEAR(m[METRIC_DECODE].median, 100);
    NEAR(m[METRIC_CLIENT].median, 1000 * 11 / 143.0);
    NEAR(m[METRIC_LATENCY].median, 143);
    NEAR(m[METRIC_PREFILL].median, 1000 * 602 / 42.0);
    NEAR(m[METRIC_AGGREGATE].median, 1000 * 11 / 143.0);
    NEAR(m[METRIC_STREAMS].median, 1);
    assert_int_equal(m[METRIC_ITL].n, 50);
    NEAR(m[METRIC_ITL].median, 10);
    NEAR(row.percentile[METRIC_ITL][1], 10);           /* p90: n (1 - p) = 5 */
    assert_true(isnan(row.percentile[METRIC_ITL][2])); /* p95: 2.5 */
    assert_int_equal(m[METRIC_QUEUE].n, 0);
    row_free(&row);
}

/* An unknown cached count is taken at zero; one that is known is no work. */
static void test_prefill(void **state) {
    (void)state;
    struct row row = make_row(1, CACHE_WARM, 40, 0);
    for (uint32_t i = 0; i < 5; i++) {
        row.samples[i].cached_tokens = i ? 600 : -1;
    }
    assert_true(row_summarise(&row));
    NEAR(row.metric[METRIC_PREFILL].max, 1000 * 602 / 40.0);
    NEAR(row.metric[METRIC_PREFILL].min, 1000 * 2 / 44.0);
    assert_int_equal(row.metric[METRIC_CACHED].n, 4);
    row_free(&row);
}

static void test_failed_round(void **state) {
    (void)state;
    struct row row = make_row(4, CACHE_COLD, 40, 0);
    row.samples[6].ok = false;
    snprintf(row.samples[6].error, sizeof row.samples[6].error, "it broke");
    assert_true(row_summarise(&row));
    assert_int_equal(row.n_failed, 1);
    assert_int_equal(row.n_ok, 19);
    assert_string_equal(row.error, "it broke");
    assert_int_equal(row.metric[METRIC_AGGREGATE].n, 4); /* its round is out, and no other */
    assert_int_equal(row.metric[METRIC_DECODE].n, 19);
    row_judge(&row, true);
    assert_int_equal(row.state, ROW_INVALID);
    assert_string_equal(row.reasons[0], "1 of 20 requests failed");
    row_free(&row);
}

static void test_cache(void **state) {
    (void)state;
    static const struct {
        enum cache_mode cache;
        int64_t cached, template;
        enum cache_state expected;
        const char *words;
    } cases[] = {
        {CACHE_COLD, 0, 5, CACHE_VERIFIED, "0 to 0 cached tokens reported, allowed are 5"},
        {CACHE_COLD, 5, 5, CACHE_VERIFIED, "allowed are 5"},
        {CACHE_COLD, 6, 5, CACHE_INVALID,
         "took 6 of 602 prompt tokens from a cache; the template before the nonce has 5"},
        {CACHE_COLD, 16, -1, CACHE_VERIFIED, "allowed are 16"},
        {CACHE_COLD, 17, -1, CACHE_INVALID, "has at most 16"},
        {CACHE_COLD, -1, 5, CACHE_UNVERIFIED, "the server reports no count of cached tokens"},
        {CACHE_WARM, 576, 5, CACHE_VERIFIED, "576 to 576 cached tokens reported, of a prompt of 602"},
        {CACHE_WARM, 301, 5, CACHE_VERIFIED, "301 to"},
        {CACHE_WARM, 300, 5, CACHE_INVALID, "took only 300 of 602 prompt tokens from the cache"},
        {CACHE_WARM, -1, 5, CACHE_UNVERIFIED, "no count"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct row row = make_row(1, cases[i].cache, 40, 0);
        for (uint32_t k = 0; k < 5; k++) {
            row.samples[k].cached_tokens = cases[i].cached;
        }
        row.template_tokens = cases[i].template;
        assert_true(row_summarise(&row));
        row_judge(&row, cases[i].cached >= 0);
        assert_int_equal(row.cache_state, cases[i].expected);
        if (!strstr(row.cache_reason, cases[i].words)) {
            fail_msg("case %zu: \"%s\" lacks \"%s\"", i, row.cache_reason, cases[i].words);
        }
        assert_int_equal(row.state, cases[i].expected == CACHE_INVALID ? ROW_INVALID : ROW_CLEAN);
        row_free(&row);
    }
}

static void test_batching(void **state) {
    (void)state;
    static const struct {
        uint32_t c;
        double spacing;
        enum batching expected;
    } cases[] = {
        {1, 0, BATCHING_SINGLE},   {4, 0, BATCHING_BATCHED},   {4, 5, BATCHING_BATCHED},
        {4, 110, BATCHING_QUEUED}, {4, 130, BATCHING_QUEUED},  {4, 50, BATCHING_MIXED},
        {2, 110, BATCHING_QUEUED}, {16, 104, BATCHING_QUEUED}, {16, 1, BATCHING_BATCHED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct row row = make_row(cases[i].c, CACHE_COLD, 40, cases[i].spacing);
        assert_true(row_summarise(&row));
        row_judge(&row, true);
        if (row.batching != cases[i].expected) {
            fail_msg("case %zu: %s, %s", i, batching_names[row.batching], row.batching_reason);
        }
        row_free(&row);
    }
    /* side by side: all decode at once; in a queue: the k-th waits for k - 1 services */
    struct row row = make_row(4, CACHE_COLD, 40, 0);
    assert_true(row_summarise(&row));
    NEAR(row.metric[METRIC_STREAMS].median, 4);
    NEAR(row.metric[METRIC_AGGREGATE].median, 1000 * 44 / 143.0);
    row_free(&row);
    row = make_row(4, CACHE_COLD, 40, 120);
    assert_true(row_summarise(&row));
    NEAR(row.metric[METRIC_STREAMS].median, 1);
    NEAR(row.metric[METRIC_AGGREGATE].median, 1000 * 44 / (143.0 + 360));
    row_judge(&row, true);
    assert_string_equal(row.batching_reason,
                        "1.0 of 4 streams decode at a time; first tokens come 1.20 service times apart");
    row_free(&row);
}

static void test_work(void **state) {
    (void)state;
    struct row row = make_row(1, CACHE_COLD, 40, 0);
    row.samples[1].prompt_tokens = 605;
    row.samples[2].output_tokens = 7;
    snprintf(row.samples[2].finish, sizeof row.samples[2].finish, "stop");
    assert_true(row_summarise(&row));
    row_judge(&row, true);
    assert_int_equal(row.state, ROW_INVALID);
    assert_string_equal(row.reasons[0], "prompts of 602 tokens were asked for; 1 had another number, one 605");
    assert_non_null(strstr(row.reasons[1], "answers of 11 tokens were asked for; 1 had another length, one 7 (stop)"));
    row_free(&row);
    row = make_row(1, CACHE_COLD, 40, 0);
    row.samples[2].output_tokens = 7;
    row.natural_stop = true; /* then answers have the length that they have */
    assert_true(row_summarise(&row));
    row_judge(&row, true);
    assert_int_equal(row.state, ROW_CLEAN);
    row_free(&row);
}

static void test_limit(void **state) {
    (void)state;
    struct model_facts file = {
        .n_params = 8, .decode_bytes = 1000000, .kv_bytes_per_token = 1000, .prefill_ops = 4000000};
    struct limits limits = {.read_gb_s = 20, .matrix_tops = 0.5, .matrix_kind = "int8"};
    struct row row = make_row(1, CACHE_COLD, 40, 0);
    assert_true(row_summarise(&row));
    row_judge(&row, true);
    row_set_limit(&row, &file, &limits, false);
    assert_int_equal(row.limit.kind, LIMIT_READ);
    NEAR(row.limit.bytes_per_token, 1e6 + 1000 * (602 + 5.5));
    NEAR(row.limit.share, row.limit.bytes_per_token * 100 * 1e-9 / 20);
    row_free(&row);

    row = make_row(4, CACHE_COLD, 40, 0); /* dense: four streams share a pass */
    assert_true(row_summarise(&row));
    row_set_limit(&row, &file, &limits, false);
    NEAR(row.limit.bytes_per_token, 1e6 / 4 + 1000 * (602 + 5.5));
    NEAR(row.limit.share, row.limit.bytes_per_token * row.metric[METRIC_AGGREGATE].median * 1e-9 / 20);
    file.n_expert = 32; /* experts: 4 of 32 each, four streams reach 32 (1 - (28/32)^4) of them */
    file.n_expert_used = 4;
    file.expert_bytes = 400000;
    row_set_limit(&row, &file, &limits, false);
    NEAR(row.limit.bytes_per_token, (600000 + 100000 * 32 * (1 - pow(0.875, 4))) / 4 + 1000 * (602 + 5.5));
    row_free(&row);

    row = make_row(1, CACHE_COLD, 40, 0);
    row.cell.is_depth = true;
    assert_true(row_summarise(&row));
    row_set_limit(&row, &file, &limits, false);
    assert_int_equal(row.limit.kind, LIMIT_MATRIX);
    NEAR(row.limit.share, 4e6 * 1000 * 602 / 42.0 * 1e-12 / 0.5);
    row_free(&row);

    row = make_row(1, CACHE_COLD, 40, 0); /* nothing is known: no share */
    assert_true(row_summarise(&row));
    row_set_limit(&row, &(struct model_facts){0}, &limits, false);
    assert_int_equal(row.limit.kind, LIMIT_NONE);
    row_free(&row);
}

/* Latency counts from when a request was meant to be sent; a rate from the first of those to the last end. */
static void test_open_loop(void **state) {
    (void)state;
    struct cell cell = make_cell(1, CACHE_COLD);
    struct row row;
    cell.arrival = ARRIVAL_POISSON;
    cell.rate_rps = 2.5;
    row_init(&row, &cell, true);
    assert_string_equal(row.key, "agent/2.5rps/cold/natural");
    row.slo_ttft_ms = 50;
    struct sample *s = row_add_samples(&row, 4);
    for (uint32_t i = 0; i < 4; i++) {
        fill(&s[i], i, 0, 400.0 * i + (i == 3 ? 20 : 0), 40);
        s[i].intended_ms = 400.0 * i;
    }
    assert_true(row_summarise(&row));
    NEAR(row.metric[METRIC_QUEUE].max, 20);
    NEAR(row.metric[METRIC_LATENCY].max, 161);
    NEAR(row.metric[METRIC_LATENCY].median, 141);
    NEAR(row.metric[METRIC_REQUESTS].median, 4000 / 1361.0);
    NEAR(row.metric[METRIC_GOODPUT].median, 3000 / 1361.0); /* the fourth waited: 60 ms to its first token */
    assert_int_equal(row.metric[METRIC_AGGREGATE].n, 0);
    row_free(&row);
}

static size_t columns(const char *line, size_t n) {
    size_t c = 0;
    for (size_t i = 0; i < n; i++) {
        c += ((unsigned char)line[i] & 0xC0) != 0x80;
    }
    return c;
}

static void test_table(void **state) {
    (void)state;
    struct row row = make_row(4, CACHE_COLD, 40, 120);
    struct buf b = {0};
    row.samples[3].ok = false;
    snprintf(row.samples[3].error, sizeof row.samples[3].error, "%0250d", 7);
    assert_true(row_summarise(&row));
    row_judge(&row, true);
    snprintf(row.key, sizeof row.key, "depth32768/c1/cold");
    row.metric[METRIC_DECODE].interval[0] = row.metric[METRIC_DECODE].median = 987654;
    row.metric[METRIC_DECODE].interval[1] = 9876543;
    bench_table_row(&b, &row);
    assert_false(b.failed);
    assert_non_null(strstr(b.data, "queued, not batched: 1.0 of 4"));
    assert_non_null(strstr(b.data, "1 of 20 requests failed"));
    for (const char *p = b.data; *p;) {
        size_t n = strcspn(p, "\n");
        if (columns(p, n) > 120) {
            fail_msg("%zu columns: %.*s", columns(p, n), (int)n, p);
        }
        p += n + (p[n] == '\n');
    }
    buf_free(&b);
    row_free(&row);
}

static void test_suites(void **state) {
    (void)state;
    struct suite s;
    struct suite_options o = {.name = "page"};
    char key[64];
    assert_true(suite_get(&o, &s));
    assert_int_equal(s.n_cells, 10);
    assert_int_equal(suite_width(&s), 4);
    cell_key(&s.cells[9], false, key, sizeof key);
    assert_string_equal(key, "agent/c4/warm");
    assert_int_equal(s.cells[2].prompt_tokens, 65);
    assert_int_equal(s.cells[2].max_tokens, 883);
    o = (struct suite_options){.name = "depth", .context = 5000};
    assert_true(suite_get(&o, &s));
    assert_int_equal(s.n_cells, 5); /* 512, 1024, 2048, 4096, and what is left */
    assert_int_equal(s.cells[4].prompt_tokens, 5000 - 32);
    cell_key(&s.cells[0], false, key, sizeof key);
    assert_string_equal(key, "depth512/c1/cold");
    o.context = 200; /* at least one row, whatever the context */
    assert_true(suite_get(&o, &s));
    assert_int_equal(s.n_cells, 1);
    assert_int_equal(s.cells[0].prompt_tokens, 200 - 32);
    o = (struct suite_options){.name = "load", .slots = 3};
    assert_true(suite_get(&o, &s));
    assert_int_equal(s.n_cells, 4); /* 1, 2, 4, 6 */
    assert_int_equal(s.cells[3].concurrency, 6);
    o.max_concurrency = 1;
    assert_true(suite_get(&o, &s));
    assert_int_equal(s.n_cells, 1);
    o.name = "nothing";
    assert_false(suite_get(&o, &s));
}

static void test_no_memory(void **state) {
    (void)state;
    struct row row = make_row(4, CACHE_COLD, 40, 0);
    bool ok = false;
    for (long n = 1; !ok; n++) {
        struct buf b = {0};
        mem_fail_nth(n);
        ok = row_summarise(&row);
        bench_table_row(&b, &row);
        mem_fail_nth(0);
        ok = ok && !b.failed;
        buf_free(&b);
        assert_true(n < 1000);
    }
    row_free(&row);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures), cmocka_unit_test(test_prefill),   cmocka_unit_test(test_failed_round),
        cmocka_unit_test(test_cache),   cmocka_unit_test(test_batching),  cmocka_unit_test(test_work),
        cmocka_unit_test(test_limit),   cmocka_unit_test(test_open_loop), cmocka_unit_test(test_table),
        cmocka_unit_test(test_suites),  cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
