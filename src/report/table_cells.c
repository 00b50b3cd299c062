/* A row's cells: what a record says in each column. */
#include "report/table_impl.h"

#include "report/names.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

uint32_t texts_add_buf(struct texts *p, struct buf *b) {
    p->failed |= b->failed;
    uint32_t id = b->failed || b->len == 0 ? 0 : texts_add(p, b->data);
    buf_free(b);
    return id;
}

uint32_t texts_add_json(struct texts *p, struct json_object *v) {
    const char *s =
        v ? json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE) : NULL;
    p->failed |= v && !s;
    return texts_add(p, s);
}

uint32_t texts_add_member(struct texts *p, struct json_object *o, const char *key) {
    struct json_object *v = record_get(o, key);
    switch (v ? json_object_get_type(v) : json_type_null) {
    case json_type_string:
        return texts_add(p, json_object_get_string(v));
    case json_type_boolean:
        return texts_add(p, json_object_get_boolean(v) ? "true" : "false");
    default:
        return texts_add_json(p, v);
    }
}

static struct json_object *place(const struct record_run *run, struct json_object *row, enum column_place from) {
    struct json_object *top = run->lines[0].tree;
    switch (from) {
    case FROM_ROW:
        return row;
    case FROM_RUN:
        return top;
    case FROM_ORIGIN:
        return record_get(top, "origin");
    case FROM_TARGET:
        return record_target(run, row);
    case FROM_FILE:
        return record_get(top, "model_file");
    case FROM_LIMIT:
        return record_get(row, "limit");
    case FROM_ENERGY:
        return record_get(row, "energy");
    case FROM_QUALITY:
        return record_get(row, "quality");
    case FROM_MEMORY:
        return record_get(row, "memory");
    case FROM_VERDICT:
        return record_get(row, "verdict");
    default:
        return NULL;
    }
}

static bool is_json_number(const char *s) {
    s += *s == '-';
    size_t whole = strspn(s, "0123456789");
    if (whole == 0 || (whole > 1 && s[0] == '0')) {
        return false;
    }
    s += whole;
    if (*s == '.') {
        size_t digits = strspn(s + 1, "0123456789");
        s += digits ? 1 + digits : 0;
    }
    return *s == '\0';
}

/* A printed figure keeps its digits where it is a plain number. */
static uint32_t add_printed(struct texts *p, struct json_object *row, const char *metric) {
    struct printed v = row_printed(row, metric);
    struct buf b = {0};
    if (!isfinite(v.v)) {
        return 0;
    }
    if (is_json_number(v.text)) {
        return texts_add(p, v.text);
    }
    buf_json_double(&b, v.v);
    return texts_add_buf(p, &b);
}

static uint32_t add_metric(struct texts *p, struct json_object *row, const struct column *c) {
    struct json_object *m = record_get(record_get(row, "metrics"), c->key), *interval = record_get(m, "interval");
    struct buf b = {0};
    if (!m) {
        return c->place == FROM_MEDIAN ? add_printed(p, row, c->key) : 0;
    }
    switch (c->place) {
    case FROM_MEDIAN:
        return texts_add_member(p, m, "median");
    case FROM_LOW:
    case FROM_HIGH:
        return interval ? texts_add_json(p, json_object_array_get_idx(interval, c->place == FROM_HIGH)) : 0;
    case FROM_P95:
        return texts_add_member(p, m, "p95");
    case FROM_P99:
        return texts_add_member(p, m, "p99");
    default:
        buf_printf(&b, "{\"n\":%.0f,\"level\":", record_number(m, "n"));
        buf_json_double(&b, record_number(m, "level"));
        buf_putc(&b, '}');
        return texts_add_buf(p, &b);
    }
}

static uint32_t add_cell(struct texts *p, const struct record_run *run, struct json_object *row,
                         const struct column *c) {
    if (c->place == FROM_ELSEWHERE) {
        return 0;
    }
    if (c->place >= FROM_MEDIAN) {
        return add_metric(p, row, c);
    }
    struct json_object *o = place(run, row, c->place);
    struct json_object *v = c->type == COLUMN_JSON ? record_get(o, c->key) : NULL;
    if (v && json_object_is_type(v, json_type_array) && json_object_array_length(v) == 0) {
        return 0; /* no reasons */
    }
    return v ? texts_add_json(p, v) : texts_add_member(p, o, c->key);
}

static void add_other_cells(struct table *t, struct table_row *r, const struct record_run *run,
                            const struct record_line *line, const struct check *found,
                            const struct compare_row *compared) {
    struct texts *p = &t->texts;
    struct json_object *gpu = row_gpu(run, record_target(run, line->tree));
    const char *unfit = compare_unfit(compared);
    struct buf b = {0};
    char number[32];
    snprintf(number, sizeof number, "%zu", line->number);
    r->cell[COL_LINE] = texts_add(p, number);
    r->cell[COL_KIND] = texts_add(p, name_kind(run, line->tree));
    r->cell[COL_MODEL] = t->models[r->model].title;
    r->cell[COL_MODEL_SLUG] = t->models[r->model].slug;
    r->cell[COL_HARDWARE] = t->hardware[r->hardware].title;
    r->cell[COL_HARDWARE_SLUG] = t->hardware[r->hardware].slug;
    r->cell[COL_DRIVER] = texts_add_member(p, gpu, "driver");
    r->cell[COL_CAP] = texts_add_member(p, line->tree, "power_cap_w");
    if (!r->cell[COL_CAP]) {
        r->cell[COL_CAP] = texts_add_member(p, gpu, "power_limit_w");
    }
    r->cell[COL_CAP_MAX] = texts_add_member(p, gpu, "power_limit_max_w");
    r->cell[COL_KEY_WORKLOAD] = texts_add(p, compared->key[COMPARE_WORKLOAD]);
    r->cell[COL_KEY_STACK] = texts_add(p, compared->key[COMPARE_STACK]);
    r->cell[COL_KEY_HARDWARE] = texts_add(p, compared->key[COMPARE_HARDWARE]);
    if (unfit) {
        buf_printf(&b, "the row %s", unfit);
        r->cell[COL_UNFIT] = texts_add_buf(p, &b);
    }
    findings_json(found, line->number, &b);
    r->cell[COL_FINDINGS] = texts_add_buf(p, &b);
}

void table_add_cells(struct table *t, struct table_row *r, const struct record_run *run, const struct record_line *line,
                     const struct check *found, const struct compare_row *compared) {
    for (size_t c = 0; c < COL_COUNT; c++) {
        r->cell[c] = add_cell(&t->texts, run, line->tree, &columns[c]);
    }
    add_other_cells(t, r, run, line, found, compared);
}
