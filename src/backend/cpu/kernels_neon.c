#include "backend/cpu/kernels.h"

#if defined(__ARM_FEATURE_DOTPROD)
#define KERNELS      kernels_neon
#define KERNELS_NAME "neon"
#include "backend/cpu/kernels.inc.h"
#else /* another processor */
const struct kernels kernels_neon = {.name = NULL};
#endif
