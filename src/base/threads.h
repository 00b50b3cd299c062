/*
 * A pool of threads that run one function together, in lockstep by barriers. Waiting spins for at most 50 us (a decode
 * phase on a small machine is shorter than a futex wake-up), then sleeps.
 */
#ifndef BASE_THREADS_H
#define BASE_THREADS_H

#include "sluice.h"

#include <stdbool.h>

struct pool;

typedef void (*pool_fn)(void *ctx, uint32_t ith, uint32_t nth);

/* Threads this process may use: min(allowed cores, CPU quota of its control group rounded up), at least 1. */
uint32_t threads_allowed(void);

/* n threads, the caller of pool_run being number 0. Workers are pinned, one per allowed core, if there are exactly that many. */
sluice_status pool_create(uint32_t n, struct pool **out, sluice_error *err);
void pool_free(struct pool *pool);
uint32_t pool_size(const struct pool *pool);
/* Runs fn on all threads and returns when all are done. One pool_run at a time. */
void pool_run(struct pool *pool, pool_fn fn, void *ctx);
/* Inside fn: returns on every thread once all have come. */
void pool_barrier(struct pool *pool);
/* pool_barrier in steps, for a thread that has something to do until the others come: pool_arrive, then pool_passed as often as it likes,
 * then pool_wait, each with what pool_arrive returned. */
unsigned pool_arrive(struct pool *pool);
bool pool_passed(const struct pool *pool, unsigned phase);
void pool_wait(struct pool *pool, unsigned phase);

#endif
