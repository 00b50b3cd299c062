/*
 * From tokens to the text of an answer: bytes of the token, whole UTF-8 sequences, stop strings. Text that is held back
 * (a part of a character, the possible beginning of a stop string) comes out with a later token or at the end.
 */
#ifndef ENGINE_TEXT_OUT_H
#define ENGINE_TEXT_OUT_H

#include "engine/model_impl.h"
#include "engine/stop.h"
#include "text/tokenizer.h"

struct text_out {
    const struct token_entry *tokens;
    bool keep_control;
    struct stop stop;
    struct detok detok;
    struct buf whole; /* text of whole characters, before stop strings are looked for */
    struct buf ready; /* what the last call released; valid until the next */
};

sluice_status text_out_init(struct text_out *t, const sluice_model *model, const sluice_request_options *options,
                            sluice_error *err);
void text_out_free(struct text_out *t);

/* Reads one token. Afterwards t->ready holds the text it completed. *matched: the stop string it completed, or NULL. An
 * end token has no text of its own. SLUICE_E_NOMEM. */
sluice_status text_out_push(struct text_out *t, int32_t token, const char **matched, sluice_error *err);
/* No token follows and no stop string matched: appends what was held back to t->ready. */
sluice_status text_out_finish(struct text_out *t, sluice_error *err);

#endif
