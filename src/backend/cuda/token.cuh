/*
 * What the blocks of the token kernel (token.cu) say to each other, and barriers within one. sm_90.
 *
 * Exchange: vectors in global memory of which each block writes its own values and reads all. No barrier tells that a
 * value is there: it is there once it is not EMPTY. Arithmetic never makes EMPTY (a NaN of all ones).
 */
#ifndef CUDA_TOKEN_CUH
#define CUDA_TOKEN_CUH

#include "backend/cuda/common.cuh"

#define EMPTY     0xffffffffu
#define SPINS_MAX (1u << 25) /* many seconds: a block is gone, so end with an error instead of hanging */

__device__ __forceinline__ void publish(float *to, float x) {
    uint32_t bits = __float_as_uint(x) == EMPTY ? 0x7fffffffu : __float_as_uint(x);
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(bits) : "memory");
}

__device__ __forceinline__ uint32_t look(const float *p) {
    uint32_t v;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}

__device__ __forceinline__ uint4 look4(const float *p) {
    uint4 v;
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p)
                 : "memory");
    return v;
}

__device__ __forceinline__ bool is_there(const uint4 &v) {
    return v.x != EMPTY && v.y != EMPTY && v.z != EMPTY && v.w != EMPTY;
}

__device__ __forceinline__ void count_spin(uint32_t *spins) {
    if (++*spins == SPINS_MAX) {
        __trap();
    }
}

/* N values, pairs of neighbours `pair` and `each` floats apart, all of a warp's; those that are missing are asked for
 * again. */
template <int N> __device__ __forceinline__ void await_pairs(const float *p, size_t pair, size_t each, float x[N]) {
    uint32_t bits[N], spins = 0;
    bool all;
#pragma unroll
    for (int i = 0; i < N; i++) {
        bits[i] = EMPTY;
    }
    do {
#pragma unroll
        for (int i = 0; i < N; i++) {
            if (bits[i] == EMPTY) {
                bits[i] = look(p + i / 2 * pair + i % 2 * each);
            }
        }
        all = true;
#pragma unroll
        for (int i = 0; i < N; i++) {
            all = all && bits[i] != EMPTY;
        }
        count_spin(&spins);
    } while (!__all_sync(FULL, all));
#pragma unroll
    for (int i = 0; i < N; i++) {
        x[i] = __uint_as_float(bits[i]);
    }
}

/* ---- Barriers of a block */

__device__ __forceinline__ uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

template <int ID, int THREADS> __device__ __forceinline__ void block_sync() {
    asm volatile("bar.sync %0, %1;" ::"n"(ID), "n"(THREADS) : "memory");
}

template <int ID, int THREADS> __device__ __forceinline__ void block_arrive() {
    asm volatile("bar.arrive %0, %1;" ::"n"(ID), "n"(THREADS) : "memory");
}

__device__ __forceinline__ void slot_init(uint64_t *bar, uint32_t count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(bar)), "r"(count) : "memory");
}

__device__ __forceinline__ void slot_arrive(uint64_t *bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(bar)) : "memory");
}

__device__ __forceinline__ void slot_wait(uint64_t *bar, uint32_t parity) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}\n" ::"r"(shared_address(bar)),
                 "r"(parity)
                 : "memory");
}

#endif
