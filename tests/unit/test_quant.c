/* Blocks to floats against values worked out by hand, floats to blocks against llama.cpp's error. */
#include "base/half.h"
#include "gguf/gguf.h"
#include "quant/quant.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define F16_ONE  0x3C00
#define F16_HALF 0x3800
#define F16_TWO  0x4000

static const enum dtype types[] = {DTYPE_F32,  DTYPE_F16,  DTYPE_BF16, DTYPE_Q4_0,
                                   DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
enum { N_TYPES = sizeof types / sizeof types[0] };

static uint64_t random_state;

static float uniform(void) { /* 0..1 */
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (float)(random_state >> 40) * 0x1p-24f;
}

static float gaussian(void) {
    float u = uniform(), v = uniform();
    return sqrtf(-2 * logf(u + 0x1p-25f)) * cosf(6.2831853f * v);
}

static double squared_error(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double e = (double)a[i] - (double)b[i];
        sum += e * e;
    }
    return sum;
}

static double squares(const float *a, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)a[i];
    }
    return sum;
}

/* Error of quantising x, as a share of its energy. */
static double relative_error(enum dtype type, const float *x, int64_t n) {
    uint8_t *blocks = malloc(dtype_row_bytes(dtype_get(type), (uint64_t)n));
    float *y = malloc((size_t)n * sizeof *y);
    quantize_row(type, x, blocks, n);
    dequantize_row(type, blocks, y, n);
    double e = squared_error(x, y, n) / squares(x, n);
    free(blocks);
    free(y);
    return e;
}

/* ---- Known blocks */

static void known_q4_0_and_q8_0(void **state) {
    (void)state;
    struct block_q4_0 b = {.d = F16_HALF};
    float y[32];
    for (int i = 0; i < 16; i++) {
        b.qs[i] = (uint8_t)(i | (15 - i) << 4);
    }
    dequantize_row(DTYPE_Q4_0, &b, y, 32);
    for (int i = 0; i < 16; i++) {
        assert_true(y[i] == 0.5f * (float)(i - 8));
        assert_true(y[i + 16] == 0.5f * (float)(7 - i));
    }
    struct block_q8_0 c = {.d = F16_TWO};
    for (int i = 0; i < 32; i++) {
        c.qs[i] = (int8_t)(i * 8 - 128);
    }
    dequantize_row(DTYPE_Q8_0, &c, y, 32);
    for (int i = 0; i < 32; i++) {
        assert_true(y[i] == 2.0f * (float)(i * 8 - 128));
    }
}

/* The 12 scale bytes, bit for bit: entry j < 4 has its six bits in byte j (sc) and j + 4 (mn); entry j >= 4 its low
 * four in byte j + 4 (sc low, mn high nibble), its top two in the top of bytes j - 4 and j. */
static void known_scales(void **state) {
    (void)state;
    static const uint8_t sc[8] = {0, 63, 21, 42, 63, 0, 37, 26}, mn[8] = {63, 0, 42, 21, 1, 62, 16, 47};
    uint8_t packed[12];
    for (int j = 0; j < 4; j++) {
        packed[j] = (uint8_t)(sc[j] | (sc[j + 4] & 0x30) << 2);
        packed[j + 4] = (uint8_t)(mn[j] | (mn[j + 4] & 0x30) << 2);
        packed[j + 8] = (uint8_t)((sc[j + 4] & 0x0F) | (mn[j + 4] & 0x0F) << 4);
    }
    uint8_t got_sc[8], got_mn[8];
    quant_k_scales(packed, got_sc, got_mn);
    assert_memory_equal(got_sc, sc, 8);
    assert_memory_equal(got_mn, mn, 8);
}

static void set_scales(uint8_t out[12]) { /* sc[s] = s + 1, mn[s] = 8 - s: all below 16 */
    for (int s = 0; s < 4; s++) {
        out[s] = (uint8_t)(s + 1);
        out[s + 4] = (uint8_t)(8 - s);
        out[s + 8] = (uint8_t)((s + 5) | (4 - s) << 4);
    }
}

static void known_q4_k_and_q5_k(void **state) {
    (void)state;
    struct block_q4_k b = {.d = F16_HALF, .dmin = F16_TWO};
    struct block_q5_k c = {.d = F16_HALF, .dmin = F16_TWO};
    float y[QK];
    set_scales(b.scales);
    set_scales(c.scales);
    for (int i = 0; i < 128; i++) { /* weight i of a chunk's low half: (i + chunk) % 16; high half: 15 minus that */
        int q = (i % 32 + i / 32) % 16;
        b.qs[i] = c.qs[i] = (uint8_t)(q | (15 - q) << 4);
    }
    for (int i = 0; i < 32; i++) {
        c.qh[i] = (uint8_t)(i * 37); /* bit s: fifth bit of weight i of sub-block s */
    }
    dequantize_row(DTYPE_Q4_K, &b, y, QK);
    for (int w = 0; w < QK; w++) {
        int s = w / 32, i = w % 32, q = (i + s / 2) % 16;
        q = s % 2 ? 15 - q : q;
        assert_true(y[w] == 0.5f * (float)(s + 1) * (float)q - 2.0f * (float)(8 - s));
    }
    dequantize_row(DTYPE_Q5_K, &c, y, QK);
    for (int w = 0; w < QK; w++) {
        int s = w / 32, i = w % 32, q = (i + s / 2) % 16;
        q = (s % 2 ? 15 - q : q) + ((uint8_t)(i * 37) >> s & 1) * 16;
        assert_true(y[w] == 0.5f * (float)(s + 1) * (float)q - 2.0f * (float)(8 - s));
    }
}

/* In each half of 128, ql byte l + 32*k holds weight l + 32*k low and l + 32*(k+2) high; qh byte l 2 bits for each. */
static void known_q6_k(void **state) {
    (void)state;
    struct block_q6_k b = {.d = F16_HALF};
    int q[QK];
    for (int w = 0; w < QK; w++) {
        q[w] = (w * 7 + w / 64) % 64;
        int half = w / 128, k = w % 128 / 32, l = w % 32;
        b.ql[half * 64 + l + k % 2 * 32] |= (uint8_t)((q[w] & 15) << (k >= 2 ? 4 : 0));
        b.qh[half * 32 + l] |= (uint8_t)(q[w] >> 4 << 2 * k);
    }
    for (int s = 0; s < 16; s++) {
        b.scales[s] = (int8_t)(s * 16 - 128);
    }
    float y[QK];
    dequantize_row(DTYPE_Q6_K, &b, y, QK);
    for (int w = 0; w < QK; w++) {
        assert_true(y[w] == 0.5f * (float)b.scales[w / 16] * (float)(q[w] - 32));
    }
}

static void known_floats(void **state) {
    (void)state;
    static const float x[4] = {1.0f, -2.5f, 65504.0f, 0.0f};
    float y[4];
    uint16_t h[4];
    quantize_row(DTYPE_F16, x, h, 4);
    assert_int_equal(h[0], F16_ONE);
    dequantize_row(DTYPE_F16, h, y, 4);
    assert_memory_equal(x, y, sizeof x);
    quantize_row(DTYPE_BF16, x, h, 4);
    assert_int_equal(h[1], 0xC020);
    dequantize_row(DTYPE_BF16, h, y, 2);
    assert_memory_equal(x, y, 8);
    quantize_row(DTYPE_F32, x, y, 4);
    assert_memory_equal(x, y, sizeof x);
}

static void source_at_any_address(void **state) {
    (void)state;
    float x[QK], y[QK], z[QK];
    random_state = 5;
    for (int i = 0; i < QK; i++) {
        x[i] = gaussian();
    }
    for (int t = 0; t < N_TYPES; t++) {
        uint8_t bytes[QK * 4 + 1], moved[QK * 4 + 1];
        size_t n = dtype_row_bytes(dtype_get(types[t]), QK);
        quantize_row(types[t], x, bytes, QK);
        quantize_row(types[t], x, moved + 1, QK);
        assert_memory_equal(bytes, moved + 1, n);
        dequantize_row(types[t], bytes, y, QK);
        dequantize_row(types[t], moved + 1, z, QK);
        assert_memory_equal(y, z, sizeof y);
    }
}

/* ---- Error */

/* On the same weights our blocks are closer than those that llama.cpp made. */
static void error_below_llama_cpp(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum dtype type;
        double share; /* of llama.cpp's squared error */
    } cases[] = {
        {"q4_0", DTYPE_Q4_0, 0.92}, {"q8_0", DTYPE_Q8_0, 0.90}, {"q4_k", DTYPE_Q4_K, 0.97},
        {"q5_k", DTYPE_Q5_K, 0.93}, {"q6_k", DTYPE_Q6_K, 0.90},
    };
    struct gguf_file *f;
    sluice_error err = {0};
    assert_int_equal(gguf_open(TEST_DATA "/unit/data/gguf_quant_slices.gguf", &f, &err), SLUICE_OK);
    const struct gguf_tensor *source = gguf_find_tensor(f, "f16");
    int64_t n = (int64_t)source->n_elems;
    float *x = malloc((size_t)n * sizeof *x), *y = malloc((size_t)n * sizeof *y);
    dequantize_row(DTYPE_F16, source->data, x, n);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct gguf_tensor *t = gguf_find_tensor(f, cases[i].name);
        assert_int_equal(t->type, cases[i].type);
        dequantize_row(t->type, t->data, y, n);
        double theirs = squared_error(x, y, n) / squares(x, n), ours = relative_error(t->type, x, n);
        assert_true(theirs < 0.01); /* their blocks mean these weights: our reading of the layout is right */
        if (ours > theirs * cases[i].share) {
            fail_msg("%s: error %g, llama.cpp %g", cases[i].name, ours, theirs);
        }
    }
    free(x);
    free(y);
    gguf_close(f);
}

/* Shares of the energy, a few percent to spare; llama.cpp reaches 0.00738, 2.87e-5, 0.00509, 0.00130 and 3.14e-4. */
static void error_on_gaussian_weights(void **state) {
    (void)state;
    static const struct {
        enum dtype type;
        double bound;
    } cases[] = {
        {DTYPE_Q4_0, 0.0067}, {DTYPE_Q8_0, 2.4e-5}, {DTYPE_Q4_K, 0.0049}, {DTYPE_Q5_K, 0.00120},
        {DTYPE_Q6_K, 2.8e-4}, {DTYPE_F16, 1e-7},    {DTYPE_BF16, 4e-6},
    };
    int64_t n = 512 * QK;
    float *x = malloc((size_t)n * sizeof *x);
    static const float scales[] = {1.0f, 0.02f, 300.0f};
    for (size_t s = 0; s < 3; s++) {
        random_state = 17;
        for (int64_t i = 0; i < n; i++) {
            x[i] = gaussian() * scales[s];
        }
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            double e = relative_error(cases[i].type, x, n);
            if (e > cases[i].bound) {
                fail_msg("%s at deviation %g: error %g, bound %g", dtype_get(cases[i].type)->name, (double)scales[s], e,
                         cases[i].bound);
            }
        }
    }
    free(x);
}

/* Whole numbers that a symmetric format can hold come back exactly, and zeros from all. */
static void exact_weights_stay(void **state) {
    (void)state;
    static const struct {
        enum dtype type;
        int lo, hi;
    } cases[] = {{DTYPE_Q4_0, -8, 7}, {DTYPE_Q4_0, -7, 8}, {DTYPE_Q8_0, -127, 127}, {DTYPE_Q6_K, -32, 31}};
    float x[QK], y[QK];
    uint8_t blocks[QK * 4];
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        for (int i = 0; i < QK; i++) { /* every sub-block has its extremes */
            int range = cases[c].hi - cases[c].lo;
            x[i] = (float)(i % 16 == 0 ? cases[c].lo : i % 16 == 1 ? cases[c].hi : cases[c].lo + i * 37 % range) * 0.5f;
        }
        quantize_row(cases[c].type, x, blocks, QK);
        dequantize_row(cases[c].type, blocks, y, QK);
        for (int i = 0; i < QK; i++) {
            assert_true(x[i] == y[i]);
        }
    }
    memset(x, 0, sizeof x);
    for (int t = 0; t < N_TYPES; t++) {
        quantize_row(types[t], x, blocks, QK);
        dequantize_row(types[t], blocks, y, QK);
        for (int i = 0; i < QK; i++) {
            assert_true(y[i] == 0);
        }
    }
}

/* Quantising what was dequantised loses next to nothing more. */
static void second_time_changes_little(void **state) {
    (void)state;
    enum { N = 32 * QK };
    static float x[N], y[N];
    static uint8_t blocks[N * 4];
    random_state = 23;
    for (int i = 0; i < N; i++) {
        x[i] = gaussian();
    }
    for (int t = 0; t < N_TYPES; t++) {
        quantize_row(types[t], x, blocks, N);
        dequantize_row(types[t], blocks, y, N);
        double first = squared_error(x, y, N) / squares(x, N);
        assert_true(relative_error(types[t], y, N) <= first * 0.1);
    }
}

/* Shapes of blocks that make searches stumble: outliers, one sign, one weight, constants, tiny and huge values. */
static void odd_blocks(void **state) {
    (void)state;
    float x[QK];
    random_state = 29;
    for (int kind = 0; kind < 7; kind++) {
        for (int i = 0; i < QK; i++) {
            float g = gaussian();
            switch (kind) {
            case 0:
                x[i] = i % 32 == 7 ? 20.0f : g;
                break;
            case 1:
                x[i] = fabsf(g) + 0.1f;
                break;
            case 2:
                x[i] = -fabsf(g) - 0.1f;
                break;
            case 3:
                x[i] = i == 100 ? -3.0f : 0.0f;
                break;
            case 4:
                x[i] = -1.5f;
                break;
            case 5:
                x[i] = i < 128 ? g : g * 0.01f;
                break;
            default:
                x[i] = g * 1e4f;
                break;
            }
        }
        for (int t = 3; t < N_TYPES; t++) {
            double e = relative_error(types[t], x, QK);
            if (!(e < 0.05)) {
                fail_msg("kind %d, %s: error %g", kind, dtype_get(types[t])->name, e);
            }
        }
    }
}

/* Nothing that a float can be makes the conversion undefined (the sanitizers watch), and blocks decode to no NaN unless
 * their scale is one. */
static void any_float_is_safe(void **state) {
    (void)state;
    static const uint32_t specials[] = {0x7FC00000, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 0x00000001, 0x80000000};
    float x[QK], y[QK];
    uint8_t blocks[QK * 4];
    random_state = 31;
    for (size_t k = 0; k < sizeof specials / sizeof specials[0]; k++) {
        for (int density = 1; density <= QK; density *= 16) {
            for (int i = 0; i < QK; i++) {
                x[i] = i % density == 0 ? f32_from_bits(specials[k]) : gaussian();
            }
            for (int t = 3; t < N_TYPES; t++) {
                quantize_row(types[t], x, blocks, QK);
                dequantize_row(types[t], blocks, y, QK);
                for (int i = 0; i < QK; i++) {
                    assert_true(y[i] == y[i]);
                }
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_q4_0_and_q8_0),
        cmocka_unit_test(known_scales),
        cmocka_unit_test(known_q4_k_and_q5_k),
        cmocka_unit_test(known_q6_k),
        cmocka_unit_test(known_floats),
        cmocka_unit_test(source_at_any_address),
        cmocka_unit_test(error_below_llama_cpp),
        cmocka_unit_test(error_on_gaussian_weights),
        cmocka_unit_test(exact_weights_stay),
        cmocka_unit_test(second_time_changes_little),
        cmocka_unit_test(odd_blocks),
        cmocka_unit_test(any_float_is_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
