// clang-format off
/*
 * Products of K-quants on AMX tiles, part of kernels.inc.h: PANEL (32) rows of a block against packs of 16 tokens.
 * A 13-bit weight (scale * quant) and a 12-bit activation are two signed bytes each, w = 64 wh + wl, a = 64 ah + al, so
 *   w a = 4096 wh ah + 64 (wh al + wl ah) + wl al
 * with the middle two in one accumulator. Sums over a block are exact, so the result is that of every other form. Weights are the
 * row-major operand, made in the first-level cache just before use; activations come packed.
 *
 * A unit is one block of a panel against two packs, 64 tile products in four passes. An accumulator is stored between the first
 * products of the pass that reuses it, so that others go on meanwhile; the float step of a unit stands between products of the next,
 * where its sums are still in the first-level cache.
 */

#include "backend/cpu/tiles.h"

enum { AMX_TILE = 1024, AMX_PLANES = 2, AMX_STEPS = QK / 64, AMX_HALF = AMX_STEPS * AMX_PLANES * AMX_TILE };

/* scale * quant of 4-bit quants, in planes: a shuffle each instead of a product and two packings */
#define AMX_HI(s, q)  ((s) * (q) >> 6)
#define AMX_LO(s, q)  ((s) * (q) & 63)
#define AMX_Q16(f, s)                                                                                                  \
    {f(s, 0), f(s, 1), f(s, 2), f(s, 3), f(s, 4), f(s, 5), f(s, 6), f(s, 7), f(s, 8), f(s, 9), f(s, 10), f(s, 11),     \
     f(s, 12), f(s, 13), f(s, 14), f(s, 15)}
#define AMX_S1(s) {AMX_Q16(AMX_HI, s), AMX_Q16(AMX_LO, s)}
#define AMX_S4(s) AMX_S1(s), AMX_S1(s + 1), AMX_S1(s + 2), AMX_S1(s + 3)
#define AMX_S16(s) AMX_S4(s), AMX_S4(s + 4), AMX_S4(s + 8), AMX_S4(s + 12)
static const int8_t amx_products[64][AMX_PLANES][16] __attribute__((aligned(64))) = {AMX_S16(0), AMX_S16(16), AMX_S16(32),
                                                                                     AMX_S16(48)};

/* What a panel holds in scratch; acc as [pack][row][token]. */
struct amx_panel {
    int8_t *w; /* [2][AMX_STEPS][AMX_PLANES] tiles of 16 rows x 64 columns */
    /* sums as tiles were stored, [row half][pack], awaiting their float step; high of units in turn */
    int32_t *high[2], *low, *mixed;
    float *d[2]; /* [PANEL], of blocks in turn */
    float *acc, *mins;
};

VEC struct amx_panel amx_panel_at(void *scratch) {
    struct amx_panel p;
    p.w = scratch;
    p.high[0] = (int32_t *)(void *)(p.w + 2 * AMX_HALF);
    p.high[1] = p.high[0] + AMX_TILE;
    p.low = p.high[1] + AMX_TILE;
    p.mixed = p.low + AMX_TILE;
    p.d[0] = (float *)(void *)(p.mixed + AMX_TILE);
    p.d[1] = p.d[0] + PANEL;
    p.acc = p.d[1] + PANEL;
    p.mins = p.acc + (size_t)KERNELS_PASS * PANEL;
    return p;
}

/* ---- Unpacking one row of a block into its planes; at: the row in the first tile ---- */

VEC void amx_store(int8_t *at, int step, __m512i hi, __m512i lo) {
    int8_t *p = at + step * AMX_PLANES * AMX_TILE;
    _mm512_store_si512(p, hi);
    _mm512_store_si512(p + AMX_TILE, lo);
}

VEC void amx_split(int8_t *at, const vs w[8]) {
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    const __m512i low = _mm512_set1_epi16(63);
    for (int c = 0; c < 4; c++) {
        __m512i hi = _mm512_packs_epi16(_mm512_srai_epi16(w[2 * c], 6), _mm512_srai_epi16(w[2 * c + 1], 6));
        __m512i lo = _mm512_packs_epi16(_mm512_and_si512(w[2 * c], low), _mm512_and_si512(w[2 * c + 1], low));
        amx_store(at, c, _mm512_permutexvar_epi64(order, hi), _mm512_permutexvar_epi64(order, lo));
    }
}

VEC float amx_unpack_q4_k(const uint8_t *p, int8_t *at, float *mins) {
    const struct block_q4_k *b = (const struct block_q4_k *)p;
    uint64_t mn;
    uint64_t sc = k_scale_bytes(b->scales, &mn);
    __m256 m = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)mn)));
    _mm256_storeu_ps(mins, _mm256_mul_ps(m, _mm256_set1_ps(half_at(&b->dmin))));
    for (int c = 0; c < 4; c++) {
        const int8_t(*one)[16] = amx_products[sc >> 16 * c & 63];
        const int8_t(*two)[16] = amx_products[sc >> (16 * c + 8) & 63];
        __m512i q = vb_twice(b->qs + 32 * c, 0, -4, 15);
        int8_t *to = at + c * AMX_PLANES * AMX_TILE;
        for (int i = 0; i < AMX_PLANES; i++) {
            __m512i t = _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)one[i]));
            t = _mm512_mask_broadcast_i32x4(t, 0xFF00, _mm_load_si128((const __m128i *)two[i]));
            _mm512_store_si512(to + i * AMX_TILE, _mm512_shuffle_epi8(t, q));
        }
    }
    return half_at(&b->d);
}

VEC float amx_unpack_q5_k(const uint8_t *p, int8_t *at, float *mins) {
    vs w[8];
    float d = unpack_q5_k(p, w, mins);
    amx_split(at, w);
    return d;
}

VEC float amx_unpack_q6_k(const uint8_t *p, int8_t *at, float *mins) {
    vs w[8];
    float d = unpack_q6_k(p, w, mins);
    amx_split(at, w);
    return d;
}

typedef float (*amx_unpack_fn)(const uint8_t *block, int8_t *at, float *mins);

/* ---- Tiles ---- */

/* The float step of a unit, whose sums are stored: 32 rows x 2 packs. */
struct amx_done {
    const int32_t *high;
    const float *d;
    const float *scale[2];
    float *acc[2]; /* NULL: there is none to do */
};

/* An eighth of it: acc += sum * (d * scale) for 8 rows and one pack. */
VEC void amx_fold(const struct amx_panel *pn, const struct amx_done *x, const uint32_t part) {
    const uint32_t pack = part / 4;
    const uint32_t row0 = part % 4 * 8;
    const size_t at = (2 * (row0 / 16) + pack) * (AMX_TILE / 4) + row0 % 16 * 16;
    const int32_t *high = x->high + at;
    const int32_t *mixed = pn->mixed + at;
    const int32_t *low = pn->low + at;
    if (!x->acc[pack]) {
        return;
    }
    float *acc = x->acc[pack] + 16 * row0;
    const float *d = x->d + row0;
    vf scale = vf_load(x->scale[pack]);
    for (int r = 0; r < 8; r++) {
        __m512i upper = _mm512_add_epi32(_mm512_slli_epi32(_mm512_load_si512(high + 16 * r), 6), _mm512_load_si512(mixed + 16 * r));
        __m512i all = _mm512_add_epi32(_mm512_slli_epi32(upper, 6), _mm512_load_si512(low + 16 * r));
        vf p = vf_mul(vi_to_f(all), vf_mul(vf_set1(d[r]), scale));
        vf_store(acc + 16 * r, vf_add(vf_load(acc + 16 * r), p));
    }
}

/* Tile loads and stores are memory accesses that the compiler does not know of. */
#define AMX_BARRIER() __asm__ volatile("" ::: "memory")

/* Accumulator t goes to `out` and begins at 0, or goes on. */
#define AMX_OUT(t)                                                                                                     \
    _tile_stored(t, out + (t) * (AMX_TILE / 4), 64);                                                                   \
    _tile_zero(t);
#define AMX_GO_ON(t)

/* tmm0-3 += 64 columns of one plane of the panel x one plane of N packs. BEFORE(t) precedes t's product, MID and END are vector work
 * beside them. */
#define AMX_STEP(BEFORE, MID, END)                                                                                     \
    _tile_loadd(4, wp, 64);                                                                                            \
    _tile_loadd(6, xp0, 64);                                                                                           \
    BEFORE(0)                                                                                                          \
    _tile_dpbssd(0, 4, 6);                                                                                             \
    if (N == 2) {                                                                                                      \
        _tile_loadd(7, xp1, 64);                                                                                       \
    }                                                                                                                  \
    BEFORE(1)                                                                                                          \
    if (N == 2) {                                                                                                      \
        _tile_dpbssd(1, 4, 7);                                                                                         \
    }                                                                                                                  \
    MID;                                                                                                               \
    _tile_loadd(5, wp + AMX_HALF, 64);                                                                                 \
    BEFORE(2)                                                                                                          \
    _tile_dpbssd(2, 5, 6);                                                                                             \
    BEFORE(3)                                                                                                          \
    if (N == 2) {                                                                                                      \
        _tile_dpbssd(3, 5, 7);                                                                                         \
    }                                                                                                                  \
    END;                                                                                                               \
    wp += AMX_PLANES * AMX_TILE;                                                                                       \
    xp0 += AMX_PLANES * AMX_TILE;                                                                                      \
    xp1 += AMX_PLANES * AMX_TILE
/* Steps from the k-th on; the loop stays rolled, so that tiles are addressed by three registers that move on. */
#define AMX_STEPS_FROM(k)                                                                                              \
    _Pragma("GCC unroll 1") for (int step = (k); step < AMX_STEPS; step++) {                                           \
        AMX_STEP(AMX_GO_ON, , );                                                                                       \
    }
#define AMX_PLANE(pw, px)                                                                                              \
    wp = pn->w + (pw) * AMX_TILE;                                                                                      \
    xp0 = x0 + (px) * AMX_TILE;                                                                                        \
    xp1 = x1 + (px) * AMX_TILE
#define AMX_FOLD(part) amx_fold(pn, last, part)

/* The panel's block against N packs. Passes: high, low, and the two mixed ones, of which the second is stored by the next call. The
 * float step of the unit before begins when that is done and ends before `low` is stored anew. */
VEC void amx_tiles(const struct amx_panel *pn, const uint8_t *x0, const uint8_t *x1, int32_t *high, const struct amx_done *last, const int N) {
    const int8_t *wp;
    const uint8_t *xp0;
    const uint8_t *xp1;
    int32_t *out = pn->mixed;
    AMX_BARRIER();
    AMX_PLANE(0, 0);
    AMX_STEP(AMX_OUT, , );
    AMX_BARRIER();
    AMX_STEP(AMX_GO_ON, AMX_FOLD(0), AMX_FOLD(1));
    AMX_STEP(AMX_GO_ON, AMX_FOLD(2), AMX_FOLD(3));
    AMX_STEP(AMX_GO_ON, AMX_FOLD(4), AMX_FOLD(5));
    out = high;
    AMX_PLANE(1, 1);
    AMX_STEP(AMX_OUT, AMX_FOLD(6), AMX_FOLD(7));
    AMX_BARRIER();
    AMX_STEPS_FROM(1)
    out = pn->low;
    AMX_PLANE(0, 1);
    AMX_STEP(AMX_OUT, , );
    AMX_STEPS_FROM(1)
    AMX_PLANE(1, 0);
    AMX_STEPS_FROM(0)
    AMX_BARRIER();
}

/* What the last unit of a panel has left to do. */
VEC void amx_drain(const struct amx_panel *pn, const struct amx_done *last) {
    AMX_BARRIER();
    _tile_stored(0, pn->mixed, 64);
    _tile_stored(1, pn->mixed + AMX_TILE / 4, 64);
    _tile_stored(2, pn->mixed + 2 * (AMX_TILE / 4), 64);
    _tile_stored(3, pn->mixed + 3 * (AMX_TILE / 4), 64);
    AMX_BARRIER();
    for (uint32_t part = 0; part < 8; part++) {
        AMX_FOLD(part);
    }
}

/* Block b, whose d are at place k, against all packs, two at a time. `last` is what the call before left to do, and what this one
 * leaves. */
KERNEL void amx_block(const struct amx_panel *pn, const uint8_t *packs, uint32_t n_packs, uint32_t n_cols, uint32_t b, uint32_t k,
                      struct amx_done *last) {
    const size_t pack_bytes = kernels_pack_bytes(n_cols);
    const uint8_t *scales = packs + (size_t)AMX_PLANES * KERNELS_PACK * n_cols + 16 * sizeof(float) * b;
    const uint8_t *columns = packs + (size_t)b * AMX_STEPS * AMX_PLANES * AMX_TILE;
    for (uint32_t g = 0; g < n_packs; g += 2) {
        const uint8_t *x = columns + g * pack_bytes;
        int32_t *high = pn->high[last->high == pn->high[0]];
        struct amx_done done = {.d = pn->d[k], .high = high};
        for (uint32_t p = 0; p < 2 && g + p < n_packs; p++) {
            done.scale[p] = (const float *)(const void *)(scales + (g + p) * pack_bytes);
            done.acc[p] = pn->acc + (size_t)(g + p) * PANEL * 16;
        }
        if (g + 1 < n_packs) {
            amx_tiles(pn, x, x + pack_bytes, high, last, 2);
        } else {
            amx_tiles(pn, x, x, high, last, 1);
        }
        *last = done;
    }
}

/* A lane of the written order, which is a chain here: sub-blocks i, i + 16, .. of 4 rows and G packs. */
struct amx_lanes {
    vf v[2][4];
};

VEC struct amx_lanes amx_lane(const float *mins, uint32_t stride, const float *const *sums, const uint32_t i, const int G) {
    struct amx_lanes y;
    for (int g = 0; g < G; g++) {
        for (int r = 0; r < 4; r++) {
            y.v[g][r] = vf_zero();
        }
    }
    for (uint32_t s = i; s < stride; s += 16) {
        for (int g = 0; g < G; g++) {
            vf x = vf_load(sums[g] + 16 * (size_t)s);
            for (int r = 0; r < 4; r++) {
                y.v[g][r] = vf_fma(vf_set1(mins[(size_t)r * stride + s]), x, y.v[g][r]);
            }
        }
    }
    return y;
}

VEC struct amx_lanes amx_join(struct amx_lanes a, struct amx_lanes b, const int G) {
    for (int g = 0; g < G; g++) {
        for (int r = 0; r < 4; r++) {
            a.v[g][r] = vf_add(a.v[g][r], b.v[g][r]);
        }
    }
    return a;
}

#define AMX_LANE(i)  amx_lane(mins, stride, sums, i, G)
#define AMX_LANE2(i) amx_join(AMX_LANE(i), AMX_LANE(i + 8), G)
#define AMX_LANE4(i) amx_join(AMX_LANE2(i), AMX_LANE2(i + 4), G)
#define AMX_LANE8(i) amx_join(AMX_LANE4(i), AMX_LANE4(i + 2), G)

/* acc less the minima's part, for 4 rows and G packs; lanes are added in the written tree (i + 8, i + 4, i + 2, i + 1). */
VEC void amx_minima(const float *mins, uint32_t stride, const float *const *sums, float *const *acc, const int G) {
    struct amx_lanes all = amx_join(AMX_LANE8(0), AMX_LANE8(1), G);
    for (int g = 0; g < G; g++) {
        for (int r = 0; r < 4; r++) {
            vf_store(acc[g] + 16 * r, vf_sub(vf_load(acc[g] + 16 * r), all.v[g][r]));
        }
    }
}

/* acc of the panel less the minima's part, for all packs. */
KERNEL void amx_all_minima(const struct amx_panel *pn, const uint8_t *packs, uint32_t n_packs, uint32_t n_cols, uint32_t rows) {
    const size_t pack_bytes = kernels_pack_bytes(n_cols);
    const uint32_t stride = acts_sums_stride(n_cols);
    const uint8_t *first = packs + KERNELS_PACK * (AMX_PLANES * (size_t)n_cols + n_cols / QK * sizeof(float));
    for (uint32_t g = 0; g < n_packs; g += 2) {
        for (uint32_t r = 0; r < rows; r += 4) {
            const float *sums[2] = {(const float *)(const void *)(first + g * pack_bytes),
                                    (const float *)(const void *)(first + (g + 1) * pack_bytes)};
            float *acc[2] = {pn->acc + ((size_t)g * PANEL + r) * 16, pn->acc + ((size_t)(g + 1) * PANEL + r) * 16};
            if (g + 1 < n_packs) {
                amx_minima(pn->mins + (size_t)r * stride, stride, sums, acc, 2);
            } else {
                amx_minima(pn->mins + (size_t)r * stride, stride, sums, acc, 1);
            }
        }
    }
}

/* Transposes 16 x 16 units of 32 bits. */
VEC void amx_transpose(__m512i v[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) { /* v[i + j]: rows i .. i + 3 of columns j, j + 4, j + 8, j + 12 */
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int j = 0; j < 4; j++) {
        __m512i a = _mm512_shuffle_i32x4(v[j], v[4 + j], 0x88);
        __m512i b = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0x88);
        __m512i c = _mm512_shuffle_i32x4(v[j], v[4 + j], 0xDD);
        __m512i d = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0xDD);
        t[j] = _mm512_shuffle_i32x4(a, b, 0x88);
        t[8 + j] = _mm512_shuffle_i32x4(a, b, 0xDD);
        t[4 + j] = _mm512_shuffle_i32x4(c, d, 0x88);
        t[12 + j] = _mm512_shuffle_i32x4(c, d, 0xDD);
    }
    for (int i = 0; i < 16; i++) {
        v[i] = t[i];
    }
}

/* y of rows [row, row + rows) and tokens [i, i + n) from acc [row][token]. */
KERNEL void amx_put(const struct mm *m, const float *acc, uint32_t row, uint32_t rows, uint32_t i, uint32_t n) {
    for (uint32_t r0 = 0; r0 < rows; r0 += 16) {
        if (rows - r0 < 16) {
            for (uint32_t r = r0; r < rows; r++) {
                for (uint32_t t = 0; t < n; t++) {
                    put(m, i + t, row + r, acc[16 * r + t]);
                }
            }
            return;
        }
        __m512i v[16];
        for (uint32_t r = 0; r < 16; r++) {
            v[r] = _mm512_loadu_si512(acc + 16 * (r0 + r));
        }
        amx_transpose(v);
        for (uint32_t t = 0; t < n; t++) {
            float *y = m->y + (size_t)(m->dst ? m->dst[i + t] : i + t) * m->y_stride + row + r0;
            vf dot = _mm512_castsi512_ps(v[t]);
            if (m->add) {
                dot = m->gain ? vf_fma(vf_set1(m->gain[i + t]), dot, vf_load(y)) : vf_add(vf_load(y), dot);
            }
            vf_store(y, dot);
        }
    }
}

/* Rows [row0, row1) against tokens [i0, i0 + n), n <= KERNELS_PASS. */
VEC void amx_pass(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0, uint32_t n, amx_unpack_fn unpack,
                  const size_t block_bytes, const bool has_mins) {
    struct amx_panel pn = amx_panel_at(scratch);
    const uint32_t n_blocks = m->n_cols / QK;
    const uint32_t stride = acts_sums_stride(m->n_cols);
    const uint32_t n_packs = (n + 15) / 16;
    const size_t pack_bytes = kernels_pack_bytes(m->n_cols);
    const uint8_t *packs = m->packs + i0 / 16 * pack_bytes;
    tiles_configure();
    for (uint32_t row = row0; row < row1; row += PANEL) {
        uint32_t rows = row1 - row < PANEL ? row1 - row : PANEL;
        struct amx_done last = {.d = NULL};
        memset(pn.acc, 0, (size_t)n_packs * 16 * PANEL * sizeof(float));
        for (uint32_t r = 0; r < rows; r++) {
            memset(pn.mins + (size_t)r * stride + 8 * n_blocks, 0, (stride - 8 * n_blocks) * sizeof(float));
        }
        for (uint32_t b = 0; b < n_blocks; b++) {
            for (uint32_t r = 0; r < rows; r++) {
                const uint8_t *p = m->w + (row + r) * m->row_bytes + b * block_bytes;
                for (uint32_t c = 0; c < block_bytes; c += 64) {
                    _mm_prefetch((const char *)(p + PANEL * m->row_bytes + c), _MM_HINT_T1); /* the first level is full */
                }
                int8_t *at = pn.w + (size_t)(r / 16) * AMX_STEPS * AMX_PLANES * AMX_TILE + r % 16 * 64;
                pn.d[b & 1][r] = unpack(p, at, pn.mins + (size_t)r * stride + 8 * b);
            }
            amx_block(&pn, packs, n_packs, m->n_cols, b, b & 1, &last);
        }
        amx_drain(&pn, &last);
        if (has_mins) {
            amx_all_minima(&pn, packs, n_packs, m->n_cols, rows);
        }
        for (uint32_t g = 0; g < n_packs; g++) {
            amx_put(m, pn.acc + (size_t)g * PANEL * 16, row, rows, i0 + 16 * g, n - 16 * g < 16 ? n - 16 * g : 16);
        }
    }
    _tile_release(); /* so that a context switch need not save tiles */
}

/* ---- Packs ---- */

static void amx_pack(const struct acts *x, const uint32_t *src, uint32_t first, uint32_t n, uint8_t *pack) {
    const uint32_t n_cols = x->n_cols;
    const uint32_t n_blocks = n_cols / QK;
    const uint32_t stride = acts_sums_stride(n_cols);
    size_t at[16] = {0};
    for (uint32_t t = 0; t < n; t++) {
        at[t] = src ? src[t] : first + t;
    }
    for (uint32_t c = 0; c < n_cols; c += 64, pack += AMX_PLANES * AMX_TILE) {
        __m512i hi[16];
        __m512i lo[16];
        for (uint32_t t = 0; t < 16; t++) {
            hi[t] = t < n ? _mm512_loadu_si512(x->hi + at[t] * n_cols + c) : _mm512_setzero_si512();
            lo[t] = t < n ? _mm512_loadu_si512(x->lo + at[t] * n_cols + c) : _mm512_setzero_si512();
        }
        amx_transpose(hi);
        amx_transpose(lo);
        for (int i = 0; i < 16; i++) {
            _mm512_store_si512(pack + 64 * i, hi[i]);
            _mm512_store_si512(pack + AMX_TILE + 64 * i, lo[i]);
        }
    }
    float *scales = (float *)(void *)pack;
    float *sums = scales + 16 * (size_t)n_blocks;
    for (uint32_t t = 0; t < 16; t++) {
        for (uint32_t b = 0; b < n_blocks; b++) {
            scales[16 * b + t] = t < n ? x->scale[at[t] * n_blocks + b] : 0;
        }
        for (uint32_t s = 0; s < stride; s++) {
            sums[16 * s + t] = t < n ? x->sums[at[t] * stride + s] : 0;
        }
    }
}
