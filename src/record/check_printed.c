/*
 * The arithmetic of figures that a source printed without samples: what one row contradicts in itself, what two rows
 * of a table contradict together, and what its probes cannot have measured. A difference counts only where the
 * printed digits do not explain it.
 */
#include "base/status.h"
#include "record/check.h"
#include "record/printed.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOUND(c, r, ...)   check_add((c), FINDING_LEGACY, (r)->line->number, (r)->key, __VA_ARGS__)
#define INVALID(c, r, ...) check_add((c), FINDING_INVALID, (r)->line->number, (r)->key, __VA_ARGS__)

static bool outside(double v, double lo, double hi, double slack) {
    return v < lo * (1 - slack) || v > hi * (1 + slack);
}

static double percent(double a, double b) {
    return 100 * (a / b - 1);
}

/* ---- One row by itself ------------------------------------------------------------------------------------------- */

static void check_identities(struct check *c, const struct printed_row *r) {
    double lo = 1000 * r->prompt.v / r->ttft.hi, hi = 1000 * r->prompt.v / r->ttft.lo;
    if (r->ttft.lo > 0 && outside(r->prefill.v, lo, hi, 0.01)) {
        FOUND(c, r,
              "prefill %s tok/s is not prompt tokens / TTFT: %s / %s gives %.0f to %.0f; the two are different "
              "statistics, a median beside a mean (the rate stands for a TTFT of %.0f ms)",
              r->prefill.text, r->prompt.text, r->ttft.text, lo, hi, 1000 * r->prompt.v / r->prefill.v);
    }
    lo = 1000 * r->output.v / r->latency.hi, hi = 1000 * r->output.v / r->latency.lo;
    if (r->latency.lo > 0 && outside(r->client.v, lo, hi, 0.005)) {
        FOUND(c, r,
              "client %s tok/s is not output tokens / latency: %s / %s gives %.1f to %.1f; a median latency beside a "
              "mean rate are two statistics in one row (the rate stands for a latency of %.0f ms)",
              r->client.text, r->output.text, r->latency.text, lo, hi, 1000 * r->output.v / r->client.v);
    }
    if (r->decode.lo > 0 && outside(r->tpot.v, 1000 / r->decode.hi - (r->tpot.hi - r->tpot.v),
                                    1000 / r->decode.lo + (r->tpot.hi - r->tpot.v), 0.001)) {
        FOUND(c, r, "TPOT %s ms is not 1000 / decode, which is %.3f", r->tpot.text, 1000 / r->decode.v);
    }
    double shortest = r->latency.lo - r->ttft.hi, longest = r->latency.hi - r->ttft.lo;
    lo = 1000 * r->output.v / longest, hi = 1000 * r->output.v / shortest;
    if (shortest > 0 && outside(r->decode.v, lo, hi, 0.01)) {
        double own = 1000 * r->output.v / (r->latency.v - r->ttft.v);
        FOUND(c, r,
              "decode %s tok/s is not output tokens / (latency - TTFT): %s / (%s - %s) gives %.1f, a difference of "
              "%+.1f%%; the rate is one that the engine reports, or its times are not this row's",
              r->decode.text, r->output.text, r->latency.text, r->ttft.text, own, percent(r->decode.v, own));
    }
}

/* What other tools print, against their own samples or totals. */
static void check_totals(struct check *c, const struct printed_row *r) {
    static const struct {
        const char *printed, *metric, *part;
    } summaries[] = {
        {"avg_ts", "tok_s", "mean"},
        {"mean_ttft_ms", "ttft_ms", "mean"},
        {"median_ttft_ms", "ttft_ms", "median"},
        {"mean_tpot_ms", "tpot_ms", "mean"},
        {"median_tpot_ms", "tpot_ms", "median"},
    };
    static const struct {
        const char *printed, *count;
    } rates[] = {{"request_throughput", "completed"}, {"output_throughput", "total_output_tokens"}};
    struct json_object *t = r->line->tree;
    struct printed duration = printed_get(t, "duration");
    for (size_t i = 0; i < sizeof summaries / sizeof *summaries; i++) {
        struct printed p = printed_get(t, summaries[i].printed);
        double own = record_number(record_get(record_get(t, "metrics"), summaries[i].metric), summaries[i].part);
        if (outside(own, p.lo, p.hi, 0.005)) {
            FOUND(c, r, "the source prints %s = %s, and its samples give %.6g", summaries[i].printed, p.text, own);
        }
    }
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        struct printed p = printed_get(t, rates[i].printed), count = printed_get(t, rates[i].count);
        double own = count.v / duration.v;
        if (outside(own, p.lo, p.hi, 0.005)) {
            FOUND(c, r, "the source prints %s = %s; %s / duration is %s / %s = %.6g", rates[i].printed, p.text,
                  rates[i].count, count.text, duration.text, own);
        }
    }
}

/* ---- Prompt cache ------------------------------------------------------------------------------------------------ */

/* The highest fp16 rate that the file shows for this device, Tops/s. */
static double matrix_peak(const struct record *record, const char *device) {
    double peak = NAN;
    for (size_t i = 0; i < record->n_records; i++) {
        const struct record_run *run = &record->records[i];
        for (size_t j = 0; j < run->n_lines; j++) {
            if (run->lines[j].kind != RECORD_PROBE || strcmp(printed_device(run), device) != 0) {
                continue;
            }
            struct json_object *items = record_get(run->lines[j].tree, "items");
            for (size_t k = 0; k < json_object_array_length(items); k++) {
                struct json_object *item = json_object_array_get_idx(items, k);
                if (record_is(item, "name", "fp16") || record_is(item, "name", "bf16")) {
                    peak = fmax(isnan(peak) ? 0 : peak, record_number(item, "median"));
                }
            }
        }
    }
    return peak;
}

/* A row of the same record with a far shorter prompt that took at least as long. */
static const struct printed_row *slower_short_prompt(const struct printed_table *t, const struct printed_row *r) {
    for (size_t i = 0; i < t->n; i++) {
        const struct printed_row *o = &t->rows[i];
        if (o->run == r->run && o->concurrency == 1 && 4 * o->prompt.v <= r->prompt.v && o->ttft.lo >= r->ttft.hi) {
            return o;
        }
    }
    return NULL;
}

/* The same workload on the same device, whose prompt was computed. */
static const struct printed_row *computed_elsewhere(const struct printed_table *t, const struct printed_row *r) {
    for (size_t i = 0; i < t->n; i++) {
        const struct printed_row *o = &t->rows[i];
        if (o->run != r->run && !o->cached && o->concurrency == r->concurrency &&
            strcmp(o->workload, r->workload) == 0 && strcmp(o->device, r->device) == 0 &&
            o->prefill.v < 0.5 * r->prefill.v) {
            return o;
        }
    }
    return NULL;
}

static void find_cached(const struct printed_table *t) {
    for (size_t i = 0; i < t->n; i++) {
        struct printed_row *r = &t->rows[i];
        double needed = 2 * r->active * r->prefill.v * 1e-12;
        r->cached =
            r->concurrency == 1 && (needed > matrix_peak(t->record, r->device) || slower_short_prompt(t, r) != NULL);
    }
}

static void check_cached(struct check *c, const struct printed_table *t, const struct printed_row *r) {
    const struct printed_row *slower = slower_short_prompt(t, r), *elsewhere = computed_elsewhere(t, r);
    double needed = 2 * r->active * r->prefill.v * 1e-12, peak = matrix_peak(t->record, r->device);
    char why[600] = "";
    size_t n = 0;
    if (!r->cached) {
        return;
    }
    if (needed > peak) {
        n += (size_t)snprintf(
            why + n, sizeof why - n,
            "; at 2 operations for each of %.3g billion active weights it would take %.1f Tops/s, and the same "
            "source measured a peak of %.1f",
            r->active / 1e9, needed, peak);
    }
    if (slower && n < sizeof why) {
        n += (size_t)snprintf(why + n, sizeof why - n, "; %s with %s prompt tokens took %s, this one with %s took %s",
                              slower->key, slower->prompt.text, slower->ttft.text, r->prompt.text, r->ttft.text);
    }
    if (elsewhere && n < sizeof why) {
        snprintf(why + n, sizeof why - n,
                 "; the same device shows %s with build %s at %.0f W: the factor of %.1f is the cache, not the power",
                 elsewhere->prefill.text, elsewhere->build, elsewhere->cap_w, r->prefill.v / elsewhere->prefill.v);
    }
    INVALID(c, r, "prefill %s tok/s is a prompt-cache hit: most of the %s prompt tokens were not computed%s",
            r->prefill.text, r->prompt.text, why);
}

/* ---- Concurrency ------------------------------------------------------------------------------------------------- */

/* The slowest row of the same workload and concurrency that a sorted table puts below a queue, though it batches. */
static const struct printed_row *batched_elsewhere(const struct printed_table *t, const struct printed_row *r) {
    const struct printed_row *best = NULL;
    for (size_t i = 0; i < t->n; i++) {
        const struct printed_row *o = &t->rows[i];
        const struct printed_row *alone = printed_beside(t, o, o->workload, 1);
        if (alone && o->concurrency == r->concurrency && strcmp(o->workload, r->workload) == 0 &&
            o->decode.v < 0.7 * alone->decode.v && o->decode.v < r->decode.v &&
            (!best || o->decode.v > best->decode.v)) {
            best = o;
        }
    }
    return best;
}

static void check_queue(struct check *c, const struct printed_table *t, const struct printed_row *r) {
    const struct printed_row *alone = printed_beside(t, r, r->workload, 1);
    if (!(r->concurrency > 1) || !alone || !printed_known(&r->decode) || !printed_known(&alone->decode)) {
        return;
    }
    double ratio = r->decode.v / alone->decode.v, wait = (r->concurrency - 1) / 2 * alone->latency.v;
    double together = 1000 * alone->output.v / alone->latency.v;
    if (ratio > 0.9 && r->ttft.v > 0.5 * wait) {
        const struct printed_row *other = batched_elsewhere(t, r);
        char rank[200] = "";
        if (other) {
            snprintf(rank, sizeof rank, "; sorted by decode it stands above %s (%s), which does batch",
                     other->decode.text, other->device);
        }
        FOUND(c, r,
              "%.0f requests were queued, not batched: decode is %s tok/s beside %s alone, and TTFT %s beside the "
              "%.2f s that %.1f service times of %s make in a queue of one slot; all together made about %.0f tok/s, "
              "a figure the table does not have%s",
              r->concurrency, r->decode.text, alone->decode.text, r->ttft.text, wait / 1000, wait / alone->latency.v,
              alone->latency.text, together, rank);
    } else if (ratio < 0.7) {
        FOUND(c, r,
              "%.0f requests were batched: %s tok/s is the rate of one stream (%.2f of the %s alone), all together "
              "made about %.0f tok/s, a figure the table does not have",
              r->concurrency, r->decode.text, ratio, alone->decode.text,
              1000 * r->concurrency * r->output.v / r->latency.v);
    }
    if (r->prefill.v < 0.5 * alone->prefill.v) {
        FOUND(c, r, "prefill %s tok/s counts the wait for other requests: TTFT has it inside (%s beside %s alone)",
              r->prefill.text, r->ttft.text, alone->ttft.text);
    }
}

/* ---- The same work? ---------------------------------------------------------------------------------------------- */

/* "883, 791 and 843" of the other rows that count as the same workload; false when all did the same. */
static bool other_counts(const struct printed_table *t, const struct printed_row *r, bool prompt, char *out,
                         size_t cap) {
    double seen[16];
    size_t n_seen = 0, n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < t->n; i++) {
        const struct printed_row *o = &t->rows[i];
        const struct printed *p = prompt ? &o->prompt : &o->output;
        bool is_new = strcmp(o->workload, r->workload) == 0 && o->concurrency == r->concurrency && printed_known(p) &&
                      p->v != (prompt ? r->prompt.v : r->output.v);
        for (size_t k = 0; k < n_seen && is_new; k++) {
            is_new = seen[k] != p->v;
        }
        if (is_new && n_seen < 16 && n < cap) {
            seen[n_seen++] = p->v;
            n += (size_t)snprintf(out + n, cap - n, "%s%s", n ? ", " : "", p->text);
        }
    }
    return n_seen > 0;
}

static void check_work_done(struct check *c, const struct printed_table *t, const struct printed_row *r) {
    char others[200];
    if (printed_known(&r->prompt) && other_counts(t, r, true, others, sizeof others)) {
        FOUND(c, r, "the prompt of \"%s\" has %s tokens here and %s in other rows: different prompts under one name",
              r->workload, r->prompt.text, others);
    }
    if (printed_known(&r->output) && other_counts(t, r, false, others, sizeof others)) {
        FOUND(c, r, "\"%s\" put out %s tokens here and %s in other rows: the work differs, so latencies do not compare",
              r->workload, r->output.text, others);
    }
    double limit = 0.5; /* GiB: far less than any weights of a model that is worth a delta */
    if (printed_known(&r->vram) && fabs(r->vram.v) < limit && r->concurrency == 1) {
        FOUND(c, r, "the memory delta of %s says nothing: it was taken when the weights and pools were already there",
              r->vram.text);
    }
}

/* ---- Probes ------------------------------------------------------------------------------------------------------ */

static double item_number(struct json_object *probe, const char *name, const char *key) {
    struct json_object *items = record_get(probe, "items");
    for (size_t i = 0; i < json_object_array_length(items); i++) {
        struct json_object *item = json_object_array_get_idx(items, i);
        if (record_is(item, "name", name)) {
            return record_number(item, key);
        }
    }
    return NAN;
}

#define FOUND_PROBE(c, line, ...) check_add((c), FINDING_LEGACY, (line)->number, NULL, __VA_ARGS__)

static struct json_object *first_gpu(const struct record_run *run) {
    struct json_object *gpus = record_path(run->lines[0].tree, "environment.gpus");
    return gpus && json_object_array_length(gpus) ? json_object_array_get_idx(gpus, 0) : NULL;
}

/* Reads and writes of a copy that reaches 70 to 95% of the bus, when both are counted: then only one was. */
static void check_copy(struct check *c, const struct record_run *run, const struct record_line *l) {
    double copy = item_number(l->tree, "copy", "median"), theory = item_number(l->tree, "copy", "theory");
    double share = copy / theory;
    if (2 * share >= 0.7 && 2 * share <= 0.95) {
        FOUND_PROBE(
            c, l,
            "%s: a copy of %.0f GB/s is %.0f%% of the bus; a copy reads and writes every byte, counted so it is %.0f "
            "GB/s, %.1f%%: the probe counts each byte once and understates the memory by half",
            printed_device(run), copy, 100 * share, 2 * copy, 200 * share);
    }
}

static void check_theory(struct check *c, const struct record_run *run, const struct record_line *l) {
    struct json_object *gpu = first_gpu(run);
    double theory = item_number(l->tree, "copy", "theory"), bus = record_number(gpu, "bus_width_bits");
    double rated = record_number(gpu, "clock_mem_max_mhz"), seen = record_number(gpu, "clock_mem_mhz");
    for (int factor = 1; factor <= 8; factor *= 2) { /* transfers per clock, as different tools count clocks */
        double own = bus / 8 * rated * factor / 1000, real = bus / 8 * seen * factor / 1000;
        if (fabs(own - theory) < 0.01 * theory && fabs(real - theory) > 0.01 * theory) {
            FOUND_PROBE(
                c, l,
                "%s: the theory of %.0f GB/s takes the memory at %.0f MHz; the same source shows it at %.0f MHz, "
                "which makes %.0f GB/s",
                printed_device(run), theory, rated, seen, real);
            return;
        }
    }
}

/* RDNA's runtime counts work-group processors where others count compute units. */
static void check_units(struct check *c, const struct record_run *run, const struct record_line *l) {
    struct json_object *gpu = first_gpu(run);
    const char *name = record_text(gpu, "name"), *compute = record_text(gpu, "compute_capability");
    double units = record_number(gpu, "sms");
    if (name && strstr(name, "Radeon") && compute && strtod(compute, NULL) >= 10 && units > 0) {
        FOUND_PROBE(
            c, l,
            "%s: %.0f SM/CU are work-group processors of two compute units each, as the runtime of this architecture "
            "counts them: %.0f compute units",
            name, units, 2 * units);
    }
}

/* The rows of one device and workload at its lowest and highest cap: how much the cap costs, as a share. */
static double cost_of_cap(const struct printed_table *t, const char *device, const struct printed_row **low) {
    double cost = NAN;
    for (size_t i = 0; i < t->n; i++) {
        for (size_t j = 0; j < t->n; j++) {
            const struct printed_row *a = &t->rows[i], *b = &t->rows[j];
            double share = 1 - a->decode.v / b->decode.v;
            if (strcmp(a->device, device) == 0 && strcmp(b->device, device) == 0 &&
                strcmp(a->workload, b->workload) == 0 && a->concurrency == 1 && b->concurrency == 1 &&
                a->cap_w < b->cap_w && !(share <= cost)) {
                cost = share;
                *low = a;
            }
        }
    }
    return cost;
}

static void check_caps(struct check *c, const struct printed_table *t, const struct record_run *run) {
    const struct record_line *last = NULL;
    const struct printed_row *low = NULL;
    double min = INFINITY, max = 0;
    int n = 0;
    for (size_t i = 0; i < run->n_lines; i++) {
        const struct record_line *l = &run->lines[i];
        double rate = l->kind == RECORD_PROBE ? item_number(l->tree, "fp16", "median") : NAN;
        if (!isnan(rate) && !isnan(record_number(l->tree, "power_cap_w"))) {
            min = fmin(min, rate);
            max = fmax(max, rate);
            last = l;
            n++;
        }
    }
    double cost = cost_of_cap(t, printed_device(run), &low);
    if (n > 1 && 1 - min / max < 0.01 && cost > 0.05) {
        FOUND_PROBE(
            c, last,
            "%s: fp16 is flat across %d power caps (%.1f to %.1f Tops/s), while the cap of %.0f W costs %s %.0f%% of "
            "its decode rate in the same source: the probe ends before the limit acts",
            printed_device(run), n, min, max, low->cap_w, low->key, 100 * cost);
    }
}

/* ---- Whole records ----------------------------------------------------------------------------------------------- */

static void check_missing(struct check *c, const struct record_run *run, size_t rows) {
    static const struct {
        const char *path, *name;
    } wanted[] = {
        {"date", "date"},
        {"model_file.sha256", "the model file's hash"},
        {"target.command_line", "server command line"},
        {"target.slots", "slots"},
        {"target.context", "context"},
        {"sampling", "sampling"},
        {"environment.governor", "governor"},
    };
    char list[300] = "";
    size_t n = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted && n < sizeof list; i++) {
        if (!record_path(run->lines[0].tree, wanted[i].path)) {
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", wanted[i].name);
        }
    }
    check_add(c, FINDING_LEGACY, run->lines[0].number, NULL,
              "%zu row%s of printed figures without samples: no spread, no interval, no prompt hash, no energy, no "
              "measured quality%s%s",
              rows, rows == 1 ? "" : "s", n ? "; not stated: " : "", list);
}

static void check_run_probes(struct check *c, const struct printed_table *t, const struct record_run *run) {
    const struct record_line *first = record_find(run, RECORD_PROBE);
    if (first) {
        check_copy(c, run, first);
        check_theory(c, run, first);
        check_units(c, run, first);
        check_caps(c, t, run);
    }
}

enum { PRINTED_ROWS_MAX = 4000 }; /* each is held against each */

sluice_status check_printed(const struct record *r, struct check *c, sluice_error *err) {
    struct printed_table t;
    TRY(printed_table_make(r, &t, err));
    if (t.n > PRINTED_ROWS_MAX) {
        check_add(c, FINDING_LEGACY, t.rows[0].line->number, NULL,
                  "%zu rows of printed figures: more than %d are not held against each other", t.n, PRINTED_ROWS_MAX);
        printed_table_free(&t);
        return SLUICE_OK;
    }
    find_cached(&t);
    for (size_t i = 0; i < t.n; i++) {
        const struct printed_row *row = &t.rows[i];
        check_identities(c, row);
        check_totals(c, row);
        check_cached(c, &t, row);
        check_queue(c, &t, row);
        check_work_done(c, &t, row);
    }
    for (size_t i = 0; i < r->n_records; i++) {
        const struct record_run *run = &r->records[i];
        size_t rows = 0;
        for (size_t k = 0; k < t.n; k++) {
            rows += t.rows[k].run == run && !record_is(t.rows[k].line->tree, "test", "raw");
        }
        if (rows > 0 && !record_find(run, RECORD_SAMPLE)) {
            check_missing(c, run, rows);
        }
        if (!record_is(record_get(run->lines[0].tree, "origin"), "source", "measured")) {
            check_run_probes(c, &t, run);
        }
    }
    printed_table_free(&t);
    return SLUICE_OK;
}
