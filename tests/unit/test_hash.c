/* SHA-256 against the examples that NIST publishes for FIPS 180-4, and its use over and over. */
#include "base/hash.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect(struct hash *h, const char *hex) {
    uint8_t sum[HASH_BYTES];
    char text[2 * HASH_BYTES + 1];
    assert_true(hash_take(h, sum));
    hash_hex(sum, text);
    assert_string_equal(text, hex);
}

static void gives_the_published_sums(void **state) {
    (void)state;
    struct hash *h = hash_new();
    assert_non_null(h);
    expect(h, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hash_add(h, "abc", 3);
    expect(h, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const char *two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    hash_add(h, two_blocks, strlen(two_blocks));
    expect(h, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    for (int i = 0; i < 1000000; i++) {
        hash_add(h, "a", 1);
    }
    expect(h, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    hash_free(h);
}

static void pieces_do_not_matter(void **state) {
    (void)state;
    uint8_t bytes[1000], whole[HASH_BYTES], pieces[HASH_BYTES];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 256);
    }
    struct hash *h = hash_new();
    hash_add(h, bytes, sizeof bytes);
    assert_true(hash_take(h, whole));
    for (size_t at = 0, n = 0; at < sizeof bytes; at += n, n = (n + 1) % 67) {
        n = n < sizeof bytes - at ? n : sizeof bytes - at;
        hash_add(h, bytes + at, n);
    }
    assert_true(hash_take(h, pieces));
    assert_memory_equal(whole, pieces, HASH_BYTES);
    hash_free(h);
}

static void reports_missing_memory(void **state) {
    (void)state;
    mem_fail_nth(1);
    assert_null(hash_new());
    mem_fail_nth(0);
    hash_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_published_sums),
        cmocka_unit_test(pieces_do_not_matter),
        cmocka_unit_test(reports_missing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
