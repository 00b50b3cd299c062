/* Launches that may begin while the kernel before them ends (programmatic dependent launch). Such a kernel
 * calls wait_for_input before it reads or writes what others write or read; by then all before it have ended, since each
 * of them waited likewise. Before that it only fetches what no kernel changes: weights, and the step's words, which are
 * there when it is launched (decode_down alone also follows a word that the kernel before it releases). So let_next_start
 * may come first. */
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
