/* From blocks to floats: the definition of every weight format. The order of the float operations is part of it, since
 * the reference backend and its golden values depend on the last bit. */
#include "base/half.h"
#include "quant/quant.h"

#include <string.h>

void quant_k_scales(const uint8_t scales[12], uint8_t sc[8], uint8_t mn[8]) {
    for (int i = 0; i < 4; i++) { /* bytes 0-3: sc 0-3, bytes 4-7: mn 0-3; their top bits serve entries 4-7 */
        sc[i] = scales[i] & 63;
        mn[i] = scales[i + 4] & 63;
        sc[i + 4] = (uint8_t)((scales[i + 8] & 15) | (scales[i] >> 6) << 4);
        mn[i + 4] = (uint8_t)((scales[i + 8] >> 4) | (scales[i + 4] >> 6) << 4);
    }
}

static void dequant_q4_0(const struct block_q4_0 *b, float *y) {
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b->qs[i] & 15) - 8);
        y[i + 16] = d * (float)((b->qs[i] >> 4) - 8);
    }
}

static void dequant_q8_0(const struct block_q8_0 *b, float *y) {
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 32; i++) {
        y[i] = d * (float)b->qs[i];
    }
}

static void dequant_q4_k(const struct block_q4_k *b, float *y) {
    float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    uint8_t sc[8], mn[8];
    quant_k_scales(b->scales, sc, mn);
    for (int s = 0; s < 8; s++) {
        const uint8_t *qs = b->qs + s / 2 * 32;
        int shift = s % 2 * 4;
        float scale = d * (float)sc[s], min = dmin * (float)mn[s];
        for (int i = 0; i < 32; i++) {
            y[s * 32 + i] = scale * (float)(qs[i] >> shift & 15) - min;
        }
    }
}

static void dequant_q5_k(const struct block_q5_k *b, float *y) {
    float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    uint8_t sc[8], mn[8];
    quant_k_scales(b->scales, sc, mn);
    for (int s = 0; s < 8; s++) {
        const uint8_t *qs = b->qs + s / 2 * 32;
        int shift = s % 2 * 4;
        float scale = d * (float)sc[s], min = dmin * (float)mn[s];
        for (int i = 0; i < 32; i++) {
            int q = (qs[i] >> shift & 15) | (b->qh[i] >> s & 1) << 4;
            y[s * 32 + i] = scale * (float)q - min;
        }
    }
}

/* Each half of 128 weights: 64 bytes ql (0-63 low, 64-127 high nibble), 32 bytes qh (2 bits per group of 32). */
static void dequant_q6_k(const struct block_q6_k *b, float *y) {
    float d = f16_to_f32(b->d);
    for (int group = 0; group < 8; group++) {
        int half = group / 4, part = group % 4;
        const uint8_t *ql = b->ql + half * 64 + part % 2 * 32;
        const uint8_t *qh = b->qh + half * 32;
        for (int i = 0; i < 32; i++) {
            int q = (ql[i] >> part / 2 * 4 & 15) | (qh[i] >> part * 2 & 3) << 4;
            y[group * 32 + i] = d * (float)b->scales[group * 2 + i / 16] * (float)(q - 32);
        }
    }
}

/* Blocks are copied out because src may lie at any address. */
#define DEQUANT_BLOCKS(block_type, elems, function)                                                                    \
    for (int64_t i = 0; i < n / (elems); i++) {                                                                        \
        struct block_type block;                                                                                       \
        memcpy(&block, (const char *)src + i * (int64_t)sizeof block, sizeof block);                                   \
        function(&block, dst + i * (elems));                                                                           \
    }

void dequantize_row(enum dtype type, const void *src, float *dst, int64_t n) {
    switch (type) {
    case DTYPE_F32:
        memcpy(dst, src, (size_t)n * sizeof *dst);
        break;
    case DTYPE_F16:
    case DTYPE_BF16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t h;
            memcpy(&h, (const char *)src + i * 2, sizeof h);
            dst[i] = type == DTYPE_F16 ? f16_to_f32(h) : bf16_to_f32(h);
        }
        break;
    case DTYPE_Q4_0:
        DEQUANT_BLOCKS(block_q4_0, 32, dequant_q4_0)
        break;
    case DTYPE_Q8_0:
        DEQUANT_BLOCKS(block_q8_0, 32, dequant_q8_0)
        break;
    case DTYPE_Q4_K:
        DEQUANT_BLOCKS(block_q4_k, QK, dequant_q4_k)
        break;
    case DTYPE_Q5_K:
        DEQUANT_BLOCKS(block_q5_k, QK, dequant_q5_k)
        break;
    case DTYPE_Q6_K:
        DEQUANT_BLOCKS(block_q6_k, QK, dequant_q6_k)
        break;
    }
}
