/*
 * The writer. Entries and tensor descriptions collect in memory; the first byte of data fixes the header. Bytes go to a
 * temporary file beside the target, so a half-written model never carries the name of a whole one.
 */
#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "gguf/impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct gguf_writer {
    int fd;
    char *path, *tmp;
    char label[128];
    struct buf kv;
    struct gguf_str *keys; /* [n_kv] owned copies, for the check on duplicates */
    size_t n_kv, cap_kv;
    struct gguf_tensor *tensors; /* names owned; offsets relative to the data section */
    size_t n_tensors, cap_tensors;
    uint64_t data_bytes;
    bool header_written;
    size_t current; /* tensor being filled */
    uint64_t filled;
    sluice_error error; /* the first failure; status OK while there is none */
};

static void free_writer(struct gguf_writer *w) {
    for (size_t i = 0; i < w->n_kv; i++) {
        mem_free((void *)(uintptr_t)w->keys[i].s);
    }
    for (size_t i = 0; i < w->n_tensors; i++) {
        mem_free((void *)(uintptr_t)w->tensors[i].name.s);
    }
    mem_free(w->keys);
    mem_free(w->tensors);
    buf_free(&w->kv);
    mem_free(w->path);
    mem_free(w->tmp);
    mem_free(w);
}

sluice_status gguf_writer_open(const char *path, struct gguf_writer **out, sluice_error *err) {
    *out = NULL;
    struct gguf_writer *w = mem_calloc(1, sizeof *w);
    size_t tmp_bytes = strlen(path) + 32;
    char *tmp = mem_alloc(tmp_bytes);
    char *copy = mem_strdup(path);
    if (!w || !tmp || !copy) {
        mem_free(w);
        mem_free(tmp);
        mem_free(copy);
        return fail(err, SLUICE_E_NOMEM, "no memory to write a GGUF file");
    }
    snprintf(tmp, tmp_bytes, "%s.tmp.%ld", path, (long)getpid());
    w->path = copy;
    w->tmp = tmp;
    gguf_short_path(path, w->label, sizeof w->label);
    unlink(tmp); /* left by a process of the same number that died */
    w->fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (w->fd < 0) {
        sluice_status s = fail(err, SLUICE_E_IO, "cannot create %s: %s", w->label, strerror(errno));
        free_writer(w);
        return s;
    }
    *out = w;
    return SLUICE_OK;
}

/* ---- Metadata */

static void latch_nomem(struct gguf_writer *w) {
    if (w->error.status == SLUICE_OK) {
        fail(&w->error, SLUICE_E_NOMEM, "no memory for the header of %s", w->label);
    }
}

static bool grow(struct gguf_writer *w, void *array, size_t n, size_t *cap, size_t elem_bytes) {
    if (n < *cap) {
        return true;
    }
    size_t more = *cap ? *cap * 2 : 64;
    void *old;
    memcpy(&old, array, sizeof old);
    void *grown = mem_realloc(old, more * elem_bytes);
    if (!grown) {
        latch_nomem(w);
        return false;
    }
    memcpy(array, &grown, sizeof grown);
    *cap = more;
    return true;
}

static void put_u32(struct gguf_writer *w, uint32_t v) {
    buf_append(&w->kv, &v, sizeof v);
}

static void put_u64(struct gguf_writer *w, uint64_t v) {
    buf_append(&w->kv, &v, sizeof v);
}

static void put_str(struct gguf_writer *w, const char *s, size_t n) {
    put_u64(w, n);
    buf_append(&w->kv, s, n);
}

/* Begins an entry; false if it must be left out (an earlier failure, or this one). */
static bool put_key(struct gguf_writer *w, const char *key, size_t n, enum gguf_value_type type) {
    if (w->error.status != SLUICE_OK) {
        return false;
    }
    if (w->header_written || n == 0 || n > LIMIT_GGUF_KEY || w->n_kv >= LIMIT_GGUF_KV) {
        fail(&w->error, SLUICE_E_ARG,
             "cannot add metadata entry %.*s to %s: after the header, too long a key or too many", (int)n, key,
             w->label);
        return false;
    }
    if (!grow(w, &w->keys, w->n_kv, &w->cap_kv, sizeof *w->keys)) {
        return false;
    }
    char *copy = mem_strndup(key, n);
    if (!copy) {
        latch_nomem(w);
        return false;
    }
    w->keys[w->n_kv++] = (struct gguf_str){copy, n};
    put_str(w, key, n);
    put_u32(w, type);
    return true;
}

void gguf_writer_kv_u32(struct gguf_writer *w, const char *key, uint32_t v) {
    if (put_key(w, key, strlen(key), GGUF_U32)) {
        put_u32(w, v);
    }
}

void gguf_writer_kv_f32(struct gguf_writer *w, const char *key, float v) {
    if (put_key(w, key, strlen(key), GGUF_F32)) {
        buf_append(&w->kv, &v, sizeof v);
    }
}

void gguf_writer_kv_bool(struct gguf_writer *w, const char *key, bool v) {
    if (put_key(w, key, strlen(key), GGUF_BOOL)) {
        buf_putc(&w->kv, v ? 1 : 0);
    }
}

void gguf_writer_kv_str(struct gguf_writer *w, const char *key, const char *s, size_t n) {
    if (put_key(w, key, strlen(key), GGUF_STRING)) {
        put_str(w, s, n);
    }
}

static bool put_array(struct gguf_writer *w, const char *key, enum gguf_value_type elem, size_t n) {
    if (!put_key(w, key, strlen(key), GGUF_ARRAY)) {
        return false;
    }
    put_u32(w, elem);
    put_u64(w, n);
    return true;
}

void gguf_writer_kv_i32_array(struct gguf_writer *w, const char *key, const int32_t *v, size_t n) {
    if (put_array(w, key, GGUF_I32, n)) {
        buf_append(&w->kv, v, n * sizeof *v);
    }
}

void gguf_writer_kv_f32_array(struct gguf_writer *w, const char *key, const float *v, size_t n) {
    if (put_array(w, key, GGUF_F32, n)) {
        buf_append(&w->kv, v, n * sizeof *v);
    }
}

void gguf_writer_kv_str_array(struct gguf_writer *w, const char *key, const struct gguf_str *v, size_t n) {
    if (put_array(w, key, GGUF_STRING, n)) {
        for (size_t i = 0; i < n; i++) {
            put_str(w, v[i].s, v[i].n);
        }
    }
}

void gguf_writer_kv_copy(struct gguf_writer *w, const struct gguf_kv *kv) {
    if (kv->key.n == strlen(GGUF_ALIGNMENT_KEY) && memcmp(kv->key.s, GGUF_ALIGNMENT_KEY, kv->key.n) == 0) {
        return; /* describes the other file's layout; this one has the default */
    }
    if (!put_key(w, kv->key.s, kv->key.n, kv->type)) {
        return;
    }
    if (kv->type == GGUF_ARRAY) {
        put_u32(w, kv->elem_type);
        put_u64(w, kv->n);
    }
    if (kv->strings) {
        for (uint64_t i = 0; i < kv->n; i++) {
            put_str(w, kv->strings[i].s, kv->strings[i].n);
        }
        return;
    }
    uint32_t type = kv->type == GGUF_ARRAY ? kv->elem_type : kv->type;
    buf_append(&w->kv, kv->data, (size_t)kv->n * gguf_value_bytes(type));
}

/* ---- Tensor descriptions */

static uint64_t padded(uint64_t n) {
    return (n + GGUF_ALIGNMENT - 1) & ~(uint64_t)(GGUF_ALIGNMENT - 1);
}

static bool tensor_bytes(struct gguf_tensor *t) {
    const struct dtype_info *info = dtype_get(t->type);
    if (!info || !info->usable || t->n_dims < 1 || t->n_dims > 4 || t->dims[0] % info->block_elems != 0) {
        return false;
    }
    t->n_elems = 1;
    for (uint32_t d = 0; d < t->n_dims; d++) {
        if (t->dims[d] == 0 || t->dims[d] > LIMIT_GGUF_DIM ||
            __builtin_mul_overflow(t->n_elems, t->dims[d], &t->n_elems)) {
            return false;
        }
    }
    uint64_t blocks = t->n_elems / info->block_elems;
    return !__builtin_mul_overflow(blocks, (uint64_t)info->block_bytes, &t->n_bytes) && t->n_bytes < INT64_MAX;
}

void gguf_writer_tensor(struct gguf_writer *w, const char *name, enum dtype type, uint32_t n_dims,
                        const uint64_t *dims) {
    if (w->error.status != SLUICE_OK || !grow(w, &w->tensors, w->n_tensors, &w->cap_tensors, sizeof *w->tensors)) {
        return;
    }
    struct gguf_tensor t = {.type = type, .n_dims = n_dims, .offset = w->data_bytes};
    for (uint32_t d = 0; d < 4; d++) {
        t.dims[d] = d < n_dims ? dims[d] : 1;
    }
    size_t n = strlen(name);
    uint64_t end = 0;
    if (w->header_written || n == 0 || n > LIMIT_GGUF_TENSOR_NAME || w->n_tensors >= LIMIT_GGUF_TENSORS ||
        !tensor_bytes(&t) || __builtin_add_overflow(w->data_bytes, padded(t.n_bytes), &end) || end > INT64_MAX) {
        fail(&w->error, SLUICE_E_ARG, "cannot add tensor %s to %s: its name, type or dimensions are not allowed", name,
             w->label);
        return;
    }
    char *copy = mem_strndup(name, n);
    if (!copy) {
        latch_nomem(w);
        return;
    }
    t.name = (struct gguf_str){copy, n};
    w->tensors[w->n_tensors++] = t;
    w->data_bytes = end;
}

/* ---- Bytes */

static sluice_status write_all(struct gguf_writer *w, const void *bytes, size_t n) {
    const char *p = bytes;
    while (n > 0) {
        ssize_t done = write(w->fd, p, n < (1u << 30) ? n : (1u << 30));
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return fail(&w->error, SLUICE_E_IO, "cannot write %s: %s", w->label, strerror(done < 0 ? errno : ENOSPC));
        }
        p += done;
        n -= (size_t)done;
    }
    return SLUICE_OK;
}

static sluice_status check_names(struct gguf_writer *w, const void *records, size_t stride, size_t n,
                                 const char *kind) {
    struct name_index index = {0};
    size_t duplicate;
    if (!name_index_build(&index, records, stride, n, &duplicate)) {
        latch_nomem(w);
    } else if (duplicate != INDEX_NONE) {
        const struct gguf_str *name = (const void *)((const char *)records + duplicate * stride);
        fail(&w->error, SLUICE_E_ARG, "cannot write %s: the %s %.*s was given twice", w->label, kind, (int)name->n,
             name->s);
    }
    name_index_free(&index);
    return w->error.status;
}

static void build_header(const struct gguf_writer *w, struct buf *out) {
    uint32_t version = 3;
    uint64_t counts[2] = {w->n_tensors, w->n_kv};
    buf_append(out, GGUF_MAGIC, 4);
    buf_append(out, &version, sizeof version);
    buf_append(out, counts, sizeof counts);
    buf_append(out, w->kv.data, w->kv.len);
    for (size_t i = 0; i < w->n_tensors; i++) {
        const struct gguf_tensor *t = &w->tensors[i];
        uint64_t name_bytes = t->name.n;
        uint32_t type = t->type;
        buf_append(out, &name_bytes, sizeof name_bytes);
        buf_append(out, t->name.s, t->name.n);
        buf_append(out, &t->n_dims, sizeof t->n_dims);
        buf_append(out, t->dims, t->n_dims * sizeof t->dims[0]);
        buf_append(out, &type, sizeof type);
        buf_append(out, &t->offset, sizeof t->offset);
    }
    static const char zeros[GGUF_ALIGNMENT];
    buf_append(out, zeros, padded(out->len) - out->len);
}

/* Reserves the whole file, so that a disk that is too small is known before the work; other failures do not matter. */
static sluice_status reserve_space(struct gguf_writer *w, uint64_t header_bytes) {
    uint64_t total = header_bytes + w->data_bytes;
    if (fallocate(w->fd, 0, 0, (off_t)total) != 0 && errno == ENOSPC) {
        return fail(&w->error, SLUICE_E_IO, "cannot write %s: the disk has no room for its %llu bytes; free some space",
                    w->label, (unsigned long long)total);
    }
    return SLUICE_OK;
}

static sluice_status write_header(struct gguf_writer *w) {
    if (w->kv.failed) {
        latch_nomem(w);
    }
    TRY(w->error.status);
    TRY(check_names(w, w->keys, sizeof *w->keys, w->n_kv, "metadata key"));
    TRY(check_names(w, w->tensors, sizeof *w->tensors, w->n_tensors, "tensor name"));
    struct buf header = {0};
    build_header(w, &header);
    if (header.failed) {
        latch_nomem(w);
    } else if (reserve_space(w, header.len) == SLUICE_OK) {
        write_all(w, header.data, header.len);
    }
    buf_free(&header);
    w->header_written = true;
    return w->error.status;
}

static sluice_status write_data(struct gguf_writer *w, const void *bytes, size_t n) {
    TRY(w->error.status);
    if (!w->header_written) {
        TRY(write_header(w));
    }
    if (w->current == w->n_tensors || n > w->tensors[w->current].n_bytes - w->filled) {
        return fail(&w->error, SLUICE_E_ARG, "cannot write %s: more data than its tensors hold", w->label);
    }
    TRY(write_all(w, bytes, n));
    w->filled += n;
    const struct gguf_tensor *t = &w->tensors[w->current];
    if (w->filled == t->n_bytes) {
        static const char zeros[GGUF_ALIGNMENT];
        TRY(write_all(w, zeros, (size_t)(padded(t->n_bytes) - t->n_bytes)));
        w->current++;
        w->filled = 0;
    }
    return SLUICE_OK;
}

sluice_status gguf_writer_data(struct gguf_writer *w, const void *bytes, size_t n, sluice_error *err) {
    sluice_status s = write_data(w, bytes, n);
    if (s != SLUICE_OK && err) {
        *err = w->error;
    }
    return s;
}

static sluice_status seal(struct gguf_writer *w) {
    TRY(w->error.status);
    if (!w->header_written) {
        TRY(write_header(w));
    }
    if (w->current != w->n_tensors) {
        return fail(&w->error, SLUICE_E_ARG, "cannot write %s: the data of tensor %s are not complete", w->label,
                    w->tensors[w->current].name.s);
    }
    if (fsync(w->fd) != 0) {
        return fail(&w->error, SLUICE_E_IO, "cannot write %s: %s", w->label, strerror(errno));
    }
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0 || rename(w->tmp, w->path) != 0) {
        return fail(&w->error, SLUICE_E_IO, "cannot write %s: %s", w->label, strerror(errno));
    }
    return SLUICE_OK;
}

sluice_status gguf_writer_finish(struct gguf_writer *w, sluice_error *err) {
    sluice_status s = seal(w);
    if (s != SLUICE_OK) {
        if (err) {
            *err = w->error;
        }
        gguf_writer_abort(w);
        return s;
    }
    free_writer(w);
    return SLUICE_OK;
}

void gguf_writer_abort(struct gguf_writer *w) {
    if (!w) {
        return;
    }
    if (w->fd >= 0) {
        close(w->fd);
    }
    unlink(w->tmp);
    free_writer(w);
}
