/* The machine around a row: what the watch saw while it was measured, whether its samples come from one steady state, and the
 * energy that its work took. */
#include "bench/bench.h"
#include "bench/prompt.h"
#include "bench/steady.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "record/line.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define JUDGED_S                                                                                                       \
    0.5 /* a shorter piece of time says nothing: the kernel counts processor time in hundredths of a second */
#define IDLE_S     5.0
#define ROUNDS_MAX 100000u /* of an energy window */

/* ---- The watch */

sluice_status bench_watch_start(struct bench *b, sluice_error *err) {
    sluice_error absent;
    if (nvml_open(NULL, &b->nvml, &absent) != SLUICE_OK) {
        b->nvml = NULL; /* no GPU of NVIDIA's */
    }
    environment_read(&b->environment, "", b->nvml);
    b->energy = energy_open("", b->nvml);
    struct watch_options o = {.root = "", .nvml = b->nvml};
    return b->energy ? watch_start(&o, &b->watch, err) : fail(err, SLUICE_E_NOMEM, "no memory for energy counters");
}

void bench_watch_stop(struct bench *b) {
    watch_stop(b->watch, &b->noise);
}

void bench_watch_free(struct bench *b) {
    watch_free(b->watch);
    energy_close(b->energy);
    nvml_close(b->nvml);
}

/* The figure that a row is about, in the order of its samples. */
static size_t main_values(const struct row *row, double *out) {
    size_t n = 0;
    for (uint32_t i = 0; i < row->n_samples; i++) {
        const struct sample *s = &row->samples[i];
        double v = row->test == TEST_RAW ? s->end_ms : sample_tpot_ms(s);
        if (!s->warmup && s->ok && v > 0) {
            out[n++] = v;
        }
    }
    return n;
}

static void judge_steadiness(struct row *row) {
    double *x = mem_alloc((row->n_samples + 1) * sizeof *x);
    double change, levels[2];
    size_t n = x ? main_values(row, x) : 0;
    /* requests of one round share their time, so only rounds one after the other have an order */
    if (row->cell.concurrency <= 1 && row->cell.arrival != ARRIVAL_POISSON && steady_drift(x, n, &change)) {
        row_add_reason(row, ROW_NOISY, "times %s by %.0f%% over the row", change > 0 ? "grew" : "fell",
                       100 * fabs(change));
    }
    if (steady_bimodal(x, n, levels)) {
        row_add_reason(row, ROW_NOISY, "times stand at two levels, %.3g and %.3g ms", levels[0], levels[1]);
    }
    mem_free(x);
}

void bench_watch_row(struct bench *b, struct row *row, const struct watch_summary *seen) {
    struct watch_summary s;
    char reasons[512];
    if (seen) {
        s = *seen;
    } else {
        watch_row(b->watch, &s);
    }
    if (s.seconds < JUDGED_S && row->test == TEST_RAW && b->row_noise.seconds >= JUDGED_S) {
        s = b->row_noise; /* a short engine-only test is judged by the one before it */
    }
    b->row_noise = s;
    /* of engine-only tests the buffer that `raw` measures the bandwidth with would be among it */
    if (s.rss_peak && row->test == TEST_API && (int64_t)s.rss_peak > row->rss_bytes) {
        row->rss_bytes = (int64_t)s.rss_peak;
    }
    row->vram_bytes = s.vram_peak > row->vram_bytes ? s.vram_peak : row->vram_bytes;
    if (s.seconds >= JUDGED_S && watch_verdict(&s, reasons, sizeof reasons) != VERDICT_CLEAN) {
        row_add_reason(row, ROW_NOISY, "%s", reasons);
        b->rows_throttled |= s.throttled > 0 ? s.throttled : 0;
    }
    judge_steadiness(row);
}

/* ---- Energy */

static void wait_s(const struct bench *b, double seconds) {
    uint64_t start = clock_ns();
    while (clock_ms_since(start) < seconds * 1e3 && !(b->options->stop && atomic_load(b->options->stop))) {
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
}

/* Repeats rounds of the cell until the window is long enough; counts what was computed. */
static sluice_status fill_window(struct bench *b, const struct cell *cell, const struct prompt *prompt,
                                 struct energy_window *out, uint64_t *prompt_tokens, uint64_t *output_tokens,
                                 uint64_t *requests, sluice_error *err) {
    struct energy_reading from, to;
    struct energy_use use;
    energy_read(b->energy, &from);
    *prompt_tokens = *output_tokens = *requests = 0;
    sluice_status status = SLUICE_OK;
    for (uint32_t i = 0; i < ROUNDS_MAX; i++) {
        struct row row;
        row_init(&row, cell, false);
        row.unrecorded = true;
        status = bench_send_rounds(b, &row, prompt, 0, err);
        for (uint32_t k = 0; status == SLUICE_OK && k < row.n_samples; k++) {
            const struct sample *s = &row.samples[k];
            if (!s->ok) {
                status = fail(err, SLUICE_E_IO, "%s", s->error);
                break;
            }
            *prompt_tokens += (uint64_t)(s->prompt_tokens - (s->cached_tokens > 0 ? s->cached_tokens : 0));
            *output_tokens += (uint64_t)s->output_tokens;
            *requests += 1;
        }
        row_free(&row);
        energy_read(b->energy, &to);
        if (status != SLUICE_OK || to.t_s - from.t_s >= ENERGY_WINDOW_S) {
            break;
        }
    }
    if (status == SLUICE_OK) {
        energy_between(b->energy, &from, &to, ENERGY_WINDOW_S, &use);
        if (!use.valid) {
            return fail(err, SLUICE_E_IO, "%s", use.reason);
        }
        *out = (struct energy_window){use.joules, use.seconds, *requests};
    }
    return status;
}

static sluice_status measure_idle(struct bench *b, sluice_error *err) {
    struct energy_reading from, to;
    struct energy_use use;
    if (b->idle_w > 0) {
        return SLUICE_OK;
    }
    energy_read(b->energy, &from);
    wait_s(b, IDLE_S);
    energy_read(b->energy, &to);
    energy_between(b->energy, &from, &to, IDLE_S, &use);
    b->idle_w = use.watts;
    return use.valid ? SLUICE_OK : fail(err, SLUICE_E_IO, "%s", use.reason);
}

/* Two windows: prompts with one token of answer, then whole requests. What the answers took is the difference. */
static sluice_status measure_windows(struct bench *b, const struct row *row, const struct prompt *prompt,
                                     struct row_energy *e, sluice_error *err) {
    struct cell cell = row->cell;
    uint64_t prompt_tokens, output_tokens, requests;
    cell.warmups = 0;
    cell.runs = 1;
    TRY(measure_idle(b, err));
    e->idle_w = b->idle_w;
    cell.max_tokens = 1;
    TRY(fill_window(b, &cell, prompt, &e->prompt, &prompt_tokens, &output_tokens, &requests, err));
    double prompt_j = e->prompt.joules / (double)requests;
    double prompt_s = e->prompt.seconds / (double)requests;
    e->prompt.count = prompt_tokens;
    cell.max_tokens = row->cell.max_tokens;
    TRY(fill_window(b, &cell, prompt, &e->request, &prompt_tokens, &output_tokens, &requests, err));
    e->output = (struct energy_window){e->request.joules - prompt_j * (double)requests,
                                       e->request.seconds - prompt_s * (double)requests,
                                       output_tokens > requests ? output_tokens - requests : 0};
    return e->output.joules > 0 && e->output.seconds > 0 && e->output.count > 0 && e->prompt.count > 0
               ? SLUICE_OK
               : fail(err, SLUICE_E_IO, "the answers took no more energy than the prompts alone");
}

sluice_status bench_measure_energy(struct bench *b, struct row *row, const struct prompt *prompt, sluice_error *err) {
    sluice_error why = {0};
    struct row_energy *e = &row->energy;
    if (energy_domains(b->energy) == 0) {
        snprintf(e->reason, sizeof e->reason, "%.150s", energy_source(b->energy));
        return SLUICE_OK;
    }
    if (b->suite.seconds > 0) {
        snprintf(e->reason, sizeof e->reason, "the %s suite has no time for energy windows", b->suite.name);
        return SLUICE_OK;
    }
    if (row->cell.arrival != ARRIVAL_CLOSED || row->cell.cache == CACHE_WARM || !client_is_loopback(b->target.url)) {
        snprintf(e->reason, sizeof e->reason, "%s",
                 !client_is_loopback(b->target.url) ? "the server runs on another machine"
                                                    : "energy is measured on cold rows of the closed loop");
        return SLUICE_OK;
    }
    sluice_status status = measure_windows(b, row, prompt, e, &why);
    e->valid = status == SLUICE_OK;
    if (status == SLUICE_E_NOMEM || status == SLUICE_E_CANCELLED) {
        return fail(err, status, "%s", why.text);
    }
    if (!e->valid) {
        snprintf(e->reason, sizeof e->reason, "%.150s", why.text);
    }
    return SLUICE_OK;
}

static void put_window(struct buf *l, const char *what, const struct energy_window *w) {
    line_open(l, NULL, '{');
    line_put_text(l, "what", what);
    line_put_number(l, "joules", w->joules);
    line_put_number(l, "seconds", w->seconds);
    line_put_uint(l, "count", w->count);
    line_close(l, '}');
}

void bench_put_energy(struct buf *l, const struct energy *counters, const struct row_energy *e) {
    const char *reasons[] = {e->reason[0] ? e->reason : "the work lasts less than the 5 s that a counter needs"};
    double out_n = (double)e->output.count;
    bool any = counters && energy_domains(counters) > 0;
    line_open(l, "energy", '{');
    line_put_bool(l, "valid", e->valid);
    line_put_texts(l, "reasons", reasons, e->valid ? 0 : 1);
    line_put_text(l, "source", any ? energy_source(counters) : NULL);
    line_put_number(l, "window_s", e->valid ? fmin(e->prompt.seconds, e->request.seconds) : NAN);
    line_put_number(l, "idle_w", e->valid ? e->idle_w : NAN);
    line_put_number(l, "j_per_prompt_token", e->valid ? e->prompt.joules / (double)e->prompt.count : NAN);
    line_put_number(l, "j_per_output_token", e->valid ? e->output.joules / out_n : NAN);
    line_put_number(l, "j_per_request", e->valid ? e->request.joules / (double)e->request.count : NAN);
    line_put_number(l, "net_j_per_output_token",
                    e->valid ? (e->output.joules - e->idle_w * e->output.seconds) / out_n : NAN);
    if (e->valid) {
        line_open(l, "windows", '[');
        put_window(l, "prompt_token", &e->prompt);
        put_window(l, "output_token", &e->output);
        put_window(l, "request", &e->request);
        line_close(l, ']');
    }
    line_close(l, '}');
}
