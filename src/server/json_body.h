/* A request's body as a tree: json/tree.h with the server's limits. */
#ifndef SERVER_JSON_BODY_H
#define SERVER_JSON_BODY_H

#include "sluice.h"

struct json_object;

/* The text must be one object. An integer beyond 64 bits becomes a double that serialises as its text. The error says
 * what is wrong and at which byte. The caller puts *out. */
sluice_status json_body_parse(const char *text, size_t n, struct json_object **out, sluice_error *err);

#endif
