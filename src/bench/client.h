/*
 * An HTTP client for OpenAI-compatible servers, made for measuring: one connection per client, kept open between
 * requests, bytes time-stamped as they arrive. One thread uses a client at a time.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include "base/buf.h"
#include "bench/sample.h"

#include <stdatomic.h>

struct client;

struct client_options {
    const char *url;         /* "http://127.0.0.1:8080", with or without /v1 at the end */
    const char *api_key;     /* or NULL */
    uint32_t silence_s;      /* give up when nothing comes for so long */
    const atomic_bool *stop; /* set from elsewhere: end at once; may be NULL */
    uint64_t zero_ns;        /* clock_ns() that sample.send_ms counts from */
};

/* Once per process, before any thread starts. */
sluice_status client_global_init(sluice_error *err);
void client_global_free(void);

sluice_status client_open(const struct client_options *options, struct client **out, sluice_error *err);
void client_close(struct client *c);

/* GET a path below the server's root ("/v1/models"). Any HTTP status is SLUICE_OK: *http_status says which. */
sluice_status client_get(struct client *c, const char *path, struct buf *body, long *http_status, sluice_error *err);
/* POST /v1/chat/completions with a streaming body. The outcome, good or bad, is in the sample. */
void client_chat(struct client *c, const char *body, size_t n, struct sample *out);

/* The URL without user, password and a trailing /v1, for requests and for records. SLUICE_E_ARG when it is not
 * http(s)://host. */
sluice_status client_base_url(const char *url, char *out, size_t cap, sluice_error *err);
/* True when such a URL names this machine by a loopback address. */
bool client_is_loopback(const char *base_url);

#endif
