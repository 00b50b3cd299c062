/* Tensor element types as GGUF numbers them: name, block size, bytes per block. What LiquidAI publishes is `usable`. */
#ifndef BASE_DTYPE_H
#define BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dtype {
    DTYPE_F32 = 0,
    DTYPE_F16 = 1,
    DTYPE_Q4_0 = 2,
    DTYPE_Q8_0 = 8,
    DTYPE_Q4_K = 12,
    DTYPE_Q5_K = 13,
    DTYPE_Q6_K = 14,
    DTYPE_BF16 = 30,
};

struct dtype_info {
    const char *name;     /* "Q4_K"; NULL for a number that GGUF does not assign */
    uint32_t block_elems; /* weights per block */
    uint32_t block_bytes;
    bool usable; /* sluice computes with it */
};

/* Facts about a GGUF type number; NULL if unknown. Known but unusable types (Q2_K, IQ4_XS, ...) have a name for the error. */
const struct dtype_info *dtype_get(uint32_t type);
/* Type by name, letter case ignored; -1 if unknown or unusable. */
int dtype_by_name(const char *name);
/* Bytes of n elements; n must be a multiple of the block. */
static inline size_t dtype_row_bytes(const struct dtype_info *info, uint64_t n) {
    return (size_t)(n / info->block_elems * info->block_bytes);
}

#endif
