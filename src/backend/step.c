#include "backend/step.h"

#include "base/status.h"

#include <string.h>

static sluice_status check_drawing(const struct backend_row *row, uint32_t r, bool samples, sluice_error *err) {
    if (!samples && row->rules) {
        return fail(err, SLUICE_E_ARG, "row %u of a step has sampling rules, but this backend gives logits only", r);
    }
    if (!samples && !row->tokens) {
        return fail(err, SLUICE_E_ARG,
                    "row %u of a step names no tokens, which means the one last drawn, but this backend draws none", r);
    }
    if (!row->tokens && row->n_tokens != 1) {
        return fail(err, SLUICE_E_ARG,
                    "row %u of a step names none of its %u tokens; only one can be the one last drawn", r,
                    row->n_tokens);
    }
    return SLUICE_OK;
}

static sluice_status check_counts(const struct backend_row *row, uint32_t r, const struct backend_options *limits,
                                  sluice_error *err) {
    if (row->slot >= limits->n_slots || row->slot >= LIMIT_SLOTS || row->n_tokens == 0) {
        return fail(err, SLUICE_E_ARG, "row %u of a step has slot %u of %u and %u tokens", r, row->slot,
                    limits->n_slots, row->n_tokens);
    }
    if (row->n_outputs > row->n_tokens || row->n_drafts >= row->n_tokens) {
        return fail(err, SLUICE_E_ARG, "row %u of a step has %u tokens, %u drafts and %u outputs", r, row->n_tokens,
                    row->n_drafts, row->n_outputs);
    }
    if (row->resume && (row->first_pos == 0 || row->first_pos % KV_PAGE_TOKENS)) {
        return fail(err, SLUICE_E_ARG, "row %u of a step resumes at position %u, which follows no full page", r,
                    row->first_pos);
    }
    return SLUICE_OK;
}

/* Pages, and that they are no more than there can be: scratch memory for positions is sized by that. */
static sluice_status check_memory(const struct backend_row *row, uint32_t r, const struct backend_options *limits,
                                  sluice_error *err) {
    uint64_t end = (uint64_t)row->first_pos + row->n_tokens;
    uint64_t n_pages = (end + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    if (n_pages > limits->n_pages) {
        return fail(err, SLUICE_E_ARG, "row %u of a step ends at position %llu, beyond the %u KV pages there are", r,
                    (unsigned long long)end, limits->n_pages);
    }
    for (uint64_t p = 0; p < n_pages; p++) {
        if (row->pages[p] >= limits->n_pages) {
            return fail(err, SLUICE_E_ARG, "row %u of a step names KV page %u of %u", r, row->pages[p],
                        limits->n_pages);
        }
    }
    return SLUICE_OK;
}

static sluice_status check_tokens(const struct model *model, const struct backend_row *row, sluice_error *err) {
    for (uint32_t t = 0; row->tokens && t < row->n_tokens; t++) {
        if (row->tokens[t] < 0 || (uint32_t)row->tokens[t] >= model->n_vocab) {
            return fail(err, SLUICE_E_ARG, "token %d is outside the vocabulary of %u", row->tokens[t], model->n_vocab);
        }
    }
    return SLUICE_OK;
}

sluice_status step_check(const struct model *model, const struct backend_options *limits, bool samples,
                         const struct backend_step *step, uint32_t *n_tokens, uint32_t *n_outputs, sluice_error *err) {
    uint64_t tokens = 0;
    uint64_t outputs = 0;
    uint64_t drafts = 0;
    bool taken[LIMIT_SLOTS] = {false};
    for (uint32_t r = 0; r < step->n_rows; r++) {
        const struct backend_row *row = &step->rows[r];
        TRY(check_counts(row, r, limits, err));
        if (taken[row->slot]) {
            return fail(err, SLUICE_E_ARG, "row %u of a step has slot %u, as a row before it", r, row->slot);
        }
        taken[row->slot] = true;
        TRY(check_drawing(row, r, samples, err));
        TRY(check_memory(row, r, limits, err));
        tokens += row->n_tokens;
        outputs += row->n_outputs;
        drafts += row->n_drafts;
        if (tokens > limits->step_tokens_max || outputs > limits->step_outputs_max ||
            drafts > limits->step_drafts_max) {
            return fail(
                err, SLUICE_E_LIMIT,
                "a step of at least %llu tokens, %llu outputs and %llu drafts exceeds the backend's %u, %u and %u",
                (unsigned long long)tokens, (unsigned long long)outputs, (unsigned long long)drafts,
                limits->step_tokens_max, limits->step_outputs_max, limits->step_drafts_max);
        }
        TRY(check_tokens(model, row, err));
    }
    *n_tokens = (uint32_t)tokens;
    *n_outputs = (uint32_t)outputs;
    return SLUICE_OK;
}

uint32_t step_outputs(const struct backend_step *step, uint32_t *out) {
    uint32_t n = 0;
    uint32_t base = 0;
    for (uint32_t r = 0; r < step->n_rows; r++) {
        const struct backend_row *row = &step->rows[r];
        for (uint32_t t = row->n_tokens - row->n_outputs; t < row->n_tokens; t++) {
            out[n++] = base + t;
        }
        base += row->n_tokens;
    }
    return n;
}

uint32_t step_draft_columns(const struct model *model, const struct backend_options *limits) {
    uint32_t runs = limits->step_drafts_max < limits->n_slots ? limits->step_drafts_max : limits->n_slots;
    return limits->step_drafts_max + runs * (model->conv_taps - 1);
}

void step_place_drafts(const struct model *model, const struct backend_step *step, struct step_drafts *out) {
    memset(out, 0, sizeof *out);
    uint32_t column = 0;
    for (uint32_t r = 0; r < step->n_rows; r++) {
        const struct backend_row *row = &step->rows[r];
        if (row->n_drafts) {
            out->of[row->slot] = (struct draft_run){.first = column, .n = row->n_drafts};
            column += model->conv_taps - 1 + row->n_drafts;
        }
    }
}

sluice_status step_check_rewind(const struct step_drafts *drafts, uint32_t slot, uint32_t n_kept, sluice_error *err) {
    uint32_t n = slot < LIMIT_SLOTS ? drafts->of[slot].n : 0;
    if (n == 0) {
        return fail(err, SLUICE_E_ARG, "slot %u had no drafts in the last step, so there is nothing to take back",
                    slot);
    }
    if (n_kept > n) {
        return fail(err, SLUICE_E_ARG, "slot %u had %u drafts in the last step, so %u cannot be kept", slot, n, n_kept);
    }
    return SLUICE_OK;
}

sluice_status step_check_page(const struct backend_options *limits, uint32_t page, sluice_error *err) {
    if (page >= limits->n_pages) {
        return fail(err, SLUICE_E_ARG, "there is no KV page %u; the backend has %u", page, limits->n_pages);
    }
    return SLUICE_OK;
}
