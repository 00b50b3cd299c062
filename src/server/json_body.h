/*
 * JSON from outside. json-c takes what RFC 8259 forbids (NaN, raw control characters, single-quoted keys), and repeated
 * keys, so the text is checked here first, in one pass without memory; json-c then only builds the tree.
 */
#ifndef SERVER_JSON_BODY_H
#define SERVER_JSON_BODY_H

#include "sluice.h"

struct json_object;

/* The text must be one object. SLUICE_E_FORMAT says what is wrong and at which byte. The caller puts *out. */
sluice_status json_body_parse(const char *text, size_t n, struct json_object **out, sluice_error *err);

#endif
