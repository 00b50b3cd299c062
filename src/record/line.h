/*
 * Writes one line of a record (docs/records.md) into a buffer: an open JSON object to which members are appended.
 * What is not known is null, never zero. A failed allocation leaves the buffer `failed`; record_write then says so.
 *
 *     line_start(&b, "row");
 *     line_put_text(&b, "row", "agent/c4/cold");
 *     line_open(&b, "metrics", '{');
 *     line_put_metric(&b, "ttft_ms", &summary, percentiles);
 *     line_close(&b, '}');
 *     line_end(&b);
 *
 * Inside an array `name` is NULL. Times are written to the microsecond, and a row's figures follow from the times as
 * they are written: a producer rounds each time with line_round_ms before it computes anything from it.
 */
#ifndef RECORD_LINE_H
#define RECORD_LINE_H

#include "base/buf.h"
#include "base/stats.h"

enum { LINE_PERCENTILES = 4 }; /* p50, p90, p95, p99 */

/* Empties the buffer and opens the object with its "kind". */
void line_start(struct buf *b, const char *kind);
void line_end(struct buf *b); /* closes the object; no newline */

/* "name":{ or "name":[ and its end; bracket is '{' or '[', then '}' or ']'. */
void line_open(struct buf *b, const char *name, char bracket);
void line_close(struct buf *b, char bracket);

void line_key(struct buf *b, const char *name); /* "name": with a comma before it where one is due */
void line_put_null(struct buf *b, const char *name);
void line_put_text(struct buf *b, const char *name, const char *value); /* NULL and "" are null */
void line_put_uint(struct buf *b, const char *name, uint64_t v);
void line_put_count(struct buf *b, const char *name, int64_t v); /* below 0: null */
void line_put_bool(struct buf *b, const char *name, bool v);
void line_put_ms(struct buf *b, const char *name, double v);     /* 3 decimals; below 0 or not finite: null */
void line_put_number(struct buf *b, const char *name, double v); /* 9 digits; not finite: null */
void line_put_texts(struct buf *b, const char *name, const char *const *values, size_t n);
void line_put_ms_array(struct buf *b, const char *name, const double *values, size_t n); /* NULL: null */
void line_put_numbers(struct buf *b, const char *name, const double *values, size_t n);  /* NULL: null */

/* A metric of a row; n = 0 gives null. percentiles: from line_percentiles, or NULL when none is known. */
void line_put_metric(struct buf *b, const char *name, const struct stats_summary *s,
                     const double percentiles[LINE_PERCENTILES]);

/* p50, p90, p95, p99 of n values; NAN where fewer than five values lie above, that is n (1 - p) < 5 (p50: n < 5).
 * false when memory is out. */
bool line_percentiles(const double *x, size_t n, double out[LINE_PERCENTILES]);

/* A time as line_put_ms writes it. */
double line_round_ms(double ms);

#endif
