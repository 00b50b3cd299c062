/* Presets against published figures, and synthetic files: size, order, vocabulary, statistics, determinism. */
#include "base/mem.h"
#include "gguf/gguf.h"
#include "model/model.h"
#include "quant/quant.h"
#include "tools/inspect.h"
#include "tools/synth.h"
#include "tools/synth_parts.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/sluice-test-XXXXXX";
static char path[64], path2[64];

static int make_folder(void **state) {
    (void)state;
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/a.gguf", folder);
    snprintf(path2, sizeof path2, "%s/b.gguf", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    unlink(path);
    unlink(path2);
    return rmdir(folder);
}

/* ---- Presets */

struct totals {
    uint64_t weights, bytes;
    uint32_t by_type[64];
};

static struct totals sum(const char *preset, const char *level) {
    const struct preset *p = preset_by_name(preset);
    bool attention[64] = {false};
    struct mix_model model = {.n_layer = p->n_layer, .has_attn_v = attention};
    for (uint32_t i = 0; i < p->n_layer; i++) {
        attention[i] = preset_is_attention(p, i);
        model.n_attn += attention[i];
    }
    struct totals t = {0};
    for (size_t i = 0; i < preset_n_tensors(p); i++) {
        struct preset_tensor d;
        preset_tensor(p, i, &d);
        struct mix_tensor view = {d.name, strlen(d.name), d.dims[0], d.n_dims};
        bool fallback;
        enum dtype type = mix_choose(mix_by_name(level), &model, &view, &fallback);
        uint64_t n = d.dims[0] * d.dims[1] * d.dims[2];
        assert_false(fallback);
        t.weights += n;
        t.bytes += dtype_row_bytes(dtype_get(type), n);
        t.by_type[type]++;
    }
    return t;
}

static void published_sizes(void **state) {
    (void)state;
    static const struct {
        const char *preset, *level;
        uint64_t weights, bytes;
    } cases[] = {
        {"350m", "Q4_K_M", 354483968, 226925568},     {"700m", "Q4_K_M", 742489344, 466240512},
        {"1.2b", "Q4_K_M", 1170340608, 728509440},    {"2.6b", "Q4_K_M", 2569272320, 1561276416},
        {"8b-a1b", "Q4_K_M", 8339930560, 5042386688}, {"8b-a1b", "Q4_0", 8339930560, 4731500288},
        {"8b-a1b", "Q5_K_M", 8339930560, 5917161216}, {"8b-a1b", "Q6_K", 8339930560, 6846609152},
        {"8b-a1b", "Q8_0", 8339930560, 8866035456},   {"8b-a1b", "F16", 8339930560, 16683169536},
        {"8b-a1b", "BF16", 8339930560, 16683169536},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct totals t = sum(cases[i].preset, cases[i].level);
        assert_int_equal(t.weights, cases[i].weights);
        assert_int_equal(t.bytes, cases[i].bytes);
    }
    struct totals t = sum("8b-a1b", "Q4_K_M");
    assert_int_equal(t.by_type[DTYPE_Q4_K], 118);
    assert_int_equal(t.by_type[DTYPE_Q6_K], 15);
    assert_int_equal(t.by_type[DTYPE_F32], 123);
    t = sum("24b-a2b", "Q4_0");
    assert_int_equal(t.weights, 23843661440);
    assert_true(fabs((double)t.bytes / 1073741824.0 - 12.54) < 0.01);
}

static void attention_layers(void **state) {
    (void)state;
    const struct preset *p = preset_by_name("24B-A2B");
    for (uint32_t i = 0; i < p->n_layer; i++) {
        assert_int_equal(preset_is_attention(p, i), i % 4 == 2);
    }
    assert_null(preset_by_name("9b"));
    assert_null(preset_at(100));
}

/* The order of the fixtures that llama.cpp wrote. */
static void order_of_published_files(void **state) {
    (void)state;
    static const char *const models[2][2] = {{"moe", "tiny-moe"}, {"dense", "tiny-dense"}};
    for (int m = 0; m < 2; m++) {
        FILE *f = fopen(TEST_DATA "/unit/data/gguf_llama_types.txt", "r");
        assert_non_null(f);
        char text[256], model[16], name[64], dims[32];
        size_t i = 0;
        const struct preset *p = preset_by_name(models[m][1]);
        while (fgets(text, sizeof text, f)) {
            if (sscanf(text, "%15s %63s %31s", model, name, dims) != 3 || strcmp(model, models[m][0]) != 0) {
                continue;
            }
            struct preset_tensor t;
            preset_tensor(p, i++, &t);
            assert_string_equal(t.name, name);
            char own[64];
            int n = snprintf(own, sizeof own, "%llu", (unsigned long long)t.dims[0]);
            for (uint32_t d = 1; d < t.n_dims; d++) {
                n += snprintf(own + n, sizeof own - (size_t)n, ",%llu", (unsigned long long)t.dims[d]);
            }
            assert_true(i == 1 || strcmp(own, dims) == 0); /* the vocabulary has another size */
        }
        fclose(f);
        assert_int_equal(i, preset_n_tensors(p));
    }
}

/* ---- Files */

static sluice_status make(const char *to, const char *preset, const char *level, uint64_t seed, uint32_t threads,
                          sluice_error *err) {
    struct synth_options o = {
        .preset = preset_by_name(preset), .mix = mix_by_name(level), .out = to, .seed = seed, .n_threads = threads};
    struct synth_result r;
    return synth_file(&o, &r, err);
}

static const char *const levels[] = {"F32", "F16", "BF16", "Q4_0", "Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K"};

static void every_level_binds_as_a_model(void **state) {
    (void)state;
    for (size_t i = 0; i < 8; i++) {
        for (int moe = 0; moe < 2; moe++) {
            sluice_error err = {0};
            struct model *m;
            assert_int_equal(make(path, moe ? "tiny-moe" : "tiny-dense", levels[i], 1, 2, &err), SLUICE_OK);
            if (model_load(path, &m, &err) != SLUICE_OK) {
                fail_msg("%s: %s", levels[i], err.text);
            }
            assert_int_equal(m->n_layer, moe ? 6 : 4);
            assert_int_equal(m->n_expert_used, moe ? 2 : 0);
            assert_true(m->tied);
            struct inspect_sums sums;
            inspect_sum(m->file, &sums);
            assert_int_equal(sums.read_total, m->decode_bytes); /* two ways to the same figure */
            assert_int_equal(sums.kv_bytes, model_kv_bytes_per_token(m));
            model_free(m);
        }
    }
}

static void assert_same_bytes(bool same) {
    struct gguf_file *a, *b;
    assert_int_equal(gguf_open(path, &a, NULL), SLUICE_OK);
    assert_int_equal(gguf_open(path2, &b, NULL), SLUICE_OK);
    assert_int_equal(a->file_bytes, b->file_bytes);
    assert_int_equal(memcmp(a->map, b->map, a->file_bytes) == 0, same);
    gguf_close(a);
    gguf_close(b);
}

static void bytes_depend_on_the_seed_alone(void **state) {
    (void)state;
    assert_int_equal(make(path, "tiny-moe", "Q4_K_M", 7, 1, NULL), SLUICE_OK);
    assert_int_equal(make(path2, "tiny-moe", "Q4_K_M", 7, 3, NULL), SLUICE_OK);
    assert_same_bytes(true);
    assert_int_equal(make(path2, "tiny-moe", "Q4_K_M", 8, 3, NULL), SLUICE_OK);
    assert_same_bytes(false);
}

static void check_statistics(const struct gguf_tensor *t) {
    float *x = malloc(t->n_elems * sizeof *x);
    double mean = 0, var = 0, fourth = 0, n = (double)t->n_elems;
    dequantize_row(t->type, t->data, x, (int64_t)t->n_elems);
    for (uint64_t i = 0; i < t->n_elems; i++) {
        assert_true(isfinite(x[i]));
        mean += (double)x[i] / n;
    }
    for (uint64_t i = 0; i < t->n_elems; i++) {
        double d = (double)x[i] - mean;
        var += d * d / n;
        fourth += d * d * d * d / n;
    }
    free(x);
    double want = 1 / sqrt((double)t->dims[0]);
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
    if (fabs(sqrt(var) / want - 1) > 0.04 || fabs(mean) > want * 0.03 || fourth / var / var < 2.2 ||
        fourth / var / var > 3.6) {
        fail_msg("%s %s: mean %g, deviation %g (wanted %g), kurtosis %g", dtype_get(t->type)->name, name, mean,
                 sqrt(var), want, fourth / var / var);
    }
}

static void weights_are_near_gaussian(void **state) {
    (void)state;
    for (size_t i = 0; i < 8; i++) {
        struct gguf_file *f;
        assert_int_equal(make(path, "tiny-moe", levels[i], 5, 2, NULL), SLUICE_OK);
        assert_int_equal(gguf_open(path, &f, NULL), SLUICE_OK);
        for (size_t k = 0; k < f->n_tensors; k++) {
            const struct gguf_tensor *t = &f->tensors[k];
            if (t->n_dims >= 2 && t->dims[0] != 3 && t->n_elems >= 32768) {
                check_statistics(t);
            }
        }
        gguf_close(f);
    }
}

/* ---- Vocabulary */

static bool find(const struct synth_vocab *v, const char *s, size_t n) {
    for (size_t i = 0; i < v->n; i++) {
        if (v->tokens[i].n == n && memcmp(v->tokens[i].s, s, n) == 0) {
            return true;
        }
    }
    return false;
}

static int by_text(const void *a, const void *b) {
    const struct gguf_str *x = a, *y = b;
    size_t n = x->n < y->n ? x->n : y->n;
    int order = memcmp(x->s, y->s, n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

static void no_two_alike(const struct gguf_str *list, size_t n) {
    struct gguf_str *sorted = malloc(n * sizeof *sorted);
    memcpy(sorted, list, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_text);
    for (size_t i = 1; i < n; i++) {
        assert_true(by_text(&sorted[i - 1], &sorted[i]) < 0);
    }
    free(sorted);
}

static void vocabulary_is_consistent(void **state) {
    (void)state;
    static const char *const control[] = {"<|pad|>",
                                          "<|startoftext|>",
                                          "<|endoftext|>",
                                          "<|fim_pre|>",
                                          "<|fim_mid|>",
                                          "<|fim_suf|>",
                                          "<|im_start|>",
                                          "<|im_end|>",
                                          "<|tool_list_start|>",
                                          "<|tool_list_end|>",
                                          "<|tool_call_start|>",
                                          "<|tool_call_end|>",
                                          "<|tool_response_start|>",
                                          "<|tool_response_end|>"};
    static const size_t sizes[] = {512, 2048, 65536};
    for (size_t k = 0; k < 3; k++) {
        struct synth_vocab v;
        assert_int_equal(synth_vocab_new(sizes[k], &v, NULL), SLUICE_OK);
        assert_int_equal(v.n, sizes[k]);
        for (size_t i = 0; i < 14; i++) {
            assert_int_equal(v.tokens[i].n, strlen(control[i]));
            assert_memory_equal(v.tokens[i].s, control[i], v.tokens[i].n);
            assert_int_equal(v.types[i], 3);
        }
        no_two_alike(v.tokens, v.n);
        no_two_alike(v.merges, v.n_merges);
        size_t merged = 0, step = v.n_merges / 200 + 1;
        for (size_t i = 0; i < v.n; i++) {
            merged += v.types[i] == 1;
        }
        assert_int_equal(merged, v.n_merges + 256); /* one merge per entry that is no byte */
        for (size_t i = 0; i < v.n_merges; i += step) {
            const struct gguf_str *m = &v.merges[i];
            const char *blank = memchr(m->s, ' ', m->n);
            size_t left = (size_t)(blank - m->s), right = m->n - left - 1;
            char whole[64];
            memcpy(whole, m->s, left);
            memcpy(whole + left, blank + 1, right);
            assert_true(find(&v, m->s, left) && find(&v, blank + 1, right) && find(&v, whole, left + right));
        }
        if (sizes[k] >= 2048) {
            assert_true(find(&v, "\xC4\xA0the", 5) && find(&v, "\xC4\xA0question", 10));
        }
        synth_vocab_free(&v);
    }
    struct synth_vocab v;
    assert_int_equal(synth_vocab_new(100, &v, NULL), SLUICE_E_ARG);
    assert_non_null(strstr(synth_chat_template, "<|tool_list_start|>"));
}

static void failures_leave_nothing(void **state) {
    (void)state;
    sluice_error err = {0};
    assert_int_equal(make("/nonexistent/x.gguf", "tiny-dense", "Q8_0", 1, 1, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "cannot create"));
    unlink(path);
    sluice_status s = SLUICE_E_NOMEM;
    for (long nth = 1; s != SLUICE_OK; nth += nth < 40 ? 1 : 97) { /* later ones are the same few places, per key */
        mem_fail_nth(nth);
        s = make(path, "tiny-dense", "Q8_0", 1, 1, &err);
        mem_fail_nth(0);
        if (s != SLUICE_OK) {
            assert_int_equal(s, SLUICE_E_NOMEM);
            assert_int_equal(access(path, F_OK), -1);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_sizes),
        cmocka_unit_test(attention_layers),
        cmocka_unit_test(order_of_published_files),
        cmocka_unit_test(every_level_binds_as_a_model),
        cmocka_unit_test(bytes_depend_on_the_seed_alone),
        cmocka_unit_test(weights_are_near_gaussian),
        cmocka_unit_test(vocabulary_is_consistent),
        cmocka_unit_test(failures_leave_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
