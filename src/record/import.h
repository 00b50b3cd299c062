/*
 * Records from what other tools wrote. An importer names every value that its source has and leaves the rest null;
 * where the source kept its samples the row's figures are computed from them, otherwise the row holds what was
 * printed. What does not fit together is written into the row's "deviations", by the same rules as `sluice check`
 * has.
 */
#ifndef RECORD_IMPORT_H
#define RECORD_IMPORT_H

#include "record/chain.h"
#include "record/writer.h"

#include <stdint.h>

enum import_format {
    IMPORT_AUTO,
    IMPORT_LLAMA_BENCH_JSON, /* llama-bench -o json or jsonl */
    IMPORT_LLAMA_BENCH_SQL,  /* llama-bench -o sql */
    IMPORT_VLLM_JSON,        /* vllm bench serve --save-result [--save-detailed] */
    IMPORT_AIPERF_JSON,      /* AIPerf's profile_export_aiperf.json or profile_export.jsonl */
    IMPORT_PAGE,             /* the text of a results page with the table "All runs (N)" */
    IMPORT_FORMATS
};

extern const char *const import_format_names[IMPORT_FORMATS]; /* "auto", "llama-bench-json", ... */

struct import_options {
    enum import_format format;
    const char *url;   /* where the source was found, or NULL */
    const char *label; /* or NULL: what the source calls it */
};

struct import_summary {
    enum import_format format;
    size_t n_records, n_rows, n_samples, n_deviations;
};

/* Reads a file ("-": standard input) and appends its records. The error names the file, and line or key where
 * it can. */
sluice_status import_file(const char *path, const struct import_options *options, struct record_writer *out,
                          struct import_summary *summary, sluice_error *err);
sluice_status import_memory(const char *name, const char *bytes, size_t n, const struct import_options *options,
                            struct record_writer *out, struct import_summary *summary, sluice_error *err);

/* ---- For the importers ------------------------------------------------------------------------------------------- */

struct import {
    const char *name; /* of the source, for errors */
    const char *bytes;
    size_t n;
    const struct import_options *options;
    const char *format, *source; /* "imported" or "legacy" */
    char sha256[CHAIN_HEX + 1];  /* of the source */
    struct buf line, text;       /* the line at hand; whole lines so far */
    struct chain chain;
    size_t n_runs, n_rows, n_samples; /* n_rows, n_samples: of the record at hand */
    sluice_error *err;
};

/* What a run line says; NULL, NAN and -1 are not known. import_run_init makes everything so. */
struct import_run {
    const char *label, *suite, *suite_about, *command, *date, *statistic, *note;
    const char *engine, *build, *device_api, *model, *endpoint, *command_line;
    int streaming; /* -1, 0, 1 */
    const char *file_name, *architecture, *quantization, *repository, *commit;
    double file_bytes, n_params;
    const char *cpu, *os, *kernel, *libc, *compiler;
    double memory_total;
    bool has_gpu;
    const char *gpu, *driver, *cuda, *compute_capability;
    double gpu_memory, sms, power_limit_w, power_limit_max_w, clock_sm, clock_sm_max, clock_mem, clock_mem_max,
        bus_width;
    double pcie_gen, pcie_gen_max, pcie_width, pcie_width_max;
    int unified_memory; /* -1, 0, 1 */
};

struct import_sample {
    const char *row, *error, *finish; /* error NULL: it went well */
    uint64_t run, stream;
    bool warmup;
    double send_ms, first_token_ms, last_token_ms, end_ms; /* NAN */
    const double *token_ms;                                /* [n_token_ms] or NULL */
    size_t n_token_ms;
    int64_t chunks, prompt_tokens, cached_tokens, output_tokens, reasoning_tokens; /* -1 */
};

struct import_row {
    const char *row, *test, *workload, *cache, *cache_reason, *arrival, *batching, *error,
        *reason; /* reason: of the verdict */
    double concurrency, rate_rps, depth, batch, max_tokens, power_cap_w, warmups, runs;
    int natural_stop; /* -1, 0, 1 */
    size_t failed;
    const char *const *printed; /* [n_printed][2]: name, text as printed */
    size_t n_printed;
};

void import_run_init(struct import_run *r);
void import_sample_init(struct import_sample *s, const char *row);
void import_row_init(struct import_row *r, const char *row, const char *test);

sluice_status import_put_run(struct import *im, const struct import_run *r);
sluice_status import_put_sample(struct import *im, const struct import_sample *s);
sluice_status import_put_row(struct import *im, const struct import_row *r);
struct import_noise { /* what a source says of the machine during its run; NAN */
    double peak_w, idle_c, peak_c;
};
/* noise may be NULL. */
sluice_status import_put_end(struct import *im, double duration_s, const struct import_noise *noise);
/* A line that the importer itself has put into im->line. */
sluice_status import_put_line(struct import *im);

sluice_status import_llama_bench_json(struct import *im);
sluice_status import_llama_bench_sql(struct import *im);
sluice_status import_vllm(struct import *im);
sluice_status import_aiperf(struct import *im);
sluice_status import_page(struct import *im);

#endif
