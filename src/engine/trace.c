#include "engine/trace.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES 65536u
#define TAIL         "\n]\n"
#define TAIL_BYTES   (sizeof TAIL - 1)

struct trace {
    int fd;
    int error; /* errno of the write that ended the trace; 0 = it goes on */
    char *path;
    uint64_t start_ns;
    uint64_t end; /* where the tail begins in the file: the next write goes over it */
    size_t len;
    char buffer[BUFFER_BYTES + TAIL_BYTES];
};

/* ---- The file ------------------------------------------------------------------------------------------------- */

/* errno or 0. A size limit sends SIGXFSZ to the writing thread, which would end the process: it is held back and taken
 * away. */
static int write_at(int fd, const char *bytes, size_t n, uint64_t at) {
    sigset_t xfsz, before, pending;
    sigemptyset(&xfsz);
    sigaddset(&xfsz, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &xfsz, &before);
    sigpending(&pending);
    int error = 0;
    while (n > 0 && !error) {
        ssize_t done = pwrite(fd, bytes, n, (off_t)at);
        if (done > 0) {
            bytes += done;
            n -= (size_t)done;
            at += (uint64_t)done;
        } else if (done == 0 || errno != EINTR) {
            error = done == 0 ? ENOSPC : errno;
        }
    }
    if (error == EFBIG && !sigismember(&pending, SIGXFSZ)) {
        const struct timespec none = {0};
        (void)sigtimedwait(&xfsz, NULL, &none); /* none there: the limit was the file system's */
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* Events and the tail behind them go over the last tail. What fails is cut off again: the old tail's place is known to be
 * writable, so the file stays valid. */
static void flush(struct trace *t) {
    if (t->error || t->len == 0) {
        return;
    }
    memcpy(t->buffer + t->len, TAIL, TAIL_BYTES);
    t->error = write_at(t->fd, t->buffer, t->len + TAIL_BYTES, t->end);
    if (!t->error) {
        t->end += t->len;
    } else if (t->end > 0) {
        (void)write_at(t->fd, TAIL, TAIL_BYTES, t->end);
        (void)!ftruncate(t->fd, (off_t)(t->end + TAIL_BYTES));
    } else {
        (void)!ftruncate(t->fd, 0);
    }
    t->len = 0;
}

/* ---- Events --------------------------------------------------------------------------------------------------- */

/* Where the next event is written: TRACE_EVENT_BYTES are free there. NULL: the trace has ended. */
static char *room(struct trace *t) {
    if (BUFFER_BYTES - t->len < TRACE_EVENT_BYTES) {
        flush(t);
    }
    return t->error ? NULL : t->buffer + t->len;
}

/* Adds "args" and closes the event of n bytes at the end of the buffer. */
__attribute__((format(printf, 3, 0))) static void finish(struct trace *t, size_t n, const char *args, va_list list) {
    static const char opening[] = ",\"args\":{";
    char *event = t->buffer + t->len;
    size_t bare = n;
    if (args && n + sizeof opening + 2 < TRACE_EVENT_BYTES) {
        memcpy(event + n, opening, sizeof opening - 1);
        n += sizeof opening - 1;
        size_t left = TRACE_EVENT_BYTES - n - 2; /* for the two braces */
        int wrote = vsnprintf(event + n, left, args, list);
        if (wrote >= 0 && (size_t)wrote < left) {
            n += (size_t)wrote;
            event[n++] = '}';
        } else {
            n = bare;
        }
    }
    event[n++] = '}';
    t->len += n;
}

/* Microseconds since the trace began, with the nanoseconds behind the point. */
struct stamp {
    uint64_t us;
    unsigned ns;
};

static struct stamp stamp(uint64_t ns) {
    return (struct stamp){.us = ns / 1000, .ns = (unsigned)(ns % 1000)};
}

static struct stamp since_start(const struct trace *t, uint64_t at_ns) {
    return stamp(at_ns > t->start_ns ? at_ns - t->start_ns : 0);
}

/* True when the event's head of n bytes, as snprintf counts them, is in the buffer. */
static bool fits(int n) {
    return n > 0 && (unsigned)n < TRACE_EVENT_BYTES - 2;
}

void trace_span(struct trace *t, const char *name, uint64_t start_ns, uint64_t end_ns, const char *args, ...) {
    char *to = t ? room(t) : NULL;
    if (!to) {
        return;
    }
    struct stamp at = since_start(t, start_ns);
    struct stamp length = stamp(end_ns > start_ns ? end_ns - start_ns : 0);
    int n = snprintf(to, TRACE_EVENT_BYTES,
                     ",\n{\"name\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":%" PRIu64 ".%03u,\"dur\":%" PRIu64
                     ".%03u",
                     name, at.us, at.ns, length.us, length.ns);
    if (fits(n)) {
        va_list list;
        va_start(list, args);
        finish(t, (size_t)n, args, list);
        va_end(list);
    }
}

void trace_request(struct trace *t, char phase, uint64_t id, const char *name, uint64_t at_ns, const char *args, ...) {
    char *to = t ? room(t) : NULL;
    if (!to) {
        return;
    }
    struct stamp at = since_start(t, at_ns);
    int n = snprintf(to, TRACE_EVENT_BYTES,
                     ",\n{\"name\":\"%s\",\"cat\":\"request\",\"ph\":\"%c\",\"id\":%" PRIu64
                     ",\"pid\":1,\"tid\":1,\"ts\":%" PRIu64 ".%03u",
                     name, phase, id, at.us, at.ns);
    if (fits(n)) {
        va_list list;
        va_start(list, args);
        finish(t, (size_t)n, args, list);
        va_end(list);
    }
}

void trace_counter(struct trace *t, const char *name, uint64_t at_ns, uint64_t value) {
    char *to = t ? room(t) : NULL;
    if (!to) {
        return;
    }
    struct stamp at = since_start(t, at_ns);
    int n =
        snprintf(to, TRACE_EVENT_BYTES,
                 ",\n{\"name\":\"%s\",\"ph\":\"C\",\"pid\":1,\"ts\":%" PRIu64 ".%03u,\"args\":{\"value\":%" PRIu64 "}}",
                 name, at.us, at.ns, value);
    t->len += fits(n) ? (size_t)n : 0;
}

/* ---- Opening and closing -------------------------------------------------------------------------------------- */

static sluice_status open_file(struct trace *t, sluice_error *err) {
    t->fd = open(t->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (t->fd < 0) {
        return fail(err, SLUICE_E_IO, "the trace cannot be written to %s: %s", t->path, strerror(errno));
    }
    if (lseek(t->fd, 0, SEEK_CUR) < 0) {
        return fail(err, SLUICE_E_ARG, "the trace cannot be written to %s: it is a pipe; give the name of a file",
                    t->path);
    }
    return SLUICE_OK;
}

static void trace_free(struct trace *t) {
    if (t->fd >= 0) {
        close(t->fd);
    }
    mem_free(t->path);
    mem_free(t);
}

sluice_status trace_open(const char *path, struct trace **out, sluice_error *err) {
    *out = NULL;
    struct trace *t = mem_alloc(sizeof *t);
    if (!t) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for the trace");
    }
    t->fd = -1;
    t->error = 0;
    t->start_ns = clock_ns();
    t->end = 0;
    t->len = 0;
    t->path = mem_strdup(path);
    sluice_status status =
        t->path ? open_file(t, err) : fail(err, SLUICE_E_NOMEM, "out of memory for the trace's name");
    if (status != SLUICE_OK) {
        trace_free(t);
        return status;
    }
    static const char head[] = "[\n"
                               "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":\"sluice\"}},\n"
                               "{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":1,"
                               "\"args\":{\"name\":\"engine\"}}";
    memcpy(t->buffer, head, sizeof head - 1);
    t->len = sizeof head - 1;
    *out = t;
    return SLUICE_OK;
}

sluice_status trace_close(struct trace *t, sluice_error *err) {
    if (!t) {
        return SLUICE_OK;
    }
    flush(t);
    int fd = t->fd;
    t->fd = -1;
    if (close(fd) != 0 && !t->error) { /* network file systems report a full disk here */
        t->error = errno;
    }
    sluice_status status = SLUICE_OK;
    if (t->error) {
        status = fail(err, SLUICE_E_IO, "the trace in %s is not complete: %s", t->path, strerror(t->error));
    }
    trace_free(t);
    return status;
}
