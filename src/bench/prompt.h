/*
 * A workload's prompt, cut to an exact number of tokens as the target counts them. Its very first text is a number (the
 * nonce) of always the same length: with another number no prefix cache can answer for the computation, with the same
 * number all of it may come from the cache.
 */
#ifndef BENCH_PROMPT_H
#define BENCH_PROMPT_H

#include "bench/target.h"
#include "bench/workload.h"

struct prompt {
    const struct workload *workload;
    char *text;              /* what the cut turn has before its fixed end */
    uint32_t wanted;         /* tokens */
    uint32_t tokens;         /* that it has by the target's count; 0: the target does not count */
    int64_t template_tokens; /* of the template before the nonce, at most; -1 unknown */
};

/* Where the template and the fixed texts alone take more than wanted tokens, the prompt has those (tokens > wanted).
 * *nonce: the next that nobody has sent; counted on. SLUICE_E_LIMIT: the target refuses a prompt of that size. */
sluice_status prompt_make(struct target *t, const struct workload *w, uint32_t wanted, uint64_t *nonce,
                          struct prompt *out, sluice_error *err);
void prompt_free(struct prompt *p);

/* The JSON array of messages; nonce: successive numbers begin with different tokens. */
void prompt_messages(const struct prompt *p, uint64_t nonce, struct buf *out);
/* "" when OpenSSL failed */
void prompt_sha256(const struct buf *messages, char out[65]);

#endif
