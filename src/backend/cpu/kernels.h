/*
 * The cpu backend's kernels: one table per ISA, all with the same bits (docs/numerics.md). kernels.inc.h holds the one
 * source; kernels_c.c, kernels_avx2.c, kernels_avx512.c, kernels_amx.c and kernels_neon.c compile it under their flags.
 */
#ifndef CPU_KERNELS_H
#define CPU_KERNELS_H

#include "backend/cpu/strips.h"
#include "base/dtype.h"
#include "base/limits.h"
#include "quant/quant.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Activations are 12-bit integers: the widest that keep a block's sum of products with any K-quant within int32. */
enum { ACT_MAX = 2047, ACT_LOW_BITS = 6 };

/* 256 activations a as integers, in every form that kernels take: f = a * scale. */
struct act_block {
    int8_t hi[QK], lo[QK];   /* a = hi * 64 + lo, 0 <= lo < 64 */
    int16_t halves[QK / 16]; /* sum of a over each 16 columns */
    float scale;
    int16_t a[QK]; /* of every four columns 0, 2, 1, 3: as the bytes of a word come apart to pairs */
} __attribute__((aligned(64)));

/* Activations of n tokens as the matrix kernels read them. K-quant weights meet blocks of integers, all other types
 * meet F32. */
struct acts {
    uint32_t n_cols;
    float *f;                 /* [n][n_cols] */
    struct act_block *blocks; /* [n][n_cols / 256]; unused when n_cols is not a multiple of 256 */
    uint8_t *packs;           /* [(n + 15) / 16][kernels_pack_bytes]: the same once more, by `pack`; NULL where it is */
};

/* The same activations from token i on (packs left out). */
static inline struct acts acts_from(const struct acts *x, size_t i) {
    return (struct acts){
        .n_cols = x->n_cols, .f = x->f + i * x->n_cols, .blocks = x->blocks ? x->blocks + i * (x->n_cols / QK) : NULL};
}

/* y[dst[i]][row] = w[row] . x[src[i]] for i in 0..n; with add, y += gain[i] * (the same), gain NULL being all ones. */
struct mm {
    const uint8_t *w; /* strips (strips.h), or rows of row_bytes where the type has none */
    size_t row_bytes;
    enum dtype type;
    uint32_t n_cols;
    const struct acts *x;
    uint32_t n;
    const uint8_t *packs; /* of the n tokens, or NULL */
    const uint32_t *src;  /* [n] or NULL: i */
    const uint32_t *dst;  /* [n] or NULL: i */
    float *y;
    size_t y_stride;
    bool add;
    const float *gain; /* [n] or NULL */
    const uint8_t
        *next; /* what this thread reads after its rows, to be fetched meanwhile; NULL where that is not known */
};

/* Queries of one KV head against its pages. K pages are [dim][64] so that lanes are positions, V pages [64][dim]. */
struct attn {
    const uint16_t *k, *v; /* F16, this layer and head of page 0 */
    size_t page_stride;    /* elements from page to page */
    const uint32_t *pages;
    uint32_t dim;    /* multiple of 16, at most 256 */
    uint32_t n;      /* queries, at most ATTN_QUERIES_MAX */
    uint32_t window; /* positions visible to a query, 0 = all */
    float scale;
    const float *const *q; /* [n] pointers to [dim] */
    float *const *out;     /* [n] pointers to [dim] */
    const uint32_t *pos;   /* [n] */
};
enum { ATTN_QUERIES_MAX = 16 };

struct kernels {
    const char *name;
    /* rows [row0, row1) of one matrix, row0 a multiple of 16; scratch is this thread's, of
     * kernels_scratch_bytes(n_cols) */
    void (*matmul)(const struct mm *job, uint32_t row0, uint32_t row1, void *scratch);
    /* the blocks of token i from its floats */
    void (*quantize)(const struct acts *x, uint32_t i);
    /* Copies tokens src[0..n) (NULL: first, first + 1, ..), n <= 16, into the form that matrix units take; NULL where
     * there are none. It pays from KERNELS_PACK_MIN tokens on, and only K-quants use it. */
    void (*pack)(const struct acts *x, const uint32_t *src, uint32_t first, uint32_t n, uint8_t *pack);
    /* y = x * gain / sqrt(mean(x^2) + eps); n is a multiple of 16; y may be x */
    void (*rms_norm)(const float *x, const float *gain, float *y, uint32_t n, float eps);
    /* g = silu(g) * u; n is a multiple of 16 */
    void (*silu_mul)(float *g, const float *u, uint32_t n);
    /* p = 1 / (1 + e^-x); any n */
    void (*sigmoid)(float *x, uint32_t n);
    /* rotates pairs (i, i + dim / 2) by cos_sin[i], cos_sin[dim / 2 + i] */
    void (*rope)(float *x, const float *cos_sin, uint32_t dim);
    /* One token of the gated short convolution for channels [c0, c1), multiples of 16: u = B * x; y = C * sum(taps *
     * u); taps [n_taps][d], state [n_taps - 1][d] oldest first, advanced. */
    void (*conv)(const float *bcx, const float *taps, uint32_t n_taps, float *state, float *y, uint32_t d, uint32_t c0,
                 uint32_t c1);
    void (*attend)(const struct attn *job);
    /* stores a head's K (transposed) and V at a position of a page */
    void (*store_kv)(const float *k, const float *v, uint16_t *k_page, uint16_t *v_page, uint32_t dim, uint32_t at);
};

/* A table whose name is NULL is one that this build has not. */
extern const struct kernels kernels_c, kernels_avx2, kernels_avx512, kernels_amx, kernels_neon;

enum {
    KERNELS_PANEL_ROWS = 64, /* rows that are unpacked to scratch at once for many tokens */
    KERNELS_PANEL_MIN = 9,   /* tokens from which on they may be */
    KERNELS_FLOAT_ROWS = 16, /* the same of a type that has no strips */
    KERNELS_PASS = 256,      /* tokens that meet a panel before the next */
    KERNELS_PACK = 16,       /* tokens side by side in a pack */
    KERNELS_PACK_MIN = 12,   /* tokens from which on a matrix unit beats the vector units */
};
/* What tiles take of the blocks of 16 tokens that begin at one column, a = high * 16 + low; a pack is [n_cols / 256]
 * of them. */
struct act_pack {
    uint8_t low[QK / 64][KERNELS_PACK][64];
    int8_t high[QK / 64][KERNELS_PACK][64];
    uint8_t low16[QK / 64][KERNELS_PACK][64]; /* low * 16 */
    int16_t halved[KERNELS_PACK][QK / 32];    /* sums of a over each 32 columns, = halved * 2 + last */
    int8_t last[KERNELS_PACK][QK / 32];
    float scale[KERNELS_PACK];
} __attribute__((aligned(64)));
static inline size_t kernels_pack_bytes(uint32_t n_cols) {
    return n_cols / QK * sizeof(struct act_pack);
}
size_t kernels_scratch_bytes(uint32_t n_cols_max);
/* The best table for this CPU, lowered by the environment variable SLUICE_CPU (ref; on x86-64 avx2, avx512, amx; on
 * aarch64 neon); NULL if that names something else. */
const struct kernels *kernels_select(void);
extern const char kernels_masks[]; /* what SLUICE_CPU may name here, as a sentence has it */
/* NULL if this CPU, its kernel or the build lacks the ISA. name: "ref", "avx2", "avx512", "amx", "neon". */
const struct kernels *kernels_by_name(const char *name);

#endif
