/*
 * The life of a request.
 *
 * 1. sluice_request_submit, on the caller's thread: the options are checked and copied, and everything the request will
 *    need is allocated (prompt, stop-string tables, penalty tables, the first chunk of its event queue). It is counted
 *    against n_slots + queue_max, pushed on the mailbox's inbox and the engine's bell is rung.
 * 2. The engine thread takes the whole inbox at once and appends it to its waiting list in order of submission.
 * 3. Admission, first come first served: a request gets a slot and all the KV pages that its prompt and its longest
 *    possible answer need. It can therefore never run out of memory half way; the next in line waits until it fits and
 *    is not overtaken.
 * 4. Prefill: chunks of the prompt ride in steps beside one row per generating request. The last chunk wants logits.
 * 5. Decode: one row per step. A token is sampled on the engine thread, turned into text, looked through for stop
 *    strings and put into the request's event queue.
 * 6. End: an end token, a stop string, max_tokens, a cancellation or a failure. The final event is written into the
 *    request itself (it needs no memory), slot and pages go back, the engine drops its reference.
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

#include "base/mem.h"
#include "base/status.h"

#include <stdlib.h>
#include <string.h>

sluice_engine_options sluice_engine_options_default(void) {
    return (sluice_engine_options){.backend = "auto", .n_slots = 4, .queue_max = 256};
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
        sched_enqueue(e, oldest);
        oldest = next;
    }
}

static void *engine_main(void *arg) {
    sluice_engine *e = arg;
    unsigned heard = bell_now(&e->box->bell) - 1; /* look at everything once */
    while (!atomic_load(&e->box->closing)) {
        unsigned now = bell_now(&e->box->bell);
        if (now != heard) {
            heard = now;
            take_inbox(e);
            sched_drop_waiting(e, false);
            sched_drop_running(e, false);
        }
        sched_admit(e);
        sched_ring(e);
        if (e->n_running > 0) {
            sched_step(e);
            sched_ring(e);
        } else if (!atomic_load(&e->box->closing)) {
            bell_wait(&e->box->bell, heard, -1);
        }
    }
    take_inbox(e);
    sched_drop_waiting(e, true);
    sched_drop_running(e, true);
    sched_ring(e);
    return NULL;
}

/* ---- Creation ---------------------------------------------------------------------------------------------- */

static sluice_status open_backend(sluice_engine *e, const sluice_engine_options *o, sluice_error *err) {
    const struct engine_plan *p = &e->plan;
    struct backend_options options = {
        .n_threads = o->n_threads,
        .n_slots = p->n_slots,
        .n_pages = p->n_pages,
        .step_tokens_max = p->prefill_chunk ? p->prefill_chunk + p->n_slots : 0,
        .step_outputs_max = p->n_slots,
    };
    TRY(e->ops->open(e->model->model, &options, &e->backend, err));
    e->caps = e->ops->caps(e->backend);
    if (e->caps->step_tokens_max <= p->n_slots || e->caps->step_outputs_max < p->n_slots) {
        return fail(err, SLUICE_E_LIMIT,
                    "backend %s takes %u tokens and %u results a step, too few for %u slots; lower --slots",
                    e->caps->name, e->caps->step_tokens_max, e->caps->step_outputs_max, p->n_slots);
    }
    return plan_check(p, e->caps->weight_bytes, e->caps->kv_bytes, e->caps->work_bytes, err);
}

static sluice_status alloc_tables(sluice_engine *e, sluice_error *err) {
    const struct engine_plan *p = &e->plan;
    e->slots = mem_calloc(p->n_slots, sizeof *e->slots);
    e->slot_pages = mem_calloc((size_t)p->n_slots * p->pages_per_slot, sizeof *e->slot_pages);
    e->free_pages = mem_calloc(p->n_pages, sizeof *e->free_pages);
    e->running = mem_calloc(p->n_slots, sizeof *e->running);
    e->rows = mem_calloc(p->n_slots, sizeof *e->rows);
    e->row_slots = mem_calloc(p->n_slots, sizeof *e->row_slots);
    if (!e->slots || !e->slot_pages || !e->free_pages || !e->running || !e->rows || !e->row_slots) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for the tables of %u slots", p->n_slots);
    }
    for (uint32_t i = 0; i < p->n_slots; i++) {
        e->slots[i].id = i;
        e->slots[i].pages = e->slot_pages + (size_t)i * p->pages_per_slot;
    }
    for (uint32_t i = 0; i < p->n_pages; i++) {
        e->free_pages[i] = p->n_pages - 1 - i; /* low numbers first */
    }
    e->n_free_pages = p->n_pages;
    return SLUICE_OK;
}

static void fill_info(sluice_engine *e) {
    const struct backend_caps *c = e->caps;
    uint32_t chunk = e->plan.prefill_chunk ? e->plan.prefill_chunk : c->prefill_chunk;
    uint32_t room = c->step_tokens_max - e->plan.n_slots;
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
                                   .memory_available = e->plan.memory_available};
    e->chunk_beside_decode = chunk;
}

static sluice_status start(sluice_engine *e, const sluice_engine_options *o, sluice_error *err) {
    TRY(plan_make(e->model, o, mem_available(), &e->plan, err));
    e->box = mailbox_new();
    if (!e->box) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for an engine");
    }
    TRY(open_backend(e, o, err));
    TRY(sampler_create(e->model->info.n_vocab, &e->sampler, err));
    TRY(alloc_tables(e, err));
    fill_info(e);
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

void sluice_engine_free(sluice_engine *e) {
    if (!e) {
        return;
    }
    if (e->started) {
        atomic_store(&e->box->closing, true);
        bell_ring(&e->box->bell);
        pthread_join(e->box->thread, NULL);
    }
    if (e->backend) {
        e->ops->close(e->backend);
    }
    mailbox_unref(e->box);
    sampler_free(e->sampler);
    mem_free(e->slots);
    mem_free(e->slot_pages);
    mem_free(e->free_pages);
    mem_free(e->running);
    mem_free(e->rows);
    mem_free(e->row_slots);
    mem_free(e);
}

const sluice_engine_info *sluice_engine_get_info(const sluice_engine *e) {
    return &e->info;
}

/* ---- Calls from any thread --------------------------------------------------------------------------------- */

static sluice_status count_in(sluice_engine *e, sluice_error *err) {
    unsigned limit = e->plan.n_slots + e->plan.queue_max;
    if (atomic_fetch_add(&e->box->in_flight, 1) >= limit) {
        atomic_fetch_sub(&e->box->in_flight, 1);
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
        atomic_fetch_sub(&e->box->in_flight, 1);
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

sluice_request_options sluice_request_options_default(const sluice_model *model) {
    return (sluice_request_options){.sampling = model->info.recommended};
}

void sluice_engine_get_metrics(sluice_engine *e, sluice_engine_metrics *out) {
    struct engine_counters *c = &e->count;
    *out = (sluice_engine_metrics){
        .requests_total = atomic_load(&c->requests),
        .requests_failed = atomic_load(&c->failed),
        .requests_cancelled = atomic_load(&c->cancelled),
        .prompt_tokens_total = atomic_load(&c->prompt_tokens),
        .prompt_tokens_cached = atomic_load(&c->cached_tokens),
        .generated_tokens_total = atomic_load(&c->generated_tokens),
        .steps_total = atomic_load(&c->steps),
        .prefill_seconds_total = (double)atomic_load(&c->prefill_ns) * 1e-9,
        .decode_seconds_total = (double)atomic_load(&c->decode_ns) * 1e-9,
        .requests_running = atomic_load(&c->running),
        .requests_waiting = atomic_load(&c->waiting),
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
