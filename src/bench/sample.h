/*
 * One request of a benchmark: its clock readings, its token counts, and the rates that follow from them and nothing
 * else. Times are milliseconds after the request was sent; a value below 0 is unknown.
 */
#ifndef BENCH_SAMPLE_H
#define BENCH_SAMPLE_H

#include "sluice.h"

struct sample {
    bool ok;
    bool refused; /* HTTP 400, 413 or 422: this request is too much for the server, another may fit */
    char error[320];
    double send_ms; /* after the start of the record */
    double first_byte_ms;
    double first_token_ms;   /* first text of any kind: answer, reasoning or tool call */
    double first_content_ms; /* first text of the answer itself */
    double last_token_ms;    /* the piece that carried the finish reason, else the last text */
    double end_ms;           /* the stream's end */
    int64_t prompt_tokens, output_tokens, cached_tokens, reasoning_tokens;
    uint32_t chunks;                              /* pieces that carried text */
    double gap_max_ms;                            /* longest wait between two of them */
    char finish[24];                              /* "stop", "length", ... */
    double server_prompt_ms, server_predicted_ms; /* from `timings`, where the server sends them */
};

void sample_reset(struct sample *s);

/* Each of these is -1 when something it needs is unknown. */
double sample_ttft_ms(const struct sample *s);
double sample_tpot_ms(const struct sample *s);      /* (last token - first token) / (output tokens - 1) */
double sample_decode_tok_s(const struct sample *s); /* 1000 / TPOT */
double sample_client_tok_s(const struct sample *s); /* output tokens / total time */
/* Prompt tokens that were computed / TTFT; prompt tokens taken from a cache are no work. A server that does not
 * report cached tokens is taken at zero: the prompts open with a nonce. */
double sample_prefill_tok_s(const struct sample *s);

#endif
