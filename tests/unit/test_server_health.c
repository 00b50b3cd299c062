/* /health over a device that fails: honest while it does, and ok again with the first step that goes well. */
#include "server/server.h"
#include "unit/engine_fake.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* The answer to a GET of the server, headers and body. */
static void get(const struct server *s, const char *path, char *out, size_t cap) {
    unsigned port = 0;
    assert_int_equal(sscanf(server_url(s), "http://127.0.0.1:%u", &port), 1);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    char request[128];
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    assert_int_equal(write(fd, request, (size_t)n), n);
    size_t len = 0;
    for (ssize_t got; len + 1 < cap && (got = read(fd, out + len, cap - 1 - len)) > 0;) {
        len += (size_t)got;
    }
    out[len] = '\0';
    close(fd);
}

static void expect(const struct server *s, const char *path, const char *words) {
    static char answer[1 << 16];
    get(s, path, answer, sizeof answer);
    if (!strstr(answer, words)) {
        fail_msg("%s answers \"%s\", which does not say \"%s\"", path, answer, words);
    }
}

static void ask(sluice_engine *e, sluice_status want) {
    sluice_request_options o = rig_exactly(rig_prompt, 20, 10);
    o.no_cache = true;
    struct answer *a = rig_ask(e, &o);
    assert_int_equal(a->last.kind, want == SLUICE_OK ? SLUICE_EVENT_DONE : SLUICE_EVENT_ERROR);
    if (want != SLUICE_OK) {
        assert_int_equal(a->last.error.status, want);
    }
    answer_free(a);
}

static void test_health(void **state) {
    (void)state;
    rig_model.info.quantization = "none";
    for (int samples = 0; samples < 2; samples++) {
        rig_fake.mode.samples = samples;
        sluice_engine *e = rig_open_shape(2, 0, 512);
        struct server_options o = server_options_default();
        o.port = 0;
        struct server *s = NULL;
        sluice_error err = {0};
        assert_int_equal(server_start(&rig_model, e, &o, &s, &err), SLUICE_OK);
        expect(s, "/health", "HTTP/1.1 200");
        ask(e, SLUICE_OK);
        expect(s, "/health", "{\"status\":\"ok\"}");
        atomic_int *const failures[] = {&rig_fake.fail_submit, &rig_fake.fail_wait};
        for (int kind = 0; kind < 2; kind++) {
            for (int again = 0; again < 3; again++) { /* a device that is lost fails every step */
                atomic_store(failures[kind], 1);
                ask(e, SLUICE_E_BACKEND);
                expect(s, "/health", "HTTP/1.1 503");
                expect(s, "/health", "the last step on the scripted backend failed");
            }
            ask(e, SLUICE_OK);
            expect(s, "/health", "HTTP/1.1 200");
        }
        expect(s, "/metrics", "sluice_steps_failed_total 6\n");
        atomic_store(&rig_fake.nan_row, 1); /* one request's trouble, not the device's */
        ask(e, SLUICE_E_BACKEND);
        expect(s, "/health", "HTTP/1.1 200");
        server_stop(s);
        sluice_engine_free(e);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_health, rig_setup, rig_clean)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
