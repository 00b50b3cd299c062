#include "machine/process.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static FILE *open_file(const char *root, int pid, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%.150s/proc/%d/%s", root ? root : "", pid, name);
    return fopen(path, "re");
}

bool process_ticks(const char *root, int pid, uint64_t *ticks, int *parent) {
    char text[1024];
    unsigned long long v[4] = {0}; /* utime stime cutime cstime */
    FILE *f = open_file(root, pid, "stat");
    if (!f) {
        return false;
    }
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *after = strrchr(text, ')'); /* the name before it may hold anything */
    bool ok = after && sscanf(after + 1, " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu", parent,
                              &v[0], &v[1], &v[2], &v[3]) == 5;
    *ticks = v[0] + v[1] + v[2] + v[3];
    return ok;
}

bool process_memory(const char *root, int pid, uint64_t *mapped, uint64_t *resident) {
    unsigned long long all = 0, now = 0;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    FILE *f = open_file(root, pid, "statm");
    bool ok = f && fscanf(f, "%llu %llu", &all, &now) == 2;
    if (f) {
        fclose(f);
    }
    *mapped = ok ? all * page : 0;
    *resident = ok ? now * page : 0;
    return ok;
}
