/* The table for people, at most 120 columns wide. Unknown values are a dash. */
#include "bench/bench.h"

#include <stdio.h>
#include <string.h>

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
        snprintf(out, 24, "%.1f ms", s->median);
    } else if (s->median < 1000) {
        snprintf(out, 24, "%.0f ms", s->median);
    } else {
        snprintf(out, 24, "%.2f s", s->median * 1e-3);
    }
    return out;
}

static const char *spread(const struct stats_summary *s, char out[40]) {
    if (s->n < 2) {
        return "";
    }
    int decimals = s->max >= 1000 ? 0 : 1;
    snprintf(out, 40, "%.*f..%.*f", decimals, s->min, decimals, s->max);
    return out;
}

void bench_table_head(struct buf *b, const struct bench_record *r) {
    buf_printf(b, "model %s%s%s%s, suite %s: %s\n", r->model, r->engine[0] ? " (" : "", r->engine,
               r->engine[0] ? ")" : "", r->suite, r->suite_about);
    if (r->read_gb_s > 0 && r->file.decode_bytes) {
        buf_printf(b, "limit: %.1f GB/s read here, %.1f MB of weights per token; share = decode rate over that line\n",
                   r->read_gb_s, (double)r->file.decode_bytes * 1e-6);
    }
    buf_printf(b, "%14s %-37s\n", "", "--- tok/s, median of the requests ---");
    buf_printf(b, "%-11s %2s %7s %-13s %7s %8s %7s %7s %6s %6s %6s %7s %9s %5s\n", "workload", "c", "decode",
               "min..max", "client", "prefill", "TTFT", "TPOT", "prompt", "cached", "output", "total", "aggregate",
               "share");
}

void bench_table_row(struct buf *b, const struct row *row) {
    const struct stats_summary *m = row->metric;
    char t[9][24];
    char range[40];
    char share[16] = "-";
    if (row->roof_share > 0) {
        snprintf(share, sizeof share, "%.0f%%", row->roof_share * 100);
    }
    buf_printf(b, "%-11s %2u %7s %-13s %7s %8s %7s %7s %6s %6s %6s %7s %9s %5s%s\n", row->name, row->cell.concurrency,
               number(&m[METRIC_DECODE], 1, t[0]), spread(&m[METRIC_DECODE], range), number(&m[METRIC_CLIENT], 1, t[1]),
               number(&m[METRIC_PREFILL], 1, t[2]), duration(&m[METRIC_TTFT], t[3]), duration(&m[METRIC_TPOT], t[4]),
               number(&m[METRIC_PROMPT], 0, t[5]), number(&m[METRIC_CACHED], 0, t[6]),
               number(&m[METRIC_OUTPUT], 0, t[7]), duration(&m[METRIC_TOTAL], t[8]),
               row->cell.concurrency > 1 ? number(&m[METRIC_AGGREGATE], 1, (char[24]){0}) : "-", share,
               row->cut ? " *" : "");
    if (row->n_failed) {
        buf_printf(b, "            %u of %u requests failed: %s\n", row->n_failed, row->n_samples, row->error);
    }
}

/* What the figures cannot say by themselves. */
void bench_table_foot(struct buf *b, const struct bench_record *r) {
    bool cut = false;
    bool no_usage = false;
    bool no_cached = false;
    for (uint32_t i = 0; i < r->n_rows; i++) {
        const struct row *row = &r->rows[i];
        cut |= row->cut;
        bool any = row->n_failed < row->n_samples;
        no_usage |= any && row->metric[METRIC_OUTPUT].n == 0;
        no_cached |= any && row->metric[METRIC_CACHED].n == 0;
        const struct stats_summary *streams = &row->metric[METRIC_STREAMS];
        if (row->cell.concurrency > 1 && streams->n && streams->median < 1.3) {
            buf_printf(b, "%s at %u: the server decodes one request after the other (%.1f streams at a time)\n",
                       row->name, row->cell.concurrency, streams->median);
        }
    }
    if (cut) {
        buf_puts(b, "* fewer runs than planned, to end in time\n");
    }
    if (r->left_out) {
        buf_printf(b, "%u row%s left out: the time of the suite was over (--suite page has no such limit)\n",
                   r->left_out, r->left_out == 1 ? "" : "s");
    }
    if (no_usage) {
        buf_puts(b, "The server reported no usage, so token counts and every rate that needs them are unknown.\n");
    } else if (no_cached) {
        buf_puts(b, "The server does not report cached tokens; prefill takes them to be none.\n");
    }
    buf_printf(b, "%u rows in %.1f s", r->n_rows, r->duration_s);
    if (r->steal_share > 0.02) {
        buf_printf(b, "; noisy: a hypervisor took %.0f%% of the CPU time", r->steal_share * 100);
    }
    buf_putc(b, '\n');
}
