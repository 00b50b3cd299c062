/* Laying out one block of memory in pieces: run the layout once with base NULL to learn the size, then on the block. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

/* The next n elements at 64-byte alignment; advances *used. NULL while base is NULL. */
static inline void *arena_take(char *base, size_t *used, size_t n, size_t size) {
    size_t at = *used;
    *used = at + (n * size + 63) / 64 * 64;
    return base ? base + at : NULL;
}

#endif
