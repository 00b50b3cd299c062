#include "record/import.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "json/tree.h"
#include "record/check.h"
#include "record/figures.h"
#include "record/line.h"

#include <json-c/json.h>
#include <string.h>

const char *const import_format_names[IMPORT_FORMATS] = {
    "auto", "llama-bench-json", "llama-bench-sql", "vllm-bench-json", "aiperf-json", "page"};

/* The first 64 KiB hold what tells the formats apart. */
static bool mentions(const char *bytes, size_t n, const char *word) {
    return memmem(bytes, n < 65536 ? n : 65536, word, strlen(word)) != NULL;
}

static enum import_format detect(const char *bytes, size_t n) {
    size_t at = 0;
    while (at < n && strchr(" \t\r\n", bytes[at])) {
        at++;
    }
    char first = at < n ? bytes[at] : 0;
    if ((first == '[' || first == '{') && mentions(bytes, n, "\"build_commit\"")) {
        return IMPORT_LLAMA_BENCH_JSON;
    }
    if (first == '{' && mentions(bytes, n, "\"request_throughput\"") && mentions(bytes, n, "\"total_input_tokens\"")) {
        return IMPORT_VLLM_JSON;
    }
    if (first == '{' && (mentions(bytes, n, "\"aiperf_version\"") || mentions(bytes, n, "\"input_config\"") ||
                         mentions(bytes, n, "\"benchmark_phase\""))) {
        return IMPORT_AIPERF_JSON;
    }
    if (mentions(bytes, n, "INSERT INTO") && mentions(bytes, n, "build_commit")) {
        return IMPORT_LLAMA_BENCH_SQL;
    }
    return mentions(bytes, n, "All runs (") ? IMPORT_PAGE : IMPORT_AUTO;
}

/* ---- After the importer: figures from samples, deviations, verdicts ---------------------------------------------- */

static struct json_object *text_value(const char *text) {
    return json_object_new_string_len(text, (int)strlen(text));
}

/* Puts the row's metrics in, as the samples give them. */
static sluice_status fill_metrics(struct import *im, struct json_object *row, const struct figures *f) {
    static const struct json_tree_limits limits = {"the metrics", 4096, 256};
    struct buf b = {0};
    struct json_object *metrics = NULL;
    sluice_status status = SLUICE_OK;
    buf_putc(&b, '{');
    for (int i = 0; i < N_FIGURES && status == SLUICE_OK; i++) {
        struct stats_summary s;
        double p[LINE_PERCENTILES];
        if (f->of[i].n == 0) {
            continue;
        }
        if (!figures_summarise(&f->of[i], &s) || !line_percentiles(f->of[i].x, f->of[i].n, p)) {
            status = fail(im->err, SLUICE_E_NOMEM, "no memory for the figures of %s", im->name);
        } else {
            line_put_metric(&b, figure_names[i], &s, p);
        }
    }
    buf_putc(&b, '}');
    if (status == SLUICE_OK) {
        status = b.failed ? fail(im->err, SLUICE_E_NOMEM, "no memory for the figures of %s", im->name)
                          : json_tree_parse(b.data, b.len, &limits, false, &metrics, NULL, im->err);
    }
    buf_free(&b);
    if (status == SLUICE_OK && json_object_object_add(row, "metrics", metrics) != 0) {
        json_object_put(metrics);
        status = fail(im->err, SLUICE_E_NOMEM, "no memory for the figures of %s", im->name);
    }
    return status;
}

static sluice_status compute_rows(struct import *im, const struct record_run *run) {
    struct sample_index index;
    TRY(sample_index_make(run, &index, im->err));
    sluice_status status = SLUICE_OK;
    for (size_t i = 0; i < run->n_lines && status == SLUICE_OK && index.n; i++) {
        struct json_object *row = run->lines[i].tree;
        struct figures f;
        size_t n;
        if (run->lines[i].kind != RECORD_ROW) {
            continue;
        }
        struct json_object **samples = sample_index_find(&index, record_text(row, "row"), 0, &n);
        status = figures_compute(samples, n, record_is(row, "test", "raw"), &f, im->err);
        if (status == SLUICE_OK) {
            status = fill_metrics(im, row, &f);
            figures_free(&f);
        }
    }
    sample_index_free(&index);
    return status;
}

static struct record_line *line_of(const struct record *r, size_t number) {
    for (size_t i = 0; i < r->n_lines; i++) {
        if (r->lines[i].number == number) {
            return &r->lines[i];
        }
    }
    return NULL;
}

/* The end line of the record that holds that line. */
static struct record_line *end_of(const struct record *r, size_t number) {
    for (size_t i = 0; i < r->n_lines; i++) {
        if (r->lines[i].number > number && r->lines[i].kind == RECORD_END) {
            return &r->lines[i];
        }
    }
    return NULL;
}

static bool add_text(struct json_object *array, const char *text) {
    struct json_object *v = text_value(text);
    if (v && json_object_array_add(array, v) == 0) {
        return true;
    }
    json_object_put(v);
    return false;
}

static bool set(struct json_object *o, const char *key, const char *text) {
    struct json_object *v = text_value(text);
    if (v && json_object_object_add(o, key, v) == 0) {
        return true;
    }
    json_object_put(v);
    return false;
}

/* What check finds goes into the row, or, where it is about no row, to the reasons of the record's end. */
static bool keep_finding(const struct record *r, const struct finding *f) {
    struct record_line *l = line_of(r, f->line);
    if (!l || l->kind != RECORD_ROW) {
        l = end_of(r, f->line);
        return !l || add_text(record_path(l->tree, "verdict.reasons"), f->text);
    }
    bool ok = add_text(record_get(l->tree, "deviations"), f->text);
    if (ok && f->level == FINDING_INVALID) {
        struct json_object *verdict = record_get(l->tree, "verdict");
        ok = set(l->tree, "cache_state", "invalid") && set(l->tree, "cache_reason", f->text) &&
             set(verdict, "state", "invalid") && add_text(record_get(verdict, "reasons"), f->text);
    }
    return ok;
}

static sluice_status find_deviations(struct import *im, const struct record *r, struct import_summary *summary) {
    struct check c = {0};
    sluice_status status = check_record(r, &c, im->err);
    for (size_t i = 0; i < c.n && status == SLUICE_OK; i++) {
        if (c.findings[i].level == FINDING_WRONG) { /* a source that contradicts itself in its samples */
            status = fail(im->err, SLUICE_E_FORMAT, "%s: %s%s%s", im->name, c.findings[i].row ? c.findings[i].row : "",
                          c.findings[i].row ? ": " : "", c.findings[i].text);
        } else if (c.findings[i].level == FINDING_LEGACY || c.findings[i].level == FINDING_INVALID) {
            summary->n_deviations++;
            if (!keep_finding(r, &c.findings[i])) {
                status = fail(im->err, SLUICE_E_NOMEM, "no memory for the deviations of %s", im->name);
            }
        }
    }
    check_free(&c);
    return status;
}

static sluice_status write_lines(struct import *im, const struct record *r, struct record_writer *out) {
    struct buf b = {0};
    sluice_status status = SLUICE_OK;
    for (size_t i = 0; i < r->n_lines && status == SLUICE_OK; i++) {
        json_object_object_del(r->lines[i].tree, "prev"); /* the file that is written has a chain of its own */
        const char *text =
            json_object_to_json_string_ext(r->lines[i].tree, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        buf_reset(&b);
        buf_puts(&b, text ? text : "");
        status =
            text ? record_write(out, &b, im->err) : fail(im->err, SLUICE_E_NOMEM, "no memory to write %s", im->name);
    }
    buf_free(&b);
    return status;
}

static sluice_status finish(struct import *im, struct record_writer *out, struct import_summary *summary) {
    struct record *r = NULL;
    TRY(record_read_memory(im->name, im->text.data ? im->text.data : "", im->text.len, NULL, NULL, &r, im->err));
    sluice_status status = SLUICE_OK;
    for (size_t i = 0; i < r->n_records && status == SLUICE_OK; i++) {
        status = compute_rows(im, &r->records[i]);
    }
    if (status == SLUICE_OK) {
        status = find_deviations(im, r, summary);
    }
    summary->n_records = r->n_records;
    for (size_t i = 0; i < r->n_lines; i++) {
        summary->n_rows += r->lines[i].kind == RECORD_ROW;
        summary->n_samples += r->lines[i].kind == RECORD_SAMPLE;
    }
    if (status == SLUICE_OK) {
        status = write_lines(im, r, out);
    }
    record_free(r);
    return status;
}

static sluice_status run_importer(struct import *im, enum import_format format) {
    switch (format) {
    case IMPORT_LLAMA_BENCH_JSON:
        return import_llama_bench_json(im);
    case IMPORT_LLAMA_BENCH_SQL:
        return import_llama_bench_sql(im);
    case IMPORT_VLLM_JSON:
        return import_vllm(im);
    case IMPORT_AIPERF_JSON:
        return import_aiperf(im);
    case IMPORT_PAGE:
        im->source = "legacy";
        return import_page(im);
    default:
        return fail(
            im->err, SLUICE_E_FORMAT,
            "%s is in no format that can be imported (llama-bench's JSON or SQL, vllm bench serve's JSON, AIPerf's "
            "JSON, a results page); name it with --format",
            im->name);
    }
}

sluice_status import_memory(const char *name, const char *bytes, size_t n, const struct import_options *options,
                            struct record_writer *out, struct import_summary *summary, sluice_error *err) {
    *summary = (struct import_summary){.format = options->format ? options->format : detect(bytes, n)};
    struct import im = {.name = name,
                        .bytes = bytes,
                        .n = n,
                        .options = options,
                        .format = import_format_names[summary->format],
                        .source = "imported",
                        .err = err};
    sluice_status status = chain_init(&im.chain, err);
    if (status == SLUICE_OK) {
        status = chain_add(&im.chain, bytes, n, err); /* of the source: the chain of the lines starts anew below */
        memcpy(im.sha256, im.chain.prev, sizeof im.sha256);
        memset(im.chain.prev, '0', CHAIN_HEX);
    }
    if (status == SLUICE_OK) {
        status = run_importer(&im, summary->format);
    }
    if (status == SLUICE_OK) {
        status = finish(&im, out, summary);
    }
    chain_free(&im.chain);
    buf_free(&im.line);
    buf_free(&im.text);
    return status;
}

sluice_status import_file(const char *path, const struct import_options *options, struct record_writer *out,
                          struct import_summary *summary, sluice_error *err) {
    struct buf bytes = {0};
    sluice_status status = record_read_bytes(path, &bytes, err);
    if (status == SLUICE_OK) {
        const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
        status = import_memory(name, bytes.data ? bytes.data : "", bytes.len, options, out, summary, err);
    }
    buf_free(&bytes);
    return status;
}
