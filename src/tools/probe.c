/* Runs the probe loops on a pool of threads, pass by pass; see probe.h for what is measured. */
#include "tools/probe.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/stats.h"
#include "base/status.h"
#include "base/threads.h"
#include "tools/probe_kernels.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define PASSES_MAX     256
#define PASSES_MIN     6 /* two of each shape of reading */
#define BUFFER_MIN     (1ull << 30)
#define BUFFER_MAX     (4ull << 30)
#define BARRIER_ROUNDS 512

/* ---- The machine */

void probe_cpu_name(char *out, size_t cap) {
    snprintf(out, cap, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "re");
    if (!f) {
        return;
    }
    char line[256];
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            char *name = colon + 1 + strspn(colon + 1, " \t");
            name[strcspn(name, "\n")] = '\0';
            snprintf(out, cap, "%s", name);
            break;
        }
    }
    fclose(f);
}

static bool huge_pages_granted(void) {
    char text[128] = "";
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
    if (f) {
        size_t n = fread(text, 1, sizeof text - 1, f);
        text[n] = '\0';
        fclose(f);
    }
    return strstr(text, "[always]") || strstr(text, "[madvise]");
}

static uint64_t llc_bytes(void) {
    struct caches c;
    caches_read(&c);
    return c.l3 ? c.l3 : c.l2 ? c.l2 : 32ull << 20;
}

/* ---- Passes */

enum job { JOB_READ, JOB_WRITE, JOB_COPY, JOB_BARRIER, JOB_COMPUTE, N_JOBS };

struct share { /* of one thread in one pass; a cache line each */
    uint64_t start_ns, end_ns, done;
    char pad[40];
};

struct passes {
    uint32_t n;
    double rate[PASSES_MAX]; /* GB/s, Gop/s, or ns per barrier */
};

struct team {
    struct pool *pool;
    const struct probe_memory_kernels *memory;
    const struct probe_compute_kernel *compute;
    uint64_t rounds; /* compute: per pass */
    char *buffer;    /* or NULL */
    bool borrowed;   /* to be read only, and somebody else's */
    size_t slice;    /* bytes per thread */
    enum job job;
    uint32_t pass;
    _Atomic uint64_t sink;
    struct share shares[LIMIT_THREADS];
    struct passes result[N_JOBS];
};

/* One thread's part of the pass; returns bytes or operations. */
static uint64_t run_share(struct team *t, uint32_t ith) {
    char *own = t->buffer ? t->buffer + (size_t)ith * t->slice : NULL;
    switch (t->job) {
    case JOB_READ:
        atomic_fetch_xor_explicit(&t->sink, t->memory->read(own, t->slice, (int)(t->pass % PROBE_SHAPES)),
                                  memory_order_relaxed);
        return t->slice;
    case JOB_WRITE:
        t->memory->write(own, t->slice);
        return t->slice;
    case JOB_COPY:
        t->memory->copy(own, own + t->slice / 2, t->slice / 2);
        return t->slice; /* half of it read, half of it written */
    case JOB_BARRIER:
        for (int i = 0; i < BARRIER_ROUNDS; i++) {
            pool_barrier(t->pool);
        }
        return BARRIER_ROUNDS;
    case JOB_COMPUTE:
        return t->compute->run(t->rounds);
    case N_JOBS:
        break;
    }
    return 0;
}

static void pass_main(void *ctx, uint32_t ith, uint32_t nth) {
    struct team *t = ctx;
    struct share *s = &t->shares[ith];
    (void)nth;
    pool_barrier(t->pool);
    s->start_ns = clock_ns();
    s->done = run_share(t, ith);
    s->end_ns = clock_ns();
}

/* The first touch places the pages near the core that will read them. */
static void touch_main(void *ctx, uint32_t ith, uint32_t nth) {
    struct team *t = ctx;
    (void)nth;
    memset(t->buffer + (size_t)ith * t->slice, 1, t->slice);
}

/* One figure for a pass: from the first thread's start to the last thread's end, so that a thread that lost its
 * core makes the pass slower, never faster. */
static double pass_rate(const struct team *t) {
    uint64_t first = UINT64_MAX;
    uint64_t last = 0;
    uint64_t done = 0;
    for (uint32_t i = 0; i < pool_size(t->pool); i++) {
        const struct share *s = &t->shares[i];
        first = s->start_ns < first ? s->start_ns : first;
        last = s->end_ns > last ? s->end_ns : last;
        done += s->done;
    }
    double ns = last > first ? (double)(last - first) : 1;
    return t->job == JOB_BARRIER ? ns / BARRIER_ROUNDS : (double)done / ns;
}

static void run_job(struct team *t, enum job job, double seconds) {
    struct passes *p = &t->result[job];
    uint64_t deadline = clock_ns() + (uint64_t)(seconds * 1e9);
    t->job = job;
    while (p->n < PASSES_MAX && (p->n < PASSES_MIN || clock_ns() < deadline)) {
        t->pass = p->n;
        pool_run(t->pool, pass_main, t);
        p->rate[p->n++] = pass_rate(t);
    }
}

static void team_free(struct team *t) {
    if (t->buffer && !t->borrowed) {
        mem_unmap(t->buffer, t->slice * pool_size(t->pool));
    }
    pool_free(t->pool);
    mem_free(t);
}

static sluice_status team_create(uint32_t n_threads, struct team **out, sluice_error *err) {
    struct team *t = mem_calloc(1, sizeof *t);
    if (!t) {
        return fail(err, SLUICE_E_NOMEM, "probe: out of memory");
    }
    sluice_status status = pool_create(n_threads, &t->pool, err);
    if (status != SLUICE_OK) {
        team_free(t);
        return status;
    }
    *out = t;
    return SLUICE_OK;
}

static struct probe_rate summarise(const struct team *t, enum job job) {
    const struct passes *p = &t->result[job];
    double sorted[PASSES_MAX];
    if (p->n == 0) {
        return (struct probe_rate){0};
    }
    memcpy(sorted, p->rate, p->n * sizeof *sorted);
    stats_sort(sorted, p->n);
    return (struct probe_rate){sorted[p->n - 1], stats_quantile_sorted(sorted, p->n, 0.5), sorted[0], p->n};
}

/* ---- Memory */

static const struct probe_memory_kernels *memory_kernels(void) {
    static const struct probe_memory_kernels *const all[] = {&probe_memory_avx512, &probe_memory_avx2};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i]->usable()) {
            return all[i];
        }
    }
    return &probe_memory_plain;
}

/* Far more than all caches together, of which cores may not share one: a cache that keeps an eighth of what is read
 * over and over would add a seventh to the figure. */
static uint64_t buffer_size(uint32_t n_threads) {
    uint64_t bytes = llc_bytes() * 16 * n_threads;
    uint64_t spare = mem_available() / 4;
    bytes = bytes < BUFFER_MIN ? BUFFER_MIN : bytes > BUFFER_MAX ? BUFFER_MAX : bytes;
    return spare && bytes > spare ? spare : bytes;
}

/* The team's buffer: of `memory` if it has enough, else of its own. */
static sluice_status take_buffer(struct team *t, const void *memory, size_t memory_bytes, sluice_error *err) {
    uint32_t n_threads = pool_size(t->pool);
    uint64_t bytes = buffer_size(n_threads);
    t->slice = (size_t)(bytes / n_threads / (2 * PROBE_GRAIN) * (2 * PROBE_GRAIN));
    t->borrowed = memory && memory_bytes >= t->slice * n_threads;
    if (t->borrowed) {
        t->buffer = (char *)(uintptr_t)memory;
        return SLUICE_OK;
    }
    t->buffer = t->slice ? mem_map(t->slice * n_threads) : NULL;
    if (!t->buffer) {
        return fail(err, SLUICE_E_NOMEM, "probe: no memory for the %llu MiB test buffer; free some and run again",
                    (unsigned long long)(bytes >> 20));
    }
    pool_run(t->pool, touch_main, t);
    return SLUICE_OK;
}

/* Reads, and if `everything` also writes, copies and barriers, for `seconds` each over one buffer. */
static sluice_status run_memory(uint32_t n_threads, double seconds, bool everything, const void *memory, size_t bytes,
                                struct probe_memory *out, sluice_error *err) {
    struct team *t;
    TRY(team_create(n_threads, &t, err));
    t->memory = memory_kernels();
    sluice_status status = take_buffer(t, memory, bytes, err);
    if (status != SLUICE_OK) {
        team_free(t);
        return status;
    }
    run_job(t, JOB_READ, seconds);
    if (everything) {
        run_job(t, JOB_WRITE, seconds);
        run_job(t, JOB_COPY, seconds);
        run_job(t, JOB_BARRIER, seconds / 2);
    }
    *out = (struct probe_memory){
        .n_threads = n_threads,
        .read = summarise(t, JOB_READ),
        .write = summarise(t, JOB_WRITE),
        .copy = summarise(t, JOB_COPY),
        .barrier_ns = summarise(t, JOB_BARRIER).median,
        .barrier_worst_ns = summarise(t, JOB_BARRIER).best, /* the greatest */
    };
    team_free(t);
    return SLUICE_OK;
}

static uint32_t clamp_threads(uint32_t n) {
    n = n ? n : threads_allowed();
    return n > LIMIT_THREADS ? LIMIT_THREADS : n;
}

double probe_read_bandwidth(uint32_t n_threads, double seconds, const void *memory, size_t bytes, sluice_error *err) {
    struct probe_memory m;
    return run_memory(clamp_threads(n_threads), seconds, false, memory, bytes, &m, err) == SLUICE_OK ? m.read.best : 0;
}

/* ---- Compute */

static const struct probe_compute_kernel *const compute_kernels[] = {
    &probe_f32_plain,  &probe_f32_avx2,  &probe_f32_avx512,   &probe_bf16_avx512,     &probe_bf16_amx, &probe_f32_neon,
    &probe_int8_plain, &probe_int8_avx2, &probe_int8_avxvnni, &probe_int8_avx512vnni, &probe_int8_amx, &probe_int8_neon,
};

enum { n_compute_kernels = sizeof compute_kernels / sizeof compute_kernels[0] };

/* Rounds that take about a millisecond on one thread: long beside a barrier, short beside a time slice. */
static uint64_t calibrate(const struct probe_compute_kernel *k) {
    for (uint64_t rounds = 256;; rounds *= 2) {
        uint64_t start = clock_ns();
        k->run(rounds);
        if (clock_ns() - start > 1000000 || rounds > 1ull << 40) {
            return rounds;
        }
    }
}

static sluice_status run_compute(const struct probe_compute_kernel *k, uint32_t n_threads, double seconds,
                                 struct probe_rate *gop_s, sluice_error *err) {
    struct team *t;
    TRY(team_create(n_threads, &t, err));
    t->compute = k;
    t->rounds = calibrate(k);
    run_job(t, JOB_COMPUTE, seconds);
    *gop_s = summarise(t, JOB_COMPUTE);
    team_free(t);
    return SLUICE_OK;
}

double probe_compute_peak(const char *kind, uint32_t n_threads, double seconds, const char **isa, sluice_error *err) {
    uint32_t n = clamp_threads(n_threads);
    double best = 0;
    uint32_t usable = 0;
    for (int i = 0; i < n_compute_kernels; i++) {
        usable += strcmp(compute_kernels[i]->kind, kind) == 0 && compute_kernels[i]->usable();
    }
    if (!usable) {
        fail(err, SLUICE_E_ARG,
             "probe: there is no rate \"%s\" here; int8 and f32 are everywhere, bf16 on some processors", kind);
        return 0;
    }
    for (int i = 0; i < n_compute_kernels; i++) {
        const struct probe_compute_kernel *k = compute_kernels[i];
        struct probe_rate gop_s;
        if (strcmp(k->kind, kind) != 0 || !k->usable()) {
            continue;
        }
        if (run_compute(k, n, seconds / usable, &gop_s, err) != SLUICE_OK) {
            return 0;
        }
        if (gop_s.best > best) {
            best = gop_s.best;
            if (isa) {
                *isa = k->isa;
            }
        }
    }
    return best;
}

/* ---- Everything */

static uint32_t thread_counts(uint32_t max, uint32_t out[PROBE_COUNTS_MAX]) {
    uint32_t n = 0;
    for (uint32_t c = 1; c < max && n < PROBE_COUNTS_MAX - 1; c *= 2) {
        out[n++] = c;
    }
    out[n++] = max;
    return n;
}

struct plan {
    const struct probe_options *options;
    uint64_t done, total;
};

static void tick(struct plan *p) {
    p->done++;
    if (p->options->progress) {
        p->options->progress(p->options->progress_ctx, p->done, p->total);
    }
}

sluice_status probe_run(const struct probe_options *options, struct probe_report *out, sluice_error *err) {
    uint32_t counts[PROBE_COUNTS_MAX];
    *out = (struct probe_report){.threads_allowed = threads_allowed()};
    caches_read(&out->caches);
    probe_theory_read("/sys/firmware/dmi/entries", &out->theory);
    uint32_t widest = clamp_threads(options->n_threads);
    uint32_t n_counts = thread_counts(widest, counts);
    probe_cpu_name(out->cpu, sizeof out->cpu);
    out->huge_pages = huge_pages_granted();
    out->buffer_bytes = buffer_size(widest);
    uint32_t n_kernels = 0;
    for (int i = 0; i < n_compute_kernels; i++) {
        const struct probe_compute_kernel *k = compute_kernels[i];
        if (k->usable()) {
            n_kernels++;
        } else if (out->n_absent < PROBE_PEAKS_MAX) {
            out->absent[out->n_absent++] = (struct probe_absent){k->kind, k->isa, k->needs};
        }
    }
    uint32_t n_compute = n_kernels * (widest > 1 ? 2 : 1);
    struct plan plan = {options, 0, n_counts + n_compute};
    double seconds = options->seconds > 0 ? options->seconds : 5;
    double unit = seconds / (4.5 * n_counts + 0.4 * n_compute); /* 3.5 per count, and touching the pages */
    for (uint32_t i = 0; i < n_counts; i++) {
        TRY(run_memory(counts[i], unit, true, NULL, 0, &out->memory[out->n_memory++], err));
        tick(&plan);
    }
    for (int i = 0; i < n_compute_kernels; i++) {
        const struct probe_compute_kernel *k = compute_kernels[i];
        for (uint32_t c = 0; c < (widest > 1 ? 2u : 1u) && k->usable() && out->n_peaks < PROBE_PEAKS_MAX; c++) {
            struct probe_peak *p = &out->peaks[out->n_peaks++];
            *p = (struct probe_peak){k->kind, k->isa, c ? widest : 1, {0}};
            TRY(run_compute(k, p->n_threads, unit * 0.4, &p->gop_s, err));
            tick(&plan);
        }
    }
    return SLUICE_OK;
}
