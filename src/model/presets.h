/* The published shapes of the LFM2 family (lfm2.md section 1) and two tiny ones for tests. */
#ifndef MODEL_PRESETS_H
#define MODEL_PRESETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct preset {
    const char *name;  /* "8b-a1b" */
    const char *title; /* general.name */
    const char *size_label;
    bool moe;
    uint32_t n_vocab, n_ctx, n_layer, n_embd, n_head, n_head_kv;
    uint32_t n_ff;                                       /* dense feed-forward */
    uint32_t n_expert, n_expert_used, n_ff_exp, n_dense; /* moe only; n_dense layers come first */
    uint64_t attention;                                  /* bit i: layer i is an attention layer */
};

enum preset_role { /* what a tensor is for, as far as its random values depend on it */
                   ROLE_MATRIX,
                   ROLE_NORM,
                   ROLE_FINAL_NORM,
                   ROLE_CONV,
                   ROLE_EXPERT_BIAS,
};

struct preset_tensor {
    char name[48];
    uint32_t n_dims;
    uint64_t dims[3]; /* fastest first; unused = 1 */
    enum preset_role role;
};

#define PRESET_HEAD_DIM 64u
#define PRESET_NAMES    "350m, 700m, 1.2b, 2.6b, 8b-a1b, 24b-a2b, tiny-moe, tiny-dense"

const struct preset *preset_by_name(const char *name); /* letter case ignored; NULL if unknown */
const struct preset *preset_at(size_t i);              /* NULL past the last */

static inline bool preset_is_attention(const struct preset *p, uint32_t layer) {
    return p->attention >> layer & 1;
}

/* Number of tensors, and tensor i in the order of published files: the embedding, the final norm, then layer by layer
 * by name. */
size_t preset_n_tensors(const struct preset *p);
void preset_tensor(const struct preset *p, size_t i, struct preset_tensor *out);

#endif
