// clang-format off
/* Sixteen rows to a vector of the compiler: lanes.h in portable C, not for speed. */
#ifndef CPU_LANES_C_H
#define CPU_LANES_C_H

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
