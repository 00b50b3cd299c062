/*
 * What a step ends with, on the host's side: by which rules its results are drawn (sample.cu), and where they arrive.
 *
 * The lists of a row (seen tokens, biases) travel with every step: a few KiB, beside the step before, instead of tables
 * on the device that would have to follow every request.
 */
#include "backend/cuda/cuda.h"

#include "base/status.h"

#include <string.h>

_Static_assert(sizeof(struct seen_token) == 8 && sizeof(sluice_logit_bias) == 8, "lists of pairs of words");
_Static_assert(CUDA_DRAW_TOP == SLUICE_TOP_LOGPROBS_MAX, "as many as can be asked for");

size_t cuda_draw_words(const struct backend_row *row) {
    const struct sample_rules *rules = row->n_outputs ? row->rules : NULL;
    return rules ? 2 * (size_t)rules->n_seen + 2 * rules->n_edits + (rules->seen ? row->n_drafts : 0) : 0;
}

static uint32_t put_list(struct cuda *c, const void *from, size_t n_words, size_t *at) {
    uint32_t place = (uint32_t)*at;
    if (n_words) {
        memcpy(c->turn->words + *at, from, n_words * 4);
    }
    *at += n_words;
    return place;
}

/* What all results of a row have in common; its lists go to word *at. */
static struct cuda_draw describe_rules(struct cuda *c, const struct backend_row *row, size_t *at) {
    const struct sample_rules *rules = row->rules;
    const sluice_sampling *s = &rules->s;
    struct cuda_draw d = {
        .kind = rules->greedy ? CUDA_DRAW_GREEDY : CUDA_DRAW_WEIGHED,
        .slot = row->slot,
        .penalties = rules->seen != NULL,
        .repetition = s->repetition_penalty,
        .presence = s->presence_penalty,
        .frequency = s->frequency_penalty,
        .n_seen = rules->n_seen,
        .n_edits = (uint32_t)rules->n_edits,
        .fed = rules->seen && !row->tokens,
        .want_logprob = rules->want_logprob,
        .n_top = rules->n_top,
    };
    if (!rules->greedy) {
        d.scale = 1.0f / s->temperature;
        d.depth = sample_reach(rules) * s->temperature;
        d.top_k = s->top_k > 0 && (uint32_t)s->top_k < c->m->n_vocab ? (uint32_t)s->top_k : 0;
        d.top_p = s->top_p;
        d.min_p = s->min_p;
    }
    d.seen = put_list(c, rules->seen, 2 * (size_t)rules->n_seen, at);
    d.edits = put_list(c, rules->edits, 2 * rules->n_edits, at);
    if (rules->seen) {
        d.more = put_list(c, row->n_drafts ? row->tokens + row->n_tokens - row->n_drafts : NULL, row->n_drafts, at);
    }
    return d;
}

void cuda_describe_draws(struct cuda *c, const struct backend_step *step, struct cuda_draw *draws, size_t *at) {
    struct cuda_turn *turn = c->turn;
    uint32_t n = 0;
    turn->ends = CUDA_LOGITS;
    turn->logprobs = false;
    for (uint32_t r = 0; r < step->n_rows; r++) {
        const struct backend_row *row = &step->rows[r];
        struct cuda_draw common = {.kind = CUDA_DRAW_NONE};
        if (row->rules && row->n_outputs) {
            common = describe_rules(c, row, at);
            bool cuts = common.top_k || common.top_p < 1;
            enum cuda_ends ends = row->rules->greedy ? CUDA_GREEDY : cuts ? CUDA_CUT : CUDA_WEIGHED;
            turn->ends = ends > turn->ends ? ends : turn->ends;
            turn->logprobs = turn->logprobs || row->rules->want_logprob;
        }
        for (uint32_t t = row->n_tokens - row->n_outputs; t < row->n_tokens; t++, n++) {
            uint32_t sure = row->n_tokens - row->n_drafts; /* tokens that are no drafts */
            draws[n] = common;
            turn->wants[n] = CUDA_WANTS_LOGITS;
            if (row->rules) {
                draws[n].random = sample_random(row->rules->s.seed, (uint64_t)row->first_pos + t + 1);
                draws[n].n_more = common.penalties && t >= sure ? t - sure + 1 : 0;
                draws[n].feeds = t + 1 == row->n_tokens;
                turn->wants[n] = row->rules->want_logprob ? CUDA_WANTS_LOGPROB : CUDA_WANTS_TOKEN;
            }
        }
    }
}

static sluice_status fetch_logits(struct cuda *c, sluice_error *err) {
    struct cuda_turn *turn = c->turn;
    size_t n_vocab = c->m->n_vocab;
    float *to = turn->logits;
    for (uint32_t i = 0, n; i < turn->n_outputs; i += n) { /* rows side by side in one copy */
        for (n = 1; i + n < turn->n_outputs && !turn->wants[i + n] == !turn->wants[i]; n++) {
        }
        if (turn->wants[i] == CUDA_WANTS_LOGITS) {
            TRY(cuda_check(cudaMemcpyAsync(to, c->logits + i * n_vocab, n * n_vocab * sizeof(float),
                                           cudaMemcpyDeviceToHost, c->stream),
                           "fetching logits", err));
            to += n * n_vocab;
        }
    }
    return SLUICE_OK;
}

sluice_status cuda_fetch_results(struct cuda *c, sluice_error *err) {
    struct cuda_turn *turn = c->turn;
    if (turn->logprobs) {
        TRY(cuda_check(cuda_draw_logprobs(&c->drawing, c->stream), "computing logprobs", err));
    }
    if (!turn->direct) {
        TRY(fetch_logits(c, err));
    }
    return cuda_check(cudaEventRecord(turn->done, c->stream), "computing a step", err);
}

static void put_logprobs(const struct cuda_drawn *drawn, struct sample *out) {
    double base = (double)drawn->max + sample_log(drawn->sum);
    out->logprob = (float)((double)drawn->logit - base);
    out->n_top = drawn->n_top;
    for (uint32_t i = 0; i < drawn->n_top; i++) {
        out->top[i].token = drawn->top[i].token;
        out->top[i].logprob = (float)((double)drawn->top[i].logit - base);
    }
}

void cuda_give_results(struct cuda_turn *turn, struct backend_output *out) {
    for (uint32_t i = 0; i < turn->n_outputs; i++) {
        if (turn->wants[i] == CUDA_WANTS_LOGITS) {
            out->n_logits++;
            continue;
        }
        struct sample *sample = &turn->samples[out->n_samples++];
        *sample = (struct sample){.token = turn->drawn[i].token};
        if (turn->wants[i] == CUDA_WANTS_LOGPROB && sample->token >= 0) {
            put_logprobs(&turn->drawn[i], sample);
        }
    }
    out->logits = turn->logits;
    out->samples = turn->samples;
}
