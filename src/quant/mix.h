/*
 * Which type each tensor gets in a published quantisation level ("Q4_K_M"). The choice depends on a tensor's name,
 * layer and row length only, never on the order of the tensors in the file (lfm2.md section 3).
 */
#ifndef QUANT_MIX_H
#define QUANT_MIX_H

#include "base/dtype.h"

struct mix {
    const char *name;
    enum dtype base;
    uint32_t file_type; /* general.file_type */
    bool more_bits;     /* some ffn_down and attn_v tensors are Q6_K */
};

#define MIX_NAMES "F32, F16, BF16, Q4_0, Q8_0, Q4_K_M, Q5_K_M, Q6_K"

/* By name, letter case ignored; NULL if unknown. */
const struct mix *mix_by_name(const char *name);
/* By general.file_type; NULL if it is none of ours. */
const struct mix *mix_by_file_type(uint32_t file_type);

struct mix_tensor {
    const char *name; /* need not be NUL-terminated */
    size_t name_len;
    uint64_t row_elems; /* the fastest dimension */
    uint32_t n_dims;    /* trailing dimensions of 1 not counted */
};

struct mix_model { /* what of the whole model the choice depends on */
    uint32_t n_layer;
    uint32_t n_attn;        /* layers with an attn_v */
    const bool *has_attn_v; /* [n_layer] */
    bool has_output;        /* an output.weight beside the embedding */
};

/* The type for one tensor. *fallback is set when the level's own type does not fit the row length. */
enum dtype mix_choose(const struct mix *mix, const struct mix_model *model, const struct mix_tensor *tensor,
                      bool *fallback);
/* The number i of "blk.i.", or -1. */
int mix_layer(const char *name, size_t len);

#endif
