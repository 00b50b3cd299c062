/*
 * The cached nodes form one list in the order in which they are given up. A release appends what it leaves without
 * holders from the deepest node upwards, and whoever holds a node holds its ancestors, so no node was released later
 * than its parent: every node stands in the list before its parent. The oldest node is therefore always a leaf, new
 * entries belong at the young end only, and one pass from the old end gives up any number of nodes in the right order.
 *
 * Children are found in a chained hash table over (parent, tokens), as large as the number of pages or larger.
 *
 * The writing thread shares three things with the engine thread: the marks, and, of a node that it has marked as being
 * written, the parent and the tokens, which do not change while the node is there.
 */
#include "engine/pages.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"

#include <stdatomic.h>
#include <string.h>

enum page_kind { PAGE_FREE, PAGE_PRIVATE, PAGE_NODE };
enum page_mark { MARK_NONE, MARK_TO_WRITE, MARK_WRITING };

struct page {
    uint32_t older, younger; /* in the list of cached nodes */
    uint32_t next;           /* in the node's hash chain; or in the stack of free pages */
    uint32_t bucket;
    uint32_t parent;
    uint32_t n_children;
    uint32_t n_holders; /* of this node and of all below */
    uint8_t kind;
    atomic_uchar mark;
};

struct pages {
    uint32_t n_pages, cached_max;
    uint32_t free_top;
    uint32_t oldest, youngest; /* ends of the list of cached nodes */
    uint64_t bucket_mask, hash_seed;
    struct page *pages;                 /* [n_pages] */
    int32_t (*tokens)[KV_PAGE_TOKENS];  /* [n_pages] of the nodes */
    uint32_t *buckets;                  /* [bucket_mask + 1] first nodes of the chains */
    _Atomic uint64_t n_free_and_cached; /* free << 32 | cached: in one word, so that a reader's sums always add up */
};

sluice_status pages_create(uint32_t n_pages, uint32_t cached_max, struct pages **out, sluice_error *err) {
    *out = NULL;
    size_t n_buckets = 1;
    while (n_buckets < n_pages) {
        n_buckets *= 2;
    }
    struct pages *p = mem_calloc(1, sizeof *p);
    if (p) {
        p->pages = mem_calloc(n_pages, sizeof *p->pages);
        p->tokens = mem_calloc(n_pages, sizeof *p->tokens);
        p->buckets = mem_calloc(n_buckets, sizeof *p->buckets);
    }
    if (!p || !p->pages || !p->tokens || !p->buckets) {
        pages_free(p);
        return fail(err, SLUICE_E_NOMEM, "out of memory for the table of %u KV pages; use less KV memory", n_pages);
    }
    p->n_pages = n_pages;
    p->cached_max = cached_max;
    p->oldest = p->youngest = PAGE_NONE;
    p->bucket_mask = n_buckets - 1;
    /* prompts come from outside: nobody should know how to make one long chain of theirs */
    p->hash_seed = clock_ns() * 0x9e3779b97f4a7c15u ^ (uintptr_t)p;
    memset(p->buckets, 0xff, n_buckets * sizeof *p->buckets); /* PAGE_NONE */
    p->free_top = PAGE_NONE;
    for (uint32_t i = n_pages; i-- > 0;) { /* low pages first: the rest of the memory stays untouched until needed */
        p->pages[i].next = p->free_top;
        p->free_top = i;
    }
    atomic_init(&p->n_free_and_cached, (uint64_t)n_pages << 32);
    *out = p;
    return SLUICE_OK;
}

void pages_free(struct pages *p) {
    if (p) {
        mem_free(p->pages);
        mem_free(p->tokens);
        mem_free(p->buckets);
        mem_free(p);
    }
}

/* ---- Counting ---- */

/* Only the engine thread writes, so a load and a store suffice. */
static void count_add(struct pages *p, int d_free, int d_cached) {
    uint64_t n = atomic_load_explicit(&p->n_free_and_cached, memory_order_relaxed);
    n += ((uint64_t)d_free << 32) + (uint64_t)d_cached;
    atomic_store_explicit(&p->n_free_and_cached, n, memory_order_relaxed);
}

struct pages_count pages_count(const struct pages *p) {
    uint64_t n = atomic_load_explicit(&p->n_free_and_cached, memory_order_relaxed);
    return (struct pages_count){.total = p->n_pages, .free = (uint32_t)(n >> 32), .cached = (uint32_t)n};
}

/* ---- The table of children ---- */

static uint32_t bucket_of(const struct pages *p, uint32_t parent, const int32_t *tokens) {
    uint64_t h = p->hash_seed ^ parent;
    for (size_t i = 0; i < KV_PAGE_TOKENS; i += 2) {
        uint64_t pair;
        memcpy(&pair, tokens + i, sizeof pair);
        __uint128_t product = (__uint128_t)(h ^ pair) * 0x9e3779b97f4a7c15u;
        h = (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    return (uint32_t)(h & p->bucket_mask);
}

static uint32_t find(const struct pages *p, uint32_t bucket, uint32_t parent, const int32_t *tokens) {
    uint32_t node = p->buckets[bucket];
    while (node != PAGE_NONE &&
           (p->pages[node].parent != parent || memcmp(p->tokens[node], tokens, sizeof p->tokens[node]) != 0)) {
        node = p->pages[node].next;
    }
    return node;
}

uint32_t pages_child(const struct pages *p, uint32_t parent, const int32_t *tokens) {
    return find(p, bucket_of(p, parent, tokens), parent, tokens);
}

static void leave_chain(struct pages *p, uint32_t node) {
    uint32_t *link = &p->buckets[p->pages[node].bucket];
    while (*link != node) {
        link = &p->pages[*link].next;
    }
    *link = p->pages[node].next;
}

/* ---- The list of cached nodes ---- */

static void list_append(struct pages *p, uint32_t node) {
    struct page *n = &p->pages[node];
    n->older = p->youngest;
    n->younger = PAGE_NONE;
    *(n->older == PAGE_NONE ? &p->oldest : &p->pages[n->older].younger) = node;
    p->youngest = node;
}

static void list_remove(struct pages *p, uint32_t node) {
    const struct page *n = &p->pages[node];
    *(n->older == PAGE_NONE ? &p->oldest : &p->pages[n->older].younger) = n->younger;
    *(n->younger == PAGE_NONE ? &p->youngest : &p->pages[n->younger].older) = n->older;
}

static void push_free(struct pages *p, uint32_t page) {
    p->pages[page].kind = PAGE_FREE;
    p->pages[page].next = p->free_top;
    p->free_top = page;
}

/* From now on the writing thread cannot begin with the node; false if it has. Acquire: what it read of a node that it
 * is done with was read before the page is used for something else. */
static bool take_mark_off(struct page *n) {
    unsigned char mark = MARK_TO_WRITE;
    return atomic_compare_exchange_strong_explicit(&n->mark, &mark, MARK_NONE, memory_order_acquire,
                                                   memory_order_acquire) ||
           mark == MARK_NONE;
}

/* Gives up at most n cached nodes. What is passed over is being written, or an ancestor of that. */
static void give_up(struct pages *p, uint32_t n) {
    uint32_t younger;
    for (uint32_t node = p->oldest; node != PAGE_NONE && n > 0; node = younger) {
        struct page *it = &p->pages[node];
        younger = it->younger;
        if (it->n_children > 0 || !take_mark_off(it)) {
            continue;
        }
        list_remove(p, node);
        leave_chain(p, node);
        if (it->parent != PAGE_NONE) {
            p->pages[it->parent].n_children--;
        }
        push_free(p, node);
        count_add(p, 1, -1);
        n--;
    }
}

void pages_clear(struct pages *p) {
    give_up(p, UINT32_MAX);
}

/* ---- Private pages ---- */

uint32_t pages_take_free(struct pages *p) {
    uint32_t page = p->free_top;
    if (page != PAGE_NONE) {
        p->free_top = p->pages[page].next;
        p->pages[page].kind = PAGE_PRIVATE;
        count_add(p, -1, 0);
    }
    return page;
}

uint32_t pages_take(struct pages *p) {
    if (p->free_top == PAGE_NONE) {
        give_up(p, 1);
    }
    return pages_take_free(p);
}

void pages_give(struct pages *p, uint32_t page) {
    if (p->pages[page].kind == PAGE_PRIVATE) {
        push_free(p, page);
        count_add(p, 1, 0);
    }
}

bool pages_is_node(const struct pages *p, uint32_t page) {
    return p->pages[page].kind == PAGE_NODE;
}

/* ---- Holding ---- */

static void add_holder(struct pages *p, uint32_t node) {
    if (p->pages[node].n_holders++ == 0) {
        list_remove(p, node);
        count_add(p, 0, -1);
    }
}

void pages_hold(struct pages *p, uint32_t node) {
    for (; node != PAGE_NONE; node = p->pages[node].parent) {
        add_holder(p, node);
    }
}

void pages_descend(struct pages *p, uint32_t child) {
    add_holder(p, child);
}

void pages_release(struct pages *p, uint32_t node) {
    for (; node != PAGE_NONE; node = p->pages[node].parent) {
        if (--p->pages[node].n_holders == 0) {
            list_append(p, node);
            count_add(p, 0, 1);
        }
    }
    uint32_t n_cached = pages_count(p).cached;
    if (n_cached > p->cached_max) {
        give_up(p, n_cached - p->cached_max);
    }
}

uint32_t pages_insert(struct pages *p, uint32_t parent, const int32_t *tokens, uint32_t page) {
    uint32_t bucket = bucket_of(p, parent, tokens);
    uint32_t twin = find(p, bucket, parent, tokens);
    if (twin != PAGE_NONE) {
        return twin;
    }
    struct page *n = &p->pages[page];
    n->kind = PAGE_NODE;
    n->parent = parent;
    n->n_children = n->n_holders = 0;
    n->bucket = bucket;
    n->next = p->buckets[bucket];
    p->buckets[bucket] = page;
    memcpy(p->tokens[page], tokens, sizeof p->tokens[page]);
    if (parent != PAGE_NONE) {
        p->pages[parent].n_children++;
    }
    list_append(p, page);
    count_add(p, 0, 1);
    return page;
}

/* ---- Saving ---- */

static bool is_marked(const struct pages *p, uint32_t node) {
    return atomic_load_explicit(&p->pages[node].mark, memory_order_relaxed) == MARK_TO_WRITE;
}

/* Appends what is not in the list yet of the path that ends at node, and marks it. Returns the list's new length. */
static uint32_t list_path(struct pages *p, uint32_t node, uint32_t *out, uint32_t n) {
    uint32_t n_new = 0;
    for (uint32_t i = node; i != PAGE_NONE && !is_marked(p, i); i = p->pages[i].parent) {
        n_new++;
    }
    for (uint32_t i = n_new; i-- > 0; node = p->pages[node].parent) {
        out[n + i] = node;
        /* release: the writing thread, which takes the mark, sees parent and tokens */
        atomic_store_explicit(&p->pages[node].mark, MARK_TO_WRITE, memory_order_release);
    }
    return n + n_new;
}

uint32_t pages_mark(struct pages *p, uint32_t *out) {
    uint32_t n = 0;
    pages_unmark(p);
    for (uint32_t node = p->oldest; node != PAGE_NONE; node = p->pages[node].younger) {
        n = list_path(p, node, out, n);
    }
    for (uint32_t page = 0; page < p->n_pages; page++) {
        if (pages_is_node(p, page)) {
            n = list_path(p, page, out, n);
        }
    }
    return n;
}

bool pages_begin_write(struct pages *p, uint32_t node, uint32_t *parent, const int32_t **tokens) {
    unsigned char mark = MARK_TO_WRITE;
    if (!atomic_compare_exchange_strong_explicit(&p->pages[node].mark, &mark, MARK_WRITING, memory_order_acquire,
                                                 memory_order_relaxed)) {
        return false;
    }
    *parent = p->pages[node].parent;
    *tokens = p->tokens[node];
    return true;
}

void pages_end_write(struct pages *p, uint32_t node) {
    atomic_store_explicit(&p->pages[node].mark, MARK_NONE, memory_order_release);
}

void pages_unmark(struct pages *p) {
    for (uint32_t i = 0; i < p->n_pages; i++) {
        (void)take_mark_off(&p->pages[i]);
    }
}
