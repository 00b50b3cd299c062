/*
 * Two targets measured in turns, block by block: A, B, B, A, then B, A, A, B, and so on. Each turn is one round of requests,
 * every request with a nonce of its own, so that neither target finds a prompt in a cache. What comes out is the ratio B over A with a paired
 * interval (paired.h).
 *
 * A target is a URL or a command line. Of two that run side by side the resting one must rest: a block in which it used more than
 * AB_REST_SHARE of the processor time, or in which the GPU worked while both rested, is invalid and does not count. Where both do not fit
 * side by side only one is up at a time; starting it again is timed apart and never part of a turn.
 */
#ifndef BENCH_AB_H
#define BENCH_AB_H

#include "bench/paired.h"
#include "bench/prompt.h"
#include "bench/suite.h"
#include "bench/target.h"
#include "machine/watch.h"

#define AB_REST_SHARE 0.01 /* of all cores' time */
#define AB_TURNS      4

enum ab_metric { AB_DECODE, AB_PREFILL, AB_TTFT, AB_LATENCY, AB_AGGREGATE, AB_METRICS };
extern const char *const ab_metric_names[AB_METRICS]; /* as in records */

struct ab_options {
    const char *spec[2];  /* URL or command line */
    const char *model[2]; /* NULL: the first it lists */
    const char *api_key;
    const struct workload *workload;
    uint32_t prompt_tokens, max_tokens, concurrency;
    enum ab_metric metric; /* that decides when to stop, and the verdict */
    uint32_t blocks_max;   /* at most PAIRED_BLOCKS_MAX */
    double width;          /* wished half width of the interval, a share */
    double seconds;        /* no block starts after them; 0 = no limit */
    bool one_at_a_time;    /* otherwise decided by the memory that A takes */
    uint32_t silence_s;
    uint64_t nonce;
    const atomic_bool *stop;
};

/* One block, or one try at it. */
struct ab_block {
    uint32_t number;
    bool b_first; /* BAAB */
    bool valid;
    char reason[200];
    double value[AB_METRICS][2][2]; /* [metric][target][turn]; NAN unknown */
};

struct ab_result {
    uint32_t blocks, valid;
    const char *stopped;                /* "width", "blocks", "time", "interrupted" */
    struct paired estimate[AB_METRICS]; /* n = 0: not measured */
    enum paired_verdict verdict[AB_METRICS];
    double restart_s[2]; /* mean over the restarts; -1 none */
    bool one_at_a_time;
    char rest_note[200]; /* what could not be watched; "" = everything was */
};

struct ab_events { /* any may be NULL; an error ends the run */
    void *ctx;
    /* both targets are identified, their prompts made */
    sluice_status (*on_ready)(void *ctx, const struct target *const target[2], const struct prompt *const prompt[2],
                              sluice_error *err);
    /* may take s->token_ms over by setting it to NULL */
    sluice_status (*on_sample)(void *ctx, uint32_t target, struct sample *s, sluice_error *err);
    sluice_status (*on_block)(void *ctx, const struct ab_block *block, const struct ab_result *so_far,
                              sluice_error *err);
};

/* Errors: a target cannot be started, reached or understood; an interruption is no error once a block was measured. */
sluice_status ab_run(const struct ab_options *options, const struct ab_events *events, struct watch *watch,
                     struct ab_result *out, sluice_error *err);
bool ab_more_is_better(enum ab_metric m);

#endif
