// clang-format off
/*
 * Products of K-quant strips (strips.h) with 12-bit activations, part of kernels.inc.h: a lane is a row, activations are broadcast, and
 * nothing is added across lanes. Inside a block of 256 everything is an integer that fits int32 however it is summed
 * (docs/numerics.md), so each form below is free to choose its own order:
 *   few     up to FEW_MAX tokens, FEW_T at a time: quants stay bytes and meet the activations' two planes; bound by memory
 *   panels  more tokens: four strips of one block become int16 (scale * quant) in the first-level cache and meet tiles of tokens
 * Then one float step per block, blocks in order.
 */

/* Arrays stay in registers only where loops over them are unrolled altogether. Portable code is not for speed. */
#if defined(__AVX2__) || defined(__ARM_FEATURE_DOTPROD)
#define UNROLL _Pragma("GCC unroll 16")
#else
#define UNROLL
#endif
/* Inner loops are functions of their own: inlined into one another they run out of registers. */
#define KERNEL static __attribute__((noinline))

/* ---- Registers of LANES rows ---- */

#if defined(__AVX512F__)
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
VEC kb k_shift(kb a, const int n) { return n >= 0 ? _mm512_slli_epi16(a, (unsigned)(n & 15)) : _mm512_srli_epi16(a, (unsigned)(-n & 15)); }
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
VEC ks k_scale_u(kb v, const int i) { return _mm512_maskz_shuffle_epi8(0x1111111111111111, v, _mm512_add_epi32(_mm512_set4_epi32(12, 8, 4, 0), _mm512_set1_epi32(i))); }
VEC ks k_scale_s(kb v, const int i) { return _mm512_srai_epi32(_mm512_slli_epi32(v, 24 - 8 * (unsigned)i), 24); }

VEC kp k_pair_of(int even, int odd) { return _mm512_set1_epi32(odd << 16 | (even & 0xFFFF)); }
VEC kp k_even(kb v) { return _mm512_and_si512(v, _mm512_set1_epi16(255)); }
VEC kp k_odd(kb v) { return _mm512_srli_epi16(v, 8); }
VEC kp k_mul(kp a, kp b) { return _mm512_mullo_epi16(a, b); }
VEC kp k_sub(kp a, kp b) { return _mm512_sub_epi16(a, b); }
VEC kp k_pair_load(const int16_t *p) { return _mm512_loadu_si512(p); }
VEC void k_pair_store(int16_t *p, kp v) { _mm512_storeu_si512(p, v); }
/* byte i of each row twice, as it is or with its sign */
VEC kp k_twice_u(kb v, const int i) {
    return _mm512_maskz_shuffle_epi8(0x5555555555555555, v, _mm512_add_epi8(_mm512_set4_epi32(0x0C0C0C0C, 0x08080808, 0x04040404, 0), _mm512_set1_epi8((char)i)));
}
VEC kp k_twice_s(kb v, const int i) {
    return _mm512_srai_epi16(_mm512_shuffle_epi8(v, _mm512_add_epi8(_mm512_set4_epi32(0x0C0C0C0C, 0x08080808, 0x04040404, 0), _mm512_set1_epi8((char)i))), 8);
}
/* bytes 2 i and 2 i + 1, with their signs */
VEC kp k_two_s(kb v, const int i) {
    return _mm512_srai_epi16(_mm512_shuffle_epi8(v, _mm512_add_epi8(_mm512_set4_epi32(0x0D0D0C0C, 0x09090808, 0x05050404, 0x01010000), _mm512_set1_epi8((char)(2 * i)))), 8);
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

#elif defined(__AVX2__)
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
VEC __m256i k_pick(kb v, const uint32_t word) { /* bytes of each row by their number, which the top bit of a byte turns to 0 */
    return _mm256_shuffle_epi8(v, _mm256_add_epi8(_mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0C0C0C0C, 0, 0x04040404, 0x08080808, 0x0C0C0C0C),
                                                  _mm256_set1_epi32((int)word)));
}
VEC kp k_twice_u(kb v, const int i) { return k_pick(v, 0x80008000u | (uint32_t)i * 0x00010001u); }
VEC kp k_twice_s(kb v, const int i) { return _mm256_srai_epi16(k_pick(v, (uint32_t)i * 0x01010101u), 8); }
VEC kp k_two_s(kb v, const int i) { return _mm256_srai_epi16(k_pick(v, 0x01010000u + 2u * (uint32_t)i * 0x01010101u), 8); }
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

#elif defined(__ARM_FEATURE_DOTPROD)
#include "backend/cpu/kneon.inc.h"

#else
#define TILE_T 2
enum { LANES = 16, FEW_T = 2, FEW_MAX = 4, TILE_R = 1 };
typedef uint8_t kb __attribute__((vector_size(64), aligned(4)));
typedef int16_t kp __attribute__((vector_size(64), aligned(4)));
typedef uint32_t ki __attribute__((vector_size(64), aligned(4))); /* sums may wrap on the way */
typedef int32_t ki_signed __attribute__((vector_size(64), aligned(4)));
typedef float kf __attribute__((vector_size(64), aligned(4)));
typedef ki kd;
typedef ki ks;
#define K_STEP_END(x) ((void)(x))

VEC kb k_load(const uint8_t *p) {
    kb v;
    memcpy(&v, p, sizeof v);
    return v;
}
VEC kb k_byte(int x) { return (kb){0} + (uint8_t)x; }
VEC kb k_and(kb a, kb b) { return a & b; }
VEC kb k_shift(kb a, const int n) { return n >= 0 ? (kb)((ki)a << n) : (kb)((ki)a >> -n); }
VEC kb k_and_or(kb x, kb y, kb z) { return (x & y) | z; }

VEC ki k_byte_u(kb v, const int i) { return (ki)v >> 8 * i & 255; }
VEC ki k_byte_s(kb v, const int i) { return (ki)((ki_signed)((ki)v << (24 - 8 * i)) >> 24); }
VEC kp k_join(ki even, ki odd) { return (kp)((even & 0xFFFF) | odd << 16); }

VEC kd kd_zero(void) { return (kd){0}; }
VEC kd kd_dot(kd acc, kb w, const int8_t *a) {
    return acc + k_byte_u(w, 0) * (uint32_t)a[0] + k_byte_u(w, 1) * (uint32_t)a[1] + k_byte_u(w, 2) * (uint32_t)a[2] +
           k_byte_u(w, 3) * (uint32_t)a[3];
}
VEC ki k_scaled(ki sum, kd hi, kd lo, ks scale) { return sum + ((hi << ACT_LOW_BITS) + lo) * scale; }
VEC ks k_scale_u(kb v, const int i) { return k_byte_u(v, i); }
VEC ks k_scale_s(kb v, const int i) { return k_byte_s(v, i); }

VEC kp k_pair_of(int even, int odd) { return k_join((ki){0} + (uint32_t)even, (ki){0} + (uint32_t)odd); }
VEC kp k_even(kb v) { return (kp)((ki)v & 0x00FF00FF); }
VEC kp k_odd(kb v) { return (kp)((ki)v >> 8 & 0x00FF00FF); }
VEC kp k_mul(kp a, kp b) { return a * b; }
VEC kp k_sub(kp a, kp b) { return a - b; }
VEC kp k_pair_load(const int16_t *p) {
    kp v;
    memcpy(&v, p, sizeof v);
    return v;
}
VEC void k_pair_store(int16_t *p, kp v) { memcpy(p, &v, sizeof v); }
VEC kp k_twice_u(kb v, const int i) { return k_join(k_byte_u(v, i), k_byte_u(v, i)); }
VEC kp k_twice_s(kb v, const int i) { return k_join(k_byte_s(v, i), k_byte_s(v, i)); }
VEC kp k_two_s(kb v, const int i) { return k_join(k_byte_s(v, 2 * i), k_byte_s(v, 2 * i + 1)); }

VEC ki ki_zero(void) { return (ki){0}; }
VEC kp k_both(const int16_t *a) { return k_pair_of(a[0], a[1]); }
VEC ki ki_dot(ki acc, kp w, kp a) {
    ki even = (ki)((ki_signed)((ki)w << 16) >> 16) * (ki)((ki_signed)((ki)a << 16) >> 16);
    return acc + even + (ki)((ki_signed)w >> 16) * (ki)((ki_signed)a >> 16);
}
VEC ki ki_dot_at(ki acc, kp w, const int16_t *a) { return ki_dot(acc, w, k_both(a)); }
VEC ki ki_less32(ki a, ki b) { return a - (b << 5); }

VEC kf kf_zero(void) { return (kf){0}; }
VEC kf kf_set1(float x) { return x - (kf){0}; }
VEC kf kf_load(const float *p) {
    kf v;
    memcpy(&v, p, sizeof v);
    return v;
}
VEC void kf_store(float *p, kf x) { memcpy(p, &x, sizeof x); }
VEC kf kf_add(kf a, kf b) { return a + b; }
VEC kf kf_mul(kf a, kf b) { return a * b; }
KERNEL kf kf_fma(kf a, kf b, kf c) {
    for (int r = 0; r < LANES; r++) {
        c[r] = fmaf(a[r], b[r], c[r]);
    }
    return c;
}
VEC kf kf_less(kf a, kf b, kf c) { return kf_fma(-a, b, c); }
VEC kf kf_int(ki a) { return __builtin_convertvector((ki_signed)a, kf); }
KERNEL kf k_half_floats(ki v) {
    kf y;
    for (int r = 0; r < LANES; r++) {
        y[r] = f16_to_f32((uint16_t)v[r]);
    }
    return y;
}
VEC kf kf_low_half(kb v) { return k_half_floats((ki)v); }
VEC kf kf_high_half(kb v) { return k_half_floats((ki)v >> 16); }
#endif

enum { PARTS = STRIP_ROWS / LANES, PART_BYTES = LANES * 4 };

/* ---- What is particular to a type ---- */

/* A word of quants gives two: those of sub-blocks of `width` columns that begin at `column`. A block takes QK / (2 * width) steps. */
struct k_two {
    kb q[2];
};
struct k_type {
    uint32_t words;
    int d, width;
    bool has_mins; /* else quants are less 32 and scales have signs */
    struct k_two (*quants)(const uint8_t *block, const int step, const int group);
    int (*column)(const int step, const int which);
};

#if !defined(__ARM_FEATURE_DOTPROD)
VEC kb k_high(kb v) { return k_and(k_shift(v, -4), k_byte(15)); } /* the high halves of bytes */
#endif
VEC kb k_word(const uint8_t *block, const int i) { return k_load(block + (size_t)i * STRIP_LINE); }

VEC int column_q4_k(const int step, const int which) { return 64 * step + 32 * which; }
#define column_q5_k column_q4_k

VEC struct k_two quants_q4_k(const uint8_t *block, const int step, const int group) {
    kb v = k_word(block, Q4_K_QS + 8 * step + group);
    return (struct k_two){{k_and(v, k_byte(15)), k_high(v)}};
}

VEC struct k_two quants_q5_k(const uint8_t *block, const int step, const int group) {
    kb v = k_word(block, Q5_K_QS + 8 * step + group);
    kb h = k_word(block, Q5_K_QH + group);
    kb low = k_and(v, k_byte(15));
    kb high = k_high(v);
    return (struct k_two){{k_and_or(k_shift(h, 4 - 2 * step), k_byte(16), low), k_and_or(k_shift(h, 3 - 2 * step), k_byte(16), high)}};
}

/* step: half of the block, the word of low bits, half of its sub-block */
VEC int column_q6_k(const int step, const int which) { return 128 * (step / 4) + 32 * (step / 2 % 2) + 16 * (step % 2) + 64 * which; }

VEC struct k_two quants_q6_k(const uint8_t *block, const int step, const int group) {
    const int s = step / 2 % 2;
    kb v = k_word(block, Q6_K_QL + 16 * (step / 4) + 8 * s + 4 * (step % 2) + group);
    kb h = k_word(block, Q6_K_QH + 8 * (step / 4) + 4 * (step % 2) + group);
    kb low = k_and(v, k_byte(15));
    kb high = k_high(v);
    return (struct k_two){{k_and_or(k_shift(h, 4 - 2 * s), k_byte(48), low), k_and_or(k_shift(h, -2 * s), k_byte(48), high)}};
}

#define K_TYPE_q4_k ((struct k_type){Q4_K_WORDS, Q4_K_D, 32, true, quants_q4_k, column_q4_k})
#define K_TYPE_q5_k ((struct k_type){Q5_K_WORDS, Q4_K_D, 32, true, quants_q5_k, column_q5_k})
#define K_TYPE_q6_k ((struct k_type){Q6_K_WORDS, Q6_K_D, 16, false, quants_q6_k, column_q6_k})

/* A block's scales and minima as bytes: sub-block i in byte i % 4 of word i / 4. */
struct k_heads {
    kb scale[4], min[2];
};

VEC struct k_heads k_heads_of(const uint8_t *block, const struct k_type type) {
    struct k_heads h;
    if (!type.has_mins) {
        for (int i = 0; i < 4; i++) {
            h.scale[i] = k_word(block, Q6_K_SCALES + i);
        }
        return h;
    }
    kb a = k_word(block, Q4_K_SCALES);
    kb b = k_word(block, Q4_K_SCALES + 1);
    kb c = k_word(block, Q4_K_SCALES + 2);
    h.scale[0] = k_and(a, k_byte(63));
    h.min[0] = k_and(b, k_byte(63));
    h.scale[1] = k_and_or(k_shift(a, -2), k_byte(48), k_and(c, k_byte(15)));
    h.min[1] = k_and_or(k_shift(b, -2), k_byte(48), k_high(c));
    return h;
}

/* y of LANES rows from `row` on, as far as row1. */
VEC void put_rows(const struct mm *m, uint32_t i, uint32_t row, uint32_t row1, kf dot) {
    float *y = m->y + (size_t)(m->dst ? m->dst[i] : i) * m->y_stride + row;
    if (row1 - row < LANES) {
        float out[LANES];
        kf_store(out, dot);
        for (uint32_t r = 0; row + r < row1; r++) {
            put(m, i, row + r, out[r]);
        }
        return;
    }
    if (m->add) { /* as put */
        dot = m->gain ? kf_fma(kf_set1(m->gain[i]), dot, kf_load(y)) : kf_add(kf_load(y), dot);
    }
    kf_store(y, dot);
}

/* ---- Few tokens ---- */

/* Of a block's lines each part of the rows fetches its share. */
#define FETCH_LINES(type) ((int)((type).words + PARTS - 1) / PARTS)
enum { FEW_AHEAD = 8192 }; /* bytes between a strip's loads and its prefetches: SPEED.md */

#if defined(__ARM_FEATURE_DOTPROD)
/* As below, but for the 32. */
VEC void few_sums(const uint8_t *block, const uint8_t *ahead, const struct k_heads *heads,
                  const struct act_block *const *a, ki *sum, const int T, const struct k_type type) {
    UNROLL for (int t = 0; t < T; t++) {
        sum[t] = vdupq_n_u32(0);
    }
    const int groups = type.width / 4;
    const int steps = QK / (2 * type.width);
    const int lines = FETCH_LINES(type);
    UNROLL for (int step = 0; step < steps; step++) {
        UNROLL for (int line = step * lines / steps; line < (step + 1) * lines / steps; line++) {
            VEC_PREFETCH(ahead + (size_t)line * STRIP_LINE);
        }
        kb q[2][8];
        UNROLL for (int g = 0; g < groups; g++) {
            struct k_two w = type.quants(block, step, g);
            q[0][g] = type.has_mins ? w.q[0] : w.q[0] - k_byte(32);
            q[1][g] = type.has_mins ? w.q[1] : w.q[1] - k_byte(32);
        }
        UNROLL for (int p = 0; p < 2; p++) {
            const int c = type.column(step, p);
            const int i = c / type.width;
            ki scale = type.has_mins ? k_byte_u(heads->scale[i / 4], i % 4) : k_byte_s(heads->scale[i / 4], i % 4);
            UNROLL for (int t = 0; t < T; t++) {
                sum[t] = k_sub_block(sum[t], q[p], groups, a[t]->hi + c, a[t]->lo + c, scale);
            }
        }
    }
}
VEC ki few_rest(const struct k_heads *heads, const struct act_block *a, const struct k_type type) {
    return type.has_mins ? k_min_sums(heads->min, a->halves) : vdupq_n_u32(0);
}
#else
/* S of T tokens over one block; less the 32 of the quants if that is the type's way. Lines at `ahead` are fetched meanwhile. */
VEC void few_sums(const uint8_t *block, const uint8_t *ahead, const struct k_heads *heads, const struct act_block *const *a, ki *sum,
                  const int T, const struct k_type type) {
    UNROLL for (int t = 0; t < T; t++) {
        sum[t] = ki_zero();
    }
    const int groups = type.width / 4;
    const int steps = QK / (2 * type.width);
    UNROLL for (int step = 0; step < steps; step++) {
        kd hi[2][FEW_T];
        kd lo[2][FEW_T];
        UNROLL for (int t = 0; t < T; t++) {
            hi[0][t] = hi[1][t] = lo[0][t] = lo[1][t] = kd_zero();
        }
        UNROLL for (int g = 0; g < groups; g++) {
            const int at = step * groups + g; /* of 32: lines are fetched in their order */
            UNROLL for (int line = at * FETCH_LINES(type) / 32; line < (at + 1) * FETCH_LINES(type) / 32; line++) {
                VEC_PREFETCH(ahead + (size_t)line * STRIP_LINE);
            }
            struct k_two w = type.quants(block, step, g);
            UNROLL for (int p = 0; p < 2; p++) {
                const int c = type.column(step, p) + 4 * g;
                UNROLL for (int t = 0; t < T; t++) {
                    hi[p][t] = kd_dot(hi[p][t], w.q[p], a[t]->hi + c);
                    lo[p][t] = kd_dot(lo[p][t], w.q[p], a[t]->lo + c);
                }
            }
        }
        UNROLL for (int p = 0; p < 2; p++) {
            const int i = type.column(step, p) / type.width;
            ks scale = type.has_mins ? k_scale_u(heads->scale[i / 4], i % 4) : k_scale_s(heads->scale[i / 4], i % 4);
            UNROLL for (int t = 0; t < T; t++) {
                sum[t] = k_scaled(sum[t], hi[p][t], lo[p][t], scale);
                K_STEP_END(sum[t]);
            }
        }
    }
}
/* M; of a type without minima the sum of scale * a, of which the sums hold 32 too many. */
VEC ki few_rest(const struct k_heads *heads, const struct act_block *a, const struct k_type type) {
    ki rest = ki_zero();
    UNROLL for (int j = 0; j < 8; j++) {
        kp w = type.has_mins ? k_twice_u(heads->min[j / 4], j % 4) : k_two_s(heads->scale[j / 2], j % 2);
        rest = ki_dot_at(rest, w, a->halves + 2 * j);
    }
    return rest;
}
#endif

/* A strip against T tokens. `left`: bytes from here to the end of what this call reads. */
VEC void few_rows(const struct mm *m, const uint8_t *strip, size_t left, uint32_t row, uint32_t row1, uint32_t i, const int T,
                  const struct k_type type) {
    const uint32_t n_blocks = m->n_cols / QK;
    const size_t block_bytes = (size_t)type.words * STRIP_LINE;
    const uint8_t *block = strip;
    const struct act_block *a[FEW_T];
    kf acc[PARTS][FEW_T];
    UNROLL for (int t = 0; t < T; t++) {
        a[t] = m->x->blocks + (size_t)src_row(m, i + (uint32_t)t) * n_blocks;
        for (int part = 0; part < PARTS; part++) {
            acc[part][t] = kf_zero();
        }
    }
    for (uint32_t b = 0; b < n_blocks; b++) {
        /* past the end what this thread reads next, and the whole of that once the strip is */
        const uint8_t *ahead = left > FEW_AHEAD ? block + FEW_AHEAD : m->next ? m->next + (FEW_AHEAD - left) : block;
        left -= left > block_bytes ? block_bytes : left;
        for (int part = 0; part < PARTS; part++) {
            const uint8_t *words = block + part * PART_BYTES;
            struct k_heads heads = k_heads_of(words, type);
            ki sum[FEW_T];
            few_sums(words, ahead + part * FETCH_LINES(type) * STRIP_LINE, &heads, a, sum, T, type);
            kf d = kf_low_half(k_word(words, type.d));
            kf dmin = kf_high_half(k_word(words, type.d));
            UNROLL for (int t = 0; t < T; t++) {
                ki rest = few_rest(&heads, a[t], type);
                kf scale = kf_set1(a[t]->scale);
                if (type.has_mins) {
                    acc[part][t] = kf_fma(kf_int(sum[t]), kf_mul(d, scale), acc[part][t]);
                    acc[part][t] = kf_less(kf_int(rest), kf_mul(dmin, scale), acc[part][t]);
                } else {
                    acc[part][t] = kf_fma(kf_int(ki_less32(sum[t], rest)), kf_mul(d, scale), acc[part][t]);
                }
            }
        }
        block += block_bytes;
        UNROLL for (int t = 0; t < T; t++) {
            a[t]++;
        }
    }
    for (int part = 0; part < PARTS && row < row1; part++, row += LANES) {
        UNROLL for (int t = 0; t < T; t++) {
            put_rows(m, i + (uint32_t)t, row, row1, acc[part][t]);
        }
    }
}

typedef void (*few_fn)(const struct mm *m, const uint8_t *strip, size_t left, uint32_t row, uint32_t row1, uint32_t i);

#define FEW(type, T)                                                                                                   \
    KERNEL void few_##type##_##T(const struct mm *m, const uint8_t *strip, size_t left, uint32_t row, uint32_t row1, uint32_t i) { \
        few_rows(m, strip, left, row, row1, i, T, K_TYPE_##type);                                                      \
    }
#if defined(__AVX512F__)
#define FEW_ALL(type)                                                                                                  \
    FEW(type, 1) FEW(type, 2) FEW(type, 3) FEW(type, 4)                                                                \
    static const few_fn few_##type[] = {NULL, few_##type##_1, few_##type##_2, few_##type##_3, few_##type##_4};
#elif defined(__ARM_FEATURE_DOTPROD)
#define FEW_ALL(type)                                                                                                  \
    FEW(type, 1) FEW(type, 2) FEW(type, 3) FEW(type, 4) FEW(type, 5) FEW(type, 6) FEW(type, 7) FEW(type, 8)            \
    static const few_fn few_##type[] = {NULL,           few_##type##_1, few_##type##_2, few_##type##_3, few_##type##_4, \
                                        few_##type##_5, few_##type##_6, few_##type##_7, few_##type##_8};
#else
#define FEW_ALL(type)                                                                                                  \
    FEW(type, 1) FEW(type, 2)                                                                                          \
    static const few_fn few_##type[] = {NULL, few_##type##_1, few_##type##_2};
#endif

static void few(const struct mm *m, uint32_t row0, uint32_t row1, const few_fn *of) {
    const size_t bytes = strip_bytes(m->type, m->n_cols);
    const uint8_t *strip = m->w + row0 / STRIP_ROWS * bytes;
    size_t left = (row1 - row0 + STRIP_ROWS - 1) / STRIP_ROWS * bytes;
    for (uint32_t row = row0; row < row1; row += STRIP_ROWS, strip += bytes, left -= bytes) {
        for (uint32_t i = 0; i < m->n; i += FEW_T) {
            of[m->n - i < FEW_T ? m->n - i : FEW_T](m, strip, left, row, row1, i);
        }
    }
}

#if defined(__ARM_FEATURE_DOTPROD)
#define K_MATMUL(type)                                                                                                 \
    FEW_ALL(type)                                                                                                      \
    static void matmul_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {                       \
        (void)scratch;                                                                                                 \
        few(m, row0, row1, few_##type);                                                                                \
    }
#else

/* ---- Panels ---- */

enum {
    PANEL_STRIPS = PANEL / STRIP_ROWS,
    PANEL_PAIRS = QK / 2 * STRIP_ROWS * 2 + 32, /* elements of a strip's block; apart by more, so that they do not meet in one set */
    PANEL_MINS = 8 * STRIP_ROWS * 2,
};

/* A panel in scratch: PANEL rows of one block, and its sums over all blocks so far. */
struct panel {
    int16_t *w;     /* [PANEL_STRIPS][QK / 2] pairs of columns of 16 rows, scale * quant, in the order of struct act_block.a */
    int16_t *mins;  /* [PANEL_STRIPS][8] m twice, of 16 rows */
    float *d, *dmin; /* [PANEL] */
    float *acc;     /* [KERNELS_PASS][PANEL] */
};

VEC struct panel panel_at(void *scratch) {
    struct panel p;
    p.w = scratch;
    p.mins = p.w + PANEL_STRIPS * PANEL_PAIRS;
    p.d = (float *)(void *)(p.mins + PANEL_STRIPS * PANEL_MINS);
    p.dmin = p.d + PANEL;
    p.acc = p.dmin + PANEL;
    return p;
}

/* Block b of strip s of the panel. */
VEC void panel_unpack(const struct panel *pn, uint32_t s, const uint8_t *strip, uint32_t b, const struct k_type type) {
    for (int part = 0; part < PARTS; part++) {
        const uint8_t *block = strip + (size_t)b * type.words * STRIP_LINE + part * PART_BYTES;
        struct k_heads heads = k_heads_of(block, type);
        int16_t *w = pn->w + (size_t)s * PANEL_PAIRS + part * 2 * LANES;
        const int groups = type.width / 4;
        const int steps = QK / (2 * type.width);
        UNROLL for (int step = 0; step < steps; step++) {
            UNROLL for (int p = 0; p < 2; p++) {
                const int c = type.column(step, p);
                const int i = c / type.width;
                kp scale = type.has_mins ? k_twice_u(heads.scale[i / 4], i % 4) : k_twice_s(heads.scale[i / 4], i % 4);
                for (int g = 0; g < groups; g++) {
                    kb q = type.quants(block, step, g).q[p];
                    kp even = k_even(q);
                    kp odd = k_odd(q);
                    if (!type.has_mins) {
                        even = k_sub(even, k_pair_of(32, 32));
                        odd = k_sub(odd, k_pair_of(32, 32));
                    }
                    int16_t *to = w + (size_t)(c / 4 + g) * 2 * (2 * STRIP_ROWS);
                    k_pair_store(to, k_mul(even, scale));
                    k_pair_store(to + 2 * STRIP_ROWS, k_mul(odd, scale));
                }
            }
        }
        uint32_t row = s * STRIP_ROWS + (uint32_t)part * LANES;
        kf_store(pn->d + row, kf_low_half(k_word(block, type.d)));
        if (type.has_mins) {
            kf_store(pn->dmin + row, kf_high_half(k_word(block, type.d)));
            UNROLL for (int j = 0; j < 8; j++) {
                k_pair_store(pn->mins + (size_t)s * PANEL_MINS + j * 2 * STRIP_ROWS + part * 2 * LANES, k_twice_u(heads.min[j / 4], j % 4));
            }
        }
    }
}

/* One block of R registers of rows, from strip s on, against T tokens. */
VEC void k_tile(const struct panel *pn, uint32_t s, const struct act_block *const *a, float *acc, const int R, const int T) {
    ki sum[TILE_T][TILE_R];
    UNROLL for (int t = 0; t < T; t++) {
        UNROLL for (int r = 0; r < R; r++) {
            sum[t][r] = ki_zero();
        }
    }
    const int16_t *w = pn->w + (size_t)s * PANEL_PAIRS;
    _Pragma("GCC unroll 1") for (int c = 0; c < QK / 2; c++) {
        kp row[TILE_R];
        UNROLL for (int r = 0; r < R; r++) {
            row[r] = k_pair_load(w + (size_t)(r / PARTS) * PANEL_PAIRS + c * 2 * STRIP_ROWS + r % PARTS * 2 * LANES);
        }
        UNROLL for (int t = 0; t < T; t++) {
            kp x = k_both(a[t]->a + 2 * c);
            UNROLL for (int r = 0; r < R; r++) {
                sum[t][r] = ki_dot(sum[t][r], row[r], x);
            }
        }
    }
    UNROLL for (int r = 0; r < R; r++) {
        const uint32_t row = s * STRIP_ROWS + (uint32_t)r * LANES;
        kf d = kf_load(pn->d + row);
        UNROLL for (int t = 0; t < T; t++) {
            float *at = acc + (size_t)t * PANEL + row;
            kf_store(at, kf_fma(kf_int(sum[t][r]), kf_mul(d, kf_set1(a[t]->scale)), kf_load(at)));
        }
    }
}

/* The minima's part of the same. */
VEC void k_tile_mins(const struct panel *pn, uint32_t s, const struct act_block *const *a, float *acc, const int R, const int T) {
    UNROLL for (int r = 0; r < R; r++) {
        const uint32_t row = s * STRIP_ROWS + (uint32_t)r * LANES;
        const int16_t *mins = pn->mins + (s + (size_t)(r / PARTS)) * PANEL_MINS + r % PARTS * 2 * LANES;
        ki sum[TILE_T];
        UNROLL for (int t = 0; t < T; t++) {
            sum[t] = ki_zero();
        }
        UNROLL for (int j = 0; j < 8; j++) {
            kp min = k_pair_load(mins + j * 2 * STRIP_ROWS);
            UNROLL for (int t = 0; t < T; t++) {
                sum[t] = ki_dot_at(sum[t], min, a[t]->halves + 2 * j);
            }
        }
        kf dmin = kf_load(pn->dmin + row);
        UNROLL for (int t = 0; t < T; t++) {
            float *at = acc + (size_t)t * PANEL + row;
            kf_store(at, kf_less(kf_int(sum[t]), kf_mul(dmin, kf_set1(a[t]->scale)), kf_load(at)));
        }
    }
}

typedef void (*tile_fn)(const struct panel *pn, uint32_t strips, const struct act_block *const *a, float *acc);

/* T tokens against the panel's strips. */
#define TILES(name, tile, T)                                                                                           \
    KERNEL void name##_##T(const struct panel *pn, uint32_t strips, const struct act_block *const *a, float *acc) {    \
        uint32_t s = 0;                                                                                                \
        for (; s + TILE_R / PARTS <= strips; s += TILE_R / PARTS) {                                                    \
            tile(pn, s, a, acc, TILE_R, T);                                                                            \
        }                                                                                                              \
        for (; s < strips; s++) {                                                                                      \
            tile(pn, s, a, acc, PARTS, T);                                                                             \
        }                                                                                                              \
    }
#if TILE_T == 6
#define TILES_ALL(name, tile)                                                                                          \
    TILES(name, tile, 1) TILES(name, tile, 2) TILES(name, tile, 3) TILES(name, tile, 4) TILES(name, tile, 5) TILES(name, tile, 6) \
    static const tile_fn name[] = {NULL, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6};
#elif TILE_T == 5
#define TILES_ALL(name, tile)                                                                                          \
    TILES(name, tile, 1) TILES(name, tile, 2) TILES(name, tile, 3) TILES(name, tile, 4) TILES(name, tile, 5)           \
    static const tile_fn name[] = {NULL, name##_1, name##_2, name##_3, name##_4, name##_5};
#else
#define TILES_ALL(name, tile)                                                                                          \
    TILES(name, tile, 1) TILES(name, tile, 2)                                                                          \
    static const tile_fn name[] = {NULL, name##_1, name##_2};
#endif
TILES_ALL(tiles, k_tile)
TILES_ALL(tiles_mins, k_tile_mins)

/* Block b of the panel against tokens [i0, i0 + n). */
static void panel_block(const struct mm *m, const struct panel *pn, uint32_t b, uint32_t strips, uint32_t i0, uint32_t n, bool has_mins) {
    const uint32_t n_blocks = m->n_cols / QK;
    for (uint32_t i = 0; i < n; i += TILE_T) {
        uint32_t T = n - i < TILE_T ? n - i : TILE_T;
        const struct act_block *a[TILE_T];
        for (uint32_t t = 0; t < T; t++) {
            a[t] = m->x->blocks + (size_t)src_row(m, i0 + i + t) * n_blocks + b;
        }
        for (uint32_t t = 0; t < TILE_T && i + TILE_T + t < n; t++) { /* the next tokens' are not where hardware looks */
            const struct act_block *next = m->x->blocks + (size_t)src_row(m, i0 + i + TILE_T + t) * n_blocks + b;
            for (int c = 0; c < QK; c += 32) {
                VEC_PREFETCH(next->a + c);
            }
        }
        float *acc = pn->acc + (size_t)i * PANEL;
        tiles[T](pn, strips, a, acc);
        if (has_mins) {
            tiles_mins[T](pn, strips, a, acc);
        }
    }
}

typedef void (*unpack_fn)(const struct panel *pn, uint32_t s, const uint8_t *strip, uint32_t b);

/* Rows [row0, row1) against tokens [i0, i0 + n), n <= KERNELS_PASS. */
static void k_pass(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0, uint32_t n, unpack_fn unpack, bool has_mins) {
    const struct panel pn = panel_at(scratch);
    const uint32_t n_blocks = m->n_cols / QK;
    const size_t bytes = strip_bytes(m->type, m->n_cols);
    const size_t block_bytes = strip_words(m->type) * (size_t)STRIP_LINE;
    for (uint32_t row = row0; row < row1; row += PANEL) {
        const uint8_t *first = m->w + row / STRIP_ROWS * bytes;
        uint32_t rows = row1 - row < PANEL ? row1 - row : PANEL;
        uint32_t strips = (rows + STRIP_ROWS - 1) / STRIP_ROWS;
        memset(pn.acc, 0, (size_t)n * PANEL * sizeof(float));
        for (uint32_t b = 0; b < n_blocks; b++) {
            for (uint32_t s = 0; s < strips; s++) {
                const uint8_t *strip = first + s * bytes;
                for (size_t c = 0; c < block_bytes; c += STRIP_LINE) { /* the same block of the next panel */
                    VEC_PREFETCH(strip + b * block_bytes + PANEL_STRIPS * bytes + c);
                }
                unpack(&pn, s, strip, b);
            }
            panel_block(m, &pn, b, strips, i0, n, has_mins);
        }
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t r = 0; r < rows; r += LANES) {
                put_rows(m, i0 + i, row + r, row + rows, kf_load(pn.acc + (size_t)i * PANEL + r));
            }
        }
    }
}

#if defined(__AMX_INT8__) && defined(AMX_STRIPS)
#include "backend/cpu/kamx.inc.h"
#define K_PASS(m, type) ((m)->packs && (m)->n >= KERNELS_PACK_MIN ? amx_##type : pass_##type)
#else
#define K_PASS(m, type) pass_##type
#endif

#define K_MATMUL(type)                                                                                                 \
    FEW_ALL(type)                                                                                                      \
    KERNEL void unpack_##type(const struct panel *pn, uint32_t s, const uint8_t *strip, uint32_t b) {   \
        panel_unpack(pn, s, strip, b, K_TYPE_##type);                                                        \
    }                                                                                                                  \
    static void pass_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0, uint32_t n) { \
        k_pass(m, row0, row1, scratch, i0, n, unpack_##type, K_TYPE_##type.has_mins);                                  \
    }                                                                                                                  \
    static void matmul_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {                       \
        if (m->n <= FEW_MAX) {                                                                                \
            few(m, row0, row1, few_##type);                                                                            \
            return;                                                                                                    \
        }                                                                                                              \
        for (uint32_t i = 0; i < m->n; i += KERNELS_PASS) {                                                            \
            K_PASS(m, type)(m, row0, row1, scratch, i, m->n - i < KERNELS_PASS ? m->n - i : KERNELS_PASS);             \
        }                                                                                                              \
    }
#endif

K_MATMUL(q4_k)
K_MATMUL(q5_k)
K_MATMUL(q6_k)
