/* tokenizer.ggml.merges: "left right" strings by rank -> a hash table over pairs of symbols. */
#include "base/buf.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"
#include "text/tokenizer_impl.h"

#include <string.h>

/* GPT-2's byte alphabet: printable Latin-1 stands for itself, the other 68 bytes follow from U+0100 on, in order. */
static int alphabet_byte(uint32_t cp) {
    if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xAC) || (cp >= 0xAE && cp <= 0xFF)) {
        return (int)cp;
    }
    if (cp >= 0x100 && cp <= 0x120) {
        return (int)(cp - 0x100); /* 00..20 */
    }
    if (cp >= 0x121 && cp <= 0x142) {
        return (int)(cp - 0x121 + 0x7F); /* 7F..A0 */
    }
    return cp == 0x143 ? 0xAD : -1;
}

bool alphabet_decode(const char *s, size_t n, char *out, size_t *n_out) {
    size_t i = 0, len = 0;
    while (i < n) {
        uint32_t cp;
        size_t used = utf8_decode(s + i, n - i, &cp);
        int byte = used ? alphabet_byte(cp) : -1;
        if (byte < 0) {
            memcpy(out, s, n);
            *n_out = n;
            return false;
        }
        out[len++] = (char)byte;
        i += used;
    }
    *n_out = len;
    return true;
}

/* Strings that merges mention and the vocabulary lacks. llama.cpp merges strings, so they take part; only at the end
 * they come apart into bytes again. Rare, mostly none. */
struct extras {
    struct buf bytes;
    size_t *start;   /* [n + 1] */
    uint64_t *hash;  /* [n] */
    uint32_t n, cap; /* entries */
    struct hash_map map;
};

static void extras_free(struct extras *x) {
    buf_free(&x->bytes);
    mem_free(x->start);
    mem_free(x->hash);
    hash_map_free(&x->map);
}

static sluice_status extras_grow(struct extras *x, sluice_error *err) {
    uint32_t cap = x->cap ? 2 * x->cap : 64;
    size_t *start = mem_realloc(x->start, (cap + 1) * sizeof *start);
    x->start = start ? start : x->start;
    uint64_t *hash = mem_realloc(x->hash, cap * sizeof *hash);
    x->hash = hash ? hash : x->hash;
    if (!start || !hash) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the tokenizer's merges");
    }
    struct hash_map map;
    TRY(hash_map_init(&map, cap, err));
    for (uint32_t i = 0; i < x->n; i++) {
        hash_map_put(&map, x->hash[i], i);
    }
    hash_map_free(&x->map);
    x->map = map;
    x->cap = cap;
    return SLUICE_OK;
}

static sluice_status extras_intern(struct extras *x, const char *s, size_t n, uint64_t hash, uint32_t *out,
                                   sluice_error *err) {
    if (x->n == x->cap) {
        TRY(extras_grow(x, err));
        x->start[x->n] = x->bytes.len;
    }
    for (uint64_t i = hash & x->map.mask; x->map.slots[i].value; i = (i + 1) & x->map.mask) {
        uint32_t k = x->map.slots[i].value - 1;
        if (x->hash[k] == hash && x->start[k + 1] - x->start[k] == n &&
            memcmp(x->bytes.data + x->start[k], s, n) == 0) {
            *out = k;
            return SLUICE_OK;
        }
    }
    buf_append(&x->bytes, s, n);
    if (x->bytes.failed) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the tokenizer's merges");
    }
    x->hash[x->n] = hash;
    x->start[x->n + 1] = x->bytes.len;
    hash_map_put(&x->map, hash, x->n);
    *out = x->n++;
    return SLUICE_OK;
}

static sluice_status intern(const struct tokenizer *t, struct extras *x, const char *s, size_t n, uint32_t *symbol,
                            sluice_error *err) {
    if (n == 1) {
        *symbol = (unsigned char)s[0];
        return SLUICE_OK;
    }
    uint64_t hash = text_hash(s, n);
    int32_t id = word_find(t, s, n, hash);
    if (id >= 0) {
        *symbol = 256 + (uint32_t)id;
        return SLUICE_OK;
    }
    uint32_t k = 0;
    TRY(extras_intern(x, s, n, hash, &k, err));
    *symbol = 256 + t->n_vocab + k;
    return SLUICE_OK;
}

/* The first merge of a pair counts, as in llama.cpp. */
static void merge_put(struct tokenizer *t, struct merge m) {
    uint64_t i = merge_hash(m.left, m.right) & t->merge_mask;
    while (t->merges[i].rank != NO_RANK) {
        if (t->merges[i].left == m.left && t->merges[i].right == m.right) {
            return;
        }
        i = (i + 1) & t->merge_mask;
    }
    t->merges[i] = m;
    if (m.left < 256 && m.right < 256) {
        t->byte_pairs[m.left << 8 | m.right] = (uint32_t)i + 1;
    }
}

static sluice_status tables_create(struct tokenizer *t, uint64_t n, sluice_error *err) {
    size_t cap = 16;
    while (cap < 2 * n) {
        cap *= 2;
    }
    t->merges = mem_alloc(cap * sizeof *t->merges);
    t->byte_pairs = mem_calloc(65536, sizeof *t->byte_pairs);
    if (!t->merges || !t->byte_pairs) {
        return fail(err, SLUICE_E_NOMEM, "no memory for %llu merges", (unsigned long long)n);
    }
    memset(t->merges, 0xFF, cap * sizeof *t->merges);
    t->merge_mask = cap - 1;
    return SLUICE_OK;
}

/* One line; scratch has room for its bytes. Lines that can never apply (no separator, an empty side, characters outside
 * the alphabet) are passed over, as llama.cpp does. */
static sluice_status add_line(struct tokenizer *t, struct extras *x, struct gguf_str line, uint32_t rank, char *scratch,
                              sluice_error *err) {
    const char *space = line.n > 1 ? memchr(line.s + 1, ' ', line.n - 1) : NULL;
    if (!space) {
        return SLUICE_OK;
    }
    size_t n_left = (size_t)(space - line.s), n_right = line.n - n_left - 1, left = 0, right = 0;
    if (!alphabet_decode(line.s, n_left, scratch, &left) ||
        !alphabet_decode(space + 1, n_right, scratch + left, &right) || right == 0) {
        return SLUICE_OK;
    }
    struct merge m = {.rank = rank};
    TRY(intern(t, x, scratch, left, &m.left, err));
    TRY(intern(t, x, scratch + left, right, &m.right, err));
    TRY(intern(t, x, scratch, left + right, &m.result, err));
    merge_put(t, m);
    return SLUICE_OK;
}

sluice_status merges_load(struct tokenizer *t, const struct gguf_kv *kv, sluice_error *err) {
    TRY(tables_create(t, kv->n, err));
    size_t longest = 0;
    for (uint64_t i = 0; i < kv->n; i++) {
        longest = kv->strings[i].n > longest ? kv->strings[i].n : longest;
    }
    char *scratch = mem_alloc(longest);
    if (!scratch) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the tokenizer's merges");
    }
    struct extras x = {0};
    sluice_status status = SLUICE_OK;
    for (uint64_t i = 0; i < kv->n && status == SLUICE_OK; i++) {
        status = add_line(t, &x, kv->strings[i], (uint32_t)i, scratch, err);
    }
    extras_free(&x);
    mem_free(scratch);
    return status;
}
