/* The tokenizer against llama.cpp's ids, its special-token rules, and vocabularies that are wrong. */
#include "test_tokenizer_support.h"

#include "text/tokenizer_impl.h"

#include <json-c/json.h>
#include <pthread.h>

static void check_ids(const struct tokenizer *t, const char *s, size_t n, bool special, const char *want) {
    struct token_vec got = encode(t, s, n, special);
    if (strcmp(show_ids(got.ids, got.n), want) != 0) {
        fail_msg("'%.*s' special=%d: got %s, want %s", (int)n, s, special, show_ids(got.ids, got.n), want);
    }
    token_vec_free(&got);
}

static void check_round_trip(const struct tokenizer *t, const char *s, size_t n) {
    for (int special = 0; special < 2; special++) {
        struct token_vec ids = encode(t, s, n, special);
        struct buf back = decode(t, &ids);
        assert_int_equal(back.len, n);
        assert_memory_equal(back.data, s, n);
        buf_free(&back);
        token_vec_free(&ids);
    }
}

static void check_vector(const struct tokenizer *t, const char *s, size_t n, json_object *want, bool special) {
    struct token_vec got = {0};
    if (special) {
        assert_int_equal(token_vec_push(&got, tokenizer_bos(t), NULL), SLUICE_OK);
    }
    assert_int_equal(tokenizer_encode(t, s, n, special, &got, NULL), SLUICE_OK);
    bool same = got.n == json_object_array_length(want);
    for (size_t i = 0; same && i < got.n; i++) {
        same = json_object_get_int(json_object_array_get_idx(want, i)) == got.ids[i];
    }
    if (!same) {
        fail_msg("'%.*s' special=%d: got %s, want %s", (int)n, s, special, show_ids(got.ids, got.n),
                 json_object_to_json_string(want));
    }
    token_vec_free(&got);
}

static void golden_vectors(void **state) {
    (void)state;
    struct tokenizer *t = load_golden();
    FILE *f = fopen(DATA("tok_vectors.jsonl"), "r");
    assert_non_null(f);
    char *line = NULL;
    size_t cap = 0, n_vectors = 0;
    while (getline(&line, &cap, f) > 0) {
        json_object *o = json_tokener_parse(line);
        assert_non_null(o);
        json_object *text = json_object_object_get(o, "text");
        const char *s = json_object_get_string(text);
        size_t n = (size_t)json_object_get_string_len(text);
        check_vector(t, s, n, json_object_object_get(o, "with_special_and_bos"), true);
        check_vector(t, s, n, json_object_object_get(o, "plain"), false);
        check_round_trip(t, s, n);
        json_object_put(o);
        n_vectors++;
    }
    assert_int_equal(n_vectors, 169);
    free(line);
    fclose(f);
    tokenizer_free(t);
}

static void facts(void **state) {
    (void)state;
    struct tokenizer *t = load_golden();
    assert_int_equal(tokenizer_n_vocab(t), 3328);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 7);
    assert_true(tokenizer_add_bos(t));
    assert_int_equal(tokenizer_find(t, "<|im_start|>"), 6);
    assert_int_equal(tokenizer_find(t, "python"), 3275);
    assert_int_equal(tokenizer_find(t, "\n"), 24);
    assert_int_equal(tokenizer_find(t, " Reykjavik"), 3272);
    assert_int_equal(tokenizer_find(t, "<|no such|>"), -1);
    assert_int_equal(tokenizer_find(t, ""), -1);
    assert_true(tokenizer_is_end(t, 7) && tokenizer_is_end(t, 2));
    assert_false(tokenizer_is_end(t, 6) || tokenizer_is_end(t, -1) || tokenizer_is_end(t, 1 << 30));
    assert_int_equal(tokenizer_kind(t, 7), TOKEN_CONTROL);
    assert_int_equal(tokenizer_kind(t, 111), TOKEN_NORMAL);
    assert_int_equal(tokenizer_kind(t, 3274), TOKEN_USER_DEFINED);
    assert_int_equal(tokenizer_kind(t, 3327), TOKEN_UNUSED);
    assert_int_equal(tokenizer_kind(t, 3328), TOKEN_UNUSED);
    assert_int_equal(tokenizer_kind(t, -1), TOKEN_UNUSED);
    size_t n = 1;
    assert_memory_equal(tokenizer_bytes(t, 10, &n), "<|tool_call_start|>", 19);
    assert_int_equal(n, 19);
    assert_non_null(tokenizer_bytes(t, 3300, &n));
    assert_int_equal(n, 0);
    assert_non_null(tokenizer_bytes(t, 3328, &n));
    assert_int_equal(n, 0);
    tokenizer_free(t);
}

/* Bytes that are not UTF-8, and what stands beside them. */
static void invalid_utf8(void **state) {
    (void)state;
    static const struct {
        const char *s;
        size_t n;
    } texts[] = {
        {"\x80", 1},
        {"\xFF\xFE\xFD", 3},
        {"a\xC3", 2},
        {"a\xE2\x82z", 4},
        {"\xF0\x9F\x98", 3},
        {"\xED\xA0\x80", 3},
        {"\xC0\x80 x", 4},
        {"\xF4\x90\x80\x80", 4},
        {"nul\0inside\0", 11},
        {"\0", 1},
        {"  \xFF  <|im_end|>\xFF python \xFF", 25},
        {"<|im_start|>\xE2<|im_end|>\x82", 24},
        {"\xEF\xBB\xBFx", 4},
    };
    struct tokenizer *t = load_golden();
    for (size_t i = 0; i < N_OF(texts); i++) {
        check_round_trip(t, texts[i].s, texts[i].n);
    }
    uint64_t seed = 7;
    for (int round = 0; round < 2000; round++) {
        char s[64];
        size_t n = next_random(&seed) % sizeof s;
        for (size_t i = 0; i < n; i++) {
            s[i] = (char)next_random(&seed);
        }
        check_round_trip(t, s, n);
    }
    tokenizer_free(t);
}

/* ---- Special tokens ------------------------------------------------------------------------------------------ */

enum { START, END, ABC, BCDEF, AB, TOOL, WORD, RESERVED, FIRST_BYTE };

static struct tokenizer *special_vocab(void) {
    struct vocab v = {0};
    vocab_add(&v, "<|startoftext|>", TOKEN_CONTROL);
    vocab_add(&v, "<|im_end|>", TOKEN_NORMAL); /* an end token whatever the file says */
    vocab_add(&v, "abc", TOKEN_USER_DEFINED);
    vocab_add(&v, "bcdef", TOKEN_USER_DEFINED);
    vocab_add(&v, "ab", TOKEN_USER_DEFINED);
    vocab_add(&v, "<|tool_call_start|>", TOKEN_USER_DEFINED);
    vocab_add(&v, "SYSTEM", TOKEN_CONTROL);
    vocab_add(&v, "zz", TOKEN_UNUSED);
    assert_int_equal(v.n, FIRST_BYTE);
    vocab_add_bytes(&v);
    return load_vocab(&v, NULL, 0);
}

static void check_mode(const struct tokenizer *t, enum encode_mode mode, const char *s, const char *want) {
    struct token_vec got = {0};
    assert_int_equal(tokenizer_encode_mode(t, s, strlen(s), mode, &got, NULL), SLUICE_OK);
    assert_string_equal(show_ids(got.ids, got.n), want);
    token_vec_free(&got);
}

/* "a" as the byte token it has in special_vocab. */
#define BYTE(c) (FIRST_BYTE + (c))

static void special_order(void **state) {
    (void)state;
    struct tokenizer *t = special_vocab();
    char want[256];
    /* bcdef is longer than abc, so it cuts first although abc starts further left. */
    snprintf(want, sizeof want, "%d %d", BYTE('a'), BCDEF);
    check_mode(t, ENCODE_PLAIN, "abcdef", want);
    snprintf(want, sizeof want, "%d %d", ABC, BYTE('d'));
    check_mode(t, ENCODE_PLAIN, "abcd", want);
    snprintf(want, sizeof want, "%d %d %d", ABC, AB, ABC);
    check_mode(t, ENCODE_PLAIN, "abcababc", want);
    snprintf(want, sizeof want, "%d %d %d %d", BYTE('x'), ABC, BYTE('a'), BCDEF);
    check_mode(t, ENCODE_SPECIAL, "xabcabcdef", want);
    tokenizer_free(t);
}

static void special_modes(void **state) {
    (void)state;
    struct tokenizer *t = special_vocab();
    char want[512];
    assert_int_equal(tokenizer_kind(t, END), TOKEN_CONTROL);
    assert_true(tokenizer_is_end(t, END));
    snprintf(want, sizeof want, "%d %d %d", START, TOOL, END);
    check_mode(t, ENCODE_SPECIAL, "<|startoftext|><|tool_call_start|><|im_end|>", want);
    check_mode(t, ENCODE_PLAIN, "<|tool_call_start|>", "5");
    check_mode(t, ENCODE_SPECIAL, "SYSTEM", "6");
    /* Plain text never gives a control or an unused token, not even as a whole word. */
    static const char *const texts[] = {"SYSTEM", "zz", "<|im_end|>", "<|startoftext|>"};
    for (size_t i = 0; i < N_OF(texts); i++) {
        size_t len = 0;
        for (const char *p = texts[i]; *p; p++) {
            len += (size_t)snprintf(want + len, sizeof want - len, len ? " %d" : "%d", BYTE(*p));
        }
        check_mode(t, ENCODE_PLAIN, texts[i], want);
        check_mode(t, ENCODE_CONTENT, texts[i], want);
    }
    /* A chat marker that a file calls user-defined stays text in messages; other user-defined tokens do not. */
    struct token_vec got = {0};
    assert_int_equal(tokenizer_encode_mode(t, "abc<|tool_call_start|>", 22, ENCODE_CONTENT, &got, NULL), SLUICE_OK);
    assert_int_equal(got.ids[0], ABC);
    for (size_t i = 1; i < got.n; i++) {
        assert_int_not_equal(got.ids[i], TOOL);
    }
    token_vec_free(&got);
    tokenizer_free(t);
}

/* One special token of each length at every place: sorting and overlap marking must not be quadratic. */
static void special_flood(void **state) {
    (void)state;
    struct vocab v = {0};
    char text[20][24];
    for (int i = 0; i < 20; i++) {
        memset(text[i], '<', (size_t)i + 1);
        text[i][i + 1] = '\0';
        vocab_add(&v, text[i], TOKEN_USER_DEFINED);
    }
    vocab_add_bytes(&v);
    struct tokenizer *t = load_vocab(&v, NULL, 0);
    size_t n = 200003;
    char *s = malloc(n);
    memset(s, '<', n);
    struct token_vec got = encode(t, s, n, false);
    assert_int_equal(got.n, n / 20 + 1);
    assert_int_equal(got.ids[0], 19);
    assert_int_equal(got.ids[got.n - 1], n % 20 - 1);
    token_vec_free(&got);
    free(s);
    tokenizer_free(t);
}

/* ---- Vocabularies that are wrong ----------------------------------------------------------------------------- */

static void expect_load(struct builder *b, sluice_status want, const char *word) {
    struct gguf_file *file = build_file(b);
    struct tokenizer *t = NULL;
    sluice_error err = {0};
    sluice_status status = tokenizer_load(file, &t, &err);
    if (status != want || (word && !strstr(err.text, word))) {
        fail_msg("got %s '%s', want %s with '%s'", sluice_status_name(status), err.text, sluice_status_name(want),
                 word ? word : "");
    }
    if (status == SLUICE_OK) {
        tokenizer_free(t);
    } else {
        assert_null(t);
    }
    gguf_close(file);
    builder_free(b);
}

struct parts { /* what to put into a small vocabulary; NULL name = leave the entry out */
    const char *model, *pre;
    size_t n_types;
    bool tokens, merges;
};

static struct builder small_file(struct parts p) {
    static const char *const tokens[] = {"a", "b", "ab"};
    static const int32_t kinds[] = {1, 1, 1, 1};
    static const char *const merges[] = {"a b"};
    struct builder b = {0};
    if (p.model) {
        add_str(&b, "tokenizer.ggml.model", p.model);
    }
    if (p.pre) {
        add_str(&b, "tokenizer.ggml.pre", p.pre);
    }
    if (p.tokens) {
        add_strs(&b, "tokenizer.ggml.tokens", tokens, 3);
    }
    if (p.n_types) {
        add_i32s(&b, "tokenizer.ggml.token_type", kinds, p.n_types);
    }
    if (p.merges) {
        add_strs(&b, "tokenizer.ggml.merges", merges, 1);
    }
    return b;
}

static void wrong_files(void **state) {
    (void)state;
    static const struct {
        struct parts parts;
        sluice_status status;
        const char *word;
    } cases[] = {
        {{"gpt2", "lfm2", 3, true, true}, SLUICE_OK, NULL},
        {{"gpt2", "llama-bpe", 0, true, true}, SLUICE_OK, NULL},
        {{"gpt2", "llama3", 4, true, true}, SLUICE_OK, NULL},
        {{"llama", "lfm2", 3, true, true}, SLUICE_E_UNSUPPORTED, "llama"},
        {{"gpt2", "qwen2", 3, true, true}, SLUICE_E_UNSUPPORTED, "qwen2"},
        {{"gpt2", "a\nb\x01", 3, true, true}, SLUICE_E_UNSUPPORTED, "a?b?"},
        {{NULL, "lfm2", 3, true, true}, SLUICE_E_FORMAT, "tokenizer.ggml.model"},
        {{"gpt2", NULL, 3, true, true}, SLUICE_E_FORMAT, "tokenizer.ggml.pre"},
        {{"gpt2", "lfm2", 3, false, true}, SLUICE_E_FORMAT, "tokenizer.ggml.tokens"},
        {{"gpt2", "lfm2", 3, true, false}, SLUICE_E_FORMAT, "tokenizer.ggml.merges"},
        {{"gpt2", "lfm2", 2, true, true}, SLUICE_E_FORMAT, "2 entries for 3 tokens"},
    };
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct builder b = small_file(cases[i].parts);
        expect_load(&b, cases[i].status, cases[i].word);
    }
}

static void wrong_entries(void **state) {
    (void)state;
    struct parts names = {"gpt2", "lfm2", 0, false, false}, all = {"gpt2", "lfm2", 0, true, true};
    static const char *const twice[] = {"a", "b\xFF", "c", "b\xFF"};
    static const char *const odd[] = {"", "", "\xFF\xFE", "a b", "\xE6\x97\xA5", "<0x41>", "<0xZZ>", "a"};
    static const int32_t odd_kinds[] = {1, 3, 1, 1, 1, 6, 6, 0};
    static const int32_t bad_kinds[] = {1, 7, 1}, negative[] = {1, -1, 1};
    static const char *const odd_merges[] = {"", "x", " ", "a ", " a", "a  b", "\xFF \xFE", "a \xE6\x97\xA5", "a q"};
    struct builder b = small_file(names);
    add_strs(&b, "tokenizer.ggml.tokens", twice, 4);
    add_strs(&b, "tokenizer.ggml.merges", NULL, 0);
    expect_load(&b, SLUICE_E_FORMAT, "'b?' is there twice, as 1 and as 3");
    b = small_file(names);
    add_strs(&b, "tokenizer.ggml.tokens", odd, N_OF(odd));
    add_i32s(&b, "tokenizer.ggml.token_type", odd_kinds, N_OF(odd_kinds));
    add_strs(&b, "tokenizer.ggml.merges", odd_merges, N_OF(odd_merges));
    expect_load(&b, SLUICE_OK, NULL);
    b = small_file(names);
    add_strs(&b, "tokenizer.ggml.tokens", NULL, 0);
    add_strs(&b, "tokenizer.ggml.merges", NULL, 0);
    expect_load(&b, SLUICE_E_FORMAT, "has 0 entries");
    b = small_file(names);
    add_i32s(&b, "tokenizer.ggml.tokens", bad_kinds, 3);
    add_strs(&b, "tokenizer.ggml.merges", NULL, 0);
    expect_load(&b, SLUICE_E_FORMAT, "not an array of strings");
    b = small_file(names);
    add_str(&b, "tokenizer.ggml.tokens", "abc");
    add_strs(&b, "tokenizer.ggml.merges", NULL, 0);
    expect_load(&b, SLUICE_E_FORMAT, "not an array of strings");
    b = small_file(all);
    add_strs(&b, "tokenizer.ggml.token_type", twice, 3);
    expect_load(&b, SLUICE_E_FORMAT, "not an array of integers");
    b = small_file(all);
    add_i32s(&b, "tokenizer.ggml.token_type", bad_kinds, 3);
    expect_load(&b, SLUICE_E_FORMAT, "of token 1 is 7");
    b = small_file(all);
    add_i32s(&b, "tokenizer.ggml.token_type", negative, 3);
    expect_load(&b, SLUICE_E_FORMAT, "of token 1 is -1");
    b = small_file(all);
    add_str(&b, "tokenizer.ggml.bos_token_id", "1");
    expect_load(&b, SLUICE_E_FORMAT, "bos_token_id");
    b = small_file(all);
    add_u32(&b, "tokenizer.ggml.add_bos_token", 1);
    expect_load(&b, SLUICE_E_FORMAT, "add_bos_token");
}

static void ids_out_of_range(void **state) {
    (void)state;
    struct builder b = small_file((struct parts){"gpt2", "lfm2", 3, true, true});
    add_u32(&b, "tokenizer.ggml.bos_token_id", 3);
    add_u32(&b, "tokenizer.ggml.eos_token_id", 0xFFFFFFFF);
    struct gguf_file *file = build_file(&b);
    struct tokenizer *t = load_file(file);
    assert_int_equal(tokenizer_bos(t), -1);
    assert_int_equal(tokenizer_eos(t), -1);
    assert_false(tokenizer_add_bos(t));
    tokenizer_free(t);
    gguf_close(file);
    builder_free(&b);
}

/* A byte without a token: the unknown token if there is one, else an error. Never silence. */
static void missing_bytes(void **state) {
    (void)state;
    struct builder b = small_file((struct parts){"gpt2", "lfm2", 3, true, true});
    struct gguf_file *file = build_file(&b);
    struct tokenizer *t = load_file(file);
    struct token_vec out = {0};
    sluice_error err = {0};
    assert_int_equal(tokenizer_encode(t, "ab", 2, false, &out, &err), SLUICE_OK);
    assert_int_equal(out.n, 1);
    assert_int_equal(tokenizer_encode(t, "ab abz", 6, false, &out, &err), SLUICE_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "byte 0x20"));
    assert_int_equal(out.n, 1); /* a failed call appends nothing */
    token_vec_free(&out);
    tokenizer_free(t);
    gguf_close(file);
    builder_free(&b);

    b = small_file((struct parts){"gpt2", "lfm2", 3, true, true});
    add_u32(&b, "tokenizer.ggml.unknown_token_id", 1);
    file = build_file(&b);
    t = load_file(file);
    check_ids(t, "abzz", 4, false, "2 1 1");
    tokenizer_free(t);
    gguf_close(file);
    builder_free(&b);
}

static void odd_tokens(void **state) {
    (void)state;
    static const char *const tokens[] = {"<0x41>", "a b", "\xE6\x97\xA5", "\xC4\xA0x", "[X]"};
    static const int32_t kinds[] = {6, 1, 1, 1, 2};
    struct builder b = small_file((struct parts){"gpt2", "lfm2", 0, false, true});
    add_strs(&b, "tokenizer.ggml.tokens", tokens, 5);
    add_i32s(&b, "tokenizer.ggml.token_type", kinds, 5);
    struct gguf_file *file = build_file(&b);
    struct tokenizer *t = load_file(file);
    static const char *const bytes[] = {"A", "a b", "\xE6\x97\xA5", " x", "[X]"};
    for (int32_t id = 0; id < 5; id++) {
        size_t n = 0;
        const char *got = tokenizer_bytes(t, id, &n);
        assert_int_equal(n, strlen(bytes[id]));
        assert_memory_equal(got, bytes[id], n);
    }
    /* Only texts in the byte alphabet can come out of ordinary text. */
    struct token_vec out = {0};
    assert_int_equal(tokenizer_encode(t, bytes[2], 3, false, &out, NULL), SLUICE_E_UNSUPPORTED);
    check_ids(t, " x", 2, false, "3");
    check_ids(t, "[X]", 3, true, "4");
    token_vec_free(&out);
    tokenizer_free(t);
    gguf_close(file);
    builder_free(&b);
}

/* ---- Threads ------------------------------------------------------------------------------------------------- */

struct shared {
    const struct tokenizer *t;
    const char *text;
    struct token_vec want;
};

static void *encode_often(void *arg) {
    const struct shared *s = arg;
    for (int i = 0; i < 300; i++) {
        struct token_vec got = {0};
        if (tokenizer_encode(s->t, s->text, strlen(s->text), true, &got, NULL) != SLUICE_OK || got.n != s->want.n ||
            memcmp(got.ids, s->want.ids, got.n * sizeof *got.ids) != 0) {
            token_vec_free(&got);
            return (void *)s;
        }
        token_vec_free(&got);
    }
    return NULL;
}

static void many_threads(void **state) {
    (void)state;
    struct tokenizer *t = load_golden();
    struct shared s = {
        .t = t,
        .text =
            "<|im_start|>user\nПривет python, naïve café 👨‍👩‍👧 12345 zzzqq Reykjavik<|im_end|>"};
    s.want = encode(t, s.text, strlen(s.text), true);
    pthread_t threads[4];
    for (size_t i = 0; i < N_OF(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, &s), 0);
    }
    for (size_t i = 0; i < N_OF(threads); i++) {
        void *wrong = NULL;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    token_vec_free(&s.want);
    tokenizer_free(t);
}

/* ---- Memory that is not there -------------------------------------------------------------------------------- */

static void load_without_memory(void **state) {
    (void)state;
    struct gguf_file *file = NULL;
    assert_int_equal(gguf_open(VOCAB, &file, NULL), SLUICE_OK);
    bool done = false;
    for (long n = 1; !done; n++) {
        struct tokenizer *t = NULL;
        sluice_error err = {0};
        mem_fail_nth(n);
        sluice_status status = tokenizer_load(file, &t, &err);
        done = status == SLUICE_OK;
        mem_fail_nth(0);
        if (!done) {
            assert_int_equal(status, SLUICE_E_NOMEM);
            assert_null(t);
            assert_true(err.text[0] != '\0');
        }
        tokenizer_free(t);
        assert_true(n < 200);
    }
    gguf_close(file);
}

static void encode_without_memory(void **state) {
    (void)state;
    struct tokenizer *t = load_golden();
    struct buf text = {0};
    buf_puts(&text, "na\xC3\xAFve <|im_start|>user\n python \xFF ");
    for (int i = 0; i < 400; i++) {
        buf_puts(&text, "convey zzzqq");
    }
    struct token_vec want = encode(t, text.data, text.len, true);
    long reached = 0;
    bool done = false;
    for (long n = 1; !done; n++) {
        struct token_vec out = {0};
        sluice_error err = {0};
        mem_fail_nth(n);
        sluice_status status = tokenizer_encode(t, text.data, text.len, true, &out, &err);
        mem_fail_nth(0);
        if (status == SLUICE_OK) { /* the word cache may fail: only speed is lost */
            assert_int_equal(out.n, want.n);
            assert_memory_equal(out.ids, want.ids, want.n * sizeof *want.ids);
            done = n > reached + 3;
        } else {
            assert_int_equal(status, SLUICE_E_NOMEM);
            assert_int_equal(out.n, 0);
            reached = n;
        }
        token_vec_free(&out);
    }
    assert_true(reached > 5);
    token_vec_free(&want);
    buf_free(&text);
    tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_vectors),      cmocka_unit_test(facts),
        cmocka_unit_test(invalid_utf8),        cmocka_unit_test(special_order),
        cmocka_unit_test(special_modes),       cmocka_unit_test(special_flood),
        cmocka_unit_test(wrong_files),         cmocka_unit_test(wrong_entries),
        cmocka_unit_test(ids_out_of_range),    cmocka_unit_test(missing_bytes),
        cmocka_unit_test(odd_tokens),          cmocka_unit_test(many_threads),
        cmocka_unit_test(load_without_memory), cmocka_unit_test(encode_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
