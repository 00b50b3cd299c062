/*
 * What a guess is worth: the tokens it is expected to bring against the time that the larger step takes.
 *
 * Chances. A guess's next token holds with a chance that depends on how long a stretch agreed before it; every accepted
 * token makes that stretch longer. Learned per request from every guess the index makes, verified or not.
 *
 * Credit. A draft is made only when the request can afford that all of it is wrong. This bounds the loss whatever the
 * text does; the chances merely make it rare.
 */
#include "engine/draft.h"

#include <math.h>

/* ---- Chances ---- */

/* First token of a class, and what is believed of it before this request has shown anything. */
static const struct {
    uint32_t from;
    float chance;
} classes[DRAFT_CLASSES] = {{0, 0.25f}, {4, 0.4f}, {6, 0.6f}, {9, 0.8f}, {16, 0.92f}, {32, 0.96f}};

#define BELIEF 4.0f            /* tokens that the prior counts as */
#define FADE   (31.0f / 32.0f) /* per token: text changes */

static uint32_t class_of(uint32_t match) {
    uint32_t c = 0;
    while (c + 1 < DRAFT_CLASSES && match >= classes[c + 1].from) {
        c++;
    }
    return c;
}

/* What was seen, mixed with what is believed beforehand: of a longer match no less than of a shorter one. */
static void chances(const struct draft_record *record, double chance[DRAFT_CLASSES]) {
    double shorter = 0;
    for (uint32_t c = 0; c < DRAFT_CLASSES; c++) {
        double belief = fmax(classes[c].chance, shorter);
        chance[c] = (record->held[c] + BELIEF * belief) / (record->seen[c] + BELIEF);
        shorter = chance[c];
    }
}

static void learn_chance(struct draft_record *record, uint32_t match, bool held) {
    uint32_t c = class_of(match);
    record->held[c] = record->held[c] * FADE + (held ? 1 : 0);
    record->seen[c] = record->seen[c] * FADE + 1;
}

/* ---- Credit ---- */

#define CREDIT_START  1.0    /* a first draft of two tokens; with what follows, under 1.5% of 150 tokens */
#define CREDIT_GROWTH 0.008  /* per token generated */
#define CREDIT_MIN    (-2.0) /* made good in a few hundred tokens */
#define CREDIT_MAX    16.0 /* what earlier success may pay for: enough for the longest drafts where they are any use */
#define MARGIN        1.1  /* expected gain over cost: both are estimates */
#define MARGIN_ROW    0.02 /* more per token of the step: what a few tokens add to many drowns in their jitter */
#define MARGIN_ROWS   15   /* up to so many */
#define GAIN_MIN      0.02 /* tokens: less is not worth the trouble of a rewind */
#define PLAIN_LEAST   3.0  /* steps, at most, without one that holds no drafts, where drafts gain next to nothing */
#define PLAIN_GROWTH  16.0 /* and how many more per token that a draft is expected to save */
#define EXTRA_MIN     0.03 /* of a step's cost: no larger one is free, whatever was measured */
#define KNOWN         1.9  /* steps of a size, faded a little: enough to try larger ones from */
#define BILL_MAX      1.8  /* times the estimate: enough to be told from jitter; a step can be hit by anything */

/* Where steps begin to be larger than any measured: their tokens may cost as much as those up to there. */
struct frontier {
    uint32_t n_tokens;
    double per_token; /* ns */
};

static struct frontier frontier(const struct draft_costs *costs) {
    uint32_t top = 0;
    for (uint32_t i = 0; i < DRAFT_COST_NODES; i++) {
        top = costs->weight[i] >= KNOWN ? i : top;
    }
    return (struct frontier){1u << top, costs->ns[top] / (1u << top)};
}

/* What a step just made is billed at: the estimate, which jitter does not touch, or, where that is still a rumour, what
 * was measured if it was more. */
static double bill(const struct draft_costs *costs, uint32_t n_step) {
    double estimate = draft_costs_of(costs, n_step);
    if (costs->last_n != n_step || draft_costs_known(costs, n_step) >= DRAFT_SETTLED) {
        return estimate;
    }
    return fmax(estimate, fmin(costs->last_ns, estimate * BILL_MAX));
}

void draft_record_reset(struct draft_record *record) {
    *record = (struct draft_record){.credit = CREDIT_START};
}

uint32_t draft_worth(const struct draft_record *record, const struct draft_costs *costs, uint32_t match,
                     uint32_t n_found, uint32_t n_step) {
    uint32_t most = n_found < DRAFT_TOKENS_MAX ? n_found : DRAFT_TOKENS_MAX, best = 0, c = class_of(match);
    if (match == 0 || most == 0 || n_step == 0 || n_step > UINT32_MAX - DRAFT_TOKENS_MAX ||
        draft_costs_known(costs, n_step) < DRAFT_SETTLED - 1) {
        return 0;
    }
    uint32_t past = draft_costs_since(costs, n_step);
    if (past > 0 && costs->doubt) {
        return 0; /* something was odd: a plain step tells what */
    }
    double plain = draft_costs_of(costs, n_step), value = plain / n_step, best_rate = 1 / value, best_net = 0;
    double all = 1, expected = 0, chance[DRAFT_CLASSES];
    struct frontier known = frontier(costs);
    double margin = MARGIN + MARGIN_ROW * fmin(n_step - 1, MARGIN_ROWS);
    chances(record, chance);
    for (uint32_t k = 1; k <= most; k++) {
        double cost = draft_costs_of(costs, n_step + k), extra = fmax(cost - plain, EXTRA_MIN * plain);
        double dearest = n_step + k <= known.n_tokens ? cost : known.per_token * (n_step + k);
        if (dearest - plain > record->credit * value) {
            break;
        }
        c += c + 1 < DRAFT_CLASSES && match + k - 1 >= classes[c + 1].from;
        all *= chance[c];
        expected += all;
        double gain = expected * value, rate = (n_step + expected) / cost;
        bool pays = rate > best_rate && gain >= margin * extra + GAIN_MIN * value;
        if (pays && (past == 0 || draft_costs_known(costs, n_step + k) >= DRAFT_SETTLED)) {
            best = k; /* between the first steps of a new size, a plain one */
            best_rate = rate;
            best_net = (gain - extra) / value;
        }
    }
    /* what drafts save is hearsay unless plain steps are measured too, the more often the smaller the gain */
    return past < fmin(DRAFT_SIZES, PLAIN_LEAST + PLAIN_GROWTH * best_net) ? best : 0;
}

void draft_record_learn(struct draft_record *record, const struct draft_costs *costs, uint32_t match, uint32_t n_drafts,
                        uint32_t n_accepted, uint32_t n_step) {
    if (n_drafts == 0 && match > 0) {
        learn_chance(record, match, n_accepted > 0);
    }
    match = match < DRAFT_MATCH_MAX ? match : DRAFT_MATCH_MAX;
    n_accepted = n_accepted < n_drafts ? n_accepted : n_drafts;
    for (uint32_t i = 0; i < n_accepted; i++) {
        learn_chance(record, match + i, true);
    }
    if (n_accepted < n_drafts) {
        learn_chance(record, match + n_accepted, false);
    }
    double earned = CREDIT_GROWTH * (1 + n_accepted);
    uint32_t plain_tokens = n_step > n_drafts ? n_step - n_drafts : 1;
    double plain = draft_costs_of(costs, plain_tokens);
    if (n_drafts > 0 && plain > 0) {
        earned += n_accepted - (bill(costs, n_step) - plain) / (plain / plain_tokens);
    }
    record->credit = fmax(fmin(record->credit + earned, CREDIT_MAX), CREDIT_MIN);
}
