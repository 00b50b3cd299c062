/* `sluice raw`: engine-only prefill and decode rates. */
#include "cli/cli.h"

#include "tools/raw.h"

#include <stdio.h>

struct output {
    bool json, failed;
    struct cli_progress progress;
};

static void put(struct output *o, struct buf *b) {
    cli_progress_end(&o->progress);
    if (b->failed || fwrite(b->data, 1, b->len, stdout) != b->len || fflush(stdout) != 0) {
        o->failed = true;
    }
    buf_free(b);
}

static void on_setup(void *ctx, const struct raw_setup *setup) {
    struct output *o = ctx;
    if (!o->json) {
        struct buf b = {0};
        raw_table_head(&b, setup);
        put(o, &b);
    }
}

static void on_result(void *ctx, const struct raw_setup *setup, const struct raw_result *result) {
    struct output *o = ctx;
    struct buf b = {0};
    if (o->json) {
        raw_result_json(&b, setup, result);
        buf_putc(&b, '\n');
    } else {
        raw_table_row(&b, result);
        raw_table_profile(&b, result);
    }
    put(o, &b);
}

static void on_progress(void *ctx, const char *test, uint64_t done, uint64_t total) {
    struct output *o = ctx;
    o->progress.label = test;
    o->progress.total = total;
    cli_progress_update(&o->progress, done);
}

static int parse_list(const struct cli_command *command, const char *flag, const char *text, struct raw_list *out) {
    if (!raw_list_parse(text, out)) {
        return cli_usage_error(command, "%s takes a number or up to %d numbers with commas, not \"%s\"", flag,
                               RAW_LIST_MAX, text);
    }
    return CLI_RUN;
}

int cmd_raw(int argc, char **argv) {
    const char *model = NULL;
    const char *prompt = NULL;
    const char *decode = NULL;
    const char *depth = "0";
    const char *batch = "1";
    struct raw_options raw = {.reps = 5, .warmups = 1, .seed = 1};
    struct output output = {0};
    const struct cli_option options[] = {
        {'m', "model", CLI_STRING, &model, "FILE", "GGUF; default: the model that ships with sluice", NULL},
        {'p', "prompt", CLI_STRING, &prompt, "N[,N..]", "prefill tests: tokens of the prompt; 0 = none", NULL},
        {'n', "decode", CLI_STRING, &decode, "N[,N..]", "decode tests: tokens to generate one by one; 0 = none", NULL},
        {'d', "depth", CLI_STRING, &depth, "N[,N..]", "tokens already in the context, not timed; default 0", NULL},
        {'b', "batch", CLI_STRING, &batch, "N[,N..]", "sequences computed together; default 1", NULL},
        {'r', "reps", CLI_U32, &raw.reps, "R", "timed repetitions after one warm-up; default 5", NULL},
        {'t', "threads", CLI_U32, &raw.n_threads, "N", "threads; default: what the backend takes", NULL},
        {0, "backend", CLI_STRING, &raw.backend, "NAME", "auto, cuda, cpu or ref; default auto", NULL},
        {0, "seed", CLI_U64, &raw.seed, "N", "seed of the random tokens; default 1", NULL},
        {0, "profile", CLI_FLAG, &raw.profile, NULL, "where the time of a step goes, stage by stage", NULL},
        {0, "json", CLI_FLAG, &output.json, NULL, "one JSON object per test and line", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "raw",
        .usage = "sluice raw [-m FILE] [-p N[,N..]] [-n N[,N..]] [-d N[,N..]] [-b N[,N..]] [-r R] [--profile] [--json]",
        .about = "Prefill (pp) and decode (tg) rates of the engine alone: random tokens, no server. "
                 "Without -p\n"
                 "and -n: pp512 and tg128. Every combination of the lists is one test. The figure is the median; the "
                 "interval\n"
                 "is a bootstrap 95% interval of the median, given from 5 repetitions on.\n"
                 "Decode is compared with the read bandwidth measured in the same run with the same threads: GB/s "
                 "counts the\n"
                 "weights a step reads (of the experts, those it uses) and the keys and values. Prefill is compared "
                 "with the\n"
                 "measured multiply-add rate (int8 for quantised weights, else f32); bytes say nothing there.",
        .example = "sluice raw -p 512 -n 128\nsluice raw -m LFM2-8B-A1B-Q4_K_M.gguf -n 64 -d 0,4096 -b 1,4 --json",
        .options = options,
    };
    struct cli_args args;
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    if (!prompt && !decode) {
        prompt = "512";
        decode = "128";
    }
    if ((prompt && (code = parse_list(&command, "-p", prompt, &raw.prompt)) != CLI_RUN) ||
        (decode && (code = parse_list(&command, "-n", decode, &raw.decode)) != CLI_RUN) ||
        (code = parse_list(&command, "-d", depth, &raw.depth)) != CLI_RUN ||
        (code = parse_list(&command, "-b", batch, &raw.batch)) != CLI_RUN) {
        return code;
    }
    sluice_error err;
    char shipped[4096];
    if (!model) {
        if (sluice_default_model_path(shipped, sizeof shipped, &err) != SLUICE_OK) {
            return cli_fail(&err);
        }
        model = shipped;
    }
    raw.model_path = model;
    struct raw_callbacks callbacks = {&output, on_setup, on_result, on_progress};
    cli_progress_start(&output.progress, "raw", 1);
    sluice_status status = raw_run(&raw, &callbacks, &err);
    cli_progress_end(&output.progress);
    if (status != SLUICE_OK) {
        return cli_fail(&err);
    }
    if (output.failed) {
        fprintf(stderr, "sluice: the results could not be written to standard output\n");
        return 1;
    }
    return 0;
}
