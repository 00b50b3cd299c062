/* From blocks as a file holds them to planes (device.h). Run once at load; bound by the host's copy. */
#include "backend/cuda/common.cuh"

__device__ static uint32_t bits_of(const uint8_t *p, int n) {
    uint32_t v = 0;
    for (int i = 0; i < n; i++) {
        v |= (uint32_t)p[i] << (8 * i);
    }
    return v;
}

/* Nibble words of a piece of a Q4_K, Q5_K block: byte i of its 32 is weight i of A and of B, already as wanted. */
__device__ static void put_words(const cuda_mat &m, size_t row, uint32_t piece, const uint32_t word[8]) {
    uint32_t n_pieces = m.n_cols / 64;
    uint32_t *q = (uint32_t *)m.q;
    for (int j = 0; j < 8; j++) {
        q[((row * 2 + j / 4) * n_pieces + piece) * 4 + j % 4] = word[j];
    }
}

/* d, dmin, then per piece sc A, sc B, m A, m B in 24 bits. */
__device__ static void put_record(const cuda_mat &m, size_t row, uint32_t block, const uint8_t *d,
                                  const uint8_t *scales) {
    uint32_t sc[8], mn[8], out[4] = {bits_of(d, 4), 0, 0, 0};
    for (int i = 0; i < 4; i++) {
        sc[i] = scales[i] & 63;
        mn[i] = scales[i + 4] & 63;
        sc[i + 4] = (scales[i + 8] & 15) | (scales[i] >> 6) << 4;
        mn[i + 4] = (scales[i + 8] >> 4) | (scales[i + 4] >> 6) << 4;
    }
    for (int p = 0; p < 4; p++) {
        uint32_t v = sc[2 * p] | sc[2 * p + 1] << 6 | mn[2 * p] << 12 | mn[2 * p + 1] << 18;
        int bit = 24 * p;
        out[1 + bit / 32] |= v << (bit % 32);
        if (bit % 32 > 8) {
            out[2 + bit / 32] |= v >> (32 - bit % 32);
        }
    }
    uint32_t *s = (uint32_t *)m.s + (row * (m.n_cols / 256) + block) * 4;
    for (int i = 0; i < 4; i++) {
        s[i] = out[i];
    }
}

__device__ static void repack_q4_k(const cuda_mat &m, const uint8_t *b, size_t row, uint32_t block) {
    put_record(m, row, block, b, b + 4);
    for (int p = 0; p < 4; p++) {
        uint32_t word[8];
        for (int j = 0; j < 8; j++) {
            word[j] = bits_of(b + 16 + p * 32 + j * 4, 4);
        }
        put_words(m, row, block * 4 + p, word);
    }
}

__device__ static void repack_q5_k(const cuda_mat &m, const uint8_t *b, size_t row, uint32_t block) {
    put_record(m, row, block, b, b + 4);
    for (int p = 0; p < 4; p++) {
        uint32_t word[8], h[2] = {0, 0};
        for (int j = 0; j < 8; j++) {
            word[j] = bits_of(b + 48 + p * 32 + j * 4, 4);
            for (int k = 0; k < 4; k++) {
                uint32_t high = b[16 + j * 4 + k];
                h[0] |= (high >> (2 * p) & 1) << (8 * k + j);
                h[1] |= (high >> (2 * p + 1) & 1) << (8 * k + j);
            }
        }
        uint32_t piece = block * 4 + p;
        put_words(m, row, piece, word);
        uint32_t *to = (uint32_t *)m.h + (row * (m.n_cols / 64) + piece) * 2;
        to[0] = h[0];
        to[1] = h[1];
    }
}

/* Weight i of a Q6_K block, 0..63. */
__device__ static uint32_t q6_at(const uint8_t *b, int i) {
    int half = i / 128, part = i % 128 / 32, k = i % 32;
    uint32_t low = b[half * 64 + part % 2 * 32 + k] >> (part / 2 * 4) & 15;
    uint32_t high = b[128 + half * 32 + k] >> (part * 2) & 3;
    return low | high << 4;
}

__device__ static void repack_q6_k(const cuda_mat &m, const uint8_t *b, size_t row, uint32_t block) {
    uint32_t n_pieces = m.n_cols / 64;
    for (int p = 0; p < 4; p++) {
        uint32_t word[8] = {0}, h[4] = {0};
        for (int i = 0; i < 64; i++) {
            uint32_t q = q6_at(b, p * 64 + i);
            int group = i / 32, j = i % 32 / 4, k = i % 4;
            word[j] |= (q & 15) << (8 * k + 4 * group);
            h[group * 2 + j / 4] |= ((q >> 4) ^ 2) << (8 * k + 2 * (j % 4));
        }
        uint32_t piece = block * 4 + p;
        put_words(m, row, piece, word);
        for (int t = 0; t < 4; t++) {
            ((uint32_t *)m.h)[(row * n_pieces + piece) * 4 + t] = h[t];
        }
        ((uint32_t *)m.s)[row * n_pieces + piece] = bits_of(b + 192 + p * 4, 4);
    }
    *(uint16_t *)(m.d + row * q6_d_stride(m.n_cols) + block * 2) = (uint16_t)bits_of(b + 208, 2);
}

__device__ static void repack_q8_0(const cuda_mat &m, const uint8_t *b, size_t row, uint32_t block) {
    ((uint16_t *)m.d)[row * (m.n_cols / 32) + block] = (uint16_t)bits_of(b, 2);
    uint8_t *q = (uint8_t *)m.q + row * m.n_cols + block * 32;
    for (int i = 0; i < 32; i++) {
        q[i] = b[2 + i];
    }
}

__device__ static void repack_q4_0(const cuda_mat &m, const uint8_t *b, size_t row, uint32_t block) {
    ((uint16_t *)m.d)[row * (m.n_cols / 32) + block] = (uint16_t)bits_of(b, 2);
    uint32_t *q = (uint32_t *)m.q + row * (m.n_cols / 8) + block * 4;
    for (int w = 0; w < 4; w++) {
        uint32_t v = 0;
        for (int i = 0; i < 8; i++) {
            int at = w * 8 + i;
            v |= (uint32_t)(b[2 + at % 16] >> (at / 16 * 4) & 15) << (4 * i);
        }
        q[w] = v;
    }
}

/* One thread per block. */
__global__ void repack(cuda_mat m, const uint8_t *src, uint64_t row0, uint64_t n, uint32_t elems, uint32_t bytes) {
    uint32_t per_row = m.n_cols / elems;
    uint64_t i = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x;
    if (i >= n * per_row) {
        return;
    }
    const uint8_t *b = src + i * bytes;
    size_t row = row0 + i / per_row;
    uint32_t block = (uint32_t)(i % per_row);
    switch (m.type) {
    case CUDA_Q4_K:
        repack_q4_k(m, b, row, block);
        break;
    case CUDA_Q5_K:
        repack_q5_k(m, b, row, block);
        break;
    case CUDA_Q6_K:
        repack_q6_k(m, b, row, block);
        break;
    case CUDA_Q8_0:
        repack_q8_0(m, b, row, block);
        break;
    default:
        repack_q4_0(m, b, row, block);
        break;
    }
}

extern "C" cudaError_t cuda_repack(const cuda_mat *dst, const uint8_t *src, uint64_t row0, uint64_t n,
                                   cudaStream_t stream) {
    uint32_t elems = 0, bytes = 0;
    switch (dst->type) {
    case CUDA_Q4_K:
        elems = 256, bytes = 144;
        break;
    case CUDA_Q5_K:
        elems = 256, bytes = 176;
        break;
    case CUDA_Q6_K:
        elems = 256, bytes = 210;
        break;
    case CUDA_Q8_0:
        elems = 32, bytes = 34;
        break;
    case CUDA_Q4_0:
        elems = 32, bytes = 18;
        break;
    default: {
        size_t row_bytes = dst->n_cols * (dst->type == CUDA_F32 ? 4u : 2u);
        return cudaMemcpyAsync((uint8_t *)dst->q + row0 * row_bytes, src, n * row_bytes, cudaMemcpyDeviceToDevice,
                               stream);
    }
    }
    uint64_t n_blocks = n * (dst->n_cols / elems);
    repack<<<(unsigned)((n_blocks + 127) / 128), 128, 0, stream>>>(*dst, src, row0, n, elems, bytes);
    return cudaGetLastError();
}
