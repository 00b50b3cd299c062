/*
 * Matrix products for large tiles of vectors on Hopper's asynchronous tensor cores (sm_90a). A block has two groups of
 * four warps, each with 64 rows; bulk copies bring the tile's activations, one super-block of 256 columns at a time, as
 * they lie in memory. Weights go from memory to registers and from there, as bytes, into the products: first the high
 * bytes of scale times weight for both parts of the activation, then, after a shift, the low ones into the same sums.
 * While one group takes its float step and unpacks, the other's products run. Limit: 4 byte products per weight and
 * vector.
 */
#include "backend/cuda/launch.cuh"
#include "backend/cuda/weights.cuh"
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "backend/cuda/wgmma.cuh"
#endif

enum {
    GROUPS = 2, /* of four warps */
    ROWS = GROUPS * 64,
    THREADS = GROUPS * 128,
    WIDE = 80, /* most vectors of a tile */
    STAGE = WIDE / 8 * CUDA_ACTS_BLOCK,
    STAGES = 5,
    AHEAD = STAGES - 2, /* copies under way: the groups of warps may be two super-blocks apart */
    SHARED = STAGES * STAGE + 2 * STAGES * 8,
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
/* The activations of super-block b into its stage, once both groups of warps have done with what was there. By one
 * thread. */
__device__ __forceinline__ void bring(const cuda_product &p, const tile_of &tile, uint32_t b, uint8_t *stages,
                                      uint64_t *full, uint64_t *empty) {
    uint32_t n_super = tile.m.n_cols / 256, n_groups = (tile.n + 7) / 8, stage = b % STAGES, turn = b / STAGES;
    if (turn > 0) {
        barrier_wait(&empty[stage], (turn - 1) & 1);
    }
    barrier_expect(&full[stage], n_groups * CUDA_ACTS_BLOCK);
    const uint8_t *from = p.x.blocks + ((size_t)(tile.first / 8) * n_super + b) * CUDA_ACTS_BLOCK;
    for (uint32_t i = 0; i < n_groups; i++) {
        copy_bulk(stages + stage * STAGE + i * CUDA_ACTS_BLOCK, from + (size_t)i * n_super * CUDA_ACTS_BLOCK,
                  CUDA_ACTS_BLOCK, &full[stage]);
    }
}

/* 64 rows of the block by four warps, N vectors. */
template <int TYPE, int N>
__device__ __forceinline__ void consume(const cuda_product &p, const tile_of &tile, uint8_t *stages, uint64_t *full,
                                        uint64_t *empty) {
    uint32_t lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    uint32_t n_super = tile.m.n_cols / 256, out_row = threadIdx.x / 32 * 16 + g;
    size_t row[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        uint32_t at = tile.block_row + out_row + r * 8;
        row[r] = tile.row0 + (at < tile.n_rows ? at : tile.n_rows - 1);
    }
    float acc[N / 8][4] = {};
    lane_rows w;
    load_rows<TYPE>(tile.m, row, 0, t, &w);
    uint32_t stage = 0, parity = 0;
#pragma unroll 1
    for (uint32_t b = 0; b < n_super; b++) {
        if (threadIdx.x == 0 && b + AHEAD < n_super) {
            bring(p, tile, b + AHEAD, stages, full, empty);
        }
        __syncwarp();
        const uint8_t *acts = stages + stage * STAGE;
        uint32_t first[8][4], second[8][4]; /* high and low bytes */
        int high[N / 2], low[N / 2];        /* sums with the parts of the activation */
        lane_block block = block_of<TYPE>(w, t);
        lane_scales k = scales_of<TYPE>(w, t);
#pragma unroll
        for (int s = 0; s < 8; s++) {
            operand<TYPE, 3>(w, k, s % 4, s / 4, second[s], first[s]);
        }
        if (b + 1 < n_super) {
            load_rows<TYPE>(tile.m, row, b + 1, t, &w);
        }
        barrier_wait(&full[stage], parity);
        uint64_t at = operand_at(acts, 128, CUDA_ACTS_BLOCK);
        wgmma_begin();
#pragma unroll
        for (int s = 0; s < 8; s++) { /* 256 bytes a step, in units of 16; the low part 2048 behind */
            if (TYPE == CUDA_Q6_K) {
                wgmma_s8(high, first[s], at + s * 16, s > 0);
                wgmma_s8(low, first[s], at + s * 16 + 128, s > 0);
            } else {
                wgmma_u8(high, first[s], at + s * 16, s > 0);
                wgmma_u8(low, first[s], at + s * 16 + 128, s > 0);
            }
        }
        wgmma_commit();
        wgmma_wait(high, low);
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            high[i] *= TYPE == CUDA_Q6_K ? 256 : 8;
            low[i] *= TYPE == CUDA_Q6_K ? 256 : 8;
        }
        wgmma_begin();
#pragma unroll
        for (int s = 0; s < 8; s++) {
            wgmma_u8(high, second[s], at + s * 16, 1);
            wgmma_u8(low, second[s], at + s * 16 + 128, 1);
        }
        wgmma_commit();
        wgmma_wait(high, low);
#pragma unroll
        for (int nt = 0; nt < N / 8; nt++) {
            int hi[4], lo[4];
            float term[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                hi[i] = TYPE == CUDA_Q6_K ? high[nt * 4 + i] * 4 : high[nt * 4 + i];
                lo[i] = TYPE == CUDA_Q6_K ? low[nt * 4 + i] * 4 : low[nt * 4 + i];
            }
            terms_of<TYPE>(block, hi, lo, acts + nt * CUDA_ACTS_BLOCK, lane, term);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                acc[nt][i] += term[i];
            }
        }
        barrier_arrive(&empty[stage]);
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
#pragma unroll
    for (int nt = 0; nt < N / 8; nt++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t at = out_row + i / 2 * 8, vector = nt * 8 + 2 * t + i % 2;
            if (tile.block_row + at < tile.n_rows && vector < tile.n) {
                float *y = p.y + (size_t)(tile.first + vector) * p.y_stride + tile.column + at;
                *y = p.add ? *y + acc[nt][i] : acc[nt][i];
            }
        }
    }
}
#endif

template <int TYPE> __global__ void __launch_bounds__(THREADS, 1) wide_product(cuda_product p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ __align__(128) uint8_t shared[];
    uint64_t *full = (uint64_t *)(shared + STAGES * STAGE), *empty = full + STAGES;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            barrier_init(&full[i], 1);
            barrier_init(&empty[i], GROUPS * 128);
        }
        barrier_publish();
    }
    __syncthreads();
    wait_for_input();
    let_next_start();
    tile_of tile = find_tile(p, ROWS);
    if (tile.n == 0) {
        return;
    }
    if (threadIdx.x == 0) {
        for (uint32_t b = 0; b < AHEAD && b < tile.m.n_cols / 256; b++) {
            bring(p, tile, b, shared, full, empty);
        }
    }
    __syncwarp();
    if (tile.n <= 64) {
        consume<TYPE, 64>(p, tile, shared, full, empty);
    } else {
        consume<TYPE, 80>(p, tile, shared, full, empty);
    }
#endif
}

__device__ bool wgmma_found;

__global__ void find_wgmma() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    wgmma_found = true;
#endif
}

static bool has_wide;

extern "C" bool cuda_has_wide(void) {
    return has_wide;
}

extern "C" cudaError_t cuda_wide_setup(void) {
    find_wgmma<<<1, 1>>>();
    cudaError_t status = cudaMemcpyFromSymbol(&has_wide, wgmma_found, sizeof has_wide);
    const void *kernels[] = {(const void *)wide_product<CUDA_Q4_K>, (const void *)wide_product<CUDA_Q5_K>,
                             (const void *)wide_product<CUDA_Q6_K>};
    for (const void *k : kernels) {
        if (has_wide && status == cudaSuccess) {
            status = cudaFuncSetAttribute(k, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED);
        }
    }
    return status;
}

extern "C" cudaError_t cuda_matmul_wide(const cuda_product *p, cudaStream_t stream) {
    dim3 grid(row_blocks(p, ROWS), vector_tiles(p));
    switch (p->w[0].type) {
    case CUDA_Q4_K:
        return launch(wide_product<CUDA_Q4_K>, grid, THREADS, SHARED, stream, *p);
    case CUDA_Q5_K:
        return launch(wide_product<CUDA_Q5_K>, grid, THREADS, SHARED, stream, *p);
    default:
        return launch(wide_product<CUDA_Q6_K>, grid, THREADS, SHARED, stream, *p);
    }
}
