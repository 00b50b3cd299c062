/*
 * A trace of what the engine does, in Chrome's trace event format (JSON array form; opens in Perfetto and
 * chrome://tracing): https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. Steps and their
 * parts are spans of the engine thread; a request is an async span from submission to its last event.
 *
 * Written by the engine thread through a buffer, about 0.3 us per event. The file is valid JSON after every write, so
 * that a process killed half way leaves a trace that opens. A file that cannot be written to any more (a full disk, a
 * size limit) ends the trace, never the engine. Every function takes a NULL trace and then does nothing.
 *
 * Names and args come from the caller's own constants and numbers; they are written as they are, so they must be what
 * JSON allows between its quotes.
 */
#ifndef ENGINE_TRACE_H
#define ENGINE_TRACE_H

#include "sluice.h"

#define TRACE_EVENT_BYTES 2048u /* of one event; a longer one loses its args */

struct trace;

/* Creates or empties the file. Times in the trace count from now. SLUICE_E_ARG: it is a pipe, which cannot be rewritten. */
sluice_status trace_open(const char *path, struct trace **out, sluice_error *err);
/* Completes the file and frees the trace. SLUICE_E_IO: it could not be written in full; it has what came before. */
sluice_status trace_close(struct trace *t, sluice_error *err);

/* A span on the engine's track. args: the members of a JSON object, written as printf does ("\"rows\":%u"), or NULL. */
void trace_span(struct trace *t, const char *name, uint64_t start_ns, uint64_t end_ns, const char *args, ...)
    __attribute__((format(printf, 5, 6)));
/* A moment in the life of request `id`; phases: 'b' begins it, 'n' is a point in it, 'e' ends it. */
void trace_request(struct trace *t, char phase, uint64_t id, const char *name, uint64_t at_ns, const char *args, ...)
    __attribute__((format(printf, 6, 7)));
/* A value over time: pages in use, requests waiting. */
void trace_counter(struct trace *t, const char *name, uint64_t at_ns, uint64_t value);

#endif
