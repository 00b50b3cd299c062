/* A row's figures for readers: medians of samples, or what a source printed under a name of its own. */
#include "record/compare.h"

#include <json-c/json.h>
#include <math.h>
#include <string.h>

const char *const row_metric_names[] = {
    "decode_tok_s",
    "prefill_tok_s",
    "client_tok_s",
    "aggregate_tok_s",
    "tok_s",
    "ttft_ms",
    "ttfc_ms",
    "tpot_ms",
    "itl_ms",
    "latency_ms",
    "queue_ms",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "streams_decoding",
    "goodput_rps",
    "request_rps",
    "server_overhead_ms",
    NULL,
};

/* How other tools call what we call `metric`; medians before means. */
static const struct {
    const char *metric, *printed;
} aliases[] = {
    {"ttft_ms", "ttft"},
    {"ttft_ms", "median_ttft_ms"},
    {"ttft_ms", "time_to_first_token.p50"},
    {"tpot_ms", "median_tpot_ms"},
    {"tpot_ms", "inter_token_latency.p50"},
    {"itl_ms", "median_itl_ms"},
    {"latency_ms", "latency"},
    {"latency_ms", "median_e2el_ms"},
    {"latency_ms", "request_latency.p50"},
    {"aggregate_tok_s", "output_throughput"},
    {"aggregate_tok_s", "output_token_throughput.avg"},
    {"request_rps", "request_throughput"},
    {"request_rps", "request_throughput.avg"},
    {"tok_s", "avg_ts"},
    {"prompt_tokens", "input_sequence_length.p50"},
    {"output_tokens", "output_sequence_length.p50"},
};

struct printed row_printed(struct json_object *row, const char *metric) {
    struct printed p = printed_get(row, metric);
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases && isnan(p.v); i++) {
        if (strcmp(aliases[i].metric, metric) == 0) {
            p = printed_get(row, aliases[i].printed);
        }
    }
    return p;
}

struct row_value row_value(struct json_object *row, const char *metric) {
    struct row_value v = {NAN, NAN, NAN, NAN, 0};
    struct json_object *m = record_get(record_get(row, "metrics"), metric);
    if (m) {
        struct json_object *interval = record_get(m, "interval");
        v.median = record_number(m, "median");
        v.lo = interval ? json_object_get_double(json_object_array_get_idx(interval, 0)) : NAN;
        v.hi = interval ? json_object_get_double(json_object_array_get_idx(interval, 1)) : NAN;
        v.level = record_number(m, "level");
        v.n = (size_t)record_number(m, "n");
        return v;
    }
    v.median = row_printed(row, metric).v;
    return v;
}

struct json_object *row_gpu(const struct record_run *run, struct json_object *target) {
    struct json_object *gpus = record_path(run->lines[0].tree, "environment.gpus");
    return gpus && json_object_array_length(gpus) && !record_is(target, "device_api", "cpu")
               ? json_object_array_get_idx(gpus, 0)
               : NULL;
}

const char *row_hardware(const struct record_run *run, struct json_object *row) {
    const char *name = record_text(row_gpu(run, record_target(run, row)), "name");
    name = name ? name : record_text(record_get(run->lines[0].tree, "environment"), "cpu");
    return name ? name : "";
}
