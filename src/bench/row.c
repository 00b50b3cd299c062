/* From samples to a row's figures. */
#include "bench/row.h"

#include "base/mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const metric_names[N_METRICS] = {
    [METRIC_TTFT] = "ttft_ms",
    [METRIC_TTFC] = "ttfc_ms",
    [METRIC_TPOT] = "tpot_ms",
    [METRIC_ITL] = "itl_ms",
    [METRIC_LATENCY] = "latency_ms",
    [METRIC_QUEUE] = "queue_ms",
    [METRIC_DECODE] = "decode_tok_s",
    [METRIC_CLIENT] = "client_tok_s",
    [METRIC_PREFILL] = "prefill_tok_s",
    [METRIC_PROMPT] = "prompt_tokens",
    [METRIC_CACHED] = "cached_tokens",
    [METRIC_OUTPUT] = "output_tokens",
    [METRIC_AGGREGATE] = "aggregate_tok_s",
    [METRIC_STREAMS] = "streams_decoding",
    [METRIC_GOODPUT] = "goodput_rps",
    [METRIC_REQUESTS] = "request_rps",
    [METRIC_OVERHEAD] = "server_overhead_ms",
    [METRIC_TOK_S] = "tok_s",
};

/* ---- The row as a container */

void row_init(struct row *row, const struct cell *cell, bool natural_stop) {
    *row = (struct row){
        .test = TEST_API,
        .workload = cell->workload ? cell->workload->name : NULL,
        .cell = *cell,
        .natural_stop = natural_stop,
        .depth = cell->is_depth ? (int64_t)cell->prompt_tokens : -1,
        .batch = -1,
        .template_tokens = -1,
        .prompt_wanted = cell->prompt_tokens,
        .cache_state = CACHE_NO_STATE,
        .batching = BATCHING_UNKNOWN,
        .rss_bytes = -1,
        .vram_bytes = -1,
        .power_cap_w = NAN,
    };
    if (cell->workload) {
        cell_key(cell, natural_stop, row->key, sizeof row->key);
    }
}

void row_free(struct row *row) {
    for (uint32_t i = 0; i < row->n_samples; i++) {
        sample_free(&row->samples[i]);
    }
    mem_free(row->samples);
    row->samples = NULL;
    row->n_samples = row->cap_samples = 0;
}

struct sample *row_add_samples(struct row *row, uint32_t n) {
    if (row->n_samples + n > row->cap_samples) {
        uint32_t cap = row->cap_samples * 2 > row->n_samples + n ? row->cap_samples * 2 : row->n_samples + n;
        struct sample *more = mem_realloc(row->samples, cap * sizeof *more);
        if (!more) {
            return NULL;
        }
        row->samples = more;
        row->cap_samples = cap;
    }
    struct sample *first = row->samples + row->n_samples;
    for (uint32_t i = 0; i < n; i++) {
        sample_reset(&first[i]);
    }
    row->n_samples += n;
    return first;
}

void row_add_reason(struct row *row, enum row_state state, const char *fmt, ...) {
    va_list args;
    row->state = state > row->state ? state : row->state;
    if (row->n_reasons == ROW_REASONS_MAX) {
        return;
    }
    va_start(args, fmt);
    vsnprintf(row->reasons[row->n_reasons++], sizeof row->reasons[0], fmt, args);
    va_end(args);
}

/* Sorts the values. Not stats_summarise: its bootstrap takes seconds for the gaps between tokens, and no row has it. */
static void summarise(double *x, size_t n, struct stats_summary *out) {
    *out = (struct stats_summary){.n = n};
    if (n == 0) {
        return;
    }
    out->mean = stats_mean(x, n);
    out->sd = stats_sd(x, n);
    stats_sort(x, n);
    out->min = x[0];
    out->max = x[n - 1];
    out->median = stats_quantile_sorted(x, n, 0.5);
    if (n >= STATS_CI_MIN_N) {
        out->level = stats_order_interval(x, n, 0.95, out->interval);
        out->has_interval = true;
    }
}

void row_set_single(struct row *row, enum metric m, double value) {
    if (isfinite(value)) {
        summarise(&value, 1, &row->metric[m]);
        for (int i = 0; i < LINE_PERCENTILES; i++) {
            row->percentile[m][i] = NAN;
        }
    }
}

/* ---- Figures */

/* Negative: the sample does not give it. */
static double request_value(const struct row *row, const struct sample *s, enum metric m) {
    bool raw = row->test == TEST_RAW;
    switch (m) {
    case METRIC_TTFT:
        return raw ? -1 : sample_ttft_ms(s);
    case METRIC_TTFC:
        return raw ? -1 : s->first_content_ms;
    case METRIC_TPOT:
        return raw ? -1 : sample_tpot_ms(s);
    case METRIC_LATENCY:
        return raw ? -1 : sample_latency_ms(s);
    case METRIC_QUEUE:
        return sample_queue_ms(s);
    case METRIC_DECODE:
        return raw ? -1 : sample_decode_tok_s(s);
    case METRIC_CLIENT:
        return raw ? -1 : sample_client_tok_s(s);
    case METRIC_PREFILL:
        return raw ? -1 : sample_prefill_tok_s(s);
    case METRIC_PROMPT:
        return (double)s->prompt_tokens;
    case METRIC_CACHED:
        return (double)s->cached_tokens;
    case METRIC_OUTPUT:
        return (double)s->output_tokens;
    case METRIC_TOK_S: {
        double tokens = (double)(s->prompt_tokens > 0 ? s->prompt_tokens : 0) +
                        (double)(s->output_tokens > 0 ? s->output_tokens : 0);
        return raw && s->end_ms > 0 && tokens > 0 ? 1000 * tokens / s->end_ms : -1;
    }
    default:
        return -1;
    }
}

struct span {
    double from, to;
};

static int compare_spans(const void *a, const void *b) {
    double x = ((const struct span *)a)->from, y = ((const struct span *)b)->from;
    return (x > y) - (x < y);
}

/* Time in which at least one span lasts. */
static double covered(struct span *spans, uint32_t n) {
    double total = 0, end = -INFINITY;
    qsort(spans, n, sizeof *spans, compare_spans);
    for (uint32_t i = 0; i < n; i++) {
        double from = fmax(spans[i].from, end);
        if (spans[i].to > from) {
            total += spans[i].to - from;
            end = spans[i].to;
        }
    }
    return total;
}

/* A round counts only as a whole: with one request failed or uncounted its rate would be of a smaller load. */
static double round_value(const struct sample *s, uint32_t n, enum metric m, struct span *spans) {
    double tokens = 0, decoding = 0, send = INFINITY, end = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool decodes = s[i].first_token_ms >= 0 && s[i].last_token_ms > s[i].first_token_ms;
        if (!s[i].ok || s[i].output_tokens < 0 || (m == METRIC_STREAMS && !decodes)) {
            return -1;
        }
        tokens += (double)s[i].output_tokens;
        decoding += s[i].last_token_ms - s[i].first_token_ms;
        send = fmin(send, s[i].send_ms);
        end = fmax(end, s[i].send_ms + s[i].end_ms);
        spans[i] = (struct span){s[i].send_ms + s[i].first_token_ms, s[i].send_ms + s[i].last_token_ms};
    }
    if (m == METRIC_AGGREGATE) {
        return end > send ? 1000 * tokens / (end - send) : -1;
    }
    double any = covered(spans, n);
    return any > 0 ? decoding / any : -1;
}

static size_t collect_rounds(const struct row *row, enum metric m, double *values, struct span *spans) {
    size_t n = 0;
    for (uint32_t from = 0; from < row->n_samples;) {
        uint32_t to = from + 1;
        while (to < row->n_samples && row->samples[to].run == row->samples[from].run &&
               row->samples[to].warmup == row->samples[from].warmup) {
            to++;
        }
        double v = row->samples[from].warmup || row->samples[from].intended_ms >= 0
                       ? -1
                       : round_value(row->samples + from, to - from, m, spans);
        if (v >= 0) {
            values[n++] = v;
        }
        from = to;
    }
    return n;
}

static size_t collect_gaps(const struct row *row, double *values) {
    size_t n = 0;
    for (uint32_t i = 0; i < row->n_samples; i++) {
        const struct sample *s = &row->samples[i];
        for (int64_t k = 1; s->ok && !s->warmup && s->token_ms && k < s->output_tokens; k++) {
            values[n++] = s->token_ms[k] - s->token_ms[k - 1];
        }
    }
    return n;
}

static size_t collect(const struct row *row, enum metric m, double *values, struct span *spans) {
    size_t n = 0;
    if (m == METRIC_ITL) {
        return collect_gaps(row, values);
    }
    if (m == METRIC_AGGREGATE || m == METRIC_STREAMS) {
        return row->test == TEST_API ? collect_rounds(row, m, values, spans) : 0;
    }
    for (uint32_t i = 0; i < row->n_samples; i++) {
        const struct sample *s = &row->samples[i];
        double v = s->ok && !s->warmup ? request_value(row, s, m) : -1;
        if (v >= 0) {
            values[n++] = v;
        }
    }
    return n;
}

/* Open loop: requests per second from the first intended send to the last end, and those of them within the targets. */
static void summarise_rates(struct row *row) {
    double first = INFINITY, last = 0;
    uint32_t n = 0, good = 0;
    for (uint32_t i = 0; i < row->n_samples; i++) {
        const struct sample *s = &row->samples[i];
        if (s->warmup || !s->ok || s->intended_ms < 0) {
            continue;
        }
        double late = sample_queue_ms(s), tpot = sample_tpot_ms(s);
        first = fmin(first, s->intended_ms);
        last = fmax(last, s->send_ms + s->end_ms);
        n++;
        good += (row->slo_ttft_ms <= 0 || s->first_token_ms + late <= row->slo_ttft_ms) &&
                (row->slo_tpot_ms <= 0 || (tpot >= 0 && tpot <= row->slo_tpot_ms));
    }
    if (n > 1 && last > first) {
        row_set_single(row, METRIC_REQUESTS, 1000 * n / (last - first));
        if (row->slo_ttft_ms > 0 || row->slo_tpot_ms > 0) {
            row_set_single(row, METRIC_GOODPUT, 1000 * good / (last - first));
        }
    }
}

static size_t most_values(const struct row *row) {
    size_t n = row->n_samples + 1;
    for (uint32_t i = 0; i < row->n_samples; i++) {
        n += row->samples[i].token_ms ? (size_t)row->samples[i].output_tokens : 0;
    }
    return n;
}

bool row_summarise(struct row *row) {
    double *values = mem_alloc(most_values(row) * sizeof *values);
    struct span *spans = mem_alloc((row->n_samples + 1) * sizeof *spans);
    bool ok = values && spans;
    row->n_failed = row->n_ok = 0;
    for (uint32_t i = 0; i < row->n_samples; i++) {
        const struct sample *s = &row->samples[i];
        row->n_ok += s->ok && !s->warmup;
        if (!s->ok && !s->warmup && row->n_failed++ == 0) {
            memcpy(row->error, s->error, sizeof row->error);
            row->refused = s->refused;
        }
    }
    for (int m = 0; ok && m < METRIC_GOODPUT; m++) {
        size_t n = collect(row, (enum metric)m, values, spans);
        summarise(values, n, &row->metric[m]);
        ok = line_percentiles(values, n, row->percentile[m]);
    }
    if (ok) {
        size_t n = collect(row, METRIC_TOK_S, values, spans);
        summarise(values, n, &row->metric[METRIC_TOK_S]);
        ok = line_percentiles(values, n, row->percentile[METRIC_TOK_S]);
        summarise_rates(row);
    }
    mem_free(values);
    mem_free(spans);
    return ok;
}
