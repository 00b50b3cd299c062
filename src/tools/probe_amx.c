/* Probe loop for AMX: int8 tile products, operands in registers. */
#include "tools/probe_kernels.h"

#if defined(__AMX_INT8__)
#include "backend/cpu/kernels.h"
#include "backend/cpu/tiles.h"

static bool usable_amx(void) {
    return kernels_by_name("amx") != NULL; /* asks the system for the tiles as well */
}

static uint64_t int8_amx(uint64_t rounds) {
    tiles_configure();
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
