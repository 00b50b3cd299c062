/*
 * Text, vocabularies and tool lists from anyone. The first byte of an input says what the rest is:
 *
 *   0, 1, 2  a text: encoded plainly, with special tokens, as message text; the ids must give the bytes back
 *   3        a GGUF whose vocabulary is loaded and used
 *   4, 5, 6  a tool list or call arguments, rendered in each chat format
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "text/chat.h"
#include "text/tokenizer_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tokenizer *golden;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    char path[4096];
    const char *slash = strrchr(__FILE__, '/');
    snprintf(path, sizeof path, "%.*s/../unit/data/tok_vocab_bpe.gguf", slash ? (int)(slash - __FILE__) : 1,
             slash ? __FILE__ : ".");
    struct gguf_file *file;
    sluice_error err = {0};
    if (gguf_open(path, &file, &err) != SLUICE_OK || tokenizer_load(file, &golden, &err) != SLUICE_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    gguf_close(file);
    return 0;
}

static void require(bool ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "violated: %s\n", what);
        abort();
    }
}

static void check_text(const char *s, size_t n, enum encode_mode mode) {
    struct token_vec ids = {0};
    struct buf bytes = {0}, shown = {0};
    struct detok d = {0};
    require(tokenizer_encode_mode(golden, s, n, mode, &ids, NULL) == SLUICE_OK, "every text has tokens");
    for (size_t i = 0; i < ids.n; i++) {
        size_t len = 0;
        const char *piece = tokenizer_bytes(golden, ids.ids[i], &len);
        require(len > 0, "an id stands for something");
        require(mode == ENCODE_SPECIAL || tokenizer_kind(golden, ids.ids[i]) != TOKEN_CONTROL,
                "plain text gives no control token");
        buf_append(&bytes, piece, len);
        detok_push(&d, piece, len, &shown);
    }
    detok_flush(&d, &shown);
    require(bytes.len == n && (n == 0 || memcmp(bytes.data, s, n) == 0), "the ids give the text back");
    require(utf8_valid_prefix(shown.data ? shown.data : "", shown.len) == shown.len, "shown text is UTF-8");
    require(utf8_valid_prefix(s, n) < n || shown.len == n, "valid text is shown as it is");
    token_vec_free(&ids);
    buf_free(&bytes);
    buf_free(&shown);
}

static void check_vocabulary(const char *s, size_t n) {
    struct gguf_file *file = NULL;
    if (gguf_open_memory(s, n, "fuzz", &file, NULL) != SLUICE_OK) {
        return;
    }
    (void)chat_family_detect(file);
    struct tokenizer *t = NULL;
    if (tokenizer_load(file, &t, NULL) == SLUICE_OK) {
        static const char text[] = "<|im_start|>The quick brown f\xC3\xB6x's 1234\n\n  \xFF!<|im_end|>";
        for (int mode = 0; mode < ENCODE_MODES; mode++) {
            struct token_vec ids = {0};
            (void)tokenizer_encode_mode(t, text, sizeof text - 1, (enum encode_mode)mode, &ids, NULL);
            for (size_t i = 0; i < ids.n; i++) {
                require(ids.ids[i] >= 0 && (uint32_t)ids.ids[i] < tokenizer_n_vocab(t), "ids are in range");
            }
            token_vec_free(&ids);
        }
        tokenizer_free(t);
    }
    gguf_close(file);
}

static void check_chat(const char *s, size_t n, enum chat_family family) {
    char *json = mem_strndup(s, n);
    sluice_tool_call call = {.name = "f", .arguments_json = json};
    sluice_message messages[2] = {{.role = "user", .content = s, .content_len = n},
                                  {.role = "assistant", .content = s, .content_len = n, .reasoning = json}};
    for (int round = 0; round < 3; round++) {
        sluice_chat chat = {.messages = messages, .n_messages = 2, .tools_json = round == 1 ? json : NULL};
        messages[1].tool_calls = &call;
        messages[1].n_tool_calls = round == 2;
        struct token_vec ids = {0};
        struct buf text = {0}, back = {0};
        if (chat_render(golden, family, &chat, &ids, &text, NULL) == SLUICE_OK) {
            for (size_t i = 0; i < ids.n; i++) {
                size_t len = 0;
                const char *piece = tokenizer_bytes(golden, ids.ids[i], &len);
                buf_append(&back, piece, len);
            }
            require(back.len == text.len && memcmp(back.data, text.data, text.len) == 0, "tokens and text agree");
        }
        token_vec_free(&ids);
        buf_free(&text);
        buf_free(&back);
    }
    mem_free(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    const char *s = (const char *)data + 1;
    unsigned what = data[0] % 7;
    if (what <= 2) {
        check_text(s, size - 1, (enum encode_mode)what);
    } else if (what == 3) {
        check_vocabulary(s, size - 1);
    } else {
        check_chat(s, size - 1, what == 4 ? CHAT_LFM2 : what == 5 ? CHAT_LFM25 : CHAT_LFM25_THINKING);
    }
    return 0;
}
