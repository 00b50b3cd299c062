#include "backend/cpu/weights.h"

#include "base/mem.h"
#include "base/status.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Of the file: what a thread packs and then gives back before it takes more. */
enum { UNIT_BYTES = 2 << 20, LAYER_MATRICES = 10 };

/* A matrix (or all experts of one kind, whose rows follow each other) on its way into strips. */
struct packed {
    struct weight *w;    /* in the backend's model */
    const uint8_t *rows; /* in the file */
    uint64_t first_unit; /* of the units of all matrices */
};

struct packing {
    const struct gguf_file *file;
    struct packed *matrices; /* [n], in the order of the file */
    size_t n;
    uint64_t n_units;
    atomic_uint_fast64_t next; /* unit */
};

static uint64_t strips_of(const struct weight *w) {
    return (uint64_t)w->n_mat * ((w->n_rows + STRIP_ROWS - 1) / STRIP_ROWS);
}

/* Strips in a unit. */
static uint64_t unit_strips(const struct weight *w) {
    uint64_t n = UNIT_BYTES / (STRIP_ROWS * w->row_bytes);
    return n ? n : 1;
}

static uint64_t units_of(const struct weight *w) {
    return (strips_of(w) + unit_strips(w) - 1) / unit_strips(w);
}

static void add(struct packing *p, struct weight *w) {
    if (w->data && strip_words(w->type)) {
        p->matrices[p->n++] = (struct packed){.w = w, .rows = w->data};
    }
}

static int by_place(const void *a, const void *b) {
    const uint8_t *x = ((const struct packed *)a)->rows;
    const uint8_t *y = ((const struct packed *)b)->rows;
    return (x > y) - (x < y);
}

/* All matrices that kernels meet and that have strips, in the order of the file: read in passing where it is not
 * cached. */
static void collect(struct packing *p, struct model *m) {
    for (uint32_t i = 0; i < m->n_layer; i++) {
        struct model_layer *l = &m->layers[i];
        struct weight *all[LAYER_MATRICES] = {&l->wq,       &l->wk,   &l->wv, &l->wo,   &l->in_proj,
                                              &l->out_proj, &l->gate, &l->up, &l->down, &l->router};
        for (size_t k = 0; k < LAYER_MATRICES; k++) {
            add(p, all[k]);
        }
    }
    add(p, &m->output);
    qsort(p->matrices, p->n, sizeof p->matrices[0], by_place);
    for (size_t i = 0; i < p->n; i++) {
        p->matrices[i].first_unit = p->n_units;
        p->n_units += units_of(p->matrices[i].w);
    }
}

/* Strips are counted on through the experts of a tensor, whose last ones may be short. */
static const uint8_t *strip_rows(const struct packed *p, uint64_t strip, uint32_t *n_rows) {
    const struct weight *w = p->w;
    uint32_t each = (w->n_rows + STRIP_ROWS - 1) / STRIP_ROWS;
    uint32_t row = (uint32_t)(strip % each) * STRIP_ROWS;
    *n_rows = w->n_rows - row < STRIP_ROWS ? w->n_rows - row : STRIP_ROWS;
    return p->rows + strip / each * weight_file_bytes(w) + row * w->row_bytes;
}

static void pack_unit(const struct packing *p, const struct packed *matrix, uint64_t unit) {
    struct weight *w = matrix->w;
    size_t bytes = strip_bytes(w->type, w->n_cols);
    uint64_t begin = unit * unit_strips(w);
    uint64_t end = begin + unit_strips(w) < strips_of(w) ? begin + unit_strips(w) : strips_of(w);
    uint32_t n;
    const uint8_t *first = strip_rows(matrix, begin, &n);
    for (uint64_t s = begin; s < end; s++) {
        const uint8_t *rows = strip_rows(matrix, s, &n);
        strip_pack(w->type, rows, w->row_bytes, n, w->n_cols, (uint8_t *)(uintptr_t)w->data + s * bytes);
    }
    gguf_release(p->file, first, (size_t)(strip_rows(matrix, end, &n) - first));
}

static void pack_units(void *arg, uint32_t ith, uint32_t nth) {
    struct packing *p = arg;
    size_t i = 0;
    (void)ith;
    (void)nth;
    for (uint64_t u; (u = atomic_fetch_add(&p->next, 1)) < p->n_units;) {
        while (i + 1 < p->n && u >= p->matrices[i + 1].first_unit) {
            i++;
        }
        pack_unit(p, &p->matrices[i], u - p->matrices[i].first_unit);
    }
}

/* Memory for all strips; the matrices come to point to theirs. */
static sluice_status place(struct packing *p, struct weights *w, uint64_t available, sluice_error *err) {
    for (size_t i = 0; i < p->n; i++) {
        const struct weight *m = p->matrices[i].w;
        w->strips_bytes += m->n_mat * strips_bytes(m->type, m->n_rows, m->n_cols);
        w->bytes -= m->n_mat * weight_file_bytes(m);
    }
    w->bytes += w->strips_bytes;
    if (available && w->strips_bytes > available) {
        return fail(err, SLUICE_E_NOMEM,
                    "the weights need %.2f GiB of memory, but only %.2f GiB is available: choose a smaller model or "
                    "quantization, or free memory",
                    (double)w->strips_bytes / 0x1p30, (double)available / 0x1p30);
    }
    w->strips = w->strips_bytes ? mem_map(w->strips_bytes) : NULL;
    if (w->strips_bytes && !w->strips) {
        return fail(err, SLUICE_E_NOMEM,
                    "no memory for %.2f GiB of weights: choose a smaller model or quantization, or free memory",
                    (double)w->strips_bytes / 0x1p30);
    }
    uint8_t *at = w->strips;
    for (size_t i = 0; i < p->n; i++) {
        struct weight *m = p->matrices[i].w;
        m->data = at;
        m->mat_bytes = strips_bytes(m->type, m->n_rows, m->n_cols);
        at += m->n_mat * m->mat_bytes;
    }
    return SLUICE_OK;
}

sluice_status weights_open(const struct model *m, struct pool *pool, uint64_t available, struct weights *w,
                           sluice_error *err) {
    *w = (struct weights){.model = *m, .bytes = m->file->tensor_bytes};
    w->model.layers = mem_alloc(m->n_layer * sizeof *m->layers);
    struct packing p = {.file = m->file, .matrices = mem_alloc((m->n_layer * LAYER_MATRICES + 1) * sizeof *p.matrices)};
    sluice_status status;
    if (w->model.layers && p.matrices) {
        memcpy(w->model.layers, m->layers, m->n_layer * sizeof *m->layers);
        collect(&p, &w->model);
        status = place(&p, w, available, err);
    } else {
        status = fail(err, SLUICE_E_NOMEM, "no memory for the tables of %u layers", m->n_layer);
    }
    if (status == SLUICE_OK) {
        pool_run(pool, pack_units, &p);
        for (size_t i = 0; i < p.n; i++) { /* once more in whole: reading a unit maps some pages of its neighbours */
            const struct weight *one = p.matrices[i].w;
            gguf_release(p.file, p.matrices[i].rows, one->n_mat * weight_file_bytes(one));
        }
    }
    mem_free(p.matrices);
    return status;
}

void weights_close(struct weights *w) {
    mem_unmap(w->strips, w->strips_bytes);
    mem_free(w->model.layers);
    *w = (struct weights){0};
}
