/*
 * Two to CUDA_DECODE_ROWS rows of one token each: the phases of decode.cu with each weight read and unpacked once for
 * all rows (rows.cuh). Here are the phases of one short wave: a block owns 16 rows of a matrix, fetches them before it
 * waits, its warps share the super-blocks, and terms meet in shared memory and are added in order. Limit: the way from
 * kernel to kernel rather than bytes. The large phases are in rows_large.cu; their vectors are quantised here, once for
 * all blocks (rows_route, rows_quantize).
 */
#include "backend/cuda/channel.cuh"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/route.cuh"
#include "backend/cuda/rows.cuh"

/* ---- in_proj, gates and convolution; a block owns 16 channels, their rows of B, C and x. */
template <int TYPE>
__global__ void __launch_bounds__(CUDA_DECODE_BLOCK, 1)
    rows_in_proj(cuda_step step, cuda_mat m, const float *h, const float *gain, float eps, cuda_conv conv,
                 uint32_t depth, float *y) {
    let_next_start();
    uint32_t d = conv.d, n_super = d / 256, n = step.n, warp = threadIdx.x / 32, c0 = blockIdx.x * TILE;
    uint32_t n_items = 3 * n_super;
    layout l = layout_at(TYPE, depth, n * n_super);
    conv_channel *channels = (conv_channel *)(l.terms + n_items * n * TILE);
    ring r = {l.slots, item_bytes(TYPE), depth, warp < n_items ? (n_items - warp + WARPS - 1) / WARPS : 0};
    auto copy = [&](uint32_t i, uint8_t *slot) {
        uint32_t item = warp + i * WARPS;
        copy_item<TYPE>(m, item / n_super * d + c0, m.n_rows - 1, item % n_super, slot);
    };
    begin_items(r, copy);
    uint32_t own = threadIdx.x % TILE, t = threadIdx.x / TILE;
    if (t < n) {
        channels[threadIdx.x] = load_channel(step, conv, t, c0 + own);
    }
    wait_for_input();
    quantize_rows(l.records, h, n, d, gain, eps);
    for (uint32_t i = 0, slot = 0; i < r.n; i++) {
        run_item(r, i, &slot, copy, [&](uint32_t k, const uint8_t *at) {
            uint32_t item = warp + k * WARPS;
            item_columns<TYPE>(at, item % n_super, l.records, n_super * CUDA_RECORD, n, l.terms + item * n * TILE,
                               same_vector());
        });
    }
    __syncthreads();
    if (t < n) {
        const float *terms = l.terms + t * TILE + own;
        uint32_t stride = n * TILE;
        float b = sum_terms(terms, n_super, stride), gate = sum_terms(terms + n_super * stride, n_super, stride),
              x = sum_terms(terms + 2 * n_super * stride, n_super, stride);
        y[(size_t)t * d + c0 + own] = gate * step_channel(conv, channels[threadIdx.x], b * x);
    }
}

/* ---- q, k and v; a block's 16 rows are all of one matrix. */
template <int TYPE>
__device__ __forceinline__ void qkv_terms(const layout &l, uint32_t n, uint32_t n_super) {
    uint32_t warp = threadIdx.x / 32;
    wait_for_item(1);
    if (warp < n_super) {
        item_columns<TYPE>(l.slots, warp, l.records, n_super * CUDA_RECORD, n, l.terms + warp * n * TILE,
                           same_vector());
    }
}

__global__ void __launch_bounds__(CUDA_DECODE_BLOCK, 2)
    rows_qkv(cuda_mat wq, cuda_mat wk, cuda_mat wv, const float *h, const float *gain, float eps, uint32_t n,
             float *qkv) {
    let_next_start();
    uint32_t n_rows = wq.n_rows + wk.n_rows + wv.n_rows, first = blockIdx.x * TILE, row0 = first;
    uint32_t warp = threadIdx.x / 32, n_super = wq.n_cols / 256;
    cuda_mat m = wq;
    if (first >= wq.n_rows) {
        bool is_v = first >= wq.n_rows + wk.n_rows;
        m = is_v ? wv : wk;
        row0 = first - wq.n_rows - (is_v ? wk.n_rows : 0);
    }
    layout l = layout_at(CUDA_Q6_K, 1, n * n_super);
    if (warp < n_super) {
        if (m.type == CUDA_Q4_K) {
            copy_item<CUDA_Q4_K>(m, row0, m.n_rows - 1, warp, l.slots);
        } else if (m.type == CUDA_Q5_K) {
            copy_item<CUDA_Q5_K>(m, row0, m.n_rows - 1, warp, l.slots);
        } else {
            copy_item<CUDA_Q6_K>(m, row0, m.n_rows - 1, warp, l.slots);
        }
    }
    copy_async_commit();
    wait_for_input();
    quantize_rows(l.records, h, n, m.n_cols, gain, eps);
    if (m.type == CUDA_Q4_K) {
        qkv_terms<CUDA_Q4_K>(l, n, n_super);
    } else if (m.type == CUDA_Q5_K) {
        qkv_terms<CUDA_Q5_K>(l, n, n_super);
    } else {
        qkv_terms<CUDA_Q6_K>(l, n, n_super);
    }
    __syncthreads();
    uint32_t own = threadIdx.x % TILE, t = threadIdx.x / TILE;
    if (t < n) {
        qkv[(size_t)t * n_rows + first + own] = sum_terms(l.terms + threadIdx.x, n_super, n * TILE);
    }
}

/* ---- out_proj or attn_output, residual, the router's partial sums; a block owns 16 rows. */
enum { ROUTER_STRIDE = TILE + 4 /* floats: eight lanes read 16 bytes each of different banks */ };

template <int TYPE>
__global__ void __launch_bounds__(CUDA_DECODE_BLOCK, 1)
    rows_out(cuda_mat m, const float *x, float *h, uint32_t n, cuda_route r, bool routed) {
    __shared__ float sums[CUDA_DECODE_ROWS][TILE];
    let_next_start();
    uint32_t first = blockIdx.x * TILE, warp = threadIdx.x / 32, n_super = m.n_cols / 256;
    layout l = layout_at(TYPE, 1, n * n_super);
    float *router = l.terms + n_super * n * TILE;
    for (uint32_t i = threadIdx.x; routed && i < r.n_expert * (TILE / 4); i += CUDA_DECODE_BLOCK) {
        copy_async_16(router + i / (TILE / 4) * ROUTER_STRIDE + i % (TILE / 4) * 4,
                      r.w + (size_t)(i / (TILE / 4)) * m.n_rows + first + i % (TILE / 4) * 4);
    }
    if (warp < n_super) {
        copy_item<TYPE>(m, first, m.n_rows - 1, warp, l.slots);
    }
    copy_async_commit();
    uint32_t own = threadIdx.x % TILE, t = threadIdx.x / TILE;
    float gain = routed ? r.gain[first + own] : 0.0f;
    wait_for_input();
    float *to = h + (size_t)t * m.n_rows + first + own;
    float before = t < n ? __ldcg(to) : 0.0f;
    quantize_rows(l.records, x, n, m.n_cols, NULL, 0);
    wait_for_item(1);
    if (warp < n_super) {
        item_columns<TYPE>(l.slots, warp, l.records, n_super * CUDA_RECORD, n, l.terms + warp * n * TILE,
                           same_vector());
    }
    __syncthreads();
    if (t < n) {
        float sum = before + sum_terms(l.terms + threadIdx.x, n_super, n * TILE);
        *to = sum;
        sums[t][own] = gain * sum;
    }
    if (!routed) {
        return;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n * r.n_expert; i += CUDA_DECODE_BLOCK) {
        uint32_t row = i / r.n_expert, e = i % r.n_expert;
        float p = 0;
#pragma unroll
        for (int k = 0; k < TILE; k++) {
            p = fmaf(router[e * ROUTER_STRIDE + k], sums[row][k], p);
        }
        r.part[(size_t)i * gridDim.x + blockIdx.x] = p;
    }
}

/* ---- The norm before the units, and the choice of experts; a block per row. */
__global__ void __launch_bounds__(CUDA_DECODE_BLOCK, 1)
    rows_route(cuda_step step, const float *h, const float *gain, float eps, uint32_t d, cuda_route r, bool routed,
               uint8_t *records) {
    __shared__ float sums[CUDA_EXPERTS_MAX], score[CUDA_EXPERTS_MAX], gains[CUDA_USED_MAX], squares[8];
    __shared__ uint32_t ids[CUDA_USED_MAX];
    let_next_start();
    uint32_t t = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_super = d / 256;
    uint32_t seq = step.tokens[t].seq;
    uint8_t *record = records + (t * n_super + warp) * CUDA_RECORD;
    wait_for_input();
    float top = 0, u[8];
    if (warp < n_super) {
        load_8(h + (size_t)t * d + warp * 256 + lane * 8, u);
    }
    if (routed) {
        uint32_t n_groups = d / CUDA_ROUTE_GROUP;
#pragma unroll 2
        for (uint32_t e = warp; e < r.n_expert; e += WARPS) {
            const float *part = r.part + ((size_t)t * r.n_expert + e) * n_groups;
            float acc = 0;
#pragma unroll
            for (uint32_t k = 0; k < 2048 / CUDA_ROUTE_GROUP / 32; k++) {
                acc += lane + 32 * k < n_groups ? __ldcg(part + lane + 32 * k) : 0.0f;
            }
            acc = warp_sum(acc);
            if (lane == 0) {
                sums[e] = acc;
            }
        }
    }
    if (warp < n_super) {
        float s = squares_256(u);
        if (lane == 0) {
            squares[warp] = s;
        }
        apply_gain(gain + warp * 256 + lane * 8, u);
        top = put_record(record, u, lane);
    }
    __syncthreads();
    float norm = norm_of_squares((const uint8_t *)squares, sizeof squares[0], d, eps);
    if (warp < n_super && lane == 0) {
        *record_scale(record) = top * norm;
    }
    if (!routed || warp) {
        return;
    }
    choose_experts(r, sums, score, norm, (int)lane, ids, gains);
    if (lane < r.used) {
        r.ids[(size_t)t * r.used + lane] = ids[lane];
        r.gains[(size_t)t * r.used + lane] = gains[lane];
    }
    __threadfence();
    __syncwarp();
    if (lane == 0) { /* rows_down fetches weights from here on */
        asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(r.chosen + t), "r"(seq) : "memory");
    }
}

/* ---- Records of x[..][n_cols], a warp each */
enum { QUANTIZE_WARPS = 4 };

__global__ void rows_quantize(const float *x, uint32_t n_all, uint8_t *records) {
    let_next_start();
    uint32_t b = blockIdx.x * QUANTIZE_WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    wait_for_input();
    if (b >= n_all) {
        return;
    }
    float u[8];
    load_8(x + (size_t)b * 256 + lane * 8, u);
    float top = put_record(records + (size_t)b * CUDA_RECORD, u, lane);
    if (lane == 0) {
        *record_scale(records + (size_t)b * CUDA_RECORD) = top;
    }
}

/* ---- Launchers */

#define FOR_TYPE(kernel, type)                                                                                         \
    ((type) == CUDA_Q4_K ? kernel<CUDA_Q4_K> : (type) == CUDA_Q5_K ? kernel<CUDA_Q5_K> : kernel<CUDA_Q6_K>)

static int shared_most; /* bytes that a block may have beside what kernels take themselves */

extern "C" cudaError_t cuda_rows_setup(int shared_max) {
#define ALL(kernel) (const void *)kernel<CUDA_Q4_K>, (const void *)kernel<CUDA_Q5_K>, (const void *)kernel<CUDA_Q6_K>
    const void *kernels[] = {ALL(rows_in_proj), ALL(rows_out), (const void *)rows_qkv, (const void *)rows_route,
                             (const void *)rows_quantize};
    shared_most = shared_max;
    for (const void *k : kernels) {
        cudaError_t status = prepare_kernel(k, shared_max, &shared_most);
        if (status != cudaSuccess) {
            return status;
        }
    }
    return cuda_rows_large_setup(shared_max);
}

/* Shared memory of a phase's kernel for n rows beside its slots. each: experts (out). */
static size_t bytes_beside(enum cuda_rows_phase phase, const cuda_mat *w, uint32_t n, uint32_t each) {
    size_t n_super = w->n_cols / 256, records = n * n_super * CUDA_RECORD, tile = n * TILE * sizeof(float);
    switch (phase) {
    case CUDA_ROWS_IN_PROJ:
        return records + 3 * n_super * tile + n * TILE * sizeof(conv_channel);
    case CUDA_ROWS_QKV:
        return records + n_super * tile;
    default:
        return records + n_super * tile + each * ROUTER_STRIDE * sizeof(float);
    }
}

/* The most slots per warp, up to `most`, that fit beside; 0: none does. */
static uint32_t depth_of(enum cuda_rows_phase phase, const cuda_mat *w, uint32_t n, uint32_t each, uint32_t most) {
    size_t beside = bytes_beside(phase, w, n, each);
    uint32_t type = phase == CUDA_ROWS_QKV ? (uint32_t)CUDA_Q6_K : w->type /* QKV: of any */;
    while (most && slots_bytes(type, most) + beside > (size_t)shared_most) {
        most--;
    }
    return most;
}

extern "C" bool cuda_rows_fit(enum cuda_rows_phase phase, const cuda_mat *w, uint32_t n, uint32_t each) {
    return phase >= CUDA_ROWS_GATE_UP ? cuda_rows_large_fit(phase, w, n, each) : depth_of(phase, w, n, each, 1) == 1;
}

extern "C" cudaError_t cuda_rows_in_proj(const cuda_step *step, const cuda_mat *w, const float *h, const float *gain,
                                         float eps, const cuda_conv *conv, float *y, cudaStream_t stream) {
    uint32_t items = 3 * conv->d / 256,
             depth = depth_of(CUDA_ROWS_IN_PROJ, w, step->n, 0, (items + WARPS - 1) / WARPS);
    size_t bytes = slots_bytes(w->type, depth) + bytes_beside(CUDA_ROWS_IN_PROJ, w, step->n, 0);
    return launch(FOR_TYPE(rows_in_proj, w->type), dim3(conv->d / TILE), CUDA_DECODE_BLOCK, bytes, stream, *step, *w, h,
                  gain, eps, *conv, depth, y);
}

extern "C" cudaError_t cuda_rows_qkv(const cuda_step *step, const cuda_mat w[3], const float *h, const float *gain,
                                     float eps, float *qkv, cudaStream_t stream) {
    uint32_t rows = w[0].n_rows + w[1].n_rows + w[2].n_rows;
    size_t bytes = slots_bytes(CUDA_Q6_K, 1) + bytes_beside(CUDA_ROWS_QKV, w, step->n, 0);
    return launch(rows_qkv, dim3(rows / TILE), CUDA_DECODE_BLOCK, bytes, stream, w[0], w[1], w[2], h, gain, eps,
                  step->n, qkv);
}

extern "C" cudaError_t cuda_rows_out(const cuda_step *step, const cuda_mat *w, const float *x, float *h,
                                     const cuda_route *r, cudaStream_t stream) {
    cuda_route none = {};
    size_t bytes = slots_bytes(w->type, 1) + bytes_beside(CUDA_ROWS_OUT, w, step->n, r ? r->n_expert : 0);
    return launch(FOR_TYPE(rows_out, w->type), dim3(w->n_rows / TILE), CUDA_DECODE_BLOCK, bytes, stream, *w, x, h,
                  step->n, r ? *r : none, r != NULL);
}

extern "C" cudaError_t cuda_rows_route(const cuda_step *step, const float *h, const float *gain, float eps, uint32_t d,
                                       const cuda_route *r, uint8_t *records, cudaStream_t stream) {
    cuda_route none = {};
    return launch(rows_route, dim3(step->n), CUDA_DECODE_BLOCK, 0, stream, *step, h, gain, eps, d, r ? *r : none,
                  r != NULL, records);
}

extern "C" cudaError_t cuda_rows_quantize(const float *x, uint32_t n, uint32_t n_cols, uint8_t *records,
                                          cudaStream_t stream) {
    uint32_t n_all = n * (n_cols / 256);
    return launch(rows_quantize, dim3((n_all + QUANTIZE_WARPS - 1) / QUANTIZE_WARPS), 32 * QUANTIZE_WARPS, 0, stream, x,
                  n_all, records);
}
