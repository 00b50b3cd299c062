/* Builds GGUF files byte by byte, so that a test can make any of its fields wrong. */
#ifndef TEST_GGUF_SUPPORT_H
#define TEST_GGUF_SUPPORT_H

#include "base/buf.h"
#include "gguf/gguf.h"

#include <string.h>

static inline void put(struct buf *b, const void *p, size_t n) {
    buf_append(b, p, n);
}
static inline void put_u8(struct buf *b, uint8_t v) {
    put(b, &v, sizeof v);
}
static inline void put_u32(struct buf *b, uint32_t v) {
    put(b, &v, sizeof v);
}
static inline void put_u64(struct buf *b, uint64_t v) {
    put(b, &v, sizeof v);
}
static inline void put_f32(struct buf *b, float v) {
    put(b, &v, sizeof v);
}
static inline void put_str(struct buf *b, const char *s) {
    put_u64(b, strlen(s));
    put(b, s, strlen(s));
}
static inline void put_header(struct buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_kv) {
    put(b, "GGUF", 4);
    put_u32(b, version);
    put_u64(b, n_tensors);
    put_u64(b, n_kv);
}
static inline void put_key(struct buf *b, const char *key, uint32_t type) {
    put_str(b, key);
    put_u32(b, type);
}
static inline void put_tensor(struct buf *b, const char *name, uint32_t type, uint64_t rows, uint64_t cols,
                              uint64_t offset) {
    put_str(b, name);
    put_u32(b, 2);
    put_u64(b, cols);
    put_u64(b, rows);
    put_u32(b, type);
    put_u64(b, offset);
}
static inline void put_padding(struct buf *b, size_t alignment) {
    while (b->len % alignment) {
        put_u8(b, 0);
    }
}
static inline void put_data(struct buf *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        put_u8(b, (uint8_t)i);
    }
}

/* Entries of every kind, two tensors with padding between them, none behind the last. */
static inline struct buf sample_file(uint32_t version) {
    struct buf b = {0};
    put_header(&b, version, 2, 9);
    put_key(&b, "general.architecture", GGUF_STRING);
    put_str(&b, "lfm2");
    put_key(&b, "a.u8", GGUF_U8);
    put_u8(&b, 200);
    put_key(&b, "a.i64", GGUF_I64);
    put_u64(&b, (uint64_t)-5);
    put_key(&b, "a.f64", GGUF_F64);
    put(&b, &(double){0.1}, 8);
    put_key(&b, "a.bool", GGUF_BOOL);
    put_u8(&b, 1);
    put_key(&b, "a.i16s", GGUF_ARRAY);
    put_u32(&b, GGUF_I16);
    put_u64(&b, 3);
    put(&b, (int16_t[]){1, -2, 3}, 6);
    put_key(&b, "a.strings", GGUF_ARRAY);
    put_u32(&b, GGUF_STRING);
    put_u64(&b, 2);
    put_str(&b, "one");
    put_str(&b, "");
    put_key(&b, "a.empty", GGUF_ARRAY);
    put_u32(&b, GGUF_U32);
    put_u64(&b, 0);
    put_key(&b, "a.bools", GGUF_ARRAY);
    put_u32(&b, GGUF_BOOL);
    put_u64(&b, 2);
    put(&b, "\1\0", 2);
    put_tensor(&b, "x.weight", DTYPE_F32, 2, 5, 0);
    put_tensor(&b, "y.weight", DTYPE_Q4_0, 1, 32, 64);
    put_padding(&b, 32);
    put_data(&b, 64 + 18);
    return b;
}

/* Opens b from an exactly sized copy, so that a read beyond its end is caught by the address sanitizer. */
static inline sluice_status open_exact(const void *bytes, size_t n, void **copy, struct gguf_file **out,
                                       sluice_error *err) {
    *copy = malloc(n ? n : 1);
    memcpy(*copy, bytes, n);
    return gguf_open_memory(*copy, n, "test.gguf", out, err);
}

#endif
