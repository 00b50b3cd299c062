/* UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the sequence at s (1..4) and its code point, or 0 if invalid or cut off by n. */
size_t utf8_decode(const char *s, size_t n, uint32_t *cp);
/* Writes 1..4 bytes; returns their number. cp must be a scalar value. */
size_t utf8_encode(uint32_t cp, char out[4]);
/* Offset of the first invalid byte, or n if all is valid. */
size_t utf8_valid_prefix(const char *s, size_t n);
/* How many bytes at the end of s[0..n) begin a sequence that later bytes could complete (0..3). */
size_t utf8_incomplete_tail(const char *s, size_t n);

#endif
