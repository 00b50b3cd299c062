#include "backend/cpu/cpu.h"

#include "backend/cpu/blocks.h"

#include "base/arena.h"
#include "base/mem.h"
#include "base/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

/* How much the integer forms of some activations take. */
struct acts_size {
    size_t blocks, pack_bytes;
};

/* n tokens, packed in n_packs packs where the kernels have them. */
static struct acts_size size_acts(const struct cpu *c, size_t n, uint32_t n_cols, size_t n_packs) {
    return (struct acts_size){n * (n_cols / QK), c->k->pack ? n_packs * kernels_pack_bytes(n_cols) : 0};
}

/* The greater in everything: one acts may serve two shapes, its n_cols set per use. */
static struct acts_size size_both(struct acts_size a, struct acts_size b) {
    return (struct acts_size){max_size(a.blocks, b.blocks), max_size(a.pack_bytes, b.pack_bytes)};
}

static void take_acts(struct acts *a, char *base, size_t *used, struct acts_size size) {
    a->blocks = arena_take(base, used, size.blocks, sizeof(struct act_block));
    a->packs = size.pack_bytes ? arena_take(base, used, size.pack_bytes, 1) : NULL;
}

static uint32_t widest_row(const struct model *m) {
    uint32_t w = m->n_embd;
    uint32_t others[] = {m->n_head * m->head_dim, m->n_ff, m->n_ff_exp};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        w = others[i] > w ? others[i] : w;
    }
    return w;
}

static void layout_thread(struct cpu *c, struct cpu_thread *t, char *base, size_t *used) {
    const struct model *m = c->m;
    size_t experts = m->n_expert_used ? m->n_expert_used : 1;
    t->panel = arena_take(base, used, kernels_scratch_bytes(widest_row(m)), 1);
    uint32_t attn_cols = m->n_head * m->head_dim;
    t->x = (struct acts){.n_cols = m->n_embd, .f = arena_take(base, used, m->n_embd, sizeof(float))};
    t->conv_out = (struct acts){.n_cols = m->n_embd, .f = c->conv_out.f};
    t->attn_out = (struct acts){.n_cols = attn_cols, .f = c->attn_out.f};
    take_acts(&t->x, base, used, size_acts(c, 1, m->n_embd, 0));
    take_acts(&t->conv_out, base, used, size_acts(c, 1, m->n_embd, 0));
    take_acts(&t->attn_out, base, used, size_acts(c, 1, attn_cols, 0));
    take_acts(&t->hidden, base, used, size_both(size_acts(c, 1, m->n_ff, 0), size_acts(c, experts, m->n_ff_exp, 0)));
}

static size_t layout(struct cpu *c, char *base) {
    const struct model *m = c->m;
    const struct backend_options *o = &c->limits;
    size_t used = 0;
    size_t n = o->step_tokens_max;
    size_t rows = max_size(n, o->step_outputs_max);
    size_t experts = m->n_expert_used ? m->n_expert_used : 1;
    uint32_t attn_cols = m->n_head * m->head_dim;
    size_t kv = (size_t)m->n_attn_layers * o->n_pages * m->n_head_kv_max * KV_PAGE_TOKENS * m->head_dim;
    c->keys = arena_take(base, &used, kv, sizeof(uint16_t));
    c->values = arena_take(base, &used, kv, sizeof(uint16_t));
    c->conv_state = arena_take(base, &used, o->n_slots * model_conv_state_bytes(m), 1);
    c->snapshots = arena_take(base, &used, o->n_pages * model_conv_state_bytes(m), 1);
    c->caps.kv_bytes = used;
    size_t draft_columns = (size_t)m->n_conv_layers * step_draft_columns(m, o);
    c->draft_columns = arena_take(base, &used, draft_columns * m->n_embd, sizeof(float));
    c->taps = arena_take(base, &used, (size_t)m->n_conv_layers * m->conv_taps * m->n_embd, sizeof(float));
    c->h = arena_take(base, &used, n * m->n_embd, sizeof(float));
    size_t expert_packs = n * experts / KERNELS_PACK + m->n_expert;
    c->x.f = arena_take(base, &used, rows * m->n_embd, sizeof(float));
    c->x.n_cols = m->n_embd;
    take_acts(&c->x, base, &used, size_acts(c, rows, m->n_embd, max_size(rows / KERNELS_PACK + 1, expert_packs)));
    c->conv_out.f = arena_take(base, &used, n * max_size(m->n_embd, attn_cols), sizeof(float));
    size_t packs = n / KERNELS_PACK + 1;
    take_acts(&c->conv_out, base, &used,
              size_both(size_acts(c, n, m->n_embd, packs), size_acts(c, n, attn_cols, packs)));
    c->attn_out = c->conv_out;
    c->conv_out.n_cols = m->n_embd;
    c->attn_out.n_cols = attn_cols;
    size_t hidden = max_size(n * m->n_ff, n * experts * m->n_ff_exp);
    c->hidden.f = arena_take(base, &used, hidden, sizeof(float));
    take_acts(&c->hidden, base, &used,
              size_both(size_acts(c, n, m->n_ff, packs), size_acts(c, n * experts, m->n_ff_exp, expert_packs)));
    c->wide_cols = (uint32_t)max_size(3 * (size_t)m->n_embd, attn_cols + 2 * (size_t)m->n_head_kv_max * m->head_dim);
    c->wide = arena_take(base, &used, max_size(n * c->wide_cols, hidden), sizeof(float));
    c->cos_sin = arena_take(base, &used, n * m->head_dim, sizeof(float));
    c->rope_rate = arena_take(base, &used, m->head_dim / 2, sizeof(double));
    c->route = arena_take(base, &used, n * m->n_expert, sizeof(float));
    c->expert_of = arena_take(base, &used, n * experts, sizeof(uint32_t));
    c->gain_of = arena_take(base, &used, n * experts, sizeof(float));
    c->expert_start = arena_take(base, &used, m->n_expert + 1, sizeof(uint32_t));
    c->pack_start = arena_take(base, &used, m->n_expert + 1, sizeof(uint32_t));
    c->entry_token = arena_take(base, &used, n * experts, sizeof(uint32_t));
    c->entry_slot = arena_take(base, &used, n * experts, sizeof(uint32_t));
    c->entry_gain = arena_take(base, &used, n * experts, sizeof(float));
    c->tokens = arena_take(base, &used, n, sizeof(struct step_token));
    c->row_start = arena_take(base, &used, o->n_slots, sizeof(uint32_t));
    c->out_idx = arena_take(base, &used, o->step_outputs_max, sizeof(uint32_t));
    c->logits = arena_take(base, &used, (size_t)o->step_outputs_max * m->n_vocab, sizeof(float));
    for (uint32_t i = 0; i < o->n_threads; i++) {
        layout_thread(c, &c->threads[i], base, &used);
    }
    return used;
}

static void fill_tables(struct cpu *c) {
    const struct model *m = c->m;
    for (uint32_t i = 0; i < m->n_layer; i++) {
        const struct model_layer *l = &m->layers[i];
        if (l->is_attention) {
            continue;
        }
        float *taps = c->taps + (size_t)l->conv_index * m->conv_taps * m->n_embd;
        for (uint32_t ch = 0; ch < m->n_embd; ch++) {
            for (uint32_t k = 0; k < m->conv_taps; k++) {
                taps[(size_t)k * m->n_embd + ch] = l->conv[ch * m->conv_taps + k];
            }
        }
    }
    for (uint32_t i = 0; i < m->head_dim / 2; i++) {
        c->rope_rate[i] = pow((double)m->rope_theta, -2.0 * i / m->head_dim);
    }
}

static void name_device(struct cpu *c) {
    char cpu[64] = "CPU";
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            colon += strspn(colon, ": \t");
            colon[strcspn(colon, "\n")] = '\0';
            snprintf(cpu, sizeof cpu, "%.60s", colon);
            break;
        }
    }
    if (f) {
        fclose(f);
    }
    snprintf(c->caps.device, sizeof c->caps.device, "%s, %u thread%s, %s", cpu, c->limits.n_threads,
             c->limits.n_threads == 1 ? "" : "s", c->k->name);
}

static void cpu_close(struct backend *base) {
    struct cpu *c = (struct cpu *)base;
    pool_free(c->pool);
    weights_close(&c->weights);
    mem_unmap(c->arena, c->arena_bytes);
    mem_free(c->threads);
    mem_free(c);
}

/* Kernels work on 16 columns or channels at a time. */
static sluice_status check_widths(const struct model *m, sluice_error *err) {
    for (uint32_t i = 0; i < m->n_layer; i++) {
        uint32_t ff = m->layers[i].gate.n_rows;
        if (ff % 16) {
            return fail(err, SLUICE_E_UNSUPPORTED,
                        "layer %u is %u units wide, not a multiple of 16 as the cpu backend needs; use --backend ref",
                        i, ff);
        }
    }
    return SLUICE_OK;
}

static sluice_status open_parts(struct cpu *c, sluice_error *err) {
    if (!c->k) {
        return fail(err, SLUICE_E_ARG, "SLUICE_CPU is \"%s\"; it lowers the instruction set to %s",
                    getenv("SLUICE_CPU"), kernels_masks);
    }
    TRY(check_widths(c->m, err));
    c->threads = mem_calloc(c->limits.n_threads, sizeof *c->threads);
    if (!c->threads) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the tables of %u threads", c->limits.n_threads);
    }
    c->arena_bytes = layout(c, NULL);
    c->arena = mem_map(c->arena_bytes);
    if (!c->arena) {
        return fail(err, SLUICE_E_NOMEM, "no memory for %.1f MiB of KV and work memory; lower --ctx or --slots",
                    (double)c->arena_bytes / 0x1p20);
    }
    layout(c, c->arena);
    fill_tables(c);
    shares_reset(&c->shares, c->limits.n_threads);
    TRY(pool_create(c->limits.n_threads, &c->pool, err));
    TRY(weights_open(c->m, c->pool, mem_available(), &c->weights, err));
    c->m = &c->weights.model;
    return SLUICE_OK;
}

static sluice_status cpu_open(const struct model *m, const struct backend_options *options, struct backend **out,
                              sluice_error *err) {
    struct cpu *c = mem_calloc(1, sizeof *c);
    if (!c) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the cpu backend");
    }
    c->base.ops = &backend_cpu_ops;
    c->m = m;
    c->k = kernels_select();
    c->limits = *options;
    struct backend_options *o = &c->limits;
    o->n_threads = o->n_threads ? o->n_threads : threads_allowed();
    o->n_threads = o->n_threads > LIMIT_THREADS ? LIMIT_THREADS : o->n_threads;
    struct caches caches;
    caches_read(&caches);
    uint32_t chunk = c->k ? blocks_prefill_chunk(c->k->name, &caches, m->n_embd) : 1; /* no kernels: refused below */
    o->step_tokens_max = o->step_tokens_max ? o->step_tokens_max : chunk;
    o->step_outputs_max = o->step_outputs_max ? o->step_outputs_max : (o->n_slots ? o->n_slots : 1);
    sluice_status status = open_parts(c, err);
    if (status != SLUICE_OK) {
        cpu_close(&c->base);
        return status;
    }
    c->caps.name = "cpu";
    c->caps.n_threads = o->n_threads;
    c->caps.step_tokens_max = o->step_tokens_max;
    c->caps.step_outputs_max = o->step_outputs_max;
    c->caps.step_drafts_max = o->step_drafts_max;
    c->caps.page_bytes = model_page_bytes(m);
    c->caps.page_format = "cpu-3"; /* the same bits on every ISA (docs/numerics.md) */
    c->caps.prefill_chunk = o->step_tokens_max < chunk ? o->step_tokens_max : chunk;
    c->caps.weight_bytes = c->weights.bytes;
    c->caps.weights = c->weights.strips;
    c->caps.weights_bytes = c->weights.strips_bytes;
    c->caps.work_bytes = c->arena_bytes - c->caps.kv_bytes;
    name_device(c);
    *out = &c->base;
    return SLUICE_OK;
}

static const struct backend_caps *cpu_caps(const struct backend *base) {
    return &((const struct cpu *)base)->caps;
}

static void run_thread(void *arg, uint32_t ith, uint32_t nth) {
    cpu_forward(arg, ith, nth);
}

/* Bytes of weights that every step reads, whatever its rows: all but experts, and the head only if logits are wanted. */
static uint64_t fixed_weight_bytes(const struct cpu *c) {
    uint64_t bytes = c->m->decode_bytes - (c->n_outputs ? 0 : weight_file_bytes(&c->m->output));
    for (uint32_t i = 0; i < c->m->n_layer; i++) {
        const struct model_layer *l = &c->m->layers[i];
        bytes -= l->is_moe ? c->m->n_expert_used * cpu_expert_bytes(l) : 0;
    }
    return bytes;
}

static sluice_status cpu_submit(struct backend *base, const struct backend_step *step, sluice_error *err) {
    struct cpu *c = (struct cpu *)base;
    TRY(step_check(c->m, &c->limits, c->caps.samples, step, &c->n, &c->n_outputs, err));
    step_outputs(step, c->out_idx);
    step_place_drafts(c->m, step, &c->drafts);
    uint32_t at = 0;
    for (uint32_t r = 0; r < step->n_rows; r++) {
        c->row_start[r] = at;
        for (uint32_t t = 0; t < step->rows[r].n_tokens; t++) {
            c->tokens[at++] = (struct step_token){.row = r, .pos = step->rows[r].first_pos + t};
        }
    }
    c->step = step;
    c->weight_bytes = fixed_weight_bytes(c);
    shares_begin(&c->shares, c->m->n_layer, c->limits.n_threads);
    if (c->n) {
        pool_run(c->pool, run_thread, c);
    }
    return SLUICE_OK;
}

static sluice_status cpu_wait(struct backend *base, struct backend_output *out, sluice_error *err) {
    (void)err;
    struct cpu *c = (struct cpu *)base;
    *out = (struct backend_output){.logits = c->logits, .n_logits = c->n_outputs, .weight_bytes = c->weight_bytes};
    return SLUICE_OK;
}

static void cpu_profile(struct backend *base, struct backend_profile *out) {
    static const char *const names[N_STAGES] = {
        [STAGE_START] = "embedding, angles",
        [STAGE_NORM] = "norms, quantising",
        [STAGE_CONV_IN] = "conv in_proj",
        [STAGE_CONV] = "conv",
        [STAGE_CONV_OUT] = "conv out_proj",
        [STAGE_QKV] = "attention q, k, v",
        [STAGE_HEADS] = "head norms, rope, kv store",
        [STAGE_ATTEND] = "attention",
        [STAGE_ATTN_OUT] = "attention output",
        [STAGE_ROUTE] = "router, packing",
        [STAGE_EXPERTS_UP] = "experts gate, up, silu",
        [STAGE_EXPERTS_DOWN] = "experts down",
        [STAGE_DENSE_UP] = "dense gate, up, silu",
        [STAGE_DENSE_DOWN] = "dense down",
        [STAGE_OUTPUT] = "output matrix",
        [STAGE_WAIT] = "waiting at barriers",
    };
    _Static_assert((int)N_STAGES <= (int)BACKEND_STAGES_MAX, "all stages fit");
    struct cpu *c = (struct cpu *)base;
    *out = c->profile;
    c->profiling = true;
    c->profile = (struct backend_profile){.n_stages = N_STAGES};
    for (int i = 0; i < N_STAGES; i++) {
        c->profile.stages[i].name = names[i];
    }
}

static sluice_status cpu_probe(sluice_error *err) {
    (void)err;
    return SLUICE_OK;
}

const struct backend_ops backend_cpu_ops = {
    .name = "cpu",
    .probe = cpu_probe,
    .memory = mem_available,
    .open = cpu_open,
    .close = cpu_close,
    .caps = cpu_caps,
    .submit = cpu_submit,
    .wait = cpu_wait,
    .rewind = cpu_rewind,
    .page_save = cpu_page_save,
    .page_load = cpu_page_load,
    .profile = cpu_profile,
};
