/* A model's weights as the cpu backend packs them: every matrix found again, the file's own untouched, memory given back. */
#include "backend/cpu/weights.h"
#include "base/mem.h"
#include "tools/synth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A vocabulary and experts whose last strips are short, and rows of an odd number of blocks. */
static const struct preset shape = {.name = "odd",
                                    .title = "odd",
                                    .size_label = "tiny",
                                    .moe = true,
                                    .n_vocab = 1003,
                                    .n_ctx = 512,
                                    .n_layer = 6,
                                    .n_embd = 768,
                                    .n_head = 12,
                                    .n_head_kv = 2,
                                    .n_ff = 512,
                                    .n_expert = 4,
                                    .n_expert_used = 2,
                                    .n_ff_exp = 264,
                                    .n_dense = 2,
                                    .attention = 1u << 2 | 1u << 4};

static char folder[] = "/tmp/sluice-test-XXXXXX";
static char path[64], untied_path[64];

static void ok(sluice_status status, const sluice_error *err) {
    if (status != SLUICE_OK) {
        fail_msg("%s", err->text);
    }
}

static void make(const char *level, const char *to) {
    const struct synth_options o = {.preset = &shape, .mix = mix_by_name(level), .out = to, .n_threads = 2};
    struct synth_result result;
    sluice_error err = {0};
    ok(synth_file(&o, &result, &err), &err);
}

/* `from` with the embedding once more as output.weight, and the router in a type that has strips. */
static void make_untied(const char *from, const char *to) {
    struct gguf_file *f;
    struct gguf_writer *w;
    sluice_error err = {0};
    ok(gguf_open(from, &f, &err), &err);
    ok(gguf_writer_open(to, &w, &err), &err);
    for (size_t i = 0; i < f->n_kv; i++) {
        gguf_writer_kv_copy(w, &f->kv[i]);
    }
    static uint8_t router[4 * 3 * sizeof(struct block_q6_k)];
    for (int data = 0; data < 2; data++) {
        for (size_t i = 0; i <= f->n_tensors; i++) {
            const struct gguf_tensor *t = i < f->n_tensors ? &f->tensors[i] : gguf_find_tensor(f, "token_embd.weight");
            char name[96];
            snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
            bool routes = strstr(name, "ffn_gate_inp") != NULL;
            if (data && routes) {
                for (int r = 0; r < 4; r++) {
                    quantize_row(DTYPE_Q6_K, (const float *)t->data + r * 768,
                                 router + r * 3 * sizeof(struct block_q6_k), 768);
                }
                ok(gguf_writer_data(w, router, sizeof router, &err), &err);
            } else if (data) {
                ok(gguf_writer_data(w, t->data, t->n_bytes, &err), &err);
            } else {
                gguf_writer_tensor(w, i == f->n_tensors ? "output.weight" : name, routes ? DTYPE_Q6_K : t->type,
                                   t->n_dims, t->dims);
            }
        }
    }
    ok(gguf_writer_finish(w, &err), &err);
    gguf_close(f);
}

static int make_files(void **state) {
    (void)state;
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/a.gguf", folder);
    snprintf(untied_path, sizeof untied_path, "%s/b.gguf", folder);
    make("Q4_K_M", path);
    make_untied(path, untied_path);
    return 0;
}

static int remove_files(void **state) {
    (void)state;
    unlink(path);
    unlink(untied_path);
    return rmdir(folder);
}

static struct model *load(const char *from) {
    struct model *m;
    sluice_error err = {0};
    ok(model_load(from, &m, &err), &err);
    return m;
}

static struct pool *new_pool(uint32_t n) {
    struct pool *pool;
    sluice_error err = {0};
    ok(pool_create(n, &pool, &err), &err);
    return pool;
}

/* Row `row` of a matrix as floats, read from its strips. */
static void strip_floats(const struct weight *w, uint32_t mat, uint32_t row, float *out) {
    uint32_t words = strip_words(w->type);
    const uint8_t *strip = w->data + mat * w->mat_bytes + row / STRIP_ROWS * strip_bytes(w->type, w->n_cols);
    for (uint32_t b = 0; b < w->n_cols / QK; b++) {
        uint8_t block[4 * Q6_K_WORDS];
        for (uint32_t i = 0; i < words; i++) {
            memcpy(block + 4 * i, strip + ((size_t)b * words + i) * STRIP_LINE + 4 * (row % STRIP_ROWS), 4);
        }
        dequantize_row(w->type, block, out + b * QK, QK);
    }
}

/* Compares a matrix with the file's; returns the bytes that its strips take. */
static size_t check_weight(const struct weight *file, const struct weight *held, const struct weights *w) {
    assert_int_equal(held->type, file->type);
    assert_int_equal(held->n_rows, file->n_rows);
    assert_int_equal(held->n_cols, file->n_cols);
    assert_int_equal(held->n_mat, file->n_mat);
    assert_int_equal(held->row_bytes, file->row_bytes);
    assert_int_equal(weight_file_bytes(held), file->mat_bytes);
    if (!file->data || !strip_words(file->type)) {
        assert_ptr_equal(held->data, file->data);
        assert_int_equal(held->mat_bytes, file->mat_bytes);
        return 0;
    }
    assert_int_equal(held->mat_bytes, strips_bytes(file->type, file->n_rows, file->n_cols));
    size_t bytes = held->n_mat * held->mat_bytes;
    assert_true(held->data >= w->strips && held->data + bytes <= w->strips + w->strips_bytes);
    assert_int_equal((uintptr_t)held->data % STRIP_LINE, 0);
    static float a[1024], b[1024];
    for (uint32_t mat = 0; mat < file->n_mat; mat++) {
        for (uint32_t r = 0; r < file->n_rows; r++) {
            dequantize_row(file->type, file->data + mat * file->mat_bytes + r * file->row_bytes, a, file->n_cols);
            strip_floats(held, mat, r, b);
            assert_memory_equal(a, b, file->n_cols * sizeof a[0]);
        }
    }
    return bytes;
}

static size_t check_layer(const struct model_layer *file, const struct model_layer *held, const struct weights *w) {
    assert_ptr_equal(held->attn_norm, file->attn_norm);
    size_t bytes = check_weight(&file->wq, &held->wq, w) + check_weight(&file->wk, &held->wk, w);
    bytes += check_weight(&file->wv, &held->wv, w) + check_weight(&file->wo, &held->wo, w);
    bytes += check_weight(&file->in_proj, &held->in_proj, w) + check_weight(&file->out_proj, &held->out_proj, w);
    bytes += check_weight(&file->gate, &held->gate, w) + check_weight(&file->up, &held->up, w);
    return bytes + check_weight(&file->down, &held->down, w) + check_weight(&file->router, &held->router, w);
}

static void check_all(const struct model *m, const struct weights *w) {
    size_t bytes = check_weight(&m->output, &w->model.output, w);
    assert_ptr_not_equal(w->model.layers, m->layers);
    for (uint32_t i = 0; i < m->n_layer; i++) {
        bytes += check_layer(&m->layers[i], &w->model.layers[i], w);
    }
    assert_int_equal(bytes, w->strips_bytes); /* nothing between, nothing twice */
    assert_ptr_equal(w->model.tok_embd.data, m->tok_embd.data);
    assert_int_equal(w->model.tok_embd.mat_bytes, m->tok_embd.mat_bytes);
    assert_int_equal(w->model.decode_bytes, m->decode_bytes);
}

static void test_every_matrix(void **state) {
    (void)state;
    const char *files[] = {path, untied_path};
    for (uint32_t i = 0; i < 4; i++) {
        struct pool *pool = new_pool(i % 2 ? 3 : 1);
        struct model *m = load(files[i / 2]);
        assert_int_equal(m->tied, i / 2 == 0);
        assert_int_equal(m->layers[2].router.type, m->tied ? DTYPE_F32 : DTYPE_Q6_K);
        assert_int_equal(m->layers[2].gate.n_rows % STRIP_ROWS, 8);
        const struct weight before = m->output;
        struct weights w;
        sluice_error err = {0};
        ok(weights_open(m, pool, 0, &w, &err), &err);
        assert_memory_equal(&m->output, &before, sizeof before);
        check_all(m, &w);
        int64_t padding = (int64_t)(w.bytes - m->file->tensor_bytes); /* short strips, half words */
        assert_in_range(padding, 0, m->file->tensor_bytes / 20);
        weights_close(&w);
        weights_close(&w); /* and once more does no harm */
        model_free(m);
        pool_free(pool);
    }
}

/* A model without K-quants takes no memory: all of it stays in the file. */
static void test_nothing_to_pack(void **state) {
    (void)state;
    make("Q8_0", path);
    struct pool *pool = new_pool(2);
    struct model *m = load(path);
    struct weights w;
    sluice_error err = {0};
    ok(weights_open(m, pool, 1, &w, &err), &err);
    assert_null(w.strips);
    assert_int_equal(w.strips_bytes, 0);
    assert_int_equal(w.bytes, m->file->tensor_bytes);
    check_all(m, &w);
    weights_close(&w);
    model_free(m);
    pool_free(pool);
    make("Q4_K_M", path);
}

static void test_memory_runs_out(void **state) {
    (void)state;
    struct pool *pool = new_pool(1);
    struct model *m = load(path);
    struct weights w;
    sluice_error err = {0};
    ok(weights_open(m, pool, UINT64_MAX, &w, &err), &err);
    uint64_t need = w.strips_bytes;
    weights_close(&w);
    ok(weights_open(m, pool, need, &w, &err), &err);
    weights_close(&w);
    assert_int_equal(weights_open(m, pool, need - 1, &w, &err), SLUICE_E_NOMEM);
    assert_non_null(strstr(err.text, "available: choose a smaller model or quantization"));
    assert_null(w.strips);
    weights_close(&w);
    sluice_status status = SLUICE_E_NOMEM;
    for (long n = 1; status != SLUICE_OK; n++) {
        err = (sluice_error){0};
        mem_fail_nth(n);
        status = weights_open(m, pool, 0, &w, &err);
        mem_fail_nth(0);
        assert_true(status == SLUICE_OK ? n == 4 : status == SLUICE_E_NOMEM && strstr(err.text, "no memory for"));
        weights_close(&w);
    }
    model_free(m);
    pool_free(pool);
}

/* Bytes of a mapping that are in this process's memory. */
static uint64_t resident(const void *from, size_t bytes) {
    FILE *f = fopen("/proc/self/smaps", "r");
    assert_non_null(f);
    char line[512];
    uint64_t sum = 0;
    bool inside = false;
    while (fgets(line, sizeof line, f)) {
        unsigned long long begin, end, kib;
        if (sscanf(line, "%llx-%llx ", &begin, &end) == 2) {
            inside = begin >= (uintptr_t)from && begin < (uintptr_t)from + bytes;
        } else if (inside && sscanf(line, "Rss: %llu kB", &kib) == 1) {
            sum += kib * 1024;
        }
    }
    fclose(f);
    return sum;
}

static void test_pages_given_back(void **state) {
    (void)state;
    struct pool *pool = new_pool(2);
    struct model *m = load(path);
    const struct gguf_file *f = m->file;
    static volatile uint8_t sum;
    for (uint64_t i = 0; i < f->file_bytes; i += 512) {
        sum += ((const uint8_t *)f->map)[i];
    }
    assert_true(resident(f->map, f->file_bytes) > f->tensor_bytes);
    struct weights w;
    sluice_error err = {0};
    ok(weights_open(m, pool, 0, &w, &err), &err);
    /* what has no strips stays: experts' down rows in F16 here, norms, metadata */
    uint64_t stays = f->file_bytes - f->tensor_bytes + f->tensor_bytes / 100;
    for (uint32_t i = 0; i < m->n_layer; i++) {
        const struct weight *down = &m->layers[i].down;
        stays += strip_words(down->type) ? 0 : down->n_mat * down->mat_bytes;
    }
    assert_true(stays < f->file_bytes * 3 / 4);
    stays += f->n_tensors * (size_t)sysconf(_SC_PAGESIZE); /* pages that a tensor shares with the next */
    assert_true(resident(f->map, f->file_bytes) < stays);
    check_all(m, &w); /* what was given back comes again */
    weights_close(&w);
    model_free(m);
    pool_free(pool);
}

/* Bytes that a caller keeps are his: nothing is given back of them. */
static void test_file_in_memory(void **state) {
    (void)state;
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    fseek(in, 0, SEEK_END);
    size_t n = (size_t)ftell(in);
    rewind(in);
    uint8_t *bytes = mem_map(n); /* anonymous: pages given back would come again as zeros */
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, n, in), n);
    fclose(in);
    struct gguf_file *file;
    struct model *m;
    sluice_error err = {0};
    ok(gguf_open_memory(bytes, n, "kept", &file, &err), &err);
    ok(model_bind(file, &m, &err), &err);
    struct pool *pool = new_pool(2);
    struct weights w;
    ok(weights_open(m, pool, 0, &w, &err), &err);
    check_all(m, &w);
    gguf_release(file, bytes, n);
    assert_memory_equal(bytes, "GGUF", 4);
    weights_close(&w);
    model_free(m);
    pool_free(pool);
    mem_unmap(bytes, n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_matrix),    cmocka_unit_test(test_nothing_to_pack),
        cmocka_unit_test(test_memory_runs_out), cmocka_unit_test(test_pages_given_back),
        cmocka_unit_test(test_file_in_memory),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
