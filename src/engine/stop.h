/*
 * Stop strings over a stream of text. The text is read byte by byte, and the string whose last byte comes first wins;
 * of two that end at the same byte, the longer one. So the result does not depend on how the text was split into
 * tokens. Text that could still become part of a stop string is held back, and nothing of a match is ever released.
 */
#ifndef ENGINE_STOP_H
#define ENGINE_STOP_H

#include "base/buf.h"
#include "sluice.h"

struct stop_pattern {
    char *text; /* NUL-terminated copy */
    uint32_t n;
    uint32_t matched; /* longest prefix of text that ends at the last byte read */
    uint16_t *border; /* [n] border[i]: longest proper prefix of text[0..i] that is also its suffix */
};

struct stop {
    struct stop_pattern *patterns;
    size_t n_patterns;
    struct buf held; /* read but not released; as long as the longest match in progress */
};

/* Copies the strings. SLUICE_E_ARG: empty or not UTF-8; SLUICE_E_LIMIT: too many or too long. */
sluice_status stop_init(struct stop *stop, const char *const *strings, size_t n, sluice_error *err);
void stop_free(struct stop *stop);

/* Reads text[0..n) and appends to out what can no longer be part of a stop string. Returns the string that matched, or
 * NULL; after a match the rest of the text is dropped. Allocation failures show in out->failed or stop->held.failed. */
const char *stop_push(struct stop *stop, const char *text, size_t n, struct buf *out);
/* End of text: what was held back is no stop string after all. */
void stop_flush(struct stop *stop, struct buf *out);
/* The stop string that is exactly text[0..n), or NULL: for tokens whose text is left out of the answer. */
const char *stop_equal(const struct stop *stop, const char *text, size_t n);

#endif
