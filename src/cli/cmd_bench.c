/* `sluice bench`: workloads over the API of a running server, or of one started for the purpose. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/status.h"
#include "bench/bench.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

struct output {
    bool table, failed;
    uint32_t n_failed;
    char error[320];
    struct cli_progress progress;
};

static atomic_bool stop;

static void on_signal(int sig) {
    (void)sig;
    atomic_store(&stop, true);
}

/* A second signal ends the program at once. */
static void catch_signals(void) {
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

static void put(struct output *o, struct buf *b) {
    cli_progress_end(&o->progress);
    if (o->table && (b->failed || fwrite(b->data, 1, b->len, stdout) != b->len || fflush(stdout) != 0)) {
        o->failed = true;
    }
    buf_free(b);
}

static void on_progress(void *ctx, const char *what, uint64_t done, uint64_t total) {
    struct output *o = ctx;
    o->progress.label = what;
    o->progress.total = total;
    cli_progress_update(&o->progress, done);
}

static void on_start(void *ctx, const struct bench *bench) {
    struct buf b = {0};
    bench_table_head(&b, bench);
    put(ctx, &b);
}

static void on_row(void *ctx, const struct bench *bench, const struct row *row) {
    struct buf b = {0};
    (void)bench;
    bench_table_row(&b, row);
    put(ctx, &b);
}

static void on_end(void *ctx, const struct bench *bench) {
    struct output *o = ctx;
    struct buf b = {0};
    bench_table_foot(&b, bench);
    put(o, &b);
    o->n_failed = bench->n_failed;
    memcpy(o->error, bench->error, sizeof o->error);
}

static int run(struct bench_options *options, const char *json_path) {
    sluice_error err, closing;
    struct output output = {.table = !json_path || strcmp(json_path, "-") != 0};
    size_t n = json_path ? strlen(json_path) : 0;
    bool append = n > 6 && strcmp(json_path + n - 6, ".jsonl") == 0;
    if (json_path && record_writer_open(json_path, append, &options->writer, &err) != SLUICE_OK) {
        return cli_fail(&err);
    }
    options->ctx = &output;
    catch_signals();
    cli_progress_start(&output.progress, "bench", 1);
    sluice_status status = client_global_init(&err);
    if (status == SLUICE_OK) {
        status = bench_run(options, &err);
        client_global_free();
    }
    cli_progress_end(&output.progress);
    if (options->writer && record_writer_close(options->writer, &closing) != SLUICE_OK && status == SLUICE_OK) {
        status = closing.status;
        err = closing;
    }
    if (status != SLUICE_OK) {
        return cli_fail(&err);
    }
    if (output.n_failed) {
        fprintf(stderr, "sluice: %u request%s failed; the first: %s\n", output.n_failed,
                output.n_failed == 1 ? "" : "s", output.error);
        return 1;
    }
    if (output.failed) {
        fprintf(stderr, "sluice: the table could not be written to standard output\n");
        return 1;
    }
    return 0;
}

static const char about[] =
    "Measures an OpenAI-compatible server with streamed chat completions at temperature 0, and with --json writes a\n"
    "record (docs/records.md) that `sluice check` can verify. Prompts and answers have exact lengths. A cold row's "
    "prompts\n"
    "open with numbers of their own, so that no prefix cache helps; a warm row's were sent just before; both are "
    "verified\n"
    "by the count of cached tokens that the server reports. Figures are medians over the requests:\n"
    "  decode     1000 / TPOT; TPOT = (last token - first token) / (output tokens - 1)\n"
    "  prefill    computed prompt tokens / TTFT; TTFT ends with the first token of any kind\n"
    "  together   all output tokens of a round of requests sent together / its time\n"
    "  limit      share of the read bandwidth (prefill and depth rows: of the matrix rate) measured on this machine\n"
    "Intervals are of decode; with \"p:\" of prefill; in brackets, of fewer than five values, their range.\n"
    "Suites: quick (within 40 s), page (chat, codegen, rag, agent, agent at 4; cold and warm; 2 warm-ups, 5 runs), "
    "depth\n"
    "(512 to 32768 tokens of prompt), load (1, 2, 4 .. at a time, then Poisson arrivals at several rates).\n"
    "Exit code 1 when a request failed; the record then says which and why.";

int cmd_bench(int argc, char **argv) {
    struct bench_options b = {.suite = "quick", .silence_s = 600, .stop = &stop};
    const char *json_path = NULL;
    float slo_ttft = 0, slo_tpot = 0, rate_seconds = 0;
    const struct cli_option options[] = {
        {0, "url", CLI_STRING, &b.url, "URL", "a running server; default: one is started for the run", NULL},
        {'m', "model-file", CLI_STRING, &b.model_path, "FILE",
         "GGUF to serve; default: the model that ships. With --url: the file that server runs", NULL},
        {0, "model", CLI_STRING, &b.model, "NAME", "model name to ask for; default: the first the server lists", NULL},
        {0, "api-key", CLI_STRING, &b.api_key, "KEY", "sent as bearer token; never recorded", NULL},
        {0, "suite", CLI_STRING, &b.suite, "NAME", "quick, page, depth or load; default quick", NULL},
        {0, "reference", CLI_STRING, &b.reference, "FILE",
         "what plain F32 computed (sluice kld --make); default: MODEL.reference beside the file", NULL},
        {0, "natural-stop", CLI_FLAG, &b.natural_stop, NULL, "answers may end by themselves; rows are labelled so",
         NULL},
        {0, "raw", CLI_FLAG, &b.raw, NULL, "with --url and -m: engine-only rows of that file too, by this program",
         NULL},
        {0, "max-concurrency", CLI_U32, &b.max_concurrency, "N", "load: most at a time; default twice the slots", NULL},
        {0, "slo-ttft", CLI_FLOAT, &slo_ttft, "MS", "load: find the highest rate that keeps this time to first token",
         NULL},
        {0, "slo-tpot", CLI_FLOAT, &slo_tpot, "MS", "load: the same for the time per output token", NULL},
        {0, "rate-seconds", CLI_FLOAT, &rate_seconds, "S", "load: time of arrivals at each rate; default 12", NULL},
        {0, "label", CLI_STRING, &b.label, "TEXT", "a name of yours for the record", NULL},
        {0, "json", CLI_STRING, &json_path, "FILE", "write the record; - = stdout; *.jsonl is appended to", NULL},
        {0, "timeout", CLI_U32, &b.silence_s, "S", "give a request up after so many silent seconds; default 600", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "bench",
        .usage = "sluice bench [--url URL] [--model NAME] [-m FILE] [--suite NAME] [--json FILE]",
        .about = about,
        .example = "sluice bench\nsluice bench --url http://127.0.0.1:8080 --suite page --json result.jsonl\n"
                   "sluice bench -m LFM2-8B-A1B-Q4_K_M.gguf --suite load --slo-ttft 500 --json load.jsonl",
        .options = options,
    };
    struct cli_args args;
    struct suite suite;
    struct suite_options wanted = {.name = NULL};
    sluice_error err;
    char url[1024], shipped[4096], line[512];
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    wanted.name = b.suite;
    if (!suite_get(&wanted, &suite)) {
        return cli_usage_error(&command, "there is no suite \"%s\"; quick, page, depth and load exist", b.suite);
    }
    if (b.silence_s == 0 || b.silence_s > 86400) {
        return cli_usage_error(&command, "--timeout takes 1 to 86400 seconds");
    }
    if (b.max_concurrency > CLIENT_STREAMS_MAX) {
        return cli_usage_error(&command, "--max-concurrency takes at most %d", CLIENT_STREAMS_MAX);
    }
    if (!suite.open_loop && (b.max_concurrency || slo_ttft > 0 || slo_tpot > 0 || rate_seconds > 0)) {
        return cli_usage_error(&command, "--max-concurrency, --slo-* and --rate-seconds belong to --suite load");
    }
    if (slo_ttft < 0 || slo_tpot < 0 || rate_seconds < 0) {
        return cli_usage_error(&command, "a latency target, or a time, is more than 0");
    }
    if (b.raw && (!b.url || !b.model_path)) {
        return cli_usage_error(&command, "--raw needs --url and -m: without --url engine-only rows are made anyway");
    }
    if (b.url) {
        if (client_base_url(b.url, url, sizeof url, &err) != SLUICE_OK) {
            return cli_fail(&err);
        }
        b.url = url;
    } else if (!b.model_path) {
        if (sluice_default_model_path(shipped, sizeof shipped, &err) != SLUICE_OK) {
            return cli_fail(&err);
        }
        b.model_path = shipped;
    }
    if (getrandom(&b.nonce, sizeof b.nonce, 0) != sizeof b.nonce) {
        b.nonce = (uint64_t)getpid();
    }
    b.nonce %= 1000000000;
    b.slo_ttft_ms = slo_ttft;
    b.slo_tpot_ms = slo_tpot;
    b.rate_seconds = rate_seconds;
    b.command = line;
    b.on_progress = on_progress;
    b.on_start = on_start;
    b.on_row = on_row;
    b.on_end = on_end;
    cli_command_text(argc, argv, line, sizeof line);
    return run(&b, json_path);
}
