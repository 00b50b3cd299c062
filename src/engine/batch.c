/*
 * What a step computes, and for whom.
 *
 * Decode first: every generating request has its row in every step, with guessed tokens behind it where that pays. What
 * is left of the step's tokens goes to prompts: a quarter to the oldest, so that no prompt starves, the rest to
 * whichever has least left, because that gives the shortest mean wait for a first token. Prompts of equal length are
 * thereby served in order of arrival.
 *
 * A page that several prompts share is computed once: while one of them is at it, the others ride along, and what the
 * step would have given them goes to the one that computes.
 *
 * A long chunk beside decode rows would stall every stream for its whole duration, so while anything generates the
 * chunk is steered (results.c); alone, prompts get the chunk that the backend likes best.
 *
 * Where the backend draws tokens itself, a step may be built while the one before it computes: the next token of a
 * generating request is then not known here yet, and its row has no tokens (backend.h).
 */
#include "engine/engine.h"

#include <string.h>

#define ROWS_GUESS   16u /* generating beside each other: from here on a look for guesses has to be worth its time */
#define SHARE_FACTOR 4u  /* times an equal share of a step's drafts that one row may take, */
#define SHARE_LEAST  4u  /* or this many */

/* ---- Where a request stands -------------------------------------------------------------------------------- */

/* Known tokens that no step has computed yet. */
static uint32_t known_left(const struct slot *s) {
    return s->request->n_tokens > s->n_past ? s->request->n_tokens - s->n_past : 0;
}

/* The next token to compute is the last one generated, or on its way. */
static bool is_generating(const struct slot *s) {
    return s->n_past >= s->request->n_prompt && known_left(s) <= 1;
}

/* Known tokens of the role that comes next, without those shared out already. */
static uint32_t chunk_left(const struct slot *s) {
    const sluice_request *r = s->request;
    uint32_t end = s->n_past < r->n_prompt ? r->n_prompt : r->n_tokens;
    return is_generating(s) ? 0 : end - s->n_past - s->share;
}

/* ---- Rows -------------------------------------------------------------------------------------------------- */

static void add_row(sluice_engine *e, struct step *st, struct slot *s, uint32_t n_tokens, uint32_t n_drafts) {
    sluice_request *r = s->request;
    uint32_t end = s->n_past + n_tokens - n_drafts;
    uint32_t n_outputs = end >= r->n_tokens ? 1 + n_drafts : 0;
    bool draws = e->caps->samples && request_generated(r) >= r->n_forced;
    st->owners[st->n_rows] = (struct owner){.slot = s, .epoch = s->epoch};
    st->rows[st->n_rows++] = (struct backend_row){.slot = s->id,
                                                  .first_pos = s->n_past,
                                                  .n_tokens = n_tokens,
                                                  .tokens = known_left(s) > 0 ? r->tokens + s->n_past : NULL,
                                                  .pages = s->pages,
                                                  .resume = s->resume,
                                                  .generated = s->n_past >= r->n_prompt,
                                                  .n_drafts = n_drafts,
                                                  .n_outputs = n_outputs,
                                                  .rules = draws ? &r->rules : NULL};
    st->n_tokens += n_tokens;
    st->n_drafts += n_drafts;
    st->n_outputs += n_outputs;
    st->n_prefill += is_generating(s) ? 0 : n_tokens;
    s->resume = false;
}

static void drop_row(struct step *st, const struct slot *s) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < st->n_rows; i++) {
        if (st->owners[i].slot == s) {
            st->n_tokens -= st->rows[i].n_tokens;
            st->n_drafts -= st->rows[i].n_drafts;
            st->n_outputs -= st->rows[i].n_outputs;
        } else {
            st->rows[kept] = st->rows[i];
            st->owners[kept++] = st->owners[i];
        }
    }
    st->n_rows = kept;
}

/* Pages for n positions of s, if need be from the youngest requests. False: s is the youngest, and has what there is. */
static bool reserve(sluice_engine *e, struct step *st, struct slot *s, uint32_t n) {
    while (!slot_reserve(e, s, n)) {
        struct slot *youngest = e->running[e->n_running - 1];
        if (youngest == s) {
            return false;
        }
        drop_row(st, youngest);
        admit_preempt(e, youngest);
    }
    return true;
}

/* For want of a page s waits again. Alone it fits, unless it holds pages twice: then it begins anew with the tree's ones,
 * but not before a token that is on its way has come, or it would never get further. */
static void give_way(sluice_engine *e, struct slot *s) {
    if (e->n_running > 1 || (s->n_twins > 0 && s->n_due == 0)) {
        admit_preempt(e, s);
    }
}

/* ---- Generating -------------------------------------------------------------------------------------------- */

/* Looks for what may follow the last token; it then stands behind it in the request's tokens. Returns how much of it is
 * worth verifying. */
static uint32_t guess(sluice_engine *e, const struct step *st, struct slot *s) {
    sluice_request *r = s->request;
    uint32_t rows = e->n_running;
    uint32_t share = SHARE_FACTOR * e->info.draft_max / rows; /* of the step's drafts; few rows have a guess at once */
    uint32_t limits[] = {share > SHARE_LEAST ? share : SHARE_LEAST, DRAFT_TOKENS_MAX,
                         e->caps->step_drafts_max - st->n_drafts, e->caps->step_tokens_max - rows - st->n_drafts,
                         r->max_new - request_generated(r) - 1};
    uint32_t most = UINT32_MAX;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        most = limits[i] < most ? limits[i] : most;
    }
    uint32_t n_step = rows + st->n_drafts;
    s->match = 0;
    if (!s->index || r->no_draft || most == 0) {
        return 0;
    }
    if (rows > ROWS_GUESS && draft_worth(&s->drafts, &e->draft_costs, DRAFT_MATCH_MAX, most, n_step) == 0) {
        return 0; /* not even a long match would be */
    }
    sluice_error ignored;
    if (request_reserve(r, most, &ignored) != SLUICE_OK) {
        return 0;
    }
    uint32_t found = draft_index_find(s->index, r->tokens, r->n_tokens, most, r->tokens + r->n_tokens, &s->match);
    s->match = found > 0 ? s->match : 0;
    return draft_worth(&s->drafts, &e->draft_costs, s->match, found, n_step);
}

bool batch_would_guess(sluice_engine *e, struct slot *s) {
    struct step none = {0};
    bool done = request_generated(s->request) + s->n_due >= s->request->max_new;
    return !done && guess(e, &none, s) > 0;
}

static void add_generating(sluice_engine *e, struct step *st, struct slot *s, bool beside_prompts) {
    sluice_request *r = s->request;
    bool known = known_left(s) > 0;
    if (s->drafts_due || request_generated(r) + s->n_due >= r->max_new) {
        return;
    }
    if (!known && (s->may_draft || request_generated(r) < r->n_forced)) {
        return; /* what follows depends on the token that is on its way: a guess, penalties, a given token's place */
    }
    if (!reserve(e, st, s, s->n_past + 1)) {
        give_way(e, s);
        return;
    }
    uint32_t n_drafts = known && !beside_prompts ? guess(e, st, s) : 0;
    if (n_drafts > 0 && !slot_reserve(e, s, s->n_past + 1 + n_drafts)) { /* nobody gives way to a guess */
        n_drafts = s->n_pages * KV_PAGE_TOKENS - s->n_past - 1;
    }
    s->may_draft = n_drafts > 0;
    add_row(e, st, s, 1 + n_drafts, n_drafts);
}

/* ---- Prompts ----------------------------------------------------------------------------------------------- */

/* A running request that is at the very page that s would compute next, or gets it in this step. */
static struct slot *computing_same(const sluice_engine *e, const struct slot *s) {
    const sluice_request *r = s->request;
    uint32_t begin = s->n_filed * KV_PAGE_TOKENS;
    if (r->no_cache || s->n_past != begin || begin + KV_PAGE_TOKENS >= r->n_tokens) {
        return NULL;
    }
    for (uint32_t i = 0; i < e->n_running; i++) {
        struct slot *x = e->running[i];
        const sluice_request *other = x->request;
        if (x != s && x->node == s->node && x->n_filed == s->n_filed && x->n_past + x->share > begin &&
            !other->no_cache && begin + KV_PAGE_TOKENS <= other->n_tokens &&
            memcmp(other->tokens + begin, r->tokens + begin, KV_PAGE_TOKENS * sizeof *r->tokens) == 0) {
            return x;
        }
    }
    return NULL;
}

static uint32_t take(struct slot *s, uint32_t tokens) {
    uint32_t left = chunk_left(s);
    uint32_t n = tokens < left ? tokens : left;
    s->share += n;
    return n;
}

/* Gives s up to `tokens` tokens, or the one that computes its next page for it. Returns how many were taken. */
static uint32_t give(sluice_engine *e, struct slot *s, uint32_t tokens) {
    struct slot *x = s->share == 0 ? computing_same(e, s) : NULL;
    if (!x) {
        return take(s, tokens);
    }
    s->rides = true;
    uint32_t end = s->n_past + KV_PAGE_TOKENS;
    uint32_t at = x->n_past + x->share;
    return at < end ? take(x, tokens < end - at ? tokens : end - at) : 0;
}

/* The prompt with the fewest tokens to go that can use more; the older one of equals. */
static struct slot *shortest_prompt(const sluice_engine *e) {
    struct slot *best = NULL;
    uint32_t least = UINT32_MAX;
    for (uint32_t i = 0; i < e->n_running; i++) {
        struct slot *s = e->running[i];
        if (!s->rides && chunk_left(s) > 0 && known_left(s) - s->share < least) {
            best = s;
            least = known_left(s) - s->share;
        }
    }
    return best;
}

/* Divides `budget` tokens among the prompts and adds their rows. */
static void add_prompts(sluice_engine *e, struct step *st, uint32_t budget) {
    uint32_t left = budget;
    for (uint32_t i = 0; i < e->n_running; i++) {
        if (chunk_left(e->running[i]) > 0) {
            left -= give(e, e->running[i], budget / 4);
            break;
        }
    }
    for (struct slot *s; left > 0 && (s = shortest_prompt(e));) {
        left -= give(e, s, left);
    }
    for (uint32_t i = 0; i < e->n_running; i++) {
        struct slot *s = e->running[i];
        if (s->share > 0 && !reserve(e, st, s, s->n_past + s->share)) {
            uint32_t held = s->n_pages * KV_PAGE_TOKENS - s->n_past;
            s->share = held < s->share ? held : s->share;
            if (s->share == 0 && e->n_running == 1) {
                give_way(e, s);
                return;
            }
        }
        if (s->share > 0) {
            add_row(e, st, s, s->share, 0);
        }
    }
}

/* ---- The step ---------------------------------------------------------------------------------------------- */

bool batch_build(sluice_engine *e, struct step *st) {
    st->n_rows = st->n_tokens = st->n_prefill = st->n_drafts = st->n_outputs = 0;
    bool prompts = false;
    for (uint32_t i = 0; i < e->n_running; i++) {
        struct slot *s = e->running[i];
        s->share = 0;
        s->rides = false;
        if (!is_generating(s)) {
            uint32_t from = s->n_past;
            slot_leap(e, s);
            slot_count(e, s, from, s->n_past, true);
            prompts = prompts || !is_generating(s);
        }
    }
    for (uint32_t i = 0; i < e->n_running; i++) {
        if (is_generating(e->running[i])) {
            add_generating(e, st, e->running[i], prompts);
        }
    }
    if (prompts) {
        uint32_t chunk = st->n_rows > 0 ? e->chunk_beside_decode : e->info.prefill_chunk;
        uint32_t room = e->caps->step_tokens_max - st->n_tokens;
        add_prompts(e, st, chunk < room ? chunk : room);
    }
    return st->n_rows > 0;
}
