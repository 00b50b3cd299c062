#include "backend/cpu/kernels.h"

#if defined(__AVX512VNNI__)
#define KERNELS      kernels_avx512
#define KERNELS_NAME "avx512"
#include "backend/cpu/kernels.inc.h"
#else /* another processor */
const struct kernels kernels_avx512 = {.name = NULL};
#endif
