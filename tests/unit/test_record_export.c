/* Comparing rows and writing them in other forms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "record/compare.h"
#include "record/export.h"
#include "record_lines.h"

#define VALID TEST_DATA "/unit/data/record.jsonl"
#define PAGE  REPO_DIR "/bench/results/legacy-lfm2-8b-a1b-page.jsonl"

static struct record *read_lines(const struct lines *l) {
    struct buf b = {0};
    struct record *r;
    sluice_error err = {0};
    lines_text(l, &b);
    if (record_read_memory("test.jsonl", b.data, b.len, NULL, NULL, &r, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    buf_free(&b);
    return r;
}

/* The first row of the valid record, and the same with one member changed: differences by class, and the rank. */
static void expect(const char *kind, const char *path, const char *json, const char *workload, const char *stack,
                   const char *hardware, const char *why) {
    struct lines a = lines_load(VALID), b = lines_load(VALID);
    lines_set(&b, lines_find(&b, kind, NULL), path, json);
    struct record *ra = read_lines(&a), *rb = read_lines(&b);
    struct compare_table t = {0};
    struct buf out = {0};
    const char *const want[COMPARE_CLASSES] = {workload, stack, hardware};
    assert_int_equal(compare_add(&t, ra, NULL), SLUICE_OK);
    size_t second = t.n;
    assert_int_equal(compare_add(&t, rb, NULL), SLUICE_OK);
    for (int c = 0; c < COMPARE_CLASSES; c++) {
        buf_reset(&out);
        compare_differences(&t.rows[0], &t.rows[second], (enum compare_class)c, &out);
        const char *got = out.len ? out.data : "";
        if (want[c][0] ? !strstr(got, want[c]) : got[0]) {
            fail_msg("%s: %s differs in \"%s\", not \"%s\"", path, compare_class_names[c], got, want[c]);
        }
        bool same = strcmp(t.rows[0].key[c], t.rows[second].key[c]) == 0;
        assert_int_equal(same, !want[c][0]);
    }
    bool rank = compare_may_rank(&t.rows[0], &t.rows[second], &out);
    if (rank != (why == NULL) || (why && !strstr(out.data, why))) {
        fail_msg("%s: \"%s\" is said, not \"%s\"", path, out.len ? out.data : "", why ? why : "");
    }
    buf_free(&out);
    compare_free(&t);
    record_free(ra);
    record_free(rb);
    lines_free(&a);
    lines_free(&b);
}

static void test_keys(void **state) {
    (void)state;
    expect("run", "label", "\"another name\"", "", "", "", NULL);
    expect("run", "environment.load1", "3", "", "", "", NULL);
    expect("run", "sampling.temperature", "0.0", "", "", "", NULL); /* 0 is 0.0 */
    expect("run", "sampling.temperature", "0.5", "sampling", "sampling", "sampling", "not the same work: sampling");
    expect("run", "model_file.sha256", "null", "model", "model", "model", "not the same work: model");
    expect("row", "concurrency", "2", "concurrency (1, 2)", "concurrency", "concurrency", "concurrency (1, 2)");
    expect("row", "natural_stop", "true", "natural_stop", "natural_stop", "natural_stop", "natural_stop (false, true)");
    expect("row", "metrics.prompt_tokens.median", "601", "prompt_tokens (600, 601)", "prompt_tokens", "prompt_tokens",
           "prompt_tokens");
    expect("run", "target.build", "\"0.2.0\"", "", "build (0.1.0, 0.2.0)", "build", NULL);
    expect("run", "target.device_api", "\"cuda\"", "", "device_api (cpu, cuda)", "device (Test CPU, Test GPU)", NULL);
    expect("run", "target.device_api", "null", "", "device_api (cpu, unknown)", "power_cap (unknown, 700)", NULL);
    expect("run", "target.command_line", "null", "", "command_line (sluice serve --slots 2, unknown)", "command_line",
           NULL);
    expect("row", "power_cap_w", "350", "", "", "power_cap (unknown, 350)",
           NULL); /* a GPU's limit is not the processor's */
    expect("run", "environment.cpu", "\"Other CPU\"", "", "", "device (Test CPU, Other CPU)", NULL);
    expect("run", "environment.gpus", "[]", "", "", "", NULL); /* of a row on the processor */
    expect("run", "environment.memory_total", "17179869184", "", "", "memory (3.43597384e+10", NULL);
    expect("row", "verdict.state", "\"invalid\"", "", "", "", "this row is invalid");
    expect("row", "cache_state", "\"unverified\"", "", "", "", "cache state that nobody verified");
    expect("row", "cache", "\"unknown\"", "cache (cold, unknown)", "cache", "cache", "nobody verified");
    expect("row", "quality.qualified", "false", "", "", "", "only the other row has measured quality");
}

/* The same file gives the same keys, whatever the machine and the order of the members. */
static void test_stable(void **state) {
    (void)state;
    struct lines l = lines_load(VALID);
    struct record *r = read_lines(&l);
    struct compare_table t = {0};
    assert_int_equal(compare_add(&t, r, NULL), SLUICE_OK);
    struct compare_row first = t.rows[0];
    struct json_object *seed = json_object_new_int(1);
    struct json_object *sampling = NULL;
    json_object_object_get_ex(l.tree[0], "sampling", &sampling);
    json_object_object_del(sampling, "seed"); /* now the last of its members */
    json_object_object_add(sampling, "seed", seed);
    struct record *again = read_lines(&l);
    struct compare_table u = {0};
    assert_int_equal(compare_add(&u, again, NULL), SLUICE_OK);
    for (int c = 0; c < COMPARE_CLASSES; c++) {
        assert_string_equal(first.key[c], u.rows[0].key[c]);
        assert_int_equal(strlen(first.key[c]), COMPARE_KEY_HEX);
    }
    assert_string_not_equal(first.key[0], first.key[1]);
    assert_string_equal(first.key[COMPARE_WORKLOAD], "377ff1328c16d395");
    compare_free(&t);
    compare_free(&u);
    record_free(r);
    record_free(again);
    lines_free(&l);
}

static void test_report(void **state) {
    (void)state;
    struct record *page, *valid;
    struct compare_table t = {0};
    struct buf b = {0};
    struct compare_options o = {0};
    assert_int_equal(record_read(PAGE, &page, NULL), SLUICE_OK);
    assert_int_equal(record_read(VALID, &valid, NULL), SLUICE_OK);
    assert_int_equal(compare_add(&t, valid, NULL), SLUICE_OK);
    assert_int_equal(compare_add(&t, valid, NULL), SLUICE_OK);
    assert_int_equal(compare_add(&t, page, NULL), SLUICE_OK);
    assert_int_equal(compare_report(&t, &o, &b, NULL), SLUICE_OK);
    assert_non_null(strstr(b.data, "x1.000 of "));
    assert_non_null(strstr(b.data, "hardware comparable"));
    assert_non_null(strstr(b.data, "not ranked: this row is invalid"));
    assert_non_null(strstr(b.data, "439.9 as printed"));
    buf_reset(&b);
    o.json = true;
    assert_int_equal(compare_report(&t, &o, &b, NULL), SLUICE_OK);
    struct json_object *all = json_tokener_parse(b.data);
    assert_true(json_object_is_type(all, json_type_array) && json_object_array_length(all) > 5);
    json_object_put(all);
    buf_free(&b);
    compare_free(&t);
    record_free(page);
    record_free(valid);
}

static void test_cells(void **state) {
    (void)state;
    static const struct {
        const char *text, *csv, *md, *sql;
    } cases[] = {
        {"plain", "plain", "plain", "'plain'"},
        {"a,b", "\"a,b\"", "a,b", "'a,b'"},
        {"say \"x\"", "\"say \"\"x\"\"\"", "say \"x\"", "'say \"x\"'"},
        {"=1+2", "'=1+2", "=1+2", "'=1+2'"},
        {"+1", "'+1", "+1", "'+1'"},
        {"-1,2", "\"'-1,2\"", "-1,2", "'-1,2'"},
        {"@SUM(A1)", "'@SUM(A1)", "@SUM(A1)", "'@SUM(A1)'"},
        {"\t=1", "\"'\t=1\"", " =1", "'\t=1'"},
        {"it's", "it's", "it's", "'it''s'"},
        {"'); DROP TABLE runs;--", "'); DROP TABLE runs;--", "'); DROP TABLE runs;--", "'''); DROP TABLE runs;--'"},
        {"a|b<c>\n*d*", "\"a|b<c>\n*d*\"", "a\\|b\\<c\\> \\*d\\*", "'a|b<c>\n*d*'"},
        {"", "", "", "''"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        export_csv_cell(&b, cases[i].text);
        assert_string_equal(b.data ? b.data : "", cases[i].csv);
        buf_reset(&b);
        export_md_cell(&b, cases[i].text);
        assert_string_equal(b.data ? b.data : "", cases[i].md);
        buf_reset(&b);
        export_sql_text(&b, cases[i].text);
        assert_string_equal(b.data, cases[i].sql);
        buf_free(&b);
    }
}

/* Cells of a line of CSV, with quotes as RFC 4180 has them; *s is moved behind the line. */
static size_t csv_cells(const char **s) {
    size_t cells = 1;
    bool quoted = false;
    for (; **s; ++*s) {
        if (**s == '"') {
            quoted = !quoted;
        } else if (!quoted && **s == ',') {
            cells++;
        } else if (!quoted && **s == '\r') {
            assert_int_equal((*s)[1], '\n');
            *s += 2;
            return cells;
        }
    }
    fail_msg("a line without its end");
    return 0;
}

static void test_forms(void **state) {
    (void)state;
    struct record *r[2];
    struct buf b = {0};
    assert_int_equal(record_read(VALID, &r[0], NULL), SLUICE_OK);
    assert_int_equal(record_read(PAGE, &r[1], NULL), SLUICE_OK);
    const struct record *const all[2] = {r[0], r[1]};
    export_records(all, 2, EXPORT_CSV, &b);
    assert_false(b.failed);
    size_t lines = 0, cells = 0;
    for (const char *s = b.data; *s; lines++) {
        size_t n = csv_cells(&s);
        assert_true(lines == 0 || n == cells);
        cells = n;
    }
    assert_int_equal(lines, 1 + 4 + 25);
    buf_reset(&b);
    export_records(all, 2, EXPORT_MD, &b);
    assert_non_null(
        strstr(b.data, "| a \"label\", with commas | LFM2-mini | Test CPU | sluice 0.1.0 | agent/c1/cold | "));
    buf_reset(&b);
    export_records(all, 2, EXPORT_JSON, &b);
    struct json_object *o = json_tokener_parse(b.data), *records = NULL;
    assert_true(json_object_object_get_ex(o, "records", &records));
    assert_int_equal(json_object_array_length(records), 7);
    json_object_put(o);
    buf_free(&b);
    for (int f = 0; f < EXPORT_FORMATS; f++) { /* out of memory: the buffer says so */
        for (long nth = 1; nth < 8; nth++) {
            mem_fail_nth(nth);
            export_records(all, 2, (enum export_format)f, &b);
            mem_fail_nth(0);
            assert_true(b.failed || b.len > 0);
            buf_free(&b);
        }
    }
    record_free(r[0]);
    record_free(r[1]);
}

static void test_no_memory(void **state) {
    (void)state;
    struct record *r;
    assert_int_equal(record_read(VALID, &r, NULL), SLUICE_OK);
    sluice_status s = SLUICE_E_NOMEM;
    for (long nth = 1; s != SLUICE_OK; nth++) {
        struct compare_table t = {0};
        struct compare_options o = {.json = nth % 2};
        struct buf b = {0};
        sluice_error err = {0};
        mem_fail_nth(nth);
        s = compare_add(&t, r, &err);
        if (s == SLUICE_OK) {
            s = compare_report(&t, &o, &b, &err);
        }
        mem_fail_nth(0);
        assert_true(s == SLUICE_OK || (s == SLUICE_E_NOMEM && err.text[0]));
        buf_free(&b);
        compare_free(&t);
        assert_true(nth < 10000);
    }
    record_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),  cmocka_unit_test(test_stable), cmocka_unit_test(test_report),
        cmocka_unit_test(test_cells), cmocka_unit_test(test_forms),  cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
