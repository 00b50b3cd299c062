/*
 * Drawing tokens on the device (sample.cu): what is drawn by, work memory, results. The token is the host sampler's for
 * the same logits: backend/sample.h fixes what could differ.
 */
#ifndef CUDA_DRAW_H
#define CUDA_DRAW_H

#include "backend/cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CUDA_DRAW_CHUNK 4096u /* logits of one block */
#define CUDA_DRAW_BINS  1024u /* steps of z from 0 to -SAMPLE_REACH in which a cut is looked for */
#define CUDA_DRAW_BLOCK 64u   /* logits whose maximum is noted, to find a floor for top_k */
#define CUDA_DRAW_LIST  4096u /* candidates that are sorted at once */
#define CUDA_DRAW_MORE  128u  /* most tokens of a row that its list of seen ones does not know yet */
#define CUDA_DRAW_TOP   20u

enum cuda_draw_kind { CUDA_DRAW_NONE, CUDA_DRAW_GREEDY, CUDA_DRAW_WEIGHED };

/* By what one result is drawn. Places are in the step's words. */
struct cuda_draw {
    uint64_t random; /* sample_random of its position */
    uint32_t kind;
    uint32_t slot;
    uint32_t feeds;     /* 1: a row without tokens of this slot goes on with what is drawn */
    float scale, depth; /* 1 / temperature; logits below the maximum - depth are no candidates */
    uint32_t top_k;     /* 0 = off */
    float top_p, min_p;
    float repetition, presence, frequency;
    uint32_t penalties;      /* 1: on */
    uint32_t seen, n_seen;   /* place of pairs: token, times generated */
    uint32_t more, n_more;   /* place of tokens that count as generated once more each; */
    uint32_t fed;            /* 1: so does the one that the slot drew last */
    uint32_t edits, n_edits; /* place of pairs: token, bias; a ban is -INFINITY */
    uint32_t want_logprob, n_top;
    uint32_t unused;
};

struct cuda_draw_part { /* of one chunk of a row */
    uint64_t weight;
    float max;
    uint32_t id;  /* the lowest that has it */
    uint32_t bad; /* a raw logit is not finite */
    uint32_t unused;
};

struct cuda_draw_row {
    uint64_t cut;     /* rank of the last candidate that top_k and top_p leave */
    float max, floor; /* what is below the floor is no candidate */
    uint32_t n_list;  /* candidates listed; 0 between steps */
    uint32_t unused;
    uint32_t open; /* 1: the token is still to be drawn */
    int32_t token;
    uint32_t tickets[3]; /* blocks that are through with each kernel; 0 between steps */
};

struct cuda_drawn { /* one result, in pinned memory */
    uint64_t sum;   /* of the weights of the raw row, when the logprob is wanted */
    int32_t token;  /* or an enum sample_failure */
    float max, logit;
    uint32_t n_top;
    struct {
        int32_t token;
        float logit;
    } top[CUDA_DRAW_TOP];
};

struct cuda_drawing {              /* device pointers */
    const struct cuda_draw *draws; /* [n] */
    const uint32_t *words;
    const float *logits; /* [n][n_vocab] */
    uint32_t n, n_vocab;
    uint32_t *drawn;              /* [n_slots] */
    float *edited;                /* [n][n_vocab] */
    struct cuda_draw_part *parts; /* [n][cuda_draw_chunks] */
    float *maxima;                /* [n][cuda_draw_chunks * CUDA_DRAW_CHUNK / CUDA_DRAW_BLOCK] */
    struct cuda_draw_row *rows;   /* [n] zeroed once */
    uint64_t *lists;              /* [n][CUDA_DRAW_LIST] */
    uint64_t *weights;            /* [n][CUDA_DRAW_BINS] zeroed once */
    uint32_t *counts;             /* [n][CUDA_DRAW_BINS] zeroed once */
    struct cuda_drawn *out;       /* [n] */
};

static inline uint32_t cuda_draw_chunks(uint32_t n_vocab) {
    return (n_vocab + CUDA_DRAW_CHUNK - 1) / CUDA_DRAW_CHUNK;
}

/* Draws; weighed: some draw is CUDA_DRAW_WEIGHED; cut: and some of these has top_k or top_p. */
cudaError_t cuda_draw_tokens(const struct cuda_drawing *d, bool weighed, bool cut, cudaStream_t stream);
/* After that: what the draws that want logprobs say of the raw rows. */
cudaError_t cuda_draw_logprobs(const struct cuda_drawing *d, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
