/*
 * How an engine divides memory: slots, context per request, KV pages. Made before the backend allocates anything,
 * because memory is given out lazily and a plan that does not fit would be noticed only when the system kills the
 * process.
 */
#ifndef ENGINE_PLAN_H
#define ENGINE_PLAN_H

#include "base/limits.h"
#include "engine/model_impl.h"

struct engine_plan {
    uint32_t n_slots;
    uint32_t ctx_per_slot;
    uint32_t pages_per_slot; /* for ctx_per_slot */
    uint32_t n_pages; /* of all slots and the prefix cache; n_slots * pages_per_slot, or what kv_bytes_max says */
    uint32_t cached_pages_max; /* that the prefix tree may keep while nobody uses them */
    uint32_t queue_max;
    uint32_t prefill_chunk;    /* 0 = the backend's choice */
    uint64_t memory_available; /* 0 = unknown */
};

/* Checks the options and divides `available` bytes (0 = unknown). Without a ctx_per_slot the context shrinks until all
 * slots fit. SLUICE_E_NOMEM names what does not fit and the option that helps. */
sluice_status plan_make(const sluice_model *model, const sluice_engine_options *options, uint64_t available,
                        struct engine_plan *plan, sluice_error *err);
/* The same judgement on what the opened backend says it will use. */
sluice_status plan_check(const struct engine_plan *plan, uint64_t weight_bytes, uint64_t kv_bytes, uint64_t work_bytes,
                         sluice_error *err);

static inline uint32_t plan_pages(uint64_t tokens) {
    return (uint32_t)((tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS);
}

#endif
