/*
 * One row of one token (rows.cu: several): each phase of a layer is one kernel. A block of 16 warps owns some output
 * rows; a warp takes a row of 2048 columns, a lane 64 of its weights (decode.cuh). What does not depend on the kernel
 * before is fetched before waiting for it. Norms and quantisation are repeated by every block: 8 KiB from L2 instead of
 * a grid-wide barrier. Limit: the weights' bytes; products run at 85-100% of it on an H200, the steps between them take
 * twice as long again. Registers are not capped: spills cost more than two blocks on an SM give.
 */
#include "backend/cuda/launch.cuh"
#include "backend/cuda/channel.cuh"
#include "backend/cuda/decode.cuh"
#include "backend/cuda/route.cuh"

/*
 * A warp's items are rows of one matrix, `step` rows apart, and of each the same 2048 columns. The warp copies them to a
 * ring of DEPTH slots in shared memory and reads them back a lane at a time, so that no block-wide barrier is needed.
 * Addresses only advance and the loop is one short piece of code: integer instructions are what the kernels run out of,
 * and code that runs once per launch comes from L2.
 */
struct rows_of_warp {
    uint32_t n, step, chunk, vector;
    uint32_t to, to_step; /* row of the block's terms */
};

struct cursor { /* a lane's place in the planes; a matrix has under 4 GiB */
    uint32_t q, s, h, d;
};

__host__ __device__ static uint32_t slot_bytes(uint32_t type) {
    return type == CUDA_Q6_K ? 1024 + 512 + 128 + 16 : type == CUDA_Q5_K ? 1024 + 128 + 256 : 1024 + 128;
}

template <int TYPE> __device__ __forceinline__ cursor make_cursor(const cuda_mat &m, size_t row, uint32_t piece) {
    uint32_t n_pieces = m.n_cols / 64, own = (uint32_t)row * n_pieces + piece;
    cursor c;
    c.q = ((uint32_t)row * 2 * n_pieces + piece) * 16;
    c.s = TYPE == CUDA_Q6_K ? own * 4 : own / 4 * 16;
    c.h = own * (TYPE == CUDA_Q6_K ? 16 : 8);
    c.d = (uint32_t)(row * q6_d_stride(m.n_cols)) + piece / 32 * 16;
    return c;
}

/* Copies the item at the cursor and goes to the next. */
template <int TYPE>
__device__ __forceinline__ void copy_item(const cuda_mat &m, cursor *c, uint32_t step, uint32_t lane, uint8_t *slot) {
    uint32_t n_pieces = m.n_cols / 64;
    copy_async_16(slot + lane * 16, m.q + c->q);
    copy_async_16(slot + 512 + lane * 16, m.q + c->q + n_pieces * 16);
    c->q += step * n_pieces * 32;
    if (TYPE == CUDA_Q6_K) {
        copy_async_16(slot + 1024 + lane * 16, m.h + c->h);
        if (lane % 4 == 0) {
            copy_async_16(slot + 1536 + lane * 4, m.s + c->s);
        }
        if (lane == 0) {
            copy_async_16(slot + 1664, m.d + c->d);
        }
        c->h += step * n_pieces * 16;
        c->s += step * n_pieces * 4;
        c->d += step * (uint32_t)q6_d_stride(m.n_cols);
    } else {
        if (lane % 4 == 0) {
            copy_async_16(slot + 1024 + lane * 4, m.s + c->s);
        }
        c->s += step * n_pieces * 4;
        if (TYPE == CUDA_Q5_K) {
            if (lane % 2 == 0) {
                copy_async_16(slot + 1152 + lane * 8, m.h + c->h);
            }
            c->h += step * n_pieces * 8;
        }
    }
}

/* From a slot: q, then h and s (Q6_K), s and h (Q5_K), d. */
template <int TYPE> __device__ __forceinline__ lane_weights read_item(uint32_t lane, const uint8_t *slot) {
    bool q6 = TYPE == CUDA_Q6_K;
    return read_planes<TYPE>(slot, 512, slot + (q6 ? 1024 : 1152), slot + (q6 ? 1536 : 1024), slot + 1664, lane);
}

template <int DEPTH, int TYPE>
__device__ __forceinline__ cursor fetch_first(const cuda_mat &m, size_t row, const rows_of_warp &r, uint8_t *ring,
                                              uint32_t bytes) {
    uint32_t lane = threadIdx.x % 32, piece = r.chunk * 32 + lane;
    bool mine = piece < m.n_cols / 64;
    cursor c = make_cursor<TYPE>(m, row, mine ? piece : 0);
#pragma unroll 1
    for (uint32_t i = 0; i < DEPTH; i++) {
        if (i < r.n && mine) {
            copy_item<TYPE>(m, &c, r.step, lane, ring + i * bytes);
        }
        copy_async_commit();
    }
    return c;
}

/* After fetch_first of the same rows, whose cursor is c. */
template <int DEPTH, int TYPE>
__device__ __forceinline__ void run_rows(const cuda_mat &m, cursor c, const rows_of_warp &r, const vectors &v,
                                         float norm, uint8_t *ring, uint32_t bytes) {
    uint32_t lane = threadIdx.x % 32, piece = r.chunk * 32 + lane, n_super = m.n_cols / 256;
    bool mine = piece < m.n_cols / 64;
    lane_acts x;
    load_acts(v, r.vector, mine ? piece : 0, norm, &x);
    uint8_t *slot = ring;
    float *terms = v.terms + r.to * n_super + piece / 4;
#pragma unroll 1
    for (uint32_t i = 0; i < r.n; i++) {
        copy_async_wait<DEPTH - 1>();
        __syncwarp();
        lane_weights w = read_item<TYPE>(lane, slot);
        __syncwarp();
        if (i + DEPTH < r.n && mine) {
            copy_item<TYPE>(m, &c, r.step, lane, slot);
        }
        copy_async_commit();
        slot = slot + bytes == ring + DEPTH * bytes ? ring : slot + bytes;
        float term = piece_term<TYPE>(w, x, piece);
        if (mine && lane % 4 == 0) {
            *terms = term;
        }
        terms += r.to_step * n_super;
    }
}

extern __shared__ __align__(16) uint8_t shared_bytes[];

/* Items of warp w: w, w + 16, ... of n_all. */
__device__ __forceinline__ uint32_t items_of_warp(uint32_t n_all) {
    uint32_t warp = threadIdx.x / 32;
    return warp < n_all ? (n_all - warp + WARPS - 1) / WARPS : 0;
}

/* ---- in_proj, gates and convolution; a block owns 16 channels, their rows of B, C and x. Grid (d / 16, tokens). */
enum { IN_DEPTH = 3, ROW_DEPTH = 1, GATE_UP_DEPTH = 4, DOWN_DEPTH = 4, HEAD_DEPTH = 4 };

template <int TYPE>
__global__ void __launch_bounds__(CUDA_DECODE_BLOCK, 1)
    decode_in_proj(cuda_step step, cuda_mat m, const float *h, const float *gain, float eps, cuda_conv conv, float *y) {
    __shared__ conv_channel channels[OWN];
    let_next_start();
    uint32_t d = conv.d, t = blockIdx.y, warp = threadIdx.x / 32, c = blockIdx.x * OWN + threadIdx.x;
    uint32_t bytes = slot_bytes(TYPE);
    vectors v = vectors_at(shared_bytes, 1, d);
    uint8_t *ring = shared_bytes + vectors_bytes(1, d, 3 * OWN) + warp * IN_DEPTH * bytes;
    rows_of_warp rows = {3, d, 0, 0, warp, WARPS}; /* of B, C and x */
    cursor at = fetch_first<IN_DEPTH, TYPE>(m, blockIdx.x * OWN + warp, rows, ring, bytes);
    gains8 g = load_gains(gain, d);
    if (warp == WARPS - 1 && threadIdx.x % 32 < OWN) { /* a warp that has nothing to quantise */
        channels[threadIdx.x % 32] = load_channel(step, conv, t, blockIdx.x * OWN + threadIdx.x % 32);
    }
    wait_for_input();
    quantize_vectors(v, h + (size_t)t * d, 1, &g);
    __syncthreads();
    run_rows<IN_DEPTH, TYPE>(m, at, rows, v, norm_of(v, eps), ring, bytes);
    __syncthreads();
    if (threadIdx.x < OWN) {
        float b = row_sum(v, threadIdx.x), gate = row_sum(v, OWN + threadIdx.x), x = row_sum(v, 2 * OWN + threadIdx.x);
        y[(size_t)t * d + c] = gate * step_channel(conv, channels[threadIdx.x], b * x);
    }
}

/* ---- q, k and v. Grid (rows / 16, tokens); a block's rows are all of one matrix. */
__global__ void __launch_bounds__(CUDA_DECODE_BLOCK, 1)
    decode_qkv(cuda_mat wq, cuda_mat wk, cuda_mat wv, const float *h, const float *gain, float eps, float *qkv) {
    let_next_start();
    uint32_t n_rows = wq.n_rows + wk.n_rows + wv.n_rows, first = blockIdx.x * OWN, t = blockIdx.y,
             warp = threadIdx.x / 32;
    cuda_mat m = wq;
    size_t row0 = first;
    if (first >= wq.n_rows) {
        bool is_v = first >= wq.n_rows + wk.n_rows;
        m = is_v ? wv : wk;
        row0 = first - wq.n_rows - (is_v ? wk.n_rows : 0);
    }
    uint32_t bytes = slot_bytes(m.type);
    vectors v = vectors_at(shared_bytes, 1, m.n_cols);
    uint8_t *ring = shared_bytes + vectors_bytes(1, m.n_cols, OWN) + warp * ROW_DEPTH * bytes;
    rows_of_warp rows = {1, 0, 0, 0, warp, 0};
    cursor at = m.type == CUDA_Q4_K   ? fetch_first<ROW_DEPTH, CUDA_Q4_K>(m, row0 + warp, rows, ring, bytes)
                : m.type == CUDA_Q5_K ? fetch_first<ROW_DEPTH, CUDA_Q5_K>(m, row0 + warp, rows, ring, bytes)
                                      : fetch_first<ROW_DEPTH, CUDA_Q6_K>(m, row0 + warp, rows, ring, bytes);
    gains8 g = load_gains(gain, m.n_cols);
    wait_for_input();
    quantize_vectors(v, h + (size_t)t * m.n_cols, 1, &g);
    __syncthreads();
    float norm = norm_of(v, eps);
    if (m.type == CUDA_Q4_K) {
        run_rows<ROW_DEPTH, CUDA_Q4_K>(m, at, rows, v, norm, ring, bytes);
    } else if (m.type == CUDA_Q5_K) {
        run_rows<ROW_DEPTH, CUDA_Q5_K>(m, at, rows, v, norm, ring, bytes);
    } else {
        run_rows<ROW_DEPTH, CUDA_Q6_K>(m, at, rows, v, norm, ring, bytes);
    }
    __syncthreads();
    if (threadIdx.x < OWN) {
        qkv[(size_t)t * n_rows + first + threadIdx.x] = row_sum(v, threadIdx.x);
    }
}

/* ---- out_proj or attn_output, residual, the router's partial sums. Grid (rows / 16, tokens). */
template <int TYPE>
__global__ void __launch_bounds__(CUDA_DECODE_BLOCK, 1)
    decode_out(cuda_mat m, const float *x, float *h, cuda_route r, bool routed) {
    __shared__ float own[OWN];
    __shared__ __align__(16) float router[64][OWN];
    let_next_start();
    uint32_t t = blockIdx.y, first = blockIdx.x * OWN, warp = threadIdx.x / 32, bytes = slot_bytes(TYPE);
    vectors v = vectors_at(shared_bytes, 1, m.n_cols);
    uint8_t *ring = shared_bytes + vectors_bytes(1, m.n_cols, OWN) + warp * ROW_DEPTH * bytes;
    rows_of_warp rows = {1, 0, 0, 0, warp, 0};
    for (uint32_t i = threadIdx.x; routed && i < r.n_expert * (OWN / 4); i += CUDA_DECODE_BLOCK) {
        copy_async_16(&router[i / (OWN / 4)][i % (OWN / 4) * 4],
                      r.w + (size_t)(i / (OWN / 4)) * m.n_rows + first + i % (OWN / 4) * 4);
    }
    cursor at = fetch_first<ROW_DEPTH, TYPE>(m, (size_t)first + warp, rows, ring, bytes);
    float gain = routed && threadIdx.x < OWN ? r.gain[first + threadIdx.x] : 0.0f;
    wait_for_input();
    float *to = h + (size_t)t * m.n_rows + first + threadIdx.x;
    float before = threadIdx.x < OWN ? __ldcg(to) : 0.0f;
    quantize_vectors(v, x + (size_t)t * m.n_cols, 1, NULL);
    __syncthreads();
    run_rows<ROW_DEPTH, TYPE>(m, at, rows, v, 1.0f, ring, bytes);
    __syncthreads();
    if (threadIdx.x < OWN) {
        float sum = before + row_sum(v, threadIdx.x);
        *to = sum;
        own[threadIdx.x] = gain * sum;
    }
    if (!routed) {
        return;
    }
    __syncthreads();
    if (threadIdx.x < r.n_expert) {
        float p = 0;
#pragma unroll
        for (int k = 0; k < OWN; k++) {
            p = fmaf(router[threadIdx.x][k], own[k], p);
        }
        r.part[((size_t)t * r.n_expert + threadIdx.x) * gridDim.x + blockIdx.x] = p;
    }
}

/* ---- The choice of experts, gate and up, SiLU. A block owns `units` of the used * n_rows hidden units, all
 * of one expert. */

/* Sums of the router's partial sums; by the upper half of the warps, while the lower one quantises. */
__device__ static void add_router_parts(const cuda_route &r, uint32_t t, uint32_t n_groups, float *sums) {
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll 4
    for (uint32_t e = warp - WARPS / 2; e < r.n_expert; e += WARPS / 2) {
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

template <int TYPE>
__global__ void __launch_bounds__(CUDA_DECODE_BLOCK, 1)
    decode_gate_up(cuda_step step, cuda_mat gate, cuda_mat up, const float *h, const float *gain, float eps,
                   cuda_route r, bool routed, uint32_t units, float *hidden) {
    __shared__ float sums[64], score[64], gains[CUDA_USED_MAX];
    __shared__ uint32_t ids[CUDA_USED_MAX];
    let_next_start();
    uint32_t t = blockIdx.y, d = gate.n_cols, ff = gate.n_rows, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t used = routed ? r.used : 1, first = blockIdx.x * units;
    const uint32_t bytes = slot_bytes(TYPE);
    vectors v = vectors_at(shared_bytes, 1, d);
    uint8_t *ring = shared_bytes + vectors_bytes(1, d, 2 * units) + warp * GATE_UP_DEPTH * bytes;
    bool is_up = warp & 1; /* gate and up of a unit in turn */
    cuda_mat m = is_up ? up : gate;
    rows_of_warp rows = {items_of_warp(2 * units), WARPS / 2, 0, 0, warp, WARPS};
    cursor at = {};
    if (!routed) {
        at = fetch_first<GATE_UP_DEPTH, TYPE>(m, first + warp / 2, rows, ring, bytes);
    }
    gains8 g = load_gains(gain, d);
    uint32_t seq = step.tokens[t].seq;
    wait_for_input();
    if (routed && warp >= WARPS / 2) {
        add_router_parts(r, t, d / CUDA_ROUTE_GROUP, sums);
    }
    quantize_vectors(v, h + (size_t)t * d, 1, &g);
    __syncthreads();
    float norm = norm_of(v, eps);
    if (routed) {
        if (warp == 0) {
            choose_experts(r, sums, score, norm, (int)lane, ids, gains);
            if (blockIdx.x == 0) {
                if (lane < used) {
                    r.ids[(size_t)t * used + lane] = ids[lane];
                    r.gains[(size_t)t * used + lane] = gains[lane];
                }
                __threadfence();
                __syncwarp();
                if (lane == 0) { /* decode_down fetches weights from here on */
                    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(r.chosen + t), "r"(seq) : "memory");
                }
            }
        }
        __syncthreads();
        at = fetch_first<GATE_UP_DEPTH, TYPE>(m, (size_t)ids[first / ff] * ff + first % ff + warp / 2, rows, ring,
                                              bytes);
    }
    run_rows<GATE_UP_DEPTH, TYPE>(m, at, rows, v, norm, ring, bytes);
    __syncthreads();
    if (threadIdx.x < units) {
        float x = row_sum(v, 2 * threadIdx.x), u = row_sum(v, 2 * threadIdx.x + 1);
        hidden[(size_t)t * used * ff + first + threadIdx.x] = x * sigmoid(x) * u;
    }
}

/* ---- down of the chosen experts, their weighted sum, residual. Grid (rows / 16, tokens). */
template <int TYPE>
__global__ void __launch_bounds__(CUDA_DECODE_BLOCK, 1)
    decode_down(cuda_step step, cuda_mat m, const float *hidden, float *h, cuda_route r, bool routed) {
    __shared__ uint32_t ids[CUDA_USED_MAX];
    __shared__ float gains[CUDA_USED_MAX];
    let_next_start();
    uint32_t t = blockIdx.y, first = blockIdx.x * OWN, warp = threadIdx.x / 32, bytes = slot_bytes(TYPE);
    uint32_t used = routed ? r.used : 1, n_chunks = (m.n_cols + 2047) / 2048;
    /* warps share the (vector, chunk) pairs, at most 16, and those of a pair its 16 rows */
    uint32_t n_pairs = used * n_chunks, pair = warp % n_pairs, row = warp / n_pairs;
    uint32_t step_rows = WARPS / n_pairs + (pair < WARPS % n_pairs);
    rows_of_warp rows = {(OWN - row + step_rows - 1) / step_rows,
                         step_rows,
                         pair % n_chunks,
                         pair / n_chunks,
                         pair / n_chunks * OWN + row,
                         step_rows};
    vectors v = vectors_at(shared_bytes, used, m.n_cols);
    uint8_t *ring = shared_bytes + vectors_bytes(used, m.n_cols, used * OWN) + warp * DOWN_DEPTH * bytes;
    if (routed) { /* the kernel before runs, or has ended: this one starts once all of its blocks have */
        if (threadIdx.x == 0) {
            uint32_t seq = step.tokens[t].seq, seen;
            do {
                asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(r.chosen + t) : "memory");
            } while (seen != seq);
            for (uint32_t k = 0; k < used; k++) {
                ids[k] = __ldcg(r.ids + (size_t)t * used + k);
                gains[k] = __ldcg(r.gains + (size_t)t * used + k);
            }
        }
        __syncthreads();
    }
    cursor at = fetch_first<DOWN_DEPTH, TYPE>(m, (size_t)(routed ? ids[rows.vector] : 0) * m.n_rows + first + row, rows,
                                              ring, bytes);
    wait_for_input();
    float *to = h + (size_t)t * m.n_rows + first + threadIdx.x;
    float sum = threadIdx.x < OWN ? __ldcg(to) : 0.0f;
    quantize_vectors(v, hidden + (size_t)t * used * m.n_cols, used, NULL);
    __syncthreads();
    run_rows<DOWN_DEPTH, TYPE>(m, at, rows, v, 1.0f, ring, bytes);
    __syncthreads();
    if (threadIdx.x < OWN) {
        for (uint32_t k = 0; k < used; k++) {
            sum = fmaf(routed ? gains[k] : 1.0f, row_sum(v, k * OWN + threadIdx.x), sum);
        }
        *to = sum;
    }
}

/* ---- The head. Grid (blocks, tokens). */
template <int TYPE>
__global__ void __launch_bounds__(CUDA_DECODE_BLOCK, 1)
    decode_head(cuda_mat m, const float *h, const float *gain, float eps, uint32_t rows, float *logits) {
    let_next_start();
    uint32_t t = blockIdx.y, first = blockIdx.x * rows, n_rows = m.n_rows - first < rows ? m.n_rows - first : rows;
    uint32_t warp = threadIdx.x / 32, bytes = slot_bytes(TYPE);
    rows_of_warp own = {items_of_warp(n_rows), WARPS, 0, 0, warp, WARPS};
    vectors v = vectors_at(shared_bytes, 1, m.n_cols);
    uint8_t *ring = shared_bytes + vectors_bytes(1, m.n_cols, rows) + warp * HEAD_DEPTH * bytes;
    cursor at = fetch_first<HEAD_DEPTH, TYPE>(m, (size_t)first + warp, own, ring, bytes);
    gains8 g = load_gains(gain, m.n_cols);
    wait_for_input();
    quantize_vectors(v, h + (size_t)t * m.n_cols, 1, &g);
    __syncthreads();
    run_rows<HEAD_DEPTH, TYPE>(m, at, own, v, norm_of(v, eps), ring, bytes);
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n_rows; i += blockDim.x) {
        logits[(size_t)t * m.n_rows + first + i] = row_sum(v, i);
    }
}

/* ---- Launchers */

/* Shared memory of a kernel: n vectors, the terms of `rows`, a ring of `depth` slots per warp. */
static size_t shared_size(uint32_t n, uint32_t n_cols, uint32_t rows, uint32_t depth, uint32_t slot) {
    return vectors_bytes(n, n_cols, rows) + (size_t)WARPS * depth * slot;
}

#define FOR_TYPE(kernel, type)                                                                                         \
    ((type) == CUDA_Q4_K ? kernel<CUDA_Q4_K> : (type) == CUDA_Q5_K ? kernel<CUDA_Q5_K> : kernel<CUDA_Q6_K>)

extern "C" cudaError_t cuda_decode_setup(int shared_max) {
#define ALL(kernel) (const void *)kernel<CUDA_Q4_K>, (const void *)kernel<CUDA_Q5_K>, (const void *)kernel<CUDA_Q6_K>
    const void *kernels[] = {ALL(decode_in_proj), ALL(decode_out),  ALL(decode_gate_up),
                             ALL(decode_down),    ALL(decode_head), (const void *)decode_qkv};
    for (const void *k : kernels) {
        cudaFuncAttributes a;
        cudaError_t status = cudaFuncGetAttributes(&a, k);
        if (status == cudaSuccess) {
            status = cudaFuncSetAttribute(k, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          shared_max - (int)a.sharedSizeBytes);
        }
        /* one division of shared memory and L1 for all: an SM changes it only when empty, and kernels could not overlap */
        if (status == cudaSuccess) {
            status =
                cudaFuncSetAttribute(k, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
        }
        if (status != cudaSuccess) {
            return status;
        }
    }
    return cudaSuccess;
}

extern "C" cudaError_t cuda_decode_in_proj(const cuda_step *step, const cuda_mat *w, const float *h, const float *gain,
                                           float eps, const cuda_conv *conv, float *y, cudaStream_t stream) {
    size_t bytes = shared_size(1, conv->d, 3 * OWN, IN_DEPTH, slot_bytes(w->type));
    return launch(FOR_TYPE(decode_in_proj, w->type), dim3(conv->d / OWN, step->n), CUDA_DECODE_BLOCK, bytes,
                  stream, *step, *w, h, gain, eps, *conv, y);
}

extern "C" cudaError_t cuda_decode_qkv(const cuda_step *step, const cuda_mat w[3], const float *h, const float *gain,
                                       float eps, float *qkv, cudaStream_t stream) {
    uint32_t rows = w[0].n_rows + w[1].n_rows + w[2].n_rows, slot = slot_bytes(CUDA_Q6_K);
    return launch(decode_qkv, dim3(rows / OWN, step->n), CUDA_DECODE_BLOCK,
                  shared_size(1, w[0].n_cols, OWN, ROW_DEPTH, slot), stream, w[0], w[1], w[2], h, gain, eps, qkv);
}

extern "C" cudaError_t cuda_decode_out(const cuda_step *step, const cuda_mat *w, const float *x, float *h,
                                       const cuda_route *r, cudaStream_t stream) {
    cuda_route none = {};
    size_t bytes = shared_size(1, w->n_cols, OWN, ROW_DEPTH, slot_bytes(w->type));
    return launch(FOR_TYPE(decode_out, w->type), dim3(w->n_rows / OWN, step->n), CUDA_DECODE_BLOCK, bytes,
                  stream, *w, x, h, r ? *r : none, r != NULL);
}

/* Hidden units of a block: a part of n_rows that divides it, a block per SM if that leaves a thread for each unit. */
static uint32_t units_of_block(uint32_t all, uint32_t n_rows, uint32_t n_sm) {
    uint32_t units = (all + n_sm - 1) / n_sm;
    while (units < n_rows && n_rows % units) {
        units++;
    }
    if (units > n_rows || units > CUDA_DECODE_BLOCK) {
        for (units = n_rows < CUDA_DECODE_BLOCK ? n_rows : CUDA_DECODE_BLOCK; n_rows % units; units--) {
        }
    }
    return units;
}

extern "C" cudaError_t cuda_decode_gate_up(const cuda_step *step, const cuda_mat *gate, const cuda_mat *up,
                                           const float *h, const float *gain, float eps, const cuda_route *r,
                                           float *hidden, uint32_t n_sm, cudaStream_t stream) {
    cuda_route none = {};
    uint32_t all = (r ? r->used : 1) * gate->n_rows, units = units_of_block(all, gate->n_rows, n_sm);
    return launch(FOR_TYPE(decode_gate_up, gate->type), dim3(all / units, step->n), CUDA_DECODE_BLOCK,
                  shared_size(1, gate->n_cols, 2 * units, GATE_UP_DEPTH, slot_bytes(gate->type)), stream, *step, *gate,
                  *up, h, gain, eps, r ? *r : none, r != NULL, units, hidden);
}

extern "C" cudaError_t cuda_decode_down(const cuda_step *step, const cuda_mat *down, const float *hidden, float *h,
                                        const cuda_route *r, cudaStream_t stream) {
    cuda_route none = {};
    uint32_t used = r ? r->used : 1;
    size_t bytes = shared_size(used, down->n_cols, used * OWN, DOWN_DEPTH, slot_bytes(down->type));
    return launch(FOR_TYPE(decode_down, down->type), dim3(down->n_rows / OWN, step->n), CUDA_DECODE_BLOCK,
                  bytes, stream, *step, *down, hidden, h, r ? *r : none, r != NULL);
}

extern "C" cudaError_t cuda_decode_head(const cuda_step *step, const cuda_mat *w, const float *h, const float *gain,
                                        float eps, float *logits, uint32_t n_sm, cudaStream_t stream) {
    uint32_t rows = ((w->n_rows + n_sm - 1) / n_sm + 7) / 8 * 8;
    return launch(FOR_TYPE(decode_head, w->type), dim3((w->n_rows + rows - 1) / rows, step->n),
                  CUDA_DECODE_BLOCK, shared_size(1, w->n_cols, rows, HEAD_DEPTH, slot_bytes(w->type)), stream, *w, h,
                  gain, eps, rows, logits);
}
