/*
 * Bounds on time that hold on a machine that is doing nothing else. A wide bound that also holds on a busy one says little, so
 * the tight one is tried again while others had the processors, and fails the test only where nobody had.
 */
#ifndef UNIT_QUIET_H
#define UNIT_QUIET_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define QUIET_TRIES 4
#define QUIET_SHARE 0.04 /* of all processors' time: what others may take on a quiet machine */

struct quiet {
    uint64_t busy, total; /* clock ticks of all processors; busy: stolen ones too */
    double own_s;
};

static inline struct quiet quiet_now(void) {
    unsigned long long v[8] = {0}; /* user nice system idle iowait irq softirq steal */
    struct quiet q = {0};
    struct rusage self;
    FILE *f = fopen("/proc/stat", "re");
    if (f) {
        if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6],
                   &v[7]) == 8) {
            q.busy = v[0] + v[1] + v[2] + v[5] + v[6] + v[7];
            q.total = q.busy + v[3] + v[4];
        }
        fclose(f);
    }
    getrusage(RUSAGE_SELF, &self);
    q.own_s = (double)(self.ru_utime.tv_sec + self.ru_stime.tv_sec) +
              1e-6 * (double)(self.ru_utime.tv_usec + self.ru_stime.tv_usec);
    return q;
}

/* Share of all processors' time that others had since then; 1 where it cannot be told. */
static inline double quiet_others(const struct quiet *from) {
    struct quiet now = quiet_now();
    double total = (double)(now.total - from->total);
    double own = (now.own_s - from->own_s) * (double)sysconf(_SC_CLK_TCK);
    return total > 0 ? ((double)(now.busy - from->busy) - own) / total : 1;
}

/* attempt: measures and says whether the tight bounds hold. true when they held, or nobody could tell because the machine
 * was busy each time. */
static inline bool quietly(bool (*attempt)(void *ctx), void *ctx, const char *what) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(SLUICE_SANITIZED)
    (void)attempt(ctx);
    printf("%s: bounds are not held against a sanitizer's times\n", what);
    return true;
#endif
    double others = 0;
    int failed_quiet = 0;
    for (int i = 0; i < QUIET_TRIES; i++) {
        struct quiet from = quiet_now();
        if (attempt(ctx)) {
            return true;
        }
        others = quiet_others(&from);
        failed_quiet += others < QUIET_SHARE;
        if (failed_quiet == 2) { /* once may be the moment at which somebody came */
            return false;
        }
    }
    printf("%s: not decided, others had up to %.0f%% of the processors\n", what, 100 * others);
    return true;
}

#endif
