/* Probe loops for NEON with dot products. Reads are the plain ones: eight loads per line already outrun the memory. */
#include "tools/probe_kernels.h"

#if defined(__ARM_FEATURE_DOTPROD)
#include "backend/cpu/kernels.h"

#include <arm_neon.h>

static bool usable_neon(void) {
    return kernels_by_name("neon") != NULL;
}

/* Four pipes with four cycles of latency need sixteen accumulators in flight; twenty leave room. */
enum { CHAINS = 20 };

static uint64_t f32_neon(uint64_t rounds) {
    float32x4_t acc[CHAINS];
    float32x4_t m = vdupq_n_f32(0.9999f);
    float32x4_t a = vdupq_n_f32(1e-3f);
#pragma GCC unroll 20
    for (int k = 0; k < CHAINS; k++) {
        acc[k] = vdupq_n_f32((float)k);
    }
    for (uint64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 20
        for (int k = 0; k < CHAINS; k++) {
            acc[k] = vfmaq_f32(acc[k], m, a);
        }
    }
#pragma GCC unroll 20
    for (int k = 0; k < CHAINS; k++) {
        __asm__ volatile("" ::"w"(acc[k]));
    }
    return rounds * CHAINS * 4 * 2;
}

const struct probe_compute_kernel probe_f32_neon = {
    .kind = "f32", .isa = "neon", .needs = "NEON dot products", .usable = usable_neon, .run = f32_neon};

static uint64_t int8_neon(uint64_t rounds) {
    int32x4_t acc[CHAINS];
    int8x16_t x = vdupq_n_s8(3);
    int8x16_t y = vdupq_n_s8(-5);
#pragma GCC unroll 20
    for (int k = 0; k < CHAINS; k++) {
        acc[k] = vdupq_n_s32(k); /* alike, the chains would become one */
    }
    for (uint64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 20
        for (int k = 0; k < CHAINS; k++) {
            acc[k] = vdotq_s32(acc[k], x, y);
        }
    }
#pragma GCC unroll 20
    for (int k = 0; k < CHAINS; k++) {
        __asm__ volatile("" ::"w"(acc[k]));
    }
    return rounds * CHAINS * 16 * 2;
}

const struct probe_compute_kernel probe_int8_neon = {
    .kind = "int8", .isa = "neon", .needs = "NEON dot products", .usable = usable_neon, .run = int8_neon};

#else /* another architecture: the tables exist and say no */

static bool never(void) {
    return false;
}

const struct probe_compute_kernel probe_f32_neon = {
    .kind = "f32", .isa = "neon", .needs = "NEON dot products", .usable = never, .run = NULL};
const struct probe_compute_kernel probe_int8_neon = {
    .kind = "int8", .isa = "neon", .needs = "NEON dot products", .usable = never, .run = NULL};
#endif
