#include "bench/reply.h"

#include "base/limits.h"
#include "base/mem.h"
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

void reply_printable(const char *s, size_t n, char *out, size_t cap) {
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
    reply_printable(json_object_get_string(v), (size_t)json_object_get_string_len(v), out, cap);
    return true;
}

bool reply_error_text(const char *body, size_t n, char *out, size_t cap) {
    struct json_object *v = parse(body, n);
    bool known = v && error_member(v, out, cap);
    if (!known) {
        reply_printable(body, n < 160 ? n : 160, out, cap);
    }
    json_object_put(v);
    return known;
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

/* Returns the output tokens so far, -1 where the event does not say. */
static int64_t read_usage(struct sample *s, struct json_object *chunk) {
    int64_t total = -1;
    struct json_object *usage = member(chunk, "usage", json_type_object);
    if (usage) {
        struct json_object *prompt = member(usage, "prompt_tokens_details", json_type_object);
        struct json_object *output = member(usage, "completion_tokens_details", json_type_object);
        int64_t cached = count_member(prompt, "cached_tokens");
        int64_t reasoning = count_member(output, "reasoning_tokens");
        int64_t prompt_tokens = count_member(usage, "prompt_tokens");
        total = count_member(usage, "completion_tokens");
        s->prompt_tokens = prompt_tokens >= 0 ? prompt_tokens : s->prompt_tokens;
        s->output_tokens = total >= 0 ? total : s->output_tokens;
        s->cached_tokens = cached >= 0 ? cached : s->cached_tokens;
        s->reasoning_tokens = reasoning >= 0 ? reasoning : s->reasoning_tokens;
    }
    struct json_object *timings = member(chunk, "timings", json_type_object);
    if (timings) {
        s->server_prompt_ms = ms_member(timings, "prompt_ms");
        s->server_predicted_ms = ms_member(timings, "predicted_ms");
        total = total >= 0 ? total : count_member(timings, "predicted_n");
        if (s->cached_tokens < 0) {
            s->cached_tokens = count_member(timings, "cache_n");
        }
    }
    return total;
}

/* True when the delta carries text of any channel. */
static bool read_text(struct reply *r, struct json_object *delta) {
    struct sample *s = r->sample;
    struct json_object *calls = member(delta, "tool_calls", json_type_array);
    bool content = has_text(delta, "content");
    bool other = has_text(delta, "reasoning_content") || has_text(delta, "reasoning") ||
                 (calls && json_object_array_length(calls) > 0);
    if (!content && !other) {
        return false;
    }
    if (s->first_token_ms < 0) {
        s->first_token_ms = r->now_ms;
    }
    if (content && s->first_content_ms < 0) {
        s->first_content_ms = r->now_ms;
    }
    s->chunks++;
    r->last_text_ms = r->now_ms;
    return true;
}

static uint32_t count_ids(struct json_object *chunk, struct json_object *choice) {
    struct json_object *ids = member(choice, "token_ids", json_type_array);
    ids = ids ? ids : member(choice, "tokens", json_type_array);
    ids = ids ? ids : member(chunk, "tokens", json_type_array);
    return ids ? (uint32_t)json_object_array_length(ids) : 0;
}

static bool add_piece(struct reply *r, const struct reply_piece *p) {
    if (r->n_pieces == r->cap_pieces) {
        size_t cap = r->cap_pieces ? r->cap_pieces * 2 : 64;
        struct reply_piece *more = mem_realloc(r->pieces, cap * sizeof *more);
        if (!more) {
            return false;
        }
        r->pieces = more;
        r->cap_pieces = cap;
    }
    r->pieces[r->n_pieces++] = *p;
    return true;
}

static void read_chunk(struct reply *r, struct json_object *chunk) {
    struct sample *s = r->sample;
    struct json_object *choices = member(chunk, "choices", json_type_array);
    struct json_object *choice = choices ? json_object_array_get_idx(choices, 0) : NULL;
    struct reply_piece p = {.ms = r->now_ms, .total = read_usage(s, chunk)};
    p.text = read_text(r, member(choice, "delta", json_type_object));
    p.ids = count_ids(chunk, choice);
    struct json_object *finish = member(choice, "finish_reason", json_type_string);
    if (finish && !r->finished) {
        r->finished = true;
        r->finish_ms = r->now_ms;
        r->finish_text = p.text;
        reply_printable(json_object_get_string(finish), (size_t)json_object_get_string_len(finish), s->finish,
                        sizeof s->finish);
    } else if (r->finished && !p.text) {
        p.ms = r->finish_ms; /* a total that comes after the end speaks of tokens that came before it */
    }
    if ((p.text || p.total >= 0 || p.ids > 0 || finish) && !add_piece(r, &p)) {
        set_error(r, "no memory for the reply");
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
        reply_printable(data, n < 80 ? n : 80, text, sizeof text);
        set_error(r, "the server sent an event that is not a JSON object: %s", text);
    } else if ((!member(chunk, "choices", json_type_array) || json_object_object_get(chunk, "error")) &&
               error_member(chunk, text, sizeof text)) {
        set_error(r, "the server reported an error in the stream: %s", text);
    } else {
        read_chunk(r, chunk);
    }
    json_object_put(chunk);
}

void reply_init(struct reply *r, struct sample *sample) {
    *r = (struct reply){.sample = sample, .last_text_ms = -1, .finish_ms = -1};
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

/* ---- When each token came */

static bool put_tokens(double *out, int64_t n_out, int64_t *at, int64_t n, double ms) {
    if (n < 0 || n > n_out - *at) {
        return false;
    }
    while (n-- > 0) {
        out[(*at)++] = ms;
    }
    return true;
}

static bool tokens_from_ids(const struct reply *r, double *out, int64_t n_out) {
    int64_t at = 0;
    for (size_t i = 0; i < r->n_pieces; i++) {
        const struct reply_piece *p = &r->pieces[i];
        if ((p->text && p->ids == 0) || !put_tokens(out, n_out, &at, p->ids, p->ms)) {
            return false;
        }
    }
    return at == n_out;
}

static bool tokens_from_totals(const struct reply *r, double *out, int64_t n_out) {
    int64_t at = 0;
    if (r->sample->chunks == 0) {
        return false; /* the total at the end is all there is */
    }
    for (size_t i = 0; i < r->n_pieces; i++) {
        const struct reply_piece *p = &r->pieces[i];
        if ((p->text && p->total < 0) || (p->total >= 0 && !put_tokens(out, n_out, &at, p->total - at, p->ms))) {
            return false;
        }
    }
    return at == n_out;
}

/* As many tokens as pieces: each carried one. An end token has no text: one more than pieces before "stop" is it. */
static bool tokens_from_pieces(const struct reply *r, double *out, int64_t n_out) {
    int64_t at = 0;
    for (size_t i = 0; i < r->n_pieces; i++) {
        if (r->pieces[i].text && !put_tokens(out, n_out, &at, 1, r->pieces[i].ms)) {
            return false;
        }
    }
    bool end_token = at == n_out - 1 && r->finished && !r->finish_text && strcmp(r->sample->finish, "stop") == 0;
    return at == n_out || (end_token && put_tokens(out, n_out, &at, 1, r->finish_ms));
}

static void find_token_times(struct reply *r) {
    struct sample *s = r->sample;
    int64_t n = s->output_tokens;
    if (n <= 0 || n > (int64_t)SSE_EVENT_MAX) {
        return;
    }
    double *ms = mem_alloc((size_t)n * sizeof *ms);
    if (!ms) {
        set_error(r, "no memory for the reply");
    } else if (tokens_from_ids(r, ms, n) || tokens_from_totals(r, ms, n) || tokens_from_pieces(r, ms, n)) {
        s->token_ms = ms;
        s->first_token_ms = ms[0];
        s->last_token_ms = ms[n - 1];
    } else {
        mem_free(ms);
    }
}

/* Counts that contradict the stream make every rate a guess. */
static void check_counts(struct reply *r) {
    const struct sample *s = r->sample;
    if (s->output_tokens >= 0 && s->output_tokens < (int64_t)s->chunks) {
        set_error(r, "the server counts %lld output tokens but sent text in %u pieces", (long long)s->output_tokens,
                  s->chunks);
    } else if (s->prompt_tokens >= 0 && s->cached_tokens > s->prompt_tokens) {
        set_error(r, "the server counts %lld cached tokens in a prompt of %lld", (long long)s->cached_tokens,
                  (long long)s->prompt_tokens);
    }
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
    check_counts(r);
    s->last_token_ms = r->last_text_ms;
    bool one_piece = s->chunks == 1 && s->output_tokens > 2; /* kept back: the end says nothing of when tokens came */
    if (r->finished && !one_piece && (s->output_tokens < 0 || s->output_tokens > (int64_t)s->chunks)) {
        s->last_token_ms = r->finish_ms; /* what came last had no text */
        s->first_token_ms = s->first_token_ms >= 0 ? s->first_token_ms : r->finish_ms;
    }
    if (!r->failed) {
        find_token_times(r);
    }
    s->ok = !r->failed;
}

void reply_free(struct reply *r) {
    sse_free(&r->sse);
    mem_free(r->pieces);
    r->pieces = NULL;
}
