/* One channel of a short convolution for one token: its past is fetched ahead, its state moves on. */
#ifndef CUDA_CHANNEL_CUH
#define CUDA_CHANNEL_CUH

#include "backend/cuda/common.cuh"

enum { TAPS_MAX = 8 };

struct conv_channel { /* what a channel needs of its past, fetched ahead */
    float past[TAPS_MAX - 1], taps[TAPS_MAX];
    float *state, *snapshot; /* snapshot: NULL unless the page is full with this token */
};

__device__ static conv_channel load_channel(const cuda_step &step, const cuda_conv &conv, uint32_t t, uint32_t c) {
    conv_channel x;
    const cuda_row row = step.rows[step.tokens[t].row];
    x.state = conv.state + row.slot * conv.slot_stride + c;
    x.snapshot = NULL;
    if (row.first_pos % 64 == 63) {
        x.snapshot = conv.snapshots + step.pages[row.first_page + row.first_pos / 64] * conv.page_stride + c;
    }
    const float *from =
        row.resume_page == CUDA_NONE ? x.state : conv.snapshots + row.resume_page * conv.page_stride + c;
#pragma unroll
    for (uint32_t k = 0; k < TAPS_MAX; k++) {
        if (k < TAPS_MAX - 1) {
            x.past[k] = k + 1 < conv.n_taps && row.first_pos ? from[(size_t)k * conv.d] : 0.0f;
        }
        x.taps[k] = k < conv.n_taps ? conv.taps[(size_t)c * conv.n_taps + k] : 0.0f;
    }
    return x;
}

/* The convolution's value for input u; the state moves on. */
__device__ static float step_channel(const cuda_conv &conv, const conv_channel &x, float u) {
    uint32_t keep = conv.n_taps - 1;
    float sum = x.taps[0] * x.past[0];
#pragma unroll
    for (uint32_t k = 1; k < TAPS_MAX; k++) {
        if (k <= keep) {
            sum = fmaf(x.taps[k], k < keep ? x.past[k < TAPS_MAX - 1 ? k : 0] : u, sum);
        }
    }
#pragma unroll
    for (uint32_t k = 0; k < TAPS_MAX - 1; k++) {
        if (k < keep) {
            float column = k + 1 < keep ? x.past[k + 1 < TAPS_MAX - 1 ? k + 1 : 0] : u;
            x.state[(size_t)k * conv.d] = column;
            if (x.snapshot) {
                x.snapshot[(size_t)k * conv.d] = column;
            }
        }
    }
    return sum;
}

#endif
