#include "bench/child.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_TIMEOUT_S 600 /* a large model has to be read once */
#define STOP_TIMEOUT_MS 10000
#define OUTPUT_MAX      16384 /* of the child's first output that is searched */

struct child {
    pid_t pid;
    FILE *output; /* unlinked file with what the child writes: unlike a pipe it never fills */
};

static void sleep_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Copies the child's output so far; returns its length. */
static size_t read_output(const struct child *c, char *out, size_t cap) {
    ssize_t n = pread(fileno(c->output), out, cap - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

static bool find_url(const char *text, char *url, size_t cap) {
    const char *at = strstr(text, "listening on ");
    if (!at) {
        return false;
    }
    at += strlen("listening on ");
    size_t n = strcspn(at, " \r\n");
    if (at[n] == '\0' || n >= cap) {
        return false; /* the line is not complete yet */
    }
    memcpy(url, at, n);
    url[n] = '\0';
    return true;
}

static const char *last_line(char *text) {
    size_t n = strlen(text);
    while (n && (text[n - 1] == '\n' || text[n - 1] == ' ')) {
        text[--n] = '\0';
    }
    char *line = strrchr(text, '\n');
    return n ? (line ? line + 1 : text) : "no output";
}

/* One HTTP request by hand, with a short patience: a server that is not up yet is the usual case, not an error. */
static bool answers_200(uint16_t port, const char *path) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 2};
    char text[256];
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", path);
    bool ok = s >= 0 && setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0 &&
              connect(s, (const struct sockaddr *)&a, sizeof a) == 0 && send(s, text, (size_t)n, MSG_NOSIGNAL) == n &&
              recv(s, text, 12, MSG_WAITALL) == 12 && memcmp(text + 8, " 200", 4) == 0;
    if (s >= 0) {
        close(s);
    }
    return ok;
}

/* port 0: the child says where it listens. */
static sluice_status wait_ready(struct child *c, uint16_t port, const atomic_bool *stop, char *url, size_t cap,
                                sluice_error *err) {
    uint64_t start = clock_ns();
    char text[OUTPUT_MAX];
    for (;;) {
        int how;
        bool ended = waitpid(c->pid, &how, WNOHANG) == c->pid;
        read_output(c, text, sizeof text);
        if (ended) {
            c->pid = -1;
            return fail(err, SLUICE_E_IO, "the server did not start: %.300s", last_line(text));
        }
        if (port == 0 ? find_url(text, url, cap) : answers_200(port, "/health") || answers_200(port, "/v1/models")) {
            return SLUICE_OK;
        }
        if (stop && atomic_load(stop)) {
            return fail(err, SLUICE_E_CANCELLED, "interrupted");
        }
        if (clock_ms_since(start) > START_TIMEOUT_S * 1e3) {
            return fail(err, SLUICE_E_IO, "the server was not ready after %d s: %.300s", START_TIMEOUT_S,
                        last_line(text));
        }
        sleep_ms(10);
    }
}

static void run_child(char *const argv[], int output, int errors, pid_t parent) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) {
        _exit(127); /* the parent died before the signal was set */
    }
    if (dup2(output, STDOUT_FILENO) < 0 || dup2(errors, STDERR_FILENO) < 0) {
        _exit(127);
    }
    execv(argv[0], argv);
    static const char message[] = "it could not be executed\n";
    (void)!write(STDERR_FILENO, message, sizeof message - 1);
    _exit(127);
}

static sluice_status start(char *const argv[], uint16_t port, const atomic_bool *stop, struct child **out, char *url,
                           size_t cap, sluice_error *err) {
    struct child *c = mem_calloc(1, sizeof *c);
    if (!c) {
        return fail(err, SLUICE_E_NOMEM, "no memory to start a server");
    }
    c->output = tmpfile();
    pid_t parent = getpid();
    c->pid = c->output ? fork() : -1;
    if (c->pid == 0) {
        run_child(argv, fileno(c->output), fileno(c->output), parent);
    }
    sluice_status status;
    if (c->pid < 0) {
        status = fail(err, SLUICE_E_IO, "no server could be started: %s", strerror(errno));
    } else {
        status = wait_ready(c, port, stop, url, cap, err);
    }
    if (status != SLUICE_OK) {
        child_stop(c);
        return status;
    }
    *out = c;
    return SLUICE_OK;
}

sluice_status child_start(char *const argv[], const atomic_bool *stop, struct child **out, char *url, size_t cap,
                          sluice_error *err) {
    return start(argv, 0, stop, out, url, cap, err);
}

/* A port that was free a moment ago; 0 when the system gives none. */
static uint16_t free_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok =
        s >= 0 && bind(s, (const struct sockaddr *)&a, sizeof a) == 0 && getsockname(s, (struct sockaddr *)&a, &n) == 0;
    if (s >= 0) {
        close(s);
    }
    return ok ? ntohs(a.sin_port) : 0;
}

sluice_status child_start_command(const char *command, const atomic_bool *stop, struct child **out, char *url,
                                  size_t cap, sluice_error *err) {
    static const char mark[] = "{port}";
    struct buf line = {0};
    uint16_t port = 0;
    if (strstr(command, mark)) {
        port = free_port();
        if (port == 0) {
            return fail(err, SLUICE_E_IO, "the system gives no free port for \"%.200s\"", command);
        }
        snprintf(url, cap, "http://127.0.0.1:%u", port);
    }
    buf_puts(&line, "exec "); /* so that the process we know is the server and not a shell */
    for (const char *at = command;;) {
        const char *next = strstr(at, mark);
        buf_append(&line, at, next ? (size_t)(next - at) : strlen(at));
        if (!next) {
            break;
        }
        buf_printf(&line, "%u", port);
        at = next + strlen(mark);
    }
    if (line.failed) {
        buf_free(&line);
        return fail(err, SLUICE_E_NOMEM, "no memory to start a server");
    }
    char *const argv[] = {(char *)"/bin/sh", (char *)"-c", line.data, NULL};
    sluice_status status = start(argv, port, stop, out, url, cap, err);
    buf_free(&line);
    return status;
}

int child_pid(const struct child *c) {
    return c->pid > 0 ? (int)c->pid : -1;
}

static void end_process(pid_t pid) {
    uint64_t start = clock_ns();
    int how;
    kill(pid, SIGTERM);
    while (waitpid(pid, &how, WNOHANG) == 0) {
        if (clock_ms_since(start) > STOP_TIMEOUT_MS) {
            kill(pid, SIGKILL);
            waitpid(pid, &how, 0);
            break;
        }
        sleep_ms(5);
    }
}

void child_stop(struct child *c) {
    if (!c) {
        return;
    }
    if (c->pid > 0) {
        end_process(c->pid);
    }
    if (c->output) {
        fclose(c->output);
    }
    mem_free(c);
}

sluice_status child_self(char *out, size_t cap, sluice_error *err) {
    ssize_t n = readlink("/proc/self/exe", out, cap - 1);
    if (n <= 0) {
        return fail(err, SLUICE_E_IO, "the path of this program is unknown: %s", strerror(errno));
    }
    out[n] = '\0';
    return SLUICE_OK;
}

struct follower { /* of a file that another process writes */
    FILE *file;
    off_t at;
    size_t lines;
    void (*on_lines)(void *ctx, size_t n);
    void *ctx;
};

static void look_for_lines(struct follower *f) {
    char block[4096];
    size_t before = f->lines;
    if (!f->on_lines) {
        return;
    }
    for (ssize_t n; (n = pread(fileno(f->file), block, sizeof block, f->at)) > 0; f->at += n) {
        for (ssize_t i = 0; i < n; i++) {
            f->lines += block[i] == '\n';
        }
    }
    if (f->lines > before) {
        f->on_lines(f->ctx, f->lines);
    }
}

static sluice_status wait_for_end(char *const argv[], pid_t pid, const atomic_bool *stop, double seconds, FILE *errors,
                                  struct follower *follower, bool *cut, sluice_error *err) {
    uint64_t start = clock_ns();
    char text[OUTPUT_MAX];
    int how;
    while (waitpid(pid, &how, WNOHANG) == 0) {
        bool stopped = stop && atomic_load(stop);
        *cut = seconds > 0 && clock_ms_since(start) > seconds * 1e3;
        if (stopped || *cut) {
            end_process(pid);
            return stopped ? fail(err, SLUICE_E_CANCELLED, "interrupted") : SLUICE_OK;
        }
        look_for_lines(follower);
        sleep_ms(5);
    }
    look_for_lines(follower);
    if (!WIFEXITED(how) || WEXITSTATUS(how) != 0) {
        ssize_t n = pread(fileno(errors), text, sizeof text - 1, 0);
        text[n > 0 ? n : 0] = '\0';
        return fail(err, SLUICE_E_IO, "`sluice %s` failed: %.300s", argv[1] ? argv[1] : "", last_line(text));
    }
    return SLUICE_OK;
}

static sluice_status read_all(FILE *f, struct buf *out, sluice_error *err) {
    char block[8192];
    off_t at = 0;
    for (ssize_t n; (n = pread(fileno(f), block, sizeof block, at)) > 0; at += n) {
        buf_append(out, block, (size_t)n);
    }
    return out->failed ? fail(err, SLUICE_E_NOMEM, "no memory for a tool's output") : SLUICE_OK;
}

sluice_status child_capture(char *const argv[], const atomic_bool *stop, double seconds, struct buf *out, bool *cut,
                            sluice_error *err) {
    return child_follow(argv, stop, seconds, out, cut, NULL, NULL, err);
}

sluice_status child_follow(char *const argv[], const atomic_bool *stop, double seconds, struct buf *out, bool *cut,
                           void (*on_lines)(void *ctx, size_t n), void *ctx, sluice_error *err) {
    FILE *output = tmpfile();
    FILE *errors = tmpfile();
    struct follower follower = {.file = output, .on_lines = on_lines, .ctx = ctx};
    bool was_cut = false;
    pid_t parent = getpid();
    pid_t pid = output && errors ? fork() : -1;
    if (pid == 0) {
        run_child(argv, fileno(output), fileno(errors), parent);
    }
    sluice_status status = pid < 0 ? fail(err, SLUICE_E_IO, "no program could be started: %s", strerror(errno))
                                   : wait_for_end(argv, pid, stop, seconds, errors, &follower, &was_cut, err);
    if (status == SLUICE_OK) {
        status = read_all(output, out, err);
    }
    if (output) {
        fclose(output);
    }
    if (errors) {
        fclose(errors);
    }
    if (cut) {
        *cut = was_cut;
    }
    return status;
}
