/*
 * A loopback HTTP server that behaves as told: an OpenAI-compatible one with a tokenizer, a chat template, a prefix
 * cache, slots and a clock that are all known exactly, or one that does any of the things that servers do wrong. A
 * thread per connection, keep-alive. Times are kept to absolute deadlines, and what was really sent when is logged.
 *
 * Its tokens: runs of letters and digits, and every other visible character; special marks <|..|> are one. A prompt is
 * one start token, then per message <|im_start|> role content <|im_end|>, then <|im_start|> assistant.
 */
#ifndef BENCH_FAKE_SERVER_H
#define BENCH_FAKE_SERVER_H

#include "base/clock.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <json-c/json.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum fake_counts {
    COUNTS_FINAL,      /* usage at the end */
    COUNTS_NONE,       /* no usage at all */
    COUNTS_CONTINUOUS, /* usage in every piece */
    COUNTS_TIMINGS,    /* llama-server's timings in every piece */
    COUNTS_IDS,        /* token ids in every piece, usage at the end */
    COUNTS_TOO_FEW,    /* a usage that counts fewer tokens than were sent */
    COUNTS_WRONG_PROMPT,
    COUNTS_CACHE_LIE, /* more cached than prompt tokens */
};

enum fake_cache {
    CACHE_REAL,      /* a prefix cache of whole tokens */
    CACHE_SILENT,    /* the same, and not reported */
    CACHE_OFF,       /* nothing is kept, and that is reported */
    CACHE_EVERYTHING /* claims that all but one token came from the cache */
};

enum fake_end {
    END_GOOD,
    END_NO_DONE, /* a finish reason, and no "[DONE]" */
    END_OPEN,    /* "[DONE]", and the connection stays open in the middle of the body */
    END_EARLY,   /* closes after three tokens */
    END_RESET,   /* resets after three tokens */
    END_ERROR,   /* an error event after three tokens */
    END_SILENT,  /* nothing after three tokens */
    END_ENDLESS, /* tokens for ever */
};

enum fake_plain { /* instead of a stream */
                  PLAIN_NONE,
                  PLAIN_CLOSED,     /* closes without an answer */
                  PLAIN_JSON,       /* a whole answer as JSON */
                  PLAIN_ERROR_200,  /* 200 with an error object */
                  PLAIN_WRONG_TYPE, /* 200, text/html */
                  PLAIN_404,
                  PLAIN_500,
                  PLAIN_401,
                  PLAIN_302,
                  PLAIN_EMPTY, /* 200, no body */
};

enum fake_tokenizer { TOKENIZE_LLAMA, TOKENIZE_VLLM, TOKENIZE_NONE };

struct fake {
    double first_ms, gap_ms; /* before the first token, between tokens */
    double prompt_ms;        /* per prompt token that is not cached, before the first token */
    uint32_t stall_at;       /* a pause before this token (from 1) */
    double stall_ms;
    uint32_t slow_every; /* every so many answers come slow_ms later; 0 = none */
    double slow_ms;
    uint32_t bundle;         /* tokens in a piece; 0 = 1 */
    uint32_t reasoning;      /* so many tokens come as reasoning first */
    uint32_t stop_after;     /* ends by itself after so many; 0 = at max_tokens */
    bool honours_ignore_eos; /* then only where the request does not ask for full length */
    bool byte_by_byte;
    uint32_t slots;       /* requests beyond these wait; 0 = no limit */
    uint32_t context;     /* longer prompts get 400; 0 = 2048 */
    uint32_t page_tokens; /* that it says its cache keeps together; it keeps single ones nevertheless */
    enum fake_counts counts;
    enum fake_cache cache;
    enum fake_end end;
    enum fake_plain plain;
    enum fake_tokenizer tokenizer;
    bool no_template, no_props, no_models;
    const char *refuses[6]; /* fields that get 400 */
    bool refuses_silently;  /* without naming the field */
};

#define FAKE_LOG_STREAMS 256
#define FAKE_LOG_TOKENS  512

static struct fake fake;
static atomic_int fake_connections, fake_requests, fake_chats;
static atomic_uint fake_answers;
static atomic_bool fake_stopping;
static char fake_last_body[1 << 18];
static pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t fake_freed = PTHREAD_COND_INITIALIZER;
static uint32_t fake_busy;
static char *fake_seen[4096]; /* rendered prompts */
static uint32_t fake_n_seen;
static int fake_socket;
static pthread_t fake_thread;
/* Of a request whose prompt says "#N ": when it came, and when each token was written. */
static uint64_t fake_came_ns[FAKE_LOG_STREAMS], fake_sent_ns[FAKE_LOG_STREAMS][FAKE_LOG_TOKENS];
static uint64_t fake_done_ns[FAKE_LOG_STREAMS][FAKE_LOG_TOKENS]; /* the write has ended */

static inline void fake_sleep(int ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

static inline void fake_wait_until(uint64_t ns) {
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* Forgets what it was told and what it cached. */
static inline void fake_reset(void) {
    pthread_mutex_lock(&fake_lock);
    fake = (struct fake){.first_ms = 3, .gap_ms = 1, .context = 2048};
    for (uint32_t i = 0; i < fake_n_seen; i++) {
        free(fake_seen[i]);
    }
    fake_n_seen = 0;
    pthread_mutex_unlock(&fake_lock);
}

/* A test sets single fields without the lock, and a stream of the test before it may still be running then: that is meant. */
__attribute__((no_sanitize("thread"))) static inline struct fake fake_now(void) {
    pthread_mutex_lock(&fake_lock);
    struct fake f = fake;
    pthread_mutex_unlock(&fake_lock);
    return f;
}

/* ---- Tokens */

static inline uint32_t fake_count(const char *s, size_t n, bool special) {
    uint32_t count = 0;
    for (size_t i = 0; i < n;) {
        if (isspace((unsigned char)s[i])) {
            i++;
            continue;
        }
        const char *close = special && s[i] == '<' && i + 1 < n && s[i + 1] == '|' ? strstr(s + i, "|>") : NULL;
        size_t start = i;
        if (close && close < s + n) {
            i = (size_t)(close + 2 - s);
        } else {
            while (i < n && isalnum((unsigned char)s[i])) {
                i++;
            }
            i += i == start;
        }
        count++;
    }
    return count;
}

static inline char *fake_render(struct json_object *messages) {
    char *out = calloc(1, 1 << 20);
    size_t at = 0;
    for (size_t i = 0; i < json_object_array_length(messages); i++) {
        struct json_object *m = json_object_array_get_idx(messages, i);
        at += (size_t)snprintf(out + at, (1 << 20) - at, "<|im_start|>%s\n%s<|im_end|>\n",
                               json_object_get_string(json_object_object_get(m, "role")),
                               json_object_get_string(json_object_object_get(m, "content")));
    }
    snprintf(out + at, (1 << 20) - at, "<|im_start|>assistant\n");
    return out;
}

/* Tokens that this prompt shares with one seen before, the start token included; remembers it. */
static inline uint32_t fake_cached(char *rendered) {
    uint32_t best = 0;
    pthread_mutex_lock(&fake_lock);
    for (uint32_t i = 0; i < fake_n_seen; i++) {
        size_t n = 0;
        while (rendered[n] && rendered[n] == fake_seen[i][n]) {
            n++;
        }
        while (n && rendered[n] && isalnum((unsigned char)rendered[n]) && isalnum((unsigned char)rendered[n - 1])) {
            n--; /* a token that only begins alike */
        }
        uint32_t tokens = 1 + fake_count(rendered, n, true) - (rendered[n] == '\0');
        best = tokens > best ? tokens : best;
    }
    if (fake_n_seen < sizeof fake_seen / sizeof fake_seen[0]) {
        fake_seen[fake_n_seen++] = rendered;
    } else {
        free(rendered);
    }
    pthread_mutex_unlock(&fake_lock);
    return best;
}

/* ---- Bytes */

static inline bool fake_send(int fd, const char *text, size_t n) {
    while (n) {
        ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        text += sent;
        n -= (size_t)sent;
    }
    return true;
}

/* One HTTP chunk with one event, or its bytes one at a time. */
static inline bool fake_event(int fd, const struct fake *f, const char *fmt, ...) {
    char text[4096], wrapped[4200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    int n = snprintf(wrapped, sizeof wrapped, "%zx\r\n%s\r\n", strlen(text), text);
    if (!f->byte_by_byte) {
        return fake_send(fd, wrapped, (size_t)n);
    }
    for (int i = 0; i < n; i++) {
        if (!fake_send(fd, wrapped + i, 1)) {
            return false;
        }
    }
    return true;
}

static inline bool fake_plain_reply(int fd, const char *status, const char *type, const char *body) {
    size_t n = strlen(body), cap = n + 256;
    char *text = malloc(cap);
    int head = snprintf(text, cap, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n", status, type, n,
                        strncmp(status, "302", 3) == 0 ? "Location: http://127.0.0.1:1/elsewhere\r\n" : "");
    memcpy(text + head, body, n);
    bool ok = fake_send(fd, text, (size_t)head + n);
    free(text);
    return ok;
}

/* ---- The chat endpoint */

struct fake_chat {
    int fd;
    struct fake f;
    uint32_t prompt, cached, max_tokens;
    bool full_length; /* ignore_eos */
    int log;          /* -1 none */
    uint64_t start_ns;
};

static inline void fake_put_counts(const struct fake_chat *c, uint32_t n, bool last, char *out, size_t cap) {
    uint32_t prompt = c->prompt + (c->f.counts == COUNTS_WRONG_PROMPT ? 3 : 0);
    uint32_t output = c->f.counts == COUNTS_TOO_FEW ? n / 2 : n;
    uint32_t cached = c->f.counts == COUNTS_CACHE_LIE ? prompt + 5 : c->cached;
    bool now = last ? c->f.counts != COUNTS_NONE : c->f.counts == COUNTS_CONTINUOUS;
    char details[96] = "";
    out[0] = '\0';
    if (c->f.cache != CACHE_SILENT) {
        snprintf(details, sizeof details, ",\"prompt_tokens_details\":{\"cached_tokens\":%u}", cached);
    }
    if (c->f.counts == COUNTS_TIMINGS && !last) {
        snprintf(out, cap, ",\"timings\":{\"prompt_ms\":1.5,\"predicted_ms\":2.5,\"predicted_n\":%u}", n);
    } else if (now) {
        snprintf(out, cap, ",\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u%s}", prompt, output, details);
    }
}

static inline bool fake_piece(const struct fake_chat *c, uint32_t from, uint32_t n) {
    char counts[256], ids[512] = "", text[512] = "";
    size_t at = 0, t = 0;
    fake_put_counts(c, from + n, false, counts, sizeof counts);
    for (uint32_t i = 0; i < n && i < 32; i++) {
        at += (size_t)snprintf(ids + at, sizeof ids - at, "%s%u", i ? "," : ",\"token_ids\":[", 100 + from + i);
        t += (size_t)snprintf(text + t, sizeof text - t, " w%u", from + i);
    }
    snprintf(ids + at, sizeof ids - at, "]");
    for (uint32_t i = 0; c->log >= 0 && i < n && from + i < FAKE_LOG_TOKENS; i++) {
        __atomic_store_n(&fake_sent_ns[c->log][from + i], clock_ns(), __ATOMIC_RELAXED); /* logs are used again */
    }
    bool sent = fake_event(c->fd, &c->f, "data: {\"choices\":[{\"delta\":{\"%s\":\"%s\"}%s}]%s}\r\n\r\n",
                           from < c->f.reasoning ? "reasoning_content" : "content", text,
                           c->f.counts == COUNTS_IDS ? ids : "", counts);
    for (uint32_t i = 0; c->log >= 0 && i < n && from + i < FAKE_LOG_TOKENS; i++) {
        __atomic_store_n(&fake_done_ns[c->log][from + i], clock_ns(), __ATOMIC_RELAXED);
    }
    return sent;
}

/* false: the connection is of no use any more. */
static inline bool fake_break_off(const struct fake_chat *c) {
    struct linger hard = {1, 0};
    switch (c->f.end) {
    case END_RESET:
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        return false;
    case END_ERROR:
        fake_event(c->fd, &c->f, "data: {\"error\":{\"message\":\"the device is gone\"}}\n\n");
        return false;
    case END_SILENT:
        for (int i = 0; i < 200 && !atomic_load(&fake_stopping) && fake_now().end == END_SILENT; i++) {
            fake_sleep(20);
        }
        return false;
    default:
        return false;
    }
}

static inline bool fake_finish(const struct fake_chat *c, uint32_t n, bool stopped) {
    char counts[256];
    fake_put_counts(c, n, true, counts, sizeof counts);
    fake_event(c->fd, &c->f, ": keep-alive\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"%s\"}]}\n\n",
               stopped ? "stop" : "length");
    if (counts[0]) {
        fake_event(c->fd, &c->f, "data: {\"choices\":[]%s}\n\n", counts);
    }
    if (c->f.end != END_NO_DONE) {
        fake_event(c->fd, &c->f, "data: [DONE]\n\n");
    }
    if (c->f.end == END_OPEN) {
        for (int i = 0; i < 500 && !atomic_load(&fake_stopping); i++) {
            fake_sleep(20);
        }
        return false;
    }
    return fake_send(c->fd, "0\r\n\r\n", 5);
}

static inline bool fake_stream(struct fake_chat *c) {
    static const char head[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
    uint32_t bundle = c->f.bundle ? c->f.bundle : 1;
    bool stops = c->f.stop_after && c->f.stop_after <= c->max_tokens && !(c->full_length && c->f.honours_ignore_eos);
    uint32_t n = stops ? c->f.stop_after : c->max_tokens, text = stops ? n - 1 : n; /* an end token has no text */
    double due = c->f.first_ms + c->f.prompt_ms * (c->prompt - c->cached);
    due += c->f.slow_every && atomic_fetch_add(&fake_answers, 1) % c->f.slow_every == 0 ? c->f.slow_ms : 0;
    fake_send(c->fd, head, sizeof head - 1);
    fake_event(c->fd, &c->f, "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n");
    for (uint32_t i = 0; i < text || c->f.end == END_ENDLESS; i += bundle) {
        due += i ? c->f.gap_ms * bundle : 0;
        due += c->f.stall_at && i < c->f.stall_at && c->f.stall_at <= i + bundle ? c->f.stall_ms : 0;
        fake_wait_until(c->start_ns + (uint64_t)(due * 1e6));
        if (i >= 3 &&
            (c->f.end == END_EARLY || c->f.end == END_RESET || c->f.end == END_ERROR || c->f.end == END_SILENT)) {
            return fake_break_off(c);
        }
        if (!fake_piece(c, i, i + bundle <= text || c->f.end == END_ENDLESS ? bundle : text - i)) {
            return false;
        }
    }
    if (stops) {
        fake_wait_until(c->start_ns + (uint64_t)((due + c->f.gap_ms) * 1e6));
    }
    return fake_finish(c, n, stops);
}

/* The first field of the body that it refuses, or NULL. */
static inline const char *fake_refused(const struct fake *f, struct json_object *body) {
    for (size_t i = 0; i < 6 && f->refuses[i]; i++) {
        struct json_object *options = json_object_object_get(body, "stream_options");
        if (json_object_object_get(body, f->refuses[i]) ||
            (options && json_object_object_get(options, f->refuses[i]))) {
            return f->refuses[i];
        }
    }
    return NULL;
}

static inline bool fake_plain_chat(int fd, const struct fake *f) {
    switch (f->plain) {
    case PLAIN_JSON:
        return fake_plain_reply(fd, "200 OK", "application/json", "{\"choices\":[{\"message\":{\"content\":\"hi\"}}]}");
    case PLAIN_ERROR_200:
        return fake_plain_reply(fd, "200 OK", "application/json", "{\"error\":{\"message\":\"out of cards\"}}");
    case PLAIN_WRONG_TYPE:
        return fake_plain_reply(fd, "200 OK", "text/html", "<h1>welcome</h1>");
    case PLAIN_404:
        return fake_plain_reply(fd, "404 Not Found", "application/json", "{\"error\":{\"message\":\"no model x\"}}");
    case PLAIN_500:
        return fake_plain_reply(fd, "500 Oops", "text/html", "<h1>broken</h1>");
    case PLAIN_401:
        return fake_plain_reply(fd, "401 Unauthorized", "application/json", "{}");
    case PLAIN_302:
        return fake_plain_reply(fd, "302 Found", "text/plain", "");
    case PLAIN_EMPTY:
        return fake_plain_reply(fd, "200 OK", "application/json", "");
    default:
        return false;
    }
}

static inline void fake_take_slot(const struct fake *f) {
    pthread_mutex_lock(&fake_lock);
    while (f->slots && fake_busy >= f->slots) {
        pthread_cond_wait(&fake_freed, &fake_lock);
    }
    fake_busy++;
    pthread_mutex_unlock(&fake_lock);
}

static inline void fake_give_slot(void) {
    pthread_mutex_lock(&fake_lock);
    fake_busy--;
    pthread_cond_signal(&fake_freed);
    pthread_mutex_unlock(&fake_lock);
}

static inline bool fake_chat(int fd, struct json_object *body, uint64_t came_ns) {
    struct fake_chat c = {.fd = fd, .f = fake_now(), .log = -1};
    char text[200];
    atomic_fetch_add(&fake_chats, 1);
    if (c.f.plain != PLAIN_NONE) {
        return fake_plain_chat(fd, &c.f);
    }
    const char *field = fake_refused(&c.f, body);
    if (field) {
        snprintf(text, sizeof text, "{\"error\":{\"message\":\"%s is not supported\"}}",
                 c.f.refuses_silently ? "something" : field);
        return fake_plain_reply(fd, "400 Bad Request", "application/json", text);
    }
    char *rendered = fake_render(json_object_object_get(body, "messages"));
    const char *mark = strstr(rendered, "\n#");
    c.log = mark ? atoi(mark + 2) % FAKE_LOG_STREAMS : -1;
    c.prompt = 1 + fake_count(rendered, strlen(rendered), true);
    c.max_tokens = (uint32_t)json_object_get_int64(json_object_object_get(body, "max_tokens"));
    c.full_length = json_object_get_boolean(json_object_object_get(body, "ignore_eos"));
    if (c.prompt + c.max_tokens > c.f.context) {
        free(rendered);
        return fake_plain_reply(fd, "400 Bad Request", "application/json",
                                "{\"error\":{\"message\":\"context exceeded\"}}");
    }
    if (c.log >= 0) {
        fake_came_ns[c.log] = came_ns;
    }
    fake_take_slot(&c.f);
    c.start_ns = c.f.slots ? clock_ns() : came_ns;
    if (c.f.cache == CACHE_REAL || c.f.cache == CACHE_SILENT) {
        c.cached = fake_cached(rendered);
    } else {
        c.cached = c.f.cache == CACHE_EVERYTHING ? c.prompt - 1 : 0;
        free(rendered);
    }
    bool open = fake_stream(&c);
    fake_give_slot();
    return open;
}

/* ---- The rest of the API */

static inline bool fake_tokenize(int fd, const struct fake *f, struct json_object *body) {
    struct json_object *text = json_object_object_get(body, f->tokenizer == TOKENIZE_LLAMA ? "content" : "prompt");
    char head[64];
    if (f->tokenizer == TOKENIZE_NONE || !text) {
        return fake_plain_reply(fd, "404 Not Found", "text/plain", "no");
    }
    bool special = json_object_get_boolean(json_object_object_get(body, "parse_special"));
    uint32_t n = fake_count(json_object_get_string(text), (size_t)json_object_get_string_len(text), special);
    if (f->tokenizer == TOKENIZE_VLLM) {
        snprintf(head, sizeof head, "{\"count\":%u,\"max_model_len\":2048}", n);
        return fake_plain_reply(fd, "200 OK", "application/json", head);
    }
    char *out = malloc(2 * (size_t)n + 32);
    size_t at = (size_t)sprintf(out, "{\"tokens\":[");
    for (uint32_t i = 0; i < n; i++) {
        at += (size_t)sprintf(out + at, i ? ",7" : "7");
    }
    sprintf(out + at, "]}");
    bool ok = fake_plain_reply(fd, "200 OK", "application/json", out);
    free(out);
    return ok;
}

static inline bool fake_template(int fd, const struct fake *f, struct json_object *body) {
    if (f->no_template) {
        return fake_plain_reply(fd, "404 Not Found", "text/plain", "no");
    }
    struct json_object *o = json_object_new_object();
    char *rendered = fake_render(json_object_object_get(body, "messages"));
    json_object_object_add(o, "prompt", json_object_new_string(rendered));
    bool ok = fake_plain_reply(fd, "200 OK", "application/json", json_object_to_json_string(o));
    json_object_put(o);
    free(rendered);
    return ok;
}

static inline bool fake_answer(int fd, const char *path, const char *text, size_t n, uint64_t came_ns) {
    struct fake f = fake_now();
    struct json_tokener *tok = json_tokener_new();
    struct json_object *body = n ? json_tokener_parse_ex(tok, text, (int)n) : NULL;
    bool ok;
    char props[256];
    json_tokener_free(tok);
    if (strncmp(path, "/v1/models", 10) == 0) {
        ok = f.no_models ? fake_plain_reply(fd, "404 Not Found", "text/plain", "no")
                         : fake_plain_reply(fd, "200 OK", "application/json",
                                            "{\"object\":\"list\",\"data\":[{\"id\":\"fake-1\",\"owned_by\":\"nobody\","
                                            "\"meta\":{\"n_ctx\":2048}},{\"id\":\"fake-2\"}]}");
    } else if (strncmp(path, "/props", 6) == 0 && !f.no_props) {
        snprintf(props, sizeof props,
                 "{\"build_info\":\"b1234\",\"total_slots\":%u,\"page_tokens\":%u,\"default_generation_settings\":"
                 "{\"n_ctx\":%u}}",
                 f.slots ? f.slots : 8, f.page_tokens, f.context);
        ok = fake_plain_reply(fd, "200 OK", "application/json", props);
    } else if (strncmp(path, "/tokenize", 9) == 0) {
        ok = fake_tokenize(fd, &f, body);
    } else if (strncmp(path, "/apply-template", 15) == 0) {
        ok = fake_template(fd, &f, body);
    } else if (strncmp(path, "/v1/chat/completions", 20) == 0) {
        ok = fake_chat(fd, body, came_ns);
    } else {
        ok = fake_plain_reply(fd, "404 Not Found", "text/plain", "no");
    }
    json_object_put(body);
    return ok;
}

static inline void *fake_connection(void *arg) {
    int fd = (int)(intptr_t)arg;
    int one = 1;
    size_t cap = 1 << 20;
    char *text = malloc(cap);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    size_t n = 0;
    for (bool open = true; open;) {
        char *end;
        text[n] = '\0';
        while (!(end = strstr(text, "\r\n\r\n"))) {
            ssize_t got = recv(fd, text + n, cap - 1 - n, 0);
            if (got <= 0) {
                goto done;
            }
            n += (size_t)got;
            text[n] = '\0';
        }
        const char *length = strstr(text, "Content-Length: ");
        size_t body = length && length < end ? (size_t)atol(length + 16) : 0;
        size_t head = (size_t)(end + 4 - text);
        while (n < head + body) {
            ssize_t got = recv(fd, text + n, cap - 1 - n, 0);
            if (got <= 0) {
                goto done;
            }
            n += (size_t)got;
        }
        uint64_t came_ns = clock_ns();
        atomic_fetch_add(&fake_requests, 1);
        pthread_mutex_lock(&fake_lock);
        size_t keep = head + body < sizeof fake_last_body ? head + body : sizeof fake_last_body - 1;
        memcpy(fake_last_body, text, keep);
        fake_last_body[keep] = '\0';
        pthread_mutex_unlock(&fake_lock);
        open = fake_answer(fd, strchr(text, ' ') + 1, text + head, body, came_ns);
        memmove(text, text + head + body, n - head - body);
        n -= head + body;
    }
done:
    free(text);
    close(fd);
    atomic_fetch_sub(&fake_connections, 1);
    return NULL;
}

static inline void *fake_main(void *arg) {
    pthread_attr_t small;
    (void)arg;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 << 10);
    for (;;) {
        int fd = accept(fake_socket, NULL, NULL);
        if (fd < 0) {
            pthread_attr_destroy(&small);
            return NULL;
        }
        pthread_t t;
        atomic_fetch_add(&fake_connections, 1);
        if (pthread_create(&t, &small, fake_connection, (void *)(intptr_t)fd) == 0) {
            pthread_detach(t);
        }
    }
}

/* Returns the port. */
static inline int fake_start(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    fake_reset();
    fake_socket = socket(AF_INET, SOCK_STREAM, 0);
    if (fake_socket < 0 || bind(fake_socket, (struct sockaddr *)&a, sizeof a) || listen(fake_socket, 512) ||
        getsockname(fake_socket, (struct sockaddr *)&a, &n) ||
        pthread_create(&fake_thread, NULL, fake_main, NULL) != 0) {
        return -1;
    }
    return ntohs(a.sin_port);
}

static inline void fake_stop(void) {
    atomic_store(&fake_stopping, true);
    shutdown(fake_socket, SHUT_RDWR);
    pthread_join(fake_thread, NULL);
    close(fake_socket);
    for (int i = 0; i < 500 && atomic_load(&fake_connections) > 0; i++) {
        fake_sleep(10);
    }
    fake_reset();
}

#endif
