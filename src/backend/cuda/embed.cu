/*
 * What a step starts with: its tokens' rows of the embedding, the angles of their positions. One kernel, since each
 * one more is a way from kernel to kernel; the one behind it may begin to fetch its weights at once.
 */
#include "backend/cuda/launch.cuh"
#include "backend/cuda/weight.cuh"

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
