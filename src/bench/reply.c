#include "bench/reply.h"

#include "base/limits.h"
#include "base/utf8.h"

#include <json-c/json.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static struct json_object *parse(const char *text, size_t n) {
    struct json_tokener *tok = n <= SSE_EVENT_MAX ? json_tokener_new_ex(LIMIT_JSON_DEPTH) : NULL;
    if (!tok) {
        return NULL;
    }
    struct json_object *v = json_tokener_parse_ex(tok, text, (int)n);
    if (json_tokener_get_error(tok) != json_tokener_success) {
        json_object_put(v);
        v = NULL;
    }
    json_tokener_free(tok);
    return v;
}

/* Member `key` of an object if it has the type asked for, else NULL. */
static struct json_object *member(struct json_object *o, const char *key, enum json_type type) {
    struct json_object *v = NULL;
    if (!o || !json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &v) ||
        !json_object_is_type(v, type)) {
        return NULL;
    }
    return v;
}

static int64_t count_member(struct json_object *o, const char *key) {
    struct json_object *v = member(o, key, json_type_int);
    int64_t n = v ? json_object_get_int64(v) : -1;
    return n >= 0 ? n : -1;
}

static double ms_member(struct json_object *o, const char *key) {
    struct json_object *v = member(o, key, json_type_double);
    v = v ? v : member(o, key, json_type_int);
    double ms = v ? json_object_get_double(v) : -1;
    return isfinite(ms) && ms >= 0 ? ms : -1;
}

static bool has_text(struct json_object *delta, const char *key) {
    struct json_object *v = member(delta, key, json_type_string);
    return v && json_object_get_string_len(v) > 0;
}

/* What came from outside goes to a terminal: control characters and broken UTF-8 become '?'. */
static void put_printable(const char *s, size_t n, char *out, size_t cap) {
    size_t len = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t used = utf8_decode(s + i, n - i, &cp);
        bool plain = used && cp >= 0x20 && cp != 0x7F && !(cp >= 0x80 && cp < 0xA0);
        size_t bytes = plain ? used : 1;
        if (len + bytes >= cap) {
            break;
        }
        if (plain) {
            memcpy(out + len, s + i, used);
        } else {
            out[len] = cp == '\n' || cp == '\t' ? ' ' : '?';
        }
        len += bytes;
        i += used ? used : 1;
    }
    out[len] = '\0';
}

static bool error_member(struct json_object *body, char *out, size_t cap) {
    struct json_object *v = member(member(body, "error", json_type_object), "message", json_type_string);
    static const char *const plain[] = {"error", "message", "detail"};
    for (size_t i = 0; !v && i < sizeof plain / sizeof plain[0]; i++) {
        v = member(body, plain[i], json_type_string);
    }
    if (!v) {
        return false;
    }
    put_printable(json_object_get_string(v), (size_t)json_object_get_string_len(v), out, cap);
    return true;
}

void reply_error_text(const char *body, size_t n, char *out, size_t cap) {
    struct json_object *v = parse(body, n);
    if (!v || !error_member(v, out, cap)) {
        put_printable(body, n < 160 ? n : 160, out, cap);
    }
    json_object_put(v);
}

/* The stream's error, once: what follows a failure says nothing new. */
__attribute__((format(printf, 2, 3))) static void set_error(struct reply *r, const char *fmt, ...) {
    if (r->failed) {
        return;
    }
    va_list args;
    va_start(args, fmt);
    vsnprintf(r->sample->error, sizeof r->sample->error, fmt, args);
    va_end(args);
    r->failed = true;
}

static void read_usage(struct sample *s, struct json_object *chunk) {
    struct json_object *usage = member(chunk, "usage", json_type_object);
    if (usage) {
        s->prompt_tokens = count_member(usage, "prompt_tokens");
        s->output_tokens = count_member(usage, "completion_tokens");
        struct json_object *prompt = member(usage, "prompt_tokens_details", json_type_object);
        struct json_object *output = member(usage, "completion_tokens_details", json_type_object);
        int64_t cached = count_member(prompt, "cached_tokens");
        s->cached_tokens = cached >= 0 ? cached : s->cached_tokens;
        s->reasoning_tokens = count_member(output, "reasoning_tokens");
    }
    struct json_object *timings = member(chunk, "timings", json_type_object);
    if (timings) {
        s->server_prompt_ms = ms_member(timings, "prompt_ms");
        s->server_predicted_ms = ms_member(timings, "predicted_ms");
        if (s->cached_tokens < 0) {
            s->cached_tokens = count_member(timings, "cache_n");
        }
    }
}

static void read_text(struct reply *r, struct json_object *delta) {
    struct sample *s = r->sample;
    struct json_object *calls = member(delta, "tool_calls", json_type_array);
    bool content = has_text(delta, "content");
    bool other = has_text(delta, "reasoning_content") || has_text(delta, "reasoning") ||
                 (calls && json_object_array_length(calls) > 0);
    if (!content && !other) {
        return;
    }
    if (s->first_token_ms < 0) {
        s->first_token_ms = r->now_ms;
    } else if (r->now_ms - r->last_text_ms > s->gap_max_ms) {
        s->gap_max_ms = r->now_ms - r->last_text_ms;
    }
    if (content && s->first_content_ms < 0) {
        s->first_content_ms = r->now_ms;
    }
    s->chunks++;
    r->last_text_ms = r->now_ms;
    s->last_token_ms = r->now_ms;
}

static void read_chunk(struct reply *r, struct json_object *chunk) {
    struct sample *s = r->sample;
    struct json_object *choices = member(chunk, "choices", json_type_array);
    struct json_object *choice = choices ? json_object_array_get_idx(choices, 0) : NULL;
    read_usage(s, chunk);
    read_text(r, member(choice, "delta", json_type_object));
    struct json_object *finish = member(choice, "finish_reason", json_type_string);
    if (finish && !r->finished) {
        r->finished = true;
        put_printable(json_object_get_string(finish), (size_t)json_object_get_string_len(finish), s->finish,
                      sizeof s->finish);
        /* an end token has no text: it is this piece that tells when it came, also when it is the first token of all */
        s->last_token_ms = r->now_ms;
        s->first_token_ms = s->first_token_ms >= 0 ? s->first_token_ms : r->now_ms;
    }
}

static void on_event(void *ctx, const char *data, size_t n) {
    struct reply *r = ctx;
    if (r->failed || r->done) {
        return;
    }
    r->events++;
    if (n == 6 && memcmp(data, "[DONE]", 6) == 0) {
        r->done = true;
        return;
    }
    struct json_object *chunk = parse(data, n);
    char text[200];
    if (!chunk || !json_object_is_type(chunk, json_type_object)) {
        put_printable(data, n < 80 ? n : 80, text, sizeof text);
        set_error(r, "the server sent an event that is not a JSON object: %s", text);
    } else if (json_object_object_get_ex(chunk, "error", NULL) && error_member(chunk, text, sizeof text)) {
        set_error(r, "the server reported an error in the stream: %s", text);
    } else {
        read_chunk(r, chunk);
    }
    json_object_put(chunk);
}

void reply_init(struct reply *r, struct sample *sample) {
    *r = (struct reply){.sample = sample};
    sse_init(&r->sse, on_event, r);
}

bool reply_feed(struct reply *r, const char *bytes, size_t n, double now_ms) {
    r->now_ms = now_ms;
    if (!sse_feed(&r->sse, bytes, n)) {
        if (r->sse.too_long) {
            set_error(r, "the server sent an event of more than %u MiB", SSE_EVENT_MAX >> 20);
        } else {
            set_error(r, "no memory for the reply");
        }
    }
    return !r->failed;
}

void reply_end(struct reply *r, double now_ms) {
    struct sample *s = r->sample;
    s->end_ms = now_ms;
    if (r->events == 0) {
        set_error(r, "the reply has no server-sent event; is this a chat-completions endpoint that streams?");
    } else if (!r->done && !r->finished) {
        set_error(r, "the stream ended after %u piece%s without a finish reason or [DONE]", s->chunks,
                  s->chunks == 1 ? "" : "s");
    }
    s->ok = !r->failed;
}

void reply_free(struct reply *r) {
    sse_free(&r->sse);
}
