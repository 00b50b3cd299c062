/*
 * The server that is measured: what it says it is, how it counts tokens, and which request fields it takes.
 * Everything is asked of the server and nothing is assumed of its name; what it does not say stays empty.
 */
#ifndef BENCH_TARGET_H
#define BENCH_TARGET_H

#include "bench/client.h"

/* Request fields beyond the messages, each sent unless the server refuses it. */
enum target_field {
    FIELD_TEMPERATURE,
    FIELD_TOP_P,
    FIELD_TOP_K,
    FIELD_MIN_P,
    FIELD_REPEAT_PENALTY,
    FIELD_PRESENCE_PENALTY,
    FIELD_FREQUENCY_PENALTY,
    FIELD_SEED,
    FIELD_IGNORE_EOS,
    FIELD_MIN_TOKENS,
    FIELD_CACHE_PROMPT,
    FIELD_TIMINGS_PER_TOKEN, /* a running count of tokens in every piece, as llama-server gives it */
    FIELD_CONTINUOUS_USAGE,  /* the same as vLLM gives it, inside stream_options */
    FIELD_INCLUDE_USAGE,     /* stream_options.include_usage: the counts at the end */
    N_FIELDS
};
extern const char *const target_field_names[N_FIELDS]; /* as they stand in a request */

enum target_tokenizer {
    TOKENIZER_LLAMA, /* POST /tokenize {"content"} -> {"tokens"} */
    TOKENIZER_VLLM,  /* POST /tokenize {"prompt"} -> {"count"} */
    TOKENIZER_USAGE, /* none: prompts of one token of answer, counted by `usage` */
};

struct target {
    struct client *client;
    char url[256];
    char model[256];
    char engine[64], build[128], device_api[64], command_line[1024]; /* "" = it does not say */
    uint32_t context, slots;                                         /* 0 = it does not say */
    uint32_t cache_page; /* tokens that its prefix cache keeps or drops together; 0 = it does not say */
    bool takes[N_FIELDS];
    enum target_tokenizer tokenizer;
    bool reports_cached; /* some reply carried a count of cached tokens */
    bool drafts;         /* it says that it guesses tokens ahead, so several may come of one pass over the weights */
    uint32_t setup_requests;
    struct buf scratch;
};

/* Asks who the server is, finds the way to count tokens, and drops the fields that it refuses. t->client and t->url are
 * set; model NULL: the first that it lists. natural_stop: answers may end by themselves. */
sluice_status target_identify(struct target *t, const char *model, bool natural_stop, sluice_error *err);
void target_free(struct target *t); /* not the client */

/* The request body: `messages` is the JSON array. */
void target_body(const struct target *t, const char *messages, uint32_t max_tokens, struct buf *out);
/* Tokens of a text by the server's tokenizer, which adds none of its own; parse_special: names of special tokens in the
 * text are those tokens. Not for TOKENIZER_USAGE. */
sluice_status target_count_text(struct target *t, const char *text, size_t n, bool parse_special, uint32_t *out,
                                sluice_error *err);
/* Sends the prompt with one token of answer and reports what the server counted: prompt tokens, or an error. */
sluice_status target_count_prompt(struct target *t, const char *messages, uint32_t *out, sluice_error *err);
/* The rendered prompt for messages, where the server renders it (/apply-template); false where it does not. */
bool target_render(struct target *t, const char *messages, struct buf *out);

#endif
