#include "backend/cpu/blocks.h"

#include "backend/cpu/kernels.h"

#include <string.h>

/* Of a token per 256 channels: residual and normed input in F32, and its integers. */
enum { BLOCK_BYTES = QK * (4 + 4) + sizeof(struct act_block) };

/* Measured ends (SPEED.md): below `least` unpacking costs more than caches can give back, above `most` nothing was
 * gained. */
static const struct {
    const char *isa;
    uint32_t least, most;
} table[] = {
    {"ref", 512, 512},
    {"avx2", 512, 1024},
    {"avx512", 512, 1024},
    {"amx", 1024, 2048},
};

uint32_t blocks_prefill_chunk(const char *isa, const struct caches *caches, uint32_t n_embd) {
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strcmp(table[i].isa, isa) == 0) {
            uint64_t cache = caches->l3 ? caches->l3 : caches->l2;
            uint32_t chunk = table[i].least;
            while (2 * chunk <= table[i].most && 2 * (uint64_t)chunk * n_embd / QK * BLOCK_BYTES <= cache) {
                chunk *= 2;
            }
            return chunk;
        }
    }
    return 512;
}
