/*
 * The decode kernels for several rows against those for one row, phase by phase: the same bits whatever the company, for
 * all K-quants, with experts that rows share, with widths of several presets. What a kernel must not write stays NaN.
 * Without a GPU it says so and passes.
 */
#if SLUICE_WITH_CUDA
#include "backend/backend.h"
#include "backend/cuda/device.h"
#include "base/half.h"
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
static uint64_t random_state = 7;

static uint32_t next_random(void) {
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ z >> 31) >> 32);
}

static float next_float(void) {
    return (float)(int32_t)next_random() * 0x1p-31f + (float)(int32_t)next_random() * 0x1p-31f;
}

static void good(cudaError_t status) {
    if (status != cudaSuccess) {
        fail_msg("%s", cudaGetErrorString(status));
    }
}

/* What a trial has taken, to be given back at its end. */
static void *taken[256];
static size_t n_taken;

static void *device(const void *from, size_t n) {
    void *p;
    good(cudaMalloc(&p, n ? n : 1));
    good(from ? cudaMemcpy(p, from, n, cudaMemcpyHostToDevice) : cudaMemset(p, 0xff, n));
    assert_true(n_taken < sizeof taken / sizeof taken[0]);
    return taken[n_taken++] = p;
}

static float *floats(size_t n, float size) {
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        x[i] = next_float() * size;
    }
    float *p = device(x, n * sizeof *x);
    free(x);
    return p;
}

static float *copy_of(const float *x, size_t n) {
    float *p = device(NULL, n * sizeof *x);
    good(cudaMemcpy(p, x, n * sizeof *x, cudaMemcpyDeviceToDevice));
    return p;
}

/* A plane of random bytes, but for finite F16 scales: `halves` of them at the begin of every `each` bytes. */
static uint8_t *plane(size_t n, size_t each, size_t halves) {
    uint8_t *x = malloc(n);
    for (size_t i = 0; i < n; i++) {
        x[i] = (uint8_t)next_random();
    }
    for (size_t i = 0; halves && i < n; i += each) {
        for (size_t k = 0; k < halves; k++) {
            uint16_t d = f32_to_f16(next_float() * 0.01f);
            memcpy(x + i + 2 * k, &d, 2);
        }
    }
    uint8_t *p = device(x, n);
    free(x);
    return p;
}

static struct cuda_mat matrix(uint32_t type, uint32_t n_rows, uint32_t n_mat, uint32_t n_cols) {
    size_t rows = (size_t)n_rows * n_mat, pieces = n_cols / 64, blocks = n_cols / 256;
    struct cuda_mat m = {.type = type, .n_cols = n_cols, .n_rows = n_rows};
    m.q = plane(rows * pieces * 32, 1, 0);
    if (type == CUDA_Q6_K) {
        size_t stride = (blocks + 7) / 8 * 16;
        m.h = plane(rows * pieces * 16, 1, 0);
        m.s = plane(rows * pieces * 4, 1, 0);
        m.d = plane(rows * stride, stride, stride / 2);
    } else {
        m.s = plane(rows * blocks * 16, 16, 2);
        m.h = type == CUDA_Q5_K ? plane(rows * pieces * 8, 1, 0) : NULL;
    }
    return m;
}

static void same(const char *what, const void *a, const void *b, size_t n) {
    uint32_t *x = malloc(n * 4), *y = malloc(n * 4);
    good(cudaMemcpy(x, a, n * 4, cudaMemcpyDeviceToHost));
    good(cudaMemcpy(y, b, n * 4, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < n; i++) {
        if (x[i] != y[i]) {
            fail_msg("%s: value %zu of %zu has the bits %08x alone and %08x in company", what, i, n, x[i], y[i]);
        }
    }
    free(x);
    free(y);
}

enum { MOST = CUDA_DECODE_ROWS, SEQ = 7, GUARD = 64 };

struct shape {
    uint32_t type, other; /* most matrices; v, out, down and the head */
    uint32_t n, d, ff, n_expert, used, n_vocab;
};

/* Memory for n floats and a guard, all NaN. */
static float *results(size_t n) {
    return device(NULL, (n + GUARD) * sizeof(float));
}

static void trial(const struct shape *s, uint32_t n_sm) {
    uint32_t n = s->n, d = s->d, kv = d / 4, parts = d / CUDA_ROUTE_GROUP, lists = s->n_expert ? s->n_expert : 1;
    uint32_t used = s->n_expert ? s->used : 1, entries = n * used;
    const float eps = 1e-5f;
    struct cuda_token tokens[MOST];
    struct cuda_row rows[MOST];
    uint32_t pages[2 * MOST];
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = n - 1 - i; /* rows in another order than tokens */
        tokens[i] = (struct cuda_token){.row = at, .pos = 60 + i, .seq = SEQ};
        rows[at] = (struct cuda_row){.slot = i,
                                     .first_pos = i == 1 ? 0 : 60 + i,
                                     .n_tokens = 1,
                                     .resume_page = i == 2 ? 1 : CUDA_NONE,
                                     .first_page = 2 * i};
        pages[2 * i] = 2 * i + 1;
        pages[2 * i + 1] = 2 * i;
    }
    struct cuda_step all = {.tokens = device(tokens, sizeof tokens),
                            .rows = device(rows, sizeof rows),
                            .pages = device(pages, sizeof pages),
                            .n = n,
                            .n_rows = n};
    struct cuda_step one[MOST];
    for (uint32_t t = 0; t < n; t++) {
        one[t] = all;
        one[t].tokens += t;
        one[t].n = one[t].n_rows = 1;
    }
    float *h = floats((size_t)n * d, 1), *gain = floats(d, 1);

    struct cuda_mat in_proj = matrix(s->type, 3 * d, 1, d);
    size_t state = (size_t)MOST * 2 * d;
    struct cuda_conv conv = {.taps = floats(3 * (size_t)d, 1),
                             .state = floats(state, 1),
                             .snapshots = floats(2 * state, 1),
                             .slot_stride = 2 * (size_t)d,
                             .page_stride = 2 * (size_t)d,
                             .n_taps = 3,
                             .d = d};
    struct cuda_conv conv_2 = conv;
    conv_2.state = copy_of(conv.state, state);
    conv_2.snapshots = copy_of(conv.snapshots, 2 * state);
    float *y = results((size_t)n * d), *y_2 = results((size_t)n * d);
    for (uint32_t t = 0; t < n; t++) {
        good(cuda_decode_in_proj(&one[t], &in_proj, h + (size_t)t * d, gain, eps, &conv, y + (size_t)t * d, 0));
    }
    good(cuda_rows_in_proj(&all, &in_proj, h, gain, eps, &conv_2, y_2, 0));
    same("in_proj", y, y_2, (size_t)n * d + GUARD);
    same("state", conv.state, conv_2.state, state);
    same("snapshots", conv.snapshots, conv_2.snapshots, 2 * state);

    struct cuda_mat qkv[3] = {matrix(s->type, d, 1, d), matrix(s->type, kv, 1, d), matrix(s->other, kv, 1, d)};
    size_t width = d + 2 * (size_t)kv;
    y = results(n * width), y_2 = results(n * width);
    for (uint32_t t = 0; t < n; t++) {
        good(cuda_decode_qkv(&one[t], qkv, h + (size_t)t * d, gain, eps, y + t * width, 0));
    }
    good(cuda_rows_qkv(&all, qkv, h, gain, eps, y_2, 0));
    same("qkv", y, y_2, n * width + GUARD);

    struct cuda_route r = {.w = floats((size_t)lists * d, 0.01f),
                           .bias = floats(lists, 1),
                           .gain = floats(d, 1),
                           .part = results((size_t)n * lists * parts),
                           .ids = device(NULL, entries * sizeof(uint32_t)),
                           .gains = results(entries),
                           .chosen = device(NULL, n * sizeof(uint32_t)),
                           .n_expert = s->n_expert,
                           .used = s->used,
                           .expert_scale = 1,
                           .eps = eps};
    struct cuda_route r_2 = r, r_one[MOST];
    r_2.part = results((size_t)n * lists * parts);
    r_2.ids = device(NULL, entries * sizeof(uint32_t));
    r_2.gains = results(entries);
    r_2.chosen = device(NULL, n * sizeof(uint32_t));
    const struct cuda_route *routed[MOST];
    for (uint32_t t = 0; t < n; t++) {
        r_one[t] = r;
        r_one[t].part += (size_t)t * lists * parts;
        r_one[t].ids += t * used;
        r_one[t].gains += t * used;
        r_one[t].chosen += t;
        routed[t] = s->n_expert ? &r_one[t] : NULL;
    }
    const struct cuda_route *routed_2 = s->n_expert ? &r_2 : NULL;
    struct cuda_mat out = matrix(s->other, d, 1, d);
    float *x = floats((size_t)n * d, 1), *to = copy_of(h, (size_t)n * d), *to_2 = copy_of(h, (size_t)n * d);
    for (uint32_t t = 0; t < n; t++) {
        good(cuda_decode_out(&one[t], &out, x + (size_t)t * d, to + (size_t)t * d, routed[t], 0));
    }
    good(cuda_rows_out(&all, &out, x, to_2, routed_2, 0));
    same("out", to, to_2, (size_t)n * d);
    same("router's sums", r.part, r_2.part, (size_t)n * lists * parts + GUARD);

    struct cuda_mat gate = matrix(s->type, s->ff, lists, d), up = matrix(s->type, s->ff, lists, d);
    struct cuda_mat down = matrix(s->other, d, lists, s->ff);
    size_t units = (size_t)entries * s->ff;
    size_t n_records = units / 256 > (size_t)n * d / 256 ? units / 256 : (size_t)n * d / 256;
    uint8_t *records = device(NULL, n_records * CUDA_RECORD);
    float *hidden = results(units), *hidden_2 = results(units);
    for (uint32_t t = 0; t < n; t++) {
        good(cuda_decode_gate_up(&one[t], &gate, &up, to + (size_t)t * d, gain, eps, routed[t],
                                 hidden + (size_t)t * used * s->ff, n_sm, 0));
    }
    good(cuda_rows_route(&all, to, gain, eps, d, routed_2, records, 0));
    good(cuda_rows_gate_up(&all, &gate, &up, records, routed_2, hidden_2, n_sm, 0));
    same("hidden", hidden, hidden_2, units + GUARD);
    if (s->n_expert) {
        same("experts", r.ids, r_2.ids, entries);
        same("gains", r.gains, r_2.gains, entries + GUARD);
    }
    for (uint32_t t = 0; t < n; t++) {
        good(cuda_decode_down(&one[t], &down, hidden + (size_t)t * used * s->ff, to + (size_t)t * d, routed[t], 0));
    }
    good(cuda_rows_quantize(hidden, entries, s->ff, records, 0));
    good(cuda_rows_down(&all, &down, records, to_2, routed_2, 0));
    same("down", to, to_2, (size_t)n * d);

    struct cuda_mat head = matrix(s->other, s->n_vocab, 1, d);
    y = results((size_t)n * s->n_vocab), y_2 = results((size_t)n * s->n_vocab);
    for (uint32_t t = 0; t < n; t++) {
        good(cuda_decode_head(&one[t], &head, h + (size_t)t * d, gain, eps, y + (size_t)t * s->n_vocab, n_sm, 0));
    }
    good(cuda_rows_head(&all, &head, h, gain, eps, y_2, n_sm, 0));
    same("head", y, y_2, (size_t)n * s->n_vocab + GUARD);
    while (n_taken) {
        cudaFree(taken[--n_taken]);
    }
}

static uint32_t n_sm;

static void test_rows(void **state) {
    (void)state;
    const uint32_t q4 = CUDA_Q4_K, q5 = CUDA_Q5_K, q6 = CUDA_Q6_K;
    const struct shape shapes[] = {
        {q4, q6, 2, 2048, 1792, 32, 4, 1000}, /* 8b-a1b */
        {q4, q4, 3, 2048, 1792, 32, 4, 1000},  {q5, q6, 4, 2048, 1792, 32, 4, 1000},
        {q4, q5, 8, 2048, 1792, 32, 4, 1000},  {q6, q4, 5, 2048, 1792, 32, 4, 1000},
        {q4, q6, 16, 2048, 1792, 32, 4, 1000}, {q4, q6, 7, 2048, 1536, 64, 4, 1000}, /* 24b-a2b */
        {q4, q6, 4, 2048, 7168, 0, 1, 1000},   {q4, q6, 8, 2048, 8192, 0, 1, 1000},  /* dense */
        {q5, q4, 6, 1024, 4608, 0, 1, 1000},   {q6, q5, 2, 1536, 10240, 0, 1, 1000},
        {q4, q6, 16, 256, 256, 8, 2, 200},     {q5, q4, 13, 1280, 768, 40, 8, 328},
        {q6, q6, 11, 768, 512, 5, 5, 100},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct shape *s = &shapes[i];
        const struct cuda_mat wide = {.type = s->type, .n_cols = s->d}, deep = {.type = s->other, .n_cols = s->ff},
                              other = {.type = s->other, .n_cols = s->d};
        if (!cuda_rows_fit(CUDA_ROWS_IN_PROJ, &wide, s->n, 0) || !cuda_rows_fit(CUDA_ROWS_GATE_UP, &wide, s->n, 0) ||
            !cuda_rows_fit(CUDA_ROWS_DOWN, &deep, s->n, s->n_expert ? s->used : 1) ||
            !cuda_rows_fit(CUDA_ROWS_OUT, &other, s->n, s->n_expert) ||
            !cuda_rows_fit(CUDA_ROWS_HEAD, &other, s->n, 0)) {
            printf("  %u rows of %u columns do not fit in this device's shared memory\n", s->n, s->d);
            continue;
        }
        trial(s, n_sm);
    }
}

int main(void) {
    sluice_error err = {0};
    if (backend_cuda_ops.probe(&err) != SLUICE_OK) {
        printf("skipped: rows on cuda (%s)\n[  PASSED  ] 0 test(s).\n", err.text);
        return 0;
    }
    struct cudaDeviceProp prop;
    good(cudaGetDeviceProperties(&prop, 0));
    n_sm = (uint32_t)prop.multiProcessorCount;
    good(cuda_decode_setup((int)prop.sharedMemPerBlockOptin));
    good(cuda_rows_setup((int)prop.sharedMemPerBlockOptin));
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void) {
    printf("skipped: rows on cuda (no GPU code in this build: no nvcc)\n[  PASSED  ] 0 test(s).\n");
    return 0;
}
#endif
