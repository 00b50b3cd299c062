#include "backend/cpu/kernels.h"

#if defined(__AMX_INT8__)
#define KERNELS      kernels_amx
#define KERNELS_NAME "amx"
#include "backend/cpu/kernels.inc.h"
#else /* a compiler or processor without them */
const struct kernels kernels_amx = {.name = NULL};
#endif
