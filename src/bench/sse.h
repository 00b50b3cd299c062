/*
 * Server-sent events (the WHATWG format), fed in pieces of any size: a line, a CR LF pair or a character may be cut
 * anywhere. Only `data` matters here; comments, `event`, `id` and `retry` lines are passed over.
 */
#ifndef BENCH_SSE_H
#define BENCH_SSE_H

#include "base/buf.h"

#define SSE_EVENT_MAX (4u << 20) /* bytes of one event's data or of one line */

struct sse {
    struct buf line, data;
    bool has_data;  /* the event so far has at least one data line */
    bool after_cr;  /* the last byte was CR: an LF right after it belongs to the same line end */
    bool too_long;  /* an event passed SSE_EVENT_MAX; nothing is delivered any more */
    bool no_memory; /* the same after a failed allocation */
    uint64_t lines; /* complete lines seen, of any kind */
    void *ctx;
    void (*on_event)(void *ctx, const char *data, size_t n); /* data: the lines joined by LF, NUL-terminated */
};

void sse_init(struct sse *s, void (*on_event)(void *ctx, const char *data, size_t n), void *ctx);
/* false once memory is out or an event is too long. */
bool sse_feed(struct sse *s, const char *bytes, size_t n);
/* True when bytes of an unfinished event are pending: the stream was cut inside an event. */
bool sse_pending(const struct sse *s);
void sse_free(struct sse *s);

#endif
