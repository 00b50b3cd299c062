/* Two threads for what would hold up the HTTP thread: reading a body, rendering, tokenizing, queueing. */
#ifndef SERVER_WORKERS_H
#define SERVER_WORKERS_H

#include "sluice.h"

struct workers;

/* Part of what is worked on, so that handing it over needs no memory. */
struct worker_item {
    struct worker_item *next;
};

sluice_status workers_start(void (*run)(struct worker_item *item), struct workers **out, sluice_error *err);
/* False once workers_finish was called. */
bool workers_submit(struct workers *w, struct worker_item *item);
/* Runs what is queued to its end and joins the threads. */
void workers_finish(struct workers *w);
void workers_free(struct workers *w);

#endif
