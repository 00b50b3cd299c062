/*
 * From logits to tokens: the order of engine/sampler.h. A row is cut in chunks of 4096 logits, a block each; the block
 * that is the last of its row to be through with a kernel does what needs the whole row.
 *
 *   draw_scan    penalties and biases; maximum. Greedy rows are drawn here. For top_k a floor that at least k logits
 * reach: the k-th greatest maximum of 64
 *   draw_select  top_k and top_p: the last candidate that stays (select.cu)
 *   draw_pick    weights of what is left; the token in whose weight the row's random number falls
 *
 * Sums are of whole numbers, so atomics and any order give the same bits. Limit: latency. A row of 65,536 is 256 KiB
 * from L2, 0.1 us for the whole device; a kernel costs its start, one read, a fence and a ticket, about 3 us.
 */
#include "backend/cuda/sample.cuh"

/* ---- Penalties, biases, maximum */

__device__ static float penalised(const cuda_draw &r, float v, uint32_t n_output) {
    v = v > 0 ? v / r.repetition : v * r.repetition;
    if (n_output > 0) {
        v -= r.presence + r.frequency * (float)n_output;
    }
    return v;
}

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

/* The k-th greatest of THREADS maxima of disjoint sets of logits, bit by bit: at least k logits reach it. -INFINITY if
 * there are fewer. */
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
    fetch_draw(d, &r);
    wait_for_input();
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
        int32_t failure = bad ? SAMPLE_NOT_FINITE : 0;
        if (!failure && isinf(max)) {
            failure = max < 0 ? SAMPLE_BANNED : SAMPLE_OVERFLOW;
        }
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
    fetch_draw(d, &r);
    wait_for_input();
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
    for (uint32_t n = 0; n < r.n_top && n < d.n_vocab; n++) { /* the thread that had the last one looks for its next */
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

extern "C" cudaError_t cuda_draw_tokens(const cuda_drawing *d, bool weighed, bool cut, cudaStream_t stream) {
    cudaError_t status = launch(draw_scan, d, stream);
    if (status == cudaSuccess && cut) {
        status = cuda_draw_select(d, stream);
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
