/* `sluice check`: is a record what it says? */
#include "cli/cli.h"

#include "record/check.h"

#include <stdio.h>

static bool put(struct buf *b) {
    bool ok = !b->failed && fwrite(b->data ? b->data : "", 1, b->len, stdout) == b->len && fflush(stdout) == 0;
    buf_free(b);
    return ok;
}

/* 0 right, 1 wrong or unreadable. */
static int check_one(const char *path, bool json, bool quiet, const char *before) {
    struct check c;
    struct buf b = {0};
    sluice_error err;
    if (check_file(path, &c, &err) != SLUICE_OK) {
        return cli_fail(&err);
    }
    buf_puts(&b, before);
    if (json) {
        check_report_json(&c, path, &b);
    } else {
        check_report(&c, path, quiet ? FINDING_WRONG : FINDING_LEVELS - 1, &b);
    }
    bool wrong = c.n_level[FINDING_WRONG] > 0;
    check_free(&c);
    if (!put(&b)) {
        fprintf(stderr, "sluice: the report could not be written to standard output\n");
        return 1;
    }
    return wrong;
}

int cmd_check(int argc, char **argv) {
    bool json = false, quiet = false;
    const struct cli_option options[] = {
        {0, "json", CLI_FLAG, &json, NULL, "one JSON array, an object per file", NULL},
        {'q', "quiet", CLI_FLAG, &quiet, NULL, "print only what is wrong, and the line of totals", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "check",
        .usage = "sluice check RECORD... [--json] [-q]",
        .about = "Checks records (docs/records.md): the chain of lines, the form of every line, and every figure of "
                 "every row,\n"
                 "computed again from the row's samples. One sentence for each thing found, with file and line:\n"
                 "  wrong        the record contradicts itself, or was changed; the exit code is then 1\n"
                 "  invalid, noisy, unqualified, unverified, interrupted   what the record itself says of a row\n"
                 "  legacy       printed figures without samples: what they contradict among themselves\n"
                 "\"-\" is standard input.",
        .example =
            "sluice check demo.jsonl\nsluice check bench/results/*.jsonl -q\n"
            "sluice check bench/results/legacy-lfm2-8b-a1b-page.jsonl\nsluice bench --json - | sluice check - --json",
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
    code = 0;
    for (int i = 0; i < args.n_positional; i++) {
        int one = check_one(args.positional[i], json, quiet, !json ? "" : i ? ",\n" : "[");
        code = one ? one : code;
    }
    if (json) {
        printf("]\n");
    }
    return code;
}
