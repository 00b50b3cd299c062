#include "server/generation.h"

#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

struct choice {
    sluice_request *request;
    bool started, done;
    uint32_t n_tokens; /* so far */
    sluice_finish finish;
    sluice_timings timings;
    struct buf text;               /* what is not sent yet: all of it for a whole answer */
    size_t bytes_sent, chars_sent; /* streams */
    size_t shown;                  /* bytes of text that all tokens so far come to, held-back text included */
    char half[4];                  /* the last of them: a sequence that the next token may complete */
    size_t n_half;
    struct logprob_list logprobs; /* what is not sent yet */
};

struct generation {
    struct generation_env env;
    struct answer_head head;
    bool stream, include_usage, continuous_usage, logprobs;
    size_t n_choices, n_prompts, n_done;
    struct choice *choices;  /* [n_prompts][n] */
    uint64_t *prompt_tokens; /* [n_prompts] */
    bool failed, ended;
    struct api_error error;

    pthread_mutex_t lock; /* cancelled, and choices[].request against generation_cancel */
    bool cancelled;
};

struct generation *generation_new(const struct generation_env *env, bool chat, struct api_error *e) {
    struct generation *g = mem_calloc(1, sizeof *g);
    if (!g) {
        api_error_nomem(e);
        return NULL;
    }
    g->env = *env;
    g->head = (struct answer_head){
        .chat = chat, .created = (int64_t)time(NULL), .model = env->model_name, .fingerprint = env->fingerprint};
    answer_make_id(&g->head);
    pthread_mutex_init(&g->lock, NULL);
    return g;
}

void generation_cancel(struct generation *g) {
    pthread_mutex_lock(&g->lock);
    g->cancelled = true;
    for (size_t i = 0; i < g->n_choices; i++) {
        if (g->choices[i].request) {
            sluice_request_cancel(g->choices[i].request);
        }
    }
    pthread_mutex_unlock(&g->lock);
}

void generation_free(struct generation *g) {
    if (!g) {
        return;
    }
    generation_cancel(g); /* all at once, so that the engine ends them in one step */
    for (size_t i = 0; i < g->n_choices; i++) {
        sluice_request_free(g->choices[i].request);
        buf_free(&g->choices[i].text);
        logprob_free(&g->choices[i].logprobs);
    }
    mem_free(g->choices);
    mem_free(g->prompt_tokens);
    pthread_mutex_destroy(&g->lock);
    mem_free(g);
}

bool generation_is_stream(const struct generation *g) {
    return g->stream;
}

const struct api_error *generation_error(const struct generation *g) {
    return &g->error;
}

/* Several answers to one prompt compute it once: what the one that did found before it. */
static uint32_t least_cached(const struct choice *choices, size_t n) {
    uint32_t least = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        least = choices[i].timings.cache_n < least ? choices[i].timings.cache_n : least;
    }
    return n > 0 ? least : 0;
}

struct answer_usage generation_usage(const struct generation *g) {
    struct answer_usage u = {.cached_known = true};
    size_t per_prompt = g->n_prompts ? g->n_choices / g->n_prompts : 0;
    for (size_t i = 0; i < g->n_prompts; i++) {
        u.prompt_tokens += g->prompt_tokens[i];
        u.cached_tokens += least_cached(&g->choices[i * per_prompt], per_prompt);
    }
    for (size_t i = 0; i < g->n_choices; i++) {
        const struct choice *c = &g->choices[i];
        u.completion_tokens += c->done ? c->timings.predicted_n : c->n_tokens;
        u.cached_known = u.cached_known && (c->done || c->n_tokens > 0);
    }
    return u;
}

/* ---- Submitting ----------------------------------------------------------------------------------------------- */

/* A prompt that spells out BOS gets no second one. */
static unsigned prompt_flags(const sluice_model *model, const struct api_prompt *p) {
    int32_t bos = sluice_model_get_info(model)->bos;
    size_t n = 0;
    const char *text = bos >= 0 ? sluice_token_bytes(model, bos, &n) : NULL;
    bool written = n == 0 || (p->len >= n && memcmp(p->text, text, n) == 0);
    return SLUICE_TOK_SPECIAL | (written ? 0 : SLUICE_TOK_BOS);
}

/* Token ids of prompt i; *owned is to be freed. */
static sluice_status prompt_ids(struct generation *g, const struct api_request *r, size_t i, int32_t **owned,
                                const int32_t **ids, size_t *n, sluice_error *err) {
    *owned = NULL;
    if (g->head.chat) {
        TRY(sluice_chat_render(g->env.model, &r->chat, owned, n, NULL, err));
        *ids = *owned;
        return SLUICE_OK;
    }
    const struct api_prompt *p = &r->prompts[i];
    if (!p->text) {
        *ids = p->tokens;
        *n = p->n_tokens;
        return SLUICE_OK;
    }
    TRY(sluice_tokenize(g->env.model, p->text, p->len, prompt_flags(g->env.model, p), owned, n, err));
    *ids = *owned;
    return SLUICE_OK;
}

static bool check_length(const struct generation *g, size_t n, struct api_error *e) {
    uint32_t ctx = sluice_engine_get_info(g->env.engine)->ctx_per_slot;
    const char *field = g->head.chat ? "messages" : "prompt";
    if (n == 0) {
        return api_error_set(e, 400, NULL, field, "the prompt is empty: it has no tokens");
    }
    if (n >= ctx) {
        return api_error_set(e, 400, "context_length_exceeded", field,
                             "the prompt has %zu tokens and the answer needs at least one more, but the context of "
                             "this server is %u tokens; shorten the prompt or start the server with a larger --ctx",
                             n, ctx);
    }
    return true;
}

static uint64_t random_seed(void) {
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
        seed = (uint64_t)time(NULL);
    }
    return seed;
}

/* Echoed prompt text comes before the answer and is no part of its offsets. */
static bool echo_prompt(struct generation *g, struct choice *c, const struct api_prompt *p) {
    if (p->text) {
        buf_append(&c->text, p->text, p->len);
    } else {
        for (size_t i = 0; i < p->n_tokens; i++) {
            size_t n;
            const char *s = sluice_token_bytes(g->env.model, p->tokens[i], &n);
            buf_append(&c->text, s, n);
        }
    }
    return !c->text.failed;
}

static bool submit_one(struct generation *g, struct choice *c, const sluice_request_options *options,
                       struct api_error *e) {
    sluice_error err = {0};
    pthread_mutex_lock(&g->lock);
    sluice_status s = g->cancelled ? fail(&err, SLUICE_E_CANCELLED, "the request was cancelled before it started")
                                   : sluice_request_submit(g->env.engine, options, &c->request, &err);
    pthread_mutex_unlock(&g->lock);
    if (s == SLUICE_OK) {
        return true;
    }
    api_error_from_status(e, &err);
    if (s == SLUICE_E_LIMIT) {
        e->code = "context_length_exceeded";
    }
    return false;
}

static bool submit_prompt(struct generation *g, const struct api_request *r, size_t i, sluice_request_options *options,
                          struct api_error *e) {
    int32_t *owned;
    sluice_error err = {0};
    if (prompt_ids(g, r, i, &owned, &options->tokens, &options->n_tokens, &err) != SLUICE_OK) {
        return api_error_from_status(e, &err);
    }
    bool ok = check_length(g, options->n_tokens, e);
    g->prompt_tokens[i] = options->n_tokens;
    for (uint32_t k = 0; ok && k < r->n; k++) {
        struct choice *c = &g->choices[i * r->n + k];
        c->logprobs.n_top = r->top_logprobs;
        options->sampling.seed = r->sampling.seed + k;
        if (r->echo && !echo_prompt(g, c, &r->prompts[i])) {
            ok = api_error_nomem(e);
        } else {
            ok = submit_one(g, c, options, e);
        }
    }
    free(owned);
    return ok;
}

bool generation_submit(struct generation *g, const struct api_request *r, struct api_error *e) {
    size_t n_prompts = g->head.chat ? 1 : r->n_prompts;
    g->stream = r->stream;
    g->include_usage = r->include_usage;
    g->continuous_usage = r->include_usage && r->continuous_usage;
    g->logprobs = r->logprobs;
    g->prompt_tokens = mem_calloc(n_prompts, sizeof *g->prompt_tokens);
    struct choice *choices = mem_calloc(n_prompts * r->n, sizeof *choices);
    if (!g->prompt_tokens || !choices) {
        mem_free(choices);
        return api_error_nomem(e);
    }
    g->n_prompts = n_prompts;
    pthread_mutex_lock(&g->lock);
    g->choices = choices;
    g->n_choices = n_prompts * r->n;
    pthread_mutex_unlock(&g->lock);

    sluice_request_options o = sluice_request_options_default(g->env.model);
    o.max_tokens = r->max_tokens;
    o.sampling = r->sampling;
    o.stop = r->stop;
    o.n_stop = r->n_stop;
    o.logit_bias = r->logit_bias;
    o.n_logit_bias = r->n_logit_bias;
    o.ignore_eos = r->ignore_eos;
    o.no_cache = !r->cache_prompt;
    o.no_draft = r->no_draft;
    o.timeout_ms = g->env.timeout_ms;
    if (r->timeout_ms > 0 && (o.timeout_ms == 0 || r->timeout_ms < o.timeout_ms)) {
        o.timeout_ms = r->timeout_ms;
    }
    o.logprobs = r->logprobs;
    o.top_logprobs = r->top_logprobs;
    o.on_ready = g->env.wake;
    o.on_ready_ctx = g->env.wake_ctx;
    struct api_request with_seed = *r; /* shallow: only the seed differs */
    if (!r->has_seed) {
        with_seed.sampling.seed = random_seed();
    }
    for (size_t i = 0; i < n_prompts; i++) {
        if (!submit_prompt(g, &with_seed, i, &o, e)) {
            generation_cancel(g);
            return false;
        }
    }
    return true;
}

/* ---- Answering ------------------------------------------------------------------------------------------------ */

/* A token's log-probability is shown once its first byte is out: what a stop string took back never is. */
static size_t shown_logprobs(const struct choice *c, size_t text_bytes, bool all) {
    size_t n = 0;
    while (n < c->logprobs.n && (all || c->logprobs.start[n] < text_bytes)) {
        n++;
    }
    return n;
}

static struct answer_choice describe(const struct generation *g, const struct choice *c, size_t n_logprobs) {
    return (struct answer_choice){
        .index = (uint32_t)(c - g->choices),
        .text = c->text.data ? c->text.data : "",
        .text_len = c->text.len,
        .logprobs = g->logprobs ? &c->logprobs : NULL,
        .n_logprobs = n_logprobs,
        .bytes_before = c->bytes_sent,
        .chars_before = c->chars_sent,
        .finished = c->done,
        .finish = c->finish,
    };
}

/* One SSE event with what the choice has now, which then counts as sent. */
static void send_chunk(struct generation *g, struct choice *c, bool all_logprobs, struct buf *out) {
    struct answer_choice a = describe(g, c, shown_logprobs(c, c->bytes_sent + c->text.len, all_logprobs));
    bool opening = g->head.chat && !c->started; /* carries the role */
    if (!a.finished && !opening && a.text_len == 0 && a.n_logprobs == 0) {
        return; /* the token completes no character yet */
    }
    a.first = !c->started;
    c->started = true;
    buf_puts(out, "data: ");
    answer_open(out, &g->head, true);
    answer_choice_write(out, &g->head, g->env.model, &a, true);
    struct answer_usage so_far = {0};
    if (g->continuous_usage) {
        so_far = generation_usage(g);
    }
    answer_close(out, g->continuous_usage ? &so_far : NULL, g->include_usage, c->done ? &c->timings : NULL);
    buf_puts(out, "\n\n");
    c->bytes_sent += a.text_len;
    c->chars_sent += answer_count_chars(a.text, a.text_len);
    logprob_drop_front(&c->logprobs, a.n_logprobs);
    buf_reset(&c->text);
}

static void fail_generation(struct generation *g, struct buf *out) {
    g->failed = true;
    if (g->stream) {
        buf_puts(out, "data: ");
        api_error_write(&g->error, out);
        buf_puts(out, "\n\n");
    }
}

/* Counts the text that a token's bytes come to: whole UTF-8 sequences, and U+FFFD (three bytes) for a stray byte. */
static void count_shown(struct choice *c, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        c->half[c->n_half++] = bytes[i];
        while (c->n_half > 0) {
            uint32_t cp;
            size_t used = utf8_decode(c->half, c->n_half, &cp);
            if (!used && utf8_incomplete_tail(c->half, c->n_half) == c->n_half) {
                break; /* never more than three bytes */
            }
            c->shown += used ? used : 3;
            c->n_half -= used ? used : 1;
            memmove(c->half, c->half + (used ? used : 1), c->n_half);
        }
    }
}

static bool take_token(struct generation *g, struct choice *c, const sluice_event *event) {
    c->n_tokens++;
    buf_append(&c->text, event->text, event->text_len);
    /* An end token is the end of the answer, not a part of it. */
    if (g->logprobs && !sluice_token_is_end(g->env.model, event->token)) {
        if (!logprob_push(&c->logprobs, event, c->shown + c->n_half)) {
            return false;
        }
        if (!sluice_token_is_control(g->env.model, event->token)) {
            size_t n;
            const char *bytes = sluice_token_bytes(g->env.model, event->token, &n);
            count_shown(c, bytes, n);
        }
    }
    return !c->text.failed;
}

/* Takes one event of a choice; false when there is none or the generation failed. */
static bool take_event(struct generation *g, struct choice *c, struct buf *out) {
    sluice_event event;
    switch (sluice_request_poll(c->request, &event)) {
    case SLUICE_EVENT_TOKEN:
        c->timings.cache_n = event.timings.cache_n;
        if (!take_token(g, c, &event)) {
            api_error_nomem(&g->error);
            fail_generation(g, out);
            return false;
        }
        if (g->stream) {
            send_chunk(g, c, false, out);
        }
        return true;
    case SLUICE_EVENT_DONE:
        c->done = true;
        c->finish = event.finish;
        c->timings = event.timings;
        g->n_done++;
        if (g->stream) {
            send_chunk(g, c, event.stop_string == NULL, out);
        } else if (event.stop_string) {
            c->logprobs.n = shown_logprobs(c, c->text.len, false);
        }
        return false;
    case SLUICE_EVENT_ERROR:
        api_error_from_status(&g->error, &event.error);
        fail_generation(g, out);
        return false;
    default:
        return false;
    }
}

static sluice_timings sum_timings(const struct generation *g) {
    sluice_timings t = {0};
    for (size_t i = 0; i < g->n_choices; i++) {
        const sluice_timings *c = &g->choices[i].timings;
        t.prompt_n += c->prompt_n;
        t.cache_n += c->cache_n;
        t.predicted_n += c->predicted_n;
        t.draft_n += c->draft_n;
        t.draft_accepted_n += c->draft_accepted_n;
        t.prompt_ms += c->prompt_ms;
        t.predicted_ms += c->predicted_ms;
        t.queue_ms = c->queue_ms > t.queue_ms ? c->queue_ms : t.queue_ms;
    }
    return t;
}

static void write_whole(struct generation *g, struct buf *out) {
    answer_open(out, &g->head, false);
    for (size_t i = 0; i < g->n_choices; i++) {
        struct answer_choice a = describe(g, &g->choices[i], g->choices[i].logprobs.n);
        if (i > 0) {
            buf_putc(out, ',');
        }
        answer_choice_write(out, &g->head, g->env.model, &a, false);
    }
    struct answer_usage u = generation_usage(g);
    sluice_timings t = sum_timings(g);
    answer_close(out, &u, false, &t);
}

static void write_end_of_stream(struct generation *g, struct buf *out) {
    if (g->include_usage) {
        struct answer_usage u = generation_usage(g);
        buf_puts(out, "data: ");
        answer_open(out, &g->head, true);
        answer_close(out, &u, false, NULL);
        buf_puts(out, "\n\n");
    }
    buf_puts(out, "data: [DONE]\n\n");
}

enum generation_state generation_pump(struct generation *g, struct buf *out, size_t most) {
    for (size_t i = 0; i < g->n_choices && !g->failed; i++) {
        struct choice *c = &g->choices[i];
        if (g->stream && !c->started) { /* the client learns at once that its request was accepted */
            send_chunk(g, c, false, out);
        }
        while (!c->done && out->len < most && take_event(g, c, out)) {
        }
    }
    if (g->failed) {
        return GENERATION_FAILED;
    }
    if (g->n_done < g->n_choices) {
        return GENERATION_WAITING;
    }
    if (!g->ended) {
        g->ended = true;
        if (g->stream) {
            write_end_of_stream(g, out);
        } else {
            write_whole(g, out);
        }
    }
    return GENERATION_FINISHED;
}
