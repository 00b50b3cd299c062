/*
 * Watches the machine while something is measured: ten times a second the clocks, temperature, power and throttle reasons
 * of the GPUs, the clock of the CPU, time that a hypervisor took, work of other programs; and a fixed piece of work timed
 * before and after. From all that comes a verdict: whether the machine was quiet enough for its numbers to be believed.
 */
#ifndef MACHINE_WATCH_H
#define MACHINE_WATCH_H

#include "base/buf.h"
#include "machine/nvml.h"

struct watch;

struct watch_options {
    const char *root;        /* "" = this machine; a folder in place of / (tests) */
    const struct nvml *nvml; /* or NULL */
    double interval_s;       /* 0 = 0.1 */
    double calibration_s;    /* of the fixed work, each time; 0 = 0.1, negative = none */
};

struct watch_summary {
    double seconds;
    double calibration_before_ms, calibration_after_ms; /* best pass of the fixed work; -1 none */
    double drift_share;                                 /* how much slower the fixed work was afterwards; -1 unknown */
    double steal_share;                                 /* of all cores' time; -1 unknown */
    double foreign_cpu_share;      /* of all cores' time, used by processes that are neither ours nor watched */
    double peak_w, idle_c, peak_c; /* of the hottest GPU; -1 unknown */
    double sm_mhz_min, sm_mhz_max;
    int64_t throttled;         /* NVML_THROTTLE_* seen while busy; 0 none, -1 unknown */
    int foreign_gpu_processes; /* the most seen; -1 unknown */
    uint64_t rss_peak;         /* of the watched processes, bytes; 0 unknown */
    int64_t vram_peak;         /* of all cards, bytes; -1 unknown */
};

enum verdict { VERDICT_CLEAN, VERDICT_NOISY, VERDICT_INVALID };

#define WATCH_STEAL_NOISY   0.01 /* shares of all cores' time */
#define WATCH_FOREIGN_NOISY 0.05
#define WATCH_DRIFT_NOISY   0.05
#define WATCH_CLOCK_NOISY   0.10 /* of the GPU's clock, while a power limit acts */

/* Times the fixed work and starts the thread. */
sluice_status watch_start(const struct watch_options *options, struct watch **out, sluice_error *err);
/* This process is ours from the start; a server that is measured is ours too, with its children. */
void watch_own(struct watch *w, int pid);
/* What was seen since the last call of this, or since the start: a row's part of the whole. No calibration, no idle_c. */
void watch_row(struct watch *w, struct watch_summary *out);
/* Stops, times the fixed work again. The series stay readable until watch_free. */
void watch_stop(struct watch *w, struct watch_summary *out);
/* {"interval_ms":..,"t_ms":[..],"series":{..}} without the braces around: members of the record's trace line. */
void watch_trace_json(struct buf *b, const struct watch *w);
void watch_free(struct watch *w);

/* Reasons joined by "; ", "" when clean. */
enum verdict watch_verdict(const struct watch_summary *s, char *reasons, size_t cap);
extern const char *const verdict_names[3];

#endif
