/*
 * What a GPU allows, measured: memory read and copied, matrix products by cuBLASLt where that library is there, a launch,
 * a barrier over the whole grid, the bus to the host. Each measurement runs for `seconds`, so that the power limit acts, and is cut into
 * samples of about 20 ms each.
 */
#ifndef CUDA_PROBE_H
#define CUDA_PROBE_H

#include "sluice.h"

#define CUDA_PROBE_ITEMS   16
#define CUDA_PROBE_SAMPLES 256

struct cuda_probe_item {
    const char *name, *unit; /* as in docs/records.md: "read" in GB/s, "bf16" in Tops/s, "launch" in us, ... */
    const char *how;         /* "loads of 16 bytes", "cuBLASLt 8192^3" */
    uint32_t n;              /* samples, evenly chosen where there were more */
    double samples[CUDA_PROBE_SAMPLES];
};

struct cuda_probe {
    char name[96];
    uint32_t n_sm;
    int compute_major, compute_minor;
    uint64_t memory_bytes;
    uint32_t n_items;
    struct cuda_probe_item items[CUDA_PROBE_ITEMS];
    char missing[256]; /* what could not be measured and why; "" = nothing */
};

uint32_t cuda_probe_count(void); /* of devices; 0 without a driver */
/* seconds: per item. SLUICE_E_BACKEND with the device's words. progress may be NULL. */
sluice_status cuda_probe_run(int device, double seconds, void (*progress)(void *ctx, uint64_t done, uint64_t total),
                             void *ctx, struct cuda_probe *out, sluice_error *err);
/* Median read bandwidth in GB/s; 0 when it could not be measured, err then says why. */
double cuda_probe_read(int device, double seconds, sluice_error *err);

/* cublaslt.c: one n x n x n product as often as asked for, on the default stream. */
struct cublaslt;
enum cublaslt_kind { CUBLASLT_BF16, CUBLASLT_FP16, CUBLASLT_INT8, CUBLASLT_FP8 };
/* a, b: n * n elements, c: n * n * 4 bytes, workspace: any size; device memory. NULL with a reason where library or format is missing. */
struct cublaslt *cublaslt_open(char *reason, size_t cap);
void cublaslt_close(struct cublaslt *l);
bool cublaslt_product(struct cublaslt *l, enum cublaslt_kind kind, uint32_t n, const void *a, const void *b, void *c,
                      void *workspace, size_t workspace_bytes, uint32_t times);

#ifdef __cplusplus
extern "C" {
#endif
/* probe.cu: launches on the default stream; the sums go to sink, so that nothing can be left out. */
void cuda_probe_launch_read(const void *p, size_t bytes, void *sink, uint32_t blocks);
void cuda_probe_launch_copy(void *to, const void *from, size_t bytes, uint32_t blocks);
void cuda_probe_launch_nothing(void);
/* One block per multiprocessor meets the others `times` times. counter: one word, zero before the call. */
void cuda_probe_launch_barrier(uint32_t *counter, uint32_t blocks, uint32_t times);
#ifdef __cplusplus
}
#endif

#endif
