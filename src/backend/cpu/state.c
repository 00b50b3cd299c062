/*
 * What outlives a step: conv state taken back to before wrong drafts, and pages on their way out and in.
 *
 * A page outside is, layer by layer, K [n_head_kv][head_dim][64] and V [n_head_kv][64][head_dim] in F16 for attention
 * layers, then the snapshot [n_conv_layers][conv_taps - 1][n_embd] in F32: model_page_bytes in all.
 */
#include "backend/cpu/cpu.h"
#include "base/status.h"

#include <string.h>

sluice_status cpu_rewind(struct backend *base, uint32_t slot, uint32_t n_kept, sluice_error *err) {
    struct cpu *c = (struct cpu *)base;
    TRY(step_check_rewind(&c->drafts, slot, n_kept, err));
    size_t bytes = (size_t)(c->m->conv_taps - 1) * c->m->n_embd * sizeof(float);
    for (uint32_t i = 0; i < c->m->n_conv_layers; i++) {
        memcpy(cpu_conv_columns(c, c->conv_state, slot, i), cpu_draft_column(c, &c->drafts.of[slot], i, n_kept), bytes);
    }
    return SLUICE_OK;
}

static void carry_page(const struct cpu *c, uint32_t page, struct parcel p) {
    const struct model *m = c->m;
    for (uint32_t i = 0; i < m->n_layer; i++) {
        const struct model_layer *l = &m->layers[i];
        if (l->is_attention) {
            size_t bytes = (size_t)l->n_head_kv * KV_PAGE_TOKENS * m->head_dim * sizeof(uint16_t);
            parcel_carry(&p, cpu_kv_head(c, c->keys, l->kv_index, page, 0), bytes);
            parcel_carry(&p, cpu_kv_head(c, c->values, l->kv_index, page, 0), bytes);
        }
    }
    parcel_carry(&p, cpu_conv_columns(c, c->snapshots, page, 0), model_conv_state_bytes(m));
}

sluice_status cpu_page_save(struct backend *base, uint32_t page, void *bytes, sluice_error *err) {
    const struct cpu *c = (const struct cpu *)base;
    TRY(step_check_page(&c->limits, page, err));
    carry_page(c, page, (struct parcel){.out = bytes});
    return SLUICE_OK;
}

sluice_status cpu_page_load(struct backend *base, uint32_t page, const void *bytes, sluice_error *err) {
    const struct cpu *c = (const struct cpu *)base;
    TRY(step_check_page(&c->limits, page, err));
    carry_page(c, page, (struct parcel){.in = bytes});
    return SLUICE_OK;
}
