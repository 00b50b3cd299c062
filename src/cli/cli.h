/*
 * The command line: dispatch, options, progress. One file per command (cmd_<name>.c) exports
 *     int cmd_<name>(int argc, char **argv)      argv[0] is the command's name
 * and is listed in main.c. Exit codes: 0 ok, 1 failed, 2 bad usage. Results go to stdout, everything else to stderr.
 */
#ifndef CLI_H
#define CLI_H

#include "sluice.h"

enum cli_kind {
    CLI_FLAG,   /* bool */
    CLI_STRING, /* const char * */
    CLI_U32,    /* uint32_t */
    CLI_U64,    /* uint64_t */
    CLI_FLOAT,  /* float, finite */
    CLI_SIZE,   /* uint64_t bytes; suffixes K, M, G (1024-based) */
};

struct cli_option {
    char letter;      /* 'm' for -m, 0 for none */
    const char *name; /* "model" for --model; NULL if only the letter exists */
    enum cli_kind kind;
    void *value;      /* filled when the option is given; its content before is the default */
    const char *arg;  /* placeholder in --help: "FILE"; NULL for flags */
    const char *help; /* one line; say the default */
    bool *given;      /* set true when the option is given; may be NULL */
};

struct cli_command {
    const char *name;
    const char *usage;                /* "sluice raw -m MODEL [options]" */
    const char *about;                /* what it does, a few lines */
    const char *example;              /* real command lines, one per line */
    const struct cli_option *options; /* ends with an entry whose letter and name are both 0 */
    int positional_max;
};

struct cli_args {
    const char *positional[64];
    int n_positional;
};

/* CLI_RUN: go on. Otherwise the exit code to return (0 after --help, 2 after a usage error that was printed). */
#define CLI_RUN (-1)
int cli_parse(const struct cli_command *command, int argc, char **argv, struct cli_args *out);
/* Prints "sluice: ..." and returns 1; 2 for SLUICE_E_ARG. */
int cli_fail(const sluice_error *err);
/* Prints a usage error and a pointer to --help; returns 2. */
__attribute__((format(printf, 2, 3))) int cli_usage_error(const struct cli_command *command, const char *fmt, ...);

/* The command as typed, for a record: a key, a password in a URL, and folders stay out of it. */
void cli_command_text(int argc, char **argv, char *out, size_t cap);

/* A progress bar on stderr, only if that is a terminal and only once a second has passed. */
struct cli_progress {
    const char *label;
    uint64_t total, start_ns, shown_ns;
    bool enabled, visible;
};
void cli_progress_start(struct cli_progress *p, const char *label, uint64_t total);
void cli_progress_update(struct cli_progress *p, uint64_t done);
void cli_progress_end(struct cli_progress *p);

/* "4.70 GiB" */
void cli_format_bytes(uint64_t bytes, char *out, size_t cap);

int cmd_serve(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_ab(int argc, char **argv);
int cmd_raw(int argc, char **argv);
int cmd_probe(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_quantize(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_logits(int argc, char **argv);
int cmd_kld(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_synth(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_report(int argc, char **argv);

#endif
