/* Every bound on what comes from outside, in one place. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

/* GGUF */
#define LIMIT_GGUF_KV          65536u       /* metadata entries */
#define LIMIT_GGUF_TENSORS     65536u       /* tensors */
#define LIMIT_GGUF_STRING      (16u << 20)  /* bytes of one string (chat templates are the longest) */
#define LIMIT_GGUF_KEY         256u         /* bytes of a key */
#define LIMIT_GGUF_TENSOR_NAME 128u         /* bytes of a tensor name */
#define LIMIT_GGUF_ARRAY       (1u << 24)   /* elements of one array */
#define LIMIT_GGUF_DIM         (1ull << 40) /* one dimension */

/* Model */
#define LIMIT_LAYERS  256u
#define LIMIT_VOCAB   (1u << 21)
#define LIMIT_EMBD    65536u
#define LIMIT_EXPERTS 1024u
#define LIMIT_CONTEXT (1u << 21)

/* Engine */
#define LIMIT_SLOTS        256u
#define LIMIT_QUEUE        4096u
#define LIMIT_PAGES        (1u << 20) /* KV pages of an engine: 64 million tokens */
#define LIMIT_STOP_STRINGS 16u
#define LIMIT_STOP_BYTES   1024u /* one stop string */
#define LIMIT_LOGIT_BIAS   1024u
#define LIMIT_THREADS      256u
#define LIMIT_DRAFTS       63u /* guessed tokens of a step: with the one before them 64, a kernel's block */

/* Server */
#define LIMIT_BODY_BYTES      (8u << 20)
#define LIMIT_BODY_BYTES_ALL  (256u << 20) /* bodies held at once, of all connections */
#define LIMIT_DRAIN_BYTES     (64u << 20)  /* of an oversize body, read so that the client sees the refusal */
#define LIMIT_JSON_DEPTH      64
#define LIMIT_JSON_VALUES     (1u << 20) /* of one body: a value of two bytes takes about 60 in memory */
#define LIMIT_JSON_CONTAINERS (1u << 16) /* objects and arrays among them: up to 800 bytes each */
#define LIMIT_MESSAGES        4096u
#define LIMIT_TOOLS           512u
#define LIMIT_CHOICES         8u  /* n */
#define LIMIT_PROMPTS         64u /* prompts of one /v1/completions call */
#define LIMIT_ANSWERS         64u /* prompts times n */
#define LIMIT_CONNECTIONS     1024u

/* Records */
#define LIMIT_RECORD_LINE       (8u << 20)   /* bytes of a line without its newline */
#define LIMIT_RECORD_BYTES      (512u << 20) /* of a file */
#define LIMIT_RECORD_LINES      (1u << 20)
#define LIMIT_RECORD_VALUES     (1u << 20) /* JSON values of a line: a trace of an hour at 10 Hz has 20 series */
#define LIMIT_RECORD_VALUES_ALL (1u << 24) /* of a file: up to 100 bytes each in memory */

#define KV_PAGE_TOKENS 64u /* positions per KV page (design section 3) */

#endif
