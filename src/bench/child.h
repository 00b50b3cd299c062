/* A server process that is started for a measurement, waited for and stopped. It dies with us. */
#ifndef BENCH_CHILD_H
#define BENCH_CHILD_H

#include "sluice.h"

#include <stdatomic.h>

struct child;

/* argv ends with NULL; argv[0] is the path to run. Waits for a line "listening on URL" on its output, whose URL
 * goes to url. On failure the sentence carries the last line that the child wrote. */
sluice_status child_start(char *const argv[], const atomic_bool *stop, struct child **out, char *url, size_t cap,
                          sluice_error *err);
/* A server given as a command line for the shell. "{port}" in it stands for a free port of the loopback address, and the server is
 * ready once http://127.0.0.1:PORT answers an HTTP request with 200 at /health or /v1/models; without "{port}" it must print "listening
 * on URL". */
sluice_status child_start_command(const char *command, const atomic_bool *stop, struct child **out, char *url,
                                  size_t cap, sluice_error *err);
int child_pid(const struct child *c); /* -1 once it is known to have ended */
/* SIGTERM, then SIGKILL after ten seconds. */
void child_stop(struct child *c);

#endif
