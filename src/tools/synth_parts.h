/* What `synth` is made of: random blocks and a vocabulary. */
#ifndef TOOLS_SYNTH_PARTS_H
#define TOOLS_SYNTH_PARTS_H

#include "base/dtype.h"
#include "gguf/gguf.h"
#include "model/presets.h"
#include "sluice.h"

/* ---- Random numbers: xoshiro256**, seeded by splitmix64 */

struct rng {
    uint64_t s[4];
};

/* Independent streams for (seed, a, b), so that any part of a file can be made by itself. */
void rng_init(struct rng *rng, uint64_t seed, uint64_t a, uint64_t b);
uint64_t rng_next(struct rng *rng);

/* ---- Weights */

struct gauss; /* quantile tables: shared, read-only */

struct gauss *gauss_new(void); /* NULL when out of memory */
void gauss_free(struct gauss *g);
/* n weights of deviation `std` and mean 0 as blocks of `type`; n is a multiple of the block (256 for K-quants). */
void synth_blocks(const struct gauss *g, struct rng *rng, enum dtype type, float std, uint8_t *dst, size_t n);
/* n floats around `mean`. */
void synth_floats(const struct gauss *g, struct rng *rng, float mean, float std, float *dst, size_t n);

/* ---- Vocabulary: control tokens, bytes, words and syllables with the merges that build them, unused rows */

struct synth_vocab {
    struct gguf_str *tokens; /* [n] */
    int32_t *types;          /* [n] as tokenizer.ggml.token_type */
    size_t n;
    struct gguf_str *merges; /* [n_merges] */
    size_t n_merges;
    void *impl;
};

sluice_status synth_vocab_new(size_t n_vocab, struct synth_vocab *out, sluice_error *err);
void synth_vocab_free(struct synth_vocab *vocab);

extern const char synth_chat_template[];

#endif
