#include "base/mem.h"
#include "base/status.h"
#include "text/tokenizer_impl.h"

#include <string.h>

static uint64_t load64(const char *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t load32(const char *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t fold(uint64_t v) {
    unsigned __int128 wide = (unsigned __int128)v * 0xD6E8FEB86659FD93u;
    return (uint64_t)wide ^ (uint64_t)(wide >> 64);
}

uint64_t text_hash(const char *s, size_t n) {
    uint64_t h = 0x2545F4914F6CDD1Du + n;
    if (n >= 8) {
        for (size_t i = 0; i + 8 < n; i += 8) {
            h = fold(h ^ load64(s + i));
        }
        return fold(h ^ load64(s + n - 8));
    }
    if (n >= 4) {
        return fold(h ^ (load32(s) << 32 | load32(s + n - 4)));
    }
    if (n > 0) {
        const unsigned char *u = (const unsigned char *)s;
        h ^= (uint64_t)u[0] << 40 | (uint64_t)u[n / 2] << 24 | (uint64_t)u[n - 1] << 8;
    }
    return fold(h);
}

sluice_status hash_map_init(struct hash_map *m, size_t n_keys, sluice_error *err) {
    size_t cap = 16;
    while (cap < 2 * n_keys) {
        cap *= 2;
    }
    m->slots = mem_calloc(cap, sizeof *m->slots);
    m->mask = cap - 1;
    return m->slots ? SLUICE_OK : fail(err, SLUICE_E_NOMEM, "no memory for a table of %zu vocabulary entries", n_keys);
}

void hash_map_put(struct hash_map *m, uint64_t hash, uint32_t index) {
    uint64_t i = hash & m->mask;
    while (m->slots[i].value) {
        i = (i + 1) & m->mask;
    }
    m->slots[i] = (struct hash_slot){.tag = (uint32_t)(hash >> 32), .value = index + 1};
}

void hash_map_free(struct hash_map *m) {
    mem_free(m->slots);
    *m = (struct hash_map){0};
}

int32_t word_find(const struct tokenizer *t, const char *s, size_t n, uint64_t hash) {
    uint32_t tag = (uint32_t)(hash >> 32);
    for (uint64_t i = hash & t->words.mask; t->words.slots[i].value; i = (i + 1) & t->words.mask) {
        uint32_t id = t->words.slots[i].value - 1;
        if (t->words.slots[i].tag == tag && t->start[id + 1] - t->start[id] == n &&
            memcmp(t->bytes + t->start[id], s, n) == 0) {
            return (int32_t)id;
        }
    }
    return -1;
}

int32_t special_find(const struct tokenizer *t, const char *s, size_t n, uint64_t hash) {
    uint32_t tag = (uint32_t)(hash >> 32);
    for (uint64_t i = hash & t->special_map.mask; t->special_map.slots[i].value; i = (i + 1) & t->special_map.mask) {
        uint32_t index = t->special_map.slots[i].value - 1;
        const struct special *sp = &t->specials[index];
        if (t->special_map.slots[i].tag == tag && sp->len == n && memcmp(t->bytes + t->start[sp->id], s, n) == 0) {
            return (int32_t)index;
        }
    }
    return -1;
}
