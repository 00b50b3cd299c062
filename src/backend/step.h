/* What every backend does with a step before computing it, and keeps of it for a rewind. */
#ifndef BACKEND_STEP_H
#define BACKEND_STEP_H

#include "backend/backend.h"
#include "base/limits.h"

#include <string.h>

/* Checks a step against the model, the backend's (final) limits and its way of drawing (caps.samples), so that kernels
 * can trust every number in it. Which pages two rows share is the engine's to know. */
sluice_status step_check(const struct model *model, const struct backend_options *limits, bool samples,
                         const struct backend_step *step, uint32_t *n_tokens, uint32_t *n_outputs, sluice_error *err);
/* The step's token indexes whose logits are wanted, in order; returns how many. */
uint32_t step_outputs(const struct backend_step *step, uint32_t *out);

/*
 * Drafts can be taken back because the inputs of the short convolution stay: a row with drafts leaves a run of columns
 * per conv layer, first the conv_taps - 1 before its drafts, then that of each draft. The state after n_kept drafts is
 * columns n_kept .. n_kept + conv_taps - 2 of the run.
 */
struct step_drafts {
    struct draft_run {
        uint32_t first, n; /* the run's first column; drafts, 0 = none in the last step */
    } of[LIMIT_SLOTS];     /* by slot */
};

/* Columns per conv layer that the runs of any one step fit in. */
uint32_t step_draft_columns(const struct model *model, const struct backend_options *limits);
void step_place_drafts(const struct model *model, const struct backend_step *step, struct step_drafts *out);
sluice_status step_check_rewind(const struct step_drafts *drafts, uint32_t slot, uint32_t n_kept, sluice_error *err);
sluice_status step_check_page(const struct backend_options *limits, uint32_t page, sluice_error *err);

/* A page on its way out or in, piece by piece: one of out and in is NULL. */
struct parcel {
    char *out;
    const char *in;
};

static inline void parcel_carry(struct parcel *p, void *inside, size_t n) {
    if (p->out) {
        memcpy(p->out, inside, n);
        p->out += n;
    } else {
        memcpy(inside, p->in, n);
        p->in += n;
    }
}

#endif
