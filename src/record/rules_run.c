/* The tables of `run`, `probe`, `trace` and `end`: what was measured on, and what the machine did meanwhile. */
#include "record/rules.h"

#define KIND(word)                                                                                                     \
    static const char *const word##_kind_values[] = {#word, NULL};                                                     \
    static const struct rule word##_kind = {.types = RULE_TEXT, .values = word##_kind_values}

KIND(run);
KIND(probe);
KIND(trace);
KIND(end);

static const char *const schema_values[] = {"sluice-record", NULL};
static const char *const source_values[] = {"measured", "imported", "legacy", NULL};
static const struct rule schema = {.types = RULE_TEXT, .values = schema_values};
static const struct rule version = {.types = RULE_INT, .max = 2};
static const struct rule run_id = {.types = RULE_TEXT, .form = FORM_HEX16};
static const struct rule date = {.types = RULE_TEXT | RULE_NULL, .form = FORM_DATE};
static const struct rule source = {.types = RULE_TEXT, .values = source_values};

static const struct rule_field origin_fields[] = {
    {"source", &source},          {"format", &rule_text_null}, {"url", &rule_text_null},
    {"sha256", &rule_hex64_null}, {"note", &rule_text_null},   {NULL},
};
static const struct rule origin = {.types = RULE_OBJECT, .fields = origin_fields};

static const struct rule_field target_fields[] = {
    {"name", &rule_text_null},
    {"url", &rule_text_null},
    {"own_server", &rule_bool_null},
    {"engine", &rule_text_null},
    {"build", &rule_text_null},
    {"device_api", &rule_text_null},
    {"model", &rule_text_null},
    {"context", &rule_count_null},
    {"slots", &rule_count_null},
    {"command_line", &rule_text_null},
    {"endpoint", &rule_text_null},
    {"streaming", &rule_bool_null},
    {"reports_cached_tokens", &rule_bool_null},
    {"memory_before_bytes", &rule_count_null},
    {"memory_after_bytes", &rule_count_null},
    {"spilled", &rule_bool_null},
    {NULL},
};
static const struct rule target = {.types = RULE_OBJECT, .fields = target_fields};
static const struct rule targets = {.types = RULE_ARRAY, .items = &target, .n_min = 2, .n_max = 2};

static const struct rule_field model_file_fields[] = {
    {"name", &rule_text_null},
    {"sha256", &rule_hex64_null},
    {"bytes", &rule_count_null},
    {"architecture", &rule_text_null},
    {"quantization", &rule_text_null},
    {"n_params", &rule_count_null},
    {"n_params_active", &rule_count_null},
    {"context_length", &rule_count_null},
    {"repository", &rule_text_null},
    {"commit", &rule_text_null},
    {"synthetic", &rule_bool_null},
    {"decode_bytes", &rule_count_null},
    {"kv_bytes_per_token", &rule_count_null},
    {"prefill_ops_per_token", &rule_count_null},
    {NULL},
};
static const struct rule model_file = {.types = RULE_OBJECT | RULE_NULL, .fields = model_file_fields};

static const struct rule_field gpu_fields[] = {
    {"name", &rule_text_null},
    {"uuid_hash", &rule_text_null},
    {"memory_bytes", &rule_count_null},
    {"driver", &rule_text_null},
    {"cuda", &rule_text_null},
    {"compute_capability", &rule_text_null},
    {"sms", &rule_count_null},
    {"power_limit_w", &rule_number_null},
    {"power_limit_max_w", &rule_number_null},
    {"power_limit_default_w", &rule_number_null},
    {"clock_sm_mhz", &rule_number_null},
    {"clock_sm_max_mhz", &rule_number_null},
    {"clock_mem_mhz", &rule_number_null},
    {"clock_mem_max_mhz", &rule_number_null},
    {"bus_width_bits", &rule_count_null},
    {"pcie_gen", &rule_count_null},
    {"pcie_gen_max", &rule_count_null},
    {"pcie_width", &rule_count_null},
    {"pcie_width_max", &rule_count_null},
    {"ecc", &rule_bool_null},
    {"mig", &rule_bool_null},
    {"unified_memory", &rule_bool_null},
    {NULL},
};
static const struct rule gpu = {.types = RULE_OBJECT, .fields = gpu_fields};
static const struct rule gpus = {.types = RULE_ARRAY, .items = &gpu};

static const struct rule_field environment_fields[] = {
    {"cpu", &rule_text_null},
    {"cores_online", &rule_count_null},
    {"cores_allowed", &rule_count_null},
    {"cpu_limit", &rule_number_null},
    {"memory_total", &rule_count_null},
    {"memory_available", &rule_count_null},
    {"memory_limit", &rule_count_null},
    {"governor", &rule_text_null},
    {"microcode", &rule_text_null},
    {"kernel", &rule_text_null},
    {"os", &rule_text_null},
    {"architecture", &rule_text_null},
    {"libc", &rule_text_null},
    {"compiler", &rule_text_null},
    {"load1", &rule_number_null},
    {"virtualised", &rule_bool_null},
    {"gpus", &gpus},
    {NULL},
};
static const struct rule environment = {.types = RULE_OBJECT, .fields = environment_fields};

static const struct rule_field sampling_fields[] = {
    {"temperature", &rule_signed_null},
    {"top_p", &rule_signed_null},
    {"top_k", &rule_signed_null},
    {"min_p", &rule_signed_null},
    {"repeat_penalty", &rule_signed_null},
    {"presence_penalty", &rule_signed_null},
    {"frequency_penalty", &rule_signed_null},
    {"seed", &rule_signed_null},
    {"ignore_eos", &rule_bool_null},
    {"cache_prompt", &rule_bool_null},
    {NULL},
};
static const struct rule sampling = {.types = RULE_OBJECT | RULE_NULL, .fields = sampling_fields};

static const struct rule_field run_fields[] = {
    {"schema", &schema},
    {"version", &version},
    {"kind", &run_kind},
    {"prev", &rule_hex64},
    {"id", &run_id},
    {"tool", &rule_text},
    {"date", &date},
    {"label", &rule_text_null},
    {"suite", &rule_text_null},
    {"suite_about", &rule_text_null},
    {"command", &rule_text_null},
    {"origin", &origin},
    {"target", &target, true},
    {"targets", &targets, true},
    {"model_file", &model_file},
    {"environment", &environment},
    {"sampling", &sampling},
    {"statistic", &rule_text_null},
    {NULL},
};
const struct rule rule_run = {.types = RULE_OBJECT, .fields = run_fields};

/* ---- probe ------------------------------------------------------------------------------------------------------- */

static const char *const item_names[] = {"read", "copy",    "int8",   "bf16",    "fp16",      "fp8",
                                         "f32",  "barrier", "launch", "pcie_up", "pcie_down", NULL};
static const struct rule item_name = {.types = RULE_TEXT, .values = item_names};
static const struct rule numbers = {.types = RULE_ARRAY | RULE_NULL, .items = &rule_number};
static const struct rule_field item_fields[] = {
    {"name", &item_name},          {"unit", &rule_text},       {"threads", &rule_count_null},
    {"median", &rule_number_null}, {"min", &rule_number_null}, {"max", &rule_number_null},
    {"n", &rule_count_null},       {"samples", &numbers},      {"theory", &rule_number_null},
    {"share", &rule_number_null},  {"how", &rule_text_null},   {NULL},
};
static const struct rule item = {.types = RULE_OBJECT, .fields = item_fields};
static const struct rule items = {.types = RULE_ARRAY, .items = &item};
static const struct rule device = {.types = RULE_TEXT, .form = FORM_DEVICE};
static const struct rule_field probe_fields[] = {
    {"kind", &probe_kind},
    {"prev", &rule_hex64},
    {"device", &device},
    {"power_cap_w", &rule_number_null},
    {"seconds", &rule_number_null},
    {"items", &items},
    {NULL},
};
const struct rule rule_probe = {.types = RULE_OBJECT, .fields = probe_fields};

/* ---- trace, end -------------------------------------------------------------------------------------------------- */

static const struct rule times = {.types = RULE_ARRAY, .items = &rule_number};
static const struct rule one_series = {.types = RULE_ARRAY, .items = &rule_signed_null};
static const struct rule series = {.types = RULE_MAP, .items = &one_series};
static const struct rule_field trace_fields[] = {
    {"kind", &trace_kind}, {"prev", &rule_hex64}, {"interval_ms", &rule_number_null},
    {"t_ms", &times},      {"series", &series},   {NULL},
};
const struct rule rule_trace = {.types = RULE_OBJECT, .fields = trace_fields};

static const struct rule_field noise_fields[] = {
    {"calibration_before_ms", &rule_number_null},
    {"calibration_after_ms", &rule_number_null},
    {"drift_share", &rule_signed_null},
    {"steal_share", &rule_number_null},
    {"foreign_cpu_share", &rule_number_null},
    {"throttled", &rule_bool_null},
    {"peak_w", &rule_number_null},
    {"idle_c", &rule_signed_null},
    {"peak_c", &rule_signed_null},
    {"foreign_gpu_processes", &rule_count_null},
    {NULL},
};
static const struct rule noise = {.types = RULE_OBJECT | RULE_NULL, .fields = noise_fields};
static const struct rule_field left_fields[] = {{"row", &rule_text}, {"reason", &rule_text}, {NULL}};
static const struct rule left = {.types = RULE_OBJECT, .fields = left_fields};
static const struct rule left_out = {.types = RULE_ARRAY, .items = &left};
static const struct rule_field end_fields[] = {
    {"kind", &end_kind},
    {"prev", &rule_hex64},
    {"duration_s", &rule_number_null},
    {"rows", &rule_count},
    {"samples", &rule_count},
    {"rows_left_out", &rule_count_null},
    {"left_out", &left_out, true},
    {"interrupted", &rule_bool},
    {"noise", &noise},
    {"verdict", &rule_verdict},
    {NULL},
};
const struct rule rule_end = {.types = RULE_OBJECT, .fields = end_fields};
