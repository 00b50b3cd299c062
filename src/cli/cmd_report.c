/* `sluice report`: records as a site of pages. */
#include "cli/cli.h"

#include "base/buf.h"
#include "report/report.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t stopped;

static void on_signal(int number) {
    (void)number;
    stopped = 1;
}

static void on_progress(void *ctx, unsigned permille) {
    cli_progress_update(ctx, permille);
}

static const char *plural(size_t n) {
    return n == 1 ? "" : "s";
}

/* file:// and the path, with what a URL cannot hold as %XX. */
static void put_url(struct buf *b, const char *folder) {
    buf_puts(b, "file://");
    for (const char *c = folder; *c; c++) {
        bool plain =
            (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || strchr("/-._~", *c);
        buf_printf(b, plain ? "%c" : "%%%02X", (unsigned char)*c);
    }
    buf_puts(b, "/index.html");
}

static void put_summary(struct buf *b, const struct report_summary *s, bool plain, bool json) {
    char size[32];
    if (json) {
        buf_puts(b, "{\"folder\":");
        buf_json_string(b, s->folder, strlen(s->folder));
        buf_puts(b, ",\"url\":\"");
        put_url(b, s->folder);
        buf_printf(b,
                   "\",\"interactive\":%s,\"records\":%zu,\"runs\":%zu,\"rows\":%zu,\"models\":%zu,\"hardware\":%zu,"
                   "\"pages\":%zu,\"bytes\":%llu,\"wrong\":%zu}\n",
                   s->interactive ? "true" : "false", s->files, s->runs, s->rows, s->models, s->hardware, s->pages,
                   (unsigned long long)s->bytes, s->wrong);
        return;
    }
    cli_format_bytes(s->bytes, size, sizeof size);
    buf_printf(b, "%zu row%s of %zu run%s from %zu record%s: %zu page%s, %s%s\n", s->rows, plural(s->rows), s->runs,
               plural(s->runs), s->files, plural(s->files), s->pages, plural(s->pages), size,
               s->interactive || plain ? ""
                                       : "; plain tables, since this build has no web parts (`make deps && make`)");
    if (s->wrong) {
        buf_printf(b, "%zu finding%s of `sluice check` say that a record is wrong; the pages show them\n", s->wrong,
                   plural(s->wrong));
    }
    buf_puts(b, "open ");
    put_url(b, s->folder);
    buf_putc(b, '\n');
}

static int run(const struct cli_args *args, bool plain, bool json, bool quiet) {
    struct cli_progress progress;
    struct report_summary summary;
    sluice_error err;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND}; /* the second one ends at once */
    const struct report_options o = {.folder = args->positional[0],
                                     .records = args->positional + 1,
                                     .n_records = (size_t)args->n_positional - 1,
                                     .plain = plain,
                                     .progress = on_progress,
                                     .progress_ctx = &progress,
                                     .stop = &stopped};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    cli_progress_start(&progress, "report", 1000);
    progress.enabled = progress.enabled && !quiet;
    sluice_status status = report_write(&o, &summary, &err);
    cli_progress_end(&progress);
    if (status != SLUICE_OK) {
        return cli_fail(&err);
    }
    struct buf b = {0};
    if (json || !quiet) {
        put_summary(&b, &summary, plain, json);
    }
    bool ok = !b.failed && fwrite(b.data ? b.data : "", 1, b.len, stdout) == b.len && fflush(stdout) == 0;
    buf_free(&b);
    if (!ok) {
        fprintf(stderr, "sluice: the report is written; what it holds could not be printed\n");
    }
    return ok ? 0 : 1;
}

int cmd_report(int argc, char **argv) {
    bool plain = false, json = false, quiet = false;
    const struct cli_option options[] = {
        {0, "plain", CLI_FLAG, &plain, NULL, "whole tables in every page, no script", NULL},
        {0, "json", CLI_FLAG, &json, NULL, "print what was written as one JSON object", NULL},
        {'q', "quiet", CLI_FLAG, &quiet, NULL, "print nothing, and no progress bar", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "report",
        .usage = "sluice report OUT_DIR [RECORD...] [--plain] [--json] [-q]",
        .about =
            "Makes a site of records: an index of all rows, a page for every run, model and machine, and one that "
            "puts\n"
            "rows side by side as far as they may be compared. It opens from the folder and from any web server, and\n"
            "asks no other host. RECORD is a file or a folder of *.jsonl; without one, the records that come with\n"
            "sluice. What `sluice check` finds is shown where it belongs; every row leads to the line of the record\n"
            "that it stands in.\n"
            "OUT_DIR is new, empty, or an earlier report, which is replaced as a whole once all is written. Files of\n"
            "your own in its top level stay.",
        .example = "sluice report site\nsluice report site demo.jsonl bench/results\n"
                   "sluice bench --json - | sluice report site -",
        .options = options,
        .positional_max = 64,
    };
    struct cli_args args;
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    if (args.n_positional == 0) {
        return cli_usage_error(&command, "the folder for the report is missing");
    }
    return run(&args, plain, json, quiet);
}
