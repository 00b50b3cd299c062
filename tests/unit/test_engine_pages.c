/*
 * KV pages and the prefix tree against a model of them that keeps nothing but plain lists: it searches for everything,
 * every time. Then with a writing thread beside. `--seed N` repeats one run of the model, `--bench` measures.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/pages.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t rnd(uint64_t *state, uint32_t n) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % n;
}

/* Few kinds of pages, so that paths meet often. They differ in one token only, the first, one in the middle or the
 * last, so that a comparison that stops early is found out. */
enum { N_VARIANTS = 5 };

static void fill_tokens(uint32_t variant, int32_t tokens[KV_PAGE_TOKENS]) {
    static const uint8_t at[N_VARIANTS] = {0, 0, 31, KV_PAGE_TOKENS - 1, KV_PAGE_TOKENS - 1};
    for (uint32_t i = 0; i < KV_PAGE_TOKENS; i++) {
        tokens[i] = 7;
    }
    tokens[at[variant]] = 100 + (int32_t)variant;
}

/* ---- The model ---------------------------------------------------------------------------------------------- */

enum { MAX_PAGES = 320, MAX_HOLDERS = 12 };
enum kind { FREE, PRIVATE, NODE };
enum mark { NONE, TO_WRITE, WRITING };

struct model {
    struct pages *real;
    uint32_t n_pages, cached_max;
    struct {
        enum kind kind;
        enum mark mark;
        uint32_t parent, variant;
        uint64_t last_use;
    } page[MAX_PAGES];
    uint32_t holder[MAX_HOLDERS]; /* the nodes they hold */
    uint32_t n_holders;
    uint64_t now;
    uint32_t list[MAX_PAGES], n_list, at_list; /* being saved */
    /* for messages */
    uint64_t seed, random;
    uint32_t step;
};

#define CHECK(m, condition)                                                                                            \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fail_msg("--seed %llu, step %u: " #condition, (unsigned long long)(m)->seed, (m)->step);                   \
        }                                                                                                              \
    } while (0)

static bool on_path(const struct model *m, uint32_t node, uint32_t end) {
    for (; end != PAGE_NONE; end = m->page[end].parent) {
        if (end == node) {
            return true;
        }
    }
    return false;
}

static bool is_held(const struct model *m, uint32_t node) {
    for (uint32_t i = 0; i < m->n_holders; i++) {
        if (on_path(m, node, m->holder[i])) {
            return true;
        }
    }
    return false;
}

static bool is_leaf(const struct model *m, uint32_t node) {
    for (uint32_t i = 0; i < m->n_pages; i++) {
        if (m->page[i].kind == NODE && m->page[i].parent == node) {
            return false;
        }
    }
    return true;
}

static uint32_t model_child(const struct model *m, uint32_t parent, uint32_t variant) {
    for (uint32_t i = 0; i < m->n_pages; i++) {
        if (m->page[i].kind == NODE && m->page[i].parent == parent && m->page[i].variant == variant) {
            return i;
        }
    }
    return PAGE_NONE;
}

static uint32_t count_kind(const struct model *m, enum kind kind) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_pages; i++) {
        n += m->page[i].kind == kind;
    }
    return n;
}

static uint32_t count_cached(const struct model *m) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_pages; i++) {
        n += m->page[i].kind == NODE && !is_held(m, i);
    }
    return n;
}

/* The leaf used longest ago of those that may go. */
static uint32_t model_victim(const struct model *m) {
    uint32_t victim = PAGE_NONE;
    for (uint32_t i = 0; i < m->n_pages; i++) {
        if (m->page[i].kind == NODE && m->page[i].mark != WRITING && !is_held(m, i) && is_leaf(m, i)) {
            CHECK(m, victim == PAGE_NONE || m->page[i].last_use != m->page[victim].last_use);
            if (victim == PAGE_NONE || m->page[i].last_use < m->page[victim].last_use) {
                victim = i;
            }
        }
    }
    return victim;
}

static uint32_t model_give_up(struct model *m) {
    uint32_t victim = model_victim(m);
    if (victim != PAGE_NONE) {
        m->page[victim].kind = FREE;
        m->page[victim].mark = NONE;
    }
    return victim;
}

static uint32_t pick(struct model *m, enum kind kind) {
    uint32_t n = count_kind(m, kind), k = n ? rnd(&m->random, n) : 0;
    for (uint32_t i = 0; i < m->n_pages; i++) {
        if (m->page[i].kind == kind && k-- == 0) {
            return i;
        }
    }
    return PAGE_NONE;
}

/* ---- One random operation on both ---------------------------------------------------------------------------- */

static void op_take(struct model *m) {
    bool any_free = count_kind(m, FREE) > 0, free_only = rnd(&m->random, 4) == 0;
    uint32_t victim = any_free || free_only ? PAGE_NONE : model_give_up(m);
    uint32_t page = free_only ? pages_take_free(m->real) : pages_take(m->real);
    if (!any_free) {
        CHECK(m, page == victim);
    } else {
        CHECK(m, page < m->n_pages && m->page[page].kind == FREE);
    }
    if (page != PAGE_NONE) {
        m->page[page].kind = PRIVATE;
    }
}

static void op_give(struct model *m) {
    uint32_t page = rnd(&m->random, m->n_pages);
    pages_give(m->real, page);
    if (m->page[page].kind == PRIVATE) {
        m->page[page].kind = FREE;
    }
}

static void op_hold(struct model *m) {
    if (m->n_holders < MAX_HOLDERS) {
        uint32_t node = rnd(&m->random, 8) == 0 ? PAGE_NONE : pick(m, NODE);
        pages_hold(m->real, node);
        m->holder[m->n_holders++] = node;
    }
}

static void op_release(struct model *m) {
    if (m->n_holders == 0) {
        return;
    }
    uint32_t i = rnd(&m->random, m->n_holders), end = m->holder[i];
    m->holder[i] = m->holder[--m->n_holders];
    m->now++;
    for (uint32_t node = end; node != PAGE_NONE; node = m->page[node].parent) {
        if (!is_held(m, node)) {
            m->page[node].last_use = m->now;
        }
    }
    while (count_cached(m) > m->cached_max && model_give_up(m) != PAGE_NONE) {
    }
    pages_release(m->real, end);
}

static void op_descend(struct model *m) {
    if (m->n_holders == 0) {
        return;
    }
    uint32_t *holder = &m->holder[rnd(&m->random, m->n_holders)];
    uint32_t child = model_child(m, *holder, rnd(&m->random, N_VARIANTS));
    if (child != PAGE_NONE) {
        pages_descend(m->real, child);
        *holder = child;
    }
}

static void op_insert(struct model *m) {
    uint32_t page = pick(m, PRIVATE), variant = rnd(&m->random, N_VARIANTS);
    if (m->n_holders == 0 || page == PAGE_NONE) {
        return;
    }
    uint32_t *holder = &m->holder[rnd(&m->random, m->n_holders)];
    uint32_t twin = model_child(m, *holder, variant);
    int32_t tokens[KV_PAGE_TOKENS];
    fill_tokens(variant, tokens);
    uint32_t node = pages_insert(m->real, *holder, tokens, page);
    if (twin != PAGE_NONE) {
        CHECK(m, node == twin);
    } else {
        CHECK(m, node == page);
        m->page[page].kind = NODE;
        m->page[page].parent = *holder;
        m->page[page].variant = variant;
        m->page[page].last_use = ++m->now;
    }
    if (rnd(&m->random, 5) > 0) {
        pages_descend(m->real, node);
        *holder = node;
    }
}

static void op_clear(struct model *m) {
    if (rnd(&m->random, 20) == 0) {
        while (model_give_up(m) != PAGE_NONE) {
        }
        pages_clear(m->real);
    }
}

static void op_mark(struct model *m) {
    if (m->n_list > 0) {
        return;
    }
    uint64_t last_use = 0;
    m->n_list = pages_mark(m->real, m->list);
    m->at_list = 0;
    CHECK(m, m->n_list == count_kind(m, NODE));
    for (uint32_t i = 0; i < m->n_list; i++) {
        uint32_t node = m->list[i];
        CHECK(m, node < m->n_pages && m->page[node].kind == NODE && m->page[node].mark == NONE);
        CHECK(m, m->page[node].parent == PAGE_NONE || m->page[m->page[node].parent].mark == TO_WRITE);
        m->page[node].mark = TO_WRITE;
        if (!is_held(m, node) && is_leaf(m, node)) {
            CHECK(m, m->page[node].last_use > last_use);
            last_use = m->page[node].last_use;
        }
    }
}

/* Ends what is being written, or begins with the next of the list. */
static void op_write(struct model *m) {
    for (uint32_t i = 0; i < m->n_pages; i++) {
        if (m->page[i].mark == WRITING) {
            pages_end_write(m->real, i);
            m->page[i].mark = NONE;
            return;
        }
    }
    if (m->at_list < m->n_list) {
        uint32_t node = m->list[m->at_list++], parent;
        const int32_t *tokens;
        bool there = pages_begin_write(m->real, node, &parent, &tokens);
        CHECK(m, there == (m->page[node].mark == TO_WRITE));
        if (there) {
            int32_t want[KV_PAGE_TOKENS];
            fill_tokens(m->page[node].variant, want);
            CHECK(m, parent == m->page[node].parent && memcmp(tokens, want, sizeof want) == 0);
            m->page[node].mark = WRITING;
        }
    } else {
        m->n_list = m->at_list = 0;
    }
}

static void op_unmark(struct model *m) {
    if (m->n_list == 0 || rnd(&m->random, 30) > 0) {
        return;
    }
    pages_unmark(m->real);
    for (uint32_t i = 0; i < m->n_pages; i++) {
        m->page[i].mark = m->page[i].mark == TO_WRITE ? NONE : m->page[i].mark;
    }
    m->at_list = m->n_list; /* the list is over once the write under way has ended */
}

/* Every page is what the model says, every node is found, nothing else is, and the counters agree. */
static void compare(struct model *m) {
    struct pages_count count = pages_count(m->real);
    int32_t tokens[KV_PAGE_TOKENS];
    CHECK(m, count.total == m->n_pages);
    CHECK(m, count.free == count_kind(m, FREE));
    CHECK(m, count.cached == count_cached(m));
    for (uint32_t i = 0; i < m->n_pages; i++) {
        CHECK(m, pages_is_node(m->real, i) == (m->page[i].kind == NODE));
    }
    for (uint32_t i = 0; i <= m->n_pages; i++) {
        uint32_t parent = i == m->n_pages ? PAGE_NONE : i;
        if (parent == PAGE_NONE || m->page[parent].kind == NODE) {
            for (uint32_t variant = 0; variant < N_VARIANTS; variant++) {
                fill_tokens(variant, tokens);
                CHECK(m, pages_child(m->real, parent, tokens) == model_child(m, parent, variant));
            }
        }
    }
}

static void drain(struct model *m) {
    for (m->n_list = 0; count_kind(m, PRIVATE) > 0;) {
        uint32_t page = pick(m, PRIVATE);
        pages_give(m->real, page);
        m->page[page].kind = FREE;
    }
    while (m->n_holders > 0) {
        op_release(m);
    }
    for (uint32_t i = 0; i < m->n_pages; i++) {
        if (m->page[i].mark == WRITING) {
            pages_end_write(m->real, i);
        }
        m->page[i].mark = NONE;
    }
    compare(m);
    /* the order of everything that is left, seen through take */
    for (uint32_t n_free = count_kind(m, FREE); n_free > 0; n_free--) {
        m->page[pages_take_free(m->real)].kind = PRIVATE;
    }
    for (uint32_t victim; (victim = model_give_up(m)) != PAGE_NONE;) {
        CHECK(m, pages_take(m->real) == victim);
        m->page[victim].kind = PRIVATE;
    }
    CHECK(m, pages_take(m->real) == PAGE_NONE);
    CHECK(m, count_kind(m, PRIVATE) == m->n_pages);
}

static void run_model(uint64_t seed, uint32_t n_pages, uint32_t n_steps, uint32_t compare_every) {
    static void (*const ops[])(struct model *) = {op_take,    op_take,    op_take,   op_give,   op_hold,  op_release,
                                                  op_release, op_descend, op_insert, op_insert, op_clear, op_mark,
                                                  op_write,   op_write,   op_unmark, op_insert, op_hold};
    static struct model model;
    struct model *m = &model;
    *m = (struct model){.seed = seed, .random = seed, .n_pages = n_pages};
    rnd(&m->random, 1);
    m->cached_max = rnd(&m->random, 3) == 0 ? rnd(&m->random, n_pages + 1) : n_pages;
    assert_int_equal(pages_create(n_pages, m->cached_max, &m->real, NULL), SLUICE_OK);
    uint64_t allocations = mem_count();
    for (m->step = 0; m->step < n_steps; m->step++) {
        ops[rnd(&m->random, sizeof ops / sizeof ops[0])](m);
        if (m->step % compare_every == 0) {
            compare(m);
        }
    }
    drain(m);
    CHECK(m, mem_count() == allocations);
    pages_free(m->real);
}

static void run_seed(uint64_t seed) {
    if (seed % 20 == 0) { /* deep and wide: a table of many chains */
        run_model(seed, MAX_PAGES - (uint32_t)(seed % 7), 4000, 400);
    } else {
        run_model(seed, 1 + (uint32_t)(seed * 7 % 40), 2000, 1);
    }
}

static void test_model(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        run_seed(seed);
    }
}

/* ---- Single cases ------------------------------------------------------------------------------------------- */

/* Appends a page of this variant to a held path and moves the holder on. */
static uint32_t extend(struct pages *p, uint32_t parent, uint32_t variant) {
    int32_t tokens[KV_PAGE_TOKENS];
    fill_tokens(variant, tokens);
    uint32_t page = pages_take(p);
    assert_int_not_equal(page, PAGE_NONE);
    uint32_t node = pages_insert(p, parent, tokens, page);
    pages_descend(p, node);
    pages_give(p, page); /* ignored if it is the node */
    return node;
}

static void test_no_pages(void **state) {
    (void)state;
    struct pages *p;
    int32_t tokens[KV_PAGE_TOKENS] = {0};
    assert_int_equal(pages_create(0, 0, &p, NULL), SLUICE_OK);
    assert_int_equal(pages_take(p), PAGE_NONE);
    assert_int_equal(pages_child(p, PAGE_NONE, tokens), PAGE_NONE);
    pages_hold(p, PAGE_NONE);
    pages_release(p, PAGE_NONE);
    pages_clear(p);
    assert_int_equal(pages_mark(p, NULL), 0);
    pages_free(p);
    pages_free(NULL);
}

static void test_held_paths_stay(void **state) {
    (void)state;
    struct pages *p;
    uint32_t path[6], node = PAGE_NONE;
    assert_int_equal(pages_create(8, 8, &p, NULL), SLUICE_OK);
    for (uint32_t i = 0; i < 6; i++) {
        path[i] = node = extend(p, node, i % 2);
    }
    pages_hold(p, path[3]);
    pages_release(p, path[5]);
    assert_int_equal(pages_count(p).cached, 2);
    assert_int_equal(pages_count(p).free, 2);
    pages_take(p);
    pages_take(p);
    assert_int_equal(pages_take_free(p), PAGE_NONE);
    assert_int_equal(pages_take(p), path[5]);
    assert_int_equal(pages_take(p), path[4]);
    assert_int_equal(pages_take(p), PAGE_NONE);
    pages_clear(p);
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(pages_is_node(p, path[i]));
    }
    pages_release(p, path[3]);
    assert_int_equal(pages_count(p).cached, 4);
    pages_clear(p);
    assert_int_equal(pages_count(p).cached, 0);
    assert_int_equal(pages_count(p).free, 4);
    pages_free(p);
}

static void test_no_budget_keeps_nothing(void **state) {
    (void)state;
    struct pages *p;
    assert_int_equal(pages_create(4, 0, &p, NULL), SLUICE_OK);
    uint32_t a = extend(p, PAGE_NONE, 0), b = extend(p, a, 0);
    pages_hold(p, a);
    pages_release(p, b);
    assert_false(pages_is_node(p, b));
    assert_true(pages_is_node(p, a));
    pages_release(p, a);
    assert_int_equal(pages_count(p).free, 4);
    pages_free(p);
}

/* A long chat being saved: its last page, and so all of it, cannot give way, but what is younger can. */
static void test_written_nodes_are_passed_over(void **state) {
    (void)state;
    struct pages *p;
    uint32_t list[4], parent;
    const int32_t *tokens;
    assert_int_equal(pages_create(4, 4, &p, NULL), SLUICE_OK);
    uint32_t a = extend(p, PAGE_NONE, 0), b = extend(p, a, 1);
    pages_release(p, b);
    uint32_t c = extend(p, PAGE_NONE, 2), d = extend(p, c, 3);
    pages_release(p, d);
    assert_int_equal(pages_mark(p, list), 4);
    assert_int_equal(list[0], a);
    assert_int_equal(list[1], b);
    assert_int_equal(list[2], c);
    assert_int_equal(list[3], d);
    assert_true(pages_begin_write(p, a, &parent, &tokens));
    assert_int_equal(parent, PAGE_NONE);
    pages_end_write(p, a);
    assert_true(pages_begin_write(p, b, &parent, &tokens));
    assert_int_equal(parent, a);
    assert_false(pages_begin_write(p, b, &parent, &tokens));
    assert_int_equal(pages_take(p), d);
    assert_false(pages_begin_write(p, d, &parent, &tokens));
    assert_true(pages_begin_write(p, c, &parent, &tokens));
    assert_int_equal(pages_take(p), PAGE_NONE);
    pages_clear(p);
    assert_int_equal(pages_count(p).cached, 3);
    pages_end_write(p, b);
    assert_int_equal(pages_take(p), b);
    assert_int_equal(pages_take(p), a);
    assert_int_equal(pages_take(p), PAGE_NONE);
    pages_end_write(p, c);
    assert_int_equal(pages_take(p), c);
    pages_free(p);
}

static void test_allocation_failures(void **state) {
    (void)state;
    sluice_status status = SLUICE_E_NOMEM;
    struct pages *p;
    long n = 0;
    while (status != SLUICE_OK) {
        sluice_error err = {0};
        mem_fail_nth(++n);
        status = pages_create(100, 100, &p, &err);
        mem_fail_nth(0);
        if (status != SLUICE_OK) {
            assert_int_equal(status, SLUICE_E_NOMEM);
            assert_null(p);
            assert_non_null(strstr(err.text, "100 KV pages"));
        }
    }
    assert_int_equal(n, 5); /* four allocations */
    pages_free(p);
}

/* ---- A writing thread beside random operations --------------------------------------------------------------- */

enum { C_PAGES = 64, C_PATHS = 6, C_DEPTH = 8, C_PRIVATE = 20 };
enum phase { IDLE, LISTED, QUIT };

struct beside {
    struct pages *p;
    uint32_t list[C_PAGES], n_list;
    int32_t bytes[C_PAGES]
                 [KV_PAGE_TOKENS]; /* of the pages: plain memory, so that the thread sanitizer sees a page that is
                                             * used for something else while it is being written */
    atomic_int phase;
    uint64_t n_written, n_gone;
    const char *wrong; /* what the writing thread saw; read after its end */
};

static int32_t byte_of(int32_t token) {
    return token * 3 + 1;
}

static void write_list(struct beside *b, uint64_t *random) {
    bool written[C_PAGES] = {false};
    uint32_t stop_at = rnd(random, 4) == 0 ? rnd(random, C_PAGES) : C_PAGES;
    for (uint32_t i = 0; i < b->n_list && i < stop_at; i++) {
        uint32_t node = b->list[i], parent;
        const int32_t *tokens;
        if (!pages_begin_write(b->p, node, &parent, &tokens)) {
            b->n_gone++;
            continue;
        }
        if (parent != PAGE_NONE && !written[parent]) {
            b->wrong = "a node whose parent was not written";
        }
        for (uint32_t round = 0; round < 2; round++) {
            for (uint32_t k = 0; k < KV_PAGE_TOKENS; k++) {
                if (b->bytes[node][k] != byte_of(tokens[k])) {
                    b->wrong = "a page in other use while it was being written";
                }
            }
            if (rnd(random, 2) == 0) {
                sched_yield();
            }
        }
        written[node] = true;
        b->n_written++;
        pages_end_write(b->p, node);
    }
    pages_unmark(b->p);
}

static void *writing_thread(void *arg) {
    struct beside *b = arg;
    uint64_t random = 5;
    for (int phase; (phase = atomic_load(&b->phase)) != QUIT;) {
        struct pages_count count = pages_count(b->p);
        if (count.free + count.cached > count.total) {
            b->wrong = "counters that do not add up";
        }
        if (phase == LISTED) {
            write_list(b, &random);
            int listed = LISTED;
            atomic_compare_exchange_strong(&b->phase, &listed, IDLE);
        } else {
            sched_yield();
        }
    }
    return NULL;
}

struct path {
    uint32_t node[C_DEPTH], variant[C_DEPTH], n;
};

struct beside_engine {
    struct beside *b;
    struct path path[C_PATHS];
    uint32_t private[C_PRIVATE], n_private;
    uint64_t random;
};

static uint32_t path_end(const struct path *path) {
    return path->n ? path->node[path->n - 1] : PAGE_NONE;
}

static void path_add(struct beside_engine *e, struct path *path, uint32_t node, uint32_t variant) {
    pages_descend(e->b->p, node);
    path->variant[path->n] = variant;
    path->node[path->n++] = node;
}

static void beside_take(struct beside_engine *e) {
    uint32_t page = e->n_private < C_PRIVATE ? pages_take(e->b->p) : PAGE_NONE;
    if (page == PAGE_NONE) {
        return;
    }
    for (uint32_t i = 0; i < e->n_private; i++) {
        assert_int_not_equal(e->private[i], page);
    }
    for (uint32_t i = 0; i < C_PATHS; i++) {
        for (uint32_t k = 0; k < e->path[i].n; k++) {
            assert_int_not_equal(e->path[i].node[k], page);
        }
    }
    memset(e->b->bytes[page], 0xee, sizeof e->b->bytes[page]);
    e->private[e->n_private++] = page;
}

static void beside_insert(struct beside_engine *e, struct path *path) {
    if (e->n_private == 0 || path->n == C_DEPTH) {
        return;
    }
    int32_t tokens[KV_PAGE_TOKENS];
    uint32_t page = e->private[e->n_private - 1], variant = rnd(&e->random, N_VARIANTS);
    fill_tokens(variant, tokens);
    for (uint32_t k = 0; k < KV_PAGE_TOKENS; k++) {
        e->b->bytes[page][k] = byte_of(tokens[k]);
    }
    uint32_t node = pages_insert(e->b->p, path_end(path), tokens, page);
    e->n_private -= node == page;
    path_add(e, path, node, variant);
}

static void beside_match(struct beside_engine *e, struct path *path) {
    int32_t tokens[KV_PAGE_TOKENS];
    uint32_t variant = rnd(&e->random, N_VARIANTS);
    fill_tokens(variant, tokens);
    uint32_t node = path->n < C_DEPTH ? pages_child(e->b->p, path_end(path), tokens) : PAGE_NONE;
    if (node != PAGE_NONE) {
        path_add(e, path, node, variant);
    }
}

static void beside_check(struct beside_engine *e) {
    bool held[C_PAGES] = {false};
    uint32_t n_held = 0;
    for (uint32_t i = 0; i < C_PATHS; i++) {
        uint32_t parent = PAGE_NONE;
        for (uint32_t k = 0; k < e->path[i].n; k++) {
            int32_t tokens[KV_PAGE_TOKENS];
            uint32_t node = e->path[i].node[k];
            fill_tokens(e->path[i].variant[k], tokens);
            assert_int_equal(pages_child(e->b->p, parent, tokens), node);
            n_held += !held[node];
            held[node] = true;
            parent = node;
        }
    }
    struct pages_count count = pages_count(e->b->p);
    assert_int_equal(count.free + count.cached + e->n_private + n_held, C_PAGES);
}

static void beside_step(struct beside_engine *e) {
    struct path *path = &e->path[rnd(&e->random, C_PATHS)];
    switch (rnd(&e->random, 12)) {
    case 0:
    case 1:
    case 2:
        beside_take(e);
        break;
    case 3:
        if (e->n_private > 0) {
            pages_give(e->b->p, e->private[--e->n_private]);
        }
        break;
    case 4:
        pages_release(e->b->p, path_end(path));
        path->n = 0;
        break;
    case 5:
        beside_match(e, path);
        break;
    case 6:
        beside_check(e);
        break;
    case 7:
        if (rnd(&e->random, 50) == 0) {
            pages_clear(e->b->p);
        }
        break;
    case 8:
        if (atomic_load(&e->b->phase) == IDLE) {
            e->b->n_list = pages_mark(e->b->p, e->b->list);
            atomic_store(&e->b->phase, LISTED);
        }
        break;
    default:
        beside_insert(e, path);
    }
}

static void test_writing_thread(void **state) {
    (void)state;
    static struct beside b;
    struct beside_engine e = {.b = &b, .random = 3};
    pthread_t thread;
    assert_int_equal(pages_create(C_PAGES, C_PAGES - 8, &b.p, NULL), SLUICE_OK);
    assert_int_equal(pthread_create(&thread, NULL, writing_thread, &b), 0);
    for (uint32_t i = 0; i < 400000; i++) {
        beside_step(&e);
        if (i % 64 == 0) {
            sched_yield();
        }
    }
    for (uint32_t i = 0; i < C_PATHS; i++) {
        pages_release(b.p, path_end(&e.path[i]));
    }
    atomic_store(&b.phase, QUIT);
    pthread_join(thread, NULL);
    if (b.wrong) {
        fail_msg("the writing thread saw %s", b.wrong);
    }
    assert_true(b.n_written > 0 && b.n_gone > 0);
    pages_clear(b.p);
    assert_int_equal(pages_count(b.p).free, C_PAGES - e.n_private);
    pages_free(b.p);
}

/* ---- `test_engine_pages --bench`: nanoseconds per call, 2048 pages in paths of 32 ------------------------------ */

enum { B_PAGES = 2048, B_DEPTH = 32 };

static double bench_best[8];

static void bench_add(uint32_t what, uint64_t start, uint32_t n) {
    double ns = (double)(clock_ns() - start) / n;
    bench_best[what] = bench_best[what] == 0 || ns < bench_best[what] ? ns : bench_best[what];
}

static void bench_round(int32_t (*tokens)[KV_PAGE_TOKENS], uint32_t *node) {
    struct pages *p;
    uint32_t found = 0;
    assert_int_equal(pages_create(B_PAGES, B_PAGES, &p, NULL), SLUICE_OK);
    for (uint32_t evicting = 0; evicting < 2; evicting++) {
        uint64_t start = clock_ns();
        for (uint32_t i = 0; i < B_PAGES; i++) {
            node[i] = pages_take(p);
        }
        bench_add(evicting, start, B_PAGES);
        start = clock_ns();
        for (uint32_t i = 0; i < B_PAGES; i++) {
            pages_insert(p, i % B_DEPTH ? node[i - 1] : PAGE_NONE, tokens[i], node[i]);
            pages_descend(p, node[i]);
        }
        bench_add(2, start, B_PAGES);
        for (uint32_t round = 0; round < 2; round++) {
            start = clock_ns();
            for (uint32_t i = B_DEPTH; i <= B_PAGES; i += B_DEPTH) {
                pages_release(p, node[i - 1]);
            }
            bench_add(3, start, B_PAGES);
            start = clock_ns();
            for (uint32_t i = B_DEPTH; i <= B_PAGES && round == 0; i += B_DEPTH) {
                pages_hold(p, node[i - 1]);
            }
            if (round == 0) {
                bench_add(4, start, B_PAGES);
            }
        }
        start = clock_ns();
        for (uint32_t i = 0; i < B_PAGES; i++) {
            found += pages_child(p, i % B_DEPTH ? node[i - 1] : PAGE_NONE, tokens[i]) == node[i];
        }
        bench_add(5, start, B_PAGES);
        start = clock_ns();
        for (uint32_t i = 0; i < B_PAGES; i++) {
            found += pages_child(p, node[i], tokens[i]) != PAGE_NONE;
        }
        bench_add(6, start, B_PAGES);
        start = clock_ns();
        (void)pages_mark(p, node);
        bench_add(7, start, B_PAGES);
    }
    assert_int_equal(found, 2 * B_PAGES);
    pages_free(p);
}

static int run_benches(void) {
    static const char *const names[] = {"take, a free one",     "take, giving up the oldest",
                                        "insert and descend",   "release, per page of 32",
                                        "hold, per page of 32", "child, found",
                                        "child, not there",     "mark, per node"};
    static int32_t tokens[B_PAGES][KV_PAGE_TOKENS];
    static uint32_t node[B_PAGES];
    uint64_t random = 1;
    for (uint32_t i = 0; i < B_PAGES * KV_PAGE_TOKENS; i++) {
        tokens[i / KV_PAGE_TOKENS][i % KV_PAGE_TOKENS] = (int32_t)rnd(&random, 65536);
    }
    for (int round = 0; round < 50; round++) {
        bench_round(tokens, node);
    }
    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        printf("%-28s %6.1f ns\n", names[i], bench_best[i]);
    }
    return 0;
}

static uint64_t seed_asked;

static void test_seed(void **state) {
    (void)state;
    run_seed(seed_asked);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        return run_benches();
    }
    if (argc > 2 && strcmp(argv[1], "--seed") == 0) {
        const struct CMUnitTest one[] = {cmocka_unit_test(test_seed)};
        seed_asked = strtoull(argv[2], NULL, 10);
        return cmocka_run_group_tests(one, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_no_pages),
        cmocka_unit_test(test_held_paths_stay),
        cmocka_unit_test(test_no_budget_keeps_nothing),
        cmocka_unit_test(test_written_nodes_are_passed_over),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_writing_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
