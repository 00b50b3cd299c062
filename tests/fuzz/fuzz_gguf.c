/* Any bytes as a GGUF file: opening them is safe, and so is everything that an open file offers. */
#include "base/buf.h"
#include "gguf/gguf.h"
#include "quant/quant.h"
#include "tools/inspect.h"

#include <stdlib.h>
#include <string.h>

static volatile uint64_t sink; /* keeps the reads */

static void touch(const void *p, size_t n) {
    const uint8_t *bytes = p;
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += bytes[i];
    }
    sink = sum;
}

static void touch_kv(const struct gguf_file *f, const struct gguf_kv *kv) {
    char key[512];
    if (kv->key.n >= sizeof key) {
        abort(); /* the reader bounds keys */
    }
    memcpy(key, kv->key.s, kv->key.n);
    key[kv->key.n] = '\0';
    if (gguf_find(f, key) != kv) {
        abort();
    }
    uint32_t u;
    float x;
    bool flag;
    struct gguf_str s;
    sluice_error err;
    (void)gguf_get_u32(f, key, &u, &err);
    (void)gguf_get_f32(f, key, &x, &err);
    (void)gguf_get_bool(f, key, &flag, &err);
    (void)gguf_get_str(f, key, &s, &err);
    for (uint64_t i = 0; i < kv->n; i++) {
        int64_t v;
        double d;
        (void)gguf_kv_int(kv, i, &v);
        (void)gguf_kv_double(kv, i, &d);
        if (kv->strings) {
            touch(kv->strings[i].s, kv->strings[i].n);
        }
    }
}

static void touch_tensor(const struct gguf_file *f, const struct gguf_tensor *t) {
    char name[256];
    if (t->name.n >= sizeof name || t->offset + t->n_bytes > f->file_bytes) {
        abort();
    }
    memcpy(name, t->name.s, t->name.n);
    name[t->name.n] = '\0';
    if (gguf_find_tensor(f, name) != t) {
        abort();
    }
    touch(t->data, t->n_bytes);
    float row[256];
    int64_t n = t->n_elems < 256 ? (int64_t)t->n_elems : 256;
    n -= n % dtype_get(t->type)->block_elems;
    dequantize_row(t->type, t->data, row, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct gguf_file *f;
    sluice_error err = {0};
    if (gguf_open_memory(data, size, "fuzz.gguf", &f, &err) != SLUICE_OK) {
        if (err.text[0] == '\0') {
            abort(); /* every refusal says why */
        }
        return 0;
    }
    for (size_t i = 0; i < f->n_kv; i++) {
        touch_kv(f, &f->kv[i]);
    }
    for (size_t i = 0; i < f->n_tensors; i++) {
        touch_tensor(f, &f->tensors[i]);
    }
    struct buf out = {0};
    inspect_json(f, &out);
    inspect_text(f, INSPECT_METADATA | INSPECT_TENSORS | INSPECT_SUMMARY, &out);
    buf_free(&out);
    gguf_close(f);
    return 0;
}
