/*
 * Which file a model is. The fingerprint is taken at load from the mapping and costs the same for any size; it binds a
 * saved state to its model. The SHA-256 of the whole file takes seconds, so it is computed once per file on a thread
 * that runs when nothing else wants the core, and remembered in the user's cache folder under the file's device, inode,
 * size and mtime.
 */
#include "engine/model_impl.h"

#include "base/hash.h"
#include "base/status.h"

#if SLUICE_WITH_HASH

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE_BYTES   (1u << 20)
#define SAMPLES        17           /* evenly from the first to the last: 10 ms with SHA-NI */
#define BLOCK_BYTES    (256u << 10) /* between two looks at `stop`: on a busy machine this thread gets 0.3% of a core */
#define REMEMBERED_MAX 256
#define MEMORY_BYTES   (1u << 20) /* a larger file is not ours */

enum hash_state { HASH_NONE, HASH_RUNNING, HASH_DONE, HASH_FAILED };

/* What a file's bytes may change with. */
struct file_id {
    uint64_t device, inode, size, mtime_ns;
};

struct model_hash {
    char fingerprint[2 * HASH_BYTES + 1];
    const char *path; /* the model's */
    int fd;           /* the path may come to name another file */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum hash_state state; /* under the lock, like the next two; DONE and FAILED are final */
    char sum[2 * HASH_BYTES + 1];
    sluice_error error;
    pthread_t thread; /* to be joined unless state is NONE or nothing was started */
    bool started;
    /* the thread's once it runs */
    struct file_id id; /* when the hash was asked for, at asked_ns of the wall clock */
    uint64_t asked_ns;
    struct hash *hash;
    uint8_t *block; /* [BLOCK_BYTES] */
    atomic_bool stop;
};

/* ---- What was hashed before -------------------------------------------------------------------------------- */

struct remembered {
    struct file_id id;
    char sum[2 * HASH_BYTES + 1];
};

/* The file with a line "device inode size mtime_ns hash" for each hash, latest last. false: no place for it. */
static bool memory_path(char *out, size_t cap, bool create) {
    const char *base = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    bool given = base && base[0] == '/'; /* the XDG specification has relative ones ignored */
    if (!given && (!home || home[0] != '/')) {
        return false;
    }
    static const char *const levels[] = {"", "/sluice", "/sluice/sha256"};
    for (int i = 0; i < 3; i++) {
        int n = snprintf(out, cap, "%s%s%s", given ? base : home, given ? "" : "/.cache", levels[i]);
        if (n < 0 || (size_t)n >= cap) {
            return false;
        }
        if (create && i < 2) {
            (void)mkdir(out, 0700); /* exists, or opening the file will fail */
        }
    }
    return true;
}

static bool parse_number(const char **s, uint64_t *out) {
    const char *p = *s;
    uint64_t v = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v)) {
            return false;
        }
    }
    bool good = p > *s && *p == ' ';
    *s = p + 1;
    *out = v;
    return good;
}

static bool parse_line(const char *line, struct remembered *out) {
    if (!parse_number(&line, &out->id.device) || !parse_number(&line, &out->id.inode) ||
        !parse_number(&line, &out->id.size) || !parse_number(&line, &out->id.mtime_ns)) {
        return false;
    }
    size_t n = strspn(line, "0123456789abcdef");
    if (n != 2 * HASH_BYTES || strcmp(line + n, "\n") != 0) {
        return false;
    }
    memcpy(out->sum, line, n);
    out->sum[n] = '\0';
    return true;
}

static FILE *open_memory(void) {
    char path[4096];
    if (!memory_path(path, sizeof path, false)) {
        return NULL;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would never open */
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > (off_t)MEMORY_BYTES) {
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    FILE *f = fdopen(fd, "r");
    if (!f) {
        close(fd);
    }
    return f;
}

/* The next line that makes sense. */
static bool next_remembered(FILE *f, struct remembered *out) {
    char line[256];
    while (fgets(line, sizeof line, f)) {
        if (parse_line(line, out)) {
            return true;
        }
        while (!strchr(line, '\n') && fgets(line, sizeof line, f)) { /* the rest of an overlong line is garbage too */
        }
    }
    return false;
}

static bool same_file(const struct file_id *a, const struct file_id *b) {
    return a->device == b->device && a->inode == b->inode;
}

static bool same_id(const struct file_id *a, const struct file_id *b) {
    return same_file(a, b) && a->size == b->size && a->mtime_ns == b->mtime_ns;
}

static bool recall(const struct file_id *id, char sum[2 * HASH_BYTES + 1]) {
    struct remembered r;
    bool found = false;
    FILE *f = open_memory();
    while (f && next_remembered(f, &r)) {
        if (same_id(&r.id, id)) {
            memcpy(sum, r.sum, sizeof r.sum);
            found = true;
        }
    }
    if (f) {
        fclose(f);
    }
    return found;
}

/* The latest that leave room for one more and are not about the same file; returns their number. */
static size_t others(const struct remembered *but, struct remembered *list) {
    struct remembered r;
    size_t n = 0;
    FILE *f = open_memory();
    while (f && next_remembered(f, &r)) {
        if (same_file(&r.id, &but->id)) {
            continue;
        }
        if (n == REMEMBERED_MAX - 1) {
            memmove(list, list + 1, --n * sizeof *list);
        }
        list[n++] = r;
    }
    if (f) {
        fclose(f);
    }
    return n;
}

static bool write_memory(int fd, const struct remembered *list, size_t n) {
    FILE *f = fdopen(fd, "w");
    if (!f) {
        close(fd);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const struct file_id *id = &list[i].id;
        fprintf(f, "%llu %llu %llu %llu %s\n", (unsigned long long)id->device, (unsigned long long)id->inode,
                (unsigned long long)id->size, (unsigned long long)id->mtime_ns, list[i].sum);
    }
    bool good = !ferror(f);
    return fclose(f) == 0 && good;
}

/* Failing is no error: the next process hashes again. Of two processes that do this at once one may be forgotten. */
static void remember(const struct remembered *r) {
    char path[4096], tmp[sizeof path + 8];
    struct remembered *list = mem_alloc(REMEMBERED_MAX * sizeof *list);
    if (list && memory_path(path, sizeof path, true)) {
        size_t n = others(r, list);
        list[n++] = *r;
        snprintf(tmp, sizeof tmp, "%s.XXXXXX", path);
        int fd = mkostemp(tmp, O_CLOEXEC);
        if (fd >= 0 && (!write_memory(fd, list, n) || rename(tmp, path) != 0)) {
            unlink(tmp);
        }
    }
    mem_free(list);
}

/* ---- The whole file ---------------------------------------------------------------------------------------- */

static uint64_t ns_of(const struct timespec *t) {
    return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

static sluice_status identify(const struct model_hash *h, struct file_id *out, sluice_error *err) {
    struct stat st;
    if (fstat(h->fd, &st) != 0) {
        return fail(err, SLUICE_E_IO, "cannot look at %s: %s", h->path, strerror(errno));
    }
    *out = (struct file_id){
        .device = st.st_dev, .inode = st.st_ino, .size = (uint64_t)st.st_size, .mtime_ns = ns_of(&st.st_mtim)};
    return SLUICE_OK;
}

static sluice_status read_all(struct model_hash *h, uint64_t *n_bytes, sluice_error *err) {
    *n_bytes = 0;
    while (!atomic_load(&h->stop)) {
        ssize_t n = pread(h->fd, h->block, BLOCK_BYTES, (off_t)*n_bytes);
        if (n == 0) {
            return SLUICE_OK;
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail(err, SLUICE_E_IO, "cannot read %s: %s", h->path, strerror(errno));
        }
        hash_add(h->hash, h->block, (size_t)n);
        *n_bytes += (uint64_t)n;
    }
    return fail(err, SLUICE_E_CANCELLED, "the hash of %s was not completed: the model was freed", h->path);
}

static sluice_status hash_file(struct model_hash *h, char out[2 * HASH_BYTES + 1], sluice_error *err) {
    struct file_id after;
    uint64_t n_bytes;
    uint8_t sum[HASH_BYTES];
    TRY(read_all(h, &n_bytes, err));
    bool good = hash_take(h->hash, sum);
    TRY(identify(h, &after, err));
    if (!same_id(&h->id, &after) || n_bytes != after.size) {
        return fail(err, SLUICE_E_IO, "%s changed while its SHA-256 was computed; load the model again", h->path);
    }
    if (!good) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for the SHA-256 of %s", h->path);
    }
    hash_hex(sum, out);
    return SLUICE_OK;
}

/* A file written a moment before the hash began may be written again without its mtime showing it (file systems count
 * in ticks of up to some milliseconds), so its mtime stands for no bytes yet. */
static bool settled(const struct model_hash *h) {
    uint64_t a = h->asked_ns, b = h->id.mtime_ns;
    return (a > b ? a - b : b - a) > 1000000000u;
}

static void *hash_main(void *arg) {
    struct model_hash *h = arg;
    struct remembered r = {.id = h->id};
    sluice_error error = {0};
    (void)sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0}); /* refused: no reason to give up the hash */
    sluice_status status = hash_file(h, r.sum, &error);
    if (status == SLUICE_OK && settled(h)) {
        remember(&r);
    }
    pthread_mutex_lock(&h->lock);
    h->state = status == SLUICE_OK ? HASH_DONE : HASH_FAILED;
    memcpy(h->sum, r.sum, sizeof r.sum);
    h->error = error;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

/* Under the lock. What fails here may be tried again. */
static sluice_status begin(struct model_hash *h, sluice_error *err) {
    struct timespec now;
    TRY(identify(h, &h->id, err));
    if (recall(&h->id, h->sum)) {
        h->state = HASH_DONE;
        return SLUICE_OK;
    }
    h->hash = h->hash ? h->hash : hash_new();
    h->block = h->block ? h->block : mem_alloc(BLOCK_BYTES);
    if (!h->hash || !h->block) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for the SHA-256 of %s", h->path);
    }
    clock_gettime(CLOCK_REALTIME, &now);
    h->asked_ns = ns_of(&now);
    int error = pthread_create(&h->thread, NULL, hash_main, h);
    if (error != 0) {
        return fail(err, SLUICE_E_NOMEM, "the thread for the SHA-256 of %s cannot be started: %s", h->path,
                    strerror(error));
    }
    pthread_setname_np(h->thread, "sluice-sha256");
    h->started = true;
    h->state = HASH_RUNNING;
    return SLUICE_OK;
}

/* Under the lock. */
static void await(struct model_hash *h, int timeout_ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + (int64_t)(timeout_ms > 0 ? timeout_ms : 0) % 1000 * 1000000;
    until.tv_sec += (timeout_ms > 0 ? timeout_ms : 0) / 1000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    int over = 0;
    while (h->state == HASH_RUNNING && over != ETIMEDOUT) {
        over = timeout_ms < 0 ? pthread_cond_wait(&h->changed, &h->lock)
                              : pthread_cond_timedwait(&h->changed, &h->lock, &until);
    }
}

/* Under the lock. */
static sluice_status result(struct model_hash *h, int timeout_ms, char out[65], sluice_error *err) {
    if (h->state == HASH_NONE) {
        TRY(begin(h, err));
    }
    await(h, timeout_ms);
    if (h->state == HASH_RUNNING) {
        return fail(err, SLUICE_E_BUSY, "the SHA-256 of %s is still being computed; ask again later", h->path);
    }
    if (h->state == HASH_FAILED) {
        return fail(err, h->error.status, "%s", h->error.text);
    }
    memcpy(out, h->sum, sizeof h->sum);
    return SLUICE_OK;
}

sluice_status sluice_model_sha256(sluice_model *m, int timeout_ms, char out[65], sluice_error *err) {
    struct model_hash *h = m->hash;
    if (!h) {
        return fail(err, SLUICE_E_UNSUPPORTED, "this model was not loaded from a file, so it has no SHA-256");
    }
    pthread_mutex_lock(&h->lock);
    sluice_status status = result(h, timeout_ms, out, err);
    pthread_mutex_unlock(&h->lock);
    return status;
}

/* ---- The fingerprint --------------------------------------------------------------------------------------- */

static sluice_status take_fingerprint(const struct gguf_file *file, char out[2 * HASH_BYTES + 1], sluice_error *err) {
    const uint8_t *bytes = file->map;
    uint64_t n = file->file_bytes - file->data_offset;
    uint8_t sum[HASH_BYTES];
    struct hash *h = hash_new();
    if (!h) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for the fingerprint of %s", file->path);
    }
    hash_add(h, &file->file_bytes, sizeof file->file_bytes);
    hash_add(h, bytes, (size_t)file->data_offset);
    if (n <= (uint64_t)SAMPLES * SAMPLE_BYTES) {
        hash_add(h, bytes + file->data_offset, (size_t)n);
    } else {
        for (uint64_t i = 0; i < SAMPLES; i++) {
            uint64_t at = (n - SAMPLE_BYTES) / (SAMPLES - 1) * i;
            at = i == SAMPLES - 1 ? n - SAMPLE_BYTES : at;
            hash_add(h, bytes + file->data_offset + at, SAMPLE_BYTES);
        }
    }
    bool good = hash_take(h, sum);
    hash_free(h);
    hash_hex(sum, out);
    return good ? SLUICE_OK : fail(err, SLUICE_E_NOMEM, "out of memory for the fingerprint of %s", file->path);
}

static sluice_status open_again(struct model_hash *h, uint64_t file_bytes, sluice_error *err) {
    struct file_id id;
    h->fd = open(h->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (h->fd < 0) {
        return fail(err, SLUICE_E_IO, "cannot open %s: %s", h->path, strerror(errno));
    }
    TRY(identify(h, &id, err));
    if (id.size != file_bytes) {
        return fail(err, SLUICE_E_IO, "%s changed while it was loaded; load it again", h->path);
    }
    return SLUICE_OK;
}

sluice_status model_hash_open(sluice_model *m, sluice_error *err) {
    const struct gguf_file *file = m->model->file;
    struct model_hash *h = mem_calloc(1, sizeof *h);
    if (!h) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for the fingerprint of %s", file->path);
    }
    m->hash = h;
    m->info.fingerprint = h->fingerprint;
    h->path = file->path;
    h->fd = -1;
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&h->changed, &clock);
    pthread_condattr_destroy(&clock);
    pthread_mutex_init(&h->lock, NULL);
    TRY(open_again(h, file->file_bytes, err));
    return take_fingerprint(file, h->fingerprint, err);
}

void model_hash_close(sluice_model *m) {
    struct model_hash *h = m->hash;
    if (!h) {
        return;
    }
    atomic_store(&h->stop, true);
    if (h->started) {
        pthread_join(h->thread, NULL);
    }
    if (h->fd >= 0) {
        close(h->fd);
    }
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->lock);
    hash_free(h->hash);
    mem_free(h->block);
    mem_free(h);
    m->hash = NULL;
}

#else

sluice_status sluice_model_sha256(sluice_model *m, int timeout_ms, char out[65], sluice_error *err) {
    (void)m, (void)timeout_ms, (void)out;
    return fail(err, SLUICE_E_UNSUPPORTED,
                "this build computes no SHA-256: it was made without libraries (make engine)");
}

sluice_status model_hash_open(sluice_model *m, sluice_error *err) {
    (void)err;
    m->info.fingerprint = "";
    return SLUICE_OK;
}

void model_hash_close(sluice_model *m) {
    (void)m;
}

#endif
