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

/* --api-key, --hf-token=.. */
static bool is_secret(const char *word, size_t n) {
    static const char *const names[] = {"key", "token", "secret", "password"};
    static const char *const harmless[] = {"tokens", "tokenizer", "tokenize", "keys", "keep"};
    for (size_t i = 0; i < sizeof names / sizeof names[0] && n > 1 && word[0] == '-'; i++) {
        const char *at = memmem(word, n, names[i], strlen(names[i]));
        bool other = false;
        for (size_t k = 0; at && k < sizeof harmless / sizeof harmless[0]; k++) {
            size_t left = (size_t)(word + n - at);
            other |= left >= strlen(harmless[k]) && memcmp(at, harmless[k], strlen(harmless[k])) == 0;
        }
        if (at && !other) {
            return true;
        }
    }
    return false;
}

/* A word of the line into what is left of out; returns the bytes written. */
static size_t put_word(char *out, size_t cap, const char *word) {
    size_t n = strlen(word), name = strcspn(word, "=");
    const char *value = word[name] ? word + name + 1 : NULL;
    const char *from = value ? value : word;
    const char *slash = strstr(from, "://") ? NULL : strrchr(from, '/');
    int wrote;
    if (value && is_secret(word, name)) {
        wrote = snprintf(out, cap, "%.*s=***", (int)name, word);
    } else if (slash && slash[1]) {
        wrote = snprintf(out, cap, "%.*s%s", value ? (int)name + 1 : 0, word, slash + 1);
    } else {
        wrote = snprintf(out, cap, "%.*s", (int)n, word);
    }
    return wrote < 0 ? 0 : (size_t)wrote < cap ? (size_t)wrote : cap - 1;
}

bool process_command(const char *root, int pid, char *out, size_t cap) {
    char text[4096];
    size_t at = 0;
    bool secret = false, port = false; /* the next word is one */
    FILE *f = cap ? open_file(root, pid, "cmdline") : NULL;
    if (!f) {
        return false;
    }
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    for (size_t i = 0; i < n && at + 1 < cap; i += strlen(text + i) + 1) {
        const char *word = text + i;
        if (i) {
            out[at++] = ' ';
        }
        at += put_word(out + at, cap - at, secret ? "***" : port ? "*" : word);
        secret = !secret && is_secret(word, strlen(word)) && !strchr(word, '=');
        port = strcmp(word, "--port") == 0;
    }
    out[at] = '\0';
    return at > 0;
}
