/* Rows side by side: grouped by what they ran, each against the first that may be ranked. */
#include "base/mem.h"
#include "base/status.h"
#include "record/compare.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Engine-only tests by their size too: pp31 and pp512 are not the same work. */
static const char *group_name(const struct compare_row *r) {
    const char *workload = record_text(r->line->tree, "workload");
    return workload && !record_is(r->line->tree, "test", "raw") ? workload : record_text(r->line->tree, "row");
}

static double concurrency(const struct compare_row *r) {
    double c = record_number(r->line->tree, "concurrency");
    return isnan(c) ? 0 : c;
}

/* Workload, concurrency, cache: what a reader looks for; the order of the files stays within. */
static int compare_groups(const struct compare_row *a, const struct compare_row *b) {
    int c = strcmp(group_name(a), group_name(b));
    c = c ? c : (concurrency(a) > concurrency(b)) - (concurrency(a) < concurrency(b));
    return c ? c : strcmp(record_text(a->line->tree, "cache"), record_text(b->line->tree, "cache"));
}

static int compare_pointers(const void *pa, const void *pb) {
    const struct compare_row *a = *(const struct compare_row *const *)pa, *b = *(const struct compare_row *const *)pb;
    int c = compare_groups(a, b);
    return c ? c : (a > b) - (a < b);
}

static const char *metric_of(const struct compare_row *r, const struct compare_options *o) {
    return o->metric ? o->metric : record_is(r->line->tree, "test", "raw") ? "tok_s" : "decode_tok_s";
}

static void put_value(struct buf *out, const struct row_value *v) {
    if (isnan(v->median)) {
        buf_puts(out, "unknown");
        return;
    }
    buf_printf(out, "%.5g", v->median);
    if (!isnan(v->lo)) {
        buf_printf(out, " [%.5g, %.5g]", v->lo, v->hi);
    }
    if (v->n == 0) {
        buf_puts(out, " as printed");
    }
}

/* The narrowest class that two rows share. */
static enum compare_class shared_class(const struct compare_row *a, const struct compare_row *b) {
    enum compare_class class = COMPARE_WORKLOAD;
    for (int c = COMPARE_STACK; c < COMPARE_CLASSES; c++) {
        class = strcmp(a->key[c], b->key[c]) == 0 ? (enum compare_class)c : class;
    }
    return class;
}

static void put_relation(struct buf *out, const struct compare_row *first, const struct compare_row *r,
                         const char *metric) {
    struct buf why = {0};
    struct row_value a = row_value(first->line->tree, metric), b = row_value(r->line->tree, metric);
    if (!compare_may_rank(first, r, &why)) {
        buf_printf(out, "not ranked: %s", why.len ? why.data : "");
    } else if (!(a.median > 0) || isnan(b.median)) {
        buf_puts(out, "not ranked: one has no value");
    } else {
        enum compare_class class = shared_class(first, r);
        buf_printf(out, "x%.3f of %s:%zu (medians; %s comparable", b.median / a.median, first->record->path,
                   first->line->number, compare_class_names[class]);
        if (class != COMPARE_HARDWARE) {
            buf_puts(out, "; differs in ");
            compare_differences(first, r, class == COMPARE_WORKLOAD ? COMPARE_STACK : COMPARE_HARDWARE, out);
        }
        buf_putc(out, ')');
    }
    out->failed |= why.failed;
    buf_free(&why);
}

static void put_name(struct buf *out, const struct compare_row *r) {
    struct json_object *run = r->run->lines[0].tree, *target = record_target(r->run, r->line->tree);
    const char *label = record_text(run, "label"), *engine = record_text(target, "engine"),
               *build = record_text(target, "build");
    double cap = record_number(r->line->tree, "power_cap_w");
    buf_printf(out, "%s, %s",
               row_hardware(r->run, r->line->tree)[0] ? row_hardware(r->run, r->line->tree) : "hardware unknown",
               engine ? engine : "engine unknown");
    if (build) {
        size_t said = engine && strncmp(build, engine, strlen(engine)) == 0 ? strlen(engine) : 0; /* "sluice 0.1.0" */
        buf_printf(out, " %s", build + said + (said && build[said] == ' '));
    }
    if (!isnan(cap)) {
        buf_printf(out, ", %g W", cap);
    }
    if (record_text(target, "model")) {
        buf_printf(out, ", %s", record_text(target, "model"));
    }
    if (label) {
        buf_printf(out, ", \"%s\"", label);
    }
}

static void put_text_row(struct buf *out, const struct compare_row *first, const struct compare_row *r,
                         const struct compare_options *o) {
    const char *metric = metric_of(r, o);
    struct row_value v = row_value(r->line->tree, metric);
    buf_printf(out, "  %s ", metric);
    put_value(out, &v);
    buf_puts(out, "   ");
    put_name(out, r);
    if (!record_is(record_get(r->line->tree, "verdict"), "state", "clean")) {
        buf_printf(out, ", %s", record_text(record_get(r->line->tree, "verdict"), "state"));
    }
    buf_printf(out, "   %s:%zu\n", r->record->path, r->line->number);
    if (r != first) {
        buf_puts(out, "    ");
        put_relation(out, first, r, metric);
        buf_putc(out, '\n');
    }
}

static void put_member(struct buf *out, const char *key, const char *text) {
    buf_printf(out, "\"%s\":", key);
    if (text) {
        buf_json_string(out, text, strlen(text));
    } else {
        buf_puts(out, "null");
    }
}

static void put_json_number(struct buf *out, const char *key, double v) {
    buf_printf(out, "\"%s\":", key);
    buf_json_double(out, v);
}

static void put_json_row(struct buf *out, const struct compare_row *first, const struct compare_row *r,
                         const struct compare_options *o) {
    const char *metric = metric_of(r, o);
    struct row_value v = row_value(r->line->tree, metric), base = row_value(first->line->tree, metric);
    struct buf why = {0};
    bool rank = compare_may_rank(first, r, &why);
    buf_putc(out, '{');
    put_member(out, "path", r->record->path);
    buf_printf(out, ",\"line\":%zu,", r->line->number);
    put_member(out, "record", record_text(r->run->lines[0].tree, "id"));
    buf_putc(out, ',');
    put_member(out, "row", record_text(r->line->tree, "row"));
    buf_putc(out, ',');
    put_member(out, "hardware", row_hardware(r->run, r->line->tree));
    buf_puts(out, ",\"keys\":{");
    for (int c = 0; c < COMPARE_CLASSES; c++) {
        buf_printf(out, "%s\"%s\":\"%s\"", c ? "," : "", compare_class_names[c], r->key[c]);
    }
    buf_puts(out, "},");
    put_member(out, "metric", metric);
    buf_putc(out, ',');
    put_json_number(out, "median", v.median);
    buf_printf(out, ",\"printed\":%s,\"may_rank\":%s,", v.n == 0 && !isnan(v.median) ? "true" : "false",
               rank ? "true" : "false");
    put_member(out, "reason", rank ? NULL : why.len ? why.data : "");
    buf_putc(out, ',');
    put_json_number(out, "ratio", rank && base.median > 0 ? v.median / base.median : NAN);
    for (int c = 0; c < COMPARE_CLASSES; c++) {
        struct buf differs = {0};
        compare_differences(first, r, (enum compare_class)c, &differs);
        buf_printf(out, ",\"differs_%s\":", compare_class_names[c]);
        buf_json_string(out, differs.len ? differs.data : "", differs.len);
        out->failed |= differs.failed;
        buf_free(&differs);
    }
    buf_putc(out, '}');
    out->failed |= why.failed;
    buf_free(&why);
}

static void put_group_head(struct buf *out, const struct compare_row *r, bool json, bool first) {
    struct json_object *row = r->line->tree;
    if (json) {
        buf_printf(out, "%s{", first ? "" : ",\n");
        put_member(out, "workload", group_name(r));
        buf_putc(out, ',');
        put_json_number(out, "concurrency", record_number(row, "concurrency"));
        buf_putc(out, ',');
        put_member(out, "cache", record_text(row, "cache"));
        buf_puts(out, ",\"rows\":[");
        return;
    }
    buf_printf(out, "%s%s", first ? "" : "\n", group_name(r));
    if (concurrency(r) > 0) {
        buf_printf(out, ", concurrency %.0f", concurrency(r));
    }
    buf_printf(out, ", cache %s\n", record_text(row, "cache"));
}

sluice_status compare_report(const struct compare_table *t, const struct compare_options *options, struct buf *out,
                             sluice_error *err) {
    const struct compare_row **order = mem_calloc(t->n + 1, sizeof(struct compare_row *));
    if (!order) {
        return fail(err, SLUICE_E_NOMEM, "no memory to compare %zu rows", t->n);
    }
    for (size_t i = 0; i < t->n; i++) {
        order[i] = &t->rows[i];
    }
    qsort(order, t->n, sizeof *order, compare_pointers);
    buf_puts(out, options->json ? "[" : "");
    for (size_t from = 0, to; from < t->n; from = to) {
        const struct compare_row *base = order[from]; /* the first that anything may be ranked against */
        for (to = from; to < t->n && compare_groups(order[from], order[to]) == 0; to++) {
            base = compare_is_fit(base) ? base : order[to];
        }
        base = compare_is_fit(base) ? base : order[from];
        put_group_head(out, order[from], options->json, from == 0);
        for (to = from; to < t->n && compare_groups(order[from], order[to]) == 0; to++) {
            if (options->json) {
                buf_puts(out, to > from ? ",\n" : "");
                put_json_row(out, base, order[to], options);
            } else {
                put_text_row(out, base, order[to], options);
            }
        }
        buf_puts(out, options->json ? "]}" : "");
    }
    buf_puts(out, options->json ? "]\n" : "");
    mem_free(order);
    return out->failed ? fail(err, SLUICE_E_NOMEM, "no memory to compare %zu rows", t->n) : SLUICE_OK;
}
