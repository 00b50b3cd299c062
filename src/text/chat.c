/*
 * A conversation in the model's format, as its Jinja template renders it, with the templates' defects mended (lfm2.md
 * 4.4): past tool calls appear in every family, as Python literals with strings escaped; no content renders as nothing.
 *
 * The text between two control tokens is tokenized as one stretch ("user\n" and the message together), because that is
 * how the models saw it. Control tokens that a message spells out stay text (ENCODE_CONTENT).
 */
#include "text/chat.h"

#include "base/json_text.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"
#include "text/tokenizer_impl.h"

#include <stdio.h>
#include <string.h>

struct render {
    const struct tokenizer *t;
    enum chat_family family;
    const sluice_chat *chat;
    struct token_vec *tokens; /* may be NULL */
    struct buf *text;         /* may be NULL */
    struct buf stretch;       /* text since the last control token, not yet in tokens */
    sluice_error *err;
};

/* ---- Output ------------------------------------------------------------------------------------------------------ */

static void put(struct render *r, const char *s, size_t n) {
    if (r->text) {
        buf_append(r->text, s, n);
    }
    if (r->tokens) {
        buf_append(&r->stretch, s, n);
    }
}

static void puts_text(struct render *r, const char *s) {
    put(r, s, strlen(s));
}

static sluice_status no_memory(struct render *r) {
    return fail(r->err, SLUICE_E_NOMEM, "no memory to render %zu messages", r->chat->n_messages);
}

static sluice_status flush(struct render *r) {
    if (r->stretch.failed || (r->text && r->text->failed)) {
        return no_memory(r);
    }
    if (r->stretch.len) {
        TRY(tokenizer_encode_mode(r->t, r->stretch.data, r->stretch.len, ENCODE_CONTENT, r->tokens, r->err));
        buf_reset(&r->stretch);
    }
    return SLUICE_OK;
}

/* A control token; spelled out as text where the vocabulary has none of that name. */
static sluice_status put_marker(struct render *r, const char *marker) {
    int32_t id = tokenizer_find(r->t, marker);
    if (id < 0 || !r->tokens) {
        puts_text(r, marker);
        return SLUICE_OK;
    }
    if (r->text) {
        buf_puts(r->text, marker);
    }
    TRY(flush(r));
    return token_vec_push(r->tokens, id, r->err);
}

static sluice_status put_bos(struct render *r) {
    int32_t bos = tokenizer_bos(r->t);
    if (bos < 0) {
        return SLUICE_OK;
    }
    if (r->text) {
        size_t n;
        const char *bytes = tokenizer_bytes(r->t, bos, &n);
        buf_append(r->text, bytes, n);
    }
    return r->tokens ? token_vec_push(r->tokens, bos, r->err) : SLUICE_OK;
}

static sluice_status start_turn(struct render *r, const char *role) {
    TRY(put_marker(r, "<|im_start|>"));
    puts_text(r, role);
    puts_text(r, "\n");
    return SLUICE_OK;
}

static sluice_status end_turn(struct render *r) {
    TRY(put_marker(r, "<|im_end|>"));
    puts_text(r, "\n");
    return SLUICE_OK;
}

/* ---- Tools ------------------------------------------------------------------------------------------------------- */

/* The tool objects as json.dumps writes them, joined by ", ". *any is false for an empty list. */
static sluice_status tool_list(const char *json, struct buf *out, bool *any, sluice_error *err) {
    struct json_reader in = json_reader_start(json, strlen(json), "tools", err);
    sluice_status status = SLUICE_OK;
    bool more = false;
    unsigned n = 0;
    if (json_peek(&in) == 'n') { /* null: no tools */
        struct buf word = {0};
        status = json_copy(&in, JSON_DUMPS, &word);
        buf_free(&word);
    } else {
        status = json_open(&in, '[', &more);
    }
    while (status == SLUICE_OK && more) {
        if (json_peek(&in) != '{') {
            status = fail(err, SLUICE_E_ARG, "tools[%u] is not an object", n);
        } else if (++n > LIMIT_TOOLS) {
            status = fail(err, SLUICE_E_LIMIT, "there are more than %u tools", LIMIT_TOOLS);
        } else {
            status = json_copy(&in, JSON_DUMPS, out);
        }
        if (status == SLUICE_OK) {
            status = json_more(&in, ']', &more);
        }
        if (status == SLUICE_OK && more) {
            buf_puts(out, ", ");
        }
    }
    if (status == SLUICE_OK) {
        status = json_finish(&in);
    }
    if (status == SLUICE_OK && out->failed) {
        status = fail(err, SLUICE_E_NOMEM, "no memory for %u tools", n);
    }
    *any = n > 0;
    json_reader_end(&in);
    return status;
}

/* a="x", n=1 from a JSON object; an empty text counts as no arguments. */
static sluice_status call_arguments(const char *json, const char *label, struct buf *out, sluice_error *err) {
    struct json_reader in = json_reader_start(json, strlen(json), label, err);
    bool more = false;
    sluice_status status = SLUICE_OK;
    if (json_peek(&in)) {
        status = json_open(&in, '{', &more);
    }
    while (status == SLUICE_OK && more) {
        const char *key;
        size_t n;
        TRY_GOTO(status, json_key(&in, &key, &n), done);
        buf_append(out, key, n);
        buf_putc(out, '=');
        TRY_GOTO(status, json_copy(&in, JSON_PYTHON, out), done);
        TRY_GOTO(status, json_more(&in, '}', &more), done);
        if (more) {
            buf_puts(out, ", ");
        }
    }
    if (status == SLUICE_OK) {
        status = json_close_keys(&in, 0);
    }
    if (status == SLUICE_OK) {
        status = json_finish(&in);
    }
done:
    json_reader_end(&in);
    return status;
}

/* <|tool_call_start|>[f(a="x"), g()]<|tool_call_end|> */
static sluice_status put_tool_calls(struct render *r, size_t index) {
    const sluice_message *m = &r->chat->messages[index];
    struct buf calls = {0};
    sluice_status status = SLUICE_OK;
    for (size_t i = 0; i < m->n_tool_calls && status == SLUICE_OK; i++) {
        char label[80];
        snprintf(label, sizeof label, "messages[%zu].tool_calls[%zu] arguments", index, i);
        const sluice_tool_call *call = &m->tool_calls[i];
        if (!call->name || !call->name[0]) {
            status = fail(r->err, SLUICE_E_ARG, "messages[%zu].tool_calls[%zu] has no function name", index, i);
            break;
        }
        buf_printf(&calls, "%s%s(", i ? ", " : "", call->name);
        status = call_arguments(call->arguments_json ? call->arguments_json : "", label, &calls, r->err);
        buf_putc(&calls, ')');
    }
    if (status == SLUICE_OK && calls.failed) {
        status = no_memory(r);
    }
    if (status == SLUICE_OK) {
        status = put_marker(r, "<|tool_call_start|>");
    }
    if (status == SLUICE_OK) {
        puts_text(r, "[");
        put(r, calls.data, calls.len);
        puts_text(r, "]");
        status = put_marker(r, "<|tool_call_end|>");
    }
    buf_free(&calls);
    return status;
}

/* ---- Thinking ---------------------------------------------------------------------------------------------------- */

#define THINK     "<think>"
#define END_THINK "</think>"

/* What Python's str.strip() removes. */
static bool python_space(uint32_t cp) {
    return (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x20) || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F ||
           cp == 0x3000;
}

static void strip(const char **s, size_t *n) {
    uint32_t cp;
    size_t used;
    while ((used = utf8_decode(*s, *n, &cp)) && python_space(cp)) {
        *s += used;
        *n -= used;
    }
    while (*n) {
        size_t back = 1;
        while (back < 4 && back < *n && ((*s)[*n - back] & 0xC0) == 0x80) {
            back++;
        }
        if (utf8_decode(*s + *n - back, back, &cp) != back || !python_space(cp)) {
            break;
        }
        *n -= back;
    }
}

static const char *find_text(const char *s, size_t n, const char *what) {
    return n ? memmem(s, n, what, strlen(what)) : NULL;
}

/* What the templates do to past answers: only what stands behind the last </think>, stripped. */
static void cut_thinking(const char **s, size_t *n) {
    const char *end = *s + *n, *after = NULL, *p = *s;
    while ((p = find_text(p, (size_t)(end - p), END_THINK)) != NULL) {
        after = p += strlen(END_THINK);
    }
    if (after) {
        *s = after;
        *n = (size_t)(end - after);
        strip(s, n);
    }
}

/* Kept thinking of an assistant goes in as it came out: its two marks are tokens of their own. */
static sluice_status put_thinking_text(struct render *r, const char *s, size_t n) {
    const char *end = s + n;
    while (s < end) {
        const char *open = find_text(s, (size_t)(end - s), THINK), *close = find_text(s, (size_t)(end - s), END_THINK);
        const char *mark = !close || (open && open < close) ? open : close;
        if (!mark) {
            break;
        }
        put(r, s, (size_t)(mark - s));
        TRY(put_marker(r, mark == open ? THINK : END_THINK));
        s = mark + strlen(mark == open ? THINK : END_THINK);
    }
    put(r, s, (size_t)(end - s));
    return SLUICE_OK;
}

/* ---- Messages ---------------------------------------------------------------------------------------------------- */

static const char *role_of(const sluice_message *m) {
    static const char *const known[] = {"system", "user", "assistant", "tool"};
    if (!m->role) {
        return NULL;
    }
    if (strcmp(m->role, "developer") == 0) {
        return known[0];
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(m->role, known[i]) == 0) {
            return known[i];
        }
    }
    return NULL;
}

static sluice_status check(const struct render *r) {
    const sluice_chat *chat = r->chat;
    if (r->family == CHAT_NONE) {
        return fail(r->err, SLUICE_E_UNSUPPORTED,
                    "this model's file has no chat format that sluice knows; plain completions (/v1/completions) still "
                    "work");
    }
    if (tokenizer_find(r->t, "<|im_start|>") < 0 || tokenizer_find(r->t, "<|im_end|>") < 0) {
        return fail(r->err, SLUICE_E_UNSUPPORTED,
                    "this model's vocabulary lacks <|im_start|> or <|im_end|>; plain completions (/v1/completions) "
                    "still work");
    }
    if (chat->n_messages == 0) {
        return fail(r->err, SLUICE_E_ARG, "messages is empty; at least one message is needed");
    }
    if (chat->n_messages > LIMIT_MESSAGES) {
        return fail(r->err, SLUICE_E_LIMIT, "there are %zu messages; at most %u are allowed", chat->n_messages,
                    LIMIT_MESSAGES);
    }
    for (size_t i = 0; i < chat->n_messages; i++) {
        if (!role_of(&chat->messages[i])) {
            return fail(r->err, SLUICE_E_ARG,
                        "messages[%zu] has %s role; system, developer, user, assistant and tool are known", i,
                        chat->messages[i].role ? "an unknown" : "no");
        }
    }
    return SLUICE_OK;
}

/* The system turn holds the first message's text, if that is a system message, and the tools. */
static sluice_status put_system(struct render *r, const sluice_message *system) {
    struct buf tools = {0};
    bool any_tools = false;
    bool any_text = system && system->content && system->content_len;
    sluice_status status = SLUICE_OK;
    if (r->chat->tools_json) {
        status = tool_list(r->chat->tools_json, &tools, &any_tools, r->err);
    }
    if (status != SLUICE_OK || (!any_text && !any_tools)) {
        goto done;
    }
    TRY_GOTO(status, start_turn(r, "system"), done);
    if (any_text) {
        put(r, system->content, system->content_len);
    }
    if (any_tools) {
        puts_text(r, any_text ? "\nList of tools: " : "List of tools: ");
        if (r->family == CHAT_LFM2) {
            TRY_GOTO(status, put_marker(r, "<|tool_list_start|>"), done);
        }
        puts_text(r, "[");
        put(r, tools.data, tools.len);
        puts_text(r, "]");
        if (r->family == CHAT_LFM2) {
            TRY_GOTO(status, put_marker(r, "<|tool_list_end|>"), done);
        }
    }
    status = end_turn(r);
done:
    buf_free(&tools);
    return status;
}

/* past: the family drops thinking from answers at this place. */
static sluice_status put_assistant(struct render *r, size_t index, bool past) {
    const sluice_message *m = &r->chat->messages[index];
    const char *s = m->content ? m->content : "";
    size_t n = m->content ? m->content_len : 0;
    if (r->family == CHAT_LFM25_THINKING && m->reasoning && !past) {
        TRY(put_marker(r, THINK));
        puts_text(r, m->reasoning);
        TRY(put_marker(r, END_THINK));
    }
    if (r->family == CHAT_LFM2) {
        put(r, s, n);
    } else {
        if (past) {
            cut_thinking(&s, &n);
        }
        TRY(put_thinking_text(r, s, n));
    }
    return m->n_tool_calls ? put_tool_calls(r, index) : SLUICE_OK;
}

static sluice_status put_message(struct render *r, size_t index, bool past) {
    const sluice_message *m = &r->chat->messages[index];
    const char *role = role_of(m);
    TRY(start_turn(r, role));
    if (strcmp(role, "assistant") == 0) {
        TRY(put_assistant(r, index, past));
    } else {
        bool wrap = r->family == CHAT_LFM2 && strcmp(role, "tool") == 0;
        if (wrap) {
            TRY(put_marker(r, "<|tool_response_start|>"));
        }
        if (m->content) {
            put(r, m->content, m->content_len);
        }
        if (wrap) {
            TRY(put_marker(r, "<|tool_response_end|>"));
        }
    }
    return end_turn(r);
}

/* Answers before this index lose their thinking: LFM2.5 keeps the last answer's, the thinking models those since the
 * last question. */
static size_t first_kept(const struct render *r) {
    const char *role = r->family == CHAT_LFM25 ? "assistant" : "user";
    for (size_t i = r->chat->n_messages; i-- > 0;) {
        if (strcmp(role_of(&r->chat->messages[i]), role) == 0) {
            return r->family == CHAT_LFM25 ? i : i + 1;
        }
    }
    return 0;
}

static sluice_status render(struct render *r) {
    TRY(check(r));
    TRY(put_bos(r));
    const sluice_message *messages = r->chat->messages;
    size_t first = strcmp(role_of(&messages[0]), "system") == 0 ? 1 : 0;
    TRY(put_system(r, first ? &messages[0] : NULL));
    size_t kept = first_kept(r);
    for (size_t i = first; i < r->chat->n_messages; i++) {
        TRY(put_message(r, i, i < kept));
    }
    if (!r->chat->no_generation_prompt) {
        TRY(start_turn(r, "assistant"));
    }
    return flush(r);
}

sluice_status chat_render(const struct tokenizer *t, enum chat_family family, const sluice_chat *chat,
                          struct token_vec *tokens, struct buf *text, sluice_error *err) {
    struct render r = {.t = t, .family = family, .chat = chat, .tokens = tokens, .text = text, .err = err};
    size_t n_tokens = tokens ? tokens->n : 0, n_text = text ? text->len : 0;
    sluice_status status = render(&r);
    buf_free(&r.stretch);
    if (status != SLUICE_OK) { /* a failed call leaves the outputs as they were */
        if (tokens) {
            tokens->n = n_tokens;
        }
        if (text && text->len > n_text) {
            text->len = n_text;
            text->data[n_text] = '\0';
        }
    }
    return status;
}
