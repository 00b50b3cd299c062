/*
 * The life of a request.
 *
 * 1. sluice_request_submit, on the caller's thread: the options are checked and copied, and everything the request will
 *    need is allocated (prompt, stop-string tables, penalty tables, the first chunk of its event queue). It is counted
 *    against n_slots + queue_max, pushed on the mailbox's inbox and the engine's bell is rung.
 * 2. The engine thread takes the whole inbox at once and appends it to its waiting list in order of submission.
 * 3. Admission (admission.c): a slot, and the pages of the prefix tree that hold the beginning of its prompt already.
 * 4. Prefill (batch.c): chunks of the prompt ride in steps beside one row per generating request. The last chunk gives the
 *    first token. Every full page goes into the prefix tree at once, so that requests beside it can use it.
 * 5. Decode: one row per step, with guessed tokens behind the last one where that pays (draft.h). A token is drawn
 *    (results.c), turned into text, looked through for stop strings and put into the request's event queue.
 * 6. If memory runs out, the youngest request waits again with all its tokens, and goes on from what is left in the tree.
 * 7. End: an end token, a stop string, max_tokens, a cancellation, a deadline or a failure. The final event is written
 *    into the request itself (it needs no memory), slot and pages go back, the engine drops its reference.
 *
 * A backend that draws tokens itself is kept busy: the next step is built and submitted before the last one's tokens are
 * looked at. What such a step computes for a request that turns out to have ended is thrown away.
 *
 * Who may touch what: slots, pages, waiting list and step belong to the engine thread alone. A request's event queue
 * has one writer (the engine) and one reader. Flags that cross threads are atomics. A request has two references, the
 * owner's and the engine's; the mailbox is referenced by the engine and every request, so cancelling or freeing a
 * request is safe while its engine is being freed and after.
 *
 * Failures stay small: a failed step ends the requests in it, a failed allocation ends one request, a bad row of logits
 * ends its request; the engine goes on.
 *
 * Same request, same tokens: a token depends on the row of logits and on a hash of (seed, position) only, never on
 * slot, neighbours or time. What a step is made of may vary with load; backends promise that it does not show
 * (docs/numerics.md).
 */
#include "engine/engine.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"

#include <stdlib.h>
#include <string.h>

#define DRAFT_DEFAULT 32u     /* tokens: enough for a copied line; longer runs take several steps */
#define PINNED_NS     1000000 /* a look at memory that a save holds for a moment */

sluice_engine_options sluice_engine_options_default(void) {
    return (sluice_engine_options){
        .backend = "auto", .n_slots = 4, .queue_max = 256, .cache_bytes_max = UINT64_MAX, .draft_max = DRAFT_DEFAULT};
}

/* ---- The thread -------------------------------------------------------------------------------------------- */

static void take_inbox(sluice_engine *e) {
    sluice_request *newest = atomic_exchange(&e->box->inbox, NULL);
    sluice_request *oldest = NULL;
    while (newest) {
        sluice_request *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        sluice_request *next = oldest->next;
        trace_request(e->trace, 'b', oldest->id, "request", oldest->start_ns, "\"prompt\":%u,\"most\":%u",
                      oldest->n_prompt, oldest->max_new);
        admit_enqueue(e, oldest);
        oldest = next;
    }
}

/* ---- Calls onto it ---- */

struct engine_call {
    struct engine_call *next;
    void (*fn)(sluice_engine *e, void *arg);
    void *arg;
    struct bell over;
    enum { CALL_WAITS, CALL_RAN, CALL_REFUSED } state;
};

bool engine_call(sluice_engine *e, void (*fn)(sluice_engine *e, void *arg), void *arg) {
    struct engine_call call = {.fn = fn, .arg = arg};
    struct mailbox *box = e->box;
    pthread_mutex_lock(&box->calls_lock);
    bool closed = box->closed;
    if (!closed) {
        call.next = box->calls;
        box->calls = &call;
    }
    pthread_mutex_unlock(&box->calls_lock);
    if (closed) {
        return false;
    }
    bell_ring(&box->bell);
    while (true) {
        unsigned seen = bell_now(&call.over);
        pthread_mutex_lock(
            &box->calls_lock); /* the engine sets the state and rings under it: then it is done with call */
        int state = call.state;
        pthread_mutex_unlock(&box->calls_lock);
        if (state != CALL_WAITS) {
            return state == CALL_RAN;
        }
        bell_wait(&call.over, seen, -1);
    }
}

/* Runs or, when closing, refuses the calls; none is accepted after that. */
static void answer_calls(sluice_engine *e, bool closing) {
    struct mailbox *box = e->box;
    pthread_mutex_lock(&box->calls_lock);
    struct engine_call *call = box->calls;
    box->calls = NULL;
    box->closed = closing;
    pthread_mutex_unlock(&box->calls_lock);
    while (call) {
        struct engine_call *next = call->next;
        if (!closing) {
            call->fn(e, call->arg);
        }
        pthread_mutex_lock(&box->calls_lock);
        call->state = closing ? CALL_REFUSED : CALL_RAN;
        bell_ring(&call->over);
        pthread_mutex_unlock(&box->calls_lock);
        call = next;
    }
}

/* ---- Its loop ---- */

static void hear(sluice_engine *e) {
    take_inbox(e);
    admit_drop(e, false);
    answer_calls(e, false);
}

/* Builds and submits the next step, unless as many as may be are under way. */
static bool start_step(sluice_engine *e, uint32_t ahead) {
    if (e->n_running == 0 || e->n_under_way > ahead) {
        return false;
    }
    struct step *next = &e->steps[(e->oldest + e->n_under_way) % STEPS_MAX];
    uint64_t start = e->trace ? clock_ns() : 0;
    bool built = batch_build(e, next);
    if (e->trace) {
        trace_span(e->trace, "build", start, clock_ns(), "\"rows\":%u", next->n_rows);
    }
    if (built) {
        results_submit(e, next);
    }
    return built;
}

static void *engine_main(void *arg) {
    sluice_engine *e = arg;
    unsigned heard = bell_now(&e->box->bell) - 1; /* look at everything once */
    uint32_t ahead = e->caps->samples && e->caps->steps_ahead > 0 ? STEPS_MAX - 1 : 0;
    while (!atomic_load(&e->box->closing)) {
        unsigned now = bell_now(&e->box->bell);
        if (now != heard) {
            heard = now;
            hear(e);
        }
        admit_expire(e);
        admit_waiting(e);
        admit_ring(e);
        bool started = start_step(e, ahead);
        if (e->n_under_way > (started ? ahead : 0)) {
            results_take(e);
            admit_ring(e);
        } else if (!started && (e->n_running > 0 || !e->waiting_first) && !atomic_load(&e->box->closing)) {
            bell_wait(&e->box->bell, heard, e->n_running > 0 ? PINNED_NS : -1);
        }
    }
    while (e->n_under_way > 0) {
        results_take(e);
    }
    take_inbox(e);
    admit_drop(e, true);
    admit_ring(e);
    answer_calls(e, true);
    return NULL;
}

/* ---- Creation ---------------------------------------------------------------------------------------------- */

static sluice_status open_backend(sluice_engine *e, const sluice_engine_options *o, sluice_error *err) {
    const struct engine_plan *p = &e->plan;
    struct backend_options options = {
        .n_threads = o->n_threads,
        .n_slots = p->n_slots,
        .n_pages = p->n_pages,
        .step_tokens_max = p->prefill_chunk ? p->prefill_chunk + p->n_slots + o->draft_max : 0,
        .step_outputs_max = p->n_slots + o->draft_max,
        .step_drafts_max = o->draft_max,
    };
    TRY(e->ops->open(e->model->model, &options, &e->backend, err));
    e->caps = e->ops->caps(e->backend);
    uint32_t drafts = e->caps->step_drafts_max;
    if (e->caps->step_tokens_max <= p->n_slots + drafts || e->caps->step_outputs_max < p->n_slots + drafts) {
        return fail(
            err, SLUICE_E_LIMIT,
            "backend %s takes %u tokens and %u results a step, too few for %u slots and %u drafts; lower --slots",
            e->caps->name, e->caps->step_tokens_max, e->caps->step_outputs_max, p->n_slots, drafts);
    }
    return plan_check(p, e->caps->weight_bytes, e->caps->kv_bytes, e->caps->work_bytes, err);
}

static sluice_status alloc_slots(sluice_engine *e, bool drafts, sluice_error *err) {
    const struct engine_plan *p = &e->plan;
    for (uint32_t i = 0; i < p->n_slots; i++) {
        e->slots[i].id = i;
        e->slots[i].node = PAGE_NONE;
        e->slots[i].pages = e->slot_pages + (size_t)i * p->pages_per_slot;
        if (drafts) {
            TRY(draft_index_create(p->ctx_per_slot, &e->slots[i].index, err));
        }
    }
    return SLUICE_OK;
}

static sluice_status alloc_tables(sluice_engine *e, sluice_error *err) {
    const struct engine_plan *p = &e->plan;
    bool ok = true;
    e->slots = mem_calloc(p->n_slots, sizeof *e->slots);
    e->slot_pages = mem_calloc((size_t)p->n_slots * p->pages_per_slot, sizeof *e->slot_pages);
    e->running = mem_calloc(p->n_slots, sizeof *e->running);
    for (uint32_t i = 0; i < STEPS_MAX; i++) {
        e->steps[i].rows = mem_calloc(p->n_slots, sizeof *e->steps[i].rows);
        e->steps[i].owners = mem_calloc(p->n_slots, sizeof *e->steps[i].owners);
        ok = ok && e->steps[i].rows && e->steps[i].owners;
    }
    if (!ok || !e->slots || !e->slot_pages || !e->running) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for the tables of %u slots", p->n_slots);
    }
    TRY(pages_create(p->n_pages, p->cached_pages_max, &e->pages, err));
    return alloc_slots(e, e->caps->step_drafts_max > 0, err);
}

static void fill_info(sluice_engine *e) {
    const struct backend_caps *c = e->caps;
    uint32_t chunk = e->plan.prefill_chunk ? e->plan.prefill_chunk : c->prefill_chunk;
    uint32_t room = c->step_tokens_max - e->plan.n_slots - c->step_drafts_max;
    chunk = chunk < 1 ? 1 : chunk > room ? room : chunk;
    e->info = (sluice_engine_info){.backend = c->name,
                                   .device = c->device,
                                   .n_threads = c->n_threads,
                                   .n_slots = e->plan.n_slots,
                                   .ctx_per_slot = e->plan.ctx_per_slot,
                                   .prefill_chunk = chunk,
                                   .weight_bytes = c->weight_bytes,
                                   .kv_bytes = c->kv_bytes,
                                   .work_bytes = c->work_bytes + sampler_bytes(e->sampler),
                                   .memory_available = e->plan.memory_available,
                                   .pinned_bytes = c->pinned_bytes,
                                   .other_bytes = c->other_bytes,
                                   .n_pages = e->plan.n_pages,
                                   .page_tokens = KV_PAGE_TOKENS,
                                   .page_bytes = model_page_bytes(e->model->model),
                                   .draft_max = c->step_drafts_max};
    e->chunk_beside_decode = chunk;
    e->next_deadline_ns = UINT64_MAX;
}

static sluice_status start(sluice_engine *e, const sluice_engine_options *o, sluice_error *err) {
    TRY(plan_make(e->model, o, e->ops->memory(), &e->plan, err));
    e->box = mailbox_new();
    if (!e->box) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for an engine");
    }
    TRY(open_backend(e, o, err));
    TRY(sampler_create(e->model->info.n_vocab, &e->sampler, err));
    TRY(alloc_tables(e, err));
    fill_info(e);
    if (o->trace_path) {
        TRY(trace_open(o->trace_path, &e->trace, err));
    }
    int error = pthread_create(&e->box->thread, NULL, engine_main, e);
    if (error != 0) {
        return fail(err, SLUICE_E_NOMEM, "the engine's thread cannot be started: %s", strerror(error));
    }
    e->started = true;
    pthread_setname_np(e->box->thread, "sluice-engine");
    return SLUICE_OK;
}

sluice_status engine_create_on(const sluice_model *model, const struct backend_ops *ops,
                               const sluice_engine_options *options, sluice_engine **out, sluice_error *err) {
    sluice_engine *e = mem_calloc(1, sizeof *e);
    if (!e) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for an engine");
    }
    e->model = model;
    e->ops = ops;
    sluice_status status = start(e, options, err);
    if (status != SLUICE_OK) {
        sluice_engine_free(e);
        return status;
    }
    *out = e;
    return SLUICE_OK;
}

sluice_status sluice_engine_create(sluice_model *model, const sluice_engine_options *options, sluice_engine **out,
                                   sluice_error *err) {
    const sluice_engine_options defaults = sluice_engine_options_default();
    const struct backend_ops *ops;
    options = options ? options : &defaults;
    TRY(backend_find(options->backend, &ops, err));
    return engine_create_on(model, ops, options, out, err);
}

struct trace_end {
    sluice_status status;
    sluice_error *err;
};

static void end_trace(sluice_engine *e, void *arg) {
    struct trace_end *end = arg;
    end->status = trace_close(e->trace, end->err);
    e->trace = NULL;
}

sluice_status sluice_engine_end_trace(sluice_engine *e, sluice_error *err) {
    struct trace_end end = {.status = SLUICE_OK, .err = err};
    (void)engine_call(e, end_trace, &end);
    return end.status;
}

void sluice_engine_free(sluice_engine *e) {
    if (!e) {
        return;
    }
    if (e->started) {
        atomic_store(&e->box->closing, true);
        bell_ring(&e->box->bell);
        pthread_join(e->box->thread, NULL);
    }
    (void)trace_close(e->trace, NULL);
    if (e->backend) {
        e->ops->close(e->backend);
    }
    mailbox_unref(e->box);
    sampler_free(e->sampler);
    pages_free(e->pages);
    for (uint32_t i = 0; e->slots && i < e->plan.n_slots; i++) {
        draft_index_free(e->slots[i].index);
    }
    for (uint32_t i = 0; i < STEPS_MAX; i++) {
        mem_free(e->steps[i].rows);
        mem_free(e->steps[i].owners);
    }
    mem_free(e->slots);
    mem_free(e->slot_pages);
    mem_free(e->running);
    mem_free(e);
}

const sluice_engine_info *sluice_engine_get_info(const sluice_engine *e) {
    return &e->info;
}

/* ---- Calls from any thread --------------------------------------------------------------------------------- */

static void count_out(sluice_engine *e) {
    if (atomic_fetch_sub(&e->box->in_flight, 1) == 1) {
        bell_ring(&e->box->idle);
    }
}

static sluice_status count_in(sluice_engine *e, sluice_error *err) {
    unsigned limit = e->plan.n_slots + e->plan.queue_max;
    unsigned before = atomic_fetch_add(&e->box->in_flight, 1);
    if (atomic_load(&e->draining)) { /* after counting, so that a drain sees this request or this sees the drain */
        count_out(e);
        return fail(err, SLUICE_E_BUSY, "the engine is shutting down and takes no more requests");
    }
    if (before >= limit) {
        count_out(e);
        return fail(err, SLUICE_E_BUSY, "the queue is full: %u requests are running or waiting; try again later",
                    limit);
    }
    return SLUICE_OK;
}

sluice_status sluice_request_submit(sluice_engine *e, const sluice_request_options *options, sluice_request **out,
                                    sluice_error *err) {
    TRY(count_in(e, err));
    sluice_request *r;
    sluice_status status = request_new(e->model, e->plan.ctx_per_slot, options, e->box, &r, err);
    if (status != SLUICE_OK) {
        count_out(e);
        return status;
    }
    r->id = atomic_fetch_add(&e->last_id, 1) + 1;
    atomic_fetch_add(&r->refs, 1);
    atomic_fetch_add(&e->count.requests, 1);
    atomic_fetch_add(&e->count.waiting, 1);
    *out = r; /* before the engine can call on_ready */
    sluice_request *head = atomic_load(&e->box->inbox);
    do {
        r->next = head;
    } while (!atomic_compare_exchange_weak(&e->box->inbox, &head, r));
    bell_ring(&e->box->bell);
    return SLUICE_OK;
}

bool sluice_engine_drain(sluice_engine *e, int timeout_ms) {
    atomic_store(&e->draining, true);
    uint64_t start = clock_ns();
    uint64_t limit = timeout_ms < 0 ? UINT64_MAX : (uint64_t)timeout_ms * 1000000u;
    while (true) {
        unsigned seen = bell_now(&e->box->idle);
        uint64_t waited = clock_ns() - start;
        bool idle = atomic_load(&e->box->in_flight) == 0;
        if (idle || waited >= limit) {
            return idle;
        }
        bell_wait(&e->box->idle, seen, timeout_ms < 0 ? -1 : (int64_t)(limit - waited));
    }
}

sluice_request_options sluice_request_options_default(const sluice_model *model) {
    return (sluice_request_options){.sampling = model->info.recommended};
}

void sluice_engine_get_metrics(sluice_engine *e, sluice_engine_metrics *out) {
    struct engine_counters *c = &e->count;
    struct pages_count pages = pages_count(e->pages);
    *out = (sluice_engine_metrics){
        .requests_total = atomic_load(&c->requests),
        .requests_failed = atomic_load(&c->failed),
        .requests_cancelled = atomic_load(&c->cancelled),
        .requests_preempted = atomic_load(&c->preempted),
        .prompt_tokens_total = atomic_load(&c->prompt_tokens),
        .prompt_tokens_cached = atomic_load(&c->cached_tokens),
        .recomputed_tokens_total = atomic_load(&c->recomputed_tokens),
        .generated_tokens_total = atomic_load(&c->generated_tokens),
        .draft_tokens_total = atomic_load(&c->draft_tokens),
        .draft_tokens_accepted = atomic_load(&c->draft_accepted),
        .steps_total = atomic_load(&c->steps),
        .steps_failed = atomic_load(&c->failed_steps),
        .last_step_failed = atomic_load(&c->failing),
        .prefill_seconds_total = (double)atomic_load(&c->prefill_ns) * 1e-9,
        .decode_seconds_total = (double)atomic_load(&c->decode_ns) * 1e-9,
        .requests_running = atomic_load(&c->running),
        .requests_waiting = atomic_load(&c->waiting),
        .pages_total = pages.total,
        .pages_cached = pages.cached,
        .pages_free = pages.free,
    };
}

uint32_t sluice_engine_get_slots(sluice_engine *e, sluice_slot_state *out, uint32_t cap) {
    for (uint32_t i = 0; i < e->plan.n_slots && i < cap; i++) {
        struct slot *s = &e->slots[i];
        uint64_t id = atomic_load(&s->seen_id);
        out[i] = (sluice_slot_state){.id = i, .busy = id != 0, .request_id = id};
        if (id != 0) {
            out[i].n_prompt = atomic_load(&s->seen_prompt);
            out[i].n_prompt_done = atomic_load(&s->seen_prompt_done);
            out[i].n_generated = atomic_load(&s->seen_generated);
        }
    }
    return e->plan.n_slots;
}
