/* `sluice synth`: a model file of a published shape with random weights and a made-up vocabulary, for speed tests. */
#ifndef TOOLS_SYNTH_H
#define TOOLS_SYNTH_H

#include "model/presets.h"
#include "quant/mix.h"
#include "sluice.h"

struct synth_options {
    const struct preset *preset;
    const struct mix *mix;
    const char *out;
    uint64_t seed;                                              /* same seed, same bytes, whatever the threads */
    uint32_t n_threads;                                         /* 0 = what this process may use */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* weights; may be NULL */
    void *ctx;
};

struct synth_result {
    uint64_t n_weights, tensor_bytes;
};

sluice_status synth_file(const struct synth_options *options, struct synth_result *result, sluice_error *err);

#endif
