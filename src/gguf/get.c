/* Typed access to metadata and look-up by name. */
#include "base/status.h"
#include "gguf/impl.h"

#include <string.h>

size_t gguf_value_bytes(uint32_t type) {
    static const uint8_t bytes[] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
        [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
    };
    return type < sizeof bytes ? bytes[type] : 0;
}

const char *gguf_type_name(uint32_t type) {
    static const char *const names[] = {
        [GGUF_U8] = "u8",   [GGUF_I8] = "i8",   [GGUF_U16] = "u16",   [GGUF_I16] = "i16",       [GGUF_U32] = "u32",
        [GGUF_I32] = "i32", [GGUF_F32] = "f32", [GGUF_BOOL] = "bool", [GGUF_STRING] = "string", [GGUF_ARRAY] = "array",
        [GGUF_U64] = "u64", [GGUF_I64] = "i64", [GGUF_F64] = "f64",
    };
    return type < sizeof names / sizeof names[0] ? names[type] : "no GGUF type";
}

const struct gguf_kv *gguf_find(const struct gguf_file *f, const char *key) {
    if (!f->impl->kv_index.slots) {
        return NULL;
    }
    size_t i = name_index_find(&f->impl->kv_index, f->kv, sizeof *f->kv, key, strlen(key));
    return i == INDEX_NONE ? NULL : &f->kv[i];
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf_file *f, const char *name) {
    if (!f->impl->tensor_index.slots) {
        return NULL;
    }
    size_t i = name_index_find(&f->impl->tensor_index, f->tensors, sizeof *f->tensors, name, strlen(name));
    return i == INDEX_NONE ? NULL : &f->tensors[i];
}

static uint32_t element_type(const struct gguf_kv *kv) {
    return kv->type == GGUF_ARRAY ? kv->elem_type : kv->type;
}

bool gguf_kv_int(const struct gguf_kv *kv, uint64_t i, int64_t *out) {
    uint32_t type = element_type(kv);
    size_t size = gguf_value_bytes(type);
    if (i >= kv->n || size == 0) {
        return false;
    }
    const uint8_t *p = kv->data + i * size;
    uint64_t raw = 0;
    memcpy(&raw, p, size); /* little-endian: the low bytes come first */
    switch (type) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
        *out = (int64_t)raw;
        return true;
    case GGUF_U64:
        *out = (int64_t)raw;
        return raw <= INT64_MAX;
    case GGUF_I8:
        *out = (int8_t)raw;
        return true;
    case GGUF_I16:
        *out = (int16_t)raw;
        return true;
    case GGUF_I32:
        *out = (int32_t)raw;
        return true;
    case GGUF_I64:
        *out = (int64_t)raw;
        return true;
    default:
        return false;
    }
}

bool gguf_kv_double(const struct gguf_kv *kv, uint64_t i, double *out) {
    uint32_t type = element_type(kv);
    if (i >= kv->n) {
        return false;
    }
    if (type == GGUF_F32) {
        float v;
        memcpy(&v, kv->data + i * sizeof v, sizeof v);
        *out = (double)v;
        return true;
    }
    if (type == GGUF_F64) {
        memcpy(out, kv->data + i * sizeof *out, sizeof *out);
        return true;
    }
    int64_t v;
    if (!gguf_kv_int(kv, i, &v)) {
        return false;
    }
    *out = (double)v;
    return true;
}

static sluice_status wrong_kind(const struct gguf_file *f, const struct gguf_kv *kv, const char *wanted,
                                sluice_error *err) {
    bool array = kv->type == GGUF_ARRAY;
    return fail(err, SLUICE_E_FORMAT, "%s: metadata entry %.*s is %s%s, but %s is needed", f->impl->label,
                (int)kv->key.n, kv->key.s, array ? "an array of " : "of type ", gguf_type_name(element_type(kv)),
                wanted);
}

static sluice_status require(const struct gguf_file *f, const char *key, const char *wanted, sluice_error *err) {
    if (gguf_find(f, key)) {
        return SLUICE_OK;
    }
    return fail(err, SLUICE_E_FORMAT, "%s: metadata entry %s (%s) is missing; the file is not a complete model",
                f->impl->label, key, wanted);
}

sluice_status gguf_opt_u32(const struct gguf_file *f, const char *key, uint32_t *out, sluice_error *err) {
    const struct gguf_kv *kv = gguf_find(f, key);
    if (!kv) {
        return SLUICE_OK;
    }
    int64_t v;
    if (kv->type == GGUF_ARRAY || !gguf_kv_int(kv, 0, &v)) {
        return wrong_kind(f, kv, "an integer", err);
    }
    if (v < 0 || v > UINT32_MAX) {
        return fail(err, SLUICE_E_FORMAT, "%s: metadata entry %s is %lld; it must be 0 to %u", f->impl->label, key,
                    (long long)v, UINT32_MAX);
    }
    *out = (uint32_t)v;
    return SLUICE_OK;
}

sluice_status gguf_opt_f32(const struct gguf_file *f, const char *key, float *out, sluice_error *err) {
    const struct gguf_kv *kv = gguf_find(f, key);
    if (!kv) {
        return SLUICE_OK;
    }
    double v;
    if (kv->type == GGUF_ARRAY || !gguf_kv_double(kv, 0, &v)) {
        return wrong_kind(f, kv, "a number", err);
    }
    *out = (float)v;
    return SLUICE_OK;
}

sluice_status gguf_opt_bool(const struct gguf_file *f, const char *key, bool *out, sluice_error *err) {
    const struct gguf_kv *kv = gguf_find(f, key);
    if (!kv) {
        return SLUICE_OK;
    }
    if (kv->type != GGUF_BOOL) {
        return wrong_kind(f, kv, "a boolean", err);
    }
    *out = kv->data[0] != 0;
    return SLUICE_OK;
}

sluice_status gguf_opt_str(const struct gguf_file *f, const char *key, struct gguf_str *out, sluice_error *err) {
    const struct gguf_kv *kv = gguf_find(f, key);
    if (!kv) {
        return SLUICE_OK;
    }
    if (kv->type != GGUF_STRING) {
        return wrong_kind(f, kv, "a string", err);
    }
    *out = kv->strings[0];
    return SLUICE_OK;
}

sluice_status gguf_get_u32(const struct gguf_file *f, const char *key, uint32_t *out, sluice_error *err) {
    TRY(require(f, key, "an integer", err));
    return gguf_opt_u32(f, key, out, err);
}

sluice_status gguf_get_f32(const struct gguf_file *f, const char *key, float *out, sluice_error *err) {
    TRY(require(f, key, "a number", err));
    return gguf_opt_f32(f, key, out, err);
}

sluice_status gguf_get_bool(const struct gguf_file *f, const char *key, bool *out, sluice_error *err) {
    TRY(require(f, key, "a boolean", err));
    return gguf_opt_bool(f, key, out, err);
}

sluice_status gguf_get_str(const struct gguf_file *f, const char *key, struct gguf_str *out, sluice_error *err) {
    TRY(require(f, key, "a string", err));
    return gguf_opt_str(f, key, out, err);
}
