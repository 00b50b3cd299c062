/*
 * The engine under load on a backend that computes nothing.
 *   test_engine_load            10,000 requests through 64 slots: none lost, none mixed up, memory flat
 *   test_engine_load --bench    what a step costs the engine thread at 64 rows, what sampling adds, the same with more
 *                               requests and a report of memory, and the share of a core that an idle engine takes
 */
#include "unit/engine_fake.h"

#include <sys/eventfd.h>
#include <sys/resource.h>

/* ---- What the null backend says ---- */

/* The only right answer: every token is a hash of all before. */
static bool is_right(const int32_t *prompt, uint32_t n_prompt, const int32_t *answer, uint32_t n) {
    uint64_t state = 0;
    for (uint32_t i = 0; i < n_prompt; i++) {
        state = rig_chain(state, prompt[i], false);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (answer[i] != rig_null_token(state)) {
            return false;
        }
        state = rig_chain(state, answer[i], false);
    }
    return true;
}

/* ---- Readers ----------------------------------------------------------------------------------------------- */

#define GUESTS 96 /* under way at once: more than slots, so that some wait */

struct guest {
    struct reader *reader;
    sluice_request *r; /* NULL: the place is free */
    atomic_bool ready;
    uint32_t n_prompt, n_answer, n;
    int32_t prompt[256], answer[4096];
};

/* One thread that submits requests and reads all of them; on_ready marks the request and wakes the thread once, as a
 * server's does. */
struct reader {
    pthread_t thread;
    sluice_engine *engine;
    uint64_t rnd;
    int event_fd;
    atomic_bool signalled;
    uint32_t n_total, n_sent, n_done, n_wrong, n_guests;
    uint32_t prompt_max, answer_min, answer_max;
    sluice_sampling sampling;
    struct guest guests[GUESTS];
};

static void on_ready(void *ctx) {
    struct guest *g = ctx;
    atomic_store(&g->ready, true);
    if (!atomic_exchange(&g->reader->signalled, true)) {
        uint64_t one = 1;
        (void)!write(g->reader->event_fd, &one, sizeof one);
    }
}

static void send_next(struct reader *d, struct guest *g) {
    g->n = 0;
    g->n_prompt = 1 + rig_below(&d->rnd, d->prompt_max);
    g->n_answer = d->answer_min + rig_below(&d->rnd, d->answer_max - d->answer_min + 1);
    uint32_t shared = rig_below(&d->rnd, 2) ? g->n_prompt * 3 / 4 : 0; /* half of them begin alike */
    for (uint32_t i = 0; i < g->n_prompt; i++) {
        g->prompt[i] = i < shared ? rig_prompt[i] : (int32_t)rig_below(&d->rnd, 95);
    }
    sluice_request_options o = rig_exactly(g->prompt, g->n_prompt, g->n_answer);
    o.sampling = d->sampling;
    o.on_ready = on_ready;
    o.on_ready_ctx = g;
    atomic_store(&g->ready, false);
    d->n_sent++;
    if (sluice_request_submit(d->engine, &o, &g->r, NULL) != SLUICE_OK) {
        d->n_wrong++;
    }
}

static void read_guest(struct reader *d, struct guest *g, bool exact) {
    sluice_event event;
    sluice_event_kind kind;
    while ((kind = sluice_request_poll(g->r, &event)) == SLUICE_EVENT_TOKEN) {
        g->answer[g->n++] = event.token;
    }
    if (kind == SLUICE_EVENT_NONE) {
        return;
    }
    bool right = kind == SLUICE_EVENT_DONE && g->n == g->n_answer &&
                 event.timings.prompt_n + event.timings.cache_n == g->n_prompt &&
                 (!exact || is_right(g->prompt, g->n_prompt, g->answer, g->n));
    d->n_wrong += !right;
    d->n_done++;
    sluice_request_free(g->r);
    g->r = NULL;
}

static void *serve(void *arg) {
    struct reader *d = arg;
    bool exact = rig_fake.mode.samples;
    while (d->n_done < d->n_total) {
        for (uint32_t i = 0; i < d->n_guests; i++) {
            struct guest *g = &d->guests[i];
            if (g->r && atomic_exchange(&g->ready, false)) {
                read_guest(d, g, exact);
            }
            if (!g->r && d->n_sent < d->n_total) {
                send_next(d, g);
            }
        }
        uint64_t count;
        if (d->n_done < d->n_total) {
            (void)!read(d->event_fd, &count, sizeof count);
            atomic_store(&d->signalled, false);
        }
    }
    return NULL;
}

static void start_reader(struct reader *d, sluice_engine *e, uint64_t seed) {
    d->engine = e;
    d->rnd = seed;
    d->event_fd = eventfd(1, 0); /* look once */
    for (uint32_t i = 0; i < GUESTS; i++) {
        d->guests[i].reader = d;
    }
    assert_int_equal(pthread_create(&d->thread, NULL, serve, d), 0);
}

static void end_reader(struct reader *d) {
    pthread_join(d->thread, NULL);
    close(d->event_fd);
    assert_int_equal(d->n_done, d->n_total);
    assert_int_equal(d->n_wrong, 0);
}

static long resident_kib(void) {
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    int got = f ? fscanf(f, "%ld %ld", &pages, &resident) : 0;
    if (f) {
        fclose(f);
    }
    return got == 2 ? resident * (sysconf(_SC_PAGESIZE) / 1024) : 0;
}

/* n requests by two readers. */
static void run_load(sluice_engine *e, uint32_t n, uint64_t seed) {
    struct reader *d[2];
    for (int i = 0; i < 2; i++) {
        d[i] = calloc(1, sizeof **d);
        d[i]->n_total = n / 2;
        d[i]->n_guests = GUESTS / 2;
        d[i]->prompt_max = 200;
        d[i]->answer_min = 1;
        d[i]->answer_max = 60;
        d[i]->sampling = rig_model.info.recommended;
        start_reader(d[i], e, seed + (uint64_t)i);
    }
    for (int i = 0; i < 2; i++) {
        end_reader(d[i]);
        free(d[i]);
    }
}

static void test_ten_thousand(void **state) {
    (void)state;
    rig_fake.mode = (struct rig_mode){.null = true, .samples = true};
    sluice_engine *e = rig_open_shape(64, 256, 512);
    run_load(e, 2000, 1);
    long before = resident_kib();
    uint64_t start = clock_ns();
    run_load(e, 10000, 3);
    double seconds = clock_ms_since(start) / 1000;
    long after = resident_kib();
    sluice_engine_metrics m;
    do {
        sluice_engine_get_metrics(e, &m);
    } while (m.requests_running + m.requests_waiting > 0);
    printf("10,000 requests in %.2f s, resident %ld KiB before and %ld KiB after; %llu of %llu prompt tokens cached\n",
           seconds, before, after, (unsigned long long)m.prompt_tokens_cached,
           (unsigned long long)(m.prompt_tokens_total + m.prompt_tokens_cached));
    assert_int_equal(m.requests_total, 12000);
    assert_int_equal(m.requests_failed + m.requests_cancelled, 0);
    assert_int_equal(m.pages_free + m.pages_cached, m.pages_total);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* those keep what was freed */
    assert_true(after - before < 2048);
#endif
    sluice_engine_free(e);
}

/* ---- --bench ----------------------------------------------------------------------------------------------- */

static uint64_t thread_ns(sluice_engine *e) {
    clockid_t clock;
    struct timespec t;
    assert_int_equal(pthread_getcpuclockid(e->box->thread, &clock), 0);
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct cost {
    double cpu_us, wall_us; /* per step, outside the backend: processor time, and all time */
    double rows;
};

/* 64 requests that generate side by side, read by another thread as they go. */
static struct cost measure(const sluice_engine_options *options, const sluice_sampling *sampling, uint32_t n_tokens) {
    sluice_engine *e = rig_open(options);
    struct reader *d = calloc(1, sizeof *d);
    d->n_guests = d->n_total = 64;
    d->prompt_max = 100;
    d->answer_min = d->answer_max = n_tokens;
    d->sampling = *sampling;
    uint64_t inside_wall = atomic_load(&rig_fake.inside_wall_ns), inside_cpu = atomic_load(&rig_fake.inside_cpu_ns);
    uint64_t rows = atomic_load(&rig_fake.rows), cpu = thread_ns(e), wall = clock_ns();
    start_reader(d, e, 1);
    end_reader(d);
    wall = clock_ns() - wall;
    cpu = thread_ns(e) - cpu;
    sluice_engine_metrics m;
    sluice_engine_get_metrics(e, &m);
    double steps = (double)m.steps_total;
    inside_wall = atomic_load(&rig_fake.inside_wall_ns) - inside_wall;
    inside_cpu = atomic_load(&rig_fake.inside_cpu_ns) - inside_cpu;
    struct cost cost = {.cpu_us = (double)(cpu - inside_cpu) / steps / 1000,
                        .wall_us = (double)(wall - inside_wall) / steps / 1000,
                        .rows = (double)(atomic_load(&rig_fake.rows) - rows) / steps};
    sluice_engine_free(e);
    free(d);
    return cost;
}

/* The least of five runs: other work on the machine only adds. */
static void report(const char *what, const sluice_engine_options *options, const sluice_sampling *sampling,
                   uint32_t n_tokens, double bar_us) {
    struct cost best = {.cpu_us = 1e9, .wall_us = 1e9};
    for (int run = 0; run < 5; run++) {
        struct cost c = measure(options, sampling, n_tokens);
        best.cpu_us = fmin(best.cpu_us, c.cpu_us);
        best.wall_us = fmin(best.wall_us, c.wall_us);
        best.rows = c.rows;
    }
    printf("%-46s %8.1f us CPU %8.1f us wall, %4.1f rows", what, best.cpu_us, best.wall_us, best.rows);
    if (bar_us > 0) {
        printf("  (at most %.0f us: %s)", bar_us, best.cpu_us <= bar_us ? "ok" : "MISSED");
    }
    printf("\n");
}

static void use_vocabulary(uint32_t n_vocab) {
    static struct token_entry *tokens;
    tokens = realloc(tokens, n_vocab * sizeof *tokens);
    for (uint32_t i = 0; i < n_vocab; i++) {
        tokens[i] = rig_tokens[i % 95];
    }
    rig_weights.n_vocab = rig_model.info.n_vocab = n_vocab;
    rig_model.tokens = tokens;
}

static void bench_steps(void) {
    sluice_engine_options o = rig_options(64, 512, 4096);
    sluice_sampling plain = rig_model.info.recommended;
    printf("per step, 64 rows, outside the backend:\n");
    rig_fake.mode = (struct rig_mode){.null = true, .samples = true};
    report("tokens drawn by the backend", &o, &plain, 3000, 50);
    o.draft_max = 0;
    report("the same without drafting", &o, &plain, 3000, 50);
    rig_fake.mode.samples = false;
    o.ctx_per_slot = 1024;
    sluice_sampling greedy = plain,
                    usual = {.temperature = 0.3f, .min_p = 0.15f, .top_p = 1, .repetition_penalty = 1.05f};
    greedy.temperature = 0;
    report("logits of 160 tokens, greedy", &o, &greedy, 900, 0);
    use_vocabulary(65536);
    report("logits of 65,536 tokens, greedy", &o, &greedy, 200, 0);
    report("the same, min-p and penalties", &o, &usual, 200, 0);
    use_vocabulary(RIG_VOCAB);
}

static void bench_idle(void) {
    rig_fake.mode = (struct rig_mode){.null = true, .samples = true};
    sluice_engine *e = rig_open_shape(64, 256, 512);
    run_load(e, 1000, 1);
    usleep(50000);
    uint64_t cpu = thread_ns(e), wall = clock_ns();
    sleep(3);
    cpu = thread_ns(e) - cpu;
    printf("idle: %.4f%% of a core\n", 100.0 * (double)cpu / (double)(clock_ns() - wall));
    sluice_engine_free(e);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        rig_setup(NULL);
        bench_steps();
        test_ten_thousand(NULL);
        bench_idle();
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_ten_thousand, rig_clean)};
    return cmocka_run_group_tests(tests, rig_setup, NULL);
}
