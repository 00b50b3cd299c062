/* Cache sizes: from folders as sysfs has them, whatever stands in them, and from this machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/caches.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char root[] = "/tmp/sluice-caches-XXXXXX";

static void put(int index, const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/index%d", root, index);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/index%d/%s", root, index, name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void put_cache(int index, const char *level, const char *type, const char *size, const char *cpus) {
    put(index, "level", level);
    put(index, "type", type);
    put(index, "size", size);
    put(index, "shared_cpu_list", cpus);
}

static int make_root(void **state) {
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int drop_root(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", root);
    return system(command);
}

static void test_folders(void **state) {
    (void)state;
    struct caches c;
    assert_false(caches_read_sysfs(root, &c));
    assert_false(caches_read_sysfs("/nowhere", &c));
    put_cache(0, "1\n", "Data\n", "48K\n", "0\n");
    put_cache(1, "1\n", "Instruction\n", "32K\n", "0\n");
    put_cache(2, "2\n", "Unified\n", "2048K\n", "0,64\n");
    put_cache(3, "3\n", "Unified\n", "105M\n", "0-55,112-167\n");
    assert_true(caches_read_sysfs(root, &c));
    assert_int_equal(c.l1d, 48 << 10);
    assert_int_equal(c.l2, 2 << 20);
    assert_int_equal(c.l3, 105 << 20);
    assert_int_equal(c.l2_cpus, 2);
    assert_int_equal(c.l3_cpus, 112);
    assert_string_equal(c.source, "sysfs");
}

static void test_nonsense(void **state) {
    (void)state;
    static const char *const sizes[] = {"", "K", "-5K", "12Q", "12K9", "99999999999999999999M", "0K"};
    static const char *const lists[] = {"", "-", "3-1", "0-", "a", "0;1", "0-99999999", "1,,2"};
    struct caches c;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        put_cache(3, "3\n", "Unified\n", sizes[i], "0\n");
        assert_true(caches_read_sysfs(root, &c));
        assert_int_equal(c.l3, 0);
    }
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        put_cache(3, "3\n", "Unified\n", "1024K\n", lists[i]);
        assert_true(caches_read_sysfs(root, &c));
        assert_int_equal(c.l3, 1 << 20);
        assert_int_equal(c.l3_cpus, 0);
    }
    put_cache(3, "33\n", "Unified\n", "1024K\n", "0\n");
    assert_true(caches_read_sysfs(root, &c));
    assert_int_equal(c.l3, 0);
}

static void test_this_machine(void **state) {
    (void)state;
    struct caches c;
    caches_read(&c);
    assert_non_null(c.source);
    assert_true(c.l1d < 1 << 20);
    if (c.l1d && c.l2) {
        assert_true(c.l2 > c.l1d);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_this_machine),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
