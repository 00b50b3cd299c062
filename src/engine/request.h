/* Requests inside the engine. The life of one is told at the top of engine.c. */
#ifndef ENGINE_REQUEST_H
#define ENGINE_REQUEST_H

#include "engine/events.h"
#include "engine/futex.h"
#include "engine/sampler.h"
#include "engine/text_out.h"

#include <pthread.h>

/* What requests and engine share. It outlives both, so that a request may be cancelled or freed after its engine. */
struct mailbox {
    atomic_uint refs;
    struct bell bell;              /* rung for: a new request, a cancellation, closing */
    sluice_request *_Atomic inbox; /* submitted, newest first; the engine takes all at once */
    atomic_bool closing;
    atomic_uint in_flight; /* running and waiting */
    struct bell idle;      /* rung when in_flight falls to 0 */
    pthread_t thread;      /* the engine's; set before the first request */
    pthread_mutex_t calls_lock;
    struct engine_call *calls; /* under calls_lock: to be run by the engine thread */
    bool closed;               /* under calls_lock: none is run any more */
};

/* gate: on_ready must not run once sluice_request_free has returned. */
enum request_gate { GATE_CLOSED = 1, GATE_IN_CALL = 2 };

struct sluice_request {
    /* fixed at submit */
    struct mailbox *box;
    uint64_t id;
    uint32_t n_prompt;
    uint32_t max_new; /* tokens to generate at most, at least 1 */
    int32_t *forced;  /* [n_forced] what is generated first */
    uint32_t n_forced;
    bool no_cache, no_draft;
    uint64_t start_ns;    /* submit */
    uint64_t deadline_ns; /* 0 = none */
    void (*on_ready)(void *ctx);
    void *on_ready_ctx;

    /* the engine thread's */
    int32_t *tokens; /* [n_tokens] prompt and answer; room for tokens_max, in which drafts may stand behind the last */
    uint32_t n_tokens, tokens_max;
    uint32_t n_counted; /* positions computed or found at least once; less is a second time, after a preemption */
    uint32_t overtaken; /* by later requests, while waiting */
    struct sample_rules rules;
    struct text_out text;
    sluice_request *next;         /* in inbox and waiting list */
    sluice_request *next_to_ring; /* in the list of requests whose reader is to be woken */
    bool to_ring;
    uint64_t admitted_ns, first_ns; /* 0 = not yet */

    /* shared */
    atomic_uint refs; /* one of the owner, one of the engine */
    struct events events;
    struct bell bell; /* the reader sleeps here */
    atomic_uint gate;
    atomic_bool cancelled;
    atomic_uint cached;   /* timings.cache_n so far, for the reader */
    atomic_bool finished; /* set after the fields below; nothing follows */
    sluice_event_kind last_kind;
    sluice_finish finish;
    const char *stop_string; /* one of text.stop's patterns */
    sluice_timings timings;
    sluice_error error;

    /* the reader's */
    bool last_taken;
};

struct mailbox *mailbox_new(void); /* one reference; NULL when out of memory */
void mailbox_ref(struct mailbox *box);
void mailbox_unref(struct mailbox *box);

/* Copies and checks all that does not depend on the engine's state. ctx: its ctx_per_slot. */
sluice_status request_new(const sluice_model *model, uint32_t ctx, const sluice_request_options *options,
                          struct mailbox *box, sluice_request **out, sluice_error *err);
void request_unref(sluice_request *r);
/* Makes room for n more tokens. SLUICE_E_NOMEM: nothing changed. */
sluice_status request_reserve(sluice_request *r, uint32_t n, sluice_error *err);
static inline uint32_t request_generated(const sluice_request *r) {
    return r->n_tokens - r->n_prompt;
}
/* Wakes the reader and calls on_ready. */
void request_ring(sluice_request *r);

#endif
