/*
 * A loopback HTTP server that behaves as told: a thread per connection, keep-alive, one behaviour at a time. It
 * streams five tokens with a few milliseconds between them, or does one of the things that servers do wrong.
 */
#ifndef BENCH_FAKE_SERVER_H
#define BENCH_FAKE_SERVER_H

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum fake {
    FAKE_GOOD,
    FAKE_BYTE_BY_BYTE, /* the stream arrives in single bytes */
    FAKE_NO_USAGE,
    FAKE_NO_STREAM, /* answers with one JSON object */
    FAKE_TRUNCATED, /* closes after two tokens */
    FAKE_CLOSED,    /* closes without an answer */
    FAKE_NOT_FOUND, /* 404 with an OpenAI error */
    FAKE_BROKEN,    /* 500 with HTML */
    FAKE_KEY,       /* 401 */
    FAKE_SILENT,    /* headers, then nothing */
    FAKE_ERROR,     /* an error event in the stream */
    FAKE_NO_MODELS, /* 404 for /v1/models only */
    FAKE_TOO_LONG,  /* 400 for bodies above 3000 bytes */
    FAKE_TOO_MUCH,  /* 400 for all */
    FAKE_IN_TURN,   /* one stream at a time */
};

static atomic_int fake_mode;
static atomic_int fake_connections, fake_requests;
static atomic_bool fake_stopping;
static char fake_last_body[65536];
static pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t fake_turn = PTHREAD_MUTEX_INITIALIZER;
static int fake_socket;
static pthread_t fake_thread;

static inline void fake_sleep(int ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

static inline bool fake_send(int fd, const char *text) {
    size_t n = strlen(text);
    while (n) {
        ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        text += sent;
        n -= (size_t)sent;
    }
    return true;
}

/* One HTTP chunk, or its bytes one at a time. */
static inline bool fake_chunk(int fd, const char *text) {
    char wrapped[2048];
    snprintf(wrapped, sizeof wrapped, "%zx\r\n%s\r\n", strlen(text), text);
    if (atomic_load(&fake_mode) != FAKE_BYTE_BY_BYTE) {
        return fake_send(fd, wrapped);
    }
    for (const char *p = wrapped; *p; p++) {
        if (!fake_send(fd, (const char[]){*p, '\0'})) {
            return false;
        }
    }
    return true;
}

static inline bool fake_plain(int fd, const char *status, const char *type, const char *body) {
    char text[4096];
    snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s", status, type,
             strlen(body), body);
    return fake_send(fd, text);
}

static inline bool fake_stream(int fd, int mode) {
    static const char *const words[] = {"one", " two", " \\u20ac", " four"};
    char event[512];
    fake_send(
        fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n");
    fake_chunk(fd, "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n");
    if (mode == FAKE_SILENT) {
        for (int i = 0; i < 100 && !atomic_load(&fake_stopping) && atomic_load(&fake_mode) == FAKE_SILENT; i++) {
            fake_sleep(50);
        }
        return false;
    }
    fake_sleep(10);
    for (int i = 0; i < 4; i++) {
        if (mode == FAKE_TRUNCATED && i == 2) {
            return false;
        }
        if (mode == FAKE_ERROR && i == 2) {
            fake_chunk(fd, "data: {\"error\":{\"message\":\"the device is gone\"}}\n\n");
            return false;
        }
        snprintf(event, sizeof event, "data: {\"choices\":[{\"delta\":{\"content\":\"%s\"}}]}\r\n\r\n", words[i]);
        fake_chunk(fd, event);
        fake_sleep(4);
    }
    fake_chunk(fd, ": keep-alive\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    if (mode != FAKE_NO_USAGE) {
        fake_chunk(fd, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":40,\"completion_tokens\":5,"
                       "\"prompt_tokens_details\":{\"cached_tokens\":0}}}\n\n");
    }
    fake_chunk(fd, "data: [DONE]\n\n");
    return fake_send(fd, "0\r\n\r\n");
}

static inline bool fake_answer(int fd, const char *path, size_t body_len) {
    int mode = atomic_load(&fake_mode);
    if (strncmp(path, "/v1/models", 10) == 0) {
        return mode == FAKE_NO_MODELS ? fake_plain(fd, "404 Not Found", "text/plain", "no")
                                      : fake_plain(fd, "200 OK", "application/json",
                                                   "{\"object\":\"list\",\"data\":[{\"id\":\"fake-1\",\"owned_by\":"
                                                   "\"nobody\",\"meta\":{\"n_ctx\":"
                                                   "2048}},{\"id\":\"fake-2\"}]}");
    }
    if (strncmp(path, "/v1/chat/completions", 20) != 0) {
        return fake_plain(fd, "404 Not Found", "text/plain", "no");
    }
    switch (mode) {
    case FAKE_NO_STREAM:
        return fake_plain(fd, "200 OK", "application/json", "{\"choices\":[{\"message\":{\"content\":\"hi\"}}]}");
    case FAKE_CLOSED:
        return false;
    case FAKE_NOT_FOUND:
        return fake_plain(fd, "404 Not Found", "application/json", "{\"error\":{\"message\":\"no model x\"}}");
    case FAKE_BROKEN:
        return fake_plain(fd, "500 Oops", "text/html", "<h1>broken</h1>");
    case FAKE_KEY:
        return fake_plain(fd, "401 Unauthorized", "application/json", "{}");
    case FAKE_TOO_MUCH:
    case FAKE_TOO_LONG:
        if (body_len > 3000 || mode == FAKE_TOO_MUCH) {
            return fake_plain(fd, "400 Bad Request", "application/json",
                              "{\"error\":{\"message\":\"context exceeded\"}}");
        }
        return fake_stream(fd, mode);
    case FAKE_IN_TURN: {
        pthread_mutex_lock(&fake_turn);
        bool ok = fake_stream(fd, mode);
        pthread_mutex_unlock(&fake_turn);
        return ok;
    }
    default:
        return fake_stream(fd, mode);
    }
}

static inline void *fake_connection(void *arg) {
    int fd = (int)(intptr_t)arg;
    int one = 1;
    char *text = malloc(1 << 17);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    size_t n = 0;
    for (bool open = true; open;) {
        char *end;
        text[n] = '\0';
        while (!(end = strstr(text, "\r\n\r\n"))) {
            ssize_t got = recv(fd, text + n, (1 << 17) - 1 - n, 0);
            if (got <= 0) {
                goto done;
            }
            n += (size_t)got;
            text[n] = '\0';
        }
        const char *length = strstr(text, "Content-Length: ");
        size_t body = length && length < end ? (size_t)atol(length + 16) : 0;
        size_t head = (size_t)(end + 4 - text);
        while (n < head + body) {
            ssize_t got = recv(fd, text + n, (1 << 17) - 1 - n, 0);
            if (got <= 0) {
                goto done;
            }
            n += (size_t)got;
        }
        atomic_fetch_add(&fake_requests, 1);
        pthread_mutex_lock(&fake_lock);
        size_t keep = head + body < sizeof fake_last_body ? head + body : sizeof fake_last_body - 1;
        memcpy(fake_last_body, text, keep);
        fake_last_body[keep] = '\0';
        pthread_mutex_unlock(&fake_lock);
        open = fake_answer(fd, strchr(text, ' ') + 1, body);
        memmove(text, text + head + body, n - head - body);
        n -= head + body;
    }
done:
    free(text);
    close(fd);
    atomic_fetch_sub(&fake_connections, 1);
    return NULL;
}

static inline void *fake_main(void *arg) {
    (void)arg;
    for (;;) {
        int fd = accept(fake_socket, NULL, NULL);
        if (fd < 0) {
            return NULL;
        }
        pthread_t t;
        atomic_fetch_add(&fake_connections, 1);
        if (pthread_create(&t, NULL, fake_connection, (void *)(intptr_t)fd) == 0) {
            pthread_detach(t);
        }
    }
}

/* Returns the port. */
static inline int fake_start(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    fake_socket = socket(AF_INET, SOCK_STREAM, 0);
    if (fake_socket < 0 || bind(fake_socket, (struct sockaddr *)&a, sizeof a) || listen(fake_socket, 64) ||
        getsockname(fake_socket, (struct sockaddr *)&a, &n) ||
        pthread_create(&fake_thread, NULL, fake_main, NULL) != 0) {
        return -1;
    }
    return ntohs(a.sin_port);
}

static inline void fake_stop(void) {
    atomic_store(&fake_stopping, true);
    shutdown(fake_socket, SHUT_RDWR);
    pthread_join(fake_thread, NULL);
    close(fake_socket);
    for (int i = 0; i < 200 && atomic_load(&fake_connections) > 0; i++) {
        fake_sleep(10);
    }
}

#endif
