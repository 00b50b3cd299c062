/*
 * What may be compared is decided by machine: three keys, each a list of fields. Rows whose workload keys differ did
 * not do the same work; rows that share it, but not the stack or the hardware key, differ in what the fields say.
 */
#ifndef RECORD_COMPARE_H
#define RECORD_COMPARE_H

#include "base/buf.h"
#include "record/printed.h"
#include "record/record.h"

enum compare_class { COMPARE_WORKLOAD, COMPARE_STACK, COMPARE_HARDWARE, COMPARE_CLASSES };

extern const char *const compare_class_names[COMPARE_CLASSES];

enum { COMPARE_FIELDS = 26, COMPARE_KEY_HEX = 16 };

struct compare_row {
    const struct record *record;
    const struct record_run *run;
    const struct record_line *line;
    struct buf value[COMPARE_FIELDS]; /* "" : not known */
    char key[COMPARE_CLASSES][COMPARE_KEY_HEX + 1];
};

struct compare_table {
    struct compare_row *rows;
    size_t n, cap;
};

/* Adds all rows of a record, which must outlive the table. */
sluice_status compare_add(struct compare_table *t, const struct record *r, sluice_error *err);
void compare_free(struct compare_table *t);

/* Names of the class's fields in which two rows differ, "a, b"; "" when the keys are equal. */
void compare_differences(const struct compare_row *a, const struct compare_row *b, enum compare_class class,
                         struct buf *out);

/* Field i of COMPARE_FIELDS: its name, and whether it is part of a class's key. */
const char *compare_field_name(size_t i);
bool compare_field_in(size_t i, enum compare_class class);

/* Neither invalid nor of a cache state that nobody verified. */
bool compare_is_fit(const struct compare_row *r);
/* Why a row may not be ranked at all, as the end of a sentence on it ("is invalid"); NULL where it may. */
const char *compare_unfit(const struct compare_row *r);
/* May one be called faster than the other? With the reason where not (one sentence, *why is emptied first). */
bool compare_may_rank(const struct compare_row *a, const struct compare_row *b, struct buf *why);

/* One figure of a row: from its samples, or as its source printed it. */
struct row_value {
    double median, lo, hi, level; /* NAN: not known */
    size_t n;                     /* 0: printed */
};

extern const char *const row_metric_names[]; /* ends with NULL; in the order of docs/records.md */
struct row_value row_value(struct json_object *row, const char *metric);
/* What an imported row printed for a metric, times in ms; NAN where it printed nothing of the kind. */
struct printed row_printed(struct json_object *row, const char *metric);
/* The GPU that a target ran on: the machine's first; NULL where its device API is the processor, or no GPU is known. */
struct json_object *row_gpu(const struct record_run *run, struct json_object *target);
/* That GPU's name, else the processor's; "" where neither is known. */
const char *row_hardware(const struct record_run *run, struct json_object *row);

struct compare_options {
    const char *metric; /* NULL: decode_tok_s, of raw rows tok_s */
    bool json;
};

/* Rows side by side, by workload. */
sluice_status compare_report(const struct compare_table *t, const struct compare_options *options, struct buf *out,
                             sluice_error *err);

#endif
