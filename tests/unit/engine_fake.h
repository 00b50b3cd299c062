/*
 * A scripted backend, whose logits depend on the token history alone, and a model for it.
 *
 * It keeps the history in KV pages and a running hash in the slot's state, and reads both back for every row of logits.
 * A wrong page, a shared page, a stale slot or a lost chunk changes the answer or counts as a violation.
 */
#ifndef ENGINE_FAKE_H
#define ENGINE_FAKE_H

#include "unit/engine_rig.h"

#include <math.h>

#define RIG_VOCAB 160
#define RIG_END   159
#define RIG_CTX   4096

/* ---- The scripted backend ---------------------------------------------------------------------------------- */

static struct {
    uint32_t step_tokens_max;                   /* 0 = 256 */
    atomic_uint delay_us;                       /* of each step */
    atomic_int fail_submit, fail_wait, nan_row; /* count down to the step that fails; 0 = never */
    atomic_uint steps, violations, prompt_steps, lonely_prompt_steps;
} rig_fake;

struct rig_backend {
    struct backend base;
    struct backend_options options;
    struct backend_caps caps;
    int32_t *tokens;  /* [n_pages][KV_PAGE_TOKENS] */
    uint32_t *owner;  /* [n_pages] row of the step that uses the page */
    uint64_t *hash;   /* [n_slots] state: hash of all tokens so far */
    uint32_t *length; /* [n_slots] */
    float *logits;    /* [n_slots][RIG_VOCAB] */
    uint32_t n_outputs;
};

static sluice_status rig_probe(sluice_error *err) {
    (void)err;
    return SLUICE_OK;
}

static void rig_backend_close(struct backend *backend) {
    struct rig_backend *b = (struct rig_backend *)backend;
    mem_free(b->tokens);
    mem_free(b->owner);
    mem_free(b->hash);
    mem_free(b->length);
    mem_free(b->logits);
    mem_free(b);
}

static sluice_status rig_backend_open(const struct model *model, const struct backend_options *options,
                                      struct backend **out, sluice_error *err) {
    (void)model;
    struct rig_backend *b = mem_calloc(1, sizeof *b);
    if (!b) {
        return (fail)(err, SLUICE_E_NOMEM, "no memory for the scripted backend");
    }
    b->options = *options;
    b->tokens = mem_calloc((size_t)options->n_pages * KV_PAGE_TOKENS, sizeof *b->tokens);
    b->owner = mem_calloc(options->n_pages, sizeof *b->owner);
    b->hash = mem_calloc(options->n_slots, sizeof *b->hash);
    b->length = mem_calloc(options->n_slots, sizeof *b->length);
    b->logits = mem_calloc((size_t)options->n_slots * RIG_VOCAB, sizeof *b->logits);
    if (!b->tokens || !b->owner || !b->hash || !b->length || !b->logits) {
        rig_backend_close(&b->base);
        return (fail)(err, SLUICE_E_NOMEM, "no memory for the scripted backend");
    }
    uint32_t most = options->step_tokens_max   ? options->step_tokens_max
                    : rig_fake.step_tokens_max ? rig_fake.step_tokens_max
                                               : 256;
    b->caps = (struct backend_caps){.name = "scripted",
                                    .device = "none",
                                    .n_threads = 1,
                                    .step_tokens_max = most,
                                    .step_outputs_max = options->n_slots,
                                    .prefill_chunk = most};
    *out = &b->base;
    return SLUICE_OK;
}

static const struct backend_caps *rig_caps(const struct backend *backend) {
    return &((const struct rig_backend *)backend)->caps;
}

static bool rig_countdown(atomic_int *n) {
    return atomic_load(n) > 0 && atomic_fetch_sub(n, 1) == 1;
}

static void rig_require(bool ok) {
    if (!ok) {
        atomic_fetch_add(&rig_fake.violations, 1);
    }
}

static uint64_t rig_chain(uint64_t h, int32_t token) {
    return rig_mix(h + 0x9E3779B97F4A7C15u + (uint64_t)(uint32_t)token);
}

static void rig_row(struct rig_backend *b, const struct backend_row *row, uint32_t number) {
    rig_require(row->slot < b->options.n_slots && row->n_tokens > 0);
    rig_require(row->first_pos == 0 || row->first_pos == b->length[row->slot]);
    uint32_t end = row->first_pos + row->n_tokens;
    for (uint32_t p = 0; p * KV_PAGE_TOKENS < end; p++) {
        rig_require(row->pages[p] < b->options.n_pages && b->owner[row->pages[p]] == 0);
        b->owner[row->pages[p]] = number;
    }
    uint64_t state = row->first_pos == 0 ? 0 : b->hash[row->slot];
    for (uint32_t t = 0; t < row->n_tokens; t++) {
        uint32_t at = row->first_pos + t;
        b->tokens[row->pages[at / KV_PAGE_TOKENS] * KV_PAGE_TOKENS + at % KV_PAGE_TOKENS] = row->tokens[t];
        state = rig_chain(state, row->tokens[t]);
    }
    b->hash[row->slot] = state;
    b->length[row->slot] = end;
    if (row->want != WANT_LAST) {
        return;
    }
    uint64_t history = 0;
    for (uint32_t at = 0; at < end; at++) {
        history = rig_chain(history, b->tokens[row->pages[at / KV_PAGE_TOKENS] * KV_PAGE_TOKENS + at % KV_PAGE_TOKENS]);
    }
    rig_require(history == state);
    float *logits = b->logits + (size_t)b->n_outputs++ * RIG_VOCAB;
    for (uint32_t v = 0; v < RIG_VOCAB; v++) {
        logits[v] = (float)(rig_mix(history ^ (v * 0xD1342543DE82EF95u)) >> 40) * (12 * 0x1p-24f) - 6;
    }
    if (rig_countdown(&rig_fake.nan_row)) {
        logits[7] = NAN;
    }
}

static sluice_status rig_submit_step(struct backend *backend, const struct backend_step *step, sluice_error *err) {
    struct rig_backend *b = (struct rig_backend *)backend;
    uint32_t tokens = 0, generating = 0;
    atomic_fetch_add(&rig_fake.steps, 1);
    if (rig_countdown(&rig_fake.fail_submit)) {
        return (fail)(err, SLUICE_E_IO, "scripted failure of submit");
    }
    b->n_outputs = 0;
    memset(b->owner, 0, b->options.n_pages * sizeof *b->owner);
    for (uint32_t i = 0; i < step->n_rows; i++) {
        for (uint32_t k = 0; k < i; k++) {
            rig_require(step->rows[k].slot != step->rows[i].slot);
        }
        rig_row(b, &step->rows[i], i + 1);
        tokens += step->rows[i].n_tokens;
        generating += step->rows[i].want == WANT_LAST && step->rows[i].n_tokens == 1;
    }
    if (tokens > step->n_rows) {
        atomic_fetch_add(&rig_fake.prompt_steps, 1);
        atomic_fetch_add(&rig_fake.lonely_prompt_steps, generating == 0);
    }
    rig_require(tokens <= b->caps.step_tokens_max && step->n_rows > 0);
    return SLUICE_OK;
}

static sluice_status rig_wait_step(struct backend *backend, struct backend_output *out, sluice_error *err) {
    struct rig_backend *b = (struct rig_backend *)backend;
    unsigned delay = atomic_load(&rig_fake.delay_us);
    if (delay > 0) {
        usleep(delay);
    }
    if (rig_countdown(&rig_fake.fail_wait)) {
        return (fail)(err, SLUICE_E_BACKEND, "scripted failure of wait");
    }
    *out = (struct backend_output){.logits = b->logits, .n_outputs = b->n_outputs};
    return SLUICE_OK;
}

static const struct backend_ops rig_fake_ops = {.name = "scripted",
                                                .probe = rig_probe,
                                                .open = rig_backend_open,
                                                .close = rig_backend_close,
                                                .caps = rig_caps,
                                                .submit = rig_submit_step,
                                                .wait = rig_wait_step};

/* ---- A model for it: letters, parts of characters, words, control tokens ----------------------------------- */

static struct token_entry rig_tokens[RIG_VOCAB];
static char rig_letters[96];
static struct model_layer rig_layer = {.is_attention = true, .n_head_kv = 1};
static struct model rig_weights = {
    .n_vocab = RIG_VOCAB, .n_ctx_train = RIG_CTX, .n_layer = 1, .head_dim = 16, .layers = &rig_layer};

static sluice_model rig_fake_model(void) {
    static const char *const words[] = {" the", "STOP", "ST", "OP", "\xc3", "\xa9", "\xe2", "\x82", "\xac", "\n\n"};
    for (uint32_t i = 0; i < 95; i++) {
        rig_letters[i] = (char)(' ' + i);
        rig_tokens[i] = (struct token_entry){.bytes = &rig_letters[i], .n_bytes = 1};
    }
    for (uint32_t i = 95; i < 150; i++) {
        const char *word = words[i % 10];
        rig_tokens[i] = (struct token_entry){.bytes = word, .n_bytes = (uint32_t)strlen(word)};
    }
    rig_tokens[157] = (struct token_entry){"<|cot_start|>", 13, TOKEN_FLAG_CONTROL};
    rig_tokens[158] = (struct token_entry){"<|tool_call_start|>", 19, TOKEN_FLAG_CONTROL | TOKEN_FLAG_MARKER};
    rig_tokens[RIG_END] = (struct token_entry){"<|im_end|>", 10, TOKEN_FLAG_CONTROL | TOKEN_FLAG_END};
    return (sluice_model){.model = &rig_weights,
                          .tokens = rig_tokens,
                          .info = {.name = "scripted",
                                   .n_vocab = RIG_VOCAB,
                                   .n_ctx_train = RIG_CTX,
                                   .kv_bytes_per_token = model_kv_bytes_per_token(&rig_weights),
                                   .recommended = {.temperature = 1, .top_p = 1, .repetition_penalty = 1}}};
}

#endif
