/* Device helpers: warp sums in one order, weights of a lane, the quantisation of vectors (docs/numerics.md, cuda). */
#ifndef CUDA_COMMON_CUH
#define CUDA_COMMON_CUH

#include "backend/cuda/device.h"

#include <cuda_fp16.h>

#define FULL 0xffffffffu

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int m = 16; m > 0; m /= 2) {
        v += __shfl_xor_sync(FULL, v, m);
    }
    return v;
}

__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int m = 16; m > 0; m /= 2) {
        v = fmaxf(v, __shfl_xor_sync(FULL, v, m));
    }
    return v;
}

/* The token that a row computes: its id, or what its slot drew last. */
__device__ __forceinline__ uint32_t token_of(uint32_t id, const uint32_t *drawn) {
    return id & CUDA_FED ? __ldcg(drawn + (id & ~CUDA_FED)) : id;
}

/* Weights do not change: through the read-only path. */
__device__ __forceinline__ uint2 load8(const void *p) {
    uint2 v;
    asm volatile("ld.global.nc.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
    return v;
}

__device__ __forceinline__ uint32_t load4(const void *p) {
    uint32_t v;
    asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
}

__device__ __forceinline__ uint32_t load2(const void *p) {
    uint16_t v;
    asm volatile("ld.global.nc.u16 %0, [%1];" : "=h"(v) : "l"(p));
    return v;
}

__device__ __forceinline__ float half_bits(uint32_t u) {
    return __half2float(__ushort_as_half((unsigned short)u));
}

__device__ __forceinline__ void copy_async_16(void *to, const void *from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from)
                 : "memory");
}

__device__ __forceinline__ void copy_async_4(void *to, const void *from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from)
                 : "memory");
}

__device__ __forceinline__ void copy_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Until at most N of the groups committed are under way. */
template <int N> __device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* Until the kernels before this one have ended and their results can be read. */
__device__ __forceinline__ void wait_for_input() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* The next kernel may start to fetch its weights. */
__device__ __forceinline__ void let_next_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ __forceinline__ float sigmoid(float x) {
    return 1.0f / (1.0f + expf(-x));
}

#define ACT_MAX 32512.0f /* 127 * 256: hi = (a + 128) >> 8 stays in int8 */

/* Sixteen-bit integers of 256 values, eight per lane in order: a = round(u * ACT_MAX / top), as 256 * hi + lo.
 * sum32: of the 32 values of four lanes. Returns top / ACT_MAX. */
__device__ __forceinline__ float quantize_256(const float u[8], uint2 *hi, uint2 *lo, int *sum32) {
    float top = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        top = fmaxf(top, fabsf(u[i]));
    }
    top = warp_max(top);
    float inverse = top > 1e-30f ? ACT_MAX / top : 0.0f;
    uint32_t h[2] = {0, 0}, l[2] = {0, 0};
    int sum = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int a = __float2int_rn(u[i] * inverse);
        int up = (a + 128) >> 8;
        sum += a;
        h[i / 4] |= (uint32_t)(up & 255) << (i % 4 * 8);
        l[i / 4] |= (uint32_t)(a & 255) << (i % 4 * 8); /* a - 256 * up has the same low byte */
    }
    sum += __shfl_xor_sync(FULL, sum, 1);
    sum += __shfl_xor_sync(FULL, sum, 2);
    *hi = make_uint2(h[0], h[1]);
    *lo = make_uint2(l[0], l[1]);
    *sum32 = sum;
    return top * (1.0f / ACT_MAX);
}

/* v = a + 2 b + 4 c in bytes a, b, c; |v| < 889. */
__device__ __forceinline__ uint32_t three_bytes(int v) {
    int c = min(max(v >> 2, -127), 127), rest = v - 4 * c;
    int b = min(max(rest >> 1, -127), 127), a = rest - 2 * b;
    return (uint32_t)(a & 255) | (uint32_t)(b & 255) << 8 | (uint32_t)(c & 255) << 16;
}

/* The lane's share of the sum of squares of 256 values, and its sum over the warp. */
__device__ __forceinline__ float squares_256(const float x[8]) {
    float s = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        s = fmaf(x[i], x[i], s);
    }
    return warp_sum(s);
}

__device__ __forceinline__ float norm_scale(float squares, uint32_t n, float eps) {
    return 1.0f / sqrtf(squares / (float)n + eps);
}

/* Bytes of a row's F16 scales, padded so that those of 2048 columns are one 16-byte word. */
__host__ __device__ __forceinline__ size_t q6_d_stride(uint32_t n_cols) {
    return (n_cols / 256 + 7) / 8 * 16;
}

/* ---- A piece of 64 weights of a row, in one lane */

struct lane_weights {
    uint4 a, b, c; /* nibbles of words 0-3 and 4-7; Q4_K, Q5_K: record s; Q6_K: h */
    uint32_t s, e; /* Q5_K: h; Q6_K: scales, d */
};

/* sc A, sc B, m A, m B of a piece, six bits each, from the three words of a record. */
__device__ __forceinline__ uint32_t piece_scales(const uint4 &c, uint32_t piece) {
    uint32_t i = piece & 3;
    uint32_t low = i == 0 ? c.y : i == 1 ? c.y : i == 2 ? c.z : c.w;
    uint32_t high = i == 1 ? c.z : c.w; /* unused bits for 0 and 3 */
    return __funnelshift_r(low, high, (i * 24) & 31) & 0xffffffu;
}

/* Bytes 4j..4j+3 of groups A and B, as the dot product takes them: q (Q4_K, Q5_K), 4 * (q - 32) (Q6_K). */
__device__ __forceinline__ void q4_bytes(uint32_t w, uint32_t *a, uint32_t *b) {
    *a = w & 0x0f0f0f0fu;
    *b = (w >> 4) & 0x0f0f0f0fu;
}

__device__ __forceinline__ uint32_t q5_bit(uint32_t h, int j) {
    return (j < 4 ? h << (4 - j) : h >> (j - 4)) & 0x10101010u;
}

__device__ __forceinline__ uint32_t q6_bits(uint32_t h, int f) {
    return (h << (6 - 2 * f)) & 0xc0c0c0c0u;
}

__device__ __forceinline__ void q6_bytes(uint32_t w, uint32_t ha, uint32_t hb, int f, uint32_t *a, uint32_t *b) {
    *a = ((w << 2) & 0x3c3c3c3cu) | q6_bits(ha, f);
    *b = ((w >> 2) & 0x3c3c3c3cu) | q6_bits(hb, f);
}

__device__ __forceinline__ int scale_byte(uint32_t s, int i) {
    return (int)(int8_t)(s >> (8 * i));
}

/* One super-block's contribution to a dot product, from its exact integer sums. hi, lo: sums of scale * weight * part of
 * the activation (four times that for Q6_K); mins: of minimum * activation. */
__device__ __forceinline__ float block_term(uint32_t type, int hi, int lo, int mins, uint32_t d_dmin, float scale) {
    float v = fmaf((float)hi, 256.0f, (float)lo);
    if (type == CUDA_Q6_K) {
        return v * (half_bits(d_dmin) * scale * 0.25f);
    }
    float main = v * (half_bits(d_dmin & 0xffff) * scale);
    return fmaf(-(float)mins, half_bits(d_dmin >> 16) * scale, main);
}

#endif
