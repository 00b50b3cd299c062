/*
 * A management library for tests: two cards whose figures stand in the file $FAKE_NVML_STATE, one "key value" a line, read
 * anew at each call, so that a test changes them while the code under test runs. Setting a power limit rewrites the file.
 * Declarations follow NVIDIA's NVML API reference.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *device;
enum { SUCCESS = 0, INVALID = 2, NO_PERMISSION = 4, NOT_SUPPORTED = 3 };

static double state(const char *key, double otherwise) {
    char name[64];
    double v;
    double found = otherwise;
    FILE *f = fopen(getenv("FAKE_NVML_STATE") ? getenv("FAKE_NVML_STATE") : "", "re");
    while (f && fscanf(f, "%63s %lf", name, &v) == 2) {
        if (strcmp(name, key) == 0) {
            found = v;
        }
    }
    if (f) {
        fclose(f);
    }
    return found;
}

static int give(unsigned *out, const char *key, double otherwise) {
    double v = state(key, otherwise);
    *out = v < 0 ? 0 : (unsigned)v;
    return v < 0 ? NOT_SUPPORTED : SUCCESS;
}

int nvmlInit_v2(void) {
    return state("broken", 0) != 0 ? INVALID : SUCCESS;
}
int nvmlShutdown(void) {
    return SUCCESS;
}
int nvmlSystemGetDriverVersion(char *s, unsigned n) {
    snprintf(s, n, "590.48.01");
    return SUCCESS;
}
int nvmlSystemGetCudaDriverVersion_v2(int *v) {
    *v = 13010;
    return SUCCESS;
}
int nvmlDeviceGetCount_v2(unsigned *n) {
    *n = (unsigned)state("cards", 2);
    return SUCCESS;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned i, device *d) {
    *d = (device)(size_t)(i + 1);
    return SUCCESS;
}
int nvmlDeviceGetName(device d, char *s, unsigned n) {
    snprintf(s, n, "Test Card %zu", (size_t)d);
    return SUCCESS;
}
int nvmlDeviceGetUUID(device d, char *s, unsigned n) {
    snprintf(s, n, "GPU-%zu", (size_t)d);
    return SUCCESS;
}
int nvmlDeviceGetMemoryInfo(device d, unsigned long long *m) {
    (void)d;
    m[0] = 24ull << 30;
    m[2] = (unsigned long long)state("used", 1e9);
    m[1] = m[0] - m[2];
    return SUCCESS;
}
int nvmlDeviceGetCudaComputeCapability(device d, int *major, int *minor) {
    (void)d;
    *major = 8;
    *minor = 6;
    return SUCCESS;
}
int nvmlDeviceGetNumGpuCores(device d, unsigned *v) {
    (void)d;
    return give(v, "cores", 82 * 128);
}
int nvmlDeviceGetEnforcedPowerLimit(device d, unsigned *v) {
    return give(v, d == (device)1 ? "limit0" : "limit1", 450000);
}
int nvmlDeviceGetPowerManagementLimitConstraints(device d, unsigned *low, unsigned *high) {
    (void)d;
    *low = 100000;
    *high = 480000;
    return SUCCESS;
}
int nvmlDeviceGetPowerManagementDefaultLimit(device d, unsigned *v) {
    (void)d;
    return give(v, "default", 350000);
}
int nvmlDeviceSetPowerManagementLimit(device d, unsigned mw) {
    if (state("readonly", 0) != 0) {
        return NO_PERMISSION;
    }
    FILE *f = fopen(getenv("FAKE_NVML_STATE"), "ae");
    if (!f) {
        return INVALID;
    }
    fprintf(f, "%s %u\n", d == (device)1 ? "limit0" : "limit1", mw);
    fclose(f);
    return SUCCESS;
}
int nvmlDeviceGetClockInfo(device d, int type, unsigned *v) {
    (void)d;
    return give(v, type == 1 ? "sm_mhz" : "mem_mhz", type == 1 ? 1980 : 9501);
}
int nvmlDeviceGetMaxClockInfo(device d, int type, unsigned *v) {
    (void)d;
    return give(v, type == 1 ? "sm_max" : "mem_max", type == 1 ? 2100 : 9751);
}
int nvmlDeviceGetMemoryBusWidth(device d, unsigned *v) {
    (void)d;
    return give(v, "bus", 384);
}
int nvmlDeviceGetCurrPcieLinkGeneration(device d, unsigned *v) {
    (void)d;
    return give(v, "pcie", 4);
}
int nvmlDeviceGetCurrPcieLinkWidth(device d, unsigned *v) {
    (void)d;
    return give(v, "width", 16);
}
int nvmlDeviceGetEccMode(device d, int *now, int *pending) {
    (void)d;
    (void)now;
    (void)pending;
    return NOT_SUPPORTED;
}
int nvmlDeviceGetPowerUsage(device d, unsigned *v) {
    (void)d;
    return give(v, "power", 25000);
}
int nvmlDeviceGetTotalEnergyConsumption(device d, unsigned long long *v) {
    (void)d;
    double mj = state("energy", 1e6);
    *v = mj < 0 ? 0 : (unsigned long long)mj;
    return mj < 0 ? NOT_SUPPORTED : SUCCESS;
}
int nvmlDeviceGetTemperature(device d, int sensor, unsigned *v) {
    (void)d;
    (void)sensor;
    return give(v, "temperature", 44);
}
int nvmlDeviceGetUtilizationRates(device d, unsigned *v) {
    (void)d;
    v[0] = (unsigned)state("busy", 0);
    v[1] = 0;
    return SUCCESS;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(device d, unsigned long long *v) {
    (void)d;
    *v = (unsigned long long)state("throttle", 1);
    return SUCCESS;
}
struct process {
    unsigned pid;
    unsigned long long used;
    unsigned a, b;
};
int nvmlDeviceGetComputeRunningProcesses_v3(device d, unsigned *n, struct process *list) {
    (void)d;
    *n = (unsigned)state("processes", 0);
    for (unsigned i = 0; i < *n; i++) {
        list[i] = (struct process){.pid = 4000000 + i};
    }
    return SUCCESS;
}
