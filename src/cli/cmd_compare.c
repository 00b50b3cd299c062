/* `sluice compare`: rows of records side by side, as far as they may be compared. */
#include "cli/cli.h"

#include "base/status.h"
#include "record/compare.h"

#include <stdio.h>
#include <string.h>

static int run(const struct cli_args *args, const struct compare_options *o) {
    struct record *records[64] = {NULL};
    struct compare_table t = {0};
    struct buf b = {0};
    sluice_error err;
    sluice_status status = SLUICE_OK;
    for (int i = 0; i < args->n_positional && status == SLUICE_OK; i++) {
        status = record_read(args->positional[i], &records[i], &err);
        if (status == SLUICE_OK) {
            status = compare_add(&t, records[i], &err);
        }
    }
    if (status == SLUICE_OK) {
        status = compare_report(&t, o, &b, &err);
    }
    if (status == SLUICE_OK && b.len && (fwrite(b.data, 1, b.len, stdout) != b.len || fflush(stdout) != 0)) {
        status = fail(&err, SLUICE_E_IO, "the comparison could not be written to standard output");
    }
    buf_free(&b);
    compare_free(&t);
    for (int i = 0; i < args->n_positional; i++) {
        record_free(records[i]);
    }
    return status == SLUICE_OK ? 0 : cli_fail(&err);
}

int cmd_compare(int argc, char **argv) {
    struct compare_options o = {0};
    const struct cli_option options[] = {
        {0, "metric", CLI_STRING, &o.metric, "NAME", "the figure; default decode_tok_s, of raw rows tok_s", NULL},
        {0, "json", CLI_FLAG, &o.json, NULL, "one JSON array, with the keys of every row", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "compare",
        .usage = "sluice compare RECORD [RECORD...] [--metric NAME] [--json]",
        .about = "Puts rows side by side, by workload, concurrency and cache, each against the first that is fit. A "
                 "ratio of medians\n"
                 "stands only where both did the same work, neither is invalid, the cache state is verified and both "
                 "or neither\n"
                 "have measured quality; otherwise the fields that differ, or the reason. Ratios here are not paired: "
                 "`sluice ab`\n"
                 "tells small differences from noise.",
        .example =
            "sluice compare before.jsonl after.jsonl\nsluice compare demo.jsonl bench/results/*.jsonl --metric ttft_ms",
        .options = options,
        .positional_max = 64,
    };
    struct cli_args args;
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    if (args.n_positional == 0) {
        return cli_usage_error(&command, "a record is missing");
    }
    if (o.metric) {
        const char *const *name = row_metric_names;
        while (*name && strcmp(*name, o.metric) != 0) {
            name++;
        }
        if (!*name) {
            return cli_usage_error(&command, "there is no figure \"%s\"; docs/records.md lists them under metrics",
                                   o.metric);
        }
    }
    return run(&args, &o);
}
