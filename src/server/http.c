/*
 * libmicrohttpd's side of an exchange.
 *
 * A request is read on the HTTP thread. GET is answered there; POST is suspended and handed to a worker, which leaves a
 * reply or a running generation. A generation's connection is suspended whenever there is nothing to send, and resumed
 * by exchange_wake from the engine's on_ready, from a worker, from the hang-up watcher or at shutdown.
 */
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "server/server_impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- Waiting -------------------------------------------------------------------------------------------------- */

void exchange_wake(void *ctx) {
    struct exchange *ex = ctx;
    if (!atomic_load(&ex->prepared)) {
        return; /* a worker has it and will wake it when it is through */
    }
    if (atomic_exchange(&ex->wakeup, WAKE_PENDING) == WAKE_SUSPENDED) {
        MHD_resume_connection(ex->connection); /* only the one who took it out of SUSPENDED may */
    }
}

/* The last act of a callback that found nothing to do. It set wakeup to IDLE before it looked, so a wake-up since then
 * shows as PENDING here and the connection goes on at once. */
static void exchange_wait(struct exchange *ex) {
    MHD_suspend_connection(ex->connection);
    int idle = WAKE_IDLE;
    if (!atomic_compare_exchange_strong(&ex->wakeup, &idle, WAKE_SUSPENDED)) {
        MHD_resume_connection(ex->connection);
    } else if (atomic_load(&ex->server->phase) == SERVER_ENDS) {
        exchange_wake(ex);
    }
}

static bool must_end(struct exchange *ex) {
    return atomic_load(&ex->gone) || atomic_load(&ex->server->phase) == SERVER_ENDS;
}

void exchange_gone(void *ctx) {
    struct exchange *ex = ctx;
    atomic_store(&ex->gone, true);
    struct generation *g = atomic_load(&ex->generation);
    if (g) {
        generation_cancel(g);
    }
    exchange_wake(ex);
}

/* ---- Replies -------------------------------------------------------------------------------------------------- */

static void reply_set(struct exchange *ex, int status, const char *content_type, struct buf *body) {
    buf_free(&ex->reply.body);
    ex->reply.status = status;
    ex->reply.content_type = content_type;
    ex->reply.body = *body;
    *body = (struct buf){0};
}

void reply_typed(struct exchange *ex, const char *content_type, struct buf *body) {
    if (body->failed) {
        struct api_error e;
        buf_free(body);
        api_error_nomem(&e);
        reply_error(ex, &e);
        return;
    }
    reply_set(ex, 200, content_type, body);
}

void reply_json(struct exchange *ex, struct buf *body) {
    reply_typed(ex, "application/json; charset=utf-8", body);
}

void reply_text(struct exchange *ex, struct buf *body) {
    reply_typed(ex, "text/plain; charset=utf-8", body);
}

void reply_error(struct exchange *ex, const struct api_error *e) {
    struct buf body = {0};
    api_error_write(e, &body);
    if (body.failed) {
        buf_free(&body); /* the status alone must do */
    }
    reply_set(ex, e->http, "application/json; charset=utf-8", &body);
}

__attribute__((format(printf, 4, 5))) static void reply_fault(struct exchange *ex, int http, const char *code,
                                                              const char *fmt, ...) {
    struct api_error e;
    char text[sizeof e.message];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    api_error_set(&e, http, code, NULL, "%s", text);
    reply_error(ex, &e);
}

static void add_common_headers(struct exchange *ex, struct MHD_Response *r, int status) {
    struct server *s = ex->server;
    if (s->options.cors_origin) {
        MHD_add_response_header(r, "Access-Control-Allow-Origin", s->options.cors_origin);
        if (strcmp(s->options.cors_origin, "*") != 0) {
            MHD_add_response_header(r, "Vary", "Origin");
        }
    }
    if (status == 503) {
        MHD_add_response_header(r, "Retry-After", "1");
    }
    if (status == 401) {
        MHD_add_response_header(r, "WWW-Authenticate", "Bearer");
    }
    if (atomic_load(&s->phase) != SERVER_RUNS || atomic_load(&s->connections) > s->options.connections) {
        MHD_add_response_header(r, "Connection", "close");
    }
}

static void add_preflight_headers(struct exchange *ex, struct MHD_Response *r) {
    const char *asked = MHD_lookup_connection_value(ex->connection, MHD_HEADER_KIND, "Access-Control-Request-Headers");
    MHD_add_response_header(r, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    MHD_add_response_header(r, "Access-Control-Allow-Headers", asked ? asked : "Authorization, Content-Type");
    MHD_add_response_header(r, "Access-Control-Max-Age", "86400");
}

static enum MHD_Result queue(struct exchange *ex, struct MHD_Response *r, int status) {
    if (!r) {
        return MHD_NO;
    }
    add_common_headers(ex, r, status);
    ex->sent_status = status;
    enum MHD_Result ok = MHD_queue_response(ex->connection, (unsigned)status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result send_reply(struct exchange *ex) {
    int status = ex->reply.status;
    const struct web_file *file = ex->reply.file;
    size_t n = file ? file->gzip_n : 0;
    char *body = ex->reply.body.len ? buf_take(&ex->reply.body, &n) : NULL;
    struct MHD_Response *r =
        body ? MHD_create_response_from_buffer(n, body, MHD_RESPMEM_MUST_FREE)
             : MHD_create_response_from_buffer(n, file ? (void *)file->gzip : (void *)"", MHD_RESPMEM_PERSISTENT);
    if (!r) {
        mem_free(body);
        return MHD_NO;
    }
    if (ex->reply.page) {
        page_headers(ex, r);
    }
    if (ex->reply.content_type && (body || file)) {
        MHD_add_response_header(r, "Content-Type", ex->reply.content_type);
    }
    if (ex->reply.allow) {
        MHD_add_response_header(r, "Allow", ex->reply.allow);
    }
    if (strcmp(ex->method, "OPTIONS") == 0 && ex->server->options.cors_origin) {
        add_preflight_headers(ex, r);
    }
    return queue(ex, r, status);
}

/* ---- Streams -------------------------------------------------------------------------------------------------- */

static ssize_t take_out(struct exchange *ex, char *to, size_t most) {
    size_t n = ex->out.len - ex->out_at;
    n = n < most ? n : most;
    memcpy(to, ex->out.data + ex->out_at, n);
    ex->out_at += n;
    return (ssize_t)n;
}

/* libmicrohttpd asks for more of a stream. Returning 0 without suspending would spin. */
static ssize_t read_stream(void *cls, uint64_t pos, char *to, size_t most) {
    (void)pos;
    struct exchange *ex = cls;
    while (ex->out_at == ex->out.len) {
        if (ex->finished) {
            return MHD_CONTENT_READER_END_OF_STREAM;
        }
        if (must_end(ex)) {
            return MHD_CONTENT_READER_END_WITH_ERROR;
        }
        buf_reset(&ex->out);
        ex->out_at = 0;
        atomic_store(&ex->wakeup, WAKE_IDLE);
        enum generation_state state = generation_pump(ex->generation, &ex->out, STREAM_BUFFER_BYTES);
        if (ex->out.failed) {
            return MHD_CONTENT_READER_END_WITH_ERROR;
        }
        ex->finished = state != GENERATION_WAITING;
        if (!ex->finished && ex->out.len == 0) {
            exchange_wait(ex);
            return 0;
        }
    }
    return take_out(ex, to, most);
}

static enum MHD_Result start_stream(struct exchange *ex) {
    struct MHD_Response *r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BUFFER_BYTES, read_stream, ex, NULL);
    if (!r) {
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", "text/event-stream; charset=utf-8");
    MHD_add_response_header(r, "Cache-Control", "no-cache");
    MHD_add_response_header(r, "X-Accel-Buffering", "no"); /* proxies must not hold tokens back */
    ex->streaming = true;
    return queue(ex, r, 200);
}

/* ---- Work ----------------------------------------------------------------------------------------------------- */

static void drop_body(struct exchange *ex) {
    buf_free(&ex->body);
    atomic_fetch_sub(&ex->server->body_bytes, ex->counted);
    ex->counted = 0;
}

void exchange_work(struct worker_item *item) {
    struct exchange *ex = (struct exchange *)((char *)item - offsetof(struct exchange, work));
    if (!atomic_load(&ex->gone)) {
        ex->route->run(ex);
    }
    drop_body(ex);
    atomic_store(&ex->prepared, true);
    exchange_wake(ex);
}

static enum MHD_Result hand_to_worker(struct exchange *ex) {
    struct server *s = ex->server;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(ex->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    ex->watch = info ? hangup_watch(s->hangup, info->connect_fd, ex) : NULL;
    if (!ex->watch) {
        struct api_error e;
        api_error_nomem(&e);
        reply_error(ex, &e);
        return send_reply(ex);
    }
    atomic_store(&ex->wakeup, WAKE_IDLE);
    exchange_wait(ex);
    if (!workers_submit(s->workers, &ex->work)) {
        reply_fault(ex, 503, "shutting_down", "the server is shutting down");
        atomic_store(&ex->prepared, true);
        exchange_wake(ex);
    }
    return MHD_YES;
}

/* The whole request is here. */
static enum MHD_Result start(struct exchange *ex) {
    if (!ex->reply.status && strcmp(ex->route->method, "GET") == 0) {
        ex->route->run(ex);
    }
    if (!ex->reply.status && atomic_load(&ex->server->phase) != SERVER_RUNS) {
        reply_fault(ex, 503, "shutting_down", "the server is shutting down");
    }
    return ex->reply.status ? send_reply(ex) : hand_to_worker(ex);
}

/* The connection was resumed and has no response yet. */
static enum MHD_Result go_on(struct exchange *ex) {
    atomic_store(&ex->wakeup, WAKE_IDLE);
    if (!atomic_load(&ex->prepared)) {
        exchange_wait(ex);
        return MHD_YES;
    }
    if (must_end(ex)) {
        return MHD_NO;
    }
    struct generation *g = ex->generation;
    if (ex->reply.status || !g) {
        return ex->reply.status ? send_reply(ex) : MHD_NO;
    }
    if (generation_is_stream(g)) {
        return start_stream(ex);
    }
    switch (generation_pump(g, &ex->out, SIZE_MAX)) {
    case GENERATION_WAITING:
        exchange_wait(ex);
        return MHD_YES;
    case GENERATION_FAILED:
        reply_error(ex, generation_error(g));
        return send_reply(ex);
    default:
        reply_json(ex, &ex->out);
        return send_reply(ex);
    }
}

/* ---- Reading a request ---------------------------------------------------------------------------------------- */

/* Takes as long whatever part of the key is right. */
static bool same_key(const char *given, const char *key) {
    size_t n = strlen(given), m = strlen(key);
    unsigned char differ = n != m;
    for (size_t i = 0; i < n; i++) {
        differ |= (unsigned char)(given[i] ^ key[m ? i % m : 0]);
    }
    return differ == 0;
}

static void check_key(struct exchange *ex) {
    const char *key = ex->server->options.api_key;
    if (!key || ex->route->is_public) {
        return;
    }
    const char *auth = MHD_lookup_connection_value(ex->connection, MHD_HEADER_KIND, "Authorization");
    if (!auth || strncasecmp(auth, "Bearer ", 7) != 0) {
        reply_fault(ex, 401, "invalid_api_key", "this server needs an API key: send \"Authorization: Bearer KEY\"");
    } else if (!same_key(auth + 7, key)) {
        reply_fault(ex, 401, "invalid_api_key", "the API key is wrong");
    }
}

static void reply_too_large(struct exchange *ex) {
    reply_fault(ex, 413, "request_too_large", "the body is larger than this server's limit of %u bytes",
                LIMIT_BODY_BYTES);
}

static void check_announced_length(struct exchange *ex) {
    const char *length = MHD_lookup_connection_value(ex->connection, MHD_HEADER_KIND, "Content-Length");
    if (length && strtoull(length, NULL, 10) > LIMIT_BODY_BYTES) {
        reply_too_large(ex);
    }
}

/* Curl and browsers mislabel JSON, so Content-Type says nothing; a compressed body can only be refused. */
static void check_encoding(struct exchange *ex) {
    const char *encoding = MHD_lookup_connection_value(ex->connection, MHD_HEADER_KIND, "Content-Encoding");
    if (encoding && encoding[0] && strcasecmp(encoding, "identity") != 0) {
        reply_fault(ex, 415, "unsupported_encoding",
                    "Content-Encoding \"%.40s\" is not supported; send the body as it is", encoding);
    }
}

/* Everything the request line and the headers decide. Errors are sent once the body is through: a client that is still
 * writing would not read them. */
static void check_headers(struct exchange *ex) {
    const char *method = strcmp(ex->method, "HEAD") == 0 ? "GET" : ex->method;
    const char *allow = NULL;
    ex->route = route_find(ex->url, method, &allow, &ex->argument);
    if (atomic_load(&ex->server->connections) > ex->server->options.connections) {
        reply_fault(ex, 503, "too_many_connections", "the server has reached its limit of %" PRIu32 " connections",
                    ex->server->options.connections);
    } else if (!ex->route && strcmp(method, "OPTIONS") == 0) {
        ex->reply.status = 204;
        ex->reply.allow = allow ? allow : "GET, HEAD, POST, OPTIONS";
    } else if (!ex->route && allow) {
        reply_fault(ex, 405, "method_not_allowed", "%s does not take %s; it takes %s", ex->url, ex->method, allow);
        ex->reply.allow = allow;
    } else if (!ex->route) {
        reply_fault(ex, 404, "unknown_url", "there is no %s here; GET / lists what there is", ex->url);
    } else {
        check_key(ex);
        if (!ex->reply.status) {
            check_encoding(ex);
        }
        if (!ex->reply.status) {
            check_announced_length(ex);
        }
    }
}

/* "Expect: 100-continue": the client reads before it sends the body, so an error can spare it that. */
static bool asks_first(struct exchange *ex) {
    const char *expect = MHD_lookup_connection_value(ex->connection, MHD_HEADER_KIND, "Expect");
    return expect && strcasecmp(expect, "100-continue") == 0;
}

static struct exchange *exchange_new(struct server *s, struct MHD_Connection *c, const char *url, const char *method) {
    struct exchange *ex = mem_calloc(1, sizeof *ex);
    char *path = ex ? mem_strdup(url) : NULL;
    if (!path) {
        mem_free(ex);
        return NULL;
    }
    ex->server = s;
    ex->connection = c;
    ex->url = path;
    ex->start_ns = clock_ns();
    snprintf(ex->method, sizeof ex->method, "%s", method);
    pthread_mutex_lock(&s->lock);
    ex->next = s->exchanges;
    if (ex->next) {
        ex->next->prev = ex;
    }
    s->exchanges = ex;
    pthread_mutex_unlock(&s->lock);
    atomic_fetch_add(&s->n_exchanges, 1);
    return ex;
}

/* False: so much more comes than was allowed that the connection is better cut. */
static bool take_body(struct exchange *ex, const char *data, size_t n) {
    struct server *s = ex->server;
    ex->received += n;
    if (ex->reply.status) {
        return ex->received <= LIMIT_DRAIN_BYTES;
    }
    if (ex->received > LIMIT_BODY_BYTES) {
        drop_body(ex);
        reply_too_large(ex);
        return true;
    }
    size_t all = atomic_fetch_add(&s->body_bytes, n) + n;
    ex->counted += n;
    if (all <= LIMIT_BODY_BYTES_ALL) {
        buf_append(&ex->body, data, n);
    }
    if (all > LIMIT_BODY_BYTES_ALL || ex->body.failed) {
        drop_body(ex);
        reply_fault(ex, 503, "out_of_memory", "the server holds too many large requests at the moment");
    }
    return true;
}

enum MHD_Result http_access(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                            const char *version, const char *upload, size_t *upload_n, void **context) {
    (void)version;
    struct exchange *ex = *context;
    if (!ex) {
        ex = exchange_new(cls, connection, url, method);
        if (!ex) {
            return MHD_NO;
        }
        *context = ex;
        check_headers(ex);
        return ex->reply.status && asks_first(ex) ? send_reply(ex) : MHD_YES;
    }
    if (*upload_n > 0) {
        bool ok = take_body(ex, upload, *upload_n);
        *upload_n = 0;
        return ok ? MHD_YES : MHD_NO;
    }
    if (!ex->complete) {
        ex->complete = true;
        return start(ex);
    }
    return go_on(ex);
}

/* ---- The end -------------------------------------------------------------------------------------------------- */

static void log_line(struct exchange *ex, bool whole) {
    struct server *s = ex->server;
    struct buf line = {0};
    if (ex->route) {
        buf_printf(&line, "%s %s", ex->method, ex->url);
    } else { /* anything may stand in an unknown path */
        buf_printf(&line, "%s ", ex->method);
        buf_json_string(&line, ex->url, strlen(ex->url));
    }
    buf_printf(&line, " %d", whole ? ex->sent_status : 499);
    struct generation *g = ex->generation;
    if (g) {
        struct answer_usage u = generation_usage(g);
        buf_printf(&line, ", %" PRIu64 " prompt tokens (%" PRIu64 " cached), %" PRIu64 " generated", u.prompt_tokens,
                   u.cached_tokens, u.completion_tokens);
    }
    const char *cut = whole ? "" : atomic_load(&s->phase) == SERVER_ENDS ? ", cut off" : ", the client left";
    buf_printf(&line, ", %.1f ms%s\n", clock_ms_since(ex->start_ns), cut);
    if (!line.failed) {
        fwrite(line.data, 1, line.len, s->options.log);
        fflush(s->options.log);
    }
    buf_free(&line);
}

void http_completed(void *cls, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode why) {
    (void)connection;
    struct server *s = cls;
    struct exchange *ex = *context;
    *context = NULL;
    if (!ex) {
        return;
    }
    pthread_mutex_lock(&s->lock); /* first: server_cancel_all looks at what is in the list */
    if (ex->prev) {
        ex->prev->next = ex->next;
    } else {
        s->exchanges = ex->next;
    }
    if (ex->next) {
        ex->next->prev = ex->prev;
    }
    pthread_mutex_unlock(&s->lock);
    hangup_forget(s->hangup, ex->watch);
    if (s->options.log) {
        log_line(ex, why == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    }
    generation_free(ex->generation);
    drop_body(ex);
    buf_free(&ex->reply.body);
    buf_free(&ex->out);
    mem_free(ex->url);
    mem_free(ex);
    atomic_fetch_sub(&s->n_exchanges, 1);
}

void http_connection(void *cls, struct MHD_Connection *connection, void **context,
                     enum MHD_ConnectionNotificationCode what) {
    (void)connection;
    (void)context;
    struct server *s = cls;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        atomic_fetch_add(&s->connections, 1);
    } else {
        atomic_fetch_sub(&s->connections, 1);
    }
}
