/*
 * Matrix products for several vectors: int8 tensor cores, tiles of 8, 16 or 32 vectors, for which the weights' bytes
 * are what counts. A warp takes 16 rows; weights go from memory straight to registers, two super-blocks ahead, and
 * activations through shared memory. A matrix of few rows has a warp per quarter of its columns instead, and terms are
 * added in order through shared memory. Limit: the bytes up to 16 vectors, mma (64 per super-block, 16 rows and 16
 * vectors) above. Weights that are no K-quants: a warp per row, 32 lanes of fused multiply-adds.
 */
#include "backend/cuda/launch.cuh"
#include "backend/cuda/weights.cuh"

enum { ROWS = 16, WARPS = 4, ROUND = 2 * WARPS /* super-blocks between barriers where columns are split */ };

/* Operands b of a step's two words, hi and lo: four core matrices. acts: the group's block in shared memory. */
__device__ __forceinline__ void load_operands(const uint8_t *acts, int word, uint32_t lane, uint32_t x[4]) {
    const uint8_t *row = acts + lane / 16 * 2048 + (word + lane / 8 % 2) * 128 + lane % 8 * 16;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* The terms of 16 rows and NT groups of vectors in one super-block. acts: the groups' blocks in shared memory. */
template <int TYPE, int NT>
__device__ __forceinline__ void super_block(const lane_rows &w, const uint8_t *acts, uint32_t n_groups, uint32_t lane,
                                            float term[NT][4]) {
    int hh[NT][4] = {}, hl[NT][4] = {}, lh[NT][4] = {}, ll[NT][4] = {}; /* [weight's plane][activation's] */
    lane_scales k = scales_of<TYPE>(w, lane % 4);
#pragma unroll
    for (int step = 0; step < 8; step++) {
        int s = step / 2, g = step % 2;
        uint32_t low[4], high[4];
        operand<TYPE, 3>(w, k, s, g, low, high);
#pragma unroll
        for (int nt = 0; nt < NT; nt++) {
            if (NT > 1 && nt >= (int)n_groups) {
                break;
            }
            uint32_t x[4];
            load_operands(acts + nt * CUDA_ACTS_BLOCK, g * 8 + 2 * s, lane, x);
            if (TYPE == CUDA_Q6_K) {
                mma_s8(hh[nt], high, x[0], x[1]);
                mma_s8(hl[nt], high, x[2], x[3]);
            } else {
                mma_u8(hh[nt], high, x[0], x[1]);
                mma_u8(hl[nt], high, x[2], x[3]);
            }
            mma_u8(lh[nt], low, x[0], x[1]);
            mma_u8(ll[nt], low, x[2], x[3]);
        }
    }
    lane_block b = block_of<TYPE>(w, lane % 4);
#pragma unroll
    for (int nt = 0; nt < NT; nt++) {
        if (NT > 1 && nt >= (int)n_groups) {
            break;
        }
        int hi[4], lo[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            hi[i] = join_planes<TYPE>(hh[nt][i], lh[nt][i]);
            lo[i] = join_planes<TYPE>(hl[nt][i], ll[nt][i]);
        }
        terms_of<TYPE>(b, hi, lo, acts + nt * CUDA_ACTS_BLOCK, lane, term[nt]);
    }
}

__device__ __forceinline__ void put(const cuda_product &p, const tile_of &tile, uint32_t row, uint32_t vector,
                                    float v) {
    if (tile.block_row + row < tile.n_rows && vector < tile.n) {
        float *y = p.y + (size_t)(tile.first + vector) * p.y_stride + tile.column + row;
        *y = p.add ? *y + v : v;
    }
}

/* Stages of activations: of the block; where columns are split, one of each warp. */
template <int NT, bool SPLIT> __host__ __device__ constexpr int stages() {
    return SPLIT ? WARPS : NT > 2 ? 3 : 4;
}

template <int NT, bool SPLIT> __host__ __device__ constexpr int shared_bytes() {
    return stages<NT, SPLIT>() * NT * (int)CUDA_ACTS_BLOCK + (SPLIT ? ROUND * NT * 8 * ROWS * 4 : 0);
}

/* The groups' blocks of one super-block to a stage, by threads `id` of `of`. */
__device__ __forceinline__ void copy_stage(uint8_t *to, const uint8_t *from, size_t group_bytes, uint32_t n_groups,
                                           uint32_t id, uint32_t of) {
    for (uint32_t i = id; i < n_groups * (CUDA_ACTS_BLOCK / 16); i += of) {
        uint32_t group = i / (CUDA_ACTS_BLOCK / 16), at = i % (CUDA_ACTS_BLOCK / 16);
        copy_async_16(to + i * 16, from + group * group_bytes + at * 16);
    }
}

/* SPLIT: the block's warps share 16 rows and take super-blocks in turn; otherwise each has 16 rows of its own. Code is
 * kept short, since most of these kernels run once for milliseconds of others and find it in L2 at best. */
template <int TYPE, int NT, bool SPLIT>
__global__ void __launch_bounds__(32 * WARPS, NT > 1 ? 3 : 4) narrow_product(cuda_product p) {
    extern __shared__ __align__(16) uint8_t shared[];
    constexpr uint32_t STAGES = stages<NT, SPLIT>(), STAGE = NT * CUDA_ACTS_BLOCK;
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    if (p.tiles) {
        wait_for_input();
        let_next_start();
    }
    tile_of tile = find_tile(p, SPLIT ? ROWS : ROWS * WARPS);
    if (tile.n == 0) {
        return;
    }
    uint32_t n_super = tile.m.n_cols / 256, step = SPLIT ? WARPS : 1, own = SPLIT ? 0 : warp * ROWS;
    size_t row[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        uint32_t at = tile.block_row + own + r * 8 + g;
        row[r] = tile.row0 + (at < tile.n_rows ? at : tile.n_rows - 1);
    }
    size_t group_bytes = (size_t)n_super * CUDA_ACTS_BLOCK;
    const uint8_t *acts = p.x.blocks + tile.first / 8 * group_bytes;
    uint32_t n_groups = (tile.n + 7) / 8, first = SPLIT ? warp : 0;
    lane_rows w = {}, next = {};
    if (first < n_super) {
        load_rows<TYPE>(tile.m, row, first, t, &w);
    }
    if (first + step < n_super) {
        load_rows<TYPE>(tile.m, row, first + step, t, &next);
    }
    if (!p.tiles) { /* weights never change */
        wait_for_input();
        let_next_start();
    }
    if (SPLIT) {
        if (first < n_super) {
            copy_stage(shared + warp * STAGE, acts + (size_t)first * CUDA_ACTS_BLOCK, group_bytes, n_groups, lane, 32);
        }
        copy_async_commit();
    } else {
        for (uint32_t b = 0; b + 1 < STAGES; b++) {
            if (b < n_super) {
                copy_stage(shared + b * STAGE, acts + (size_t)b * CUDA_ACTS_BLOCK, group_bytes, n_groups, threadIdx.x,
                           32 * WARPS);
            }
            copy_async_commit();
        }
    }
    float acc[NT][4] = {};
    float *terms = (float *)(shared + STAGES * STAGE); /* [ROUND][NT * 8][ROWS] */
    uint32_t slot = SPLIT ? warp : 0;
#pragma unroll 1
    for (uint32_t b = first; SPLIT ? b - first < n_super : b < n_super; b += step) {
        if (SPLIT) {
            copy_async_wait<0>();
            __syncwarp();
        } else {
            copy_async_wait<STAGES - 2>();
            __syncthreads();
            uint32_t ahead = b + STAGES - 1, to = slot ? slot - 1 : STAGES - 1; /* where b - 1 was */
            if (ahead < n_super) {
                copy_stage(shared + to * STAGE, acts + (size_t)ahead * CUDA_ACTS_BLOCK, group_bytes, n_groups,
                           threadIdx.x, 32 * WARPS);
            }
            copy_async_commit();
        }
        if (!SPLIT || b < n_super) {
            float term[NT][4] = {};
            super_block<TYPE, NT>(w, shared + slot * STAGE, n_groups, lane, term);
            w = next;
            if (b + 2 * step < n_super) {
                load_rows<TYPE>(tile.m, row, b + 2 * step, t, &next);
            }
#pragma unroll
            for (int nt = 0; nt < NT; nt++) {
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    if (SPLIT) {
                        terms[(b % ROUND * NT * 8 + nt * 8 + 2 * t + k % 2) * ROWS + g + k / 2 * 8] = term[nt][k];
                    } else {
                        acc[nt][k] += term[nt][k];
                    }
                }
            }
        }
        if (!SPLIT) {
            slot = slot + 1 == STAGES ? 0 : slot + 1;
        } else {
            __syncwarp();
            if (b + step < n_super) {
                copy_stage(shared + warp * STAGE, acts + (size_t)(b + step) * CUDA_ACTS_BLOCK, group_bytes, n_groups,
                           lane, 32);
            }
            copy_async_commit();
            uint32_t begin = (b - first) / ROUND * ROUND;
            if (b - first == begin + step || b - first + step >= n_super) { /* a round has ended */
                /* thread i adds for row i % 16 and vectors i / 16, 8 more, ... */
                __syncthreads();
                for (uint32_t i = 0; i < ROUND && begin + i < n_super; i++) {
#pragma unroll
                    for (int k = 0; k < NT; k++) {
                        acc[k][0] += terms[(i * NT * 8 + k * 8 + threadIdx.x / ROWS) * ROWS + threadIdx.x % ROWS];
                    }
                }
                __syncthreads();
            }
        }
    }
#pragma unroll
    for (int nt = 0; nt < NT; nt++) {
        if (SPLIT) {
            put(p, tile, threadIdx.x % ROWS, nt * 8 + threadIdx.x / ROWS, acc[nt][0]);
        } else {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                put(p, tile, own + g + k / 2 * 8, nt * 8 + 2 * t + k % 2, acc[nt][k]);
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

enum { FLOAT_ROWS = 8 };

__global__ void float_product(cuda_product p) {
    enum { TOKENS = 4 };
    wait_for_input();
    let_next_start();
    tile_of tile = find_tile(p, FLOAT_ROWS);
    const cuda_mat &m = tile.m;
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, at = tile.block_row + warp;
    if (at >= m.n_rows) {
        return;
    }
    for (uint32_t i = 0; i < tile.n; i += TOKENS) {
        const float *x[TOKENS];
        float acc[TOKENS] = {0};
        for (int k = 0; k < TOKENS; k++) {
            x[k] = p.x.f + (size_t)(tile.first + (i + k < tile.n ? i + k : i)) * m.n_cols;
        }
        for (uint32_t c = lane * 8; c < m.n_cols; c += 256) {
            float w[8];
            load_floats(m, tile.row0 + at, c, w);
            for (int k = 0; k < TOKENS; k++) {
                for (int e = 0; e < 8; e++) {
                    acc[k] = fmaf(w[e], x[k][c + e], acc[k]);
                }
            }
        }
        for (uint32_t k = 0; k < TOKENS; k++) {
            float sum = warp_sum(acc[k]);
            if (lane == 0) {
                put(p, tile, warp, i + k, sum);
            }
        }
    }
}

template <int TYPE, int NT, bool SPLIT>
static cudaError_t narrow(const cuda_product *p, dim3 grid, cudaStream_t stream) {
    constexpr int bytes = shared_bytes<NT, SPLIT>();
    static const cudaError_t status =
        cudaFuncSetAttribute(narrow_product<TYPE, NT, SPLIT>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    return status == cudaSuccess ? launch(narrow_product<TYPE, NT, SPLIT>, grid, 32 * WARPS, bytes, stream, *p)
                                 : status;
}

template <int TYPE, int NT> static cudaError_t narrow(const cuda_product *p, cudaStream_t stream) {
    uint32_t n_tiles = vector_tiles(p), n = row_blocks(p, ROWS * WARPS);
    if ((uint64_t)n * n_tiles < 256) { /* too few blocks to keep the memory busy */
        return narrow<TYPE, NT, true>(p, dim3(row_blocks(p, ROWS), n_tiles), stream);
    }
    return narrow<TYPE, NT, false>(p, dim3(n, n_tiles), stream);
}

template <int TYPE> static cudaError_t narrow_tile(const cuda_product *p, cudaStream_t stream) {
    return p->tile <= 8    ? narrow<TYPE, 1>(p, stream)
           : p->tile <= 16 ? narrow<TYPE, 2>(p, stream)
                           : narrow<TYPE, 4>(p, stream);
}

extern "C" uint32_t cuda_tile(uint32_t type, uint32_t n, uint32_t n_lists) {
    bool k = type == CUDA_Q4_K || type == CUDA_Q5_K || type == CUDA_Q6_K;
    uint32_t each = n / n_lists;
    if (n_lists == 1) {
        return !k ? 64 : n <= 8 ? 8 : n <= 16 ? 16 : n <= 32 || !cuda_has_wide() ? 32 : 64;
    }
    return !k ? 64 : each <= 6 ? 8 : each <= 12 ? 16 : each <= 24 || !cuda_has_wide() ? 32 : 80;
}

extern "C" cudaError_t cuda_matmul(const cuda_product *p, cudaStream_t stream) {
    bool k = p->w[0].type == CUDA_Q4_K || p->w[0].type == CUDA_Q5_K || p->w[0].type == CUDA_Q6_K;
    if (k && p->tile > 32) {
        return cuda_matmul_wide(p, stream);
    }
    switch (p->w[0].type) {
    case CUDA_Q4_K:
        return narrow_tile<CUDA_Q4_K>(p, stream);
    case CUDA_Q5_K:
        return narrow_tile<CUDA_Q5_K>(p, stream);
    case CUDA_Q6_K:
        return narrow_tile<CUDA_Q6_K>(p, stream);
    default:
        return launch(float_product, dim3(row_blocks(p, FLOAT_ROWS), vector_tiles(p)), 32 * FLOAT_ROWS, 0, stream, *p);
    }
}
