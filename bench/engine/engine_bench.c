/*
 * What the engine core is worth on a real backend, through the public API alone:
 *
 *   engine_bench turn  -m MODEL [-p 4000] [-r 5]         time to the first token of a chat's second turn, with the prefix
 *                                                        cache and without
 *   engine_bench draft -m MODEL [-n 256] [-r 5] [-t K]   decode with drafts against without, on given answers in which a
 *                                                        guess holds with a stated chance
 *
 * Everything is interleaved, so that a noisy machine touches both sides alike; each ratio comes with its range. Tokens are
 * random (a synthetic model says nothing sensible) and answers are forced, which costs the model the same work.
 */
#include "sluice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void check(sluice_status status, const sluice_error *err) {
    if (status != SLUICE_OK) {
        fprintf(stderr, "engine_bench: %s\n", err->text);
        exit(1);
    }
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static uint64_t rnd_state = 1;

static uint32_t rnd(uint32_t n) {
    uint64_t z = rnd_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ z >> 31) >> 33) % n;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts. */
static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

struct outcome {
    double ttft_ms;
    sluice_timings timings;
};

/* Runs one request to its end; the answer's tokens go to out if it is given. */
static struct outcome ask(sluice_engine *engine, const sluice_request_options *o, int32_t *out) {
    sluice_request *r;
    sluice_error err = {0};
    sluice_event event;
    struct outcome result = {0};
    double start = now_ms();
    check(sluice_request_submit(engine, o, &r, &err), &err);
    do {
        sluice_request_wait(r, &event, -1);
        if (event.kind == SLUICE_EVENT_TOKEN) {
            result.ttft_ms = result.ttft_ms > 0 ? result.ttft_ms : now_ms() - start;
            if (out) {
                *out++ = event.token;
            }
        }
    } while (event.kind == SLUICE_EVENT_TOKEN);
    check(event.kind == SLUICE_EVENT_DONE ? SLUICE_OK : event.error.status, &event.error);
    result.timings = event.timings;
    sluice_request_free(r);
    return result;
}

static sluice_request_options greedy(const sluice_model *model, const int32_t *tokens, size_t n, uint32_t most) {
    sluice_request_options o = sluice_request_options_default(model);
    o.tokens = tokens;
    o.n_tokens = n;
    o.max_tokens = most;
    o.ignore_eos = true;
    o.sampling = (sluice_sampling){.top_p = 1, .repetition_penalty = 1};
    return o;
}

/* ---- turn -------------------------------------------------------------------------------------------------- */

enum { ANSWER = 32, NEW = 32, RUNS_MAX = 64, TOKENS_MAX = 1 << 17 };

static void bench_turn(sluice_model *model, sluice_engine *engine, uint32_t n_prompt, int runs) {
    uint32_t n_vocab = sluice_model_get_info(model)->n_vocab;
    int32_t *tokens = malloc(TOKENS_MAX * sizeof *tokens);
    double ratio[RUNS_MAX], cached[RUNS_MAX], full[RUNS_MAX];
    for (int run = 0; run < runs; run++) {
        for (uint32_t i = 0; i < n_prompt; i++) {
            tokens[i] = (int32_t)rnd(n_vocab);
        }
        sluice_request_options o = greedy(model, tokens, n_prompt, ANSWER);
        ask(engine, &o, tokens + n_prompt);
        for (uint32_t i = 0; i < NEW; i++) {
            tokens[n_prompt + ANSWER + i] = (int32_t)rnd(n_vocab);
        }
        o = greedy(model, tokens, n_prompt + ANSWER + NEW, 1);
        struct outcome with = ask(engine, &o, NULL);
        o.no_cache = true;
        struct outcome without = ask(engine, &o, NULL);
        cached[run] = with.ttft_ms;
        full[run] = without.ttft_ms;
        ratio[run] = without.ttft_ms / with.ttft_ms;
        printf("turn 2 of %u + %u + %u tokens: cached %u, computed %u, first token %.1f ms; without cache %.1f ms: "
               "%.1fx\n",
               n_prompt, ANSWER, NEW, with.timings.cache_n, with.timings.prompt_n, with.ttft_ms, without.ttft_ms,
               ratio[run]);
        fflush(stdout);
    }
    double mid = median(ratio, runs);
    printf("median of %d: first token %.1f ms with, %.1f ms without: %.1fx sooner (%.1f-%.1f)\n", runs,
           median(cached, runs), median(full, runs), mid, ratio[0], ratio[runs - 1]);
    free(tokens);
}

/* ---- draft ------------------------------------------------------------------------------------------------- */

/* An answer that copies from the prompt: after each token the copy goes on with chance `hold`, or a random token stands
 * there and the copy begins anew elsewhere. free_share of the answer, in stretches of 25, copies nothing. */
static void make_answer(const int32_t *prompt, uint32_t n_prompt, uint32_t n_vocab, double hold, double free_share,
                        int32_t *out, uint32_t n) {
    uint32_t at = rnd(n_prompt - n);
    uint32_t free_left = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i % 125 == 0) {
            free_left = (uint32_t)(125 * free_share);
        }
        if (free_left > 0 || rnd(1000000) >= hold * 1e6) {
            out[i] = (int32_t)rnd(n_vocab);
            at = rnd(n_prompt - n);
            free_left -= free_left > 0;
        } else {
            out[i] = prompt[at++];
        }
    }
}

/* only: the number of one text, from 1; 0 = all. */
static void bench_draft(sluice_model *model, sluice_engine *engine, uint32_t n, int runs, size_t only) {
    static const struct {
        const char *name;
        double hold, free_share;
    } texts[] = {{"free text: nothing recurs", 0, 1},
                 {"a guess holds with chance 0.3", 0.3, 0},
                 {"a guess holds with chance 0.6", 0.6, 0},
                 {"a guess holds with chance 0.8", 0.8, 0},
                 {"a guess holds with chance 0.9", 0.9, 0},
                 {"copy-heavy: 80% copied, in runs of 100", 1, 0.2},
                 {"all copied", 1, 0}};
    uint32_t n_vocab = sluice_model_get_info(model)->n_vocab;
    uint32_t n_prompt = 2 * n + 64;
    int32_t *tokens = malloc(TOKENS_MAX * sizeof *tokens), *answer = malloc(TOKENS_MAX * sizeof *answer);
    for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
        if (only > 0 && t + 1 != only) {
            continue;
        }
        double ratio[RUNS_MAX], plain[RUNS_MAX], drafted[RUNS_MAX];
        uint32_t guessed = 0, held = 0;
        for (int run = 0; run < runs; run++) {
            for (uint32_t i = 0; i < n_prompt; i++) {
                tokens[i] = (int32_t)rnd(n_vocab);
            }
            make_answer(tokens, n_prompt, n_vocab, texts[t].hold, texts[t].free_share, answer, n);
            sluice_request_options o = greedy(model, tokens, n_prompt, n);
            o.forced = answer;
            o.n_forced = n;
            double rate[2];
            for (int k = 0; k < 2; k++) {
                o.no_draft = (run + k) % 2 == 0;
                struct outcome out = ask(engine, &o, NULL);
                rate[o.no_draft] = (out.timings.predicted_n - 1) / out.timings.predicted_ms * 1e3;
                guessed += out.timings.draft_n;
                held += out.timings.draft_accepted_n;
            }
            drafted[run] = rate[0];
            plain[run] = rate[1];
            ratio[run] = rate[0] / rate[1];
        }
        double mid = median(ratio, runs);
        printf("%-40s plain %6.1f tok/s, drafted %6.1f: %.2fx (%.2f-%.2f); %u guessed, %u held\n", texts[t].name,
               median(plain, runs), median(drafted, runs), mid, ratio[0], ratio[runs - 1], guessed, held);
        fflush(stdout);
    }
    free(tokens);
    free(answer);
}

/* ---- The command ------------------------------------------------------------------------------------------- */

int main(int argc, char **argv) {
    const char *path = NULL;
    uint32_t n_prompt = 4000, n = 256;
    int runs = 5, text = 0;
    for (int i = 2; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "-m") == 0) {
            path = value;
        } else if (strcmp(argv[i], "-p") == 0) {
            n_prompt = (uint32_t)atoi(value);
        } else if (strcmp(argv[i], "-n") == 0) {
            n = (uint32_t)atoi(value);
        } else if (strcmp(argv[i], "-r") == 0) {
            runs = atoi(value);
        } else if (strcmp(argv[i], "-t") == 0) {
            text = atoi(value);
        }
    }
    bool turn = argc > 1 && strcmp(argv[1], "turn") == 0;
    if ((!turn && (argc < 2 || strcmp(argv[1], "draft") != 0)) || runs < 1 || runs > RUNS_MAX || n < 16 || n > 4096 ||
        n_prompt < 64 || n_prompt > 100000 || text < 0) {
        fprintf(stderr, "usage: engine_bench turn|draft [-m MODEL] [-p PROMPT] [-n ANSWER] [-r RUNS] [-t TEXT]\n");
        return 2;
    }
    sluice_error err = {0};
    sluice_model *model;
    sluice_engine *engine;
    check(sluice_model_load(path, &model, &err), &err);
    sluice_engine_options o = sluice_engine_options_default();
    o.n_slots = 1;
    check(sluice_engine_create(model, &o, &engine, &err), &err);
    turn ? bench_turn(model, engine, n_prompt, runs) : bench_draft(model, engine, n, runs, (size_t)text);
    sluice_engine_free(engine);
    sluice_model_free(model);
    return 0;
}
