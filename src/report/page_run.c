/* One run: its page, its data, and its lines as they are. */
#include "report/report_impl.h"

#include "base/mem.h"
#include "base/status.h"
#include "record/line.h"
#include "report/names.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct writing {
    struct report *report;
    const struct record_run *run;
    const struct table_run *summary;
    const struct check *found;
    const struct file_lines *lines;
    const char *id;
    struct row_list rows; /* of the run, in the order of the record */
};

static size_t first_line(const struct writing *w) {
    return w->run->lines[0].number;
}

static size_t last_line(const struct writing *w) {
    return w->run->lines[w->run->n_lines - 1].number;
}

static const char *line_text(const struct writing *w, size_t number, size_t *n) {
    const struct file_lines *l = w->lines;
    *n = l->start[number] - l->start[number - 1] - 1; /* each line has its newline */
    return l->bytes + l->start[number - 1];
}

static struct json_object *first_target(const struct writing *w) {
    struct json_object *top = w->run->lines[0].tree, *pair = record_get(top, "targets");
    return pair ? json_object_array_get_idx(pair, 0) : record_get(top, "target");
}

/* ---- Data -------------------------------------------------------------------------------------------------------- */

static void put_model_slugs(const struct writing *w, struct buf *out) {
    const struct table *t = &w->report->table;
    line_open(out, "model_slugs", '[');
    for (size_t i = 0; i < w->rows.n; i++) {
        uint32_t model = t->rows[w->rows.at[i]].model;
        bool told = false;
        for (size_t k = 0; k < i && !told; k++) {
            told = t->rows[w->rows.at[k]].model == model;
        }
        if (!told) {
            line_put_text(out, NULL, texts_get(&t->texts, t->models[model].slug));
        }
    }
    line_close(out, ']');
}

static void put_lines(const struct writing *w, struct buf *out) {
    line_open(out, "lines", '[');
    for (size_t i = first_line(w); i <= last_line(w); i++) {
        size_t n;
        const char *text = line_text(w, i, &n);
        buf_printf(out, "%s{\"line\":%zu,\"data\":", i == first_line(w) ? "" : ",", i);
        buf_append(out, text, n);
        buf_putc(out, '}');
    }
    line_close(out, ']');
}

static sluice_status write_data(const struct writing *w) {
    struct report *r = w->report;
    const struct table *t = &r->table;
    const struct table_group *hardware = &t->hardware[w->summary->hardware];
    struct buf b = {0};
    char name[32];
    buf_putc(&b, '{');
    report_put_site(&b);
    line_put_text(&b, "id", w->id);
    line_key(&b, "file");
    report_put_file(r, &r->files[w->summary->file], &b);
    put_model_slugs(w, &b);
    line_put_text(&b, "hardware", texts_get(&t->texts, hardware->title));
    line_put_text(&b, "hardware_slug", texts_get(&t->texts, hardware->slug));
    put_lines(w, &b);
    line_key(&b, "findings");
    findings_json_run(w->found, first_line(w), last_line(w), &b);
    line_key(&b, "table");
    sluice_status status = table_json(t, &w->rows, true, &b, r->err);
    buf_putc(&b, '}');
    snprintf(name, sizeof name, "run-%s", w->id);
    if (status != SLUICE_OK) {
        buf_free(&b);
        return status;
    }
    return report_put_script(r, name, &b);
}

static sluice_status write_raw_data(const struct writing *w) {
    struct buf b = {0};
    char name[32];
    buf_putc(&b, '{');
    line_put_text(&b, "id", w->id);
    line_put_text(&b, "href", texts_get(&w->report->table.texts, w->report->files[w->summary->file].href));
    line_put_uint(&b, "first", first_line(w));
    line_open(&b, "lines", '[');
    for (size_t i = first_line(w); i <= last_line(w); i++) {
        size_t n;
        const char *text = line_text(w, i, &n);
        line_key(&b, NULL);
        buf_json_string(&b, text, n);
    }
    line_close(&b, ']');
    buf_putc(&b, '}');
    snprintf(name, sizeof name, "raw-%s", w->id);
    return report_put_script(w->report, name, &b);
}

/* The same without scripts: every line has an anchor. */
static sluice_status write_raw_page(const struct writing *w) {
    struct buf b = {0};
    char path[40], title[64];
    snprintf(path, sizeof path, "raw/%s.html", w->id);
    snprintf(title, sizeof title, "Lines of run %s", w->id);
    html_begin(&b, &(struct html_page){.name = "raw", .key = w->id, .title = title, .root = "../"});
    buf_printf(&b, "<h1>%s</h1>\n<p><a href=\"../runs/%s.html\">The run</a>, from <a href=\"../", title, w->id);
    html_text(&b, texts_get(&w->report->table.texts, w->report->files[w->summary->file].href));
    buf_puts(&b, "\">its record</a></p>\n<pre class=\"raw\">");
    for (size_t i = first_line(w); i <= last_line(w); i++) {
        size_t n;
        const char *text = line_text(w, i, &n);
        struct buf line = {0};
        buf_append(&line, text, n);
        buf_printf(&b, "<span id=\"L%zu\">%zu ", i, i);
        html_text(&b, line.data);
        buf_puts(&b, "</span>\n");
        b.failed |= line.failed;
        buf_free(&line);
    }
    buf_puts(&b, "</pre>\n");
    html_end(&b);
    return report_put_page(w->report, path, &b);
}

/* For data/compare.js. */
static uint32_t find_row(const struct writing *w, const char *key, int target) {
    const struct table *t = &w->report->table;
    for (size_t i = 0; i < w->rows.n; i++) {
        const struct table_row *row = &t->rows[w->rows.at[i]];
        if (strcmp(table_text(t, row, COL_ROW), key) == 0 && atoi(table_text(t, row, COL_TARGET)) == target) {
            return w->rows.at[i];
        }
    }
    return UINT32_MAX;
}

static void add_comparison(const struct writing *w, const struct record_line *line) {
    struct buf *out = &w->report->comparisons;
    const char *row = record_text(line->tree, "row");
    if (out->len) {
        buf_putc(out, ',');
    }
    buf_putc(out, '{');
    line_put_text(out, "run", w->id);
    line_put_uint(out, "line", line->number);
    for (int target = 0; target < 2; target++) {
        char id[48];
        uint32_t at = find_row(w, row, target);
        if (at != UINT32_MAX) {
            table_row_id(&w->report->table, &w->report->table.rows[at], id);
        }
        line_put_text(out, target ? "b" : "a", at == UINT32_MAX ? NULL : id);
    }
    json_object_object_foreach(line->tree, key, value) {
        if (strcmp(key, "kind") != 0 && strcmp(key, "prev") != 0) {
            const char *s =
                json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
            line_key(out, key);
            buf_puts(out, s ? s : "null");
            out->failed |= !s;
        }
    }
    buf_putc(out, '}');
}

/* ---- Page -------------------------------------------------------------------------------------------------------- */

/* A link only where the address is one of the web. */
static void put_source(struct buf *out, const char *url) {
    bool web = url && (strncmp(url, "https://", 8) == 0 || strncmp(url, "http://", 7) == 0);
    if (url) {
        buf_puts(out, web ? "<dt>source</dt><dd><a rel=\"noreferrer\" href=\"" : "<dt>source</dt><dd>");
        if (web) {
            html_text(out, url);
            buf_puts(out, "\">");
        }
        html_text(out, url);
        buf_puts(out, web ? "</a></dd>\n" : "</dd>\n");
    }
}

static void put_head(const struct writing *w, struct buf *out) {
    struct json_object *top = w->run->lines[0].tree, *origin = record_get(top, "origin");
    const struct table *t = &w->report->table;
    const struct record_line *end = record_find(w->run, RECORD_END);
    const char *label = record_text(top, "label"), *command = record_text(top, "command");
    buf_puts(out, "<h1>");
    html_text(out, label ? label : w->id);
    buf_puts(out, "</h1>\n<p>");
    html_chip(out, record_text(origin, "source"));
    buf_putc(out, ' ');
    html_chip(out, end ? record_text(record_get(end->tree, "verdict"), "state") : "interrupted");
    buf_puts(out, "</p>\n<dl>\n");
    plain_fact(out, "run", w->id);
    plain_fact(out, "date", record_text(top, "date"));
    plain_fact(out, "suite", record_text(top, "suite"));
    plain_fact(out, "about it", record_text(top, "suite_about"));
    plain_fact(out, "tool", record_text(top, "tool"));
    plain_fact(out, "figures", record_text(top, "statistic"));
    put_source(out, record_text(origin, "url"));
    plain_fact(out, "note", record_text(origin, "note"));
    buf_printf(out, "<dt>machine</dt><dd><a href=\"../hardware/%s.html\">",
               texts_get(&t->texts, t->hardware[w->summary->hardware].slug));
    html_text(out, texts_get(&t->texts, t->hardware[w->summary->hardware].title));
    buf_puts(out, "</a></dd>\n<dt>record</dt><dd><a href=\"../");
    html_text(out, texts_get(&t->texts, w->report->files[w->summary->file].href));
    buf_puts(out, "\">");
    html_text(out, texts_get(&t->texts, w->report->files[w->summary->file].href));
    buf_printf(out, "</a>, lines %zu to %zu</dd>\n</dl>\n", first_line(w), last_line(w));
    if (command) {
        buf_puts(out, "<h2>The command to repeat it</h2>\n<pre>");
        html_text(out, command);
        buf_puts(out, "</pre>\n");
    }
}

static void put_probes(const struct writing *w, struct buf *out) {
    bool any = false;
    for (size_t i = 0; i < w->run->n_lines; i++) {
        if (w->run->lines[i].kind == RECORD_PROBE) {
            if (!any) {
                plain_probes_begin(out);
            }
            any = true;
            plain_probe(out, w->run->lines[i].tree);
        }
    }
    if (any) {
        plain_probes_end(out);
    }
}

static void put_comparisons(const struct writing *w, struct buf *out) {
    bool any = false;
    for (size_t i = 0; i < w->run->n_lines; i++) {
        if (w->run->lines[i].kind == RECORD_COMPARISON) {
            if (!any) {
                buf_puts(out, "<h2>B over A</h2>\n");
                plain_comparisons_begin(out, false);
            }
            any = true;
            plain_comparison(out, w->run->lines[i].tree, NULL, NULL);
        }
    }
    if (any) {
        plain_table_end(out);
    }
}

static void put_findings(const struct writing *w, struct buf *out) {
    bool any = false;
    for (size_t i = 0; i < w->found->n; i++) {
        const struct finding *f = &w->found->findings[i];
        if (f->line < first_line(w) || f->line > last_line(w)) {
            continue;
        }
        buf_puts(out, any ? "" : "<h2>What check says</h2>\n<ul>\n");
        any = true;
        buf_puts(out, "<li><a href=\"");
        plain_line_href(w->report, "../", w->id, f->line, out);
        buf_printf(out, "\">line %zu</a> %s: ", f->line, finding_level_names[f->level]);
        html_text(out, f->row ? f->row : "");
        buf_puts(out, f->row ? ": " : "");
        html_text(out, f->text);
        buf_puts(out, "</li>\n");
    }
    buf_puts(out, any ? "</ul>\n" : "");
}

static void put_samples(const struct writing *w, struct buf *out) {
    static const char *const numbers[] = {"run",    "stream",        "send_ms",       "first_token_ms", "last_token_ms",
                                          "end_ms", "prompt_tokens", "cached_tokens", "output_tokens"};
    enum { NUMBERS = sizeof numbers / sizeof *numbers };
    bool any = false;
    for (size_t i = 0; i < w->run->n_lines; i++) {
        struct json_object *s = w->run->lines[i].tree;
        if (w->run->lines[i].kind != RECORD_SAMPLE) {
            continue;
        }
        if (!any) {
            buf_puts(out,
                     "<h2>Samples</h2>\n<div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"Samples\">\n"
                     "<table class=\"prerendered\">\n<thead><tr><th>row</th>");
            for (size_t k = 0; k < NUMBERS; k++) {
                buf_printf(out, "<th class=\"num\">%s</th>", numbers[k]);
            }
            buf_puts(out, "<th>outcome</th><th>record</th></tr></thead>\n<tbody>\n");
        }
        any = true;
        buf_puts(out, "<tr><td>");
        html_text(out, record_text(s, "row"));
        buf_puts(out, "</td>");
        for (size_t k = 0; k < NUMBERS; k++) {
            plain_number_cell(out, s, numbers[k]);
        }
        buf_puts(out, "<td>");
        html_text(out, record_true(s, "warmup") ? "warm-up" : record_true(s, "ok") ? "ok" : record_text(s, "error"));
        buf_puts(out, "</td><td><a href=\"");
        plain_line_href(w->report, "../", w->id, w->run->lines[i].number, out);
        buf_printf(out, "\">line %zu</a></td></tr>\n", w->run->lines[i].number);
    }
    buf_puts(out, any ? "</tbody>\n</table>\n</div>\n" : "");
}

static sluice_status write_page(const struct writing *w) {
    struct report *r = w->report;
    struct json_object *top = w->run->lines[0].tree, *pair = record_get(top, "targets");
    const char *label = record_text(top, "label");
    char path[40], script[48];
    struct buf b = {0}, title = {0};
    snprintf(path, sizeof path, "runs/%s.html", w->id);
    snprintf(script, sizeof script, "data/run-%s.js", w->id);
    const char *const scripts[] = {script, NULL};
    buf_printf(&title, "%s - sluice report", label ? label : w->id);
    html_begin(&b, &(struct html_page){.name = "run",
                                       .key = w->id,
                                       .title = title.failed ? w->id : title.data,
                                       .root = "../",
                                       .scripts = r->interactive ? scripts : NULL});
    buf_free(&title);
    put_head(w, &b);
    put_comparisons(w, &b);
    if (w->rows.n) {
        buf_puts(&b, "<h2>Rows</h2>\n");
        plain_rows(r, &(struct plain_rows){.rows = &w->rows, .most = SIZE_MAX, .anchors = true, .root = "../"}, &b);
    }
    buf_puts(&b, "<h2>Environment</h2>\n");
    plain_environment(&b, record_get(top, "environment"), first_target(w));
    if (pair) {
        buf_puts(&b, "<h3>B</h3>\n");
        plain_environment(&b, NULL, json_object_array_get_idx(pair, 1));
    }
    put_probes(w, &b);
    put_findings(w, &b);
    if (!r->interactive) {
        put_samples(w, &b);
    }
    html_end(&b);
    return report_put_page(r, path, &b);
}

static sluice_status write_all(struct writing *w) {
    TRY(write_page(w));
    if (w->report->interactive) {
        TRY(write_data(w));
        return write_raw_data(w);
    }
    return write_raw_page(w);
}

sluice_status report_write_run(struct report *r, const struct record_run *run, size_t run_number,
                               const struct check *found, const struct file_lines *lines) {
    const struct table_run *summary = &r->table.runs[run_number];
    struct writing w = {r, run, summary, found, lines, texts_get(&r->table.texts, summary->id), {.n = 0}};
    w.rows.at = mem_alloc((summary->n_rows + 1) * sizeof *w.rows.at);
    if (!w.rows.at) {
        return fail(r->err, SLUICE_E_NOMEM, "no memory for a run of the report");
    }
    while (w.rows.n < summary->n_rows) {
        w.rows.at[w.rows.n] = (uint32_t)(summary->first_row + w.rows.n);
        w.rows.n++;
    }
    sluice_status status = write_all(&w);
    for (size_t i = 0; i < run->n_lines && status == SLUICE_OK; i++) {
        if (run->lines[i].kind == RECORD_COMPARISON) {
            add_comparison(&w, &run->lines[i]);
        }
    }
    row_list_free(&w.rows);
    return status;
}
