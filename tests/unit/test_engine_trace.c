/* The trace is JSON that opens, whenever and however it ends. */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/trace.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <json-c/json.h>

static char path[64];

static int make_path(void **state) {
    (void)state;
    snprintf(path, sizeof path, "/tmp/sluice-trace-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 || close(fd) != 0;
}

static int drop_path(void **state) {
    (void)state;
    return unlink(path);
}

static struct trace *open_trace(void) {
    struct trace *t;
    sluice_error err = {0};
    assert_int_equal(trace_open(path, &t, &err), SLUICE_OK);
    return t;
}

/* The events of the file, which must be a JSON array and nothing else. */
static struct json_object *read_events(void) {
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    struct stat st;
    assert_int_equal(fstat(fileno(f), &st), 0);
    char *text = malloc((size_t)st.st_size + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)st.st_size, f), st.st_size);
    text[st.st_size] = '\0';
    fclose(f);
    struct json_tokener *tok = json_tokener_new();
    json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
    struct json_object *events = json_tokener_parse_ex(tok, text, (int)st.st_size);
    assert_int_equal(json_tokener_get_error(tok), json_tokener_success);
    assert_true(json_object_is_type(events, json_type_array));
    for (size_t i = json_tokener_get_parse_end(tok); i < (size_t)st.st_size; i++) {
        assert_int_equal(text[i], '\n');
    }
    json_tokener_free(tok);
    free(text);
    return events;
}

static struct json_object *member(struct json_object *o, const char *key) {
    struct json_object *v;
    assert_true(json_object_object_get_ex(o, key, &v));
    return v;
}

static void is_text(struct json_object *o, const char *key, const char *want) {
    assert_string_equal(json_object_get_string(member(o, key)), want);
}

/* Numbers as they are written: the digits behind the point are part of the promise. */
static void is_number(struct json_object *o, const char *key, const char *want) {
    assert_string_equal(json_object_to_json_string(member(o, key)), want);
}

#define META 2 /* events that every trace begins with */

static void what_went_in_comes_out(void **state) {
    (void)state;
    struct trace *t = open_trace();
    uint64_t now = clock_ns() + 1000000000;
    trace_request(t, 'b', 7, "request", now, "\"prompt\":%u,\"cached\":%u", 100u, 64u);
    trace_span(t, "step", now, now + 1234567, "\"rows\":%u,\"tokens\":%" PRIu64, 3u, UINT64_MAX);
    trace_span(t, "wait", now + 5, now + 12, NULL);
    trace_counter(t, "pages", now, UINT64_MAX);
    trace_request(t, 'n', 7, "first token", now + 20, NULL);
    trace_request(t, 'e', 7, "request", now + 30, NULL);
    sluice_error err = {0};
    assert_int_equal(trace_close(t, &err), SLUICE_OK);

    struct json_object *events = read_events();
    assert_int_equal(json_object_array_length(events), META + 6);
    struct json_object *e = json_object_array_get_idx(events, META);
    is_text(e, "ph", "b");
    is_text(e, "cat", "request");
    is_text(e, "name", "request");
    is_number(e, "id", "7");
    is_number(member(e, "args"), "prompt", "100");
    is_number(member(e, "args"), "cached", "64");
    e = json_object_array_get_idx(events, META + 1);
    is_text(e, "ph", "X");
    is_text(e, "name", "step");
    is_number(e, "dur", "1234.567");
    is_number(member(e, "args"), "tokens", "18446744073709551615");
    double ts = json_object_get_double(member(e, "ts"));
    assert_true(ts > 999999 && ts < 1100000);
    e = json_object_array_get_idx(events, META + 2);
    is_number(e, "dur", "0.007");
    assert_null(json_object_object_get(e, "args"));
    e = json_object_array_get_idx(events, META + 3);
    is_text(e, "ph", "C");
    is_number(member(e, "args"), "value", "18446744073709551615");
    is_text(json_object_array_get_idx(events, META + 4), "ph", "n");
    is_text(json_object_array_get_idx(events, META + 5), "ph", "e");
    json_object_put(events);
}

static void closed_at_once(void **state) {
    (void)state;
    assert_int_equal(trace_close(open_trace(), NULL), SLUICE_OK);
    struct json_object *events = read_events();
    assert_int_equal(json_object_array_length(events), META);
    json_object_put(events);
}

/* A request may be older than the trace, and a clock may stand still. */
static void times_that_run_backwards(void **state) {
    (void)state;
    struct trace *t = open_trace();
    trace_span(t, "old", 0, 5, NULL);
    uint64_t now = clock_ns();
    trace_span(t, "back", now, now - 1, NULL);
    assert_int_equal(trace_close(t, NULL), SLUICE_OK);
    struct json_object *events = read_events();
    is_number(json_object_array_get_idx(events, META), "ts", "0.000");
    is_number(json_object_array_get_idx(events, META + 1), "dur", "0.000");
    json_object_put(events);
}

/* Event lengths of every size around the limit: args are left out whole, the event stays. */
static void long_events(void **state) {
    (void)state;
    static char text[2 * TRACE_EVENT_BYTES];
    memset(text, 'x', sizeof text - 1);
    struct trace *t = open_trace();
    size_t n_events = 0;
    for (int n = 1800; n < 2200; n++, n_events++) {
        trace_span(t, "span", 0, 1, "\"a\":\"%.*s\"", n, text);
        trace_request(t, 'n', 1, "point", 0, "\"a\":\"%.*s\"", n, text);
        n_events++;
    }
    trace_span(t, text, 0, 1, "\"a\":1"); /* a name that alone is too long: no event */
    trace_counter(t, text, 0, 1);
    assert_int_equal(trace_close(t, NULL), SLUICE_OK);
    struct json_object *events = read_events();
    assert_int_equal(json_object_array_length(events), META + n_events);
    assert_non_null(json_object_object_get(json_object_array_get_idx(events, META), "args"));
    assert_null(json_object_object_get(json_object_array_get_idx(events, META + n_events - 1), "args"));
    json_object_put(events);
}

/* What a killed process leaves: the file while the trace is still open. */
static void valid_at_any_time(void **state) {
    (void)state;
    struct trace *t = open_trace();
    size_t before = 0;
    for (int i = 0; i < 4000; i++) {
        trace_span(t, "step", 0, 1, "\"i\":%d", i);
        if (i % 500 == 499 && i > 1000) {
            struct json_object *events = read_events();
            size_t n = json_object_array_length(events);
            assert_true(n >= before);
            before = n;
            json_object_put(events);
        }
    }
    assert_true(before > 2000);
    assert_int_equal(trace_close(t, NULL), SLUICE_OK);
    struct json_object *events = read_events();
    assert_int_equal(json_object_array_length(events), META + 4000);
    for (int i = 0; i < 4000; i++) {
        struct json_object *e = json_object_array_get_idx(events, (size_t)i + META);
        assert_int_equal(json_object_get_int(member(member(e, "args"), "i")), i);
    }
    json_object_put(events);
}

static void no_trace(void **state) {
    (void)state;
    trace_span(NULL, "step", 0, 1, "\"i\":%d", 1);
    trace_request(NULL, 'b', 1, "request", 0, NULL);
    trace_counter(NULL, "pages", 0, 1);
    assert_int_equal(trace_close(NULL, NULL), SLUICE_OK);
}

/* The signal of a size limit would end the process. At every limit: an error at the end, and JSON in the file. */
static void size_limit(void **state) {
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    for (rlim_t limit = 70000; limit < 200000; limit += 31337) {
        struct rlimit low = {.rlim_cur = limit, .rlim_max = before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
        struct trace *t = open_trace();
        for (int i = 0; i < 10000; i++) {
            trace_span(t, "step", 0, 1, "\"i\":%d", i);
        }
        sluice_error err = {0};
        sluice_status status = trace_close(t, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(status, SLUICE_E_IO);
        assert_int_equal(err.status, SLUICE_E_IO);
        assert_non_null(strstr(err.text, path));
        assert_non_null(strstr(err.text, "File too large"));
        struct json_object *events = read_events();
        assert_true(json_object_array_length(events) > 500);
        json_object_put(events);
    }
}

static void full_disk(void **state) {
    (void)state;
    struct trace *t;
    sluice_error err = {0};
    assert_int_equal(trace_open("/dev/full", &t, &err), SLUICE_OK);
    for (int i = 0; i < 10000; i++) {
        trace_span(t, "step", 0, 1, "\"i\":%d", i);
        trace_counter(t, "pages", 0, 1);
        trace_request(t, 'b', 1, "request", 0, NULL);
    }
    assert_int_equal(trace_close(t, &err), SLUICE_E_IO);
    assert_string_equal(err.text, "the trace in /dev/full is not complete: No space left on device");
}

static void files_that_cannot_be(void **state) {
    (void)state;
    struct trace *t;
    sluice_error err = {0};
    assert_int_equal(trace_open("/nonexistent/trace.json", &t, &err), SLUICE_E_IO);
    assert_null(t);
    assert_non_null(strstr(err.text, "/nonexistent/trace.json"));
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    char name[32];
    snprintf(name, sizeof name, "/dev/fd/%d", ends[1]);
    assert_int_equal(trace_open(name, &t, &err), SLUICE_E_ARG);
    assert_non_null(strstr(err.text, "pipe"));
    close(ends[0]);
    close(ends[1]);
}

static void memory_runs_out(void **state) {
    (void)state;
    for (long nth = 1; nth <= 2; nth++) {
        struct trace *t;
        sluice_error err = {0};
        mem_fail_nth(nth);
        assert_int_equal(trace_open(path, &t, &err), SLUICE_E_NOMEM);
        mem_fail_nth(0);
        assert_null(t);
    }
    struct trace *t = open_trace();
    uint64_t before = mem_count();
    for (int i = 0; i < 10000; i++) {
        trace_span(t, "step", 0, 1, "\"i\":%d", i);
    }
    assert_int_equal(mem_count(), before); /* events take no memory */
    assert_int_equal(trace_close(t, NULL), SLUICE_OK);
}

/* The best of several rounds: other processes take time as well. */
static void cheap(void **state) {
    (void)state;
    struct trace *t = open_trace();
    double best = 1e9;
    for (int round = 0; round < 20; round++) {
        uint64_t start = clock_ns();
        for (unsigned i = 0; i < 2000; i++) {
            trace_span(t, "step", start, start + i, "\"rows\":%u,\"prompt\":%u,\"generated\":%u,\"drafts\":%u", i, 64u,
                       8u, 3u);
        }
        double ns = (double)(clock_ns() - start) / 2000;
        best = ns < best ? ns : best;
    }
    assert_int_equal(trace_close(t, NULL), SLUICE_OK);
    print_message("a span with four arguments: %.0f ns\n", best);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(best < 2000);
#endif
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_path, drop_path)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_went_in_comes_out),
        TEST(closed_at_once),
        TEST(times_that_run_backwards),
        TEST(long_events),
        TEST(valid_at_any_time),
        TEST(no_trace),
        TEST(size_limit),
        TEST(full_disk),
        TEST(files_that_cannot_be),
        TEST(memory_runs_out),
        TEST(cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
