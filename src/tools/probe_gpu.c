#include "tools/probe_gpu.h"

#include "base/mem.h"
#include "base/stats.h"
#include "base/status.h"
#include "machine/power_cap.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#ifndef SLUICE_WITH_CUDA
#define SLUICE_WITH_CUDA 0
#endif

uint32_t probe_gpu_count(void) {
#if SLUICE_WITH_CUDA
    return cuda_probe_count();
#else
    return 0;
#endif
}

double probe_gpu_paper_gb_s(const struct nvml_info *info) {
    return 2.0 * info->clock_mem_max_mhz * 1e6 * info->bus_width_bits / 8 * 1e-9;
}

/* ---- Running */

struct eye { /* looks at the card while it works */
    const struct nvml *nvml;
    struct probe_gpu *gpu;
    atomic_bool stop;
    pthread_t thread;
    bool started;
};

static void *look(void *arg) {
    struct eye *e = arg;
    while (!atomic_load(&e->stop)) {
        struct nvml_reading r;
        struct timespec t = {.tv_nsec = 100000000};
        nvml_read(e->nvml, e->gpu->device, &r);
        e->gpu->peak_w = r.power_w > e->gpu->peak_w ? r.power_w : e->gpu->peak_w;
        e->gpu->peak_c = r.temperature_c > e->gpu->peak_c ? r.temperature_c : e->gpu->peak_c;
        if (r.throttle > 0 && r.busy_share > 0.1) {
            e->gpu->throttled |=
                r.throttle & (NVML_THROTTLE_POWER | NVML_THROTTLE_HW | NVML_THROTTLE_THERMAL | NVML_THROTTLE_BRAKE);
        }
        nanosleep(&t, NULL);
    }
    return NULL;
}

static sluice_status measure(const struct probe_gpu_options *o, const struct nvml *nvml, double cap,
                             struct probe_gpu *gpu, sluice_error *err) {
    struct eye eye = {.nvml = nvml, .gpu = gpu};
    *gpu = (struct probe_gpu){.device = o->device,
                              .power_cap_w = cap,
                              .seconds = o->seconds > 0 ? o->seconds : 2,
                              .peak_w = -1,
                              .peak_c = -1};
    if (nvml) {
        nvml_describe(nvml, o->device, &gpu->info);
        eye.started = pthread_create(&eye.thread, NULL, look, &eye) == 0;
    }
#if SLUICE_WITH_CUDA
    sluice_status status =
        cuda_probe_run((int)o->device, gpu->seconds, o->progress, o->progress_ctx, &gpu->limits, err);
#else
    sluice_status status = fail(err, SLUICE_E_UNSUPPORTED, "this build has no cuda backend, so no GPU can be measured");
#endif
    if (eye.started) {
        atomic_store(&eye.stop, true);
        pthread_join(eye.thread, NULL);
    }
    return status;
}

static sluice_status measure_caps(const struct probe_gpu_options *o, const struct nvml *nvml, struct probe_gpu *gpu,
                                  void (*on_result)(void *ctx, const struct probe_gpu *gpu), void *ctx,
                                  sluice_error *err) {
    struct power_cap *cap = NULL;
    sluice_error later;
    TRY(power_cap_start(NULL, o->device, &cap, err));
    sluice_status status = SLUICE_OK;
    for (uint32_t i = 0; status == SLUICE_OK && i < o->n_caps; i++) {
        status = power_cap_set(cap, o->caps[i], err);
        if (status == SLUICE_OK) {
            status = measure(o, nvml, o->caps[i], gpu, err);
        }
        if (status == SLUICE_OK) {
            on_result(ctx, gpu);
        }
    }
    sluice_status restored = power_cap_end(cap, status == SLUICE_OK ? err : &later);
    return status == SLUICE_OK ? restored : status;
}

sluice_status probe_gpu_run(const struct probe_gpu_options *o,
                            void (*on_result)(void *ctx, const struct probe_gpu *gpu), void *ctx, sluice_error *err) {
    struct nvml *nvml = NULL;
    sluice_error absent;
    struct probe_gpu *gpu = mem_calloc(1, sizeof *gpu);
    if (!gpu) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the probe of a GPU");
    }
    sluice_status status = nvml_open(NULL, &nvml, &absent) == SLUICE_OK || o->n_caps == 0
                               ? SLUICE_OK
                               : fail(err, SLUICE_E_IO, "power limits cannot be set: %s", absent.text);
    if (status == SLUICE_OK && o->n_caps > 0) {
        status = measure_caps(o, nvml, gpu, on_result, ctx, err);
    } else if (status == SLUICE_OK) {
        status = measure(o, nvml, 0, gpu, err);
        if (status == SLUICE_OK) {
            on_result(ctx, gpu);
        }
    }
    nvml_close(nvml);
    mem_free(gpu);
    return status;
}

/* ---- Showing */

static double theory_of(const struct probe_gpu *gpu, const struct cuda_probe_item *item) {
    bool memory = strcmp(item->name, "read") == 0 || strcmp(item->name, "copy") == 0;
    return memory ? probe_gpu_paper_gb_s(&gpu->info) : 0;
}

static void put_item(struct buf *b, const struct probe_gpu *gpu, const struct cuda_probe_item *item) {
    struct stats_summary s;
    double theory = theory_of(gpu, item);
    if (!stats_summarise(item->samples, item->n, &s)) {
        b->failed = true;
        return;
    }
    buf_printf(b,
               "{\"name\":\"%s\",\"unit\":\"%s\",\"threads\":null,\"median\":%.6g,\"min\":%.6g,\"max\":%.6g,\"n\":%zu,"
               "\"samples\":[",
               item->name, item->unit, s.median, s.min, s.max, s.n);
    for (uint32_t i = 0; i < item->n; i++) {
        buf_printf(b, i ? ",%.6g" : "%.6g", item->samples[i]);
    }
    if (theory > 0) {
        buf_printf(b, "],\"theory\":%.6g,\"share\":%.6g,\"how\":", theory, s.median / theory);
    } else {
        buf_puts(b, "],\"theory\":null,\"share\":null,\"how\":");
    }
    buf_json_string(b, item->how, strlen(item->how));
    buf_putc(b, '}');
}

void probe_gpu_json(struct buf *b, const struct probe_gpu *gpu) {
    buf_printf(b, "{\"kind\":\"probe\",\"device\":\"gpu%u\",\"name\":", gpu->device);
    buf_json_string(b, gpu->limits.name, strlen(gpu->limits.name));
    if (gpu->power_cap_w > 0) {
        buf_printf(b, ",\"power_cap_w\":%g", gpu->power_cap_w);
    } else {
        buf_puts(b, ",\"power_cap_w\":null");
    }
    buf_printf(b, ",\"seconds\":%g,\"compute_capability\":\"%d.%d\",\"sms\":%u,\"memory_bytes\":%llu", gpu->seconds,
               gpu->limits.compute_major, gpu->limits.compute_minor, gpu->limits.n_sm,
               (unsigned long long)gpu->limits.memory_bytes);
    if (gpu->peak_w >= 0) {
        buf_printf(b, ",\"peak_w\":%.1f", gpu->peak_w);
    }
    if (gpu->peak_c >= 0) {
        buf_printf(b, ",\"peak_c\":%.0f", gpu->peak_c);
    }
    buf_puts(b, ",\"items\":[");
    for (uint32_t i = 0; i < gpu->limits.n_items; i++) {
        if (i) {
            buf_putc(b, ',');
        }
        put_item(b, gpu, &gpu->limits.items[i]);
    }
    buf_puts(b, "],\"missing\":");
    buf_json_string(b, gpu->limits.missing, strlen(gpu->limits.missing));
    buf_putc(b, '}');
}

void probe_gpu_text(struct buf *b, const struct probe_gpu *gpu) {
    const struct nvml_info *info = &gpu->info;
    char throttle[64];
    buf_printf(b, "gpu%u: %s, compute capability %d.%d, %u multiprocessors, %.1f GiB\n", gpu->device, gpu->limits.name,
               gpu->limits.compute_major, gpu->limits.compute_minor, gpu->limits.n_sm,
               (double)gpu->limits.memory_bytes / (1 << 30));
    if (info->driver[0]) {
        buf_printf(b, "  driver %s; %u-bit memory at %u MHz: %.0f GB/s on paper; power limit %.0f W of %.0f W\n",
                   info->driver, info->bus_width_bits, info->clock_mem_max_mhz, probe_gpu_paper_gb_s(info),
                   gpu->power_cap_w > 0 ? gpu->power_cap_w : info->power_limit_w, info->power_limit_max_w);
    }
    for (uint32_t i = 0; i < gpu->limits.n_items; i++) {
        const struct cuda_probe_item *item = &gpu->limits.items[i];
        struct stats_summary s;
        double theory = theory_of(gpu, item);
        if (!stats_summarise(item->samples, item->n, &s)) {
            b->failed = true;
            return;
        }
        buf_printf(b, "  %-10s %10.5g %-7s (%.5g-%.5g)", item->name, s.median, item->unit, s.min, s.max);
        if (theory > 0) {
            buf_printf(b, "  %.0f%% of paper", 100 * s.median / theory);
        }
        buf_printf(b, "  %s\n", item->how);
    }
    nvml_throttle_text(gpu->throttled, throttle, sizeof throttle);
    if (gpu->peak_w >= 0) {
        buf_printf(b, "  at most %.0f W and %.0f C%s%s\n", gpu->peak_w, gpu->peak_c,
                   throttle[0] ? "; held back by " : "", throttle);
    }
    if (gpu->limits.missing[0]) {
        buf_printf(b, "  not measured: %s\n", gpu->limits.missing);
    }
}
