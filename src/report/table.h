/*
 * The rows of all records that a site is made of, and their groups: runs, models, machines. A row keeps no sample, so
 * that memory grows with rows and not with what they were computed from.
 */
#ifndef REPORT_TABLE_H
#define REPORT_TABLE_H

#include "base/buf.h"
#include "record/check.h"
#include "record/compare.h"
#include "report/columns.h"
#include "report/texts.h"

struct table_row {
    uint32_t cell[COL_COUNT];          /* of texts */
    uint32_t compared[COMPARE_FIELDS]; /* the values by which rows are compared, of texts */
    uint32_t run, model, hardware;     /* of the table */
    size_t line;
    double rate; /* decode tok/s, of raw rows tok/s; NAN */
};

struct table_group {                    /* a model or a machine: rows whose title gives the same slug */
    uint32_t slug, title, quantization; /* of texts */
    size_t n_rows;
};

struct table_run {
    uint32_t id, date, label, suite, source, verdict; /* of texts */
    uint32_t hardware, block;                         /* of the table */
    uint32_t model_file;                              /* JSON, of texts; 0: null */
    size_t file, line, first_row, n_rows;
    double peak_w, idle_c, peak_c; /* of the end line; NAN */
};

/* Environment and stack of runs: equal but for what changes by the minute (load, free memory, the clocks of the
 * moment). */
struct table_block {
    uint32_t key;  /* JSON of what makes blocks equal, of texts */
    uint32_t json; /* "environment", "targets", "sampling", "origin" as the first run has them, of texts */
    uint32_t hardware;
};

struct table_probe {
    uint32_t run;
    size_t line;
    uint32_t json, findings; /* of texts */
};

struct table {
    struct texts texts;
    struct table_row *rows;
    struct table_run *runs;
    struct table_group *models, *hardware;
    struct table_block *blocks;
    struct table_probe *probes;
    size_t n_rows, n_runs, n_models, n_hardware, n_blocks, n_probes;
    size_t cap_rows, cap_runs, cap_models, cap_hardware, cap_blocks, cap_probes;
};

/* Adds the rows of one record (a run and its lines); file: its number. found: of the whole file. compared: the rows of
 * this run, in their order. The run's number is n_runs - 1 then. */
sluice_status table_add(struct table *t, size_t file, const struct record_run *run, const struct check *found,
                        const struct compare_row *compared, sluice_error *err);
/* Sets COL_COMPARABLE of every row; after the last table_add. */
sluice_status table_finish(struct table *t, sluice_error *err);
void table_free(struct table *t);

/* A cell's text, or NULL where it is not known. */
const char *table_text(const struct table *t, const struct table_row *r, enum column_id column);
/* "0011223344556677-12" */
void table_row_id(const struct table *t, const struct table_row *r, char out[48]);

/* A list of rows. */
struct row_list {
    uint32_t *at; /* [n], into table.rows */
    size_t n;
};
enum row_order { ORDER_DATE, ORDER_RATE };

/* Rows of all (-1), of a model, or of a machine, in the order of docs/report.md. */
sluice_status table_select(const struct table *t, int64_t model, int64_t hardware, enum row_order order,
                           struct row_list *out, sluice_error *err);
void row_list_free(struct row_list *l);

/* A table's JSON: {"n":, "dict":, "columns":}. detail: all columns, not just those of the index. */
sluice_status table_json(const struct table *t, const struct row_list *rows, bool detail, struct buf *out,
                         sluice_error *err);
/* "fields" and "values" of data/compare.js, as members. */
sluice_status table_compared_json(const struct table *t, const struct row_list *rows, struct buf *out,
                                  sluice_error *err);

/* JSON of the findings of one line, [{"level", "field", "text"}]; "" when there is none. */
void findings_json(const struct check *found, size_t line, struct buf *out);
/* All findings of the lines first to last, with "line" and "row". */
void findings_json_run(const struct check *found, size_t first, size_t last, struct buf *out);

#endif
