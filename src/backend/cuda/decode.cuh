/*
 * Products of one token: a vector quantised in shared memory against rows of K-quant weights, a row of at most 2048
 * columns to a warp and 64 of its weights to a lane. Integer sums go from four lanes to the term of a super-block,
 * terms are added in order: the arithmetic of weights.cuh.
 */
#ifndef CUDA_DECODE_CUH
#define CUDA_DECODE_CUH

#include "backend/cuda/common.cuh"

enum { WARPS = CUDA_DECODE_BLOCK / 32, OWN = 16 /* channels or rows of a block in most kernels */ };

/* Quantised vectors in shared memory. */
struct vectors {
    int8_t *hi, *lo; /* [n][4][n_cols / 64][16]: the i-th 16 of each piece together, so that lanes read side by side */
    int *sums;       /* [n][n_cols / 32] */
    float *scale;    /* [n][n_cols / 256] */
    float *squares;  /* [n_cols / 256] of the first */
    float *terms;    /* [rows][n_cols / 256] */
    uint32_t n_cols;
};

__host__ __device__ static size_t vectors_bytes(uint32_t n, uint32_t n_cols, uint32_t rows) {
    size_t bytes = (size_t)n * n_cols * 2 + ((size_t)n * (n_cols / 32) + (size_t)(n + 1 + rows) * (n_cols / 256)) * 4;
    return (bytes + 15) / 16 * 16;
}

__device__ static vectors vectors_at(uint8_t *base, uint32_t n, uint32_t n_cols) {
    vectors v;
    v.n_cols = n_cols;
    v.hi = (int8_t *)base;
    v.lo = v.hi + (size_t)n * n_cols;
    v.sums = (int *)(v.lo + (size_t)n * n_cols);
    v.scale = (float *)(v.sums + (size_t)n * (n_cols / 32));
    v.squares = v.scale + n * (n_cols / 256);
    v.terms = v.squares + n_cols / 256;
    return v;
}

/* A warp's gains in the norm of one vector of at most 16 * 256 values: those of block number `warp`. */
struct gains8 {
    float g[8];
};

__device__ __forceinline__ gains8 load_gains(const float *gain, uint32_t n_cols) {
    gains8 w = {};
    uint32_t at = threadIdx.x * 8;
    if (at < n_cols) {
        float4 a = *(const float4 *)(gain + at), b = *(const float4 *)(gain + at + 4);
        w = {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
    }
    return w;
}

/* Block b of the vectors, quantised by a warp: u are the lane's eight values. */
__device__ __forceinline__ void store_block(const vectors &v, uint32_t b, const float u[8], uint32_t lane) {
    uint2 hi, lo;
    int sum;
    float top = quantize_256(u, &hi, &lo, &sum);
    uint32_t n_blocks = v.n_cols / 256, c = b % n_blocks * 256 + lane * 8;
    uint32_t to = b / n_blocks * v.n_cols + c / 16 % 4 * (v.n_cols / 4) + c / 64 * 16 + c % 16;
    *(uint2 *)(v.hi + to) = hi;
    *(uint2 *)(v.lo + to) = lo;
    if (lane % 4 == 0) {
        v.sums[b * 8 + lane / 4] = sum;
    }
    if (lane == 0) {
        v.scale[b] = top;
    }
}

/* Vectors of x[n][n_cols], a warp per block of 256; with gains, one vector under a norm. */
__device__ static void quantize_vectors(const vectors &v, const float *x, uint32_t n, const gains8 *gain) {
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_all = n * (v.n_cols / 256);
    float4 x0 = {}, x1 = {};
    if (warp < n_all) {
        x0 = __ldcg((const float4 *)(x + warp * 256 + lane * 8));
        x1 = __ldcg((const float4 *)(x + warp * 256 + lane * 8 + 4));
    }
#pragma unroll 1
    for (uint32_t b = warp; b < n_all; b += WARPS) {
        uint32_t at = b * 256 + lane * 8;
        float u[8] = {x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w};
        if (b + WARPS < n_all) { /* the next block's values travel meanwhile */
            x0 = __ldcg((const float4 *)(x + at + WARPS * 256));
            x1 = __ldcg((const float4 *)(x + at + WARPS * 256 + 4));
        }
        if (gain) {
            float s = squares_256(u);
            if (lane == 0) {
                v.squares[b] = s;
            }
#pragma unroll
            for (int k = 0; k < 8; k++) {
                u[k] *= gain->g[k];
            }
        }
        store_block(v, b, u, lane);
    }
}

/* The norm's scale of the first vector, of at most 2048 values, by every thread for itself; after a barrier. */
__device__ static float norm_of(const vectors &v, float eps) {
    float sum = 0;
#pragma unroll
    for (uint32_t b = 0; b < 8; b++) {
        sum += b < v.n_cols / 256 ? v.squares[b] : 0.0f;
    }
    return norm_scale(sum, v.n_cols, eps);
}

/* A lane's 64 activations. */
struct lane_acts {
    uint32_t hi[16], lo[16];
    int sum_a, sum_b;
    float scale;
};

__device__ __forceinline__ void load_acts(const vectors &v, uint32_t vector, uint32_t piece, float norm, lane_acts *x) {
    size_t at = (size_t)vector * v.n_cols + piece * 64, first = (size_t)vector * v.n_cols + piece * 16;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint4 h = *(const uint4 *)(v.hi + first + i * (v.n_cols / 4));
        uint4 l = *(const uint4 *)(v.lo + first + i * (v.n_cols / 4));
        x->hi[4 * i] = h.x, x->hi[4 * i + 1] = h.y, x->hi[4 * i + 2] = h.z, x->hi[4 * i + 3] = h.w;
        x->lo[4 * i] = l.x, x->lo[4 * i + 1] = l.y, x->lo[4 * i + 2] = l.z, x->lo[4 * i + 3] = l.w;
    }
    x->sum_a = v.sums[at / 32];
    x->sum_b = v.sums[at / 32 + 1];
    x->scale = v.scale[at / 256] * norm;
}

__device__ __forceinline__ void dot4(uint32_t w, const lane_acts &x, int j, int *hi, int *lo) {
    *hi = __dp4a((int)w, (int)x.hi[j], *hi);
    *lo = __dp4a((int)w, (int)x.lo[j], *lo);
}

/* The term of the super-block that this lane and its three neighbours hold; valid in lanes 4i. */
template <int TYPE>
__device__ __forceinline__ float piece_term(const lane_weights &w, const lane_acts &x, uint32_t piece) {
    uint32_t word[8] = {w.a.x, w.a.y, w.a.z, w.a.w, w.b.x, w.b.y, w.b.z, w.b.w};
    int hi, lo, mins = 0;
    if (TYPE == CUDA_Q6_K) {
        uint32_t h[4] = {w.c.x, w.c.y, w.c.z, w.c.w};
        int sum_hi[4] = {0, 0, 0, 0}, sum_lo[4] = {0, 0, 0, 0};
#pragma unroll
        for (int j = 0; j < 8; j++) {
            uint32_t a, b;
            q6_bytes(word[j], h[j / 4], h[2 + j / 4], j % 4, &a, &b);
            dot4(a, x, j, &sum_hi[j / 4], &sum_lo[j / 4]);
            dot4(b, x, 8 + j, &sum_hi[2 + j / 4], &sum_lo[2 + j / 4]);
        }
        hi = lo = 0;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            hi += scale_byte(w.s, i) * sum_hi[i];
            lo += scale_byte(w.s, i) * sum_lo[i];
        }
    } else {
        int hi_a = 0, lo_a = 0, hi_b = 0, lo_b = 0;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            uint32_t a, b;
            q4_bytes(word[j], &a, &b);
            if (TYPE == CUDA_Q5_K) {
                a |= q5_bit(w.s, j);
                b |= q5_bit(w.e, j);
            }
            dot4(a, x, j, &hi_a, &lo_a);
            dot4(b, x, 8 + j, &hi_b, &lo_b);
        }
        uint32_t s = piece_scales(w.c, piece);
        int sc_a = s & 63, sc_b = s >> 6 & 63;
        hi = sc_a * hi_a + sc_b * hi_b;
        lo = sc_a * lo_a + sc_b * lo_b;
        mins = (int)(s >> 12 & 63) * x.sum_a + (int)(s >> 18) * x.sum_b;
        mins += __shfl_xor_sync(FULL, mins, 1);
        mins += __shfl_xor_sync(FULL, mins, 2);
    }
    hi += __shfl_xor_sync(FULL, hi, 1);
    lo += __shfl_xor_sync(FULL, lo, 1);
    hi += __shfl_xor_sync(FULL, hi, 2);
    lo += __shfl_xor_sync(FULL, lo, 2);
    return block_term(TYPE, hi, lo, mins, TYPE == CUDA_Q6_K ? w.e : w.c.x, x.scale);
}

/* Sum of a row's terms, in order; eight loads at a time, because one after the other would wait for each. */
__device__ __forceinline__ float row_sum(const vectors &v, uint32_t row) {
    uint32_t n = v.n_cols / 256;
    const float *terms = v.terms + row * n;
    float sum = 0;
#pragma unroll 1
    for (uint32_t b = 0; b < n; b += 8) {
        float x[8];
#pragma unroll
        for (uint32_t k = 0; k < 8; k++) {
            x[k] = b + k < n ? terms[b + k] : 0.0f;
        }
#pragma unroll
        for (uint32_t k = 0; k < 8; k++) {
            sum += x[k];
        }
    }
    return sum;
}

/* A lane's weights of a row in shared memory, from its planes. half: bytes between the two halves of q. */
template <int TYPE>
__device__ __forceinline__ lane_weights read_planes(const uint8_t *q, uint32_t half, const uint8_t *h, const uint8_t *s,
                                                    const uint8_t *d, uint32_t piece) {
    lane_weights w;
    w.a = *(const uint4 *)(q + piece * 16);
    w.b = *(const uint4 *)(q + half + piece * 16);
    if (TYPE == CUDA_Q6_K) {
        w.c = *(const uint4 *)(h + piece * 16);
        w.s = *(const uint32_t *)(s + piece * 4);
        w.e = *(const uint16_t *)(d + piece / 4 * 2);
    } else {
        w.c = *(const uint4 *)(s + piece / 4 * 16);
        w.s = w.e = 0;
        if (TYPE == CUDA_Q5_K) {
            uint2 bits = *(const uint2 *)(h + piece * 8);
            w.s = bits.x;
            w.e = bits.y;
        }
    }
    return w;
}

#endif
