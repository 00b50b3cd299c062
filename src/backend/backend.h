/*
 * The one seam between engine and devices: the model step (design section 3). The engine asks for a step over ragged rows;
 * a backend computes it as it likes, bound only by docs/numerics.md.
 *
 * Memory. A page holds KV_PAGE_TOKENS positions: their K and V in all attention layers, and a snapshot, the conv state
 * after the page's last position. Pages are immutable once full, so any number of sequences may read one. A slot holds
 * the running conv state of one sequence (conv_taps - 1 columns per conv layer, F32). A sequence is nothing but a slot
 * and a list of pages: it can leave its slot after any full page and go on in another one from there.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include "backend/sample.h"
#include "model/model.h"

struct backend_row {
    uint32_t slot;
    uint32_t first_pos; /* position of tokens[0] */
    uint32_t n_tokens;  /* >= 1 */
    const int32_t
        *tokens; /* [n_tokens], each < n_vocab; NULL (caps.samples, n_tokens 1): what the slot's last row drew */
    const uint32_t *pages; /* [ceil((first_pos + n_tokens) / KV_PAGE_TOKENS)] page numbers */
    bool resume;           /* conv state comes from the snapshot of the page before first_pos (then a multiple of
                  * KV_PAGE_TOKENS, not 0). Otherwise the row goes on where the slot's last one ended, rewind included;
                  * at position 0 the state is zero */
    bool generated;        /* the tokens' role: generated, or part of the prompt. Never mixed in one row */
    uint32_t n_drafts;     /* the last n_drafts < n_tokens tokens are guesses; see rewind */
    uint32_t n_outputs;    /* results are wanted for the last n_outputs <= n_tokens tokens */
    /* Draw from the results by these rules (caps.samples); NULL = give logits. What rules->seen does not know yet counts
     * as seen for a result all the same: the token that a row without tokens feeds, and the drafts before the result. */
    const struct sample_rules *rules;
};

/* All that a step points to may be changed once submit has returned. */
struct backend_step {
    const struct backend_row *rows; /* no two rows of one step share a slot or write to one page */
    uint32_t n_rows;
};

struct backend_output {
    const float *logits; /* [n_outputs of rows without rules][n_vocab] in row order; valid until the next submit */
    /* [n_outputs of rows with rules] in row order; valid until the next but one submit. Where no token can be drawn, an
     * enum sample_failure: that result's own affair, the step's others stand. A row fed from it computes nothing of
     * use. */
    const struct sample *samples;
    uint32_t n_logits, n_samples;
    uint64_t weight_bytes; /* weight bytes this step read: each expert touched counts once; 0 = not counted */
};

struct backend_caps {
    const char *name; /* "cpu" */
    char device[128]; /* for people: "AMD EPYC, 2 threads, avx512vnni" */
    uint32_t n_threads;
    uint32_t step_tokens_max;  /* tokens of one step */
    uint32_t step_outputs_max; /* results of one step */
    uint32_t step_drafts_max;  /* drafts of one step; 0 = cannot rewind */
    uint32_t steps_ahead;      /* steps that may be submitted before the oldest is waited for; 0 = none */
    bool samples;              /* draws tokens itself, and feeds them to the next step */
    uint32_t prefill_chunk;    /* tokens per prefill step that this device likes best */
    uint64_t weight_bytes, kv_bytes, work_bytes;
    const void
        *weights; /* most of the weights where they lie in the host's memory, page-aligned, to measure how fast it is */
    size_t weights_bytes;  /* of it; 0 = elsewhere, or in many places */
    uint64_t pinned_bytes; /* of the host's memory, locked for the device; not in the three above */
    uint64_t other_bytes;  /* in use on the device beside what this backend took: the driver, other programs */
    /* pages outside: page_bytes each, in a form of this name, which changes whenever the bytes for the same tokens may
     * ("cpu-3") */
    size_t page_bytes;
    const char *page_format;
};

struct backend_options {
    uint32_t n_threads;        /* 0 = all allowed */
    uint32_t n_slots;          /* conv states */
    uint32_t n_pages;          /* KV pages with snapshots */
    uint32_t step_tokens_max;  /* 0 = the backend's choice */
    uint32_t step_outputs_max; /* 0 = max(n_slots, 1) */
    uint32_t step_drafts_max;
};

/* Where the time of steps went: a stage's wall time, the bytes of weights, keys and values that it read, and its multiply-adds. */
struct backend_stage {
    const char *name;
    uint64_t ns, bytes, macs;
};
enum { BACKEND_STAGES_MAX = 24 };
struct backend_profile {
    uint32_t n_stages, n_steps;
    struct backend_stage stages[BACKEND_STAGES_MAX];
};

struct backend {
    const struct backend_ops *ops;
};

struct backend_ops {
    const char *name;
    /* Why this backend cannot run here, in err, or SLUICE_OK. Cheap: opens no device. */
    sluice_status (*probe)(sluice_error *err);
    /* Bytes that open may take where weights and pages live; 0 = unknown. */
    uint64_t (*memory)(void);
    sluice_status (*open)(const struct model *model, const struct backend_options *options, struct backend **out,
                          sluice_error *err);
    void (*close)(struct backend *backend);
    const struct backend_caps *(*caps)(const struct backend *backend);
    /* Starts a step. Steps run in the order of submission, so memory that an earlier one uses may be given to a later
     * one. At most 1 + caps.steps_ahead are under way. Whenever a row computes the last position of a page, that page
     * gets its snapshot. */
    sluice_status (*submit)(struct backend *backend, const struct backend_step *step, sluice_error *err);
    /* Ends the oldest step under way. */
    sluice_status (*wait)(struct backend *backend, struct backend_output *out, sluice_error *err);
    /* After the wait of a step in which `slot` had drafts, before the next submit: only the first n_kept of them stand,
     * and the slot's next row begins right after them. Not called when all stand. K and V of dropped drafts are
     * overwritten by the next rows. */
    sluice_status (*rewind)(struct backend *backend, uint32_t slot, uint32_t n_kept, sluice_error *err);
    /* A full page, K, V and snapshot, to and from bytes[caps.page_bytes]. From any thread, beside steps that do not
     * write that page. */
    sluice_status (*page_save)(struct backend *backend, uint32_t page, void *bytes, sluice_error *err);
    sluice_status (*page_load)(struct backend *backend, uint32_t page, const void *bytes, sluice_error *err);
    /* Turns timing on; gives what was timed since the last call, between steps. NULL where stages are not timed. */
    void (*profile)(struct backend *backend, struct backend_profile *out);
    /* Measures for about `seconds`, between steps, how fast weights can be read at best: bytes per second. NULL where
     * they lie in the host's memory, whose speed is for others to measure. */
    sluice_status (*read_rate)(struct backend *backend, double seconds, double *out, sluice_error *err);
};

extern const struct backend_ops backend_cpu_ops;
extern const struct backend_ops backend_ref_ops;
extern const struct backend_ops backend_cuda_ops; /* where SLUICE_WITH_CUDA */

/* By name; "auto" (or NULL) = the fastest that probes well. SLUICE_E_ARG lists the names. */
sluice_status backend_find(const char *name, const struct backend_ops **out, sluice_error *err);
/* All that were built, fastest first, NULL-terminated. */
const struct backend_ops *const *backend_list(void);

#endif
