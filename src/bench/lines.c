/* The record's lines: run, probe, sample, row, end. */
#include "bench/bench.h"
#include "bench/lines.h"

#include "record/line.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static sluice_status write_line(struct bench *b, sluice_error *err) {
    return b->options->writer ? record_write(b->options->writer, &b->line, err) : SLUICE_OK;
}

static void put_flag(struct buf *l, const char *name, int v) {
    if (v < 0) {
        line_put_null(l, name);
    } else {
        line_put_bool(l, name, v);
    }
}

static void put_known(struct buf *l, const char *name, uint64_t v) {
    line_put_count(l, name, v ? (int64_t)v : -1);
}

/* ---- run */

void lines_put_target(struct buf *l, const char *name, const struct target *t, bool own,
                      const struct lines_memory *memory) {
    line_open(l, name, '{');
    line_put_text(l, "name", t->engine[0] ? t->engine : t->model);
    line_put_text(l, "url", own ? NULL : t->url);
    line_put_bool(l, "own_server", own);
    line_put_text(l, "engine", t->engine);
    line_put_text(l, "build", t->build);
    line_put_text(l, "device_api", t->device_api);
    line_put_text(l, "model", t->model);
    put_known(l, "context", t->context);
    put_known(l, "slots", t->slots);
    line_put_text(l, "command_line", t->command_line);
    line_put_text(l, "endpoint", "/v1/chat/completions");
    line_put_bool(l, "streaming", true);
    line_put_bool(l, "reports_cached_tokens", t->reports_cached);
    line_put_count(l, "memory_before_bytes", memory->before);
    line_put_count(l, "memory_after_bytes", memory->after);
    put_flag(l, "spilled", memory->spilled);
    line_close(l, '}');
}

void lines_put_file(struct buf *l, const struct model_facts *f) {
    if (f->n_params == 0) {
        line_put_null(l, "model_file");
        return;
    }
    line_open(l, "model_file", '{');
    line_put_text(l, "name", f->name);
    line_put_text(l, "sha256", f->sha256);
    line_put_uint(l, "bytes", f->bytes);
    line_put_text(l, "architecture", f->architecture);
    line_put_text(l, "quantization", f->quantization);
    line_put_uint(l, "n_params", f->n_params);
    put_known(l, "n_params_active", f->n_params_active);
    put_known(l, "context_length", f->context);
    line_put_text(l, "repository", f->repository);
    line_put_text(l, "commit", f->commit);
    put_flag(l, "synthetic", f->synthetic);
    put_known(l, "decode_bytes", f->decode_bytes);
    put_known(l, "kv_bytes_per_token", f->kv_bytes_per_token);
    put_known(l, "prefill_ops_per_token", f->prefill_ops);
    line_close(l, '}');
}

/* As sent; null is a field that the server refused, so that it was left out. */
void lines_put_sampling(struct buf *l, const struct target *t) {
    static const struct {
        enum target_field field;
        int value;
    } numbers[] = {
        {FIELD_TEMPERATURE, 0},
        {FIELD_TOP_P, 1},
        {FIELD_TOP_K, 0},
        {FIELD_MIN_P, 0},
        {FIELD_REPEAT_PENALTY, 1},
        {FIELD_PRESENCE_PENALTY, 0},
        {FIELD_FREQUENCY_PENALTY, 0},
        {FIELD_SEED, 1},
    };
    line_open(l, "sampling", '{');
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        line_put_number(l, target_field_names[numbers[i].field], t->takes[numbers[i].field] ? numbers[i].value : NAN);
    }
    put_flag(l, "ignore_eos", t->takes[FIELD_IGNORE_EOS] ? 1 : -1);
    put_flag(l, "cache_prompt", t->takes[FIELD_CACHE_PROMPT] ? 1 : -1);
    line_close(l, '}');
}

void lines_put_origin(struct buf *l) {
    line_open(l, "origin", '{');
    line_put_text(l, "source", "measured");
    line_put_null(l, "format");
    line_put_null(l, "url");
    line_put_null(l, "sha256");
    line_put_null(l, "note");
    line_close(l, '}');
}

sluice_status bench_write_run(struct bench *b, sluice_error *err) {
    struct buf *l = &b->line;
    line_start(l, "run");
    line_put_text(l, "schema", "sluice-record");
    line_put_uint(l, "version", 2);
    line_put_text(l, "id", b->id);
    line_put_text(l, "tool", "sluice " SLUICE_VERSION);
    line_put_text(l, "date", b->environment.date);
    line_put_text(l, "label", b->options->label);
    line_put_text(l, "suite", b->suite.name);
    line_put_text(l, "suite_about", b->suite.about);
    line_put_text(l, "command", b->options->command);
    lines_put_origin(l);
    lines_put_target(l, "target", &b->target, b->own_server,
                     &(struct lines_memory){b->memory_before, b->memory_after, b->spilled});
    lines_put_file(l, &b->file);
    environment_json(l, &b->environment);
    lines_put_sampling(l, &b->target);
    line_put_text(
        l, "statistic",
        "median over the requests, with the order-statistic interval of the median and the level that it has");
    line_end(l);
    return write_line(b, err);
}

sluice_status bench_write_probes(struct bench *b, sluice_error *err) {
    struct json_object *probes = b->raw ? b->raw->probes : NULL;
    for (size_t i = 0; probes && i < json_object_array_length(probes); i++) {
        const char *text = json_object_to_json_string_ext(json_object_array_get_idx(probes, i),
                                                          JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        buf_reset(&b->line);
        buf_puts(&b->line, text ? text : "");
        sluice_status status = write_line(b, err);
        if (status != SLUICE_OK) {
            return status;
        }
    }
    return SLUICE_OK;
}

/* ---- sample */

void lines_put_sample(struct buf *l, const char *row, uint32_t target, bool raw, const struct sample *s) {
    line_start(l, "sample");
    line_put_text(l, "row", row);
    line_put_uint(l, "target", target);
    line_put_uint(l, "run", s->run);
    line_put_uint(l, "stream", s->stream);
    line_put_bool(l, "warmup", s->warmup);
    line_put_bool(l, "ok", s->ok);
    line_put_bool(l, "refused", s->refused);
    line_put_text(l, "error", s->ok ? NULL : s->error);
    line_put_text(l, "prompt_sha256", s->prompt_sha256);
    line_put_count(l, "prompt_tokens_wanted", s->prompt_tokens_wanted);
    line_put_ms(l, "intended_ms", s->intended_ms);
    line_put_ms(l, "send_ms", s->send_ms);
    line_put_ms(l, "first_byte_ms", s->first_byte_ms);
    line_put_ms(l, "first_token_ms", s->first_token_ms);
    line_put_ms(l, "first_content_ms", s->first_content_ms);
    line_put_ms(l, "last_token_ms", s->last_token_ms);
    line_put_ms(l, "end_ms", s->end_ms);
    line_put_ms_array(l, "token_ms", s->token_ms, s->token_ms ? (size_t)s->output_tokens : 0);
    line_put_count(l, "chunks", raw ? -1 : (int64_t)s->chunks);
    line_put_count(l, "prompt_tokens", s->prompt_tokens);
    line_put_count(l, "cached_tokens", s->cached_tokens);
    line_put_count(l, "output_tokens", s->output_tokens);
    line_put_count(l, "reasoning_tokens", s->reasoning_tokens);
    line_put_text(l, "finish", s->finish);
    line_put_ms(l, "server_prompt_ms", s->server_prompt_ms);
    line_put_ms(l, "server_predicted_ms", s->server_predicted_ms);
    line_end(l);
}

sluice_status bench_write_samples(struct bench *b, struct row *row, sluice_error *err) {
    for (; !row->unrecorded && row->n_written < row->n_samples; row->n_written++) {
        lines_put_sample(&b->line, row->key, 0, row->test == TEST_RAW, &row->samples[row->n_written]);
        sluice_status status = write_line(b, err);
        if (status != SLUICE_OK) {
            return status;
        }
        b->n_samples++;
    }
    return SLUICE_OK;
}

/* ---- row */

static void put_metrics(struct buf *l, const struct row *row) {
    line_open(l, "metrics", '{');
    for (int m = 0; m < N_METRICS; m++) {
        line_put_metric(l, metric_names[m], &row->metric[m], row->percentile[m]);
    }
    line_close(l, '}');
}

static void put_limit(struct buf *l, const char *name, const struct row_limit *limit) {
    if (limit->kind == LIMIT_NONE) {
        line_put_null(l, name);
        return;
    }
    bool read = limit->kind == LIMIT_READ;
    line_open(l, name, '{');
    line_put_text(l, "kind", read ? "read" : "matrix");
    line_put_number(l, "bytes_per_token", read ? limit->bytes_per_token : NAN);
    line_put_number(l, "ops_per_token", read ? NAN : limit->ops_per_token);
    line_put_number(l, "measured", limit->measured);
    line_put_text(l, "unit", read ? "GB/s" : "Tops/s");
    line_put_number(l, "share", limit->share);
    line_put_text(l, "rule", limit->rule);
    line_close(l, '}');
}

static void put_memory(struct buf *l, const struct row *row) {
    if (row->rss_bytes < 0 && row->vram_bytes < 0) {
        line_put_null(l, "memory");
        return;
    }
    line_open(l, "memory", '{');
    line_put_count(l, "rss_bytes", row->rss_bytes);
    line_put_count(l, "vram_bytes", row->vram_bytes);
    line_close(l, '}');
}

void lines_put_verdict(struct buf *l, enum verdict state, const char *const *reasons, size_t n) {
    line_open(l, "verdict", '{');
    line_put_text(l, "state", verdict_names[state]);
    line_put_texts(l, "reasons", reasons, n);
    line_close(l, '}');
}

static void put_row_verdict(struct buf *l, const struct row *row) {
    const char *reasons[ROW_REASONS_MAX];
    for (uint32_t i = 0; i < row->n_reasons; i++) {
        reasons[i] = row->reasons[i];
    }
    lines_put_verdict(l, (enum verdict)row->state, reasons, row->n_reasons);
}

static void put_load(struct buf *l, const struct row *row) {
    bool raw = row->test == TEST_RAW, poisson = row->cell.arrival == ARRIVAL_POISSON;
    line_put_count(l, "concurrency", raw || poisson ? -1 : (int64_t)row->cell.concurrency);
    line_put_text(l, "arrival", arrival_names[row->cell.arrival]);
    line_put_number(l, "rate_rps", poisson ? row->cell.rate_rps : NAN);
    line_put_count(l, "depth", row->depth);
    line_put_count(l, "batch", row->batch);
    line_put_count(l, "max_tokens", raw ? -1 : (int64_t)row->cell.max_tokens);
    put_flag(l, "natural_stop", raw ? -1 : row->natural_stop);
    if (row->template_tokens >= 0) {
        line_put_count(l, "template_tokens", row->template_tokens);
    }
    line_put_number(l, "power_cap_w", row->power_cap_w);
    line_put_uint(l, "warmups", row->warmups);
    line_put_uint(l, "runs", row->runs);
}

void lines_put_row(struct buf *l, const struct row *row, uint32_t target, const struct energy *counters,
                   const struct run_quality *quality) {
    line_start(l, "row");
    line_put_text(l, "row", row->key);
    line_put_uint(l, "target", target);
    line_put_text(l, "test", row->test == TEST_RAW ? "raw" : "api");
    line_put_text(l, "workload", row->workload);
    line_put_text(l, "cache", cache_names[row->cell.cache]);
    line_put_text(l, "cache_state", cache_state_names[row->cache_state]);
    line_put_text(l, "cache_reason", row->cache_reason);
    put_load(l, row);
    line_put_bool(l, "cut_for_time", row->cut);
    line_put_uint(l, "failed", row->n_failed);
    line_put_text(l, "error", row->error);
    put_metrics(l, row);
    line_put_text(l, "batching", batching_names[row->batching]);
    line_put_text(l, "batching_reason", row->batching_reason);
    put_limit(l, "limit", &row->limit);
    put_limit(l, "other_limit", &row->other_limit);
    bench_put_energy(l, counters, &row->energy);
    bench_put_quality(l, quality);
    put_memory(l, row);
    put_row_verdict(l, row);
    line_end(l);
}

sluice_status bench_write_row(struct bench *b, struct row *row, sluice_error *err) {
    lines_put_row(&b->line, row, 0, b->energy, &b->quality);
    return write_line(b, err);
}

/* ---- end */

void lines_put_noise(struct buf *l, const struct watch_summary *s) {
    if (!s) {
        line_put_null(l, "noise");
        return;
    }
    line_open(l, "noise", '{');
    line_put_ms(l, "calibration_before_ms", s->calibration_before_ms);
    line_put_ms(l, "calibration_after_ms", s->calibration_after_ms);
    line_put_number(l, "drift_share",
                    s->calibration_before_ms > 0 && s->calibration_after_ms > 0 ? s->drift_share : NAN);
    line_put_number(l, "steal_share", s->steal_share < 0 ? NAN : s->steal_share);
    line_put_number(l, "foreign_cpu_share", s->foreign_cpu_share < 0 ? NAN : s->foreign_cpu_share);
    put_flag(l, "throttled", s->throttled < 0 ? -1 : s->throttled > 0);
    line_put_number(l, "peak_w", s->peak_w < 0 ? NAN : s->peak_w);
    line_put_number(l, "idle_c", s->idle_c < 0 ? NAN : s->idle_c);
    line_put_number(l, "peak_c", s->peak_c < 0 ? NAN : s->peak_c);
    line_put_count(l, "foreign_gpu_processes", s->foreign_gpu_processes);
    line_close(l, '}');
}

sluice_status bench_write_trace(struct bench *b, sluice_error *err) {
    line_start(&b->line, "trace");
    buf_putc(&b->line, ',');
    watch_trace_json(&b->line, b->watch);
    line_end(&b->line);
    return write_line(b, err);
}

static void put_left_out(struct buf *l, const struct bench *b) {
    line_open(l, "left_out", '[');
    for (uint32_t i = 0; i < b->n_left; i++) {
        line_open(l, NULL, '{');
        line_put_text(l, "row", b->left[i].row);
        line_put_text(l, "reason", b->left[i].reason);
        line_close(l, '}');
    }
    line_close(l, ']');
}

sluice_status bench_write_end(struct bench *b, sluice_error *err) {
    struct buf *l = &b->line;
    char rows[64], noise[512] = "";
    const char *reasons[3];
    size_t n = 0;
    struct watch_summary judged = b->noise;
    judged.throttled = judged.throttled > 0 ? b->rows_throttled : judged.throttled;
    enum verdict state = b->watch ? watch_verdict(&judged, noise, sizeof noise) : VERDICT_CLEAN;
    if (b->interrupted) {
        state = VERDICT_INVALID;
        reasons[n++] = "interrupted before the end of the suite";
    }
    if (noise[0]) {
        reasons[n++] = noise;
    }
    if (b->n_noisy) {
        snprintf(rows, sizeof rows, "%u of %u rows are not clean", b->n_noisy, b->n_rows);
        state = state == VERDICT_CLEAN ? VERDICT_NOISY : state;
        reasons[n++] = rows;
    }
    line_start(l, "end");
    line_put_number(l, "duration_s", b->duration_s);
    line_put_uint(l, "rows", b->n_rows);
    line_put_uint(l, "samples", b->n_samples);
    line_put_uint(l, "rows_left_out", b->n_left);
    put_left_out(l, b);
    line_put_bool(l, "interrupted", b->interrupted);
    lines_put_noise(l, b->watch ? &b->noise : NULL);
    lines_put_verdict(l, state, reasons, n);
    line_end(l);
    return write_line(b, err);
}
