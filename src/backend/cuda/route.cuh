/* The choice of experts by one warp (lfm2.md 2.3): used by prompts and by decoding, so that both choose alike. */
#ifndef CUDA_ROUTE_CUH
#define CUDA_ROUTE_CUH

#include "backend/cuda/common.cuh"

/* sums[n_expert]: the router's products before the norm's scale; becomes the scores' sigmoids. score[n_expert]: scratch.
 * All in shared memory. Ties go to the lower expert; ids ascend. */
__device__ __forceinline__ void choose_experts(const cuda_route &r, float *sums, float *score, float scale, int lane,
                                               uint32_t *ids, float *gains) {
    if (r.n_expert <= 32) { /* the same in registers, which takes a fraction of the time */
        bool is = (uint32_t)lane < r.n_expert;
        float p = is ? sigmoid(sums[lane] * scale) : 0.0f;
        float mine = is ? p + (r.bias ? r.bias[lane] : 0.0f) : -INFINITY;
        uint32_t rank = 0;
#pragma unroll
        for (int j = 0; j < 32; j++) {
            float other = __shfl_sync(FULL, mine, j);
            rank += other > mine || (other == mine && j < lane);
        }
        uint32_t chosen = __ballot_sync(FULL, is && rank < r.used), at = __popc(chosen & ((1u << lane) - 1));
        float sum = 0;
#pragma unroll 1
        for (uint32_t left = chosen, k = 0; left && k < r.used; left &= left - 1, k++) {
            sum += __shfl_sync(FULL, p, __ffs((int)left) - 1);
        }
        if (chosen >> lane & 1 && at < r.used) {
            ids[at] = (uint32_t)lane;
            gains[at] = p * (r.expert_scale / fmaxf(sum, 0x1p-14f));
        }
        __syncwarp();
        return;
    }
#pragma unroll 1
    for (uint32_t e = lane; e < r.n_expert; e += 32) {
        float p = sigmoid(sums[e] * scale);
        sums[e] = p;
        score[e] = p + (r.bias ? r.bias[e] : 0.0f);
    }
    __syncwarp();
    uint32_t base = 0;
#pragma unroll 1
    for (uint32_t e0 = 0; e0 < r.n_expert; e0 += 32) {
        uint32_t e = e0 + lane;
        uint32_t rank = r.used;
        if (e < r.n_expert) {
            float mine = score[e];
            rank = 0;
#pragma unroll 4
            for (uint32_t j = 0; j < r.n_expert; j++) {
                rank += score[j] > mine || (score[j] == mine && j < e);
            }
        }
        uint32_t chosen = __ballot_sync(FULL, rank < r.used);
        uint32_t at = base + __popc(chosen & ((1u << lane) - 1));
        if (rank < r.used && at < r.used) {
            ids[at] = e;
            gains[at] = sums[e];
        }
        base += __popc(chosen);
    }
    __syncwarp();
    float sum = 0;
#pragma unroll 1
    for (uint32_t k = 0; k < r.used; k++) {
        sum += gains[k];
    }
    float norm = r.expert_scale / fmaxf(sum, 0x1p-14f);
    __syncwarp();
#pragma unroll 1
    for (uint32_t k = lane; k < r.used; k += 32) {
        gains[k] *= norm;
    }
    __syncwarp();
}

#endif
