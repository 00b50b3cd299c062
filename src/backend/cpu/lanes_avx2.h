// clang-format off
/* Eight rows to a register: lanes.h on AVX2. */
#ifndef CPU_LANES_AVX2_H
#define CPU_LANES_AVX2_H

#define TILE_T 5
enum { LANES = 8, FEW_T = 2, FEW_MAX = 8, TILE_R = 2 };
typedef __m256i kb;
typedef __m256i kp;
typedef __m256i ki;
typedef __m256 kf;
typedef __m256i kd; /* pairs of int16: at most 16 products of a quant below 32 (8 of one below 64) with 63 */
typedef __m256i ks; /* the scale twice, as int16 */

/* This sum is made here: left alone, gcc adds up products in another order, late, and keeps them all until then. */
#define K_KEEP(x) __asm__("" : "+x"(x))
/* And before any later load. */
#define K_STEP_END(x) __asm__ volatile("" : "+x"(x) : : "memory")

VEC kb k_load(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
VEC kb k_byte(int x) { return _mm256_set1_epi8((char)x); }
VEC kb k_and(kb a, kb b) { return _mm256_and_si256(a, b); }
VEC kb k_shift(kb a, const int n) { return n >= 0 ? _mm256_slli_epi16(a, n) : _mm256_srli_epi16(a, -n); }
VEC kb k_and_or(kb x, kb y, kb z) { return _mm256_or_si256(k_and(x, y), z); }

VEC kp k_both(const int16_t *a) {
    int32_t v;
    memcpy(&v, a, sizeof v);
    return _mm256_set1_epi32(v);
}
VEC kd kd_zero(void) { return _mm256_setzero_si256(); }
VEC kd kd_dot(kd acc, kb w, const int8_t *a) {
    int32_t v;
    memcpy(&v, a, sizeof v);
    acc = _mm256_add_epi16(acc, _mm256_maddubs_epi16(w, _mm256_set1_epi32(v)));
    K_KEEP(acc);
    return acc;
}
VEC ki k_scaled(ki sum, kd hi, kd lo, ks scale) {
    __m256i h = _mm256_slli_epi32(_mm256_madd_epi16(hi, scale), ACT_LOW_BITS);
    return _mm256_add_epi32(sum, _mm256_add_epi32(h, _mm256_madd_epi16(lo, scale)));
}

VEC kp k_even(kb v) { return _mm256_and_si256(v, _mm256_set1_epi16(255)); }
VEC kp k_odd(kb v) { return _mm256_srli_epi16(v, 8); }
VEC kp k_mul(kp a, kp b) { return _mm256_mullo_epi16(a, b); }
VEC kp k_sub(kp a, kp b) { return _mm256_sub_epi16(a, b); }
VEC kp k_pair_of(int even, int odd) { return _mm256_set1_epi32(odd << 16 | (even & 0xFFFF)); }
VEC kp k_pair_load(const int16_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
VEC void k_pair_store(int16_t *p, kp v) { _mm256_storeu_si256((__m256i *)p, v); }
/* four bytes of each row by their number, 0 where the number has its top bit */
VEC __m256i k_pick(kb v, const uint32_t bytes) {
    const __m256i row = _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0C0C0C0C));
    return _mm256_shuffle_epi8(v, _mm256_add_epi8(row, _mm256_set1_epi32((int)bytes)));
}
VEC kp k_twice_u(kb v, const int i) { return k_pick(v, 0x80008000u | (uint32_t)i * 0x00010001u); }
VEC kp k_twice_s(kb v, const int i) { return _mm256_srai_epi16(k_pick(v, (uint32_t)i * 0x01010101u), 8); }
VEC kp k_two_s(kb v, const int i) {
    return _mm256_srai_epi16(k_pick(v, 0x01010000u + 2u * (uint32_t)i * 0x01010101u), 8);
}
VEC ks k_scale_u(kb v, const int i) { return k_twice_u(v, i); }
VEC ks k_scale_s(kb v, const int i) { return k_twice_s(v, i); }

VEC ki ki_zero(void) { return _mm256_setzero_si256(); }
VEC ki ki_dot(ki acc, kp w, kp a) {
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(w, a));
    K_KEEP(acc);
    return acc;
}
VEC ki ki_dot_at(ki acc, kp w, const int16_t *a) { return ki_dot(acc, w, k_both(a)); }
VEC ki ki_less32(ki a, ki b) { return _mm256_sub_epi32(a, _mm256_slli_epi32(b, 5)); }

VEC kf kf_zero(void) { return _mm256_setzero_ps(); }
VEC kf kf_set1(float x) { return _mm256_set1_ps(x); }
VEC kf kf_load(const float *p) { return _mm256_loadu_ps(p); }
VEC void kf_store(float *p, kf x) { _mm256_storeu_ps(p, x); }
VEC kf kf_add(kf a, kf b) { return _mm256_add_ps(a, b); }
VEC kf kf_mul(kf a, kf b) { return _mm256_mul_ps(a, b); }
VEC kf kf_fma(kf a, kf b, kf c) { return _mm256_fmadd_ps(a, b, c); }
VEC kf kf_less(kf a, kf b, kf c) { return _mm256_fnmadd_ps(a, b, c); }
VEC kf kf_int(ki a) { return _mm256_cvtepi32_ps(a); }
VEC kf k_words_to_floats(__m256i v) { /* the low half of each word, the high one being 0 */
    return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)));
}
VEC kf kf_low_half(kb v) { return k_words_to_floats(_mm256_and_si256(v, _mm256_set1_epi32(0xFFFF))); }
VEC kf kf_high_half(kb v) { return k_words_to_floats(_mm256_srli_epi32(v, 16)); }

#endif
