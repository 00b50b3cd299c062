/*
 * Special tokens written out in a text. They cut in the order "longest token first, then by id", each from left to
 * right in what the ones before it left over (llama.cpp's order; not leftmost-longest where tokens overlap).
 *
 * So that a large vocabulary costs nothing on ordinary text, one pass collects every occurrence of every special token
 * behind a two-byte filter; sorting the occurrences by that order and dropping those that overlap an earlier one gives
 * the same cuts.
 */
#include "base/mem.h"
#include "base/status.h"
#include "text/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

static uint8_t modes_of(unsigned flags) {
    switch (flags & TOKEN_KIND_MASK) {
    case TOKEN_CONTROL:
    case TOKEN_UNKNOWN:
        return 1u << ENCODE_SPECIAL;
    case TOKEN_USER_DEFINED:
        return 1u << ENCODE_SPECIAL | 1u << ENCODE_PLAIN | (flags & TOKEN_IS_MARKER ? 0 : 1u << ENCODE_CONTENT);
    default:
        return 0;
    }
}

static int cutting_order(const void *a, const void *b) {
    const struct special *x = a, *y = b;
    if (x->len != y->len) {
        return x->len < y->len ? 1 : -1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

static void filter_add(struct special_filter *f, const char *text, uint32_t len) {
    unsigned first = (unsigned char)text[0];
    if (len == 1) {
        memset(&f->pairs[first * 4], 0xFF, 4 * sizeof f->pairs[0]);
    } else {
        unsigned pair = first << 8 | (unsigned char)text[1];
        f->pairs[pair / 64] |= 1ull << (pair % 64);
    }
    if (f->n_lengths == 0 || f->lengths[f->n_lengths - 1] != len) {
        f->lengths[f->n_lengths++] = len; /* specials come longest first */
    }
}

sluice_status specials_build(struct tokenizer *t, sluice_error *err) {
    uint32_t n = 0;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        n += modes_of(t->flags[id]) != 0;
    }
    TRY(hash_map_init(&t->special_map, n, err));
    t->specials = mem_alloc(n * sizeof *t->specials);
    if (!t->specials) {
        return fail(err, SLUICE_E_NOMEM, "no memory for %u special tokens", n);
    }
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        uint8_t modes = modes_of(t->flags[id]);
        if (modes) {
            t->specials[t->n_specials++] = (struct special){id, t->start[id + 1] - t->start[id], modes};
        }
    }
    qsort(t->specials, n, sizeof *t->specials, cutting_order);
    for (int mode = 0; mode < ENCODE_MODES; mode++) {
        t->filters[mode].lengths = mem_alloc(n * sizeof(uint32_t));
        if (!t->filters[mode].lengths) {
            return fail(err, SLUICE_E_NOMEM, "no memory for %u special tokens", n);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct special *sp = &t->specials[i];
        const char *text = t->bytes + t->start[sp->id];
        hash_map_put(&t->special_map, text_hash(text, sp->len), i);
        for (int mode = 0; mode < ENCODE_MODES; mode++) {
            if (sp->modes & 1u << mode) {
                filter_add(&t->filters[mode], text, sp->len);
            }
        }
    }
    return SLUICE_OK;
}

void specials_free(struct tokenizer *t) {
    hash_map_free(&t->special_map);
    mem_free(t->specials);
    for (int mode = 0; mode < ENCODE_MODES; mode++) {
        mem_free(t->filters[mode].lengths);
    }
}

/* ---- Cutting ------------------------------------------------------------------------------------------------- */

struct cut_list {
    struct cut *at;
    size_t n, cap;
};

static sluice_status list_push(struct cut_list *l, struct cut c, sluice_error *err) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        struct cut *at = mem_realloc(l->at, cap * sizeof *at);
        if (!at) {
            return fail(err, SLUICE_E_NOMEM, "no memory for the special tokens of a text");
        }
        l->at = at;
        l->cap = cap;
    }
    l->at[l->n++] = c;
    return SLUICE_OK;
}

static sluice_status find_at(const struct tokenizer *t, const char *s, size_t n, size_t at, enum encode_mode mode,
                             struct cut_list *found, sluice_error *err) {
    const struct special_filter *f = &t->filters[mode];
    for (uint32_t k = 0; k < f->n_lengths; k++) {
        uint32_t len = f->lengths[k];
        if (len > n - at) {
            continue;
        }
        int32_t i = special_find(t, s + at, len, text_hash(s + at, len));
        if (i >= 0 && (t->specials[i].modes & 1u << mode)) {
            TRY(list_push(found, (struct cut){at, (uint32_t)i}, err));
        }
    }
    return SLUICE_OK;
}

static sluice_status find_all(const struct tokenizer *t, const char *s, size_t n, enum encode_mode mode,
                              struct cut_list *found, sluice_error *err) {
    const uint64_t *pairs = t->filters[mode].pairs;
    const unsigned char *u = (const unsigned char *)s;
    for (size_t i = 0; i < n; i++) {
        unsigned pair = (unsigned)u[i] << 8 | (i + 1 < n ? u[i + 1] : 0u);
        if (pairs[pair / 64] >> (pair % 64) & 1) {
            TRY(find_at(t, s, n, i, mode, found, err));
        }
    }
    return SLUICE_OK;
}

static int by_order(const void *a, const void *b) {
    const struct cut *x = a, *y = b;
    if (x->special != y->special) {
        return x->special < y->special ? -1 : 1;
    }
    return (x->at > y->at) - (x->at < y->at);
}

static int by_place(const void *a, const void *b) {
    const struct cut *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

sluice_status specials_cut(const struct tokenizer *t, const char *s, size_t n, enum encode_mode mode, struct cut **cuts,
                           size_t *n_cuts, sluice_error *err) {
    struct cut_list found = {0};
    *cuts = NULL;
    *n_cuts = 0;
    sluice_status status = t->filters[mode].n_lengths ? find_all(t, s, n, mode, &found, err) : SLUICE_OK;
    if (status != SLUICE_OK || found.n == 0) {
        mem_free(found.at);
        return status;
    }
    char *taken = mem_calloc(n, 1);
    if (!taken) {
        mem_free(found.at);
        return fail(err, SLUICE_E_NOMEM, "no memory for the special tokens of a text");
    }
    qsort(found.at, found.n, sizeof *found.at, by_order);
    size_t kept = 0;
    for (size_t i = 0; i < found.n; i++) {
        struct cut c = found.at[i];
        size_t len = t->specials[c.special].len;
        /* Whatever was taken before is at least as long, so an overlap covers one of this one's ends. */
        if (!taken[c.at] && !taken[c.at + len - 1]) {
            memset(taken + c.at, 1, len);
            found.at[kept++] = c;
        }
    }
    mem_free(taken);
    qsort(found.at, kept, sizeof *found.at, by_place);
    *cuts = found.at;
    *n_cuts = kept;
    return SLUICE_OK;
}
