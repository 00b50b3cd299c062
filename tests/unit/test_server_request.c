/* Bodies of API calls: each field's meaning and range, refusals by name, and no leak when memory runs out. */
#include "base/limits.h"
#include "base/mem.h"
#include "server/api_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const sluice_model_info model = {
    .name = "test",
    .n_vocab = 1000,
    .recommended = {.temperature = 0.3f, .top_p = 1, .min_p = 0.15f, .repetition_penalty = 1.05f},
};

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"

static bool parse(struct api_request *r, enum api_surface surface, const char *body, struct api_error *e) {
    *e = (struct api_error){0};
    return api_request_parse(r, surface, &model, body, strlen(body), e);
}

static void accept(struct api_request *r, enum api_surface surface, const char *body) {
    struct api_error e;
    if (!parse(r, surface, body, &e)) {
        fail_msg("%s\nrefused: %s", body, e.message);
    }
}

static void refuse(enum api_surface surface, const char *body, const char *param) {
    struct api_request r;
    struct api_error e;
    if (parse(&r, surface, body, &e)) {
        fail_msg("accepted: %s", body);
    }
    assert_int_equal(e.http, 400);
    assert_string_equal(e.type, "invalid_request_error");
    if (strcmp(e.param, param) != 0) {
        fail_msg("%s\nblames \"%s\" (%s), not \"%s\"", body, e.param, e.message, param);
    }
    if (param[0] && !strstr(e.message, param)) {
        fail_msg("%s\nthe message does not name %s: %s", body, param, e.message);
    }
    api_request_free(&r);
}

static void chat(const char *fields, const char *param) {
    char body[2048];
    snprintf(body, sizeof body, "{" HI ",%s}", fields);
    if (param) {
        refuse(API_CHAT, body, param);
    } else {
        struct api_request r;
        accept(&r, API_CHAT, body);
        api_request_free(&r);
    }
}

static void defaults(void **state) {
    (void)state;
    struct api_request r;
    accept(&r, API_CHAT, "{" HI "}");
    assert_memory_equal(&r.sampling, &model.recommended, sizeof r.sampling);
    assert_false(r.has_seed || r.stream || r.logprobs || r.ignore_eos || r.no_draft);
    assert_true(r.cache_prompt);
    assert_int_equal(r.timeout_ms, 0);
    assert_int_equal(r.n, 1);
    assert_int_equal(r.max_tokens, 0);
    assert_int_equal(r.chat.n_messages, 1);
    assert_string_equal(r.chat.messages[0].role, "user");
    assert_int_equal(r.chat.messages[0].content_len, 2);
    assert_memory_equal(r.chat.messages[0].content, "Hi", 2);
    api_request_free(&r);
    accept(&r, API_COMPLETION, "{\"prompt\":\"x\"}");
    assert_int_equal(r.max_tokens, 16);
    api_request_free(&r);
}

static void all_fields(void **state) {
    (void)state;
    struct api_request r;
    accept(
        &r, API_CHAT,
        "{\"model\":\"any\"," HI ",\"temperature\":0.5,\"top_p\":0.9,\"top_k\":40,\"min_p\":0.05,"
        "\"repetition_penalty\":1.1,\"presence_penalty\":-0.5,\"frequency_penalty\":2,\"seed\":-7,"
        "\"logit_bias\":{\"5\":-100,\"999\":1.5},\"stop\":[\"a\",\"bc\"],\"max_tokens\":100.0,\"n\":3,\"stream\":true,"
        "\"stream_options\":{\"include_usage\":true,\"include_obfuscation\":false},\"logprobs\":true,"
        "\"top_logprobs\":20,\"ignore_eos\":true,\"cache_prompt\":false,\"speculative.n_max\":0,"
        "\"timeout_ms\":2147483647,\"user\":\"u\",\"metadata\":{\"k\":\"v\"},\"store\":false,"
        "\"service_tier\":\"auto\",\"response_format\":{\"type\":\"text\"},\"modalities\":[\"text\"],"
        "\"safety_identifier\":\"s\",\"prompt_cache_key\":\"p\",\"functions\":null,\"audio\":null}");
    assert_float_equal(r.sampling.temperature, 0.5, 0);
    assert_float_equal(r.sampling.top_p, 0.9f, 0);
    assert_int_equal(r.sampling.top_k, 40);
    assert_float_equal(r.sampling.min_p, 0.05f, 0);
    assert_float_equal(r.sampling.repetition_penalty, 1.1f, 0);
    assert_float_equal(r.sampling.presence_penalty, -0.5, 0);
    assert_float_equal(r.sampling.frequency_penalty, 2, 0);
    assert_true(r.has_seed && r.sampling.seed == (uint64_t)-7);
    assert_int_equal(r.n_logit_bias, 2);
    assert_int_equal(r.logit_bias[1].token, 999);
    assert_float_equal(r.logit_bias[1].bias, 1.5, 0);
    assert_int_equal(r.n_stop, 2);
    assert_string_equal(r.stop[1], "bc");
    assert_int_equal(r.max_tokens, 100);
    assert_int_equal(r.n, 3);
    assert_true(r.stream && r.include_usage && r.logprobs && r.ignore_eos);
    assert_int_equal(r.top_logprobs, 20);
    assert_true(!r.cache_prompt && r.no_draft);
    assert_int_equal(r.timeout_ms, 2147483647);
    api_request_free(&r);
}

static void values_at_the_edges(void **state) {
    (void)state;
    chat("\"temperature\":0", NULL);
    chat("\"temperature\":5", NULL);
    chat("\"seed\":18446744073709551615", NULL);
    chat("\"seed\":-9223372036854775808", NULL);
    chat("\"top_k\":-1", NULL);
    chat("\"stop\":\"x\"", NULL);
    chat("\"stop\":[]", NULL);
    chat("\"stop\":null", NULL);
    chat("\"max_tokens\":5,\"max_completion_tokens\":5", NULL);
    chat("\"repeat_penalty\":1.2", NULL);
    chat("\"tool_choice\":\"none\"", NULL);
    chat("\"n\":8", NULL);

    chat("\"temperature\":-0.1", "temperature");
    chat("\"temperature\":5.1", "temperature");
    chat("\"temperature\":1e400", "temperature");
    chat("\"temperature\":\"1\"", "temperature");
    chat("\"temperature\":true", "temperature");
    chat("\"top_p\":1.01", "top_p");
    chat("\"top_k\":-2", "top_k");
    chat("\"top_k\":1.5", "top_k");
    chat("\"min_p\":-1", "min_p");
    chat("\"repetition_penalty\":0", "repetition_penalty");
    chat("\"presence_penalty\":2.1", "presence_penalty");
    chat("\"frequency_penalty\":[]", "frequency_penalty");
    chat("\"seed\":1.5", "seed");
    chat("\"seed\":\"1\"", "seed");
    chat("\"seed\":18446744073709551616", "seed");
    chat("\"seed\":-9223372036854775809", "seed");
    chat("\"max_tokens\":0", "max_tokens");
    chat("\"max_tokens\":-1", "max_tokens");
    chat("\"max_tokens\":99999999999999999999", "max_tokens");
    chat("\"max_tokens\":5,\"max_completion_tokens\":6", "max_tokens");
    chat("\"cache_prompt\":true", NULL);
    chat("\"cache_prompt\":1", "cache_prompt");
    chat("\"speculative.n_max\":16", "speculative.n_max");
    chat("\"speculative.n_max\":\"0\"", "speculative.n_max");
    chat("\"timeout_ms\":0", "timeout_ms");
    chat("\"timeout_ms\":1.5", "timeout_ms");
    chat("\"timeout_ms\":2147483648", "timeout_ms");
    chat("\"t_max_predict_ms\":100", "t_max_predict_ms");
    chat("\"n\":0", "n");
    chat("\"n\":9", "n");
    chat("\"stream\":1", "stream");
    chat("\"stream_options\":{\"include_usage\":true}", "stream_options");
    chat("\"stream\":true,\"stream_options\":{\"x\":1}", "stream_options.x");
    chat("\"stream\":true,\"stream_options\":[]", "stream_options");
    chat("\"top_logprobs\":2", "top_logprobs");
    chat("\"logprobs\":true,\"top_logprobs\":21", "top_logprobs");
    chat("\"logprobs\":1", "logprobs");
    chat("\"stop\":\"\"", "stop");
    chat("\"stop\":[\"a\",1]", "stop");
    chat("\"stop\":\"a\\u0000b\"", "stop");
    chat("\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\","
         "\"h\"]",
         "stop");
    chat("\"logit_bias\":{\"1000\":1}", "logit_bias");
    chat("\"logit_bias\":{\"x\":1}", "logit_bias");
    chat("\"logit_bias\":{\"-1\":1}", "logit_bias");
    chat("\"logit_bias\":{\"1\":101}", "logit_bias");
    chat("\"logit_bias\":{\"1\":\"a\"}", "logit_bias");
    chat("\"logit_bias\":[[1,2]]", "logit_bias");
    chat("\"metadata\":{\"k\":1}", "metadata");
    chat("\"store\":true", "store");
    chat("\"service_tier\":\"best\"", "service_tier");
    chat("\"model\":5", "model");
    chat("\"user\":5", "user");
}

static void what_is_not_honoured_is_named(void **state) {
    (void)state;
    chat("\"response_format\":{\"type\":\"json_object\"}", "response_format");
    chat("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}", "response_format");
    chat("\"audio\":{}", "audio");
    chat("\"prediction\":{}", "prediction");
    chat("\"functions\":[]", "functions");
    chat("\"function_call\":\"auto\"", "function_call");
    chat("\"reasoning_effort\":\"low\"", "reasoning_effort");
    chat("\"modalities\":[\"audio\"]", "modalities");
    chat("\"tool_choice\":\"required\"", "tool_choice");
    chat("\"tool_choice\":{\"type\":\"function\"}", "tool_choice");
    chat("\"parallel_tool_calls\":false", "parallel_tool_calls");
    chat("\"prompt\":\"x\"", "prompt");
    chat("\"nonsense\":0", "nonsense");
    refuse(API_COMPLETION, "{\"prompt\":\"x\",\"messages\":[]}", "messages");
    refuse(API_COMPLETION, "{\"prompt\":\"x\",\"suffix\":\"y\"}", "suffix");
    refuse(API_TEMPLATE, "{" HI ",\"temperature\":1}", "temperature");
    refuse(API_CHAT, "{}", "messages");
    refuse(API_COMPLETION, "{}", "prompt");
    refuse(API_CHAT, "{\"messages\":", "");
    refuse(API_CHAT, "[]", "");
}

static void bad_messages(void **state) {
    (void)state;
    static const struct {
        const char *messages, *param;
    } bad[] = {
        {"[]", "messages"},
        {"{}", "messages"},
        {"\"hi\"", "messages"},
        {"[1]", "messages[0]"},
        {"[{\"content\":\"x\"}]", "messages[0].role"},
        {"[{\"role\":\"robot\",\"content\":\"x\"}]", "messages[0].role"},
        {"[{\"role\":\"user\"}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":null}]", "messages[0].content"},
        {"[{\"role\":\"assistant\",\"content\":null}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":5}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"user\",\"content\":{}}]", "messages[1].content"},
        {"[{\"role\":\"user\",\"content\":[\"x\"]}]", "messages[0].content[0]"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{}}]}]",
         "messages[0].content[0].type"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", "messages[0].content[0].text"},
        {"[{\"role\":\"user\",\"content\":\"x\",\"mood\":\"glad\"}]", "messages[0].mood"},
        {"[{\"role\":\"user\",\"content\":\"x\",\"name\":1}]", "messages[0].name"},
        {"[{\"role\":\"user\",\"content\":\"x\",\"tool_calls\":[]}]", "messages[0].tool_calls"},
        {"[{\"role\":\"assistant\",\"tool_calls\":{}}]", "messages[0].tool_calls"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{}]}]", "messages[0].tool_calls[0].function.name"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"x\",\"function\":{\"name\":\"f\"}}]}]",
         "messages[0].tool_calls[0].type"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]}]",
         "messages[0].tool_calls[0].function.arguments"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char body[512];
        snprintf(body, sizeof body, "{\"messages\":%s}", bad[i].messages);
        refuse(API_CHAT, body, bad[i].param);
    }
}

static const char conversation[] =
    "{\"messages\":["
    "{\"role\":\"developer\",\"content\":[{\"type\":\"text\",\"text\":\"one\"},{\"type\":\"text\",\"text\":\"two\"}]},"
    "{\"role\":\"user\",\"content\":\"\",\"name\":\"n\"},"
    "{\"role\":\"assistant\",\"content\":null,\"refusal\":null,\"annotations\":[],\"reasoning_content\":\"hm\","
    "\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}"
    "},"
    "{\"function\":{\"name\":\"g\",\"arguments\":{\"b\":[1.50,-123456789012345678901]}}},{\"function\":{\"name\":\"h\","
    "\"arguments\":\"\"}}]},"
    "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"nul\\u0000in\"}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d/e\","
    "\"parameters\":{\"z\":1.50,\"y\":123456789012345678901,\"a\":\"\xC3\xA9\"}}}],\"stop\":[\"a\",\"b\"],\"logit_"
    "bias\":{\"1\":2}}";

static void messages_and_tools(void **state) {
    (void)state;
    struct api_request r;
    accept(&r, API_CHAT, conversation);
    const sluice_message *m = r.chat.messages;
    assert_int_equal(r.chat.n_messages, 4);
    assert_string_equal(m[0].role, "developer");
    assert_int_equal(m[0].content_len, 7);
    assert_memory_equal(m[0].content, "one\ntwo", 8);
    assert_int_equal(m[1].content_len, 0);
    assert_non_null(m[1].content);
    assert_null(m[2].content);
    assert_string_equal(m[2].reasoning, "hm");
    assert_int_equal(m[2].n_tool_calls, 3);
    assert_string_equal(m[2].tool_calls[0].id, "c1");
    assert_string_equal(m[2].tool_calls[0].arguments_json, "{\"a\":1}");
    assert_string_equal(m[2].tool_calls[1].arguments_json, "{\"b\":[1.50,-123456789012345678901]}");
    assert_string_equal(m[2].tool_calls[2].arguments_json, "{}");
    assert_int_equal(m[3].content_len, 6);
    /* number text, key order, slashes and UTF-8 as they came */
    assert_string_equal(r.chat.tools_json,
                        "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d/e\","
                        "\"parameters\":{\"z\":1.50,\"y\":123456789012345678901,\"a\":\"\xC3\xA9\"}}}]");
    api_request_free(&r);

    accept(&r, API_TEMPLATE,
           "{" HI ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
           "\"tool_choice\":\"none\"}");
    assert_null(r.chat.tools_json);
    api_request_free(&r);
    chat("\"tools\":[]", NULL);
    chat("\"tools\":{}", "tools");
    chat("\"tools\":[5]", "tools[0]");
    chat("\"tools\":[{\"type\":\"web\"}]", "tools[0].type");
    chat("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"\"}}]", "tools[0].function.name");
    chat("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":1}}]",
         "tools[0].function.parameters");
}

static void prompts(void **state) {
    (void)state;
    struct api_request r;
    accept(&r, API_COMPLETION, "{\"prompt\":\"abc\",\"logprobs\":3,\"best_of\":1}");
    assert_int_equal(r.n_prompts, 1);
    assert_int_equal(r.prompts[0].len, 3);
    assert_true(r.logprobs && r.top_logprobs == 3);
    api_request_free(&r);
    accept(&r, API_COMPLETION, "{\"prompt\":[1,2,999],\"echo\":true}");
    assert_int_equal(r.n_prompts, 1);
    assert_null(r.prompts[0].text);
    assert_int_equal(r.prompts[0].n_tokens, 3);
    assert_int_equal(r.prompts[0].tokens[2], 999);
    api_request_free(&r);
    accept(&r, API_COMPLETION, "{\"prompt\":[\"a\",\"bc\"],\"n\":8}");
    assert_int_equal(r.n_prompts, 2);
    assert_string_equal(r.prompts[1].text, "bc");
    api_request_free(&r);
    accept(&r, API_COMPLETION, "{\"prompt\":[[1],[2,3]]}");
    assert_int_equal(r.n_prompts, 2);
    assert_int_equal(r.prompts[1].n_tokens, 2);
    api_request_free(&r);

    refuse(API_COMPLETION, "{\"prompt\":[]}", "prompt");
    refuse(API_COMPLETION, "{\"prompt\":[[]]}", "prompt");
    refuse(API_COMPLETION, "{\"prompt\":[1000]}", "prompt");
    refuse(API_COMPLETION, "{\"prompt\":[-1]}", "prompt");
    refuse(API_COMPLETION, "{\"prompt\":[1.5]}", "prompt");
    refuse(API_COMPLETION, "{\"prompt\":[1,\"a\"]}", "prompt");
    refuse(API_COMPLETION, "{\"prompt\":[\"a\",1]}", "prompt");
    refuse(API_COMPLETION, "{\"prompt\":{}}", "prompt");
    refuse(API_COMPLETION, "{\"prompt\":\"x\",\"best_of\":2}", "best_of");
    refuse(API_COMPLETION, "{\"prompt\":\"x\",\"echo\":true,\"logprobs\":1}", "echo");
    refuse(API_COMPLETION, "{\"prompt\":\"x\",\"logprobs\":true}", "logprobs");
    refuse(API_COMPLETION, "{\"prompt\":[\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\"],\"n\":8}", "n");
}

/* A client's field name may be anything: the error stays valid and in its bounds. */
static void strange_names(void **state) {
    (void)state;
    char body[4096];
    int n = sprintf(body, "{" HI ",\"");
    for (int i = 0; i < 700; i++) {
        n += sprintf(body + n, "\xC3\xA9");
    }
    sprintf(body + n, "\":1}");
    struct api_request r;
    struct api_error e;
    assert_false(parse(&r, API_CHAT, body, &e));
    struct buf out = {0};
    api_error_write(&e, &out);
    assert_false(out.failed);
    assert_null(strstr(out.data, "\xEF\xBF\xBD")); /* no half sequence was left */
    buf_free(&out);
    api_request_free(&r);
}

/* What a library's failure is to a client. */
static void statuses(void **state) {
    (void)state;
    static const struct {
        sluice_status status;
        int http;
        const char *type;
    } all[] = {
        {SLUICE_E_ARG, 400, "invalid_request_error"}, {SLUICE_E_LIMIT, 400, "invalid_request_error"},
        {SLUICE_E_BUSY, 503, "server_error"},         {SLUICE_E_CANCELLED, 503, "server_error"},
        {SLUICE_E_NOMEM, 500, "server_error"},        {SLUICE_E_BACKEND, 500, "server_error"},
        {SLUICE_E_TIMEOUT, 504, "timeout"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct api_error e;
        sluice_error err = {.status = all[i].status, .text = "a sentence"};
        assert_false(api_error_from_status(&e, &err));
        assert_int_equal(e.http, all[i].http);
        assert_string_equal(e.type, all[i].type);
    }
}

static void memory_runs_out(void **state) {
    (void)state;
    const char *const bodies[] = {conversation, "{\"prompt\":[[1,2],\"x\"],\"stop\":\"s\"}"};
    for (int b = 0; b < 2; b++) {
        bool through = false;
        for (long nth = 1; nth < 100 && !through; nth++) {
            struct api_request r;
            struct api_error e;
            mem_fail_nth(nth);
            through = parse(&r, b ? API_COMPLETION : API_CHAT, bodies[b], &e);
            mem_fail_nth(0);
            assert_true(through || e.http == 500);
            api_request_free(&r);
        }
        assert_true(through);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(all_fields),
        cmocka_unit_test(values_at_the_edges),
        cmocka_unit_test(what_is_not_honoured_is_named),
        cmocka_unit_test(bad_messages),
        cmocka_unit_test(messages_and_tools),
        cmocka_unit_test(prompts),
        cmocka_unit_test(strange_names),
        cmocka_unit_test(statuses),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
