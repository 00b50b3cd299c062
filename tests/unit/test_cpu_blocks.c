/* Block sizes of the cpu backend follow the caches, within the table's ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/cpu/blocks.h"

static void test_prefill_chunk(void **state) {
    (void)state;
    struct caches none = {0};
    struct caches small = {.l1d = 48 << 10, .l2 = 1 << 20, .l3 = 32 << 20};
    struct caches large = {.l1d = 48 << 10, .l2 = 2 << 20, .l3 = 300 << 20};
    assert_int_equal(blocks_prefill_chunk("amx", &none, 2048), 1024);
    assert_int_equal(blocks_prefill_chunk("amx", &small, 2048), 1024); /* 2048 tokens would take 49 MiB */
    assert_int_equal(blocks_prefill_chunk("amx", &large, 2048), 2048);
    assert_int_equal(blocks_prefill_chunk("avx512", &none, 2048), 512);
    assert_int_equal(blocks_prefill_chunk("avx512", &small, 2048), 1024);
    assert_int_equal(blocks_prefill_chunk("avx512", &large, 2048), 1024);
    assert_int_equal(blocks_prefill_chunk("avx512", &small, 4096), 512);
    assert_int_equal(blocks_prefill_chunk("ref", &large, 64), 512);
    assert_int_equal(blocks_prefill_chunk("another", &large, 64), 512);
    small.l3 = 0; /* no third level: the second counts */
    assert_int_equal(blocks_prefill_chunk("avx512", &small, 2048), 512);
    assert_int_equal(blocks_prefill_chunk("avx512", &small, 64), 1024);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_prefill_chunk)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
