/*
 * NVIDIA's management library, opened at run time: what a card is, what it draws and how hot it is, and its power limit.
 * The same binary runs where there is none. Declarations follow NVIDIA's NVML API reference (functions of version 11 and
 * later); nothing of its header is needed to build.
 */
#ifndef MACHINE_NVML_H
#define MACHINE_NVML_H

#include "sluice.h"

#define NVML_GPUS_MAX 16

struct nvml;

/* Unknown numbers are 0, unknown text is "". */
struct nvml_info {
    char name[96], uuid[96], driver[80];
    int cuda;                         /* of the driver: 13000 is 13.0 */
    int compute_major, compute_minor; /* capability */
    uint32_t sms;                     /* from the count of cores, for the capabilities known here */
    uint64_t memory_bytes;
    double power_limit_w, power_limit_min_w, power_limit_max_w, power_limit_default_w;
    uint32_t clock_sm_mhz, clock_sm_max_mhz, clock_mem_mhz, clock_mem_max_mhz;
    uint32_t bus_width_bits;
    uint32_t pcie_gen, pcie_gen_max, pcie_width, pcie_width_max;
    int ecc, mig; /* 1 on, 0 off, -1 unknown */
};

/* What changes while work runs; -1 where the card does not say. */
struct nvml_reading {
    double power_w, temperature_c, sm_mhz, mem_mhz, busy_share;
    double energy_j;    /* since the driver was loaded */
    int64_t throttle;   /* NVML_THROTTLE_* bits */
    int64_t used_bytes; /* of the card's memory, by everybody */
};

#define NVML_THROTTLE_POWER   0x04 /* the power limit */
#define NVML_THROTTLE_HW      0x08
#define NVML_THROTTLE_THERMAL 0x60 /* by driver or by hardware */
#define NVML_THROTTLE_BRAKE   0x80

/* NULL: the system's library; $SLUICE_NVML overrides it (tests bring a library of their own). SLUICE_E_IO with the reason
 * when there is no library or no card. */
sluice_status nvml_open(const char *library, struct nvml **out, sluice_error *err);
void nvml_close(struct nvml *n);
uint32_t nvml_count(const struct nvml *n);
void nvml_describe(const struct nvml *n, uint32_t gpu, struct nvml_info *out);
void nvml_read(const struct nvml *n, uint32_t gpu, struct nvml_reading *out);
/* Processes that compute on the card and are not among own[n_own]; -1 unknown. */
int nvml_foreign(const struct nvml *n, uint32_t gpu, const int *own, uint32_t n_own);
/* Needs the rights of an administrator. */
sluice_status nvml_set_power_limit(const struct nvml *n, uint32_t gpu, double watts, sluice_error *err);
/* "power limit, heat"; "" when nothing holds the clocks back */
void nvml_throttle_text(int64_t throttle, char *out, size_t cap);

#endif
