// clang-format off
/*
 * Four rows to a register: lanes.h on NEON with dot products, and the sums of few tokens, which are of its own form.
 * sdot multiplies four bytes of each row by four columns, which it takes from a lane of a register that holds sixteen.
 * The quants of two sub-blocks are unpacked once and stay in registers; a token then needs one accumulator: plane hi, a
 * shift, plane lo, and at the end the scale. FEW_T tokens at a time, that takes as many instructions as panels did with
 * their unpacking left out (SPEED.md): there are none here.
 */
#ifndef CPU_LANES_NEON_H
#define CPU_LANES_NEON_H

enum { LANES = 4, FEW_T = 8 };
typedef uint8x16_t kb;  /* 4 bytes of each row */
typedef uint32x4_t ki;  /* an int32 of each row; sums may wrap on the way */
typedef float32x4_t kf; /* a float of each row */

/* No load moves across: left alone, gcc starts more of them than there are registers for. */
#define STEP_END __asm__ volatile("" ::: "memory")

VEC kb k_load(const uint8_t *p) { return vld1q_u8(p); }
VEC kb k_byte(int x) { return vdupq_n_u8((uint8_t)x); }
VEC kb k_and(kb a, kb b) { return vandq_u8(a, b); }
VEC kb k_shift(kb a, const int n) { return n >= 0 ? a << (uint8_t)n : a >> (uint8_t)-n; }
VEC kb k_high(kb v) { return vshrq_n_u8(v, 4); }
VEC kb k_and_or(kb x, kb y, kb z) { return vbslq_u8(y, x, z); } /* z has no bits of y */

/* byte i of each row, as it is or with its sign */
VEC ki k_byte_u(kb v, const int i) { return vreinterpretq_u32_u8(v) << (24 - 8 * (uint32_t)i) >> 24; }
VEC ki k_byte_s(kb v, const int i) {
    return (ki)((int32x4_t)(vreinterpretq_u32_u8(v) << (24 - 8 * (uint32_t)i)) >> 24);
}

/* Lane numbers are part of an instruction; these fold to one when inlined. */
VEC ki mla_lane(ki acc, ki x, int32x4_t y, const int lane) {
    ki by = vreinterpretq_u32_s32(y);
    return lane == 0   ? vmlaq_laneq_u32(acc, x, by, 0)
           : lane == 1 ? vmlaq_laneq_u32(acc, x, by, 1)
           : lane == 2 ? vmlaq_laneq_u32(acc, x, by, 2)
                       : vmlaq_laneq_u32(acc, x, by, 3);
}
VEC int32x4_t dot_lane(int32x4_t acc, kb w, int8x16_t a, const int lane) {
    int8x16_t q = vreinterpretq_s8_u8(w);
    return lane == 0   ? vdotq_laneq_s32(acc, q, a, 0)
           : lane == 1 ? vdotq_laneq_s32(acc, q, a, 1)
           : lane == 2 ? vdotq_laneq_s32(acc, q, a, 2)
                       : vdotq_laneq_s32(acc, q, a, 3);
}

VEC ki ki_less32(ki a, ki b) { return a - (b << 5); }

VEC kf kf_zero(void) { return vdupq_n_f32(0); }
VEC kf kf_set1(float x) { return vdupq_n_f32(x); }
VEC kf kf_load(const float *p) { return vld1q_f32(p); }
VEC void kf_store(float *p, kf x) { vst1q_f32(p, x); }
VEC kf kf_add(kf a, kf b) { return vaddq_f32(a, b); }
VEC kf kf_mul(kf a, kf b) { return vmulq_f32(a, b); }
VEC kf kf_fma(kf a, kf b, kf c) { return vfmaq_f32(c, a, b); }
VEC kf kf_less(kf a, kf b, kf c) { return vfmsq_f32(c, a, b); }
VEC kf kf_int(ki a) { return vcvtq_f32_s32(vreinterpretq_s32_u32(a)); }
VEC kf k_halves(uint16x4_t v) { return vcvt_f32_f16(vreinterpret_f16_u16(v)); }
VEC kf kf_low_half(kb v) { return k_halves(vmovn_u32(vreinterpretq_u32_u8(v))); }
VEC kf kf_high_half(kb v) { return k_halves(vshrn_n_u32(vreinterpretq_u32_u8(v), 16)); }

/* sum + scale * (products of a sub-block's quants, 4 columns to each of `words` registers, with a token's planes) */
VEC ki k_sub_block(ki sum, const kb *q, const int words, const int8_t *hi, const int8_t *lo, ki scale) {
    int32x4_t acc = vdupq_n_s32(0);
    UNROLL for (int g = 0; g < words; g++) {
        acc = dot_lane(acc, q[g], vld1q_s8(hi + 4 * (g & ~3)), g % 4);
    }
    acc = vshlq_n_s32(acc, ACT_LOW_BITS);
    UNROLL for (int g = 0; g < words; g++) {
        acc = dot_lane(acc, q[g], vld1q_s8(lo + 4 * (g & ~3)), g % 4);
    }
    sum = vmlaq_u32(sum, vreinterpretq_u32_s32(acc), scale);
    STEP_END;
    return sum;
}

/* The minima (unsigned bytes) of sub-blocks of 32 columns times their activations' sums. */
VEC ki k_min_sums(const kb *min, const int16_t *halves) {
    int32x4_t a[2] = {vpaddlq_s16(vld1q_s16(halves)), vpaddlq_s16(vld1q_s16(halves + 8))};
    ki sum = vdupq_n_u32(0);
    UNROLL for (int i = 0; i < 8; i++) {
        sum = mla_lane(sum, k_byte_u(min[i / 4], i % 4), a[i / 4], i % 4);
    }
    return sum;
}

#endif
