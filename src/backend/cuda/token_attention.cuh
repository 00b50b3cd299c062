/*
 * Attention of one token inside a kernel that stays on the device for the whole token: gridDim.x blocks of 16
 * computing warps, n_head * 64 = 16 * gridDim.x. Heads of 64. Every sum's order is that of docs/numerics.md, so the
 * bits are those of attention.cu.
 *
 * One split: a head to a block, K and V in registers before q is there. More: a warp attends to a page of 64 positions
 * at a time, two positions to a lane for the scores, two dimensions to a lane for the values. K (16 dimensions of all
 * positions) and V (16 positions) come through shared memory in slices of 2 KiB, asynchronously and as many ahead as
 * there is room for, so that loads are whole lines or sectors and take no registers. Four warps make a split. Up to
 * ALONE splits a block takes a whole head and joins it by itself; beyond, a team of four warps takes splits for up to
 * four heads at once, and the grid joins their parts.
 *
 * On an H200, four heads: 2,300 instructions a page and warp. A warp alone on its scheduler takes 5,200 cycles for them
 * (4,096 positions); with four of them, slices in flight (32 KiB an SM) bound it: 2.4 TB/s at 32,768 positions.
 */
#ifndef CUDA_TOKEN_ATTENTION_CUH
#define CUDA_TOKEN_ATTENTION_CUH

#include "backend/cuda/token.cuh"

/* Lies in shared memory: what a block needs of this layer. */
struct token_attention {
    const float *qkv; /* exchange: [n_head * 64 q][n_head_kv * 64 k][n_head_kv * 64 v], raw; all ones until published */
    float *out;       /* exchange: [n_head * 64], each value published by one thread of the grid */
    uint32_t *arrived;                       /* [n_head_kv] of this layer and token, all ones at first */
    float *part;                             /* [n_head][n_splits][66] maximum, sum, values */
    uint16_t *keys, *values;                 /* this layer's: [page][n_head_kv][64][64] F16 */
    size_t page_stride;                      /* elements from page to page */
    const uint32_t *pages;                   /* the row's: pages[pos / 64] is the current one */
    const float *q_gain, *k_gain;            /* shared memory [64] */
    const float *cos_sin;                    /* shared memory [64]: cosines of 32 angles, then sines */
    uint32_t pos, window, n_head, n_head_kv; /* attends to [max(0, pos + 1 - window) if window, pos] */
    float eps, scale;
    uint8_t *scratch; /* shared memory, aligned to 16, TOKEN_ATTENTION_SCRATCH bytes */
};

namespace token_attention_parts {

enum {
    PAGE = 64,
    PAGES = CUDA_SPLIT / PAGE,
    TEAMS = 4, /* of four warps, in a block */
    WARPS = TEAMS * PAGES,
    ALONE = TEAMS, /* splits that a block joins by itself */
    HEADS_MOST = 4,
    PART = 64 + 2,
    SLICE = 2048,
    SLICES = 8,           /* of a page: four of K, four of V */
    JOINED_AT_ONCE = 128, /* splits */
    OWN = 16,             /* channels of a block */
    COMPUTE = WARPS * 32
};

/* Named barriers; TEAM: one for each. */
enum { BLOCK = 1, TEAM = 8 };

struct workspace {
    uint8_t slices[WARPS][SLICE];    /* a warp has one, two or four; then the values of its page, [HEADS][64] floats */
    float e[WARPS][16 * HEADS_MOST]; /* exponentials of 16 positions: [position][HEADS] */
    float q[64 * HEADS_MOST];        /* [dimension][HEADS] */
    float tops[WARPS][HEADS_MOST], sums[WARPS][HEADS_MOST];
    uint16_t k[64], v[64]; /* the token's own */
};

struct join_space {
    float tops[WARPS], weight_sum[JOINED_AT_ONCE][2], values[JOINED_AT_ONCE][OWN];
};

/* ---- What only the device can say */

__device__ __forceinline__ void add_release(uint32_t *to) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(to) : "memory");
}

__device__ __forceinline__ uint32_t load_acquire(const uint32_t *p) {
    uint32_t v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}

/* Volatile, so that they stay before the wait for q, which is why they are there. */
__device__ __forceinline__ uint4 load_16(const uint16_t *p) {
    uint4 v;
    asm volatile("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}

__device__ __forceinline__ uint16_t load_2(const uint16_t *p) {
    uint16_t v;
    asm volatile("ld.global.nc.u16 %0, [%1];" : "=h"(v) : "l"(p));
    return v;
}

__device__ __forceinline__ float float_of(uint16_t half) {
    float v;
    asm volatile("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(half));
    return v;
}

/* A loop that ends at once, because the compiler moves arithmetic behind a barrier, but not behind a loop. */
__device__ __forceinline__ void keep_before() {
    uint32_t clock;
    do {
        asm volatile("mov.u32 %0, %%clock;" : "=r"(clock)::"memory");
    } while (clock == 1);
}

__device__ __forceinline__ void bring_to_l2(const void *p, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes) : "memory");
#endif
}

/* 16 bytes, or zeros instead. */
__device__ __forceinline__ void copy_or_zero_16(void *to, const void *from, bool copied) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(copied ? 16 : 0)
                 : "memory");
}

/* Pointers that came through memory: to shared memory, for plain loads and stores of it. */
template <class T> __device__ __forceinline__ T *in_shared(T *p) {
    __builtin_assume(__isShared(p));
    return p;
}

template <int THREADS> __device__ __forceinline__ void sync(uint32_t id) {
    __syncwarp();
    asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(THREADS) : "memory");
}

template <int THREADS> __device__ __forceinline__ void arrive(uint32_t id) {
    __syncwarp();
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "n"(THREADS) : "memory");
}

/* ---- What a block does */

struct block_plan {
    uint32_t begin, end;           /* positions seen */
    uint32_t split0, n;            /* splits of which anything is seen */
    uint32_t kv, head0, heads;     /* the block's heads, one if it is alone with it */
    bool stores;                   /* the token's own K and V, if it has the last split */
    uint32_t first, between, step; /* splits of the block, counted from split0: its first team's first, from team to
                                      team, and from a team's one to its next; first >= n: none */
    uint32_t n_warps;              /* of this KV head that make parts */
};

__device__ __forceinline__ block_plan make_plan(const token_attention &a) {
    block_plan p;
    p.end = a.pos + 1;
    p.begin = a.window && p.end > a.window ? p.end - a.window : 0;
    p.split0 = p.begin / CUDA_SPLIT;
    p.n = a.pos / CUDA_SPLIT + 1 - p.split0;
    const uint32_t group = a.n_head / a.n_head_kv, blocks = 4 * group, member = blockIdx.x % blocks;
    p.kv = blockIdx.x / blocks;
    if (p.n <= ALONE) {
        p.head0 = blockIdx.x / 4;
        p.heads = 1;
        p.stores = member == 0;
        p.first = member % 4 ? p.n : 0;
        p.between = 1;
        p.n_warps = 0;
    } else { /* task i: split i >> two, one half of the heads or all; consecutive ones on different blocks */
        const uint32_t two = group > HEADS_MOST, set = two ? member % 2 : 0, n_tasks = p.n << two;
        p.head0 = p.kv * group + set * HEADS_MOST;
        p.heads = group - set * HEADS_MOST;
        p.heads = p.heads < HEADS_MOST ? p.heads : HEADS_MOST;
        p.stores = set == 0;
        p.first = member >> two;
        p.between = blocks >> two;
        p.n_warps = (n_tasks < TEAMS * blocks ? n_tasks : TEAMS * blocks) * PAGES;
    }
    p.step = TEAMS * p.between;
    return p;
}

/* Positions of one page that a task sees. */
struct page_view {
    uint32_t from, to, own; /* own: the token's own place, or some number >= PAGE */
    uint32_t at;            /* the page's place among the row's */
};

__device__ __forceinline__ page_view view_page(const block_plan &plan, uint32_t split, uint32_t page) {
    page_view v;
    v.at = (plan.split0 + split) * PAGES + page;
    const uint32_t first = v.at * PAGE;
    v.from = plan.begin > first ? plan.begin - first : 0;
    v.to = plan.end > first ? plan.end - first : 0;
    v.to = v.to < PAGE ? v.to : PAGE;
    v.own = plan.end - 1 - first;
    return v;
}

/* Elements before this KV head's 64 rows of page `id`. */
__device__ __forceinline__ size_t page_at(const token_attention &a, const block_plan &plan, uint32_t id) {
    return id * a.page_stride + (size_t)plan.kv * PAGE * 64;
}

/* N values, 32 apart. */
template <int N> __device__ __forceinline__ void await_values(const float *p, float x[N]) {
    uint32_t bits[N], spins = 0;
    bool there;
    do {
        there = true;
#pragma unroll
        for (int i = 0; i < N; i++) {
            bits[i] = look(p + 32 * i);
        }
#pragma unroll
        for (int i = 0; i < N; i++) {
            there = there && bits[i] != EMPTY;
        }
        count_spin(&spins);
    } while (!__all_sync(FULL, there));
#pragma unroll
    for (int i = 0; i < N; i++) {
        x[i] = __uint_as_float(bits[i]);
    }
}

/* Maximum over the warp as warp_max makes it (NaN is passed over), but for the sign of zero. */
__device__ __forceinline__ float fast_warp_max(float x) {
    int key = __float_as_int(fmaxf(x, -INFINITY));
    key = __reduce_max_sync(FULL, key ^ (key >> 31 & 0x7fffffff));
    return __int_as_float(key ^ (key >> 31 & 0x7fffffff));
}

/* ---- q and the token's own K and V */

/* By warps 15, 14 ... the block's heads of q; by warp 9 V and by warp 8 K where the block has the last split. V is only
 * rounded. */
__device__ __forceinline__ void make_heads(const token_attention &a, const block_plan &plan, uint32_t warp,
                                           uint32_t lane) {
    workspace &s = *(workspace *)in_shared(a.scratch);
    const uint32_t h = WARPS - 1 - warp;
    const bool is_q = h < plan.heads, is_v = warp == 9;
    if (!is_q && (warp < 8 || warp > 9 || plan.first >= plan.n || (plan.n - 1 - plan.first) % plan.between)) {
        if (plan.n > ALONE && h < HEADS_MOST) { /* no head: nothing that could hold it up */
            s.q[lane * HEADS_MOST + h] = 0;
            s.q[(lane + 32) * HEADS_MOST + h] = 0;
        }
        return;
    }
    const uint32_t id = load4(a.pages + a.pos / PAGE);
    const float *gain = in_shared(is_q ? a.q_gain : a.k_gain), *cos_sin = in_shared(a.cos_sin);
    const float g0 = gain[lane], g1 = gain[lane + 32], c = cos_sin[lane], sine = cos_sin[lane + 32], eps = a.eps;
    const uint32_t row = is_q ? plan.head0 + h : a.n_head + plan.kv + (is_v ? a.n_head_kv : 0);
    float x[2];
    await_values<2>(a.qkv + (size_t)row * 64 + lane, x);
    if (!is_v) { /* norm and rotation */
        const float scale = norm_scale(warp_sum(fmaf(x[1], x[1], fmaf(x[0], x[0], 0.0f))), 64, eps);
        const float x0 = x[0] * scale * g0, x1 = x[1] * scale * g1;
        x[0] = fmaf(x0, c, -(x1 * sine));
        x[1] = fmaf(x0, sine, x1 * c);
    }
    if (is_q) {
        const uint32_t apart = plan.n > ALONE ? HEADS_MOST : 1;
        s.q[lane * apart + h] = x[0];
        s.q[(lane + 32) * apart + h] = x[1];
        return;
    }
    const uint16_t bits[2] = {__half_as_ushort(__float2half_rn(x[0])), __half_as_ushort(__float2half_rn(x[1]))};
    uint16_t *own = is_v ? s.v : s.k;
    own[lane] = bits[0];
    own[lane + 32] = bits[1];
    if (plan.stores) {
        uint16_t *to = (is_v ? a.values : a.keys) + page_at(a, plan, id) + a.pos % PAGE * 64;
        to[lane] = bits[0];
        to[lane + 32] = bits[1];
    }
}

/* ---- A page by a warp */

/* A page on its way to the warp's slices. Rows [from, from + n) were there before the token; others become zeros. */
struct stream {
    const uint8_t *k, *v; /* what this lane copies first */
    uint8_t *to;          /* the warp's slices, shared memory */
    uint32_t ahead;       /* how many: 1, 2 or 4 */
    uint32_t from, n;
};

/* Slice t, if there is one. K: [64 positions][16 dimensions], where positions 4 to 7 of every 8 have their halves
 * exchanged, so that eight lanes find eight halves in different banks. V: [16 positions][64 dimensions]. */
__device__ __forceinline__ void fetch_slice(const stream &st, uint32_t t, uint32_t lane) {
    if (t < SLICES) {
        const bool is_v = t >= 4;
        const uint8_t *from = is_v ? st.v + (t - 4) * SLICE : st.k + t * 32;
        const uint32_t stride = is_v ? 512 : 2048, rows = is_v ? 4 : 16,
                       row = (is_v ? (t - 4) * 16 + lane / 8 : lane / 2) - st.from;
        uint8_t *to = st.to + (t & (st.ahead - 1)) * SLICE + (is_v ? lane * 16 : (lane ^ (lane >> 3 & 1)) * 16);
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            copy_or_zero_16(to + i * 512, from + i * stride, row + i * rows < st.n);
        }
    }
    copy_async_commit();
}

/* Until the oldest slice that is under way is there. */
__device__ __forceinline__ void await_slice(uint32_t ahead) {
    if (ahead == 1) {
        copy_async_wait<0>();
    } else if (ahead == 2) {
        copy_async_wait<1>();
    } else {
        copy_async_wait<3>();
    }
}

/* The page's first slices start. */
__device__ __forceinline__ void start_page(const token_attention &a, const block_plan &plan, const page_view &v,
                                           uint32_t id, bool all, stream &st, uint32_t lane) {
    const size_t at = page_at(a, plan, id);
    const uint32_t to = v.own < v.to ? v.own : v.to;
    st.k = (const uint8_t *)(a.keys + at) + lane / 2 * 128 + lane % 2 * 16;
    st.v = (const uint8_t *)(a.values + at) + lane * 16;
    st.from = v.from;
    st.n = to > v.from ? to - v.from : 0;
    if (v.from < v.to) {
        if (lane == 0) { /* the rest */
            if (all) {
                bring_to_l2(a.keys + at, v.to * 128);
            }
            bring_to_l2(a.values + at, v.to * 128);
        }
#pragma unroll 1
        for (uint32_t t = 0; t < st.ahead; t++) {
            fetch_slice(st, t, lane);
        }
    }
}

/* Dots of rows lane and lane + 32 with the heads of q, 16 dimensions at a time. */
template <int HEADS>
__device__ __forceinline__ void make_dots(const workspace &s, const stream &st, const page_view &v, float dot[2][HEADS],
                                          uint32_t lane) {
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        dot[0][h] = dot[1][h] = 0;
    }
#pragma unroll 1
    for (uint32_t t = 0; t < 4; t++) {
        uint8_t *slice = st.to + (t & (st.ahead - 1)) * SLICE;
        await_slice(st.ahead);
        if (v.own < PAGE) {
            __syncwarp();
            if (lane < 2) {
                *(uint4 *)(slice + v.own * 32 + (lane ^ (v.own >> 2 & 1)) * 16) =
                    *(const uint4 *)(s.k + t * 16 + lane * 8);
            }
        }
        __syncwarp();
        uint4 raw[2][2];
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
#pragma unroll
            for (uint32_t r = 0; r < 2; r++) {
                raw[i][r] = *(const uint4 *)(slice + (r * 32 + lane) * 32 + (i ^ (lane >> 2 & 1)) * 16);
            }
        }
        __syncwarp();
        fetch_slice(st, t + st.ahead, lane);
        const float *q = s.q + t * 16 * HEADS;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const uint32_t words[2][4] = {{raw[i][0].x, raw[i][0].y, raw[i][0].z, raw[i][0].w},
                                          {raw[i][1].x, raw[i][1].y, raw[i][1].z, raw[i][1].w}};
#pragma unroll
            for (int j = 0; j < 8 * HEADS; j += 4) {
                const float4 x = *(const float4 *)(q + i * 8 * HEADS + j);
                const float four[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    const int d = (j + c) / HEADS, h = (j + c) % HEADS;
#pragma unroll
                    for (int r = 0; r < 2; r++) {
                        dot[r][h] = fmaf(four[c], half_bits(words[r][d / 2] >> (d % 2 * 16) & 0xffff), dot[r][h]);
                    }
                }
            }
        }
    }
}

/* From dots to exponentials of the scores less their maximum, which is left with their sum. */
template <int HEADS>
__device__ __forceinline__ void make_exponentials(workspace &s, const page_view &v, float scale, float e[2][HEADS],
                                                  uint32_t warp, uint32_t lane) {
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        const bool low = lane >= v.from && lane < v.to, high = lane + 32 >= v.from && lane + 32 < v.to;
        const float a = low ? e[0][h] * scale : -INFINITY, b = high ? e[1][h] * scale : -INFINITY;
        const float top = fast_warp_max(fmaxf(a, b));
        e[0][h] = expf(low ? a - top : -INFINITY); /* no choice around it: no branches */
        e[1][h] = expf(high ? b - top : -INFINITY);
        const float sum = warp_sum(e[0][h] + e[1][h]);
        if (lane == 0) {
            s.tops[warp][h] = top;
            s.sums[warp][h] = sum;
        }
    }
}

/* Sums of dimensions 2 * lane and 2 * lane + 1 over the page, 16 positions at a time. The token's own position is the
 * last one. */
template <int HEADS>
__device__ __forceinline__ void sum_values(workspace &s, const stream &st, const page_view &v, const float e[2][HEADS],
                                           float2 sum[HEADS], uint32_t warp, uint32_t lane) {
    float *own_e = s.e[warp];
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        sum[h] = make_float2(0, 0);
    }
#pragma unroll 1
    for (uint32_t t = 4; t < 8; t++) {
        const uint8_t *slice = st.to + (t & (st.ahead - 1)) * SLICE;
        __syncwarp();
        if (lane / 16 == t % 2) {
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                own_e[lane % 16 * HEADS + h] = t < 6 ? e[0][h] : e[1][h];
            }
        }
        await_slice(st.ahead);
        __syncwarp();
        uint32_t raw[16];
#pragma unroll
        for (int j = 0; j < 16; j++) {
            raw[j] = *(const uint32_t *)(slice + j * 128 + lane * 4);
        }
        __syncwarp();
        fetch_slice(st, t + st.ahead, lane);
#pragma unroll
        for (int j = 0; j < 16 * HEADS; j += 4) {
            const float4 x = *(const float4 *)(own_e + j);
            const float four[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int at = (j + c) / HEADS, h = (j + c) % HEADS;
                sum[h].x = fmaf(four[c], half_bits(raw[at] & 0xffff), sum[h].x);
                sum[h].y = fmaf(four[c], half_bits(raw[at] >> 16), sum[h].y);
            }
        }
    }
    if (v.own < PAGE) {
        const uint32_t raw = *(const uint32_t *)(s.v + 2 * lane);
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            const float p = __shfl_sync(FULL, v.own < 32 ? e[0][h] : e[1][h], v.own % 32);
            sum[h].x = fmaf(p, half_bits(raw & 0xffff), sum[h].x);
            sum[h].y = fmaf(p, half_bits(raw >> 16), sum[h].y);
        }
    }
}

/* Four pages of a head: warps `warp` on. Returns dimensions 2 * lane and 2 * lane + 1. */
__device__ __forceinline__ float2 join_pages(const workspace &s, uint32_t ahead, uint32_t warp, uint32_t h, float *top,
                                             float *sum, uint32_t lane) {
    float tops[PAGES], most = -INFINITY, all = 0;
    float2 value = make_float2(0, 0);
#pragma unroll
    for (int i = 0; i < PAGES; i++) {
        tops[i] = s.tops[warp + i][h];
        most = fmaxf(most, tops[i]);
    }
#pragma unroll
    for (int i = 0; i < PAGES; i++) {
        const float w = expf(tops[i] - most);
        const float2 x = *(const float2 *)(s.slices[0] + (warp + i) * ahead * SLICE + h * 256 + lane * 8);
        const float next_all = fmaf(s.sums[warp + i][h], w, all), a = fmaf(x.x, w, value.x), b = fmaf(x.y, w, value.y);
        all = tops[i] > -INFINITY ? next_all : all;
        value.x = tops[i] > -INFINITY ? a : value.x;
        value.y = tops[i] > -INFINITY ? b : value.y;
    }
    *top = most;
    *sum = all;
    return value;
}

/* The block's only head, by one warp: splits in order. */
__device__ __forceinline__ void join_alone(const token_attention &a, const block_plan &plan, uint32_t ahead,
                                           uint32_t lane) {
    workspace &s = *(workspace *)in_shared(a.scratch);
    const float most = fast_warp_max(lane < plan.n * PAGES ? s.tops[lane][0] : -INFINITY);
    float all = 0, top, sum;
    float2 value = make_float2(0, 0);
#pragma unroll 1
    for (uint32_t i = 0; i < plan.n; i++) {
        const float2 x = join_pages(s, ahead, i * PAGES, 0, &top, &sum, lane);
        if (top > -INFINITY) {
            const float w = expf(top - most);
            all = fmaf(sum, w, all);
            value.x = fmaf(x.x, w, value.x);
            value.y = fmaf(x.y, w, value.y);
        }
    }
    publish(a.out + plan.head0 * 64 + 2 * lane, value.x / all);
    publish(a.out + plan.head0 * 64 + 2 * lane + 1, value.y / all);
}

template <int HEADS>
__device__ __forceinline__ void attend_pages(const token_attention &a, const block_plan &plan, uint32_t warp,
                                             uint32_t lane) {
    workspace &s = *(workspace *)in_shared(a.scratch);
    const uint32_t team = warp / PAGES, page = warp % PAGES;
    const float scale = a.scale;
    uint32_t split = plan.first + team * plan.between;
    page_view v = view_page(plan, split, page);
    stream st;
    st.ahead = plan.first + plan.between >= plan.n ? 4 : plan.first + 2 * plan.between >= plan.n ? 2 : 1;
    st.to = s.slices[0] + warp * st.ahead * SLICE;
    if (split < plan.n) {
        start_page(a, plan, v, v.from < v.to ? load4(a.pages + v.at) : 0, true, st, lane);
    }
    make_heads(a, plan, warp, lane);
    sync<COMPUTE>(BLOCK);
#pragma unroll 1
    while (split < plan.n) {
        const uint32_t next_at = v.at + plan.step * PAGES; /* no window begins there */
        const bool next_seen = next_at * PAGE < plan.end;
        const uint32_t id = next_seen ? load4(a.pages + next_at) : 0;
        if (v.from < v.to) {
            float e[2][HEADS];
            float2 sum[HEADS];
            make_dots<HEADS>(s, st, v, e, lane);
            if (next_seen && lane == 0) {
                bring_to_l2(a.keys + page_at(a, plan, id), PAGE * 128);
            }
            make_exponentials<HEADS>(s, v, scale, e, warp, lane);
            sum_values<HEADS>(s, st, v, e, sum, warp, lane);
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                *(float2 *)(st.to + h * 256 + lane * 8) = sum[h];
            }
        } else if (lane < HEADS) {
            s.tops[warp][lane] = -INFINITY;
        }
        if (HEADS == 1) {
            break;
        }
        sync<PAGES * 32>(TEAM + team);
        if (page < plan.heads) {
            float top, sum;
            const float2 x = join_pages(s, st.ahead, team * PAGES, page, &top, &sum, lane);
            float *part = a.part + ((size_t)(plan.head0 + page) * plan.n + split) * PART;
            *(float2 *)(part + 2 + 2 * lane) = x;
            if (lane == 0) {
                *(float2 *)part = make_float2(top, sum);
            }
        }
        split += plan.step;
        if (split >= plan.n) {
            __syncwarp();
            if (lane == 0) {
                add_release(a.arrived + plan.kv);
            }
            break;
        }
        sync<PAGES * 32>(TEAM + team);
        v = view_page(plan, split, page);
        start_page(a, plan, v, id, false, st, lane);
    }
    if (HEADS == 1) {
        sync<COMPUTE>(BLOCK);
        if (warp == 0) {
            join_alone(a, plan, st.ahead, lane);
        }
    }
}

/* ---- All warps: the splits of the block's own 16 channels, in order */

struct join_loads {
    float2 top_sum;
    float values[JOINED_AT_ONCE / 32];
};

__device__ __forceinline__ join_loads load_parts(const float *in, uint32_t n, uint32_t s0, uint32_t d0, uint32_t tid) {
    join_loads l = {make_float2(-INFINITY, 0), {}};
    if (tid < JOINED_AT_ONCE && s0 + tid < n) {
        l.top_sum = __ldcg((const float2 *)(in + (size_t)(s0 + tid) * PART));
    }
#pragma unroll
    for (uint32_t i = 0; i < JOINED_AT_ONCE / 32; i++) {
        uint32_t split = s0 + i * 32 + tid / OWN;
        l.values[i] = split < n ? __ldcg(in + (size_t)split * PART + 2 + d0 + tid % OWN) : 0.0f;
    }
    return l;
}

__device__ __forceinline__ void join_own(const token_attention &a, const block_plan &plan, uint32_t warp,
                                         uint32_t lane) {
    join_space &s = *(join_space *)in_shared(a.scratch);
    uint32_t tid = warp * 32 + lane, head = blockIdx.x / (64 / OWN), d0 = blockIdx.x % (64 / OWN) * OWN, n = plan.n;
    const float *in = a.part + (size_t)head * n * PART;
    if (tid == 0) {
        uint32_t spins = 0;
        while ((int32_t)load_acquire(a.arrived + plan.kv) < (int32_t)plan.n_warps - 1) {
            if (++spins == 1u << 25) {
                __trap();
            }
        }
    }
    sync<COMPUTE>(BLOCK);
    join_loads l = load_parts(in, n, 0, d0, tid);
    float most = l.top_sum.x, all = 0, value = 0;
    for (uint32_t i = JOINED_AT_ONCE + tid; i < n; i += COMPUTE) {
        most = fmaxf(most, __ldcg(in + (size_t)i * PART));
    }
    most = fast_warp_max(most);
    if (lane == 0) {
        s.tops[warp] = most;
    }
    sync<COMPUTE>(BLOCK);
#pragma unroll
    for (int i = 0; i < WARPS; i++) {
        most = fmaxf(most, s.tops[i]);
    }
#pragma unroll 1
    for (uint32_t s0 = 0; s0 < n; s0 += JOINED_AT_ONCE) {
        if (tid < JOINED_AT_ONCE) {
            s.weight_sum[tid][0] = l.top_sum.x > -INFINITY ? expf(l.top_sum.x - most) : -1.0f; /* -1: sees nothing */
            s.weight_sum[tid][1] = l.top_sum.y;
        }
#pragma unroll
        for (uint32_t i = 0; i < JOINED_AT_ONCE / 32; i++) {
            s.values[i * 32 + tid / OWN][tid % OWN] = l.values[i];
        }
        sync<COMPUTE>(BLOCK);
        l = load_parts(in, n, s0 + JOINED_AT_ONCE, d0, tid);
        uint32_t m = n - s0 < JOINED_AT_ONCE ? n - s0 : JOINED_AT_ONCE;
        if (tid < OWN) {
#pragma unroll 8
            for (uint32_t i = 0; i < m; i++) {
                float2 w = *(const float2 *)s.weight_sum[i];
                float x = s.values[i][tid];
                if (w.x >= 0) {
                    all = fmaf(w.y, w.x, all);
                    value = fmaf(x, w.x, value);
                }
            }
        }
        if (s0 + JOINED_AT_ONCE < n) {
            sync<COMPUTE>(BLOCK);
        }
    }
    if (tid < OWN) {
        publish(a.out + blockIdx.x * OWN + tid, value / all);
    }
}

/* ---- One split: a head to a block. Warps 0 to 7 make scores and exponentials, half a page each and lanes as
 * positions, warps 8 to 15 sum values, half of a page's dimensions each and lanes as dimensions. K and V are in
 * registers,
 * as F32, before q is there. */

enum { HALF = 256 /* threads of either kind */, READY = 12, MADE, SCORED, SUMMED };

struct one_split {
    float q[64], k[64], half_tops[2 * PAGES], tops[PAGES], sums[PAGES];
    float4 weights; /* of the pages */
    float e[PAGES * PAGE], joined[PAGES][64];
};

/* A head under norm and rotation, by a warp: dimensions lane and lane + 32. */
__device__ __forceinline__ void turn_head(const token_attention &a, const float *from, const float *gain, uint32_t lane,
                                          float y[2]) {
    const float *cos_sin = in_shared(a.cos_sin), *g = in_shared(gain);
    float g0 = g[lane], g1 = g[lane + 32], c = cos_sin[lane], s = cos_sin[lane + 32], eps = a.eps;
    float x[2];
    await_values<2>(from + lane, x);
    float scale = norm_scale(warp_sum(fmaf(x[1], x[1], fmaf(x[0], x[0], 0.0f))), 64, eps);
    float x0 = x[0] * scale * g0, x1 = x[1] * scale * g1;
    y[0] = fmaf(x0, c, -(x1 * s));
    y[1] = fmaf(x0, s, x1 * c);
}

__device__ __forceinline__ void score_split(const token_attention &a, const block_plan &plan, uint32_t warp,
                                            uint32_t lane) {
    one_split &s = *(one_split *)in_shared(a.scratch);
    const uint32_t page = warp / 2, at = warp % 2 * 32 + lane;
    const float scale = a.scale;
    const page_view v = view_page(plan, 0, page);
    const bool seen = at >= v.from && at < v.to;
    uint4 raw[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        raw[i] = make_uint4(0, 0, 0, 0);
    }
    if (seen && at != v.own) {
        const uint16_t *k = a.keys + page_at(a, plan, __ldg(a.pages + v.at)) + at * 64;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            raw[i] = load_16(k + 8 * i);
        }
    }
    float k[64];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const uint32_t word[4] = {raw[i].x, raw[i].y, raw[i].z, raw[i].w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            k[8 * i + 2 * j] = float_of((uint16_t)(word[j] & 0xffff));
            k[8 * i + 2 * j + 1] = float_of((uint16_t)(word[j] >> 16));
        }
    }
    keep_before();
    sync<2 * HALF>(READY);
    if (at == v.own) {
#pragma unroll
        for (int i = 0; i < 64; i += 4) {
            const float4 x = *(const float4 *)(s.k + i);
            k[i] = x.x, k[i + 1] = x.y, k[i + 2] = x.z, k[i + 3] = x.w;
        }
    }
    float score = 0;
#pragma unroll
    for (int i = 0; i < 64; i += 4) {
        const float4 q = *(const float4 *)(s.q + i);
        score = fmaf(q.x, k[i], score);
        score = fmaf(q.y, k[i + 1], score);
        score = fmaf(q.z, k[i + 2], score);
        score = fmaf(q.w, k[i + 3], score);
    }
    score = seen ? score * scale : -INFINITY;
    float top = fast_warp_max(score);
    if (lane == 0) {
        s.half_tops[warp] = top;
    }
    sync<HALF>(SCORED);
    top = fmaxf(s.half_tops[2 * page], s.half_tops[2 * page + 1]);
    s.e[page * PAGE + at] = expf(seen ? score - top : -INFINITY); /* no choice around it: no branches */
    if (at == 0) {
        s.tops[page] = top;
    }
    arrive<2 * HALF>(MADE);
}

/* q and the token's own K. The two warps of the token's own page do nothing here, because they wait for v. */
__device__ __forceinline__ void make_head(const token_attention &a, const block_plan &plan, uint32_t warp,
                                          uint32_t lane) {
    one_split &s = *(one_split *)in_shared(a.scratch);
    warp = (warp - a.pos % CUDA_SPLIT / PAGE * 2 - 2) % 8;
    if (warp > 1) {
        return;
    }
    const bool is_q = warp == 0;
    float y[2];
    turn_head(a, a.qkv + (size_t)(is_q ? plan.head0 : a.n_head + plan.kv) * 64, is_q ? a.q_gain : a.k_gain, lane, y);
    if (is_q) {
        s.q[lane] = y[0];
        s.q[lane + 32] = y[1];
        return;
    }
    const uint16_t bits[2] = {__half_as_ushort(__float2half_rn(y[0])), __half_as_ushort(__float2half_rn(y[1]))};
    s.k[lane] = half_bits(bits[0]);
    s.k[lane + 32] = half_bits(bits[1]);
    if (plan.stores) {
        uint16_t *to = a.keys + page_at(a, plan, __ldg(a.pages + a.pos / PAGE)) + a.pos % PAGE * 64;
        to[lane] = bits[0];
        to[lane + 32] = bits[1];
    }
}

__device__ __forceinline__ void sum_split(const token_attention &a, const block_plan &plan, uint32_t warp,
                                          uint32_t lane) {
    one_split &s = *(one_split *)in_shared(a.scratch);
    const uint32_t page = warp / 2, d = warp % 2 * 32 + lane;
    const page_view v = view_page(plan, 0, page);
    const size_t at = page_at(a, plan, __ldg(a.pages + (v.from < v.to ? v.at : a.pos / PAGE))) + d;
    uint16_t raw[PAGE]; /* beyond those seen lies anything */
#pragma unroll
    for (int j = 0; j < PAGE; j++) {
        raw[j] = load_2(a.values + at + j * 64);
    }
    make_head(a, plan, warp, lane);
    arrive<2 * HALF>(READY);
    float x[PAGE];
#pragma unroll
    for (int j = 0; j < PAGE; j++) {
        x[j] = float_of(raw[j]);
    }
    if (v.from < v.to && (v.from > 0 || v.to < PAGE || v.own < PAGE)) {
        float own = 0;
        if (v.own < PAGE) {
            float own_raw;
            await_values<1>(a.qkv + ((size_t)a.n_head + a.n_head_kv + plan.kv) * 64 + d, &own_raw);
            const uint16_t bits = __half_as_ushort(__float2half_rn(own_raw));
            own = half_bits(bits);
            if (plan.stores) {
                a.values[at + v.own * 64] = bits;
            }
        }
#pragma unroll
        for (uint32_t j = 0; j < PAGE; j++) {
            x[j] = j == v.own ? own : j >= v.from && j < v.to ? x[j] : 0.0f;
        }
    }
    sync<2 * HALF>(MADE);
    float sum = 0, tops[PAGES], weight[PAGES], most = -INFINITY;
    const float *e = s.e + page * PAGE;
#pragma unroll
    for (int j = 0; j < PAGE; j += 4) { /* a page of which nothing is seen: zeros, and never read */
        const float4 p = *(const float4 *)(e + j);
        sum = fmaf(p.x, x[j], sum);
        sum = fmaf(p.y, x[j + 1], sum);
        sum = fmaf(p.z, x[j + 2], sum);
        sum = fmaf(p.w, x[j + 3], sum);
    }
    const float all_e = warp_sum(e[lane] + e[lane + 32]);
    if (lane == 0) {
        s.sums[page] = all_e;
    }
#pragma unroll
    for (int i = 0; i < PAGES; i++) {
        tops[i] = s.tops[i];
        most = fmaxf(most, tops[i]);
    }
#pragma unroll
    for (int i = 0; i < PAGES; i++) {
        weight[i] = expf(tops[i] - most); /* no choice around it, which would become branches */
    }
    if (warp == 0 && lane == 0) { /* through memory, or the compiler makes them after the barrier */
        s.weights = make_float4(weight[0], weight[1], weight[2], weight[3]);
    }
    s.joined[page][d] = sum;
    sync<HALF>(SUMMED);
    if (page == 0) {
        const float4 made = s.weights;
        const float w[PAGES] = {made.x, made.y, made.z, made.w};
        float all = 0, value = 0;
#pragma unroll
        for (int i = 0; i < PAGES; i++) {
            const float next_all = fmaf(s.sums[i], w[i], all), next_value = fmaf(s.joined[i][d], w[i], value);
            all = tops[i] > -INFINITY ? next_all : all;
            value = tops[i] > -INFINITY ? next_value : value;
        }
        publish(a.out + (size_t)plan.head0 * 64 + d, value / all);
    }
}

} // namespace token_attention_parts

#define TOKEN_ATTENTION_SCRATCH ((uint32_t)sizeof(token_attention_parts::workspace))

/* By the 16 computing warps of every block: from q, k, v to `out`. Scratch is the block's from the call on; the
 * caller lets all 16 warps meet before it uses scratch for anything else. Barriers: 1 with 512 threads, 8 to 15. */
__device__ __noinline__ void attend_token(const token_attention &layer, uint32_t warp, uint32_t lane) {
    using namespace token_attention_parts;
    const token_attention &a = *in_shared(&layer);
    static_assert(sizeof(join_space) <= sizeof(workspace), "shares its memory");
    const block_plan plan = make_plan(a);
    warp = __shfl_sync(FULL, warp, 0); /* so that the compiler knows that a warp's lanes branch together */
    if (plan.n <= ALONE) {
        if (plan.first < plan.n && plan.n == 1) {
            if (warp < WARPS / 2) {
                score_split(a, plan, warp, lane);
            } else {
                sum_split(a, plan, warp - WARPS / 2, lane);
            }
        } else if (plan.first < plan.n) {
            attend_pages<1>(a, plan, warp, lane);
        }
        return;
    }
    if (plan.first < plan.n) {
        attend_pages<HEADS_MOST>(a, plan, warp, lane);
    }
    join_own(a, plan, warp, lane);
}

/* By one warp of every block, before q is there: K and V of a KV head's first splits on their way to L2, at most
 * 128 KiB by each of its blocks; K alone where teams have more than half of that to start with. */
__device__ __forceinline__ void prefetch_attention(const token_attention &layer, uint32_t lane) {
    using namespace token_attention_parts;
    const token_attention &a = *in_shared(&layer);
    const block_plan plan = make_plan(a);
    const uint32_t blocks = a.n_head / a.n_head_kv * 4, member = blockIdx.x % blocks, piece = member + lane * blocks,
                   kinds = plan.n > 2 * blocks ? 1 : 2, i = piece / kinds, split = i / PAGES;
    const page_view v = view_page(plan, split, i % PAGES);
    if (lane < 16 && split < plan.n && v.from < v.to) {
        bring_to_l2((piece % kinds ? a.values : a.keys) + page_at(a, plan, __ldg(a.pages + v.at)), v.to * 128);
    }
}

#endif
