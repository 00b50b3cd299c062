/* `sluice COMMAND ...`: finds the command and hands over. */
#include "cli/cli.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct entry {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *about;
};

static const struct entry commands[] = {
#if SLUICE_WITH_TEXT
    {"serve", cmd_serve, "OpenAI-compatible server"},
    {"run", cmd_run, "one answer on the terminal, or a chat"},
    {"bench", cmd_bench, "workloads over the API of any server"},
    {"ab", cmd_ab, "two servers or builds compared in turns"},
    {"check", cmd_check, "recompute a record's figures and check its chain"},
    {"compare", cmd_compare, "rows of records side by side, as far as they may be"},
    {"export", cmd_export, "records as CSV, Markdown, SQL or JSON"},
    {"report", cmd_report, "records as a site of pages"},
    {"import", cmd_import, "other tools' results as records"},
#endif
    {"raw", cmd_raw, "engine-only prefill and decode rates"},
    {"probe", cmd_probe, "what this machine's memory and cores allow"},
    {"inspect", cmd_inspect, "metadata, tensors and bytes per token of a GGUF"},
    {"quantize", cmd_quantize, "convert a GGUF to another type"},
    {"synth", cmd_synth, "write a model of a published shape with random weights"},
    {"logits", cmd_logits, "raw logits for given token ids"},
    {"kld", cmd_kld, "how true a backend is to the model"},
#if SLUICE_WITH_TEXT
    {"tokenize", cmd_tokenize, "text to token ids"},
    {"verify", cmd_verify, "check a downloaded LFM2-8B-A1B against its published figures"},
#endif
};

enum { n_commands = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *f) {
    fprintf(f, "sluice " SLUICE_VERSION " runs LFM2 models, serves them on the OpenAI API and measures them.\n\n"
               "usage: sluice COMMAND [options]\n\ncommands:\n");
    for (int i = 0; i < n_commands; i++) {
        fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].about);
    }
    fprintf(f, "\n`sluice COMMAND --help` explains a command and shows an example.\n"
               "Without -m MODEL a command uses the small model that ships with sluice.\n");
}

/* Started with a closed standard stream, a file or socket opened later would take its number, and the output. */
static void hold_standard_streams(void) {
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        close(fd);
    }
}

int main(int argc, char **argv) {
    hold_standard_streams();
    signal(SIGXFSZ, SIG_IGN); /* a file at its size limit is then a failed write with a sentence, not the end */
    if (argc < 2) {
        print_usage(stderr);
        return 2;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_usage(stdout);
        return 0;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        printf("sluice " SLUICE_VERSION "\n");
        return 0;
    }
    for (int i = 0; i < n_commands; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "sluice: there is no command \"%s\"; `sluice --help` lists them\n", name);
    return 2;
}
