/* A growable byte buffer and the JSON writing that needs no parser. Once an append fails the buffer stays `failed`, so
 * that a chain of appends is checked once at its end. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; /* NUL-terminated while not failed and len > 0; NULL when nothing was appended */
    size_t len, cap;
    bool failed; /* an allocation failed; data up to len is still valid */
};

void buf_append(struct buf *b, const void *bytes, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
__attribute__((format(printf, 2, 3))) void buf_printf(struct buf *b, const char *fmt, ...);
/* A JSON string with its quotes. Valid UTF-8 passes through; invalid bytes become U+FFFD; control characters are escaped. */
void buf_json_string(struct buf *b, const char *s, size_t n);
/* A JSON number that reads back exactly (%.9g for floats is the caller's choice); NaN and infinities become null. */
void buf_json_double(struct buf *b, double v);
void buf_reset(struct buf *b); /* len = 0, memory kept */
void buf_free(struct buf *b);
char *buf_take(struct buf *b,
               size_t *len); /* hands the memory over (mem_free / free); NULL if failed. len may be NULL */

#endif
