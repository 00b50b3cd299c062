#include "report/sources.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/status.h"
#include "report/report.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static sluice_status add(struct sources *s, const char *path, uint64_t bytes, sluice_error *err) {
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        struct source *paths = mem_realloc(s->paths, cap * sizeof *paths);
        if (!paths) {
            return fail(err, SLUICE_E_NOMEM, "no memory for the names of records");
        }
        s->paths = paths;
        s->cap = cap;
    }
    char *own = mem_strdup(path);
    if (!own) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the names of records");
    }
    s->paths[s->n++] = (struct source){own, bytes};
    s->bytes += bytes;
    return SLUICE_OK;
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct source *)a)->path, ((const struct source *)b)->path);
}

static sluice_status add_entry(struct sources *s, const char *folder, const char *name, sluice_error *err) {
    struct buf path = {0};
    struct stat st;
    size_t n = strlen(name);
    if (n < 7 || strcmp(name + n - 6, ".jsonl") != 0) {
        return SLUICE_OK;
    }
    buf_printf(&path, "%s/%s", folder, name);
    sluice_status status = SLUICE_OK;
    if (path.failed) {
        status = fail(err, SLUICE_E_NOMEM, "no memory for the names of records");
    } else if (stat(path.data, &st) == 0 && S_ISREG(st.st_mode)) {
        status = add(s, path.data, (uint64_t)st.st_size, err);
    }
    buf_free(&path);
    return status;
}

static sluice_status add_folder(struct sources *s, const char *folder, sluice_error *err) {
    DIR *dir = opendir(folder);
    size_t before = s->n;
    sluice_status status = SLUICE_OK;
    if (!dir) {
        return fail(err, SLUICE_E_IO, "%s could not be opened: %s", folder, strerror(errno));
    }
    for (struct dirent *e = readdir(dir); e && status == SLUICE_OK; e = readdir(dir)) {
        status = add_entry(s, folder, e->d_name, err);
    }
    closedir(dir);
    if (status == SLUICE_OK && s->n == before) {
        return fail(err, SLUICE_E_IO, "%s has no record (a file whose name ends in .jsonl)", folder);
    }
    qsort(s->paths + before, s->n - before, sizeof *s->paths, by_path);
    return status;
}

static sluice_status add_name(struct sources *s, const char *name, sluice_error *err) {
    struct stat st;
    if (strcmp(name, "-") == 0) {
        return add(s, name, 1 << 20, err);
    }
    if (stat(name, &st) != 0) {
        return fail(err, SLUICE_E_IO, "%s could not be opened: %s", name, strerror(errno));
    }
    return S_ISDIR(st.st_mode) ? add_folder(s, name, err) : add(s, name, (uint64_t)st.st_size, err);
}

sluice_status sources_find(const char *const *names, size_t n, struct sources *out, sluice_error *err) {
    sluice_status status = SLUICE_OK;
    *out = (struct sources){.n = 0};
    if (n == 0) {
        char folder[4096];
        TRY(report_default_records(folder, sizeof folder, err));
        status = add_name(out, folder, err);
    }
    for (size_t i = 0; i < n && status == SLUICE_OK; i++) {
        status = add_name(out, names[i], err);
    }
    if (status != SLUICE_OK) {
        sources_free(out);
    }
    return status;
}

void sources_free(struct sources *s) {
    for (size_t i = 0; i < s->n; i++) {
        mem_free(s->paths[i].path);
    }
    mem_free(s->paths);
    *s = (struct sources){.n = 0};
}

sluice_status report_default_records(char *out, size_t cap, sluice_error *err) {
    static const char *const places[] = {"../bench/results", "../../bench/results", "../share/sluice/results"};
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(exe, '/');
    for (size_t i = 0; slash && i < sizeof places / sizeof *places; i++) {
        struct stat st;
        char path[sizeof exe + 64];
        snprintf(path, sizeof path, "%.*s%s", (int)(slash + 1 - exe), exe, places[i]);
        char *real = stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? realpath(path, NULL) : NULL;
        if (real && strlen(real) < cap) {
            memcpy(out, real, strlen(real) + 1);
            free(real);
            return SLUICE_OK;
        }
        free(real);
    }
    return fail(err, SLUICE_E_IO,
                "the records that come with sluice are not beside the program; name some: sluice report "
                "OUT_DIR RECORD...");
}
