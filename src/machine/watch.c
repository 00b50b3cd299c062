#include "machine/watch.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "machine/process.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POINTS_MAX      16384u /* then every second point goes, and the interval doubles */
#define GPUS_WATCHED    4
#define CHILDREN_EVERY  10 /* points between two looks for new child processes */
#define PROCESSES_MAX   64
#define CALIBRATION_KIB 256

enum { S_CPU_MHZ, S_STEAL, S_FOREIGN, S_RSS, S_GPU };
enum { G_SM_MHZ, G_MEM_MHZ, G_W, G_C, G_THROTTLE, G_USED, N_G };
#define N_SERIES (S_GPU + GPUS_WATCHED * N_G)

static const char *const cpu_series[S_GPU] = {"cpu_mhz", "steal_share", "foreign_cpu_share", "rss_bytes"};
static const char *const gpu_series[N_G] = {"sm_mhz", "mem_mhz", "w", "c", "throttle", "used_bytes"};

struct ticks { /* of all cores since boot, in clock ticks */
    uint64_t total, busy, steal;
    uint64_t own;
    bool known;
};

struct watch {
    struct watch_options options;
    pthread_t thread;
    bool started;
    pthread_mutex_t mutex; /* of everything below */
    pthread_cond_t wake;
    bool stop;
    int own[PROCESSES_MAX];
    uint64_t own_ticks[PROCESSES_MAX]; /* as last read, with those of its children that have ended */
    bool inherited[PROCESSES_MAX];     /* its parent is watched too, and takes its ticks over when it ends */
    uint32_t n_own;
    struct ticks first, last, row;
    uint64_t start_ns;
    double interval_ms;
    float (*points)[N_SERIES]; /* NaN-free: -1 is unknown */
    double *t_ms;
    uint32_t n, cap;
    uint64_t skip, seen; /* points taken */
    uint64_t row_start_ns;
    uint32_t gpus;
    struct watch_summary sum, since; /* of the whole; since the last watch_row */
};

const char *const verdict_names[3] = {"clean", "noisy", "invalid"};

/* ---- The fixed work */

/* One pass: a chain of multiplications over a block that fits a second-level cache. Nothing may be left out, hence the result. */
static uint64_t work(uint64_t *block, size_t n, uint64_t x) {
    for (size_t i = 0; i < n; i++) {
        x = x * 6364136223846793005u + block[i];
        block[i] = x >> 7;
    }
    return x;
}

static double calibrate(double seconds) {
    size_t n = CALIBRATION_KIB * 1024 / sizeof(uint64_t);
    uint64_t *block = seconds < 0 ? NULL : mem_calloc(n, sizeof *block);
    if (!block) {
        return -1;
    }
    uint64_t start = clock_ns();
    double best = -1;
    volatile uint64_t sink = work(block, n, 1); /* warm */
    do {
        uint64_t t = clock_ns();
        for (int i = 0; i < 16; i++) {
            sink = work(block, n, sink);
        }
        double ms = clock_ms_since(t);
        best = best < 0 || ms < best ? ms : best;
    } while (clock_ms_since(start) < seconds * 1e3);
    mem_free(block);
    return best;
}

/* ---- Readings */

static FILE *open_at(const struct watch *w, const char *path) {
    char full[256];
    snprintf(full, sizeof full, "%.150s%s", w->options.root ? w->options.root : "", path);
    return fopen(full, "re");
}

static double cpu_mhz(const struct watch *w) {
    double v = -1;
    char line[256];
    FILE *f = open_at(w, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq");
    if (f) {
        v = fscanf(f, "%lf", &v) == 1 ? v * 1e-3 : -1;
        fclose(f);
        return v;
    }
    f = open_at(w, "/proc/cpuinfo");
    while (f && v < 0 && fgets(line, sizeof line, f)) {
        if (sscanf(line, "cpu MHz : %lf", &v) != 1) {
            v = -1;
        }
    }
    if (f) {
        fclose(f);
    }
    return v;
}

static void add_process(struct watch *w, int pid) {
    for (uint32_t i = 0; i < w->n_own; i++) {
        if (w->own[i] == pid) {
            return;
        }
    }
    if (w->n_own < PROCESSES_MAX) {
        w->own[w->n_own] = pid;
        w->inherited[w->n_own] = false;
        w->own_ticks[w->n_own++] = 0;
    }
}

/* Children of the main threads of all that are known; grandchildren come with the next look. */
static void find_children(struct watch *w) {
    uint32_t known = w->n_own;
    for (uint32_t i = 0; i < known; i++) {
        char path[64];
        int pid;
        snprintf(path, sizeof path, "/proc/%d/task/%d/children", w->own[i], w->own[i]);
        FILE *f = open_at(w, path);
        while (f && fscanf(f, "%d", &pid) == 1) {
            add_process(w, pid);
        }
        if (f) {
            fclose(f);
        }
    }
}

static void read_ticks(struct watch *w, struct ticks *out) {
    unsigned long long v[8] = {0}; /* user nice system idle iowait irq softirq steal */
    *out = (struct ticks){0};
    FILE *f = open_at(w, "/proc/stat");
    if (f) {
        out->known = fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5],
                            &v[6], &v[7]) == 8;
        fclose(f);
    }
    for (int i = 0; i < 8; i++) {
        out->total += v[i];
    }
    out->steal = v[7];
    out->busy = v[0] + v[1] + v[2] + v[5] + v[6];
    for (uint32_t i = 0; i < w->n_own; i++) {
        uint64_t t;
        int parent;
        if (process_ticks(w->options.root, w->own[i], &t, &parent)) {
            w->own_ticks[i] = t;
            for (uint32_t k = 0; k < w->n_own; k++) {
                w->inherited[i] = w->inherited[i] || w->own[k] == parent;
            }
        } else if (w->inherited[i]) {
            w->own_ticks[i] = 0;
        }
        out->own += w->own_ticks[i];
    }
}

static double share(uint64_t part_now, uint64_t part_before, const struct ticks *now, const struct ticks *before) {
    if (!now->known || !before->known || now->total <= before->total) {
        return -1;
    }
    double v = part_now > part_before ? (double)(part_now - part_before) : 0;
    return v / (double)(now->total - before->total);
}

static double foreign_share(const struct ticks *now, const struct ticks *before) {
    double busy = share(now->busy, before->busy, now, before);
    double own = share(now->own, before->own, now, before);
    return busy < 0 ? -1 : busy > own ? busy - own : 0;
}

/* ---- A point of the trace */

static double higher(double a, double b) {
    return a > b ? a : b;
}

static void add_reading(struct watch_summary *s, const struct nvml_reading *r, bool first) {
    const int64_t held = NVML_THROTTLE_POWER | NVML_THROTTLE_HW | NVML_THROTTLE_THERMAL | NVML_THROTTLE_BRAKE;
    s->peak_w = higher(s->peak_w, r->power_w);
    s->peak_c = higher(s->peak_c, r->temperature_c);
    s->idle_c = first ? higher(s->idle_c, r->temperature_c) : s->idle_c;
    if (r->throttle >= 0) { /* an idle card rests: only what holds back a busy one counts */
        s->throttled = (s->throttled < 0 ? 0 : s->throttled) | (r->busy_share > 0.1 ? r->throttle & held : 0);
    }
    if (r->sm_mhz > 0 && r->busy_share > 0.5) {
        s->sm_mhz_min = s->sm_mhz_min < 0 || r->sm_mhz < s->sm_mhz_min ? r->sm_mhz : s->sm_mhz_min;
        s->sm_mhz_max = higher(s->sm_mhz_max, r->sm_mhz);
    }
}

static void add_foreign(struct watch_summary *s, int n) {
    s->foreign_gpu_processes = n > s->foreign_gpu_processes ? n : s->foreign_gpu_processes;
}

static void read_gpus(struct watch *w, float *point) {
    int64_t vram = -1;
    for (uint32_t g = 0; g < w->gpus; g++) {
        struct nvml_reading r;
        float *p = point + S_GPU + g * N_G;
        nvml_read(w->options.nvml, g, &r);
        p[G_SM_MHZ] = (float)r.sm_mhz;
        p[G_MEM_MHZ] = (float)r.mem_mhz;
        p[G_W] = (float)r.power_w;
        p[G_C] = (float)r.temperature_c;
        p[G_THROTTLE] = (float)r.throttle;
        p[G_USED] = (float)r.used_bytes;
        vram = r.used_bytes < 0 ? vram : (vram < 0 ? 0 : vram) + r.used_bytes;
        add_reading(&w->sum, &r, w->seen == 0);
        add_reading(&w->since, &r, false);
        if (w->seen % CHILDREN_EVERY == 0) {
            int foreign = nvml_foreign(w->options.nvml, g, w->own, w->n_own);
            add_foreign(&w->sum, foreign);
            add_foreign(&w->since, foreign);
        }
    }
    w->since.vram_peak = vram > w->since.vram_peak ? vram : w->since.vram_peak;
    w->sum.vram_peak = vram > w->sum.vram_peak ? vram : w->sum.vram_peak;
}

/* Drops every second point when there are too many; a failed allocation only ends the trace's growth. */
static bool make_room(struct watch *w) {
    if (w->n == POINTS_MAX) {
        for (uint32_t i = 0; i < w->n / 2; i++) {
            memcpy(w->points[i], w->points[2 * i], sizeof w->points[0]);
            w->t_ms[i] = w->t_ms[2 * i];
        }
        w->n /= 2;
        w->skip = 2 * w->skip + 1;
        w->interval_ms *= 2;
    }
    if (w->n == w->cap) {
        uint32_t cap = w->cap ? 2 * w->cap : 256;
        float(*points)[N_SERIES] = mem_realloc(w->points, cap * sizeof *points);
        if (points) {
            w->points = points;
        }
        double *t_ms = mem_realloc(w->t_ms, cap * sizeof *t_ms);
        if (t_ms) {
            w->t_ms = t_ms;
        }
        if (!points || !t_ms) {
            return false;
        }
        w->cap = cap;
    }
    return true;
}

static void take_point(struct watch *w) {
    float point[N_SERIES];
    struct ticks now;
    uint64_t rss = 0;
    for (int i = 0; i < N_SERIES; i++) {
        point[i] = -1;
    }
    if (w->seen % CHILDREN_EVERY == 0) {
        find_children(w);
    }
    read_ticks(w, &now);
    point[S_CPU_MHZ] = (float)cpu_mhz(w);
    point[S_STEAL] = (float)share(now.steal, w->last.steal, &now, &w->last);
    point[S_FOREIGN] = (float)foreign_share(&now, &w->last);
    for (uint32_t i = 1; i < w->n_own; i++) { /* not this program itself */
        uint64_t mapped, resident;
        rss += process_memory(w->options.root, w->own[i], &mapped, &resident) ? resident : 0;
    }
    point[S_RSS] = (float)rss;
    w->since.rss_peak = rss > w->since.rss_peak ? rss : w->since.rss_peak;
    w->sum.rss_peak = rss > w->sum.rss_peak ? rss : w->sum.rss_peak;
    read_gpus(w, point);
    w->last = now;
    if (w->seen++ % (w->skip + 1) == 0 && make_room(w)) {
        memcpy(w->points[w->n], point, sizeof point);
        w->t_ms[w->n++] = clock_ms_since(w->start_ns);
    }
}

static void *watch_main(void *arg) {
    struct watch *w = arg;
    double step = w->options.interval_s;
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    pthread_mutex_lock(&w->mutex);
    while (!w->stop) {
        take_point(w);
        next.tv_nsec += (long)(step * 1e9) % 1000000000L;
        next.tv_sec += (time_t)step + next.tv_nsec / 1000000000L;
        next.tv_nsec %= 1000000000L;
        while (!w->stop && pthread_cond_timedwait(&w->wake, &w->mutex, &next) == 0) {
        }
    }
    take_point(w);
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

/* ---- Life */

static const struct watch_summary unknown = {.calibration_before_ms = -1,
                                             .calibration_after_ms = -1,
                                             .drift_share = -1,
                                             .steal_share = -1,
                                             .foreign_cpu_share = -1,
                                             .peak_w = -1,
                                             .idle_c = -1,
                                             .peak_c = -1,
                                             .sm_mhz_min = -1,
                                             .sm_mhz_max = -1,
                                             .throttled = -1,
                                             .foreign_gpu_processes = -1,
                                             .vram_peak = -1};

static bool init_locks(struct watch *w) {
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0) {
        return false;
    }
    bool ok = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 && pthread_cond_init(&w->wake, &attr) == 0;
    pthread_condattr_destroy(&attr);
    return ok && pthread_mutex_init(&w->mutex, NULL) == 0;
}

sluice_status watch_start(const struct watch_options *options, struct watch **out, sluice_error *err) {
    struct watch *w = mem_calloc(1, sizeof *w);
    if (!w) {
        return fail(err, SLUICE_E_NOMEM, "no memory for watching the machine");
    }
    w->options = *options;
    w->options.interval_s = options->interval_s > 0 ? options->interval_s : 0.1;
    w->options.calibration_s = options->calibration_s != 0 ? options->calibration_s : 0.1;
    w->interval_ms = w->options.interval_s * 1e3;
    w->sum = w->since = unknown;
    w->gpus = options->nvml ? nvml_count(options->nvml) : 0;
    w->gpus = w->gpus > GPUS_WATCHED ? GPUS_WATCHED : w->gpus;
    w->sum.calibration_before_ms = calibrate(w->options.calibration_s);
    add_process(w, getpid());
    read_ticks(w, &w->first);
    w->last = w->row = w->first;
    w->start_ns = w->row_start_ns = clock_ns();
    if (!init_locks(w) || pthread_create(&w->thread, NULL, watch_main, w) != 0) {
        mem_free(w);
        return fail(err, SLUICE_E_NOMEM, "the thread that watches the machine could not be started");
    }
    w->started = true;
    *out = w;
    return SLUICE_OK;
}

void watch_own(struct watch *w, int pid) {
    pthread_mutex_lock(&w->mutex);
    uint32_t known = w->n_own;
    uint64_t ticks;
    int parent;
    add_process(w, pid);
    if (w->n_own > known && process_ticks(w->options.root, pid, &ticks, &parent)) {
        /* what it used before now was not ours to count: as if it had been known from the start */
        w->own_ticks[known] = ticks;
        w->first.own += ticks;
        w->row.own += ticks;
        w->last.own += ticks;
    }
    pthread_mutex_unlock(&w->mutex);
}

void watch_row(struct watch *w, struct watch_summary *out) {
    pthread_mutex_lock(&w->mutex);
    take_point(w);
    *out = w->since;
    out->seconds = clock_ms_since(w->row_start_ns) * 1e-3;
    out->steal_share = share(w->last.steal, w->row.steal, &w->last, &w->row);
    out->foreign_cpu_share = foreign_share(&w->last, &w->row);
    w->since = unknown;
    w->row = w->last;
    w->row_start_ns = clock_ns();
    pthread_mutex_unlock(&w->mutex);
}

void watch_stop(struct watch *w, struct watch_summary *out) {
    if (w->started) {
        pthread_mutex_lock(&w->mutex);
        w->stop = true;
        pthread_cond_signal(&w->wake);
        pthread_mutex_unlock(&w->mutex);
        pthread_join(w->thread, NULL);
        w->started = false;
        w->sum.seconds = clock_ms_since(w->start_ns) * 1e-3;
        w->sum.steal_share = share(w->last.steal, w->first.steal, &w->last, &w->first);
        w->sum.foreign_cpu_share = foreign_share(&w->last, &w->first);
        w->sum.calibration_after_ms = calibrate(w->options.calibration_s);
        if (w->sum.calibration_before_ms > 0 && w->sum.calibration_after_ms > 0) {
            w->sum.drift_share = w->sum.calibration_after_ms / w->sum.calibration_before_ms - 1;
        }
    }
    *out = w->sum;
}

void watch_free(struct watch *w) {
    if (!w) {
        return;
    }
    if (w->started) {
        struct watch_summary unused;
        w->options.calibration_s = -1;
        watch_stop(w, &unused);
    }
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    mem_free(w->points);
    mem_free(w->t_ms);
    mem_free(w);
}

/* ---- The trace and the verdict */

static void put_series(struct buf *b, const struct watch *w, uint32_t s, const char *name, int gpu) {
    if (b->data[b->len - 1] != '{') {
        buf_putc(b, ',');
    }
    if (gpu >= 0) {
        buf_printf(b, "\"gpu%d_%s\":[", gpu, name);
    } else {
        buf_printf(b, "\"%s\":[", name);
    }
    for (uint32_t i = 0; i < w->n; i++) {
        if (w->points[i][s] < 0) {
            buf_puts(b, i ? ",null" : "null");
        } else {
            buf_printf(b, i ? ",%.7g" : "%.7g", w->points[i][s]);
        }
    }
    buf_putc(b, ']');
}

void watch_trace_json(struct buf *b, const struct watch *w) {
    buf_printf(b, "\"interval_ms\":%.3f,\"t_ms\":[", w->interval_ms);
    for (uint32_t i = 0; i < w->n; i++) {
        buf_printf(b, i ? ",%.1f" : "%.1f", w->t_ms[i]);
    }
    buf_puts(b, "],\"series\":{");
    if (b->failed) {
        return;
    }
    for (uint32_t s = 0; s < S_GPU; s++) {
        put_series(b, w, s, cpu_series[s], -1);
    }
    for (uint32_t g = 0; g < w->gpus; g++) {
        for (uint32_t s = 0; s < N_G; s++) {
            put_series(b, w, S_GPU + g * N_G + s, gpu_series[s], (int)g);
        }
    }
    buf_putc(b, '}');
}

/* What held the clocks back that makes figures doubtful. A power limit under which the clock stands still is how the machine
 * runs: it is in the record, and the next run meets it again. One that moves the clock is noise. */
static int64_t held_back(const struct watch_summary *s) {
    bool steady = s->sm_mhz_max > 0 && s->sm_mhz_min >= (1 - WATCH_CLOCK_NOISY) * s->sm_mhz_max;
    return s->throttled > 0 && steady ? s->throttled & ~(int64_t)NVML_THROTTLE_POWER : s->throttled;
}

enum verdict watch_verdict(const struct watch_summary *s, char *reasons, size_t cap) {
    struct {
        bool noisy;
        char text[120];
    } found[6] = {{0}};
    char throttle[64];
    size_t n = 0;
    found[0].noisy = s->steal_share > WATCH_STEAL_NOISY;
    snprintf(found[0].text, sizeof found[0].text, "the hypervisor took %.1f%% of the processor time",
             100 * s->steal_share);
    found[1].noisy = s->foreign_cpu_share > WATCH_FOREIGN_NOISY;
    snprintf(found[1].text, sizeof found[1].text, "other programs used %.1f%% of the processor time",
             100 * s->foreign_cpu_share);
    found[2].noisy = s->drift_share > WATCH_DRIFT_NOISY || s->drift_share < -WATCH_DRIFT_NOISY;
    found[2].noisy = found[2].noisy && s->calibration_before_ms > 0 && s->calibration_after_ms > 0;
    snprintf(found[2].text, sizeof found[2].text, "the same fixed work took %+.1f%% time afterwards",
             100 * s->drift_share);
    nvml_throttle_text(held_back(s), throttle, sizeof throttle);
    found[3].noisy = throttle[0] != '\0';
    snprintf(found[3].text, sizeof found[3].text, "the GPU's clocks were held back (%s)", throttle);
    found[4].noisy = s->foreign_gpu_processes > 0;
    snprintf(found[4].text, sizeof found[4].text, "%d other processes computed on the GPU", s->foreign_gpu_processes);
    enum verdict v = VERDICT_CLEAN;
    if (cap) {
        reasons[0] = '\0';
    }
    for (size_t i = 0; i < sizeof found / sizeof found[0]; i++) {
        if (found[i].noisy) {
            v = VERDICT_NOISY;
            n += n < cap ? (size_t)snprintf(reasons + n, cap - n, "%s%s", n ? "; " : "", found[i].text) : 0;
        }
    }
    return v;
}
