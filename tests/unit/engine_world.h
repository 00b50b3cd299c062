/*
 * Families of requests: prompts that share beginnings, turns that go on from earlier answers, copies under other seeds,
 * lengths around whole pages. And a run of such a family on one engine, all together, some cancelled, freed or late,
 * while the cache is saved and cleared: every answer must be the one that the request gets alone.
 */
#ifndef ENGINE_WORLD_H
#define ENGINE_WORLD_H

#include "unit/engine_rig.h"

struct world_request {
    struct rig_request q;
    struct answer *alone;
};

struct world {
    uint64_t seed, rnd;
    char shape[160];            /* of the engine that runs it, for messages */
    uint32_t n_vocab, alphabet; /* prompts are made of the first `alphabet` tokens */
    uint32_t ctx, answer_max;
    bool only_prompts; /* beginnings are shared as far as they are prompts of both; forced tokens never are */
    int32_t systems[3][RIG_PROMPT_MAX];
    uint32_t n_system[3];
    struct world_request *r; /* [n] */
    uint32_t n;
};

/* What happened in all runs, to see that they tested something. */
struct world_totals {
    uint64_t done, cancelled, late, freed, saves, clears;
    uint64_t preempted, cached, recomputed, drafts, accepted;
};

/* ---- Prompts ----------------------------------------------------------------------------------------------- */

/* Half random tokens, half runs of what came before, so that guesses have something to find. */
static inline void world_fill(struct world *w, int32_t *tokens, uint32_t from, uint32_t to) {
    for (uint32_t at = from; at < to;) {
        if (at < 24 || rig_below(&w->rnd, 2)) {
            tokens[at++] = (int32_t)rig_below(&w->rnd, w->alphabet);
            continue;
        }
        uint32_t source = rig_below(&w->rnd, at - 20), n = 4 + rig_below(&w->rnd, 16);
        for (uint32_t i = 0; i < n && at < to; i++) {
            tokens[at++] = tokens[source + i];
        }
    }
}

static inline uint32_t world_length(struct world *w, uint32_t most) {
    if (most < 66 || rig_below(&w->rnd, 2)) {
        return 1 + rig_below(&w->rnd, most);
    }
    return KV_PAGE_TOKENS * (1 + rig_below(&w->rnd, (most - 1) / KV_PAGE_TOKENS)) + rig_below(&w->rnd, 3) - 1;
}

/* The prompt of an earlier request, its answer behind it unless only prompts are shared; sometimes cut. */
static inline uint32_t world_go_on(struct world *w, uint32_t i, int32_t *tokens, bool with_answer) {
    const struct world_request *from = &w->r[rig_below(&w->rnd, i)];
    uint32_t n = (uint32_t)from->q.o.n_tokens;
    memcpy(tokens, from->q.prompt, n * sizeof *tokens);
    if (with_answer && n + from->alone->n <= RIG_PROMPT_MAX) {
        memcpy(tokens + n, from->alone->tokens, from->alone->n * sizeof *tokens);
        n += from->alone->n;
    }
    if (rig_below(&w->rnd, 4) == 0) {
        uint32_t kept = world_length(w, n);
        n = kept < n ? kept : n;
    }
    return n;
}

static inline void world_prompt(struct world *w, uint32_t i) {
    int32_t *tokens = w->r[i].q.prompt;
    uint32_t most = (w->ctx < RIG_PROMPT_MAX ? w->ctx : RIG_PROMPT_MAX) - 1;
    uint32_t kind = i == 0 ? rig_below(&w->rnd, 3) : rig_below(&w->rnd, 6), n = 0;
    uint32_t more = 1 + rig_below(&w->rnd, 50);
    if (kind == 0) {
        n = 0;
        more = world_length(w, most / 2);
    } else if (kind <= 2) {
        uint32_t s = rig_below(&w->rnd, 3);
        n = w->n_system[s];
        memcpy(tokens, w->systems[s], n * sizeof *tokens);
    } else {
        n = world_go_on(w, i, tokens, kind <= 4 && !w->only_prompts);
        more = kind <= 4 ? more : 0;
    }
    n = n > most ? most : n;
    uint32_t end = n + more > most ? most : n + more;
    world_fill(w, tokens, n, end);
    w->r[i].q.o.n_tokens = end;
}

/* Given tokens: few at random, or many that go on as the prompt went, so that guesses hold for a while. */
static inline void world_force(struct world *w, struct rig_request *q) {
    uint32_t n = (uint32_t)q->o.n_tokens, room = w->ctx - n;
    if (rig_below(&w->rnd, 4) == 0 && !w->only_prompts && n > 24) {
        uint32_t period = 3 + rig_below(&w->rnd, 20);
        q->o.n_forced = 16 + rig_below(&w->rnd, RIG_FORCED_MAX - 16);
        for (uint32_t k = 0; k < q->o.n_forced; k++) {
            q->forced[k] = k < period ? q->prompt[n - period + k] : q->forced[k - period];
        }
        q->o.forced = q->forced;
        q->o.max_tokens = (uint32_t)q->o.n_forced + rig_below(&w->rnd, 20);
    }
    for (size_t k = 0; w->only_prompts && k < q->o.n_forced; k++) {
        q->forced[k] = (int32_t)(w->alphabet + (uint32_t)q->forced[k] % (w->n_vocab - w->alphabet));
    }
    bool fits = q->o.n_forced <= q->o.max_tokens && q->o.n_forced <= room;
    q->o.n_forced = fits ? q->o.n_forced : 0;
}

/* n requests, each asked alone on `solo`. The fields before `systems` are set by the caller. */
static inline void world_make(struct world *w, uint32_t n, sluice_engine *solo) {
    w->rnd = w->seed;
    w->n = n;
    w->r = calloc(n, sizeof *w->r);
    for (uint32_t s = 0; s < 3; s++) {
        w->n_system[s] = world_length(w, w->ctx / 2);
        world_fill(w, w->systems[s], 0, w->n_system[s]);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct rig_request *q = &w->r[i].q;
        rig_random_request(q, &w->rnd, w->n_vocab, w->ctx);
        world_prompt(w, i);
        q->o.max_tokens = 1 + rig_below(&w->rnd, rig_below(&w->rnd, 2) ? 20 : w->answer_max);
        world_force(w, q);
        w->r[i].alone = rig_ask(solo, &q->o);
        if (w->r[i].alone->last.kind != SLUICE_EVENT_DONE) {
            fail_msg("seed %llu: request %u alone: %s", (unsigned long long)w->seed, i, w->r[i].alone->last.error.text);
        }
    }
}

static inline void world_free(struct world *w) {
    for (uint32_t i = 0; i < w->n; i++) {
        answer_free(w->r[i].alone);
    }
    free(w->r);
}

/* ---- A run ------------------------------------------------------------------------------------------------- */

enum world_fate { WORLD_READ, WORLD_CANCEL, WORLD_FREE, WORLD_LATE };

struct world_guest {
    const struct world_request *of;
    sluice_request *r; /* NULL once it is over */
    struct answer *a;
    sluice_request_options o;
    enum world_fate fate;
    uint32_t until; /* tokens read before it is cancelled or freed */
};

struct world_run {
    struct world *w;
    sluice_engine *e;
    uint64_t rnd;
    const char *state_path; /* saved to at random; NULL = never */
    struct world_totals *totals;
    struct world_guest *guests;
    uint32_t n, sent, ended;
};

static inline void world_submit(struct world_run *run) {
    uint64_t *rnd = &run->rnd;
    uint32_t near = run->sent + rig_below(rnd, 3); /* roughly in order, some twice, so that turns follow their past */
    struct world_guest *g = &run->guests[run->sent++];
    g->of = &run->w->r[near % run->w->n];
    g->a = answer_new();
    g->o = g->of->q.o;
    g->o.no_cache = rig_below(rnd, 8) == 0;
    g->o.no_draft = rig_below(rnd, 8) == 0;
    uint32_t fate = rig_below(rnd, 12);
    g->fate = fate < 4 ? (enum world_fate)fate : WORLD_READ;
    g->o.timeout_ms = g->fate == WORLD_LATE ? 1 + rig_below(rnd, 20) : 0;
    g->until = rig_below(rnd, 3) ? rig_below(rnd, g->of->alone->n + 1) : 0;
    g->r = rig_submit(run->e, &g->o);
}

/* Why this end is wrong; NULL = it is right. */
static inline const char *world_judge(const struct world_guest *g, struct world_totals *totals) {
    const sluice_timings *t = &g->a->last.timings;
    uint32_t known = t->prompt_n + t->cache_n;
    if (g->a->last.kind == SLUICE_EVENT_ERROR) {
        bool cancelled = g->a->last.error.status == SLUICE_E_CANCELLED && g->fate == WORLD_CANCEL;
        bool late = g->a->last.error.status == SLUICE_E_TIMEOUT && g->fate == WORLD_LATE;
        totals->cancelled += cancelled;
        totals->late += late;
        return !cancelled && !late     ? "an error that nobody asked for"
               : known > g->o.n_tokens ? "more prompt tokens than there are"
                                       : answer_prefix_difference(g->a, g->of->alone);
    }
    totals->done++;
    return known != g->o.n_tokens             ? "sum of computed and cached prompt tokens"
           : g->o.no_cache && t->cache_n != 0 ? "cached tokens without cache"
           : g->o.no_draft && t->draft_n != 0 ? "drafts without drafting"
           : t->draft_accepted_n > t->draft_n ? "more drafts accepted than made"
           : t->predicted_n != g->a->n        ? "predicted_n"
                                              : answer_difference(g->a, g->of->alone);
}

static inline void world_check(const struct world_run *run, const struct world_guest *g) {
    const char *wrong = world_judge(g, run->totals);
    if (wrong) {
        fail_msg(
            "seed %llu (%s): request %u (prompt %zu, answer %u of %u tokens, computed %u, cached %u%s%s%s): %s; %s",
            (unsigned long long)run->w->seed, run->w->shape, (unsigned)(g->of - run->w->r), g->o.n_tokens, g->a->n,
            g->of->alone->n, g->a->last.timings.prompt_n, g->a->last.timings.cache_n, g->o.no_cache ? ", no cache" : "",
            g->o.no_draft ? ", no drafts" : "",
            g->o.sampling.repetition_penalty != 1 || g->o.sampling.presence_penalty != 0 ? ", penalties" : "", wrong,
            g->a->last.error.text);
    }
}

static inline void world_leave(struct world_run *run, struct world_guest *g) {
    sluice_request_free(g->r);
    g->r = NULL;
    answer_free(g->a);
    run->ended++;
}

/* Takes at most one event; true if there was one. */
static inline bool world_serve(struct world_run *run, struct world_guest *g) {
    if (g->a->n >= g->until && g->fate == WORLD_FREE) {
        run->totals->freed++;
        world_leave(run, g);
        return true;
    }
    if (g->a->n >= g->until && g->fate == WORLD_CANCEL) {
        sluice_request_cancel(g->r);
        g->until = UINT32_MAX;
    }
    sluice_event event;
    if (sluice_request_poll(g->r, &event) == SLUICE_EVENT_NONE) {
        return false;
    }
    if (answer_add(g->a, &event)) {
        world_check(run, g);
        world_leave(run, g);
    }
    return true;
}

static inline void world_save(struct world_run *run) {
    sluice_state_info info;
    sluice_error err = {0};
    if (sluice_engine_save(run->e, run->state_path, &info, &err) != SLUICE_OK) {
        fail_msg("seed %llu: save: %s", (unsigned long long)run->w->seed, err.text);
    }
    assert_int_equal(info.n_tokens, info.n_pages * (uint64_t)KV_PAGE_TOKENS);
    run->totals->saves++;
}

static inline void world_disturb(struct world_run *run) {
    uint32_t what = rig_below(&run->rnd, 300);
    if (what < 20) {
        usleep(rig_below(&run->rnd, 300));
    } else if (what == 20 && run->state_path) {
        world_save(run);
    } else if (what == 21) {
        sluice_engine_clear_cache(run->e);
        run->totals->clears++;
    } else if (what < 25) {
        sluice_slot_state slots[16];
        sluice_engine_get_slots(run->e, slots, 16);
    }
}

/* Nothing runs, nothing is lost: every page is free or cached. */
static inline void world_settle(sluice_engine *e, uint64_t seed, struct world_totals *totals) {
    sluice_engine_metrics m;
    uint64_t start = clock_ns();
    do {
        sluice_engine_get_metrics(e, &m);
        if (clock_ms_since(start) > 60000) {
            fail_msg("seed %llu: %u requests running and %u waiting without end", (unsigned long long)seed,
                     m.requests_running, m.requests_waiting);
        }
    } while (m.requests_running + m.requests_waiting > 0 || m.pages_free + m.pages_cached != m.pages_total);
    totals->preempted += m.requests_preempted;
    totals->cached += m.prompt_tokens_cached;
    totals->recomputed += m.recomputed_tokens_total;
    totals->drafts += m.draft_tokens_total;
    totals->accepted += m.draft_tokens_accepted;
}

/* n guests, as often as it takes, with at most `beside` of them under way at once. */
static inline void world_run(struct world *w, sluice_engine *e, uint64_t seed, uint32_t n, uint32_t beside,
                             const char *state_path, struct world_totals *totals) {
    struct world_run run = {.w = w, .e = e, .rnd = seed, .state_path = state_path, .totals = totals, .n = n};
    run.guests = calloc(n, sizeof *run.guests);
    uint64_t last = clock_ns();
    while (run.ended < n) {
        bool any = false;
        if (run.sent < n && run.sent - run.ended < beside && rig_below(&run.rnd, 3)) {
            world_submit(&run);
            any = true;
        }
        for (uint32_t i = 0; i < run.sent; i++) {
            any |= run.guests[i].r && world_serve(&run, &run.guests[i]);
        }
        last = any ? clock_ns() : last;
        if (!any) {
            usleep(20);
        }
        if (clock_ms_since(last) > 60000) {
            fail_msg("seed %llu: no event for a minute", (unsigned long long)w->seed);
        }
        world_disturb(&run);
    }
    free(run.guests);
}

#endif
