/*
 * From one row of logits to one token. The order, and why:
 *   1. repetition penalty over prompt and output: logits above 0 are divided, others multiplied (as the model cards
 *      mean it);
 *   2. presence and frequency penalty over the output (OpenAI), in logits, so they must come before any scaling;
 *   3. logit bias and bans: a client's bias is the last word on a logit;
 *   4. temperature: so that top_p and min_p act on the distribution that is drawn from. Below 1e-5: the greatest logit,
 *      lowest id on ties, and nothing further;
 *   5. top_k: the k greatest, ties to the lower id;
 *   6. top_p: the smallest set of the greatest whose share of what top_k left reaches top_p; at least one;
 *   7. min_p: whatever is less likely than min_p times the likeliest is dropped; the maximum is never dropped by 5 and
 *      6, so min_p means the same before or after them, while top_p would not;
 *   8. one uniform number picks along ascending ids.
 * Steps 5 and 6 rank by logit. Steps 6 and 8 add up weights, which are whole numbers (backend/sample.h): exact in any
 * order, so that a device may add as it likes. Candidates below e^-29 of the likeliest weigh nothing.
 *
 * The number of step 8 is a hash of (seed, position) and nothing else, so a request draws the same tokens alone or in
 * company, on any machine; exp is our own for the same reason. Logprobs are of the raw row, before step 1.
 *
 * Cost: one pass over the row (with a copy if anything edits it) that keeps the maximum of every 64 logits; after that
 * only blocks that can hold a candidate are looked at. Penalties touch only tokens seen.
 */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include "backend/sample.h"
#include "engine/model_impl.h"

/* Validates the sampling fields of options (SLUICE_E_ARG names the field) and takes in the prompt. max_new: the most
 * tokens that sample_rules_accept will be called for. */
sluice_status sample_rules_init(struct sample_rules *rules, const sluice_model *model,
                                const sluice_request_options *options, uint32_t max_new, sluice_error *err);
void sample_rules_free(struct sample_rules *rules);
/* Records a generated token. */
void sample_rules_accept(struct sample_rules *rules, int32_t token);

struct sampler; /* work memory for one row at a time */

sluice_status sampler_create(uint32_t n_vocab, struct sampler **out, sluice_error *err);
void sampler_free(struct sampler *sampler);
uint64_t sampler_bytes(const struct sampler *sampler);
/* Draws the token at `position` of its sequence. logits: [n_vocab] f32. SLUICE_E_BACKEND: a logit is NaN or infinite;
 * SLUICE_E_ARG: every token is banned. */
sluice_status sampler_draw(struct sampler *sampler, const struct sample_rules *rules, const float *logits,
                           uint64_t position, struct sample *out, sluice_error *err);

/* What a failure to draw means: the status that sampler_draw gives for it, in err. */
sluice_status sampler_failed(int32_t failure, uint64_t position, sluice_error *err);

/* The same where the token is given: only its logprob and the alternatives are found, if they are wanted. */
sluice_status sampler_given(struct sampler *sampler, const struct sample_rules *rules, const float *logits,
                            int32_t token, struct sample *out, sluice_error *err);

/* The uniform number in [0, 1) of step 8. */
double sampler_uniform(uint64_t seed, uint64_t position);

#endif
