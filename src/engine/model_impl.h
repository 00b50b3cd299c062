/*
 * What a sluice_model is inside the engine layer: the bound weights, and one table that says all the engine needs to
 * know of a token. The table keeps the engine free of the tokenizer, so an engine-only build and the tests run the same
 * code.
 */
#ifndef ENGINE_MODEL_IMPL_H
#define ENGINE_MODEL_IMPL_H

#include "model/model.h"
#include "sluice.h"

#ifndef SLUICE_WITH_TEXT
#define SLUICE_WITH_TEXT 1
#endif

enum token_flag {
    TOKEN_FLAG_END = 1,     /* ends a turn */
    TOKEN_FLAG_CONTROL = 2, /* left out of the text unless the request keeps control tokens */
    TOKEN_FLAG_MARKER = 4,  /* tool-call and tool-list marks: control tokens that always pass as text */
};

struct token_entry {
    const char *bytes; /* owned by the tokenizer; NULL for an unused id */
    uint32_t n_bytes;
    uint8_t flags; /* enum token_flag */
};

struct tokenizer;
struct model_hash;

struct sluice_model {
    struct model *model;         /* owns the file */
    struct tokenizer *tokenizer; /* NULL without a vocabulary */
    int chat_family;             /* enum chat_family */
    struct token_entry *tokens;  /* [info.n_vocab] */
    sluice_model_info info;
    char *name; /* what info.name points to */
    char *path;
    struct model_hash *hash; /* of the file; NULL in an engine-only build */
};

/* The table for a model without text: ids stand for no bytes; EOS ends. SLUICE_E_NOMEM. */
sluice_status model_tokens_plain(sluice_model *m, sluice_error *err);
/* Loads tokenizer, chat family and token table where the file has a vocabulary and this build has text (api_text.c). */
sluice_status model_text_load(sluice_model *m, sluice_error *err);
void model_text_free(sluice_model *m);
/* Fills info.fingerprint and keeps what sluice_model_sha256 needs (model_hash.c). */
sluice_status model_hash_open(sluice_model *m, sluice_error *err);
/* Ends a hash under way. */
void model_hash_close(sluice_model *m);

/* The model card's sampling settings (lfm2.md 4.6) for a model of this name and architecture. is_25: LFM2.5. */
sluice_sampling sampling_recommended(const char *name, const char *architecture, bool is_25);

#endif
