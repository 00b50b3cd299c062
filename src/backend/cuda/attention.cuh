/*
 * Attention of a group's heads to one page by one warp, for heads of 64, so that K and V are read once: lanes are
 * positions for the scores, pairs of dimensions for the values. And the joining of parts in order by a whole block.
 * Every sum's order is that of docs/numerics.md.
 */
#ifndef CUDA_ATTENTION_CUH
#define CUDA_ATTENTION_CUH

#include "backend/cuda/common.cuh"

enum { KV_PAGE = 64, PART_FLOATS = 64 + 2 /* maximum, sum, values */ };

/* keys, values: [64][64] F16 of the page; q: [HEADS][64] in shared memory. Positions [begin, end) are seen. out:
 * HEADS parts, `stride` floats apart. */
template <int HEADS>
__device__ __forceinline__ void attend_heads(const uint16_t *keys, const uint16_t *values, const float *q, int begin,
                                             int end, int lane, float scale, float *out, uint32_t stride) {
    float e[2][HEADS], top[HEADS], sum[HEADS];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int at = r * 32 + lane;
        const uint4 *k = (const uint4 *)(keys + (size_t)at * 64);
        uint4 w[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            w[i] = k[i];
        }
        float dot[HEADS];
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            dot[h] = 0;
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            uint32_t word[4] = {w[i].x, w[i].y, w[i].z, w[i].w};
            float x[8];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                x[2 * j] = half_bits(word[j] & 0xffff);
                x[2 * j + 1] = half_bits(word[j] >> 16);
            }
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                float4 a = *(const float4 *)(q + h * 64 + i * 8), b = *(const float4 *)(q + h * 64 + i * 8 + 4);
                dot[h] = fmaf(a.x, x[0], dot[h]);
                dot[h] = fmaf(a.y, x[1], dot[h]);
                dot[h] = fmaf(a.z, x[2], dot[h]);
                dot[h] = fmaf(a.w, x[3], dot[h]);
                dot[h] = fmaf(b.x, x[4], dot[h]);
                dot[h] = fmaf(b.y, x[5], dot[h]);
                dot[h] = fmaf(b.z, x[6], dot[h]);
                dot[h] = fmaf(b.w, x[7], dot[h]);
            }
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++) { /* beyond the end lies anything */
            e[r][h] = at >= begin && at < end ? dot[h] * scale : -INFINITY;
        }
    }
    const uint16_t *v = values + 2 * lane;
    uint32_t w[32];
#pragma unroll
    for (int j = 0; j < 32; j++) {
        w[j] = j >= begin && j < end ? *(const uint32_t *)(v + j * 64) : 0;
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        top[h] = warp_max(fmaxf(e[0][h], e[1][h]));
#pragma unroll
        for (int r = 0; r < 2; r++) {
            e[r][h] = r * 32 + lane >= begin && r * 32 + lane < end ? expf(e[r][h] - top[h]) : 0.0f;
        }
        sum[h] = warp_sum(e[0][h] + e[1][h]);
    }
    float2 acc[HEADS];
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        acc[h] = make_float2(0, 0);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
#pragma unroll
        for (int j = 0; j < 32; j++) {
            float x = half_bits(w[j] & 0xffff), y = half_bits(w[j] >> 16);
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                float p = __shfl_sync(FULL, e[r][h], j);
                acc[h].x = fmaf(p, x, acc[h].x);
                acc[h].y = fmaf(p, y, acc[h].y);
            }
            if (r == 0) {
                w[j] = j + 32 >= begin && j + 32 < end ? *(const uint32_t *)(v + (j + 32) * 64) : 0;
            }
        }
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        *(float2 *)(out + h * stride + 2 + 2 * lane) = acc[h];
        if (lane == 0) {
            out[h * stride] = top[h];
            out[h * stride + 1] = sum[h];
        }
    }
}

/* Dimension d of n parts [n][dim + 2], in order. */
__device__ __forceinline__ float join_parts(const float *in, uint32_t n, uint32_t dim, uint32_t d, float *top,
                                            float *sum) {
    float most = -INFINITY, all = 0, value = 0;
#pragma unroll 4
    for (uint32_t s = 0; s < n; s++) {
        most = fmaxf(most, in[(size_t)s * (dim + 2)]);
    }
#pragma unroll 4
    for (uint32_t s = 0; s < n; s++) {
        const float *part = in + (size_t)s * (dim + 2);
        if (part[0] > -INFINITY) {
            float w = expf(part[0] - most);
            all = fmaf(part[1], w, all);
            value = fmaf(part[2 + d], w, value);
        }
    }
    *top = most;
    *sum = all;
    return value;
}

enum { JOIN_FLOATS = 4224 /* 64 parts of 64 dimensions; what join_ordered stages at once */, JOIN_WARPS = 16 };

/* Dimension d0 + tid (tid < n_d) of n parts [n][dim + 2], in order, divided by their sum. n_threads (at most 512)
 * stage the parts side by side, because the sums are one chain. staged: JOIN_FLOATS + JOIN_WARPS floats of shared
 * memory. */
template <class Sync>
__device__ __forceinline__ float join_ordered(const float *in, uint32_t n, uint32_t dim, uint32_t d0, uint32_t n_d,
                                              uint32_t tid, uint32_t n_threads, float *staged, Sync sync) {
    float most = -INFINITY, all = 0, value = 0, *tops = staged + JOIN_FLOATS;
    for (uint32_t s = tid; s < n; s += n_threads) {
        most = fmaxf(most, __ldcg(in + (size_t)s * (dim + 2)));
    }
    most = warp_max(most);
    if (tid % 32 == 0) {
        tops[tid / 32] = most;
    }
    sync();
    for (uint32_t w = 0; w < n_threads / 32; w++) {
        most = fmaxf(most, tops[w]);
    }
    uint32_t width = n_d + 2, at_once = JOIN_FLOATS / width;
    for (uint32_t s0 = 0; s0 < n; s0 += at_once) {
        uint32_t m = n - s0 < at_once ? n - s0 : at_once;
#pragma unroll 4
        for (uint32_t i = tid; i < m * width; i += n_threads) {
            uint32_t s = i / width, k = i % width;
            float x = __ldcg(in + (size_t)(s0 + s) * (dim + 2) + (k < 2 ? k : d0 + k));
            staged[i] = k > 0 ? x : x > -INFINITY ? expf(x - most) : -1.0f; /* -1: sees nothing, holds anything */
        }
        sync();
        if (tid < n_d) {
#pragma unroll 4
            for (uint32_t s = 0; s < m; s++) {
                const float *part = staged + s * width;
                float w = part[0];
                if (w >= 0) {
                    all = fmaf(part[1], w, all);
                    value = fmaf(part[2 + tid], w, value);
                }
            }
        }
        sync();
    }
    return value / all;
}

#endif
