#include "record/writer.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "record/chain.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct record_writer {
    int fd;
    bool owned;   /* the file is ours to close */
    bool regular; /* can be cut back */
    bool replace; /* what is in the file goes when the first line comes */
    off_t length; /* of the whole lines */
    char *path;
    struct chain chain;
    struct buf line;
};

static sluice_status io_error(const struct record_writer *w, const char *what, int reason, sluice_error *err) {
    return fail(err, SLUICE_E_IO, "the record could not be %s %s: %s", what, w->path, strerror(reason));
}

/* Where the last whole line begins: after the newline before its own. *out is the file's length where there is none. */
static sluice_status last_line(struct record_writer *w, off_t *out, sluice_error *err) {
    char block[4096];
    off_t at = w->length;
    bool end_seen = false;
    while (at > 0) {
        size_t n = at < (off_t)sizeof block ? (size_t)at : sizeof block;
        ssize_t got = pread(w->fd, block, n, at - (off_t)n);
        if (got != (ssize_t)n) {
            return io_error(w, "read from", got < 0 ? errno : EIO, err);
        }
        for (size_t i = n; i-- > 0;) {
            if (!end_seen && block[i] != '\n') {
                return fail(err, SLUICE_E_FORMAT,
                            "%s: the last line has no end (a run was cut off in the middle of it); take that line "
                            "out, then the record can go on",
                            w->path);
            }
            if (end_seen && block[i] == '\n') {
                *out = at - (off_t)n + (off_t)i + 1;
                return SLUICE_OK;
            }
            end_seen = true;
        }
        at -= (off_t)n;
        if (w->length - at > (off_t)LIMIT_RECORD_LINE + (off_t)sizeof block) {
            return fail(err, SLUICE_E_LIMIT, "%s is no record: its last line is longer than %u bytes", w->path,
                        LIMIT_RECORD_LINE);
        }
    }
    *out = 0;
    return SLUICE_OK;
}

static sluice_status continue_chain(struct record_writer *w, sluice_error *err) {
    off_t from = 0;
    TRY(last_line(w, &from, err));
    if (w->length == 0) {
        return SLUICE_OK;
    }
    size_t n = (size_t)(w->length - from - 1);
    char *text = mem_alloc(n + 1);
    if (!text) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the last line of %s", w->path);
    }
    sluice_status status = SLUICE_OK;
    ssize_t got = pread(w->fd, text, n, from);
    if (got != (ssize_t)n) {
        status = io_error(w, "read from", got < 0 ? errno : EIO, err);
    } else if (n < 9 || memcmp(text, "{\"kind\":\"", 9) != 0) {
        status = fail(err, SLUICE_E_FORMAT, "%s is no record of this version: its last line begins with no \"kind\"",
                      w->path);
    } else {
        status = chain_add(&w->chain, text, n, err);
    }
    mem_free(text);
    return status;
}

static sluice_status open_file(struct record_writer *w, bool append, sluice_error *err) {
    struct stat st;
    w->fd = open(w->path, (append ? O_RDWR : O_WRONLY) | O_CREAT | O_CLOEXEC, 0666);
    if (w->fd < 0) {
        return io_error(w, "opened in", errno, err);
    }
    w->owned = true;
    if (fstat(w->fd, &st) != 0) {
        return io_error(w, "opened in", errno, err);
    }
    w->regular = S_ISREG(st.st_mode);
    if (!w->regular) {
        return SLUICE_OK;
    }
    if (flock(w->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) { /* file systems without locks go on */
        return fail(err, SLUICE_E_BUSY, "another process is writing its record to %s; choose another file", w->path);
    }
    if (!append) {
        w->replace = true;
        return SLUICE_OK;
    }
    w->length = lseek(w->fd, 0, SEEK_END);
    if (w->length < 0) {
        return io_error(w, "opened in", errno, err);
    }
    return continue_chain(w, err);
}

sluice_status record_writer_open(const char *path, bool append, struct record_writer **out, sluice_error *err) {
    struct record_writer *w = mem_calloc(1, sizeof *w);
    bool to_stdout = strcmp(path, "-") == 0;
    *out = NULL;
    if (!w) {
        return fail(err, SLUICE_E_NOMEM, "no memory to write %s", path);
    }
    w->fd = to_stdout ? STDOUT_FILENO : -1;
    w->path = mem_strdup(to_stdout ? "standard output" : path);
    sluice_status status = chain_init(&w->chain, err);
    if (status == SLUICE_OK && !w->path) {
        status = fail(err, SLUICE_E_NOMEM, "no memory to write %s", path);
    }
    if (status == SLUICE_OK && !to_stdout) {
        status = open_file(w, append, err);
    }
    if (status != SLUICE_OK) {
        (void)record_writer_close(w, NULL);
        return status;
    }
    *out = w;
    return SLUICE_OK;
}

static sluice_status write_all(struct record_writer *w, const char *bytes, size_t n, sluice_error *err) {
    size_t done = 0;
    while (done < n) {
        ssize_t got = write(w->fd, bytes + done, n - done);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            int reason = got < 0 ? errno : EIO;
            if (w->regular && done > 0 && ftruncate(w->fd, w->length) == 0) {
                (void)lseek(w->fd, w->length, SEEK_SET);
            }
            return io_error(w, "written to", reason, err);
        }
        done += (size_t)got;
    }
    w->length += (off_t)n;
    return SLUICE_OK;
}

/* Bytes of {"kind":"NAME", after which "prev" goes; 0 if the line does not begin so. */
static size_t after_kind(const struct buf *line) {
    static const char start[] = "{\"kind\":\"";
    size_t n = sizeof start - 1;
    if (line->len < n || memcmp(line->data, start, n) != 0) {
        return 0;
    }
    const char *quote = memchr(line->data + n, '"', line->len - n);
    return quote ? (size_t)(quote - line->data) + 1 : 0;
}

sluice_status record_write(struct record_writer *w, const struct buf *line, sluice_error *err) {
    if (line->failed) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a line of %s", w->path);
    }
    size_t head = after_kind(line);
    if (head == 0 || line->data[line->len - 1] != '}' || memchr(line->data, '\n', line->len)) {
        return fail(err, SLUICE_E_ARG, "%s: a line of a record is one JSON object that begins with its kind", w->path);
    }
    buf_reset(&w->line);
    buf_append(&w->line, line->data, head);
    buf_printf(&w->line, ",\"prev\":\"%s\"", w->chain.prev);
    buf_append(&w->line, line->data + head, line->len - head);
    if (w->line.len > LIMIT_RECORD_LINE) {
        return fail(err, SLUICE_E_LIMIT, "%s: a line of %zu bytes; a record's lines have at most %u", w->path,
                    w->line.len, LIMIT_RECORD_LINE);
    }
    buf_putc(&w->line, '\n');
    if (w->line.failed) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a line of %s", w->path);
    }
    if (w->replace && ftruncate(w->fd, 0) != 0) {
        return io_error(w, "written to", errno, err);
    }
    w->replace = false;
    TRY(write_all(w, w->line.data, w->line.len, err));
    return chain_add(&w->chain, w->line.data, w->line.len - 1, err);
}

sluice_status record_writer_close(struct record_writer *w, sluice_error *err) {
    sluice_status status = SLUICE_OK;
    if (!w) {
        return status;
    }
    if (w->owned && close(w->fd) != 0) {
        status = io_error(w, "written to", errno, err);
    }
    chain_free(&w->chain);
    buf_free(&w->line);
    mem_free(w->path);
    mem_free(w);
    return status;
}
