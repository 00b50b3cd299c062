/* What is no part of one layer's arithmetic: draft columns that come back, experts counted. */
#include "backend/cuda/common.cuh"

__global__ void rewind_columns(float *state, const float *column, size_t state_stride, size_t column_stride, size_t n) {
    size_t i = blockIdx.y * (size_t)blockDim.x + threadIdx.x;
    if (i < n) {
        state[blockIdx.x * state_stride + i] = column[blockIdx.x * column_stride + i];
    }
}

extern "C" cudaError_t cuda_rewind(float *state, const float *column, uint32_t n_layers, size_t state_stride,
                                   size_t column_stride, size_t n, cudaStream_t stream) {
    rewind_columns<<<dim3(n_layers, (unsigned)((n + 255) / 256)), 256, 0, stream>>>(state, column, state_stride,
                                                                                    column_stride, n);
    return cudaGetLastError();
}

__global__ void count_experts(const uint32_t *ids, size_t stride, uint32_t n, uint32_t n_expert, uint32_t *out) {
    extern __shared__ uint32_t seen[];
    __shared__ uint32_t total;
    if (threadIdx.x == 0) {
        total = 0;
    }
    for (uint32_t e = threadIdx.x; e < n_expert; e += blockDim.x) {
        seen[e] = 0;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
        seen[ids[blockIdx.x * stride + i]] = 1;
    }
    __syncthreads();
    for (uint32_t e = threadIdx.x; e < n_expert; e += blockDim.x) {
        atomicAdd(&total, seen[e]);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        out[blockIdx.x] = total;
    }
}

extern "C" cudaError_t cuda_count_experts(const uint32_t *ids, uint32_t n_layers, size_t stride, uint32_t n,
                                          uint32_t n_expert, uint32_t *out, cudaStream_t stream) {
    count_experts<<<n_layers, 256, n_expert * sizeof(uint32_t), stream>>>(ids, stride, n, n_expert, out);
    return cudaGetLastError();
}
