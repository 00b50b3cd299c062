/* What check says: every figure recomputed, every rule of a row, printed figures held against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "record_lines.h"

#define VALID TEST_DATA "/unit/data/record.jsonl"
#define PAGE  REPO_DIR "/bench/results/legacy-lfm2-8b-a1b-page.jsonl"

static void test_valid(void **state) {
    (void)state;
    struct check c;
    sluice_error err;
    assert_int_equal(check_file(VALID, &c, &err), SLUICE_OK);
    if (c.n_level[FINDING_WRONG]) {
        fail_msg("%s", wrong_text(&c));
    }
    assert_int_equal(c.n_records, 2);
    assert_int_equal(c.n_rows, 4);
    assert_int_equal(c.n_samples, 24);
    assert_int_equal(c.n_level[FINDING_NOISY], 1);
    assert_int_equal(c.n_level[FINDING_UNQUALIFIED], 1);
    struct buf b = {0};
    check_report_json(&c, "a\"b", &b);
    struct json_object *o = json_tokener_parse(b.data), *ok = NULL;
    assert_true(o && json_object_object_get_ex(o, "ok", &ok) && json_object_get_boolean(ok));
    json_object_put(o);
    buf_free(&b);
    check_free(&c);
}

/* The values of a block's turns follow from its requests. */
static void test_turns(void **state) {
    (void)state;
    struct lines l = lines_load(REPO_DIR "/bench/results/ab-llama-cpp.jsonl");
    uint32_t moved = 0;
    for (size_t i = 0; i < l.n && moved < 10; i++) {
        static const char *const sides[] = {"a", "b"};
        struct json_object *values = NULL;
        for (size_t side = 0; side < 2 && json_object_object_get_ex(l.tree[i], sides[side], &values); side++) {
            char text[64];
            size_t turn = (i + side) % 2;
            struct json_object *old = json_object_get(json_object_array_get_idx(values, turn));
            json_object_array_put_idx(values, turn, json_object_new_double(json_object_get_double(old) * 1.001));
            struct check c = check_lines(&l);
            snprintf(text, sizeof text, "turn %zu of %s has", turn + 1, side ? "B" : "A");
            assert_true(found(&c, FINDING_WRONG, NULL, text));
            check_free(&c);
            json_object_array_put_idx(values, turn, old);
            moved++;
        }
    }
    assert_int_equal(moved, 10);
    struct check c = check_lines(&l);
    assert_int_equal(c.n_level[FINDING_WRONG], 0);
    check_free(&c);
    lines_free(&l);
}

/* Each number of each metric, moved by a hundredth, is found; so is an interval or percentile that n does not allow. */
static void test_every_figure(void **state) {
    (void)state;
    struct lines l = lines_load(VALID);
    size_t moved = 0;
    for (size_t i = 0; i < l.n; i++) {
        struct json_object *metrics = NULL;
        if (!json_object_object_get_ex(l.tree[i], "metrics", &metrics)) {
            continue;
        }
        json_object_object_foreach(metrics, name, metric) {
            static const char *const parts[] = {"median", "mean", "sd", "min", "max", "n", "level", "p50", "p90"};
            for (size_t p = 0; metric && p < sizeof parts / sizeof *parts; p++) {
                struct json_object *old = NULL;
                json_object_object_get_ex(metric, parts[p], &old);
                double v = old ? json_object_get_double(old) : 0;
                double wrong = strcmp(parts[p], "n") == 0       ? v + 1
                               : strcmp(parts[p], "level") == 0 ? v * 0.99 + 0.005
                                                                : v * 1.01 + 0.01;
                json_object_get(old);
                json_object_object_add(metric, parts[p],
                                       strcmp(parts[p], "n") == 0 ? json_object_new_int((int)wrong)
                                                                  : json_object_new_double(wrong));
                struct check c = check_lines(&l);
                if (!found(&c, FINDING_WRONG, NULL, name)) {
                    fail_msg("line %zu: %s.%s moved from %g to %g was not found", i + 1, name, parts[p], v, wrong);
                }
                check_free(&c);
                json_object_object_add(metric, parts[p], old);
                moved++;
            }
        }
    }
    assert_true(moved > 200);
    struct check c = check_lines(&l);
    assert_int_equal(c.n_level[FINDING_WRONG], 0);
    check_free(&c);
    lines_free(&l);
}

/* One change each, and the sentence that names it. */
static void test_rules(void **state) {
    (void)state;
    static const struct {
        const char *kind, *row, *path, *json;
        enum finding_level level;
        const char *part;
    } cases[] = {
        {"row", "agent/c1/cold", "template_tokens", "2", FINDING_WRONG,
         "a cold row: a request had 3 tokens in the cache"},
        {"row", "agent/c1/cold", "cache", "\"warm\"", FINDING_WRONG, "a warm row: a request had only"},
        {"row", "agent/c1/cold", "cache_state", "null", FINDING_WRONG, "without a cache state"},
        {"row", "agent/c1/cold", "cache_state", "\"unverified\"", FINDING_WRONG, "no reason is given"},
        {"row", "agent/c2/warm", "cache", "\"unknown\"", FINDING_WRONG, "the cache is unknown, and its state verified"},
        {"row", "agent/c1/cold", "runs", "7", FINDING_WRONG, "runs is 7, and the samples have 6"},
        {"row", "agent/c1/cold", "warmups", "0", FINDING_WRONG, "warmups is 0, and the samples have 1"},
        {"row", "agent/c2/warm", "failed", "0", FINDING_WRONG, "failed is 0, and 1 samples failed"},
        {"row", "agent/c2/warm", "error", "null", FINDING_WRONG, "does not say why"},
        {"row", "agent/c2/warm", "batching", "\"queued\"", FINDING_WRONG, "batching is \"queued\", and"},
        {"row", "agent/c2/warm", "batching", "\"single\"", FINDING_WRONG, "\"single\" at concurrency 2"},
        {"row", "agent/c1/cold", "batching", "\"batched\"", FINDING_WRONG, "they wait in a queue"},
        {"row", "agent/c1/cold", "limit.share", "0.5", FINDING_WRONG, "limit: share 0.5"},
        {"row", "agent/c1/cold", "limit.measured", "25", FINDING_WRONG, "limit: share"},
        {"row", "agent/c1/cold", "limit.measured", "null", FINDING_WRONG, "limit: a share of"},
        {"row", "agent/c1/cold", "other_limit.share", "0.5", FINDING_WRONG, "other_limit: share 0.5"},
        {"row", "agent/c1/cold", "other_limit.kind", "\"read\"", FINDING_WRONG, "of the same kind"},
        {"row", "agent/c1/cold", "limit.unit", "\"MB/s\"", FINDING_WRONG, "the unit is MB/s"},
        {"row", "agent/c1/cold", "energy.j_per_request", "37", FINDING_WRONG,
         "j_per_request is 37; 360 J over 10 are 36"},
        {"row", "agent/c1/cold", "energy.idle_w", "11", FINDING_WRONG, "less the idle draw"},
        {"row", "agent/c1/cold", "energy.window_s", "4.9", FINDING_WRONG, "counters need at least 5 s"},
        {"row", "agent/c1/cold", "energy.valid", "false", FINDING_WRONG, "energy is not valid, and no reason"},
        {"row", "agent/c1/cold", "energy.reasons", "[\"x\"]", FINDING_WRONG, "energy is valid, and has reasons"},
        {"row", "agent/c1/cold", "quality.kind", "null", FINDING_WRONG, "does not say by what"},
        {"row", "agent/c2/warm", "quality.reason", "null", FINDING_WRONG, "not qualified, and no reason"},
        {"row", "agent/c1/cold", "verdict.reasons", "[\"x\"]", FINDING_WRONG, "clean, and has reasons"},
        {"row", "agent/c1/cold", "verdict.state", "\"noisy\"", FINDING_WRONG, "not clean, and no reason"},
        {"row", "agent/c1/cold", "max_tokens", "5", FINDING_WRONG, "answers of 5 tokens were asked for, one has 4"},
        {"row", "agent/c1/cold", "printed", "{}", FINDING_WRONG, "a measured row has \"printed\""},
        {"row", "agent/c1/cold", "row", "\"other\"", FINDING_WRONG, "samples without a row"},
        {"row", "agent/c1/cold", "metrics.ttft_ms", "null", FINDING_WRONG,
         "ttft_ms is missing, and the samples give it"},
        {"row", "agent/c1/cold", "metrics.queue_ms",
         "{\"median\":1,\"interval\":null,\"level\":null,\"mean\":1,\"sd\":null,\"min\":1,\"max\":1,\"n\":1,\"p50\":"
         "null,\"p90\":null,\"p95\":null,\"p99\":null}",
         FINDING_WRONG, "queue_ms has values, and no sample gives one"},
        {"row", "agent/c2/warm", "target", "1", FINDING_WRONG, "target 1 is named"},
        {"sample", NULL, "end_ms", "1", FINDING_WRONG, "end_ms (1.000) lies before last_token_ms"},
        {"sample", NULL, "token_ms", "[41,42,43]", FINDING_WRONG, "token_ms"},
        {"sample", NULL, "error", "\"x\"", FINDING_WRONG, "went well has an error text"},
        {"sample", NULL, "reasoning_tokens", "5", FINDING_WRONG, "5 reasoning tokens among 4"},
        {"sample", "agent/rate5/cold", "intended_ms", "9e9", FINDING_WRONG, "before it was meant to be"},
        {"probe", NULL, "items",
         "[{\"name\":\"read\",\"unit\":\"GB/"
         "s\",\"threads\":2,\"median\":3,\"min\":1,\"max\":3,\"n\":3,\"samples\":[1,2,3],\"theory\":10,\"share\":0.3,"
         "\"how\":null}]",
         FINDING_WRONG, "probe read: median 3"},
        {"probe", NULL, "items",
         "[{\"name\":\"copy\",\"unit\":\"GB/"
         "s\",\"threads\":2,\"median\":2,\"min\":1,\"max\":3,\"n\":3,\"samples\":[1,2,3],\"theory\":10,\"share\":0.3,"
         "\"how\":null}]",
         FINDING_WRONG, "probe copy: share 0.3"},
        {"trace", NULL, "t_ms", "[0,100]", FINDING_WRONG, "has 3 values for 2 times"},
        {"trace", NULL, "t_ms", "[0,100,99]", FINDING_WRONG, "t_ms[2] of the trace"},
        {"pair", NULL, "ratio", "1.2", FINDING_WRONG, "block 0: ratio 1.2"},
        {"pair", NULL, "valid", "false", FINDING_WRONG, "is not valid, and no reason"},
        {"pair", NULL, "b", "[110.0,113.0]", FINDING_WRONG, "its values give"},
        {"comparison", NULL, "blocks", "3", FINDING_WRONG, "3 blocks; the record has 8"},
        {"comparison", NULL, "ratio", "1.101", FINDING_WRONG, "its 8 valid blocks give"},
        {"comparison", NULL, "interval", "[1.09,1.13]", FINDING_WRONG,
         "interval 1.09 to 1.13; its 8 valid blocks give"},
        {"comparison", NULL, "smallest_effect", "0.001", FINDING_WRONG, "smallest_effect 0.001; its interval gives"},
        {"comparison", NULL, "verdict", "\"worse\"", FINDING_WRONG, "says \"better\""},
        {"comparison", NULL, "verdict", "\"undecided\"", FINDING_WRONG, "says \"better\""},
        {"comparison", NULL, "interval", "null", FINDING_WRONG, "without an interval"},
        {"comparison", NULL, "interval", "[0.9,1.2]", FINDING_WRONG, "contains 1"},
        {"comparison", NULL, "ratio", "1.5", FINDING_WRONG, "lies outside its interval"},
        {"end", NULL, "rows", "5", FINDING_WRONG, "the end line says 5 rows"},
        {"end", NULL, "interrupted", "true", FINDING_INTERRUPTED, "was interrupted"},
        {"run", NULL, "origin.url", "\"http://x\"", FINDING_WRONG, "origin names a source"},
        {"run", NULL, "origin.source", "\"imported\"", FINDING_WRONG, "names the format"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lines l = lines_load(VALID);
        lines_set(&l, lines_find(&l, cases[i].kind, cases[i].row), cases[i].path, cases[i].json);
        struct check c = check_lines(&l);
        if (!found(&c, cases[i].level, NULL, cases[i].part)) {
            fail_msg("%s %s %s = %s: \"%s\" is not said; \"%s\" is", cases[i].kind, cases[i].row ? cases[i].row : "",
                     cases[i].path, cases[i].json, cases[i].part, wrong_text(&c) ? wrong_text(&c) : "nothing");
        }
        check_free(&c);
        lines_free(&l);
    }
}

/* A time of one sample, moved by a millisecond, shows in the row. */
static void test_sample_moved(void **state) {
    (void)state;
    struct lines l = lines_load(VALID);
    struct json_object *v = NULL;
    size_t second = lines_find(&l, "sample", "agent/c1/cold") + 1; /* the first is a warm-up */
    json_object_object_get_ex(l.tree[second], "end_ms", &v);
    json_object_object_add(l.tree[second], "end_ms", json_object_new_double(json_object_get_double(v) + 1));
    struct check c = check_lines(&l);
    assert_true(found(&c, FINDING_WRONG, "agent/c1/cold", "client_tok_s"));
    assert_true(found(&c, FINDING_WRONG, "agent/c1/cold", "latency_ms"));
    check_free(&c);
    lines_free(&l);
}

/* Without its end a record is an interrupted run, and right. */
static void test_interrupted(void **state) {
    (void)state;
    struct lines l = lines_load(VALID);
    struct lines cut = l;
    cut.n = lines_find(&l, "row", "agent/c1/cold"); /* samples without their row */
    struct check c = check_lines(&cut);
    assert_int_equal(c.n_level[FINDING_WRONG], 0);
    assert_true(found(&c, FINDING_INTERRUPTED, NULL, "no end line"));
    check_free(&c);
    lines_free(&l);
}

/* What bench.md finds on the page of LFM2-8B-A1B is found by arithmetic alone. */
static void test_page(void **state) {
    (void)state;
    static const struct {
        enum finding_level level;
        const char *row, *part;
    } expected[] = {
        {FINDING_LEGACY, "chat/c1",
         "client 385.1 tok/s is not output tokens / latency: 100 / 248ms gives 402.4 to 404.0"},
        {FINDING_LEGACY, "rag/c1", "the rate stands for a latency of 370 ms"},
        {FINDING_LEGACY, "rag/c1", "prefill 11883.9 tok/s is not prompt tokens / TTFT"},
        {FINDING_LEGACY, "codegen/c1", "gives 396.5, a difference of +8.5%"},
        {FINDING_INVALID, "agent/c1", "prefill 35490.6 tok/s is a prompt-cache hit"},
        {FINDING_INVALID, "agent/c1", "the factor of 4.3 is the cache, not the power"},
        {FINDING_INVALID, "rag/c1", "prefill 38318.1 tok/s is a prompt-cache hit"},
        {FINDING_LEGACY, "rag/c1", "has 892 tokens here and 752 in other rows"},
        {FINDING_LEGACY, "codegen/c1", "put out 883 tokens here and 843, 791 in other rows"},
        {FINDING_LEGACY, "agent/c4", "4 requests were queued, not batched: decode is 432.0 tok/s beside 435.2 alone"},
        {FINDING_LEGACY, "agent/c4", "TTFT 1.53s beside the 1.77 s that 1.5 service times"},
        {FINDING_LEGACY, "agent/c4", "it stands above 128.4"},
        {FINDING_LEGACY, "agent/c4", "4 requests were batched: 124.6 tok/s"},
        {FINDING_LEGACY, "chat/c1", "the memory delta of 0.000 GiB says nothing"},
        {FINDING_LEGACY, NULL, "a copy of 391 GB/s is 42% of the bus"},
        {FINDING_LEGACY, NULL, "counted so it is 212 GB/s, 82.8%"},
        {FINDING_LEGACY, NULL, "counted so it is 542 GB/s, 80.7%"},
        {FINDING_LEGACY, NULL, "fp16 is flat across 3 power caps"},
        {FINDING_LEGACY, NULL,
         "takes the memory at 9751 MHz; the same source shows it at 9501 MHz, which makes 912 GB/s"},
        {FINDING_LEGACY, NULL, "20 SM/CU are work-group processors"},
        {FINDING_LEGACY, NULL, "5 rows of printed figures without samples"},
    };
    struct check c;
    sluice_error err = {0};
    if (check_file(PAGE, &c, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(c.n_rows, 25);
    assert_int_equal(c.n_level[FINDING_WRONG], 0);
    assert_int_equal(c.n_level[FINDING_INVALID], 5);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        if (!found(&c, expected[i].level, expected[i].row, expected[i].part)) {
            fail_msg("not found: %s", expected[i].part);
        }
    }
    assert_false(found(&c, FINDING_LEGACY, NULL, "is not 1000 / decode")); /* that one holds on all rows */
    for (size_t i = 0; i < c.n; i++) {                                     /* the older build computed its prompt */
        assert_null(strstr(c.findings[i].text, "prefill 8274.9 tok/s is a prompt-cache hit"));
    }
    check_free(&c);
}

static void test_no_memory(void **state) {
    (void)state;
    static const char *const files[] = {VALID, PAGE};
    for (size_t f = 0; f < 2; f++) {
        size_t n;
        char *text = slurp(files[f], &n);
        sluice_status status = SLUICE_E_NOMEM;
        for (long nth = 1; status != SLUICE_OK; nth += nth < 20 ? 1 : 37) {
            struct check c;
            struct buf b = {0};
            sluice_error err = {0};
            mem_fail_nth(nth);
            status = check_memory("test.jsonl", text, n, &c, &err);
            if (status == SLUICE_OK) {
                check_report(&c, "p", FINDING_LEVELS - 1, &b);
                check_report_json(&c, "p", &b);
                status = b.failed ? SLUICE_E_NOMEM : SLUICE_OK;
                check_free(&c);
            } else {
                assert_true(status == SLUICE_E_NOMEM && err.text[0]);
            }
            mem_fail_nth(0);
            buf_free(&b);
            assert_true(nth < 1000000);
        }
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid), cmocka_unit_test(test_turns),        cmocka_unit_test(test_every_figure),
        cmocka_unit_test(test_rules), cmocka_unit_test(test_sample_moved), cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_page),  cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
