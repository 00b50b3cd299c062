/* The index of all rows, and the page that puts rows side by side. */
#include "report/report_impl.h"

#include "base/mem.h"
#include "base/status.h"
#include "json/tree.h"
#include "record/line.h"

#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *text(const struct report *r, uint32_t id) {
    return texts_get(&r->table.texts, id);
}

/* ---- Index ------------------------------------------------------------------------------------------------------- */

static void put_groups_data(const struct report *r, const char *name, const struct table_group *groups, size_t n,
                            bool models, struct buf *out) {
    line_open(out, name, '[');
    for (size_t i = 0; i < n; i++) {
        line_open(out, NULL, '{');
        line_put_text(out, "slug", text(r, groups[i].slug));
        line_put_text(out, "title", text(r, groups[i].title));
        if (models) {
            line_put_text(out, "quantization", text(r, groups[i].quantization));
        }
        line_put_uint(out, "rows", groups[i].n_rows);
        line_close(out, '}');
    }
    line_close(out, ']');
}

static void put_runs_data(const struct report *r, struct buf *out) {
    line_open(out, "runs", '[');
    for (size_t i = 0; i < r->table.n_runs; i++) {
        const struct table_run *run = &r->table.runs[i];
        line_open(out, NULL, '{');
        line_put_text(out, "id", text(r, run->id));
        line_put_text(out, "date", text(r, run->date));
        line_put_text(out, "label", text(r, run->label));
        line_put_text(out, "suite", text(r, run->suite));
        line_put_text(out, "source", text(r, run->source));
        line_put_uint(out, "file", run->file);
        line_put_uint(out, "line", run->line);
        line_put_uint(out, "rows", run->n_rows);
        line_put_text(out, "verdict", text(r, run->verdict));
        line_close(out, '}');
    }
    line_close(out, ']');
}

static sluice_status write_index_data(struct report *r, const struct row_list *rows) {
    const struct table *t = &r->table;
    struct buf b = {0};
    buf_putc(&b, '{');
    report_put_site(&b);
    line_open(&b, "files", '[');
    for (size_t i = 0; i < r->n_files; i++) {
        line_key(&b, NULL);
        report_put_file(r, &r->files[i], &b);
    }
    line_close(&b, ']');
    put_groups_data(r, "models", t->models, t->n_models, true, &b);
    put_groups_data(r, "hardware", t->hardware, t->n_hardware, false, &b);
    put_runs_data(r, &b);
    line_key(&b, "table");
    sluice_status status = table_json(t, rows, false, &b, r->err);
    buf_putc(&b, '}');
    if (status != SLUICE_OK) {
        buf_free(&b);
        return status;
    }
    return report_put_script(r, "index", &b);
}

static void put_group_list(const struct report *r, const char *title, const char *folder,
                           const struct table_group *groups, size_t n, struct buf *out) {
    buf_printf(out, "<h2>%s</h2>\n<ul>\n", title);
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "<li><a href=\"%s/%s.html\">", folder, text(r, groups[i].slug));
        html_text(out, text(r, groups[i].title));
        if (groups[i].quantization) {
            buf_putc(out, ' ');
            html_text(out, text(r, groups[i].quantization));
        }
        buf_printf(out, "</a> <span class=\"soft\">%zu row%s</span></li>\n", groups[i].n_rows,
                   groups[i].n_rows == 1 ? "" : "s");
    }
    buf_puts(out, "</ul>\n");
}

static void put_file_list(const struct report *r, struct buf *out) {
    buf_puts(out, "<h2>Records</h2>\n<ul>\n");
    for (size_t i = 0; i < r->n_files; i++) {
        const struct report_file *f = &r->files[i];
        buf_puts(out, "<li><a href=\"");
        html_text(out, text(r, f->href));
        buf_puts(out, "\">");
        html_text(out, text(r, f->href));
        buf_printf(out, "</a> <span class=\"soft\">%zu run%s, %zu row%s, %zu sample%s%s</span></li>\n", f->runs,
                   f->runs == 1 ? "" : "s", f->rows, f->rows == 1 ? "" : "s", f->samples, f->samples == 1 ? "" : "s",
                   f->wrong ? "; check finds figures that are wrong" : "");
    }
    buf_puts(out, "</ul>\n<p>All rows as <a href=\"downloads/rows.csv\">CSV</a> or <a "
                  "href=\"downloads/rows.json\">JSON</a>.</p>\n");
}

/* Runs without a row (a probe alone) stand in no table. */
static void put_rowless_runs(const struct report *r, struct buf *out) {
    bool any = false;
    for (size_t i = 0; i < r->table.n_runs; i++) {
        const struct table_run *run = &r->table.runs[i];
        if (run->n_rows == 0) {
            buf_puts(out, any ? "" : "<h2>Runs without rows</h2>\n<ul>\n");
            any = true;
            buf_printf(out, "<li><a href=\"runs/%s.html\">", text(r, run->id));
            html_text(out, run->label ? text(r, run->label) : text(r, run->id));
            buf_puts(out, "</a> ");
            html_text(out, text(r, r->table.hardware[run->hardware].title));
            buf_puts(out, "</li>\n");
        }
    }
    buf_puts(out, any ? "</ul>\n" : "");
}

static sluice_status write_index_page(struct report *r, const struct row_list *rows) {
    static const char *const scripts[] = {"data/index.js", NULL};
    const struct table *t = &r->table;
    struct buf b = {0};
    html_begin(&b, &(struct html_page){.name = "index",
                                       .title = "All runs - sluice report",
                                       .root = "./",
                                       .scripts = r->interactive ? scripts : NULL});
    buf_printf(
        &b,
        "<h1>All runs</h1>\n<p>%zu row%s of %zu run%s on %zu machine%s, from %zu record%s. Medians, with the interval "
        "of the "
        "median in brackets where there are five values or more; every row links to the line of the record that it "
        "stands in.</p>\n",
        t->n_rows, t->n_rows == 1 ? "" : "s", t->n_runs, t->n_runs == 1 ? "" : "s", t->n_hardware,
        t->n_hardware == 1 ? "" : "s", r->n_files, r->n_files == 1 ? "" : "s");
    plain_rows(r, &(struct plain_rows){.rows = rows, .most = r->interactive ? PLAIN_ROWS : SIZE_MAX, .root = "./"}, &b);
    put_group_list(r, "Models", "models", t->models, t->n_models, &b);
    put_group_list(r, "Machines", "hardware", t->hardware, t->n_hardware, &b);
    put_rowless_runs(r, &b);
    put_file_list(r, &b);
    html_end(&b);
    return report_put_page(r, "index.html", &b);
}

sluice_status report_write_index(struct report *r) {
    struct row_list rows;
    TRY(table_select(&r->table, -1, -1, ORDER_DATE, &rows, r->err));
    sluice_status status = write_index_page(r, &rows);
    if (status == SLUICE_OK && r->interactive) {
        status = write_index_data(r, &rows);
    }
    row_list_free(&rows);
    return status;
}

/* ---- Compare ----------------------------------------------------------------------------------------------------- */

static sluice_status write_compare_data(struct report *r, const struct row_list *rows) {
    struct buf b = {0};
    buf_putc(&b, '{');
    report_put_site(&b);
    sluice_status status = table_compared_json(&r->table, rows, &b, r->err);
    line_open(&b, "comparisons", '[');
    if (r->comparisons.len) {
        buf_append(&b, r->comparisons.data, r->comparisons.len);
    }
    b.failed |= r->comparisons.failed;
    line_close(&b, ']');
    buf_putc(&b, '}');
    if (status != SLUICE_OK) {
        buf_free(&b);
        return status;
    }
    return report_put_script(r, "compare", &b);
}

/* What `sluice ab` found. */
static void put_paired(struct report *r, struct buf *out) {
    const struct json_tree_limits limits = {"the report's own data", UINT32_MAX, UINT32_MAX};
    struct buf json = {0};
    struct json_object *list = NULL;
    if (!r->comparisons.len) {
        return;
    }
    buf_printf(&json, "[%s]", r->comparisons.data);
    out->failed |= json.failed || json_tree_parse(json.data, json.len, &limits, true, &list, NULL, NULL) != SLUICE_OK;
    buf_free(&json);
    size_t n = list ? json_object_array_length(list) : 0, most = r->interactive ? PLAIN_ROWS : n;
    buf_puts(out, "<h2>Measured in turns: B over A</h2>\n");
    plain_comparisons_begin(out, true);
    for (size_t i = 0; i < n && i < most; i++) {
        struct json_object *c = json_object_array_get_idx(list, i);
        struct buf href = {0};
        plain_line_href(r, "./", record_text(c, "run"), (size_t)record_number(c, "line"), &href);
        plain_comparison(out, c, record_text(c, "run"), href.failed ? "" : href.data);
        buf_free(&href);
    }
    plain_table_end(out);
    json_object_put(list);
}

static int by_workload(const void *pa, const void *pb, void *context) {
    const struct table *t = context;
    uint32_t ia = *(const uint32_t *)pa, ib = *(const uint32_t *)pb;
    const struct table_row *a = &t->rows[ia], *b = &t->rows[ib];
    int c = strcmp(table_text(t, a, COL_KEY_WORKLOAD), table_text(t, b, COL_KEY_WORKLOAD));
    if (c == 0) {
        double x = isnan(a->rate) ? -INFINITY : a->rate, y = isnan(b->rate) ? -INFINITY : b->rate;
        c = (x < y) - (x > y);
    }
    return c ? c : (ia > ib) - (ia < ib);
}

static sluice_status write_compare_page(struct report *r, struct row_list *rows) {
    static const char *const scripts[] = {"data/index.js", "data/compare.js", NULL};
    const struct table *t = &r->table;
    struct buf b = {0};
    size_t groups = 0, most = r->interactive ? PLAIN_ROWS / 10 : SIZE_MAX;
    html_begin(&b, &(struct html_page){.name = "compare",
                                       .title = "Compare - sluice report",
                                       .root = "./",
                                       .scripts = r->interactive ? scripts : NULL});
    buf_puts(
        &b,
        "<h1>Compare</h1>\n<p>Rows that did the same work stand together, fastest decode first. Rows that are "
        "invalid, or whose cache state nobody verified, are never ranked and stand in no group. Small differences need "
        "<code>sluice ab</code>, whose outcomes come first.</p>\n");
    put_paired(r, &b);
    qsort_r(rows->at, rows->n, sizeof *rows->at, by_workload, (void *)t);
    for (size_t i = 0; i < rows->n;) {
        struct row_list group = {rows->at + i, 0};
        uint32_t key = t->rows[rows->at[i]].cell[COL_KEY_WORKLOAD];
        while (i < rows->n && t->rows[rows->at[i]].cell[COL_KEY_WORKLOAD] == key) {
            group.n++;
            i++;
        }
        if (group.n < 2) {
            continue;
        }
        if (groups++ >= most) {
            continue;
        }
        const struct table_row *row = &t->rows[group.at[0]];
        buf_puts(&b, "<h2>");
        html_text(&b, table_text(t, row, COL_MODEL));
        buf_puts(&b, ": ");
        html_text(&b, table_text(t, row, COL_ROW));
        buf_puts(&b, "</h2>\n");
        plain_rows(r,
                   &(struct plain_rows){
                       .rows = &group, .most = r->interactive ? 20 : SIZE_MAX, .without_model = true, .root = "./"},
                   &b);
    }
    buf_puts(&b, groups ? "" : "<p>No two rows of this site did the same work.</p>\n");
    if (groups > most) {
        buf_printf(&b,
                   "<p class=\"soft\">The first %zu of %zu groups; with scripts allowed any rows can be chosen.</p>\n",
                   most, groups);
    }
    html_end(&b);
    return report_put_page(r, "compare.html", &b);
}

/* The data has all rows, in the order of the index; the plain page only those that may be ranked. */
sluice_status report_write_compare(struct report *r) {
    const struct table *t = &r->table;
    struct row_list rows;
    TRY(table_select(t, -1, -1, ORDER_DATE, &rows, r->err));
    sluice_status status = r->interactive ? write_compare_data(r, &rows) : SLUICE_OK;
    if (status == SLUICE_OK) {
        size_t n = 0;
        for (size_t i = 0; i < rows.n; i++) {
            if (!t->rows[rows.at[i]].cell[COL_UNFIT]) {
                rows.at[n++] = rows.at[i];
            }
        }
        rows.n = n;
        status = write_compare_page(r, &rows);
    }
    row_list_free(&rows);
    return status;
}
