/* The tables of `sample`, `row`, `pair` and `comparison`: what was measured. */
#include "record/rules.h"

#define ENUM(name, nullable, ...)                                                                                      \
    static const char *const name##_values[] = {__VA_ARGS__, NULL};                                                    \
    static const struct rule name = {.types = RULE_TEXT | (nullable), .values = name##_values}

ENUM(sample_kind, 0, "sample");
ENUM(row_kind, 0, "row");
ENUM(pair_kind, 0, "pair");
ENUM(comparison_kind, 0, "comparison");

static const struct rule target_index = {.types = RULE_INT, .max = 1};
static const struct rule times = {.types = RULE_ARRAY | RULE_NULL, .items = &rule_number};

static const struct rule_field sample_fields[] = {
    {"kind", &sample_kind},
    {"prev", &rule_hex64},
    {"row", &rule_text},
    {"target", &target_index},
    {"run", &rule_count},
    {"stream", &rule_count},
    {"warmup", &rule_bool},
    {"ok", &rule_bool},
    {"refused", &rule_bool},
    {"error", &rule_text_null},
    {"prompt_sha256", &rule_hex64_null},
    {"prompt_tokens_wanted", &rule_count_null},
    {"intended_ms", &rule_number_null},
    {"send_ms", &rule_number_null},
    {"first_byte_ms", &rule_number_null},
    {"first_token_ms", &rule_number_null},
    {"first_content_ms", &rule_number_null},
    {"last_token_ms", &rule_number_null},
    {"end_ms", &rule_number_null},
    {"token_ms", &times},
    {"chunks", &rule_count_null},
    {"prompt_tokens", &rule_count_null},
    {"cached_tokens", &rule_count_null},
    {"output_tokens", &rule_count_null},
    {"reasoning_tokens", &rule_count_null},
    {"finish", &rule_text_null},
    {"server_prompt_ms", &rule_number_null},
    {"server_predicted_ms", &rule_number_null},
    {NULL},
};
const struct rule rule_sample = {.types = RULE_OBJECT, .fields = sample_fields};

/* ---- row --------------------------------------------------------------------------------------------------------- */

ENUM(test, 0, "api", "raw", "probe");
ENUM(cache, 0, "cold", "warm", "none", "unknown");
ENUM(cache_state, RULE_NULL, "verified", "unverified", "invalid");
ENUM(arrival, 0, "closed", "poisson", "none");
ENUM(batching, 0, "single", "batched", "queued", "mixed", "unknown");

static const struct rule level = {.types = RULE_NUMBER | RULE_NULL, .max = 1};
static const struct rule_field metric_fields[] = {
    {"median", &rule_signed},
    {"interval", &rule_interval},
    {"level", &level},
    {"mean", &rule_signed},
    {"sd", &rule_number_null},
    {"min", &rule_signed},
    {"max", &rule_signed},
    {"n", &rule_count},
    {"p50", &rule_signed_null},
    {"p90", &rule_signed_null},
    {"p95", &rule_signed_null},
    {"p99", &rule_signed_null},
    {NULL},
};
static const struct rule metric = {.types = RULE_OBJECT | RULE_NULL, .fields = metric_fields};
static const char *const metric_names[] = {
    "ttft_ms",
    "ttfc_ms",
    "tpot_ms",
    "itl_ms",
    "latency_ms",
    "queue_ms",
    "decode_tok_s",
    "client_tok_s",
    "prefill_tok_s",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "aggregate_tok_s",
    "streams_decoding",
    "goodput_rps",
    "request_rps",
    "server_overhead_ms",
    "tok_s",
    NULL,
};
static const struct rule metrics = {.types = RULE_MAP, .values = metric_names, .items = &metric};

ENUM(limit_kind, 0, "read", "matrix");
static const struct rule_field limit_fields[] = {
    {"kind", &limit_kind},
    {"bytes_per_token", &rule_number_null},
    {"ops_per_token", &rule_number_null},
    {"measured", &rule_number_null},
    {"unit", &rule_text_null},
    {"share", &rule_number_null},
    {"rule", &rule_text_null},
    {NULL},
};
static const struct rule limit = {.types = RULE_OBJECT | RULE_NULL, .fields = limit_fields};

ENUM(window_what, 0, "prompt_token", "output_token", "request");
static const struct rule_field window_fields[] = {
    {"what", &window_what}, {"joules", &rule_number}, {"seconds", &rule_number}, {"count", &rule_count}, {NULL},
};
static const struct rule window = {.types = RULE_OBJECT, .fields = window_fields};
static const struct rule windows = {.types = RULE_ARRAY, .items = &window};
static const struct rule_field energy_fields[] = {
    {"valid", &rule_bool},
    {"reasons", &rule_texts},
    {"source", &rule_text_null},
    {"window_s", &rule_number_null},
    {"idle_w", &rule_number_null},
    {"j_per_prompt_token", &rule_number_null},
    {"j_per_output_token", &rule_number_null},
    {"j_per_request", &rule_number_null},
    {"net_j_per_output_token", &rule_signed_null},
    {"windows", &windows, true},
    {NULL},
};
static const struct rule energy = {.types = RULE_OBJECT | RULE_NULL, .fields = energy_fields};

ENUM(quality_kind, RULE_NULL, "kl", "greedy", "top20");
static const struct rule_field quality_fields[] = {
    {"qualified", &rule_bool},
    {"reason", &rule_text_null},
    {"kind", &quality_kind},
    {"reference_sha256", &rule_hex64_null},
    {"tokens", &rule_count_null},
    {"kl_mean", &rule_signed_null},
    {"kl_p999", &rule_signed_null},
    {"top1_agreement", &rule_share_null},
    {"top20_agreement", &rule_share_null, true},
    {NULL},
};
static const struct rule quality = {.types = RULE_OBJECT, .fields = quality_fields};

static const struct rule_field memory_fields[] = {
    {"rss_bytes", &rule_count_null},
    {"vram_bytes", &rule_count_null},
    {NULL},
};
static const struct rule memory = {.types = RULE_OBJECT | RULE_NULL, .fields = memory_fields};

static const struct rule printed_value = {.types = RULE_TEXT | RULE_NUMBER | RULE_SIGNED | RULE_NULL};
static const struct rule printed = {.types = RULE_MAP, .items = &printed_value};

static const struct rule_field row_fields[] = {
    {"kind", &row_kind},
    {"prev", &rule_hex64},
    {"row", &rule_text},
    {"target", &target_index},
    {"test", &test},
    {"workload", &rule_text_null},
    {"cache", &cache},
    {"cache_state", &cache_state},
    {"cache_reason", &rule_text_null},
    {"concurrency", &rule_count_null},
    {"arrival", &arrival},
    {"rate_rps", &rule_number_null},
    {"depth", &rule_count_null},
    {"batch", &rule_count_null},
    {"max_tokens", &rule_count_null},
    {"natural_stop", &rule_bool_null},
    {"template_tokens", &rule_count_null, true},
    {"power_cap_w", &rule_number_null},
    {"warmups", &rule_count_null},
    {"runs", &rule_count_null},
    {"cut_for_time", &rule_bool},
    {"failed", &rule_count},
    {"error", &rule_text_null},
    {"metrics", &metrics},
    {"batching", &batching},
    {"batching_reason", &rule_text_null},
    {"limit", &limit},
    {"other_limit", &limit, true},
    {"energy", &energy},
    {"quality", &quality},
    {"memory", &memory},
    {"verdict", &rule_verdict},
    {"printed", &printed, true},
    {"deviations", &rule_texts, true},
    {NULL},
};
const struct rule rule_row = {.types = RULE_OBJECT, .fields = row_fields};

/* ---- pair, comparison -------------------------------------------------------------------------------------------- */

ENUM(order, 0, "ABBA", "BAAB");
static const struct rule values = {.types = RULE_ARRAY, .items = &rule_signed_null};
static const struct rule_field pair_fields[] = {
    {"kind", &pair_kind},
    {"prev", &rule_hex64},
    {"block", &rule_count},
    {"order", &order},
    {"row", &rule_text},
    {"metric", &rule_text},
    {"a", &values},
    {"b", &values},
    {"ratio", &rule_number_null},
    {"valid", &rule_bool},
    {"reason", &rule_text_null},
    {NULL},
};
const struct rule rule_pair = {.types = RULE_OBJECT, .fields = pair_fields};

ENUM(comparison_verdict, 0, "better", "worse", "no difference", "undecided");
ENUM(stopped, 0, "width", "blocks", "time", "interrupted");
static const struct rule_field comparison_fields[] = {
    {"kind", &comparison_kind},
    {"prev", &rule_hex64},
    {"row", &rule_text},
    {"metric", &rule_text},
    {"blocks", &rule_count},
    {"ratio", &rule_number_null},
    {"interval", &rule_interval},
    {"level", &level},
    {"smallest_effect", &rule_number_null},
    {"verdict", &comparison_verdict},
    {"stopped", &stopped},
    {"reasons", &rule_texts},
    {NULL},
};
const struct rule rule_comparison = {.types = RULE_OBJECT, .fields = comparison_fields};
