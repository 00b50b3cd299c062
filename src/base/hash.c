#include "base/hash.h"

#include "base/mem.h"

#include <openssl/evp.h>

struct hash {
    EVP_MD_CTX *ctx;
    bool failed;
};

struct hash *hash_new(void) {
    struct hash *h = mem_calloc(1, sizeof *h);
    if (!h) {
        return NULL;
    }
    h->ctx = EVP_MD_CTX_new();
    if (!h->ctx || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
        hash_free(h);
        return NULL;
    }
    return h;
}

void hash_free(struct hash *h) {
    if (h) {
        EVP_MD_CTX_free(h->ctx);
        mem_free(h);
    }
}

void hash_add(struct hash *h, const void *bytes, size_t n) {
    h->failed |= EVP_DigestUpdate(h->ctx, bytes, n) != 1;
}

bool hash_take(struct hash *h, uint8_t out[HASH_BYTES]) {
    bool good = !h->failed && EVP_DigestFinal_ex(h->ctx, out, NULL) == 1;
    h->failed = EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1;
    return good;
}

void hash_hex(const uint8_t sum[HASH_BYTES], char out[2 * HASH_BYTES + 1]) {
    for (int i = 0; i < HASH_BYTES; i++) {
        out[2 * i] = "0123456789abcdef"[sum[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[sum[i] & 15];
    }
    out[2 * HASH_BYTES] = '\0';
}
