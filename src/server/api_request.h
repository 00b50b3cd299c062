/*
 * The body of an API call -> what the engine needs. Every field is honoured or refused by name; null counts as absent.
 * Strings point into the JSON tree, the rest into the arena: both live until api_request_free.
 */
#ifndef SERVER_API_REQUEST_H
#define SERVER_API_REQUEST_H

#include "server/api_error.h"
#include "server/arena.h"
#include "sluice.h"

enum api_surface { API_CHAT = 1, API_COMPLETION = 2, API_TEMPLATE = 4 };

struct json_object;

struct api_prompt { /* text, or token ids when text is NULL */
    const char *text;
    size_t len;
    const int32_t *tokens; /* [n_tokens] */
    size_t n_tokens;
};

struct api_request {
    sluice_sampling sampling;
    bool has_seed;
    uint32_t max_tokens; /* 0 = as many as the context allows */
    uint32_t n;
    bool stream, include_usage, continuous_usage;
    bool has_stream_options;
    bool logprobs;
    uint32_t top_logprobs;
    bool ignore_eos;
    bool cache_prompt, no_draft;
    uint32_t timeout_ms; /* 0 = none */
    bool echo;
    const char **stop; /* [n_stop] */
    size_t n_stop;
    sluice_logit_bias *logit_bias; /* [n_logit_bias] */
    size_t n_logit_bias;

    sluice_chat chat;           /* chat and template */
    struct api_prompt *prompts; /* [n_prompts]; completion */
    size_t n_prompts;

    /* how the fields fit together, checked once all are read */
    const char *tools_json;
    bool tools_off;
    uint32_t best_of;
    bool has_top_logprobs;

    uint32_t n_vocab;
    struct arena arena;
    struct json_object *tree;
};

/* Reads a body. On false e is filled; r is to be freed in either case. */
bool api_request_parse(struct api_request *r, enum api_surface surface, const sluice_model_info *model,
                       const char *body, size_t n, struct api_error *e);
void api_request_free(struct api_request *r);

/* api_messages.c */
bool api_read_messages(struct api_request *r, struct json_object *v, struct api_error *e);
bool api_read_tools(struct api_request *r, struct json_object *v, struct api_error *e);

#endif
