/* A page for every model and every machine: what it is, the environments of its runs with their probes, its rows. */
#include "report/report_impl.h"

#include "base/mem.h"
#include "base/status.h"
#include "json/tree.h"
#include "record/line.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct writing {
    struct report *report;
    const struct table_group *group;
    bool is_model;
    uint32_t index;
    struct row_list rows;
    bool *has_run;   /* [n_runs]: the group has rows of it, or is the machine of it */
    bool *has_block; /* [n_blocks] */
};

static const char *text(const struct writing *w, uint32_t id) {
    return texts_get(&w->report->table.texts, id);
}

static void mark(struct writing *w) {
    const struct table *t = &w->report->table;
    for (size_t i = 0; i < w->rows.n; i++) {
        w->has_run[t->rows[w->rows.at[i]].run] = true;
    }
    for (size_t i = 0; i < t->n_runs; i++) {
        w->has_run[i] |= !w->is_model && t->runs[i].hardware == w->index;
        if (w->has_run[i]) {
            w->has_block[t->runs[i].block] = true;
        }
    }
}

static bool in_block(const struct writing *w, size_t run, size_t block) {
    return w->has_run[run] && w->report->table.runs[run].block == block;
}

/* ---- Data -------------------------------------------------------------------------------------------------------- */

static void put_runs_of(const struct writing *w, bool (*belongs)(const struct writing *, size_t run, size_t of),
                        size_t of, struct buf *out) {
    line_open(out, "runs", '[');
    for (size_t i = 0; i < w->report->table.n_runs; i++) {
        if (belongs(w, i, of)) {
            line_put_text(out, NULL, text(w, w->report->table.runs[i].id));
        }
    }
    line_close(out, ']');
}

/* The value that all rows of the block have, else null. */
static void put_common(const struct writing *w, size_t block, enum column_id column, const char *name,
                       struct buf *out) {
    const struct table *t = &w->report->table;
    uint32_t value = 0;
    bool one = true;
    for (size_t i = 0; i < w->rows.n; i++) {
        const struct table_row *row = &t->rows[w->rows.at[i]];
        if (in_block(w, row->run, block)) {
            one = one && (!value || value == row->cell[column]);
            value = row->cell[column];
        }
    }
    line_key(out, name);
    buf_puts(out, one && value ? text(w, value) : "null");
}

static void put_extremes(const struct writing *w, size_t block, struct buf *out) {
    double peak_w = NAN, idle_c = NAN, peak_c = NAN;
    for (size_t i = 0; i < w->report->table.n_runs; i++) {
        const struct table_run *run = &w->report->table.runs[i];
        if (in_block(w, i, block)) {
            peak_w = fmax(peak_w, run->peak_w);
            idle_c = fmin(idle_c, run->idle_c);
            peak_c = fmax(peak_c, run->peak_c);
        }
    }
    line_put_number(out, "peak_w", peak_w);
    line_put_number(out, "idle_c", idle_c);
    line_put_number(out, "peak_c", peak_c);
}

static void put_probes_data(const struct writing *w, size_t block, struct buf *out) {
    const struct table *t = &w->report->table;
    line_open(out, "probes", '[');
    for (size_t i = 0; i < t->n_probes; i++) {
        const struct table_probe *p = &t->probes[i];
        if (in_block(w, p->run, block)) {
            line_open(out, NULL, '{');
            line_put_text(out, "run", text(w, t->runs[p->run].id));
            line_put_uint(out, "line", p->line);
            line_key(out, "data");
            buf_puts(out, text(w, p->json));
            line_key(out, "findings");
            buf_puts(out, p->findings ? text(w, p->findings) : "[]");
            line_close(out, '}');
        }
    }
    line_close(out, ']');
}

static void put_blocks_data(const struct writing *w, struct buf *out) {
    const struct table *t = &w->report->table;
    line_open(out, "blocks", '[');
    for (size_t i = 0; i < t->n_blocks; i++) {
        const struct table_group *hardware = &t->hardware[t->blocks[i].hardware];
        if (!w->has_block[i]) {
            continue;
        }
        line_open(out, NULL, '{');
        put_runs_of(w, in_block, i, out);
        line_put_text(out, "hardware", text(w, hardware->title));
        line_put_text(out, "hardware_slug", text(w, hardware->slug));
        buf_putc(out, ',');
        buf_puts(out, text(w, t->blocks[i].json));
        put_extremes(w, i, out);
        put_common(w, i, COL_WARMUPS, "warmups", out);
        put_common(w, i, COL_RUNS, "runs_per_row", out);
        put_probes_data(w, i, out);
        line_close(out, '}');
    }
    line_close(out, ']');
}

static bool has_file(const struct writing *w, size_t run, size_t file) {
    return w->has_run[run] && w->report->table.runs[run].model_file == file;
}

/* The first run with a model file speaks for it; later ones of the same file are passed over. */
static bool is_first_with_file(const struct writing *w, size_t run) {
    uint32_t file = w->report->table.runs[run].model_file;
    bool first = w->has_run[run] && file;
    for (size_t k = 0; k < run && first; k++) {
        first = !has_file(w, k, file);
    }
    return first;
}

static void put_files_data(const struct writing *w, struct buf *out) {
    const struct table *t = &w->report->table;
    line_open(out, "files", '[');
    for (size_t i = 0; i < t->n_runs; i++) {
        if (is_first_with_file(w, i)) {
            line_open(out, NULL, '{');
            put_runs_of(w, has_file, t->runs[i].model_file, out);
            line_key(out, "file");
            buf_puts(out, text(w, t->runs[i].model_file));
            line_close(out, '}');
        }
    }
    line_close(out, ']');
}

static sluice_status write_data(const struct writing *w) {
    struct buf b = {0};
    char name[128];
    buf_putc(&b, '{');
    report_put_site(&b);
    line_put_text(&b, "slug", text(w, w->group->slug));
    line_put_text(&b, "title", text(w, w->group->title));
    if (w->is_model) {
        line_put_text(&b, "quantization", text(w, w->group->quantization));
        put_files_data(w, &b);
    }
    put_blocks_data(w, &b);
    line_key(&b, "table");
    sluice_status status = table_json(&w->report->table, &w->rows, true, &b, w->report->err);
    buf_putc(&b, '}');
    if (status != SLUICE_OK) {
        buf_free(&b);
        return status;
    }
    snprintf(name, sizeof name, "%s-%s", w->is_model ? "model" : "hardware", text(w, w->group->slug));
    return report_put_script(w->report, name, &b);
}

/* ---- Page -------------------------------------------------------------------------------------------------------- */

static struct json_object *parse(const char *json) {
    const struct json_tree_limits limits = {"the report's own data", UINT32_MAX, UINT32_MAX};
    struct json_object *tree = NULL;
    return json_tree_parse(json, strlen(json), &limits, true, &tree, NULL, NULL) == SLUICE_OK ? tree : NULL;
}

static void put_count(struct buf *out, const char *name, struct json_object *o, const char *key, double unit,
                      const char *suffix) {
    double v = record_number(o, key);
    if (!isnan(v)) {
        buf_printf(out, "<dt>%s</dt><dd>%.4g%s</dd>\n", name, v / unit, suffix);
    }
}

static void put_model_file(struct buf *out, struct json_object *file) {
    double bytes = record_number(file, "bytes");
    buf_puts(out, "<dl>\n");
    plain_fact(out, "file", record_text(file, "name"));
    plain_fact(out, "quantization", record_text(file, "quantization"));
    put_count(out, "parameters", file, "n_params", 1e9, " billion");
    put_count(out, "active per token", file, "n_params_active", 1e9, " billion");
    plain_fact(out, "architecture", record_text(file, "architecture"));
    plain_fact(out, "checkpoint", record_text(file, "repository"));
    plain_fact(out, "commit", record_text(file, "commit"));
    if (!isnan(bytes)) {
        buf_puts(out, "<dt>size</dt><dd>");
        plain_bytes(out, bytes);
        buf_puts(out, "</dd>\n");
    }
    plain_fact(out, "SHA-256", record_text(file, "sha256"));
    put_count(out, "context", file, "context_length", 1, " tokens");
    put_count(out, "bytes read per token", file, "decode_bytes", 1e9, " GB");
    plain_fact(out, "weights", record_true(file, "synthetic") ? "random: a synthetic model of that shape" : NULL);
    buf_puts(out, "</dl>\n");
}

static void put_blocks(const struct writing *w, struct buf *out) {
    const struct table *t = &w->report->table;
    for (size_t i = 0; i < t->n_blocks; i++) {
        struct buf json = {0};
        if (!w->has_block[i]) {
            continue;
        }
        buf_printf(&json, "{%s}", text(w, t->blocks[i].json));
        struct json_object *block = json.failed ? NULL : parse(json.data);
        buf_free(&json);
        out->failed |= !block;
        buf_puts(out, "<h2>");
        html_text(out, text(w, t->hardware[t->blocks[i].hardware].title));
        buf_puts(out, "</h2>\n");
        plain_environment(out, record_get(block, "environment"),
                          block ? json_object_array_get_idx(record_get(block, "targets"), 0) : NULL);
        json_object_put(block);
        bool any = false;
        for (size_t k = 0; k < t->n_probes; k++) {
            if (in_block(w, t->probes[k].run, i)) {
                struct json_object *probe = parse(text(w, t->probes[k].json));
                if (!any) {
                    plain_probes_begin(out);
                }
                any = true;
                out->failed |= !probe;
                plain_probe(out, probe);
                json_object_put(probe);
            }
        }
        if (any) {
            plain_probes_end(out);
        }
    }
}

static sluice_status write_page(const struct writing *w) {
    struct report *r = w->report;
    const struct table *t = &r->table;
    const char *kind = w->is_model ? "model" : "hardware", *slug = text(w, w->group->slug);
    char path[128], script[128];
    struct buf b = {0}, title = {0};
    snprintf(path, sizeof path, "%s/%s.html", w->is_model ? "models" : "hardware", slug);
    snprintf(script, sizeof script, "data/%s-%s.js", kind, slug);
    const char *const scripts[] = {script, NULL};
    buf_printf(&title, "%s%s%s - sluice report", text(w, w->group->title), w->group->quantization ? " " : "",
               w->group->quantization ? text(w, w->group->quantization) : "");
    html_begin(&b, &(struct html_page){.name = kind,
                                       .key = slug,
                                       .title = title.failed ? slug : title.data,
                                       .root = "../",
                                       .scripts = r->interactive ? scripts : NULL});
    buf_free(&title);
    buf_puts(&b, "<h1>");
    html_text(&b, text(w, w->group->title));
    if (w->group->quantization) {
        buf_putc(&b, ' ');
        html_text(&b, text(w, w->group->quantization));
    }
    buf_puts(&b, "</h1>\n");
    for (size_t i = 0; w->is_model && i < t->n_runs; i++) {
        if (is_first_with_file(w, i)) {
            struct json_object *file = parse(text(w, t->runs[i].model_file));
            b.failed |= !file;
            put_model_file(&b, file);
            json_object_put(file);
        }
    }
    buf_printf(&b, "<h2>All rows (%zu)</h2>\n", w->rows.n);
    plain_rows(r,
               &(struct plain_rows){.rows = &w->rows,
                                    .most = r->interactive ? PLAIN_ROWS : SIZE_MAX,
                                    .without_model = w->is_model,
                                    .without_hardware = !w->is_model,
                                    .root = "../"},
               &b);
    put_blocks(w, &b);
    html_end(&b);
    return report_put_page(r, path, &b);
}

static sluice_status write_group(struct report *r, const struct table_group *group, bool is_model, uint32_t index) {
    const struct table *t = &r->table;
    struct writing w = {.report = r, .group = group, .is_model = is_model, .index = index};
    int64_t model = is_model ? (int64_t)index : -1, hardware = is_model ? -1 : (int64_t)index;
    TRY(table_select(t, model, hardware, ORDER_RATE, &w.rows, r->err));
    w.has_run = mem_calloc(t->n_runs + t->n_blocks + 1, sizeof *w.has_run);
    sluice_status status = SLUICE_OK;
    if (!w.has_run) {
        status = fail(r->err, SLUICE_E_NOMEM, "no memory for a page of the report");
    } else {
        w.has_block = w.has_run + t->n_runs;
        mark(&w);
        status = write_page(&w);
        if (status == SLUICE_OK && r->interactive) {
            status = write_data(&w);
        }
    }
    mem_free(w.has_run);
    row_list_free(&w.rows);
    return status;
}

sluice_status report_write_groups(struct report *r) {
    for (size_t i = 0; i < r->table.n_models; i++) {
        TRY(write_group(r, &r->table.models[i], true, (uint32_t)i));
    }
    for (size_t i = 0; i < r->table.n_hardware; i++) {
        TRY(write_group(r, &r->table.hardware[i], false, (uint32_t)i));
    }
    return SLUICE_OK;
}
