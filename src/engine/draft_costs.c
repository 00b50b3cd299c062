/*
 * What steps cost, learned while they are made.
 *
 * A prior says what verifying k tokens costs a mixture of 4 of 32 experts where memory decides (experts touched under
 * uniform routing). It errs on the dear side for dense models, which is found out by measuring, and on the cheap side
 * for small machines where arithmetic decides; there the first sizes measured raise the estimate of all larger ones.
 *
 * All arithmetic is on logarithms: what disturbs a step multiplies its time. Steps of other sizes than the nodes move
 * the two nodes around them.
 */
#include "engine/draft.h"

#include <math.h>
#include <string.h>

/* Of a step of 2^i tokens: weight and cache bytes up to 64, then more and more arithmetic. */
static const double prior[DRAFT_COST_NODES] = {1, 1.52, 2.38, 3.54, 4.62, 5.12, 5.8, 7.5, 11, 20, 38, 75};

#define PRIOR_STEPS  0.5          /* steps that the prior counts as */
#define WEIGHT_MAX   32.0         /* steps that an estimate stands on at most, so that it keeps moving */
#define WEIGHT_FADE  (1.0 / 2048) /* per step: what was not seen for thousands of steps is a rumour again */
#define UNIT_RATE    0.06         /* of a plain step's surprise that the unit follows; more of the first in a while */
#define JUMP         0.3          /* a median this far off is another state of the machine, not jitter */
#define SURPRISE_MAX 0.35         /* above usual jitter, so that a step hit by something else counts little */
#define SURPRISE_NEW 1.0          /* where a size is new all of a surprise up to this counts; above, it was hit */

struct place { /* between two nodes */
    uint32_t node;
    double up; /* share of the next node; above 1 beyond the last */
};

static struct place place_of(uint32_t n_tokens) { /* n_tokens >= 1 */
    uint32_t node = 31u - (uint32_t)__builtin_clz(n_tokens);
    node = node < DRAFT_COST_NODES - 2 ? node : DRAFT_COST_NODES - 2;
    double low = (double)(1u << node);
    return (struct place){node, ((double)n_tokens - low) / low};
}

static double at(const double *nodes, struct place p) {
    return nodes[p.node] * (1 - p.up) + nodes[p.node + 1] * p.up;
}

double draft_costs_of(const struct draft_costs *costs, uint32_t n_tokens) {
    return n_tokens == 0 ? 0 : at(costs->ns, place_of(n_tokens));
}

double draft_costs_known(const struct draft_costs *costs, uint32_t n_tokens) {
    struct place p = place_of(n_tokens);
    double up = fmin(p.up, 1), low = 1 - up;
    double variance =
        low * low / (costs->weight[p.node] + PRIOR_STEPS) + up * up / (costs->weight[p.node + 1] + PRIOR_STEPS);
    return fmax(1 / variance - PRIOR_STEPS, 0);
}

uint32_t draft_costs_since(const struct draft_costs *costs, uint32_t n_tokens) {
    uint32_t past = 0;
    while (past < DRAFT_SIZES && costs->sizes[(costs->n_steps - 1 - past) % DRAFT_SIZES] - 1 >= n_tokens) {
        past++; /* 0, no step yet, is above all */
    }
    return past;
}

/* Estimates at the nodes. What a node was seen to cost is weighed against what the smaller ones let expect: the same
 * ratio to the prior as there, and where that ratio grows from node to node, growing on. */
static void estimate(struct draft_costs *costs) {
    double growth = 0, *ns = costs->ns;
    for (uint32_t i = 1; i < DRAFT_COST_NODES; i++) {
        double weight = costs->weight[i], both = fmin(weight, costs->weight[i - 1]);
        costs->expected[i] = costs->ratio[i - 1] + fmax(growth, 0);
        costs->ratio[i] = (weight * costs->seen[i] + PRIOR_STEPS * costs->expected[i]) / (weight + PRIOR_STEPS);
        growth = (costs->ratio[i] - costs->ratio[i - 1]) * both / (both + DRAFT_SETTLED); /* of a rumour, no trend */
    }
    for (uint32_t i = 0; i < DRAFT_COST_NODES; i++) {
        ns[i] = exp(costs->unit + costs->ratio[i]) * prior[i];
    }
    /* never dearer than a larger step: the better known of the two is right */
    for (uint32_t i = DRAFT_COST_NODES - 1; i > 0; i--) {
        ns[i - 1] = costs->weight[i] > costs->weight[i - 1] ? fmin(ns[i - 1], ns[i]) : ns[i - 1];
    }
    for (uint32_t i = 1; i < DRAFT_COST_NODES; i++) {
        ns[i] = fmax(ns[i], ns[i - 1]);
    }
}

static double surprise_of(const struct draft_costs *costs, struct place p, double took) {
    return took - log(at(costs->ns, p));
}

/* Where the median of the last plain steps has left the unit altogether, the unit goes there at once. */
static void follow_jump(struct draft_costs *costs, double surprise) {
    memmove(costs->recent, costs->recent + 1, (DRAFT_RECENT - 1) * sizeof costs->recent[0]);
    costs->recent[DRAFT_RECENT - 1] = costs->unit + surprise;
    double sorted[DRAFT_RECENT];
    for (uint32_t i = 0; i < DRAFT_RECENT; i++) {
        uint32_t to = i;
        for (; to > 0 && sorted[to - 1] > costs->recent[i]; to--) {
            sorted[to] = sorted[to - 1];
        }
        sorted[to] = costs->recent[i];
    }
    double median = sorted[DRAFT_RECENT / 2];
    if (costs->recent[0] != 0 && fabs(median - costs->unit) > JUMP) {
        costs->unit = median;
        estimate(costs);
    }
}

/* Of a step of a known size: is the machine still what it was? */
static void watch(struct draft_costs *costs, struct place p, bool plain, double took) {
    if (plain) {
        follow_jump(costs, surprise_of(costs, p, took));
    }
    bool odd = fabs(surprise_of(costs, p, took)) > JUMP;
    costs->doubt = odd || (costs->doubt && !plain);
}

static void learn_single(struct draft_costs *costs, double took, double follow) {
    double weight = costs->weight[0];
    if (weight == 0 || (weight < DRAFT_SETTLED && took < costs->unit)) {
        for (uint32_t i = 1; i < DRAFT_COST_NODES; i++) {
            costs->seen[i] -= took - costs->unit; /* larger steps still cost what they cost */
        }
        costs->unit = took; /* the first steps find caches cold: the least of them is nearest */
    } else if (weight >= DRAFT_SETTLED) {
        costs->unit += follow;
    }
    costs->weight[0] = fmin(weight + 1, WEIGHT_MAX);
}

/* Moves the two nodes around the step, each as far as it is uncertain and as the step depends on it: a Kalman filter
 * that neglects how their errors hang together. Variances are in units of one step's jitter. */
static void learn_larger(struct draft_costs *costs, struct place p, double surprise) {
    double up = fmin(p.up, 1), whole = costs->ns[p.node] * (1 - up) + costs->ns[p.node + 1] * up, all = 1;
    double part[2] = {1 - up, up}, variance[2];
    for (int i = 0; i < 2; i++) {
        part[i] *= costs->ns[p.node + i] / whole;
        variance[i] = 1 / (costs->weight[p.node + i] + PRIOR_STEPS);
        all += part[i] * part[i] * variance[i];
    }
    for (int i = 0; i < 2; i++) {
        uint32_t n = p.node + (uint32_t)i;
        double gain = part[i] * variance[i] / all;
        double weight = fmin(1 / (variance[i] * (1 - gain * part[i])) - PRIOR_STEPS, WEIGHT_MAX);
        if (part[i] > 0 && weight > 0) {
            double ratio = log(costs->ns[n] / prior[n]) - costs->unit + gain * surprise;
            costs->seen[n] = (ratio * (weight + PRIOR_STEPS) - costs->expected[n] * PRIOR_STEPS) / weight;
            costs->weight[n] = weight;
        }
    }
}

/* How much of a step's surprise is that of all steps. The smallest steps there are decide: they hold no drafts, so that
 * neither is a new size taken for a slow machine nor the other way round. */
static double common_part(const struct draft_costs *costs, uint32_t n_tokens, bool plain, double surprise) {
    double known = draft_costs_known(costs, n_tokens);
    double rate = fmax(UNIT_RATE * (1 + draft_costs_since(costs, n_tokens) / 8.0), n_tokens == 1 ? 1 / (1 + known) : 0);
    return plain ? surprise * rate * (n_tokens == 1 ? 1 : known / (known + 2 * DRAFT_SETTLED)) : 0;
}

void draft_costs_learn(struct draft_costs *costs, uint32_t n_tokens, uint64_t ns) {
    if (n_tokens == 0 || ns == 0) {
        return;
    }
    struct place p = place_of(n_tokens);
    double took = log((double)ns), known = draft_costs_known(costs, n_tokens);
    if (costs->ns[0] == 0) {
        costs->unit = took - log(at(prior, p));
        estimate(costs);
    } else if (n_tokens > 1 && costs->weight[0] == 0 && known < DRAFT_SETTLED) {
        costs->unit += fmin(surprise_of(costs, p, took), 0); /* as in learn_single */
        estimate(costs);
    }
    for (uint32_t i = 0; i < DRAFT_COST_NODES; i++) {
        costs->weight[i] *= 1 - WEIGHT_FADE;
    }
    bool settled = known >= DRAFT_SETTLED, plain = draft_costs_since(costs, n_tokens - 1) == DRAFT_SIZES;
    if (settled) {
        watch(costs, p, plain, took);
    }
    double surprise = surprise_of(costs, p, took);
    if (settled || n_tokens == 1 || surprise > SURPRISE_NEW) {
        surprise = fmin(surprise, SURPRISE_MAX);
    }
    surprise = fmax(surprise, -SURPRISE_MAX); /* cheapness is believed in small steps */
    double common = common_part(costs, n_tokens, plain, surprise);
    if (n_tokens == 1) {
        learn_single(costs, took, common);
    } else {
        learn_larger(costs, p, surprise - common);
        costs->unit += common;
    }
    costs->sizes[costs->n_steps++ % DRAFT_SIZES] = n_tokens;
    costs->last_n = n_tokens;
    costs->last_ns = (double)ns;
    estimate(costs);
}
