/* SQL for sqlite3, and one JSON document. */
#include "record/compare.h"
#include "record/export.h"

#include <json-c/json.h>
#include <math.h>
#include <string.h>

void export_sql_text(struct buf *out, const char *text) {
    if (!text) {
        buf_puts(out, "NULL");
        return;
    }
    buf_putc(out, '\'');
    for (const char *s = text; *s; s++) {
        if (*s == '\'') {
            buf_putc(out, '\'');
        }
        buf_putc(out, *s);
    }
    buf_putc(out, '\'');
}

static void put_number(struct buf *out, double v) {
    if (isnan(v)) {
        buf_puts(out, "NULL");
    } else {
        buf_printf(out, "%.17g", v);
    }
}

static const char schema[] =
    "PRAGMA foreign_keys=ON;\nBEGIN;\n"
    "CREATE TABLE IF NOT EXISTS runs (run INTEGER PRIMARY KEY, path TEXT NOT NULL, line INTEGER NOT NULL, id TEXT NOT "
    "NULL, "
    "date TEXT, label TEXT, suite TEXT, command TEXT, source TEXT NOT NULL, source_format TEXT, source_url TEXT, "
    "statistic TEXT, json TEXT NOT NULL);\n"
    "CREATE TABLE IF NOT EXISTS rows (row_id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs(run), line "
    "INTEGER NOT NULL";

/* Columns of runs that rows repeat are left out of them. */
static bool row_column(size_t i) {
    return i != 0 && i != 1 && i != 2 && i != 3 && i != 4 && i != 5;
}

static void put_schema(struct buf *out) {
    buf_puts(out, schema);
    for (size_t i = 0; i < EXPORT_COLUMNS; i++) {
        if (row_column(i)) {
            char type = export_columns[i].type;
            buf_printf(out, ", \"%s\" %s", export_columns[i].name,
                       type == 't'   ? "TEXT"
                       : type == 'n' ? "REAL"
                                     : "INTEGER");
        }
    }
    buf_puts(
        out,
        ", json TEXT NOT NULL);\n"
        "CREATE TABLE IF NOT EXISTS metrics (row_id INTEGER NOT NULL REFERENCES rows(row_id), name TEXT NOT NULL, "
        "printed INTEGER NOT NULL, n INTEGER, median REAL, lo REAL, hi REAL, level REAL, mean REAL, sd REAL, min REAL, "
        "max REAL, p50 REAL, p90 REAL, p95 REAL, p99 REAL, PRIMARY KEY (row_id, name));\n"
        "CREATE TABLE IF NOT EXISTS samples (sample_id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs(run), "
        "line INTEGER NOT NULL, \"row\" TEXT NOT NULL, target INTEGER NOT NULL, round INTEGER NOT NULL, "
        "stream INTEGER NOT NULL, warmup INTEGER NOT NULL, ok INTEGER NOT NULL, error TEXT, send_ms REAL, "
        "first_byte_ms REAL, first_token_ms REAL, first_content_ms REAL, last_token_ms REAL, end_ms REAL, "
        "prompt_tokens INTEGER, cached_tokens INTEGER, output_tokens INTEGER, reasoning_tokens INTEGER, finish "
        "TEXT);\n");
}

static const char *plain_json(struct json_object *o) {
    const char *s = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    return s ? s : "";
}

/* Every export continues the numbers that the database has, so that several can be loaded into one. */
#define LAST_RUN    "(SELECT max(run) FROM runs)"
#define LAST_ROW_ID "(SELECT max(row_id) FROM rows)"

static void put_run(const struct record *r, const struct record_run *run, struct buf *out) {
    static const char *const keys[] = {"id", "date", "label", "suite", "command"};
    struct json_object *t = run->lines[0].tree, *origin = record_get(t, "origin");
    buf_puts(out, "INSERT INTO runs (path, line, id, date, label, suite, command, source, source_format, source_url, "
                  "statistic, json) VALUES (");
    export_sql_text(out, r->path);
    buf_printf(out, ", %zu", run->lines[0].number);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        buf_puts(out, ", ");
        export_sql_text(out, record_text(t, keys[i]));
    }
    buf_puts(out, ", ");
    export_sql_text(out, record_text(origin, "source"));
    buf_puts(out, ", ");
    export_sql_text(out, record_text(origin, "format"));
    buf_puts(out, ", ");
    export_sql_text(out, record_text(origin, "url"));
    buf_puts(out, ", ");
    export_sql_text(out, record_text(t, "statistic"));
    buf_puts(out, ", ");
    export_sql_text(out, plain_json(t));
    buf_puts(out, ");\n");
}

static void put_metric(struct json_object *row, const char *name, struct buf *out) {
    static const char *const keys[] = {"mean", "sd", "min", "max", "p50", "p90", "p95", "p99"};
    struct row_value v = row_value(row, name);
    struct json_object *m = record_get(record_get(row, "metrics"), name);
    double parts[] = {v.median, v.lo, v.hi, v.level};
    if (isnan(v.median)) {
        return;
    }
    buf_puts(out, "INSERT INTO metrics VALUES (" LAST_ROW_ID ", ");
    export_sql_text(out, name);
    buf_printf(out, m ? ", 0, %zu" : ", 1, NULL", v.n);
    for (size_t i = 0; i < 4; i++) {
        buf_puts(out, ", ");
        put_number(out, parts[i]);
    }
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        buf_puts(out, ", ");
        put_number(out, record_number(m, keys[i]));
    }
    buf_puts(out, ");\n");
}

static void put_row(const struct record *r, const struct record_run *run, const struct record_line *l,
                    struct buf *out) {
    buf_puts(out, "INSERT INTO rows (run, line");
    for (size_t i = 0; i < EXPORT_COLUMNS; i++) {
        if (row_column(i)) {
            buf_printf(out, ", \"%s\"", export_columns[i].name);
        }
    }
    buf_printf(out, ", json) VALUES (" LAST_RUN ", %zu", l->number);
    for (size_t i = 0; i < EXPORT_COLUMNS; i++) {
        struct export_value v = export_value(r, run, l, i);
        if (!row_column(i)) {
            continue;
        }
        buf_puts(out, ", ");
        if (export_columns[i].type == 't') {
            export_sql_text(out, v.text);
        } else if (export_columns[i].type == 'n') {
            put_number(out, v.number);
        } else {
            buf_puts(out, v.truth < 0 ? "NULL" : v.truth ? "1" : "0");
        }
    }
    buf_puts(out, ", ");
    export_sql_text(out, plain_json(l->tree));
    buf_puts(out, ");\n");
    for (const char *const *name = row_metric_names; *name; name++) {
        put_metric(l->tree, *name, out);
    }
}

static void put_sample(const struct record_line *l, struct buf *out) {
    static const char *const times[] = {"send_ms",       "first_byte_ms",   "first_token_ms", "first_content_ms",
                                        "last_token_ms", "end_ms",          "prompt_tokens",  "cached_tokens",
                                        "output_tokens", "reasoning_tokens"};
    struct json_object *s = l->tree;
    buf_printf(
        out,
        "INSERT INTO samples (run, line, \"row\", target, round, stream, warmup, ok, error, send_ms, first_byte_ms, "
        "first_token_ms, first_content_ms, last_token_ms, end_ms, prompt_tokens, cached_tokens, output_tokens, "
        "reasoning_tokens, finish) VALUES (" LAST_RUN ", %zu, ",
        l->number);
    export_sql_text(out, record_text(s, "row"));
    buf_printf(out, ", %.0f, %.0f, %.0f, %d, %d, ", record_number(s, "target"), record_number(s, "run"),
               record_number(s, "stream"), record_true(s, "warmup"), record_true(s, "ok"));
    export_sql_text(out, record_text(s, "error"));
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        buf_puts(out, ", ");
        put_number(out, record_number(s, times[i]));
    }
    buf_puts(out, ", ");
    export_sql_text(out, record_text(s, "finish"));
    buf_puts(out, ");\n");
}

void export_sql(const struct record *const *records, size_t n, struct buf *out) {
    put_schema(out);
    for (size_t f = 0; f < n; f++) {
        for (size_t i = 0; i < records[f]->n_records; i++) {
            const struct record_run *run = &records[f]->records[i];
            put_run(records[f], run, out);
            for (size_t j = 0; j < run->n_lines; j++) {
                if (run->lines[j].kind == RECORD_ROW) {
                    put_row(records[f], run, &run->lines[j], out);
                } else if (run->lines[j].kind == RECORD_SAMPLE) {
                    put_sample(&run->lines[j], out);
                }
            }
        }
    }
    buf_puts(out, "COMMIT;\n");
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

/* {"records": [{"path", "run": {...}, "lines": [...]}]}: the lines as they are, in one document. */
void export_json(const struct record *const *records, size_t n, struct buf *out) {
    bool first = true;
    buf_puts(out, "{\"records\":[");
    for (size_t f = 0; f < n; f++) {
        for (size_t i = 0; i < records[f]->n_records; i++) {
            const struct record_run *run = &records[f]->records[i];
            buf_puts(out, first ? "{\"path\":" : ",\n{\"path\":");
            buf_json_string(out, records[f]->path, strlen(records[f]->path));
            buf_printf(out, ",\"run\":%s,\"lines\":[", plain_json(run->lines[0].tree));
            for (size_t j = 1; j < run->n_lines; j++) {
                buf_printf(out, "%s%s", j > 1 ? ",\n" : "", plain_json(run->lines[j].tree));
            }
            buf_puts(out, "]}");
            first = false;
        }
    }
    buf_puts(out, "]}\n");
}
