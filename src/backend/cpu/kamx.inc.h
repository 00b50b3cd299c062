// clang-format off
/*
 * Products of K-quants on AMX tiles, part of kpanels.inc.h: two strips of a block against packs of 16 tokens. Tokens
 * are the first operand and rows the second, whose tiles hold words of 16 rows side by side, just as strips do; a
 * result is [token][row]. Weights w (scale * quant) and activations are two bytes each, a = 16 ah + al, 0 <= al < 16:
 *   Q4_K, Q5_K   w = 16 wh + wl,  0 <= wh <= 108,   0 <= wl <= 225
 *                w a = 256 wh ah + 16 (wl ah + wh al) + wl al
 *   Q6_K         w = 256 wh + wl, -16 <= wh <= 16,  0 <= wl <= 255
 *                w a = 4096 wh ah + 16 (wl ah + wh (16 al)) + wl (16 al) / 16
 * with the middle two in one accumulator. Sums over a block are exact, so the result is that of every other form.
 * Four bits of a quant times four of a scale are a byte: so a product in 16 bits of two quants side by side makes the
 * bytes of two weights at once, which need not be taken apart before nor put together after.
 *
 * A unit is one block of two strips against two packs, 64 tile products in four passes, the two mixed ones first. An
 * accumulator is stored between the first products of the pass that reuses it, so that others go on meanwhile. The
 * float steps of a unit stand between the products of the next, where its sums are still in the first-level cache:
 * that of S within the mixed passes, before anything it reads is stored anew, that of M, which needs no tiles, within
 * the others. The vector units have as much to do as the tiles, so that each step of a pass gets its share of it.
 */

#include "backend/cpu/tiles.h"

enum { AMX_TILE = 1024, AMX_SUMS = AMX_TILE / 4, AMX_STEPS = QK / 64, AMX_LOW = 0, AMX_HIGH = 1, AMX_PLANES = 2 };
enum { AMX_STRIPS = 2, AMX_ROWS = AMX_STRIPS * STRIP_ROWS };

/* What the float steps need of a strip's block. */
struct amx_heads {
    float d[STRIP_ROWS], dmin[STRIP_ROWS];
    uint8_t min[2][STRIP_LINE];       /* m of sub-block i in byte i % 4 of a row's word i / 4 */
    int16_t twice[4][2 * STRIP_ROWS]; /* 2 m of sub-blocks 2 i and 2 i + 1 of each row */
};

/* What a panel holds in scratch. */
struct amx_panel {
    uint8_t w[AMX_STRIPS][AMX_PLANES][QK / 4][STRIP_LINE]; /* tiles of 16 words each */
    int32_t mixed[4][AMX_SUMS], high[4][AMX_SUMS], low[4][AMX_SUMS]; /* [pack, strip][token][row] */
    struct amx_heads heads[2][AMX_STRIPS]; /* of blocks in turn */
    float acc[KERNELS_PASS / KERNELS_PACK][AMX_STRIPS][KERNELS_PACK][STRIP_ROWS];
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct amx_panel) <= sizeof(float) * KERNELS_PASS * PANEL, "fits where a panel's sums do");

/* ---- Unpacking a strip's block to its planes ---- */

typedef uint8_t amx_planes[AMX_PLANES][QK / 4][STRIP_LINE];
typedef void (*amx_unpack_fn)(const uint8_t *block, amx_planes w, struct amx_heads *heads);

/* bytes 2 i and 2 i + 1 of each row as int16 */
VEC kp amx_two_u(kb v, const int i) {
    const __m512i at = _mm512_set4_epi32(0x000D000C, 0x00090008, 0x00050004, 0x00010000);
    return _mm512_maskz_shuffle_epi8(0x5555555555555555, v, _mm512_add_epi8(at, _mm512_set1_epi8((char)(2 * i))));
}
/* byte i of each row four times */
VEC kb amx_four(kb v, const int i) {
    const __m512i at = _mm512_set4_epi32(0x0C0C0C0C, 0x08080808, 0x04040404, 0);
    return _mm512_shuffle_epi8(v, _mm512_add_epi8(at, _mm512_set1_epi8((char)i)));
}
VEC void amx_store(amx_planes w, int word, kb low, kb high) {
    _mm512_store_si512(w[AMX_LOW][word], low);
    _mm512_store_si512(w[AMX_HIGH][word], high);
}

/* Q4_K and Q5_K: four bits of a quant meet both parts of the scale; the fifth adds the scale to the upper byte. */
VEC void amx_unpack_mins(const uint8_t *block, amx_planes w, struct amx_heads *out, const bool fifth) {
    const struct k_heads heads = k_heads_of(block, K_TYPE_q4_k);
    const uint8_t *fours = block + (fifth ? Q5_K_QS - Q4_K_QS : 0) * STRIP_LINE;
    kb part[AMX_PLANES][2]; /* of the scales */
    UNROLL for (int i = 0; i < 2; i++) {
        part[AMX_LOW][i] = k_and(heads.scale[i], k_byte(15));
        part[AMX_HIGH][i] = k_and(k_shift(heads.scale[i], -4), k_byte(3));
        k_pair_store(out->twice[2 * i], amx_two_u(k_shift(heads.min[i], 1), 0));
        k_pair_store(out->twice[2 * i + 1], amx_two_u(k_shift(heads.min[i], 1), 1));
        _mm512_store_si512(out->min[i], heads.min[i]);
    }
    kf_store(out->d, kf_low_half(k_word(block, Q4_K_D)));
    kf_store(out->dmin, kf_high_half(k_word(block, Q4_K_D)));
    UNROLL for (int step = 0; step < 4; step++) {
        kp by[2][AMX_PLANES];
        kb whole[2];
        UNROLL for (int p = 0; p < 2; p++) {
            const int i = 2 * step + p;
            by[p][AMX_LOW] = k_twice_u(part[AMX_LOW][i / 4], i % 4);
            by[p][AMX_HIGH] = k_twice_u(part[AMX_HIGH][i / 4], i % 4);
            whole[p] = amx_four(heads.scale[i / 4], i % 4);
        }
        for (int g = 0; g < 8; g++) {
            const struct k_two q = quants_q4_k(fours, step, g);
            UNROLL for (int p = 0; p < 2; p++) {
                kb high = k_mul(q.q[p], by[p][AMX_HIGH]);
                if (fifth) {
                    __mmask64 set = _mm512_test_epi8_mask(k_byte(1 << (2 * step + p)), k_word(block, Q5_K_QH + g));
                    __asm__("vpaddb %2, %0, %0%{%1%}" : "+v"(high) : "Yk"(set), "v"(whole[p])); /* gcc copies it */
                }
                amx_store(w, 16 * step + 8 * p + g, k_mul(q.q[p], by[p][AMX_LOW]), high);
            }
        }
    }
}

KERNEL void amx_unpack_q4_k(const uint8_t *block, amx_planes w, struct amx_heads *heads) {
    amx_unpack_mins(block, w, heads, false);
}

KERNEL void amx_unpack_q5_k(const uint8_t *block, amx_planes w, struct amx_heads *heads) {
    amx_unpack_mins(block, w, heads, true);
}

/* Products of even and of odd columns in 16 bits, then their low bytes side by side and their upper ones. */
KERNEL void amx_unpack_q6_k(const uint8_t *block, amx_planes w, struct amx_heads *out) {
    const struct k_heads heads = k_heads_of(block, K_TYPE_q6_k);
    const __m512i swap = _mm512_set4_epi32(0x0E0F0C0D, 0x0A0B0809, 0x06070405, 0x02030001);
    kf_store(out->d, kf_low_half(k_word(block, Q6_K_D)));
    UNROLL for (int step = 0; step < 8; step++) {
        UNROLL for (int p = 0; p < 2; p++) {
            const int c = column_q6_k(step, p);
            const kb even = k_twice_u(heads.scale[c / 64], c / 16 % 4); /* the scale's byte before a 0 */
            const kb odd = k_shift(even, 8);
            const kp less = _mm512_srai_epi16(odd, 3); /* 32 scale */
            UNROLL for (int g = 0; g < 4; g++) {
                const kb q = quants_q6_k(block, step, g).q[p];
                kp e = k_sub(_mm512_maddubs_epi16(q, even), less);
                kp o = k_sub(_mm512_maddubs_epi16(q, odd), less);
                amx_store(w, c / 4 + g, _mm512_mask_shuffle_epi8(e, 0xAAAAAAAAAAAAAAAA, o, swap),
                          _mm512_mask_shuffle_epi8(o, 0x5555555555555555, e, swap));
            }
        }
    }
}

/* ---- Float steps ---- */

/* A unit whose products are done: its packs' block, the strips' heads and where it adds. */
struct amx_done {
    const struct act_pack *x[2];
    const struct amx_heads *heads; /* [AMX_STRIPS] */
    float *acc[2];                 /* NULL: there is none to do */
};

enum { AMX_PARTS = 8, AMX_PART = KERNELS_PACK / 2 /* tokens */ };

/* Part i of a unit is 16 rows and 8 tokens of one of its results. */
VEC size_t amx_pack_of(const size_t part) { return part / 4; }
VEC size_t amx_strip_of(const size_t part) { return part / 2 % 2; }
VEC size_t amx_token_of(const size_t part) { return part % 2 * AMX_PART; }
VEC float *amx_acc_of(const struct amx_done *u, const size_t part) {
    return u->acc[amx_pack_of(part)] + (amx_strip_of(part) * KERNELS_PACK + amx_token_of(part)) * STRIP_ROWS;
}

/* The float step of S: acc += S * (d * scale). */
VEC void amx_add_sums(const struct amx_panel *pn, const struct amx_done *u, const size_t part, const bool has_mins) {
    if (!u->acc[amx_pack_of(part)]) {
        return;
    }
    const kf d = kf_load(u->heads[amx_strip_of(part)].d);
    const float *scale = u->x[amx_pack_of(part)]->scale + amx_token_of(part);
    const int32_t *low = pn->low[0] + part * AMX_PART * STRIP_ROWS;
    const int32_t *high = pn->high[0] + part * AMX_PART * STRIP_ROWS;
    const int32_t *mixed = pn->mixed[0] + part * AMX_PART * STRIP_ROWS;
    float *acc = amx_acc_of(u, part);
    UNROLL for (int t = 0; t < AMX_PART; t++) {
        __m512i last = _mm512_load_si512(low + t * STRIP_ROWS);
        __m512i sum = _mm512_slli_epi32(_mm512_load_si512(high + t * STRIP_ROWS), has_mins ? 4 : 8);
        sum = _mm512_slli_epi32(_mm512_add_epi32(sum, _mm512_load_si512(mixed + t * STRIP_ROWS)), 4);
        sum = _mm512_add_epi32(sum, has_mins ? last : _mm512_srli_epi32(last, 4));
        float *to = acc + t * STRIP_ROWS;
        kf_store(to, kf_fma(kf_int(sum), kf_mul(d, kf_set1(scale[t])), kf_load(to)));
    }
}

/* The float step of M: acc -= M * (dmin * scale). Sums of 32 activations have 17 bits: all but the last meet 2 m. */
VEC void amx_less_mins(const struct amx_done *u, const size_t part) {
    if (!u->acc[amx_pack_of(part)]) {
        return;
    }
    const struct amx_heads *heads = u->heads + amx_strip_of(part);
    const struct act_pack *x = u->x[amx_pack_of(part)];
    const int16_t *halved = x->halved[amx_token_of(part)];
    const int8_t *last = x->last[amx_token_of(part)];
    const float *scale = x->scale + amx_token_of(part);
    float *acc = amx_acc_of(u, part);
    const kf dmin = kf_load(heads->dmin);
    ki sum[AMX_PART];
    UNROLL for (int t = 0; t < AMX_PART; t++) {
        sum[t] = ki_zero();
    }
    UNROLL for (int i = 0; i < 4; i++) {
        const kp twice = k_pair_load(heads->twice[i]);
        UNROLL for (int t = 0; t < AMX_PART; t++) {
            sum[t] = ki_dot_at(sum[t], twice, halved + t * (QK / 32) + 2 * i);
        }
    }
    UNROLL for (int i = 0; i < 2; i++) {
        const kb min = k_load(heads->min[i]);
        UNROLL for (int t = 0; t < AMX_PART; t++) {
            sum[t] = kd_dot(sum[t], min, last + t * (QK / 32) + 4 * i);
        }
    }
    UNROLL for (int t = 0; t < AMX_PART; t++) {
        float *to = acc + t * STRIP_ROWS;
        kf_store(to, kf_less(kf_int(sum[t]), kf_mul(dmin, kf_set1(scale[t])), kf_load(to)));
    }
}

/* ---- Tiles ---- */

/* Tile loads and stores are memory accesses that the compiler does not know of. */
#define AMX_BARRIER() __asm__ volatile("" ::: "memory")

/* Accumulator t goes to `out` and begins at 0, or goes on. */
#define AMX_OUT(t)                                                                                                     \
    _tile_stored(t, out[t], 64);                                                                                       \
    _tile_zero(t);
#define AMX_GO_ON(t)

/* tmm0-3 += 64 columns of one plane of N packs x one plane of two strips. BEFORE(t) precedes t's product; MID and END
 * are vector work beside them. */
#define AMX_STEP(PRODUCT, BEFORE, MID, END)                                                                            \
    _tile_loadd(6, w, 64);                                                                                             \
    _tile_loadd(4, a0, 64);                                                                                            \
    BEFORE(0)                                                                                                          \
    PRODUCT(0, 4, 6);                                                                                                  \
    _tile_loadd(7, w + sizeof(amx_planes), 64);                                                                        \
    BEFORE(1)                                                                                                          \
    PRODUCT(1, 4, 7);                                                                                                  \
    MID;                                                                                                               \
    if (N == 2) {                                                                                                      \
        _tile_loadd(5, a1, 64);                                                                                        \
    }                                                                                                                  \
    BEFORE(2)                                                                                                          \
    if (N == 2) {                                                                                                      \
        PRODUCT(2, 5, 6);                                                                                              \
    }                                                                                                                  \
    BEFORE(3)                                                                                                          \
    if (N == 2) {                                                                                                      \
        PRODUCT(3, 5, 7);                                                                                              \
    }                                                                                                                  \
    END;                                                                                                               \
    w += AMX_TILE;                                                                                                     \
    a0 += AMX_TILE;                                                                                                    \
    a1 += AMX_TILE
/* Steps from 1 on; the loop stays rolled, so that tiles are addressed by three registers that move on. */
#define AMX_STEPS_ON(PRODUCT, MID)                                                                                     \
    _Pragma("GCC unroll 1") for (size_t step = 1; step < AMX_STEPS; step++) {                                          \
        AMX_STEP(PRODUCT, AMX_GO_ON, MID, );                                                                           \
    }
#define AMX_PLANES_OF(weights, activations)                                                                            \
    w = pn->w[0][weights][0];                                                                                          \
    a0 = (const uint8_t *)x0->activations;                                                                             \
    a1 = (const uint8_t *)x1->activations
#define AMX_S(part) amx_add_sums(pn, last, part, has_mins)
#define AMX_M(part)                                                                                                    \
    if (has_mins) {                                                                                                    \
        amx_less_mins(last, part);                                                                                     \
    }

/* The panel's block against N packs; meanwhile the float steps of the unit before, whose last sums are stored first. */
VEC void amx_tiles(struct amx_panel *pn, const struct act_pack *x0, const struct act_pack *x1,
                   const struct amx_done *last, const int N, const bool has_mins) {
    const uint8_t *w;
    const uint8_t *a0;
    const uint8_t *a1;
    int32_t(*out)[AMX_SUMS] = pn->low;
    AMX_BARRIER();
    AMX_PLANES_OF(AMX_LOW, high);
    AMX_STEP(_tile_dpbsud, AMX_OUT, , );
    AMX_BARRIER();
    AMX_STEPS_ON(_tile_dpbsud, AMX_S(step - 1))
    AMX_PLANES_OF(AMX_HIGH, low);
    if (!has_mins) {
        a0 = (const uint8_t *)x0->low16;
        a1 = (const uint8_t *)x1->low16;
    }
    AMX_STEP(_tile_dpbusd, AMX_GO_ON, AMX_S(3), AMX_S(4));
    AMX_STEPS_ON(_tile_dpbusd, AMX_S(step + 4))
    AMX_BARRIER();
    out = pn->mixed;
    AMX_PLANES_OF(AMX_HIGH, high);
    AMX_STEP(_tile_dpbssd, AMX_OUT, AMX_M(0), );
    AMX_STEPS_ON(_tile_dpbssd, AMX_M(step))
    out = pn->high;
    AMX_PLANES_OF(AMX_LOW, low);
    if (!has_mins) {
        a0 = (const uint8_t *)x0->low16;
        a1 = (const uint8_t *)x1->low16;
    }
    AMX_STEP(_tile_dpbuud, AMX_OUT, AMX_M(4), );
    AMX_STEPS_ON(_tile_dpbuud, AMX_M(step + 4))
    AMX_BARRIER();
}

/* What the last unit of a panel has left to do. */
VEC void amx_drain(struct amx_panel *pn, const struct amx_done *last, const bool has_mins) {
    int32_t(*out)[AMX_SUMS] = pn->low;
    AMX_BARRIER();
    AMX_OUT(0)
    AMX_OUT(1)
    AMX_OUT(2)
    AMX_OUT(3)
    AMX_BARRIER();
    for (size_t part = 0; part < AMX_PARTS; part++) {
        AMX_S(part);
    }
    for (size_t part = 0; part < AMX_PARTS; part++) {
        AMX_M(part);
    }
}

/* Block b of all packs, two at a time, against the panel's. `last` is what the call before left to do, and what this
 * one leaves. */
VEC void amx_block(struct amx_panel *pn, const struct act_pack *packs, uint32_t n_packs, uint32_t n_blocks, uint32_t b,
                   struct amx_done *last, const bool has_mins) {
    for (uint32_t g = 0; g < n_packs; g += 2) {
        const bool both = g + 1 < n_packs;
        const struct act_pack *x0 = packs + (size_t)g * n_blocks + b;
        const struct act_pack *x1 = both ? x0 + n_blocks : x0;
        if (both) {
            amx_tiles(pn, x0, x1, last, 2, has_mins);
        } else {
            amx_tiles(pn, x0, x1, last, 1, has_mins);
        }
        *last = (struct amx_done){.x = {x0, x1},
                                  .heads = pn->heads[b & 1],
                                  .acc = {pn->acc[g][0][0], both ? pn->acc[g + 1][0][0] : NULL}};
    }
}

typedef void (*amx_block_fn)(struct amx_panel *pn, const struct act_pack *packs, uint32_t n_packs, uint32_t n_blocks,
                             uint32_t b, struct amx_done *last);

KERNEL void amx_block_mins(struct amx_panel *pn, const struct act_pack *packs, uint32_t n_packs, uint32_t n_blocks,
                           uint32_t b, struct amx_done *last) {
    amx_block(pn, packs, n_packs, n_blocks, b, last, true);
}

KERNEL void amx_block_plain(struct amx_panel *pn, const struct act_pack *packs, uint32_t n_packs, uint32_t n_blocks,
                            uint32_t b, struct amx_done *last) {
    amx_block(pn, packs, n_packs, n_blocks, b, last, false);
}

/* Rows [row0, row1) against tokens [i0, i0 + n), n <= KERNELS_PASS. */
static void amx_pass(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0, uint32_t n,
                     amx_unpack_fn unpack, const bool has_mins) {
    struct amx_panel *pn = scratch;
    const uint32_t n_blocks = m->n_cols / QK;
    const uint32_t n_packs = (n + KERNELS_PACK - 1) / KERNELS_PACK;
    const struct act_pack *packs = (const struct act_pack *)(const void *)m->packs;
    const size_t block_bytes = (size_t)strip_words(m->type) * STRIP_LINE;
    const size_t bytes = strip_bytes(m->type, m->n_cols);
    const amx_block_fn block = has_mins ? amx_block_mins : amx_block_plain;
    tiles_configure();
    for (uint32_t row = row0; row < row1; row += AMX_ROWS) {
        const uint8_t *first = m->w + row / STRIP_ROWS * bytes;
        const uint32_t rows = row1 - row < AMX_ROWS ? row1 - row : AMX_ROWS;
        struct amx_done last = {.heads = NULL};
        memset(pn->acc, 0, n_packs * sizeof pn->acc[0]);
        for (uint32_t b = 0; b < n_blocks; b++) {
            for (uint32_t s = 0; s < AMX_STRIPS; s++) {
                /* a strip that is not there: the other one again, whose results go nowhere */
                const uint8_t *at = first + (s * STRIP_ROWS < rows ? s * bytes : 0) + b * block_bytes;
                for (size_t c = 0; c < block_bytes; c += STRIP_LINE) { /* the next panel's; the first level is full */
                    _mm_prefetch((const char *)(at + AMX_STRIPS * bytes + c), _MM_HINT_T1);
                }
                unpack(at, pn->w[s], &pn->heads[b & 1][s]);
            }
            block(pn, packs + (size_t)i0 / KERNELS_PACK * n_blocks, n_packs, n_blocks, b, &last);
        }
        amx_drain(pn, &last, has_mins);
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t r = 0; r < rows; r += STRIP_ROWS) {
                const float *acc = pn->acc[i / KERNELS_PACK][r / STRIP_ROWS][i % KERNELS_PACK];
                put_rows(m, i0 + i, row + r, row + rows, kf_load(acc));
            }
        }
    }
    _tile_release(); /* so that a context switch need not save tiles */
}

#define AMX_PASS(type)                                                                                                 \
    static void amx_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0, uint32_t n) { \
        amx_pass(m, row0, row1, scratch, i0, n, amx_unpack_##type, K_TYPE_##type.has_mins);                            \
    }
AMX_PASS(q4_k)
AMX_PASS(q5_k)
AMX_PASS(q6_k)

/* ---- Packs ---- */

/* a = 64 hi + lo to a = 16 high + low */
VEC void amx_pack_block(const struct act_block *from, struct act_pack *to, uint32_t t) {
    UNROLL for (int i = 0; i < AMX_STEPS; i++) {
        const __m512i hi = _mm512_loadu_si512(from->hi + 64 * i);
        const __m512i lo = _mm512_loadu_si512(from->lo + 64 * i);
        _mm512_store_si512(to->high[i][t], k_and_or(k_shift(hi, 2), k_byte(0xFC), k_and(k_shift(lo, -4), k_byte(3))));
        _mm512_store_si512(to->low[i][t], k_and(lo, k_byte(15)));
        _mm512_store_si512(to->low16[i][t], k_and(k_shift(lo, 4), k_byte(0xF0)));
    }
    for (int s = 0; s < QK / 32; s++) {
        const int sum = from->halves[2 * s] + from->halves[2 * s + 1];
        to->halved[t][s] = (int16_t)(sum >> 1);
        to->last[t][s] = (int8_t)(sum & 1);
    }
    to->scale[t] = from->scale;
}

static void amx_pack(const struct acts *x, const uint32_t *src, uint32_t first, uint32_t n, uint8_t *pack) {
    static const struct act_block none;
    const uint32_t n_blocks = x->n_cols / QK;
    struct act_pack *to = (struct act_pack *)(void *)pack;
    for (uint32_t b = 0; b < n_blocks; b++) {
        for (uint32_t t = 0; t < KERNELS_PACK; t++) {
            const size_t token = t >= n ? 0 : src ? src[t] : first + t;
            amx_pack_block(t < n ? x->blocks + token * n_blocks + b : &none, to + b, t);
        }
    }
}
