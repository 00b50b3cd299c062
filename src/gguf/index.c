#include "gguf/index.h"

#include "base/clock.h"
#include "base/mem.h"

#include <string.h>

/* Seeded, so that a crafted file cannot make every name collide. */
static uint64_t hash(uint64_t seed, const char *s, size_t n) {
    uint64_t h = seed;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ (uint8_t)s[i]) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    return h ^ h >> 32;
}

static const struct gguf_str *name_at(const void *records, size_t stride, size_t i) {
    return (const struct gguf_str *)(const void *)((const char *)records + i * stride);
}

/* The slot that holds the name, or the free one where it belongs. */
static uint32_t *slot_of(const struct name_index *index, const void *records, size_t stride, const char *s, size_t n) {
    uint32_t at = (uint32_t)hash(index->seed, s, n) & index->mask;
    for (;; at = (at + 1) & index->mask) {
        uint32_t *slot = &index->slots[at];
        if (*slot == 0) {
            return slot;
        }
        const struct gguf_str *name = name_at(records, stride, *slot - 1);
        if (name->n == n && memcmp(name->s, s, n) == 0) {
            return slot;
        }
    }
}

bool name_index_init(struct name_index *index, size_t n) {
    size_t size = 16;
    while (size < n * 2) {
        size *= 2;
    }
    index->slots = mem_calloc(size, sizeof *index->slots);
    if (!index->slots) {
        return false;
    }
    index->mask = (uint32_t)(size - 1);
    index->seed = clock_ns() ^ (uintptr_t)index->slots;
    return true;
}

size_t name_index_add(struct name_index *index, const void *records, size_t stride, size_t i) {
    const struct gguf_str *name = name_at(records, stride, i);
    uint32_t *slot = slot_of(index, records, stride, name->s, name->n);
    if (*slot != 0) {
        return *slot - 1;
    }
    *slot = (uint32_t)(i + 1);
    return INDEX_NONE;
}

bool name_index_build(struct name_index *index, const void *records, size_t stride, size_t n, size_t *duplicate) {
    *duplicate = INDEX_NONE;
    if (!name_index_init(index, n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (name_index_add(index, records, stride, i) != INDEX_NONE) {
            *duplicate = i;
            return true;
        }
    }
    return true;
}

size_t name_index_find(const struct name_index *index, const void *records, size_t stride, const char *s, size_t n) {
    uint32_t slot = *slot_of(index, records, stride, s, n);
    return slot ? slot - 1 : INDEX_NONE;
}

void name_index_free(struct name_index *index) {
    mem_free(index->slots);
    index->slots = NULL;
}
