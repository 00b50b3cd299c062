/*
 * JSON text in, the same values out in another spelling, without a tree in between: number text and key order stay as
 * they came. Strict (RFC 8259): no duplicate keys, valid UTF-8, nesting up to LIMIT_JSON_DEPTH. Escapes are decoded; an
 * unpaired surrogate, which stands for no character, becomes U+FFFD.
 */
#ifndef BASE_JSON_TEXT_H
#define BASE_JSON_TEXT_H

#include "base/buf.h"
#include "sluice.h"

enum json_style {
    JSON_DUMPS,  /* Python's json.dumps(ensure_ascii=False): {"a": [1, true]} */
    JSON_PYTHON, /* Python literals: {"a": [1, True]} */
};

struct json_key { /* into json_reader.keys */
    size_t at, n;
};

struct json_reader {
    const char *s; /* [n] */
    size_t n, at;
    const char *label; /* "tools": starts every error sentence */
    sluice_error *err;
    unsigned depth;
    struct buf keys; /* decoded keys of the objects that are open, innermost last */
    struct json_key *open;
    size_t n_open, cap_open;
};

struct json_reader json_reader_start(const char *s, size_t n, const char *label, sluice_error *err);
void json_reader_end(struct json_reader *r);

/* First character of the next value, after white space; 0 at the end of the text. */
char json_peek(struct json_reader *r);
/* The next value, respelled, goes to out. */
sluice_status json_copy(struct json_reader *r, enum json_style style, struct buf *out);
/* The next value must be a string; its decoded bytes go to out. */
sluice_status json_string(struct json_reader *r, struct buf *out);
/* The next value must be a number; *s .. *s + *n is its text. */
sluice_status json_number(struct json_reader *r, const char **s, size_t *n);
/* The next value must be true, false or null; *first is its first letter. */
sluice_status json_word(struct json_reader *r, char *first);
/* Nothing but white space may follow. */
sluice_status json_finish(struct json_reader *r);

/* Arrays and objects element by element:
 *     json_open(r, '['); while (*more) { json_copy(...); json_more(r, ']', more); }
 * For objects json_key reads the key and the colon before each value; *n bytes at *key are valid until the object ends
 * or another key is read. */
sluice_status json_open(struct json_reader *r, char bracket, bool *more);
sluice_status json_more(struct json_reader *r, char closing, bool *more);
sluice_status json_key(struct json_reader *r, const char **key, size_t *n);
/* To be called when the object whose first key was number `first` in r->open has ended: refuses duplicates. */
sluice_status json_close_keys(struct json_reader *r, size_t first);

/* A string literal as both styles write it. */
void json_put_string(struct buf *out, const char *s, size_t n);

#endif
