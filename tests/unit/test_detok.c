/* The streaming detokenizer: any cut of the bytes gives the same text, in whole sequences. */
#include "test_tokenizer_support.h"

static struct buf stream(const char *s, size_t n, size_t step) {
    struct detok d = {0};
    struct buf out = {0};
    for (size_t i = 0; i < n; i += step) {
        size_t len = n - i < step ? n - i : step;
        detok_push(&d, s + i, len, &out);
        assert_true(d.n_pending <= 3);
        assert_int_equal(utf8_valid_prefix(out.data ? out.data : "", out.len), out.len);
    }
    detok_flush(&d, &out);
    assert_int_equal(d.n_pending, 0);
    return out;
}

static void spelled_out(void **state) {
    (void)state;
#define R "\xEF\xBF\xBD"
    static const struct {
        const char *in;
        size_t n;
        const char *want;
    } cases[] = {
        {"", 0, ""},
        {"plain", 5, "plain"},
        {"\xC3\xA9\xE6\x97\xA5\xF0\x9F\x98\x80", 9, "\xC3\xA9\xE6\x97\xA5\xF0\x9F\x98\x80"},
        {"a\x80z", 3, "a" R "z"},
        {"\xE6\x97", 2, R},      /* the end of the text */
        {"\xE6\x97z", 3, R "z"}, /* one for the beginning of a sequence */
        {"\xF0\x9F\x98\xC3\xA9", 5, R "\xC3\xA9"},
        {"\xE6\xE6\x97\xA5", 4, R "\xE6\x97\xA5"},
        {"\xC0\xAF", 2, R R},       /* overlong: two bytes that never begin anything */
        {"\xED\xA0\x80", 3, R R R}, /* a surrogate */
        {"\xF4\x90\x80\x80", 4, R R R R},
        {"\xE0\x80\x80", 3, R R R},
        {"\xF5\xFF", 2, R R},
        {"\xF0\x9F\x98", 3, R},
        {"\xF0\x9Fx\xF0", 4, R "x" R},
    };
    for (size_t i = 0; i < N_OF(cases); i++) {
        for (size_t step = 1; step <= 5; step++) {
            struct buf got = stream(cases[i].in, cases[i].n, step);
            assert_string_equal(got.data ? got.data : "", cases[i].want);
            buf_free(&got);
        }
    }
}

static void any_cut_is_the_same(void **state) {
    (void)state;
    static const unsigned char bytes[] = {'a',  0x80, 0xBF, 0xC2, 0xC3, 0xE0, 0xE6, 0xED,
                                          0xF0, 0xF4, 0x9F, 0xA0, 0x98, 0xFF, 0};
    uint64_t seed = 3;
    for (int round = 0; round < 20000; round++) {
        char s[24];
        size_t n = next_random(&seed) % sizeof s;
        for (size_t i = 0; i < n; i++) {
            s[i] = (char)bytes[next_random(&seed) % sizeof bytes];
        }
        struct buf whole = stream(s, n, n + 1);
        for (size_t step = 1; step < 5; step++) {
            struct buf got = stream(s, n, step);
            assert_int_equal(got.len, whole.len);
            if (got.len) {
                assert_memory_equal(got.data, whole.data, whole.len);
            }
            buf_free(&got);
        }
        buf_free(&whole);
    }
}

/* Nothing is held back that is already whole. */
static void prompt_output(void **state) {
    (void)state;
    struct detok d = {0};
    struct buf out = {0};
    detok_push(&d, "a\xF0\x9F", 3, &out);
    assert_int_equal(out.len, 1);
    detok_push(&d, "\x98", 1, &out);
    assert_int_equal(out.len, 1);
    detok_push(&d, "\x80", 1, &out);
    assert_int_equal(out.len, 5);
    assert_int_equal(d.n_pending, 0);
    detok_push(&d, "", 0, &out);
    detok_flush(&d, &out);
    assert_string_equal(out.data, "a\xF0\x9F\x98\x80");
    buf_free(&out);
}

/* Tokens of a text, one by one, give the text back. */
static void tokens(void **state) {
    (void)state;
    struct tokenizer *t = load_golden();
    static const char text[] = "日本語 Привет 👨‍👩‍👧‍👦 naïve";
    struct token_vec ids = encode(t, text, sizeof text - 1, false);
    struct detok d = {0};
    struct buf out = {0};
    for (size_t i = 0; i < ids.n; i++) {
        size_t n = 0;
        const char *bytes = tokenizer_bytes(t, ids.ids[i], &n);
        detok_push(&d, bytes, n, &out);
    }
    detok_flush(&d, &out);
    assert_string_equal(out.data, text);
    buf_free(&out);
    token_vec_free(&ids);
    tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spelled_out),
        cmocka_unit_test(any_cut_is_the_same),
        cmocka_unit_test(prompt_output),
        cmocka_unit_test(tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
