/*
 * The OpenAI-compatible HTTP server. Owns its threads; prints nothing but, if asked, one log line per request.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "sluice.h"

#include <stdio.h>

struct server;

struct server_options {
    const char *host;        /* address or name to listen on */
    uint16_t port;           /* 0 = any free one */
    const char *api_key;     /* NULL = none is asked for */
    const char *cors_origin; /* value of Access-Control-Allow-Origin; NULL = no CORS headers */
    uint32_t connections;    /* at once; more are answered 503 */
    uint32_t timeout_ms;     /* for one request, from its queueing to its last token; more is answered 504. 0 = none */
    bool no_web;             /* no page for people at /, only the API */
    FILE *log;               /* one line per request; NULL = none */
};

struct server_options server_options_default(void); /* 127.0.0.1:8080, any origin, LIMIT_CONNECTIONS, no log */

/* Listens and serves. Model, engine and the options' strings must outlive the server. SLUICE_E_BUSY: the port is
 * taken. */
sluice_status server_start(sluice_model *model, sluice_engine *engine, const struct server_options *options,
                           struct server **out, sluice_error *err);
/* "http://127.0.0.1:8080" */
const char *server_url(const struct server *s);

/* No new connections and no new work; what runs goes on. */
void server_drain(struct server *s);
/* Requests that are not answered yet. */
uint32_t server_active(struct server *s);
/* Cancels what runs: its clients get an error. */
void server_cancel_all(struct server *s);
/* Ends everything and frees the server. */
void server_stop(struct server *s);

#endif
