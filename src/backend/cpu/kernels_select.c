#include "backend/cpu/kernels.h"

#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1ul << 20)
#endif
#endif

/* As the panels of kstrips.inc.h need (those of kamx.inc.h are smaller), or rows of float. */
size_t kernels_scratch_bytes(uint32_t n_cols_max) {
    size_t rows = KERNELS_PANEL_ROWS;
    size_t k = rows * (QK * sizeof(int16_t) + 64 + (2 + KERNELS_PASS) * sizeof(float));
    size_t f = KERNELS_FLOAT_ROWS * n_cols_max * sizeof(float);
    return (k > f ? k : f) + 4096;
}

#if defined(__x86_64__)
/* Tiles are 8 KiB of state per thread that Linux grants a process on request. */
static bool amx_granted(void) {
    enum { TILE_DATA = 18, REQUEST_PERMISSION = 0x1023 };
    const unsigned tile = 1u << 24;
    const unsigned int8 = 1u << 25;
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & tile) && (d & int8) &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#endif

const struct kernels *kernels_by_name(const char *name) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    unsigned a, b, c, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C); /* not every compiler's builtin knows this name */
    bool avx2 = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512vnni");
    if (strcmp(name, "avx512") == 0) {
        return avx512 ? &kernels_avx512 : NULL;
    }
    if (strcmp(name, "amx") == 0) {
        return avx512 && kernels_amx.name && amx_granted() ? &kernels_amx : NULL;
    }
    if (strcmp(name, "avx2") == 0) {
        return avx2 ? &kernels_avx2 : NULL;
    }
#elif defined(__aarch64__)
    if (strcmp(name, "neon") == 0) { /* its kernels need dot products */
        return kernels_neon.name && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) ? &kernels_neon : NULL;
    }
#endif
    return strcmp(name, "ref") == 0 ? &kernels_c : NULL;
}

#if defined(__aarch64__)
static const char *const cascade[] = {"ref", "neon"};
const char kernels_masks[] = "ref or neon";
#else
static const char *const cascade[] = {"ref", "avx2", "avx512", "amx"};
const char kernels_masks[] = "ref, avx2, avx512 or amx";
#endif

const struct kernels *kernels_select(void) {
    const char *mask = getenv("SLUICE_CPU");
    const struct kernels *best = &kernels_c;
    for (size_t i = 0; i < sizeof cascade / sizeof cascade[0]; i++) {
        const struct kernels *k = kernels_by_name(cascade[i]);
        best = k ? k : best;
        if (mask && strcmp(mask, cascade[i]) == 0) {
            return best;
        }
    }
    return mask && *mask ? NULL : best;
}
