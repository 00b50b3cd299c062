/* `sluice serve`: loads a model and the last cache, says what they take, serves until a signal, saves the cache. */
#include "cli/cli.h"

#include "base/limits.h"
#include "base/status.h"
#include "server/server.h"
#include "web/web.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define GRACE_MS  5000 /* for running answers after the first signal */
#define CANCEL_MS 1000 /* for cancelled ones to tell their clients */
#define DRAIN_MS  5000 /* for the engine to end them: one step, however long a prompt's is */
#define LOOK_MS   20

#define TIMEOUT_MAX_S (UINT32_MAX / 1000)

struct serve_args {
    const char *model, *host, *backend, *api_key, *cors, *cache_file, *trace;
    uint32_t port, slots, ctx, threads, queue, chunk, connections, draft_max, timeout_s;
    uint64_t kv_mem, cache_mem;
    bool quiet, no_draft, no_web, has_draft_max;
};

/* ---- Signals -------------------------------------------------------------------------------------------------- */

static int signal_fd = -1;

/* Any thread may take the signal; the eventfd counts them for the main one. */
static void on_signal(int sig) {
    (void)sig;
    int saved = errno;
    uint64_t one = 1;
    (void)!write(signal_fd, &one, sizeof one);
    errno = saved;
}

static bool catch_signals(void) {
    signal_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    return signal_fd >= 0 && sigaction(SIGTERM, &action, NULL) == 0 && sigaction(SIGINT, &action, NULL) == 0;
}

/* True when a signal came within the time; negative waits for ever. */
static bool wait_signal(int timeout_ms) {
    struct pollfd p = {.fd = signal_fd, .events = POLLIN};
    int n;
    do {
        n = poll(&p, 1, timeout_ms);
    } while (n < 0 && errno == EINTR && timeout_ms < 0);
    uint64_t count;
    return n > 0 && read(signal_fd, &count, sizeof count) == sizeof count;
}

/* Waits until nothing runs any more, or the time is over, or (if asked) another signal comes. */
static void wait_idle(struct server *server, int most_ms, bool until_signal) {
    for (int waited = 0; server_active(server) > 0 && waited < most_ms; waited += LOOK_MS) {
        if (wait_signal(LOOK_MS) && until_signal) {
            return;
        }
    }
}

static void serve_until_signal(struct server *server, bool quiet) {
    wait_signal(-1);
    server_drain(server);
    uint32_t active = server_active(server);
    if (active > 0 && !quiet) {
        fprintf(stderr,
                "stopping: %" PRIu32 " running request%s may take up to %d s more (a second signal cuts %s off)\n",
                active, active == 1 ? "" : "s", GRACE_MS / 1000, active == 1 ? "it" : "them");
    }
    wait_idle(server, GRACE_MS, true);
    server_cancel_all(server);
    wait_idle(server, CANCEL_MS, false);
    server_stop(server);
}

/* ---- The block at the start ----------------------------------------------------------------------------------- */

static void print_row(const char *label, const char *value) {
    fprintf(stderr, "  %-9s %s\n", label, value);
}

static void print_cache(const sluice_engine_info *e, uint64_t cache_mem) {
    char text[256], page[32], most[32];
    cli_format_bytes(e->page_bytes, page, sizeof page);
    cli_format_bytes(cache_mem, most, sizeof most);
    int n = snprintf(text, sizeof text, "%" PRIu32 " pages of %" PRIu32 " tokens, %s each; ", e->n_pages,
                     e->page_tokens, page);
    if (cache_mem == 0) {
        snprintf(text + n, sizeof text - (size_t)n, "nothing is kept for later requests");
    } else if (cache_mem >= e->n_pages * e->page_bytes) {
        snprintf(text + n, sizeof text - (size_t)n, "all that is not in use is kept for later requests");
    } else {
        snprintf(text + n, sizeof text - (size_t)n, "up to %s of what is not in use is kept for later requests", most);
    }
    print_row("cache", text);
}

static void print_block(const struct serve_args *a, const sluice_model *model, const sluice_engine *engine,
                        const struct server *server) {
    const sluice_model_info *m = sluice_model_get_info(model);
    const sluice_engine_info *e = sluice_engine_get_info(engine);
    char text[512], weights[32], kv[32], work[32], spare[32];
    uint64_t used = e->weight_bytes + e->kv_bytes + e->work_bytes;
    cli_format_bytes(e->weight_bytes, weights, sizeof weights);
    cli_format_bytes(e->kv_bytes, kv, sizeof kv);
    cli_format_bytes(e->work_bytes, work, sizeof work);
    cli_format_bytes(e->memory_available > used ? e->memory_available - used : 0, spare, sizeof spare);

    fprintf(stderr, "sluice " SLUICE_VERSION "\n");
    bool billions = m->n_params >= 1000000000u;
    snprintf(text, sizeof text, "%s, %s, %s, %.2f %s parameters", m->name, m->architecture, m->quantization,
             (double)m->n_params * (billions ? 1e-9 : 1e-6), billions ? "B" : "M");
    print_row("model", text);
    print_row("file", m->path);
    snprintf(text, sizeof text, "%s weights + %s KV + %s work; %s spare", weights, kv, work,
             e->memory_available ? spare : "unknown");
    print_row("memory", text);
    if (e->other_bytes > 0) {
        cli_format_bytes(e->other_bytes, work, sizeof work);
        cli_format_bytes(e->pinned_bytes, kv, sizeof kv);
        snprintf(text, sizeof text, "%s more in use on the device (driver, other programs); %s of host memory pinned",
                 work, kv);
        print_row("", text);
    }
    snprintf(text, sizeof text, "%s: %s", e->backend, e->device);
    print_row("backend", text);
    snprintf(text, sizeof text, "%" PRIu32 " x %" PRIu32 " tokens of context", e->n_slots, e->ctx_per_slot);
    print_row("slots", text);
    print_cache(e, a->cache_mem);
    snprintf(text, sizeof text, "up to %" PRIu32 " tokens guessed and verified in one step", e->draft_max);
    print_row("drafts", e->draft_max > 0 ? text : "off");
    snprintf(text, sizeof text, "%s%s", m->chat_family,
             !m->has_tokenizer ? " (no tokenizer in the file: only /v1/completions with token ids works)"
             : strcmp(m->chat_family, "none") == 0
                 ? " (no known chat template in the file: /v1/chat/completions is off)"
                 : "");
    print_row("chat", text);
    snprintf(text, sizeof text, "open %s in a browser to talk to the model", server_url(server));
    print_row("page", a->no_web ? "none (--no-web)" : web_files_n > 0 ? text : "plain (built without the chat page)");
}

/* ---- The cache between runs ----------------------------------------------------------------------------------- */

/* Hours of serving must not end with a file that cannot be written. */
static sluice_status check_cache_file(const char *path, sluice_error *err) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash + 1 - path)) : strdup(".");
    sluice_status status = SLUICE_OK;
    if (!folder || access(folder, W_OK | X_OK) != 0) {
        status = fail(err, SLUICE_E_IO, "the cache could not be saved to %s (--cache-file): its folder: %s", path,
                      strerror(errno));
    }
    free(folder);
    return status;
}

static void restore_cache(sluice_engine *engine, const char *path, bool quiet) {
    if (access(path, F_OK) != 0 && errno == ENOENT) {
        return; /* the first start */
    }
    sluice_state_info info;
    sluice_error err = {0};
    if (sluice_engine_restore(engine, path, &info, &err) != SLUICE_OK) {
        fprintf(stderr, "sluice: %s\n", err.text);
    } else if (!quiet) {
        char text[512], size[32];
        cli_format_bytes(info.n_bytes, size, sizeof size);
        snprintf(text, sizeof text, "%" PRIu32 " pages, %" PRIu64 " tokens from %s (%s)", info.n_pages, info.n_tokens,
                 path, size);
        print_row("restored", text);
    }
}

static bool save_cache(sluice_engine *engine, const char *path, bool quiet) {
    sluice_state_info info;
    sluice_error err = {0};
    (void)sluice_engine_drain(engine, DRAIN_MS); /* requests still there would only be missing in the file */
    signal(SIGTERM, SIG_DFL);                    /* who does not want to wait for a slow disk need not */
    signal(SIGINT, SIG_DFL);
    if (sluice_engine_save(engine, path, &info, &err) != SLUICE_OK) {
        fprintf(stderr, "sluice: %s\n", err.text);
        return false;
    }
    if (!quiet) {
        char size[32];
        cli_format_bytes(info.n_bytes, size, sizeof size);
        fprintf(stderr, "saved the cache: %" PRIu32 " pages, %" PRIu64 " tokens to %s (%s)\n", info.n_pages,
                info.n_tokens, path, size);
    }
    return true;
}

/* ---- The command ---------------------------------------------------------------------------------------------- */

static sluice_engine_options engine_options(const struct serve_args *a) {
    sluice_engine_options o = sluice_engine_options_default();
    o.backend = a->backend ? a->backend : o.backend;
    o.n_threads = a->threads ? a->threads : o.n_threads;
    o.n_slots = a->slots ? a->slots : o.n_slots;
    o.ctx_per_slot = a->ctx ? a->ctx : o.ctx_per_slot;
    o.kv_bytes_max = a->kv_mem ? a->kv_mem : o.kv_bytes_max;
    o.prefill_chunk = a->chunk ? a->chunk : o.prefill_chunk;
    o.queue_max = a->queue ? a->queue : o.queue_max;
    o.cache_bytes_max = a->cache_mem;
    o.draft_max = a->no_draft ? 0 : a->has_draft_max ? a->draft_max : o.draft_max;
    o.trace_path = a->trace;
    return o;
}

static struct server_options server_options(const struct serve_args *a) {
    struct server_options so = server_options_default();
    so.host = a->host;
    so.port = (uint16_t)a->port;
    so.api_key = a->api_key && a->api_key[0] ? a->api_key : NULL;
    so.cors_origin = strcmp(a->cors, "none") == 0 ? NULL : a->cors;
    so.connections = a->connections ? a->connections : so.connections;
    so.timeout_ms = a->timeout_s * 1000;
    so.no_web = a->no_web;
    so.log = a->quiet ? NULL : stderr;
    return so;
}

/* From "listening" to the end. */
static void run_server(const struct serve_args *a, struct server *server, sluice_model *model) {
    char sum[65];
    if (printf("listening on %s\n", server_url(server)) < 0 || fflush(stdout) != 0) {
        fprintf(stderr, "sluice: cannot write to standard output: %s; listening on %s\n", strerror(errno),
                server_url(server));
    }
    (void)sluice_model_sha256(model, 0, sum, NULL); /* begins now, so that /props has it when somebody asks */
    serve_until_signal(server, a->quiet);
}

static int serve(const struct serve_args *a, sluice_model *model, sluice_error *err) {
    const sluice_engine_options o = engine_options(a);
    sluice_engine *engine;
    bool show = isatty(STDERR_FILENO) && !a->quiet;
    fputs(show ? "loading..." : "", stderr);
    sluice_status status = sluice_engine_create(model, &o, &engine, err);
    fputs(show ? "\r\x1b[K" : "", stderr);
    if (status != SLUICE_OK) {
        return cli_fail(err);
    }
    const struct server_options so = server_options(a);
    struct server *server;
    if (server_start(model, engine, &so, &server, err) != SLUICE_OK) {
        sluice_engine_free(engine);
        return cli_fail(err);
    }
    if (!a->quiet) {
        print_block(a, model, engine, server);
    }
    if (a->cache_file) {
        restore_cache(engine, a->cache_file, a->quiet);
    }
    bool ok = catch_signals();
    if (ok) {
        run_server(a, server, model);
        ok = !a->cache_file || save_cache(engine, a->cache_file, a->quiet);
    } else {
        fprintf(stderr, "sluice: cannot catch signals: %s\n", strerror(errno));
        server_stop(server);
    }
    if (sluice_engine_end_trace(engine, err) != SLUICE_OK) {
        ok = cli_fail(err) == 0;
    }
    sluice_engine_free(engine);
    return ok ? 0 : 1;
}

int cmd_serve(int argc, char **argv) {
    struct serve_args a = {
        .host = "127.0.0.1", .port = 8080, .cors = "*", .api_key = getenv("SLUICE_API_KEY"), .cache_mem = UINT64_MAX};
    const struct cli_option options[] = {
        {'m', "model", CLI_STRING, &a.model, "FILE", "GGUF to serve (default: the model that ships with sluice)"},
        {0, "host", CLI_STRING, &a.host, "ADDRESS", "address to listen on (default 127.0.0.1; 0.0.0.0 = all)"},
        {0, "port", CLI_U32, &a.port, "N", "port (default 8080; 0 = any free one)"},
        {0, "slots", CLI_U32, &a.slots, "K", "requests answered at once (default: the engine's choice)"},
        {'c', "ctx", CLI_U32, &a.ctx, "TOKENS", "context per request (default: up to 32768, what memory allows)"},
        {0, "kv-mem", CLI_SIZE, &a.kv_mem, "SIZE", "memory for contexts, e.g. 2G (default: what is spare)"},
        {0, "cache-mem", CLI_SIZE, &a.cache_mem, "SIZE",
         "part of it that may keep past prompts and answers (default: all not in use; 0 = none)"},
        {0, "cache-file", CLI_STRING, &a.cache_file, "FILE",
         "what they came to is loaded from FILE at the start and saved there at the end"},
        {0, "draft-max", CLI_U32, &a.draft_max, "N",
         "tokens guessed from the text so far and verified in one step (default: the engine's choice)",
         &a.has_draft_max},
        {0, "no-draft", CLI_FLAG, &a.no_draft, NULL, "guess nothing; answers are the same, only speed may differ"},
        {0, "timeout", CLI_U32, &a.timeout_s, "SECONDS",
         "for one request, waiting included; then it is answered 504 (default: no limit)"},
        {0, "queue", CLI_U32, &a.queue, "N", "requests that may wait (default: the engine's choice)"},
        {0, "connections", CLI_U32, &a.connections, "N", "clients connected at once (default 1024)"},
        {'b', "backend", CLI_STRING, &a.backend, "NAME", "auto, cuda, cpu or ref (default auto)"},
        {'t', "threads", CLI_U32, &a.threads, "N", "compute threads (default: the cores this process may use)"},
        {0, "prefill-chunk", CLI_U32, &a.chunk, "TOKENS", "prompt tokens per step (default: the backend's choice)"},
        {0, "api-key", CLI_STRING, &a.api_key, "KEY",
         "key that clients must send (default: $SLUICE_API_KEY, else none)"},
        {0, "cors", CLI_STRING, &a.cors, "ORIGIN", "origin whose pages may call (default *; none = no CORS headers)"},
        {0, "no-web", CLI_FLAG, &a.no_web, NULL, "serve no chat page at /, only the API"},
        {0, "trace", CLI_STRING, &a.trace, "FILE", "write every step's time to FILE, for chrome://tracing or Perfetto"},
        {'q', "quiet", CLI_FLAG, &a.quiet, NULL, "print no start block and no line per request"},
        {0},
    };
    const struct cli_command command = {
        .name = "serve",
        .usage = "sluice serve [-m MODEL] [options]",
        .about =
            "Serves one model on the OpenAI API: /v1/chat/completions, /v1/completions, /v1/models, and\n"
            "llama-server's /tokenize, /detokenize, /apply-template, /props, /slots; a browser finds a chat page at\n"
            "/. Ends on SIGINT or SIGTERM.\n"
            "A prompt that begins like an earlier one (the next turn of a chat, the same system prompt or tools)\n"
            "is computed from where they part; with --cache-file that outlives the server.",
        .example = "sluice serve\n"
                   "sluice serve -m LFM2-8B-A1B-Q4_K_M.gguf --port 9000 --slots 4 --ctx 8192\n"
                   "sluice serve -m LFM2-8B-A1B-Q4_K_M.gguf --cache-file 8b.cache --timeout 300\n"
                   "curl http://127.0.0.1:8080/v1/chat/completions -d "
                   "'{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}'",
        .options = options,
    };
    struct cli_args args;
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    if (a.port > 65535) {
        return cli_usage_error(&command, "--port must be from 0 to 65535");
    }
    if (a.slots > LIMIT_SLOTS) {
        return cli_usage_error(&command, "--slots must be at most %u", LIMIT_SLOTS);
    }
    if (a.connections > LIMIT_CONNECTIONS) {
        return cli_usage_error(&command, "--connections must be at most %u", LIMIT_CONNECTIONS);
    }
    if (a.timeout_s > TIMEOUT_MAX_S) {
        return cli_usage_error(&command, "--timeout must be at most %u seconds", TIMEOUT_MAX_S);
    }
    if (a.no_draft && a.has_draft_max && a.draft_max > 0) {
        return cli_usage_error(&command, "--no-draft and --draft-max %u exclude each other", a.draft_max);
    }
    if (a.cache_file && a.cache_mem == 0) {
        return cli_usage_error(&command, "--cache-mem 0 leaves nothing to save in --cache-file");
    }
    signal(SIGPIPE, SIG_IGN); /* a client that hangs up is no reason to die */
    sluice_error err = {0};
    sluice_model *model;
    if ((a.cache_file && check_cache_file(a.cache_file, &err) != SLUICE_OK) ||
        sluice_model_load(a.model, &model, &err) != SLUICE_OK) {
        return cli_fail(&err);
    }
    code = serve(&a, model, &err);
    sluice_model_free(model);
    return code;
}
