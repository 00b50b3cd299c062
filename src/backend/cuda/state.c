/*
 * What outlives a step: conv state taken back to before wrong drafts, and pages on their way out and in.
 *
 * A page outside ("cuda-1") is, layer by layer, K [n_head_kv][64][head_dim] and V likewise in F16 for attention layers, then
 * the snapshot [n_conv_layers][conv_taps - 1][n_embd] in F32: model_page_bytes in all.
 */
#include "backend/cuda/cuda.h"

#include "base/status.h"

static size_t columns_of(const struct model *m) {
    return (size_t)(m->conv_taps - 1) * m->n_embd;
}

sluice_status cuda_backend_rewind(struct backend *base, uint32_t slot, uint32_t n_kept, sluice_error *err) {
    struct cuda *c = (struct cuda *)base;
    const struct cuda_turn *t = &c->turns[(c->waited + CUDA_TURNS - 1) % CUDA_TURNS]; /* the last one waited for */
    TRY(step_check_rewind(&t->drafts, slot, n_kept, err));
    size_t n = columns_of(c->m);
    return cuda_check(cuda_rewind(c->conv_state + slot * n * c->m->n_conv_layers,
                                  t->draft_columns + (size_t)(t->drafts.of[slot].first + n_kept) * c->m->n_embd,
                                  c->m->n_conv_layers, n, (size_t)step_draft_columns(c->m, &c->limits) * c->m->n_embd,
                                  n, c->stream),
                      "taking drafts back", err);
}

/* Bytes outside, and which way they go: one of out and in is NULL. */
struct page_copy {
    struct cuda *c;
    char *out;
    const char *in;
};

static sluice_status carry(struct page_copy *p, void *inside, size_t n, sluice_error *err) {
    cudaError_t status;
    if (p->out) {
        status = cudaMemcpyAsync(p->out, inside, n, cudaMemcpyDeviceToHost, p->c->pages_stream);
        p->out += n;
    } else {
        status = cudaMemcpyAsync(inside, p->in, n, cudaMemcpyHostToDevice, p->c->pages_stream);
        p->in += n;
    }
    return cuda_check(status, "copying a page", err);
}

static sluice_status carry_page(struct cuda *c, uint32_t page, struct page_copy p, sluice_error *err) {
    const struct model *m = c->m;
    size_t stride = (size_t)m->n_head_kv_max * KV_PAGE_TOKENS * m->head_dim;
    for (uint32_t i = 0; i < m->n_layer; i++) {
        const struct model_layer *l = &m->layers[i];
        if (l->is_attention) {
            size_t bytes = (size_t)l->n_head_kv * KV_PAGE_TOKENS * m->head_dim * sizeof(uint16_t);
            size_t at = ((size_t)l->kv_index * c->limits.n_pages + page) * stride;
            TRY(carry(&p, c->keys + at, bytes, err));
            TRY(carry(&p, c->values + at, bytes, err));
        }
    }
    if (m->n_conv_layers) {
        TRY(carry(&p, c->snapshots + (size_t)page * m->n_conv_layers * columns_of(m), model_conv_state_bytes(m), err));
    }
    return cuda_check(cudaStreamSynchronize(c->pages_stream), "copying a page", err);
}

static sluice_status carry_locked(struct cuda *c, uint32_t page, struct page_copy p, sluice_error *err) {
    TRY(step_check_page(&c->limits, page, err));
    pthread_mutex_lock(&c->pages_mutex); /* one at a time: callers wait for their own copies only */
    sluice_status status = cuda_check(cudaSetDevice(c->device), "choosing the device", err);
    if (status == SLUICE_OK) {
        status = carry_page(c, page, p, err);
    }
    pthread_mutex_unlock(&c->pages_mutex);
    return status;
}

sluice_status cuda_page_save(struct backend *base, uint32_t page, void *bytes, sluice_error *err) {
    struct cuda *c = (struct cuda *)base;
    return carry_locked(c, page, (struct page_copy){.c = c, .out = bytes}, err);
}

sluice_status cuda_page_load(struct backend *base, uint32_t page, const void *bytes, sluice_error *err) {
    struct cuda *c = (struct cuda *)base;
    return carry_locked(c, page, (struct page_copy){.c = c, .in = bytes}, err);
}
