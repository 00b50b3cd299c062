#include "base/threads.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPIN_NS = 50000 };

/* One cache line each, so that spinning on one does not slow the others. */
struct cell {
    atomic_uint value;
    atomic_uint sleepers;
    char apart[56];
};

struct worker {
    struct pool *pool;
    pthread_t thread;
    uint32_t ith;
};

struct pool {
    uint32_t n;
    pool_fn fn;
    void *ctx;
    atomic_bool stop;
    struct cell work;    /* generation of pool_run */
    struct cell phase;   /* generation of the barrier */
    struct cell arrived; /* threads at the barrier */
    struct worker workers[];
};

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Waits until the cell no longer holds `old`. */
static void cell_wait(struct cell *c, unsigned old) {
    uint64_t start = 0;
    for (unsigned spins = 0;; spins++) {
        if (atomic_load_explicit(&c->value, memory_order_acquire) != old) {
            return;
        }
        relax();
        if ((spins & 63) == 63) {
            uint64_t now = clock_ns();
            start = start ? start : now;
            if (now - start > SPIN_NS) {
                break;
            }
        }
    }
    atomic_fetch_add(&c->sleepers, 1);
    while (atomic_load(&c->value) == old) {
        syscall(SYS_futex, &c->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    }
    atomic_fetch_sub(&c->sleepers, 1);
}

static void cell_advance(struct cell *c) {
    atomic_fetch_add(&c->value, 1);
    if (atomic_load(&c->sleepers)) {
        syscall(SYS_futex, &c->value, FUTEX_WAKE_PRIVATE, 1 << 30, NULL, NULL, 0);
    }
}

unsigned pool_arrive(struct pool *p) {
    unsigned phase = atomic_load_explicit(&p->phase.value, memory_order_relaxed);
    if (p->n > 1 && atomic_fetch_add_explicit(&p->arrived.value, 1, memory_order_acq_rel) + 1 == p->n) {
        atomic_store_explicit(&p->arrived.value, 0, memory_order_relaxed);
        cell_advance(&p->phase);
    }
    return phase;
}

bool pool_passed(const struct pool *p, unsigned phase) {
    return p->n == 1 || atomic_load_explicit(&p->phase.value, memory_order_acquire) != phase;
}

void pool_wait(struct pool *p, unsigned phase) {
    if (p->n > 1) {
        cell_wait(&p->phase, phase);
    }
}

void pool_barrier(struct pool *p) {
    pool_wait(p, pool_arrive(p));
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    struct pool *p = w->pool;
    for (unsigned seen = 0;; seen++) {
        cell_wait(&p->work, seen);
        if (atomic_load(&p->stop)) {
            return NULL;
        }
        p->fn(p->ctx, w->ith, p->n);
        pool_barrier(p);
    }
}

void pool_run(struct pool *p, pool_fn fn, void *ctx) {
    p->fn = fn;
    p->ctx = ctx;
    if (p->n > 1) {
        cell_advance(&p->work);
    }
    fn(ctx, 0, p->n);
    pool_barrier(p);
}

uint32_t pool_size(const struct pool *p) {
    return p->n;
}

static void stop_workers(struct pool *p, uint32_t started) {
    atomic_store(&p->stop, true);
    cell_advance(&p->work);
    for (uint32_t i = 1; i < started; i++) {
        pthread_join(p->workers[i].thread, NULL);
    }
}

void pool_free(struct pool *p) {
    if (p) {
        stop_workers(p, p->n);
        mem_free(p);
    }
}

/* Worker i goes to the i-th allowed core, but only when every core has its thread: with fewer, the kernel places better. */
static void pin(const struct pool *p, uint32_t i) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || (uint32_t)CPU_COUNT(&allowed) != p->n) {
        return;
    }
    uint32_t seen = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && seen++ == i) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            (void)pthread_setaffinity_np(p->workers[i].thread, sizeof one, &one); /* speed only */
            return;
        }
    }
}

sluice_status pool_create(uint32_t n, struct pool **out, sluice_error *err) {
    if (n < 1 || n > LIMIT_THREADS) {
        return fail(err, SLUICE_E_ARG, "%u threads were asked for; 1 to %u are possible", n, LIMIT_THREADS);
    }
    struct pool *p = mem_calloc(1, sizeof *p + n * sizeof p->workers[0]);
    if (!p) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a pool of %u threads", n);
    }
    p->n = n;
    for (uint32_t i = 1; i < n; i++) {
        p->workers[i] = (struct worker){.pool = p, .ith = i};
        int code = pthread_create(&p->workers[i].thread, NULL, worker_main, &p->workers[i]);
        if (code != 0) {
            stop_workers(p, i);
            mem_free(p);
            return fail(err, SLUICE_E_NOMEM, "thread %u of %u could not be started; try fewer with -t", i, n);
        }
        pin(p, i);
    }
    *out = p;
    return SLUICE_OK;
}

/* Cores' worth of CPU time that the control group grants, rounded up; 0 for no limit. */
static uint32_t quota(void) {
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!f) {
        return 0;
    }
    unsigned long long limit = 0;
    unsigned long long period = 0;
    int got = fscanf(f, "%llu %llu", &limit, &period); /* "max 100000" has no first number: no limit */
    fclose(f);
    if (got != 2 || period == 0) {
        return 0;
    }
    unsigned long long cores = (limit + period - 1) / period;
    return cores > LIMIT_THREADS ? LIMIT_THREADS : (uint32_t)(cores ? cores : 1);
}

uint32_t threads_allowed(void) {
    cpu_set_t allowed;
    uint32_t n = 1;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) > 0) {
        n = (uint32_t)CPU_COUNT(&allowed);
    } else if (sysconf(_SC_NPROCESSORS_ONLN) > 0) {
        n = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    }
    uint32_t q = quota();
    if (q && q < n) {
        n = q;
    }
    return n > LIMIT_THREADS ? LIMIT_THREADS : n;
}
