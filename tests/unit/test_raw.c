/* `raw`: options, figures and JSON on a tiny model with both kinds of backend. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tools/raw.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOE_MODEL TEST_DATA "/golden/peer/moe-Q4_K_M.gguf"

struct seen {
    uint32_t n, setups;
    uint64_t done, total;
    struct raw_result *last;
    struct buf names, json;
};

static void on_setup(void *ctx, const struct raw_setup *setup) {
    struct seen *s = ctx;
    s->setups++;
    assert_string_equal(setup->model, "moe-Q4_K_M.gguf");
    assert_string_equal(setup->architecture, "lfm2moe");
    assert_true(setup->n_threads >= 1 && setup->prefill_chunk >= 1);
}

static void on_result(void *ctx, const struct raw_setup *setup, const struct raw_result *result) {
    struct seen *s = ctx;
    s->n++;
    *s->last = *result;
    buf_printf(&s->names, "%s ", result->test);
    raw_result_json(&s->json, setup, result);
    buf_putc(&s->json, '\n');
}

static void on_progress(void *ctx, const char *test, uint64_t done, uint64_t total) {
    struct seen *s = ctx;
    assert_true(test && test[0]);
    assert_true(done > s->done && done <= total);
    s->done = done;
    s->total = total;
}

static struct seen seen_new(void) {
    struct seen s = {.last = malloc(sizeof *s.last)};
    assert_non_null(s.last);
    return s;
}

static void seen_free(struct seen *s) {
    free(s->last);
    buf_free(&s->names);
    buf_free(&s->json);
}

static sluice_status run(const struct raw_options *o, struct seen *s, sluice_error *err) {
    struct raw_callbacks c = {s, on_setup, on_result, on_progress};
    return raw_run(o, &c, err);
}

static struct raw_options base(const char *backend) {
    return (struct raw_options){
        .model_path = MOE_MODEL,
        .backend = backend,
        .n_threads = strcmp(backend, "ref") == 0 ? 0 : 1,
        .reps = 5,
        .warmups = 1,
        .seed = 1,
        .roof_seconds = 0.01,
        .prompt = {{8}, 1},
        .decode = {{3}, 1},
        .depth = {{0}, 1},
        .batch = {{1}, 1},
    };
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

/* One line: the shape of the contract, and figures that follow from each other. */
static void check_line(const char *line, size_t n) {
    struct json_tokener *tok = json_tokener_new();
    struct json_object *o = json_tokener_parse_ex(tok, line, (int)n);
    json_tokener_free(tok);
    assert_non_null(o);
    struct json_object *rate = get(o, "tok_s");
    struct json_object *samples = get(rate, "samples");
    struct json_object *ms = get(get(o, "ms"), "samples");
    double tokens = num(o, "n_tokens") * num(o, "batch");
    bool prefill = strncmp(json_object_get_string(get(o, "test")), "pp", 2) == 0;
    assert_int_equal(json_object_array_length(samples), 5);
    for (size_t i = 0; i < 5; i++) {
        double tok_s = json_object_get_double(json_object_array_get_idx(samples, i));
        double t = json_object_get_double(json_object_array_get_idx(ms, i));
        assert_true(fabs(tok_s - 1e3 * tokens / t) < 1e-2 * tok_s); /* t has four decimals */
    }
    assert_int_equal(json_object_array_length(get(rate, "ci95")), 2);
    /* bytes say nothing about prefill; of a batch they are known only where the backend counts */
    bool counted = !prefill && (num(o, "batch") <= 1 || get(o, "weight_bytes_per_step"));
    assert_int_equal(get(o, "gb_s") != NULL, counted);
    if (!prefill && !counted) {
        json_object_put(o);
        return;
    }
    double share = num(o, "roof_share");
    struct json_object *roof = get(o, "roof");
    assert_true(share > 0);
    if (prefill) {
        assert_true(fabs(share - num(o, "gop_s") / num(roof, "gop_s")) < 2e-2 * share + 1e-4);
    } else {
        double bytes = num(o, "weight_bytes_per_step") + num(o, "kv_bytes_per_step");
        double gb_s = bytes * num(rate, "median") / num(o, "batch") * 1e-9;
        assert_true(fabs(num(o, "gb_s") - gb_s) < 2e-2 * gb_s + 1e-3);
        assert_true(fabs(share - num(o, "gb_s") / num(roof, "gb_s")) < 2e-2 * share + 1e-3);
    }
    json_object_put(o);
}

static void check_backend(const char *backend) {
    struct raw_options o = base(backend);
    struct seen s = seen_new();
    sluice_error err = {0};
    o.depth = (struct raw_list){{0, 70}, 2};
    o.batch = (struct raw_list){{1, 3}, 2};
    if (run(&o, &s, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(s.setups, 1);
    assert_string_equal(s.names.data, "pp8 tg3 pp8@b3 tg3@b3 pp8@d70 tg3@d70 pp8@d70@b3 tg3@d70@b3 ");
    assert_int_equal(s.done, s.total);
    for (const char *p = s.json.data; *p;) {
        size_t n = strcspn(p, "\n");
        check_line(p, n);
        p += n + 1;
    }
    seen_free(&s);
}

static void test_backends(void **state) {
    (void)state;
    check_backend("ref");
    check_backend("cpu");
}

/* One row: the experts touched are those of one token. Three rows: more, but no more than three times as many. */
static void test_experts(void **state) {
    (void)state;
    struct raw_options o = base("ref");
    struct seen s = seen_new();
    o.prompt.n = 0;
    o.reps = 1;
    assert_int_equal(run(&o, &s, NULL), SLUICE_OK);
    double one = s.last->experts_step;
    assert_true(one > 0 && fabs(one - round(one)) < 1e-6);
    assert_false(s.last->rate.has_ci);
    s.done = 0;
    o.batch = (struct raw_list){{3}, 1};
    assert_int_equal(run(&o, &s, NULL), SLUICE_OK);
    assert_true(s.last->weight_bytes_step == 0 || (s.last->experts_step >= one && s.last->experts_step <= 3 * one));
    seen_free(&s);
}

static void test_errors(void **state) {
    (void)state;
    struct seen s = seen_new();
    sluice_error err;
    struct raw_options o = base("ref");
    o.prompt = (struct raw_list){{100000000}, 1};
    assert_int_equal(run(&o, &s, &err), SLUICE_E_LIMIT);
    assert_non_null(strstr(err.text, "context"));
    o = base("ref");
    o.prompt.n = o.decode.n = 0;
    assert_int_equal(run(&o, &s, &err), SLUICE_E_ARG);
    o = base("ref");
    o.batch = (struct raw_list){{0}, 1};
    assert_int_equal(run(&o, &s, &err), SLUICE_E_ARG);
    o = base("ref");
    o.reps = 0;
    assert_int_equal(run(&o, &s, &err), SLUICE_E_ARG);
    o = base("nothing");
    assert_int_equal(run(&o, &s, &err), SLUICE_E_ARG);
    o = base("ref");
    o.model_path = TEST_DATA "/no-such-file.gguf";
    assert_int_equal(run(&o, &s, &err), SLUICE_E_IO);
    assert_int_equal(s.n, 0);
    seen_free(&s);
}

static void test_lists(void **state) {
    (void)state;
    struct raw_list l;
    assert_true(raw_list_parse("512", &l));
    assert_int_equal(l.n, 1);
    assert_int_equal(l.v[0], 512);
    assert_true(raw_list_parse("0,1,4096", &l));
    assert_int_equal(l.n, 3);
    assert_int_equal(l.v[2], 4096);
    static const char *const bad[] = {"",       ",", "1,", ",1", "-1", "1x", "1,,2", " 1", "1 ", "99999999999999999999",
                                      "2097153"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(raw_list_parse(bad[i], &l));
    }
    assert_false(raw_list_parse("1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", &l));
}

static void test_names(void **state) {
    (void)state;
    char name[64];
    raw_test_name(RAW_PREFILL, 512, 0, 1, name);
    assert_string_equal(name, "pp512");
    raw_test_name(RAW_DECODE, 128, 4096, 1, name);
    assert_string_equal(name, "tg128@d4096");
    raw_test_name(RAW_DECODE, 128, 0, 4, name);
    assert_string_equal(name, "tg128@b4");
    raw_test_name(RAW_DECODE, 128, 64, 4, name);
    assert_string_equal(name, "tg128@d64@b4");
}

static void test_table(void **state) {
    (void)state;
    struct buf b = {0};
    struct raw_setup setup = {"m.gguf", "lfm2moe", "cpu", "a cpu", 5000000000, 8340000000, 962000000, 2, 512, 32, 4};
    struct raw_result *t = calloc(1, sizeof *t);
    assert_non_null(t);
    *t = (struct raw_result){.kind = RAW_DECODE, .test = "tg128@d4096@b256", .reps = 5};
    t->rate = (struct stats_summary){.n = 5, .median = 12345.67, .has_ci = true, .ci95 = {12345.67, 23456.78}};
    t->gb_s = 1234.5;
    t->roof = 2345.6;
    t->roof_kind = "read";
    t->roof_share = 0.5263;
    raw_table_head(&b, &setup);
    raw_table_row(&b, t);
    t->roof_kind = NULL;
    t->roof_share = t->gb_s = 0;
    raw_table_row(&b, t);
    assert_false(b.failed);
    assert_non_null(strstr(b.data, "8.34 billion parameters, 4.66 GiB, 962.0 MB of weights"));
    assert_non_null(strstr(b.data, "52.6% of 2345.6 GB/s read"));
    for (const char *p = b.data; *p; p += strcspn(p, "\n") + 1) {
        assert_true(strcspn(p, "\n") <= 100);
    }
    buf_free(&b);
    free(t);
}

/* Whatever allocation fails, the run ends with an error and leaves nothing behind (the sanitizer build sees leaks). */
static void test_no_memory(void **state) {
    (void)state;
    struct raw_options o = base("ref");
    struct seen s = seen_new();
    sluice_status status = SLUICE_E_NOMEM;
    o.reps = 5;
    for (long n = 1; status != SLUICE_OK; n += n < 40 ? 1 : 7) {
        struct raw_callbacks none = {0};
        mem_fail_nth(n);
        status = raw_run(&o, &none, NULL);
        mem_fail_nth(0);
        assert_true(n < 4000);
    }
    seen_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),     cmocka_unit_test(test_names),   cmocka_unit_test(test_table),
        cmocka_unit_test(test_errors),    cmocka_unit_test(test_experts), cmocka_unit_test(test_backends),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
