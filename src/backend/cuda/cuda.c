#include "backend/cuda/cuda.h"
#include "backend/cuda/probe.h"

#include "base/arena.h"
#include "base/mem.h"
#include "base/status.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static size_t max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

sluice_status cuda_check(cudaError_t status, const char *what, sluice_error *err) {
    if (status == cudaSuccess) {
        return SLUICE_OK;
    }
    cudaGetLastError();
    if (status == cudaErrorMemoryAllocation) {
        return fail(err, SLUICE_E_NOMEM, "out of memory while %s", what);
    }
    return fail(err, SLUICE_E_BACKEND, "the GPU failed while %s: %s", what, cudaGetErrorString(status));
}

static sluice_status cuda_probe(sluice_error *err) {
    int n = 0, major = 0, minor = 0;
    cudaError_t status = cudaGetDeviceCount(&n);
    if (status != cudaSuccess || n == 0) {
        cudaGetLastError();
        return fail(err, SLUICE_E_UNSUPPORTED, "no GPU: %s",
                    status == cudaSuccess ? "the driver shows no device" : cudaGetErrorString(status));
    }
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
    if (major < 8) {
        return fail(err, SLUICE_E_UNSUPPORTED, "no GPU: the device has compute capability %d.%d; 8.0 is needed", major,
                    minor);
    }
    return SLUICE_OK;
}

static uint64_t cuda_memory(void) {
    size_t available = 0, all = 0;
    return cudaMemGetInfo(&available, &all) == cudaSuccess ? available : 0;
}

/* ---- Opening */

static bool k_quant(const struct cuda_mat *m) {
    return m->type == CUDA_Q4_K || m->type == CUDA_Q5_K || m->type == CUDA_Q6_K;
}

/* What the kernels rely on beyond what model_bind checked. */
static sluice_status check_model(struct cuda *c, sluice_error *err) {
    const struct model *m = c->m;
    if (m->n_embd % 16 || m->head_dim % 8 || m->head_dim > 256) {
        return fail(err, SLUICE_E_UNSUPPORTED,
                    "the cuda backend needs widths that are multiples of 16 and heads of 8 to 256, not %u and %u; use "
                    "--backend ref",
                    m->n_embd, m->head_dim);
    }
    for (uint32_t i = 0; i < m->n_layer; i++) {
        const struct model_layer *l = &m->layers[i];
        if (l->gate.n_rows % 16 || (l->is_attention && (m->n_head / l->n_head_kv) * m->head_dim * 5 > 10000)) {
            return fail(err, SLUICE_E_UNSUPPORTED,
                        "layer %u is %u units wide with %u heads per KV head, more than the cuda backend computes; use "
                        "--backend ref",
                        i, l->gate.n_rows, l->is_attention ? m->n_head / l->n_head_kv : 0);
        }
    }
    return SLUICE_OK;
}

/* Whether this model's widths leave the kernels for n rows enough shared memory. */
static bool rows_fit(const struct cuda *c, uint32_t n) {
    const struct model *m = c->m;
    bool fit = cuda_rows_fit(CUDA_ROWS_HEAD, &c->output, n, 0);
    for (uint32_t i = 0; i < m->n_layer; i++) {
        const struct cuda_layer *l = &c->layers[i];
        bool moe = m->layers[i].is_moe, attention = m->layers[i].is_attention;
        fit = fit && cuda_rows_fit(CUDA_ROWS_OUT, attention ? &l->wo : &l->out_proj, n, moe ? m->n_expert : 0);
        fit = fit && (attention ? cuda_rows_fit(CUDA_ROWS_QKV, &l->wq, n, 0)
                                : cuda_rows_fit(CUDA_ROWS_IN_PROJ, &l->in_proj, n, 0));
        fit = fit && cuda_rows_fit(CUDA_ROWS_GATE_UP, &l->gate, n, 0) &&
              cuda_rows_fit(CUDA_ROWS_DOWN, &l->down, n, moe ? m->n_expert_used : 1);
    }
    return fit;
}

/* Whether the decode kernels know all of this model's types and widths. */
static void choose_paths(struct cuda *c) {
    const struct model *m = c->m;
    bool k = true, any_float = false, small = true;
    for (uint32_t i = 0; i < m->n_layer; i++) {
        const struct cuda_layer *l = &c->layers[i];
        const struct cuda_mat *mats[] = {&l->wq,       &l->wk,   &l->wv, &l->wo,  &l->in_proj,
                                         &l->out_proj, &l->gate, &l->up, &l->down};
        for (size_t j = 0; j < sizeof mats / sizeof mats[0]; j++) {
            k &= !mats[j]->q || k_quant(mats[j]);
        }
        uint32_t vectors = m->layers[i].is_moe ? m->n_expert_used : 1;
        small = small && l->gate.type == l->up.type && vectors * ((l->down.n_cols + 2047) / 2048) <= 16;
    }
    any_float = !k || !k_quant(&c->output);
    c->floats = any_float;
    c->fused = !any_float && small && m->n_embd <= 2048 && m->n_embd % 256 == 0 && m->n_head * m->head_dim <= 2048 &&
               m->head_dim % 16 == 0 && m->n_expert <= CUDA_EXPERTS_MAX && m->n_expert_used <= CUDA_USED_MAX;
    c->rows_max = c->fused ? CUDA_DECODE_ROWS : 0;
    while (c->rows_max > 1 && !rows_fit(c, c->rows_max)) {
        c->rows_max--;
    }
}

/* Everything but weights, in one block; base NULL only counts. */
static size_t layout(struct cuda *c, char *base) {
    const struct model *m = c->m;
    const struct backend_options *o = &c->limits;
    size_t used = 0, n = o->step_tokens_max, experts = m->n_expert_used ? m->n_expert_used : 1;
    size_t q_cols = (size_t)m->n_head * m->head_dim, kv_cols = (size_t)m->n_head_kv_max * m->head_dim;
    size_t kv = (size_t)m->n_attn_layers * o->n_pages * KV_PAGE_TOKENS * kv_cols;
    c->keys = arena_take(base, &used, kv, sizeof(uint16_t));
    c->values = arena_take(base, &used, kv, sizeof(uint16_t));
    c->conv_state = arena_take(base, &used, o->n_slots * model_conv_state_bytes(m), 1);
    c->snapshots = arena_take(base, &used, o->n_pages * model_conv_state_bytes(m), 1);
    c->caps.kv_bytes = used;
    c->drawn = arena_take(base, &used, o->n_slots, 4);
    size_t columns = (size_t)m->n_conv_layers * step_draft_columns(m, o);
    for (uint32_t i = 0; i < CUDA_TURNS; i++) {
        c->turns[i].draft_columns = arena_take(base, &used, columns * m->n_embd, sizeof(float));
    }
    c->rope_rate = arena_take(base, &used, m->head_dim / 2, sizeof(double));
    c->h = arena_take(base, &used, n * m->n_embd, sizeof(float));
    c->wide = arena_take(base, &used, n * max_size(3 * (size_t)m->n_embd, q_cols + 2 * kv_cols), sizeof(float));
    c->mid = arena_take(base, &used, n * max_size(m->n_embd, q_cols), sizeof(float));
    c->cos_sin = arena_take(base, &used, n * m->head_dim, sizeof(float));
    /* (token, expert) pairs; for prompts, those of each expert from a multiple of eight on */
    size_t entries = m->n_expert ? n * experts : 0, places = entries + 8 * (size_t)m->n_expert;
    size_t hidden = max_size(n * m->n_ff, places * m->n_ff_exp);
    c->gate = arena_take(base, &used, 2 * hidden, sizeof(float));
    c->up = arena_take(base, &used, places * m->n_embd, sizeof(float));
    size_t widest = max_size(m->n_embd, q_cols), group = 8; /* vectors come in groups of eight */
    size_t values = max_size(max_size(n, o->step_outputs_max) + group, places) * widest;
    values = max_size(values, max_size((n + group) * m->n_ff, places * m->n_ff_exp));
    c->acts.blocks = arena_take(base, &used, values / (group * 256) + 1, CUDA_ACTS_BLOCK);
    c->acts.f = c->floats ? arena_take(base, &used, values, sizeof(float)) : NULL;
    size_t splits = (o->n_pages * (size_t)KV_PAGE_TOKENS + CUDA_SPLIT - 1) / CUDA_SPLIT;
    c->pairs = (uint32_t)(splits < CUDA_PAIRS                   ? CUDA_PAIRS
                          : splits < LIMIT_CONTEXT / CUDA_SPLIT ? splits
                                                                : LIMIT_CONTEXT / CUDA_SPLIT);
    size_t most = max_size(n, CUDA_DECODE_ROWS) * splits * 2; /* no more than a step can need */
    c->pairs = most < c->pairs ? (uint32_t)most : c->pairs;
    c->part = arena_take(base, &used, (size_t)c->pairs * m->n_head * (m->head_dim + 2), sizeof(float));
    c->groups.start = arena_take(base, &used, m->n_expert + 1, 4);
    c->groups.entry_token = arena_take(base, &used, places, 4);
    c->groups.entry_of = arena_take(base, &used, entries, 4);
    c->groups.tiles = arena_take(base, &used, 3 * (m->n_expert + entries / 8), 4);
    c->groups.sums = arena_take(base, &used, n * m->n_expert, sizeof(float));
    c->groups.scale = arena_take(base, &used, n, sizeof(float));
    c->route_part =
        arena_take(base, &used, CUDA_DECODE_ROWS * (size_t)m->n_expert * (m->n_embd / CUDA_ROUTE_GROUP), sizeof(float));
    c->route_ids = arena_take(base, &used, m->n_layer * entries, 4);
    c->chosen = arena_take(base, &used, (size_t)m->n_layer * CUDA_DECODE_ROWS, 4);
    c->route_gains = arena_take(base, &used, entries, sizeof(float));
    size_t outputs = o->step_outputs_max;
    c->logits = arena_take(base, &used, outputs * m->n_vocab, sizeof(float));
    struct cuda_drawing *d = &c->drawing;
    d->edited = arena_take(base, &used, outputs * m->n_vocab, sizeof(float));
    d->parts = arena_take(base, &used, outputs * cuda_draw_chunks(m->n_vocab), sizeof *d->parts);
    d->maxima = arena_take(base, &used, outputs * cuda_draw_chunks(m->n_vocab) * (CUDA_DRAW_CHUNK / CUDA_DRAW_BLOCK),
                           sizeof *d->maxima);
    d->lists = arena_take(base, &used, outputs * CUDA_DRAW_LIST, sizeof *d->lists);
    d->rows = arena_take(base, &used, outputs, sizeof *d->rows);
    d->weights = arena_take(base, &used, outputs * CUDA_DRAW_BINS, sizeof *d->weights);
    d->counts = arena_take(base, &used, outputs * CUDA_DRAW_BINS, sizeof *d->counts);
    return used;
}

static sluice_status no_room(const struct cuda *c, size_t available, sluice_error *err) {
    size_t kv = c->caps.kv_bytes, work = c->arena_bytes - kv;
    const char *help = work > available ? "lower --prefill-chunk or --slots"
                                        : "lower --ctx or --slots, or bound the KV cache with --kv-mem";
    return fail(
        err, SLUICE_E_NOMEM,
        "beside the weights (%.2f GiB) the GPU has %.2f GiB free, and KV and work memory need %.2f + %.2f GiB: %s",
        (double)c->weight_bytes / 0x1p30, (double)available / 0x1p30, (double)kv / 0x1p30, (double)work / 0x1p30, help);
}

static sluice_status take_memory(struct cuda *c, sluice_error *err) {
    const struct model *m = c->m;
    c->arena_bytes = layout(c, NULL);
    size_t available = 0, all = 0;
    cudaMemGetInfo(&available, &all);
    if (cudaMalloc((void **)&c->arena, c->arena_bytes) != cudaSuccess) {
        cudaGetLastError();
        c->arena = NULL;
        return no_room(c, available, err);
    }
    layout(c, c->arena);
    TRY(cuda_check(cudaMemsetAsync(c->arena, 0, c->arena_bytes, c->stream), "clearing memory", err));
    TRY(cuda_take_turns(c, err));
    double rates[128];
    for (uint32_t i = 0; i < m->head_dim / 2; i++) {
        rates[i] = pow((double)m->rope_theta, -2.0 * i / m->head_dim);
    }
    TRY(cuda_check(
        cudaMemcpyAsync(c->rope_rate, rates, m->head_dim / 2 * sizeof rates[0], cudaMemcpyHostToDevice, c->stream),
        "filling tables", err));
    return cuda_check(cudaStreamSynchronize(c->stream), "filling tables", err);
}

static void cuda_close(struct backend *base) {
    struct cuda *c = (struct cuda *)base;
    if (c->stream) {
        cudaStreamSynchronize(c->stream);
    }
    cuda_forget_graphs(c);
    cuda_profile_close(c);
    if (c->stream) {
        cudaStreamDestroy(c->stream);
    }
    if (c->words_stream) {
        cudaStreamDestroy(c->words_stream);
    }
    if (c->pages_stream) {
        cudaStreamDestroy(c->pages_stream);
    }
    cuda_drop_turns(c);
    cudaFree(c->token_memory);
    cudaFree(c->arena);
    cudaFree(c->weights);
    pthread_mutex_destroy(&c->pages_mutex);
    mem_free(c->layers);
    mem_free(c);
}

static sluice_status open_parts(struct cuda *c, sluice_error *err) {
    TRY(cuda_probe(err));
    TRY(check_model(c, err));
    c->layers = mem_calloc(c->m->n_layer, sizeof *c->layers);
    if (!c->layers) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the tables of %u layers", c->m->n_layer);
    }
    struct cudaDeviceProp prop;
    cudaSetDeviceFlags(cudaDeviceScheduleSpin | cudaDeviceMapHost); /* a decode step is shorter than a wake-up */
    TRY(cuda_check(cudaSetDevice(c->device), "choosing the device", err));
    TRY(cuda_check(cudaGetDeviceProperties(&prop, c->device), "reading the device's properties", err));
    c->n_sm = (uint32_t)prop.multiProcessorCount;
    snprintf(c->caps.device, sizeof c->caps.device, "%.80s, sm_%d%d, %d SMs", prop.name, prop.major, prop.minor,
             prop.multiProcessorCount);
    TRY(cuda_check(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), "making a stream", err));
    TRY(cuda_check(cudaStreamCreateWithFlags(&c->words_stream, cudaStreamNonBlocking), "making a stream", err));
    TRY(cuda_check(cudaStreamCreateWithFlags(&c->pages_stream, cudaStreamNonBlocking), "making a stream", err));
    TRY(cuda_check(cuda_wide_setup(), "preparing kernels", err));
    TRY(cuda_check(cuda_attend_prompt_setup((int)prop.sharedMemPerBlockOptin), "preparing kernels", err));
    TRY(cuda_check(cuda_attend_setup(), "preparing kernels", err));
    TRY(cuda_check(cuda_decode_setup((int)prop.sharedMemPerBlockOptin), "preparing kernels", err));
    TRY(cuda_check(cuda_rows_setup((int)prop.sharedMemPerBlockOptin), "preparing kernels", err));
    TRY(cuda_upload(c, err));
    choose_paths(c);
    TRY(take_memory(c, err));
    return cuda_token_open(c, (int)prop.sharedMemPerBlockOptin, err);
}

static void count_memory(struct cuda *c) {
    size_t available = 0, all = 0, words = CUDA_TURNS * c->words_max * 4;
    cudaMemGetInfo(&available, &all);
    c->caps.weight_bytes = c->weight_bytes;
    c->caps.work_bytes = c->arena_bytes - c->caps.kv_bytes + c->token_bytes + words;
    c->caps.pinned_bytes = c->pinned_bytes + words;
    uint64_t ours = c->weight_bytes + c->arena_bytes + c->token_bytes + words;
    c->caps.other_bytes = all - available > ours ? all - available - ours : 0;
}

static sluice_status cuda_open(const struct model *m, const struct backend_options *options, struct backend **out,
                               sluice_error *err) {
    struct cuda *c = mem_calloc(1, sizeof *c);
    if (!c) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the cuda backend");
    }
    c->base.ops = &backend_cuda_ops;
    c->m = m;
    c->limits = *options;
    struct backend_options *o = &c->limits;
    o->step_tokens_max = o->step_tokens_max ? o->step_tokens_max : CUDA_CHUNK;
    o->step_drafts_max = o->step_drafts_max < CUDA_DRAW_MORE ? o->step_drafts_max : CUDA_DRAW_MORE;
    o->step_outputs_max = o->step_outputs_max ? o->step_outputs_max : (o->n_slots ? o->n_slots : 1);
    pthread_mutex_init(&c->pages_mutex, NULL);
    sluice_status status = open_parts(c, err);
    if (status != SLUICE_OK) {
        cuda_close(&c->base);
        return status;
    }
    c->caps.name = "cuda";
    c->caps.n_threads = 1;
    c->caps.step_tokens_max = o->step_tokens_max;
    c->caps.step_outputs_max = o->step_outputs_max;
    c->caps.step_drafts_max = o->step_drafts_max;
    c->caps.steps_ahead = CUDA_TURNS - 1;
    c->caps.samples = true;
    c->caps.page_bytes = model_page_bytes(m);
    c->caps.page_format = "cuda-1";
    c->caps.prefill_chunk = o->step_tokens_max;
    count_memory(c);
    *out = &c->base;
    return SLUICE_OK;
}

static const struct backend_caps *cuda_caps(const struct backend *base) {
    return &((const struct cuda *)base)->caps;
}

/* ---- Steps */

static sluice_status submit(struct cuda *c, const struct backend_step *step, sluice_error *err) {
    struct cuda_turn *turn = c->turn = &c->turns[c->submitted % CUDA_TURNS];
    uint32_t positions_max;
    bool plain;
    TRY(step_check(c->m, &c->limits, c->caps.samples, step, &turn->n, &turn->n_outputs, err));
    step_place_drafts(c->m, step, &turn->drafts);
    turn->counted = turn->direct = false;
    if (turn->n == 0) {
        return SLUICE_OK;
    }
    TRY(cuda_send_step(c, step, &positions_max, &plain, err));
    return cuda_forward(c, positions_max, plain, err);
}

static sluice_status cuda_submit(struct backend *base, const struct backend_step *step, sluice_error *err) {
    struct cuda *c = (struct cuda *)base;
    if (c->submitted - c->waited >= CUDA_TURNS) {
        return fail(err, SLUICE_E_ARG, "%d steps are under way, as many as the cuda backend takes", CUDA_TURNS);
    }
    sluice_status status = submit(c, step, err);
    if (status != SLUICE_OK) {
        cudaStreamSynchronize(c->stream); /* the next step may write to this turn's memory */
        return status;
    }
    c->submitted++;
    return SLUICE_OK;
}

/* Weight bytes of the step: everything once, of the experts those that were touched. */
static uint64_t step_bytes(const struct cuda *c, const struct cuda_turn *turn) {
    const struct model *m = c->m;
    if (turn->n == 0) {
        return 0;
    }
    uint64_t bytes = m->decode_bytes - (turn->n_outputs ? 0 : m->output.mat_bytes);
    for (uint32_t i = 0; i < m->n_layer && turn->counted; i++) {
        const struct model_layer *l = &m->layers[i];
        uint64_t expert = l->is_moe ? l->gate.mat_bytes + l->up.mat_bytes + l->down.mat_bytes : 0;
        bytes += expert * turn->touched[i] - expert * m->n_expert_used;
    }
    return bytes;
}

static sluice_status cuda_wait(struct backend *base, struct backend_output *out, sluice_error *err) {
    struct cuda *c = (struct cuda *)base;
    if (c->waited == c->submitted) {
        return fail(err, SLUICE_E_ARG, "no step of the cuda backend is under way");
    }
    struct cuda_turn *turn = &c->turns[c->waited++ % CUDA_TURNS];
    *out = (struct backend_output){.n_logits = 0};
    if (turn->n > 0) {
        TRY(cuda_check(cudaEventSynchronize(turn->done), "computing a step", err));
    }
    cuda_profile_step(c, turn);
    cuda_give_results(turn, out);
    out->weight_bytes = step_bytes(c, turn);
    return SLUICE_OK;
}

/* ---- The limit */

static sluice_status cuda_read_rate(struct backend *base, double seconds, double *out, sluice_error *err) {
    sluice_error why = {0};
    *out = cuda_probe_read(((struct cuda *)base)->device, seconds, &why) * 1e9;
    return *out > 0 ? SLUICE_OK : fail(err, SLUICE_E_BACKEND, "%s", why.text);
}

const struct backend_ops backend_cuda_ops = {
    .name = "cuda",
    .probe = cuda_probe,
    .memory = cuda_memory,
    .open = cuda_open,
    .close = cuda_close,
    .caps = cuda_caps,
    .submit = cuda_submit,
    .wait = cuda_wait,
    .rewind = cuda_backend_rewind,
    .page_save = cuda_page_save,
    .page_load = cuda_page_load,
    .profile = cuda_profile,
    .read_rate = cuda_read_rate,
};
