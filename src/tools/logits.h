/* Logits of a token sequence, straight from a backend: what golden tests and `sluice logits` use. */
#ifndef TOOLS_LOGITS_H
#define TOOLS_LOGITS_H

#include "backend/backend.h"

/* Called with the logits of one position, in order; a status other than SLUICE_OK ends the run. */
typedef sluice_status (*logits_sink)(void *ctx, uint32_t pos, const float *logits, sluice_error *err);

/* Feeds tokens in steps of at most ubatch (0 = the backend's chunk) and hands every position's logits to sink. */
sluice_status logits_run(const struct model *model, const char *backend, uint32_t n_threads, const int32_t *tokens,
                         uint32_t n_tokens, uint32_t ubatch, logits_sink sink, void *ctx, sluice_error *err);

#endif
