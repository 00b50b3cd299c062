/* Checks a downloaded LFM2-8B-A1B against figures published for it; sources stand beside the figures in verify.c. */
#ifndef TOOLS_VERIFY_H
#define TOOLS_VERIFY_H

#include "sluice.h"

enum verify_verdict { VERIFY_OK, VERIFY_DIFFERS, VERIFY_SKIPPED };

struct verify_line {
    enum verify_verdict verdict;
    const char *name;   /* what was checked */
    const char *detail; /* found and expected */
};

typedef void (*verify_sink)(void *ctx, const struct verify_line *line);

/* Runs all checks in order; *n_differ counts those that failed. An error means the file could not be read or run at all. */
sluice_status verify_file(const char *path, const char *backend, uint32_t n_threads, verify_sink sink, void *ctx,
                          uint32_t *n_differ, sluice_error *err);

#endif
