/*
 * Records in other programs' forms: CSV (RFC 4180) with a line per row, a Markdown table for people, SQL that the
 * sqlite3 program loads, and one JSON document. Text of others is escaped for each, so that no cell becomes a
 * formula, a tag or a statement.
 */
#ifndef RECORD_EXPORT_H
#define RECORD_EXPORT_H

#include "base/buf.h"
#include "record/record.h"

enum export_format { EXPORT_CSV, EXPORT_MD, EXPORT_SQL, EXPORT_JSON, EXPORT_FORMATS };

extern const char *const export_format_names[EXPORT_FORMATS]; /* "csv", "md", "sql", "json" */

/* All rows of n records; an allocation that fails leaves `out` failed. */
void export_records(const struct record *const *records, size_t n, enum export_format format, struct buf *out);

/* The same as CSV, record by record. */
void export_csv_header(struct buf *out);
void export_csv_rows(const struct record *r, struct buf *out);

/* ---- One text as a cell of each form, for the tests too ---------------------------------------------------------- */

void export_csv_cell(struct buf *out, const char *text);
void export_md_cell(struct buf *out, const char *text);
void export_sql_text(struct buf *out, const char *text); /* NULL gives NULL */

/* The forms, for export.c. */
void export_csv(const struct record *const *records, size_t n, struct buf *out);
void export_md(const struct record *const *records, size_t n, struct buf *out);
void export_sql(const struct record *const *records, size_t n, struct buf *out);
void export_json(const struct record *const *records, size_t n, struct buf *out);

/* What a row says of itself in one column each: named, text or number. */
struct export_column {
    const char *name;
    char type;       /* 't' text, 'n' number, 'b' true or false */
    char object;     /* where its value lies: r row, R run, o origin, t target, f model file, g first GPU, l limit,
                  * e energy, q quality, v verdict, h the hardware's name */
    const char *key; /* in it */
};
struct export_value {
    const char *text; /* NULL: not known */
    double number;    /* NAN: not known */
    int truth;        /* -1: not known */
};
enum { EXPORT_COLUMNS = 35 };
extern const struct export_column export_columns[EXPORT_COLUMNS];
struct export_value export_value(const struct record *r, const struct record_run *run, const struct record_line *row,
                                 size_t column);

#endif
