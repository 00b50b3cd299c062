/* AMX tiles as all our loops use them: eight, of 16 rows of 64 bytes. Only for sources compiled with AMX. */
#ifndef CPU_TILES_H
#define CPU_TILES_H

#include <immintrin.h>
#include <stdint.h>

static inline void tiles_configure(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config __attribute__((aligned(64))) = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = 64;
        config.rows[i] = 16;
    }
    /* The compiler's own definition says that the instruction reads 8 bytes: gcc 12 then leaves the others unwritten. */
    __asm__ volatile("" ::"m"(config));
    _tile_loadconfig(&config);
}

#endif
