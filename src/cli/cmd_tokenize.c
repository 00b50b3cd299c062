/* `sluice tokenize`: text to token ids, as a table, a list, or line by line for other programs. */
#include "base/buf.h"
#include "base/json_text.h"
#include "base/status.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "text/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *model, *file;
    bool jsonl, special, bos, ids;
};

static sluice_status load(const char *path, struct tokenizer **out, sluice_error *err) {
    char shipped[4096];
    if (!path) {
        TRY(sluice_default_model_path(shipped, sizeof shipped, err));
        path = shipped;
    }
    struct gguf_file *file = NULL;
    TRY(gguf_open(path, &file, err)); /* not the whole model: a vocabulary-only file is enough */
    sluice_status status = tokenizer_load(file, out, err);
    gguf_close(file);
    return status;
}

static sluice_status encode(const struct tokenizer *t, const struct options *o, const char *s, size_t n,
                            struct token_vec *ids, sluice_error *err) {
    ids->n = 0;
    if (o->bos) {
        TRY(token_vec_push(ids, tokenizer_bos(t), err));
    }
    return tokenizer_encode(t, s, n, o->special, ids, err);
}

static sluice_status write_out(struct buf *out, sluice_error *err) {
    if (out->failed) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the output");
    }
    if (fwrite(out->data, 1, out->len, stdout) != out->len || fflush(stdout) != 0) {
        return fail(err, SLUICE_E_IO, "cannot write to standard output: %s", strerror(errno));
    }
    buf_reset(out);
    return SLUICE_OK;
}

/* [1, 2, 3] and a newline. Written by hand: printf costs more than the tokenizer. */
static void put_ids(struct buf *out, const struct token_vec *ids) {
    buf_putc(out, '[');
    for (size_t i = 0; i < ids->n; i++) {
        char text[16];
        size_t at = sizeof text;
        uint32_t v = (uint32_t)ids->ids[i];
        do {
            text[--at] = (char)('0' + v % 10);
            v /= 10;
        } while (v);
        if (i) {
            text[--at] = ' ';
            text[--at] = ',';
        }
        buf_append(out, text + at, sizeof text - at);
    }
    buf_puts(out, "]\n");
}

static void put_table(struct buf *out, const struct tokenizer *t, const struct token_vec *ids) {
    static const char *const kinds[] = {
        [TOKEN_UNKNOWN] = "  unknown", [TOKEN_CONTROL] = "  control", [TOKEN_USER_DEFINED] = "  user-defined",
        [TOKEN_UNUSED] = "  unused",   [TOKEN_BYTE] = "  byte",
    };
    for (size_t i = 0; i < ids->n; i++) {
        size_t n = 0;
        const char *bytes = tokenizer_bytes(t, ids->ids[i], &n);
        const char *kind = kinds[tokenizer_kind(t, ids->ids[i])];
        buf_printf(out, "%6zu %8d  ", i, ids->ids[i]);
        if (utf8_valid_prefix(bytes, n) == n) {
            buf_json_string(out, bytes, n);
        } else { /* part of a character */
            for (size_t k = 0; k < n; k++) {
                buf_printf(out, "<%02X>", (unsigned char)bytes[k]);
            }
        }
        buf_puts(out, kind ? kind : "");
        buf_putc(out, '\n');
    }
}

/* ---- The two ways ------------------------------------------------------------------------------------------------ */

static sluice_status one_line(const struct tokenizer *t, const struct options *o, const char *line, size_t n,
                              unsigned long number, struct buf *text, struct token_vec *ids, sluice_error *err) {
    char label[40];
    snprintf(label, sizeof label, "line %lu", number);
    struct json_reader in = json_reader_start(line, n, label, err);
    buf_reset(text);
    sluice_status status = json_string(&in, text);
    if (status == SLUICE_OK) {
        status = json_finish(&in);
    }
    json_reader_end(&in);
    TRY(status);
    return encode(t, o, text->data, text->len, ids, err);
}

static sluice_status every_line(const struct tokenizer *t, const struct options *o, FILE *in, sluice_error *err) {
    char *line = NULL;
    size_t cap = 0;
    struct buf text = {0}, out = {0};
    struct token_vec ids = {0};
    sluice_status status = SLUICE_OK;
    for (unsigned long number = 1; status == SLUICE_OK; number++) {
        ssize_t n = getline(&line, &cap, in);
        if (n < 0) {
            if (ferror(in)) {
                status = fail(err, SLUICE_E_IO, "cannot read line %lu: %s", number, strerror(errno));
            }
            break;
        }
        status = one_line(t, o, line, (size_t)n, number, &text, &ids, err);
        if (status == SLUICE_OK) {
            put_ids(&out, &ids);
            status = write_out(&out, err);
        }
    }
    free(line);
    buf_free(&text);
    buf_free(&out);
    token_vec_free(&ids);
    return status;
}

static sluice_status read_all(FILE *in, struct buf *text, sluice_error *err) {
    char block[65536];
    for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0;) {
        buf_append(text, block, n);
    }
    if (ferror(in)) {
        return fail(err, SLUICE_E_IO, "cannot read the text: %s", strerror(errno));
    }
    return text->failed ? fail(err, SLUICE_E_NOMEM, "no memory for the text") : SLUICE_OK;
}

/* words: the text on the command line, or NULL to read `in`. */
static sluice_status whole_text(const struct tokenizer *t, const struct options *o, const char *words, FILE *in,
                                sluice_error *err) {
    struct buf text = {0}, out = {0};
    struct token_vec ids = {0};
    sluice_status status = SLUICE_OK;
    if (words) {
        buf_puts(&text, words);
        status = text.failed ? fail(err, SLUICE_E_NOMEM, "no memory for the text") : SLUICE_OK;
    } else {
        status = read_all(in, &text, err);
    }
    if (status == SLUICE_OK) {
        status = encode(t, o, text.data, text.len, &ids, err);
    }
    if (status == SLUICE_OK) {
        if (o->ids) {
            put_ids(&out, &ids);
        } else {
            put_table(&out, t, &ids);
            buf_printf(&out, "%zu tokens, %zu bytes\n", ids.n, text.len);
        }
        status = write_out(&out, err);
    }
    buf_free(&text);
    buf_free(&out);
    token_vec_free(&ids);
    return status;
}

static sluice_status run(const struct options *o, const char *words, sluice_error *err) {
    struct tokenizer *t = NULL;
    FILE *in = stdin;
    sluice_status status = load(o->model, &t, err);
    if (status == SLUICE_OK && o->bos && tokenizer_bos(t) < 0) {
        status = fail(err, SLUICE_E_UNSUPPORTED, "this vocabulary names no BOS token, so --bos cannot put one first");
    }
    if (status == SLUICE_OK && o->file && strcmp(o->file, "-") != 0) {
        in = fopen(o->file, "rbe");
        if (!in) {
            status = fail(err, SLUICE_E_IO, "cannot open %s: %s", o->file, strerror(errno));
        }
    }
    if (status == SLUICE_OK) {
        status = o->jsonl ? every_line(t, o, in, err) : whole_text(t, o, words, in, err);
    }
    if (in && in != stdin) {
        fclose(in);
    }
    tokenizer_free(t);
    return status;
}

int cmd_tokenize(int argc, char **argv) {
    struct options o = {0};
    const struct cli_option options[] = {
        {'m', "model", CLI_STRING, &o.model, "FILE", "GGUF whose vocabulary to use, weights or not (default: shipped)"},
        {'f', "file", CLI_STRING, &o.file, "FILE", "read FILE instead of standard input"},
        {0, "jsonl", CLI_FLAG, &o.jsonl, NULL, "a JSON string per input line, an array of ids per output line"},
        {0, "ids", CLI_FLAG, &o.ids, NULL, "print one array of ids instead of the table"},
        {0, "special", CLI_FLAG, &o.special, NULL, "written-out control tokens become their ids (default: plain text)"},
        {0, "bos", CLI_FLAG, &o.bos, NULL, "put the BOS token first (default: not)"},
        {0},
    };
    const struct cli_command command = {
        .name = "tokenize",
        .usage = "sluice tokenize [-m MODEL] [options] [TEXT]",
        .about = "Prints the tokens of TEXT, or of standard input: position, id, text and kind of each.",
        .example = "sluice tokenize \"What is the capital of France?\"\n"
                   "sluice tokenize --ids --bos --special '<|im_start|>user'\n"
                   "printf '\"one\"\\n\"two\"\\n' | sluice tokenize -m model.gguf --jsonl",
        .options = options,
        .positional_max = 1,
    };
    struct cli_args args = {0};
    int rc = cli_parse(&command, argc, argv, &args);
    if (rc != CLI_RUN) {
        return rc;
    }
    const char *words = args.n_positional ? args.positional[0] : NULL;
    if (words && (o.jsonl || o.file)) {
        if (!o.jsonl || o.file) {
            return cli_usage_error(&command, "give a text or --file, not both");
        }
        o.file = words; /* with --jsonl the argument can only be a file */
    }
    sluice_error err = {0};
    if (run(&o, words, &err) == SLUICE_OK) {
        return 0;
    }
    cli_fail(&err);
    return 1; /* a bad line is bad data, not bad usage */
}
