/*
 * Guessing what comes next from what was said before: the longest earlier occurrence of the last few tokens, and what
 * followed it. A guess costs nothing but the step that verifies it, and verification is exact, so the tokens of an
 * answer never depend on anything in this file; only its speed does.
 *
 * Two parts. The index finds a continuation in one request's tokens. The policy decides how much of it is worth
 * verifying, from what steps of n tokens were measured to cost on this engine and from how often this request's guesses
 * came true. Neither uses clocks or randomness: both are functions of what they were told. One thread at a time each.
 *
 * One step of one request:
 *   found = draft_index_find(..., out, &match)       every step: guesses that are not verified teach too
 *   k = draft_worth(record, costs, match, found, n)  verify out[0..k) or, with 0, nothing
 *   (the step)
 *   draft_costs_learn(costs, n + k, ns)              if the step held only generating rows
 *   draft_record_learn(...)                          always, k = 0 included
 */
#ifndef ENGINE_DRAFT_H
#define ENGINE_DRAFT_H

#include "base/limits.h"
#include "sluice.h"

#define DRAFT_TOKENS_MAX LIMIT_DRAFTS

/* ---- The index: one per slot, reused by request after request ---- */

#define DRAFT_MATCH_MIN  3u  /* a recurrence shorter than this is no guess */
#define DRAFT_MATCH_LONG 8u  /* from here on in a chain of their own, so that common short ones cannot hide them */
#define DRAFT_MATCH_MAX  64u /* longer ones count as this long */
#define DRAFT_CANDIDATES 32u /* looked at per chain, the latest ones; what shares a hash bucket by chance counts too */

struct draft_index; /* hash chains over the n-grams of the tokens seen */

/* For up to n_tokens tokens of history. All memory it will ever need (about 24 bytes per token, none of it touched
 * before use); SLUICE_E_NOMEM. */
sluice_status draft_index_create(uint32_t n_tokens, struct draft_index **out, sluice_error *err);
void draft_index_free(struct draft_index *index); /* NULL is fine */
/* Forgets everything: a new request begins. Cheap beside its prefill. */
void draft_index_reset(struct draft_index *index);
/* Looks in tokens[0..n) (the same array as before, n at least as great) for the longest, then latest, earlier
 * occurrence of its end; takes in what is new first. Copies up to `most` tokens that followed it to out (which may lie
 * right behind the n tokens) and returns how many; where the history ends before that, the guess is that it repeats: a
 * period goes on for ever. *match is the length of the occurrence in tokens. 0 if nothing of a useful length recurs.
 * Under a microsecond, and about 30 ns per new token. Tokens beyond the capacity of the index are matched but not
 * remembered. */
uint32_t draft_index_find(struct draft_index *index, const int32_t *tokens, uint32_t n, uint32_t most, int32_t *out,
                          uint32_t *match);

/* ---- The policy ---- */

#define DRAFT_COST_NODES 12u /* steps of 1, 2, 4, ... 2048 tokens; linear between them and beyond */
#define DRAFT_SETTLED    4.0 /* steps of about a size from which on its cost is more than a rumour */
#define DRAFT_RECENT     5u  /* steps without drafts that tell whether the machine is still what it was */
#define DRAFT_SIZES      32u /* steps whose sizes are remembered; in so many, one at least holds no drafts */

/* What a step of n tokens costs on this engine, learned from the steps it makes: the time of a one-token step, and how
 * many times longer larger ones take. The two are apart so that whatever slows all steps (a busy machine, a lower
 * clock, a longer context) is learned from any of them. All zero = nothing known. */
struct draft_costs {
    double unit;                       /* log ns of a one-token step, running */
    double recent[DRAFT_RECENT];       /* what the last steps without drafts say it is */
    bool doubt;                        /* something else was measured just now than expected */
    double seen[DRAFT_COST_NODES];     /* log (relative cost / prior), as measured; [0] of each is 0 */
    double weight[DRAFT_COST_NODES];   /* steps behind it, fading */
    double expected[DRAFT_COST_NODES]; /* the same, judging by smaller steps */
    double ratio[DRAFT_COST_NODES];    /* the two weighed */
    double ns[DRAFT_COST_NODES];       /* what follows: the estimates at the nodes. 0 before the first step */
    uint32_t sizes[DRAFT_SIZES];       /* tokens of the last steps, a ring */
    uint32_t n_steps;
    uint32_t last_n; /* the last step: tokens, ns */
    double last_ns;
};

/* A step of nothing but generating rows, n_tokens in all, took ns. */
void draft_costs_learn(struct draft_costs *costs, uint32_t n_tokens, uint64_t ns);
/* Estimated ns of a step of n tokens; between and beyond what was measured, a cautious interpolation. 0 before the
 * first measured step. */
double draft_costs_of(const struct draft_costs *costs, uint32_t n_tokens);

/* For the policy: how many steps of just this size the estimate is as good as, */
double draft_costs_known(const struct draft_costs *costs, uint32_t n_tokens);
/* and how many steps ago one of at most n_tokens was made; DRAFT_SIZES if none of those remembered is one. */
uint32_t draft_costs_since(const struct draft_costs *costs, uint32_t n_tokens);

#define DRAFT_CLASSES 6u /* matches of 3, 4-5, 6-8, 9-15, 16-31, 32 and more tokens */

/* How one request's guesses fared. */
struct draft_record {
    float held[DRAFT_CLASSES], seen[DRAFT_CLASSES]; /* guessed tokens by length of the match before them, fading */
    /* What trying may still lose, in tokens of plain decode: grows a little with every token generated and by what
     * right drafts saved, shrinks by what wrong ones cost. No draft is made that could cost more, so that the request
     * as a whole loses at most what it began with and what it grew by, as far as costs are known. */
    double credit;
};

void draft_record_reset(struct draft_record *record);
/* How many of n_found guessed tokens behind a match of this length are worth verifying in a step that computes n_step
 * tokens anyway (this row's own one and those of all other rows). 0: not worth it. At most DRAFT_TOKENS_MAX. */
uint32_t draft_worth(const struct draft_record *record, const struct draft_costs *costs, uint32_t match,
                     uint32_t n_found, uint32_t n_step);
/* After every step in which the row generated. n_step: tokens of the whole step; n_drafts of them were this request's
 * guesses behind a match, n_accepted of which held. A step without drafts (n_drafts 0) earns credit and teaches too:
 * n_accepted is then 1 if the first token found is what the model said, 0 if not; match is 0 if nothing was found (or
 * the caller did not look). */
void draft_record_learn(struct draft_record *record, const struct draft_costs *costs, uint32_t match, uint32_t n_drafts,
                        uint32_t n_accepted, uint32_t n_step);

#endif
