/* Launches that may begin while the kernel before them ends (programmatic dependent launch). Such a kernel calls
 * wait_for_input in every block before it reads what kernels write, and let_next_start only after that: so two kernels
 * apart never run at the same time, and buffers can be used in turns. */
#ifndef CUDA_LAUNCH_CUH
#define CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

template <typename... P, typename... A>
static cudaError_t launch(void (*kernel)(P...), dim3 grid, unsigned block, size_t shared, cudaStream_t stream,
                          const A &...args) {
    cudaLaunchAttribute ahead = {};
    ahead.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    ahead.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(block);
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &ahead;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, kernel, P(args)...);
}

#endif
