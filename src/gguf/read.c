/*
 * The reader. A file is data from outside: every count, length, type, offset and product is checked against the bytes
 * that are really there before it is used, so a hostile count can neither overflow nor make us allocate more than
 * about twice the file's size.
 */
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"
#include "gguf/impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The least bytes an entry can take: a key of one byte and a value of one; a tensor of one dimension. */
#define KV_BYTES_MIN     (8u + 1u + 4u + 1u)
#define TENSOR_BYTES_MIN (8u + 1u + 4u + 8u + 4u + 8u)

struct reader {
    const uint8_t *bytes;
    size_t n, at;
    const char *label;
    char what[LIMIT_GGUF_KEY + 64]; /* what is being read, for messages: "metadata entry 3" */
    sluice_error *err;
};

static sluice_status cut_off(const struct reader *r) {
    return fail(r->err, SLUICE_E_FORMAT,
                "%s: the file ends at byte %zu inside %s; it is damaged or half-downloaded, download it again",
                r->label, r->n, r->what);
}

/* The next n bytes, or NULL (and the error is written) where the file ends before. */
static const uint8_t *take(struct reader *r, uint64_t n) {
    if (n > r->n - r->at) {
        cut_off(r);
        return NULL;
    }
    const uint8_t *p = r->bytes + r->at;
    r->at += (size_t)n;
    return p;
}

static sluice_status read_u32(struct reader *r, uint32_t *out) {
    const uint8_t *p = take(r, sizeof *out);
    if (!p) {
        return SLUICE_E_FORMAT;
    }
    memcpy(out, p, sizeof *out);
    return SLUICE_OK;
}

static sluice_status read_u64(struct reader *r, uint64_t *out) {
    const uint8_t *p = take(r, sizeof *out);
    if (!p) {
        return SLUICE_E_FORMAT;
    }
    memcpy(out, p, sizeof *out);
    return SLUICE_OK;
}

static sluice_status read_str(struct reader *r, uint64_t limit, const char *part, struct gguf_str *out) {
    uint64_t n;
    TRY(read_u64(r, &n));
    if (n > limit) {
        return fail(r->err, SLUICE_E_FORMAT, "%s: %s of %s says it is %llu bytes long; the limit is %llu", r->label,
                    part, r->what, (unsigned long long)n, (unsigned long long)limit);
    }
    const uint8_t *p = take(r, n);
    if (!p) {
        return SLUICE_E_FORMAT;
    }
    *out = (struct gguf_str){(const char *)p, (size_t)n};
    return SLUICE_OK;
}

/* Names go into messages, C strings and hash tables: valid UTF-8, not empty, no control characters. */
static sluice_status read_name(struct reader *r, uint64_t limit, struct gguf_str *out) {
    TRY(read_str(r, limit, "the name", out));
    bool ok = out->n > 0 && utf8_valid_prefix(out->s, out->n) == out->n;
    for (size_t i = 0; i < out->n && ok; i++) {
        ok = (uint8_t)out->s[i] >= 0x20 && out->s[i] != 0x7F;
    }
    if (!ok) {
        return fail(r->err, SLUICE_E_FORMAT, "%s: the name of %s is empty or not printable UTF-8; the file is damaged",
                    r->label, r->what);
    }
    return SLUICE_OK;
}

static void set_what(struct reader *r, const char *kind, const struct gguf_str *name) {
    snprintf(r->what, sizeof r->what, "%s %.*s", kind, (int)name->n, name->s);
}

static sluice_status read_strings(struct reader *r, struct gguf_kv *kv) {
    if (kv->n > (r->n - r->at) / sizeof(uint64_t)) {
        return cut_off(r);
    }
    struct gguf_str *strings = mem_alloc((size_t)kv->n * sizeof *strings);
    if (!strings) {
        return fail(r->err, SLUICE_E_NOMEM, "%s: no memory for the %llu strings of %s", r->label,
                    (unsigned long long)kv->n, r->what);
    }
    kv->strings = strings; /* owned by the entry from here on */
    for (uint64_t i = 0; i < kv->n; i++) {
        TRY(read_str(r, LIMIT_GGUF_STRING, "a string", &strings[i]));
    }
    return SLUICE_OK;
}

static sluice_status check_bools(const struct reader *r, const struct gguf_kv *kv) {
    for (uint64_t i = 0; i < kv->n; i++) {
        if (kv->data[i] > 1) {
            return fail(r->err, SLUICE_E_FORMAT, "%s: %s holds the boolean %u; it must be 0 or 1", r->label, r->what,
                        kv->data[i]);
        }
    }
    return SLUICE_OK;
}

static sluice_status read_values(struct reader *r, struct gguf_kv *kv, uint32_t type) {
    kv->data = r->bytes + r->at;
    if (type == GGUF_STRING) {
        return read_strings(r, kv);
    }
    size_t size = gguf_value_bytes(type);
    if (kv->n > (r->n - r->at) / size) {
        return cut_off(r);
    }
    r->at += (size_t)kv->n * size;
    return type == GGUF_BOOL ? check_bools(r, kv) : SLUICE_OK;
}

static sluice_status read_array(struct reader *r, struct gguf_kv *kv) {
    uint32_t elem;
    TRY(read_u32(r, &elem));
    TRY(read_u64(r, &kv->n));
    if (elem > GGUF_F64 || elem == GGUF_ARRAY) {
        return fail(r->err, SLUICE_E_FORMAT,
                    "%s: %s is an array of elements of type %u (%s), which GGUF does not allow here", r->label, r->what,
                    elem, gguf_type_name(elem));
    }
    if (kv->n > LIMIT_GGUF_ARRAY) {
        return fail(r->err, SLUICE_E_FORMAT, "%s: %s has %llu elements; the limit is %u", r->label, r->what,
                    (unsigned long long)kv->n, LIMIT_GGUF_ARRAY);
    }
    kv->elem_type = elem;
    return read_values(r, kv, elem);
}

static sluice_status read_kv(struct reader *r, struct gguf_kv *kv, size_t i) {
    snprintf(r->what, sizeof r->what, "metadata entry %zu", i + 1);
    TRY(read_name(r, LIMIT_GGUF_KEY, &kv->key));
    set_what(r, "metadata entry", &kv->key);
    uint32_t type;
    TRY(read_u32(r, &type));
    if (type > GGUF_F64) {
        return fail(r->err, SLUICE_E_FORMAT,
                    "%s: %s has the value type %u; GGUF defines 0 to %u, so the file is damaged", r->label, r->what,
                    type, GGUF_F64);
    }
    kv->type = kv->elem_type = type;
    kv->n = 1;
    return type == GGUF_ARRAY ? read_array(r, kv) : read_values(r, kv, type);
}

static sluice_status bad_type(const struct reader *r, const struct gguf_tensor *t, uint32_t type) {
    char usable[128] = "";
    size_t len = 0;
    for (uint32_t k = 0; k < 64; k++) {
        const struct dtype_info *info = dtype_get(k);
        if (info && info->usable) {
            len += (size_t)snprintf(usable + len, sizeof usable - len, "%s%s", len ? ", " : "", info->name);
        }
    }
    const struct dtype_info *info = dtype_get(type);
    if (!info) {
        return fail(r->err, SLUICE_E_FORMAT,
                    "%s: tensor %.*s has the type number %u, which is unknown; known and usable: %s", r->label,
                    (int)t->name.n, t->name.s, type, usable);
    }
    return fail(r->err, SLUICE_E_UNSUPPORTED,
                "%s: tensor %.*s has type %s, which sluice does not compute with; get a file made of %s", r->label,
                (int)t->name.n, t->name.s, info->name, usable);
}

/* Elements and bytes from the dimensions; the product must fit 64 bits and rows must be whole blocks. */
static sluice_status size_tensor(const struct reader *r, struct gguf_tensor *t) {
    const struct dtype_info *info = dtype_get(t->type);
    t->n_elems = 1;
    for (uint32_t d = 0; d < t->n_dims; d++) {
        if (t->dims[d] == 0 || t->dims[d] > LIMIT_GGUF_DIM ||
            __builtin_mul_overflow(t->n_elems, t->dims[d], &t->n_elems)) {
            return fail(r->err, SLUICE_E_FORMAT,
                        "%s: dimension %u of %s is %llu; each must be 1 to %llu and their product below 2^64", r->label,
                        d + 1, r->what, (unsigned long long)t->dims[d], LIMIT_GGUF_DIM);
        }
    }
    if (t->dims[0] % info->block_elems != 0) {
        return fail(r->err, SLUICE_E_FORMAT, "%s: rows of %s have %llu elements, not a multiple of %u as %s needs",
                    r->label, r->what, (unsigned long long)t->dims[0], info->block_elems, info->name);
    }
    if (__builtin_mul_overflow(t->n_elems / info->block_elems, (uint64_t)info->block_bytes, &t->n_bytes)) {
        return fail(r->err, SLUICE_E_FORMAT, "%s: %s would need more than 2^64 bytes; the file is damaged", r->label,
                    r->what);
    }
    return SLUICE_OK;
}

static sluice_status read_tensor(struct reader *r, struct gguf_tensor *t, size_t i) {
    snprintf(r->what, sizeof r->what, "the description of tensor %zu", i + 1);
    TRY(read_name(r, LIMIT_GGUF_TENSOR_NAME, &t->name));
    set_what(r, "tensor", &t->name);
    TRY(read_u32(r, &t->n_dims));
    if (t->n_dims < 1 || t->n_dims > 4) {
        return fail(r->err, SLUICE_E_FORMAT, "%s: %s has %u dimensions; 1 to 4 are allowed", r->label, r->what,
                    t->n_dims);
    }
    for (uint32_t d = 0; d < 4; d++) {
        t->dims[d] = 1;
        if (d < t->n_dims) {
            TRY(read_u64(r, &t->dims[d]));
        }
    }
    uint32_t type;
    TRY(read_u32(r, &type));
    TRY(read_u64(r, &t->offset));
    const struct dtype_info *info = dtype_get(type);
    if (!info || !info->usable) {
        return bad_type(r, t, type);
    }
    t->type = (enum dtype)type;
    return size_tensor(r, t);
}

static sluice_status read_count(struct reader *r, const char *what, uint32_t limit, size_t entry_bytes_min,
                                size_t *out) {
    uint64_t n;
    snprintf(r->what, sizeof r->what, "the header");
    TRY(read_u64(r, &n));
    if (n > limit) {
        return fail(r->err, SLUICE_E_FORMAT, "%s: the header says %llu %s; the limit is %u", r->label,
                    (unsigned long long)n, what, limit);
    }
    if (n > (r->n - r->at) / entry_bytes_min) {
        return fail(r->err, SLUICE_E_FORMAT,
                    "%s: the header says %llu %s, but the file has only %zu bytes; it is damaged or half-downloaded, "
                    "download it again",
                    r->label, (unsigned long long)n, what, r->n);
    }
    *out = (size_t)n;
    return SLUICE_OK;
}

static sluice_status read_header(struct reader *r, struct gguf_file *f) {
    if (r->n < 4 || memcmp(r->bytes, GGUF_MAGIC, 4) != 0) {
        return fail(r->err, SLUICE_E_FORMAT, "%s is not a GGUF file: it does not begin with \"GGUF\"", r->label);
    }
    r->at = 4;
    snprintf(r->what, sizeof r->what, "the header");
    TRY(read_u32(r, &f->version));
    if (f->version != 0 && (f->version & 0xFFFF) == 0) {
        return fail(r->err, SLUICE_E_UNSUPPORTED, "%s is a big-endian GGUF file; sluice reads little-endian files only",
                    r->label);
    }
    if (f->version < 2 || f->version > 3) {
        return fail(r->err, SLUICE_E_UNSUPPORTED,
                    "%s is GGUF version %u; sluice reads versions 2 and 3, convert it again", r->label, f->version);
    }
    TRY(read_count(r, "tensors", LIMIT_GGUF_TENSORS, TENSOR_BYTES_MIN, &f->n_tensors));
    return read_count(r, "metadata entries", LIMIT_GGUF_KV, KV_BYTES_MIN, &f->n_kv);
}

static sluice_status index_names(struct reader *r, struct name_index *index, const void *records, size_t stride,
                                 size_t n, const char *kind) {
    size_t duplicate;
    if (!name_index_build(index, records, stride, n, &duplicate)) {
        return fail(r->err, SLUICE_E_NOMEM, "%s: no memory for the index of %zu %s names", r->label, n, kind);
    }
    if (duplicate != INDEX_NONE) {
        const struct gguf_str *name = (const void *)((const char *)records + duplicate * stride);
        return fail(r->err, SLUICE_E_FORMAT, "%s: the %s %.*s occurs twice; the file is damaged", r->label, kind,
                    (int)name->n, name->s);
    }
    return SLUICE_OK;
}

static sluice_status read_metadata(struct reader *r, struct gguf_file *f) {
    size_t n = f->n_kv;
    f->n_kv = 0; /* counts what gguf_close has to free */
    f->kv = mem_calloc(n, sizeof *f->kv);
    if (!f->kv) {
        return fail(r->err, SLUICE_E_NOMEM, "%s: no memory for %zu metadata entries", r->label, n);
    }
    for (size_t i = 0; i < n; i++) {
        f->n_kv = i + 1;
        TRY(read_kv(r, &f->kv[i], i));
    }
    TRY(index_names(r, &f->impl->kv_index, f->kv, sizeof *f->kv, f->n_kv, "metadata key"));
    f->alignment = GGUF_ALIGNMENT;
    TRY(gguf_opt_u32(f, GGUF_ALIGNMENT_KEY, &f->alignment, r->err));
    if (f->alignment < 8 || (f->alignment & (f->alignment - 1)) != 0) {
        return fail(r->err, SLUICE_E_FORMAT, "%s: " GGUF_ALIGNMENT_KEY " is %u; it must be a power of two, 8 or more",
                    r->label, f->alignment);
    }
    return SLUICE_OK;
}

static int by_offset(const void *a, const void *b) {
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a, *y = *(const struct gguf_tensor *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static sluice_status check_overlap(const struct reader *r, const struct gguf_file *f) {
    const struct gguf_tensor **sorted = mem_alloc(f->n_tensors * sizeof *sorted);
    if (!sorted) {
        return fail(r->err, SLUICE_E_NOMEM, "%s: no memory to check %zu tensors", r->label, f->n_tensors);
    }
    for (size_t i = 0; i < f->n_tensors; i++) {
        sorted[i] = &f->tensors[i];
    }
    qsort(sorted, f->n_tensors, sizeof *sorted, by_offset);
    sluice_status s = SLUICE_OK;
    for (size_t i = 1; i < f->n_tensors && s == SLUICE_OK; i++) {
        const struct gguf_tensor *a = sorted[i - 1], *b = sorted[i];
        if (a->offset + a->n_bytes > b->offset) {
            s = fail(r->err, SLUICE_E_FORMAT, "%s: the data of tensors %.*s and %.*s overlap; the file is damaged",
                     r->label, (int)a->name.n, a->name.s, (int)b->name.n, b->name.s);
        }
    }
    mem_free(sorted);
    return s;
}

/* From offsets relative to the data section to places in the file. */
static sluice_status place_tensors(const struct reader *r, struct gguf_file *f) {
    uint64_t need = r->at;
    for (size_t i = 0; i < f->n_tensors; i++) {
        struct gguf_tensor *t = &f->tensors[i];
        uint64_t end;
        if (t->offset % f->alignment != 0) {
            return fail(r->err, SLUICE_E_FORMAT,
                        "%s: tensor %.*s begins at offset %llu, not a multiple of the alignment %u", r->label,
                        (int)t->name.n, t->name.s, (unsigned long long)t->offset, f->alignment);
        }
        if (__builtin_add_overflow(t->offset, f->data_offset, &t->offset) ||
            __builtin_add_overflow(t->offset, t->n_bytes, &end)) {
            return fail(r->err, SLUICE_E_FORMAT, "%s: tensor %.*s would end beyond 2^64 bytes; the file is damaged",
                        r->label, (int)t->name.n, t->name.s);
        }
        need = end > need ? end : need;
    }
    if (need > r->n) {
        return fail(r->err, SLUICE_E_FORMAT,
                    "%s is half-downloaded: the file has %zu bytes, its tensor table needs %llu; download it again",
                    r->label, r->n, (unsigned long long)need);
    }
    for (size_t i = 0; i < f->n_tensors; i++) {
        f->tensors[i].data = r->bytes + f->tensors[i].offset;
        f->tensor_bytes += f->tensors[i].n_bytes;
    }
    return check_overlap(r, f);
}

static sluice_status read_tensors(struct reader *r, struct gguf_file *f) {
    f->tensors = mem_calloc(f->n_tensors, sizeof *f->tensors);
    if (!f->tensors) {
        return fail(r->err, SLUICE_E_NOMEM, "%s: no memory for %zu tensor descriptions", r->label, f->n_tensors);
    }
    for (size_t i = 0; i < f->n_tensors; i++) {
        TRY(read_tensor(r, &f->tensors[i], i));
    }
    TRY(index_names(r, &f->impl->tensor_index, f->tensors, sizeof *f->tensors, f->n_tensors, "tensor name"));
    f->data_offset = ((uint64_t)r->at + f->alignment - 1) & ~((uint64_t)f->alignment - 1);
    if (f->n_tensors == 0 && f->data_offset > r->n) {
        f->data_offset = r->n; /* a vocabulary needs no padding behind it */
    }
    return place_tensors(r, f);
}

static sluice_status parse(struct gguf_file *f, const void *bytes, size_t n, sluice_error *err) {
    struct reader r = {.bytes = bytes, .n = n, .label = f->impl->label, .err = err};
    f->file_bytes = n;
    TRY(read_header(&r, f));
    size_t n_tensors = f->n_tensors;
    f->n_tensors = 0;
    TRY(read_metadata(&r, f));
    f->n_tensors = n_tensors;
    return read_tensors(&r, f);
}

void gguf_short_path(const char *path, char *out, size_t cap) {
    size_t n = strlen(path);
    if (n < cap) {
        memcpy(out, path, n + 1);
        return;
    }
    snprintf(out, cap, "...%s", path + n - (cap - 4));
}

static struct gguf_file *new_file(const char *label) {
    struct gguf_file *f = mem_calloc(1, sizeof *f);
    if (!f) {
        return NULL;
    }
    f->impl = mem_calloc(1, sizeof *f->impl);
    f->path = mem_strdup(label);
    if (!f->impl || !f->path) {
        gguf_close(f);
        return NULL;
    }
    gguf_short_path(label, f->impl->label, sizeof f->impl->label);
    return f;
}

sluice_status gguf_open_memory(const void *bytes, size_t n, const char *label, struct gguf_file **out,
                               sluice_error *err) {
    *out = NULL;
    struct gguf_file *f = new_file(label);
    if (!f) {
        return fail(err, SLUICE_E_NOMEM, "no memory to open a GGUF file");
    }
    sluice_status s = parse(f, bytes, n, err);
    if (s != SLUICE_OK) {
        gguf_close(f);
        return s;
    }
    *out = f;
    return SLUICE_OK;
}

/* The whole file, read-only. An empty file gives no mapping. */
static sluice_status map_file(const char *path, struct gguf_file *f, sluice_error *err) {
    const char *label = f->impl->label;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would never open */
    if (fd < 0) {
        return fail(err, SLUICE_E_IO, "cannot open %s: %s", label, strerror(errno));
    }
    struct stat st;
    sluice_status s = SLUICE_OK;
    if (fstat(fd, &st) != 0) {
        s = fail(err, SLUICE_E_IO, "cannot read %s: %s", label, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        s = fail(err, SLUICE_E_IO, "cannot open %s: it is %s, not a file", label,
                 S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    } else if (st.st_size > 0) {
        void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
            s = fail(err, SLUICE_E_IO, "cannot map %s: %s", label, strerror(errno));
        } else {
            f->map = map;
            f->file_bytes = (uint64_t)st.st_size;
            f->impl->mapped = true;
        }
    }
    close(fd);
    return s;
}

sluice_status gguf_open(const char *path, struct gguf_file **out, sluice_error *err) {
    *out = NULL;
    struct gguf_file *f = new_file(path);
    if (!f) {
        return fail(err, SLUICE_E_NOMEM, "no memory to open a GGUF file");
    }
    sluice_status s = map_file(path, f, err);
    if (s == SLUICE_OK) {
        s = parse(f, f->map ? f->map : "", (size_t)f->file_bytes, err);
    }
    if (s != SLUICE_OK) {
        gguf_close(f);
        return s;
    }
    *out = f;
    return SLUICE_OK;
}

void gguf_release(const struct gguf_file *f, const void *data, size_t bytes) {
    if (!f->impl->mapped) {
        return;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t at = (size_t)((const uint8_t *)data - (const uint8_t *)f->map);
    size_t begin = (at + page - 1) / page * page;
    size_t end = (at + bytes) / page * page;
    if (begin < end && end <= f->file_bytes) {
        (void)madvise((uint8_t *)f->map + begin, end - begin, MADV_DONTNEED); /* refused: the pages just stay */
    }
}

void gguf_close(struct gguf_file *f) {
    if (!f) {
        return;
    }
    for (size_t i = 0; f->kv && i < f->n_kv; i++) {
        mem_free((void *)(uintptr_t)f->kv[i].strings);
    }
    mem_free(f->kv);
    mem_free(f->tensors);
    if (f->impl) {
        name_index_free(&f->impl->kv_index);
        name_index_free(&f->impl->tensor_index);
        if (f->impl->mapped) {
            munmap(f->map, (size_t)f->file_bytes);
        }
    }
    mem_free(f->impl);
    mem_free(f->path);
    mem_free(f);
}
