/* The lines beside rows and samples: probes and traces. */
#include "base/mem.h"
#include "base/status.h"
#include "record/check.h"
#include "record/figures.h"

#include <json-c/json.h>
#include <math.h>
#include <string.h>

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
