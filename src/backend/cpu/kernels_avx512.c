#define KERNELS      kernels_avx512
#define KERNELS_NAME "avx512"
#include "backend/cpu/kernels.inc.h"
