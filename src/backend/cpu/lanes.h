/*
 * A register of LANES rows, whatever the machine: the operations that products of strips (kstrips.inc.h,
 * kpanels.inc.h) are written in. A word of a strip is 4 bytes of each row, so a register is
 *   kb  4 bytes of each row      kp  a pair of int16      ki  an int32      kf  a float
 *   kd  a sum over a sub-block of products of bytes, before it meets the scale      ks  the scale as it meets it
 * Activations are broadcast from memory to all rows. Integer sums may wrap on the way (docs/numerics.md).
 * FEW_T tokens meet a strip at once, up to FEW_MAX in turns; more meet panels in tiles of TILE_R registers x TILE_T
 * tokens.
 */
#ifndef CPU_LANES_H
#define CPU_LANES_H

#include "backend/cpu/kernels.h"
#include "backend/cpu/vec.h"

/* Arrays stay in registers only where loops over them are unrolled altogether. Portable code is not for speed. */
#if defined(__AVX2__) || defined(__ARM_FEATURE_DOTPROD)
#define UNROLL _Pragma("GCC unroll 16")
#else
#define UNROLL
#endif
/* Inner loops are functions of their own: inlined into one another they run out of registers. */
#define KERNEL static __attribute__((noinline))

#if defined(__AVX512F__)
#include "backend/cpu/lanes_avx512.h"
#elif defined(__AVX2__)
#include "backend/cpu/lanes_avx2.h"
#elif defined(__ARM_FEATURE_DOTPROD)
#include "backend/cpu/lanes_neon.h"
#else
#include "backend/cpu/lanes_c.h"
#endif

enum { PARTS = STRIP_ROWS / LANES, PART_BYTES = LANES * 4 };

#endif
