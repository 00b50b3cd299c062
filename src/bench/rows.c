/* From samples to a row's statistics. */
#include "bench/bench.h"

#include "base/mem.h"

#include <string.h>

const char *const metric_names[N_METRICS] = {
    [METRIC_DECODE] = "decode_tok_s",
    [METRIC_CLIENT] = "client_tok_s",
    [METRIC_PREFILL] = "prefill_tok_s",
    [METRIC_TTFT] = "ttft_ms",
    [METRIC_TPOT] = "tpot_ms",
    [METRIC_TOTAL] = "total_ms",
    [METRIC_PROMPT] = "prompt_tokens",
    [METRIC_OUTPUT] = "output_tokens",
    [METRIC_CACHED] = "cached_tokens",
    [METRIC_AGGREGATE] = "aggregate_tok_s",
    [METRIC_STREAMS] = "streams_decoding",
};

static double request_value(const struct sample *s, enum metric m) {
    switch (m) {
    case METRIC_DECODE:
        return sample_decode_tok_s(s);
    case METRIC_CLIENT:
        return sample_client_tok_s(s);
    case METRIC_PREFILL:
        return sample_prefill_tok_s(s);
    case METRIC_TTFT:
        return sample_ttft_ms(s);
    case METRIC_TPOT:
        return sample_tpot_ms(s);
    case METRIC_TOTAL:
        return s->end_ms;
    case METRIC_PROMPT:
        return (double)s->prompt_tokens;
    case METRIC_OUTPUT:
        return (double)s->output_tokens;
    case METRIC_CACHED:
        return (double)s->cached_tokens;
    default:
        return -1;
    }
}

/* A round counts only as a whole: with one request failed or uncounted its rate would be of a smaller load. */
static double round_value(const struct sample *s, uint32_t n, enum metric m) {
    double tokens = 0;
    double decoding = 0;
    double send = s[0].send_ms;
    double end = 0;
    double first = s[0].send_ms + s[0].first_token_ms;
    double last = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!s[i].ok || s[i].output_tokens < 0) {
            return -1;
        }
        tokens += (double)s[i].output_tokens;
        decoding += s[i].last_token_ms - s[i].first_token_ms;
        send = s[i].send_ms < send ? s[i].send_ms : send;
        end = s[i].send_ms + s[i].end_ms > end ? s[i].send_ms + s[i].end_ms : end;
        first = s[i].send_ms + s[i].first_token_ms < first ? s[i].send_ms + s[i].first_token_ms : first;
        last = s[i].send_ms + s[i].last_token_ms > last ? s[i].send_ms + s[i].last_token_ms : last;
    }
    if (m == METRIC_AGGREGATE) {
        return end > send ? 1000 * tokens / (end - send) : -1;
    }
    return last > first ? decoding / (last - first) : -1;
}

static bool summarise(struct row *row, enum metric m, double *values) {
    uint32_t c = row->cell.concurrency;
    size_t n = 0;
    if (m == METRIC_AGGREGATE || m == METRIC_STREAMS) {
        for (uint32_t i = 0; i + c <= row->n_samples; i += c) {
            double v = round_value(row->samples + i, c, m);
            if (v >= 0) {
                values[n++] = v;
            }
        }
    } else {
        for (uint32_t i = 0; i < row->n_samples; i++) {
            double v = row->samples[i].ok ? request_value(&row->samples[i], m) : -1;
            if (v >= 0) {
                values[n++] = v;
            }
        }
    }
    return stats_summarise(values, n, &row->metric[m]);
}

bool bench_row_summarise(struct row *row) {
    double *values = mem_alloc((row->n_samples + 1) * sizeof *values);
    bool ok = values != NULL;
    row->n_failed = 0;
    for (uint32_t i = 0; i < row->n_samples; i++) {
        const struct sample *s = &row->samples[i];
        if (!s->ok && row->n_failed++ == 0) {
            memcpy(row->error, s->error, sizeof row->error);
            row->refused = s->refused;
        }
    }
    for (int m = 0; ok && m < N_METRICS; m++) {
        ok = summarise(row, (enum metric)m, values);
    }
    mem_free(values);
    return ok;
}

void bench_row_roof(struct row *row, const struct bench_model_file *file, double read_gb_s) {
    const struct stats_summary *decode = &row->metric[METRIC_DECODE];
    if (row->cell.concurrency != 1 || decode->n == 0 || file->decode_bytes == 0 || read_gb_s <= 0) {
        return; /* with several streams the experts that a step touches are not known from outside */
    }
    double positions = row->metric[METRIC_PROMPT].median + row->metric[METRIC_OUTPUT].median / 2;
    double bytes = (double)file->decode_bytes + positions * (double)file->kv_bytes_per_token;
    row->roof_share = bytes * decode->median * 1e-9 / read_gb_s;
}
