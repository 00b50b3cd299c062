/*
 * Which candidates top_k and top_p leave: all up to one, in the order greatest first.
 *
 * With top_k up to 1024, draw_scan has found a floor that at least k logits reach; what reaches it is listed by all
 * blocks and sorted by the last. Otherwise all blocks add up counts and weights in bins of z; the last block finds the
 * bin in which the cut falls, gathers its candidates and sorts them. Candidates beyond a list's length (thousands of
 * ties, high temperatures) are halved by rank until they fit: slow, and right. Limit: latency, as in sample.cu; reading
 * a row by one block takes longest.
 */
#include "backend/cuda/sample.cuh"

__device__ __forceinline__ uint32_t bin_of(float z) {
    float bin = z * -((float)CUDA_DRAW_BINS / SAMPLE_REACH);
    return bin < (float)(CUDA_DRAW_BINS - 1) ? (uint32_t)bin : CUDA_DRAW_BINS - 1;
}

/* sample_nucleus */
__device__ __forceinline__ u64 nucleus(const cuda_draw &r, u64 all) {
    u64 target = __double2ull_rz((double)r.top_p * __ull2double_rn(all));
    return target > 0 ? target : 1;
}

struct tally {
    u64 count, weight;
};

/* Candidates of a bin (CUDA_NONE: of all) with ranks in [lo, hi]: how many and what they weigh; the first LIST of them
 * to list, if it is not NULL. */
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

/* Among the candidates of a bin (CUDA_NONE: all) with ranks up to `limit`: the one with which the count (or, weighed,
 * the weight) of those up to it reaches `need`, which all of them together do; *before: what these weigh, with it. */
__device__ static u64 resolve(const bounds &b, uint32_t bin, bool weighed, u64 need, u64 limit, u64 *list,
                              u64 *before) {
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
    fetch_draw(d, &r);
    wait_for_input();
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

cudaError_t cuda_draw_select(const cuda_drawing *d, cudaStream_t stream) {
    return launch(draw_select, d, stream);
}
