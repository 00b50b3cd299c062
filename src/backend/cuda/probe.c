#include "backend/cuda/probe.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/stats.h"
#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>

enum { MATRIX = 8192, SAMPLE_MS = 20, BLOCKS_PER_SM = 4, BARRIERS = 1000, LAUNCHES = 500, SAMPLES_ALL = 16384 };
#define BUFFER_MAX      (4ull << 30) /* far above any cache */
#define BUFFER_MIN      (256ull << 20)
#define WORKSPACE_BYTES (32ull << 20)
#define PINNED_BYTES    (64ull << 20)

struct bench {
    int device;
    double seconds;
    struct cuda_probe *out;
    char *buffer; /* device; read: all of it, copy: one half to the other, products: a, b, c, workspace */
    size_t bytes;
    char *pinned;
    uint32_t *counter;
    uint32_t n_sm;
    cudaEvent_t start, end;
    struct cublaslt *lt;
    enum cublaslt_kind kind;
    double *rates;
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
    uint64_t done;
};

static sluice_status check(cudaError_t status, const char *what, sluice_error *err) {
    return status == cudaSuccess
               ? SLUICE_OK
               : fail(err, SLUICE_E_BACKEND, "the GPU failed at %s: %s", what, cudaGetErrorString(status));
}

/* One piece of work, `times` over; returns what it did per second in the item's unit, given the time of one. */
struct work {
    const char *name, *unit, *how;
    bool (*run)(struct bench *b, uint32_t times);
    double (*rate)(const struct bench *b, double seconds_each);
};

static bool run_read(struct bench *b, uint32_t times) {
    for (uint32_t i = 0; i < times; i++) {
        cuda_probe_launch_read(b->buffer, b->bytes, b->counter, b->n_sm * BLOCKS_PER_SM);
    }
    return true;
}

static bool run_copy(struct bench *b, uint32_t times) {
    for (uint32_t i = 0; i < times; i++) {
        cuda_probe_launch_copy(b->buffer, b->buffer + b->bytes / 2, b->bytes / 2, b->n_sm * BLOCKS_PER_SM);
    }
    return true;
}

static bool run_product(struct bench *b, uint32_t times) {
    size_t n2 = (size_t)MATRIX * MATRIX;
    char *c = b->buffer + 4 * n2; /* two matrices of at most two bytes an element before it */
    return cublaslt_product(b->lt, b->kind, MATRIX, b->buffer, b->buffer + 2 * n2, c, c + 4 * n2, WORKSPACE_BYTES,
                            times);
}

static bool run_launch(struct bench *b, uint32_t times) {
    (void)b;
    for (uint32_t i = 0; i < times * LAUNCHES; i++) {
        cuda_probe_launch_nothing();
    }
    return true;
}

static bool run_barrier(struct bench *b, uint32_t times) {
    for (uint32_t i = 0; i < times; i++) {
        if (cudaMemsetAsync(b->counter, 0, sizeof *b->counter, NULL) != cudaSuccess) {
            return false;
        }
        cuda_probe_launch_barrier(b->counter, b->n_sm, BARRIERS);
    }
    return true;
}

static bool run_up(struct bench *b, uint32_t times) {
    for (uint32_t i = 0; i < times; i++) {
        cudaMemcpyAsync(b->buffer, b->pinned, PINNED_BYTES, cudaMemcpyHostToDevice, NULL);
    }
    return true;
}

static bool run_down(struct bench *b, uint32_t times) {
    for (uint32_t i = 0; i < times; i++) {
        cudaMemcpyAsync(b->pinned, b->buffer, PINNED_BYTES, cudaMemcpyDeviceToHost, NULL);
    }
    return true;
}

static double rate_memory(const struct bench *b, double s) { /* a copy of half the buffer reads it and writes it */
    return (double)b->bytes / s * 1e-9;
}

static double rate_product(const struct bench *b, double s) {
    (void)b;
    return 2.0 * MATRIX * MATRIX * MATRIX / s * 1e-12;
}

static double rate_launch(const struct bench *b, double s) {
    (void)b;
    return s * 1e6 / LAUNCHES;
}

static double rate_barrier(const struct bench *b, double s) {
    (void)b;
    return s * 1e6 / BARRIERS;
}

static double rate_pcie(const struct bench *b, double s) {
    (void)b;
    return PINNED_BYTES / s * 1e-9;
}

/* Runs it `times` over between two events: seconds of one, below 0 when it did not run. */
static double time_work(struct bench *b, const struct work *w, uint32_t times) {
    float ms = -1;
    bool ok = cudaEventRecord(b->start, NULL) == cudaSuccess && w->run(b, times) &&
              cudaEventRecord(b->end, NULL) == cudaSuccess && cudaEventSynchronize(b->end) == cudaSuccess &&
              cudaEventElapsedTime(&ms, b->start, b->end) == cudaSuccess && cudaGetLastError() == cudaSuccess;
    return ok && ms > 0 ? ms * 1e-3 / times : -1;
}

static void miss(struct bench *b, const char *name, const char *reason) {
    size_t n = strlen(b->out->missing);
    snprintf(b->out->missing + n, sizeof b->out->missing - n, "%s%s: %s", n ? "; " : "", name, reason);
}

static void measure(struct bench *b, const struct work *w) {
    struct cuda_probe_item item = {.name = w->name, .unit = w->unit, .how = w->how};
    double each = time_work(b, w, 1); /* warms up, too */
    uint32_t n = 0;
    uint64_t start = clock_ns();
    each = each > 0 ? time_work(b, w, 1) : each;
    if (each <= 0) {
        (void)cudaGetLastError();
        miss(b, w->name, "this card or library does not do it");
        return;
    }
    uint32_t times = (uint32_t)(SAMPLE_MS * 1e-3 / each) + 1;
    do {
        double s = time_work(b, w, times);
        if (s <= 0) {
            miss(b, w->name, "broke off");
            return;
        }
        b->rates[n++] = w->rate(b, s);
    } while (n < SAMPLES_ALL && (clock_ms_since(start) < b->seconds * 1e3 || n < 5));
    item.n = n < CUDA_PROBE_SAMPLES ? n : CUDA_PROBE_SAMPLES;
    for (uint32_t i = 0; i < item.n; i++) {
        item.samples[i] = b->rates[(size_t)i * n / item.n];
    }
    b->out->items[b->out->n_items++] = item;
    if (b->progress) {
        b->progress(b->ctx, ++b->done, 10);
    }
}

static const struct work memory_work[] = {
    {"read", "GB/s", "loads of 16 bytes", run_read, rate_memory},
    {"copy", "GB/s", "loads and stores of 16 bytes; read and written bytes count", run_copy, rate_memory},
};
static const struct work product_work[] = {
    [CUBLASLT_BF16] = {"bf16", "Tops/s", "cuBLASLt, 8192 x 8192 x 8192", run_product, rate_product},
    [CUBLASLT_FP16] = {"fp16", "Tops/s", "cuBLASLt, 8192 x 8192 x 8192", run_product, rate_product},
    [CUBLASLT_INT8] = {"int8", "Tops/s", "cuBLASLt, 8192 x 8192 x 8192", run_product, rate_product},
    [CUBLASLT_FP8] = {"fp8", "Tops/s", "cuBLASLt, 8192 x 8192 x 8192, E4M3", run_product, rate_product},
};
static const struct work other_work[] = {
    {"launch", "us", "empty kernels back to back on one stream", run_launch, rate_launch},
    {"barrier", "us", "one block per multiprocessor, an atomic counter", run_barrier, rate_barrier},
    {"pcie_up", "GB/s", "from pinned memory", run_up, rate_pcie},
    {"pcie_down", "GB/s", "to pinned memory", run_down, rate_pcie},
};

static sluice_status open_device(struct bench *b, sluice_error *err) {
    struct cudaDeviceProp p;
    size_t free_bytes = 0;
    size_t total = 0;
    TRY(check(cudaSetDevice(b->device), "choosing the device", err));
    TRY(check(cudaGetDeviceProperties(&p, b->device), "reading its properties", err));
    TRY(check(cudaMemGetInfo(&free_bytes, &total), "asking for its memory", err));
    snprintf(b->out->name, sizeof b->out->name, "%.95s", p.name);
    b->out->n_sm = b->n_sm = (uint32_t)p.multiProcessorCount;
    b->out->compute_major = p.major;
    b->out->compute_minor = p.minor;
    b->out->memory_bytes = total;
    b->bytes = free_bytes / 2 < BUFFER_MAX ? free_bytes / 2 / 4096 * 4096 : BUFFER_MAX;
    if (b->bytes < BUFFER_MIN) {
        return fail(err, SLUICE_E_NOMEM, "the GPU has %.0f MiB free; the probe needs %.0f MiB",
                    (double)free_bytes / (1 << 20), 2.0 * BUFFER_MIN / (1 << 20));
    }
    TRY(check(cudaMalloc((void **)&b->buffer, b->bytes), "taking memory", err));
    TRY(check(cudaMemset(b->buffer, 0, b->bytes), "clearing memory", err));
    TRY(check(cudaMalloc((void **)&b->counter, 256), "taking memory", err));
    TRY(check(cudaEventCreate(&b->start), "making an event", err));
    TRY(check(cudaEventCreate(&b->end), "making an event", err));
    b->rates = mem_alloc(SAMPLES_ALL * sizeof *b->rates);
    return b->rates ? SLUICE_OK : fail(err, SLUICE_E_NOMEM, "no memory for the probe's samples");
}

static void close_device(struct bench *b) {
    if (b->start) {
        cudaEventDestroy(b->start);
    }
    if (b->end) {
        cudaEventDestroy(b->end);
    }
    cudaFree(b->counter);
    cudaFree(b->buffer);
    cudaFreeHost(b->pinned);
    cublaslt_close(b->lt);
    mem_free(b->rates);
}

static void measure_products(struct bench *b) {
    char reason[80] = "";
    size_t needed = 8ull * MATRIX * MATRIX + WORKSPACE_BYTES;
    b->lt = b->bytes >= needed ? cublaslt_open(reason, sizeof reason) : NULL;
    if (!b->lt) {
        miss(b, "bf16, fp16, int8, fp8", reason[0] ? reason : "too little free memory");
        return;
    }
    for (int k = CUBLASLT_BF16; k <= CUBLASLT_FP8; k++) {
        b->kind = (enum cublaslt_kind)k;
        measure(b, &product_work[k]);
    }
}

uint32_t cuda_probe_count(void) {
    int n = 0;
    return cudaGetDeviceCount(&n) == cudaSuccess && n > 0 ? (uint32_t)n : 0;
}

sluice_status cuda_probe_run(int device, double seconds, void (*progress)(void *ctx, uint64_t done, uint64_t total),
                             void *ctx, struct cuda_probe *out, sluice_error *err) {
    struct bench b = {.device = device, .seconds = seconds, .out = out, .progress = progress, .ctx = ctx};
    *out = (struct cuda_probe){0};
    sluice_status status = open_device(&b, err);
    if (status == SLUICE_OK) {
        measure(&b, &memory_work[0]);
        measure(&b, &memory_work[1]);
        measure_products(&b);
        measure(&b, &other_work[0]);
        measure(&b, &other_work[1]);
        if (cudaMallocHost((void **)&b.pinned, PINNED_BYTES) == cudaSuccess) {
            measure(&b, &other_work[2]);
            measure(&b, &other_work[3]);
        } else {
            (void)cudaGetLastError();
            miss(&b, "pcie_up, pcie_down", "no pinned memory");
        }
    }
    close_device(&b);
    return status;
}

double cuda_probe_read(int device, double seconds, sluice_error *err) {
    struct cuda_probe *out = mem_calloc(1, sizeof *out);
    double rate = 0;
    if (!out) {
        fail(err, SLUICE_E_NOMEM, "no memory for the probe's samples");
        return 0;
    }
    struct bench b = {.device = device, .seconds = seconds, .out = out};
    if (open_device(&b, err) == SLUICE_OK) {
        measure(&b, &memory_work[0]);
        if (out->n_items == 0 || !stats_median(out->items[0].samples, out->items[0].n, &rate)) {
            fail(err, SLUICE_E_BACKEND, "the GPU's read bandwidth could not be measured (%s)", out->missing);
        }
    }
    close_device(&b);
    mem_free(out);
    return rate;
}
