/*
 * Weights on their way to the device: from the mapped file through two pinned buffers, copied by several threads because
 * one reads the page cache at a fraction of what the bus takes, then repacked there (device.h).
 */
#include "backend/cuda/cuda.h"

#include "base/mem.h"
#include "base/status.h"
#include "base/threads.h"

#include <string.h>

enum { PART_BYTES = 32 << 20, COPY_THREADS = 8 };

struct plane_sizes {
    size_t q, h, s, d;
};

static size_t aligned(size_t n) {
    return (n + 255) / 256 * 256;
}

static struct plane_sizes sizes_of(const struct weight *w) {
    size_t n = (size_t)w->n_rows * w->n_mat * w->n_cols;
    switch (w->type) {
    case DTYPE_Q4_K:
        return (struct plane_sizes){.q = n / 2, .s = n / 16};
    case DTYPE_Q5_K:
        return (struct plane_sizes){.q = n / 2, .h = n / 8, .s = n / 16};
    case DTYPE_Q6_K:
        return (struct plane_sizes){.q = n / 2,
                                    .h = n / 4,
                                    .s = n / 16,
                                    .d = (size_t)w->n_rows * w->n_mat * (((size_t)w->n_cols / 256 + 7) / 8 * 16)};
    case DTYPE_Q8_0:
        return (struct plane_sizes){.q = n, .d = n / 16};
    case DTYPE_Q4_0:
        return (struct plane_sizes){.q = n / 2, .d = n / 16};
    default:
        return (struct plane_sizes){.q = (size_t)w->n_rows * w->n_mat * w->row_bytes};
    }
}

/* Places w's planes at *used of the block at base (NULL: only counts). */
static void place(const struct weight *w, char *base, size_t *used, struct cuda_mat *out) {
    if (!w->data) {
        return;
    }
    struct plane_sizes n = sizes_of(w);
    uint8_t *at = base ? (uint8_t *)base + *used : NULL;
    *out = (struct cuda_mat){.type = (uint32_t)w->type, .n_cols = w->n_cols, .n_rows = w->n_rows};
    if (at) {
        out->q = at;
        out->h = out->q + aligned(n.q);
        out->s = out->h + aligned(n.h);
        out->d = out->s + aligned(n.s);
    }
    *used += aligned(n.q) + aligned(n.h) + aligned(n.s) + aligned(n.d);
}

/* One thing to bring over: a matrix, or n floats. */
struct load {
    const struct weight *w;
    struct cuda_mat *to;
    const float *floats;
    size_t n;
    const float **floats_to;
};

struct loads {
    struct cuda *c;
    char *base;
    size_t used;
    /* NULL visit: only places */
    sluice_status (*visit)(void *ctx, const struct load *load, sluice_error *err);
    void *ctx;
    sluice_error *err;
};

static sluice_status load_matrix(struct loads *l, const struct weight *w, struct cuda_mat *to) {
    place(w, l->base, &l->used, to);
    return l->visit && w->data ? l->visit(l->ctx, &(struct load){.w = w, .to = to}, l->err) : SLUICE_OK;
}

static sluice_status load_floats(struct loads *l, const float *from, size_t n, const float **to) {
    if (!from) {
        *to = NULL;
        return SLUICE_OK;
    }
    *to = l->base ? (const float *)(l->base + l->used) : NULL;
    l->used += aligned(n * sizeof(float));
    return l->visit ? l->visit(l->ctx, &(struct load){.floats = from, .n = n, .floats_to = to}, l->err) : SLUICE_OK;
}

static sluice_status load_all(struct loads *l) {
    const struct model *m = l->c->m;
    for (uint32_t i = 0; i < m->n_layer; i++) {
        const struct model_layer *from = &m->layers[i];
        struct cuda_layer *to = &l->c->layers[i];
        const struct weight *w[] = {&from->wq,       &from->wk,   &from->wv, &from->wo,  &from->in_proj,
                                    &from->out_proj, &from->gate, &from->up, &from->down};
        struct cuda_mat *mats[] = {&to->wq,       &to->wk,   &to->wv, &to->wo,  &to->in_proj,
                                   &to->out_proj, &to->gate, &to->up, &to->down};
        for (size_t k = 0; k < sizeof w / sizeof w[0]; k++) {
            TRY(load_matrix(l, w[k], mats[k]));
        }
        bool conv = !from->is_attention;
        TRY(load_floats(l, from->attn_norm, m->n_embd, &to->attn_norm));
        TRY(load_floats(l, from->ffn_norm, m->n_embd, &to->ffn_norm));
        TRY(load_floats(l, conv ? NULL : from->q_norm, m->head_dim, &to->q_norm));
        TRY(load_floats(l, conv ? NULL : from->k_norm, m->head_dim, &to->k_norm));
        TRY(load_floats(l, conv ? from->conv : NULL, (size_t)m->n_embd * m->conv_taps, &to->conv));
        TRY(load_floats(l, from->is_moe ? (const float *)(const void *)from->router.data : NULL,
                        (size_t)m->n_expert * m->n_embd, &to->router));
        TRY(load_floats(l, from->is_moe ? from->expert_bias : NULL, m->n_expert, &to->bias));
    }
    TRY(load_floats(l, m->output_norm, m->n_embd, &l->c->output_norm));
    TRY(load_matrix(l, &m->tok_embd, &l->c->tok_embd));
    if (m->output.data == m->tok_embd.data) {
        l->c->output = l->c->tok_embd;
        return SLUICE_OK;
    }
    return load_matrix(l, &m->output, &l->c->output);
}

/* ---- The pipe: pinned and device buffers in pairs, so that one is filled while the other travels */

struct pipe {
    struct cuda *c;
    struct pool *pool;
    char *pinned[2], *staged[2];
    cudaEvent_t sent[2];
    uint32_t turn;
    const char *from; /* the copy under way */
    char *to;
    size_t n;
};

static void copy_part(void *ctx, uint32_t ith, uint32_t nth) {
    struct pipe *p = ctx;
    size_t begin = p->n / nth * ith, end = ith + 1 == nth ? p->n : p->n / nth * (ith + 1);
    memcpy(p->to + begin, p->from + begin, end - begin);
}

/* n bytes to the device; *staged is where they will be, in stream order. */
static sluice_status send(struct pipe *p, const void *from, size_t n, uint8_t **staged, sluice_error *err) {
    uint32_t i = p->turn;
    TRY(cuda_check(cudaEventSynchronize(p->sent[i]), "uploading weights", err));
    p->from = from;
    p->to = p->pinned[i];
    p->n = n;
    if (n > 1 << 20) {
        pool_run(p->pool, copy_part, p);
    } else {
        memcpy(p->to, from, n);
    }
    *staged = (uint8_t *)p->staged[i];
    return cuda_check(cudaMemcpyAsync(p->staged[i], p->to, n, cudaMemcpyHostToDevice, p->c->stream),
                      "uploading weights", err);
}

static sluice_status sent(struct pipe *p, sluice_error *err) {
    TRY(cuda_check(cudaEventRecord(p->sent[p->turn], p->c->stream), "uploading weights", err));
    p->turn ^= 1;
    return SLUICE_OK;
}

static sluice_status bring(void *ctx, const struct load *l, sluice_error *err) {
    struct pipe *p = ctx;
    uint8_t *staged;
    if (!l->w) {
        for (size_t at = 0; at < l->n; at += PART_BYTES / sizeof(float)) {
            size_t n = l->n - at < PART_BYTES / sizeof(float) ? l->n - at : PART_BYTES / sizeof(float);
            TRY(send(p, l->floats + at, n * sizeof(float), &staged, err));
            TRY(cuda_check(cudaMemcpyAsync((void *)(uintptr_t)(*l->floats_to + at), staged, n * sizeof(float),
                                           cudaMemcpyDeviceToDevice, p->c->stream),
                           "uploading weights", err));
            TRY(sent(p, err));
        }
        return SLUICE_OK;
    }
    uint64_t n_rows = (uint64_t)l->w->n_rows * l->w->n_mat, per_part = PART_BYTES / l->w->row_bytes;
    for (uint64_t row = 0; row < n_rows; row += per_part) {
        uint64_t n = n_rows - row < per_part ? n_rows - row : per_part;
        TRY(send(p, l->w->data + row * l->w->row_bytes, n * l->w->row_bytes, &staged, err));
        TRY(cuda_check(cuda_repack(l->to, staged, row, n, p->c->stream), "repacking weights", err));
        TRY(sent(p, err));
    }
    return SLUICE_OK;
}

static void close_pipe(struct pipe *p) {
    for (int i = 0; i < 2; i++) {
        if (p->sent[i]) {
            cudaEventDestroy(p->sent[i]);
        }
        cudaFreeHost(p->pinned[i]);
        cudaFree(p->staged[i]);
    }
    pool_free(p->pool);
}

static sluice_status open_pipe(struct pipe *p, sluice_error *err) {
    uint32_t threads = threads_allowed();
    for (int i = 0; i < 2; i++) {
        TRY(cuda_check(cudaMallocHost((void **)&p->pinned[i], PART_BYTES), "taking pinned memory for uploads", err));
        TRY(cuda_check(cudaMalloc((void **)&p->staged[i], PART_BYTES), "taking memory for uploads", err));
        TRY(cuda_check(cudaEventCreateWithFlags(&p->sent[i], cudaEventDisableTiming), "preparing uploads", err));
    }
    return pool_create(threads < COPY_THREADS ? threads : COPY_THREADS, &p->pool, err);
}

sluice_status cuda_upload(struct cuda *c, sluice_error *err) {
    struct loads l = {.c = c, .err = err};
    load_all(&l);
    c->weight_bytes = l.used;
    size_t available = 0, all = 0;
    cudaMemGetInfo(&available, &all);
    if (cudaMalloc((void **)&c->weights, c->weight_bytes) != cudaSuccess) {
        cudaGetLastError();
        c->weights = NULL;
        return fail(
            err, SLUICE_E_NOMEM,
            "the GPU has %.2f of %.2f GiB free and the weights need %.2f GiB: choose a smaller model or quantization, "
            "or --backend cpu",
            (double)available / 0x1p30, (double)all / 0x1p30, (double)c->weight_bytes / 0x1p30);
    }
    struct pipe p = {.c = c};
    sluice_status status = open_pipe(&p, err);
    if (status == SLUICE_OK) {
        l = (struct loads){.c = c, .base = c->weights, .visit = bring, .ctx = &p, .err = err};
        status = load_all(&l);
    }
    if (status == SLUICE_OK) {
        status = cuda_check(cudaStreamSynchronize(c->stream), "uploading weights", err);
    }
    close_pipe(&p);
    return status;
}
