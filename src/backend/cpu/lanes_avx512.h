// clang-format off
/* Sixteen rows to a register: lanes.h on AVX-512 with VNNI. */
#ifndef CPU_LANES_AVX512_H
#define CPU_LANES_AVX512_H

#define TILE_T 6 /* tokens of a tile */
enum { LANES = 16, FEW_T = 4, FEW_MAX = 16, TILE_R = 4 /* registers of rows of a tile */ };
typedef __m512i kb; /* 4 bytes of each row */
typedef __m512i kp; /* a pair of int16 of each row */
typedef __m512i ki; /* an int32 of each row */
typedef __m512 kf;  /* a float of each row */
typedef ki kd;      /* a sum over a sub-block of products of bytes, until it meets the scale */
typedef ki ks;      /* what it meets then */

/* This sum is made here, before any later load: left alone, gcc keeps its parts, more than there are registers for. */
#define K_STEP_END(x) __asm__ volatile("" : "+v"(x) : : "memory")

VEC kb k_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
VEC kb k_byte(int x) { return _mm512_set1_epi8((char)x); }
VEC kb k_and(kb a, kb b) { return _mm512_and_si512(a, b); }
VEC kb k_shift(kb a, const int n) {
    return n >= 0 ? _mm512_slli_epi16(a, (unsigned)(n & 15)) : _mm512_srli_epi16(a, (unsigned)(-n & 15));
}
/* (x & y) | z */
VEC kb k_and_or(kb x, kb y, kb z) { return _mm512_ternarylogic_epi32(x, y, z, 0xEA); }

VEC kd kd_zero(void) { return _mm512_setzero_si512(); }
/* in assembly because gcc 12 copies the accumulators of the intrinsic in and out of other registers */
VEC kd kd_dot(kd acc, kb w, const int8_t *a) {
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(w), "m"(*(const int8_t(*)[4])a));
    return acc;
}
VEC ki k_scaled(ki sum, kd hi, kd lo, ks scale) {
    return _mm512_add_epi32(sum, _mm512_mullo_epi32(_mm512_add_epi32(_mm512_slli_epi32(hi, ACT_LOW_BITS), lo), scale));
}
/* four bytes of each row by their number, 0 where the number has its top bit */
VEC __m512i k_pick(kb v, const uint32_t bytes) {
    const __m512i row = _mm512_set4_epi32(0x0C0C0C0C, 0x08080808, 0x04040404, 0);
    return _mm512_shuffle_epi8(v, _mm512_add_epi8(row, _mm512_set1_epi32((int)bytes)));
}
VEC ks k_scale_u(kb v, const int i) { return k_pick(v, 0x80808000u | (uint32_t)i); }
VEC ks k_scale_s(kb v, const int i) { return _mm512_srai_epi32(_mm512_slli_epi32(v, 24 - 8 * (unsigned)i), 24); }

VEC kp k_pair_of(int even, int odd) { return _mm512_set1_epi32(odd << 16 | (even & 0xFFFF)); }
VEC kp k_even(kb v) { return _mm512_and_si512(v, _mm512_set1_epi16(255)); }
VEC kp k_odd(kb v) { return _mm512_srli_epi16(v, 8); }
VEC kp k_mul(kp a, kp b) { return _mm512_mullo_epi16(a, b); }
VEC kp k_sub(kp a, kp b) { return _mm512_sub_epi16(a, b); }
VEC kp k_pair_load(const int16_t *p) { return _mm512_loadu_si512(p); }
VEC void k_pair_store(int16_t *p, kp v) { _mm512_storeu_si512(p, v); }
/* byte i of each row twice, as it is or with its sign */
VEC kp k_twice_u(kb v, const int i) { return k_pick(v, 0x80008000u | (uint32_t)i * 0x00010001u); }
VEC kp k_twice_s(kb v, const int i) { return _mm512_srai_epi16(k_pick(v, (uint32_t)i * 0x01010101u), 8); }
/* bytes 2 i and 2 i + 1, with their signs */
VEC kp k_two_s(kb v, const int i) {
    return _mm512_srai_epi16(k_pick(v, 0x01010000u + 2u * (uint32_t)i * 0x01010101u), 8);
}

VEC ki ki_zero(void) { return _mm512_setzero_si512(); }
VEC ki ki_dot(ki acc, kp w, kp a) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(a));
    return acc;
}
VEC kp k_both(const int16_t *a) { /* a[0] and a[1] for every row */
    int32_t v;
    memcpy(&v, a, sizeof v);
    kp r = _mm512_set1_epi32(v);
    __asm__("" : "+v"(r)); /* stays in its register */
    return r;
}
VEC ki ki_dot_at(ki acc, kp w, const int16_t *a) {
    __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(w), "m"(*(const int16_t(*)[2])a));
    return acc;
}
VEC ki ki_less32(ki a, ki b) { return _mm512_sub_epi32(a, _mm512_slli_epi32(b, 5)); }

VEC kf kf_zero(void) { return _mm512_setzero_ps(); }
VEC kf kf_set1(float x) { return _mm512_set1_ps(x); }
VEC kf kf_load(const float *p) { return _mm512_loadu_ps(p); }
VEC void kf_store(float *p, kf x) { _mm512_storeu_ps(p, x); }
VEC kf kf_add(kf a, kf b) { return _mm512_add_ps(a, b); }
VEC kf kf_mul(kf a, kf b) { return _mm512_mul_ps(a, b); }
VEC kf kf_fma(kf a, kf b, kf c) { return _mm512_fmadd_ps(a, b, c); }
VEC kf kf_less(kf a, kf b, kf c) { return _mm512_fnmadd_ps(a, b, c); } /* c - a * b */
VEC kf kf_int(ki a) { return _mm512_cvtepi32_ps(a); }
/* from F16: the low or the high halves of words */
VEC kf kf_low_half(kb v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
VEC kf kf_high_half(kb v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(v, 16))); }

#endif
