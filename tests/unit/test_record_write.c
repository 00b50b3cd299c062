/* The writer: chained lines, each in the file at once; refusals that name the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "record/line.h"
#include "record/writer.h"
#include "record_lines.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

static char path[64];

static int make_path(void **state) {
    (void)state;
    snprintf(path, sizeof path, "/tmp/sluice-record-XXXXXX");
    int fd = mkstemp(path);
    return fd >= 0 ? close(fd) : -1;
}

static int drop_path(void **state) {
    (void)state;
    return unlink(path);
}

static void put(struct record_writer *w, const char *kind, const char *text) {
    struct buf b = {0};
    sluice_error err = {0};
    line_start(&b, kind);
    line_put_text(&b, "text", text);
    line_end(&b);
    if (record_write(w, &b, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    buf_free(&b);
}

static struct record_writer *open_writer(bool append) {
    struct record_writer *w;
    sluice_error err = {0};
    if (record_writer_open(path, append, &w, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    return w;
}

/* Each line names the SHA-256 of the one before; appending goes on; without append the file begins anew. */
static void check_chain(size_t lines) {
    struct chain c;
    size_t n, count = 0;
    char *text = slurp(path, &n);
    assert_int_equal(chain_init(&c, NULL), SLUICE_OK);
    for (char *s = text; *s; count++) {
        char *end = strchr(s, '\n');
        assert_non_null(end);
        *end = '\0';
        struct json_object *o = json_tokener_parse(s), *prev = NULL;
        assert_true(json_object_object_get_ex(o, "prev", &prev));
        assert_string_equal(json_object_get_string(prev), c.prev);
        json_object_put(o);
        assert_int_equal(chain_add(&c, s, strlen(s), NULL), SLUICE_OK);
        s = end + 1;
    }
    assert_int_equal(count, lines);
    chain_free(&c);
    free(text);
}

static void test_chain(void **state) {
    (void)state;
    struct record_writer *w = open_writer(false);
    put(w, "run", "a\nb\"");
    check_chain(1); /* in the file before the next call */
    put(w, "row", "");
    assert_int_equal(record_writer_close(w, NULL), SLUICE_OK);
    w = open_writer(true);
    put(w, "run", "c");
    assert_int_equal(record_writer_close(w, NULL), SLUICE_OK);
    check_chain(3);
    w = open_writer(false); /* nothing written: the old record stays */
    assert_int_equal(record_writer_close(w, NULL), SLUICE_OK);
    check_chain(3);
    w = open_writer(false);
    put(w, "run", "d");
    assert_int_equal(record_writer_close(w, NULL), SLUICE_OK);
    check_chain(1);
}

static void expect_refused(bool append, sluice_status want, const char *part) {
    struct record_writer *w;
    sluice_error err = {0};
    assert_int_equal(record_writer_open(path, append, &w, &err), want);
    assert_null(w);
    assert_true(strstr(err.text, path) && strstr(err.text, part));
}

static void test_refusals(void **state) {
    (void)state;
    struct record_writer *w = open_writer(false);
    expect_refused(true, SLUICE_E_BUSY, "another process");
    assert_int_equal(record_writer_close(w, NULL), SLUICE_OK);
    FILE *f = fopen(path, "we");
    fputs("{\"kind\":\"run\"}\n{\"kind\":\"ro", f);
    fclose(f);
    expect_refused(true, SLUICE_E_FORMAT, "the last line has no end");
    f = fopen(path, "we");
    fputs("{\"schema\":\"sluice-bench\"}\n", f);
    fclose(f);
    expect_refused(true, SLUICE_E_FORMAT, "no record of this version");
    sluice_error err = {0};
    assert_int_equal(record_writer_open("/nowhere/x.jsonl", false, &w, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "/nowhere/x.jsonl"));
    w = open_writer(false);
    struct buf b = {0};
    buf_puts(&b, "{\"kind\":\"run\"}\n");
    assert_int_equal(record_write(w, &b, &err), SLUICE_E_ARG);
    buf_reset(&b);
    buf_puts(&b, "[]");
    assert_int_equal(record_write(w, &b, &err), SLUICE_E_ARG);
    b.failed = true;
    assert_int_equal(record_write(w, &b, &err), SLUICE_E_NOMEM);
    buf_free(&b);
    assert_int_equal(record_writer_close(w, NULL), SLUICE_OK);
}

/* A disk that is full: the error names the file, and the file still ends with a whole line. */
static void test_full(void **state) {
    (void)state;
    struct rlimit old, small;
    struct record_writer *w = open_writer(false);
    struct buf b = {0};
    sluice_error err = {0};
    put(w, "run", "a");
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 200;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    line_start(&b, "row");
    line_put_text(&b, "text",
                  "012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789");
    line_end(&b);
    sluice_status status = record_write(w, &b, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, SLUICE_E_IO);
    assert_non_null(strstr(err.text, path));
    check_chain(1);
    put(w, "row", "there is room again");
    buf_free(&b);
    assert_int_equal(record_writer_close(w, NULL), SLUICE_OK);
    check_chain(2);
    if (access("/dev/full", W_OK) == 0) {
        assert_int_equal(record_writer_open("/dev/full", false, &w, &err), SLUICE_OK);
        line_start(&b, "run");
        line_end(&b);
        assert_int_equal(record_write(w, &b, &err), SLUICE_E_IO);
        assert_non_null(strstr(err.text, "/dev/full"));
        buf_free(&b);
        assert_int_equal(record_writer_close(w, NULL), SLUICE_OK);
    }
}

static void expect_line(struct buf *b, const char *want) {
    line_end(b);
    assert_string_equal(b->data, want);
}

static void test_line(void **state) {
    (void)state;
    struct buf b = {0};
    static const char *const texts[] = {"x", "y"};
    static const double values[] = {1, 2.5, NAN};
    double p[LINE_PERCENTILES], x[600];
    struct stats_summary s;
    line_start(&b, "row");
    line_put_text(&b, "a", "q\"\n");
    line_put_text(&b, "b", NULL);
    line_put_count(&b, "c", -1);
    line_put_uint(&b, "d", 7);
    line_put_bool(&b, "e", true);
    line_put_ms(&b, "f", 1.23456);
    line_put_ms(&b, "g", -1);
    line_put_number(&b, "h", INFINITY);
    line_put_texts(&b, "i", texts, 2);
    line_put_numbers(&b, "j", values, 3);
    line_put_ms_array(&b, "k", NULL, 0);
    line_open(&b, "l", '{');
    line_put_null(&b, "m");
    line_close(&b, '}');
    expect_line(&b,
                "{\"kind\":\"row\",\"a\":\"q\\\"\\n\",\"b\":null,\"c\":null,\"d\":7,\"e\":true,\"f\":1.235,\"g\":null,"
                "\"h\":null,\"i\":[\"x\",\"y\"],\"j\":[1,2.5,null],\"k\":null,\"l\":{\"m\":null}}");
    for (int i = 0; i < 600; i++) {
        x[i] = i;
    }
    assert_true(line_percentiles(x, 4, p) && isnan(p[0]));
    assert_true(line_percentiles(x, 49, p) && p[0] == 24 && isnan(p[1]));
    assert_true(line_percentiles(x, 50, p) && !isnan(p[1]) && isnan(p[2]));
    assert_true(line_percentiles(x, 499, p) && !isnan(p[2]) && isnan(p[3]));
    assert_true(line_percentiles(x, 500, p) && !isnan(p[3]));
    assert_true(stats_summarise(x, 1, &s));
    line_start(&b, "row");
    line_put_metric(&b, "m", &s, NULL);
    expect_line(&b, "{\"kind\":\"row\",\"m\":{\"median\":0,\"interval\":null,\"level\":null,\"mean\":0,\"sd\":null,"
                    "\"min\":0,\"max\":0,\"n\":1,\"p50\":null,\"p90\":null,\"p95\":null,\"p99\":null}}");
    assert_true(line_round_ms(1.2345678) == 1.235);
    buf_free(&b);
}

static void test_no_memory(void **state) {
    (void)state;
    sluice_status status = SLUICE_E_NOMEM;
    for (long n = 1; status != SLUICE_OK; n++) {
        struct record_writer *w = NULL;
        struct buf b = {0};
        sluice_error err = {0};
        line_start(&b, "run");
        line_end(&b);
        mem_fail_nth(n);
        status = record_writer_open(path, n % 2, &w, &err);
        if (status == SLUICE_OK) {
            status = record_write(w, &b, &err);
        }
        mem_fail_nth(0);
        assert_true(status == SLUICE_OK || (status == SLUICE_E_NOMEM && err.text[0]));
        (void)record_writer_close(w, NULL);
        buf_free(&b);
        assert_true(n < 100);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain), cmocka_unit_test(test_refusals),  cmocka_unit_test(test_full),
        cmocka_unit_test(test_line),  cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, make_path, drop_path);
}
