/*
 * The cuda backend on a GPU: repacked weights against the formats' definition bit for bit, matrix kernels against sums in
 * double, the golden models under the rules of design section 4, and the same bits in steps of any size. Without a GPU it
 * says so and passes. Needs no JSON library, because GPU machines have few packages.
 */
#if SLUICE_WITH_CUDA
#include "backend/backend.h"
#include "backend/cuda/device.h"
#include "base/half.h"
#include "quant/quant.h"
#include "tools/logits.h"

#include <dirent.h>
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
static uint64_t random_state = 1;

static uint32_t next_random(void) {
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ z >> 31) >> 32);
}

static float next_normal(void) {
    float sum = 0;
    for (int i = 0; i < 12; i++) {
        sum += (float)next_random() * 0x1p-32f;
    }
    return sum - 6;
}

static void good(cudaError_t status) {
    if (status != cudaSuccess) {
        fail_msg("%s", cudaGetErrorString(status));
    }
}

static void *device(const void *from, size_t n) {
    void *p;
    good(cudaMalloc(&p, n ? n : 1));
    if (from) {
        good(cudaMemcpy(p, from, n, cudaMemcpyHostToDevice));
    } else {
        good(cudaMemset(p, 0xff, n)); /* NaN: what is not written shows */
    }
    return p;
}

static const enum dtype types[] = {DTYPE_F32,  DTYPE_F16,  DTYPE_BF16, DTYPE_Q8_0,
                                   DTYPE_Q4_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
enum { N_TYPES = sizeof types / sizeof types[0] };

/* Any bits are a valid block but for the F16 scales, which are kept finite. */
static void random_blocks(enum dtype type, uint8_t *p, size_t n_rows, uint32_t n_cols) {
    const struct dtype_info *info = dtype_get(type);
    size_t n = n_rows * dtype_row_bytes(info, n_cols);
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)next_random();
    }
    for (size_t at = 0; at < n; at += info->block_bytes) {
        uint16_t d = f32_to_f16(next_normal() * 0.01f), dmin = f32_to_f16(next_normal() * 0.01f);
        switch (type) {
        case DTYPE_Q4_K:
        case DTYPE_Q5_K:
            memcpy(p + at + 2, &dmin, 2);
            memcpy(p + at, &d, 2);
            break;
        case DTYPE_Q8_0:
        case DTYPE_Q4_0:
            memcpy(p + at, &d, 2);
            break;
        case DTYPE_Q6_K:
            memcpy(p + at + 208, &d, 2);
            break;
        case DTYPE_F32: {
            float f = next_normal() * 0.05f;
            memcpy(p + at, &f, 4);
            break;
        }
        default: {
            float f = next_normal() * 0.05f;
            uint16_t h = type == DTYPE_F16 ? f32_to_f16(f) : f32_to_bf16(f);
            memcpy(p + at, &h, 2);
            break;
        }
        }
    }
}

/* A matrix of random blocks: its floats on the host, its planes on the device. */
struct matrix {
    struct cuda_mat m;
    float *f; /* [rows][cols] */
};

static struct matrix make_matrix(enum dtype type, uint32_t n_rows, uint32_t n_mat, uint32_t n_cols) {
    const struct dtype_info *info = dtype_get(type);
    size_t rows = (size_t)n_rows * n_mat, row_bytes = dtype_row_bytes(info, n_cols), n = rows * n_cols;
    uint8_t *blocks = malloc(rows * row_bytes);
    random_blocks(type, blocks, rows, n_cols);
    struct matrix x = {.m = {.type = (uint32_t)type, .n_cols = n_cols, .n_rows = n_rows}};
    x.f = malloc(n * sizeof(float));
    for (size_t r = 0; r < rows; r++) {
        dequantize_row(type, blocks + r * row_bytes, x.f + r * n_cols, n_cols);
    }
    x.m.q = device(NULL, n * 4);
    x.m.h = device(NULL, n / 4);
    x.m.s = device(NULL, n / 16);
    x.m.d = device(NULL, n / 16);
    uint8_t *staged = device(blocks, rows * row_bytes);
    size_t half = rows / 2; /* in two parts, as uploads come */
    good(cuda_repack(&x.m, staged, 0, half, 0));
    good(cuda_repack(&x.m, staged + half * row_bytes, half, rows - half, 0));
    good(cudaDeviceSynchronize());
    cudaFree(staged);
    free(blocks);
    return x;
}

static void free_matrix(struct matrix *x) {
    cudaFree((void *)(uintptr_t)x->m.q);
    cudaFree((void *)(uintptr_t)x->m.h);
    cudaFree((void *)(uintptr_t)x->m.s);
    cudaFree((void *)(uintptr_t)x->m.d);
    free(x->f);
}

static void test_repack(void **state) {
    (void)state;
    for (size_t i = 0; i < N_TYPES; i++) {
        enum { ROWS = 37, COLS = 768 };
        struct matrix x = make_matrix(types[i], ROWS, 1, COLS);
        float *out = device(NULL, ROWS * COLS * sizeof(float)), *back = malloc(ROWS * COLS * sizeof(float));
        struct cuda_token tokens[ROWS];
        for (uint32_t k = 0; k < ROWS; k++) {
            tokens[k] = (struct cuda_token){.id = k};
        }
        struct cuda_step step = {.tokens = device(tokens, sizeof tokens), .n = ROWS};
        good(cuda_start_tokens(&x.m, &step, NULL, 0, out, NULL, 0));
        good(cudaMemcpy(back, out, ROWS * COLS * sizeof(float), cudaMemcpyDeviceToHost));
        for (int k = 0; k < ROWS * COLS; k++) {
            if (memcmp(&back[k], &x.f[k], 4) != 0 && !(back[k] == 0 && x.f[k] == 0)) {
                fail_msg("%s: weight %d is %.9g, not %.9g", dtype_get(types[i])->name, k, back[k], x.f[k]);
            }
        }
        cudaFree((void *)(uintptr_t)step.tokens);
        cudaFree(out);
        free(back);
        free_matrix(&x);
    }
}

static struct cuda_acts make_acts(size_t n, uint32_t n_cols) {
    return (struct cuda_acts){.blocks = device(NULL, (n + 7) / 8 * (n_cols / 256) * CUDA_ACTS_BLOCK),
                              .f = device(NULL, n * n_cols * 4)};
}

static void free_acts(struct cuda_acts *a) {
    cudaFree(a->blocks);
    cudaFree(a->f);
}

/* Products of many tokens against sums in double: a 16-bit activation is off by at most 1/65024 of its block's largest,
 * so the sum by far less than 1e-4 of the sum of |w * x|. Every tile gives the same bits. Two matrices side by side. */
static void test_products(void **state) {
    (void)state;
    enum { TOKENS = 70, GUARD = 3 };
    const uint32_t shapes[][2] = {{48, 256}, {80, 1792}, {130, 2048}, {2900, 512}}, tiles[] = {8, 16, 32, 64, 80};
    for (size_t i = 0; i < N_TYPES * 4; i++) {
        enum dtype type = types[i / 4];
        uint32_t rows = shapes[i % 4][0], cols = shapes[i % 4][1], stride = 2 * rows + GUARD;
        struct matrix w[2] = {make_matrix(type, rows, 1, cols), make_matrix(type, rows, 1, cols)};
        size_t y_bytes = TOKENS * stride * sizeof(float);
        float *x = malloc(TOKENS * cols * sizeof(float)), *y = malloc(y_bytes), *again = malloc(y_bytes);
        for (uint32_t k = 0; k < TOKENS * cols; k++) {
            x[k] = next_normal();
        }
        float *dx = device(x, TOKENS * cols * sizeof(float));
        struct cuda_acts acts = make_acts(TOKENS, cols);
        struct cuda_vectors v = {.x = dx, .stride = cols, .n = TOKENS, .n_cols = cols};
        good(cuda_quantize(&v, &acts, 0));
        for (size_t k = 0; k < sizeof tiles / sizeof tiles[0]; k++) {
            if (tiles[k] > 32 && !cuda_has_wide()) {
                continue;
            }
            float *dy = device(NULL, y_bytes);
            struct cuda_product p = {.w = {w[0].m, w[1].m},
                                     .n_mats = 2,
                                     .x = acts,
                                     .y = dy,
                                     .y_stride = stride,
                                     .n = TOKENS,
                                     .tile = tiles[k]};
            good(cuda_matmul(&p, 0));
            good(cudaMemcpy(k ? again : y, dy, y_bytes, cudaMemcpyDeviceToHost));
            cudaFree(dy);
            if (k && memcmp(y, again, y_bytes)) {
                fail_msg("%s %u x %u: a tile of %u gives other bits", dtype_get(type)->name, rows, cols, tiles[k]);
            }
        }
        double worst = 0;
        for (uint32_t t = 0; t < TOKENS; t++) {
            for (uint32_t r = 0; r<2 * rows; r += rows> 1000 ? 37 : 1) {
                const float *f = w[r / rows].f + (size_t)(r % rows) * cols;
                double sum = 0, size = 0;
                for (uint32_t c = 0; c < cols; c++) {
                    sum += (double)f[c] * x[t * cols + c];
                    size += fabs((double)f[c] * x[t * cols + c]);
                }
                double off = fabs(y[t * stride + r] - sum) / size;
                worst = off > worst || isnan(off) ? off : worst;
            }
            for (uint32_t g = 0; g < GUARD; g++) {
                assert_true(isnan(y[t * stride + 2 * rows + g]));
            }
        }
        printf("  %s %u x %u: off by %.1e of the sum of products\n", dtype_get(type)->name, rows, cols, worst);
        assert_true(worst < 1e-4);
        cudaFree(dx);
        free_acts(&acts);
        free(x);
        free(y);
        free(again);
        free_matrix(&w[0]);
        free_matrix(&w[1]);
    }
}

/* The table against sums in double. A sum has at most 64 products in a slice of rows, 32 slices and two more roundings,
 * so it is off by at most 98 * 2^-24 < 6e-6 of the sum of |router * gain * w|. Twice the same bits. */
static void test_guess_table(void **state) {
    (void)state;
    enum { GUARD = 3 };
    const uint32_t shapes[][3] = {{256, 512, 32}, {301, 768, 5}, {77, 256, 64}, {2048, 2048, 32}};
    for (size_t i = 0; i < N_TYPES * 4; i++) {
        enum dtype type = types[i / 4];
        uint32_t rows = shapes[i % 4][0], cols = shapes[i % 4][1], experts = shapes[i % 4][2];
        struct matrix w = make_matrix(type, rows, 1, cols);
        size_t n = (size_t)experts * cols, table_bytes = (n + GUARD) * sizeof(float);
        float *router = malloc((size_t)experts * rows * sizeof(float)), *gain = malloc(rows * sizeof(float));
        float *table = malloc(table_bytes), *again = malloc(table_bytes);
        for (size_t k = 0; k < (size_t)experts * rows; k++) {
            router[k] = next_normal();
        }
        for (uint32_t r = 0; r < rows; r++) {
            gain[r] = next_normal();
        }
        float *d_router = device(router, (size_t)experts * rows * sizeof(float));
        float *d_gain = device(gain, rows * sizeof(float));
        for (int k = 0; k < 2; k++) {
            float *d_table = device(NULL, table_bytes);
            good(cuda_guess_table(&w.m, d_router, d_gain, experts, d_table, 0));
            good(cudaMemcpy(k ? again : table, d_table, table_bytes, cudaMemcpyDeviceToHost));
            cudaFree(d_table);
        }
        assert_memory_equal(table, again, table_bytes);
        double worst = 0, *sum = malloc(cols * sizeof *sum), *size = malloc(cols * sizeof *size);
        for (uint32_t e = 0; e < experts; e++) {
            memset(sum, 0, cols * sizeof *sum);
            memset(size, 0, cols * sizeof *size);
            for (uint32_t r = 0; r < rows; r++) {
                double factor = (double)router[(size_t)e * rows + r] * gain[r];
                for (uint32_t c = 0; c < cols; c++) {
                    double term = factor * w.f[(size_t)r * cols + c];
                    sum[c] += term;
                    size[c] += fabs(term);
                }
            }
            for (uint32_t c = 0; c < cols; c++) {
                double off = fabs(table[(size_t)e * cols + c] - sum[c]) / size[c];
                worst = off > worst || isnan(off) ? off : worst;
            }
        }
        for (uint32_t g = 0; g < GUARD; g++) {
            assert_true(isnan(table[n + g]));
        }
        printf("  guess of %u experts, %s %u x %u: off by %.1e of the sum of products\n", experts,
               dtype_get(type)->name, rows, cols, worst);
        assert_true(worst < 6e-6);
        cudaFree(d_router);
        cudaFree(d_gain);
        free(router);
        free(gain);
        free(table);
        free(again);
        free(sum);
        free(size);
        free_matrix(&w);
    }
}

/* ---- Golden models */

static char *read_text(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) {
        return NULL;
    }
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *text = calloc(1, (size_t)n + 1);
    assert_int_equal(fread(text, 1, (size_t)n, f), n);
    fclose(f);
    return text;
}

/* Where the values of the whole file begin: behind its cases, which have keys of the same names. */
static const char *behind_cases(const char *text) {
    const char *end = text;
    for (const char *p = text; (p = strstr(p, "\"logits\"")); p++) {
        end = p;
    }
    const char *close = strstr(end, "}");
    return close ? close : end;
}

/* The golden files are our own: "key": value, looked up by their text from *at on. */
static const char *find_value(const char *at, const char *key) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *p = strstr(at, quoted);
    return p ? p + strlen(quoted) + strspn(p + strlen(quoted), " \n\t") : NULL;
}

static int find_ints(const char *at, const char *key, int32_t *out, int most) {
    const char *p = find_value(at, key);
    int n = 0;
    for (p = p ? p + 1 : "]"; *p != ']' && n < most;) {
        char *end;
        out[n++] = (int32_t)strtol(p, &end, 10);
        p = end + strspn(end, ", \n\t");
    }
    return n;
}

enum { MOST = 4096 };

struct golden {
    const float *truth;
    const int32_t *positions;
    int n_kept, next, n_vocab, n_kl;
    double kl[MOST];
    float *all; /* NULL, or every logit of the case */
};

static double log_sum_exp(const float *x, int n) {
    double top = x[0], sum = 0;
    for (int i = 1; i < n; i++) {
        top = x[i] > top ? x[i] : top;
    }
    for (int i = 0; i < n; i++) {
        sum += exp(x[i] - top);
    }
    return top + log(sum);
}

static sluice_status judge(void *ctx, uint32_t pos, const float *logits, sluice_error *err) {
    (void)err;
    struct golden *g = ctx;
    memcpy(g->all + (size_t)pos * (size_t)g->n_vocab, logits, (size_t)g->n_vocab * sizeof(float));
    if (g->next >= g->n_kept || (uint32_t)g->positions[g->next] != pos) {
        return SLUICE_OK;
    }
    const float *truth = g->truth + (size_t)g->next++ * (size_t)g->n_vocab;
    double a = log_sum_exp(truth, g->n_vocab), b = log_sum_exp(logits, g->n_vocab), kl = 0;
    for (int i = 0; i < g->n_vocab; i++) {
        kl += exp(truth[i] - a) * ((truth[i] - a) - (logits[i] - b));
    }
    g->kl[g->n_kl++] = kl;
    return SLUICE_OK;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void check_golden(const char *dir, const char *name) {
    char path[1024], file[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    char *text = read_text(path);
    assert_non_null(text);
    const char *v = find_value(text, "model");
    assert_true(v && sscanf(v, "\"%255[^\"]\"", file) == 1);
    snprintf(path, sizeof path, "%s/%s", dir, file);
    struct model *m;
    sluice_error err = {0};
    if (model_load(path, &m, &err) != SLUICE_OK) {
        snprintf(path, sizeof path, REPO_DIR "/models/%s", file);
        if (model_load(path, &m, &err) != SLUICE_OK) {
            fail_msg("%s", err.text);
        }
    }
    struct golden *g = calloc(1, sizeof *g);
    g->n_vocab = (int)m->n_vocab;
    size_t all_bytes = (size_t)MOST * m->n_vocab * sizeof(float);
    float *first = calloc(1, all_bytes), *again = calloc(1, all_bytes);
    int32_t *tokens = calloc(MOST, 4), *positions = calloc(MOST, 4);
    double mean = 0;
    for (const char *c = find_value(text, "cases"); (c = strstr(c, "\"tokens\"")); c++) {
        uint32_t n = (uint32_t)find_ints(c, "tokens", tokens, MOST);
        g->n_kept = find_ints(c, "positions", positions, MOST);
        v = find_value(c, "logits");
        assert_true(v && sscanf(v, "\"%255[^\"]\"", file) == 1);
        snprintf(path, sizeof path, "%s/%s", dir, file);
        char *truth = read_text(path);
        assert_non_null(truth);
        g->truth = (const float *)(const void *)truth;
        g->positions = positions;
        const uint32_t sizes[] = {64, 1, 7, 300};
        int n_kl = g->n_kl;
        for (int k = 0; k < 4; k++) {
            g->next = 0;
            g->n_kl = n_kl;
            g->all = k ? again : first;
            if (logits_run(m, "cuda", 0, tokens, n, sizes[k], judge, g, &err) != SLUICE_OK) {
                fail_msg("%s", err.text);
            }
            assert_int_equal(g->next, g->n_kept);
            for (uint32_t t = 0; k && t < n; t++) {
                if (memcmp(first + (size_t)t * m->n_vocab, again + (size_t)t * m->n_vocab,
                           m->n_vocab * sizeof(float))) {
                    fail_msg(
                        "%s: steps of %u tokens give other bits than steps of 64 at position %u of %u (%.9g, %.9g)",
                        name, sizes[k], t, n, again[(size_t)t * m->n_vocab], first[(size_t)t * m->n_vocab]);
                }
            }
        }
        free(truth);
    }
    for (int i = 0; i < g->n_kl; i++) {
        mean += g->kl[i] / g->n_kl;
    }
    qsort(g->kl, (size_t)g->n_kl, sizeof g->kl[0], by_value);
    double median = g->kl[g->n_kl / 2];
    const char *whole = behind_cases(text);
    v = find_value(whole, "peer_kl_mean");
    double peer_mean = v ? strtod(v, NULL) : NAN;
    v = find_value(whole, "peer_kl_median");
    double peer_median = v ? strtod(v, NULL) : NAN;
    printf("  %s: KL mean %.3e (peer %.3e), median %.3e (peer %.3e), %d positions\n", name, mean, peer_mean, median,
           peer_median, g->n_kl);
    fflush(stdout);
    if (!isnan(peer_mean)) {
        assert_true(mean <= 1.15 * peer_mean && median <= 1.15 * peer_median);
    } else {
        assert_true(median <= 1e-3);
    }
    free(text);
    free(g);
    free(first);
    free(again);
    free(tokens);
    free(positions);
    model_free(m);
}

static int check_folder(const char *dir) {
    DIR *d = opendir(dir);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len > 5 && strcmp(e->d_name + len - 5, ".json") == 0) {
            check_golden(dir, e->d_name);
            n++;
        }
    }
    closedir(d);
    return n;
}

static void test_golden(void **state) {
    (void)state;
    assert_true(check_folder(TEST_DATA "/golden/peer") >= 4);
    assert_true(check_folder(TEST_DATA "/golden") >= 1);
    if (getenv("SLUICE_GOLDEN_DIR")) {
        assert_true(check_folder(getenv("SLUICE_GOLDEN_DIR")) > 0);
    }
}

/* ---- Too little memory: the message has the numbers and the option, and nothing stays behind. */

static void test_no_room(void **state) {
    (void)state;
    struct model *m;
    sluice_error err = {0};
    if (model_load(TEST_DATA "/golden/peer/moe-Q4_K_M.gguf", &m, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    size_t before = 0, after = 0, all = 0;
    struct backend_options options = {.n_slots = 1, .n_pages = 4};
    for (int round = 0; round < 3; round++) {
        struct backend *b = NULL;
        if (backend_cuda_ops.open(m, &options, &b, &err) !=
            SLUICE_OK) { /* what the first one takes for good is the driver's */
            fail_msg("%s", err.text);
        }
        b->ops->close(b);
        good(cudaMemGetInfo(round == 0 ? &before : &after, &all));
        struct backend_options huge = options;
        huge.n_pages = (uint32_t)(all / model_page_bytes(m) + 1);
        assert_int_equal(backend_cuda_ops.open(m, &huge, &b, &err), SLUICE_E_NOMEM);
        assert_non_null(strstr(err.text, "GiB free"));
        assert_non_null(strstr(err.text, "--ctx"));
        printf("  %s\n", err.text);
    }
    assert_true(after + (64 << 20) >= before);
    model_free(m);
}

/* ---- */

int main(void) {
    sluice_error err = {0};
    if (backend_cuda_ops.probe(&err) != SLUICE_OK) {
        printf("skipped: cuda kernels (%s)\n[  PASSED  ] 0 test(s).\n", err.text);
        return 0;
    }
    good(cuda_wide_setup());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repack),  cmocka_unit_test(test_products), cmocka_unit_test(test_guess_table),
        cmocka_unit_test(test_no_room), cmocka_unit_test(test_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void) {
    printf("skipped: cuda kernels (no GPU code in this build: no nvcc)\n[  PASSED  ] 0 test(s).\n");
    return 0;
}
#endif
