#include "machine/energy.h"

#include "base/clock.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum source { SOURCE_NVML, SOURCE_RAPL, SOURCE_HWMON };

struct domain {
    enum source source;
    uint32_t gpu;       /* NVML */
    char path[320];     /* of the counter, in microjoules */
    double range_j;     /* RAPL: the counter starts again here; 0 = never */
    double first, last; /* as read */
    double wrapped;     /* joules of the rounds before */
    bool readable;
};

struct energy {
    const struct nvml *nvml;
    struct domain domain[ENERGY_DOMAINS];
    uint32_t n;
    bool refused; /* a counter is there and may not be read */
    char source[512];
};

static bool read_number(const char *path, double *out, bool *refused) {
    unsigned long long v = 0;
    FILE *f = fopen(path, "re");
    if (!f) {
        *refused = *refused || errno == EACCES || errno == EPERM;
        return false;
    }
    bool ok = fscanf(f, "%llu", &v) == 1;
    fclose(f);
    *out = (double)v;
    return ok;
}

static void read_name(const char *path, char *out, size_t cap) {
    FILE *f = fopen(path, "re");
    if (f) {
        if (fgets(out, (int)cap, f)) {
            out[strcspn(out, "\n")] = '\0';
        }
        fclose(f);
    }
}

static bool counter(struct energy *e, const struct domain *d, double *joules) {
    if (d->source == SOURCE_NVML) {
        struct nvml_reading r;
        nvml_read(e->nvml, d->gpu, &r);
        *joules = r.energy_j;
        return r.energy_j >= 0;
    }
    bool ok = read_number(d->path, joules, &e->refused);
    *joules *= 1e-6;
    return ok;
}

static void add(struct energy *e, struct domain d, const char *name, const char *kind) {
    if (e->n == ENERGY_DOMAINS || !counter(e, &d, &d.first)) {
        return;
    }
    d.last = d.first;
    d.readable = true;
    e->domain[e->n++] = d;
    size_t at = strlen(e->source);
    snprintf(e->source + at, sizeof e->source - at, "%s%s (%s)", at ? ", " : "", name, kind);
}

/* Packages and their memory; a package's own number already holds its cores and graphics (kernel: power/powercap/powercap.rst). */
static void find_rapl(struct energy *e, const char *root) {
    char dir[200];
    snprintf(dir, sizeof dir, "%.150s/sys/class/powercap", root);
    struct dirent **list = NULL;
    int n = scandir(dir, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char path[320];
        char name[48] = "";
        struct domain d = {.source = SOURCE_RAPL};
        if (strncmp(list[i]->d_name, "intel-rapl:", 11) == 0 && strlen(list[i]->d_name) < 40) {
            snprintf(path, sizeof path, "%.200s/%.40s/name", dir, list[i]->d_name);
            read_name(path, name, sizeof name);
            if (strncmp(name, "package", 7) == 0 || strcmp(name, "dram") == 0) {
                bool ignored = false;
                snprintf(path, sizeof path, "%.200s/%.40s/max_energy_range_uj", dir, list[i]->d_name);
                if (read_number(path, &d.range_j, &ignored)) {
                    d.range_j *= 1e-6;
                }
                snprintf(d.path, sizeof d.path, "%.200s/%.40s/energy_uj", dir, list[i]->d_name);
                add(e, d, name, "RAPL");
            }
        }
        free(list[i]);
    }
    free(list);
}

/* amdgpu's hwmon folder: energy1_input counts microjoules (kernel: hwmon/sysfs-interface.rst). */
static void find_hwmon(struct energy *e, const char *root) {
    char dir[200];
    snprintf(dir, sizeof dir, "%.150s/sys/class/hwmon", root);
    struct dirent **list = NULL;
    int n = scandir(dir, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char path[320];
        char name[48] = "";
        struct domain d = {.source = SOURCE_HWMON};
        if (strncmp(list[i]->d_name, "hwmon", 5) == 0 && strlen(list[i]->d_name) < 40) {
            snprintf(path, sizeof path, "%.200s/%.40s/name", dir, list[i]->d_name);
            read_name(path, name, sizeof name);
            if (strcmp(name, "amdgpu") == 0) {
                snprintf(d.path, sizeof d.path, "%.200s/%.40s/energy1_input", dir, list[i]->d_name);
                add(e, d, list[i]->d_name, "amdgpu");
            }
        }
        free(list[i]);
    }
    free(list);
}

struct energy *energy_open(const char *root, const struct nvml *nvml) {
    struct energy *e = mem_calloc(1, sizeof *e);
    if (!e) {
        return NULL;
    }
    e->nvml = nvml;
    for (uint32_t i = 0; nvml && i < nvml_count(nvml); i++) {
        char name[16];
        snprintf(name, sizeof name, "gpu%u", i);
        add(e, (struct domain){.source = SOURCE_NVML, .gpu = i}, name, "NVML counter");
    }
    find_rapl(e, root);
    find_hwmon(e, root);
    if (e->n == 0) {
        snprintf(e->source, sizeof e->source, "%s",
                 e->refused ? "the CPU's energy counters may only be read by an administrator"
                            : "this machine shows no energy counter (NVML, RAPL, amdgpu)");
    }
    return e;
}

void energy_close(struct energy *e) {
    mem_free(e);
}

uint32_t energy_domains(const struct energy *e) {
    return e->n;
}

const char *energy_source(const struct energy *e) {
    return e->source;
}

void energy_read(struct energy *e, struct energy_reading *out) {
    out->t_s = (double)clock_ns() * 1e-9;
    for (uint32_t i = 0; i < e->n; i++) {
        struct domain *d = &e->domain[i];
        double now = 0;
        d->readable = counter(e, d, &now);
        if (d->readable && now < d->last) { /* once round, or started again where no range is known */
            d->wrapped += d->range_j > 0 ? d->range_j : d->last;
        }
        d->last = d->readable ? now : d->last;
        out->j[i] = d->readable ? d->wrapped + now - d->first : -1;
    }
}

void energy_between(const struct energy *e, const struct energy_reading *from, const struct energy_reading *to,
                    double min_s, struct energy_use *out) {
    *out = (struct energy_use){.seconds = to->t_s - from->t_s};
    if (e->n == 0) {
        snprintf(out->reason, sizeof out->reason, "%.150s", e->source);
        return;
    }
    for (uint32_t i = 0; i < e->n; i++) {
        if (from->j[i] < 0 || to->j[i] < 0) {
            snprintf(out->reason, sizeof out->reason, "an energy counter could not be read");
            return;
        }
        out->joules += to->j[i] - from->j[i];
    }
    if (out->seconds < min_s) {
        snprintf(out->reason, sizeof out->reason, "the window of %.1f s is shorter than %.0f s", out->seconds, min_s);
        return;
    }
    if (!(out->joules > 0)) {
        snprintf(out->reason, sizeof out->reason, "the energy counters stood still");
        return;
    }
    out->watts = out->joules / out->seconds;
    out->valid = true;
}
