/* The lines of imported records: every key of docs/records.md, null where the source is silent. */
#include "base/status.h"
#include "record/import.h"
#include "record/line.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void import_run_init(struct import_run *r) {
    *r = (struct import_run){
        .streaming = -1,
        .file_bytes = NAN,
        .n_params = NAN,
        .memory_total = NAN,
        .gpu_memory = NAN,
        .sms = NAN,
        .power_limit_w = NAN,
        .power_limit_max_w = NAN,
        .clock_sm = NAN,
        .clock_sm_max = NAN,
        .clock_mem = NAN,
        .clock_mem_max = NAN,
        .bus_width = NAN,
        .pcie_gen = NAN,
        .pcie_gen_max = NAN,
        .pcie_width = NAN,
        .pcie_width_max = NAN,
        .unified_memory = -1,
    };
}

void import_sample_init(struct import_sample *s, const char *row) {
    *s = (struct import_sample){
        .row = row,
        .send_ms = NAN,
        .first_token_ms = NAN,
        .last_token_ms = NAN,
        .end_ms = NAN,
        .chunks = -1,
        .prompt_tokens = -1,
        .cached_tokens = -1,
        .output_tokens = -1,
        .reasoning_tokens = -1,
    };
}

void import_row_init(struct import_row *r, const char *row, const char *test) {
    *r = (struct import_row){
        .row = row,
        .test = test,
        .cache = "unknown",
        .arrival = "none",
        .batching = "unknown",
        .concurrency = NAN,
        .rate_rps = NAN,
        .depth = NAN,
        .batch = NAN,
        .max_tokens = NAN,
        .power_cap_w = NAN,
        .warmups = NAN,
        .runs = NAN,
        .natural_stop = -1,
    };
}

sluice_status import_put_line(struct import *im) {
    line_end(&im->line);
    if (im->line.failed) {
        return fail(im->err, SLUICE_E_NOMEM, "no memory for the records of %s", im->name);
    }
    const char *rest = strchr(im->line.data, ',');
    size_t head = rest ? (size_t)(rest - im->line.data) : im->line.len - 1;
    size_t from = im->text.len;
    buf_append(&im->text, im->line.data, head);
    buf_printf(&im->text, ",\"prev\":\"%s\"", im->chain.prev);
    buf_append(&im->text, im->line.data + head, im->line.len - head);
    if (im->text.failed) {
        return fail(im->err, SLUICE_E_NOMEM, "no memory for the records of %s", im->name);
    }
    TRY(chain_add(&im->chain, im->text.data + from, im->text.len - from, im->err));
    buf_putc(&im->text, '\n');
    return SLUICE_OK;
}

static void put_flag(struct buf *b, const char *name, int v) {
    if (v < 0) {
        line_put_null(b, name);
    } else {
        line_put_bool(b, name, v);
    }
}

/* A whole number that came as a double. */
static void put_count(struct buf *b, const char *name, double v) {
    line_put_count(b, name, v >= 0 && v < 9e15 ? (int64_t)(v + 0.5) : -1);
}

/* Names that the source does not have. */
static void put_nulls(struct buf *b, const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++) {
        line_put_null(b, names[i]);
    }
}

#define NULLS(b, ...)                                                                                                  \
    put_nulls(b, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void put_target(struct buf *b, const struct import_run *r) {
    line_open(b, "target", '{');
    NULLS(b, "name", "url", "own_server");
    line_put_text(b, "engine", r->engine);
    line_put_text(b, "build", r->build);
    line_put_text(b, "device_api", r->device_api);
    line_put_text(b, "model", r->model);
    NULLS(b, "context", "slots");
    line_put_text(b, "command_line", r->command_line);
    line_put_text(b, "endpoint", r->endpoint);
    put_flag(b, "streaming", r->streaming);
    NULLS(b, "reports_cached_tokens", "memory_before_bytes", "memory_after_bytes", "spilled");
    line_close(b, '}');
}

static void put_model_file(struct buf *b, const struct import_run *r) {
    line_open(b, "model_file", '{');
    line_put_text(b, "name", r->file_name);
    line_put_null(b, "sha256");
    put_count(b, "bytes", r->file_bytes);
    line_put_text(b, "architecture", r->architecture);
    line_put_text(b, "quantization", r->quantization);
    put_count(b, "n_params", r->n_params);
    NULLS(b, "n_params_active", "context_length");
    line_put_text(b, "repository", r->repository);
    line_put_text(b, "commit", r->commit);
    NULLS(b, "synthetic", "decode_bytes", "kv_bytes_per_token", "prefill_ops_per_token");
    line_close(b, '}');
}

static void put_gpu(struct buf *b, const struct import_run *r) {
    line_open(b, NULL, '{');
    line_put_text(b, "name", r->gpu);
    line_put_null(b, "uuid_hash");
    put_count(b, "memory_bytes", r->gpu_memory);
    line_put_text(b, "driver", r->driver);
    line_put_text(b, "cuda", r->cuda);
    line_put_text(b, "compute_capability", r->compute_capability);
    put_count(b, "sms", r->sms);
    line_put_number(b, "power_limit_w", r->power_limit_w);
    line_put_number(b, "power_limit_max_w", r->power_limit_max_w);
    line_put_null(b, "power_limit_default_w");
    line_put_number(b, "clock_sm_mhz", r->clock_sm);
    line_put_number(b, "clock_sm_max_mhz", r->clock_sm_max);
    line_put_number(b, "clock_mem_mhz", r->clock_mem);
    line_put_number(b, "clock_mem_max_mhz", r->clock_mem_max);
    put_count(b, "bus_width_bits", r->bus_width);
    put_count(b, "pcie_gen", r->pcie_gen);
    put_count(b, "pcie_gen_max", r->pcie_gen_max);
    put_count(b, "pcie_width", r->pcie_width);
    put_count(b, "pcie_width_max", r->pcie_width_max);
    NULLS(b, "ecc", "mig");
    put_flag(b, "unified_memory", r->unified_memory);
    line_close(b, '}');
}

static void put_environment(struct buf *b, const struct import_run *r) {
    line_open(b, "environment", '{');
    line_put_text(b, "cpu", r->cpu);
    NULLS(b, "cores_online", "cores_allowed", "cpu_limit");
    put_count(b, "memory_total", r->memory_total);
    NULLS(b, "memory_available", "memory_limit", "governor", "microcode");
    line_put_text(b, "kernel", r->kernel);
    line_put_text(b, "os", r->os);
    line_put_null(b, "architecture");
    line_put_text(b, "libc", r->libc);
    line_put_text(b, "compiler", r->compiler);
    NULLS(b, "load1", "virtualised");
    line_open(b, "gpus", '[');
    if (r->has_gpu) {
        put_gpu(b, r);
    }
    line_close(b, ']');
    line_close(b, '}');
}

sluice_status import_put_run(struct import *im, const struct import_run *r) {
    struct buf *b = &im->line;
    char id[17];
    snprintf(id, sizeof id, "%.12s%04zx", im->sha256, im->n_runs & 0xFFFF); /* the same source gives the same record */
    im->n_runs++;
    im->n_rows = im->n_samples = 0;
    line_start(b, "run");
    line_put_text(b, "schema", "sluice-record");
    line_put_uint(b, "version", 2);
    line_put_text(b, "id", id);
    line_put_text(b, "tool", "sluice " SLUICE_VERSION);
    line_put_text(b, "date", r->date);
    line_put_text(b, "label", im->options->label ? im->options->label : r->label);
    line_put_text(b, "suite", r->suite);
    line_put_text(b, "suite_about", r->suite_about);
    line_put_text(b, "command", r->command);
    line_open(b, "origin", '{');
    line_put_text(b, "source", im->source);
    line_put_text(b, "format", im->format);
    line_put_text(b, "url", im->options->url);
    line_put_text(b, "sha256", im->sha256);
    line_put_text(b, "note", r->note);
    line_close(b, '}');
    put_target(b, r);
    put_model_file(b, r);
    put_environment(b, r);
    line_put_null(b, "sampling");
    line_put_text(b, "statistic", r->statistic);
    return import_put_line(im);
}

static void put_ms(struct buf *b, const char *name, double v) {
    line_put_ms(b, name, isnan(v) ? -1 : v);
}

sluice_status import_put_sample(struct import *im, const struct import_sample *s) {
    struct buf *b = &im->line;
    im->n_samples++;
    line_start(b, "sample");
    line_put_text(b, "row", s->row);
    line_put_uint(b, "target", 0);
    line_put_uint(b, "run", s->run);
    line_put_uint(b, "stream", s->stream);
    line_put_bool(b, "warmup", s->warmup);
    line_put_bool(b, "ok", s->error == NULL);
    line_put_bool(b, "refused", false);
    line_put_text(b, "error", s->error && !s->error[0] ? "the source gives no reason" : s->error);
    NULLS(b, "prompt_sha256", "prompt_tokens_wanted", "intended_ms");
    put_ms(b, "send_ms", s->send_ms);
    line_put_null(b, "first_byte_ms");
    put_ms(b, "first_token_ms", s->first_token_ms);
    line_put_null(b, "first_content_ms");
    put_ms(b, "last_token_ms", s->last_token_ms);
    put_ms(b, "end_ms", s->end_ms);
    line_put_ms_array(b, "token_ms", s->token_ms, s->n_token_ms);
    line_put_count(b, "chunks", s->chunks);
    line_put_count(b, "prompt_tokens", s->prompt_tokens);
    line_put_count(b, "cached_tokens", s->cached_tokens);
    line_put_count(b, "output_tokens", s->output_tokens);
    line_put_count(b, "reasoning_tokens", s->reasoning_tokens);
    line_put_text(b, "finish", s->finish);
    NULLS(b, "server_prompt_ms", "server_predicted_ms");
    return import_put_line(im);
}

static void put_verdict(struct buf *b, const char *state, const char *reason) {
    line_open(b, "verdict", '{');
    line_put_text(b, "state", state);
    line_put_texts(b, "reasons", &reason, reason ? 1 : 0);
    line_close(b, '}');
}

sluice_status import_put_row(struct import *im, const struct import_row *r) {
    struct buf *b = &im->line;
    im->n_rows++;
    line_start(b, "row");
    line_put_text(b, "row", r->row);
    line_put_uint(b, "target", 0);
    line_put_text(b, "test", r->test);
    line_put_text(b, "workload", r->workload);
    line_put_text(b, "cache", r->cache);
    line_put_text(b, "cache_state", strcmp(r->cache, "none") == 0 ? NULL : "unverified");
    line_put_text(b, "cache_reason", r->cache_reason);
    put_count(b, "concurrency", r->concurrency);
    line_put_text(b, "arrival", r->arrival);
    line_put_number(b, "rate_rps", r->rate_rps);
    put_count(b, "depth", r->depth);
    put_count(b, "batch", r->batch);
    put_count(b, "max_tokens", r->max_tokens);
    put_flag(b, "natural_stop", r->natural_stop);
    line_put_number(b, "power_cap_w", r->power_cap_w);
    put_count(b, "warmups", r->warmups);
    put_count(b, "runs", r->runs);
    line_put_bool(b, "cut_for_time", false);
    line_put_uint(b, "failed", r->failed);
    line_put_text(b, "error", r->failed ? (r->error && r->error[0] ? r->error : "the source gives no reason") : NULL);
    line_open(b, "metrics", '{'); /* filled in once the samples are read back */
    line_close(b, '}');
    line_put_text(b, "batching", r->batching);
    NULLS(b, "batching_reason", "limit", "energy");
    line_open(b, "quality", '{');
    line_put_bool(b, "qualified", false);
    line_put_text(b, "reason", "imported: the source measured no quality");
    NULLS(b, "kind", "reference_sha256", "tokens", "kl_mean", "kl_p999", "top1_agreement");
    line_close(b, '}');
    line_put_null(b, "memory");
    put_verdict(b, "noisy", r->reason ? r->reason : "imported: the machine's noise was not measured");
    line_open(b, "printed", '{');
    for (size_t i = 0; i < r->n_printed; i++) {
        line_put_text(b, r->printed[2 * i], r->printed[2 * i + 1]);
    }
    line_close(b, '}');
    line_open(b, "deviations", '[');
    line_close(b, ']');
    return import_put_line(im);
}

sluice_status import_put_end(struct import *im, double duration_s, const struct import_noise *noise) {
    struct buf *b = &im->line;
    line_start(b, "end");
    line_put_number(b, "duration_s", duration_s);
    line_put_uint(b, "rows", im->n_rows);
    line_put_uint(b, "samples", im->n_samples);
    line_put_null(b, "rows_left_out");
    line_put_bool(b, "interrupted", false);
    if (noise) {
        line_open(b, "noise", '{');
        NULLS(b, "calibration_before_ms", "calibration_after_ms", "drift_share", "steal_share", "foreign_cpu_share",
              "throttled");
        line_put_number(b, "peak_w", noise->peak_w);
        line_put_number(b, "idle_c", noise->idle_c);
        line_put_number(b, "peak_c", noise->peak_c);
        line_put_null(b, "foreign_gpu_processes");
        line_close(b, '}');
    } else {
        line_put_null(b, "noise");
    }
    put_verdict(b, "noisy", "imported: the machine's noise was not measured");
    return import_put_line(im);
}
