/*
 * Tiles of weights: how they reach a block's shared memory, and products of a vector with them on tensor cores. sm_90.
 */
#ifndef CUDA_TOKEN_TILE_CUH
#define CUDA_TOKEN_TILE_CUH

#include "backend/cuda/token.cuh"

/* ---- Rows on their way to shared memory
 *
 * A tile is up to 16 rows in two halves; in each the planes q, h, s, d of its rows follow each other as in memory
 * (device.h), so that a half is at most four copies: one takes about 50 cycles to be asked for. The second half begins
 * 64 bytes beyond a multiple of 128, so that lanes which read a row of each meet in no bank. */

struct alignas(16) tile {
    uint16_t type, n_half;       /* n_half: rows of the first half */
    uint32_t n_cols, second, at; /* where the second half begins in the tile, and the tile in shared memory */
};

struct row_bytes {
    uint32_t q, h, s, d;
};

/* Of a row as it lies in memory. */
__host__ __device__ __forceinline__ row_bytes row_bytes_of(uint32_t type, uint32_t n_cols) {
    row_bytes b = {n_cols / 2, type == CUDA_Q6_K ? n_cols / 4 : 0, n_cols / 16,
                   type == CUDA_Q6_K ? (uint32_t)q6_d_stride(n_cols) : 0};
    return b;
}

__host__ __device__ __forceinline__ uint32_t rows_bytes(uint32_t type, uint32_t n_cols, uint32_t n) {
    row_bytes b = row_bytes_of(type, n_cols);
    return n * (b.q + b.h + b.s + b.d);
}

__host__ __device__ __forceinline__ uint32_t second_half(uint32_t type, uint32_t n_cols, uint32_t n_half) {
    return (rows_bytes(type, n_cols, n_half) + 127) / 128 * 128 + 64;
}

/* Room for a tile of n rows. */
__host__ __device__ __forceinline__ uint32_t tile_room(uint32_t type, uint32_t n_cols, uint32_t n) {
    uint32_t half = (n + 1) / 2;
    return second_half(type, n_cols, half) + rows_bytes(type, n_cols, half);
}

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ void slot_expect(uint64_t *bar, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(bar)), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void bulk_copy(void *to, const void *from, uint32_t n, uint64_t *bar) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(n), "r"(shared_address(bar))
                 : "memory");
}

/* A matrix's plane as a lane of a fetching warp copies it: lanes 0 to 3 the planes of a tile's first half, 4 to 7 those
 * of its second, which may be of another matrix like it; the others none. */
struct lane_plane {
    const uint8_t *from;
    uint32_t bytes, at; /* of a row, and of the planes before it */
    uint32_t type, n_cols, row_bytes;
};

__device__ __forceinline__ lane_plane plane_of(const cuda_mat *m, const cuda_mat *other, uint32_t lane) {
    const cuda_mat *of = lane / 4 == 1 ? other : m;
    lane_plane p = {NULL, 0, 0, of->type, of->n_cols, 0};
    row_bytes b = row_bytes_of(p.type, p.n_cols);
    p.row_bytes = b.q + b.h + b.s + b.d;
    if (lane < 8) {
        uint32_t plane = lane % 4;
        p.from = plane == 0 ? of->q : plane == 1 ? of->h : plane == 2 ? of->s : of->d;
        p.bytes = plane == 0 ? b.q : plane == 1 ? b.h : plane == 2 ? b.s : b.d;
        p.at = plane == 0 ? 0 : plane == 1 ? b.q : plane == 2 ? b.q + b.h : b.q + b.h + b.s;
    }
    return p;
}

/* By a warp: rows [first, first + n) and, as the second half, n_second from first_second on. */
__device__ __forceinline__ void copy_tile(const lane_plane &p, uint32_t first, uint32_t n, uint32_t first_second,
                                          uint32_t n_second, uint32_t at, uint8_t *memory, tile *is, uint64_t *full,
                                          uint32_t lane) {
    uint32_t second = second_half(p.type, p.n_cols, n);
    if (lane == 0) {
        *is = {(uint16_t)p.type, (uint16_t)n, p.n_cols, second, at};
        slot_expect(full, (n + n_second) * p.row_bytes);
    }
    __syncwarp();
    bool half = lane / 4;
    uint32_t rows = half ? n_second : n;
    if (p.bytes && rows) {
        bulk_copy(memory + at + (half ? second : 0) + rows * p.at,
                  p.from + (size_t)(half ? first_second : first) * p.bytes, rows * p.bytes, full);
    }
}
#endif

/* ---- Products of a vector with a tile on tensor cores
 *
 * A warp takes one super-block of the tile's rows. Lane (g = lane / 4, t = lane % 4) holds piece t, 64 weights, of two
 * rows of half g % 2, and supplies eight of each at a time to m16n8k32. Of B, columns 2t and 2t + 1 are the high and
 * low bytes of piece t's vector where lane t supplies weights, and zero elsewhere, so that the accumulators of a lane
 * become both sums of its own piece, to be multiplied by that piece's scales. All sums are exact integers, so the bits
 * are those of piece_term (decode.cuh). */

enum { ACTS = 512 /* bytes of a block of 256 */ };

/* A block of 256 of a vector (quantize_256), a lane's eight values in order, as those operands: [4][4 pieces][high,
 * low][16 bytes], 64 bytes of a piece in four parts. */
__device__ __forceinline__ void store_operands(uint8_t *acts, const uint2 &hi, const uint2 &lo, uint32_t lane) {
    uint8_t *to = acts + lane % 8 / 2 * 128 + lane / 8 * 32 + lane % 2 * 8;
    *(uint2 *)to = hi;
    *(uint2 *)(to + 16) = lo;
}

struct operands { /* a lane's, of one block of 256 */
    uint32_t word[16];
    int2 sums; /* of the two groups of piece lane % 4 */
    float scale;
};

__device__ __forceinline__ operands load_operands(const uint8_t *acts, const int *sums, float scale, uint32_t lane) {
    operands x;
    bool mine = lane / 8 == lane % 4; /* column lane / 4 of B */
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint4 v = make_uint4(0, 0, 0, 0);
        if (mine) {
            v = *(const uint4 *)(acts + i * 128 + lane % 4 * 32 + lane / 4 % 2 * 16);
        }
        x.word[4 * i] = v.x, x.word[4 * i + 1] = v.y, x.word[4 * i + 2] = v.z, x.word[4 * i + 3] = v.w;
    }
    x.sums = *(const int2 *)(sums + lane % 4 * 2);
    x.scale = scale;
    return x;
}

__device__ __forceinline__ void mma_u8s8(int c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                         uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma_s8s8(int c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                         uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/* Which of the tile's 16 rows a lane's term is of; only lanes with lane % 4 < 2 have one of their own. */
__device__ __forceinline__ uint32_t row_of_lane(uint32_t lane) {
    return lane / 4 % 2 * 8 + lane / 8 + lane % 2 * 4;
}

/* Bytes of planes as they lie in a half of n rows. */
struct half_planes {
    const uint8_t *q, *h, *s, *d;
    row_bytes bytes;
};

template <int TYPE> __device__ __forceinline__ half_planes planes_of(const uint8_t *half, uint32_t n, uint32_t n_cols) {
    half_planes p;
    p.bytes = row_bytes_of(TYPE, n_cols);
    p.q = half;
    p.h = p.q + n * p.bytes.q;
    p.s = p.h + n * p.bytes.h;
    p.d = p.s + n * p.bytes.s;
    return p;
}

/* A lane's piece of one row. */
struct lane_row {
    uint32_t word[8];
    uint4 h;       /* Q6_K */
    uint32_t s, d; /* Q4_K: scales and minima of the piece (piece_scales), d and dmin; Q6_K: scales, d */
};

template <int TYPE>
__device__ __forceinline__ lane_row load_row(const half_planes &p, uint32_t row, uint32_t n_cols, uint32_t block,
                                             uint32_t t) {
    lane_row w;
    uint32_t piece = block * 4 + t;
    const uint8_t *q = p.q + row * p.bytes.q + piece * 16;
    uint4 first = *(const uint4 *)q, second = *(const uint4 *)(q + n_cols / 4);
    w.word[0] = first.x, w.word[1] = first.y, w.word[2] = first.z, w.word[3] = first.w;
    w.word[4] = second.x, w.word[5] = second.y, w.word[6] = second.z, w.word[7] = second.w;
    if (TYPE == CUDA_Q6_K) {
        w.h = *(const uint4 *)(p.h + row * p.bytes.h + piece * 16);
        w.s = *(const uint32_t *)(p.s + row * p.bytes.s + piece * 4);
        w.d = *(const uint16_t *)(p.d + row * p.bytes.d + block * 2);
    } else {
        uint4 c = *(const uint4 *)(p.s + row * p.bytes.s + block * 16);
        w.h = make_uint4(0, 0, 0, 0);
        w.s = piece_scales(c, t);
        w.d = c.x;
    }
    return w;
}

/* A lane's two rows of a tile. */
template <int TYPE>
__device__ __forceinline__ void load_rows(const uint8_t *tile_at, const tile &is, uint32_t block, uint32_t lane,
                                          lane_row w[2]) {
    uint32_t g = lane / 4;
    half_planes p = planes_of<TYPE>(tile_at + (g & 1 ? is.second : 0), is.n_half, is.n_cols);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        uint32_t row = g / 2 + 4 * r < is.n_half ? g / 2 + 4 * r : is.n_half - 1u;
        w[r] = load_row<TYPE>(p, row, is.n_cols, block, lane % 4);
    }
}

/* Of a lane's own piece, the sums with the high and the low bytes of the vector and with the sums of 32, times scales;
 * of Q4_K hi and lo 16 times. */
struct piece_sums {
    int hi, lo, mins;
};

/* Accumulators: of Q4_K groups A and B; of Q6_K their halves A, A, B, B. */
template <int TYPE> struct accumulators { int sum[TYPE == CUDA_Q6_K ? 4 : 2][4]; };

/* Of the first or second row. */
template <int TYPE>
__device__ __forceinline__ piece_sums scale_sums(const lane_row &w, const operands &x, const accumulators<TYPE> &c,
                                                 int row) {
    piece_sums p = {0, 0, 0};
    if (TYPE == CUDA_Q6_K) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            p.hi += scale_byte(w.s, i) * c.sum[i % (TYPE == CUDA_Q6_K ? 4 : 2)][2 * row];
            p.lo += scale_byte(w.s, i) * c.sum[i % (TYPE == CUDA_Q6_K ? 4 : 2)][2 * row + 1];
        }
    } else { /* B's sums are 16 times as much: exact, under 2^29 */
        int a = w.s << 4 & 1008, b = w.s >> 6 & 63;
        p.hi = a * c.sum[0][2 * row] + b * c.sum[1][2 * row];
        p.lo = a * c.sum[0][2 * row + 1] + b * c.sum[1][2 * row + 1];
        p.mins = (int)(w.s >> 12 & 63) * x.sums.x + (int)(w.s >> 18) * x.sums.y;
    }
    return p;
}

/* block_term of such sums: a sixteenth of a float loses nothing. */
template <int TYPE> __device__ __forceinline__ float term_of(const piece_sums &p, uint32_t d, float scale) {
    if (TYPE == CUDA_Q6_K) {
        return block_term(TYPE, p.hi, p.lo, 0, d, scale);
    }
    float v = fmaf((float)p.hi, 256.0f, (float)p.lo) * 0.0625f;
    return fmaf(-(float)p.mins, half_bits(d >> 16) * scale, v * (half_bits(d & 0xffff) * scale));
}

/* Bytes of words m and m + 1 of groups A and B; of Q4_K B's are 16 times as much. */
template <int TYPE> __device__ __forceinline__ void bytes_of(const lane_row &w, int m, uint32_t a[2], uint32_t b[2]) {
#pragma unroll
    for (int k = 0; k < 2; k++) {
        if (TYPE == CUDA_Q6_K) {
            q6_bytes(w.word[m + k], m < 4 ? w.h.x : w.h.y, m < 4 ? w.h.z : w.h.w, (m + k) % 4, &a[k], &b[k]);
        } else {
            a[k] = w.word[m + k] & 0x0f0f0f0fu;
            b[k] = w.word[m + k] & 0xf0f0f0f0u;
        }
    }
}

template <int TYPE>
__device__ __forceinline__ void mma_of(int c[4], const uint32_t first[2], const uint32_t second[2], uint32_t b0,
                                       uint32_t b1) {
    if (TYPE == CUDA_Q6_K) {
        mma_s8s8(c, first[0], second[0], first[1], second[1], b0, b1);
    } else {
        mma_u8s8(c, first[0], second[0], first[1], second[1], b0, b1);
    }
}

template <int TYPE>
__device__ __forceinline__ accumulators<TYPE> multiply_rows(const lane_row &first, const lane_row &second,
                                                            const operands &x) {
    accumulators<TYPE> c = {};
    constexpr int EACH = TYPE == CUDA_Q6_K ? 2 : 1; /* accumulators of a group */
#pragma unroll
    for (int m = 0; m < 8; m += 2) {
        uint32_t a[2], b[2], e[2], f[2];
        bytes_of<TYPE>(first, m, a, b);
        bytes_of<TYPE>(second, m, e, f);
        mma_of<TYPE>(c.sum[m / 4 * (EACH - 1)], a, e, x.word[m], x.word[m + 1]);
        mma_of<TYPE>(c.sum[EACH + m / 4 * (EACH - 1)], b, f, x.word[8 + m], x.word[9 + m]);
    }
    return c;
}

/* The term of super-block `block` of row row_of_lane of a tile. */
template <int TYPE> __device__ __forceinline__ float tile_term(const lane_row w[2], const operands &x, uint32_t lane) {
    accumulators<TYPE> c = multiply_rows<TYPE>(w[0], w[1], x);
    piece_sums first = scale_sums<TYPE>(w[0], x, c, 0), second = scale_sums<TYPE>(w[1], x, c, 1);
    bool odd = lane & 1;
    piece_sums own = odd ? second : first, other = odd ? first : second;
    own.hi += __shfl_xor_sync(FULL, other.hi, 1);
    own.lo += __shfl_xor_sync(FULL, other.lo, 1);
    own.hi += __shfl_xor_sync(FULL, own.hi, 2);
    own.lo += __shfl_xor_sync(FULL, own.lo, 2);
    if (TYPE != CUDA_Q6_K) {
        own.mins += __shfl_xor_sync(FULL, other.mins, 1);
        own.mins += __shfl_xor_sync(FULL, own.mins, 2);
    }
    return term_of<TYPE>(own, odd ? w[1].d : w[0].d, x.scale);
}

/* The term of row lane / 4 of half a tile of Q4_K, in all four lanes. Group B stands where a tile's second rows
 * would. */
__device__ __forceinline__ float half_term(const lane_row &w, const operands &x) {
    int a[4] = {0, 0, 0, 0}, b[4] = {0, 0, 0, 0};
#pragma unroll
    for (int m = 0; m < 8; m += 2) {
        uint32_t low[2], high[2];
        bytes_of<CUDA_Q4_K>(w, m, low, high);
        mma_u8s8(a, low[0], high[0], low[1], high[1], x.word[m], x.word[m + 1]);
        mma_u8s8(b, low[0], high[0], low[1], high[1], x.word[8 + m], x.word[9 + m]);
    }
    accumulators<CUDA_Q4_K> c = {{{a[0], a[1], 0, 0}, {b[2], b[3], 0, 0}}};
    piece_sums p = scale_sums<CUDA_Q4_K>(w, x, c, 0);
    p.hi += __shfl_xor_sync(FULL, p.hi, 1);
    p.lo += __shfl_xor_sync(FULL, p.lo, 1);
    p.mins += __shfl_xor_sync(FULL, p.mins, 1);
    p.hi += __shfl_xor_sync(FULL, p.hi, 2);
    p.lo += __shfl_xor_sync(FULL, p.lo, 2);
    p.mins += __shfl_xor_sync(FULL, p.mins, 2);
    return term_of<CUDA_Q4_K>(p, w.d, x.scale);
}

#endif
