/* `sluice probe`: what this machine's memory and cores allow. */
#include "cli/cli.h"

#include "tools/probe.h"

#include <stdio.h>

static void on_progress(void *ctx, uint64_t done, uint64_t total) {
    struct cli_progress *progress = ctx;
    progress->total = total;
    cli_progress_update(progress, done);
}

int cmd_probe(int argc, char **argv) {
    uint32_t threads = 0;
    float seconds = 5;
    bool json = false;
    bool cpu = false; /* the processor is all that is measured here */
    const struct cli_option options[] = {
        {'t', "threads", CLI_U32, &threads, "N", "most threads to try; default: the cores this process may use", NULL},
        {0, "seconds", CLI_FLOAT, &seconds, "S", "time for everything together; default 5, longer is steadier", NULL},
        {0, "cpu", CLI_FLAG, &cpu, NULL, "memory and cores only", NULL},
        {0, "json", CLI_FLAG, &json, NULL, "one JSON object on stdout", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "probe",
        .usage = "sluice probe [-t N] [--seconds S] [--cpu] [--json]",
        .about =
            "Measures memory bandwidth (read, write, copy) by number of threads, the cost of a barrier, and\n"
            "multiply-add rates by instruction set (f32, bf16, int8), with the spread of the passes. These are the\n"
            "limits that `raw` and `bench` give shares of.",
        .example = "sluice probe\nsluice probe --seconds 20 --json > probe.json",
        .options = options,
    };
    struct cli_args args;
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    if (!(seconds > 0) || seconds > 3600) {
        return cli_usage_error(&command, "--seconds takes more than 0 and at most 3600");
    }
    if (threads > LIMIT_THREADS) {
        return cli_usage_error(&command, "-t takes at most %u", LIMIT_THREADS);
    }
    struct cli_progress progress;
    cli_progress_start(&progress, "probe", 100);
    struct probe_options probe = {
        .n_threads = threads, .seconds = seconds, .progress = on_progress, .progress_ctx = &progress};
    struct probe_report report;
    sluice_error err;
    sluice_status status = probe_run(&probe, &report, &err);
    cli_progress_end(&progress);
    if (status != SLUICE_OK) {
        return cli_fail(&err);
    }
    struct buf out = {0};
    if (json) {
        probe_report_json(&out, &report);
        buf_putc(&out, '\n');
    } else {
        probe_report_text(&out, &report);
    }
    if (out.failed || fwrite(out.data, 1, out.len, stdout) != out.len || fflush(stdout) != 0) {
        buf_free(&out);
        fprintf(stderr, "sluice: the result could not be written to standard output\n");
        return 1;
    }
    buf_free(&out);
    return 0;
}
