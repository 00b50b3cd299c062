#include "quant/mix.h"

#include "base/limits.h"

#include <string.h>
#include <strings.h>

static const struct mix mixes[] = {
    {"F32", DTYPE_F32, 0, false},     {"F16", DTYPE_F16, 1, false},    {"BF16", DTYPE_BF16, 32, false},
    {"Q4_0", DTYPE_Q4_0, 2, false},   {"Q8_0", DTYPE_Q8_0, 7, false},  {"Q4_K_M", DTYPE_Q4_K, 15, true},
    {"Q5_K_M", DTYPE_Q5_K, 17, true}, {"Q6_K", DTYPE_Q6_K, 18, false},
};

enum { N_MIXES = sizeof mixes / sizeof mixes[0] };

const struct mix *mix_by_name(const char *name) {
    for (int i = 0; i < N_MIXES; i++) {
        if (strcasecmp(mixes[i].name, name) == 0) {
            return &mixes[i];
        }
    }
    return NULL;
}

const struct mix *mix_by_file_type(uint32_t file_type) {
    for (int i = 0; i < N_MIXES; i++) {
        if (mixes[i].file_type == file_type) {
            return &mixes[i];
        }
    }
    return NULL;
}

int mix_layer(const char *name, size_t len) {
    if (len < 6 || memcmp(name, "blk.", 4) != 0) {
        return -1;
    }
    int layer = 0;
    size_t i = 4;
    for (; i < len && name[i] >= '0' && name[i] <= '9'; i++) {
        layer = layer * 10 + (name[i] - '0');
        if (layer > (int)LIMIT_GGUF_TENSORS) {
            return -1;
        }
    }
    return i > 4 && i < len && name[i] == '.' ? layer : -1;
}

static bool contains(const struct mix_tensor *t, const char *part) {
    return memmem(t->name, t->name_len, part, strlen(part)) != NULL;
}

static bool equals(const struct mix_tensor *t, const char *name) {
    return t->name_len == strlen(name) && memcmp(t->name, name, t->name_len) == 0;
}

/* Small or sensitive tensors are never quantised: vectors, norms, convolution taps, the router and its bias. */
static bool stays_f32(const struct mix_tensor *t) {
    static const char suffix[] = ".weight";
    size_t n = sizeof suffix - 1;
    bool weight = t->name_len >= n && memcmp(t->name + t->name_len - n, suffix, n) == 0;
    return t->n_dims < 2 || !weight || contains(t, "_norm.weight") || contains(t, "shortconv.conv.weight") ||
           contains(t, "ffn_gate_inp.weight");
}

/* The first and last eighth of n and every third between get more bits. */
static bool use_more_bits(uint32_t i, uint32_t n) {
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static uint32_t attention_before(const struct mix_model *m, uint32_t layer) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < layer && i < m->n_layer; i++) {
        count += m->has_attn_v[i];
    }
    return count;
}

static bool more_bits(const struct mix_model *m, const struct mix_tensor *t) {
    int layer = mix_layer(t->name, t->name_len);
    if (layer < 0) {
        return false;
    }
    if (contains(t, "attn_v.weight")) {
        return use_more_bits(attention_before(m, (uint32_t)layer), m->n_attn);
    }
    return contains(t, "ffn_down") && use_more_bits((uint32_t)layer, m->n_layer);
}

static bool fits(enum dtype type, uint64_t row_elems) {
    return row_elems % dtype_get(type)->block_elems == 0;
}

enum dtype mix_choose(const struct mix *mix, const struct mix_model *m, const struct mix_tensor *t, bool *fallback) {
    *fallback = false;
    if (stays_f32(t)) {
        return DTYPE_F32;
    }
    enum dtype type = mix->base;
    bool quantized = dtype_get(type)->block_elems > 1;
    bool head = equals(t, "output.weight") || (!m->has_output && equals(t, "token_embd.weight"));
    if (quantized && type != DTYPE_Q8_0 && (head || (mix->more_bits && more_bits(m, t)))) {
        type = DTYPE_Q6_K;
    }
    if (fits(type, t->row_elems)) {
        return type;
    }
    *fallback = true;
    return fits(DTYPE_Q8_0, t->row_elems) ? DTYPE_Q8_0 : DTYPE_F16;
}
