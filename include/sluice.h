/*
 * sluice - runs LFM2 / LFM2.5 models. The public API: model, engine, request.
 *
 * sluice_model   the loaded, read-only file: weights (memory-mapped), tokenizer, chat format.
 * sluice_engine  one backend with its memory and its thread; turns requests into tokens.
 * sluice_request one generation: submit, then poll or wait for events, cancel, free.
 *
 * Errors: every call that can fail returns a sluice_status and, where an error pointer is given (it may be NULL),
 * writes one sentence for the user into it. Nothing here prints or exits.
 *
 * Threads: a model may be used by any number of threads at once. Engine calls are safe from any thread. One request
 * is polled by one thread at a time; sluice_request_cancel is safe from any thread.
 */
#ifndef SLUICE_H
#define SLUICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_VERSION "0.1.0"

typedef enum sluice_status {
    SLUICE_OK = 0,
    SLUICE_E_ARG,         /* the caller's argument is wrong (HTTP 400) */
    SLUICE_E_IO,          /* a file or socket failed; the text carries errno's words */
    SLUICE_E_FORMAT,      /* bytes from outside are malformed */
    SLUICE_E_UNSUPPORTED, /* well-formed, but not something this build runs */
    SLUICE_E_NOMEM,       /* memory that was asked for is not there */
    SLUICE_E_LIMIT,       /* a stated limit would be exceeded (context, pages, sizes) */
    SLUICE_E_BUSY,        /* the queue is full or the resource is taken; try again later */
    SLUICE_E_CANCELLED,   /* the request was cancelled by its owner */
    SLUICE_E_BACKEND      /* the backend (device) failed */
} sluice_status;

typedef struct sluice_error {
    sluice_status status;
    char text[480]; /* one sentence, UTF-8, no newline; names the thing, the limit and what to do */
} sluice_error;

/* "SLUICE_E_LIMIT" and so on; never NULL. */
const char *sluice_status_name(sluice_status status);

/* ---- Model ------------------------------------------------------------------------------------------------- */

typedef struct sluice_model sluice_model;

/* What a client that gives no sampling fields gets: the model card's settings (lfm2.md 4.6). */
typedef struct sluice_sampling {
    float temperature;        /* 0 = greedy */
    int32_t top_k;            /* 0 = off */
    float top_p;              /* 1 = off */
    float min_p;              /* 0 = off */
    float repetition_penalty; /* 1 = off; over prompt and output, as the model cards define it */
    float presence_penalty;   /* 0 = off; over the output only, as OpenAI defines it */
    float frequency_penalty;  /* 0 = off; over the output only */
    uint64_t seed;            /* same seed, same request, same text */
} sluice_sampling;

typedef struct sluice_model_info {
    const char *name; /* general.name, or the file's base name */
    const char *path;
    const char *architecture; /* "lfm2" or "lfm2moe" */
    const char *quantization; /* "Q4_K_M", ... as general.file_type says, or the commonest tensor type */
    const char *chat_family;  /* "lfm2", "lfm2.5", "lfm2.5-thinking" or "none" */
    uint64_t n_params;
    uint64_t file_bytes;
    uint64_t tensor_bytes;
    uint64_t decode_bytes;       /* weight bytes read for one token at batch 1, embedding row apart; KV not included */
    uint64_t kv_bytes_per_token; /* F16 K and V over all attention layers */
    uint32_t n_vocab, n_layer, n_embd;
    uint32_t n_expert, n_expert_used;
    uint32_t n_ctx_train; /* context_length of the file */
    int32_t bos, eos;     /* -1 where the file names none */
    bool has_tokenizer;   /* false in an engine-only build or for a file without a vocabulary */
    sluice_sampling recommended;
} sluice_model_info;

/* Maps and validates a GGUF. path NULL: the model that ships with sluice (see sluice_default_model_path). */
sluice_status sluice_model_load(const char *path, sluice_model **out, sluice_error *err);
void sluice_model_free(sluice_model *model);
const sluice_model_info *sluice_model_get_info(const sluice_model *model);
/* The shipped model: $SLUICE_MODEL, else ../models or ../share/sluice beside the executable. Writes at most cap bytes. */
sluice_status sluice_default_model_path(char *out, size_t cap, sluice_error *err);

/* ---- Text -------------------------------------------------------------------------------------------------- */

/* flags of sluice_tokenize */
#define SLUICE_TOK_BOS     1u /* put BOS first, unless the file says add_bos_token = false */
#define SLUICE_TOK_SPECIAL 2u /* recognise control tokens written out in the text ("<|im_end|>") */

/* Token ids of text[0..len) (UTF-8; invalid bytes are tokenized as bytes). *out is malloc'ed, free() it. */
sluice_status sluice_tokenize(const sluice_model *model, const char *text, size_t len, unsigned flags, int32_t **out,
                              size_t *n_out, sluice_error *err);

/* The bytes a token stands for, not NUL-terminated; may be part of a UTF-8 sequence. *len = 0 for an unused id.
 * Control tokens give their written form ("<|im_end|>"). Valid as long as the model. */
const char *sluice_token_bytes(const sluice_model *model, int32_t token, size_t *len);
/* True for tokens that end a turn: EOS, <|im_end|>, <|endoftext|>. */
bool sluice_token_is_end(const sluice_model *model, int32_t token);
/* True for control tokens, which are left out of generated text (tool-call markers excepted). */
bool sluice_token_is_control(const sluice_model *model, int32_t token);

typedef struct sluice_tool_call {
    const char *id; /* may be NULL */
    const char *name;
    const char *arguments_json; /* a JSON object as text */
} sluice_tool_call;

typedef struct sluice_message {
    const char *role;    /* "system", "developer" (= system), "user", "assistant", "tool" */
    const char *content; /* may be NULL (an assistant turn that only calls tools) */
    size_t content_len;
    const char *reasoning; /* past thinking of an assistant turn, or NULL */
    const sluice_tool_call *tool_calls;
    size_t n_tool_calls;
} sluice_message;

typedef struct sluice_chat {
    const sluice_message *messages;
    size_t n_messages;
    const char *tools_json;    /* the OpenAI "tools" array as text, or NULL */
    bool no_generation_prompt; /* leave out the final "<|im_start|>assistant\n" */
} sluice_chat;

/* Renders a conversation in the model's format. tokens (malloc'ed; may be NULL) get control tokens as ids while message
 * text is never parsed for them; text (malloc'ed, NUL-terminated; may be NULL) is the same as one string for display.
 * SLUICE_E_ARG names the message at fault. */
sluice_status sluice_chat_render(const sluice_model *model, const sluice_chat *chat, int32_t **tokens, size_t *n_tokens,
                                 char **text, sluice_error *err);

/* ---- Engine ------------------------------------------------------------------------------------------------ */

typedef struct sluice_engine sluice_engine;

typedef struct sluice_engine_options {
    const char *backend; /* "auto", "cpu", "ref" */
    uint32_t n_threads;  /* 0 = min(allowed cores, CPU quota) */
    uint32_t n_slots;    /* requests that hold memory at once */
    uint32_t
        ctx_per_slot; /* tokens of prompt + answer per request; 0 = min(n_ctx_train, 32768, what kv_bytes_max allows) */
    uint64_t kv_bytes_max;  /* 0 = what is spare in memory */
    uint32_t prefill_chunk; /* tokens per prefill step; 0 = the backend's choice */
    uint32_t queue_max;     /* waiting requests beyond the slots before SLUICE_E_BUSY */
} sluice_engine_options;

sluice_engine_options sluice_engine_options_default(void);

typedef struct sluice_engine_info {
    const char *backend; /* "cpu", ... */
    const char *device;  /* "AMD EPYC, 2 threads, avx512vnni" */
    uint32_t n_threads, n_slots, ctx_per_slot, prefill_chunk;
    uint64_t weight_bytes, kv_bytes, work_bytes; /* resident when full */
    uint64_t memory_available;                   /* before loading */
} sluice_engine_info;

/* Fails with SLUICE_E_NOMEM and a sentence that names what does not fit and the option that helps. The model must outlive
 * the engine. */
sluice_status sluice_engine_create(sluice_model *model, const sluice_engine_options *options, sluice_engine **out,
                                   sluice_error *err);
/* Cancels what is running (each request gets its final event) and joins the engine thread. */
void sluice_engine_free(sluice_engine *engine);
const sluice_engine_info *sluice_engine_get_info(const sluice_engine *engine);

typedef struct sluice_slot_state { /* one row of /slots */
    uint32_t id;
    bool busy;
    uint64_t request_id;
    uint32_t n_prompt, n_prompt_done, n_generated;
} sluice_slot_state;

typedef struct sluice_engine_metrics {
    uint64_t requests_total, requests_failed, requests_cancelled;
    uint64_t prompt_tokens_total, prompt_tokens_cached, generated_tokens_total;
    uint64_t steps_total;
    double prefill_seconds_total, decode_seconds_total;
    uint32_t requests_running, requests_waiting;
} sluice_engine_metrics;

void sluice_engine_get_metrics(sluice_engine *engine, sluice_engine_metrics *out);
/* Fills at most cap rows; returns the number of slots. */
uint32_t sluice_engine_get_slots(sluice_engine *engine, sluice_slot_state *out, uint32_t cap);

/* ---- Requests ---------------------------------------------------------------------------------------------- */

typedef struct sluice_request sluice_request;

typedef struct sluice_logit_bias {
    int32_t token;
    float bias; /* added to the logit; <= -100 bans the token */
} sluice_logit_bias;

typedef struct sluice_request_options {
    const int32_t *tokens; /* [n_tokens] the prompt; copied */
    size_t n_tokens;
    uint32_t max_tokens; /* 0 = as many as the context allows */
    sluice_sampling sampling;
    const char *const *stop; /* [n_stop] strings that end the answer and are left out of it; copied */
    size_t n_stop;
    const sluice_logit_bias *logit_bias; /* [n_logit_bias]; copied */
    size_t n_logit_bias;
    bool ignore_eos;       /* end tokens are not sampled from; generation runs to max_tokens */
    bool keep_control;     /* give the written form of control tokens in the text as well */
    bool logprobs;         /* fill sluice_event.logprob */
    uint32_t top_logprobs; /* 0..20 alternatives per token */
    void (*on_ready)(
        void *ctx); /* called on the engine thread when an event can be taken; must not block; may be NULL */
    void *on_ready_ctx;
} sluice_request_options;

sluice_request_options sluice_request_options_default(const sluice_model *model);

typedef enum sluice_event_kind {
    SLUICE_EVENT_NONE = 0, /* nothing yet */
    SLUICE_EVENT_TOKEN,    /* one generated token and the text it completes (possibly empty) */
    SLUICE_EVENT_DONE,     /* the last event: finish reason and timings */
    SLUICE_EVENT_ERROR     /* the last event: error */
} sluice_event_kind;

typedef enum sluice_finish { SLUICE_FINISH_STOP, SLUICE_FINISH_LENGTH } sluice_finish;

#define SLUICE_TOP_LOGPROBS_MAX 20

typedef struct sluice_token_prob {
    int32_t token;
    float logprob; /* natural log of the softmax of the raw logits, before penalties and temperature */
} sluice_token_prob;

typedef struct sluice_timings {
    uint32_t prompt_n;    /* prompt tokens computed */
    uint32_t cache_n;     /* prompt tokens taken from cache */
    uint32_t predicted_n; /* tokens generated, the end token included */
    double queue_ms, prompt_ms, predicted_ms;
} sluice_timings;

typedef struct sluice_event {
    sluice_event_kind kind;
    int32_t token;
    const char *text; /* whole UTF-8 sequences, not NUL-terminated; valid until the next call for this request */
    size_t text_len;
    float logprob;
    uint32_t n_top;
    sluice_token_prob top[SLUICE_TOP_LOGPROBS_MAX];
    sluice_finish finish;
    const char *stop_string; /* with DONE: the stop string that matched, or NULL */
    sluice_timings timings;
    sluice_error error;
} sluice_event;

/* Queues a request. SLUICE_E_LIMIT: prompt plus one token does not fit the context; SLUICE_E_BUSY: the queue is full. */
sluice_status sluice_request_submit(sluice_engine *engine, const sluice_request_options *options, sluice_request **out,
                                    sluice_error *err);
/* Takes the next event if there is one; never blocks. After DONE or ERROR it gives NONE. */
sluice_event_kind sluice_request_poll(sluice_request *request, sluice_event *event);
/* The same, waiting up to timeout_ms (negative: for ever). */
sluice_event_kind sluice_request_wait(sluice_request *request, sluice_event *event, int timeout_ms);
/* Ends the request within one engine step; its last event is an ERROR with SLUICE_E_CANCELLED. */
void sluice_request_cancel(sluice_request *request);
uint64_t sluice_request_id(const sluice_request *request);
/* Cancels if still running; on_ready is not called any more once this returns. */
void sluice_request_free(sluice_request *request);

#ifdef __cplusplus
}
#endif
#endif
