#include "engine/request.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "engine/plan.h"

#include <string.h>

struct mailbox *mailbox_new(void) {
    struct mailbox *box = mem_calloc(1, sizeof *box);
    if (box) {
        atomic_init(&box->refs, 1);
    }
    return box;
}

void mailbox_ref(struct mailbox *box) {
    atomic_fetch_add(&box->refs, 1);
}

void mailbox_unref(struct mailbox *box) {
    if (box && atomic_fetch_sub(&box->refs, 1) == 1) {
        mem_free(box);
    }
}

static sluice_status check_prompt(const sluice_model *model, uint32_t ctx, const sluice_request_options *o,
                                  sluice_error *err) {
    if (o->n_tokens == 0 || !o->tokens) {
        return fail(err, SLUICE_E_ARG, "the prompt is empty; it needs at least one token");
    }
    if (o->n_tokens + 1 > ctx) {
        return fail(err, SLUICE_E_LIMIT,
                    "the prompt has %zu tokens, which with one token of answer exceeds the context of %u tokens; "
                    "shorten it or raise --ctx",
                    o->n_tokens, ctx);
    }
    for (size_t i = 0; i < o->n_tokens; i++) {
        if (o->tokens[i] < 0 || (uint32_t)o->tokens[i] >= model->info.n_vocab) {
            return fail(err, SLUICE_E_ARG, "token %zu of the prompt is %d; the vocabulary has %u", i, o->tokens[i],
                        model->info.n_vocab);
        }
    }
    return SLUICE_OK;
}

static sluice_status request_fill(sluice_request *r, const sluice_model *model, const sluice_request_options *o,
                                  sluice_error *err) {
    r->prompt = mem_alloc(o->n_tokens * sizeof *r->prompt);
    if (!r->prompt) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for a prompt of %zu tokens", o->n_tokens);
    }
    memcpy(r->prompt, o->tokens, o->n_tokens * sizeof *r->prompt);
    TRY(events_init(&r->events, err));
    TRY(text_out_init(&r->text, model, o, err));
    return sample_rules_init(&r->rules, model, o, r->max_new, err);
}

sluice_status request_new(const sluice_model *model, uint32_t ctx, const sluice_request_options *o, struct mailbox *box,
                          sluice_request **out, sluice_error *err) {
    TRY(check_prompt(model, ctx, o, err));
    sluice_request *r = mem_calloc(1, sizeof *r);
    if (!r) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for a request");
    }
    uint32_t room = ctx - (uint32_t)o->n_tokens;
    r->start_ns = clock_ns();
    r->n_prompt = (uint32_t)o->n_tokens;
    r->max_new = o->max_tokens > 0 && o->max_tokens < room ? o->max_tokens : room;
    r->n_pages = plan_pages((uint64_t)r->n_prompt + r->max_new);
    r->on_ready = o->on_ready;
    r->on_ready_ctx = o->on_ready_ctx;
    atomic_init(&r->refs, 1);
    sluice_status status = request_fill(r, model, o, err);
    if (status != SLUICE_OK) {
        request_unref(r);
        return status;
    }
    r->box = box;
    mailbox_ref(box);
    *out = r;
    return SLUICE_OK;
}

void request_unref(sluice_request *r) {
    if (atomic_fetch_sub(&r->refs, 1) == 1) {
        mem_free(r->prompt);
        events_free(&r->events);
        text_out_free(&r->text);
        sample_rules_free(&r->rules);
        mailbox_unref(r->box);
        mem_free(r);
    }
}

void request_ring(sluice_request *r) {
    bell_ring(&r->bell);
    if (!r->on_ready) {
        return;
    }
    if (!(atomic_fetch_or(&r->gate, GATE_IN_CALL) & GATE_CLOSED)) {
        r->on_ready(r->on_ready_ctx);
    }
    if (atomic_fetch_and(&r->gate, ~(unsigned)GATE_IN_CALL) & GATE_CLOSED) {
        bell_ring(&r->bell); /* sluice_request_free may be waiting for the call to end */
    }
}

/* ---- The reader's side ------------------------------------------------------------------------------------- */

sluice_event_kind sluice_request_poll(sluice_request *r, sluice_event *event) {
    *event = (sluice_event){.kind = SLUICE_EVENT_NONE};
    /* finished before the queue: whatever was queued before it was set is then seen */
    bool finished = atomic_load(&r->finished);
    if (events_take(&r->events, event)) {
        event->kind = SLUICE_EVENT_TOKEN;
    } else if (finished && !r->last_taken) {
        r->last_taken = true;
        event->kind = r->last_kind;
        event->finish = r->finish;
        event->stop_string = r->stop_string;
        event->timings = r->timings;
        event->error = r->error;
    }
    return event->kind;
}

sluice_event_kind sluice_request_wait(sluice_request *r, sluice_event *event, int timeout_ms) {
    uint64_t start = clock_ns();
    uint64_t limit = timeout_ms < 0 ? UINT64_MAX : (uint64_t)timeout_ms * 1000000u;
    while (true) {
        unsigned seen = bell_now(&r->bell);
        sluice_event_kind kind = sluice_request_poll(r, event);
        uint64_t waited = clock_ns() - start;
        if (kind != SLUICE_EVENT_NONE || r->last_taken || waited >= limit) {
            return kind;
        }
        bell_wait(&r->bell, seen, timeout_ms < 0 ? -1 : (int64_t)(limit - waited));
    }
}

void sluice_request_cancel(sluice_request *r) {
    atomic_store(&r->cancelled, true);
    bell_ring(&r->box->bell);
}

uint64_t sluice_request_id(const sluice_request *r) {
    return r->id;
}

void sluice_request_free(sluice_request *r) {
    if (!r) {
        return;
    }
    sluice_request_cancel(r);
    unsigned gate = atomic_fetch_or(&r->gate, GATE_CLOSED);
    bool inside = pthread_equal(pthread_self(), r->box->thread); /* freed by its own on_ready */
    while ((gate & GATE_IN_CALL) && !inside) {
        unsigned seen = bell_now(&r->bell);
        gate = atomic_load(&r->gate);
        if (gate & GATE_IN_CALL) {
            bell_wait(&r->bell, seen, -1);
        }
    }
    request_unref(r);
}
