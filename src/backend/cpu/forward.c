/*
 * One step on all threads of the pool. Work is split by output rows (matrix products) or by tokens (norms, routing),
 * and a barrier stands where a phase needs all of the one before: four per layer for a step of one token, where each
 * thread norms and quantises the token for itself rather than wait for another to do it.
 */
#include "backend/cpu/cpu.h"
#include "base/clock.h"

#include <math.h>
#include <string.h>

/* The ith of nth parts of n items, in units of `unit` (the last may be short). */
static struct span part(uint32_t n, uint32_t unit, uint32_t ith, uint32_t nth) {
    uint64_t units = (n + unit - 1) / unit;
    uint64_t begin = units * ith / nth * unit;
    uint64_t end = units * (ith + 1) / nth * unit;
    return (struct span){begin < n ? (uint32_t)begin : n, end < n ? (uint32_t)end : n};
}

static struct mm product(const struct weight *w, uint32_t mat, const struct acts *x, uint32_t n, float *y,
                         size_t y_stride) {
    return (struct mm){.w = w->data + mat * w->mat_bytes,
                       .row_bytes = w->row_bytes,
                       .type = w->type,
                       .n_cols = w->n_cols,
                       .x = x,
                       .packs = x->packs,
                       .n = n,
                       .y = y,
                       .y_stride = y_stride};
}

struct ctx {
    struct cpu *c;
    uint32_t ith, nth;
    struct cpu_thread *mine;
    const uint32_t *cut; /* how the layer at hand divides rows: struct shares */
    uint64_t *busy;      /* and where this thread books its time in products */
};

/* This thread's part of a matrix's rows, or of as many channels. Many tokens meet panels of rows, which are cut only
 * where a thread would have too few of them to keep the parts near what they should be. */
static struct span my_rows(const struct ctx *s, uint32_t n_rows) {
    bool whole = s->c->n >= KERNELS_PANEL_MIN && n_rows >= 8 * KERNELS_PANEL_ROWS * s->nth;
    return shares_rows(s->cut, n_rows, whole ? KERNELS_PANEL_ROWS : 16, s->ith);
}

/* Books the time since the last mark, seen by the first thread, on a stage. */
static void mark(const struct ctx *s, enum cpu_stage stage) {
    struct cpu *c = s->c;
    if (c->profiling && s->ith == 0) {
        uint64_t now = clock_ns();
        c->profile.stages[stage].ns += now - c->stage_clock;
        c->stage_clock = now;
    }
}

/* As mark, for a stage that multiplied `mats` matrices like w with `tokens` tokens in all. */
static void mark_product(const struct ctx *s, enum cpu_stage stage, const struct weight *w, uint32_t mats,
                         uint64_t tokens) {
    struct backend_stage *at = &s->c->profile.stages[stage];
    if (s->c->profiling && s->ith == 0) {
        at->bytes += mats * weight_file_bytes(w);
        at->macs += tokens * w->n_rows * w->n_cols;
    }
    mark(s, stage);
}

/* Weights that this thread reads next: fetched ahead at the end of a phase and while waiting for the others. */
struct region {
    const uint8_t *p;
    size_t bytes;
};
static const struct region nothing = {NULL, 0};

static struct region rows_of(const struct weight *w, uint32_t mat, struct span rows) {
    const uint8_t *first = w->data + mat * w->mat_bytes;
    size_t begin = strips_bytes(w->type, rows.begin, w->n_cols);
    return (struct region){first + begin, strips_bytes(w->type, rows.end, w->n_cols) - begin};
}

/* This thread's share of a matrix. */
static struct region share_of(const struct ctx *s, const struct weight *w) {
    return rows_of(w, 0, my_rows(s, w->n_rows));
}

/* What layer i reads first; past the last layer, the output matrix. */
static struct region layer_start(const struct ctx *s, uint32_t i) {
    const struct model *m = s->c->m;
    if (i == m->n_layer) {
        return s->c->n_outputs ? share_of(s, &m->output) : nothing;
    }
    const struct model_layer *l = &m->layers[i];
    return l->is_attention ? share_of(s, &l->wq) : rows_of(&l->in_proj, 0, my_rows(s, m->n_embd));
}

static struct region next_layer(const struct ctx *s, const struct model_layer *l) {
    return layer_start(s, (uint32_t)(l - s->c->m->layers) + 1);
}

/* What the second branch of a layer reads first: every thread routes, with the whole router. */
static struct region ffn_start(const struct ctx *s, const struct model_layer *l) {
    return l->is_moe ? rows_of(&l->router, 0, (struct span){0, l->router.n_rows}) : share_of(s, &l->gate);
}

enum { WAIT_FETCH_MAX = 192 * 1024, WAIT_FETCH_STEP = 256 }; /* well within a second-level cache */

/* Waits for all threads; meanwhile brings some of `next` into the second-level cache. */
static void barrier(const struct ctx *s, struct region next) {
    struct pool *pool = s->c->pool;
    unsigned phase = pool_arrive(pool);
    size_t bytes = next.bytes < WAIT_FETCH_MAX ? next.bytes : WAIT_FETCH_MAX;
    for (size_t at = 0; at < bytes && !pool_passed(pool, phase); at += WAIT_FETCH_STEP) {
        for (size_t line = 0; line < WAIT_FETCH_STEP; line += 64) {
            __builtin_prefetch(next.p + at + line, 0, 2);
        }
    }
    pool_wait(pool, phase);
    mark(s, STAGE_WAIT);
}

static void matmul_rows(const struct ctx *s, const struct mm *job, struct span rows) {
    if (rows.begin < rows.end) {
        uint64_t start = s->nth > 1 ? clock_ns() : 0;
        s->c->k->matmul(job, rows.begin, rows.end, s->mine->panel);
        *s->busy += s->nth > 1 ? clock_ns() - start : 0;
    }
}

/* All of w's rows, shared among the threads. */
static void matmul_shared(const struct ctx *s, const struct weight *w, const struct acts *x, float *y, size_t y_stride,
                          bool add, struct region next) {
    struct mm job = product(w, 0, x, s->c->n, y, y_stride);
    job.add = add;
    job.next = next.p;
    matmul_rows(s, &job, my_rows(s, w->n_rows));
}

static bool packed(const struct acts *x, uint32_t n) {
    return x->packs && n >= KERNELS_PACK_MIN;
}

/* This thread's share of n tokens to make ready for the kernels. */
static struct span my_tokens(const struct ctx *s, const struct acts *x, uint32_t n) {
    return part(n, packed(x, n) ? KERNELS_PACK : 1, s->ith, s->nth);
}

/* Tokens [begin, end) of n, whose floats are there, for the kernels. */
static void quantize_tokens(const struct cpu *c, const struct acts *x, struct span tokens, uint32_t n) {
    for (uint32_t t = tokens.begin; t < tokens.end; t++) {
        c->k->quantize(x, t);
    }
    for (uint32_t t = tokens.begin; t < tokens.end && packed(x, n); t += KERNELS_PACK) {
        uint32_t some = tokens.end - t < KERNELS_PACK ? tokens.end - t : KERNELS_PACK;
        c->k->pack(x, NULL, t, some, x->packs + t / KERNELS_PACK * kernels_pack_bytes(x->n_cols));
    }
}

/* x = quantised norm of the residual, ready for every thread. One token: each thread makes its own, without a barrier. */
static const struct acts *norm_input(const struct ctx *s, const float *gain, struct region next) {
    struct cpu *c = s->c;
    uint32_t d = c->m->n_embd;
    bool own = c->n == 1;
    const struct acts *x = own ? &s->mine->x : &c->x;
    struct span tokens = own ? (struct span){0, 1} : my_tokens(s, x, c->n);
    for (uint32_t t = tokens.begin; t < tokens.end; t++) {
        c->k->rms_norm(c->h + (size_t)t * d, gain, x->f + (size_t)t * d, d, c->m->norm_eps);
    }
    quantize_tokens(c, x, tokens, c->n);
    mark(s, STAGE_NORM);
    if (!own) {
        barrier(s, next);
    }
    return x;
}

/* A branch's inner result, quantised. Its floats come from all threads, so a barrier stands first; `own` and `shared`
 * have the same floats. */
static const struct acts *inner_input(const struct ctx *s, const struct acts *own, const struct acts *shared,
                                      struct region next) {
    struct cpu *c = s->c;
    barrier(s, next);
    if (c->n == 1) {
        c->k->quantize(own, 0);
        mark(s, STAGE_NORM);
        return own;
    }
    quantize_tokens(c, shared, my_tokens(s, shared, c->n), c->n);
    mark(s, STAGE_NORM);
    barrier(s, next);
    return shared;
}

static void copy_channels(float *to, const float *from, uint32_t n_columns, uint32_t d, struct span channels) {
    for (uint32_t i = 0; i < n_columns; i++) {
        memcpy(to + (size_t)i * d + channels.begin, from + (size_t)i * d + channels.begin,
               (channels.end - channels.begin) * sizeof(float));
    }
}

/* The convolution of a row's tokens for some channels. State comes, goes and is kept for later here, by the owner of
 * the channels, so that no barrier is needed for it. */
static void conv_row(struct cpu *c, const struct model_layer *l, uint32_t r, struct span channels) {
    const struct backend_row *row = &c->step->rows[r];
    uint32_t d = c->m->n_embd;
    uint32_t n_taps = c->m->conv_taps;
    uint32_t keep = n_taps - 1;
    uint32_t sure = row->n_tokens - row->n_drafts;
    const struct draft_run *run = &c->drafts.of[row->slot];
    const float *taps = c->taps + (size_t)l->conv_index * n_taps * d;
    float *state = cpu_conv_columns(c, c->conv_state, row->slot, l->conv_index);
    if (row->resume) {
        uint32_t page = row->pages[row->first_pos / KV_PAGE_TOKENS - 1];
        copy_channels(state, cpu_conv_columns(c, c->snapshots, page, l->conv_index), keep, d, channels);
    } else if (row->first_pos == 0) {
        for (uint32_t i = 0; i < keep; i++) {
            memset(state + (size_t)i * d + channels.begin, 0, (channels.end - channels.begin) * sizeof(float));
        }
    }
    for (uint32_t i = 0; i < row->n_tokens; i++) {
        if (i == sure) {
            copy_channels(cpu_draft_column(c, run, l->conv_index, 0), state, keep, d, channels);
        }
        uint32_t t = c->row_start[r] + i;
        uint32_t pos = row->first_pos + i;
        c->k->conv(c->wide + (size_t)t * c->wide_cols, taps, n_taps, state, c->conv_out.f + (size_t)t * d, d,
                   channels.begin, channels.end);
        if (i >= sure) {
            copy_channels(cpu_draft_column(c, run, l->conv_index, keep + i - sure), state + (size_t)(keep - 1) * d, 1,
                          d, channels);
        }
        if (pos % KV_PAGE_TOKENS == KV_PAGE_TOKENS - 1) {
            uint32_t page = row->pages[pos / KV_PAGE_TOKENS];
            copy_channels(cpu_conv_columns(c, c->snapshots, page, l->conv_index), state, keep, d, channels);
        }
    }
}

static void short_conv(const struct ctx *s, const struct model_layer *l) {
    struct cpu *c = s->c;
    const struct model *m = c->m;
    uint32_t d = m->n_embd;
    const struct acts *x = norm_input(s, l->attn_norm, layer_start(s, (uint32_t)(l - m->layers)));
    /* a thread owns channels: their rows of B, C and x, then their convolution */
    struct span mine = my_rows(s, d);
    struct mm job = product(&l->in_proj, 0, x, c->n, c->wide, c->wide_cols);
    for (uint32_t third = 0; third < 3; third++) {
        struct span then = {(third + 1) * d + mine.begin, (third + 1) * d + mine.end};
        job.next = third < 2 ? rows_of(&l->in_proj, 0, then).p : share_of(s, &l->out_proj).p;
        matmul_rows(s, &job, (struct span){third * d + mine.begin, third * d + mine.end});
    }
    mark_product(s, STAGE_CONV_IN, &l->in_proj, 1, c->n);
    for (uint32_t r = 0; r < c->step->n_rows; r++) {
        conv_row(c, l, r, mine);
    }
    mark(s, STAGE_CONV);
    const struct acts *y = inner_input(s, &s->mine->conv_out, &c->conv_out, share_of(s, &l->out_proj));
    matmul_shared(s, &l->out_proj, y, c->h, d, true, ffn_start(s, l));
    mark_product(s, STAGE_CONV_OUT, &l->out_proj, 1, c->n);
    barrier(s, ffn_start(s, l));
}

/* Norm, rotation and storage of q, k and v for (token, KV head) pairs [begin, end) of the step. */
static void prepare_heads(const struct ctx *s, const struct model_layer *l, struct span pairs) {
    struct cpu *c = s->c;
    const struct model *m = c->m;
    uint32_t dim = m->head_dim;
    uint32_t group = m->n_head / l->n_head_kv;
    for (uint32_t i = pairs.begin; i < pairs.end; i++) {
        uint32_t t = i / l->n_head_kv;
        uint32_t head = i % l->n_head_kv;
        const struct step_token *tok = &c->tokens[t];
        float *q = c->wide + (size_t)t * c->wide_cols + (size_t)head * group * dim;
        float *k = c->wide + (size_t)t * c->wide_cols + l->wq.n_rows + (size_t)head * dim;
        const float *cos_sin = c->cos_sin + (size_t)t * dim;
        for (uint32_t g = 0; g < group; g++) {
            c->k->rms_norm(q + g * dim, l->q_norm, q + g * dim, dim, m->norm_eps);
            c->k->rope(q + g * dim, cos_sin, dim);
        }
        c->k->rms_norm(k, l->k_norm, k, dim, m->norm_eps);
        c->k->rope(k, cos_sin, dim);
        uint32_t page = c->step->rows[tok->row].pages[tok->pos / KV_PAGE_TOKENS];
        c->k->store_kv(k, k + l->wk.n_rows, cpu_kv_head(c, c->keys, l->kv_index, page, head),
                       cpu_kv_head(c, c->values, l->kv_index, page, head), dim, tok->pos % KV_PAGE_TOKENS);
    }
}

/* Attention of a KV head's queries for tokens [t0, t1), which belong to one row. */
static void attend_tokens(const struct ctx *s, const struct model_layer *l, uint32_t head, uint32_t t0, uint32_t t1) {
    struct cpu *c = s->c;
    const struct model *m = c->m;
    uint32_t dim = m->head_dim;
    uint32_t group = m->n_head / l->n_head_kv;
    const float *q[ATTN_QUERIES_MAX];
    float *out[ATTN_QUERIES_MAX];
    uint32_t pos[ATTN_QUERIES_MAX];
    uint32_t n = 0;
    const struct backend_row *row = &c->step->rows[c->tokens[t0].row];
    struct attn job = {.k = cpu_kv_head(c, c->keys, l->kv_index, 0, head),
                       .v = cpu_kv_head(c, c->values, l->kv_index, 0, head),
                       .page_stride = (size_t)KV_PAGE_TOKENS * dim * m->n_head_kv_max,
                       .pages = row->pages,
                       .dim = dim,
                       .window = m->window,
                       .scale = 1.0f / sqrtf((float)dim),
                       .q = q,
                       .out = out,
                       .pos = pos};
    for (uint32_t t = t0; t < t1; t++) {
        for (uint32_t g = 0; g < group; g++) {
            q[n] = c->wide + (size_t)t * c->wide_cols + ((size_t)head * group + g) * dim;
            out[n] = c->attn_out.f + (size_t)t * l->wq.n_rows + ((size_t)head * group + g) * dim;
            pos[n++] = c->tokens[t].pos;
            if (n == ATTN_QUERIES_MAX || (t + 1 == t1 && g + 1 == group)) {
                job.n = n;
                c->k->attend(&job);
                n = 0;
            }
        }
    }
}

/* As mark, for attention: each row reads the keys and values that it sees once. */
static void mark_attention(const struct ctx *s, const struct model_layer *l) {
    const struct cpu *c = s->c;
    uint64_t seen = 0;
    uint64_t pairs = 0;
    for (uint32_t r = 0; c->profiling && s->ith == 0 && r < c->step->n_rows; r++) {
        const struct backend_row *row = &c->step->rows[r];
        seen += row->first_pos + row->n_tokens;
        pairs += (uint64_t)row->n_tokens * (2 * row->first_pos + row->n_tokens + 1) / 2;
    }
    struct backend_stage *at = &s->c->profile.stages[STAGE_ATTEND];
    if (seen) {
        at->bytes += seen * 2 * sizeof(uint16_t) * l->n_head_kv * c->m->head_dim;
        at->macs += pairs * 2 * c->m->n_head * c->m->head_dim;
    }
    mark(s, STAGE_ATTEND);
}

static void attention(const struct ctx *s, const struct model_layer *l) {
    struct cpu *c = s->c;
    const struct model *m = c->m;
    uint32_t group = m->n_head / l->n_head_kv;
    const struct acts *x = norm_input(s, l->attn_norm, layer_start(s, (uint32_t)(l - m->layers)));
    matmul_shared(s, &l->wq, x, c->wide, c->wide_cols, false, share_of(s, &l->wk));
    matmul_shared(s, &l->wk, x, c->wide + l->wq.n_rows, c->wide_cols, false, share_of(s, &l->wv));
    matmul_shared(s, &l->wv, x, c->wide + l->wq.n_rows + l->wk.n_rows, c->wide_cols, false, share_of(s, &l->wo));
    mark_product(s, STAGE_QKV, &l->wq, 1, c->n);
    mark_product(s, STAGE_QKV, &l->wk, 1, c->n);
    mark_product(s, STAGE_QKV, &l->wv, 1, c->n);
    barrier(s, share_of(s, &l->wo));
    prepare_heads(s, l, part(c->n * l->n_head_kv, 1, s->ith, s->nth));
    mark(s, STAGE_HEADS);
    if (c->n > 1) { /* with one token a thread attends with just the heads that it prepared */
        barrier(s, share_of(s, &l->wo));
    }
    /* items: (KV head, block of queries that fills one kernel call), rows in turn; round robin evens out the lengths */
    uint32_t block = group >= ATTN_QUERIES_MAX ? 1 : ATTN_QUERIES_MAX / group;
    uint32_t item = 0;
    for (uint32_t r = 0; r < c->step->n_rows; r++) {
        uint32_t begin = c->row_start[r];
        uint32_t end = begin + c->step->rows[r].n_tokens;
        for (uint32_t t = begin; t < end; t += block) {
            for (uint32_t head = 0; head < l->n_head_kv; head++, item++) {
                struct span heads = part(l->n_head_kv, 1, s->ith, s->nth);
                bool mine = c->n == 1 ? head >= heads.begin && head < heads.end : item % s->nth == s->ith;
                if (mine) {
                    attend_tokens(s, l, head, t, t + block < end ? t + block : end);
                }
            }
        }
    }
    mark_attention(s, l);
    const struct acts *y = inner_input(s, &s->mine->attn_out, &c->attn_out, share_of(s, &l->wo));
    matmul_shared(s, &l->wo, y, c->h, m->n_embd, true, ffn_start(s, l));
    mark_product(s, STAGE_ATTN_OUT, &l->wo, 1, c->n);
    barrier(s, ffn_start(s, l));
}

/* Scores of tokens [begin, end) to chosen experts, ascending, with their weights (lfm2.md 2.3). */
static void choose_experts(struct cpu *c, const struct model_layer *l, float *scores, uint32_t *experts, float *gains) {
    uint32_t used = c->m->n_expert_used;
    uint32_t n_expert = c->m->n_expert;
    c->k->sigmoid(scores, n_expert);
    bool chosen[LIMIT_EXPERTS];
    memset(chosen, 0, n_expert * sizeof chosen[0]);
    for (uint32_t k = 0; k < used; k++) {
        uint32_t best = UINT32_MAX;
        float best_score = 0;
        for (uint32_t e = 0; e < n_expert; e++) {
            float score = scores[e] + (l->expert_bias ? l->expert_bias[e] : 0);
            if (!chosen[e] && (best == UINT32_MAX || score > best_score)) {
                best = e;
                best_score = score;
            }
        }
        chosen[best] = true;
    }
    float sum = 0;
    uint32_t n = 0;
    for (uint32_t e = 0; e < n_expert; e++) {
        if (chosen[e]) {
            experts[n] = e;
            gains[n++] = scores[e];
            sum += scores[e];
        }
    }
    float scale = c->m->expert_scale / fmaxf(sum, 0x1p-14f);
    for (uint32_t k = 0; k < used; k++) {
        gains[k] *= scale;
    }
}

static void route(const struct ctx *s, const struct model_layer *l, const struct acts *x, struct span tokens,
                  float *scores, uint32_t *experts, float *gains) {
    struct cpu *c = s->c;
    if (tokens.begin == tokens.end) {
        return;
    }
    struct acts some = acts_from(x, tokens.begin);
    struct mm job = product(&l->router, 0, &some, tokens.end - tokens.begin,
                            scores + (size_t)tokens.begin * c->m->n_expert, c->m->n_expert);
    c->k->matmul(&job, 0, c->m->n_expert, s->mine->panel);
    for (uint32_t t = tokens.begin; t < tokens.end; t++) {
        choose_experts(c, l, scores + (size_t)t * c->m->n_expert, experts + (size_t)t * c->m->n_expert_used,
                       gains + (size_t)t * c->m->n_expert_used);
    }
}

/* Lists of the tokens of each expert, in token order; run by one thread. */
static void group_by_expert(struct cpu *c) {
    uint32_t used = c->m->n_expert_used;
    memset(c->expert_start, 0, (c->m->n_expert + 1) * sizeof(uint32_t));
    for (uint32_t i = 0; i < c->n * used; i++) {
        c->expert_start[c->expert_of[i] + 1]++;
    }
    for (uint32_t e = 0; e < c->m->n_expert; e++) {
        c->expert_start[e + 1] += c->expert_start[e];
    }
    for (uint32_t i = 0; i < c->n * used; i++) {
        uint32_t at = c->expert_start[c->expert_of[i]]++; /* moves each start to the next one's; mended below */
        c->entry_token[at] = i / used;
        c->entry_slot[at] = at;
        c->entry_gain[at] = c->gain_of[i];
    }
    memmove(c->expert_start + 1, c->expert_start, c->m->n_expert * sizeof(uint32_t));
    c->expert_start[0] = 0;
    c->pack_start[0] = 0;
    for (uint32_t e = 0; e < c->m->n_expert; e++) {
        uint32_t n = c->expert_start[e + 1] - c->expert_start[e];
        c->pack_start[e + 1] = c->pack_start[e] + (n >= KERNELS_PACK_MIN ? (n + KERNELS_PACK - 1) / KERNELS_PACK : 0);
    }
}

/* This thread's share of the experts' packs of x, made from the tokens `of` the entries (NULL: the entries themselves). */
static void pack_entries(const struct ctx *s, const struct acts *x, const uint32_t *of) {
    struct cpu *c = s->c;
    for (uint32_t e = 0; e < c->m->n_expert; e++) {
        for (uint32_t p = c->pack_start[e]; p < c->pack_start[e + 1]; p++) {
            uint32_t at = c->expert_start[e] + (p - c->pack_start[e]) * KERNELS_PACK;
            uint32_t n = c->expert_start[e + 1] - at;
            if (p % s->nth == s->ith) {
                c->k->pack(x, of ? of + at : NULL, at, n < KERNELS_PACK ? n : KERNELS_PACK,
                           x->packs + p * kernels_pack_bytes(x->n_cols));
            }
        }
    }
}

/* x as the products of one expert take it. */
static struct acts expert_acts(const struct cpu *c, const struct acts *x, uint32_t e) {
    struct acts some = *x;
    some.packs = x->packs ? x->packs + c->pack_start[e] * kernels_pack_bytes(x->n_cols) : NULL;
    return some;
}

/* hidden[slot] = silu(gate x) * up x for rows of one matrix pair, whose entries are (token, slot). */
static void gate_up(const struct ctx *s, const struct model_layer *l, uint32_t mat, const struct acts *x, uint32_t n,
                    const uint32_t *src, const uint32_t *dst, struct span rows, struct region next) {
    struct cpu *c = s->c;
    uint32_t ff = l->gate.n_rows;
    struct mm gate = product(&l->gate, mat, x, n, c->hidden.f, ff);
    struct mm up = product(&l->up, mat, x, n, c->wide, ff);
    gate.src = up.src = src;
    gate.dst = up.dst = dst;
    gate.next = rows_of(&l->up, mat, rows).p;
    up.next = next.p;
    matmul_rows(s, &gate, rows);
    matmul_rows(s, &up, rows);
    for (uint32_t i = 0; i < n && rows.begin < rows.end; i++) {
        size_t at = (size_t)(dst ? dst[i] : i) * ff + rows.begin;
        c->k->silu_mul(c->hidden.f + at, c->wide + at, rows.end - rows.begin);
    }
}

static void dense_ffn(const struct ctx *s, const struct model_layer *l) {
    struct cpu *c = s->c;
    uint32_t ff = l->gate.n_rows;
    const struct acts *x = norm_input(s, l->ffn_norm, ffn_start(s, l));
    gate_up(s, l, 0, x, c->n, NULL, NULL, my_rows(s, ff), share_of(s, &l->down));
    mark_product(s, STAGE_DENSE_UP, &l->gate, 1, c->n);
    mark_product(s, STAGE_DENSE_UP, &l->up, 1, c->n);
    barrier(s, share_of(s, &l->down));
    struct acts hidden = c->n == 1 ? s->mine->hidden : c->hidden; /* one token: each thread quantises it for itself */
    hidden.f = c->hidden.f;
    hidden.n_cols = ff;
    if (c->n == 1) {
        c->k->quantize(&hidden, 0);
        mark(s, STAGE_NORM);
    } else {
        quantize_tokens(c, &hidden, my_tokens(s, &hidden, c->n), c->n);
        mark(s, STAGE_NORM);
        barrier(s, share_of(s, &l->down));
    }
    matmul_shared(s, &l->down, &hidden, c->h, c->m->n_embd, true, next_layer(s, l));
    mark_product(s, STAGE_DENSE_DOWN, &l->down, 1, c->n);
    barrier(s, next_layer(s, l));
}

/* The first expert from e on that has tokens; n_expert if none has. */
static uint32_t next_expert(const struct cpu *c, uint32_t e) {
    while (e < c->m->n_expert && c->expert_start[e] == c->expert_start[e + 1]) {
        e++;
    }
    return e;
}

/* The down products of all experts, added to the residual in ascending order of experts, by owners of output rows. */
static void experts_down(const struct ctx *s, const struct model_layer *l, const struct acts *hidden) {
    struct cpu *c = s->c;
    struct span rows = my_rows(s, c->m->n_embd);
    for (uint32_t e = next_expert(c, 0); e < c->m->n_expert;) {
        uint32_t at = c->expert_start[e];
        uint32_t then = next_expert(c, e + 1);
        struct acts entries = expert_acts(c, hidden, e);
        struct mm job = product(&l->down, e, &entries, c->expert_start[e + 1] - at, c->h, c->m->n_embd);
        job.src = c->entry_slot + at;
        job.dst = c->entry_token + at;
        job.gain = c->entry_gain + at;
        job.add = true;
        job.next = then < c->m->n_expert ? rows_of(&l->down, then, rows).p : next_layer(s, l).p;
        matmul_rows(s, &job, rows);
        e = then;
    }
}

/* The rows of the k-th chosen expert that a thread owns when all chosen experts' rows are laid end to end. */
static struct span expert_span(struct span all, uint32_t k, uint32_t ff) {
    uint32_t begin = all.begin > k * ff ? all.begin - k * ff : 0;
    uint32_t end = all.end > k * ff ? all.end - k * ff : 0;
    return (struct span){begin < ff ? begin : ff, end < ff ? end : ff};
}

/* Experts for one token: every thread routes for itself. */
static void moe_one(const struct ctx *s, const struct model_layer *l) {
    struct cpu *c = s->c;
    const struct model *m = c->m;
    uint32_t used = m->n_expert_used;
    uint32_t ff = l->gate.n_rows;
    float scores[LIMIT_EXPERTS];
    uint32_t experts[LIMIT_EXPERTS];
    float gains[LIMIT_EXPERTS];
    const struct acts *x = norm_input(s, l->ffn_norm, nothing);
    route(s, l, x, (struct span){0, 1}, scores, experts, gains);
    mark_product(s, STAGE_ROUTE, &l->router, 1, 1);
    struct span all = my_rows(s, used * ff);
    struct span rows = my_rows(s, m->n_embd);
    struct region down = rows_of(&l->down, experts[0], rows);
    for (uint32_t k = 0; k < used; k++) {
        struct span then = k + 1 < used ? expert_span(all, k + 1, ff) : (struct span){0, 0};
        struct region next = then.begin < then.end ? rows_of(&l->gate, experts[k + 1], then) : down;
        uint32_t zero = 0;
        gate_up(s, l, experts[k], x, 1, &zero, &k, expert_span(all, k, ff), next);
    }
    mark_product(s, STAGE_EXPERTS_UP, &l->gate, used, used);
    mark_product(s, STAGE_EXPERTS_UP, &l->up, used, used);
    barrier(s, down);
    struct acts hidden = s->mine->hidden;
    hidden.f = c->hidden.f;
    hidden.n_cols = ff;
    for (uint32_t k = 0; k < used; k++) {
        c->k->quantize(&hidden, k);
    }
    mark(s, STAGE_NORM);
    for (uint32_t k = 0; k < used; k++) {
        struct mm job = product(&l->down, experts[k], &hidden, 1, c->h, m->n_embd);
        uint32_t zero = 0;
        job.src = &k;
        job.dst = &zero;
        job.gain = &gains[k];
        job.add = true;
        job.next = k + 1 < used ? rows_of(&l->down, experts[k + 1], rows).p : next_layer(s, l).p;
        matmul_rows(s, &job, rows);
    }
    mark_product(s, STAGE_EXPERTS_DOWN, &l->down, used, used);
    barrier(s, next_layer(s, l));
    if (s->ith == 0) {
        c->weight_bytes += used * cpu_expert_bytes(l);
    }
}

static void moe_many(const struct ctx *s, const struct model_layer *l) {
    struct cpu *c = s->c;
    uint32_t used = c->m->n_expert_used;
    uint32_t ff = l->gate.n_rows;
    const struct acts *x = norm_input(s, l->ffn_norm, ffn_start(s, l));
    route(s, l, x, part(c->n, 1, s->ith, s->nth), c->route, c->expert_of, c->gain_of);
    mark_product(s, STAGE_ROUTE, &l->router, 1, c->n);
    barrier(s, nothing);
    if (s->ith == 0) {
        group_by_expert(c);
    }
    barrier(s, nothing);
    if (x->packs) {
        pack_entries(s, x, c->entry_token);
        mark(s, STAGE_ROUTE);
        barrier(s, nothing);
    }
    struct span rows = my_rows(s, ff);
    struct region down = rows_of(&l->down, next_expert(c, 0), my_rows(s, c->m->n_embd));
    uint32_t touched = 0;
    for (uint32_t e = next_expert(c, 0); e < c->m->n_expert; touched++) {
        uint32_t at = c->expert_start[e];
        uint32_t then = next_expert(c, e + 1);
        struct acts entries = expert_acts(c, x, e);
        gate_up(s, l, e, &entries, c->expert_start[e + 1] - at, c->entry_token + at, c->entry_slot + at, rows,
                then < c->m->n_expert ? rows_of(&l->gate, then, rows) : down);
        e = then;
    }
    mark_product(s, STAGE_EXPERTS_UP, &l->gate, touched, (uint64_t)c->n * used);
    mark_product(s, STAGE_EXPERTS_UP, &l->up, touched, (uint64_t)c->n * used);
    barrier(s, down);
    struct acts hidden = c->hidden;
    hidden.n_cols = ff;
    struct span entries = part(c->n * used, 1, s->ith, s->nth);
    for (uint32_t i = entries.begin; i < entries.end; i++) {
        c->k->quantize(&hidden, i);
    }
    mark(s, STAGE_NORM);
    barrier(s, down);
    if (hidden.packs) {
        pack_entries(s, &hidden, NULL);
        mark(s, STAGE_NORM);
        barrier(s, down);
    }
    experts_down(s, l, &hidden);
    mark_product(s, STAGE_EXPERTS_DOWN, &l->down, touched, (uint64_t)c->n * used);
    barrier(s, next_layer(s, l));
    if (s->ith == 0) {
        c->weight_bytes += touched * cpu_expert_bytes(l);
    }
}

/* The embedding rows and, once per token for all heads and layers, the rotation angles. */
static void start_tokens(const struct ctx *s) {
    struct cpu *c = s->c;
    const struct model *m = c->m;
    struct span tokens = part(c->n, 1, s->ith, s->nth);
    for (uint32_t t = tokens.begin; t < tokens.end; t++) {
        const struct step_token *tok = &c->tokens[t];
        const struct backend_row *row = &c->step->rows[tok->row];
        int32_t id = row->tokens[tok->pos - row->first_pos];
        dequantize_row(m->tok_embd.type, m->tok_embd.data + (size_t)id * m->tok_embd.row_bytes,
                       c->h + (size_t)t * m->n_embd, m->n_embd);
        uint32_t half = m->head_dim / 2;
        for (uint32_t i = 0; i < half; i++) {
            double angle = tok->pos * c->rope_rate[i];
            c->cos_sin[(size_t)t * m->head_dim + i] = (float)cos(angle);
            c->cos_sin[(size_t)t * m->head_dim + half + i] = (float)sin(angle);
        }
    }
    mark(s, STAGE_START);
    barrier(s, layer_start(s, 0));
}

static void head(const struct ctx *s) {
    struct cpu *c = s->c;
    const struct model *m = c->m;
    uint32_t d = m->n_embd;
    struct span outputs = my_tokens(s, &c->x, c->n_outputs);
    for (uint32_t i = outputs.begin; i < outputs.end; i++) {
        c->k->rms_norm(c->h + (size_t)c->out_idx[i] * d, m->output_norm, c->x.f + (size_t)i * d, d, m->norm_eps);
    }
    quantize_tokens(c, &c->x, outputs, c->n_outputs);
    mark(s, STAGE_NORM);
    barrier(s, share_of(s, &m->output));
    struct mm job = product(&m->output, 0, &c->x, c->n_outputs, c->logits, m->n_vocab);
    matmul_rows(s, &job, my_rows(s, m->n_vocab));
    mark_product(s, STAGE_OUTPUT, &m->output, 1, c->n_outputs);
}

/* From here on rows are divided as layer i has them, and times are booked on it. */
static void use_shares(struct ctx *s, uint32_t i) {
    struct shares *shares = &s->c->shares;
    s->cut = shares->cut[i & 1];
    s->busy = &shares->busy[s->ith].ns[i & 1];
    *s->busy = 0;
}

void cpu_forward(struct cpu *c, uint32_t ith, uint32_t nth) {
    struct ctx s = {.c = c, .ith = ith, .nth = nth, .mine = &c->threads[ith]};
    if (c->profiling && ith == 0) {
        c->profile.n_steps++;
        c->stage_clock = clock_ns();
    }
    use_shares(&s, 0);
    start_tokens(&s);
    for (uint32_t i = 0; i < c->m->n_layer; i++) {
        use_shares(&s, i);
        if (ith == 0) {
            shares_learn(&c->shares, i, nth);
        }
        const struct model_layer *l = &c->m->layers[i];
        if (l->is_attention) {
            attention(&s, l);
        } else {
            short_conv(&s, l);
        }
        if (!l->is_moe) {
            dense_ffn(&s, l);
        } else if (c->n == 1) {
            moe_one(&s, l);
        } else {
            moe_many(&s, l);
        }
    }
    use_shares(&s, c->m->n_layer);
    if (c->n_outputs) {
        head(&s);
    }
}
