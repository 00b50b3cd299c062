#include "bench/target.h"

#include "base/status.h"
#include "bench/target_json.h"

#include <stdio.h>
#include <string.h>

const char *const target_field_names[N_FIELDS] = {
    [FIELD_TEMPERATURE] = "temperature",
    [FIELD_TOP_P] = "top_p",
    [FIELD_TOP_K] = "top_k",
    [FIELD_MIN_P] = "min_p",
    [FIELD_REPEAT_PENALTY] = "repeat_penalty",
    [FIELD_PRESENCE_PENALTY] = "presence_penalty",
    [FIELD_FREQUENCY_PENALTY] = "frequency_penalty",
    [FIELD_SEED] = "seed",
    [FIELD_IGNORE_EOS] = "ignore_eos",
    [FIELD_MIN_TOKENS] = "min_tokens",
    [FIELD_CACHE_PROMPT] = "cache_prompt",
    [FIELD_TIMINGS_PER_TOKEN] = "timings_per_token",
    [FIELD_CONTINUOUS_USAGE] = "continuous_usage_stats",
    [FIELD_INCLUDE_USAGE] = "include_usage",
};

/* Least known first: what goes first where a refusal does not name the field. */
static const enum target_field drop_order[N_FIELDS] = {
    FIELD_TIMINGS_PER_TOKEN,
    FIELD_CONTINUOUS_USAGE,
    FIELD_MIN_TOKENS,
    FIELD_CACHE_PROMPT,
    FIELD_MIN_P,
    FIELD_REPEAT_PENALTY,
    FIELD_TOP_K,
    FIELD_IGNORE_EOS,
    FIELD_INCLUDE_USAGE,
    FIELD_SEED,
    FIELD_PRESENCE_PENALTY,
    FIELD_FREQUENCY_PENALTY,
    FIELD_TOP_P,
    FIELD_TEMPERATURE,
};

static const char probe_messages[] = "[{\"role\":\"user\",\"content\":\"Hi\"}]";

static bool is_engine(const struct target *t, const char *name) {
    return strcmp(t->engine, name) == 0;
}

static const char *field_name(const struct target *t, enum target_field f) {
    return f == FIELD_REPEAT_PENALTY && is_engine(t, "vllm") ? "repetition_penalty" : target_field_names[f];
}

static void put_value(const struct target *t, enum target_field f, uint32_t max_tokens, struct buf *out) {
    static const int fixed[N_FIELDS] = {[FIELD_TOP_P] = 1, [FIELD_REPEAT_PENALTY] = 1, [FIELD_SEED] = 1};
    if (!t->takes[f]) {
        return;
    }
    buf_printf(out, ",\"%s\":", field_name(t, f));
    if (f == FIELD_IGNORE_EOS || f == FIELD_CACHE_PROMPT || f == FIELD_TIMINGS_PER_TOKEN) {
        buf_puts(out, "true");
    } else {
        buf_printf(out, "%u", f == FIELD_MIN_TOKENS ? max_tokens : (unsigned)fixed[f]);
    }
}

void target_body(const struct target *t, const char *messages, uint32_t max_tokens, struct buf *out) {
    buf_puts(out, "{\"model\":");
    buf_json_string(out, t->model, strlen(t->model));
    buf_printf(out, ",\"messages\":%s,\"max_tokens\":%u,\"stream\":true", messages, max_tokens);
    if (t->takes[FIELD_INCLUDE_USAGE]) {
        buf_printf(out, ",\"stream_options\":{\"include_usage\":true%s}",
                   t->takes[FIELD_CONTINUOUS_USAGE] ? ",\"continuous_usage_stats\":true" : "");
    }
    for (int f = 0; f < N_FIELDS; f++) {
        if (f != FIELD_INCLUDE_USAGE && f != FIELD_CONTINUOUS_USAGE) {
            put_value(t, (enum target_field)f, max_tokens, out);
        }
    }
    buf_putc(out, '}');
}

/* ---- What it says of itself */

static struct json_object *get_json(struct target *t, const char *path, sluice_error *err) {
    long http_status = 0;
    struct json_object *v = NULL;
    if (client_fetch(t->client, path, NULL, &t->scratch, &http_status, err) == SLUICE_OK) {
        v = http_status == 200 ? json_parse_text(t->scratch.data, t->scratch.len) : NULL;
        if (!v) {
            fail(err, SLUICE_E_FORMAT, "%.200s%s answered HTTP %ld without JSON", t->url, path, http_status);
        }
    }
    return v;
}

static void copy_text(struct json_object *o, const char *key, char *out, size_t cap) {
    struct json_object *v = json_member(o, key, json_type_string);
    if (v) {
        snprintf(out, cap, "%s", json_object_get_string(v));
    }
}

/* The entry of /v1/models for the model asked for, or the first. */
static struct json_object *pick_entry(struct json_object *list, const char *model) {
    struct json_object *data = json_member(list, "data", json_type_array);
    for (size_t i = 0; data && model && i < json_object_array_length(data); i++) {
        char id[256] = "";
        copy_text(json_object_array_get_idx(data, i), "id", id, sizeof id);
        if (strcmp(id, model) == 0) {
            return json_object_array_get_idx(data, i);
        }
    }
    return model || !data ? NULL : json_object_array_get_idx(data, 0);
}

/* Servers name the context in different places: vLLM, llama.cpp, and others. */
static uint32_t find_context(struct json_object *entry) {
    static const char *const places[] = {"max_model_len", "context_length", "n_ctx"};
    for (size_t i = 0; entry && i < sizeof places / sizeof places[0]; i++) {
        if (json_member_u32(entry, places[i])) {
            return json_member_u32(entry, places[i]);
        }
    }
    return json_member_u32(json_member(entry, "meta", json_type_object), "n_ctx");
}

/* /props is llama-server's page, which ours has too. */
static bool read_props(struct target *t) {
    struct json_object *props = get_json(t, "/props", NULL);
    if (!json_member(props, "build_info", json_type_string)) {
        json_object_put(props);
        return false;
    }
    copy_text(props, "build_info", t->build, sizeof t->build);
    snprintf(t->engine, sizeof t->engine, "%s", strncmp(t->build, "sluice ", 7) == 0 ? "sluice" : "llama.cpp");
    copy_text(props, "backend", t->device_api, sizeof t->device_api);
    uint32_t n = json_member_u32(json_member(props, "default_generation_settings", json_type_object), "n_ctx");
    t->context = n ? n : t->context;
    t->slots = json_member_u32(props, "total_slots");
    t->cache_page = json_member_u32(props, "page_tokens");
    t->drafts = json_member_u32(props, "draft_max") > 0;
    json_object_put(props);
    return true;
}

static bool read_version(struct target *t, const char *path, const char *engine) {
    struct json_object *v = get_json(t, path, NULL);
    bool found = json_member(v, "version", json_type_string) != NULL;
    if (found) {
        copy_text(v, "version", t->build, sizeof t->build);
        snprintf(t->engine, sizeof t->engine, "%s", engine);
    }
    json_object_put(v);
    return found;
}

static sluice_status read_identity(struct target *t, const char *model, sluice_error *err) {
    sluice_error why = {0};
    struct json_object *list = get_json(t, "/v1/models", &why);
    if (!list && why.status != SLUICE_E_FORMAT) {
        return fail(err, why.status, "%s", why.text);
    }
    struct json_object *entry = pick_entry(list, model);
    snprintf(t->model, sizeof t->model, "%s", model ? model : "");
    if (!model) {
        copy_text(entry, "id", t->model, sizeof t->model);
    }
    copy_text(entry, "owned_by", t->engine, sizeof t->engine);
    t->context = find_context(entry);
    json_object_put(list);
    if (!t->model[0]) {
        return fail(err, SLUICE_E_IO, "%s lists no model at /v1/models (%s); name one with --model", t->url,
                    why.text[0] ? why.text : "the list is empty");
    }
    if (!read_props(t) && !read_version(t, "/version", "vllm")) {
        (void)read_version(t, "/api/version", "ollama");
    }
    return SLUICE_OK;
}

/* ---- How it counts */

static sluice_status ask_tokenizer(struct target *t, const char *text, size_t n, bool parse_special, int64_t *count,
                                   sluice_error *err) {
    struct buf body = {0};
    long http_status = 0;
    *count = -1;
    if (t->tokenizer == TOKENIZER_LLAMA) {
        buf_puts(&body, "{\"content\":");
        buf_json_string(&body, text, n);
        buf_printf(&body, ",\"add_special\":false,\"parse_special\":%s}", parse_special ? "true" : "false");
    } else {
        buf_puts(&body, "{\"model\":");
        buf_json_string(&body, t->model, strlen(t->model));
        buf_puts(&body, ",\"prompt\":");
        buf_json_string(&body, text, n);
        buf_puts(&body, ",\"add_special_tokens\":false}");
    }
    sluice_status status = body.failed
                               ? fail(err, SLUICE_E_NOMEM, "no memory for a text to be counted")
                               : client_fetch(t->client, "/tokenize", body.data, &t->scratch, &http_status, err);
    buf_free(&body);
    TRY(status);
    struct json_object *v = http_status == 200 ? json_parse_text(t->scratch.data, t->scratch.len) : NULL;
    struct json_object *tokens = json_member(v, "tokens", json_type_array);
    struct json_object *number = json_member(v, "count", json_type_int);
    if (tokens) {
        *count = (int64_t)json_object_array_length(tokens);
    } else if (number) {
        *count = json_object_get_int64(number);
    }
    json_object_put(v);
    return SLUICE_OK;
}

sluice_status target_count_text(struct target *t, const char *text, size_t n, bool parse_special, uint32_t *out,
                                sluice_error *err) {
    int64_t count;
    TRY(ask_tokenizer(t, text, n, parse_special, &count, err));
    if (count < 0 || count > UINT32_MAX) {
        return fail(err, SLUICE_E_FORMAT, "%s/tokenize gave no count of tokens for a text of %zu bytes", t->url, n);
    }
    *out = (uint32_t)count;
    return SLUICE_OK;
}

/* A text of which no tokenizer makes a single token, so that a page that answers anything is not taken for one. */
static sluice_status find_tokenizer(struct target *t, sluice_error *err) {
    static const char text[] = "one two three";
    for (int kind = TOKENIZER_LLAMA; kind < TOKENIZER_USAGE; kind++) {
        int64_t count;
        t->tokenizer = (enum target_tokenizer)kind;
        TRY(ask_tokenizer(t, text, strlen(text), false, &count, err));
        if (count > 1 && count <= (int64_t)strlen(text)) {
            return SLUICE_OK;
        }
    }
    t->tokenizer = TOKENIZER_USAGE;
    return SLUICE_OK;
}

bool target_render(struct target *t, const char *messages, struct buf *out) {
    struct buf body = {0};
    long http_status = 0;
    if (t->tokenizer != TOKENIZER_LLAMA) {
        return false;
    }
    buf_printf(&body, "{\"messages\":%s}", messages);
    sluice_status status = body.failed
                               ? SLUICE_E_NOMEM
                               : client_fetch(t->client, "/apply-template", body.data, &t->scratch, &http_status, NULL);
    buf_free(&body);
    struct json_object *v =
        status == SLUICE_OK && http_status == 200 ? json_parse_text(t->scratch.data, t->scratch.len) : NULL;
    struct json_object *prompt = json_member(v, "prompt", json_type_string);
    if (prompt) {
        buf_reset(out);
        buf_append(out, json_object_get_string(prompt), (size_t)json_object_get_string_len(prompt));
    }
    json_object_put(v);
    return prompt && !out->failed;
}

/* ---- What it takes */

static sluice_status ask_once(struct target *t, const char *messages, struct sample *s, sluice_error *err) {
    struct buf body = {0};
    target_body(t, messages, 1, &body);
    if (body.failed) {
        buf_free(&body);
        return fail(err, SLUICE_E_NOMEM, "no memory for a request");
    }
    sample_reset(s);
    struct client_request q = {.body = body.data, .body_len = body.len, .due_ms = -1, .max_tokens = 1, .sample = s};
    t->setup_requests++;
    sluice_status status = client_run(t->client, &q, 1, NULL, NULL, err);
    buf_free(&body);
    sample_free(s);
    if (s->ok && s->cached_tokens >= 0) {
        t->reports_cached = true;
    }
    return status;
}

sluice_status target_count_prompt(struct target *t, const char *messages, uint32_t *out, sluice_error *err) {
    struct sample s;
    TRY(ask_once(t, messages, &s, err));
    if (!s.ok) {
        return fail(err, s.refused ? SLUICE_E_LIMIT : SLUICE_E_IO, "%s", s.error);
    }
    if (s.prompt_tokens <= 0 || s.prompt_tokens > UINT32_MAX) {
        return fail(
            err, SLUICE_E_UNSUPPORTED,
            "%s counts no prompt tokens (no `usage` in its stream, no /tokenize), so no prompt can be made to size",
            t->url);
    }
    *out = (uint32_t)s.prompt_tokens;
    return SLUICE_OK;
}

/* The field that a refusal is about; N_FIELDS when it names none. */
static enum target_field named_field(const struct target *t, const char *error) {
    for (int f = 0; f < N_FIELDS; f++) {
        if (t->takes[f] && strstr(error, field_name(t, (enum target_field)f))) {
            return (enum target_field)f;
        }
    }
    return N_FIELDS;
}

/* Fields dropped on suspicion are tried again one by one, all but the one after which the server agreed. */
static sluice_status take_back(struct target *t, const bool *suspected, enum target_field last, sluice_error *err) {
    for (int f = 0; f < N_FIELDS; f++) {
        struct sample s;
        if (suspected[f] && (enum target_field)f != last) {
            t->takes[f] = true;
            TRY(ask_once(t, probe_messages, &s, err));
            t->takes[f] = s.ok;
        }
    }
    return SLUICE_OK;
}

static sluice_status find_fields(struct target *t, bool natural_stop, sluice_error *err) {
    bool suspected[N_FIELDS] = {false};
    enum target_field last = N_FIELDS;
    for (int f = 0; f < N_FIELDS; f++) {
        t->takes[f] = !(natural_stop && (f == FIELD_IGNORE_EOS || f == FIELD_MIN_TOKENS));
    }
    for (;;) {
        struct sample s;
        TRY(ask_once(t, probe_messages, &s, err));
        if (s.ok) {
            return take_back(t, suspected, last, err);
        }
        enum target_field drop = s.refused ? named_field(t, s.error) : N_FIELDS;
        last = N_FIELDS;
        for (int i = 0; s.refused && drop == N_FIELDS && i < N_FIELDS; i++) {
            if (t->takes[drop_order[i]]) {
                last = drop = drop_order[i];
                suspected[drop] = true;
            }
        }
        if (drop == N_FIELDS) {
            return fail(err, SLUICE_E_IO, "%s", s.error);
        }
        t->takes[drop] = false;
        if (drop == FIELD_INCLUDE_USAGE) {
            t->takes[FIELD_CONTINUOUS_USAGE] = false;
        }
    }
}

sluice_status target_identify(struct target *t, const char *model, bool natural_stop, sluice_error *err) {
    TRY(read_identity(t, model, err));
    TRY(find_fields(t, natural_stop, err));
    return find_tokenizer(t, err);
}

void target_free(struct target *t) {
    buf_free(&t->scratch);
}
