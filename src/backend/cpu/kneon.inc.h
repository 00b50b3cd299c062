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

/* One token's activations from some column on. */
struct k_token {
    const int8_t *hi, *lo;
    const int16_t *halves;
};

VEC struct k_token k_token_at(const struct mm *m, uint32_t i) {
    const size_t src = src_row(m, i);
    return (struct k_token){m->x->hi + src * m->n_cols, m->x->lo + src * m->n_cols, m->x->halves + src * (m->n_cols / 16)};
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

/* ---- What the types have in common with one another: scales, minima, quants of 16 columns ---- */

/* The packed 6-bit scales and minima of a Q4_K or Q5_K block. Scalar bit work on purpose: it runs beside the vector units. */
VEC uint64_t k_scales(const uint8_t *p) {
    uint32_t a, c;
    memcpy(&a, p, 4);
    memcpy(&c, p + 8, 4);
    return (a & 0x3F3F3F3F) | (uint64_t)((c & 0x0F0F0F0F) | (a >> 2 & 0x30303030)) << 32;
}
VEC uint64_t k_mins(const uint8_t *p) {
    uint32_t b, c;
    memcpy(&b, p + 4, 4);
    memcpy(&c, p + 8, 4);
    return (b & 0x3F3F3F3F) | (uint64_t)((c >> 4 & 0x0F0F0F0F) | (b >> 2 & 0x30303030)) << 32;
}

/* Eight scales as int32. */
struct k_scale {
    int32x4_t s[2];
};
VEC struct k_scale k_scale_u8(uint64_t bytes) {
    int16x8_t v = vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(bytes)));
    return (struct k_scale){{vmovl_s16(vget_low_s16(v)), vmovl_high_s16(v)}};
}
VEC struct k_scale k_scale_i8(const int8_t *p) {
    int16x8_t v = vmovl_s8(vld1_s8(p));
    return (struct k_scale){{vmovl_s16(vget_low_s16(v)), vmovl_high_s16(v)}};
}

/* dmin * m of a block's eight sub-blocks */
VEC void k_minima(const uint8_t *p, float32x4_t *lo, float32x4_t *hi) {
    const struct block_q4_k *b = (const struct block_q4_k *)p; /* Q5_K begins alike */
    float dmin = half_at(&b->dmin);
    uint16x8_t v = vmovl_u8(vcreate_u8(k_mins(b->scales)));
    *lo = vmulq_n_f32(vcvtq_f32_u32(vmovl_u16(vget_low_u16(v))), dmin);
    *hi = vmulq_n_f32(vcvtq_f32_u32(vmovl_high_u16(v)), dmin);
}

VEC int8x16_t low_nibbles(uint8x16_t v) { return vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15))); }
VEC int8x16_t high_nibbles(uint8x16_t v) { return vreinterpretq_s8_u8(vshrq_n_u8(v, 4)); }
/* v with `bit` (0 or 1) as bit 4 */
VEC int8x16_t with_fifth(int8x16_t v, uint8x16_t bit) {
    return vreinterpretq_s8_u8(vsliq_n_u8(vreinterpretq_u8_s8(v), bit, 4));
}
/* bit s of every byte */
VEC uint8x16_t bit_of(uint8x16_t v, const int s) { return vandq_u8(v >> (uint8_t)s, vdupq_n_u8(1)); }

/* Sixteen columns of a Q6_K block: quants (32 too high) of 16 j + 32 k, k = 0..3, from 16 bytes each of ql, ql + 32 and qh. */
VEC void k_quants_q6_k(const uint8_t *ql, const uint8_t *qh, int8x16_t q[4]) {
    uint8x16_t l0 = vld1q_u8(ql);
    uint8x16_t l1 = vld1q_u8(ql + 32);
    uint8x16_t h = vld1q_u8(qh);
    uint8x16_t h2 = vshrq_n_u8(h, 2);
    uint8x16_t three = vdupq_n_u8(3);
    q[0] = vreinterpretq_s8_u8(vsliq_n_u8(l0, vandq_u8(h, three), 4));
    q[1] = vreinterpretq_s8_u8(vsliq_n_u8(l1, vandq_u8(h2, three), 4));
    q[2] = vreinterpretq_s8_u8(vsriq_n_u8(vandq_u8(h, vdupq_n_u8(48)), l0, 4));
    q[3] = vreinterpretq_s8_u8(vsriq_n_u8(h2, l1, 4));
}

/* ---- Rows: R rows x T tokens, R * T = 4 outputs in the lanes of a vector, lane R t + r ---- */

/* A sub-block of V times 16 columns: R rows' quants against T tokens, times scale s, added to the totals. */
VEC void k_sub(int32x4_t total[4], int8x16_t q[4][2], const struct k_token *x, const int at, struct k_scale *scales, const int s,
               const int R, const int T, const int V) {
    for (int t = 0; t < T; t++) {
        int8x16_t hi[2], lo[2];
        for (int v = 0; v < V; v++) {
            hi[v] = vld1q_s8(x[t].hi + at + 16 * v);
            lo[v] = vld1q_s8(x[t].lo + at + 16 * v);
        }
        for (int r = 0; r < R; r++) {
            int32x4_t sum = vdupq_n_s32(0);
            for (int v = 0; v < V; v++) {
                sum = vdotq_s32(sum, q[r][v], hi[v]);
            }
            sum = vshlq_n_s32(sum, ACT_LOW_BITS);
            for (int v = 0; v < V; v++) {
                sum = vdotq_s32(sum, q[r][v], lo[v]);
            }
            total[R * t + r] = mla_lane(total[R * t + r], sum, scales[r].s[s / 4], s % 4);
        }
    }
}

/* Each: the sums of the blocks at p[0..R) against T tokens at x, to be added over lanes; returns the offset of d. */
VEC size_t k_block_q4_k(const uint8_t *const *p, const struct k_token *x, int32x4_t total[4], const int R, const int T) {
    struct k_scale scales[4];
    for (int r = 0; r < R; r++) {
        scales[r] = k_scale_u8(k_scales(((const struct block_q4_k *)p[r])->scales));
    }
#define CHUNK(c)                                                                                                       \
    {                                                                                                                  \
        uint8x16_t b[4][2];                                                                                            \
        int8x16_t q[4][2];                                                                                             \
        for (int r = 0; r < R; r++) {                                                                                  \
            for (int v = 0; v < 2; v++) {                                                                              \
                b[r][v] = vld1q_u8(((const struct block_q4_k *)p[r])->qs + 32 * (c) + 16 * v);                         \
                q[r][v] = low_nibbles(b[r][v]);                                                                        \
            }                                                                                                          \
        }                                                                                                              \
        k_sub(total, q, x, 64 * (c), scales, 2 * (c), R, T, 2);                                                        \
        for (int r = 0; r < R; r++) {                                                                                  \
            for (int v = 0; v < 2; v++) {                                                                              \
                q[r][v] = high_nibbles(b[r][v]);                                                                       \
            }                                                                                                          \
        }                                                                                                              \
        k_sub(total, q, x, 64 * (c) + 32, scales, 2 * (c) + 1, R, T, 2);                                               \
    }
    CHUNK(0) CHUNK(1) CHUNK(2) CHUNK(3)
#undef CHUNK
    return offsetof(struct block_q4_k, d);
}

VEC size_t k_block_q5_k(const uint8_t *const *p, const struct k_token *x, int32x4_t total[4], const int R, const int T) {
    struct k_scale scales[4];
    for (int r = 0; r < R; r++) {
        scales[r] = k_scale_u8(k_scales(((const struct block_q5_k *)p[r])->scales));
    }
#define CHUNK(c)                                                                                                       \
    {                                                                                                                  \
        uint8x16_t b[4][2], h[4][2];                                                                                   \
        int8x16_t q[4][2];                                                                                             \
        for (int r = 0; r < R; r++) {                                                                                  \
            for (int v = 0; v < 2; v++) {                                                                              \
                b[r][v] = vld1q_u8(((const struct block_q5_k *)p[r])->qs + 32 * (c) + 16 * v);                         \
                h[r][v] = vld1q_u8(((const struct block_q5_k *)p[r])->qh + 16 * v);                                    \
                q[r][v] = with_fifth(low_nibbles(b[r][v]), bit_of(h[r][v], 2 * (c)));                                  \
            }                                                                                                          \
        }                                                                                                              \
        k_sub(total, q, x, 64 * (c), scales, 2 * (c), R, T, 2);                                                        \
        for (int r = 0; r < R; r++) {                                                                                  \
            for (int v = 0; v < 2; v++) {                                                                              \
                q[r][v] = with_fifth(high_nibbles(b[r][v]), bit_of(h[r][v], 2 * (c) + 1));                             \
            }                                                                                                          \
        }                                                                                                              \
        k_sub(total, q, x, 64 * (c) + 32, scales, 2 * (c) + 1, R, T, 2);                                               \
    }
    CHUNK(0) CHUNK(1) CHUNK(2) CHUNK(3)
#undef CHUNK
    return offsetof(struct block_q5_k, d);
}

VEC size_t k_block_q6_k(const uint8_t *const *p, const struct k_token *x, int32x4_t total[4], const int R, const int T) {
    for (int h = 0; h < 2; h++) {
        struct k_scale scales[4];
        for (int r = 0; r < R; r++) {
            const struct block_q6_k *b = (const struct block_q6_k *)p[r];
            scales[r] = k_scale_i8(b->scales + 8 * h);
            for (int t = 0; t < T; t++) { /* quants stand 32 too high: 32 * scale * (sum of the 16 activations) too much */
                int16x8_t sum = vld1q_s16(x[t].halves + 8 * h);
                int16x8_t s = vmovl_s8(vld1_s8(b->scales + 8 * h));
                int32x4_t over = vmlal_high_s16(vmull_s16(vget_low_s16(sum), vget_low_s16(s)), sum, s);
                total[R * t + r] = vsubq_s32(total[R * t + r], vshlq_n_s32(over, 5));
            }
        }
#define COLUMNS(j)                                                                                                     \
    {                                                                                                                  \
        int8x16_t q[4][4];                                                                                             \
        for (int r = 0; r < R; r++) {                                                                                  \
            const struct block_q6_k *b = (const struct block_q6_k *)p[r];                                              \
            k_quants_q6_k(b->ql + 64 * h + 16 * (j), b->qh + 32 * h + 16 * (j), q[r]);                                 \
        }                                                                                                              \
        SUB(j, 0) SUB(j, 1) SUB(j, 2) SUB(j, 3)                                                                        \
    }
#define SUB(j, k)                                                                                                      \
    {                                                                                                                  \
        int8x16_t one[4][2];                                                                                           \
        for (int r = 0; r < R; r++) {                                                                                  \
            one[r][0] = q[r][k];                                                                                       \
        }                                                                                                              \
        k_sub(total, one, x, 128 * h + 32 * (k) + 16 * (j), scales, 2 * (k) + (j), R, T, 1);                           \
    }
        COLUMNS(0) COLUMNS(1)
#undef SUB
#undef COLUMNS
    }
    return offsetof(struct block_q6_k, d);
}

typedef size_t (*k_block_fn)(const uint8_t *const *p, const struct k_token *x, int32x4_t total[4], const int R, const int T);

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
VEC void k_rows(const struct mm *m, uint32_t row0, uint32_t row1, const int R, const int T, k_block_fn block,
                const size_t block_bytes, const bool has_mins) {
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
            x[t] = k_token_at(m, (uint32_t)t);
        }
        float32x4_t acc = vdupq_n_f32(0);
        for (uint32_t b = 0; b < n_blocks; b++) {
            int32x4_t total[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
            for (int r = 0; r < R; r++) {
                for (size_t c = 0; c < block_bytes; c += 64) {
                    VEC_PREFETCH(p[r] + ROWS_AHEAD + c);
                }
            }
            const size_t d_at = block(p, x, total, R, T);
            uint16x4_t halves = vdup_n_u16(0);
            halves = vld1_lane_u16((const uint16_t *)(const void *)(p[0] + d_at), halves, 0);
            halves = vld1_lane_u16((const uint16_t *)(const void *)(p[1] + d_at), halves, 1);
            halves = vld1_lane_u16((const uint16_t *)(const void *)(p[R == 4 ? 2 : 0] + d_at), halves, 2);
            halves = vld1_lane_u16((const uint16_t *)(const void *)(p[R == 4 ? 3 : 1] + d_at), halves, 3);
            float32x4_t d = vcvt_f32_f16(vreinterpret_f16_u16(halves));
            float32x4_t s = T == 1 ? vld1q_dup_f32(scale[0] + b)
                                   : vcombine_f32(vld1_dup_f32(scale[0] + b), vld1_dup_f32(scale[1] + b));
            int32x4_t sum = vpaddq_s32(vpaddq_s32(total[0], total[1]), vpaddq_s32(total[2], total[3]));
            acc = vaddq_f32(acc, vmulq_f32(vcvtq_f32_s32(sum), vmulq_f32(d, s)));
            for (int r = 0; r < R; r++) {
                p[r] += block_bytes;
            }
            for (int t = 0; t < T; t++) {
                x[t] = (struct k_token){x[t].hi + QK, x[t].lo + QK, x[t].halves + QK / 16};
            }
        }
        float dots[4];
        vst1q_f32(dots, acc);
        for (uint32_t r = 0; r < (uint32_t)R && row + r < row1; r++) {
            float minima[2] = {0, 0};
            if (has_mins) {
                k_row_minima(m->w + (row + r) * m->row_bytes, block_bytes, n_blocks, sums, minima, T);
            }
            for (uint32_t t = 0; t < (uint32_t)T; t++) {
                float dot = dots[(uint32_t)R * t + r];
                put(m, t, row + r, has_mins ? dot - minima[t] : dot);
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
VEC void k_lay_scales(int32_t *out, struct k_scale a, struct k_scale b, struct k_scale c, struct k_scale d) {
    for (int i = 0; i < 2; i++) {
        int32x4x4_t v = {{a.s[i], b.s[i], c.s[i], d.s[i]}};
        vst4q_s32(out + 16 * i, v);
    }
}

VEC void unpack_q4_k(const uint8_t *const *p, int8_t *w, int32_t *scale) {
    const struct block_q4_k *b[4] = {(const void *)p[0], (const void *)p[1], (const void *)p[2], (const void *)p[3]};
    struct k_scale s[4];
    for (int r = 0; r < 4; r++) {
        s[r] = k_scale_u8(k_scales(b[r]->scales));
    }
    k_lay_scales(scale, s[0], s[1], s[2], s[3]);
    for (int i = 0; i < 128; i += 16) {
        uint8x16_t v[4];
        for (int r = 0; r < 4; r++) {
            v[r] = vld1q_u8(b[r]->qs + i);
        }
        int8_t *to = w + 4 * (i / 32 * 64 + i % 32);
        k_lay(to, low_nibbles(v[0]), low_nibbles(v[1]), low_nibbles(v[2]), low_nibbles(v[3]));
        k_lay(to + 4 * 32, high_nibbles(v[0]), high_nibbles(v[1]), high_nibbles(v[2]), high_nibbles(v[3]));
    }
}

VEC void unpack_q5_k(const uint8_t *const *p, int8_t *w, int32_t *scale) {
    const struct block_q5_k *b[4] = {(const void *)p[0], (const void *)p[1], (const void *)p[2], (const void *)p[3]};
    struct k_scale s[4];
    for (int r = 0; r < 4; r++) {
        s[r] = k_scale_u8(k_scales(b[r]->scales));
    }
    k_lay_scales(scale, s[0], s[1], s[2], s[3]);
    for (int j = 0; j < 32; j += 16) {
        uint8x16_t h[4]; /* next two fifth bits lowest */
        for (int r = 0; r < 4; r++) {
            h[r] = vld1q_u8(b[r]->qh + j);
        }
        for (int c = 0; c < 4; c++) {
            int8x16_t lo[4], hi[4];
            for (int r = 0; r < 4; r++) {
                uint8x16_t v = vld1q_u8(b[r]->qs + 32 * c + j);
                lo[r] = with_fifth(low_nibbles(v), bit_of(h[r], 0));
                hi[r] = with_fifth(high_nibbles(v), bit_of(h[r], 1));
                h[r] = vshrq_n_u8(h[r], 2);
            }
            k_lay(w + 4 * (64 * c + j), lo[0], lo[1], lo[2], lo[3]);
            k_lay(w + 4 * (64 * c + 32 + j), hi[0], hi[1], hi[2], hi[3]);
        }
    }
}

VEC void unpack_q6_k(const uint8_t *const *p, int8_t *w, int32_t *scale) {
    const struct block_q6_k *b[4] = {(const void *)p[0], (const void *)p[1], (const void *)p[2], (const void *)p[3]};
    const int8x16_t bias = vdupq_n_s8(32);
    for (int h = 0; h < 2; h++) {
        k_lay_scales(scale + 32 * h, k_scale_i8(b[0]->scales + 8 * h), k_scale_i8(b[1]->scales + 8 * h),
                     k_scale_i8(b[2]->scales + 8 * h), k_scale_i8(b[3]->scales + 8 * h));
        for (int j = 0; j < 32; j += 16) {
            int8x16_t q[4][4];
            for (int r = 0; r < 4; r++) {
                k_quants_q6_k(b[r]->ql + 64 * h + j, b[r]->qh + 32 * h + j, q[r]);
            }
            for (int k = 0; k < 4; k++) {
                k_lay(w + 4 * (128 * h + 32 * k + j), vsubq_s8(q[0][k], bias), vsubq_s8(q[1][k], bias),
                      vsubq_s8(q[2][k], bias), vsubq_s8(q[3][k], bias));
            }
        }
    }
}

typedef void (*unpack_fn)(const uint8_t *const *p, int8_t *w, int32_t *scale);

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
VEC void k_tile(const struct panel *pn, uint32_t g, const struct k_token *x, const float *scales, float *acc, const int T,
                const int V) {
    const int8_t *w = pn->w + (size_t)4 * QK * g;
    const int32_t *scale = pn->scale + (size_t)16 * 4 * g;
    int32x4_t total[2][4];
    for (int t = 0; t < T; t++) {
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
            x[t] = k_token_at(m, i0 + i + t);
            x[t].hi += (size_t)b * QK;
            x[t].lo += (size_t)b * QK;
            scales[t] = m->x->scale[(size_t)src_row(m, i0 + i + t) * n_blocks + b];
        }
        for (uint32_t t = 0; i + 4 + t < n && t < 4; t++) { /* the next tokens' columns are not where hardware looks */
            struct k_token next = k_token_at(m, i0 + i + 4 + t);
            for (int c = 0; c < QK; c += 64) {
                VEC_PREFETCH(next.hi + (size_t)b * QK + c);
                VEC_PREFETCH(next.lo + (size_t)b * QK + c);
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
                  unpack_fn unpack, const size_t block_bytes, const size_t d_at, const bool has_mins) {
    const uint8_t *p[4];
    for (uint32_t k = 0; k < 4; k++) {
        p[k] = m->w + (row + r + k < last ? row + r + k : last) * m->row_bytes + b * block_bytes;
        for (size_t c = 0; c < block_bytes; c += 64) { /* the same block of the next panel */
            VEC_PREFETCH(p[k] + PANEL * m->row_bytes + c);
        }
        uint16_t d;
        memcpy(&d, p[k] + d_at, sizeof d);
        pn->d[r + k] = half_at(&d);
        if (has_mins) {
            float32x4_t lo, hi;
            k_minima(p[k], &lo, &hi);
            float *mins = pn->mins + (size_t)(r + k) * acts_sums_stride(m->n_cols) + 8 * (size_t)b;
            vst1q_f32(mins, lo);
            vst1q_f32(mins + 4, hi);
        }
    }
    unpack(p, pn->w + (size_t)QK * r, pn->scale + (size_t)16 * r);
}

/* Rows [row0, row1) against tokens [i0, i0 + n), n <= KERNELS_PASS. */
VEC void k_pass(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0, uint32_t n, unpack_fn unpack,
                const size_t block_bytes, const size_t d_at, const bool has_mins, const int V) {
    const struct panel pn = panel_at(scratch);
    const uint32_t n_blocks = m->n_cols / QK;
    const uint32_t stride = acts_sums_stride(m->n_cols);
    for (uint32_t row = row0; row < row1; row += PANEL) {
        const uint32_t rows = row1 - row < PANEL ? row1 - row : PANEL;
        const uint32_t padded = (rows + 7) / 8 * 8;
        memset(pn.acc, 0, (size_t)((n + 3) / 4) * PANEL * 4 * sizeof(float));
        for (uint32_t r = 0; r < padded && has_mins; r++) { /* sub-blocks that pad the row to 16 */
            memset(pn.mins + (size_t)r * stride + 8 * n_blocks, 0, (stride - 8 * n_blocks) * sizeof(float));
        }
        for (uint32_t b = 0; b < n_blocks; b++) {
            for (uint32_t r = 0; r < padded; r += 4) {
                k_unpack(m, &pn, row, row1 - 1, r, b, unpack, block_bytes, d_at, has_mins);
            }
            k_panel_block(m, &pn, b, padded / 4, i0, n, V);
        }
        k_finish(m, &pn, row, rows, i0, n, has_mins);
    }
}

#define K_MATMUL(type, has_mins, V)                                                                                    \
    KERNEL void rows_1_##type(const struct mm *m, uint32_t row0, uint32_t row1) {                                      \
        k_rows(m, row0, row1, 4, 1, k_block_##type, sizeof(struct block_##type), has_mins);                            \
    }                                                                                                                  \
    KERNEL void rows_2_##type(const struct mm *m, uint32_t row0, uint32_t row1) {                                      \
        k_rows(m, row0, row1, 2, 2, k_block_##type, sizeof(struct block_##type), has_mins);                            \
    }                                                                                                                  \
    KERNEL void pass_##type(const struct mm *m, uint32_t row0, uint32_t row1, void *scratch, uint32_t i0, uint32_t n) {    \
        k_pass(m, row0, row1, scratch, i0, n, unpack_##type, sizeof(struct block_##type),                              \
               offsetof(struct block_##type, d), has_mins, V);                                                         \
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
