/*
 * Reads the pieces of one streamed chat completion into a sample. Knows nothing of sockets: the caller says when
 * bytes came.
 *
 * When each token came: a piece may carry several tokens (speculation, characters of several tokens, servers that
 * bundle). Counts come, in this order, from token ids in the pieces, from running totals (`usage` or `timings` in every
 * piece), or from the final usage where it equals the number of pieces, so that each carried one. Otherwise the times
 * of single tokens are not known and none are made up.
 */
#ifndef BENCH_REPLY_H
#define BENCH_REPLY_H

#include "bench/sample.h"
#include "bench/sse.h"

struct reply_piece {
    double ms;
    int64_t total; /* output tokens so far, as this event says; -1: it does not */
    uint32_t ids;  /* token ids in this event */
    bool text;
};

struct reply {
    struct sse sse;
    struct sample *sample;
    double now_ms; /* arrival of the bytes being fed, after the request was sent */
    uint32_t events;
    struct reply_piece *pieces; /* [n_pieces] events that carried text, a count, or the end */
    size_t n_pieces, cap_pieces;
    double last_text_ms, finish_ms; /* finish: of the piece with the finish reason */
    bool done, finished;            /* "[DONE]" and a finish reason were seen */
    bool finish_text;               /* that piece carried text */
    bool failed;                    /* sample->error is set */
};

void reply_init(struct reply *r, struct sample *sample);
/* Bytes of the body that arrived at now_ms. false: the reply is not usable, sample->error says why. */
bool reply_feed(struct reply *r, const char *bytes, size_t n, double now_ms);
/* The body ended at now_ms: fills the last times, judges completeness, sets sample->ok or sample->error. */
void reply_end(struct reply *r, double now_ms);
void reply_free(struct reply *r);

/* The sentence inside a JSON error body ({"error":{"message":".."}}, {"error":".."}, {"detail":".."}), else the body's
 * beginning; printable, at most cap - 1 bytes. True when it was such a body. */
bool reply_error_text(const char *body, size_t n, char *out, size_t cap);

/* Text from outside for a terminal: control characters and broken UTF-8 become '?'. */
void reply_printable(const char *s, size_t n, char *out, size_t cap);

#endif
