/* Sleeping on a 32-bit word, so that the waking side costs one load while nobody sleeps. */
#ifndef ENGINE_FUTEX_H
#define ENGINE_FUTEX_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A counter of things that happened, with sleepers. */
struct bell {
    atomic_uint rings;
    atomic_uint sleepers;
};

static inline unsigned bell_now(struct bell *b) {
    return atomic_load(&b->rings);
}

static inline void bell_ring(struct bell *b) {
    atomic_fetch_add(&b->rings, 1);
    if (atomic_load(&b->sleepers) > 0) {
        syscall(SYS_futex, &b->rings, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    }
}

/* Returns once the bell has rung since `seen` was read, after timeout_ns (negative: none), or for no reason. The
 * sleeper counts itself before it compares, and the ringer rings before it looks for sleepers: one of them sees the
 * other. */
static inline void bell_wait(struct bell *b, unsigned seen, int64_t timeout_ns) {
    struct timespec t = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    atomic_fetch_add(&b->sleepers, 1);
    if (atomic_load(&b->rings) == seen) {
        syscall(SYS_futex, &b->rings, FUTEX_WAIT_PRIVATE, seen, timeout_ns < 0 ? NULL : &t, NULL, 0);
    }
    atomic_fetch_sub(&b->sleepers, 1);
}

#endif
