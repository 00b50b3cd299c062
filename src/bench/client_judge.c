/* From the bytes of an exchange that has ended to its sample, or to a sentence that says what is wrong with them. */
#include "bench/client_impl.h"

#include "bench/reply.h"
#include "record/line.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* snprintf for sentences that may be cut. */
__attribute__((format(printf, 3, 4))) static void say(char *out, size_t cap, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(out, cap, fmt, args);
    va_end(args);
}

void exchange_describe(const struct exchange *e, char *out, size_t cap) {
    const char *base = client_base(e->client);
    const char *words = e->curl_error[0] ? e->curl_error : curl_easy_strerror(e->code);
    if (e->no_memory) {
        say(out, cap, "no memory for the reply of %s", base);
    } else if (e->too_long) {
        say(out, cap, "%s did not stop: more than %zu MiB came for one answer", base, e->max_bytes >> 20);
    } else if (e->overdue) {
        say(out, cap, "%s was still sending long after the answer should have ended", base);
    } else if (e->silent) {
        say(out, cap, "%s sent nothing for %u s; --timeout waits longer", base, e->silence_s);
    } else if (e->code == CURLE_COULDNT_CONNECT || e->code == CURLE_COULDNT_RESOLVE_HOST) {
        say(out, cap, "nothing answers at %s (%s); is the server running?", base, words);
    } else if (e->code == CURLE_OPERATION_TIMEDOUT) {
        say(out, cap, "%s could not be reached within %ld s: %s", base, CLIENT_CONNECT_S, words);
    } else if (e->code == CURLE_ABORTED_BY_CALLBACK) {
        say(out, cap, "interrupted");
    } else if (e->code == CURLE_PARTIAL_FILE || e->code == CURLE_RECV_ERROR || e->code == CURLE_GOT_NOTHING ||
               e->code == CURLE_SEND_ERROR) {
        say(out, cap, "the connection to %s broke off during the reply (%s)", base, words);
    } else {
        say(out, cap, "the request to %s failed: %s", base, words);
    }
}

/* The reply was no event stream: say what it was. */
static void judge_plain(const struct exchange *e, struct sample *out) {
    char text[200] = "";
    long status = e->http_status;
    const char *base = client_base(e->client);
    bool is_error = reply_error_text(e->bytes.data ? e->bytes.data : "", e->bytes.len, text, sizeof text);
    out->refused = status == 400 || status == 413 || status == 422;
    if (status >= 300 && status < 400) {
        say(out->error, sizeof out->error, "%s answered HTTP %ld, a redirect to %s; name that server with --url", base,
            status, e->location[0] ? e->location : "nowhere");
    } else if (status == 404) {
        say(out->error, sizeof out->error, "%s/v1/chat/completions answered HTTP 404: no such endpoint or model%s%s",
            base, text[0] ? ": " : "", text);
    } else if (status == 401 || status == 403) {
        say(out->error, sizeof out->error, "%s wants an API key or refuses this one (HTTP %ld); use --api-key", base,
            status);
    } else if (status != 200) {
        say(out->error, sizeof out->error, "%s answered HTTP %ld%s%s", base, status, text[0] ? ": " : "", text);
    } else if (is_error) {
        say(out->error, sizeof out->error, "%s answered HTTP 200 with an error: %s", base, text);
    } else if (e->bytes.len == 0) {
        say(out->error, sizeof out->error, "%s answered HTTP 200 with nothing", base);
    } else {
        say(out->error, sizeof out->error,
            "%s answered without streaming (%s), so no token can be timed; the reply begins: %.80s", base,
            e->type[0] ? e->type : "no content type", text);
    }
}

static double after(const struct exchange *e, uint64_t ns) {
    return line_round_ms(ns > e->sent_ns ? (double)(ns - e->sent_ns) * 1e-6 : 0);
}

static void read_stream(const struct exchange *e, struct sample *out) {
    struct reply reply;
    size_t at = 0;
    bool good = true;
    reply_init(&reply, out);
    for (size_t i = 0; good && i < e->n_marks; i++) {
        good = reply_feed(&reply, e->bytes.data + at, e->marks[i].end - at, after(e, e->marks[i].ns));
        at = e->marks[i].end;
    }
    if (reply.failed) {
        out->end_ms = after(e, e->end_ns);
    } else if (e->code != CURLE_OK && !reply.done) { /* some servers drop the connection after [DONE]: complete */
        out->end_ms = after(e, e->end_ns);
        out->last_token_ms = reply.last_text_ms;
        exchange_describe(e, out->error, sizeof out->error);
    } else {
        reply_end(&reply, after(e, e->done_ns && e->code != CURLE_OK ? e->done_ns : e->end_ns));
    }
    reply_free(&reply);
}

void exchange_to_sample(const struct exchange *e, struct sample *out) {
    out->first_byte_ms = e->n_marks ? after(e, e->marks[0].ns) : -1;
    if (e->http_status == 200 && strncasecmp(e->type, "text/event-stream", 17) == 0) {
        read_stream(e, out);
        return;
    }
    out->end_ms = after(e, e->end_ns);
    if (e->code != CURLE_OK) {
        exchange_describe(e, out->error, sizeof out->error);
    } else {
        judge_plain(e, out);
    }
}
