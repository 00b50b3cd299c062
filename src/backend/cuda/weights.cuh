/*
 * K-quant weights as operands of int8 tensor cores. Scale times weight is an integer of up to 14 bits; cut in two
 * bytes, w = high * UNIT + low, it needs no arithmetic between the products of a super-block of 256, so the sums of
 * both planes grow in the accumulators: exact, whatever the order. A lane of an mma fragment holds piece `lane % 4` of
 * the rows `lane / 4` and 8 more: 64 consecutive weights, in 16-byte loads; activations stand in that order too
 * (cuda_acts).
 */
#ifndef CUDA_WEIGHTS_CUH
#define CUDA_WEIGHTS_CUH

#include "backend/cuda/common.cuh"

/* A lane's share of one super-block of 16 rows. */
struct lane_rows {
    uint4 q[2][2];       /* [row][half plane] nibbles */
    uint4 c[2];          /* Q4_K, Q5_K: record s; Q6_K: h */
    uint32_t s[2], d[2]; /* Q5_K: h; Q6_K: scales, d */
};

/* Past L1, which the activations need. */
__device__ __forceinline__ uint4 load_stream(const void *p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

template <int TYPE>
__device__ __forceinline__ void load_rows(const cuda_mat &m, const size_t row[2], uint32_t block, uint32_t t,
                                          lane_rows *w) {
    uint32_t n_pieces = m.n_cols / 64, piece = block * 4 + t;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        size_t at = row[r] * 2 * n_pieces + piece, own = row[r] * n_pieces + piece;
        w->q[r][0] = load_stream(m.q + at * 16);
        w->q[r][1] = load_stream(m.q + (at + n_pieces) * 16);
        if (TYPE == CUDA_Q6_K) {
            w->c[r] = load_stream(m.h + own * 16);
            w->s[r] = load4(m.s + own * 4);
            w->d[r] = load2(m.d + row[r] * q6_d_stride(m.n_cols) + block * 2);
        } else {
            w->c[r] = load_stream(m.s + (row[r] * (n_pieces / 4) + block) * 16);
            if (TYPE == CUDA_Q5_K) {
                uint2 h = load8(m.h + own * 8);
                w->s[r] = h.x;
                w->d[r] = h.y;
            }
        }
    }
}

__device__ __forceinline__ uint32_t word_of(const uint4 &v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* high = sum of high bytes' products, low likewise: the whole sum, four times that for Q6_K. */
template <int TYPE> __device__ __forceinline__ int join_planes(int high, int low) {
    return TYPE == CUDA_Q6_K ? high * 1024 + low * 4 : high * 8 + low;
}

/* Q4_K, Q5_K: the scales of a lane's two groups of 32, in two parts of three bits, since 31 * 7 fits in a byte. */
struct lane_scales {
    uint32_t low[2][2], high[2][2]; /* [row][group] */
};

template <int TYPE> __device__ __forceinline__ lane_scales scales_of(const lane_rows &w, uint32_t t) {
    lane_scales k = {};
    if (TYPE != CUDA_Q6_K) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            uint32_t s = piece_scales(w.c[r], t);
            k.low[r][0] = s & 7;
            k.high[r][0] = s >> 3 & 7;
            k.low[r][1] = s >> 6 & 7;
            k.high[r][1] = s >> 9 & 7;
        }
    }
    return k;
}

/* Bytes of four weights of Q6_K (q: 0..63 each) times sc, + 32768 so that no lane borrows from the next. */
__device__ __forceinline__ void q6_planes(uint32_t q, int sc, uint32_t *low, uint32_t *high) {
    uint32_t bias = (uint32_t)(32768 - 32 * sc) * 0x10001u;
    uint32_t even = (q & 0x00ff00ffu) * (uint32_t)sc + bias, odd = (q >> 8 & 0x00ff00ffu) * (uint32_t)sc + bias;
    *low = __byte_perm(even, odd, 0x6240);
    *high = __byte_perm(even, odd, 0x7351) ^ 0x80808080u;
}

/* Operand `a` of the mma over words 2s and 2s + 1 of group g of every piece, both planes. Which: 1 = low, 2 = high,
 * 3. */
template <int TYPE, int WHICH>
__device__ __forceinline__ void operand(const lane_rows &w, const lane_scales &k, int s, int g, uint32_t low[4],
                                        uint32_t high[4]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int j = 2 * s + half, i = half * 2 + r;
            uint32_t word = word_of(w.q[r][j / 4], j % 4), q = (g ? word >> 4 : word) & 0x0f0f0f0fu;
            if (TYPE == CUDA_Q6_K) {
                uint32_t h = word_of(w.c[r], g * 2 + j / 4) >> (2 * (j % 4)) & 0x03030303u, l, u;
                q6_planes((q | h << 4) ^ 0x20202020u, scale_byte(w.s[r], g * 2 + j / 4), &l, &u);
                if (WHICH & 1) {
                    low[i] = l;
                }
                if (WHICH & 2) {
                    high[i] = u;
                }
            } else {
                if (TYPE == CUDA_Q5_K) {
                    q |= q5_bit(g ? w.d[r] : w.s[r], j);
                }
                if (WHICH & 1) {
                    low[i] = q * k.low[r][g];
                }
                if (WHICH & 2) {
                    high[i] = q * k.high[r][g];
                }
            }
        }
    }
}

__device__ __forceinline__ void mma_u8(int c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma_s8(int c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* What of a super-block its float step needs. */
struct lane_block {
    uint32_t d[2]; /* [row] d, dmin */
    uint32_t m[4]; /* minima m of a lane's two groups as an operand: bytes m, 2 m, 4 m, 0 */
};

template <int TYPE> __device__ __forceinline__ lane_block block_of(const lane_rows &w, uint32_t t) {
    lane_block b = {};
#pragma unroll
    for (int r = 0; r < 2; r++) {
        b.d[r] = TYPE == CUDA_Q6_K ? w.d[r] : w.c[r].x;
        if (TYPE != CUDA_Q6_K) {
            uint32_t s = piece_scales(w.c[r], t) >> 12;
            b.m[r] = (s & 63) * 0x040201u;
            b.m[2 + r] = (s >> 6) * 0x040201u;
        }
    }
    return b;
}

/* The terms of one super-block and a group of eight vectors: rows `lane / 4` and 8 more, vectors 2t and 2t + 1, as the
 * accumulators of an mma lie. high, low: the sums with parts of the activation. acts: the group's block. */
template <int TYPE>
__device__ __forceinline__ void terms_of(const lane_block &b, const int high[4], const int low[4], const uint8_t *acts,
                                         uint32_t lane, float term[4]) {
    int near[4] = {0, 0, 0, 0}, far[4] = {0, 0, 0, 0};
    if (TYPE != CUDA_Q6_K) {
        const uint32_t *sums = (const uint32_t *)(acts + CUDA_ACTS_SUMS) + lane;
        mma_u8(near, b.m, sums[0], sums[32]);
        mma_u8(far, b.m, sums[64], sums[96]);
    }
    float2 scale = *(const float2 *)(acts + CUDA_ACTS_SCALE + lane % 4 * 8);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        term[i] =
            block_term(TYPE, high[i], low[i], near[i] + CUDA_SUM_UNIT * far[i], b.d[i / 2], i % 2 ? scale.y : scale.x);
    }
}

/* ---- Which rows and vectors a block computes */

struct tile_of {
    cuda_mat m;
    size_t row0;                        /* of the expert's first row */
    uint32_t first, n;                  /* vectors; n = 0: none */
    uint32_t block_row, column, n_rows; /* first row; where it goes in y; rows of the matrix */
};

/* grid.x: blocks of `rows` rows of each matrix in turn; grid.y: tiles of vectors. */
__device__ __forceinline__ tile_of find_tile(const cuda_product &p, uint32_t rows) {
    tile_of t;
    uint32_t at = blockIdx.x, which = 0;
    t.column = 0;
    for (uint32_t n; which + 1 < p.n_mats && at >= (n = (p.w[which].n_rows + rows - 1) / rows); which++) {
        at -= n;
        t.column += p.w[which].n_rows;
    }
    t.m = p.w[which];
    t.n_rows = t.m.n_rows;
    t.block_row = at * rows;
    t.column += t.block_row;
    t.row0 = 0;
    if (p.tiles) {
        const uint32_t *tile = p.tiles + 3 * blockIdx.y;
        uint32_t expert = tile[0];
        t.first = tile[1];
        t.n = expert == CUDA_NONE ? 0 : tile[2];
        t.row0 = (size_t)expert * t.n_rows;
    } else {
        t.first = blockIdx.y * p.tile;
        t.n = p.n - t.first < p.tile ? p.n - t.first : p.tile;
    }
    return t;
}

__host__ static inline uint32_t row_blocks(const cuda_product *p, uint32_t rows) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_mats; i++) {
        n += (p->w[i].n_rows + rows - 1) / rows;
    }
    return n;
}

__host__ static inline uint32_t vector_tiles(const cuda_product *p) {
    return p->tiles ? p->n_tiles_max : (p->n + p->tile - 1) / p->tile;
}

#endif
