/*
 * The JSON of answers: chat and text completions, whole and as chunks, in the shapes of the OpenAI API, with
 * llama-server's `timings` beside them.
 */
#ifndef SERVER_ANSWER_H
#define SERVER_ANSWER_H

#include "base/buf.h"
#include "sluice.h"

/* What every object of one answer repeats. */
struct answer_head {
    bool chat;
    char id[48];
    int64_t created;
    const char *model;
    const char *fingerprint;
};

struct answer_usage {
    uint64_t prompt_tokens, cached_tokens, completion_tokens;
    bool cached_known; /* from each answer's first token on */
};

/* Log-probabilities of consecutive tokens. Each token has 1 + n_top entries: the one chosen, then the alternatives; an
 * alternative that the engine did not give has token -1. */
struct logprob_list {
    uint32_t n_top;
    sluice_token_prob *probs; /* [n][1 + n_top] */
    size_t *start;            /* [n] where the token's bytes begin in the answer's text */
    size_t n, cap;
};

bool logprob_push(struct logprob_list *l, const sluice_event *event, size_t start); /* false: out of memory */
void logprob_drop_front(struct logprob_list *l, size_t n);
void logprob_free(struct logprob_list *l);

/* One choice, whole or as the next piece of a stream. */
struct answer_choice {
    uint32_t index;
    const char *text;
    size_t text_len;
    const struct logprob_list *logprobs; /* its first n_logprobs tokens are written; NULL = none were asked for */
    size_t n_logprobs;
    size_t bytes_before, chars_before; /* of this choice's text, sent in earlier chunks */
    bool first;                        /* chat chunks: carries the role */
    bool finished;
    sluice_finish finish; /* while finished */
};

/* Code points of valid UTF-8. */
size_t answer_count_chars(const char *s, size_t n);
void answer_make_id(struct answer_head *h);

/* {"id":...,"choices":[ ; the caller adds choices and closes with answer_close. */
void answer_open(struct buf *out, const struct answer_head *h, bool chunk);
void answer_choice_write(struct buf *out, const struct answer_head *h, const sluice_model *model,
                         const struct answer_choice *c, bool chunk);
/* usage NULL: `null` if null_usage, else left out; timings NULL: left out. */
void answer_close(struct buf *out, const struct answer_usage *usage, bool null_usage, const sluice_timings *timings);

void answer_usage_write(struct buf *out, const struct answer_usage *u);
void answer_timings_write(struct buf *out, const sluice_timings *t);

#endif
