/* Vocabularies for tests: the golden one, and GGUFs built in memory. */
#ifndef TEST_TOKENIZER_SUPPORT_H
#define TEST_TOKENIZER_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "gguf/gguf.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_OF(a)  (sizeof(a) / sizeof((a)[0]))
#define DATA(f)  TEST_DATA "/unit/data/" f
#define VOCAB    DATA("tok_vocab_bpe.gguf")
#define MAX_TOKS 1024

static inline void put_raw(struct buf *b, const void *p, size_t n) {
    buf_append(b, p, n);
}

static inline void put_u32(struct buf *b, uint32_t v) {
    put_raw(b, &v, 4);
}

static inline void put_u64(struct buf *b, uint64_t v) {
    put_raw(b, &v, 8);
}

static inline void put_str(struct buf *b, const char *s, size_t n) {
    put_u64(b, n);
    put_raw(b, s, n);
}

/* A GGUF without tensors, entry by entry. */
struct builder {
    struct buf kv;
    uint64_t n_kv;
    struct buf file;
};

static inline void add_key(struct builder *b, const char *key, uint32_t type) {
    put_str(&b->kv, key, strlen(key));
    put_u32(&b->kv, type);
    b->n_kv++;
}

static inline void add_str(struct builder *b, const char *key, const char *s) {
    add_key(b, key, GGUF_STRING);
    put_str(&b->kv, s, strlen(s));
}

static inline void add_u32(struct builder *b, const char *key, uint32_t v) {
    add_key(b, key, GGUF_U32);
    put_u32(&b->kv, v);
}

static inline void add_strs(struct builder *b, const char *key, const char *const *s, size_t n) {
    add_key(b, key, GGUF_ARRAY);
    put_u32(&b->kv, GGUF_STRING);
    put_u64(&b->kv, n);
    for (size_t i = 0; i < n; i++) {
        put_str(&b->kv, s[i], strlen(s[i]));
    }
}

static inline void add_i32s(struct builder *b, const char *key, const int32_t *v, size_t n) {
    add_key(b, key, GGUF_ARRAY);
    put_u32(&b->kv, GGUF_I32);
    put_u64(&b->kv, n);
    put_raw(&b->kv, v, n * 4);
}

static inline struct gguf_file *build_file(struct builder *b) {
    buf_puts(&b->file, "GGUF");
    put_u32(&b->file, 3);
    put_u64(&b->file, 0);
    put_u64(&b->file, b->n_kv);
    put_raw(&b->file, b->kv.data, b->kv.len);
    assert_false(b->file.failed || b->kv.failed);
    struct gguf_file *file = NULL;
    sluice_error err = {0};
    if (gguf_open_memory(b->file.data, b->file.len, "test", &file, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    return file;
}

static inline void builder_free(struct builder *b) {
    buf_free(&b->kv);
    buf_free(&b->file);
}

/* A vocabulary: the given tokens first (kinds beside them), then the 256 byte tokens that are not among them. */
struct vocab { /* holds pointers into itself: not to be copied */
    const char *token[MAX_TOKS];
    int32_t kind[MAX_TOKS];
    size_t n;
    char byte_text[256][5];
};

/* The character of GPT-2's byte alphabet for a byte. */
static inline void alphabet_char(unsigned byte, char out[5]) {
    uint32_t cp = byte;
    if (byte <= 0x20) {
        cp = 0x100 + byte;
    } else if (byte >= 0x7F && byte <= 0xA0) {
        cp = 0x121 + byte - 0x7F;
    } else if (byte == 0xAD) {
        cp = 0x143;
    }
    out[utf8_encode(cp, out)] = '\0';
}

static inline int32_t vocab_add(struct vocab *v, const char *text, int32_t kind) {
    assert_true(v->n < MAX_TOKS);
    v->token[v->n] = text;
    v->kind[v->n] = kind;
    return (int32_t)v->n++;
}

static inline void vocab_add_bytes(struct vocab *v) {
    for (unsigned byte = 0; byte < 256; byte++) {
        alphabet_char(byte, v->byte_text[byte]);
        bool there = false;
        for (size_t i = 0; i < v->n; i++) {
            there |= strcmp(v->token[i], v->byte_text[byte]) == 0;
        }
        if (!there) {
            vocab_add(v, v->byte_text[byte], TOKEN_NORMAL);
        }
    }
}

static inline void add_vocab(struct builder *b, const struct vocab *v, const char *const *merges, size_t n_merges) {
    add_str(b, "general.architecture", "lfm2");
    add_str(b, "tokenizer.ggml.model", "gpt2");
    add_str(b, "tokenizer.ggml.pre", "lfm2");
    add_strs(b, "tokenizer.ggml.tokens", v->token, v->n);
    add_i32s(b, "tokenizer.ggml.token_type", v->kind, v->n);
    add_strs(b, "tokenizer.ggml.merges", merges, n_merges);
}

static inline struct tokenizer *load_file(const struct gguf_file *file) {
    struct tokenizer *t = NULL;
    sluice_error err = {0};
    if (tokenizer_load(file, &t, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    return t;
}

static inline struct tokenizer *load_vocab(const struct vocab *v, const char *const *merges, size_t n_merges) {
    struct builder b = {0};
    add_vocab(&b, v, merges, n_merges);
    struct gguf_file *file = build_file(&b);
    struct tokenizer *t = load_file(file);
    gguf_close(file);
    builder_free(&b);
    return t;
}

static inline struct tokenizer *load_golden(void) {
    struct gguf_file *file = NULL;
    sluice_error err = {0};
    if (gguf_open(VOCAB, &file, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    struct tokenizer *t = load_file(file);
    gguf_close(file); /* the tokenizer keeps nothing of the file */
    return t;
}

static inline struct token_vec encode(const struct tokenizer *t, const char *s, size_t n, bool parse_special) {
    struct token_vec out = {0};
    sluice_error err = {0};
    if (tokenizer_encode(t, s, n, parse_special, &out, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    return out;
}

/* "12 7 300" for messages and comparison. Overwritten by the next call but one. */
static inline const char *show_ids(const int32_t *ids, size_t n) {
    static char text[2][8192];
    static int turn;
    char *out = text[turn ^= 1];
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n && len + 16 < sizeof text[0]; i++) {
        len += (size_t)snprintf(out + len, sizeof text[0] - len, i ? " %d" : "%d", ids[i]);
    }
    return out;
}

static inline struct buf decode(const struct tokenizer *t, const struct token_vec *v) {
    struct buf out = {0};
    for (size_t i = 0; i < v->n; i++) {
        size_t n = 0;
        const char *bytes = tokenizer_bytes(t, v->ids[i], &n);
        buf_append(&out, bytes, n);
    }
    return out;
}

/* Small, seeded, the same on every machine. */
static inline uint32_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

#endif
