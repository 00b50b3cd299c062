#include "engine/state_file.h"

#include "base/mem.h"
#include "base/status.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_MAGIC   "sluice state\n"
#define STATE_VERSION 1u
#define STATE_END     UINT32_MAX /* in the place of a parent: the end record */

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the structs below are the file's bytes");

/* In every version the sum covers the bytes before it, so that a damaged file and another version are told apart. */
struct header_bytes {
    char magic[16]; /* padded with zeros, like the next names */
    uint32_t version;
    uint32_t page_tokens;
    uint64_t page_bytes;
    char fingerprint[64];
    char page_format[32];
    uint8_t sum[HASH_BYTES];
};
static_assert(sizeof(struct header_bytes) == 160, "no padding");

struct record_bytes { /* then the page and the sum */
    uint32_t parent;  /* record number + 1; 0 = the root */
    int32_t tokens[KV_PAGE_TOKENS];
};

struct end_bytes { /* then the sum */
    uint32_t mark; /* STATE_END */
    uint32_t n_records;
};

#define LABEL_BYTES 128

/* The end of a path, which is what tells files apart. */
static void label_of(const char *path, char out[LABEL_BYTES]) {
    size_t n = strlen(path);
    bool fits = n < LABEL_BYTES;
    snprintf(out, LABEL_BYTES, "%s%s", fits ? "" : "...", fits ? path : path + n - (LABEL_BYTES - 4));
}

static sluice_status no_memory(const char *label, sluice_error *err) {
    return fail(err, SLUICE_E_NOMEM, "out of memory for the state file %s", label);
}

static void fill_header(struct header_bytes *out, const struct state_header *h) {
    *out = (struct header_bytes){
        .magic = STATE_MAGIC, .version = STATE_VERSION, .page_tokens = KV_PAGE_TOKENS, .page_bytes = h->page_bytes};
    memcpy(out->fingerprint, h->fingerprint, strnlen(h->fingerprint, sizeof out->fingerprint));
    memcpy(out->page_format, h->page_format, strnlen(h->page_format, sizeof out->page_format));
}

static bool sum_header(struct hash *hash, const struct header_bytes *h, uint8_t sum[HASH_BYTES]) {
    hash_add(hash, h, offsetof(struct header_bytes, sum));
    return hash_take(hash, sum);
}

/* A record and the end alike: its number, its fields, its page. */
static bool sum_record(struct hash *hash, uint64_t number, const void *fields, size_t n_fields, const void *page,
                       size_t page_bytes, uint8_t sum[HASH_BYTES]) {
    hash_add(hash, &number, sizeof number);
    hash_add(hash, fields, n_fields);
    hash_add(hash, page, page_bytes);
    return hash_take(hash, sum);
}

/* ---- Writing ----------------------------------------------------------------------------------------------- */

struct state_writer {
    int fd;
    char *path, *tmp;
    char label[LABEL_BYTES];
    struct hash *hash;
    uint64_t page_bytes, n_bytes;
    uint32_t n_records;
};

static void free_writer(struct state_writer *w) {
    if (w->fd >= 0) {
        close(w->fd); /* and with it the lock, last of all */
    }
    hash_free(w->hash);
    mem_free(w->path);
    mem_free(w->tmp);
    mem_free(w);
}

static struct state_writer *new_writer(const char *path) {
    size_t n = strlen(path);
    struct state_writer *w = mem_calloc(1, sizeof *w);
    if (!w) {
        return NULL;
    }
    label_of(path, w->label);
    w->fd = -1;
    w->hash = hash_new();
    w->path = mem_strdup(path);
    w->tmp = mem_alloc(n + sizeof ".tmp");
    if (!w->hash || !w->path || !w->tmp) {
        free_writer(w);
        return NULL;
    }
    memcpy(w->tmp, path, n);
    memcpy(w->tmp + n, ".tmp", sizeof ".tmp");
    return w;
}

/* Opens the temporary file, left behind or new, and locks it. By the time the lock is there the file may have been
 * renamed or removed by who held it before; then the name is tried again. */
static sluice_status lock_tmp(struct state_writer *w, sluice_error *err) {
    for (int tries = 0; tries < 100; tries++) {
        struct stat ours, named;
        w->fd = open(w->tmp, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
        if (w->fd < 0) {
            return fail(err, SLUICE_E_IO, "cannot create %s.tmp: %s", w->label, strerror(errno));
        }
        if (flock(w->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
            break;
        }
        if (fstat(w->fd, &ours) == 0 && lstat(w->tmp, &named) == 0 && ours.st_dev == named.st_dev &&
            ours.st_ino == named.st_ino) {
            if (S_ISREG(ours.st_mode) && ftruncate(w->fd, 0) == 0) {
                return SLUICE_OK;
            }
            return fail(err, SLUICE_E_IO, "cannot write %s.tmp: it is in the way and no plain file; remove it",
                        w->label);
        }
        close(w->fd);
        w->fd = -1;
    }
    return fail(err, SLUICE_E_BUSY, "%s is being written by another engine; try again later", w->label);
}

/* Renaming over a device or a pipe would destroy it. */
static sluice_status check_target(const struct state_writer *w, sluice_error *err) {
    struct stat st;
    if (lstat(w->path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) {
        return fail(err, SLUICE_E_IO, "cannot write %s: it is %s, not a file", w->label,
                    S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    }
    return SLUICE_OK;
}

static sluice_status write_all(struct state_writer *w, const void *bytes, size_t n, sluice_error *err) {
    const uint8_t *p = bytes;
    while (n > 0) {
        ssize_t done = write(w->fd, p, n);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return fail(err, SLUICE_E_IO, "cannot write %s.tmp: %s", w->label, strerror(errno));
        }
        p += done;
        n -= (size_t)done;
        w->n_bytes += (uint64_t)done;
    }
    return SLUICE_OK;
}

static sluice_status write_header(struct state_writer *w, const struct state_header *header, sluice_error *err) {
    struct header_bytes h;
    fill_header(&h, header);
    if (!sum_header(w->hash, &h, h.sum)) {
        return no_memory(w->label, err);
    }
    w->page_bytes = header->page_bytes;
    return write_all(w, &h, sizeof h, err);
}

sluice_status state_writer_open(const char *path, const struct state_header *header, struct state_writer **out,
                                sluice_error *err) {
    char label[LABEL_BYTES];
    label_of(path, label);
    *out = NULL;
    struct state_writer *w = new_writer(path);
    if (!w) {
        return no_memory(label, err);
    }
    sluice_status status = check_target(w, err);
    status = status == SLUICE_OK ? lock_tmp(w, err) : status;
    if (status != SLUICE_OK) {
        free_writer(w); /* the temporary file is another's */
        return status;
    }
    status = write_header(w, header, err);
    if (status != SLUICE_OK) {
        state_writer_abandon(w);
        return status;
    }
    *out = w;
    return SLUICE_OK;
}

sluice_status state_writer_put(struct state_writer *w, uint32_t parent, const int32_t *tokens, const void *page,
                               sluice_error *err) {
    struct record_bytes r = {.parent = parent + 1};
    uint8_t sum[HASH_BYTES];
    if (parent != STATE_ROOT && parent >= w->n_records) {
        return fail(err, SLUICE_E_ARG, "page %u of %s has the parent %u, which does not come before it", w->n_records,
                    w->label, parent);
    }
    if (w->n_records == STATE_END - 1) {
        return fail(err, SLUICE_E_LIMIT, "%s would hold more than %u pages", w->label, w->n_records);
    }
    memcpy(r.tokens, tokens, sizeof r.tokens);
    if (!sum_record(w->hash, w->n_records, &r, sizeof r, page, (size_t)w->page_bytes, sum)) {
        return no_memory(w->label, err);
    }
    TRY(write_all(w, &r, sizeof r, err));
    TRY(write_all(w, page, (size_t)w->page_bytes, err));
    TRY(write_all(w, sum, sizeof sum, err));
    w->n_records++;
    return SLUICE_OK;
}

static sluice_status write_end(struct state_writer *w, sluice_error *err) {
    struct end_bytes end = {.mark = STATE_END, .n_records = w->n_records};
    uint8_t sum[HASH_BYTES];
    if (!sum_record(w->hash, w->n_records, &end, sizeof end, NULL, 0, sum)) {
        return no_memory(w->label, err);
    }
    TRY(write_all(w, &end, sizeof end, err));
    TRY(write_all(w, sum, sizeof sum, err));
    if (fsync(w->fd) != 0) {
        return fail(err, SLUICE_E_IO, "cannot write %s.tmp: %s", w->label, strerror(errno));
    }
    return SLUICE_OK;
}

/* The name is on the disk only when the folder is. */
static sluice_status sync_folder(struct state_writer *w, sluice_error *err) {
    char *slash = strrchr(w->path, '/');
    if (slash) {
        slash[slash == w->path] = '\0'; /* "/file" is in "/" */
    }
    int fd = open(slash ? w->path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd < 0 ? errno : fsync(fd) != 0 ? errno : 0;
    if (fd >= 0) {
        close(fd);
    }
    if (error != 0 && error != EINVAL && error != EACCES) { /* a file system that does not, a folder not to be read */
        return fail(err, SLUICE_E_IO, "%s was written, but its folder cannot be synced: %s", w->label, strerror(error));
    }
    return SLUICE_OK;
}

sluice_status state_writer_finish(struct state_writer *w, uint64_t *n_bytes, sluice_error *err) {
    sluice_status status = write_end(w, err);
    if (status == SLUICE_OK && rename(w->tmp, w->path) != 0) {
        status = fail(err, SLUICE_E_IO, "cannot rename %s.tmp to %s: %s", w->label, w->label, strerror(errno));
    }
    if (status != SLUICE_OK) {
        state_writer_abandon(w);
        return status;
    }
    status = sync_folder(w, err);
    if (n_bytes) {
        *n_bytes = w->n_bytes;
    }
    free_writer(w);
    return status;
}

void state_writer_abandon(struct state_writer *w) {
    if (w) {
        unlink(w->tmp);
        free_writer(w);
    }
}

/* ---- Reading ----------------------------------------------------------------------------------------------- */

struct state_reader {
    int fd;
    char label[LABEL_BYTES];
    struct hash *hash;
    uint64_t page_bytes, n_bytes;
    uint32_t n_records; /* so far */
    bool ended;
};

/* Reads until n bytes are there or the file is over; *got says which. */
static sluice_status read_some(struct state_reader *r, void *bytes, size_t n, size_t *got, sluice_error *err) {
    *got = 0;
    while (*got < n) {
        ssize_t done = read(r->fd, (uint8_t *)bytes + *got, n - *got);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return fail(err, SLUICE_E_IO, "cannot read %s: %s", r->label, strerror(errno));
        }
        if (done == 0) {
            break;
        }
        *got += (size_t)done;
    }
    return SLUICE_OK;
}

static sluice_status read_all(struct state_reader *r, void *bytes, size_t n, sluice_error *err) {
    size_t got;
    TRY(read_some(r, bytes, n, &got, err));
    if (got < n) {
        return fail(err, SLUICE_E_FORMAT, "%s is cut off: it ends after %u whole pages, without its end mark", r->label,
                    r->n_records);
    }
    return SLUICE_OK;
}

static sluice_status open_file(struct state_reader *r, const char *path, sluice_error *err) {
    struct stat st;
    r->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would never open */
    if (r->fd < 0 || fstat(r->fd, &st) != 0) {
        return fail(err, SLUICE_E_IO, "cannot open %s: %s", r->label, strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) {
        return fail(err, SLUICE_E_IO, "cannot open %s: it is %s, not a file", r->label,
                    S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    }
    r->n_bytes = (uint64_t)st.st_size;
    return SLUICE_OK;
}

/* The header's name fields as text for a message, whatever bytes they hold. */
static void show(const char *field, size_t n, char *out) {
    size_t i = 0;
    for (; i < n && field[i] != '\0'; i++) {
        out[i] = field[i] > ' ' && field[i] <= '~' ? field[i] : '?';
    }
    out[i] = '\0';
}

static sluice_status compare_header(const struct state_reader *r, const struct header_bytes *h,
                                    const struct header_bytes *expected, sluice_error *err) {
    char theirs[65], ours[65];
    if (h->version != STATE_VERSION) {
        return fail(err, SLUICE_E_UNSUPPORTED, "%s is a state file of version %u; this build reads version %u",
                    r->label, h->version, STATE_VERSION);
    }
    if (memcmp(h->fingerprint, expected->fingerprint, sizeof h->fingerprint) != 0) {
        show(h->fingerprint, 12, theirs);
        show(expected->fingerprint, 12, ours);
        return fail(err, SLUICE_E_UNSUPPORTED,
                    "%s was saved with another model (fingerprint %s..., that of this one begins with %s)", r->label,
                    theirs, ours);
    }
    if (memcmp(h->page_format, expected->page_format, sizeof h->page_format) != 0) {
        show(h->page_format, sizeof h->page_format, theirs);
        show(expected->page_format, sizeof h->page_format, ours);
        return fail(err, SLUICE_E_UNSUPPORTED, "%s holds pages in the form %s; this backend's are in the form %s",
                    r->label, theirs, ours);
    }
    if (h->page_tokens != expected->page_tokens || h->page_bytes != expected->page_bytes) {
        return fail(err, SLUICE_E_UNSUPPORTED,
                    "%s holds pages of %u tokens in %llu bytes; those of this engine are %u tokens in %llu bytes",
                    r->label, h->page_tokens, (unsigned long long)h->page_bytes, expected->page_tokens,
                    (unsigned long long)expected->page_bytes);
    }
    return SLUICE_OK;
}

static sluice_status read_header(struct state_reader *r, const struct state_header *expected, sluice_error *err) {
    struct header_bytes h = {0}, ours;
    uint8_t sum[HASH_BYTES];
    size_t got;
    fill_header(&ours, expected);
    TRY(read_some(r, &h, sizeof h, &got, err));
    if (got < sizeof h.magic || memcmp(h.magic, ours.magic, sizeof h.magic) != 0) {
        return fail(err, SLUICE_E_FORMAT, "%s is no sluice state file: it does not begin like one", r->label);
    }
    if (got < sizeof h) {
        return fail(err, SLUICE_E_FORMAT, "%s is cut off: it ends inside its header", r->label);
    }
    if (!sum_header(r->hash, &h, sum)) {
        return no_memory(r->label, err);
    }
    if (memcmp(sum, h.sum, sizeof sum) != 0) {
        return fail(err, SLUICE_E_FORMAT, "%s is damaged: the checksum of its header does not match", r->label);
    }
    r->page_bytes = h.page_bytes;
    return compare_header(r, &h, &ours, err);
}

sluice_status state_reader_open(const char *path, const struct state_header *expected, struct state_reader **out,
                                sluice_error *err) {
    char label[LABEL_BYTES];
    label_of(path, label);
    *out = NULL;
    struct state_reader *r = mem_calloc(1, sizeof *r);
    if (!r) {
        return no_memory(label, err);
    }
    memcpy(r->label, label, sizeof label);
    r->fd = -1;
    r->hash = hash_new();
    sluice_status status = r->hash ? open_file(r, path, err) : no_memory(label, err);
    status = status == SLUICE_OK ? read_header(r, expected, err) : status;
    if (status != SLUICE_OK) {
        state_reader_free(r);
        return status;
    }
    *out = r;
    return SLUICE_OK;
}

static sluice_status check_sum(struct state_reader *r, const void *fields, size_t n_fields, const void *page,
                               size_t page_bytes, sluice_error *err) {
    uint8_t expected[HASH_BYTES], sum[HASH_BYTES];
    TRY(read_all(r, expected, sizeof expected, err));
    if (!sum_record(r->hash, r->n_records, fields, n_fields, page, page_bytes, sum)) {
        return no_memory(r->label, err);
    }
    if (memcmp(sum, expected, sizeof sum) != 0) {
        return fail(err, SLUICE_E_FORMAT, "%s is damaged: the checksum of %s %u does not match", r->label,
                    page ? "page" : "the end mark behind page", r->n_records);
    }
    return SLUICE_OK;
}

static sluice_status read_end(struct state_reader *r, sluice_error *err) {
    struct end_bytes end = {.mark = STATE_END};
    uint8_t more;
    size_t got;
    TRY(read_all(r, &end.n_records, sizeof end.n_records, err));
    TRY(check_sum(r, &end, sizeof end, NULL, 0, err));
    if (end.n_records != r->n_records) {
        return fail(err, SLUICE_E_FORMAT, "%s is damaged: it should hold %u pages and holds %u", r->label,
                    end.n_records, r->n_records);
    }
    TRY(read_some(r, &more, 1, &got, err));
    if (got > 0) {
        return fail(err, SLUICE_E_FORMAT, "%s is damaged: more bytes follow its end mark", r->label);
    }
    r->ended = true;
    return SLUICE_OK;
}

/* Of a record whose sum is right, so only its writer can have been wrong. */
static sluice_status check_fields(const struct state_reader *r, const struct record_bytes *b, uint32_t n_vocab,
                                  sluice_error *err) {
    if (b->parent > r->n_records) {
        return fail(err, SLUICE_E_FORMAT, "page %u of %s continues page %u, which does not come before it",
                    r->n_records, r->label, b->parent - 1);
    }
    for (uint32_t i = 0; i < KV_PAGE_TOKENS; i++) {
        if (b->tokens[i] < 0 || (uint32_t)b->tokens[i] >= n_vocab) {
            return fail(err, SLUICE_E_FORMAT, "page %u of %s holds the token %d; the vocabulary has %u", r->n_records,
                        r->label, b->tokens[i], n_vocab);
        }
    }
    return SLUICE_OK;
}

sluice_status state_reader_next(struct state_reader *r, uint32_t n_vocab, uint32_t *parent, int32_t *tokens, void *page,
                                bool *end, sluice_error *err) {
    struct record_bytes b;
    *end = r->ended;
    if (r->ended) {
        return SLUICE_OK;
    }
    TRY(read_all(r, &b.parent, sizeof b.parent, err));
    if (b.parent == STATE_END) {
        TRY(read_end(r, err));
        *end = true;
        return SLUICE_OK;
    }
    TRY(read_all(r, b.tokens, sizeof b.tokens, err));
    TRY(read_all(r, page, (size_t)r->page_bytes, err));
    TRY(check_sum(r, &b, sizeof b, page, (size_t)r->page_bytes, err));
    TRY(check_fields(r, &b, n_vocab, err));
    *parent = b.parent - 1;
    memcpy(tokens, b.tokens, sizeof b.tokens);
    r->n_records++;
    return SLUICE_OK;
}

uint64_t state_reader_bytes(const struct state_reader *r) {
    return r->n_bytes;
}

void state_reader_free(struct state_reader *r) {
    if (r) {
        if (r->fd >= 0) {
            close(r->fd);
        }
        hash_free(r->hash);
        mem_free(r);
    }
}

void state_set_aside(const char *path) {
    size_t n = strlen(path);
    char *aside = mem_alloc(n + sizeof ".refused");
    if (aside) {
        memcpy(aside, path, n);
        memcpy(aside + n, ".refused", sizeof ".refused");
        (void)rename(path, aside); /* a folder that cannot be written to keeps it where it is */
        mem_free(aside);
    }
}
