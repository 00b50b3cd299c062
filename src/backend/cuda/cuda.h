/* The cuda backend's state; cuda.c owns it, upload.c fills the weights, turn.c describes a step to the device,
 * forward.c computes it, draw.c says what it ends with, state.c moves what outlives it. */
#ifndef CUDA_H
#define CUDA_H

#include "backend/backend.h"
#include "backend/cuda/draw.h"
#include "backend/step.h"

#include <pthread.h>

enum {
    CUDA_CHUNK = 1024, /* tokens per prefill step unless told otherwise */
    CUDA_BUCKETS = 14, /* graphs per number of rows, by power of two of attention splits */
    CUDA_TURNS = 2,    /* steps under way at once */
    CUDA_PAIRS = 4096, /* (token, split) pairs whose partial attention fits in memory at once */
};

struct cuda_layer {
    struct cuda_mat wq, wk, wv, wo, in_proj, out_proj, gate, up, down;
    const float *attn_norm, *ffn_norm, *q_norm, *k_norm, *conv, *router, *bias;
};

/* What a step ends with: logits for the host, or tokens, at most by the greatest logit, by weights, by weights behind
 * top_k or top_p. */
enum cuda_ends { CUDA_LOGITS, CUDA_GREEDY, CUDA_WEIGHED, CUDA_CUT, CUDA_ENDS };

/* Stages of a step, timed by profile.c. */
enum cuda_stage {
    CUDA_STAGE_START,
    CUDA_STAGE_QKV,
    CUDA_STAGE_ATTEND,
    CUDA_STAGE_ATTN_OUT,
    CUDA_STAGE_CONV_IN,
    CUDA_STAGE_CONV_OUT,
    CUDA_STAGE_ROUTE,
    CUDA_STAGE_GATE_UP,
    CUDA_STAGE_DOWN,
    CUDA_STAGE_HEAD,
    CUDA_STAGE_DRAW,
    CUDA_STAGES
};

/* Steps take turns: while one computes, the host writes the next one's words and reads the last one's results. */
struct cuda_turn {
    /* [words_max] tokens, rows, outputs, draws, page tables, lists; pinned, and their copy */
    uint32_t *words, *words_device;
    cudaEvent_t done;     /* the step is over */
    float *draft_columns; /* on the device [n_conv_layers][step_draft_columns][n_embd] */
    struct step_drafts drafts;
    /* results, pinned, and as the device sees them */
    float *logits, *logits_device;           /* [step_outputs_max][n_vocab] */
    struct cuda_drawn *drawn, *drawn_device; /* [step_outputs_max] */
    uint32_t *touched, *touched_device;      /* [n_layer] distinct experts */
    struct sample *samples;                  /* [step_outputs_max] */
    /* steps of one token per row, as graphs */
    cudaGraphExec_t graphs[CUDA_ENDS][CUDA_DECODE_ROWS + 1][CUDA_BUCKETS];
    /* of the step */
    uint8_t *wants; /* [n_outputs] enum cuda_wants */
    uint32_t n, n_outputs;
    uint64_t positions;       /* that its rows attend to at their ends */
    struct cuda_marks *marks; /* NULL: the step is not timed */
    enum cuda_ends ends;
    bool direct;   /* the head wrote its logits to the host's memory */
    bool logprobs; /* some are wanted */
    bool counted;  /* touched holds this step's */
};

enum cuda_wants { CUDA_WANTS_LOGITS, CUDA_WANTS_TOKEN, CUDA_WANTS_LOGPROB };

struct cuda {
    struct backend base;
    const struct model *m;
    struct backend_options limits;
    struct backend_caps caps;
    int device;
    uint32_t n_sm;
    cudaStream_t stream, words_stream, pages_stream;
    pthread_mutex_t pages_mutex;
    /* weights */
    char *weights;
    size_t weight_bytes;
    struct cuda_layer *layers; /* [n_layer] */
    struct cuda_mat tok_embd, output;
    const float *output_norm;
    bool floats;       /* some matrix meets F32 vectors */
    bool fused;        /* the decode kernels know this model's types and widths */
    uint32_t rows_max; /* rows of one token each that they take */
    /* state: one block on the device */
    char *arena;
    size_t arena_bytes;
    uint16_t *keys, *values; /* [n_attn_layers][n_pages][n_head_kv_max][64][head_dim] */
    float *conv_state;       /* [n_slots][n_conv_layers][conv_taps - 1][n_embd] */
    float *snapshots;        /* [n_pages][n_conv_layers][conv_taps - 1][n_embd] */
    uint32_t *drawn;         /* [n_slots] the token that each slot drew last */
    /* work memory of a step of n tokens */
    double *rope_rate;     /* [head_dim / 2] */
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
    float *logits;       /* [step_outputs_max][n_vocab] */
    /* steps of one token, as one kernel; ready: it suits the model and the device */
    struct cuda_token_job token;
    char *token_memory;
    size_t token_bytes;
    bool token_ready;
    struct cuda_turn turns[CUDA_TURNS];
    size_t words_max;
    size_t pinned_bytes;
    struct backend_profile profile; /* since it was last asked for */
    uint64_t submitted, waited;     /* steps; step i takes turns[i % CUDA_TURNS] */
    /* the step being submitted */
    struct cuda_turn *turn;
    struct cuda_step step;
    struct cuda_drawing drawing; /* its work memory: parts, rows, weights, counts, edited are there from the start */
    uint32_t seq;
};

/* SLUICE_E_BACKEND with the device's words, or SLUICE_OK. */
sluice_status cuda_check(cudaError_t status, const char *what, sluice_error *err);

/* upload.c: device memory for all weights, and the weights in it. */
sluice_status cuda_upload(struct cuda *c, sluice_error *err);
/* forward.c: puts c->step on the stream. plain: every row has one token and one output. */
sluice_status cuda_forward(struct cuda *c, uint32_t positions_max, bool plain, sluice_error *err);
void cuda_forget_graphs(struct cuda *c);
struct cuda_conv cuda_conv_of(const struct cuda *c, uint32_t layer);
struct cuda_attn cuda_attn_of(const struct cuda *c, uint32_t layer, uint32_t n_splits);

/* token.c: prepares c->token where the token kernel suits; after everything else. shared_max: bytes of a block */
sluice_status cuda_token_open(struct cuda *c, int shared_max, sluice_error *err);

/* turn.c */
sluice_status cuda_take_turns(struct cuda *c, sluice_error *err);
void cuda_drop_turns(struct cuda *c);
/* Describes the step of c->turn in words and sends them: c->step, c->drawing. The step's rows end at positions_max at
 * most; plain: every row has one token and one output. */
sluice_status cuda_send_step(struct cuda *c, const struct backend_step *step, uint32_t *positions_max, bool *plain,
                             sluice_error *err);

/* draw.c */

enum { CUDA_WORDS_DRAW = sizeof(struct cuda_draw) / 4 };
/* Words of the lists that a row's results are drawn by. */
size_t cuda_draw_words(const struct backend_row *row);
/* Fills draws[n_outputs], and their lists from word *at on, and what the turn says of them. */
void cuda_describe_draws(struct cuda *c, const struct backend_step *step, struct cuda_draw *draws, size_t *at);
/* Behind a step on the stream: what of its results is not in the host's memory yet; then it is over. */
sluice_status cuda_fetch_results(struct cuda *c, sluice_error *err);
/* The results of a turn whose step is over. */
void cuda_give_results(struct cuda_turn *turn, struct backend_output *out);

/* profile.c */
void cuda_profile_begin(struct cuda *c);                        /* a step's first kernels follow */
void cuda_mark(struct cuda *c, enum cuda_stage stage);          /* the stage's kernels are on the stream */
void cuda_profile_step(struct cuda *c, struct cuda_turn *turn); /* its step is over */
void cuda_profile_close(struct cuda *c);
void cuda_profile(struct backend *base, struct backend_profile *out); /* as in struct backend_ops */

/* state.c: as in struct backend_ops */
sluice_status cuda_backend_rewind(struct backend *base, uint32_t slot, uint32_t n_kept, sluice_error *err);
sluice_status cuda_page_save(struct backend *base, uint32_t page, void *bytes, sluice_error *err);
sluice_status cuda_page_load(struct backend *base, uint32_t page, const void *bytes, sluice_error *err);

#endif
