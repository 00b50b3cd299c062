/* What a page shows without its script. */
#include "report/report_impl.h"

#include "base/mem.h"
#include "json/tree.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void plain_ms(struct buf *out, double ms) {
    if (ms >= 1000) {
        buf_printf(out, "%.2f s", ms / 1000);
    } else {
        buf_printf(out, ms < 10 ? "%.2f ms" : "%.0f ms", ms);
    }
}

void plain_bytes(struct buf *out, double bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t u = 0;
    while (fabs(bytes) >= 1024 && u < 4) {
        bytes /= 1024;
        u++;
    }
    buf_printf(out, u == 0 ? "%.0f %s" : "%.2f %s", bytes, units[u]);
}

static double number(const struct table *t, const struct table_row *r, enum column_id c) {
    const char *s = table_text(t, r, c);
    return s ? strtod(s, NULL) : NAN;
}

/* The nearest whole numbers as such, small ones with three digits. */
static void put_rate(struct buf *out, double v) {
    buf_printf(out, fabs(v) >= 10 || v == 0 ? "%.1f" : "%.3g", v);
}

enum cell_form { CELL_RATE, CELL_MS, CELL_COUNT, CELL_SHARE, CELL_JOULES };

static void put_value(struct buf *out, double v, enum cell_form form) {
    switch (form) {
    case CELL_MS:
        plain_ms(out, v);
        break;
    case CELL_COUNT:
        buf_printf(out, "%.6g", v);
        break;
    case CELL_SHARE:
        buf_printf(out, "%.1f%%", 100 * v);
        break;
    case CELL_JOULES:
        buf_printf(out, "%.3g J", v);
        break;
    default:
        put_rate(out, v);
    }
}

/* A figure; low: its .lo column, or COL_COUNT. */
static void put_number_cell(struct buf *out, const struct table *t, const struct table_row *r, enum column_id c,
                            enum column_id low, enum cell_form form) {
    double v = number(t, r, c);
    buf_puts(out, "<td class=\"num\">");
    if (isnan(v)) {
        html_dash(out, "not known");
    } else {
        put_value(out, v, form);
    }
    double lo = low == COL_COUNT ? NAN : number(t, r, low);
    if (!isnan(v) && !isnan(lo)) {
        buf_puts(out, " <span class=\"iv\">[");
        put_value(out, lo, form);
        buf_puts(out, " to ");
        put_value(out, number(t, r, low + 1), form); /* .hi stands behind .lo */
        buf_puts(out, "]</span>");
    }
    buf_puts(out, "</td>");
}

static void put_text_cell(struct buf *out, const char *text, const char *class) {
    buf_printf(out, "<td%s>", class);
    if (text) {
        html_text(out, text);
    } else {
        html_dash(out, "not known");
    }
    buf_puts(out, "</td>");
}

static void put_link(struct buf *out, const char *root, const char *folder, const char *slug, const char *text) {
    buf_printf(out, "<a href=\"%s%s/%s.html\">", root, folder, slug);
    html_text(out, text);
    buf_puts(out, "</a>");
}

static void put_hardware_cell(struct buf *out, const struct table *t, const struct table_row *r,
                              const struct plain_rows *p) {
    double cap = number(t, r, COL_CAP), max = number(t, r, COL_CAP_MAX);
    const char *driver = table_text(t, r, COL_DRIVER);
    buf_puts(out, "<td class=\"text\">");
    if (!p->without_hardware) {
        put_link(out, p->root, "hardware", table_text(t, r, COL_HARDWARE_SLUG), table_text(t, r, COL_HARDWARE));
    }
    if (!isnan(cap)) {
        buf_printf(out, cap == max ? " %.0f W max" : " cap %.0f W", cap);
    }
    if (driver) {
        buf_puts(out, " drv ");
        html_text(out, driver);
    }
    if (p->without_hardware && isnan(cap) && !driver) {
        html_dash(out, "no power cap and no driver is known");
    }
    buf_puts(out, "</td>");
}

static void put_engine_cell(struct buf *out, const struct table *t, const struct table_row *r) {
    const char *engine = table_text(t, r, COL_ENGINE), *build = table_text(t, r, COL_BUILD);
    const char *api = table_text(t, r, COL_DEVICE_API);
    bool named = engine && build && strncmp(build, engine, strlen(engine)) == 0; /* "sluice", "sluice 0.1.0" */
    buf_puts(out, "<td class=\"text\">");
    html_text(out, named ? build : engine ? engine : "unknown engine");
    if (build && !named) {
        buf_putc(out, ' ');
        html_text(out, build);
    }
    if (api) {
        buf_puts(out, " (");
        html_text(out, api);
        buf_putc(out, ')');
    }
    buf_puts(out, "</td>");
}

/* Peak memory; of rows of others what their source printed. */
static void put_memory_cell(struct buf *out, const struct table *t, const struct table_row *r) {
    double bytes = number(t, r, COL_VRAM);
    const char *text = table_text(t, r, COL_PRINTED);
    struct json_object *printed = NULL;
    const struct json_tree_limits limits = {"printed", 4096, 64};
    bytes = isnan(bytes) ? number(t, r, COL_RSS) : bytes;
    buf_puts(out, "<td class=\"num\">");
    if (!isnan(bytes)) {
        plain_bytes(out, bytes);
    } else if (text && json_tree_parse(text, strlen(text), &limits, false, &printed, NULL, NULL) == SLUICE_OK &&
               record_text(printed, "vram_delta")) {
        html_text(out, record_text(printed, "vram_delta"));
    } else {
        html_dash(out, "not measured");
    }
    json_object_put(printed);
    buf_puts(out, "</td>");
}

/* The verdict, and what check found. */
static void put_verdict_cell(struct buf *out, const struct table *t, const struct table_row *r) {
    const char *findings = table_text(t, r, COL_FINDINGS);
    struct json_object *list = NULL;
    const struct json_tree_limits limits = {"findings", 1 << 16, 1 << 14};
    buf_puts(out, "<td>");
    html_chip(out, table_text(t, r, COL_VERDICT));
    if (findings && json_tree_parse(findings, strlen(findings), &limits, true, &list, NULL, NULL) == SLUICE_OK) {
        size_t n = json_object_array_length(list);
        buf_printf(out, "<details><summary>%zu finding%s</summary><ul>", n, n == 1 ? "" : "s");
        for (size_t i = 0; i < n; i++) {
            struct json_object *f = json_object_array_get_idx(list, i);
            buf_puts(out, "<li>");
            html_text(out, record_text(f, "level"));
            buf_puts(out, ": ");
            html_text(out, record_text(f, "text"));
            buf_puts(out, "</li>");
        }
        buf_puts(out, "</ul></details>");
    }
    json_object_put(list);
    buf_puts(out, "</td>");
}

static void put_quality_cell(struct buf *out, const struct table *t, const struct table_row *r) {
    const char *qualified = table_text(t, r, COL_QUALIFIED), *why = table_text(t, r, COL_QUALITY_REASON);
    double kl = number(t, r, COL_KL_MEAN);
    buf_puts(out, "<td>");
    if (!qualified || strcmp(qualified, "true") != 0) {
        buf_puts(out, "<span title=\"");
        html_text(out, why ? why : "no quality was measured");
        buf_puts(out, "\">no</span>");
    } else {
        html_text(out, table_text(t, r, COL_QUALITY_KIND));
        if (!isnan(kl)) {
            buf_printf(out, " %.3g", kl);
        }
    }
    buf_puts(out, "</td>");
}

void plain_line_href(const struct report *r, const char *root, const char *run_id, size_t line, struct buf *out) {
    buf_printf(out, "%s%s/%s.html#L%zu", root, r->interactive ? "runs" : "raw", run_id, line);
}

static void put_who(struct buf *out, const struct report *r, const struct table_row *row, const struct plain_rows *p) {
    const struct table *t = &r->table;
    const char *comparable = table_text(t, row, COL_COMPARABLE), *unfit = table_text(t, row, COL_UNFIT);
    buf_puts(out, "<td>");
    html_chip(out, table_text(t, row, COL_KIND));
    buf_puts(out, "</td>");
    if (comparable) {
        buf_puts(out, "<td title=\"");
        html_text(out, unfit ? unfit : "");
        buf_puts(out, "\">");
        html_text(out, comparable);
        buf_puts(out, "</td>");
    }
    if (!p->without_model) {
        buf_puts(out, "<td class=\"text\">");
        put_link(out, p->root, "models", table_text(t, row, COL_MODEL_SLUG), table_text(t, row, COL_MODEL));
        buf_puts(out, "</td>");
    }
    put_hardware_cell(out, t, row, p);
    put_engine_cell(out, t, row);
    put_text_cell(out, table_text(t, row, COL_LABEL), " class=\"text\"");
}

static void put_row(struct buf *out, const struct report *r, const struct table_row *row, const struct plain_rows *p) {
    const struct table *t = &r->table;
    const char *id = texts_get(&t->texts, t->runs[row->run].id), *test = table_text(t, row, COL_TEST);
    bool raw = test && strcmp(test, "raw") == 0;
    buf_puts(out, "<tr");
    if (p->anchors) {
        buf_printf(out, " id=\"L%zu\"", row->line);
    }
    buf_putc(out, '>');
    put_who(out, r, row, p);
    put_text_cell(out, table_text(t, row, raw ? COL_ROW : COL_WORKLOAD), "");
    put_number_cell(out, t, row, COL_CONCURRENCY, COL_COUNT, CELL_COUNT);
    put_text_cell(out, table_text(t, row, COL_CACHE), "");
    put_number_cell(out, t, row, raw ? COL_RAW : COL_DECODE, raw ? COL_RAW_LO : COL_DECODE_LO, CELL_RATE);
    put_number_cell(out, t, row, COL_CLIENT, COL_CLIENT_LO, CELL_RATE);
    put_number_cell(out, t, row, COL_PREFILL, COL_PREFILL_LO, CELL_RATE);
    put_number_cell(out, t, row, COL_TTFT, COL_TTFT_LO, CELL_MS);
    put_number_cell(out, t, row, COL_TPOT, COL_COUNT, CELL_MS);
    put_number_cell(out, t, row, COL_PROMPT, COL_COUNT, CELL_COUNT);
    put_number_cell(out, t, row, COL_OUTPUT, COL_COUNT, CELL_COUNT);
    put_number_cell(out, t, row, COL_LATENCY, COL_COUNT, CELL_MS);
    put_memory_cell(out, t, row);
    put_number_cell(out, t, row, COL_J_OUTPUT, COL_COUNT, CELL_JOULES);
    put_number_cell(out, t, row, COL_LIMIT_SHARE, COL_COUNT, CELL_SHARE);
    put_quality_cell(out, t, row);
    put_verdict_cell(out, t, row);
    buf_printf(out, "<td><a href=\"%sruns/%s.html\">run</a> <a href=\"", p->root, id);
    plain_line_href(r, p->root, id, row->line, out);
    buf_printf(out, "\">line %zu</a></td></tr>\n", row->line);
}

void plain_rows(const struct report *r, const struct plain_rows *p, struct buf *out) {
    static const char *const figures[] = {"decode tok/s", "end-to-end tok/s", "prefill tok/s", "TTFT",
                                          "TPOT",         "prompt tokens",    "output tokens", "latency",
                                          "memory",       "energy per token", "of the limit"};
    const struct table *t = &r->table;
    size_t n = p->rows->n < p->most ? p->rows->n : p->most;
    buf_puts(out,
             "<div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"Rows\">\n<table class=\"prerendered\">\n"
             "<thead><tr><th>kind</th>");
    buf_puts(out, n && table_text(t, &t->rows[p->rows->at[0]], COL_COMPARABLE) ? "<th>comparable</th>" : "");
    buf_puts(out, p->without_model ? "" : "<th>model</th>");
    buf_puts(out, p->without_hardware ? "<th>power, driver</th>" : "<th>hardware</th>");
    buf_puts(out, "<th>engine</th><th>label</th><th>workload</th><th class=\"num\">conc.</th><th>cache</th>");
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        buf_printf(out, "<th class=\"num\">%s</th>", figures[i]);
    }
    buf_puts(out, "<th>quality</th><th>verdict</th><th>record</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < n; i++) {
        put_row(out, r, &t->rows[p->rows->at[i]], p);
    }
    buf_puts(out, "</tbody>\n</table>\n</div>\n");
    if (n < p->rows->n) {
        buf_printf(out,
                   "<p class=\"soft\">The first %zu of %zu rows; with scripts allowed this page shows all of them. "
                   "<a href=\"%sdownloads/rows.csv\">All rows as CSV</a></p>\n",
                   n, p->rows->n, p->root);
    }
}
