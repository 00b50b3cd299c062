#include "base/buf.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool reserve(struct buf *b, size_t more) {
    if (b->failed) {
        return false;
    }
    if (more > SIZE_MAX / 2 - b->len) {
        b->failed = true;
        return false;
    }
    size_t need = b->len + more + 1;
    if (need > b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 64;
        if (cap < need) {
            cap = need;
        }
        char *data = mem_realloc(b->data, cap);
        if (!data) {
            b->failed = true;
            return false;
        }
        b->data = data;
        b->cap = cap;
    }
    return true;
}

void buf_append(struct buf *b, const void *bytes, size_t n) {
    if (reserve(b, n)) {
        if (n) {
            memcpy(b->data + b->len, bytes, n);
        }
        b->len += n;
        b->data[b->len] = '\0';
    }
}

void buf_puts(struct buf *b, const char *s) {
    buf_append(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c) {
    buf_append(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0 || !reserve(b, (size_t)n)) {
        b->failed = true;
        return;
    }
    va_start(args, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, args);
    va_end(args);
    b->len += (size_t)n;
}

void buf_json_string(struct buf *b, const char *s, size_t n) {
    buf_putc(b, '"');
    size_t i = 0;
    while (i < n) {
        uint32_t cp;
        size_t used = utf8_decode(s + i, n - i, &cp);
        if (used == 0) {
            buf_puts(b, "\xEF\xBF\xBD");
            i++;
            continue;
        }
        if (cp == '"' || cp == '\\') {
            char esc[2] = {'\\', (char)cp};
            buf_append(b, esc, 2);
        } else if (cp == '\n') {
            buf_puts(b, "\\n");
        } else if (cp == '\r') {
            buf_puts(b, "\\r");
        } else if (cp == '\t') {
            buf_puts(b, "\\t");
        } else if (cp < 0x20 || cp == 0x7F) {
            buf_printf(b, "\\u%04x", (unsigned)cp);
        } else {
            buf_append(b, s + i, used);
        }
        i += used;
    }
    buf_putc(b, '"');
}

void buf_json_double(struct buf *b, double v) {
    if (!isfinite(v)) {
        buf_puts(b, "null");
        return;
    }
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        double back = 0;
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (sscanf(text, "%lf", &back) == 1 && back == v) {
            break;
        }
    }
    buf_puts(b, text);
}

void buf_reset(struct buf *b) {
    b->len = 0;
    b->failed = false;
    if (b->data) {
        b->data[0] = '\0';
    }
}

void buf_free(struct buf *b) {
    mem_free(b->data);
    *b = (struct buf){0};
}

char *buf_take(struct buf *b, size_t *len) {
    if (b->failed || !reserve(b, 0)) {
        buf_free(b);
        return NULL;
    }
    char *data = b->data;
    data[b->len] = '\0';
    if (len) {
        *len = b->len;
    }
    *b = (struct buf){0};
    return data;
}
