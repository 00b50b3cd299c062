#include "model/presets.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define L(i) (1ull << (i))

static const struct preset presets[] = {
    {.name = "350m",
     .title = "LFM2-350M",
     .size_label = "350M",
     .n_vocab = 65536,
     .n_ctx = 128000,
     .n_layer = 16,
     .n_embd = 1024,
     .n_head = 16,
     .n_head_kv = 8,
     .n_ff = 4608,
     .attention = L(2) | L(5) | L(8) | L(10) | L(12) | L(14)},
    {.name = "700m",
     .title = "LFM2-700M",
     .size_label = "700M",
     .n_vocab = 65536,
     .n_ctx = 128000,
     .n_layer = 16,
     .n_embd = 1536,
     .n_head = 24,
     .n_head_kv = 8,
     .n_ff = 6912,
     .attention = L(2) | L(5) | L(8) | L(10) | L(12) | L(14)},
    {.name = "1.2b",
     .title = "LFM2-1.2B",
     .size_label = "1.2B",
     .n_vocab = 65536,
     .n_ctx = 128000,
     .n_layer = 16,
     .n_embd = 2048,
     .n_head = 32,
     .n_head_kv = 8,
     .n_ff = 8192,
     .attention = L(2) | L(5) | L(8) | L(10) | L(12) | L(14)},
    {.name = "2.6b",
     .title = "LFM2-2.6B",
     .size_label = "2.6B",
     .n_vocab = 65536,
     .n_ctx = 128000,
     .n_layer = 30,
     .n_embd = 2048,
     .n_head = 32,
     .n_head_kv = 8,
     .n_ff = 10752,
     .attention = L(2) | L(5) | L(9) | L(13) | L(17) | L(21) | L(24) | L(27)},
    {.name = "8b-a1b",
     .title = "LFM2-8B-A1B",
     .size_label = "8B-A1B",
     .moe = true,
     .n_vocab = 65536,
     .n_ctx = 128000,
     .n_layer = 24,
     .n_embd = 2048,
     .n_head = 32,
     .n_head_kv = 8,
     .n_ff = 7168,
     .n_expert = 32,
     .n_expert_used = 4,
     .n_ff_exp = 1792,
     .n_dense = 2,
     .attention = L(2) | L(6) | L(10) | L(14) | L(18) | L(21)},
    {.name = "24b-a2b",
     .title = "LFM2-24B-A2B",
     .size_label = "24B-A2B",
     .moe = true,
     .n_vocab = 65536,
     .n_ctx = 128000,
     .n_layer = 40,
     .n_embd = 2048,
     .n_head = 32,
     .n_head_kv = 8,
     .n_ff = 11776,
     .n_expert = 64,
     .n_expert_used = 4,
     .n_ff_exp = 1536,
     .n_dense = 2,
     .attention = L(2) | L(6) | L(10) | L(14) | L(18) | L(22) | L(26) | L(30) | L(34) | L(38)},
    {.name = "tiny-moe",
     .title = "LFM2 tiny MoE",
     .size_label = "tiny",
     .moe = true,
     .n_vocab = 2048,
     .n_ctx = 4096,
     .n_layer = 6,
     .n_embd = 256,
     .n_head = 4,
     .n_head_kv = 2,
     .n_ff = 512,
     .n_expert = 4,
     .n_expert_used = 2,
     .n_ff_exp = 256,
     .n_dense = 2,
     .attention = L(2) | L(4)},
    {.name = "tiny-dense",
     .title = "LFM2 tiny dense",
     .size_label = "tiny",
     .n_vocab = 2048,
     .n_ctx = 4096,
     .n_layer = 4,
     .n_embd = 256,
     .n_head = 4,
     .n_head_kv = 1,
     .n_ff = 512,
     .attention = L(2)},
};

const struct preset *preset_at(size_t i) {
    return i < sizeof presets / sizeof presets[0] ? &presets[i] : NULL;
}

const struct preset *preset_by_name(const char *name) {
    for (size_t i = 0; preset_at(i); i++) {
        if (strcasecmp(presets[i].name, name) == 0) {
            return &presets[i];
        }
    }
    return NULL;
}

/* A layer is an operator (convolution or attention) and a feed-forward part, each a table of its tensors. Dimensions
 * are named by letters: E n_embd, 3 taps, B 3*n_embd, Q n_head*64, K n_head_kv*64, H 64, F n_ff, X n_ff_exp, N n_expert. */
struct row {
    const char *name, *dims;
    enum preset_role role;
};

static const struct row conv_rows[] = {
    {"shortconv.conv.weight", "3E", ROLE_CONV},
    {"shortconv.in_proj.weight", "EB", ROLE_MATRIX},
    {"shortconv.out_proj.weight", "EE", ROLE_MATRIX},
};
static const struct row attention_rows[] = {
    {"attn_k.weight", "EK", ROLE_MATRIX}, {"attn_k_norm.weight", "H", ROLE_NORM},
    {"attn_norm.weight", "E", ROLE_NORM}, {"attn_output.weight", "QE", ROLE_MATRIX},
    {"attn_q.weight", "EQ", ROLE_MATRIX}, {"attn_q_norm.weight", "H", ROLE_NORM},
    {"attn_v.weight", "EK", ROLE_MATRIX},
};
static const struct row conv_norm_rows[] = {
    {"attn_norm.weight", "E", ROLE_NORM},
};
static const struct row dense_rows[] = {
    {"ffn_down.weight", "FE", ROLE_MATRIX},
    {"ffn_gate.weight", "EF", ROLE_MATRIX},
    {"ffn_norm.weight", "E", ROLE_NORM},
    {"ffn_up.weight", "EF", ROLE_MATRIX},
};
static const struct row moe_rows[] = {
    {"exp_probs_b.bias", "N", ROLE_EXPERT_BIAS},  {"ffn_down_exps.weight", "XEN", ROLE_MATRIX},
    {"ffn_gate_exps.weight", "EXN", ROLE_MATRIX}, {"ffn_gate_inp.weight", "EN", ROLE_MATRIX},
    {"ffn_norm.weight", "E", ROLE_NORM},          {"ffn_up_exps.weight", "EXN", ROLE_MATRIX},
};

struct part {
    const struct row *rows;
    size_t n;
};

#define PART(table) ((struct part){table, sizeof(table) / sizeof(table)[0]})

/* The parts of a layer in the order of names: attn_*, exp_* and ffn_*, shortconv_*. */
static void layer_parts(const struct preset *p, uint32_t layer, struct part out[3]) {
    bool attention = preset_is_attention(p, layer);
    out[0] = attention ? PART(attention_rows) : PART(conv_norm_rows);
    out[1] = p->moe && layer >= p->n_dense ? PART(moe_rows) : PART(dense_rows);
    out[2] = attention ? (struct part){NULL, 0} : PART(conv_rows);
}

static uint64_t dimension(const struct preset *p, char letter) {
    switch (letter) {
    case 'E':
        return p->n_embd;
    case 'B':
        return 3ull * p->n_embd;
    case 'Q':
        return (uint64_t)p->n_head * PRESET_HEAD_DIM;
    case 'K':
        return (uint64_t)p->n_head_kv * PRESET_HEAD_DIM;
    case 'H':
        return PRESET_HEAD_DIM;
    case 'F':
        return p->n_ff;
    case 'X':
        return p->n_ff_exp;
    case 'N':
        return p->n_expert;
    default:
        return 3;
    }
}

size_t preset_n_tensors(const struct preset *p) {
    size_t n = 2;
    for (uint32_t layer = 0; layer < p->n_layer; layer++) {
        struct part parts[3];
        layer_parts(p, layer, parts);
        n += parts[0].n + parts[1].n + parts[2].n;
    }
    return n;
}

static void describe(const struct preset *p, uint32_t layer, const struct row *row, struct preset_tensor *out) {
    *out = (struct preset_tensor){.dims = {1, 1, 1}, .role = row->role};
    snprintf(out->name, sizeof out->name, "blk.%u.%s", layer, row->name);
    for (const char *d = row->dims; *d; d++) {
        out->dims[out->n_dims++] = dimension(p, *d);
    }
}

void preset_tensor(const struct preset *p, size_t i, struct preset_tensor *out) {
    if (i == 0) {
        *out = (struct preset_tensor){"token_embd.weight", 2, {p->n_embd, p->n_vocab, 1}, ROLE_MATRIX};
        return;
    }
    *out = (struct preset_tensor){"token_embd_norm.weight", 1, {p->n_embd, 1, 1}, ROLE_FINAL_NORM};
    i = i == 1 ? SIZE_MAX : i - 2;
    for (uint32_t layer = 0; layer < p->n_layer && i != SIZE_MAX; layer++) {
        struct part parts[3];
        layer_parts(p, layer, parts);
        for (int k = 0; k < 3; k++) {
            if (i < parts[k].n) {
                describe(p, layer, &parts[k].rows[i], out);
                return;
            }
            i -= parts[k].n;
        }
    }
}
