#include "server/answer.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* ---- Log-probabilities ---------------------------------------------------------------------------------------- */

static bool logprob_grow(struct logprob_list *l) {
    size_t cap = l->cap ? l->cap * 2 : 16;
    sluice_token_prob *probs = mem_realloc(l->probs, cap * (1 + l->n_top) * sizeof *probs);
    if (!probs) {
        return false;
    }
    l->probs = probs;
    size_t *start = mem_realloc(l->start, cap * sizeof *start);
    if (!start) {
        return false;
    }
    l->start = start;
    l->cap = cap;
    return true;
}

bool logprob_push(struct logprob_list *l, const sluice_event *event, size_t start) {
    if (l->n == l->cap && !logprob_grow(l)) {
        return false;
    }
    sluice_token_prob *p = l->probs + l->n * (1 + l->n_top);
    p[0] = (sluice_token_prob){.token = event->token, .logprob = event->logprob};
    for (uint32_t i = 0; i < l->n_top; i++) {
        p[1 + i] = i < event->n_top ? event->top[i] : (sluice_token_prob){.token = -1};
    }
    l->start[l->n++] = start;
    return true;
}

void logprob_drop_front(struct logprob_list *l, size_t n) {
    if (n > 0) {
        size_t stride = 1 + l->n_top;
        memmove(l->probs, l->probs + n * stride, (l->n - n) * stride * sizeof *l->probs);
        memmove(l->start, l->start + n, (l->n - n) * sizeof *l->start);
        l->n -= n;
    }
}

void logprob_free(struct logprob_list *l) {
    mem_free(l->probs);
    mem_free(l->start);
    *l = (struct logprob_list){0};
}

/* ---- Tokens --------------------------------------------------------------------------------------------------- */

/* Nine digits give a float back exactly. JSON has no infinity: the API's own figure for "never" stands in. */
static void logprob_write(struct buf *out, float v) {
    buf_printf(out, "%.9g", isfinite(v) ? (double)v : -9999.0);
}

/* Completions name a token that is no whole UTF-8 by its bytes, so that two such tokens stay apart as keys. */
static void legacy_token_write(struct buf *out, const sluice_model *model, int32_t token) {
    size_t n;
    const char *s = sluice_token_bytes(model, token, &n);
    if (utf8_valid_prefix(s, n) == n) {
        buf_json_string(out, s, n);
        return;
    }
    buf_puts(out, "\"bytes:");
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "\\\\x%02x", (unsigned)(unsigned char)s[i]);
    }
    buf_putc(out, '"');
}

/* {"token":..,"logprob":..,"bytes":[..] without the closing brace */
static void chat_prob_write(struct buf *out, const sluice_model *model, const sluice_token_prob *p) {
    size_t n;
    const char *s = sluice_token_bytes(model, p->token, &n);
    buf_puts(out, "{\"token\":");
    buf_json_string(out, s, n);
    buf_puts(out, ",\"logprob\":");
    logprob_write(out, p->logprob);
    buf_puts(out, ",\"bytes\":[");
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "%s%u", i ? "," : "", (unsigned)(unsigned char)s[i]);
    }
    buf_putc(out, ']');
}

static void chat_logprobs_write(struct buf *out, const sluice_model *model, const struct logprob_list *l, size_t n) {
    buf_puts(out, "{\"content\":[");
    for (size_t i = 0; i < n; i++) {
        const sluice_token_prob *p = l->probs + i * (1 + l->n_top);
        if (i > 0) {
            buf_putc(out, ',');
        }
        chat_prob_write(out, model, p);
        buf_puts(out, ",\"top_logprobs\":[");
        for (uint32_t k = 1; k <= l->n_top && p[k].token >= 0; k++) {
            if (k > 1) {
                buf_putc(out, ',');
            }
            chat_prob_write(out, model, &p[k]);
            buf_putc(out, '}');
        }
        buf_puts(out, "]}");
    }
    buf_puts(out, "],\"refusal\":null}");
}

/* The alternatives, and the chosen token where it is none of them. */
static void legacy_top_write(struct buf *out, const sluice_model *model, const sluice_token_prob *p, uint32_t n_top) {
    uint32_t n = 1;
    bool has_chosen = false;
    for (; n <= n_top && p[n].token >= 0; n++) {
        has_chosen = has_chosen || p[n].token == p[0].token;
    }
    uint32_t first = has_chosen ? 1 : 0;
    buf_putc(out, '{');
    for (uint32_t k = first; k < n; k++) {
        buf_puts(out, k > first ? "," : "");
        legacy_token_write(out, model, p[k].token);
        buf_putc(out, ':');
        logprob_write(out, p[k].logprob);
    }
    buf_putc(out, '}');
}

size_t answer_count_chars(const char *s, size_t n) {
    size_t chars = 0;
    for (size_t i = 0; i < n; i++) {
        chars += ((unsigned char)s[i] & 0xC0) != 0x80;
    }
    return chars;
}

/* Where a token's text begins: the API counts characters, the list counts bytes. */
static size_t legacy_offset(const struct answer_choice *c, size_t start) {
    size_t into = start > c->bytes_before ? start - c->bytes_before : 0;
    return c->chars_before + answer_count_chars(c->text, into < c->text_len ? into : c->text_len);
}

static void legacy_logprobs_write(struct buf *out, const sluice_model *model, const struct answer_choice *c) {
    const struct logprob_list *l = c->logprobs;
    size_t stride = 1 + l->n_top;
    buf_puts(out, "{\"tokens\":[");
    for (size_t i = 0; i < c->n_logprobs; i++) {
        buf_puts(out, i ? "," : "");
        legacy_token_write(out, model, l->probs[i * stride].token);
    }
    buf_puts(out, "],\"token_logprobs\":[");
    for (size_t i = 0; i < c->n_logprobs; i++) {
        buf_puts(out, i ? "," : "");
        logprob_write(out, l->probs[i * stride].logprob);
    }
    buf_puts(out, "],\"top_logprobs\":[");
    for (size_t i = 0; i < c->n_logprobs; i++) {
        buf_puts(out, i ? "," : "");
        legacy_top_write(out, model, l->probs + i * stride, l->n_top);
    }
    buf_puts(out, "],\"text_offset\":[");
    for (size_t i = 0; i < c->n_logprobs; i++) {
        buf_printf(out, "%s%zu", i ? "," : "", legacy_offset(c, l->start[i]));
    }
    buf_puts(out, "]}");
}

/* ---- Objects -------------------------------------------------------------------------------------------------- */

void answer_make_id(struct answer_head *h) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char noise[24];
    if (getrandom(noise, sizeof noise, 0) != (ssize_t)sizeof noise) {
        memset(noise, 0, sizeof noise); /* never happens for 24 bytes; the id is no secret */
    }
    char text[sizeof noise + 1];
    for (size_t i = 0; i < sizeof noise; i++) {
        text[i] = alphabet[noise[i] % (sizeof alphabet - 1)];
    }
    text[sizeof noise] = '\0';
    snprintf(h->id, sizeof h->id, "%s-%s", h->chat ? "chatcmpl" : "cmpl", text);
}

void answer_open(struct buf *out, const struct answer_head *h, bool chunk) {
    const char *object = !h->chat ? "text_completion" : chunk ? "chat.completion.chunk" : "chat.completion";
    buf_printf(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":", h->id, object, h->created);
    buf_json_string(out, h->model, strlen(h->model));
    buf_puts(out, ",\"system_fingerprint\":");
    buf_json_string(out, h->fingerprint, strlen(h->fingerprint));
    buf_puts(out, ",\"choices\":[");
}

static void chat_body_write(struct buf *out, const struct answer_choice *c, bool chunk) {
    bool role = !chunk || c->first;
    buf_puts(out, chunk ? ",\"delta\":{" : ",\"message\":{");
    if (role) {
        buf_puts(out, "\"role\":\"assistant\",");
    }
    if (role || c->text_len > 0) {
        buf_puts(out, "\"content\":");
        buf_json_string(out, c->text, c->text_len);
        buf_puts(out, role ? ",\"refusal\":null}" : "}");
    } else {
        buf_putc(out, '}');
    }
}

void answer_choice_write(struct buf *out, const struct answer_head *h, const sluice_model *model,
                         const struct answer_choice *c, bool chunk) {
    buf_printf(out, "{\"index\":%" PRIu32, c->index);
    if (h->chat) {
        chat_body_write(out, c, chunk);
    } else {
        buf_puts(out, ",\"text\":");
        buf_json_string(out, c->text, c->text_len);
    }
    buf_puts(out, ",\"logprobs\":");
    if (!c->logprobs || (chunk && c->n_logprobs == 0)) {
        buf_puts(out, "null");
    } else if (h->chat) {
        chat_logprobs_write(out, model, c->logprobs, c->n_logprobs);
    } else {
        legacy_logprobs_write(out, model, c);
    }
    buf_printf(out, ",\"finish_reason\":%s}",
               !c->finished                        ? "null"
               : c->finish == SLUICE_FINISH_LENGTH ? "\"length\""
                                                   : "\"stop\"");
}

void answer_usage_write(struct buf *out, const struct answer_usage *u) {
    buf_printf(out, "{\"prompt_tokens\":%" PRIu64 ",\"completion_tokens\":%" PRIu64 ",\"total_tokens\":%" PRIu64,
               u->prompt_tokens, u->completion_tokens, u->prompt_tokens + u->completion_tokens);
    if (u->cached_known) {
        buf_printf(out, ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRIu64 "}", u->cached_tokens);
    }
    buf_putc(out, '}');
}

static void rate_write(struct buf *out, const char *what, uint32_t n, double ms) {
    buf_printf(out, "\"%s_n\":%" PRIu32 ",\"%s_ms\":", what, n, what);
    buf_json_double(out, ms);
    buf_printf(out, ",\"%s_per_token_ms\":", what);
    buf_json_double(out, n > 0 ? ms / n : 0);
    buf_printf(out, ",\"%s_per_second\":", what);
    buf_json_double(out, ms > 0 ? n * 1e3 / ms : 0);
}

void answer_timings_write(struct buf *out, const sluice_timings *t) {
    buf_printf(out, "{\"cache_n\":%" PRIu32 ",\"queue_ms\":", t->cache_n);
    buf_json_double(out, t->queue_ms);
    buf_putc(out, ',');
    rate_write(out, "prompt", t->prompt_n, t->prompt_ms);
    buf_putc(out, ',');
    rate_write(out, "predicted", t->predicted_n, t->predicted_ms);
    buf_printf(out, ",\"draft_n\":%" PRIu32 ",\"draft_n_accepted\":%" PRIu32 "}", t->draft_n, t->draft_accepted_n);
}

void answer_close(struct buf *out, const struct answer_usage *usage, bool null_usage, const sluice_timings *timings) {
    buf_putc(out, ']');
    if (usage) {
        buf_puts(out, ",\"usage\":");
        answer_usage_write(out, usage);
    } else if (null_usage) {
        buf_puts(out, ",\"usage\":null");
    }
    if (timings) {
        buf_puts(out, ",\"timings\":");
        answer_timings_write(out, timings);
    }
    buf_putc(out, '}');
}
