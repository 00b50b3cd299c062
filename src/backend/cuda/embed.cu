/*
 * What a step starts with: its tokens' rows of the embedding, the angles of their positions. One kernel, since each
 * one more is a way from kernel to kernel; the one behind it may begin to fetch its weights at once.
 */
#include "backend/cuda/common.cuh"
#include "backend/cuda/launch.cuh"

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

enum { THREADS = 256 };

/* Grid (blocks that share a row and, with rates, one for the angles; tokens). */
__global__ void __launch_bounds__(THREADS)
    start_tokens(cuda_mat m, cuda_step step, const double *rates, uint32_t dim, float *h, float *cos_sin) {
    let_next_start();
    uint32_t t = blockIdx.y, shares = (m.n_cols + THREADS - 1) / THREADS, i = blockIdx.x * THREADS + threadIdx.x;
    const cuda_token token = step.tokens[t];
    wait_for_input();
    if (blockIdx.x < shares) {
        if (i < m.n_cols) {
            h[(size_t)t * m.n_cols + i] = weight_at(m, token_of(token.id, step.drawn), i);
        }
        return;
    }
    for (uint32_t k = threadIdx.x, half = dim / 2; k < half; k += THREADS) {
        double s, c;
        sincos(token.pos * rates[k], &s, &c);
        cos_sin[(size_t)t * dim + k] = (float)c;
        cos_sin[(size_t)t * dim + half + k] = (float)s;
    }
}

extern "C" cudaError_t cuda_start_tokens(const cuda_mat *embd, const cuda_step *step, const double *rates, uint32_t dim,
                                         float *h, float *cos_sin, cudaStream_t stream) {
    uint32_t shares = (embd->n_cols + THREADS - 1) / THREADS;
    dim3 grid(shares + (rates != NULL), step->n);
    return launch(start_tokens, grid, THREADS, 0, stream, *embd, *step, rates, dim, h, cos_sin);
}
