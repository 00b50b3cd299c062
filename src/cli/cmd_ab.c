/* `sluice ab A B`: two targets in turns, with an interval on the ratio. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "bench/ab.h"
#include "bench/lines.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

struct compare {
    struct ab_options options;
    const char *label, *json_path, *command;
    struct record_writer *writer;
    struct buf line;
    struct environment environment;
    struct watch *watch;
    struct nvml *nvml;
    char row[64];
    const struct target *target[2]; /* valid while ab_run runs */
    bool reports_cached[2];
    struct row rows[2]; /* every request of A and of B */
    uint32_t rounds[2];
    uint32_t n_samples;
    uint64_t start_ns;
    bool table;
    struct cli_progress progress;
};

static atomic_bool stop;

static void on_signal(int sig) {
    (void)sig;
    atomic_store(&stop, true);
}

static void catch_signals(void) {
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

static sluice_status write_line(struct compare *c, sluice_error *err) {
    return c->writer ? record_write(c->writer, &c->line, err) : SLUICE_OK;
}

/* ---- The record */

static sluice_status write_run(struct compare *c, const struct target *a, const struct target *b, sluice_error *err) {
    const struct lines_memory unknown = {-1, -1, -1};
    struct buf *l = &c->line;
    const struct target *t[2] = {a, b};
    char id[17];
    uint64_t number;
    if (getrandom(&number, sizeof number, 0) != sizeof number) {
        number = clock_ns();
    }
    snprintf(id, sizeof id, "%016llx", (unsigned long long)number);
    line_start(l, "run");
    line_put_text(l, "schema", "sluice-record");
    line_put_uint(l, "version", 2);
    line_put_text(l, "id", id);
    line_put_text(l, "tool", "sluice " SLUICE_VERSION);
    line_put_text(l, "date", c->environment.date);
    line_put_text(l, "label", c->label);
    line_put_text(l, "suite", "ab");
    line_put_text(l, "suite_about", "two targets in turns: blocks of A B B A and B A A B, every prompt new");
    line_put_text(l, "command", c->command);
    lines_put_origin(l);
    line_open(l, "targets", '[');
    for (int i = 0; i < 2; i++) {
        const char *spec = c->options.spec[i];
        lines_put_target(l, NULL, t[i], strncmp(spec, "http", 4) != 0, &unknown);
    }
    line_close(l, ']');
    line_put_null(l, "model_file");
    environment_json(l, &c->environment);
    lines_put_sampling(l, a);
    line_put_text(l, "statistic",
                  "ratio B over A: Hodges-Lehmann over blocks, with the interval of the signed-rank statistic");
    line_end(l);
    return write_line(c, err);
}

static sluice_status on_ready(void *ctx, const struct target *const target[2], const struct prompt *const prompt[2],
                              sluice_error *err) {
    struct compare *c = ctx;
    TRY(write_run(c, target[0], target[1], err));
    for (int i = 0; i < 2; i++) {
        c->target[i] = target[i];
        c->rows[i].template_tokens = prompt[i]->template_tokens;
    }
    if (c->table) {
        cli_progress_end(&c->progress);
        for (int i = 0; i < 2; i++) {
            const struct target *t = target[i];
            printf("%s  %s %s  %s  prompt of %u tokens\n", i ? "B" : "A", t->engine[0] ? t->engine : "unknown engine",
                   t->build, t->model, prompt[i]->tokens);
        }
        printf("%s, %u at a time, %u tokens of answer; every prompt is new to its server\n\n",
               c->options.workload->name, c->options.concurrency, c->options.max_tokens);
        printf("%5s  %-6s %10s %10s %10s %10s   %s\n", "block", "order", "A", "A", "B", "B",
               ab_metric_names[c->options.metric]);
        fflush(stdout);
    }
    return SLUICE_OK;
}

static sluice_status on_sample(void *ctx, uint32_t target, struct sample *s, sluice_error *err) {
    struct compare *c = ctx;
    struct row *row = &c->rows[target];
    struct sample *kept = row_add_samples(row, 1);
    if (!kept) {
        return fail(err, SLUICE_E_NOMEM, "no memory for samples");
    }
    *kept = *s;
    s->token_ms = NULL;
    kept->run = c->rounds[target];
    c->rounds[target] += kept->stream + 1 == c->options.concurrency;
    c->n_samples++;
    lines_put_sample(&c->line, row->key, target, false, kept);
    return write_line(c, err);
}

static void put_values(struct buf *l, const char *name, const double v[2]) {
    line_open(l, name, '[');
    line_put_number(l, NULL, v[0]);
    line_put_number(l, NULL, v[1]);
    line_close(l, ']');
}

/* One line per metric: what a comparison of it stands on. */
static sluice_status write_pairs(struct compare *c, const struct ab_block *b, sluice_error *err) {
    struct buf *l = &c->line;
    for (int m = 0; m < AB_METRICS; m++) {
        const double(*v)[2] = b->value[m];
        double ratio = exp(paired_block(v[0], 2, v[1], 2));
        bool valid = b->valid && isfinite(ratio);
        line_start(l, "pair");
        line_put_uint(l, "block", b->number);
        line_put_text(l, "order", b->b_first ? "BAAB" : "ABBA");
        line_put_text(l, "row", c->row);
        line_put_text(l, "metric", ab_metric_names[m]);
        put_values(l, "a", v[0]);
        put_values(l, "b", v[1]);
        line_put_number(l, "ratio", valid ? ratio : NAN);
        line_put_bool(l, "valid", valid);
        line_put_text(l, "reason", valid ? NULL : b->valid ? "a target does not give what this needs" : b->reason);
        line_end(l);
        TRY(write_line(c, err));
    }
    return SLUICE_OK;
}

static void print_block(struct compare *c, const struct ab_block *b, const struct ab_result *r) {
    const struct paired *p = &r->estimate[c->options.metric];
    const double(*v)[2] = b->value[c->options.metric];
    cli_progress_end(&c->progress);
    printf("%5u  %-6s %10.4g %10.4g %10.4g %10.4g   ", b->number + 1, b->b_first ? "BAAB" : "ABBA", v[0][0], v[0][1],
           v[1][0], v[1][1]);
    if (!b->valid) {
        printf("invalid: %s\n", b->reason);
        return;
    }
    printf("%.4f", exp(paired_block(v[0], 2, v[1], 2)));
    if (isfinite(p->interval[1])) {
        printf("   so far %.4f (%.4f-%.4f)", p->ratio, p->interval[0], p->interval[1]);
    }
    printf("\n");
    fflush(stdout);
}

static sluice_status on_block(void *ctx, const struct ab_block *b, const struct ab_result *r, sluice_error *err) {
    struct compare *c = ctx;
    for (int i = 0; i < 2; i++) {
        c->reports_cached[i] = c->reports_cached[i] || c->target[i]->reports_cached;
    }
    TRY(write_pairs(c, b, err));
    if (c->table) {
        print_block(c, b, r);
    }
    cli_progress_update(&c->progress, r->valid);
    return SLUICE_OK;
}

/* What each target did by itself; a comparison stands on the pairs, not on these. */
static sluice_status write_rows(struct compare *c, sluice_error *err) {
    const struct run_quality none = {.reason = "a comparison does not compare answers with a reference"};
    for (uint32_t i = 0; i < 2; i++) {
        struct row *row = &c->rows[i];
        row->runs = c->rounds[i];
        if (!row_summarise(row)) {
            return fail(err, SLUICE_E_NOMEM, "no memory for the figures of a row");
        }
        row_judge(row, c->reports_cached[i]);
        lines_put_row(&c->line, row, i, NULL, &none);
        TRY(write_line(c, err));
    }
    return SLUICE_OK;
}

static void put_reasons(struct buf *l, const struct ab_result *r) {
    const char *reasons[2];
    char invalid[64];
    size_t n = 0;
    if (r->blocks > r->valid) {
        snprintf(invalid, sizeof invalid, "%u of %u blocks were invalid", r->blocks - r->valid, r->blocks);
        reasons[n++] = invalid;
    }
    if (r->rest_note[0]) {
        reasons[n++] = r->rest_note;
    }
    line_put_texts(l, "reasons", reasons, n);
}

static sluice_status write_comparisons(struct compare *c, const struct ab_result *r, sluice_error *err) {
    struct buf *l = &c->line;
    for (int m = 0; m < AB_METRICS; m++) {
        const struct paired *p = &r->estimate[m];
        if (p->n == 0) {
            continue;
        }
        bool interval = isfinite(p->interval[1]);
        line_start(l, "comparison");
        line_put_text(l, "row", c->row);
        line_put_text(l, "metric", ab_metric_names[m]);
        line_put_uint(l, "blocks", p->n);
        line_put_number(l, "ratio", p->ratio);
        if (interval) {
            line_put_numbers(l, "interval", p->interval, 2);
        } else {
            line_put_null(l, "interval");
        }
        line_put_number(l, "level", interval ? PAIRED_COVERAGE : NAN); /* with the looks before it */
        line_put_number(l, "smallest_effect", interval ? p->smallest_effect : NAN);
        line_put_text(l, "verdict", paired_verdicts[r->verdict[m]]);
        line_put_text(l, "stopped", r->stopped);
        put_reasons(l, r);
        line_end(l);
        TRY(write_line(c, err));
    }
    return SLUICE_OK;
}

static sluice_status write_end(struct compare *c, const struct ab_result *r, const struct watch_summary *noise,
                               sluice_error *err) {
    struct buf *l = &c->line;
    char why[512];
    const char *reasons[2];
    size_t n = 0;
    enum verdict state = watch_verdict(noise, why, sizeof why);
    bool interrupted = strcmp(r->stopped, "interrupted") == 0;
    line_start(l, "trace");
    buf_putc(l, ',');
    watch_trace_json(l, c->watch);
    line_end(l);
    TRY(write_line(c, err));
    if (why[0]) {
        reasons[n++] = why;
    }
    if (interrupted) {
        state = VERDICT_INVALID;
        reasons[n++] = "interrupted";
    }
    line_start(l, "end");
    line_put_number(l, "duration_s", clock_ms_since(c->start_ns) * 1e-3);
    line_put_uint(l, "rows", 2);
    line_put_uint(l, "samples", c->n_samples);
    line_put_uint(l, "rows_left_out", 0);
    line_put_bool(l, "interrupted", interrupted);
    lines_put_noise(l, noise);
    lines_put_verdict(l, state, reasons, n);
    line_end(l);
    if (c->table) {
        printf("\nmachine: %s%s%s\n", verdict_names[state], why[0] ? ": " : "", why);
    }
    return write_line(c, err);
}

/* ---- For people */

static void print_outcome(const struct compare *c, const struct ab_result *r) {
    printf("\n%-16s %8s %20s %10s   B is\n", "B over A", "ratio", "interval (95%)", "finds");
    for (int m = 0; m < AB_METRICS; m++) {
        const struct paired *p = &r->estimate[m];
        if (p->n == 0) {
            continue;
        }
        if (isfinite(p->interval[1])) {
            printf("%-16s %8.4f %9.4f - %8.4f %9.1f%%   %s%s\n", ab_metric_names[m], p->ratio, p->interval[0],
                   p->interval[1], 100 * p->smallest_effect, paired_verdicts[r->verdict[m]],
                   m == (int)c->options.metric ? "  <" : "");
        } else {
            printf("%-16s %8.4f %20s %10s   undecided: too few blocks\n", ab_metric_names[m], p->ratio, "", "");
        }
    }
    printf("%u blocks, %u valid; stopped by %s%s\n", r->blocks, r->valid, r->stopped,
           r->one_at_a_time ? "; only one target was up at a time" : "");
    for (int i = 0; i < 2; i++) {
        if (r->restart_s[i] >= 0) {
            printf("starting %s again took %.2f s on average, outside of every turn\n", i ? "B" : "A", r->restart_s[i]);
        }
    }
    if (r->rest_note[0]) {
        printf("%s\n", r->rest_note);
    }
}

/* ---- Running */

static sluice_status measure(struct compare *c, sluice_error *err) {
    struct ab_events events = {.ctx = c, .on_ready = on_ready, .on_sample = on_sample, .on_block = on_block};
    struct ab_result result;
    struct watch_summary noise;
    struct watch_options watch = {.root = "", .nvml = c->nvml};
    const struct cell cell = {.workload = c->options.workload,
                              .prompt_tokens = c->options.prompt_tokens,
                              .max_tokens = c->options.max_tokens,
                              .concurrency = c->options.concurrency,
                              .cache = CACHE_COLD,
                              .arrival = ARRIVAL_CLOSED};
    row_init(&c->rows[0], &cell, false);
    row_init(&c->rows[1], &cell, false);
    TRY(watch_start(&watch, &c->watch, err));
    sluice_status status = ab_run(&c->options, &events, c->watch, &result, err);
    watch_stop(c->watch, &noise);
    cli_progress_end(&c->progress);
    if (status == SLUICE_OK) {
        status = write_rows(c, err);
    }
    if (status == SLUICE_OK) {
        status = write_comparisons(c, &result, err);
    }
    if (status == SLUICE_OK && c->table) {
        print_outcome(c, &result);
    }
    if (status == SLUICE_OK) {
        status = write_end(c, &result, &noise, err);
    }
    watch_free(c->watch);
    row_free(&c->rows[0]);
    row_free(&c->rows[1]);
    return status;
}

static int run(struct compare *c) {
    sluice_error err, closing;
    size_t n = c->json_path ? strlen(c->json_path) : 0;
    bool append = n > 6 && strcmp(c->json_path + n - 6, ".jsonl") == 0;
    c->table = !c->json_path || strcmp(c->json_path, "-") != 0;
    if (c->json_path && record_writer_open(c->json_path, append, &c->writer, &err) != SLUICE_OK) {
        return cli_fail(&err);
    }
    catch_signals();
    c->start_ns = clock_ns();
    if (nvml_open(NULL, &c->nvml, &err) != SLUICE_OK) {
        c->nvml = NULL;
    }
    environment_read(&c->environment, "", c->nvml);
    cli_progress_start(&c->progress, "ab", c->options.blocks_max);
    sluice_status status = client_global_init(&err);
    if (status == SLUICE_OK) {
        status = measure(c, &err);
        client_global_free();
    }
    nvml_close(c->nvml);
    buf_free(&c->line);
    if (c->writer && record_writer_close(c->writer, &closing) != SLUICE_OK && status == SLUICE_OK) {
        status = closing.status;
        err = closing;
    }
    return status == SLUICE_OK ? 0 : cli_fail(&err);
}

static const struct workload *find_workload(const char *name) {
    static const struct workload *const all[] = {&workload_chat, &workload_codegen, &workload_rag, &workload_agent,
                                                 &workload_depth};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(all[i]->name, name) == 0) {
            return all[i];
        }
    }
    return NULL;
}

static bool find_metric(const char *name, enum ab_metric *out) {
    for (int m = 0; m < AB_METRICS; m++) {
        if (strcmp(ab_metric_names[m], name) == 0) {
            *out = (enum ab_metric)m;
            return true;
        }
    }
    return false;
}

static const char about[] =
    "Compares two targets, each a URL or a command line, on the same work in turns: blocks of A B B A and B A A B, so "
    "that a\n"
    "drift of the machine falls on both alike, every prompt new, so that neither finds it in a cache. A command line\n"
    "may hold {port}; it is ready once it answers there, or else once it prints \"listening on URL\". Reported is the\n"
    "ratio B over A with an interval that covers the true one in 95% of runs, the smallest effect that this run would "
    "have\n"
    "found in 4 of 5 cases, and what that says of B. The run ends when the interval is as narrow as wished.";

int cmd_ab(int argc, char **argv) {
    struct compare c = {.options = {.blocks_max = 32, .concurrency = 1, .silence_s = 600, .stop = &stop}};
    const char *workload = "chat";
    const char *metric = "decode_tok_s";
    const char *model_a = NULL, *model_b = NULL;
    float width = 1, seconds = 0;
    char line[1024];
    const struct cli_option options[] = {
        {0, "workload", CLI_STRING, &workload, "NAME", "chat, codegen, rag, agent or depth; default chat", NULL},
        {'p', "prompt", CLI_U32, &c.options.prompt_tokens, "N", "tokens of prompt; default: the workload's", NULL},
        {'n', "output", CLI_U32, &c.options.max_tokens, "N", "tokens of answer; default: the workload's", NULL},
        {'c', "concurrency", CLI_U32, &c.options.concurrency, "N", "requests of a turn, sent together; default 1",
         NULL},
        {0, "metric", CLI_STRING, &metric, "NAME",
         "what decides: decode_tok_s, prefill_tok_s, ttft_ms, latency_ms, aggregate_tok_s", NULL},
        {0, "width", CLI_FLOAT, &width, "PERCENT", "stop when the ratio is known to so much either way; default 1",
         NULL},
        {0, "blocks", CLI_U32, &c.options.blocks_max, "N", "most blocks, 6 to 128; default 32", NULL},
        {0, "seconds", CLI_FLOAT, &seconds, "S", "start no block after so long; default: no limit", NULL},
        {0, "one-at-a-time", CLI_FLAG, &c.options.one_at_a_time, NULL,
         "command lines: never both up; default: when they do not fit in memory together", NULL},
        {0, "model-a", CLI_STRING, &model_a, "NAME", "model to ask A for; default: the first it lists", NULL},
        {0, "model-b", CLI_STRING, &model_b, "NAME", "model to ask B for", NULL},
        {0, "api-key", CLI_STRING, &c.options.api_key, "KEY", "sent to both as bearer token; never recorded", NULL},
        {0, "label", CLI_STRING, &c.label, "TEXT", "a name of yours for the record", NULL},
        {0, "json", CLI_STRING, &c.json_path, "FILE", "write the record; - = stdout; *.jsonl is appended to", NULL},
        {0, "timeout", CLI_U32, &c.options.silence_s, "S",
         "give a request up after so many silent seconds; default 600", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "ab",
        .usage = "sluice ab A B [--workload NAME] [--metric NAME] [--width PERCENT] [--json FILE]",
        .about = about,
        .example =
            "sluice ab http://127.0.0.1:8080 http://127.0.0.1:8081\n"
            "sluice ab 'old/sluice serve -m M --port {port}' 'build/sluice serve -m M --port {port}' --json ab.jsonl\n"
            "sluice ab 'llama-server -m M --port {port}' 'sluice serve -m M --port {port}' --workload rag",
        .options = options,
        .positional_max = 2,
    };
    struct cli_args args;
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    if (args.n_positional != 2) {
        return cli_usage_error(&command, "name two targets, each a URL or a command line");
    }
    c.options.workload = find_workload(workload);
    if (!c.options.workload) {
        return cli_usage_error(&command, "there is no workload \"%s\"; chat, codegen, rag, agent and depth exist",
                               workload);
    }
    if (!find_metric(metric, &c.options.metric)) {
        return cli_usage_error(&command, "there is no metric \"%s\" to compare by", metric);
    }
    if (c.options.blocks_max < PAIRED_BLOCKS_MIN || c.options.blocks_max > PAIRED_BLOCKS_MAX) {
        return cli_usage_error(&command, "--blocks takes %d to %d", PAIRED_BLOCKS_MIN, PAIRED_BLOCKS_MAX);
    }
    if (c.options.concurrency == 0 || c.options.concurrency > CLIENT_STREAMS_MAX) {
        return cli_usage_error(&command, "-c takes 1 to %d", CLIENT_STREAMS_MAX);
    }
    if (!(width > 0) || width > 50 || !(seconds >= 0) || c.options.silence_s == 0) {
        return cli_usage_error(
            &command, "--width takes more than 0 and at most 50 percent, --seconds and --timeout no less than 0 and 1");
    }
    c.options.prompt_tokens = c.options.prompt_tokens ? c.options.prompt_tokens : c.options.workload->prompt_tokens;
    c.options.max_tokens = c.options.max_tokens ? c.options.max_tokens : c.options.workload->max_tokens;
    c.options.spec[0] = args.positional[0];
    c.options.spec[1] = args.positional[1];
    c.options.model[0] = model_a;
    c.options.model[1] = model_b;
    c.options.width = width * 0.01;
    c.options.seconds = seconds;
    if (getrandom(&c.options.nonce, sizeof c.options.nonce, 0) != sizeof c.options.nonce) {
        c.options.nonce = (uint64_t)getpid();
    }
    c.options.nonce %= 1000000000;
    snprintf(c.row, sizeof c.row, "%s/c%u/cold", workload, c.options.concurrency);
    cli_command_text(argc, argv, line, sizeof line);
    c.command = line;
    return run(&c);
}
