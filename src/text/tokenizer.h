/*
 * Byte-level BPE as LFM2's GGUFs define it (lfm2.md 4.2): user-defined and control tokens are cut out first, the rest is
 * split by the pre-tokenizer's regex, mapped through the GPT-2 byte alphabet and merged by rank. Immutable once loaded,
 * so any number of threads may use one tokenizer.
 */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include "gguf/gguf.h"
#include "sluice.h"

struct tokenizer;

enum token_kind {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6
};

/* A growable array of ids. */
struct token_vec {
    int32_t *ids; /* mem_alloc'ed */
    size_t n, cap;
};

sluice_status token_vec_push(struct token_vec *v, int32_t id, sluice_error *err);
void token_vec_free(struct token_vec *v);

/* Reads tokenizer.ggml.* of a file. SLUICE_E_UNSUPPORTED names a model or pre-tokenizer that is not known. */
sluice_status tokenizer_load(const struct gguf_file *file, struct tokenizer **out, sluice_error *err);
void tokenizer_free(struct tokenizer *t);

/* Appends the ids of s[0..n). parse_special: written-out control tokens become their ids; user-defined tokens always do.
 * Nothing else is added: BOS is the caller's business. */
sluice_status tokenizer_encode(const struct tokenizer *t, const char *s, size_t n, bool parse_special,
                               struct token_vec *out, sluice_error *err);

uint32_t tokenizer_n_vocab(const struct tokenizer *t);
/* The bytes of a token (control tokens: as written); *n = 0 for unused or out-of-range ids. */
const char *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *n);
enum token_kind tokenizer_kind(const struct tokenizer *t, int32_t id); /* TOKEN_UNUSED when out of range */
/* The id of a token by its exact text, control tokens included; -1 if there is none. */
int32_t tokenizer_find(const struct tokenizer *t, const char *text);
int32_t tokenizer_bos(const struct tokenizer *t); /* -1 if none */
int32_t tokenizer_eos(const struct tokenizer *t);
bool tokenizer_add_bos(const struct tokenizer *t);
bool tokenizer_is_end(const struct tokenizer *t, int32_t id);

/* Streaming detokenizer: bytes in, whole UTF-8 sequences out. Keeps at most 3 bytes back; a byte that can never become
 * valid comes out as U+FFFD. */
struct detok {
    char pending[4];
    uint8_t n_pending;
};

struct buf; /* base/buf.h */
/* Appends what the next bytes complete. */
void detok_push(struct detok *d, const char *bytes, size_t n, struct buf *out);
/* End of text: what is still pending comes out as U+FFFD. */
void detok_flush(struct detok *d, struct buf *out);

#endif
