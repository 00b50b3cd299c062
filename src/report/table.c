#include "report/table.h"

#include "base/mem.h"
#include "base/status.h"
#include "record/line.h"
#include "report/names.h"
#include "report/slug.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Makes room for one more element of an array. */
static bool grow(void *array, size_t *cap, size_t n, size_t size) {
    void **a = array;
    if (n < *cap) {
        return true;
    }
    size_t more = *cap ? 2 * *cap : 16;
    void *p = more < UINT32_MAX ? mem_realloc(*a, more * size) : NULL;
    if (p) {
        *a = p;
        *cap = more;
    }
    return p != NULL;
}

static sluice_status no_memory(sluice_error *err) {
    return fail(err, SLUICE_E_NOMEM, "no memory for the rows of the report");
}

static uint32_t add_buf(struct texts *p, struct buf *b) {
    p->failed |= b->failed;
    uint32_t id = b->failed || b->len == 0 ? 0 : texts_add(p, b->data);
    buf_free(b);
    return id;
}

static uint32_t add_json(struct texts *p, struct json_object *v) {
    const char *s =
        v ? json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE) : NULL;
    p->failed |= v && !s;
    return texts_add(p, s);
}

/* A member's text; of numbers their digits as the record has them. */
static uint32_t add_member(struct texts *p, struct json_object *o, const char *key) {
    struct json_object *v = record_get(o, key);
    switch (v ? json_object_get_type(v) : json_type_null) {
    case json_type_string:
        return texts_add(p, json_object_get_string(v));
    case json_type_boolean:
        return texts_add(p, json_object_get_boolean(v) ? "true" : "false");
    default:
        return add_json(p, v);
    }
}

/* ---- Groups ------------------------------------------------------------------------------------------------------ */

/* The group of that slug, made if there is none yet. */
static sluice_status find_group(struct table *t, struct table_group **groups, size_t *n, size_t *cap,
                                const struct table_group *wanted, uint32_t *out, sluice_error *err) {
    for (size_t i = 0; i < *n; i++) {
        if ((*groups)[i].slug == wanted->slug) {
            *out = (uint32_t)i;
            return SLUICE_OK;
        }
    }
    if (t->texts.failed || !grow(groups, cap, *n, sizeof **groups)) {
        return no_memory(err);
    }
    (*groups)[*n] = *wanted;
    *out = (uint32_t)(*n)++;
    return SLUICE_OK;
}

static sluice_status find_hardware(struct table *t, const struct record_run *run, struct json_object *target,
                                   uint32_t *out, sluice_error *err) {
    struct buf title = {0}, plain = {0}, slug = {0};
    name_hardware(run, target, " \xC2\xB7 ", &title);
    name_hardware(run, target, " ", &plain);
    if (!plain.failed) {
        slug_put(&slug, plain.data);
    }
    buf_free(&plain);
    struct table_group g = {.slug = add_buf(&t->texts, &slug), .title = add_buf(&t->texts, &title)};
    return find_group(t, &t->hardware, &t->n_hardware, &t->cap_hardware, &g, out, err);
}

/* The quantization is part of a model's name on the site, if it is not in the name already. */
static sluice_status find_model(struct table *t, const struct record_run *run, struct json_object *target,
                                uint32_t *out, sluice_error *err) {
    const char *title = name_model(run, target);
    const char *quantization = record_text(record_get(run->lines[0].tree, "model_file"), "quantization");
    struct buf both = {0}, slug = {0};
    buf_puts(&both, title);
    if (quantization && !strstr(title, quantization)) {
        buf_printf(&both, " %s", quantization);
    }
    if (!both.failed) {
        slug_put(&slug, both.data);
    }
    buf_free(&both);
    struct table_group g = {.slug = add_buf(&t->texts, &slug),
                            .title = texts_add(&t->texts, title),
                            .quantization = texts_add(&t->texts, quantization)};
    return find_group(t, &t->models, &t->n_models, &t->cap_models, &g, out, err);
}

/* ---- Blocks ------------------------------------------------------------------------------------------------------ */

static const char *const volatile_keys[] = {"load1", "memory_available", NULL};
static const char *const momentary_keys[] = {
    "load1", "memory_available", "clock_sm_mhz", "clock_mem_mhz", "memory_before_bytes", "memory_after_bytes", NULL};

static bool listed(const char *const *names, const char *name) {
    while (*names && strcmp(*names, name) != 0) {
        names++;
    }
    return *names != NULL;
}

/* A value but for members of those names, at any depth: as deep as a record's rules allow. */
static void put_without(struct buf *out, struct json_object *v, const char *const *names) {
    if (json_object_is_type(v, json_type_object)) {
        bool first = true;
        buf_putc(out, '{');
        json_object_object_foreach(v, key, member) {
            if (!listed(names, key)) {
                buf_puts(out, first ? "" : ",");
                buf_json_string(out, key, strlen(key));
                buf_putc(out, ':');
                put_without(out, member, names);
                first = false;
            }
        }
        buf_putc(out, '}');
    } else if (json_object_is_type(v, json_type_array)) {
        buf_putc(out, '[');
        for (size_t i = 0; i < json_object_array_length(v); i++) {
            buf_puts(out, i ? "," : "");
            put_without(out, json_object_array_get_idx(v, i), names);
        }
        buf_putc(out, ']');
    } else {
        const char *s = json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        out->failed |= !s;
        buf_puts(out, s ? s : "");
    }
}

static uint32_t block_text(struct table *t, struct json_object *run, const char *const *without) {
    struct json_object *pair = record_get(run, "targets");
    struct buf b = {0};
    buf_puts(&b, "\"environment\":");
    put_without(&b, record_get(run, "environment"), without);
    buf_puts(&b, pair ? ",\"targets\":" : ",\"targets\":[");
    put_without(&b, pair ? pair : record_get(run, "target"), without);
    buf_puts(&b, pair ? ",\"sampling\":" : "],\"sampling\":");
    put_without(&b, record_get(run, "sampling"), without);
    buf_puts(&b, ",\"origin\":");
    put_without(&b, record_get(run, "origin"), without);
    return add_buf(&t->texts, &b);
}

static sluice_status find_block(struct table *t, struct json_object *run, uint32_t hardware, uint32_t *out,
                                sluice_error *err) {
    uint32_t key = block_text(t, run, momentary_keys);
    for (size_t i = 0; i < t->n_blocks; i++) {
        if (t->blocks[i].key == key && t->blocks[i].hardware == hardware) {
            *out = (uint32_t)i;
            return SLUICE_OK;
        }
    }
    uint32_t json = block_text(t, run, volatile_keys);
    if (t->texts.failed || !grow(&t->blocks, &t->cap_blocks, t->n_blocks, sizeof *t->blocks)) {
        return no_memory(err);
    }
    t->blocks[t->n_blocks] = (struct table_block){key, json, hardware};
    *out = (uint32_t)t->n_blocks++;
    return SLUICE_OK;
}

/* ---- Cells ------------------------------------------------------------------------------------------------------- */

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
    return add_buf(p, &b);
}

static uint32_t add_metric(struct texts *p, struct json_object *row, const struct column *c) {
    struct json_object *m = record_get(record_get(row, "metrics"), c->key), *interval = record_get(m, "interval");
    struct buf b = {0};
    if (!m) {
        return c->place == FROM_MEDIAN ? add_printed(p, row, c->key) : 0;
    }
    switch (c->place) {
    case FROM_MEDIAN:
        return add_member(p, m, "median");
    case FROM_LOW:
    case FROM_HIGH:
        return interval ? add_json(p, json_object_array_get_idx(interval, c->place == FROM_HIGH)) : 0;
    case FROM_P95:
        return add_member(p, m, "p95");
    case FROM_P99:
        return add_member(p, m, "p99");
    default:
        buf_printf(&b, "{\"n\":%.0f,\"level\":", record_number(m, "n"));
        buf_json_double(&b, record_number(m, "level"));
        buf_putc(&b, '}');
        return add_buf(p, &b);
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
    return v ? add_json(p, v) : add_member(p, o, c->key);
}

static void add_other_cells(struct table *t, struct table_row *r, const struct record_run *run,
                            const struct record_line *line, const struct check *found,
                            const struct compare_row *compared) {
    struct texts *p = &t->texts;
    struct json_object *gpu = name_gpu(run, record_target(run, line->tree));
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
    r->cell[COL_DRIVER] = add_member(p, gpu, "driver");
    r->cell[COL_CAP] = add_member(p, line->tree, "power_cap_w");
    if (!r->cell[COL_CAP]) {
        r->cell[COL_CAP] = add_member(p, gpu, "power_limit_w");
    }
    r->cell[COL_CAP_MAX] = add_member(p, gpu, "power_limit_max_w");
    r->cell[COL_KEY_WORKLOAD] = texts_add(p, compared->key[COMPARE_WORKLOAD]);
    r->cell[COL_KEY_STACK] = texts_add(p, compared->key[COMPARE_STACK]);
    r->cell[COL_KEY_HARDWARE] = texts_add(p, compared->key[COMPARE_HARDWARE]);
    if (unfit) {
        buf_printf(&b, "the row %s", unfit);
        r->cell[COL_UNFIT] = add_buf(p, &b);
    }
    findings_json(found, line->number, &b);
    r->cell[COL_FINDINGS] = add_buf(p, &b);
}

/* ---- Adding ------------------------------------------------------------------------------------------------------ */

static sluice_status add_row(struct table *t, const struct record_run *run, const struct record_line *line,
                             const struct check *found, const struct compare_row *compared, sluice_error *err) {
    struct json_object *target = record_target(run, line->tree);
    struct table_row r = {.run = (uint32_t)t->n_runs - 1, .line = line->number};
    TRY(find_model(t, run, target, &r.model, err));
    TRY(find_hardware(t, run, target, &r.hardware, err));
    for (size_t c = 0; c < COL_COUNT; c++) {
        r.cell[c] = add_cell(&t->texts, run, line->tree, &columns[c]);
    }
    add_other_cells(t, &r, run, line, found, compared);
    for (size_t i = 0; i < COMPARE_FIELDS; i++) {
        r.compared[i] = compared->value[i].len ? texts_add(&t->texts, compared->value[i].data) : 0;
    }
    r.rate = row_value(line->tree, record_is(line->tree, "test", "raw") ? "tok_s" : "decode_tok_s").median;
    if (t->texts.failed || !grow(&t->rows, &t->cap_rows, t->n_rows, sizeof *t->rows)) {
        return no_memory(err);
    }
    t->rows[t->n_rows++] = r;
    t->models[r.model].n_rows++;
    t->hardware[r.hardware].n_rows++;
    t->runs[r.run].n_rows++;
    return SLUICE_OK;
}

static sluice_status add_run(struct table *t, size_t file, const struct record_run *run, sluice_error *err) {
    struct json_object *top = run->lines[0].tree;
    struct json_object *target = record_get(top, "target"), *pair = record_get(top, "targets");
    const struct record_line *end = record_find(run, RECORD_END);
    struct json_object *noise = end ? record_get(end->tree, "noise") : NULL;
    struct table_run r = {
        .id = add_member(&t->texts, top, "id"),
        .date = add_member(&t->texts, top, "date"),
        .label = add_member(&t->texts, top, "label"),
        .suite = add_member(&t->texts, top, "suite"),
        .source = add_member(&t->texts, record_get(top, "origin"), "source"),
        .verdict = end ? add_member(&t->texts, record_get(end->tree, "verdict"), "state") : 0,
        .model_file = add_json(&t->texts, record_get(top, "model_file")),
        .file = file,
        .line = run->lines[0].number,
        .first_row = t->n_rows,
        .peak_w = record_number(noise, "peak_w"),
        .idle_c = record_number(noise, "idle_c"),
        .peak_c = record_number(noise, "peak_c"),
    };
    TRY(find_hardware(t, run, target ? target : json_object_array_get_idx(pair, 0), &r.hardware, err));
    TRY(find_block(t, top, r.hardware, &r.block, err));
    if (t->texts.failed || !grow(&t->runs, &t->cap_runs, t->n_runs, sizeof *t->runs)) {
        return no_memory(err);
    }
    t->runs[t->n_runs++] = r;
    return SLUICE_OK;
}

static sluice_status add_probe(struct table *t, const struct record_line *line, const struct check *found,
                               sluice_error *err) {
    struct buf b = {0}, f = {0};
    put_without(&b, line->tree, (const char *const[]){"prev", NULL});
    findings_json(found, line->number, &f);
    struct table_probe p = {.run = (uint32_t)t->n_runs - 1, .line = line->number};
    p.json = add_buf(&t->texts, &b);
    p.findings = add_buf(&t->texts, &f);
    if (t->texts.failed || !grow(&t->probes, &t->cap_probes, t->n_probes, sizeof *t->probes)) {
        return no_memory(err);
    }
    t->probes[t->n_probes++] = p;
    return SLUICE_OK;
}

sluice_status table_add(struct table *t, size_t file, const struct record_run *run, const struct check *found,
                        const struct compare_row *compared, sluice_error *err) {
    TRY(add_run(t, file, run, err));
    for (size_t i = 0; i < run->n_lines; i++) {
        const struct record_line *line = &run->lines[i];
        if (line->kind == RECORD_PROBE) {
            TRY(add_probe(t, line, found, err));
        } else if (line->kind == RECORD_ROW) {
            TRY(add_row(t, run, line, found, compared++, err));
        }
    }
    return SLUICE_OK;
}

/* ---- Whole ------------------------------------------------------------------------------------------------------- */

sluice_status table_finish(struct table *t, sluice_error *err) {
    static const enum column_id keys[] = {COL_KEY_HARDWARE, COL_KEY_STACK, COL_KEY_WORKLOAD};
    static const char *const names[] = {"hardware", "stack", "workload"};
    uint32_t *fit =
        mem_calloc((size_t)t->texts.n + 1, sizeof *fit); /* rows of a key that may be ranked; no two keys are equal */
    uint32_t unfit = texts_add(&t->texts, "unfit"), alone = texts_add(&t->texts, "alone"), narrow[3];
    for (size_t k = 0; k < 3; k++) {
        narrow[k] = texts_add(&t->texts, names[k]);
    }
    if (!fit || t->texts.failed) {
        mem_free(fit);
        return no_memory(err);
    }
    for (size_t i = 0; i < t->n_rows; i++) {
        for (size_t k = 0; k < 3 && !t->rows[i].cell[COL_UNFIT]; k++) {
            fit[t->rows[i].cell[keys[k]]]++;
        }
    }
    for (size_t i = 0; i < t->n_rows; i++) {
        struct table_row *r = &t->rows[i];
        r->cell[COL_COMPARABLE] = r->cell[COL_UNFIT] ? unfit : alone;
        for (size_t k = 0; k < 3 && r->cell[COL_COMPARABLE] == alone; k++) {
            if (fit[r->cell[keys[k]]] > 1) {
                r->cell[COL_COMPARABLE] = narrow[k];
            }
        }
    }
    mem_free(fit);
    return SLUICE_OK;
}

void table_free(struct table *t) {
    texts_free(&t->texts);
    mem_free(t->rows);
    mem_free(t->runs);
    mem_free(t->models);
    mem_free(t->hardware);
    mem_free(t->blocks);
    mem_free(t->probes);
    *t = (struct table){.n_rows = 0};
}

const char *table_text(const struct table *t, const struct table_row *r, enum column_id column) {
    return texts_get(&t->texts, r->cell[column]);
}

void table_row_id(const struct table *t, const struct table_row *r, char out[48]) {
    snprintf(out, 48, "%.16s-%zu", texts_get(&t->texts, t->runs[r->run].id), r->line);
}

/* ---- Selection --------------------------------------------------------------------------------------------------- */

struct ordering {
    const struct table *table;
    enum row_order order;
};

static int compare_rows(const void *pa, const void *pb, void *context) {
    const struct ordering *o = context;
    uint32_t ia = *(const uint32_t *)pa, ib = *(const uint32_t *)pb;
    const struct table_row *a = &o->table->rows[ia], *b = &o->table->rows[ib];
    int c = 0;
    if (o->order == ORDER_RATE) {
        double x = isnan(a->rate) ? -INFINITY : a->rate, y = isnan(b->rate) ? -INFINITY : b->rate;
        c = (x < y) - (x > y);
    } else if (a->cell[COL_DATE] != b->cell[COL_DATE]) {
        const char *x = table_text(o->table, a, COL_DATE), *y = table_text(o->table, b, COL_DATE);
        c = strcmp(y ? y : "", x ? x : "");
    }
    return c ? c : (ia > ib) - (ia < ib);
}

sluice_status table_select(const struct table *t, int64_t model, int64_t hardware, enum row_order order,
                           struct row_list *out, sluice_error *err) {
    *out = (struct row_list){.at = mem_alloc((t->n_rows + 1) * sizeof *out->at)};
    if (!out->at) {
        return no_memory(err);
    }
    for (size_t i = 0; i < t->n_rows; i++) {
        const struct table_row *r = &t->rows[i];
        if ((model < 0 || r->model == model) && (hardware < 0 || r->hardware == hardware)) {
            out->at[out->n++] = (uint32_t)i;
        }
    }
    struct ordering o = {t, order};
    qsort_r(out->at, out->n, sizeof *out->at, compare_rows, &o);
    return SLUICE_OK;
}

void row_list_free(struct row_list *l) {
    mem_free(l->at);
    *l = (struct row_list){.n = 0};
}

/* ---- Findings ---------------------------------------------------------------------------------------------------- */

static size_t first_finding(const struct check *c, size_t line) {
    size_t lo = 0, hi = c->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c->findings[mid].line < line) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static void put_findings(const struct check *found, size_t first, size_t last, bool whole, struct buf *out) {
    size_t from = first_finding(found, first), to = first_finding(found, last + 1);
    for (size_t i = from; i < to; i++) {
        const struct finding *f = &found->findings[i];
        line_open(out, NULL, '{');
        if (whole) {
            line_put_uint(out, "line", f->line);
            line_put_text(out, "row", f->row);
        }
        line_put_text(out, "level", finding_level_names[f->level]);
        line_put_text(out, "field", name_finding_column(f));
        line_put_text(out, "text", f->text);
        line_close(out, '}');
    }
}

void findings_json(const struct check *found, size_t line, struct buf *out) {
    size_t at = first_finding(found, line);
    if (at < found->n && found->findings[at].line == line) {
        buf_putc(out, '[');
        put_findings(found, line, line, false, out);
        buf_putc(out, ']');
    }
}

void findings_json_run(const struct check *found, size_t first, size_t last, struct buf *out) {
    buf_putc(out, '[');
    put_findings(found, first, last, true, out);
    buf_putc(out, ']');
}
