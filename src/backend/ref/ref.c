/*
 * The reference: the model of docs and papers in plain F32, weights dequantised row by row, K and V kept in F32, sums in
 * double. Never optimised; every other path is judged by it. Math: lfm2.md section 2.3 (docs/numerics.md repeats it).
 */
#include "backend/backend.h"
#include "backend/step.h"
#include "base/arena.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "quant/quant.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct ref {
    struct backend base;
    const struct model *m;
    struct backend_options limits;
    struct backend_caps caps;
    uint32_t n_outputs;
    void *arena;
    size_t arena_bytes;
    float *k, *v;     /* [n_attn_layers][n_pages][64][n_head_kv_max * head_dim] */
    float *conv;      /* [n_slots][n_conv_layers][conv_taps - 1][n_embd], oldest first */
    float *snapshots; /* [n_pages][n_conv_layers][conv_taps - 1][n_embd]: conv state after a page's last position */
    float *columns;   /* [n_conv_layers][step_draft_columns][n_embd]: struct step_drafts tells whose */
    struct step_drafts drafts;
    float *h, *x, *y;  /* [step_tokens][n_embd] residual, normed input, branch output */
    float *wide;       /* [step_tokens][wide_cols] in_proj output, q/k/v, gate */
    float *wide2;      /* [step_tokens][wide_cols] up */
    float *row;        /* [widest row] one dequantised weight row */
    float *scores;     /* [positions] attention scores of one head */
    float *logits;     /* [step_outputs][n_vocab] */
    float *route_w;    /* [step_tokens][n_expert] weight of each expert, 0 if not chosen */
    uint32_t *out_idx; /* [step_outputs] */
    uint32_t wide_cols;
};

static uint32_t max_u32(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

/* y[t][row] = w[mat] . x[t], for the tokens whose use[t] is not 0 (use NULL: all). */
static void matmul(struct ref *r, const struct weight *w, uint32_t mat, const float *x, uint32_t x_stride, float *y,
                   uint32_t y_stride, uint32_t n, const float *use, uint32_t use_stride) {
    for (uint32_t row = 0; row < w->n_rows; row++) {
        dequantize_row(w->type, w->data + mat * w->mat_bytes + row * w->row_bytes, r->row, w->n_cols);
        for (uint32_t t = 0; t < n; t++) {
            if (use && use[(size_t)t * use_stride] == 0) {
                continue;
            }
            const float *xt = x + (size_t)t * x_stride;
            double sum = 0;
            for (uint32_t c = 0; c < w->n_cols; c++) {
                sum += (double)r->row[c] * xt[c];
            }
            y[(size_t)t * y_stride + row] = (float)sum;
        }
    }
}

static void rms_norm(const float *x, const float *gain, float *y, uint32_t n, float eps) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += (double)x[i] * x[i];
    }
    float scale = (float)(1.0 / sqrt(sum / n + (double)eps));
    for (uint32_t i = 0; i < n; i++) {
        y[i] = x[i] * scale * gain[i];
    }
}

/* NeoX pairing: i with i + dim/2. */
static void rope(float *x, uint32_t dim, uint32_t pos, float theta) {
    for (uint32_t i = 0; i < dim / 2; i++) {
        double angle = pos * pow((double)theta, -2.0 * i / dim);
        float c = (float)cos(angle);
        float s = (float)sin(angle);
        float a = x[i];
        float b = x[i + dim / 2];
        x[i] = a * c - b * s;
        x[i + dim / 2] = a * s + b * c;
    }
}

/* Of the first KV head at a page's position, in k and v. */
static size_t kv_offset(const struct ref *r, uint32_t layer, uint32_t page, uint32_t at) {
    size_t page_index = (size_t)layer * r->limits.n_pages + page;
    return (page_index * KV_PAGE_TOKENS + at) * r->m->n_head_kv_max * r->m->head_dim;
}

static float *kv_at(const struct ref *r, float *base, uint32_t layer, const uint32_t *pages, uint32_t pos) {
    return base + kv_offset(r, layer, pages[pos / KV_PAGE_TOKENS], pos % KV_PAGE_TOKENS);
}

static void attend_head(struct ref *r, const struct model_layer *l, const struct backend_row *row, uint32_t pos,
                        uint32_t kv_head, const float *q, float *out) {
    uint32_t dim = r->m->head_dim;
    uint32_t first = r->m->window && pos + 1 > r->m->window ? pos + 1 - r->m->window : 0;
    float scale = 1.0f / sqrtf((float)dim);
    float top = -INFINITY;
    for (uint32_t p = first; p <= pos; p++) {
        const float *k = kv_at(r, r->k, l->kv_index, row->pages, p) + kv_head * dim;
        double dot = 0;
        for (uint32_t i = 0; i < dim; i++) {
            dot += (double)q[i] * k[i];
        }
        r->scores[p] = (float)dot * scale;
        top = fmaxf(top, r->scores[p]);
    }
    double sum = 0;
    double acc[256] = {0}; /* model_bind admits head sizes up to 256 */
    for (uint32_t p = first; p <= pos; p++) {
        double e = exp((double)r->scores[p] - top);
        const float *v = kv_at(r, r->v, l->kv_index, row->pages, p) + kv_head * dim;
        sum += e;
        for (uint32_t i = 0; i < dim; i++) {
            acc[i] += e * v[i];
        }
    }
    for (uint32_t i = 0; i < dim; i++) {
        out[i] = (float)(acc[i] / sum);
    }
}

/* y = attention(x) over one row's tokens; wide holds [q | k | v] per token. */
static void attention(struct ref *r, const struct model_layer *l, const struct backend_row *row, const float *x,
                      float *y) {
    const struct model *m = r->m;
    uint32_t n = row->n_tokens;
    uint32_t dim = m->head_dim;
    uint32_t q_cols = l->wq.n_rows;
    uint32_t kv_cols = l->wk.n_rows;
    matmul(r, &l->wq, 0, x, m->n_embd, r->wide, r->wide_cols, n, NULL, 0);
    matmul(r, &l->wk, 0, x, m->n_embd, r->wide + q_cols, r->wide_cols, n, NULL, 0);
    matmul(r, &l->wv, 0, x, m->n_embd, r->wide + q_cols + kv_cols, r->wide_cols, n, NULL, 0);
    for (uint32_t t = 0; t < n; t++) {
        uint32_t pos = row->first_pos + t;
        float *q = r->wide + (size_t)t * r->wide_cols;
        float *k = q + q_cols;
        for (uint32_t i = 0; i < m->n_head; i++) {
            rms_norm(q + i * dim, l->q_norm, q + i * dim, dim, m->norm_eps);
            rope(q + i * dim, dim, pos, m->rope_theta);
        }
        for (uint32_t i = 0; i < l->n_head_kv; i++) {
            rms_norm(k + i * dim, l->k_norm, k + i * dim, dim, m->norm_eps);
            rope(k + i * dim, dim, pos, m->rope_theta);
        }
        memcpy(kv_at(r, r->k, l->kv_index, row->pages, pos), k, kv_cols * sizeof(float));
        memcpy(kv_at(r, r->v, l->kv_index, row->pages, pos), k + kv_cols, kv_cols * sizeof(float));
    }
    uint32_t group = m->n_head / l->n_head_kv;
    for (uint32_t t = 0; t < n; t++) {
        for (uint32_t i = 0; i < m->n_head; i++) {
            attend_head(r, l, row, row->first_pos + t, i / group, r->wide + (size_t)t * r->wide_cols + i * dim,
                        r->wide2 + (size_t)t * r->wide_cols + i * dim);
        }
    }
    matmul(r, &l->wo, 0, r->wide2, r->wide_cols, y, m->n_embd, n, NULL, 0);
}

/* One conv layer's columns in a slot (base: conv) or in a page (base: snapshots). */
static float *conv_at(const struct ref *r, float *base, uint32_t slot_or_page, uint32_t conv_index) {
    size_t size = (size_t)(r->m->conv_taps - 1) * r->m->n_embd;
    return base + ((size_t)slot_or_page * r->m->n_conv_layers + conv_index) * size;
}

/* One conv layer's column i of a slot's run of drafts. */
static float *draft_column(const struct ref *r, uint32_t slot, uint32_t conv_index, uint32_t i) {
    size_t layer = (size_t)conv_index * step_draft_columns(r->m, &r->limits);
    return r->columns + (layer + r->drafts.of[slot].first + i) * r->m->n_embd;
}

/* out = C * conv(B * x) for one token; the state moves on by it. */
static void conv_token(const struct model *m, const struct model_layer *l, const float *bcx, float *state, float *out) {
    uint32_t d = m->n_embd;
    uint32_t keep = m->conv_taps - 1;
    for (uint32_t c = 0; c < d; c++) {
        float u = bcx[c] * bcx[2 * d + c];
        float sum = 0;
        for (uint32_t k = 0; k < keep; k++) {
            sum += l->conv[c * m->conv_taps + k] * state[k * d + c];
        }
        sum += l->conv[c * m->conv_taps + keep] * u;
        out[c] = bcx[d + c] * sum;
        for (uint32_t k = 0; k + 1 < keep; k++) {
            state[k * d + c] = state[(k + 1) * d + c];
        }
        state[(keep - 1) * d + c] = u;
    }
}

/* y = out_proj(C * conv(B * x)) over one row's tokens; the state is advanced past them. */
static void short_conv(struct ref *r, const struct model_layer *l, const struct backend_row *row, const float *x,
                       float *y) {
    uint32_t d = r->m->n_embd;
    uint32_t keep = r->m->conv_taps - 1;
    uint32_t sure = row->n_tokens - row->n_drafts;
    size_t column = d * sizeof(float);
    float *state = conv_at(r, r->conv, row->slot, l->conv_index);
    if (row->resume) {
        uint32_t page = row->pages[row->first_pos / KV_PAGE_TOKENS - 1];
        memcpy(state, conv_at(r, r->snapshots, page, l->conv_index), keep * column);
    } else if (row->first_pos == 0) {
        memset(state, 0, keep * column);
    }
    matmul(r, &l->in_proj, 0, x, d, r->wide, r->wide_cols, row->n_tokens, NULL, 0);
    for (uint32_t t = 0; t < row->n_tokens; t++) {
        if (t == sure) {
            memcpy(draft_column(r, row->slot, l->conv_index, 0), state, keep * column);
        }
        conv_token(r->m, l, r->wide + (size_t)t * r->wide_cols, state, r->wide2 + (size_t)t * r->wide_cols);
        if (t >= sure) {
            memcpy(draft_column(r, row->slot, l->conv_index, keep + t - sure), state + (size_t)(keep - 1) * d, column);
        }
        uint32_t pos = row->first_pos + t;
        if (pos % KV_PAGE_TOKENS == KV_PAGE_TOKENS - 1) {
            memcpy(conv_at(r, r->snapshots, row->pages[pos / KV_PAGE_TOKENS], l->conv_index), state, keep * column);
        }
    }
    matmul(r, &l->out_proj, 0, r->wide2, r->wide_cols, y, d, row->n_tokens, NULL, 0);
}

/* Sigmoid router: choose by p + bias, weigh by p alone, normalised (lfm2.md 2.3). */
static void route(struct ref *r, const struct model_layer *l, const float *x, uint32_t n) {
    const struct model *m = r->m;
    matmul(r, &l->router, 0, x, m->n_embd, r->route_w, m->n_expert, n, NULL, 0);
    for (uint32_t t = 0; t < n; t++) {
        float *p = r->route_w + (size_t)t * m->n_expert;
        bool chosen[LIMIT_EXPERTS] = {false};
        double sum = 0;
        for (uint32_t e = 0; e < m->n_expert; e++) {
            p[e] = (float)(1.0 / (1.0 + exp(-(double)p[e])));
        }
        for (uint32_t k = 0; k < m->n_expert_used; k++) {
            uint32_t best = UINT32_MAX;
            float best_score = -INFINITY;
            for (uint32_t e = 0; e < m->n_expert; e++) {
                float score = p[e] + (l->expert_bias ? l->expert_bias[e] : 0);
                if (!chosen[e] && (best == UINT32_MAX || score > best_score)) {
                    best = e;
                    best_score = score;
                }
            }
            chosen[best] = true;
            sum += p[best];
        }
        float scale = m->expert_scale / fmaxf((float)sum, 0x1p-14f);
        for (uint32_t e = 0; e < m->n_expert; e++) {
            p[e] = chosen[e] ? p[e] * scale : 0;
        }
    }
}

static void feed_forward(struct ref *r, const struct model_layer *l, const float *x, float *y, uint32_t n) {
    const struct model *m = r->m;
    uint32_t ff = l->gate.n_rows;
    memset(y, 0, (size_t)n * m->n_embd * sizeof(float));
    if (l->is_moe) {
        route(r, l, x, n);
    }
    for (uint32_t e = 0; e < l->gate.n_mat; e++) {
        const float *use = l->is_moe ? r->route_w + e : NULL;
        uint32_t stride = m->n_expert;
        matmul(r, &l->gate, e, x, m->n_embd, r->wide, r->wide_cols, n, use, stride);
        matmul(r, &l->up, e, x, m->n_embd, r->wide2, r->wide_cols, n, use, stride);
        for (uint32_t t = 0; t < n; t++) {
            float *g = r->wide + (size_t)t * r->wide_cols;
            const float *u = r->wide2 + (size_t)t * r->wide_cols;
            for (uint32_t i = 0; i < ff && (!use || use[(size_t)t * stride] != 0); i++) {
                g[i] = (float)(g[i] / (1.0 + exp(-(double)g[i]))) * u[i];
            }
        }
        matmul(r, &l->down, e, r->wide, r->wide_cols, r->wide2, r->wide_cols, n, use, stride);
        for (uint32_t t = 0; t < n; t++) {
            float weight = use ? use[(size_t)t * stride] : 1;
            const float *d = r->wide2 + (size_t)t * r->wide_cols;
            for (uint32_t i = 0; i < m->n_embd && weight != 0; i++) {
                y[(size_t)t * m->n_embd + i] += weight * d[i];
            }
        }
    }
}

static void add_to(float *h, const float *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        h[i] += y[i];
    }
}

static void compute(struct ref *r, const struct backend_step *step, uint32_t n) {
    const struct model *m = r->m;
    uint32_t d = m->n_embd;
    uint32_t at = 0;
    for (uint32_t i = 0; i < step->n_rows; i++) {
        for (uint32_t t = 0; t < step->rows[i].n_tokens; t++) {
            dequantize_row(m->tok_embd.type, m->tok_embd.data + (size_t)step->rows[i].tokens[t] * m->tok_embd.row_bytes,
                           r->h + (size_t)at++ * d, d);
        }
    }
    for (uint32_t layer = 0; layer < m->n_layer; layer++) {
        const struct model_layer *l = &m->layers[layer];
        for (uint32_t t = 0; t < n; t++) {
            rms_norm(r->h + (size_t)t * d, l->attn_norm, r->x + (size_t)t * d, d, m->norm_eps);
        }
        size_t base = 0;
        for (uint32_t i = 0; i < step->n_rows; i++) {
            (l->is_attention ? attention : short_conv)(r, l, &step->rows[i], r->x + base * d, r->y + base * d);
            base += step->rows[i].n_tokens;
        }
        add_to(r->h, r->y, (size_t)n * d);
        for (uint32_t t = 0; t < n; t++) {
            rms_norm(r->h + (size_t)t * d, l->ffn_norm, r->x + (size_t)t * d, d, m->norm_eps);
        }
        feed_forward(r, l, r->x, r->y, n);
        add_to(r->h, r->y, (size_t)n * d);
    }
    r->n_outputs = step_outputs(step, r->out_idx);
    for (uint32_t i = 0; i < r->n_outputs; i++) {
        rms_norm(r->h + (size_t)r->out_idx[i] * d, m->output_norm, r->x + (size_t)i * d, d, m->norm_eps);
    }
    matmul(r, &m->output, 0, r->x, d, r->logits, m->n_vocab, r->n_outputs, NULL, 0);
}

static sluice_status ref_submit(struct backend *base, const struct backend_step *step, sluice_error *err) {
    struct ref *r = (struct ref *)base;
    uint32_t n;
    TRY(step_check(r->m, &r->limits, r->caps.samples, step, &n, &r->n_outputs, err));
    step_place_drafts(r->m, step, &r->drafts);
    compute(r, step, n);
    return SLUICE_OK;
}

static sluice_status ref_wait(struct backend *base, struct backend_output *out, sluice_error *err) {
    (void)err;
    struct ref *r = (struct ref *)base;
    *out = (struct backend_output){.logits = r->logits, .n_logits = r->n_outputs};
    return SLUICE_OK;
}

static sluice_status ref_rewind(struct backend *base, uint32_t slot, uint32_t n_kept, sluice_error *err) {
    struct ref *r = (struct ref *)base;
    TRY(step_check_rewind(&r->drafts, slot, n_kept, err));
    for (uint32_t i = 0; i < r->m->n_conv_layers; i++) {
        memcpy(conv_at(r, r->conv, slot, i), draft_column(r, slot, i, n_kept),
               (size_t)(r->m->conv_taps - 1) * r->m->n_embd * sizeof(float));
    }
    return SLUICE_OK;
}

/* A page outside: per attention layer K [64][n_head_kv][head_dim] and V likewise, then the snapshot; all F32. */
static void carry_page(const struct ref *r, uint32_t page, struct parcel p) {
    for (uint32_t i = 0; i < r->m->n_layer; i++) {
        const struct model_layer *l = &r->m->layers[i];
        size_t bytes = (size_t)l->n_head_kv * r->m->head_dim * sizeof(float);
        for (uint32_t pos = 0; l->is_attention && pos < KV_PAGE_TOKENS; pos++) {
            parcel_carry(&p, r->k + kv_offset(r, l->kv_index, page, pos), bytes);
        }
        for (uint32_t pos = 0; l->is_attention && pos < KV_PAGE_TOKENS; pos++) {
            parcel_carry(&p, r->v + kv_offset(r, l->kv_index, page, pos), bytes);
        }
    }
    parcel_carry(&p, conv_at(r, r->snapshots, page, 0), model_conv_state_bytes(r->m));
}

static sluice_status ref_page_save(struct backend *base, uint32_t page, void *bytes, sluice_error *err) {
    const struct ref *r = (const struct ref *)base;
    TRY(step_check_page(&r->limits, page, err));
    carry_page(r, page, (struct parcel){.out = bytes});
    return SLUICE_OK;
}

static sluice_status ref_page_load(struct backend *base, uint32_t page, const void *bytes, sluice_error *err) {
    const struct ref *r = (const struct ref *)base;
    TRY(step_check_page(&r->limits, page, err));
    carry_page(r, page, (struct parcel){.in = bytes});
    return SLUICE_OK;
}

static void ref_close(struct backend *base) {
    struct ref *r = (struct ref *)base;
    mem_unmap(r->arena, r->arena_bytes);
    mem_free(r);
}

static const struct backend_caps *ref_caps(const struct backend *base) {
    return &((const struct ref *)base)->caps;
}

static size_t layout(struct ref *r, char *base) {
    const struct model *m = r->m;
    const struct backend_options *o = &r->limits;
    size_t used = 0;
    size_t n = o->step_tokens_max;
    size_t kv = (size_t)m->n_attn_layers * o->n_pages * KV_PAGE_TOKENS * m->n_head_kv_max * m->head_dim;
    size_t widest = r->wide_cols > m->n_embd ? r->wide_cols : m->n_embd;
    size_t most = n > o->step_outputs_max ? n : o->step_outputs_max;
    r->k = arena_take(base, &used, kv, sizeof(float));
    r->v = arena_take(base, &used, kv, sizeof(float));
    r->conv = arena_take(base, &used, o->n_slots * (model_conv_state_bytes(m) / 4), sizeof(float));
    r->snapshots = arena_take(base, &used, o->n_pages * (model_conv_state_bytes(m) / 4), sizeof(float));
    r->caps.kv_bytes = used;
    size_t columns = (size_t)m->n_conv_layers * step_draft_columns(m, o);
    r->columns = arena_take(base, &used, columns * m->n_embd, sizeof(float));
    r->h = arena_take(base, &used, n * m->n_embd, sizeof(float));
    r->x = arena_take(base, &used, most * m->n_embd, sizeof(float));
    r->y = arena_take(base, &used, n * m->n_embd, sizeof(float));
    r->wide = arena_take(base, &used, n * r->wide_cols, sizeof(float));
    r->wide2 = arena_take(base, &used, n * r->wide_cols, sizeof(float));
    r->row = arena_take(base, &used, widest, sizeof(float));
    r->scores = arena_take(base, &used, (size_t)o->n_pages * KV_PAGE_TOKENS, sizeof(float));
    r->logits = arena_take(base, &used, (size_t)o->step_outputs_max * m->n_vocab, sizeof(float));
    r->route_w = arena_take(base, &used, n * (m->n_expert ? m->n_expert : 1), sizeof(float));
    r->out_idx = arena_take(base, &used, o->step_outputs_max, sizeof(uint32_t));
    return used;
}

static uint32_t widest_branch(const struct model *m) {
    uint32_t wide = max_u32(3 * m->n_embd, max_u32(m->n_ff, m->n_ff_exp));
    return max_u32(wide, (m->n_head + 2 * m->n_head_kv_max) * m->head_dim);
}

static sluice_status ref_open(const struct model *m, const struct backend_options *options, struct backend **out,
                              sluice_error *err) {
    struct ref *r = mem_calloc(1, sizeof *r);
    if (!r) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the reference backend");
    }
    r->base.ops = &backend_ref_ops;
    r->m = m;
    r->limits = *options;
    r->limits.n_threads = 1;
    r->limits.step_tokens_max = options->step_tokens_max ? options->step_tokens_max : 512;
    r->limits.step_outputs_max = options->step_outputs_max ? options->step_outputs_max : max_u32(options->n_slots, 1);
    r->wide_cols = widest_branch(m);
    r->arena_bytes = layout(r, NULL);
    r->arena = mem_map(r->arena_bytes);
    if (!r->arena) {
        sluice_status status = fail(err, SLUICE_E_NOMEM, "no memory for the reference backend's %.1f MiB of state",
                                    (double)r->arena_bytes / 0x1p20);
        mem_free(r);
        return status;
    }
    layout(r, r->arena);
    r->caps = (struct backend_caps){
        .name = "ref",
        .n_threads = 1,
        .step_tokens_max = r->limits.step_tokens_max,
        .step_outputs_max = r->limits.step_outputs_max,
        .step_drafts_max = r->limits.step_drafts_max,
        .prefill_chunk = r->limits.step_tokens_max < 64 ? r->limits.step_tokens_max : 64,
        .weight_bytes = m->file->tensor_bytes,
        .kv_bytes = r->caps.kv_bytes,
        .work_bytes = r->arena_bytes - r->caps.kv_bytes,
        .page_bytes = 2 * KV_PAGE_TOKENS * model_kv_bytes_per_token(m) + model_conv_state_bytes(m),
        .page_format = "ref-1",
    };
    snprintf(r->caps.device, sizeof r->caps.device, "plain F32 C, 1 thread");
    *out = &r->base;
    return SLUICE_OK;
}

static sluice_status ref_probe(sluice_error *err) {
    (void)err;
    return SLUICE_OK;
}

const struct backend_ops backend_ref_ops = {
    .name = "ref",
    .probe = ref_probe,
    .memory = mem_available,
    .open = ref_open,
    .close = ref_close,
    .caps = ref_caps,
    .submit = ref_submit,
    .wait = ref_wait,
    .rewind = ref_rewind,
    .page_save = ref_page_save,
    .page_load = ref_page_load,
};
