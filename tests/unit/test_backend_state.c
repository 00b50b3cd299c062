/*
 * State at the seam: however a sequence reaches a position (token by token, in chunks, in company, resumed in another
 * slot, through pages that went out and came in elsewhere, after drafts that were taken back), its logits have the same
 * bits.
 * Walks are random; SLUICE_SEED=N repeats one, SLUICE_ROUNDS=N makes it longer.
 */
#include "backend/backend.h"
#include "backend/cpu/kernels.h"
#include "base/mem.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    N_STREAMS = 2,
    N_TOKENS = 210, /* three full pages and a bit */
    N_SHARED = 150, /* tokens that all streams begin with: two full pages and a bit */
    N_TABLE = (N_TOKENS + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS,
    N_SEQUENCES = 4,
    N_SLOTS = 5,
    N_PAGES = N_SEQUENCES * N_TABLE + 3,
    STEP_TOKENS = 300,
    STEP_DRAFTS = 90,
    GUARD = 64,
};

static uint64_t next_random(uint64_t *seed) {
    uint64_t x = *seed += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static uint32_t below(uint64_t *seed, uint32_t n) {
    return (uint32_t)(next_random(seed) % n);
}

static uint64_t from_env(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* What is true of a model on one backend, however it is computed. */
struct truth {
    const struct model *m;
    const struct backend_ops *ops;
    int32_t tokens[N_STREAMS][N_TOKENS];
    float *logits;                   /* [N_STREAMS][N_TOKENS][n_vocab] */
    char *pages[N_STREAMS][N_TABLE]; /* as first saved, or NULL */
    size_t page_bytes;
};

/* Whether the machine has what the backend needs; says so if not. */
static bool runs_here(const struct backend_ops *ops) {
    sluice_error err = {0};
    bool runs = ops->probe(&err) == SLUICE_OK;
    if (!runs) {
        printf("skipped: backend %s (%s)\n", ops->name, err.text);
    }
    return runs;
}

static float *true_logits(const struct truth *t, uint32_t stream, uint32_t pos) {
    return t->logits + ((size_t)stream * N_TOKENS + pos) * t->m->n_vocab;
}

static struct backend *open_backend(const struct truth *t, const char *isa, uint32_t threads) {
    struct backend_options options = {.n_threads = threads,
                                      .n_slots = N_SLOTS,
                                      .n_pages = N_PAGES,
                                      .step_tokens_max = STEP_TOKENS,
                                      .step_outputs_max = STEP_TOKENS,
                                      .step_drafts_max = STEP_DRAFTS};
    struct backend *b = NULL;
    sluice_error err = {0};
    if (isa) {
        setenv("SLUICE_CPU", isa, 1);
    }
    sluice_status status = t->ops->open(t->m, &options, &b, &err);
    unsetenv("SLUICE_CPU");
    if (status != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    return b;
}

static void ok(sluice_status status, const sluice_error *err) {
    if (status != SLUICE_OK) {
        fail_msg("%s", err->text);
    }
}

static const float *run_rows(struct backend *b, const struct backend_row *rows, uint32_t n, uint32_t n_logits) {
    sluice_error err = {0};
    struct backend_output out = {0};
    ok(b->ops->submit(b, &(struct backend_step){.rows = rows, .n_rows = n}, &err), &err);
    ok(b->ops->wait(b, &out, &err), &err);
    assert_int_equal(out.n_logits, n_logits);
    assert_int_equal(out.n_samples, 0);
    return out.logits;
}

/* Plain: one token per step, alone, one thread, the best ISA. */
static void make_truth(struct truth *t, const struct model *m, const struct backend_ops *ops, uint64_t seed) {
    memset(t, 0, sizeof *t);
    t->m = m;
    t->ops = ops;
    t->logits = calloc((size_t)N_STREAMS * N_TOKENS * m->n_vocab, sizeof(float));
    assert_non_null(t->logits);
    struct backend *b = open_backend(t, NULL, 1);
    t->page_bytes = ops->caps(b)->page_bytes;
    const uint32_t pages[N_TABLE] = {3, 2, 0, 1};
    for (uint32_t s = 0; s < N_STREAMS; s++) {
        for (uint32_t i = 0; i < N_TOKENS; i++) {
            t->tokens[s][i] = s > 0 && i < N_SHARED ? t->tokens[0][i] : (int32_t)below(&seed, m->n_vocab);
            struct backend_row row = {
                .slot = 1, .first_pos = i, .n_tokens = 1, .tokens = &t->tokens[s][i], .pages = pages, .n_outputs = 1};
            memcpy(true_logits(t, s, i), run_rows(b, &row, 1, 1), m->n_vocab * sizeof(float));
        }
    }
    ops->close(b);
}

static void free_truth(struct truth *t) {
    free(t->logits);
    for (uint32_t s = 0; s < N_STREAMS; s++) {
        for (uint32_t p = 0; p < N_TABLE; p++) {
            free(t->pages[s][p]);
        }
    }
}

/* ---- A random walk of several sequences over two instances */

struct device {
    struct backend *b;
    uint32_t refs[N_PAGES];
    bool slot_taken[N_SLOTS];
};

struct sequence {
    struct device *dev;
    uint32_t stream, slot, pos;
    bool resume;
    uint32_t pages[N_TABLE], n_pages;
    /* its row of the step under way */
    uint32_t n, n_drafts, n_right, n_outputs;
    int32_t tokens[N_TOKENS];
    uint32_t table[N_TABLE];
};

struct walk {
    struct truth *t;
    uint64_t seed;
    struct device dev[2];
    struct sequence seq[N_SEQUENCES];
    uint32_t resumes, moves, adoptions, rewinds, joint_rewinds, unfilled, compared;
};

static uint32_t take_page(struct walk *w, struct device *dev) {
    uint32_t from = below(&w->seed, N_PAGES);
    for (uint32_t i = 0; i < N_PAGES; i++) {
        uint32_t page = (from + i) % N_PAGES;
        if (dev->refs[page] == 0) {
            dev->refs[page] = 1;
            return page;
        }
    }
    fail_msg("no page left");
    return 0;
}

static void drop_pages(struct sequence *s, uint32_t n_kept) {
    while (s->n_pages > n_kept) {
        s->dev->refs[s->pages[--s->n_pages]]--;
    }
}

static void take_slot(struct walk *w, struct sequence *s, struct device *dev) {
    uint32_t slot;
    do {
        slot = below(&w->seed, N_SLOTS);
    } while (dev->slot_taken[slot]);
    dev->slot_taken[slot] = true;
    s->dev = dev;
    s->slot = slot;
}

/* Goes on after n full pages, which the table now holds, in any slot. */
static void begin_after(struct walk *w, struct sequence *s, struct device *dev, uint32_t n) {
    take_slot(w, s, dev);
    s->pos = n * KV_PAGE_TOKENS;
    s->resume = n > 0;
}

static void leave_slot(struct sequence *s) {
    s->dev->slot_taken[s->slot] = false;
}

static void restart(struct walk *w, struct sequence *s) {
    leave_slot(s);
    drop_pages(s, 0);
    s->stream = below(&w->seed, N_STREAMS);
    begin_after(w, s, s->dev, 0);
}

/* To another slot, back to any full page. */
static void switch_slot(struct walk *w, struct sequence *s) {
    uint32_t n = 1 + below(&w->seed, s->pos / KV_PAGE_TOKENS);
    leave_slot(s);
    drop_pages(s, n);
    begin_after(w, s, s->dev, n);
}

static void save_page(struct truth *t, const struct sequence *s, uint32_t i, char *bytes) {
    sluice_error err = {0};
    memset(bytes, 0x5a, t->page_bytes + GUARD);
    ok(t->ops->page_save(s->dev->b, s->pages[i], bytes, &err), &err);
    for (uint32_t k = 0; k < GUARD; k++) {
        assert_int_equal(bytes[t->page_bytes + k], 0x5a);
    }
    uint32_t stream = (i + 1) * KV_PAGE_TOKENS <= N_SHARED ? 0 : s->stream;
    char **first = &t->pages[stream][i];
    if (!*first) {
        *first = malloc(t->page_bytes);
        memcpy(*first, bytes, t->page_bytes);
    }
    if (memcmp(*first, bytes, t->page_bytes) != 0) {
        fail_msg("page %u of stream %u was saved with other bytes before", i, s->stream);
    }
}

/* To any slot of either instance, through pages outside. */
static void move(struct walk *w, struct sequence *s) {
    uint32_t n = 1 + below(&w->seed, s->pos / KV_PAGE_TOKENS);
    struct device *to = &w->dev[below(&w->seed, 2)];
    uint32_t pages[N_TABLE];
    char *bytes = malloc(w->t->page_bytes + GUARD);
    for (uint32_t i = 0; i < n; i++) {
        sluice_error err = {0};
        save_page(w->t, s, i, bytes);
        pages[i] = take_page(w, to);
        ok(w->t->ops->page_load(to->b, pages[i], bytes, &err), &err);
        memset(bytes, 0, w->t->page_bytes);
    }
    free(bytes);
    leave_slot(s);
    drop_pages(s, 0);
    memcpy(s->pages, pages, sizeof pages);
    s->n_pages = n;
    begin_after(w, s, to, n);
    w->moves++;
}

/* Begins again with pages that another sequence computed. */
static void adopt(struct walk *w, struct sequence *s, const struct sequence *from) {
    uint32_t most = from->pos / KV_PAGE_TOKENS;
    if (from->stream != s->stream && most > N_SHARED / KV_PAGE_TOKENS) {
        most = N_SHARED / KV_PAGE_TOKENS;
    }
    if (from == s || most == 0) {
        return;
    }
    uint32_t n = 1 + below(&w->seed, most);
    leave_slot(s);
    for (uint32_t i = 0; i < n; i++) {
        from->dev->refs[from->pages[i]]++;
    }
    drop_pages(s, 0);
    memcpy(s->pages, from->pages, n * sizeof s->pages[0]);
    s->n_pages = n;
    begin_after(w, s, from->dev, n);
    w->adoptions++;
}

/* Makes the sequence's row; budget and drafts: what the step still has room for. */
static void plan_row(struct walk *w, struct sequence *s, uint32_t budget, uint32_t drafts, struct backend_row *row) {
    const int32_t *right = w->t->tokens[s->stream];
    uint32_t left = N_TOKENS - s->pos;
    const uint32_t sizes[] = {1, 1, 9, 80, 130};
    uint32_t n = 1 + below(&w->seed, sizes[below(&w->seed, 5)]);
    n = n < left ? n : left;
    s->n = n < budget ? n : budget;
    uint32_t most = s->n - 1 < drafts ? s->n - 1 : drafts;
    s->n_drafts = most && below(&w->seed, 3) ? 1 + below(&w->seed, most) : 0;
    s->n_right = below(&w->seed, s->n_drafts + 1);
    s->n_outputs = s->n_drafts && below(&w->seed, 4) ? s->n_drafts + 1 : below(&w->seed, s->n + 1);
    memcpy(s->tokens, right + s->pos, s->n * sizeof right[0]);
    for (uint32_t i = s->n - s->n_drafts + s->n_right; i < s->n; i++) {
        uint32_t other = 1 + below(&w->seed, w->t->m->n_vocab - 1);
        s->tokens[i] = (int32_t)(((uint32_t)s->tokens[i] + other) % w->t->m->n_vocab);
    }
    while (s->n_pages * KV_PAGE_TOKENS < s->pos + s->n) {
        s->pages[s->n_pages++] = take_page(w, s->dev);
    }
    memcpy(s->table, s->pages, sizeof s->pages);
    *row = (struct backend_row){.slot = s->slot,
                                .first_pos = s->pos,
                                .n_tokens = s->n,
                                .tokens = s->tokens,
                                .pages = s->table,
                                .resume = s->resume,
                                .generated = s->n_drafts > 0,
                                .n_drafts = s->n_drafts,
                                .n_outputs = s->n_outputs};
}

/* The row's logits against the truth, as far as its tokens are right; then the sequence stands after what it keeps. */
static void judge_row(struct walk *w, struct sequence *s, const float *logits) {
    uint32_t n_vocab = w->t->m->n_vocab;
    uint32_t sure = s->n - s->n_drafts;
    for (uint32_t i = s->n - s->n_outputs; i < sure + s->n_right; i++) {
        const float *got = logits + (size_t)(i - (s->n - s->n_outputs)) * n_vocab;
        if (memcmp(got, true_logits(w->t, s->stream, s->pos + i), n_vocab * sizeof(float)) != 0) {
            fail_msg("stream %u, position %u (token %u of %u, %u drafts, %s): logits differ from those of plain steps",
                     s->stream, s->pos + i, i, s->n, s->n_drafts, s->resume ? "resumed" : "going on");
        }
        w->compared++;
    }
    w->resumes += s->resume;
    s->resume = false;
    uint32_t kept = below(&w->seed, 4) ? s->n_right : below(&w->seed, s->n_right + 1);
    if (kept < s->n_drafts) {
        sluice_error err = {0};
        ok(w->t->ops->rewind(s->dev->b, s->slot, kept, &err), &err);
        w->rewinds++;
        w->unfilled += (s->pos + sure + kept) / KV_PAGE_TOKENS < (s->pos + s->n) / KV_PAGE_TOKENS;
    }
    s->pos += sure + kept;
    if (below(&w->seed, 2)) {
        drop_pages(s, (s->pos + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS);
    }
}

static void step(struct walk *w, struct device *dev) {
    struct sequence *in[N_SEQUENCES];
    struct backend_row rows[N_SEQUENCES];
    uint32_t n = 0;
    uint32_t budget = below(&w->seed, 3) ? STEP_TOKENS : N_SEQUENCES;
    uint32_t drafts = STEP_DRAFTS;
    uint32_t n_logits = 0;
    for (uint32_t i = 0; i < N_SEQUENCES; i++) {
        struct sequence *s = &w->seq[i];
        if (s->dev == dev && s->pos < N_TOKENS && budget > 0 && below(&w->seed, 4)) {
            plan_row(w, s, budget, drafts, &rows[n]);
            in[n++] = s;
            budget -= s->n;
            drafts -= s->n_drafts;
            n_logits += s->n_outputs;
        }
    }
    sluice_error err = {0};
    struct backend_output out = {0};
    struct backend_step made = {.rows = rows, .n_rows = n};
    ok(w->t->ops->submit(dev->b, &made, &err), &err);
    memset(rows, 0xff, sizeof rows); /* submit has taken what it needs */
    memset(&made, 0xff, sizeof made);
    for (uint32_t i = 0; i < n; i++) {
        memset(in[i]->tokens, 0xff, sizeof in[i]->tokens);
        memset(in[i]->table, 0xff, sizeof in[i]->table);
    }
    ok(w->t->ops->wait(dev->b, &out, &err), &err);
    assert_int_equal(out.n_logits, n_logits);
    uint32_t before = w->rewinds;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t n_outputs = in[i]->n_outputs;
        judge_row(w, in[i], out.logits);
        out.logits += (size_t)n_outputs * w->t->m->n_vocab;
    }
    w->joint_rewinds += w->rewinds > before + 1;
}

static void disturb(struct walk *w, struct sequence *s) {
    uint32_t what = below(&w->seed, 16);
    if (s->pos == N_TOKENS && what > 3) {
        restart(w, s);
    } else if (what == 0) {
        adopt(w, s, &w->seq[below(&w->seed, N_SEQUENCES)]);
    } else if (s->pos >= KV_PAGE_TOKENS && what <= 2) {
        switch_slot(w, s);
    } else if (s->pos >= KV_PAGE_TOKENS && what == 3) {
        move(w, s);
    } else if (what == 4 && below(&w->seed, 4) == 0) {
        restart(w, s);
    }
}

static struct walk walk(struct truth *t, const char *isa[2], const uint32_t threads[2], uint32_t rounds,
                        uint64_t seed) {
    struct walk w = {.t = t, .seed = seed};
    printf("  %s %s, %u threads with %s, %u: seed %llu", t->ops->name, isa[0] ? isa[0] : "", threads[0],
           isa[1] ? isa[1] : "", threads[1], (unsigned long long)seed);
    fflush(stdout);
    for (uint32_t i = 0; i < 2; i++) {
        w.dev[i].b = open_backend(t, isa[i], threads[i]);
    }
    for (uint32_t i = 0; i < N_SEQUENCES; i++) {
        w.seq[i].stream = below(&w.seed, N_STREAMS);
        begin_after(&w, &w.seq[i], &w.dev[below(&w.seed, 2)], 0);
    }
    for (uint32_t r = 0; r < rounds; r++) {
        step(&w, &w.dev[0]);
        step(&w, &w.dev[1]);
        for (uint32_t i = 0; i < N_SEQUENCES; i++) {
            disturb(&w, &w.seq[i]);
        }
    }
    printf(", %u logit rows, %u resumes, %u moves, %u adoptions, %u rewinds (%u in company, %u out of a full page)\n",
           w.compared, w.resumes, w.moves, w.adoptions, w.rewinds, w.joint_rewinds, w.unfilled);
    t->ops->close(w.dev[0].b);
    t->ops->close(w.dev[1].b);
    return w;
}

static void add_counts(struct walk *sum, const struct walk *w) {
    sum->resumes += w->resumes;
    sum->moves += w->moves;
    sum->adoptions += w->adoptions;
    sum->joint_rewinds += w->joint_rewinds;
    sum->unfilled += w->unfilled;
}

/* The default walks meet every case; a chosen one need not. */
static void check_counts(const struct walk *sum) {
    if (getenv("SLUICE_SEED") || getenv("SLUICE_ROUNDS")) {
        return;
    }
    assert_true(sum->resumes > 0 && sum->moves > 0 && sum->adoptions > 0);
    assert_true(sum->joint_rewinds > 0 && sum->unfilled > 0);
}

static struct model *load(const char *name) {
    char path[1024];
    snprintf(path, sizeof path, TEST_DATA "/golden/peer/%s.gguf", name);
    struct model *m;
    sluice_error err = {0};
    ok(model_load(path, &m, &err), &err);
    printf("%s\n", name);
    return m;
}

static const char *const model_names[] = {"moe-Q4_K_M", "dense-Q8_0"};

static void test_cpu_walks(void **state) {
    (void)state;
    const char *isas[4];
    uint32_t n_isas = 0;
    const char *const names[] = {"ref", "avx2", "avx512", "amx"};
    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (kernels_by_name(names[i])) {
            isas[n_isas++] = names[i];
        }
    }
    uint64_t seed = from_env("SLUICE_SEED", 1);
    uint32_t rounds = (uint32_t)from_env("SLUICE_ROUNDS", 24);
    for (uint32_t k = 0; k < 2; k++) {
        struct model *m = load(model_names[k]);
        struct truth t;
        struct walk sum = {0};
        make_truth(&t, m, &backend_cpu_ops, seed);
        for (uint32_t i = 0; i < n_isas * 3; i++) {
            const char *isa[2] = {isas[i / 3], isas[(i / 3 + i) % n_isas]};
            const uint32_t threads[2] = {1 + i % 3, 1 + (i + i / 3) % 3};
            struct walk w = walk(&t, isa, threads, rounds, seed + 100 * i + 1000 * k);
            add_counts(&sum, &w);
        }
        check_counts(&sum);
        free_truth(&t);
        model_free(m);
    }
}

#if SLUICE_WITH_CUDA
static void test_cuda_walks(void **state) {
    (void)state;
    if (!runs_here(&backend_cuda_ops)) {
        return;
    }
    uint64_t seed = from_env("SLUICE_SEED", 1);
    uint32_t rounds = (uint32_t)from_env("SLUICE_ROUNDS", 24);
    for (uint32_t k = 0; k < 2; k++) {
        struct model *m = load(model_names[k]);
        struct truth t;
        struct walk sum = {0};
        make_truth(&t, m, &backend_cuda_ops, seed);
        for (uint32_t i = 0; i < 6; i++) {
            struct walk w = walk(&t, (const char *[]){NULL, NULL}, (const uint32_t[]){1, 1}, rounds, seed + 100 * i);
            add_counts(&sum, &w);
        }
        check_counts(&sum);
        free_truth(&t);
        model_free(m);
    }
}
#endif

static void test_ref_walks(void **state) {
    (void)state;
    uint64_t seed = from_env("SLUICE_SEED", 1);
    uint32_t rounds = (uint32_t)from_env("SLUICE_ROUNDS", 18); /* slow */
    struct walk sum = {0};
    for (uint32_t k = 0; k < 2; k++) {
        struct model *m = load(model_names[k]);
        struct truth t;
        make_truth(&t, m, &backend_ref_ops, seed);
        struct walk w = walk(&t, (const char *[]){NULL, NULL}, (const uint32_t[]){1, 1}, rounds, seed + k);
        add_counts(&sum, &w);
        free_truth(&t);
        model_free(m);
    }
    check_counts(&sum);
}

/* ---- Pages go out and in beside steps */

struct porter {
    struct truth *t;
    struct backend *b;
    const char *want; /* page 0 */
    atomic_bool stop;
    uint32_t n, bad;
};

static void *carry_pages(void *arg) {
    struct porter *p = arg;
    char *bytes = malloc(p->t->page_bytes);
    while (!atomic_load(&p->stop) || p->n < 2) {
        p->bad += p->t->ops->page_save(p->b, 0, bytes, NULL) != SLUICE_OK;
        p->bad += memcmp(bytes, p->want, p->t->page_bytes) != 0;
        p->bad += p->t->ops->page_load(p->b, 9, bytes, NULL) != SLUICE_OK;
        p->n++;
    }
    free(bytes);
    return NULL;
}

static void beside_steps(const struct backend_ops *ops, const struct model *m) {
    struct truth t;
    make_truth(&t, m, ops, 5);
    struct backend *b = open_backend(&t, NULL, 2);
    const uint32_t pages[N_TABLE] = {0, 1, 2, 3};
    const uint32_t others[N_TABLE] = {0, 5, 6, 7};
    struct backend_row row = {.slot = 0, .n_tokens = KV_PAGE_TOKENS, .tokens = t.tokens[0], .pages = pages};
    run_rows(b, &row, 1, 0);
    char *want = malloc(t.page_bytes);
    sluice_error err = {0};
    ok(ops->page_save(b, 0, want, &err), &err);
    struct porter porter = {.t = &t, .b = b, .want = want};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, carry_pages, &porter), 0);
    bool equal = true;
    for (uint32_t i = KV_PAGE_TOKENS; i < N_TOKENS; i++) {
        struct backend_row rows[2];
        for (uint32_t s = 0; s < 2; s++) { /* both read page 0 while it is saved */
            rows[s] = (struct backend_row){.slot = s,
                                           .first_pos = i,
                                           .n_tokens = 1,
                                           .tokens = &t.tokens[s][i],
                                           .pages = s ? others : pages,
                                           .resume = s == 1 && i == KV_PAGE_TOKENS,
                                           .n_outputs = 1};
        }
        const float *logits = run_rows(b, rows, 2, 2);
        for (uint32_t s = 0; s < 2; s++) {
            equal &= memcmp(logits + s * (size_t)m->n_vocab, true_logits(&t, s, i), m->n_vocab * sizeof(float)) == 0;
        }
    }
    atomic_store(&porter.stop, true);
    pthread_join(thread, NULL);
    assert_true(equal);
    assert_int_equal(porter.bad, 0);
    free(want);
    ops->close(b);
    free_truth(&t);
}

static void test_pages_beside_steps(void **state) {
    (void)state;
    struct model *m = load(model_names[1]);
    beside_steps(&backend_cpu_ops, m);
    beside_steps(&backend_ref_ops, m);
#if SLUICE_WITH_CUDA
    if (runs_here(&backend_cuda_ops)) {
        beside_steps(&backend_cuda_ops, m);
    }
#endif
    model_free(m);
}

/* ---- Refusals */

static void refused(struct backend *b, const struct backend_row *rows, uint32_t n, sluice_status status,
                    const char *words) {
    sluice_error err = {0};
    assert_int_equal(b->ops->submit(b, &(struct backend_step){.rows = rows, .n_rows = n}, &err), status);
    if (!strstr(err.text, words)) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
    }
}

static void refuse_steps(struct backend *b, const struct model *m) {
    const int32_t tokens[2 * STEP_TOKENS] = {0};
    const int32_t foreign[] = {0, (int32_t)m->n_vocab};
    const uint32_t pages[N_PAGES] = {1, 2, 3, 4, 5};
    const uint32_t no_pages[] = {N_PAGES};
    const struct sample_rules rules = {.greedy = true};
    const struct backend_row good = {.slot = 1, .n_tokens = 4, .tokens = tokens, .pages = pages};
    struct backend_row row;
#define REFUSED(status, words, ...)                                                                                    \
    do {                                                                                                               \
        row = good;                                                                                                    \
        __VA_ARGS__;                                                                                                   \
        refused(b, &row, 1, status, words);                                                                            \
    } while (0)
    REFUSED(SLUICE_E_ARG, "slot 5 of 5", row.slot = N_SLOTS);
    REFUSED(SLUICE_E_ARG, "0 tokens", row.n_tokens = 0);
    REFUSED(SLUICE_E_ARG, "4 drafts", row.n_drafts = 4);
    REFUSED(SLUICE_E_ARG, "5 outputs", row.n_outputs = 5);
    REFUSED(SLUICE_E_ARG, "resumes at position 0", row.resume = true);
    REFUSED(SLUICE_E_ARG, "resumes at position 65", row.resume = true, row.first_pos = 65);
    if (b->ops->caps(b)->samples) {
        REFUSED(SLUICE_E_ARG, "names none of its 4 tokens", row.tokens = NULL);
    } else {
        REFUSED(SLUICE_E_ARG, "gives logits only", row.rules = &rules, row.n_outputs = 1);
        REFUSED(SLUICE_E_ARG, "draws none", row.tokens = NULL, row.n_tokens = 1);
    }
    REFUSED(SLUICE_E_ARG, "outside the vocabulary", row.tokens = foreign, row.n_tokens = 2);
    REFUSED(SLUICE_E_ARG, "names KV page", row.pages = no_pages);
    REFUSED(SLUICE_E_ARG, "beyond the", row.first_pos = N_PAGES * KV_PAGE_TOKENS - 3);
    REFUSED(SLUICE_E_ARG, "beyond the", row.first_pos = UINT32_MAX);
    REFUSED(SLUICE_E_LIMIT, "exceeds", row.n_tokens = STEP_TOKENS + 1);
    REFUSED(SLUICE_E_LIMIT, "exceeds", row.n_tokens = STEP_DRAFTS + 2, row.n_drafts = STEP_DRAFTS + 1);
#undef REFUSED
    refused(b, (const struct backend_row[]){good, good}, 2, SLUICE_E_ARG, "as a row before it");
}

static void refuse_rewinds(struct backend *b) {
    const int32_t tokens[8] = {0};
    const uint32_t pages[] = {0};
    sluice_error err = {0};
    struct backend_row row = {.slot = 2, .n_tokens = 8, .tokens = tokens, .pages = pages, .n_drafts = 3};
    assert_int_equal(b->ops->rewind(b, 2, 0, &err), SLUICE_E_ARG);
    run_rows(b, &row, 1, 0);
    assert_int_equal(b->ops->rewind(b, 2, 4, &err), SLUICE_E_ARG);
    assert_non_null(strstr(err.text, "3 drafts"));
    assert_int_equal(b->ops->rewind(b, 1, 0, &err), SLUICE_E_ARG);
    assert_int_equal(b->ops->rewind(b, UINT32_MAX, 0, &err), SLUICE_E_ARG);
    assert_int_equal(b->ops->rewind(b, 2, 2, &err), SLUICE_OK);
    row = (struct backend_row){.slot = 2, .first_pos = 7, .n_tokens = 1, .tokens = tokens, .pages = pages};
    run_rows(b, &row, 1, 0);
    assert_int_equal(b->ops->rewind(b, 2, 0, &err), SLUICE_E_ARG);
    assert_non_null(strstr(err.text, "no drafts"));
}

static void test_refusals(void **state) {
    (void)state;
    struct model *m = load(model_names[0]);
    for (const struct backend_ops *const *ops = backend_list(); *ops; ops++) {
        if (!runs_here(*ops)) {
            continue;
        }
        struct truth t = {.m = m, .ops = *ops};
        struct backend *b = open_backend(&t, NULL, 2);
        const struct backend_caps *caps = (*ops)->caps(b);
        assert_int_equal(caps->step_drafts_max, STEP_DRAFTS);
        char *bytes = calloc(1, caps->page_bytes);
        refuse_steps(b, m);
        refuse_rewinds(b);
        assert_int_equal((*ops)->page_save(b, N_PAGES, bytes, NULL), SLUICE_E_ARG);
        assert_int_equal((*ops)->page_load(b, N_PAGES, bytes, NULL), SLUICE_E_ARG);
        free(bytes);
        (*ops)->close(b);
    }
    model_free(m);
}

static void test_caps(void **state) {
    (void)state;
    struct model *m = load(model_names[0]);
    for (const struct backend_ops *const *ops = backend_list(); *ops; ops++) {
        if (!runs_here(*ops)) {
            continue;
        }
        struct backend_options options = {.n_threads = 2, .n_slots = 3, .n_pages = 7};
        struct backend *b = NULL;
        sluice_error err = {0};
        ok((*ops)->open(m, &options, &b, &err), &err);
        const struct backend_caps *caps = (*ops)->caps(b);
        bool f32 = *ops == &backend_ref_ops;
        assert_int_equal(caps->page_bytes,
                         model_page_bytes(m) + (f32 ? KV_PAGE_TOKENS * model_kv_bytes_per_token(m) : 0));
        assert_string_equal(caps->page_format, f32 ? "ref-1" : *ops == &backend_cpu_ops ? "cpu-3" : "cuda-1");
        assert_true(caps->kv_bytes >= 7 * caps->page_bytes + 3 * model_conv_state_bytes(m));
        assert_int_equal(caps->step_drafts_max, 0);
        bool samples = strcmp(caps->name, "cuda") == 0;
        assert_int_equal(caps->steps_ahead, samples);
        assert_int_equal(caps->samples, samples);
        assert_true((*ops)->memory() > 0);
        const int32_t tokens[2] = {0};
        const struct backend_row row = {.n_tokens = 2, .tokens = tokens, .pages = (uint32_t[]){0}, .n_drafts = 1};
        refused(b, &row, 1, SLUICE_E_LIMIT, "1 drafts");
        (*ops)->close(b);
    }
    model_free(m);
}

/* Every allocation of open fails once. */
static void test_no_memory(void **state) {
    (void)state;
    struct model *m = load(model_names[1]);
    for (const struct backend_ops *const *ops = backend_list(); *ops; ops++) {
        if (!runs_here(*ops)) {
            continue;
        }
        struct backend_options options = {.n_threads = 2, .n_slots = 2, .n_pages = 4, .step_drafts_max = 8};
        sluice_status status = SLUICE_E_NOMEM;
        for (long n = 1; status != SLUICE_OK; n++) {
            struct backend *b = NULL;
            sluice_error err = {0};
            mem_fail_nth(n);
            status = (*ops)->open(m, &options, &b, &err);
            mem_fail_nth(0);
            if (status == SLUICE_OK) {
                assert_true(n > 1);
                (*ops)->close(b);
            } else {
                assert_int_equal(status, SLUICE_E_NOMEM);
                assert_true(err.text[0] != '\0');
            }
        }
    }
    model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_caps),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_pages_beside_steps),
        cmocka_unit_test(test_cpu_walks),
        cmocka_unit_test(test_ref_walks),
#if SLUICE_WITH_CUDA
        cmocka_unit_test(test_cuda_walks),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
