/*
 * The pre-tokenizer of LFM2 (llama3's): cuts text into the pieces that byte-pair merging works on.
 *
 *   '[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]  |  [^\r\n\p{L}\p{N}]?\p{L}+  |  \p{N}{1,3}
 *   |  ' '?[^\s\p{L}\p{N}]+[\r\n]*  |  \s*[\r\n]+  |  \s+(?!\S)  |  \s+
 *
 * The alternatives cover every character, so a match at the current position always exists. pcre2 is the judge; runs of
 * ASCII, whose class needs no table, are cut by hand (pretok_next) and tested to give the same pieces.
 */
#ifndef TEXT_PRETOK_H
#define TEXT_PRETOK_H

#include "sluice.h"

struct pretok;       /* the compiled pattern; shared by any number of threads */
struct pretok_match; /* one thread's match data */

/* jit false: the interpreter only, as on systems that refuse executable memory. */
sluice_status pretok_create(bool jit, struct pretok **out, sluice_error *err);
void pretok_free(struct pretok *p);

/* Length of the piece at the start of s[0..n), n > 0, valid UTF-8. *state starts as NULL, is created when pcre2 is
 * first needed and freed by pretok_match_free. The text after s + n does not exist for the pattern. */
sluice_status pretok_next(const struct pretok *p, struct pretok_match **state, const char *s, size_t n, size_t *len,
                          sluice_error *err);
/* The same by pcre2 alone. */
sluice_status pretok_next_pcre(const struct pretok *p, struct pretok_match **state, const char *s, size_t n,
                               size_t *len, sluice_error *err);
void pretok_match_free(struct pretok_match *state);

#endif
