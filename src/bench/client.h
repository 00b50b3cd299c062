/*
 * An HTTP client for OpenAI-compatible servers, made for measuring up to hundreds of streams at once. One thread,
 * libcurl's multi-socket interface over epoll; connections stay open between requests.
 *
 * While requests run nothing is parsed: what arrives is stamped and kept, and becomes samples after the last of them
 * has ended. So a stream's reading costs the other streams little, and the machine under test little.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include "base/buf.h"
#include "bench/sample.h"

#include <stdatomic.h>

#define CLIENT_STREAMS_MAX 256

struct client;

struct client_options {
    const char *url;         /* "http://127.0.0.1:8080", with or without /v1 at the end */
    const char *api_key;     /* or NULL */
    uint32_t silence_s;      /* give a request up when nothing comes for so long */
    const atomic_bool *stop; /* set from elsewhere: end at once; may be NULL */
    uint64_t zero_ns;        /* clock_ns() that sample.send_ms counts from */
};

struct client_request { /* of POST /v1/chat/completions with a streaming body */
    const char *body;
    size_t body_len;
    double due_ms;         /* when to send it, after zero_ns; below 0: at once */
    uint32_t max_tokens;   /* bounds what is read of its answer */
    struct sample *sample; /* gets times, counts and the outcome, good or bad; its other fields stay */
};

/* Once per process, before any thread starts. */
sluice_status client_global_init(sluice_error *err);
void client_global_free(void);

sluice_status client_open(const struct client_options *options, struct client **out, sluice_error *err);
void client_close(struct client *c);
const char *client_base(const struct client *c); /* the URL as requests use it */

/* Sends each request when it is due, all that are due together, and returns when all have ended: at most
 * CLIENT_STREAMS_MAX at a time, what is due beyond that waits (its lateness shows in the sample). on_end may be NULL.
 * Only SLUICE_E_NOMEM and failures of the system are errors; a failed request is a sample's. */
sluice_status client_run(struct client *c, struct client_request *requests, uint32_t n,
                         void (*on_end)(void *ctx, uint32_t n_ended), void *ctx, sluice_error *err);

/* GET (post NULL) or POST of JSON to a path below the server's root. Any HTTP status is SLUICE_OK: *http_status. */
sluice_status client_fetch(struct client *c, const char *path, const char *post, struct buf *body, long *http_status,
                           sluice_error *err);

/* CPU time that client_run has taken so far on the calling thread, and the pieces of bytes it stamped. */
void client_cost(const struct client *c, double *cpu_ms, uint64_t *pieces);

/* The URL without user, password and a trailing /v1, for requests and for records. SLUICE_E_ARG when it is not
 * http(s)://host. */
sluice_status client_base_url(const char *url, char *out, size_t cap, sluice_error *err);
/* True when such a URL names this machine by a loopback address. */
bool client_is_loopback(const char *base_url);

#endif
