#include "report/report_impl.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/status.h"
#include "record/export.h"
#include "record/line.h"
#include "report/slug.h"
#include "report/sources.h"
#include "web/web.h"

#include <stdio.h>
#include <string.h>

/* Of the work, for the progress bar: what happens record by record; of that, reading and parsing; of the rest, checking. */
#define RECORDS_SHARE 0.85
#define READ_SHARE    0.4
#define CHECK_SHARE   0.25

/* ---- What pages share -------------------------------------------------------------------------------------------- */

void report_put_site(struct buf *out) {
    line_open(out, "site", '{');
    line_put_uint(out, "contract", 1);
    line_put_text(out, "tool", "sluice " SLUICE_VERSION);
    line_close(out, '}');
}

void report_put_file(const struct report *r, const struct report_file *f, struct buf *out) {
    buf_putc(out, '{');
    line_put_text(out, "href", texts_get(&r->table.texts, f->href));
    line_put_text(out, "sha256", f->sha256);
    line_put_uint(out, "bytes", f->bytes);
    line_put_uint(out, "runs", f->runs);
    line_put_uint(out, "rows", f->rows);
    line_put_uint(out, "samples", f->samples);
    line_put_uint(out, "wrong", f->wrong);
    line_put_uint(out, "findings_left_out", f->left_out);
    buf_putc(out, '}');
}

static sluice_status put_file(struct report *r, const char *path, struct buf *b) {
    sluice_status status = b->failed ? fail(r->err, SLUICE_E_NOMEM, "no memory for %s of the report", path)
                                     : site_put(r->site, path, b->data ? b->data : "", b->len, r->err);
    buf_free(b);
    return status;
}

sluice_status report_put_page(struct report *r, const char *path, struct buf *html) {
    r->n_pages++;
    return put_file(r, path, html);
}

sluice_status report_put_script(struct report *r, const char *name, struct buf *json) {
    char path[160];
    struct buf b = {0};
    snprintf(path, sizeof path, "data/%s.js", name);
    script_data(&b, name, json);
    buf_free(json);
    return put_file(r, path, &b);
}

static sluice_status go_on(struct report *r, double share) {
    const struct report_options *o = r->options;
    if (o->progress) {
        o->progress(o->progress_ctx, (unsigned)(1000 * share));
    }
    return o->stop && *o->stop ? fail(r->err, SLUICE_E_CANCELLED, "interrupted; %s is as it was", o->folder)
                               : SLUICE_OK;
}

/* ---- One record file --------------------------------------------------------------------------------------------- */

static sluice_status find_lines(const struct buf *bytes, struct file_lines *out, sluice_error *err) {
    size_t n = 0;
    *out = (struct file_lines){.bytes = bytes->data};
    for (size_t i = 0; i < bytes->len; i++) {
        n += bytes->data[i] == '\n';
    }
    out->start = mem_alloc((n + 1) * sizeof *out->start);
    if (!out->start) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the lines of a record");
    }
    out->start[0] = 0;
    for (size_t i = 0; i < bytes->len; i++) {
        if (bytes->data[i] == '\n') {
            out->start[++out->n] = i + 1;
        }
    }
    return SLUICE_OK;
}

/* The copy's name is that of the record, with a number behind it where another has it already. */
static sluice_status name_copy(struct report *r, struct report_file *f) {
    for (unsigned k = 1;; k++) {
        struct buf b = {0};
        buf_puts(&b, "records/");
        slug_put_file(&b, strcmp(f->path, "-") == 0 ? "standard-input" : f->path);
        size_t n = b.len;
        if (n > 6 && strcmp(b.data + n - 6, ".jsonl") == 0) {
            b.len = n - 6;
        }
        if (k > 1) {
            buf_printf(&b, "-%u", k);
        }
        buf_puts(&b, ".jsonl");
        bool taken = false;
        for (size_t i = 0; i < r->n_files && !b.failed; i++) {
            const char *other = texts_get(&r->table.texts, r->files[i].href);
            taken = taken || (other && strcasecmp(other, b.data) == 0);
        }
        if (!taken) {
            f->href = b.failed ? 0 : texts_add(&r->table.texts, b.data);
            buf_free(&b);
            return f->href ? SLUICE_OK : fail(r->err, SLUICE_E_NOMEM, "no memory for the report");
        }
        buf_free(&b);
    }
}

static sluice_status hash_file(struct report_file *f, const struct buf *bytes, sluice_error *err) {
    uint8_t sum[HASH_BYTES];
    struct hash *h = hash_new();
    bool ok = h != NULL;
    if (ok) {
        hash_add(h, bytes->data, bytes->len);
        ok = hash_take(h, sum);
    }
    hash_free(h);
    if (ok) {
        hash_hex(sum, f->sha256);
    }
    return ok ? SLUICE_OK : fail(err, SLUICE_E_NOMEM, "no memory for the report");
}

/* Every run has one page, so no two may have one name. */
static sluice_status check_new(struct report *r, const struct report_file *f, const struct record_run *run) {
    const struct table *t = &r->table;
    const char *id = record_text(run->lines[0].tree, "id");
    for (size_t i = 0; i < t->n_runs; i++) {
        if (strcmp(texts_get(&t->texts, t->runs[i].id), id) == 0) {
            return fail(r->err, SLUICE_E_FORMAT,
                        "%s, line %zu, id: the run %s is already in %s, line %zu; name each run once", f->path,
                        run->lines[0].number, id, r->files[t->runs[i].file].path, t->runs[i].line);
        }
    }
    return SLUICE_OK;
}

struct reading {
    struct report *report;
    size_t file;
    const struct record *record;
    const struct file_lines *lines;
    struct check found;
    struct compare_table compared;
    double from, to; /* of the progress */
};

static sluice_status write_runs(struct reading *x) {
    struct report *r = x->report;
    const struct compare_row *compared = x->compared.rows;
    for (size_t i = 0; i < x->record->n_records; i++) {
        const struct record_run *run = &x->record->records[i];
        TRY(check_new(r, &r->files[x->file], run));
        TRY(table_add(&r->table, x->file, run, &x->found, compared, r->err));
        size_t number = r->table.n_runs - 1;
        compared += r->table.runs[number].n_rows;
        TRY(report_write_run(r, run, number, &x->found, x->lines));
        size_t line = run->lines[run->n_lines - 1].number;
        TRY(go_on(r, x->from + (x->to - x->from) * (double)line / (double)x->lines->n));
    }
    return SLUICE_OK;
}

static void count_samples(const struct record *record, struct report_file *f) {
    f->runs = record->n_records;
    for (size_t i = 0; i < record->n_lines; i++) {
        f->rows += record->lines[i].kind == RECORD_ROW;
        f->samples += record->lines[i].kind == RECORD_SAMPLE;
    }
}

static sluice_status add_record(struct reading *x) {
    struct report *r = x->report;
    struct report_file *f = &r->files[x->file];
    struct buf csv = {0};
    count_samples(x->record, f);
    TRY(check_record(x->record, &x->found, r->err));
    f->wrong = x->found.n_level[FINDING_WRONG];
    f->left_out = x->found.n_dropped;
    TRY(compare_add(&x->compared, x->record, r->err));
    x->from += CHECK_SHARE * (x->to - x->from);
    TRY(go_on(r, x->from));
    TRY(write_runs(x));
    export_csv_rows(x->record, &csv);
    sluice_status status = csv.failed
                               ? fail(r->err, SLUICE_E_NOMEM, "no memory for the report")
                               : site_append(r->site, "downloads/rows.csv", csv.data ? csv.data : "", csv.len, r->err);
    buf_free(&csv);
    return status;
}

static sluice_status add_bytes(struct report *r, size_t file, const struct buf *bytes, double from, double to) {
    struct report_file *f = &r->files[file];
    struct record *record = NULL;
    struct file_lines lines = {0};
    f->bytes = bytes->len;
    TRY(record_read_memory(strcmp(f->path, "-") == 0 ? "standard input" : f->path, bytes->data ? bytes->data : "",
                           bytes->len, NULL, NULL, &record, r->err));
    struct reading x = {.report = r, .file = file, .record = record, .lines = &lines, .to = to};
    x.from = from + READ_SHARE * (to - from);
    sluice_status status = go_on(r, x.from);
    if (status == SLUICE_OK) {
        status = name_copy(r, f);
    }
    if (status == SLUICE_OK) {
        status = hash_file(f, bytes, r->err);
    }
    if (status == SLUICE_OK) {
        status = site_put(r->site, texts_get(&r->table.texts, f->href), bytes->data, bytes->len, r->err);
    }
    if (status == SLUICE_OK) {
        status = find_lines(bytes, &lines, r->err);
    }
    if (status == SLUICE_OK) {
        status = add_record(&x);
    }
    check_free(&x.found);
    compare_free(&x.compared);
    mem_free(lines.start);
    record_free(record);
    return status;
}

static sluice_status add_files(struct report *r, const struct sources *s) {
    double done = 0, all = (double)(s->bytes ? s->bytes : 1);
    r->files = mem_calloc(s->n + 1, sizeof *r->files);
    if (!r->files) {
        return fail(r->err, SLUICE_E_NOMEM, "no memory for the report");
    }
    for (size_t i = 0; i < s->n; i++) {
        struct buf bytes = {0};
        double part = RECORDS_SHARE * (double)s->paths[i].bytes / all;
        r->files[r->n_files++].path = s->paths[i].path;
        sluice_status status = record_read_bytes(s->paths[i].path, &bytes, r->err);
        if (status == SLUICE_OK) {
            status = add_bytes(r, i, &bytes, done, done + part);
        }
        buf_free(&bytes);
        TRY(status);
        done += part;
    }
    return SLUICE_OK;
}

/* ---- The whole site ---------------------------------------------------------------------------------------------- */

static sluice_status write_rows_json(struct report *r) {
    static const char path[] = "downloads/rows.json";
    const struct table *t = &r->table;
    struct buf b = {0};
    sluice_status status = SLUICE_OK;
    buf_puts(&b, "[");
    for (size_t i = 0; i < t->n_rows && status == SLUICE_OK; i++) {
        const struct table_row *row = &t->rows[i];
        char id[48];
        table_row_id(t, row, id);
        buf_puts(&b, i ? ",\n{" : "\n{");
        line_put_text(&b, "id", id);
        line_put_text(&b, "record", texts_get(&t->texts, r->files[t->runs[row->run].file].href));
        for (size_t c = 0; c < COL_COUNT; c++) {
            const char *text = table_text(t, row, (enum column_id)c);
            if (text && columns[c].type == COLUMN_TEXT) {
                line_put_text(&b, columns[c].name, text);
            } else if (text) {
                line_key(&b, columns[c].name);
                buf_puts(&b, text);
            }
        }
        buf_putc(&b, '}');
        if (b.len > 1 << 20 || i + 1 == t->n_rows) {
            status = b.failed ? fail(r->err, SLUICE_E_NOMEM, "no memory for the report")
                              : site_append(r->site, path, b.data, b.len, r->err);
            buf_reset(&b);
        }
    }
    buf_puts(&b, "\n]\n");
    if (status == SLUICE_OK) {
        status = b.failed ? fail(r->err, SLUICE_E_NOMEM, "no memory for the report")
                          : site_append(r->site, path, b.data, b.len, r->err);
    }
    buf_free(&b);
    return status;
}

static sluice_status put_embedded(struct report *r, const char *name, const char *path) {
    struct buf b = {0};
    sluice_status status = web_inflate(web_find(name), &b, r->err);
    if (status != SLUICE_OK) {
        buf_free(&b);
        return status;
    }
    return put_file(r, path, &b);
}

static sluice_status write_assets(struct report *r) {
    const struct report_assets *a = r->options->assets;
    if (a && r->interactive) {
        TRY(site_put(r->site, "assets/report.js", a->js, a->js_n, r->err));
        return site_put(r->site, "assets/report.css", a->css, a->css_n, r->err);
    }
    if (r->interactive) {
        TRY(put_embedded(r, "report/report.js", "assets/report.js"));
        return put_embedded(r, "report/report.css", "assets/report.css");
    }
    return site_put(r->site, "assets/report.css", report_plain_css, strlen(report_plain_css), r->err);
}

static sluice_status write_site(struct report *r, const struct sources *s) {
    static const char marker[] =
        "{\"what\":\"a report of sluice: this folder is replaced as a whole by `sluice report`\","
        "\"contract\":1,\"tool\":\"sluice " SLUICE_VERSION "\"}\n";
    struct buf header = {0};
    TRY(write_assets(r));
    export_csv_header(&header);
    TRY(put_file(r, "downloads/rows.csv", &header));
    TRY(add_files(r, s));
    TRY(table_finish(&r->table, r->err));
    TRY(go_on(r, 0.87));
    TRY(report_write_groups(r));
    TRY(go_on(r, 0.94));
    TRY(report_write_index(r));
    TRY(report_write_compare(r));
    TRY(go_on(r, 0.97));
    TRY(write_rows_json(r));
    TRY(site_put(r->site, SITE_MARKER, marker, sizeof marker - 1, r->err));
    TRY(go_on(r, 1));
    return site_finish(r->site, r->err);
}

static void sum_up(const struct report *r, struct report_summary *out) {
    *out = (struct report_summary){.files = r->n_files,
                                   .runs = r->table.n_runs,
                                   .rows = r->table.n_rows,
                                   .models = r->table.n_models,
                                   .hardware = r->table.n_hardware,
                                   .pages = r->n_pages,
                                   .bytes = site_bytes(r->site),
                                   .interactive = r->interactive};
    for (size_t i = 0; i < r->n_files; i++) {
        out->wrong += r->files[i].wrong;
    }
    snprintf(out->folder, sizeof out->folder, "%s", site_folder(r->site));
}

sluice_status report_write(const struct report_options *o, struct report_summary *out, sluice_error *err) {
    struct sources sources = {0};
    struct report r = {.options = o, .err = err};
    bool carried = web_find("report/report.js") && web_find("report/report.css");
    r.interactive = !o->plain && (o->assets ? o->assets->js != NULL : carried);
    sluice_status status = sources_find(o->records, o->n_records, &sources, err);
    if (status == SLUICE_OK) {
        status = site_open(o->folder, &r.site, err);
    }
    if (status == SLUICE_OK) {
        status = write_site(&r, &sources);
    }
    if (status == SLUICE_OK) {
        sum_up(&r, out);
    }
    site_close(r.site);
    table_free(&r.table);
    buf_free(&r.comparisons);
    mem_free(r.files);
    sources_free(&sources);
    return status;
}
