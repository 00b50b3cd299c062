/* SHA-256 (FIPS 180-4) through OpenSSL's EVP. Not in engine-only builds. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "sluice.h"

#ifndef SLUICE_WITH_HASH
#define SLUICE_WITH_HASH 1
#endif

#define HASH_BYTES 32

struct hash;

struct hash *hash_new(void); /* NULL when out of memory */
void hash_free(struct hash *h);
void hash_add(struct hash *h, const void *bytes, size_t n);
/* Ends the sum and starts the next. false: OpenSSL failed since the last call (for want of memory); `out` is unset. */
__attribute__((warn_unused_result)) bool hash_take(struct hash *h, uint8_t out[HASH_BYTES]);
void hash_hex(const uint8_t sum[HASH_BYTES], char out[2 * HASH_BYTES + 1]);

#endif
