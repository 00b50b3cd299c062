/* What the kernels that draw tokens (sample.cu, select.cu) share: the definition's numbers, and parts of a block's
 * work. */
#ifndef CUDA_SAMPLE_CUH
#define CUDA_SAMPLE_CUH

#include "backend/cuda/common.cuh"
#include "backend/cuda/draw.h"
#include "backend/sample.h"
#include "base/limits.h"

enum { THREADS = 1024, WARPS = THREADS / 32, EACH = CUDA_DRAW_CHUNK / THREADS, LIST = CUDA_DRAW_LIST };

typedef unsigned long long u64;

/* ---- The definition */

/* exp for x <= 0: float additions and multiplications in the order of the host's sampler. */
__device__ __forceinline__ float exp_neg(float x) {
    float n = x * 1.44269504f + 12582912.0f; /* the integer nearest to x / ln 2, in the low bits */
    float scale = __uint_as_float((__float_as_uint(n) - 0x4B400000u + 127u) << 23);
    n -= 12582912.0f;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    float y = ((p * (r * r) + r) + 1.0f) * scale;
    return x >= -87.0f ? y : 0.0f;
}

__device__ __forceinline__ u64 weight_of(float w) {
    return __float2ull_rn(w * (float)(1ull << SAMPLE_ONE_BITS)); /* a power of two: the product is exact */
}

/* Greatest first, ties to the lower id, as one ascending number. */
__device__ __forceinline__ u64 rank_of(float x, uint32_t id) {
    uint32_t u = __float_as_uint(x + 0.0f); /* -0 is 0 */
    return (u64)(u >> 31 ? u : 0x7fffffffu - u) << 32 | id;
}

__device__ __forceinline__ float logit_of(u64 rank) {
    uint32_t u = (uint32_t)(rank >> 32);
    return __uint_as_float(u >> 31 ? u : 0x7fffffffu - u);
}

/* ---- Parts of a block */

__device__ static u64 warp_total(u64 v) {
#pragma unroll
    for (int m = 16; m > 0; m /= 2) {
        v += __shfl_xor_sync(FULL, v, m);
    }
    return v;
}

/* Sum over the threads before this one and itself; *all: over all threads. */
__device__ static u64 block_scan(u64 v, u64 *all) {
    __shared__ u64 sums[WARPS];
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t m = 1; m < 32; m *= 2) {
        u64 x = __shfl_up_sync(FULL, v, m);
        v += lane >= m ? x : 0;
    }
    __syncthreads(); /* sums of the call before have been read */
    if (lane == 31) {
        sums[warp] = v;
    }
    __syncthreads();
    u64 mine = lane < warp ? sums[lane] : 0, total = sums[lane];
    *all = warp_total(total);
    return v + warp_total(mine);
}

__device__ static u64 block_total(u64 v) {
    u64 all;
    block_scan(v, &all);
    return all;
}

__device__ static u64 block_least(u64 v) {
    __shared__ u64 least[WARPS];
#pragma unroll
    for (int m = 16; m > 0; m /= 2) {
        u64 x = __shfl_xor_sync(FULL, v, m);
        v = x < v ? x : v;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        least[threadIdx.x / 32] = v;
    }
    __syncthreads();
    v = least[threadIdx.x % 32];
#pragma unroll
    for (int m = 16; m > 0; m /= 2) {
        u64 x = __shfl_xor_sync(FULL, v, m);
        v = x < v ? x : v;
    }
    return v;
}

__device__ static void fetch_draw(const cuda_drawing &d, cuda_draw *r) {
    static_assert(sizeof(cuda_draw) % 4 == 0 && sizeof(cuda_draw) / 4 <= THREADS, "a thread per word");
    if (threadIdx.x < sizeof(cuda_draw) / 4) {
        ((uint32_t *)r)[threadIdx.x] = __ldcg((const uint32_t *)(d.draws + blockIdx.y) + threadIdx.x);
    }
    __syncthreads();
}

/* Whether this block is the last of its row to get here; then it sees what the others wrote before. */
__device__ static bool is_last(const cuda_drawing &d, uint32_t kernel) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t *ticket = &d.rows[blockIdx.y].tickets[kernel];
        last = atomicAdd(ticket, 1u) == gridDim.x - 1;
        if (last) {
            *ticket = 0;
        }
    }
    __syncthreads();
    __threadfence();
    return last;
}

/* A thread's logits of a chunk, with ids from `first` on; -INFINITY behind the vocabulary. */
__device__ static void load_logits(const float *row, uint32_t n_vocab, uint32_t first, float x[EACH]) {
    static_assert(EACH == 4, "one 16-byte word per thread");
    if (n_vocab % 4 == 0 && first < n_vocab) {
        float4 v = __ldcg((const float4 *)(row + first));
        x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
        return;
    }
    for (uint32_t k = 0; k < EACH; k++) {
        x[k] = first + k < n_vocab ? __ldcg(row + first + k) : -INFINITY;
    }
}

__device__ static bool has_edits(const cuda_draw &r) {
    return r.penalties || r.n_edits;
}

/* The row that is drawn from. */
__device__ static const float *row_of(const cuda_drawing &d, const cuda_draw &r) {
    return (has_edits(r) ? d.edited : d.logits) + (size_t)blockIdx.y * d.n_vocab;
}

__device__ static void finish(const cuda_drawing &d, const cuda_draw &r, int32_t token) {
    d.out[blockIdx.y].token = token;
    d.rows[blockIdx.y].token = token;
    d.rows[blockIdx.y].open = 0;
    if (r.feeds) {
        d.drawn[r.slot] = token < 0 ? 0 : (uint32_t)token;
    }
}

/* Whether a floor is looked for. */
__device__ static bool floors(const cuda_draw &r) {
    return r.kind == CUDA_DRAW_WEIGHED && r.top_k > 0 && r.top_k <= THREADS;
}

struct bounds { /* of a row's candidates */
    const float *row;
    uint32_t n_vocab;
    float max, floor, scale;
};

__device__ static bounds bounds_of(const cuda_drawing &d, const cuda_draw &r) {
    bounds b;
    b.row = row_of(d, r);
    b.n_vocab = d.n_vocab;
    b.max = __ldcg(&d.rows[blockIdx.y].max);
    b.floor = __ldcg(&d.rows[blockIdx.y].floor);
    b.scale = r.scale;
    return b;
}

static cudaError_t launch(void (*kernel)(cuda_drawing), const cuda_drawing *d, cudaStream_t stream) {
    cudaLaunchAttribute ahead = {};
    ahead.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    ahead.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(cuda_draw_chunks(d->n_vocab), d->n);
    config.blockDim = dim3(THREADS);
    config.stream = stream;
    config.attrs = &ahead;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, kernel, *d);
}

/* select.cu: top_k and top_p, between draw_scan and draw_pick */
cudaError_t cuda_draw_select(const cuda_drawing *d, cudaStream_t stream);

#endif
