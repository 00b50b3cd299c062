/* The report's folder, names and escaping: what may be replaced, and what hostile text becomes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "report_folder.h"

#include "report/html.h"
#include "report/site.h"
#include "report/slug.h"

#include <signal.h>
#include <sys/resource.h>

#define VALID TEST_DATA "/unit/data/record.jsonl"
#define PAGE  REPO_DIR "/bench/results/legacy-lfm2-8b-a1b-page.jsonl"

static const char *const valid[] = {VALID};

/* ---- Texts ------------------------------------------------------------------------------------------------------- */

static void test_slugs(void **state) {
    (void)state;
    static const struct {
        const char *text, *slug;
    } cases[] = {
        {"LFM2 8B-A1B Q4_K_M", "lfm2-8b-a1b-q4-k-m"},
        {"  NVIDIA (R)  RTX/3090 ", "nvidia-r-rtx-3090"},
        {"../../etc/passwd", "etc-passwd"},
        {"", "811c9dc5"},
        {"...", NULL},
        {"\xE6\xA8\xA1\xE5\x9E\x8B", NULL},
        {"a\xE6\xA8\xA1", NULL},
        {"a\xE5\x9E\x8B", NULL},
        {"<script>alert(1)</script>", "script-alert-1-script"},
        {"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        slug_put(&b, cases[i].text);
        assert_in_range(b.len, 1, 96);
        assert_int_equal(strspn(b.data, "abcdefghijklmnopqrstuvwxyz0123456789-"), b.len);
        assert_true(b.data[0] != '-' && b.data[b.len - 1] != '-');
        if (cases[i].slug) {
            assert_string_equal(b.data, cases[i].slug);
        }
        buf_free(&b);
    }
    struct buf a = {0}, b = {0};
    slug_put(&a, "a\xE6\xA8\xA1");
    slug_put(&b, "a\xE5\x9E\x8B");
    assert_string_not_equal(a.data, b.data);
    buf_free(&a);
    buf_free(&b);
}

static void test_file_names(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"/a/b/demo.jsonl", "demo.jsonl"},     {"-", "_"}, {"..", "_."}, {"a/.hidden", "_hidden"},
        {"x y'\"<>&.jsonl", "x_y_____.jsonl"}, {"a/", "_"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        slug_put_file(&b, cases[i][0]);
        assert_string_equal(b.data, cases[i][1]);
        buf_free(&b);
    }
}

static void test_escaping(void **state) {
    (void)state;
    struct buf b = {0}, json = {0};
    html_text(&b, "<a href=\"x\" title='y'>&\x01\t\xFF\xC2\x9F ok");
    assert_string_equal(b.data, "&lt;a href=&quot;x&quot; title=&#39;y&#39;&gt;&amp;  \xEF\xBF\xBD  ok");
    buf_reset(&b);
    html_text(&b, NULL);
    assert_int_equal(b.len, 0);
    buf_puts(&json, "{\"a\":\"</script>\\n'\xE2\x80\xA8\xE2\x80\xA9\xE2\x80\xAA\"}");
    script_data(&b, "x", &json);
    assert_string_equal(b.data, "sluice_report('x','{\"a\":\"\\x3c/script>\\\\n\\'\\u2028\\u2029\xE2\x80\xAA\"}');\n");
    buf_free(&b);
    buf_free(&json);
}

/* ---- The folder -------------------------------------------------------------------------------------------------- */

static void expect_refusal(const char *to, sluice_status status, const char *part) {
    struct report_summary summary;
    sluice_error err = {0};
    size_t before = count_entries(".");
    assert_int_equal(report_of(valid, 1, to, &no_script, &summary, &err), status);
    if (!strstr(err.text, part)) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
    }
    assert_int_equal(count_entries("."), before); /* nothing half-written beside it */
}

static void test_foreign_folders(void **state) {
    (void)state;
    assert_int_equal(mkdir(in("own"), 0755), 0);
    put_text("own/letter.txt", "dear");
    expect_refusal("own", SLUICE_E_IO, "is no report");
    assert_true(exists("own/letter.txt"));
    put_text("file", "x");
    expect_refusal("file", SLUICE_E_IO, "is no folder");
    expect_refusal("no/such/parent", SLUICE_E_IO, "cannot be made");
    const struct report_options proc = {
        .folder = "/proc/report", .records = valid, .n_records = 1, .assets = &no_script};
    struct report_summary summary;
    sluice_error err = {0};
    assert_int_equal(report_write(&proc, &summary, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "no folder can be made beside /proc/report"));
    assert_int_equal(mkdir(in("empty"), 0755), 0);
    write_report(valid, 1, "empty", &no_script);
    assert_true(exists("empty/index.html") && exists("empty/" SITE_MARKER));
    write_report(valid, 1, "fresh/", &no_script);
    assert_true(exists("fresh/index.html"));
    assert_int_equal(symlink("fresh", in("link")), 0);
    write_report(valid, 1, "link", &no_script); /* the folder behind the link, not the link */
    struct stat st;
    assert_true(lstat(in("link"), &st) == 0 && S_ISLNK(st.st_mode));
    char before[512];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(in("fresh/data/..")), -1); /* no data without a script */
    assert_int_equal(chdir(in("fresh/runs")), 0);
    expect_refusal("fresh", SLUICE_E_IO, "current folder");
    assert_int_equal(chdir(before), 0);
}

/* A report is replaced as a whole: pages of runs that are gone go, files of the user's stay. */
static void test_replaced(void **state) {
    (void)state;
    const char *const page[] = {PAGE};
    write_report(page, 1, "site", &no_script);
    assert_true(exists("site/runs/48d0ec36bfbe0000.html"));
    put_text("site/CNAME", "example.org\n");
    assert_int_equal(mkdir(in("site/.git"), 0755), 0);
    put_text("site/.git/HEAD", "x");
    write_report(valid, 1, "site", &no_script);
    assert_false(exists("site/runs/48d0ec36bfbe0000.html"));
    assert_true(exists("site/runs/00112233aabbccdd.html"));
    assert_true(exists("site/CNAME") && exists("site/.git/HEAD"));
    assert_int_equal(count_entries("."), 1);
}

/* A record that is none leaves the report of before, whatever of the new one was written by then. */
static void test_bad_record(void **state) {
    (void)state;
    struct report_summary summary;
    sluice_error err = {0};
    write_report(valid, 1, "site", &no_script);
    put_text("bad.jsonl", "{\"kind\":\"run\"}\n");
    char bad[512];
    snprintf(bad, sizeof bad, "%s", in("bad.jsonl"));
    const char *const both[] = {PAGE, bad};
    assert_int_equal(report_of(both, 2, "site", &no_script, &summary, &err), SLUICE_E_FORMAT);
    assert_non_null(strstr(err.text, "bad.jsonl, line 1"));
    assert_true(exists("site/runs/00112233aabbccdd.html"));
    assert_false(exists("site/runs/48d0ec36bfbe0000.html"));
    assert_int_equal(count_entries("."), 2);
    put_text("bad.jsonl", "");
    assert_int_equal(report_of(both, 2, "site", &no_script, &summary, &err), SLUICE_E_FORMAT);
    assert_non_null(strstr(err.text, "is empty"));
    const char *const twice[] = {VALID, VALID}, *const none[] = {"/no/such.jsonl"};
    assert_int_equal(report_of(twice, 2, "site", &no_script, &summary, &err), SLUICE_E_FORMAT);
    assert_non_null(strstr(err.text, "id: the run 00112233aabbccdd is already in"));
    assert_int_equal(report_of(none, 1, "site", &no_script, &summary, &err), SLUICE_E_IO);
    assert_int_equal(mkdir(in("nothing"), 0755), 0);
    char nothing[512];
    snprintf(nothing, sizeof nothing, "%s", in("nothing"));
    const char *const empty[] = {nothing};
    assert_int_equal(report_of(empty, 1, "site", &no_script, &summary, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "has no record"));
    assert_true(exists("site/runs/00112233aabbccdd.html"));
}

/* A disk that is full looks like a file at its size limit. */
static void test_full_disk(void **state) {
    (void)state;
    struct report_summary summary;
    struct rlimit before, small;
    sluice_error err = {0};
    write_report(valid, 1, "site", &no_script);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    for (rlim_t bytes = 0; bytes < 40000; bytes = bytes * 3 + 100) {
        small = (struct rlimit){bytes, before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        sluice_status status = report_of((const char *const[]){PAGE}, 1, "site", &fake_script, &summary, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(status, SLUICE_E_IO);
        assert_non_null(strstr(err.text, "could not be written"));
        assert_true(exists("site/runs/00112233aabbccdd.html"));
        assert_int_equal(count_entries("."), 1);
    }
    signal(SIGXFSZ, old);
}

static void test_stop(void **state) {
    (void)state;
    static const volatile sig_atomic_t now = 1;
    struct report_summary summary;
    sluice_error err = {0};
    const struct report_options o = {
        .folder = in("site"), .records = valid, .n_records = 1, .assets = &no_script, .stop = &now};
    assert_int_equal(report_write(&o, &summary, &err), SLUICE_E_CANCELLED);
    assert_int_equal(count_entries("."), 0);
}

/* Every allocation fails once: the error says so, and nothing is left. */
static void test_memory(void **state) {
    (void)state;
    struct report_summary summary;
    sluice_error err;
    bool whole = false;
    for (long n = 1; !whole; n += n < 200 ? 1 : 37) {
        err = (sluice_error){0};
        mem_fail_nth(n);
        sluice_status status = report_of(valid, 1, "site", &fake_script, &summary, &err);
        mem_fail_nth(0);
        whole = status == SLUICE_OK;
        if (!whole) {
            assert_int_equal(status, SLUICE_E_NOMEM);
            assert_int_equal(count_entries("."), 0);
        }
    }
    assert_true(exists("site/index.html"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slugs),
        cmocka_unit_test(test_file_names),
        cmocka_unit_test(test_escaping),
        cmocka_unit_test_setup_teardown(test_foreign_folders, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_replaced, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_bad_record, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_full_disk, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_stop, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_memory, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
