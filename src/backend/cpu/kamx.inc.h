// clang-format off
/*
 * Products of K-quants on AMX tiles, part of kernels.inc.h: PANEL (32) rows of a block against packs of 16 tokens.
 * A 13-bit weight (scale * quant) and a 12-bit activation are two digits each in base 65, w = 65 wh + wl, a = 65 ah + al. With
 * k = (wh + wl)(ah + al) the product needs three tile products instead of four:
 *   w a = 65 (64 wh ah + k) - 64 wl al
 * Base 65 and not 64 because then wh ah counts a power of two as often as k: where 16 wh fits a byte (Q4_K), (16 wh)(4 ah) and k
 * share an accumulator. Sums over a block are exact, so the result is that of every other form. Weights are the row-major operand,
 * made in the first-level cache just before use; activations come packed, in the same three planes: 4 ah, ah + al, al.
 * What limits it: three products of 16 x 16 x 64 bytes at 16 cycles each, and beside them, per 32 x 32 x 256, the float steps
 * (64 vectors) and the minima (512 multiply-adds).
 */

#include "backend/cpu/tiles.h"

enum { AMX_TILE = 1024, AMX_PLANES = 3, AMX_STEPS = QK / 64, AMX_BLOCK = AMX_PLANES * AMX_STEPS * AMX_TILE, AMX_BASE = 65 };

/* The planes of scale * quant for 4-bit quants: a shuffle each instead of a product, a division and two packings. */
#define AMX_P0(s, q) (16 * ((s) * (q) / AMX_BASE))
#define AMX_P1(s, q) ((s) * (q) / AMX_BASE + (s) * (q) % AMX_BASE)
#define AMX_P2(s, q) ((s) * (q) % AMX_BASE)
#define AMX_Q16(f, s)                                                                                                  \
    {f(s, 0), f(s, 1), f(s, 2), f(s, 3), f(s, 4), f(s, 5), f(s, 6), f(s, 7), f(s, 8), f(s, 9), f(s, 10), f(s, 11),     \
     f(s, 12), f(s, 13), f(s, 14), f(s, 15)}
#define AMX_S1(s) {AMX_Q16(AMX_P0, s), AMX_Q16(AMX_P1, s), AMX_Q16(AMX_P2, s)}
#define AMX_S4(s) AMX_S1(s), AMX_S1(s + 1), AMX_S1(s + 2), AMX_S1(s + 3)
#define AMX_S16(s) AMX_S4(s), AMX_S4(s + 4), AMX_S4(s + 8), AMX_S4(s + 12)
static const uint8_t amx_products[64][AMX_PLANES + 1][16] __attribute__((aligned(64))) = {AMX_S16(0), AMX_S16(16), AMX_S16(32),
                                                                                         AMX_S16(48)};

/* What a panel holds in scratch; acc as [pack][row][token]. Blocks alternate between two places, so that one is unpacked between the
 * tile products of the one before. */
struct amx_panel {
    int8_t *w[2]; /* [2][AMX_PLANES][AMX_STEPS] tiles of 16 rows x 64 columns */
    float *d[2]; /* [PANEL] */
    int32_t *sums; /* [AMX_PLANES][2][2] tiles, stored and awaiting their float step */
    uint64_t *mn; /* [PANEL] minima of the block last unpacked */
    uint16_t *halves; /* [2][PANEL] its d, then its dmin */
    float *acc[2]; /* of panels in turn, and so are */
    float *mins[2]; /* [sub-block][PANEL] */
    float *wait; /* [4][16][16]: see amx_minima */
};

VEC struct amx_panel amx_panel_at(void *scratch, uint32_t stride) {
    struct amx_panel p;
    p.w[0] = scratch;
    p.w[1] = p.w[0] + 2 * AMX_BLOCK;
    p.sums = (int32_t *)(void *)(p.w[1] + 2 * AMX_BLOCK);
    p.d[0] = (float *)(void *)(p.sums + AMX_PLANES * 4 * AMX_TILE / 4);
    p.d[1] = p.d[0] + PANEL;
    p.mn = (uint64_t *)(void *)(p.d[1] + PANEL);
    p.halves = (uint16_t *)(void *)(p.mn + PANEL);
    p.wait = (float *)(void *)(p.halves + 2 * PANEL);
    p.acc[0] = p.wait + 4 * 16 * 16;
    p.acc[1] = p.acc[0] + (size_t)KERNELS_PASS * PANEL;
    p.mins[0] = p.acc[1] + (size_t)KERNELS_PASS * PANEL;
    p.mins[1] = p.mins[0] + (size_t)stride * PANEL;
    return p;
}

/* ---- Unpacking row r of a block into its planes; at: the row in the first tile ---- */

VEC void amx_unpack_q4_k(const struct amx_panel *pn, const uint8_t *p, uint32_t r, int8_t *at) {
    const struct block_q4_k *block = (const struct block_q4_k *)p;
    uint64_t sc = k_scale_bytes(block->scales, &pn->mn[r]);
    pn->halves[r] = block->d;
    pn->halves[PANEL + r] = block->dmin;
    for (int c = 0; c < AMX_STEPS; c++) {
        const uint8_t(*one)[16] = amx_products[sc >> 16 * c & 63];
        const uint8_t(*two)[16] = amx_products[sc >> (16 * c + 8) & 63];
        __m512i q = vb_twice(block->qs + 32 * c, 0, -4, 15);
        for (int i = 0; i < AMX_PLANES; i++) {
            __m512i t = _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)one[i]));
            t = _mm512_mask_broadcast_i32x4(t, 0xFF00, _mm_load_si128((const __m128i *)two[i]));
            _mm512_store_si512(at + (i * AMX_STEPS + c) * AMX_TILE, _mm512_shuffle_epi8(t, q));
        }
    }
}

/* Weights below 4160 in magnitude: digits of at most 63 and 33. */
VEC void amx_split(int8_t *at, const vs w[8]) {
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    const __m512i base = _mm512_set1_epi16(AMX_BASE);
    const __m512i inverse = _mm512_set1_epi16(32768 / AMX_BASE);
    for (int c = 0; c < AMX_STEPS; c++) {
        __m512i hi[2];
        __m512i lo[2];
        for (int i = 0; i < 2; i++) {
            hi[i] = _mm512_mulhrs_epi16(w[2 * c + i], inverse);
            lo[i] = _mm512_sub_epi16(w[2 * c + i], _mm512_mullo_epi16(hi[i], base));
        }
        __m512i h = _mm512_permutexvar_epi64(order, _mm512_packs_epi16(hi[0], hi[1]));
        __m512i l = _mm512_permutexvar_epi64(order, _mm512_packs_epi16(lo[0], lo[1]));
        _mm512_store_si512(at + c * AMX_TILE, h);
        _mm512_store_si512(at + (AMX_STEPS + c) * AMX_TILE, _mm512_add_epi8(h, l));
        _mm512_store_si512(at + (2 * AMX_STEPS + c) * AMX_TILE, l);
    }
}

VEC void amx_unpack_q5_k(const struct amx_panel *pn, const uint8_t *p, uint32_t r, int8_t *at) {
    const struct block_q5_k *block = (const struct block_q5_k *)p;
    vs w[8];
    float mins[8];
    k_scale_bytes(block->scales, &pn->mn[r]);
    pn->halves[r] = block->d;
    pn->halves[PANEL + r] = block->dmin;
    unpack_q5_k(p, w, mins);
    amx_split(at, w);
}

VEC void amx_unpack_q6_k(const struct amx_panel *pn, const uint8_t *p, uint32_t r, int8_t *at) {
    vs w[8];
    unpack_q6_k(p, w, NULL);
    memcpy(&pn->halves[r], &((const struct block_q6_k *)p)->d, 2);
    amx_split(at, w);
}

typedef void (*amx_unpack_fn)(const struct amx_panel *pn, const uint8_t *block, uint32_t r, int8_t *at);

/* What unpacking left of a block's heads, for all rows at once: b of the row, d for place k. */
VEC void amx_heads(const struct amx_panel *pn, float *mins, uint32_t b, uint32_t k, const bool has_mins) {
    for (uint32_t r = 0; r < PANEL; r += 16) {
        vf_store(pn->d[k] + r, vf_load_f16(pn->halves + r));
        if (has_mins) {
            vf dmin = vf_load_f16(pn->halves + PANEL + r);
            __m512i lo = _mm512_loadu_si512(pn->mn + r);
            __m512i hi = _mm512_loadu_si512(pn->mn + r + 8);
            for (uint32_t j = 0; j < 8; j++) {
                __m512i m = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi64_epi32(lo)), _mm512_cvtepi64_epi32(hi), 1);
                m = _mm512_and_si512(m, _mm512_set1_epi32(255));
                vf_store(mins + (size_t)(8 * b + j) * PANEL + r, vf_mul(vi_to_f(m), dmin));
                lo = _mm512_srli_epi64(lo, 8);
                hi = _mm512_srli_epi64(hi, 8);
            }
        }
    }
}

/* Unpacking of a block, a share at a time. */
struct amx_next {
    const uint8_t *block; /* of the first row */
    size_t row_bytes, block_bytes;
    int8_t *w;
    uint32_t rows, r; /* r are done */
    uint32_t due, pace; /* rows that should be, in 1/65536, and how many more after a step */
};

VEC void amx_unpack_to(const struct amx_panel *pn, struct amx_next *next, uint32_t want, amx_unpack_fn unpack) {
    uint32_t r = next->r;
    for (; r < want && r < next->rows; r++) {
        const uint8_t *p = next->block + r * next->row_bytes;
        for (uint32_t c = 0; c < next->block_bytes; c += 64) {
            VEC_PREFETCH(p + PANEL * next->row_bytes + c);
        }
        unpack(pn, p, r, next->w + (size_t)(r / 16) * AMX_BLOCK + r % 16 * 64);
    }
    next->r = r;
}

/* ---- Finishing a panel ---- */

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

/* What is left to do of a panel whose tile products are through: minima and results, in jobs that fit between the tile products of the
 * next panel. A job is a lane of 16 rows and one pack; with a pack's last it is put. */
struct amx_tail {
    const struct mm *m;
    const float *mins, *sums; /* sums: of the first pack */
    float *acc, *wait;
    size_t pack_bytes;
    uint32_t stride, row, rows, i0, n;
    uint32_t at, end; /* jobs done, all: [pack][half of the rows][lane] */
    uint32_t due, pace; /* jobs that should be, in 1/65536, and how many more after a step */
};

/* Lanes are chains here, added in the written tree (i + 8, i + 4, i + 2, i + 1) as soon as both sides are there. */
KERNEL void amx_tail_job(struct amx_tail *tail) {
    static const uint8_t order[16] = {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15};
    enum { R = 16 };
    const uint32_t i = tail->at % 16;
    const uint32_t row = tail->at & 16;
    const uint32_t g = tail->at / 32;
    const float *sums = (const float *)(const void *)((const char *)tail->sums + g * tail->pack_bytes);
    float *acc = tail->acc + ((size_t)g * PANEL + row) * 16;
    float *wait = tail->wait;
    vf part[R];
    for (int r = 0; r < R; r++) {
        part[r] = vf_zero();
    }
    for (uint32_t s = order[i]; s < tail->stride; s += 16) {
        const float *mins = tail->mins + (size_t)s * PANEL + row;
        vf x = vf_load(sums + 16 * (size_t)s);
        for (int r = 0; r < R; r++) {
            part[r] = vf_fma(vf_set1(mins[r]), x, part[r]);
        }
    }
    for (uint32_t more = i; more & 1; more >>= 1, wait += 16 * R) {
        for (int r = 0; r < R; r++) {
            part[r] = vf_add(vf_load(wait + 16 * r), part[r]);
        }
    }
    for (int r = 0; r < R; r++) {
        if (i < 15) {
            vf_store(wait + 16 * r, part[r]);
        } else {
            vf_store(acc + 16 * r, vf_sub(vf_load(acc + 16 * r), part[r]));
        }
    }
    tail->at++;
    if (tail->at % 32 == 0) {
        uint32_t left = tail->n - 16 * g;
        amx_put(tail->m, acc - 16 * 16, tail->row, tail->rows, tail->i0 + 16 * g, left < 16 ? left : 16);
    }
}

VEC void amx_tail_to(struct amx_tail *tail, uint32_t want) {
    while (tail->at < want && tail->at < tail->end) {
        amx_tail_job(tail);
    }
}

/* ---- Tiles ---- */

/* Where the float step of the stored sums of 32 rows x 2 packs goes; d NULL: there is none. */
struct amx_done {
    const float *d;
    const float *scale[2];
    float *acc[2]; /* the second NULL: one pack */
};

/* The float step of n rows from `row` on, within 16, of one pack: acc += sum * (d * scale). */
VEC void amx_fold(const int32_t *sums, const struct amx_done *x, uint32_t pack, uint32_t row, const int n, const bool merged) {
    const int32_t *from = sums + (2 * (row / 16) + pack) * (AMX_TILE / 4) + row % 16 * 16;
    vf scale = vf_load(x->scale[pack]);
    float *acc = x->acc[pack] + 16 * row;
    const float *d = x->d + row;
    for (int r = 0; r < n; r++) {
        __m512i high = _mm512_load_si512(from + 16 * r); /* merged: 64 wh ah + k; else 4 wh ah, and k beside it */
        __m512i low = _mm512_load_si512(from + 16 * r + AMX_TILE);
        if (!merged) {
            high = _mm512_add_epi32(_mm512_slli_epi32(high, 4), low);
            low = _mm512_load_si512(from + 16 * r + 2 * AMX_TILE);
        }
        __m512i all = _mm512_add_epi32(_mm512_slli_epi32(_mm512_sub_epi32(high, low), 6), high);
        vf p = vf_mul(vi_to_f(all), vf_mul(vf_set1(d[r]), scale));
        vf_store(acc + 16 * r, vf_add(vf_load(acc + 16 * r), p));
    }
}

#define AMX_ZERO()                                                                                                     \
    _tile_zero(0);                                                                                                     \
    _tile_zero(1);                                                                                                     \
    _tile_zero(2);                                                                                                     \
    _tile_zero(3)
#define AMX_DOT(c, a, b)                                                                                               \
    if (merged) {                                                                                                      \
        _tile_dpbusd(c, a, b);                                                                                         \
    } else {                                                                                                           \
        _tile_dpbssd(c, a, b);                                                                                         \
    }
/* tmm0-3 += a step of the panel x a step of N packs; the pointers move on to the next. Loops stay rolled so that tiles are addressed
 * by three registers. */
#define AMX_STEP()                                                                                                     \
    _tile_loadd(4, w, 64);                                                                                             \
    _tile_loadd(6, x0, 64);                                                                                            \
    if (N == 2) {                                                                                                      \
        _tile_loadd(7, x1, 64);                                                                                        \
    }                                                                                                                  \
    _tile_loadd(5, w + AMX_BLOCK, 64);                                                                                 \
    AMX_DOT(0, 4, 6)                                                                                                   \
    if (N == 2) {                                                                                                      \
        AMX_DOT(1, 4, 7)                                                                                               \
    }                                                                                                                  \
    AMX_DOT(2, 5, 6)                                                                                                   \
    if (N == 2) {                                                                                                      \
        AMX_DOT(3, 5, 7)                                                                                               \
    }                                                                                                                  \
    w += AMX_TILE;                                                                                                     \
    x0 += AMX_TILE;                                                                                                    \
    x1 += AMX_TILE;
#define AMX_STORE(p)                                                                                                   \
    _tile_stored(0, sums + (p) * AMX_TILE, 64);                                                                        \
    _tile_stored(2, sums + (p) * AMX_TILE + 2 * (AMX_TILE / 4), 64);                                                   \
    if (N == 2) {                                                                                                      \
        _tile_stored(1, sums + (p) * AMX_TILE + AMX_TILE / 4, 64);                                                     \
        _tile_stored(3, sums + (p) * AMX_TILE + 3 * (AMX_TILE / 4), 64);                                               \
    }

VEC void amx_between(const struct amx_panel *pn, struct amx_next *next, struct amx_tail *tail, amx_unpack_fn unpack) {
    next->due += next->pace;
    amx_unpack_to(pn, next, next->due >> 16, unpack);
    tail->due += tail->pace;
    amx_tail_to(tail, tail->due >> 16);
}

/* A block at w against N packs. Between the products: the float step of the packs before, if any, which is through with `sums` when
 * the first accumulators are stored there, and shares of unpacking the next block and of finishing the panel before. */
VEC void amx_tiles(const struct amx_panel *pn, const int8_t *w, const uint8_t *x0, const uint8_t *x1, const struct amx_done *last,
                   struct amx_next *next, struct amx_tail *tail, const int N, amx_unpack_fn unpack, const bool merged) {
    int32_t *sums = pn->sums;
    const uint32_t first = merged ? 2 * AMX_STEPS : AMX_STEPS;
    const uint32_t rows = 2 * PANEL / first;
    __asm__ volatile("" ::: "memory"); /* tile loads and stores are memory accesses that the compiler does not know of */
    AMX_ZERO();
#pragma GCC unroll 1
    for (uint32_t s = 0; s < first; s++) {
        AMX_STEP()
        uint32_t pack = s * rows / PANEL;
        if (last->d && last->acc[pack]) {
            amx_fold(sums, last, pack, s * rows % PANEL, (int)rows, merged);
        }
        amx_between(pn, next, tail, unpack);
    }
    __asm__ volatile("" ::: "memory");
    AMX_STORE(0)
    AMX_ZERO();
#pragma GCC unroll 1
    for (uint32_t s = first; s < AMX_PLANES * AMX_STEPS; s++) {
        if (!merged && s == 2 * AMX_STEPS) {
            AMX_STORE(1)
            AMX_ZERO();
        }
        AMX_STEP()
        amx_between(pn, next, tail, unpack);
    }
    AMX_STORE(merged ? 1 : 2)
    __asm__ volatile("" ::: "memory");
}

/* Block b, at place k, against all packs, two at a time; then the next block is unpacked. `last` is left for the next call. */
VEC void amx_block(const struct amx_panel *pn, uint32_t k, const uint8_t *packs, uint32_t n_packs, uint32_t n_cols, uint32_t b,
                   float *acc, struct amx_done *last, struct amx_next *next, struct amx_tail *tail, amx_unpack_fn unpack,
                   const bool merged) {
    const size_t pack_bytes = kernels_pack_bytes(n_cols);
    const uint8_t *scales = packs + (size_t)AMX_PLANES * KERNELS_PACK * n_cols + 16 * sizeof(float) * b;
    const uint8_t *columns = packs + (size_t)b * AMX_BLOCK;
    next->pace = (next->rows << 16) / (AMX_PLANES * AMX_STEPS * ((n_packs + 1) / 2)) + 1;
    for (uint32_t g = 0; g < n_packs; g += 2) {
        const uint8_t *x = columns + g * pack_bytes;
        struct amx_done done = {.d = pn->d[k]};
        for (uint32_t p = 0; p < 2 && g + p < n_packs; p++) {
            done.scale[p] = (const float *)(const void *)(scales + (g + p) * pack_bytes);
            done.acc[p] = acc + (size_t)(g + p) * PANEL * 16;
        }
        if (g + 1 < n_packs) {
            amx_tiles(pn, pn->w[k], x, x + pack_bytes, last, next, tail, 2, unpack, merged);
        } else {
            amx_tiles(pn, pn->w[k], x, x, last, next, tail, 1, unpack, merged);
        }
        *last = done;
    }
    amx_unpack_to(pn, next, next->rows, unpack);
}

/* Rows [row0, row1) against tokens [i0, i0 + n), n <= KERNELS_PASS. */
VEC void amx_pass(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0, uint32_t n, amx_unpack_fn unpack,
                  const size_t block_bytes, const bool has_mins, const bool merged) {
    const uint32_t n_blocks = m->n_cols / QK;
    const uint32_t stride = acts_sums_stride(m->n_cols);
    const uint32_t n_packs = (n + 15) / 16;
    const size_t pack_bytes = kernels_pack_bytes(m->n_cols);
    const uint8_t *packs = m->packs + i0 / 16 * pack_bytes;
    struct amx_panel pn = amx_panel_at(scratch, stride);
    tiles_configure();
    for (int i = 0; i < 2 && has_mins; i++) { /* sub-blocks that pad the row to 16 */
        memset(pn.mins[i] + (size_t)8 * n_blocks * PANEL, 0, (size_t)(stride - 8 * n_blocks) * PANEL * sizeof(float));
    }
    struct amx_next next = {.row_bytes = m->row_bytes, .block_bytes = block_bytes, .w = pn.w[0], .block = m->w + row0 * m->row_bytes};
    next.rows = row1 - row0 < PANEL ? row1 - row0 : PANEL;
    amx_unpack_to(&pn, &next, next.rows, unpack);
    struct amx_tail tail = {.end = 0};
    const uint32_t pace = (32 * n_packs << 16) / (AMX_PLANES * AMX_STEPS * n_blocks * ((n_packs + 1) / 2)) + 1;
    uint32_t k = 0;
    uint32_t odd = 0;
    for (uint32_t row = row0; row < row1; row += PANEL, odd ^= 1) {
        uint32_t rows = row1 - row < PANEL ? row1 - row : PANEL;
        struct amx_done last = {.d = NULL};
        memset(pn.acc[odd], 0, (size_t)n_packs * 16 * PANEL * sizeof(float));
        for (uint32_t b = 0; b < n_blocks; b++, k ^= 1) {
            amx_heads(&pn, pn.mins[odd], b, k, has_mins);
            uint32_t then = b + 1 < n_blocks ? row : row + PANEL;
            next.block = m->w + then * m->row_bytes + (b + 1 < n_blocks ? b + 1 : 0) * block_bytes;
            next.w = pn.w[k ^ 1];
            next.rows = then >= row1 ? 0 : row1 - then < PANEL ? row1 - then : PANEL;
            next.r = next.due = 0;
            amx_block(&pn, k, packs, n_packs, m->n_cols, b, pn.acc[odd], &last, &next, &tail, unpack, merged);
        }
        for (uint32_t p = 0; p < 2 && last.acc[p]; p++) {
            amx_fold(pn.sums, &last, p, 0, 16, merged);
            amx_fold(pn.sums, &last, p, 16, 16, merged);
        }
        amx_tail_to(&tail, tail.end);
        tail = (struct amx_tail){.m = m, .mins = pn.mins[odd], .acc = pn.acc[odd], .wait = pn.wait, .pack_bytes = pack_bytes, .stride = stride,
                                 .row = row, .rows = rows, .i0 = i0, .n = n, .pace = pace};
        tail.sums = (const float *)(const void *)(packs + KERNELS_PACK * (AMX_PLANES * (size_t)m->n_cols + n_blocks * sizeof(float)));
        if (has_mins) {
            tail.end = 32 * n_packs;
        } else {
            for (uint32_t g = 0; g < n_packs; g++) {
                amx_put(m, pn.acc[odd] + (size_t)g * PANEL * 16, row, rows, i0 + 16 * g, n - 16 * g < 16 ? n - 16 * g : 16);
            }
        }
    }
    amx_tail_to(&tail, tail.end);
    _tile_release(); /* so that a context switch need not save tiles */
}

/* ---- Packs ---- */

/* The planes of 64 columns of a token: 4 ah, ah + al, al. */
VEC void amx_pack_planes(const int16_t *q, __m512i planes[AMX_PLANES]) {
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    __m512i hi[2];
    __m512i lo[2];
    for (int i = 0; i < 2; i++) {
        __m512i a = _mm512_loadu_si512(q + 32 * i);
        hi[i] = _mm512_mulhrs_epi16(a, _mm512_set1_epi16(32768 / AMX_BASE));
        lo[i] = _mm512_sub_epi16(a, _mm512_mullo_epi16(hi[i], _mm512_set1_epi16(AMX_BASE)));
        hi[i] = _mm512_slli_epi16(hi[i], 2);
    }
    planes[0] = _mm512_permutexvar_epi64(order, _mm512_packs_epi16(hi[0], hi[1]));
    planes[2] = _mm512_permutexvar_epi64(order, _mm512_packs_epi16(lo[0], lo[1]));
    __m512i h = _mm512_packs_epi16(_mm512_srai_epi16(hi[0], 2), _mm512_srai_epi16(hi[1], 2));
    planes[1] = _mm512_add_epi8(_mm512_permutexvar_epi64(order, h), planes[2]);
}

static void amx_pack(const struct acts *x, const uint32_t *src, uint32_t first, uint32_t n, uint8_t *pack) {
    const uint32_t n_cols = x->n_cols;
    const uint32_t n_blocks = n_cols / QK;
    const uint32_t stride = acts_sums_stride(n_cols);
    size_t at[16] = {0};
    for (uint32_t t = 0; t < n; t++) {
        at[t] = src ? src[t] : first + t;
    }
    for (uint32_t c = 0; c < n_cols; c += 64) {
        uint8_t *to = pack + (size_t)c / QK * AMX_BLOCK + (size_t)c % QK / 64 * AMX_TILE;
        __m512i planes[AMX_PLANES][16];
        for (uint32_t t = 0; t < 16; t++) {
            __m512i one[AMX_PLANES] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
            if (t < n) {
                amx_pack_planes(x->q + at[t] * n_cols + c, one);
            }
            for (int p = 0; p < AMX_PLANES; p++) {
                planes[p][t] = one[p];
            }
        }
        for (int p = 0; p < AMX_PLANES; p++) {
            amx_transpose(planes[p]);
            for (int i = 0; i < 16; i++) {
                _mm512_store_si512(to + p * AMX_STEPS * AMX_TILE + 64 * i, planes[p][i]);
            }
        }
    }
    float *scales = (float *)(void *)(pack + (size_t)AMX_PLANES * KERNELS_PACK * n_cols);
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
