/* The machine a measurement was made on, read and never typed in. No host name, user name or path is kept. */
#ifndef MACHINE_ENVIRONMENT_H
#define MACHINE_ENVIRONMENT_H

#include "base/buf.h"
#include "machine/nvml.h"

/* "" and 0 are unknown unless said otherwise. */
struct environment {
    char date[32]; /* UTC, ISO 8601 */
    char cpu[96], kernel[128], os[96], architecture[32], libc[48], compiler[64], governor[32], microcode[32];
    uint32_t cores_online, cores_allowed;
    double cpu_limit; /* cores, of the container; 0 none */
    uint64_t memory_total, memory_available, memory_limit;
    double load1;    /* -1 unknown */
    int virtualised; /* -1 unknown */
    uint32_t n_gpus;
    struct nvml_info gpu[NVML_GPUS_MAX];
    bool unified_memory[NVML_GPUS_MAX];
};

/* root: "" or a folder in place of / (tests). nvml may be NULL. */
void environment_read(struct environment *e, const char *root, const struct nvml *nvml);
/* "environment":{...} of docs/records.md, appended to an open line. */
void environment_json(struct buf *b, const struct environment *e);

#endif
