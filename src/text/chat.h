/*
 * Chat rendering for LFM2 and LFM2.5 in C (lfm2.md 4.4): control tokens as ids, message text with special parsing off, the
 * templates' defects mended.
 */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H

#include "text/tokenizer.h"

enum chat_family {
    CHAT_NONE,           /* the file has no chat template we know */
    CHAT_LFM2,           /* <|tool_list_start|> markers */
    CHAT_LFM25,          /* plain "List of tools: [" */
    CHAT_LFM25_THINKING, /* the same, with <think> in the template */
};

/* Family from markers in the file's tokenizer.chat_template. */
enum chat_family chat_family_detect(const struct gguf_file *file);
const char *chat_family_name(enum chat_family family); /* "lfm2", "lfm2.5", "lfm2.5-thinking", "none" */

/* Tokens and/or display text of a conversation; either output may be NULL. SLUICE_E_ARG names the message at fault. */
sluice_status chat_render(const struct tokenizer *t, enum chat_family family, const sluice_chat *chat,
                          struct token_vec *tokens, struct buf *text, sluice_error *err);

#endif
