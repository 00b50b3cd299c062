#include "backend/backend.h"

#include "base/status.h"

#include <stdio.h>
#include <string.h>

static const struct backend_ops *const built[] = {
#if SLUICE_WITH_CUDA
    &backend_cuda_ops,
#endif
    &backend_cpu_ops, &backend_ref_ops, NULL};

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
