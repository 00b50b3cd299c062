#include "bench/prompt.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/status.h"
#include "bench/prose.h"

#include <stdio.h>
#include <string.h>

#define BYTES_PER_TOKEN     4.4 /* of English, where nothing better is known */
#define BYTES_PER_TOKEN_MAX 8
#define SEARCH_STEPS        48
#define PROSE_SEED          0x5EAu
#define NONCE_BYTES         16

/* Three groups of three digits: as many tokens for every number, both where a vocabulary has single digits and where it
 * has threes. The first group counts up, so that any thousand requests in a row differ in their first token. */
static void nonce_text(uint64_t nonce, char out[NONCE_BYTES]) {
    uint64_t z = nonce * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z ^= z >> 27;
    snprintf(out, NONCE_BYTES, "%03u-%03u-%03u. ", (unsigned)(nonce % 1000), (unsigned)(z % 1000),
             (unsigned)(z / 1000 % 1000));
}

static uint32_t count_turns(const struct workload *w) {
    uint32_t n = 0;
    while (n < WORKLOAD_TURNS_MAX && w->turns[n]) {
        n++;
    }
    return n;
}

/* The content of turn i with `cut` bytes of text in the one that is cut. */
static void put_content(const struct prompt *p, uint32_t i, const char *nonce, const char *text, struct buf *out) {
    const struct workload *w = p->workload;
    if (i == 0 && !w->system) {
        buf_puts(out, nonce);
    }
    if (i + 1 == count_turns(w)) {
        buf_puts(out, text);
    }
    buf_puts(out, w->turns[i]);
}

static void put_message(struct buf *b, const char *role, const struct buf *content) {
    buf_printf(b, "%s{\"role\":\"%s\",\"content\":", b->len == 1 ? "" : ",", role);
    buf_json_string(b, content->data ? content->data : "", content->len);
    buf_putc(b, '}');
    b->failed |= content->failed;
}

static void put_messages(const struct prompt *p, uint64_t number, const char *text, struct buf *out) {
    struct buf content = {0};
    char nonce[NONCE_BYTES];
    nonce_text(number, nonce);
    buf_reset(out);
    buf_putc(out, '[');
    if (p->workload->system) {
        buf_puts(&content, nonce);
        buf_puts(&content, p->workload->system);
        put_message(out, "system", &content);
    }
    for (uint32_t i = 0; i < count_turns(p->workload); i++) {
        buf_reset(&content);
        put_content(p, i, nonce, text, &content);
        put_message(out, i % 2 ? "assistant" : "user", &content);
    }
    buf_putc(out, ']');
    buf_free(&content);
}

void prompt_messages(const struct prompt *p, uint64_t nonce, struct buf *out) {
    put_messages(p, nonce, p->text, out);
}

void prompt_sha256(const struct buf *messages, char out[65]) {
    uint8_t sum[HASH_BYTES];
    struct hash *h = hash_new();
    out[0] = '\0';
    if (h) {
        hash_add(h, messages->data, messages->len);
        if (hash_take(h, sum)) {
            hash_hex(sum, out);
        }
        hash_free(h);
    }
}

void prompt_free(struct prompt *p) {
    mem_free(p->text);
    p->text = NULL;
}

/* ---- Cutting */

struct cutter {
    struct target *target;
    struct prompt *prompt;
    uint64_t nonce;
    struct buf source, text, messages; /* text: the cut being tried */
    uint32_t overhead;                 /* tokens of the prompt that are not in the last turn; for tokenizers */
};

/* The first n bytes, without white space at their end: templates drop it. `tail` is put behind. */
static void set_text(struct cutter *c, size_t n, const char *tail) {
    while (n && (c->source.data[n - 1] == ' ' || c->source.data[n - 1] == '\n')) {
        n--;
    }
    buf_reset(&c->text);
    buf_append(&c->text, c->source.data, n);
    buf_puts(&c->text, tail);
    if (c->text.len == 0) {
        buf_putc(&c->text, '\0');
        c->text.len = 0;
    }
}

static sluice_status count_by_usage(struct cutter *c, uint32_t *out, sluice_error *err) {
    put_messages(c->prompt, c->nonce++, c->text.data, &c->messages);
    if (c->messages.failed || c->text.failed) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a prompt");
    }
    return target_count_prompt(c->target, c->messages.data, out, err);
}

static sluice_status count_last_turn(struct cutter *c, uint32_t *out, sluice_error *err) {
    struct buf content = {0};
    char nonce[NONCE_BYTES];
    nonce_text(c->nonce, nonce);
    put_content(c->prompt, count_turns(c->prompt->workload) - 1, nonce, c->text.data, &content);
    sluice_status status =
        content.failed || c->text.failed
            ? fail(err, SLUICE_E_NOMEM, "no memory for a prompt")
            : target_count_text(c->target, content.data ? content.data : "", content.len, false, out, err);
    buf_free(&content);
    return status;
}

static sluice_status count(struct cutter *c, uint32_t *out, sluice_error *err) {
    if (c->target->tokenizer == TOKENIZER_USAGE) {
        return count_by_usage(c, out, err);
    }
    TRY(count_last_turn(c, out, err));
    *out += c->overhead;
    return SLUICE_OK;
}

/* Where no byte more or less meets the number: words of one token each in any vocabulary. */
static sluice_status pad(struct cutter *c, size_t n, uint32_t wanted, uint32_t *tokens, sluice_error *err) {
    static const char *const tails[] = {" a", ".", " a a", " I", "!", " a a a"};
    for (size_t i = 0; *tokens != wanted && i < sizeof tails / sizeof tails[0]; i++) {
        set_text(c, n, tails[i]);
        TRY(count(c, tokens, err));
    }
    if (*tokens != wanted) { /* as near as it gets: the row says that it was not met */
        set_text(c, n, "");
        TRY(count(c, tokens, err));
    }
    return SLUICE_OK;
}

/* Finds the cut of exactly `wanted` tokens by false position, halving where that is slow. */
static sluice_status search(struct cutter *c, uint32_t wanted, uint32_t *tokens, sluice_error *err) {
    size_t low = 0, high = c->source.len;
    uint32_t at_low, at_high = 0; /* tokens; at_high 0: not measured */
    set_text(c, 0, "");
    TRY(count(c, tokens, err));
    if (*tokens >= wanted) {
        return SLUICE_OK;
    }
    at_low = *tokens;
    for (int i = 0; i < SEARCH_STEPS && high - low > 1; i++) {
        double per_token = at_high ? (double)(high - low) / (at_high - at_low) : BYTES_PER_TOKEN;
        double step = (double)(wanted - at_low) * per_token;
        if (at_high && i % 3 == 2) {
            step = (double)(high - low) / 2;
        }
        size_t n = low + (step < 1 ? 1 : (size_t)step);
        n = n >= high ? high - 1 : n;
        set_text(c, n, "");
        TRY(count(c, tokens, err));
        if (*tokens == wanted) {
            return SLUICE_OK;
        }
        if (*tokens < wanted) {
            low = n;
            at_low = *tokens;
        } else {
            high = n;
            at_high = *tokens;
        }
    }
    return pad(c, low, wanted, tokens, err);
}

/* With a tokenizer the texts are counted there and the template by one request, which also has the last word. */
static sluice_status cut(struct cutter *c, sluice_error *err) {
    struct prompt *p = c->prompt;
    uint32_t total, last;
    if (c->target->tokenizer == TOKENIZER_USAGE) {
        TRY(search(c, p->wanted, &p->tokens, err));
        return SLUICE_OK;
    }
    set_text(c, 0, "");
    TRY(count_by_usage(c, &total, err));
    TRY(count_last_turn(c, &last, err));
    c->overhead = total > last ? total - last : 0;
    for (int i = 0; i < 3; i++) {
        TRY(search(c, p->wanted, &total, err));
        TRY(count_by_usage(c, &p->tokens, err));
        if (p->tokens == total) {
            break;
        }
        c->overhead += p->tokens - total; /* modulo 2^32, as is the sum in count() */
    }
    return SLUICE_OK;
}

/* What any two requests share: the template up to the nonce. Exact where the target renders it, else all of the
 * template. */
static void find_template_tokens(struct cutter *c) {
    struct prompt *p = c->prompt;
    struct buf rendered = {0};
    char nonce[NONCE_BYTES];
    uint32_t before, all;
    p->template_tokens = -1;
    if (c->target->tokenizer == TOKENIZER_USAGE || p->tokens == 0) {
        return;
    }
    nonce_text(c->nonce, nonce);
    put_messages(p, c->nonce, c->text.data, &c->messages);
    const char *at = !c->messages.failed && target_render(c->target, c->messages.data, &rendered)
                         ? strstr(rendered.data, nonce)
                         : NULL;
    if (at &&
        target_count_text(c->target, rendered.data, (size_t)(at - rendered.data), true, &before, NULL) == SLUICE_OK &&
        target_count_text(c->target, rendered.data, rendered.len, true, &all, NULL) == SLUICE_OK && all <= p->tokens) {
        p->template_tokens = (int64_t)before + (p->tokens - all); /* a start token that is not in the rendered text */
    } else if (count_turns(p->workload) == 1 && !p->workload->system) {
        p->template_tokens = c->overhead; /* more turns: other messages are in it */
    }
    buf_free(&rendered);
}

/* A target that counts nothing: the size is what English usually makes. */
static void guess(struct cutter *c) {
    struct prompt *p = c->prompt;
    double bytes = p->wanted * BYTES_PER_TOKEN;
    set_text(c, bytes < (double)c->source.len ? (size_t)bytes : c->source.len, "");
    p->tokens = 0;
    p->template_tokens = -1;
}

sluice_status prompt_make(struct target *t, const struct workload *w, uint32_t wanted, uint64_t *nonce,
                          struct prompt *out, sluice_error *err) {
    struct cutter c = {.target = t, .prompt = out, .nonce = *nonce};
    sluice_error why = {0};
    *out = (struct prompt){.workload = w, .wanted = wanted, .template_tokens = -1};
    buf_puts(&c.source, w->source);
    buf_puts(&c.source, w->source[0] ? " " : "");
    prose_append(&c.source, (size_t)wanted * BYTES_PER_TOKEN_MAX + 64, PROSE_SEED);
    sluice_status status = c.source.failed ? fail(&why, SLUICE_E_NOMEM, "no memory for a prompt") : cut(&c, &why);
    if (status == SLUICE_OK) {
        find_template_tokens(&c);
    } else if (status == SLUICE_E_UNSUPPORTED) {
        guess(&c);
        status = SLUICE_OK;
    }
    if (status == SLUICE_OK) {
        out->text = mem_strndup(c.text.data ? c.text.data : "", c.text.len);
        if (!out->text || c.text.failed) {
            status = fail(&why, SLUICE_E_NOMEM, "no memory for a prompt");
        }
    }
    *nonce = c.nonce;
    buf_free(&c.source);
    buf_free(&c.text);
    buf_free(&c.messages);
    return status == SLUICE_OK ? SLUICE_OK : fail(err, status, "%s", why.text);
}
