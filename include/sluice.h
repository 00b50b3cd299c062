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
 * is polled by one thread at a time; sluice_request_cancel is safe from any thread. Each function says below how it may
 * be called: "any thread" means that calls with the same object may also overlap.
 *
 * Memory: strings and structs reached through a const pointer belong to the object they came from. What is given as
 * malloc'ed is the caller's to free(). The *_free functions take NULL. A function that fails leaves its outputs alone
 * unless it says otherwise.
 *
 * Units: tokens, bytes and milliseconds as the names say; times are wall-clock.
 */
#ifndef SLUICE_H
#define SLUICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default) /* these names leave the library, all others stay inside */
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
    SLUICE_E_BACKEND,     /* the backend (device) failed */
    SLUICE_E_TIMEOUT      /* the request's own deadline passed */
} sluice_status;

typedef struct sluice_error {
    sluice_status status;
    char text[480]; /* one sentence, UTF-8, no newline; names the thing, the limit and what to do */
} sluice_error;

/* "SLUICE_E_LIMIT" and so on; never NULL. Any thread. */
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
    uint32_t n_ctx_train;    /* context_length of the file */
    int32_t bos, eos;        /* -1 where the file names none */
    bool has_tokenizer;      /* false in an engine-only build or for a file without a vocabulary */
    const char *fingerprint; /* 64 hex digits: SHA-256 over size, header, tensor table and sampled megabytes of the
                              * file; "" in an engine-only build */
    sluice_sampling recommended;
} sluice_model_info;

/* Maps and validates a GGUF; the weights are read when an engine needs them. path NULL: the model that ships with
 * sluice (see sluice_default_model_path). SLUICE_E_IO: cannot be read; SLUICE_E_FORMAT: no GGUF, or damaged;
 * SLUICE_E_UNSUPPORTED: another architecture, tensor type or tokenizer; SLUICE_E_NOMEM. Any thread. */
sluice_status sluice_model_load(const char *path, sluice_model **out, sluice_error *err);
/* The last call for a model: its engines are freed, no other call is under way. Ends a SHA-256 being computed. */
void sluice_model_free(sluice_model *model);
/* Never NULL; constant, and valid as long as the model. Any thread. */
const sluice_model_info *sluice_model_get_info(const sluice_model *model);
/* SHA-256 of the whole file as 64 hex digits. Known at once if this file (device, inode, size, mtime) was hashed
 * before on this machine (remembered in $XDG_CACHE_HOME/sluice); otherwise computed on an idle-priority thread that
 * the first call starts. Waits up to timeout_ms (negative: for ever; 0: only looks); SLUICE_E_BUSY: not ready yet.
 * SLUICE_E_IO: the file cannot be read or changed meanwhile; SLUICE_E_UNSUPPORTED: an engine-only build. Any thread. */
sluice_status sluice_model_sha256(sluice_model *model, int timeout_ms, char out[65], sluice_error *err);
/* The shipped model: $SLUICE_MODEL, else ../models or ../share/sluice beside the executable. Writes at most cap
 * bytes, the NUL included; SLUICE_E_LIMIT: more are needed; SLUICE_E_IO: there is no such file. Reads the
 * environment, so no thread may change that meanwhile. */
sluice_status sluice_default_model_path(char *out, size_t cap, sluice_error *err);

/* ---- Text -------------------------------------------------------------------------------------------------- */

/* flags of sluice_tokenize */
#define SLUICE_TOK_BOS     1u /* put BOS first, unless the file says add_bos_token = false */
#define SLUICE_TOK_SPECIAL 2u /* recognise control tokens written out in the text ("<|im_end|>") */

/* Token ids of text[0..len) (UTF-8; invalid bytes are tokenized as bytes). *out [*n_out] is malloc'ed, also when it is
 * empty. SLUICE_E_UNSUPPORTED: the model has no tokenizer; SLUICE_E_NOMEM. Any thread. */
sluice_status sluice_tokenize(const sluice_model *model, const char *text, size_t len, unsigned flags, int32_t **out,
                              size_t *n_out, sluice_error *err);

/* The bytes a token stands for, not NUL-terminated; may be part of a UTF-8 sequence. *len = 0 for an unused id.
 * Control tokens give their written form ("<|im_end|>"). Never NULL, valid as long as the model. Any thread, like the
 * next two. */
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
 * SLUICE_E_ARG names the message at fault; SLUICE_E_UNSUPPORTED: no chat format or tokenizer is known for the model;
 * SLUICE_E_NOMEM. Any thread. */
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
    uint64_t
        cache_bytes_max;    /* of the KV memory, what finished prompts and answers may keep for later requests with the
                               * same beginning; 0 = nothing is kept. UINT64_MAX (default): all that is not in use */
    uint32_t draft_max;     /* tokens guessed per request and step from what was said before, and verified in one step;
                               * 0 = never */
    const char *trace_path; /* a Chrome trace (chrome://tracing, Perfetto) of every step; NULL = none */
} sluice_engine_options;

/* Any thread, and constant: 4 slots, a queue of 256, the whole KV memory as cache. */
sluice_engine_options sluice_engine_options_default(void);

typedef struct sluice_engine_info {
    const char *backend; /* "cpu", ... */
    const char *device;  /* "AMD EPYC, 2 threads, avx512vnni" */
    uint32_t n_threads, n_slots, ctx_per_slot, prefill_chunk;
    uint64_t weight_bytes, kv_bytes, work_bytes; /* resident when full */
    uint64_t memory_available;                   /* before loading */
    uint64_t pinned_bytes, other_bytes; /* with a GPU: host memory locked for it; in use on it beside the engine */
    uint32_t n_pages, page_tokens; /* the KV memory: pages of page_tokens positions with the conv state behind each */
    uint64_t page_bytes;
    uint32_t draft_max;
} sluice_engine_info;

/* Takes the memory, may repack weights (seconds for a large model), and starts the engine's thread. options NULL:
 * the defaults; they are copied. SLUICE_E_NOMEM has a sentence that names what does not fit and the option that
 * helps; SLUICE_E_ARG: an option is out of range; SLUICE_E_UNSUPPORTED: the backend cannot run here; SLUICE_E_IO:
 * the trace cannot be written. The model must outlive the engine and may have several. Any thread. */
sluice_status sluice_engine_create(sluice_model *model, const sluice_engine_options *options, sluice_engine **out,
                                   sluice_error *err);
/* Cancels what is running (each request gets its final event), joins the engine thread and completes the trace. The
 * last call for an engine, not from on_ready; its requests may be polled, cancelled and freed during it and after. */
void sluice_engine_free(sluice_engine *engine);
/* Completes the trace now, while the engine goes on without. SLUICE_E_IO: it could not be written in full (a full disk);
 * the file has what came before. SLUICE_OK also where there is none. Any thread but the engine's; waits one step. */
sluice_status sluice_engine_end_trace(sluice_engine *engine, sluice_error *err);
/* Never NULL; constant, and valid as long as the engine. Any thread. */
const sluice_engine_info *sluice_engine_get_info(const sluice_engine *engine);

typedef struct sluice_slot_state { /* one row of /slots */
    uint32_t id;
    bool busy;
    uint64_t request_id;
    uint32_t n_prompt, n_prompt_done, n_generated;
} sluice_slot_state;

typedef struct sluice_engine_metrics {
    uint64_t requests_total, requests_failed, requests_cancelled; /* failed: deadlines included */
    uint64_t requests_preempted; /* times a running request gave up its memory to an older one, to go on later */
    /* prompt tokens computed; taken from the cache; computed again after a preemption */
    uint64_t prompt_tokens_total, prompt_tokens_cached, recomputed_tokens_total;
    uint64_t generated_tokens_total;
    uint64_t draft_tokens_total, draft_tokens_accepted;
    uint64_t steps_total;
    uint64_t steps_failed;                              /* on the device; each ended its requests with an error */
    bool last_step_failed;                              /* and no step has gone well since */
    double prefill_seconds_total, decode_seconds_total; /* seconds of steps with prompt tokens, and of all others */
    uint32_t requests_running, requests_waiting;
    uint32_t pages_total, pages_cached, pages_free; /* cached: kept, but in no running request's use */
} sluice_engine_metrics;

/* Counted since the engine was created. Each figure is exact, but they are read one by one while the engine runs on.
 * Any thread; never waits. */
void sluice_engine_get_metrics(sluice_engine *engine, sluice_engine_metrics *out);
/* Takes no more requests (SLUICE_E_BUSY, from now on and for good) and waits up to timeout_ms (negative: for ever)
 * for those running and waiting. True when all have ended; may be called again to wait on. Any thread, but not from
 * on_ready. */
bool sluice_engine_drain(sluice_engine *engine, int timeout_ms);

typedef struct sluice_state_info {
    uint32_t n_pages;  /* written or taken in */
    uint64_t n_tokens; /* n_pages times page_tokens */
    uint64_t n_bytes;  /* of the file */
} sluice_state_info;

/* Writes the prefix cache (tokens, K, V and conv states of every full page) to a file, atomically: a temporary file
 * beside it, synced, then renamed. Requests go on meanwhile. info may be NULL. SLUICE_E_IO: cannot be written, and an
 * older file of that name is as it was; SLUICE_E_BUSY: another save is under way; SLUICE_E_UNSUPPORTED: an engine-only
 * build; SLUICE_E_NOMEM. Any thread, but not from on_ready; returns when the file is on the disk. */
sluice_status sluice_engine_save(sluice_engine *engine, const char *path, sluice_state_info *info, sluice_error *err);
/* Takes in such a file, as far as pages are free. A file of another model, backend or build (SLUICE_E_UNSUPPORTED) or a
 * damaged one (SLUICE_E_FORMAT) is renamed to path.refused and nothing of it is kept. SLUICE_E_IO: it cannot be read.
 * Requests go on meanwhile and find it in the cache once all of it is there. info may be NULL. Any thread, but not from
 * on_ready. */
sluice_status sluice_engine_restore(sluice_engine *engine, const char *path, sluice_state_info *info,
                                    sluice_error *err);
/* Forgets all that no running request uses. Any thread, but not from on_ready; returns when it is done. */
void sluice_engine_clear_cache(sluice_engine *engine);

/* Fills at most cap rows; returns the number of slots. A recent state: rows may be one step apart. Any thread; never
 * waits. */
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
    bool no_cache;         /* take nothing from the prefix cache and leave nothing in it */
    bool no_draft;         /* one token per step; the tokens are the same with drafts */
    uint32_t timeout_ms;   /* from submit to the last token, then SLUICE_E_TIMEOUT; 0 = none */
    const int32_t *forced; /* [n_forced] the first generated tokens are these, whatever the model would have said; their
                            * logprobs are the model's. For scoring given text and for benchmarks; copied */
    size_t n_forced;
    bool logprobs;         /* fill sluice_event.logprob */
    uint32_t top_logprobs; /* 0..20 alternatives per token */
    void (*on_ready)(
        void *ctx); /* called on the engine thread when an event can be taken; must not block; may be NULL */
    void *on_ready_ctx;
} sluice_request_options;

/* The recommended sampling, as many tokens as the context allows, nothing else. Any thread. */
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
    uint32_t prompt_n;                        /* prompt tokens computed for this request */
    uint32_t cache_n;                         /* the others: found in the cache, or computed by a request beside it */
    uint32_t predicted_n;                     /* tokens generated, the end token included */
    uint32_t draft_n, draft_accepted_n;       /* tokens guessed, and how many of them were right */
    double queue_ms, prompt_ms, predicted_ms; /* waiting; from then to the first token; from then to the last */
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
    sluice_timings timings;  /* with DONE and ERROR; with TOKEN cache_n so far */
    sluice_error error;      /* with ERROR; its status is SLUICE_OK in all other events */
} sluice_event;

/* Queues a request and returns at once. SLUICE_E_LIMIT: prompt plus one token does not fit the context;
 * SLUICE_E_BUSY: the queue is full or the engine drains; SLUICE_E_ARG: a setting is out of range or a token is not
 * in the vocabulary; SLUICE_E_NOMEM. Any thread, on_ready included. *out is set before on_ready is called for the
 * first time. */
sluice_status sluice_request_submit(sluice_engine *engine, const sluice_request_options *options, sluice_request **out,
                                    sluice_error *err);
/* Takes the next event if there is one; never blocks. After DONE or ERROR it gives NONE. event is written in every
 * case. One thread at a time per request, on_ready included. */
sluice_event_kind sluice_request_poll(sluice_request *request, sluice_event *event);
/* The same, waiting up to timeout_ms (negative: for ever). NONE: the time is over, or the last event was taken
 * before. Not from on_ready, which runs on the thread that events come from. */
sluice_event_kind sluice_request_wait(sluice_request *request, sluice_event *event, int timeout_ms);
/* Ends the request within one engine step; its last event is an ERROR with SLUICE_E_CANCELLED, unless it had ended by
 * itself. Tokens that are there already can still be taken. Any thread, on_ready included; never waits. */
void sluice_request_cancel(sluice_request *request);
/* Unique within the engine and above 0; the same as in sluice_slot_state and in the trace. Any thread. */
uint64_t sluice_request_id(const sluice_request *request);
/* Cancels if still running; on_ready is not called any more once this returns (it waits for a call under way, unless
 * it is that call which frees). The last call for a request; no other one for it is under way. */
void sluice_request_free(sluice_request *request);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
