/* `sluice inspect`: sums per group, and what the text and the JSON say. */
#include "base/mem.h"
#include "tools/inspect.h"
#include "tools/synth.h"

#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "test_gguf_support.h"

/* The large model's tensor table over made-up data: only names, types and shapes matter here. */
static struct gguf_file *large_model(struct buf *header) {
    const struct preset *p = preset_by_name("8b-a1b");
    static const bool attention[24] = {[2] = true, [6] = true, [10] = true, [14] = true, [18] = true, [21] = true};
    const struct mix_model model = {.n_layer = 24, .n_attn = 6, .has_attn_v = attention};
    put_header(header, 3, 0, 3);
    put_key(header, "general.architecture", GGUF_STRING);
    put_str(header, "lfm2moe");
    put_key(header, "lfm2moe.expert_used_count", GGUF_U32);
    put_u32(header, 4);
    put_key(header, "general.file_type", GGUF_U32);
    put_u32(header, 15);
    struct gguf_file *f;
    assert_int_equal(gguf_open_memory(header->data, header->len, "large.gguf", &f, NULL), SLUICE_OK);
    static struct preset_tensor described[256];
    static struct gguf_tensor tensors[256];
    f->n_tensors = preset_n_tensors(p);
    assert_int_equal(f->n_tensors, 256);
    for (size_t i = 0; i < 256; i++) {
        struct preset_tensor *d = &described[i];
        preset_tensor(p, i, d);
        struct mix_tensor view = {d->name, strlen(d->name), d->dims[0], d->n_dims};
        bool fallback;
        struct gguf_tensor *t = &tensors[i];
        *t = (struct gguf_tensor){.name = {d->name, strlen(d->name)}, .n_dims = d->n_dims};
        t->type = mix_choose(mix_by_name("Q4_K_M"), &model, &view, &fallback);
        t->n_elems = d->dims[0] * d->dims[1] * d->dims[2];
        t->n_bytes = dtype_row_bytes(dtype_get(t->type), t->n_elems);
        memcpy(t->dims, (uint64_t[]){d->dims[0], d->dims[1], d->dims[2], 1}, sizeof t->dims);
        f->tensor_bytes += t->n_bytes;
    }
    mem_free(f->tensors);
    f->tensors = tensors;
    return f;
}

static void close_large_model(struct gguf_file *f) {
    f->tensors = NULL;
    f->n_tensors = 0;
    gguf_close(f);
}

static double mb(const struct inspect_sums *s, enum inspect_group g) {
    double sum = 0;
    for (int t = 0; t < INSPECT_TYPES; t++) {
        sum += (double)s->read[g][t] / 1e6;
    }
    return sum;
}

static void assert_mb(double got, double want) {
    if (got < want - 0.06 || got > want + 0.06) {
        fail_msg("%g MB instead of %g", got, want);
    }
}

static void bytes_per_token_of_the_large_model(void **state) {
    (void)state;
    struct buf header = {0};
    struct gguf_file *f = large_model(&header);
    struct inspect_sums s;
    inspect_sum(f, &s);
    assert_int_equal(s.n_weights, 8339930560);
    assert_int_equal(s.tensors[DTYPE_Q4_K], 118);
    assert_mb(mb(&s, GROUP_EXPERTS_GATE_UP), 363.3);
    assert_mb(mb(&s, GROUP_EXPERTS_DOWN), 219.5);
    assert_mb(mb(&s, GROUP_CONV_IN), 127.4);
    assert_mb(mb(&s, GROUP_CONV_OUT), 42.5);
    assert_mb(mb(&s, GROUP_HEAD), 110.1);
    assert_mb(mb(&s, GROUP_DENSE_GATE_UP), 33.0);
    assert_mb(mb(&s, GROUP_DENSE_DOWN), 24.1);
    assert_mb(mb(&s, GROUP_ATTENTION_QKO), 31.9);
    assert_mb(mb(&s, GROUP_ATTENTION_V), 4.1);
    assert_mb(mb(&s, GROUP_ROUTER), 5.8);
    assert_mb(mb(&s, GROUP_NORMS), 0.85);
    assert_mb(mb(&s, GROUP_OTHER), 0);
    assert_mb((double)s.read_total / 1e6, 962.5);
    assert_int_equal(s.kv_bytes, 12288);
    struct buf text = {0};
    inspect_text(f, INSPECT_SUMMARY, &text);
    assert_non_null(strstr(text.data, "8339930560 weights in 256 tensors, 5042386688 bytes, 4.84 bits per weight"));
    assert_non_null(strstr(text.data, "Q4_K_M"));
    assert_non_null(strstr(text.data, "962.48"));
    buf_free(&text);
    close_large_model(f);
    buf_free(&header);
}

/* With an output.weight the embedding is a table of which one row is read. */
static void untied_embedding(void **state) {
    (void)state;
    struct buf b = {0};
    put_header(&b, 3, 2, 0);
    put_tensor(&b, "token_embd.weight", DTYPE_F32, 4, 8, 0);
    put_tensor(&b, "output.weight", DTYPE_F32, 4, 8, 128);
    put_padding(&b, 32);
    put_data(&b, 256);
    struct gguf_file *f;
    assert_int_equal(gguf_open_memory(b.data, b.len, "x", &f, NULL), SLUICE_OK);
    struct inspect_sums s;
    inspect_sum(f, &s);
    assert_int_equal(s.read_total, 128);
    assert_int_equal(s.read[GROUP_HEAD][DTYPE_F32], 128);
    gguf_close(f);
    buf_free(&b);
}

static struct json_object *field(struct json_object *o, const char *key) {
    struct json_object *v = NULL;
    assert_true(json_object_object_get_ex(o, key, &v));
    return v;
}

static void json_has_everything(void **state) {
    (void)state;
    char path[] = "/tmp/sluice-test-XXXXXX";
    close(mkstemp(path));
    struct synth_options o = {
        .preset = preset_by_name("tiny-moe"), .mix = mix_by_name("Q4_K_M"), .out = path, .seed = 1, .n_threads = 1};
    struct synth_result r;
    assert_int_equal(synth_file(&o, &r, NULL), SLUICE_OK);
    struct gguf_file *f;
    assert_int_equal(gguf_open(path, &f, NULL), SLUICE_OK);
    struct buf b = {0};
    inspect_json(f, &b);
    struct json_object *j = json_tokener_parse(b.data);
    assert_non_null(j);
    assert_int_equal(json_object_get_int64(field(j, "tensor_bytes")), r.tensor_bytes);
    assert_int_equal(json_object_get_int64(field(j, "n_params")), r.n_weights);
    assert_string_equal(json_object_get_string(field(j, "quantization")), "Q4_K_M");
    assert_int_equal(json_object_array_length(field(j, "tensors")), f->n_tensors);
    struct json_object *t = json_object_array_get_idx(field(j, "tensors"), 0);
    assert_string_equal(json_object_get_string(field(t, "name")), "token_embd.weight");
    assert_string_equal(json_object_get_string(field(t, "type")), "Q6_K");
    assert_int_equal(json_object_get_int64(json_object_array_get_idx(field(t, "shape"), 1)), 2048);
    assert_int_equal(json_object_get_int64(field(t, "offset")), f->data_offset);
    struct json_object *m = field(j, "metadata");
    assert_int_equal(json_object_get_int64(field(m, "lfm2moe.block_count")), 6);
    assert_int_equal(json_object_array_length(field(m, "lfm2moe.attention.head_count_kv")), 6);
    assert_int_equal(json_object_get_int64(field(field(m, "tokenizer.ggml.tokens"), "n")), 2048);
    int64_t groups = 0;
    struct json_object *rows = field(field(j, "decode"), "groups");
    for (size_t i = 0; i < json_object_array_length(rows); i++) {
        groups += json_object_get_int64(field(json_object_array_get_idx(rows, i), "bytes"));
    }
    assert_int_equal(groups, json_object_get_int64(field(field(j, "decode"), "bytes")));
    json_object_put(j);
    buf_free(&b);
    inspect_text(f, INSPECT_METADATA | INSPECT_TENSORS | INSPECT_SUMMARY, &b);
    assert_false(b.failed);
    assert_non_null(strstr(b.data, "blk.5.ffn_down_exps.weight"));
    assert_non_null(strstr(b.data, "{256, 256, 4}"));
    assert_non_null(strstr(b.data, "2048 elements"));
    buf_free(&b);
    gguf_close(f);
    unlink(path);
}

/* Odd but valid files: every value kind, strings that are not text, cut inside no UTF-8 sequence. */
static void odd_values_are_printable(void **state) {
    (void)state;
    struct buf b = {0};
    put_header(&b, 3, 0, 6);
    put_key(&b, "s", GGUF_STRING);
    put_str(&b, "\x1B[31m\xFF \"quoted\"\n");
    put_key(&b, "long", GGUF_STRING);
    char text[200];
    memset(text, 'x', sizeof text);
    for (size_t i = 71; i + 1 < sizeof text; i += 2) {
        memcpy(text + i, "\xC3\xA9", 2);
    }
    text[sizeof text - 1] = '\0';
    put_str(&b, text);
    put_key(&b, "u64", GGUF_U64);
    put_u64(&b, UINT64_MAX);
    put_key(&b, "nan", GGUF_F32);
    put_u32(&b, 0x7FC00000);
    put_key(&b, "general.architecture", GGUF_U8);
    put_u8(&b, 3);
    put_key(&b, "general.file_type", GGUF_F64);
    put_u64(&b, 0x7FF0000000000000);
    struct gguf_file *f;
    assert_int_equal(gguf_open_memory(b.data, b.len, "x", &f, NULL), SLUICE_OK);
    struct buf out = {0};
    inspect_json(f, &out);
    struct json_object *j = json_tokener_parse(out.data);
    assert_non_null(j);
    assert_non_null(strstr(out.data, "18446744073709551615"));
    json_object_put(j);
    buf_free(&out);
    inspect_text(f, INSPECT_METADATA, &out);
    assert_null(strchr(out.data, '\x1B'));
    assert_null(strstr(out.data, "\xEF\xBF\xBD..."));
    assert_non_null(strstr(out.data, "(199 bytes)"));
    buf_free(&out);
    gguf_close(f);
    buf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_per_token_of_the_large_model),
        cmocka_unit_test(untied_embedding),
        cmocka_unit_test(json_has_everything),
        cmocka_unit_test(odd_values_are_printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
