#include "bench/env.h"

#include "base/mem.h"
#include "base/threads.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* The value after `key` and a separator on a line of its own; quotes are taken off. */
static void read_field(const char *path, const char *key, char separator, char *out, size_t cap) {
    char line[512];
    size_t n = strlen(key);
    FILE *f = fopen(path, "re");
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

static void read_word(const char *path, char *out, size_t cap) {
    char line[32];
    FILE *f = fopen(path, "re");
    if (!f) {
        return;
    }
    if (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        snprintf(out, cap, "%s", line);
    }
    fclose(f);
}

static bool read_ticks(uint64_t *total, uint64_t *steal) {
    unsigned long long v[8] = {0}; /* user nice system idle iowait irq softirq steal */
    FILE *f = fopen("/proc/stat", "re");
    if (!f) {
        return false;
    }
    int got = fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6],
                     &v[7]);
    fclose(f);
    *total = 0;
    for (int i = 0; i < 8; i++) {
        *total += v[i];
    }
    *steal = v[7];
    return got == 8;
}

void env_read(struct env *e) {
    *e = (struct env){.load1 = -1};
    struct utsname u;
    char text[32] = "";
    if (uname(&u) == 0) {
        snprintf(e->kernel, sizeof e->kernel, "%.40s %.60s", u.sysname, u.release);
        snprintf(e->architecture, sizeof e->architecture, "%.31s", u.machine);
    }
    read_field("/proc/cpuinfo", "model name", ':', e->cpu, sizeof e->cpu);
    read_field("/etc/os-release", "PRETTY_NAME", '=', e->os, sizeof e->os);
    read_word("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", e->governor, sizeof e->governor);
    read_word("/proc/loadavg", text, sizeof text);
    if (sscanf(text, "%lf", &e->load1) != 1) {
        e->load1 = -1;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    e->cores_online = online > 0 ? (uint32_t)online : 0;
    e->cores_allowed = threads_allowed();
    long pages = sysconf(_SC_PHYS_PAGES);
    long page = sysconf(_SC_PAGESIZE);
    e->memory_total = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
    e->memory_available = mem_available();
    if (!read_ticks(&e->ticks_total, &e->ticks_steal)) {
        e->ticks_total = 0;
    }
    time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm)) {
        strftime(e->date, sizeof e->date, "%Y-%m-%dT%H:%M:%SZ", &tm);
    }
}

double env_steal_share(const struct env *e) {
    uint64_t total, steal;
    if (e->ticks_total == 0 || !read_ticks(&total, &steal) || total <= e->ticks_total || steal < e->ticks_steal) {
        return -1;
    }
    return (double)(steal - e->ticks_steal) / (double)(total - e->ticks_total);
}

static void put_text(struct buf *b, const char *name, const char *value) {
    buf_printf(b, "\"%s\":", name);
    if (value[0]) {
        buf_json_string(b, value, strlen(value));
    } else {
        buf_puts(b, "null");
    }
    buf_putc(b, ',');
}

static void put_share(struct buf *b, const char *name, double v) {
    if (v < 0) {
        buf_printf(b, "\"%s\":null", name);
    } else {
        buf_printf(b, "\"%s\":%.4f", name, v);
    }
}

void env_json(struct buf *b, const struct env *e, double steal_share) {
    buf_putc(b, '{');
    put_text(b, "cpu", e->cpu);
    put_text(b, "architecture", e->architecture);
    put_text(b, "os", e->os);
    put_text(b, "kernel", e->kernel);
    put_text(b, "governor", e->governor);
    buf_printf(b, "\"cores_online\":%u,\"cores_allowed\":%u,\"memory_total\":%llu,\"memory_available\":%llu,",
               e->cores_online, e->cores_allowed, (unsigned long long)e->memory_total,
               (unsigned long long)e->memory_available);
    put_share(b, "load1", e->load1);
    buf_putc(b, ',');
    put_share(b, "steal_share", steal_share);
    buf_putc(b, '}');
}
