/* The cpu backend's state; cpu.c owns it, forward.c computes with it, state.c moves it between steps. */
#ifndef CPU_H
#define CPU_H

#include "backend/backend.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/shares.h"
#include "backend/cpu/weights.h"
#include "backend/step.h"
#include "base/threads.h"

/* A token of the step: which row it belongs to and where it stands. */
struct step_token {
    uint32_t row;
    uint32_t pos;
};

/* What a step's time is booked on, as the first thread sees it. */
enum cpu_stage {
    STAGE_START,
    STAGE_NORM,
    STAGE_CONV_IN,
    STAGE_CONV,
    STAGE_CONV_OUT,
    STAGE_QKV,
    STAGE_HEADS,
    STAGE_ATTEND,
    STAGE_ATTN_OUT,
    STAGE_ROUTE,
    STAGE_EXPERTS_UP,
    STAGE_EXPERTS_DOWN,
    STAGE_DENSE_UP,
    STAGE_DENSE_DOWN,
    STAGE_OUTPUT,
    STAGE_WAIT,
    N_STAGES
};

/* What one thread has to itself. */
struct cpu_thread {
    void *panel; /* kernels_scratch_bytes */
    /* inputs of products in a step of one token, made by each thread for itself so that none waits for another */
    struct acts x;                  /* [1][n_embd] */
    struct acts conv_out, attn_out; /* as in struct cpu, whose floats they share */
    struct acts hidden;             /* [max(1, n_expert_used)][...], likewise */
};

struct cpu {
    struct backend base;
    struct weights weights;
    const struct model *m; /* weights.model once the backend is open */
    const struct kernels *k;
    struct pool *pool;
    struct backend_options limits;
    struct backend_caps caps;
    void *arena;
    size_t arena_bytes;
    /* state */
    uint16_t *keys, *values; /* [n_attn_layers][n_pages][n_head_kv_max][64 * head_dim] */
    float *conv_state;       /* [n_slots][n_conv_layers][conv_taps - 1][n_embd] */
    float *snapshots;     /* [n_pages][n_conv_layers][conv_taps - 1][n_embd]: conv state after a page's last position */
    float *draft_columns; /* [n_conv_layers][step_draft_columns][n_embd]: struct step_drafts tells whose */
    struct step_drafts drafts;
    float *taps; /* [n_conv_layers][conv_taps][n_embd]: the model's, transposed so that lanes are channels */
    /* work memory of one step of n tokens */
    float *h;             /* [n][n_embd] residual */
    struct acts x;        /* [n][n_embd] normed input of a branch */
    struct acts conv_out; /* [n][n_embd] input of out_proj */
    struct acts attn_out; /* [n][n_head * head_dim] input of attn_output; the same memory */
    struct acts hidden;   /* [n * max(1, n_expert_used)][n_ff or n_ff_exp] */
    float *wide;          /* [n][wide_cols] in_proj output or q | k | v; or the up products, shaped as hidden */
    uint32_t wide_cols;
    float *cos_sin;            /* [n][head_dim] */
    double *rope_rate;         /* [head_dim / 2] radians per position */
    float *route;              /* [n][n_expert] sigmoid scores */
    uint32_t *expert_of;       /* [n][n_expert_used] chosen experts, ascending */
    float *gain_of;            /* [n][n_expert_used] their weights */
    uint32_t *expert_start;    /* [n_expert + 1] first entry of each expert in the lists below */
    uint32_t *pack_start;      /* [n_expert + 1] first pack of each expert */
    uint32_t *entry_token;     /* [n * n_expert_used] token, by expert */
    uint32_t *entry_slot;      /* [n * n_expert_used] row of `hidden` */
    float *entry_gain;         /* [n * n_expert_used] */
    struct step_token *tokens; /* [n] */
    uint32_t *row_start;       /* [n_slots] first token of each row */
    uint32_t *out_idx;         /* [n_outputs] */
    float *logits;             /* [step_outputs_max][n_vocab] */
    struct cpu_thread *threads;
    struct shares shares;
    /* the step under way */
    const struct backend_step *step;
    uint32_t n, n_outputs;
    uint64_t weight_bytes;
    bool profiling;
    uint64_t stage_clock; /* when the stage at hand began */
    struct backend_profile profile;
};

/* One head's keys or values in a page; those of a layer's heads follow each other. */
static inline uint16_t *cpu_kv_head(const struct cpu *c, uint16_t *base, uint32_t kv_index, uint32_t page,
                                    uint32_t head) {
    size_t head_size = (size_t)KV_PAGE_TOKENS * c->m->head_dim;
    return base + (((size_t)kv_index * c->limits.n_pages + page) * c->m->n_head_kv_max + head) * head_size;
}

/* One conv layer's columns in a slot (base: conv_state) or in a page (base: snapshots). */
static inline float *cpu_conv_columns(const struct cpu *c, float *base, uint32_t slot_or_page, uint32_t conv_index) {
    size_t size = (size_t)(c->m->conv_taps - 1) * c->m->n_embd;
    return base + ((size_t)slot_or_page * c->m->n_conv_layers + conv_index) * size;
}

/* One conv layer's column i of a run of drafts. */
static inline float *cpu_draft_column(const struct cpu *c, const struct draft_run *run, uint32_t conv_index,
                                      uint32_t i) {
    size_t column = (size_t)conv_index * step_draft_columns(c->m, &c->limits) + run->first + i;
    return c->draft_columns + column * c->m->n_embd;
}

/* Of one expert, as read from the file. */
static inline uint64_t cpu_expert_bytes(const struct model_layer *l) {
    return weight_file_bytes(&l->gate) + weight_file_bytes(&l->up) + weight_file_bytes(&l->down);
}

/* Runs c->step on the calling thread of the pool (number ith of nth). */
void cpu_forward(struct cpu *c, uint32_t ith, uint32_t nth);

/* state.c: as in struct backend_ops. */
sluice_status cpu_rewind(struct backend *base, uint32_t slot, uint32_t n_kept, sluice_error *err);
sluice_status cpu_page_save(struct backend *base, uint32_t page, void *bytes, sluice_error *err);
sluice_status cpu_page_load(struct backend *base, uint32_t page, const void *bytes, sluice_error *err);

#endif
