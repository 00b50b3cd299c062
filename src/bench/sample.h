/*
 * One request of a benchmark: its clock readings, its token counts, and the rates that follow from them and nothing
 * else. Times are milliseconds after the request was sent, rounded as a record keeps them; a value below 0 is unknown.
 */
#ifndef BENCH_SAMPLE_H
#define BENCH_SAMPLE_H

#include "sluice.h"

struct sample {
    uint32_t run, stream; /* round, and place in it */
    bool warmup;
    bool ok;
    bool refused; /* HTTP 400, 413 or 422: this request is too much for the server, another may fit */
    char error[320];
    char prompt_sha256[65]; /* of the `messages` array as sent; "" = not sent */
    int64_t prompt_tokens_wanted;
    double intended_ms;      /* open loop: when it was meant to be sent, after the start of the record */
    double send_ms;          /* after the start of the record */
    double first_byte_ms;    /* of the body */
    double first_token_ms;   /* first token of any kind: answer, reasoning or tool call */
    double first_content_ms; /* first text of the answer itself */
    double last_token_ms;
    double end_ms;    /* the stream's end */
    double *token_ms; /* [output_tokens] when each token came; NULL: not known. Owned (mem.h) */
    int64_t prompt_tokens, output_tokens, cached_tokens, reasoning_tokens;
    uint32_t chunks;                              /* pieces that carried text */
    char finish[24];                              /* "stop", "length", ... */
    double server_prompt_ms, server_predicted_ms; /* from `timings`, where the server sends them */
};

void sample_reset(struct sample *s); /* all unknown; frees nothing */
void sample_free(struct sample *s);

/* Each of these is -1 when something it needs is unknown. */
double sample_ttft_ms(const struct sample *s);
double sample_tpot_ms(const struct sample *s);      /* (last token - first token) / (output tokens - 1) */
double sample_decode_tok_s(const struct sample *s); /* 1000 / TPOT */
double sample_client_tok_s(const struct sample *s); /* output tokens / total time */
double sample_latency_ms(const struct sample *s);   /* end, counted from the intended send time where there is one */
double sample_queue_ms(const struct sample *s);     /* how much later than intended it was sent */
/* Prompt tokens that were computed / TTFT; prompt tokens taken from a cache are no work. An unknown cached count is
 * taken at zero; the row is then unverified. */
double sample_prefill_tok_s(const struct sample *s);

#endif
