#include "server/api_request.h"

#include "base/limits.h"
#include "server/json_body.h"

#include <json-c/json.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct field;
typedef bool (*field_reader)(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e);

struct field {
    const char *name;
    unsigned surfaces;
    field_reader read;
    size_t offset; /* in struct api_request, for readers that store one value */
    double min, max;
};

/* ---- Values --------------------------------------------------------------------------------------------------- */

static bool read_float(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    enum json_type t = json_object_get_type(v);
    double d = json_object_get_double(v);
    if ((t != json_type_int && t != json_type_double) || !(d >= f->min && d <= f->max)) {
        return api_error_field(e, f->name, " must be a number from %g to %g", f->min, f->max);
    }
    *(float *)((char *)r + f->offset) = (float)d;
    return true;
}

/* Whole numbers may be written 100.0, as some clients do. */
static bool whole_number(struct json_object *v, double min, double max, int64_t *out) {
    enum json_type t = json_object_get_type(v);
    if (t == json_type_int) {
        *out = json_object_get_int64(v); /* saturates */
    } else if (t == json_type_double) {
        double d = json_object_get_double(v);
        if (!(fabs(d) < 0x1p53) || d != floor(d)) {
            return false;
        }
        *out = (int64_t)d;
    } else {
        return false;
    }
    return (double)*out >= min && (double)*out <= max;
}

static bool read_u32(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    int64_t i;
    if (!whole_number(v, f->min, f->max, &i)) {
        return api_error_field(e, f->name, " must be an integer from %.0f to %.0f", f->min, f->max);
    }
    *(uint32_t *)((char *)r + f->offset) = (uint32_t)i;
    return true;
}

static bool read_bool(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    if (!json_object_is_type(v, json_type_boolean)) {
        return api_error_field(e, f->name, " must be true or false");
    }
    *(bool *)((char *)r + f->offset) = json_object_get_boolean(v);
    return true;
}

/* Fields whose only supported value is the API's default: f->min is that boolean. */
static bool read_fixed_bool(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    (void)r;
    if (!json_object_is_type(v, json_type_boolean)) {
        return api_error_field(e, f->name, " must be true or false");
    }
    bool want = f->min != 0;
    if (json_object_get_boolean(v) != want) {
        return api_error_field(e, f->name, ": only %s is supported", want ? "true" : "false");
    }
    return true;
}

static bool is_string(struct json_object *v, const char *text) {
    return json_object_is_type(v, json_type_string) && (size_t)json_object_get_string_len(v) == strlen(text) &&
           memcmp(json_object_get_string(v), text, strlen(text)) == 0;
}

/* ---- Fields with a meaning of their own ----------------------------------------------------------------------- */

static bool read_string(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    (void)r; /* identification and hints: taken and not used */
    return json_object_is_type(v, json_type_string) || api_error_field(e, f->name, " must be a string");
}

static bool read_metadata(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    (void)r;
    if (!json_object_is_type(v, json_type_object)) {
        return api_error_field(e, f->name, " must be an object of strings");
    }
    json_object_object_foreach(v, key, value) {
        (void)key;
        if (!json_object_is_type(value, json_type_string)) {
            return api_error_field(e, f->name, " must be an object of strings");
        }
    }
    return true;
}

static bool read_service_tier(struct api_request *r, const struct field *f, struct json_object *v,
                              struct api_error *e) {
    (void)r;
    static const char *const tiers[] = {"auto", "default", "flex", "scale", "priority"};
    for (size_t i = 0; i < sizeof tiers / sizeof *tiers; i++) {
        if (is_string(v, tiers[i])) {
            return true;
        }
    }
    return api_error_field(e, f->name, " must be auto, default, flex, scale or priority");
}

static bool read_top_k(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    int64_t i;
    if (!whole_number(v, f->min, f->max, &i)) {
        return api_error_field(e, f->name, " must be an integer from -1 to %.0f (0 and -1 switch it off)", f->max);
    }
    r->sampling.top_k = i < 0 ? 0 : (int32_t)i;
    return true;
}

static bool read_seed(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    int64_t i;
    if (!whole_number(v, -0x1p63, 0x1p63, &i)) {
        return api_error_field(e, f->name, " must be a 64-bit integer");
    }
    r->sampling.seed = i < 0 ? (uint64_t)i : json_object_get_uint64(v);
    r->has_seed = true;
    return true;
}

static bool read_stop_string(struct api_request *r, struct json_object *v, struct api_error *e) {
    if (!json_object_is_type(v, json_type_string)) {
        return api_error_field(e, "stop", " must be a string or an array of strings");
    }
    const char *s = json_object_get_string(v);
    size_t len = (size_t)json_object_get_string_len(v);
    if (len == 0 || len > LIMIT_STOP_BYTES || memchr(s, 0, len)) {
        return api_error_field(e, "stop", ": each string must have 1 to %u bytes and no NUL", LIMIT_STOP_BYTES);
    }
    r->stop[r->n_stop++] = s;
    return true;
}

static bool read_stop(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    bool is_array = json_object_is_type(v, json_type_array);
    size_t n = is_array ? json_object_array_length(v) : 1;
    if (n > LIMIT_STOP_STRINGS) {
        return api_error_field(e, f->name, ": at most %u strings", LIMIT_STOP_STRINGS);
    }
    r->stop = arena_calloc(&r->arena, n, sizeof *r->stop);
    if (!r->stop) {
        return api_error_nomem(e);
    }
    for (size_t i = 0; i < n; i++) {
        if (!read_stop_string(r, is_array ? json_object_array_get_idx(v, i) : v, e)) {
            return false;
        }
    }
    return true;
}

static bool read_bias_entry(struct api_request *r, const char *key, struct json_object *v, struct api_error *e) {
    char *end;
    unsigned long long id = strtoull(key, &end, 10);
    if (key[0] < '0' || key[0] > '9' || *end || id >= r->n_vocab) {
        return api_error_field(e, "logit_bias", ": \"%.40s\" is not a token id from 0 to %u", key, r->n_vocab - 1);
    }
    enum json_type t = json_object_get_type(v);
    double bias = json_object_get_double(v);
    if ((t != json_type_int && t != json_type_double) || !(bias >= -100 && bias <= 100)) {
        return api_error_field(e, "logit_bias", ": the bias of token %llu must be a number from -100 to 100", id);
    }
    r->logit_bias[r->n_logit_bias++] = (sluice_logit_bias){.token = (int32_t)id, .bias = (float)bias};
    return true;
}

static bool read_logit_bias(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    if (!json_object_is_type(v, json_type_object)) {
        return api_error_field(e, f->name, " must be an object: token id -> bias");
    }
    size_t n = (size_t)json_object_object_length(v);
    if (n > LIMIT_LOGIT_BIAS) {
        return api_error_field(e, f->name, ": at most %u tokens", LIMIT_LOGIT_BIAS);
    }
    r->logit_bias = arena_calloc(&r->arena, n, sizeof *r->logit_bias);
    if (!r->logit_bias) {
        return api_error_nomem(e);
    }
    json_object_object_foreach(v, key, value) {
        if (!read_bias_entry(r, key, value, e)) {
            return false;
        }
    }
    return true;
}

static bool read_stream_options(struct api_request *r, const struct field *f, struct json_object *v,
                                struct api_error *e) {
    if (!json_object_is_type(v, json_type_object)) {
        return api_error_field(e, f->name, " must be an object");
    }
    r->has_stream_options = true;
    static const struct field usage = {"stream_options.include_usage",
                                       .offset = offsetof(struct api_request, include_usage)};
    static const struct field running = {"stream_options.continuous_usage_stats",
                                         .offset = offsetof(struct api_request, continuous_usage)};
    static const struct field padding = {"stream_options.include_obfuscation", .min = 0};
    json_object_object_foreach(v, key, value) {
        bool ok;
        if (!value) {
            continue;
        }
        if (strcmp(key, "include_usage") == 0) {
            ok = read_bool(r, &usage, value, e);
        } else if (strcmp(key, "continuous_usage_stats") == 0) { /* vLLM's: the counts so far in every chunk */
            ok = read_bool(r, &running, value, e);
        } else if (strcmp(key, "include_obfuscation") == 0) {
            ok = read_fixed_bool(r, &padding, value, e);
        } else {
            char name[80];
            snprintf(name, sizeof name, "stream_options.%s", key);
            ok = api_error_field(e, name, " is not supported");
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}

static bool read_response_format(struct api_request *r, const struct field *f, struct json_object *v,
                                 struct api_error *e) {
    (void)r;
    if (json_object_is_type(v, json_type_object) && json_object_object_length(v) == 1 &&
        is_string(json_object_object_get(v, "type"), "text")) {
        return true;
    }
    return api_error_field(e, f->name, ": only {\"type\":\"text\"} is supported");
}

static bool read_modalities(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    (void)r;
    if (json_object_is_type(v, json_type_array) && json_object_array_length(v) == 1 &&
        is_string(json_object_array_get_idx(v, 0), "text")) {
        return true;
    }
    return api_error_field(e, f->name, ": only [\"text\"] is supported");
}

static bool read_tool_choice(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    r->tools_off = is_string(v, "none");
    return r->tools_off || is_string(v, "auto") ||
           api_error_field(e, f->name, ": only \"auto\" and \"none\" are supported");
}

/* llama-server's bound on guessed tokens. How many of the server's own bound are worth it is the engine's to judge; a
 * client can only switch guessing off. */
static bool read_drafts(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    int64_t i;
    r->no_draft = whole_number(v, 0, 0, &i);
    return r->no_draft || api_error_field(e, f->name, ": only 0 (no drafts) is supported; --draft-max bounds them");
}

/* chat: true or false; completions: how many alternatives to list */
static bool read_logprobs(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    if (f->surfaces == API_CHAT) {
        return read_bool(r, f, v, e);
    }
    r->logprobs = true;
    return read_u32(r, f, v, e);
}

static bool read_top_logprobs(struct api_request *r, const struct field *f, struct json_object *v,
                              struct api_error *e) {
    r->has_top_logprobs = true;
    return read_u32(r, f, v, e);
}

static bool read_suffix(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    (void)r;
    return is_string(v, "") || api_error_field(e, f->name, ": filling in before a suffix is not supported");
}

static bool read_messages(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    (void)f;
    return api_read_messages(r, v, e);
}

static bool read_tools(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    (void)f;
    return api_read_tools(r, v, e);
}

/* ---- Prompts of /v1/completions ------------------------------------------------------------------------------- */

static bool prompt_from_string(struct api_prompt *p, struct json_object *v) {
    p->text = json_object_get_string(v);
    p->len = (size_t)json_object_get_string_len(v);
    return true;
}

static bool prompt_from_ids(struct api_request *r, struct api_prompt *p, struct json_object *v, struct api_error *e) {
    size_t n = json_object_array_length(v);
    if (n == 0) {
        return api_error_field(e, "prompt", " must not be an empty array");
    }
    int32_t *ids = arena_calloc(&r->arena, n, sizeof *ids);
    if (!ids) {
        return api_error_nomem(e);
    }
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        if (!whole_number(json_object_array_get_idx(v, i), 0, (double)r->n_vocab - 1, &id)) {
            return api_error_field(e, "prompt", ": element %zu is not a token id from 0 to %u", i, r->n_vocab - 1);
        }
        ids[i] = (int32_t)id;
    }
    p->tokens = ids;
    p->n_tokens = n;
    return true;
}

static bool read_one_prompt(struct api_request *r, struct json_object *v, struct api_error *e) {
    struct api_prompt *p = &r->prompts[r->n_prompts++];
    if (json_object_is_type(v, json_type_string)) {
        return prompt_from_string(p, v);
    }
    if (json_object_is_type(v, json_type_array)) {
        return prompt_from_ids(r, p, v, e);
    }
    return api_error_field(e, "prompt", " must be a string, an array of token ids, or an array of these");
}

static bool read_prompt(struct api_request *r, const struct field *f, struct json_object *v, struct api_error *e) {
    size_t n = 1;
    bool many = false;
    if (json_object_is_type(v, json_type_array) && json_object_array_length(v) > 0) {
        enum json_type first = json_object_get_type(json_object_array_get_idx(v, 0));
        many = first == json_type_string || first == json_type_array;
        n = many ? json_object_array_length(v) : 1;
    }
    if (n > LIMIT_PROMPTS) {
        return api_error_field(e, f->name, ": at most %u prompts in one request", LIMIT_PROMPTS);
    }
    r->prompts = arena_calloc(&r->arena, n, sizeof *r->prompts);
    if (!r->prompts) {
        return api_error_nomem(e);
    }
    for (size_t i = 0; i < n; i++) {
        if (!read_one_prompt(r, many ? json_object_array_get_idx(v, i) : v, e)) {
            return false;
        }
    }
    return true;
}

/* ---- The table ------------------------------------------------------------------------------------------------ */

#define GENERATE (API_CHAT | API_COMPLETION)
#define ANY      (API_CHAT | API_COMPLETION | API_TEMPLATE)
#define AT(m)    offsetof(struct api_request, m)

static const struct field fields[] = {
    {"model", ANY, read_string},
    {"messages", API_CHAT | API_TEMPLATE, read_messages},
    {"tools", API_CHAT | API_TEMPLATE, read_tools},
    {"tool_choice", API_CHAT | API_TEMPLATE, read_tool_choice},
    {"parallel_tool_calls", API_CHAT, read_fixed_bool, .min = 1},
    {"prompt", API_COMPLETION, read_prompt},
    {"temperature", GENERATE, read_float, AT(sampling.temperature), 0, 5},
    {"top_p", GENERATE, read_float, AT(sampling.top_p), 0, 1},
    {"top_k", GENERATE, read_top_k, 0, -1, LIMIT_VOCAB},
    {"min_p", GENERATE, read_float, AT(sampling.min_p), 0, 1},
    {"repetition_penalty", GENERATE, read_float, AT(sampling.repetition_penalty), 0.01, 10},
    {"repeat_penalty", GENERATE, read_float, AT(sampling.repetition_penalty), 0.01, 10},
    {"presence_penalty", GENERATE, read_float, AT(sampling.presence_penalty), -2, 2},
    {"frequency_penalty", GENERATE, read_float, AT(sampling.frequency_penalty), -2, 2},
    {"logit_bias", GENERATE, read_logit_bias},
    {"seed", GENERATE, read_seed},
    {"stop", GENERATE, read_stop},
    {"max_tokens", GENERATE, read_u32, AT(max_tokens), 1, 0x7FFFFFFF},
    {"max_completion_tokens", API_CHAT, read_u32, AT(max_tokens), 1, 0x7FFFFFFF},
    {"n", GENERATE, read_u32, AT(n), 1, LIMIT_CHOICES},
    {"best_of", API_COMPLETION, read_u32, AT(best_of), 1, LIMIT_CHOICES},
    {"stream", GENERATE, read_bool, AT(stream)},
    {"stream_options", GENERATE, read_stream_options},
    {"logprobs", API_CHAT, read_logprobs, AT(logprobs)},
    {"logprobs", API_COMPLETION, read_logprobs, AT(top_logprobs), 0, SLUICE_TOP_LOGPROBS_MAX},
    {"top_logprobs", API_CHAT, read_top_logprobs, AT(top_logprobs), 0, SLUICE_TOP_LOGPROBS_MAX},
    {"ignore_eos", GENERATE, read_bool, AT(ignore_eos)},
    {"cache_prompt", GENERATE, read_bool, AT(cache_prompt)},
    {"speculative.n_max", GENERATE, read_drafts},
    {"timeout_ms", GENERATE, read_u32, AT(timeout_ms), 1, 0x7FFFFFFF},
    {"echo", API_COMPLETION, read_bool, AT(echo)},
    {"suffix", API_COMPLETION, read_suffix},
    {"response_format", GENERATE, read_response_format},
    {"modalities", API_CHAT, read_modalities},
    {"user", GENERATE, read_string},
    {"safety_identifier", GENERATE, read_string},
    {"prompt_cache_key", GENERATE, read_string},
    {"metadata", GENERATE, read_metadata},
    {"store", GENERATE, read_fixed_bool, .min = 0},
    {"service_tier", GENERATE, read_service_tier},
};

static const struct field *find_field(const char *name, enum api_surface surface) {
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if ((fields[i].surfaces & surface) && strcmp(fields[i].name, name) == 0) {
            return &fields[i];
        }
    }
    return NULL;
}

/* Two spellings of one setting: the later one in the body would silently win. */
static bool check_twins(struct api_request *r, const char *a, const char *b, struct api_error *e) {
    struct json_object *va = json_object_object_get(r->tree, a), *vb = json_object_object_get(r->tree, b);
    if (va && vb && !json_object_equal(va, vb)) {
        return api_error_field(e, a, " and %s are the same setting and differ", b);
    }
    return true;
}

static bool check_together(struct api_request *r, enum api_surface surface, struct api_error *e) {
    if (surface != API_COMPLETION && !r->chat.messages) {
        return api_error_field(e, "messages", " is required");
    }
    if (surface == API_COMPLETION && !r->prompts) {
        return api_error_field(e, "prompt", " is required");
    }
    if (!check_twins(r, "max_tokens", "max_completion_tokens", e) ||
        !check_twins(r, "repetition_penalty", "repeat_penalty", e)) {
        return false;
    }
    if (r->has_stream_options && !r->stream) {
        return api_error_field(e, "stream_options", " is only allowed when stream is true");
    }
    if (r->has_top_logprobs && !r->logprobs) {
        return api_error_field(e, "top_logprobs", " needs logprobs to be true");
    }
    if (r->echo && r->logprobs) {
        return api_error_field(e, "echo", " together with logprobs is not supported");
    }
    if (r->best_of && r->best_of != r->n) {
        return api_error_field(e, "best_of", " other than n is not supported");
    }
    if (r->n_prompts * r->n > LIMIT_ANSWERS) {
        return api_error_field(e, "n", " times the number of prompts must not exceed %u", LIMIT_ANSWERS);
    }
    r->chat.tools_json = r->tools_off ? NULL : r->tools_json;
    return true;
}

bool api_request_parse(struct api_request *r, enum api_surface surface, const sluice_model_info *model,
                       const char *body, size_t n, struct api_error *e) {
    *r = (struct api_request){.sampling = model->recommended, .n = 1, .cache_prompt = true, .n_vocab = model->n_vocab};
    if (surface == API_COMPLETION) {
        r->max_tokens = 16; /* the API's default */
    }
    sluice_error err = {0};
    if (json_body_parse(body, n, &r->tree, &err) != SLUICE_OK) {
        return api_error_from_status(e, &err);
    }
    json_object_object_foreach(r->tree, key, value) {
        if (!value) {
            continue;
        }
        const struct field *f = find_field(key, surface);
        if (!f) {
            return api_error_field(e, key, " is not a supported field of this endpoint");
        }
        if (!f->read(r, f, value, e)) {
            return false;
        }
    }
    return check_together(r, surface, e);
}

void api_request_free(struct api_request *r) {
    json_object_put(r->tree);
    arena_free(&r->arena);
    *r = (struct api_request){0};
}
