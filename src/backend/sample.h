/*
 * Drawing one token: what a request says about it, and what comes out. Plain data at the seam, because a backend may
 * draw on the device; the order of operations is told in engine/sampler.h.
 */
#ifndef BACKEND_SAMPLE_H
#define BACKEND_SAMPLE_H

#include "sluice.h"

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
    sluice_logit_bias *edits; /* [n_edits] biases and bans; a ban is -INFINITY */
    size_t n_edits;
    struct seen_token *seen; /* [n_seen] distinct tokens; NULL when no penalty is on */
    uint32_t n_seen, seen_max;
    uint32_t *seen_index; /* [index_mask + 1] open addressing: place in seen plus one, 0 = free */
    uint32_t index_mask;
};

struct sample {
    int32_t token;
    float logprob; /* when wanted */
    uint32_t n_top;
    sluice_token_prob top[SLUICE_TOP_LOGPROBS_MAX]; /* likeliest first */
};

#endif
