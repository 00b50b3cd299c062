/* Reading records: what is valid, and one sentence with file, line and field for whatever is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/mem.h"
#include "record_lines.h"

#include <unistd.h>

#define VALID TEST_DATA "/unit/data/record.jsonl"

static void expect_error(const char *bytes, size_t n, const char *part) {
    struct record *r = NULL;
    sluice_error err = {0};
    assert_int_not_equal(record_read_memory("test.jsonl", bytes, n, NULL, NULL, &r, &err), SLUICE_OK);
    assert_null(r);
    if (!strstr(err.text, part) || !strstr(err.text, "test.jsonl")) {
        fail_msg("\"%s\" says neither the file nor \"%s\"", err.text, part);
    }
}

static void expect_text_error(const struct lines *l, const char *part) {
    struct buf b = {0};
    lines_text(l, &b);
    expect_error(b.data, b.len, part);
    buf_free(&b);
}

static void test_valid(void **state) {
    (void)state;
    struct record *r;
    sluice_error err = {0};
    if (record_read(VALID, &r, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(r->n_records, 2);
    assert_int_equal(r->lines[0].number, 1);
    assert_int_equal(r->records[1].lines[0].kind, RECORD_RUN);
    const struct record_line *row = record_find(&r->records[0], RECORD_ROW);
    assert_non_null(row);
    assert_string_equal(record_text(row->tree, "row"), "agent/c1/cold");
    assert_string_equal(record_text(record_target(&r->records[0], row->tree), "engine"), "sluice");
    assert_null(record_find(&r->records[0], RECORD_PAIR));
    record_free(r);
}

enum { KEYS_MAX = 64 };

/* Every member of every line, missing and with a value of another type: refused with its name. */
static void flip(struct lines *l, struct json_object *o, const char *path) {
    static const char *const optional[] = {"target",   "targets", "template_tokens", "windows", "other_limit",
                                           "left_out", NULL};
    char *keys[KEYS_MAX]; /* the table changes below */
    size_t n = 0;
    json_object_object_foreach(o, name, unused) {
        (void)unused;
        assert_true(n < KEYS_MAX);
        keys[n++] = strdup(name);
    }
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = NULL;
        char where[256];
        const char *part = strcmp(keys[i], "kind") == 0 ? "kind" : where;
        bool may_miss = strcmp(path, "metrics") == 0;
        json_object_object_get_ex(o, keys[i], &v);
        snprintf(where, sizeof where, "%s%s%s", path, path[0] ? "." : "", keys[i]);
        for (const char *const *known = optional; *known; known++) {
            may_miss |= strcmp(*known, keys[i]) == 0;
        }
        if (json_object_is_type(v, json_type_object) && strcmp(keys[i], "series") != 0) {
            flip(l, v, where);
        }
        json_object_get(v);
        json_object_object_del(o, keys[i]);
        if (!may_miss) {
            expect_text_error(l, part);
        }
        bool was_list = json_object_is_type(v, json_type_array);
        json_object_object_add(o, keys[i], was_list ? json_object_new_int(5) : json_object_new_array());
        expect_text_error(l, part);
        json_object_object_add(o, keys[i], v);
        free(keys[i]);
    }
}

static void test_flip_fields(void **state) {
    (void)state;
    struct lines l = lines_load(VALID);
    for (size_t i = 0; i < l.n; i++) {
        struct json_object *row = NULL;
        bool sample = json_object_object_get_ex(l.tree[i], "chunks", &row);
        if (!sample || i == lines_find(&l, "sample", NULL)) { /* they are all alike */
            flip(&l, l.tree[i], "");
        }
    }
    lines_free(&l);
}

static void test_unknown_key(void **state) {
    (void)state;
    struct lines l = lines_load(VALID);
    lines_set(&l, 0, "environment.hostname", "\"x\"");
    expect_text_error(&l, "line 1, environment.hostname: records have no such key");
    lines_free(&l);
}

static void test_values(void **state) {
    (void)state;
    static const struct {
        const char *kind, *path, *json, *part;
    } cases[] = {
        {"run", "version", "3", "version 3; this program reads version 2"},
        {"run", "schema", "\"sluice-bench\"", "schema: \"sluice-bench\" is none of"},
        {"run", "id", "\"00112233AABBCCDD\"", "id: 16 hexadecimal"},
        {"run", "date", "\"22.11.2026\"", "date: a date such as"},
        {"run", "date", "\"2026-11-22T19:30:00.Z\"", "date: a date such as"},
        {"run", "origin.source", "\"guessed\"", "origin.source: \"guessed\" is none of: measured, imported, legacy"},
        {"run", "environment.memory_total", "1.5", "environment.memory_total: a whole number or null is expected"},
        {"run", "environment.memory_total", "-1", "environment.memory_total: a value below zero"},
        {"run", "environment.memory_total", "1e300", "environment.memory_total: a whole number beyond 2^53"},
        {"run", "label", "\"a\\u0000b\"", "label: a text holds"},
        {"probe", "device", "\"gpu\"", "device: cpu, gpu0"},
        {"sample", "target", "2", "target: 2 is more than 1"},
        {"sample", "token_ms", "[1,\"x\"]", "token_ms[1]: a number is expected, not a text"},
        {"sample", "prompt_sha256", "\"abc\"", "prompt_sha256: a SHA-256"},
        {"row", "metrics.ttft_ms.interval", "[1]", "metrics.ttft_ms.interval: a list of 1 values"},
        {"row", "metrics.ttft", "null", "metrics.ttft: records have no such key"},
        {"row", "quality.top1_agreement", "1.01", "quality.top1_agreement: 1.01 is more than 1"},
        {"row", "verdict.state", "\"good\"", "verdict.state"},
        {"trace", "series.UPPER", "[]", "series.UPPER: a name has only the letters"},
        {"end", "kind", "\"stop\"", "kind: there is no kind of line \"stop\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lines l = lines_load(VALID);
        lines_set(&l, lines_find(&l, cases[i].kind, NULL), cases[i].path, cases[i].json);
        expect_text_error(&l, cases[i].part);
        lines_free(&l);
    }
    struct lines l = lines_load(VALID); /* target and targets: one of them */
    lines_set(&l, 0, "targets", "[]");
    expect_text_error(&l, "targets: a list of 0 values; 2 are expected");
    json_object_object_del(l.tree[0], "targets");
    json_object_object_del(l.tree[0], "target");
    expect_text_error(&l, "either \"target\" or \"targets\"");
    lines_free(&l);
}

static void test_text(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "is empty"},
        {"\n", "line 1: an empty line"},
        {"{", "line 1: "},
        {"{}\n", "line 1: the line has no \"kind\""},
        {"[]\n", "line 1 does not begin with '{'"},
        {"{\"kind\":1}\n", "no \"kind\""},
        {"{\"kind\":\"end\",\"kind\":\"end\"}\n", "line 1"},
        {"{\"kind\":\"\xFF\"}\n", "UTF-8"},
        {"{\"kind\":\"end\"}x\n", "something follows"},
        {"{\"kind\":\"end\",\"a\":1e999}\n", "no such key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_error(cases[i].text, strlen(cases[i].text), cases[i].part);
    }
    struct buf deep = {0};
    buf_puts(&deep, "{\"kind\":");
    for (int i = 0; i < 100000; i++) {
        buf_putc(&deep, '[');
    }
    buf_putc(&deep, '\n');
    expect_error(deep.data, deep.len, "nests deeper");
    buf_reset(&deep);
    for (size_t i = 0; i <= LIMIT_RECORD_LINE; i++) {
        buf_putc(&deep, ' ');
    }
    buf_putc(&deep, '\n');
    expect_error(deep.data, deep.len, "longer than");
    buf_reset(&deep);
    buf_puts(&deep, "{\"kind\":[0");
    for (size_t i = 0; i < LIMIT_RECORD_VALUES; i++) {
        buf_puts(&deep, ",0");
    }
    buf_puts(&deep, "]}\n");
    expect_error(deep.data, deep.len, "JSON values");
    buf_free(&deep);
}

/* Cut anywhere, with any byte changed, the file is refused or, at the end of a line, an interrupted record. */
static void test_cut_and_changed(void **state) {
    (void)state;
    size_t n;
    char *text = slurp(VALID, &n);
    for (size_t cut = 1; cut < n; cut += 97) {
        struct record *r = NULL;
        sluice_error err = {0};
        sluice_status s = record_read_memory("test.jsonl", text, cut, NULL, NULL, &r, &err);
        assert_int_equal(s == SLUICE_OK, text[cut - 1] == '\n');
        record_free(r);
    }
    for (size_t at = 0; at < n; at += 61) { /* the last line has no successor that names its hash */
        char old = text[at];
        struct record *r = NULL;
        sluice_error err = {0};
        bool last = memchr(text + at, '\n', n - at) == text + n - 1;
        text[at] = old == '1' ? '2' : '1';
        assert_true(record_read_memory("test.jsonl", text, n, NULL, NULL, &r, &err) != SLUICE_OK || last);
        record_free(r);
        text[at] = old;
    }
    free(text);
}

static void test_chain(void **state) {
    (void)state;
    struct lines l = lines_load(VALID);
    struct buf b = {0};
    lines_text(&l, &b);
    char *second = strchr(b.data, '\n') + 1, *third = strchr(second, '\n') + 1;
    expect_error(second, b.len - (size_t)(second - b.data), "line 1, prev: the first line of a file has 64 zeros");
    struct buf dropped = {0};
    buf_append(&dropped, b.data, (size_t)(second - b.data));
    buf_append(&dropped, third, b.len - (size_t)(third - b.data));
    expect_error(dropped.data, dropped.len, "line 2, prev: the chain is broken: line 1 is not the line");
    buf_free(&dropped);
    buf_free(&b);
    lines_free(&l);
}

static void test_order(void **state) {
    (void)state;
    struct lines l = lines_load(VALID);
    struct lines only = {{l.tree[1]}, 1};
    expect_text_error(&only, "\"probe\" before any \"run\" line");
    size_t end = lines_find(&l, "end", NULL);
    struct lines after = {{l.tree[0], l.tree[end], l.tree[1]}, 3};
    expect_text_error(&after, "\"probe\" after the record's \"end\" line");
    lines_free(&l);
}

/* All problems at once: a wrong line is left out, the rest is read. */
static void count_problem(void *ctx, size_t line, const char *text) {
    assert_true(line > 0);
    assert_non_null(strstr(text, "test.jsonl"));
    ++*(int *)ctx;
}

static void test_problems(void **state) {
    (void)state;
    struct lines l = lines_load(VALID);
    struct buf b = {0};
    struct record *r;
    sluice_error err = {0};
    int problems = 0;
    lines_set(&l, 1, "seconds", "\"x\"");
    lines_set(&l, 4, "ok", "1");
    lines_text(&l, &b);
    assert_int_equal(record_read_memory("test.jsonl", b.data, b.len, count_problem, &problems, &r, &err), SLUICE_OK);
    assert_int_equal(problems, 2);
    assert_int_equal(r->n_lines, l.n - 2);
    record_free(r);
    problems = 0; /* a wrong run line: its lines belong to no record */
    lines_set(&l, 0, "tool", "1");
    lines_text(&l, &b);
    assert_int_equal(record_read_memory("test.jsonl", b.data, b.len, count_problem, &problems, &r, &err), SLUICE_OK);
    assert_int_equal(problems, 3);
    assert_int_equal(r->n_records, 1);
    record_free(r);
    buf_free(&b);
    lines_free(&l);
}

static void test_no_memory(void **state) {
    (void)state;
    size_t n;
    char *text = slurp(VALID, &n);
    sluice_status status = SLUICE_E_NOMEM;
    for (long nth = 1; status != SLUICE_OK; nth += nth < 40 ? 1 : 13) {
        struct record *r = NULL;
        sluice_error err = {0};
        mem_fail_nth(nth);
        status = record_read_memory("test.jsonl", text, n, NULL, NULL, &r, &err);
        mem_fail_nth(0);
        assert_true(status == SLUICE_OK || (status == SLUICE_E_NOMEM && err.text[0]));
        record_free(r);
        assert_true(nth < 100000);
    }
    free(text);
    struct record *r;
    sluice_error err = {0};
    assert_int_equal(record_read("/nowhere/record.jsonl", &r, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "/nowhere/record.jsonl"));
    assert_int_equal(record_read("/", &r, &err), SLUICE_E_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),     cmocka_unit_test(test_flip_fields), cmocka_unit_test(test_unknown_key),
        cmocka_unit_test(test_values),    cmocka_unit_test(test_text),        cmocka_unit_test(test_cut_and_changed),
        cmocka_unit_test(test_chain),     cmocka_unit_test(test_order),       cmocka_unit_test(test_problems),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
