/* A server of our own: `<this program> serve --port 0 ...`, started, waited for and stopped. It dies with us. */
#ifndef BENCH_CHILD_H
#define BENCH_CHILD_H

#include "sluice.h"

#include <stdatomic.h>

struct child;

/* argv ends with NULL; argv[0] is the path to run. Waits for a line "listening on URL" on its output, whose URL
 * goes to url. On failure the sentence carries the last line that the child wrote. */
sluice_status child_start(char *const argv[], const atomic_bool *stop, struct child **out, char *url, size_t cap,
                          sluice_error *err);
/* SIGTERM, then SIGKILL after ten seconds. */
void child_stop(struct child *c);

#endif
