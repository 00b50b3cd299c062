// clang-format off
/*
 * All kernels of the cpu backend in terms of vec.h; the including file defines KERNELS (the table's name) and KERNELS_NAME.
 *
 * Matrix products. A K-quant weight is d * (sc * q) - dmin * m with sc * q a small integer: blocks are unpacked to int16
 * and multiplied with int16 activations, which is exact up to the end of a block of 256 (|sc*q| <= 4096, |a| <= 32767, 16
 * products per lane: at most 2^31 - 65536). Then one float step per block and lane. The minima are a second, short dot
 * product over sub-blocks, in float. Other types are F32 dot products over 16 lanes.
 * Few tokens (decode): a row is unpacked in registers and met by all tokens at once: bound by memory. Many tokens
 * (prefill): PANEL rows are unpacked to scratch once and met in register tiles of TILE_R x TILE_T.
 * The order of float operations per output is the same in both forms, so batching never changes a bit.
 */
#include "backend/cpu/kernels.h"
#include "backend/cpu/vec.h"
#include "base/half.h"

#if defined(__AVX512F__)
enum { TILE_R = 3, TILE_T = 4, FTILE_R = 4, FTILE_T = 4 };
#else
enum { TILE_R = 1, TILE_T = 4, FTILE_R = 2, FTILE_T = 2 };
#endif
enum { PANEL = KERNELS_PANEL_ROWS, FEW = 4 };

/* ---- Eight int16 scales, spread over a vector of weights ---- */

#if defined(__AVX512F__)
typedef __m512i v8;
VEC v8 v8_from_u8(uint64_t b) { return _mm512_broadcast_i32x4(_mm_cvtepu8_epi16(_mm_cvtsi64_si128((long long)b))); }
VEC v8 v8_from_i8(const int8_t *p) { return _mm512_broadcast_i32x4(_mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)p))); }
VEC __m512i v8_control(int i, int j) {
    return _mm512_inserti64x4(_mm512_set1_epi16((short)(2 * i | (2 * i + 1) << 8)),
                              _mm256_set1_epi16((short)(2 * j | (2 * j + 1) << 8)), 1);
}
/* scale i for elements 0..15, scale j for 16..31 */
#define V8_SPREAD(s, i, j) _mm512_shuffle_epi8(s, v8_control(i, j))
#elif defined(__AVX2__)
typedef __m256i v8;
VEC v8 v8_from_u8(uint64_t b) { return _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(_mm_cvtsi64_si128((long long)b))); }
VEC v8 v8_from_i8(const int8_t *p) { return _mm256_broadcastsi128_si256(_mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)p))); }
VEC __m256i v8_pick(v8 s, int i) { return _mm256_shuffle_epi8(s, _mm256_set1_epi16((short)(2 * i | (2 * i + 1) << 8))); }
#define V8_SPREAD(s, i, j) ((vs){v8_pick(s, i), v8_pick(s, j)})
#else
typedef struct {
    int16_t v[8];
} v8;
VEC v8 v8_from_u8(uint64_t b) {
    v8 r;
    for (int i = 0; i < 8; i++) {
        r.v[i] = (int16_t)(b >> (8 * i) & 255);
    }
    return r;
}
VEC v8 v8_from_i8(const int8_t *p) {
    v8 r;
    for (int i = 0; i < 8; i++) {
        r.v[i] = p[i];
    }
    return r;
}
#define V8_SPREAD(s, i, j) vs_set2((s).v[i], (s).v[j])
#endif

/* ---- Unpacking a K-quant block: w[s] = (scale * quant) of weights 32 s .. 32 s + 31; returns d; mins may be NULL ---- */

VEC float half_at(const uint16_t *p) {
#if defined(__F16C__)
    return _cvtsh_ss(*p);
#else
    return f16_to_f32(*p);
#endif
}

/* The packed 6-bit scales and minima of a Q4_K or Q5_K block: scales as int16, minima times dmin as float. Scalar bit
 * work on purpose: the vector units are what a decoding core runs out of first. */
VEC v8 k_scales(const uint8_t *p, float dmin, float *mins) {
    uint32_t a, b, c;
    memcpy(&a, p, 4);
    memcpy(&b, p + 4, 4);
    memcpy(&c, p + 8, 4);
    uint32_t sc_high = (c & 0x0F0F0F0F) | (a >> 2 & 0x30303030);
    uint32_t mn_high = (c >> 4 & 0x0F0F0F0F) | (b >> 2 & 0x30303030);
    uint64_t sc = (a & 0x3F3F3F3F) | (uint64_t)sc_high << 32;
    uint64_t mn = (b & 0x3F3F3F3F) | (uint64_t)mn_high << 32;
#if defined(__AVX2__)
    __m256 m = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)mn)));
    _mm256_storeu_ps(mins, _mm256_mul_ps(m, _mm256_set1_ps(dmin)));
#else
    for (int i = 0; i < 8; i++) {
        mins[i] = dmin * (float)(mn >> (8 * i) & 255);
    }
#endif
    return v8_from_u8(sc);
}

VEC float unpack_q4_k(const uint8_t *p, vs w[8], float *mins) {
    const struct block_q4_k *b = (const struct block_q4_k *)p;
    v8 s = k_scales(b->scales, half_at(&b->dmin), mins);
    vs mask = vs_set1(15);
#define CHUNK(c)                                                                                                       \
    {                                                                                                                  \
        vs v = vs_load_u8(b->qs + 32 * (c));                                                                           \
        w[2 * (c)] = vs_mul(vs_and(v, mask), V8_SPREAD(s, 2 * (c), 2 * (c)));                                          \
        w[2 * (c) + 1] = vs_mul(vs_shr(v, 4), V8_SPREAD(s, 2 * (c) + 1, 2 * (c) + 1));                                 \
    }
    CHUNK(0) CHUNK(1) CHUNK(2) CHUNK(3)
#undef CHUNK
    return half_at(&b->d);
}

VEC float unpack_q5_k(const uint8_t *p, vs w[8], float *mins) {
    const struct block_q5_k *b = (const struct block_q5_k *)p;
    v8 s = k_scales(b->scales, half_at(&b->dmin), mins);
    vs mask = vs_set1(15);
    vs bit = vs_set1(16);
    vs h = vs_shl(vs_load_u8(b->qh), 4); /* bit s of a byte now stands at 16 << s */
#define CHUNK(c)                                                                                                       \
    {                                                                                                                  \
        vs v = vs_load_u8(b->qs + 32 * (c));                                                                           \
        vs low = vs_or(vs_and(v, mask), vs_and(vs_shr(h, 2 * (c)), bit));                                              \
        vs high = vs_or(vs_shr(v, 4), vs_and(vs_shr(h, 2 * (c) + 1), bit));                                            \
        w[2 * (c)] = vs_mul(low, V8_SPREAD(s, 2 * (c), 2 * (c)));                                                      \
        w[2 * (c) + 1] = vs_mul(high, V8_SPREAD(s, 2 * (c) + 1, 2 * (c) + 1));                                         \
    }
    CHUNK(0) CHUNK(1) CHUNK(2) CHUNK(3)
#undef CHUNK
    return half_at(&b->d);
}

VEC float unpack_q6_k(const uint8_t *p, vs w[8], float *mins) {
    (void)mins;
    const struct block_q6_k *b = (const struct block_q6_k *)p;
    vs mask = vs_set1(15);
    vs two = vs_set1(48);
    vs bias = vs_set1(32);
#define HALF(h)                                                                                                        \
    {                                                                                                                  \
        v8 s = v8_from_i8(b->scales + 8 * (h));                                                                        \
        vs l0 = vs_load_u8(b->ql + 64 * (h));                                                                          \
        vs l1 = vs_load_u8(b->ql + 64 * (h) + 32);                                                                     \
        vs q = vs_load_u8(b->qh + 32 * (h));                                                                           \
        vs q0 = vs_or(vs_and(l0, mask), vs_and(vs_shl(q, 4), two));                                                    \
        vs q1 = vs_or(vs_and(l1, mask), vs_and(vs_shl(q, 2), two));                                                    \
        vs q2 = vs_or(vs_shr(l0, 4), vs_and(q, two));                                                                  \
        vs q3 = vs_or(vs_shr(l1, 4), vs_and(vs_shr(q, 2), two));                                                       \
        w[4 * (h)] = vs_mul(vs_sub(q0, bias), V8_SPREAD(s, 0, 1));                                                     \
        w[4 * (h) + 1] = vs_mul(vs_sub(q1, bias), V8_SPREAD(s, 2, 3));                                                 \
        w[4 * (h) + 2] = vs_mul(vs_sub(q2, bias), V8_SPREAD(s, 4, 5));                                                 \
        w[4 * (h) + 3] = vs_mul(vs_sub(q3, bias), V8_SPREAD(s, 6, 7));                                                 \
    }
    HALF(0) HALF(1)
#undef HALF
    uint16_t d;
    memcpy(&d, &b->d, 2);
    return half_at(&d);
}

/* ---- Unpacking 16 weights of the other types as floats; all conversions are exact ---- */

VEC vf load_f32(const uint8_t *row, uint32_t c) { return vf_load((const float *)(const void *)row + c); }
VEC vf load_f16(const uint8_t *row, uint32_t c) { return vf_load_f16((const uint16_t *)(const void *)row + c); }
VEC vf load_bf16(const uint8_t *row, uint32_t c) { return vf_load_bf16((const uint16_t *)(const void *)row + c); }
VEC vf load_q8_0(const uint8_t *row, uint32_t c) {
    const struct block_q8_0 *b = (const struct block_q8_0 *)row + c / 32;
    return vf_mul(vf_load_i8(b->qs + c % 32), vf_set1(half_at(&b->d)));
}
VEC vf load_q4_0(const uint8_t *row, uint32_t c) {
    const struct block_q4_0 *b = (const struct block_q4_0 *)row + c / 32;
    return vf_mul(vf_load_nibbles(b->qs, c % 32 ? 4 : 0), vf_set1(half_at(&b->d)));
}

/* ---- Where results go ---- */

VEC uint32_t src_row(const struct mm *m, uint32_t i) { return m->src ? m->src[i] : i; }

VEC void put(const struct mm *m, uint32_t i, uint32_t row, float dot) {
    float *y = m->y + (size_t)(m->dst ? m->dst[i] : i) * m->y_stride + row;
    if (!m->add) {
        *y = dot;
    } else {
        *y = m->gain ? fmaf(m->gain[i], dot, *y) : *y + dot;
    }
}

/* ---- K-quants ---- */

/* acc less the minima's part of an output: lanes are sub-blocks modulo 16. */
VEC vf sub_minima(vf acc, const float *mins, const float *sums, uint32_t n) {
    vf part = vf_zero();
    for (uint32_t i = 0; i < n; i += 16) {
        part = vf_fma(vf_load(mins + i), vf_load(sums + i), part);
    }
    return vf_sub(acc, part);
}

typedef float (*unpack_fn)(const uint8_t *block, vs w[8], float *mins);

/* Inner loops are functions of their own: inlined into one another they run out of address registers. */
#define KERNEL static __attribute__((noinline))

/* One row against T <= FEW tokens, the row unpacked once in registers. */
VEC void k_row(const struct mm *m, uint32_t row, uint32_t i0, const int T, unpack_fn unpack, size_t block_bytes, bool has_mins,
               float *mins) {
    const uint8_t *p = m->w + row * m->row_bytes;
    uint32_t n_blocks = m->n_cols / QK;
    const int16_t *q[FEW];
    const float *scale[FEW];
    vf acc[FEW];
    for (int t = 0; t < T; t++) {
        uint32_t src = src_row(m, i0 + (uint32_t)t);
        q[t] = m->x->q + (size_t)src * m->n_cols;
        scale[t] = m->x->scale + (size_t)src * n_blocks;
        acc[t] = vf_zero();
    }
    for (uint32_t b = 0; b < n_blocks; b++) {
        vs w[8];
        VEC_PREFETCH(p + 2048);
        VEC_PREFETCH(p + 2048 + 64);
        VEC_PREFETCH(p + 2048 + 128);
        float d = unpack(p, w, mins + 8 * b);
        p += block_bytes;
        for (int t = 0; t < T; t++) {
            const int16_t *a = q[t] + (size_t)b * QK;
            vi even = vi_zero();
            vi odd = vi_zero();
            for (int s = 0; s < 8; s += 2) {
                even = vi_dot(even, w[s], vs_load(a + 32 * s));
                odd = vi_dot(odd, w[s + 1], vs_load(a + 32 * s + 32));
            }
            acc[t] = vf_fma(vi_to_f(vi_add(even, odd)), vf_set1(d * scale[t][b]), acc[t]);
        }
    }
    uint32_t sums_stride = acts_sums_stride(m->n_cols);
    for (int t = 0; t < T; t++) {
        if (has_mins) {
            acc[t] = sub_minima(acc[t], mins, m->x->sums + (size_t)src_row(m, i0 + (uint32_t)t) * sums_stride, sums_stride);
        }
        put(m, i0 + (uint32_t)t, row, vf_reduce_add(acc[t]));
    }
}

/* A panel of unpacked rows in scratch. */
struct panel {
    int16_t *w;  /* [PANEL][n_cols] */
    float *d;    /* [PANEL][n_cols / 256] */
    float *mins; /* [PANEL][sums_stride] */
};

VEC struct panel panel_at(void *scratch, uint32_t n_cols) {
    struct panel p;
    p.w = scratch;
    p.d = (float *)(void *)(p.w + (size_t)PANEL * n_cols);
    p.mins = p.d + (size_t)PANEL * (n_cols / QK);
    return p;
}

VEC void k_tile(const struct mm *m, const struct panel *pn, uint32_t r0, uint32_t row, uint32_t i0, const int R, const int T,
                bool has_mins) {
    uint32_t n_blocks = m->n_cols / QK;
    const int16_t *q[TILE_T];
    const int16_t *rows[TILE_R];
    const float *scale[TILE_T];
    vf acc[TILE_R][TILE_T];
    for (int r = 0; r < R; r++) {
        rows[r] = pn->w + (size_t)(r0 + (uint32_t)r) * m->n_cols;
    }
    for (int t = 0; t < T; t++) {
        uint32_t src = src_row(m, i0 + (uint32_t)t);
        q[t] = m->x->q + (size_t)src * m->n_cols;
        scale[t] = m->x->scale + (size_t)src * n_blocks;
        for (int r = 0; r < R; r++) {
            acc[r][t] = vf_zero();
        }
    }
    for (uint32_t b = 0; b < n_blocks; b++) {
        vi sum[TILE_R][TILE_T];
        for (int r = 0; r < R; r++) {
            for (int t = 0; t < T; t++) {
                sum[r][t] = vi_zero();
            }
        }
        for (uint32_t s = 0; s < QK; s += 32) {
            vs w[TILE_R];
            for (int r = 0; r < R; r++) {
                w[r] = vs_load(rows[r] + b * QK + s);
            }
            for (int t = 0; t < T; t++) {
                vs a = vs_load(q[t] + b * QK + s);
                VEC_KEEP(a);
                for (int r = 0; r < R; r++) {
                    sum[r][t] = vi_dot(sum[r][t], w[r], a);
                }
            }
        }
        for (int r = 0; r < R; r++) {
            float d = pn->d[(r0 + (uint32_t)r) * n_blocks + b];
            for (int t = 0; t < T; t++) {
                acc[r][t] = vf_fma(vi_to_f(sum[r][t]), vf_set1(d * scale[t][b]), acc[r][t]);
            }
        }
    }
    uint32_t sums_stride = acts_sums_stride(m->n_cols);
    for (int r = 0; r < R; r++) {
        for (int t = 0; t < T; t++) {
            if (has_mins) {
                acc[r][t] = sub_minima(acc[r][t], pn->mins + (size_t)(r0 + (uint32_t)r) * sums_stride,
                                       m->x->sums + (size_t)src_row(m, i0 + (uint32_t)t) * sums_stride, sums_stride);
            }
            put(m, i0 + (uint32_t)t, row + (uint32_t)r, vf_reduce_add(acc[r][t]));
        }
    }
}

/* All tiles of a panel of `rows` rows. */
VEC void tile_columns(const struct mm *m, const struct panel *pn, uint32_t row, uint32_t rows, uint32_t i, const int T,
                      const bool has_mins) {
    uint32_t r = 0;
    for (; r + TILE_R <= rows; r += TILE_R) {
        k_tile(m, pn, r, row + r, i, TILE_R, T, has_mins);
    }
    for (; r < rows; r++) {
        k_tile(m, pn, r, row + r, i, 1, T, has_mins);
    }
}

KERNEL void tile_columns_full(const struct mm *m, const struct panel *pn, uint32_t row, uint32_t rows, uint32_t i) {
    tile_columns(m, pn, row, rows, i, TILE_T, false);
}
KERNEL void tile_columns_full_mins(const struct mm *m, const struct panel *pn, uint32_t row, uint32_t rows, uint32_t i) {
    tile_columns(m, pn, row, rows, i, TILE_T, true);
}
KERNEL void tile_columns_one(const struct mm *m, const struct panel *pn, uint32_t row, uint32_t rows, uint32_t i) {
    tile_columns(m, pn, row, rows, i, 1, false);
}
KERNEL void tile_columns_one_mins(const struct mm *m, const struct panel *pn, uint32_t row, uint32_t rows, uint32_t i) {
    tile_columns(m, pn, row, rows, i, 1, true);
}

static void panel_tiles(const struct mm *m, const struct panel *pn, uint32_t row, uint32_t rows, bool has_mins) {
    uint32_t i = 0;
    for (; i + TILE_T <= m->n; i += TILE_T) {
        (has_mins ? tile_columns_full_mins : tile_columns_full)(m, pn, row, rows, i);
    }
    for (; i < m->n; i++) {
        (has_mins ? tile_columns_one_mins : tile_columns_one)(m, pn, row, rows, i);
    }
}

VEC void k_panel(const struct mm *m, uint32_t row, uint32_t rows, void *scratch, unpack_fn unpack, size_t block_bytes,
                 const bool has_mins) {
    struct panel pn = panel_at(scratch, m->n_cols);
    const size_t n_cols = m->n_cols;
    const uint32_t n_blocks = m->n_cols / QK;
    const uint32_t sums_stride = acts_sums_stride(m->n_cols);
    for (uint32_t r = 0; r < rows; r++) {
        const uint8_t *p = m->w + (row + r) * m->row_bytes;
        float *mins = pn.mins + (size_t)r * sums_stride;
        memset(mins + 8 * (size_t)n_blocks, 0, (sums_stride - 8 * (size_t)n_blocks) * sizeof(float));
        for (uint32_t b = 0; b < n_blocks; b++) {
            vs w[8];
            pn.d[r * n_blocks + b] = unpack(p + b * block_bytes, w, mins + 8 * b);
            for (int s = 0; s < 8; s++) {
                vs_store(pn.w + r * n_cols + b * QK + 32 * s, w[s]);
            }
        }
    }
    panel_tiles(m, &pn, row, rows, has_mins);
}

/* Rows [row0, row1) against T <= FEW tokens. */
VEC void k_few(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, const int T, unpack_fn unpack, size_t block_bytes,
               const bool has_mins) {
    float *mins = scratch;
    memset(mins, 0, acts_sums_stride(m->n_cols) * sizeof(float));
    for (uint32_t row = row0; row < row1; row++) {
        k_row(m, row, 0, T, unpack, block_bytes, has_mins, mins);
    }
}

#define K_MATMUL(type, has_mins)                                                                                       \
    KERNEL void few_1_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {                        \
        k_few(m, row0, row1, scratch, 1, unpack_##type, sizeof(struct block_##type), has_mins);                        \
    }                                                                                                                  \
    KERNEL void few_2_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {                        \
        k_few(m, row0, row1, scratch, 2, unpack_##type, sizeof(struct block_##type), has_mins);                        \
    }                                                                                                                  \
    KERNEL void few_3_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {                        \
        k_few(m, row0, row1, scratch, 3, unpack_##type, sizeof(struct block_##type), has_mins);                        \
    }                                                                                                                  \
    KERNEL void few_4_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {                        \
        k_few(m, row0, row1, scratch, 4, unpack_##type, sizeof(struct block_##type), has_mins);                        \
    }                                                                                                                  \
    static void matmul_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {                       \
        static void (*const few[FEW + 1])(const struct mm *, uint32_t, uint32_t, void *) = {                           \
            NULL, few_1_##type, few_2_##type, few_3_##type, few_4_##type};                                             \
        if (m->n <= FEW) {                                                                                             \
            few[m->n](m, row0, row1, scratch);                                                                         \
            return;                                                                                                    \
        }                                                                                                              \
        for (uint32_t row = row0; row < row1; row += PANEL) {                                                          \
            k_panel(m, row, row1 - row < PANEL ? row1 - row : PANEL, scratch, unpack_##type,                           \
                    sizeof(struct block_##type), has_mins);                                                            \
        }                                                                                                              \
    }

K_MATMUL(q4_k, true)
K_MATMUL(q5_k, true)
K_MATMUL(q6_k, false)

/* ---- F32 products of the other types ---- */

typedef vf (*load_fn)(const uint8_t *row, uint32_t c);

/* R rows at w against T tokens, STEP columns (BYTES bytes) at a time: 32 lets both halves of a block share its scale. With
 * one token the next R rows are fetched meanwhile: rows are too short for the hardware to get up to speed on them. */
VEC void f_tile(const struct mm *m, const uint8_t *w, size_t stride, uint32_t row, uint32_t i0, const int R, const int T,
                load_fn load, const uint32_t STEP, const uint32_t BYTES) {
    const float *x[FTILE_T];
    vf acc[FTILE_R][FTILE_T];
    for (int t = 0; t < T; t++) {
        x[t] = m->x->f + (size_t)src_row(m, i0 + (uint32_t)t) * m->n_cols;
        for (int r = 0; r < R; r++) {
            acc[r][t] = vf_zero();
        }
    }
    const uint32_t n_cols = m->n_cols;
    const uint8_t *next = w + (size_t)R * stride;
    for (uint32_t c0 = 0; c0 < n_cols; c0 += STEP) {
        if (T == 1) {
            for (int r = 0; r < R; r++) {
                VEC_PREFETCH(next + (size_t)r * stride);
            }
            next += BYTES;
        }
        for (uint32_t c = c0; c < c0 + STEP; c += 16) {
            vf a[FTILE_T];
            for (int t = 0; t < T; t++) {
                a[t] = vf_load(x[t] + c);
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
VEC void f_columns(const struct mm *m, const uint8_t *w, size_t stride, uint32_t row, uint32_t rows, uint32_t i, const int T,
                   load_fn load, const uint32_t STEP, const uint32_t BYTES) {
    uint32_t r = 0;
    for (; r + FTILE_R <= rows; r += FTILE_R) {
        f_tile(m, w + r * stride, stride, row + r, i, FTILE_R, T, load, STEP, BYTES);
    }
    for (; r < rows; r++) {
        f_tile(m, w + r * stride, stride, row + r, i, 1, T, load, STEP, BYTES);
    }
}

#define F_COLUMNS(type, STEP, BYTES)                                                                                          \
    KERNEL void columns_full_##type(const struct mm *m, const uint8_t *w, size_t stride, uint32_t row, uint32_t rows,  \
                                    uint32_t i) {                                                                      \
        f_columns(m, w, stride, row, rows, i, FTILE_T, load_##type, STEP, BYTES);                                             \
    }                                                                                                                  \
    KERNEL void columns_one_##type(const struct mm *m, const uint8_t *w, size_t stride, uint32_t row, uint32_t rows,   \
                                   uint32_t i) {                                                                       \
        f_columns(m, w, stride, row, rows, i, 1, load_##type, STEP, BYTES);                                                   \
    }                                                                                                                  \
    static void f_few_##type(const struct mm *m, const uint8_t *w, size_t stride, uint32_t row, uint32_t rows) {       \
        uint32_t i = 0;                                                                                                \
        for (; i + FTILE_T <= m->n; i += FTILE_T) {                                                                    \
            columns_full_##type(m, w, stride, row, rows, i);                                                           \
        }                                                                                                              \
        for (; i < m->n; i++) {                                                                                        \
            columns_one_##type(m, w, stride, row, rows, i);                                                            \
        }                                                                                                              \
    }

F_COLUMNS(f32, 16, 64)

static void matmul_f32(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {
    (void)scratch;
    f_few_f32(m, m->w + row0 * m->row_bytes, m->row_bytes, row0, row1 - row0);
}

/* Few tokens meet the rows as stored; for many, panels of rows become floats once. */
#define F_MATMUL(type, STEP, BYTES)                                                                                           \
    F_COLUMNS(type, STEP, BYTES)                                                                                              \
    KERNEL void to_floats_##type(const uint8_t *row, float *out, uint32_t n_cols) {                                    \
        for (uint32_t c = 0; c < n_cols; c += 16) {                                                                    \
            vf_store(out + c, load_##type(row, c));                                                                    \
        }                                                                                                              \
    }                                                                                                                  \
    static void matmul_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {                       \
        if (m->n <= FEW) {                                                                                             \
            f_few_##type(m, m->w + row0 * m->row_bytes, m->row_bytes, row0, row1 - row0);                              \
            return;                                                                                                    \
        }                                                                                                              \
        float *panel = scratch;                                                                                        \
        for (uint32_t row = row0; row < row1; row += PANEL / 2) {                                                      \
            uint32_t rows = row1 - row < PANEL / 2 ? row1 - row : PANEL / 2;                                           \
            for (uint32_t r = 0; r < rows; r++) {                                                                      \
                to_floats_##type(m->w + (row + r) * m->row_bytes, panel + (size_t)r * m->n_cols, m->n_cols);           \
            }                                                                                                          \
            f_few_f32(m, (const uint8_t *)panel, m->n_cols * sizeof(float), row, rows);                                \
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
    uint32_t n_blocks = x->n_cols / QK;
    uint32_t sums_stride = acts_sums_stride(x->n_cols);
    const float *f = x->f + (size_t)i * x->n_cols;
    int16_t *q = x->q + (size_t)i * x->n_cols;
    float *sums = x->sums + (size_t)i * sums_stride;
    for (uint32_t b = 0; b < n_blocks; b++) {
        vf most = vf_zero();
        for (int c = 0; c < QK; c += 16) {
            most = vf_max(vf_abs(vf_load(f + b * QK + c)), most);
        }
        float top = vf_reduce_max(most);
        float scale = top * (1.0f / 32767.0f);
        /* a block this small contributes nothing, and its reciprocal would overflow */
        float inverse = top > 1e-30f ? 32767.0f / top : 0;
        x->scale[(size_t)i * n_blocks + b] = inverse == 0 ? (top > 1 ? top : 0) : scale; /* infinity goes on as infinity */
        for (int s = 0; s < 8; s++) {
            int32_t sum = 0;
            for (int c = 0; c < 32; c += 16) {
                vf_store_i16(q + b * QK + 32 * s + c, vf_mul(vf_load(f + b * QK + 32 * s + c), vf_set1(inverse)));
            }
            for (int c = 0; c < 32; c++) {
                sum += q[b * QK + 32 * s + c];
            }
            sums[8 * b + s] = scale * (float)sum;
        }
    }
    for (uint32_t s = 8 * n_blocks; s < sums_stride; s++) {
        sums[s] = 0;
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

/* Softmax state of one query: running maximum, lane sums, unnormalised output. */
struct attn_state {
    float top;
    float sum[16];
    float out[256];
    float p[KV_PAGE_TOKENS]; /* scores, then probabilities, of the page at hand */
};

VEC void attn_scores(const struct attn *a, struct attn_state *st, const uint16_t *k, uint32_t q0, const int N) {
    for (uint32_t g = 0; g < KV_PAGE_TOKENS; g += 16) {
        vf acc[ATTN_QUERIES_MAX];
        for (int i = 0; i < N; i++) {
            acc[i] = vf_zero();
        }
        for (uint32_t d = 0; d < a->dim; d++) {
            vf kd = vf_load_f16(k + (size_t)d * KV_PAGE_TOKENS + g);
            for (int i = 0; i < N; i++) {
                acc[i] = vf_fma(vf_set1(a->q[q0 + (uint32_t)i][d]), kd, acc[i]);
            }
        }
        for (int i = 0; i < N; i++) {
            vf_store(st[q0 + (uint32_t)i].p + g, vf_mul(acc[i], vf_set1(a->scale)));
        }
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

VEC void attn_values(const struct attn *a, struct attn_state *st, const uint16_t *v, uint32_t q0, const int N, int first, int end) {
    for (uint32_t d = 0; d < a->dim; d += 16) {
        vf acc[ATTN_QUERIES_MAX];
        for (int i = 0; i < N; i++) {
            acc[i] = vf_load(st[q0 + (uint32_t)i].out + d);
        }
        for (int p = first; p < end; p++) {
            vf vd = vf_load_f16(v + (size_t)p * a->dim + d);
            for (int i = 0; i < N; i++) {
                acc[i] = vf_fma(vf_set1(st[q0 + (uint32_t)i].p[p]), vd, acc[i]);
            }
        }
        for (int i = 0; i < N; i++) {
            vf_store(st[q0 + (uint32_t)i].out + d, acc[i]);
        }
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
        uint32_t i = 0;
        for (; i + ATTN_N <= a->n; i += ATTN_N) {
            attn_scores(a, st, k, i, ATTN_N);
        }
        for (; i + 4 <= a->n; i += 4) {
            attn_scores(a, st, k, i, 4);
        }
        for (; i < a->n; i++) {
            attn_scores(a, st, k, i, 1);
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
            attn_values(a, st, v, i, ATTN_N, lo, hi);
        }
        for (; i + 4 <= a->n; i += 4) {
            attn_values(a, st, v, i, 4, lo, hi);
        }
        for (; i < a->n; i++) {
            attn_values(a, st, v, i, 1, lo, hi);
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
    .rms_norm = rms_norm,
    .silu_mul = silu_mul,
    .sigmoid = sigmoid,
    .rope = rope,
    .conv = conv,
    .attend = attend,
    .store_kv = store_kv,
};
