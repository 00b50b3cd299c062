/*
 * GGUF files, versions 2 and 3 (github.com/ggml-org/ggml docs/gguf.md): a mapped, fully validated reader and a writer.
 * After gguf_open succeeds every pointer, count, offset and size in the structs below is in bounds and consistent.
 */
#ifndef GGUF_H
#define GGUF_H

#include "base/dtype.h"
#include "sluice.h"

#include <stdio.h>

enum gguf_value_type {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12,
};

struct gguf_str { /* points into the mapping; NOT NUL-terminated */
    const char *s;
    size_t n;
};

struct gguf_kv {
    struct gguf_str key;
    enum gguf_value_type type;
    enum gguf_value_type elem_type; /* arrays only */
    uint64_t n;                     /* elements; 1 for a scalar */
    const uint8_t *data;            /* little-endian, possibly unaligned */
    const struct gguf_str *strings; /* arrays of strings: [n]; scalar string: [1]; else NULL */
};

struct gguf_tensor {
    struct gguf_str name;
    enum dtype type;  /* usable types only: gguf_open rejects the others by name */
    uint32_t n_dims;  /* 1..4 */
    uint64_t dims[4]; /* fastest first; unused = 1 */
    uint64_t n_elems;
    uint64_t offset; /* from the file's start */
    uint64_t n_bytes;
    const void *data; /* in the mapping; NULL for a vocabulary-only view */
};

struct gguf_file {
    char *path;
    uint32_t version;
    uint64_t file_bytes;
    uint64_t data_offset; /* where tensor data begin */
    uint64_t tensor_bytes;
    uint32_t alignment;
    struct gguf_kv *kv;
    size_t n_kv;
    struct gguf_tensor *tensors;
    size_t n_tensors;
    void *map;
    struct gguf_impl *impl; /* name indexes */
};

/* Maps and validates path. Errors name the file, the key or tensor, and the limit. */
sluice_status gguf_open(const char *path, struct gguf_file **out, sluice_error *err);
/* The same over bytes the caller keeps alive (tests, fuzzers). */
sluice_status gguf_open_memory(const void *bytes, size_t n, const char *label, struct gguf_file **out,
                               sluice_error *err);
void gguf_close(struct gguf_file *file);
/* Says that bytes of the mapping, at data, are not needed for now: their whole pages leave this process's memory, and come back from
 * the file when they are read again. Does nothing where the file was not mapped here (gguf_open_memory). */
void gguf_release(const struct gguf_file *file, const void *data, size_t bytes);

const struct gguf_kv *gguf_find(const struct gguf_file *file, const char *key);             /* NULL if absent */
const struct gguf_tensor *gguf_find_tensor(const struct gguf_file *file, const char *name); /* NULL if absent */

/* Typed access. Any integer type is accepted where it fits. Returns SLUICE_E_FORMAT naming the key and the types if the
 * entry is missing or of another kind. */
sluice_status gguf_get_u32(const struct gguf_file *file, const char *key, uint32_t *out, sluice_error *err);
sluice_status gguf_get_f32(const struct gguf_file *file, const char *key, float *out, sluice_error *err);
sluice_status gguf_get_bool(const struct gguf_file *file, const char *key, bool *out, sluice_error *err);
sluice_status gguf_get_str(const struct gguf_file *file, const char *key, struct gguf_str *out, sluice_error *err);
/* Optional forms: absent leaves *out as it is; present but of the wrong kind is still an error. */
sluice_status gguf_opt_u32(const struct gguf_file *file, const char *key, uint32_t *out, sluice_error *err);
sluice_status gguf_opt_f32(const struct gguf_file *file, const char *key, float *out, sluice_error *err);
sluice_status gguf_opt_bool(const struct gguf_file *file, const char *key, bool *out, sluice_error *err);
sluice_status gguf_opt_str(const struct gguf_file *file, const char *key, struct gguf_str *out, sluice_error *err);
/* Element i of a scalar (i = 0) or array entry as an integer / double. false if it is not a number or out of range. */
bool gguf_kv_int(const struct gguf_kv *kv, uint64_t i, int64_t *out);
bool gguf_kv_double(const struct gguf_kv *kv, uint64_t i, double *out);

/* ---- Writer: metadata and tensor descriptions first, then the data of each tensor in the order declared. */

struct gguf_writer; /* writes PATH.tmp.<pid>, renamed to PATH by gguf_writer_finish; removed by gguf_writer_abort */

sluice_status gguf_writer_open(const char *path, struct gguf_writer **out, sluice_error *err);
void gguf_writer_kv_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gguf_writer_kv_f32(struct gguf_writer *w, const char *key, float v);
void gguf_writer_kv_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_writer_kv_str(struct gguf_writer *w, const char *key, const char *s, size_t n);
void gguf_writer_kv_i32_array(struct gguf_writer *w, const char *key, const int32_t *v, size_t n);
void gguf_writer_kv_f32_array(struct gguf_writer *w, const char *key, const float *v, size_t n);
void gguf_writer_kv_str_array(struct gguf_writer *w, const char *key, const struct gguf_str *v, size_t n);
/* Copies an entry of another file as it is; general.alignment is left out, the writer lays out by its default. */
void gguf_writer_kv_copy(struct gguf_writer *w, const struct gguf_kv *kv);
void gguf_writer_tensor(struct gguf_writer *w, const char *name, enum dtype type, uint32_t n_dims,
                        const uint64_t *dims);
/* Appends bytes of the current tensor; tensors are filled in declared order, each with exactly its size. The first call
 * writes the header. Any earlier failure (memory, duplicate names, disk full) is reported here. */
sluice_status gguf_writer_data(struct gguf_writer *w, const void *bytes, size_t n, sluice_error *err);
/* Checks that all data came, syncs, renames. Frees w in every case. */
sluice_status gguf_writer_finish(struct gguf_writer *w, sluice_error *err);
void gguf_writer_abort(struct gguf_writer *w);

#endif
