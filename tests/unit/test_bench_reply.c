/* A streamed chat completion read into a sample: times, counts, and every way a stream can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "bench/reply.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NEAR(a, b) assert_true(fabs((a) - (b)) < 1e-9)

struct piece {
    double ms;
    const char *json;
};

static void feed(struct reply *r, const struct piece *p) {
    char text[2048];
    snprintf(text, sizeof text, "data: %s\n\n", p->json);
    reply_feed(r, text, strlen(text), p->ms);
}

static struct sample run(const struct piece *pieces, size_t n, double end_ms) {
    struct sample s;
    struct reply r;
    sample_reset(&s);
    reply_init(&r, &s);
    for (size_t i = 0; i < n; i++) {
        feed(&r, &pieces[i]);
    }
    reply_end(&r, end_ms);
    reply_free(&r);
    return s;
}

#define RUN(pieces, end) run(pieces, sizeof(pieces) / sizeof((pieces)[0]), end)

#define ROLE    "{\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}"
#define TEXT(t) "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" t "\"},\"finish_reason\":null}]}"
#define STOP    "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}"
#define USAGE                                                                                                          \
    "{\"choices\":[],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":5,\"total_tokens\":35,"                     \
    "\"prompt_tokens_details\":{\"cached_tokens\":10}}}"

static void test_good(void **state) {
    (void)state;
    const struct piece p[] = {{10, ROLE}, {50, TEXT("a")}, {60, TEXT("b")}, {85, TEXT("c")},
                              {90, STOP}, {91, USAGE},     {91, "[DONE]"}};
    struct sample s = RUN(p, 92);
    assert_true(s.ok);
    NEAR(s.first_token_ms, 50); /* the piece with only a role is no token */
    NEAR(s.first_content_ms, 50);
    NEAR(s.last_token_ms, 90);
    NEAR(s.end_ms, 92);
    assert_null(s.token_ms); /* five tokens in three pieces: which carried more is not known */
    assert_int_equal(s.chunks, 3);
    assert_int_equal(s.prompt_tokens, 30);
    assert_int_equal(s.output_tokens, 5);
    assert_int_equal(s.cached_tokens, 10);
    assert_string_equal(s.finish, "stop");
    NEAR(sample_tpot_ms(&s), 10);
    NEAR(sample_decode_tok_s(&s), 100);
    NEAR(sample_client_tok_s(&s), 1000 * 5 / 92.0);
    NEAR(sample_prefill_tok_s(&s), 1000 * 20 / 50.0);
}

static void test_reasoning_and_tools(void **state) {
    (void)state;
    const struct piece p[] = {
        {20, "{\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}"},
        {40, TEXT("a")},
        {50, "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}"},
        {60, "{\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}],"
             "\"timings\":{\"cache_n\":3,\"prompt_ms\":12.5,\"predicted_ms\":40}}"},
    };
    struct sample s = RUN(p, 61); /* a finish reason is enough; some servers send no [DONE] */
    assert_true(s.ok);
    NEAR(s.first_token_ms, 20);
    NEAR(s.first_content_ms, 40);
    NEAR(s.last_token_ms, 60);
    assert_int_equal(s.chunks, 3);
    assert_int_equal(s.cached_tokens, 3);
    NEAR(s.server_prompt_ms, 12.5);
    NEAR(s.server_predicted_ms, 40);
}

/* Without usage the counts are unknown, and so is all that needs them. */
static void test_no_usage(void **state) {
    (void)state;
    const struct piece p[] = {{5, TEXT("a")}, {6, TEXT("b")}, {7, STOP}, {7, "[DONE]"}};
    struct sample s = RUN(p, 8);
    assert_true(s.ok);
    assert_int_equal(s.output_tokens, -1);
    assert_true(sample_tpot_ms(&s) < 0 && sample_decode_tok_s(&s) < 0 && sample_client_tok_s(&s) < 0 &&
                sample_prefill_tok_s(&s) < 0);
    NEAR(sample_ttft_ms(&s), 5);
}

/* The whole answer in one piece: when its tokens were made cannot be seen. */
static void test_one_piece(void **state) {
    (void)state;
    const struct piece p[] = {{5, TEXT("a b c")}, {6, STOP}, {6, USAGE}, {6, "[DONE]"}};
    struct sample s = RUN(p, 6);
    assert_true(s.ok);
    assert_true(sample_tpot_ms(&s) < 0);
    NEAR(sample_client_tok_s(&s), 1000 * 5 / 6.0);
}

/* An end token at once: no text, but the time to it is known. */
static void test_empty_answer(void **state) {
    (void)state;
    const struct piece p[] = {{3, ROLE}, {30, STOP}, {31, USAGE}, {31, "[DONE]"}};
    struct sample s = RUN(p, 31);
    assert_true(s.ok);
    NEAR(s.first_token_ms, 30);
    assert_true(s.first_content_ms < 0);
    assert_null(s.token_ms);
    assert_true(sample_tpot_ms(&s) < 0);
}

/* ---- When each token came */

#define END(n) "{\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":" #n "}}"
#define COUNTED(t, n)                                                                                                  \
    "{\"choices\":[{\"delta\":{\"content\":\"" t "\"}}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":" #n "}}"
#define TIMED(t, n) "{\"choices\":[{\"delta\":{\"content\":\"" t "\"}}],\"timings\":{\"predicted_n\":" #n "}}"
#define IDS(t, ids) "{\"choices\":[{\"delta\":{\"content\":\"" t "\"},\"token_ids\":[" ids "]}]}"
#define LENGTH      "{\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}"
#define LENGTH_TIMED(n)                                                                                                \
    "{\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}],\"timings\":{\"predicted_n\":" #n "}}"

static void check_times(const struct piece *p, size_t n, const double *times, size_t n_times) {
    struct sample s = run(p, n, 100);
    assert_true(s.ok);
    if (!times) {
        assert_null(s.token_ms);
        return;
    }
    assert_int_equal(s.output_tokens, n_times);
    assert_non_null(s.token_ms);
    for (size_t i = 0; i < n_times; i++) {
        NEAR(s.token_ms[i], times[i]);
    }
    NEAR(s.first_token_ms, times[0]);
    NEAR(s.last_token_ms, times[n_times - 1]);
    sample_free(&s);
}

#define CHECK_TIMES(p, ...)                                                                                            \
    check_times(p, sizeof(p) / sizeof((p)[0]), (const double[]){__VA_ARGS__},                                          \
                sizeof((const double[]){__VA_ARGS__}) / sizeof(double))

static void test_token_times(void **state) {
    (void)state;
    const struct piece one_each[] = {{5, TEXT("a")}, {7, TEXT("b")}, {9, TEXT("c")}, {9, LENGTH}, {10, END(3)}};
    CHECK_TIMES(one_each, 5, 7, 9);
    const struct piece end_token[] = {{5, TEXT("a")}, {7, TEXT("b")}, {9, STOP}, {10, END(3)}};
    CHECK_TIMES(end_token, 5, 7, 9); /* the end token has no text */
    const struct piece unknown[] = {{5, TEXT("a")}, {7, TEXT("b c")}, {9, LENGTH}, {10, END(3)}};
    check_times(unknown, 4, NULL, 0); /* one more than pieces, and no end token: which piece had two? */
    const struct piece bundles[] = {
        {5, COUNTED("a", 1)}, {8, COUNTED("bcd", 4)}, {9, COUNTED("e", 5)}, {9, LENGTH}, {10, END(5)}};
    CHECK_TIMES(bundles, 5, 8, 8, 8, 9);
    const struct piece timings[] = {{5, TIMED("ab", 2)}, {8, TIMED("c", 3)}, {9, LENGTH_TIMED(4)}, {9, END(4)}};
    CHECK_TIMES(timings, 5, 5, 8, 9); /* a token that completed no character comes to light with the end */
    const struct piece late[] = {{5, COUNTED("a", 1)}, {8, STOP}, {12, END(2)}};
    CHECK_TIMES(late, 5, 8); /* a total that comes behind the end is of the end */
    const struct piece ids[] = {{5, IDS("a", "4,5")}, {8, IDS("b", "6")}, {9, LENGTH}, {10, END(3)}};
    CHECK_TIMES(ids, 5, 5, 8);
    const struct piece backwards[] = {{5, COUNTED("a", 3)}, {8, COUNTED("b", 2)}, {9, LENGTH}, {10, END(4)}};
    check_times(backwards, 4, NULL, 0);
}

/* Counts that cannot be are no counts. */
static void test_lies(void **state) {
    (void)state;
    const struct piece few[] = {{5, TEXT("a")}, {6, TEXT("b")}, {7, TEXT("c")}, {8, STOP}, {8, END(2)}};
    struct sample s = RUN(few, 9);
    assert_false(s.ok);
    assert_string_equal(s.error, "the server counts 2 output tokens but sent text in 3 pieces");
    const struct piece cached[] = {{5, TEXT("a")},
                                   {8, STOP},
                                   {8, "{\"choices\":[],\"usage\":{\"prompt_tokens\":30,"
                                       "\"completion_tokens\":5,\"prompt_tokens_details\":"
                                       "{\"cached_tokens\":31}}}"}};
    s = RUN(cached, 9);
    assert_false(s.ok);
    assert_string_equal(s.error, "the server counts 31 cached tokens in a prompt of 30");
}

static void test_bad_streams(void **state) {
    (void)state;
    static const struct {
        const char *json, *words;
    } cases[] = {
        {"{\"error\":{\"message\":\"out of \\u001b[31mmemory\",\"type\":\"server_error\"}}", "out of ?[31mmemory"},
        {"{\"error\":\"plain\"}", "plain"},
        {"not json", "not a JSON object: not json"},
        {"[1,2]", "not a JSON object"},
        {TEXT("a"), "without a finish reason"},
        {"{\"choices\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "not a JSON object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct piece p[] = {{1, cases[i].json}};
        struct sample s = RUN(p, 2);
        assert_false(s.ok);
        if (!strstr(s.error, cases[i].words)) {
            fail_msg("\"%s\" lacks \"%s\"", s.error, cases[i].words);
        }
    }
    struct sample s = run(NULL, 0, 3);
    assert_false(s.ok);
    assert_non_null(strstr(s.error, "no server-sent event"));
}

/* Members of the wrong type are as good as absent. */
static void test_wrong_types(void **state) {
    (void)state;
    static const char *const odd[] = {
        "{}",
        "{\"choices\":7}",
        "{\"choices\":[]}",
        "{\"choices\":[null]}",
        "{\"choices\":[{\"delta\":null,\"finish_reason\":7}]}",
        "{\"choices\":[{\"delta\":{\"content\":7}}],\"usage\":null}",
        "{\"choices\":[{\"delta\":[\"content\"]}],\"usage\":{\"prompt_tokens\":\"x\",\"completion_tokens\":-4}}",
        "{\"usage\":[],\"timings\":{\"prompt_ms\":\"fast\",\"predicted_ms\":-1}}",
    };
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        const struct piece p[] = {{1, odd[i]}, {2, TEXT("a")}, {3, STOP}, {3, "[DONE]"}};
        struct sample s = RUN(p, 4);
        assert_true(s.ok);
        assert_int_equal(s.chunks, 1);
        assert_int_equal(s.output_tokens, -1);
        assert_true(s.server_prompt_ms < 0 && s.server_predicted_ms < 0);
    }
}

static void test_error_text(void **state) {
    (void)state;
    static const struct {
        const char *body, *text;
    } cases[] = {
        {"{\"error\":{\"message\":\"no such model\"}}", "no such model"},
        {"{\"detail\":\"Not Found\"}", "Not Found"},
        {"{\"message\":\"nope\"}", "nope"},
        {"<html>\n<b>404</b>", "<html> <b>404</b>"},
        {"", ""},
        {"\xFF\x01z", "??z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[64];
        reply_error_text(cases[i].body, strlen(cases[i].body), out, sizeof out);
        assert_string_equal(out, cases[i].text);
    }
    char tight[4];
    reply_error_text("\xE2\x82\xAC\xE2\x82\xAC", 6, tight, sizeof tight); /* no half character */
    assert_string_equal(tight, "\xE2\x82\xAC");
}

static void test_no_memory(void **state) {
    (void)state;
    const struct piece p[] = {{5, TEXT("a")}, {6, STOP}, {7, USAGE}, {7, "[DONE]"}};
    struct sample s = {0};
    for (long n = 1; !s.ok; n++) {
        mem_fail_nth(n);
        s = RUN(p, 8);
        mem_fail_nth(0);
        sample_free(&s);
        assert_true(s.ok || s.error[0]);
        assert_true(n < 50);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),         cmocka_unit_test(test_reasoning_and_tools),
        cmocka_unit_test(test_no_usage),     cmocka_unit_test(test_one_piece),
        cmocka_unit_test(test_token_times),  cmocka_unit_test(test_lies),
        cmocka_unit_test(test_empty_answer), cmocka_unit_test(test_bad_streams),
        cmocka_unit_test(test_wrong_types),  cmocka_unit_test(test_error_text),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
