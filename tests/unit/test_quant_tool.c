/* `sluice quantize`: the types llama.cpp chooses, contents, and failures that leave nothing behind. */
#include "base/mem.h"
#include "gguf/gguf.h"
#include "quant/quant.h"
#include "tools/quantize.h"
#include "tools/synth.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/sluice-test-XXXXXX";
static char in_path[64], out_path[64];

static int make_folder(void **state) {
    (void)state;
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(in_path, sizeof in_path, "%s/in.gguf", folder);
    snprintf(out_path, sizeof out_path, "%s/out.gguf", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    unlink(in_path);
    unlink(out_path);
    return rmdir(folder);
}

/* ---- Types: gguf_llama_types.txt has what llama.cpp chose for a small MoE and a small dense model */

struct line {
    char model[16], name[64], dims[32], types[6][8];
};

static const char *const levels[] = {"F16", "Q4_0", "Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K"};

static bool read_line(FILE *f, struct line *l) {
    char text[256];
    do {
        if (!fgets(text, sizeof text, f)) {
            return false;
        }
    } while (text[0] == '#');
    assert_int_equal(sscanf(text, "%15s %63s %31s %7s %7s %7s %7s %7s %7s", l->model, l->name, l->dims, l->types[0],
                            l->types[1], l->types[2], l->types[3], l->types[4], l->types[5]),
                     9);
    return true;
}

static void same_types_as_llama_cpp(void **state) {
    (void)state;
    static const bool moe_v[6] = {false, false, true, false, true, false}, dense_v[4] = {false, false, true, false};
    const struct mix_model moe = {.n_layer = 6, .n_attn = 2, .has_attn_v = moe_v},
                           dense = {.n_layer = 4, .n_attn = 1, .has_attn_v = dense_v};
    FILE *f = fopen(TEST_DATA "/unit/data/gguf_llama_types.txt", "r");
    assert_non_null(f);
    struct line l;
    int checked = 0;
    while (read_line(f, &l)) {
        struct mix_tensor t = {.name = l.name, .name_len = strlen(l.name), .row_elems = strtoull(l.dims, NULL, 10)};
        t.n_dims = 1;
        for (const char *c = strchr(l.dims, ','); c; c = strchr(c + 1, ',')) {
            t.n_dims++;
        }
        for (int k = 0; k < 6; k++) {
            if (strcmp(l.types[k], "-") == 0) {
                continue;
            }
            bool fallback;
            enum dtype type =
                mix_choose(mix_by_name(levels[k]), strcmp(l.model, "moe") == 0 ? &moe : &dense, &t, &fallback);
            if (strcmp(dtype_get(type)->name, l.types[k]) != 0 || fallback) {
                fail_msg("%s %s at %s: %s instead of %s", l.model, l.name, levels[k], dtype_get(type)->name,
                         l.types[k]);
            }
            checked++;
        }
    }
    fclose(f);
    assert_int_equal(checked, 64 * 6 + 37 * 2);
}

static enum dtype choose(const char *level, const char *name, uint64_t row, bool has_output, bool *fallback) {
    static const bool attention[24] = {[2] = true, [6] = true, [10] = true, [14] = true, [18] = true, [21] = true};
    const struct mix_model model = {.n_layer = 24, .n_attn = 6, .has_attn_v = attention, .has_output = has_output};
    struct mix_tensor t = {.name = name, .name_len = strlen(name), .row_elems = row, .n_dims = 2};
    return mix_choose(mix_by_name(level), &model, &t, fallback);
}

static void rules_of_the_large_model(void **state) {
    (void)state;
    static const bool more[24] = {[0] = true,  [1] = true,  [2] = true,  [5] = true,  [8] = true,  [11] = true,
                                  [14] = true, [17] = true, [20] = true, [21] = true, [22] = true, [23] = true};
    bool fallback;
    char name[64];
    for (int i = 0; i < 24; i++) {
        snprintf(name, sizeof name, "blk.%d.%s.weight", i, i < 2 ? "ffn_down" : "ffn_down_exps");
        assert_int_equal(choose("Q4_K_M", name, 1792, false, &fallback), more[i] ? DTYPE_Q6_K : DTYPE_Q4_K);
        assert_int_equal(choose("Q5_K_M", name, 1792, false, &fallback), more[i] ? DTYPE_Q6_K : DTYPE_Q5_K);
        assert_int_equal(choose("Q4_0", name, 1792, false, &fallback), DTYPE_Q4_0);
        assert_int_equal(choose("BF16", name, 1792, false, &fallback), DTYPE_BF16);
        snprintf(name, sizeof name, "blk.%d.attn_v.weight", i);
        if (i == 2 || i == 6 || i == 14 || i == 18) {
            assert_int_equal(choose("Q4_K_M", name, 2048, false, &fallback), DTYPE_Q4_K);
        } else if (i == 10 || i == 21) {
            assert_int_equal(choose("Q4_K_M", name, 2048, false, &fallback), DTYPE_Q6_K);
        }
    }
    assert_int_equal(choose("Q4_K_M", "output.weight", 2048, true, &fallback), DTYPE_Q6_K);
    assert_int_equal(choose("Q4_K_M", "token_embd.weight", 2048, true, &fallback), DTYPE_Q4_K);
    assert_int_equal(choose("Q4_K_M", "token_embd.weight", 2048, false, &fallback), DTYPE_Q6_K);
    assert_int_equal(choose("Q8_0", "token_embd.weight", 2048, false, &fallback), DTYPE_Q8_0);
    assert_int_equal(choose("F16", "token_embd.weight", 2048, false, &fallback), DTYPE_F16);
    assert_int_equal(choose("Q4_K_M", "blk.3.ffn_gate_inp.weight", 2048, false, &fallback), DTYPE_F32);
    assert_int_equal(choose("F16", "blk.3.shortconv.conv.weight", 3, false, &fallback), DTYPE_F32);
    assert_false(fallback);
    assert_int_equal(choose("Q4_K_M", "blk.3.ffn_up.weight", 1056, false, &fallback), DTYPE_Q8_0);
    assert_true(fallback);
    assert_int_equal(choose("Q4_K_M", "token_embd.weight", 1056, false, &fallback), DTYPE_Q8_0);
    assert_int_equal(choose("Q4_0", "blk.3.ffn_up.weight", 1000, false, &fallback), DTYPE_F16);
    assert_true(fallback);
    assert_null(mix_by_name("Q3_K_M"));
    assert_int_equal(mix_by_file_type(15)->base, DTYPE_Q4_K);
    assert_null(mix_by_file_type(3));
    assert_int_equal(mix_layer("blk.17.x", 8), 17);
    assert_int_equal(mix_layer("blk.17", 6), -1);
    assert_int_equal(mix_layer("blk..x", 6), -1);
    assert_int_equal(mix_layer("blk.99999999999.x", 17), -1);
}

/* ---- Whole files */

static char notes[2048];

static void on_note(void *ctx, const char *text) {
    (void)ctx;
    snprintf(notes + strlen(notes), sizeof notes - strlen(notes), "%s\n", text);
}

static sluice_status convert(const char *in, const char *level, uint32_t threads, struct quantize_result *r,
                             sluice_error *err) {
    struct quantize_options o = {
        .in = in, .out = out_path, .mix = mix_by_name(level), .n_threads = threads, .note = on_note};
    notes[0] = '\0';
    return quantize_file(&o, r, err);
}

static void make_synthetic(const char *path, const char *preset, const char *level) {
    struct synth_options o = {
        .preset = preset_by_name(preset), .mix = mix_by_name(level), .out = path, .seed = 3, .n_threads = 1};
    struct synth_result r;
    sluice_error err = {0};
    assert_int_equal(synth_file(&o, &r, &err), SLUICE_OK);
}

static float *floats(const struct gguf_tensor *t) {
    float *x = malloc(t->n_elems * sizeof *x);
    dequantize_row(t->type, t->data, x, (int64_t)t->n_elems);
    return x;
}

static double tensor_error(const struct gguf_tensor *a, const struct gguf_tensor *b) {
    float *x = floats(a), *y = floats(b);
    double error = 0, energy = 0;
    for (uint64_t i = 0; i < a->n_elems; i++) {
        error += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        energy += (double)x[i] * (double)x[i];
    }
    free(x);
    free(y);
    return error / energy;
}

static void converts_every_level(void **state) {
    (void)state;
    static const struct {
        const char *level;
        uint32_t file_type;
        double error;
    } cases[] = {
        {"F32", 0, 0},       {"F16", 1, 0},          {"BF16", 32, 4e-6},     {"Q4_0", 2, 0.0068},
        {"Q8_0", 7, 2.5e-5}, {"Q4_K_M", 15, 0.0050}, {"Q5_K_M", 17, 0.0013}, {"Q6_K", 18, 3e-4},
    };
    make_synthetic(in_path, "tiny-moe", "F16");
    struct gguf_file *in, *out;
    sluice_error err = {0};
    assert_int_equal(gguf_open(in_path, &in, &err), SLUICE_OK);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct quantize_result r;
        assert_int_equal(convert(in_path, cases[c].level, 1 + c % 3, &r, &err), SLUICE_OK);
        assert_string_equal(notes, "");
        assert_int_equal(gguf_open(out_path, &out, &err), SLUICE_OK);
        assert_int_equal(r.out_bytes, out->file_bytes);
        assert_int_equal(r.tensor_bytes, out->tensor_bytes);
        assert_int_equal(out->n_kv, in->n_kv);
        uint32_t v = 0;
        assert_int_equal(gguf_get_u32(out, "general.file_type", &v, &err), SLUICE_OK);
        assert_int_equal(v, cases[c].file_type);
        assert_int_equal(gguf_get_u32(out, "general.quantization_version", &v, &err), SLUICE_OK);
        assert_int_equal(v, 2);
        assert_int_equal(out->n_tensors, in->n_tensors);
        for (size_t i = 0; i < in->n_tensors; i++) {
            const struct gguf_tensor *a = &in->tensors[i], *b = &out->tensors[i];
            assert_memory_equal(a->name.s, b->name.s, a->name.n);
            assert_memory_equal(a->dims, b->dims, sizeof a->dims);
            double e = tensor_error(a, b);
            if (e > (b->type == DTYPE_F32 ? 0 : cases[c].error)) {
                fail_msg("%s, %.*s: error %g", cases[c].level, (int)a->name.n, a->name.s, e);
            }
        }
        gguf_close(out);
    }
    gguf_close(in);
}

static void threads_do_not_show(void **state) {
    (void)state;
    make_synthetic(in_path, "tiny-dense", "BF16");
    struct quantize_result r;
    struct gguf_file *a, *b;
    char first[80];
    snprintf(first, sizeof first, "%s.first", out_path);
    assert_int_equal(convert(in_path, "Q4_K_M", 1, &r, NULL), SLUICE_OK);
    rename(out_path, first);
    assert_int_equal(convert(in_path, "Q4_K_M", 4, &r, NULL), SLUICE_OK);
    assert_int_equal(gguf_open(first, &a, NULL), SLUICE_OK);
    assert_int_equal(gguf_open(out_path, &b, NULL), SLUICE_OK);
    assert_int_equal(a->file_bytes, b->file_bytes);
    assert_memory_equal(a->map, b->map, a->file_bytes);
    gguf_close(a);
    gguf_close(b);
    unlink(first);
}

/* Already quantised input is said aloud; the same type is copied bit for bit. */
static void quantised_input(void **state) {
    (void)state;
    make_synthetic(in_path, "tiny-dense", "Q8_0");
    struct quantize_result r;
    struct gguf_file *a, *b;
    assert_int_equal(convert(in_path, "Q4_0", 2, &r, NULL), SLUICE_OK);
    assert_non_null(strstr(notes, "quantized already"));
    assert_int_equal(convert(in_path, "q8_0", 2, &r, NULL), SLUICE_OK);
    assert_string_equal(notes, "");
    assert_int_equal(gguf_open(in_path, &a, NULL), SLUICE_OK);
    assert_int_equal(gguf_open(out_path, &b, NULL), SLUICE_OK);
    assert_int_equal(a->file_bytes, b->file_bytes);
    assert_memory_equal(a->map, b->map, a->file_bytes);
    gguf_close(a);
    gguf_close(b);
    /* in place */
    struct quantize_options o = {.in = in_path, .out = in_path, .mix = mix_by_name("Q6_K"), .n_threads = 1};
    assert_int_equal(quantize_file(&o, &r, NULL), SLUICE_OK);
    assert_int_equal(gguf_open(in_path, &a, NULL), SLUICE_OK);
    assert_int_equal(a->tensors[0].type, DTYPE_Q6_K);
    gguf_close(a);
}

static void write_one(const char *name, uint64_t cols, uint64_t rows, const float *x) {
    struct gguf_writer *w;
    assert_int_equal(gguf_writer_open(in_path, &w, NULL), SLUICE_OK);
    gguf_writer_kv_str(w, "general.architecture", "lfm2", 4);
    gguf_writer_tensor(w, name, DTYPE_F32, 2, (const uint64_t[]){cols, rows});
    assert_int_equal(gguf_writer_data(w, x, cols * rows * sizeof *x, NULL), SLUICE_OK);
    assert_int_equal(gguf_writer_finish(w, NULL), SLUICE_OK);
}

static void rows_that_do_not_fit(void **state) {
    (void)state;
    static float x[96 * 3 + 20 * 3];
    struct quantize_result r;
    struct gguf_file *f;
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++) {
        x[i] = (float)i;
    }
    write_one("blk.0.attn_q.weight", 96, 3, x);
    assert_int_equal(convert(in_path, "Q4_K_M", 1, &r, NULL), SLUICE_OK);
    assert_non_null(strstr(notes, "blk.0.attn_q.weight: rows of 96"));
    assert_non_null(strstr(notes, "becomes Q8_0"));
    assert_int_equal(gguf_open(out_path, &f, NULL), SLUICE_OK);
    assert_int_equal(f->tensors[0].type, DTYPE_Q8_0);
    gguf_close(f);
    write_one("blk.0.attn_q.weight", 20, 3, x);
    assert_int_equal(convert(in_path, "Q8_0", 1, &r, NULL), SLUICE_OK);
    assert_non_null(strstr(notes, "becomes F16"));
    assert_int_equal(gguf_open(out_path, &f, NULL), SLUICE_OK);
    assert_int_equal(f->tensors[0].type, DTYPE_F16);
    gguf_close(f);
}

static void bad_weights_and_files(void **state) {
    (void)state;
    static float x[512];
    struct quantize_result r;
    sluice_error err = {0};
    unlink(out_path);
    x[300] = NAN;
    write_one("blk.0.attn_q.weight", 256, 2, x);
    assert_int_equal(convert(in_path, "Q4_K_M", 2, &r, &err), SLUICE_E_FORMAT);
    assert_non_null(strstr(err.text, "element 300 of tensor blk.0.attn_q.weight"));
    assert_int_equal(access(out_path, F_OK), -1);
    x[300] = 70000;
    write_one("blk.0.attn_q.weight", 256, 2, x);
    assert_int_equal(convert(in_path, "F16", 2, &r, &err), SLUICE_E_FORMAT);
    assert_non_null(strstr(err.text, "choose BF16"));
    assert_int_equal(convert(in_path, "BF16", 2, &r, &err), SLUICE_OK);
    write_one("blk.70000.attn_q.weight", 256, 2, x);
    assert_int_equal(convert(in_path, "BF16", 2, &r, &err), SLUICE_OK); /* no layer number: just a matrix */
    write_one("blk.300.attn_q.weight", 256, 2, x);
    assert_int_equal(convert(in_path, "BF16", 2, &r, &err), SLUICE_E_LIMIT);
    assert_non_null(strstr(err.text, "301 layers; the limit is 256"));
    assert_int_equal(convert("/nonexistent.gguf", "BF16", 2, &r, &err), SLUICE_E_IO);
}

static void out_of_memory_leaks_nothing(void **state) {
    (void)state;
    static float x[512];
    write_one("blk.0.attn_q.weight", 256, 2, x);
    unlink(out_path);
    sluice_status s = SLUICE_E_NOMEM;
    for (long nth = 1; s != SLUICE_OK; nth++) {
        struct quantize_result r;
        sluice_error err = {0};
        mem_fail_nth(nth);
        s = convert(in_path, "Q8_0", 1, &r, &err);
        mem_fail_nth(0);
        if (s != SLUICE_OK) {
            assert_int_equal(s, SLUICE_E_NOMEM);
            assert_int_equal(access(out_path, F_OK), -1);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_types_as_llama_cpp), cmocka_unit_test(rules_of_the_large_model),
        cmocka_unit_test(converts_every_level),    cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(quantised_input),         cmocka_unit_test(rows_that_do_not_fit),
        cmocka_unit_test(bad_weights_and_files),   cmocka_unit_test(out_of_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
