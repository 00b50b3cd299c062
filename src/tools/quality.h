/*
 * How true an engine is to its model: the Kullback-Leibler divergence between the plain F32 backend's next-token distribution and
 * another backend's, over a fixed sequence of tokens.
 *
 * A reference file is made once by `ref`, which is slow, and holds for every position the logarithm of the sum of all exponentials and
 * the greatest logits. What lies outside those is one event on both sides, so the divergence is never overstated:
 *     KL >= sum over the kept of p ln(p / q) + (1 - sum p) ln((1 - sum p) / (1 - sum q)).
 *
 * The file is text: "sluice-reference 1", "model_sha256 HEX|-", "model_bytes N", "vocab N", "positions N", "top N", then
 * "tokens" with the ids, then per position a line "lse id:logit id:logit ...", greatest first.
 */
#ifndef TOOLS_QUALITY_H
#define TOOLS_QUALITY_H

#include "sluice.h"

struct model;

#define QUALITY_TOP       64u
#define QUALITY_POSITIONS 256u  /* default */
#define QUALITY_LIMIT     8192u /* most positions of a file */
#define QUALITY_KL_MEAN                                                                                                \
    0.005 /* what still qualifies; llama.cpp's arithmetic has 0.010-0.013 on the golden Q4_K_M models */
#define QUALITY_TOP1_SHARE 0.95 /* in a random model the best two are often equal to three digits */

struct quality_reference {
    char model_sha256[65]; /* "" unknown */
    uint64_t model_bytes;
    uint32_t n_vocab, n, top;
    int32_t *tokens; /* [n] */
    double *lse;     /* [n] */
    int32_t *ids;    /* [n][top] */
    float *logits;   /* [n][top] */
};

struct quality_result {
    uint32_t n;
    double kl_mean, kl_median, kl_p999, kl_max; /* p999: the quantile between neighbours where n allows no better */
    double top1_agreement;                      /* share of positions whose greatest logit is the same token */
};

struct quality_progress {
    void *ctx;
    void (*update)(void *ctx, uint64_t done);
};

/* Runs `ref` over the tokens and writes the file. model_sha256 may be NULL. */
sluice_status quality_make(const struct model *model, const char *model_sha256, uint32_t n_threads,
                           const int32_t *tokens, uint32_t n, const char *path, const struct quality_progress *progress,
                           sluice_error *err);
/* Every number is checked; errors name the file and the line. */
sluice_status quality_read(const char *path, struct quality_reference *out, sluice_error *err);
void quality_free(struct quality_reference *r);
/* Runs a backend over the reference's tokens. SLUICE_E_ARG: the file was made from another model. */
sluice_status quality_measure(const struct model *model, const char *model_sha256, const char *backend,
                              uint32_t n_threads, const struct quality_reference *reference,
                              const struct quality_progress *progress, struct quality_result *out, sluice_error *err);
/* The divergence of one position, from the reference's kept logits and another's full ones [n_vocab]; *same_top: both put
 * the same token first. */
double quality_kl(const struct quality_reference *r, uint32_t pos, const float *logits, bool *same_top);
/* "" when the result qualifies, else why not. */
void quality_judge(const struct quality_result *r, char *why, size_t cap);

#endif
