/*
 * Products of strips with many tokens, part of kernels.inc.h: four strips of one block become int16 (scale * quant) in
 * the first-level cache and meet tiles of tokens, pairs of columns at a time.
 */

enum {
    PANEL_STRIPS = PANEL / STRIP_ROWS,
    /* elements from strip to strip: 32 more than a block has, so that strips do not meet in one set of the cache */
    PANEL_PAIRS = QK / 2 * STRIP_ROWS * 2 + 32,
    PANEL_MINS = 8 * STRIP_ROWS * 2,
};

/* A panel in scratch: PANEL rows of one block, and its sums over all blocks so far. */
struct panel {
    int16_t *w;      /* [PANEL_STRIPS][QK / 2] pairs of columns of 16 rows, scale * quant, in act_block.a's order */
    int16_t *mins;   /* [PANEL_STRIPS][8] m twice, of 16 rows */
    float *d, *dmin; /* [PANEL] */
    float *acc;      /* [KERNELS_PASS][PANEL] */
};

VEC struct panel panel_at(void *scratch) {
    struct panel p;
    p.w = scratch;
    p.mins = p.w + PANEL_STRIPS * PANEL_PAIRS;
    p.d = (float *)(void *)(p.mins + PANEL_STRIPS * PANEL_MINS);
    p.dmin = p.d + PANEL;
    p.acc = p.dmin + PANEL;
    return p;
}

/* Block b of strip s of the panel. */
VEC void panel_unpack(const struct panel *pn, uint32_t s, const uint8_t *strip, uint32_t b, const struct k_type type) {
    for (int part = 0; part < PARTS; part++) {
        const uint8_t *block = strip + (size_t)b * type.words * STRIP_LINE + part * PART_BYTES;
        struct k_heads heads = k_heads_of(block, type);
        int16_t *w = pn->w + (size_t)s * PANEL_PAIRS + part * 2 * LANES;
        const int groups = type.width / 4;
        const int steps = QK / (2 * type.width);
        UNROLL for (int step = 0; step < steps; step++) {
            UNROLL for (int p = 0; p < 2; p++) {
                const int c = type.column(step, p);
                const int i = c / type.width;
                kp scale = type.has_mins ? k_twice_u(heads.scale[i / 4], i % 4) : k_twice_s(heads.scale[i / 4], i % 4);
                for (int g = 0; g < groups; g++) {
                    kb q = type.quants(block, step, g).q[p];
                    kp even = k_even(q);
                    kp odd = k_odd(q);
                    if (!type.has_mins) {
                        even = k_sub(even, k_pair_of(32, 32));
                        odd = k_sub(odd, k_pair_of(32, 32));
                    }
                    int16_t *to = w + (size_t)(c / 4 + g) * 2 * (2 * STRIP_ROWS);
                    k_pair_store(to, k_mul(even, scale));
                    k_pair_store(to + 2 * STRIP_ROWS, k_mul(odd, scale));
                }
            }
        }
        uint32_t row = s * STRIP_ROWS + (uint32_t)part * LANES;
        kf_store(pn->d + row, kf_low_half(k_word(block, type.d)));
        if (type.has_mins) {
            kf_store(pn->dmin + row, kf_high_half(k_word(block, type.d)));
            UNROLL for (int j = 0; j < 8; j++) {
                k_pair_store(pn->mins + (size_t)s * PANEL_MINS + j * 2 * STRIP_ROWS + part * 2 * LANES,
                             k_twice_u(heads.min[j / 4], j % 4));
            }
        }
    }
}

/* One block of R registers of rows, from strip s on, against T tokens. */
VEC void k_tile(const struct panel *pn, uint32_t s, const struct act_block *const *a, float *acc, const int R,
                const int T) {
    ki sum[TILE_T][TILE_R];
    UNROLL for (int t = 0; t < T; t++) {
        UNROLL for (int r = 0; r < R; r++) {
            sum[t][r] = ki_zero();
        }
    }
    const int16_t *w = pn->w + (size_t)s * PANEL_PAIRS;
    _Pragma("GCC unroll 1") for (int c = 0; c < QK / 2; c++) {
        kp row[TILE_R];
        UNROLL for (int r = 0; r < R; r++) {
            row[r] = k_pair_load(w + (size_t)(r / PARTS) * PANEL_PAIRS + c * 2 * STRIP_ROWS + r % PARTS * 2 * LANES);
        }
        UNROLL for (int t = 0; t < T; t++) {
            kp x = k_both(a[t]->a + 2 * c);
            UNROLL for (int r = 0; r < R; r++) {
                sum[t][r] = ki_dot(sum[t][r], row[r], x);
            }
        }
    }
    UNROLL for (int r = 0; r < R; r++) {
        const uint32_t row = s * STRIP_ROWS + (uint32_t)r * LANES;
        kf d = kf_load(pn->d + row);
        UNROLL for (int t = 0; t < T; t++) {
            float *at = acc + (size_t)t * PANEL + row;
            kf_store(at, kf_fma(kf_int(sum[t][r]), kf_mul(d, kf_set1(a[t]->scale)), kf_load(at)));
        }
    }
}

/* The minima's part of the same. */
VEC void k_tile_mins(const struct panel *pn, uint32_t s, const struct act_block *const *a, float *acc, const int R,
                     const int T) {
    UNROLL for (int r = 0; r < R; r++) {
        const uint32_t row = s * STRIP_ROWS + (uint32_t)r * LANES;
        const int16_t *mins = pn->mins + (s + (size_t)(r / PARTS)) * PANEL_MINS + r % PARTS * 2 * LANES;
        ki sum[TILE_T];
        UNROLL for (int t = 0; t < T; t++) {
            sum[t] = ki_zero();
        }
        UNROLL for (int j = 0; j < 8; j++) {
            kp min = k_pair_load(mins + j * 2 * STRIP_ROWS);
            UNROLL for (int t = 0; t < T; t++) {
                sum[t] = ki_dot_at(sum[t], min, a[t]->halves + 2 * j);
            }
        }
        kf dmin = kf_load(pn->dmin + row);
        UNROLL for (int t = 0; t < T; t++) {
            float *at = acc + (size_t)t * PANEL + row;
            kf_store(at, kf_less(kf_int(sum[t]), kf_mul(dmin, kf_set1(a[t]->scale)), kf_load(at)));
        }
    }
}

typedef void (*tile_fn)(const struct panel *pn, uint32_t strips, const struct act_block *const *a, float *acc);

/* T tokens against the panel's strips. */
#define TILES(name, tile, T)                                                                                           \
    KERNEL void name##_##T(const struct panel *pn, uint32_t strips, const struct act_block *const *a, float *acc) {    \
        uint32_t s = 0;                                                                                                \
        for (; s + TILE_R / PARTS <= strips; s += TILE_R / PARTS) {                                                    \
            tile(pn, s, a, acc, TILE_R, T);                                                                            \
        }                                                                                                              \
        for (; s < strips; s++) {                                                                                      \
            tile(pn, s, a, acc, PARTS, T);                                                                             \
        }                                                                                                              \
    }
// clang-format off
#if TILE_T == 6
#define TILES_ALL(name, tile)                                                                                          \
    TILES(name, tile, 1) TILES(name, tile, 2) TILES(name, tile, 3)                                                     \
    TILES(name, tile, 4) TILES(name, tile, 5) TILES(name, tile, 6)                                                     \
    static const tile_fn name[] = {NULL, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6};
#elif TILE_T == 5
#define TILES_ALL(name, tile)                                                                                          \
    TILES(name, tile, 1) TILES(name, tile, 2) TILES(name, tile, 3) TILES(name, tile, 4) TILES(name, tile, 5)           \
    static const tile_fn name[] = {NULL, name##_1, name##_2, name##_3, name##_4, name##_5};
#else
#define TILES_ALL(name, tile)                                                                                          \
    TILES(name, tile, 1) TILES(name, tile, 2)                                                                          \
    static const tile_fn name[] = {NULL, name##_1, name##_2};
#endif
// clang-format on
TILES_ALL(tiles, k_tile)
TILES_ALL(tiles_mins, k_tile_mins)

/* Block b of the panel against tokens [i0, i0 + n). */
static void panel_block(const struct mm *m, const struct panel *pn, uint32_t b, uint32_t strips, uint32_t i0,
                        uint32_t n, bool has_mins) {
    const uint32_t n_blocks = m->n_cols / QK;
    for (uint32_t i = 0; i < n; i += TILE_T) {
        uint32_t T = n - i < TILE_T ? n - i : TILE_T;
        const struct act_block *a[TILE_T];
        for (uint32_t t = 0; t < T; t++) {
            a[t] = m->x->blocks + (size_t)src_row(m, i0 + i + t) * n_blocks + b;
        }
        /* the next tokens' are not where hardware looks */
        for (uint32_t t = 0; t < TILE_T && i + TILE_T + t < n; t++) {
            const struct act_block *next = m->x->blocks + (size_t)src_row(m, i0 + i + TILE_T + t) * n_blocks + b;
            for (int c = 0; c < QK; c += 32) {
                VEC_PREFETCH(next->a + c);
            }
        }
        float *acc = pn->acc + (size_t)i * PANEL;
        tiles[T](pn, strips, a, acc);
        if (has_mins) {
            tiles_mins[T](pn, strips, a, acc);
        }
    }
}

typedef void (*unpack_fn)(const struct panel *pn, uint32_t s, const uint8_t *strip, uint32_t b);

/* Rows [row0, row1) against tokens [i0, i0 + n), n <= KERNELS_PASS. */
static void k_pass(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0, uint32_t n,
                   unpack_fn unpack, bool has_mins) {
    const struct panel pn = panel_at(scratch);
    const uint32_t n_blocks = m->n_cols / QK;
    const size_t bytes = strip_bytes(m->type, m->n_cols);
    const size_t block_bytes = strip_words(m->type) * (size_t)STRIP_LINE;
    for (uint32_t row = row0; row < row1; row += PANEL) {
        const uint8_t *first = m->w + row / STRIP_ROWS * bytes;
        uint32_t rows = row1 - row < PANEL ? row1 - row : PANEL;
        uint32_t strips = (rows + STRIP_ROWS - 1) / STRIP_ROWS;
        memset(pn.acc, 0, (size_t)n * PANEL * sizeof(float));
        for (uint32_t b = 0; b < n_blocks; b++) {
            for (uint32_t s = 0; s < strips; s++) {
                const uint8_t *strip = first + s * bytes;
                for (size_t c = 0; c < block_bytes; c += STRIP_LINE) { /* the same block of the next panel */
                    VEC_PREFETCH(strip + b * block_bytes + PANEL_STRIPS * bytes + c);
                }
                unpack(&pn, s, strip, b);
            }
            panel_block(m, &pn, b, strips, i0, n, has_mins);
        }
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t r = 0; r < rows; r += LANES) {
                put_rows(m, i0 + i, row + r, row + rows, kf_load(pn.acc + (size_t)i * PANEL + r));
            }
        }
    }
}

#if defined(__AMX_INT8__)
#include "backend/cpu/kamx.inc.h"
#define K_TILES(type)                                                                                                  \
    if (m->packs && m->n >= KERNELS_PACK_MIN) {                                                                        \
        amx_##type(m, row0, row1, scratch, i0, n);                                                                     \
        return;                                                                                                        \
    }
#else
#define K_TILES(type)
#endif

/* Rows [row0, row1) against tokens [i0, i0 + n), n <= KERNELS_PASS. */
#define K_MANY(type)                                                                                                   \
    KERNEL void unpack_##type(const struct panel *pn, uint32_t s, const uint8_t *strip, uint32_t b) {                  \
        panel_unpack(pn, s, strip, b, K_TYPE_##type);                                                                  \
    }                                                                                                                  \
    static void many_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0,              \
                            uint32_t n) {                                                                              \
        K_TILES(type)                                                                                                  \
        k_pass(m, row0, row1, scratch, i0, n, unpack_##type, K_TYPE_##type.has_mins);                                  \
    }
