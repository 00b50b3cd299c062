/*
 * Reads record files (docs/records.md). Everything is checked on the way in: the bounds of base/limits.h, UTF-8, JSON,
 * the keys and types of every line, the order of the lines, and the chain.
 */
#ifndef RECORD_RECORD_H
#define RECORD_RECORD_H

#include "record/rules.h"

#include <stdint.h>

struct record_line {
    enum record_kind kind;
    struct json_object *tree; /* has the keys and types of its kind */
    size_t number;            /* in the file, from 1 */
};

struct record_run { /* one record: a run line and what belongs to it */
    struct record_line *lines;
    size_t n_lines;
};

struct record { /* a file */
    char *path;
    struct record_line *lines;
    struct record_run *records; /* [n_records] in the order of the file, into lines */
    size_t n_lines, n_records;
};

/* What is wrong with a file, one sentence a call; `text` ends with the call. */
typedef void (*record_problem)(void *ctx, size_t line, const char *text);

/* Reads a whole file ("-": standard input). Without `problem` the first thing that is wrong is the error, which names
 * file, line and field. With it the errors of single lines go there, those lines are left out, and reading goes on;
 * what is left to fail is that the file cannot be read, is too large, or that memory is out. */
sluice_status record_read_all(const char *path, record_problem problem, void *ctx, struct record **out,
                              sluice_error *err);
sluice_status record_read(const char *path, struct record **out, sluice_error *err);
/* The same from memory; name stands for the path. */
sluice_status record_read_memory(const char *name, const char *bytes, size_t n, record_problem problem, void *ctx,
                                 struct record **out, sluice_error *err);
void record_free(struct record *r); /* r may be NULL */

struct buf;
/* All bytes of a file or pipe ("-": standard input), up to LIMIT_RECORD_BYTES. */
sluice_status record_read_bytes(const char *path, struct buf *out, sluice_error *err);

/* The first line of that kind in a record, or NULL. */
const struct record_line *record_find(const struct record_run *run, enum record_kind kind);
/* The target that a row or sample names. */
struct json_object *record_target(const struct record_run *run, struct json_object *row);

/* ---- Members of lines that have been checked --------------------------------------------------------------------- */

struct json_object *record_get(struct json_object *o, const char *key); /* NULL for null, absent, or o NULL */
/* "a.b.c" */
struct json_object *record_path(struct json_object *o, const char *path);
double record_number(struct json_object *o, const char *key);    /* NAN for null or absent */
const char *record_text(struct json_object *o, const char *key); /* NULL for null or absent */
bool record_true(struct json_object *o, const char *key);        /* false for null or absent */
bool record_is(struct json_object *o, const char *key, const char *text);

#endif
