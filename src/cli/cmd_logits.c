/* `sluice logits`: raw logits of given token ids, for comparing engines. */
#include "cli/cli.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "tools/logits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sink {
    FILE *out;
    const char *path;
    uint32_t n_vocab;
    struct cli_progress progress;
};

static sluice_status write_row(void *ctx, uint32_t pos, const float *logits, sluice_error *err) {
    struct sink *s = ctx;
    if (fwrite(logits, sizeof(float), s->n_vocab, s->out) != s->n_vocab) {
        return fail(err, SLUICE_E_IO, "%s: could not be written: %s", s->path, strerror(errno));
    }
    cli_progress_update(&s->progress, pos + 1);
    return SLUICE_OK;
}

/* Ids separated by white space. */
static sluice_status read_ids(const char *path, uint32_t n_vocab, int32_t **out, uint32_t *n, sluice_error *err) {
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (!f) {
        return fail(err, SLUICE_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    }
    int32_t *ids = NULL;
    uint32_t used = 0;
    uint32_t cap = 0;
    char word[32];
    int got;
    sluice_status status = SLUICE_OK;
    while ((got = fscanf(f, "%31s", word)) == 1) {
        char *end;
        long id = strtol(word, &end, 10);
        if (*end || id < 0 || (unsigned long)id >= n_vocab) {
            status = fail(err, SLUICE_E_ARG, "%s: \"%s\" (entry %u) is not a token id below %u", path, word, used + 1,
                          n_vocab);
            break;
        }
        if (used == cap) {
            cap = cap ? 2 * cap : 1024;
            int32_t *more = used < LIMIT_CONTEXT ? mem_realloc(ids, cap * sizeof *ids) : NULL;
            if (!more) {
                status = fail(err, SLUICE_E_LIMIT, "%s: more than %u ids, or no memory for them", path, used);
                break;
            }
            ids = more;
        }
        ids[used++] = (int32_t)id;
    }
    if (f != stdin) {
        fclose(f);
    }
    if (status == SLUICE_OK && used == 0) {
        status = fail(err, SLUICE_E_ARG, "%s: holds no token ids", path);
    }
    if (status != SLUICE_OK) {
        mem_free(ids);
        return status;
    }
    *out = ids;
    *n = used;
    return SLUICE_OK;
}

static sluice_status run(const char *model_path, const char *tokens_path, const char *backend, uint32_t threads,
                         const char *out_path, uint32_t ubatch, sluice_error *err) {
    char shipped[4096];
    if (!model_path) {
        TRY(sluice_default_model_path(shipped, sizeof shipped, err));
        model_path = shipped;
    }
    struct model *m;
    TRY(model_load(model_path, &m, err));
    int32_t *ids = NULL;
    uint32_t n = 0;
    struct sink s = {.path = out_path, .n_vocab = m->n_vocab};
    sluice_status status = read_ids(tokens_path, m->n_vocab, &ids, &n, err);
    if (status == SLUICE_OK) {
        s.out = strcmp(out_path, "-") == 0 ? stdout : fopen(out_path, "we");
        if (!s.out) {
            status = fail(err, SLUICE_E_IO, "%s: cannot be created: %s", out_path, strerror(errno));
        }
    }
    if (status == SLUICE_OK) {
        cli_progress_start(&s.progress, "logits", n);
        status = logits_run(m, backend, threads, ids, n, ubatch, write_row, &s, err);
        cli_progress_end(&s.progress);
        if ((s.out == stdout ? fflush(s.out) : fclose(s.out)) != 0 && status == SLUICE_OK) {
            status = fail(err, SLUICE_E_IO, "%s: could not be written: %s", out_path, strerror(errno));
        }
    }
    mem_free(ids);
    model_free(m);
    return status;
}

int cmd_logits(int argc, char **argv) {
    const char *model = NULL;
    const char *tokens = NULL;
    const char *backend = "auto";
    const char *out = NULL;
    uint32_t ubatch = 0;
    uint32_t threads = 0;
    const struct cli_option options[] = {
        {'m', "model", CLI_STRING, &model, "FILE", "GGUF file (default: the model that ships with sluice)", NULL},
        {0, "tokens", CLI_STRING, &tokens, "FILE", "token ids separated by white space; - reads stdin", NULL},
        {0, "backend", CLI_STRING, &backend, "NAME", "auto, cuda, cpu or ref (default auto)", NULL},
        {'o', "out", CLI_STRING, &out, "FILE", "little-endian F32 [n_tokens][n_vocab]; - writes stdout", NULL},
        {0, "ubatch", CLI_U32, &ubatch, "N", "tokens per step (default 64); the result does not depend on it", NULL},
        {'t', "threads", CLI_U32, &threads, "N", "CPU threads (default: all allowed)", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "logits",
        .usage = "sluice logits -m MODEL --tokens FILE -o OUT [options]",
        .about = "Computes the logits at every position of a token sequence and writes them as raw floats.",
        .example = "echo 1 6 6423 708 | sluice logits -m model.gguf --tokens - -o logits.f32\n"
                   "sluice logits -m model.gguf --tokens ids.txt --backend ref -o exact.f32",
        .options = options,
    };
    struct cli_args args;
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    if (!tokens || !out) {
        return cli_usage_error(&command, "%s is missing", tokens ? "-o OUT" : "--tokens FILE");
    }
    sluice_error err = {0};
    sluice_status status = run(model, tokens, backend, threads, out, ubatch, &err);
    return status == SLUICE_OK ? 0 : cli_fail(&err);
}
