#include "backend/backend.h"

#include "backend/step.h"
#include "base/limits.h"
#include "base/status.h"

#include <stdio.h>
#include <string.h>

static const struct backend_ops *const built[] = {&backend_cpu_ops, &backend_ref_ops, NULL};

const struct backend_ops *const *backend_list(void) {
    return built;
}

sluice_status backend_find(const char *name, const struct backend_ops **out, sluice_error *err) {
    bool any = !name || strcmp(name, "auto") == 0;
    char names[128] = "auto";
    for (const struct backend_ops *const *b = built; *b; b++) {
        if (any || strcmp((*b)->name, name) == 0) {
            sluice_error why = {0};
            if ((*b)->probe(&why) == SLUICE_OK) {
                *out = *b;
                return SLUICE_OK;
            }
            if (!any) {
                return fail(err, SLUICE_E_UNSUPPORTED, "backend %s cannot run here: %s", name, why.text);
            }
        }
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, ", %s", (*b)->name);
    }
    return fail(err, SLUICE_E_ARG, "there is no backend \"%s\"; this build has %s", name ? name : "auto", names);
}

sluice_status step_check(const struct model *model, const struct backend_options *limits,
                         const struct backend_step *step, uint32_t *n_tokens, uint32_t *n_outputs, sluice_error *err) {
    uint64_t tokens = 0;
    uint64_t outputs = 0;
    for (uint32_t r = 0; r < step->n_rows; r++) {
        const struct backend_row *row = &step->rows[r];
        if (row->slot >= limits->n_slots || row->n_tokens == 0) {
            return fail(err, SLUICE_E_ARG, "row %u of a step has slot %u of %u and %u tokens", r, row->slot,
                        limits->n_slots, row->n_tokens);
        }
        tokens += row->n_tokens;
        outputs += row->want == WANT_ALL ? row->n_tokens : row->want == WANT_LAST;
        uint64_t end = (uint64_t)row->first_pos + row->n_tokens;
        for (uint64_t p = 0; p * KV_PAGE_TOKENS < end; p++) {
            if (row->pages[p] >= limits->n_pages) {
                return fail(err, SLUICE_E_ARG, "row %u of a step names KV page %u of %u", r, row->pages[p],
                            limits->n_pages);
            }
        }
        for (uint32_t t = 0; t < row->n_tokens; t++) {
            if (row->tokens[t] < 0 || (uint32_t)row->tokens[t] >= model->n_vocab) {
                return fail(err, SLUICE_E_ARG, "token %d is outside the vocabulary of %u", row->tokens[t],
                            model->n_vocab);
            }
        }
    }
    if (tokens > limits->step_tokens_max || outputs > limits->step_outputs_max) {
        return fail(err, SLUICE_E_LIMIT, "a step of %llu tokens and %llu outputs exceeds the backend's %u and %u",
                    (unsigned long long)tokens, (unsigned long long)outputs, limits->step_tokens_max,
                    limits->step_outputs_max);
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
        uint32_t first = row->want == WANT_ALL ? 0 : row->n_tokens - 1;
        for (uint32_t t = first; t < row->n_tokens && row->want != WANT_NOTHING; t++) {
            out[n++] = base + t;
        }
        base += row->n_tokens;
    }
    return n;
}
