/*
 * A comparison of two targets, computed again: the values of a block from its requests, its ratio from the values, and from
 * the ratios of all blocks the estimate (Hodges and Lehmann), its interval (Wilcoxon's signed ranks) and the verdict.
 */
#include "base/mem.h"
#include "base/stats.h"
#include "base/status.h"
#include "record/check.h"

#include <json-c/json.h>
#include <math.h>
#include <string.h>

enum {
    BLOCKS_MAX = 1024, /* of a comparison that is computed again: the square of them is held at once */
    METRICS = 5,
    STREAMS_MAX = 256,
};
#define TAIL      0.015 /* of the signed ranks on either side of an interval: docs/records.md says why it is not 0.025 */
#define POWER     (0.84 + 1.96) /* standard errors of an effect that four of five runs find at 5% */
#define HALF_OF   1.96          /* standard errors that half an interval stands for */
#define ROUND_REL 2e-4          /* what times rounded to the microsecond change of a rate */

static const struct {
    const char *name;
    bool more_is_better;
} metrics[METRICS] = {
    {"decode_tok_s", true}, {"prefill_tok_s", true},   {"ttft_ms", false},
    {"latency_ms", false},  {"aggregate_tok_s", true},
};

static bool near(double a, double b) {
    return fabs(a - b) <= 2e-6 * fmax(fabs(a), fabs(b)) + 1e-9;
}

#define WRONG(x, ...)                                                                                                  \
    check_add((x)->check, FINDING_WRONG, (x)->line->number, record_text((x)->line->tree, "row"), __VA_ARGS__)

/* ---- Blocks */

/* What one request of a turn says of a metric; NAN unknown. */
static double sample_value(struct json_object *s, int metric) {
    double first = record_number(s, "first_token_ms"), last = record_number(s, "last_token_ms");
    double tokens = record_number(s, "output_tokens"), cached = record_number(s, "cached_tokens");
    double lateness = record_number(s, "send_ms") - record_number(s, "intended_ms");
    double v[METRICS] = {
        1000 * (tokens - 1) / (last - first),
        1000 * (record_number(s, "prompt_tokens") - (isnan(cached) ? 0 : cached)) / first,
        first,
        record_number(s, "end_ms") + (isnan(lateness) ? 0 : lateness),
        NAN,
    };
    return record_true(s, "ok") && isfinite(v[metric]) ? v[metric] : NAN;
}

/* The turn's value: the mean over its requests, and of the rate of all together tokens over time. */
static double turn_value(struct json_object **s, size_t n, int metric) {
    double sum = 0, tokens = 0, send = INFINITY, end = 0;
    for (size_t i = 0; i < n; i++) {
        sum += sample_value(s[i], metric);
        tokens += record_number(s[i], "output_tokens");
        send = fmin(send, record_number(s[i], "send_ms"));
        end = fmax(end, record_number(s[i], "send_ms") + record_number(s[i], "end_ms"));
    }
    return metric == METRICS - 1 ? 1000 * tokens / (end - send) : sum / (double)n;
}

/* The requests of a target's turn (0, 1) in the block whose pair is at hand: those since the block before it. */
static size_t find_turn(const struct check_context *x, int target, int turn, struct json_object *out[STREAMS_MAX]) {
    const struct record_line *lines = x->run->lines;
    size_t at = (size_t)(x->line - lines), from, n = 0;
    while (at > 0 && lines[at - 1].kind == RECORD_PAIR) {
        at--;
    }
    for (from = at; from > 0 && lines[from - 1].kind == RECORD_SAMPLE; from--) {
    }
    double run = NAN;
    int seen = -1;
    for (size_t i = from; i < at; i++) {
        struct json_object *s = lines[i].tree;
        if (record_number(s, "target") != target || record_true(s, "warmup")) {
            continue;
        }
        if (!(record_number(s, "run") == run)) {
            run = record_number(s, "run");
            seen++;
        }
        if (seen == turn && n < STREAMS_MAX) {
            out[n++] = s;
        }
    }
    return n;
}

static void check_turns(const struct check_context *x) {
    struct json_object *turn[STREAMS_MAX];
    const char *name = record_text(x->line->tree, "metric");
    int metric = 0;
    while (metric < METRICS && strcmp(metrics[metric].name, name) != 0) {
        metric++;
    }
    for (int target = 0; metric < METRICS && target < 2; target++) {
        struct json_object *values = record_get(x->line->tree, target ? "b" : "a");
        for (int i = 0; i < (int)json_object_array_length(values); i++) {
            struct json_object *v = json_object_array_get_idx(values, (size_t)i);
            size_t n = find_turn(x, target, i, turn);
            double own = n ? turn_value(turn, n, metric) : NAN, said = v ? json_object_get_double(v) : NAN;
            if (!isnan(own) && !(fabs(said - own) <= ROUND_REL * fabs(own))) {
                WRONG(x, "block %.0f: turn %d of %s has %s %g; its requests give %g",
                      record_number(x->line->tree, "block"), i + 1, target ? "B" : "A", name, said, own);
            }
        }
    }
}

/* Mean of the logarithms; NAN where a value is null or not above zero. */
static double mean_log(struct json_object *values) {
    double sum = 0;
    size_t n = json_object_array_length(values);
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = json_object_array_get_idx(values, i);
        double d = v ? json_object_get_double(v) : NAN;
        sum += d > 0 ? log(d) : NAN;
    }
    return n ? sum / (double)n : NAN;
}

void check_pair(const struct check_context *x) {
    struct json_object *p = x->line->tree;
    double own = exp(mean_log(record_get(p, "b")) - mean_log(record_get(p, "a")));
    double ratio = record_number(p, "ratio");
    if (isnan(ratio) ? record_true(p, "valid") : !near(ratio, own)) {
        WRONG(x, "block %.0f: ratio %g; its values give %g", record_number(p, "block"), ratio, own);
    }
    if (!record_true(p, "valid") && !record_text(p, "reason")) {
        WRONG(x, "block %.0f is not valid, and no reason is given", record_number(p, "block"));
    }
    if (record_true(p, "valid")) {
        check_turns(x);
    }
}

/* ---- The outcome */

struct outcome {
    size_t n;                                   /* valid blocks */
    double ratio, interval[2], smallest_effect; /* NAN: none */
};

/* How many of the lowest means of two are outside the interval on its lower side: the sums of the ranks 1..n with random
 * signs are counted, and as many go as lie below TAIL. 0: even the lowest is too likely, there is no interval. */
static size_t cut_off(size_t n, double *ways) {
    size_t most = n * (n + 1) / 2, cut = 0;
    for (size_t s = 0; s <= most; s++) {
        ways[s] = s == 0;
    }
    for (size_t rank = 1; rank <= n; rank++) {
        for (size_t s = most + 1; s-- > 0;) {
            ways[s] = 0.5 * ways[s] + (s >= rank ? 0.5 * ways[s - rank] : 0);
        }
    }
    for (double below = ways[0]; below <= TAIL && cut <= most; below += ways[cut]) {
        cut++;
    }
    return cut;
}

/* From the logarithms of the blocks' ratios; room for 2 n (n + 1) / 2 + 1 numbers. */
static void estimate(const double *logs, struct outcome *o, double *means) {
    size_t n = o->n, m = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = i; k < n; k++) {
            means[m++] = 0.5 * (logs[i] + logs[k]);
        }
    }
    stats_sort(means, m);
    o->ratio = exp(stats_quantile_sorted(means, m, 0.5));
    size_t cut = cut_off(n, means + m);
    if (cut > 0) {
        o->interval[0] = exp(means[cut - 1]);
        o->interval[1] = exp(means[m - cut]);
        o->smallest_effect = exp(0.5 * (means[m - cut] - means[cut - 1]) * POWER / HALF_OF) - 1;
    }
}

/* The blocks that count, put together again. */
static sluice_status compute(const struct check_context *x, const char *row, const char *metric, struct outcome *o) {
    double *logs = mem_alloc((x->run->n_lines + 1) * sizeof *logs);
    double *means = NULL;
    *o = (struct outcome){.ratio = NAN, .interval = {NAN, NAN}, .smallest_effect = NAN};
    for (size_t i = 0; logs && i < x->run->n_lines; i++) {
        const struct record_line *p = &x->run->lines[i];
        if (p->kind == RECORD_PAIR && strcmp(record_text(p->tree, "row"), row) == 0 &&
            strcmp(record_text(p->tree, "metric"), metric) == 0 && record_true(p->tree, "valid")) {
            logs[o->n++] = mean_log(record_get(p->tree, "b")) - mean_log(record_get(p->tree, "a"));
        }
    }
    bool computable = logs && o->n > 0 && o->n <= BLOCKS_MAX;
    if (computable) {
        means = mem_alloc((o->n * (o->n + 1) + 1) * sizeof *means);
        if (means) {
            estimate(logs, o, means);
        }
    }
    bool ok = logs && (means || !computable);
    mem_free(logs);
    mem_free(means);
    return ok ? SLUICE_OK : fail(x->err, SLUICE_E_NOMEM, "no memory to check a comparison");
}

static void check_interval(const struct check_context *x, const struct outcome *own) {
    struct json_object *c = x->line->tree, *interval = record_get(c, "interval");
    double effect = record_number(c, "smallest_effect");
    if (!interval) {
        if (!isnan(own->interval[0])) {
            WRONG(x, "there is no interval; its %zu valid blocks give %g to %g", own->n, own->interval[0],
                  own->interval[1]);
        }
        return;
    }
    double lo = json_object_get_double(json_object_array_get_idx(interval, 0));
    double hi = json_object_get_double(json_object_array_get_idx(interval, 1));
    if (isnan(own->interval[0])) {
        WRONG(x, "an interval from %zu valid blocks, too few for its level", own->n);
    } else if (!near(lo, own->interval[0]) || !near(hi, own->interval[1])) {
        WRONG(x, "interval %g to %g; its %zu valid blocks give %g to %g", lo, hi, own->n, own->interval[0],
              own->interval[1]);
    } else if (!isnan(effect) && !near(effect, own->smallest_effect)) {
        WRONG(x, "smallest_effect %g; its interval gives %g", effect, own->smallest_effect);
    }
}

static void check_ab_verdict(const struct check_context *x) {
    struct json_object *c = x->line->tree, *interval = record_get(c, "interval");
    const char *verdict = record_text(c, "verdict"), *metric = record_text(c, "metric");
    bool better = strcmp(verdict, "better") == 0, worse = strcmp(verdict, "worse") == 0;
    if (!interval) {
        if (better || worse) {
            WRONG(x, "the verdict is \"%s\" without an interval", verdict);
        }
        return;
    }
    double lo = json_object_get_double(json_object_array_get_idx(interval, 0));
    double hi = json_object_get_double(json_object_array_get_idx(interval, 1));
    double ratio = record_number(c, "ratio");
    if (!(lo <= ratio && ratio <= hi)) {
        WRONG(x, "ratio %g lies outside its interval %g to %g", ratio, lo, hi);
    }
    if ((better || worse) && lo <= 1 && hi >= 1) {
        WRONG(x, "the verdict is \"%s\", and the interval %g to %g contains 1", verdict, lo, hi);
    }
    for (int m = 0; m < METRICS; m++) {
        if (strcmp(metrics[m].name, metric) == 0 && (lo > 1 || hi < 1)) {
            const char *own = (lo > 1) == metrics[m].more_is_better ? "better" : "worse";
            if (strcmp(own, verdict) != 0) {
                WRONG(x, "the verdict is \"%s\"; of %s an interval of %g to %g says \"%s\"", verdict, metric, lo, hi,
                      own);
            }
        }
    }
}

sluice_status check_comparison(const struct check_context *x) {
    struct json_object *c = x->line->tree;
    struct outcome own;
    TRY(compute(x, record_text(c, "row"), record_text(c, "metric"), &own));
    if ((double)own.n != record_number(c, "blocks")) {
        WRONG(x, "%.0f blocks; the record has %zu valid ones", record_number(c, "blocks"), own.n);
    } else if (!isnan(own.ratio)) {
        if (!near(record_number(c, "ratio"), own.ratio)) {
            WRONG(x, "ratio %g; its %zu valid blocks give %g", record_number(c, "ratio"), own.n, own.ratio);
        }
        check_interval(x, &own);
    }
    check_ab_verdict(x);
    return SLUICE_OK;
}
