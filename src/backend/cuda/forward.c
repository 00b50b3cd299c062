/*
 * One step on the stream. A step of one token is one kernel where that suits model and device (token.c). Else steps of
 * one token per row run as a graph of the decode kernels (decode.cu for one row, rows.cu for several), captured once
 * per number of rows, power of two of attention splits, way of ending and turn; all others launch the kernels for any
 * number of tokens. All give the same bits.
 */
#include "backend/cuda/cuda.h"

#include "base/status.h"

#include <math.h>

#define LAUNCH(call) TRY(cuda_check((call), "computing a step", err))

struct cuda_conv cuda_conv_of(const struct cuda *c, uint32_t layer) {
    const struct model *m = c->m;
    uint32_t index = m->layers[layer].conv_index;
    size_t columns = (size_t)(m->conv_taps - 1) * m->n_embd, all = columns * m->n_conv_layers;
    return (struct cuda_conv){
        .taps = c->layers[layer].conv,
        .state = c->conv_state + index * columns,
        .snapshots = c->snapshots + index * columns,
        .drafts = c->turn->draft_columns + (size_t)index * step_draft_columns(m, &c->limits) * m->n_embd,
        .slot_stride = all,
        .page_stride = all,
        .draft_stride = m->n_embd,
        .n_taps = m->conv_taps,
        .d = m->n_embd,
    };
}

struct cuda_attn cuda_attn_of(const struct cuda *c, uint32_t layer, uint32_t n_splits) {
    const struct model *m = c->m;
    const struct model_layer *l = &m->layers[layer];
    size_t page = (size_t)m->n_head_kv_max * KV_PAGE_TOKENS * m->head_dim, at = page * c->limits.n_pages * l->kv_index;
    return (struct cuda_attn){
        .keys = c->keys + at,
        .values = c->values + at,
        .page_stride = page,
        .q_norm = c->layers[layer].q_norm,
        .k_norm = c->layers[layer].k_norm,
        .cos_sin = c->cos_sin,
        .qkv = c->wide,
        .part = c->part,
        .out = c->mid,
        .n_head = m->n_head,
        .n_head_kv = l->n_head_kv,
        .dim = m->head_dim,
        .window = m->window,
        .n_splits = n_splits,
        .eps = m->norm_eps,
        .scale = 1.0f / sqrtf((float)m->head_dim),
    };
}

static struct cuda_route route_of(const struct cuda *c, uint32_t layer) {
    const struct model *m = c->m;
    return (struct cuda_route){
        .w = c->layers[layer].router,
        .bias = c->layers[layer].bias,
        .gain = c->layers[layer].ffn_norm,
        .part = c->route_part,
        .ids = c->route_ids + (size_t)layer * c->limits.step_tokens_max * m->n_expert_used,
        .gains = c->route_gains,
        .chosen = c->chosen + (size_t)layer * CUDA_DECODE_ROWS,
        .n_expert = m->n_expert,
        .used = m->n_expert_used,
        .expert_scale = m->expert_scale,
        .eps = m->norm_eps,
    };
}

static sluice_status start_tokens(struct cuda *c, sluice_error *err) {
    const double *rates = c->m->n_attn_layers ? c->rope_rate : NULL;
    LAUNCH(cuda_start_tokens(&c->tok_embd, &c->step, rates, c->m->head_dim, c->h, c->cos_sin, c->stream));
    cuda_mark(c, CUDA_STAGE_START);
    return SLUICE_OK;
}

/* Distinct experts of the step to the host's memory: what it read of the weights. */
static sluice_status count_experts(struct cuda *c, sluice_error *err) {
    const struct model *m = c->m;
    size_t stride = (size_t)c->limits.step_tokens_max * m->n_expert_used;
    uint32_t first = m->n_dense < m->n_layer ? m->n_dense : m->n_layer;
    LAUNCH(cuda_count_experts(c->route_ids + first * stride, m->n_layer - first, stride, c->step.n * m->n_expert_used,
                              m->n_expert, c->turn->touched_device + first, c->stream));
    return SLUICE_OK;
}

static sluice_status draw_tokens(struct cuda *c, sluice_error *err) {
    enum cuda_ends ends = c->turn->ends;
    if (ends != CUDA_LOGITS) {
        LAUNCH(cuda_draw_tokens(&c->drawing, ends >= CUDA_WEIGHED, ends == CUDA_CUT, c->stream));
        cuda_mark(c, CUDA_STAGE_DRAW);
    }
    return SLUICE_OK;
}

/* ---- Any number of tokens */

/* n vectors of n_cols at x become c->acts; gain: NULL, or those of a norm. */
static sluice_status quantize(struct cuda *c, const float *x, const float *gain, uint32_t n, uint32_t n_cols,
                              sluice_error *err) {
    struct cuda_vectors v = {.x = x, .stride = n_cols, .gain = gain, .eps = c->m->norm_eps, .n = n, .n_cols = n_cols};
    LAUNCH(cuda_quantize(&v, &c->acts, c->stream));
    return SLUICE_OK;
}

/* The outputs of up to three matrices side by side in y; those of one type at once. groups: NULL, or c->groups. */
static sluice_status products(struct cuda *c, const struct cuda_mat *const *w, uint32_t n_mats,
                              const struct cuda_groups *groups, uint32_t n, float *y, bool add, sluice_error *err) {
    size_t stride = 0;
    for (uint32_t i = 0; i < n_mats; i++) {
        stride += w[i]->n_rows;
    }
    for (uint32_t i = 0; i < n_mats;) {
        struct cuda_product p = {.x = c->acts, .y = y, .y_stride = stride, .n = n, .add = add};
        uint32_t type = w[i]->type;
        p.tile = groups ? groups->tile : cuda_tile(type, n, 1);
        p.tiles = groups ? groups->tiles : NULL;
        p.n_tiles_max = groups ? groups->n_tiles_max : 0;
        for (; i < n_mats && w[i]->type == type; i++) {
            p.w[p.n_mats++] = *w[i];
            y += w[i]->n_rows;
        }
        LAUNCH(cuda_matmul(&p, c->stream));
    }
    return SLUICE_OK;
}

static sluice_status product(struct cuda *c, const struct cuda_mat *w, uint32_t n, float *y, bool add,
                             sluice_error *err) {
    return products(c, &w, 1, NULL, n, y, add, err);
}

static sluice_status attention(struct cuda *c, uint32_t layer, uint32_t n_splits, sluice_error *err) {
    const struct cuda_layer *l = &c->layers[layer];
    const struct cuda_mat *qkv[] = {&l->wq, &l->wk, &l->wv};
    uint32_t n = c->step.n;
    TRY(quantize(c, c->h, l->attn_norm, n, c->m->n_embd, err));
    TRY(products(c, qkv, 3, NULL, n, c->wide, false, err));
    struct cuda_attn a = cuda_attn_of(c, layer, n_splits);
    cuda_mark(c, CUDA_STAGE_QKV);
    LAUNCH(cuda_store_kv(&c->step, &a, c->stream));
    /* rows of a few tokens would leave most of a block of queries empty */
    bool many = n >= 8 * c->step.n_rows && cuda_attend_prompt_fits(&a);
    uint32_t at_once = c->pairs / n_splits;
    for (uint32_t t = 0; t < n; t += at_once) {
        uint32_t here = n - t < at_once ? n - t : at_once;
        LAUNCH(many ? cuda_attend_prompt(&c->step, &a, t, here, c->stream)
                    : cuda_attend(&c->step, &a, t, here, false, c->stream));
    }
    cuda_mark(c, CUDA_STAGE_ATTEND);
    TRY(quantize(c, c->mid, NULL, n, l->wo.n_cols, err));
    TRY(product(c, &l->wo, n, c->h, true, err));
    cuda_mark(c, CUDA_STAGE_ATTN_OUT);
    return SLUICE_OK;
}

static sluice_status short_conv(struct cuda *c, uint32_t layer, sluice_error *err) {
    const struct cuda_layer *l = &c->layers[layer];
    uint32_t n = c->step.n, d = c->m->n_embd;
    struct cuda_conv conv = cuda_conv_of(c, layer);
    TRY(quantize(c, c->h, l->attn_norm, n, d, err));
    TRY(product(c, &l->in_proj, n, c->wide, false, err));
    struct cuda_vectors v = {
        .x = c->wide, .stride = 3 * (size_t)d, .conv = &conv, .step = &c->step, .n = n, .n_cols = d};
    LAUNCH(cuda_quantize(&v, &c->acts, c->stream));
    LAUNCH(cuda_conv_state(&c->step, &conv, c->wide, c->stream));
    cuda_mark(c, CUDA_STAGE_CONV_IN);
    TRY(product(c, &l->out_proj, n, c->h, true, err));
    cuda_mark(c, CUDA_STAGE_CONV_OUT);
    return SLUICE_OK;
}

/* gate and up of n vectors lie side by side at c->gate. */
static sluice_status hidden(struct cuda *c, uint32_t n, const uint32_t *n_used, uint32_t ff, sluice_error *err) {
    struct cuda_vectors v = {
        .x = c->gate, .up = c->gate + ff, .stride = 2 * (size_t)ff, .n_used = n_used, .n = n, .n_cols = ff};
    LAUNCH(cuda_quantize(&v, &c->acts, c->stream));
    cuda_mark(c, CUDA_STAGE_GATE_UP);
    return SLUICE_OK;
}

static sluice_status dense_ffn(struct cuda *c, uint32_t layer, sluice_error *err) {
    const struct cuda_layer *l = &c->layers[layer];
    const struct cuda_mat *gate_up[] = {&l->gate, &l->up};
    uint32_t n = c->step.n;
    TRY(quantize(c, c->h, l->ffn_norm, n, c->m->n_embd, err));
    TRY(products(c, gate_up, 2, NULL, n, c->gate, false, err));
    TRY(hidden(c, n, NULL, l->gate.n_rows, err));
    TRY(product(c, &l->down, n, c->h, true, err));
    cuda_mark(c, CUDA_STAGE_DOWN);
    return SLUICE_OK;
}

static sluice_status moe_ffn(struct cuda *c, uint32_t layer, sluice_error *err) {
    const struct cuda_layer *l = &c->layers[layer];
    const struct model *m = c->m;
    const struct cuda_mat *gate_up[] = {&l->gate, &l->up}, *down = &l->down;
    struct cuda_groups *g = &c->groups;
    uint32_t n = c->step.n, d = m->n_embd, entries = n * m->n_expert_used, places = entries + 8 * m->n_expert;
    struct cuda_route r = route_of(c, layer);
    /* one list of tiles for all three matrices */
    uint32_t tile = cuda_tile(l->gate.type, entries, m->n_expert), of_up = cuda_tile(l->up.type, entries, m->n_expert),
             of_down = cuda_tile(l->down.type, entries, m->n_expert);
    g->tile = tile < of_up ? tile : of_up;
    g->tile = g->tile < of_down ? g->tile : of_down;
    g->n_tiles_max = m->n_expert + entries / g->tile;
    if (g->n_tiles_max > entries) {
        g->n_tiles_max = entries;
    }
    LAUNCH(cuda_routing(&r, c->h, n, d, g, c->stream));
    cuda_mark(c, CUDA_STAGE_ROUTE);
    const uint32_t *n_places = g->start + m->n_expert;
    struct cuda_vectors v = {.x = c->h,
                             .stride = d,
                             .gain = l->ffn_norm,
                             .eps = m->norm_eps,
                             .src = g->entry_token,
                             .n_used = n_places,
                             .n = places,
                             .n_cols = d};
    LAUNCH(cuda_quantize(&v, &c->acts, c->stream));
    TRY(products(c, gate_up, 2, g, 0, c->gate, false, err));
    TRY(hidden(c, places, n_places, l->gate.n_rows, err));
    TRY(products(c, &down, 1, g, 0, c->up, false, err));
    LAUNCH(cuda_add_experts(&r, g, c->up, c->h, n, d, c->stream));
    cuda_mark(c, CUDA_STAGE_DOWN);
    return SLUICE_OK;
}

static sluice_status forward_any(struct cuda *c, uint32_t n_splits, sluice_error *err) {
    const struct model *m = c->m;
    TRY(start_tokens(c, err));
    for (uint32_t i = 0; i < m->n_layer; i++) {
        TRY(m->layers[i].is_attention ? attention(c, i, n_splits, err) : short_conv(c, i, err));
        TRY(m->layers[i].is_moe ? moe_ffn(c, i, err) : dense_ffn(c, i, err));
    }
    if (c->step.n_outputs) {
        struct cuda_vectors v = {.x = c->h,
                                 .stride = m->n_embd,
                                 .gain = c->output_norm,
                                 .eps = m->norm_eps,
                                 .src = c->step.outputs,
                                 .n = c->step.n_outputs,
                                 .n_cols = m->n_embd};
        LAUNCH(cuda_quantize(&v, &c->acts, c->stream));
        TRY(product(c, &c->output, c->step.n_outputs, c->logits, false, err));
        cuda_mark(c, CUDA_STAGE_HEAD);
    }
    if (m->n_expert) {
        TRY(count_experts(c, err));
    }
    return draw_tokens(c, err);
}

/* ---- One token per row */

/* Attention or convolution, the way back into the residual, and with r the router's part: one row's kernels, or those
 * of several. */
static sluice_status decode_operator(struct cuda *c, uint32_t layer, uint32_t n_splits, const struct cuda_route *r,
                                     sluice_error *err) {
    const struct model *m = c->m;
    const struct cuda_layer *l = &c->layers[layer];
    const struct cuda_step *s = &c->step;
    bool one = s->n == 1;
    if (m->layers[layer].is_attention) {
        struct cuda_mat qkv[3] = {l->wq, l->wk, l->wv};
        struct cuda_attn a = cuda_attn_of(c, layer, n_splits);
        LAUNCH((one ? cuda_decode_qkv : cuda_rows_qkv)(s, qkv, c->h, l->attn_norm, m->norm_eps, c->wide, c->stream));
        cuda_mark(c, CUDA_STAGE_QKV);
        LAUNCH(cuda_attend(s, &a, 0, s->n, true, c->stream));
        cuda_mark(c, CUDA_STAGE_ATTEND);
        LAUNCH((one ? cuda_decode_out : cuda_rows_out)(s, &l->wo, c->mid, c->h, r, c->stream));
        cuda_mark(c, CUDA_STAGE_ATTN_OUT);
        return SLUICE_OK;
    }
    struct cuda_conv conv = cuda_conv_of(c, layer);
    LAUNCH((one ? cuda_decode_in_proj : cuda_rows_in_proj)(s, &l->in_proj, c->h, l->attn_norm, m->norm_eps, &conv,
                                                           c->mid, c->stream));
    cuda_mark(c, CUDA_STAGE_CONV_IN);
    LAUNCH((one ? cuda_decode_out : cuda_rows_out)(s, &l->out_proj, c->mid, c->h, r, c->stream));
    cuda_mark(c, CUDA_STAGE_CONV_OUT);
    return SLUICE_OK;
}

static sluice_status decode_layer(struct cuda *c, uint32_t layer, uint32_t n_splits, sluice_error *err) {
    const struct model *m = c->m;
    const struct cuda_layer *l = &c->layers[layer];
    bool moe = m->layers[layer].is_moe;
    struct cuda_route route = moe ? route_of(c, layer) : (struct cuda_route){0}, *r = moe ? &route : NULL;
    const struct cuda_step *s = &c->step;
    TRY(decode_operator(c, layer, n_splits, r, err));
    if (s->n == 1) {
        LAUNCH(
            cuda_decode_gate_up(s, &l->gate, &l->up, c->h, l->ffn_norm, m->norm_eps, r, c->gate, c->n_sm, c->stream));
        cuda_mark(c, CUDA_STAGE_GATE_UP);
        LAUNCH(cuda_decode_down(s, &l->down, c->gate, c->h, r, c->stream));
        cuda_mark(c, CUDA_STAGE_DOWN);
        return SLUICE_OK;
    }
    uint8_t *records = c->acts.blocks;
    uint32_t n_hidden = s->n * (moe ? m->n_expert_used : 1);
    LAUNCH(cuda_rows_route(s, c->h, l->ffn_norm, m->norm_eps, m->n_embd, r, records, c->stream));
    cuda_mark(c, CUDA_STAGE_ROUTE);
    LAUNCH(cuda_rows_gate_up(s, &l->gate, &l->up, records, r, c->gate, c->n_sm, c->stream));
    cuda_mark(c, CUDA_STAGE_GATE_UP);
    LAUNCH(cuda_rows_quantize(c->gate, n_hidden, l->down.n_cols, records, c->stream));
    LAUNCH(cuda_rows_down(s, &l->down, records, c->h, r, c->stream));
    cuda_mark(c, CUDA_STAGE_DOWN);
    return SLUICE_OK;
}

/* A step of one token, from its id to its logits, by the token kernel; not in a graph, which would only add a
 * boundary. */
static sluice_status forward_token(struct cuda *c, sluice_error *err) {
    struct cuda_token_job job = c->token;
    job.step = c->step;
    job.logits = c->turn->ends == CUDA_LOGITS ? c->turn->logits_device : c->logits;
    LAUNCH(cuda_decode_token(&job, c->stream));
    return draw_tokens(c, err);
}

static sluice_status forward_decode(struct cuda *c, uint32_t n_splits, sluice_error *err) {
    const struct model *m = c->m;
    TRY(start_tokens(c, err));
    for (uint32_t i = 0; i < m->n_layer; i++) {
        TRY(decode_layer(c, i, n_splits, err));
    }
    float *logits =
        c->turn->ends == CUDA_LOGITS ? c->turn->logits_device : c->logits; /* no copy where the host reads all */
    LAUNCH((c->step.n > 1 ? cuda_rows_head : cuda_decode_head)(&c->step, &c->output, c->h, c->output_norm, m->norm_eps,
                                                               logits, c->n_sm, c->stream));
    cuda_mark(c, CUDA_STAGE_HEAD);
    TRY(draw_tokens(c, err)); /* right behind the head, to begin before it has ended */
    return m->n_expert && c->step.n > 1 ? count_experts(c, err) : SLUICE_OK;
}

static sluice_status capture(struct cuda *c, uint32_t n_splits, cudaGraphExec_t *out, sluice_error *err) {
    cudaGraph_t graph = NULL;
    LAUNCH(cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal));
    sluice_status status = forward_decode(c, n_splits, err);
    cudaError_t ended = cudaStreamEndCapture(c->stream, &graph);
    if (status == SLUICE_OK) {
        status = cuda_check(ended, "recording a step", err);
    }
    if (status == SLUICE_OK) {
        status = cuda_check(cudaGraphInstantiate(out, graph, 0), "recording a step", err);
    }
    if (graph) {
        cudaGraphDestroy(graph);
    }
    return status;
}

static void forget(cudaGraphExec_t *graph) {
    if (*graph) {
        cudaGraphExecDestroy(*graph);
        *graph = NULL;
    }
}

void cuda_forget_graphs(struct cuda *c) {
    for (uint32_t t = 0; t < CUDA_TURNS; t++) {
        for (uint32_t i = 0; i < CUDA_ENDS * (CUDA_DECODE_ROWS + 1); i++) {
            for (uint32_t b = 0; b < CUDA_BUCKETS; b++) {
                forget(&c->turns[t].graphs[i % CUDA_ENDS][i / CUDA_ENDS][b]);
            }
        }
    }
}

static sluice_status forward(struct cuda *c, uint32_t positions_max, bool plain, sluice_error *err) {
    uint32_t n_splits = (positions_max + CUDA_SPLIT - 1) / CUDA_SPLIT, bucket = 0;
    while (1u << bucket < n_splits) {
        bucket++;
    }
    if (c->fused && plain && c->step.n <= c->rows_max && bucket < CUDA_BUCKETS &&
        (uint64_t)c->step.n << bucket <= c->pairs) {
        c->turn->counted = c->m->n_expert && c->step.n > 1;
        c->turn->direct = c->turn->ends == CUDA_LOGITS;
        if (c->turn->marks) {
            return forward_decode(c, 1u << bucket, err);
        }
        if (c->token_ready && c->step.n == 1) {
            return forward_token(c, err);
        }
        cudaGraphExec_t *graph = &c->turn->graphs[c->turn->ends][c->step.n][bucket];
        if (!*graph) {
            TRY(capture(c, 1u << bucket, graph, err));
        }
        return cuda_check(cudaGraphLaunch(*graph, c->stream), "computing a step", err);
    }
    if (n_splits > c->pairs) {
        return fail(err, SLUICE_E_LIMIT, "a row ends at position %u, beyond the %u that the cuda backend attends to",
                    positions_max, c->pairs * CUDA_SPLIT);
    }
    c->turn->counted = c->m->n_expert > 0;
    return forward_any(c, n_splits, err);
}

sluice_status cuda_forward(struct cuda *c, uint32_t positions_max, bool plain, sluice_error *err) {
    cuda_profile_begin(c);
    TRY(forward(c, positions_max, plain, err));
    return cuda_fetch_results(c, err);
}
