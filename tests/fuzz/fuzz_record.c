/*
 * Records and other tools' results from anyone. The first byte of an input says what the rest is:
 *
 *   0     a record: read, checked, compared, written in every form, and made rows of a report
 *   1..5  a source in the format of that number, imported; what comes out is a record without an error of form
 */
#include "base/mem.h"
#include "json/tree.h"
#include "record/check.h"
#include "record/compare.h"
#include "record/export.h"
#include "record/import.h"
#include "report/report_impl.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(bool ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "violated: %s\n", what);
        abort();
    }
}

static void on_problem(void *ctx, size_t line, const char *text) {
    require(line > 0 && text[0], "every problem has a line and a sentence");
    ++*(size_t *)ctx;
}

static void check_one(const char *s, size_t n) {
    struct check c;
    struct buf b = {0};
    sluice_error err = {0};
    if (check_memory("fuzz", s, n, &c, &err) != SLUICE_OK) {
        require(err.text[0], "every refusal says why");
        return;
    }
    check_report(&c, "fuzz", FINDING_LEVELS - 1, &b);
    buf_reset(&b);
    check_report_json(&c, "fuzz", &b);
    check_free(&c);
    buf_free(&b);
}

static void require_json(const struct buf *b) {
    const struct json_tree_limits limits = {"report", UINT32_MAX, UINT32_MAX};
    struct json_object *tree = NULL;
    require(!b->failed && json_tree_parse(b->data, b->len, &limits, true, &tree, NULL, NULL) == SLUICE_OK,
            "the report's data are JSON");
    json_object_put(tree);
}

static void put_rows(struct report *r) {
    struct row_list rows;
    struct buf b = {0};
    require(table_finish(&r->table, NULL) == SLUICE_OK, "every table ends");
    require(table_select(&r->table, -1, -1, ORDER_RATE, &rows, NULL) == SLUICE_OK, "every table has an order");
    require(table_json(&r->table, &rows, true, &b, NULL) == SLUICE_OK, "every table has its data");
    require_json(&b);
    buf_reset(&b);
    buf_putc(&b, '{');
    require(table_compared_json(&r->table, &rows, &b, NULL) == SLUICE_OK, "every row has what it is compared by");
    buf_putc(&b, '}');
    require_json(&b);
    buf_reset(&b);
    plain_rows(r, &(struct plain_rows){.rows = &rows, .most = SIZE_MAX, .root = "./"}, &b);
    require(!b.failed && !strstr(b.data, "<script"), "no text is markup");
    buf_free(&b);
    row_list_free(&rows);
}

static void report_rows(const struct record *record, const struct compare_table *compared) {
    struct report r = {.interactive = true};
    struct check c = {0};
    const struct compare_row *next = compared->rows;
    require(check_record(record, &c, NULL) == SLUICE_OK, "every record can be checked");
    for (size_t i = 0; i < record->n_records; i++) {
        require(table_add(&r.table, 0, &record->records[i], &c, next, NULL) == SLUICE_OK, "every run has its rows");
        next += r.table.runs[i].n_rows;
    }
    put_rows(&r);
    check_free(&c);
    table_free(&r.table);
}

static void use_record(const char *s, size_t n) {
    struct record *r = NULL;
    size_t problems = 0;
    struct compare_table t = {0};
    struct buf b = {0};
    check_one(s, n);
    if (record_read_memory("fuzz", s, n, on_problem, &problems, &r, NULL) != SLUICE_OK) {
        return;
    }
    const struct record *const all[1] = {r};
    for (int f = 0; f < EXPORT_FORMATS; f++) {
        buf_reset(&b);
        export_records(all, 1, (enum export_format)f, &b);
    }
    require(compare_add(&t, r, NULL) == SLUICE_OK, "every record has keys");
    report_rows(r, &t);
    for (int json = 0; json < 2; json++) {
        struct compare_options o = {.json = json};
        buf_reset(&b);
        require(compare_report(&t, &o, &b, NULL) == SLUICE_OK, "every record can be compared");
    }
    compare_free(&t);
    buf_free(&b);
    record_free(r);
}

static void use_source(const char *s, size_t n, enum import_format format) {
    struct record_writer *w = NULL;
    struct import_options options = {.format = format};
    struct import_summary summary;
    sluice_error err = {0};
    require(record_writer_open("/dev/null", false, &w, &err) == SLUICE_OK, "/dev/null can be written");
    if (import_memory("fuzz", s, n, &options, w, &summary, &err) != SLUICE_OK) {
        require(err.text[0], "every refusal says why");
        /* the importers name every key: what they write is a record, or their own fault */
        require(!strstr(err.text, "no such key") && !strstr(err.text, "the key is missing"), "an import has all keys");
    }
    (void)record_writer_close(w, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    const char *s = (const char *)data + 1;
    unsigned what = data[0] % (IMPORT_FORMATS);
    if (what == 0) {
        use_record(s, size - 1);
    } else {
        use_source(s, size - 1, (enum import_format)what);
    }
    return 0;
}
