#include "text/pretok.h"

#include "base/mem.h"
#include "base/status.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Classes, spelled out where libraries disagree. pcre2's \s also takes U+180E, which has not been white space since
 * Unicode 6.3; and the vocabularies were made with Unicode 15.1 tables, while pcre2 10.42 stops at 14: the letters and
 * numbers that came since are listed. */
#define WHITE "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define LETTER                                                                                                         \
    "\\p{L}\\x{1123F}\\x{11240}\\x{11F02}\\x{11F04}-\\x{11F10}\\x{11F12}-\\x{11F33}\\x{1342F}\\x{13441}-\\x{13446}"    \
    "\\x{1B132}\\x{1B155}\\x{1DF25}-\\x{1DF2A}\\x{1E030}-\\x{1E06D}\\x{1E4D0}-\\x{1E4EB}\\x{2B739}"                    \
    "\\x{2EBF0}-\\x{2EE5D}\\x{31350}-\\x{323AF}"
#define NUMBER "\\p{N}\\x{11F50}-\\x{11F59}\\x{1D2C0}-\\x{1D2D3}\\x{1E4F0}-\\x{1E4F9}"

/* Cases are spelled out: under (?i:) U+017F (long s) would count as an s. Possessive where giving back could never
 * help, so that no text makes the matcher try again and again. */
static const char pattern[] = "'(?:[sStTmMdD]|[rRvV][eE]|[lL][lL])"
                              "|[^\\r\\n" LETTER NUMBER "]?+[" LETTER "]++"
                              "|[" NUMBER "]{1,3}+"
                              "| ?+[^" WHITE LETTER NUMBER "]++[\\r\\n]*+"
                              "|[" WHITE "]*[\\r\\n]++"
                              "|[" WHITE "]+(?![^" WHITE "])"
                              "|[" WHITE "]++";

struct pretok {
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    pcre2_code *code;
};

struct pretok_match {
    pcre2_match_data *data;
};

static void *pcre_alloc(size_t n, void *unused) {
    (void)unused;
    return mem_alloc(n);
}

static void pcre_free(void *p, void *unused) {
    (void)unused;
    mem_free(p);
}

void pretok_free(struct pretok *p) {
    if (p) {
        pcre2_code_free(p->code);
        pcre2_match_context_free(p->limits);
        pcre2_general_context_free(p->memory);
        mem_free(p);
    }
}

sluice_status pretok_create(bool jit, struct pretok **out, sluice_error *err) {
    struct pretok *p = mem_calloc(1, sizeof *p);
    if (!p) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the pre-tokenizer");
    }
    int code = PCRE2_ERROR_NOMEMORY;
    PCRE2_SIZE at = 0;
    p->memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    pcre2_compile_context *how = p->memory ? pcre2_compile_context_create(p->memory) : NULL;
    p->limits = how ? pcre2_match_context_create(p->memory) : NULL;
    if (p->limits) {
        /* Work is linear in the text (see `pattern`); the limits only guard against patterns that are not. */
        pcre2_set_match_limit(p->limits, UINT32_MAX);
        pcre2_set_depth_limit(p->limits, UINT32_MAX);
        pcre2_set_heap_limit(p->limits, UINT32_MAX);
        p->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED,
                                &code, &at, how);
    }
    pcre2_compile_context_free(how);
    if (!p->code) {
        pretok_free(p);
        if (code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED) {
            return fail(err, SLUICE_E_NOMEM, "no memory for the pre-tokenizer");
        }
        return fail(err, SLUICE_E_UNSUPPORTED,
                    "this pcre2 rejects the pre-tokenizer's pattern at byte %zu (error %d); pcre2 10.30 with Unicode "
                    "support is needed",
                    (size_t)at, code);
    }
    if (jit) {
        (void)pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* without it pcre2_match interprets */
    }
    *out = p;
    return SLUICE_OK;
}

void pretok_match_free(struct pretok_match *state) {
    if (state) {
        pcre2_match_data_free(state->data);
        mem_free(state);
    }
}

static struct pretok_match *match_create(const struct pretok *p) {
    struct pretok_match *state = mem_alloc(sizeof *state);
    if (state) {
        state->data = pcre2_match_data_create(1, p->memory);
        if (!state->data) {
            mem_free(state);
            return NULL;
        }
    }
    return state;
}

sluice_status pretok_next_pcre(const struct pretok *p, struct pretok_match **state, const char *s, size_t n,
                               size_t *len, sluice_error *err) {
    if (!*state) {
        *state = match_create(p);
        if (!*state) {
            return fail(err, SLUICE_E_NOMEM, "no memory for the pre-tokenizer");
        }
    }
    pcre2_match_data *data = (*state)->data;
    int rc = pcre2_match(p->code, (PCRE2_SPTR)s, n, 0, PCRE2_NO_UTF_CHECK, data, p->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        rc = pcre2_match(p->code, (PCRE2_SPTR)s, n, 0, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, p->limits);
    }
    size_t end = rc > 0 ? pcre2_get_ovector_pointer(data)[1] : 0;
    if (end > 0) {
        *len = end;
        return SLUICE_OK;
    }
    if (rc == PCRE2_ERROR_NOMEMORY || rc == PCRE2_ERROR_HEAPLIMIT) {
        return fail(err, SLUICE_E_NOMEM, "no memory to split %zu bytes of text into words", n);
    }
    return fail(err, SLUICE_E_LIMIT, "the pre-tokenizer gave up on %zu bytes of text (pcre2 error %d)", n, rc);
}

/* ---- ASCII by hand ------------------------------------------------------------------------------------------- */

enum ascii_class {
    HIGH = 0, /* a byte of a longer sequence: pcre2's business */
    LETTERS = 1,
    DIGITS = 2,
    SPACE = 4, /* white space other than line ends */
    LINE = 8,  /* \r \n */
    OTHER = 16,
};

static const unsigned char classes[256] = {
    [0x00 ... 0x08] = OTHER, ['\t'] = SPACE,          ['\n'] = LINE,           ['\v' ... '\f'] = SPACE,
    ['\r'] = LINE,           [0x0E ... 0x1F] = OTHER, [' '] = SPACE,           ['!' ... '/'] = OTHER,
    ['0' ... '9'] = DIGITS,  [':' ... '@'] = OTHER,   ['A' ... 'Z'] = LETTERS, ['[' ... '`'] = OTHER,
    ['a' ... 'z'] = LETTERS, ['{' ... 0x7F] = OTHER,
};

static size_t scan(const unsigned char *s, size_t i, size_t n, unsigned mask) {
    while (i < n && (classes[s[i]] & mask)) {
        i++;
    }
    return i;
}

/* 's 't 'm 'd 're 've 'll at s, which starts with an apostrophe: 2, 3, or 0. */
static size_t contraction(const unsigned char *s, size_t n) {
    unsigned a = n > 1 ? s[1] | 0x20u : 0;
    unsigned b = n > 2 ? s[2] | 0x20u : 0;
    /* | 0x20 folds only letters onto letters here: no other byte gives one of these eight. */
    if (a == 's' || a == 't' || a == 'm' || a == 'd') {
        return 2;
    }
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* A run of ASCII white space from 0; 0 when what follows is not ASCII and might be white space too. */
static size_t white_run(const unsigned char *s, size_t n) {
    size_t end = 0, line_end = 0;
    while (end < n && (classes[s[end]] & (SPACE | LINE))) {
        if (classes[s[end]] == LINE) {
            line_end = end + 1;
        }
        end++;
    }
    if (end < n && classes[s[end]] == HIGH) {
        return 0;
    }
    if (line_end) {
        return line_end;
    }
    return end < n && end > 1 ? end - 1 : end; /* the last one goes to the word that follows */
}

/* Length of the piece at s if ASCII alone decides it, else 0. */
static size_t ascii_piece(const unsigned char *s, size_t n) {
    unsigned first = classes[s[0]];
    size_t end;
    if (s[0] == '\'' && (end = contraction(s, n)) != 0) {
        return end;
    }
    if (first == HIGH || (n > 1 && classes[s[1]] == HIGH)) {
        return 0;
    }
    if (first == LETTERS || ((first & (SPACE | OTHER)) && n > 1 && classes[s[1]] == LETTERS)) {
        end = scan(s, 1, n, LETTERS);
        return end < n && classes[s[end]] == HIGH ? 0 : end;
    }
    if (first == DIGITS) {
        end = scan(s, 1, n < 3 ? n : 3, DIGITS);
        return end < 3 && end < n && classes[s[end]] == HIGH ? 0 : end;
    }
    size_t mark = s[0] == ' ' ? 1 : 0;
    if (mark < n && classes[s[mark]] == OTHER) {
        end = scan(s, mark, n, OTHER);
        return end < n && classes[s[end]] == HIGH ? 0 : scan(s, end, n, LINE);
    }
    return white_run(s, n);
}

sluice_status pretok_next(const struct pretok *p, struct pretok_match **state, const char *s, size_t n, size_t *len,
                          sluice_error *err) {
    size_t end = ascii_piece((const unsigned char *)s, n);
    if (end) {
        *len = end;
        return SLUICE_OK;
    }
    return pretok_next_pcre(p, state, s, n, len, err);
}
