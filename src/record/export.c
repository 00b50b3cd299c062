#include "record/export.h"

#include "record/compare.h"

#include <json-c/json.h>
#include <math.h>
#include <string.h>

const char *const export_format_names[EXPORT_FORMATS] = {"csv", "md", "sql", "json"};

void export_records(const struct record *const *records, size_t n, enum export_format format, struct buf *out) {
    static void (*const forms[EXPORT_FORMATS])(const struct record *const *, size_t,
                                               struct buf *) = {export_csv, export_md, export_sql, export_json};
    forms[format](records, n, out);
}

/* ---- Columns ----------------------------------------------------------------------------------------------------- */

const struct export_column export_columns[EXPORT_COLUMNS] = {
    {"record", 't', 'R', "id"},
    {"date", 't', 'R', "date"},
    {"label", 't', 'R', "label"},
    {"source", 't', 'o', "source"},
    {"source_url", 't', 'o', "url"},
    {"suite", 't', 'R', "suite"},
    {"engine", 't', 't', "engine"},
    {"build", 't', 't', "build"},
    {"device_api", 't', 't', "device_api"},
    {"model", 't', 't', "model"},
    {"model_sha256", 't', 'f', "sha256"},
    {"quantization", 't', 'f', "quantization"},
    {"hardware", 't', 'h', NULL},
    {"driver", 't', 'g', "driver"},
    {"power_cap_w", 'n', 'r', "power_cap_w"},
    {"row", 't', 'r', "row"},
    {"target", 'n', 'r', "target"},
    {"test", 't', 'r', "test"},
    {"workload", 't', 'r', "workload"},
    {"cache", 't', 'r', "cache"},
    {"cache_state", 't', 'r', "cache_state"},
    {"concurrency", 'n', 'r', "concurrency"},
    {"arrival", 't', 'r', "arrival"},
    {"rate_rps", 'n', 'r', "rate_rps"},
    {"depth", 'n', 'r', "depth"},
    {"batch", 'n', 'r', "batch"},
    {"max_tokens", 'n', 'r', "max_tokens"},
    {"natural_stop", 'b', 'r', "natural_stop"},
    {"runs", 'n', 'r', "runs"},
    {"failed", 'n', 'r', "failed"},
    {"batching", 't', 'r', "batching"},
    {"limit_share", 'n', 'l', "share"},
    {"j_per_output_token", 'n', 'e', "j_per_output_token"},
    {"qualified", 'b', 'q', "qualified"},
    {"verdict", 't', 'v', "state"},
};

static struct json_object *place(const struct record_run *run, struct json_object *row, char object) {
    struct json_object *top = run->lines[0].tree;
    switch (object) {
    case 'r':
        return row;
    case 'R':
        return top;
    case 'o':
        return record_get(top, "origin");
    case 't':
        return record_target(run, row);
    case 'f':
        return record_get(top, "model_file");
    case 'g':
        return row_gpu(run, record_target(run, row));
    case 'l':
        return record_get(row, "limit");
    case 'e':
        return record_get(row, "energy");
    case 'q':
        return record_get(row, "quality");
    default:
        return record_get(row, "verdict");
    }
}

struct export_value export_value(const struct record *r, const struct record_run *run, const struct record_line *row,
                                 size_t column) {
    (void)r;
    struct export_value v = {NULL, NAN, -1};
    if (export_columns[column].object == 'h') {
        const char *name = row_hardware(run, row->tree);
        v.text = name[0] ? name : NULL;
        return v;
    }
    struct json_object *o = place(run, row->tree, export_columns[column].object);
    const char *key = export_columns[column].key;
    struct json_object *member = record_get(o, key);
    v.text = record_text(o, key);
    v.number = record_number(o, key);
    v.truth = json_object_is_type(member, json_type_boolean) ? json_object_get_boolean(member) : -1;
    return v;
}

/* ---- CSV --------------------------------------------------------------------------------------------------------- */

/* Spreadsheets take a cell that begins with one of these for a formula; an apostrophe before it makes it text. */
static bool is_formula(char c) {
    return c == '=' || c == '+' || c == '-' || c == '@' || c == '\t' || c == '\r' || c == '\n';
}

void export_csv_cell(struct buf *out, const char *text) {
    bool quoted = strpbrk(text, ",\"\r\n") || text[0] == ' ' || text[0] == '\t';
    buf_puts(out, quoted ? "\"" : "");
    if (is_formula(text[0])) {
        buf_putc(out, '\'');
    }
    for (const char *s = text; *s; s++) {
        if (*s == '"') {
            buf_putc(out, '"');
        }
        buf_putc(out, *s);
    }
    buf_puts(out, quoted ? "\"" : "");
}

static void put_number(struct buf *out, double v) {
    if (!isnan(v)) {
        buf_printf(out, "%.9g", v);
    }
}

static void csv_value(struct buf *out, const struct export_column *c, const struct export_value *v) {
    if (c->type == 'n') {
        put_number(out, v->number);
    } else if (c->type == 'b') {
        buf_puts(out, v->truth < 0 ? "" : v->truth ? "true" : "false");
    } else if (v->text) {
        export_csv_cell(out, v->text);
    }
}

static void csv_row(const struct record *r, const struct record_run *run, const struct record_line *l,
                    struct buf *out) {
    for (size_t i = 0; i < EXPORT_COLUMNS; i++) {
        struct export_value v = export_value(r, run, l, i);
        buf_puts(out, i ? "," : "");
        csv_value(out, &export_columns[i], &v);
    }
    for (const char *const *name = row_metric_names; *name; name++) {
        struct row_value v = row_value(l->tree, *name);
        double parts[] = {v.median, v.lo, v.hi, v.level};
        for (size_t i = 0; i < 4; i++) {
            buf_putc(out, ',');
            put_number(out, parts[i]);
        }
        buf_printf(out, isnan(v.median) ? "," : ",%zu", v.n);
    }
    buf_puts(out, "\r\n");
}

void export_csv_header(struct buf *out) {
    for (size_t i = 0; i < EXPORT_COLUMNS; i++) {
        buf_printf(out, "%s%s", i ? "," : "", export_columns[i].name);
    }
    for (const char *const *name = row_metric_names; *name; name++) {
        buf_printf(out, ",%s,%s_lo,%s_hi,%s_level,%s_n", *name, *name, *name, *name, *name);
    }
    buf_puts(out, "\r\n");
}

void export_csv_rows(const struct record *r, struct buf *out) {
    for (size_t i = 0; i < r->n_records; i++) {
        const struct record_run *run = &r->records[i];
        for (size_t j = 0; j < run->n_lines; j++) {
            if (run->lines[j].kind == RECORD_ROW) {
                csv_row(r, run, &run->lines[j], out);
            }
        }
    }
}

void export_csv(const struct record *const *records, size_t n, struct buf *out) {
    export_csv_header(out);
    for (size_t f = 0; f < n; f++) {
        export_csv_rows(records[f], out);
    }
}

/* ---- Markdown ---------------------------------------------------------------------------------------------------- */

void export_md_cell(struct buf *out, const char *text) {
    for (const char *s = text; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7F) {
            buf_putc(out, ' ');
            continue;
        }
        if (strchr("\\|`*_[]<>~#&!", *s)) {
            buf_putc(out, '\\');
        }
        buf_putc(out, *s);
    }
}

/* Four digits, or all that stand before the point. */
static void md_number(struct buf *out, double v) {
    buf_printf(out, fabs(v) >= 1000 ? "%.0f" : "%.4g", v);
}

static void md_value(struct buf *out, struct json_object *row, const char *metric) {
    struct row_value v = row_value(row, metric);
    buf_puts(out, " | ");
    if (isnan(v.median)) {
        buf_puts(out, "-");
        return;
    }
    md_number(out, v.median);
    if (!isnan(v.lo)) {
        buf_puts(out, " (");
        md_number(out, v.lo);
        buf_puts(out, " to ");
        md_number(out, v.hi);
        buf_puts(out, ")");
    }
}

static void md_share(struct buf *out, double share) {
    buf_puts(out, " | ");
    if (isnan(share)) {
        buf_puts(out, "-");
    } else {
        buf_printf(out, "%.1f%%", 100 * share);
    }
}

static void md_row(const struct record_run *run, const struct record_line *l, struct buf *out) {
    struct json_object *row = l->tree, *target = record_target(run, row);
    const char *label = record_text(run->lines[0].tree, "label"), *engine = record_text(target, "engine");
    const char *build = record_text(target, "build"), *model = record_text(target, "model");
    const char *cells[] = {label, model, row_hardware(run, row)};
    const char *rate = record_is(row, "test", "raw") ? "tok_s" : "decode_tok_s";
    double cap = record_number(row, "power_cap_w"),
           joules = record_number(record_get(row, "energy"), "j_per_output_token");
    buf_puts(out, "|");
    for (size_t i = 0; i < 3; i++) {
        buf_puts(out, i ? " | " : " ");
        export_md_cell(out, cells[i] && cells[i][0] ? cells[i] : "-");
    }
    if (!isnan(cap)) {
        buf_printf(out, ", %g W", cap);
    }
    buf_puts(out, " | ");
    bool named = engine && build && strncmp(build, engine, strlen(engine)) == 0; /* "sluice 0.1.0" says it already */
    export_md_cell(out, engine && !named ? engine : named ? "" : "-");
    buf_puts(out, build && !named ? " " : "");
    export_md_cell(out, build ? build : "");
    buf_puts(out, " | ");
    export_md_cell(out, record_text(row, "row"));
    md_value(out, row, rate);
    md_value(out, row, "prefill_tok_s");
    md_value(out, row, "ttft_ms");
    md_value(out, row, "latency_ms");
    md_value(out, row, "aggregate_tok_s");
    md_share(out, record_number(record_get(row, "limit"), "share"));
    buf_printf(out, isnan(joules) ? " | -" : " | %.4g", joules);
    buf_printf(out, " | %s | %s | %s |\n", record_text(row, "cache_state") ? record_text(row, "cache_state") : "-",
               record_true(record_get(row, "quality"), "qualified") ? "yes" : "no",
               record_text(record_get(row, "verdict"), "state"));
}

void export_md(const struct record *const *records, size_t n, struct buf *out) {
    buf_puts(out,
             "| label | model | hardware | engine | row | decode or raw tok/s | prefill tok/s | TTFT ms | latency ms | "
             "aggregate tok/s | of the limit | J/token | cache | qualified | verdict |\n"
             "|---|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---|---|---|\n");
    for (size_t f = 0; f < n; f++) {
        for (size_t i = 0; i < records[f]->n_records; i++) {
            const struct record_run *run = &records[f]->records[i];
            for (size_t j = 0; j < run->n_lines; j++) {
                if (run->lines[j].kind == RECORD_ROW) {
                    md_row(run, &run->lines[j], out);
                }
            }
        }
    }
    buf_puts(out, "\nMedians, with the interval of the median in brackets where there are five values or more.\n");
}
