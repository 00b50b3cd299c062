#include "base/buf.h"
#include "base/utf8.h"
#include "text/tokenizer.h"

#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD"

/* Length of the longest prefix of s[0..n) that could still have become a sequence; at least 1. One U+FFFD stands for
 * all of it, as the Unicode standard recommends. */
static size_t broken_len(const char *s, size_t n) {
    for (size_t len = n < 3 ? n : 3; len > 1; len--) {
        if (utf8_incomplete_tail(s, len) == len) {
            return len;
        }
    }
    return 1;
}

/* Whole sequences of s[0..n) go to out; returns how many bytes at the end may still become one. */
static size_t drain(const char *s, size_t n, struct buf *out) {
    size_t keep = utf8_incomplete_tail(s, n), end = n - keep, i = 0;
    while (i < end) {
        size_t valid = utf8_valid_prefix(s + i, end - i);
        buf_append(out, s + i, valid);
        i += valid;
        if (i < end) {
            buf_puts(out, REPLACEMENT);
            i += broken_len(s + i, end - i);
        }
    }
    return keep;
}

void detok_push(struct detok *d, const char *bytes, size_t n, struct buf *out) {
    /* Complete what is pending byte by byte, then take the rest in one go. */
    while (d->n_pending && n) {
        d->pending[d->n_pending++] = *bytes++;
        n--;
        char joined[sizeof d->pending];
        size_t n_joined = d->n_pending;
        memcpy(joined, d->pending, n_joined);
        size_t keep = drain(joined, n_joined, out);
        memcpy(d->pending, joined + n_joined - keep, keep);
        d->n_pending = (uint8_t)keep;
    }
    if (n) {
        size_t keep = drain(bytes, n, out);
        memcpy(d->pending, bytes + n - keep, keep);
        d->n_pending = (uint8_t)keep;
    }
}

void detok_flush(struct detok *d, struct buf *out) {
    if (d->n_pending) {
        buf_puts(out, REPLACEMENT);
        d->n_pending = 0;
    }
}
