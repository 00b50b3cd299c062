/* The strict JSON reader: what RFC 8259 allows passes, all else is refused with a place. */
#include "base/limits.h"
#include "base/mem.h"
#include "server/json_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

static sluice_status parse(const char *text, size_t n, sluice_error *err) {
    struct json_object *tree;
    sluice_status s = json_body_parse(text, n, &tree, err);
    assert_true((s == SLUICE_OK) == (tree != NULL));
    json_object_put(tree);
    return s;
}

static void accepts_json(void **state) {
    (void)state;
    static const char *const good[] = {
        "{}",
        " \t\r\n{ } \n",
        "{\"a\":null,\"b\":true,\"c\":false}",
        "{\"a\":[1,-1,0,-0,1.5,1e5,1E+5,1e-5,0.0,123456789012345678901234567890]}",
        "{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\"}",
        "{\"a\":\"\xC3\xA9\xF0\x9F\x98\x80\"}",
        "{\"a\":\"nul \\u0000 inside\"}",
        "{\"a\":{\"a\":{\"a\":[[],{}]}}}",
        "{\"a\":1,\"b\":{\"a\":2},\"c\":[{\"a\":3},{\"a\":4}]}",
        "{\"\":1}",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        sluice_error err = {0};
        if (parse(good[i], strlen(good[i]), &err) != SLUICE_OK) {
            fail_msg("%s: %s", good[i], err.text);
        }
    }
}

static void refuses_all_else(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "   ",
        "[]",
        "null",
        "1",
        "\"a\"",
        "{",
        "}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 2]}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":'x'}",
        "{\"a\":NaN}",
        "{\"a\":-NaN}",
        "{\"a\":Infinity}",
        "{\"a\":-Infinity}",
        "{\"a\":nul}",
        "{\"a\":True}",
        "{\"a\":+1}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":1e+}",
        "{\"a\":-}",
        "{\"a\":0x10}",
        "{\"a\":\"x}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\x01\"}",
        "{\"a\":\"\\x41\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\",
        "{\"a\\u0000b\":1}",
        "{} {}",
        "{}x",
        "{\"a\":1}//",
        "/**/{}",
        "\xEF\xBB\xBF{}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":{\"b\":1,\"b\":1}}",
        "{\"a\":[{\"b\":1},{\"b\":1,\"c\":2,\"b\":3}]}",
        "{\"a\":1,\"\\u0061\":2}",
        "{\"a\":\"\xC3\"}",
        "{\"a\":\"\xFF\"}",
        "{\"a\":\"\xC0\x80\"}",
        "{\"a\":\"\xED\xA0\x80\"}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sluice_error err = {0};
        if (parse(bad[i], strlen(bad[i]), &err) != SLUICE_E_ARG || !err.text[0]) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
    sluice_error err = {0};
    assert_int_equal(parse("{}\0", 3, &err), SLUICE_E_ARG); /* a raw NUL is no white space */
    assert_int_equal(parse("{\"a\":1\0}", 8, &err), SLUICE_E_ARG);
}

static void names_the_place(void **state) {
    (void)state;
    sluice_error err = {0};
    const char *text = "{\"a\": 12, \"b\": tru}";
    assert_int_equal(parse(text, strlen(text), &err), SLUICE_E_ARG);
    assert_non_null(strstr(err.text, "at byte 15"));
    assert_int_equal(parse("{\"a\":\"x\xFFy\"}", 12, &err), SLUICE_E_ARG);
    assert_non_null(strstr(err.text, "UTF-8 at byte 7"));
}

/* Strings come out as UTF-8 and numbers with their text, whatever their size. */
static void keeps_text_and_numbers(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"\"\\u00e9\"", "\"\xC3\xA9\""},
        {"\"\\uD83D\\uDE00\"", "\"\xF0\x9F\x98\x80\""},
        {"\"\\ud876\\ude6a\"", "\"\xF0\xAD\xA9\xAA\""}, /* U+2DA6A: its low 16 bits look like a surrogate */
        {"\"\\udbff\\udfff\"", "\"\xF4\x8F\xBF\xBF\""},
        {"\"a\\ud876b\"", "\"a\xEF\xBF\xBD"
                          "b\""},
        {"\"\\ude6a\\ud876\"", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\"\\ud876\\ud876\\ude6a\"", "\"\xEF\xBF\xBD\xF0\xAD\xA9\xAA\""},
        {"9223372036854775807", "9223372036854775807"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"18446744073709551615", "18446744073709551615"},
        {"18446744073709551616", "18446744073709551616"},
        {"-9223372036854775809", "-9223372036854775809"},
        {"123456789012345678901234567890", "123456789012345678901234567890"},
        {"[-0,1.50,1E5,1e400,0.1000]", "[-0,1.50,1E5,1e400,0.1000]"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char text[128];
        int n = snprintf(text, sizeof text, "{\"k\":%s}", pairs[i][0]);
        struct json_object *tree;
        sluice_error err = {0};
        assert_int_equal(json_body_parse(text, (size_t)n, &tree, &err), SLUICE_OK);
        struct json_object *v = json_object_object_get(tree, "k");
        assert_string_equal(json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN), pairs[i][1]);
        json_object_put(tree);
    }
}

/* Two bytes of text can take hundreds in memory. */
static void counts_are_bounded(void **state) {
    (void)state;
    static const struct {
        const char *element;
        size_t most;
    } cases[] = {{"0,", LIMIT_JSON_VALUES}, {"{},", LIMIT_JSON_CONTAINERS}, {"[],", LIMIT_JSON_CONTAINERS}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t len = strlen(cases[i].element), n = cases[i].most + 1;
        char *text = malloc(n * len + 16);
        assert_non_null(text);
        strcpy(text, "{\"a\":[");
        char *at = text + strlen(text);
        for (size_t k = 0; k < n; k++) {
            memcpy(at, cases[i].element, len);
            at += len;
        }
        strcpy(at - 1, "]}");
        sluice_error err = {0};
        assert_int_equal(parse(text, strlen(text), &err), SLUICE_E_LIMIT);
        strcpy(at - 3 * len - 1, "]}");
        assert_int_equal(parse(text, strlen(text), &err), SLUICE_OK);
        free(text);
    }
}

static void depth_is_bounded(void **state) {
    (void)state;
    enum { most = LIMIT_JSON_DEPTH };
    char text[4 * most + 64];
    sluice_error err = {0};
    for (int depth = most - 2; depth <= most + 2; depth++) {
        int n = sprintf(text, "{\"a\":");
        for (int i = 1; i < depth; i++) {
            text[n++] = '[';
        }
        text[n++] = '1';
        for (int i = 1; i < depth; i++) {
            text[n++] = ']';
        }
        text[n++] = '}';
        assert_int_equal(parse(text, (size_t)n, &err), depth <= most ? SLUICE_OK : SLUICE_E_LIMIT);
    }
    size_t many = 1000000;
    char *deep = malloc(many + 5);
    assert_non_null(deep);
    memcpy(deep, "{\"a\":", 5);
    memset(deep + 5, '[', many);
    assert_int_equal(parse(deep, many + 5, &err), SLUICE_E_LIMIT);
    free(deep);
}

/* Every prefix of a good text is bad, and no single changed byte makes the reader crash. */
static void cut_and_changed_text(void **state) {
    (void)state;
    const char *text = "{\"a\":[1.5e-3,\"x\\u00e9\\n\",{\"b\":null}],\"c\":{\"d\":false}}";
    size_t n = strlen(text);
    sluice_error err = {0};
    for (size_t i = 0; i < n; i++) {
        char *cut = malloc(i ? i : 1); /* exact size: an over-read shows under AddressSanitizer */
        assert_non_null(cut);
        memcpy(cut, text, i);
        assert_int_equal(parse(cut, i, &err), SLUICE_E_ARG);
        free(cut);
        for (int c = 0; c < 256; c++) {
            char *changed = malloc(n);
            assert_non_null(changed);
            memcpy(changed, text, n);
            changed[i] = (char)c;
            parse(changed, n, &err);
            free(changed);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_json),         cmocka_unit_test(refuses_all_else),
        cmocka_unit_test(names_the_place),      cmocka_unit_test(keeps_text_and_numbers),
        cmocka_unit_test(counts_are_bounded),   cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(cut_and_changed_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
