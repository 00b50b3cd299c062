/* The machine and its state, read and never typed in. No host name, user name or path is kept. */
#ifndef BENCH_ENV_H
#define BENCH_ENV_H

#include "base/buf.h"

struct env {
    char cpu[96], kernel[128], os[96], architecture[32], governor[32]; /* "" = not known */
    uint32_t cores_online, cores_allowed;
    uint64_t memory_total, memory_available;
    double load1;                      /* of the last minute, at the start; -1 unknown */
    uint64_t ticks_total, ticks_steal; /* /proc/stat at the start */
    char date[32];                     /* UTC, ISO 8601 */
};

void env_read(struct env *e);
/* Share of CPU time since env_read that a hypervisor gave to others, 0..1; -1 unknown. */
double env_steal_share(const struct env *e);
void env_json(struct buf *b, const struct env *e, double steal_share);

#endif
