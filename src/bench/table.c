/* The table for people, at most 120 columns wide. Unknown values are a dash. */
#include "bench/bench.h"

#include <stdio.h>
#include <string.h>

#define WIDTH 120

static const char *number(const struct stats_summary *s, int decimals, char out[24]) {
    if (s->n == 0) {
        return "-";
    }
    snprintf(out, 24, "%.*f", s->median >= 1000 ? 0 : decimals, s->median);
    return out;
}

static const char *duration(const struct stats_summary *s, char out[24]) {
    if (s->n == 0) {
        return "-";
    }
    if (s->median < 10) {
        snprintf(out, 24, "%.2fms", s->median);
    } else if (s->median < 1000) {
        snprintf(out, 24, "%.0fms", s->median);
    } else {
        snprintf(out, 24, "%.2fs", s->median * 1e-3);
    }
    return out;
}

/* The interval of the median; from fewer values, which have none, their range in brackets that say so. "p:" where it is not
 * of the decode rate but of the prefill rate. */
static const char *interval(const struct stats_summary *s, bool prefill, char out[40]) {
    if (s->n < 2) {
        return "";
    }
    double low = s->has_interval ? s->interval[0] : s->min, high = s->has_interval ? s->interval[1] : s->max;
    bool thousands = high >= 1e5;
    double unit = thousands ? 1e3 : 1;
    snprintf(out, 40, "%s%s%.*f..%.*f%s%s", prefill ? "p:" : "", s->has_interval ? "" : "(", high >= 1000 ? 0 : 1,
             low / unit, high >= 1000 ? 0 : 1, high / unit, thousands ? "k" : "", s->has_interval ? "" : ")");
    return out;
}

/* A line of its own, cut to the table's width. */
static void put_note(struct buf *out, const char *text) {
    size_t n = strlen(text), most = WIDTH - 4;
    while (n > most && ((unsigned char)text[most] & 0xC0) == 0x80) {
        most--;
    }
    buf_printf(out, "    %.*s\n", (int)(n > most ? most : n), text);
}

/* Speed without this line is the speed of something that is not known to compute the model. */
static void put_quality(struct buf *out, const struct run_quality *q) {
    if (!q->kind) {
        buf_printf(out, "unqualified: %s\n", q->reason);
    } else if (strcmp(q->kind, "kl") == 0) {
        buf_printf(out,
                   "%s: divergence from plain F32 %.3g nats per token, same likeliest token at %.1f%% of %u positions",
                   q->qualified ? "qualified" : "unqualified", q->kl_mean, 100 * q->top1, q->tokens);
        buf_printf(out, "%s%s\n", q->qualified ? "" : "; ", q->qualified ? "" : q->reason);
    } else {
        buf_printf(out, "%s: likeliest token as in plain F32 at %.1f%% of %u positions",
                   q->qualified ? "qualified" : "unqualified", 100 * q->top1, q->tokens);
        if (strcmp(q->kind, "top20") == 0) {
            buf_printf(out, ", %.1f%% of the twenty likeliest", 100 * q->top20);
        }
        buf_puts(out, "\n");
    }
}

void bench_table_head(struct buf *out, const struct bench *b) {
    const struct target *t = &b->target;
    buf_printf(out, "%s, %s%s%s%s%s\n", t->model, t->build[0] ? t->build : t->engine, t->device_api[0] ? " (" : "",
               t->device_api, t->device_api[0] ? ")" : "", b->own_server ? "" : ", not started by this program");
    buf_printf(out, "suite %s: %s\n", b->suite.name, b->suite.about);
    if (b->limits.read_gb_s > 0 && b->file.decode_bytes) {
        buf_printf(
            out, "limits measured here: %.1f GB/s read, %.2f Tops/s %s; %.1f MB of weights per token of one stream\n",
            b->limits.read_gb_s, b->limits.matrix_tops, b->limits.matrix_kind, (double)b->file.decode_bytes * 1e-6);
    }
    put_quality(out, &b->quality);
    if (b->raw_note[0]) {
        put_note(out, b->raw_note);
    }
    buf_printf(out, "%-20s %-10s %7s %-16s %7s %6s %6s %11s %6s %8s %-7s %5s\n", "row", "cache", "decode", "interval",
               "prefill", "TTFT", "TPOT", "prompt(hit)", "output", "together", "batching", "limit");
}

void bench_table_row(struct buf *out, const struct row *row) {
    const struct stats_summary *m = row->metric;
    char t[8][24], range[40], share[24] = "-", prompt[56], hit[24];
    bool raw = row->test == TEST_RAW;
    bool prefill = raw && strcmp(row->workload, "pp") == 0;
    const struct stats_summary *decode = &m[raw ? METRIC_TOK_S : METRIC_DECODE];
    static const struct stats_summary none;
    if (row->limit.kind != LIMIT_NONE) {
        snprintf(share, sizeof share, "%.0f%%", row->limit.share * 100);
    }
    snprintf(prompt, sizeof prompt, "%s(%s)", number(&m[METRIC_PROMPT], 0, t[0]), number(&m[METRIC_CACHED], 0, hit));
    buf_printf(out, "%-20s %-10s %7s %-16s %7s %6s %6s %11s %6s %8s %-7s %5s%s\n", row->key,
               cache_state_names[row->cache_state] ? cache_state_names[row->cache_state]
               : raw                               ? "engine"
                                                   : "-",
               number(prefill ? &none : decode, 1, t[1]), interval(decode, prefill, range),
               number(prefill ? decode : &m[METRIC_PREFILL], 0, t[2]), duration(&m[METRIC_TTFT], t[3]),
               duration(&m[METRIC_TPOT], t[4]), raw ? "-" : prompt, raw ? "-" : number(&m[METRIC_OUTPUT], 0, t[5]),
               row->cell.concurrency > 1 ? number(&m[METRIC_AGGREGATE], 1, t[6]) : "-", batching_names[row->batching],
               share, row->cut ? " *" : "");
    for (uint32_t i = 0; i < row->n_reasons; i++) {
        if (row->state == ROW_INVALID) {
            put_note(out, row->reasons[i]);
        }
    }
    if (row->n_failed) {
        char text[400];
        snprintf(text, sizeof text, "the first failure: %s", row->error);
        put_note(out, text);
    }
    if (row->cell.arrival == ARRIVAL_POISSON && m[METRIC_REQUESTS].n) {
        char text[200];
        snprintf(text, sizeof text,
                 "%.3g requests/s carried, latency %s at the median (counted from the intended send)",
                 m[METRIC_REQUESTS].median, duration(&m[METRIC_LATENCY], t[7]));
        put_note(out, text);
    }
    if (row->batching == BATCHING_QUEUED) {
        char text[300];
        snprintf(text, sizeof text, "queued, not batched: %s", row->batching_reason);
        put_note(out, text);
    }
}

void bench_table_foot(struct buf *out, const struct bench *b) {
    if (b->interrupted) {
        buf_puts(out, "interrupted; what was measured until then is kept\n");
    }
    for (uint32_t i = 0; i < b->n_left; i++) {
        buf_printf(out, "%-20s left out: %s\n", b->left[i].row, b->left[i].reason);
    }
    if (b->knee_rps > 0) {
        buf_printf(out,
                   "knee: %.3g requests/s is the highest rate at which nine of ten requests met the latency target\n",
                   b->knee_rps);
    } else if (b->suite.open_loop && (b->options->slo_ttft_ms > 0 || b->options->slo_tpot_ms > 0)) {
        buf_puts(out, "knee: at no rate did nine of ten requests meet the latency target\n");
    }
    bool refused = false;
    for (int f = 0; f < N_FIELDS; f++) {
        bool wanted = !(b->options->natural_stop && (f == FIELD_IGNORE_EOS || f == FIELD_MIN_TOKENS));
        /* two servers' names for one thing: one of them is enough */
        wanted &= !(f == FIELD_MIN_TOKENS && b->target.takes[FIELD_IGNORE_EOS]);
        wanted &= !(f == FIELD_TIMINGS_PER_TOKEN && b->target.takes[FIELD_CONTINUOUS_USAGE]);
        wanted &= !(f == FIELD_CONTINUOUS_USAGE && b->target.takes[FIELD_TIMINGS_PER_TOKEN]);
        if (wanted && !b->target.takes[f]) {
            buf_printf(out, "%s %s", refused ? "," : "not sent, because the target refuses it:", target_field_names[f]);
            refused = true;
        }
    }
    buf_puts(out, refused ? "\n" : "");
    buf_printf(out, "%u rows, %u requests measured, %u for set-up, %.1f s\n", b->n_rows, b->n_samples,
               b->target.setup_requests, b->duration_s);
}
