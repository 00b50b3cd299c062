/* `sluice quantize`: a model file in another quantisation level. */
#ifndef TOOLS_QUANTIZE_H
#define TOOLS_QUANTIZE_H

#include "quant/mix.h"
#include "sluice.h"

struct quantize_options {
    const char *in, *out; /* may be the same path: the result replaces it when whole */
    const struct mix *mix;
    uint32_t n_threads;                                         /* 0 = what this process may use */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* weights; may be NULL */
    void (*note)(void *ctx, const char *text);                  /* what the user should know; may be NULL */
    void *ctx;
};

struct quantize_result {
    uint64_t in_bytes, out_bytes; /* of the files */
    uint64_t n_weights, tensor_bytes;
    uint32_t n_tensors[64]; /* by enum dtype, as written */
};

sluice_status quantize_file(const struct quantize_options *options, struct quantize_result *result, sluice_error *err);

#endif
