/* `sluice kld`: how true a backend is to the model, against a reference that plain F32 made. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "backend/backend.h"
#include "tools/quality.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX (1u << 20)

struct args {
    const char *model, *reference, *make, *text, *tokens, *backend;
    uint32_t positions, threads;
    bool json;
};

static void on_progress(void *ctx, uint64_t done) {
    cli_progress_update(ctx, done);
}

static sluice_status read_text(const char *path, struct buf *out, sluice_error *err) {
    char block[4096];
    size_t n;
    FILE *f = fopen(path, "re");
    if (!f) {
        return fail(err, SLUICE_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    }
    while (out->len < TEXT_MAX && (n = fread(block, 1, sizeof block, f)) > 0) {
        buf_append(out, block, n);
    }
    bool bad = ferror(f) != 0;
    fclose(f);
    if (bad || out->failed || out->len == 0) {
        return fail(err, SLUICE_E_IO, "%s: %s", path,
                    bad           ? "could not be read"
                    : out->failed ? "no memory for it"
                                  : "is empty");
    }
    return SLUICE_OK;
}

/* The ids of a file with numbers, at most `most`. */
static sluice_status read_tokens(const char *path, uint32_t n_vocab, uint32_t most, int32_t *ids, uint32_t *n,
                                 sluice_error *err) {
    char word[32];
    FILE *f = fopen(path, "re");
    if (!f) {
        return fail(err, SLUICE_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    }
    sluice_status status = SLUICE_OK;
    for (*n = 0; status == SLUICE_OK && *n < most && fscanf(f, "%31s", word) == 1;) {
        char *end;
        long v = strtol(word, &end, 10);
        if (*end || v < 0 || (unsigned long)v >= n_vocab) {
            status = fail(err, SLUICE_E_ARG, "%s: \"%s\" is not a token id below %u", path, word, n_vocab);
        } else {
            ids[(*n)++] = (int32_t)v;
        }
    }
    fclose(f);
    return status == SLUICE_OK && *n == 0 ? fail(err, SLUICE_E_ARG, "%s: holds no token ids", path) : status;
}

static sluice_status text_tokens(const struct args *a, const sluice_model *whole, int32_t *ids, uint32_t *n,
                                 sluice_error *err) {
    struct buf text = {0};
    int32_t *all = NULL;
    size_t n_all = 0;
    sluice_status status = read_text(a->text, &text, err);
    if (status == SLUICE_OK) {
        status = sluice_tokenize(whole, text.data, text.len, SLUICE_TOK_BOS, &all, &n_all, err);
    }
    if (status == SLUICE_OK) {
        *n = n_all < a->positions ? (uint32_t)n_all : a->positions;
        memcpy(ids, all, *n * sizeof *ids);
    }
    free(all);
    buf_free(&text);
    return status;
}

static sluice_status make(const struct args *a, const struct model *m, const sluice_model *whole, const char *sha256,
                          sluice_error *err) {
    uint32_t n = 0;
    int32_t *ids = mem_alloc(QUALITY_LIMIT * sizeof *ids);
    struct cli_progress bar;
    struct quality_progress progress = {.ctx = &bar, .update = on_progress};
    if (!ids) {
        return fail(err, SLUICE_E_NOMEM, "no memory for %u token ids", QUALITY_LIMIT);
    }
    sluice_status status = a->tokens ? read_tokens(a->tokens, m->n_vocab, a->positions, ids, &n, err)
                                     : text_tokens(a, whole, ids, &n, err);
    if (status == SLUICE_OK) {
        cli_progress_start(&bar, "reference", n);
        status = quality_make(m, sha256, a->threads, ids, n, a->make, &progress, err);
        cli_progress_end(&bar);
    }
    if (status == SLUICE_OK) {
        fprintf(stderr, "%s: %u positions\n", a->make, n);
    }
    mem_free(ids);
    return status;
}

static void print(const struct args *a, const struct quality_result *r) {
    char why[160];
    quality_judge(r, why, sizeof why);
    if (a->json) {
        printf(
            "{\"backend\":\"%s\",\"positions\":%u,\"kl_mean\":%.6g,\"kl_median\":%.6g,\"kl_p999\":%.6g,\"kl_max\":%.6g,"
            "\"top1_agreement\":%.6g,\"qualified\":%s}\n",
            a->backend, r->n, r->kl_mean, r->kl_median, r->kl_p999, r->kl_max, r->top1_agreement,
            why[0] ? "false" : "true");
        return;
    }
    printf("positions        %u\nKL mean          %.3g\nKL median        %.3g\nKL 99.9%%         %.3g\nKL greatest     "
           " %.3g\n"
           "same first token %.2f%%\nverdict          %s%s\n",
           r->n, r->kl_mean, r->kl_median, r->kl_p999, r->kl_max, 100 * r->top1_agreement,
           why[0] ? "not qualified: " : "qualified", why);
}

static sluice_status compare(const struct args *a, const struct model *m, const char *sha256, sluice_error *err) {
    struct quality_reference reference;
    struct quality_result result;
    struct cli_progress bar;
    struct quality_progress progress = {.ctx = &bar, .update = on_progress};
    TRY(quality_read(a->reference, &reference, err));
    cli_progress_start(&bar, "positions", reference.n);
    sluice_status status = quality_measure(m, sha256, a->backend, a->threads, &reference, &progress, &result, err);
    cli_progress_end(&bar);
    quality_free(&reference);
    if (status == SLUICE_OK) {
        print(a, &result);
    }
    return status;
}

static sluice_status run(const struct args *a, sluice_error *err) {
    char shipped[4096];
    char sha256[65] = "";
    const char *path = a->model;
    struct model *m = NULL;
    sluice_model *whole = NULL;
    if (!path) {
        TRY(sluice_default_model_path(shipped, sizeof shipped, err));
        path = shipped;
    }
    sluice_status status = sluice_model_load(path, &whole, err);
    if (status == SLUICE_OK) {
        sluice_status hashed = sluice_model_sha256(whole, -1, sha256, err);
        status = hashed == SLUICE_E_UNSUPPORTED ? SLUICE_OK : hashed; /* without it the file's size has to do */
    }
    if (status == SLUICE_OK) {
        status = model_load(path, &m, err);
    }
    if (status == SLUICE_OK) {
        status = a->make ? make(a, m, whole, sha256, err) : compare(a, m, sha256, err);
    }
    if (m) {
        model_free(m);
    }
    if (whole) {
        sluice_model_free(whole);
    }
    return status;
}

int cmd_kld(int argc, char **argv) {
    struct args a = {.backend = "auto", .positions = QUALITY_POSITIONS};
    const struct cli_option options[] = {
        {'m', "model", CLI_STRING, &a.model, "FILE", "GGUF file (default: the model that ships with sluice)", NULL},
        {0, "reference", CLI_STRING, &a.reference, "FILE", "what plain F32 computed; made by --make", NULL},
        {0, "make", CLI_STRING, &a.make, "FILE", "make a reference; slow, once per model file", NULL},
        {0, "text", CLI_STRING, &a.text, "FILE", "the text that --make uses", NULL},
        {0, "tokens", CLI_STRING, &a.tokens, "FILE", "token ids that --make uses instead, separated by white space",
         NULL},
        {'n', "positions", CLI_U32, &a.positions, "N", "most tokens that --make takes (default 256)", NULL},
        {0, "backend", CLI_STRING, &a.backend, "NAME", "what is judged: auto, cuda, cpu or ref (default auto)", NULL},
        {'t', "threads", CLI_U32, &a.threads, "N", "CPU threads (default: all allowed)", NULL},
        {0, "json", CLI_FLAG, &a.json, NULL, "one JSON object on stdout", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "kld",
        .usage = "sluice kld -m MODEL --reference FILE [--backend B] | --make FILE (--text F | --tokens F)",
        .about = "Measures how far a backend's next-token probabilities are from the model's own (Kullback-Leibler\n"
                 "divergence, and how often the likeliest token is the same), against a reference that the plain F32\n"
                 "backend made. `bench` puts the same figures beside the speed.",
        .example = "sluice kld -m model.gguf --make model.reference --text page.txt\n"
                   "sluice kld -m model.gguf --reference model.reference --backend cuda",
        .options = options,
    };
    struct cli_args args;
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    if (!a.reference == !a.make) {
        return cli_usage_error(&command, "give either --reference FILE or --make FILE");
    }
    if (a.make && !a.text == !a.tokens) {
        return cli_usage_error(&command, "--make needs either --text FILE or --tokens FILE");
    }
    if (a.positions == 0 || a.positions > QUALITY_LIMIT) {
        return cli_usage_error(&command, "-n takes 1 to %u", QUALITY_LIMIT);
    }
    sluice_error err = {0};
    sluice_status status = run(&a, &err);
    return status == SLUICE_OK ? 0 : cli_fail(&err);
}
