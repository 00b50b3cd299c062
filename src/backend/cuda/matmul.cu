/*
 * Matrix products for many tokens. K-quants: int8 tensor cores on both halves of the 16-bit activations, 64 rows by 64
 * tokens per block, one super-block of 256 columns at a time: integer sums are exact, so they equal those of the decode
 * kernels, and one float step per super-block follows in the same order. Limit per SM and clock: 16 integer
 * multiply-adds per output and super-block for the scales, about 1000 weight products. Other types: a warp per row, 32
 * lanes of fused multiply-adds.
 */
#include "backend/cuda/common.cuh"

enum {
    TILE = 64,         /* rows and tokens of a block */
    STRIDE = 256 + 16, /* bytes of a token in shared memory: 16 more, so that rows begin in other banks */
    STAGE = 2 * TILE * STRIDE + TILE * 8 * 4 + TILE * 4, /* hi, lo, sums, scale */
    MMA_SHARED = 2 * STAGE + TILE * 4,
};

__device__ __forceinline__ void mma_k32(int c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(0));
}

__device__ __forceinline__ void mma_k16(int c[4], uint32_t a0, uint32_t a1, uint32_t b) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a0), "r"(a1), "r"(b), "r"(0));
}

/* Which tokens a block computes, from a tile of a group or from its number. */
struct tile_of {
    uint32_t expert, first, n; /* n = 0: none */
};

__device__ static tile_of find_tile(const cuda_product &p) {
    tile_of t = {0, blockIdx.y * TILE, 0};
    if (!p.tiles) {
        t.n = p.n - t.first < TILE ? p.n - t.first : TILE;
        return t;
    }
    t.expert = p.tiles[2 * blockIdx.y];
    if (t.expert == CUDA_NONE) {
        return t;
    }
    t.first = p.tiles[2 * blockIdx.y + 1];
    uint32_t left = p.start[t.expert + 1] - t.first;
    t.n = left < TILE ? left : TILE;
    return t;
}

/* What a thread loads of one piece: words t and t + 4 of rows g and g + 8 of two 16-row tiles. */
struct piece_words {
    uint32_t w[2][2][2];  /* [tile][row half][word half] */
    uint32_t h[2][2][2];  /* Q5_K: groups A, B; Q6_K: of A, for words t and t + 4 */
    uint32_t h2[2][2][2]; /* Q6_K: of B */
    uint32_t s[2][2];     /* Q6_K scales */
};

template <int TYPE>
__device__ __forceinline__ void load_words(const cuda_mat &m, const size_t row[2][2], uint32_t piece, int t,
                                           piece_words *out) {
    uint32_t n_pieces = m.n_cols / 64;
#pragma unroll
    for (int mt = 0; mt < 2; mt++) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            size_t at = row[mt][r] * 2 * n_pieces + piece;
            out->w[mt][r][0] = load4(m.q + at * 16 + t * 4);
            out->w[mt][r][1] = load4(m.q + (at + n_pieces) * 16 + t * 4);
            size_t own = row[mt][r] * n_pieces + piece;
            if (TYPE == CUDA_Q5_K) {
                uint2 h = load8(m.h + own * 8);
                out->h[mt][r][0] = h.x;
                out->h[mt][r][1] = h.y;
            }
            if (TYPE == CUDA_Q6_K) {
                uint4 h = *(const uint4 *)(m.h + own * 16);
                out->h[mt][r][0] = h.x;
                out->h[mt][r][1] = h.y;
                out->h2[mt][r][0] = h.z;
                out->h2[mt][r][1] = h.w;
                out->s[mt][r] = load4(m.s + own * 4);
            }
        }
    }
}

/* The fragments of groups A and B: a[0], a[1] rows g, g + 8 of word t; a[2], a[3] of word t + 4. */
template <int TYPE>
__device__ __forceinline__ void unpack(const piece_words &p, int mt, int t, uint32_t a[4], uint32_t b[4]) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t w = p.w[mt][r][half], *pa = &a[half * 2 + r], *pb = &b[half * 2 + r];
            if (TYPE == CUDA_Q6_K) {
                *pa = ((w << 2) & 0x3c3c3c3cu) | ((p.h[mt][r][half] >> (2 * t) << 6) & 0xc0c0c0c0u);
                *pb = ((w >> 2) & 0x3c3c3c3cu) | ((p.h2[mt][r][half] >> (2 * t) << 6) & 0xc0c0c0c0u);
            } else {
                q4_bytes(w, pa, pb);
                if (TYPE == CUDA_Q5_K) {
                    int j = t + 4 * half;
                    *pa |= (p.h[mt][r][0] >> j & 0x01010101u) << 4;
                    *pb |= (p.h[mt][r][1] >> j & 0x01010101u) << 4;
                }
            }
        }
    }
}

template <int TYPE> __global__ void __launch_bounds__(128) mma_product(cuda_product p) {
    extern __shared__ __align__(16) uint8_t shared[];
    tile_of tile = find_tile(p);
    if (tile.n == 0) {
        return;
    }
    const cuda_mat &m = p.w;
    uint32_t *src = (uint32_t *)(shared + 2 * STAGE);
    uint32_t tid = threadIdx.x, lane = tid % 32, warp = tid / 32, g = lane / 4, t = lane % 4;
    uint32_t n_super = m.n_cols / 256, n_pieces = m.n_cols / 64;
    if (tid < TILE) {
        uint32_t i = tile.first + (tid < tile.n ? tid : 0);
        src[tid] = p.gather ? p.gather[i] : i;
    }
    __syncthreads();
    auto fetch = [&](uint32_t block, uint32_t stage) {
        uint8_t *base = shared + stage * STAGE;
        for (uint32_t i = tid; i < TILE * 16; i += 128) {
            uint32_t token = i / 16, part = i % 16 * 16;
            size_t from = (size_t)src[token] * m.n_cols + block * 256 + part;
            copy_async_16(base + token * STRIDE + part, p.x.hi + from);
            copy_async_16(base + TILE * STRIDE + token * STRIDE + part, p.x.lo + from);
        }
        uint8_t *sums = base + 2 * TILE * STRIDE;
        copy_async_16(sums + tid * 16, p.x.sums + (size_t)src[tid / 2] * (n_super * 8) + block * 8 + tid % 2 * 4);
        if (tid < TILE) {
            copy_async_4(sums + TILE * 32 + tid * 4, p.x.scale + (size_t)src[tid] * n_super + block);
        }
        copy_async_commit();
    };
    uint32_t row0 = blockIdx.x * TILE + warp / 2 * 32, col0 = warp % 2 * 32;
    size_t row[2][2];
    for (int mt = 0; mt < 2; mt++) {
        for (int r = 0; r < 2; r++) {
            uint32_t at = row0 + mt * 16 + r * 8 + g;
            row[mt][r] = (size_t)tile.expert * m.n_rows + (at < m.n_rows ? at : m.n_rows - 1);
        }
    }
    float acc[2][4][4] = {};
    int n_here = tile.n > col0 ? (int)(tile.n - col0 + 7) / 8 : 0; /* groups of 8 tokens that this warp has */
    piece_words words;
    fetch(0, 0);
    load_words<TYPE>(m, row, 0, t, &words);
    for (uint32_t block = 0; block < n_super; block++) {
        if (block + 1 < n_super) {
            fetch(block + 1, (block + 1) & 1);
            copy_async_wait<1>();
        } else {
            copy_async_wait<0>();
        }
        __syncthreads();
        const uint8_t *hi = shared + (block & 1) * STAGE, *lo = hi + TILE * STRIDE;
        const int32_t *sums = (const int32_t *)(hi + 2 * TILE * STRIDE);
        const float *scale = (const float *)(sums + TILE * 8);
        uint4 record[2][2];
        if (TYPE != CUDA_Q6_K) {
            for (int mt = 0; mt < 2; mt++) {
                for (int r = 0; r < 2; r++) {
                    record[mt][r] = *(const uint4 *)(m.s + (row[mt][r] * n_super + block) * 16);
                }
            }
        }
        int high[2][4][4] = {}, low[2][4][4] = {};
#pragma unroll
        for (int q = 0; q < 4; q++) {
            uint32_t a[2][4], b[2][4], sc[2][2];
            for (int mt = 0; mt < 2; mt++) {
                unpack<TYPE>(words, mt, t, a[mt], b[mt]);
                for (int r = 0; r < 2; r++) {
                    sc[mt][r] = TYPE == CUDA_Q6_K ? words.s[mt][r] : piece_scales(record[mt][r], q);
                }
            }
            uint32_t next = block * 4 + q + 1;
            if (next < n_pieces) {
                load_words<TYPE>(m, row, next, t, &words);
            }
#pragma unroll
            for (int nt = 0; nt < 4; nt++) {
                if (nt >= n_here) {
                    break;
                }
                uint32_t at = (col0 + nt * 8 + g) * STRIDE + q * 64 + t * 4;
#pragma unroll
                for (int plane = 0; plane < 2; plane++) {
                    const uint8_t *x = (plane ? lo : hi) + at;
                    uint32_t x0 = *(const uint32_t *)x, x1 = *(const uint32_t *)(x + 16);
                    uint32_t x2 = *(const uint32_t *)(x + 32), x3 = *(const uint32_t *)(x + 48);
#pragma unroll
                    for (int mt = 0; mt < 2; mt++) {
                        int *sum = plane ? low[mt][nt] : high[mt][nt], c[4];
                        if (TYPE == CUDA_Q6_K) {
#pragma unroll
                            for (int sub = 0; sub < 4; sub++) {
                                const uint32_t *f = sub < 2 ? a[mt] : b[mt];
                                mma_k16(c, f[sub % 2 * 2], f[sub % 2 * 2 + 1],
                                        sub == 0   ? x0
                                        : sub == 1 ? x1
                                        : sub == 2 ? x2
                                                   : x3);
                                for (int i = 0; i < 4; i++) {
                                    sum[i] += scale_byte(sc[mt][i / 2], sub) * c[i];
                                }
                            }
                        } else {
                            mma_k32(c, a[mt], x0, x1);
                            for (int i = 0; i < 4; i++) {
                                sum[i] += (int)(sc[mt][i / 2] & 63) * c[i];
                            }
                            mma_k32(c, b[mt], x2, x3);
                            for (int i = 0; i < 4; i++) {
                                sum[i] += (int)(sc[mt][i / 2] >> 6 & 63) * c[i];
                            }
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int mt = 0; mt < 2; mt++) {
            uint32_t d[2];
            for (int r = 0; r < 2; r++) {
                d[r] =
                    TYPE == CUDA_Q6_K ? load2(m.d + row[mt][r] * q6_d_stride(m.n_cols) + block * 2) : record[mt][r].x;
            }
#pragma unroll
            for (int nt = 0; nt < 4; nt++) {
                if (nt >= n_here) {
                    break;
                }
                uint32_t token = col0 + nt * 8 + t * 2;
                int mins[4] = {0, 0, 0, 0};
                if (TYPE != CUDA_Q6_K) {
#pragma unroll
                    for (int q = 0; q < 4; q++) {
                        uint32_t s0 = piece_scales(record[mt][0], q) >> 12, s1 = piece_scales(record[mt][1], q) >> 12;
                        int2 x0 = *(const int2 *)(sums + token * 8 + q * 2);
                        int2 x1 = *(const int2 *)(sums + (token + 1) * 8 + q * 2);
                        mins[0] += (int)(s0 & 63) * x0.x + (int)(s0 >> 6) * x0.y;
                        mins[1] += (int)(s0 & 63) * x1.x + (int)(s0 >> 6) * x1.y;
                        mins[2] += (int)(s1 & 63) * x0.x + (int)(s1 >> 6) * x0.y;
                        mins[3] += (int)(s1 & 63) * x1.x + (int)(s1 >> 6) * x1.y;
                    }
                }
                for (int i = 0; i < 4; i++) {
                    acc[mt][nt][i] +=
                        block_term(TYPE, high[mt][nt][i], low[mt][nt][i], mins[i], d[i / 2], scale[token + i % 2]);
                }
            }
        }
        __syncthreads();
    }
    for (int mt = 0; mt < 2; mt++) {
        for (int nt = 0; nt < 4; nt++) {
            for (int i = 0; i < 4; i++) {
                uint32_t out_row = row0 + mt * 16 + i / 2 * 8 + g, token = col0 + nt * 8 + t * 2 + i % 2;
                if (out_row < m.n_rows && token < tile.n) {
                    float *y = p.y + (size_t)(tile.first + token) * p.y_stride + out_row;
                    *y = p.add ? *y + acc[mt][nt][i] : acc[mt][nt][i];
                }
            }
        }
    }
}

/* ---- Types that meet F32 */

/* Eight weights from column c. */
__device__ __forceinline__ void load_floats(const cuda_mat &m, size_t row, uint32_t c, float w[8]) {
    size_t at = row * m.n_cols + c;
    switch (m.type) {
    case CUDA_F32:
        for (int i = 0; i < 8; i++) {
            w[i] = ((const float *)m.q)[at + i];
        }
        break;
    case CUDA_F16:
        for (int i = 0; i < 8; i++) {
            w[i] = half_bits(((const uint16_t *)m.q)[at + i]);
        }
        break;
    case CUDA_BF16:
        for (int i = 0; i < 8; i++) {
            w[i] = __uint_as_float((uint32_t)((const uint16_t *)m.q)[at + i] << 16);
        }
        break;
    default: {
        float d = half_bits(((const uint16_t *)m.d)[row * (m.n_cols / 32) + c / 32]);
        uint32_t nibbles = m.type == CUDA_Q4_0 ? ((const uint32_t *)m.q)[at / 8] : 0;
        for (int i = 0; i < 8; i++) {
            int q = m.type == CUDA_Q4_0 ? (int)(nibbles >> (4 * i) & 15) - 8 : ((const int8_t *)m.q)[at + i];
            w[i] = d * (float)q;
        }
        break;
    }
    }
}

__global__ void float_product(cuda_product p) {
    enum { TOKENS = 4 };
    tile_of tile = find_tile(p);
    const cuda_mat &m = p.w;
    uint32_t lane = threadIdx.x % 32, at = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (at >= m.n_rows) {
        return;
    }
    size_t row = (size_t)tile.expert * m.n_rows + at;
    for (uint32_t i = 0; i < tile.n; i += TOKENS) {
        const float *x[TOKENS];
        float acc[TOKENS] = {0};
        for (int k = 0; k < TOKENS; k++) {
            uint32_t j = tile.first + (i + k < tile.n ? i + k : i);
            x[k] = p.x.f + (size_t)(p.gather ? p.gather[j] : j) * m.n_cols;
        }
        for (uint32_t c = lane * 8; c < m.n_cols; c += 256) {
            float w[8];
            load_floats(m, row, c, w);
            for (int k = 0; k < TOKENS; k++) {
                for (int e = 0; e < 8; e++) {
                    acc[k] = fmaf(w[e], x[k][c + e], acc[k]);
                }
            }
        }
        for (uint32_t k = 0; k < TOKENS; k++) {
            float sum = warp_sum(acc[k]);
            if (lane == 0 && i + k < tile.n) {
                float *y = p.y + (size_t)(tile.first + i + k) * p.y_stride + at;
                *y = p.add ? *y + sum : sum;
            }
        }
    }
}

extern "C" cudaError_t cuda_matmul_setup(void) {
    const void *kernels[] = {(const void *)mma_product<CUDA_Q4_K>, (const void *)mma_product<CUDA_Q5_K>,
                             (const void *)mma_product<CUDA_Q6_K>};
    for (const void *k : kernels) {
        cudaError_t status = cudaFuncSetAttribute(k, cudaFuncAttributeMaxDynamicSharedMemorySize, MMA_SHARED);
        if (status != cudaSuccess) {
            return status;
        }
    }
    return cudaSuccess;
}

extern "C" cudaError_t cuda_matmul(const cuda_product *p, cudaStream_t stream) {
    uint32_t n_tiles = p->tiles ? p->n_tiles_max : (p->n + TILE - 1) / TILE;
    dim3 grid((p->w.n_rows + TILE - 1) / TILE, n_tiles);
    switch (p->w.type) {
    case CUDA_Q4_K:
        mma_product<CUDA_Q4_K><<<grid, 128, MMA_SHARED, stream>>>(*p);
        break;
    case CUDA_Q5_K:
        mma_product<CUDA_Q5_K><<<grid, 128, MMA_SHARED, stream>>>(*p);
        break;
    case CUDA_Q6_K:
        mma_product<CUDA_Q6_K><<<grid, 128, MMA_SHARED, stream>>>(*p);
        break;
    default:
        float_product<<<dim3((p->w.n_rows + 7) / 8, n_tiles), 256, 0, stream>>>(*p);
        break;
    }
    return cudaGetLastError();
}
