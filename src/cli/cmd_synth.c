/* `sluice synth`: a model of a published shape with random weights. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/limits.h"
#include "tools/synth.h"

#include <stdio.h>

static void on_progress(void *ctx, uint64_t done, uint64_t total) {
    struct cli_progress *progress = ctx;
    progress->total = total;
    cli_progress_update(progress, done);
}

int cmd_synth(int argc, char **argv) {
    const char *preset = NULL, *type = "Q4_K_M", *out = NULL;
    uint64_t seed = 1;
    uint32_t threads = 0;
    const struct cli_option options[] = {
        {'p', "preset", CLI_STRING, &preset, "P", "shape: " PRESET_NAMES, NULL},
        {0, "type", CLI_STRING, &type, "TYPE", MIX_NAMES "; default Q4_K_M", NULL},
        {0, "seed", CLI_U64, &seed, "S", "same seed, same file; default 1", NULL},
        {'o', "output", CLI_STRING, &out, "F", "the file to write", NULL},
        {'t', "threads", CLI_U32, &threads, "N", "threads; default: the cores this process may use", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "synth",
        .usage = "sluice synth --preset P [--type TYPE] [--seed S] -o F",
        .about = "Writes a model with the tensors, types and metadata of a published LFM2 model, random weights and a\n"
                 "made-up vocabulary: as fast and as large as the real one, for measuring without a download.",
        .example =
            "sluice synth --preset 8b-a1b -o synth-8b.gguf\nsluice synth --preset tiny-moe --type Q8_0 -o tiny.gguf",
        .options = options,
    };
    struct cli_args args;
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    if (!preset || !out) {
        return cli_usage_error(&command, "--preset and -o are needed");
    }
    struct synth_options job = {.preset = preset_by_name(preset),
                                .mix = mix_by_name(type),
                                .out = out,
                                .seed = seed,
                                .n_threads = threads,
                                .progress = on_progress};
    if (!job.preset) {
        return cli_usage_error(&command, "--preset is one of " PRESET_NAMES ", not \"%s\"", preset);
    }
    if (!job.mix) {
        return cli_usage_error(&command, "--type is one of " MIX_NAMES ", not \"%s\"", type);
    }
    if (threads > LIMIT_THREADS) {
        return cli_usage_error(&command, "-t takes at most %u", LIMIT_THREADS);
    }
    struct cli_progress progress;
    cli_progress_start(&progress, "synth", 0);
    job.ctx = &progress;
    struct synth_result result;
    sluice_error err;
    uint64_t start = clock_ns();
    sluice_status status = synth_file(&job, &result, &err);
    cli_progress_end(&progress);
    if (status != SLUICE_OK) {
        return cli_fail(&err);
    }
    char bytes[32];
    cli_format_bytes(result.tensor_bytes, bytes, sizeof bytes);
    printf("%s: %s %s, %llu weights, %s (%llu bytes) of tensors; %.1f s\n", out, job.preset->title, job.mix->name,
           (unsigned long long)result.n_weights, bytes, (unsigned long long)result.tensor_bytes,
           clock_ms_since(start) / 1000);
    return fflush(stdout) == 0 ? 0 : 1;
}
