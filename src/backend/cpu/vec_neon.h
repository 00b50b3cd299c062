/* The vectors of vec.h on NEON: four registers of four lanes each. */
// clang-format off
#ifndef CPU_VEC_NEON_H
#define CPU_VEC_NEON_H

#include <arm_neon.h>

/* Members with names: gcc 12 keeps arrays of registers (float32x4x4_t) in memory. */
typedef struct {
    float32x4_t a, b, c, d;
} vf;

#define VF1(op, x)       ((vf){op((x).a), op((x).b), op((x).c), op((x).d)})
#define VF2(op, x, y)    ((vf){op((x).a, (y).a), op((x).b, (y).b), op((x).c, (y).c), op((x).d, (y).d)})
#define VF3(op, x, y, z) ((vf){op((x).a, (y).a, (z).a), op((x).b, (y).b, (z).b), op((x).c, (y).c, (z).c), \
                               op((x).d, (y).d, (z).d)})

VEC vf vf_set1(float x) {
    float32x4_t v = vdupq_n_f32(x);
    return (vf){v, v, v, v};
}
VEC vf vf_zero(void) { return vf_set1(0); }
VEC vf vf_load(const float *p) { return (vf){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }
VEC void vf_store(float *p, vf x) {
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
    vst1q_f32(p + 8, x.c);
    vst1q_f32(p + 12, x.d);
}
VEC vf vf_add(vf x, vf y) { return VF2(vaddq_f32, x, y); }
VEC vf vf_sub(vf x, vf y) { return VF2(vsubq_f32, x, y); }
VEC vf vf_mul(vf x, vf y) { return VF2(vmulq_f32, x, y); }
VEC vf vf_div(vf x, vf y) { return VF2(vdivq_f32, x, y); }
VEC vf vf_fma(vf x, vf y, vf z) { return VF3(vfmaq_f32, z, x, y); }
/* as the x86 instructions: the second operand where the comparison is false (NaN) */
VEC float32x4_t max_quarter(float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
VEC float32x4_t min_quarter(float32x4_t x, float32x4_t y) { return vbslq_f32(vcltq_f32(x, y), x, y); }
VEC vf vf_max(vf x, vf y) { return VF2(max_quarter, x, y); }
VEC vf vf_min(vf x, vf y) { return VF2(min_quarter, x, y); }
VEC vf vf_abs(vf x) { return VF1(vabsq_f32, x); }
VEC vf vf_round(vf x) { return VF1(vrndnq_f32, x); }
/* x * 2^n for integral n in -126..127 */
VEC float32x4_t scale2_quarter(float32x4_t x, float32x4_t n) {
    int32x4_t e = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23);
    return vmulq_f32(x, vreinterpretq_f32_s32(e));
}
VEC vf vf_scale2(vf x, vf n) { return VF2(scale2_quarter, x, n); }
/* lane i: i < n ? x : y */
VEC vf vf_first(int n, vf x, vf y) {
    static const int32_t lanes[4] = {0, 1, 2, 3};
    int32x4_t lane = vld1q_s32(lanes);
    return (vf){vbslq_f32(vcltq_s32(lane, vdupq_n_s32(n)), x.a, y.a),
                vbslq_f32(vcltq_s32(lane, vdupq_n_s32(n - 4)), x.b, y.b),
                vbslq_f32(vcltq_s32(lane, vdupq_n_s32(n - 8)), x.c, y.c),
                vbslq_f32(vcltq_s32(lane, vdupq_n_s32(n - 12)), x.d, y.d)};
}
VEC vf vf_load_f16(const uint16_t *p) {
    float16x8_t lo = vreinterpretq_f16_u16(vld1q_u16(p));
    float16x8_t hi = vreinterpretq_f16_u16(vld1q_u16(p + 8));
    return (vf){vcvt_f32_f16(vget_low_f16(lo)), vcvt_high_f32_f16(lo), vcvt_f32_f16(vget_low_f16(hi)),
                vcvt_high_f32_f16(hi)};
}
VEC void vf_store_f16(uint16_t *p, vf x) {
    vst1q_u16(p, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.a), x.b)));
    vst1q_u16(p + 8, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.c), x.d)));
}
VEC vf vf_load_bf16(const uint16_t *p) {
    uint16x8_t lo = vld1q_u16(p);
    uint16x8_t hi = vld1q_u16(p + 8);
    return (vf){vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(lo), 16)),
                vreinterpretq_f32_u32(vshll_high_n_u16(lo, 16)),
                vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(hi), 16)),
                vreinterpretq_f32_u32(vshll_high_n_u16(hi, 16))};
}
VEC vf from_i8(int8x16_t v) {
    int16x8_t lo = vmovl_s8(vget_low_s8(v));
    int16x8_t hi = vmovl_high_s8(v);
    return (vf){vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_high_s16(lo)),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_high_s16(hi))};
}
VEC vf vf_load_i8(const int8_t *p) { return from_i8(vld1q_s8(p)); }
/* low (shift 0) or high (shift 4) nibbles of 16 bytes, less 8 */
VEC vf vf_load_nibbles(const uint8_t *p, int shift) {
    uint8x16_t v = vld1q_u8(p);
    v = shift ? vshrq_n_u8(v, 4) : vandq_u8(v, vdupq_n_u8(15));
    return from_i8(vsubq_s8(vreinterpretq_s8_u8(v), vdupq_n_s8(8)));
}
/* round to nearest even, saturate to int16; no NaN */
VEC void vf_store_i16(int16_t *p, vf x) {
    vst1q_s16(p, vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(x.a)), vcvtnq_s32_f32(x.b)));
    vst1q_s16(p + 8, vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(x.c)), vcvtnq_s32_f32(x.d)));
}
VEC float vf_reduce_add(vf x) {
    float32x4_t v = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    float32x2_t w = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(vpadd_f32(w, w), 0);
}
VEC float vf_reduce_max(vf x) {
    float32x4_t v = max_quarter(max_quarter(x.a, x.c), max_quarter(x.b, x.d));
    float m = vgetq_lane_f32(v, 0);
    float n = vgetq_lane_f32(v, 1);
    float o = vgetq_lane_f32(v, 2);
    float p = vgetq_lane_f32(v, 3);
    m = m > o ? m : o;
    n = n > p ? n : p;
    return m > n ? m : n;
}

#define VEC_PREFETCH(p) __builtin_prefetch(p)
/* keeps a loaded vector in its registers instead of loading it again at every use */
#define VEC_KEEP(x) __asm__("" : "+w"((x).a), "+w"((x).b), "+w"((x).c), "+w"((x).d))

#endif
