/* The loops of the probe, one table per instruction set. */
#ifndef TOOLS_PROBE_KERNELS_H
#define TOOLS_PROBE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROBE_GRAIN 16384u /* sizes given to the memory loops are multiples of this */

/* How many places of its part a thread reads at once. Which of them is fastest depends on the prefetchers: all are
 * tried. */
enum { PROBE_SHAPES = 3 };

struct probe_memory_kernels {
    bool (*usable)(void);
    uint64_t (*read)(const void *p, size_t n, int shape); /* the result only keeps the loads alive */
    void (*write)(void *p, size_t n);
    void (*copy)(void *dst, const void *src, size_t n);
};

struct probe_compute_kernel {
    const char *kind, *isa;
    const char *needs; /* "AVX-512 VNNI": what a machine lacks that cannot run it */
    bool (*usable)(void);
    uint64_t (*run)(uint64_t rounds); /* returns operations done */
};

extern const struct probe_memory_kernels probe_memory_plain, probe_memory_avx2, probe_memory_avx512;

extern const struct probe_compute_kernel probe_f32_plain, probe_int8_plain;
extern const struct probe_compute_kernel probe_f32_avx2, probe_int8_avx2, probe_int8_avxvnni;
extern const struct probe_compute_kernel probe_f32_avx512, probe_int8_avx512vnni, probe_bf16_avx512;
extern const struct probe_compute_kernel probe_int8_amx, probe_bf16_amx;
extern const struct probe_compute_kernel probe_f32_neon, probe_int8_neon;

#endif
