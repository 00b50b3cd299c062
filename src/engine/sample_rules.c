/* What a request says about sampling, checked and made ready: see sampler.h. */
#include "engine/sampler.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"

#include <math.h>
#include <string.h>

#define PENALTY_MAX     100.0f /* presence and frequency, in logits */
#define REPETITION_MIN  0.01f  /* keeps a penalised logit finite */
#define REPETITION_MAX  100.0f
#define TEMPERATURE_MAX 100.0f
#define GREEDY_BELOW    1e-5f /* 1 / temperature stays far from infinity above it */

static sluice_status check_field(const char *name, float v, float lo, float hi, sluice_error *err) {
    if (v >= lo && v <= hi) { /* false for NaN */
        return SLUICE_OK;
    }
    return fail(err, SLUICE_E_ARG, "%s is %g; it must be between %g and %g", name, (double)v, (double)lo, (double)hi);
}

static sluice_status check_sampling(const sluice_sampling *s, sluice_error *err) {
    TRY(check_field("temperature", s->temperature, 0, TEMPERATURE_MAX, err));
    TRY(check_field("top_p", s->top_p, 0, 1, err));
    TRY(check_field("min_p", s->min_p, 0, 1, err));
    TRY(check_field("repetition_penalty", s->repetition_penalty, REPETITION_MIN, REPETITION_MAX, err));
    TRY(check_field("presence_penalty", s->presence_penalty, -PENALTY_MAX, PENALTY_MAX, err));
    TRY(check_field("frequency_penalty", s->frequency_penalty, -PENALTY_MAX, PENALTY_MAX, err));
    if (s->top_k < 0) {
        return fail(err, SLUICE_E_ARG, "top_k is %d; it must be 0 (off) or more", s->top_k);
    }
    return SLUICE_OK;
}

/* Adds to what the list has for the token already. */
static void add_edit(struct sample_rules *rules, int32_t token, float bias) {
    size_t i = 0;
    while (i < rules->n_edits && rules->edits[i].token != token) {
        i++;
    }
    if (i == rules->n_edits) {
        rules->edits[rules->n_edits++] = (sluice_logit_bias){.token = token};
    }
    rules->edits[i].bias += bias;
}

/* Biases and bans in one list; the end tokens of ignore_eos are bans. */
static sluice_status collect_edits(struct sample_rules *rules, const sluice_model *model,
                                   const sluice_request_options *o, sluice_error *err) {
    uint32_t n_vocab = model->info.n_vocab;
    size_t n_end = 0;
    for (uint32_t id = 0; o->ignore_eos && id < n_vocab; id++) {
        n_end += (model->tokens[id].flags & TOKEN_FLAG_END) != 0;
    }
    if (o->n_logit_bias > LIMIT_LOGIT_BIAS) {
        return fail(err, SLUICE_E_LIMIT, "logit_bias names %zu tokens; the limit is %u", o->n_logit_bias,
                    LIMIT_LOGIT_BIAS);
    }
    if (o->n_logit_bias + n_end == 0) {
        return SLUICE_OK;
    }
    rules->edits = mem_alloc((o->n_logit_bias + n_end) * sizeof *rules->edits);
    if (!rules->edits) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for logit_bias");
    }
    for (size_t i = 0; i < o->n_logit_bias; i++) {
        sluice_logit_bias b = o->logit_bias[i];
        if (b.token < 0 || (uint32_t)b.token >= n_vocab) {
            return fail(err, SLUICE_E_ARG, "logit_bias names token %d; the vocabulary has %u", b.token, n_vocab);
        }
        if (!(b.bias <= PENALTY_MAX)) {
            return fail(err, SLUICE_E_ARG, "logit_bias of token %d is %g; it must be at most %g", b.token,
                        (double)b.bias, (double)PENALTY_MAX);
        }
        add_edit(rules, b.token, b.bias <= -100 ? -INFINITY : b.bias);
    }
    for (uint32_t id = 0; n_end > 0 && id < n_vocab; id++) {
        if (model->tokens[id].flags & TOKEN_FLAG_END) {
            add_edit(rules, (int32_t)id, -INFINITY);
        }
    }
    return SLUICE_OK;
}

/* The entry of a token, made if it is new. NULL without penalties. */
static struct seen_token *seen_entry(struct sample_rules *rules, int32_t token) {
    if (!rules->seen) {
        return NULL;
    }
    uint32_t at = (uint32_t)token * 2654435769u;
    at ^= at >> 15;
    for (;; at++) {
        uint32_t *place = &rules->seen_index[at & rules->index_mask];
        if (*place == 0) {
            rules->seen[rules->n_seen] = (struct seen_token){.token = token};
            *place = ++rules->n_seen;
            return &rules->seen[rules->n_seen - 1];
        }
        if (rules->seen[*place - 1].token == token) {
            return &rules->seen[*place - 1];
        }
    }
}

static sluice_status collect_seen(struct sample_rules *rules, const sluice_model *model,
                                  const sluice_request_options *o, uint32_t max_new, sluice_error *err) {
    bool repetition = rules->s.repetition_penalty != 1;
    if (!repetition && rules->s.presence_penalty == 0 && rules->s.frequency_penalty == 0) {
        return SLUICE_OK;
    }
    uint64_t most = (repetition ? o->n_tokens : 0) + (uint64_t)max_new;
    rules->seen_max = most < model->info.n_vocab ? (uint32_t)most : model->info.n_vocab;
    uint32_t places = 16;
    while (places < 2 * rules->seen_max) {
        places *= 2;
    }
    rules->index_mask = places - 1;
    rules->seen = mem_alloc(rules->seen_max * sizeof *rules->seen);
    rules->seen_index = mem_calloc(places, sizeof *rules->seen_index);
    if (!rules->seen || !rules->seen_index) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for the penalties of a request");
    }
    for (size_t i = 0; repetition && i < o->n_tokens; i++) {
        (void)seen_entry(rules, o->tokens[i]);
    }
    return SLUICE_OK;
}

sluice_status sample_rules_init(struct sample_rules *rules, const sluice_model *model,
                                const sluice_request_options *options, uint32_t max_new, sluice_error *err) {
    *rules = (struct sample_rules){.s = options->sampling};
    TRY(check_sampling(&rules->s, err));
    if (options->top_logprobs > SLUICE_TOP_LOGPROBS_MAX) {
        return fail(err, SLUICE_E_ARG, "top_logprobs is %u; the limit is %u", options->top_logprobs,
                    SLUICE_TOP_LOGPROBS_MAX);
    }
    rules->greedy = rules->s.temperature < GREEDY_BELOW;
    rules->n_top = options->top_logprobs;
    rules->want_logprob = options->logprobs || rules->n_top > 0;
    sluice_status status = collect_edits(rules, model, options, err);
    if (status == SLUICE_OK) {
        status = collect_seen(rules, model, options, max_new, err);
    }
    if (status != SLUICE_OK) {
        sample_rules_free(rules);
    }
    return status;
}

void sample_rules_free(struct sample_rules *rules) {
    mem_free(rules->edits);
    mem_free(rules->seen);
    mem_free(rules->seen_index);
    *rules = (struct sample_rules){0};
}

void sample_rules_accept(struct sample_rules *rules, int32_t token) {
    struct seen_token *entry = seen_entry(rules, token);
    if (entry) {
        entry->n_output++;
    }
}
