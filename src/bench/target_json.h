/* Small readings from a server's JSON. A missing member, or one of another type, reads as unknown. */
#ifndef BENCH_TARGET_JSON_H
#define BENCH_TARGET_JSON_H

#include "base/limits.h"

#include <json-c/json.h>
#include <stdint.h>
#include <stdio.h>

static inline struct json_object *json_parse_text(const char *text, size_t n) {
    struct json_tokener *tok = n < INT32_MAX ? json_tokener_new_ex(LIMIT_JSON_DEPTH) : NULL;
    struct json_object *v = tok && n ? json_tokener_parse_ex(tok, text, (int)n) : NULL;
    if (tok) {
        json_tokener_free(tok);
    }
    return v;
}

static inline struct json_object *json_member(struct json_object *o, const char *key, enum json_type type) {
    struct json_object *v = NULL;
    bool found = json_object_is_type(o, json_type_object) && json_object_object_get_ex(o, key, &v);
    return found && json_object_is_type(v, type) ? v : NULL;
}

static inline uint32_t json_member_u32(struct json_object *o, const char *key) {
    struct json_object *v = json_member(o, key, json_type_int);
    int64_t n = v ? json_object_get_int64(v) : 0;
    return n > 0 && n <= UINT32_MAX ? (uint32_t)n : 0;
}

static inline double json_member_number(struct json_object *o, const char *key, double unknown) {
    struct json_object *v = json_member(o, key, json_type_double);
    v = v ? v : json_member(o, key, json_type_int);
    return v ? json_object_get_double(v) : unknown;
}

#endif
