/*
 * How the rows of a matrix are divided among the threads. Cores of one machine differ, by some percent for seconds at a
 * time and by more where they are halves of a busy core: what counts is measured, each thread's time in products, and
 * the next layers are divided by the speeds seen. Results do not depend on who computes a row.
 */
#ifndef CPU_SHARES_H
#define CPU_SHARES_H

#include "base/limits.h"

#include <stdint.h>

struct span {
    uint32_t begin, end;
};

/* One thread's times, apart from the others' cache lines. */
struct shares_busy {
    uint64_t ns[2]; /* in products of layer i: ns[i % 2] */
    char apart[112];
};

/* Layer i divides by cut[i % 2], which thread 0 wrote during the layer before it: a barrier lies between. */
struct shares {
    uint32_t cut[2][LIMIT_THREADS + 1]; /* thread i has [cut[i], cut[i + 1]) of SHARES_WHOLE */
    struct shares_busy busy[LIMIT_THREADS];
};
enum { SHARES_WHOLE = 1 << 16 };

/* Equal parts for n threads. */
void shares_reset(struct shares *s, uint32_t n);
/* Before a step, whose first layer goes on with what the last one of n_layers of the step before would have had
 * next. */
void shares_begin(struct shares *s, uint32_t n_layers, uint32_t n);
/* By thread 0 of n during a layer: makes the next layer's parts from the times of the layer before. */
void shares_learn(struct shares *s, uint32_t layer, uint32_t n);
/* Thread i's part of n_rows rows in units of `unit` (the last may be short); cut: of the layer. */
struct span shares_rows(const uint32_t *cut, uint32_t n_rows, uint32_t unit, uint32_t i);

#endif
