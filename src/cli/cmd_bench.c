/* `sluice bench`: workloads over the API of a running server, or of one started for the purpose. */
#include "cli/cli.h"

#include "base/mem.h"
#include "base/status.h"
#include "bench/bench.h"
#include "bench/child.h"
#include "bench/client.h"
#include "tools/probe.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define PROBE_SECONDS 0.5

struct args {
    const char *url, *model_name, *api_key, *model_path, *suite, *json_path;
    uint32_t silence_s;
    bool ignore_eos;
};

struct output {
    bool table;
    bool headed, failed;
    struct cli_progress progress;
};

static atomic_bool stop;

static void on_signal(int sig) {
    (void)sig;
    atomic_store(&stop, true);
}

/* A second signal ends the program at once. */
static void catch_signals(void) {
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

static void put(struct output *o, struct buf *b) {
    cli_progress_end(&o->progress);
    if (b->failed || fwrite(b->data, 1, b->len, stdout) != b->len || fflush(stdout) != 0) {
        o->failed = true;
    }
    buf_free(b);
}

static void on_progress(void *ctx, const char *row, uint64_t done, uint64_t total) {
    struct output *o = ctx;
    o->progress.label = row;
    o->progress.total = total;
    cli_progress_update(&o->progress, done);
}

static void on_row(void *ctx, const struct bench_record *record, const struct row *row) {
    struct output *o = ctx;
    struct buf b = {0};
    if (o->table) {
        if (!o->headed) {
            bench_table_head(&b, record);
            o->headed = true;
        }
        bench_table_row(&b, row);
        put(o, &b);
    }
}

/* The command as typed, for the record; a key, a password in a URL and folders stay out of it. */
static void join_command(int argc, char **argv, char *out, size_t cap) {
    struct buf b = {0};
    buf_puts(&b, "sluice");
    for (int i = 0; i < argc; i++) {
        const char *a = argv[i];
        const char *scheme = strstr(a, "://");
        const char *at = scheme ? strrchr(scheme, '@') : NULL;
        const char *slash = a[0] == '-' || scheme ? NULL : strrchr(a, '/');
        if ((i > 0 && strcmp(argv[i - 1], "--api-key") == 0) || strncmp(a, "--api-key=", 10) == 0) {
            buf_puts(&b, strncmp(a, "--api-key=", 10) == 0 ? " --api-key=***" : " ***");
        } else if (at) {
            buf_printf(&b, " %.*s%s", (int)(scheme + 3 - a), a, at + 1);
        } else {
            buf_printf(&b, " %s", slash ? slash + 1 : a);
        }
    }
    snprintf(out, cap, "%s", b.failed ? "" : b.data);
    buf_free(&b);
}

static sluice_status describe_file(const char *path, struct bench_model_file *out, sluice_error *err) {
    sluice_model *model;
    TRY(sluice_model_load(path, &model, err));
    const sluice_model_info *info = sluice_model_get_info(model);
    const char *slash = strrchr(path, '/');
    snprintf(out->name, sizeof out->name, "%s", slash ? slash + 1 : path);
    snprintf(out->architecture, sizeof out->architecture, "%s", info->architecture);
    snprintf(out->quantization, sizeof out->quantization, "%s", info->quantization);
    out->bytes = info->file_bytes;
    out->n_params = info->n_params;
    out->decode_bytes = info->decode_bytes;
    out->kv_bytes_per_token = info->kv_bytes_per_token;
    sluice_model_free(model);
    return SLUICE_OK;
}

/* Starts `<this program> serve` with as many slots as the widest row needs. */
static sluice_status start_server(const char *model_path, const struct suite *suite, struct child **out, char *url,
                                  size_t cap, sluice_error *err) {
    char self[4096];
    char slots[16];
    uint32_t widest = 1;
    for (uint32_t i = 0; i < suite->n_cells; i++) {
        widest = suite->cells[i].concurrency > widest ? suite->cells[i].concurrency : widest;
    }
    snprintf(slots, sizeof slots, "%u", widest);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) {
        return fail(err, SLUICE_E_IO, "the path of this program is unknown (%s); start `sluice serve` and use --url",
                    strerror(errno));
    }
    self[n] = '\0';
    char *argv[] = {self,  (char *)"serve", (char *)"--port",   (char *)"0", (char *)"--slots",
                    slots, (char *)"-m",    (char *)model_path, NULL};
    return child_start(argv, &stop, out, url, cap, err);
}

static sluice_status measure(const struct args *args, struct output *output, struct bench_record *record,
                             sluice_error *err) {
    char url[256];
    struct child *server = NULL;
    struct suite suite;
    uint64_t nonce = 0;
    env_read(&record->env);
    if (args->model_path) {
        TRY(describe_file(args->model_path, &record->file, err));
        if (!args->url || client_is_loopback(args->url)) { /* another machine's limit is not known here */
            record->read_gb_s = probe_read_bandwidth(0, PROBE_SECONDS, NULL); /* 0: no share is given, the rest is */
        }
    }
    (void)suite_get(args->suite, 0, &suite);
    if (!args->url) {
        record->own_server = true;
        TRY(start_server(args->model_path, &suite, &server, url, sizeof url, err));
    }
    if (getrandom(&nonce, sizeof nonce, 0) != sizeof nonce) {
        nonce = (uint64_t)getpid();
    }
    struct bench_options options = {
        .url = args->url ? args->url : url,
        .api_key = args->api_key,
        .model = args->model_name,
        .suite = args->suite,
        .silence_s = args->silence_s,
        .ignore_eos = args->ignore_eos,
        .nonce = nonce % 1000000000,
        .stop = &stop,
        .ctx = output,
        .on_progress = on_progress,
        .on_row = on_row,
    };
    sluice_status status = client_global_init(err);
    if (status == SLUICE_OK) {
        status = bench_run(&options, record, err);
        client_global_free();
    }
    child_stop(server);
    record->steal_share = env_steal_share(&record->env);
    return status;
}

/* "-" is stdout; a .jsonl file collects records, any other is replaced. */
static sluice_status write_json(const char *path, const struct bench_record *record, sluice_error *err) {
    struct buf b = {0};
    bench_record_json(&b, record);
    buf_putc(&b, '\n');
    if (b.failed) {
        buf_free(&b);
        return fail(err, SLUICE_E_NOMEM, "no memory for the record");
    }
    bool to_stdout = strcmp(path, "-") == 0;
    size_t n = strlen(path);
    bool append = n > 6 && strcmp(path + n - 6, ".jsonl") == 0;
    FILE *f = to_stdout ? stdout : fopen(path, append ? "ae" : "we");
    bool ok = f && fwrite(b.data, 1, b.len, f) == b.len && fflush(f) == 0;
    int reason = errno;
    if (f && !to_stdout) {
        ok = fclose(f) == 0 && ok;
    }
    buf_free(&b);
    return ok ? SLUICE_OK : fail(err, SLUICE_E_IO, "the record could not be written to %s: %s", path, strerror(reason));
}

/* Before minutes of measuring: can the result be kept? */
static sluice_status check_writable(const char *path, sluice_error *err) {
    if (!path || strcmp(path, "-") == 0) {
        return SLUICE_OK;
    }
    bool existed = access(path, F_OK) == 0;
    FILE *f = fopen(path, "ae");
    if (!f) {
        return fail(err, SLUICE_E_IO, "the record cannot be written to %s: %s", path, strerror(errno));
    }
    fclose(f);
    if (!existed) {
        remove(path);
    }
    return SLUICE_OK;
}

static int run(const struct args *args, struct bench_record *record) {
    sluice_error err;
    struct output output = {.table = !args->json_path || strcmp(args->json_path, "-") != 0};
    if (check_writable(args->json_path, &err) != SLUICE_OK) {
        return cli_fail(&err);
    }
    catch_signals();
    cli_progress_start(&output.progress, "bench", 1);
    sluice_status status = measure(args, &output, record, &err);
    cli_progress_end(&output.progress);
    if (status != SLUICE_OK) {
        return cli_fail(&err);
    }
    if (output.table) {
        struct buf b = {0};
        bench_table_foot(&b, record);
        put(&output, &b);
    }
    if (args->json_path && write_json(args->json_path, record, &err) != SLUICE_OK) {
        return cli_fail(&err);
    }
    uint32_t failed = bench_record_failed(record);
    if (failed) {
        const char *first = "";
        for (uint32_t i = 0; i < record->n_rows && !first[0]; i++) {
            first = record->rows[i].error;
        }
        fprintf(stderr, "sluice: %u request%s failed; the first: %s\n", failed, failed == 1 ? "" : "s", first);
        return 1;
    }
    if (output.failed) {
        fprintf(stderr, "sluice: the table could not be written to standard output\n");
        return 1;
    }
    return 0;
}

int cmd_bench(int argc, char **argv) {
    struct args a = {.suite = "quick", .silence_s = 600};
    const struct cli_option options[] = {
        {0, "url", CLI_STRING, &a.url, "URL", "a running server; default: one is started for the run", NULL},
        {'m', "model-file", CLI_STRING, &a.model_path, "FILE",
         "GGUF to serve; default: the model that ships. With --url: the file that server runs", NULL},
        {0, "model", CLI_STRING, &a.model_name, "NAME", "model name to ask for; default: the first the server lists",
         NULL},
        {0, "api-key", CLI_STRING, &a.api_key, "KEY", "sent as bearer token; never recorded", NULL},
        {0, "suite", CLI_STRING, &a.suite, "NAME", "quick, page, depth or load; default quick", NULL},
        {0, "json", CLI_STRING, &a.json_path, "FILE", "write the record; - = stdout; *.jsonl is appended to", NULL},
        {0, "timeout", CLI_U32, &a.silence_s, "S", "give a request up after so many silent seconds; default 600", NULL},
        {0, "ignore-eos", CLI_FLAG, &a.ignore_eos, NULL, "ask for answers of full length (not all servers know it)",
         NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "bench",
        .usage = "sluice bench [--url URL] [--model NAME] [-m FILE] [--suite NAME] [--json FILE]",
        .about = "Measures an OpenAI-compatible server with streamed chat completions at temperature 0. Every prompt "
                 "opens with a\n"
                 "number of its own, so no prefix cache helps. Figures are medians over the requests:\n"
                 "  decode     1000 / TPOT; TPOT = (last token - first token) / (output tokens - 1)\n"
                 "  client     output tokens / total time        prefill  computed prompt tokens / TTFT\n"
                 "  aggregate  all output tokens of a round of c requests sent together / its time\n"
                 "Suites: quick (within 40 s: 1 warm-up, up to 3 runs), page (chat, codegen, rag, agent, agent at 4; 2 "
                 "warm-ups,\n"
                 "5 runs), depth (prompts from 256 tokens up to the context), load (agent at 1, 2, 4, 8).\n"
                 "Exit code 1 when a request failed; the record then says which and why.",
        .example = "sluice bench\nsluice bench --url http://127.0.0.1:8080 --suite page --json result.json\n"
                   "sluice bench -m LFM2-8B-A1B-Q4_K_M.gguf --suite load --json - | python3 -m json.tool",
        .options = options,
    };
    struct cli_args args;
    struct suite suite;
    sluice_error err;
    char shipped[4096]; /* the model's path, or the server's URL without decoration */
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    if (!suite_get(a.suite, 0, &suite)) {
        return cli_usage_error(&command, "there is no suite \"%s\"; quick, page, depth and load exist", a.suite);
    }
    if (a.silence_s == 0 || a.silence_s > 86400) {
        return cli_usage_error(&command, "--timeout takes 1 to 86400 seconds");
    }
    if (a.url) {
        if (client_base_url(a.url, shipped, sizeof shipped, &err) != SLUICE_OK) {
            return cli_fail(&err);
        }
        a.url = shipped;
    }
    if (!a.url && !a.model_path) {
        if (sluice_default_model_path(shipped, sizeof shipped, &err) != SLUICE_OK) {
            return cli_fail(&err);
        }
        a.model_path = shipped;
    }
    struct bench_record *record = mem_calloc(1, sizeof *record);
    if (!record) {
        fprintf(stderr, "sluice: out of memory\n");
        return 1;
    }
    join_command(argc, argv, record->command, sizeof record->command);
    code = run(&a, record);
    bench_record_free(record);
    mem_free(record);
    return code;
}
