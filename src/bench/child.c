#include "bench/child.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
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

static sluice_status wait_ready(struct child *c, const atomic_bool *stop, char *url, size_t cap, sluice_error *err) {
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
        if (find_url(text, url, cap)) {
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

static void run_child(char *const argv[], int output, pid_t parent) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) {
        _exit(127); /* the parent died before the signal was set */
    }
    if (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0) {
        _exit(127);
    }
    execv(argv[0], argv);
    static const char message[] = "it could not be executed\n";
    (void)!write(STDERR_FILENO, message, sizeof message - 1);
    _exit(127);
}

sluice_status child_start(char *const argv[], const atomic_bool *stop, struct child **out, char *url, size_t cap,
                          sluice_error *err) {
    struct child *c = mem_calloc(1, sizeof *c);
    if (!c) {
        return fail(err, SLUICE_E_NOMEM, "no memory to start a server");
    }
    c->output = tmpfile();
    pid_t parent = getpid();
    c->pid = c->output ? fork() : -1;
    if (c->pid == 0) {
        run_child(argv, fileno(c->output), parent);
    }
    sluice_status status;
    if (c->pid < 0) {
        status = fail(err, SLUICE_E_IO, "no server could be started: %s", strerror(errno));
    } else {
        status = wait_ready(c, stop, url, cap, err);
    }
    if (status != SLUICE_OK) {
        child_stop(c);
        return status;
    }
    *out = c;
    return SLUICE_OK;
}

void child_stop(struct child *c) {
    if (!c) {
        return;
    }
    if (c->pid > 0) {
        uint64_t start = clock_ns();
        int how;
        kill(c->pid, SIGTERM);
        while (waitpid(c->pid, &how, WNOHANG) == 0) {
            if (clock_ms_since(start) > STOP_TIMEOUT_MS) {
                kill(c->pid, SIGKILL);
                waitpid(c->pid, &how, 0);
                break;
            }
            sleep_ms(5);
        }
    }
    if (c->output) {
        fclose(c->output);
    }
    mem_free(c);
}
