/* The token kernel's job (device.h): what it reads of the model, and its own memory. Where it does not suit the model
 * or the device, or memory is short, steps of one row run as the graphs of forward.c. */
#include "backend/cuda/cuda.h"

#include "base/mem.h"
#include "base/status.h"

#include <math.h>

static struct cuda_token_layer layer_of(const struct cuda *c, uint32_t i, uint32_t n_blocks) {
    const struct model_layer *from = &c->m->layers[i];
    const struct cuda_layer *w = &c->layers[i];
    struct cuda_token_layer l = {.out = from->is_attention ? w->wo : w->out_proj,
                                 .gate = w->gate,
                                 .up = w->up,
                                 .down = w->down,
                                 .attn_norm = w->attn_norm,
                                 .ffn_norm = w->ffn_norm,
                                 .q_norm = w->q_norm,
                                 .k_norm = w->k_norm,
                                 .router = w->router,
                                 .bias = w->bias,
                                 .n_head_kv = from->n_head_kv,
                                 .is_attention = from->is_attention,
                                 .is_moe = from->is_moe};
    if (from->is_attention) {
        const struct cuda_mat *qkv[] = {&w->wq, &w->wk, &w->wv};
        struct cuda_attn a = cuda_attn_of(c, i, 1);
        l.keys = a.keys;
        l.values = a.values;
        for (int k = 0; k < 3; k++) {
            l.first[k] = *qkv[k];
            l.first_rows[k] = qkv[k]->n_rows / n_blocks;
        }
        return l;
    }
    l.conv = cuda_conv_of(c, i);
    for (uint32_t k = 0; k < 3; k++) {
        l.first[k] = w->in_proj;
        l.first_row[k] = k * c->m->n_embd;
        l.first_rows[k] = 16;
    }
    return l;
}

/* What has run on a card and was faster there: a block per 16 of 2048 channels, all resident together on sm_90,
 * mixtures of up to 32 experts whose attention layers are among them. Everything else takes the graphs of forward.c. */
static bool suits(const struct cuda *c, int major) {
    const struct model *m = c->m;
    bool suits = c->fused && major == 9 && m->n_embd == 2048 && m->n_embd / 16 <= c->n_sm && m->head_dim == 64 &&
                 m->n_head * m->head_dim == m->n_embd && m->n_head_kv_max <= 64 && m->conv_taps == 3 &&
                 m->n_expert > 0 && m->n_expert <= 32;
    for (uint32_t i = 0; i < m->n_layer; i++) {
        suits = suits && (m->layers[i].is_moe || !m->layers[i].is_attention);
    }
    return suits;
}

/* The tables by which layers guess their experts; of short convolutions only, whose blocks have the operator's output
 * at hand. */
static sluice_status make_guesses(struct cuda *c, struct cuda_token_layer *layers, float *tables, sluice_error *err) {
    size_t table = (size_t)c->m->n_expert * c->m->n_embd;
    for (uint32_t i = 0; i < c->m->n_layer; i++) {
        struct cuda_token_layer *l = &layers[i];
        if (l->is_moe && !l->is_attention) {
            l->guess = tables + i * table;
            TRY(cuda_check(
                cuda_guess_table(&l->out, l->router, l->ffn_norm, c->m->n_expert, tables + i * table, c->stream),
                "preparing for tokens", err));
        }
    }
    return cuda_check(cudaStreamSynchronize(c->stream), "preparing for tokens", err);
}

/* The exchange of two tokens, nothing there yet; the word whose turn it is; ratios, the table of layers, those of
 * guesses. */
static sluice_status take_token_memory(struct cuda *c, struct cuda_token_layer *layers, sluice_error *err) {
    struct cuda_token_job *j = &c->token;
    size_t exchange = 2 * cuda_token_exchange(j) * sizeof(float), ratios = (j->n_layer + 31) / 32 * 128;
    size_t table = j->n_layer * sizeof *layers, guesses = j->n_layer * (size_t)j->n_expert * j->d * sizeof(float);
    size_t bytes = exchange + 128 + ratios + table + guesses;
    if (cudaMalloc((void **)&c->token_memory, bytes) != cudaSuccess) { /* the graphs need none of it */
        cudaGetLastError();
        c->token_memory = NULL;
        return SLUICE_OK;
    }
    c->token_bytes = bytes;
    char *at = c->token_memory;
    j->exchange = (float *)(void *)at;
    TRY(cuda_check(cudaMemset(at, 0xff, exchange), "preparing for tokens", err));
    at += exchange;
    j->turn = (uint32_t *)(void *)at;
    j->ratios = (float *)(void *)(at + 128);
    TRY(cuda_check(cudaMemset(at, 0, 128 + ratios), "preparing for tokens", err));
    at += 128 + ratios;
    j->layers = (const struct cuda_token_layer *)(const void *)at;
    TRY(make_guesses(c, layers, (float *)(void *)(at + table), err));
    TRY(cuda_check(cudaMemcpy(at, layers, table, cudaMemcpyHostToDevice), "preparing for tokens", err));
    c->token_ready = true;
    return SLUICE_OK;
}

sluice_status cuda_token_open(struct cuda *c, int shared_max, sluice_error *err) {
    const struct model *m = c->m;
    int major = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, c->device);
    if (!suits(c, major)) {
        return SLUICE_OK;
    }
    c->token = (struct cuda_token_job){
        .embedding = c->tok_embd,
        .output = c->output,
        .output_norm = c->output_norm,
        .rates = c->rope_rate,
        .part = c->part,
        .page_stride = (size_t)m->n_head_kv_max * KV_PAGE_TOKENS * m->head_dim,
        .n_layer = m->n_layer,
        .d = m->n_embd,
        .n_blocks = m->n_embd / 16,
        .n_head = m->n_head,
        .window = m->window,
        .n_expert = m->n_expert,
        .used = m->n_expert_used,
        .eps = m->norm_eps,
        .attn_scale = 1.0f / sqrtf((float)m->head_dim),
        .expert_scale = m->expert_scale,
    };
    struct cuda_token_layer *layers = mem_calloc(m->n_layer, sizeof *layers);
    if (!layers) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the tables of %u layers", m->n_layer);
    }
    for (uint32_t i = 0, n_routed = 0; i < m->n_layer; i++) {
        layers[i] = layer_of(c, i, c->token.n_blocks);
        layers[i].n_routed = n_routed;
        n_routed += m->layers[i].is_moe;
    }
    sluice_status status = SLUICE_OK;
    if (cuda_token_fit(&c->token, layers, shared_max)) {
        status = take_token_memory(c, layers, err);
    }
    mem_free(layers);
    return status;
}
