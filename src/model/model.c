#include "model/model.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "quant/quant.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Norms, convolution taps and expert biases are copied out as F32: they are small, and the copies are aligned. */
struct owned_block {
    struct owned_block *next;
    float data[];
};

struct binder {
    struct model *m;
    const struct gguf_file *file;
    bool *bound; /* [n_tensors] which tensors of the file found their place */
    sluice_error *err;
};

static const char *const known_architectures = "lfm2, lfm2moe";

static const struct gguf_tensor *find(struct binder *b, const char *name) {
    const struct gguf_tensor *t = gguf_find_tensor(b->file, name);
    if (t) {
        b->bound[t - b->file->tensors] = true;
    }
    return t;
}

static sluice_status missing(struct binder *b, const char *name) {
    return fail(b->err, SLUICE_E_FORMAT, "%s: tensor %s is missing, which a model of architecture %s needs",
                b->file->path, name, b->m->architecture);
}

static sluice_status keep_name(struct binder *b, const char *name, const char **out) {
    struct owned_block *block = mem_alloc(sizeof *block + strlen(name) + 1);
    if (!block) {
        return fail(b->err, SLUICE_E_NOMEM, "%s: no memory for the model's tables", b->file->path);
    }
    block->next = b->m->owned;
    b->m->owned = block;
    memcpy(block->data, name, strlen(name) + 1);
    *out = (const char *)block->data;
    return SLUICE_OK;
}

/* A small tensor as an owned F32 array of exactly n elements. */
static sluice_status bind_floats(struct binder *b, const char *name, uint64_t n, bool optional, const float **out) {
    const struct gguf_tensor *t = find(b, name);
    if (!t) {
        return optional ? SLUICE_OK : missing(b, name);
    }
    if (t->n_elems != n) {
        return fail(b->err, SLUICE_E_FORMAT, "%s: tensor %s has %" PRIu64 " elements, expected %" PRIu64, b->file->path,
                    name, t->n_elems, n);
    }
    struct owned_block *block = mem_alloc(sizeof *block + n * sizeof(float));
    if (!block) {
        return fail(b->err, SLUICE_E_NOMEM, "%s: no memory for tensor %s (%" PRIu64 " bytes)", b->file->path, name,
                    n * 4);
    }
    block->next = b->m->owned;
    b->m->owned = block;
    dequantize_row(t->type, t->data, block->data, (int64_t)n);
    *out = block->data;
    return SLUICE_OK;
}

/* A matrix; want_* of 0 means "whatever the file has" and is then read from w. */
static sluice_status bind_weight(struct binder *b, const char *name, uint64_t want_cols, uint64_t want_rows,
                                 uint64_t want_mat, struct weight *w) {
    const struct gguf_tensor *t = find(b, name);
    if (!t) {
        return missing(b, name);
    }
    uint64_t cols = t->dims[0];
    uint64_t rows = t->dims[1];
    uint64_t mats = t->dims[2];
    if (cols > UINT32_MAX || rows > UINT32_MAX || mats > UINT32_MAX || t->dims[3] != 1 ||
        (want_cols && cols != want_cols) || (want_rows && rows != want_rows) || (want_mat && mats != want_mat)) {
        return fail(b->err, SLUICE_E_FORMAT,
                    "%s: tensor %s has shape {%" PRIu64 ", %" PRIu64 ", %" PRIu64 "}, expected {%" PRIu64 ", %" PRIu64
                    ", %" PRIu64 "} (0 = any)",
                    b->file->path, name, cols, rows, mats, want_cols, want_rows, want_mat);
    }
    const struct dtype_info *info = dtype_get(t->type);
    *w = (struct weight){.data = t->data,
                         .type = t->type,
                         .n_cols = (uint32_t)cols,
                         .n_rows = (uint32_t)rows,
                         .n_mat = (uint32_t)mats,
                         .row_bytes = dtype_row_bytes(info, cols)};
    w->mat_bytes = w->row_bytes * rows;
    return keep_name(b, name, &w->name);
}

/* Rows [first, first + n) of w as a matrix of their own. */
static struct weight slice_rows(const struct weight *w, uint32_t first, uint32_t n) {
    struct weight s = *w;
    s.data += (size_t)first * w->row_bytes;
    s.n_rows = n;
    s.mat_bytes = s.row_bytes * n;
    return s;
}

static const char *layer_name(char out[96], uint32_t layer, const char *suffix) {
    snprintf(out, 96, "blk.%u.%s", layer, suffix);
    return out;
}

static bool has(struct binder *b, uint32_t layer, const char *suffix) {
    char name[96];
    return gguf_find_tensor(b->file, layer_name(name, layer, suffix)) != NULL;
}

static sluice_status check_heads(struct binder *b, const char *name, uint32_t rows, uint32_t *n_heads) {
    uint32_t dim = b->m->head_dim;
    if (rows == 0 || rows % dim) {
        return fail(b->err, SLUICE_E_FORMAT, "%s: tensor %s has %u rows, not a multiple of the head size %u",
                    b->file->path, name, rows, dim);
    }
    *n_heads = rows / dim;
    return SLUICE_OK;
}

/* The fused form: rows of q, k and v in one matrix. Only metadata can tell q from k there. */
static sluice_status bind_fused_qkv(struct binder *b, uint32_t i, struct model_layer *l) {
    struct model *m = b->m;
    char name[96];
    char key[64];
    struct weight qkv;
    TRY(bind_weight(b, layer_name(name, i, "attn_qkv.weight"), m->n_embd, 0, 1, &qkv));
    uint32_t n_head = 0;
    snprintf(key, sizeof key, "%s.attention.head_count", m->architecture);
    TRY(gguf_get_u32(b->file, key, &n_head, b->err));
    uint64_t q_rows = (uint64_t)n_head * m->head_dim;
    if (q_rows >= qkv.n_rows || (qkv.n_rows - q_rows) % 2) {
        return fail(b->err, SLUICE_E_FORMAT,
                    "%s: tensor %s has %u rows, too few for %u heads of %u and their keys and values", b->file->path,
                    name, qkv.n_rows, n_head, m->head_dim);
    }
    uint32_t kv_rows = (uint32_t)(qkv.n_rows - q_rows) / 2;
    l->wq = slice_rows(&qkv, 0, (uint32_t)q_rows);
    l->wk = slice_rows(&qkv, (uint32_t)q_rows, kv_rows);
    l->wv = slice_rows(&qkv, (uint32_t)q_rows + kv_rows, kv_rows);
    return SLUICE_OK;
}

static sluice_status bind_attention(struct binder *b, uint32_t i, struct model_layer *l) {
    struct model *m = b->m;
    char name[96];
    const struct gguf_tensor *norm = gguf_find_tensor(b->file, layer_name(name, i, "attn_q_norm.weight"));
    if (!norm) {
        return missing(b, name);
    }
    if (m->head_dim == 0) { /* the first attention layer decides the head size for all */
        if (norm->n_elems < 2 || norm->n_elems > 256 || norm->n_elems % 16) {
            return fail(b->err, SLUICE_E_UNSUPPORTED,
                        "%s: head size %" PRIu64 " (tensor %s) is not a multiple of 16 up to 256", b->file->path,
                        norm->n_elems, name);
        }
        m->head_dim = (uint32_t)norm->n_elems;
    }
    TRY(bind_floats(b, name, m->head_dim, false, &l->q_norm));
    TRY(bind_floats(b, layer_name(name, i, "attn_k_norm.weight"), m->head_dim, false, &l->k_norm));
    if (has(b, i, "attn_qkv.weight")) {
        TRY(bind_fused_qkv(b, i, l));
    } else {
        TRY(bind_weight(b, layer_name(name, i, "attn_q.weight"), m->n_embd, 0, 1, &l->wq));
        TRY(bind_weight(b, layer_name(name, i, "attn_k.weight"), m->n_embd, 0, 1, &l->wk));
        TRY(bind_weight(b, layer_name(name, i, "attn_v.weight"), m->n_embd, l->wk.n_rows, 1, &l->wv));
    }
    uint32_t n_head = 0;
    TRY(check_heads(b, l->wq.name, l->wq.n_rows, &n_head));
    TRY(check_heads(b, l->wk.name, l->wk.n_rows, &l->n_head_kv));
    if (m->n_head == 0) {
        m->n_head = n_head;
    }
    if (n_head != m->n_head || n_head % l->n_head_kv) {
        return fail(b->err, SLUICE_E_FORMAT, "%s: layer %u has %u query and %u key heads; the model has %u query heads",
                    b->file->path, i, n_head, l->n_head_kv, m->n_head);
    }
    TRY(bind_weight(b, layer_name(name, i, "attn_output.weight"), l->wq.n_rows, m->n_embd, 1, &l->wo));
    l->is_attention = true;
    l->kv_index = m->n_attn_layers++;
    if (l->n_head_kv > m->n_head_kv_max) {
        m->n_head_kv_max = l->n_head_kv;
    }
    return SLUICE_OK;
}

static sluice_status bind_conv(struct binder *b, uint32_t i, struct model_layer *l) {
    struct model *m = b->m;
    char name[96];
    TRY(bind_weight(b, layer_name(name, i, "shortconv.in_proj.weight"), m->n_embd, 3ull * m->n_embd, 1, &l->in_proj));
    TRY(bind_weight(b, layer_name(name, i, "shortconv.out_proj.weight"), m->n_embd, m->n_embd, 1, &l->out_proj));
    TRY(bind_floats(b, layer_name(name, i, "shortconv.conv.weight"), (uint64_t)m->conv_taps * m->n_embd, false,
                    &l->conv));
    l->conv_index = m->n_conv_layers++;
    return SLUICE_OK;
}

static sluice_status bind_feed_forward(struct binder *b, uint32_t i, struct model_layer *l) {
    struct model *m = b->m;
    char name[96];
    l->is_moe = has(b, i, "ffn_gate_inp.weight");
    if (!l->is_moe) {
        TRY(bind_weight(b, layer_name(name, i, "ffn_gate.weight"), m->n_embd, 0, 1, &l->gate));
        TRY(bind_weight(b, layer_name(name, i, "ffn_up.weight"), m->n_embd, l->gate.n_rows, 1, &l->up));
        TRY(bind_weight(b, layer_name(name, i, "ffn_down.weight"), l->gate.n_rows, m->n_embd, 1, &l->down));
        m->n_ff = l->gate.n_rows > m->n_ff ? l->gate.n_rows : m->n_ff;
        return SLUICE_OK;
    }
    if (m->n_expert == 0) {
        return fail(b->err, SLUICE_E_FORMAT, "%s: layer %u has experts, but architecture %s has none", b->file->path, i,
                    m->architecture);
    }
    TRY(bind_weight(b, layer_name(name, i, "ffn_gate_inp.weight"), m->n_embd, m->n_expert, 1, &l->router));
    TRY(bind_floats(b, layer_name(name, i, "exp_probs_b.bias"), m->n_expert, true, &l->expert_bias));
    TRY(bind_weight(b, layer_name(name, i, "ffn_gate_exps.weight"), m->n_embd, 0, m->n_expert, &l->gate));
    TRY(bind_weight(b, layer_name(name, i, "ffn_up_exps.weight"), m->n_embd, l->gate.n_rows, m->n_expert, &l->up));
    TRY(bind_weight(b, layer_name(name, i, "ffn_down_exps.weight"), l->gate.n_rows, m->n_embd, m->n_expert, &l->down));
    m->n_ff_exp = l->gate.n_rows > m->n_ff_exp ? l->gate.n_rows : m->n_ff_exp;
    return SLUICE_OK;
}

static sluice_status bind_layer(struct binder *b, uint32_t i) {
    struct model *m = b->m;
    struct model_layer *l = &m->layers[i];
    char name[96];
    TRY(bind_floats(b, layer_name(name, i, "attn_norm.weight"), m->n_embd, false, &l->attn_norm));
    TRY(bind_floats(b, layer_name(name, i, "ffn_norm.weight"), m->n_embd, false, &l->ffn_norm));
    /* The tensors say what a layer is; head_count_kv only repeats it (lfm2.md 1.4: shapes over metadata). */
    if (has(b, i, "attn_q.weight") || has(b, i, "attn_qkv.weight")) {
        TRY(bind_attention(b, i, l));
    } else {
        TRY(bind_conv(b, i, l));
    }
    TRY(bind_feed_forward(b, i, l));
    if (!l->is_moe && i == m->n_dense) {
        m->n_dense++;
    }
    return SLUICE_OK;
}

static sluice_status read_architecture(struct binder *b) {
    struct gguf_str arch;
    TRY(gguf_get_str(b->file, "general.architecture", &arch, b->err));
    bool known = (arch.n == 4 && memcmp(arch.s, "lfm2", 4) == 0) || (arch.n == 7 && memcmp(arch.s, "lfm2moe", 7) == 0);
    if (!known) {
        return fail(b->err, SLUICE_E_UNSUPPORTED, "%s: the model's architecture is \"%.*s\"; sluice runs %s",
                    b->file->path, (int)(arch.n > 64 ? 64 : arch.n), arch.s, known_architectures);
    }
    memcpy(b->m->architecture, arch.s, arch.n);
    return SLUICE_OK;
}

static sluice_status in_range(struct binder *b, const char *what, uint64_t v, uint64_t min, uint64_t max) {
    if (v < min || v > max) {
        return fail(b->err, SLUICE_E_LIMIT, "%s: %s is %" PRIu64 ", outside %" PRIu64 "..%" PRIu64, b->file->path, what,
                    v, min, max);
    }
    return SLUICE_OK;
}

static const char *arch_key(struct binder *b, char out[96], const char *suffix) {
    snprintf(out, 96, "%s.%s", b->m->architecture, suffix);
    return out;
}

static sluice_status read_expert_keys(struct binder *b) {
    struct model *m = b->m;
    char key[96];
    TRY(gguf_get_u32(b->file, arch_key(b, key, "expert_count"), &m->n_expert, b->err));
    TRY(in_range(b, key, m->n_expert, 1, LIMIT_EXPERTS));
    TRY(gguf_get_u32(b->file, arch_key(b, key, "expert_used_count"), &m->n_expert_used, b->err));
    TRY(in_range(b, key, m->n_expert_used, 1, m->n_expert));
    uint32_t gating = 2;
    TRY(gguf_opt_u32(b->file, arch_key(b, key, "expert_gating_func"), &gating, b->err));
    if (gating != 2) {
        return fail(b->err, SLUICE_E_UNSUPPORTED, "%s: %s is %u; LFM2 routes by sigmoid (2) and sluice runs only that",
                    b->file->path, key, gating);
    }
    float scale = 1;
    TRY(gguf_opt_f32(b->file, arch_key(b, key, "expert_weights_scale"), &scale, b->err));
    m->expert_scale = scale == 0 ? 1 : scale; /* converters write 0 for "none" */
    bool norm = true;
    TRY(gguf_opt_bool(b->file, arch_key(b, key, "expert_weights_norm"), &norm, b->err));
    if (!norm || !isfinite(m->expert_scale)) {
        return fail(b->err, SLUICE_E_UNSUPPORTED, "%s: expert weights that are %s are not LFM2's", b->file->path,
                    norm ? "scaled by a non-finite number" : "not normalised");
    }
    return SLUICE_OK;
}

static sluice_status read_rope(struct binder *b) {
    struct model *m = b->m;
    char key[96];
    m->rope_theta = 10000;
    TRY(gguf_opt_f32(b->file, arch_key(b, key, "rope.freq_base"), &m->rope_theta, b->err));
    if (!(m->rope_theta > 0) || !isfinite(m->rope_theta)) {
        return fail(b->err, SLUICE_E_FORMAT, "%s: %s is %g, not a positive number", b->file->path, key,
                    (double)m->rope_theta);
    }
    struct gguf_str scaling = {"none", 4};
    TRY(gguf_opt_str(b->file, arch_key(b, key, "rope.scaling.type"), &scaling, b->err));
    if (scaling.n != 4 || memcmp(scaling.s, "none", 4) != 0) {
        return fail(b->err, SLUICE_E_UNSUPPORTED, "%s: %s is \"%.*s\"; LFM2 does not scale its positions",
                    b->file->path, key, (int)(scaling.n > 32 ? 32 : scaling.n), scaling.s);
    }
    return SLUICE_OK;
}

static sluice_status read_hyperparameters(struct binder *b) {
    struct model *m = b->m;
    char key[96];
    TRY(gguf_get_u32(b->file, arch_key(b, key, "block_count"), &m->n_layer, b->err));
    TRY(in_range(b, key, m->n_layer, 1, LIMIT_LAYERS));
    TRY(gguf_get_u32(b->file, arch_key(b, key, "context_length"), &m->n_ctx_train, b->err));
    TRY(in_range(b, key, m->n_ctx_train, 1, LIMIT_CONTEXT));
    TRY(gguf_get_f32(b->file, arch_key(b, key, "attention.layer_norm_rms_epsilon"), &m->norm_eps, b->err));
    if (!(m->norm_eps > 0 && m->norm_eps < 1)) {
        return fail(b->err, SLUICE_E_FORMAT, "%s: %s is %g, outside 0..1", b->file->path, key, (double)m->norm_eps);
    }
    m->conv_taps = 3;
    TRY(gguf_opt_u32(b->file, arch_key(b, key, "shortconv.l_cache"), &m->conv_taps, b->err));
    TRY(in_range(b, key, m->conv_taps, 2, 8));
    TRY(gguf_opt_u32(b->file, arch_key(b, key, "attention.sliding_window"), &m->window, b->err));
    if (m->window >= m->n_ctx_train) {
        m->window = 0;
    }
    TRY(read_rope(b));
    m->expert_scale = 1;
    if (strcmp(m->architecture, "lfm2moe") == 0) {
        TRY(read_expert_keys(b));
    }
    const struct gguf_kv *kv_heads = gguf_find(b->file, arch_key(b, key, "attention.head_count_kv"));
    if (kv_heads && kv_heads->type == GGUF_ARRAY && kv_heads->n != m->n_layer) {
        return fail(b->err, SLUICE_E_FORMAT, "%s: %s has %" PRIu64 " entries for %u layers", b->file->path, key,
                    kv_heads->n, m->n_layer);
    }
    return SLUICE_OK;
}

static sluice_status bind_ends(struct binder *b) {
    struct model *m = b->m;
    TRY(bind_weight(b, "token_embd.weight", 0, 0, 1, &m->tok_embd));
    TRY(in_range(b, "the embedding length (token_embd.weight)", m->tok_embd.n_cols, 16, LIMIT_EMBD));
    TRY(in_range(b, "the vocabulary (token_embd.weight)", m->tok_embd.n_rows, 2, LIMIT_VOCAB));
    m->n_embd = m->tok_embd.n_cols;
    m->n_vocab = m->tok_embd.n_rows;
    if (m->n_embd % 16) {
        return fail(b->err, SLUICE_E_UNSUPPORTED, "%s: embedding length %u is not a multiple of 16", b->file->path,
                    m->n_embd);
    }
    m->output = m->tok_embd;
    m->tied = !gguf_find_tensor(b->file, "output.weight");
    if (!m->tied) {
        TRY(bind_weight(b, "output.weight", m->n_embd, m->n_vocab, 1, &m->output));
    }
    /* Converters name the final norm either way (lfm2.md 2.2). */
    TRY(bind_floats(b, "token_embd_norm.weight", m->n_embd, true, &m->output_norm));
    if (!m->output_norm) {
        TRY(bind_floats(b, "output_norm.weight", m->n_embd, true, &m->output_norm));
    }
    return m->output_norm ? SLUICE_OK : missing(b, "token_embd_norm.weight");
}

/* A tensor without a place would be silently left out of the computation: refuse it. */
static sluice_status check_all_bound(struct binder *b) {
    for (size_t i = 0; i < b->file->n_tensors; i++) {
        if (!b->bound[i]) {
            const struct gguf_str *n = &b->file->tensors[i].name;
            return fail(b->err, SLUICE_E_UNSUPPORTED, "%s: tensor %.*s has no place in an %s language model",
                        b->file->path, (int)n->n, n->s, b->m->architecture);
        }
    }
    return SLUICE_OK;
}

static void count(struct model *m) {
    uint64_t read = m->output.mat_bytes + 4ull * m->n_embd;
    for (size_t i = 0; i < m->file->n_tensors; i++) {
        m->n_params += m->file->tensors[i].n_elems;
    }
    for (uint32_t i = 0; i < m->n_layer; i++) {
        const struct model_layer *l = &m->layers[i];
        uint64_t used = l->is_moe ? m->n_expert_used : 1;
        read += used * (l->gate.mat_bytes + l->up.mat_bytes + l->down.mat_bytes) + l->router.mat_bytes;
        read += l->wq.mat_bytes + l->wk.mat_bytes + l->wv.mat_bytes + l->wo.mat_bytes;
        read += l->in_proj.mat_bytes + l->out_proj.mat_bytes + 8ull * m->n_embd;
        read += l->is_attention ? 8ull * m->head_dim : 4ull * m->conv_taps * m->n_embd;
        read += l->expert_bias ? 4ull * m->n_expert : 0;
    }
    m->decode_bytes = read;
}

static sluice_status bind_all(struct binder *b) {
    struct model *m = b->m;
    TRY(read_architecture(b));
    if (b->file->n_tensors == 0) {
        return fail(b->err, SLUICE_E_FORMAT, "%s: the file holds a vocabulary but no tensors, so it cannot be run",
                    b->file->path);
    }
    TRY(read_hyperparameters(b));
    TRY(bind_ends(b));
    m->layers = mem_calloc(m->n_layer, sizeof *m->layers);
    if (!m->layers) {
        return fail(b->err, SLUICE_E_NOMEM, "%s: no memory for %u layer descriptions", b->file->path, m->n_layer);
    }
    for (uint32_t i = 0; i < m->n_layer; i++) {
        TRY(bind_layer(b, i));
    }
    char key[96];
    uint32_t rope_dims = m->head_dim;
    TRY(gguf_opt_u32(b->file, arch_key(b, key, "rope.dimension_count"), &rope_dims, b->err));
    if (m->head_dim && rope_dims != m->head_dim) {
        return fail(b->err, SLUICE_E_UNSUPPORTED, "%s: %s is %u, but heads are %u wide", b->file->path, key, rope_dims,
                    m->head_dim);
    }
    TRY(check_all_bound(b));
    count(m);
    return SLUICE_OK;
}

sluice_status model_bind(struct gguf_file *file, struct model **out, sluice_error *err) {
    struct model *m = mem_calloc(1, sizeof *m);
    bool *bound = mem_calloc(file->n_tensors, sizeof *bound);
    sluice_status status;
    if (m && bound) {
        m->file = file;
        struct binder b = {.m = m, .file = file, .bound = bound, .err = err};
        status = bind_all(&b);
    } else {
        status = fail(err, SLUICE_E_NOMEM, "%s: no memory for the model's tables", file->path);
    }
    mem_free(bound);
    if (status == SLUICE_OK) {
        *out = m;
    } else if (m) {
        m->file = NULL; /* still the caller's */
        model_free(m);
    }
    return status;
}

sluice_status model_load(const char *path, struct model **out, sluice_error *err) {
    struct gguf_file *file;
    TRY(gguf_open(path, &file, err));
    sluice_status status = model_bind(file, out, err);
    if (status != SLUICE_OK) {
        gguf_close(file);
    }
    return status;
}

void model_free(struct model *m) {
    if (!m) {
        return;
    }
    for (struct owned_block *b = m->owned, *next; b; b = next) {
        next = b->next;
        mem_free(b);
    }
    mem_free(m->layers);
    if (m->file) {
        gguf_close(m->file);
    }
    mem_free(m);
}

uint64_t model_kv_bytes_per_token(const struct model *m) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < m->n_layer; i++) {
        bytes +=
            m->layers[i].is_attention ? 4ull * m->layers[i].n_head_kv * m->head_dim : 0; /* K and V, 2 bytes each */
    }
    return bytes;
}

uint64_t model_conv_state_bytes(const struct model *m) {
    return 4ull * (m->conv_taps - 1) * m->n_embd * m->n_conv_layers;
}

uint64_t model_page_bytes(const struct model *m) {
    return KV_PAGE_TOKENS * model_kv_bytes_per_token(m) + model_conv_state_bytes(m);
}
