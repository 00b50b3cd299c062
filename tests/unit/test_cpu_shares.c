/* How rows are divided among threads of different speed. */
#include "backend/cpu/shares.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LAYERS = 24 };

/* `steps` steps on threads that take ns[i] per row each. */
static void work(struct shares *s, const uint32_t *ns, uint32_t n, uint32_t steps) {
    for (uint32_t step = 0; step < steps; step++) {
        shares_begin(s, LAYERS, n);
        for (uint32_t layer = 0; layer < LAYERS; layer++) {
            shares_learn(s, layer, n);
            for (uint32_t i = 0; i < n; i++) {
                struct span rows = shares_rows(s->cut[layer & 1], 1792, 16, i);
                s->busy[i].ns[layer & 1] = (uint64_t)(rows.end - rows.begin) * ns[i];
            }
        }
    }
    shares_begin(s, LAYERS, n);
}

static uint32_t part_of(const struct shares *s, uint32_t i) {
    return s->cut[0][i + 1] - s->cut[0][i];
}

static void all_rows_once(void **state) {
    struct shares *s = *state;
    for (uint32_t n = 1; n <= LIMIT_THREADS; n = n < 9 ? n + 1 : n * 2) {
        for (uint32_t rows = 1; rows < 600; rows += 37) {
            shares_reset(s, n);
            uint32_t at = 0;
            for (uint32_t i = 0; i < n; i++) {
                struct span mine = shares_rows(s->cut[0], rows, 16, i);
                assert_int_equal(mine.begin, at);
                assert_true(mine.end >= mine.begin);
                assert_true(mine.end % 16 == 0 || mine.end == rows);
                at = mine.end;
            }
            assert_int_equal(at, rows);
        }
    }
}

static void equal_threads_stay_equal(void **state) {
    struct shares *s = *state;
    shares_reset(s, 2);
    work(s, (const uint32_t[]){100, 100}, 2, 3);
    assert_in_range(part_of(s, 0), SHARES_WHOLE / 2 - 64, SHARES_WHOLE / 2 + 64);
}

static void parts_follow_speed(void **state) {
    struct shares *s = *state;
    shares_reset(s, 3);
    work(s, (const uint32_t[]){100, 200, 100}, 3, 8);
    assert_in_range(part_of(s, 1), SHARES_WHOLE / 5 - SHARES_WHOLE / 64, SHARES_WHOLE / 5 + SHARES_WHOLE / 64);
    work(s, (const uint32_t[]){100, 100, 100}, 3, 8); /* and back */
    assert_in_range(part_of(s, 1), SHARES_WHOLE / 3 - SHARES_WHOLE / 64, SHARES_WHOLE / 3 + SHARES_WHOLE / 64);
    assert_int_equal(s->cut[0][3], SHARES_WHOLE);
}

/* One that lost its core for as long as a hundred layers moves the parts by a thirtieth at most; one that hardly runs
 * keeps some rows. */
static void interruptions_count_little(void **state) {
    struct shares *s = *state;
    shares_reset(s, 2);
    s->busy[0].ns[0] = 1000;
    s->busy[1].ns[0] = 100000;
    shares_learn(s, 1, 2);
    assert_in_range(s->cut[0][1], SHARES_WHOLE / 2, SHARES_WHOLE / 2 + SHARES_WHOLE / 60);
    shares_reset(s, 2);
    work(s, (const uint32_t[]){1, 1000}, 2, 50);
    assert_true(part_of(s, 1) >= SHARES_WHOLE / 16);
}

static void without_times_nothing_changes(void **state) {
    struct shares *s = *state;
    shares_reset(s, 2);
    s->busy[0].ns[0] = 1000;
    shares_learn(s, 1, 2);
    assert_int_equal(s->cut[0][1], SHARES_WHOLE / 2);
}

static int new_shares(void **state) {
    *state = calloc(1, sizeof(struct shares));
    return *state ? 0 : -1;
}

static int free_shares(void **state) {
    free(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_rows_once),
        cmocka_unit_test(equal_threads_stay_equal),
        cmocka_unit_test(parts_follow_speed),
        cmocka_unit_test(interruptions_count_little),
        cmocka_unit_test(without_times_nothing_changes),
    };
    return cmocka_run_group_tests(tests, new_shares, free_shares);
}
