#include "report/texts.h"

#include "base/mem.h"

#include <string.h>

enum { BLOCK_BYTES = 65536 };

struct texts_block {
    struct texts_block *before;
    size_t used, cap;
    char bytes[];
};

static uint64_t hash_text(const char *s) { /* FNV-1a */
    uint64_t h = 0xCBF29CE484222325u;
    for (; *s; s++) {
        h = (h ^ (unsigned char)*s) * 0x100000001B3u;
    }
    return h ^ h >> 29;
}

static uint32_t *find(struct texts *p, const char *s) {
    size_t i = hash_text(s) & (p->n_slots - 1);
    while (p->slots[i] && strcmp(p->text[p->slots[i]], s) != 0) {
        i = (i + 1) & (p->n_slots - 1);
    }
    return &p->slots[i];
}

/* Room for one more text and its slot, at most half of the slots taken. */
static bool grow(struct texts *p) {
    if (p->n + 1 >= p->cap) {
        uint32_t cap = p->cap ? 2 * p->cap : 256;
        const char **text = cap > p->cap ? mem_realloc(p->text, cap * sizeof *text) : NULL;
        if (!text) {
            return false;
        }
        p->text = text;
        p->cap = cap;
        if (p->n == 0) {
            p->text[p->n++] = NULL;
        }
    }
    if (2 * ((size_t)p->n + 1) > p->n_slots) {
        size_t n = p->n_slots ? 2 * p->n_slots : 1024;
        uint32_t *slots = mem_calloc(n, sizeof *slots);
        if (!slots) {
            return false;
        }
        mem_free(p->slots);
        p->slots = slots;
        p->n_slots = n;
        for (uint32_t i = 1; i < p->n; i++) {
            *find(p, p->text[i]) = i;
        }
    }
    return true;
}

static char *store(struct texts *p, const char *s) {
    size_t n = strlen(s) + 1;
    struct texts_block *b = p->blocks;
    if (!b || n > b->cap - b->used) {
        size_t cap = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        b = mem_alloc(sizeof *b + cap);
        if (!b) {
            return NULL;
        }
        *b = (struct texts_block){.before = p->blocks, .cap = cap};
        p->blocks = b;
    }
    char *out = b->bytes + b->used;
    memcpy(out, s, n);
    b->used += n;
    return out;
}

uint32_t texts_add(struct texts *p, const char *s) {
    if (!s || !s[0]) {
        return 0;
    }
    if (p->failed || !grow(p)) {
        p->failed = true;
        return 0;
    }
    uint32_t *slot = find(p, s);
    if (!*slot) {
        char *own = store(p, s);
        if (!own) {
            p->failed = true;
            return 0;
        }
        p->text[p->n] = own;
        *slot = p->n++;
    }
    return *slot;
}

const char *texts_get(const struct texts *p, uint32_t id) {
    return id ? p->text[id] : NULL;
}

void texts_free(struct texts *p) {
    while (p->blocks) {
        struct texts_block *before = p->blocks->before;
        mem_free(p->blocks);
        p->blocks = before;
    }
    mem_free(p->text);
    mem_free(p->slots);
    *p = (struct texts){.n = 0};
}
