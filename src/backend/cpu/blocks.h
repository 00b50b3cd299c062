/* Block sizes of the cpu backend: a table by instruction set, adjusted to the caches of the machine. */
#ifndef CPU_BLOCKS_H
#define CPU_BLOCKS_H

#include "base/caches.h"

/* Tokens per prefill step for a model of width n_embd on the kernels `isa` (kernels.h). More tokens read the weights
 * less often and give each expert more rows at once, for which the unpacking of its weights is paid once; but what a
 * step keeps per token, the residual and the quantised input of a layer, should stay in the last-level cache. A power
 * of two. */
uint32_t blocks_prefill_chunk(const char *isa, const struct caches *caches, uint32_t n_embd);

#endif
