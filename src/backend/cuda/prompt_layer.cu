/*
 * What stands between the matrix products of a prompt: norms, gates and convolutions with quantisation into groups of
 * eight vectors, routing and the grouping of tokens by expert, weighted sums. Bound by the L2 cache and the number of
 * launches.
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

__device__ __forceinline__ void load_8(const float *from, float to[8]) {
    float4 a = *(const float4 *)from, b = *(const float4 *)(from + 4);
    to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w;
    to[4] = b.x, to[5] = b.y, to[6] = b.z, to[7] = b.w;
}

/* C * conv(B * x) of token t, channels c to c + 7, oldest tap first. */
__device__ __forceinline__ void conv_outputs(const cuda_row &row, const cuda_conv &v, const float *bcx, uint32_t t,
                                             uint32_t c, float u[8]) {
    int i = (int)(t - row.first_token), keep = (int)v.n_taps - 1;
    const float *taps = v.taps + (size_t)c * v.n_taps;
#pragma unroll 1
    for (int k = 0; k <= keep; k++) {
        float x[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        if (i - keep + k >= 0) {
            const float *from = bcx + (size_t)(t - keep + k) * 3 * v.d + c;
            float gate[8];
            load_8(from, gate);
            load_8(from + 2 * v.d, x);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                x[j] = gate[j] * x[j];
            }
        } else if (row.first_pos != 0) {
            size_t column = (size_t)(i + k) * v.d + c;
            load_8(row.resume_page != CUDA_NONE ? v.snapshots + row.resume_page * v.page_stride + column
                                                : v.state + row.slot * v.slot_stride + column,
                   x);
        }
#pragma unroll
        for (int j = 0; j < 8; j++) {
            float tap = taps[j * v.n_taps + k];
            u[j] = k ? fmaf(tap, x[j], u[j]) : tap * x[j];
        }
    }
    float c8[8];
    load_8(bcx + (size_t)t * 3 * v.d + v.d + c, c8);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        u[j] = c8[j] * u[j];
    }
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

enum { PLAIN, SILU, CONV, MOST_BLOCKS = 256 /* LIMIT_EMBD / 256 */ };

struct quantize_args {
    cuda_vectors q;
    cuda_conv conv;
    cuda_step step;
    cuda_acts out;
};

/* 256 values of a group's vector v, eight per lane, to their block. */
__device__ __forceinline__ float put_256(const float u[8], uint8_t *block, uint32_t v, uint32_t lane) {
    uint2 hi, lo;
    int sum;
    float top = quantize_256(u, &hi, &lo, &sum);
    uint32_t *to = (uint32_t *)(block + (lane % 8 * 2 * 8 + v) * 16 + lane / 8 * 4);
    to[0] = hi.x;
    to[32] = hi.y;
    to[512] = lo.x;
    to[544] = lo.y;
    if (lane % 4 == 0) { /* |sum| <= 32 * 32512 */
        int far = __float2int_rn((float)sum * (1.0f / CUDA_SUM_UNIT));
        uint32_t *sums = (uint32_t *)(block + CUDA_ACTS_SUMS) + lane / 4 % 2 * 32 + v * 4 + lane / 8;
        sums[0] = three_bytes(sum - far * CUDA_SUM_UNIT);
        sums[64] = three_bytes(far);
    }
    return top;
}

/* Where vector i of the step's comes from, or CUDA_NONE. */
__device__ __forceinline__ uint32_t place_of(const cuda_vectors &q, uint32_t i) {
    return i >= q.n ? CUDA_NONE : q.src ? q.src[i] : i;
}

/* Grid (groups of eight, blocks of 256 columns), a warp per vector. */
template <int SOURCE> __global__ void __launch_bounds__(256) quantize(quantize_args a) {
    wait_for_input();
    let_next_start();
    const cuda_vectors &q = a.q;
    uint32_t n_cols = q.n_cols, lane = threadIdx.x % 32, v = threadIdx.x / 32, group = blockIdx.x, b = blockIdx.y;
    if (q.n_used && group * 8 >= *q.n_used) {
        return;
    }
    uint32_t at = b * 256 + lane * 8, vector = group * 8 + v, from = place_of(q, vector);
    float u[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    if (from != CUDA_NONE && at < n_cols) { /* widths are multiples of eight */
        if (SOURCE == CONV) {
            conv_outputs(a.step.rows[a.step.tokens[from].row], a.conv, q.x, from, at, u);
        } else {
            load_8(q.x + (size_t)from * q.stride + at, u);
        }
        if (SOURCE == SILU) {
            float up[8];
            load_8(q.up + (size_t)from * q.stride + at, up);
#pragma unroll
            for (int k = 0; k < 8; k++) {
                u[k] = u[k] * sigmoid(u[k]) * up[k];
            }
        }
    }
    if (a.out.blocks && n_cols % 256 == 0) {
        uint8_t *block = a.out.blocks + ((size_t)group * (n_cols / 256) + b) * CUDA_ACTS_BLOCK;
        float top = put_256(u, block, v, lane);
        if (lane == 0) {
            ((float *)(block + CUDA_ACTS_SCALE))[v] = top;
        }
    }
    if (a.out.f && from != CUDA_NONE && at < n_cols) {
#pragma unroll
        for (int k = 0; k < 8; k++) {
            a.out.f[(size_t)vector * n_cols + at + k] = u[k];
        }
    }
}

/* Under a norm. Grid (groups of eight), four warps per vector. */
__global__ void __launch_bounds__(1024) quantize_norm(quantize_args a) {
    __shared__ float squares[8][MOST_BLOCKS], top[8][MOST_BLOCKS], scale[8];
    wait_for_input();
    let_next_start();
    const cuda_vectors &q = a.q;
    uint32_t n_cols = q.n_cols, n_blocks = (n_cols + 255) / 256, lane = threadIdx.x % 32, group = blockIdx.x;
    if (q.n_used && group * 8 >= *q.n_used) {
        return;
    }
    bool bytes = a.out.blocks && n_cols % 256 == 0;
    uint8_t *blocks = a.out.blocks + (size_t)group * n_blocks * CUDA_ACTS_BLOCK;
    uint32_t v = threadIdx.x / 32 % 8, vector = group * 8 + v, from = place_of(q, vector);
    for (uint32_t b = threadIdx.x / 256; b < n_blocks; b += 4) {
        uint32_t at = b * 256 + lane * 8;
        float u[8] = {0, 0, 0, 0, 0, 0, 0, 0}, gain[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        if (from != CUDA_NONE && at < n_cols) {
            load_8(q.x + (size_t)from * q.stride + at, u);
            load_8(q.gain + at, gain);
        }
        float s = squares_256(u);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            u[k] *= gain[k];
        }
        float t = bytes ? put_256(u, blocks + (size_t)b * CUDA_ACTS_BLOCK, v, lane) : 0.0f;
        if (lane == 0) {
            squares[v][b] = s;
            top[v][b] = t;
        }
        if (a.out.f && from != CUDA_NONE && at < n_cols) {
#pragma unroll
            for (int k = 0; k < 8; k++) {
                a.out.f[(size_t)vector * n_cols + at + k] = u[k]; /* the norm's scale comes below */
            }
        }
    }
    __syncthreads();
    if (threadIdx.x < 8) {
        float sum = 0;
        for (uint32_t b = 0; b < n_blocks; b++) {
            sum += squares[threadIdx.x][b];
        }
        scale[threadIdx.x] = norm_scale(sum, n_cols, q.eps);
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; bytes && i < 8 * n_blocks; i += blockDim.x) {
        uint32_t k = i % 8, b = i / 8;
        ((float *)(blocks + (size_t)b * CUDA_ACTS_BLOCK + CUDA_ACTS_SCALE))[k] = top[k][b] * scale[k];
    }
    for (uint32_t i = threadIdx.x; a.out.f && i < 8 * n_cols; i += blockDim.x) {
        uint32_t k = i / n_cols;
        if (place_of(q, group * 8 + k) != CUDA_NONE) {
            a.out.f[(size_t)group * 8 * n_cols + i] *= scale[k];
        }
    }
}

extern "C" cudaError_t cuda_quantize(const cuda_vectors *q, const cuda_acts *out, cudaStream_t stream) {
    quantize_args a = {*q, q->conv ? *q->conv : cuda_conv{}, q->step ? *q->step : cuda_step{}, *out};
    uint32_t n_groups = (q->n + 7) / 8;
    if (q->gain) {
        return launch(quantize_norm, dim3(n_groups), 1024, 0, stream, a);
    }
    return launch(q->conv ? quantize<CONV>
                  : q->up ? quantize<SILU>
                          : quantize<PLAIN>,
                  dim3(n_groups, (q->n_cols + 255) / 256), 256, 0, stream, a);
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

/* By one warp: where each expert's entries start, in place of how many there are (count[e + 1] of e), and their tiles,
 * of about the same size each, at most g.tile. */
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

enum { CHOOSE_WARPS = 8, CHUNK = 4096 /* entries in shared memory at a time */ };

/* A warp per token. shared: per warp sums and scores [n_expert]. */
__global__ void __launch_bounds__(32 * CHOOSE_WARPS) choose(cuda_route r, cuda_groups g, uint32_t n) {
    extern __shared__ float scratch[];
    wait_for_input();
    let_next_start();
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, t = blockIdx.x * CHOOSE_WARPS + warp;
    float *sums = scratch + (size_t)warp * 2 * r.n_expert;
    if (t >= n) {
        return;
    }
    for (uint32_t e = lane; e < r.n_expert; e += 32) {
        sums[e] = g.sums[(size_t)t * r.n_expert + e];
    }
    __syncwarp();
    choose_experts(r, sums, sums + r.n_expert, g.scale[t], (int)lane, r.ids + (size_t)t * r.used,
                   r.gains + (size_t)t * r.used);
}

/* Lists of each expert's tokens in token order, and tiles of them. One block; a warp places an expert's entries.
 * shared: starts [n_expert + 1], then how far each list has come [n_expert]. */
__global__ void __launch_bounds__(1024)
    group(cuda_groups g, const uint32_t *ids, uint32_t n_entries, uint32_t n_expert, uint32_t used) {
    extern __shared__ uint32_t count[];
    __shared__ uint16_t chunk[CHUNK];
    wait_for_input();
    let_next_start();
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_warps = blockDim.x / 32,
             *reached = count + n_expert + 1;
    for (uint32_t e = threadIdx.x; e <= n_expert; e += blockDim.x) {
        count[e] = 0;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n_entries; i += blockDim.x) {
        atomicAdd(&count[ids[i] + 1], 1u);
    }
    __syncthreads();
    if (warp == 0) {
        put_tiles(g, count, n_expert, lane);
    }
    __syncthreads();
    for (uint32_t e = threadIdx.x; e <= n_expert; e += blockDim.x) {
        g.start[e] = count[e];
        if (e < n_expert) {
            reached[e] = count[e];
        }
    }
    for (uint32_t c0 = 0; c0 < n_entries; c0 += CHUNK) {
        uint32_t here = n_entries - c0 < CHUNK ? n_entries - c0 : CHUNK;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < (here + 31) / 32 * 32; i += blockDim.x) {
            chunk[i] = i < here ? (uint16_t)ids[c0 + i] : (uint16_t)0xffff;
        }
        __syncthreads();
        for (uint32_t e = warp; e < n_expert; e += n_warps) {
            uint32_t at = reached[e];
#pragma unroll 4
            for (uint32_t i0 = 0; i0 < here; i0 += 32) {
                bool mine = chunk[i0 + lane] == e;
                uint32_t all = __ballot_sync(FULL, mine);
                if (mine) {
                    uint32_t entry = at + __popc(all & ((1u << lane) - 1)), i = c0 + i0 + lane;
                    g.entry_token[entry] = i / used;
                    g.entry_of[i] = entry;
                }
                at += __popc(all);
            }
            __syncwarp();
            if (lane == 0) {
                reached[e] = at;
            }
        }
    }
    __syncthreads();
    for (uint32_t e = warp; e < n_expert; e += n_warps) {
        uint32_t at = reached[e] + lane;
        if (at < count[e + 1]) { /* at most seven */
            g.entry_token[at] = CUDA_NONE;
        }
    }
}

extern "C" cudaError_t cuda_routing(const cuda_route *r, const float *h, uint32_t n, uint32_t d, const cuda_groups *g,
                                    cudaStream_t stream) {
    size_t bytes = (size_t)ROUTE_TOKENS * d * sizeof(float), scratch = 2 * CHOOSE_WARPS * (size_t)r->n_expert * 4;
    cudaError_t status = cudaSuccess;
    if (bytes > 40 << 10) {
        status = cudaFuncSetAttribute(route, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    }
    if (status == cudaSuccess && scratch > 48 << 10) {
        status = cudaFuncSetAttribute(choose, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)scratch);
    }
    if (status == cudaSuccess) {
        dim3 grid((n + ROUTE_TOKENS - 1) / ROUTE_TOKENS, (r->n_expert + ROUTE_WARPS - 1) / ROUTE_WARPS);
        status = launch(route, grid, 32 * ROUTE_WARPS, bytes, stream, *r, h, n, d, *g);
    }
    if (status == cudaSuccess) {
        status =
            launch(choose, dim3((n + CHOOSE_WARPS - 1) / CHOOSE_WARPS), 32 * CHOOSE_WARPS, scratch, stream, *r, *g, n);
    }
    if (status == cudaSuccess) {
        status = launch(group, dim3(1), 1024, (2 * (size_t)r->n_expert + 1) * sizeof(uint32_t), stream, *g, r->ids,
                        n * r->used, r->n_expert, r->used);
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
