#include "tools/quantize.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/threads.h"
#include "gguf/gguf.h"
#include "quant/quant.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Work goes in batches of chunks: a chunk is one thread's scratch, a batch is what is written at once. Both are
 * multiples of every block size, so rows need no attention: their lengths are multiples of the blocks of both types. */
#define CHUNK_ELEMS 16384u
#define BATCH_ELEMS (CHUNK_ELEMS * 256u)

struct job {
    const struct quantize_options *options;
    struct quantize_result *result;
    struct gguf_file *in;
    struct gguf_writer *writer;
    enum dtype *types; /* [n_tensors] of the new file */
    bool *has_attn_v;  /* [n_layer] */
    struct mix_model model;
    struct pool *pool;
    float *scratch; /* [n_threads][CHUNK_ELEMS] */
    uint8_t *batch; /* [BATCH_ELEMS] of the widest type */
    uint64_t done;  /* weights */
    /* the batch in work */
    const struct gguf_tensor *tensor;
    enum dtype type;
    uint64_t first, n;        /* elements */
    atomic_uint next;         /* chunk */
    atomic_uint_fast64_t bad; /* the first element that the new type cannot hold; UINT64_MAX if none */
    sluice_error *err;
};

static void note(const struct job *job, const char *text) {
    if (job->options->note) {
        job->options->note(job->options->ctx, text);
    }
}

/* ---- What to write */

static bool name_is(const struct gguf_str *s, const char *name) {
    return s->n == strlen(name) && memcmp(s->s, name, s->n) == 0;
}

static sluice_status scan_model(struct job *job) {
    const struct gguf_file *f = job->in;
    uint32_t n_layer = 0;
    for (size_t i = 0; i < f->n_tensors; i++) {
        int layer = mix_layer(f->tensors[i].name.s, f->tensors[i].name.n);
        n_layer = layer >= (int)n_layer ? (uint32_t)layer + 1 : n_layer;
    }
    struct gguf_str arch = {"", 0};
    TRY(gguf_opt_str(f, "general.architecture", &arch, job->err));
    char key[LIMIT_GGUF_KEY];
    uint32_t block_count = n_layer;
    snprintf(key, sizeof key, "%.*s.block_count", (int)(arch.n < 64 ? arch.n : 64), arch.s);
    TRY(gguf_opt_u32(f, key, &block_count, job->err));
    if (n_layer > LIMIT_LAYERS || block_count > LIMIT_LAYERS) {
        return fail(job->err, SLUICE_E_LIMIT, "%s has %u layers; the limit is %u", f->path,
                    n_layer > block_count ? n_layer : block_count, LIMIT_LAYERS);
    }
    job->has_attn_v = mem_calloc(LIMIT_LAYERS, sizeof *job->has_attn_v);
    if (!job->has_attn_v) {
        return fail(job->err, SLUICE_E_NOMEM, "no memory to quantize %s", f->path);
    }
    job->model = (struct mix_model){.n_layer = block_count > n_layer ? block_count : n_layer,
                                    .has_attn_v = job->has_attn_v,
                                    .has_output = gguf_find_tensor(f, "output.weight") != NULL};
    for (uint32_t i = 0; i < n_layer; i++) {
        snprintf(key, sizeof key, "blk.%u.attn_v.weight", i);
        job->has_attn_v[i] = gguf_find_tensor(f, key) != NULL;
        job->model.n_attn += job->has_attn_v[i];
    }
    return SLUICE_OK;
}

static uint32_t real_dims(const struct gguf_tensor *t) {
    uint32_t n = t->n_dims;
    while (n > 1 && t->dims[n - 1] == 1) {
        n--;
    }
    return n;
}

static void choose_types(struct job *job) {
    const struct gguf_file *f = job->in;
    bool from_quantized = false;
    for (size_t i = 0; i < f->n_tensors; i++) {
        const struct gguf_tensor *t = &f->tensors[i];
        struct mix_tensor view = {t->name.s, t->name.n, t->dims[0], real_dims(t)};
        bool fallback;
        job->types[i] = mix_choose(job->options->mix, &job->model, &view, &fallback);
        if (fallback) {
            char text[LIMIT_GGUF_TENSOR_NAME + 160];
            snprintf(text, sizeof text,
                     "%.*s: rows of %llu are no whole blocks of the type that %s gives it, so it becomes %s",
                     (int)t->name.n, t->name.s, (unsigned long long)t->dims[0], job->options->mix->name,
                     dtype_get(job->types[i])->name);
            note(job, text);
        }
        from_quantized |= dtype_get(t->type)->block_elems > 1 && t->type != job->types[i];
        job->result->n_tensors[job->types[i]]++;
    }
    if (from_quantized) {
        note(job, "the input is quantized already, so the result is worse than one made from F16 or BF16");
    }
}

static void declare(struct job *job) {
    const struct gguf_file *f = job->in;
    for (size_t i = 0; i < f->n_kv; i++) {
        const struct gguf_kv *kv = &f->kv[i];
        if (!name_is(&kv->key, "general.file_type") && !name_is(&kv->key, "general.quantization_version")) {
            gguf_writer_kv_copy(job->writer, kv);
        }
    }
    gguf_writer_kv_u32(job->writer, "general.quantization_version", 2);
    gguf_writer_kv_u32(job->writer, "general.file_type", job->options->mix->file_type);
    for (size_t i = 0; i < f->n_tensors; i++) {
        const struct gguf_tensor *t = &f->tensors[i];
        char name[LIMIT_GGUF_TENSOR_NAME + 1];
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
        gguf_writer_tensor(job->writer, name, job->types[i], t->n_dims, t->dims);
    }
}

/* ---- Converting */

/* The first value that the type cannot hold, or n. */
static uint64_t find_bad(const float *x, uint64_t n, enum dtype type) {
    float limit = type == DTYPE_F32 || type == DTYPE_BF16 ? INFINITY : 65520.0f; /* rounds to infinity in f16 */
    for (uint64_t i = 0; i < n; i++) {
        if (!(fabsf(x[i]) < limit)) {
            return i;
        }
    }
    return n;
}

static void convert_chunks(void *ctx, uint32_t ith, uint32_t nth) {
    (void)nth;
    struct job *job = ctx;
    const struct dtype_info *from = dtype_get(job->tensor->type), *to = dtype_get(job->type);
    float *x = job->scratch + (size_t)ith * CHUNK_ELEMS;
    for (;;) {
        uint64_t at = (uint64_t)atomic_fetch_add(&job->next, 1) * CHUNK_ELEMS;
        if (at >= job->n) {
            return;
        }
        uint64_t n = job->n - at < CHUNK_ELEMS ? job->n - at : CHUNK_ELEMS;
        const uint8_t *src = (const uint8_t *)job->tensor->data + dtype_row_bytes(from, job->first + at);
        dequantize_row(job->tensor->type, src, x, (int64_t)n);
        uint64_t bad = find_bad(x, n, job->type);
        if (bad < n) {
            uint_fast64_t element = job->first + at + bad, least = atomic_load(&job->bad);
            while (element < least && !atomic_compare_exchange_weak(&job->bad, &least, element)) {
            }
        }
        quantize_row(job->type, x, job->batch + dtype_row_bytes(to, at), (int64_t)n);
    }
}

static sluice_status bad_weight(const struct job *job, uint64_t at) {
    const struct gguf_str *name = &job->tensor->name;
    return fail(job->err, SLUICE_E_FORMAT,
                "%s: element %llu of tensor %.*s is not a number that %s can hold (beyond 65504, infinite or NaN); %s",
                job->in->path, (unsigned long long)at, (int)name->n, name->s, dtype_get(job->type)->name,
                job->type == DTYPE_F16 ? "choose BF16 or F32, or get the file again" : "get the file again");
}

static sluice_status convert_tensor(struct job *job, size_t i) {
    const struct gguf_tensor *t = &job->in->tensors[i];
    job->tensor = t;
    job->type = job->types[i];
    for (uint64_t first = 0; first < t->n_elems; first += BATCH_ELEMS) {
        job->first = first;
        job->n = t->n_elems - first < BATCH_ELEMS ? t->n_elems - first : BATCH_ELEMS;
        size_t bytes = dtype_row_bytes(dtype_get(job->type), job->n);
        const void *data = job->batch;
        if (t->type == job->type) {
            data = (const uint8_t *)t->data + dtype_row_bytes(dtype_get(t->type), first);
        } else {
            atomic_store(&job->next, 0);
            atomic_store(&job->bad, UINT64_MAX);
            pool_run(job->pool, convert_chunks, job);
            uint64_t bad = atomic_load(&job->bad);
            if (bad != UINT64_MAX) {
                return bad_weight(job, bad);
            }
        }
        TRY(gguf_writer_data(job->writer, data, bytes, job->err));
        job->done += job->n;
        if (job->options->progress) {
            job->options->progress(job->options->ctx, job->done, job->result->n_weights);
        }
    }
    job->result->tensor_bytes += dtype_row_bytes(dtype_get(job->type), t->n_elems);
    return SLUICE_OK;
}

static sluice_status convert_all(struct job *job) {
    for (size_t i = 0; i < job->in->n_tensors; i++) {
        job->result->n_weights += job->in->tensors[i].n_elems;
    }
    for (size_t i = 0; i < job->in->n_tensors; i++) {
        TRY(convert_tensor(job, i));
    }
    return SLUICE_OK;
}

static sluice_status prepare(struct job *job) {
    uint32_t n = job->options->n_threads ? job->options->n_threads : threads_allowed();
    n = n < LIMIT_THREADS ? n : LIMIT_THREADS;
    job->types = mem_calloc(job->in->n_tensors, sizeof *job->types);
    job->scratch = mem_alloc((size_t)n * CHUNK_ELEMS * sizeof *job->scratch);
    job->batch = mem_alloc((size_t)BATCH_ELEMS * sizeof(float));
    if (!job->types || !job->scratch || !job->batch) {
        return fail(job->err, SLUICE_E_NOMEM, "no memory to quantize %s with %u threads", job->in->path, n);
    }
    TRY(pool_create(n, &job->pool, job->err));
    TRY(scan_model(job));
    choose_types(job);
    TRY(gguf_writer_open(job->options->out, &job->writer, job->err));
    declare(job);
    return SLUICE_OK;
}

sluice_status quantize_file(const struct quantize_options *options, struct quantize_result *result, sluice_error *err) {
    *result = (struct quantize_result){0};
    struct job job = {.options = options, .result = result, .err = err};
    TRY(gguf_open(options->in, &job.in, err));
    result->in_bytes = job.in->file_bytes;
    sluice_status s;
    TRY_GOTO(s, prepare(&job), out);
    TRY_GOTO(s, convert_all(&job), out);
    s = gguf_writer_finish(job.writer, err);
    job.writer = NULL;
    struct stat st;
    if (s == SLUICE_OK && stat(options->out, &st) == 0) {
        result->out_bytes = (uint64_t)st.st_size;
    }
out:
    gguf_writer_abort(job.writer);
    gguf_close(job.in);
    pool_free(job.pool);
    mem_free(job.types);
    mem_free(job.has_attn_v);
    mem_free(job.scratch);
    mem_free(job.batch);
    return s;
}
