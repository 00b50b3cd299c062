/* IEEE binary16 and bfloat16 <-> float, round to nearest even, in portable C (kernels use the hardware's own). */
#ifndef BASE_HALF_H
#define BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float f32_from_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t f32_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exp = h >> 10 & 0x1F;
    uint32_t man = h & 0x3FF;
    if (exp == 0x1F) {
        return f32_from_bits(sign | 0x7F800000u | man << 13);
    }
    if (exp == 0) { /* zero or subnormal: man * 2^-24 is exact in float */
        float v = (float)man * 0x1p-24f;
        return sign ? -v : v;
    }
    return f32_from_bits(sign | (exp + 112) << 23 | man << 13);
}

static inline uint16_t f32_to_f16(float f) {
    uint32_t u = f32_bits(f);
    uint32_t sign = u >> 16 & 0x8000;
    uint32_t mag = u & 0x7FFFFFFFu;
    if (mag >= 0x47800000u) { /* 65536 and above, infinity, NaN */
        return (uint16_t)(sign | (mag > 0x7F800000u ? 0x7E00 : 0x7C00));
    }
    if (mag < 0x38800000u) { /* below 2^-14: subnormal; adding 0.5 aligns the bits and rounds to even */
        float v = f32_from_bits(mag) + 0.5f;
        return (uint16_t)(sign | (f32_bits(v) - 0x3F000000u));
    }
    uint32_t odd = mag >> 13 & 1;
    return (uint16_t)(sign | ((mag - (112u << 23) + 0xFFF + odd) >> 13));
}

static inline float bf16_to_f32(uint16_t h) {
    return f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t f32_to_bf16(float f) {
    uint32_t u = f32_bits(f);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) {
        return (uint16_t)(u >> 16 | 64); /* quiet NaN */
    }
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

#endif
