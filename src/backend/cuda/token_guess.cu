/*
 * What each channel of an operator's output adds to the router's logits through out_proj, for guesses of the experts
 * that a layer will choose: [n_expert][n_rows] . [n_rows][n_cols]. Run once per layer at load.
 *
 * A block takes 32 columns, EXPERTS experts and all rows; a warp reads the 32 weights of a row, and a thread keeps its
 * column's sums of every SLICES-th row. The order of sums depends on neither the grid nor the device. Limit: unpacking
 * of single weights, once per EXPERTS experts.
 */
#include "backend/cuda/weight.cuh"

#define EXPERTS   16u /* their sums and the unpacking fit in the 64 registers that 1024 threads leave to each */
#define SLICES    32u
#define TILE      256u          /* rows whose factors are in shared memory at a time */
#define STRIDE    (EXPERTS + 4) /* floats of a row there: whole 16-byte words, spread over the banks */
#define AT_A_TIME 4u            /* experts whose slices are added together */

union scratch {
    float factor[TILE][STRIDE]; /* router * gain, 0 for experts that there are not */
    float sum[AT_A_TIME][SLICES][32];
};

__global__ void __launch_bounds__(32 * SLICES, 1)
    guess_table(cuda_mat out, const float *router, const float *gain, uint32_t n_expert, float *table) {
    __shared__ __align__(16) scratch s;
    uint32_t lane = threadIdx.x % 32, slice = threadIdx.x / 32;
    uint32_t column0 = blockIdx.x * 32, expert0 = blockIdx.y * EXPERTS;
    float sum[EXPERTS] = {};
    for (uint32_t row0 = 0; row0 < out.n_rows; row0 += TILE) {
        uint32_t n = min(TILE, out.n_rows - row0);
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < TILE * EXPERTS; i += 32 * SLICES) {
            uint32_t r = i % TILE, e = i / TILE;
            bool is = r < n && expert0 + e < n_expert;
            s.factor[r][e] = is ? router[(size_t)(expert0 + e) * out.n_rows + row0 + r] * gain[row0 + r] : 0.0f;
        }
        __syncthreads();
        for (uint32_t r = slice; r < n; r += SLICES) {
            float w = weight_at(out, row0 + r, column0 + lane);
#pragma unroll
            for (uint32_t e = 0; e < EXPERTS; e += 4) {
                float4 f = *(const float4 *)&s.factor[r][e];
                sum[e] = fmaf(f.x, w, sum[e]);
                sum[e + 1] = fmaf(f.y, w, sum[e + 1]);
                sum[e + 2] = fmaf(f.z, w, sum[e + 2]);
                sum[e + 3] = fmaf(f.w, w, sum[e + 3]);
            }
        }
    }
#pragma unroll
    for (uint32_t e0 = 0; e0 < EXPERTS; e0 += AT_A_TIME) {
        __syncthreads();
#pragma unroll
        for (uint32_t e = 0; e < AT_A_TIME; e++) {
            s.sum[e][slice][lane] = sum[e0 + e];
        }
        __syncthreads();
        uint32_t e = slice, expert = expert0 + e0 + e;
        if (e < AT_A_TIME && expert < n_expert) {
            float v = 0;
            for (uint32_t k = 0; k < SLICES; k++) {
                v += s.sum[e][k][lane];
            }
            table[(size_t)expert * out.n_cols + column0 + lane] = v;
        }
    }
}

extern "C" cudaError_t cuda_guess_table(const cuda_mat *out, const float *router, const float *gain, uint32_t n_expert,
                                        float *table, cudaStream_t stream) {
    dim3 grid(out->n_cols / 32, (n_expert + EXPERTS - 1) / EXPERTS);
    guess_table<<<grid, 32 * SLICES, 0, stream>>>(*out, router, gain, n_expert, table);
    return cudaGetLastError();
}
