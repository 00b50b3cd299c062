/*
 * Energy counters of the machine: each GPU's total-energy counter (NVML), the CPU packages (RAPL, Linux powercap) and AMD
 * GPUs (amdgpu hwmon). Counters are read, not power integrated, because sampled power misses most of the time on recent
 * cards (arXiv 2312.02741); a window shorter than ENERGY_WINDOW_S says little, since counters move every 100 ms or so.
 */
#ifndef MACHINE_ENERGY_H
#define MACHINE_ENERGY_H

#include "machine/nvml.h"

#define ENERGY_WINDOW_S 5.0
#define ENERGY_DOMAINS  24

struct energy;

struct energy_reading {
    double t_s;               /* monotonic */
    double j[ENERGY_DOMAINS]; /* since energy_open, wraps of the counters handled if read once an hour; -1 unreadable */
};

/* What was used between two readings. */
struct energy_use {
    bool valid;
    char reason[160]; /* of not being valid */
    double seconds, joules, watts;
};

/* root: "" for this machine, or a folder that stands for / (tests). nvml may be NULL. Always gives an object; one without
 * domains says why in energy_source. NULL only when memory is out. */
struct energy *energy_open(const char *root, const struct nvml *nvml);
void energy_close(struct energy *e);
uint32_t energy_domains(const struct energy *e);
/* "gpu0 (NVML counter), package-0 (RAPL)"; without a domain the reason: "no counter may be read: RAPL needs ..." */
const char *energy_source(const struct energy *e);
void energy_read(struct energy *e, struct energy_reading *out);
/* The sum over all domains. Not valid: no domain, a counter that failed or stood still, a window under min_s. */
void energy_between(const struct energy *e, const struct energy_reading *from, const struct energy_reading *to,
                    double min_s, struct energy_use *out);

#endif
