/* The chain through a record's lines: every line names the SHA-256 of the line before it. */
#ifndef RECORD_CHAIN_H
#define RECORD_CHAIN_H

#include "base/hash.h"

#include <stddef.h>

enum { CHAIN_HEX = 2 * HASH_BYTES };

struct chain {
    struct hash *hash;
    char prev[CHAIN_HEX + 1]; /* what the next line has to name */
};

sluice_status chain_init(struct chain *c, sluice_error *err); /* prev is 64 zeros */
void chain_free(struct chain *c);
/* The bytes of a whole line without its newline. */
sluice_status chain_add(struct chain *c, const char *line, size_t n, sluice_error *err);

#endif
