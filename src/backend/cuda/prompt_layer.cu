/*
 * What stands between the matrix products of a prompt: norms, gates and convolutions with quantisation into groups of eight
 * vectors, routing and the grouping of tokens by expert, weighted sums. Bound by the L2 cache and the number of launches.
 */
#include "backend/cuda/launch.cuh"
#include "backend/cuda/route.cuh"

/* ---- The short convolution */

/* B * x of a row's token i, which may lie before the row. */
__device__ static float conv_input(const cuda_row &row, const cuda_conv &v, const float *bcx, int i, uint32_t c) {
    if (i >= 0) {
        const float *t = bcx + (size_t)(row.first_token + i) * 3 * v.d;
        return t[c] * t[2 * v.d + c];
    }
    uint32_t column = v.n_taps - 1 + i;
    if (row.first_pos == 0) {
        return 0;
    }
    return row.resume_page != CUDA_NONE ? v.snapshots[row.resume_page * v.page_stride + (size_t)column * v.d + c]
                                        : v.state[row.slot * v.slot_stride + (size_t)column * v.d + c];
}

/* C * conv(B * x), oldest tap first. */
__device__ static float conv_output(const cuda_row &row, const cuda_conv &v, const float *bcx, uint32_t t, uint32_t c) {
    int i = (int)(t - row.first_token), keep = (int)v.n_taps - 1;
    const float *taps = v.taps + (size_t)c * v.n_taps;
    float sum = taps[0] * conv_input(row, v, bcx, i - keep, c);
    for (int k = 1; k <= keep; k++) {
        sum = fmaf(taps[k], conv_input(row, v, bcx, i - keep + k, c), sum);
    }
    return bcx[(size_t)t * 3 * v.d + v.d + c] * sum;
}

/* What a row leaves: columns around its drafts, snapshots of full pages, the slot's state. The state is written last,
 * oldest column first, because the others, and its own younger columns, may still come from it. */
__global__ void conv_state(cuda_step step, cuda_conv v, const float *bcx) {
    wait_for_input();
    let_next_start();
    const cuda_row row = step.rows[blockIdx.x];
    uint32_t c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= v.d) {
        return;
    }
    int keep = (int)v.n_taps - 1, n = (int)row.n_tokens, sure = n - (int)row.n_drafts;
    for (int k = 0; row.n_drafts && k < keep + (int)row.n_drafts; k++) {
        v.drafts[(size_t)(row.draft_first + k) * v.draft_stride + c] = conv_input(row, v, bcx, sure - keep + k, c);
    }
    for (int i = 63 - (int)(row.first_pos % 64); i < n; i += 64) {
        uint32_t page = step.pages[row.first_page + (row.first_pos + i) / 64];
        for (int k = 0; k < keep; k++) {
            v.snapshots[page * v.page_stride + (size_t)k * v.d + c] = conv_input(row, v, bcx, i - keep + 1 + k, c);
        }
    }
    for (int k = 0; k < keep; k++) {
        v.state[row.slot * v.slot_stride + (size_t)k * v.d + c] = conv_input(row, v, bcx, n - keep + k, c);
    }
}

extern "C" cudaError_t cuda_conv_state(const cuda_step *step, const cuda_conv *conv, const float *bcx,
                                       cudaStream_t stream) {
    return launch(conv_state, dim3(step->n_rows, (conv->d + 255) / 256), 256, 0, stream, *step, *conv, bcx);
}

/* ---- Quantisation */

enum { PLAIN, SILU, CONV, MOST_BLOCKS = 256 /* LIMIT_EMBD / 256 */, QUANTIZE_WARPS = 16 };

struct quantize_args {
    cuda_vectors q;
    cuda_conv conv;
    cuda_step step;
    cuda_acts out;
};

/* A block takes a group of eight vectors, a warp one vector's 256 values at a time. */
template <int SOURCE> __global__ void __launch_bounds__(32 * QUANTIZE_WARPS) quantize(quantize_args a) {
    __shared__ float squares[8][MOST_BLOCKS], top[8][MOST_BLOCKS];
    wait_for_input();
    let_next_start();
    const cuda_vectors &q = a.q;
    uint32_t n_cols = q.n_cols, n_blocks = (n_cols + 255) / 256, lane = threadIdx.x % 32, group = blockIdx.x;
    if (q.n_used && group * 8 >= *q.n_used) {
        return;
    }
    bool bytes = a.out.blocks && n_cols % 256 == 0;
    uint8_t *blocks = a.out.blocks + (size_t)group * n_blocks * CUDA_ACTS_BLOCK;
    for (uint32_t i = threadIdx.x / 32; i < 8 * n_blocks; i += QUANTIZE_WARPS) {
        uint32_t v = i / n_blocks, b = i % n_blocks, at = b * 256 + lane * 8, vector = group * 8 + v;
        uint32_t from = vector >= q.n ? CUDA_NONE : q.src ? q.src[vector] : vector;
        const float *x = q.x + (size_t)from * q.stride;
        float u[8];
#pragma unroll
        for (int k = 0; k < 8; k++) {
            u[k] = 0;
        }
        if (from != CUDA_NONE && SOURCE == CONV) {
            const cuda_row row = a.step.rows[a.step.tokens[from].row];
#pragma unroll
            for (int k = 0; k < 8; k++) {
                u[k] = at + k < n_cols ? conv_output(row, a.conv, q.x, from, at + k) : 0.0f;
            }
        } else if (from != CUDA_NONE && at + 8 <= n_cols) { /* strides are multiples of four */
            float4 x0 = *(const float4 *)(x + at), x1 = *(const float4 *)(x + at + 4);
            u[0] = x0.x, u[1] = x0.y, u[2] = x0.z, u[3] = x0.w;
            u[4] = x1.x, u[5] = x1.y, u[6] = x1.z, u[7] = x1.w;
            if (SOURCE == SILU) {
                const float *up = q.up + (size_t)from * q.stride + at;
                float4 y0 = *(const float4 *)up, y1 = *(const float4 *)(up + 4);
                float y[8] = {y0.x, y0.y, y0.z, y0.w, y1.x, y1.y, y1.z, y1.w};
#pragma unroll
                for (int k = 0; k < 8; k++) {
                    u[k] = u[k] * sigmoid(u[k]) * y[k];
                }
            }
        }
        if (q.gain) {
            float s = squares_256(u);
            if (lane == 0) {
                squares[v][b] = s;
            }
#pragma unroll
            for (int k = 0; k < 8; k++) {
                u[k] = at + k < n_cols ? u[k] * q.gain[at + k] : 0.0f;
            }
        }
        if (bytes) {
            uint2 hi, lo;
            int sum;
            float t = quantize_256(u, &hi, &lo, &sum);
            uint8_t *block = blocks + (size_t)b * CUDA_ACTS_BLOCK;
            uint32_t *to = (uint32_t *)(block + (lane % 8 * 2 * 8 + v) * 16 + lane / 8 * 4);
            to[0] = hi.x;
            to[32] = hi.y;
            to[512] = lo.x;
            to[544] = lo.y;
            if (lane % 4 == 0) {
                ((int32_t *)(block + 4096))[v * 8 + lane / 4] = sum;
            }
            if (lane == 0) {
                top[v][b] = t;
            }
        }
        if (a.out.f && from != CUDA_NONE) {
#pragma unroll
            for (int k = 0; k < 8; k++) {
                if (at + k < n_cols) {
                    a.out.f[(size_t)vector * n_cols + at + k] = u[k]; /* the norm's scale comes below */
                }
            }
        }
    }
    __syncthreads();
    float *scale = squares[0]; /* [8]; read from squares before */
    float norm = 1.0f;
    if (q.gain && threadIdx.x < 8) {
        float sum = 0;
        for (uint32_t b = 0; b < n_blocks; b++) {
            sum += squares[threadIdx.x][b];
        }
        norm = norm_scale(sum, n_cols, q.eps);
    }
    __syncthreads();
    if (threadIdx.x < 8) {
        scale[threadIdx.x] = norm;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; bytes && i < 8 * n_blocks; i += blockDim.x) {
        uint32_t v = i % 8, b = i / 8;
        ((float *)(blocks + (size_t)b * CUDA_ACTS_BLOCK + 4096 + 256))[v] = q.gain ? top[v][b] * scale[v] : top[v][b];
    }
    for (uint32_t i = threadIdx.x; a.out.f && q.gain && i < 8 * n_cols; i += blockDim.x) {
        uint32_t v = i / n_cols;
        if (group * 8 + v < q.n) {
            a.out.f[(size_t)group * 8 * n_cols + i] *= scale[v];
        }
    }
}

extern "C" cudaError_t cuda_quantize(const cuda_vectors *q, const cuda_acts *out, cudaStream_t stream) {
    quantize_args a = {*q, q->conv ? *q->conv : cuda_conv{}, q->step ? *q->step : cuda_step{}, *out};
    return launch(q->conv ? quantize<CONV>
                  : q->up ? quantize<SILU>
                          : quantize<PLAIN>,
                  dim3((q->n + 7) / 8), 32 * QUANTIZE_WARPS, 0, stream, a);
}

/* ---- Routing */

enum { ROUTE_TOKENS = 4, ROUTE_WARPS = 8 };

/* The router's products, four tokens and eight experts per block. A lane has every 32nd group of 16 channels.
 * shared: gain * h as [token][4 quarters of a group][groups][4]. */
__global__ void __launch_bounds__(32 * ROUTE_WARPS)
    route(cuda_route r, const float *h, uint32_t n, uint32_t d, cuda_groups out) {
    extern __shared__ float4 scaled[];
    __shared__ float squares[ROUTE_TOKENS][MOST_BLOCKS];
    wait_for_input();
    let_next_start();
    uint32_t t0 = blockIdx.x * ROUTE_TOKENS, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t n_here = n - t0 < ROUTE_TOKENS ? n - t0 : ROUTE_TOKENS, n_blocks = (d + 255) / 256, n_groups = d / 16;
    for (uint32_t i = warp; i < ROUTE_TOKENS * n_blocks; i += ROUTE_WARPS) {
        uint32_t t = i / n_blocks, b = i % n_blocks, at = b * 256 + lane * 8;
        float4 x[2] = {};
        if (t < n_here && at < d) {
            const float4 *from = (const float4 *)(h + (size_t)(t0 + t) * d + at), *gain = (const float4 *)(r.gain + at);
            x[0] = from[0];
            x[1] = from[1];
            for (int k = 0; k < 2; k++) {
                float4 g = gain[k];
                scaled[(t * 4 + at % 16 / 4 + k) * n_groups + at / 16] =
                    make_float4(g.x * x[k].x, g.y * x[k].y, g.z * x[k].z, g.w * x[k].w);
            }
        }
        float v[8] = {x[0].x, x[0].y, x[0].z, x[0].w, x[1].x, x[1].y, x[1].z, x[1].w};
        float s = squares_256(v);
        if (lane == 0) {
            squares[t][b] = s;
        }
    }
    __syncthreads();
    uint32_t e = blockIdx.y * ROUTE_WARPS + warp;
    if (e < r.n_expert) {
        float acc[ROUTE_TOKENS] = {0};
        for (uint32_t g = lane; g < n_groups; g += 32) {
            const float4 *w = (const float4 *)(r.w + (size_t)e * d) + g * 4;
            float p[ROUTE_TOKENS] = {0};
#pragma unroll
            for (uint32_t c = 0; c < 4; c++) {
                float4 k = w[c];
#pragma unroll
                for (int t = 0; t < ROUTE_TOKENS; t++) {
                    float4 x = scaled[(t * 4 + c) * n_groups + g]; /* beyond the last token: anything */
                    p[t] = fmaf(k.x, x.x, p[t]);
                    p[t] = fmaf(k.y, x.y, p[t]);
                    p[t] = fmaf(k.z, x.z, p[t]);
                    p[t] = fmaf(k.w, x.w, p[t]);
                }
            }
#pragma unroll
            for (int t = 0; t < ROUTE_TOKENS; t++) {
                acc[t] += p[t];
            }
        }
#pragma unroll
        for (int t = 0; t < ROUTE_TOKENS; t++) {
            float s = warp_sum(acc[t]);
            if (lane == 0 && t < (int)n_here) {
                out.sums[(size_t)(t0 + t) * r.n_expert + e] = s;
            }
        }
    }
    if (blockIdx.y == 0 && threadIdx.x < n_here) {
        float sum = 0;
        for (uint32_t b = 0; b < n_blocks; b++) {
            sum += squares[threadIdx.x][b];
        }
        out.scale[t0 + threadIdx.x] = norm_scale(sum, d, r.eps);
    }
}

/* By one warp: where each expert's entries start, in place of how many there are (count[e + 1] of e), and their tiles, of
 * about the same size each, at most g.tile. */
__device__ static void put_tiles(const cuda_groups &g, uint32_t *count, uint32_t n_expert, uint32_t lane) {
    uint32_t start = 0, tile = 0; /* of the chunk of 32 experts */
    for (uint32_t e0 = 0; e0 < n_expert; e0 += 32) {
        uint32_t e = e0 + lane, n = e < n_expert ? count[e + 1] : 0, most = (n + g.tile - 1) / g.tile;
        uint32_t each = most ? ((n + most - 1) / most + 7) / 8 * 8 : 1, n_tiles = (n + each - 1) / each;
        uint32_t room = (n + 7) / 8 * 8;
        uint32_t behind = room, tiles_behind = n_tiles; /* inclusive sums */
#pragma unroll
        for (uint32_t m = 1; m < 32; m *= 2) {
            uint32_t a = __shfl_up_sync(FULL, behind, m), b = __shfl_up_sync(FULL, tiles_behind, m);
            behind += lane >= m ? a : 0;
            tiles_behind += lane >= m ? b : 0;
        }
        uint32_t first = start + behind - room, at = tile + tiles_behind - n_tiles;
        for (uint32_t i = 0; i < n; i += each, at++) {
            if (at < g.n_tiles_max) {
                g.tiles[3 * at] = e;
                g.tiles[3 * at + 1] = first + i;
                g.tiles[3 * at + 2] = n - i < each ? n - i : each;
            }
        }
        if (e < n_expert) {
            count[e + 1] = first + room;
        }
        start += __shfl_sync(FULL, behind, 31);
        tile += __shfl_sync(FULL, tiles_behind, 31);
    }
    for (uint32_t at = tile + lane; at < g.n_tiles_max; at += 32) {
        g.tiles[3 * at] = CUDA_NONE;
    }
}

/* One block: each token's experts, then lists of each expert's tokens in token order, and tiles of them.
 * shared: starts [n_expert + 1], then per warp sums and scores [n_expert]. */
__global__ void __launch_bounds__(1024) choose_and_group(cuda_route r, cuda_groups g, uint32_t n) {
    extern __shared__ uint32_t count[];
    wait_for_input();
    let_next_start();
    uint32_t n_expert = r.n_expert, warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_warps = blockDim.x / 32;
    float *sums = (float *)(count + n_expert + 1) + (size_t)warp * 2 * n_expert, *score = sums + n_expert;
    for (uint32_t e = threadIdx.x; e <= n_expert; e += blockDim.x) {
        count[e] = 0;
    }
    __syncthreads();
    for (uint32_t t = warp; t < n; t += n_warps) {
        for (uint32_t e = lane; e < n_expert; e += 32) {
            sums[e] = g.sums[(size_t)t * n_expert + e];
        }
        __syncwarp();
        choose_experts(r, sums, score, g.scale[t], (int)lane, r.ids + (size_t)t * r.used, r.gains + (size_t)t * r.used);
        for (uint32_t k = lane; k < r.used; k += 32) {
            atomicAdd(&count[r.ids[(size_t)t * r.used + k] + 1], 1u);
        }
        __syncwarp();
    }
    __syncthreads();
    if (warp == 0) {
        put_tiles(g, count, n_expert, lane);
    }
    __syncthreads();
    for (uint32_t e = threadIdx.x; e <= n_expert; e += blockDim.x) {
        g.start[e] = count[e];
    }
    uint32_t n_entries = n * r.used;
    for (uint32_t e = warp; e < n_expert; e += n_warps) {
        uint32_t at = count[e];
#pragma unroll 8
        for (uint32_t i0 = 0; i0 < n_entries; i0 += 32) {
            uint32_t i = i0 + lane;
            bool mine = i < n_entries && r.ids[i] == e;
            uint32_t all = __ballot_sync(FULL, mine);
            if (mine) {
                uint32_t entry = at + __popc(all & ((1u << lane) - 1));
                g.entry_token[entry] = i / r.used;
                g.entry_of[i] = entry;
            }
            at += __popc(all);
        }
        if (at + lane < count[e + 1]) { /* at most seven */
            g.entry_token[at + lane] = CUDA_NONE;
        }
    }
}

extern "C" cudaError_t cuda_routing(const cuda_route *r, const float *h, uint32_t n, uint32_t d, const cuda_groups *g,
                                    cudaStream_t stream) {
    size_t bytes = (size_t)ROUTE_TOKENS * d * sizeof(float), lists = (65 * (size_t)r->n_expert + 1) * sizeof(uint32_t);
    cudaError_t status = cudaSuccess;
    if (bytes > 40 << 10) {
        status = cudaFuncSetAttribute(route, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    }
    if (status == cudaSuccess && lists > 48 << 10) {
        status = cudaFuncSetAttribute(choose_and_group, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)lists);
    }
    if (status == cudaSuccess) {
        dim3 grid((n + ROUTE_TOKENS - 1) / ROUTE_TOKENS, (r->n_expert + ROUTE_WARPS - 1) / ROUTE_WARPS);
        status = launch(route, grid, 32 * ROUTE_WARPS, bytes, stream, *r, h, n, d, *g);
    }
    if (status == cudaSuccess) {
        status = launch(choose_and_group, dim3(1), 1024, lists, stream, *r, *g, n);
    }
    return status;
}

__global__ void add_experts(const uint32_t *entry_of, const float *gains, uint32_t used, const float *y, float *h,
                            uint32_t d) {
    wait_for_input();
    let_next_start();
    size_t t = blockIdx.x;
    uint32_t c = (blockIdx.y * blockDim.x + threadIdx.x) * 4;
    if (c >= d) { /* widths are multiples of 16 */
        return;
    }
    float4 sum = *(const float4 *)(h + t * d + c);
#pragma unroll 4
    for (uint32_t k = 0; k < used; k++) {
        float gain = gains[t * used + k];
        float4 x = *(const float4 *)(y + (size_t)entry_of[t * used + k] * d + c);
        sum =
            make_float4(fmaf(gain, x.x, sum.x), fmaf(gain, x.y, sum.y), fmaf(gain, x.z, sum.z), fmaf(gain, x.w, sum.w));
    }
    *(float4 *)(h + t * d + c) = sum;
}

extern "C" cudaError_t cuda_add_experts(const cuda_route *r, const cuda_groups *g, const float *y, float *h, uint32_t n,
                                        uint32_t d, cudaStream_t stream) {
    return launch(add_experts, dim3(n, (d / 4 + 127) / 128), 128, 0, stream, g->entry_of, r->gains, r->used, y, h, d);
}
