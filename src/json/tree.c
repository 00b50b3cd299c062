#include "json/tree.h"

#include "base/json_text.h"
#include "base/mem.h"
#include "base/status.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

struct builder {
    struct json_reader in;
    const struct json_tree_limits *limits;
    struct buf text; /* the string or number at hand */
    uint32_t values, containers;
};

static sluice_status no_memory(struct builder *b) {
    return fail(b->in.err, SLUICE_E_NOMEM, "%s: no memory to read the JSON text", b->limits->label);
}

static sluice_status build(struct builder *b, struct json_object **out);

static sluice_status build_string(struct builder *b, struct json_object **out) {
    buf_reset(&b->text);
    TRY(json_string(&b->in, &b->text));
    *out = json_object_new_string_len(b->text.len ? b->text.data : "", (int)b->text.len);
    return *out ? SLUICE_OK : no_memory(b);
}

static struct json_object *new_number(const char *text) {
    if (!strpbrk(text, ".eE")) {
        errno = 0;
        long long i = strtoll(text, NULL, 10);
        if (errno == 0 && !(i == 0 && text[0] == '-')) { /* "-0" keeps its sign as a double */
            return json_object_new_int64(i);
        }
        errno = 0;
        unsigned long long u = strtoull(text, NULL, 10); /* takes a minus sign, and wraps */
        if (errno == 0 && text[0] != '-') {
            return json_object_new_uint64(u);
        }
    }
    return json_object_new_double_s(strtod(text, NULL), text);
}

static sluice_status build_number(struct builder *b, struct json_object **out) {
    const char *s;
    size_t n;
    TRY(json_number(&b->in, &s, &n));
    buf_reset(&b->text);
    buf_append(&b->text, s, n); /* ends it with the NUL that strtod needs */
    *out = b->text.failed ? NULL : new_number(b->text.data);
    return *out ? SLUICE_OK : no_memory(b);
}

static sluice_status build_word(struct builder *b, struct json_object **out) {
    char first;
    TRY(json_word(&b->in, &first));
    if (first != 'n') { /* null is no object in json-c */
        *out = json_object_new_boolean(first == 't');
        return *out ? SLUICE_OK : no_memory(b);
    }
    return SLUICE_OK;
}

static sluice_status build_element(struct builder *b, struct json_object *array) {
    struct json_object *v;
    TRY(build(b, &v));
    if (json_object_array_add(array, v) != 0) {
        json_object_put(v);
        return no_memory(b);
    }
    return SLUICE_OK;
}

static sluice_status build_member(struct builder *b, struct json_object *object) {
    const char *key;
    size_t n;
    TRY(json_key(&b->in, &key, &n));
    if (memchr(key, 0, n)) {
        return fail(b->in.err, SLUICE_E_ARG, "%s: a key holds \\u0000 before byte %zu of the JSON text",
                    b->limits->label, b->in.at);
    }
    char *name = mem_strndup(key, n); /* key moves when the value brings keys of its own */
    struct json_object *v = NULL;
    sluice_status status = name ? build(b, &v) : no_memory(b);
    /* Repeated keys are refused once the object has ended. */
    if (status == SLUICE_OK && json_object_object_add_ex(object, name, v, JSON_C_OBJECT_ADD_KEY_IS_NEW) != 0) {
        json_object_put(v);
        status = no_memory(b);
    }
    mem_free(name);
    return status;
}

static sluice_status build_container(struct builder *b, char bracket, struct json_object *container) {
    bool more, is_array = bracket == '[';
    size_t first = b->in.n_open;
    if (!container) {
        return no_memory(b);
    }
    if (++b->containers > b->limits->containers) {
        return fail(b->in.err, SLUICE_E_LIMIT, "%s has more than %u JSON objects and arrays", b->limits->label,
                    b->limits->containers);
    }
    TRY(json_open(&b->in, bracket, &more));
    while (more) {
        TRY(is_array ? build_element(b, container) : build_member(b, container));
        TRY(json_more(&b->in, is_array ? ']' : '}', &more));
    }
    return is_array ? SLUICE_OK : json_close_keys(&b->in, first);
}

/* On failure *out may hold what was built so far; it is the caller's in any case. */
static sluice_status build_any(struct builder *b, struct json_object **out) {
    char c = json_peek(&b->in);
    switch (c) {
    case '{':
        *out = json_object_new_object();
        return build_container(b, c, *out);
    case '[':
        *out = json_object_new_array_ext(4);
        return build_container(b, c, *out);
    case '"':
        return build_string(b, out);
    default:
        return c == '-' || (c >= '0' && c <= '9') ? build_number(b, out) : build_word(b, out);
    }
}

static sluice_status build(struct builder *b, struct json_object **out) {
    *out = NULL;
    if (++b->values > b->limits->values) {
        return fail(b->in.err, SLUICE_E_LIMIT, "%s has more than %u JSON values", b->limits->label, b->limits->values);
    }
    sluice_status status = build_any(b, out);
    if (status != SLUICE_OK) {
        json_object_put(*out);
        *out = NULL;
    }
    return status;
}

sluice_status json_tree_parse(const char *text, size_t n, const struct json_tree_limits *limits, bool any_value,
                              struct json_object **out, uint32_t *n_values, sluice_error *err) {
    struct builder b = {.in = json_reader_start(text, n, limits->label, err), .limits = limits};
    *out = NULL;
    char first = json_peek(&b.in);
    sluice_status status;
    if (first != '{' && (!any_value || b.in.at == n)) {
        status = fail(err, SLUICE_E_ARG, "%s %s; a JSON %s is expected", limits->label,
                      b.in.at == n ? "is empty" : "does not begin with '{'", any_value ? "value" : "object");
    } else {
        status = build(&b, out);
    }
    if (status == SLUICE_OK) {
        status = json_finish(&b.in);
    }
    if (status != SLUICE_OK) {
        json_object_put(*out);
        *out = NULL;
    }
    if (n_values) {
        *n_values = b.values;
    }
    json_reader_end(&b.in);
    buf_free(&b.text);
    return status;
}
