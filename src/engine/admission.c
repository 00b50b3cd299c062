/*
 * Which requests run, and for how long.
 *
 * A request is admitted when a slot is free and there are pages for all its known tokens and one more; further pages
 * are taken as it grows. So memory is given to what is there, not to the longest answer there might be. When it runs
 * out, the youngest running request gives way: its full pages stay in the prefix tree as long as nobody needs them, it
 * goes back to the front of the queue and later goes on where it stopped, token for token. The oldest never gives way,
 * and alone it always fits (plan.h), so every request ends.
 *
 * The queue is first come, first served, except that a request whose prompt does not fit yet may be overtaken, a bounded
 * number of times, by ones that do.
 */
#include "engine/engine.h"

#include "base/clock.h"
#include "base/status.h"

#define OVERTAKEN_MAX 32u /* times; then everyone behind waits */
#define TRIES_MAX     4u  /* waiting requests looked at per step once one did not fit */

/* ---- The readers ------------------------------------------------------------------------------------------- */

void admit_mark(sluice_engine *e, sluice_request *r) {
    if (!r->to_ring) {
        r->to_ring = true;
        r->next_to_ring = e->to_ring;
        e->to_ring = r;
    }
}

void admit_ring(sluice_engine *e) {
    while (e->to_ring) {
        sluice_request *r = e->to_ring;
        e->to_ring = r->next_to_ring;
        r->to_ring = false;
        bool last = atomic_load_explicit(&r->finished, memory_order_relaxed); /* only this thread sets it */
        request_ring(r);
        if (last) {
            request_unref(r);
        }
    }
}

/* ---- The end of a request ---------------------------------------------------------------------------------- */

/* Publishes the final event; r->error, finish and stop_string are set by the caller. The reader is woken by admit_ring,
 * which also drops the engine's reference. */
static void end_request(sluice_engine *e, sluice_request *r, sluice_event_kind kind) {
    uint64_t now = clock_ns();
    uint64_t admitted = r->admitted_ns ? r->admitted_ns : now;
    uint64_t first = r->first_ns ? r->first_ns : now;
    r->timings.predicted_n = request_generated(r);
    r->timings.queue_ms = (double)(admitted - r->start_ns) * 1e-6;
    r->timings.prompt_ms = (double)(first - admitted) * 1e-6;
    r->timings.predicted_ms = (double)(now - first) * 1e-6;
    r->last_kind = kind;
    if (kind == SLUICE_EVENT_ERROR) {
        bool cancelled = r->error.status == SLUICE_E_CANCELLED;
        atomic_fetch_add(cancelled ? &e->count.cancelled : &e->count.failed, 1);
    }
    trace_request(e->trace, 'e', r->id, "request", now,
                  "\"cached\":%u,\"computed\":%u,\"generated\":%u,\"status\":\"%s\"", r->timings.cache_n,
                  r->timings.prompt_n, r->timings.predicted_n,
                  kind == SLUICE_EVENT_DONE ? "done" : sluice_status_name(r->error.status));
    if (atomic_fetch_sub(&e->box->in_flight, 1) == 1) {
        bell_ring(&e->box->idle);
    }
    atomic_store(&r->finished, true);
    admit_mark(e, r);
}

/* Takes the slot out of the running order and frees it. */
static sluice_request *stop_running(sluice_engine *e, struct slot *s) {
    sluice_request *r = s->request;
    slot_release(e, s);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < e->n_running; i++) {
        if (e->running[i] != s) {
            e->running[kept++] = e->running[i];
        }
    }
    e->n_running = kept;
    atomic_store(&e->count.running, kept);
    return r;
}

void admit_end(sluice_engine *e, struct slot *s, sluice_event_kind kind) {
    end_request(e, stop_running(e, s), kind);
}

static void set_cancelled(sluice_request *r) {
    if (atomic_load(&r->cancelled)) {
        fail(&r->error, SLUICE_E_CANCELLED, "the request was cancelled");
    } else {
        fail(&r->error, SLUICE_E_CANCELLED, "the engine was shut down before the answer was complete");
    }
}

/* ---- Waiting ----------------------------------------------------------------------------------------------- */

void admit_enqueue(sluice_engine *e, sluice_request *r) {
    r->next = NULL;
    if (e->waiting_last) {
        e->waiting_last->next = r;
    } else {
        e->waiting_first = r;
    }
    e->waiting_last = r;
    if (r->deadline_ns && r->deadline_ns < e->next_deadline_ns) {
        e->next_deadline_ns = r->deadline_ns;
    }
}

/* Takes r, which follows `before` (NULL: the first), out of the list. */
static void unlink_waiting(sluice_engine *e, sluice_request *before, sluice_request *r) {
    *(before ? &before->next : &e->waiting_first) = r->next;
    if (e->waiting_last == r) {
        e->waiting_last = before;
    }
    atomic_fetch_sub(&e->count.waiting, 1);
}

/* Ends every waiting request for which `over` says so and has set the error. */
static void drop_waiting(sluice_engine *e, bool (*over)(sluice_request *r, uint64_t now), uint64_t now) {
    sluice_request *before = NULL;
    for (sluice_request *r = e->waiting_first, *next; r; r = next) {
        next = r->next;
        if (over(r, now)) {
            unlink_waiting(e, before, r);
            end_request(e, r, SLUICE_EVENT_ERROR);
        } else {
            before = r;
        }
    }
}

static void drop_running(sluice_engine *e, bool (*over)(sluice_request *r, uint64_t now), uint64_t now) {
    for (uint32_t i = e->n_running; i-- > 0;) {
        if (over(e->running[i]->request, now)) {
            admit_end(e, e->running[i], SLUICE_EVENT_ERROR);
        }
    }
}

static bool is_cancelled(sluice_request *r, uint64_t now) {
    (void)now;
    if (atomic_load(&r->cancelled)) {
        set_cancelled(r);
        return true;
    }
    return false;
}

static bool any(sluice_request *r, uint64_t now) {
    (void)now;
    set_cancelled(r);
    return true;
}

void admit_drop(sluice_engine *e, bool all) {
    drop_waiting(e, all ? any : is_cancelled, 0);
    drop_running(e, all ? any : is_cancelled, 0);
}

static bool is_late(sluice_request *r, uint64_t now) {
    if (r->deadline_ns && r->deadline_ns <= now) {
        fail(&r->error, SLUICE_E_TIMEOUT, "the answer was not complete after %llu ms, the request's time limit",
             (unsigned long long)(r->deadline_ns - r->start_ns) / 1000000);
        return true;
    }
    return false;
}

static uint64_t sooner(uint64_t deadline, const sluice_request *r) {
    return r->deadline_ns && r->deadline_ns < deadline ? r->deadline_ns : deadline;
}

void admit_expire(sluice_engine *e) {
    if (e->next_deadline_ns == UINT64_MAX) {
        return;
    }
    uint64_t now = clock_ns();
    if (now < e->next_deadline_ns) {
        return;
    }
    drop_waiting(e, is_late, now);
    drop_running(e, is_late, now);
    e->next_deadline_ns = UINT64_MAX;
    for (sluice_request *r = e->waiting_first; r; r = r->next) {
        e->next_deadline_ns = sooner(e->next_deadline_ns, r);
    }
    for (uint32_t i = 0; i < e->n_running; i++) {
        e->next_deadline_ns = sooner(e->next_deadline_ns, e->running[i]->request);
    }
}

/* ---- Admission --------------------------------------------------------------------------------------------- */

/* Pages for the known tokens and one more that the slot does not hold yet. */
static uint32_t pages_lacking(const struct slot *s) {
    uint32_t need = plan_pages((uint64_t)s->request->n_tokens + 1);
    return need > s->n_pages ? need - s->n_pages : 0;
}

/* Gives r the slot if its prompt fits beside what the running ones still lack. */
static bool try_admit(sluice_engine *e, struct slot *s, sluice_request *r) {
    slot_assign(e, s, r);
    uint64_t need = pages_lacking(s);
    for (uint32_t i = 0; i < e->n_running; i++) {
        need += pages_lacking(e->running[i]);
    }
    struct pages_count have = pages_count(e->pages);
    if (e->n_running > 0 && need > have.free + have.cached) {
        slot_release(e, s);
        return false;
    }
    return true;
}

static void start_running(sluice_engine *e, struct slot *s) {
    sluice_request *r = s->request;
    uint32_t at = e->n_running++;
    for (; at > 0 && e->running[at - 1]->request->id > r->id; at--) {
        e->running[at] = e->running[at - 1];
    }
    e->running[at] = s;
    atomic_store(&e->count.running, e->n_running);
    slot_count(e, s, 0, s->n_past, true);
    if (r->admitted_ns == 0) {
        r->admitted_ns = clock_ns();
        trace_request(e->trace, 'n', r->id, "admitted", r->admitted_ns, "\"slot\":%u,\"cached\":%u", s->id, s->n_past);
    } else {
        trace_request(e->trace, 'n', r->id, "resumed", clock_ns(), "\"slot\":%u,\"kept\":%u", s->id, s->n_past);
    }
}

static struct slot *free_slot(sluice_engine *e) {
    struct slot *s = e->slots;
    while (s->request) {
        s++;
    }
    return s;
}

void admit_waiting(sluice_engine *e) {
    sluice_request *before = NULL, *blocked = NULL; /* the first that did not fit */
    uint32_t tries = 0;
    for (sluice_request *r = e->waiting_first, *next; r && e->n_running < e->plan.n_slots; r = next) {
        next = r->next;
        struct slot *s = free_slot(e);
        if (try_admit(e, s, r)) {
            unlink_waiting(e, before, r);
            start_running(e, s);
            if (blocked) {
                blocked->overtaken++;
            }
        } else {
            before = r;
            blocked = blocked ? blocked : r;
        }
        if (blocked && (blocked->overtaken >= OVERTAKEN_MAX || ++tries >= TRIES_MAX)) {
            return;
        }
    }
}

void admit_preempt(sluice_engine *e, struct slot *s) {
    sluice_request *r = stop_running(e, s);
    r->next = e->waiting_first;
    e->waiting_first = r;
    if (!e->waiting_last) {
        e->waiting_last = r;
    }
    atomic_fetch_add(&e->count.waiting, 1);
    atomic_fetch_add(&e->count.preempted, 1);
    trace_request(e->trace, 'n', r->id, "preempted", clock_ns(), "\"tokens\":%u", r->n_tokens);
}
