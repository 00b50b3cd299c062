/*
 * From logits to tokens: the order of engine/sampler.h. A row is cut in chunks of 4096 logits, a block each; the block that is
 * the last of its row to be through with a kernel does what needs the whole row.
 *
 *   draw_scan    penalties and biases; maximum. Greedy rows are drawn here. For top_k a floor that at least k logits reach:
 *                the k-th greatest maximum of 64
 *   draw_select  top_k: what reaches the floor is sorted. top_p alone: weights by bins of z; the bin in which the cut falls is
 *                sorted
 *   draw_pick    weights of what is left; the token in whose weight the row's random number falls
 *
 * Sums are of whole numbers, so atomics and any order give the same bits. Limit: latency. A row of 65,536 is 256 KiB from L2,
 * 0.1 us for the whole device; a kernel costs its start, one read, a fence and a ticket, about 3 us.
 */
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

__device__ __forceinline__ uint32_t bin_of(float z) {
    float bin = z * -((float)CUDA_DRAW_BINS / SAMPLE_REACH);
    return bin < (float)(CUDA_DRAW_BINS - 1) ? (uint32_t)bin : CUDA_DRAW_BINS - 1;
}

__device__ static float penalised(const cuda_draw &r, float v, uint32_t n_output) {
    v = v > 0 ? v / r.repetition : v * r.repetition;
    if (n_output > 0) {
        v -= r.presence + r.frequency * (float)n_output;
    }
    return v;
}

/* sample_nucleus */
__device__ __forceinline__ u64 nucleus(const cuda_draw &r, u64 all) {
    u64 target = __double2ull_rz((double)r.top_p * __ull2double_rn(all));
    return target > 0 ? target : 1;
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

/* ---- Penalties, biases, maximum */

/* Edits the block's chunk of the row: x, its logits from id `base` on. */
__device__ static void edit_chunk(const cuda_drawing &d, const cuda_draw &r, uint32_t base, float *x) {
    __shared__ uint32_t more[CUDA_DRAW_MORE + 1], found[CUDA_DRAW_MORE + 1];
    uint32_t n_more = r.n_more + r.fed, i = threadIdx.x;
    if (i < n_more) {
        more[i] = i < r.n_more ? __ldcg(d.words + r.more + i) : __ldcg(d.drawn + r.slot);
        found[i] = 0;
    }
    __syncthreads();
    for (i = threadIdx.x; i < r.n_seen; i += THREADS) {
        uint32_t token = __ldcg(d.words + r.seen + 2 * i), n_output = __ldcg(d.words + r.seen + 2 * i + 1);
        for (uint32_t k = 0; k < n_more; k++) {
            if (more[k] == token) {
                found[k] = 1;
                n_output++;
            }
        }
        if (token - base < CUDA_DRAW_CHUNK) {
            x[token - base] = penalised(r, x[token - base], n_output);
        }
    }
    __syncthreads();
    i = threadIdx.x;
    if (i < n_more && !found[i] && more[i] - base < CUDA_DRAW_CHUNK) { /* a new one: by its first occurrence */
        uint32_t first = 0, n_output = 0;
        while (more[first] != more[i]) {
            first++;
        }
        for (uint32_t k = 0; k < n_more; k++) {
            n_output += more[k] == more[i];
        }
        if (first == i) {
            x[more[i] - base] = penalised(r, x[more[i] - base], n_output);
        }
    }
    __syncthreads();
    for (i = threadIdx.x; i < r.n_edits; i += THREADS) {
        uint32_t token = __ldcg(d.words + r.edits + 2 * i);
        if (token - base < CUDA_DRAW_CHUNK) {
            float v = x[token - base] + __uint_as_float(__ldcg(d.words + r.edits + 2 * i + 1));
            x[token - base] = v != v ? -INFINITY : v;
        }
    }
    __syncthreads();
}

/* Whether a floor is looked for. */
__device__ static bool floors(const cuda_draw &r) {
    return r.kind == CUDA_DRAW_WEIGHED && r.top_k > 0 && r.top_k <= THREADS;
}

/* The maximum of every 64 logits, from those of each thread's four. */
__device__ static void note_maxima(const cuda_drawing &d, float max) {
    static_assert(CUDA_DRAW_BLOCK == 16 * EACH, "half a warp");
#pragma unroll
    for (int m = 8; m > 0; m /= 2) {
        max = fmaxf(max, __shfl_xor_sync(FULL, max, m));
    }
    if (threadIdx.x % 16 == 0) {
        uint32_t per_chunk = CUDA_DRAW_CHUNK / CUDA_DRAW_BLOCK;
        d.maxima[(size_t)(blockIdx.y * gridDim.x + blockIdx.x) * per_chunk + threadIdx.x / 16] = max;
    }
}

/* The k-th greatest of THREADS maxima of disjoint sets of logits, bit by bit: at least k logits reach it. -INFINITY if there
 * are fewer. */
__device__ static float kth_maximum(const cuda_drawing &d, uint32_t k) {
    uint32_t n = gridDim.x * (CUDA_DRAW_CHUNK / CUDA_DRAW_BLOCK), found = 0;
    float max = -INFINITY;
    for (uint32_t i = threadIdx.x; i < n; i += THREADS) {
        max = fmaxf(max, __ldcg(d.maxima + (size_t)blockIdx.y * n + i));
    }
    uint32_t key = ~(uint32_t)(rank_of(max, 0) >> 32); /* ascending with the maximum */
    for (uint32_t bit = 1u << 31; bit > 0; bit /= 2) {
        found |= __syncthreads_count(key >= (found | bit)) >= (int)k ? bit : 0;
    }
    return logit_of((u64)~found << 32);
}

/* Grid (chunks, rows), as of the kernels below. */
__global__ void __launch_bounds__(THREADS) draw_scan(cuda_drawing d) {
    __shared__ cuda_draw r;
    __shared__ __align__(16) float chunk[CUDA_DRAW_CHUNK];
    let_next_start();
    wait_for_input();
    fetch_draw(d, &r);
    if (r.kind == CUDA_DRAW_NONE) {
        return;
    }
    uint32_t base = blockIdx.x * CUDA_DRAW_CHUNK, first = base + threadIdx.x * EACH;
    float x[EACH];
    load_logits(d.logits + (size_t)blockIdx.y * d.n_vocab, d.n_vocab, first, x);
    bool bad = false;
    for (uint32_t k = 0; k < EACH; k++) {
        bad |= first + k < d.n_vocab && !isfinite(x[k]);
    }
    bad = __syncthreads_or(bad);
    if (has_edits(r)) {
        *(float4 *)(chunk + threadIdx.x * EACH) = make_float4(x[0], x[1], x[2], x[3]);
        __syncthreads();
        edit_chunk(d, r, base, chunk);
        for (uint32_t k = 0; k < EACH; k++) {
            x[k] = chunk[threadIdx.x * EACH + k];
            if (first + k < d.n_vocab) {
                d.edited[(size_t)blockIdx.y * d.n_vocab + first + k] = x[k];
            }
        }
    }
    u64 best = rank_of(x[0], first);
    for (uint32_t k = 1; k < EACH; k++) {
        u64 rank = rank_of(x[k], first + k);
        best = rank < best ? rank : best;
    }
    if (floors(r)) {
        note_maxima(d, logit_of(best));
    }
    best = block_least(best);
    cuda_draw_part *parts = d.parts + (size_t)blockIdx.y * gridDim.x;
    if (threadIdx.x == 0) {
        parts[blockIdx.x].max = logit_of(best);
        parts[blockIdx.x].id = (uint32_t)best;
        parts[blockIdx.x].bad = bad;
    }
    if (!is_last(d, 0)) {
        return;
    }
    best = ~0ull;
    bad = false;
    for (uint32_t i = threadIdx.x; i < gridDim.x; i += THREADS) {
        u64 rank = rank_of(__ldcg(&parts[i].max), __ldcg(&parts[i].id));
        best = rank < best ? rank : best;
        bad |= __ldcg(&parts[i].bad) != 0;
    }
    bad = __syncthreads_or(bad);
    best = block_least(best);
    float kth = floors(r) ? kth_maximum(d, r.top_k) : -INFINITY;
    if (threadIdx.x == 0) {
        float max = logit_of(best);
        int32_t failure = bad ? SAMPLE_NOT_FINITE : max == -INFINITY ? SAMPLE_BANNED : max == INFINITY ? SAMPLE_OVERFLOW : 0;
        if (failure || r.kind == CUDA_DRAW_GREEDY) {
            finish(d, r, failure ? failure : (int32_t)(uint32_t)best);
        } else {
            d.rows[blockIdx.y].max = max;
            d.rows[blockIdx.y].floor = fmaxf(max - r.depth, kth);
            d.rows[blockIdx.y].cut = ~0ull;
            d.rows[blockIdx.y].open = 1;
        }
    }
}

/* ---- top_k and top_p */

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

struct tally {
    u64 count, weight;
};

/* Candidates of a bin (CUDA_NONE: of all) with ranks in [lo, hi]: how many and what they weigh; the first LIST of them to
 * list, if it is not NULL. */
__device__ static tally visit(const bounds &b, uint32_t bin, u64 lo, u64 hi, u64 *list, uint32_t *n_list) {
    enum { AHEAD = 4 };
    tally t = {0, 0};
    for (uint32_t from = threadIdx.x * EACH; from < b.n_vocab; from += AHEAD * THREADS * EACH) {
        float x[AHEAD][EACH];
#pragma unroll
        for (uint32_t a = 0; a < AHEAD; a++) { /* all under way before the first is used */
            load_logits(b.row, b.n_vocab, from + a * THREADS * EACH, x[a]);
        }
#pragma unroll
        for (uint32_t i = 0; i < AHEAD * EACH; i++) {
            float v = x[i / EACH][i % EACH], z = (v - b.max) * b.scale;
            uint32_t id = from + i / EACH * THREADS * EACH + i % EACH;
            if (v >= b.floor && (bin == CUDA_NONE || bin_of(z) == bin)) {
                u64 rank = rank_of(v, id);
                if (rank >= lo && rank <= hi) {
                    t.count++;
                    t.weight += weight_of(exp_neg(z));
                    uint32_t at = list ? atomicAdd(n_list, 1u) : LIST;
                    if (at < LIST) {
                        list[at] = rank;
                    }
                }
            }
        }
    }
    return t;
}

__device__ static void sort_list(u64 *list, uint32_t n) {
    uint32_t all = 2;
    while (all < n) {
        all *= 2;
    }
    for (uint32_t i = threadIdx.x; i < all; i += THREADS) {
        if (i >= n) {
            list[i] = ~0ull;
        }
    }
    __syncthreads();
    for (uint32_t size = 2; size <= all; size *= 2) {
        for (uint32_t step = size / 2; step > 0; step /= 2) {
            for (uint32_t i = threadIdx.x; i < all / 2; i += THREADS) {
                uint32_t a = 2 * i - (i & (step - 1)), c = a + step;
                u64 u = list[a], v = list[c];
                if ((u > v) == ((a & size) == 0)) {
                    list[a] = v;
                    list[c] = u;
                }
            }
            __syncthreads();
        }
    }
}

/* Among the candidates of a bin (CUDA_NONE: all) with ranks up to `limit`: the one with which the count (or, weighed, the weight) of those up to it reaches
 * `need`, which all of them together do; *before: what these weigh, it included. */
__device__ static u64 resolve(const bounds &b, uint32_t bin, bool weighed, u64 need, u64 limit, u64 *list, u64 *before) {
    __shared__ uint32_t n_list;
    __shared__ u64 found[2];
    u64 lo = 0, hi = limit;
    *before = 0;
    while (true) {
        __syncthreads();
        if (threadIdx.x == 0) {
            n_list = 0;
        }
        __syncthreads();
        visit(b, bin, lo, hi, list, &n_list);
        __syncthreads();
        if (n_list <= LIST) {
            break;
        }
        /* too many for the list, as with a high temperature: halve what they span */
        u64 mid = lo + (hi - lo) / 2;
        tally t = visit(b, bin, lo, mid, NULL, NULL);
        u64 weight = block_total(t.weight), sum = weighed ? weight : block_total(t.count);
        if (sum >= need) {
            hi = mid;
        } else {
            need -= sum;
            *before += weight;
            lo = mid + 1;
        }
    }
    uint32_t n = n_list;
    sort_list(list, n);
    u64 weight[LIST / THREADS], mine = 0, count = 0, all;
    uint32_t first = threadIdx.x * (LIST / THREADS);
    for (uint32_t k = 0; k < LIST / THREADS; k++) {
        bool there = first + k < n;
        weight[k] = there ? weight_of(exp_neg((logit_of(list[first + k]) - b.max) * b.scale)) : 0;
        mine += weight[k];
        count += there;
    }
    u64 weight_sum = block_scan(mine, &all) - mine, count_sum = block_scan(count, &all) - count;
    for (uint32_t k = 0; k < LIST / THREADS && first + k < n; k++) {
        u64 sum = weighed ? weight_sum : count_sum, one = weighed ? weight[k] : 1;
        if (sum < need && sum + one >= need) {
            found[0] = list[first + k];
            found[1] = weight_sum + weight[k];
        }
        weight_sum += weight[k];
        count_sum++;
    }
    __syncthreads();
    *before += found[1];
    return found[0];
}

/* The rank of the last of n sorted candidates that top_k and then top_p leave. */
__device__ static u64 cut_sorted(const bounds &b, const cuda_draw &r, const u64 *list, uint32_t n) {
    __shared__ u64 last;
    u64 weight[LIST / THREADS], mine = 0, all;
    uint32_t first = threadIdx.x * (LIST / THREADS), kept = n < r.top_k ? n : r.top_k;
    for (uint32_t k = 0; k < LIST / THREADS; k++) {
        weight[k] = first + k < kept ? weight_of(exp_neg((logit_of(list[first + k]) - b.max) * b.scale)) : 0;
        mine += weight[k];
    }
    u64 sum = block_scan(mine, &all) - mine, target = nucleus(r, all);
    for (uint32_t k = 0; k < LIST / THREADS; k++) {
        if (r.top_p < 1 ? sum < target && sum + weight[k] >= target : first + k + 1 == kept) {
            last = list[first + k];
        }
        sum += weight[k];
    }
    __syncthreads();
    return last;
}

/* Rows with a floor for top_k: true if this block is the last, and then the cut is in *cut. */
__device__ static bool select_few(const cuda_drawing &d, const cuda_draw &r, const bounds &b, const float x[EACH],
                                  uint32_t first, u64 *list, u64 *cut) {
    cuda_draw_row *row = d.rows + blockIdx.y;
    u64 *all = (u64 *)d.lists + (size_t)blockIdx.y * LIST;
    for (uint32_t k = 0; k < EACH; k++) {
        uint32_t at = x[k] >= b.floor ? atomicAdd(&row->n_list, 1u) : LIST;
        if (at < LIST) {
            all[at] = rank_of(x[k], first + k);
        }
    }
    if (!is_last(d, 1)) {
        return false;
    }
    uint32_t n = __ldcg(&row->n_list);
    __syncthreads();
    if (threadIdx.x == 0) {
        row->n_list = 0;
    }
    if (n <= LIST) {
        for (uint32_t i = threadIdx.x; i < n; i += THREADS) {
            list[i] = __ldcg(all + i);
        }
        __syncthreads();
        sort_list(list, n);
        *cut = cut_sorted(b, r, list, n);
    } else { /* ties without end */
        u64 weight;
        *cut = resolve(b, CUDA_NONE, false, r.top_k, ~0ull, list, &weight);
        if (r.top_p < 1) {
            *cut = resolve(b, CUDA_NONE, true, nucleus(r, weight), *cut, list, &weight);
        }
    }
    return true;
}

/* Weights in three pieces of 15 bits: shared memory adds words of 32, and a chunk's 4096 pieces of a bin fit in one. */
enum { PIECE_BITS = 15, PIECES = 3 };

/* The same for top_p, or a top_k of many. */
__device__ static bool select_many(const cuda_drawing &d, const cuda_draw &r, const bounds &b, const float x[EACH],
                                   u64 *list, u64 *cut) {
    static_assert(CUDA_DRAW_BINS == THREADS, "a thread per bin");
    static_assert(SAMPLE_ONE_BITS < PIECES * PIECE_BITS && CUDA_DRAW_CHUNK < 1u << (32 - PIECE_BITS), "no overflow");
    __shared__ u64 crossing[3];
    uint32_t *counts = (uint32_t *)list, *pieces = counts + CUDA_DRAW_BINS, bin = threadIdx.x;
    for (uint32_t i = threadIdx.x; i < (1 + PIECES) * CUDA_DRAW_BINS; i += THREADS) {
        counts[i] = 0;
    }
    __syncthreads();
    for (uint32_t k = 0; k < EACH; k++) {
        float z = (x[k] - b.max) * b.scale;
        if (x[k] >= b.floor) {
            uint32_t at = bin_of(z);
            u64 weight = weight_of(exp_neg(z));
            if (r.top_k) {
                atomicAdd(counts + at, 1u);
            }
#pragma unroll
            for (uint32_t p = 0; p < PIECES; p++) {
                uint32_t piece = (uint32_t)(weight >> (p * PIECE_BITS)) & ((1u << PIECE_BITS) - 1);
                if (piece) {
                    atomicAdd(pieces + p * CUDA_DRAW_BINS + at, piece);
                }
            }
        }
    }
    __syncthreads();
    u64 *row_weights = (u64 *)d.weights + (size_t)blockIdx.y * CUDA_DRAW_BINS, weight = 0;
    uint32_t *row_counts = d.counts + (size_t)blockIdx.y * CUDA_DRAW_BINS;
    for (uint32_t p = 0; p < PIECES; p++) {
        weight += (u64)pieces[p * CUDA_DRAW_BINS + bin] << (p * PIECE_BITS);
    }
    if (weight) {
        atomicAdd(row_weights + bin, weight);
    }
    if (counts[bin]) {
        atomicAdd(row_counts + bin, counts[bin]);
    }
    if (!is_last(d, 1)) {
        return false;
    }
    u64 count = __ldcg(row_counts + bin), n_all, all;
    weight = __ldcg(row_weights + bin);
    row_counts[bin] = 0;
    row_weights[bin] = 0;
    u64 counted = block_scan(count, &n_all), weighed = block_scan(weight, &all);
    *cut = ~0ull;
    if (r.top_k && n_all > r.top_k) {
        if (counted >= r.top_k && counted - count < r.top_k) {
            crossing[0] = bin;
            crossing[1] = r.top_k - (counted - count);
            crossing[2] = weighed - weight;
        }
        __syncthreads();
        u64 before, above = crossing[2];
        *cut = resolve(b, (uint32_t)crossing[0], false, crossing[1], *cut, list, &before);
        all = above + before;
    }
    if (r.top_p < 1) {
        u64 target = nucleus(r, all), before;
        __syncthreads();
        if (weighed >= target && weighed - weight < target) {
            crossing[0] = bin;
            crossing[1] = target - (weighed - weight);
        }
        __syncthreads();
        *cut = resolve(b, (uint32_t)crossing[0], true, crossing[1], *cut, list, &before);
    }
    return true;
}

__global__ void __launch_bounds__(THREADS) draw_select(cuda_drawing d) {
    __shared__ cuda_draw r;
    __shared__ u64 list[LIST];
    let_next_start();
    wait_for_input();
    fetch_draw(d, &r);
    if (r.kind != CUDA_DRAW_WEIGHED || !__ldcg(&d.rows[blockIdx.y].open) || (r.top_k == 0 && r.top_p >= 1)) {
        return;
    }
    bounds b = bounds_of(d, r);
    uint32_t first = blockIdx.x * CUDA_DRAW_CHUNK + threadIdx.x * EACH;
    float x[EACH];
    load_logits(b.row, d.n_vocab, first, x);
    u64 cut;
    bool last = floors(r) ? select_few(d, r, b, x, first, list, &cut) : select_many(d, r, b, x, list, &cut);
    if (last && threadIdx.x == 0) {
        d.rows[blockIdx.y].cut = cut;
    }
}

/* ---- The draw */

__device__ static u64 kept_weight(const bounds &b, const cuda_draw &r, u64 cut, float x, uint32_t id) {
    float w = exp_neg((x - b.max) * b.scale);
    return x >= b.floor && rank_of(x, id) <= cut && w >= r.min_p ? weight_of(w) : 0;
}

__global__ void __launch_bounds__(THREADS) draw_pick(cuda_drawing d) {
    __shared__ cuda_draw r;
    __shared__ u64 rest;
    __shared__ uint32_t chunk;
    let_next_start();
    wait_for_input();
    fetch_draw(d, &r);
    if (r.kind != CUDA_DRAW_WEIGHED || !__ldcg(&d.rows[blockIdx.y].open)) {
        return;
    }
    bounds b = bounds_of(d, r);
    u64 cut = __ldcg(&d.rows[blockIdx.y].cut), weight = 0;
    uint32_t first = blockIdx.x * CUDA_DRAW_CHUNK + threadIdx.x * EACH;
    float x[EACH];
    load_logits(b.row, d.n_vocab, first, x);
    for (uint32_t k = 0; k < EACH; k++) {
        weight += kept_weight(b, r, cut, x[k], first + k);
    }
    weight = block_total(weight);
    cuda_draw_part *parts = d.parts + (size_t)blockIdx.y * gridDim.x;
    if (threadIdx.x == 0) {
        parts[blockIdx.x].weight = weight;
    }
    if (!is_last(d, 2)) {
        return;
    }
    static_assert(LIMIT_VOCAB / CUDA_DRAW_CHUNK <= THREADS, "a thread per chunk");
    u64 mine = threadIdx.x < gridDim.x ? __ldcg((const u64 *)&parts[threadIdx.x].weight) : 0, all;
    u64 upto = block_scan(mine, &all), target = __umul64hi(r.random, all);
    if (upto > target && upto - mine <= target) {
        chunk = threadIdx.x;
        rest = target - (upto - mine);
    }
    __syncthreads();
    first = chunk * CUDA_DRAW_CHUNK + threadIdx.x * EACH;
    load_logits(b.row, d.n_vocab, first, x);
    u64 w[EACH], sum = 0;
    for (uint32_t k = 0; k < EACH; k++) {
        w[k] = kept_weight(b, r, cut, x[k], first + k);
        sum += w[k];
    }
    u64 at = block_scan(sum, &all) - sum;
    for (uint32_t k = 0; k < EACH; k++) {
        if (rest >= at && rest - at < w[k]) {
            finish(d, r, (int32_t)(first + k));
        }
        at += w[k];
    }
}

/* ---- Logprobs of the raw row. Grid (1, rows): rare, so one block walks the row. */
__global__ void __launch_bounds__(THREADS) draw_logprobs(cuda_drawing d) {
    __shared__ cuda_draw r;
    fetch_draw(d, &r);
    int32_t token = d.rows[blockIdx.y].token;
    if (r.kind == CUDA_DRAW_NONE || !r.want_logprob || token < 0) {
        return;
    }
    const float *row = d.logits + (size_t)blockIdx.y * d.n_vocab;
    u64 best = ~0ull, weight = 0;
    for (uint32_t id = threadIdx.x; id < d.n_vocab; id += THREADS) {
        u64 rank = rank_of(row[id], id);
        best = rank < best ? rank : best;
    }
    u64 next = block_least(best);
    float max = logit_of(next);
    for (uint32_t id = threadIdx.x; id < d.n_vocab; id += THREADS) {
        weight += weight_of(exp_neg(row[id] - max));
    }
    weight = block_total(weight);
    cuda_drawn *out = d.out + blockIdx.y;
    if (threadIdx.x == 0) {
        out->sum = weight;
        out->max = max;
        out->logit = row[token];
        out->n_top = r.n_top < d.n_vocab ? r.n_top : d.n_vocab;
    }
    for (uint32_t n = 0; n < r.n_top && n < d.n_vocab; n++) { /* the thread that had the one before looks for its next */
        if (best == next) {
            best = ~0ull;
            for (uint32_t id = threadIdx.x; id < d.n_vocab; id += THREADS) {
                u64 rank = rank_of(row[id], id);
                best = rank > next && rank < best ? rank : best;
            }
        }
        if (threadIdx.x == 0) {
            out->top[n].token = (int32_t)(uint32_t)next;
            out->top[n].logit = row[(uint32_t)next];
        }
        next = block_least(best);
    }
}

/* ---- Launchers */

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

extern "C" cudaError_t cuda_draw_tokens(const cuda_drawing *d, bool weighed, bool cut, cudaStream_t stream) {
    cudaError_t status = launch(draw_scan, d, stream);
    if (status == cudaSuccess && cut) {
        status = launch(draw_select, d, stream);
    }
    if (status == cudaSuccess && weighed) {
        status = launch(draw_pick, d, stream);
    }
    return status;
}

extern "C" cudaError_t cuda_draw_logprobs(const cuda_drawing *d, cudaStream_t stream) {
    draw_logprobs<<<dim3(1, d->n), THREADS, 0, stream>>>(*d);
    return cudaGetLastError();
}
