/* The lines beside rows and samples: probes, traces, the pairs of a comparison and its outcome. */
#include "base/mem.h"
#include "base/status.h"
#include "record/check.h"
#include "record/figures.h"

#include <json-c/json.h>
#include <math.h>
#include <string.h>

enum { BLOCKS_MAX = 2048 }; /* of a comparison whose ratio is computed again: the square of them is held at once */

static bool near(double a, double b) {
    return fabs(a - b) <= 2e-6 * fmax(fabs(a), fabs(b)) + 1e-9;
}

static sluice_status check_item(const struct check_context *x, const struct record_line *l, struct json_object *item) {
    struct json_object *samples = record_get(item, "samples");
    const char *name = record_text(item, "name");
    double median = record_number(item, "median"), theory = record_number(item, "theory");
    double share = record_number(item, "share");
    size_t n = samples ? json_object_array_length(samples) : 0;
    if (n) {
        double *v = mem_alloc(n * sizeof *v);
        if (!v) {
            return fail(x->err, SLUICE_E_NOMEM, "no memory to check a probe");
        }
        for (size_t i = 0; i < n; i++) {
            v[i] = json_object_get_double(json_object_array_get_idx(samples, i));
        }
        stats_sort(v, n);
        double own = stats_quantile_sorted(v, n, 0.5);
        if (!near(median, own) || !near(record_number(item, "min"), v[0]) ||
            !near(record_number(item, "max"), v[n - 1]) || record_number(item, "n") != (double)n) {
            check_add(x->check, FINDING_WRONG, l->number, NULL,
                      "probe %s: median %g, min %g, max %g, n %g; its %zu samples give %g, %g, %g", name, median,
                      record_number(item, "min"), record_number(item, "max"), record_number(item, "n"), n, own, v[0],
                      v[n - 1]);
        }
        mem_free(v);
    }
    if (!isnan(share) && (isnan(median) || !(theory > 0) || fabs(share - median / theory) > 6e-4)) {
        check_add(x->check, FINDING_WRONG, l->number, NULL, "probe %s: share %g; median / theory is %g", name, share,
                  theory > 0 ? median / theory : NAN);
    }
    return SLUICE_OK;
}

sluice_status check_probe(const struct check_context *x) {
    const struct record_line *l = x->line;
    struct json_object *items = record_get(l->tree, "items");
    for (size_t i = 0; i < json_object_array_length(items); i++) {
        TRY(check_item(x, l, json_object_array_get_idx(items, i)));
    }
    return SLUICE_OK;
}

void check_trace(const struct check_context *x) {
    const struct record_line *l = x->line;
    struct json_object *times = record_get(l->tree, "t_ms");
    size_t n = json_object_array_length(times);
    for (size_t i = 1; i < n; i++) {
        if (json_object_get_double(json_object_array_get_idx(times, i)) <
            json_object_get_double(json_object_array_get_idx(times, i - 1))) {
            check_add(x->check, FINDING_WRONG, l->number, NULL, "t_ms[%zu] of the trace lies before the one before it",
                      i);
            break;
        }
    }
    json_object_object_foreach(record_get(l->tree, "series"), name, values) {
        if (json_object_array_length(values) != n) {
            check_add(x->check, FINDING_WRONG, l->number, NULL, "series %s of the trace has %zu values for %zu times",
                      name, json_object_array_length(values), n);
        }
    }
}

/* Mean of the logarithms; NAN where a value is null or not above zero. */
static double mean_log(struct json_object *values) {
    double sum = 0;
    size_t n = json_object_array_length(values);
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = json_object_array_get_idx(values, i);
        double d = v ? json_object_get_double(v) : NAN;
        sum += d > 0 ? log(d) : NAN;
    }
    return n ? sum / (double)n : NAN;
}

void check_pair(const struct check_context *x) {
    const struct record_line *l = x->line;
    double own = exp(mean_log(record_get(l->tree, "b")) - mean_log(record_get(l->tree, "a")));
    double ratio = record_number(l->tree, "ratio");
    if (isnan(ratio) ? record_true(l->tree, "valid") : !near(ratio, own)) {
        check_add(x->check, FINDING_WRONG, l->number, record_text(l->tree, "row"),
                  "block %.0f: ratio %g; its values give %g", record_number(l->tree, "block"), ratio, own);
    }
    if (!record_true(l->tree, "valid") && !record_text(l->tree, "reason")) {
        check_add(x->check, FINDING_WRONG, l->number, record_text(l->tree, "row"),
                  "block %.0f is not valid, and no reason is given", record_number(l->tree, "block"));
    }
}

/* The median of the means of every two blocks (Hodges and Lehmann), each with itself too; exp of it. */
static sluice_status block_ratio(const struct check_context *x, const char *row, const char *metric, size_t *n,
                                 double *out) {
    double *logs = mem_alloc((x->run->n_lines + 1) * sizeof *logs), *means = NULL;
    *n = 0;
    *out = NAN;
    for (size_t i = 0; logs && i < x->run->n_lines; i++) {
        const struct record_line *p = &x->run->lines[i];
        if (p->kind == RECORD_PAIR && strcmp(record_text(p->tree, "row"), row) == 0 &&
            strcmp(record_text(p->tree, "metric"), metric) == 0 && record_true(p->tree, "valid")) {
            logs[(*n)++] = mean_log(record_get(p->tree, "b")) - mean_log(record_get(p->tree, "a"));
        }
    }
    if (logs && *n > 0 && *n <= BLOCKS_MAX) {
        size_t m = 0;
        means = mem_alloc(*n * (*n + 1) / 2 * sizeof *means);
        for (size_t i = 0; means && i < *n; i++) {
            for (size_t k = i; k < *n; k++) {
                means[m++] = 0.5 * (logs[i] + logs[k]);
            }
        }
        if (means) {
            stats_sort(means, m);
            *out = exp(stats_quantile_sorted(means, m, 0.5));
        }
    }
    bool ok = logs && (means || *n == 0 || *n > BLOCKS_MAX);
    mem_free(logs);
    mem_free(means);
    return ok ? SLUICE_OK : fail(x->err, SLUICE_E_NOMEM, "no memory to check a comparison");
}

sluice_status check_comparison(const struct check_context *x) {
    const struct record_line *l = x->line;
    const char *row = record_text(l->tree, "row");
    struct json_object *interval = record_get(l->tree, "interval");
    double ratio = record_number(l->tree, "ratio"), own;
    size_t valid;
    TRY(block_ratio(x, row, record_text(l->tree, "metric"), &valid, &own));
    if (valid != (size_t)record_number(l->tree, "blocks")) {
        check_add(x->check, FINDING_WRONG, l->number, row, "%.0f blocks; the record has %zu valid ones",
                  record_number(l->tree, "blocks"), valid);
    } else if (!isnan(own) && !near(ratio, own)) {
        check_add(x->check, FINDING_WRONG, l->number, row, "ratio %g; its %zu valid blocks give %g", ratio, valid, own);
    }
    if (interval) {
        double lo = json_object_get_double(json_object_array_get_idx(interval, 0));
        double hi = json_object_get_double(json_object_array_get_idx(interval, 1));
        bool differs = record_is(l->tree, "verdict", "better") || record_is(l->tree, "verdict", "worse");
        if (!(lo <= ratio && ratio <= hi)) {
            check_add(x->check, FINDING_WRONG, l->number, row, "ratio %g lies outside its interval %g to %g", ratio, lo,
                      hi);
        }
        if (differs && lo <= 1 && hi >= 1) {
            check_add(x->check, FINDING_WRONG, l->number, row,
                      "the verdict is \"%s\", and the interval %g to %g contains 1", record_text(l->tree, "verdict"),
                      lo, hi);
        }
    } else if (record_is(l->tree, "verdict", "better") || record_is(l->tree, "verdict", "worse")) {
        check_add(x->check, FINDING_WRONG, l->number, row, "the verdict is \"%s\" without an interval",
                  record_text(l->tree, "verdict"));
    }
    return SLUICE_OK;
}
