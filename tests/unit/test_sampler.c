/* The sampler against a plain reimplementation of its definition, exact cases, and the statistics of its draws. */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define VOCAB_MAX 4096

struct fixture {
    sluice_model model;
    struct sampler *sampler;
    struct sample_rules rules;
    uint32_t n;
};

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

static sluice_request_options plain(void) {
    return (sluice_request_options){.sampling = {.temperature = 1, .top_p = 1, .repetition_penalty = 1}};
}

static void open_vocab(struct fixture *f, uint32_t n) {
    *f = (struct fixture){.n = n};
    f->model.info.n_vocab = n;
    f->model.info.eos = -1;
    f->model.tokens = calloc(n, sizeof *f->model.tokens);
    assert_int_equal(sampler_create(n, &f->sampler, NULL), SLUICE_OK);
}

static void use(struct fixture *f, const sluice_request_options *o) {
    sample_rules_free(&f->rules);
    assert_int_equal(sample_rules_init(&f->rules, &f->model, o, 64, NULL), SLUICE_OK);
}

static void close_vocab(struct fixture *f) {
    sample_rules_free(&f->rules);
    sampler_free(f->sampler);
    free(f->model.tokens);
}

static struct sample draw(struct fixture *f, const float *logits, uint64_t position) {
    struct sample s;
    sluice_error err = {0};
    assert_int_equal(sampler_draw(f->sampler, &f->rules, logits, position, &s, &err), SLUICE_OK);
    return s;
}

/* ---- The definition, by full sort -------------------------------------------------------------------------- */

struct ranked {
    double z, w;
    int32_t id;
};

static int by_rank(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    return x->z != y->z ? (x->z > y->z ? -1 : 1) : x->id < y->id ? -1 : x->id > y->id;
}

/* Fills keep[] with the tokens that can be drawn and p[] with their probabilities. */
static void define(const sluice_sampling *s, const float *logits, uint32_t n, double *p) {
    static struct ranked r[VOCAB_MAX];
    double max = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        max = fmax(max, (double)logits[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        r[i] = (struct ranked){.z = ((double)logits[i] - max) / (double)s->temperature, .id = (int32_t)i};
        r[i].w = exp(r[i].z);
        p[i] = 0;
    }
    qsort(r, n, sizeof r[0], by_rank);
    uint32_t kept = s->top_k > 0 && (uint32_t)s->top_k < n ? (uint32_t)s->top_k : n;
    double total = 0;
    for (uint32_t i = 0; i < kept; i++) {
        total += r[i].w;
    }
    if (s->top_p < 1) {
        double sum = 0;
        uint32_t i = 0;
        do {
            sum += r[i++].w;
        } while (i < kept && sum < (double)s->top_p * total);
        kept = i;
    }
    while (kept > 1 && r[kept - 1].w < (double)s->min_p) {
        kept--;
    }
    total = 0;
    for (uint32_t i = 0; i < kept; i++) {
        total += r[i].w;
    }
    for (uint32_t i = 0; i < kept; i++) {
        p[r[i].id] = r[i].w / total;
    }
}

/* The token that the definition draws: along ascending ids. */
static int32_t defined_draw(const double *p, uint32_t n, double u, double *margin) {
    double sum = 0;
    int32_t token = -1;
    *margin = 1;
    for (uint32_t i = 0; i < n; i++) {
        sum += p[i];
        *margin = fmin(*margin, fabs(sum - u));
        if (token < 0 && u < sum) {
            token = (int32_t)i;
        }
    }
    return token;
}

/* Random rows and settings; skipped only where the definition itself hangs on a rounding error. */
static void test_matches_definition(void **state) {
    (void)state;
    static float logits[VOCAB_MAX];
    static double p[VOCAB_MAX];
    int compared = 0, differing = 0;
    for (int round = 0; round < 3000; round++) {
        struct fixture f;
        uint32_t n = 2 + (uint32_t)(rnd() % (round % 10 == 0 ? VOCAB_MAX - 2 : 300));
        open_vocab(&f, n);
        float spread = rnd_float(0.1f, 20);
        for (uint32_t i = 0; i < n; i++) {
            logits[i] = rnd_float(-spread, spread);
            if (rnd() % 4 == 0) { /* ties */
                logits[i] = roundf(logits[i]);
            }
        }
        sluice_request_options o = plain();
        o.sampling.temperature = rnd() % 2 ? 1 : rnd_float(0.05f, 3);
        o.sampling.top_k = rnd() % 2 ? 0 : (int32_t)(1 + rnd() % (rnd() % 2 ? 20 : n + 10));
        o.sampling.top_p = rnd() % 2 ? 1 : rnd_float(0, 1);
        o.sampling.min_p = rnd() % 2 ? 0 : rnd_float(0, 0.5f);
        o.sampling.seed = rnd();
        use(&f, &o);
        define(&o.sampling, logits, n, p);
        for (uint64_t position = 0; position < 5; position++) {
            double margin;
            int32_t want = defined_draw(p, n, sampler_uniform(o.sampling.seed, position), &margin);
            int32_t got = draw(&f, logits, position).token;
            assert_true(got >= 0 && (uint32_t)got < n);
            compared++;
            differing += got != want && margin > 1e-5;
        }
        close_vocab(&f);
    }
    /* a few thresholds fall between float and double arithmetic: top_p and min_p at the last candidate */
    if (differing * 500 > compared) {
        fail_msg("%d of %d draws differ from the definition", differing, compared);
    }
}

/* ---- Exact cases ------------------------------------------------------------------------------------------- */

static void test_greedy(void **state) {
    (void)state;
    struct fixture f;
    open_vocab(&f, 200);
    float logits[200] = {0};
    sluice_request_options o = plain();
    o.sampling.temperature = 0;
    use(&f, &o);
    assert_int_equal(draw(&f, logits, 0).token, 0); /* all equal: the lowest id */
    logits[199] = 1;
    assert_int_equal(draw(&f, logits, 0).token, 199);
    logits[70] = logits[140] = 2;
    assert_int_equal(draw(&f, logits, 0).token, 70);
    for (int i = 0; i < 200; i++) {
        logits[i] = -5;
    }
    logits[3] = -4;
    assert_int_equal(draw(&f, logits, 0).token, 3);
    close_vocab(&f);
}

static void test_penalties(void **state) {
    (void)state;
    struct fixture f;
    open_vocab(&f, 100);
    float logits[100];
    for (int i = 0; i < 100; i++) {
        logits[i] = -10;
    }
    logits[5] = 4.0f;
    logits[6] = 3.0f;
    const int32_t prompt[] = {5, 7, 5};
    sluice_request_options o = plain();
    o.sampling.temperature = 0;
    o.tokens = prompt;
    o.n_tokens = 3;
    o.sampling.repetition_penalty = 1.3f; /* 4 / 1.3 = 3.08: still first; the prompt counts once, however often */
    use(&f, &o);
    assert_int_equal(draw(&f, logits, 3).token, 5);
    o.sampling.repetition_penalty = 1.4f; /* 2.86 */
    use(&f, &o);
    assert_int_equal(draw(&f, logits, 3).token, 6);
    sample_rules_accept(&f.rules, 6); /* 3 / 1.4 = 2.14 */
    assert_int_equal(draw(&f, logits, 4).token, 5);

    logits[5] = -1; /* below zero the penalty multiplies: -1.4 */
    logits[6] = -1.2f;
    use(&f, &o);
    assert_int_equal(draw(&f, logits, 3).token, 6);

    logits[5] = 4;
    logits[6] = 3;
    o.sampling.repetition_penalty = 1;
    o.sampling.presence_penalty = 1.5f; /* over the output only: the prompt's 5 is free */
    use(&f, &o);
    assert_int_equal(draw(&f, logits, 3).token, 5);
    sample_rules_accept(&f.rules, 5);
    assert_int_equal(draw(&f, logits, 4).token, 6);
    o.sampling.presence_penalty = 0;
    o.sampling.frequency_penalty = 0.4f;
    use(&f, &o);
    sample_rules_accept(&f.rules, 5);
    sample_rules_accept(&f.rules, 5);
    assert_int_equal(draw(&f, logits, 5).token, 5); /* 4 - 0.8 */
    sample_rules_accept(&f.rules, 5);
    assert_int_equal(draw(&f, logits, 6).token, 6); /* 4 - 1.2 */
    close_vocab(&f);
}

static void test_bias_and_bans(void **state) {
    (void)state;
    struct fixture f;
    open_vocab(&f, 3);
    float logits[3] = {1, 2, 3};
    sluice_logit_bias bias[3] = {{.token = 2, .bias = -100}, {.token = 0, .bias = 1.5f}, {.token = 1, .bias = -1000}};
    sluice_request_options o = plain();
    o.sampling.temperature = 0;
    o.logit_bias = bias;
    o.n_logit_bias = 1;
    use(&f, &o);
    assert_int_equal(draw(&f, logits, 0).token, 1);
    o.n_logit_bias = 2;
    use(&f, &o);
    assert_int_equal(draw(&f, logits, 0).token, 0);
    o.n_logit_bias = 3;
    o.sampling.temperature = 1;
    use(&f, &o);
    for (uint64_t i = 0; i < 50; i++) {
        assert_int_equal(draw(&f, logits, i).token, 0);
    }
    bias[1].bias = -100;
    use(&f, &o);
    struct sample s;
    sluice_error err;
    assert_int_equal(sampler_draw(f.sampler, &f.rules, logits, 0, &s, &err), SLUICE_E_ARG);
    assert_non_null(strstr(err.text, "bans every token"));

    o.n_logit_bias = 0;
    o.ignore_eos = true;
    f.model.tokens[2].flags = TOKEN_FLAG_END;
    o.sampling.temperature = 0;
    use(&f, &o);
    assert_int_equal(draw(&f, logits, 0).token, 1);
    close_vocab(&f);
}

static void test_not_finite(void **state) {
    (void)state;
    struct fixture f;
    open_vocab(&f, 300);
    const float bad[] = {NAN, INFINITY, -INFINITY};
    const uint32_t places[] = {0, 63, 64, 255, 256, 299};
    float logits[300] = {0};
    sluice_request_options o = plain();
    for (int greedy = 0; greedy < 2; greedy++) {
        o.sampling.temperature = greedy ? 0 : 1;
        use(&f, &o);
        for (size_t b = 0; b < 3; b++) {
            for (size_t i = 0; i < 6; i++) {
                struct sample s;
                sluice_error err;
                logits[places[i]] = bad[b];
                assert_int_equal(sampler_draw(f.sampler, &f.rules, logits, 9, &s, &err), SLUICE_E_BACKEND);
                logits[places[i]] = 0;
            }
        }
    }
    draw(&f, logits, 0);
    close_vocab(&f);
}

static void test_extremes(void **state) {
    (void)state;
    struct fixture f;
    open_vocab(&f, 130);
    float logits[130];
    for (int i = 0; i < 130; i++) {
        logits[i] = i % 2 ? 3e38f : -3e38f;
    }
    sluice_request_options o = plain();
    for (int round = 0; round < 4; round++) {
        o.sampling.temperature = round < 2 ? 1e-4f : 100;
        o.sampling.top_k = round % 2 ? 100 : 0;
        use(&f, &o);
        for (uint64_t i = 0; i < 100; i++) {
            assert_int_equal(draw(&f, logits, i).token % 2, 1);
        }
    }
    const int32_t prompt[1] = {1};
    o.tokens = prompt;
    o.n_tokens = 1;
    o.sampling.repetition_penalty = 0.01f; /* 3e38 / 0.01 overflows */
    use(&f, &o);
    struct sample s;
    assert_int_equal(sampler_draw(f.sampler, &f.rules, logits, 0, &s, NULL), SLUICE_E_BACKEND);
    close_vocab(&f);

    open_vocab(&f, 1); /* a vocabulary of one */
    o = plain();
    o.sampling.top_k = 5;
    o.sampling.top_p = 0;
    o.sampling.min_p = 1;
    use(&f, &o);
    assert_int_equal(draw(&f, logits, 0).token, 0);
    close_vocab(&f);
}

static void test_field_errors(void **state) {
    (void)state;
    struct fixture f;
    open_vocab(&f, 10);
    const struct {
        size_t offset;
        float value;
        const char *name;
    } cases[] = {
        {offsetof(sluice_sampling, temperature), -1, "temperature"},
        {offsetof(sluice_sampling, temperature), NAN, "temperature"},
        {offsetof(sluice_sampling, top_p), 1.5f, "top_p"},
        {offsetof(sluice_sampling, min_p), -0.1f, "min_p"},
        {offsetof(sluice_sampling, repetition_penalty), 0, "repetition_penalty"},
        {offsetof(sluice_sampling, presence_penalty), INFINITY, "presence_penalty"},
        {offsetof(sluice_sampling, frequency_penalty), 101, "frequency_penalty"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sluice_request_options o = plain();
        struct sample_rules rules;
        sluice_error err;
        memcpy((char *)&o.sampling + cases[i].offset, &cases[i].value, sizeof(float));
        assert_int_equal(sample_rules_init(&rules, &f.model, &o, 1, &err), SLUICE_E_ARG);
        assert_non_null(strstr(err.text, cases[i].name));
    }
    sluice_logit_bias bias = {.token = 10};
    sluice_request_options o = plain();
    o.logit_bias = &bias;
    o.n_logit_bias = 1;
    struct sample_rules rules;
    assert_int_equal(sample_rules_init(&rules, &f.model, &o, 1, NULL), SLUICE_E_ARG);
    bias = (sluice_logit_bias){.token = 1, .bias = NAN};
    assert_int_equal(sample_rules_init(&rules, &f.model, &o, 1, NULL), SLUICE_E_ARG);
    close_vocab(&f);
}

static void test_logprobs(void **state) {
    (void)state;
    struct fixture f;
    enum { n = 1000 };
    open_vocab(&f, n);
    static float logits[n];
    double sum = 0;
    for (int i = 0; i < n; i++) {
        logits[i] = rnd_float(-12, 12);
    }
    logits[17] = logits[900] = 13; /* a tie at the top */
    for (int i = 0; i < n; i++) {
        sum += exp((double)logits[i]);
    }
    sluice_logit_bias bias = {.token = 17, .bias = -100}; /* must not show in the logprobs */
    sluice_request_options o = plain();
    o.logit_bias = &bias;
    o.n_logit_bias = 1;
    o.sampling.temperature = 0.3f;
    o.top_logprobs = 20;
    use(&f, &o);
    struct sample s = draw(&f, logits, 3);
    assert_true(fabs((double)s.logprob - ((double)logits[s.token] - log(sum))) < 2e-6);
    assert_int_equal(s.n_top, 20);
    assert_int_equal(s.top[0].token, 17);
    assert_int_equal(s.top[1].token, 900);
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(fabs((double)s.top[i].logprob - ((double)logits[s.top[i].token] - log(sum))) < 2e-6);
        assert_true(i == 0 || s.top[i].logprob <= s.top[i - 1].logprob);
        int greater = 0;
        for (int k = 0; k < n; k++) {
            greater += logits[k] > logits[s.top[i].token];
        }
        assert_true(greater <= (int)i);
    }
    close_vocab(&f);

    open_vocab(&f, 7); /* fewer tokens than asked for */
    use(&f, &(sluice_request_options){.sampling = {.top_p = 1, .repetition_penalty = 1}, .top_logprobs = 20});
    assert_int_equal(draw(&f, logits, 0).n_top, 7);
    close_vocab(&f);
}

/* ---- Statistics -------------------------------------------------------------------------------------------- */

/* Chi-square of n draws against the definition. 0.999 quantile of chi-square with k degrees, Wilson and Hilferty. */
static void check_distribution(const sluice_sampling *s, const float *logits, uint32_t n) {
    enum { draws = 40000 };
    struct fixture f;
    open_vocab(&f, n);
    sluice_request_options o = plain();
    o.sampling = *s;
    use(&f, &o);
    double p[256];
    uint32_t count[256] = {0};
    define(s, logits, n, p);
    for (uint64_t i = 0; i < draws; i++) {
        count[draw(&f, logits, i).token]++;
    }
    double chi = 0, rest_p = 0, rest_n = 0;
    int degrees = -1;
    for (uint32_t i = 0; i < n; i++) {
        if (p[i] == 0) {
            assert_int_equal(count[i], 0);
        } else if (p[i] * draws < 10) { /* rare ones together */
            rest_p += p[i];
            rest_n += count[i];
        } else {
            double d = count[i] - p[i] * draws;
            chi += d * d / (p[i] * draws);
            degrees++;
        }
    }
    if (rest_p * draws > 10) {
        double d = rest_n - rest_p * draws;
        chi += d * d / (rest_p * draws);
        degrees++;
    }
    if (degrees > 0) {
        double k = degrees, t = 1 - 2 / (9 * k) + 3.09 * sqrt(2 / (9 * k));
        if (chi > k * t * t * t) {
            fail_msg("chi-square %g with %d degrees", chi, degrees);
        }
    }
    close_vocab(&f);
}

static void test_distribution(void **state) {
    (void)state;
    random_state = 7;
    float logits[256];
    for (int i = 0; i < 256; i++) {
        logits[i] = rnd_float(-3, 3);
    }
    sluice_sampling s = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 42};
    check_distribution(&s, logits, 256);
    check_distribution(&s, logits, 2);
    s.temperature = 0.3f;
    s.min_p = 0.15f;
    check_distribution(&s, logits, 256);
    s.min_p = 0;
    s.temperature = 2;
    s.top_k = 40;
    check_distribution(&s, logits, 256);
    s.top_k = 0;
    s.top_p = 0.8f;
    s.seed = 43;
    check_distribution(&s, logits, 256);
    s.top_k = 60;
    s.min_p = 0.05f;
    check_distribution(&s, logits, 256);
}

static void test_uniform(void **state) {
    (void)state;
    enum { n = 200000, bins = 64 };
    /* along positions, along seeds, and pairs of neighbours */
    for (int kind = 0; kind < 3; kind++) {
        uint32_t count[bins] = {0};
        for (uint64_t i = 0; i < n; i++) {
            double u = kind == 1 ? sampler_uniform(i, 5) : sampler_uniform(99, i);
            assert_true(u >= 0 && u < 1);
            unsigned bin = (unsigned)(u * bins);
            if (kind == 2) {
                bin = (unsigned)(u * 8) * 8 + (unsigned)(sampler_uniform(99, i + 1) * 8);
            }
            count[bin]++;
        }
        double chi = 0;
        for (int b = 0; b < bins; b++) {
            double d = count[b] - (double)n / bins;
            chi += d * d / ((double)n / bins);
        }
        assert_true(chi < 103.4); /* 0.999 quantile of 63 degrees */
    }
}

/* Fixed draws: any change of hash, order or arithmetic shows, on any machine. */
static void test_reproducible(void **state) {
    (void)state;
    struct fixture f;
    open_vocab(&f, 1000);
    static float logits[1000];
    random_state = 3;
    for (int i = 0; i < 1000; i++) {
        logits[i] = rnd_float(-4, 4);
    }
    sluice_request_options o = plain();
    o.sampling.seed = 1234;
    use(&f, &o);
    int32_t first[8], again[8];
    for (uint64_t i = 0; i < 8; i++) {
        first[i] = draw(&f, logits, i).token;
    }
    for (uint64_t i = 8; i-- > 0;) { /* another order, another sampler state */
        again[i] = draw(&f, logits, i).token;
    }
    assert_memory_equal(first, again, sizeof first);
    const int32_t pinned[8] = {646, 718, 631, 450, 998, 252, 459, 739};
    assert_memory_equal(first, pinned, sizeof first);
    o.sampling.seed = 1235;
    use(&f, &o);
    int same = 0;
    for (uint64_t i = 0; i < 8; i++) {
        same += draw(&f, logits, i).token == first[i];
    }
    assert_true(same < 3);
    close_vocab(&f);
}

static void test_allocation_failures(void **state) {
    (void)state;
    struct fixture f;
    open_vocab(&f, 100);
    const int32_t prompt[3] = {1, 2, 3};
    sluice_logit_bias bias = {.token = 1, .bias = 1};
    sluice_request_options o = plain();
    o.tokens = prompt;
    o.n_tokens = 3;
    o.logit_bias = &bias;
    o.n_logit_bias = 1;
    o.sampling.repetition_penalty = 1.1f;
    for (long nth = 1;; nth++) {
        struct sample_rules rules;
        struct sampler *sampler = NULL;
        mem_fail_nth(nth);
        sluice_status status = sample_rules_init(&rules, &f.model, &o, 10, NULL);
        if (status == SLUICE_OK) {
            status = sampler_create(100, &sampler, NULL);
            sample_rules_free(&rules);
        }
        mem_fail_nth(0);
        sampler_free(sampler);
        if (status == SLUICE_OK) {
            assert_true(nth > 5);
            break;
        }
        assert_int_equal(status, SLUICE_E_NOMEM);
    }
    close_vocab(&f);
}

/* ---- `test_sampler --bench`: microseconds per row of 65,536 ------------------------------------------------ */

static void bench(const char *label, const sluice_request_options *o, const float *logits, uint32_t n) {
    struct fixture f;
    open_vocab(&f, n);
    use(&f, o);
    double best = 1e9;
    for (int round = 0; round < 30; round++) {
        uint64_t start = clock_ns();
        for (uint64_t i = 0; i < 20; i++) {
            draw(&f, logits, i);
        }
        double us = clock_ms_since(start) * 1000 / 20;
        best = us < best ? us : best;
    }
    printf("%-52s %7.1f us\n", label, best);
    close_vocab(&f);
}

static int run_benches(void) {
    enum { n = 65536 };
    static float logits[n];
    static int32_t prompt[2000];
    for (int i = 0; i < n; i++) { /* roughly what a language model gives: a bulk and a thin upper tail */
        float u = rnd_float(0.0001f, 1), v = rnd_float(0, 6.2831853f);
        logits[i] = 2.5f * sqrtf(-2 * logf(u)) * cosf(v) - 2;
    }
    for (int i = 0; i < 2000; i++) {
        prompt[i] = (int32_t)(rnd() % n);
    }
    sluice_request_options o = plain();
    o.sampling.temperature = 0;
    bench("greedy", &o, logits, n);
    o.sampling.temperature = 1;
    bench("temperature 1", &o, logits, n);
    o.sampling.top_p = 0.9f;
    bench("temperature 1, top_p 0.9", &o, logits, n);
    o.sampling = (sluice_sampling){.temperature = 0.1f, .top_k = 50, .top_p = 0.1f, .repetition_penalty = 1};
    bench("temperature 0.1, top_k 50, top_p 0.1", &o, logits, n);
    o.tokens = prompt;
    o.n_tokens = 2000;
    o.sampling = (sluice_sampling){.temperature = 0.3f, .top_p = 1, .min_p = 0.15f, .repetition_penalty = 1.05f};
    bench("temperature 0.3, min_p 0.15, penalty over 2000", &o, logits, n);
    o.sampling.top_k = 50;
    bench("temperature 0.3, top_k 50, min_p, penalty over 2000", &o, logits, n);
    o.top_logprobs = 20;
    bench("the same with 20 logprobs", &o, logits, n);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        return run_benches();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches_definition), cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_penalties),          cmocka_unit_test(test_bias_and_bans),
        cmocka_unit_test(test_not_finite),         cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_field_errors),       cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_distribution),       cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_reproducible),       cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
