/*
 * From floats to blocks, at the least squared error we can find in reasonable time (about 60 ns per weight and thread).
 *
 * Every format is a small least-squares problem with integers in it: given the integers the best float scales follow in
 * closed form, given the scales the best integers follow by rounding. So each search alternates the two, from several
 * starting scales because the alternation only finds the nearest optimum, and ends on the grid that the format can
 * store: a stored scale is chosen among its neighbours by the error it gives, never by rounding alone. On Gaussian
 * weights that leaves 0.95 (Q4_K), 0.90 (Q5_K), 0.87 (Q6_K) and 0.89 (Q4_0) of the error of llama.cpp's quantiser.
 *
 * Sums run over 8 lanes in a fixed order, so that the blocks do not depend on the instruction set. No input can make a
 * conversion undefined: infinities and NaN end in some block, and callers who care look for them before.
 */
#include "base/half.h"
#include "quant/quant.h"

#include <math.h>
#include <string.h>

#define LANES   8
#define F16_MAX 65504.0f

/* Round to nearest even within lo..hi, |lo|, |hi| < 2^22; NaN gives lo. */
static inline float round_clamp(float v, float lo, float hi) {
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    return (v + 12582912.0f) - 12582912.0f; /* 1.5 * 2^23: the sum has no room for a fraction */
}

static inline float lane_sum(const float a[LANES]) {
    return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}

/* The finite f16 nearest to v; 0 for NaN. */
static uint16_t to_f16(float v) {
    if (v > F16_MAX || v < -F16_MAX) {
        v = v > 0 ? F16_MAX : -F16_MAX;
    }
    return v == v ? f32_to_f16(v) : 0;
}

/* A rounding multiplies by 1/s; a scale of zero, or so small that 1/s is infinite, makes every integer 0. */
static inline float inverse(float s) {
    float inv = 1.0f / s;
    return fabsf(inv) < INFINITY ? inv : 0.0f;
}

/* ---- Symmetric formats (Q4_0, Q8_0, Q6_K): x = s * q, q in lo..hi. s may be negative, which swaps the sides. */

struct line_fit {
    float qq, qx; /* sums of q*q and q*x: the best scale for these q is qx / qq */
    float error;  /* squared error of s * q */
};

/* q = round(x / s) over n weights, n a multiple of LANES. */
static inline struct line_fit fit_line(const float *x, int n, float s, float lo, float hi) {
    float qq[LANES] = {0}, qx[LANES] = {0}, error[LANES] = {0};
    float inv = inverse(s);
    for (int i = 0; i < n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float q = round_clamp(x[i + l] * inv, lo, hi);
            float e = x[i + l] - s * q;
            qq[l] += q * q;
            qx[l] += q * x[i + l];
            error[l] += e * e;
        }
    }
    return (struct line_fit){lane_sum(qq), lane_sum(qx), lane_sum(error)};
}

/* The weight that is farthest from zero, with its sign. */
static float extreme(const float *x, int n) {
    float best = 0;
    for (int i = 0; i < n; i++) {
        best = fabsf(x[i]) > fabsf(best) ? x[i] : best;
    }
    return best;
}

/* Starts put the extreme weight at lo and at hi: half a step beyond the last integer, then `step` further in each. */
#define LINE_STARTS 8

static float search_line(const float *x, int n, float lo, float hi, float step) {
    float top = extreme(x, n), best = 0, best_error = INFINITY;
    for (int k = 0; k < LINE_STARTS; k++) {
        float inside = step * (float)k - 0.5f;
        for (int side = 0; side < 2; side++) {
            float s = top / (side ? hi - inside : lo + inside);
            struct line_fit f = fit_line(x, n, s, lo, hi);
            s = f.qq > 0 ? f.qx / f.qq : 0;
            f = fit_line(x, n, s, lo, hi);
            if (f.error < best_error) {
                best_error = f.error;
                best = s;
            }
        }
    }
    return best;
}

static void quant_q4_0(const float *x, struct block_q4_0 *out) {
    out->d = to_f16(search_line(x, 32, -8, 7, 0.3f));
    float inv = inverse(f16_to_f32(out->d));
    for (int i = 0; i < 16; i++) {
        int low = (int)round_clamp(x[i] * inv, -8, 7) + 8;
        int high = (int)round_clamp(x[i + 16] * inv, -8, 7) + 8;
        out->qs[i] = (uint8_t)(low | high << 4);
    }
}

static void quant_q8_0(const float *x, struct block_q8_0 *out) {
    out->d = to_f16(search_line(x, 32, -127, 127, 0.6f)); /* -128 stays unused: kernels may negate */
    float inv = inverse(f16_to_f32(out->d));
    for (int i = 0; i < 32; i++) {
        out->qs[i] = (int8_t)round_clamp(x[i] * inv, -127, 127);
    }
}

/* ---- Q6_K: 16 sub-blocks of 16 with s = d * sc */

#define Q6_REACH  2 /* how far from the present sc the grid search looks */
#define Q6_ROUNDS 2 /* grid search, then d by least squares */

/* The sc with the least error for this d, per sub-block; returns the error of all. */
static float search_q6_grid(const float *x, float d, int8_t sc[16]) {
    float total = 0;
    for (int j = 0; j < 16; j++) {
        float best = INFINITY;
        int middle = sc[j];
        for (int c = middle - Q6_REACH; c <= middle + Q6_REACH; c++) {
            if (c < -128 || c > 127) {
                continue;
            }
            float error = fit_line(x + j * 16, 16, d * (float)c, -32, 31).error;
            if (error < best) {
                best = error;
                sc[j] = (int8_t)c;
            }
        }
        total += best;
    }
    return total;
}

static float solve_q6(const float *x, float d, const int8_t sc[16]) {
    double qq = 0, qx = 0;
    for (int j = 0; j < 16; j++) {
        struct line_fit f = fit_line(x + j * 16, 16, d * (float)sc[j], -32, 31);
        qq += (double)f.qq * sc[j] * sc[j];
        qx += (double)f.qx * sc[j];
    }
    return qq > 0 ? (float)(qx / qq) : 0;
}

static void search_q6(const float *x, struct block_q6_k *out) {
    float s[16], top = 0;
    for (int j = 0; j < 16; j++) {
        s[j] = search_line(x + j * 16, 16, -32, 31, 0.6f);
        top = fabsf(s[j]) > fabsf(top) ? s[j] : top;
    }
    uint16_t half = to_f16(top / -128.0f);
    int8_t sc[16];
    for (int j = 0; j < 16; j++) {
        sc[j] = (int8_t)round_clamp(s[j] * inverse(f16_to_f32(half)), -128, 127);
    }
    float best = INFINITY;
    for (int round = 0; round < Q6_ROUNDS; round++) {
        float d = f16_to_f32(half);
        float error = search_q6_grid(x, d, sc);
        if (error < best) {
            best = error;
            out->d = half;
            memcpy(out->scales, sc, sizeof sc);
        }
        half = to_f16(solve_q6(x, d, sc));
    }
}

static void quant_q6_k(const float *x, struct block_q6_k *out) {
    *out = (struct block_q6_k){0};
    search_q6(x, out);
    float d = f16_to_f32(out->d);
    for (int g = 0; g < 8; g++) { /* groups of 32; dequant.c has the layout */
        uint8_t *ql = out->ql + g / 4 * 64 + g % 2 * 32;
        uint8_t *qh = out->qh + g / 4 * 32;
        for (int i = 0; i < 32; i++) {
            float inv = inverse(d * (float)out->scales[g * 2 + i / 16]);
            int q = (int)round_clamp(x[g * 32 + i] * inv, -32, 31) + 32;
            ql[i] |= (uint8_t)((q & 15) << g % 4 / 2 * 4);
            qh[i] |= (uint8_t)(q >> 4 << g % 4 * 2);
        }
    }
}

/* ---- Q4_K and Q5_K: 8 sub-blocks of 32, x = s * q - m with s = d * sc, m = dmin * mn, all of them >= 0 */

#define SUB           32
#define AFFINE_STARTS 8
#define AFFINE_TURNS  2 /* alternations per start */
#define K_REACH_SC    2 /* how far the grid search looks around sc, and for each sc around its best mn */
#define K_REACH_MN    1
#define K_ROUNDS      3 /* grid search, then d and dmin by least squares */

struct affine {
    float s, m;
};

struct affine_fit {
    float q, qq, qx; /* sums of q, q*q, q*x */
};

struct k_super { /* a super-block while it is searched */
    uint8_t sc[8], mn[8];
    uint16_t d, dmin; /* f16 */
    float sum[8];     /* of the weights of each sub-block */
};

/* q = round((x + m) / s) */
static inline struct affine_fit fit_affine(const float *x, struct affine a, float q_max) {
    float sq[LANES] = {0}, sqq[LANES] = {0}, sqx[LANES] = {0};
    float inv = inverse(a.s);
    for (int i = 0; i < SUB; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float q = round_clamp((x[i + l] + a.m) * inv, 0.0f, q_max);
            sq[l] += q;
            sqq[l] += q * q;
            sqx[l] += q * x[i + l];
        }
    }
    return (struct affine_fit){lane_sum(sq), lane_sum(sqq), lane_sum(sqx)};
}

/* Squared error of the same q. Summed weight by weight: the closed form from the sums above cancels too much. */
static inline float affine_error(const float *x, struct affine a, float q_max) {
    float error[LANES] = {0};
    float inv = inverse(a.s);
    for (int i = 0; i < SUB; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float q = round_clamp((x[i + l] + a.m) * inv, 0.0f, q_max);
            float e = x[i + l] - (a.s * q - a.m);
            error[l] += e * e;
        }
    }
    return lane_sum(error);
}

/* The best s and m for given q, neither below zero. */
static struct affine solve_affine(struct affine_fit f, float sum_x) {
    float det = SUB * f.qq - f.q * f.q;
    struct affine a = {0, 0};
    if (det > 0) {
        a.s = (SUB * f.qx - f.q * sum_x) / det;
        a.m = (a.s * f.q - sum_x) / SUB;
    }
    if (a.s > 0 && a.m >= 0) {
        return a;
    }
    if (f.qx > 0 && f.qq > 0) {
        return (struct affine){f.qx / f.qq, 0};
    }
    return (struct affine){0, sum_x < 0 ? -sum_x / SUB : 0};
}

static struct affine search_affine(const float *x, float sum_x, float q_max) {
    float lo = 0, hi = x[0], best_error = INFINITY;
    for (int i = 0; i < SUB; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    struct affine best = {0, -lo};
    for (int k = 0; k < AFFINE_STARTS; k++) { /* ranges from a little wider than the weights to a little narrower */
        float steps = q_max - 1.0f + 0.3f * (float)k;
        struct affine a = {(hi - lo) / steps, -lo};
        for (int turn = 0; turn < AFFINE_TURNS; turn++) {
            a = solve_affine(fit_affine(x, a, q_max), sum_x);
        }
        float error = affine_error(x, a, q_max);
        if (error < best_error) {
            best_error = error;
            best = a;
        }
    }
    return best;
}

/* The pair sc, mn with the least error for this d and dmin, near the present one; returns that error. */
static float search_k_pair(const float *x, struct k_super *b, int j, float q_max) {
    float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    int middle = b->sc[j];
    float best = affine_error(x, (struct affine){d * (float)b->sc[j], dmin * (float)b->mn[j]}, q_max);
    float min_now = dmin * (float)b->mn[j];
    for (int sc = middle - K_REACH_SC; sc <= middle + K_REACH_SC; sc++) {
        if (sc < 0 || sc > 63) {
            continue;
        }
        float s = d * (float)sc;
        float m = (s * fit_affine(x, (struct affine){s, min_now}, q_max).q - b->sum[j]) / SUB; /* best m for those q */
        int center = (int)round_clamp(m * inverse(dmin), 0, 63);
        for (int mn = center - K_REACH_MN; mn <= center + K_REACH_MN; mn++) {
            if (mn < 0 || mn > 63) {
                continue;
            }
            float error = affine_error(x, (struct affine){s, dmin * (float)mn}, q_max);
            if (error < best) {
                best = error;
                b->sc[j] = (uint8_t)sc;
                b->mn[j] = (uint8_t)mn;
            }
        }
    }
    return best;
}

/* The best d and dmin for the integers that the present ones give. */
static void solve_k(const float *x, struct k_super *b, float q_max) {
    float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (int j = 0; j < 8; j++) {
        double sc = b->sc[j], mn = b->mn[j];
        struct affine a = {d * (float)b->sc[j], dmin * (float)b->mn[j]};
        struct affine_fit f = fit_affine(x + j * SUB, a, q_max);
        aa += sc * sc * (double)f.qq;
        ab += sc * mn * (double)f.q;
        bb += mn * mn * SUB;
        ax += sc * (double)f.qx;
        bx += mn * (double)b->sum[j];
    }
    double det = aa * bb - ab * ab;
    if (det > 0) {
        b->d = to_f16((float)((ax * bb - ab * bx) / det));
        b->dmin = to_f16((float)((ax * ab - aa * bx) / det));
    } else if (aa > 0) {
        b->d = to_f16((float)(ax / aa));
    }
}

static void search_k(const float *x, float q_max, struct k_super *best) {
    struct affine sub[8];
    struct k_super b = {0};
    float top_s = 0, top_m = 0;
    for (int j = 0; j < 8; j++) {
        for (int i = 0; i < SUB; i++) {
            b.sum[j] += x[j * SUB + i];
        }
        sub[j] = search_affine(x + j * SUB, b.sum[j], q_max);
        top_s = sub[j].s > top_s ? sub[j].s : top_s;
        top_m = sub[j].m > top_m ? sub[j].m : top_m;
    }
    b.d = to_f16(top_s / 63);
    b.dmin = to_f16(top_m / 63);
    for (int j = 0; j < 8; j++) {
        b.sc[j] = (uint8_t)round_clamp(sub[j].s * inverse(f16_to_f32(b.d)), 0, 63);
        b.mn[j] = (uint8_t)round_clamp(sub[j].m * inverse(f16_to_f32(b.dmin)), 0, 63);
    }
    float best_error = INFINITY;
    *best = (struct k_super){0};
    for (int round = 0; round < K_ROUNDS; round++) {
        float error = 0;
        for (int j = 0; j < 8; j++) {
            error += search_k_pair(x + j * SUB, &b, j, q_max);
        }
        if (error < best_error) {
            best_error = error;
            *best = b;
        }
        solve_k(x, &b, q_max);
    }
}

static void pack_k_scales(const struct k_super *b, uint8_t out[12]) {
    for (int i = 0; i < 4; i++) {
        out[i] = (uint8_t)(b->sc[i] | b->sc[i + 4] >> 4 << 6);
        out[i + 4] = (uint8_t)(b->mn[i] | b->mn[i + 4] >> 4 << 6);
        out[i + 8] = (uint8_t)((b->sc[i + 4] & 15) | (b->mn[i + 4] & 15) << 4);
    }
}

static void k_integers(const float *x, const struct k_super *b, float q_max, uint8_t q[QK]) {
    for (int j = 0; j < 8; j++) {
        float m = f16_to_f32(b->dmin) * (float)b->mn[j];
        float inv = inverse(f16_to_f32(b->d) * (float)b->sc[j]);
        for (int i = j * SUB; i < (j + 1) * SUB; i++) {
            q[i] = (uint8_t)round_clamp((x[i] + m) * inv, 0.0f, q_max);
        }
    }
}

static void pack_nibbles(const uint8_t q[QK], uint8_t qs[128]) {
    for (int chunk = 0; chunk < 4; chunk++) {
        for (int i = 0; i < 32; i++) {
            qs[chunk * 32 + i] = (uint8_t)((q[chunk * 64 + i] & 15) | (q[chunk * 64 + 32 + i] & 15) << 4);
        }
    }
}

static void quant_q4_k(const float *x, struct block_q4_k *out) {
    struct k_super b;
    uint8_t q[QK];
    search_k(x, 15, &b);
    k_integers(x, &b, 15, q);
    out->d = b.d;
    out->dmin = b.dmin;
    pack_k_scales(&b, out->scales);
    pack_nibbles(q, out->qs);
}

static void quant_q5_k(const float *x, struct block_q5_k *out) {
    struct k_super b;
    uint8_t q[QK];
    search_k(x, 31, &b);
    k_integers(x, &b, 31, q);
    out->d = b.d;
    out->dmin = b.dmin;
    pack_k_scales(&b, out->scales);
    pack_nibbles(q, out->qs);
    memset(out->qh, 0, sizeof out->qh);
    for (int i = 0; i < QK; i++) {
        out->qh[i % SUB] |= (uint8_t)(q[i] >> 4 << i / SUB);
    }
}

/* ---- */

#define QUANT_BLOCKS(block_type, elems, function)                                                                      \
    for (int64_t i = 0; i < n / (elems); i++) {                                                                        \
        struct block_type block;                                                                                       \
        function(src + i * (elems), &block);                                                                           \
        memcpy((char *)dst + i * (int64_t)sizeof block, &block, sizeof block);                                         \
    }

void quantize_row(enum dtype type, const float *src, void *dst, int64_t n) {
    switch (type) {
    case DTYPE_F32:
        memcpy(dst, src, (size_t)n * sizeof *src);
        break;
    case DTYPE_F16:
    case DTYPE_BF16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t h = type == DTYPE_F16 ? f32_to_f16(src[i]) : f32_to_bf16(src[i]);
            memcpy((char *)dst + i * 2, &h, sizeof h);
        }
        break;
    case DTYPE_Q4_0:
        QUANT_BLOCKS(block_q4_0, 32, quant_q4_0)
        break;
    case DTYPE_Q8_0:
        QUANT_BLOCKS(block_q8_0, 32, quant_q8_0)
        break;
    case DTYPE_Q4_K:
        QUANT_BLOCKS(block_q4_k, QK, quant_q4_k)
        break;
    case DTYPE_Q5_K:
        QUANT_BLOCKS(block_q5_k, QK, quant_q5_k)
        break;
    case DTYPE_Q6_K:
        QUANT_BLOCKS(block_q6_k, QK, quant_q6_k)
        break;
    }
}
