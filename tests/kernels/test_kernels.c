/*
 * Every kernel of the cpu backend on every ISA of this machine: against double arithmetic on dequantised weights
 * (tolerance with its reason), bit for bit against a plain evaluator of docs/numerics.md and against the portable
 * table, all memory between guards.
 *   test_kernels [ISA ..]          the checks; of the ISAs named and of ref only
 *   test_kernels --bench [ISA ..]  one thread's speed in each of them, and its share of what the machine allows
 */
#include "base/half.h"
#include "kernels/kernels_rig.h"
#include "quant/quant.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__aarch64__)
#define OF_ARM true
#else
#define OF_ARM false
#endif

static const float guard = -12345.678f;

/* ---- Products ---- */

/* A product under test, as a failure names it. */
struct product {
    const char *isa;
    enum fill fill;
    struct fixture f;
    uint32_t row0, row1, stride;
};

static void wrong(const struct product *p, const char *what, uint32_t row, uint32_t token, double got, double want) {
    static const char *const fills[] = {"gauss", "extreme", "limit", "tiny", "bits", "special"};
    fail_msg("%s %s %ux%u n=%u %s, rows %u to %u: row %u token %u %s: %a, not %a", p->isa, dtype_get(p->f.type)->name,
             p->f.n_rows, p->f.n_cols, p->f.n, fills[p->fill], p->row0, p->row1, row, token, what, got, want);
}

static float *run_matmul(const struct kernels *k, struct product *p) {
    const size_t n = (size_t)p->f.n * p->stride;
    float *y = guarded(n, sizeof(float));
    for (size_t i = 0; i < n; i++) {
        y[i] = guard;
    }
    prepare(k, &p->f);
    struct mm job = whole_job(&p->f, y, p->stride);
    k->matmul(&job, p->row0, p->row1, p->f.scratch);
    return y;
}

/* The portable table's y: untouched where no row is, else by the rule and, where all is finite, near the truth. */
static void check_values(struct product *p, const float *y) {
    const struct fixture *f = &p->f;
    /* the others are known from ISAs that group tokens otherwise */
    const uint32_t step = f->n > (strip_words(f->type) ? 40 : 8) ? 7 : 1;
    p->isa = "ref";
    for (uint32_t i = 0; i < f->n; i++) {
        for (uint32_t r = 0; r < p->stride; r++) {
            if ((r < p->row0 || r >= p->row1) && y[(size_t)i * p->stride + r] != guard) {
                wrong(p, "is written to", r, i, y[(size_t)i * p->stride + r], guard);
            }
        }
    }
    struct model_token *tokens = guarded(f->n, sizeof *tokens);
    for (uint32_t i = 0; i < f->n; i += step) {
        tokens[i] = model_token_new(f, i);
    }
    for (uint32_t r = p->row0; r < p->row1; r++) {
        struct model_row row = model_row_new(f, r);
        for (uint32_t i = 0; i < f->n; i += step) {
            float got = y[(size_t)i * p->stride + r];
            float want = model_product(&row, &tokens[i]);
            if (!model_equal(got, want)) {
                wrong(p, "is not by the rule", r, i, got, want);
            }
            double sum = 0;
            double size = 0;
            for (uint32_t c = 0; c < f->n_cols; c++) {
                double term = (double)row.w[c] * tokens[i].f[c];
                sum += term;
                size += fabs(term);
            }
            /* activations are rounded to 1/4094 of their block's largest; float sums of <= n_cols/16 terms */
            if (p->fill != FILL_SPECIAL && !(fabs(sum - got) <= size * 5e-4 + 1e-30)) {
                wrong(p, "is far from the truth", r, i, got, sum);
            }
        }
        model_row_free(&row);
    }
    for (uint32_t i = 0; i < f->n; i += step) {
        model_token_free(&tokens[i]);
    }
    guarded_free(tokens);
}

static void check_matmul(enum dtype type, uint32_t n_rows, uint32_t n_cols, uint32_t n, enum fill fill) {
    struct product p = {.fill = fill, .f = new_fixture(type, n_rows, n_cols, n, fill)};
    const uint32_t strips = (n_rows + STRIP_ROWS - 1) / STRIP_ROWS;
    p.row0 = rnd() % 3 ? 0 : rnd() % strips * STRIP_ROWS; /* strips of a thread: most often all, now and then some */
    p.row1 = rnd() % 3 ? n_rows : p.row0 + (1 + rnd() % (strips - p.row0 / STRIP_ROWS)) * STRIP_ROWS;
    p.row1 = p.row1 < n_rows ? p.row1 : n_rows;
    p.stride = n_rows + (rnd() % 4 ? 5 : 0);
    float *base = run_matmul(kernels_by_name("ref"), &p);
    check_values(&p, base);
    for (int k = 1; k < N_ISAS; k++) {
        if (!isa_kernels(isas[k])) {
            continue;
        }
        float *y = run_matmul(isa_kernels(isas[k]), &p);
        p.isa = isas[k];
        for (size_t i = 0; i < (size_t)n * p.stride; i++) {
            if (!model_equal(y[i], base[i])) {
                wrong(&p, "differs from ref", (uint32_t)(i % p.stride), (uint32_t)(i / p.stride), y[i], base[i]);
            }
        }
        guarded_free(y);
    }
    guarded_free(base);
    free_fixture(&p.f);
}

static const uint32_t few_tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 18, 24, 31, 32, 33};
static const uint32_t many_tokens[] = {64, 100, 257, 300}; /* the last two: more than one pass */
enum { N_FEW = sizeof few_tokens / sizeof few_tokens[0], N_MANY = sizeof many_tokens / sizeof many_tokens[0] };

static void every_number_of_tokens(void **state) {
    (void)state;
    static const uint32_t cols[] = {256, 512, 768, 1792, 2048};
    for (int t = 0; t < N_TYPES; t++) {
        for (int i = 0; i < N_FEW; i++) {
            for (size_t c = 0; c < sizeof cols / sizeof cols[0]; c++) {
                check_matmul(types[t], 1 + rnd() % 60, cols[c], few_tokens[i], FILL_GAUSS);
            }
        }
        for (int i = 0; i < N_MANY; i++) {
            check_matmul(types[t], 1 + rnd() % 60, cols[rnd() % 5], many_tokens[i], FILL_GAUSS);
        }
    }
    check_matmul(DTYPE_F32, 7, 16, 3, FILL_GAUSS);
    check_matmul(DTYPE_Q8_0, 7, 96, 7, FILL_GAUSS);
    check_matmul(DTYPE_F16, 40, 64, 20, FILL_GAUSS);
}

static void every_number_of_rows(void **state) {
    (void)state;
    static const uint32_t rows[] = {1, 15, 16, 17, 30, 48, 63, 64, 65, 80, 81, 112, 128, 171, 205, 1003, 1024};
    static const uint32_t tokens[] = {1, 2, 4, 5, 11, 16, 20, 40, 70};
    for (int t = 0; t < N_TYPES; t++) {
        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
            for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
                uint32_t cols = rows[r] > 128 ? 256 : 256 * (1 + rnd() % 3);
                check_matmul(types[t], rows[r], cols, tokens[i], FILL_BITS);
            }
        }
    }
}

static void every_value(void **state) {
    (void)state;
    for (int t = 0; t < N_TYPES; t++) {
        for (enum fill fill = FILL_EXTREME; fill <= FILL_SPECIAL; fill++) {
            for (int i = 0; i < N_FEW; i++) {
                check_matmul(types[t], 20 + rnd() % 30, 256 * (1 + rnd() % 4), few_tokens[i], fill);
            }
            check_matmul(types[t], 70, 768, 100, fill);
        }
    }
}

/* How a job names its tokens and what it does with their products, besides doing all of them in place. */
enum form { FORM_SRC = 1, FORM_DST = 2, FORM_ADD = 4, FORM_GAIN = 8, FORM_PACKS = 16, FORM_PARTS = 32, FORMS = 64 };

/* The packs of n tokens src. */
static uint8_t *packs_of(const struct kernels *k, const struct acts *x, const uint32_t *src, uint32_t n) {
    const size_t bytes = kernels_pack_bytes(x->n_cols);
    uint8_t *packs = guarded((n + KERNELS_PACK - 1) / KERNELS_PACK, bytes);
    for (uint32_t i = 0; i < n; i += KERNELS_PACK) {
        uint32_t some = n - i < KERNELS_PACK ? n - i : KERNELS_PACK;
        k->pack(x, src ? src + i : NULL, i, some, packs + i / KERNELS_PACK * bytes);
    }
    return packs;
}

/* n of f's tokens in one form, whose products alone are plain [f.n][f.n_rows]. */
static void check_form(const struct kernels *k, struct product *p, const float *plain, uint32_t n, uint32_t form) {
    enum { ROOM = 3, MOST = 40 };
    struct fixture *f = &p->f;
    uint32_t src[MOST];
    uint32_t dst[MOST + ROOM];
    float gain[MOST];
    for (uint32_t i = 0; i < n + ROOM; i++) {
        uint32_t j = rnd() % (i + 1);
        dst[i] = dst[j];
        dst[j] = i;
    }
    for (uint32_t i = 0; i < n; i++) {
        src[i] = form & FORM_SRC ? rnd() % f->n : i;
        dst[i] = form & FORM_DST ? dst[i] : i;
        gain[i] = gauss();
    }
    const size_t size = (size_t)(n + ROOM) * p->stride;
    float *y = guarded(size, sizeof(float));
    float *want = guarded(size, sizeof(float));
    for (size_t i = 0; i < size; i++) {
        y[i] = want[i] = gauss();
    }
    struct mm job = whole_job(f, y, p->stride);
    job.n = n;
    job.src = form & FORM_SRC ? src : NULL;
    job.dst = form & FORM_DST ? dst : NULL;
    job.add = (form & FORM_ADD) != 0;
    job.gain = form & FORM_GAIN ? gain : NULL;
    job.packs = form & FORM_PACKS && f->x.packs ? packs_of(k, &f->x, job.src, n) : NULL;
    job.next = form & FORM_SRC ? f->w : NULL;
    memset(f->scratch, 0xFF, kernels_scratch_bytes(f->n_cols));
    for (uint32_t r = 0, to; r < f->n_rows; r = to) {
        to = form & FORM_PARTS ? r + (1 + rnd() % 5) * STRIP_ROWS : f->n_rows;
        to = to < f->n_rows ? to : f->n_rows;
        k->matmul(&job, r, to, f->scratch);
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t r = 0; r < f->n_rows; r++) {
            float product = plain[(size_t)src[i] * f->n_rows + r];
            float *to = want + (size_t)dst[i] * p->stride + r;
            *to = job.add ? fmaf(job.gain ? gain[i] : 1, product, *to) : product;
        }
    }
    for (size_t i = 0; i < size; i++) {
        if (!model_equal(y[i], want[i])) {
            char what[64];
            snprintf(what, sizeof what, "among %u in form %u is wrong", n, form);
            wrong(p, what, (uint32_t)(i % p->stride), (uint32_t)(i / p->stride), y[i], want[i]);
        }
    }
    guarded_free((uint8_t *)(uintptr_t)job.packs);
    guarded_free(y);
    guarded_free(want);
}

static void every_form(void **state) {
    (void)state;
    static const uint32_t tokens[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 17, 40};
    for (int t = 0; t < N_TYPES; t++) {
        struct product p = {.fill = FILL_BITS, .f = new_fixture(types[t], 75, 512, 40, FILL_BITS), .stride = 75};
        p.row1 = p.f.n_rows;
        for (int k = 0; k < N_ISAS; k++) {
            const struct kernels *table = isa_kernels(isas[k]);
            if (!table) {
                continue;
            }
            p.isa = isas[k];
            p.stride = p.f.n_rows;
            float *plain = run_matmul(table, &p);
            p.stride = p.f.n_rows + 3;
            for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
                for (uint32_t form = 0; form < FORMS; form++) {
                    check_form(table, &p, plain, tokens[i], form);
                }
            }
            guarded_free(plain);
        }
        free_fixture(&p.f);
    }
}

/* Each token alone, named by its own activations, as it was among 40. */
static void one_token_equals_many(void **state) {
    (void)state;
    enum { ROWS = 50 };
    for (int t = 0; t < N_TYPES; t++) {
        struct product p = {.fill = FILL_GAUSS, .f = new_fixture(types[t], ROWS, 768, 40, FILL_GAUSS), .row1 = ROWS};
        p.stride = ROWS;
        for (int k = 0; k < N_ISAS; k++) {
            const struct kernels *table = isa_kernels(isas[k]);
            if (!table) {
                continue;
            }
            float *all = run_matmul(table, &p);
            for (uint32_t i = 0; i < p.f.n; i++) {
                float one[ROWS];
                struct acts alone = acts_from(&p.f.x, i);
                struct mm job = whole_job(&p.f, one, ROWS);
                job.x = &alone;
                job.packs = NULL;
                job.n = 1;
                table->matmul(&job, 0, ROWS, p.f.scratch);
                assert_memory_equal(one, all + ROWS * (size_t)i, sizeof one);
            }
            guarded_free(all);
        }
        free_fixture(&p.f);
    }
}

/* ---- Activations as integers ---- */

enum { CASES = 12, QUANTIZE_COLS = CASES * QK };

/* A token's blocks, each a case. */
static void quantize_cases(float *f) {
    static const float odd[] = {0.5f,     -0.5f, 1.5f,  -1.5f,   2.5f,        2046.5f,
                                -2046.5f, 2047,  -2047, 1023.5f, 0.49999997f, 63.5f};
    const float most = rnd() & 1 ? 1e4f : -1e4f;
    for (int c = 0; c < QK; c++) {
        const bool one = rnd() % 64 == 0;
        float cases[CASES] = {
            gauss(),
            1e-36f * gauss(),
            c % 2 ? 1e-30f : -1e-30f,                              /* nothing, */
            c % 2 ? nextafterf(1e-30f, 1) : 1e-31f * gauss(),      /* and something */
            c ? odd[rnd() % (sizeof odd / sizeof odd[0])] : -2047, /* inverse and scale are 1: halves to even */
            most,                                                  /* sums as large as they get */
            c % 2 ? FLT_MAX : FLT_TRUE_MIN * (float)c,
            one ? INFINITY : gauss(),
            one     ? -INFINITY
            : c % 3 ? 0
                    : NAN,
            one ? NAN : gauss(),
            NAN,
            c % 2 ? 0.0f : -0.0f,
        };
        for (int i = 0; i < CASES; i++) {
            f[i * QK + c] = cases[i];
        }
    }
}

/* A block of the table against the model. */
static void check_block(const char *isa, uint32_t at, const float f[QK], const struct act_block *b) {
    int16_t a[QK];
    const float scale = model_quantize(f, a);
    if (!model_equal(scale, b->scale)) {
        fail_msg("%s: block %u: scale %a, not %a", isa, at, (double)b->scale, (double)scale);
    }
    for (int c = 0; c < QK; c++) {
        static const int order[] = {0, 2, 1, 3};
        const int got = 64 * b->hi[c] + b->lo[c];
        const int16_t ordered = b->a[c];
        if (got != a[c] || b->lo[c] < 0 || b->lo[c] > 63 || ordered != a[c / 4 * 4 + order[c % 4]]) {
            fail_msg("%s: block %u column %d, %a: hi %d lo %d, not %d; a %d, not %d", isa, at, c, (double)f[c],
                     b->hi[c], b->lo[c], a[c], ordered, a[c / 4 * 4 + order[c % 4]]);
        }
    }
    for (int s = 0; s < QK / 16; s++) {
        int sum = 0;
        for (int c = 0; c < 16; c++) {
            sum += a[16 * s + c];
        }
        if (b->halves[s] != sum) {
            fail_msg("%s: block %u: half %d is %d, not %d", isa, at, s, b->halves[s], sum);
        }
    }
}

static void quantize_is_right(void **state) {
    (void)state;
    for (int k = 0; k < N_ISAS; k++) {
        const struct kernels *table = isa_kernels(isas[k]);
        for (uint32_t round = 0; table && round < 40; round++) {
            enum { TOKENS = 3 };
            struct acts x = new_acts(TOKENS, QUANTIZE_COLS);
            for (uint32_t i = 0; i < TOKENS; i++) {
                quantize_cases(x.f + i * QUANTIZE_COLS);
            }
            memset(x.blocks, 0xFF, TOKENS * CASES * sizeof *x.blocks);
            table->quantize(&x, 1); /* this token's and no other's */
            for (uint32_t i = 0; i < TOKENS * CASES; i++) {
                if (i / CASES == 1) {
                    check_block(isas[k], i - CASES, x.f + (size_t)i * QK, x.blocks + i);
                } else {
                    static const struct act_block none;
                    struct act_block other = none;
                    memset(&other, 0xFF, sizeof other);
                    assert_memory_equal(&x.blocks[i], &other, sizeof other);
                }
            }
            free_acts(&x);
        }
    }
}

/* ---- The other kernels ---- */

/* All small kernels on one table's worth of random input, outputs appended to out. */
static size_t run_small(const struct kernels *k, uint64_t with_seed, float *out) {
    rnd_seed(with_seed);
    enum { D = 144, TAPS = 3 };
    size_t n = 0;
    float x[D];
    float g[D];
    float bcx[3 * D];
    float state[2 * D];
    float taps[3 * D];
    for (int i = 0; i < D; i++) {
        x[i] = 3 * gauss();
        g[i] = gauss();
    }
    for (int i = 0; i < 3 * D; i++) {
        bcx[i] = gauss();
        taps[i] = gauss();
    }
    for (int i = 0; i < 2 * D; i++) {
        state[i] = gauss();
    }
    k->rms_norm(x, g, out + n, D, 1e-5f);
    n += D;
    memcpy(out + n, x, sizeof x);
    k->silu_mul(out + n, g, D);
    n += D;
    memcpy(out + n, x, sizeof x);
    k->sigmoid(out + n, D - 3);
    n += D;
    memcpy(out + n, x, sizeof x);
    k->rope(out + n, g, 64);
    n += D;
    memcpy(out + n, state, sizeof state);
    out[n + 2 * D + 15] = guard;
    k->conv(bcx, taps, TAPS, out + n, out + n + 2 * D, D, 16, D);
    assert_true(out[n + 2 * D + 15] == guard);
    memset(out + n + 2 * D, 0, 16 * sizeof(float));
    n += 3 * D;
    return n;
}

static void small_kernels_agree(void **state) {
    (void)state;
    static float a[4096];
    static float b[4096];
    for (uint64_t s = 1; s < 200; s++) {
        memset(a, 0, sizeof a);
        memset(b, 0, sizeof b);
        size_t n = run_small(kernels_by_name("ref"), s, a);
        for (int k = 1; k < N_ISAS; k++) {
            if (isa_kernels(isas[k])) {
                run_small(isa_kernels(isas[k]), s, b);
                assert_memory_equal(a, b, n * sizeof(float));
            }
        }
    }
}

static void small_kernels_are_right(void **state) {
    (void)state;
    const struct kernels *k = kernels_select();
    float x[64];
    float u[64];
    for (int i = 0; i < 64; i++) {
        x[i] = -90 + 3 * (float)i;
        u[i] = 1;
    }
    float y[64];
    memcpy(y, x, sizeof y);
    k->silu_mul(y, u, 64);
    for (int i = 0; i < 64; i++) {
        double want = x[i] / (1 + exp(-(double)x[i]));
        assert_true(fabs(y[i] - want) <= 1e-6 * fabs(want) + 1e-30);
    }
    memcpy(y, x, sizeof y);
    k->sigmoid(y, 61);
    for (int i = 0; i < 61; i++) {
        double want = 1 / (1 + exp(-(double)x[i]));
        assert_true(fabs(y[i] - want) <= 1e-6 * want + 2e-38);
    }
    assert_true(y[61] == x[61]);
}

/* Attention of one table over a paged cache; also in double. */
static void attention_is_right(void **state) {
    (void)state;
    enum { DIM = 64, POS = 200, PAGES = 4, Q = 16 };
    static uint16_t kp[PAGES][DIM * KV_PAGE_TOKENS];
    static uint16_t vp[PAGES][DIM * KV_PAGE_TOKENS];
    static float key[POS][DIM];
    static float val[POS][DIM];
    static float q[Q][DIM];
    static float out[N_ISAS][Q][DIM];
    const uint32_t pages[PAGES] = {2, 0, 3, 1};
    memset(kp, 0xFF, sizeof kp); /* NaN where nothing was stored: must not reach a result */
    memset(vp, 0xFF, sizeof vp);
    for (uint32_t p = 0; p < POS; p++) {
        for (int d = 0; d < DIM; d++) {
            key[p][d] = f16_to_f32(f32_to_f16(gauss()));
            val[p][d] = f16_to_f32(f32_to_f16(gauss()));
        }
        const struct kernels *k = isa_kernels(isas[p % 3]) ? isa_kernels(isas[p % 3]) : kernels_select();
        k->store_kv(key[p], val[p], kp[pages[p / 64]], vp[pages[p / 64]], DIM, p % 64);
    }
    for (uint32_t window = 0; window < 100; window += 33) {
        const float *qs[Q];
        uint32_t pos[Q];
        for (int i = 0; i < Q; i++) {
            for (int d = 0; d < DIM; d++) {
                q[i][d] = gauss();
            }
            qs[i] = q[i];
            pos[i] = i == 0 ? 0 : i == 1 ? POS - 1 : rnd() % POS;
        }
        for (int k = 0; k < N_ISAS; k++) {
            const struct kernels *table = isa_kernels(isas[k]);
            if (!table) {
                memcpy(out[k], out[0], sizeof out[0]);
                continue;
            }
            /* in groups of every size, so that company is seen not to matter */
            for (uint32_t at = 0, n = 1; at < Q; at += n, n = n % 7 + 1) {
                n = at + n > Q ? Q - at : n;
                float *outs[Q];
                for (uint32_t i = 0; i < n; i++) {
                    outs[i] = out[k][at + i];
                }
                struct attn job = {.k = kp[0],
                                   .v = vp[0],
                                   .page_stride = DIM * KV_PAGE_TOKENS,
                                   .pages = pages,
                                   .dim = DIM,
                                   .n = n,
                                   .window = window,
                                   .scale = 0.125f,
                                   .q = qs + at,
                                   .out = outs,
                                   .pos = pos + at};
                table->attend(&job);
            }
            if (k == 0) {
                float *outs[Q];
                static float whole[Q][DIM];
                for (uint32_t i = 0; i < Q; i++) {
                    outs[i] = whole[i];
                }
                struct attn job = {.k = kp[0],
                                   .v = vp[0],
                                   .page_stride = DIM * KV_PAGE_TOKENS,
                                   .pages = pages,
                                   .dim = DIM,
                                   .n = Q,
                                   .window = window,
                                   .scale = 0.125f,
                                   .q = qs,
                                   .out = outs,
                                   .pos = pos};
                table->attend(&job);
                assert_memory_equal(whole, out[0], sizeof whole);
            }
            assert_memory_equal(out[k], out[0], sizeof out[0]);
        }
        for (int i = 0; i < Q; i++) {
            double acc[DIM] = {0};
            double sum = 0;
            uint32_t first = window && pos[i] + 1 > window ? pos[i] + 1 - window : 0;
            for (uint32_t p = first; p <= pos[i]; p++) {
                double s = 0;
                for (int d = 0; d < DIM; d++) {
                    s += (double)q[i][d] * key[p][d];
                }
                double e = exp(s / 8);
                sum += e;
                for (int d = 0; d < DIM; d++) {
                    acc[d] += e * val[p][d];
                }
            }
            for (int d = 0; d < DIM; d++) {
                assert_true(fabs(acc[d] / sum - out[0][i][d]) < 1e-5); /* float sums of up to 200 terms of size 1 */
            }
        }
    }
}

int main(int argc, char **argv) {
    const bool bench = argc > 1 && strcmp(argv[1], "--bench") == 0;
    const int named = bench ? 2 : 1;
    if (argc > named && !isa_choose(argc - named, argv + named)) {
        fprintf(stderr, "usage: test_kernels [--bench] [ISA ..]\n");
        return 2;
    }
    if (bench) {
        kernels_bench();
        return 0;
    }
    for (int k = 0; k < N_ISAS; k++) {
        bool foreign = (strcmp(isas[k], "neon") == 0) != OF_ARM && strcmp(isas[k], "ref") != 0;
        if (!isa_kernels(isas[k]) && !foreign) { /* what another architecture has is not missing here */
            printf("skipped: kernels for %s (this machine or build lacks it)\n", isas[k]);
        }
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantize_is_right),    cmocka_unit_test(every_number_of_tokens),
        cmocka_unit_test(every_number_of_rows), cmocka_unit_test(every_value),
        cmocka_unit_test(every_form),           cmocka_unit_test(one_token_equals_many),
        cmocka_unit_test(small_kernels_agree),  cmocka_unit_test(small_kernels_are_right),
        cmocka_unit_test(attention_is_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
