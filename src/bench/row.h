/*
 * A row: what a reader compares. Its samples, the figures that follow from them (docs/records.md has the formulas), and
 * what can be said about them: whether the cache was in the state it should have been in, whether requests were
 * computed together or waited for each other, how close to a measured limit the rate comes.
 */
#ifndef BENCH_ROW_H
#define BENCH_ROW_H

#include "base/stats.h"
#include "bench/sample.h"
#include "bench/suite.h"
#include "record/line.h"

enum metric {
    METRIC_TTFT,
    METRIC_TTFC,
    METRIC_TPOT,
    METRIC_ITL,
    METRIC_LATENCY,
    METRIC_QUEUE,
    METRIC_DECODE,
    METRIC_CLIENT,
    METRIC_PREFILL,
    METRIC_PROMPT,
    METRIC_CACHED,
    METRIC_OUTPUT,
    METRIC_AGGREGATE, /* per round */
    METRIC_STREAMS,   /* per round */
    METRIC_GOODPUT,   /* per row, as are the next two */
    METRIC_REQUESTS,
    METRIC_OVERHEAD,
    METRIC_TOK_S, /* engine-only tests */
    N_METRICS
};
extern const char *const metric_names[N_METRICS];

enum row_test { TEST_API, TEST_RAW };
enum cache_state { CACHE_VERIFIED, CACHE_UNVERIFIED, CACHE_INVALID, CACHE_NO_STATE };
enum batching { BATCHING_SINGLE, BATCHING_BATCHED, BATCHING_QUEUED, BATCHING_MIXED, BATCHING_UNKNOWN };
extern const char *const batching_names[];    /* of enum batching */
extern const char *const cache_state_names[]; /* of enum cache_state; NULL for the last */

/* What is known of the file that the server runs; n_params 0: nothing. Bytes and operations are of one token of one
 * stream. */
struct model_facts {
    char name[256], sha256[65], architecture[32], quantization[32], repository[160], commit[64];
    uint64_t bytes, n_params, n_params_active, decode_bytes, kv_bytes_per_token, prefill_ops;
    uint64_t expert_bytes; /* part of decode_bytes: the experts that a token is routed to */
    uint32_t context, n_expert, n_expert_used;
    int synthetic; /* 1, 0, or -1 unknown */
};

struct limits { /* of this machine, measured; 0 = not known */
    double read_gb_s, matrix_tops;
    const char *matrix_kind; /* "int8" */
};

enum limit_kind { LIMIT_NONE, LIMIT_READ, LIMIT_MATRIX };

struct row_limit {
    enum limit_kind kind;
    double bytes_per_token, ops_per_token, measured, share; /* GB/s or Tops/s */
    char rule[320];
};

struct energy_window {
    double joules, seconds;
    uint64_t count; /* of what the energy is divided by */
};

struct row_energy {
    bool valid;
    char reason[160]; /* of not being valid */
    double idle_w;    /* with the server up and nothing asked of it */
    struct energy_window prompt, output,
        request; /* counts: computed prompt tokens, output tokens after the first, requests */
};

enum row_state { ROW_CLEAN, ROW_NOISY, ROW_INVALID };

#define ROW_REASONS_MAX 6

struct row {
    char key[64];
    enum row_test test;
    const char *workload; /* or a raw test's kind */
    struct cell cell;
    bool natural_stop;
    int64_t depth, batch, template_tokens, prompt_wanted; /* -1 = none, unknown */
    uint32_t warmups, runs;                               /* rounds made */
    bool cut;                                             /* fewer than planned, for lack of time */
    bool refused;                                         /* the server takes no request of this size */
    double slo_ttft_ms, slo_tpot_ms;                      /* a request within both counts as good; 0 = no such target */
    struct sample *samples;                               /* [n_samples], warm-ups too; owned */
    bool unrecorded; /* its samples are counted and not written: work repeated to fill an energy window */
    uint32_t n_samples, cap_samples, n_written, n_failed, n_ok;
    char error[320]; /* of the first request that failed */
    struct stats_summary metric[N_METRICS];
    double percentile[N_METRICS][LINE_PERCENTILES];
    enum cache_state cache_state;
    char cache_reason[200];
    enum batching batching;
    char batching_reason[200];
    struct row_limit limit, other_limit; /* of the row's main figure; of the other kind, where the times allow it */
    int64_t rss_bytes, vram_bytes;       /* -1 unknown */
    double power_cap_w;                  /* NAN: none known */
    struct row_energy energy;
    enum row_state state;
    char reasons[ROW_REASONS_MAX][200];
    uint32_t n_reasons;
};

void row_init(struct row *row, const struct cell *cell, bool natural_stop);
void row_free(struct row *row);
/* Room for n more samples, which are reset; NULL when memory is out. They become the row's own at once. */
struct sample *row_add_samples(struct row *row, uint32_t n);

/* Fills metric, percentile, n_failed, n_ok and error from the samples. false when memory is out. */
bool row_summarise(struct row *row);
/* Cache state and batching; and what makes a row invalid: work that is not the work that was asked for. Needs the
 * figures. */
void row_judge(struct row *row, bool reports_cached);
/* Shares of the limits at the row's median rates, of an engine-only row those that are still missing. drafts: the server
 * guesses tokens ahead. Needs figures and batching. */
void row_set_limit(struct row *row, const struct model_facts *file, const struct limits *limits, bool drafts);
void row_add_reason(struct row *row, enum row_state state, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* One value per row. */
void row_set_single(struct row *row, enum metric m, double value);

#endif
