/*
 * Inside the tokenizer. Merging works on *symbols*, numbered so that no table is needed to go from one to its token:
 *
 *   0..255              single bytes
 *   256 + id            the text of token id (normal tokens of two bytes or more)
 *   256 + n_vocab + k   strings that merges build but the vocabulary lacks
 */
#ifndef TEXT_TOKENIZER_IMPL_H
#define TEXT_TOKENIZER_IMPL_H

#include "text/pretok.h"
#include "text/tokenizer.h"

#define NO_SYMBOL UINT32_MAX
#define NO_RANK   UINT32_MAX

/* Token flags above the kind. */
#define TOKEN_KIND_MASK 7u
#define TOKEN_IS_END    8u
#define TOKEN_IS_MARKER 16u /* part of the chat format: never taken from message text, whatever its kind */

/* Open addressing over keys that live elsewhere: the tag filters, the caller compares. */
struct hash_slot {
    uint32_t tag;   /* upper half of the hash */
    uint32_t value; /* index + 1; 0 = empty */
};

struct hash_map {
    struct hash_slot *slots;
    uint64_t mask;
};

struct merge { /* (left, right) -> result */
    uint32_t left, right;
    uint32_t rank; /* NO_RANK = empty slot */
    uint32_t result;
};

/* How written-out special tokens in a text are treated. */
enum encode_mode {
    ENCODE_PLAIN,   /* user-defined tokens are cut out */
    ENCODE_SPECIAL, /* control tokens as well */
    ENCODE_CONTENT, /* user-defined ones that are not chat markers: message text */
    ENCODE_MODES
};

struct special {
    uint32_t id;
    uint32_t len;
    uint8_t modes; /* bit per encode_mode */
};

/* What lets a scan skip text in which no special token of a mode can start. */
struct special_filter {
    uint64_t pairs[1024]; /* bit (first byte << 8 | second byte) */
    uint32_t *lengths;    /* distinct lengths, longest first */
    uint32_t n_lengths;
};

struct tokenizer {
    uint32_t n_vocab;
    uint32_t *start; /* [n_vocab + 1] into bytes */
    char *bytes;     /* what each token stands for, one after the other */
    uint8_t *flags;  /* [n_vocab] kind and TOKEN_IS_* */
    int32_t byte_token[256];
    int32_t bos, eos, unknown;
    bool add_bos;

    struct hash_map words; /* bytes -> id of a normal token */
    struct merge *merges;  /* hash table by (left, right) */
    uint64_t merge_mask;
    uint32_t *byte_pairs; /* [65536] index into merges + 1 for two single bytes, 0 = none */

    struct special *specials; /* longest first, then by id: the order in which they cut */
    uint32_t n_specials;
    struct hash_map special_map; /* text -> index into specials */
    struct special_filter filters[ENCODE_MODES];

    struct pretok *pretok;
};

/* One call's working memory. */
struct cached_word;
struct encoder {
    const struct tokenizer *t;
    struct token_vec *out;
    sluice_error *err;
    struct pretok_match *match;
    struct cached_word *cache; /* NULL for short texts */
    uint32_t cache_mask;
};

/* ---- hash.c */
uint64_t text_hash(const char *s, size_t n);
sluice_status hash_map_init(struct hash_map *m, size_t n_keys,
                            sluice_error *err);                       /* room for n_keys, at most half full */
void hash_map_put(struct hash_map *m, uint64_t hash, uint32_t index); /* the key must not be in it */
void hash_map_free(struct hash_map *m);
static inline uint64_t merge_hash(uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}
/* The id of a normal token with exactly these bytes, or -1. */
int32_t word_find(const struct tokenizer *t, const char *s, size_t n, uint64_t hash);
/* Index into specials, or -1. */
int32_t special_find(const struct tokenizer *t, const char *s, size_t n, uint64_t hash);

/* ---- merges.c: reads tokenizer.ggml.merges once words are known. */
sluice_status merges_load(struct tokenizer *t, const struct gguf_kv *kv, sluice_error *err);
/* The bytes that a text in the GPT-2 byte alphabet stands for; false (and the text as it is) if it has other
 * characters. out has room for n bytes. */
bool alphabet_decode(const char *s, size_t n, char *out, size_t *n_out);

/* ---- bpe.c: appends the ids of one pre-token, n > 0. */
sluice_status bpe_append(struct encoder *e, const char *s, size_t n);
/* Before the first bpe_append, for a text of n bytes. Long texts get a cache of the words they repeat. */
void bpe_start(struct encoder *e, size_t n);
void bpe_end(struct encoder *e);

/* ---- special.c */
sluice_status specials_build(struct tokenizer *t, sluice_error *err);
void specials_free(struct tokenizer *t);
struct cut { /* a special token found in a text */
    size_t at;
    uint32_t special;
};
/* All cuts of s[0..n) by position; *cuts is mem_alloc'ed or NULL. */
sluice_status specials_cut(const struct tokenizer *t, const char *s, size_t n, enum encode_mode mode, struct cut **cuts,
                           size_t *n_cuts, sluice_error *err);

/* ---- tokenizer.c: tokenizer_encode with the mode spelled out. */
sluice_status tokenizer_encode_mode(const struct tokenizer *t, const char *s, size_t n, enum encode_mode mode,
                                    struct token_vec *out, sluice_error *err);
sluice_status token_vec_reserve(struct token_vec *v, size_t more, sluice_error *err);

#endif
