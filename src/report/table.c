#include "report/table_impl.h"

#include "base/mem.h"
#include "base/status.h"
#include "report/names.h"
#include "report/slug.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Makes room for one more element of an array. */
bool table_grow(void *array, size_t *cap, size_t n, size_t size) {
    if (n < *cap) {
        return true;
    }
    void *before, *after;
    size_t more = *cap ? 2 * *cap : 16;
    memcpy(&before, array, sizeof before);
    after = more < UINT32_MAX ? mem_realloc(before, more * size) : NULL;
    if (after) {
        memcpy(array, &after, sizeof after);
        *cap = more;
    }
    return after != NULL;
}

sluice_status table_no_memory(sluice_error *err) {
    return fail(err, SLUICE_E_NOMEM, "no memory for the rows of the report");
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
    if (t->texts.failed || !table_grow(groups, cap, *n, sizeof **groups)) {
        return table_no_memory(err);
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
    struct table_group g = {.slug = texts_add_buf(&t->texts, &slug), .title = texts_add_buf(&t->texts, &title)};
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
    struct table_group g = {.slug = texts_add_buf(&t->texts, &slug),
                            .title = texts_add(&t->texts, title),
                            .quantization = texts_add(&t->texts, quantization)};
    return find_group(t, &t->models, &t->n_models, &t->cap_models, &g, out, err);
}

/* ---- Adding ------------------------------------------------------------------------------------------------------ */

static sluice_status add_row(struct table *t, const struct record_run *run, const struct record_line *line,
                             const struct check *found, const struct compare_row *compared, sluice_error *err) {
    struct json_object *target = record_target(run, line->tree);
    struct table_row r = {.run = (uint32_t)t->n_runs - 1, .line = line->number};
    TRY(find_model(t, run, target, &r.model, err));
    TRY(find_hardware(t, run, target, &r.hardware, err));
    table_add_cells(t, &r, run, line, found, compared);
    for (size_t i = 0; i < COMPARE_FIELDS; i++) {
        r.compared[i] = compared->value[i].len ? texts_add(&t->texts, compared->value[i].data) : 0;
    }
    r.rate = row_value(line->tree, record_is(line->tree, "test", "raw") ? "tok_s" : "decode_tok_s").median;
    if (t->texts.failed || !table_grow(&t->rows, &t->cap_rows, t->n_rows, sizeof *t->rows)) {
        return table_no_memory(err);
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
        .id = texts_add_member(&t->texts, top, "id"),
        .date = texts_add_member(&t->texts, top, "date"),
        .label = texts_add_member(&t->texts, top, "label"),
        .suite = texts_add_member(&t->texts, top, "suite"),
        .source = texts_add_member(&t->texts, record_get(top, "origin"), "source"),
        .verdict = end ? texts_add_member(&t->texts, record_get(end->tree, "verdict"), "state") : 0,
        .model_file = texts_add_json(&t->texts, record_get(top, "model_file")),
        .file = file,
        .line = run->lines[0].number,
        .first_row = t->n_rows,
        .peak_w = record_number(noise, "peak_w"),
        .idle_c = record_number(noise, "idle_c"),
        .peak_c = record_number(noise, "peak_c"),
    };
    TRY(find_hardware(t, run, target ? target : json_object_array_get_idx(pair, 0), &r.hardware, err));
    TRY(table_find_block(t, top, r.hardware, &r.block, err));
    if (t->texts.failed || !table_grow(&t->runs, &t->cap_runs, t->n_runs, sizeof *t->runs)) {
        return table_no_memory(err);
    }
    t->runs[t->n_runs++] = r;
    return SLUICE_OK;
}

static sluice_status add_probe(struct table *t, const struct record_line *line, const struct check *found,
                               sluice_error *err) {
    struct buf b = {0}, f = {0};
    table_put_without(&b, line->tree, (const char *const[]){"prev", NULL});
    findings_json(found, line->number, &f);
    struct table_probe p = {.run = (uint32_t)t->n_runs - 1, .line = line->number};
    p.json = texts_add_buf(&t->texts, &b);
    p.findings = texts_add_buf(&t->texts, &f);
    if (t->texts.failed || !table_grow(&t->probes, &t->cap_probes, t->n_probes, sizeof *t->probes)) {
        return table_no_memory(err);
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
        return table_no_memory(err);
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
        return table_no_memory(err);
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
