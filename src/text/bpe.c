/*
 * One pre-token -> ids. A pre-token that is itself a vocabulary entry becomes that id without merging; otherwise the
 * pair of lowest rank merges first, the leftmost among equals, until no pair is left.
 *
 * Words of up to SMALL bytes are merged in place by scanning for the lowest rank (a few cache lines, faster than any
 * queue); longer runs use a linked list and a heap, so that a megabyte of one letter stays n log n.
 */
#include "base/mem.h"
#include "base/status.h"
#include "text/tokenizer_impl.h"

#include <string.h>

#define SMALL           48u
#define CACHE_MIN_TEXT  2048u
#define CACHE_MAX_SLOTS 16384u

struct cached_word { /* where this text had the word before, and where its ids went */
    const char *s;   /* NULL = empty */
    uint32_t n;
    uint32_t n_ids;
    size_t ids_at; /* index into the output */
};

void bpe_start(struct encoder *e, size_t n) {
    e->cache = NULL;
    if (n < CACHE_MIN_TEXT) {
        return;
    }
    uint32_t slots = 256;
    while (slots < CACHE_MAX_SLOTS && slots < n / 16) {
        slots *= 2;
    }
    e->cache = mem_calloc(slots, sizeof *e->cache); /* without it everything still works */
    e->cache_mask = slots - 1;
}

void bpe_end(struct encoder *e) {
    mem_free(e->cache);
    e->cache = NULL;
}

static inline const struct merge *merge_find(const struct tokenizer *t, uint32_t left, uint32_t right) {
    if ((left | right) < 256) {
        uint32_t at = t->byte_pairs[left << 8 | right];
        return at ? &t->merges[at - 1] : NULL;
    }
    for (uint64_t i = merge_hash(left, right) & t->merge_mask;; i = (i + 1) & t->merge_mask) {
        const struct merge *m = &t->merges[i];
        if (m->left == left && m->right == right) {
            return m;
        }
        if (m->rank == NO_RANK) {
            return NULL;
        }
    }
}

static sluice_status push_bytes(struct encoder *e, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)s[i];
        int32_t id = e->t->byte_token[byte] >= 0 ? e->t->byte_token[byte] : e->t->unknown;
        if (id < 0) {
            return fail(e->err, SLUICE_E_UNSUPPORTED,
                        "the vocabulary has no token for byte 0x%02X, so this text cannot be tokenized without loss",
                        byte);
        }
        TRY(token_vec_push(e->out, id, e->err));
    }
    return SLUICE_OK;
}

/* A symbol that ended up unmerged; s[0..n) is its text. */
static sluice_status push_symbol(struct encoder *e, uint32_t symbol, const char *s, size_t n) {
    if (symbol >= 256 && symbol - 256 < e->t->n_vocab) {
        return token_vec_push(e->out, (int32_t)(symbol - 256), e->err);
    }
    return push_bytes(e, s, n);
}

struct small_word {
    uint32_t n; /* symbols */
    uint32_t symbol[SMALL];
    uint32_t rank[SMALL];   /* of the pair (i, i + 1) */
    uint32_t result[SMALL]; /* of the same pair */
    uint8_t at[SMALL];      /* where symbol i starts */
};

static void small_pair(const struct tokenizer *t, struct small_word *w, uint32_t i) {
    const struct merge *m = merge_find(t, w->symbol[i], w->symbol[i + 1]);
    w->rank[i] = m ? m->rank : NO_RANK;
    w->result[i] = m ? m->result : NO_SYMBOL;
}

static sluice_status append_small(struct encoder *e, const char *s, size_t n) {
    struct small_word w;
    w.n = (uint32_t)n;
    for (uint32_t i = 0; i < w.n; i++) {
        w.symbol[i] = (unsigned char)s[i];
        w.at[i] = (uint8_t)i;
    }
    for (uint32_t i = 0; i + 1 < w.n; i++) {
        small_pair(e->t, &w, i);
    }
    while (w.n > 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i + 1 < w.n; i++) {
            best = w.rank[i] < w.rank[best] ? i : best;
        }
        if (w.rank[best] == NO_RANK) {
            break;
        }
        w.symbol[best] = w.result[best];
        w.n--;
        for (uint32_t i = best + 1; i < w.n; i++) {
            w.symbol[i] = w.symbol[i + 1];
            w.rank[i] = w.rank[i + 1];
            w.result[i] = w.result[i + 1];
            w.at[i] = w.at[i + 1];
        }
        if (best + 1 < w.n) {
            small_pair(e->t, &w, best);
        }
        if (best > 0) {
            small_pair(e->t, &w, best - 1);
        }
    }
    for (uint32_t i = 0; i < w.n; i++) {
        size_t end = i + 1 < w.n ? w.at[i + 1] : n;
        TRY(push_symbol(e, w.symbol[i], s + w.at[i], end - w.at[i]));
    }
    return SLUICE_OK;
}

/* ---- Long runs ----------------------------------------------------------------------------------------------- */

#define NO_NODE UINT32_MAX

struct node { /* one per byte; a merged node keeps the index of its first byte */
    uint32_t symbol;
    uint32_t prev, next;
    uint32_t rank; /* of the pair (this, next); NO_RANK also when merged away */
};

struct heap { /* rank << 32 | node: lowest rank first, then leftmost */
    uint64_t *at;
    size_t n;
};

static void sift_down(struct heap *h, size_t i) {
    uint64_t v = h->at[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->n) {
            break;
        }
        child += child + 1 < h->n && h->at[child + 1] < h->at[child];
        if (h->at[child] >= v) {
            break;
        }
        h->at[i] = h->at[child];
        i = child;
    }
    h->at[i] = v;
}

static uint64_t heap_pop(struct heap *h) {
    uint64_t top = h->at[0];
    h->at[0] = h->at[--h->n];
    if (h->n) {
        sift_down(h, 0);
    }
    return top;
}

static void heap_push(struct heap *h, uint64_t v) {
    size_t i = h->n++;
    while (i > 0 && h->at[(i - 1) / 2] > v) {
        h->at[i] = h->at[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->at[i] = v;
}

/* Sets the rank of the pair that starts at node i; true if it can merge. */
static bool rank_pair(const struct tokenizer *t, struct node *nodes, uint32_t i) {
    uint32_t next = nodes[i].next;
    const struct merge *m = next == NO_NODE ? NULL : merge_find(t, nodes[i].symbol, nodes[next].symbol);
    nodes[i].rank = m ? m->rank : NO_RANK;
    return m != NULL;
}

static void merge_all(const struct tokenizer *t, struct node *nodes, struct heap *h) {
    while (h->n) {
        uint64_t top = heap_pop(h);
        uint32_t i = (uint32_t)top;
        struct node *left = &nodes[i];
        if (left->rank != (uint32_t)(top >> 32)) {
            continue; /* the pair has changed since */
        }
        uint32_t r = left->next;
        left->symbol = merge_find(t, left->symbol, nodes[r].symbol)->result;
        left->next = nodes[r].next;
        nodes[r].rank = NO_RANK;
        if (left->next != NO_NODE) {
            nodes[left->next].prev = i;
        }
        if (rank_pair(t, nodes, i)) {
            heap_push(h, (uint64_t)left->rank << 32 | i);
        }
        if (left->prev != NO_NODE && rank_pair(t, nodes, left->prev)) {
            heap_push(h, (uint64_t)nodes[left->prev].rank << 32 | left->prev);
        }
    }
}

static sluice_status append_long(struct encoder *e, const char *s, size_t n) {
    if (n >= NO_NODE / 2) {
        return fail(e->err, SLUICE_E_LIMIT, "a run of %zu bytes without a word boundary is too long to tokenize", n);
    }
    struct node *nodes = mem_alloc(n * sizeof *nodes);
    /* Each merge takes one entry out and puts at most two in, so 2n is enough. */
    struct heap h = {.at = mem_alloc(2 * n * sizeof *h.at)};
    sluice_status status = SLUICE_OK;
    if (!nodes || !h.at) {
        status = fail(e->err, SLUICE_E_NOMEM, "no memory to tokenize a run of %zu bytes without a word boundary", n);
        goto done;
    }
    for (uint32_t i = 0; i < n; i++) {
        nodes[i].symbol = (unsigned char)s[i];
        nodes[i].prev = i ? i - 1 : NO_NODE;
        nodes[i].next = i + 1 < n ? i + 1 : NO_NODE;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (rank_pair(e->t, nodes, i)) {
            h.at[h.n++] = (uint64_t)nodes[i].rank << 32 | i;
        }
    }
    for (size_t i = h.n / 2; i-- > 0;) {
        sift_down(&h, i);
    }
    merge_all(e->t, nodes, &h);
    for (uint32_t i = 0; i != NO_NODE && status == SLUICE_OK; i = nodes[i].next) {
        size_t end = nodes[i].next == NO_NODE ? n : nodes[i].next;
        status = push_symbol(e, nodes[i].symbol, s + i, end - i);
    }
done:
    mem_free(nodes);
    mem_free(h.at);
    return status;
}

sluice_status bpe_append(struct encoder *e, const char *s, size_t n) {
    if (n == 1) {
        return push_bytes(e, s, 1);
    }
    uint64_t hash = text_hash(s, n);
    int32_t id = word_find(e->t, s, n, hash);
    if (id >= 0) {
        return token_vec_push(e->out, id, e->err);
    }
    if (n > SMALL) {
        return append_long(e, s, n);
    }
    struct cached_word *c = e->cache ? &e->cache[(hash >> 32) & e->cache_mask] : NULL;
    if (c && c->s && c->n == n && memcmp(c->s, s, n) == 0) {
        TRY(token_vec_reserve(e->out, c->n_ids, e->err));
        memcpy(e->out->ids + e->out->n, e->out->ids + c->ids_at, c->n_ids * sizeof *e->out->ids);
        e->out->n += c->n_ids;
        return SLUICE_OK;
    }
    size_t ids_at = e->out->n;
    TRY(append_small(e, s, n));
    if (c) {
        *c = (struct cached_word){.s = s, .n = (uint32_t)n, .n_ids = (uint32_t)(e->out->n - ids_at), .ids_at = ids_at};
    }
    return SLUICE_OK;
}
