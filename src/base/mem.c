#include "base/mem.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static atomic_long fail_countdown; /* 0 = off; 1 = the next allocation fails */
static atomic_uint_fast64_t allocations;

static int must_fail(void) {
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) <= 0) {
        return 0;
    }
    return atomic_fetch_sub(&fail_countdown, 1) == 1;
}

void *mem_alloc(size_t bytes) {
    return must_fail() ? NULL : malloc(bytes ? bytes : 1);
}

void *mem_calloc(size_t n, size_t bytes) {
    return must_fail() ? NULL : calloc(n ? n : 1, bytes ? bytes : 1);
}

void *mem_realloc(void *p, size_t bytes) {
    return must_fail() ? NULL : realloc(p, bytes ? bytes : 1);
}

char *mem_strndup(const char *s, size_t n) {
    char *copy = mem_alloc(n + 1);
    if (copy) {
        memcpy(copy, s, n);
        copy[n] = '\0';
    }
    return copy;
}

char *mem_strdup(const char *s) {
    return mem_strndup(s, strlen(s));
}

void mem_free(void *p) {
    free(p);
}

void *mem_map(size_t bytes) {
    if (must_fail() || bytes == 0) {
        return NULL;
    }
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(p, bytes, MADV_HUGEPAGE); /* a hint; failure changes nothing but speed */
    return p;
}

void mem_unmap(void *p, size_t bytes) {
    if (p) {
        munmap(p, bytes);
    }
}

static FILE *open_in(const char *root, const char *path) {
    char full[4096];
    int n = snprintf(full, sizeof full, "%s%s", root, path);
    return n > 0 && (size_t)n < sizeof full ? fopen(full, "re") : NULL;
}

static uint64_t read_number(const char *root, const char *path) {
    FILE *f = open_in(root, path);
    if (!f) {
        return UINT64_MAX;
    }
    unsigned long long v = 0;
    int got = fscanf(f, "%llu", &v); /* "max" gives no number: no limit */
    fclose(f);
    return got == 1 ? v : UINT64_MAX;
}

/* The sum of the numbers that follow these names (at most two, each at the start of a line); 0 without the file. */
static uint64_t sum_of(const char *root, const char *path, const char *name, const char *other) {
    FILE *f = open_in(root, path);
    uint64_t sum = 0;
    char line[256], key[64];
    unsigned long long v;
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%63s %llu", key, &v) == 2 && (strcmp(key, name) == 0 || strcmp(key, other) == 0)) {
            sum += v;
        }
    }
    if (f) {
        fclose(f);
    }
    return sum;
}

uint64_t mem_available_in(const char *root) {
    uint64_t available = 1024 * sum_of(root, "/proc/meminfo", "MemAvailable:", "");
    uint64_t limit = read_number(root, "/sys/fs/cgroup/memory.max");
    uint64_t used = read_number(root, "/sys/fs/cgroup/memory.current");
    if (limit != UINT64_MAX && used != UINT64_MAX) {
        uint64_t left = limit > used ? limit - used : 0;
        /* cached files count as used, but give way: a model that was read before may not stand in its own way */
        left += sum_of(root, "/sys/fs/cgroup/memory.stat", "active_file", "inactive_file");
        left = left < limit ? left : limit;
        if (available == 0 || left < available) {
            available = left;
        }
    }
    return available;
}

uint64_t mem_available(void) {
    return mem_available_in("");
}

void mem_fail_nth(long n) {
    atomic_store(&fail_countdown, n);
}

uint64_t mem_count(void) {
    return atomic_load(&allocations);
}
