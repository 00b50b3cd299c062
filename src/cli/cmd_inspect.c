/* `sluice inspect`: metadata, tensors, sizes and bytes per token of a GGUF file. */
#include "cli/cli.h"

#include "tools/inspect.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int print(struct buf *out) {
    int code = 0;
    if (out->failed) {
        fprintf(stderr, "sluice: no memory to print this file\n");
        code = 1;
    } else if (fwrite(out->data, 1, out->len, stdout) != out->len || fflush(stdout) != 0) {
        fprintf(stderr, "sluice: cannot write the result: %s\n", strerror(errno));
        code = 1;
    }
    buf_free(out);
    return code;
}

int cmd_inspect(int argc, char **argv) {
    bool json = false, tensors = false, metadata = false;
    const struct cli_option options[] = {
        {0, "json", CLI_FLAG, &json, NULL, "everything as one JSON object", NULL},
        {0, "tensors", CLI_FLAG, &tensors, NULL, "list the tensors: name, type, shape, bytes, offset", NULL},
        {0, "metadata", CLI_FLAG, &metadata, NULL, "list the metadata only (or with --tensors, both)", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "inspect",
        .usage = "sluice inspect [FILE] [--json] [--tensors] [--metadata]",
        .about = "Shows what a GGUF file holds: metadata, sizes by type, and how many bytes of weights one decoded\n"
                 "token reads, by group and type. Without FILE: the model that ships with sluice.",
        .example = "sluice inspect model.gguf\nsluice inspect model.gguf --tensors\nsluice inspect model.gguf --json",
        .options = options,
        .positional_max = 1,
    };
    struct cli_args args;
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    char shipped[4096];
    const char *path = args.n_positional ? args.positional[0] : shipped;
    sluice_error err;
    if (!args.n_positional && sluice_default_model_path(shipped, sizeof shipped, &err) != SLUICE_OK) {
        return cli_fail(&err);
    }
    struct gguf_file *file;
    if (gguf_open(path, &file, &err) != SLUICE_OK) {
        return cli_fail(&err);
    }
    struct buf out = {0};
    if (json) {
        inspect_json(file, &out);
    } else {
        unsigned sections = (metadata ? INSPECT_METADATA : 0) | (tensors ? INSPECT_TENSORS : 0);
        inspect_text(file, sections ? sections : INSPECT_SUMMARY | INSPECT_METADATA, &out);
    }
    gguf_close(file);
    return print(&out);
}
