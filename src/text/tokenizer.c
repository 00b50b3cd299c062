#include "text/tokenizer.h"

#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"
#include "text/tokenizer_impl.h"

#include <string.h>

/* ---- Ids ----------------------------------------------------------------------------------------------------- */

sluice_status token_vec_reserve(struct token_vec *v, size_t more, sluice_error *err) {
    if (more <= v->cap - v->n) {
        return SLUICE_OK;
    }
    if (more > SIZE_MAX / 8 - v->n) {
        return fail(err, SLUICE_E_NOMEM, "no memory for %zu more tokens", more);
    }
    size_t cap = v->cap ? v->cap + v->cap / 2 : 32;
    cap = cap < v->n + more ? v->n + more : cap;
    int32_t *ids = mem_realloc(v->ids, cap * sizeof *ids);
    if (!ids) {
        return fail(err, SLUICE_E_NOMEM, "no memory for %zu tokens", cap);
    }
    v->ids = ids;
    v->cap = cap;
    return SLUICE_OK;
}

sluice_status token_vec_push(struct token_vec *v, int32_t id, sluice_error *err) {
    if (v->n == v->cap) {
        TRY(token_vec_reserve(v, 1, err));
    }
    v->ids[v->n++] = id;
    return SLUICE_OK;
}

void token_vec_free(struct token_vec *v) {
    mem_free(v->ids);
    *v = (struct token_vec){0};
}

/* ---- Encoding ------------------------------------------------------------------------------------------------ */

/* A stretch of valid UTF-8. */
static sluice_status encode_words(struct encoder *e, const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        size_t len = 0;
        TRY(pretok_next(e->t->pretok, &e->match, s + i, n - i, &len, e->err));
        TRY(bpe_append(e, s + i, len));
        i += len;
    }
    return SLUICE_OK;
}

static size_t invalid_run(const char *s, size_t n) {
    size_t i = 0;
    uint32_t cp;
    while (i < n && utf8_decode(s + i, n - i, &cp) == 0) {
        i++;
    }
    return i;
}

/* Text without special tokens. A run of bytes that are not UTF-8 is a pre-token of its own: the pattern knows only
 * characters, and no byte may get lost. */
static sluice_status encode_text(struct encoder *e, const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        size_t valid = utf8_valid_prefix(s + i, n - i);
        TRY(encode_words(e, s + i, valid));
        i += valid;
        size_t invalid = invalid_run(s + i, n - i);
        if (invalid) {
            TRY(bpe_append(e, s + i, invalid));
            i += invalid;
        }
    }
    return SLUICE_OK;
}

static sluice_status encode_cut(struct encoder *e, const char *s, size_t n, const struct cut *cuts, size_t n_cuts) {
    size_t from = 0;
    for (size_t i = 0; i < n_cuts; i++) {
        const struct special *sp = &e->t->specials[cuts[i].special];
        TRY(encode_text(e, s + from, cuts[i].at - from));
        TRY(token_vec_push(e->out, (int32_t)sp->id, e->err));
        from = cuts[i].at + sp->len;
    }
    return encode_text(e, s + from, n - from);
}

sluice_status tokenizer_encode_mode(const struct tokenizer *t, const char *s, size_t n, enum encode_mode mode,
                                    struct token_vec *out, sluice_error *err) {
    if (n == 0) {
        return SLUICE_OK;
    }
    struct cut *cuts = NULL;
    size_t n_cuts = 0, n_before = out->n;
    TRY(specials_cut(t, s, n, mode, &cuts, &n_cuts, err));
    struct encoder e = {.t = t, .out = out, .err = err};
    bpe_start(&e, n);
    sluice_status status = encode_cut(&e, s, n, cuts, n_cuts);
    bpe_end(&e);
    pretok_match_free(e.match);
    mem_free(cuts);
    if (status != SLUICE_OK) {
        out->n = n_before;
    }
    return status;
}

sluice_status tokenizer_encode(const struct tokenizer *t, const char *s, size_t n, bool parse_special,
                               struct token_vec *out, sluice_error *err) {
    return tokenizer_encode_mode(t, s, n, parse_special ? ENCODE_SPECIAL : ENCODE_PLAIN, out, err);
}

/* ---- The vocabulary ------------------------------------------------------------------------------------------ */

uint32_t tokenizer_n_vocab(const struct tokenizer *t) {
    return t->n_vocab;
}

static bool in_range(const struct tokenizer *t, int32_t id) {
    return id >= 0 && (uint32_t)id < t->n_vocab;
}

const char *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *n) {
    if (!in_range(t, id)) {
        *n = 0;
        return "";
    }
    *n = t->start[id + 1] - t->start[id];
    return t->bytes + t->start[id];
}

enum token_kind tokenizer_kind(const struct tokenizer *t, int32_t id) {
    return in_range(t, id) ? (enum token_kind)(t->flags[id] & TOKEN_KIND_MASK) : TOKEN_UNUSED;
}

int32_t tokenizer_find(const struct tokenizer *t, const char *text) {
    size_t n = strlen(text);
    uint64_t hash = text_hash(text, n);
    int32_t i = special_find(t, text, n, hash);
    return i >= 0 ? (int32_t)t->specials[i].id : word_find(t, text, n, hash);
}

int32_t tokenizer_bos(const struct tokenizer *t) {
    return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t) {
    return t->eos;
}

bool tokenizer_add_bos(const struct tokenizer *t) {
    return t->add_bos;
}

bool tokenizer_is_end(const struct tokenizer *t, int32_t id) {
    return in_range(t, id) && (t->flags[id] & TOKEN_IS_END);
}
