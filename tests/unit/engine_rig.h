/*
 * Random requests, their answers, and the check that a request gives the same answer alone and in company. It runs on
 * any engine, with the scripted backend of engine_fake.h or a real one.
 */
#ifndef ENGINE_RIG_H
#define ENGINE_RIG_H

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "engine/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h> /* defines a macro fail(): (fail)(...) is ours */

#define RIG_TOKENS_MAX 4096 /* of one answer */
#define RIG_PROMPT_MAX 2048 /* of a random request */
#define RIG_FORCED_MAX 64

/* ---- Random numbers ---------------------------------------------------------------------------------------- */

static inline uint64_t rig_mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static inline uint64_t rig_rnd(uint64_t *state) {
    return rig_mix(*state += 0x9E3779B97F4A7C15u);
}

static inline uint32_t rig_below(uint64_t *state, uint32_t n) {
    return (uint32_t)(rig_rnd(state) >> 33) % n;
}

static inline uint64_t rig_hash(uint64_t h, const void *bytes, size_t n) {
    for (const unsigned char *p = bytes, *end = p + n; p < end; p++) {
        h = (h ^ *p) * 0x100000001B3u;
    }
    return rig_mix(h + n);
}

/* ---- Answers ----------------------------------------------------------------------------------------------- */

struct answer {
    int32_t tokens[RIG_TOKENS_MAX];
    uint32_t n;
    struct {
        char *data; /* by malloc: the engine's allocations may be made to fail */
        size_t len;
    } text;
    uint64_t probs; /* hash of every logprob and alternative */
    sluice_event last;
    char stop_string[32];
};

static inline void answer_free(struct answer *a) {
    free(a->text.data);
    free(a);
}

static inline struct answer *answer_new(void) {
    return calloc(1, sizeof(struct answer));
}

/* Adds one event; true after the last. */
static inline bool answer_add(struct answer *a, const sluice_event *event) {
    if (event->kind == SLUICE_EVENT_TOKEN) {
        assert_true(a->n < RIG_TOKENS_MAX);
        a->tokens[a->n++] = event->token;
        if (event->text_len > 0) {
            a->text.data = realloc(a->text.data, a->text.len + event->text_len);
            memcpy(a->text.data + a->text.len, event->text, event->text_len);
            a->text.len += event->text_len;
        }
        a->probs = rig_hash(a->probs, &event->logprob, sizeof event->logprob);
        a->probs = rig_hash(a->probs, event->top, event->n_top * sizeof event->top[0]);
        return false;
    }
    if (event->kind == SLUICE_EVENT_NONE) {
        return false;
    }
    a->last = *event;
    if (event->stop_string) {
        snprintf(a->stop_string, sizeof a->stop_string, "%s", event->stop_string);
    }
    return true;
}

static inline void answer_read(struct answer *a, sluice_request *r) {
    sluice_event event;
    do {
        assert_int_not_equal(sluice_request_wait(r, &event, 20000), SLUICE_EVENT_NONE);
    } while (!answer_add(a, &event));
    assert_int_equal(sluice_request_wait(r, &event, -1), SLUICE_EVENT_NONE); /* nothing follows the last, at once */
}

static inline sluice_request *rig_submit(sluice_engine *e, const sluice_request_options *o) {
    sluice_request *r = NULL;
    sluice_error err = {0};
    if (sluice_request_submit(e, o, &r, &err) != SLUICE_OK) {
        fail_msg("submit: %s", err.text);
    }
    return r;
}

static inline struct answer *rig_ask(sluice_engine *e, const sluice_request_options *o) {
    struct answer *a = answer_new();
    sluice_request *r = rig_submit(e, o);
    answer_read(a, r);
    sluice_request_free(r);
    return a;
}

/* What differs between two answers; NULL = nothing. */
static inline const char *answer_difference(const struct answer *a, const struct answer *b) {
    bool error = a->last.kind == SLUICE_EVENT_ERROR;
    return a->last.kind != b->last.kind                                              ? "last event"
           : a->n != b->n                                                            ? "number of tokens"
           : memcmp(a->tokens, b->tokens, a->n * sizeof a->tokens[0]) != 0           ? "tokens"
           : a->probs != b->probs                                                    ? "logprobs"
           : a->text.len != b->text.len                                              ? "length of the text"
           : a->text.len > 0 && memcmp(a->text.data, b->text.data, a->text.len) != 0 ? "text"
           : strcmp(a->stop_string, b->stop_string) != 0                             ? "stop string"
           : error && a->last.error.status != b->last.error.status                   ? "error"
           : !error && a->last.finish != b->last.finish                              ? "finish reason"
                                                                                     : NULL;
}

/* The same for an answer that was cut short. */
static inline const char *answer_prefix_difference(const struct answer *part, const struct answer *whole) {
    return part->n > whole->n                                                                     ? "more tokens"
           : memcmp(part->tokens, whole->tokens, part->n * sizeof part->tokens[0]) != 0           ? "tokens"
           : part->text.len > whole->text.len                                                     ? "more text"
           : part->text.len > 0 && memcmp(part->text.data, whole->text.data, part->text.len) != 0 ? "text"
                                                                                                  : NULL;
}

static inline void answer_assert_equal(const struct answer *a, const struct answer *b) {
    const char *difference = answer_difference(a, b);
    if (difference) {
        fail_msg("the answers differ: %s (%u and %u tokens; %s and %s)", difference, a->n, b->n, a->last.error.text,
                 b->last.error.text);
    }
}

/* ---- Random requests --------------------------------------------------------------------------------------- */

struct rig_request {
    sluice_request_options o;
    int32_t prompt[RIG_PROMPT_MAX];
    int32_t forced[RIG_FORCED_MAX];
    sluice_logit_bias bias[2];
};

static const char *const rig_stops[] = {"STOP", "\n\n", "\u20ac", " t"};

/* A request whose prompt and answer fit `ctx`. */
static inline void rig_random_request(struct rig_request *q, uint64_t *rnd, uint32_t n_vocab, uint32_t ctx) {
    uint32_t most = ctx / 2 < 700 ? ctx / 2 : 700;
    uint32_t n = 1 + rig_below(rnd, rig_below(rnd, 4) == 0 ? most : most / 8 + 1);
    for (uint32_t i = 0; i < n; i++) {
        q->prompt[i] = (int32_t)rig_below(rnd, n_vocab);
    }
    static const float temperatures[] = {0, 0.3f, 1, 1.5f};
    q->o = (sluice_request_options){.tokens = q->prompt,
                                    .n_tokens = n,
                                    .max_tokens = 1 + rig_below(rnd, 60),
                                    .sampling = {.temperature = temperatures[rig_below(rnd, 4)],
                                                 .top_p = rig_below(rnd, 3) ? 1 : 0.8f,
                                                 .top_k = rig_below(rnd, 3) ? 0 : 10,
                                                 .min_p = rig_below(rnd, 3) ? 0 : 0.1f,
                                                 .repetition_penalty = rig_below(rnd, 2) ? 1 : 1.1f,
                                                 .presence_penalty = rig_below(rnd, 4) ? 0 : 0.5f,
                                                 .frequency_penalty = rig_below(rnd, 4) ? 0 : 0.2f,
                                                 .seed = rig_rnd(rnd)},
                                    .ignore_eos = rig_below(rnd, 4) == 0,
                                    .keep_control = rig_below(rnd, 4) == 0,
                                    .logprobs = rig_below(rnd, 4) == 0,
                                    .top_logprobs = rig_below(rnd, 8) ? 0 : 1 + rig_below(rnd, 5)};
    if (rig_below(rnd, 3) == 0) {
        q->o.stop = rig_stops;
        q->o.n_stop = 1 + rig_below(rnd, 4);
    }
    if (rig_below(rnd, 4) == 0) {
        q->bias[0] = (sluice_logit_bias){.token = (int32_t)rig_below(rnd, n_vocab), .bias = -100};
        q->bias[1] = (sluice_logit_bias){.token = (int32_t)rig_below(rnd, n_vocab), .bias = 5};
        q->o.logit_bias = q->bias;
        q->o.n_logit_bias = 2;
    }
    if (rig_below(rnd, 8) == 0) {
        q->o.n_forced = 1 + rig_below(rnd, q->o.max_tokens < 16 ? q->o.max_tokens : 16);
        q->o.forced = q->forced;
        for (uint32_t i = 0; i < q->o.n_forced; i++) {
            q->forced[i] = (int32_t)rig_below(rnd, n_vocab);
        }
    }
}

/* n random requests, each alone on `solo`, then all together on `company` in random order with random pauses, some of
 * them beside requests that are cancelled on the way. The two may be the same engine. */
static inline void rig_check_company(sluice_engine *solo, sluice_engine *company, uint32_t n_vocab, uint64_t seed,
                                     uint32_t n) {
    uint64_t rnd = seed;
    uint32_t ctx = sluice_engine_get_info(company)->ctx_per_slot;
    struct rig_request *q = calloc(n, sizeof *q);
    struct answer **alone = calloc(n, sizeof *alone), **together = calloc(n, sizeof *together);
    sluice_request **r = calloc(n, sizeof *r);
    for (uint32_t i = 0; i < n; i++) {
        rig_random_request(&q[i], &rnd, n_vocab, ctx);
        alone[i] = rig_ask(solo, &q[i].o);
        assert_int_equal(alone[i]->last.kind, SLUICE_EVENT_DONE);
        together[i] = answer_new();
    }
    uint32_t sent = 0, ended = 0;
    sluice_request *extra = NULL;
    while (ended < n) {
        if (sent < n && rig_below(&rnd, 3)) {
            r[sent] = rig_submit(company, &q[sent].o);
            sent++;
        }
        if (!extra && sent < n && rig_below(&rnd, 4) == 0) {
            extra = rig_submit(company, &q[rig_below(&rnd, n)].o);
        } else if (extra && rig_below(&rnd, 8) == 0) {
            sluice_request_free(extra);
            extra = NULL;
        }
        sluice_event event;
        for (uint32_t i = 0; i < sent; i++) {
            if (r[i] && sluice_request_poll(r[i], &event) != SLUICE_EVENT_NONE && answer_add(together[i], &event)) {
                sluice_request_free(r[i]);
                r[i] = NULL;
                ended++;
            }
        }
        if (rig_below(&rnd, 20) == 0) {
            usleep(rig_below(&rnd, 300));
        }
    }
    sluice_request_free(extra);
    for (uint32_t i = 0; i < n; i++) {
        answer_assert_equal(alone[i], together[i]);
        answer_free(alone[i]);
        answer_free(together[i]);
    }
    free(q);
    free(alone);
    free(together);
    free(r);
}

#endif
