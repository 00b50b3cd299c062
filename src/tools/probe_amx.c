/* Probe loops for AMX: tile products of bytes and of bf16. The tiles hold numbers that were loaded, as in use: products of tiles that
 * were never written may be faster. */
#include "tools/probe_kernels.h"

#if defined(__AMX_INT8__)
#include "backend/cpu/kernels.h"
#include "backend/cpu/tiles.h"

#include <cpuid.h>

static bool usable_int8(void) {
    return kernels_by_name("amx") != NULL; /* asks the system for the tiles as well */
}

static bool usable_bf16(void) {
    unsigned a, b, c, d;
    return usable_int8() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1);
}

/* Four operand tiles of bytes 0..126 or bf16 0.5..2, and accumulators at 0. */
static void load_tiles(bool bf16) {
    static uint16_t rows[4][16][32] __attribute__((aligned(64)));
    for (unsigned i = 0; i < 4 * 16 * 32; i++) {
        unsigned x = i * 2654435761u >> 16;
        rows[i / 512][i / 32 % 16][i % 32] = (uint16_t)(bf16 ? 0x3F00 + x % 256 : (x & 0x7F7F) % 0x7F7F);
    }
    tiles_configure();
    __asm__ volatile("" ::"m"(rows)); /* tile loads read what the compiler does not know of */
    _tile_loadd(4, rows[0], 64);
    _tile_loadd(5, rows[1], 64);
    _tile_loadd(6, rows[2], 64);
    _tile_loadd(7, rows[3], 64);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

static uint64_t int8_amx(uint64_t rounds) {
    load_tiles(false);
    for (uint64_t r = 0; r < rounds; r++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_release();
    return rounds * 4 * 16 * 16 * 64 * 2;
}

__attribute__((target("amx-bf16"))) static uint64_t bf16_amx(uint64_t rounds) {
    load_tiles(true);
    for (uint64_t r = 0; r < rounds; r++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
    return rounds * 4 * 16 * 16 * 32 * 2;
}
#else
static bool usable_int8(void) {
    return false;
}

static bool usable_bf16(void) {
    return false;
}

static uint64_t int8_amx(uint64_t rounds) {
    return rounds;
}

static uint64_t bf16_amx(uint64_t rounds) {
    return rounds;
}
#endif

const struct probe_compute_kernel probe_int8_amx = {"int8", "amx", "AMX int8", usable_int8, int8_amx};
const struct probe_compute_kernel probe_bf16_amx = {"bf16", "amx", "AMX bf16", usable_bf16, bf16_amx};
