/*
 * Products of K-quant strips (strips.h) with 12-bit activations, part of kernels.inc.h: a lane is a row, activations
 * are broadcast, and nothing is added across lanes. Inside a block of 256 everything is an integer that fits int32
 * however it is summed (docs/numerics.md), so each form is free to choose its own order; then one float step per block,
 * in order. Few tokens: quants stay bytes and meet the activations' two planes; bound by memory. More: kpanels.inc.h,
 * kamx.inc.h.
 */
#include "backend/cpu/lanes.h"

/* ---- What is particular to a type ---- */

/* A word of quants gives two: those of sub-blocks of `width` columns that begin at `column`. A block takes QK / (2 *
 * width) steps. */
struct k_two {
    kb q[2];
};
struct k_type {
    uint32_t words;
    int d, width;
    bool has_mins; /* else quants are less 32 and scales have signs */
    struct k_two (*quants)(const uint8_t *block, const int step, const int group);
    int (*column)(const int step, const int which);
};

#if !defined(__ARM_FEATURE_DOTPROD)
/* the high halves of bytes */
VEC kb k_high(kb v) {
    return k_and(k_shift(v, -4), k_byte(15));
}
#endif

VEC kb k_word(const uint8_t *block, const int i) {
    return k_load(block + (size_t)i * STRIP_LINE);
}

VEC int column_q4_k(const int step, const int which) {
    return 64 * step + 32 * which;
}
#define column_q5_k column_q4_k

VEC struct k_two quants_q4_k(const uint8_t *block, const int step, const int group) {
    kb v = k_word(block, Q4_K_QS + 8 * step + group);
    return (struct k_two){{k_and(v, k_byte(15)), k_high(v)}};
}

VEC struct k_two quants_q5_k(const uint8_t *block, const int step, const int group) {
    kb v = k_word(block, Q5_K_QS + 8 * step + group);
    kb h = k_word(block, Q5_K_QH + group);
    kb low = k_and(v, k_byte(15));
    kb high = k_high(v);
    return (struct k_two){
        {k_and_or(k_shift(h, 4 - 2 * step), k_byte(16), low), k_and_or(k_shift(h, 3 - 2 * step), k_byte(16), high)}};
}

/* step: half of the block, the word of low bits, half of its sub-block */
VEC int column_q6_k(const int step, const int which) {
    return 128 * (step / 4) + 32 * (step / 2 % 2) + 16 * (step % 2) + 64 * which;
}

VEC struct k_two quants_q6_k(const uint8_t *block, const int step, const int group) {
    const int s = step / 2 % 2;
    kb v = k_word(block, Q6_K_QL + 16 * (step / 4) + 8 * s + 4 * (step % 2) + group);
    kb h = k_word(block, Q6_K_QH + 8 * (step / 4) + 4 * (step % 2) + group);
    kb low = k_and(v, k_byte(15));
    kb high = k_high(v);
    return (struct k_two){
        {k_and_or(k_shift(h, 4 - 2 * s), k_byte(48), low), k_and_or(k_shift(h, -2 * s), k_byte(48), high)}};
}

#define K_TYPE_q4_k ((struct k_type){Q4_K_WORDS, Q4_K_D, 32, true, quants_q4_k, column_q4_k})
#define K_TYPE_q5_k ((struct k_type){Q5_K_WORDS, Q4_K_D, 32, true, quants_q5_k, column_q5_k})
#define K_TYPE_q6_k ((struct k_type){Q6_K_WORDS, Q6_K_D, 16, false, quants_q6_k, column_q6_k})

/* A block's scales and minima as bytes: sub-block i in byte i % 4 of word i / 4. */
struct k_heads {
    kb scale[4], min[2];
};

VEC struct k_heads k_heads_of(const uint8_t *block, const struct k_type type) {
    struct k_heads h;
    if (!type.has_mins) {
        for (int i = 0; i < 4; i++) {
            h.scale[i] = k_word(block, Q6_K_SCALES + i);
        }
        return h;
    }
    kb a = k_word(block, Q4_K_SCALES);
    kb b = k_word(block, Q4_K_SCALES + 1);
    kb c = k_word(block, Q4_K_SCALES + 2);
    h.scale[0] = k_and(a, k_byte(63));
    h.min[0] = k_and(b, k_byte(63));
    h.scale[1] = k_and_or(k_shift(a, -2), k_byte(48), k_and(c, k_byte(15)));
    h.min[1] = k_and_or(k_shift(b, -2), k_byte(48), k_high(c));
    return h;
}

/* y of LANES rows from `row` on, as far as row1. */
VEC void put_rows(const struct mm *m, uint32_t i, uint32_t row, uint32_t row1, kf dot) {
    float *y = m->y + (size_t)(m->dst ? m->dst[i] : i) * m->y_stride + row;
    if (row1 - row < LANES) {
        float out[LANES];
        kf_store(out, dot);
        for (uint32_t r = 0; row + r < row1; r++) {
            put(m, i, row + r, out[r]);
        }
        return;
    }
    if (m->add) { /* as put */
        dot = m->gain ? kf_fma(kf_set1(m->gain[i]), dot, kf_load(y)) : kf_add(kf_load(y), dot);
    }
    kf_store(y, dot);
}

/* ---- Few tokens ---- */

/* Of a block's lines each part of the rows fetches its share. */
#define FETCH_LINES(type) (((type).words + PARTS - 1) / PARTS)
enum { FEW_AHEAD = 8192 }; /* bytes between a strip's loads and its prefetches: SPEED.md */

#if defined(__ARM_FEATURE_DOTPROD)
/* As below, but for the 32. */
VEC void few_sums(const uint8_t *block, const uint8_t *ahead, const struct k_heads *heads,
                  const struct act_block *const *a, ki *sum, const int T, const struct k_type type) {
    UNROLL for (int t = 0; t < T; t++) {
        sum[t] = vdupq_n_u32(0);
    }
    const int groups = type.width / 4;
    const int steps = QK / (2 * type.width);
    UNROLL for (int step = 0; step < steps; step++) {
        kb q[2][8];
        UNROLL for (int g = 0; g < groups; g++) {
            const uint32_t at = (uint32_t)(step * groups + g);
            UNROLL for (uint32_t line = at * FETCH_LINES(type) / 32; line < (at + 1) * FETCH_LINES(type) / 32; line++) {
                VEC_PREFETCH(ahead + (size_t)line * STRIP_LINE);
            }
            struct k_two w = type.quants(block, step, g);
            q[0][g] = type.has_mins ? w.q[0] : w.q[0] - k_byte(32);
            q[1][g] = type.has_mins ? w.q[1] : w.q[1] - k_byte(32);
        }
        UNROLL for (int p = 0; p < 2; p++) {
            const int c = type.column(step, p);
            const int i = c / type.width;
            ki scale = type.has_mins ? k_byte_u(heads->scale[i / 4], i % 4) : k_byte_s(heads->scale[i / 4], i % 4);
            UNROLL for (int t = 0; t < T; t++) {
                sum[t] = k_sub_block(sum[t], q[p], groups, a[t]->hi + c, a[t]->lo + c, scale);
            }
        }
    }
}

VEC ki few_rest(const struct k_heads *heads, const struct act_block *a, const struct k_type type) {
    return type.has_mins ? k_min_sums(heads->min, a->halves) : vdupq_n_u32(0);
}
#else
/* S of T tokens over one block; of a type without minima, of quants without their -32. Lines at `ahead` are fetched. */
VEC void few_sums(const uint8_t *block, const uint8_t *ahead, const struct k_heads *heads,
                  const struct act_block *const *a, ki *sum, const int T, const struct k_type type) {
    UNROLL for (int t = 0; t < T; t++) {
        sum[t] = ki_zero();
    }
    const int groups = type.width / 4;
    const int steps = QK / (2 * type.width);
    UNROLL for (int step = 0; step < steps; step++) {
        kd hi[2][FEW_T];
        kd lo[2][FEW_T];
        UNROLL for (int t = 0; t < T; t++) {
            hi[0][t] = hi[1][t] = lo[0][t] = lo[1][t] = kd_zero();
        }
        UNROLL for (int g = 0; g < groups; g++) {
            const uint32_t at = (uint32_t)(step * groups + g); /* of 32: lines are fetched in their order */
            UNROLL for (uint32_t line = at * FETCH_LINES(type) / 32; line < (at + 1) * FETCH_LINES(type) / 32; line++) {
                VEC_PREFETCH(ahead + (size_t)line * STRIP_LINE);
            }
            struct k_two w = type.quants(block, step, g);
            UNROLL for (int p = 0; p < 2; p++) {
                const int c = type.column(step, p) + 4 * g;
                UNROLL for (int t = 0; t < T; t++) {
                    hi[p][t] = kd_dot(hi[p][t], w.q[p], a[t]->hi + c);
                    lo[p][t] = kd_dot(lo[p][t], w.q[p], a[t]->lo + c);
                }
            }
        }
        UNROLL for (int p = 0; p < 2; p++) {
            const int i = type.column(step, p) / type.width;
            ks scale = type.has_mins ? k_scale_u(heads->scale[i / 4], i % 4) : k_scale_s(heads->scale[i / 4], i % 4);
            UNROLL for (int t = 0; t < T; t++) {
                sum[t] = k_scaled(sum[t], hi[p][t], lo[p][t], scale);
                K_STEP_END(sum[t]);
            }
        }
    }
}

/* M; of a type without minima the sum of scale * a, of which the sums hold 32 too many. */
VEC ki few_rest(const struct k_heads *heads, const struct act_block *a, const struct k_type type) {
    ki rest = ki_zero();
    UNROLL for (int j = 0; j < 8; j++) {
        kp w = type.has_mins ? k_twice_u(heads->min[j / 4], j % 4) : k_two_s(heads->scale[j / 2], j % 2);
        rest = ki_dot_at(rest, w, a->halves + 2 * j);
    }
    return rest;
}
#endif

/* A strip against T tokens. `left`: bytes from here to the end of what this call reads. */
VEC void few_rows(const struct mm *m, const uint8_t *strip, size_t left, uint32_t row, uint32_t row1, uint32_t i,
                  const int T, const struct k_type type) {
    const uint32_t n_blocks = m->n_cols / QK;
    const size_t block_bytes = (size_t)type.words * STRIP_LINE;
    const uint8_t *block = strip;
    const struct act_block *a[FEW_T];
    kf acc[PARTS][FEW_T];
    UNROLL for (int t = 0; t < T; t++) {
        a[t] = m->x->blocks + (size_t)src_row(m, i + (uint32_t)t) * n_blocks;
        for (int part = 0; part < PARTS; part++) {
            acc[part][t] = kf_zero();
        }
    }
    for (uint32_t b = 0; b < n_blocks; b++) {
        /* past the end what this thread reads next, and the whole of that once the strip is */
        const uint8_t *ahead = left > FEW_AHEAD ? block + FEW_AHEAD : m->next ? m->next + (FEW_AHEAD - left) : block;
        left -= left > block_bytes ? block_bytes : left;
        for (int part = 0; part < PARTS; part++) {
            const uint8_t *words = block + part * PART_BYTES;
            struct k_heads heads = k_heads_of(words, type);
            ki sum[FEW_T];
            few_sums(words, ahead + (size_t)part * FETCH_LINES(type) * STRIP_LINE, &heads, a, sum, T, type);
            kf d = kf_low_half(k_word(words, type.d));
            kf dmin = kf_high_half(k_word(words, type.d));
            UNROLL for (int t = 0; t < T; t++) {
                ki rest = few_rest(&heads, a[t], type);
                kf scale = kf_set1(a[t]->scale);
                if (type.has_mins) {
                    acc[part][t] = kf_fma(kf_int(sum[t]), kf_mul(d, scale), acc[part][t]);
                    acc[part][t] = kf_less(kf_int(rest), kf_mul(dmin, scale), acc[part][t]);
                } else {
                    acc[part][t] = kf_fma(kf_int(ki_less32(sum[t], rest)), kf_mul(d, scale), acc[part][t]);
                }
            }
        }
        block += block_bytes;
        UNROLL for (int t = 0; t < T; t++) {
            a[t]++;
        }
    }
    for (int part = 0; part < PARTS && row < row1; part++, row += LANES) {
        UNROLL for (int t = 0; t < T; t++) {
            put_rows(m, i + (uint32_t)t, row, row1, acc[part][t]);
        }
    }
}

typedef void (*few_fn)(const struct mm *m, const uint8_t *strip, size_t left, uint32_t row, uint32_t row1, uint32_t i);

#define FEW(type, T)                                                                                                   \
    KERNEL void few_##type##_##T(const struct mm *m, const uint8_t *strip, size_t left, uint32_t row, uint32_t row1,   \
                                 uint32_t i) {                                                                         \
        few_rows(m, strip, left, row, row1, i, T, K_TYPE_##type);                                                      \
    }
// clang-format off
#if defined(__AVX512F__)
#define FEW_ALL(type)                                                                                                  \
    FEW(type, 1) FEW(type, 2) FEW(type, 3) FEW(type, 4)                                                                \
    static const few_fn few_##type[] = {NULL, few_##type##_1, few_##type##_2, few_##type##_3, few_##type##_4};
#elif defined(__ARM_FEATURE_DOTPROD)
#define FEW_ALL(type)                                                                                                  \
    FEW(type, 1) FEW(type, 2) FEW(type, 3) FEW(type, 4) FEW(type, 5) FEW(type, 6) FEW(type, 7) FEW(type, 8)            \
    static const few_fn few_##type[] = {NULL, few_##type##_1, few_##type##_2, few_##type##_3, few_##type##_4,          \
                                        few_##type##_5, few_##type##_6, few_##type##_7, few_##type##_8};
#else
#define FEW_ALL(type)                                                                                                  \
    FEW(type, 1) FEW(type, 2)                                                                                          \
    static const few_fn few_##type[] = {NULL, few_##type##_1, few_##type##_2};
#endif
// clang-format on

static void few(const struct mm *m, uint32_t row0, uint32_t row1, const few_fn *of) {
    const size_t bytes = strip_bytes(m->type, m->n_cols);
    const uint8_t *strip = m->w + row0 / STRIP_ROWS * bytes;
    size_t left = (row1 - row0 + STRIP_ROWS - 1) / STRIP_ROWS * bytes;
    for (uint32_t row = row0; row < row1; row += STRIP_ROWS, strip += bytes, left -= bytes) {
        for (uint32_t i = 0; i < m->n; i += FEW_T) {
            of[m->n - i < FEW_T ? m->n - i : FEW_T](m, strip, left, row, row1, i);
        }
    }
}

/* ---- All of it for a type ---- */

#if defined(__ARM_FEATURE_DOTPROD)
#define K_MATMUL(type)                                                                                                 \
    FEW_ALL(type)                                                                                                      \
    static void matmul_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {                       \
        (void)scratch;                                                                                                 \
        few(m, row0, row1, few_##type);                                                                                \
    }
#else
#include "backend/cpu/kpanels.inc.h"

// clang-format off
#define K_MATMUL(type)                                                                                                 \
    FEW_ALL(type)                                                                                                      \
    K_MANY(type)                                                                                                       \
    static void matmul_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {                       \
        if (m->n <= FEW_MAX && !(m->packs && m->n >= KERNELS_PACK_MIN)) {                                              \
            few(m, row0, row1, few_##type);                                                                            \
            return;                                                                                                    \
        }                                                                                                              \
        for (uint32_t i = 0; i < m->n; i += KERNELS_PASS) {                                                            \
            many_##type(m, row0, row1, scratch, i, m->n - i < KERNELS_PASS ? m->n - i : KERNELS_PASS);                 \
        }                                                                                                              \
    }
// clang-format on
#endif

K_MATMUL(q4_k)
K_MATMUL(q5_k)
K_MATMUL(q6_k)
