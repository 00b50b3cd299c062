/*
 * K-quant matrices as this backend reads them: sixteen rows side by side, so that a lane of a vector is a row and
 * nothing is ever added across lanes. A strip holds 16 rows; per block of 256 columns it holds the blocks of those rows
 * (quant.h) cut into 32-bit words: word 0 of the 16 rows, word 1 of them, and so on, 64 bytes each. The last word of a
 * Q6_K block is half of one: its d, and 0. Rows that a matrix lacks to its last strip are zero. Nothing is converted:
 * the same bits, in another order, to be read from one end to the other.
 */
#ifndef CPU_STRIPS_H
#define CPU_STRIPS_H

#include "quant/quant.h"

#include <stddef.h>

enum { STRIP_ROWS = 16, STRIP_LINE = 64 /* bytes that a word of all rows takes */ };

/* Where the words of a block begin. */
enum {
    Q4_K_D = 0, /* d in the low half, dmin in the high one */
    Q4_K_SCALES = 1,
    Q4_K_QS = 4,
    Q4_K_WORDS = 36,
    Q5_K_QH = 4,
    Q5_K_QS = 12,
    Q5_K_WORDS = 44,
    Q6_K_QL = 0,
    Q6_K_QH = 32,
    Q6_K_SCALES = 48,
    Q6_K_D = 52,
    Q6_K_WORDS = 53,
};

/* Words per block of a type that is kept in strips; 0: its rows stay as they are. */
uint32_t strip_words(enum dtype type);
/* Bytes of a strip; 0 where strip_words is. n_cols is a multiple of 256. */
size_t strip_bytes(enum dtype type, uint32_t n_cols);
/* Bytes of a matrix: its strips, or its rows where they stay. */
size_t strips_bytes(enum dtype type, uint32_t n_rows, uint32_t n_cols);
/* The strip of n_rows <= 16 rows, row_bytes apart; strip is 64-byte aligned. */
void strip_pack(enum dtype type, const uint8_t *rows, size_t row_bytes, uint32_t n_rows, uint32_t n_cols,
                uint8_t *strip);

#endif
