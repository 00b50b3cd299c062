/* What the server's files share: the server, and one exchange (a request and its answer). */
#ifndef SERVER_SERVER_IMPL_H
#define SERVER_SERVER_IMPL_H

#include "server/api_error.h"
#include "server/generation.h"
#include "server/hangup.h"
#include "server/server.h"
#include "server/workers.h"
#include "web/web.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define CONNECTIONS_SPARE    64u /* beyond the limit: accepted, told 503, closed */
#define CONNECTION_TIMEOUT_S 120u
#define STREAM_BUFFER_BYTES  ((size_t)16 << 10)

enum server_phase {
    SERVER_RUNS,
    SERVER_DRAINS, /* answers 503 to new work */
    SERVER_ENDS    /* no connection may be suspended any more */
};

struct exchange;

struct route {
    const char *path;
    const char *method;
    bool is_prefix; /* path is followed by an argument */
    bool is_public; /* needs no API key */
    /* Fills ex->reply, or starts ex->generation. GET runs on the HTTP thread and must be short, POST on a worker. */
    void (*run)(struct exchange *ex);
};

struct reply {
    int status; /* 0 = none yet */
    const char *content_type;
    struct buf body;
    const char *allow;           /* value of Allow, or NULL */
    bool page;                   /* part of the web page: page_headers belong to it */
    const struct web_file *file; /* sent as it lies, gzip'd; body is empty */
    const char *etag;            /* or NULL */
};

/* See exchange_wait in http.c. */
enum exchange_wakeup { WAKE_IDLE, WAKE_SUSPENDED, WAKE_PENDING };

struct exchange {
    struct server *server;
    struct MHD_Connection *connection;
    const struct route *route; /* NULL: no such path or method; reply says so */
    const char *argument;      /* what follows a prefix route's path; valid while the request runs */
    char method[24];           /* any word a client makes up; cut */
    char *url;
    struct buf body;
    uint64_t received;
    bool complete;  /* the whole body is here */
    size_t counted; /* bytes of it in server->body_bytes */
    uint64_t start_ns;
    struct reply reply;
    bool streaming; /* the stream's headers are queued */
    bool finished;  /* the stream has all it will get in out */
    int sent_status;
    struct buf out; /* streams: bytes not yet handed over */
    size_t out_at;

    _Atomic(struct generation *) generation;
    atomic_int wakeup;
    atomic_bool prepared; /* the worker is through: reply or generation is set */
    atomic_bool gone;     /* the client has left */
    struct hangup_entry *watch;
    struct worker_item work;
    struct exchange *prev, *next; /* server->exchanges */
};

struct server {
    sluice_model *model;
    sluice_engine *engine;
    struct server_options options;
    char url[300];
    char fingerprint[24];
    time_t started;
    int listen_fd;

    struct MHD_Daemon *daemon;
    struct workers *workers;
    struct hangup *hangup;
    atomic_int phase;
    atomic_size_t body_bytes;
    atomic_uint connections;

    atomic_uint n_exchanges;

    pthread_mutex_t lock; /* the list */
    struct exchange *exchanges;
};

/* routes.c */
/* The route of a path and method. NULL: *allow has the methods the path takes, or NULL if there is no such path. */
const struct route *route_find(const char *path, const char *method, const char **allow, const char **argument);
/* generate_routes.c */
void route_chat(struct exchange *ex);
void route_completion(struct exchange *ex);
/* text_routes.c */
void route_tokenize(struct exchange *ex);
void route_detokenize(struct exchange *ex);
void route_apply_template(struct exchange *ex);
/* info_routes.c */
void route_index(struct exchange *ex); /* what there is, as plain text */
void route_health(struct exchange *ex);
void route_models(struct exchange *ex);
void route_model(struct exchange *ex);
void route_props(struct exchange *ex);
void route_slots(struct exchange *ex);
void route_metrics(struct exchange *ex);
/* page_routes.c */
void route_root(struct exchange *ex);
void route_page_file(struct exchange *ex);
void page_headers(struct exchange *ex, struct MHD_Response *r);
/* http.c: libmicrohttpd's callbacks */
enum MHD_Result http_access(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                            const char *version, const char *upload, size_t *upload_n, void **context);
void http_completed(void *cls, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode why);
void http_connection(void *cls, struct MHD_Connection *connection, void **context,
                     enum MHD_ConnectionNotificationCode what);
void exchange_work(struct worker_item *item); /* a worker runs the route */
void exchange_gone(void *ctx);                /* the watcher saw the client leave */
void exchange_wake(void *ctx);                /* any thread: look at this exchange again */

/* Answers of route handlers. */
void reply_json(struct exchange *ex, struct buf *body); /* takes the body's memory */
void reply_text(struct exchange *ex, struct buf *body);
void reply_typed(struct exchange *ex, const char *content_type, struct buf *body);
void reply_error(struct exchange *ex, const struct api_error *e);

#endif
