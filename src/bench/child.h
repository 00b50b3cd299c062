/* Programs run beside the measurement: a server of our own (`<this program> serve --port 0 ...`), started, waited
 * for and stopped; and tools whose output is taken. They die with us. */
#ifndef BENCH_CHILD_H
#define BENCH_CHILD_H

#include "base/buf.h"
#include "sluice.h"

#include <stdatomic.h>

struct child;

/* argv ends with NULL; argv[0] is the path to run. Waits for a line "listening on URL" on its output, whose URL
 * goes to url. On failure the sentence carries the last line that the child wrote. */
sluice_status child_start(char *const argv[], const atomic_bool *stop, struct child **out, char *url, size_t cap,
                          sluice_error *err);
/* A server given as a command line for the shell. "{port}" in it stands for a free port of the loopback address, and
 * the server is ready once http://127.0.0.1:PORT answers an HTTP request with 200 at /health or /v1/models; without
 * "{port}" it must print "listening on URL". */
sluice_status child_start_command(const char *command, const atomic_bool *stop, struct child **out, char *url,
                                  size_t cap, sluice_error *err);
int child_pid(const struct child *c); /* -1 once it is known to have ended */
/* SIGTERM, then SIGKILL after ten seconds. */
void child_stop(struct child *c);

/* Runs a program to its end and appends what it writes to standard output. After `seconds` (0: no limit) it is stopped;
 * what it had written counts and *cut says so (cut may be NULL). A failure carries its last line on standard error. */
sluice_status child_capture(char *const argv[], const atomic_bool *stop, double seconds, struct buf *out, bool *cut,
                            sluice_error *err);
/* The same, and says when lines of the output have come: on_lines(ctx, how many there are). */
sluice_status child_follow(char *const argv[], const atomic_bool *stop, double seconds, struct buf *out, bool *cut,
                           void (*on_lines)(void *ctx, size_t n), void *ctx, sluice_error *err);
/* The path of this program. */
sluice_status child_self(char *out, size_t cap, sluice_error *err);

#endif
