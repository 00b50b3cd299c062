/*
 * What stands between the matrix products of a layer, for any number of tokens: norms with quantisation, the short
 * convolution and its state, routing and grouping of tokens by expert, weighted sums. Bound by the L2 cache and launches.
 */
#include "backend/cuda/common.cuh"
#include "backend/cuda/route.cuh"

__global__ void angles(cuda_step step, const double *rates, uint32_t dim, float *cos_sin) {
    uint32_t half = dim / 2;
    for (uint32_t i = threadIdx.x; i < half; i += blockDim.x) {
        double s, c;
        sincos(step.tokens[blockIdx.x].pos * rates[i], &s, &c);
        cos_sin[(size_t)blockIdx.x * dim + i] = (float)c;
        cos_sin[(size_t)blockIdx.x * dim + half + i] = (float)s;
    }
}

extern "C" cudaError_t cuda_angles(const cuda_step *step, const double *rates, uint32_t dim, float *cos_sin,
                                   cudaStream_t stream) {
    angles<<<step->n, 32, 0, stream>>>(*step, rates, dim, cos_sin);
    return cudaGetLastError();
}

/* One block per vector, a warp per 256 values. */
__global__ void quantize(const float *x, const float *gain, float eps, const uint32_t *src, uint32_t n_cols,
                         cuda_acts out) {
    __shared__ float squares[256], top[256]; /* LIMIT_EMBD / 256 */
    size_t i = blockIdx.x;
    const float *row = x + (src ? src[i] : i) * (size_t)n_cols;
    uint32_t n_blocks = (n_cols + 255) / 256, lane = threadIdx.x % 32;
    for (uint32_t b = threadIdx.x / 32; b < n_blocks; b += blockDim.x / 32) {
        float v[8], u[8];
        uint32_t at = b * 256 + lane * 8;
        for (int k = 0; k < 8; k++) {
            v[k] = at + k < n_cols ? row[at + k] : 0.0f;
            u[k] = gain && at + k < n_cols ? v[k] * gain[at + k] : v[k];
        }
        if (gain) {
            float s = squares_256(v);
            if (lane == 0) {
                squares[b] = s;
            }
        }
        if (out.hi && n_cols % 256 == 0) {
            uint2 hi, lo;
            int sum;
            float t = quantize_256(u, &hi, &lo, &sum);
            *(uint2 *)(out.hi + i * n_cols + at) = hi;
            *(uint2 *)(out.lo + i * n_cols + at) = lo;
            if (lane % 4 == 0) {
                out.sums[i * (n_cols / 32) + at / 32] = sum;
            }
            if (lane == 0) {
                top[b] = t;
            }
        }
    }
    __syncthreads();
    float scale = 1.0f;
    if (gain) {
        float sum = 0;
        for (uint32_t b = 0; b < n_blocks; b++) {
            sum += squares[b];
        }
        scale = norm_scale(sum, n_cols, eps);
    }
    if (out.hi && n_cols % 256 == 0) {
        for (uint32_t b = threadIdx.x; b < n_blocks; b += blockDim.x) {
            out.scale[i * n_blocks + b] = gain ? top[b] * scale : top[b];
        }
    }
    if (out.f) {
        for (uint32_t c = threadIdx.x; c < n_cols; c += blockDim.x) {
            out.f[i * n_cols + c] = gain ? row[c] * gain[c] * scale : row[c];
        }
    }
}

extern "C" cudaError_t cuda_quantize(const float *x, const float *gain, float eps, const uint32_t *src, uint32_t n,
                                     uint32_t n_cols, const cuda_acts *out, cudaStream_t stream) {
    quantize<<<n, 256, 0, stream>>>(x, gain, eps, src, n_cols, *out);
    return cudaGetLastError();
}

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

__global__ void conv_tokens(cuda_step step, cuda_conv v, const float *bcx, float *y) {
    uint32_t t = blockIdx.x, c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= v.d) {
        return;
    }
    const cuda_row row = step.rows[step.tokens[t].row];
    int i = (int)(t - row.first_token), keep = (int)v.n_taps - 1;
    const float *taps = v.taps + (size_t)c * v.n_taps;
    float sum = taps[0] * conv_input(row, v, bcx, i - keep, c);
    for (int k = 1; k <= keep; k++) {
        sum = fmaf(taps[k], conv_input(row, v, bcx, i - keep + k, c), sum);
    }
    y[(size_t)t * v.d + c] = bcx[(size_t)t * 3 * v.d + v.d + c] * sum;
}

/* What a row leaves: columns around its drafts, snapshots of full pages, the slot's state. The state is written last,
 * oldest column first, because the others, and its own younger columns, may still come from it. */
__global__ void conv_state(cuda_step step, cuda_conv v, const float *bcx) {
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

extern "C" cudaError_t cuda_short_conv(const cuda_step *step, const cuda_conv *conv, const float *bcx, float *y,
                                       cudaStream_t stream) {
    uint32_t parts = (conv->d + 255) / 256;
    conv_tokens<<<dim3(step->n, parts), 256, 0, stream>>>(*step, *conv, bcx, y);
    conv_state<<<dim3(step->n_rows, parts), 256, 0, stream>>>(*step, *conv, bcx);
    return cudaGetLastError();
}

__global__ void rewind_columns(float *state, const float *column, size_t state_stride, size_t column_stride, size_t n) {
    size_t i = blockIdx.y * (size_t)blockDim.x + threadIdx.x;
    if (i < n) {
        state[blockIdx.x * state_stride + i] = column[blockIdx.x * column_stride + i];
    }
}

extern "C" cudaError_t cuda_rewind(float *state, const float *column, uint32_t n_layers, size_t state_stride,
                                   size_t column_stride, size_t n, cudaStream_t stream) {
    rewind_columns<<<dim3(n_layers, (unsigned)((n + 255) / 256)), 256, 0, stream>>>(state, column, state_stride,
                                                                                    column_stride, n);
    return cudaGetLastError();
}

/* ---- Routing */

enum { ROUTE_TOKENS = 4, ROUTE_WARPS = 8 };

/* Four tokens per block; shared: gain * h of each, then sums and scores [tokens][n_expert]. */
__global__ void route(cuda_route r, const float *h, uint32_t n, uint32_t d) {
    extern __shared__ float shared[];
    __shared__ float squares[ROUTE_TOKENS][256];
    float *scaled = shared, *sums = shared + (size_t)ROUTE_TOKENS * d, *score = sums + ROUTE_TOKENS * r.n_expert;
    uint32_t t0 = blockIdx.x * ROUTE_TOKENS, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t n_here = n - t0 < ROUTE_TOKENS ? n - t0 : ROUTE_TOKENS, n_blocks = (d + 255) / 256;
    for (uint32_t i = warp; i < ROUTE_TOKENS * n_blocks; i += ROUTE_WARPS) {
        uint32_t t = i / n_blocks, b = i % n_blocks, at = b * 256 + lane * 8;
        float v[8];
        for (int k = 0; k < 8; k++) {
            bool in = t < n_here && at + k < d;
            v[k] = in ? h[(size_t)(t0 + t) * d + at + k] : 0.0f;
            if (at + k < d) {
                scaled[t * d + at + k] = in ? r.gain[at + k] * v[k] : 0.0f;
            }
        }
        float s = squares_256(v);
        if (lane == 0) {
            squares[t][b] = s;
        }
    }
    __syncthreads();
    for (uint32_t e = warp; e < r.n_expert; e += ROUTE_WARPS) {
        float acc[ROUTE_TOKENS] = {0};
        for (uint32_t g = lane; g < d / CUDA_ROUTE_GROUP; g += 32) {
            const float *w = r.w + (size_t)e * d + g * CUDA_ROUTE_GROUP;
            float p[ROUTE_TOKENS] = {0};
            for (uint32_t c = 0; c < CUDA_ROUTE_GROUP; c++) {
                for (int t = 0; t < ROUTE_TOKENS; t++) {
                    p[t] = fmaf(w[c], scaled[t * d + g * CUDA_ROUTE_GROUP + c], p[t]);
                }
            }
            for (int t = 0; t < ROUTE_TOKENS; t++) {
                acc[t] += p[t];
            }
        }
        for (int t = 0; t < ROUTE_TOKENS; t++) {
            float s = warp_sum(acc[t]);
            if (lane == 0) {
                sums[t * r.n_expert + e] = s;
            }
        }
    }
    __syncthreads();
    if (warp < n_here) {
        float sum = 0;
        for (uint32_t b = 0; b < n_blocks; b++) {
            sum += squares[warp][b];
        }
        size_t t = t0 + warp;
        choose_experts(r, sums + warp * r.n_expert, score + warp * r.n_expert, norm_scale(sum, d, r.eps), (int)lane,
                       r.ids + t * r.used, r.gains + t * r.used);
    }
}

/* Lists of each expert's tokens in token order, and tiles of 64 of them. One block; a warp places an expert's entries. */
__global__ void group(cuda_groups g, const uint32_t *ids, uint32_t n_entries, uint32_t n_expert, uint32_t used) {
    extern __shared__ uint32_t count[]; /* [n_expert + 1] starts */
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_warps = blockDim.x / 32;
    for (uint32_t e = threadIdx.x; e <= n_expert; e += blockDim.x) {
        count[e] = 0;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n_entries; i += blockDim.x) {
        atomicAdd(&count[ids[i] + 1], 1u);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t tile = 0;
        for (uint32_t e = 0; e < n_expert; e++) {
            uint32_t n = count[e + 1];
            for (uint32_t at = 0; at < n && tile < g.n_tiles_max; at += 64, tile++) {
                g.tiles[2 * tile] = e;
                g.tiles[2 * tile + 1] = count[e] + at;
            }
            count[e + 1] += count[e];
        }
        for (; tile < g.n_tiles_max; tile++) {
            g.tiles[2 * tile] = CUDA_NONE;
        }
    }
    __syncthreads();
    for (uint32_t e = threadIdx.x; e <= n_expert; e += blockDim.x) {
        g.start[e] = count[e];
    }
    for (uint32_t e = warp; e < n_expert; e += n_warps) {
        uint32_t at = count[e];
        for (uint32_t i0 = 0; i0 < n_entries && at < count[e + 1]; i0 += 32) {
            uint32_t i = i0 + lane;
            bool mine = i < n_entries && ids[i] == e;
            uint32_t all = __ballot_sync(FULL, mine);
            if (mine) {
                uint32_t entry = at + __popc(all & ((1u << lane) - 1));
                g.entry_token[entry] = i / used;
                g.entry_of[i] = entry;
            }
            at += __popc(all);
        }
    }
}

extern "C" cudaError_t cuda_routing(const cuda_route *r, const float *h, uint32_t n, uint32_t d, const cuda_groups *g,
                                    cudaStream_t stream) {
    size_t bytes = ((size_t)ROUTE_TOKENS * d + 2 * ROUTE_TOKENS * r->n_expert) * sizeof(float);
    cudaError_t status = cudaSuccess;
    if (bytes > 48 << 10) {
        status = cudaFuncSetAttribute(route, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    }
    if (status != cudaSuccess) {
        return status;
    }
    route<<<(n + ROUTE_TOKENS - 1) / ROUTE_TOKENS, 32 * ROUTE_WARPS, bytes, stream>>>(*r, h, n, d);
    group<<<1, 1024, (r->n_expert + 1) * sizeof(uint32_t), stream>>>(*g, r->ids, n * r->used, r->n_expert, r->used);
    return cudaGetLastError();
}

__global__ void silu_mul(float *gate, const float *up, size_t n) {
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i < n) {
        gate[i] = gate[i] * sigmoid(gate[i]) * up[i];
    }
}

extern "C" cudaError_t cuda_silu_mul(float *gate, const float *up, size_t n, cudaStream_t stream) {
    silu_mul<<<(unsigned)((n + 255) / 256), 256, 0, stream>>>(gate, up, n);
    return cudaGetLastError();
}

__global__ void add_experts(const uint32_t *entry_of, const float *gains, uint32_t used, const float *y, float *h,
                            uint32_t d) {
    size_t t = blockIdx.x;
    uint32_t c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= d) {
        return;
    }
    float sum = h[t * d + c];
    for (uint32_t k = 0; k < used; k++) {
        sum = fmaf(gains[t * used + k], y[(size_t)entry_of[t * used + k] * d + c], sum);
    }
    h[t * d + c] = sum;
}

extern "C" cudaError_t cuda_add_experts(const cuda_route *r, const cuda_groups *g, const float *y, float *h, uint32_t n,
                                        uint32_t d, cudaStream_t stream) {
    add_experts<<<dim3(n, (d + 255) / 256), 256, 0, stream>>>(g->entry_of, r->gains, r->used, y, h, d);
    return cudaGetLastError();
}

__global__ void count_experts(const uint32_t *ids, size_t stride, uint32_t n, uint32_t n_expert, uint32_t *out) {
    extern __shared__ uint32_t seen[];
    __shared__ uint32_t total;
    if (threadIdx.x == 0) {
        total = 0;
    }
    for (uint32_t e = threadIdx.x; e < n_expert; e += blockDim.x) {
        seen[e] = 0;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
        seen[ids[blockIdx.x * stride + i]] = 1;
    }
    __syncthreads();
    for (uint32_t e = threadIdx.x; e < n_expert; e += blockDim.x) {
        atomicAdd(&total, seen[e]);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        out[blockIdx.x] = total;
    }
}

extern "C" cudaError_t cuda_count_experts(const uint32_t *ids, uint32_t n_layers, size_t stride, uint32_t n,
                                          uint32_t n_expert, uint32_t *out, cudaStream_t stream) {
    count_experts<<<n_layers, 256, n_expert * sizeof(uint32_t), stream>>>(ids, stride, n, n_expert, out);
    return cudaGetLastError();
}
