#include "server/api_request.h"

#include "base/limits.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

/* Where in the body we are: "messages[2].tool_calls[0]". */
struct path {
    char text[96];
};

static struct path path_index(const char *name, size_t i) {
    struct path p;
    snprintf(p.text, sizeof p.text, "%s[%zu]", name, i);
    return p;
}

static bool fault(struct api_error *e, const struct path *p, const char *key, const char *what) {
    char name[160];
    snprintf(name, sizeof name, "%s%s%.60s", p->text, key ? "." : "", key ? key : "");
    return api_error_field(e, name, "%s", what);
}

/* A string that C code takes as such: no NUL inside. */
static const char *plain_string(struct json_object *v) {
    if (!json_object_is_type(v, json_type_string)) {
        return NULL;
    }
    const char *s = json_object_get_string(v);
    return strlen(s) == (size_t)json_object_get_string_len(v) ? s : NULL;
}

/* ---- Content -------------------------------------------------------------------------------------------------- */

static bool check_text_part(struct json_object *part, const struct path *p, struct api_error *e) {
    if (!json_object_is_type(part, json_type_object)) {
        return fault(e, p, NULL, " must be an object with type and text");
    }
    const char *type = plain_string(json_object_object_get(part, "type"));
    if (!type || strcmp(type, "text") != 0) {
        return fault(e, p, "type", ": only \"text\" is supported");
    }
    if (!json_object_is_type(json_object_object_get(part, "text"), json_type_string)) {
        return fault(e, p, "text", " must be a string");
    }
    json_object_object_foreach(part, key, value) {
        if (value && strcmp(key, "type") != 0 && strcmp(key, "text") != 0) {
            return fault(e, p, key, " is not supported");
        }
    }
    return true;
}

/* Text parts become one text, each on a line of its own. */
static bool join_parts(struct api_request *r, struct json_object *parts, const char *where, sluice_message *m,
                       struct api_error *e) {
    size_t n = json_object_array_length(parts), len = 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *part = json_object_array_get_idx(parts, i);
        char name[48];
        snprintf(name, sizeof name, "%.32s.content", where);
        struct path p = path_index(name, i);
        if (!check_text_part(part, &p, e)) {
            return false;
        }
        len += (size_t)json_object_get_string_len(json_object_object_get(part, "text")) + 1;
    }
    char *text = arena_calloc(&r->arena, len + 1, 1);
    if (!text) {
        return api_error_nomem(e);
    }
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *t = json_object_object_get(json_object_array_get_idx(parts, i), "text");
        if (i > 0) {
            text[at++] = '\n';
        }
        memcpy(text + at, json_object_get_string(t), (size_t)json_object_get_string_len(t));
        at += (size_t)json_object_get_string_len(t);
    }
    m->content = text;
    m->content_len = at;
    return true;
}

static bool read_content(struct api_request *r, struct json_object *v, const struct path *p, sluice_message *m,
                         struct api_error *e) {
    if (json_object_is_type(v, json_type_string)) {
        m->content = json_object_get_string(v);
        m->content_len = (size_t)json_object_get_string_len(v);
        return true;
    }
    if (json_object_is_type(v, json_type_array)) {
        return join_parts(r, v, p->text, m, e);
    }
    return fault(e, p, "content", " must be a string, null or an array of text parts");
}

/* ---- Tool calls of past assistant turns ----------------------------------------------------------------------- */

static bool read_tool_call(struct json_object *v, const struct path *p, sluice_tool_call *call, struct api_error *e) {
    if (!json_object_is_type(v, json_type_object)) {
        return fault(e, p, NULL, " must be an object");
    }
    struct json_object *type = json_object_object_get(v, "type"), *id = json_object_object_get(v, "id");
    const char *kind = type ? plain_string(type) : "function";
    if (!kind || strcmp(kind, "function") != 0) {
        return fault(e, p, "type", ": only \"function\" is supported");
    }
    call->id = id ? plain_string(id) : NULL;
    if (id && !call->id) {
        return fault(e, p, "id", " must be a string");
    }
    struct json_object *f = json_object_object_get(v, "function");
    struct json_object *args = json_object_is_type(f, json_type_object) ? json_object_object_get(f, "arguments") : NULL;
    call->name = json_object_is_type(f, json_type_object) ? plain_string(json_object_object_get(f, "name")) : NULL;
    if (!call->name || !call->name[0]) {
        return fault(e, p, "function.name", " must be a non-empty string");
    }
    if (json_object_is_type(args, json_type_object)) { /* some clients send the object itself */
        call->arguments_json = json_object_to_json_string_ext(args, JSON_C_TO_STRING_PLAIN);
        return call->arguments_json || api_error_nomem(e);
    }
    call->arguments_json = plain_string(args);
    if (!call->arguments_json) {
        return fault(e, p, "function.arguments", " must be a JSON object written as a string");
    }
    if (!call->arguments_json[0]) { /* what models write for a function without parameters */
        call->arguments_json = "{}";
    }
    return true;
}

static bool read_tool_calls(struct api_request *r, struct json_object *v, const struct path *p, sluice_message *m,
                            struct api_error *e) {
    if (!json_object_is_type(v, json_type_array)) {
        return fault(e, p, "tool_calls", " must be an array");
    }
    if (strcmp(m->role, "assistant") != 0) {
        return fault(e, p, "tool_calls", " belongs to assistant messages only");
    }
    size_t n = json_object_array_length(v);
    sluice_tool_call *calls = arena_calloc(&r->arena, n, sizeof *calls);
    if (!calls) {
        return api_error_nomem(e);
    }
    for (size_t i = 0; i < n; i++) {
        char name[48];
        snprintf(name, sizeof name, "%.32s.tool_calls", p->text);
        struct path at = path_index(name, i);
        if (!read_tool_call(json_object_array_get_idx(v, i), &at, &calls[i], e)) {
            return false;
        }
    }
    m->tool_calls = calls;
    m->n_tool_calls = n;
    return true;
}

/* ---- Messages ------------------------------------------------------------------------------------------------- */

static bool read_role(struct json_object *v, const struct path *p, sluice_message *m, struct api_error *e) {
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    const char *role = plain_string(v);
    for (size_t i = 0; role && i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(role, roles[i]) == 0) {
            m->role = roles[i];
            return true;
        }
    }
    return fault(e, p, "role", " must be system, developer, user, assistant or tool");
}

/* Fields of a message other than role, which is read first. */
static bool read_message_field(struct api_request *r, const char *key, struct json_object *v, const struct path *p,
                               sluice_message *m, struct api_error *e) {
    if (strcmp(key, "content") == 0) {
        return read_content(r, v, p, m, e);
    }
    if (strcmp(key, "tool_calls") == 0) {
        return read_tool_calls(r, v, p, m, e);
    }
    if (strcmp(key, "reasoning_content") == 0) {
        m->reasoning = plain_string(v);
        return m->reasoning || fault(e, p, key, " must be a string");
    }
    if (strcmp(key, "name") == 0 || strcmp(key, "tool_call_id") == 0) { /* the chat formats have no place for them */
        return json_object_is_type(v, json_type_string) || fault(e, p, key, " must be a string");
    }
    /* An assistant message of this API sent back as it came. */
    if (strcmp(key, "annotations") == 0 && json_object_is_type(v, json_type_array) && !json_object_array_length(v)) {
        return true;
    }
    return strcmp(key, "role") == 0 || fault(e, p, key, " is not supported");
}

static bool read_message(struct api_request *r, struct json_object *v, const struct path *p, sluice_message *m,
                         struct api_error *e) {
    if (!json_object_is_type(v, json_type_object)) {
        return fault(e, p, NULL, " must be an object with role and content");
    }
    if (!read_role(json_object_object_get(v, "role"), p, m, e)) {
        return false;
    }
    json_object_object_foreach(v, key, value) {
        if (value && !read_message_field(r, key, value, p, m, e)) {
            return false;
        }
    }
    if (!m->content && m->n_tool_calls == 0) {
        return fault(e, p, "content", " is required");
    }
    return true;
}

bool api_read_messages(struct api_request *r, struct json_object *v, struct api_error *e) {
    size_t n = json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 0;
    if (n == 0 || n > LIMIT_MESSAGES) {
        return api_error_field(e, "messages", " must be an array of 1 to %u messages", LIMIT_MESSAGES);
    }
    sluice_message *messages = arena_calloc(&r->arena, n, sizeof *messages);
    if (!messages) {
        return api_error_nomem(e);
    }
    for (size_t i = 0; i < n; i++) {
        struct path p = path_index("messages", i);
        if (!read_message(r, json_object_array_get_idx(v, i), &p, &messages[i], e)) {
            return false;
        }
    }
    r->chat.messages = messages;
    r->chat.n_messages = n;
    return true;
}

/* ---- Tools ---------------------------------------------------------------------------------------------------- */

static bool check_tool(struct json_object *tool, const struct path *p, struct api_error *e) {
    if (!json_object_is_type(tool, json_type_object)) {
        return fault(e, p, NULL, " must be an object");
    }
    const char *type = plain_string(json_object_object_get(tool, "type"));
    if (!type || strcmp(type, "function") != 0) {
        return fault(e, p, "type", ": only \"function\" is supported");
    }
    struct json_object *f = json_object_object_get(tool, "function");
    const char *name =
        json_object_is_type(f, json_type_object) ? plain_string(json_object_object_get(f, "name")) : NULL;
    if (!name || !name[0]) {
        return fault(e, p, "function.name", " must be a non-empty string");
    }
    struct json_object *parameters = json_object_object_get(f, "parameters");
    if (parameters && !json_object_is_type(parameters, json_type_object)) {
        return fault(e, p, "function.parameters", " must be a JSON schema object");
    }
    return true;
}

bool api_read_tools(struct api_request *r, struct json_object *v, struct api_error *e) {
    if (!json_object_is_type(v, json_type_array) || json_object_array_length(v) > LIMIT_TOOLS) {
        return api_error_field(e, "tools", " must be an array of at most %u tools", LIMIT_TOOLS);
    }
    size_t n = json_object_array_length(v);
    for (size_t i = 0; i < n; i++) {
        struct path p = path_index("tools", i);
        if (!check_tool(json_object_array_get_idx(v, i), &p, e)) {
            return false;
        }
    }
    if (n > 0) {
        r->tools_json = json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        if (!r->tools_json) {
            return api_error_nomem(e);
        }
    }
    return true;
}
