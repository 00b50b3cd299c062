/* `sluice quantize`: a model file in another quantisation level. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/limits.h"
#include "tools/quantize.h"

#include <stdio.h>

static void on_progress(void *ctx, uint64_t done, uint64_t total) {
    struct cli_progress *progress = ctx;
    progress->total = total;
    cli_progress_update(progress, done);
}

static void on_note(void *ctx, const char *text) {
    cli_progress_end(ctx);
    fprintf(stderr, "note: %s\n", text);
}

static int print_result(const char *out, const struct quantize_result *r, double seconds) {
    char before[32], after[32];
    cli_format_bytes(r->in_bytes, before, sizeof before);
    cli_format_bytes(r->out_bytes, after, sizeof after);
    printf("%s: %s -> %s, ", out, before, after);
    const char *comma = "";
    for (uint32_t t = 0; t < sizeof r->n_tensors / sizeof r->n_tensors[0]; t++) {
        if (r->n_tensors[t]) {
            printf("%s%u %s", comma, r->n_tensors[t], dtype_get(t)->name);
            comma = ", ";
        }
    }
    if (r->n_weights) {
        printf("; %.2f bits per weight", (double)r->tensor_bytes * 8 / (double)r->n_weights);
    }
    printf("; %.1f s\n", seconds);
    return fflush(stdout) == 0 ? 0 : 1;
}

int cmd_quantize(int argc, char **argv) {
    uint32_t threads = 0;
    const struct cli_option options[] = {
        {'t', "threads", CLI_U32, &threads, "N", "threads; default: the cores this process may use", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "quantize",
        .usage = "sluice quantize IN OUT TYPE [-t N]",
        .about = "Writes the model IN to OUT with its weights as TYPE: " MIX_NAMES ".\n"
                 "Each tensor gets the type that published files of that level give it; norms, routers and\n"
                 "convolution taps stay F32. Start from F16, BF16 or F32: quantising twice loses twice.",
        .example = "sluice quantize model-F16.gguf model-Q4_K_M.gguf Q4_K_M",
        .options = options,
        .positional_max = 3,
    };
    struct cli_args args;
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    if (args.n_positional != 3) {
        return cli_usage_error(&command, "IN, OUT and TYPE are needed");
    }
    const struct mix *mix = mix_by_name(args.positional[2]);
    if (!mix) {
        return cli_usage_error(&command, "TYPE is one of " MIX_NAMES ", not \"%s\"", args.positional[2]);
    }
    if (threads > LIMIT_THREADS) {
        return cli_usage_error(&command, "-t takes at most %u", LIMIT_THREADS);
    }
    struct cli_progress progress;
    cli_progress_start(&progress, "quantize", 0);
    struct quantize_options job = {.in = args.positional[0],
                                   .out = args.positional[1],
                                   .mix = mix,
                                   .n_threads = threads,
                                   .progress = on_progress,
                                   .note = on_note,
                                   .ctx = &progress};
    struct quantize_result result;
    sluice_error err;
    uint64_t start = clock_ns();
    sluice_status status = quantize_file(&job, &result, &err);
    cli_progress_end(&progress);
    if (status != SLUICE_OK) {
        return cli_fail(&err);
    }
    return print_result(job.out, &result, clock_ms_since(start) / 1000);
}
