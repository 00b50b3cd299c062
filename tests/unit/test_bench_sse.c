/* The event-stream parser: whatever the pieces, the same events. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "bench/sse.h"

#include <stdlib.h>
#include <string.h>

static char got[4096]; /* events, each followed by '|' */

static void on_event(void *ctx, const char *data, size_t n) {
    (void)ctx;
    assert_int_equal(data[n], '\0');
    size_t used = strlen(got);
    assert_true(used + n + 2 < sizeof got);
    memcpy(got + used, data, n);
    got[used + n] = '|';
    got[used + n + 1] = '\0';
}

static const struct {
    const char *stream, *events;
    bool pending;
} cases[] = {
    {"data: a\n\ndata: b\n\n", "a|b|", false},
    {"data: a\r\n\r\ndata: b\r\n\r\n", "a|b|", false},
    {"data: a\r\rdata: b\r\r", "a|b|", false},
    {"\xEF\xBB\xBF"
     "data:x\n\n",
     "x|", false},
    {": comment\n\ndata: 1\ndata: 2\ndata\ndata:  3\n\n", "1\n2\n\n 3|", false},
    {"event: e\nid: 7\nretry: 10\ndata: {\"a\":\"\xE2\x82\xAC\"}\n\n", "{\"a\":\"\xE2\x82\xAC\"}|", false},
    {"data: [DONE]\n\n\n\n", "[DONE]|", false},
    {"data:\n\n", "|", false},
    {"datax: no\n\nfoo\n\ndata: y\n\n", "y|", false},
    {"data: cut\n", "", true},
    {"data: cu", "", true},
    {"", "", false},
    {"\r\n\r\ndata: z\r\n\n", "z|", false},
};

static void check(size_t which, size_t i, size_t j) {
    const char *text = cases[which].stream;
    size_t n = strlen(text);
    struct sse s;
    got[0] = '\0';
    sse_init(&s, on_event, NULL);
    assert_true(sse_feed(&s, text, i));
    assert_true(sse_feed(&s, text + i, j - i));
    assert_true(sse_feed(&s, text + j, n - j));
    assert_string_equal(got, cases[which].events);
    assert_int_equal(sse_pending(&s), cases[which].pending);
    sse_free(&s);
}

static void test_all_splits(void **state) {
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        size_t n = strlen(cases[c].stream);
        for (size_t i = 0; i <= n; i++) {
            for (size_t j = i; j <= n; j++) {
                check(c, i, j);
            }
        }
    }
}

static void test_byte_by_byte(void **state) {
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct sse s;
        got[0] = '\0';
        sse_init(&s, on_event, NULL);
        for (const char *p = cases[c].stream; *p; p++) {
            assert_true(sse_feed(&s, p, 1));
        }
        assert_string_equal(got, cases[c].events);
        sse_free(&s);
    }
}

static void ignore_event(void *ctx, const char *data, size_t n) {
    (void)data, (void)n;
    ++*(int *)ctx;
}

static void test_too_long(void **state) {
    (void)state;
    char block[65536];
    int events = 0;
    struct sse s;
    memset(block, 'x', sizeof block);
    sse_init(&s, ignore_event, &events);
    bool ok = sse_feed(&s, "data: ", 6);
    for (size_t sent = 0; ok && sent < 2 * (size_t)SSE_EVENT_MAX; sent += sizeof block) {
        ok = sse_feed(&s, block, sizeof block);
    }
    assert_false(ok);
    assert_true(s.too_long);
    assert_false(sse_feed(&s, "\n\n", 2)); /* nothing of it is delivered later */
    assert_int_equal(events, 0);
    sse_free(&s);

    sse_init(&s, ignore_event, &events); /* the same in many short lines of one event */
    memcpy(block, "data: 12345678901234567890123456789012345678901234567890123456789\n", 66);
    ok = true;
    for (size_t sent = 0; ok && sent < 2 * (size_t)SSE_EVENT_MAX; sent += 60) {
        ok = sse_feed(&s, block, 66);
    }
    assert_true(s.too_long);
    sse_free(&s);
}

static void test_no_memory(void **state) {
    (void)state;
    const char *text = "data: one\ndata: two\n\ndata: three\n\n";
    bool ok = false;
    for (long n = 1; !ok; n++) {
        struct sse s;
        got[0] = '\0';
        sse_init(&s, on_event, NULL);
        mem_fail_nth(n);
        ok = true;
        for (const char *p = text; ok && *p; p++) {
            ok = sse_feed(&s, p, 1);
        }
        mem_fail_nth(0);
        if (ok) {
            assert_string_equal(got, "one\ntwo|three|");
        }
        sse_free(&s);
        assert_true(n < 50);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_splits),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
