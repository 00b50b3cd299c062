/*
 * A row's figures, computed again from its samples with the formulas of docs/records.md. The times of a sample are
 * written to the microsecond, so that each figure has a tolerance: what that rounding can have changed.
 */
#ifndef RECORD_FIGURES_H
#define RECORD_FIGURES_H

#include "base/stats.h"
#include "record/record.h"

enum figure {
    FIG_TTFT,
    FIG_TTFC,
    FIG_TPOT,
    FIG_ITL,
    FIG_LATENCY,
    FIG_QUEUE,
    FIG_DECODE,
    FIG_CLIENT,
    FIG_PREFILL,
    FIG_PROMPT,
    FIG_CACHED,
    FIG_OUTPUT,
    FIG_AGGREGATE, /* per round */
    FIG_STREAMS,   /* per round */
    FIG_TOK_S,     /* raw tests */
    N_FIGURES
};

extern const char *const figure_names[N_FIGURES]; /* as in "metrics" */

struct figure_values {
    double *x; /* [n], in the order of the samples */
    size_t n, cap;
    double tolerance; /* of the value that rounding moves most */
};

struct figures {
    struct figure_values of[N_FIGURES];
    size_t n_samples; /* that count: no warm-up, no failure */
    size_t n_failed, n_runs, n_warmups;
};

/* The samples of a record, grouped: by row, target, run, stream. */
struct sample_index {
    struct json_object **samples; /* [n] */
    size_t n;
};

sluice_status sample_index_make(const struct record_run *run, struct sample_index *out, sluice_error *err);
void sample_index_free(struct sample_index *x);
/* The samples of one row; *n of them. */
struct json_object **sample_index_find(const struct sample_index *x, const char *row, int target, size_t *n);

/* samples: [n] of one row, as sample_index_find gives them. */
sluice_status figures_compute(struct json_object **samples, size_t n, bool raw, struct figures *out, sluice_error *err);
void figures_free(struct figures *f);
/* All of a summary but the bootstrap interval, which records do not have. false when memory is out. */
bool figures_summarise(const struct figure_values *v, struct stats_summary *out);

#endif
