/*
 * JSON text as a json-c tree. base/json_text.h does the reading, because json-c's own reader takes what RFC 8259
 * forbids, loses escaped characters whose code point ends in D800..DFFF, and clamps integers beyond 64 bits.
 */
#ifndef JSON_TREE_H
#define JSON_TREE_H

#include "sluice.h"

#include <stddef.h>
#include <stdint.h>

struct json_object;

struct json_tree_limits {
    const char *label;           /* "the body": starts every error sentence */
    uint32_t values, containers; /* at most so many values, so many objects and arrays among them */
};

/* The text must be one value that begins with '{'; with any_value, any value. An integer beyond 64 bits becomes a
 * double that serialises as its text. The error says what is wrong and at which byte. *n_values (may be NULL): values
 * read. The caller puts *out. */
sluice_status json_tree_parse(const char *text, size_t n, const struct json_tree_limits *limits, bool any_value,
                              struct json_object **out, uint32_t *n_values, sluice_error *err);

#endif
