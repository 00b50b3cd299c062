/*
 * Products of a few tokens on int8 tensor cores: one warp takes 16 rows of K-quant weights and a super-block of 256
 * columns, unpacks them once and meets four vectors, whose columns of an mma are their high and low bytes. Scales
 * multiply the sums of a group of weights, minima meet the sums of 32 activations, all of it exact in int32, and each
 * super-block ends in one float term per row and vector: the bits of decode.cuh and weights.cuh.
 */
#ifndef CUDA_ROWS_CUH
#define CUDA_ROWS_CUH

#include "backend/cuda/common.cuh"

enum { WARPS = CUDA_DECODE_BLOCK / 32, TILE = 16 /* rows of an mma */, COLUMNS = 4 /* vectors of an mma */ };

/* ---- Vectors: records of 256 values, as a lane of an mma reads them */

/* Integers a = 256 * hi + lo as [4 pieces][hi, lo][4 lanes][words t, t + 4 of group A, then of B]; their sums of 32 as
 * [near, far][4 pieces][A, B] of three bytes; the scale and, until the norm is known, the sum of squares. */
enum { RECORD_SUMS = 512, RECORD_SCALE = 576, RECORD_SQUARES = 580 };

__device__ __forceinline__ float *record_scale(uint8_t *record) {
    return (float *)(record + RECORD_SCALE);
}

/* 256 values, eight per lane, but for their scale, which is returned. */
__device__ __forceinline__ float put_record(uint8_t *record, const float u[8], uint32_t lane) {
    uint2 hi, lo;
    int sum;
    float top = quantize_256(u, &hi, &lo, &sum);
    uint32_t first = lane % 4 * 2; /* of the lane's two words of eight in a group */
    uint8_t *to = record + lane / 8 * 128 + first % 4 * 16 + lane / 4 % 2 * 8 + first / 4 * 4;
    *(uint32_t *)to = hi.x;
    *(uint32_t *)(to + 16) = hi.y;
    *(uint32_t *)(to + 64) = lo.x;
    *(uint32_t *)(to + 80) = lo.y;
    if (lane % 4 == 0) {
        int far = __float2int_rn((float)sum * (1.0f / CUDA_SUM_UNIT));
        uint32_t *sums = (uint32_t *)(record + RECORD_SUMS) + lane / 4;
        sums[0] = three_bytes(sum - far * CUDA_SUM_UNIT);
        sums[8] = three_bytes(far);
    }
    return top;
}

/* Eight values of x[..][n_cols] from column c, as other kernels wrote them, and eight gains. */
__device__ __forceinline__ void load_8(const float *x, float u[8]) {
    float4 a = __ldcg((const float4 *)x), b = __ldcg((const float4 *)(x + 4));
    u[0] = a.x, u[1] = a.y, u[2] = a.z, u[3] = a.w, u[4] = b.x, u[5] = b.y, u[6] = b.z, u[7] = b.w;
}

__device__ __forceinline__ void apply_gain(const float *gain, float u[8]) {
    float4 a = *(const float4 *)gain, b = *(const float4 *)(gain + 4);
    u[0] *= a.x, u[1] *= a.y, u[2] *= a.z, u[3] *= a.w, u[4] *= b.x, u[5] *= b.y, u[6] *= b.z, u[7] *= b.w;
}

/* The norm's scale of a vector of at most 2048 values from the sums of its blocks, `stride` bytes apart. */
__device__ __forceinline__ float norm_of_squares(const uint8_t *squares, uint32_t stride, uint32_t n_cols, float eps) {
    float sum = 0;
#pragma unroll
    for (uint32_t b = 0; b < 8; b++) {
        sum += b < n_cols / 256 ? *(const float *)(squares + b * stride) : 0.0f;
    }
    return norm_scale(sum, n_cols, eps);
}

/* records[n][n_cols / 256] of x[n][n_cols] by all warps; with gain, under a norm. Ends with a barrier. */
__device__ static void quantize_rows(uint8_t *records, const float *x, uint32_t n, uint32_t n_cols, const float *gain,
                                     float eps) {
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_super = n_cols / 256, n_all = n * n_super;
    float u[8] = {}, next[8] = {};
    if (warp < n_all) {
        load_8(x + warp * 256 + lane * 8, u);
    }
#pragma unroll 1
    for (uint32_t b = warp; b < n_all; b += WARPS) {
        uint8_t *record = records + b * CUDA_RECORD;
        if (b + WARPS < n_all) { /* the next block's values travel meanwhile */
            load_8(x + (b + WARPS) * 256 + lane * 8, next);
        }
        if (gain) {
            float s = squares_256(u);
            if (lane == 0) {
                *(float *)(record + RECORD_SQUARES) = s;
            }
            apply_gain(gain + b % n_super * 256 + lane * 8, u);
        }
        float top = put_record(record, u, lane);
        if (lane == 0) {
            *record_scale(record) = top;
        }
#pragma unroll
        for (int k = 0; k < 8; k++) {
            u[k] = next[k];
        }
    }
    __syncthreads();
    if (!gain) {
        return;
    }
    if (threadIdx.x < n_all) { /* n_all <= 16 * 8 */
        uint8_t *own = records + threadIdx.x * CUDA_RECORD, *first = own - threadIdx.x % n_super * CUDA_RECORD;
        *record_scale(own) *= norm_of_squares(first + RECORD_SQUARES, CUDA_RECORD, n_cols, eps);
    }
    __syncthreads();
}

/* A lane's operand b of one super-block: of column lane / 8, its piece of the bytes and of the sums. */
struct lane_vector {
    uint4 w[4];
    uint2 sums;
};

__device__ __forceinline__ lane_vector read_vector(const uint8_t *record, uint32_t lane) {
    lane_vector b;
    const uint8_t *at = record + lane / 4 % 2 * 64 + lane % 4 * 16;
#pragma unroll
    for (int p = 0; p < 4; p++) {
        b.w[p] = *(const uint4 *)(at + p * 128);
    }
    b.sums = *(const uint2 *)(record + RECORD_SUMS + lane / 4 % 2 * 32 + lane % 4 * 8);
    return b;
}

/* The same from memory that the kernel before wrote. */
__device__ __forceinline__ lane_vector fetch_vector(const uint8_t *record, uint32_t lane) {
    lane_vector b;
    const uint8_t *at = record + lane / 4 % 2 * 64 + lane % 4 * 16;
#pragma unroll
    for (int p = 0; p < 4; p++) {
        b.w[p] = __ldcg((const uint4 *)(at + p * 128));
    }
    b.sums = __ldcg((const uint2 *)(record + RECORD_SUMS + lane / 4 % 2 * 32 + lane % 4 * 8));
    return b;
}

/* ---- Weights: items of 16 rows and one super-block, copied to slots of shared memory */

/* q as [2 halves][16 rows][4 pieces, turned by row / 2 so that ldmatrix meets no bank twice]; then s (Q4_K), s and h
 * (Q5_K), h, s and d (Q6_K) row by row. */
__host__ __device__ constexpr uint32_t item_bytes(uint32_t type) {
    return type == CUDA_Q6_K ? 2048 + 1024 + 256 + 256 : type == CUDA_Q5_K ? 2048 + 256 + 512 : 2048 + 256;
}

/* Rows row0 to row0 + 15, none beyond `last`; a matrix has under 4 GiB. */
template <int TYPE>
__device__ __forceinline__ void copy_item(const cuda_mat &m, uint32_t row0, uint32_t last, uint32_t block,
                                          uint8_t *slot) {
    uint32_t lane = threadIdx.x % 32, n_pieces = m.n_cols / 64, half = n_pieces * 16, piece = block * 4 + lane % 4;
    uint8_t *to = slot + lane / 4 * 64 + ((lane % 4) ^ (lane / 8)) * 16;
#pragma unroll
    for (uint32_t r = 0; r < 2; r++) {
        uint32_t row = min(row0 + r * 8 + lane / 4, last);
        const uint8_t *q = m.q + (row * 2 * half + piece * 16);
        copy_async_16(to + r * 512, q);
        copy_async_16(to + 1024 + r * 512, q + half);
        if (TYPE == CUDA_Q6_K) {
            copy_async_16(slot + 2048 + r * 512 + lane * 16, m.h + (row * n_pieces + piece) * 16);
        }
    }
    uint32_t row = min(row0 + lane % 16, last);
    if (TYPE == CUDA_Q6_K) {
        const uint8_t *from = lane < 16 ? m.s + (row * n_pieces * 4 + block * 16)
                                        : m.d + (row * (uint32_t)q6_d_stride(m.n_cols) + block / 8 * 16);
        copy_async_16(slot + 3072 + lane * 16, from);
    } else {
        if (lane < 16) {
            copy_async_16(slot + 2048 + lane * 16, m.s + (row * (n_pieces / 4) + block) * 16);
        }
        if (TYPE == CUDA_Q5_K) {
            row = min(row0 + lane / 2, last);
            copy_async_16(slot + 2304 + lane * 16, m.h + ((row * n_pieces + block * 4) * 8 + lane % 2 * 16));
        }
    }
}

/* Until the oldest of `depth` copies under way, one or two, has arrived. */
__device__ __forceinline__ void wait_for_item(uint32_t depth) {
    if (depth == 1) {
        copy_async_wait<0>();
    } else {
        copy_async_wait<1>();
    }
    __syncwarp();
}

__device__ __forceinline__ uint32_t nth_word(const uint4 &v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* Four 8 x 16 byte matrices, whose rows the lanes point to, eight each: word lane % 4 of row lane / 4. */
__device__ __forceinline__ void load_matrices(uint32_t at, uint32_t r[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

/* c = a . b over 32 columns, unsigned weights. */
__device__ __forceinline__ void mma_32(int c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(0));
}

/* c = a . b over 16 columns, signed weights. */
__device__ __forceinline__ void mma_16(int c[4], const uint32_t a[2], uint32_t b) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b), "r"(0));
}

__device__ __forceinline__ void add_scaled(int sum[4], const int c[4], int scale, int scale_8) {
    sum[0] += scale * c[0];
    sum[1] += scale * c[1];
    sum[2] += scale_8 * c[2];
    sum[3] += scale_8 * c[3];
}

/* The terms of super-block `block` for rows lane / 4 and 8 more and the vector of column lane % 4 with its scale. */
template <int TYPE>
__device__ __forceinline__ void item_terms(const uint8_t *slot, uint32_t block, const lane_vector &b, float scale,
                                           float term[2]) {
    uint32_t lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    uint32_t from = (uint32_t)__cvta_generic_to_shared(slot) + lane / 16 * 1024 + lane % 16 * 64 + lane / 2 % 4 * 16;
    int sum[4] = {0, 0, 0, 0}, upper[4] = {0, 0, 0, 0}, c[4];
    uint4 s[2]; /* records, or scales of Q6_K */
#pragma unroll
    for (int r = 0; r < 2; r++) {
        s[r] = *(const uint4 *)(slot + (TYPE == CUDA_Q6_K ? 3072 : 2048) + (g + 8 * r) * 16);
    }
#pragma unroll
    for (int p = 0; p < 4; p++) {
        uint32_t word[4]; /* words t of both rows, then words t + 4: groups A and B in their nibbles */
        load_matrices(from ^ (uint32_t)p << 4, word);
        if (TYPE == CUDA_Q6_K) {
            uint4 h[2];
#pragma unroll
            for (int r = 0; r < 2; r++) {
                h[r] = *(const uint4 *)(slot + 2048 + (g + 8 * r) * 64 + p * 16);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) { /* sixteen weights: A, A, B, B */
                uint32_t a[2];
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    uint32_t w = word[i % 2 * 2 + r];
                    a[r] = ((i < 2 ? w << 2 : w >> 2) & 0x3c3c3c3cu) | q6_bits(nth_word(h[r], i), (int)t);
                }
                mma_16(c, a, nth_word(b.w[p], i));
                add_scaled(sum, c, scale_byte(nth_word(s[0], p), i), scale_byte(nth_word(s[1], p), i));
            }
            continue;
        }
        uint32_t sc = piece_scales(s[0], (uint32_t)p), sc_8 = piece_scales(s[1], (uint32_t)p), a[4], a_up[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[i] = word[i] & 0x0f0f0f0fu;
            a_up[i] = TYPE == CUDA_Q5_K ? word[i] >> 4 & 0x0f0f0f0fu : word[i] & 0xf0f0f0f0u; /* 16 times as much */
        }
        if (TYPE == CUDA_Q5_K) {
#pragma unroll
            for (int r = 0; r < 2; r++) {
                uint2 h = *(const uint2 *)(slot + 2304 + (g + 8 * r) * 32 + p * 8);
                a[r] |= h.x << (4 - t) & 0x10101010u;
                a[r + 2] |= h.x >> t & 0x10101010u;
                a_up[r] |= h.y << (4 - t) & 0x10101010u;
                a_up[r + 2] |= h.y >> t & 0x10101010u;
            }
        }
        mma_32(c, a, b.w[p].x, b.w[p].y);
        add_scaled(sum, c, (int)(sc & 63), (int)(sc_8 & 63));
        mma_32(c, a_up, b.w[p].z, b.w[p].w);
        add_scaled(TYPE == CUDA_Q5_K ? sum : upper, c, (int)(sc >> 6 & 63), (int)(sc_8 >> 6 & 63));
    }
    int near[4] = {0, 0, 0, 0}; /* near and far sums with the minima */
    if (TYPE != CUDA_Q6_K) {
        uint32_t m = piece_scales(s[0], t) >> 12, m_8 = piece_scales(s[1], t) >> 12;
        uint32_t a[4] = {(m & 63) * 0x040201u, (m_8 & 63) * 0x040201u, (m >> 6) * 0x040201u, (m_8 >> 6) * 0x040201u};
        mma_32(near, a, b.sums.x, b.sums.y);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        uint32_t d = TYPE == CUDA_Q6_K ? *(const uint16_t *)(slot + 3328 + (g + 8 * r) * 16 + block % 8 * 2) : s[r].x;
        term[r] = block_term(TYPE, sum[2 * r] + (upper[2 * r] >> 4), sum[2 * r + 1] + (upper[2 * r + 1] >> 4),
                             near[2 * r] + CUDA_SUM_UNIT * near[2 * r + 1], d, scale);
    }
}

/* The item against n vectors: vector i is at records + of(i) * stride. terms[n][TILE]. */
template <int TYPE, class Of>
__device__ __forceinline__ void item_columns(const uint8_t *slot, uint32_t block, const uint8_t *records,
                                             uint32_t stride, uint32_t n, float *terms, Of of) {
    uint32_t lane = threadIdx.x % 32;
    records += block * CUDA_RECORD;
#pragma unroll 1
    for (uint32_t i = 0; i < n; i += COLUMNS) {
        uint32_t mine = i + lane % 4;
        lane_vector b = read_vector(records + of(min(i + lane / 8, n - 1)) * stride, lane);
        float scale = *(const float *)(records + of(min(mine, n - 1)) * stride + RECORD_SCALE), term[2];
        item_terms<TYPE>(slot, block, b, scale, term);
        if (mine < n) {
            terms[mine * TILE + lane / 4] = term[0];
            terms[mine * TILE + lane / 4 + 8] = term[1];
        }
    }
}

/* Which vector a column is. */
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

/* The sum of n terms in order, `stride` floats apart; eight loads at a time, because one after the other would wait. */
__device__ __forceinline__ float sum_terms(const float *terms, uint32_t n, uint32_t stride) {
    float sum = 0;
#pragma unroll 1
    for (uint32_t b = 0; b < n; b += 8) {
        float x[8];
#pragma unroll
        for (uint32_t k = 0; k < 8; k++) {
            x[k] = b + k < n ? terms[(b + k) * stride] : 0.0f;
        }
#pragma unroll
        for (uint32_t k = 0; k < 8; k++) {
            sum += x[k];
        }
    }
    return sum;
}

/* ---- A block's shared memory */

extern __shared__ __align__(128) uint8_t shared_bytes[];

enum { DEPTH_MAX = 2 /* slots of a warp; 3 and 4 are slower on an H200 */ };

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

/* Items i = 0 .. n - 1 of a warp, `depth` of them on their way: copy(i, slot) ahead, use(i, slot) once it is there. */
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

/* Raises a kernel's limit of shared memory; *most: what all of them may have at least beside their own. */
static inline cudaError_t prepare_kernel(const void *kernel, int shared_max, int *most) {
    cudaFuncAttributes a;
    cudaError_t status = cudaFuncGetAttributes(&a, kernel);
    if (status != cudaSuccess) {
        return status;
    }
    int own = shared_max - (int)a.sharedSizeBytes;
    *most = own < *most ? own : *most;
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, own);
    /* one division of shared memory and L1 for all: an SM changes it only when empty, and kernels could not overlap */
    return status == cudaSuccess ? cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                                        cudaSharedmemCarveoutMaxShared)
                                 : status;
}

#endif
