/*
 * Engine-only rates: prefill and decode through the backend seam, without server, tokenizer or sampler.
 *
 * Tokens are random (seeded) and teacher-forced: what a row decodes does not depend on its logits, and the rows of a
 * batch carry different tokens, so that a mixture-of-experts model routes them differently. Depth is filled by
 * prefill before the clock starts; every repetition then runs from the same depth. A backend that draws tokens itself
 * draws the greatest logit for every row, and is kept as many steps ahead as it takes, as the engine keeps it.
 *
 * Decode: bytes per step are the weights the step read (as the backend counts them, or decode_bytes where that is
 * exact) plus the K and V of all earlier positions; the share is of the read bandwidth measured in the same run with
 * the same number of threads. Prefill: the share is of the measured multiply-add rate (int8 for quantised weights,
 * else f32), and counts the products of the weight matrices, 2 operations each.
 */
#ifndef TOOLS_RAW_H
#define TOOLS_RAW_H

#include "backend/backend.h"
#include "base/buf.h"
#include "base/stats.h"
#include "sluice.h"

#define RAW_LIST_MAX 32
#define RAW_REPS_MAX 1000

struct raw_list {
    uint32_t v[RAW_LIST_MAX];
    uint32_t n;
};

struct raw_options {
    const char *model_path;
    const char *backend; /* NULL = auto */
    uint32_t n_threads;  /* 0 = the backend's choice */
    uint32_t reps, warmups;
    uint64_t seed;
    bool profile;                                 /* where the backend times its stages */
    double roof_seconds;                          /* per measurement of a limit; 0 = 0.4 */
    struct raw_list prompt, decode, depth, batch; /* 0 in prompt or decode: no such test */
};

enum raw_kind { RAW_PREFILL, RAW_DECODE };

struct raw_result {
    enum raw_kind kind;
    char test[64]; /* "pp512", "tg128@d4096@b4" */
    uint32_t n_tokens, depth, batch;
    uint32_t reps;
    double ms[RAW_REPS_MAX];    /* per repetition: all tokens of all rows */
    double tok_s[RAW_REPS_MAX]; /* n_tokens * batch / ms */
    struct stats_summary rate;
    /* decode, averages over all timed steps; 0 = unknown */
    double weight_bytes_step, kv_bytes_step, experts_step;
    double gb_s;
    const char *roof_kind;          /* "read", "int8", "f32"; NULL: no limit measured for this device */
    double roof;                    /* GB/s or 1e9 operations/s */
    double roof_share;              /* 0 = unknown */
    double gop_s;                   /* prefill */
    struct backend_profile profile; /* over the timed repetitions; no stages = not asked for */
};

struct raw_setup { /* of the whole run, known before the first result */
    const char *model, *architecture, *backend, *device;
    uint64_t file_bytes, n_params, decode_bytes;
    uint64_t weight_bytes, kv_bytes, work_bytes, pinned_bytes, other_bytes; /* as in struct backend_caps */
    uint32_t n_threads, prefill_chunk;
    uint32_t n_expert, n_expert_used;
};

struct raw_callbacks {
    void *ctx;
    void (*on_setup)(void *ctx, const struct raw_setup *setup);
    void (*on_result)(void *ctx, const struct raw_setup *setup, const struct raw_result *result);
    void (*on_progress)(void *ctx, const char *test, uint64_t done, uint64_t total);
};

sluice_status raw_run(const struct raw_options *options, const struct raw_callbacks *callbacks, sluice_error *err);

/* "512,1024" into a list; false when it is not one. */
bool raw_list_parse(const char *text, struct raw_list *out);
/* "pp512", "tg128@d4096", "tg128@b4" */
void raw_test_name(enum raw_kind kind, uint32_t n, uint32_t depth, uint32_t batch, char out[64]);

void raw_result_json(struct buf *b, const struct raw_setup *setup, const struct raw_result *result); /* no newline */
void raw_table_head(struct buf *b, const struct raw_setup *setup);
void raw_table_row(struct buf *b, const struct raw_result *result);
/* Where the time of a step went, stage by stage; nothing without a profile. */
void raw_table_profile(struct buf *b, const struct raw_result *result);

#endif
