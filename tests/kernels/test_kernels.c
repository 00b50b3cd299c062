/*
 * Every kernel of the cpu backend on every ISA of this machine: against double arithmetic on dequantised weights
 * (tolerance with its reason), bit for bit against the portable table, outputs fenced by guard values.
 *   test_kernels            the checks
 *   test_kernels --bench    one thread's speed in each of them, with its share of what the machine was measured to allow
 */
#include "backend/cpu/kernels.h"
#include "base/clock.h"
#include "base/half.h"
#include "base/mem.h"
#include "quant/quant.h"
#include "tools/probe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const enum dtype types[] = {DTYPE_F32,  DTYPE_F16,  DTYPE_BF16, DTYPE_Q4_0,
                                   DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
static const char *const isas[] = {"ref", "avx2", "avx512", "amx", "neon"};
#if defined(__aarch64__)
#define OF_ARM true
#else
#define OF_ARM false
#endif
enum { N_TYPES = sizeof types / sizeof types[0], N_ISAS = sizeof isas / sizeof isas[0] };

extern const struct kernels kernels_amx_emulated;

/* The table of an ISA; where there is no AMX, its kernels on emulated tiles. NULL: this machine lacks it. */
static const struct kernels *isa_kernels(const char *name) {
    const struct kernels *k = kernels_by_name(name);
    bool emulated = !k && strcmp(name, "amx") == 0 && kernels_by_name("avx512");
    return emulated ? &kernels_amx_emulated : k;
}

static uint64_t seed = 0x9E3779B97F4A7C15u;

static uint32_t rnd(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

static float gauss(void) {
    float s = -6;
    for (int i = 0; i < 12; i++) {
        s += (float)rnd() / 2147483648.0f;
    }
    return s;
}

struct fixture {
    enum dtype type;
    uint32_t n_cols, n_rows, n;
    uint8_t *w;
    size_t row_bytes;
    struct acts x;
    void *scratch;
};

/* Zeroed and aligned as the backend's arena is. */
static void *aligned(size_t n, size_t size) {
    size_t bytes = (n * size + 64 + 63) / 64 * 64;
    void *p = aligned_alloc(64, bytes);
    memset(p, 0, bytes);
    return p;
}

static struct acts new_acts(uint32_t n, uint32_t n_cols) {
    struct acts a = {.n_cols = n_cols};
    a.f = aligned((size_t)n * n_cols, sizeof(float));
    a.q = aligned((size_t)n * n_cols, sizeof(int16_t));
    a.hi = aligned((size_t)n * n_cols, 1);
    a.lo = aligned((size_t)n * n_cols, 1);
    a.split = aligned((size_t)2 * n * n_cols, 1);
    a.halves = aligned((size_t)n * (n_cols / 16), sizeof(int16_t));
    a.scale = aligned((size_t)n * (n_cols / QK), sizeof(float));
    a.sums = aligned((size_t)n * acts_sums_stride(n_cols), sizeof(float));
    return a;
}

static void free_acts(struct acts *a) {
    free(a->f);
    free(a->q);
    free(a->hi);
    free(a->lo);
    free(a->split);
    free(a->halves);
    free(a->scale);
    free(a->sums);
    free(a->packs);
}

enum fill { FILL_GAUSS, FILL_EXTREME, FILL_TINY };

/* Weights of any finite value: extreme blocks have every quant and scale at its largest. */
static struct fixture new_fixture(enum dtype type, uint32_t n_rows, uint32_t n_cols, uint32_t n, enum fill fill) {
    const struct dtype_info *info = dtype_get(type);
    struct fixture f = {
        .type = type, .n_cols = n_cols, .n_rows = n_rows, .n = n, .row_bytes = dtype_row_bytes(info, n_cols)};
    f.w = calloc(n_rows, f.row_bytes);
    float *row = calloc(n_cols, sizeof(float));
    for (uint32_t r = 0; r < n_rows; r++) {
        for (uint32_t c = 0; c < n_cols; c++) {
            row[c] = gauss() * 0.02f;
        }
        quantize_row(type, row, f.w + r * f.row_bytes, n_cols);
    }
    if (fill == FILL_EXTREME && info->block_elems == QK) {
        for (size_t b = 0; b < (size_t)n_rows * n_cols / QK; b++) {
            uint8_t *p = f.w + b * info->block_bytes;
            memset(p + (type == DTYPE_Q6_K ? 0 : 4), rnd() & 1 ? 0xFF : 0x00,
                   info->block_bytes - (type == DTYPE_Q6_K ? 18 : 4));
            if (type == DTYPE_Q6_K) {
                memset(p + 192, rnd() & 1 ? 0x80 : 0x7F, 16);
            } else {
                memset(p + 4, 0xFF, 12);
            }
        }
    }
    free(row);
    f.x = new_acts(n, n_cols);
    for (size_t i = 0; i < (size_t)n * n_cols; i++) {
        f.x.f[i] = fill == FILL_TINY ? 1e-36f * gauss() : fill == FILL_EXTREME ? (rnd() & 1 ? 1e4f : -1e4f) : gauss();
    }
    f.scratch = aligned(kernels_scratch_bytes(n_cols), 1);
    return f;
}

static void free_fixture(struct fixture *f) {
    free(f->w);
    free(f->scratch);
    free_acts(&f->x);
}

static const float guard = -12345.678f;

/* Everything that the table's kernels want of the activations. */
static void prepare(const struct kernels *k, struct fixture *f) {
    for (uint32_t i = 0; i < f->n; i++) {
        k->quantize(&f->x, i);
    }
    free(f->x.packs);
    f->x.packs = NULL;
    if (k->pack && f->n_cols % QK == 0) {
        size_t bytes = kernels_pack_bytes(f->n_cols);
        f->x.packs = aligned((f->n + KERNELS_PACK - 1) / KERNELS_PACK, bytes);
        for (uint32_t i = 0; i < f->n; i += KERNELS_PACK) {
            k->pack(&f->x, NULL, i, f->n - i < KERNELS_PACK ? f->n - i : KERNELS_PACK,
                    f->x.packs + i / KERNELS_PACK * bytes);
        }
    }
}

static float *run_matmul(const struct kernels *k, struct fixture *f, uint32_t row0, uint32_t row1, uint32_t stride) {
    float *y = malloc((size_t)f->n * stride * sizeof(float));
    for (size_t i = 0; i < (size_t)f->n * stride; i++) {
        y[i] = guard;
    }
    prepare(k, f);
    struct mm job = {.w = f->w,
                     .row_bytes = f->row_bytes,
                     .type = f->type,
                     .n_cols = f->n_cols,
                     .x = &f->x,
                     .packs = f->x.packs,
                     .n = f->n,
                     .y = y,
                     .y_stride = stride};
    k->matmul(&job, row0, row1, f->scratch);
    return y;
}

static void check_matmul(enum dtype type, uint32_t n_rows, uint32_t n_cols, uint32_t n, enum fill fill) {
    struct fixture f = new_fixture(type, n_rows, n_cols, n, fill);
    uint32_t row0 = n_rows > 3 ? 1 : 0;
    uint32_t row1 = n_rows > 3 ? n_rows - 1 : n_rows;
    uint32_t stride = n_rows + 5;
    float *base = run_matmul(kernels_by_name("ref"), &f, row0, row1, stride);
    float *row = malloc(n_cols * sizeof(float));
    for (uint32_t r = 0; r < n_rows; r++) {
        dequantize_row(type, f.w + r * f.row_bytes, row, n_cols);
        for (uint32_t i = 0; i < n; i++) {
            float got = base[(size_t)i * stride + r];
            if (r < row0 || r >= row1) {
                assert_true(got == guard);
                continue;
            }
            double sum = 0;
            double size = 0;
            for (uint32_t c = 0; c < n_cols; c++) {
                double p = (double)row[c] * f.x.f[(size_t)i * n_cols + c];
                sum += p;
                size += fabs(p);
            }
            /* activations are rounded to 1/4094 of their block's largest; float sums of <= n_cols/16 terms */
            double tolerance = size * 5e-4 + 1e-30;
            if (!(fabs(sum - got) <= tolerance)) {
                fail_msg("%s %ux%u n=%u row %u token %u: %g, exact %g, tolerance %g", dtype_get(type)->name, n_rows,
                         n_cols, n, r, i, (double)got, sum, tolerance);
            }
        }
    }
    for (int k = 1; k < N_ISAS; k++) {
        if (isa_kernels(isas[k])) {
            float *y = run_matmul(isa_kernels(isas[k]), &f, row0, row1, stride);
            if (memcmp(y, base, (size_t)n * stride * sizeof(float)) != 0) {
                fail_msg("%s %ux%u n=%u: %s differs from the portable kernels", dtype_get(type)->name, n_rows, n_cols,
                         n, isas[k]);
            }
            free(y);
        }
    }
    free(row);
    free(base);
    free_fixture(&f);
}

static void matmul_is_right_everywhere(void **state) {
    (void)state;
    static const uint32_t tokens[] = {1, 2, 3, 4, 5, 9, 16, 33, 300};
    static const uint32_t cols[] = {256, 512, 1792, 2048};
    for (int t = 0; t < N_TYPES; t++) {
        for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
            for (size_t c = 0; c < sizeof cols / sizeof cols[0]; c++) {
                check_matmul(types[t], 1 + rnd() % 60, cols[c], tokens[i], FILL_GAUSS); /* 300: more than one pass */
            }
        }
        check_matmul(types[t], 30, 512, 6, FILL_EXTREME);
        check_matmul(types[t], 30, 512, 1, FILL_EXTREME);
        check_matmul(types[t], 30, 512, 2, FILL_EXTREME);
        check_matmul(types[t], 40, 512, 20, FILL_EXTREME);
        check_matmul(types[t], 30, 512, 6, FILL_TINY);
        check_matmul(types[t], 205, 256, 20, FILL_GAUSS); /* panels in turn: one unit of work each, */
        check_matmul(types[t], 205, 512, 40, FILL_GAUSS); /* several, of odd and of even number */
        check_matmul(types[t], 171, 768, 70, FILL_GAUSS);
    }
    check_matmul(DTYPE_F32, 7, 16, 3, FILL_GAUSS);
    check_matmul(DTYPE_Q8_0, 7, 96, 7, FILL_GAUSS);
}

static void one_token_equals_many(void **state) {
    (void)state;
    for (int t = 0; t < N_TYPES; t++) {
        struct fixture f = new_fixture(types[t], 50, 768, 40, FILL_GAUSS);
        for (int k = 0; k < N_ISAS; k++) {
            const struct kernels *table = isa_kernels(isas[k]);
            if (!table) {
                continue;
            }
            float *all = run_matmul(table, &f, 0, 50, 50);
            for (uint32_t i = 0; i < f.n; i++) {
                float one[50];
                uint32_t src = i;
                uint32_t dst = 0;
                struct mm job = {.w = f.w,
                                 .row_bytes = f.row_bytes,
                                 .type = f.type,
                                 .n_cols = f.n_cols,
                                 .x = &f.x,
                                 .n = 1,
                                 .src = &src,
                                 .dst = &dst,
                                 .y = one,
                                 .y_stride = 50};
                table->matmul(&job, 0, 50, f.scratch);
                assert_memory_equal(one, all + 50 * (size_t)i, sizeof one);
            }
            free(all);
        }
        free_fixture(&f);
    }
}

static void added_products_use_gains(void **state) {
    (void)state;
    struct fixture f = new_fixture(DTYPE_Q4_K, 20, 256, 6, FILL_GAUSS);
    const struct kernels *k = kernels_select();
    float *plain = run_matmul(k, &f, 0, 20, 20);
    float y[6 * 20];
    float gain[6];
    for (int i = 0; i < 6; i++) {
        gain[i] = gauss();
    }
    for (int i = 0; i < 6 * 20; i++) {
        y[i] = (float)i;
    }
    struct mm job = {.w = f.w,
                     .row_bytes = f.row_bytes,
                     .type = f.type,
                     .n_cols = 256,
                     .x = &f.x,
                     .n = 6,
                     .y = y,
                     .y_stride = 20,
                     .add = true,
                     .gain = gain};
    k->matmul(&job, 0, 20, f.scratch);
    for (int i = 0; i < 6 * 20; i++) {
        assert_true(y[i] == fmaf(gain[i / 20], plain[i], (float)i));
    }
    job.gain = NULL;
    k->matmul(&job, 0, 20, f.scratch);
    for (int i = 0; i < 6 * 20; i++) {
        assert_true(y[i] == fmaf(gain[i / 20], plain[i], (float)i) + plain[i]);
    }
    free(plain);
    free_fixture(&f);
}

/* All small kernels on one table's worth of random input, outputs appended to out. */
static size_t run_small(const struct kernels *k, uint64_t with_seed, float *out) {
    seed = with_seed;
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

/* ---- --bench ---- */

/* What one thread was measured to reach: 1e9 bytes/s from memory, 1e9 operations/s (a multiply-add is two). */
struct roof {
    double read, int8, f32;
};

/* The shortest of some runs of body, in ns. */
#define BEST_OF(times, ns, body)                                                                                       \
    for (int try_ = 0; try_ < (times); try_++) {                                                                       \
        uint64_t start_ = clock_ns();                                                                                  \
        body;                                                                                                          \
        (ns) = fmin((ns), (double)(clock_ns() - start_));                                                              \
    }

/* One type at several numbers of tokens. One token reads ROWS rows once, from memory; the others a matrix of an expert's size. */
static void bench_matmul(const struct kernels *k, enum dtype type, const struct roof *roof) {
    static const uint32_t tokens[] = {1, 2, 3, 4, 8, 16, 64, 512};
    enum { ROWS = 32768, MANY = 1792, COLS = 2048 };
    struct fixture f = new_fixture(type, 256, COLS, 512, FILL_GAUSS);
    uint8_t *w = mem_map(ROWS * f.row_bytes);
    for (uint32_t r = 0; r < ROWS; r++) {
        memcpy(w + r * f.row_bytes, f.w + r % 256 * f.row_bytes, f.row_bytes);
    }
    float *y = malloc((size_t)f.n * ROWS * sizeof(float));
    prepare(k, &f);
    double peak = dtype_get(type)->block_elems == QK ? roof->int8 : roof->f32;
    printf("%-7s %-5s", k->name, dtype_get(type)->name);
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        uint32_t n = tokens[i];
        uint32_t rows = n == 1 ? ROWS : MANY;
        struct mm job = {.w = w,
                         .row_bytes = f.row_bytes,
                         .type = type,
                         .n_cols = COLS,
                         .x = &f.x,
                         .packs = f.x.packs,
                         .n = n,
                         .y = y,
                         .y_stride = rows};
        double ns = 1e30;
        BEST_OF(5, ns, k->matmul(&job, 0, rows, f.scratch))
        double macs = (double)n * rows * COLS;
        double bytes = (double)rows * (double)f.row_bytes;
        double limit = fmax(bytes / roof->read, 2 * macs / peak);
        if (n == 1) {
            printf("  1: %.1f GB/s (%.0f%%)", bytes / ns, 100 * limit / ns);
        } else {
            printf(" %u: %.0f (%.0f%%)", n, macs / ns, 100 * limit / ns);
        }
    }
    printf("\n");
    free(y);
    mem_unmap(w, ROWS * f.row_bytes);
    free_fixture(&f);
}

/* Queries of one KV head against POSITIONS positions, from memory: as many heads as it takes to outgrow the caches. */
static void bench_attend(const struct kernels *k, const struct roof *roof) {
    enum { DIM = 64, POSITIONS = 4096, HEADS = 128, PAGES = POSITIONS / KV_PAGE_TOKENS, MOST = 16 };
    const size_t head = (size_t)POSITIONS * DIM;
    uint16_t *kv = mem_map(2 * HEADS * head * sizeof(uint16_t));
    for (size_t i = 0; i < 2 * HEADS * head; i++) {
        kv[i] = (uint16_t)(0x3000 + i % 997); /* F16 near 0.1 */
    }
    uint32_t pages[PAGES];
    for (uint32_t i = 0; i < PAGES; i++) {
        pages[i] = i;
    }
    static float q[MOST][DIM];
    static float out[MOST][DIM];
    const float *qs[MOST];
    float *outs[MOST];
    uint32_t pos[MOST];
    for (int i = 0; i < MOST; i++) {
        qs[i] = q[i];
        outs[i] = out[i];
        pos[i] = POSITIONS - 1;
    }
    printf("%-7s attention over %d positions:", k->name, POSITIONS);
    for (uint32_t n = 1; n <= MOST; n *= 4) {
        struct attn job = {.page_stride = DIM * KV_PAGE_TOKENS,
                           .pages = pages,
                           .dim = DIM,
                           .n = n,
                           .scale = 0.125f,
                           .q = qs,
                           .out = outs,
                           .pos = pos};
        double ns = 1e30;
        BEST_OF(
            3, ns, for (uint32_t h = 0; h < HEADS; h++) {
                job.k = kv + 2 * h * head;
                job.v = job.k + head;
                k->attend(&job);
            })
        double bytes = 2.0 * HEADS * (double)head * sizeof(uint16_t);
        double operations = 4.0 * n * HEADS * (double)head;
        printf("  %u quer%s %.1f GB/s (%.0f%%)", n, n == 1 ? "y" : "ies", bytes / ns,
               100 * fmax(bytes / roof->read, operations / roof->f32) / ns);
    }
    printf("\n");
    mem_unmap(kv, 2 * HEADS * head * sizeof(uint16_t));
}

/* Kernels on one token's vectors, which stay in the first-level cache: bytes in and out, and the share of the speed at which
 * memory is read: what is far above 100% cannot be what a token waits for. */
static void bench_small(const struct kernels *k, const struct roof *roof) {
    enum { D = 2048, TIMES = 2000, DIM = 64, TAPS = 3 };
    struct acts x = new_acts(1, D);
    float *v = aligned(8 * D, sizeof(float));
    uint16_t *page = aligned(2 * DIM * KV_PAGE_TOKENS, sizeof(uint16_t));
    for (int i = 0; i < 8 * D; i++) {
        v[i] = gauss();
    }
    memcpy(x.f, v, D * sizeof(float));
    printf("%-7s", k->name);
#define SMALL(name, bytes, call)                                                                                       \
    {                                                                                                                  \
        double ns = 1e30;                                                                                              \
        BEST_OF(                                                                                                       \
            TIMES, ns, for (int i = 0; i < 8; i++) { call; })                                                          \
        printf("  %s %.0f ns (%.0f%%)", name, ns / 8, 100 * 8 * (bytes) / ns / roof->read);                            \
    }
    SMALL("norm", 12.0 * D, k->rms_norm(v, v + D, v + 2 * D, D, 1e-5f))
    SMALL("quantise", 10.0 * D, k->quantize(&x, 0))
    SMALL("silu", 12.0 * D, k->silu_mul(v + 3 * D, v + D, D))
    SMALL("conv", 4.0 * D * (3 + TAPS + 2 * (TAPS - 1) + 1), k->conv(v, v + 3 * D, TAPS, v + 5 * D, v + 7 * D, D, 0, D))
    SMALL("router's sigmoid of 32", 8.0 * 32, k->sigmoid(v + 2 * D, 32))
    SMALL("rope of a head", 12.0 * DIM, k->rope(v + 2 * D, v + D, DIM))
    SMALL("store of a head", 12.0 * DIM, k->store_kv(v, v + D, page, page + DIM * KV_PAGE_TOKENS, DIM, 5))
#undef SMALL
    printf("\n");
    free_acts(&x);
    free(v);
    free(page);
}

/* The router of 32 experts: F32, in the second-level cache. */
static void bench_router(const struct kernels *k, const struct roof *roof) {
    enum { D = 2048, EXPERTS = 32 };
    struct fixture f = new_fixture(DTYPE_F32, EXPERTS, D, 4, FILL_GAUSS);
    float y[4 * EXPERTS];
    printf("%-7s router, F32 32 x 2048:", k->name);
    for (uint32_t n = 1; n <= 4; n *= 4) {
        struct mm job = {.w = f.w,
                         .row_bytes = f.row_bytes,
                         .type = f.type,
                         .n_cols = D,
                         .x = &f.x,
                         .n = n,
                         .y = y,
                         .y_stride = EXPERTS};
        double ns = 1e30;
        BEST_OF(500, ns, k->matmul(&job, 0, EXPERTS, f.scratch))
        double bytes = (double)EXPERTS * (double)f.row_bytes;
        printf("  %u token%s %.1f us (%.0f%%)", n, n == 1 ? "" : "s", ns * 1e-3,
               100 * fmax(bytes / roof->read, 2.0 * n * EXPERTS * D / roof->f32) / ns);
    }
    printf("\n");
    free_fixture(&f);
}

static void bench(void) {
    sluice_error err = {0};
    struct roof roof = {.read = probe_read_bandwidth(1, 0.5, &err)};
    roof.int8 = probe_compute_peak("int8", 1, 0.5, NULL, &err);
    roof.f32 = probe_compute_peak("f32", 1, 0.5, NULL, &err);
    printf("one thread: reads %.1f GB/s, int8 %.0f and f32 %.0f Gop/s (multiply-adds are two)\n"
           "products: GB/s at 1 token, GMAC/s at more, with the share of what reading the weights once or the rate of\n"
           "multiply-adds (int8 for K-quants, f32 for others) allows, whichever is slower\n",
           roof.read, roof.int8, roof.f32);
    for (int i = 1; i < N_ISAS; i++) {
        const struct kernels *k = kernels_by_name(isas[i]);
        if (!k) {
            continue;
        }
        for (int t = 0; t < N_TYPES; t++) {
            bench_matmul(k, types[t], &roof);
        }
        bench_router(k, &roof);
        bench_attend(k, &roof);
        bench_small(k, &roof);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench();
        return 0;
    }
    for (int k = 0; k < N_ISAS; k++) {
        bool foreign = (strcmp(isas[k], "neon") == 0) != OF_ARM && strcmp(isas[k], "ref") != 0;
        if (!isa_kernels(isas[k]) && !foreign) { /* what another architecture has is not missing here */
            printf("skipped: kernels for %s (this machine or build lacks it)\n", isas[k]);
        }
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmul_is_right_everywhere), cmocka_unit_test(one_token_equals_many),
        cmocka_unit_test(added_products_use_gains),   cmocka_unit_test(small_kernels_agree),
        cmocka_unit_test(small_kernels_are_right),    cmocka_unit_test(attention_is_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
