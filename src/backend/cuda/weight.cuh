/* Single weights of a repacked matrix (device.h), exactly as the formats define them. */
#ifndef CUDA_WEIGHT_CUH
#define CUDA_WEIGHT_CUH

#include "backend/cuda/common.cuh"

/* Weight i of a row; the order of operations is the format's definition (quant/dequant.c). */
__device__ static float weight_at(const cuda_mat &m, size_t row, uint32_t i) {
    uint32_t n_pieces = m.n_cols / 64, piece = i / 64, group = i % 64 / 32, j = i % 32 / 4, k = i % 4;
    switch (m.type) {
    case CUDA_F32:
        return ((const float *)m.q)[row * m.n_cols + i];
    case CUDA_F16:
        return half_bits(((const uint16_t *)m.q)[row * m.n_cols + i]);
    case CUDA_BF16:
        return __uint_as_float((uint32_t)((const uint16_t *)m.q)[row * m.n_cols + i] << 16);
    case CUDA_Q8_0:
        return half_bits(((const uint16_t *)m.d)[row * (m.n_cols / 32) + i / 32]) *
               (float)((const int8_t *)m.q)[row * m.n_cols + i];
    case CUDA_Q4_0: {
        int q = (int)(((const uint32_t *)m.q)[row * (m.n_cols / 8) + i / 8] >> (i % 8 * 4) & 15) - 8;
        return half_bits(((const uint16_t *)m.d)[row * (m.n_cols / 32) + i / 32]) * (float)q;
    }
    default:
        break;
    }
    uint32_t word = ((const uint32_t *)m.q)[((row * 2 + j / 4) * n_pieces + piece) * 4 + j % 4];
    uint32_t q = word >> (8 * k + 4 * group) & 15;
    if (m.type == CUDA_Q6_K) {
        uint32_t h = ((const uint32_t *)m.h)[(row * n_pieces + piece) * 4 + group * 2 + j / 4];
        int v = (int)(q | ((h >> (8 * k + 2 * (j % 4)) & 3) ^ 2) << 4) - 32;
        int sc = scale_byte(((const uint32_t *)m.s)[row * n_pieces + piece], (int)(i % 64 / 16));
        return half_bits(*(const uint16_t *)(m.d + row * q6_d_stride(m.n_cols) + piece / 4 * 2)) * (float)sc * (float)v;
    }
    uint4 c = ((const uint4 *)m.s)[row * (n_pieces / 4) + piece / 4];
    uint32_t scales = piece_scales(c, piece);
    if (m.type == CUDA_Q5_K) {
        uint32_t h = ((const uint32_t *)m.h)[(row * n_pieces + piece) * 2 + group];
        q |= (h >> (8 * k + j) & 1) << 4;
    }
    float scale = half_bits(c.x & 0xffff) * (float)(scales >> (6 * group) & 63);
    float min = half_bits(c.x >> 16) * (float)(scales >> (12 + 6 * group) & 63);
    return scale * (float)q - min;
}

#endif
