/* Importers, on files written for these tests in the formats of the tools and versions that their names say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "record/import.h"
#include "record_lines.h"

#include <math.h>
#include <unistd.h>

#define DATA TEST_DATA "/unit/data/import/"

static struct import_summary summary;

/* Imports a file and reads what was written; the record is right by check's rules. */
static struct record *import(const char *file, enum import_format expected) {
    char path[] = "/tmp/sluice-import-XXXXXX";
    int fd = mkstemp(path);
    struct record_writer *w;
    struct record *r = NULL;
    struct check c;
    sluice_error err = {0};
    struct import_options options = {.url = "http://127.0.0.1/x"};
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(record_writer_open(path, false, &w, &err), SLUICE_OK);
    if (import_file(file, &options, w, &summary, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(record_writer_close(w, &err), SLUICE_OK);
    assert_int_equal(summary.format, expected);
    if (record_read(path, &r, &err) != SLUICE_OK || check_file(path, &c, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    if (c.n_level[FINDING_WRONG]) {
        fail_msg("%s", wrong_text(&c));
    }
    check_free(&c);
    unlink(path);
    return r;
}

static struct json_object *row(const struct record *r, size_t record, const char *key) {
    for (size_t i = 0; i < r->records[record].n_lines; i++) {
        const struct record_line *l = &r->records[record].lines[i];
        if (l->kind == RECORD_ROW && record_is(l->tree, "row", key)) {
            return l->tree;
        }
    }
    fail_msg("no row %s", key);
    return NULL;
}

static double median(struct json_object *o, const char *metric) {
    return record_number(record_get(record_get(o, "metrics"), metric), "median");
}

static bool near(double a, double b) {
    return fabs(a - b) < 1e-6 * fabs(b) + 1e-9;
}

static bool deviates(struct json_object *o, const char *part) {
    struct json_object *list = record_get(o, "deviations");
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        if (strstr(json_object_get_string(json_object_array_get_idx(list, i)), part)) {
            return true;
        }
    }
    return false;
}

static void test_llama_bench(void **state) {
    (void)state;
    struct record *r = import(DATA "llama-bench-b9174.json", IMPORT_LLAMA_BENCH_JSON);
    struct json_object *run = r->records[0].lines[0].tree, *pp = row(r, 0, "pp512"), *tg = row(r, 0, "tg128@d4096");
    assert_int_equal(r->n_records, 1);
    assert_int_equal(summary.n_samples, 7);
    assert_true(near(median(pp, "tok_s"), 512 / 0.0505));
    assert_true(near(record_number(record_get(record_get(pp, "metrics"), "tok_s"), "mean"), 10201.084600));
    assert_true(near(median(tg, "tok_s"), 320));
    assert_int_equal((int)record_number(tg, "depth"), 4096);
    assert_true(deviates(tg, "prints avg_ts = 999.0, and its samples give 320"));
    assert_false(deviates(pp, "avg_ts"));
    assert_string_equal(record_text(run, "date"), "2026-05-21T10:00:00Z");
    assert_string_equal(record_text(record_get(run, "target"), "build"), "1a2b3c4 (9174)");
    assert_non_null(strstr(record_text(record_get(run, "target"), "command_line"), "type_k=f16"));
    assert_string_equal(record_text(record_get(run, "model_file"), "name"), "test-8B-A1B-Q4_K_M.gguf");
    assert_string_equal(record_text(record_get(run, "model_file"), "quantization"), "8B.A1B Q4_K - Medium");
    record_free(r);

    r = import(DATA "llama-bench-b9174.sql", IMPORT_LLAMA_BENCH_SQL);
    assert_int_equal(r->n_records, 2); /* the batch size differs */
    pp = row(r, 1, "pp512");
    assert_true(isnan(median(pp, "tok_s")));
    assert_string_equal(record_text(record_get(pp, "printed"), "avg_ts"), "1024.000000");
    assert_string_equal(record_text(record_path(r->lines[0].tree, "model_file"), "name"), "it's a model.gguf");
    record_free(r);
}

static void test_vllm(void **state) {
    (void)state;
    struct record *r = import(DATA "vllm-bench-0.21-detailed.json", IMPORT_VLLM_JSON);
    struct json_object *o = row(r, 0, "vllm-bench/c2");
    assert_int_equal(summary.n_samples, 4);
    assert_true(near(median(o, "ttft_ms"), 60));
    assert_true(near(median(o, "tpot_ms"), 11));
    assert_int_equal((int)record_number(o, "failed"), 1);
    assert_string_equal(record_text(o, "error"), "HTTP 503");
    assert_true(record_is(o, "cache_state", "unverified"));
    assert_false(deviates(o, "median_ttft_ms"));
    assert_true(deviates(o, "prints mean_tpot_ms = 12.4, and its samples give 11.44"));
    record_free(r);

    r = import(DATA "vllm-bench-0.11-summary.json", IMPORT_VLLM_JSON);
    o = row(r, 0, "vllm-bench/rate4");
    assert_true(record_is(o, "arrival", "poisson"));
    assert_true(near(record_number(o, "rate_rps"), 4));
    assert_string_equal(record_text(record_get(o, "printed"), "median_ttft_ms"), "30.25");
    assert_false(deviates(o, "the source prints"));
    record_free(r);
}

static void test_aiperf(void **state) {
    (void)state;
    struct record *r = import(DATA "aiperf-0.13-records.jsonl", IMPORT_AIPERF_JSON);
    struct json_object *o = row(r, 0, "aiperf");
    assert_int_equal(summary.n_samples, 4);
    assert_true(near(median(o, "ttft_ms"), 55)); /* 50 ms and 0.06 s; the warm-up and the failure do not count */
    assert_true(near(median(o, "latency_ms"), 95));
    assert_int_equal((int)record_number(o, "failed"), 1);
    assert_string_equal(record_text(o, "error"), "Request was cancelled");
    record_free(r);

    r = import(DATA "aiperf-schema-1.5-summary.json", IMPORT_AIPERF_JSON);
    o = row(r, 0, "aiperf/c4");
    assert_string_equal(record_text(record_get(o, "printed"), "time_to_first_token.p50"), "50.5");
    assert_string_equal(record_text(record_path(r->lines[0].tree, "target"), "model"), "LiquidAI/LFM2-8B-A1B");
    record_free(r);
}

static void test_page(void **state) {
    (void)state;
    struct record *r = import(DATA "page.txt", IMPORT_PAGE);
    struct json_object *run = r->records[0].lines[0].tree, *gpu;
    assert_int_equal(r->n_records, 2);
    assert_int_equal(summary.n_rows, 5);
    assert_true(record_is(record_get(run, "origin"), "source", "legacy"));
    assert_true(record_is(record_get(run, "origin"), "url", "http://127.0.0.1/x"));
    gpu = json_object_array_get_idx(record_path(run, "environment.gpus"), 0);
    assert_int_equal((int)record_number(gpu, "pcie_width"), 8);
    assert_int_equal((int)record_number(gpu, "clock_mem_mhz"), 4000);
    assert_int_equal((int)record_number(gpu, "sms"), 40);
    assert_true(near(record_number(gpu, "memory_bytes"), 8.0 * 1073741824));
    assert_string_equal(record_text(gpu, "cuda"), "12.0");
    const struct record_line *end = record_find(&r->records[0], RECORD_END);
    assert_true(near(record_number(record_get(end->tree, "noise"), "peak_c"), 60));
    struct json_object *agent = row(r, 0, "agent/c1");
    assert_true(record_is(agent, "cache_state", "invalid"));
    assert_true(record_is(record_get(agent, "verdict"), "state", "invalid"));
    assert_true(deviates(agent, "prompt-cache hit"));
    assert_true(deviates(row(r, 0, "agent/c4"), "queued, not batched"));
    assert_true(record_is(row(r, 1, "agent/c1"), "cache_state", "unverified"));
    record_free(r);
}

static void expect_error(const char *bytes, enum import_format format, const char *part) {
    struct record_writer *w;
    struct import_options options = {.format = format};
    sluice_error err = {0};
    assert_int_equal(record_writer_open("/dev/null", false, &w, &err), SLUICE_OK);
    sluice_status s = import_memory("src", bytes, strlen(bytes), &options, w, &summary, &err);
    if (s == SLUICE_OK || !strstr(err.text, part) || !strstr(err.text, "src")) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
    }
    (void)record_writer_close(w, NULL);
}

static void test_wrong_sources(void **state) {
    (void)state;
    expect_error("", IMPORT_AUTO, "no format that can be imported");
    expect_error("hello", IMPORT_AUTO, "no format that can be imported");
    expect_error("[{\"build_commit\":\"x\"}]", IMPORT_AUTO, "test 1: build_commit, n_prompt and n_gen");
    expect_error("[]", IMPORT_LLAMA_BENCH_JSON, "holds no test");
    expect_error("[{\"build_commit\":\"x\",\"n_prompt\":5,\"n_gen\":0,\"samples_ns\":[-1]}]", IMPORT_AUTO,
                 "samples_ns[0] of pp5");
    expect_error("[{\"build_commit\":", IMPORT_AUTO, "src");
    expect_error("INSERT INTO t (build_commit) VALUES ('x'", IMPORT_LLAMA_BENCH_SQL, "byte 40");
    expect_error("INSERT INTO t () VALUES ();", IMPORT_LLAMA_BENCH_SQL, "INSERT INTO table");
    expect_error("{\"x\":1}", IMPORT_VLLM_JSON, "\"duration\" and \"completed\"");
    expect_error("{\"x\":1}", IMPORT_AIPERF_JSON, "no metric block");
    expect_error("All runs (1)\n", IMPORT_PAGE, "is no results page");
    expect_error("x\nAll runs (1)\nEnvironment\n", IMPORT_PAGE, "said to have 1 rows and has 0");
    expect_error("x\nAll runs (1)\n| a | b |\nEnvironment\n", IMPORT_PAGE, "line 3: a row of 18 columns");
    expect_error("\xFF", IMPORT_PAGE, "not UTF-8");
}

/* Cut anywhere, a source is imported in part or refused, and nothing leaks. */
static void test_cut(void **state) {
    (void)state;
    static const char *const files[] = {"llama-bench-b9174.json", "llama-bench-b9174.sql",
                                        "vllm-bench-0.21-detailed.json", "aiperf-0.13-records.jsonl", "page.txt"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[512];
        size_t n;
        snprintf(path, sizeof path, DATA "%s", files[i]);
        char *text = slurp(path, &n);
        for (size_t cut = 0; cut < n; cut += 31) {
            struct record_writer *w;
            struct import_options options = {.format = IMPORT_AUTO};
            sluice_error err = {0};
            char *part = malloc(cut ? cut : 1); /* exactly as long, so that a sanitizer sees reads behind it */
            memcpy(part, text, cut);
            assert_int_equal(record_writer_open("/dev/null", false, &w, &err), SLUICE_OK);
            sluice_status s = import_memory("src", part, cut, &options, w, &summary, &err);
            assert_true(s == SLUICE_OK || err.text[0]);
            (void)record_writer_close(w, NULL);
            free(part);
        }
        for (long nth = 1;; nth += nth < 30 ? 1 : 29) {
            struct record_writer *w;
            struct import_options options = {.format = IMPORT_AUTO};
            sluice_error err = {0};
            assert_int_equal(record_writer_open("/dev/null", false, &w, &err), SLUICE_OK);
            mem_fail_nth(nth);
            sluice_status s = import_memory("src", text, n, &options, w, &summary, &err);
            mem_fail_nth(0);
            (void)record_writer_close(w, NULL);
            assert_true(s == SLUICE_OK || (s == SLUICE_E_NOMEM && err.text[0]));
            if (s == SLUICE_OK) {
                break;
            }
        }
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_bench), cmocka_unit_test(test_vllm),          cmocka_unit_test(test_aiperf),
        cmocka_unit_test(test_page),        cmocka_unit_test(test_wrong_sources), cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
