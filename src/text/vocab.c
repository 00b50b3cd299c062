/* tokenizer.ggml.* of a GGUF -> struct tokenizer (lfm2.md 4.1 - 4.3). */
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "text/tokenizer_impl.h"

#include <string.h>

#define KEY(name) "tokenizer.ggml." name

static bool str_is(struct gguf_str s, const char *text) {
    return s.n == strlen(text) && memcmp(s.s, text, s.n) == 0;
}

/* Up to 40 printable characters of bytes from a file, for an error sentence. */
static const char *printable(struct gguf_str s, char out[48]) {
    size_t n = s.n < 40 ? s.n : 40;
    for (size_t i = 0; i < n; i++) {
        out[i] = s.s[i] >= 0x20 && s.s[i] < 0x7F ? s.s[i] : '?';
    }
    strcpy(out + n, s.n > n ? "..." : "");
    return out;
}

static sluice_status check_names(const struct gguf_file *file, sluice_error *err) {
    char shown[48];
    struct gguf_str model = {0}, pre = {0};
    TRY(gguf_get_str(file, KEY("model"), &model, err));
    if (!str_is(model, "gpt2")) {
        return fail(err, SLUICE_E_UNSUPPORTED, "tokenizer model '%s' is not supported; only gpt2 (byte-level BPE) is",
                    printable(model, shown));
    }
    TRY(gguf_get_str(file, KEY("pre"), &pre, err));
    if (!str_is(pre, "lfm2") && !str_is(pre, "llama-bpe") && !str_is(pre, "llama3")) {
        return fail(err, SLUICE_E_UNSUPPORTED,
                    "pre-tokenizer '%s' is not supported; only lfm2, llama-bpe and llama3 are", printable(pre, shown));
    }
    return SLUICE_OK;
}

static sluice_status find_array(const struct gguf_file *file, const char *key, bool strings, const struct gguf_kv **out,
                                sluice_error *err) {
    const struct gguf_kv *kv = gguf_find(file, key);
    if (!kv) {
        return fail(err, SLUICE_E_FORMAT, "%s is missing; the file has no complete vocabulary", key);
    }
    if (kv->type != GGUF_ARRAY || (kv->elem_type == GGUF_STRING) != strings) {
        return fail(err, SLUICE_E_FORMAT, "%s is not an array of %s", key, strings ? "strings" : "integers");
    }
    *out = kv;
    return SLUICE_OK;
}

/* ---- Tokens -------------------------------------------------------------------------------------------------- */

struct sources {
    const struct gguf_kv *tokens, *types, *merges; /* types may be NULL: all tokens are normal */
};

static sluice_status find_sources(const struct gguf_file *file, struct sources *src, sluice_error *err) {
    TRY(find_array(file, KEY("tokens"), true, &src->tokens, err));
    TRY(find_array(file, KEY("merges"), true, &src->merges, err));
    if (src->tokens->n == 0 || src->tokens->n > LIMIT_VOCAB) {
        return fail(err, SLUICE_E_FORMAT, KEY("tokens") " has %llu entries; 1 to %u are allowed",
                    (unsigned long long)src->tokens->n, LIMIT_VOCAB);
    }
    if (gguf_find(file, KEY("token_type"))) {
        TRY(find_array(file, KEY("token_type"), false, &src->types, err));
        if (src->types->n < src->tokens->n) {
            return fail(err, SLUICE_E_FORMAT, KEY("token_type") " has %llu entries for %llu tokens",
                        (unsigned long long)src->types->n, (unsigned long long)src->tokens->n);
        }
    }
    return SLUICE_OK;
}

/* End-of-turn texts are control tokens even where a file says otherwise (llama.cpp does the same). */
static bool is_end_text(struct gguf_str s) {
    return str_is(s, "<|im_end|>") || str_is(s, "<|endoftext|>");
}

static bool is_marker_text(struct gguf_str s) {
    return (s.n > 4 && memcmp(s.s, "<|", 2) == 0 && memcmp(s.s + s.n - 2, "|>", 2) == 0) || str_is(s, "<think>") ||
           str_is(s, "</think>");
}

static sluice_status token_flags(const struct sources *src, uint32_t id, uint8_t *flags, sluice_error *err) {
    struct gguf_str text = src->tokens->strings[id];
    int64_t kind = TOKEN_NORMAL;
    if (src->types && !gguf_kv_int(src->types, id, &kind)) {
        return fail(err, SLUICE_E_FORMAT, KEY("token_type") " of token %u is not an integer", id);
    }
    if (kind < 0 || kind > TOKEN_BYTE) {
        return fail(err, SLUICE_E_FORMAT, KEY("token_type") " of token %u is %lld; 1 to 6 are defined", id,
                    (long long)kind);
    }
    kind = kind == 0 ? TOKEN_NORMAL : kind; /* "undefined" */
    if (text.n == 0) {
        kind = TOKEN_UNUSED;
    }
    *flags = (uint8_t)kind;
    if (kind != TOKEN_UNUSED && is_end_text(text)) {
        *flags = TOKEN_CONTROL | TOKEN_IS_END;
    }
    if (is_marker_text(text)) {
        *flags |= TOKEN_IS_MARKER;
    }
    return SLUICE_OK;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What a token stands for, written to out (room for its text). *plain: pre-tokens may become it. */
static size_t token_bytes(struct gguf_str text, unsigned kind, char *out, bool *plain) {
    size_t n = 0;
    *plain = false;
    switch (kind) {
    case TOKEN_UNUSED:
        return 0;
    case TOKEN_NORMAL:
        *plain = alphabet_decode(text.s, text.n, out, &n);
        return n;
    case TOKEN_BYTE: /* <0xHH> */
        if (text.n == 6 && memcmp(text.s, "<0x", 3) == 0 && text.s[5] == '>' && hex_digit(text.s[3]) >= 0 &&
            hex_digit(text.s[4]) >= 0) {
            out[0] = (char)(hex_digit(text.s[3]) * 16 + hex_digit(text.s[4]));
            return 1;
        }
        break;
    default:
        break;
    }
    memcpy(out, text.s, text.n);
    return text.n;
}

static sluice_status read_tokens(struct tokenizer *t, const struct sources *src, sluice_error *err) {
    uint64_t total = 0;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        total += src->tokens->strings[id].n;
    }
    if (total > UINT32_MAX) {
        return fail(err, SLUICE_E_LIMIT, KEY("tokens") " holds %llu bytes of text; at most 4 GiB are allowed",
                    (unsigned long long)total);
    }
    TRY(hash_map_init(&t->words, t->n_vocab, err));
    t->start = mem_alloc(((size_t)t->n_vocab + 1) * sizeof *t->start);
    t->flags = mem_alloc(t->n_vocab);
    t->bytes = mem_alloc(total);
    if (!t->start || !t->flags || !t->bytes) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a vocabulary of %u tokens", t->n_vocab);
    }
    memset(t->byte_token, 0xFF, sizeof t->byte_token);
    t->start[0] = 0;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        TRY(token_flags(src, id, &t->flags[id], err));
        bool plain;
        char *bytes = t->bytes + t->start[id];
        size_t n = token_bytes(src->tokens->strings[id], t->flags[id] & TOKEN_KIND_MASK, bytes, &plain);
        t->start[id + 1] = t->start[id] + (uint32_t)n;
        if (plain) {
            hash_map_put(&t->words, text_hash(bytes, n), id);
        }
        if (plain && n == 1) {
            t->byte_token[(unsigned char)bytes[0]] = (int32_t)id;
        }
    }
    return SLUICE_OK;
}

/* A text with two ids would make encoding a matter of chance. */
static sluice_status check_duplicates(const struct gguf_kv *tokens, sluice_error *err) {
    struct hash_map seen = {0};
    char shown[48];
    TRY(hash_map_init(&seen, tokens->n, err));
    sluice_status status = SLUICE_OK;
    for (uint32_t id = 0; id < tokens->n && status == SLUICE_OK; id++) {
        struct gguf_str s = tokens->strings[id];
        if (s.n == 0) {
            continue;
        }
        uint64_t hash = text_hash(s.s, s.n);
        for (uint64_t i = hash & seen.mask; seen.slots[i].value; i = (i + 1) & seen.mask) {
            uint32_t other = seen.slots[i].value - 1;
            struct gguf_str o = tokens->strings[other];
            if (seen.slots[i].tag == (uint32_t)(hash >> 32) && o.n == s.n && memcmp(o.s, s.s, s.n) == 0) {
                status = fail(err, SLUICE_E_FORMAT, KEY("tokens") ": '%s' is there twice, as %u and as %u",
                              printable(s, shown), other, id);
                break;
            }
        }
        hash_map_put(&seen, hash, id);
    }
    hash_map_free(&seen);
    return status;
}

/* ---- Named ids ----------------------------------------------------------------------------------------------- */

/* An id outside the vocabulary counts as none, as in llama.cpp. */
static sluice_status named_id(const struct tokenizer *t, const struct gguf_file *file, const char *key, int32_t *id,
                              sluice_error *err) {
    const struct gguf_kv *kv = gguf_find(file, key);
    int64_t v = -1;
    *id = -1;
    if (kv && (kv->type == GGUF_ARRAY || !gguf_kv_int(kv, 0, &v))) {
        return fail(err, SLUICE_E_FORMAT, "%s is not an integer", key);
    }
    if (v >= 0 && v < t->n_vocab) {
        *id = (int32_t)v;
    }
    return SLUICE_OK;
}

static sluice_status read_ids(struct tokenizer *t, const struct gguf_file *file, sluice_error *err) {
    int32_t eot = -1;
    TRY(named_id(t, file, KEY("bos_token_id"), &t->bos, err));
    TRY(named_id(t, file, KEY("eos_token_id"), &t->eos, err));
    TRY(named_id(t, file, KEY("eot_token_id"), &eot, err));
    TRY(named_id(t, file, KEY("unknown_token_id"), &t->unknown, err));
    if (t->eos >= 0) {
        t->flags[t->eos] |= TOKEN_IS_END;
    }
    if (eot >= 0) {
        t->flags[eot] |= TOKEN_IS_END;
    }
    t->add_bos = true;
    TRY(gguf_opt_bool(file, KEY("add_bos_token"), &t->add_bos, err));
    t->add_bos = t->add_bos && t->bos >= 0;
    return SLUICE_OK;
}

static sluice_status load(struct tokenizer *t, const struct gguf_file *file, sluice_error *err) {
    struct sources src = {0};
    TRY(check_names(file, err));
    TRY(find_sources(file, &src, err));
    t->n_vocab = (uint32_t)src.tokens->n;
    TRY(check_duplicates(src.tokens, err));
    TRY(read_tokens(t, &src, err));
    TRY(specials_build(t, err));
    TRY(merges_load(t, src.merges, err));
    TRY(read_ids(t, file, err));
    return pretok_create(true, &t->pretok, err);
}

sluice_status tokenizer_load(const struct gguf_file *file, struct tokenizer **out, sluice_error *err) {
    struct tokenizer *t = mem_calloc(1, sizeof *t);
    if (!t) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the tokenizer");
    }
    sluice_status status = load(t, file, err);
    if (status != SLUICE_OK) {
        tokenizer_free(t);
        return status;
    }
    *out = t;
    return SLUICE_OK;
}

void tokenizer_free(struct tokenizer *t) {
    if (!t) {
        return;
    }
    pretok_free(t->pretok);
    specials_free(t);
    hash_map_free(&t->words);
    mem_free(t->merges);
    mem_free(t->byte_pairs);
    mem_free(t->start);
    mem_free(t->bytes);
    mem_free(t->flags);
    mem_free(t);
}
