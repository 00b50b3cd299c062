/*
 * What came out of a step: tokens drawn, drafts kept or dropped, text handed out, pages filed, costs learned.
 *
 * Drafts are verified by drawing as if they were not there: position by position, each from the logits behind the tokens
 * before it, with the same (seed, position) number as ever. A draft stands as long as it is what was drawn. So the
 * tokens are those of plain decoding, greedy or sampled.
 */
#include "engine/engine.h"

#include "base/clock.h"
#include "base/status.h"

#define STEP_MS_HIGH 150 /* a step that both generates and computes prompts should stay below: streams still flow */
#define CHUNK_MIN    16

/* ---- One token --------------------------------------------------------------------------------------------- */

/* Passes a token on to the reader; returns an error that ends the request, or SLUICE_OK. */
static sluice_status push_token(sluice_engine *e, struct slot *s, const struct sample *sample, bool *ended) {
    sluice_request *r = s->request;
    TRY(request_reserve(r, 1, &r->error));
    sample_rules_accept(&r->rules, sample->token);
    r->tokens[r->n_tokens++] = sample->token;
    atomic_store(&s->seen_generated, request_generated(r));
    atomic_fetch_add(&e->count.generated_tokens, 1);
    bool end_token = e->model->tokens[sample->token].flags & TOKEN_FLAG_END;
    bool full = request_generated(r) == r->max_new;
    TRY(text_out_push(&r->text, sample->token, &r->stop_string, &r->error));
    if ((end_token || full) && !r->stop_string) {
        TRY(text_out_finish(&r->text, &r->error));
    }
    TRY(events_put(&r->events, sample, r->text.ready.data, r->text.ready.len, &r->error));
    r->finish = end_token || r->stop_string ? SLUICE_FINISH_STOP : SLUICE_FINISH_LENGTH;
    *ended = end_token || full || r->stop_string;
    admit_mark(e, r);
    return SLUICE_OK;
}

static sluice_status draw(sluice_engine *e, sluice_request *r, const float *logits, struct sample *out) {
    uint32_t at = request_generated(r);
    if (at < r->n_forced) {
        return sampler_given(e->sampler, &r->rules, logits, r->forced[at], out, &r->error);
    }
    return sampler_draw(e->sampler, &r->rules, logits, r->n_tokens, out, &r->error);
}

/* ---- One row ----------------------------------------------------------------------------------------------- */

/* The results of a row, one of the two. */
struct given {
    const float *logits;          /* [n_outputs][n_vocab] */
    const struct sample *samples; /* [n_outputs] */
};

/* Hands out the tokens of a row's results; *kept drafts stand. Returns an error that ends the request, or SLUICE_OK. */
static sluice_status take_outputs(sluice_engine *e, const struct backend_row *row, struct slot *s, struct given given,
                                  uint32_t *kept, bool *right, bool *ended) {
    sluice_request *r = s->request;
    for (uint32_t i = 0; i < row->n_outputs; i++) {
        struct sample drawn;
        const struct sample *sample = &drawn;
        if (given.samples) {
            sample = &given.samples[i];
            if (sample->token < 0) {
                return sampler_failed(sample->token, r->n_tokens, &r->error);
            }
        } else {
            TRY(draw(e, r, given.logits + (size_t)i * e->model->info.n_vocab, &drawn));
        }
        *right = s->match > 0 && r->tokens[r->n_tokens] == sample->token; /* the guess is already there */
        bool stands = i < row->n_drafts && *right;
        *kept += stands;
        TRY(push_token(e, s, sample, ended));
        if (*ended || !stands) {
            break;
        }
    }
    return SLUICE_OK;
}

/* How the guesses fared: n_drafts of them verified and kept standing; or none verified, and the first one was right. */
static void learn_guess(sluice_engine *e, struct slot *s, uint32_t n_drafts, uint32_t kept, bool right,
                        uint32_t n_step) {
    if (!s->index) {
        return;
    }
    draft_record_learn(&s->drafts, &e->draft_costs, s->match, n_drafts, n_drafts > 0 ? kept : right, n_step);
    s->match = 0;
    s->request->timings.draft_n += n_drafts;
    s->request->timings.draft_accepted_n += kept;
    atomic_fetch_add(&e->count.draft_tokens, n_drafts);
    atomic_fetch_add(&e->count.draft_accepted, kept);
}

/* In a step ahead of the token, guessing is only found worth its wait here. */
static void look_for_drafts(sluice_engine *e, struct slot *s) {
    if (s->n_due > 0 && !s->may_draft) {
        s->may_draft = batch_would_guess(e, s);
    }
}

static void take_row(sluice_engine *e, const struct step *st, uint32_t i, struct given given) {
    const struct backend_row *row = &st->rows[i];
    struct slot *s = st->owners[i].slot;
    sluice_request *r = s->request;
    uint32_t kept = 0;
    bool ended = false, right = false;
    sluice_status status = SLUICE_OK;
    if (row->n_outputs > 0) {
        r->first_ns = r->first_ns ? r->first_ns : clock_ns();
        s->n_due--;
        status = take_outputs(e, row, s, given, &kept, &right, &ended);
        learn_guess(e, s, row->n_drafts, kept, right, st->n_tokens);
    }
    s->n_done = row->first_pos + row->n_tokens - row->n_drafts + kept;
    if (row->n_drafts > 0) {
        s->drafts_due = false;
        s->n_past = s->n_done;
    }
    slot_count(e, s, row->first_pos, s->n_done, false);
    slot_file(e, s);
    if (status == SLUICE_OK && !ended && kept < row->n_drafts) {
        status = e->ops->rewind(e->backend, s->id, kept, &r->error);
    }
    if (status != SLUICE_OK) {
        admit_end(e, s, SLUICE_EVENT_ERROR);
    } else if (ended) {
        admit_end(e, s, SLUICE_EVENT_DONE);
    } else {
        look_for_drafts(e, s);
    }
}

/* ---- One step ---------------------------------------------------------------------------------------------- */

static bool still_there(const struct owner *o) {
    return o->slot->request && o->slot->epoch == o->epoch;
}

static void end_failed(sluice_engine *e, const struct step *st, const sluice_error *why) {
    atomic_fetch_add(&e->count.failed_steps, 1);
    atomic_store(&e->count.failing, true);
    e->last_failed_ns = clock_ns();
    for (uint32_t i = 0; i < st->n_rows; i++) {
        struct owner *o = &st->owners[i];
        if (still_there(o)) {
            fail(&o->slot->request->error, SLUICE_E_BACKEND, "the %s backend failed: %s", e->caps->name, why->text);
            admit_end(e, o->slot, SLUICE_EVENT_ERROR);
        }
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

static void learn_time(sluice_engine *e, const struct step *st, uint64_t ns) {
    atomic_fetch_add(&e->count.steps, 1);
    atomic_fetch_add(st->n_prefill > 0 ? &e->count.prefill_ns : &e->count.decode_ns, ns);
    if (st->n_prefill == 0) {
        e->decode_step_ns = ns;
        draft_costs_learn(&e->draft_costs, st->n_tokens, ns + (uint64_t)(e->result_ns * st->n_outputs));
    } else if (st->n_prefill < st->n_tokens) {
        steer_chunk(e, st->n_prefill, ns);
    }
}

void results_submit(sluice_engine *e, struct step *st) {
    struct backend_step step = {.rows = st->rows, .n_rows = st->n_rows};
    sluice_error why = {0};
    st->start_ns = clock_ns();
    if (e->ops->submit(e->backend, &step, &why) != SLUICE_OK) {
        end_failed(e, st, &why);
        return;
    }
    for (uint32_t i = 0; i < st->n_rows; i++) {
        struct slot *s = st->owners[i].slot;
        s->n_past += st->rows[i].n_tokens;
        s->n_due += st->rows[i].n_outputs > 0;
        s->drafts_due = st->rows[i].n_drafts > 0;
    }
    e->n_under_way++;
    trace_span(e->trace, "submit", st->start_ns, clock_ns(), "\"rows\":%u,\"tokens\":%u", st->n_rows, st->n_tokens);
}

void results_take(sluice_engine *e) {
    struct step *st = &e->steps[e->oldest];
    struct backend_output output = {0};
    sluice_error why = {0};
    uint64_t waited = clock_ns();
    sluice_status status = e->ops->wait(e->backend, &output, &why);
    uint64_t over = clock_ns();
    uint64_t start =
        st->start_ns > e->last_over_ns ? st->start_ns : e->last_over_ns; /* it may have queued behind one */
    e->last_over_ns = over;
    e->oldest = (e->oldest + 1) % STEPS_MAX;
    e->n_under_way--;
    if (status != SLUICE_OK) {
        end_failed(e, st, &why);
        return;
    }
    if (st->start_ns > e->last_failed_ns) { /* an older step says nothing about the device now */
        atomic_store(&e->count.failing, false);
    }
    learn_time(e, st, over - start);
    struct given next = {.logits = output.logits, .samples = output.samples};
    for (uint32_t i = 0; i < st->n_rows; i++) {
        const struct backend_row *row = &st->rows[i];
        if (still_there(&st->owners[i])) {
            take_row(e, st, i,
                     row->rules ? (struct given){.samples = next.samples} : (struct given){.logits = next.logits});
        }
        next.samples += row->rules ? row->n_outputs : 0;
        next.logits += row->rules ? 0 : row->n_outputs * (size_t)e->model->info.n_vocab;
    }
    if (st->n_outputs > 0 && !e->caps->samples) {
        e->result_ns += ((double)(clock_ns() - over) / st->n_outputs - e->result_ns) / 4;
    }
    if (e->trace) {
        struct pages_count pages = pages_count(e->pages);
        trace_span(e->trace, "step", start, over,
                   "\"rows\":%u,\"tokens\":%u,\"prompt_tokens\":%u,\"draft_tokens\":%u,\"waiting\":%u", st->n_rows,
                   st->n_tokens, st->n_prefill, st->n_drafts, atomic_load(&e->count.waiting));
        trace_span(e->trace, "wait", waited, over, NULL);
        trace_span(e->trace, "results", over, clock_ns(), NULL);
        trace_counter(e->trace, "pages in use", over, pages.total - pages.free - pages.cached);
        trace_counter(e->trace, "pages cached", over, pages.cached);
    }
}
