#include "record/line.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void line_key(struct buf *b, const char *name) {
    char last = b->len ? b->data[b->len - 1] : '{';
    if (last != '{' && last != '[') {
        buf_putc(b, ',');
    }
    if (name) {
        buf_json_string(b, name, strlen(name));
        buf_putc(b, ':');
    }
}

void line_start(struct buf *b, const char *kind) {
    buf_reset(b);
    buf_putc(b, '{');
    line_put_text(b, "kind", kind);
}

void line_end(struct buf *b) {
    buf_putc(b, '}');
}

void line_open(struct buf *b, const char *name, char bracket) {
    line_key(b, name);
    buf_putc(b, bracket);
}

void line_close(struct buf *b, char bracket) {
    buf_putc(b, bracket);
}

void line_put_null(struct buf *b, const char *name) {
    line_key(b, name);
    buf_puts(b, "null");
}

void line_put_text(struct buf *b, const char *name, const char *value) {
    line_key(b, name);
    if (value && value[0]) {
        buf_json_string(b, value, strlen(value));
    } else {
        buf_puts(b, "null");
    }
}

void line_put_uint(struct buf *b, const char *name, uint64_t v) {
    line_key(b, name);
    buf_printf(b, "%llu", (unsigned long long)v);
}

void line_put_count(struct buf *b, const char *name, int64_t v) {
    line_key(b, name);
    if (v < 0) {
        buf_puts(b, "null");
    } else {
        buf_printf(b, "%lld", (long long)v);
    }
}

void line_put_bool(struct buf *b, const char *name, bool v) {
    line_key(b, name);
    buf_puts(b, v ? "true" : "false");
}

void line_put_ms(struct buf *b, const char *name, double v) {
    line_key(b, name);
    if (isfinite(v) && v >= 0) {
        buf_printf(b, "%.3f", v);
    } else {
        buf_puts(b, "null");
    }
}

void line_put_number(struct buf *b, const char *name, double v) {
    line_key(b, name);
    if (isfinite(v)) {
        buf_printf(b, "%.9g", v);
    } else {
        buf_puts(b, "null");
    }
}

void line_put_texts(struct buf *b, const char *name, const char *const *values, size_t n) {
    line_open(b, name, '[');
    for (size_t i = 0; i < n; i++) {
        line_put_text(b, NULL, values[i]);
    }
    line_close(b, ']');
}

static void put_array(struct buf *b, const char *name, const double *values, size_t n,
                      void (*put)(struct buf *, const char *, double)) {
    if (!values) {
        line_put_null(b, name);
        return;
    }
    line_open(b, name, '[');
    for (size_t i = 0; i < n; i++) {
        put(b, NULL, values[i]);
    }
    line_close(b, ']');
}

void line_put_ms_array(struct buf *b, const char *name, const double *values, size_t n) {
    put_array(b, name, values, n, line_put_ms);
}

void line_put_numbers(struct buf *b, const char *name, const double *values, size_t n) {
    put_array(b, name, values, n, line_put_number);
}

void line_put_metric(struct buf *b, const char *name, const struct stats_summary *s,
                     const double percentiles[LINE_PERCENTILES]) {
    static const char *const names[LINE_PERCENTILES] = {"p50", "p90", "p95", "p99"};
    if (s->n == 0) {
        line_put_null(b, name);
        return;
    }
    line_open(b, name, '{');
    line_put_number(b, "median", s->median);
    line_put_numbers(b, "interval", s->has_interval ? s->interval : NULL, 2);
    line_put_number(b, "level", s->has_interval ? s->level : NAN);
    line_put_number(b, "mean", s->mean);
    line_put_number(b, "sd", s->n > 1 ? s->sd : NAN);
    line_put_number(b, "min", s->min);
    line_put_number(b, "max", s->max);
    line_put_uint(b, "n", s->n);
    for (int i = 0; i < LINE_PERCENTILES; i++) {
        line_put_number(b, names[i], percentiles ? percentiles[i] : NAN);
    }
    line_close(b, '}');
}

bool line_percentiles(const double *x, size_t n, double out[LINE_PERCENTILES]) {
    static const size_t needed[LINE_PERCENTILES] = {5, 50, 100, 500}; /* n (1 - p) >= 5 */
    static const double p[LINE_PERCENTILES] = {0.5, 0.9, 0.95, 0.99};
    for (int i = 0; i < LINE_PERCENTILES; i++) {
        out[i] = NAN;
    }
    if (n < needed[0]) {
        return true;
    }
    double *sorted = mem_alloc(n * sizeof *sorted);
    if (!sorted) {
        return false;
    }
    memcpy(sorted, x, n * sizeof *sorted);
    stats_sort(sorted, n);
    for (int i = 0; i < LINE_PERCENTILES; i++) {
        if (n >= needed[i]) {
            out[i] = stats_quantile_sorted(sorted, n, p[i]);
        }
    }
    mem_free(sorted);
    return true;
}

/* Through the text, because a decimal's nearest double need not be what round(ms * 1000) / 1000 gives. */
double line_round_ms(double ms) {
    char text[64];
    int n = snprintf(text, sizeof text, "%.3f", ms);
    return n > 0 && (size_t)n < sizeof text ? strtod(text, NULL) : ms;
}
