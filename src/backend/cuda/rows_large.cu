/*
 * The large phases of two to CUDA_DECODE_ROWS rows: experts and the head. A block goes through tiles of 16 rows in
 * rounds, a warp of it through one super-block of each; a round's terms meet in shared memory and are added in order.
 * Experts that the rows chose are listed with their rows, and each is read once. Limit: the weights' bytes; gate and up
 * take about twice as long with four and eight rows on an H200 (copies of 16 bytes and reads of shared memory keep the
 * load unit as busy as the bytes would: counted, not shown by leaving them out).
 */
#include "backend/cuda/launch.cuh"
#include "backend/cuda/rows.cuh"

enum { PLAN_ENTRIES = CUDA_DECODE_ROWS * CUDA_USED_MAX };

/* ---- The experts of a step, ascending, and of each the rows that chose it. An entry is row * used + its place among
 * the row's experts; entries stand by expert and row. */
struct plan {
    uint32_t n, n_entries;
    uint8_t expert[CUDA_EXPERTS_MAX], first[CUDA_EXPERTS_MAX + 1]; /* place of an expert's first entry */
    uint8_t entry[PLAN_ENTRIES], row[PLAN_ENTRIES];        /* by place */
    uint8_t place[PLAN_ENTRIES];                           /* by entry */
    uint32_t masks[CUDA_DECODE_ROWS][2];
};

/* By all threads, ends with a barrier. ids[n][used]: of a row all different, from another kernel; NULL: one expert that
 * all rows take. */
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
            uint32_t chosen = __ballot_sync(FULL, rows != 0), below = (1u << lane) - 1, count = __popc(rows);
            uint32_t up = count;
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

/* A place in a list of experts with n_each tiles or super-blocks each. */
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
        copy_async_wait<1>();
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
                asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                             : "=r"(seen)
                             : "l"(route.chosen + threadIdx.x)
                             : "memory");
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

static int shared_most; /* bytes that a block may have beside what kernels take themselves */

extern "C" cudaError_t cuda_rows_large_setup(int shared_max) {
#define ALL(kernel) (const void *)kernel<CUDA_Q4_K>, (const void *)kernel<CUDA_Q5_K>, (const void *)kernel<CUDA_Q6_K>
    const void *kernels[] = {ALL(rows_gate_up), ALL(rows_down), ALL(rows_head)};
    shared_most = shared_max;
    for (const void *k : kernels) {
        cudaError_t status = prepare_kernel(k, shared_max, &shared_most);
        if (status != cudaSuccess) {
            return status;
        }
    }
    return cudaSuccess;
}

/* Shared memory of a phase's kernel for n rows beside its slots. each: experts of a row (down). */
static size_t bytes_beside(enum cuda_rows_phase phase, const cuda_mat *w, uint32_t n, uint32_t each) {
    size_t n_super = w->n_cols / 256, tile = n * TILE * sizeof(float);
    return phase == CUDA_ROWS_DOWN ? n_super * tile * each
                                   : n * n_super * CUDA_RECORD + 2 * WARPS * tile; /* two rounds of sixteen items */
}

/* The most slots per warp, up to `most`, that fit beside; 0: none does. */
static uint32_t depth_of(enum cuda_rows_phase phase, const cuda_mat *w, uint32_t n, uint32_t each, uint32_t most) {
    size_t beside = bytes_beside(phase, w, n, each);
    uint32_t type = w->type;
    while (most && slots_bytes(type, most) + beside > (size_t)shared_most) {
        most--;
    }
    return most;
}

extern "C" bool cuda_rows_large_fit(enum cuda_rows_phase phase, const cuda_mat *w, uint32_t n, uint32_t each) {
    return depth_of(phase, w, n, each, 1) == 1;
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
