/*
 * What a step computes, and for whom.
 *
 * Decode first: every generating request has its one row in every step. What is left of the step's tokens goes to
 * prompts: a quarter to the oldest, so that no prompt starves, the rest to whichever has least left, because that gives
 * the shortest mean wait for a first token. Prompts of equal length are thereby served in order of arrival.
 *
 * A long chunk beside decode rows would stall every stream for its whole duration, so while anything generates the
 * chunk is steered towards steps under 150 ms; alone, prompts get the chunk that the backend likes best.
 */
#include "engine/engine.h"

#include "base/clock.h"
#include "base/status.h"

#define STEP_MS_HIGH 150
#define CHUNK_MIN    16

/* ---- Beginning and end of a request ------------------------------------------------------------------------ */

void sched_enqueue(sluice_engine *e, sluice_request *r) {
    r->next = NULL;
    if (e->waiting_last) {
        e->waiting_last->next = r;
    } else {
        e->waiting_first = r;
    }
    e->waiting_last = r;
}

static void mark_to_ring(sluice_engine *e, sluice_request *r) {
    if (!r->to_ring) {
        r->to_ring = true;
        r->next_to_ring = e->to_ring;
        e->to_ring = r;
    }
}

void sched_ring(sluice_engine *e) {
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

/* Publishes the final event; r->error, finish and stop_string are set by the caller. The reader is woken by sched_ring,
 * which also drops the engine's reference. */
static void end_request(sluice_engine *e, sluice_request *r, sluice_event_kind kind) {
    uint64_t now = clock_ns();
    uint64_t admitted = r->admitted_ns ? r->admitted_ns : now;
    uint64_t first = r->first_ns ? r->first_ns : now;
    r->timings.predicted_n = r->n_generated;
    r->timings.queue_ms = (double)(admitted - r->start_ns) * 1e-6;
    r->timings.prompt_ms = (double)(first - admitted) * 1e-6;
    r->timings.predicted_ms = (double)(now - first) * 1e-6;
    r->last_kind = kind;
    if (kind == SLUICE_EVENT_ERROR) {
        bool cancelled = r->error.status == SLUICE_E_CANCELLED;
        atomic_fetch_add(cancelled ? &e->count.cancelled : &e->count.failed, 1);
    }
    atomic_fetch_sub(&e->box->in_flight, 1);
    atomic_store(&r->finished, true);
    mark_to_ring(e, r);
}

/* Takes a slot back from its request: pages, place in the running order. */
static void release_slot(sluice_engine *e, struct slot *s) {
    while (s->n_pages > 0) {
        e->free_pages[e->n_free_pages++] = s->pages[--s->n_pages];
    }
    s->request = NULL;
    atomic_store(&s->seen_id, 0);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < e->n_running; i++) {
        if (e->running[i] != s) {
            e->running[kept++] = e->running[i];
        }
    }
    e->n_running = kept;
    atomic_store(&e->count.running, kept);
}

static void end_slot(sluice_engine *e, struct slot *s, sluice_event_kind kind) {
    sluice_request *r = s->request;
    release_slot(e, s);
    end_request(e, r, kind);
}

static void set_cancelled(sluice_request *r) {
    if (atomic_load(&r->cancelled)) {
        fail(&r->error, SLUICE_E_CANCELLED, "the request was cancelled");
    } else {
        fail(&r->error, SLUICE_E_CANCELLED, "the engine was shut down before the answer was complete");
    }
}

void sched_drop_waiting(sluice_engine *e, bool all) {
    sluice_request *r = e->waiting_first;
    e->waiting_first = e->waiting_last = NULL;
    while (r) {
        sluice_request *next = r->next;
        if (all || atomic_load(&r->cancelled)) {
            set_cancelled(r);
            atomic_fetch_sub(&e->count.waiting, 1);
            end_request(e, r, SLUICE_EVENT_ERROR);
        } else {
            sched_enqueue(e, r);
        }
        r = next;
    }
}

void sched_drop_running(sluice_engine *e, bool all) {
    for (uint32_t i = e->n_running; i-- > 0;) {
        struct slot *s = e->running[i];
        if (all || atomic_load(&s->request->cancelled)) {
            set_cancelled(s->request);
            end_slot(e, s, SLUICE_EVENT_ERROR);
        }
    }
}

void sched_admit(sluice_engine *e) {
    while (e->waiting_first && e->n_running < e->plan.n_slots && e->waiting_first->n_pages <= e->n_free_pages) {
        sluice_request *r = e->waiting_first;
        e->waiting_first = r->next;
        if (!r->next) {
            e->waiting_last = NULL;
        }
        struct slot *s = e->slots;
        while (s->request) {
            s++;
        }
        s->request = r;
        s->n_past = 0;
        while (s->n_pages < r->n_pages) {
            s->pages[s->n_pages++] = e->free_pages[--e->n_free_pages];
        }
        r->admitted_ns = clock_ns();
        atomic_store(&s->seen_prompt, r->n_prompt);
        atomic_store(&s->seen_prompt_done, 0);
        atomic_store(&s->seen_generated, 0);
        atomic_store(&s->seen_id, r->id);
        e->running[e->n_running++] = s;
        atomic_store(&e->count.running, e->n_running);
        atomic_fetch_sub(&e->count.waiting, 1);
    }
}

/* ---- Building a step --------------------------------------------------------------------------------------- */

static bool in_prefill(const struct slot *s) {
    return s->n_past < s->request->n_prompt;
}

static uint32_t prompt_left(const struct slot *s) {
    return s->request->n_prompt - s->n_past;
}

static void add_row(sluice_engine *e, struct slot *s, const int32_t *tokens, uint32_t n, enum backend_want want) {
    e->row_slots[e->n_rows] = s;
    e->rows[e->n_rows++] = (struct backend_row){
        .slot = s->id, .first_pos = s->n_past, .n_tokens = n, .tokens = tokens, .pages = s->pages, .want = want};
}

/* The running prompt with the fewest tokens without a share yet; the older one of equals. */
static struct slot *shortest_prompt(const sluice_engine *e) {
    struct slot *best = NULL;
    uint32_t least = UINT32_MAX;
    for (uint32_t i = 0; i < e->n_running; i++) {
        struct slot *s = e->running[i];
        uint32_t left = in_prefill(s) ? prompt_left(s) - s->share : 0;
        if (left > 0 && left < least) {
            best = s;
            least = left;
        }
    }
    return best;
}

static uint32_t give(struct slot *s, uint32_t tokens) {
    uint32_t left = prompt_left(s) - s->share;
    uint32_t n = tokens < left ? tokens : left;
    s->share += n;
    return n;
}

/* Divides `budget` tokens among the prompts and adds their rows; returns how many were used. */
static uint32_t add_prompts(sluice_engine *e, uint32_t budget) {
    uint32_t left = budget;
    bool oldest = true;
    for (uint32_t i = 0; i < e->n_running; i++) {
        struct slot *s = e->running[i];
        s->share = 0;
        if (oldest && in_prefill(s)) {
            left -= give(s, budget / 4);
            oldest = false;
        }
    }
    for (struct slot *s; left > 0 && (s = shortest_prompt(e));) {
        left -= give(s, left);
    }
    for (uint32_t i = 0; i < e->n_running; i++) {
        struct slot *s = e->running[i];
        if (in_prefill(s) && s->share > 0) {
            enum backend_want want = s->share == prompt_left(s) ? WANT_LAST : WANT_NOTHING;
            add_row(e, s, s->request->prompt + s->n_past, s->share, want);
        }
    }
    return budget - left;
}

/* Fills e->rows; returns the number of prompt tokens in them. */
static uint32_t build(sluice_engine *e) {
    e->n_rows = 0;
    for (uint32_t i = 0; i < e->n_running; i++) {
        struct slot *s = e->running[i];
        if (!in_prefill(s)) {
            add_row(e, s, &s->last_token, 1, WANT_LAST);
        }
    }
    uint32_t room = e->caps->step_tokens_max - e->n_rows;
    uint32_t chunk = e->n_rows > 0 ? e->chunk_beside_decode : e->info.prefill_chunk;
    return add_prompts(e, chunk < room ? chunk : room);
}

/* ---- After a step ------------------------------------------------------------------------------------------ */

/* Samples one token for a slot and passes it on; returns an error that ends the request, or SLUICE_OK. */
static sluice_status next_token(sluice_engine *e, struct slot *s, const float *logits, bool *ended) {
    sluice_request *r = s->request;
    struct sample sample;
    TRY(sampler_draw(e->sampler, &r->rules, logits, (uint64_t)r->n_prompt + r->n_generated, &sample, &r->error));
    sample_rules_accept(&r->rules, sample.token);
    s->last_token = sample.token;
    r->n_generated++;
    atomic_store(&s->seen_generated, r->n_generated);
    atomic_fetch_add(&e->count.generated_tokens, 1);
    bool end_token = e->model->tokens[sample.token].flags & TOKEN_FLAG_END;
    bool full = r->n_generated == r->max_new;
    TRY(text_out_push(&r->text, sample.token, &r->stop_string, &r->error));
    if ((end_token || full) && !r->stop_string) {
        TRY(text_out_finish(&r->text, &r->error));
    }
    TRY(events_put(&r->events, &sample, r->text.ready.data, r->text.ready.len, &r->error));
    r->finish = end_token || r->stop_string ? SLUICE_FINISH_STOP : SLUICE_FINISH_LENGTH;
    *ended = end_token || full || r->stop_string;
    return SLUICE_OK;
}

static void accept_row(sluice_engine *e, const struct backend_row *row, struct slot *s, const float *logits) {
    sluice_request *r = s->request;
    if (in_prefill(s)) {
        r->timings.prompt_n += row->n_tokens;
        atomic_fetch_add(&e->count.prompt_tokens, row->n_tokens);
        atomic_store(&s->seen_prompt_done, s->n_past + row->n_tokens);
    }
    s->n_past += row->n_tokens;
    if (row->want == WANT_NOTHING) {
        return;
    }
    if (r->first_ns == 0) {
        r->first_ns = clock_ns();
    }
    bool ended = false;
    if (next_token(e, s, logits, &ended) != SLUICE_OK) {
        end_slot(e, s, SLUICE_EVENT_ERROR);
    } else if (ended) {
        end_slot(e, s, SLUICE_EVENT_DONE);
    } else {
        mark_to_ring(e, r);
    }
}

static void end_failed_step(sluice_engine *e, const sluice_error *why) {
    for (uint32_t i = 0; i < e->n_rows; i++) {
        fail(&e->row_slots[i]->request->error, SLUICE_E_BACKEND, "the %s backend failed: %s", e->caps->name, why->text);
        end_slot(e, e->row_slots[i], SLUICE_EVENT_ERROR);
    }
}

/* Keeps steps that hold both prompts and generations inside the range where streams still flow. Where generating alone
 * takes long (many rows, a large model), prompts may double that. */
static void steer_chunk(sluice_engine *e, uint32_t n_prompt, uint64_t ns) {
    uint64_t high = STEP_MS_HIGH * 1000000ull;
    high = 2 * e->decode_step_ns > high ? 2 * e->decode_step_ns : high;
    uint32_t least = e->info.prefill_chunk < CHUNK_MIN ? e->info.prefill_chunk : CHUNK_MIN;
    if (ns > high) {
        uint32_t half = n_prompt / 2;
        e->chunk_beside_decode = half > least ? half : least;
    } else if (ns < high / 3 && n_prompt == e->chunk_beside_decode) {
        uint32_t twice = 2 * n_prompt;
        e->chunk_beside_decode = twice < e->info.prefill_chunk ? twice : e->info.prefill_chunk;
    }
}

void sched_step(sluice_engine *e) {
    uint32_t n_prompt = build(e);
    bool mixed = n_prompt > 0 && !in_prefill(e->row_slots[0]); /* generating rows come first */
    struct backend_step step = {.rows = e->rows, .n_rows = e->n_rows};
    struct backend_output output = {0};
    sluice_error why = {0};
    uint64_t start = clock_ns();
    sluice_status status = e->ops->submit(e->backend, &step, &why);
    if (status == SLUICE_OK) {
        status = e->ops->wait(e->backend, &output, &why);
    }
    uint64_t ns = clock_ns() - start;
    atomic_fetch_add(&e->count.steps, 1);
    atomic_fetch_add(n_prompt > 0 ? &e->count.prefill_ns : &e->count.decode_ns, ns);
    if (status != SLUICE_OK) {
        end_failed_step(e, &why);
        return;
    }
    if (mixed) {
        steer_chunk(e, n_prompt, ns);
    } else if (n_prompt == 0) {
        e->decode_step_ns = ns;
    }
    const float *logits = output.logits;
    for (uint32_t i = 0; i < e->n_rows; i++) {
        accept_row(e, &e->rows[i], e->row_slots[i], logits);
        logits += e->rows[i].want == WANT_LAST ? e->model->info.n_vocab : 0;
    }
}
