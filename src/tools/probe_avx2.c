/* Probe loops for AVX2 + FMA, and the 256-bit VNNI of cores without AVX-512. */
#include "tools/probe_kernels.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

static bool usable_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static inline __attribute__((always_inline)) uint64_t read_streams(const char *p, size_t n, size_t streams) {
    __m256i acc[4];
    for (int k = 0; k < 4; k++) {
        acc[k] = _mm256_setzero_si256();
    }
    size_t part = n / streams;
    for (size_t i = 0; i < part; i += 256) {
        for (size_t s = 0; s < streams; s++) {
            const char *q = p + s * part + i;
            for (int k = 0; k < 8; k++) {
                acc[k & 3] =
                    _mm256_or_si256(acc[k & 3], _mm256_load_si256((const __m256i *)(const void *)(q + 32 * k)));
            }
        }
    }
    __m256i all = _mm256_or_si256(_mm256_or_si256(acc[0], acc[1]), _mm256_or_si256(acc[2], acc[3]));
    __m128i half = _mm_or_si128(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    return (uint64_t)_mm_extract_epi64(half, 0) | (uint64_t)_mm_extract_epi64(half, 1);
}

static uint64_t read_avx2(const void *p, size_t n, int shape) {
    return shape == 0 ? read_streams(p, n, 1) : shape == 1 ? read_streams(p, n, 2) : read_streams(p, n, 4);
}

static void write_avx2(void *p, size_t n) {
    __m256i v = _mm256_set1_epi8(0x5A);
    for (size_t i = 0; i < n; i += 64) {
        _mm256_stream_si256((__m256i *)(void *)((char *)p + i), v);
        _mm256_stream_si256((__m256i *)(void *)((char *)p + i + 32), v);
    }
    _mm_sfence();
}

static void copy_avx2(void *dst, const void *src, size_t n) {
    for (size_t i = 0; i < n; i += 64) {
        const char *s = (const char *)src + i;
        char *d = (char *)dst + i;
        __m256i a = _mm256_load_si256((const __m256i *)(const void *)s);
        __m256i b = _mm256_load_si256((const __m256i *)(const void *)(s + 32));
        _mm256_stream_si256((__m256i *)(void *)d, a);
        _mm256_stream_si256((__m256i *)(void *)(d + 32), b);
    }
    _mm_sfence();
}

const struct probe_memory_kernels probe_memory_avx2 = {usable_avx2, read_avx2, write_avx2, copy_avx2};

/* Two FMA pipes with four cycles of latency need eight accumulators in flight; twelve leave room for slower cores. */
static uint64_t f32_avx2(uint64_t rounds) {
    __m256 acc[12];
    __m256 m = _mm256_set1_ps(0.9999f);
    __m256 a = _mm256_set1_ps(1e-3f);
    for (int k = 0; k < 12; k++) {
        acc[k] = _mm256_set1_ps((float)k);
    }
    for (uint64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < 12; k++) {
            acc[k] = _mm256_fmadd_ps(acc[k], m, a);
        }
    }
    for (int k = 0; k < 12; k++) {
        __asm__ volatile("" ::"x"(acc[k]));
    }
    return rounds * 12 * 8 * 2;
}

const struct probe_compute_kernel probe_f32_avx2 = {"f32", "avx2", "AVX2", usable_avx2, f32_avx2};

/* u8 x s8 to pairs of int16, pairs to int32, add: three instructions for 32 products. */
static uint64_t int8_avx2(uint64_t rounds) {
    __m256i acc[8];
    __m256i x = _mm256_set1_epi8(3);
    __m256i y = _mm256_set1_epi8(-5);
    __m256i ones = _mm256_set1_epi16(1);
    for (int k = 0; k < 8; k++) {
        acc[k] = _mm256_setzero_si256();
    }
    for (uint64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < 8; k++) {
            __asm__ volatile("" : "+x"(y)); /* the product is not loop-invariant to the compiler */
            acc[k] = _mm256_add_epi32(acc[k], _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones));
        }
    }
    for (int k = 0; k < 8; k++) {
        __asm__ volatile("" ::"x"(acc[k]));
    }
    return rounds * 8 * 32 * 2;
}

const struct probe_compute_kernel probe_int8_avx2 = {"int8", "avx2", "AVX2", usable_avx2, int8_avx2};

static bool usable_avxvnni(void) {
    /* CPUID leaf 7.1 EAX bit 4; the compiler's own feature test does not know this one */
    unsigned a = 7, b, c = 1, d;
    if (!usable_avx2()) {
        return false;
    }
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return a >> 4 & 1;
}

__attribute__((target("avxvnni"))) static uint64_t int8_avxvnni(uint64_t rounds) {
    __m256i acc[12];
    __m256i x = _mm256_set1_epi8(3);
    __m256i y = _mm256_set1_epi8(-5);
    for (int k = 0; k < 12; k++) {
        acc[k] = _mm256_setzero_si256();
    }
    for (uint64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < 12; k++) {
            acc[k] = _mm256_dpbusd_avx_epi32(acc[k], x, y);
        }
    }
    for (int k = 0; k < 12; k++) {
        __asm__ volatile("" ::"x"(acc[k]));
    }
    return rounds * 12 * 32 * 2;
}

const struct probe_compute_kernel probe_int8_avxvnni = {"int8", "avxvnni", "AVX-VNNI", usable_avxvnni, int8_avxvnni};

#else /* another architecture: the tables exist and say no */

static bool never(void) {
    return false;
}

const struct probe_memory_kernels probe_memory_avx2 = {never, 0, 0, 0};
const struct probe_compute_kernel probe_f32_avx2 = {"f32", "avx2", "AVX2", never, 0};
const struct probe_compute_kernel probe_int8_avx2 = {"int8", "avx2", "AVX2", never, 0};
const struct probe_compute_kernel probe_int8_avxvnni = {"int8", "avxvnni", "AVX-VNNI", never, 0};
#endif
