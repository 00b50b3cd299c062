/*
 * Runs a suite of workloads against an OpenAI-compatible server and keeps what was measured: every request's own
 * times and counts, and per row one statistic, the median over the requests.
 *
 * Concurrency c: a run is a round of c requests sent together; the next round starts when all have ended.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "base/stats.h"
#include "bench/env.h"
#include "bench/sample.h"
#include "bench/workload.h"

#include <stdatomic.h>

enum metric {
    METRIC_DECODE,    /* tok/s: 1000 / TPOT */
    METRIC_CLIENT,    /* tok/s: output tokens / total time */
    METRIC_PREFILL,   /* tok/s: computed prompt tokens / TTFT */
    METRIC_TTFT,      /* ms */
    METRIC_TPOT,      /* ms */
    METRIC_TOTAL,     /* ms */
    METRIC_PROMPT,    /* tokens */
    METRIC_OUTPUT,    /* tokens */
    METRIC_CACHED,    /* tokens */
    METRIC_AGGREGATE, /* tok/s per round: output tokens of all its requests / time from first send to last end */
    METRIC_STREAMS,   /* per round: sum of decode times / time in which any stream decoded; c if all run side by side */
    N_METRICS
};

struct row {
    char name[32]; /* "chat", "depth 1024" */
    struct cell cell;
    uint32_t warmups, runs; /* made */
    bool cut;               /* fewer runs than planned, for lack of time */
    bool refused;           /* HTTP 400, 413 or 422 */
    uint32_t n_samples, n_failed;
    struct sample *samples;                 /* [runs][concurrency] */
    char error[320];                        /* of the first request that failed */
    struct stats_summary metric[N_METRICS]; /* n = 0: unknown */
    double roof_share;                      /* of the decode rate; 0 = unknown */
};

struct bench_model_file { /* what is known of the file that the server runs; n_params 0: nothing */
    char name[256], architecture[32], quantization[32];
    uint64_t bytes, n_params, decode_bytes, kv_bytes_per_token;
};

struct bench_record {
    struct env env;
    double steal_share, duration_s;
    char suite[16];
    char suite_about[128];
    char command[512];
    char url[256], model[256], engine[128];
    bool own_server, ignore_eos;
    uint32_t context; /* 0 = unknown */
    struct bench_model_file file;
    double read_gb_s;          /* measured read bandwidth of this machine; 0 = not measured */
    uint32_t n_rows, left_out; /* left_out: rows of the suite for which there was no time */
    struct row rows[SUITE_CELLS_MAX];
};

struct bench_options {
    const char *url, *api_key;
    const char *model; /* NULL: the first that the server lists */
    const char *suite;
    uint32_t silence_s;
    bool ignore_eos;
    uint64_t nonce;          /* start of the sequence of nonces */
    const atomic_bool *stop; /* may be NULL */
    void *ctx;
    void (*on_progress)(void *ctx, const char *row, uint64_t done, uint64_t total);
    void (*on_row)(void *ctx, const struct bench_record *record, const struct row *row);
};

/* Fills url, model, engine, context, rows. Fields about machine, file and command are the caller's. An error means that
 * nothing could be measured at all; failed requests of a row are in the row. */
sluice_status bench_run(const struct bench_options *options, struct bench_record *out, sluice_error *err);
void bench_record_free(struct bench_record *record);
uint32_t bench_record_failed(const struct bench_record *record); /* requests */

/* Fills a row's statistics from its samples; also what a checker recomputes. false when memory is out. */
bool bench_row_summarise(struct row *row);
/* Share of the read bandwidth at the row's decode rate: weights of one token and the keys and values at mid-answer. */
void bench_row_roof(struct row *row, const struct bench_model_file *file, double read_gb_s);

/* The record as one JSON object without newline; schema "sluice-bench" version 1, described in record.c. */
void bench_record_json(struct buf *b, const struct bench_record *record);
void bench_table_head(struct buf *b, const struct bench_record *record);
void bench_table_row(struct buf *b, const struct row *row);
void bench_table_foot(struct buf *b, const struct bench_record *record);

extern const char *const metric_names[N_METRICS];

#endif
