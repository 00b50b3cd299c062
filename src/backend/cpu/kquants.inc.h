// clang-format off
/*
 * Products of K-quant weights with 12-bit activations, part of kernels.inc.h. Inside a block of 256 everything is an integer
 * that fits int32 however it is summed (docs/numerics.md), so each form below is free to choose its own order:
 *   rows    one or two tokens: quants stay bytes and meet the activations' two byte planes; bound by memory
 *   panels  more tokens: PANEL rows of one block become int16 in the first-level cache and meet tiles of 4 rows x 4 tokens
 * Then one float step per block, blocks in order, and the minima as a second product over sub-blocks.
 */

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
/* scales i .. i + 3 for 8 elements each */
#define V8_SPREAD4(s, i)                                                                                               \
    _mm512_shuffle_epi8(s, _mm512_add_epi32(_mm512_set1_epi32(2 * (i) * 0x01010101),                                   \
                                            _mm512_setr_epi32(0x01000100, 0x01000100, 0x01000100, 0x01000100,          \
                                                              0x03020302, 0x03020302, 0x03020302, 0x03020302,          \
                                                              0x05040504, 0x05040504, 0x05040504, 0x05040504,          \
                                                              0x07060706, 0x07060706, 0x07060706, 0x07060706)))
/* the unsigned bytes sc[i] for elements 0..15 and sc[j] for 16..31 */
VEC __m512i v8_byte_control(int i, int j) {
    return _mm512_inserti64x4(_mm512_set1_epi16((short)(i | 0x8000)), _mm256_set1_epi16((short)(j | 0x8000)), 1);
}
VEC vs vs_spread_u8(const uint8_t *sc, int i, int j) {
    long long all;
    memcpy(&all, sc, 8);
    return _mm512_shuffle_epi8(_mm512_set1_epi64(all), v8_byte_control(i, j));
}
/* the signed bytes sc[i] .. sc[i + 3] of 16 for 8 elements each */
VEC vs vs_spread4_i8(const uint8_t *sc, int i) {
    __m512i words = _mm512_castsi256_si512(_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)sc)));
    __m512i at = _mm512_cvtepi8_epi16(_mm256_setr_epi64x(0x0101010101010101 * i, 0x0101010101010101 * (i + 1),
                                                         0x0101010101010101 * (i + 2), 0x0101010101010101 * (i + 3)));
    return _mm512_permutexvar_epi16(at, words);
}
/* 64 times the signed bytes sc[i], sc[i + 1], sc[j], sc[j + 1] of 16 for 8 elements each */
VEC vs vs_spread_i8(const uint8_t *sc, int i, int j) {
    __m512i words = _mm512_castsi256_si512(_mm256_slli_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)sc)), 6));
    __m512i at = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_setr_m128i(_mm_set1_epi16((short)i), _mm_set1_epi16((short)(i + 1)))),
                                    _mm256_setr_m128i(_mm_set1_epi16((short)j), _mm_set1_epi16((short)(j + 1))), 1);
    return _mm512_permutexvar_epi16(at, words);
}
#elif defined(__AVX2__)
typedef __m256i v8;
VEC v8 v8_from_u8(uint64_t b) { return _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(_mm_cvtsi64_si128((long long)b))); }
VEC v8 v8_from_i8(const int8_t *p) { return _mm256_broadcastsi128_si256(_mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)p))); }
VEC __m256i v8_pick(v8 s, int i) { return _mm256_shuffle_epi8(s, _mm256_set1_epi16((short)(2 * i | (2 * i + 1) << 8))); }
#define V8_SPREAD(s, i, j) ((vs){v8_pick(s, i), v8_pick(s, j)})
VEC __m256i v8_pick2(v8 s, int i, int j) {
    return _mm256_shuffle_epi8(s, _mm256_setr_m128i(_mm_set1_epi16((short)(2 * i | (2 * i + 1) << 8)),
                                                    _mm_set1_epi16((short)(2 * j | (2 * j + 1) << 8))));
}
#define V8_SPREAD4(s, i) ((vs){v8_pick2(s, i, (i) + 1), v8_pick2(s, (i) + 2, (i) + 3)})
VEC vs vs_spread_u8(const uint8_t *sc, int i, int j) {
    long long all;
    memcpy(&all, sc, 8);
    __m256i v = _mm256_set1_epi64x(all);
    return (vs){_mm256_shuffle_epi8(v, _mm256_set1_epi16((short)(i | 0x8000))), _mm256_shuffle_epi8(v, _mm256_set1_epi16((short)(j | 0x8000)))};
}
VEC __m256i v8_pick_i8(__m256i v, int i) { /* to the high byte of each word, and down with the sign to 64 times its value */
    return _mm256_srai_epi16(_mm256_shuffle_epi8(v, _mm256_setr_m128i(_mm_set1_epi16((short)(i << 8 | 0x80)),
                                                                      _mm_set1_epi16((short)((i + 1) << 8 | 0x80)))), 2);
}
VEC vs vs_spread4_i8(const uint8_t *sc, int i) {
    __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)sc));
    return (vs){_mm256_srai_epi16(v8_pick_i8(v, i), 6), _mm256_srai_epi16(v8_pick_i8(v, i + 2), 6)};
}
VEC vs vs_spread_i8(const uint8_t *sc, int i, int j) {
    __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)sc));
    return (vs){v8_pick_i8(v, i), v8_pick_i8(v, j)};
}
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
VEC vs v8_spread4(v8 s, int i) {
    vs r;
    for (int e = 0; e < 32; e++) {
        r[e] = s.v[i + e / 8];
    }
    return r;
}
#define V8_SPREAD4(s, i) v8_spread4(s, i)
VEC vs vs_spread_u8(const uint8_t *sc, int i, int j) { return vs_set2(sc[i], sc[j]); }
VEC vs vs_spread4_i8(const uint8_t *sc, int i) {
    vs r;
    for (int e = 0; e < 32; e++) {
        r[e] = (int8_t)sc[i + e / 8];
    }
    return r;
}
VEC vs vs_spread_i8(const uint8_t *sc, int i, int j) {
    vs r;
    for (int e = 0; e < 32; e++) {
        r[e] = (int16_t)(64 * (int8_t)sc[(e < 16 ? i : j) + e / 8 % 2]);
    }
    return r;
}
#endif

/* The packed 6-bit scales and minima of a Q4_K or Q5_K block. Scalar bit work on purpose: the vector units are what a decoding
 * core runs out of first. */
VEC uint64_t k_scale_bytes(const uint8_t *p, uint64_t *mins) {
    uint32_t a, b, c;
    memcpy(&a, p, 4);
    memcpy(&b, p + 4, 4);
    memcpy(&c, p + 8, 4);
    uint32_t sc_high = (c & 0x0F0F0F0F) | (a >> 2 & 0x30303030);
    uint32_t mn_high = (c >> 4 & 0x0F0F0F0F) | (b >> 2 & 0x30303030);
    *mins = (b & 0x3F3F3F3F) | (uint64_t)mn_high << 32;
    return (a & 0x3F3F3F3F) | (uint64_t)sc_high << 32;
}

/* Inner loops are functions of their own: inlined into one another they run out of address registers. */
#define KERNEL static __attribute__((noinline))

#include "backend/cpu/krows.inc.h"

/* ---- Panels ---- */

/* A panel in scratch: PANEL rows of one block, and what its tiles need over all blocks. */
struct panel {
    int16_t *w;  /* [PANEL][256] scale * quant */
    float *d;    /* [PANEL] */
    float *acc;  /* [KERNELS_PASS / 4][PANEL / 4][16]: token t and row r of a tile in lane 4 t + r */
    float *mins; /* [PANEL][sums_stride] dmin * m */
};

VEC struct panel panel_at(void *scratch) {
    struct panel p;
    p.w = scratch;
    p.d = (float *)(void *)(p.w + PANEL * QK);
    p.acc = p.d + PANEL;
    p.mins = p.acc + KERNELS_PASS * PANEL;
    return p;
}

/* A block's scales as bytes, and dmin * m. */
VEC void k_scales(const uint8_t *p, float dmin, uint8_t sc[8], float *mins) {
    uint64_t mn;
    uint64_t bytes = k_scale_bytes(p, &mn);
    memcpy(sc, &bytes, 8);
#if defined(__AVX2__)
    __m256 m = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)mn)));
    _mm256_storeu_ps(mins, _mm256_mul_ps(m, _mm256_set1_ps(dmin)));
#else
    for (int i = 0; i < 8; i++) {
        mins[i] = dmin * (float)(mn >> (8 * i) & 255);
    }
#endif
}

/* w = (scale * quant) of 256 weights in the order of struct acts.q; returns d */
VEC float panel_q4_k(const uint8_t *p, vs w[8], float *mins) {
    const struct block_q4_k *b = (const struct block_q4_k *)p;
    uint8_t sc[8];
    k_scales(b->scales, half_at(&b->dmin), sc, mins);
    k_half_q4_k(p, sc, 0, w);
    k_half_q4_k(p, sc, 1, w + 4);
    return half_at(&b->d);
}

VEC float panel_q5_k(const uint8_t *p, vs w[8], float *mins) {
    const struct block_q5_k *b = (const struct block_q5_k *)p;
    uint8_t sc[8];
    k_scales(b->scales, half_at(&b->dmin), sc, mins);
    k_half_q5_k(p, sc, 0, w);
    k_half_q5_k(p, sc, 1, w + 4);
    return half_at(&b->d);
}

VEC float panel_q6_k(const uint8_t *p, vs w[8], float *mins) {
    (void)mins;
    k_half_q6_k(p, p + 192, 0, w);
    k_half_q6_k(p, p + 192, 1, w + 4);
    uint16_t d;
    memcpy(&d, p + 208, 2);
    return half_at(&d);
}

typedef float (*panel_fn)(const uint8_t *block, vs w[8], float *mins);

/* Sums of 4 rows (QK apart) x T tokens over one block. */
VEC vi k_tile(const int16_t *w, const int16_t *const *a, const int T) {
    vi sum[16];
#if defined(__AVX512F__)
    for (int i = 0; i < 16; i++) {
        sum[i] = vi_zero();
    }
    for (int c = 0; c < QK; c += 32) {
        vs row[4];
        for (int r = 0; r < 4; r++) {
            row[r] = vs_load(w + r * QK + c);
        }
        for (int t = 0; t < T; t++) {
            vs x = vs_load(a[t] + c);
            VEC_KEEP(x);
            for (int r = 0; r < 4; r++) {
                sum[4 * t + r] = vi_dot(sum[4 * t + r], row[r], x);
            }
        }
    }
#else
    for (int i = 4 * T; i < 16; i++) {
        sum[i] = vi_zero();
    }
    for (int r = 0; r < 4; r++) { /* registers hold one row's sums at a time */
        vi s[4] = {vi_zero(), vi_zero(), vi_zero(), vi_zero()};
        for (int c = 0; c < QK; c += 32) {
            vs row = vs_load(w + r * QK + c);
            for (int t = 0; t < T; t++) {
                s[t] = vi_dot(s[t], row, vs_load(a[t] + c));
            }
        }
        for (int t = 0; t < T; t++) {
            sum[4 * t + r] = s[t];
        }
    }
#endif
    return vi_reduce16(sum);
}

/* The tiles of one block: `groups` times 4 rows with T tokens; acc advances PANEL / 4 tiles per token group. */
VEC void k_tiles(const struct panel *pn, float *acc, const int16_t *const *a, const float *scales, uint32_t groups, const int T) {
    vf s = vf_dup4(scales);
    for (uint32_t g = 0; g < groups; g++) {
        vi sums = k_tile(pn->w + (size_t)4 * QK * g, a, T);
        vf_store(acc + 16 * g, vf_add(vf_load(acc + 16 * g), vf_mul(vi_to_f(sums), vf_mul(vf_rep4(pn->d + 4 * g), s))));
    }
}

KERNEL void k_tiles_1(const struct panel *pn, float *acc, const int16_t *const *a, const float *scales, uint32_t groups) {
    k_tiles(pn, acc, a, scales, groups, 1);
}
KERNEL void k_tiles_2(const struct panel *pn, float *acc, const int16_t *const *a, const float *scales, uint32_t groups) {
    k_tiles(pn, acc, a, scales, groups, 2);
}
KERNEL void k_tiles_3(const struct panel *pn, float *acc, const int16_t *const *a, const float *scales, uint32_t groups) {
    k_tiles(pn, acc, a, scales, groups, 3);
}
KERNEL void k_tiles_4(const struct panel *pn, float *acc, const int16_t *const *a, const float *scales, uint32_t groups) {
    k_tiles(pn, acc, a, scales, groups, 4);
}

/* One block of the panel's rows against tokens [i0, i0 + n). */
static void k_panel_block(const struct mm *m, const struct panel *pn, uint32_t b, uint32_t rows, uint32_t i0, uint32_t n) {
    static void (*const tiles[])(const struct panel *, float *, const int16_t *const *, const float *, uint32_t) = {
        NULL, k_tiles_1, k_tiles_2, k_tiles_3, k_tiles_4};
    const uint32_t n_blocks = m->n_cols / QK;
    for (uint32_t i = 0; i < n; i += 4) {
        uint32_t T = n - i < 4 ? n - i : 4;
        const int16_t *a[4];
        float scales[4] = {0};
        for (uint32_t t = 0; t < T; t++) {
            size_t src = src_row(m, i0 + i + t);
            a[t] = m->x->q + src * m->n_cols + (size_t)b * QK;
            scales[t] = m->x->scale[src * n_blocks + b];
        }
        for (uint32_t t = 0; i + 4 + t < n && t < 4; t++) { /* the next tokens' columns are not where hardware looks */
            const int16_t *next = m->x->q + (size_t)src_row(m, i0 + i + 4 + t) * m->n_cols + (size_t)b * QK;
            for (int c = 0; c < QK; c += 32) {
                VEC_PREFETCH(next + c);
            }
        }
        tiles[T](pn, pn->acc + (size_t)(i / 4) * (PANEL / 4 * 16), a, scales, (rows + 3) / 4);
    }
}

/* y: the minima's part of T tokens and 4 rows of a panel, from row 4 g on, in the lanes of a tile. */
VEC vf k_minima(const struct mm *m, const struct panel *pn, uint32_t g, uint32_t i, uint32_t T) {
    const uint32_t stride = acts_sums_stride(m->n_cols);
    const float *mins = pn->mins + (size_t)4 * g * stride;
    const float *sums[4];
    vf part[16];
    for (uint32_t t = 0; t < 4; t++) {
        sums[t] = m->x->sums + (size_t)src_row(m, i + (t < T ? t : 0)) * stride;
        for (int r = 0; r < 4; r++) {
            part[4 * t + (uint32_t)r] = vf_zero();
        }
    }
    for (uint32_t s = 0; s < stride; s += 16) {
        vf row[4];
        for (uint32_t r = 0; r < 4; r++) {
            row[r] = vf_load(mins + r * stride + s);
        }
        for (int t = 0; t < 4; t++) {
            vf x = vf_load(sums[t] + s);
            for (int r = 0; r < 4; r++) {
                part[4 * t + r] = vf_fma(row[r], x, part[4 * t + r]);
            }
        }
    }
    return vf_reduce16(part);
}

/* Takes the minima from the finished tile of T tokens and 4 rows at acc, and puts it. */
KERNEL void k_finish(const struct mm *m, const struct panel *pn, const float *acc, uint32_t g, uint32_t row, uint32_t rows,
                     uint32_t i, uint32_t T, bool has_mins) {
    float out[16];
    vf_store(out, has_mins ? vf_sub(vf_load(acc), k_minima(m, pn, g, i, T)) : vf_load(acc));
    for (uint32_t t = 0; t < T; t++) {
        if (rows < 4) {
            for (uint32_t r = 0; r < rows; r++) {
                put(m, i + t, row + r, out[4 * t + r]);
            }
            continue;
        }
        float *y = m->y + (size_t)(m->dst ? m->dst[i + t] : i + t) * m->y_stride + row;
        float gain = m->gain ? m->gain[i + t] : 1;
        for (int r = 0; r < 4; r++) { /* as put */
            y[r] = !m->add ? out[4 * t + (uint32_t)r]
                   : m->gain ? fmaf(gain, out[4 * t + (uint32_t)r], y[r]) : y[r] + out[4 * t + (uint32_t)r];
        }
    }
}

/* Rows [row0, row1) against tokens [i0, i0 + n), n <= KERNELS_PASS. */
VEC void k_pass(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0, uint32_t n, panel_fn unpack,
                const size_t block_bytes, const bool has_mins) {
    struct panel pn = panel_at(scratch);
    const uint32_t n_blocks = m->n_cols / QK;
    const uint32_t stride = acts_sums_stride(m->n_cols);
    for (uint32_t row = row0; row < row1; row += PANEL) {
        uint32_t rows = row1 - row < PANEL ? row1 - row : PANEL;
        memset(pn.acc, 0, (size_t)((n + 3) / 4) * PANEL * 4 * sizeof(float));
        for (uint32_t r = 0; r < rows; r++) { /* sub-blocks that pad the row to 16 */
            memset(pn.mins + (size_t)r * stride + 8 * n_blocks, 0, (stride - 8 * n_blocks) * sizeof(float));
        }
        const uint8_t *w = m->w + row * m->row_bytes;
        for (uint32_t b = 0; b < n_blocks; b++) {
            for (uint32_t r = 0; r < rows; r++) {
                const uint8_t *p = w + r * m->row_bytes + b * block_bytes;
                vs v[8];
                for (uint32_t c = 0; c < block_bytes; c += 64) { /* the same block of the next panel */
                    VEC_PREFETCH(p + PANEL * m->row_bytes + c);
                }
                pn.d[r] = unpack(p, v, pn.mins + (size_t)r * stride + 8 * b);
                for (int s = 0; s < 8; s++) {
                    vs_store(pn.w + (size_t)r * QK + 32 * s, v[s]);
                }
            }
            k_panel_block(m, &pn, b, rows, i0, n);
        }
        for (uint32_t i = 0; i < n; i += 4) {
            for (uint32_t g = 0; 4 * g < rows; g++) {
                k_finish(m, &pn, pn.acc + ((size_t)(i / 4) * (PANEL / 4) + g) * 16, g, row + 4 * g,
                         rows - 4 * g < 4 ? rows - 4 * g : 4, i0 + i, n - i < 4 ? n - i : 4, has_mins);
            }
        }
    }
}

#if defined(__AMX_INT8__)
/* w[s] = (scale * quant) of weights 32 s .. 32 s + 31, in the order of the file; returns d */
VEC float unpack_q5_k(const uint8_t *p, vs w[8], float *mins) {
    const struct block_q5_k *b = (const struct block_q5_k *)p;
    uint8_t sc[8];
    k_scales(b->scales, half_at(&b->dmin), sc, mins);
    uint64_t all;
    memcpy(&all, sc, 8);
    v8 s = v8_from_u8(all);
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

#include "backend/cpu/kamx.inc.h"
#define K_AMX(type, has_mins)                                                                                          \
    KERNEL void amx_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0, uint32_t n) {     \
        amx_pass(m, row0, row1, scratch, i0, n, amx_unpack_##type, sizeof(struct block_##type), has_mins);             \
    }
#define K_PASS(m, type) ((m)->packs && (m)->n >= KERNELS_PACK_MIN ? amx_##type : pass_##type)
#else
#define K_AMX(type, has_mins)
#define K_PASS(m, type) pass_##type
#endif

#define K_MATMUL(type, has_mins)                                                                                       \
    KERNEL void pass_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0, uint32_t n) {    \
        k_pass(m, row0, row1, scratch, i0, n, panel_##type, sizeof(struct block_##type), has_mins);                    \
    }                                                                                                                  \
    K_AMX(type, has_mins)                                                                                              \
    static void matmul_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {                       \
        if (m->n < OUTPUTS || (m->n == OUTPUTS && m->n_cols <= CHUNK * QK)) { /* wide: four tokens outgrow the cache */   \
            few_##type(m, row0, row1, scratch);                                                                        \
            return;                                                                                                    \
        }                                                                                                              \
        for (uint32_t i = 0; i < m->n; i += KERNELS_PASS) {                                                            \
            K_PASS(m, type)(m, row0, row1, scratch, i, m->n - i < KERNELS_PASS ? m->n - i : KERNELS_PASS);             \
        }                                                                                                              \
    }


K_MATMUL(q4_k, true)
K_MATMUL(q5_k, true)
K_MATMUL(q6_k, false)
