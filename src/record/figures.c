#include "record/figures.h"

#include "base/mem.h"
#include "base/status.h"

#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDING_MS 0.0006 /* half a microsecond, and what printing and reading a double add */

const char *const figure_names[N_FIGURES] = {
    "ttft_ms",       "ttfc_ms",       "tpot_ms",         "itl_ms",           "latency_ms",
    "queue_ms",      "decode_tok_s",  "client_tok_s",    "prefill_tok_s",    "prompt_tokens",
    "cached_tokens", "output_tokens", "aggregate_tok_s", "streams_decoding", "tok_s",
};

/* ---- Index ------------------------------------------------------------------------------------------------------- */

static int compare_numbers(struct json_object *a, struct json_object *b, const char *key) {
    double x = record_number(a, key), y = record_number(b, key);
    return (x > y) - (x < y);
}

static int compare_samples(const void *pa, const void *pb) {
    struct json_object *a = *(struct json_object *const *)pa;
    struct json_object *b = *(struct json_object *const *)pb;
    int c = strcmp(record_text(a, "row"), record_text(b, "row"));
    c = c ? c : compare_numbers(a, b, "target");
    c = c ? c : record_true(b, "warmup") - record_true(a, "warmup");
    c = c ? c : compare_numbers(a, b, "run");
    return c ? c : compare_numbers(a, b, "stream");
}

sluice_status sample_index_make(const struct record_run *run, struct sample_index *out, sluice_error *err) {
    *out = (struct sample_index){0};
    for (size_t i = 0; i < run->n_lines; i++) {
        out->n += run->lines[i].kind == RECORD_SAMPLE;
    }
    out->samples = mem_calloc(out->n + 1, sizeof(struct json_object *));
    if (!out->samples) {
        return fail(err, SLUICE_E_NOMEM, "no memory to check the record");
    }
    size_t n = 0;
    for (size_t i = 0; i < run->n_lines; i++) {
        if (run->lines[i].kind == RECORD_SAMPLE) {
            out->samples[n++] = run->lines[i].tree;
        }
    }
    qsort(out->samples, n, sizeof(struct json_object *), compare_samples);
    return SLUICE_OK;
}

void sample_index_free(struct sample_index *x) {
    mem_free(x->samples);
    *x = (struct sample_index){0};
}

static int compare_key(struct json_object *s, const char *row, int target) {
    int c = strcmp(record_text(s, "row"), row);
    return c ? c : (int)record_number(s, "target") - target;
}

struct json_object **sample_index_find(const struct sample_index *x, const char *row, int target, size_t *n) {
    size_t lo = 0, hi = x->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (compare_key(x->samples[mid], row, target) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    size_t end = lo;
    while (end < x->n && compare_key(x->samples[end], row, target) == 0) {
        end++;
    }
    *n = end - lo;
    return x->samples + lo;
}

/* ---- Values ------------------------------------------------------------------------------------------------------ */

static bool add(struct figures *f, enum figure which, double value, double tolerance) {
    struct figure_values *v = &f->of[which];
    if (!isfinite(value)) {
        return true; /* one of its times or counts is not known */
    }
    if (v->n == v->cap) {
        size_t cap = v->cap ? 2 * v->cap : 16;
        double *x = mem_realloc(v->x, cap * sizeof *x);
        if (!x) {
            return false;
        }
        v->x = x;
        v->cap = cap;
    }
    v->x[v->n++] = value;
    v->tolerance = fmax(v->tolerance, tolerance);
    return true;
}

/* A rate over a time: NAN where the time is not known or zero. */
static bool add_rate(struct figures *f, enum figure which, double amount, double ms, double roundings) {
    double rate = ms > 0 ? 1000 * amount / ms : NAN;
    return add(f, which, rate, fabs(rate) * roundings * ROUNDING_MS / ms);
}

static bool add_gaps(struct figures *f, struct json_object *token_ms) {
    size_t n = token_ms ? json_object_array_length(token_ms) : 0;
    for (size_t i = 1; i < n; i++) {
        double gap = json_object_get_double(json_object_array_get_idx(token_ms, i)) -
                     json_object_get_double(json_object_array_get_idx(token_ms, i - 1));
        if (!add(f, FIG_ITL, gap, 2 * ROUNDING_MS)) {
            return false;
        }
    }
    return true;
}

static bool add_sample(struct figures *f, struct json_object *s, bool raw) {
    double first = record_number(s, "first_token_ms"), last = record_number(s, "last_token_ms");
    double end = record_number(s, "end_ms"), send = record_number(s, "send_ms");
    double intended = record_number(s, "intended_ms");
    double prompt = record_number(s, "prompt_tokens"), cached = record_number(s, "cached_tokens");
    double output = record_number(s, "output_tokens");
    bool ok = add(f, FIG_PROMPT, prompt, 0) && add(f, FIG_CACHED, cached, 0) && add(f, FIG_OUTPUT, output, 0);
    double late = isnan(intended) ? 0 : send - intended;
    ok = ok && add(f, FIG_LATENCY, end + late, 3 * ROUNDING_MS);
    if (raw) {
        double tokens = (isnan(prompt) ? 0 : prompt) + (isnan(output) ? 0 : output);
        return ok && (tokens == 0 || add_rate(f, FIG_TOK_S, tokens, end, 1));
    }
    ok = ok && add(f, FIG_TTFT, first, ROUNDING_MS) &&
         add(f, FIG_TTFC, record_number(s, "first_content_ms"), ROUNDING_MS);
    ok = ok && add(f, FIG_QUEUE, send - intended, 2 * ROUNDING_MS);
    ok = ok && add_rate(f, FIG_CLIENT, output, end, 1);
    ok = ok && add_rate(f, FIG_PREFILL, fmax(prompt - (isnan(cached) ? 0 : cached), isnan(prompt) ? NAN : 0), first, 1);
    double decoding = last - first;
    if (ok && output >= 2 && decoding > 0) {
        ok = add(f, FIG_TPOT, decoding / (output - 1), 2 * ROUNDING_MS / (output - 1)) &&
             add_rate(f, FIG_DECODE, output - 1, decoding, 2);
    }
    return ok && add_gaps(f, record_get(s, "token_ms"));
}

/* ---- Rounds ------------------------------------------------------------------------------------------------------ */

struct span {
    double from, to;
};

static int compare_spans(const void *a, const void *b) {
    double x = ((const struct span *)a)->from, y = ((const struct span *)b)->from;
    return (x > y) - (x < y);
}

static double union_length(struct span *spans, size_t n) {
    qsort(spans, n, sizeof *spans, compare_spans);
    double total = 0, end = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        double from = fmax(spans[i].from, end);
        if (spans[i].to > from) {
            total += spans[i].to - from;
            end = spans[i].to;
        }
    }
    return total;
}

/* The requests of one run: they were sent together. One that failed, or whose times are not known, takes the round
 * out. */
static bool add_round(struct figures *f, struct json_object **samples, size_t n) {
    double first_send = INFINITY, last_end = 0, tokens = 0, decoding = 0;
    struct span *spans = mem_alloc(n * sizeof *spans);
    if (!spans) {
        return false;
    }
    bool whole = true, decodes = true;
    for (size_t i = 0; i < n; i++) {
        struct json_object *s = samples[i];
        double send = record_number(s, "send_ms"), first = record_number(s, "first_token_ms");
        double last = record_number(s, "last_token_ms"), end = record_number(s, "end_ms");
        double output = record_number(s, "output_tokens");
        whole = whole && record_true(s, "ok") && !isnan(send) && !isnan(end) && !isnan(output);
        decodes = decodes && last > first;
        first_send = fmin(first_send, send);
        last_end = fmax(last_end, send + end);
        tokens += output;
        decoding += last - first;
        spans[i] = (struct span){send + first, send + last};
    }
    bool ok = !whole || add_rate(f, FIG_AGGREGATE, tokens, last_end - first_send, 3);
    if (ok && whole && decodes) {
        double any = union_length(spans, n);
        double streams = decoding / any;
        ok = add(f, FIG_STREAMS, streams, (streams + 1) * 4 * (double)n * ROUNDING_MS / any);
    }
    mem_free(spans);
    return ok;
}

static void count_round(struct figures *f, struct json_object *first) {
    if (record_true(first, "warmup")) {
        f->n_warmups++;
    } else {
        f->n_runs++;
    }
}

sluice_status figures_compute(struct json_object **samples, size_t n, bool raw, struct figures *out,
                              sluice_error *err) {
    *out = (struct figures){.n_samples = 0};
    bool ok = true;
    for (size_t from = 0; from < n && ok;) {
        size_t to = from;
        bool warmup = record_true(samples[from], "warmup");
        while (to < n && record_true(samples[to], "warmup") == warmup &&
               compare_numbers(samples[to], samples[from], "run") == 0) {
            bool counts = !warmup && record_true(samples[to], "ok");
            out->n_failed += !warmup && !counts;
            out->n_samples += counts;
            ok = ok && (!counts || add_sample(out, samples[to], raw));
            to++;
        }
        count_round(out, samples[from]);
        bool open_loop = !isnan(record_number(samples[from], "intended_ms")); /* requests come one by one: no rounds */
        ok = ok && (warmup || raw || open_loop || add_round(out, samples + from, to - from));
        from = to;
    }
    if (!ok) {
        figures_free(out);
        return fail(err, SLUICE_E_NOMEM, "no memory to compute a row's figures");
    }
    return SLUICE_OK;
}

void figures_free(struct figures *f) {
    for (int i = 0; i < N_FIGURES; i++) {
        mem_free(f->of[i].x);
        f->of[i] = (struct figure_values){0};
    }
}

bool figures_summarise(const struct figure_values *v, struct stats_summary *out) {
    *out = (struct stats_summary){.n = v->n};
    if (v->n == 0) {
        return true;
    }
    double *sorted = mem_alloc(v->n * sizeof *sorted);
    if (!sorted) {
        return false;
    }
    memcpy(sorted, v->x, v->n * sizeof *sorted);
    stats_sort(sorted, v->n);
    out->median = stats_quantile_sorted(sorted, v->n, 0.5);
    out->mean = stats_mean(v->x, v->n);
    out->sd = stats_sd(v->x, v->n);
    out->min = sorted[0];
    out->max = sorted[v->n - 1];
    out->has_interval = v->n >= STATS_CI_MIN_N;
    if (out->has_interval) {
        out->level = stats_order_interval(sorted, v->n, 0.95, out->interval);
    }
    mem_free(sorted);
    return true;
}
