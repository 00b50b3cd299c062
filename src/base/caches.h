/*
 * The data caches of this machine, as the first core sees them that this process may use. Read from hwloc where the build has it,
 * else from sysfs, else from the C library. Takes some milliseconds: only who sizes something by it asks.
 */
#ifndef BASE_CACHES_H
#define BASE_CACHES_H

#include <stdbool.h>
#include <stdint.h>

struct caches {
    uint64_t l1d, l2, l3;      /* bytes; 0: there is none, or the system does not say */
    uint32_t l2_cpus, l3_cpus; /* logical processors that share it, of all in the machine */
    const char *source;        /* "hwloc", "sysfs", "sysconf" or "nothing" */
};

void caches_read(struct caches *out);

/* From folders index0, index1, ... under `folder`, as /sys/devices/system/cpu/cpu0/cache has them; false when there is no data
 * cache in them. Files that make no sense count for nothing. */
bool caches_read_sysfs(const char *folder, struct caches *out);

#endif
