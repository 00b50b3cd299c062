// clang-format off
/*
 * Products of K-quant weights with 12-bit activations on NEON with dot products: stands in kernels.inc.h where the other ISAs have
 * kquants.inc.h, with the same integers inside a block of 256 and the same float steps between blocks (docs/numerics.md).
 * sdot adds four products of bytes to each of four int32 lanes. Sixteen quants (unscaled: they fit a byte) meet plane hi of the
 * activations, the sum is shifted, and meets plane lo; once per sub-block the sum is multiplied by the scale.
 *   rows    one or two tokens: four or two rows as stored; a lane holds columns, outputs come together at a block's end
 *   panels  more tokens: PANEL rows of one block are laid out so that a lane is a row and activations are broadcast by sdot
 *           itself; nothing is added across lanes
 */

/* Inner loops are functions of their own: inlined into one another they run out of registers. */
#define KERNEL static __attribute__((noinline))

enum { ROWS_AHEAD = 4096 }; /* bytes between a row's loads and its prefetches */

/* No load moves across: left alone, gcc starts more of them than there are registers for. */
#define STEP_END __asm__ volatile("" ::: "memory")
/* This sum is made here: left alone, gcc adds up products in another order, late, and keeps them all until then. */
#define KEEP(x) __asm__("" : "+w"(x))

/* One token's activations from some column on. */
struct k_token {
    const int8_t *hi, *lo;
};

VEC struct k_token k_token_at(const struct mm *m, uint32_t i, uint32_t b) {
    const size_t at = (size_t)src_row(m, i) * m->n_cols + (size_t)b * QK;
    return (struct k_token){m->x->hi + at, m->x->lo + at};
}

/* Lane numbers are part of an instruction; these fold to one when inlined. */
VEC int32x4_t mla_lane(int32x4_t acc, int32x4_t x, int32x4_t y, const int lane) {
    switch (lane) {
    case 0:
        return vmlaq_laneq_s32(acc, x, y, 0);
    case 1:
        return vmlaq_laneq_s32(acc, x, y, 1);
    case 2:
        return vmlaq_laneq_s32(acc, x, y, 2);
    default:
        return vmlaq_laneq_s32(acc, x, y, 3);
    }
}
VEC int32x4_t dot_lane(int32x4_t acc, int8x16_t x, int8x16_t y, const int lane) {
    switch (lane) {
    case 0:
        return vdotq_laneq_s32(acc, x, y, 0);
    case 1:
        return vdotq_laneq_s32(acc, x, y, 1);
    case 2:
        return vdotq_laneq_s32(acc, x, y, 2);
    default:
        return vdotq_laneq_s32(acc, x, y, 3);
    }
}

/* ---- What is particular to a type: its quants, scales and minima ---- */

/* Quants of columns 32 s .. 32 s + 31 of a block. */
typedef void (*k_quants_fn)(const uint8_t *block, const int s, int8x16_t q[2]);

VEC int8x16_t nibbles(const uint8_t *p, const bool high) {
    uint8x16_t v = vld1q_u8(p);
    return vreinterpretq_s8_u8(high ? vshrq_n_u8(v, 4) : vandq_u8(v, vdupq_n_u8(15)));
}

VEC void quants_q4_k(const uint8_t *block, const int s, int8x16_t q[2]) {
    const struct block_q4_k *b = (const struct block_q4_k *)block;
    for (int v = 0; v < 2; v++) {
        q[v] = nibbles(b->qs + s / 2 * 32 + 16 * v, s % 2);
    }
}

VEC void quants_q5_k(const uint8_t *block, const int s, int8x16_t q[2]) {
    const struct block_q5_k *b = (const struct block_q5_k *)block;
    for (int v = 0; v < 2; v++) {
        uint8x16_t low = vreinterpretq_u8_s8(nibbles(b->qs + s / 2 * 32 + 16 * v, s % 2));
        uint8x16_t bit = vandq_u8(vld1q_u8(b->qh + 16 * v) >> (uint8_t)s, vdupq_n_u8(1));
        q[v] = vreinterpretq_s8_u8(vsliq_n_u8(low, bit, 4));
    }
}

VEC void quants_q6_k(const uint8_t *block, const int s, int8x16_t q[2]) {
    const struct block_q6_k *b = (const struct block_q6_k *)block;
    for (int v = 0; v < 2; v++) {
        uint8x16_t l = vld1q_u8(b->ql + s / 4 * 64 + s % 2 * 32 + 16 * v);
        uint8x16_t h = vld1q_u8(b->qh + s / 4 * 32 + 16 * v);
        uint8x16_t x = s % 4 == 0   ? vsliq_n_u8(l, vandq_u8(h, vdupq_n_u8(3)), 4)
                       : s % 4 == 1 ? vsliq_n_u8(l, vandq_u8(vshrq_n_u8(h, 2), vdupq_n_u8(3)), 4)
                       : s % 4 == 2 ? vsriq_n_u8(vandq_u8(h, vdupq_n_u8(48)), l, 4)
                                    : vsriq_n_u8(vshrq_n_u8(h, 2), l, 4);
        q[v] = vsubq_s8(vreinterpretq_s8_u8(x), vdupq_n_s8(32));
    }
}

/* Eight scales as int32: all of a block whose sub-blocks have 32 columns, or those of its half h. */
struct k_scale {
    int32x4_t s[2];
};
typedef struct k_scale (*k_scales_fn)(const uint8_t *block, const int h);

/* The packed 6-bit scales and minima of a Q4_K or Q5_K block. Scalar bit work on purpose: it runs beside the vector units. */
VEC struct k_scale scales_q4_k(const uint8_t *block, const int h) {
    (void)h;
    const struct block_q4_k *b = (const struct block_q4_k *)block;
    uint32_t first, last;
    memcpy(&first, b->scales, 4);
    memcpy(&last, b->scales + 8, 4);
    uint64_t bytes = (first & 0x3F3F3F3F) | (uint64_t)((last & 0x0F0F0F0F) | (first >> 2 & 0x30303030)) << 32;
    uint16x8_t v = vmovl_u8(vcreate_u8(bytes));
    return (struct k_scale){{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(v))), vreinterpretq_s32_u32(vmovl_high_u16(v))}};
}
#define scales_q5_k scales_q4_k /* begins alike */

VEC struct k_scale scales_q6_k(const uint8_t *block, const int h) {
    int16x8_t v = vmovl_s8(vld1_s8(((const struct block_q6_k *)block)->scales + 8 * h));
    return (struct k_scale){{vmovl_s16(vget_low_s16(v)), vmovl_high_s16(v)}};
}

/* dmin * m of the eight sub-blocks of a Q4_K or Q5_K block */
VEC void k_minima(const uint8_t *block, float32x4_t *lo, float32x4_t *hi) {
    const struct block_q4_k *b = (const struct block_q4_k *)block;
    uint32_t middle, last;
    memcpy(&middle, b->scales + 4, 4);
    memcpy(&last, b->scales + 8, 4);
    uint64_t bytes = (middle & 0x3F3F3F3F) | (uint64_t)((last >> 4 & 0x0F0F0F0F) | (middle >> 2 & 0x30303030)) << 32;
    uint16x8_t v = vmovl_u8(vcreate_u8(bytes));
    float dmin = half_at(&b->dmin);
    *lo = vmulq_n_f32(vcvtq_f32_u32(vmovl_u16(vget_low_u16(v))), dmin);
    *hi = vmulq_n_f32(vcvtq_f32_u32(vmovl_high_u16(v)), dmin);
}

/* Of a type. Sub-blocks have 16 V columns. Constant wherever it is passed. */
struct k_type {
    k_quants_fn quants;
    k_scales_fn scales;
    size_t block_bytes, d_at;
    bool has_mins;
    int V;
};

/* ---- Activations ---- */

/* As elsewhere, but for the planes: nothing here reads q. */
static void quantize(const struct acts *x, uint32_t i) {
    const uint32_t n_blocks = x->n_cols / QK;
    const float *f = x->f + (size_t)i * x->n_cols;
    int8_t *hi = x->hi + (size_t)i * x->n_cols;
    int8_t *lo = x->lo + (size_t)i * x->n_cols;
    float *sums = x->sums + (size_t)i * acts_sums_stride(x->n_cols);
    const vf limit = vf_set1(ACT_MAX);
    for (uint32_t b = 0; b < n_blocks; b++, sums += 8) {
        vf most = vf_zero();
        for (int c = 0; c < QK; c += 16) {
            most = vf_max(vf_abs(vf_load(f + c)), most);
        }
        const float top = vf_reduce_max(most);
        const float scale = top * (1.0f / ACT_MAX);
        /* a block this small contributes nothing, and its reciprocal would overflow */
        const float inverse = top > 1e-30f ? ACT_MAX / top : 0;
        x->scale[(size_t)i * n_blocks + b] = inverse == 0 ? (top > 1 ? top : 0) : scale; /* infinity goes on as infinity */
        for (int s = 0; s < 8; s++) {
            int32_t sum = 0;
            for (int c = 0; c < 32; c += 16, f += 16, hi += 16, lo += 16) {
                vf v = vf_mul(vf_load(f), vf_set1(inverse));
                v = vf_min(vf_max(v, vf_sub(vf_zero(), limit)), limit); /* whatever the input: the sums must not overflow */
                int16_t q[16];
                vf_store_i16(q, v);
                int16x8_t q0 = vld1q_s16(q);
                int16x8_t q1 = vld1q_s16(q + 8);
                const int16x8_t mask = vdupq_n_s16((1 << ACT_LOW_BITS) - 1);
                vst1q_s8(hi, vshrn_high_n_s16(vshrn_n_s16(q0, ACT_LOW_BITS), q1, ACT_LOW_BITS));
                vst1q_s8(lo, vmovn_high_s16(vmovn_s16(vandq_s16(q0, mask)), vandq_s16(q1, mask)));
                sum += vaddvq_s16(vaddq_s16(q0, q1)); /* of 16: within int16 */
            }
            sums[s] = scale * (float)sum;
        }
    }
    memset(sums, 0, (acts_sums_stride(x->n_cols) - 8 * n_blocks) * sizeof(float));
}

/* ---- Rows: R rows x T tokens, R * T = 4 outputs in the lanes of a vector, lane R t + r ---- */

/* Columns 32 s .. 32 s + 31 of R blocks against T tokens, times their scales, added to the totals. */
VEC void k_step(int32x4_t total[4], const uint8_t *const *p, const struct k_token *x, const struct k_scale *scales, const int s,
                const int R, const int T, const struct k_type k) {
    int8x16_t hi[2][2], lo[2][2];
    for (int t = 0; t < T; t++) {
        for (int v = 0; v < 2; v++) {
            hi[t][v] = vld1q_s8(x[t].hi + 32 * s + 16 * v);
            lo[t][v] = vld1q_s8(x[t].lo + 32 * s + 16 * v);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        int8x16_t q[2];
        k.quants(p[r], s, q);
#pragma GCC unroll 2
        for (int t = 0; t < T; t++) {
#pragma GCC unroll 2
            for (int from = 0; from < 2; from += k.V) { /* a sub-block */
                int32x4_t sum = vdupq_n_s32(0);
                for (int v = from; v < from + k.V; v++) {
                    sum = vdotq_s32(sum, q[v], hi[t][v]);
                }
                sum = vshlq_n_s32(sum, ACT_LOW_BITS);
                for (int v = from; v < from + k.V; v++) {
                    sum = vdotq_s32(sum, q[v], lo[t][v]);
                }
                const int scale = (k.V == 2 ? s : 2 * s + from) % 8;
                total[R * t + r] = mla_lane(total[R * t + r], sum, scales[r].s[scale / 4], scale % 4);
                KEEP(total[R * t + r]);
            }
        }
    }
    STEP_END;
}

/* Sums of R blocks against T tokens, to be added over lanes. */
VEC void k_block(int32x4_t total[4], const uint8_t *const *p, const struct k_token *x, const int R, const int T,
                 const struct k_type k) {
    struct k_scale scales[4];
    for (int i = 0; i < 4; i++) {
        total[i] = vdupq_n_s32(0);
    }
    for (int r = 0; r < R; r++) {
        scales[r] = k.scales(p[r], 0);
    }
    k_step(total, p, x, scales, 0, R, T, k);
    k_step(total, p, x, scales, 1, R, T, k);
    k_step(total, p, x, scales, 2, R, T, k);
    k_step(total, p, x, scales, 3, R, T, k);
    for (int r = 0; r < R && k.V == 1; r++) {
        scales[r] = k.scales(p[r], 1);
    }
    k_step(total, p, x, scales, 4, R, T, k);
    k_step(total, p, x, scales, 5, R, T, k);
    k_step(total, p, x, scales, 6, R, T, k);
    k_step(total, p, x, scales, 7, R, T, k);
}

/* The minima's part of one row against T tokens: a second dot product, over sub-blocks. */
VEC void k_row_minima(const uint8_t *p, const size_t block_bytes, const uint32_t n_blocks, const float *const *sums, float *out,
                      const int T) {
    vf part[2] = {vf_zero(), vf_zero()};
    for (uint32_t b = 0; b < n_blocks; b += 2, p += 2 * block_bytes) {
        vf mins = vf_zero();
        k_minima(p, &mins.a, &mins.b);
        if (b + 1 < n_blocks) {
            k_minima(p + block_bytes, &mins.c, &mins.d);
        }
        for (int t = 0; t < T; t++) {
            part[t] = vf_fma(mins, vf_load(sums[t] + 8 * (size_t)b), part[t]);
        }
    }
    for (int t = 0; t < T; t++) {
        out[t] = vf_reduce_add(part[t]);
    }
}

/* Rows [row0, row1) against tokens [0, T). A last group that is not full repeats its last row and keeps that to itself. */
VEC void k_rows(const struct mm *m, uint32_t row0, uint32_t row1, const int R, const int T,
                const struct k_type k) {
    const uint32_t n_blocks = m->n_cols / QK;
    const float *scale[2], *sums[2];
    for (int t = 0; t < T; t++) {
        const size_t src = src_row(m, (uint32_t)t);
        scale[t] = m->x->scale + src * n_blocks;
        sums[t] = m->x->sums + src * acts_sums_stride(m->n_cols);
    }
    for (uint32_t row = row0; row < row1; row += (uint32_t)R) {
        const uint8_t *p[4];
        struct k_token x[2];
        for (int r = 0; r < R; r++) {
            p[r] = m->w + (row + (uint32_t)r < row1 ? row + (uint32_t)r : row1 - 1) * m->row_bytes;
        }
        for (int t = 0; t < T; t++) {
            x[t] = k_token_at(m, (uint32_t)t, 0);
        }
        float32x4_t acc = vdupq_n_f32(0);
        for (uint32_t b = 0; b < n_blocks; b++) {
            for (int r = 0; r < R; r++) {
                for (size_t c = 0; c < k.block_bytes; c += 64) {
                    VEC_PREFETCH(p[r] + ROWS_AHEAD + c);
                }
            }
            int32x4_t total[4];
            k_block(total, p, x, R, T, k);
            uint16x4_t halves = vdup_n_u16(0);
            halves = vld1_lane_u16((const uint16_t *)(const void *)(p[0] + k.d_at), halves, 0);
            halves = vld1_lane_u16((const uint16_t *)(const void *)(p[1] + k.d_at), halves, 1);
            halves = vld1_lane_u16((const uint16_t *)(const void *)(p[R == 4 ? 2 : 0] + k.d_at), halves, 2);
            halves = vld1_lane_u16((const uint16_t *)(const void *)(p[R == 4 ? 3 : 1] + k.d_at), halves, 3);
            float32x4_t d = vcvt_f32_f16(vreinterpret_f16_u16(halves));
            float32x4_t s = T == 1 ? vld1q_dup_f32(scale[0] + b)
                                   : vcombine_f32(vld1_dup_f32(scale[0] + b), vld1_dup_f32(scale[1] + b));
            int32x4_t sum = vpaddq_s32(vpaddq_s32(total[0], total[1]), vpaddq_s32(total[2], total[3]));
            acc = vaddq_f32(acc, vmulq_f32(vcvtq_f32_s32(sum), vmulq_f32(d, s)));
            for (int r = 0; r < R; r++) {
                p[r] += k.block_bytes;
            }
            for (int t = 0; t < T; t++) {
                x[t] = (struct k_token){x[t].hi + QK, x[t].lo + QK};
            }
        }
        float dots[4];
        vst1q_f32(dots, acc);
        for (uint32_t r = 0; r < (uint32_t)R && row + r < row1; r++) {
            float minima[2] = {0, 0};
            if (k.has_mins) {
                k_row_minima(m->w + (row + r) * m->row_bytes, k.block_bytes, n_blocks, sums, minima, T);
            }
            for (uint32_t t = 0; t < (uint32_t)T; t++) {
                float dot = dots[(uint32_t)R * t + r];
                put(m, t, row + r, k.has_mins ? dot - minima[t] : dot);
            }
        }
    }
}

/* ---- Panels ---- */

/* A panel in scratch: PANEL rows of one block, and what its tiles need over all blocks. */
struct panel {
    int8_t *w;      /* [PANEL / 4][64][4 rows][4 columns] quants */
    int32_t *scale; /* [PANEL / 4][16 sub-blocks][4 rows] */
    float *d;       /* [PANEL] */
    float *acc;     /* [KERNELS_PASS / 4][PANEL / 4][16]: token t and row r of a tile in lane 4 t + r */
    float *mins;    /* [PANEL][sums_stride] dmin * m */
};

VEC struct panel panel_at(void *scratch) {
    struct panel p;
    p.w = scratch;
    p.scale = (int32_t *)(void *)(p.w + PANEL * QK);
    p.d = (float *)(void *)(p.scale + PANEL * 16);
    p.acc = p.d + PANEL;
    p.mins = p.acc + KERNELS_PASS * PANEL;
    return p;
}

/* 16 columns of four rows, interleaved in fours */
VEC void k_lay(int8_t *w, int8x16_t a, int8x16_t b, int8x16_t c, int8x16_t d) {
    int32x4x4_t v = {{vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b), vreinterpretq_s32_s8(c), vreinterpretq_s32_s8(d)}};
    vst4q_s32((int32_t *)(void *)w, v);
}

/* Quants and scales of four rows' blocks. */
VEC void k_lay_block(int8_t *w, int32_t *scale, const uint8_t *const *p, const struct k_type k) {
    for (int h = 0; h < 3 - k.V; h++) {
        struct k_scale s[4];
        for (int r = 0; r < 4; r++) {
            s[r] = k.scales(p[r], h);
        }
        for (int i = 0; i < 2; i++) {
            int32x4x4_t v = {{s[0].s[i], s[1].s[i], s[2].s[i], s[3].s[i]}};
            vst4q_s32(scale + 32 * h + 16 * i, v);
        }
    }
#define STEP(s)                                                                                                        \
    {                                                                                                                  \
        int8x16_t q[4][2];                                                                                             \
        for (int r = 0; r < 4; r++) {                                                                                  \
            k.quants(p[r], s, q[r]);                                                                                   \
        }                                                                                                              \
        k_lay(w + 128 * (s), q[0][0], q[1][0], q[2][0], q[3][0]);                                                      \
        k_lay(w + 128 * (s) + 64, q[0][1], q[1][1], q[2][1], q[3][1]);                                                 \
        STEP_END;                                                                                                      \
    }
    STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7)
#undef STEP
}

/* sum[g][t] += 16 columns of 4 rows at w and of the 4 rows behind them, against a plane of T tokens' activations */
VEC void k_columns(int32x4_t sum[2][4], const int8_t *w, const int8x16_t *a, const int T) {
    for (int e = 0; e < 4; e++) {
        int8x16_t w0 = vld1q_s8(w + 16 * e);
        int8x16_t w1 = vld1q_s8(w + 4 * QK + 16 * e);
        for (int t = 0; t < T; t++) {
            sum[0][t] = dot_lane(sum[0][t], w0, a[t], e);
            sum[1][t] = dot_lane(sum[1][t], w1, a[t], e);
        }
    }
}

/* Eight rows from group g on against T tokens over one block, V times 16 columns to a sub-block. */
VEC void k_tile(const struct panel *pn, uint32_t g, const struct k_token *tokens, const float *scales, float *acc, const int T,
                const int V) {
    struct k_token x[4];
    const int8_t *w = pn->w + (size_t)4 * QK * g;
    const int32_t *scale = pn->scale + (size_t)16 * 4 * g;
    int32x4_t total[2][4];
    for (int t = 0; t < T; t++) {
        x[t] = tokens[t];
        total[0][t] = total[1][t] = vdupq_n_s32(0);
    }
    for (int c = 0; c < QK; c += 16 * V, scale += 4) {
        int32x4_t sum[2][4];
        int8x16_t a[4];
        for (int t = 0; t < T; t++) {
            sum[0][t] = sum[1][t] = vdupq_n_s32(0);
        }
        for (int v = 0; v < V; v++) {
            for (int t = 0; t < T; t++) {
                a[t] = vld1q_s8(x[t].hi + c + 16 * v);
            }
            k_columns(sum, w + 4 * (c + 16 * v), a, T);
            STEP_END;
        }
        for (int t = 0; t < T; t++) {
            sum[0][t] = vshlq_n_s32(sum[0][t], ACT_LOW_BITS);
            sum[1][t] = vshlq_n_s32(sum[1][t], ACT_LOW_BITS);
        }
        for (int v = 0; v < V; v++) {
            for (int t = 0; t < T; t++) {
                a[t] = vld1q_s8(x[t].lo + c + 16 * v);
            }
            k_columns(sum, w + 4 * (c + 16 * v), a, T);
            STEP_END;
        }
        int32x4_t s0 = vld1q_s32(scale);
        int32x4_t s1 = vld1q_s32(scale + 16 * 4);
        for (int t = 0; t < T; t++) {
            total[0][t] = vmlaq_s32(total[0][t], sum[0][t], s0);
            total[1][t] = vmlaq_s32(total[1][t], sum[1][t], s1);
        }
    }
    for (int i = 0; i < 2; i++) {
        float32x4_t d = vld1q_f32(pn->d + 4 * (g + (uint32_t)i));
        for (int t = 0; t < T; t++) {
            float *y = acc + 16 * (g + (uint32_t)i) + 4 * t;
            vst1q_f32(y, vaddq_f32(vld1q_f32(y), vmulq_f32(vcvtq_f32_s32(total[i][t]), vmulq_n_f32(d, scales[t]))));
        }
    }
}

/* `groups` (even) times 4 rows of one block against T tokens. */
#define K_TILES(T, V)                                                                                                  \
    KERNEL void k_tiles_##T##_##V(const struct panel *pn, uint32_t groups, const struct k_token *x, const float *scales,   \
                                  float *acc) {                                                                        \
        for (uint32_t g = 0; g < groups; g += 2) {                                                                     \
            k_tile(pn, g, x, scales, acc, T, V);                                                                       \
        }                                                                                                              \
    }
K_TILES(1, 1)
K_TILES(2, 1)
K_TILES(3, 1)
K_TILES(4, 1)
K_TILES(1, 2)
K_TILES(2, 2)
K_TILES(3, 2)
K_TILES(4, 2)

typedef void (*k_tiles_fn)(const struct panel *pn, uint32_t groups, const struct k_token *x, const float *scales, float *acc);

/* Block b of the panel against tokens [i0, i0 + n). */
static void k_panel_block(const struct mm *m, const struct panel *pn, uint32_t b, uint32_t groups, uint32_t i0, uint32_t n, int V) {
    static const k_tiles_fn tiles[2][5] = {{NULL, k_tiles_1_1, k_tiles_2_1, k_tiles_3_1, k_tiles_4_1},
                                           {NULL, k_tiles_1_2, k_tiles_2_2, k_tiles_3_2, k_tiles_4_2}};
    const uint32_t n_blocks = m->n_cols / QK;
    for (uint32_t i = 0; i < n; i += 4) {
        const uint32_t T = n - i < 4 ? n - i : 4;
        struct k_token x[4];
        float scales[4];
        for (uint32_t t = 0; t < T; t++) {
            x[t] = k_token_at(m, i0 + i + t, b);
            scales[t] = m->x->scale[(size_t)src_row(m, i0 + i + t) * n_blocks + b];
        }
        for (uint32_t t = 0; i + 4 + t < n && t < 4; t++) { /* the next tokens' columns are not where hardware looks */
            struct k_token next = k_token_at(m, i0 + i + 4 + t, b);
            for (int c = 0; c < QK; c += 64) {
                VEC_PREFETCH(next.hi + c);
                VEC_PREFETCH(next.lo + c);
            }
        }
        tiles[V - 1][T](pn, groups, x, scales, pn->acc + (size_t)(i / 4) * (PANEL / 4 * 16));
    }
}

/* The minima's part of one token and the 4 rows from row r on; lanes are added in the order of vf_reduce_add. */
VEC float32x4_t k_tile_minima(const struct mm *m, const struct panel *pn, uint32_t r, uint32_t i) {
    const uint32_t stride = acts_sums_stride(m->n_cols);
    const float *mins = pn->mins + (size_t)r * stride;
    const float *sums = m->x->sums + (size_t)src_row(m, i) * stride;
    vf part[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    for (uint32_t s = 0; s < stride; s += 16) {
        vf x = vf_load(sums + s);
        for (int k = 0; k < 4; k++) {
            part[k] = vf_fma(vf_load(mins + (size_t)k * stride + s), x, part[k]);
        }
    }
    float32x4_t v[4];
    for (int k = 0; k < 4; k++) {
        v[k] = vaddq_f32(vaddq_f32(part[k].a, part[k].c), vaddq_f32(part[k].b, part[k].d));
    }
    float32x4_t v01 = vaddq_f32(vcombine_f32(vget_low_f32(v[0]), vget_low_f32(v[1])),
                                vcombine_f32(vget_high_f32(v[0]), vget_high_f32(v[1])));
    float32x4_t v23 = vaddq_f32(vcombine_f32(vget_low_f32(v[2]), vget_low_f32(v[3])),
                                vcombine_f32(vget_high_f32(v[2]), vget_high_f32(v[3])));
    return vpaddq_f32(v01, v23);
}

/* Takes the minima from the panel's finished sums and puts them: `rows` rows from `row` on, tokens [i0, i0 + n). */
KERNEL void k_finish(const struct mm *m, const struct panel *pn, uint32_t row, uint32_t rows, uint32_t i0, uint32_t n,
                     bool has_mins) {
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t r = 0; r < rows; r += 4) {
            const float *acc = pn->acc + ((size_t)(i / 4) * (PANEL / 4) + r / 4) * 16 + 4 * (i % 4);
            float out[4];
            vst1q_f32(out, has_mins ? vsubq_f32(vld1q_f32(acc), k_tile_minima(m, pn, r, i0 + i)) : vld1q_f32(acc));
            for (uint32_t k = 0; k < 4 && r + k < rows; k++) {
                put(m, i0 + i, row + r + k, out[k]);
            }
        }
    }
}

/* Four rows of block b into the panel; rows past the last repeat it. */
VEC void k_unpack(const struct mm *m, const struct panel *pn, uint32_t row, uint32_t last, uint32_t r, uint32_t b,
                  const struct k_type k) {
    const uint8_t *p[4];
    for (uint32_t i = 0; i < 4; i++) {
        p[i] = m->w + (row + r + i < last ? row + r + i : last) * m->row_bytes + b * k.block_bytes;
        for (size_t c = 0; c < k.block_bytes; c += 64) { /* the same block of the next panel */
            VEC_PREFETCH(p[i] + PANEL * m->row_bytes + c);
        }
        pn->d[r + i] = half_at((const uint16_t *)(const void *)(p[i] + k.d_at));
        if (k.has_mins) {
            float32x4_t lo, hi;
            k_minima(p[i], &lo, &hi);
            float *mins = pn->mins + (size_t)(r + i) * acts_sums_stride(m->n_cols) + 8 * (size_t)b;
            vst1q_f32(mins, lo);
            vst1q_f32(mins + 4, hi);
        }
    }
    k_lay_block(pn->w + (size_t)QK * r, pn->scale + (size_t)16 * r, p, k);
}

/* Rows [row0, row1) against tokens [i0, i0 + n), n <= KERNELS_PASS. */
VEC void k_pass(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0, uint32_t n, const struct k_type k) {
    const struct panel pn = panel_at(scratch);
    const uint32_t n_blocks = m->n_cols / QK;
    const uint32_t stride = acts_sums_stride(m->n_cols);
    for (uint32_t row = row0; row < row1; row += PANEL) {
        const uint32_t rows = row1 - row < PANEL ? row1 - row : PANEL;
        const uint32_t padded = (rows + 7) / 8 * 8;
        memset(pn.acc, 0, (size_t)((n + 3) / 4) * PANEL * 4 * sizeof(float));
        for (uint32_t r = 0; r < padded && k.has_mins; r++) { /* sub-blocks that pad the row to 16 */
            memset(pn.mins + (size_t)r * stride + 8 * n_blocks, 0, (stride - 8 * n_blocks) * sizeof(float));
        }
        for (uint32_t b = 0; b < n_blocks; b++) {
            for (uint32_t r = 0; r < padded; r += 4) {
                k_unpack(m, &pn, row, row1 - 1, r, b, k);
            }
            k_panel_block(m, &pn, b, padded / 4, i0, n, k.V);
        }
        k_finish(m, &pn, row, rows, i0, n, k.has_mins);
    }
}

#define K_MATMUL(type, has_mins, V)                                                                                    \
    static const struct k_type k_##type = {quants_##type, scales_##type, sizeof(struct block_##type),                  \
                                           offsetof(struct block_##type, d), has_mins, V};                             \
    KERNEL void rows_1_##type(const struct mm *m, uint32_t row0, uint32_t row1) {                                      \
        k_rows(m, row0, row1, 4, 1, k_##type);                                                                         \
    }                                                                                                                  \
    KERNEL void rows_2_##type(const struct mm *m, uint32_t row0, uint32_t row1) {                                      \
        k_rows(m, row0, row1, 2, 2, k_##type);                                                                         \
    }                                                                                                                  \
    KERNEL void pass_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0, uint32_t n) {    \
        k_pass(m, row0, row1, scratch, i0, n, k_##type);                                                               \
    }                                                                                                                  \
    static void matmul_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch) {                       \
        if (m->n <= 2) {                                                                                               \
            (m->n == 1 ? rows_1_##type : rows_2_##type)(m, row0, row1);                                                \
            return;                                                                                                    \
        }                                                                                                              \
        for (uint32_t i = 0; i < m->n; i += KERNELS_PASS) {                                                            \
            pass_##type(m, row0, row1, scratch, i, m->n - i < KERNELS_PASS ? m->n - i : KERNELS_PASS);                 \
        }                                                                                                              \
    }

K_MATMUL(q4_k, true, 2)
K_MATMUL(q5_k, true, 2)
K_MATMUL(q6_k, false, 1)
