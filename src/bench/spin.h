/*
 * Whether and when the client may poll instead of sleeping. A sleeping processor takes 0.1 ms and more to wake up, which is a
 * percent of a time to the first token below 10 ms. So shortly before a piece of a stream is expected the client polls, for a
 * bounded time, and only while streams run and processors are free: those that others left idle for the last runs, and one
 * more than polling needs, so that a server on the same machine never shares a core with it.
 */
#ifndef BENCH_SPIN_H
#define BENCH_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define SPIN_STREAMS 4u /* with more streams pieces come so often that the processor hardly sleeps */

struct spin {
    bool wanted;  /* false: never */
    bool allowed; /* processors were free when last looked */
    uint64_t idle_from, ns_from, own_from;
    double idle_s, own_s, live_s; /* since the last decision, while streams ran */
    uint64_t first_ns, gap_ns;    /* from sending to the first piece, between pieces; as seen lately; 0 unknown */
};

void spin_begin(struct spin *s); /* streams start */
/* Streams run, or have just ended: adds the time since the last look, and decides anew where that is enough. */
void spin_look(struct spin *s);
/* A piece came `after` ns behind the piece before it, or behind the sending where it is the first. */
void spin_learn(struct spin *s, bool first, uint64_t after_ns);
/* When to stop sleeping for a piece that follows `from` ns: now or before: poll. UINT64_MAX: sleep on. */
uint64_t spin_wake(const struct spin *s, bool first, uint64_t from_ns, uint64_t now_ns);

#endif
