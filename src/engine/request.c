#include "engine/request.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "engine/plan.h"

#include <string.h>

#define TOKENS_AHEAD                                                                                                   \
    256u /* room for the beginning of an answer; most are shorter, and a queue of thousands stays small */

struct mailbox *mailbox_new(void) {
    struct mailbox *box = mem_calloc(1, sizeof *box);
    if (box) {
        atomic_init(&box->refs, 1);
        pthread_mutex_init(&box->calls_lock, NULL);
    }
    return box;
}

void mailbox_ref(struct mailbox *box) {
    atomic_fetch_add(&box->refs, 1);
}

void mailbox_unref(struct mailbox *box) {
    if (box && atomic_fetch_sub(&box->refs, 1) == 1) {
        pthread_mutex_destroy(&box->calls_lock);
        mem_free(box);
    }
}

static sluice_status check_tokens(const sluice_model *model, const char *what, const int32_t *tokens, size_t n,
                                  sluice_error *err) {
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= model->info.n_vocab) {
            return fail(err, SLUICE_E_ARG, "token %zu of %s is %d; the vocabulary has %u", i, what, tokens[i],
                        model->info.n_vocab);
        }
    }
    return SLUICE_OK;
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
    if (o->n_forced > 0 && o->n_tokens + o->n_forced > ctx) {
        return fail(err, SLUICE_E_LIMIT,
                    "the prompt of %zu tokens and %zu given tokens of answer exceed the context of %u tokens",
                    o->n_tokens, o->n_forced, ctx);
    }
    TRY(check_tokens(model, "the prompt", o->tokens, o->n_tokens, err));
    return check_tokens(model, "the given answer", o->forced, o->n_forced, err);
}

sluice_status request_reserve(sluice_request *r, uint32_t n, sluice_error *err) {
    uint64_t need = (uint64_t)r->n_tokens + n;
    if (need <= r->tokens_max) {
        return SLUICE_OK;
    }
    uint64_t room = need > 2ull * r->tokens_max ? need : 2ull * r->tokens_max;
    int32_t *tokens = mem_realloc(r->tokens, room * sizeof *tokens);
    if (!tokens) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for the tokens of a request: %llu", (unsigned long long)need);
    }
    r->tokens = tokens;
    r->tokens_max = (uint32_t)room;
    return SLUICE_OK;
}

static sluice_status request_fill(sluice_request *r, const sluice_model *model, const sluice_request_options *o,
                                  sluice_error *err) {
    uint32_t ahead = r->max_new < TOKENS_AHEAD ? r->max_new : TOKENS_AHEAD;
    TRY(request_reserve(r, r->n_prompt + ahead, err));
    memcpy(r->tokens, o->tokens, o->n_tokens * sizeof *r->tokens);
    r->n_tokens = r->n_prompt;
    if (o->n_forced > 0) {
        r->forced = mem_alloc(o->n_forced * sizeof *r->forced);
        if (!r->forced) {
            return fail(err, SLUICE_E_NOMEM, "out of memory for a given answer of %zu tokens", o->n_forced);
        }
        memcpy(r->forced, o->forced, o->n_forced * sizeof *r->forced);
        r->n_forced = (uint32_t)o->n_forced;
    }
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
    r->deadline_ns = o->timeout_ms ? r->start_ns + o->timeout_ms * 1000000ull : 0;
    r->no_cache = o->no_cache;
    r->no_draft = o->no_draft;
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
        mem_free(r->tokens);
        mem_free(r->forced);
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
        event->timings.cache_n = atomic_load(&r->cached);
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
