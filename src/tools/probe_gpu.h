/* The limits of the machine's NVIDIA GPUs: measured by the cuda backend's probe, with what the driver says beside it, once as found or once
 * per power limit asked for. */
#ifndef TOOLS_PROBE_GPU_H
#define TOOLS_PROBE_GPU_H

#include "backend/cuda/probe.h"
#include "base/buf.h"
#include "machine/nvml.h"

#define PROBE_GPU_CAPS_MAX 8

struct probe_gpu {
    uint32_t device;
    double power_cap_w;    /* that was set for this measurement; 0 = as found */
    double seconds;        /* per item */
    struct nvml_info info; /* empty without NVML */
    double peak_w, peak_c; /* read every 100 ms while it ran; -1 unknown */
    int64_t throttled;     /* NVML_THROTTLE_* seen */
    struct cuda_probe limits;
};

struct probe_gpu_options {
    uint32_t device;
    double seconds;                  /* per item; 0 = 2 */
    double caps[PROBE_GPU_CAPS_MAX]; /* power limits in watts, set one after the other and put back at the end */
    uint32_t n_caps;
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *progress_ctx;
};

/* GPUs that can be measured; 0 in a build without CUDA. */
uint32_t probe_gpu_count(void);
/* on_result is called once as found, or once per power limit. */
sluice_status probe_gpu_run(const struct probe_gpu_options *options,
                            void (*on_result)(void *ctx, const struct probe_gpu *gpu), void *ctx, sluice_error *err);
/* Memory bandwidth on paper: two transfers per clock over the bus (GDDR and HBM as NVML reports their clocks); 0 unknown. */
double probe_gpu_paper_gb_s(const struct nvml_info *info);
/* {"kind":"probe","device":"gpu0","name":...,"power_cap_w":...,"seconds":...,"items":[...]}, items as in docs/records.md */
void probe_gpu_json(struct buf *b, const struct probe_gpu *gpu);
void probe_gpu_text(struct buf *b, const struct probe_gpu *gpu);

#endif
