#include "engine/plan.h"

#include "base/status.h"

#include <stdio.h>

#define CTX_DEFAULT   32768u       /* the model cards' context; memory for more is asked for with --ctx */
#define CTX_LEAST     512u         /* a default context below this helps nobody: say what does not fit instead */
#define WORK_ESTIMATE (96u << 20)  /* activations and logits of one step; the backend's own figure is checked later */
#define SPARE_MAX     (512u << 20) /* left for the rest of the system, or a sixteenth of what there is */

struct size_text {
    char s[24];
};

static struct size_text size_text(uint64_t bytes) {
    struct size_text t;
    if (bytes >= 1u << 30) {
        snprintf(t.s, sizeof t.s, "%.2f GiB", (double)bytes / (double)(1u << 30));
    } else {
        snprintf(t.s, sizeof t.s, "%.1f MiB", (double)bytes / (double)(1u << 20));
    }
    return t;
}

/* What may be planned with; UINT64_MAX if unknown. */
static uint64_t usable(uint64_t available) {
    if (available == 0) {
        return UINT64_MAX;
    }
    uint64_t spare = available / 16 < SPARE_MAX ? available / 16 : SPARE_MAX;
    return available - spare;
}

static sluice_status check_options(const sluice_model *model, const sluice_engine_options *o, sluice_error *err) {
    if (o->n_slots < 1 || o->n_slots > LIMIT_SLOTS) {
        return fail(err, SLUICE_E_ARG, "%u slots were asked for (--slots); the range is 1 to %u", o->n_slots,
                    LIMIT_SLOTS);
    }
    if (o->n_threads > LIMIT_THREADS) {
        return fail(err, SLUICE_E_ARG, "%u threads were asked for (-t); the limit is %u", o->n_threads, LIMIT_THREADS);
    }
    if (o->queue_max > LIMIT_QUEUE) {
        return fail(err, SLUICE_E_ARG, "a queue of %u requests was asked for; the limit is %u", o->queue_max,
                    LIMIT_QUEUE);
    }
    if (o->draft_max > LIMIT_DRAFTS) {
        return fail(err, SLUICE_E_ARG, "%u drafts per step were asked for (--draft-max); the limit is %u", o->draft_max,
                    LIMIT_DRAFTS);
    }
    if (o->ctx_per_slot > model->info.n_ctx_train) {
        return fail(err, SLUICE_E_ARG, "a context of %u tokens was asked for (--ctx); %s was made for at most %u",
                    o->ctx_per_slot, model->info.name, model->info.n_ctx_train);
    }
    if (o->ctx_per_slot == 1) {
        return fail(err, SLUICE_E_ARG, "a context of 1 token has no room for a prompt and an answer; raise --ctx");
    }
    return SLUICE_OK;
}

static sluice_status does_not_fit(const struct engine_plan *plan, uint64_t weights, uint64_t kv, uint64_t work,
                                  sluice_error *err) {
    const char *help = "lower --ctx or --slots, or bound the KV cache with --kv-mem";
    if (weights > usable(plan->memory_available)) {
        help = "choose a smaller model or quantization, or free memory";
    } else if (weights + work > usable(plan->memory_available)) {
        help =
            plan->prefill_chunk ? "lower --prefill-chunk or --slots, or free memory" : "lower --slots, or free memory";
    }
    return fail(err, SLUICE_E_NOMEM,
                "the engine needs %s for weights, %s for KV (%u slots of %u tokens) and %s for work, but only %s of "
                "memory is available: %s",
                size_text(weights).s, size_text(kv).s, plan->n_slots, plan->ctx_per_slot, size_text(work).s,
                size_text(plan->memory_available).s, help);
}

sluice_status plan_check(const struct engine_plan *plan, uint64_t weight_bytes, uint64_t kv_bytes, uint64_t work_bytes,
                         sluice_error *err) {
    if (weight_bytes + kv_bytes + work_bytes > usable(plan->memory_available)) {
        return does_not_fit(plan, weight_bytes, kv_bytes, work_bytes, err);
    }
    return SLUICE_OK;
}

/* kv_bytes_max is one pool for all slots and the prefix cache: one request alone must be able to reach its context in
 * it. What running requests leave serves as cache, so no pool is too large. */
static sluice_status fit_pool(struct engine_plan *plan, const sluice_engine_options *o, uint64_t page_bytes,
                              sluice_error *err) {
    uint64_t pages = page_bytes ? o->kv_bytes_max / page_bytes : UINT32_MAX;
    if (pages == 0 || (o->ctx_per_slot && pages < plan->pages_per_slot)) {
        uint64_t need = page_bytes * (pages == 0 ? 1 : plan->pages_per_slot);
        return fail(
            err, SLUICE_E_NOMEM,
            "the KV cache may use %s (--kv-mem), but %u tokens of context need %s: raise --kv-mem or lower --ctx",
            size_text(o->kv_bytes_max).s, pages == 0 ? KV_PAGE_TOKENS : plan->ctx_per_slot, size_text(need).s);
    }
    if (pages < plan->pages_per_slot) {
        plan->pages_per_slot = (uint32_t)pages;
        plan->ctx_per_slot = (uint32_t)pages * KV_PAGE_TOKENS;
    }
    plan->n_pages = pages < LIMIT_PAGES ? (uint32_t)pages : LIMIT_PAGES;
    return SLUICE_OK;
}

/* Without kv_bytes_max every slot can reach its context at the same time. */
static void fit_memory(struct engine_plan *plan, const sluice_engine_options *o, uint64_t page_bytes, uint64_t fixed) {
    uint64_t room = usable(plan->memory_available);
    uint64_t pages = room > fixed && page_bytes ? (room - fixed) / page_bytes : 0;
    if (o->ctx_per_slot || page_bytes == 0 || pages >= plan->n_pages) {
        return;
    }
    uint64_t each = pages / plan->n_slots;
    uint32_t least = plan->ctx_per_slot < CTX_LEAST ? plan->ctx_per_slot : CTX_LEAST;
    if (each * KV_PAGE_TOKENS >= least) {
        plan->pages_per_slot = (uint32_t)each;
        plan->ctx_per_slot = (uint32_t)each * KV_PAGE_TOKENS;
        plan->n_pages = plan->n_slots * plan->pages_per_slot;
    }
}

sluice_status plan_make(const sluice_model *model, const sluice_engine_options *o, uint64_t available,
                        struct engine_plan *plan, sluice_error *err) {
    TRY(check_options(model, o, err));
    uint32_t train = model->info.n_ctx_train;
    uint32_t ctx = o->ctx_per_slot ? o->ctx_per_slot : train < CTX_DEFAULT ? train : CTX_DEFAULT;
    *plan = (struct engine_plan){.n_slots = o->n_slots,
                                 .ctx_per_slot = ctx,
                                 .pages_per_slot = plan_pages(ctx),
                                 .n_pages = o->n_slots * plan_pages(ctx),
                                 .queue_max = o->queue_max,
                                 .prefill_chunk = o->prefill_chunk,
                                 .memory_available = available};
    uint64_t page_bytes = model_page_bytes(model->model);
    uint64_t weights = model->info.tensor_bytes;
    uint64_t states = model_conv_state_bytes(model->model) * o->n_slots;
    if (o->kv_bytes_max) {
        TRY(fit_pool(plan, o, page_bytes, err));
    } else {
        fit_memory(plan, o, page_bytes, weights + WORK_ESTIMATE + states);
    }
    uint64_t cached = page_bytes ? o->cache_bytes_max / page_bytes : 0;
    plan->cached_pages_max = cached < plan->n_pages ? (uint32_t)cached : plan->n_pages;
    return plan_check(plan, weights, plan->n_pages * page_bytes + states, WORK_ESTIMATE, err);
}
