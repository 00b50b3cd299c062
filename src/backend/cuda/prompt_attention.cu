/*
 * Attention of many tokens at once, heads of 64. A block takes 64 queries (the query heads of one KV head for several
 * tokens) against one split of four pages: scores of all four to shared memory, their maxima and exponentials, then the
 * values page by page. Every sum is that of attention.cu: dimensions in order, a page's 64 exponentials as a tree,
 * positions in order, pages in order; only who computes it differs. Limit: 128 multiply-adds per query and position at
 * the F32 rate; a thread's tile of 8 by 4 takes 12 reads of shared memory for 128 of them.
 */
#include "backend/cuda/common.cuh"
#include "backend/cuda/launch.cuh"

enum {
    PAGE = 64,
    PAGES = CUDA_SPLIT / PAGE,
    DIM = 64,
    QUERIES = 64,
    THREADS = 128,
    PAD = DIM + 4, /* floats from row to row: rows begin in other banks */
    SCORES = CUDA_SPLIT + 4,
};

struct attend_shared {
    float q[QUERIES][PAD], kv[PAGE][PAD], scores[QUERIES][SCORES];
    float top[QUERIES][PAGES], sum[QUERIES][PAGES];
    int end[QUERIES]; /* positions that a query sees end here, counted from the split's first; 0: none */
    int begin[QUERIES];
};

/* Sixteen bytes four times: a page's 64 x 64 halves. */
struct page_part {
    uint4 v[4];
};

__device__ __forceinline__ page_part fetch_page(const uint16_t *page) {
    page_part p;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        p.v[k] = *(const uint4 *)(page + (threadIdx.x + k * THREADS) * 8);
    }
    return p;
}

/* As floats; positions from `known` on become zero, since anything may lie there. */
__device__ __forceinline__ void put_page(const page_part &p, int known, float kv[PAGE][PAD]) {
#pragma unroll
    for (int k = 0; k < 4; k++) {
        int i = (int)threadIdx.x + k * THREADS, at = i / 8;
        uint32_t w[4] = {p.v[k].x, p.v[k].y, p.v[k].z, p.v[k].w};
        float f[8];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            f[2 * j] = at < known ? half_bits(w[j] & 0xffff) : 0.0f;
            f[2 * j + 1] = at < known ? half_bits(w[j] >> 16) : 0.0f;
        }
        float4 *to = (float4 *)&kv[at][i % 8 * 8];
        to[0] = make_float4(f[0], f[1], f[2], f[3]);
        to[1] = make_float4(f[4], f[5], f[6], f[7]);
    }
}

__device__ __forceinline__ float part_of(const float4 &v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* Queries row0 + 8 i, positions col0 + 16 j. */
__device__ __forceinline__ void page_scores(attend_shared &s, uint32_t page, uint32_t row0, uint32_t col0,
                                            float scale) {
    float acc[8][4] = {};
#pragma unroll 4
    for (int d = 0; d < DIM; d += 4) {
        float4 q[8], k[4];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            q[i] = *(const float4 *)&s.q[row0 + 8 * i][d];
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            k[j] = *(const float4 *)&s.kv[col0 + 16 * j][d];
        }
#pragma unroll
        for (int e = 0; e < 4; e++) {
#pragma unroll
            for (int i = 0; i < 8; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    acc[i][j] = fmaf(part_of(q[i], e), part_of(k[j], e), acc[i][j]);
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            s.scores[row0 + 8 * i][page * PAGE + col0 + 16 * j] = acc[i][j] * scale;
        }
    }
}

/* Scores of a warp's queries become exponentials, 0 where a query does not see. */
__device__ __forceinline__ void exponentials(attend_shared &s, uint32_t warp, int lane) {
#pragma unroll 1
    for (uint32_t r = warp; r < QUERIES; r += THREADS / 32) {
        int begin = s.begin[r], end = s.end[r];
        float top[PAGES], sum[PAGES];
#pragma unroll
        for (int p = 0; p < PAGES; p++) {
            int at0 = p * PAGE + lane, at1 = at0 + 32;
            bool in0 = begin <= at0 && at0 < end, in1 = begin <= at1 && at1 < end;
            float s0 = in0 ? s.scores[r][at0] : -INFINITY, s1 = in1 ? s.scores[r][at1] : -INFINITY;
            top[p] = warp_max(fmaxf(s0, s1));
            float e0 = in0 ? expf(s0 - top[p]) : 0.0f, e1 = in1 ? expf(s1 - top[p]) : 0.0f;
            sum[p] = warp_sum(e0 + e1);
            s.scores[r][at0] = e0;
            s.scores[r][at1] = e1;
        }
        if (lane == 0) {
#pragma unroll
            for (int p = 0; p < PAGES; p++) {
                s.top[r][p] = top[p];
                s.sum[r][p] = sum[p];
            }
        }
    }
}

/* Queries row0 + 8 i, dimensions d0..d0 + 3: the sum over a page's positions. */
__device__ __forceinline__ void page_values(const attend_shared &s, uint32_t page, uint32_t row0, uint32_t d0,
                                            float acc[8][4]) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            acc[i][k] = 0;
        }
    }
#pragma unroll 4
    for (int j = 0; j < PAGE; j += 4) {
        float4 p[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            p[i] = *(const float4 *)&s.scores[row0 + 8 * i][page * PAGE + j];
        }
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float4 v = *(const float4 *)&s.kv[j + e][d0];
#pragma unroll
            for (int i = 0; i < 8; i++) {
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    acc[i][k] = fmaf(part_of(p[i], e), part_of(v, k), acc[i][k]);
                }
            }
        }
    }
}

/* Grid (splits, KV heads, tiles of QUERIES / group tokens). A tile may hold tokens of several rows: one after
 * another. */
__global__ void __launch_bounds__(THREADS, 2) attend_many(cuda_step step, cuda_attn a, uint32_t first, uint32_t n) {
    extern __shared__ __align__(16) uint8_t raw[];
    attend_shared &s = *(attend_shared *)raw;
    wait_for_input();
    let_next_start();
    uint32_t tid = threadIdx.x, warp = tid / 32, lane = tid % 32, split = blockIdx.x, head_kv = blockIdx.y;
    uint32_t group = a.n_head / a.n_head_kv, tokens = QUERIES / group, t0 = blockIdx.z * tokens;
    uint32_t n_here = n - t0 < tokens ? n - t0 : tokens, split_begin = split * CUDA_SPLIT;
    uint32_t rg = warp % 2 * 4 + lane / 8, cg = warp / 2 * 8 + lane % 8; /* of 8 and 16 */
    const cuda_token *toks = step.tokens + first + t0;
    for (uint32_t i = tid; i < QUERIES * DIM / 4; i += THREADS) {
        uint32_t r = i / (DIM / 4), d = i % (DIM / 4) * 4, t = r / group;
        float4 x = {};
        if (t < n_here) {
            x = *(const float4 *)(a.qkv + (size_t)(first + t0 + t) * (a.n_head + 2 * a.n_head_kv) * DIM +
                                  (size_t)(head_kv * group + r % group) * DIM + d);
        }
        *(float4 *)&s.q[r][d] = x;
    }
    for (uint32_t t_begin = 0, t_end; t_begin < n_here; t_begin = t_end) {
        uint32_t row = toks[t_begin].row;
        for (t_end = t_begin + 1; t_end < n_here && toks[t_end].row == row; t_end++) {
        }
        uint32_t last = toks[t_end - 1].pos + 1, seen = last > split_begin ? last - split_begin : 0;
        int known = (int)(seen < CUDA_SPLIT ? seen : CUDA_SPLIT), n_pages = (known + PAGE - 1) / PAGE;
        const uint32_t *pages = step.pages + step.rows[row].first_page + split * PAGES;
        if (tid < QUERIES) {
            uint32_t t = tid / group, end = 0, begin = 0;
            if (t >= t_begin && t < t_end) {
                end = toks[t].pos + 1;
                begin = a.window && end > a.window ? end - a.window : 0;
            }
            end = end > split_begin ? end - split_begin : 0;
            s.end[tid] = (int)(end < CUDA_SPLIT ? end : CUDA_SPLIT);
            s.begin[tid] = begin > split_begin ? (int)(begin - split_begin) : 0;
        }
        __syncthreads();
        float value[8][4] = {};
        size_t head_at = (size_t)head_kv * PAGE * DIM;
        page_part next = {};
        if (n_pages) {
            next = fetch_page(a.keys + pages[0] * a.page_stride + head_at);
        }
        for (int p = 0; p < n_pages; p++) {
            put_page(next, known - p * PAGE, s.kv);
            __syncthreads();
            next = fetch_page(p + 1 < n_pages ? a.keys + pages[p + 1] * a.page_stride + head_at
                                              : a.values + pages[0] * a.page_stride + head_at);
            page_scores(s, (uint32_t)p, rg, cg, a.scale);
            __syncthreads();
        }
        exponentials(s, warp, (int)lane);
        for (int p = 0; p < n_pages; p++) {
            put_page(next, known - p * PAGE, s.kv);
            __syncthreads();
            if (p + 1 < n_pages) {
                next = fetch_page(a.values + pages[p + 1] * a.page_stride + head_at);
            }
            float acc[8][4];
            page_values(s, (uint32_t)p, rg, cg * 4, acc);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const float *top = s.top[rg + 8 * i];
                float most = fmaxf(fmaxf(top[0], top[1]), fmaxf(top[2], top[3])), mine = top[p];
                if (mine > -INFINITY) {
                    float w = expf(mine - most);
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        value[i][k] = fmaf(acc[i][k], w, value[i][k]);
                    }
                }
            }
            __syncthreads();
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 8; i++) {
            uint32_t r = rg + 8 * i, t = r / group;
            if (t < t_begin || t >= t_end) {
                continue;
            }
            const float *top = s.top[r];
            float most = fmaxf(fmaxf(top[0], top[1]), fmaxf(top[2], top[3])), sum = 0;
#pragma unroll
            for (int p = 0; p < PAGES; p++) {
                if (top[p] > -INFINITY) {
                    sum = fmaf(s.sum[r][p], expf(top[p] - most), sum);
                }
            }
            size_t at = (size_t)(t0 + t) * a.n_head + head_kv * group + r % group;
            if (a.n_splits == 1) {
                *(float4 *)(a.out + (at + (size_t)first * a.n_head) * DIM + cg * 4) =
                    make_float4(value[i][0] / sum, value[i][1] / sum, value[i][2] / sum, value[i][3] / sum);
                continue;
            }
            float *part = a.part + (at * a.n_splits + split) * (DIM + 2);
            if (most > -INFINITY) {
                float2 *to = (float2 *)(part + 2 + cg * 4);
                to[0] = make_float2(value[i][0], value[i][1]);
                to[1] = make_float2(value[i][2], value[i][3]);
            }
            if (cg == 0) {
                part[0] = most;
                part[1] = sum;
            }
        }
        __syncthreads();
    }
}

static bool has_shared; /* devices of 100 KiB per SM do not */

extern "C" bool cuda_attend_prompt_fits(const cuda_attn *a) {
    uint32_t group = a->n_head / a->n_head_kv;
    return has_shared && a->dim == DIM && group <= QUERIES && QUERIES % group == 0;
}

extern "C" cudaError_t cuda_attend_prompt_setup(int shared_max) {
    has_shared = shared_max >= (int)sizeof(attend_shared);
    return has_shared ? cudaFuncSetAttribute(attend_many, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                             (int)sizeof(attend_shared))
                      : cudaSuccess;
}

extern "C" cudaError_t cuda_attend_prompt(const cuda_step *step, const cuda_attn *a, uint32_t first, uint32_t n,
                                          cudaStream_t stream) {
    uint32_t tokens = QUERIES / (a->n_head / a->n_head_kv);
    cudaError_t status = launch(attend_many, dim3(a->n_splits, a->n_head_kv, (n + tokens - 1) / tokens), THREADS,
                                sizeof(attend_shared), stream, *step, *a, first, n);
    return status == cudaSuccess && a->n_splits > 1 ? cuda_join_splits(step, a, first, n, stream) : status;
}
