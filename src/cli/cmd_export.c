/* `sluice export`: records as CSV, Markdown, SQL or JSON. */
#include "cli/cli.h"

#include "base/status.h"
#include "record/export.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static sluice_status write_out(const char *path, const struct buf *b, sluice_error *err) {
    bool to_stdout = strcmp(path, "-") == 0;
    FILE *f = to_stdout ? stdout : fopen(path, "we");
    bool ok = f && fwrite(b->data, 1, b->len, f) == b->len && fflush(f) == 0;
    int reason = errno;
    if (f && !to_stdout && fclose(f) != 0 && ok) {
        ok = false;
        reason = errno;
    }
    return ok ? SLUICE_OK
              : fail(err, SLUICE_E_IO, "the export could not be written to %s: %s",
                     to_stdout ? "standard output" : path, strerror(reason));
}

static int run(const struct cli_args *args, enum export_format format, const char *out_path) {
    struct record *records[64] = {NULL};
    struct buf b = {0};
    sluice_error err;
    sluice_status status = SLUICE_OK;
    for (int i = 0; i < args->n_positional && status == SLUICE_OK; i++) {
        status = record_read(args->positional[i], &records[i], &err);
    }
    if (status == SLUICE_OK) {
        export_records((const struct record *const *)records, (size_t)args->n_positional, format, &b);
        status = b.failed ? fail(&err, SLUICE_E_NOMEM, "no memory for the export") : write_out(out_path, &b, &err);
    }
    buf_free(&b);
    for (int i = 0; i < args->n_positional; i++) {
        record_free(records[i]);
    }
    return status == SLUICE_OK ? 0 : cli_fail(&err);
}

int cmd_export(int argc, char **argv) {
    const char *name = "csv", *out_path = "-";
    const struct cli_option options[] = {
        {0, "format", CLI_STRING, &name, "NAME", "csv (default), md, sql or json", NULL},
        {'o', "output", CLI_STRING, &out_path, "FILE", "default \"-\", standard output", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "export",
        .usage = "sluice export RECORD... [--format csv|md|sql|json] [-o FILE]",
        .about = "Writes records in another form:\n"
                 "  csv   a line per row: what it ran on, and median, interval and n of every figure (RFC 4180)\n"
                 "  md    a Markdown table of the main figures\n"
                 "  sql   tables runs, rows, metrics and samples for sqlite3; several can be loaded into one database\n"
                 "  json  all lines in one document",
        .example = "sluice export demo.jsonl --format md\nsluice export bench/results/*.jsonl --format sql | sqlite3 "
                   "results.db\n"
                   "sluice export demo.jsonl -o demo.csv",
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
    for (int f = 0; f < EXPORT_FORMATS; f++) {
        if (strcmp(export_format_names[f], name) == 0) {
            return run(&args, (enum export_format)f, out_path);
        }
    }
    return cli_usage_error(&command, "there is no format \"%s\"; csv, md, sql and json exist", name);
}
