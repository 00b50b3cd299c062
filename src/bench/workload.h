/*
 * What is asked of a server. Four shapes of use - chat, code generation, answers over retrieved passages, one step of
 * a tool-using assistant - and a prompt of adjustable length. Texts are fixed; every request opens with a different
 * number (the nonce), so that no prefix cache can answer for the computation.
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include "base/buf.h"

struct workload {
    const char *name;
    const char *system;   /* or NULL */
    const char *turns[5]; /* user, assistant, user, ...; ends with NULL */
    uint32_t max_tokens;
};

extern const struct workload workload_chat, workload_codegen, workload_rag, workload_agent;

/* A cell of a suite: one workload at one concurrency. */
struct cell {
    const struct workload *workload; /* NULL: a prompt of prompt_tokens */
    uint32_t prompt_tokens;          /* wanted; the server's own count is what gets reported */
    uint32_t concurrency, warmups, runs, max_tokens;
    uint32_t warmup_tokens; /* of answer in a warm-up; 0 = as in a run */
};

#define SUITE_CELLS_MAX 24

struct suite {
    const char *name, *about;
    struct cell cells[SUITE_CELLS_MAX];
    uint32_t n_cells;
    double seconds; /* runs are cut so that the suite ends in about this time; 0 = all are made */
};

/* "quick", "page", "depth" or "load"; false for another name. The depth suite goes up to context (0 = unknown)
 * tokens. */
bool suite_get(const char *name, uint32_t context, struct suite *out);

/* The JSON body of a request. tokens_per_word: how long words of the adjustable prompt come out, as learned so far. */
void workload_body(struct buf *b, const struct cell *cell, const char *model, uint64_t nonce, double tokens_per_word,
                   bool ignore_eos);
/* Words of the adjustable prompt that make about `tokens` tokens. */
uint32_t workload_words(uint32_t tokens, double tokens_per_word);

#define WORKLOAD_TOKENS_PER_WORD 1.3 /* before anything is learned: English prose, vocabulary of 65536 */

#endif
