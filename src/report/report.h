/*
 * The report site: records as a folder of pages that open from file:// and from any web server (docs/report.md).
 * Records are read one after the other; rows stay in memory, samples do not.
 */
#ifndef REPORT_REPORT_H
#define REPORT_REPORT_H

#include "sluice.h"

#include <signal.h>
#include <stdbool.h>

struct report_assets { /* the interactive part; js NULL: none, pages then hold whole tables */
    const char *js, *css;
    size_t js_n, css_n;
};

struct report_options {
    const char *folder;
    const char *const *records; /* [n_records] files, or folders of *.jsonl */
    size_t n_records;
    const struct report_assets *assets; /* NULL: what the program carries */
    bool plain;                         /* whole tables and no script, whatever it carries */
    /* share of the work, 0 to 1000; may be NULL */
    void (*progress)(void *ctx, unsigned permille);
    void *progress_ctx;
    const volatile sig_atomic_t *stop; /* set: give up; may be NULL */
};

struct report_summary {
    size_t files, runs, rows, models, hardware, pages;
    size_t wrong; /* findings of check of level "wrong" */
    uint64_t bytes;
    bool interactive;
    char folder[4096]; /* absolute */
};

/* The folder is as it was before unless this succeeds. SLUICE_E_FORMAT: a record that is none, naming file, line
 * and field; SLUICE_E_IO: a record or the folder; SLUICE_E_ARG: no record is named. */
sluice_status report_write(const struct report_options *o, struct report_summary *out, sluice_error *err);

/* The folder of records that comes with sluice, beside the program: bench/results of the project,
 * share/sluice/results when installed. */
sluice_status report_default_records(char *out, size_t cap, sluice_error *err);

#endif
