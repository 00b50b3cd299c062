#include "bench/workload.h"

#include <stdio.h>
#include <string.h>

#define DEPTH_ANSWER      32u /* tokens; enough to see the rate at that depth */
#define QUICK_WARMUP      16u /* tokens: the connection and the weights are warm after a few */
#define DEPTH_UNKNOWN_MAX 4096u

/* Same runs for all four workloads, then the agent again with four at a time. */
static void add_workloads(struct suite *s, uint32_t warmups, uint32_t runs, const uint32_t max_tokens[5]) {
    const struct workload *const all[] = {&workload_chat, &workload_codegen, &workload_rag, &workload_agent,
                                          &workload_agent};
    for (uint32_t i = 0; i < 5; i++) {
        s->cells[s->n_cells++] = (struct cell){
            .workload = all[i],
            .concurrency = i == 4 ? 4 : 1,
            .warmups = warmups,
            .runs = runs,
            .max_tokens = max_tokens[i] ? max_tokens[i] : all[i]->max_tokens,
            .warmup_tokens = s->seconds > 0 ? QUICK_WARMUP : 0,
        };
    }
}

bool suite_get(const char *name, uint32_t context, struct suite *out) {
    struct suite s = {.n_cells = 0};
    if (strcmp(name, "quick") == 0) {
        s.name = "quick";
        s.about = "the page's workloads with 1 warm-up, at most 3 runs and shorter answers, within 40 s";
        s.seconds = 32;
        add_workloads(&s, 1, 3, (const uint32_t[5]){100, 200, 100, 150, 100});
    } else if (strcmp(name, "page") == 0) {
        s.name = "page";
        s.about = "chat, codegen, rag and agent at concurrency 1, agent at 4; 2 warm-ups, 5 runs";
        add_workloads(&s, 2, 5, (const uint32_t[5]){0});
    } else if (strcmp(name, "depth") == 0) {
        s.name = "depth";
        s.about = "prompts from 256 tokens up to the context, 32 tokens of answer; 1 warm-up, 3 runs";
        uint32_t most = context ? context - context / 16 : DEPTH_UNKNOWN_MAX; /* room for the answer and a miscount */
        for (uint32_t n = 256; (n == 256 || n + DEPTH_ANSWER <= most) && s.n_cells < SUITE_CELLS_MAX; n *= 2) {
            s.cells[s.n_cells++] = (struct cell){NULL, n, 1, 1, 3, DEPTH_ANSWER, 0};
        }
    } else if (strcmp(name, "load") == 0) {
        s.name = "load";
        s.about = "the agent workload at concurrency 1, 2, 4 and 8, at most 200 tokens of answer; 1 warm-up, 3 runs";
        for (uint32_t c = 1; c <= 8; c *= 2) {
            s.cells[s.n_cells++] = (struct cell){&workload_agent, 0, c, 1, 3, 200, 0};
        }
    } else {
        return false;
    }
    *out = s;
    return true;
}

static void put_message(struct buf *b, const char *role, const char *prefix, const char *text) {
    struct buf joined = {0};
    buf_puts(&joined, prefix);
    buf_puts(&joined, text);
    buf_printf(b, "%s{\"role\":\"%s\",\"content\":", b->data[b->len - 1] == '[' ? "" : ",", role);
    buf_json_string(b, joined.data ? joined.data : "", joined.len);
    buf_putc(b, '}');
    b->failed |= joined.failed;
    buf_free(&joined);
}

uint32_t workload_words(uint32_t tokens, double tokens_per_word) {
    double words = (double)tokens / tokens_per_word;
    return words < 1 ? 1 : (uint32_t)words;
}

/* Sentences of common words in an order that does not repeat, so that neither drafting nor caching finds a pattern. */
static void put_words(struct buf *b, uint32_t n, uint64_t seed) {
    static const char *const words[] = {
        "river",   "stone",  "letter",  "winter", "garden", "engine", "market",  "silver",  "window",
        "table",   "forest", "paper",   "bridge", "island", "copper", "morning", "teacher", "valley",
        "ticket",  "candle", "harbour", "signal", "the",    "a",      "under",   "over",    "before",
        "after",   "with",   "without", "near",   "beside", "finds",  "holds",   "carries", "opens",
        "follows", "leaves", "keeps",   "turns",  "small",  "old",    "bright",  "quiet",
    };
    uint64_t state = seed;
    for (uint32_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        buf_puts(b, words[(state >> 33) % (sizeof words / sizeof words[0])]);
        buf_puts(b, i % 13 == 12 ? ". " : " ");
    }
}

void workload_body(struct buf *b, const struct cell *cell, const char *model, uint64_t nonce, double tokens_per_word,
                   bool ignore_eos) {
    char prefix[48];
    struct buf words = {0};
    /* three groups of digits: the same number of tokens for every nonce in vocabularies that split numbers in threes */
    snprintf(prefix, sizeof prefix, "Request %03u-%03u-%03u. ", (unsigned)(nonce / 1000000 % 1000),
             (unsigned)(nonce / 1000 % 1000), (unsigned)(nonce % 1000));
    buf_puts(b, "{\"model\":");
    buf_json_string(b, model, strlen(model));
    buf_puts(b, ",\"messages\":[");
    if (b->failed) {
        return;
    }
    const struct workload *w = cell->workload;
    if (w) {
        const char *start = prefix;
        if (w->system) {
            put_message(b, "system", start, w->system);
            start = "";
        }
        for (int i = 0; i < 5 && w->turns[i]; i++) {
            put_message(b, i % 2 ? "assistant" : "user", start, w->turns[i]);
            start = "";
        }
    } else {
        put_words(&words, workload_words(cell->prompt_tokens, tokens_per_word), nonce);
        buf_puts(&words, "Say in one sentence what the text above is about.");
        put_message(b, "user", prefix, words.data ? words.data : "");
        b->failed |= words.failed;
        buf_free(&words);
    }
    buf_printf(b,
               "],\"max_tokens\":%u,\"temperature\":0,\"stream\":true,\"stream_options\":{\"include_usage\":true}%s}",
               cell->max_tokens, ignore_eos ? ",\"ignore_eos\":true" : "");
}
