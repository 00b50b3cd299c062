/* The cuda backend's state; cuda.c owns it, upload.c fills the weights, forward.c computes a step, state.c moves what
 * outlives it. */
#ifndef CUDA_H
#define CUDA_H

#include "backend/backend.h"
#include "backend/cuda/device.h"
#include "backend/step.h"

#include <pthread.h>

enum {
    CUDA_CHUNK = 1024, /* tokens per prefill step unless told otherwise */
    CUDA_BUCKETS = 14, /* graphs per number of rows, by power of two of attention splits */
    CUDA_PAIRS = 4096, /* (token, split) pairs whose partial attention fits in memory at once */
};

struct cuda_layer {
    struct cuda_mat wq, wk, wv, wo, in_proj, out_proj, gate, up, down;
    const float *attn_norm, *ffn_norm, *q_norm, *k_norm, *conv, *router, *bias;
};

struct cuda {
    struct backend base;
    const struct model *m;
    struct backend_options limits;
    struct backend_caps caps;
    int device;
    uint32_t n_sm;
    cudaStream_t stream, pages_stream;
    pthread_mutex_t pages_mutex;
    /* weights */
    char *weights;
    size_t weight_bytes;
    struct cuda_layer *layers; /* [n_layer] */
    struct cuda_mat tok_embd, output;
    const float *output_norm;
    bool floats; /* some matrix meets F32 vectors */
    bool fused;  /* the decode kernels know this model's types and widths */
    /* state: one block on the device */
    char *arena;
    size_t arena_bytes;
    uint16_t *keys, *values; /* [n_attn_layers][n_pages][n_head_kv_max][64][head_dim] */
    float *conv_state;       /* [n_slots][n_conv_layers][conv_taps - 1][n_embd] */
    float *snapshots;        /* [n_pages][n_conv_layers][conv_taps - 1][n_embd] */
    float *draft_columns;    /* [n_conv_layers][step_draft_columns][n_embd] */
    struct step_drafts drafts;
    /* work memory of a step of n tokens */
    double *rope_rate;     /* [head_dim / 2] */
    uint32_t *step_words;  /* tokens, rows, outputs, page tables */
    float *h;              /* [n][n_embd] */
    float *wide;           /* [n][max(3 * n_embd, q + k + v)] */
    float *mid;            /* [n][max(n_embd, q)] */
    float *cos_sin;        /* [n][head_dim] */
    float *gate;           /* gate and up: [n][2 * n_ff], or of places of entries [places][2 * n_ff_exp] */
    float *up;             /* the experts' outputs [places][n_embd] */
    struct cuda_acts acts; /* of the widest vectors of a step */
    float *part;           /* [pairs][n_head][head_dim + 2] */
    uint32_t pairs;
    struct cuda_groups groups;
    float *route_part;   /* [CUDA_DECODE_ROWS][n_expert][n_embd / CUDA_ROUTE_GROUP] */
    uint32_t *route_ids; /* [n_layer][n * used] */
    uint32_t *chosen;    /* [n_layer][CUDA_DECODE_ROWS] */
    float *route_gains;  /* [n * used] */
    uint32_t *touched;   /* [n_layer] distinct experts */
    float *logits;       /* [step_outputs_max][n_vocab] */
    /* host, pinned */
    uint32_t *host_words, *host_touched;
    float *host_logits, *host_logits_device; /* the same memory, as the device sees it */
    size_t words_max;
    /* steps of one token per row, as graphs */
    cudaGraphExec_t graphs[CUDA_DECODE_ROWS + 1][CUDA_BUCKETS];
    /* the step under way */
    struct cuda_step step;
    uint32_t n_outputs;
    uint32_t seq;
    bool counted; /* host_touched holds this step's */
};

/* SLUICE_E_BACKEND with the device's words, or SLUICE_OK. */
sluice_status cuda_check(cudaError_t status, const char *what, sluice_error *err);

/* upload.c: device memory for all weights, and the weights in it. */
sluice_status cuda_upload(struct cuda *c, sluice_error *err);
/* forward.c: puts c->step on the stream. plain: every row has one token and one output. */
sluice_status cuda_forward(struct cuda *c, uint32_t positions_max, bool plain, sluice_error *err);
void cuda_forget_graphs(struct cuda *c);

/* state.c: as in struct backend_ops */
sluice_status cuda_backend_rewind(struct backend *base, uint32_t slot, uint32_t n_kept, sluice_error *err);
sluice_status cuda_page_save(struct backend *base, uint32_t page, void *bytes, sluice_error *err);
sluice_status cuda_page_load(struct backend *base, uint32_t page, const void *bytes, sluice_error *err);

#endif
