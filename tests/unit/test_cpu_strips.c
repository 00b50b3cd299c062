/* Strips of 16 rows: every byte of a matrix stands where the layout says, nothing else is written. */
#include "backend/cpu/strips.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GUARD = 64, UNALIGNED = 3 };

static const enum dtype types[] = {DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
enum { N_TYPES = sizeof types / sizeof types[0] };

/* Where byte `at` of a row stands: words of four bytes, of which a Q6_K block's last is half one. */
static size_t place_of(enum dtype type, uint32_t row, size_t at) {
    size_t block_bytes = dtype_get(type)->block_bytes;
    size_t words = (block_bytes + 3) / 4;
    size_t byte = at % block_bytes;
    return (at / block_bytes * words + byte / 4) * STRIP_LINE + 4 * row + byte % 4;
}

static void check_strip(enum dtype type, uint32_t n_cols, uint32_t n_rows) {
    size_t row_bytes = dtype_row_bytes(dtype_get(type), n_cols);
    size_t bytes = strip_bytes(type, n_cols);
    uint8_t *expected = calloc(1, bytes);
    uint8_t *source = malloc(UNALIGNED + n_rows * row_bytes);
    uint8_t *rows = source + UNALIGNED;
    uint8_t *memory = aligned_alloc(64, GUARD + bytes + GUARD);
    uint8_t *strip = memory + GUARD;
    assert_true(source && memory && expected);
    for (size_t i = 0; i < n_rows * row_bytes; i++) {
        rows[i] = (uint8_t)((i * 2654435761u) >> 13 | 1); /* never 0 */
    }
    memset(memory, 0xEE, GUARD + bytes + GUARD);
    strip_pack(type, rows, row_bytes, n_rows, n_cols, strip);
    for (uint32_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < row_bytes; i++) {
            size_t at = place_of(type, r, i);
            assert_true(at < bytes && expected[at] == 0);
            expected[at] = rows[r * row_bytes + i];
        }
    }
    assert_memory_equal(strip, expected, bytes); /* what no byte of a row stands in is zero */
    for (size_t i = 0; i < GUARD; i++) {
        assert_int_equal(memory[i], 0xEE);
        assert_int_equal(strip[bytes + i], 0xEE);
    }
    free(memory);
    free(expected);
    free(source);
}

static void test_layout(void **state) {
    (void)state;
    for (size_t t = 0; t < N_TYPES; t++) {
        for (uint32_t blocks = 1; blocks <= 8; blocks++) {
            check_strip(types[t], blocks * QK, STRIP_ROWS);
            check_strip(types[t], blocks * QK, 1);
            check_strip(types[t], blocks * QK, 7);
            check_strip(types[t], blocks * QK, 15);
        }
    }
}

/* The constants that kernels address words by are those of the blocks in quant.h. */
static void test_words(void **state) {
    (void)state;
    assert_int_equal(offsetof(struct block_q4_k, d), 4 * Q4_K_D);
    assert_int_equal(offsetof(struct block_q4_k, dmin), 4 * Q4_K_D + 2);
    assert_int_equal(offsetof(struct block_q4_k, scales), 4 * Q4_K_SCALES);
    assert_int_equal(offsetof(struct block_q4_k, qs), 4 * Q4_K_QS);
    assert_int_equal(sizeof(struct block_q4_k), 4 * Q4_K_WORDS);
    assert_int_equal(offsetof(struct block_q5_k, scales), 4 * Q4_K_SCALES);
    assert_int_equal(offsetof(struct block_q5_k, qh), 4 * Q5_K_QH);
    assert_int_equal(offsetof(struct block_q5_k, qs), 4 * Q5_K_QS);
    assert_int_equal(sizeof(struct block_q5_k), 4 * Q5_K_WORDS);
    assert_int_equal(offsetof(struct block_q6_k, ql), 4 * Q6_K_QL);
    assert_int_equal(offsetof(struct block_q6_k, qh), 4 * Q6_K_QH);
    assert_int_equal(offsetof(struct block_q6_k, scales), 4 * Q6_K_SCALES);
    assert_int_equal(offsetof(struct block_q6_k, d), 4 * Q6_K_D);
    assert_int_equal(sizeof(struct block_q6_k), 4 * Q6_K_D + 2);
    assert_int_equal(Q6_K_WORDS, Q6_K_D + 1);
}

static void test_sizes(void **state) {
    (void)state;
    static const enum dtype others[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q4_0};
    for (size_t t = 0; t < N_TYPES; t++) {
        assert_int_equal(strip_words(types[t]), (dtype_get(types[t])->block_bytes + 3) / 4);
        size_t strip = strip_bytes(types[t], 1792);
        assert_int_equal(strip, 7 * strip_words(types[t]) * STRIP_LINE);
        assert_int_equal(strips_bytes(types[t], 0, 1792), 0);
        assert_int_equal(strips_bytes(types[t], 1, 1792), strip);
        assert_int_equal(strips_bytes(types[t], 16, 1792), strip);
        assert_int_equal(strips_bytes(types[t], 17, 1792), 2 * strip);
    }
    for (size_t t = 0; t < sizeof others / sizeof others[0]; t++) {
        assert_int_equal(strip_words(others[t]), 0);
        assert_int_equal(strip_bytes(others[t], 512), 0);
        assert_int_equal(strips_bytes(others[t], 17, 512), 17 * dtype_row_bytes(dtype_get(others[t]), 512));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
