/*
 * What this machine's memory and cores allow, measured: the limits that other figures are shares of.
 *
 * Bandwidth: every thread streams its own part of a buffer far larger than the last-level cache, on huge pages where
 * the system gives them. Reads only for `read` (that is what decoding does), non-temporal stores for `write`, and a
 * copy counts the bytes read plus the bytes written. `best` is the limit; median and least say how often the machine
 * reaches it. Rates: multiply-adds on registers only, per instruction set; one multiply-add counts as two operations. Every figure
 * comes from at least five passes.
 */
#ifndef TOOLS_PROBE_H
#define TOOLS_PROBE_H

#include "base/buf.h"
#include "base/caches.h"
#include "base/limits.h"
#include "sluice.h"

#define PROBE_COUNTS_MAX 12 /* thread counts 1, 2, 4, ... all */
#define PROBE_PEAKS_MAX  32

struct probe_rate {
    double best, median, least; /* GB/s (1e9), or 1e9 operations per second */
    uint32_t passes;
};

struct probe_memory {
    uint32_t n_threads;
    struct probe_rate read, write, copy;
    double barrier_ns, barrier_worst_ns; /* one barrier over all n_threads, spinning: median and worst pass of 512 */
};

struct probe_peak {
    const char *kind; /* "f32", "bf16", "int8" */
    const char *isa;  /* "avx512", "avx512vnni", ... */
    uint32_t n_threads;
    struct probe_rate gop_s;
};

struct probe_absent {
    const char *kind, *isa, *needs;
};

/* What the memory modules' own records promise (SMBIOS type 17). */
struct probe_theory {
    double gb_s;              /* all modules together, as if each had a channel of its own; 0 = not told */
    uint32_t n_modules, mt_s; /* modules, the slowest one's transfers per second (1e6) */
};

struct probe_options {
    uint32_t n_threads; /* the most threads to try; 0 = all allowed */
    double seconds;     /* for everything together; 0 = 5 */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *progress_ctx;
};

struct probe_report {
    char cpu[96];
    uint32_t threads_allowed;
    struct caches caches;
    uint64_t buffer_bytes; /* of the widest run */
    struct probe_theory theory;
    bool huge_pages; /* the system grants them on request */
    uint32_t n_memory, n_peaks, n_absent;
    struct probe_memory memory[PROBE_COUNTS_MAX];
    struct probe_peak peaks[PROBE_PEAKS_MAX];
    struct probe_absent absent[PROBE_PEAKS_MAX];
};

/* "AMD EPYC 9555 64-Core Processor"; "unknown" where the system does not say. */
void probe_cpu_name(char *out, size_t cap);

/* From the raw records in folders 17-0, 17-1, ... under `folder`, as /sys/firmware/dmi/entries has them. Where they are missing or
 * not to be read (most need root, a virtual machine may have none) gb_s is 0. */
void probe_theory_read(const char *folder, struct probe_theory *out);

sluice_status probe_run(const struct probe_options *options, struct probe_report *out, sluice_error *err);

/* Best read bandwidth over n_threads (0 = all allowed) in GB/s, trying for about `seconds`. Reads `memory` where its bytes are enough
 * to outweigh the caches, else a buffer of its own. 0 when it could not be measured; err then says why. */
double probe_read_bandwidth(uint32_t n_threads, double seconds, const void *memory, size_t bytes, sluice_error *err);
/* The best instruction set's rate in 1e9 operations per second; kind is "int8", "bf16" or "f32", *isa (may be NULL) names
 * the set. */
double probe_compute_peak(const char *kind, uint32_t n_threads, double seconds, const char **isa, sluice_error *err);

void probe_report_json(struct buf *b, const struct probe_report *report); /* one line, no newline */
void probe_report_text(struct buf *b, const struct probe_report *report);

#endif
