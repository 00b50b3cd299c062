#include "record/chain.h"

#include "base/status.h"

#include <string.h>

sluice_status chain_init(struct chain *c, sluice_error *err) {
    memset(c->prev, '0', CHAIN_HEX);
    c->prev[CHAIN_HEX] = '\0';
    c->hash = hash_new();
    return c->hash ? SLUICE_OK : fail(err, SLUICE_E_NOMEM, "no memory for the record's chain");
}

void chain_free(struct chain *c) {
    hash_free(c->hash);
    c->hash = NULL;
}

sluice_status chain_add(struct chain *c, const char *line, size_t n, sluice_error *err) {
    uint8_t sum[HASH_BYTES];
    hash_add(c->hash, line, n);
    if (!hash_take(c->hash, sum)) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the record's chain");
    }
    hash_hex(sum, c->prev);
    return SLUICE_OK;
}
