#include "bench/ab.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "bench/child.h"
#include "bench/prompt.h"
#include "machine/listener.h"
#include "machine/process.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_TRIES 3 /* in a row that may be invalid before the run gives up */

const char *const ab_metric_names[AB_METRICS] = {"decode_tok_s", "prefill_tok_s", "ttft_ms", "latency_ms",
                                                 "aggregate_tok_s"};

struct side {
    const char *spec;
    bool is_command;
    struct child *child;
    struct client *client;
    struct target target;
    struct prompt prompt;
    bool identified;
    int pid; /* -1 unknown */
    double restart_s;
    uint32_t restarts;
};

struct run {
    const struct ab_options *options;
    const struct ab_events *events;
    struct watch *watch;
    struct ab_result *out;
    sluice_error *err;
    struct side side[2];
    struct client_request *requests;
    struct sample *samples;
    struct buf *bodies;
    double *block_values[AB_METRICS]; /* [blocks_max] of the valid blocks */
    uint64_t start_ns, nonce;
    uint32_t round;
};

bool ab_more_is_better(enum ab_metric m) {
    return m != AB_TTFT && m != AB_LATENCY;
}

static bool stopped(const struct run *r) {
    return r->options->stop && atomic_load(r->options->stop);
}

/* ---- Targets */

static void put_down(struct side *s) {
    client_close(s->client);
    child_stop(s->child);
    s->client = NULL;
    s->child = NULL;
    s->pid = -1;
    s->target.client = NULL;
}

/* Starts or reaches a target. The first time it is also asked who it is, and its prompt is made. */
static sluice_status reach(struct run *r, struct side *s, uint32_t which) {
    char url[256];
    uint64_t before = clock_ns();
    snprintf(url, sizeof url, "%.255s", s->spec);
    if (s->is_command) {
        TRY(child_start_command(s->spec, r->options->stop, &s->child, url, sizeof url, r->err));
        s->pid = child_pid(s->child);
    } else {
        uint16_t port = listener_port(url);
        s->pid = port ? listener_pid(port) : -1;
    }
    struct client_options options = {.url = url,
                                     .api_key = r->options->api_key,
                                     .silence_s = r->options->silence_s,
                                     .stop = r->options->stop,
                                     .zero_ns = r->start_ns};
    TRY(client_open(&options, &s->client, r->err));
    s->target.client = s->client;
    snprintf(s->target.url, sizeof s->target.url, "%s", client_base(s->client));
    if (r->watch && s->pid > 0) {
        watch_own(r->watch, s->pid);
    }
    if (s->identified) {
        s->restart_s += clock_ms_since(before) * 1e-3;
        s->restarts++;
        return SLUICE_OK;
    }
    TRY(target_identify(&s->target, r->options->model[which], false, r->err));
    int listening = client_is_loopback(s->target.url) ? listener_pid(listener_port(s->target.url)) : -1;
    if (listening > 0) { /* a shell may stand before the server that was started */
        (void)process_command("", listening, s->target.command_line, sizeof s->target.command_line);
    }
    TRY(prompt_make(&s->target, r->options->workload, r->options->prompt_tokens, &r->nonce, &s->prompt, r->err));
    s->identified = true;
    return SLUICE_OK;
}

/* The same, and an error says which of the two it is about. */
static sluice_status put_up(struct run *r, struct side *s, uint32_t which) {
    sluice_status status = reach(r, s, which);
    if (status == SLUICE_OK || status == SLUICE_E_CANCELLED) {
        return status;
    }
    sluice_error why = *r->err;
    return fail(r->err, status, "%c: %.470s", 'A' + (int)which, why.text);
}

/* What A holds of memory, its weights' pages included: what a second server beside it would need again. Not what it has mapped: the
 * file of weights that it holds in another form counts as memory that can be had. */
static uint64_t process_bytes(int pid) {
    uint64_t mapped, resident = 0;
    return pid > 0 && process_memory("", pid, &mapped, &resident) ? resident : 0;
}

static sluice_status put_up_both(struct run *r) {
    TRY(put_up(r, &r->side[0], 0));
    bool both_commands = r->side[0].is_command && r->side[1].is_command;
    uint64_t available = mem_available();
    r->out->one_at_a_time =
        both_commands && (r->options->one_at_a_time || (available && process_bytes(r->side[0].pid) > available));
    if (r->out->one_at_a_time) {
        put_down(&r->side[0]);
    }
    TRY(put_up(r, &r->side[1], 1));
    if (!r->out->one_at_a_time && r->side[0].pid > 0 && r->side[0].pid == r->side[1].pid) {
        r->side[0].pid = r->side[1].pid = -1; /* one process in front of both, or both in one */
    }
    for (int i = 0; i < 2 && !r->out->one_at_a_time; i++) {
        if (r->side[i].pid < 0) {
            snprintf(r->out->rest_note, sizeof r->out->rest_note,
                     "whether %s rested could not be watched: no process is known to be its own", i ? "B" : "A");
        }
    }
    return SLUICE_OK;
}

/* ---- A turn: one round of requests to one target */

static sluice_status fill_requests(struct run *r, struct side *s, uint32_t max_tokens) {
    struct buf messages = {0};
    for (uint32_t i = 0; i < r->options->concurrency; i++) {
        struct sample *sample = &r->samples[i];
        sample_reset(sample);
        sample->stream = i;
        sample->prompt_tokens_wanted = r->options->prompt_tokens;
        buf_reset(&messages);
        buf_reset(&r->bodies[i]);
        prompt_messages(&s->prompt, r->nonce++, &messages);
        prompt_sha256(&messages, sample->prompt_sha256);
        if (!messages.failed) {
            target_body(&s->target, messages.data, max_tokens, &r->bodies[i]);
        }
        if (messages.failed || r->bodies[i].failed) {
            buf_free(&messages);
            return fail(r->err, SLUICE_E_NOMEM, "no memory for a request");
        }
        r->requests[i] = (struct client_request){.body = r->bodies[i].data,
                                                 .body_len = r->bodies[i].len,
                                                 .due_ms = -1,
                                                 .max_tokens = max_tokens,
                                                 .sample = sample};
    }
    buf_free(&messages);
    return SLUICE_OK;
}

/* Means over the requests of the round; NAN where one of them does not know its value. */
static void turn_values(const struct run *r, double out[AB_METRICS]) {
    uint32_t c = r->options->concurrency;
    double sum[AB_METRICS] = {0};
    double tokens = 0;
    double send = INFINITY;
    double end = 0;
    for (uint32_t i = 0; i < c; i++) {
        const struct sample *s = &r->samples[i];
        double v[AB_METRICS] = {sample_decode_tok_s(s), sample_prefill_tok_s(s), sample_ttft_ms(s),
                                sample_latency_ms(s), s->output_tokens > 0 ? 1 : -1};
        for (int m = 0; m < AB_METRICS; m++) {
            sum[m] += v[m] > 0 && s->ok ? v[m] : NAN;
        }
        tokens += (double)s->output_tokens;
        send = fmin(send, s->send_ms);
        end = fmax(end, s->send_ms + s->end_ms);
    }
    for (int m = 0; m < AB_METRICS; m++) {
        out[m] = sum[m] / c;
    }
    out[AB_AGGREGATE] = isnan(sum[AB_AGGREGATE]) || !(end > send) ? NAN : 1000 * tokens / (end - send);
}

static void forget_samples(struct run *r) {
    for (uint32_t i = 0; i < r->options->concurrency; i++) {
        sample_free(&r->samples[i]);
        sample_reset(&r->samples[i]);
    }
}

/* warmup: an answer of few tokens that does not count. values may be NULL then. */
static sluice_status turn(struct run *r, uint32_t which, bool warmup, double values[AB_METRICS], char *problem,
                          size_t cap) {
    struct side *s = &r->side[which];
    TRY(fill_requests(r, s, warmup ? 8 : r->options->max_tokens));
    sluice_status status = client_run(s->client, r->requests, r->options->concurrency, NULL, NULL, r->err);
    for (uint32_t i = 0; status == SLUICE_OK && i < r->options->concurrency; i++) {
        struct sample *sample = &r->samples[i];
        sample->run = r->round;
        sample->warmup = warmup;
        if (!sample->ok && !problem[0]) {
            snprintf(problem, cap, "%s: %.150s", which ? "B" : "A", sample->error);
        }
        /* the prompts differ from their first token on: only what a template puts before may come from a cache */
        int64_t template_tokens = s->prompt.template_tokens >= 0 ? s->prompt.template_tokens : 16;
        if (sample->ok && sample->cached_tokens > template_tokens && !problem[0]) {
            snprintf(problem, cap, "%s took %lld tokens of a new prompt from a cache", which ? "B" : "A",
                     (long long)sample->cached_tokens);
        }
        if (!warmup && r->events->on_sample) {
            status = r->events->on_sample(r->events->ctx, which, sample, r->err);
        }
    }
    r->round += !warmup;
    if (status == SLUICE_OK && values) {
        turn_values(r, values);
    }
    forget_samples(r);
    return status;
}

/* ---- Rest */

struct rest {
    uint64_t ticks;
    uint64_t ns;
    bool known;
};

static struct rest rest_start(const struct side *s) {
    struct rest out = {.ns = clock_ns()};
    int parent;
    out.known = s->pid > 0 && process_ticks("", s->pid, &out.ticks, &parent);
    return out;
}

/* Share of all cores' time; 0 when it is not known. */
static double rest_share(const struct side *s, const struct rest *from) {
    struct rest now = rest_start(s);
    double cores = (double)sysconf(_SC_NPROCESSORS_ONLN);
    double seconds = (double)(now.ns - from->ns) * 1e-9;
    if (!from->known || !now.known || !(seconds > 0) || !(cores > 0)) {
        return 0;
    }
    double ticks = (double)(now.ticks - from->ticks);
    ticks = ticks > 1 ? ticks - 1 : 0; /* one tick is the clock's own grain */
    return ticks / (double)sysconf(_SC_CLK_TCK) / seconds / cores;
}

/* ---- Blocks */

static sluice_status prepare_turn(struct run *r, uint32_t which, char *problem, size_t cap) {
    if (!r->out->one_at_a_time || r->side[which].client) {
        return SLUICE_OK;
    }
    put_down(&r->side[!which]);
    TRY(put_up(r, &r->side[which], which));
    return turn(r, which, true, NULL, problem, cap);
}

static sluice_status run_block(struct run *r, struct ab_block *b) {
    static const uint8_t order[AB_TURNS] = {0, 1, 1, 0};
    uint32_t seen[2] = {0, 0};
    for (int i = 0; i < AB_TURNS && !b->reason[0] && !stopped(r); i++) {
        double values[AB_METRICS];
        uint32_t which = order[i] ^ (uint32_t)b->b_first;
        TRY(prepare_turn(r, which, b->reason, sizeof b->reason));
        struct rest rest = rest_start(&r->side[!which]);
        TRY(turn(r, which, false, values, b->reason, sizeof b->reason));
        double share = r->out->one_at_a_time ? 0 : rest_share(&r->side[!which], &rest);
        if (share > AB_REST_SHARE && !b->reason[0]) {
            snprintf(b->reason, sizeof b->reason, "%s used %.1f%% of the processor time while it should have rested",
                     which ? "A" : "B", 100 * share);
        }
        for (int m = 0; m < AB_METRICS; m++) {
            b->value[m][which][seen[which]] = values[m];
        }
        seen[which]++;
    }
    if (!b->reason[0] && stopped(r)) {
        snprintf(b->reason, sizeof b->reason, "interrupted");
    }
    if (!b->reason[0] && isnan(paired_block(b->value[r->options->metric][0], 2, b->value[r->options->metric][1], 2))) {
        snprintf(b->reason, sizeof b->reason, "a target does not give what %s needs",
                 ab_metric_names[r->options->metric]);
    }
    b->valid = !b->reason[0];
    return SLUICE_OK;
}

static sluice_status estimate(struct run *r, double level) {
    for (int m = 0; m < AB_METRICS; m++) {
        size_t n = 0;
        double *x = r->block_values[AB_METRICS - 1] + r->options->blocks_max; /* room behind the last */
        for (uint32_t i = 0; i < r->out->valid; i++) {
            if (!isnan(r->block_values[m][i])) {
                x[n++] = r->block_values[m][i];
            }
        }
        if (!paired_estimate(x, n, level, &r->out->estimate[m])) {
            return fail(r->err, SLUICE_E_NOMEM, "no memory for the comparison");
        }
        r->out->verdict[m] =
            paired_judge(&r->out->estimate[m], ab_more_is_better((enum ab_metric)m), r->options->width);
    }
    return SLUICE_OK;
}

/* "" while the run should go on. */
static const char *why_stop(const struct run *r) {
    const struct paired *p = &r->out->estimate[r->options->metric];
    if (stopped(r)) {
        return "interrupted";
    }
    if (paired_looks(r->out->valid) && paired_half_width(p) <= r->options->width) {
        return "width";
    }
    if (r->out->valid == r->options->blocks_max) {
        return "blocks";
    }
    return r->options->seconds > 0 && clock_ms_since(r->start_ns) > r->options->seconds * 1e3 ? "time" : "";
}

static sluice_status run_blocks(struct run *r) {
    uint32_t bad = 0;
    char problem[200] = "";
    for (uint32_t which = 0; which < 2; which++) {
        TRY(prepare_turn(r, which, problem, sizeof problem));
        TRY(turn(r, which, true, NULL, problem, sizeof problem));
    }
    if (problem[0] && !stopped(r)) {
        return fail(r->err, SLUICE_E_IO, "the warm-up failed: %s", problem);
    }
    while (!(r->out->stopped = why_stop(r))[0]) {
        struct ab_block b = {.number = r->out->blocks, .b_first = r->out->blocks % 2 == 1};
        for (int i = 0; i < AB_METRICS * AB_TURNS; i++) {
            b.value[i / 4][i / 2 % 2][i % 2] = NAN;
        }
        TRY(run_block(r, &b));
        r->out->blocks++;
        if (b.valid) {
            for (int m = 0; m < AB_METRICS; m++) {
                r->block_values[m][r->out->valid] = paired_block(b.value[m][0], 2, b.value[m][1], 2);
            }
            r->out->valid++;
            TRY(estimate(r, PAIRED_LEVEL));
        }
        if (r->events->on_block) {
            TRY(r->events->on_block(r->events->ctx, &b, r->out, r->err));
        }
        bad = b.valid ? 0 : bad + 1;
        if (bad == BLOCK_TRIES && !stopped(r)) {
            return fail(r->err, SLUICE_E_IO, "%u blocks in a row were invalid: %.200s", bad, b.reason);
        }
    }
    return SLUICE_OK;
}

static sluice_status allocate(struct run *r) {
    uint32_t c = r->options->concurrency;
    r->requests = mem_calloc(c, sizeof *r->requests);
    r->samples = mem_calloc(c, sizeof *r->samples);
    r->bodies = mem_calloc(c, sizeof *r->bodies);
    double *values = mem_alloc((AB_METRICS + 1) * r->options->blocks_max * sizeof *values);
    for (int m = 0; m < AB_METRICS; m++) {
        r->block_values[m] = values ? values + (size_t)m * r->options->blocks_max : NULL;
    }
    return r->requests && r->samples && r->bodies && values
               ? SLUICE_OK
               : fail(r->err, SLUICE_E_NOMEM, "no memory for %u requests", c);
}

static sluice_status run_all(struct run *r) {
    TRY(allocate(r));
    TRY(put_up_both(r));
    if (r->events->on_ready) {
        const struct target *const target[2] = {&r->side[0].target, &r->side[1].target};
        const struct prompt *const prompt[2] = {&r->side[0].prompt, &r->side[1].prompt};
        TRY(r->events->on_ready(r->events->ctx, target, prompt, r->err));
    }
    return run_blocks(r);
}

sluice_status ab_run(const struct ab_options *options, const struct ab_events *events, struct watch *watch,
                     struct ab_result *out, sluice_error *err) {
    struct run r = {.options = options, .events = events, .watch = watch, .out = out, .err = err};
    *out = (struct ab_result){.stopped = "", .restart_s = {-1, -1}};
    if (options->blocks_max < PAIRED_BLOCKS_MIN || options->blocks_max > PAIRED_BLOCKS_MAX ||
        options->concurrency == 0 || options->concurrency > CLIENT_STREAMS_MAX) {
        return fail(err, SLUICE_E_ARG, "a comparison has %d to %d blocks of 1 to %d requests", PAIRED_BLOCKS_MIN,
                    PAIRED_BLOCKS_MAX, CLIENT_STREAMS_MAX);
    }
    r.start_ns = clock_ns();
    r.nonce = options->nonce;
    for (int i = 0; i < 2; i++) {
        r.side[i].spec = options->spec[i];
        r.side[i].is_command =
            strncmp(options->spec[i], "http://", 7) != 0 && strncmp(options->spec[i], "https://", 8) != 0;
        r.side[i].pid = -1;
    }
    sluice_status status = run_all(&r);
    for (uint32_t i = 0; r.samples && i < options->concurrency; i++) {
        sample_free(&r.samples[i]);
    }
    for (uint32_t i = 0; r.bodies && i < options->concurrency; i++) {
        buf_free(&r.bodies[i]);
    }
    for (int i = 0; i < 2; i++) {
        put_down(&r.side[i]);
        target_free(&r.side[i].target);
        prompt_free(&r.side[i].prompt);
        out->restart_s[i] = r.side[i].restarts ? r.side[i].restart_s / r.side[i].restarts : -1;
    }
    mem_free(r.requests);
    mem_free(r.samples);
    mem_free(r.bodies);
    mem_free(r.block_values[0]);
    if (status == SLUICE_E_CANCELLED && out->valid > 0) {
        out->stopped = "interrupted";
        return SLUICE_OK;
    }
    return status;
}
