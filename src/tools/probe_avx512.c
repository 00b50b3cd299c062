/* Probe loops for AVX-512 and its VNNI. */
#include "tools/probe_kernels.h"

#if defined(__AVX512F__) && defined(__AVX512VNNI__)
#include <immintrin.h>

static bool usable_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool usable_vnni(void) {
    return usable_avx512() && __builtin_cpu_supports("avx512vnni");
}

static inline __attribute__((always_inline)) uint64_t read_streams(const char *p, size_t n, size_t streams) {
    __m512i acc[4];
    for (int k = 0; k < 4; k++) {
        acc[k] = _mm512_setzero_si512();
    }
    size_t part = n / streams;
    for (size_t i = 0; i < part; i += 256) {
        for (size_t s = 0; s < streams; s++) {
            for (int k = 0; k < 4; k++) {
                acc[k] = _mm512_or_si512(acc[k], _mm512_load_si512(p + s * part + i + 64 * (size_t)k));
            }
        }
    }
    __m512i all = _mm512_or_si512(_mm512_or_si512(acc[0], acc[1]), _mm512_or_si512(acc[2], acc[3]));
    return (uint64_t)_mm512_reduce_or_epi64(all);
}

static uint64_t read_avx512(const void *p, size_t n, int shape) {
    return shape == 0 ? read_streams(p, n, 1) : shape == 1 ? read_streams(p, n, 2) : read_streams(p, n, 4);
}

static void write_avx512(void *p, size_t n) {
    __m512i v = _mm512_set1_epi8(0x5A);
    for (size_t i = 0; i < n; i += 64) {
        _mm512_stream_si512((__m512i *)(void *)((char *)p + i), v);
    }
    _mm_sfence();
}

static void copy_avx512(void *dst, const void *src, size_t n) {
    for (size_t i = 0; i < n; i += 64) {
        __m512i v = _mm512_load_si512((const char *)src + i);
        _mm512_stream_si512((__m512i *)(void *)((char *)dst + i), v);
    }
    _mm_sfence();
}

const struct probe_memory_kernels probe_memory_avx512 = {usable_avx512, read_avx512, write_avx512, copy_avx512};

static uint64_t f32_avx512(uint64_t rounds) {
    __m512 acc[16];
    __m512 m = _mm512_set1_ps(0.9999f);
    __m512 a = _mm512_set1_ps(1e-3f);
    for (int k = 0; k < 16; k++) {
        acc[k] = _mm512_set1_ps((float)k);
    }
    for (uint64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < 16; k++) {
            acc[k] = _mm512_fmadd_ps(acc[k], m, a);
        }
    }
    for (int k = 0; k < 16; k++) {
        __asm__ volatile("" ::"v"(acc[k]));
    }
    return rounds * 16 * 16 * 2;
}

const struct probe_compute_kernel probe_f32_avx512 = {"f32", "avx512", "AVX-512", usable_avx512, f32_avx512};

static uint64_t int8_vnni(uint64_t rounds) {
    __m512i acc[16];
    __m512i x = _mm512_set1_epi8(3);
    __m512i y = _mm512_set1_epi8(-5);
    for (int k = 0; k < 16; k++) {
        acc[k] = _mm512_setzero_si512();
    }
    for (uint64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < 16; k++) {
            acc[k] = _mm512_dpbusd_epi32(acc[k], x, y);
        }
    }
    for (int k = 0; k < 16; k++) {
        __asm__ volatile("" ::"v"(acc[k]));
    }
    return rounds * 16 * 64 * 2;
}

const struct probe_compute_kernel probe_int8_avx512vnni = {"int8", "avx512vnni", "AVX-512 VNNI", usable_vnni,
                                                           int8_vnni};

static bool usable_bf16(void) {
    unsigned a = 7, b, c = 1, d; /* CPUID leaf 7.1 EAX bit 5 */
    if (!usable_avx512()) {
        return false;
    }
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return a >> 5 & 1;
}

__attribute__((target("avx512bf16"))) static uint64_t bf16_avx512(uint64_t rounds) {
    __m512 acc[16];
    __m512bh x = (__m512bh)_mm512_set1_epi16(0x3F80); /* 1.0 */
    __m512bh y = (__m512bh)_mm512_set1_epi16((short)0xBF00);
    for (int k = 0; k < 16; k++) {
        acc[k] = _mm512_setzero_ps();
    }
    for (uint64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < 16; k++) {
            acc[k] = _mm512_dpbf16_ps(acc[k], x, y);
        }
    }
    for (int k = 0; k < 16; k++) {
        __asm__ volatile("" ::"v"(acc[k]));
    }
    return rounds * 16 * 32 * 2;
}

const struct probe_compute_kernel probe_bf16_avx512 = {"bf16", "avx512bf16", "AVX-512 BF16", usable_bf16, bf16_avx512};

#else /* another architecture: the tables exist and say no */

static bool never(void) {
    return false;
}

const struct probe_memory_kernels probe_memory_avx512 = {never, 0, 0, 0};
const struct probe_compute_kernel probe_f32_avx512 = {"f32", "avx512", "AVX-512", never, 0};
const struct probe_compute_kernel probe_int8_avx512vnni = {"int8", "avx512vnni", "AVX-512 VNNI", never, 0};
const struct probe_compute_kernel probe_bf16_avx512 = {"bf16", "avx512bf16", "AVX-512 BF16", never, 0};
#endif
