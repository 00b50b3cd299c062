/*
 * Figures as a source printed them: the number, and the range that its digits leave open. All rows of a file that
 * have some form one table, since much of what is wrong with a row shows only beside another.
 */
#ifndef RECORD_PRINTED_H
#define RECORD_PRINTED_H

#include "record/record.h"

struct printed { /* NAN: not printed */
    double v, lo, hi;
    const char *text; /* as printed */
};

/* "439.9", "1.53s", "21ms", "4.70 GiB": times become ms, the rest keeps its unit. */
struct printed printed_get(struct json_object *row, const char *name);
bool printed_known(const struct printed *p);

struct printed_row {
    const struct record_run *run;
    const struct record_line *line;
    const char *key, *workload, *device, *build; /* never NULL: "" */
    double concurrency, cap_w, active;           /* active: weights used per token, at the least; NAN */
    struct printed decode, client, prefill, ttft, tpot, latency, prompt, output, vram;
    bool cached; /* its prompt was not computed */
};

struct printed_table {
    const struct record *record;
    struct printed_row *rows;
    size_t n;
};

sluice_status printed_table_make(const struct record *r, struct printed_table *out, sluice_error *err);
void printed_table_free(struct printed_table *t);
/* The GPU's name, else the processor's; "" where neither is known. */
const char *printed_device(const struct record_run *run);
/* The row of the same record with that workload and concurrency, or NULL. */
const struct printed_row *printed_beside(const struct printed_table *t, const struct printed_row *r,
                                         const char *workload, double concurrency);

#endif
