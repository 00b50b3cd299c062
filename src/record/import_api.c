/*
 * Load generators that ask servers over the API.
 *
 *   vllm bench serve --save-result   one object: totals, and statistics named mean_ttft_ms, p99_itl_ms...; with
 *                                    --save-detailed also lists: input_lens, output_lens, ttfts and itls (seconds),
 * errors
 *                                    (vllm/benchmarks/serve.py, read at 0.11 to 0.21; start_times in the later ones)
 *   AIPerf profile_export_aiperf.json   one object: a block {"unit", "avg", "p50"...} per metric (schema 1.0 to 1.5)
 *   AIPerf profile_export.jsonl         an object per request: "metadata", "metrics" {"value", "unit"}, "error"
 *
 * Both count a request's latency to its last token, so end_ms is last_token_ms. None sends a nonce or reads the count
 * of cached tokens, so the rows stay unverified.
 */
#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "json/tree.h"
#include "record/import.h"
#include "record/line.h"
#include "record/record.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PRINTED_MAX = 400, NAME_MAX_BYTES = 64 };

static sluice_status parse(struct import *im, const char *s, size_t n, struct json_object **out) {
    struct json_tree_limits limits = {im->name, LIMIT_RECORD_VALUES, 1 << 18};
    return json_tree_parse(s, n, &limits, false, out, NULL, im->err);
}

/* ---- What is printed --------------------------------------------------------------------------------------------- */

struct printed_list {
    const char **pairs; /* [n][2]; names are ours, values the tree's */
    char (*names)[NAME_MAX_BYTES];
    size_t n;
};

static sluice_status printed_start(struct import *im, struct printed_list *l) {
    *l = (struct printed_list){.pairs = mem_calloc((size_t)2 * PRINTED_MAX, sizeof *l->pairs),
                               .names = mem_calloc(PRINTED_MAX, NAME_MAX_BYTES)};
    return l->pairs && l->names ? SLUICE_OK : fail(im->err, SLUICE_E_NOMEM, "no memory for %s", im->name);
}

static void printed_free(struct printed_list *l) {
    mem_free(l->pairs);
    mem_free(l->names);
}

/* prefix.name in the letters that a record's names may have; a number, or a text of one line. */
static void printed_add(struct printed_list *l, const char *prefix, const char *name, struct json_object *v) {
    enum json_type type = json_object_get_type(v);
    if (l->n == PRINTED_MAX || (type != json_type_int && type != json_type_double && type != json_type_string)) {
        return;
    }
    char *out = l->names[l->n];
    int n = snprintf(out, NAME_MAX_BYTES, "%s%s%s", prefix, prefix[0] ? "." : "", name);
    if (n <= 0 || n >= NAME_MAX_BYTES) {
        return;
    }
    for (int i = 0; i < n; i++) {
        char c = out[i];
        out[i] = (char)(c >= 'A' && c <= 'Z'                                           ? c + 32
                        : (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ? c
                                                                                       : '_');
    }
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->names[i], out) == 0) {
            return; /* names that differ only in signs */
        }
    }
    l->pairs[2 * l->n] = out;
    l->pairs[2 * l->n + 1] = json_object_get_string(v);
    l->n++;
}

/* ---- vLLM -------------------------------------------------------------------------------------------------------- */

static struct json_object *list(struct json_object *o, const char *key) {
    struct json_object *v = record_get(o, key);
    return v && json_object_is_type(v, json_type_array) ? v : NULL;
}

static double element(struct json_object *array, size_t i) {
    struct json_object *v = array && i < json_object_array_length(array) ? json_object_array_get_idx(array, i) : NULL;
    return json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double) ? json_object_get_double(v)
                                                                                             : NAN;
}

static int64_t count(double v) {
    return v >= 0 && v < 1e9 ? (int64_t)v : -1;
}

/* Times of the tokens from the gaps between pieces, seconds; known only where every piece carried one token. */
static sluice_status token_times(struct import *im, struct import_sample *s, struct json_object *gaps, double scale,
                                 double **times) {
    size_t n = gaps ? json_object_array_length(gaps) : 0;
    double at = s->first_token_ms;
    *times = NULL;
    if (n == 0 || isnan(at)) {
        return SLUICE_OK;
    }
    *times = mem_alloc((n + 1) * sizeof **times);
    if (!*times) {
        return fail(im->err, SLUICE_E_NOMEM, "no memory for %s", im->name);
    }
    (*times)[0] = at;
    for (size_t i = 0; i < n; i++) {
        double gap = element(gaps, i);
        if (!(gap >= 0 && gap < 1e9)) {
            mem_free(*times);
            *times = NULL;
            return fail(im->err, SLUICE_E_FORMAT, "%s: a gap between tokens is no time", im->name);
        }
        (*times)[i + 1] = at += gap * scale;
    }
    s->chunks = (int64_t)n + 1;
    s->last_token_ms = at;
    if (s->output_tokens == s->chunks) {
        s->token_ms = *times;
        s->n_token_ms = n + 1;
    }
    return SLUICE_OK;
}

static sluice_status vllm_sample(struct import *im, struct json_object *o, const char *key, size_t i, double start,
                                 size_t *failed, const char **error) {
    struct json_object *errors = list(o, "errors"), *itls = list(o, "itls");
    struct json_object *e =
        errors && i < json_object_array_length(errors) ? json_object_array_get_idx(errors, i) : NULL;
    struct json_object *gaps = itls && i < json_object_array_length(itls) ? json_object_array_get_idx(itls, i) : NULL;
    const char *text = json_object_is_type(e, json_type_string) ? json_object_get_string(e) : "";
    struct import_sample s;
    double *times = NULL;
    import_sample_init(&s, key);
    s.stream = i;
    s.prompt_tokens = count(element(list(o, "input_lens"), i));
    double sent = element(list(o, "start_times"), i);
    s.send_ms = sent >= start ? 1000 * (sent - start) : NAN;
    if (text[0]) {
        *error = *failed ? *error : text;
        ++*failed;
        s.error = text;
        return import_put_sample(im, &s);
    }
    double ttft = element(list(o, "ttfts"), i);
    s.first_token_ms = ttft > 0 ? 1000 * ttft : NAN;
    s.output_tokens = count(element(list(o, "output_lens"), i));
    bool is_list = json_object_is_type(gaps, json_type_array);
    TRY(token_times(im, &s, is_list ? gaps : NULL, 1000, &times));
    s.last_token_ms = isnan(s.last_token_ms) ? s.first_token_ms : s.last_token_ms;
    s.end_ms = s.last_token_ms;
    sluice_status status = import_put_sample(im, &s);
    mem_free(times);
    return status;
}

static double earliest(struct json_object *times) {
    double first = INFINITY;
    for (size_t i = 0; times && i < json_object_array_length(times); i++) {
        first = fmin(first, element(times, i));
    }
    return first;
}

static sluice_status vllm_lines(struct import *im, struct json_object *o, struct printed_list *printed) {
    struct json_object *ttfts = list(o, "ttfts"), *rate = record_get(o, "request_rate");
    double concurrency = record_number(o, "max_concurrency"), rps = record_number(o, "request_rate");
    bool open_loop = rps > 0 && isfinite(rps);
    char key[96], note[256];
    struct import_run r;
    struct import_row row;
    const char *date = record_text(o, "date"), *backend = record_text(o, "backend");
    import_run_init(&r);
    snprintf(note, sizeof note,
             "client: vllm bench serve; date as printed, without a time zone: %.40s; request rate %.40s",
             date ? date : "none", rate ? json_object_get_string(rate) : "not stated");
    r.label = record_text(o, "label");
    r.suite = "vllm-bench";
    r.suite_about = "vllm bench serve";
    r.note = note;
    r.statistic = "median over requests; the source prints means, medians and percentiles";
    r.engine = backend ? backend : record_text(o, "endpoint_type");
    r.model = record_text(o, "model_id");
    r.repository = record_text(o, "model_id");
    r.streaming = 1;
    TRY(import_put_run(im, &r));

    if (concurrency > 0) {
        snprintf(key, sizeof key, "vllm-bench/c%.0f", concurrency);
    } else if (open_loop) {
        snprintf(key, sizeof key, "vllm-bench/rate%g", rps);
    } else {
        snprintf(key, sizeof key, "vllm-bench/all-at-once");
    }
    import_row_init(&row, key, "api");
    double start = earliest(list(o, "start_times"));
    for (size_t i = 0; ttfts && i < json_object_array_length(ttfts); i++) {
        TRY(vllm_sample(im, o, key, i, start, &row.failed, &row.error));
    }
    row.workload = "vllm-bench";
    row.cache_reason = "the source has no count of cached tokens";
    row.concurrency = concurrency > 0 ? concurrency : NAN;
    row.arrival = open_loop ? "poisson" : "none";
    row.rate_rps = open_loop ? rps : NAN;
    row.printed = printed->pairs;
    row.n_printed = printed->n;
    row.reason =
        im->n_samples ? NULL : "statistics without samples (--save-detailed keeps them): they cannot be computed again";
    TRY(import_put_row(im, &row));
    return import_put_end(im, record_number(o, "duration"), NULL);
}

sluice_status import_vllm(struct import *im) {
    struct json_object *o = NULL;
    struct printed_list printed;
    TRY(parse(im, im->bytes, im->n, &o));
    sluice_status status = printed_start(im, &printed);
    if (status == SLUICE_OK && (isnan(record_number(o, "duration")) || isnan(record_number(o, "completed")))) {
        status = fail(im->err, SLUICE_E_FORMAT, "%s: \"duration\" and \"completed\" of vllm bench serve are missing",
                      im->name);
    }
    if (status == SLUICE_OK) {
        json_object_object_foreach(o, name, v) {
            printed_add(&printed, "", name, v);
        }
        status = vllm_lines(im, o, &printed);
    }
    printed_free(&printed);
    json_object_put(o);
    return status;
}

/* ---- AIPerf ------------------------------------------------------------------------------------------------------ */

static const char *first_text(struct json_object *o, const char *const *paths, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = record_path(o, paths[i]);
        if (v && json_object_is_type(v, json_type_array) && json_object_array_length(v)) {
            v = json_object_array_get_idx(v, 0);
        }
        if (v && json_object_is_type(v, json_type_string)) {
            return json_object_get_string(v);
        }
    }
    return NULL;
}

static double first_number(struct json_object *o, const char *const *paths, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = record_path(o, paths[i]);
        if (json_object_is_type(v, json_type_int)) {
            return json_object_get_double(v);
        }
    }
    return NAN;
}

static sluice_status aiperf_summary(struct import *im, struct json_object *o, struct printed_list *printed) {
    static const char *const models[] = {"input_config.endpoint.model_names", "input_config.models",
                                         "input_config.model"};
    static const char *const concurrencies[] = {"input_config.loadgen.concurrency", "input_config.concurrency",
                                                "run_info.variation_values.concurrency"};
    static const char *const commands[] = {"input_config.cli_command", "run_info.cli_command"};
    struct import_run r;
    struct import_row row;
    const char *version = record_text(o, "aiperf_version");
    char note[160], key[96];
    json_object_object_foreach(o, name, block) {
        if (!json_object_is_type(block, json_type_object) || !record_text(block, "unit")) {
            continue;
        }
        json_object_object_foreach(block, part, v) {
            printed_add(printed, name, part, v);
        }
    }
    if (printed->n == 0) {
        return fail(im->err, SLUICE_E_FORMAT, "%s: no metric block of AIPerf (\"unit\", \"avg\"...) is in it",
                    im->name);
    }
    import_run_init(&r);
    snprintf(note, sizeof note, "client: AIPerf %.60s, schema %.20s", version ? version : "of unknown version",
             record_text(o, "schema_version") ? record_text(o, "schema_version") : "not stated");
    r.suite = "aiperf";
    r.suite_about = "AIPerf profile";
    r.command = first_text(o, commands, 2);
    r.note = note;
    r.statistic = "as printed: averages and percentiles over requests";
    r.model = first_text(o, models, 3);
    r.repository = r.model;
    TRY(import_put_run(im, &r));
    double c = first_number(o, concurrencies, 3);
    snprintf(key, sizeof key, c > 0 ? "aiperf/c%.0f" : "aiperf", c);
    import_row_init(&row, key, "api");
    row.workload = "aiperf";
    row.cache_reason = "the source has no count of cached tokens";
    row.concurrency = c > 0 ? c : NAN;
    row.printed = printed->pairs;
    row.n_printed = printed->n;
    row.reason = "statistics without samples (profile_export.jsonl has them): they cannot be computed again";
    TRY(import_put_row(im, &row));
    return import_put_end(im, NAN, NULL);
}

/* A metric's value in ms, whatever unit it names; NAN where it is absent. Lists: scale only. */
static struct json_object *metric_value(struct json_object *metrics, const char *name, double *to_ms) {
    struct json_object *m = record_get(metrics, name);
    const char *unit = record_text(m, "unit");
    *to_ms = !unit                                                ? 1
             : strcmp(unit, "s") == 0 || strcmp(unit, "sec") == 0 ? 1e3
             : strcmp(unit, "us") == 0                            ? 1e-3
             : strcmp(unit, "ns") == 0                            ? 1e-6
                                                                  : 1;
    return record_get(m, "value");
}

static double metric_number(struct json_object *metrics, const char *name, bool is_time) {
    double to_ms;
    struct json_object *v = metric_value(metrics, name, &to_ms);
    bool number = json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double);
    return number ? json_object_get_double(v) * (is_time ? to_ms : 1) : NAN;
}

static sluice_status aiperf_sample(struct import *im, struct json_object *o, size_t i, double start_ns, size_t *failed,
                                   char error[200]) {
    struct json_object *meta = record_get(o, "metadata"), *metrics = record_get(o, "metrics"),
                       *e = record_get(o, "error");
    struct import_sample s;
    double to_ms = 1, *times = NULL;
    char text[200] = "";
    import_sample_init(&s, "aiperf");
    s.warmup = record_is(meta, "benchmark_phase", "warmup");
    s.stream = i;
    double start = record_number(meta, "request_start_ns");
    s.send_ms = start >= start_ns ? (start - start_ns) / 1e6 : NAN;
    s.prompt_tokens = count(metric_number(metrics, "input_sequence_length", false));
    if (e) {
        const char *what = record_text(e, "message");
        snprintf(text, sizeof text, "%.190s", what ? what : "the source gives no reason");
        s.error = text;
        if (!s.warmup && ++*failed == 1) {
            memcpy(error, text, sizeof text);
        }
        return import_put_sample(im, &s);
    }
    s.output_tokens = count(metric_number(metrics, "output_sequence_length", false));
    if (s.output_tokens < 0) {
        s.output_tokens = count(metric_number(metrics, "output_token_count", false));
    }
    s.reasoning_tokens = count(metric_number(metrics, "reasoning_token_count", false));
    s.first_token_ms = metric_number(metrics, "time_to_first_token", true);
    struct json_object *gaps = metric_value(metrics, "inter_chunk_latency", &to_ms);
    TRY(token_times(im, &s, json_object_is_type(gaps, json_type_array) ? gaps : NULL, to_ms, &times));
    double latency = metric_number(metrics, "request_latency", true);
    s.last_token_ms = isnan(s.last_token_ms) && !isnan(s.first_token_ms) ? latency : s.last_token_ms;
    s.end_ms = latency < s.last_token_ms ? s.last_token_ms : latency; /* sums of rounded gaps */
    sluice_status status = import_put_sample(im, &s);
    mem_free(times);
    return status;
}

/* One line after the other. The first round writes nothing and looks for the earliest start. */
static sluice_status aiperf_lines(struct import *im, bool write, double *start_ns, size_t *failed, char error[200]) {
    size_t at = 0, number = 0, i = 0;
    while (at < im->n) {
        const char *end = memchr(im->bytes + at, '\n', im->n - at);
        size_t len = end ? (size_t)(end - im->bytes) - at : im->n - at;
        struct json_object *o = NULL;
        number++;
        if (len > LIMIT_RECORD_LINE) {
            return fail(im->err, SLUICE_E_LIMIT, "%s, line %zu: longer than %u bytes", im->name, number,
                        LIMIT_RECORD_LINE);
        }
        if (len > 0 && im->bytes[at] != '\r') {
            TRY(parse(im, im->bytes + at, len, &o));
            sluice_status status = SLUICE_OK;
            if (!record_get(o, "metadata")) {
                status = fail(im->err, SLUICE_E_FORMAT, "%s, line %zu: \"metadata\" of a request is missing", im->name,
                              number);
            } else if (!write) {
                *start_ns = fmin(*start_ns, record_number(record_get(o, "metadata"), "request_start_ns"));
            } else {
                status = aiperf_sample(im, o, i++, *start_ns, failed, error);
            }
            json_object_put(o);
            TRY(status);
        }
        at += len + 1;
    }
    return SLUICE_OK;
}

static sluice_status aiperf_records(struct import *im) {
    double start_ns = INFINITY;
    size_t failed = 0;
    char error[200] = "";
    struct import_run r;
    struct import_row row;
    TRY(aiperf_lines(im, false, &start_ns, NULL, NULL));
    import_run_init(&r);
    r.suite = "aiperf";
    r.suite_about = "AIPerf profile";
    r.note = "client: AIPerf, records of single requests (profile_export.jsonl), which name neither model nor server";
    r.statistic = "median over requests";
    TRY(import_put_run(im, &r));
    TRY(aiperf_lines(im, true, &start_ns, &failed, error));
    import_row_init(&row, "aiperf", "api");
    row.workload = "aiperf";
    row.cache_reason = "the source has no count of cached tokens";
    row.failed = failed;
    row.error = error;
    TRY(import_put_row(im, &row));
    return import_put_end(im, NAN, NULL);
}

static const char *first_line_end(const struct import *im) {
    const char *end = memchr(im->bytes, '\n', im->n);
    return end ? end : im->bytes + im->n;
}

sluice_status import_aiperf(struct import *im) {
    struct json_object *o = NULL;
    struct printed_list printed;
    const char *end = first_line_end(im);
    if (memmem(im->bytes, (size_t)(end - im->bytes), "\"metadata\"", 10)) { /* a request per line */
        return aiperf_records(im);
    }
    TRY(parse(im, im->bytes, im->n, &o));
    sluice_status status = printed_start(im, &printed);
    if (status == SLUICE_OK) {
        status = aiperf_summary(im, o, &printed);
    }
    printed_free(&printed);
    json_object_put(o);
    return status;
}
