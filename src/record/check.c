#include "record/check.h"

#include "base/mem.h"
#include "base/status.h"
#include "record/figures.h"

#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const finding_level_names[FINDING_LEVELS] = {"wrong",      "invalid",     "noisy", "unqualified",
                                                         "unverified", "interrupted", "legacy"};

void check_add(struct check *c, enum finding_level level, size_t line, const char *row, const char *fmt, ...) {
    char text[1024];
    va_list args;
    c->n_level[level]++;
    if (c->n == CHECK_FINDINGS_MAX) {
        c->n_dropped++;
        return;
    }
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 32;
        struct finding *findings = mem_realloc(c->findings, cap * sizeof *findings);
        if (!findings) {
            c->failed = true;
            return;
        }
        c->findings = findings;
        c->cap = cap;
    }
    struct finding f = {.level = level, .line = line, .row = row ? mem_strdup(row) : NULL, .text = mem_strdup(text)};
    if (!f.text || (row && !f.row)) {
        mem_free(f.text);
        mem_free(f.row);
        c->failed = true;
        return;
    }
    c->findings[c->n++] = f;
}

void check_free(struct check *c) {
    for (size_t i = 0; i < c->n; i++) {
        mem_free(c->findings[i].row);
        mem_free(c->findings[i].text);
    }
    mem_free(c->findings);
    *c = (struct check){0};
}

/* ---- Rows and their keys ----------------------------------------------------------------------------------------- */

struct row_key {
    const char *row;
    int target;
    size_t line;
};

static int compare_keys(const void *pa, const void *pb) {
    const struct row_key *a = pa, *b = pb;
    int c = strcmp(a->row, b->row);
    c = c ? c : a->target - b->target;
    return c ? c : (a->line > b->line) - (a->line < b->line);
}

struct row_keys {
    struct row_key *keys;
    size_t n;
};

static sluice_status collect_keys(const struct record_run *run, struct row_keys *out, sluice_error *err) {
    *out = (struct row_keys){.n = 0};
    out->keys = mem_calloc(run->n_lines + 1, sizeof *out->keys);
    if (!out->keys) {
        return fail(err, SLUICE_E_NOMEM, "no memory to check the record");
    }
    for (size_t i = 0; i < run->n_lines; i++) {
        struct json_object *t = run->lines[i].tree;
        if (run->lines[i].kind == RECORD_ROW) {
            out->keys[out->n++] =
                (struct row_key){record_text(t, "row"), (int)record_number(t, "target"), run->lines[i].number};
        }
    }
    qsort(out->keys, out->n, sizeof *out->keys, compare_keys);
    return SLUICE_OK;
}

static bool has_key(const struct row_keys *k, const char *row, int target) {
    size_t lo = 0, hi = k->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(k->keys[mid].row, row);
        c = c ? c : k->keys[mid].target - target;
        if (c == 0) {
            return true;
        }
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return false;
}

/* Rows named once, samples that belong to a row, targets that exist. */
static sluice_status check_keys(struct check_context *x, bool whole) {
    struct row_keys keys;
    bool two = record_get(x->run->lines[0].tree, "targets") != NULL;
    TRY(collect_keys(x->run, &keys, x->err));
    for (size_t i = 1; i < keys.n; i++) {
        if (strcmp(keys.keys[i].row, keys.keys[i - 1].row) == 0 && keys.keys[i].target == keys.keys[i - 1].target) {
            check_add(x->check, FINDING_WRONG, keys.keys[i].line, keys.keys[i].row,
                      "the row stands twice in this record, in lines %zu and %zu", keys.keys[i - 1].line,
                      keys.keys[i].line);
        }
    }
    const char *told = "";
    for (size_t i = 0; i < x->run->n_lines; i++) {
        const struct record_line *l = &x->run->lines[i];
        if (l->kind != RECORD_SAMPLE && l->kind != RECORD_ROW) {
            continue;
        }
        const char *row = record_text(l->tree, "row");
        int target = (int)record_number(l->tree, "target");
        if (target == 1 && !two) {
            check_add(x->check, FINDING_WRONG, l->number, row, "target 1 is named, and the record has only one target");
        }
        if (whole && l->kind == RECORD_SAMPLE && strcmp(told, row) != 0 && !has_key(&keys, row, target)) {
            told = row;
            check_add(x->check, FINDING_WRONG, l->number, row,
                      "samples without a row, in a record that says that it is whole");
        }
    }
    mem_free(keys.keys);
    return SLUICE_OK;
}

/* ---- Lines of the other kinds ------------------------------------------------------------------------------------ */

static void check_end(struct check_context *x, const struct record_line *end, size_t rows, size_t samples) {
    struct check *c = x->check;
    if (!end) {
        check_add(c, FINDING_INTERRUPTED, x->run->lines[0].number, NULL,
                  "the record has no end line: the run was interrupted; its %zu samples count, rows may be missing",
                  samples);
        return;
    }
    if ((size_t)record_number(end->tree, "rows") != rows || (size_t)record_number(end->tree, "samples") != samples) {
        check_add(c, FINDING_WRONG, end->number, NULL,
                  "the end line says %.0f rows and %.0f samples; the record has %zu and %zu",
                  record_number(end->tree, "rows"), record_number(end->tree, "samples"), rows, samples);
    }
    if (record_true(end->tree, "interrupted")) {
        check_add(c, FINDING_INTERRUPTED, end->number, NULL, "the run was interrupted");
    }
}

static void check_run(struct check_context *x) {
    const struct record_line *l = &x->run->lines[0];
    struct json_object *origin = record_get(l->tree, "origin");
    bool measured = record_is(origin, "source", "measured");
    if (measured && (record_text(origin, "format") || record_text(origin, "url") || record_text(origin, "sha256"))) {
        check_add(x->check, FINDING_WRONG, l->number, NULL,
                  "origin names a source, and says that the record was measured here");
    }
    if (!measured && !record_text(origin, "format")) {
        check_add(x->check, FINDING_WRONG, l->number, NULL, "origin: an imported record names the format it came from");
    }
    for (size_t i = 0; i < x->run->n_lines; i++) {
        const struct record_line *row = &x->run->lines[i];
        bool printed = row->kind == RECORD_ROW && record_get(row->tree, "printed");
        if (measured && (printed || (row->kind == RECORD_ROW && record_get(row->tree, "deviations")))) {
            check_add(x->check, FINDING_WRONG, row->number, record_text(row->tree, "row"),
                      "a measured row has \"printed\" or \"deviations\", which belong to imported ones");
        }
    }
}

static sluice_status check_line(struct check_context *x, const struct record_line *l) {
    x->line = l;
    x->row = record_text(l->tree, "row");
    switch (l->kind) {
    case RECORD_PROBE:
        return check_probe(x);
    case RECORD_SAMPLE:
        check_sample(x);
        break;
    case RECORD_PAIR:
        check_pair(x);
        break;
    case RECORD_COMPARISON:
        return check_comparison(x);
    case RECORD_TRACE:
        check_trace(x);
        break;
    default:
        break;
    }
    return SLUICE_OK;
}

static sluice_status check_row(struct check_context *x, const struct record_line *l, const struct sample_index *index) {
    struct figures f;
    size_t n;
    x->line = l;
    x->row = record_text(l->tree, "row");
    struct json_object **samples = sample_index_find(index, x->row, (int)record_number(l->tree, "target"), &n);
    TRY(figures_compute(samples, n, record_is(l->tree, "test", "raw"), &f, x->err));
    sluice_status status = check_metrics(x, &f);
    if (status == SLUICE_OK) {
        check_row_rules(x, samples, n, &f);
    }
    figures_free(&f);
    return status;
}

static sluice_status check_run_lines(struct check_context *x, const struct sample_index *index) {
    size_t rows = 0;
    const struct record_line *end = record_find(x->run, RECORD_END);
    check_run(x);
    TRY(check_keys(x, end && !record_true(end->tree, "interrupted")));
    for (size_t i = 0; i < x->run->n_lines; i++) {
        const struct record_line *l = &x->run->lines[i];
        if (l->kind == RECORD_ROW) {
            rows++;
            TRY(check_row(x, l, index));
        } else {
            TRY(check_line(x, l));
        }
    }
    check_end(x, end, rows, index->n);
    x->check->n_rows += rows;
    x->check->n_samples += index->n;
    return SLUICE_OK;
}

static int compare_findings(const void *pa, const void *pb) {
    const struct finding *a = pa, *b = pb;
    int c = (a->line > b->line) - (a->line < b->line);
    return c ? c : (int)a->level - (int)b->level;
}

sluice_status check_record(const struct record *r, struct check *c, sluice_error *err) {
    sluice_status status = SLUICE_OK;
    for (size_t i = 0; i < r->n_records && status == SLUICE_OK; i++) {
        struct sample_index index;
        struct check_context x = {.check = c, .record = r, .run = &r->records[i], .err = err};
        TRY(sample_index_make(x.run, &index, err));
        status = check_run_lines(&x, &index);
        sample_index_free(&index);
        c->n_records++;
    }
    if (status == SLUICE_OK) {
        status = check_printed(r, c, err);
    }
    if (status == SLUICE_OK && c->failed) {
        status = fail(err, SLUICE_E_NOMEM, "no memory for what was found in %s", r->path);
    }
    if (c->n > 1) {
        qsort(c->findings, c->n, sizeof *c->findings, compare_findings);
    }
    return status;
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

struct problems {
    struct check *check;
    const char *path;
};

static void on_problem(void *ctx, size_t line, const char *text) {
    const struct problems *p = ctx;
    size_t n = strlen(p->path);
    if (strncmp(text, p->path, n) == 0 && text[n] == ',') { /* the report says file and line itself */
        const char *rest = strpbrk(text + n + 2, ",:");
        text = rest ? rest + 1 + (rest[1] == ' ') : text;
    }
    size_t before = p->check->n;
    check_add(p->check, FINDING_WRONG, line, NULL, "%s", text);
    if (p->check->n > before) {
        p->check->findings[before].form = true;
    }
}

static sluice_status finish(sluice_status status, struct record *r, struct check *out, sluice_error *err) {
    if (status == SLUICE_OK) {
        status = check_record(r, out, err);
    }
    record_free(r);
    if (status != SLUICE_OK) {
        check_free(out);
    }
    return status;
}

sluice_status check_file(const char *path, struct check *out, sluice_error *err) {
    struct record *r = NULL;
    struct problems p = {out, strcmp(path, "-") == 0 ? "standard input" : path};
    *out = (struct check){0};
    sluice_status status = record_read_all(path, on_problem, &p, &r, err);
    return finish(status, r, out, err);
}

sluice_status check_memory(const char *name, const char *bytes, size_t n, struct check *out, sluice_error *err) {
    struct record *r = NULL;
    struct problems p = {out, name};
    *out = (struct check){0};
    sluice_status status = record_read_memory(name, bytes, n, on_problem, &p, &r, err);
    return finish(status, r, out, err);
}

static const char *plural(size_t n) {
    return n == 1 ? "" : "s";
}

void check_report(const struct check *c, const char *path, enum finding_level up_to, struct buf *out) {
    size_t n = c->n_records == 0 && c->n > 1 ? 1 : c->n; /* of a file that is no record one line says so */
    for (size_t i = 0; i < n; i++) {
        const struct finding *f = &c->findings[i];
        if (f->level > up_to) {
            continue;
        }
        buf_printf(out, "%s:%zu: %s: ", path, f->line, finding_level_names[f->level]);
        if (f->row) {
            buf_printf(out, "%s: ", f->row);
        }
        buf_printf(out, "%s\n", f->text);
    }
    if (n < c->n) {
        buf_printf(out, "%s: holds no record; %zu more lines of it are not listed\n", path, c->n - n);
    } else if (c->n_dropped) {
        buf_printf(out, "%s: %zu more findings are not listed\n", path, c->n_dropped);
    }
    buf_printf(out, "%s: %s: %zu record%s, %zu row%s, %zu sample%s", path, c->n_level[FINDING_WRONG] ? "WRONG" : "ok",
               c->n_records, plural(c->n_records), c->n_rows, plural(c->n_rows), c->n_samples, plural(c->n_samples));
    for (int l = 0; l < FINDING_LEVELS; l++) {
        if (c->n_level[l]) {
            buf_printf(out, ", %zu %s", c->n_level[l], finding_level_names[l]);
        }
    }
    buf_putc(out, '\n');
}

static void put_text(struct buf *out, const char *key, const char *text) {
    buf_printf(out, "\"%s\":", key);
    if (text) {
        buf_json_string(out, text, strlen(text));
    } else {
        buf_puts(out, "null");
    }
}

void check_report_json(const struct check *c, const char *path, struct buf *out) {
    buf_putc(out, '{');
    put_text(out, "path", path);
    buf_printf(out, ",\"ok\":%s,\"records\":%zu,\"rows\":%zu,\"samples\":%zu,\"counts\":{",
               c->n_level[FINDING_WRONG] ? "false" : "true", c->n_records, c->n_rows, c->n_samples);
    for (int l = 0; l < FINDING_LEVELS; l++) {
        buf_printf(out, "%s\"%s\":%zu", l ? "," : "", finding_level_names[l], c->n_level[l]);
    }
    buf_puts(out, "},\"findings\":[");
    for (size_t i = 0; i < c->n; i++) {
        const struct finding *f = &c->findings[i];
        buf_printf(out, "%s{\"line\":%zu,", i ? "," : "", f->line);
        put_text(out, "level", finding_level_names[f->level]);
        buf_printf(out, ",\"form\":%s,", f->form ? "true" : "false");
        put_text(out, "row", f->row);
        buf_putc(out, ',');
        put_text(out, "text", f->text);
        buf_putc(out, '}');
    }
    buf_puts(out, "]}");
}
