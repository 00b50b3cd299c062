/* Results of `sluice raw` as JSON lines and as a table. */
#include "tools/raw.h"

#include <stdio.h>
#include <string.h>

static void put_known(struct buf *b, const char *name, double v, int decimals) {
    if (v > 0) {
        buf_printf(b, ",\"%s\":%.*f", name, decimals, v);
    } else {
        buf_printf(b, ",\"%s\":null", name);
    }
}

static void put_samples(struct buf *b, const double *x, uint32_t n, int decimals) {
    buf_puts(b, "\"samples\":[");
    for (uint32_t i = 0; i < n; i++) {
        buf_printf(b, "%s%.*f", i ? "," : "", decimals, x[i]);
    }
    buf_puts(b, "]}");
}

static void put_string(struct buf *b, const char *name, const char *s) {
    buf_printf(b, ",\"%s\":", name);
    buf_json_string(b, s, strlen(s));
}

static void put_roof(struct buf *b, const struct raw_result *t) {
    if (!t->roof_kind) {
        buf_puts(b, ",\"roof\":null");
    } else if (strcmp(t->roof_kind, "read") == 0) {
        buf_printf(b, ",\"roof\":{\"kind\":\"read_bandwidth\",\"gb_s\":%.2f}", t->roof);
    } else {
        buf_printf(b, ",\"roof\":{\"kind\":\"%s\",\"gop_s\":%.1f}", t->roof_kind, t->roof);
    }
}

static void put_profile(struct buf *b, const struct backend_profile *p) {
    buf_printf(b, ",\"steps\":%u,\"stages\":[", p->n_steps);
    for (uint32_t i = 0; i < p->n_stages; i++) {
        const struct backend_stage *s = &p->stages[i];
        buf_printf(b, "%s{\"name\":", i ? "," : "");
        buf_json_string(b, s->name, strlen(s->name));
        buf_printf(b, ",\"ns\":%llu,\"bytes\":%llu,\"macs\":%llu}", (unsigned long long)s->ns,
                   (unsigned long long)s->bytes, (unsigned long long)s->macs);
    }
    buf_puts(b, "]");
}

void raw_result_json(struct buf *b, const struct raw_setup *setup, const struct raw_result *t) {
    buf_puts(b, "{\"test\":");
    buf_json_string(b, t->test, strlen(t->test));
    buf_printf(b, ",\"tok_s\":{\"median\":%.4f,\"ci95\":", t->rate.median);
    if (t->rate.has_ci) {
        buf_printf(b, "[%.4f,%.4f]", t->rate.ci95[0], t->rate.ci95[1]);
    } else {
        buf_puts(b, "null");
    }
    buf_printf(b, ",\"mean\":%.4f,\"sd\":%.4f,", t->rate.mean, t->rate.sd);
    put_samples(b, t->tok_s, t->reps, 4);
    put_known(b, "gb_s", t->gb_s, 3);
    put_known(b, "roof_share", t->roof_share, 4);
    put_roof(b, t);
    buf_puts(b, ",\"ms\":{");
    put_samples(b, t->ms, t->reps, 4);
    buf_printf(b, ",\"n_tokens\":%u,\"depth\":%u,\"batch\":%u", t->n_tokens, t->depth, t->batch);
    if (t->kind == RAW_DECODE) {
        put_known(b, "weight_bytes_per_step", t->weight_bytes_step, 0);
        put_known(b, "kv_bytes_per_step", t->kv_bytes_step, 0);
        put_known(b, "experts_per_step", t->experts_step, 1);
    } else {
        put_known(b, "gop_s", t->gop_s, 2);
    }
    if (t->profile.n_stages) {
        put_profile(b, &t->profile);
    }
    put_string(b, "model", setup->model);
    put_string(b, "architecture", setup->architecture);
    buf_printf(b, ",\"file_bytes\":%llu,\"n_params\":%llu", (unsigned long long)setup->file_bytes,
               (unsigned long long)setup->n_params);
    buf_printf(b, ",\"memory\":{\"weights\":%llu,\"kv\":%llu,\"work\":%llu,\"pinned\":%llu,\"other\":%llu}",
               (unsigned long long)setup->weight_bytes, (unsigned long long)setup->kv_bytes,
               (unsigned long long)setup->work_bytes, (unsigned long long)setup->pinned_bytes,
               (unsigned long long)setup->other_bytes);
    put_string(b, "backend", setup->backend);
    put_string(b, "device", setup->device);
    buf_printf(b, ",\"threads\":%u,\"prefill_chunk\":%u,\"schema\":\"sluice-raw\",\"version\":1}", setup->n_threads,
               setup->prefill_chunk);
}

void raw_table_head(struct buf *b, const struct raw_setup *setup) {
    double params = (double)setup->n_params;
    double bytes = (double)setup->file_bytes;
    bool small = bytes < (1 << 30);
    buf_printf(b,
               "%s (%s, %.2f %s parameters, %.2f %s, %.1f MB of weights per decoded token)\n%s: %s; prompts in steps "
               "of up to %u tokens\n",
               setup->model, setup->architecture, params * (params < 1e9 ? 1e-6 : 1e-9),
               params < 1e9 ? "million" : "billion", bytes / (small ? 1 << 20 : 1 << 30), small ? "MiB" : "GiB",
               (double)setup->decode_bytes * 1e-6, setup->backend, setup->device, setup->prefill_chunk);
    if (setup->other_bytes) {
        buf_printf(b,
                   "device memory: %.2f GiB weights, %.2f KV, %.2f work; %.2f beside these (driver, other programs)\n",
                   (double)setup->weight_bytes / 0x1p30, (double)setup->kv_bytes / 0x1p30,
                   (double)setup->work_bytes / 0x1p30, (double)setup->other_bytes / 0x1p30);
    }
    buf_printf(b, "  %-20s %10s  %-21s %9s  %s\n", "test", "tok/s", "95% interval", "GB/s",
               "share of the measured limit");
}

void raw_table_row(struct buf *b, const struct raw_result *t) {
    char interval[48] = "-";
    char gb_s[24] = "-";
    if (t->rate.has_ci) {
        snprintf(interval, sizeof interval, "%.2f - %.2f", t->rate.ci95[0], t->rate.ci95[1]);
    } else if (t->reps > 1) {
        snprintf(interval, sizeof interval, "min %.2f", t->rate.min);
    }
    if (t->gb_s > 0) {
        snprintf(gb_s, sizeof gb_s, "%.2f", t->gb_s);
    }
    buf_printf(b, "  %-20s %10.2f  %-21s %9s  ", t->test, t->rate.median, interval, gb_s);
    if (t->roof_share <= 0) {
        buf_puts(b, "-\n");
    } else if (t->kind == RAW_DECODE) {
        buf_printf(b, "%.1f%% of %.1f GB/s read\n", 100 * t->roof_share, t->roof);
    } else {
        buf_printf(b, "%.1f%% of %.0f Gop/s %s\n", 100 * t->roof_share, t->roof, t->roof_kind);
    }
}

void raw_table_profile(struct buf *b, const struct raw_result *t) {
    const struct backend_profile *p = &t->profile;
    if (p->n_stages == 0 || p->n_steps == 0) {
        return;
    }
    bool decode = t->kind == RAW_DECODE;
    double steps = p->n_steps;
    double total = 0;
    for (uint32_t i = 0; i < p->n_stages; i++) {
        total += (double)p->stages[i].ns;
    }
    buf_printf(b, "    %-28s %10s %6s %9s %9s  %s\n", "stage of a step", "us", "time", "MB", decode ? "GB/s" : "Gop/s",
               "share of the limit");
    for (uint32_t i = 0; i < p->n_stages; i++) {
        const struct backend_stage *s = &p->stages[i];
        double ns = (double)s->ns;
        double rate = ns > 0 ? (decode ? (double)s->bytes : 2 * (double)s->macs) / ns : 0;
        if (s->ns == 0) {
            continue;
        }
        buf_printf(b, "    %-28s %10.1f %5.1f%% %9.2f ", s->name, ns / steps * 1e-3, 100 * ns / total,
                   (double)s->bytes / steps * 1e-6);
        if (rate > 0 && t->roof > 0) {
            buf_printf(b, "%9.1f  %.0f%%\n", rate, 100 * rate / t->roof);
        } else {
            buf_printf(b, "%9s  -\n", "-");
        }
    }
    buf_printf(b, "    %-28s %10.1f\n", "all", total / steps * 1e-3);
}
