/*
 * Drawing one token: what a request says about it, and what comes out. Plain data at the seam, because a backend may
 * draw on the device; the order of operations is told in engine/sampler.h. What it leaves open is fixed here, so that
 * every backend draws the same token from the same logits: sums are of whole numbers, in whatever order they are taken.
 */
#ifndef BACKEND_SAMPLE_H
#define BACKEND_SAMPLE_H

#include "sluice.h"

#include <math.h>

struct seen_token {
    int32_t token;
    uint32_t n_output; /* times generated; 0 = in the prompt only */
};

/* One request's sampling: settings, and the tokens that penalties act on. */
struct sample_rules {
    sluice_sampling s;
    bool greedy;
    bool want_logprob;
    uint32_t n_top;
    sluice_logit_bias *edits; /* [n_edits] biases and bans of distinct tokens; a ban is -INFINITY */
    size_t n_edits;
    struct seen_token *seen; /* [n_seen] distinct tokens; NULL when no penalty is on */
    uint32_t n_seen, seen_max;
    uint32_t *seen_index; /* [index_mask + 1] open addressing: place in seen plus one, 0 = free */
    uint32_t index_mask;
};

/* Instead of a token, where none can be drawn. */
enum sample_failure {
    SAMPLE_NOT_FINITE = -1, /* a logit is NaN or infinite */
    SAMPLE_BANNED = -2,     /* every token is banned */
    SAMPLE_OVERFLOW = -3    /* a logit became infinite under the penalties */
};

struct sample {
    int32_t token; /* or an enum sample_failure, and then nothing else holds */
    float logprob; /* when wanted */
    uint32_t n_top;
    sluice_token_prob top[SLUICE_TOP_LOGPROBS_MAX]; /* likeliest first */
};

/* A candidate's weight is exp(z) to the nearest multiple of 2^-SAMPLE_ONE_BITS, as a whole number: LIMIT_VOCAB of them
 * add up to less than 2^64. What rounding takes away weighs under 1e-8 of the likeliest in a vocabulary of 65,536. */
#define SAMPLE_ONE_BITS 42
#define SAMPLE_REACH    30.0f /* a candidate with z below -30 weighs nothing */

/* The number that picks the token at `position`: the finaliser of splitmix64, once per key. */
static inline uint64_t sample_random(uint64_t seed, uint64_t position) {
    uint64_t h = seed;
    for (int round = 0; round < 2; round++) {
        h += round == 0 ? 0x9E3779B97F4A7C15u : position * 0xD1342543DE82EF95u + 0x9E3779B97F4A7C15u;
        h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9u;
        h = (h ^ h >> 27) * 0x94D049BB133111EBu;
        h ^= h >> 31;
    }
    return h;
}

/* How far below the maximum a candidate may lie, in units of the temperature: logits below max - reach * temperature
 * are none. With min_p and no top_p, which must see the mass that min_p drops, less than SAMPLE_REACH; the slack is for
 * logf, which may differ between C libraries: the weight itself decides. */
static inline float sample_reach(const struct sample_rules *rules) {
    float wanted = rules->s.min_p > 0 && rules->s.top_p >= 1 ? -logf(rules->s.min_p) + 0.001f : SAMPLE_REACH;
    return wanted < SAMPLE_REACH ? wanted : SAMPLE_REACH;
}

/* The weight that the nucleus of top_p < 1 has to reach, of all that top_k left. */
static inline uint64_t sample_nucleus(float top_p, uint64_t all) {
    uint64_t target = (uint64_t)((double)top_p * (double)all);
    return target > 0 ? target : 1;
}

/* log of a sum of weights. */
static inline double sample_log(uint64_t sum) {
    return log((double)sum * (1.0 / (double)(1ull << SAMPLE_ONE_BITS)));
}

#endif
