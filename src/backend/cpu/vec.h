/*
 * Sixteen lanes, whatever the machine: the vector operations that kernels.inc.h is written in. Each ISA file includes this
 * under its own compiler flags. Every operation gives the same bits on every ISA (fused multiply-add is one rounding
 * everywhere, sums over lanes follow one tree), so that the cpu backend has one arithmetic (docs/numerics.md).
 *
 *   vf  16 float     vi  16 int32     vs  32 int16 (lane j of a dot product owns elements 2j and 2j + 1)     vb  64 bytes
 */
// clang-format off
#ifndef CPU_VEC_H
#define CPU_VEC_H

#include "base/half.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define VEC static inline __attribute__((always_inline, unused))

typedef float v4 __attribute__((vector_size(16)));

#if defined(__AVX512F__) && defined(__AVX512VNNI__)

#include <immintrin.h>

typedef __m512 vf;
typedef __m512i vi;
typedef __m512i vs;
typedef __m512i vb;

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

VEC vi vi_zero(void) { return _mm512_setzero_si512(); }
/* in assembly because gcc 12 copies the accumulators of the intrinsic in and out of other registers */
VEC vi vi_dot(vi acc, vs a, vs b) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
    return acc;
}
/* the same with the second operand in memory, and without anything to add to */
VEC vi vi_dot_at(vi acc, vs a, const int16_t *b) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(a), "m"(*(const int16_t(*)[32])b));
    return acc;
}
/* the same for bytes: lane i gets u[4i] * s[4i] + .. + u[4i + 3] * s[4i + 3], u unsigned and s signed */
VEC vi vi_dot_bytes_at(vi acc, vb u, const int8_t *s) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "m"(*(const int8_t(*)[64])s));
    return acc;
}
VEC vi vi_pairs_at(vs a, const int16_t *b) { return _mm512_madd_epi16(a, _mm512_loadu_si512(b)); }
VEC vi vs_pairs(vs a, vs b) { return _mm512_madd_epi16(a, b); }
VEC vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
VEC vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
#define vi_shl(a, n) _mm512_slli_epi32(a, n)
VEC vf vi_to_f(vi a) { return _mm512_cvtepi32_ps(a); }
VEC vi vi_pairs(vi a, vi b) { return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)); }
VEC vi vi_fours(vi a, vi b) { return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)); }
VEC vi vi_parts(vi a, vi b) {
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
}
/* lane i: the sum of v[i]'s lanes */
VEC vi vi_reduce16(const vi *v) {
    vi a = vi_fours(vi_pairs(v[0], v[1]), vi_pairs(v[2], v[3]));
    vi b = vi_fours(vi_pairs(v[4], v[5]), vi_pairs(v[6], v[7]));
    vi c = vi_fours(vi_pairs(v[8], v[9]), vi_pairs(v[10], v[11]));
    vi d = vi_fours(vi_pairs(v[12], v[13]), vi_pairs(v[14], v[15]));
    return vi_parts(vi_parts(a, b), vi_parts(c, d));
}
VEC vf vf_halves(vf a, vf b) { return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE)); }
VEC vf vf_parts(vf a, vf b) { return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD)); }
VEC vf vf_fours(vf a, vf b) {
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));
}
VEC vf vf_pairs(vf a, vf b) {
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xDD));
}
/* lane i: vf_reduce_add(v[i]), in that very order of additions */
VEC vf vf_reduce16(const vf *v) {
    vf w[4];
    for (int e = 0; e < 4; e++) {
        w[e] = vf_parts(vf_halves(v[e], v[4 + e]), vf_halves(v[8 + e], v[12 + e]));
    }
    return vf_pairs(vf_fours(w[0], w[1]), vf_fours(w[2], w[3]));
}
/* the same for four */
VEC v4 vf_reduce4(const vf *v) {
    vf a = vf_parts(vf_halves(v[0], v[1]), vf_halves(v[2], v[3]));
    a = _mm512_add_ps(a, _mm512_shuffle_ps(a, a, 0x4E));
    a = _mm512_add_ps(a, _mm512_shuffle_ps(a, a, 0xB1));
    return (v4)_mm512_castps512_ps128(_mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), a));
}
/* p[0..3] four times */
VEC vf vf_rep4(const float *p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
/* each of p[0..3] four times */
VEC vf vf_dup4(const float *p) {
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), vf_rep4(p));
}
/* a eight times, b eight times */
VEC vf vf_set2(float a, float b) { return _mm512_mask_broadcastss_ps(_mm512_set1_ps(a), 0xFF00, _mm_set_ss(b)); }
VEC vf vf_load_u8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

VEC vs vs_load(const int16_t *p) { return _mm512_loadu_si512(p); }
VEC void vs_store(int16_t *p, vs x) { _mm512_storeu_si512(p, x); }
VEC vs vs_set1(int x) { return _mm512_set1_epi16((short)x); }
/* lanes 0..15 of the elements: a, lanes 16..31: b */
VEC vs vs_set2(int a, int b) {
    return _mm512_inserti64x4(_mm512_set1_epi16((short)a), _mm256_set1_epi16((short)b), 1);
}
VEC vs vs_load_u8(const uint8_t *p) { return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)p)); }
VEC vs vs_and(vs a, vs b) { return _mm512_and_si512(a, b); }
VEC vs vs_or(vs a, vs b) { return _mm512_or_si512(a, b); }
VEC vs vs_mul_high(vs a, vs b) { return _mm512_mulhi_epi16(a, b); } /* a * b >> 16 */
VEC vs vs_sub(vs a, vs b) { return _mm512_sub_epi16(a, b); }
VEC vs vs_mul(vs a, vs b) { return _mm512_mullo_epi16(a, b); }
#define vs_shr(a, n) _mm512_srli_epi16(a, n)
#define vs_shl(a, n) _mm512_slli_epi16(a, n)
/* 32 bytes as 16 elements, shifted left by a (right where negative) and masked, then the same by b; wanted bits stay in their element */
VEC vs vs_twice(const uint8_t *p, int a, int b, int mask) {
    __m512i v = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)p));
    __m512i by = _mm512_inserti64x4(_mm512_set1_epi32(a & 31), _mm256_set1_epi32(b & 31), 1);
    return _mm512_and_si512(_mm512_rolv_epi32(v, by), _mm512_set1_epi16((short)mask));
}
/* x ^ vs_twice */
VEC vs vs_xor_twice(vs x, const uint8_t *p, int a, int b, int mask) {
    __m512i v = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)p));
    __m512i by = _mm512_inserti64x4(_mm512_set1_epi32(a & 31), _mm256_set1_epi32(b & 31), 1);
    return _mm512_ternarylogic_epi32(x, _mm512_rolv_epi32(v, by), _mm512_set1_epi16((short)mask), 0x78); /* x ^ y & z */
}
/* x | vs_twice */
VEC vs vs_or_twice(vs x, const uint8_t *p, int a, int b, int mask) {
    __m512i v = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)p));
    __m512i by = _mm512_inserti64x4(_mm512_set1_epi32(a & 31), _mm256_set1_epi32(b & 31), 1);
    return _mm512_ternarylogic_epi32(x, _mm512_rolv_epi32(v, by), _mm512_set1_epi16((short)mask), 0xF8);
}
/* the even (odd) elements of a, then those of b */
VEC vs vs_evens(vs a, vs b) {
    __m512i at = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26, 24, 22, 20, 18, 16, 14,
                                  12, 10, 8, 6, 4, 2, 0);
    return _mm512_permutex2var_epi16(a, at, b);
}
VEC vs vs_odds(vs a, vs b) {
    __m512i at = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25, 23, 21, 19, 17, 15,
                                  13, 11, 9, 7, 5, 3, 1);
    return _mm512_permutex2var_epi16(a, at, b);
}

VEC vb vb_load(const void *p) { return _mm512_loadu_si512(p); }
VEC vb vb_set1(int x) { return _mm512_set1_epi8((char)x); }
VEC vb vb_and(vb a, vb b) { return _mm512_and_si512(a, b); }
VEC vb vb_or(vb a, vb b) { return _mm512_or_si512(a, b); }
VEC vb vb_shr4(vb a) { return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15)); }
/* 32 bytes shifted left by a (right where negative) and masked, then the same 32 by b; wanted bits stay in their byte */
VEC vb vb_twice(const uint8_t *p, int a, int b, int mask) {
    __m512i v = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)p));
    __m512i by = _mm512_inserti64x4(_mm512_set1_epi32(a & 31), _mm256_set1_epi32(b & 31), 1);
    return _mm512_and_si512(_mm512_rolv_epi32(v, by), _mm512_set1_epi8((char)mask));
}
/* lane i: u[2i] * s[2i] + u[2i + 1] * s[2i + 1], u unsigned and s signed bytes, the sum within int16 */
VEC vs vs_dot_bytes(vb u, vb s) { return _mm512_maddubs_epi16(u, s); }
/* 16 int8 times 16 int16, added in pairs: lanes 0..7 */
VEC vi vi_dot_short(const int8_t *a, const int16_t *b) {
    __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)a));
    return _mm512_zextsi256_si512(_mm256_madd_epi16(w, _mm256_loadu_si256((const __m256i *)b)));
}

#define VEC_PREFETCH(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
/* keeps a loaded vector in its register instead of loading it again at every use: loads are the scarce resource */
#define VEC_KEEP(x) __asm__("" : "+v"(x))

#elif defined(__AVX2__)

#include <immintrin.h>

typedef struct {
    __m256 lo, hi;
} vf;
typedef struct {
    __m256i lo, hi;
} vi;
typedef vi vs;
typedef vi vb;

#define VF2(op, a, b) ((vf){op((a).lo, (b).lo), op((a).hi, (b).hi)})
#define VS2(op, a, b) ((vs){op((a).lo, (b).lo), op((a).hi, (b).hi)})

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
VEC vf vf_load_f16(const uint16_t *p) {
    return (vf){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
VEC void vf_store_f16(uint16_t *p, vf x) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
VEC __m256 bf16_half(const uint16_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
VEC vf vf_load_bf16(const uint16_t *p) { return (vf){bf16_half(p), bf16_half(p + 8)}; }
VEC vf vf_load_i8(const int8_t *p) {
    __m128i b = _mm_loadu_si128((const __m128i *)p);
    return (vf){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)))};
}
VEC vf vf_load_nibbles(const uint8_t *p, int shift) {
    __m128i b = _mm_and_si128(_mm_srli_epi16(_mm_loadu_si128((const __m128i *)p), shift), _mm_set1_epi8(15));
    b = _mm_sub_epi8(b, _mm_set1_epi8(8));
    return (vf){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)))};
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

VEC vf vf_reduce16(const vf *v) {
    float r[16];
    for (int i = 0; i < 16; i++) {
        r[i] = vf_reduce_add(v[i]);
    }
    return vf_load(r);
}

VEC vi vi_zero(void) { return (vi){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
VEC vi vi_dot(vi acc, vs a, vs b) {
    return (vi){_mm256_add_epi32(acc.lo, _mm256_madd_epi16(a.lo, b.lo)), _mm256_add_epi32(acc.hi, _mm256_madd_epi16(a.hi, b.hi))};
}
VEC vi vi_pairs_at(vs a, const int16_t *b) {
    return (vi){_mm256_madd_epi16(a.lo, _mm256_loadu_si256((const __m256i *)b)),
                _mm256_madd_epi16(a.hi, _mm256_loadu_si256((const __m256i *)b + 1))};
}
VEC vi vs_pairs(vs a, vs b) { return (vi){_mm256_madd_epi16(a.lo, b.lo), _mm256_madd_epi16(a.hi, b.hi)}; }
VEC vi vi_dot_at(vi acc, vs a, const int16_t *b) {
    vi p = vi_pairs_at(a, b);
    return VS2(_mm256_add_epi32, acc, p);
}
VEC vi vi_add(vi a, vi b) { return VS2(_mm256_add_epi32, a, b); }
VEC vi vi_sub(vi a, vi b) { return VS2(_mm256_sub_epi32, a, b); }
#define vi_shl(a, n) ((vi){_mm256_slli_epi32((a).lo, n), _mm256_slli_epi32((a).hi, n)})
VEC __m128i vi_reduce4(const vi *v) {
    __m256i a = _mm256_hadd_epi32(_mm256_add_epi32(v[0].lo, v[0].hi), _mm256_add_epi32(v[1].lo, v[1].hi));
    __m256i b = _mm256_hadd_epi32(_mm256_add_epi32(v[2].lo, v[2].hi), _mm256_add_epi32(v[3].lo, v[3].hi));
    a = _mm256_hadd_epi32(a, b);
    return _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
}
VEC vi vi_reduce16(const vi *v) {
    return (vi){_mm256_setr_m128i(vi_reduce4(v), vi_reduce4(v + 4)), _mm256_setr_m128i(vi_reduce4(v + 8), vi_reduce4(v + 12))};
}
VEC vf vf_rep4(const float *p) {
    __m256 v = _mm256_broadcast_ps((const __m128 *)(const void *)p);
    return (vf){v, v};
}
VEC vf vf_dup4(const float *p) {
    return (vf){_mm256_setr_m128(_mm_set1_ps(p[0]), _mm_set1_ps(p[1])), _mm256_setr_m128(_mm_set1_ps(p[2]), _mm_set1_ps(p[3]))};
}
VEC vf vf_set2(float a, float b) { return (vf){_mm256_set1_ps(a), _mm256_set1_ps(b)}; }
VEC vf vf_load_u8(const uint8_t *p) {
    __m128i b = _mm_loadu_si128((const __m128i *)p);
    return (vf){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(b, 8)))};
}
VEC vf vi_to_f(vi a) { return (vf){_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }

VEC vs vs_load(const int16_t *p) {
    return (vs){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 16))};
}
VEC void vs_store(int16_t *p, vs x) {
    _mm256_storeu_si256((__m256i *)p, x.lo);
    _mm256_storeu_si256((__m256i *)(p + 16), x.hi);
}
VEC vs vs_set1(int x) { return (vs){_mm256_set1_epi16((short)x), _mm256_set1_epi16((short)x)}; }
VEC vs vs_set2(int a, int b) { return (vs){_mm256_set1_epi16((short)a), _mm256_set1_epi16((short)b)}; }
VEC vs vs_load_u8(const uint8_t *p) {
    return (vs){_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p)),
                _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(p + 16)))};
}
VEC vs vs_and(vs a, vs b) { return VS2(_mm256_and_si256, a, b); }
VEC vs vs_or(vs a, vs b) { return VS2(_mm256_or_si256, a, b); }
VEC vs vs_xor(vs a, vs b) { return VS2(_mm256_xor_si256, a, b); }
VEC vs vs_mul_high(vs a, vs b) { return VS2(_mm256_mulhi_epi16, a, b); }
VEC vs vs_sub(vs a, vs b) { return VS2(_mm256_sub_epi16, a, b); }
VEC vs vs_mul(vs a, vs b) { return VS2(_mm256_mullo_epi16, a, b); }
#define vs_shr(a, n) ((vs){_mm256_srli_epi16((a).lo, n), _mm256_srli_epi16((a).hi, n)})
#define vs_shl(a, n) ((vs){_mm256_slli_epi16((a).lo, n), _mm256_slli_epi16((a).hi, n)})
VEC __m256i vs_shift(__m256i v, int by) { return by >= 0 ? _mm256_slli_epi16(v, by) : _mm256_srli_epi16(v, -by); }
VEC vs vs_twice(const uint8_t *p, int a, int b, int mask) {
    __m256i v = _mm256_loadu_si256((const __m256i *)p);
    __m256i m = _mm256_set1_epi16((short)mask);
    return (vs){_mm256_and_si256(vs_shift(v, a), m), _mm256_and_si256(vs_shift(v, b), m)};
}
/* the low halves of 16 int32 as int16, a's first */
VEC __m256i vs_low_halves(__m256i a, __m256i b) {
    __m256i v = _mm256_packs_epi32(_mm256_srai_epi32(_mm256_slli_epi32(a, 16), 16), _mm256_srai_epi32(_mm256_slli_epi32(b, 16), 16));
    return _mm256_permute4x64_epi64(v, 0xD8);
}
VEC __m256i vs_high_halves(__m256i a, __m256i b) {
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(_mm256_srai_epi32(a, 16), _mm256_srai_epi32(b, 16)), 0xD8);
}
VEC vs vs_evens(vs a, vs b) { return (vs){vs_low_halves(a.lo, a.hi), vs_low_halves(b.lo, b.hi)}; }
VEC vs vs_odds(vs a, vs b) { return (vs){vs_high_halves(a.lo, a.hi), vs_high_halves(b.lo, b.hi)}; }

VEC vb vb_load(const void *p) { return (vb){_mm256_loadu_si256(p), _mm256_loadu_si256((const __m256i *)p + 1)}; }
VEC vb vb_set1(int x) { return (vb){_mm256_set1_epi8((char)x), _mm256_set1_epi8((char)x)}; }
VEC vb vb_and(vb a, vb b) { return VS2(_mm256_and_si256, a, b); }
VEC vb vb_or(vb a, vb b) { return VS2(_mm256_or_si256, a, b); }
VEC vb vb_shr4(vb a) {
    __m256i m = _mm256_set1_epi8(15);
    return (vb){_mm256_and_si256(_mm256_srli_epi16(a.lo, 4), m), _mm256_and_si256(_mm256_srli_epi16(a.hi, 4), m)};
}
VEC __m256i vb_shift(__m256i v, int by) { return by >= 0 ? _mm256_slli_epi16(v, by) : _mm256_srli_epi16(v, -by); }
VEC vb vb_twice(const uint8_t *p, int a, int b, int mask) {
    __m256i v = _mm256_loadu_si256((const __m256i *)p);
    __m256i m = _mm256_set1_epi8((char)mask);
    return (vb){_mm256_and_si256(vb_shift(v, a), m), _mm256_and_si256(vb_shift(v, b), m)};
}
VEC vs vs_dot_bytes(vb u, vb s) { return VS2(_mm256_maddubs_epi16, u, s); }
VEC vi vi_dot_short(const int8_t *a, const int16_t *b) {
    __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)a));
    return (vi){_mm256_madd_epi16(w, _mm256_loadu_si256((const __m256i *)b)), _mm256_setzero_si256()};
}

#define VEC_PREFETCH(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
#define VEC_KEEP(x) ((void)(x))

#elif defined(__ARM_FEATURE_DOTPROD)

#include "backend/cpu/vec_neon.h"

#else /* portable C: the compiler's own vector types where an operator exists, loops where none does */

/* all functions here are inlined, so how a 64-byte vector would be passed does not matter */
#pragma GCC diagnostic ignored "-Wpsabi"

typedef float vf __attribute__((vector_size(64), aligned(4)));
typedef int32_t vi __attribute__((vector_size(64), aligned(4)));
typedef int16_t vs __attribute__((vector_size(64), aligned(2)));
typedef uint8_t vb __attribute__((vector_size(64), aligned(1)));

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

VEC vi vi_zero(void) { return (vi){0}; }
VEC vi vi_dot(vi acc, vs a, vs b) {
    for (int i = 0; i < 16; i++) {
        acc[i] += a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    }
    return acc;
}
VEC vi vi_dot_at(vi acc, vs a, const int16_t *b) {
    for (int i = 0; i < 16; i++) {
        acc[i] += a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    }
    return acc;
}
VEC vi vi_pairs_at(vs a, const int16_t *b) { return vi_dot_at(vi_zero(), a, b); }
VEC vi vs_pairs(vs a, vs b) { return vi_dot(vi_zero(), a, b); }
VEC vi vi_add(vi a, vi b) { return a + b; }
VEC vi vi_sub(vi a, vi b) { return a - b; }
#define vi_shl(a, n) ((a) * (1 << (n)))
VEC vi vi_reduce16(const vi *v) {
    vi r;
    for (int i = 0; i < 16; i++) {
        uint32_t sum = 0; /* may wrap on the way; the whole fits */
        for (int j = 0; j < 16; j++) {
            sum += (uint32_t)v[i][j];
        }
        r[i] = (int32_t)sum;
    }
    return r;
}
VEC vf vf_reduce16(const vf *v) {
    vf r;
    VEC_LOOP(vf_reduce_add(v[i]))
    return r;
}
VEC vf vf_rep4(const float *p) {
    vf r;
    VEC_LOOP(p[i % 4])
    return r;
}
VEC vf vf_dup4(const float *p) {
    vf r;
    VEC_LOOP(p[i / 4])
    return r;
}
VEC vf vf_set2(float a, float b) {
    vf r;
    VEC_LOOP(i < 8 ? a : b)
    return r;
}
VEC vf vf_load_u8(const uint8_t *p) {
    vf r;
    VEC_LOOP((float)p[i])
    return r;
}
VEC vf vi_to_f(vi a) { return __builtin_convertvector(a, vf); }

VEC vs vs_load(const int16_t *p) {
    vs v;
    memcpy(&v, p, sizeof v);
    return v;
}
VEC void vs_store(int16_t *p, vs x) { memcpy(p, &x, sizeof x); }
VEC vs vs_set1(int x) { return (vs){0} + (int16_t)x; }
VEC vs vs_set2(int a, int b) {
    vs r;
    for (int i = 0; i < 32; i++) {
        r[i] = (int16_t)(i < 16 ? a : b);
    }
    return r;
}
VEC vs vs_load_u8(const uint8_t *p) {
    vs r;
    for (int i = 0; i < 32; i++) {
        r[i] = p[i];
    }
    return r;
}
VEC vs vs_and(vs a, vs b) { return a & b; }
VEC vs vs_or(vs a, vs b) { return a | b; }
VEC vs vs_xor(vs a, vs b) { return a ^ b; }
VEC vs vs_mul_high(vs a, vs b) {
    vs r;
    for (int i = 0; i < 32; i++) {
        r[i] = (int16_t)(a[i] * b[i] >> 16);
    }
    return r;
}
VEC vs vs_sub(vs a, vs b) { return a - b; }
VEC vs vs_mul(vs a, vs b) { return a * b; }
typedef uint16_t vs_bits __attribute__((vector_size(64), aligned(2)));
#define vs_shr(a, n) ((vs)((vs_bits)(a) >> (n)))
#define vs_shl(a, n) ((a) << (n))
VEC vs vs_twice(const uint8_t *p, int a, int b, int mask) {
    vs r;
    for (int i = 0; i < 32; i++) {
        int by = i < 16 ? a : b;
        int v = p[2 * (i % 16)] | p[2 * (i % 16) + 1] << 8;
        r[i] = (int16_t)((by >= 0 ? v << by : v >> -by) & mask);
    }
    return r;
}
VEC vs vs_evens(vs a, vs b) {
    vs r;
    for (int i = 0; i < 32; i++) {
        r[i] = i < 16 ? a[2 * i] : b[2 * i - 32];
    }
    return r;
}
VEC vs vs_odds(vs a, vs b) {
    vs r;
    for (int i = 0; i < 32; i++) {
        r[i] = i < 16 ? a[2 * i + 1] : b[2 * i - 31];
    }
    return r;
}

VEC vb vb_load(const void *p) {
    vb v;
    memcpy(&v, p, sizeof v);
    return v;
}
VEC vb vb_set1(int x) { return (vb){0} + (uint8_t)x; }
VEC vb vb_and(vb a, vb b) { return a & b; }
VEC vb vb_or(vb a, vb b) { return a | b; }
VEC vb vb_shr4(vb a) { return a >> 4; }
VEC vb vb_twice(const uint8_t *p, int a, int b, int mask) {
    vb r;
    for (int i = 0; i < 64; i++) {
        int by = i < 32 ? a : b;
        r[i] = (uint8_t)((by >= 0 ? p[i % 32] << by : p[i % 32] >> -by) & mask);
    }
    return r;
}
VEC vs vs_dot_bytes(vb u, vb s) {
    vs r;
    for (int i = 0; i < 32; i++) {
        r[i] = (int16_t)(u[2 * i] * (int8_t)s[2 * i] + u[2 * i + 1] * (int8_t)s[2 * i + 1]);
    }
    return r;
}
VEC vi vi_dot_short(const int8_t *a, const int16_t *b) {
    vi r = {0};
    for (int i = 0; i < 8; i++) {
        r[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    }
    return r;
}

#define VEC_PREFETCH(p) __builtin_prefetch(p)
#define VEC_KEEP(x) ((void)(x))

#endif

#if !defined(__AVX512F__) && !defined(__ARM_FEATURE_DOTPROD)
VEC vs vs_xor_twice(vs x, const uint8_t *p, int a, int b, int mask) { return vs_xor(x, vs_twice(p, a, b, mask)); }
VEC vs vs_or_twice(vs x, const uint8_t *p, int a, int b, int mask) { return vs_or(x, vs_twice(p, a, b, mask)); }
VEC v4 vf_reduce4(const vf *v) { return (v4){vf_reduce_add(v[0]), vf_reduce_add(v[1]), vf_reduce_add(v[2]), vf_reduce_add(v[3])}; }
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
