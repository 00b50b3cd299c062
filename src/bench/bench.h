/*
 * Runs a suite against an OpenAI-compatible server and writes a record (docs/records.md): the machine, the target,
 * every request's own times, and rows whose figures follow from them. Lines are written as they come to be, so what
 * was measured before an interruption stays.
 *
 * Order of a run: limits of the machine and engine-only tests in processes of their own, while nothing else runs;
 * then the server; then the suite's cells, one after the other.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "bench/row.h"
#include "bench/target.h"
#include "machine/energy.h"
#include "machine/environment.h"
#include "machine/watch.h"
#include "record/writer.h"

struct bench;

struct bench_options {
    const char *url;        /* NULL: a server of our own is started on model_path */
    const char *api_key;    /* or NULL */
    const char *model;      /* NULL: the first that the server lists */
    const char *model_path; /* GGUF that the server runs; NULL: not known */
    const char *reference;  /* what plain F32 computed (tools/quality.h); NULL: beside the model, if there */
    bool raw;               /* engine-only rows of model_path; a server of our own has them anyway */
    const char *suite, *label;
    const char *command;      /* as typed, without secrets and folders */
    uint32_t silence_s;       /* a request is given up after so long without a byte */
    uint32_t max_concurrency; /* of the load suite; 0 = by the slots */
    bool natural_stop;
    double slo_ttft_ms, slo_tpot_ms; /* of the load suite; 0 = none */
    double rate_seconds;             /* of arrivals at each rate of the load suite; 0 = 12 */
    uint64_t nonce;                  /* start of the sequence of nonces */
    struct record_writer *writer;    /* NULL: no record is kept */
    const atomic_bool *stop;         /* may be NULL */
    void *ctx;
    void (*on_progress)(void *ctx, const char *what, uint64_t done, uint64_t total);
    void (*on_start)(void *ctx, const struct bench *bench);
    void (*on_row)(void *ctx, const struct bench *bench, const struct row *row);
    void (*on_end)(void *ctx, const struct bench *bench);
};

struct run_quality {
    bool qualified;
    char reason[200];
    const char *kind; /* "kl", "top20", or NULL: not compared */
    char reference_sha256[65];
    uint32_t tokens;
    double kl_mean, kl_p999, top1, top20;
};

#define LEFT_OUT_MAX (2 * SUITE_CELLS_MAX) /* rows of the API, and of the engine alone */

struct left_out { /* a row that was not made */
    char row[64], reason[160];
};

struct bench {
    const struct bench_options *options;
    struct suite suite;
    struct target target;
    struct environment environment;
    struct model_facts file;
    struct limits limits;
    char id[17];
    bool own_server;
    int server_pid;                      /* 0 = not ours */
    int64_t memory_before, memory_after; /* bytes in use around the model's load, of the machine or, where the target
                                            runs on them, of its GPUs; -1 unknown */
    int64_t vram_before, vram_after;
    int spilled; /* 1, 0, or -1 unknown: the load went to swap, or did not reach the GPU */
    uint64_t zero_ns, nonce;
    double duration_s;
    uint32_t n_rows, n_api_rows, n_samples, n_failed, n_left;
    struct left_out left[LEFT_OUT_MAX]; /* [n_left] */
    double pace_prefill, pace_decode;   /* tok/s of one stream, for estimates; 0 unknown */
    double pace_prompt;                 /* tokens of the prompt that showed pace_prefill */
    uint32_t n_noisy;                   /* rows whose verdict is not clean */
    char error[320];                    /* of the first request that failed */
    bool interrupted;
    struct nvml *nvml;              /* or NULL */
    struct watch *watch;            /* NULL: the machine is not watched */
    struct watch_summary noise;     /* of the whole run, once it has ended */
    struct watch_summary row_noise; /* of the last row */
    int64_t rows_throttled;         /* NVML_THROTTLE_* that made a row noisy; the probe's matrix work does not count */
    struct energy *energy;
    double idle_w; /* 0 = not measured yet */
    struct run_quality quality;
    char raw_note[200]; /* why engine-only rows are missing; "" = they are not */
    struct raw_rows *raw;
    struct prompt *prompt; /* the last that was made */
    double knee_rps;       /* highest rate of arrival at which nine of ten requests met the latency target; 0 unknown */
    uint64_t requests_done, requests_total;
    struct buf line;
};

/* SLUICE_E_CANCELLED: interrupted; everything measured until then is in the record. Other errors mean that nothing
 * could be measured; failed requests of a row are in the row. */
sluice_status bench_run(const struct bench_options *options, sluice_error *err);

/* ---- Parts, for this and for comparisons -------------------- */

/* hash_ms: how long the SHA-256 may be waited for. */
sluice_status model_facts_read(const char *path, int hash_ms, struct model_facts *out, sluice_error *err);

/* Sends the cell's rounds and adds their samples to the row; deadline_ns 0: none. Needs b->target and a prompt of the
 * cell. A failed request ends the row early; only interruption and lack of memory are errors. */
struct prompt;
sluice_status bench_send_rounds(struct bench *b, struct row *row, const struct prompt *prompt, uint64_t deadline_ns,
                                sluice_error *err);
/* Open loop: row->cell.runs requests at Poisson times of row->cell.rate_rps. */
sluice_status bench_send_open_loop(struct bench *b, struct row *row, const struct prompt *prompt, sluice_error *err);
/* Sweeps rates of arrival, after the closed loop's rows showed that the server carries capacity_rps. */
sluice_status bench_sweep_rates(struct bench *b, double capacity_rps, sluice_error *err);
/* Cuts the prompt, sends, judges, writes and reports a row of a cell; *rate (may be NULL): requests per second that it
 * carried, of an open loop the share of requests within the latency target; *refused (may be NULL): the server takes
 * no prompt of that size, and no row was made. */
sluice_status bench_run_cell(struct bench *b, const struct cell *cell, uint64_t deadline_ns, double *rate,
                             bool *refused, sluice_error *err);

/* ---- What fits (pace.c) -------------------- */

void bench_learn_pace(struct bench *b, const struct row *row);
/* Whether cell i of the suite can be made, and before end_ns where the suite has an end; else it is left out with the
 * reason. *cell: the cell as it is to be made; *deadline_ns: no round starts that would end later; 0: none. */
bool bench_fits(struct bench *b, uint32_t i, uint64_t end_ns, struct cell *cell, uint64_t *deadline_ns);
void bench_leave_out(struct bench *b, const struct cell *c, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void bench_leave_out_key(struct bench *b, const char *key, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- Engine-only tests and probes, by this program in processes of their own -------------------- */

struct raw_rows {
    struct row *rows;           /* [n] */
    struct watch_summary *seen; /* of the machine while each was measured; the first n_seen are known */
    uint32_t n, n_seen;
    struct json_object *probes; /* array of `probe` lines of the record */
    bool cut;
};
/* Fills b->raw and, where something is missing, b->raw_note. */
sluice_status bench_measure_machine(struct bench *b, sluice_error *err);
/* Fills b->limits from the probes, for the device that the target runs on. */
void bench_pick_limits(struct bench *b);
void raw_rows_free(struct raw_rows *r);
/* Median ms of the engine-only prefill of n tokens; -1 unknown. */
double raw_prefill_ms(const struct raw_rows *r, uint32_t n_tokens);

/* ---- Lines of the record -------------------- */

sluice_status bench_write_run(struct bench *b, sluice_error *err);
sluice_status bench_write_probes(struct bench *b, sluice_error *err);
sluice_status bench_write_samples(struct bench *b, struct row *row, sluice_error *err); /* those not yet written */
sluice_status bench_write_row(struct bench *b, struct row *row, sluice_error *err);
sluice_status bench_write_end(struct bench *b, sluice_error *err);

sluice_status bench_write_trace(struct bench *b, sluice_error *err);

/* ---- The machine while a row was measured (row_machine.c) ------------------------------------------------------------------ */

/* NVML where there is one, the watch, the energy counters. */
sluice_status bench_watch_start(struct bench *b, sluice_error *err);
/* Adds memory, and the reasons not to trust the row. seen: what the watch saw meanwhile; NULL: since the row before. */
void bench_watch_row(struct bench *b, struct row *row, const struct watch_summary *seen);
void bench_watch_stop(struct bench *b); /* fills b->noise */
void bench_watch_free(struct bench *b);
/* Fills row->energy: repeats the row's work over windows of five seconds, where there are counters and time. Only
 * interruption and lack of memory are errors. */
sluice_status bench_measure_energy(struct bench *b, struct row *row, const struct prompt *prompt, sluice_error *err);
/* counters NULL: none */
void bench_put_energy(struct buf *line, const struct energy *counters, const struct row_energy *e);

/* ---- Does it still compute the model? (quality.c) ----------------------------------------------------------------------------- */

/* self: this program. Errors: interruption, memory, a reference that was named and cannot be read. */
sluice_status bench_quality_own(struct bench *b, const char *self, sluice_error *err);
sluice_status bench_quality_foreign(struct bench *b, sluice_error *err);
void bench_put_quality(struct buf *line, const struct run_quality *q);

/* ---- The table for people -------------------- */

void bench_table_head(struct buf *out, const struct bench *b);
void bench_table_row(struct buf *out, const struct row *row);
void bench_table_foot(struct buf *out, const struct bench *b);

#endif
