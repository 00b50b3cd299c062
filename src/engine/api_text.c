/* Text of a model: tokens, chat. The one file of the engine that calls the text layer's loaders; a build without text
 * has the second half of it instead. */
#include "engine/model_impl.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/status.h"
#include "text/chat.h"
#include "text/tokenizer.h"

#include <string.h>

const char *sluice_token_bytes(const sluice_model *m, int32_t token, size_t *len) {
    bool known = token >= 0 && (uint32_t)token < m->info.n_vocab && m->tokens[token].bytes;
    *len = known ? m->tokens[token].n_bytes : 0;
    return known ? m->tokens[token].bytes : "";
}

static uint8_t flags_of(const sluice_model *m, int32_t token) {
    return token >= 0 && (uint32_t)token < m->info.n_vocab ? m->tokens[token].flags : 0;
}

bool sluice_token_is_end(const sluice_model *m, int32_t token) {
    return flags_of(m, token) & TOKEN_FLAG_END;
}

bool sluice_token_is_control(const sluice_model *m, int32_t token) {
    return flags_of(m, token) & TOKEN_FLAG_CONTROL;
}

#if SLUICE_WITH_TEXT

/* Written forms that callers parse, so they always pass as text. */
static const char *const markers[] = {
    "<|tool_call_start|>", "<|tool_call_end|>",       "<|tool_list_start|>",
    "<|tool_list_end|>",   "<|tool_response_start|>", "<|tool_response_end|>",
};

static void fill_tokens(sluice_model *m) {
    uint32_t n = tokenizer_n_vocab(m->tokenizer);
    for (uint32_t id = 0; id < n; id++) {
        struct token_entry *t = &m->tokens[id];
        size_t bytes;
        t->bytes = tokenizer_bytes(m->tokenizer, (int32_t)id, &bytes);
        t->n_bytes = (uint32_t)bytes;
        t->flags = tokenizer_kind(m->tokenizer, (int32_t)id) == TOKEN_CONTROL ? TOKEN_FLAG_CONTROL : 0;
        t->flags |= tokenizer_is_end(m->tokenizer, (int32_t)id) ? TOKEN_FLAG_END : 0;
    }
    for (size_t i = 0; i < sizeof markers / sizeof markers[0]; i++) {
        int32_t id = tokenizer_find(m->tokenizer, markers[i]);
        if (id >= 0) {
            m->tokens[id].flags |= TOKEN_FLAG_MARKER;
        }
    }
}

sluice_status model_text_load(sluice_model *m, sluice_error *err) {
    const struct gguf_file *file = m->model->file;
    if (!gguf_find(file, "tokenizer.ggml.tokens")) {
        return SLUICE_OK;
    }
    TRY(tokenizer_load(file, &m->tokenizer, err));
    uint32_t n = tokenizer_n_vocab(m->tokenizer);
    if (n > m->info.n_vocab) {
        return fail(err, SLUICE_E_FORMAT, "%s: the vocabulary has %u tokens, but the model only %u embedding rows",
                    m->info.path, n, m->info.n_vocab);
    }
    fill_tokens(m);
    m->chat_family = chat_family_detect(file);
    m->info.chat_family = chat_family_name(m->chat_family);
    m->info.has_tokenizer = true;
    m->info.bos = tokenizer_bos(m->tokenizer);
    m->info.eos = tokenizer_eos(m->tokenizer);
    return SLUICE_OK;
}

void model_text_free(sluice_model *m) {
    if (m->tokenizer) {
        tokenizer_free(m->tokenizer);
    }
}

static sluice_status need_tokenizer(const sluice_model *m, sluice_error *err) {
    if (m->tokenizer) {
        return SLUICE_OK;
    }
    return fail(err, SLUICE_E_UNSUPPORTED, "%s has no vocabulary, so it works on token ids only", m->info.path);
}

sluice_status sluice_tokenize(const sluice_model *m, const char *text, size_t len, unsigned flags, int32_t **out,
                              size_t *n_out, sluice_error *err) {
    TRY(need_tokenizer(m, err));
    struct token_vec v = {0};
    sluice_status status = SLUICE_OK;
    if ((flags & SLUICE_TOK_BOS) && tokenizer_add_bos(m->tokenizer)) {
        status = token_vec_push(&v, m->info.bos, err);
    }
    if (status == SLUICE_OK) {
        status = tokenizer_encode(m->tokenizer, text, len, flags & SLUICE_TOK_SPECIAL, &v, err);
    }
    if (status == SLUICE_OK && !v.ids) { /* no token, but the caller gets something to free */
        v.ids = mem_alloc(0);
        status = v.ids ? SLUICE_OK : fail(err, SLUICE_E_NOMEM, "out of memory for tokens");
    }
    if (status != SLUICE_OK) {
        token_vec_free(&v);
        return status;
    }
    *out = v.ids;
    *n_out = v.n;
    return SLUICE_OK;
}

sluice_status sluice_chat_render(const sluice_model *m, const sluice_chat *chat, int32_t **tokens, size_t *n_tokens,
                                 char **text, sluice_error *err) {
    TRY(need_tokenizer(m, err));
    struct token_vec v = {0};
    struct buf b = {0};
    sluice_status status = chat_render(m->tokenizer, m->chat_family, chat, tokens ? &v : NULL, text ? &b : NULL, err);
    char *rendered = NULL;
    if (status == SLUICE_OK && text) {
        rendered = buf_take(&b, NULL);
        status = rendered ? SLUICE_OK : fail(err, SLUICE_E_NOMEM, "out of memory for a conversation");
    }
    if (status != SLUICE_OK) {
        token_vec_free(&v);
        buf_free(&b);
        return status;
    }
    if (tokens) {
        *tokens = v.ids;
        *n_tokens = v.n;
    }
    if (text) {
        *text = rendered;
    }
    return SLUICE_OK;
}

#else

sluice_status model_text_load(sluice_model *m, sluice_error *err) {
    (void)m, (void)err;
    return SLUICE_OK;
}

void model_text_free(sluice_model *m) {
    (void)m;
}

static sluice_status no_text(sluice_error *err) {
    return fail(err, SLUICE_E_UNSUPPORTED, "this build of sluice has no text part; it works on token ids only");
}

sluice_status sluice_tokenize(const sluice_model *m, const char *text, size_t len, unsigned flags, int32_t **out,
                              size_t *n_out, sluice_error *err) {
    (void)m, (void)text, (void)len, (void)flags, (void)out, (void)n_out;
    return no_text(err);
}

sluice_status sluice_chat_render(const sluice_model *m, const sluice_chat *chat, int32_t **tokens, size_t *n_tokens,
                                 char **text, sluice_error *err) {
    (void)m, (void)chat, (void)tokens, (void)n_tokens, (void)text;
    return no_text(err);
}

#endif
