/*
 * What is asked of a server: four shapes of use - chat, code generation, answers over retrieved passages, one step of a
 * tool-using assistant - and a long document for sweeps over the context. One message of each is cut (or, from the
 * shipped prose, filled) so that the whole prompt has an exact number of tokens on the target.
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <stdint.h>

#define WORKLOAD_TURNS_MAX 4

struct workload {
    const char *name;
    const char *system;                    /* or NULL */
    const char *turns[WORKLOAD_TURNS_MAX]; /* user, assistant, user, ...; ends with NULL */
    const char *source;     /* the last turn is: a cut of this and of prose behind it, then `turns`' text */
    uint32_t prompt_tokens; /* of the whole prompt, template included; as on the public page */
    uint32_t max_tokens;
};

extern const struct workload workload_chat, workload_codegen, workload_rag, workload_agent, workload_depth;

#endif
