/* The JSON of answers reads back as the API says. */
#include "base/mem.h"
#include "server/answer.h"
#include "server/json_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

static const struct answer_head chat_head = {
    .chat = true, .id = "chatcmpl-1", .created = 1700000000, .model = "a \"model\"", .fingerprint = "fp_1"};
static const struct answer_head text_head = {.id = "cmpl-1", .created = 1, .model = "m", .fingerprint = "fp_1"};
static const sluice_timings timings = {.prompt_n = 10,
                                       .cache_n = 5,
                                       .predicted_n = 4,
                                       .draft_n = 3,
                                       .draft_accepted_n = 2,
                                       .prompt_ms = 20,
                                       .predicted_ms = 8};
static const struct answer_usage usage = {
    .prompt_tokens = 15, .cached_tokens = 5, .completion_tokens = 4, .cached_known = true};

static struct json_object *write_and_read(const struct answer_head *h, const struct answer_choice *c, bool chunk,
                                          bool with_usage) {
    struct buf out = {0};
    answer_open(&out, h, chunk);
    if (c) {
        answer_choice_write(&out, h, NULL, c, chunk);
    }
    answer_close(&out, with_usage ? &usage : NULL, chunk, &timings);
    assert_false(out.failed);
    struct json_object *tree;
    sluice_error err = {0};
    if (json_body_parse(out.data, out.len, &tree, &err) != SLUICE_OK) {
        fail_msg("%s\n%s", out.data, err.text);
    }
    buf_free(&out);
    return tree;
}

/* "choices.0.delta.content" */
static struct json_object *at(struct json_object *tree, const char *path) {
    char text[100];
    snprintf(text, sizeof text, "%s", path);
    for (char *key = strtok(text, "."); key; key = strtok(NULL, ".")) {
        if (json_object_is_type(tree, json_type_array)) {
            tree = json_object_array_get_idx(tree, (size_t)(key[0] - '0'));
        } else if (!json_object_object_get_ex(tree, key, &tree)) {
            fail_msg("no %s in %s", key, path);
        }
    }
    return tree;
}

static void is(struct json_object *tree, const char *path, const char *json) {
    assert_string_equal(json_object_to_json_string_ext(at(tree, path), JSON_C_TO_STRING_PLAIN), json);
}

static void whole_chat(void **state) {
    (void)state;
    struct answer_choice c = {
        .index = 2, .text = "line\n\"\xC3\xA9\x01", .text_len = 9, .finished = true, .finish = SLUICE_FINISH_LENGTH};
    struct json_object *t = write_and_read(&chat_head, &c, false, true);
    is(t, "id", "\"chatcmpl-1\"");
    is(t, "object", "\"chat.completion\"");
    is(t, "created", "1700000000");
    is(t, "model", "\"a \\\"model\\\"\"");
    is(t, "choices.0.index", "2");
    is(t, "choices.0.message", "{\"role\":\"assistant\",\"content\":\"line\\n\\\"\xC3\xA9\\u0001\",\"refusal\":null}");
    is(t, "choices.0.logprobs", "null");
    is(t, "choices.0.finish_reason", "\"length\"");
    is(t, "usage",
       "{\"prompt_tokens\":15,\"completion_tokens\":4,\"total_tokens\":19,"
       "\"prompt_tokens_details\":{\"cached_tokens\":5}}");
    is(t, "timings",
       "{\"cache_n\":5,\"queue_ms\":0,\"prompt_n\":10,\"prompt_ms\":20,\"prompt_per_token_ms\":2,"
       "\"prompt_per_second\":500,\"predicted_n\":4,\"predicted_ms\":8,\"predicted_per_token_ms\":2,"
       "\"predicted_per_second\":500,\"draft_n\":3,\"draft_n_accepted\":2}");
    json_object_put(t);
}

static void chat_chunks(void **state) {
    (void)state;
    struct answer_choice c = {.text = "", .first = true};
    struct json_object *t = write_and_read(&chat_head, &c, true, false);
    is(t, "object", "\"chat.completion.chunk\"");
    is(t, "choices.0.delta", "{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}");
    is(t, "choices.0.finish_reason", "null");
    is(t, "usage", "null");
    json_object_put(t);
    c = (struct answer_choice){.text = "x", .text_len = 1};
    t = write_and_read(&chat_head, &c, true, false);
    is(t, "choices.0.delta", "{\"content\":\"x\"}");
    json_object_put(t);
    c = (struct answer_choice){.text = "", .finished = true};
    t = write_and_read(&chat_head, &c, true, false);
    is(t, "choices.0.delta", "{}");
    is(t, "choices.0.finish_reason", "\"stop\"");
    json_object_put(t);
    t = write_and_read(&chat_head, NULL, true, true);
    is(t, "choices", "[]");
    is(t, "usage.total_tokens", "19");
    json_object_put(t);
}

static void completions(void **state) {
    (void)state;
    struct answer_choice c = {.text = "abc", .text_len = 3, .finished = true};
    for (int chunk = 0; chunk < 2; chunk++) {
        struct json_object *t = write_and_read(&text_head, &c, chunk, false);
        is(t, "object", "\"text_completion\"");
        is(t, "choices.0.text", "\"abc\"");
        is(t, "choices.0.finish_reason", "\"stop\"");
        json_object_put(t);
    }
}

static void logprob_lists(void **state) {
    (void)state;
    struct logprob_list l = {.n_top = 2};
    for (int i = 0; i < 100; i++) {
        sluice_event event = {.token = i, .logprob = -(float)i, .n_top = i % 2 ? 2 : 1};
        event.top[0] = (sluice_token_prob){.token = i + 1000};
        event.top[1] = (sluice_token_prob){.token = i + 2000};
        assert_true(logprob_push(&l, &event, (size_t)i * 3));
    }
    logprob_drop_front(&l, 0);
    logprob_drop_front(&l, 7);
    assert_int_equal(l.n, 93);
    assert_int_equal(l.start[0], 21);
    assert_int_equal(l.probs[0].token, 7);
    assert_int_equal(l.probs[2].token, 2007);
    assert_int_equal(l.probs[3].token, 8);
    assert_int_equal(l.probs[5].token, -1); /* the engine gave only one alternative */
    logprob_drop_front(&l, 93);
    assert_int_equal(l.n, 0);
    logprob_free(&l);

    for (long nth = 1; nth <= 2; nth++) {
        struct logprob_list broken = {.n_top = 0};
        sluice_event event = {0};
        mem_fail_nth(nth);
        assert_false(logprob_push(&broken, &event, 0));
        mem_fail_nth(0);
        logprob_free(&broken);
    }
}

static void ids_differ(void **state) {
    (void)state;
    struct answer_head a = {.chat = true}, b = {.chat = false};
    answer_make_id(&a);
    answer_make_id(&b);
    assert_memory_equal(a.id, "chatcmpl-", 9);
    assert_memory_equal(b.id, "cmpl-", 5);
    assert_int_equal(strlen(a.id), 33);
    assert_string_not_equal(a.id + 9, b.id + 5);
    assert_int_equal(answer_count_chars("a\xC3\xA9\xF0\x9F\x98\x80", 7), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_chat),    cmocka_unit_test(chat_chunks), cmocka_unit_test(completions),
        cmocka_unit_test(logprob_lists), cmocka_unit_test(ids_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
