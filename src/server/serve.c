/* Life of the server: listen, serve, drain, end. */
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "server/server_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct server_options server_options_default(void) {
    return (struct server_options){
        .host = "127.0.0.1", .port = 8080, .cors_origin = "*", .connections = LIMIT_CONNECTIONS};
}

/* ---- Listening ------------------------------------------------------------------------------------------------ */

static sluice_status bind_failed(const struct server_options *o, int e, sluice_error *err) {
    if (e == EADDRINUSE) {
        return fail(
            err, SLUICE_E_BUSY,
            "port %u on %s is taken by another program; choose another with --port N, or --port 0 for any free one",
            o->port, o->host);
    }
    if (e == EACCES) {
        return fail(err, SLUICE_E_IO, "port %u on %s needs privileges; choose one from 1024 up with --port N", o->port,
                    o->host);
    }
    if (e == EADDRNOTAVAIL) {
        return fail(err, SLUICE_E_ARG, "%s is no address of this machine; choose another with --host", o->host);
    }
    return fail(err, SLUICE_E_IO, "cannot listen on %s port %u: %s", o->host, o->port, strerror(e));
}

static int try_listen(const struct addrinfo *a) {
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
    int on = 1;
    if (fd < 0) {
        return -1;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 || bind(fd, a->ai_addr, a->ai_addrlen) != 0 ||
        listen(fd, SOMAXCONN) != 0) {
        int e = errno;
        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

static sluice_status open_listener(struct server *s, sluice_error *err) {
    const struct server_options *o = &s->options;
    char port[8];
    snprintf(port, sizeof port, "%u", o->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *list;
    int e = getaddrinfo(o->host, port, &hints, &list);
    if (e != 0) {
        return fail(err, SLUICE_E_ARG, "cannot listen on host \"%s\": %s", o->host, gai_strerror(e));
    }
    for (const struct addrinfo *a = list; a && s->listen_fd < 0; a = a->ai_next) {
        s->listen_fd = try_listen(a);
    }
    e = errno;
    freeaddrinfo(list);
    return s->listen_fd >= 0 ? SLUICE_OK : bind_failed(o, e, err);
}

static sluice_status make_url(struct server *s, sluice_error *err) {
    struct sockaddr_storage addr;
    socklen_t n = sizeof addr;
    char port[8] = "";
    if (getsockname(s->listen_fd, (struct sockaddr *)&addr, &n) != 0 ||
        getnameinfo((struct sockaddr *)&addr, n, NULL, 0, port, sizeof port, NI_NUMERICSERV) != 0) {
        return fail(err, SLUICE_E_IO, "cannot tell which port was given: %s", strerror(errno));
    }
    bool v6 = strchr(s->options.host, ':') != NULL;
    snprintf(s->url, sizeof s->url, "http://%s%.255s%s:%s", v6 ? "[" : "", s->options.host, v6 ? "]" : "", port);
    return SLUICE_OK;
}

/* As many connections as there are descriptors for; the soft limit is raised as far as it goes. */
static uint32_t fit_connections(uint32_t wanted) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0) {
        return wanted;
    }
    if (r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r); /* what is in force is read back */
        (void)getrlimit(RLIMIT_NOFILE, &r);
    }
    rlim_t reserve = CONNECTIONS_SPARE + 64; /* files, epoll sets, eventfds, standard streams */
    if (r.rlim_cur != RLIM_INFINITY && r.rlim_cur < wanted + reserve) {
        return r.rlim_cur > reserve + 1 ? (uint32_t)(r.rlim_cur - reserve) : 1;
    }
    return wanted;
}

/* ---- Starting ------------------------------------------------------------------------------------------------- */

static uint64_t hash(uint64_t h, const void *bytes, size_t n) { /* FNV-1a */
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ p[i]) * 0x100000001B3u;
    }
    return h;
}

/* The same fingerprint, the same numbers: build, model and backend. */
static void make_fingerprint(struct server *s) {
    const sluice_model_info *m = sluice_model_get_info(s->model);
    const char *backend = sluice_engine_get_info(s->engine)->backend;
    uint64_t h = hash(0xCBF29CE484222325u, SLUICE_VERSION, sizeof SLUICE_VERSION);
    h = hash(h, m->name, strlen(m->name));
    h = hash(h, m->quantization, strlen(m->quantization));
    h = hash(h, m->fingerprint, strlen(m->fingerprint));
    h = hash(h, backend, strlen(backend));
    snprintf(s->fingerprint, sizeof s->fingerprint, "fp_%010" PRIx64, h >> 24);
}

static sluice_status start_daemon(struct server *s, sluice_error *err) {
    s->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, http_access,
                                 s, MHD_OPTION_LISTEN_SOCKET, s->listen_fd, MHD_OPTION_CONNECTION_LIMIT,
                                 (unsigned)(s->options.connections + CONNECTIONS_SPARE), MHD_OPTION_CONNECTION_TIMEOUT,
                                 CONNECTION_TIMEOUT_S, MHD_OPTION_NOTIFY_COMPLETED, http_completed, s,
                                 MHD_OPTION_NOTIFY_CONNECTION, http_connection, s, MHD_OPTION_END);
    if (!s->daemon) {
        return fail(err, SLUICE_E_IO, "the HTTP server could not be started: %s", strerror(errno));
    }
    return SLUICE_OK;
}

static void server_free(struct server *s) {
    workers_free(s->workers);
    hangup_stop(s->hangup);
    if (s->listen_fd >= 0) {
        close(s->listen_fd);
    }
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}

sluice_status server_start(sluice_model *model, sluice_engine *engine, const struct server_options *options,
                           struct server **out, sluice_error *err) {
    *out = NULL;
    struct server *s = mem_calloc(1, sizeof *s);
    if (!s) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the server");
    }
    s->model = model;
    s->engine = engine;
    s->options = *options;
    s->options.connections = fit_connections(options->connections);
    s->started = time(NULL);
    s->listen_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    make_fingerprint(s);
    sluice_status status;
    TRY_GOTO(status, open_listener(s, err), failed);
    TRY_GOTO(status, make_url(s, err), failed);
    TRY_GOTO(status, workers_start(exchange_work, &s->workers, err), failed);
    TRY_GOTO(status, hangup_start(exchange_gone, &s->hangup, err), failed);
    TRY_GOTO(status, start_daemon(s, err), failed);
    *out = s;
    return SLUICE_OK;
failed:
    server_free(s);
    return status;
}

const char *server_url(const struct server *s) {
    return s->url;
}

/* ---- Ending --------------------------------------------------------------------------------------------------- */

void server_drain(struct server *s) {
    int runs = SERVER_RUNS;
    if (!atomic_compare_exchange_strong(&s->phase, &runs, SERVER_DRAINS)) {
        return;
    }
    MHD_quiesce_daemon(s->daemon);
    /* Refuses new clients at once. Not closed yet: libmicrohttpd's thread may still be looking at it. */
    shutdown(s->listen_fd, SHUT_RDWR);
}

uint32_t server_active(struct server *s) {
    return atomic_load(&s->n_exchanges);
}

void server_cancel_all(struct server *s) {
    pthread_mutex_lock(&s->lock);
    for (struct exchange *ex = s->exchanges; ex; ex = ex->next) {
        struct generation *g = atomic_load(&ex->generation);
        if (g) {
            generation_cancel(g);
        }
    }
    pthread_mutex_unlock(&s->lock);
}

void server_stop(struct server *s) {
    if (!s) {
        return;
    }
    server_drain(s);
    server_cancel_all(s);
    workers_finish(s->workers); /* every exchange is prepared from here on */
    atomic_store(&s->phase, SERVER_ENDS);
    /* libmicrohttpd must not be stopped with suspended connections. Each one is either woken here or, if it is about to
     * be suspended, sees the phase in exchange_wait. */
    pthread_mutex_lock(&s->lock);
    for (struct exchange *ex = s->exchanges; ex; ex = ex->next) {
        exchange_wake(ex);
    }
    pthread_mutex_unlock(&s->lock);
    MHD_stop_daemon(s->daemon);
    server_free(s);
}
