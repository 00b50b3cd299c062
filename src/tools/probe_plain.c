/* Probe loops for any machine. Eight independent 8-byte loads per line already outrun the memory of today's cores. */
#include "tools/probe_kernels.h"

#include <string.h>

static bool always(void) {
    return true;
}

static inline __attribute__((always_inline)) uint64_t read_streams(const char *p, size_t n, size_t streams) {
    uint64_t acc[8] = {0};
    size_t part = n / streams;
    for (size_t i = 0; i < part; i += 64) {
        for (size_t s = 0; s < streams; s++) {
            const uint64_t *line = (const uint64_t *)(const void *)(p + s * part + i);
#pragma GCC unroll 8
            for (int k = 0; k < 8; k++) {
                acc[k] |= line[k];
            }
        }
    }
    return acc[0] | acc[1] | acc[2] | acc[3] | acc[4] | acc[5] | acc[6] | acc[7];
}

static uint64_t read_plain(const void *p, size_t n, int shape) {
    return shape == 0 ? read_streams(p, n, 1) : shape == 1 ? read_streams(p, n, 2) : read_streams(p, n, 4);
}

static void write_plain(void *p, size_t n) {
    memset(p, 0x5A, n);
}

static void copy_plain(void *dst, const void *src, size_t n) {
    memcpy(dst, src, n);
}

const struct probe_memory_kernels probe_memory_plain = {always, read_plain, write_plain, copy_plain};

typedef float v4f __attribute__((vector_size(16)));

static uint64_t f32_plain(uint64_t rounds) {
    v4f acc[10];
    v4f m = {0.9999f, 0.9998f, 0.9997f, 0.9996f};
    v4f a = {1e-3f, 2e-3f, 3e-3f, 4e-3f};
    memset(acc, 0, sizeof acc);
    for (uint64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 10
        for (int k = 0; k < 10; k++) {
            acc[k] = acc[k] * m + a;
        }
    }
    for (int k = 0; k < 10; k++) {
        __asm__ volatile("" ::"r"(&acc[k]) : "memory");
    }
    return rounds * 10 * 4 * 2;
}

const struct probe_compute_kernel probe_f32_plain = {"f32", "plain", "", always, f32_plain};

/* Without a dot-product instruction an int8 product needs a widening multiply; this is what portable C gets. */
static uint64_t int8_plain(uint64_t rounds) {
    static const int8_t fill[64] = {3, -5, 7, 11, -13, 17, 19, -23};
    int8_t x[64], y[64];
    int32_t acc[16] = {0};
    memcpy(x, fill, sizeof x);
    memcpy(y, fill, sizeof y);
    for (uint64_t r = 0; r < rounds; r++) {
        __asm__ volatile("" ::"r"(x), "r"(y) : "memory");
        for (int i = 0; i < 64; i++) {
            acc[i & 15] += x[i] * y[i];
        }
    }
    __asm__ volatile("" ::"r"(acc) : "memory");
    return rounds * 64 * 2;
}

const struct probe_compute_kernel probe_int8_plain = {"int8", "plain", "", always, int8_plain};
