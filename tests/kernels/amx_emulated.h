/* AMX tile instructions as functions on memory, so that the kernels for them are tested on every machine with AVX-512.
 * What they compute is Intel's definition (Software Developer's Manual, volume 2): tiles of 16 rows of 64 bytes, and
 * TDPBSSD and its like, which add products of four bytes to an int32 that wraps around: S signed, U unsigned, of the
 * first operand and of the second. */
#ifndef AMX_EMULATED_H
#define AMX_EMULATED_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

static _Thread_local int8_t emulated_tile[8][16][64];

static inline void emulated_load(int t, const void *from, long stride) {
    for (int i = 0; i < 16; i++) {
        memcpy(emulated_tile[t][i], (const char *)from + i * stride, 64);
    }
}

static inline void emulated_store(int t, void *to, long stride) {
    for (int i = 0; i < 16; i++) {
        memcpy((char *)to + i * stride, emulated_tile[t][i], 64);
    }
}

/* Bytes of a and of b, each signed or not. */
static inline void emulated_dot(int c, int a, int b, int a_signed, int b_signed) {
    for (int m = 0; m < 16; m++) {
        uint32_t sums[16];
        memcpy(sums, emulated_tile[c][m], sizeof sums);
        for (int k = 0; k < 16; k++) {
            for (int n = 0; n < 16; n++) {
                for (int j = 0; j < 4; j++) {
                    int8_t x = emulated_tile[a][m][4 * k + j];
                    int8_t y = emulated_tile[b][k][4 * n + j];
                    sums[n] += (uint32_t)((a_signed ? x : (uint8_t)x) * (b_signed ? y : (uint8_t)y));
                }
            }
        }
        memcpy(emulated_tile[c][m], sums, sizeof sums);
    }
}

#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#undef _tile_dpbusd
#undef _tile_dpbsud
#undef _tile_dpbuud
#undef _tile_loadconfig
#undef _tile_release
#define _tile_loadd(t, from, stride)        emulated_load(t, from, stride)
#define _tile_stream_loadd(t, from, stride) emulated_load(t, from, stride)
#define _tile_stored(t, to, stride)         emulated_store(t, to, stride)
#define _tile_zero(t)                       memset(emulated_tile[t], 0, sizeof emulated_tile[t])
#define _tile_dpbssd(c, a, b)               emulated_dot(c, a, b, 1, 1)
#define _tile_dpbsud(c, a, b)               emulated_dot(c, a, b, 1, 0)
#define _tile_dpbusd(c, a, b)               emulated_dot(c, a, b, 0, 1)
#define _tile_dpbuud(c, a, b)               emulated_dot(c, a, b, 0, 0)
#define _tile_loadconfig(config)            ((void)(config))
#define _tile_release()                     ((void)0)

#endif
