/* `sluice import`: other tools' results as records. */
#include "cli/cli.h"

#include "record/import.h"

#include <stdio.h>
#include <string.h>

static bool find_format(const char *name, enum import_format *out) {
    for (int f = 0; f < IMPORT_FORMATS; f++) {
        if (strcmp(import_format_names[f], name) == 0) {
            *out = (enum import_format)f;
            return true;
        }
    }
    return false;
}

static int run(const struct cli_args *args, const struct import_options *options, const char *out_path, bool append) {
    struct record_writer *out = NULL;
    struct import_summary s;
    sluice_error err;
    sluice_status status = record_writer_open(out_path, append, &out, &err);
    for (int i = 0; i < args->n_positional && status == SLUICE_OK; i++) {
        status = import_file(args->positional[i], options, out, &s, &err);
        if (status == SLUICE_OK) {
            fprintf(stderr, "%s: %s: %zu record%s, %zu row%s, %zu sample%s, %zu deviation%s\n", args->positional[i],
                    import_format_names[s.format], s.n_records, s.n_records == 1 ? "" : "s", s.n_rows,
                    s.n_rows == 1 ? "" : "s", s.n_samples, s.n_samples == 1 ? "" : "s", s.n_deviations,
                    s.n_deviations == 1 ? "" : "s");
        }
    }
    sluice_error closing;
    if (record_writer_close(out, &closing) != SLUICE_OK && status == SLUICE_OK) {
        status = closing.status;
        err = closing;
    }
    return status == SLUICE_OK ? 0 : cli_fail(&err);
}

int cmd_import(int argc, char **argv) {
    const char *format = "auto", *out_path = "-";
    bool append = false;
    struct import_options o = {.format = IMPORT_AUTO};
    const struct cli_option options[] = {
        {0, "format", CLI_STRING, &format, "NAME",
         "auto (default), llama-bench-json, llama-bench-sql, vllm-bench-json, aiperf-json, page", NULL},
        {'o', "output", CLI_STRING, &out_path, "FILE", "the record to write; default \"-\", standard output", NULL},
        {0, "append", CLI_FLAG, &append, NULL, "go on with an existing record instead of replacing it", NULL},
        {0, "url", CLI_STRING, &o.url, "URL", "where the source was found; kept in the record", NULL},
        {0, "label", CLI_STRING, &o.label, "TEXT", "a name for the rows; default: what the source calls them", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "import",
        .usage = "sluice import FILE... [--format NAME] [-o RECORD] [--append] [--url URL] [--label TEXT]",
        .about =
            "Makes records (docs/records.md) of what other tools wrote: llama-bench -o json, jsonl or sql; vllm bench "
            "serve\n"
            "--save-result; AIPerf's profile_export_aiperf.json and profile_export.jsonl; the text of a results page.\n"
            "Where the source kept its samples every figure is computed from them; otherwise a row holds what was "
            "printed,\n"
            "and says so. What does not fit together in the source is written into its rows.",
        .example = "llama-bench -m model.gguf -o json | sluice import - -o llama-bench.jsonl\n"
                   "sluice import vllm-result.json -o vllm.jsonl --label \"vLLM, 8 streams\"\n"
                   "sluice import --format page page.txt --url https://example.org/page -o page.jsonl",
        .options = options,
        .positional_max = 64,
    };
    struct cli_args args;
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    if (args.n_positional == 0) {
        return cli_usage_error(&command, "a file to import is missing");
    }
    if (!find_format(format, &o.format)) {
        return cli_usage_error(&command, "there is no format \"%s\"", format);
    }
    return run(&args, &o, out_path, append);
}
