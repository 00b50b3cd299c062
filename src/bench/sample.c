#include "bench/sample.h"

void sample_reset(struct sample *s) {
    *s = (struct sample){
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
        .gap_max_ms = -1,
        .server_prompt_ms = -1,
        .server_predicted_ms = -1,
    };
}

double sample_ttft_ms(const struct sample *s) {
    return s->first_token_ms;
}

double sample_tpot_ms(const struct sample *s) {
    /* one piece only: the server kept the text back, and the time between tokens cannot be seen from here */
    if (s->output_tokens < 2 || s->chunks < 2 || s->last_token_ms <= s->first_token_ms || s->first_token_ms < 0) {
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

double sample_prefill_tok_s(const struct sample *s) {
    if (s->prompt_tokens < 0 || s->first_token_ms <= 0) {
        return -1;
    }
    int64_t cached = s->cached_tokens > 0 ? s->cached_tokens : 0;
    int64_t computed = s->prompt_tokens > cached ? s->prompt_tokens - cached : 0;
    return 1000 * (double)computed / s->first_token_ms;
}
