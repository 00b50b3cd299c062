/*
 * English text of any length for prompts: paragraphs about an imagined coast town, made by a seeded grammar. The same
 * seed gives the same text on every machine, a longer text begins with the shorter one, and no sentence is fixed, so
 * that neither a prefix cache nor a drafter finds a pattern that ordinary prose would not have.
 */
#ifndef BENCH_PROSE_H
#define BENCH_PROSE_H

#include "base/buf.h"

/* Appends whole sentences until at least n_bytes of text were appended. */
void prose_append(struct buf *b, size_t n_bytes, uint64_t seed);

#endif
