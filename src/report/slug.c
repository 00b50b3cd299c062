#include "report/slug.h"

#include <stdint.h>
#include <string.h>

enum { SLUG_MAX = 80, FILE_MAX = 120 };

static uint32_t sum_of(const char *s) { /* FNV-1a, 32 bits */
    uint32_t h = 0x811C9DC5u;
    for (; *s; s++) {
        h = (h ^ (unsigned char)*s) * 0x01000193u;
    }
    return h;
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

void slug_put(struct buf *out, const char *text) {
    char s[SLUG_MAX + 1];
    size_t n = 0;
    bool lost = false;
    for (const char *c = text; *c; c++) {
        if (n == SLUG_MAX) {
            lost = true;
            break;
        }
        if (is_letter(*c)) {
            s[n++] = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
        } else if (n && s[n - 1] != '-') {
            s[n++] = '-';
        }
        lost |= (unsigned char)*c >= 0x80;
    }
    n -= n && s[n - 1] == '-';
    buf_append(out, s, n);
    if (lost || n == 0) {
        buf_printf(out, "%s%08x", n ? "-" : "", sum_of(text));
    }
}

void slug_put_file(struct buf *out, const char *path) {
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    size_t n = strlen(name);
    name += n > FILE_MAX ? n - FILE_MAX : 0;
    for (const char *c = name; *c; c++) {
        bool leads = c == name && (*c == '.' || *c == '-');
        buf_putc(out, !leads && (is_letter(*c) || strchr("._-", *c)) ? *c : '_');
    }
    if (!*name) {
        buf_puts(out, "_");
    }
}
