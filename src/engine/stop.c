#include "engine/stop.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"

#include <string.h>

static sluice_status pattern_init(struct stop_pattern *p, const char *text, sluice_error *err) {
    size_t n = text ? strlen(text) : 0;
    if (n == 0) {
        return fail(err, SLUICE_E_ARG, "a stop string is empty; leave it out or give it text");
    }
    if (n > LIMIT_STOP_BYTES) {
        return fail(err, SLUICE_E_LIMIT, "a stop string has %zu bytes; the limit is %u", n, LIMIT_STOP_BYTES);
    }
    if (utf8_valid_prefix(text, n) != n) {
        return fail(err, SLUICE_E_ARG, "a stop string is not valid UTF-8, so it could never match");
    }
    p->text = mem_strndup(text, n);
    p->border = mem_alloc(n * sizeof *p->border);
    if (!p->text || !p->border) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for a stop string");
    }
    p->n = (uint32_t)n;
    p->border[0] = 0;
    for (uint32_t i = 1, k = 0; i < p->n; i++) {
        while (k > 0 && text[i] != text[k]) {
            k = p->border[k - 1];
        }
        k += text[i] == text[k];
        p->border[i] = (uint16_t)k;
    }
    return SLUICE_OK;
}

sluice_status stop_init(struct stop *stop, const char *const *strings, size_t n, sluice_error *err) {
    *stop = (struct stop){0};
    if (n == 0) {
        return SLUICE_OK;
    }
    if (n > LIMIT_STOP_STRINGS) {
        return fail(err, SLUICE_E_LIMIT, "%zu stop strings were given; the limit is %u", n, LIMIT_STOP_STRINGS);
    }
    stop->patterns = mem_calloc(n, sizeof *stop->patterns);
    if (!stop->patterns) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for stop strings");
    }
    stop->n_patterns = n;
    for (size_t i = 0; i < n; i++) {
        sluice_status status = pattern_init(&stop->patterns[i], strings[i], err);
        if (status != SLUICE_OK) {
            stop_free(stop);
            return status;
        }
    }
    return SLUICE_OK;
}

void stop_free(struct stop *stop) {
    for (size_t i = 0; i < stop->n_patterns; i++) {
        mem_free(stop->patterns[i].text);
        mem_free(stop->patterns[i].border);
    }
    mem_free(stop->patterns);
    buf_free(&stop->held);
    *stop = (struct stop){0};
}

/* Reads one byte; true when the pattern is complete. */
static bool advance(struct stop_pattern *p, char byte) {
    while (p->matched > 0 && (p->matched == p->n || p->text[p->matched] != byte)) {
        p->matched = p->border[p->matched - 1];
    }
    p->matched += p->text[p->matched] == byte;
    return p->matched == p->n;
}

static void release(struct stop *stop, size_t n, struct buf *out) {
    buf_append(out, stop->held.data, n);
    memmove(stop->held.data, stop->held.data + n, stop->held.len - n);
    stop->held.len -= n;
}

const char *stop_push(struct stop *stop, const char *text, size_t n, struct buf *out) {
    if (stop->n_patterns == 0) {
        buf_append(out, text, n);
        return NULL;
    }
    size_t partial = 0; /* the longest match in progress, in bytes */
    for (size_t i = 0; i < n; i++) {
        const struct stop_pattern *hit = NULL;
        partial = 0;
        for (size_t k = 0; k < stop->n_patterns; k++) {
            struct stop_pattern *p = &stop->patterns[k];
            if (advance(p, text[i]) && (!hit || p->n > hit->n)) {
                hit = p;
            }
            partial = p->matched > partial ? p->matched : partial;
        }
        if (hit) {
            buf_append(&stop->held, text, i + 1);
            if (!stop->held.failed) {
                buf_append(out, stop->held.data, stop->held.len - hit->n);
                buf_reset(&stop->held);
            }
            return hit->text;
        }
    }
    if (n > 0) {
        buf_append(&stop->held, text, n);
        if (!stop->held.failed && stop->held.len > partial) {
            release(stop, stop->held.len - partial, out);
        }
    }
    return NULL;
}

void stop_flush(struct stop *stop, struct buf *out) {
    if (stop->held.len > 0) {
        release(stop, stop->held.len, out);
    }
}

const char *stop_equal(const struct stop *stop, const char *text, size_t n) {
    for (size_t i = 0; i < stop->n_patterns; i++) {
        if (stop->patterns[i].n == n && memcmp(stop->patterns[i].text, text, n) == 0) {
            return stop->patterns[i].text;
        }
    }
    return NULL;
}
