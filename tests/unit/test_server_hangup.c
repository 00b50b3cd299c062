/* The watcher of client sockets: tells once, soon, and never after forget. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/hangup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct client {
    int ours, theirs;
    atomic_int told;
    struct hangup_entry *entry;
};

static void gone(void *ctx) {
    struct client *c = ctx;
    atomic_fetch_add(&c->told, 1);
}

static void client_open(struct client *c, struct hangup *h) {
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    *c = (struct client){.ours = fds[0], .theirs = fds[1]};
    c->entry = hangup_watch(h, c->ours, c);
    assert_non_null(c->entry);
}

static bool told_within(struct client *c, double ms) {
    uint64_t start = clock_ns();
    while (!atomic_load(&c->told) && clock_ms_since(start) < ms) {
        usleep(200);
    }
    return atomic_load(&c->told) > 0;
}

static void tells_of_a_hangup(void **state) {
    (void)state;
    sluice_error err = {0};
    struct hangup *h;
    assert_int_equal(hangup_start(gone, &h, &err), SLUICE_OK);
    struct client a, b;
    client_open(&a, h);
    client_open(&b, h);
    assert_int_equal(write(a.theirs, "GET", 3), 3); /* data is no hang-up */
    assert_false(told_within(&a, 20));
    close(a.theirs);
    assert_true(told_within(&a, 1000));
    usleep(5000);
    assert_int_equal(atomic_load(&a.told), 1);
    assert_int_equal(atomic_load(&b.told), 0);
    shutdown(b.theirs, SHUT_WR);
    assert_true(told_within(&b, 1000));
    hangup_forget(h, a.entry);
    hangup_forget(h, b.entry);
    close(a.ours);
    close(b.ours);
    close(b.theirs);
    hangup_stop(h);
}

/* Entries come and go while their clients hang up: nothing is told of one that was forgotten. */
static void forget_races_with_hangup(void **state) {
    (void)state;
    sluice_error err = {0};
    struct hangup *h;
    assert_int_equal(hangup_start(gone, &h, &err), SLUICE_OK);
    for (int i = 0; i < 2000; i++) {
        struct client c;
        client_open(&c, h);
        close(c.theirs);
        if (i % 3 == 0) {
            usleep(10);
        }
        hangup_forget(h, c.entry);
        int told = atomic_load(&c.told);
        assert_true(told <= 1);
        close(c.ours);
        assert_int_equal(atomic_load(&c.told), told);
    }
    hangup_forget(h, NULL);
    hangup_stop(h);
}

static void memory_and_descriptors_run_out(void **state) {
    (void)state;
    sluice_error err = {0};
    struct hangup *h;
    mem_fail_nth(1);
    assert_int_equal(hangup_start(gone, &h, &err), SLUICE_E_NOMEM);
    mem_fail_nth(0);
    assert_null(h);
    assert_int_equal(hangup_start(gone, &h, &err), SLUICE_OK);
    mem_fail_nth(1);
    assert_null(hangup_watch(h, 0, NULL));
    mem_fail_nth(0);
    assert_null(hangup_watch(h, -1, NULL));
    hangup_stop(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_of_a_hangup),
        cmocka_unit_test(forget_races_with_hangup),
        cmocka_unit_test(memory_and_descriptors_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
