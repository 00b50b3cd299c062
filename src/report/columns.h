/*
 * The columns of a row on the site (docs/report.md, Tables): their names, their types, and where in a record each value
 * lies. COLUMN(id, name, type, on, place, key): place is a letter of enum column_place.
 */
#ifndef REPORT_COLUMNS_H
#define REPORT_COLUMNS_H

enum column_type {
    COLUMN_NUMBER,
    COLUMN_TEXT,
    COLUMN_JSON, /* its texts are JSON */
    COLUMN_SIZE, /* of a metric: its texts are JSON too, and all metrics share one dictionary */
};

enum column_on { ON_ALL, ON_DETAIL }; /* index as well; or model, hardware and run pages alone */

enum column_place {
    FROM_ELSEWHERE, /* computed, see table.c */
    FROM_ROW,
    FROM_RUN,
    FROM_ORIGIN,
    FROM_TARGET,
    FROM_FILE, /* model_file */
    FROM_LIMIT,
    FROM_ENERGY,
    FROM_QUALITY,
    FROM_MEMORY,
    FROM_VERDICT,
    FROM_MEDIAN, /* of the metric that `key` names: its parts */
    FROM_LOW,
    FROM_HIGH,
    FROM_SIZE,
    FROM_P95,
    FROM_P99,
};

#define METRIC(COLUMN, id, name, on, interval)                                                                         \
    COLUMN(id, name, COLUMN_NUMBER, on, FROM_MEDIAN, name)                                                             \
    COLUMN(id##_LO, name ".lo", COLUMN_NUMBER, interval, FROM_LOW, name)                                               \
    COLUMN(id##_HI, name ".hi", COLUMN_NUMBER, interval, FROM_HIGH, name)                                              \
    COLUMN(id##_SIZE, name ".size", COLUMN_SIZE, interval, FROM_SIZE, name)
#define PERCENTILES(COLUMN, id, name)                                                                                  \
    COLUMN(id##_P95, name ".p95", COLUMN_NUMBER, ON_ALL, FROM_P95, name)                                               \
    COLUMN(id##_P99, name ".p99", COLUMN_NUMBER, ON_ALL, FROM_P99, name)

#define COLUMNS_WHO(COLUMN)                                                                                            \
    COLUMN(RUN, "run", COLUMN_TEXT, ON_ALL, FROM_RUN, "id")                                                            \
    COLUMN(LINE, "line", COLUMN_NUMBER, ON_ALL, FROM_ELSEWHERE, 0)                                                     \
    COLUMN(TARGET, "target", COLUMN_NUMBER, ON_ALL, FROM_ROW, "target")                                                \
    COLUMN(ROW, "row", COLUMN_TEXT, ON_ALL, FROM_ROW, "row")                                                           \
    COLUMN(KIND, "kind", COLUMN_TEXT, ON_ALL, FROM_ELSEWHERE, 0)                                                       \
    COLUMN(SOURCE, "source", COLUMN_TEXT, ON_ALL, FROM_ORIGIN, "source")                                               \
    COLUMN(TEST, "test", COLUMN_TEXT, ON_ALL, FROM_ROW, "test")                                                        \
    COLUMN(DATE, "date", COLUMN_TEXT, ON_ALL, FROM_RUN, "date")                                                        \
    COLUMN(LABEL, "label", COLUMN_TEXT, ON_ALL, FROM_RUN, "label")                                                     \
    COLUMN(SUITE, "suite", COLUMN_TEXT, ON_ALL, FROM_RUN, "suite")                                                     \
    COLUMN(MODEL, "model", COLUMN_TEXT, ON_ALL, FROM_ELSEWHERE, 0)                                                     \
    COLUMN(MODEL_SLUG, "model_slug", COLUMN_TEXT, ON_ALL, FROM_ELSEWHERE, 0)                                           \
    COLUMN(QUANTIZATION, "quantization", COLUMN_TEXT, ON_ALL, FROM_FILE, "quantization")                               \
    COLUMN(HARDWARE, "hardware", COLUMN_TEXT, ON_ALL, FROM_ELSEWHERE, 0)                                               \
    COLUMN(HARDWARE_SLUG, "hardware_slug", COLUMN_TEXT, ON_ALL, FROM_ELSEWHERE, 0)                                     \
    COLUMN(DRIVER, "driver", COLUMN_TEXT, ON_ALL, FROM_ELSEWHERE, 0)                                                   \
    COLUMN(CAP, "power_cap_w", COLUMN_NUMBER, ON_ALL, FROM_ELSEWHERE, 0)                                               \
    COLUMN(CAP_MAX, "power_max_w", COLUMN_NUMBER, ON_ALL, FROM_ELSEWHERE, 0)                                           \
    COLUMN(ENGINE, "engine", COLUMN_TEXT, ON_ALL, FROM_TARGET, "engine")                                               \
    COLUMN(BUILD, "build", COLUMN_TEXT, ON_ALL, FROM_TARGET, "build")                                                  \
    COLUMN(DEVICE_API, "device_api", COLUMN_TEXT, ON_ALL, FROM_TARGET, "device_api")                                   \
    COLUMN(TARGET_NAME, "target_name", COLUMN_TEXT, ON_DETAIL, FROM_TARGET, "name")

#define COLUMNS_WORK(COLUMN)                                                                                           \
    COLUMN(WORKLOAD, "workload", COLUMN_TEXT, ON_ALL, FROM_ROW, "workload")                                            \
    COLUMN(CONCURRENCY, "concurrency", COLUMN_NUMBER, ON_ALL, FROM_ROW, "concurrency")                                 \
    COLUMN(ARRIVAL, "arrival", COLUMN_TEXT, ON_ALL, FROM_ROW, "arrival")                                               \
    COLUMN(RATE, "rate_rps", COLUMN_NUMBER, ON_ALL, FROM_ROW, "rate_rps")                                              \
    COLUMN(DEPTH, "depth", COLUMN_NUMBER, ON_ALL, FROM_ROW, "depth")                                                   \
    COLUMN(BATCH, "batch", COLUMN_NUMBER, ON_ALL, FROM_ROW, "batch")                                                   \
    COLUMN(MAX_TOKENS, "max_tokens", COLUMN_NUMBER, ON_ALL, FROM_ROW, "max_tokens")                                    \
    COLUMN(NATURAL_STOP, "natural_stop", COLUMN_TEXT, ON_ALL, FROM_ROW, "natural_stop")                                \
    COLUMN(WARMUPS, "warmups", COLUMN_NUMBER, ON_DETAIL, FROM_ROW, "warmups")                                          \
    COLUMN(RUNS, "runs", COLUMN_NUMBER, ON_ALL, FROM_ROW, "runs")                                                      \
    COLUMN(FAILED, "failed", COLUMN_NUMBER, ON_ALL, FROM_ROW, "failed")                                                \
    COLUMN(ERROR, "error", COLUMN_TEXT, ON_DETAIL, FROM_ROW, "error")                                                  \
    COLUMN(CACHE, "cache", COLUMN_TEXT, ON_ALL, FROM_ROW, "cache")                                                     \
    COLUMN(CACHE_STATE, "cache_state", COLUMN_TEXT, ON_ALL, FROM_ROW, "cache_state")                                   \
    COLUMN(CACHE_REASON, "cache_reason", COLUMN_TEXT, ON_DETAIL, FROM_ROW, "cache_reason")                             \
    COLUMN(BATCHING, "batching", COLUMN_TEXT, ON_ALL, FROM_ROW, "batching")                                            \
    COLUMN(BATCHING_REASON, "batching_reason", COLUMN_TEXT, ON_DETAIL, FROM_ROW, "batching_reason")                    \
    COLUMN(KEY_WORKLOAD, "key_workload", COLUMN_TEXT, ON_ALL, FROM_ELSEWHERE, 0)                                       \
    COLUMN(KEY_STACK, "key_stack", COLUMN_TEXT, ON_ALL, FROM_ELSEWHERE, 0)                                             \
    COLUMN(KEY_HARDWARE, "key_hardware", COLUMN_TEXT, ON_ALL, FROM_ELSEWHERE, 0)                                       \
    COLUMN(UNFIT, "unfit", COLUMN_TEXT, ON_ALL, FROM_ELSEWHERE, 0)                                                     \
    COLUMN(COMPARABLE, "comparable", COLUMN_TEXT, ON_ALL, FROM_ELSEWHERE, 0)

#define COLUMNS_FIGURES(COLUMN)                                                                                        \
    METRIC(COLUMN, DECODE, "decode_tok_s", ON_ALL, ON_ALL)                                                             \
    METRIC(COLUMN, CLIENT, "client_tok_s", ON_ALL, ON_DETAIL)                                                          \
    METRIC(COLUMN, PREFILL, "prefill_tok_s", ON_ALL, ON_ALL)                                                           \
    METRIC(COLUMN, AGGREGATE, "aggregate_tok_s", ON_ALL, ON_ALL)                                                       \
    METRIC(COLUMN, RAW, "tok_s", ON_ALL, ON_ALL)                                                                       \
    METRIC(COLUMN, TTFT, "ttft_ms", ON_ALL, ON_ALL)                                                                    \
    PERCENTILES(COLUMN, TTFT, "ttft_ms")                                                                               \
    METRIC(COLUMN, TTFC, "ttfc_ms", ON_DETAIL, ON_DETAIL)                                                              \
    METRIC(COLUMN, TPOT, "tpot_ms", ON_ALL, ON_DETAIL)                                                                 \
    METRIC(COLUMN, ITL, "itl_ms", ON_ALL, ON_DETAIL)                                                                   \
    PERCENTILES(COLUMN, ITL, "itl_ms")                                                                                 \
    METRIC(COLUMN, LATENCY, "latency_ms", ON_ALL, ON_DETAIL)                                                           \
    PERCENTILES(COLUMN, LATENCY, "latency_ms")                                                                         \
    METRIC(COLUMN, QUEUE, "queue_ms", ON_ALL, ON_DETAIL)                                                               \
    METRIC(COLUMN, STREAMS, "streams_decoding", ON_ALL, ON_DETAIL)                                                     \
    COLUMN(PROMPT, "prompt_tokens", COLUMN_NUMBER, ON_ALL, FROM_MEDIAN, "prompt_tokens")                               \
    COLUMN(CACHED, "cached_tokens", COLUMN_NUMBER, ON_ALL, FROM_MEDIAN, "cached_tokens")                               \
    COLUMN(OUTPUT, "output_tokens", COLUMN_NUMBER, ON_ALL, FROM_MEDIAN, "output_tokens")                               \
    COLUMN(REQUEST_RPS, "request_rps", COLUMN_NUMBER, ON_ALL, FROM_MEDIAN, "request_rps")                              \
    COLUMN(GOODPUT_RPS, "goodput_rps", COLUMN_NUMBER, ON_ALL, FROM_MEDIAN, "goodput_rps")                              \
    COLUMN(OVERHEAD, "server_overhead_ms", COLUMN_NUMBER, ON_ALL, FROM_MEDIAN, "server_overhead_ms")                   \
    COLUMN(PRINTED, "printed", COLUMN_JSON, ON_ALL, FROM_ROW, "printed")

#define COLUMNS_JUDGED(COLUMN)                                                                                         \
    COLUMN(LIMIT_KIND, "limit_kind", COLUMN_TEXT, ON_ALL, FROM_LIMIT, "kind")                                          \
    COLUMN(LIMIT_SHARE, "limit_share", COLUMN_NUMBER, ON_ALL, FROM_LIMIT, "share")                                     \
    COLUMN(LIMIT_MEASURED, "limit_measured", COLUMN_NUMBER, ON_ALL, FROM_LIMIT, "measured")                            \
    COLUMN(LIMIT_UNIT, "limit_unit", COLUMN_TEXT, ON_ALL, FROM_LIMIT, "unit")                                          \
    COLUMN(LIMIT_BYTES, "limit_bytes", COLUMN_NUMBER, ON_ALL, FROM_LIMIT, "bytes_per_token")                           \
    COLUMN(LIMIT_OPS, "limit_ops", COLUMN_NUMBER, ON_ALL, FROM_LIMIT, "ops_per_token")                                 \
    COLUMN(LIMIT_RULE, "limit_rule", COLUMN_TEXT, ON_DETAIL, FROM_LIMIT, "rule")                                       \
    COLUMN(ENERGY_VALID, "energy_valid", COLUMN_TEXT, ON_ALL, FROM_ENERGY, "valid")                                    \
    COLUMN(ENERGY_REASONS, "energy_reasons", COLUMN_JSON, ON_ALL, FROM_ENERGY, "reasons")                              \
    COLUMN(ENERGY_SOURCE, "energy_source", COLUMN_TEXT, ON_DETAIL, FROM_ENERGY, "source")                              \
    COLUMN(J_OUTPUT, "j_per_output_token", COLUMN_NUMBER, ON_ALL, FROM_ENERGY, "j_per_output_token")                   \
    COLUMN(J_NET, "net_j_per_output_token", COLUMN_NUMBER, ON_ALL, FROM_ENERGY, "net_j_per_output_token")              \
    COLUMN(J_PROMPT, "j_per_prompt_token", COLUMN_NUMBER, ON_ALL, FROM_ENERGY, "j_per_prompt_token")                   \
    COLUMN(J_REQUEST, "j_per_request", COLUMN_NUMBER, ON_ALL, FROM_ENERGY, "j_per_request")                            \
    COLUMN(QUALIFIED, "qualified", COLUMN_TEXT, ON_ALL, FROM_QUALITY, "qualified")                                     \
    COLUMN(QUALITY_KIND, "quality_kind", COLUMN_TEXT, ON_ALL, FROM_QUALITY, "kind")                                    \
    COLUMN(QUALITY_REASON, "quality_reason", COLUMN_TEXT, ON_ALL, FROM_QUALITY, "reason")                              \
    COLUMN(KL_MEAN, "kl_mean", COLUMN_NUMBER, ON_ALL, FROM_QUALITY, "kl_mean")                                         \
    COLUMN(KL_P999, "kl_p999", COLUMN_NUMBER, ON_DETAIL, FROM_QUALITY, "kl_p999")                                      \
    COLUMN(TOP1, "top1_agreement", COLUMN_NUMBER, ON_ALL, FROM_QUALITY, "top1_agreement")                              \
    COLUMN(TOP20, "top20_agreement", COLUMN_NUMBER, ON_ALL, FROM_QUALITY, "top20_agreement")                           \
    COLUMN(RSS, "rss_bytes", COLUMN_NUMBER, ON_ALL, FROM_MEMORY, "rss_bytes")                                          \
    COLUMN(VRAM, "vram_bytes", COLUMN_NUMBER, ON_ALL, FROM_MEMORY, "vram_bytes")                                       \
    COLUMN(VERDICT, "verdict", COLUMN_TEXT, ON_ALL, FROM_VERDICT, "state")                                             \
    COLUMN(VERDICT_REASONS, "verdict_reasons", COLUMN_JSON, ON_ALL, FROM_VERDICT, "reasons")                           \
    COLUMN(FINDINGS, "findings", COLUMN_JSON, ON_ALL, FROM_ELSEWHERE, 0)

#define COLUMNS(COLUMN) COLUMNS_WHO(COLUMN) COLUMNS_WORK(COLUMN) COLUMNS_FIGURES(COLUMN) COLUMNS_JUDGED(COLUMN)

enum column_id {
#define COLUMN_ID(id, name, type, on, place, key) COL_##id,
    COLUMNS(COLUMN_ID)
#undef COLUMN_ID
        COL_COUNT
};

struct column {
    const char *name;
    enum column_type type;
    enum column_on on;
    enum column_place place;
    const char *key;
};

extern const struct column columns[COL_COUNT];

#endif
