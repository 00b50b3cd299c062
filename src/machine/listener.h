/* Which process of this machine listens on a TCP port, from /proc (Linux): a server that was not started by us is then known
 * well enough to read its memory and its processor time. */
#ifndef MACHINE_LISTENER_H
#define MACHINE_LISTENER_H

#include <stdint.h>

/* -1: none, or one whose files this user may not see. */
int listener_pid(uint16_t port);
/* The port of an http URL that names this machine by a loopback address; 0 for any other. */
uint16_t listener_port(const char *url);

#endif
