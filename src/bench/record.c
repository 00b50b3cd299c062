/*
 * A record: one JSON object per run of a suite, schema "sluice-bench", version 1.
 *
 * Every row keeps its samples, one per request, with the times as read from one monotonic clock (ms after that
 * request was sent; send_ms counts from the start of the record) and the token counts as the server reported them.
 * All rates follow from them by the formulas in sample.h; a row's figures are the medians over its requests
 * (aggregate_tok_s and streams_decoding: over its rounds). null means unknown, never zero.
 */
#include "bench/bench.h"

#include <string.h>

static void put_key(struct buf *b, const char *name) {
    if (b->len && b->data[b->len - 1] != '{') {
        buf_putc(b, ',');
    }
    buf_printf(b, "\"%s\":", name);
}

static void put_text(struct buf *b, const char *name, const char *value) {
    put_key(b, name);
    if (value[0]) {
        buf_json_string(b, value, strlen(value));
    } else {
        buf_puts(b, "null");
    }
}

static void put_uint(struct buf *b, const char *name, uint64_t v) {
    put_key(b, name);
    buf_printf(b, "%llu", (unsigned long long)v);
}

static void put_bool(struct buf *b, const char *name, bool v) {
    put_key(b, name);
    buf_puts(b, v ? "true" : "false");
}

/* Times to the microsecond; negative means unknown. */
static void put_ms(struct buf *b, const char *name, double v) {
    put_key(b, name);
    if (v < 0) {
        buf_puts(b, "null");
    } else {
        buf_printf(b, "%.3f", v);
    }
}

static void put_count(struct buf *b, const char *name, int64_t v) {
    put_key(b, name);
    if (v < 0) {
        buf_puts(b, "null");
    } else {
        buf_printf(b, "%lld", (long long)v);
    }
}

static void put_sample(struct buf *b, const struct row *row, uint32_t i) {
    const struct sample *s = &row->samples[i];
    buf_puts(b, i ? ",{" : "{");
    put_uint(b, "run", i / row->cell.concurrency);
    put_uint(b, "stream", i % row->cell.concurrency);
    put_bool(b, "ok", s->ok);
    if (!s->ok) {
        put_text(b, "error", s->error);
    }
    put_ms(b, "send_ms", s->send_ms);
    put_ms(b, "first_byte_ms", s->first_byte_ms);
    put_ms(b, "first_token_ms", s->first_token_ms);
    put_ms(b, "first_content_ms", s->first_content_ms);
    put_ms(b, "last_token_ms", s->last_token_ms);
    put_ms(b, "end_ms", s->end_ms);
    put_ms(b, "gap_max_ms", s->gap_max_ms);
    put_count(b, "prompt_tokens", s->prompt_tokens);
    put_count(b, "cached_tokens", s->cached_tokens);
    put_count(b, "output_tokens", s->output_tokens);
    put_count(b, "reasoning_tokens", s->reasoning_tokens);
    put_uint(b, "chunks", s->chunks);
    put_text(b, "finish", s->finish);
    put_ms(b, "server_prompt_ms", s->server_prompt_ms);
    put_ms(b, "server_predicted_ms", s->server_predicted_ms);
    buf_putc(b, '}');
}

static void put_summary(struct buf *b, const char *name, const struct stats_summary *s) {
    put_key(b, name);
    if (s->n == 0) {
        buf_puts(b, "null");
        return;
    }
    buf_printf(b, "{\"median\":%.4f,\"min\":%.4f,\"max\":%.4f,\"mean\":%.4f,\"sd\":%.4f,\"n\":%zu,\"ci95\":", s->median,
               s->min, s->max, s->mean, s->sd, s->n);
    if (s->has_ci) {
        buf_printf(b, "[%.4f,%.4f]}", s->ci95[0], s->ci95[1]);
    } else {
        buf_puts(b, "null}");
    }
}

static void put_row(struct buf *b, const struct row *row) {
    buf_putc(b, '{');
    put_text(b, "workload", row->name);
    put_uint(b, "concurrency", row->cell.concurrency);
    put_uint(b, "max_tokens", row->cell.max_tokens);
    put_uint(b, "warmups", row->warmups);
    put_uint(b, "warmup_tokens", row->cell.warmup_tokens ? row->cell.warmup_tokens : row->cell.max_tokens);
    put_uint(b, "runs", row->runs);
    put_bool(b, "cut_for_time", row->cut);
    put_uint(b, "failed", row->n_failed);
    put_text(b, "error", row->n_failed ? row->error : "");
    for (int m = 0; m < N_METRICS; m++) {
        put_summary(b, metric_names[m], &row->metric[m]);
    }
    put_key(b, "roof_share");
    if (row->roof_share > 0) {
        buf_printf(b, "%.4f", row->roof_share);
    } else {
        buf_puts(b, "null");
    }
    put_key(b, "samples");
    buf_putc(b, '[');
    for (uint32_t i = 0; i < row->n_samples; i++) {
        put_sample(b, row, i);
    }
    buf_puts(b, "]}");
}

static void put_target(struct buf *b, const struct bench_record *r) {
    put_key(b, "target");
    buf_putc(b, '{');
    put_text(b, "url", r->own_server ? "" : r->url); /* our own server's port says nothing */
    put_bool(b, "own_server", r->own_server);
    put_text(b, "model", r->model);
    put_text(b, "engine", r->engine);
    if (r->context) {
        put_uint(b, "context", r->context);
    }
    buf_putc(b, '}');
    put_key(b, "model_file");
    if (r->file.n_params == 0) {
        buf_puts(b, "null");
        return;
    }
    buf_putc(b, '{');
    put_text(b, "name", r->file.name);
    put_uint(b, "bytes", r->file.bytes);
    put_text(b, "architecture", r->file.architecture);
    put_text(b, "quantization", r->file.quantization);
    put_uint(b, "n_params", r->file.n_params);
    put_uint(b, "decode_bytes", r->file.decode_bytes);
    put_uint(b, "kv_bytes_per_token", r->file.kv_bytes_per_token);
    buf_putc(b, '}');
}

void bench_record_json(struct buf *b, const struct bench_record *r) {
    buf_putc(b, '{');
    put_text(b, "schema", "sluice-bench");
    put_uint(b, "version", 1);
    put_text(b, "tool", "sluice " SLUICE_VERSION);
    put_text(b, "date", r->env.date);
    put_text(b, "suite", r->suite);
    put_text(b, "suite_about", r->suite_about);
    put_text(b, "command", r->command);
    put_text(b, "endpoint", "/v1/chat/completions");
    put_bool(b, "streaming", true);
    put_uint(b, "temperature", 0);
    put_bool(b, "ignore_eos", r->ignore_eos);
    put_text(b, "cache", "cold: every prompt opens with a number of its own");
    put_text(b, "statistic", "median over requests; ci95: bootstrap interval of the median, from 5 values on");
    put_ms(b, "duration_s", r->duration_s);
    put_target(b, r);
    put_key(b, "read_gb_s");
    if (r->read_gb_s > 0) {
        buf_printf(b, "%.2f", r->read_gb_s);
    } else {
        buf_puts(b, "null");
    }
    put_key(b, "environment");
    env_json(b, &r->env, r->steal_share);
    put_uint(b, "rows_left_out", r->left_out);
    put_key(b, "rows");
    buf_putc(b, '[');
    for (uint32_t i = 0; i < r->n_rows; i++) {
        if (i) {
            buf_putc(b, ',');
        }
        put_row(b, &r->rows[i]);
    }
    buf_puts(b, "]}");
}
