// clang-format off
/*
 * K-quant products of a few tokens, part of kquants.inc.h: weights stream by once, in the order of the file. A block becomes 8
 * vectors of int16 (scale * quant) that meet up to 4 tokens each while they are in registers. Four outputs (4 rows x 1 token, 2 x 2
 * or 1 x 4) advance side by side: their sums are transposed to one vector per 4 blocks, and one addition takes a block of all four.
 * With 32 registers two rows go side by side against 2 to 4 tokens: activations come from the first-level cache, and half the loads
 * are saved.
 */

/* ---- 128 weights as 4 vectors of scale * quant in the order of struct acts.q; h: which half of the block ---- */

/* sc: the block's 8 scales as bytes */
VEC void k_half_q4_k(const uint8_t *p, const uint8_t *sc, int h, vs w[4]) {
    vs v = vs_load((const int16_t *)(const void *)(p + 16 + 64 * h));
    VEC_KEEP(v);
    vs mask = vs_set1(15);
    vs k0 = vs_spread_u8(sc, 4 * h, 4 * h + 2);
    vs k1 = vs_spread_u8(sc, 4 * h + 1, 4 * h + 3);
    w[0] = vs_mul(vs_and(v, mask), k0);
    w[1] = vs_mul(vs_and(vs_shr(v, 8), mask), k0);
    w[2] = vs_mul(vs_and(vs_shr(v, 4), mask), k1);
    w[3] = vs_mul(vs_shr(v, 12), k1);
}

VEC void k_half_q5_k(const uint8_t *p, const uint8_t *sc, int h, vs w[4]) {
    const uint8_t *qh = p + 16; /* bit s of a byte belongs to sub-block s: to bit 4 */
    vs v = vs_load((const int16_t *)(const void *)(p + 48 + 64 * h));
    VEC_KEEP(v);
    vs mask = vs_set1(15);
    vs k0 = vs_spread_u8(sc, 4 * h, 4 * h + 2);
    vs k1 = vs_spread_u8(sc, 4 * h + 1, 4 * h + 3);
    w[0] = vs_mul(vs_or_twice(vs_and(v, mask), qh, 4 - 4 * h, 2 - 4 * h, 16), k0);
    w[1] = vs_mul(vs_or_twice(vs_and(vs_shr(v, 8), mask), qh, -4 - 4 * h, -6 - 4 * h, 16), k0);
    w[2] = vs_mul(vs_or_twice(vs_and(vs_shr(v, 4), mask), qh, 3 - 4 * h, 1 - 4 * h, 16), k1);
    w[3] = vs_mul(vs_or_twice(vs_shr(v, 12), qh, -5 - 4 * h, -7 - 4 * h, 16), k1);
}

/* sc: the block's 16 signed scales. A quant less 32 is made as bits 10..15 of an element, the highest flipped; the upper half of its
 * product with 64 * scale is exact. */
VEC void k_half_q6_k(const uint8_t *p, const uint8_t *sc, int h, vs w[4]) {
    const uint8_t *ql = p + 64 * h;
    const uint8_t *qh = p + 128 + 32 * h;
    const vs flip = vs_set1(0x8000);
    const int four = 0x3C00;
    const int two = 0xC000;
    vs k0 = vs_spread_i8(sc, 8 * h, 8 * h + 4);
    vs k1 = vs_spread_i8(sc, 8 * h + 2, 8 * h + 6);
    w[0] = vs_mul_high(vs_xor_twice(vs_xor_twice(flip, ql, 10, 6, four), qh, 14, 10, two), k0);
    w[1] = vs_mul_high(vs_xor_twice(vs_xor_twice(flip, ql, 2, -2, four), qh, 6, 2, two), k0);
    w[2] = vs_mul_high(vs_xor_twice(vs_xor_twice(flip, ql + 32, 10, 6, four), qh, 12, 8, two), k1);
    w[3] = vs_mul_high(vs_xor_twice(vs_xor_twice(flip, ql + 32, 2, -2, four), qh, 4, 0, two), k1);
}

typedef void (*k_half_fn)(const uint8_t *p, const uint8_t *sc, int h, vs w[4]);

/* ---- A whole block against one token, in bytes: quants stay bytes and meet the activation's two byte planes. For one token that is
 * cheaper, for 4-bit quants only where four byte products are one instruction. ---- */

/* What a block's products need of a token's activations. */
struct k_bytes {
    const int8_t *hi, *lo, *split;
    const int16_t *halves;
};

VEC vi k_dot_bytes(const vb q[4], const vs k[4], const struct k_bytes *x, const int at) {
    vi hi = vs_pairs(vs_dot_bytes(q[0], vb_load(x->hi + at)), k[0]);
    vi lo = vs_pairs(vs_dot_bytes(q[0], vb_load(x->lo + at)), k[0]);
    for (int c = 1; c < 4; c++) {
        hi = vi_dot(hi, vs_dot_bytes(q[c], vb_load(x->hi + at + 64 * c)), k[c]);
        lo = vi_dot(lo, vs_dot_bytes(q[c], vb_load(x->lo + at + 64 * c)), k[c]);
    }
    return vi_add(vi_shl(hi, ACT_LOW_BITS), lo);
}

VEC vi k_byte_q5_k(const uint8_t *p, const uint8_t *sc, const struct k_bytes *x, const int at) {
    vb q[4];
    for (int c = 0; c < 4; c++) { /* bit s of a byte of qh goes to bit 4 */
        q[c] = vb_or(vb_twice(p + 48 + 32 * c, 0, -4, 15), vb_twice(p + 16, 4 - 2 * c, 3 - 2 * c, 16));
    }
    vs k[4] = {vs_spread_u8(sc, 0, 1), vs_spread_u8(sc, 2, 3), vs_spread_u8(sc, 4, 5), vs_spread_u8(sc, 6, 7)};
    return k_dot_bytes(q, k, x, at);
}

VEC vi k_byte_q6_k(const uint8_t *p, const uint8_t *sc, const struct k_bytes *x, const int at) {
    vb q[4];
    for (int h = 0; h < 2; h++) {
        vb l = vb_load(p + 64 * h);
        VEC_KEEP(l);
        q[2 * h] = vb_or(vb_and(l, vb_set1(15)), vb_twice(p + 128 + 32 * h, 4, 2, 48));
        q[2 * h + 1] = vb_or(vb_shr4(l), vb_twice(p + 128 + 32 * h, 0, -2, 48));
    }
    vs k[4] = {vs_spread4_i8(sc, 0), vs_spread4_i8(sc, 4), vs_spread4_i8(sc, 8), vs_spread4_i8(sc, 12)};
    vi sum = k_dot_bytes(q, k, x, at);
    /* quants stand 32 too high: 32 * scale * (sum of the 16 activations) too much */
    return vi_sub(sum, vi_shl(vi_dot_short((const int8_t *)sc, x->halves + at / 16), 5));
}

#if defined(__AVX512VNNI__)
/* for 8 lanes each: bytes i and 8 + i, and j and 8 + j, as two int16 */
VEC vs k_pairs_control(int i, int j) {
    return _mm512_inserti64x4(_mm512_set1_epi32((int)0x80008000 | i | (8 + i) << 16), _mm256_set1_epi32((int)0x80008000 | j | (8 + j) << 16), 1);
}

/* Sums of four products with the high plane, at most 4 * 15 * 32, go to the upper half of a lane as 16 times that, those with the low
 * plane to its lower half; the scales (scale, 4 * scale) join the two. */
VEC vi k_byte_q4_k(const uint8_t *p, const uint8_t *sc, const struct k_bytes *x, const int at) {
    long long all;
    memcpy(&all, sc, 8);
    vs k = _mm512_set1_epi64(all);
    k = _mm512_mask_slli_epi16(k, 0xF0F0F0F0, k, 2); /* 8 scales, then four times these */
    const int8_t *a = x->split + 2 * at;
    vi sum = vi_zero();
    for (int h = 0; h < 2; h++, a += 256) {
        vb v = vb_load(p + 16 + 64 * h);
        VEC_KEEP(v);
        vb even = vb_and(v, vb_set1(15));
        vb odd = vb_shr4(v);
        vi dots = vi_dot_bytes_at(vi_shl(vi_dot_bytes_at(vi_zero(), even, a), 20), even, a + 64);
        sum = vi_dot(sum, dots, _mm512_shuffle_epi8(k, k_pairs_control(4 * h, 4 * h + 2)));
        dots = vi_dot_bytes_at(vi_shl(vi_dot_bytes_at(vi_zero(), odd, a + 128), 20), odd, a + 192);
        sum = vi_dot(sum, dots, _mm512_shuffle_epi8(k, k_pairs_control(4 * h + 1, 4 * h + 3)));
    }
    return sum;
}
#endif

typedef vi (*k_byte_fn)(const uint8_t *p, const uint8_t *sc, const struct k_bytes *x, const int at);

/* ---- What stands at the head of a row's blocks ---- */

enum { CHUNK = 8 }; /* blocks of a row that are gathered before their float step */

struct k_heads {
    uint8_t sc[CHUNK][8], mins[CHUNK][8];
    float d[CHUNK][2]; /* d, dmin */
};

/* Blocks at p, p + block_bytes, .., of which n are there; the others get factors of 0. */
VEC void k_heads_q4_k(const uint8_t *p, const int n, const size_t block_bytes, struct k_heads *out) {
#if defined(__AVX512F__)
    const __m512i shift = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 2, 0, 2));
    const __m512i low = _mm512_broadcast_i32x4(_mm_setr_epi32(0x3F3F3F3F, 0x30303030, 0x3F3F3F3F, 0x30303030));
    const __m512i shift_c = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 0, 4));
    const __m512i low_c = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x0F0F0F0F, 0, 0x0F0F0F0F));
    __m512i head[2];
    __m512i bytes[2]; /* scales and minima of a block in each quarter */
    for (int i = 0; i < 2; i++) {
        const uint8_t *q[4];
        for (int j = 0; j < 4; j++) {
            q[j] = p + (4 * i + j < n ? (size_t)(4 * i + j) : (size_t)n - 1) * block_bytes;
        }
        __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)q[0]));
        v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)q[1]), 1);
        v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)q[2]), 2);
        v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)q[3]), 3);
        __m512i ab = _mm512_srlv_epi32(_mm512_shuffle_epi32(v, (_MM_PERM_ENUM)0xA5), shift); /* a a b b */
        __m512i cc = _mm512_srlv_epi32(_mm512_shuffle_epi32(v, (_MM_PERM_ENUM)0xCC), shift_c);
        bytes[i] = _mm512_ternarylogic_epi32(_mm512_and_si512(ab, low), cc, low_c, 0xF8); /* x | y & z */
        head[i] = v;
    }
    const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    _mm512_storeu_si512(out->sc, _mm512_permutex2var_epi64(bytes[0], even, bytes[1]));
    _mm512_storeu_si512(out->mins, _mm512_permutex2var_epi64(bytes[0], _mm512_add_epi64(even, _mm512_set1_epi64(1)), bytes[1]));
    const __m512i first = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 0, 0, 0, 0, 0, 0, 0);
    __m256i halves = _mm512_castsi512_si256(_mm512_permutex2var_epi32(head[0], first, head[1]));
    _mm512_storeu_ps(out->d, _mm512_maskz_cvtph_ps((__mmask16)(0xFFFF >> (16 - 2 * n)), halves));
#else
    for (int i = 0; i < CHUNK; i++) {
        const struct block_q4_k *b = (const struct block_q4_k *)(p + (size_t)(i < n ? i : 0) * block_bytes);
        uint64_t mins;
        uint64_t sc = k_scale_bytes(b->scales, &mins);
        memcpy(out->sc[i], &sc, 8);
        memcpy(out->mins[i], &mins, 8);
        out->d[i][0] = i < n ? half_at(&b->d) : 0;
        out->d[i][1] = i < n ? half_at(&b->dmin) : 0;
    }
#endif
}

/* as struct block_q4_k, at its beginning */
VEC void k_heads_q5_k(const uint8_t *p, const int n, const size_t block_bytes, struct k_heads *out) { k_heads_q4_k(p, n, block_bytes, out); }

VEC void k_heads_q6_k(const uint8_t *p, const int n, const size_t block_bytes, struct k_heads *out) {
    for (int i = 0; i < CHUNK; i++) {
        const uint8_t *d = p + (size_t)(i < n ? i : 0) * block_bytes + 208; /* struct block_q6_k's d, unaligned */
        uint16_t half;
        memcpy(&half, d, 2);
        out->d[i][0] = i < n ? half_at(&half) : 0;
    }
}

typedef void (*k_heads_fn)(const uint8_t *p, const int n, const size_t block_bytes, struct k_heads *out);

/* ---- Rows: R rows x T tokens, R * T <= OUTPUTS ---- */

enum { OUTPUTS = 4 };
#ifndef ROWS_AHEAD
#define ROWS_AHEAD 8192
#endif

/* CHUNK blocks of R rows against T tokens: integers, gathered while the weights stream by. Their float step comes one chunk later,
 * when what was stored here in small pieces can be loaded in large ones without waiting. */
struct k_step {
    vi sums[CHUNK][OUTPUTS];
    struct k_heads heads[OUTPUTS]; /* per row */
    uint32_t row, b0;
};

/* A product's tokens. */
struct k_tokens {
    const int16_t *q[OUTPUTS];
    struct k_bytes bytes; /* of the only one */
    const float *sums[OUTPUTS];
    const float *scales; /* [n_blocks to a multiple of CHUNK][OUTPUTS]: of each output's token */
};

VEC void k_gather(const struct mm *m, const uint8_t *end, struct k_step *s, const struct k_tokens *x, const int R, const int T, k_half_fn half,
                  k_byte_fn byte, k_heads_fn heads, const size_t block_bytes, const bool has_mins) {
    const uint32_t left = m->n_cols / QK - s->b0;
    const int n = left < CHUNK ? (int)left : CHUNK;
    for (int r = 0; r < R; r++) {
        const uint8_t *p = m->w + (s->row + (uint32_t)r) * m->row_bytes + s->b0 * block_bytes;
        const int16_t *q[OUTPUTS];
        for (int t = 0; t < T; t++) {
            q[t] = x->q[t] + (size_t)QK * s->b0;
        }
        heads(p, n, block_bytes, &s->heads[r]);
        /* fetched meanwhile: what follows, behind the last row what the caller named; of long rows the next R, which run side by side */
        const uint8_t *ahead = p + (m->n_cols > CHUNK * QK ? (size_t)R * m->row_bytes : ROWS_AHEAD);
        if (ahead >= end && m->next) {
            ahead = m->next + (ahead - end);
        }
#pragma GCC unroll 8
        for (int i = 0; i < CHUNK; i++) {
            if (i >= n) {
                break;
            }
            const size_t at = (size_t)i * block_bytes;
            for (size_t c = (at + 63) / 64 * 64; c < at + block_bytes; c += 64) {
                VEC_PREFETCH(ahead + c);
            }
            const uint8_t *sc = has_mins ? s->heads[r].sc[i] : p + at + 192; /* struct block_q6_k's */
            if (T == 1 && byte) {
                s->sums[i][r] = byte(p + at, sc, &x->bytes, QK * i + (int)(QK * s->b0));
                continue;
            }
            vi sum[OUTPUTS];
            vs w[4];
            half(p + at, sc, 0, w);
            for (int t = 0; t < T; t++) {
                sum[t] = vi_pairs_at(w[0], q[t] + QK * i);
                for (int k = 1; k < 4; k++) {
                    sum[t] = vi_dot_at(sum[t], w[k], q[t] + QK * i + 32 * k);
                }
            }
            half(p + at, sc, 1, w);
            for (int t = 0; t < T; t++) {
                for (int k = 0; k < 4; k++) {
                    sum[t] = vi_dot_at(sum[t], w[k], q[t] + QK * i + 128 + 32 * k);
                }
            }
            for (int t = 0; t < T; t++) {
                s->sums[i][T * r + t] = sum[t];
            }
        }
    }
}

/* d of 4 blocks from b on, each for the outputs: lane 4 * block + output. */
VEC vf k_factors(const struct k_step *s, const int b, const int R, const int T) {
#if defined(__AVX512F__)
    const __m512i at = _mm512_add_epi32(_mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6), _mm512_set1_epi32(2 * b));
    __m512 d[2];
    for (int k = 0; k < 2; k++) { /* rows of outputs 0 and 1, and of 2 and 3 */
        const int r0 = 2 * k / T < R ? 2 * k / T : R - 1;
        const int r1 = (2 * k + 1) / T < R ? (2 * k + 1) / T : R - 1;
        d[k] = _mm512_permutexvar_ps(at, vf_load(s->heads[r0].d[0]));
        if (r1 != r0) {
            d[k] = _mm512_mask_permutexvar_ps(d[k], 0xAAAA, at, vf_load(s->heads[r1].d[0]));
        }
    }
    return R == 1 ? d[0] : _mm512_mask_blend_ps(0xCCCC, d[0], d[1]);
#else
    float d[16];
    for (int i = 0; i < 4; i++) {
        for (int o = 0; o < OUTPUTS; o++) {
            d[4 * i + o] = s->heads[o / T < R ? o / T : R - 1].d[b + i][0];
        }
    }
    return vf_load(d);
#endif
}

struct k_sum {
    v4 acc;
    vf part[OUTPUTS];
};

VEC void k_fold(const struct mm *m, const struct k_step *s, struct k_sum *y, const struct k_tokens *x, const int R, const int T,
                const bool has_mins) {
    const uint32_t n_blocks = m->n_cols / QK;
    const uint32_t chunk_blocks = n_blocks - s->b0 < CHUNK ? n_blocks - s->b0 : CHUNK;
    if (s->b0 == 0) {
        y->acc = (v4){0};
        for (int o = 0; o < OUTPUTS; o++) {
            y->part[o] = vf_zero();
        }
    }
    for (int b = 0; b < CHUNK; b += 4) {
        float products[16];
        vf scales = vf_load(x->scales + (size_t)(s->b0 + (uint32_t)b) * OUTPUTS);
        vf_store(products, vf_mul(vi_to_f(vi_reduce16(s->sums[b])), vf_mul(k_factors(s, b, R, T), scales)));
        for (int i = 0; i < 4; i++) {
            v4 add;
            memcpy(&add, products + 4 * i, sizeof add);
            y->acc += add;
        }
    }
    for (uint32_t b = 0; has_mins && b < chunk_blocks; b += 2) {
        for (int r = 0; r < R; r++) {
            const struct k_heads *h = &s->heads[r];
            vf mins = vf_mul(vf_load_u8(h->mins[b]), vf_set2(h->d[b][1], h->d[b + 1][1]));
            for (int t = 0; t < T; t++) {
                y->part[T * r + t] = vf_fma(mins, vf_load(x->sums[t] + 8 * (s->b0 + b)), y->part[T * r + t]);
            }
        }
    }
    if (s->b0 + CHUNK >= n_blocks) {
        v4 dots = y->acc;
        if (has_mins) {
            dots -= vf_reduce4(y->part);
        }
        for (int r = 0; r < R; r++) {
            for (int t = 0; t < T; t++) {
                put(m, (uint32_t)t, s->row + (uint32_t)r, dots[T * r + t]);
            }
        }
    }
}

/* Rows [row0, row1), a multiple of R. */
VEC void k_rows(const struct mm *m, uint32_t row0, uint32_t row1, const struct k_tokens *x, const int R, const int T, k_half_fn half,
                k_byte_fn byte, k_heads_fn heads, const size_t block_bytes, const bool has_mins) {
    const uint32_t n_blocks = m->n_cols / QK;
    struct k_step steps[2];
    memset(steps, 0, sizeof steps);
    struct k_sum sum;
    memset(&sum, 0, sizeof sum);
    uint32_t k = 0;
    for (uint32_t row = row0; row < row1; row += (uint32_t)R) {
        for (uint32_t b0 = 0; b0 < n_blocks; b0 += CHUNK, k++) {
            struct k_step *s = &steps[k & 1];
            s->row = row;
            s->b0 = b0;
            k_gather(m, m->w + row1 * m->row_bytes, s, x, R, T, half, byte, heads, block_bytes, has_mins);
            if (k) {
                k_fold(m, &steps[~k & 1], &sum, x, R, T, has_mins);
            }
        }
    }
    if (k) {
        k_fold(m, &steps[~k & 1], &sum, x, R, T, has_mins);
    }
}

/* Two rows against T tokens, so that an activation is loaded once for both: 32 registers hold the 2 T sums and a half of both blocks.
 * Steps: one for both rows where their outputs fit, else one each. */
VEC void k_gather_pair(const struct mm *m, const uint8_t *end, struct k_step *s, const struct k_tokens *x, const int T, k_half_fn half,
                       k_heads_fn heads, const size_t block_bytes, const bool has_mins) {
    const bool joint = 2 * T <= OUTPUTS;
    const uint32_t left = m->n_cols / QK - s->b0;
    const int n = left < CHUNK ? (int)left : CHUNK;
    struct k_heads *head[2] = {&s[0].heads[0], joint ? &s[0].heads[1] : &s[1].heads[0]};
    const uint8_t *p[2];
    const uint8_t *ahead[2];
    for (uint32_t r = 0; r < 2; r++) {
        p[r] = m->w + (s->row + r) * m->row_bytes + s->b0 * block_bytes;
        heads(p[r], n, block_bytes, head[r]);
        ahead[r] = p[r] + (m->n_cols > CHUNK * QK ? 2 * m->row_bytes : ROWS_AHEAD); /* as in k_gather */
        if (ahead[r] >= end && m->next) {
            ahead[r] = m->next + (ahead[r] - end);
        }
    }
    for (int i = 0; i < n; i++) {
        const size_t at = (size_t)i * block_bytes;
        vi sum[2][OUTPUTS];
        for (int r = 0; r < 2; r++) {
            for (size_t c = (at + 63) / 64 * 64; c < at + block_bytes; c += 64) {
                VEC_PREFETCH(ahead[r] + c);
            }
            for (int t = 0; t < T; t++) {
                sum[r][t] = vi_zero();
            }
        }
        for (int h = 0; h < 2; h++) {
            vs w[2][4];
            for (int r = 0; r < 2; r++) {
                half(p[r] + at, has_mins ? head[r]->sc[i] : p[r] + at + 192, h, w[r]); /* struct block_q6_k's */
            }
            for (int k = 0; k < 4; k++) {
                for (int t = 0; t < T; t++) {
                    vs a = vs_load(x->q[t] + (size_t)QK * s->b0 + QK * i + 128 * h + 32 * k);
                    VEC_KEEP(a);
                    sum[0][t] = vi_dot(sum[0][t], w[0][k], a);
                    sum[1][t] = vi_dot(sum[1][t], w[1][k], a);
                }
            }
        }
        for (int t = 0; t < T; t++) {
            s[0].sums[i][t] = sum[0][t];
            s[joint ? 0 : 1].sums[i][joint ? T + t : t] = sum[1][t];
        }
    }
}

VEC void k_fold_pair(const struct mm *m, const struct k_step *s, struct k_sum *y, const struct k_tokens *x, const int T, const bool has_mins) {
    if (2 * T <= OUTPUTS) {
        k_fold(m, s, y, x, 2, T, has_mins);
    } else {
        k_fold(m, s, y, x, 1, T, has_mins);
        k_fold(m, s + 1, y + 1, x, 1, T, has_mins);
    }
}

/* Rows [row0, row1), an even number. */
VEC void k_row_pairs(const struct mm *m, uint32_t row0, uint32_t row1, const struct k_tokens *x, const int T, k_half_fn half,
                     k_heads_fn heads, const size_t block_bytes, const bool has_mins) {
    const uint32_t n_blocks = m->n_cols / QK;
    struct k_step steps[2][2];
    memset(steps, 0, sizeof steps);
    struct k_sum sum[2];
    memset(sum, 0, sizeof sum);
    uint32_t k = 0;
    for (uint32_t row = row0; row < row1; row += 2) {
        for (uint32_t b0 = 0; b0 < n_blocks; b0 += CHUNK, k++) {
            struct k_step *s = steps[k & 1];
            for (uint32_t r = 0; r < 2; r++) {
                s[r].row = row + r;
                s[r].b0 = b0;
            }
            k_gather_pair(m, m->w + row1 * m->row_bytes, s, x, T, half, heads, block_bytes, has_mins);
            if (k) {
                k_fold_pair(m, steps[~k & 1], sum, x, T, has_mins);
            }
        }
    }
    if (k) {
        k_fold_pair(m, steps[~k & 1], sum, x, T, has_mins);
    }
}

/* A product's T tokens; scales: room for [n_blocks to a multiple of CHUNK][OUTPUTS]. */
VEC struct k_tokens k_take_tokens(const struct mm *m, const int R, const int T, float *scales) {
    const uint32_t n_blocks = m->n_cols / QK;
    struct k_tokens x = {.scales = scales};
    for (int t = 0; t < T; t++) {
        size_t src = src_row(m, (uint32_t)t);
        x.q[t] = m->x->q + src * m->n_cols;
        x.bytes = (struct k_bytes){.hi = m->x->hi + src * m->n_cols,
                                   .lo = m->x->lo + src * m->n_cols,
                                   .split = m->x->split ? m->x->split + 2 * src * m->n_cols : NULL,
                                   .halves = m->x->halves + src * (m->n_cols / 16)};
        x.sums[t] = m->x->sums + src * acts_sums_stride(m->n_cols);
        for (uint32_t b = 0; b < (n_blocks + CHUNK - 1) / CHUNK * CHUNK; b++) {
            for (int r = 0; r < R; r++) {
                scales[OUTPUTS * b + (uint32_t)(T * r + t)] = b < n_blocks ? m->x->scale[src * n_blocks + b] : 0;
            }
        }
    }
    return x;
}

#if !defined(__AVX512VNNI__)
enum { k_byte_q4_k = 0 };
#endif
#define K_ROWS(type, R, T, has_mins)                                                                                   \
    KERNEL void rows_##R##x##T##_##type(const struct mm *m, uint32_t row0, uint32_t row1, const struct k_tokens *x) {  \
        k_rows(m, row0, row1, x, R, T, k_half_##type, (k_byte_fn)k_byte_##type, k_heads_##type, sizeof(struct block_##type), has_mins);          \
    }
#define K_PAIRS(type, T, has_mins)                                                                                     \
    KERNEL void pairs_##T##_##type(const struct mm *m, uint32_t row0, uint32_t row1, const struct k_tokens *x) {       \
        k_row_pairs(m, row0, row1, x, T, k_half_##type, k_heads_##type, sizeof(struct block_##type), has_mins);        \
    }
/* Up to how many tokens (from 2 on) rows go in pairs: as long as sums, weights and constants stay in registers. */
#if defined(__AVX512F__)
enum { pairs_q4_k = 4, pairs_q5_k = 4, pairs_q6_k = 2 };
#else
enum { pairs_q4_k = 0, pairs_q5_k = 0, pairs_q6_k = 0 };
#endif
/* Rows [row0, row1) against up to 4 tokens. */
#define K_FEW(type, has_mins)                                                                                          \
    K_ROWS(type, 4, 1, has_mins)                                                                                       \
    K_ROWS(type, 1, 1, has_mins)                                                                                       \
    K_ROWS(type, 2, 2, has_mins)                                                                                       \
    K_ROWS(type, 1, 2, has_mins)                                                                                       \
    K_ROWS(type, 1, 3, has_mins)                                                                                       \
    K_ROWS(type, 1, 4, has_mins)                                                                                       \
    K_PAIRS(type, 2, has_mins)                                                                                         \
    K_PAIRS(type, 3, has_mins)                                                                                         \
    K_PAIRS(type, 4, has_mins)                                                                                         \
    static void few_##type(const struct mm *m, uint32_t row0, uint32_t row1, float *scratch) {                         \
        struct k_tokens x;                                                                                             \
        uint32_t most = row0; /* rows from here on go one by one */                                                    \
        switch (m->n) {                                                                                                \
        case 1:                                                                                                        \
            x = k_take_tokens(m, 4, 1, scratch);                                                                       \
            most += (row1 - row0) / 4 * 4;                                                                             \
            rows_4x1_##type(m, row0, most, &x);                                                                        \
            rows_1x1_##type(m, most, row1, &x);                                                                        \
            break;                                                                                                     \
        case 2:                                                                                                        \
            x = k_take_tokens(m, 2, 2, scratch);                                                                       \
            most += (row1 - row0) / 2 * 2;                                                                             \
            if (pairs_##type >= 2) {                                                                                   \
                pairs_2_##type(m, row0, most, &x);                                                                     \
            } else {                                                                                                   \
                rows_2x2_##type(m, row0, most, &x);                                                                    \
            }                                                                                                          \
            rows_1x2_##type(m, most, row1, &x);                                                                        \
            break;                                                                                                     \
        case 3:                                                                                                        \
            x = k_take_tokens(m, 1, 3, scratch);                                                                       \
            if (pairs_##type >= 3) {                                                                                   \
                most += (row1 - row0) / 2 * 2;                                                                         \
                pairs_3_##type(m, row0, most, &x);                                                                     \
            }                                                                                                          \
            rows_1x3_##type(m, most, row1, &x);                                                                        \
            break;                                                                                                     \
        default:                                                                                                       \
            x = k_take_tokens(m, 1, 4, scratch);                                                                       \
            if (pairs_##type >= 4) {                                                                                   \
                most += (row1 - row0) / 2 * 2;                                                                         \
                pairs_4_##type(m, row0, most, &x);                                                                     \
            }                                                                                                          \
            rows_1x4_##type(m, most, row1, &x);                                                                        \
            break;                                                                                                     \
        }                                                                                                              \
    }

K_FEW(q4_k, true)
K_FEW(q5_k, true)
K_FEW(q6_k, false)
