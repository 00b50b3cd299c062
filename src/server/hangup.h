/*
 * Sees clients leave. libmicrohttpd takes a suspended connection out of its epoll set, so nobody would notice that the
 * client of a waiting request hung up: a thread of its own watches these sockets for EPOLLRDHUP.
 */
#ifndef SERVER_HANGUP_H
#define SERVER_HANGUP_H

#include "sluice.h"

struct hangup;
struct hangup_entry;

/* gone runs on the watcher's thread, at most once per entry, and never after hangup_forget has returned. */
sluice_status hangup_start(void (*gone)(void *ctx), struct hangup **out, sluice_error *err);
/* NULL when out of memory or descriptors. The socket must stay open until hangup_forget. */
struct hangup_entry *hangup_watch(struct hangup *h, int fd, void *ctx);
void hangup_forget(struct hangup *h, struct hangup_entry *entry);
/* All entries must be forgotten. */
void hangup_stop(struct hangup *h);

#endif
