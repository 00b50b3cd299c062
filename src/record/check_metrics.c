/* Every figure of a row against what its samples give. */
#include "base/mem.h"
#include "base/status.h"
#include "record/check.h"
#include "record/figures.h"
#include "record/line.h"

#include <json-c/json.h>
#include <math.h>
#include <string.h>

#define PRINTED 1e-6 /* relative: figures are written with nine digits, older ones with seven */

#define WRONG(x, ...) check_add((x)->check, FINDING_WRONG, (x)->line->number, (x)->row, __VA_ARGS__)

/* One number of a metric. Both unknown is right; so is a difference that rounding explains. */
static void compare(const struct check_context *x, const char *metric, const char *part, double said, double own,
                    double tolerance, size_t n) {
    if (isnan(said) && isnan(own)) {
        return;
    }
    if (isnan(own)) {
        WRONG(x, "%s: %s is %.9g, and %zu values do not allow one", metric, part, said, n);
    } else if (isnan(said)) {
        WRONG(x, "%s: %s is null, and the samples give %.9g", metric, part, own);
    } else if (fabs(said - own) > tolerance + PRINTED * fabs(own)) {
        WRONG(x, "%s: %s is %.9g, and the samples give %.9g", metric, part, said, own);
    }
}

static double bound(struct json_object *metric, size_t i) {
    struct json_object *interval = record_get(metric, "interval");
    return interval ? json_object_get_double(json_object_array_get_idx(interval, i)) : NAN;
}

static sluice_status compare_metric(const struct check_context *x, const char *name, struct json_object *metric,
                                    const struct figure_values *v) {
    static const char *const percentiles[LINE_PERCENTILES] = {"p50", "p90", "p95", "p99"};
    double *sorted = mem_alloc((v->n + 1) * sizeof *sorted);
    double p[LINE_PERCENTILES], interval[2] = {NAN, NAN}, level = NAN;
    if (!sorted || !line_percentiles(v->x, v->n, p)) {
        mem_free(sorted);
        return fail(x->err, SLUICE_E_NOMEM, "no memory to check a row");
    }
    size_t n = v->n;
    memcpy(sorted, v->x, n * sizeof *sorted);
    stats_sort(sorted, n);
    if (record_number(metric, "n") != (double)n) {
        WRONG(x, "%s: n is %.0f, and %zu samples have a value", name, record_number(metric, "n"), n);
    } else {
        if (n >= STATS_CI_MIN_N) {
            level = stats_order_interval(sorted, n, 0.95, interval);
        }
        double t = v->tolerance + 1e-9;
        compare(x, name, "median", record_number(metric, "median"), stats_quantile_sorted(sorted, n, 0.5), t, n);
        compare(x, name, "mean", record_number(metric, "mean"), stats_mean(v->x, n), t, n);
        compare(x, name, "sd", record_number(metric, "sd"), n > 1 ? stats_sd(v->x, n) : NAN,
                2 * t + PRINTED * fabs(sorted[n - 1]), n);
        compare(x, name, "min", record_number(metric, "min"), sorted[0], t, n);
        compare(x, name, "max", record_number(metric, "max"), sorted[n - 1], t, n);
        compare(x, name, "interval[0]", bound(metric, 0), interval[0], t, n);
        compare(x, name, "interval[1]", bound(metric, 1), interval[1], t, n);
        compare(x, name, "level", record_number(metric, "level"), level, 1e-4, n);
        for (int i = 0; i < LINE_PERCENTILES; i++) {
            compare(x, name, percentiles[i], record_number(metric, percentiles[i]), p[i], t, n);
        }
    }
    mem_free(sorted);
    return SLUICE_OK;
}

/* Those that a row of this kind shows whenever its samples allow it. */
static bool expected(enum figure f, bool raw) {
    switch (f) {
    case FIG_TOK_S:
        return raw;
    case FIG_TTFT:
    case FIG_TPOT:
    case FIG_DECODE:
    case FIG_CLIENT:
    case FIG_LATENCY:
    case FIG_OUTPUT:
        return !raw;
    default:
        return false;
    }
}

static void check_counts(const struct check_context *x, const struct figures *f) {
    struct json_object *row = x->line->tree;
    double runs = record_number(row, "runs"), warmups = record_number(row, "warmups");
    if (!isnan(runs) && runs != (double)f->n_runs && record_is(row, "arrival", "closed")) {
        WRONG(x, "runs is %.0f, and the samples have %zu", runs, f->n_runs);
    }
    if (!isnan(warmups) && warmups != (double)f->n_warmups && record_is(row, "arrival", "closed")) {
        WRONG(x, "warmups is %.0f, and the samples have %zu", warmups, f->n_warmups);
    }
    if (record_number(row, "failed") != (double)f->n_failed) {
        WRONG(x, "failed is %.0f, and %zu samples failed", record_number(row, "failed"), f->n_failed);
    }
}

sluice_status check_metrics(const struct check_context *x, const struct figures *f) {
    struct json_object *row = x->line->tree, *metrics = record_get(row, "metrics");
    bool raw = record_is(row, "test", "raw"), printed = record_get(row, "printed") != NULL;
    if (printed && f->n_samples == 0) {
        json_object_object_foreach(metrics, name, value) {
            if (value) {
                WRONG(x, "%s has a summary, and the imported row no samples to take it from", name);
            }
        }
        return SLUICE_OK;
    }
    check_counts(x, f);
    for (int i = 0; i < N_FIGURES; i++) {
        struct json_object *metric = record_get(metrics, figure_names[i]);
        const struct figure_values *v = &f->of[i];
        if (metric && v->n == 0) {
            WRONG(x, "%s has values, and no sample gives one", figure_names[i]);
        } else if (metric) {
            TRY(compare_metric(x, figure_names[i], metric, v));
        } else if (v->n && expected((enum figure)i, raw)) {
            WRONG(x, "%s is missing, and the samples give it", figure_names[i]);
        }
    }
    static const char *const per_row[] = {"goodput_rps", "request_rps", "server_overhead_ms"};
    for (size_t i = 0; i < 3; i++) {
        struct json_object *metric = record_get(metrics, per_row[i]);
        if (metric && record_number(metric, "n") != 1) {
            WRONG(x, "%s is one value per row, and n is %.0f", per_row[i], record_number(metric, "n"));
        }
    }
    double goodput = record_number(record_get(metrics, "goodput_rps"), "median");
    if (goodput > record_number(record_get(metrics, "request_rps"), "median") * (1 + PRINTED)) {
        WRONG(x, "goodput_rps is above request_rps");
    }
    return SLUICE_OK;
}
