/* Starting and stopping a server process, with shell scripts in its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "bench/child.h"

#include <string.h>

static sluice_status start(const char *script, const atomic_bool *stop, struct child **c, char *url, size_t cap,
                           sluice_error *err) {
    char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)script, NULL};
    return child_start(argv, stop, c, url, cap, err);
}

static void test_ready(void **state) {
    (void)state;
    struct child *c;
    char url[64];
    sluice_error err;
    /* the line comes in two parts, after other output, and much more follows: nothing may block the child */
    assert_int_equal(
        start("echo loading; printf 'listening on http://127.'; sleep 0.1; echo 0.0.1:1234; "
              "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done; "
              "exec sleep 60",
              NULL, &c, url, sizeof url, &err),
        SLUICE_OK);
    assert_string_equal(url, "http://127.0.0.1:1234");
    uint64_t before = clock_ns();
    child_stop(c);
    assert_true(clock_ms_since(before) < 5000);
}

static void test_failures(void **state) {
    (void)state;
    struct child *c;
    char url[64];
    sluice_error err;
    assert_int_equal(start("echo one; echo 'no such model: x' >&2; exit 1", NULL, &c, url, sizeof url, &err),
                     SLUICE_E_IO);
    assert_string_equal(err.text, "the server did not start: no such model: x");
    assert_int_equal(start("exit 0", NULL, &c, url, sizeof url, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "no output"));
    char *argv[] = {(char *)"/nonexistent/program", NULL};
    assert_int_equal(child_start(argv, NULL, &c, url, sizeof url, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "could not be executed"));
    atomic_bool stop = true;
    assert_int_equal(start("exec sleep 60", &stop, &c, url, sizeof url, &err), SLUICE_E_CANCELLED);
    child_stop(NULL);
}

/* Ready is what answers, not what prints; a command that ends is reported with its last words. */
static void test_command(void **state) {
    (void)state;
    struct child *c;
    char url[64];
    sluice_error err;
    const char *server = "python3 -c 'import http.server,sys,time; time.sleep(0.2)\n"
                         "class H(http.server.BaseHTTPRequestHandler):\n"
                         " def do_GET(s): s.send_response(200 if s.path==\"/v1/models\" else 404); s.end_headers()\n"
                         " def log_message(s,*a): pass\n"
                         "http.server.HTTPServer((\"127.0.0.1\",{port}),H).serve_forever()'";
    if (child_start_command(server, NULL, &c, url, sizeof url, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(strncmp(url, "http://127.0.0.1:", 17), 0);
    assert_true(child_pid(c) > 0);
    child_stop(c);
    assert_int_equal(child_start_command("sh -c 'echo port {port} refused; exit 3'", NULL, &c, url, sizeof url, &err),
                     SLUICE_E_IO);
    assert_non_null(strstr(err.text, "did not start: port "));
    assert_int_equal(child_start_command("sh -c 'echo listening on http://127.0.0.1:9; exec sleep 60'", NULL, &c, url,
                                         sizeof url, &err),
                     SLUICE_OK);
    assert_string_equal(url, "http://127.0.0.1:9");
    child_stop(c);
}

static sluice_status capture(const char *script, double seconds, const atomic_bool *stop, struct buf *out, bool *cut,
                             sluice_error *err) {
    char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)script, NULL};
    return child_capture(argv, stop, seconds, out, cut, err);
}

/* Standard output is taken, standard error explains a failure, and time that runs out keeps what was written. */
static void test_capture(void **state) {
    (void)state;
    struct buf out = {0};
    sluice_error err;
    bool cut = true;
    assert_int_equal(capture("echo one; echo no >&2; echo two", 0, NULL, &out, &cut, &err), SLUICE_OK);
    assert_string_equal(out.data, "one\ntwo\n");
    assert_false(cut);
    buf_reset(&out);
    assert_int_equal(
        capture("i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done", 0, NULL, &out, NULL, &err),
        SLUICE_OK);
    assert_int_equal(out.len, 220000);
    buf_reset(&out);
    uint64_t before = clock_ns();
    assert_int_equal(capture("echo early; exec sleep 60", 0.2, NULL, &out, &cut, &err), SLUICE_OK);
    assert_true(cut && clock_ms_since(before) < 10000);
    assert_string_equal(out.data, "early\n");
    buf_reset(&out);
    assert_int_equal(capture("echo lost; echo 'the file is damaged' >&2; exit 3", 0, NULL, &out, &cut, &err),
                     SLUICE_E_IO);
    assert_string_equal(err.text, "`sluice -c` failed: the file is damaged");
    atomic_bool stop = true;
    assert_int_equal(capture("exec sleep 60", 0, &stop, &out, &cut, &err), SLUICE_E_CANCELLED);
    buf_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_capture),
        cmocka_unit_test(test_ready),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
