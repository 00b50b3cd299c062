/* test_kernels --bench: one thread's speed in every kernel, and its share of what the machine was measured to allow. */
#include "base/caches.h"
#include "base/clock.h"
#include "base/mem.h"
#include "kernels/kernels_rig.h"
#include "quant/quant.h"
#include "tools/probe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* So many bytes that no cache keeps them from one run to the next. */
static size_t beyond_caches(void) {
    struct caches caches;
    caches_read(&caches);
    return caches.l3 > 32 << 20 ? 2 * (size_t)caches.l3 : 64 << 20;
}

/* One type at several numbers of tokens: up to FEW read the matrix from memory, the others one of an expert's size. */
static void bench_matmul(const struct kernels *k, enum dtype type, const struct roof *roof) {
    static const uint32_t tokens[] = {1, 2, 3, 4, 8, 16, 64, 512};
    enum { FEW = 4, UNIT = 256, MANY = 1792, COLS = 2048 };
    struct fixture f = new_fixture(type, UNIT, COLS, 512, FILL_GAUSS);
    const size_t unit = strips_bytes(type, UNIT, COLS);
    const uint32_t units = (uint32_t)((beyond_caches() + unit - 1) / unit);
    uint8_t *w = mem_map(units * unit);
    float *y = malloc(sizeof(float) * (units * UNIT * FEW > 512 * MANY ? units * UNIT * FEW : 512 * MANY));
    if (!w || !y) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    for (uint32_t i = 0; i < units; i++) {
        memcpy(w + i * unit, f.w, unit);
    }
    prepare(k, &f);
    double peak = dtype_get(type)->block_elems == QK ? roof->int8 : roof->f32;
    printf("%-7s %-5s", k->name, dtype_get(type)->name);
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        const uint32_t n = tokens[i];
        const uint32_t rows = n <= FEW ? units * UNIT : MANY;
        struct mm job = whole_job(&f, y, rows);
        job.w = w;
        job.n = n;
        double ns = 1e30;
        BEST_OF(5, ns, k->matmul(&job, 0, rows, f.scratch))
        double macs = (double)n * rows * COLS;
        double bytes = (double)unit / UNIT * rows;
        double limit = fmax(bytes / roof->read, 2 * macs / peak);
        printf(n <= FEW ? " %u: %.1f (%.0f%%)" : " %u: %.0f (%.0f%%)", n, (n <= FEW ? bytes : macs) / ns,
               100 * limit / ns);
        fflush(stdout);
    }
    printf("\n");
    free(y);
    mem_unmap(w, units * unit);
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

/* Kernels on one token's vectors, which stay in the first-level cache: bytes in and out, and the share of the speed at
 * which memory is read: what is far above 100% cannot be what a token waits for. */
static void bench_small(const struct kernels *k, const struct roof *roof) {
    enum { D = 2048, TIMES = 2000, DIM = 64, TAPS = 3 };
    struct acts x = new_acts(1, D);
    float *v = guarded(8 * D, sizeof(float));
    uint16_t *page = guarded(2 * DIM * KV_PAGE_TOKENS, sizeof(uint16_t));
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
    guarded_free(v);
    guarded_free(page);
}

/* The router of 32 experts: F32, in the second-level cache. */
static void bench_router(const struct kernels *k, const struct roof *roof) {
    enum { D = 2048, EXPERTS = 32 };
    struct fixture f = new_fixture(DTYPE_F32, EXPERTS, D, 4, FILL_GAUSS);
    float y[4 * EXPERTS];
    printf("%-7s router, F32 32 x 2048:", k->name);
    for (uint32_t n = 1; n <= 4; n *= 4) {
        struct mm job = whole_job(&f, y, EXPERTS);
        job.n = n;
        double ns = 1e30;
        BEST_OF(500, ns, k->matmul(&job, 0, EXPERTS, f.scratch))
        double bytes = (double)EXPERTS * (double)f.row_bytes;
        printf("  %u token%s %.1f us (%.0f%%)", n, n == 1 ? "" : "s", ns * 1e-3,
               100 * fmax(bytes / roof->read, 2.0 * n * EXPERTS * D / roof->f32) / ns);
    }
    printf("\n");
    free_fixture(&f);
}

void kernels_bench(void) {
    sluice_error err = {0};
    struct roof roof = {.read = probe_read_bandwidth(1, 0.5, NULL, 0, &err)};
    roof.int8 = probe_compute_peak("int8", 1, 0.5, NULL, &err);
    roof.f32 = probe_compute_peak("f32", 1, 0.5, NULL, &err);
    printf("one thread: reads %.1f GB/s, int8 %.0f and f32 %.0f Gop/s (multiply-adds are two)\n"
           "products: GB/s at 1 to 4 tokens, GMAC/s at more, with the share of what reading the weights once or the "
           "rate of\n"
           "multiply-adds (int8 for K-quants, f32 for others) allows, whichever is slower\n",
           roof.read, roof.int8, roof.f32);
    for (int i = 1; i < N_ISAS; i++) {
        const struct kernels *k = isa_kernels(isas[i]);
        if (!k || k != kernels_by_name(isas[i])) { /* emulated: its speed says nothing */
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
