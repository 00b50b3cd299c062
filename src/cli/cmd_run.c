/* `sluice run`: one answer streamed to the terminal, or a chat. Answers go to stdout, all else to stderr. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS          100 /* how soon Ctrl-C is noticed while no token comes */
#define EXIT_INTERRUPTED 130

struct run_args {
    const char *model, *backend, *system, *trace;
    uint32_t max_tokens, threads, ctx, top_k;
    uint64_t seed;
    float temperature, top_p, min_p, repetition;
    bool raw, quiet, no_draft;
    bool has_temperature, has_top_k, has_top_p, has_min_p, has_repetition, has_seed;
};

struct turn {
    const char *role;
    char *text;
    size_t len;
};

struct chat {
    const struct run_args *args;
    sluice_model *model;
    sluice_engine *engine;
    struct turn *turns; /* the system message first, if there is one */
    size_t n_turns, cap;
    uint64_t n_answers; /* each answer of a chat gets a seed of its own */
};

/* ---- Ctrl-C ------------------------------------------------------------------------------------------------ */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig) {
    (void)sig;
    interrupted = 1;
}

static void catch_interrupts(void) {
    struct sigaction action = {.sa_handler = on_interrupt}; /* no SA_RESTART: reading a line must end too */
    sigaction(SIGINT, &action, NULL);
}

/* ---- History ----------------------------------------------------------------------------------------------- */

/* Takes text over in every case. */
static sluice_status add_turn(struct chat *c, const char *role, char *text, size_t len, sluice_error *err) {
    if (text && c->n_turns == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 16;
        struct turn *turns = mem_realloc(c->turns, cap * sizeof *turns);
        if (turns) {
            c->turns = turns;
            c->cap = cap;
        }
    }
    if (!text || c->n_turns == c->cap) {
        mem_free(text);
        return fail(err, SLUICE_E_NOMEM, "out of memory for the conversation");
    }
    c->turns[c->n_turns++] = (struct turn){.role = role, .text = text, .len = len};
    return SLUICE_OK;
}

static void cut_turns(struct chat *c, size_t n) {
    while (c->n_turns > n) {
        mem_free(c->turns[--c->n_turns].text);
    }
}

static size_t first_turn(const struct chat *c) {
    return c->args->system ? 1 : 0;
}

static sluice_status render(const struct chat *c, int32_t **tokens, size_t *n, sluice_error *err) {
    sluice_message *messages = mem_calloc(c->n_turns, sizeof *messages);
    if (!messages) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for the conversation");
    }
    for (size_t i = 0; i < c->n_turns; i++) {
        messages[i] =
            (sluice_message){.role = c->turns[i].role, .content = c->turns[i].text, .content_len = c->turns[i].len};
    }
    const sluice_chat chat = {.messages = messages, .n_messages = c->n_turns};
    sluice_status status = sluice_chat_render(c->model, &chat, tokens, n, NULL, err);
    mem_free(messages);
    return status;
}

/* ---- One answer -------------------------------------------------------------------------------------------- */

static sluice_request_options request_options(struct chat *c) {
    const struct run_args *a = c->args;
    sluice_request_options o = sluice_request_options_default(c->model);
    o.max_tokens = a->max_tokens;
    o.sampling.temperature = a->has_temperature ? a->temperature : o.sampling.temperature;
    o.sampling.top_k = a->has_top_k ? (int32_t)a->top_k : o.sampling.top_k;
    o.sampling.top_p = a->has_top_p ? a->top_p : o.sampling.top_p;
    o.sampling.min_p = a->has_min_p ? a->min_p : o.sampling.min_p;
    o.sampling.repetition_penalty = a->has_repetition ? a->repetition : o.sampling.repetition_penalty;
    o.sampling.seed = a->seed + c->n_answers++;
    return o;
}

static void print_timings(const sluice_timings *t) {
    double first_ms = t->queue_ms + t->prompt_ms;
    fprintf(stderr, "[%u prompt tokens", t->prompt_n + t->cache_n);
    if (t->cache_n > 0) {
        fprintf(stderr, ", %u of them cached", t->cache_n);
    }
    fprintf(stderr, ", first token after %.0f ms (%.0f tok/s)", first_ms,
            t->prompt_ms > 0 ? t->prompt_n * 1e3 / t->prompt_ms : 0);
    if (t->predicted_n > 1) { /* the first token belongs to the prompt's time */
        fprintf(stderr, "; %u tokens, %.1f tok/s", t->predicted_n, (t->predicted_n - 1) * 1e3 / t->predicted_ms);
    }
    fprintf(stderr, "]\n");
}

/* Streams one request to stdout; what it wrote is also appended to answer. Being interrupted is not an error. */
static sluice_status stream(struct chat *c, const int32_t *tokens, size_t n, struct buf *answer, sluice_error *err) {
    sluice_request_options o = request_options(c);
    o.tokens = tokens;
    o.n_tokens = n;
    sluice_request *r;
    TRY(sluice_request_submit(c->engine, &o, &r, err));
    sluice_status status = SLUICE_OK;
    sluice_event event = {0};
    bool last = false, cancelled = false;
    while (!last) {
        sluice_event_kind kind = sluice_request_wait(r, &event, LOOK_MS);
        last = kind == SLUICE_EVENT_DONE || kind == SLUICE_EVENT_ERROR;
        if (kind == SLUICE_EVENT_TOKEN && event.text_len > 0) {
            buf_append(answer, event.text, event.text_len);
            if (fwrite(event.text, 1, event.text_len, stdout) != event.text_len || fflush(stdout) != 0) {
                status = fail(err, SLUICE_E_IO, "the answer cannot be written: %s", strerror(errno));
            }
        }
        if ((interrupted || status != SLUICE_OK) && !cancelled) {
            sluice_request_cancel(r);
            cancelled = true;
        }
    }
    if (answer->len > 0 && answer->data[answer->len - 1] != '\n') {
        putchar('\n');
    }
    fflush(stdout);
    if (event.kind == SLUICE_EVENT_ERROR && event.error.status != SLUICE_E_CANCELLED) {
        *err = event.error;
        status = event.error.status;
    }
    if (status == SLUICE_OK && !c->args->quiet) {
        print_timings(&event.timings);
        if (event.kind == SLUICE_EVENT_DONE && event.finish == SLUICE_FINISH_LENGTH && c->args->max_tokens == 0) {
            fprintf(stderr, "[the context of %u tokens is full; --ctx raises it]\n",
                    sluice_engine_get_info(c->engine)->ctx_per_slot);
        }
    }
    sluice_request_free(r);
    return status;
}

static sluice_status answer_chat(struct chat *c, struct buf *answer, sluice_error *err) {
    int32_t *tokens;
    size_t n;
    TRY(render(c, &tokens, &n, err));
    sluice_status status = stream(c, tokens, n, answer, err);
    free(tokens);
    return status;
}

static sluice_status answer_raw(struct chat *c, const char *prompt, size_t len, struct buf *answer, sluice_error *err) {
    int32_t *tokens;
    size_t n;
    TRY(sluice_tokenize(c->model, prompt, len, SLUICE_TOK_BOS | SLUICE_TOK_SPECIAL, &tokens, &n, err));
    sluice_status status = stream(c, tokens, n, answer, err);
    free(tokens);
    return status;
}

static bool has_chat_format(const struct chat *c) {
    return strcmp(sluice_model_get_info(c->model)->chat_family, "none") != 0;
}

static int run_once(struct chat *c, struct buf *prompt) {
    struct buf answer = {0};
    sluice_error err = {0};
    sluice_status status;
    bool raw = c->args->raw || !has_chat_format(c);
    if (raw && !c->args->raw && !c->args->quiet) {
        fprintf(stderr, "[%s has no chat format that sluice knows: the prompt is continued as it is]\n",
                sluice_model_get_info(c->model)->name);
    }
    if (raw) {
        status = answer_raw(c, prompt->data, prompt->len, &answer, &err);
    } else {
        size_t len;
        char *text = buf_take(prompt, &len);
        status = add_turn(c, "user", text, len, &err);
        status = status == SLUICE_OK ? answer_chat(c, &answer, &err) : status;
    }
    buf_free(&answer);
    if (status != SLUICE_OK) {
        return cli_fail(&err);
    }
    return interrupted ? EXIT_INTERRUPTED : 0;
}

/* ---- Chat -------------------------------------------------------------------------------------------------- */

static const char *const chat_help = "  /clear   forget the conversation\n"
                                     "  /exit    leave (so does Ctrl-D)\n"
                                     "  /help    this list\n"
                                     "  Ctrl-C   stop the answer\n"
                                     "A line that ends with a backslash goes on in the next one.\n";

/* Reads one message, possibly of several lines. false at the end of input. An interrupted line is empty. */
static bool read_message(struct buf *out) {
    char *line = NULL;
    size_t cap = 0;
    bool more = true, got = false;
    fputs("> ", stderr);
    while (more) {
        errno = 0; /* the end of input leaves it alone */
        ssize_t n = getline(&line, &cap, stdin);
        if (n < 0) {
            if (interrupted || errno == EINTR) {
                clearerr(stdin);
                fputs("\n(Ctrl-D or /exit leaves)\n", stderr);
                buf_reset(out);
                got = true;
            }
            break;
        }
        got = true;
        n -= n > 0 && line[n - 1] == '\n';
        more = n > 0 && line[n - 1] == '\\';
        buf_append(out, line, (size_t)(n - more));
        if (more) {
            buf_putc(out, '\n');
            fputs("... ", stderr);
        }
    }
    free(line);
    interrupted = 0;
    return got;
}

/* One exchange. On failure the message is taken back, so that the conversation can go on. */
static void exchange(struct chat *c, struct buf *message) {
    sluice_error err = {0};
    struct buf answer = {0};
    size_t before = c->n_turns, len;
    char *text = buf_take(message, &len);
    sluice_status status = add_turn(c, "user", text, len, &err);
    if (status == SLUICE_OK) {
        status = answer_chat(c, &answer, &err);
    }
    if (status == SLUICE_OK) {
        size_t answer_len = answer.len;
        text = answer.len > 0 ? buf_take(&answer, &answer_len) : mem_strdup("");
        status = add_turn(c, "assistant", text, answer_len, &err);
    }
    if (status != SLUICE_OK) {
        cut_turns(c, before);
        fprintf(stderr, "sluice: %s%s\n", err.text, status == SLUICE_E_LIMIT ? " (/clear starts over)" : "");
    }
    buf_free(&answer);
}

static int run_chat(struct chat *c) {
    const sluice_model_info *info = sluice_model_get_info(c->model);
    if (!has_chat_format(c) || c->args->raw) {
        sluice_error err;
        fail(&err, SLUICE_E_ARG, "%s; give a prompt to continue, as in: sluice run --raw \"Once upon a time\"",
             c->args->raw ? "--raw has no conversation" : "the model has no chat format that sluice knows");
        return cli_fail(&err);
    }
    if (!c->args->quiet) {
        fprintf(stderr, "%s %s, %u tokens of context. /help lists commands.\n", info->name, info->quantization,
                sluice_engine_get_info(c->engine)->ctx_per_slot);
    }
    struct buf message = {0};
    while (read_message(&message)) {
        const char *text = message.len > 0 ? message.data : "";
        if (strcmp(text, "/exit") == 0) {
            break;
        }
        if (strcmp(text, "/clear") == 0) {
            cut_turns(c, first_turn(c));
            fputs("[a new conversation]\n", stderr);
        } else if (strcmp(text, "/help") == 0) {
            fputs(chat_help, stderr);
        } else if (text[0] == '/' && !strchr(text, ' ')) {
            fprintf(stderr, "there is no command %s; /help lists them\n", text);
        } else if (text[0]) {
            exchange(c, &message);
            interrupted = 0;
        }
        buf_reset(&message);
    }
    buf_free(&message);
    fputs("\n", stderr);
    return 0;
}

/* ---- Loading and options ----------------------------------------------------------------------------------- */

static sluice_status open_all(struct chat *c, sluice_error *err) {
    const struct run_args *a = c->args;
    bool show = isatty(STDERR_FILENO) && !a->quiet;
    if (show) {
        fputs("loading...", stderr);
    }
    sluice_status status = sluice_model_load(a->model, &c->model, err);
    if (status == SLUICE_OK) {
        sluice_engine_options o = sluice_engine_options_default();
        o.backend = a->backend ? a->backend : o.backend;
        o.n_threads = a->threads;
        o.n_slots = 1;
        o.ctx_per_slot = a->ctx;
        o.draft_max = a->no_draft ? 0 : o.draft_max;
        o.trace_path = a->trace;
        status = sluice_engine_create(c->model, &o, &c->engine, err);
    }
    if (show) {
        fputs("\r\x1b[K", stderr);
    }
    if (status == SLUICE_OK && a->system) {
        status = add_turn(c, "system", mem_strdup(a->system), strlen(a->system), err);
    }
    return status;
}

/* The prompt from the arguments or from piped input; leaves out empty when a chat is wanted. */
static sluice_status read_prompt(const struct cli_args *args, struct buf *out, sluice_error *err) {
    for (int i = 0; i < args->n_positional; i++) { /* words given without quotes are one prompt */
        buf_puts(out, i > 0 ? " " : "");
        buf_puts(out, args->positional[i]);
    }
    if (args->n_positional > 0 || isatty(STDIN_FILENO)) {
        return out->failed ? fail(err, SLUICE_E_NOMEM, "out of memory for the prompt") : SLUICE_OK;
    }
    char block[16384];
    size_t n;
    while ((n = fread(block, 1, sizeof block, stdin)) > 0 && out->len <= LIMIT_BODY_BYTES) {
        buf_append(out, block, n);
    }
    if (ferror(stdin)) {
        return fail(err, SLUICE_E_IO, "the prompt cannot be read from standard input: %s", strerror(errno));
    }
    if (out->failed || out->len > LIMIT_BODY_BYTES) {
        return fail(err, SLUICE_E_LIMIT, "the prompt on standard input is longer than %u MiB", LIMIT_BODY_BYTES >> 20);
    }
    while (out->len > 0 && out->data[out->len - 1] == '\n') { /* what `echo` and editors add */
        out->data[--out->len] = '\0';
    }
    if (out->len == 0) {
        return fail(err, SLUICE_E_ARG, "standard input is empty; give a prompt as an argument or pipe one in");
    }
    return SLUICE_OK;
}

static int run(const struct run_args *a, const struct cli_args *positional) {
    struct chat c = {.args = a};
    struct buf prompt = {0};
    sluice_error err = {0};
    int code;
    if (read_prompt(positional, &prompt, &err) != SLUICE_OK || open_all(&c, &err) != SLUICE_OK) {
        code = cli_fail(&err);
    } else {
        catch_interrupts();
        code = prompt.len > 0 ? run_once(&c, &prompt) : run_chat(&c);
    }
    if (c.engine && sluice_engine_end_trace(c.engine, &err) != SLUICE_OK) {
        code = cli_fail(&err);
    }
    sluice_engine_free(c.engine);
    sluice_model_free(c.model);
    cut_turns(&c, 0);
    mem_free(c.turns);
    buf_free(&prompt);
    return code;
}

int cmd_run(int argc, char **argv) {
    struct run_args a = {0};
    const struct cli_option options[] = {
        {'m', "model", CLI_STRING, &a.model, "FILE", "GGUF file (default: the model that ships with sluice)", NULL},
        {'n', "max-tokens", CLI_U32, &a.max_tokens, "N",
         "tokens to generate at most (default: what the context allows)", NULL},
        {0, "system", CLI_STRING, &a.system, "TEXT", "system message (default: none)", NULL},
        {0, "raw", CLI_FLAG, &a.raw, NULL, "continue the prompt as it is, without the chat format", NULL},
        {0, "temp", CLI_FLOAT, &a.temperature, "X", "temperature, 0 = greedy (default: the model card's)",
         &a.has_temperature},
        {0, "top-k", CLI_U32, &a.top_k, "K", "sample from the K likeliest, 0 = off (default: the model card's)",
         &a.has_top_k},
        {0, "top-p", CLI_FLOAT, &a.top_p, "P", "sample from the likeliest P of the mass, 1 = off (default: the card's)",
         &a.has_top_p},
        {0, "min-p", CLI_FLOAT, &a.min_p, "P", "drop what is P times less likely than the best (default: the card's)",
         &a.has_min_p},
        {0, "repeat-penalty", CLI_FLOAT, &a.repetition, "X", "repetition penalty, 1 = off (default: the card's)",
         &a.has_repetition},
        {0, "seed", CLI_U64, &a.seed, "N", "same seed, same answer (default: from the clock)", &a.has_seed},
        {'c', "ctx", CLI_U32, &a.ctx, "N", "context in tokens (default: 32768, or what the model and memory allow)",
         NULL},
        {'t', "threads", CLI_U32, &a.threads, "N", "threads (default: the cores this process may use)", NULL},
        {0, "backend", CLI_STRING, &a.backend, "NAME", "auto, cuda, cpu or ref (default: auto)", NULL},
        {0, "no-draft", CLI_FLAG, &a.no_draft, NULL,
         "guess no tokens ahead; the answer is the same, only its speed may differ", NULL},
        {0, "trace", CLI_STRING, &a.trace, "FILE", "write every step's time to FILE, for chrome://tracing or Perfetto",
         NULL},
        {'q', "quiet", CLI_FLAG, &a.quiet, NULL, "nothing but the answer and errors", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "run",
        .usage = "sluice run [-m MODEL] [options] [\"PROMPT\"]",
        .about = "Streams one answer to the terminal, with its rates on stderr. The prompt is the argument or piped\n"
                 "input; without either, on a terminal, a chat begins (/help lists its commands).",
        .example = "sluice run \"Why is the sky blue?\"\n"
                   "sluice run -m LFM2-8B-A1B-Q4_K_M.gguf\n"
                   "git diff | sluice run --system \"Summarise this change in one sentence.\"\n"
                   "sluice run --raw -n 50 --temp 0 \"Once upon a time\"",
        .options = options,
        .positional_max = 64,
    };
    struct cli_args positional;
    int code = cli_parse(&command, argc, argv, &positional);
    if (code != CLI_RUN) {
        return code;
    }
    if (a.top_k > INT32_MAX) {
        return cli_usage_error(&command, "--top-k takes a number up to %d", INT32_MAX);
    }
    if (!a.has_seed) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        a.seed = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }
    return run(&a, &positional);
}
