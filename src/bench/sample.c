#include "bench/sample.h"

#include "base/mem.h"

void sample_reset(struct sample *s) {
    *s = (struct sample){
        .prompt_tokens_wanted = -1,
        .intended_ms = -1,
        .send_ms = -1,
        .first_byte_ms = -1,
        .first_token_ms = -1,
        .first_content_ms = -1,
        .last_token_ms = -1,
        .end_ms = -1,
        .prompt_tokens = -1,
        .output_tokens = -1,
        .cached_tokens = -1,
        .reasoning_tokens = -1,
        .server_prompt_ms = -1,
        .server_predicted_ms = -1,
    };
}

void sample_free(struct sample *s) {
    mem_free(s->token_ms);
    s->token_ms = NULL;
}

double sample_ttft_ms(const struct sample *s) {
    return s->first_token_ms;
}

double sample_tpot_ms(const struct sample *s) {
    /* all in one piece: the server kept the text back, and the time between tokens cannot be seen from here */
    if (s->output_tokens < 2 || s->first_token_ms < 0 || s->last_token_ms <= s->first_token_ms) {
        return -1;
    }
    return (s->last_token_ms - s->first_token_ms) / (double)(s->output_tokens - 1);
}

double sample_decode_tok_s(const struct sample *s) {
    double tpot = sample_tpot_ms(s);
    return tpot > 0 ? 1000 / tpot : -1;
}

double sample_client_tok_s(const struct sample *s) {
    return s->output_tokens >= 0 && s->end_ms > 0 ? 1000 * (double)s->output_tokens / s->end_ms : -1;
}

double sample_latency_ms(const struct sample *s) {
    if (s->end_ms < 0) {
        return -1;
    }
    return s->intended_ms >= 0 ? s->end_ms + sample_queue_ms(s) : s->end_ms;
}

double sample_queue_ms(const struct sample *s) {
    if (s->intended_ms < 0 || s->send_ms < 0) {
        return -1;
    }
    return s->send_ms > s->intended_ms ? s->send_ms - s->intended_ms : 0;
}

double sample_prefill_tok_s(const struct sample *s) {
    int64_t cached = s->cached_tokens > 0 ? s->cached_tokens : 0;
    if (s->prompt_tokens < 0 || cached > s->prompt_tokens || s->first_token_ms <= 0) {
        return -1;
    }
    return 1000 * (double)(s->prompt_tokens - cached) / s->first_token_ms;
}
