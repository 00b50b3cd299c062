/*
 * Random blocks made directly in their stored form: quantising 8 G floats would take minutes, drawing integers from a
 * Gaussian takes seconds. A 12-bit random number picks a quantile of the normal distribution, already rounded to the
 * type's integers, and the scales are set so that the weights come out with the wanted deviation.
 */
#include "base/half.h"
#include "base/mem.h"
#include "quant/quant.h"
#include "tools/synth_parts.h"

#include <math.h>
#include <string.h>

#define QUANTILES 4096

struct levels { /* integers of one type */
    int8_t q[QUANTILES];
    float std; /* of q */
};

struct gauss {
    float z[QUANTILES];
    struct levels q4_k, q5_k, q6_k, q4_0, q8_0;
};

static uint64_t splitmix(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

void rng_init(struct rng *rng, uint64_t seed, uint64_t a, uint64_t b) {
    uint64_t state = seed;
    state = splitmix(&state) ^ a;
    state = splitmix(&state) ^ b;
    for (int i = 0; i < 4; i++) {
        rng->s[i] = splitmix(&state);
    }
}

static inline uint64_t rotate(uint64_t v, int by) {
    return v << by | v >> (64 - by);
}

static inline uint64_t next(struct rng *r) {
    uint64_t out = rotate(r->s[1] * 5, 7) * 9;
    uint64_t t = r->s[1] << 17;
    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = rotate(r->s[3], 45);
    return out;
}

uint64_t rng_next(struct rng *r) {
    return next(r);
}

/* The z with P(Z < z) = p, by bisection. */
static double normal_quantile(double p) {
    double lo = -6, hi = 6;
    for (int i = 0; i < 50; i++) {
        double mid = (lo + hi) / 2;
        if (0.5 * erfc(-mid / sqrt(2.0)) < p) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return (lo + hi) / 2;
}

/* q = round(z / step + center), clamped: `step` deviations per level, `center` where zero lies. */
static void fill_levels(const float *z, double step, double center, int lo, int hi, struct levels *out) {
    double sum = 0;
    for (int i = 0; i < QUANTILES; i++) {
        double q = nearbyint((double)z[i] / step + center);
        q = q < lo ? lo : q > hi ? hi : q;
        out->q[i] = (int8_t)q;
        sum += (q - center) * (q - center);
    }
    out->std = (float)sqrt(sum / QUANTILES);
}

struct gauss *gauss_new(void) {
    struct gauss *g = mem_alloc(sizeof *g);
    if (!g) {
        return NULL;
    }
    for (int i = 0; i < QUANTILES / 2; i++) {
        g->z[i] = (float)normal_quantile((i + 0.5) / QUANTILES);
        g->z[QUANTILES - 1 - i] = -g->z[i];
    }
    fill_levels(g->z, 0.335, 7.5, 0, 15, &g->q4_k); /* the steps with the least error for a normal distribution */
    fill_levels(g->z, 0.188, 15.5, 0, 31, &g->q5_k);
    fill_levels(g->z, 0.104, 0, -32, 31, &g->q6_k);
    fill_levels(g->z, 0.335, 0, -8, 7, &g->q4_0);
    fill_levels(g->z, 0.028, 0, -127, 127, &g->q8_0);
    return g;
}

void gauss_free(struct gauss *g) {
    mem_free(g);
}

/* n a multiple of 4 */
static void draw(const struct levels *levels, struct rng *rng, int8_t *q, size_t n) {
    for (size_t i = 0; i < n; i += 4) {
        uint64_t r = next(rng);
        q[i] = levels->q[r >> 4 & (QUANTILES - 1)];
        q[i + 1] = levels->q[r >> 20 & (QUANTILES - 1)];
        q[i + 2] = levels->q[r >> 36 & (QUANTILES - 1)];
        q[i + 3] = levels->q[r >> 52 & (QUANTILES - 1)];
    }
}

/* 0.9 .. 1.1, so that neighbouring blocks differ. */
static float wobble(uint64_t r) {
    return 0.9f + 0.2f * (float)(r & 0xFFFF) / 65535.0f;
}

/* The 6-bit scales of a Q4_K or Q5_K block: sc 44..59, mn about the same, since dmin carries the center. */
static void draw_k_scales(struct rng *rng, uint8_t out[12]) {
    uint64_t r = next(rng);
    uint8_t sc[8], mn[8];
    for (int i = 0; i < 8; i++, r >>= 8) {
        sc[i] = (uint8_t)(44 + (r & 15));
        mn[i] = (uint8_t)(sc[i] + (r >> 4 & 1) - (r >> 5 & 1));
    }
    for (int i = 0; i < 4; i++) {
        out[i] = (uint8_t)(sc[i] | sc[i + 4] >> 4 << 6);
        out[i + 4] = (uint8_t)(mn[i] | mn[i + 4] >> 4 << 6);
        out[i + 8] = (uint8_t)((sc[i + 4] & 15) | (mn[i + 4] & 15) << 4);
    }
}

#define K_SCALE_RMS 51.7f /* of 44..59 */

static void draw_q4_k(const struct gauss *g, struct rng *rng, float std, struct block_q4_k *b) {
    int8_t q[QK];
    draw(&g->q4_k, rng, q, QK);
    float d = std / (g->q4_k.std * K_SCALE_RMS) * wobble(next(rng));
    b->d = f32_to_f16(d);
    b->dmin = f32_to_f16(d * 7.5f);
    draw_k_scales(rng, b->scales);
    for (int i = 0; i < 128; i++) {
        int at = i / 32 * 64 + i % 32;
        b->qs[i] = (uint8_t)(q[at] | q[at + 32] << 4);
    }
}

static void draw_q5_k(const struct gauss *g, struct rng *rng, float std, struct block_q5_k *b) {
    int8_t q[QK];
    draw(&g->q5_k, rng, q, QK);
    float d = std / (g->q5_k.std * K_SCALE_RMS) * wobble(next(rng));
    b->d = f32_to_f16(d);
    b->dmin = f32_to_f16(d * 15.5f);
    draw_k_scales(rng, b->scales);
    memset(b->qh, 0, sizeof b->qh);
    for (int i = 0; i < 128; i++) {
        int at = i / 32 * 64 + i % 32;
        b->qs[i] = (uint8_t)((q[at] & 15) | (q[at + 32] & 15) << 4);
        b->qh[i % 32] |= (uint8_t)((q[at] >> 4) << i / 32 * 2 | (q[at + 32] >> 4) << (i / 32 * 2 + 1));
    }
}

#define Q6_SCALE_RMS 111.6f /* of 96..127 */

static void draw_q6_k(const struct gauss *g, struct rng *rng, float std, struct block_q6_k *b) {
    int8_t q[QK];
    draw(&g->q6_k, rng, q, QK);
    b->d = f32_to_f16(std / (g->q6_k.std * Q6_SCALE_RMS) * wobble(next(rng)));
    for (int i = 0; i < 16; i += 8) { /* signs vary: published files have scales of both */
        uint64_t r = next(rng);
        for (int k = 0; k < 8; k++, r >>= 8) {
            int sc = (int)(96 + (r & 31));
            b->scales[i + k] = (int8_t)(r & 128 ? -sc : sc);
        }
    }
    for (int i = 0; i < 64; i++) { /* byte i of a half's ql: weights i and i + 64 */
        for (int half = 0; half < 2; half++) {
            const int8_t *w = q + half * 128;
            b->ql[half * 64 + i] = (uint8_t)(((w[i] + 32) & 15) | ((w[i + 64] + 32) & 15) << 4);
        }
    }
    for (int i = 0; i < 64; i++) {
        const int8_t *w = q + i / 32 * 128 + i % 32;
        b->qh[i] =
            (uint8_t)((w[0] + 32) >> 4 | (w[32] + 32) >> 4 << 2 | (w[64] + 32) >> 4 << 4 | (w[96] + 32) >> 4 << 6);
    }
}

static void draw_q4_0(const struct gauss *g, struct rng *rng, float std, struct block_q4_0 *b) {
    int8_t q[32];
    draw(&g->q4_0, rng, q, 32);
    b->d = f32_to_f16(std / g->q4_0.std * wobble(next(rng)));
    for (int i = 0; i < 16; i++) {
        b->qs[i] = (uint8_t)((q[i] + 8) | (q[i + 16] + 8) << 4);
    }
}

static void draw_q8_0(const struct gauss *g, struct rng *rng, float std, struct block_q8_0 *b) {
    draw(&g->q8_0, rng, b->qs, 32);
    b->d = f32_to_f16(std / g->q8_0.std * wobble(next(rng)));
}

void synth_floats(const struct gauss *g, struct rng *rng, float mean, float std, float *dst, size_t n) {
    for (size_t i = 0; i < n; i++) {
        dst[i] = mean + std * g->z[next(rng) >> 52];
    }
}

static void draw_halves(const struct gauss *g, struct rng *rng, enum dtype type, float std, uint16_t *dst, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float v = std * g->z[next(rng) >> 52];
        dst[i] = type == DTYPE_F16 ? f32_to_f16(v) : f32_to_bf16(v);
    }
}

#define DRAW_BLOCKS(block_type, elems, function)                                                                       \
    for (size_t i = 0; i < n / (elems); i++) {                                                                         \
        struct block_type block;                                                                                       \
        function(g, rng, std, &block);                                                                                 \
        memcpy(dst + i * sizeof block, &block, sizeof block);                                                          \
    }

void synth_blocks(const struct gauss *g, struct rng *rng, enum dtype type, float std, uint8_t *dst, size_t n) {
    switch (type) {
    case DTYPE_F32:
        synth_floats(g, rng, 0, std, (float *)(void *)dst, n);
        break;
    case DTYPE_F16:
    case DTYPE_BF16:
        draw_halves(g, rng, type, std, (uint16_t *)(void *)dst, n);
        break;
    case DTYPE_Q4_0:
        DRAW_BLOCKS(block_q4_0, 32, draw_q4_0)
        break;
    case DTYPE_Q8_0:
        DRAW_BLOCKS(block_q8_0, 32, draw_q8_0)
        break;
    case DTYPE_Q4_K:
        DRAW_BLOCKS(block_q4_k, QK, draw_q4_k)
        break;
    case DTYPE_Q5_K:
        DRAW_BLOCKS(block_q5_k, QK, draw_q5_k)
        break;
    case DTYPE_Q6_K:
        DRAW_BLOCKS(block_q6_k, QK, draw_q6_k)
        break;
    }
}
