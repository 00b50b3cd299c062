/* Available memory as the system tells it: the machine's, or what a control group leaves of it. */
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[] = "/tmp/sluice-test-XXXXXX";
static const char *const folders[] = {"/proc", "/sys", "/sys/fs", "/sys/fs/cgroup"};
static const char *const files[] = {"/proc/meminfo", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current",
                                    "/sys/fs/cgroup/memory.stat"};
enum { MEMINFO, MAX, CURRENT, STAT, N_FILES };

static char *in_root(const char *path) {
    static char full[256];
    snprintf(full, sizeof full, "%s%s", root, path);
    return full;
}

/* NULL: no such file. */
static void put(int file, const char *text) {
    unlink(in_root(files[file]));
    FILE *f = text ? fopen(in_root(files[file]), "w") : NULL;
    assert_true(!text || f);
    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

static int make_root(void **state) {
    (void)state;
    if (!mkdtemp(root)) {
        return -1;
    }
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        if (mkdir(in_root(folders[i]), 0700) != 0) {
            return -1;
        }
    }
    return 0;
}

static int remove_root(void **state) {
    (void)state;
    for (int i = 0; i < N_FILES; i++) {
        put(i, NULL);
    }
    for (size_t i = sizeof folders / sizeof folders[0]; i-- > 0;) {
        rmdir(in_root(folders[i]));
    }
    return rmdir(root);
}

static void test_available(void **state) {
    (void)state;
    assert_int_equal(mem_available_in(root), 0); /* nothing known */
    put(MEMINFO, "MemTotal:       24000 kB\nMemFree:  100 kB\nMemAvailable:   20000 kB\nBuffers: 3 kB\n");
    assert_int_equal(mem_available_in(root), 20000 * 1024);
    put(MAX, "max\n");
    put(CURRENT, "5000000\n");
    assert_int_equal(mem_available_in(root), 20000 * 1024); /* no limit */
    put(MAX, "8000000\n");
    assert_int_equal(mem_available_in(root), 3000000);
    put(STAT, "anon 700000\nfile 4200000\ninactive_anon 1\ninactive_file 4000000\nactive_file 100000\nshmem 100000\n");
    assert_int_equal(mem_available_in(root), 7100000); /* cached files give way */
    put(CURRENT, "9000000\n");                         /* over the limit, for a moment */
    assert_int_equal(mem_available_in(root), 4100000);
    put(STAT, "inactive_file 90000000\n");
    assert_int_equal(mem_available_in(root), 8000000);
    put(MAX, "80000000000\n");
    assert_int_equal(mem_available_in(root), 20000 * 1024); /* the machine has less */
    put(MEMINFO, NULL);
    assert_int_equal(mem_available_in(root), 80000000000);
}

static void test_this_machine(void **state) {
    (void)state;
    assert_true(mem_available() > 0);
    char long_root[5000];
    memset(long_root, 'x', sizeof long_root - 1);
    long_root[sizeof long_root - 1] = '\0';
    assert_int_equal(mem_available_in(long_root), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_available), cmocka_unit_test(test_this_machine)};
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
