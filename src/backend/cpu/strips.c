#include "backend/cpu/strips.h"

#include <string.h>

uint32_t strip_words(enum dtype type) {
    switch (type) {
    case DTYPE_Q4_K:
        return Q4_K_WORDS;
    case DTYPE_Q5_K:
        return Q5_K_WORDS;
    case DTYPE_Q6_K:
        return Q6_K_WORDS;
    default:
        return 0;
    }
}

size_t strip_bytes(enum dtype type, uint32_t n_cols) {
    return (size_t)n_cols / QK * strip_words(type) * STRIP_LINE;
}

size_t strips_bytes(enum dtype type, uint32_t n_rows, uint32_t n_cols) {
    size_t strip = strip_bytes(type, n_cols);
    return strip ? (n_rows + STRIP_ROWS - 1) / STRIP_ROWS * strip : n_rows * dtype_row_bytes(dtype_get(type), n_cols);
}

void strip_pack(enum dtype type, const uint8_t *rows, size_t row_bytes, uint32_t n_rows, uint32_t n_cols,
                uint8_t *strip) {
    const size_t block_words = strip_words(type);
    const uint32_t n_blocks = n_cols / QK;
    const size_t block_bytes = row_bytes / n_blocks;
    const size_t whole = block_bytes / sizeof(uint32_t);
    if (n_rows < STRIP_ROWS) {
        memset(strip, 0, strip_bytes(type, n_cols));
    }
    for (uint32_t b = 0; b < n_blocks; b++) {
        for (uint32_t r = 0; r < n_rows; r++) {
            const uint8_t *block = rows + r * row_bytes + b * block_bytes;
            uint8_t *lane = strip + b * block_words * STRIP_LINE + r * sizeof(uint32_t);
            for (size_t at = 0; at < block_bytes; at += STRIP_LINE) { /* runs too short for the hardware to foresee */
                __builtin_prefetch(block + STRIP_ROWS * row_bytes + at);
            }
            for (size_t w = 0; w < whole; w++) {
                memcpy(lane + w * STRIP_LINE, block + w * sizeof(uint32_t), sizeof(uint32_t));
            }
            if (whole < block_words) {
                uint32_t last = 0;
                memcpy(&last, block + whole * sizeof(uint32_t), block_bytes % sizeof(uint32_t));
                memcpy(lane + whole * STRIP_LINE, &last, sizeof last);
            }
        }
    }
}
