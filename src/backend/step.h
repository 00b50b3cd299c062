/* What every backend does with a step before computing it. */
#ifndef BACKEND_STEP_H
#define BACKEND_STEP_H

#include "backend/backend.h"

/* Checks a step against the model and the backend's (final) limits, so that kernels can trust every number in it. */
sluice_status step_check(const struct model *model, const struct backend_options *limits,
                         const struct backend_step *step, uint32_t *n_tokens, uint32_t *n_outputs, sluice_error *err);
/* The step's token indexes whose logits are wanted, in order; returns how many. */
uint32_t step_outputs(const struct backend_step *step, uint32_t *out);

#endif
