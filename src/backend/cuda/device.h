/*
 * What the host (C) and the device code (.cu) of the cuda backend share: weights as they lie on the device, a step's
 * description, and the launchers. All launchers put work on `stream` and return what cudaGetLastError says.
 *
 * Weights are repacked once, bit for bit the same numbers in planes that a warp reads in whole 16-byte words. A row is cut
 * in pieces of 64 weights (two groups A and B of 32); P = n_cols / 64 pieces, S = n_cols / 256 super-blocks. Experts'
 * matrices follow each other, so that row r of expert e is row e * n_rows + r.
 *
 *         q                                 h                         s                              d
 * Q4_K    [rows][2][P][16] nibbles                                    [rows][S][16] d, dmin, 4 x 24 bits (6-bit sc A, B,
 *                                                                       m A, B of each piece)
 * Q5_K    as Q4_K                           [rows][P][8] bit 4        as Q4_K
 * Q6_K    as Q4_K                           [rows][P][16] bits 4, 5   [rows][P][4] int8 scales       [rows][S] F16, rows padded to 16 bytes
 * Q8_0    [rows][n_cols] int8                                                                        [rows][n_cols/32] F16
 * Q4_0    [rows][n_cols/8] words                                                                     [rows][n_cols/32] F16
 * others  as in the file
 *
 * Word j (0..7) of a piece holds weights 4j..4j+3 of A in its low nibbles and of B in its high ones; words 0-3 lie in the
 * first half plane, 4-7 in the second. Q5_K h: one word per group, bit j of byte k for weight 4j + k. Q6_K h: four words,
 * A (j 0-3), A (j 4-7), B, B; bits 2f, 2f+1 of byte k for weight 4(j%4 = f) + k, the upper one inverted. Q4_0: nibble i
 * of a word is weight i of eight.
 */
#ifndef CUDA_DEVICE_H
#define CUDA_DEVICE_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CUDA_NONE         0xffffffffu
#define CUDA_FED          0x80000000u /* in a token's id, beside a slot: the token that this slot drew last */
#define CUDA_SPLIT        256u        /* KV positions of one attention block: four pages */
#define CUDA_ROUTE_GROUP  16u         /* channels per partial sum of the router */
#define CUDA_DECODE_ROWS  16u         /* most rows of one token each that take the decode kernels */
#define CUDA_USED_MAX     8u          /* experts per token in the decode kernels */
#define CUDA_EXPERTS_MAX  64u         /* experts of a layer in them */
#define CUDA_DECODE_BLOCK 512u
#define CUDA_RECORD       592u /* bytes of 256 quantised values in rows.cuh */

enum {
    CUDA_F32 = 0,
    CUDA_F16 = 1,
    CUDA_Q4_0 = 2,
    CUDA_Q8_0 = 8,
    CUDA_Q4_K = 12,
    CUDA_Q5_K = 13,
    CUDA_Q6_K = 14,
    CUDA_BF16 = 30
};

struct cuda_mat {
    const uint8_t *q, *h, *s, *d;
    uint32_t type, n_cols, n_rows;
};

struct cuda_token {
    uint32_t id, row, pos; /* id: or CUDA_FED | slot */
    uint32_t seq;          /* the step's number, never that of the one before */
};

struct cuda_row {
    uint32_t slot, first_pos, first_token, n_tokens;
    uint32_t n_drafts, draft_first; /* first column of its run in draft_columns */
    uint32_t resume_page;           /* whose snapshot it starts from; CUDA_NONE = goes on (or zero at position 0) */
    uint32_t first_page;            /* into cuda_step.pages */
};

struct cuda_step {                   /* device pointers */
    const struct cuda_token *tokens; /* [n] */
    const struct cuda_row *rows;     /* [n_rows] */
    const uint32_t *outputs;         /* [n_outputs] tokens whose logits are wanted */
    const uint32_t *pages;
    const uint32_t *drawn; /* [n_slots] the token that each slot drew last */
    uint32_t n, n_rows, n_outputs;
};

/* Vectors as prompt products read them, in groups of eight. Per group and 256 columns one block of CUDA_ACTS_BLOCK
 * bytes: integers a = 256 * hi + lo (x = a * scale), hi and then lo as [16 words][8 vectors][4 pieces] of 4 bytes, which
 * is both an operand of mma and a tile of core matrices of wgmma; the eight sums of 32 integers, near + CUDA_SUM_UNIT *
 * far, near and then far as [2 groups][8 vectors][4 pieces] of bytes a, b, c, 0 = a + 2 b + 4 c; then scale [8]. Word i
 * of a piece of 64 columns holds columns 4i..4i+3. f: x in F32 [n][n_cols], for other weights, or NULL. */
#define CUDA_ACTS_SUMS  4096u
#define CUDA_ACTS_SCALE 4608u
#define CUDA_ACTS_BLOCK 4640u
#define CUDA_SUM_UNIT   1280

struct cuda_acts {
    uint8_t *blocks; /* [n / 8][n_cols / 256][CUDA_ACTS_BLOCK] */
    float *f;
};

struct cuda_conv {     /* one short convolution's parameters and memory */
    const float *taps; /* [n_taps][d] */
    float *state, *snapshots, *drafts;
    size_t slot_stride, page_stride, draft_stride; /* floats from slot to slot, page to page, column to column */
    uint32_t n_taps, d;
};

struct cuda_attn {
    uint16_t *keys, *values; /* this layer's: [n_pages][n_head_kv][64][dim] F16 */
    size_t page_stride;
    const float *q_norm, *k_norm;
    const float *cos_sin; /* [n][dim] */
    float *qkv;           /* [n][(n_head + 2 * n_head_kv) * dim] */
    float *part;          /* [n][n_head][n_splits][dim + 2]: maximum, sum, values */
    float *out;           /* [n][n_head * dim] */
    uint32_t n_head, n_head_kv, dim, window, n_splits;
    float eps, scale;
};

struct cuda_route {
    const float *w;    /* [n_expert][d] router */
    const float *bias; /* [n_expert] or NULL */
    const float *gain; /* [d] the norm before it */
    float *part;       /* [n][n_expert][d / CUDA_ROUTE_GROUP] */
    uint32_t *ids;     /* [n][used] ascending */
    float *gains;      /* [n][used] */
    uint32_t *chosen;  /* [n] this layer's: the number of the step whose ids are there, in the decode kernels */
    uint32_t n_expert, used;
    float expert_scale, eps;
};

/* Entries (token, expert) sorted by expert, those of each expert from a multiple of eight on. */
struct cuda_groups {
    uint32_t *start;            /* [n_expert + 1] multiples of eight */
    uint32_t *entry_token;      /* [n * used + 8 * n_expert] CUDA_NONE: a place left free */
    uint32_t *entry_of;         /* [n * used] place of token t's k-th expert among the entries */
    uint32_t *tiles;            /* [n_tiles_max][3] expert, first entry, entries; then CUDA_NONE */
    uint32_t n_tiles_max, tile; /* most entries of a tile */
    float *sums;                /* [n][n_expert] router's products before the norm's scale */
    float *scale;               /* [n] of the norm */
};

/* repack.cu: rows of `type` as in a file, at src, become rows [row0, row0 + n) of dst. */
cudaError_t cuda_repack(const struct cuda_mat *dst, const uint8_t *src, uint64_t row0, uint64_t n, cudaStream_t stream);

/* embed.cu: h[n][n_cols] = the tokens' rows of embd, exactly as the format defines them; rates [dim / 2]: NULL, or
 * cos_sin[n][dim] = cosines and then sines of their positions times these. */
cudaError_t cuda_start_tokens(const struct cuda_mat *embd, const struct cuda_step *step, const double *rates,
                              uint32_t dim, float *h, float *cos_sin, cudaStream_t stream);

/* layer.cu */
cudaError_t cuda_rewind(float *state, const float *column, uint32_t n_layers, size_t state_stride, size_t column_stride,
                        size_t n, cudaStream_t stream);
/* Sum over layers of distinct experts in ids [n_layers][stride]; only the first n * used of each. */
cudaError_t cuda_count_experts(const uint32_t *ids, uint32_t n_layers, size_t stride, uint32_t n, uint32_t n_expert,
                               uint32_t *out, cudaStream_t stream);

/* prompt_layer.cu: what stands between the products of a prompt. Vectors become groups of eight in *out. */
struct cuda_vectors {
    const float *x;    /* [n][stride] */
    size_t stride;     /* floats */
    const float *gain; /* NULL, or those of a norm over the vector */
    float eps;
    const uint32_t *src;          /* NULL, or the vectors' places in x; CUDA_NONE: none */
    const uint32_t *n_used;       /* NULL, or how many of the n there are, on the device */
    const float *up;              /* NULL, or [n][stride]: silu(x) * up is quantised */
    const struct cuda_conv *conv; /* NULL, or x are B, C, x and C * conv(B * x) is quantised */
    const struct cuda_step *step; /* of conv */
    uint32_t n, n_cols;
};
cudaError_t cuda_quantize(const struct cuda_vectors *q, const struct cuda_acts *out, cudaStream_t stream);
/* The convolution's state moves on. */
cudaError_t cuda_conv_state(const struct cuda_step *step, const struct cuda_conv *conv, const float *bcx,
                            cudaStream_t stream);
/* Experts of all tokens: ids, gains and *g. */
cudaError_t cuda_routing(const struct cuda_route *r, const float *h, uint32_t n, uint32_t d,
                         const struct cuda_groups *g, cudaStream_t stream);
/* h[t] = fma(gain, y[entry], h[t]) in ascending order of experts */
cudaError_t cuda_add_experts(const struct cuda_route *r, const struct cuda_groups *g, const float *y, float *h,
                             uint32_t n, uint32_t d, cudaStream_t stream);

/* prompt_matmul.cu, prompt_wide.cu: y[i][row] = w . x[i]; add: y += . The outputs of several matrices of one type and
 * width follow each other. With tiles, entries of each expert meet its matrix. */
struct cuda_product {
    struct cuda_mat w[3];
    uint32_t n_mats;
    struct cuda_acts x;
    float *y;
    size_t y_stride;
    uint32_t n, tile;      /* vectors; most of one tile, a multiple of eight */
    const uint32_t *tiles; /* of cuda_groups, or NULL */
    uint32_t n_tiles_max;
    bool add;
};
cudaError_t cuda_matmul(const struct cuda_product *p, cudaStream_t stream);
/* The tile for products of n vectors in n_lists lists of about the same length. */
uint32_t cuda_tile(uint32_t type, uint32_t n, uint32_t n_lists);
/* prompt_wide.cu: large tiles on wgmma, for devices that have it. */
bool cuda_has_wide(void);
cudaError_t cuda_wide_setup(void);
cudaError_t cuda_matmul_wide(const struct cuda_product *p, cudaStream_t stream);

/* prompt_attention.cu: as cuda_attend without fused, for heads of 64; many tokens of a sequence at a time. */
bool cuda_attend_prompt_fits(const struct cuda_attn *a);
cudaError_t cuda_attend_prompt(const struct cuda_step *step, const struct cuda_attn *a, uint32_t first, uint32_t n,
                               cudaStream_t stream);
cudaError_t cuda_attend_prompt_setup(int shared_max);

/* attention.cu */
cudaError_t cuda_store_kv(const struct cuda_step *step, const struct cuda_attn *a, cudaStream_t stream);
/* Tokens [first, first + n) of the step; q, k, v are normed, rotated and stored unless `fused`. */
cudaError_t cuda_attend(const struct cuda_step *step, const struct cuda_attn *a, uint32_t first, uint32_t n, bool fused,
                        cudaStream_t stream);
/* a->part of these tokens to a->out. */
cudaError_t cuda_join_splits(const struct cuda_step *step, const struct cuda_attn *a, uint32_t first, uint32_t n,
                             cudaStream_t stream);

/* decode.cu: one row of one token, K-quant weights. Each launch may begin before the one before it has ended (programmatic
 * dependent launch) and fetches weights meanwhile. */
cudaError_t cuda_decode_in_proj(const struct cuda_step *step, const struct cuda_mat *w, const float *h,
                                const float *gain, float eps, const struct cuda_conv *conv, float *y,
                                cudaStream_t stream);
cudaError_t cuda_decode_qkv(const struct cuda_step *step, const struct cuda_mat w[3], const float *h, const float *gain,
                            float eps, float *qkv, cudaStream_t stream);
/* h += w . x; with r: also the router's partial sums of the new h */
cudaError_t cuda_decode_out(const struct cuda_step *step, const struct cuda_mat *w, const float *x, float *h,
                            const struct cuda_route *r, cudaStream_t stream);
/* hidden[n][used][n_rows]; r NULL: dense */
cudaError_t cuda_decode_gate_up(const struct cuda_step *step, const struct cuda_mat *gate, const struct cuda_mat *up,
                                const float *h, const float *gain, float eps, const struct cuda_route *r, float *hidden,
                                uint32_t n_sm, cudaStream_t stream);
cudaError_t cuda_decode_down(const struct cuda_step *step, const struct cuda_mat *down, const float *hidden, float *h,
                             const struct cuda_route *r, cudaStream_t stream);
cudaError_t cuda_decode_head(const struct cuda_step *step, const struct cuda_mat *w, const float *h, const float *gain,
                             float eps, float *logits, uint32_t n_sm, cudaStream_t stream);
cudaError_t cuda_decode_setup(int shared_max); /* raises the kernels' limits of shared memory, once */

/* rows.cu, rows_large.cu: the same for two to CUDA_DECODE_ROWS rows, each weight read once. records: quantised vectors,
 * CUDA_RECORD bytes per 256 values. */
enum cuda_rows_phase {
    CUDA_ROWS_IN_PROJ,
    CUDA_ROWS_QKV,
    CUDA_ROWS_OUT,
    CUDA_ROWS_GATE_UP,
    CUDA_ROWS_DOWN,
    CUDA_ROWS_HEAD
};
cudaError_t cuda_rows_setup(int shared_max); /* once, before all others */
/* Whether n rows and w fit in shared memory. each: experts of a row (down), experts (out), or 0. */
bool cuda_rows_fit(enum cuda_rows_phase phase, const struct cuda_mat *w, uint32_t n, uint32_t each);
/* rows_large.cu: these two for its phases, which are from CUDA_ROWS_GATE_UP on */
cudaError_t cuda_rows_large_setup(int shared_max);
bool cuda_rows_large_fit(enum cuda_rows_phase phase, const struct cuda_mat *w, uint32_t n, uint32_t each);
cudaError_t cuda_rows_in_proj(const struct cuda_step *step, const struct cuda_mat *w, const float *h, const float *gain,
                              float eps, const struct cuda_conv *conv, float *y, cudaStream_t stream);
cudaError_t cuda_rows_qkv(const struct cuda_step *step, const struct cuda_mat w[3], const float *h, const float *gain,
                          float eps, float *qkv, cudaStream_t stream);
cudaError_t cuda_rows_out(const struct cuda_step *step, const struct cuda_mat *w, const float *x, float *h,
                          const struct cuda_route *r, cudaStream_t stream);
/* records[n][d / 256] of h under the norm; with r: its experts */
cudaError_t cuda_rows_route(const struct cuda_step *step, const float *h, const float *gain, float eps, uint32_t d,
                            const struct cuda_route *r, uint8_t *records, cudaStream_t stream);
cudaError_t cuda_rows_gate_up(const struct cuda_step *step, const struct cuda_mat *gate, const struct cuda_mat *up,
                              const uint8_t *records, const struct cuda_route *r, float *hidden, uint32_t n_sm,
                              cudaStream_t stream);
/* records[n][n_cols / 256] of x[n][n_cols] */
cudaError_t cuda_rows_quantize(const float *x, uint32_t n, uint32_t n_cols, uint8_t *records, cudaStream_t stream);
cudaError_t cuda_rows_down(const struct cuda_step *step, const struct cuda_mat *down, const uint8_t *records, float *h,
                           const struct cuda_route *r, cudaStream_t stream);
cudaError_t cuda_rows_head(const struct cuda_step *step, const struct cuda_mat *w, const float *h, const float *gain,
                           float eps, float *logits, uint32_t n_sm, cudaStream_t stream);

cudaError_t cuda_attend_setup(void);

/* token.cu: one token of one row in one kernel, whose blocks, one per 16 channels, must all be resident. */
struct cuda_token_layer {
    struct cuda_mat first[3], out, gate, up, down; /* first: in_proj thrice, for B, C and x; or q, k, v */
    uint32_t first_row[3], first_rows[3];          /* where block 0 begins, and how many rows a block has */
    const float *attn_norm, *ffn_norm, *q_norm, *k_norm, *router, *bias;
    const float *guess; /* NULL, or cuda_guess_table of out and router [n_expert][d] */
    struct cuda_conv conv;
    uint16_t *keys, *values;
    uint32_t n_head_kv;
    uint32_t is_attention, is_moe;
    uint32_t n_routed; /* MoE layers before it */
};

struct cuda_token_job {
    const struct cuda_token_layer *layers; /* [n_layer], on the device */
    struct cuda_step step;
    struct cuda_mat embedding, output;
    const float *output_norm;
    const double *rates; /* of the angles [32] */
    float *logits;
    float *exchange; /* [2][cuda_token_exchange] floats: tokens use them in turns */
    uint32_t *turn;  /* whose is next; only this kernel changes it */
    float *part;     /* parts of attention, as in cuda_attn with n_splits of the token */
    float *ratios;   /* [n_layer] of the FFN norm's scale to the operator's, last time: for guesses */
    size_t page_stride;
    uint32_t n_layer, d, n_blocks, n_head, window, n_expert, used;
    float eps, attn_scale, expert_scale;
    /* by cuda_token_fit: floats of a layer's exchange, and of its parts; bytes and numbers of slots, rows of a tile */
    uint32_t n_qkv, n_hidden, layer_floats;
    uint32_t known_slot, slot, n_slots, scratch, terms, shared, head_rows, dense_rows;
};

/* token_guess.cu: table[e][c] = sum over r of router[e][r] * gain[r] * out[r][c]: what channel c of an operator's output adds to the
 * logit of expert e. Only to guess the choice of experts: a wrong guess costs time, never bits. */
cudaError_t cuda_guess_table(const struct cuda_mat *out, const float *router, const float *gain, uint32_t n_expert,
                             float *table, cudaStream_t stream);
/* Lays out shared memory for layers (on the host); false if the model does not suit the kernel. */
bool cuda_token_fit(struct cuda_token_job *job, const struct cuda_token_layer *layers, int shared_max);
size_t cuda_token_exchange(const struct cuda_token_job *job);
/* Reads the token's id from job->step and leaves logits; its K, V and conv state as the other kernels do. */
cudaError_t cuda_decode_token(const struct cuda_token_job *job, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
