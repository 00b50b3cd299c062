#include "server/api_error.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* snprintf may cut a UTF-8 sequence of the client's in two. */
static void trim_utf8(char *s) {
    size_t n = strlen(s);
    s[n - utf8_incomplete_tail(s, n)] = '\0';
}

static bool set(struct api_error *e, int http, const char *code, const char *param) {
    e->http = http;
    e->type = http == 504 ? "timeout" : http >= 500 ? "server_error" : "invalid_request_error";
    e->code = code;
    snprintf(e->param, sizeof e->param, "%s", param ? param : "");
    trim_utf8(e->param);
    return false;
}

bool api_error_set(struct api_error *e, int http, const char *code, const char *param, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(e->message, sizeof e->message, fmt, args);
    va_end(args);
    trim_utf8(e->message);
    return set(e, http, code, param);
}

bool api_error_field(struct api_error *e, const char *param, const char *fmt, ...) {
    set(e, 400, NULL, param);
    int n = snprintf(e->message, sizeof e->message, "%s", e->param);
    va_list args;
    va_start(args, fmt);
    vsnprintf(e->message + n, sizeof e->message - (size_t)n, fmt, args);
    va_end(args);
    trim_utf8(e->message);
    return false;
}

bool api_error_nomem(struct api_error *e) {
    return api_error_set(e, 500, "out_of_memory", NULL, "the server has no memory left for this request");
}

bool api_error_from_status(struct api_error *e, const sluice_error *err) {
    const char *text = err->text[0] ? err->text : "the request failed";
    switch (err->status) {
    case SLUICE_E_ARG:
    case SLUICE_E_FORMAT:
    case SLUICE_E_LIMIT:
    case SLUICE_E_UNSUPPORTED:
        return api_error_set(e, 400, NULL, NULL, "%s", text);
    case SLUICE_E_BUSY:
        return api_error_set(e, 503, "queue_full", NULL, "%s", text);
    case SLUICE_E_CANCELLED: /* a client that left reads no error: this one sees the server end */
        return api_error_set(e, 503, "shutting_down", NULL, "the server is shutting down");
    case SLUICE_E_TIMEOUT:
        return api_error_set(e, 504, "timeout", NULL, "%s", text);
    case SLUICE_E_NOMEM:
        return api_error_set(e, 500, "out_of_memory", NULL, "%s", text);
    default:
        return api_error_set(e, 500, NULL, NULL, "%s", text);
    }
}

static void write_nullable(struct buf *out, const char *key, const char *value) {
    buf_printf(out, ",\"%s\":", key);
    if (value && value[0]) {
        buf_json_string(out, value, strlen(value));
    } else {
        buf_puts(out, "null");
    }
}

void api_error_write(const struct api_error *e, struct buf *out) {
    buf_puts(out, "{\"error\":{\"message\":");
    buf_json_string(out, e->message, strlen(e->message));
    write_nullable(out, "type", e->type);
    write_nullable(out, "param", e->param);
    write_nullable(out, "code", e->code);
    buf_puts(out, "}}");
}
