/*
 * vf: sixteen floats, whatever the machine, and the operations that kernels.inc.h is written in (products of K-quants
 * have their own, in kstrips.inc.h). Each ISA file includes this under its own compiler flags. Every operation gives
 * the same bits on every ISA (fused multiply-add is one rounding everywhere, sums over lanes follow one tree), so that
 * the cpu backend has one arithmetic (docs/numerics.md).
 */
// clang-format off
#ifndef CPU_VEC_H
#define CPU_VEC_H

#include "base/half.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define VEC static inline __attribute__((always_inline, unused))

#if defined(__AVX512F__) && defined(__AVX512VNNI__)

#include <immintrin.h>

typedef __m512 vf;

VEC vf vf_zero(void) { return _mm512_setzero_ps(); }
VEC vf vf_set1(float x) { return _mm512_set1_ps(x); }
VEC vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
VEC void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
VEC vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
VEC vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
VEC vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
VEC vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
VEC vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
VEC vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
VEC vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
VEC vf vf_abs(vf a) { return _mm512_abs_ps(a); }
VEC vf vf_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/* a * 2^n for integral n in -126..127 */
VEC vf vf_scale2(vf a, vf n) {
    __m512i e = _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23);
    return _mm512_mul_ps(a, _mm512_castsi512_ps(e));
}
/* lane i: i < n ? a : b */
VEC vf vf_first(int n, vf a, vf b) {
    __mmask16 m = n >= 16 ? 0xFFFF : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
    return _mm512_mask_blend_ps(m, b, a);
}
VEC vf vf_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
VEC void vf_store_f16(uint16_t *p, vf x) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
VEC vf vf_load_bf16(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
VEC vf vf_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
/* low (shift 0) or high (shift 4) nibbles of 16 bytes, less 8 */
VEC vf vf_load_nibbles(const uint8_t *p, int shift) {
    __m128i b = _mm_and_si128(_mm_srli_epi16(_mm_loadu_si128((const __m128i *)p), shift), _mm_set1_epi8(15));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(b), _mm512_set1_epi32(8)));
}
/* round to nearest even, saturate to int16 */
VEC void vf_store_i16(int16_t *p, vf x) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x)));
}
VEC float vf_reduce_add(vf x) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    b = _mm_add_ss(b, _mm_movehdup_ps(b));
    return _mm_cvtss_f32(b);
}
VEC float vf_reduce_max(vf x) { return _mm512_reduce_max_ps(x); }

#define VEC_PREFETCH(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
/* keeps a loaded vector in its register instead of loading it again at every use: loads are the scarce resource */
#define VEC_KEEP(x) __asm__("" : "+v"(x))

#elif defined(__AVX2__)

#include <immintrin.h>

typedef struct {
    __m256 lo, hi;
} vf;

#define VF2(op, a, b) ((vf){op((a).lo, (b).lo), op((a).hi, (b).hi)})

VEC vf vf_zero(void) { return (vf){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
VEC vf vf_set1(float x) { return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
VEC vf vf_load(const float *p) { return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
VEC void vf_store(float *p, vf x) {
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
}
VEC vf vf_add(vf a, vf b) { return VF2(_mm256_add_ps, a, b); }
VEC vf vf_sub(vf a, vf b) { return VF2(_mm256_sub_ps, a, b); }
VEC vf vf_mul(vf a, vf b) { return VF2(_mm256_mul_ps, a, b); }
VEC vf vf_div(vf a, vf b) { return VF2(_mm256_div_ps, a, b); }
VEC vf vf_fma(vf a, vf b, vf c) {
    return (vf){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
VEC vf vf_max(vf a, vf b) { return VF2(_mm256_max_ps, a, b); }
VEC vf vf_min(vf a, vf b) { return VF2(_mm256_min_ps, a, b); }
VEC vf vf_abs(vf a) {
    __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
    return (vf){_mm256_and_ps(a.lo, m), _mm256_and_ps(a.hi, m)};
}
VEC vf vf_round(vf a) {
    return (vf){_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
VEC __m256 scale2_half(__m256 a, __m256 n) {
    __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(a, _mm256_castsi256_ps(e));
}
VEC vf vf_scale2(vf a, vf n) { return (vf){scale2_half(a.lo, n.lo), scale2_half(a.hi, n.hi)}; }
VEC __m256 first_half(int n, __m256 a, __m256 b) {
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane)));
}
VEC vf vf_first(int n, vf a, vf b) { return (vf){first_half(n, a.lo, b.lo), first_half(n - 8, a.hi, b.hi)}; }
VEC __m256 f16_half(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
VEC vf vf_load_f16(const uint16_t *p) { return (vf){f16_half(p), f16_half(p + 8)}; }
VEC void vf_store_f16(uint16_t *p, vf x) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
VEC __m256 bf16_half(const uint16_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
VEC vf vf_load_bf16(const uint16_t *p) { return (vf){bf16_half(p), bf16_half(p + 8)}; }
VEC __m256 i8_half(__m128i b) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)); }
VEC vf from_i8(__m128i b) { return (vf){i8_half(b), i8_half(_mm_srli_si128(b, 8))}; }
VEC vf vf_load_i8(const int8_t *p) { return from_i8(_mm_loadu_si128((const __m128i *)p)); }
VEC vf vf_load_nibbles(const uint8_t *p, int shift) {
    __m128i b = _mm_and_si128(_mm_srli_epi16(_mm_loadu_si128((const __m128i *)p), shift), _mm_set1_epi8(15));
    return from_i8(_mm_sub_epi8(b, _mm_set1_epi8(8)));
}
VEC void vf_store_i16(int16_t *p, vf x) {
    __m256i v = _mm256_packs_epi32(_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi)); /* interleaves 128-bit halves */
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(v, 0xD8));
}
VEC float vf_reduce_add(vf x) {
    __m256 a = _mm256_add_ps(x.lo, x.hi);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    b = _mm_add_ss(b, _mm_movehdup_ps(b));
    return _mm_cvtss_f32(b);
}
VEC float vf_reduce_max(vf x) {
    __m256 a = _mm256_max_ps(x.lo, x.hi);
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    b = _mm_max_ss(b, _mm_movehdup_ps(b));
    return _mm_cvtss_f32(b);
}

#define VEC_PREFETCH(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
#define VEC_KEEP(x) ((void)(x))

#elif defined(__ARM_FEATURE_DOTPROD)

#include "backend/cpu/vec_neon.h"

#else /* portable C: the compiler's own vector types where an operator exists, loops where none does */

/* all functions here are inlined, so how a 64-byte vector would be passed does not matter */
#pragma GCC diagnostic ignored "-Wpsabi"

typedef float vf __attribute__((vector_size(64), aligned(4)));

VEC vf vf_set1(float x) { return (vf){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
VEC vf vf_zero(void) { return vf_set1(0); }
VEC vf vf_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
VEC void vf_store(float *p, vf x) { memcpy(p, &x, sizeof x); }
VEC vf vf_add(vf a, vf b) { return a + b; }
VEC vf vf_sub(vf a, vf b) { return a - b; }
VEC vf vf_mul(vf a, vf b) { return a * b; }
VEC vf vf_div(vf a, vf b) { return a / b; }
#define VEC_LOOP(expr)                                                                                                 \
    for (int i = 0; i < 16; i++) {                                                                                     \
        r[i] = (expr);                                                                                                 \
    }
VEC vf vf_fma(vf a, vf b, vf c) {
    vf r;
    VEC_LOOP(fmaf(a[i], b[i], c[i]))
    return r;
}
/* as the x86 instructions: the second operand where the comparison is false (NaN) */
VEC vf vf_max(vf a, vf b) {
    vf r;
    VEC_LOOP(a[i] > b[i] ? a[i] : b[i])
    return r;
}
VEC vf vf_min(vf a, vf b) {
    vf r;
    VEC_LOOP(a[i] < b[i] ? a[i] : b[i])
    return r;
}
VEC vf vf_abs(vf a) {
    vf r;
    VEC_LOOP(fabsf(a[i]))
    return r;
}
VEC vf vf_round(vf a) {
    vf r;
    VEC_LOOP(nearbyintf(a[i]))
    return r;
}
VEC vf vf_scale2(vf a, vf n) {
    vf r;
    VEC_LOOP(a[i] * f32_from_bits((uint32_t)((int32_t)n[i] + 127) << 23))
    return r;
}
VEC vf vf_first(int n, vf a, vf b) {
    vf r;
    VEC_LOOP(i < n ? a[i] : b[i])
    return r;
}
VEC vf vf_load_f16(const uint16_t *p) {
    vf r;
    VEC_LOOP(f16_to_f32(p[i]))
    return r;
}
VEC void vf_store_f16(uint16_t *p, vf x) {
    for (int i = 0; i < 16; i++) {
        p[i] = f32_to_f16(x[i]);
    }
}
VEC vf vf_load_bf16(const uint16_t *p) {
    vf r;
    VEC_LOOP(bf16_to_f32(p[i]))
    return r;
}
VEC vf vf_load_i8(const int8_t *p) {
    vf r;
    VEC_LOOP((float)p[i])
    return r;
}
VEC vf vf_load_nibbles(const uint8_t *p, int shift) {
    vf r;
    VEC_LOOP((float)((p[i] >> shift & 15) - 8))
    return r;
}
VEC void vf_store_i16(int16_t *p, vf x) {
    for (int i = 0; i < 16; i++) {
        float v = nearbyintf(x[i]);
        p[i] = v >= 32767 ? 32767 : v >= -32768 ? (int16_t)v : -32768; /* NaN too, as the x86 conversion gives */
    }
}
VEC float vf_reduce_add(vf x) {
    float a[8];
    for (int i = 0; i < 8; i++) {
        a[i] = x[i] + x[i + 8];
    }
    for (int i = 0; i < 4; i++) {
        a[i] += a[i + 4];
    }
    return (a[0] + a[2]) + (a[1] + a[3]);
}
VEC float vf_reduce_max(vf x) {
    float m = x[0];
    for (int i = 1; i < 16; i++) {
        m = m > x[i] ? m : x[i];
    }
    return m;
}

#define VEC_PREFETCH(p) __builtin_prefetch(p)
#define VEC_KEEP(x) ((void)(x))

#endif

/* e^x for x in -87..88, clamped outside. Cody-Waite reduction, degree-6 polynomial: relative error under 2e-7. */
VEC vf vf_exp(vf x) {
    vf clamped = vf_max(x, vf_set1(-87.0f));
    clamped = vf_min(clamped, vf_set1(88.0f));
    vf n = vf_round(vf_mul(clamped, vf_set1(1.44269504088896341f)));
    vf r = vf_fma(n, vf_set1(-0.693359375f), clamped);
    r = vf_fma(n, vf_set1(2.12194440e-4f), r);
    vf p = vf_set1(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set1(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
    p = vf_fma(vf_mul(r, r), p, vf_add(r, vf_set1(1.0f)));
    return vf_scale2(p, n);
}

#endif
