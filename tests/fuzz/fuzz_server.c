/*
 * Any bytes as a request's body. The first byte says for which call; the reader gives either a request whose every part
 * can be used or an error that can be sent.
 */
#include "base/buf.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "server/api_request.h"
#include "server/json_body.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sluice_model_info model = {
    .name = "fuzz",
    .n_vocab = 1000,
    .recommended = {.temperature = 0.3f, .top_p = 1, .min_p = 0.15f, .repetition_penalty = 1.05f},
};

static void require(bool ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "violated: %s\n", what);
        abort();
    }
}

static void check_utf8(const char *s, size_t n, const char *what) {
    require(utf8_valid_prefix(s, n) == n, what);
}

/* What was read and written out again reads as the same value. */
static void check_tree(struct json_object *tree) {
    size_t n;
    const char *text =
        json_object_to_json_string_length(tree, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &n);
    struct json_object *again;
    sluice_error err = {0};
    check_utf8(text, n, "a tree is UTF-8");
    require(json_body_parse(text, n, &again, &err) == SLUICE_OK, "a tree's text is JSON");
    size_t m;
    const char *twice =
        json_object_to_json_string_length(again, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &m);
    require(n == m && memcmp(text, twice, n) == 0, "a tree's text is its value");
    json_object_put(again);
}

static void check_sampling(const sluice_sampling *s) {
    const float values[] = {s->temperature,      s->top_p, s->min_p, s->repetition_penalty, s->presence_penalty,
                            s->frequency_penalty};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        require(isfinite(values[i]), "sampling is finite");
    }
    require(s->temperature >= 0 && s->repetition_penalty > 0 && s->top_k >= 0, "sampling is in range");
}

static void check_chat(const sluice_chat *c) {
    require(c->n_messages > 0 && c->n_messages <= LIMIT_MESSAGES, "messages are counted");
    for (size_t i = 0; i < c->n_messages; i++) {
        const sluice_message *m = &c->messages[i];
        require(m->role != NULL, "a message has a role");
        require(m->content || m->n_tool_calls > 0, "a message says something");
        check_utf8(m->content ? m->content : "", m->content ? m->content_len : 0, "content is UTF-8");
        for (size_t k = 0; k < m->n_tool_calls; k++) {
            require(m->tool_calls[k].name[0] && m->tool_calls[k].arguments_json[0], "a call is complete");
        }
    }
    if (c->tools_json) {
        check_utf8(c->tools_json, strlen(c->tools_json), "tools are UTF-8");
        require(c->tools_json[0] == '[', "tools are an array");
    }
}

static void check_prompts(const struct api_request *r) {
    require(r->n_prompts > 0 && r->n_prompts <= LIMIT_PROMPTS, "prompts are counted");
    for (size_t i = 0; i < r->n_prompts; i++) {
        const struct api_prompt *p = &r->prompts[i];
        check_utf8(p->text ? p->text : "", p->text ? p->len : 0, "a prompt is UTF-8");
        for (size_t k = 0; k < p->n_tokens; k++) {
            require(p->tokens[k] >= 0 && (uint32_t)p->tokens[k] < model.n_vocab, "ids are in range");
        }
    }
}

static void check_request(const struct api_request *r, enum api_surface surface) {
    check_tree(r->tree);
    check_sampling(&r->sampling);
    require(r->n >= 1 && r->n <= LIMIT_CHOICES && r->n_stop <= LIMIT_STOP_STRINGS, "counts are in range");
    for (size_t i = 0; i < r->n_stop; i++) {
        require(r->stop[i][0] != '\0' && strlen(r->stop[i]) <= LIMIT_STOP_BYTES, "a stop string is not empty");
    }
    for (size_t i = 0; i < r->n_logit_bias; i++) {
        require((uint32_t)r->logit_bias[i].token < model.n_vocab && fabsf(r->logit_bias[i].bias) <= 100,
                "biases are in range");
    }
    if (surface == API_COMPLETION) {
        check_prompts(r);
    } else {
        check_chat(&r->chat);
    }
}

static void check_error(const struct api_error *e) {
    struct buf out = {0};
    struct json_object *tree;
    api_error_write(e, &out);
    require(e->http == 400 && e->message[0], "a refusal says why");
    require(json_body_parse(out.data, out.len, &tree, NULL) == SLUICE_OK, "an error is JSON");
    json_object_put(tree);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const enum api_surface surfaces[] = {API_CHAT, API_COMPLETION, API_TEMPLATE};
    if (size == 0) {
        return 0;
    }
    enum api_surface surface = surfaces[data[0] % 3];
    struct api_request r;
    struct api_error e = {0};
    if (api_request_parse(&r, surface, &model, (const char *)data + 1, size - 1, &e)) {
        check_request(&r, surface);
    } else {
        check_error(&e);
    }
    api_request_free(&r);
    return 0;
}
