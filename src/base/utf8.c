#include "base/utf8.h"

/* Length that the lead byte announces; 0 for a byte that cannot lead. */
static size_t sequence_len(unsigned char c) {
    if (c < 0x80) {
        return 1;
    }
    if (c >= 0xC2 && c <= 0xDF) {
        return 2;
    }
    if ((c & 0xF0) == 0xE0) {
        return 3;
    }
    if (c >= 0xF0 && c <= 0xF4) {
        return 4;
    }
    return 0;
}

/* The second byte's range is narrower after E0 (overlong), ED (surrogates), F0 (overlong) and F4 (above U+10FFFF). */
static bool second_ok(unsigned char lead, unsigned char c) {
    switch (lead) {
    case 0xE0:
        return c >= 0xA0 && c <= 0xBF;
    case 0xED:
        return c >= 0x80 && c <= 0x9F;
    case 0xF0:
        return c >= 0x90 && c <= 0xBF;
    case 0xF4:
        return c >= 0x80 && c <= 0x8F;
    default:
        return (c & 0xC0) == 0x80;
    }
}

size_t utf8_decode(const char *s, size_t n, uint32_t *cp) {
    if (n == 0) {
        return 0;
    }
    unsigned char c = (unsigned char)s[0];
    size_t len = sequence_len(c);
    if (len == 0 || len > n) {
        return 0;
    }
    if (len == 1) {
        *cp = c;
        return 1;
    }
    if (!second_ok(c, (unsigned char)s[1])) {
        return 0;
    }
    uint32_t v = c & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        unsigned char d = (unsigned char)s[i];
        if ((d & 0xC0) != 0x80) {
            return 0;
        }
        v = (v << 6) | (d & 0x3F);
    }
    *cp = v;
    return len;
}

size_t utf8_encode(uint32_t cp, char out[4]) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

size_t utf8_valid_prefix(const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint32_t cp;
        size_t used = utf8_decode(s + i, n - i, &cp);
        if (used == 0) {
            return i;
        }
        i += used;
    }
    return n;
}

size_t utf8_incomplete_tail(const char *s, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = (unsigned char)s[n - back];
        if ((c & 0xC0) == 0x80) {
            continue;
        }
        if (sequence_len(c) <= back) {
            return 0;
        }
        if (back >= 2 && !second_ok(c, (unsigned char)s[n - back + 1])) {
            return 0;
        }
        return back;
    }
    return 0;
}
