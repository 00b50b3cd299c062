/*
 * The one seam between engine and devices: the model step (design section 3). The engine asks for a step over ragged rows;
 * a backend computes it as it likes, bound only by docs/numerics.md.
 *
 * Memory: KV lives in pages of KV_PAGE_TOKENS positions over all attention layers, F16; a row brings its sequence's page
 * table. Conv state lives in n_slots slots, two F32 columns per conv layer, zero at position 0.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include "model/model.h"

enum backend_want {
    WANT_NOTHING, /* a prefill chunk that is not the last */
    WANT_LAST,    /* logits of the row's last token */
    WANT_ALL,     /* logits of every token */
};

struct backend_row {
    uint32_t slot;         /* conv state */
    uint32_t first_pos;    /* position of tokens[0]; 0 resets the slot's conv state */
    uint32_t n_tokens;     /* >= 1 */
    const int32_t *tokens; /* [n_tokens], each < n_vocab */
    const uint32_t *pages; /* [ceil((first_pos + n_tokens) / KV_PAGE_TOKENS)] page numbers */
    enum backend_want want;
};

struct backend_step {
    const struct backend_row *rows; /* no two rows of one step share a slot */
    uint32_t n_rows;
};

struct backend_output {
    const float *logits; /* [n_outputs][n_vocab] in row order; valid until the next submit */
    uint32_t n_outputs;
    uint64_t weight_bytes; /* weight bytes this step read: each expert touched counts once; 0 = not counted */
};

struct backend_caps {
    const char *name; /* "cpu" */
    char device[128]; /* for people: "AMD EPYC, 2 threads, avx512vnni" */
    uint32_t n_threads;
    uint32_t step_tokens_max;  /* tokens of one step */
    uint32_t step_outputs_max; /* logit rows of one step */
    uint32_t prefill_chunk;    /* tokens per prefill step that this device likes best */
    uint64_t weight_bytes, kv_bytes, work_bytes;
};

struct backend_options {
    uint32_t n_threads;        /* 0 = all allowed */
    uint32_t n_slots;          /* conv-state slots */
    uint32_t n_pages;          /* KV pages */
    uint32_t step_tokens_max;  /* 0 = the backend's choice */
    uint32_t step_outputs_max; /* 0 = max(n_slots, 1) */
};

struct backend {
    const struct backend_ops *ops;
};

struct backend_ops {
    const char *name;
    /* Why this backend cannot run here, in err, or SLUICE_OK. Cheap: opens no device. */
    sluice_status (*probe)(sluice_error *err);
    sluice_status (*open)(const struct model *model, const struct backend_options *options, struct backend **out,
                          sluice_error *err);
    void (*close)(struct backend *backend);
    const struct backend_caps *(*caps)(const struct backend *backend);
    /* Starts a step; at most one is under way. rows and tokens may be reused after submit, pages and outputs not before wait. */
    sluice_status (*submit)(struct backend *backend, const struct backend_step *step, sluice_error *err);
    sluice_status (*wait)(struct backend *backend, struct backend_output *out, sluice_error *err);
};

extern const struct backend_ops backend_cpu_ops;
extern const struct backend_ops backend_ref_ops;

/* By name; "auto" (or NULL) = the fastest that probes well. SLUICE_E_ARG lists the names. */
sluice_status backend_find(const char *name, const struct backend_ops **out, sluice_error *err);
/* All that were built, fastest first, NULL-terminated. */
const struct backend_ops *const *backend_list(void);

#endif
