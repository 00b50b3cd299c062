#include "bench/sse.h"

#include <string.h>

void sse_init(struct sse *s, void (*on_event)(void *ctx, const char *data, size_t n), void *ctx) {
    *s = (struct sse){.on_event = on_event, .ctx = ctx};
}

static void end_event(struct sse *s) {
    if (s->data.failed) {
        s->no_memory = true;
        return;
    }
    if (s->has_data) {
        s->on_event(s->ctx, s->data.data ? s->data.data : "", s->data.len);
    }
    buf_reset(&s->data);
    s->has_data = false;
}

static void end_line(struct sse *s) {
    const char *line = s->line.data;
    size_t n = s->line.len;
    if (s->lines++ == 0 && n >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0) {
        line += 3; /* a byte order mark may open the stream */
        n -= 3;
    }
    if (n == 0) {
        end_event(s);
    } else if (n >= 4 && memcmp(line, "data", 4) == 0 && (n == 4 || line[4] == ':')) {
        const char *value = line + (n == 4 ? 4 : 5);
        size_t len = n - (size_t)(value - line);
        if (len && value[0] == ' ') {
            value++;
            len--;
        }
        if (s->has_data) {
            buf_putc(&s->data, '\n');
        }
        buf_append(&s->data, value, len);
        s->has_data = true;
    }
    buf_reset(&s->line);
}

bool sse_feed(struct sse *s, const char *bytes, size_t n) {
    size_t i = 0;
    while (i < n && !s->too_long && !s->no_memory) {
        if (s->after_cr) {
            s->after_cr = false;
            if (bytes[i] == '\n') {
                i++;
                continue;
            }
        }
        size_t start = i;
        while (i < n && bytes[i] != '\r' && bytes[i] != '\n') {
            i++;
        }
        buf_append(&s->line, bytes + start, i - start);
        s->no_memory |= s->line.failed;
        s->too_long = s->line.len > SSE_EVENT_MAX || s->data.len > SSE_EVENT_MAX;
        if (s->no_memory || s->too_long) {
            break;
        }
        if (i < n) {
            s->after_cr = bytes[i] == '\r';
            i++;
            end_line(s);
        }
    }
    return !s->too_long && !s->no_memory;
}

bool sse_pending(const struct sse *s) {
    return s->line.len > 0 || s->has_data;
}

void sse_free(struct sse *s) {
    buf_free(&s->line);
    buf_free(&s->data);
}
