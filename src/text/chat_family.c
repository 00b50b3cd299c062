/* Which chat format a file speaks: from marks that its Jinja template carries (lfm2.md 4.4). */
#include "text/chat.h"

#include <string.h>

static bool has(struct gguf_str s, const char *what) {
    return s.n && memmem(s.s, s.n, what, strlen(what)) != NULL;
}

static bool has_token(const struct gguf_kv *tokens, const char *text) {
    size_t n = strlen(text);
    for (uint64_t i = 0; i < tokens->n; i++) {
        if (tokens->strings[i].n == n && memcmp(tokens->strings[i].s, text, n) == 0) {
            return true;
        }
    }
    return false;
}

enum chat_family chat_family_detect(const struct gguf_file *file) {
    const struct gguf_kv *tokens = gguf_find(file, "tokenizer.ggml.tokens");
    if (!tokens || tokens->type != GGUF_ARRAY || !tokens->strings || !has_token(tokens, "<|im_start|>") ||
        !has_token(tokens, "<|im_end|>")) {
        return CHAT_NONE; /* every format is built on these two */
    }
    const struct gguf_kv *kv = gguf_find(file, "tokenizer.chat_template");
    struct gguf_str text = {0};
    if (kv && kv->type == GGUF_STRING) {
        text = kv->strings[0];
    }
    if (!has(text, "<|tool_list_start|>") && has(text, "List of tools: [")) {
        /* The dense models' template only ever removes past thinking: it knows </think> alone. */
        return has(text, "<think>") ? CHAT_LFM25_THINKING : CHAT_LFM25;
    }
    return CHAT_LFM2;
}

const char *chat_family_name(enum chat_family family) {
    switch (family) {
    case CHAT_LFM2:
        return "lfm2";
    case CHAT_LFM25:
        return "lfm2.5";
    case CHAT_LFM25_THINKING:
        return "lfm2.5-thinking";
    case CHAT_NONE:
        break;
    }
    return "none";
}
