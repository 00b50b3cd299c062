#include "tools/verify.h"

#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "model/model.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include "tools/logits.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct verifier {
    const struct model *m;
    const struct tokenizer *t;
    enum chat_family family;
    const char *backend;
    uint32_t n_threads;
    verify_sink sink;
    void *ctx;
    uint32_t n_differ;
    sluice_error *err;
};

__attribute__((format(printf, 4, 5))) static void report(struct verifier *v, enum verify_verdict verdict,
                                                         const char *name, const char *fmt, ...) {
    char detail[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(detail, sizeof detail, fmt, args);
    va_end(args);
    v->n_differ += verdict == VERIFY_DIFFERS;
    v->sink(v->ctx, &(struct verify_line){verdict, name, detail});
}

static enum verify_verdict equal(uint64_t a, uint64_t b) {
    return a == b ? VERIFY_OK : VERIFY_DIFFERS;
}

/* Tensor bytes follow from the published shapes; the file sizes are the publisher's. */
struct level {
    enum dtype embd, attn_q;
    uint64_t tensor_bytes, file_bytes; /* file_bytes 0: not known */
};

static const struct level levels[] = {
    {DTYPE_Q6_K, DTYPE_Q4_K, 5042386688u, 5044779712u}, {DTYPE_Q6_K, DTYPE_Q4_0, 4731500288u, 0},
    {DTYPE_Q6_K, DTYPE_Q5_K, 5917161216u, 0},           {DTYPE_Q6_K, DTYPE_Q6_K, 6846609152u, 0},
    {DTYPE_Q8_0, DTYPE_Q8_0, 8866035456u, 0},           {DTYPE_F16, DTYPE_F16, 16683169536u, 0},
    {DTYPE_BF16, DTYPE_BF16, 16683169536u, 0},
};

static const struct weight *first_query(const struct model *m) {
    for (uint32_t i = 0; i < m->n_layer; i++) {
        if (m->layers[i].is_attention) {
            return &m->layers[i].wq;
        }
    }
    return NULL;
}

static void check_shape(struct verifier *v) {
    const struct model *m = v->m;
    uint64_t attention = 0;
    for (uint32_t i = 0; i < m->n_layer && i < 64; i++) {
        attention |= (uint64_t)m->layers[i].is_attention << i;
    }
    uint64_t expected = 1u << 2 | 1u << 6 | 1u << 10 | 1u << 14 | 1u << 18 | 1u << 21;
    report(v, equal(strcmp(m->architecture, "lfm2moe"), 0), "architecture", "%s, expected lfm2moe", m->architecture);
    report(v, equal(m->n_params, 8339930560u), "parameters", "%" PRIu64 ", expected 8339930560", m->n_params);
    report(v, equal(m->file->n_tensors, 256), "tensors", "%zu, expected 256", m->file->n_tensors);
    report(v, equal(attention, expected), "attention layers",
           "mask %#" PRIx64 ", expected %#" PRIx64 " (2, 6, 10, 14, 18, 21)", attention, expected);
    bool experts =
        m->n_expert == 32 && m->n_expert_used == 4 && m->n_dense == 2 && m->n_ff == 7168 && m->n_ff_exp == 1792;
    report(v, experts ? VERIFY_OK : VERIFY_DIFFERS, "experts",
           "%u, %u used, width %u; %u dense layers, width %u; expected 32, 4, 1792; 2, 7168", m->n_expert,
           m->n_expert_used, m->n_ff_exp, m->n_dense, m->n_ff);
    report(v, m->rope_theta == 1e6f ? VERIFY_OK : VERIFY_DIFFERS, "rope base", "%g, expected 1e+06",
           (double)m->rope_theta);
}

static void check_sizes(struct verifier *v) {
    const struct weight *q = first_query(v->m);
    const struct level *level = NULL;
    for (size_t i = 0; q && i < sizeof levels / sizeof levels[0]; i++) {
        if (levels[i].embd == v->m->tok_embd.type && levels[i].attn_q == q->type) {
            level = &levels[i];
        }
    }
    const struct gguf_file *f = v->m->file;
    if (!level) {
        report(v, VERIFY_SKIPPED, "sizes", "no published level has these tensor types; %" PRIu64 " tensor bytes",
               f->tensor_bytes);
        return;
    }
    report(v, equal(f->tensor_bytes, level->tensor_bytes), "tensor bytes", "%" PRIu64 ", expected %" PRIu64,
           f->tensor_bytes, level->tensor_bytes);
    if (level->file_bytes) {
        report(v, equal(f->file_bytes, level->file_bytes), "file bytes", "%" PRIu64 ", expected %" PRIu64,
               f->file_bytes, level->file_bytes);
    }
}

static void compare_ids(struct verifier *v, const char *name, const struct token_vec *got, const int32_t *want,
                        size_t n) {
    struct buf text = {0};
    bool same = got->n == n && memcmp(got->ids, want, n * sizeof *want) == 0;
    for (size_t i = 0; i < got->n && i < 24; i++) {
        buf_printf(&text, i ? ",%d" : "%d", got->ids[i]);
    }
    buf_puts(&text, ", expected ");
    for (size_t i = 0; i < n && !same; i++) {
        buf_printf(&text, i ? ",%d" : "%d", want[i]);
    }
    report(v, same ? VERIFY_OK : VERIFY_DIFFERS, name, "%s%s", text.failed ? "" : text.data, same ? "the same" : "");
    buf_free(&text);
}

static sluice_status check_chat(struct verifier *v, const char *user, const int32_t *want, size_t n) {
    char name[128];
    struct token_vec got = {0};
    sluice_message message = {.role = "user", .content = user, .content_len = strlen(user)};
    sluice_chat chat = {.messages = &message, .n_messages = 1};
    snprintf(name, sizeof name, "chat ids of \"%s\"", user);
    sluice_status status = chat_render(v->t, v->family, &chat, &got, NULL, v->err);
    if (status == SLUICE_OK) {
        compare_ids(v, name, &got, want, n);
    }
    token_vec_free(&got);
    return status;
}

static sluice_status check_tokenizer(struct verifier *v) {
    static const int32_t capital[] = {1, 6, 6423, 708, 3493, 856, 779, 5706, 803, 4481, 540, 7, 708, 6, 64015, 708};
    static const int32_t hi[] = {1, 6, 6423, 708, 6928, 7, 708, 6, 64015, 708};
    static const int32_t capital_short[] = {1,     6,   6423, 708,  3493,  856, 779, 5706, 803, 4481,  540,
                                            42275, 797, 1235, 3290, 13184, 523, 7,   708,  6,   64015, 708};
    static const int32_t books[] = {3493, 856, 1033, 18619, 1746, 1519, 1052, 916, 5936, 540};
    static const char books_text[] = "What is this obsession people have with books?";
    TRY(check_chat(v, "What is the capital of France?", capital, sizeof capital / 4));
    TRY(check_chat(v, "Hi", hi, sizeof hi / 4));
    TRY(check_chat(v, "What is the capital of France? Answer in one short sentence.", capital_short,
                   sizeof capital_short / 4));
    struct token_vec got = {0};
    sluice_status status = tokenizer_encode(v->t, books_text, sizeof books_text - 1, false, &got, v->err);
    if (status == SLUICE_OK) {
        compare_ids(v, "ids of plain text", &got, books, sizeof books / 4);
    }
    token_vec_free(&got);
    return status;
}

/* transformers' own integration test of LFM2-8B-A1B in bfloat16 (tests/models/lfm2_moe). */
static const int32_t golden_ids[] = {1,    22998, 768, 1947,  797, 22017, 811,   6332, 928,
                                     5743, 797,   779, 48123, 772, 33551, 60996, 523};
static const float golden_means[] = {-1.3912f, -0.4653f, -1.3339f, -1.3249f, -1.0985f, -1.2373f,
                                     -1.4599f, -0.7515f, -0.6140f, -1.2329f, -1.1481f, -1.0081f,
                                     -0.9937f, -0.8875f, -1.5539f, -1.7283f, -1.6284f};
static const float golden_first[] = {-1.2734f, 2.4844f, 5.5000f, -1.3438f, -1.3281f,
                                     -1.3516f, 1.9375f, 5.8438f, -0.6641f, -1.2969f};
enum { N_GOLDEN = sizeof golden_ids / sizeof golden_ids[0], N_FIRST = sizeof golden_first / sizeof golden_first[0] };

struct golden_run {
    uint32_t n_vocab;
    double mean[N_GOLDEN];
    float first[N_FIRST];
};

static sluice_status take_golden(void *ctx, uint32_t pos, const float *logits, sluice_error *err) {
    (void)err;
    struct golden_run *g = ctx;
    double sum = 0;
    for (uint32_t i = 0; i < g->n_vocab; i++) {
        sum += logits[i];
    }
    g->mean[pos] = sum / g->n_vocab;
    if (pos == 0) {
        memcpy(g->first, logits, sizeof g->first);
    }
    return SLUICE_OK;
}

static bool is_full_precision(const struct verifier *v) {
    enum dtype t = v->m->tok_embd.type;
    return t == DTYPE_F16 || t == DTYPE_BF16 || t == DTYPE_F32;
}

/* The golden values are bfloat16's. 16-bit files must come close; a quantised file may differ by what quantising costs,
 * which nobody has published: the allowance below is a judgement, wide enough for 4-bit weights and far too narrow for a
 * wrong computation (a wrong router or norm moves these means by more than 1). */
static sluice_status check_logits(struct verifier *v) {
    bool full = is_full_precision(v);
    double allowed = full ? 0.05 : 0.35;
    double allowed_first = full ? 0.15 : 1.0;
    struct golden_run g = {.n_vocab = v->m->n_vocab};
    TRY(logits_run(v->m, v->backend, v->n_threads, golden_ids, N_GOLDEN, 0, take_golden, &g, v->err));
    double worst = 0;
    double worst_first = 0;
    for (int i = 0; i < N_GOLDEN; i++) {
        double off = fabs(g.mean[i] - (double)golden_means[i]);
        worst = off > worst || isnan(off) ? off : worst;
    }
    for (int i = 0; i < N_FIRST; i++) {
        double off = fabs((double)g.first[i] - (double)golden_first[i]);
        worst_first = off > worst_first || isnan(off) ? off : worst_first;
    }
    report(v, worst <= allowed ? VERIFY_OK : VERIFY_DIFFERS, "golden logits, mean per position",
           "largest difference %.4f over %d positions, allowed %.2f", worst, N_GOLDEN, allowed);
    report(v, worst_first <= allowed_first ? VERIFY_OK : VERIFY_DIFFERS, "golden logits, first ten of position 0",
           "largest difference %.4f, allowed %.2f", worst_first, allowed_first);
    return SLUICE_OK;
}

struct argmax {
    uint32_t n_vocab, last;
    int32_t best;
};

static sluice_status take_best(void *ctx, uint32_t pos, const float *logits, sluice_error *err) {
    (void)err;
    struct argmax *a = ctx;
    if (pos == a->last) {
        a->best = 0;
        for (uint32_t i = 1; i < a->n_vocab; i++) {
            a->best = logits[i] > logits[a->best] ? (int32_t)i : a->best;
        }
    }
    return SLUICE_OK;
}

/* Fifteen greedy tokens; each is computed from the start, which is slow but needs no state of ours. */
static sluice_status check_greedy(struct verifier *v) {
    static const char prompt[] = "In 1st century A.D., the Roman Empire";
    static const char want[] = " controlled much of Europe, North Africa, and parts of the Middle East.";
    struct token_vec ids = {0};
    struct buf text = {0};
    sluice_status status = token_vec_push(&ids, tokenizer_bos(v->t), v->err);
    if (status == SLUICE_OK) {
        status = tokenizer_encode(v->t, prompt, sizeof prompt - 1, false, &ids, v->err);
    }
    for (int i = 0; i < 15 && status == SLUICE_OK; i++) {
        struct argmax a = {.n_vocab = v->m->n_vocab, .last = (uint32_t)ids.n - 1};
        status = logits_run(v->m, v->backend, v->n_threads, ids.ids, (uint32_t)ids.n, 0, take_best, &a, v->err);
        if (status == SLUICE_OK) {
            size_t n;
            const char *bytes = tokenizer_bytes(v->t, a.best, &n);
            buf_append(&text, bytes, n);
            status = token_vec_push(&ids, a.best, v->err);
        }
    }
    if (status == SLUICE_OK) {
        bool same = !text.failed && text.len >= sizeof want - 1 && memcmp(text.data, want, sizeof want - 1) == 0;
        /* the words are bfloat16's; quantised weights may choose others without being wrong */
        enum verify_verdict other = is_full_precision(v) ? VERIFY_DIFFERS : VERIFY_SKIPPED;
        report(v, same ? VERIFY_OK : other, "greedy continuation", "\"%s%s\"; bfloat16 gives \"%s\"", prompt,
               text.data ? text.data : "", want);
    }
    token_vec_free(&ids);
    buf_free(&text);
    return status;
}

static sluice_status run_checks(struct verifier *v) {
    check_shape(v);
    check_sizes(v);
    bool same_model = v->n_differ == 0 || (v->m->n_vocab == 65536 && v->m->n_params == 8339930560u);
    TRY(check_tokenizer(v));
    if (!same_model) {
        report(v, VERIFY_SKIPPED, "golden logits",
               "this is another model, so its logits have nothing to be compared with");
        return SLUICE_OK;
    }
    TRY(check_logits(v));
    return check_greedy(v);
}

sluice_status verify_file(const char *path, const char *backend, uint32_t n_threads, verify_sink sink, void *ctx,
                          uint32_t *n_differ, sluice_error *err) {
    struct model *m;
    TRY(model_load(path, &m, err));
    struct tokenizer *t = NULL;
    sluice_status status = tokenizer_load(m->file, &t, err);
    if (status == SLUICE_OK) {
        struct verifier v = {.m = m,
                             .t = t,
                             .family = chat_family_detect(m->file),
                             .backend = backend,
                             .n_threads = n_threads,
                             .sink = sink,
                             .ctx = ctx,
                             .err = err};
        status = run_checks(&v);
        *n_differ = v.n_differ;
    }
    tokenizer_free(t);
    model_free(m);
    return status;
}
