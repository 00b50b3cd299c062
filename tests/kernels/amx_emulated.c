/* The AMX kernels with emulated tiles: see amx_emulated.h. */
#include "backend/cpu/kernels.h"

extern const struct kernels kernels_amx_emulated;

#if defined(__AVX512VNNI__)
#include "kernels/amx_emulated.h"

#ifndef __AMX_INT8__
#define __AMX_INT8__ 1
#endif
#define KERNELS      kernels_amx_emulated
#define KERNELS_NAME "amx"
#include "backend/cpu/kernels.inc.h"
#else /* another processor: asked for only beside AVX-512 */
const struct kernels kernels_amx_emulated = {.name = NULL};
#endif
