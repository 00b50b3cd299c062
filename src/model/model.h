/*
 * An LFM2 model bound to its file: hyperparameters, and every weight with shape and type (lfm2.md sections 1 and 2).
 * Shapes come from the tensors; metadata that contradicts them loses (lfm2.md 1.4).
 */
#ifndef MODEL_H
#define MODEL_H

#include "base/dtype.h"
#include "gguf/gguf.h"
#include "sluice.h"

struct weight { /* a matrix in the mapped file: n_mat x [n_rows][n_cols], rows contiguous, n_cols is the dot length */
    const uint8_t *data; /* NULL if the model has no such weight */
    enum dtype type;
    uint32_t n_cols, n_rows, n_mat; /* n_mat: experts; 1 otherwise */
    size_t row_bytes;
    size_t mat_bytes;
    const char *name; /* for messages; owned by the model */
};

struct model_layer {
    bool is_attention;
    bool is_moe;
    uint32_t n_head_kv;     /* attention layers */
    uint32_t kv_index;      /* running number among attention layers */
    uint32_t conv_index;    /* running number among conv layers */
    const float *attn_norm; /* [n_embd] */
    const float *ffn_norm;  /* [n_embd] */
    /* attention */
    struct weight wq, wk, wv,
        wo; /* [n_head*head_dim][n_embd], [n_head_kv*head_dim][n_embd] x2, [n_embd][n_head*head_dim] */
    const float *q_norm, *k_norm; /* [head_dim] */
    /* short convolution */
    struct weight in_proj, out_proj; /* [3*n_embd][n_embd] rows in order B, C, x; [n_embd][n_embd] */
    const float *conv;               /* [n_embd][conv_taps], oldest first */
    /* feed-forward: dense (n_mat = 1) or experts (n_mat = n_expert) */
    struct weight gate, up, down; /* [n_ff][n_embd] x2, [n_embd][n_ff] */
    struct weight router;         /* [n_expert][n_embd], F32 */
    const float *expert_bias;     /* [n_expert] or NULL */
};

struct model {
    struct gguf_file *file;
    char architecture[16];
    uint32_t n_layer, n_embd, n_vocab, n_head, head_dim, n_ff, n_expert, n_expert_used, n_ff_exp, n_dense, n_ctx_train;
    uint32_t n_attn_layers, n_conv_layers;
    uint32_t n_head_kv_max;
    uint32_t conv_taps; /* 3: the current token and two before it */
    uint32_t window;    /* attention reads at most this many positions, its own included; 0 = all */
    float norm_eps, rope_theta, expert_scale; /* expert_scale 1 where absent or 0 */
    struct weight tok_embd;                   /* [n_vocab][n_embd] */
    struct weight output;                     /* [n_vocab][n_embd]; = tok_embd when tied */
    bool tied;
    const float *output_norm; /* [n_embd] */
    struct model_layer *layers;
    uint64_t n_params, decode_bytes;
    void *owned; /* copies of small F32 tensors, names */
};

/* Validates everything the forward pass relies on; on success it can run without further checks. */
sluice_status model_load(const char *path, struct model **out, sluice_error *err);
/* The same for a file already open; takes it over on success only. */
sluice_status model_bind(struct gguf_file *file, struct model **out, sluice_error *err);
void model_free(struct model *model);

/* K and V bytes (F16) per position over all attention layers, and F32 conv state bytes per sequence. */
uint64_t model_kv_bytes_per_token(const struct model *model);
uint64_t model_conv_state_bytes(const struct model *model);
/* A page: K and V (F16) of KV_PAGE_TOKENS positions, and the conv state after the last of them. */
uint64_t model_page_bytes(const struct model *model);

#endif
