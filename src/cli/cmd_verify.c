/* `sluice verify`: a verdict per published figure of LFM2-8B-A1B. */
#include "cli/cli.h"

#include "tools/verify.h"

#include <stdio.h>
#include <unistd.h>

static void print_line(void *ctx, const struct verify_line *line) {
    (void)ctx;
    static const char *const words[] = {"ok", "DIFFERS", "skipped"};
    printf("%-8s %s: %s\n", words[line->verdict], line->name, line->detail);
    fflush(stdout);
}

int cmd_verify(int argc, char **argv) {
    const char *backend = "auto";
    uint32_t threads = 0;
    const struct cli_option options[] = {
        {0, "backend", CLI_STRING, &backend, "NAME", "auto, cuda, cpu or ref (default auto)", NULL},
        {'t', "threads", CLI_U32, &threads, "N", "CPU threads (default: all allowed)", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "verify",
        .usage = "sluice verify FILE [options]",
        .about = "Checks a downloaded LFM2-8B-A1B GGUF against what is published for it: shapes, sizes, token ids of\n"
                 "known texts, logits of a known sequence, a greedy continuation. One line per figure; exit code 1 if\n"
                 "any differs. It takes about a minute on two cores.",
        .example = "sluice verify LFM2-8B-A1B-Q4_K_M.gguf",
        .options = options,
        .positional_max = 1,
    };
    struct cli_args args;
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    if (args.n_positional != 1) {
        return cli_usage_error(&command, "FILE is missing");
    }
    sluice_error err = {0};
    uint32_t n_differ = 0;
    if (verify_file(args.positional[0], backend, threads, print_line, NULL, &n_differ, &err) != SLUICE_OK) {
        return cli_fail(&err);
    }
    printf(n_differ ? "%u of the figures differ: this is not the published LFM2-8B-A1B, or it is not computed rightly\n"
                    : "all figures agree\n",
           n_differ);
    return n_differ ? 1 : 0;
}
