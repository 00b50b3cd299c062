/*
 * Drawing on the device: for the same logits, rules and position it gives the token and the logprobs of the host's
 * sampler, bit for bit. --bench times it.
 */
#if SLUICE_WITH_CUDA
#include "backend/backend.h"
#include "backend/cuda/draw.h"
#include "engine/sampler.h"
#include "model/model.h"

#include <math.h>
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if SLUICE_WITH_CUDA
enum { VOCAB_MAX = 65536, ROWS = 32, MORE = 5, WORDS_MAX = 1 << 22 };

static uint64_t random_state = 1;

static uint64_t rnd(void) { /* splitmix64 */
    uint64_t z = (random_state += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static float rnd_float(float lo, float hi) {
    return lo + (hi - lo) * (float)(rnd() >> 40) * 0x1p-24f;
}

static float rnd_normal(void) {
    float sum = -6;
    for (int i = 0; i < 12; i++) {
        sum += rnd_float(0, 1);
    }
    return sum;
}

static void good(cudaError_t status) {
    if (status != cudaSuccess) {
        fail_msg("%s", cudaGetErrorString(status));
    }
}

static void *zeroed(size_t n) {
    void *p;
    good(cudaMalloc(&p, n));
    good(cudaMemset(p, 0, n));
    return p;
}

/* A batch of rows, on both sides. */
struct batch {
    uint32_t n_vocab, n_words;
    sluice_model model;
    struct sampler *sampler;
    float *logits;                   /* [ROWS][n_vocab] */
    struct sample_rules rules[ROWS]; /* as the host draws: what the device adds itself is in them */
    uint64_t position[ROWS];
    struct cuda_draw draws[ROWS];
    uint32_t *words, fed[ROWS];
    struct cuda_drawing d;
    uint32_t *words_device;
    struct cuda_drawn out[ROWS];
    uint32_t drawn[ROWS];
};

static void open_batch(struct batch *b, uint32_t n_vocab) {
    memset(b, 0, sizeof *b);
    b->n_vocab = n_vocab;
    b->model.info.n_vocab = n_vocab;
    b->model.info.eos = -1;
    b->model.tokens = calloc(n_vocab, sizeof *b->model.tokens);
    sluice_error err = {0};
    assert_int_equal(sampler_create(n_vocab, &b->sampler, &err), SLUICE_OK);
    b->logits = calloc((size_t)ROWS * n_vocab, sizeof(float));
    b->words = calloc(WORDS_MAX, 4);
    b->words_device = zeroed(WORDS_MAX * 4);
    size_t all = (size_t)ROWS * n_vocab * sizeof(float), chunks = cuda_draw_chunks(n_vocab);
    b->d = (struct cuda_drawing){.words = b->words_device,
                                 .logits = zeroed(all),
                                 .n = ROWS,
                                 .n_vocab = n_vocab,
                                 .drawn = zeroed(ROWS * 4),
                                 .edited = zeroed(all),
                                 .parts = zeroed(ROWS * chunks * sizeof *b->d.parts),
                                 .maxima =
                                     zeroed(ROWS * chunks * (CUDA_DRAW_CHUNK / CUDA_DRAW_BLOCK) * sizeof *b->d.maxima),
                                 .lists = zeroed(ROWS * CUDA_DRAW_LIST * sizeof *b->d.lists),
                                 .rows = zeroed(ROWS * sizeof *b->d.rows),
                                 .weights = zeroed(ROWS * CUDA_DRAW_BINS * 8),
                                 .counts = zeroed(ROWS * CUDA_DRAW_BINS * 4),
                                 .out = zeroed(sizeof b->out),
                                 .draws = zeroed(sizeof b->draws)};
}

static void close_batch(struct batch *b) {
    void *const all[] = {b->words_device,
                         (void *)(uintptr_t)b->d.logits,
                         (void *)(uintptr_t)b->d.draws,
                         b->d.drawn,
                         b->d.edited,
                         b->d.parts,
                         b->d.maxima,
                         b->d.lists,
                         b->d.rows,
                         b->d.weights,
                         b->d.counts,
                         b->d.out};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        cudaFree(all[i]);
    }
    for (int i = 0; i < ROWS; i++) {
        sample_rules_free(&b->rules[i]);
    }
    sampler_free(b->sampler);
    free(b->model.tokens);
    free(b->logits);
    free(b->words);
}

static uint32_t put_words(struct batch *b, const void *from, size_t n) {
    assert_true(b->n_words + n <= WORDS_MAX);
    if (n) {
        memcpy(b->words + b->n_words, from, n * 4);
    }
    b->n_words += (uint32_t)n;
    return b->n_words - (uint32_t)n;
}

/* Row i by the options, at a position; n_more generated tokens and one that was fed are left for the device to add. */
static void set_row(struct batch *b, uint32_t i, const sluice_request_options *o, uint64_t position,
                    const int32_t *generated, uint32_t n_generated, uint32_t n_more, bool fed) {
    struct sample_rules *rules = &b->rules[i];
    sluice_error err = {0};
    sample_rules_free(rules);
    if (sample_rules_init(rules, &b->model, o, 64, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    uint32_t known = n_generated - n_more - fed;
    for (uint32_t k = 0; k < known; k++) {
        sample_rules_accept(rules, generated[k]);
    }
    const sluice_sampling *s = &rules->s;
    bool penalties = rules->seen != NULL;
    b->position[i] = position;
    b->draws[i] = (struct cuda_draw){
        .random = sample_random(s->seed, position),
        .kind = rules->greedy ? CUDA_DRAW_GREEDY : CUDA_DRAW_WEIGHED,
        .slot = i,
        .feeds = 1,
        .scale = 1.0f / s->temperature,
        .depth = sample_reach(rules) * s->temperature,
        .top_k = s->top_k > 0 && (uint32_t)s->top_k < b->n_vocab ? (uint32_t)s->top_k : 0,
        .top_p = s->top_p,
        .min_p = s->min_p,
        .repetition = s->repetition_penalty,
        .presence = s->presence_penalty,
        .frequency = s->frequency_penalty,
        .penalties = penalties,
        .seen = put_words(b, rules->seen, 2 * (size_t)rules->n_seen),
        .n_seen = rules->n_seen,
        .more = put_words(b, generated + known, n_more),
        .n_more = penalties ? n_more : 0,
        .fed = penalties && fed,
        .edits = put_words(b, rules->edits, 2 * rules->n_edits),
        .n_edits = (uint32_t)rules->n_edits,
        .want_logprob = rules->want_logprob,
        .n_top = rules->n_top,
    };
    b->fed[i] = fed ? (uint32_t)generated[n_generated - 1] : 7;
    for (uint32_t k = known; k < n_generated; k++) {
        sample_rules_accept(rules, generated[k]);
    }
}

static void run(struct batch *b) {
    size_t all = (size_t)ROWS * b->n_vocab * sizeof(float);
    good(cudaMemcpy((void *)(uintptr_t)b->d.logits, b->logits, all, cudaMemcpyHostToDevice));
    good(cudaMemcpy(b->words_device, b->words, b->n_words * 4, cudaMemcpyHostToDevice));
    good(cudaMemcpy(b->d.drawn, b->fed, sizeof b->fed, cudaMemcpyHostToDevice));
    good(cudaMemcpy((void *)(uintptr_t)b->d.draws, b->draws, sizeof b->draws, cudaMemcpyHostToDevice));
    good(cudaMemset(b->d.out, 0x55, sizeof b->out));
    good(cuda_draw_tokens(&b->d, true, true, 0));
    good(cuda_draw_logprobs(&b->d, 0));
    good(cudaMemcpy(b->out, b->d.out, sizeof b->out, cudaMemcpyDeviceToHost));
    good(cudaMemcpy(b->drawn, b->d.drawn, sizeof b->drawn, cudaMemcpyDeviceToHost));
    b->n_words = 0;
}

static const char *describe(const struct batch *b, uint32_t i) {
    static char text[256];
    const struct cuda_draw *d = &b->draws[i];
    snprintf(text, sizeof text,
             "row %u of %u logits, temperature %g, top_k %u, top_p %.9g, min_p %.9g, penalties %u (%u seen, %u more, "
             "fed %u), %u "
             "edits",
             i, b->n_vocab, (double)b->rules[i].s.temperature, d->top_k, (double)d->top_p, (double)d->min_p,
             d->penalties, d->n_seen, d->n_more, d->fed, d->n_edits);
    return text;
}

/* Every row of the device against the host's sampler. */
static void check(struct batch *b) {
    for (uint32_t i = 0; i < ROWS; i++) {
        struct sample want;
        sluice_error err = {0};
        (void)sampler_draw(b->sampler, &b->rules[i], b->logits + (size_t)i * b->n_vocab, b->position[i], &want, &err);
        const struct cuda_drawn *got = &b->out[i];
        if (got->token != want.token) {
            fail_msg("%s: the device draws %d, the host %d", describe(b, i), got->token, want.token);
        }
        assert_int_equal(b->drawn[i], want.token < 0 ? 0 : want.token);
        if (want.token < 0 || !b->rules[i].want_logprob) {
            continue;
        }
        double base = (double)got->max + sample_log(got->sum);
        float logprob = (float)((double)got->logit - base);
        if (memcmp(&logprob, &want.logprob, sizeof logprob) != 0 || got->n_top != want.n_top) {
            fail_msg("%s: logprob %.9g and %u others, not %.9g and %u", describe(b, i), (double)logprob, got->n_top,
                     (double)want.logprob, want.n_top);
        }
        for (uint32_t k = 0; k < want.n_top; k++) {
            float other = (float)((double)got->top[k].logit - base);
            assert_int_equal(got->top[k].token, want.top[k].token);
            assert_true(memcmp(&other, &want.top[k].logprob, sizeof other) == 0);
        }
    }
}

/* ---- Random rows */

static void random_logits(float *x, uint32_t n) {
    float spread = rnd() % 4 ? rnd_float(0.01f, 8) : 0, step = rnd() % 3 ? 0 : rnd_float(0.01f, 2);
    uint32_t kind = (uint32_t)(rnd() % 8);
    for (uint32_t i = 0; i < n; i++) {
        x[i] = kind == 0 ? rnd_float(-20, 20) : rnd_normal() * spread;
        x[i] = step > 0 ? roundf(x[i] / step) * step : x[i]; /* ties, zeros of both signs */
    }
    for (uint32_t k = 0; kind == 1 && k < 20; k++) { /* a few stand out */
        x[rnd() % n] = rnd_float(10, 14);
    }
    if (kind == 2) {
        for (uint32_t i = 0; i < n; i++) {
            x[i] *= 1e36f;
        }
    }
}

static sluice_request_options random_options(const struct batch *b, int32_t *prompt, sluice_logit_bias *bias) {
    const uint32_t n = b->n_vocab;
    sluice_request_options o = {.sampling = {.temperature = 1, .top_p = 1, .repetition_penalty = 1}};
    sluice_sampling *s = &o.sampling;
    const float temperatures[] = {0, 1e-4f, 0.3f, 0.7f, 1, 1.5f, 20, 100};
    s->temperature = temperatures[rnd() % 8];
    s->top_k = rnd() % 2 ? 0 : (int32_t)(1 + rnd() % (rnd() % 2 ? 60 : n + 10));
    s->top_p = rnd() % 2 ? 1 : rnd() % 8 ? rnd_float(0, 1) : rnd() % 2 ? 0 : 0.99999f;
    s->min_p = rnd() % 2 ? 0 : rnd() % 8 ? rnd_float(0, 0.3f) : 1;
    s->seed = rnd();
    if (rnd() % 2) {
        s->repetition_penalty = rnd() % 2 ? 1 : rnd_float(0.5f, 2);
        s->presence_penalty = rnd() % 2 ? 0 : rnd_float(-2, 2);
        s->frequency_penalty = rnd() % 2 ? 0 : rnd_float(-1, 1);
        o.tokens = prompt;
        o.n_tokens = rnd() % 2 ? rnd() % 40 : rnd() % 3000;
        for (size_t i = 0; i < o.n_tokens; i++) {
            prompt[i] = (int32_t)(rnd() % (rnd() % 2 ? n : n < 50 ? n : 50));
        }
    }
    if (rnd() % 3 == 0) {
        o.logit_bias = bias;
        o.n_logit_bias = 1 + rnd() % 300;
        for (size_t i = 0; i < o.n_logit_bias; i++) {
            bias[i] = (sluice_logit_bias){.token = (int32_t)(rnd() % n), .bias = rnd() % 3 ? rnd_float(-9, 9) : -100};
        }
    }
    o.top_logprobs = rnd() % 4 ? 0 : (uint32_t)(rnd() % 21);
    o.logprobs = rnd() % 8 == 0;
    return o;
}

static void test_random_rows(void **state) {
    (void)state;
    static int32_t prompt[3000];
    static sluice_logit_bias bias[300];
    const uint32_t sizes[] = {1, 3, 160, 4096, 5000, 16384, VOCAB_MAX, 65535};
    const char *rounds = getenv("SLUICE_ROUNDS");
    uint32_t n_rounds = rounds ? (uint32_t)atoi(rounds) : 8, compared = 0, refused = 0;
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        struct batch *b = malloc(sizeof *b);
        open_batch(b, sizes[k]);
        for (uint32_t round = 0; round < n_rounds; round++) {
            for (uint32_t i = 0; i < ROWS; i++) {
                float *x = b->logits + (size_t)i * b->n_vocab;
                if (round % 4 == 0 || i == 0) {
                    random_logits(x, b->n_vocab);
                } else { /* the same logits by other rules */
                    memcpy(x, x - b->n_vocab, b->n_vocab * sizeof *x);
                }
                if (rnd() % 50 == 0) {
                    const float bad[] = {NAN, INFINITY, -INFINITY};
                    x[rnd() % b->n_vocab] = bad[rnd() % 3];
                }
                int32_t generated[60];
                uint32_t n_generated = (uint32_t)(rnd() % 60), n_more = (uint32_t)(rnd() % (MORE + 1));
                for (uint32_t g = 0; g < n_generated; g++) {
                    generated[g] = (int32_t)(rnd() % (rnd() % 2 ? b->n_vocab : b->n_vocab < 9 ? b->n_vocab : 9));
                }
                bool fed = n_generated > n_more && rnd() % 2;
                n_more = n_more + fed > n_generated ? 0 : n_more;
                sluice_request_options o = random_options(b, prompt, bias);
                set_row(b, i, &o, rnd() % 100000, generated, n_generated, n_more, fed);
            }
            run(b);
            check(b);
            for (uint32_t i = 0; i < ROWS; i++) {
                refused += b->out[i].token < 0;
                compared++;
            }
        }
        close_batch(b);
        free(b);
    }
    printf("  %u rows drawn as the host draws them, %u of them refused by both\n", compared, refused);
    assert_true(refused > 0);
}

/* ---- Cases of their own */

static void test_all_equal(void **state) {
    (void)state;
    struct batch *b = malloc(sizeof *b);
    open_batch(b, VOCAB_MAX);
    for (uint32_t i = 0; i < ROWS; i++) { /* one bin, every logit a tie: cut by id alone */
        sluice_request_options o = {.sampling = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = i}};
        o.sampling.top_k = i % 2 ? (int32_t)(1 + rnd() % VOCAB_MAX) : 0;
        o.sampling.top_p = i % 3 ? rnd_float(0, 1) : 1;
        set_row(b, i, &o, i, NULL, 0, 0, false);
    }
    run(b);
    check(b);
    close_batch(b);
    free(b);
}

static void test_refusals(void **state) {
    (void)state;
    struct batch *b = malloc(sizeof *b);
    open_batch(b, 160);
    sluice_logit_bias bans[160];
    const int32_t generated[1] = {3};
    for (int i = 0; i < 160; i++) {
        bans[i] = (sluice_logit_bias){.token = i, .bias = -100};
    }
    for (uint32_t i = 0; i < ROWS; i++) {
        sluice_request_options o = {
            .sampling = {.temperature = (float)(i % 2), .top_p = 0.9f, .repetition_penalty = 1}};
        for (int k = 0; k < 160; k++) {
            b->logits[i * 160 + (uint32_t)k] = i % 4 == 2 ? 3e38f : 1;
        }
        if (i % 4 == 0) {
            b->logits[i * 160 + 77] = i % 8 ? NAN : INFINITY;
        } else if (i % 4 == 1) {
            o.logit_bias = bans;
            o.n_logit_bias = 160;
        } else if (i % 4 == 2) {
            o.sampling.repetition_penalty = 0.1f;
        }
        set_row(b, i, &o, 5, generated, 1, 0, true);
    }
    run(b);
    check(b);
    for (uint32_t i = 0; i < ROWS; i++) {
        const int32_t want[] = {SAMPLE_NOT_FINITE, SAMPLE_BANNED, SAMPLE_OVERFLOW};
        if (i % 4 < 3) {
            assert_int_equal(b->out[i].token, want[i % 4]);
        } else {
            assert_true(b->out[i].token >= 0);
        }
    }
    close_batch(b);
    free(b);
}

/* ---- Steps: what is drawn goes on without the host */

enum { SLOTS = 4, STEPS = 150, PAGES = 4 };

struct line { /* one sequence */
    sluice_request_options options;
    struct sample_rules rules;
    uint32_t n_prompt;
    int32_t tokens[STEPS + 64];
    uint32_t pages[PAGES];
    struct sample want[STEPS];
};

static void ok(sluice_status status, const sluice_error *err) {
    if (status != SLUICE_OK) {
        fail_msg("%s", err->text);
    }
}

static struct backend_row line_row(struct line *l, uint32_t slot, uint32_t step, bool draws) {
    bool prompt = step == 0;
    return (struct backend_row){.slot = slot,
                                .first_pos = prompt ? 0 : l->n_prompt + step - 1,
                                .n_tokens = prompt ? l->n_prompt : 1,
                                .tokens = prompt || !draws ? l->tokens + (prompt ? 0 : l->n_prompt + step - 1) : NULL,
                                .pages = l->pages,
                                .generated = !prompt,
                                .n_outputs = 1,
                                .rules = draws ? &l->rules : NULL};
}

static void start_lines(struct line *lines, const sluice_model *m) {
    for (uint32_t i = 0; i < SLOTS; i++) {
        struct line *l = &lines[i];
        sluice_error err = {0};
        l->n_prompt = 5 + 13 * i;
        for (uint32_t k = 0; k < l->n_prompt; k++) {
            l->tokens[k] = (int32_t)((k * 7 + i * 31) % m->info.n_vocab);
        }
        for (uint32_t k = 0; k < PAGES; k++) {
            l->pages[k] = k * SLOTS + i;
        }
        sluice_request_options *o = &l->options;
        *o =
            (sluice_request_options){.sampling = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 5 + i},
                                     .tokens = l->tokens,
                                     .n_tokens = l->n_prompt};
        if (i == 0) {
            o->sampling.temperature = 0;
            o->sampling.repetition_penalty = 1.3f;
        } else if (i == 1) {
            o->sampling.top_p = 0.8f;
            o->sampling.frequency_penalty = 0.5f;
        } else if (i == 2) {
            o->sampling.min_p = 0.01f;
            o->top_logprobs = 4;
        } else {
            o->sampling.top_k = 30;
        }
        sample_rules_free(&l->rules);
        ok(sample_rules_init(&l->rules, m, o, STEPS, &err), &err);
    }
}

/* Each token by the host's sampler from the step's logits. The last line is given its tokens and stays logits. */
static void lines_by_host(struct line *lines, struct backend *b, const sluice_model *m, float *forced_logits) {
    struct sampler *sampler;
    sluice_error err = {0};
    ok(sampler_create(m->info.n_vocab, &sampler, &err), &err);
    for (uint32_t step = 0; step < STEPS; step++) {
        struct backend_row rows[SLOTS];
        struct backend_output out = {0};
        for (uint32_t i = 0; i < SLOTS; i++) {
            rows[i] = line_row(&lines[i], i, step, false);
        }
        ok(b->ops->submit(b, &(struct backend_step){rows, SLOTS}, &err), &err);
        ok(b->ops->wait(b, &out, &err), &err);
        assert_int_equal(out.n_logits, SLOTS);
        for (uint32_t i = 0; i < SLOTS; i++) {
            struct line *l = &lines[i];
            const float *logits = out.logits + (size_t)i * m->info.n_vocab;
            struct sample *s = &l->want[step];
            if (i == SLOTS - 1) {
                memcpy(forced_logits + (size_t)step * m->info.n_vocab, logits, m->info.n_vocab * sizeof(float));
            }
            ok(sampler_draw(sampler, &l->rules, logits, l->n_prompt + step, s, &err), &err);
            sample_rules_accept(&l->rules, s->token);
            l->tokens[l->n_prompt + step] = s->token;
        }
    }
    sampler_free(sampler);
}

/* The same, drawn on the device, each step submitted before the one before is looked at. */
static void lines_by_device(struct line *lines, struct backend *b, const sluice_model *m, float *forced_logits) {
    sluice_error err = {0};
    for (uint32_t submitted = 0, done = 0; done < STEPS; done++) {
        for (; submitted < STEPS && submitted <= done + 1; submitted++) {
            struct backend_row rows[SLOTS];
            for (uint32_t i = 0; i < SLOTS; i++) {
                rows[i] = line_row(&lines[i], i, submitted, i < SLOTS - 1);
            }
            ok(b->ops->submit(b, &(struct backend_step){rows, SLOTS}, &err), &err);
        }
        struct backend_output out = {0};
        ok(b->ops->wait(b, &out, &err), &err);
        assert_int_equal(out.n_samples, SLOTS - 1);
        assert_int_equal(out.n_logits, 1);
        for (uint32_t i = 0; i < SLOTS - 1; i++) {
            const struct sample *got = &out.samples[i], *want = &lines[i].want[done];
            if (got->token != want->token) {
                fail_msg("sequence %u, token %u: %d on the device, %d on the host", i, done, got->token, want->token);
            }
            assert_true(got->logprob == want->logprob && got->n_top == want->n_top);
            for (uint32_t k = 0; k < want->n_top; k++) {
                assert_int_equal(got->top[k].token, want->top[k].token);
                assert_true(got->top[k].logprob == want->top[k].logprob);
            }
            sample_rules_accept(&lines[i].rules, got->token);
        }
        assert_true(
            memcmp(out.logits, forced_logits + (size_t)done * m->info.n_vocab, m->info.n_vocab * sizeof(float)) == 0);
    }
}

/* The same with guesses behind the last token, some of them wrong: each position is drawn as if there were none. */
static void lines_by_drafts(struct line *lines, struct backend *b, const sluice_model *m) {
    enum { DRAFTS = 3 };
    uint32_t done[SLOTS - 1] = {1, 1, 1}; /* the first token came with the prompt */
    sluice_error err = {0};
    struct backend_output out = {0};
    struct backend_row rows[SLOTS - 1];
    for (uint32_t i = 0; i < SLOTS - 1; i++) {
        rows[i] = line_row(&lines[i], i, 0, true);
    }
    ok(b->ops->submit(b, &(struct backend_step){rows, SLOTS - 1}, &err), &err);
    ok(b->ops->wait(b, &out, &err), &err);
    for (uint32_t i = 0; i < SLOTS - 1; i++) {
        assert_int_equal(out.samples[i].token, lines[i].want[0].token);
        sample_rules_accept(&lines[i].rules, out.samples[i].token);
    }
    while (done[0] + DRAFTS < STEPS && done[1] + DRAFTS < STEPS && done[2] + DRAFTS < STEPS) {
        int32_t tokens[SLOTS - 1][1 + DRAFTS];
        uint32_t right[SLOTS - 1];
        for (uint32_t i = 0; i < SLOTS - 1; i++) {
            struct line *l = &lines[i];
            right[i] = (uint32_t)(rnd() % (DRAFTS + 1));
            for (uint32_t k = 0; k <= DRAFTS; k++) {
                uint32_t wrong = k > right[i] ? 1 + (uint32_t)(rnd() % (m->info.n_vocab - 1)) : 0;
                tokens[i][k] =
                    (int32_t)(((uint32_t)l->tokens[l->n_prompt + done[i] - 1 + k] + wrong) % m->info.n_vocab);
            }
            rows[i] = line_row(l, i, done[i], true);
            rows[i].tokens = tokens[i];
            rows[i].n_tokens = rows[i].n_outputs = 1 + DRAFTS;
            rows[i].n_drafts = DRAFTS;
        }
        ok(b->ops->submit(b, &(struct backend_step){rows, SLOTS - 1}, &err), &err);
        ok(b->ops->wait(b, &out, &err), &err);
        assert_int_equal(out.n_samples, (SLOTS - 1) * (1 + DRAFTS));
        for (uint32_t i = 0; i < SLOTS - 1; i++) {
            for (uint32_t k = 0; k <= right[i]; k++) {
                const struct sample *got = &out.samples[i * (1 + DRAFTS) + k], *want = &lines[i].want[done[i] + k];
                if (got->token != want->token || got->logprob != want->logprob) {
                    fail_msg("sequence %u, token %u behind %u guesses: %d on the device, %d on the host", i,
                             done[i] + k, k, got->token, want->token);
                }
                sample_rules_accept(&lines[i].rules, got->token);
            }
            done[i] += right[i] + 1;
            if (right[i] < DRAFTS) {
                ok(b->ops->rewind(b, i, right[i], &err), &err);
            }
        }
    }
}

static struct model *golden(const char *name) {
    struct model *m;
    sluice_error err = {0};
    char path[1024];
    snprintf(path, sizeof path, TEST_DATA "/golden/peer/%s.gguf", name);
    ok(model_load(path, &m, &err), &err);
    return m;
}

static void test_feeding(void **state) {
    (void)state;
    const char *const names[] = {"moe-Q4_K_M", "dense-Q8_0"}; /* with and without the decode kernels */
    for (int k = 0; k < 2; k++) {
        struct model *weights = golden(names[k]);
        sluice_error err = {0};
        sluice_model m = {.model = weights, .info = {.n_vocab = weights->n_vocab, .eos = -1}};
        struct line *lines = calloc(SLOTS, sizeof *lines);
        float *forced = calloc((size_t)STEPS * weights->n_vocab, sizeof(float));
        for (int way = 0; way < 3; way++) {
            const struct backend_options options = {
                .n_slots = SLOTS, .n_pages = SLOTS * PAGES, .step_outputs_max = 32, .step_drafts_max = 16};
            struct backend *b = NULL;
            ok(backend_cuda_ops.open(weights, &options, &b, &err), &err);
            start_lines(lines, &m);
            if (way == 2) {
                lines_by_drafts(lines, b, &m);
            } else {
                (way == 1 ? lines_by_device : lines_by_host)(lines, b, &m, forced);
            }
            b->ops->close(b);
        }
        for (int i = 0; i < SLOTS; i++) {
            sample_rules_free(&lines[i].rules);
        }
        free(lines);
        free(forced);
        model_free(weights);
    }
}

/* Rows whose lists together are longer than what is set aside for them at first. */
static void test_long_lists(void **state) {
    (void)state;
    enum { MANY = 256 };
    struct model *weights = golden("moe-Q4_K_M");
    sluice_model m = {.model = weights, .info = {.n_vocab = weights->n_vocab, .eos = -1}};
    const struct backend_options options = {.n_slots = MANY, .n_pages = MANY};
    uint32_t n_vocab = weights->n_vocab;
    struct backend *b = NULL;
    struct sampler *sampler;
    sluice_error err = {0};
    ok(backend_cuda_ops.open(weights, &options, &b, &err), &err);
    ok(sampler_create(n_vocab, &sampler, &err), &err);
    int32_t *all = malloc(n_vocab * sizeof *all);
    for (uint32_t i = 0; i < n_vocab; i++) {
        all[i] = (int32_t)i;
    }
    struct sample_rules *rules = calloc(MANY, sizeof *rules);
    struct backend_row rows[MANY];
    int32_t tokens[MANY];
    uint32_t pages[MANY];
    struct sample drawn[MANY];
    for (int way = 0; way < 2; way++) { /* device first */
        struct backend_output out = {0};
        for (uint32_t i = 0; i < MANY; i++) {
            sluice_request_options o = {
                .sampling = {.temperature = 1, .top_p = 1, .repetition_penalty = 1.2f, .seed = i},
                .tokens = all,
                .n_tokens = n_vocab};
            if (way == 0) {
                ok(sample_rules_init(&rules[i], &m, &o, 1, &err), &err);
            }
            tokens[i] = (int32_t)(i % n_vocab);
            pages[i] = i;
            rows[i] = (struct backend_row){.slot = i,
                                           .n_tokens = 1,
                                           .tokens = &tokens[i],
                                           .pages = &pages[i],
                                           .n_outputs = 1,
                                           .rules = way == 0 ? &rules[i] : NULL};
        }
        ok(b->ops->submit(b, &(struct backend_step){rows, MANY}, &err), &err);
        ok(b->ops->wait(b, &out, &err), &err);
        for (uint32_t i = 0; i < MANY; i++) {
            struct sample want;
            if (way == 0) {
                drawn[i] = out.samples[i];
                continue;
            }
            ok(sampler_draw(sampler, &rules[i], out.logits + (size_t)i * n_vocab, 1, &want, &err), &err);
            assert_int_equal(drawn[i].token, want.token);
            sample_rules_free(&rules[i]);
        }
    }
    free(rules);
    free(all);
    sampler_free(sampler);
    b->ops->close(b);
    model_free(weights);
}

/* ---- Times */

static void bench(void) {
    static const struct {
        const char *name;
        sluice_sampling s;
        uint32_t n_prompt;
    } cases[] = {
        {"greedy", {.top_p = 1, .repetition_penalty = 1}, 0},
        {"greedy, penalty over 2000", {.top_p = 1, .repetition_penalty = 1.05f}, 2000},
        {"temperature 0.3, min_p 0.15", {.temperature = 0.3f, .top_p = 1, .min_p = 0.15f, .repetition_penalty = 1}, 0},
        {"the same, penalty over 2000",
         {.temperature = 0.3f, .top_p = 1, .min_p = 0.15f, .repetition_penalty = 1.05f},
         2000},
        {"temperature 1", {.temperature = 1, .top_p = 1, .repetition_penalty = 1}, 0},
        {"temperature 1, top_p 0.9", {.temperature = 1, .top_p = 0.9f, .repetition_penalty = 1}, 0},
        {"temperature 0.7, top_k 50, top_p 0.9, min_p 0.05",
         {.temperature = 0.7f, .top_k = 50, .top_p = 0.9f, .min_p = 0.05f, .repetition_penalty = 1},
         0},
    };
    struct batch *b = malloc(sizeof *b);
    open_batch(b, VOCAB_MAX);
    static int32_t prompt[2000];
    for (int i = 0; i < 2000; i++) {
        prompt[i] = i * 31;
    }
    for (uint32_t i = 0; i < ROWS * VOCAB_MAX; i++) {
        b->logits[i] = rnd_normal() * 2.5f;
    }
    cudaStream_t stream;
    cudaEvent_t from, to;
    good(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    good(cudaEventCreate(&from));
    good(cudaEventCreate(&to));
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        for (uint32_t i = 0; i < ROWS; i++) {
            sluice_request_options o = {.sampling = cases[k].s, .tokens = prompt, .n_tokens = cases[k].n_prompt};
            set_row(b, i, &o, 9 + i, NULL, 0, 0, false);
        }
        run(b);
        check(b);
        printf("%-52s", cases[k].name);
        for (uint32_t rows = 1; rows <= ROWS; rows *= ROWS) { /* replays of a graph of ten times the kernels */
            struct cuda_drawing d = b->d;
            cudaGraph_t graph;
            cudaGraphExec_t run;
            d.n = rows;
            good(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
            for (int i = 0; i < 10; i++) {
                bool cut = cases[k].s.top_k > 0 || cases[k].s.top_p < 1;
                good(cuda_draw_tokens(&d, cases[k].s.temperature > 0, cut, stream));
            }
            good(cudaStreamEndCapture(stream, &graph));
            good(cudaGraphInstantiate(&run, graph, 0));
            float best = INFINITY;
            for (int i = 0; i < 30; i++) {
                float ms;
                good(cudaEventRecord(from, stream));
                good(cudaGraphLaunch(run, stream));
                good(cudaEventRecord(to, stream));
                good(cudaEventSynchronize(to));
                good(cudaEventElapsedTime(&ms, from, to));
                best = ms < best ? ms : best;
            }
            printf("  %2u rows %6.1f us", rows, (double)best * 100);
            cudaGraphExecDestroy(run);
            cudaGraphDestroy(graph);
        }
        printf("\n");
    }
    close_batch(b);
    free(b);
}

int main(int argc, char **argv) {
    sluice_error err = {0};
    if (backend_cuda_ops.probe(&err) != SLUICE_OK) {
        printf("skipped: drawing on the device (%s)\n[  PASSED  ] 0 test(s).\n", err.text);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench();
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_rows), cmocka_unit_test(test_all_equal),  cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_feeding),     cmocka_unit_test(test_long_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void) {
    printf("skipped: drawing on the device (no GPU code in this build: no nvcc)\n[  PASSED  ] 0 test(s).\n");
    return 0;
}
#endif
