/*
 * The engine's insides. engine.c owns the thread and the public calls; admission.c decides which requests hold memory,
 * slot.c what one holds, batch.c what a step computes, results.c what came out of it.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "backend/backend.h"
#include "engine/draft.h"
#include "engine/pages.h"
#include "engine/plan.h"
#include "engine/request.h"
#include "engine/trace.h"

/* A running request's place: a conv state in the backend, and a page table. */
struct slot {
    uint32_t id;
    sluice_request *request; /* NULL = free */
    uint64_t epoch;          /* counts requests that were here, so that a late result finds out that its own has left */
    uint32_t *pages;         /* [plan.pages_per_slot] of which n_pages are held: nodes of the prefix tree, or private */
    uint32_t n_pages;
    uint32_t node;    /* the deepest node held: what the tree has of this request */
    uint32_t n_filed; /* full pages that are in the tree; node stands for the last of them */
    uint32_t n_twins; /* of these, the ones that the tree has from another request: held twice */
    uint32_t n_past;  /* positions in steps submitted so far, drafts that fell included until the step is over */
    uint32_t n_done;  /* positions in steps that are over */
    uint32_t n_due;   /* results of this slot in steps under way */
    bool resume;      /* the next row begins from a page's snapshot */
    bool drafts_due;  /* a step under way holds drafts of this slot: how far it got is not known */
    bool may_draft;   /* guesses are worth verifying, so the next row waits for the last one's token */
    uint32_t share;   /* tokens given to it in the step being built */
    bool rides;       /* in the step being built, another request computes its next page */
    struct draft_index *index; /* NULL = no drafts on this engine */
    struct draft_record drafts;
    uint32_t match; /* length of the match whose guesses stand behind the request's last token; 0 = none was found */
    /* what other threads may look at */
    atomic_uint_fast64_t seen_id; /* the request's id; 0 = free */
    atomic_uint seen_prompt, seen_prompt_done, seen_generated;
};

/* Whose a row is. */
struct owner {
    struct slot *slot;
    uint64_t epoch;
};

/* A step being built, or under way. */
struct step {
    struct backend_row *rows; /* [n_slots] */
    struct owner *owners;     /* [n_slots] */
    uint32_t n_rows, n_tokens;
    uint32_t n_prefill; /* tokens in rows that have more to compute than the last token: prompts, or after preemption */
    uint32_t n_drafts, n_outputs;
    uint64_t start_ns;
};

enum { STEPS_MAX = 2 }; /* under way at once: the one that computes, and one that is ready for the device */

/* Written by the engine thread (the first by submitters), read by anyone. Seconds are the time of whole steps: a step
 * that carries prompt tokens counts as prefill, any other as decode. */
struct engine_counters {
    atomic_uint_fast64_t requests, failed, cancelled, preempted;
    atomic_uint_fast64_t prompt_tokens, cached_tokens, recomputed_tokens, generated_tokens;
    atomic_uint_fast64_t draft_tokens, draft_accepted, steps;
    atomic_uint_fast64_t prefill_ns, decode_ns, failed_steps;
    atomic_uint running, waiting;
    atomic_bool failing; /* a step failed, and none begun since has gone well */
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
    atomic_bool draining;
    atomic_bool saving; /* a sluice_engine_save is under way */
    struct engine_counters count;

    /* the engine thread's */
    struct sampler *sampler;
    struct trace *trace; /* NULL = none */
    struct pages *pages;
    struct slot *slots;    /* [plan.n_slots] */
    uint32_t *slot_pages;  /* [n_slots * pages_per_slot] the slots' page tables */
    struct slot **running; /* [n_slots] by age: the order of submission */
    uint32_t n_running;
    struct step steps[STEPS_MAX];
    uint32_t oldest, n_under_way; /* steps[(oldest + i) % STEPS_MAX], i < n_under_way */
    uint64_t last_over_ns;        /* when the last step was over */
    uint64_t last_failed_ns;      /* when a step was last found to have failed */
    uint32_t chunk_beside_decode; /* prompt tokens of a step that also generates */
    uint64_t decode_step_ns;      /* the last step that only generated */
    uint64_t next_deadline_ns;    /* no deadline passes before; UINT64_MAX = none is set */
    double result_ns;             /* running mean: what one result costs this thread, while the device waits for it */
    struct draft_costs draft_costs;
    sluice_request *waiting_first, *waiting_last;
    sluice_request *to_ring;
};

/* sluice_engine_create with a given backend. */
sluice_status engine_create_on(const sluice_model *model, const struct backend_ops *ops,
                               const sluice_engine_options *options, sluice_engine **out, sluice_error *err);

/* Runs fn on the engine thread between two steps and returns once it has. From any other thread; false if the engine is
 * closing, and fn did not run. */
bool engine_call(sluice_engine *e, void (*fn)(sluice_engine *e, void *arg), void *arg);

/* ---- slot.c ---- */

/* A free slot takes the request, which begins at its first token or, after a preemption, at the first not in the tree. */
void slot_assign(sluice_engine *e, struct slot *s, sluice_request *r);
/* Gives back everything; the request lives on. What a step under way still computes for it is ignored. */
void slot_release(sluice_engine *e, struct slot *s);
/* Goes on over all following pages that the tree has; at least one known token is left to compute. Counts nothing. */
void slot_leap(sluice_engine *e, struct slot *s);
/* Holds pages for n positions; false if they are not to be had, and then for as many as were. */
bool slot_reserve(sluice_engine *e, struct slot *s, uint32_t n);
/* Files the pages that are full now. */
void slot_file(sluice_engine *e, struct slot *s);
/* Positions [first, end) of the request are there: computed, or found in the tree. Counts what is new. */
void slot_count(sluice_engine *e, struct slot *s, uint32_t first, uint32_t end, bool found);

/* ---- admission.c ---- */

/* Appends to the waiting list. */
void admit_enqueue(sluice_engine *e, sluice_request *r);
/* Lets waiting requests run as long as slots and pages suffice. */
void admit_waiting(sluice_engine *e);
/* Ends requests that were cancelled; all of them when `all`. */
void admit_drop(sluice_engine *e, bool all);
/* Ends requests whose deadline has passed. */
void admit_expire(sluice_engine *e);
/* The running request that gives way to older ones goes back to the front of the waiting list. */
void admit_preempt(sluice_engine *e, struct slot *s);
/* Ends a running request; its error or finish is set. */
void admit_end(sluice_engine *e, struct slot *s, sluice_event_kind kind);
/* Wakes the readers of everything that happened since the last call. */
void admit_ring(sluice_engine *e);
/* Has r's reader woken by the next admit_ring. */
void admit_mark(sluice_engine *e, sluice_request *r);

/* ---- batch.c ---- */

/* Builds the next step from the running requests; false if there is nothing to compute before a step under way is over. */
bool batch_build(sluice_engine *e, struct step *step);
/* Whether the next row of s would have drafts, were its last token known when it is built. */
bool batch_would_guess(sluice_engine *e, struct slot *s);

/* ---- results.c ---- */

/* Submits a step that was built. */
void results_submit(sluice_engine *e, struct step *step);
/* Waits for the oldest step under way and hands out what it gave. */
void results_take(sluice_engine *e);

#endif
