/*
 * Open loop: requests arrive by themselves, whether or not the server keeps up. Poisson arrivals at a number of
 * rates; with a latency target the sweep goes up until too few requests meet it and then closes in on the knee
 * between the two.
 */
#include "bench/bench.h"

#include "base/status.h"

#include <math.h>

#define WINDOW_S     12.0 /* of arrivals at one rate */
#define REQUESTS_MIN 20u
#define REQUESTS_MAX 400u
#define GOOD_SHARE   0.9 /* of the requests at a rate that counts as carried */
#define HALVINGS     3

static struct cell open_cell(double rate, double seconds) {
    double n = ceil(rate * (seconds > 0 ? seconds : WINDOW_S));
    struct cell c = {
        .workload = &workload_agent,
        .prompt_tokens = workload_agent.prompt_tokens,
        .max_tokens = 200,
        .concurrency = CLIENT_STREAMS_MAX,
        .runs = n < REQUESTS_MIN   ? REQUESTS_MIN
                : n > REQUESTS_MAX ? REQUESTS_MAX
                                   : (uint32_t)n,
        .cache = CACHE_COLD,
        .arrival = ARRIVAL_POISSON,
        .rate_rps = rate,
    };
    return c;
}

static double three_digits(double v) {
    double unit = pow(10, floor(log10(v)) - 2);
    return round(v / unit) * unit;
}

/* Share of the requests within the target; *share stays 0 where none went well. */
static sluice_status run_rate(struct bench *b, double rate, double *share, sluice_error *err) {
    struct cell cell = open_cell(three_digits(rate), b->options->rate_seconds);
    b->requests_total += cell.runs;
    *share = 0;
    return bench_run_cell(b, &cell, 0, share, NULL, err);
}

static sluice_status find_knee(struct bench *b, double capacity, sluice_error *err) {
    double share, low = 0, high = 0;
    for (double rate = capacity / 4; high == 0 && rate < capacity * 2.5; rate *= 2) {
        TRY(run_rate(b, rate, &share, err));
        *(share >= GOOD_SHARE ? &low : &high) = rate;
    }
    /* below an eighth of what it carries requests hardly meet: a target that is missed there is missed alone, too */
    for (int i = 0; i < HALVINGS && high > 0 && (low > 0 || high > 0.2 * capacity); i++) {
        double rate = low > 0 ? sqrt(low * high) : high / 2;
        TRY(run_rate(b, rate, &share, err));
        *(share >= GOOD_SHARE ? &low : &high) = rate;
    }
    b->knee_rps = low > 0 ? three_digits(low) : 0;
    return SLUICE_OK;
}

sluice_status bench_sweep_rates(struct bench *b, double capacity, sluice_error *err) {
    static const double shares[] = {0.25, 0.5, 0.75, 0.9};
    double share;
    if (!(capacity > 0)) {
        return SLUICE_OK;
    }
    if (b->options->slo_ttft_ms > 0 || b->options->slo_tpot_ms > 0) {
        return find_knee(b, capacity, err);
    }
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        TRY(run_rate(b, capacity * shares[i], &share, err));
    }
    return SLUICE_OK;
}
