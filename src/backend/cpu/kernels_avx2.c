#include "backend/cpu/kernels.h"

#if defined(__AVX2__)
#define KERNELS      kernels_avx2
#define KERNELS_NAME "avx2"
#include "backend/cpu/kernels.inc.h"
#else /* another processor */
const struct kernels kernels_avx2 = {.name = NULL};
#endif
