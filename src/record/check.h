/*
 * Is a record what it says? Its chain, the form of its lines, and every figure of every row computed again from the
 * samples. What is found is a sentence each. Only FINDING_WRONG makes a record wrong; the others are what a reader
 * has to know.
 */
#ifndef RECORD_CHECK_H
#define RECORD_CHECK_H

#include "base/buf.h"
#include "record/record.h"

enum finding_level {
    FINDING_WRONG,       /* the record contradicts itself or its form */
    FINDING_INVALID,     /* the record itself says that a row is invalid */
    FINDING_NOISY,       /* it says that a row is noisy */
    FINDING_UNQUALIFIED, /* a row without measured quality, or below it */
    FINDING_UNVERIFIED,  /* a row whose cache state nobody could verify */
    FINDING_INTERRUPTED, /* the run ended early */
    FINDING_LEGACY,      /* figures of others, without samples: what they contradict */
    FINDING_LEVELS
};

extern const char *const finding_level_names[FINDING_LEVELS];

struct finding {
    enum finding_level level;
    size_t line; /* of the file */
    bool form;   /* about the line itself (JSON, keys, types, order, chain), not about what it says */
    char *row;   /* its key, or NULL */
    char *text;
};

struct check {
    struct finding *findings; /* [n], by line */
    size_t n, cap;
    size_t n_level[FINDING_LEVELS];
    size_t n_records, n_rows, n_samples;
    size_t n_dropped; /* beyond CHECK_FINDINGS_MAX */
    bool failed;      /* memory was out while one was added */
};

enum { CHECK_FINDINGS_MAX = 10000 };

/* row may be NULL. */
__attribute__((format(printf, 5, 6))) void check_add(struct check *c, enum finding_level level, size_t line,
                                                     const char *row, const char *fmt, ...);
void check_free(struct check *c);

/* Reads and checks a file; the error is only that it cannot be read at all, or that memory is out. */
sluice_status check_file(const char *path, struct check *out, sluice_error *err);
sluice_status check_memory(const char *name, const char *bytes, size_t n, struct check *out, sluice_error *err);
/* A record that has been read. */
sluice_status check_record(const struct record *r, struct check *c, sluice_error *err);

/* For people, findings up to a level (FINDING_LEVELS - 1: all); and as one JSON object. */
void check_report(const struct check *c, const char *path, enum finding_level up_to, struct buf *out);
void check_report_json(const struct check *c, const char *path, struct buf *out);

/* ---- Parts, for check.c ------------------------------------------------------------------------------------------ */

struct figures;

struct check_context {
    struct check *check;
    const struct record *record;
    const struct record_run *run;
    const struct record_line *line; /* the row at hand */
    const char *row;                /* its key */
    sluice_error *err;
};

/* Metrics against the samples; counts of runs, warm-ups and failures. */
sluice_status check_metrics(const struct check_context *x, const struct figures *f);
/* Cache state, batching, limit, energy, quality, verdict. samples: [n] of the row. */
void check_row_rules(const struct check_context *x, struct json_object **samples, size_t n, const struct figures *f);
/* One request: its times are in order and its counts fit. */
void check_sample(const struct check_context *x);
/* The line at hand, of the kind in the name. */
sluice_status check_probe(const struct check_context *x);
void check_trace(const struct check_context *x);
void check_pair(const struct check_context *x);
sluice_status check_comparison(const struct check_context *x);
/* The arithmetic of printed figures (rows and probes without samples), over all records of the file. */
sluice_status check_printed(const struct record *r, struct check *c, sluice_error *err);

#endif
