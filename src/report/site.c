#include "report/site.h"

#include "base/mem.h"
#include "base/status.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MADE_TRIES = 100 }; /* names of folders that killed reports may have left */

struct site {
    char *folder;  /* absolute, no link in it but the last part */
    char *made;    /* the folder being written, beside it */
    int fd;        /* of made */
    bool replaces; /* there is a folder already */
    bool whole;    /* made stands where it should */
    uint64_t bytes;
    size_t files;
};

/* What a report puts in the top level of a site. */
static const char *const own_names[] = {"index.html", "compare.html", SITE_MARKER, "models",  "hardware",  "runs",
                                        "assets",     "data",         "raw",       "records", "downloads", NULL};

static bool is_own(const char *name) {
    const char *const *own = own_names;
    while (*own && strcmp(*own, name) != 0) {
        own++;
    }
    return *own != NULL;
}

static bool is_dots(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* ---- Removing ---------------------------------------------------------------------------------------------------- */

/* A folder and all in it; links are removed, not followed. What cannot be removed stays. */
static void remove_tree(int parent, const char *name) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0) {
            close(fd);
        }
        unlinkat(parent, name, 0);
        return;
    }
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (!is_dots(e->d_name) && unlinkat(fd, e->d_name, 0) != 0) {
            remove_tree(fd, e->d_name);
        }
    }
    closedir(dir);
    unlinkat(parent, name, AT_REMOVEDIR);
}

/* ---- Opening ----------------------------------------------------------------------------------------------------- */

/* May this folder be replaced? An empty one, or one that a report has made. */
static sluice_status check_replaceable(const char *folder, sluice_error *err) {
    DIR *dir = opendir(folder);
    bool empty = true, marked = false;
    if (!dir) {
        return errno == ENOTDIR ? fail(err, SLUICE_E_IO, "%s exists and is no folder; name another one", folder)
                                : fail(err, SLUICE_E_IO, "%s could not be read: %s", folder, strerror(errno));
    }
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        empty = empty && is_dots(e->d_name);
        marked = marked || strcmp(e->d_name, SITE_MARKER) == 0;
    }
    closedir(dir);
    if (!empty && !marked) {
        return fail(err, SLUICE_E_IO, "%s holds files and is no report (it has no %s); name another folder", folder,
                    SITE_MARKER);
    }
    char *here = realpath(".", NULL);
    size_t n = strlen(folder);
    bool around = here && strncmp(here, folder, n) == 0 && (here[n] == '\0' || here[n] == '/');
    free(here);
    return around ? fail(err, SLUICE_E_IO,
                         "%s is the current folder or holds it, and the report takes a folder's place as a "
                         "whole; name one inside it",
                         folder)
                  : SLUICE_OK;
}

/* The absolute path of a folder that need not be there; its parent has to be. */
static sluice_status resolve(const char *folder, char **out, bool *exists, sluice_error *err) {
    char *found = realpath(folder, NULL);
    *exists = found != NULL;
    if (found) {
        *out = mem_strdup(found);
        free(found);
        return *out ? SLUICE_OK : fail(err, SLUICE_E_NOMEM, "no memory for the report");
    }
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/') {
        n--;
    }
    char path[PATH_MAX], parent[PATH_MAX + 2];
    if (n == 0) {
        return fail(err, SLUICE_E_IO, "the folder's name is empty");
    }
    if (n >= sizeof path) {
        return fail(err, SLUICE_E_IO, "the name of the folder is longer than %d bytes", PATH_MAX - 1);
    }
    memcpy(path, folder, n);
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    const char *last = slash ? slash + 1 : path;
    snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
    found = is_dots(last) ? NULL : realpath(parent, NULL);
    if (!found) {
        return fail(err, SLUICE_E_IO, "%s cannot be made: %s", folder, strerror(errno ? errno : ENOENT));
    }
    struct buf b = {0};
    buf_printf(&b, "%s/%s", strcmp(found, "/") == 0 ? "" : found, last);
    free(found);
    *out = buf_take(&b, NULL);
    return *out ? SLUICE_OK : fail(err, SLUICE_E_NOMEM, "no memory for the report");
}

/* A hidden folder of a new name beside `folder`. */
static sluice_status make_beside(struct site *s, sluice_error *err) {
    char *slash = strrchr(s->folder, '/');
    int made = -1;
    for (unsigned k = 0; made != 0 && k < MADE_TRIES; k++) {
        struct buf b = {0};
        buf_printf(&b, "%.*s/.%s.%ld-%u", (int)(slash - s->folder), s->folder, slash + 1, (long)getpid(), k);
        mem_free(s->made);
        s->made = buf_take(&b, NULL);
        if (!s->made) {
            return fail(err, SLUICE_E_NOMEM, "no memory for the report");
        }
        made = mkdir(s->made, 0777);
        if (made != 0 && errno != EEXIST) {
            break;
        }
    }
    s->fd = made == 0 ? open(s->made, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (s->fd < 0) {
        int reason = errno;
        if (made != 0) {
            mem_free(s->made); /* not ours to remove */
            s->made = NULL;
        }
        return fail(err, SLUICE_E_IO, "no folder can be made beside %s: %s", s->folder, strerror(reason));
    }
    return SLUICE_OK;
}

sluice_status site_open(const char *folder, struct site **out, sluice_error *err) {
    *out = NULL;
    struct site *s = mem_calloc(1, sizeof *s);
    if (!s) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the report");
    }
    s->fd = -1;
    sluice_status status = resolve(folder, &s->folder, &s->replaces, err);
    if (status == SLUICE_OK && s->replaces) {
        status = check_replaceable(s->folder, err);
    }
    if (status == SLUICE_OK) {
        status = make_beside(s, err);
    }
    if (status != SLUICE_OK) {
        site_close(s);
        return status;
    }
    *out = s;
    return SLUICE_OK;
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

static sluice_status write_file(struct site *s, const char *path, int flags, const void *bytes, size_t n,
                                sluice_error *err) {
    const char *slash = strchr(path, '/');
    int fd = openat(s->fd, path, flags, 0666);
    if (fd < 0 && errno == ENOENT && slash) {
        char folder[64];
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
        if (mkdirat(s->fd, folder, 0777) == 0 || errno == EEXIST) {
            fd = openat(s->fd, path, flags, 0666);
        }
    }
    bool ok = fd >= 0;
    for (size_t at = 0; ok && at < n;) {
        ssize_t w = write(fd, (const char *)bytes + at, n - at);
        ok = w > 0 || (w < 0 && errno == EINTR);
        at += w > 0 ? (size_t)w : 0;
    }
    int reason = errno;
    if (fd >= 0 && close(fd) != 0 && ok) {
        ok = false;
        reason = errno;
    }
    s->bytes += n;
    return ok ? SLUICE_OK
              : fail(err, SLUICE_E_IO, "%s of the report in %s could not be written: %s", path, s->folder,
                     strerror(reason));
}

sluice_status site_put(struct site *s, const char *path, const void *bytes, size_t n, sluice_error *err) {
    s->files++;
    return write_file(s, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, bytes, n, err);
}

sluice_status site_append(struct site *s, const char *path, const void *bytes, size_t n, sluice_error *err) {
    return write_file(s, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, bytes, n, err);
}

/* ---- Ending ------------------------------------------------------------------------------------------------------ */

/* Moves what is not ours from the old folder into the new. */
static sluice_status keep_foreign(int from, int to, const char *folder, sluice_error *err) {
    int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    sluice_status status = SLUICE_OK;
    if (!dir) {
        return fail(err, SLUICE_E_IO, "%s could not be read: %s", folder, strerror(errno));
    }
    for (struct dirent *e = readdir(dir); e && status == SLUICE_OK; e = readdir(dir)) {
        if (!is_dots(e->d_name) && !is_own(e->d_name) && renameat(from, e->d_name, to, e->d_name) != 0) {
            status = fail(err, SLUICE_E_IO, "%s could not be kept in %s: %s", e->d_name, folder, strerror(errno));
        }
    }
    closedir(dir);
    return status;
}

/* The new folder takes the place of the old, which then stands under the new one's name. */
static bool exchange(struct site *s) {
    if (renameat2(AT_FDCWD, s->made, AT_FDCWD, s->folder, RENAME_EXCHANGE) == 0) {
        return true;
    }
    if (errno != EINVAL && errno != ENOSYS) {
        return false;
    }
    struct buf b = {0}; /* a file system without exchange: two steps */
    buf_printf(&b, "%s.old", s->made);
    errno = ENOMEM;
    bool ok = !b.failed && rename(s->folder, b.data) == 0;
    if (ok && rename(s->made, s->folder) == 0) {
        rename(b.data, s->made); /* to be removed; where that fails the old report stays beside the new */
    } else if (ok) {
        int reason = errno;
        rename(b.data, s->folder); /* back again */
        errno = reason;
        ok = false;
    }
    buf_free(&b);
    return ok;
}

sluice_status site_finish(struct site *s, sluice_error *err) {
    if (!s->replaces) {
        if (renameat2(AT_FDCWD, s->made, AT_FDCWD, s->folder, RENAME_NOREPLACE) != 0 &&
            ((errno != EINVAL && errno != ENOSYS) || rename(s->made, s->folder) != 0)) {
            return fail(err, SLUICE_E_IO, "the report could not be moved to %s: %s", s->folder, strerror(errno));
        }
        s->whole = true;
        return SLUICE_OK;
    }
    int old = open(s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (old < 0) {
        return fail(err, SLUICE_E_IO, "%s could not be read: %s", s->folder, strerror(errno));
    }
    sluice_status status = keep_foreign(old, s->fd, s->folder, err);
    if (status == SLUICE_OK && !exchange(s)) {
        status = fail(err, SLUICE_E_IO, "the report could not be moved to %s: %s", s->folder, strerror(errno));
    }
    if (status != SLUICE_OK) {
        sluice_error ignored;
        keep_foreign(s->fd, old, s->folder, &ignored); /* back again */
    }
    close(old);
    return status;
}

void site_close(struct site *s) {
    if (!s) {
        return;
    }
    if (s->fd >= 0) {
        close(s->fd);
    }
    if (s->made && !s->whole) { /* unfinished, or the old site */
        remove_tree(AT_FDCWD, s->made);
    }
    mem_free(s->made);
    mem_free(s->folder);
    mem_free(s);
}

uint64_t site_bytes(const struct site *s) {
    return s->bytes;
}

size_t site_files(const struct site *s) {
    return s->files;
}

const char *site_folder(const struct site *s) {
    return s->folder;
}
