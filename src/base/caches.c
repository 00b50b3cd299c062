#include "base/caches.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if SLUICE_WITH_HWLOC
#include <hwloc.h>
#endif

static void note(struct caches *c, unsigned level, uint64_t bytes, uint32_t cpus) {
    if (level == 1) {
        c->l1d = bytes;
    } else if (level == 2) {
        c->l2 = bytes;
        c->l2_cpus = cpus;
    } else if (level == 3) {
        c->l3 = bytes;
        c->l3_cpus = cpus;
    }
}

/* ---- sysfs */

/* A small file's first line without its end; false when there is none. */
static bool read_line(const char *folder, int index, const char *name, char *out, size_t cap) {
    char path[512];
    int n = snprintf(path, sizeof path, "%s/index%d/%s", folder, index, name);
    FILE *f = n > 0 && (size_t)n < sizeof path ? fopen(path, "re") : NULL;
    if (!f) {
        return false;
    }
    bool ok = fgets(out, (int)cap, f) != NULL;
    fclose(f);
    if (ok) {
        out[strcspn(out, "\n")] = '\0';
    }
    return ok;
}

/* "48K", "2048K", "30M": bytes; 0 when it is nothing of the kind. */
static uint64_t parse_size(const char *text) {
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : 0;
    if (end == text || *text == '-' || n > 1ull << 40 || (*end && (!shift || end[1]))) {
        return 0;
    }
    return (uint64_t)n << shift;
}

/* How many numbers a list such as "0-3,8,10-11" names; 0 when it is no such list. */
static uint32_t count_list(const char *p) {
    uint32_t count = 0;
    while (*p) {
        char *end;
        unsigned long first = strtoul(p, &end, 10);
        unsigned long last = first;
        if (end == p || *p == '-') {
            return 0;
        }
        if (*end == '-') {
            p = end + 1;
            last = strtoul(p, &end, 10);
            if (end == p || *p == '-') {
                return 0;
            }
        }
        if (last < first || last > 1u << 20 || (*end && *end != ',')) {
            return 0;
        }
        count += (uint32_t)(last - first) + 1;
        p = *end ? end + 1 : end;
    }
    return count;
}

bool caches_read_sysfs(const char *folder, struct caches *out) {
    *out = (struct caches){.source = "sysfs"};
    for (int i = 0; i < 16; i++) {
        char type[32];
        char level[16];
        char size[32];
        char list[4096] = "";
        if (!read_line(folder, i, "type", type, sizeof type) || strcmp(type, "Instruction") == 0 ||
            !read_line(folder, i, "level", level, sizeof level) || strlen(level) != 1 ||
            !read_line(folder, i, "size", size, sizeof size)) {
            continue;
        }
        uint64_t bytes = parse_size(size);
        read_line(folder, i, "shared_cpu_list", list, sizeof list);
        if (bytes) {
            note(out, (unsigned)(level[0] - '0'), bytes, count_list(list));
        }
    }
    return out->l1d || out->l2 || out->l3;
}

static bool from_sysfs(struct caches *out) {
    char folder[64];
    cpu_set_t set;
    int cpu = 0;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &set)) {
            cpu++;
        }
    }
    snprintf(folder, sizeof folder, "/sys/devices/system/cpu/cpu%d/cache", cpu);
    return caches_read_sysfs(folder, out);
}

/* ---- hwloc */

#if SLUICE_WITH_HWLOC
static bool from_hwloc(struct caches *out) {
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0) {
        return false;
    }
    *out = (struct caches){.source = "hwloc"};
    /* Caches and processors, nothing that would open devices. Not by CPUID: hwloc would move to each processor in turn, and that took
     * 160 to 660 ms on a loaded machine. */
    bool ok = hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86") == 0 &&
              hwloc_topology_set_all_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE) == 0 &&
              hwloc_topology_set_cache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_ALL) == 0 &&
              hwloc_topology_load(topology) == 0;
    hwloc_obj_t at = ok ? hwloc_get_obj_by_type(topology, HWLOC_OBJ_PU, 0) : NULL; /* allowed ones only */
    for (; at; at = at->parent) {
        if (hwloc_obj_type_is_dcache(at->type) && at->attr->cache.size) {
            int cpus = hwloc_bitmap_weight(at->complete_cpuset ? at->complete_cpuset : at->cpuset);
            note(out, at->attr->cache.depth, at->attr->cache.size, cpus > 0 ? (uint32_t)cpus : 0);
        }
    }
    hwloc_topology_destroy(topology);
    return out->l1d || out->l2 || out->l3;
}
#endif

/* ---- the C library */

static bool from_sysconf(struct caches *out) {
    *out = (struct caches){.source = "sysconf"};
#if defined(_SC_LEVEL1_DCACHE_SIZE)
    static const int names[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
    for (unsigned i = 0; i < 3; i++) {
        long bytes = sysconf(names[i]);
        if (bytes > 0) {
            note(out, i + 1, (uint64_t)bytes, 0);
        }
    }
#endif
    return out->l1d || out->l2 || out->l3;
}

void caches_read(struct caches *out) {
#if SLUICE_WITH_HWLOC
    if (from_hwloc(out)) {
        return;
    }
#endif
    if (!from_sysfs(out) && !from_sysconf(out)) {
        *out = (struct caches){.source = "nothing"};
    }
}
