/* Tables as JSON: columns of text, dictionaries for what repeats, runs of equal items counted (docs/report.md,
 * Tables). */
#include "report/table.h"

#include "base/mem.h"
#include "base/status.h"
#include "record/line.h"

#include <stdio.h>
#include <string.h>

/* Numbers texts in the order in which they first come; a stamp per text spares clearing between dictionaries. */
struct dictionary {
    uint32_t *stamp, *index; /* [texts.n] */
    uint32_t *ids;           /* [n], of texts */
    uint32_t n, turn;
};

static sluice_status dictionary_make(const struct table *t, struct dictionary *d, sluice_error *err) {
    size_t n = (size_t)t->texts.n + 1;
    uint32_t *all = mem_calloc(3 * n, sizeof *all);
    *d = (struct dictionary){.stamp = all, .index = all + n, .ids = all + 2 * n};
    return all ? SLUICE_OK : fail(err, SLUICE_E_NOMEM, "no memory for the data of the report");
}

static void dictionary_free(struct dictionary *d) {
    mem_free(d->stamp);
}

static void dictionary_start(struct dictionary *d) {
    d->turn++;
    d->n = 0;
}

static uint32_t dictionary_add(struct dictionary *d, uint32_t id) {
    if (d->stamp[id] != d->turn) {
        d->stamp[id] = d->turn;
        d->index[id] = d->n;
        d->ids[d->n++] = id;
    }
    return d->index[id];
}

/* One column: cells [n] of texts, as a JSON string of items. dict NULL: the texts themselves. */
static void put_items(const struct table *t, const uint32_t *cells, size_t n, struct dictionary *dict,
                      struct buf *out) {
    buf_putc(out, '"');
    for (size_t i = 0; i < n;) {
        size_t to = i + 1;
        while (to < n && cells[to] == cells[i]) {
            to++;
        }
        buf_puts(out, i ? "," : "");
        if (cells[i] && dict) {
            buf_printf(out, "%u", dictionary_add(dict, cells[i]));
        } else if (cells[i]) {
            buf_puts(out, texts_get(&t->texts, cells[i]));
        }
        if (to - i > 1) {
            buf_printf(out, "*%zu", to - i);
        }
        i = to;
    }
    buf_putc(out, '"');
}

static void put_entries(const struct table *t, const struct dictionary *d, const char *name, bool json,
                        struct buf *out) {
    line_open(out, name, '[');
    for (uint32_t i = 0; i < d->n; i++) {
        if (json) {
            buf_puts(out, i ? "," : "");
            buf_puts(out, texts_get(&t->texts, d->ids[i]));
        } else {
            line_put_text(out, NULL, texts_get(&t->texts, d->ids[i]));
        }
    }
    line_close(out, ']');
}

/* The cells of a column; false when none is known. */
static bool gather(const struct table *t, const struct row_list *rows, size_t column, uint32_t *cells) {
    uint32_t any = 0;
    for (size_t i = 0; i < rows->n; i++) {
        cells[i] = t->rows[rows->at[i]].cell[column];
        any |= cells[i];
    }
    return any != 0;
}

struct writing {
    const struct table *table;
    const struct row_list *rows;
    uint32_t *cells; /* [rows.n] */
    bool detail;
    struct dictionary *dict;
    struct buf *columns, *dicts;
};

static void put_columns(struct writing *w, bool sizes) {
    for (size_t c = 0; c < COL_COUNT; c++) {
        const struct column *column = &columns[c];
        if ((column->type == COLUMN_SIZE) != sizes || (column->on == ON_DETAIL && !w->detail) ||
            !gather(w->table, w->rows, c, w->cells)) {
            continue;
        }
        line_key(w->columns, column->name);
        if (column->type == COLUMN_NUMBER) {
            put_items(w->table, w->cells, w->rows->n, NULL, w->columns);
            continue;
        }
        if (!sizes) {
            dictionary_start(w->dict);
        }
        put_items(w->table, w->cells, w->rows->n, w->dict, w->columns);
        if (!sizes) {
            put_entries(w->table, w->dict, column->name, column->type == COLUMN_JSON, w->dicts);
        }
    }
}

sluice_status table_json(const struct table *t, const struct row_list *rows, bool detail, struct buf *out,
                         sluice_error *err) {
    struct dictionary dict;
    struct buf data = {0}, dicts = {0};
    uint32_t *cells = mem_alloc((rows->n + 1) * sizeof *cells);
    if (!cells || dictionary_make(t, &dict, err) != SLUICE_OK) {
        mem_free(cells);
        return fail(err, SLUICE_E_NOMEM, "no memory for the data of the report");
    }
    struct writing w = {t, rows, cells, detail, &dict, &data, &dicts};
    buf_putc(&data, '{');
    buf_putc(&dicts, '{');
    put_columns(&w, false);
    dictionary_start(&dict);
    put_columns(&w, true);
    if (dict.n) {
        put_entries(t, &dict, "size", true, &dicts);
    }
    dictionary_free(&dict);
    mem_free(cells);
    if (data.failed || dicts.failed) {
        out->failed = true;
    } else {
        buf_printf(out, "{\"n\":%zu,\"dict\":", rows->n);
        buf_append(out, dicts.data, dicts.len);
        buf_puts(out, "},\"columns\":");
        buf_append(out, data.data, data.len);
        buf_puts(out, "}}");
    }
    buf_free(&data);
    buf_free(&dicts);
    return out->failed ? fail(err, SLUICE_E_NOMEM, "no memory for the data of the report") : SLUICE_OK;
}

sluice_status table_compared_json(const struct table *t, const struct row_list *rows, struct buf *out,
                                  sluice_error *err) {
    struct dictionary dict;
    uint32_t *cells = mem_alloc((rows->n + 1) * sizeof *cells);
    if (!cells || dictionary_make(t, &dict, err) != SLUICE_OK) {
        mem_free(cells);
        return fail(err, SLUICE_E_NOMEM, "no memory for the data of the report");
    }
    line_open(out, "fields", '[');
    for (size_t f = 0; f < COMPARE_FIELDS; f++) {
        line_open(out, NULL, '{');
        line_put_text(out, "name", compare_field_name(f));
        line_open(out, "classes", '[');
        for (int class = 0; class < COMPARE_CLASSES; class ++) {
            if (compare_field_in(f, (enum compare_class) class)) {
                line_put_text(out, NULL, compare_class_names[class]);
            }
        }
        line_close(out, ']');
        line_close(out, '}');
    }
    line_close(out, ']');
    line_open(out, "values", '[');
    for (size_t f = 0; f < COMPARE_FIELDS; f++) {
        for (size_t i = 0; i < rows->n; i++) {
            cells[i] = t->rows[rows->at[i]].compared[f];
        }
        line_open(out, NULL, '{');
        line_key(out, "column");
        dictionary_start(&dict);
        put_items(t, cells, rows->n, &dict, out);
        put_entries(t, &dict, "dict", false, out);
        line_close(out, '}');
    }
    line_close(out, ']');
    dictionary_free(&dict);
    mem_free(cells);
    return out->failed ? fail(err, SLUICE_E_NOMEM, "no memory for the data of the report") : SLUICE_OK;
}
