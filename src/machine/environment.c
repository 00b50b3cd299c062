#include "machine/environment.h"

#include "base/mem.h"
#include "base/threads.h"
#include "record/line.h"

#include <gnu/libc-version.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static FILE *open_at(const char *root, const char *path) {
    char full[320];
    snprintf(full, sizeof full, "%.200s%.100s", root, path);
    return fopen(full, "re");
}

/* The value after `key` and a separator on a line of its own; quotes are taken off. */
static void read_field(const char *root, const char *path, const char *key, char separator, char *out, size_t cap) {
    char line[4096];
    size_t n = strlen(key);
    FILE *f = open_at(root, path);
    if (!f) {
        return;
    }
    while (fgets(line, sizeof line, f)) {
        char *sep = strchr(line, separator);
        if (strncmp(line, key, n) != 0 || !sep) {
            continue;
        }
        char *value = sep + 1 + strspn(sep + 1, " \t\"");
        value[strcspn(value, "\"\n")] = '\0';
        snprintf(out, cap, "%s", value);
        break;
    }
    fclose(f);
}

static bool read_line(const char *root, const char *path, char *out, size_t cap) {
    FILE *f = open_at(root, path);
    bool ok = f && fgets(out, (int)cap, f);
    if (ok) {
        out[strcspn(out, "\n")] = '\0';
    }
    if (f) {
        fclose(f);
    }
    return ok;
}

/* Limits of the control group, version 2 or 1; "max" is none. */
static void read_limits(struct environment *e, const char *root) {
    char text[64] = "";
    long long quota = 0;
    long long period = 0;
    unsigned long long bytes = 0;
    if (read_line(root, "/sys/fs/cgroup/cpu.max", text, sizeof text)) {
        if (sscanf(text, "%lld %lld", &quota, &period) != 2) {
            quota = 0;
        }
    } else if (read_line(root, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", text, sizeof text) &&
               sscanf(text, "%lld", &quota) == 1 &&
               read_line(root, "/sys/fs/cgroup/cpu/cpu.cfs_period_us", text, sizeof text)) {
        period = sscanf(text, "%lld", &period) == 1 ? period : 0;
    }
    e->cpu_limit = quota > 0 && period > 0 ? (double)quota / (double)period : 0;
    bool known = read_line(root, "/sys/fs/cgroup/memory.max", text, sizeof text) ||
                 read_line(root, "/sys/fs/cgroup/memory/memory.limit_in_bytes", text, sizeof text);
    if (known && sscanf(text, "%llu", &bytes) == 1 && bytes < e->memory_total) {
        e->memory_limit = bytes; /* more than there is is no limit */
    }
}

static void read_system(struct environment *e) {
    struct utsname u;
    if (uname(&u) == 0) {
        snprintf(e->kernel, sizeof e->kernel, "%.40s %.60s", u.sysname, u.release);
        snprintf(e->architecture, sizeof e->architecture, "%.31s", u.machine);
    }
    snprintf(e->libc, sizeof e->libc, "glibc %.40s", gnu_get_libc_version());
#if defined(__clang__)
    snprintf(e->compiler, sizeof e->compiler, "clang %.50s", __clang_version__);
#else
    snprintf(e->compiler, sizeof e->compiler, "gcc %.50s", __VERSION__);
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    e->cores_online = online > 0 ? (uint32_t)online : 0;
    e->cores_allowed = threads_allowed();
    long pages = sysconf(_SC_PHYS_PAGES);
    long page = sysconf(_SC_PAGESIZE);
    e->memory_total = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
    e->memory_available = mem_available();
}

static void read_cpu(struct environment *e, const char *root) {
    char text[4096] = "";
    read_field(root, "/proc/cpuinfo", "model name", ':', e->cpu, sizeof e->cpu);
    if (!e->cpu[0]) { /* ARM names boards, if anything */
        read_field(root, "/proc/cpuinfo", "Model", ':', e->cpu, sizeof e->cpu);
    }
    read_field(root, "/proc/cpuinfo", "microcode", ':', e->microcode, sizeof e->microcode);
    read_field(root, "/proc/cpuinfo", "flags", ':', text, sizeof text);
    e->virtualised = text[0] ? strstr(text, " hypervisor") != NULL : -1;
    read_line(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", e->governor, sizeof e->governor);
    if (!read_line(root, "/proc/loadavg", text, sizeof text) || sscanf(text, "%lf", &e->load1) != 1) {
        e->load1 = -1;
    }
}

void environment_read(struct environment *e, const char *root, const struct nvml *nvml) {
    *e = (struct environment){.load1 = -1};
    read_system(e);
    read_cpu(e, root);
    read_field(root, "/etc/os-release", "PRETTY_NAME", '=', e->os, sizeof e->os);
    read_limits(e, root);
    e->n_gpus = nvml ? nvml_count(nvml) : 0;
    for (uint32_t i = 0; i < e->n_gpus; i++) {
        nvml_describe(nvml, i, &e->gpu[i]);
        /* boards whose GPU has no memory of its own report none, or what the system has (Jetson, GB10) */
        e->unified_memory[i] = e->gpu[i].memory_bytes == 0 || e->gpu[i].memory_bytes == e->memory_total;
    }
    time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm)) {
        strftime(e->date, sizeof e->date, "%Y-%m-%dT%H:%M:%SZ", &tm);
    }
}

static void put_positive(struct buf *b, const char *name, double v) {
    if (v > 0) {
        line_put_number(b, name, v);
    } else {
        line_put_null(b, name);
    }
}

static void put_bytes(struct buf *b, const char *name, uint64_t v) {
    line_put_count(b, name, v > 0 ? (int64_t)v : -1);
}

static void put_flag(struct buf *b, const char *name, int v) {
    if (v < 0) {
        line_put_null(b, name);
    } else {
        line_put_bool(b, name, v != 0);
    }
}

/* FNV-1a: tells two cards of one machine apart without saying which they are. */
static void hash_text(const char *s, char out[17]) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++) {
        h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    }
    snprintf(out, 17, "%016llx", (unsigned long long)h);
}

static void put_gpu(struct buf *b, const struct environment *e, uint32_t i) {
    const struct nvml_info *g = &e->gpu[i];
    char text[48] = "";
    line_open(b, NULL, '{');
    line_put_text(b, "name", g->name);
    if (g->uuid[0]) {
        hash_text(g->uuid, text);
    }
    line_put_text(b, "uuid_hash", text);
    put_bytes(b, "memory_bytes", g->memory_bytes);
    line_put_text(b, "driver", g->driver);
    text[0] = '\0';
    if (g->cuda > 0) {
        snprintf(text, sizeof text, "%d.%d", g->cuda / 1000, g->cuda % 1000 / 10);
    }
    line_put_text(b, "cuda", text);
    text[0] = '\0';
    if (g->compute_major > 0) {
        snprintf(text, sizeof text, "%d.%d", g->compute_major, g->compute_minor);
    }
    line_put_text(b, "compute_capability", text);
    put_positive(b, "sms", g->sms);
    put_positive(b, "power_limit_w", g->power_limit_w);
    put_positive(b, "power_limit_max_w", g->power_limit_max_w);
    put_positive(b, "power_limit_default_w", g->power_limit_default_w);
    put_positive(b, "clock_sm_mhz", g->clock_sm_mhz);
    put_positive(b, "clock_sm_max_mhz", g->clock_sm_max_mhz);
    put_positive(b, "clock_mem_mhz", g->clock_mem_mhz);
    put_positive(b, "clock_mem_max_mhz", g->clock_mem_max_mhz);
    put_positive(b, "bus_width_bits", g->bus_width_bits);
    put_positive(b, "pcie_gen", g->pcie_gen);
    put_positive(b, "pcie_gen_max", g->pcie_gen_max);
    put_positive(b, "pcie_width", g->pcie_width);
    put_positive(b, "pcie_width_max", g->pcie_width_max);
    put_flag(b, "ecc", g->ecc);
    put_flag(b, "mig", g->mig);
    line_put_bool(b, "unified_memory", e->unified_memory[i]);
    line_close(b, '}');
}

void environment_json(struct buf *b, const struct environment *e) {
    line_open(b, "environment", '{');
    line_put_text(b, "cpu", e->cpu);
    put_positive(b, "cores_online", e->cores_online);
    put_positive(b, "cores_allowed", e->cores_allowed);
    put_positive(b, "cpu_limit", e->cpu_limit);
    put_bytes(b, "memory_total", e->memory_total);
    put_bytes(b, "memory_available", e->memory_available);
    put_bytes(b, "memory_limit", e->memory_limit);
    line_put_text(b, "governor", e->governor);
    line_put_text(b, "microcode", e->microcode);
    line_put_text(b, "kernel", e->kernel);
    line_put_text(b, "os", e->os);
    line_put_text(b, "architecture", e->architecture);
    line_put_text(b, "libc", e->libc);
    line_put_text(b, "compiler", e->compiler);
    line_put_number(b, "load1", e->load1 < 0 ? NAN : e->load1);
    put_flag(b, "virtualised", e->virtualised);
    line_open(b, "gpus", '[');
    for (uint32_t i = 0; i < e->n_gpus; i++) {
        put_gpu(b, e, i);
    }
    line_close(b, ']');
    line_close(b, '}');
}
