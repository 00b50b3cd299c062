/*
 * Weight formats: block structs and (de)quantisation in plain C. Dequantisation is exact by definition of the format
 * and is what `ref` computes with. Formats: github.com/ggml-org/ggml (block_q4_K and so on).
 */
#ifndef QUANT_H
#define QUANT_H

#include "base/dtype.h"

#include <stdint.h>

#define QK 256 /* weights in a K-quant super-block */

struct block_q4_0 { /* 32 weights: d * (q - 8) */
    uint16_t d;     /* f16 */
    uint8_t qs[16]; /* byte i: weight i low nibble, weight i + 16 high nibble */
};
struct block_q8_0 { /* 32 weights: d * q */
    uint16_t d;     /* f16 */
    int8_t qs[32];
};
struct block_q4_k {     /* 256 weights in 8 sub-blocks of 32: d * sc[s] * q - dmin * m[s] */
    uint16_t d, dmin;   /* f16 */
    uint8_t scales[12]; /* 8 x (6-bit sc, 6-bit m), packed */
    uint8_t qs[128];    /* 4 chunks of 64 weights: byte i of a chunk: weight i low, weight i + 32 high nibble */
};
struct block_q5_k { /* as q4_k with a fifth bit */
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32]; /* bit s of byte i: fifth bit of weight i of sub-block s */
    uint8_t qs[128];
};
struct block_q6_k {  /* 256 weights in 16 sub-blocks of 16: d * sc[s] * (q - 32) */
    uint8_t ql[128]; /* low 4 bits */
    uint8_t qh[64];  /* high 2 bits */
    int8_t scales[16];
    uint16_t d; /* f16 */
};
_Static_assert(sizeof(struct block_q4_0) == 18 && sizeof(struct block_q8_0) == 34, "packed");
_Static_assert(sizeof(struct block_q4_k) == 144 && sizeof(struct block_q5_k) == 176 && sizeof(struct block_q6_k) == 210,
               "packed");

/* The 8 scales and 8 minima (0..63) of a q4_k or q5_k block. */
void quant_k_scales(const uint8_t scales[12], uint8_t sc[8], uint8_t mn[8]);

/* n floats from n/block blocks; n is a multiple of the type's block. src needs no alignment. */
void dequantize_row(enum dtype type, const void *src, float *dst, int64_t n);
/* The best blocks we can find for n floats, in the sense of (weighted) squared error. */
void quantize_row(enum dtype type, const float *src, void *dst, int64_t n);

#endif
