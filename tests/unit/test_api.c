/* sluice.h on a real file: loading, facts, text, one answer. The file is a tiny synthetic model with a vocabulary. */
#include "base/buf.h"
#include "base/mem.h"
#include "engine/model_impl.h"
#include "tools/synth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];
static sluice_model *model;

static int setup(void **state) {
    (void)state;
    snprintf(path, sizeof path, "/tmp/sluice-test-api-%d.gguf", (int)getpid());
    const struct synth_options o = {
        .preset = preset_by_name("tiny-moe"), .mix = mix_by_name("Q4_K_M"), .out = path, .seed = 1, .n_threads = 1};
    struct synth_result result;
    sluice_error err = {0};
    if (synth_file(&o, &result, &err) != SLUICE_OK || sluice_model_load(path, &model, &err) != SLUICE_OK) {
        print_error("%s\n", err.text);
        return -1;
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    sluice_model_free(model);
    unlink(path);
    return 0;
}

/* ---- Model ------------------------------------------------------------------------------------------------- */

static void test_info(void **state) {
    (void)state;
    const sluice_model_info *i = sluice_model_get_info(model);
    const struct preset *p = preset_by_name("tiny-moe");
    assert_string_equal(i->path, path);
    assert_string_equal(i->architecture, "lfm2moe");
    assert_string_equal(i->quantization, "Q4_K_M");
    assert_memory_equal(i->name, p->title, strlen(p->title));
    assert_int_equal(i->n_vocab, p->n_vocab);
    assert_int_equal(i->n_layer, p->n_layer);
    assert_int_equal(i->n_embd, p->n_embd);
    assert_int_equal(i->n_expert, p->n_expert);
    assert_int_equal(i->n_expert_used, p->n_expert_used);
    assert_int_equal(i->n_ctx_train, p->n_ctx);
    assert_true(i->file_bytes > i->tensor_bytes && i->tensor_bytes > 0 && i->n_params > 0);
    assert_true(i->decode_bytes > 0 && i->decode_bytes < i->tensor_bytes);
    assert_int_equal(i->kv_bytes_per_token,
                     4 * (uint64_t)__builtin_popcountll(p->attention) * p->n_head_kv * PRESET_HEAD_DIM);
    assert_true(i->has_tokenizer && i->bos >= 0 && i->eos >= 0);
    assert_true(sluice_token_is_end(model, i->eos) && sluice_token_is_control(model, i->eos));
    assert_false(sluice_token_is_end(model, -1) || sluice_token_is_end(model, (int32_t)i->n_vocab));
}

static void test_load_errors(void **state) {
    (void)state;
    sluice_model *m = NULL;
    sluice_error err = {0};
    assert_int_equal(sluice_model_load("/nowhere/at/all.gguf", &m, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "/nowhere/at/all.gguf"));
    assert_int_equal(sluice_model_load(TEST_DATA "/unit/test_api.c", &m, &err), SLUICE_E_FORMAT);
    assert_null(m);
    sluice_model_free(NULL);
}

static void test_default_path(void **state) {
    (void)state;
    char found[512];
    sluice_error err = {0};
    assert_int_equal(setenv("SLUICE_MODEL", path, 1), 0);
    assert_int_equal(sluice_default_model_path(found, sizeof found, &err), SLUICE_OK);
    assert_string_equal(found, path);
    sluice_model *m;
    assert_int_equal(sluice_model_load(NULL, &m, &err), SLUICE_OK);
    sluice_model_free(m);
    assert_int_equal(sluice_default_model_path(found, 5, &err), SLUICE_E_LIMIT);
    assert_int_equal(setenv("SLUICE_MODEL", "/nowhere.gguf", 1), 0);
    assert_int_equal(sluice_default_model_path(found, sizeof found, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "/nowhere.gguf"));
    assert_int_equal(unsetenv("SLUICE_MODEL"), 0);
    if (sluice_default_model_path(found, sizeof found, &err) != SLUICE_OK) {
        assert_non_null(strstr(err.text, "-m FILE.gguf")); /* says how to name one */
    } else {
        assert_int_equal(access(found, R_OK), 0);
    }
}

static void expect_sampling(const char *name, const char *arch, bool is_25, float temperature, int top_k, float top_p,
                            float min_p, float repetition) {
    sluice_sampling s = sampling_recommended(name, arch, is_25);
    assert_true(s.temperature == temperature && s.top_k == top_k && s.top_p == top_p && s.min_p == min_p &&
                s.repetition_penalty == repetition && s.presence_penalty == 0 && s.frequency_penalty == 0);
}

static void test_recommended(void **state) {
    (void)state;
    expect_sampling("LFM2-8B-A1B", "lfm2moe", false, 0.3f, 0, 1, 0.15f, 1.05f);
    expect_sampling("LFM2 350M", "lfm2", false, 0.3f, 0, 1, 0.15f, 1.05f);
    expect_sampling("LFM2-24B-A2B", "lfm2moe", false, 0.1f, 50, 1, 0, 1.05f);
    expect_sampling("LFM2.5-1.2B-Instruct", "lfm2", true, 0.1f, 50, 0.1f, 0, 1.05f);
    expect_sampling("model", "lfm2", true, 0.1f, 50, 0.1f, 0, 1.05f);
    expect_sampling("LFM2.5-8B-A1B", "lfm2moe", true, 0.2f, 80, 1, 0, 1.05f);
    expect_sampling("LFM2-1.2B-Tool", "lfm2", false, 0, 0, 1, 0, 1);
    expect_sampling("LFM2-1.2B-RAG", "lfm2", false, 0, 0, 1, 0, 1);
    expect_sampling("lfm2-1.2b-extract", "lfm2", false, 0, 0, 1, 0, 1);
    expect_sampling("Toolbox Fragment 24Bit", "lfm2", false, 0.3f, 0, 1, 0.15f, 1.05f);
}

/* ---- Text -------------------------------------------------------------------------------------------------- */

static void test_tokenize(void **state) {
    (void)state;
    static const char text[] = "Hello \u20ac world <|im_end|>";
    size_t n, n_special, n_bos;
    int32_t *ids, *special, *bos;
    assert_int_equal(sluice_tokenize(model, text, strlen(text), 0, &ids, &n, NULL), SLUICE_OK);
    struct buf b = {0};
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *bytes = sluice_token_bytes(model, ids[i], &len);
        buf_append(&b, bytes, len);
        assert_false(sluice_token_is_end(model, ids[i]));
    }
    assert_string_equal(b.data, text);
    buf_free(&b);
    assert_int_equal(sluice_tokenize(model, text, strlen(text), SLUICE_TOK_SPECIAL, &special, &n_special, NULL),
                     SLUICE_OK);
    assert_true(sluice_token_is_end(model, special[n_special - 1]));
    assert_int_equal(sluice_tokenize(model, text, strlen(text), SLUICE_TOK_BOS, &bos, &n_bos, NULL), SLUICE_OK);
    assert_int_equal(n_bos, n + 1);
    assert_int_equal(bos[0], sluice_model_get_info(model)->bos);
    assert_memory_equal(bos + 1, ids, n * sizeof *ids);
    free(ids);
    free(special);
    free(bos);
    assert_int_equal(sluice_tokenize(model, "", 0, 0, &ids, &n, NULL), SLUICE_OK);
    assert_int_equal(n, 0);
    assert_non_null(ids);
    free(ids);
    size_t len = 9;
    assert_non_null(sluice_token_bytes(model, -5, &len));
    assert_int_equal(len, 0);
}

static void test_render(void **state) {
    (void)state;
    const sluice_message messages[] = {{.role = "user", .content = "Hi <|im_end|>", .content_len = 13}};
    const sluice_chat chat = {.messages = messages, .n_messages = 1};
    int32_t *ids;
    size_t n;
    char *text;
    sluice_error err = {0};
    if (sluice_chat_render(model, &chat, &ids, &n, &text, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(ids[0], sluice_model_get_info(model)->bos);
    size_t ends = 0;
    for (size_t i = 0; i < n; i++) {
        ends += sluice_token_is_end(model, ids[i]);
    }
    assert_int_equal(ends, 1); /* the turn's own; the user's is text */
    assert_non_null(strstr(text, "<|im_start|>assistant\n"));
    free(text);
    int32_t *only;
    size_t n_only;
    assert_int_equal(sluice_chat_render(model, &chat, &only, &n_only, NULL, NULL), SLUICE_OK);
    assert_int_equal(n, n_only);
    assert_memory_equal(ids, only, n * sizeof *ids);
    assert_int_equal(sluice_chat_render(model, &chat, NULL, NULL, &text, NULL), SLUICE_OK);
    free(text);
    free(ids);
    free(only);
}

/* Copies the model's file without its tokenizer. */
static void write_without_vocabulary(const char *to) {
    struct gguf_file *file;
    struct gguf_writer *w;
    assert_int_equal(gguf_open(path, &file, NULL), SLUICE_OK);
    assert_int_equal(gguf_writer_open(to, &w, NULL), SLUICE_OK);
    for (size_t i = 0; i < file->n_kv; i++) {
        if (file->kv[i].key.n < 10 || memcmp(file->kv[i].key.s, "tokenizer.", 10) != 0) {
            gguf_writer_kv_copy(w, &file->kv[i]);
        }
    }
    for (size_t i = 0; i < file->n_tensors; i++) {
        const struct gguf_tensor *t = &file->tensors[i];
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
        gguf_writer_tensor(w, name, t->type, t->n_dims, t->dims);
    }
    for (size_t i = 0; i < file->n_tensors; i++) {
        assert_int_equal(gguf_writer_data(w, file->tensors[i].data, file->tensors[i].n_bytes, NULL), SLUICE_OK);
    }
    assert_int_equal(gguf_writer_finish(w, NULL), SLUICE_OK);
    gguf_close(file);
}

static void test_no_vocabulary(void **state) {
    (void)state;
    sluice_model *m;
    sluice_error err = {0};
    char bare[80];
    snprintf(bare, sizeof bare, "%s.bare", path);
    write_without_vocabulary(bare);
    sluice_status status = sluice_model_load(bare, &m, &err);
    unlink(bare);
    if (status != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    assert_false(sluice_model_get_info(m)->has_tokenizer);
    assert_string_equal(sluice_model_get_info(m)->chat_family, "none");
    int32_t *ids;
    size_t n, len;
    assert_int_equal(sluice_tokenize(m, "a", 1, 0, &ids, &n, &err), SLUICE_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "no vocabulary"));
    assert_string_equal(sluice_token_bytes(m, 5, &len), "");
    sluice_model_free(m);
}

/* ---- One answer, and every allocation failing on the way to it ---------------------------------------------- */

static sluice_status answer(sluice_model *m, struct buf *text, struct buf *bytes, sluice_error *err) {
    sluice_engine_options eo = sluice_engine_options_default();
    eo.n_slots = 1;
    eo.ctx_per_slot = 256;
    eo.n_threads = 1;
    sluice_engine *e = NULL;
    sluice_request *r = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    const sluice_message messages[] = {{.role = "user", .content = "Hello", .content_len = 5}};
    const sluice_chat chat = {.messages = messages, .n_messages = 1};
    sluice_status status = sluice_chat_render(m, &chat, &ids, &n, NULL, err);
    if (status == SLUICE_OK) {
        status = sluice_engine_create(m, &eo, &e, err);
    }
    if (status == SLUICE_OK) {
        sluice_request_options o = sluice_request_options_default(m);
        o.tokens = ids;
        o.n_tokens = n;
        o.max_tokens = 12;
        o.ignore_eos = true;
        o.keep_control = true;
        o.sampling.temperature = 0;
        status = sluice_request_submit(e, &o, &r, err);
    }
    sluice_event event;
    while (status == SLUICE_OK && sluice_request_wait(r, &event, 30000) == SLUICE_EVENT_TOKEN) {
        size_t len;
        const char *written = sluice_token_bytes(m, event.token, &len);
        buf_append(text, event.text, event.text_len);
        buf_append(bytes, written, len);
    }
    if (status == SLUICE_OK && event.kind != SLUICE_EVENT_DONE) {
        *err = event.error;
        status = event.kind == SLUICE_EVENT_ERROR ? event.error.status : SLUICE_E_BACKEND;
    }
    free(ids);
    sluice_request_free(r);
    sluice_engine_free(e);
    return status;
}

static void test_answer(void **state) {
    (void)state;
    struct buf text[2] = {{0}}, bytes = {0}, ignored = {0};
    sluice_error err = {0};
    for (int i = 0; i < 2; i++) {
        if (answer(model, &text[i], i ? &ignored : &bytes, &err) != SLUICE_OK) {
            fail_msg("%s", err.text);
        }
    }
    assert_int_equal(text[0].len, text[1].len);
    assert_memory_equal(text[0].data, text[1].data, text[0].len);
    assert_true(bytes.len > 0);
    buf_free(&text[0]);
    buf_free(&text[1]);
    buf_free(&bytes);
    buf_free(&ignored);
}

static void test_allocation_failures(void **state) {
    (void)state;
    uint32_t failures = 0;
    uint64_t before = mem_count();
    struct buf text = {0}, bytes = {0};
    sluice_model *m = NULL;
    sluice_error err = {0};
    assert_int_equal(sluice_model_load(path, &m, &err), SLUICE_OK);
    sluice_model_free(m);
    uint64_t in_load = mem_count() - before;
    for (uint64_t nth = 1; nth <= in_load + 400; nth += 1 + nth / 64) { /* every early one, then a sample */
        m = NULL;
        err = (sluice_error){0};
        mem_fail_nth((long)nth);
        sluice_status status = sluice_model_load(path, &m, &err);
        if (status == SLUICE_OK) {
            status = answer(m, &text, &bytes, &err);
        }
        mem_fail_nth(0);
        sluice_model_free(m);
        bool in_test = text.failed || bytes.failed;
        buf_free(&text);
        buf_free(&bytes);
        if (status != SLUICE_OK) {
            failures++;
            if (status != SLUICE_E_NOMEM && status != SLUICE_E_BACKEND) {
                fail_msg("allocation %llu: %s (%s)", (unsigned long long)nth, err.text, sluice_status_name(status));
            }
        } else if (nth > in_load && !in_test) {
            break;
        }
    }
    assert_true(failures > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_load_errors),
        cmocka_unit_test(test_default_path),
        cmocka_unit_test(test_recommended),
        cmocka_unit_test(test_tokenize),
        cmocka_unit_test(test_render),
        cmocka_unit_test(test_no_vocabulary),
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
