/*
 * The tokens of one request on their way from the engine thread to the reader: an unbounded queue with one writer and
 * one reader and no lock. It is a chain of chunks; a chunk that was read is handed back to the writer, so a reader that
 * keeps up costs no allocation per token, and one that does not never holds up the engine. max_tokens bounds its
 * length.
 */
#ifndef ENGINE_EVENTS_H
#define ENGINE_EVENTS_H

#include "engine/sampler.h"

struct event_chunk;

struct events {
    struct event_chunk *tail;             /* writer's */
    struct event_chunk *head;             /* reader's */
    size_t read_at;                       /* reader's place in head */
    struct event_chunk *_Atomic recycled; /* one standard-size chunk on its way back */
};

sluice_status events_init(struct events *q, sluice_error *err);
void events_free(struct events *q);
/* Writer: appends one token with its text. SLUICE_E_NOMEM: nothing was appended. */
sluice_status events_put(struct events *q, const struct sample *sample, const char *text, size_t n_text,
                         sluice_error *err);
/* Reader: fills token, text, logprob and top of *event; false if there is none. The text stays valid until the next
 * call. */
bool events_take(struct events *q, sluice_event *event);

#endif
