/* Stop strings at every split of the text, and the way from tokens to text. */
#include "base/limits.h"
#include "base/mem.h"
#include "engine/text_out.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t random_state = 11;

static uint32_t rnd(uint32_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

/* The definition: the match whose last byte comes first, the longest of those. Gives the text before it. */
static const char *define(const char *const *stops, size_t n_stops, const char *text, size_t n, size_t *before) {
    for (size_t end = 1; end <= n; end++) {
        const char *best = NULL;
        for (size_t i = 0; i < n_stops; i++) {
            size_t len = strlen(stops[i]);
            if (len <= end && memcmp(text + end - len, stops[i], len) == 0 && (!best || len > strlen(best))) {
                best = stops[i];
            }
        }
        if (best) {
            *before = end - strlen(best);
            return best;
        }
    }
    *before = n;
    return NULL;
}

/* Feeds text in pieces and compares with the definition; checks after every piece that nothing leaked. */
static void check(const char *const *stops, size_t n_stops, const char *text, size_t n, const size_t *pieces,
                  size_t n_pieces) {
    struct stop stop;
    struct buf out = {0};
    size_t before, at = 0;
    const char *want = define(stops, n_stops, text, n, &before), *got = NULL;
    assert_int_equal(stop_init(&stop, stops, n_stops, NULL), SLUICE_OK);
    for (size_t i = 0; i < n_pieces && !got; i++) {
        got = stop_push(&stop, text + at, pieces[i], &out);
        at += pieces[i];
        assert_true(out.len <= before);
    }
    if (!got) {
        assert_int_equal(at, n);
        assert_int_equal(out.len + stop.held.len, n);
        stop_flush(&stop, &out);
    }
    assert_int_equal(out.len, before);
    assert_true(before == 0 || memcmp(out.data, text, before) == 0);
    assert_true((got == NULL) == (want == NULL));
    if (want) {
        assert_string_equal(got, want);
    }
    buf_free(&out);
    stop_free(&stop);
}

static void check_all_splits(const char *const *stops, size_t n_stops, const char *text) {
    size_t n = strlen(text);
    size_t whole[1] = {n}, bytes[256];
    assert_true(n < 256);
    check(stops, n_stops, text, n, whole, 1);
    for (size_t i = 0; i < n; i++) {
        bytes[i] = 1;
    }
    check(stops, n_stops, text, n, bytes, n);
    for (size_t a = 0; a <= n; a++) {
        for (size_t b = a; b <= n; b++) {
            size_t pieces[3] = {a, b - a, n - b};
            check(stops, n_stops, text, n, pieces, 3);
        }
    }
}

static void test_splits(void **state) {
    (void)state;
    const char *one[] = {"STOP"};
    check_all_splits(one, 1, "one two STOP three");
    check_all_splits(one, 1, "STOP");
    check_all_splits(one, 1, "no end STO");
    check_all_splits(one, 1, "SSTSTOSTOP!");
    const char *lines[] = {"\n\n", "User:"};
    check_all_splits(lines, 2, "a\nb\n\nUser: c");
    check_all_splits(lines, 2, "a\nUser\nUser:\n\n");
    const char *nested[] = {"abcd", "bc", "c"};
    check_all_splits(nested, 3, "xabxabcd");
    const char *self[] = {"aabaaab"};
    check_all_splits(self, 1, "aabaabaaabz");
    const char *utf8[] = {"\u00e9nd", "\U0001F600"};
    check_all_splits(utf8, 2, "caf\u00e9 \u00e9n\u00e9nd");
    check_all_splits(utf8, 2, "\U0001F601\U0001F600");
}

static void test_random(void **state) {
    (void)state;
    for (int round = 0; round < 20000; round++) {
        char text[64], strings[4][8];
        const char *stops[4];
        size_t n_stops = 1 + rnd(4), n = rnd(60), pieces[64], n_pieces = 0;
        for (size_t i = 0; i < n; i++) {
            text[i] = (char)('a' + rnd(2 + (uint32_t)round % 3));
        }
        for (size_t i = 0; i < n_stops; i++) {
            size_t len = 1 + rnd(7);
            for (size_t k = 0; k < len; k++) {
                strings[i][k] = (char)('a' + rnd(2 + (uint32_t)round % 3));
            }
            strings[i][len] = '\0';
            stops[i] = strings[i];
        }
        for (size_t at = 0; at < n; at += pieces[n_pieces++]) {
            pieces[n_pieces] = 1 + rnd((uint32_t)(n - at));
        }
        check(stops, n_stops, text, n, pieces, n_pieces);
    }
}

static void test_limits(void **state) {
    (void)state;
    struct stop stop;
    sluice_error err;
    const char *empty[] = {""};
    assert_int_equal(stop_init(&stop, empty, 1, &err), SLUICE_E_ARG);
    const char *bad[] = {"ok", "\xff"};
    assert_int_equal(stop_init(&stop, bad, 2, &err), SLUICE_E_ARG);
    char longest[LIMIT_STOP_BYTES + 2];
    memset(longest, 'x', sizeof longest);
    longest[LIMIT_STOP_BYTES + 1] = '\0';
    const char *one[] = {longest};
    assert_int_equal(stop_init(&stop, one, 1, &err), SLUICE_E_LIMIT);
    longest[LIMIT_STOP_BYTES] = '\0';
    assert_int_equal(stop_init(&stop, one, 1, &err), SLUICE_OK);
    stop_free(&stop);
    const char *many[LIMIT_STOP_STRINGS + 1];
    for (size_t i = 0; i <= LIMIT_STOP_STRINGS; i++) {
        many[i] = "x";
    }
    assert_int_equal(stop_init(&stop, many, LIMIT_STOP_STRINGS + 1, &err), SLUICE_E_LIMIT);
}

static void test_allocation_failures(void **state) {
    (void)state;
    const char *stops[] = {"abc", "b"};
    for (long nth = 1;; nth++) {
        struct stop stop = {0};
        struct buf out = {0};
        mem_fail_nth(nth);
        sluice_status status = stop_init(&stop, stops, 2, NULL);
        if (status == SLUICE_OK) {
            stop_push(&stop, "xxab", 4, &out);
        }
        mem_fail_nth(0);
        bool failed = status != SLUICE_OK || out.failed || stop.held.failed;
        stop_free(&stop);
        buf_free(&out);
        if (!failed) {
            assert_true(nth > 5);
            break;
        }
    }
}

/* ---- Tokens to text ---------------------------------------------------------------------------------------- */

enum { T_A, T_E1, T_E2, T_CONTROL, T_MARKER, T_END, T_BAD, T_ST, T_OP, T_UNUSED, T_N };

static const struct token_entry tokens[T_N] = {
    [T_A] = {"a", 1, 0},
    [T_E1] = {"\xc3", 1, 0}, /* the two bytes of e acute */
    [T_E2] = {"\xa9", 1, 0},
    [T_CONTROL] = {"<|cot_start|>", 13, TOKEN_FLAG_CONTROL},
    [T_MARKER] = {"<|tool_call_start|>", 19, TOKEN_FLAG_CONTROL | TOKEN_FLAG_MARKER},
    [T_END] = {"<|im_end|>", 10, TOKEN_FLAG_CONTROL | TOKEN_FLAG_END},
    [T_BAD] = {"\xff", 1, 0},
    [T_ST] = {"xST", 3, 0},
    [T_OP] = {"OPy", 3, 0},
    [T_UNUSED] = {NULL, 0, 0},
};

/* Text of a list of tokens; '|' after each token shows what came out when. */
static void expect(const int *ids, size_t n, const sluice_request_options *o, const char *want,
                   const char *want_match) {
    sluice_model model = {.tokens = (struct token_entry *)tokens, .info.n_vocab = T_N};
    struct text_out t;
    struct buf all = {0};
    const char *match = NULL;
    assert_int_equal(text_out_init(&t, &model, o, NULL), SLUICE_OK);
    for (size_t i = 0; i < n && !match; i++) {
        assert_int_equal(text_out_push(&t, ids[i], &match, NULL), SLUICE_OK);
        if (!match && (i + 1 == n || ids[i] == T_END)) {
            assert_int_equal(text_out_finish(&t, NULL), SLUICE_OK);
        }
        buf_append(&all, t.ready.data, t.ready.len);
        buf_putc(&all, '|');
    }
    assert_string_equal(all.data, want);
    assert_true((match == NULL) == (want_match == NULL));
    if (match) {
        assert_string_equal(match, want_match);
    }
    buf_free(&all);
    text_out_free(&t);
}

#define IDS(...) (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int)

static void test_text(void **state) {
    (void)state;
    sluice_request_options o = {0};
    expect(IDS(T_A, T_E1, T_E2, T_A), &o, "a||\u00e9|a|", NULL);
    expect(IDS(T_A, T_E1), &o, "a|\ufffd|", NULL);
    expect(IDS(T_BAD, T_A), &o, "\ufffd|a|", NULL);
    expect(IDS(T_E1, T_END), &o, "|\ufffd|", NULL);
    expect(IDS(T_A, T_CONTROL, T_UNUSED, T_A, T_END), &o, "a|||a||", NULL);
    expect(IDS(T_E1, T_MARKER), &o, "|\ufffd<|tool_call_start|>|", NULL);
    o.keep_control = true;
    expect(IDS(T_CONTROL, T_END), &o, "<|cot_start|>||", NULL);
}

static void test_text_stops(void **state) {
    (void)state;
    const char *stops[] = {"STOP", "<|cot_start|>", "\u00e9"};
    sluice_request_options o = {.stop = stops, .n_stop = 1};
    expect(IDS(T_ST, T_OP, T_A), &o, "x||", "STOP");
    expect(IDS(T_ST, T_ST, T_OP), &o, "x|STx||", "STOP");
    expect(IDS(T_ST, T_END), &o, "x|ST|", NULL);
    expect(IDS(T_A, T_ST), &o, "a|xST|", NULL);
    o.n_stop = 3; /* the written form of a control token, and a character of two tokens */
    expect(IDS(T_ST, T_CONTROL, T_A), &o, "x|ST|", "<|cot_start|>");
    expect(IDS(T_A, T_E1, T_E2, T_A), &o, "a|||", "\u00e9");
    o.keep_control = true;
    expect(IDS(T_A, T_CONTROL, T_A), &o, "a||", "<|cot_start|>");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_splits), cmocka_unit_test(test_random),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_text),   cmocka_unit_test(test_text_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
