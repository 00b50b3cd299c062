/* The engine's insides: engine.c owns the thread and the public calls, scheduler.c decides what a step computes. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "backend/backend.h"
#include "engine/plan.h"
#include "engine/request.h"

struct slot {
    uint32_t id;
    sluice_request *request; /* NULL = free */
    uint32_t *pages;         /* [plan.pages_per_slot] of which n_pages are held */
    uint32_t n_pages;
    uint32_t n_past;    /* positions computed */
    uint32_t share;     /* prompt tokens in the step being built */
    int32_t last_token; /* generated but not computed yet; valid once n_past >= the prompt's length */
    /* what other threads may look at */
    atomic_uint_fast64_t seen_id; /* the request's id; 0 = free */
    atomic_uint seen_prompt, seen_prompt_done, seen_generated;
};

/* Written by the engine thread (the first by submitters), read by anyone. Seconds are the time of whole steps: a step
 * that carries prompt tokens counts as prefill, any other as decode. */
struct engine_counters {
    atomic_uint_fast64_t requests, failed, cancelled, prompt_tokens, cached_tokens, generated_tokens, steps;
    atomic_uint_fast64_t prefill_ns, decode_ns;
    atomic_uint running, waiting;
};

struct sluice_engine {
    const sluice_model *model;
    const struct backend_ops *ops;
    struct backend *backend;
    const struct backend_caps *caps;
    struct engine_plan plan;
    sluice_engine_info info;
    struct mailbox *box;
    bool started; /* the thread runs */
    atomic_uint_fast64_t last_id;
    struct engine_counters count;

    /* the engine thread's */
    struct sampler *sampler;
    struct slot *slots;       /* [plan.n_slots] */
    uint32_t *slot_pages;     /* [n_slots * pages_per_slot] the slots' page tables */
    uint32_t *free_pages;     /* [plan.n_pages] a stack of n_free_pages numbers */
    struct slot **running;    /* [n_slots] in order of admission */
    struct backend_row *rows; /* [n_slots] the step being built */
    struct slot **row_slots;  /* [n_slots] whose row it is */
    uint32_t n_free_pages, n_running, n_rows;
    uint32_t chunk_beside_decode; /* prompt tokens of a step that also generates */
    uint64_t decode_step_ns;      /* the last step that only generated */
    sluice_request *waiting_first, *waiting_last;
    sluice_request *to_ring;
};

/* sluice_engine_create with a given backend. */
sluice_status engine_create_on(const sluice_model *model, const struct backend_ops *ops,
                               const sluice_engine_options *options, sluice_engine **out, sluice_error *err);

/* ---- scheduler.c: all on the engine thread ---- */

/* Appends to the waiting list. */
void sched_enqueue(sluice_engine *e, sluice_request *r);
/* Ends waiting requests that were cancelled; all of them when `all`. */
void sched_drop_waiting(sluice_engine *e, bool all);
/* The same for running ones. */
void sched_drop_running(sluice_engine *e, bool all);
/* First come, first served, as long as slots and pages suffice. */
void sched_admit(sluice_engine *e);
/* Builds one step from the running requests, computes it, and hands out its tokens. */
void sched_step(sluice_engine *e);
/* Wakes the readers of everything that happened since the last call. */
void sched_ring(sluice_engine *e);

#endif
