#include "server/json_body.h"

#include "base/limits.h"
#include "base/status.h"
#include "base/utf8.h"

#include <json-c/json.h>
#include <limits.h>
#include <string.h>

struct scan {
    const char *s;
    size_t n, at;
    uint64_t members; /* keys of all objects: more than the tree has means a repeated key */
    const char *wrong;
};

static bool bad(struct scan *c, const char *wrong) {
    c->wrong = wrong;
    return false;
}

static char peek(const struct scan *c) {
    return c->at < c->n ? c->s[c->at] : '\0';
}

static void skip_space(struct scan *c) {
    while (c->at < c->n && (c->s[c->at] == ' ' || c->s[c->at] == '\t' || c->s[c->at] == '\n' || c->s[c->at] == '\r')) {
        c->at++;
    }
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool scan_digits(struct scan *c) {
    if (!is_digit(peek(c))) {
        return bad(c, "expected a digit");
    }
    while (is_digit(peek(c))) {
        c->at++;
    }
    return true;
}

static bool scan_number(struct scan *c) {
    if (peek(c) == '-') {
        c->at++;
    }
    if (peek(c) == '0') {
        c->at++;
        if (is_digit(peek(c))) {
            return bad(c, "a number cannot start with 0");
        }
    } else if (!scan_digits(c)) {
        return false;
    }
    if (peek(c) == '.') {
        c->at++;
        if (!scan_digits(c)) {
            return false;
        }
    }
    if (peek(c) == 'e' || peek(c) == 'E') {
        c->at++;
        if (peek(c) == '+' || peek(c) == '-') {
            c->at++;
        }
        return scan_digits(c);
    }
    return true;
}

static bool scan_hex4(struct scan *c, unsigned *code) {
    *code = 0;
    for (int i = 0; i < 4; i++) {
        char h = peek(c);
        unsigned v;
        if (is_digit(h)) {
            v = (unsigned)(h - '0');
        } else if ((h | 32) >= 'a' && (h | 32) <= 'f') {
            v = (unsigned)((h | 32) - 'a' + 10);
        } else {
            return bad(c, "expected four hexadecimal digits after \\u");
        }
        *code = *code << 4 | v;
        c->at++;
    }
    return true;
}

static bool scan_string(struct scan *c, bool is_key) {
    c->at++; /* the opening quote */
    while (c->at < c->n) {
        unsigned char ch = (unsigned char)c->s[c->at];
        if (ch == '"') {
            c->at++;
            return true;
        }
        if (ch < 0x20) {
            return bad(c, "a control character inside a string must be escaped");
        }
        c->at++;
        if (ch != '\\') {
            continue;
        }
        char esc = peek(c);
        unsigned code;
        if (esc == 'u') {
            c->at++;
            if (!scan_hex4(c, &code)) {
                return false;
            }
            if (code == 0 && is_key) { /* json-c keeps keys as C strings: the rest would vanish */
                return bad(c, "a key cannot hold \\u0000");
            }
        } else if (esc && strchr("\"\\/bfnrt", esc)) {
            c->at++;
        } else {
            return bad(c, "unknown escape in a string");
        }
    }
    return bad(c, "the text ends inside a string");
}

static bool scan_word(struct scan *c, const char *word) {
    size_t len = strlen(word);
    if (c->n - c->at < len || memcmp(c->s + c->at, word, len) != 0) {
        return bad(c, "expected a value");
    }
    c->at += len;
    return true;
}

static bool scan_value(struct scan *c, int depth);

static bool scan_member(struct scan *c, int depth) {
    if (peek(c) != '"') {
        return bad(c, "expected a key in double quotes");
    }
    if (!scan_string(c, true)) {
        return false;
    }
    c->members++;
    skip_space(c);
    if (peek(c) != ':') {
        return bad(c, "expected ':' after a key");
    }
    c->at++;
    return scan_value(c, depth);
}

/* An object or an array: the two differ in the closing character and in what an element is. */
static bool scan_container(struct scan *c, char close, int depth) {
    if (depth >= LIMIT_JSON_DEPTH) {
        return bad(c, "objects and arrays are nested too deeply");
    }
    c->at++;
    skip_space(c);
    if (peek(c) == close) {
        c->at++;
        return true;
    }
    for (;;) {
        skip_space(c);
        if (!(close == '}' ? scan_member(c, depth + 1) : scan_value(c, depth + 1))) {
            return false;
        }
        skip_space(c);
        if (peek(c) == close) {
            c->at++;
            return true;
        }
        if (peek(c) != ',') {
            return bad(c, close == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
        }
        c->at++;
    }
}

static bool scan_value(struct scan *c, int depth) {
    skip_space(c);
    switch (peek(c)) {
    case '{':
        return scan_container(c, '}', depth);
    case '[':
        return scan_container(c, ']', depth);
    case '"':
        return scan_string(c, false);
    case 't':
        return scan_word(c, "true");
    case 'f':
        return scan_word(c, "false");
    case 'n':
        return scan_word(c, "null");
    default:
        if (peek(c) == '-' || is_digit(peek(c))) {
            return scan_number(c);
        }
        return bad(c, c->at < c->n ? "expected a value" : "the text ends where a value should be");
    }
}

static uint64_t count_members(struct json_object *v) {
    uint64_t count = 0;
    if (json_object_is_type(v, json_type_object)) {
        count = (uint64_t)json_object_object_length(v);
        json_object_object_foreach(v, key, child) {
            (void)key;
            count += count_members(child);
        }
    } else if (json_object_is_type(v, json_type_array)) {
        size_t n = json_object_array_length(v);
        for (size_t i = 0; i < n; i++) {
            count += count_members(json_object_array_get_idx(v, i));
        }
    }
    return count;
}

static sluice_status check(struct scan *c, sluice_error *err) {
    if (c->n > INT_MAX) {
        return fail(err, SLUICE_E_LIMIT, "the JSON text is too long");
    }
    size_t valid = utf8_valid_prefix(c->s, c->n);
    if (valid < c->n) {
        return fail(err, SLUICE_E_FORMAT, "the body is not valid UTF-8 at byte %zu", valid);
    }
    skip_space(c);
    if (c->at == c->n) {
        return fail(err, SLUICE_E_FORMAT, "the body is empty; a JSON object is expected");
    }
    if (peek(c) != '{') {
        return fail(err, SLUICE_E_FORMAT, "the body must be a JSON object");
    }
    bool ok = scan_value(c, 0);
    if (ok) {
        skip_space(c);
        ok = c->at == c->n || bad(c, "text after the end of the value");
    }
    if (!ok) {
        return fail(err, SLUICE_E_FORMAT, "the body is not valid JSON: %s at byte %zu", c->wrong, c->at);
    }
    return SLUICE_OK;
}

sluice_status json_body_parse(const char *text, size_t n, struct json_object **out, sluice_error *err) {
    struct scan c = {.s = text, .n = n};
    *out = NULL;
    TRY(check(&c, err));
    /* One more than the depth checked above: json-c counts the innermost scalar as a level. */
    struct json_tokener *t = json_tokener_new_ex(LIMIT_JSON_DEPTH + 2);
    if (!t) {
        return fail(err, SLUICE_E_NOMEM, "no memory to read the JSON body");
    }
    json_tokener_set_flags(t, JSON_TOKENER_STRICT);
    struct json_object *tree = json_tokener_parse_ex(t, text, (int)n);
    json_tokener_free(t);
    if (!tree) { /* the text is well-formed: only memory can be missing */
        return fail(err, SLUICE_E_NOMEM, "no memory to read the JSON body");
    }
    if (count_members(tree) != c.members) {
        json_object_put(tree);
        return fail(err, SLUICE_E_FORMAT, "the body has an object that names the same key twice");
    }
    *out = tree;
    return SLUICE_OK;
}
