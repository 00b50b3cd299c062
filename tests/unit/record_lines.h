/* A record file as trees that a test changes, and its text with the chain made anew. */
#ifndef RECORD_LINES_H
#define RECORD_LINES_H

#include "base/buf.h"
#include "record/chain.h"
#include "record/check.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wunused-function" /* a test uses some of these */

enum { LINES_CAP = 128 };

struct lines {
    struct json_object *tree[LINES_CAP];
    size_t n;
};

static char *slurp(const char *path, size_t *n) {
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    struct buf b = {0};
    char block[4096];
    size_t got;
    while ((got = fread(block, 1, sizeof block, f)) > 0) {
        buf_append(&b, block, got);
    }
    fclose(f);
    return buf_take(&b, n);
}

static struct lines lines_load(const char *path) {
    struct lines l = {.n = 0};
    size_t n;
    char *text = slurp(path, &n), *next = text;
    while (next && *next) {
        char *line = strsep(&next, "\n");
        assert_true(l.n < LINES_CAP);
        l.tree[l.n] = json_tokener_parse(line);
        assert_non_null(l.tree[l.n]);
        l.n++;
    }
    free(text);
    return l;
}

static void lines_free(struct lines *l) {
    for (size_t i = 0; i < l->n; i++) {
        json_object_put(l->tree[i]);
    }
}

/* The file's text; every "prev" that is there is set right. */
static void lines_text(const struct lines *l, struct buf *out) {
    struct chain c;
    sluice_error err;
    assert_int_equal(chain_init(&c, &err), SLUICE_OK);
    buf_reset(out);
    for (size_t i = 0; i < l->n; i++) {
        struct json_object *prev = NULL;
        if (json_object_object_get_ex(l->tree[i], "prev", &prev) && json_object_is_type(prev, json_type_string)) {
            json_object_set_string(prev, c.prev);
        }
        const char *s = json_object_to_json_string_ext(l->tree[i], JSON_C_TO_STRING_PLAIN);
        buf_puts(out, s);
        buf_putc(out, '\n');
        assert_int_equal(chain_add(&c, s, strlen(s), &err), SLUICE_OK);
    }
    chain_free(&c);
}

static struct json_object *parse_json(const char *text) {
    struct json_object *v = json_tokener_parse(text);
    assert_true(v || strcmp(text, "null") == 0);
    return v;
}

/* "a.b.c" of a line: the object that holds the last name. */
static struct json_object *holder(struct json_object *line, const char *path, char last[64]) {
    const char *dot;
    while ((dot = strchr(path, '.'))) {
        char key[64];
        snprintf(key, sizeof key, "%.*s", (int)(dot - path), path);
        if (!json_object_object_get_ex(line, key, &line)) {
            fail_msg("no member %s", key);
        }
        path = dot + 1;
    }
    snprintf(last, 64, "%s", path);
    return line;
}

static void lines_set(struct lines *l, size_t line, const char *path, const char *json) {
    char last[64];
    struct json_object *o = holder(l->tree[line], path, last);
    json_object_object_add(o, last, parse_json(json));
}

/* The first line of a kind whose row is that (or any, for NULL). */
static size_t lines_find(const struct lines *l, const char *kind, const char *row) {
    for (size_t i = 0; i < l->n; i++) {
        struct json_object *k = NULL, *r = NULL;
        json_object_object_get_ex(l->tree[i], "kind", &k);
        json_object_object_get_ex(l->tree[i], "row", &r);
        if (strcmp(json_object_get_string(k), kind) == 0 &&
            (!row || (r && strcmp(json_object_get_string(r), row) == 0))) {
            return i;
        }
    }
    fail_msg("no line %s %s", kind, row ? row : "");
    return 0;
}

static struct check check_lines(const struct lines *l) {
    struct buf b = {0};
    struct check c;
    sluice_error err = {0};
    lines_text(l, &b);
    if (check_memory("test.jsonl", b.data, b.len, &c, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    buf_free(&b);
    return c;
}

static const char *wrong_text(const struct check *c) {
    for (size_t i = 0; i < c->n; i++) {
        if (c->findings[i].level == FINDING_WRONG) {
            return c->findings[i].text;
        }
    }
    return NULL;
}

static bool found(const struct check *c, enum finding_level level, const char *row, const char *part) {
    for (size_t i = 0; i < c->n; i++) {
        const struct finding *f = &c->findings[i];
        if (f->level == level && (!row || (f->row && strcmp(f->row, row) == 0)) && strstr(f->text, part)) {
            return true;
        }
    }
    return false;
}

#endif
