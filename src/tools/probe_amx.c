/* Probe loop for AMX: int8 tile products, operands in registers. */
#include "tools/probe_kernels.h"

#if defined(__AMX_INT8__)
#include "backend/cpu/kernels.h"

#include <immintrin.h>

static bool usable_amx(void) {
    return kernels_by_name("amx") != NULL; /* asks the system for the tiles as well */
}

static uint64_t int8_amx(uint64_t rounds) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config __attribute__((aligned(64))) = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = 64;
        config.rows[i] = 16;
    }
    _tile_loadconfig(&config);
    for (uint64_t r = 0; r < rounds; r++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_release();
    return rounds * 4 * 16 * 16 * 64 * 2;
}
#else
static bool usable_amx(void) {
    return false;
}

static uint64_t int8_amx(uint64_t rounds) {
    return rounds;
}
#endif

const struct probe_compute_kernel probe_int8_amx = {"int8", "amx", usable_amx, int8_amx};
