/* Element types and the 16-bit floats. */
#include "base/dtype.h"
#include "base/half.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void types_by_number_and_name(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint32_t type, elems, bytes;
    } usable[] = {
        {"F32", 0, 1, 4},       {"F16", 1, 1, 2},       {"Q4_0", 2, 32, 18},    {"Q8_0", 8, 32, 34},
        {"Q4_K", 12, 256, 144}, {"Q5_K", 13, 256, 176}, {"Q6_K", 14, 256, 210}, {"BF16", 30, 1, 2},
    };
    size_t n_usable = 0;
    for (uint32_t t = 0; t < 1000; t++) {
        n_usable += dtype_get(t) && dtype_get(t)->usable;
    }
    assert_int_equal(n_usable, sizeof usable / sizeof usable[0]);
    for (size_t i = 0; i < n_usable; i++) {
        const struct dtype_info *info = dtype_get(usable[i].type);
        assert_string_equal(info->name, usable[i].name);
        assert_int_equal(info->block_elems, usable[i].elems);
        assert_int_equal(info->block_bytes, usable[i].bytes);
        assert_int_equal(dtype_by_name(usable[i].name), usable[i].type);
        assert_int_equal(dtype_row_bytes(info, 512), 512 / usable[i].elems * usable[i].bytes);
    }
    assert_int_equal(dtype_by_name("q4_k"), DTYPE_Q4_K);
    assert_int_equal(dtype_by_name("Q2_K"), -1); /* known, not usable */
    assert_int_equal(dtype_by_name(""), -1);
    assert_string_equal(dtype_get(10)->name, "Q2_K");
    assert_null(dtype_get(4));
    assert_null(dtype_get(UINT32_MAX));
}

/* Every f16 survives the way to float and back. */
static void halves_round_trip(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f16_to_f32((uint16_t)h);
        if ((h & 0x7FFF) > 0x7C00) {
            assert_true(f != f);
            assert_true((f32_to_f16(f) & 0x7FFF) > 0x7C00);
        } else {
            assert_int_equal(f32_to_f16(f), h);
        }
        float b = bf16_to_f32((uint16_t)h);
        if (b == b) {
            assert_int_equal(f32_to_bf16(b), h);
        } else {
            assert_true((f32_to_bf16(b) & 0x7FFF) > 0x7F80);
        }
    }
}

/* Between two neighbours the nearer one wins, and half way the even one: that defines the rounding. */
static void halves_round_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7BFF; h++) {
        float lo = f16_to_f32((uint16_t)h), hi = f16_to_f32((uint16_t)(h + 1));
        float mid = (lo + hi) / 2; /* exact: f16 has 13 bits less than f32 */
        assert_int_equal(f32_to_f16(mid), h & 1 ? h + 1 : h);
        assert_int_equal(f32_to_f16(nextafterf(mid, 0)), h);
        assert_int_equal(f32_to_f16(nextafterf(mid, INFINITY)), h + 1);
        assert_int_equal(f32_to_f16(-mid), 0x8000 | (h & 1 ? h + 1 : h));
    }
    assert_int_equal(f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(f32_to_f16(INFINITY), 0x7C00);
    assert_int_equal(f32_to_f16(1e-9f), 0);
    assert_int_equal(f32_to_bf16(f32_from_bits(0x3F808000)), 0x3F80); /* half way, to even */
    assert_int_equal(f32_to_bf16(f32_from_bits(0x3F818000)), 0x3F82);
    assert_int_equal(f32_to_bf16(f32_from_bits(0x3F808001)), 0x3F81);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_by_number_and_name),
        cmocka_unit_test(halves_round_trip),
        cmocka_unit_test(halves_round_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
