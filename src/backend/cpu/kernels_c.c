#define KERNELS      kernels_c
#define KERNELS_NAME "ref"
#include "backend/cpu/kernels.inc.h"
