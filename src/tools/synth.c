#include "tools/synth.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/threads.h"
#include "gguf/gguf.h"
#include "quant/quant.h"
#include "tools/synth_parts.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* Every chunk has its own random stream, so the bytes do not depend on who makes it. A batch is what is written at
 * once: big enough to keep all threads busy, small enough to stay in cache until it is written. */
#define CHUNK_ELEMS (1u << 16)
#define BATCH_ELEMS (CHUNK_ELEMS * 64u)

struct job {
    const struct synth_options *options;
    struct synth_result *result;
    struct gguf_writer *writer;
    struct pool *pool;
    struct gauss *gauss;
    uint8_t *batch;
    enum dtype *types; /* [n_tensors] */
    bool *has_attn_v;  /* [n_layer] */
    uint64_t done;     /* weights */
    /* the batch in work */
    size_t tensor;
    float std;
    uint64_t first, n; /* elements */
    atomic_uint next;  /* chunk */
    sluice_error *err;
};

/* ---- Metadata */

static void put_u32(struct job *job, const char *suffix, uint32_t v) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", job->options->preset->moe ? "lfm2moe" : "lfm2", suffix);
    gguf_writer_kv_u32(job->writer, key, v);
}

static void put_f32(struct job *job, const char *suffix, float v) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", job->options->preset->moe ? "lfm2moe" : "lfm2", suffix);
    gguf_writer_kv_f32(job->writer, key, v);
}

static void put_str(struct job *job, const char *key, const char *s) {
    gguf_writer_kv_str(job->writer, key, s, strlen(s));
}

static void put_heads(struct job *job) {
    const struct preset *p = job->options->preset;
    int32_t kv[LIMIT_LAYERS];
    for (uint32_t i = 0; i < p->n_layer; i++) {
        kv[i] = preset_is_attention(p, i) ? (int32_t)p->n_head_kv : 0; /* 0 marks a convolution layer */
    }
    put_u32(job, "attention.head_count", p->n_head);
    gguf_writer_kv_i32_array(job->writer, p->moe ? "lfm2moe.attention.head_count_kv" : "lfm2.attention.head_count_kv",
                             kv, p->n_layer);
}

static void put_model(struct job *job) {
    const struct preset *p = job->options->preset;
    char name[64];
    snprintf(name, sizeof name, "%s (random weights)", p->title);
    put_str(job, "general.architecture", p->moe ? "lfm2moe" : "lfm2");
    put_str(job, "general.type", "model");
    put_str(job, "general.name", name);
    put_str(job, "general.size_label", p->size_label);
    put_u32(job, "block_count", p->n_layer);
    put_u32(job, "context_length", p->n_ctx);
    put_u32(job, "embedding_length", p->n_embd);
    put_u32(job, "feed_forward_length", p->n_ff);
    put_heads(job);
    put_f32(job, "rope.freq_base", 1e6f);
    put_f32(job, "attention.layer_norm_rms_epsilon", 1e-5f);
    if (p->moe) {
        put_u32(job, "expert_count", p->n_expert);
        put_u32(job, "expert_used_count", p->n_expert_used);
        put_u32(job, "expert_feed_forward_length", p->n_ff_exp);
        put_u32(job, "leading_dense_block_count", p->n_dense);
        put_u32(job, "expert_gating_func", 2); /* sigmoid */
    }
    put_u32(job, "vocab_size", p->n_vocab);
    put_u32(job, "shortconv.l_cache", 3);
}

static sluice_status put_tokenizer(struct job *job) {
    struct synth_vocab v;
    TRY(synth_vocab_new(job->options->preset->n_vocab, &v, job->err));
    struct gguf_writer *w = job->writer;
    put_str(job, "tokenizer.ggml.model", "gpt2");
    put_str(job, "tokenizer.ggml.pre", "lfm2");
    gguf_writer_kv_str_array(w, "tokenizer.ggml.tokens", v.tokens, v.n);
    gguf_writer_kv_i32_array(w, "tokenizer.ggml.token_type", v.types, v.n);
    gguf_writer_kv_str_array(w, "tokenizer.ggml.merges", v.merges, v.n_merges);
    gguf_writer_kv_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gguf_writer_kv_u32(w, "tokenizer.ggml.eos_token_id", 7);
    gguf_writer_kv_u32(w, "tokenizer.ggml.padding_token_id", 0);
    gguf_writer_kv_bool(w, "tokenizer.ggml.add_bos_token", true);
    gguf_writer_kv_bool(w, "tokenizer.ggml.add_sep_token", false);
    gguf_writer_kv_bool(w, "tokenizer.ggml.add_eos_token", false);
    put_str(job, "tokenizer.chat_template", synth_chat_template);
    gguf_writer_kv_u32(w, "general.quantization_version", 2);
    gguf_writer_kv_u32(w, "general.file_type", job->options->mix->file_type);
    synth_vocab_free(&v);
    return SLUICE_OK;
}

static void declare_tensors(struct job *job) {
    const struct preset *p = job->options->preset;
    struct mix_model model = {.n_layer = p->n_layer, .has_attn_v = job->has_attn_v};
    for (uint32_t i = 0; i < p->n_layer; i++) {
        job->has_attn_v[i] = preset_is_attention(p, i);
        model.n_attn += job->has_attn_v[i];
    }
    for (size_t i = 0; i < preset_n_tensors(p); i++) {
        struct preset_tensor t;
        preset_tensor(p, i, &t);
        struct mix_tensor view = {t.name, strlen(t.name), t.dims[0], t.n_dims};
        bool fallback; /* no preset has rows that need one */
        job->types[i] = mix_choose(job->options->mix, &model, &view, &fallback);
        gguf_writer_tensor(job->writer, t.name, job->types[i], t.n_dims, t.dims);
        uint64_t n = t.dims[0] * t.dims[1] * t.dims[2];
        job->result->n_weights += n;
        job->result->tensor_bytes += dtype_row_bytes(dtype_get(job->types[i]), n);
    }
}

/* ---- Data */

static void make_chunks(void *ctx, uint32_t ith, uint32_t nth) {
    (void)ith;
    (void)nth;
    struct job *job = ctx;
    enum dtype type = job->types[job->tensor];
    for (;;) {
        uint64_t at = (uint64_t)atomic_fetch_add(&job->next, 1) * CHUNK_ELEMS;
        if (at >= job->n) {
            return;
        }
        uint64_t n = job->n - at < CHUNK_ELEMS ? job->n - at : CHUNK_ELEMS;
        struct rng rng;
        rng_init(&rng, job->options->seed, job->tensor, (job->first + at) / CHUNK_ELEMS);
        synth_blocks(job->gauss, &rng, type, job->std, job->batch + dtype_row_bytes(dtype_get(type), at), (size_t)n);
    }
}

/* Matrices keep activations at unit size: deviation 1/sqrt(row). */
static sluice_status make_matrix(struct job *job, const struct preset_tensor *t, uint64_t n_elems) {
    const struct dtype_info *info = dtype_get(job->types[job->tensor]);
    job->std = 1.0f / sqrtf((float)t->dims[0]);
    for (job->first = 0; job->first < n_elems; job->first += BATCH_ELEMS) {
        job->n = n_elems - job->first < BATCH_ELEMS ? n_elems - job->first : BATCH_ELEMS;
        atomic_store(&job->next, 0);
        pool_run(job->pool, make_chunks, job);
        TRY(gguf_writer_data(job->writer, job->batch, dtype_row_bytes(info, job->n), job->err));
        job->done += job->n;
        if (job->options->progress) {
            job->options->progress(job->options->ctx, job->done, job->result->n_weights);
        }
    }
    return SLUICE_OK;
}

/* The last tap carries the current position, so it leads. */
static void make_conv(const struct job *job, struct rng *rng, float *x, size_t n) {
    synth_floats(job->gauss, rng, 0, 0.3f, x, n);
    for (size_t i = 2; i < n; i += 3) {
        x[i] += 1.0f;
    }
}

static sluice_status make_small(struct job *job, const struct preset_tensor *t, size_t n) {
    float *x = (float *)(void *)job->batch;
    struct rng rng;
    rng_init(&rng, job->options->seed, job->tensor, 0);
    switch (t->role) {
    case ROLE_CONV:
        make_conv(job, &rng, x, n);
        break;
    case ROLE_EXPERT_BIAS:
        synth_floats(job->gauss, &rng, 0, 0.01f, x, n);
        break;
    case ROLE_FINAL_NORM: /* scales the logits: a deviation of 4 gives the best token a share of about a tenth */
        synth_floats(job->gauss, &rng, 4.0f, 0.4f, x, n);
        break;
    default:
        synth_floats(job->gauss, &rng, 1.0f, 0.1f, x, n);
        break;
    }
    job->done += n;
    return gguf_writer_data(job->writer, x, n * sizeof *x, job->err);
}

static sluice_status make_all(struct job *job) {
    size_t n_tensors = preset_n_tensors(job->options->preset);
    for (job->tensor = 0; job->tensor < n_tensors; job->tensor++) {
        struct preset_tensor t;
        preset_tensor(job->options->preset, job->tensor, &t);
        uint64_t n = t.dims[0] * t.dims[1] * t.dims[2];
        TRY(t.role == ROLE_MATRIX ? make_matrix(job, &t, n) : make_small(job, &t, (size_t)n));
    }
    return SLUICE_OK;
}

static sluice_status prepare(struct job *job) {
    const struct preset *p = job->options->preset;
    uint32_t n = job->options->n_threads ? job->options->n_threads : threads_allowed();
    job->gauss = gauss_new();
    job->batch = mem_alloc((size_t)BATCH_ELEMS * sizeof(float));
    job->types = mem_calloc(preset_n_tensors(p), sizeof *job->types);
    job->has_attn_v = mem_calloc(p->n_layer, sizeof *job->has_attn_v);
    if (!job->gauss || !job->batch || !job->types || !job->has_attn_v) {
        return fail(job->err, SLUICE_E_NOMEM, "no memory to make %s", job->options->out);
    }
    TRY(pool_create(n < LIMIT_THREADS ? n : LIMIT_THREADS, &job->pool, job->err));
    TRY(gguf_writer_open(job->options->out, &job->writer, job->err));
    put_model(job);
    TRY(put_tokenizer(job));
    declare_tensors(job);
    return SLUICE_OK;
}

sluice_status synth_file(const struct synth_options *options, struct synth_result *result, sluice_error *err) {
    *result = (struct synth_result){0};
    struct job job = {.options = options, .result = result, .err = err};
    sluice_status s;
    TRY_GOTO(s, prepare(&job), out);
    TRY_GOTO(s, make_all(&job), out);
    s = gguf_writer_finish(job.writer, err);
    job.writer = NULL;
out:
    gguf_writer_abort(job.writer);
    pool_free(job.pool);
    gauss_free(job.gauss);
    mem_free(job.batch);
    mem_free(job.types);
    mem_free(job.has_attn_v);
    return s;
}
