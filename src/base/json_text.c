#include "base/json_text.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

struct json_reader json_reader_start(const char *s, size_t n, const char *label, sluice_error *err) {
    return (struct json_reader){.s = s, .n = n, .label = label, .err = err};
}

void json_reader_end(struct json_reader *r) {
    buf_free(&r->keys);
    mem_free(r->open);
    r->open = NULL;
}

static sluice_status wrong(struct json_reader *r, const char *what) {
    return fail(r->err, SLUICE_E_ARG, "%s: %s at byte %zu of the JSON text", r->label, what, r->at);
}

static sluice_status no_memory(struct json_reader *r) {
    return fail(r->err, SLUICE_E_NOMEM, "%s: no memory for the JSON text", r->label);
}

char json_peek(struct json_reader *r) {
    while (r->at < r->n) {
        char c = r->s[r->at];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') {
            return c;
        }
        r->at++;
    }
    return 0;
}

sluice_status json_finish(struct json_reader *r) {
    json_peek(r);
    return r->at == r->n ? SLUICE_OK : wrong(r, "something follows the value");
}

/* ---- Strings --------------------------------------------------------------------------------------------------- */

static bool hex4(struct json_reader *r, uint32_t *out) {
    if (r->n - r->at < 4) {
        return false;
    }
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char c = r->s[r->at + (size_t)i];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16u;
        if (digit == 16) {
            return false;
        }
        v = v << 4 | digit;
    }
    r->at += 4;
    *out = v;
    return true;
}

/* After "\u". */
static sluice_status unicode_escape(struct json_reader *r, uint32_t *cp) {
    if (!hex4(r, cp)) {
        return wrong(r, "\\u needs four hexadecimal digits");
    }
    if (*cp >= 0xD800 && *cp < 0xDC00 && r->n - r->at >= 6 && r->s[r->at] == '\\' && r->s[r->at + 1] == 'u') {
        size_t back = r->at;
        uint32_t low;
        r->at += 2;
        if (hex4(r, &low) && low >= 0xDC00 && low < 0xE000) {
            *cp = 0x10000 + ((*cp - 0xD800) << 10) + (low - 0xDC00);
            return SLUICE_OK;
        }
        r->at = back; /* the next round reads (and judges) it by itself */
    }
    if (*cp >= 0xD800 && *cp < 0xE000) {
        *cp = 0xFFFD;
    }
    return SLUICE_OK;
}

/* After the backslash. */
static sluice_status escape(struct json_reader *r, struct buf *out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = r->at < r->n ? r->s[r->at] : 0;
    const char *plain = c ? strchr(from, c) : NULL;
    if (plain) {
        r->at++;
        buf_putc(out, to[plain - from]);
        return SLUICE_OK;
    }
    if (c != 'u') {
        return wrong(r, "unknown escape");
    }
    r->at++;
    uint32_t cp;
    TRY(unicode_escape(r, &cp));
    char bytes[4];
    buf_append(out, bytes, utf8_encode(cp, bytes));
    return SLUICE_OK;
}

sluice_status json_string(struct json_reader *r, struct buf *out) {
    if (json_peek(r) != '"') {
        return wrong(r, "a string is expected");
    }
    r->at++;
    for (;;) {
        size_t from = r->at;
        while (r->at < r->n && (unsigned char)r->s[r->at] >= 0x20 && r->s[r->at] != '"' && r->s[r->at] != '\\') {
            r->at++;
        }
        size_t len = r->at - from;
        size_t valid = utf8_valid_prefix(r->s + from, len);
        if (valid < len) {
            r->at = from + valid;
            return wrong(r, "a string is not valid UTF-8");
        }
        buf_append(out, r->s + from, len);
        if (r->at == r->n) {
            return wrong(r, "a string does not end");
        }
        char c = r->s[r->at];
        if (c != '"' && c != '\\') {
            return wrong(r, "a control character stands unescaped in a string");
        }
        r->at++;
        if (c == '"') {
            return out->failed ? no_memory(r) : SLUICE_OK;
        }
        TRY(escape(r, out));
    }
}

void json_put_string(struct buf *out, const char *s, size_t n) {
    buf_putc(out, '"');
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        buf_append(out, s + from, i - from);
        from = i + 1;
        static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
        const char *known = c ? strchr(plain, c) : NULL;
        if (known) {
            buf_putc(out, '\\');
            buf_putc(out, letters[known - plain]);
        } else {
            buf_printf(out, "\\u%04x", c);
        }
    }
    buf_append(out, s + from, n - from);
    buf_putc(out, '"');
}

/* ---- Arrays and objects ------------------------------------------------------------------------------------------ */

sluice_status json_open(struct json_reader *r, char bracket, bool *more) {
    char closing = bracket == '[' ? ']' : '}';
    if (json_peek(r) != bracket) {
        return wrong(r, bracket == '[' ? "an array is expected" : "an object is expected");
    }
    if (++r->depth > LIMIT_JSON_DEPTH) {
        return fail(r->err, SLUICE_E_LIMIT, "%s: the JSON text nests deeper than %d levels", r->label,
                    LIMIT_JSON_DEPTH);
    }
    r->at++;
    *more = json_peek(r) != closing;
    if (!*more) {
        r->at++;
        r->depth--;
    }
    return SLUICE_OK;
}

sluice_status json_more(struct json_reader *r, char closing, bool *more) {
    char c = json_peek(r);
    if (c != ',' && c != closing) {
        return wrong(r, closing == ']' ? "',' or ']' is expected" : "',' or '}' is expected");
    }
    r->at++;
    *more = c == ',';
    r->depth -= !*more;
    return SLUICE_OK;
}

sluice_status json_key(struct json_reader *r, const char **key, size_t *n) {
    if (r->n_open == r->cap_open) {
        size_t cap = r->cap_open ? 2 * r->cap_open : 32;
        struct json_key *open = mem_realloc(r->open, cap * sizeof *open);
        if (!open) {
            return no_memory(r);
        }
        r->open = open;
        r->cap_open = cap;
    }
    size_t at = r->keys.len;
    TRY(json_string(r, &r->keys));
    r->open[r->n_open++] = (struct json_key){at, r->keys.len - at};
    if (json_peek(r) != ':') {
        return wrong(r, "':' is expected");
    }
    r->at++;
    *key = r->keys.len ? r->keys.data + at : "";
    *n = r->keys.len - at;
    return SLUICE_OK;
}

static int by_text(const void *a, const void *b, void *keys) {
    const struct json_key *x = a, *y = b;
    const char *text = keys;
    int order = x->n && y->n ? memcmp(text + x->at, text + y->at, x->n < y->n ? x->n : y->n) : 0;
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

sluice_status json_close_keys(struct json_reader *r, size_t first) {
    size_t n = r->n_open - first;
    if (n == 0) {
        return SLUICE_OK;
    }
    struct json_key *keys = r->open + first;
    size_t start = keys[0].at;
    qsort_r(keys, n, sizeof *keys, by_text, r->keys.data);
    for (size_t i = 1; i < n; i++) {
        if (by_text(&keys[i - 1], &keys[i], r->keys.data) == 0) {
            size_t shown = keys[i].n < 64 ? keys[i].n : 64;
            while (shown > 0 && shown < keys[i].n && (r->keys.data[keys[i].at + shown] & 0xC0) == 0x80) {
                shown--; /* no cut inside a character */
            }
            struct buf quoted = {0};
            json_put_string(&quoted, r->keys.data + keys[i].at, shown);
            sluice_status status = fail(r->err, SLUICE_E_ARG, "%s: an object has the key %s twice", r->label,
                                        quoted.failed || !quoted.data ? "" : quoted.data);
            buf_free(&quoted);
            return status;
        }
    }
    r->n_open = first;
    r->keys.len = start;
    return SLUICE_OK;
}

/* ---- Values ------------------------------------------------------------------------------------------------------ */

static size_t digits(const struct json_reader *r, size_t at) {
    size_t i = at;
    while (i < r->n && r->s[i] >= '0' && r->s[i] <= '9') {
        i++;
    }
    return i - at;
}

sluice_status json_number(struct json_reader *r, const char **s, size_t *len) {
    bool minus = json_peek(r) == '-';
    size_t from = r->at;
    r->at += minus;
    size_t n = digits(r, r->at);
    if (n == 0 || (n > 1 && r->s[r->at] == '0')) {
        return wrong(r, "a value is expected");
    }
    r->at += n;
    if (r->at < r->n && r->s[r->at] == '.') {
        n = digits(r, ++r->at);
        if (n == 0) {
            return wrong(r, "a digit is expected");
        }
        r->at += n;
    }
    if (r->at < r->n && (r->s[r->at] | 0x20) == 'e') {
        r->at++;
        r->at += r->at < r->n && (r->s[r->at] == '+' || r->s[r->at] == '-');
        n = digits(r, r->at);
        if (n == 0) {
            return wrong(r, "a digit is expected");
        }
        r->at += n;
    }
    *s = r->s + from;
    *len = r->at - from;
    return SLUICE_OK;
}

sluice_status json_word(struct json_reader *r, char *first) {
    char c = json_peek(r);
    const char *word = c == 't' ? "true" : c == 'f' ? "false" : "null";
    size_t n = strlen(word);
    if (r->n - r->at < n || memcmp(r->s + r->at, word, n) != 0) {
        return wrong(r, r->at < r->n ? "a value is expected" : "the text ends where a value is expected");
    }
    r->at += n;
    *first = c;
    return SLUICE_OK;
}

static sluice_status copy_number(struct json_reader *r, struct buf *out) {
    const char *s;
    size_t n;
    TRY(json_number(r, &s, &n));
    buf_append(out, s, n);
    return SLUICE_OK;
}

static sluice_status copy_word(struct json_reader *r, enum json_style style, struct buf *out) {
    char c;
    TRY(json_word(r, &c));
    if (style == JSON_PYTHON) {
        buf_puts(out, c == 't' ? "True" : c == 'f' ? "False" : "None");
    } else {
        buf_puts(out, c == 't' ? "true" : c == 'f' ? "false" : "null");
    }
    return SLUICE_OK;
}

static sluice_status copy_string(struct json_reader *r, struct buf *out) {
    struct buf text = {0};
    sluice_status status = json_string(r, &text);
    if (status == SLUICE_OK) {
        json_put_string(out, text.data, text.len);
    }
    buf_free(&text);
    return status;
}

static sluice_status copy_array(struct json_reader *r, enum json_style style, struct buf *out) {
    bool more;
    TRY(json_open(r, '[', &more));
    buf_putc(out, '[');
    while (more) {
        TRY(json_copy(r, style, out));
        TRY(json_more(r, ']', &more));
        if (more) {
            buf_puts(out, ", ");
        }
    }
    buf_putc(out, ']');
    return SLUICE_OK;
}

static sluice_status copy_object(struct json_reader *r, enum json_style style, struct buf *out) {
    bool more;
    size_t first = r->n_open;
    TRY(json_open(r, '{', &more));
    buf_putc(out, '{');
    while (more) {
        const char *key;
        size_t n;
        TRY(json_key(r, &key, &n));
        json_put_string(out, key, n);
        buf_puts(out, ": ");
        TRY(json_copy(r, style, out));
        TRY(json_more(r, '}', &more));
        if (more) {
            buf_puts(out, ", ");
        }
    }
    buf_putc(out, '}');
    return json_close_keys(r, first);
}

sluice_status json_copy(struct json_reader *r, enum json_style style, struct buf *out) {
    char c = json_peek(r);
    sluice_status status;
    if (c == '{') {
        status = copy_object(r, style, out);
    } else if (c == '[') {
        status = copy_array(r, style, out);
    } else if (c == '"') {
        status = copy_string(r, out);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        status = copy_number(r, out);
    } else {
        status = copy_word(r, style, out);
    }
    return status == SLUICE_OK && out->failed ? no_memory(r) : status;
}
