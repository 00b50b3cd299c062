/* Reads the pieces of one streamed chat completion into a sample. Knows nothing of sockets: the caller says when
 * bytes came. */
#ifndef BENCH_REPLY_H
#define BENCH_REPLY_H

#include "bench/sample.h"
#include "bench/sse.h"

struct reply {
    struct sse sse;
    struct sample *sample;
    double now_ms;       /* arrival of the bytes being fed, after the request was sent */
    double last_text_ms; /* of the previous piece with text */
    uint32_t events;
    bool done, finished; /* "[DONE]" and a finish reason were seen */
    bool failed;         /* sample->error is set */
};

void reply_init(struct reply *r, struct sample *sample);
/* Bytes of the body that arrived at now_ms. false: the reply is not usable, sample->error says why. */
bool reply_feed(struct reply *r, const char *bytes, size_t n, double now_ms);
/* The body ended at now_ms: fills the last times, judges completeness, sets sample->ok or sample->error. */
void reply_end(struct reply *r, double now_ms);
void reply_free(struct reply *r);

/* The sentence inside a JSON error body ({"error":{"message":".."}}, {"error":".."}, {"detail":".."}), else the body's
 * beginning; printable, at most cap - 1 bytes. */
void reply_error_text(const char *body, size_t n, char *out, size_t cap);

#endif
