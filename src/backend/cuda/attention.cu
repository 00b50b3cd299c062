/*
 * Attention over pages. A block takes the query heads of one KV head of one token, and one split of four pages; a warp takes
 * one head and one page: lanes are positions for the scores, dimensions for the values. Pages, then splits, are joined in
 * order. The same code computes prompts and decoding, so the splits and every sum are the same for both.
 * Decoding reads 2 KiB of K and V per position and layer; at depth 32768 that is 15 us per layer on an H200.
 */
#include "backend/cuda/attention.cuh"

enum {
    PAGE = 64,
    PAGES = CUDA_SPLIT / PAGE,
    WARPS = 16,
    DIM_MAX = 256,
    JOIN_THREADS = 256,
    DEEP = 64 /* splits of a step from which attend_deep takes over: its blocks fill the device from there on */
};

/* Kernels exist for heads of 64, as all published models have, and for any size (DIM 0). */
#define MOST(DIM)      (DIM ? DIM : DIM_MAX)
#define SIZE(DIM, dim) (DIM ? DIM : dim)

/* x = rotate(norm(x)) of one head by one warp, from global to dim floats at `to` (shared or global). */
template <int DIM>
__device__ static void prepare_head(const float *x, const float *gain, const float *cos_sin, uint32_t dim, float eps,
                                    int lane, float *to) {
    float v[MOST(DIM) / 32], sum = 0;
    dim = SIZE(DIM, dim);
    uint32_t half = dim / 2;
#pragma unroll
    for (int i = 0; i < MOST(DIM) / 32; i++) {
        uint32_t d = lane + 32 * i;
        v[i] = d < dim ? x[d] : 0.0f;
        sum = fmaf(v[i], v[i], sum);
    }
    float scale = norm_scale(warp_sum(sum), dim, eps);
#pragma unroll
    for (int i = 0; i < MOST(DIM) / 32; i++) {
        uint32_t d = lane + 32 * i;
        if (d < dim) {
            to[d] = v[i] * scale * gain[d];
        }
    }
    __syncwarp();
    for (uint32_t d = lane; d < half; d += 32) {
        float a = to[d], b = to[d + half], c = cos_sin[d], s = cos_sin[half + d];
        to[d] = fmaf(a, c, -(b * s));
        to[d + half] = fmaf(a, s, b * c);
    }
    __syncwarp();
}

__device__ static void store_head(const cuda_attn &a, uint32_t page, uint32_t at, uint32_t head, const float *k,
                                  const float *v, int lane) {
    size_t to = page * a.page_stride + ((size_t)head * PAGE + at) * a.dim;
    for (uint32_t d = lane; d < a.dim; d += 32) {
        a.keys[to + d] = __half_as_ushort(__float2half_rn(k[d]));
        a.values[to + d] = __half_as_ushort(__float2half_rn(v[d]));
    }
}

/* Norms and rotates q and k in place and stores k and v. A warp per head, grid (tokens). */
__global__ void store_kv(cuda_step step, cuda_attn a) {
    uint32_t t = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const cuda_token tok = step.tokens[t];
    float *qkv = a.qkv + (size_t)t * (a.n_head + 2 * a.n_head_kv) * a.dim;
    const float *cos_sin = a.cos_sin + (size_t)t * a.dim;
    uint32_t page = step.pages[step.rows[tok.row].first_page + tok.pos / PAGE];
    for (uint32_t i = warp; i < a.n_head + a.n_head_kv; i += blockDim.x / 32) {
        float *x = qkv + (size_t)i * a.dim;
        bool is_k = i >= a.n_head;
        prepare_head<0>(x, is_k ? a.k_norm : a.q_norm, cos_sin, a.dim, a.eps, (int)lane, x);
        if (is_k) {
            store_head(a, page, tok.pos % PAGE, i - a.n_head, x, x + (size_t)a.n_head_kv * a.dim, (int)lane);
        }
    }
}

extern "C" cudaError_t cuda_store_kv(const cuda_step *step, const cuda_attn *a, cudaStream_t stream) {
    store_kv<<<step->n, 256, 0, stream>>>(*step, *a);
    return cudaGetLastError();
}

/* One head's attention to positions [begin, end) of one page, by a warp: maximum, sum, values (lane's dimensions 2 * lane
 * + 64 * i and the next). */
template <int DIM>
__device__ static void attend_page(const cuda_attn &a, const float *q, size_t page_at, int begin, int end, int lane,
                                   float *top, float *sum, float2 acc[MOST(DIM) / 64]) {
    float score[2];
    const uint32_t dim = SIZE(DIM, a.dim);
    for (int r = 0; r < 2; r++) {
        int at = r * 32 + lane;
        const uint4 *k = (const uint4 *)(a.keys + page_at + (size_t)at * dim);
        float dot = 0;
        if (at >= begin && at < end) {
#pragma unroll 8
            for (uint32_t d = 0; d < dim; d += 8) {
                uint4 w = k[d / 8];
                uint32_t word[4] = {w.x, w.y, w.z, w.w};
                for (int i = 0; i < 4; i++) {
                    dot = fmaf(q[d + 2 * i], half_bits(word[i] & 0xffff), dot);
                    dot = fmaf(q[d + 2 * i + 1], half_bits(word[i] >> 16), dot);
                }
            }
            score[r] = dot * a.scale;
        } else {
            score[r] = -INFINITY;
        }
    }
    *top = warp_max(fmaxf(score[0], score[1]));
    float e0 = begin <= lane && lane < end ? expf(score[0] - *top) : 0.0f;
    float e1 = begin <= lane + 32 && lane + 32 < end ? expf(score[1] - *top) : 0.0f;
    *sum = warp_sum(e0 + e1);
    for (int i = 0; i < MOST(DIM) / 64; i++) {
        acc[i] = make_float2(0, 0);
    }
    constexpr int BATCH = MOST(DIM) == 64 ? 32 : 8; /* rows of values in flight */
    const uint16_t *values = a.values + page_at;
#pragma unroll 1
    for (int j0 = 0; j0 < PAGE; j0 += BATCH) {
        uint32_t w[BATCH][MOST(DIM) / 64];
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
#pragma unroll
            for (int i = 0; i < MOST(DIM) / 64; i++) {
                uint32_t d = 2 * lane + 64 * i;
                bool in = j0 + j >= begin && j0 + j < end && d < dim; /* beyond the end lies anything */
                w[j][i] = in ? *(const uint32_t *)(values + (size_t)(j0 + j) * dim + d) : 0;
            }
        }
        float e = j0 < 32 ? e0 : e1;
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            float p = __shfl_sync(FULL, e, (j0 + j) & 31);
#pragma unroll
            for (int i = 0; i < MOST(DIM) / 64; i++) {
                acc[i].x = fmaf(p, half_bits(w[j][i] & 0xffff), acc[i].x);
                acc[i].y = fmaf(p, half_bits(w[j][i] >> 16), acc[i].y);
            }
        }
    }
}

/* A token and the part of a split that it sees. */
struct view {
    uint32_t pos, split_begin, split_end, begin; /* positions; begin: of its window */
    uint32_t page_of[PAGES];
};

__device__ static view make_view(const cuda_step &step, const cuda_attn &a, uint32_t t, uint32_t split) {
    view v;
    const cuda_token tok = step.tokens[t];
    const uint32_t *pages = step.pages + step.rows[tok.row].first_page;
    uint32_t end = tok.pos + 1;
    v.pos = tok.pos;
    v.begin = a.window && end > a.window ? end - a.window : 0;
    v.split_begin = split * CUDA_SPLIT;
    v.split_end = v.split_begin + CUDA_SPLIT < end ? v.split_begin + CUDA_SPLIT : end;
    for (uint32_t p = 0; p < PAGES; p++) {
        v.page_of[p] = v.split_begin + p * PAGE < v.split_end ? pages[split * PAGES + p] : 0;
    }
    return v;
}

__device__ __forceinline__ bool sees_nothing(const view &v) {
    return v.split_begin >= v.split_end || v.split_begin + CUDA_SPLIT <= v.begin;
}

/* One head and page of a view, by a warp: maximum, sum, values to out[dim + 2]. */
template <int DIM>
__device__ static void attend_view(const cuda_attn &a, const view &v, uint32_t p, uint32_t head_kv, const float *q,
                                   int lane, float *out) {
    const uint32_t dim = SIZE(DIM, a.dim), page_begin = v.split_begin + p * PAGE;
    int from = v.begin > page_begin ? (int)(v.begin - page_begin) : 0;
    int to = v.split_end > page_begin ? (int)(v.split_end - page_begin) : 0;
    to = to < PAGE ? to : PAGE;
    float top = -INFINITY, sum = 0;
    float2 acc[MOST(DIM) / 64];
    if (from < to) {
        attend_page<DIM>(a, q, v.page_of[p] * a.page_stride + (size_t)head_kv * PAGE * dim, from, to, lane, &top, &sum,
                         acc);
#pragma unroll
        for (int k = 0; k < MOST(DIM) / 64; k++) {
            uint32_t d = 2 * lane + 64 * k;
            if (d < dim) {
                out[2 + d] = acc[k].x;
                out[3 + d] = acc[k].y;
            }
        }
    }
    if (lane == 0) {
        out[0] = top;
        out[1] = sum;
    }
}

/* Pages of one head, joined[PAGES][dim + 2], become the head's output or its part of this split. */
__device__ __forceinline__ void join_pages(const cuda_attn &a, const float *joined, uint32_t dim, uint32_t d,
                                           float *part, float *out) {
    float top, sum, value = join_parts(joined, PAGES, dim, d, &top, &sum);
    if (a.n_splits == 1) {
        out[d] = value / sum;
    } else {
        part[2 + d] = value;
        if (d == 0) {
            part[0] = top;
            part[1] = sum;
        }
    }
}

/* Decoding, with the norm and rotation of q and k and the storing of k and v. Grid (splits, KV heads, tokens). shared: q
 * [group][dim], then per (head, page) maximum, sum, values [dim]. */
template <int DIM> __global__ void __launch_bounds__(32 * WARPS, 2) attend(cuda_step step, cuda_attn a) {
    extern __shared__ float shared[];
    __shared__ view v;
    let_next_start();
    const uint32_t dim = SIZE(DIM, a.dim), t = blockIdx.z, head_kv = blockIdx.y, split = blockIdx.x;
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = a.n_head / a.n_head_kv;
    if (threadIdx.x == 0) {
        v = make_view(step, a, t, split);
    }
    __syncthreads();
    wait_for_input();
    size_t head0 = (size_t)t * a.n_head + head_kv * group;
    float *part = a.part + (head0 * a.n_splits + split) * (dim + 2);
    size_t part_stride = (size_t)a.n_splits * (dim + 2);
    if (sees_nothing(v)) {
        if (a.n_splits > 1 && threadIdx.x < group) {
            part[threadIdx.x * part_stride] = -INFINITY;
        }
        return;
    }
    float *q = shared, *joined = shared + (size_t)group * dim;
    const float *qkv = a.qkv + (size_t)t * (a.n_head + 2 * a.n_head_kv) * dim;
    const float *cos_sin = a.cos_sin + (size_t)t * dim;
    for (uint32_t g = warp; g < group; g += WARPS) {
        prepare_head<DIM>(qkv + (size_t)(head_kv * group + g) * dim, a.q_norm, cos_sin, dim, a.eps, (int)lane,
                          q + g * dim);
    }
    if (v.split_end == v.pos + 1 && warp == WARPS - 1) { /* the token's own K and V */
        const float *k = qkv + (size_t)(a.n_head + head_kv) * dim;
        float *rotated = joined; /* free until the pages are done */
        prepare_head<DIM>(k, a.k_norm, cos_sin, dim, a.eps, (int)lane, rotated);
        store_head(a, v.page_of[v.pos % CUDA_SPLIT / PAGE], v.pos % PAGE, head_kv, rotated,
                   k + (size_t)a.n_head_kv * dim, (int)lane);
    }
    __syncthreads();
    for (uint32_t i = warp; i < group * PAGES; i += WARPS) {
        attend_view<DIM>(a, v, i % PAGES, head_kv, q + i / PAGES * dim, (int)lane, joined + (size_t)i * (dim + 2));
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < group * dim; i += blockDim.x) {
        uint32_t g = i / dim;
        join_pages(a, joined + (size_t)g * PAGES * (dim + 2), dim, i % dim, part + g * part_stride,
                   a.out + (head0 + g) * dim);
    }
}

/* The same where many splits are under way: four warps, each one page for all four heads of the group, so that K and
 * V are read once. Heads of 64. */
__global__ void __launch_bounds__(32 * PAGES, 4) attend_deep(cuda_step step, cuda_attn a) {
    enum { GROUP = 4 };
    __shared__ __align__(16) float q[GROUP * 64], joined[GROUP * PAGES * PART_FLOATS];
    __shared__ view v;
    let_next_start();
    const uint32_t t = blockIdx.z, head_kv = blockIdx.y, split = blockIdx.x;
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        v = make_view(step, a, t, split);
    }
    __syncthreads();
    wait_for_input();
    size_t head0 = (size_t)t * a.n_head + head_kv * GROUP;
    float *part = a.part + (head0 * a.n_splits + split) * PART_FLOATS;
    size_t part_stride = (size_t)a.n_splits * PART_FLOATS;
    if (sees_nothing(v)) {
        if (threadIdx.x < GROUP) {
            part[threadIdx.x * part_stride] = -INFINITY;
        }
        return;
    }
    const float *qkv = a.qkv + (size_t)t * (a.n_head + 2 * a.n_head_kv) * 64;
    const float *cos_sin = a.cos_sin + (size_t)t * 64;
    prepare_head<64>(qkv + (size_t)(head_kv * GROUP + warp) * 64, a.q_norm, cos_sin, 64, a.eps, (int)lane,
                     q + warp * 64);
    if (v.split_end == v.pos + 1 && warp == PAGES - 1) {
        const float *k = qkv + (size_t)(a.n_head + head_kv) * 64;
        prepare_head<64>(k, a.k_norm, cos_sin, 64, a.eps, (int)lane, joined);
        store_head(a, v.page_of[v.pos % CUDA_SPLIT / PAGE], v.pos % PAGE, head_kv, joined, k + (size_t)a.n_head_kv * 64,
                   (int)lane);
    }
    __syncthreads();
    uint32_t page_begin = v.split_begin + warp * PAGE;
    int from = v.begin > page_begin ? (int)(v.begin - page_begin) : 0;
    int to = v.split_end > page_begin ? (int)(v.split_end - page_begin) : 0;
    to = to < PAGE ? to : PAGE;
    if (from < to) {
        size_t at = v.page_of[warp] * a.page_stride + (size_t)head_kv * PAGE * 64;
        attend_heads<GROUP>(a.keys + at, a.values + at, q, from, to, (int)lane, a.scale, joined + warp * PART_FLOATS,
                            PAGES * PART_FLOATS);
    } else if (lane < GROUP) {
        joined[(lane * PAGES + warp) * PART_FLOATS] = -INFINITY;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < GROUP * 64; i += blockDim.x) {
        uint32_t g = i / 64;
        join_pages(a, joined + g * PAGES * PART_FLOATS, 64, i % 64, part + g * part_stride, a.out + (head0 + g) * 64);
    }
}

/* Prompts: a block takes several tokens against one split, whose pages then come from L1. shared as above, per token. */
enum { PROMPT_TOKENS = 8 };

template <int DIM>
__global__ void __launch_bounds__(32 * WARPS, 2)
    attend_prompt(cuda_step step, cuda_attn a, uint32_t first, uint32_t n, uint32_t per_block) {
    extern __shared__ float shared[];
    __shared__ view views[PROMPT_TOKENS];
    const uint32_t dim = SIZE(DIM, a.dim), head_kv = blockIdx.y, split = blockIdx.x, t0 = blockIdx.z * per_block;
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = a.n_head / a.n_head_kv;
    uint32_t n_here = n - t0 < per_block ? n - t0 : per_block;
    float *q = shared, *joined = shared + (size_t)per_block * group * dim;
    if (threadIdx.x < n_here) {
        views[threadIdx.x] = make_view(step, a, first + t0 + threadIdx.x, split);
    }
    for (uint32_t i = threadIdx.x; i < n_here * group * dim; i += blockDim.x) {
        uint32_t t = first + t0 + i / (group * dim);
        q[i] = a.qkv[(size_t)t * (a.n_head + 2 * a.n_head_kv) * dim + head_kv * group * dim + i % (group * dim)];
    }
    __syncthreads();
    for (uint32_t i = warp; i < n_here * group * PAGES; i += WARPS) {
        const view &v = views[i / (group * PAGES)];
        attend_view<DIM>(a, v, i % PAGES, head_kv, q + i / PAGES * dim, (int)lane, joined + (size_t)i * (dim + 2));
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n_here * group * dim; i += blockDim.x) {
        uint32_t head = i / dim, local = t0 + head / group; /* head: among those of this block */
        size_t at = (size_t)local * a.n_head + head_kv * group + head % group;
        float *part = a.part + (at * a.n_splits + split) * (dim + 2);
        if (!sees_nothing(views[head / group])) {
            join_pages(a, joined + (size_t)head * PAGES * (dim + 2), dim, i % dim, part,
                       a.out + (at + (size_t)first * a.n_head) * dim);
        } else if (a.n_splits > 1 && i % dim == 0) {
            part[0] = -INFINITY;
        }
    }
}

/* Grid (heads, tokens). */
__global__ void __launch_bounds__(JOIN_THREADS) join_splits(cuda_step step, cuda_attn a, uint32_t first, bool fused) {
    __shared__ float staged[JOIN_FLOATS + JOIN_WARPS];
    if (fused) {
        let_next_start();
        wait_for_input();
    }
    uint32_t t = first + blockIdx.y, n = step.tokens[t].pos / CUDA_SPLIT + 1;
    const float *in = a.part + ((size_t)blockIdx.y * a.n_head + blockIdx.x) * a.n_splits * (a.dim + 2);
    float value = join_ordered(in, n, a.dim, 0, a.dim, threadIdx.x, JOIN_THREADS, staged, [] { __syncthreads(); });
    if (threadIdx.x < a.dim) {
        a.out[((size_t)t * a.n_head + blockIdx.x) * a.dim + threadIdx.x] = value;
    }
}

/* Shared memory per token: q, and per head and page dim + 2 floats. Open refuses heads that need more than there is. */
static size_t shared_of(const cuda_attn *a) {
    uint32_t group = a->n_head / a->n_head_kv;
    return (group * (size_t)a->dim + (size_t)group * PAGES * (a->dim + 2)) * sizeof(float);
}

extern "C" cudaError_t cuda_attend(const cuda_step *step, const cuda_attn *a, uint32_t first, uint32_t n, bool fused,
                                   cudaStream_t stream) {
    cudaLaunchAttribute ahead = {};
    ahead.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    ahead.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(a->n_splits, a->n_head_kv, n);
    config.blockDim = dim3(32 * WARPS);
    config.dynamicSmemBytes = shared_of(a);
    config.stream = stream;
    config.attrs = &ahead;
    config.numAttrs = fused ? 1 : 0;
    cudaError_t status;
    if (fused) {
        if (a->dim == 64 && a->n_head == 4 * a->n_head_kv && a->n_splits * n >= DEEP) {
            config.blockDim = dim3(32 * PAGES);
            config.dynamicSmemBytes = 0;
            status = cudaLaunchKernelEx(&config, attend_deep, *step, *a);
        } else {
            status = cudaLaunchKernelEx(&config, a->dim == 64 ? attend<64> : attend<0>, *step, *a);
        }
    } else {
        uint32_t fit = (uint32_t)((44 << 10) / shared_of(a)), most = PROMPT_TOKENS,
                 per_block = fit < 1      ? 1
                             : fit < most ? fit
                                          : most;
        config.gridDim.z = (n + per_block - 1) / per_block;
        config.dynamicSmemBytes *= per_block;
        status = cudaLaunchKernelEx(&config, a->dim == 64 ? attend_prompt<64> : attend_prompt<0>, *step, *a, first, n,
                                    per_block);
    }
    if (status == cudaSuccess && a->n_splits > 1) {
        config.gridDim = dim3(a->n_head, n);
        config.blockDim = dim3(JOIN_THREADS);
        config.dynamicSmemBytes = 0;
        status = cudaLaunchKernelEx(&config, join_splits, *step, *a, first, fused);
    }
    return status;
}

extern "C" cudaError_t cuda_attend_setup(void) {
    const void *kernels[] = {(const void *)attend<64>, (const void *)attend<0>, (const void *)attend_deep,
                             (const void *)join_splits};
    for (const void *k : kernels) { /* as the decode kernels, among which these stand */
        cudaError_t status =
            cudaFuncSetAttribute(k, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
        if (status != cudaSuccess) {
            return status;
        }
    }
    return cudaSuccess;
}

extern "C" cudaError_t cuda_join_splits(const cuda_step *step, const cuda_attn *a, uint32_t first, uint32_t n,
                                        cudaStream_t stream) {
    join_splits<<<dim3(a->n_head, n), JOIN_THREADS, 0, stream>>>(*step, *a, first, false);
    return cudaGetLastError();
}
