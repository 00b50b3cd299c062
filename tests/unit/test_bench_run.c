/* Whole runs against a server whose every time, count and fault is known: the record says what was constructed, and the
 * record's own checker finds nothing wrong with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/bench.h"
#include "bench/prompt.h"
#include "record/check.h"
#include "unit/bench_fake_server.h"
#include "unit/quiet.h"

#include <math.h>

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

/* ---- Prompts and fields */

static struct target open_target(bool natural_stop, const char *model) {
    struct target t = {0};
    struct client_options o = {.url = base_url, .silence_s = 5, .zero_ns = clock_ns()};
    sluice_error err = {0};
    assert_int_equal(client_open(&o, &t.client, &err), SLUICE_OK);
    snprintf(t.url, sizeof t.url, "%s", base_url);
    if (target_identify(&t, model, natural_stop, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    return t;
}

static void close_target(struct target *t) {
    client_close(t->client);
    target_free(t);
}

static const struct workload *const workloads[] = {&workload_chat, &workload_codegen, &workload_rag, &workload_agent,
                                                   &workload_depth};

static uint64_t nonce = 7;

/* Exactly the number of tokens that was asked for, by whichever way the target counts. */
static void test_prompts(void **state) {
    (void)state;
    for (int kind = TOKENIZE_LLAMA; kind <= TOKENIZE_NONE; kind++) {
        fake_reset();
        fake.tokenizer = (enum fake_tokenizer)kind;
        fake.first_ms = fake.gap_ms = 0;
        fake.context = 100000;
        fake.no_template = kind != TOKENIZE_LLAMA;
        struct target t = open_target(false, NULL);
        assert_int_equal(t.tokenizer, kind == TOKENIZE_LLAMA  ? TOKENIZER_LLAMA
                                      : kind == TOKENIZE_VLLM ? TOKENIZER_VLLM
                                                              : TOKENIZER_USAGE);
        for (size_t i = 0; i < 5; i++) {
            struct prompt p;
            struct buf a = {0}, b = {0};
            sluice_error err;
            uint32_t wanted = workloads[i]->prompt_tokens, got;
            char sum_a[65], sum_b[65];
            assert_int_equal(prompt_make(&t, workloads[i], wanted, &nonce, &p, &err), SLUICE_OK);
            assert_int_equal(p.tokens, wanted);
            assert_int_equal(p.template_tokens, kind == TOKENIZE_LLAMA                      ? 3
                                                : kind == TOKENIZE_VLLM && i != 2 && i != 3 ? 6
                                                                                            : -1);
            prompt_messages(&p, 123456, &a); /* another nonce: as many tokens, another sum */
            assert_int_equal(target_count_prompt(&t, a.data, &got, &err), SLUICE_OK);
            assert_int_equal(got, wanted);
            prompt_messages(&p, 123457, &b);
            prompt_sha256(&a, sum_a);
            prompt_sha256(&b, sum_b);
            assert_int_equal(strlen(sum_a), 64);
            assert_string_not_equal(sum_a, sum_b);
            buf_free(&a);
            buf_free(&b);
            prompt_free(&p);
        }
        close_target(&t);
    }
}

/* A prompt that cannot be so short has what it must have; one that is too long for the target is refused. */
static void test_prompt_bounds(void **state) {
    (void)state;
    fake_reset();
    fake.first_ms = fake.gap_ms = 0;
    struct target t = open_target(false, NULL);
    struct prompt p;
    sluice_error err;
    assert_int_equal(prompt_make(&t, &workload_chat, 5, &nonce, &p, &err), SLUICE_OK);
    assert_true(p.tokens > 5 && p.tokens < 20);
    prompt_free(&p);
    fake.context = 300;
    assert_int_equal(prompt_make(&t, &workload_depth, 512, &nonce, &p, &err), SLUICE_E_LIMIT);
    assert_non_null(strstr(err.text, "context exceeded"));
    prompt_free(&p);
    fake.context = 2048;
    fake.tokenizer = TOKENIZE_NONE;
    fake.counts = COUNTS_NONE;
    t.tokenizer = TOKENIZER_USAGE; /* a target that counts nothing: a guess, and not called more than that */
    assert_int_equal(prompt_make(&t, &workload_depth, 512, &nonce, &p, &err), SLUICE_OK);
    assert_int_equal(p.tokens, 0);
    assert_true(strlen(p.text) > 1000);
    prompt_free(&p);
    close_target(&t);
}

/* A field that the server refuses is dropped, that one and no other. */
static void test_fields(void **state) {
    (void)state;
    static const struct {
        const char *refuses[6];
        bool silently;
    } cases[] = {
        {{NULL}, false},
        {{"min_tokens", "top_k", NULL}, false},
        {{"continuous_usage_stats", "timings_per_token", "min_p", NULL}, true},
        {{"ignore_eos", NULL}, true},
        {{"seed", "temperature", "include_usage", NULL}, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fake_reset();
        memcpy(fake.refuses, cases[i].refuses, sizeof fake.refuses);
        fake.refuses_silently = cases[i].silently;
        struct target t = open_target(false, NULL);
        for (int f = 0; f < N_FIELDS; f++) {
            bool refused = false;
            for (size_t k = 0; k < 6 && cases[i].refuses[k]; k++) {
                refused |= strcmp(cases[i].refuses[k], target_field_names[f]) == 0;
                /* it stands inside stream_options, which asks for usage */
                refused |= strcmp(cases[i].refuses[k], "include_usage") == 0 && f == FIELD_CONTINUOUS_USAGE;
            }
            if (t.takes[f] == refused) {
                fail_msg("case %zu: %s", i, target_field_names[f]);
            }
        }
        close_target(&t);
    }
    fake_reset();
    struct target t = open_target(true, "fake-2"); /* natural stop */
    assert_false(t.takes[FIELD_IGNORE_EOS] || t.takes[FIELD_MIN_TOKENS]);
    assert_string_equal(t.model, "fake-2");
    assert_string_equal(t.engine, "llama.cpp");
    assert_string_equal(t.build, "b1234");
    assert_int_equal(t.context, 2048);
    assert_int_equal(t.slots, 8);
    close_target(&t);
}

/* ---- Runs */

struct outcome {
    sluice_status status;
    sluice_error err;
    struct record *record;
    uint32_t rows_seen;
    char table[1 << 16];
};

static void on_row(void *ctx, const struct bench *b, const struct row *row) {
    struct outcome *o = ctx;
    struct buf text = {0};
    (void)b;
    o->rows_seen++;
    bench_table_row(&text, row);
    strncat(o->table, text.data, sizeof o->table - strlen(o->table) - 1);
    buf_free(&text);
}

static void on_end(void *ctx, const struct bench *b) {
    struct outcome *o = ctx;
    struct buf text = {0};
    bench_table_foot(&text, b);
    strncat(o->table, text.data, sizeof o->table - strlen(o->table) - 1);
    buf_free(&text);
}

static uint32_t n_runs; /* each has nonces of its own, as it has outside of tests */

/* Runs, reads the record back and has it checked. */
static struct outcome *run_with(struct bench_options options) {
    struct outcome *o = calloc(1, sizeof *o);
    struct check check;
    char path[] = "/tmp/test_bench_run.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    options.url = options.url ? options.url : base_url;
    options.silence_s = 2;
    options.nonce = 41 + 150 * n_runs++;
    options.command = "sluice bench";
    options.ctx = o;
    options.on_row = on_row;
    options.on_end = on_end;
    assert_int_equal(record_writer_open(path, false, &options.writer, &o->err), SLUICE_OK);
    o->status = bench_run(&options, &o->err);
    assert_int_equal(record_writer_close(options.writer, NULL), SLUICE_OK);
    if (o->rows_seen) {
        sluice_error err = {0};
        if (check_file(path, &check, &err) != SLUICE_OK) {
            fail_msg("%s", err.text);
        }
        for (size_t i = 0; i < check.n; i++) {
            if (check.findings[i].level == FINDING_WRONG) {
                fail_msg("line %zu: %s", check.findings[i].line, check.findings[i].text);
            }
        }
        check_free(&check);
        assert_int_equal(record_read(path, &o->record, &err), SLUICE_OK);
    }
    unlink(path);
    return o;
}

static struct outcome *run(const char *suite) {
    return run_with((struct bench_options){.suite = suite});
}

static void drop(struct outcome *o) {
    record_free(o->record);
    free(o);
}

static struct json_object *row_of(const struct outcome *o, const char *key) {
    for (size_t i = 0; i < o->record->n_lines; i++) {
        struct json_object *t = o->record->lines[i].tree;
        if (o->record->lines[i].kind == RECORD_ROW && record_is(t, "row", key)) {
            return t;
        }
    }
    fail_msg("there is no row %s", key);
    return NULL;
}

static double median(const struct outcome *o, const char *key, const char *metric) {
    return record_number(record_get(record_get(row_of(o, key), "metrics"), metric), "median");
}

static void assert_between(double low, double v, double high) {
    if (!(v >= low && v <= high)) {
        fail_msg("%f is not in %f .. %f", v, low, high);
    }
}

static bool is_between(double low, double v, double high) {
    if (!(v >= low && v <= high)) {
        print_message("%f is not in %f .. %f\n", v, low, high);
    }
    return v >= low && v <= high;
}

static bool try_known_times(void *unused) {
    (void)unused;
    fake_reset();
    fake.first_ms = 2;
    fake.prompt_ms = 0.05;
    struct outcome *o = run("quick");
    assert_int_equal(o->status, SLUICE_OK);
    assert_int_equal(o->rows_seen, 6);
    assert_between(602, median(o, "agent/c1/cold", "prompt_tokens"), 602);
    assert_between(31, median(o, "chat/c1/cold", "prompt_tokens"), 31);
    assert_between(150, median(o, "agent/c1/cold", "output_tokens"), 150);
    assert_between(3, median(o, "agent/c1/cold", "cached_tokens"), 3); /* the template before the nonce */
    assert_between(601, median(o, "agent/c1/warm", "cached_tokens"), 601);
    assert_true(record_is(row_of(o, "agent/c1/cold"), "cache_state", "verified"));
    assert_true(record_is(row_of(o, "agent/c1/warm"), "cache_state", "verified"));
    assert_between(3, record_number(row_of(o, "agent/c1/cold"), "template_tokens"), 3);
    double cold = 2 + 0.05 * 599, warm = 2 + 0.05;
    /* nothing comes before it is sent, however busy the machine is */
    assert_true(median(o, "agent/c1/cold", "ttft_ms") >= cold - 0.01);
    assert_true(median(o, "agent/c1/warm", "ttft_ms") >= warm - 0.01);
    assert_true(median(o, "agent/c1/cold", "prefill_tok_s") <= 1000 * 599 / (cold - 0.01));
    bool tight = is_between(cold, median(o, "agent/c1/cold", "ttft_ms"), 1.02 * cold) &&
                 is_between(warm, median(o, "agent/c1/warm", "ttft_ms"), warm + 0.6) &&
                 is_between(0.99, median(o, "codegen/c1/cold", "tpot_ms"), 1.01) &&
                 is_between(990, median(o, "codegen/c1/cold", "decode_tok_s"), 1010) &&
                 is_between(3.8, median(o, "agent/c4/cold", "streams_decoding"), 4) &&
                 record_is(row_of(o, "agent/c4/cold"), "batching", "batched");
    drop(o);
    return tight;
}

/* 0.05 ms per computed prompt token and 1 ms per output token: rates, cold and warm, are what they must be. */
static void test_known_times(void **state) {
    (void)state;
    assert_true(quietly(try_known_times, NULL, "known times"));
}

static bool try_queue(void *unused) {
    (void)unused;
    fake_reset();
    fake.slots = 1;
    struct outcome *o = run("quick");
    /* three of four waited: at the median for one and a half services of 102 ms */
    bool tight = record_is(row_of(o, "agent/c4/cold"), "batching", "queued") &&
                 is_between(0.95, median(o, "agent/c4/cold", "streams_decoding"), 1.02) &&
                 is_between(154, median(o, "agent/c4/cold", "ttft_ms"), 164) &&
                 strstr(o->table, "queued, not batched") != NULL;
    assert_true(median(o, "agent/c4/cold", "ttft_ms") > 150);
    drop(o);
    fake_reset();
    fake.slots = 2;
    o = run("quick");
    tight = tight && record_is(row_of(o, "agent/c4/cold"), "batching", "mixed");
    drop(o);
    return tight;
}

/* Requests that wait for each other are seen as a queue, with one slot or two. */
static void test_queue(void **state) {
    (void)state;
    assert_true(quietly(try_queue, NULL, "queue"));
}

static bool try_token_times(void *counts) {
    fake_reset();
    fake.bundle = 5;
    fake.counts = *(const enum fake_counts *)counts;
    fake.stall_at = 51;
    fake.stall_ms = 120;
    fake.reasoning = 20;
    struct outcome *o = run("quick");
    assert_int_equal(o->status, SLUICE_OK);
    struct json_object *itl = record_get(record_get(row_of(o, "chat/c1/cold"), "metrics"), "itl_ms");
    assert_between(297, record_number(itl, "n"), 297);  /* 3 runs of 100 tokens */
    assert_between(0, record_number(itl, "median"), 0); /* four of five come together */
    /* 99 gaps: 19 of 5 ms and one that is 120 ms longer */
    double tpot = (19 * 5 + 120) / 99.0;
    bool tight = is_between(124.5, record_number(itl, "max"), 126) &&
                 is_between(0.99 * tpot, median(o, "chat/c1/cold", "tpot_ms"), 1.01 * tpot) &&
                 is_between(19.5, median(o, "chat/c1/cold", "ttfc_ms") - median(o, "chat/c1/cold", "ttft_ms"), 20.5);
    drop(o);
    return tight;
}

static bool try_uncounted(void *unused) {
    (void)unused;
    fake_reset();
    fake.bundle = 5;
    struct outcome *o = run("quick");
    assert_null(record_get(record_get(row_of(o, "chat/c1/cold"), "metrics"), "itl_ms"));
    bool tight = is_between(0.95, median(o, "chat/c1/cold", "tpot_ms"), 1.0); /* 95 ms over 99 gaps */
    drop(o);
    return tight;
}

/* Bundles, a pause, a reasoning channel: every token has the time at which it came. */
static void test_token_times(void **state) {
    (void)state;
    static enum fake_counts counts[] = {COUNTS_CONTINUOUS, COUNTS_TIMINGS, COUNTS_IDS};
    for (size_t i = 0; i < 3; i++) {
        assert_true(quietly(try_token_times, &counts[i], "token times"));
    }
    /* bundles without counts: the times of single tokens are not known, all else is */
    assert_true(quietly(try_uncounted, NULL, "bundles without counts"));
}

/* A server whose counts deny what the row is about makes an invalid or an unverified row. */
static void test_cache_states(void **state) {
    (void)state;
    fake_reset();
    fake.gap_ms = 0.05;
    fake.cache = CACHE_OFF;
    struct outcome *o = run("quick");
    assert_true(record_is(row_of(o, "agent/c1/cold"), "cache_state", "verified"));
    assert_true(record_is(row_of(o, "agent/c1/warm"), "cache_state", "invalid"));
    assert_non_null(strstr(o->table, "not warm: "));
    drop(o);
    fake_reset();
    fake.gap_ms = 0.05;
    fake.cache = CACHE_EVERYTHING;
    o = run("quick");
    assert_true(record_is(row_of(o, "agent/c1/cold"), "cache_state", "invalid"));
    assert_non_null(strstr(o->table, "not cold: request 1 of run 1 took 601 of 602 prompt tokens from a cache"));
    drop(o);
    fake_reset();
    fake.gap_ms = 0.05;
    fake.cache = CACHE_SILENT;
    o = run("quick");
    assert_true(record_is(row_of(o, "agent/c1/cold"), "cache_state", "unverified"));
    assert_true(record_is(row_of(o, "agent/c1/warm"), "cache_state", "unverified"));
    drop(o);
}

static const char *first_reason(const struct outcome *o, const char *key) {
    struct json_object *reasons = record_get(record_get(row_of(o, key), "verdict"), "reasons");
    return json_object_get_string(json_object_array_get_idx(reasons, 0));
}

/* Work that is not the work that was asked for. */
static void test_wrong_work(void **state) {
    (void)state;
    fake_reset();
    fake.gap_ms = 0.05;
    fake.stop_after = 40; /* ends answers although it was asked not to */
    struct outcome *o = run("quick");
    assert_non_null(strstr(first_reason(o, "chat/c1/cold"),
                           "answers of 100 tokens were asked for; 3 had another length, one 40 "
                           "(stop)"));
    drop(o);
    fake.honours_ignore_eos = true;
    o = run("quick");
    if (record_is(record_get(row_of(o, "chat/c1/cold"), "verdict"), "state", "invalid")) {
        fail_msg("%s", first_reason(o, "chat/c1/cold"));
    }
    assert_false(record_true(row_of(o, "chat/c1/cold"), "natural_stop"));
    drop(o);
    o = run_with((struct bench_options){.suite = "quick", .natural_stop = true});
    assert_true(record_true(row_of(o, "chat/c1/cold/natural"), "natural_stop"));
    assert_between(40, median(o, "chat/c1/cold/natural", "output_tokens"), 40);
    drop(o);
    fake_reset();
    fake.gap_ms = 0.05;
    fake.refuses[0] = "ignore_eos"; /* then answers may end by themselves, and the rows say so */
    o = run("quick");
    assert_true(record_true(row_of(o, "chat/c1/cold/natural"), "natural_stop"));
    assert_null(record_path(o->record->lines[0].tree, "sampling.ignore_eos"));
    assert_non_null(strstr(o->table, "not sent, because the target refuses it: ignore_eos"));
    drop(o);
    fake_reset();
    fake.gap_ms = 0.05;
    fake.counts = COUNTS_NONE;
    fake.tokenizer = TOKENIZE_NONE;
    o = run("quick");
    assert_non_null(strstr(first_reason(o, "chat/c1/cold"), "did not count the tokens of 3 requests"));
    assert_true(isnan(median(o, "chat/c1/cold", "decode_tok_s")));
    assert_between(2.9, median(o, "chat/c1/cold", "ttft_ms"), 200);
    drop(o);
}

/* Rows of requests that fail say why, and the others stand. */
static void test_failures(void **state) {
    (void)state;
    static const struct {
        enum fake_counts counts;
        enum fake_end end;
        const char *words;
    } cases[] = {
        {COUNTS_FINAL, END_EARLY, "broke off"},
        {COUNTS_TOO_FEW, END_GOOD, "output tokens but sent text in"},
        {COUNTS_CACHE_LIE, END_GOOD, "cached tokens in a prompt of"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fake_reset();
        fake.gap_ms = 0.05;
        fake.counts = cases[i].counts;
        fake.end = cases[i].end;
        struct outcome *o = run("quick");
        const char *said = o->status == SLUICE_OK ? record_text(row_of(o, "chat/c1/cold"), "error") : o->err.text;
        if (!said || !strstr(said, cases[i].words)) {
            fail_msg("case %zu: %s", i, said ? said : "nothing was said");
        }
        drop(o);
    }
    fake_reset();
    fake.gap_ms = 0.05;
    fake.context = 400; /* rag and agent do not fit */
    struct outcome *o = run("quick");
    assert_int_equal(o->status, SLUICE_OK);
    assert_between(0, record_number(row_of(o, "chat/c1/cold"), "failed"), 0);
    assert_between(1, record_number(row_of(o, "rag/c1/cold"), "failed"), 1);
    assert_non_null(strstr(record_text(row_of(o, "rag/c1/cold"), "error"), "context exceeded"));
    drop(o);
}

/* Targets of which nothing can be measured. */
static void test_dead_targets(void **state) {
    (void)state;
    static const struct {
        enum fake_plain plain;
        bool no_models;
        const char *words;
    } cases[] = {
        {PLAIN_JSON, false, "without streaming"}, {PLAIN_500, false, "HTTP 500"},
        {PLAIN_401, false, "--api-key"},          {PLAIN_404, false, "HTTP 404"},
        {PLAIN_CLOSED, false, "broke off"},       {PLAIN_302, false, "redirect"},
        {PLAIN_ERROR_200, false, "out of cards"}, {PLAIN_NONE, true, "name one with --model"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fake_reset();
        fake.plain = cases[i].plain;
        fake.no_models = cases[i].no_models;
        struct outcome *o = run("page");
        assert_int_equal(o->status, SLUICE_E_IO);
        if (!strstr(o->err.text, cases[i].words)) {
            fail_msg("case %zu: %s", i, o->err.text);
        }
        assert_int_equal(o->rows_seen, 0);
        drop(o);
    }
    struct outcome *o = run_with((struct bench_options){.suite = "quick", .url = "http://127.0.0.1:1"});
    assert_int_equal(o->status, SLUICE_E_IO);
    assert_non_null(strstr(o->err.text, "nothing answers"));
    drop(o);
    o = run_with((struct bench_options){.suite = "slow"});
    assert_int_equal(o->status, SLUICE_E_ARG);
    drop(o);
}

static atomic_bool stop;

static void stop_after_two(void *ctx, const struct bench *b, const struct row *row) {
    on_row(ctx, b, row);
    if (((struct outcome *)ctx)->rows_seen == 2) {
        atomic_store(&stop, true);
    }
}

/* What ended before an interruption is kept. */
static void test_interrupted(void **state) {
    (void)state;
    struct outcome *o = calloc(1, sizeof *o);
    struct bench_options options = {
        .suite = "quick", .url = base_url, .silence_s = 2, .stop = &stop, .ctx = o, .on_row = stop_after_two};
    char path[] = "/tmp/test_bench_run.XXXXXX";
    struct check check;
    fake_reset();
    close(mkstemp(path));
    assert_int_equal(record_writer_open(path, false, &options.writer, &o->err), SLUICE_OK);
    assert_int_equal(bench_run(&options, &o->err), SLUICE_E_CANCELLED);
    assert_int_equal(record_writer_close(options.writer, &o->err), SLUICE_OK);
    assert_int_equal(check_file(path, &check, &o->err), SLUICE_OK);
    assert_int_equal(check.n_level[FINDING_WRONG], 0);
    assert_int_equal(check.n_rows, 2);
    assert_true(check.n_samples >= 8);
    check_free(&check);
    unlink(path);
    free(o);
    atomic_store(&stop, false);
}

/* A warm row whose prompt is shorter than a page of the server's cache is not made, and the record says so. */
static void test_left_out(void **state) {
    (void)state;
    fake_reset();
    fake.gap_ms = 0.02;
    fake.page_tokens = 64;
    struct outcome *o = run("page");
    assert_int_equal(o->status, SLUICE_OK);
    assert_int_equal(o->rows_seen, 9);
    struct json_object *end = o->record->lines[o->record->n_lines - 1].tree, *left = record_get(end, "left_out");
    assert_between(1, record_number(end, "rows_left_out"), 1);
    assert_int_equal(json_object_array_length(left), 1);
    assert_true(record_is(json_object_array_get_idx(left, 0), "row", "chat/c1/warm"));
    assert_non_null(strstr(record_text(json_object_array_get_idx(left, 0), "reason"), "pages of 64 tokens"));
    assert_non_null(strstr(o->table, "left out: not possible"));
    assert_true(record_is(row_of(o, "codegen/c1/warm"), "cache_state", "verified"));
    drop(o);
}

static void test_depth(void **state) {
    (void)state;
    fake_reset();
    fake.gap_ms = 0.2;
    struct outcome *o = run("depth");
    assert_int_equal(o->rows_seen, 3); /* 512, 1024, and what is left of a context of 2048 */
    assert_between(2016, median(o, "depth2016/c1/cold", "prompt_tokens"), 2016);
    assert_between(1024, record_number(row_of(o, "depth1024/c1/cold"), "depth"), 1024);
    drop(o);
}

struct poisson { /* of a row, as the callback saw it */
    double requests, good, span_ms;
    uint32_t n, slow;
};

static void on_poisson(void *ctx, const struct bench *b, const struct row *row) {
    struct poisson *p = ctx;
    double first = INFINITY, last = 0;
    (void)b;
    for (uint32_t i = 0; i < row->n_samples; i++) {
        const struct sample *s = &row->samples[i];
        assert_true(s->ok && s->intended_ms >= 0);
        first = fmin(first, s->intended_ms);
        last = fmax(last, s->send_ms + s->end_ms);
        p->slow += s->first_token_ms >= 150;
    }
    p->n = row->n_samples;
    p->span_ms = last - first;
    p->requests = row->metric[METRIC_REQUESTS].median;
    p->good = row->metric[METRIC_GOODPUT].median;
}

/* 40 arrivals, 60 a second on average; every fourth answer comes 150 ms late, and 80 ms are allowed. */
static bool try_goodput(void *unused) {
    (void)unused;
    struct poisson p = {0};
    struct bench_options o = {.suite = "load", .slo_ttft_ms = 80, .nonce = 77, .ctx = &p, .on_row = on_poisson};
    struct bench b = {.options = &o, .zero_ns = clock_ns(), .nonce = 77};
    struct cell cell = {.workload = &workload_chat,
                        .prompt_tokens = 31,
                        .max_tokens = 4,
                        .concurrency = CLIENT_STREAMS_MAX,
                        .runs = 40,
                        .cache = CACHE_COLD,
                        .arrival = ARRIVAL_POISSON,
                        .rate_rps = 60};
    double share = 0;
    sluice_error err = {0};
    fake_reset();
    b.target = open_target(false, NULL);
    fake.slow_every = 4;
    fake.slow_ms = 150;
    assert_int_equal(bench_watch_start(&b, &err), SLUICE_OK);
    assert_int_equal(bench_run_cell(&b, &cell, 0, &share, NULL, &err), SLUICE_OK);
    assert_int_equal(p.n, 40);
    assert_int_equal(p.slow, 10); /* any forty in a row have ten fourths */
    assert_between(0.9999 * 40e3 / p.span_ms, p.requests, 1.0001 * 40e3 / p.span_ms);
    assert_true(p.good <= 0.7501 * p.requests && fabs(share - p.good / p.requests) < 1e-9);
    bench_watch_free(&b);
    close_target(&b.target);
    if (b.prompt) {
        prompt_free(b.prompt);
        mem_free(b.prompt);
    }
    buf_free(&b.line);
    /* the schedule's own length is fixed: the same draws for every run of a rate */
    return is_between(0.75 - 1e-9, share, 0.75 + 1e-9); /* a quotient of two rates: rounded twice */
}

static void test_goodput(void **state) {
    (void)state;
    assert_true(quietly(try_goodput, NULL, "goodput"));
}

static bool try_load(void *unused) {
    (void)unused;
    fake_reset();
    fake.slots = 1;
    fake.first_ms = 5;
    fake.gap_ms = 0.1;
    struct outcome *o =
        run_with((struct bench_options){.suite = "load", .max_concurrency = 2, .slo_ttft_ms = 40, .rate_seconds = 1});
    assert_int_equal(o->status, SLUICE_OK);
    uint32_t open_rows = 0;
    bool tight = true;
    for (size_t i = 0; i < o->record->n_lines; i++) {
        struct json_object *t = o->record->lines[i].tree;
        if (o->record->lines[i].kind == RECORD_ROW && record_is(t, "arrival", "poisson")) {
            double rate = record_number(t, "rate_rps");
            double carried = record_number(record_path(t, "metrics.request_rps"), "median");
            double good = record_number(record_path(t, "metrics.goodput_rps"), "median");
            assert_true(rate > 0 && carried > 0 && good <= carried * 1.0001 && carried < 45);
            tight = tight && is_between(0, record_number(record_path(t, "metrics.queue_ms"), "median"), 0.5);
            open_rows++;
        }
    }
    assert_true(open_rows >= 1);
    assert_non_null(strstr(o->table, "knee: "));
    drop(o);
    return tight && open_rows >= 3;
}

/* Arrivals that the server keeps up with, and a latency target whose knee is found: 25 ms of service in one slot
 * carry at most 40 requests per second, and fewer within a time to the first token that leaves little room for a
 * queue. */
static void test_load(void **state) {
    (void)state;
    assert_true(quietly(try_load, NULL, "load"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts),      cmocka_unit_test(test_prompt_bounds), cmocka_unit_test(test_fields),
        cmocka_unit_test(test_known_times),  cmocka_unit_test(test_queue),         cmocka_unit_test(test_token_times),
        cmocka_unit_test(test_cache_states), cmocka_unit_test(test_wrong_work),    cmocka_unit_test(test_failures),
        cmocka_unit_test(test_dead_targets), cmocka_unit_test(test_interrupted),   cmocka_unit_test(test_depth),
        cmocka_unit_test(test_left_out),     cmocka_unit_test(test_load),          cmocka_unit_test(test_goodput),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
