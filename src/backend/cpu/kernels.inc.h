/*
 * All kernels of the cpu backend in terms of vec.h; the including file defines KERNELS (the table's name) and
 * KERNELS_NAME.
 *
 * Matrix products of K-quants are in kstrips.inc.h. Other types are F32 dot products over 16 lanes: few tokens meet the
 * rows as stored, for many a panel of rows becomes floats once. The order of float operations per output is the same in
 * every form, so batching never changes a bit.
 */
#include "backend/cpu/kernels.h"
#include "backend/cpu/vec.h"
#include "base/half.h"

#if defined(__AVX512F__)
enum { FTILE_R = 4, FTILE_T = 4 };
#else
enum { FTILE_R = 2, FTILE_T = 2 };
#endif
enum { PANEL = KERNELS_PANEL_ROWS, FEW = 4 };

/* ---- Where results go ---- */

VEC uint32_t src_row(const struct mm *m, uint32_t i) {
    return m->src ? m->src[i] : i;
}

VEC void put(const struct mm *m, uint32_t i, uint32_t row, float dot) {
    float *y = m->y + (size_t)(m->dst ? m->dst[i] : i) * m->y_stride + row;
    if (!m->add) {
        *y = dot;
    } else {
        *y = m->gain ? fmaf(m->gain[i], dot, *y) : *y + dot;
    }
}

VEC float half_at(const uint16_t *p) {
#if defined(__F16C__)
    return _cvtsh_ss(*p);
#elif defined(__ARM_FEATURE_DOTPROD)
    return vget_lane_f32(vget_low_f32(vcvt_f32_f16(vreinterpret_f16_u16(vld1_dup_u16(p)))), 0);
#else
    return f16_to_f32(*p);
#endif
}

#include "backend/cpu/kstrips.inc.h"

/* ---- Unpacking 16 weights of the other types as floats; all conversions are exact ---- */

VEC vf load_f32(const uint8_t *row, uint32_t c) {
    return vf_load((const float *)(const void *)row + c);
}
VEC vf load_f16(const uint8_t *row, uint32_t c) {
    return vf_load_f16((const uint16_t *)(const void *)row + c);
}
VEC vf load_bf16(const uint8_t *row, uint32_t c) {
    return vf_load_bf16((const uint16_t *)(const void *)row + c);
}
VEC vf load_q8_0(const uint8_t *row, uint32_t c) {
    const struct block_q8_0 *b = (const struct block_q8_0 *)row + c / 32;
    return vf_mul(vf_load_i8(b->qs + c % 32), vf_set1(half_at(&b->d)));
}
VEC vf load_q4_0(const uint8_t *row, uint32_t c) {
    const struct block_q4_0 *b = (const struct block_q4_0 *)row + c / 32;
    return vf_mul(vf_load_nibbles(b->qs, c % 32 ? 4 : 0), vf_set1(half_at(&b->d)));
}

/* ---- F32 products of the other types ---- */

typedef vf (*load_fn)(const uint8_t *row, uint32_t c);

/* R rows at w against T tokens, STEP columns (BYTES bytes) at a time: 32 lets both halves of a block share its scale.
 * FETCH: the next R rows are fetched meanwhile, since rows are too short for the hardware to get up to speed on them. */
VEC void f_tile(const struct mm *m, const uint8_t *w, size_t stride, uint32_t row, uint32_t i0, const int R,
                const int T, load_fn load, const uint32_t STEP, const uint32_t BYTES, const bool FETCH) {
    const float *x[FTILE_T];
    vf acc[FTILE_R][FTILE_T];
    for (int t = 0; t < T; t++) {
        x[t] = m->x->f + (size_t)src_row(m, i0 + (uint32_t)t) * m->n_cols;
        for (int r = 0; r < R; r++) {
            acc[r][t] = vf_zero();
        }
    }
    const uint32_t n_cols = m->n_cols;
    for (uint32_t c0 = 0; c0 < n_cols; c0 += STEP, w += BYTES) {
        if (FETCH) {
            for (int r = 0; r < R; r++) {
                VEC_PREFETCH(w + (size_t)(R + r) * stride);
            }
        }
        for (uint32_t c = 0; c < STEP; c += 16) { /* unrolled: where in a block a column stands is a constant */
            vf a[FTILE_T];
            for (int t = 0; t < T; t++) {
                a[t] = vf_load(x[t] + c0 + c);
                VEC_KEEP(a[t]);
            }
            for (int r = 0; r < R; r++) {
                vf b = load(w + (size_t)r * stride, c);
                VEC_KEEP(b);
                for (int t = 0; t < T; t++) {
                    acc[r][t] = vf_fma(b, a[t], acc[r][t]);
                }
            }
        }
    }
    for (int r = 0; r < R; r++) {
        for (int t = 0; t < T; t++) {
            put(m, i0 + (uint32_t)t, row + (uint32_t)r, vf_reduce_add(acc[r][t]));
        }
    }
}

/* Columns of T tokens for `rows` rows at w. */
VEC void f_columns(const struct mm *m, const uint8_t *w, size_t stride, uint32_t row, uint32_t rows, uint32_t i,
                   const int T, load_fn load, const uint32_t STEP, const uint32_t BYTES, const bool FETCH) {
    uint32_t r = 0;
    for (; r + FTILE_R <= rows; r += FTILE_R) {
        f_tile(m, w + r * stride, stride, row + r, i, FTILE_R, T, load, STEP, BYTES, FETCH);
    }
    for (; r < rows; r++) {
        f_tile(m, w + r * stride, stride, row + r, i, 1, T, load, STEP, BYTES, FETCH);
    }
}

#define F_COLUMNS(name, type, T, STEP, BYTES, FETCH)                                                                   \
    KERNEL void columns_##name##_##T(const struct mm *m, const uint8_t *w, size_t stride, uint32_t row, uint32_t rows, \
                                     uint32_t i) {                                                                     \
        f_columns(m, w, stride, row, rows, i, T, load_##type, STEP, BYTES, FETCH);                                     \
    }
typedef void (*f_columns_fn)(const struct mm *m, const uint8_t *w, size_t stride, uint32_t row, uint32_t rows,
                             uint32_t i);

// clang-format off
#if defined(__AVX512F__)
#define F_COLUMNS_ALL(name, type, STEP, BYTES, FETCH)                                                                  \
    F_COLUMNS(name, type, 1, STEP, BYTES, FETCH) F_COLUMNS(name, type, 2, STEP, BYTES, FETCH)                          \
    F_COLUMNS(name, type, 3, STEP, BYTES, FETCH) F_COLUMNS(name, type, 4, STEP, BYTES, FETCH)                          \
    static const f_columns_fn columns_##name[] = {NULL, columns_##name##_1, columns_##name##_2, columns_##name##_3,    \
                                                  columns_##name##_4};
#else
#define F_COLUMNS_ALL(name, type, STEP, BYTES, FETCH)                                                                  \
    F_COLUMNS(name, type, 1, STEP, BYTES, FETCH) F_COLUMNS(name, type, 2, STEP, BYTES, FETCH)                          \
    static const f_columns_fn columns_##name[] = {NULL, columns_##name##_1, columns_##name##_2};
#endif
// clang-format on

/* All tokens against `rows` rows at w. */
static void f_tokens(const struct mm *m, const uint8_t *w, size_t stride, uint32_t row, uint32_t rows,
                     const f_columns_fn *columns) {
    for (uint32_t i = 0; i < m->n; i += FTILE_T) {
        columns[m->n - i < FTILE_T ? m->n - i : FTILE_T](m, w, stride, row, rows, i);
    }
}

F_COLUMNS_ALL(f32, f32, 16, 64, true)
F_COLUMNS_ALL(panel, f32, 16, 64, false) /* in a cache */

static void matmul_f32(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {
    (void)scratch;
    f_tokens(m, m->w + row0 * m->row_bytes, m->row_bytes, row0, row1 - row0, columns_f32);
}

/* Few tokens meet the rows as stored; for many, panels of rows become floats once. */
#define F_MATMUL(type, STEP, BYTES)                                                                                    \
    F_COLUMNS_ALL(type, type, STEP, BYTES, true)                                                                       \
    KERNEL void to_floats_##type(const uint8_t *row, float *out, uint32_t n_cols) {                                    \
        for (uint32_t c = 0; c < n_cols; c += 16) {                                                                    \
            vf_store(out + c, load_##type(row, c));                                                                    \
        }                                                                                                              \
    }                                                                                                                  \
    static void matmul_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {                       \
        if (m->n <= FEW) {                                                                                             \
            f_tokens(m, m->w + row0 * m->row_bytes, m->row_bytes, row0, row1 - row0, columns_##type);                  \
            return;                                                                                                    \
        }                                                                                                              \
        float *panel = scratch;                                                                                        \
        for (uint32_t row = row0; row < row1; row += KERNELS_FLOAT_ROWS) {                                             \
            uint32_t rows = row1 - row < KERNELS_FLOAT_ROWS ? row1 - row : KERNELS_FLOAT_ROWS;                         \
            for (uint32_t r = 0; r < rows; r++) {                                                                      \
                to_floats_##type(m->w + (row + r) * m->row_bytes, panel + (size_t)r * m->n_cols, m->n_cols);           \
            }                                                                                                          \
            f_tokens(m, (const uint8_t *)panel, m->n_cols * sizeof(float), row, rows, columns_panel);                  \
        }                                                                                                              \
    }

F_MATMUL(f16, 16, 32)
F_MATMUL(bf16, 16, 32)
F_MATMUL(q8_0, 32, 34)
F_MATMUL(q4_0, 32, 18)

static void matmul(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {
    if (m->n == 0) {
        return;
    }
    switch (m->type) {
    case DTYPE_Q4_K:
        matmul_q4_k(m, row0, row1, scratch);
        break;
    case DTYPE_Q5_K:
        matmul_q5_k(m, row0, row1, scratch);
        break;
    case DTYPE_Q6_K:
        matmul_q6_k(m, row0, row1, scratch);
        break;
    case DTYPE_Q8_0:
        matmul_q8_0(m, row0, row1, scratch);
        break;
    case DTYPE_Q4_0:
        matmul_q4_0(m, row0, row1, scratch);
        break;
    case DTYPE_F16:
        matmul_f16(m, row0, row1, scratch);
        break;
    case DTYPE_BF16:
        matmul_bf16(m, row0, row1, scratch);
        break;
    case DTYPE_F32:
        matmul_f32(m, row0, row1, scratch);
        break;
    }
}

/* ---- Everything that is not a matrix product ---- */

static void quantize(const struct acts *x, uint32_t i) {
    const float *f = x->f + (size_t)i * x->n_cols;
    struct act_block *block = x->blocks + (size_t)i * (x->n_cols / QK);
    const vf limit = vf_set1(ACT_MAX);
    for (uint32_t c0 = 0; c0 < x->n_cols; c0 += QK, f += QK, block++) {
        vf most = vf_zero();
        for (int c = 0; c < QK; c += 16) {
            most = vf_max(vf_abs(vf_load(f + c)), most);
        }
        float top = vf_reduce_max(most);
        /* a block this small contributes nothing, and its reciprocal would overflow */
        float inverse = top > 1e-30f ? ACT_MAX / top : 0;
        block->scale = inverse == 0 ? (top > 1 ? top : 0) : top * (1.0f / ACT_MAX); /* infinity goes on as infinity */
        int16_t a[QK];
        for (int c = 0; c < QK; c += 16) { /* within limits whatever the input, NaN too: the sums must not overflow */
            vf v = vf_mul(vf_load(f + c), vf_set1(inverse));
            vf_store_i16(a + c, vf_min(vf_max(v, vf_sub(vf_zero(), limit)), limit));
        }
        for (int c = 0; c < QK; c++) {
            block->hi[c] = (int8_t)(a[c] >> ACT_LOW_BITS);
            block->lo[c] = (int8_t)(a[c] & ((1 << ACT_LOW_BITS) - 1));
        }
        for (int c = 0; c < QK; c += 4) {
            block->a[c] = a[c];
            block->a[c + 1] = a[c + 2];
            block->a[c + 2] = a[c + 1];
            block->a[c + 3] = a[c + 3];
        }
        for (int s = 0; s < QK / 16; s++) {
            int sum = 0;
            for (int c = 0; c < 16; c++) {
                sum += a[16 * s + c];
            }
            block->halves[s] = (int16_t)sum;
        }
    }
}

static void rms_norm(const float *x, const float *gain, float *y, uint32_t n, float eps) {
    vf acc = vf_zero();
    for (uint32_t i = 0; i < n; i += 16) {
        vf v = vf_load(x + i);
        acc = vf_fma(v, v, acc);
    }
    vf scale = vf_set1(1.0f / sqrtf(vf_reduce_add(acc) / (float)n + eps));
    for (uint32_t i = 0; i < n; i += 16) {
        vf_store(y + i, vf_mul(vf_mul(vf_load(x + i), scale), vf_load(gain + i)));
    }
}

VEC vf sigmoid_v(vf x) {
    vf one = vf_set1(1.0f);
    return vf_div(one, vf_add(one, vf_exp(vf_sub(vf_zero(), x))));
}

static void silu_mul(float *g, const float *u, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 16) {
        vf v = vf_load(g + i);
        vf_store(g + i, vf_mul(vf_mul(v, sigmoid_v(v)), vf_load(u + i)));
    }
}

static void sigmoid(float *x, uint32_t n) {
    float tail[16] = {0};
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        vf_store(x + i, sigmoid_v(vf_load(x + i)));
    }
    if (i < n) {
        memcpy(tail, x + i, (n - i) * sizeof(float));
        vf_store(tail, sigmoid_v(vf_load(tail)));
        memcpy(x + i, tail, (n - i) * sizeof(float));
    }
}

static void rope(float *x, const float *cos_sin, uint32_t dim) {
    uint32_t half = dim / 2;
    for (uint32_t i = 0; i < half; i++) { /* half may be 8: scalar, and short */
        float a = x[i];
        float b = x[i + half];
        float c = cos_sin[i];
        float s = cos_sin[half + i];
        x[i] = fmaf(a, c, -(b * s));
        x[i + half] = fmaf(a, s, b * c);
    }
}

static void conv(const float *bcx, const float *taps, uint32_t n_taps, float *state, float *y, uint32_t d, uint32_t c0,
                 uint32_t c1) {
    uint32_t keep = n_taps - 1;
    for (uint32_t c = c0; c < c1; c += 16) {
        vf u = vf_mul(vf_load(bcx + c), vf_load(bcx + 2 * (size_t)d + c));
        vf sum = vf_mul(vf_load(taps + c), vf_load(state + c));
        for (uint32_t k = 1; k < keep; k++) {
            vf past = vf_load(state + (size_t)k * d + c);
            sum = vf_fma(vf_load(taps + (size_t)k * d + c), past, sum);
            vf_store(state + (size_t)(k - 1) * d + c, past);
        }
        sum = vf_fma(vf_load(taps + (size_t)keep * d + c), u, sum);
        vf_store(state + (size_t)(keep - 1) * d + c, u);
        vf_store(y + c, vf_mul(vf_load(bcx + d + c), sum));
    }
}

static void store_kv(const float *k, const float *v, uint16_t *k_page, uint16_t *v_page, uint32_t dim, uint32_t at) {
    for (uint32_t i = 0; i < dim; i += 16) {
        uint16_t half[16];
        vf_store_f16(half, vf_load(k + i));
        for (uint32_t j = 0; j < 16; j++) {
            k_page[(size_t)(i + j) * KV_PAGE_TOKENS + at] = half[j];
        }
        vf_store_f16(v_page + (size_t)at * dim + i, vf_load(v + i));
    }
}

#if defined(__AVX512F__)
enum { ATTN_ACCUMULATORS = 16 };
#else
enum { ATTN_ACCUMULATORS = 4 };
#endif

/* Softmax state of one query: running maximum, lane sums, unnormalised output. */
struct attn_state {
    float top;
    float sum[16];
    float out[256];
    float p[KV_PAGE_TOKENS]; /* scores, then probabilities, of the page at hand */
};

/* Scores of 16 G positions from g on; a query's element meets all of them while it is in a register. Meanwhile the
 * page's values are fetched. */
VEC void attn_scores_at(const struct attn *a, struct attn_state *st, const uint16_t *k, const uint16_t *then,
                        uint32_t q0, const int N, uint32_t g, const int G) {
    vf acc[ATTN_QUERIES_MAX];
    for (int i = 0; i < N * G; i++) {
        acc[i] = vf_zero();
    }
    for (uint32_t d = 0; d < a->dim; d++) {
        for (int j = 0; j < G; j += 2) { /* 32 elements are a cache line */
            VEC_PREFETCH(then + (size_t)d * KV_PAGE_TOKENS + g + 16 * (uint32_t)j);
        }
        vf kv[4];
        for (int j = 0; j < G; j++) {
            kv[j] = vf_load_f16(k + (size_t)d * KV_PAGE_TOKENS + g + 16 * (uint32_t)j);
        }
        for (int i = 0; i < N; i++) {
            vf q = vf_set1(a->q[q0 + (uint32_t)i][d]);
            for (int j = 0; j < G; j++) {
                acc[G * i + j] = vf_fma(q, kv[j], acc[G * i + j]);
            }
        }
    }
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < G; j++) {
            vf_store(st[q0 + (uint32_t)i].p + g + 16 * j, vf_mul(acc[G * i + j], vf_set1(a->scale)));
        }
    }
}

VEC void attn_scores(const struct attn *a, struct attn_state *st, const uint16_t *k, const uint16_t *then, uint32_t q0,
                     const int N) {
    const int G = N * 4 <= ATTN_ACCUMULATORS ? 4 : N * 2 <= ATTN_ACCUMULATORS ? 2 : 1;
    for (uint32_t g = 0; g < KV_PAGE_TOKENS; g += 16 * (uint32_t)G) {
        attn_scores_at(a, st, k, then, q0, N, g, G);
    }
}

/* Turns the page's scores of one query into probabilities relative to the running maximum; rescales what went before. */
VEC void attn_softmax(struct attn_state *st, uint32_t dim, int first, int end) {
    vf low = vf_set1(-INFINITY);
    vf s[KV_PAGE_TOKENS / 16];
    vf most = low;
    for (int g = 0; g < (int)KV_PAGE_TOKENS / 16; g++) {
        s[g] = vf_first(end - 16 * g, vf_load(st->p + 16 * g), low);
        s[g] = vf_first(first - 16 * g, low, s[g]);
        most = vf_max(most, s[g]);
    }
    float top = vf_reduce_max(most);
    if (!(top > st->top)) {
        top = st->top;
    }
    float shrink[16];
    vf_store(shrink, vf_exp(vf_set1(st->top - top))); /* exp(-inf) is tiny, not 0, but what it scales is 0 then */
    vf keep = vf_set1(st->top == top ? 1.0f : shrink[0]);
    st->top = top;
    vf sum = vf_mul(vf_load(st->sum), keep);
    for (int g = 0; g < (int)KV_PAGE_TOKENS / 16; g++) {
        vf p = vf_exp(vf_sub(s[g], vf_set1(top)));
        p = vf_first(end - 16 * g, p, vf_zero());
        p = vf_first(first - 16 * g, vf_zero(), p);
        vf_store(st->p + 16 * g, p);
        sum = vf_add(sum, p);
    }
    vf_store(st->sum, sum);
    for (uint32_t d = 0; d < dim; d += 16) {
        vf_store(st->out + d, vf_mul(vf_load(st->out + d), keep));
    }
}

/* 16 G dimensions of the values of positions [first, end) from d on. Meanwhile the next page's keys are fetched. */
VEC void attn_values_at(const struct attn *a, struct attn_state *st, const uint16_t *v, const uint16_t *then,
                        uint32_t q0, const int N, uint32_t d, const int G, int first, int end) {
    vf acc[ATTN_QUERIES_MAX];
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < G; j++) {
            acc[G * i + j] = vf_load(st[q0 + (uint32_t)i].out + d + 16 * (uint32_t)j);
        }
    }
    for (int p = first; p < end; p++) {
        for (int j = 0; j < G; j += 2) {
            VEC_PREFETCH(then + (size_t)p * a->dim + d + 16 * (uint32_t)j);
        }
        vf vd[4];
        for (int j = 0; j < G; j++) {
            vd[j] = vf_load_f16(v + (size_t)p * a->dim + d + 16 * (uint32_t)j);
        }
        for (int i = 0; i < N; i++) {
            vf weight = vf_set1(st[q0 + (uint32_t)i].p[p]);
            for (int j = 0; j < G; j++) {
                acc[G * i + j] = vf_fma(weight, vd[j], acc[G * i + j]);
            }
        }
    }
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < G; j++) {
            vf_store(st[q0 + (uint32_t)i].out + d + 16 * (uint32_t)j, acc[G * i + j]);
        }
    }
}

VEC void attn_values(const struct attn *a, struct attn_state *st, const uint16_t *v, const uint16_t *then, uint32_t q0,
                     const int N, int first, int end) {
    const int G = N * 4 <= ATTN_ACCUMULATORS ? 4 : N * 2 <= ATTN_ACCUMULATORS ? 2 : 1;
    uint32_t d = 0;
    for (; d + 16 * (uint32_t)G <= a->dim; d += 16 * (uint32_t)G) {
        attn_values_at(a, st, v, then, q0, N, d, G, first, end);
    }
    for (; d < a->dim; d += 16) {
        attn_values_at(a, st, v, then, q0, N, d, 1, first, end);
    }
}

/* [first, end) of positions of `page` that a query at pos sees, within 0..64; empty when first >= end. */
VEC void visible(const struct attn *a, uint32_t pos, uint32_t page, int *first, int *end) {
    int64_t base = (int64_t)page * KV_PAGE_TOKENS;
    int64_t lo = a->window && pos + 1 > a->window ? (int64_t)pos + 1 - a->window - base : -base;
    int64_t hi = (int64_t)pos + 1 - base;
    *first = lo < 0 ? 0 : lo > (int)KV_PAGE_TOKENS ? (int)KV_PAGE_TOKENS : (int)lo;
    *end = hi < 0 ? 0 : hi > (int)KV_PAGE_TOKENS ? (int)KV_PAGE_TOKENS : (int)hi;
}

#if defined(__AVX512F__)
enum { ATTN_N = 16 };
#else
enum { ATTN_N = 4 };
#endif

static void attend(const struct attn *a) {
    struct attn_state st[ATTN_QUERIES_MAX];
    uint32_t last = 0;
    uint32_t oldest = UINT32_MAX;
    for (uint32_t i = 0; i < a->n; i++) {
        st[i].top = -INFINITY;
        memset(st[i].sum, 0, sizeof st[i].sum);
        memset(st[i].out, 0, a->dim * sizeof(float));
        last = a->pos[i] > last ? a->pos[i] : last;
        uint32_t from = a->window && a->pos[i] + 1 > a->window ? a->pos[i] + 1 - a->window : 0;
        oldest = from < oldest ? from : oldest;
    }
    for (uint32_t page = oldest / KV_PAGE_TOKENS; page <= last / KV_PAGE_TOKENS; page++) {
        const uint16_t *k = a->k + a->pages[page] * a->page_stride;
        const uint16_t *v = a->v + a->pages[page] * a->page_stride;
        const uint16_t *then = a->k + a->pages[page < last / KV_PAGE_TOKENS ? page + 1 : page] * a->page_stride;
        uint32_t i = 0;
        for (; i + ATTN_N <= a->n; i += ATTN_N) {
            attn_scores(a, st, k, v, i, ATTN_N);
        }
        for (; i + 4 <= a->n; i += 4) {
            attn_scores(a, st, k, v, i, 4);
        }
        for (; i < a->n; i++) {
            attn_scores(a, st, k, v, i, 1);
        }
        int lo = KV_PAGE_TOKENS;
        int hi = 0;
        for (i = 0; i < a->n; i++) {
            int first, end;
            visible(a, a->pos[i], page, &first, &end);
            if (first < end) {
                attn_softmax(&st[i], a->dim, first, end);
                lo = first < lo ? first : lo;
                hi = end > hi ? end : hi;
            } else {
                memset(st[i].p, 0, sizeof st[i].p);
            }
        }
        for (i = 0; i + ATTN_N <= a->n; i += ATTN_N) {
            attn_values(a, st, v, then, i, ATTN_N, lo, hi);
        }
        for (; i + 4 <= a->n; i += 4) {
            attn_values(a, st, v, then, i, 4, lo, hi);
        }
        for (; i < a->n; i++) {
            attn_values(a, st, v, then, i, 1, lo, hi);
        }
    }
    for (uint32_t i = 0; i < a->n; i++) {
        vf scale = vf_set1(1.0f / vf_reduce_add(vf_load(st[i].sum)));
        for (uint32_t d = 0; d < a->dim; d += 16) {
            vf_store(a->out[i] + d, vf_mul(vf_load(st[i].out + d), scale));
        }
    }
}

const struct kernels KERNELS = {
    .name = KERNELS_NAME,
    .matmul = matmul,
    .quantize = quantize,
#if defined(__AMX_INT8__)
    .pack = amx_pack,
#endif
    .rms_norm = rms_norm,
    .silu_mul = silu_mul,
    .sigmoid = sigmoid,
    .rope = rope,
    .conv = conv,
    .attend = attend,
    .store_kv = store_kv,
};
