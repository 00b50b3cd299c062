#include "bench/client.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "bench/reply.h"

#include <curl/curl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CONNECT_TIMEOUT_S 10L
#define BODY_MAX          (4u << 20) /* of replies that are not streams */
#define URL_MAX           1024

struct client {
    CURL *curl;
    struct curl_slist *headers;
    struct client_options options;
    char base[URL_MAX];
    char curl_error[CURL_ERROR_SIZE];
    /* the request under way */
    uint64_t sent_ns, heard_ns; /* heard: the last sign of life */
    bool silent;
    double first_byte_ms;
    struct reply *reply; /* NULL for plain requests */
    struct buf body;     /* whole reply, or the body of an error */
    bool body_too_long;
};

sluice_status client_global_init(sluice_error *err) {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return fail(err, SLUICE_E_IO, "the HTTP library libcurl could not be started");
    }
    return SLUICE_OK;
}

void client_global_free(void) {
    curl_global_cleanup();
}

sluice_status client_base_url(const char *url, char *out, size_t cap, sluice_error *err) {
    const char *scheme = strncmp(url, "http://", 7) == 0    ? "http://"
                         : strncmp(url, "https://", 8) == 0 ? "https://"
                                                            : "";
    const char *rest = url + strlen(scheme);
    size_t authority = strcspn(rest, "/?#");
    const char *at = memchr(rest, '@', authority);
    if (at) {
        authority -= (size_t)(at + 1 - rest);
        rest = at + 1;
    }
    if (!*scheme || authority == 0 || strpbrk(rest, " ?#\r\n\t")) {
        return fail(err, SLUICE_E_ARG, "--url takes something like http://127.0.0.1:8080, not \"%.200s\"", url);
    }
    size_t n = strlen(rest);
    while (n > authority && rest[n - 1] == '/') {
        n--;
    }
    if (n >= authority + 3 && memcmp(rest + n - 3, "/v1", 3) == 0) {
        n -= 3;
    }
    int written = snprintf(out, cap, "%s%.*s", scheme, (int)n, rest);
    if (written < 0 || (size_t)written >= cap) {
        return fail(err, SLUICE_E_ARG, "the URL is longer than %zu bytes", cap - 1);
    }
    return SLUICE_OK;
}

bool client_is_loopback(const char *base) {
    const char *host = strstr(base, "://") + 3;
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "localhost", 9) == 0 || strncmp(host, "[::1]", 5) == 0;
}

static size_t on_bytes(char *bytes, size_t one, size_t n, void *ctx) {
    struct client *c = ctx;
    c->heard_ns = clock_ns();
    double now_ms = (double)(c->heard_ns - c->sent_ns) * 1e-6;
    (void)one;
    if (c->first_byte_ms < 0) {
        c->first_byte_ms = now_ms;
    }
    if (c->reply) {
        long status = 0;
        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        const char *type = NULL;
        curl_easy_getinfo(c->curl, CURLINFO_CONTENT_TYPE, &type);
        if (status == 200 && type && strncasecmp(type, "text/event-stream", 17) == 0) {
            return reply_feed(c->reply, bytes, n, now_ms) ? n : 0;
        }
    }
    if (c->body.len + n > BODY_MAX) {
        c->body_too_long = true;
        return 0;
    }
    buf_append(&c->body, bytes, n);
    return c->body.failed ? 0 : n;
}

/* Called about once a second even when nothing comes. */
static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t d, curl_off_t e) {
    struct client *c = ctx;
    (void)a, (void)b, (void)d, (void)e;
    c->silent = clock_ms_since(c->heard_ns) > c->options.silence_s * 1e3;
    return c->silent || (c->options.stop && atomic_load_explicit(c->options.stop, memory_order_relaxed));
}

static bool add_header(struct client *c, const char *line) {
    struct curl_slist *more = curl_slist_append(c->headers, line);
    c->headers = more ? more : c->headers;
    return more != NULL;
}

static bool set_headers(struct client *c) {
    bool ok = add_header(c, "Content-Type: application/json") && add_header(c, "Expect:");
    if (ok && c->options.api_key) {
        struct buf line = {0};
        buf_printf(&line, "Authorization: Bearer %s", c->options.api_key);
        ok = !line.failed && add_header(c, line.data);
        buf_free(&line);
    }
    return ok;
}

sluice_status client_open(const struct client_options *options, struct client **out, sluice_error *err) {
    if (options->api_key && strpbrk(options->api_key, "\r\n")) {
        return fail(err, SLUICE_E_ARG, "the API key contains a line break");
    }
    struct client *c = mem_calloc(1, sizeof *c);
    if (!c) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a client");
    }
    c->options = *options;
    sluice_status status = client_base_url(options->url, c->base, sizeof c->base, err);
    if (status == SLUICE_OK) {
        c->curl = curl_easy_init();
        if (!c->curl || !set_headers(c)) {
            status = fail(err, SLUICE_E_NOMEM, "no memory for a client");
        }
    }
    if (status != SLUICE_OK) {
        client_close(c);
        return status;
    }
    *out = c;
    return SLUICE_OK;
}

void client_close(struct client *c) {
    if (c) {
        curl_easy_cleanup(c->curl);
        curl_slist_free_all(c->headers);
        buf_free(&c->body);
        mem_free(c);
    }
}

/* curl_easy_reset keeps the connection and forgets the options. */
static bool prepare(struct client *c, const char *path) {
    char url[URL_MAX + 64];
    CURL *h = c->curl;
    snprintf(url, sizeof url, "%s%s", c->base, path);
    curl_easy_reset(h);
    buf_reset(&c->body);
    c->body_too_long = false;
    c->silent = false;
    c->first_byte_ms = -1;
    c->curl_error[0] = '\0';
    if (client_is_loopback(c->base)) {
        curl_easy_setopt(h, CURLOPT_PROXY, "");
    }
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, c->headers);
    curl_easy_setopt(h, CURLOPT_USERAGENT, "sluice-bench/" SLUICE_VERSION);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, c->curl_error);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(h, CURLOPT_XFERINFODATA, c);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, c);
    return curl_easy_setopt(h, CURLOPT_URL, url) == CURLE_OK;
}

/* snprintf for sentences that may be cut. */
__attribute__((format(printf, 3, 4))) static void say(char *out, size_t cap, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(out, cap, fmt, args);
    va_end(args);
}

/* What went wrong below HTTP, as the end of a sentence. */
static void describe(const struct client *c, CURLcode code, char *out, size_t cap) {
    const char *words = c->curl_error[0] ? c->curl_error : curl_easy_strerror(code);
    if (code == CURLE_COULDNT_CONNECT) {
        say(out, cap, "nothing answers at %s (%s); is the server running?", c->base, words);
    } else if (code == CURLE_OPERATION_TIMEDOUT) {
        say(out, cap, "%s could not be reached within %ld s: %s", c->base, CONNECT_TIMEOUT_S, words);
    } else if (c->silent) {
        say(out, cap, "%s sent nothing for %u s; --timeout waits longer", c->base, c->options.silence_s);
    } else if (code == CURLE_ABORTED_BY_CALLBACK) {
        say(out, cap, "interrupted");
    } else if (c->body_too_long) {
        say(out, cap, "the reply of %s is longer than %u MiB", c->base, BODY_MAX >> 20);
    } else if (code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING) {
        say(out, cap, "the connection to %s broke off during the reply (%s)", c->base, words);
    } else {
        say(out, cap, "the request to %s failed: %s", c->base, words);
    }
}

sluice_status client_get(struct client *c, const char *path, struct buf *body, long *http_status, sluice_error *err) {
    c->reply = NULL;
    if (!prepare(c, path)) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a request");
    }
    c->sent_ns = c->heard_ns = clock_ns();
    CURLcode code = curl_easy_perform(c->curl);
    if (code != CURLE_OK) {
        char why[400];
        describe(c, code, why, sizeof why);
        return fail(err, code == CURLE_ABORTED_BY_CALLBACK && !c->silent ? SLUICE_E_CANCELLED : SLUICE_E_IO, "%s", why);
    }
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, http_status);
    buf_reset(body);
    buf_append(body, c->body.data ? c->body.data : "", c->body.len);
    return body->failed ? fail(err, SLUICE_E_NOMEM, "no memory for a reply") : SLUICE_OK;
}

/* The reply was no event stream: say what it was. */
static void judge_plain(const struct client *c, long status, struct sample *out) {
    char text[200] = "";
    const char *body = c->body.data ? c->body.data : "";
    reply_error_text(body, c->body.len, text, sizeof text);
    out->refused = status == 400 || status == 413 || status == 422;
    if (status == 404) {
        say(out->error, sizeof out->error, "%s/v1/chat/completions answered HTTP 404: no such endpoint or model%s%s",
            c->base, text[0] ? ": " : "", text);
    } else if (status == 401 || status == 403) {
        say(out->error, sizeof out->error, "%s wants an API key or refuses this one (HTTP %ld); use --api-key", c->base,
            status);
    } else if (status != 200) {
        say(out->error, sizeof out->error, "%s answered HTTP %ld%s%s", c->base, status, text[0] ? ": " : "", text);
    } else {
        say(out->error, sizeof out->error,
            "%s answered without streaming, so no token can be timed; the reply begins: %.80s", c->base, text);
    }
}

void client_chat(struct client *c, const char *body, size_t n, struct sample *out) {
    struct reply reply;
    sample_reset(out);
    reply_init(&reply, out);
    c->reply = &reply;
    if (!prepare(c, "/v1/chat/completions")) {
        say(out->error, sizeof out->error, "no memory for a request");
        reply_free(&reply);
        return;
    }
    curl_easy_setopt(c->curl, CURLOPT_POST, 1L);
    curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
    c->sent_ns = c->heard_ns = clock_ns();
    out->send_ms = (double)(c->sent_ns - c->options.zero_ns) * 1e-6;
    CURLcode code = curl_easy_perform(c->curl);
    double end_ms = clock_ms_since(c->sent_ns);
    long status = 0;
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    out->first_byte_ms = c->first_byte_ms;
    if (reply.failed) {
        out->end_ms = end_ms;
    } else if (code != CURLE_OK && !reply.done) { /* some servers drop the connection after [DONE]: that is complete */
        out->end_ms = end_ms;
        describe(c, code, out->error, sizeof out->error);
    } else if (c->body.len > 0 || status != 200) {
        out->end_ms = end_ms;
        judge_plain(c, status, out);
    } else {
        reply_end(&reply, end_ms);
    }
    reply_free(&reply);
    c->reply = NULL;
}
