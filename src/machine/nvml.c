#include "machine/nvml.h"

#include "base/mem.h"
#include "base/status.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *device;
typedef int result; /* 0 is success */

struct memory {
    unsigned long long total, free, used;
};
struct utilization {
    unsigned gpu, memory; /* percent of the last sampling period */
};
struct process { /* nvmlProcessInfo_t of the _v3 call */
    unsigned pid;
    unsigned long long used_bytes;
    unsigned gpu_instance, compute_instance;
};

enum { CLOCK_SM = 1, CLOCK_MEM = 2, TEMPERATURE_GPU = 0, PROCESSES_MAX = 256, INSUFFICIENT_SIZE = 7 };

/* Everything that is called; what an old library lacks stays NULL and is unknown. */
#define FUNCTIONS(F)                                                                                                   \
    F(nvmlInit_v2, (void))                                                                                             \
    F(nvmlShutdown, (void))                                                                                            \
    F(nvmlSystemGetDriverVersion, (char *, unsigned))                                                                  \
    F(nvmlSystemGetCudaDriverVersion_v2, (int *))                                                                      \
    F(nvmlDeviceGetCount_v2, (unsigned *))                                                                             \
    F(nvmlDeviceGetHandleByIndex_v2, (unsigned, device *))                                                             \
    F(nvmlDeviceGetName, (device, char *, unsigned))                                                                   \
    F(nvmlDeviceGetUUID, (device, char *, unsigned))                                                                   \
    F(nvmlDeviceGetMemoryInfo, (device, struct memory *))                                                              \
    F(nvmlDeviceGetCudaComputeCapability, (device, int *, int *))                                                      \
    F(nvmlDeviceGetNumGpuCores, (device, unsigned *))                                                                  \
    F(nvmlDeviceGetEnforcedPowerLimit, (device, unsigned *))                                                           \
    F(nvmlDeviceGetPowerManagementLimit, (device, unsigned *))                                                         \
    F(nvmlDeviceGetPowerManagementLimitConstraints, (device, unsigned *, unsigned *))                                  \
    F(nvmlDeviceGetPowerManagementDefaultLimit, (device, unsigned *))                                                  \
    F(nvmlDeviceSetPowerManagementLimit, (device, unsigned))                                                           \
    F(nvmlDeviceGetClockInfo, (device, int, unsigned *))                                                               \
    F(nvmlDeviceGetMaxClockInfo, (device, int, unsigned *))                                                            \
    F(nvmlDeviceGetMemoryBusWidth, (device, unsigned *))                                                               \
    F(nvmlDeviceGetCurrPcieLinkGeneration, (device, unsigned *))                                                       \
    F(nvmlDeviceGetMaxPcieLinkGeneration, (device, unsigned *))                                                        \
    F(nvmlDeviceGetCurrPcieLinkWidth, (device, unsigned *))                                                            \
    F(nvmlDeviceGetMaxPcieLinkWidth, (device, unsigned *))                                                             \
    F(nvmlDeviceGetEccMode, (device, int *, int *))                                                                    \
    F(nvmlDeviceGetMigMode, (device, unsigned *, unsigned *))                                                          \
    F(nvmlDeviceGetPowerUsage, (device, unsigned *))                                                                   \
    F(nvmlDeviceGetTotalEnergyConsumption, (device, unsigned long long *))                                             \
    F(nvmlDeviceGetTemperature, (device, int, unsigned *))                                                             \
    F(nvmlDeviceGetUtilizationRates, (device, struct utilization *))                                                   \
    F(nvmlDeviceGetCurrentClocksThrottleReasons, (device, unsigned long long *))                                       \
    F(nvmlDeviceGetComputeRunningProcesses_v3, (device, unsigned *, struct process *))

struct nvml {
    void *library;
    uint32_t n;
    device gpu[NVML_GPUS_MAX];
#define FIELD(name, args) result(*name) args;
    FUNCTIONS(FIELD)
#undef FIELD
};

#define HAVE(n, name, ...) ((n)->name && (n)->name(__VA_ARGS__) == 0)

static void bind(struct nvml *n) {
/* POSIX: what dlsym gives for a function may be stored through a pointer to void *. */
#define BIND(name, args) *(void **)&n->name = dlsym(n->library, #name);
    FUNCTIONS(BIND)
#undef BIND
}

static sluice_status open_library(struct nvml *n, const char *library, sluice_error *err) {
    const char *chosen = getenv("SLUICE_NVML");
    const char *name = library ? library : chosen && chosen[0] ? chosen : "libnvidia-ml.so.1";
    unsigned count = 0;
    n->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!n->library) {
        return fail(err, SLUICE_E_IO, "no NVIDIA management library: %.200s", dlerror());
    }
    bind(n);
    if (!HAVE(n, nvmlInit_v2)) {
        n->nvmlShutdown = NULL;
        return fail(err, SLUICE_E_IO,
                    "NVIDIA's management library %.100s does not start (no driver, or no right to use it)", name);
    }
    if (!HAVE(n, nvmlDeviceGetCount_v2, &count) || count == 0 || !n->nvmlDeviceGetHandleByIndex_v2) {
        return fail(err, SLUICE_E_IO, "NVIDIA's management library sees no card");
    }
    for (unsigned i = 0; i < count && n->n < NVML_GPUS_MAX; i++) {
        n->n += n->nvmlDeviceGetHandleByIndex_v2(i, &n->gpu[n->n]) == 0;
    }
    return n->n ? SLUICE_OK : fail(err, SLUICE_E_IO, "none of the %u NVIDIA cards may be looked at", count);
}

sluice_status nvml_open(const char *library, struct nvml **out, sluice_error *err) {
    struct nvml *n = mem_calloc(1, sizeof *n);
    if (!n) {
        return fail(err, SLUICE_E_NOMEM, "no memory for NVIDIA's management library");
    }
    sluice_status status = open_library(n, library, err);
    if (status != SLUICE_OK) {
        nvml_close(n);
        return status;
    }
    *out = n;
    return SLUICE_OK;
}

void nvml_close(struct nvml *n) {
    if (!n) {
        return;
    }
    if (n->nvmlShutdown) {
        n->nvmlShutdown();
    }
    if (n->library) {
        dlclose(n->library);
    }
    mem_free(n);
}

uint32_t nvml_count(const struct nvml *n) {
    return n->n;
}

/* FP32 cores of a multiprocessor (CUDA programming guide, compute capabilities); 0 unknown. */
static unsigned cores_per_sm(int major, int minor) {
    switch (major) {
    case 7:
        return 64;
    case 8:
        return minor == 0 ? 64 : 128;
    case 9:
    case 10:
    case 12:
        return 128;
    default:
        return 0;
    }
}

static uint32_t number(result (*get)(device, unsigned *), device d) {
    unsigned v = 0;
    return get && get(d, &v) == 0 ? v : 0;
}

static void describe_power(const struct nvml *n, device d, struct nvml_info *out) {
    unsigned low = 0;
    unsigned high = 0;
    out->power_limit_w = number(n->nvmlDeviceGetEnforcedPowerLimit, d) * 1e-3;
    if (out->power_limit_w <= 0) {
        out->power_limit_w = number(n->nvmlDeviceGetPowerManagementLimit, d) * 1e-3;
    }
    out->power_limit_default_w = number(n->nvmlDeviceGetPowerManagementDefaultLimit, d) * 1e-3;
    if (HAVE(n, nvmlDeviceGetPowerManagementLimitConstraints, d, &low, &high)) {
        out->power_limit_min_w = low * 1e-3;
        out->power_limit_max_w = high * 1e-3;
    }
}

static void describe_clocks(const struct nvml *n, device d, struct nvml_info *out) {
    unsigned v = 0;
    out->clock_sm_mhz = HAVE(n, nvmlDeviceGetClockInfo, d, CLOCK_SM, &v) ? v : 0;
    out->clock_mem_mhz = HAVE(n, nvmlDeviceGetClockInfo, d, CLOCK_MEM, &v) ? v : 0;
    out->clock_sm_max_mhz = HAVE(n, nvmlDeviceGetMaxClockInfo, d, CLOCK_SM, &v) ? v : 0;
    out->clock_mem_max_mhz = HAVE(n, nvmlDeviceGetMaxClockInfo, d, CLOCK_MEM, &v) ? v : 0;
}

void nvml_describe(const struct nvml *n, uint32_t gpu, struct nvml_info *out) {
    *out = (struct nvml_info){.ecc = -1, .mig = -1};
    if (gpu >= n->n) {
        return;
    }
    device d = n->gpu[gpu];
    struct memory memory = {0};
    int now = 0;
    int pending = 0;
    unsigned mig = 0;
    unsigned mig_pending = 0;
    if (!HAVE(n, nvmlDeviceGetName, d, out->name, sizeof out->name)) {
        out->name[0] = '\0';
    }
    if (!HAVE(n, nvmlDeviceGetUUID, d, out->uuid, sizeof out->uuid)) {
        out->uuid[0] = '\0';
    }
    if (!HAVE(n, nvmlSystemGetDriverVersion, out->driver, sizeof out->driver)) {
        out->driver[0] = '\0';
    }
    out->name[sizeof out->name - 1] = out->uuid[sizeof out->uuid - 1] = out->driver[sizeof out->driver - 1] = '\0';
    out->cuda = HAVE(n, nvmlSystemGetCudaDriverVersion_v2, &now) ? now : 0;
    out->memory_bytes = HAVE(n, nvmlDeviceGetMemoryInfo, d, &memory) ? memory.total : 0;
    if (!HAVE(n, nvmlDeviceGetCudaComputeCapability, d, &out->compute_major, &out->compute_minor)) {
        out->compute_major = out->compute_minor = 0;
    }
    unsigned per_sm = cores_per_sm(out->compute_major, out->compute_minor);
    out->sms = per_sm ? number(n->nvmlDeviceGetNumGpuCores, d) / per_sm : 0;
    describe_power(n, d, out);
    describe_clocks(n, d, out);
    out->bus_width_bits = number(n->nvmlDeviceGetMemoryBusWidth, d);
    out->pcie_gen = number(n->nvmlDeviceGetCurrPcieLinkGeneration, d);
    out->pcie_gen_max = number(n->nvmlDeviceGetMaxPcieLinkGeneration, d);
    out->pcie_width = number(n->nvmlDeviceGetCurrPcieLinkWidth, d);
    out->pcie_width_max = number(n->nvmlDeviceGetMaxPcieLinkWidth, d);
    out->ecc = HAVE(n, nvmlDeviceGetEccMode, d, &now, &pending) ? now != 0 : -1;
    out->mig = HAVE(n, nvmlDeviceGetMigMode, d, &mig, &mig_pending) ? mig != 0 : -1;
}

void nvml_read(const struct nvml *n, uint32_t gpu, struct nvml_reading *out) {
    *out = (struct nvml_reading){-1, -1, -1, -1, -1, -1, -1, -1};
    if (gpu >= n->n) {
        return;
    }
    device d = n->gpu[gpu];
    unsigned v = 0;
    unsigned long long wide = 0;
    struct utilization busy = {0};
    struct memory memory = {0};
    if (HAVE(n, nvmlDeviceGetPowerUsage, d, &v)) {
        out->power_w = v * 1e-3;
    }
    if (HAVE(n, nvmlDeviceGetTemperature, d, TEMPERATURE_GPU, &v)) {
        out->temperature_c = v;
    }
    if (HAVE(n, nvmlDeviceGetClockInfo, d, CLOCK_SM, &v)) {
        out->sm_mhz = v;
    }
    if (HAVE(n, nvmlDeviceGetClockInfo, d, CLOCK_MEM, &v)) {
        out->mem_mhz = v;
    }
    if (HAVE(n, nvmlDeviceGetUtilizationRates, d, &busy)) {
        out->busy_share = busy.gpu * 0.01;
    }
    if (HAVE(n, nvmlDeviceGetTotalEnergyConsumption, d, &wide)) {
        out->energy_j = (double)wide * 1e-3;
    }
    if (HAVE(n, nvmlDeviceGetCurrentClocksThrottleReasons, d, &wide)) {
        out->throttle = (int64_t)(wide & 0xffff);
    }
    if (HAVE(n, nvmlDeviceGetMemoryInfo, d, &memory)) {
        out->used_bytes = (int64_t)memory.used;
    }
}

int nvml_foreign(const struct nvml *n, uint32_t gpu, const int *own, uint32_t n_own) {
    struct process list[PROCESSES_MAX];
    unsigned count = PROCESSES_MAX;
    if (gpu >= n->n || !n->nvmlDeviceGetComputeRunningProcesses_v3) {
        return -1;
    }
    result r = n->nvmlDeviceGetComputeRunningProcesses_v3(n->gpu[gpu], &count, list);
    if (r == INSUFFICIENT_SIZE) {
        return PROCESSES_MAX;
    }
    if (r != 0 || count > PROCESSES_MAX) {
        return -1;
    }
    int foreign = 0;
    for (unsigned i = 0; i < count; i++) {
        bool mine = false;
        for (uint32_t k = 0; k < n_own; k++) {
            mine = mine || own[k] == (int)list[i].pid;
        }
        foreign += !mine;
    }
    return foreign;
}

sluice_status nvml_set_power_limit(const struct nvml *n, uint32_t gpu, double watts, sluice_error *err) {
    struct nvml_info info;
    nvml_describe(n, gpu, &info);
    if (gpu >= n->n || !n->nvmlDeviceSetPowerManagementLimit) {
        return fail(err, SLUICE_E_ARG, "the power limit of card %u cannot be set by this driver", gpu);
    }
    if (info.power_limit_max_w > 0 && (watts < info.power_limit_min_w || watts > info.power_limit_max_w)) {
        return fail(err, SLUICE_E_ARG, "%.0f W is outside what %s allows, %.0f to %.0f W", watts, info.name,
                    info.power_limit_min_w, info.power_limit_max_w);
    }
    if (n->nvmlDeviceSetPowerManagementLimit(n->gpu[gpu], (unsigned)(watts * 1000 + 0.5)) != 0) {
        return fail(err, SLUICE_E_IO,
                    "the driver refused a power limit of %.0f W; this needs an administrator's rights", watts);
    }
    return SLUICE_OK;
}

void nvml_throttle_text(int64_t throttle, char *out, size_t cap) {
    static const struct {
        int64_t bits;
        const char *text;
    } reasons[] = {
        {NVML_THROTTLE_POWER, "power limit"},
        {NVML_THROTTLE_HW, "hardware slowdown"},
        {NVML_THROTTLE_THERMAL, "heat"},
        {NVML_THROTTLE_BRAKE, "power brake"},
    };
    size_t n = 0;
    if (cap) {
        out[0] = '\0';
    }
    for (size_t i = 0; throttle > 0 && i < sizeof reasons / sizeof reasons[0] && n < cap; i++) {
        if (throttle & reasons[i].bits) {
            n += (size_t)snprintf(out + n, cap - n, "%s%s", n ? ", " : "", reasons[i].text);
        }
    }
}
