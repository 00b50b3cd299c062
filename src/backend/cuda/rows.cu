/*
 * Two to CUDA_DECODE_ROWS rows of one token each: the phases of decode.cu with each weight read and unpacked once for all
 * rows (rows.cuh). A block owns 16 rows of a matrix at a time and its warps share the super-blocks; terms meet in shared
 * memory and are added in order. Experts that the rows chose are listed with their rows, and each is read once. Vectors
 * that many blocks need after a long way (the norm before the experts, their hidden units) are quantised by a kernel of
 * its own. Limit: the weights' bytes; for one row this costs more than decode.cu, whose kernels are fewer.
 */
#include "backend/cuda/channel.cuh"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/route.cuh"
#include "backend/cuda/rows.cuh"

extern __shared__ __align__(128) uint8_t shared_bytes[];

enum { DEPTH_MAX = 4 /* slots of a warp */, PLAN_EXPERTS = 64, PLAN_ENTRIES = CUDA_DECODE_ROWS * CUDA_USED_MAX };

/* Slots of all warps, the records of n_vectors of n_cols, n_terms floats, in this order. */
struct layout {
    uint8_t *slots, *records;
    float *terms;
};

__host__ __device__ static size_t slots_bytes(uint32_t type, uint32_t depth) {
    return (size_t)WARPS * depth * item_bytes(type);
}

__device__ static layout layout_at(uint32_t type, uint32_t depth, uint32_t n_records) {
    layout l;
    l.slots = shared_bytes + threadIdx.x / 32 * depth * item_bytes(type);
    l.records = shared_bytes + slots_bytes(type, depth);
    l.terms = (float *)(l.records + n_records * CUDA_RECORD);
    return l;
}

/* Items i = 0 .. n - 1 of a warp, `depth` of them on their way: copy(i, slot) before, use(i, slot) when they are there. */
struct ring {
    uint8_t *slots;
    uint32_t bytes, depth, n;
};

template <class Copy> __device__ __forceinline__ void begin_items(const ring &r, Copy copy) {
#pragma unroll 1
    for (uint32_t i = 0; i < r.depth; i++) {
        if (i < r.n) {
            copy(i, r.slots + i * r.bytes);
        }
        copy_async_commit();
    }
}

template <class Copy, class Use>
__device__ __forceinline__ void run_item(const ring &r, uint32_t i, uint32_t *slot, Copy copy, Use use) {
    wait_for_item(r.depth);
    uint8_t *at = r.slots + *slot * r.bytes;
    *slot = *slot + 1 == r.depth ? 0 : *slot + 1;
    if (i < r.n) {
        use(i, at);
    }
    __syncwarp();
    if (i + r.depth < r.n) {
        copy(i + r.depth, at);
    }
    copy_async_commit();
}

struct same_vector {
    __device__ __forceinline__ uint32_t operator()(uint32_t i) const {
        return i;
    }
};

struct listed_vector {
    const uint8_t *list;
    __device__ __forceinline__ uint32_t operator()(uint32_t i) const {
        return list[i];
    }
};

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
    __shared__ float sums[PLAN_EXPERTS], score[PLAN_EXPERTS], gains[CUDA_USED_MAX], squares[8];
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

/* ---- The experts of a step, ascending, and of each the rows that chose it. An entry is row * used + its place among the
 * row's experts; entries stand by expert and row. */
struct plan {
    uint32_t n, n_entries;
    uint8_t expert[PLAN_EXPERTS], first[PLAN_EXPERTS + 1]; /* place of an expert's first entry */
    uint8_t entry[PLAN_ENTRIES], row[PLAN_ENTRIES];        /* by place */
    uint8_t place[PLAN_ENTRIES];                           /* by entry */
    uint32_t masks[CUDA_DECODE_ROWS][2];
};

/* By all threads, ends with a barrier; ids [n][used] of different experts below PLAN_EXPERTS, from other kernels; NULL: one expert for all rows. */
__device__ static void make_plan(plan *p, const uint32_t *ids, uint32_t n, uint32_t used) {
    uint32_t i = threadIdx.x, lane = i % 32;
    if (!ids) {
        if (i < n) {
            p->entry[i] = p->row[i] = p->place[i] = (uint8_t)i;
        }
        if (i == 0) {
            p->n = 1;
            p->n_entries = n;
            p->expert[0] = p->first[0] = 0;
            p->first[1] = (uint8_t)n;
        }
        __syncthreads();
        return;
    }
    if (i < 32) {
        uint32_t low = 0, high = 0;
        for (uint32_t k = 0; lane < n && k < used; k++) {
            uint32_t id = __ldcg(ids + lane * used + k);
            low |= id < 32 ? 1u << id : 0;
            high |= id < 32 ? 0 : 1u << (id - 32);
        }
        if (lane < n) {
            p->masks[lane][0] = low;
            p->masks[lane][1] = high;
        }
        __syncwarp();
        uint32_t n_experts = 0, n_entries = 0;
#pragma unroll 1
        for (uint32_t half = 0; half < 2; half++) {
            uint32_t rows = 0; /* that chose expert half * 32 + lane */
            for (uint32_t t = 0; t < n; t++) {
                rows |= (p->masks[t][half] >> lane & 1) << t;
            }
            uint32_t chosen = __ballot_sync(FULL, rows != 0), below = (1u << lane) - 1, count = __popc(rows), up = count;
#pragma unroll
            for (int k = 1; k < 32; k *= 2) {
                uint32_t other = __shfl_up_sync(FULL, up, k);
                up += lane >= (uint32_t)k ? other : 0;
            }
            uint32_t place = n_entries + up - count, slot = n_experts + __popc(chosen & below);
            if (rows) {
                p->expert[slot] = (uint8_t)(half * 32 + lane);
                p->first[slot] = (uint8_t)place;
            }
            for (; rows; rows &= rows - 1, place++) {
                uint32_t t = (uint32_t)__ffs((int)rows) - 1;
                uint32_t k = __popc(p->masks[t][half] & below) + (half ? __popc(p->masks[t][0]) : 0);
                p->entry[place] = (uint8_t)(t * used + k);
                p->row[place] = (uint8_t)t;
                p->place[t * used + k] = (uint8_t)place;
            }
            n_experts += __popc(chosen);
            n_entries += __shfl_sync(FULL, up, 31);
        }
        if (lane == 0) {
            p->n = n_experts;
            p->n_entries = n_entries;
            p->first[n_experts] = (uint8_t)n_entries;
        }
    }
    __syncthreads();
}

/* Item i of a list of `step`s through experts of n_each: the expert's number and the place in it. */
struct walk {
    uint32_t slot, at;
};

__device__ __forceinline__ void advance(walk *w, uint32_t by, uint32_t n_each) {
    w->at += by;
    while (w->at >= n_each) {
        w->at -= n_each;
        w->slot++;
    }
}

/* ---- gate, up and SiLU. A unit tile is 16 hidden units of an expert: 16 rows of each matrix; blocks share them all
 * evenly. A round takes as many as the warps have super-blocks for. */
template <int TYPE>
__global__ void __launch_bounds__(CUDA_DECODE_BLOCK, 1)
    rows_gate_up(cuda_mat gate, cuda_mat up, const uint8_t *vectors, uint32_t n, cuda_route route, bool routed,
                 uint32_t depth, float *hidden) {
    __shared__ plan p;
    let_next_start();
    uint32_t warp = threadIdx.x / 32, n_super = gate.n_cols / 256, tiles = gate.n_rows / TILE;
    uint32_t n_records = n * n_super, per = WARPS / (2 * n_super), which = warp / n_super % 2, block = warp % n_super;
    layout l = layout_at(TYPE, depth, n_records);
    uint32_t local = warp / (2 * n_super), terms_all = WARPS * n * TILE;
    cuda_mat m = which ? up : gate;
    if (routed) {
        wait_for_input();
        for (uint32_t i = threadIdx.x; i < n_records * (CUDA_RECORD / 16); i += CUDA_DECODE_BLOCK) {
            copy_async_16(l.records + i * 16, vectors + i * 16);
        }
    }
    copy_async_commit();
    make_plan(&p, routed ? route.ids : NULL, n, routed ? route.used : 1);
    uint32_t all = p.n * tiles, u0 = (uint32_t)((uint64_t)all * blockIdx.x / gridDim.x),
             n_units = (uint32_t)((uint64_t)all * (blockIdx.x + 1) / gridDim.x) - u0;
    ring r = {l.slots, item_bytes(TYPE), depth, local < per && local < n_units ? (n_units - local + per - 1) / per : 0};
    walk ahead = {0, 0}, now = {0, 0}, sums = {0, 0};
    advance(&sums, u0, tiles);
    now = sums;
    advance(&now, local, tiles);
    ahead = now;
    auto copy = [&](uint32_t, uint8_t *slot) {
        copy_item<TYPE>(m, p.expert[ahead.slot] * gate.n_rows + ahead.at * TILE, UINT32_MAX, block, slot);
        advance(&ahead, per, tiles);
    };
    begin_items(r, copy);
    if (!routed) {
        wait_for_input();
        for (uint32_t i = threadIdx.x; i < n_records * (CUDA_RECORD / 16); i += CUDA_DECODE_BLOCK) {
            copy_async_16(l.records + i * 16, vectors + i * 16);
        }
        copy_async_commit();
        copy_async_wait<0>();
    } else if (depth == DEPTH_MAX) {
        copy_async_wait<DEPTH_MAX>();
    } else {
        wait_for_item(depth + 1);
    }
    __syncthreads();
    for (uint32_t i = 0, slot = 0; i * per < n_units; i++) {
        float *terms = l.terms + i % 2 * terms_all;
        run_item(r, i, &slot, copy, [&](uint32_t, const uint8_t *at) {
            uint32_t first = p.first[now.slot];
            item_columns<TYPE>(at, block, l.records, n_super * CUDA_RECORD, p.first[now.slot + 1] - first,
                               terms + warp * n * TILE, listed_vector{p.row + first});
            advance(&now, per, tiles);
        });
        __syncthreads();
        /* other warps each round, since these come late to the next one */
        for (uint32_t k = (threadIdx.x + i * 128) % CUDA_DECODE_BLOCK; k < per * n * TILE; k += CUDA_DECODE_BLOCK) {
            uint32_t row = k % TILE, column = k / TILE % n, unit = k / TILE / n;
            walk w = sums;
            advance(&w, unit, tiles);
            if (i * per + unit >= n_units || p.first[w.slot] + column >= p.first[w.slot + 1]) {
                continue;
            }
            const float *from = terms + (unit * 2 * n_super * n + column) * TILE + row;
            float x = sum_terms(from, n_super, n * TILE), y = sum_terms(from + n_super * n * TILE, n_super, n * TILE);
            uint32_t entry = p.entry[p.first[w.slot] + column];
            hidden[(size_t)entry * gate.n_rows + w.at * TILE + row] = x * sigmoid(x) * y;
        }
        advance(&sums, per, tiles);
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

/* ---- down of the chosen experts, their weighted sums, residual; a block owns 16 rows, of all experts. */
template <int TYPE>
__global__ void __launch_bounds__(CUDA_DECODE_BLOCK, 1)
    rows_down(cuda_step step, cuda_mat m, const uint8_t *vectors, float *h, cuda_route route, bool routed,
              uint32_t depth) {
    __shared__ plan p;
    __shared__ float gains[PLAN_ENTRIES];
    let_next_start();
    uint32_t n = step.n, used = routed ? route.used : 1, first_row = blockIdx.x * TILE;
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_super = m.n_cols / 256;
    if (routed) { /* the kernel that chooses runs, or has ended: this one starts once all blocks before it have */
        if (threadIdx.x < n) {
            uint32_t seq = step.tokens[threadIdx.x].seq, seen;
            do {
                asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(route.chosen + threadIdx.x) : "memory");
            } while (seen != seq);
        }
        __syncthreads();
        if (threadIdx.x < n * used) {
            gains[threadIdx.x] = __ldcg(route.gains + threadIdx.x);
        }
    }
    make_plan(&p, routed ? route.ids : NULL, n, used);
    layout l = layout_at(TYPE, depth, 0);
    uint32_t n_items = p.n * n_super, terms_each = p.n_entries * TILE;
    ring r = {l.slots, item_bytes(TYPE), depth, warp < n_items ? (n_items - warp + WARPS - 1) / WARPS : 0};
    walk ahead = {0, 0};
    advance(&ahead, warp, n_super);
    walk now = ahead, next = ahead;
    auto copy = [&](uint32_t, uint8_t *slot) {
        copy_item<TYPE>(m, p.expert[ahead.slot] * m.n_rows + first_row, UINT32_MAX, ahead.at, slot);
        advance(&ahead, WARPS, n_super);
    };
    /* the operand of an expert's columns from i on */
    auto fetch = [&](const walk &w, uint32_t i, float *scale) {
        uint32_t first = p.first[w.slot], last = p.first[w.slot + 1] - 1u;
        const uint8_t *block = vectors + (size_t)w.at * CUDA_RECORD;
        size_t stride = (size_t)n_super * CUDA_RECORD;
        *scale = __ldcg((const float *)(block + p.entry[min(first + i + lane % 4, last)] * stride + RECORD_SCALE));
        return fetch_vector(block + p.entry[min(first + i + lane / 8, last)] * stride, lane);
    };
    begin_items(r, copy);
    wait_for_input();
    float *to = h + (size_t)(threadIdx.x / TILE) * m.n_rows + first_row + threadIdx.x % TILE;
    float sum = threadIdx.x < n * TILE ? __ldcg(to) : 0.0f, scale = 0;
    lane_vector b = {};
    if (r.n) {
        b = fetch(now, 0, &scale);
    }
    for (uint32_t i = 0, slot = 0; i < r.n; i++) {
        lane_vector b_next = b;
        float scale_next = scale;
        if (i + 1 < r.n) { /* the next item's vectors travel meanwhile */
            advance(&next, WARPS, n_super);
            b_next = fetch(next, 0, &scale_next);
        }
        run_item(r, i, &slot, copy, [&](uint32_t, const uint8_t *at) {
            uint32_t first = p.first[now.slot], count = p.first[now.slot + 1] - first;
            float *terms = l.terms + now.at * terms_each + first * TILE + lane / 4;
#pragma unroll 1
            for (uint32_t c = 0; c < count; c += COLUMNS) {
                if (c) {
                    b = fetch(now, c, &scale);
                }
                float term[2];
                item_terms<TYPE>(at, now.at, b, scale, term);
                if (c + lane % 4 < count) {
                    terms[(c + lane % 4) * TILE] = term[0];
                    terms[(c + lane % 4) * TILE + 8] = term[1];
                }
            }
            advance(&now, WARPS, n_super);
        });
        b = b_next;
        scale = scale_next;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < terms_each; i += CUDA_DECODE_BLOCK) { /* an entry's terms become their sum */
        l.terms[i] = sum_terms(l.terms + i, n_super, terms_each);
    }
    __syncthreads();
    if (threadIdx.x < n * TILE) {
        uint32_t t = threadIdx.x / TILE;
        for (uint32_t k = 0; k < used; k++) {
            sum = fmaf(routed ? gains[t * used + k] : 1.0f, l.terms[p.place[t * used + k] * TILE + threadIdx.x % TILE],
                       sum);
        }
        *to = sum;
    }
}

/* ---- The head: blocks share its tiles of 16 rows evenly. */
template <int TYPE>
__global__ void __launch_bounds__(CUDA_DECODE_BLOCK, 1)
    rows_head(cuda_mat m, const float *h, const float *gain, float eps, uint32_t n, uint32_t depth, float *logits) {
    let_next_start();
    uint32_t warp = threadIdx.x / 32, n_super = m.n_cols / 256, per = WARPS / n_super, local = warp / n_super;
    uint32_t all = (m.n_rows + TILE - 1) / TILE, u0 = (uint32_t)((uint64_t)all * blockIdx.x / gridDim.x),
             n_tiles = (uint32_t)((uint64_t)all * (blockIdx.x + 1) / gridDim.x) - u0, block = warp % n_super;
    layout l = layout_at(TYPE, depth, n * n_super);
    ring r = {l.slots, item_bytes(TYPE), depth, local < per && local < n_tiles ? (n_tiles - local + per - 1) / per : 0};
    auto copy = [&](uint32_t i, uint8_t *slot) {
        copy_item<TYPE>(m, (u0 + i * per + local) * TILE, m.n_rows - 1, block, slot);
    };
    begin_items(r, copy);
    wait_for_input();
    quantize_rows(l.records, h, n, m.n_cols, gain, eps);
    for (uint32_t i = 0, slot = 0; i * per < n_tiles; i++) {
        float *terms = l.terms + i % 2 * WARPS * n * TILE;
        run_item(r, i, &slot, copy, [&](uint32_t, const uint8_t *at) {
            item_columns<TYPE>(at, block, l.records, n_super * CUDA_RECORD, n, terms + warp * n * TILE, same_vector());
        });
        __syncthreads();
        for (uint32_t k = (threadIdx.x + i * 128) % CUDA_DECODE_BLOCK; k < per * n * TILE; k += CUDA_DECODE_BLOCK) {
            uint32_t column = k / TILE % n, unit = k / TILE / n, row = (u0 + i * per + unit) * TILE + k % TILE;
            if (i * per + unit < n_tiles && row < m.n_rows) {
                logits[(size_t)column * m.n_rows + row] =
                    sum_terms(terms + (unit * n_super * n + column) * TILE + k % TILE, n_super, n * TILE);
            }
        }
    }
}

/* ---- Launchers */

#define FOR_TYPE(kernel, type)                                                                                         \
    ((type) == CUDA_Q4_K ? kernel<CUDA_Q4_K> : (type) == CUDA_Q5_K ? kernel<CUDA_Q5_K> : kernel<CUDA_Q6_K>)

static int shared_most; /* bytes that a block may have, less what kernels take beside */

extern "C" cudaError_t cuda_rows_setup(int shared_max) {
#define ALL(kernel) (const void *)kernel<CUDA_Q4_K>, (const void *)kernel<CUDA_Q5_K>, (const void *)kernel<CUDA_Q6_K>
    const void *kernels[] = {ALL(rows_in_proj), ALL(rows_out),  ALL(rows_gate_up),
                             ALL(rows_down),    ALL(rows_head), (const void *)rows_qkv};
    shared_most = shared_max;
    for (const void *k : kernels) {
        cudaFuncAttributes a;
        cudaError_t status = cudaFuncGetAttributes(&a, k);
        int most = shared_max - (int)a.sharedSizeBytes;
        shared_most = most < shared_most ? most : shared_most;
        if (status == cudaSuccess) {
            status = cudaFuncSetAttribute(k, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
        }
        /* one division of shared memory and L1 for all: an SM changes it only when empty, so that kernels could not overlap */
        if (status == cudaSuccess) {
            status =
                cudaFuncSetAttribute(k, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
        }
        if (status != cudaSuccess) {
            return status;
        }
    }
    return cudaFuncSetAttribute((const void *)rows_route, cudaFuncAttributePreferredSharedMemoryCarveout,
                                cudaSharedmemCarveoutMaxShared) == cudaSuccess
               ? cudaFuncSetAttribute((const void *)rows_quantize, cudaFuncAttributePreferredSharedMemoryCarveout,
                                      cudaSharedmemCarveoutMaxShared)
               : cudaErrorInvalidValue;
}

/* Shared memory of a phase's kernel for n rows beside its slots. each: experts of a row (down), experts (out). */
static size_t bytes_beside(enum cuda_rows_phase phase, const cuda_mat *w, uint32_t n, uint32_t each) {
    size_t n_super = w->n_cols / 256, records = n * n_super * CUDA_RECORD, tile = n * TILE * sizeof(float);
    switch (phase) {
    case CUDA_ROWS_IN_PROJ:
        return records + 3 * n_super * tile + n * TILE * sizeof(conv_channel);
    case CUDA_ROWS_QKV:
        return records + n_super * tile;
    case CUDA_ROWS_OUT:
        return records + n_super * tile + each * ROUTER_STRIDE * sizeof(float);
    case CUDA_ROWS_DOWN:
        return n_super * tile * each;
    default: /* two rounds of sixteen items */
        return records + 2 * WARPS * tile;
    }
}

/* The most slots per warp, up to `most`, that fit beside; 0: none does. */
static uint32_t depth_of(enum cuda_rows_phase phase, const cuda_mat *w, uint32_t n, uint32_t each, uint32_t most) {
    size_t beside = bytes_beside(phase, w, n, each);
    uint32_t type = phase == CUDA_ROWS_QKV ? (uint32_t)CUDA_Q6_K : w->type; /* of any type */
    while (most && slots_bytes(type, most) + beside > (size_t)shared_most) {
        most--;
    }
    return most;
}

extern "C" bool cuda_rows_fit(enum cuda_rows_phase phase, const cuda_mat *w, uint32_t n, uint32_t each) {
    return depth_of(phase, w, n, each, 1) == 1;
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

extern "C" cudaError_t cuda_rows_gate_up(const cuda_step *step, const cuda_mat *gate, const cuda_mat *up,
                                         const uint8_t *records, const cuda_route *r, float *hidden, uint32_t n_sm,
                                         cudaStream_t stream) {
    cuda_route none = {};
    uint32_t depth = depth_of(CUDA_ROWS_GATE_UP, gate, step->n, 0, DEPTH_MAX);
    size_t bytes = slots_bytes(gate->type, depth) + bytes_beside(CUDA_ROWS_GATE_UP, gate, step->n, 0);
    return launch(FOR_TYPE(rows_gate_up, gate->type), dim3(n_sm), CUDA_DECODE_BLOCK, bytes, stream, *gate, *up, records,
                  step->n, r ? *r : none, r != NULL, depth, hidden);
}

extern "C" cudaError_t cuda_rows_quantize(const float *x, uint32_t n, uint32_t n_cols, uint8_t *records,
                                          cudaStream_t stream) {
    uint32_t n_all = n * (n_cols / 256);
    return launch(rows_quantize, dim3((n_all + QUANTIZE_WARPS - 1) / QUANTIZE_WARPS), 32 * QUANTIZE_WARPS, 0, stream, x,
                  n_all, records);
}

extern "C" cudaError_t cuda_rows_down(const cuda_step *step, const cuda_mat *down, const uint8_t *records, float *h,
                                      const cuda_route *r, cudaStream_t stream) {
    cuda_route none = {};
    uint32_t used = r ? r->used : 1, depth = depth_of(CUDA_ROWS_DOWN, down, step->n, used, DEPTH_MAX);
    size_t bytes = slots_bytes(down->type, depth) + bytes_beside(CUDA_ROWS_DOWN, down, step->n, used);
    return launch(FOR_TYPE(rows_down, down->type), dim3(down->n_rows / TILE), CUDA_DECODE_BLOCK, bytes, stream, *step,
                  *down, records, h, r ? *r : none, r != NULL, depth);
}

extern "C" cudaError_t cuda_rows_head(const cuda_step *step, const cuda_mat *w, const float *h, const float *gain,
                                      float eps, float *logits, uint32_t n_sm, cudaStream_t stream) {
    uint32_t depth = depth_of(CUDA_ROWS_HEAD, w, step->n, 0, DEPTH_MAX);
    size_t bytes = slots_bytes(w->type, depth) + bytes_beside(CUDA_ROWS_HEAD, w, step->n, 0);
    return launch(FOR_TYPE(rows_head, w->type), dim3(n_sm), CUDA_DECODE_BLOCK, bytes, stream, *w, h, gain, eps, step->n,
                  depth, logits);
}
