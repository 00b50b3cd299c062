/* Runs the tests of `sluice raw` on one backend that is opened once for the largest of them. */
#include "tools/raw.h"

#include "backend/backend.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "tools/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plan { /* what all tests together ask of the backend */
    uint32_t batch_max, positions_max;
    uint64_t tokens_total; /* for the progress bar */
};

struct runner {
    const struct raw_options *options;
    const struct raw_callbacks *callbacks;
    struct model *model;
    struct backend *backend;
    const struct backend_ops *ops;
    const struct backend_caps *caps;
    struct raw_setup setup;
    struct plan plan;
    uint32_t pages_per_row;
    uint32_t *pages;           /* [batch_max][pages_per_row] */
    int32_t *tokens;           /* [batch_max][positions_max] */
    struct backend_row *rows;  /* [batch_max] */
    uint32_t *done;            /* [batch_max] tokens of a prefill already computed */
    uint32_t filled, filled_n; /* depth that the first filled_n rows hold in their pages */
    uint64_t tokens_done;
    uint64_t random;
    double read_roof, compute_roof;
    const char *compute_kind; /* "int8" or "f32": what this model's products are made of */
    double gop_per_token;     /* 1e9 operations of the weight matrices for one prompt token, output matrix apart */
    double output_gop;        /* of the output matrix, once per row that wants logits */
    double dense_bytes, expert_bytes; /* per step outside the experts; of one expert, mean over the layers */
    const char *test;
    sluice_error *err;
};

/* A backend that draws tokens draws them here, too, though the rows go on with other ones. */
static const struct sample_rules greedy = {.greedy = true, .s = {.top_p = 1, .repetition_penalty = 1}};

bool raw_list_parse(const char *text, struct raw_list *out) {
    struct raw_list list = {.n = 0};
    for (const char *p = text;; p++) {
        char *end;
        if (*p < '0' || *p > '9' || list.n == RAW_LIST_MAX) {
            return false;
        }
        unsigned long v = strtoul(p, &end, 10);
        if (v > LIMIT_CONTEXT) {
            return false;
        }
        list.v[list.n++] = (uint32_t)v;
        p = end;
        if (*p == '\0') {
            *out = list;
            return true;
        }
        if (*p != ',') {
            return false;
        }
    }
}

void raw_test_name(enum raw_kind kind, uint32_t n, uint32_t depth, uint32_t batch, char out[64]) {
    char at[24] = "";
    char by[24] = "";
    if (depth) {
        snprintf(at, sizeof at, "@d%u", depth);
    }
    if (batch > 1) {
        snprintf(by, sizeof by, "@b%u", batch);
    }
    snprintf(out, 64, "%s%u%s%s", kind == RAW_PREFILL ? "pp" : "tg", n, at, by);
}

static uint32_t next_random(struct runner *r, uint32_t below) {
    uint64_t z = r->random += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)(((z ^ z >> 31) >> 32) * below >> 32);
}

/* ---- What a token costs */

static double matrix_macs(const struct weight *w, double used) {
    return w->data ? (double)w->n_rows * w->n_cols * used : 0;
}

static void count_model(struct runner *r) {
    const struct model *m = r->model;
    double macs = 0;
    uint64_t experts = 0;
    uint64_t moe_layers = 0;
    bool quantised = false;
    for (uint32_t i = 0; i < m->n_layer; i++) {
        const struct model_layer *l = &m->layers[i];
        const struct weight *once[] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->in_proj, &l->out_proj, &l->router};
        const struct weight *ffn[] = {&l->gate, &l->up, &l->down};
        for (size_t k = 0; k < sizeof once / sizeof once[0]; k++) {
            macs += matrix_macs(once[k], 1);
        }
        for (size_t k = 0; k < 3; k++) {
            macs += matrix_macs(ffn[k], l->is_moe ? m->n_expert_used : 1);
            experts += l->is_moe ? ffn[k]->mat_bytes : 0;
            quantised |= ffn[k]->type != DTYPE_F32 && ffn[k]->type != DTYPE_F16 && ffn[k]->type != DTYPE_BF16;
        }
        moe_layers += l->is_moe;
    }
    r->gop_per_token = 2e-9 * macs;
    r->output_gop = 2e-9 * matrix_macs(&m->output, 1);
    r->compute_kind = quantised ? "int8" : "f32";
    r->dense_bytes = (double)m->decode_bytes - (double)(experts * m->n_expert_used);
    r->expert_bytes = moe_layers ? (double)experts / (double)moe_layers : 0;
}

/* ---- Steps */

static sluice_status run_step(struct runner *r, uint32_t n_rows, uint64_t *weight_bytes) {
    struct backend_step step = {r->rows, n_rows};
    struct backend_output out = {0};
    TRY(r->ops->submit(r->backend, &step, r->err));
    TRY(r->ops->wait(r->backend, &out, r->err));
    *weight_bytes += out.weight_bytes;
    return SLUICE_OK;
}

static void progress(struct runner *r, uint64_t tokens) {
    r->tokens_done += tokens;
    if (r->callbacks->on_progress) {
        r->callbacks->on_progress(r->callbacks->ctx, r->test, r->tokens_done, r->plan.tokens_total);
    }
}

static void set_row(struct runner *r, struct backend_row *row, uint32_t slot, uint32_t pos, uint32_t n) {
    *row = (struct backend_row){
        .slot = slot,
        .first_pos = pos,
        .n_tokens = n,
        .tokens = r->tokens + (size_t)slot * r->plan.positions_max + pos,
        .pages = r->pages + (size_t)slot * r->pages_per_row,
    };
}

/* Computes positions [from, from + n) of `batch` rows in steps of the size that the device likes best. Logits only
 * of the last position, as a server does, and only if wanted. */
static sluice_status prefill(struct runner *r, uint32_t batch, uint32_t from, uint32_t n, bool want_logits) {
    uint64_t unused = 0;
    memset(r->done, 0, batch * sizeof *r->done);
    for (uint32_t first = 0; first < batch;) {
        uint32_t room = r->setup.prefill_chunk;
        uint32_t n_rows = 0;
        uint32_t tokens = 0;
        for (uint32_t s = first; s < batch && room > 0; s++) {
            uint32_t take = n - r->done[s] < room ? n - r->done[s] : room;
            struct backend_row *row = &r->rows[n_rows++];
            set_row(r, row, s, from + r->done[s], take);
            r->done[s] += take;
            row->n_outputs = want_logits && r->done[s] == n;
            room -= take;
            tokens += take;
        }
        TRY(run_step(r, n_rows, &unused));
        progress(r, tokens);
        while (first < batch && r->done[first] == n) {
            first++;
        }
    }
    return SLUICE_OK;
}

static sluice_status submit_decode(struct runner *r, uint32_t batch, uint32_t pos) {
    for (uint32_t s = 0; s < batch; s++) {
        set_row(r, &r->rows[s], s, pos, 1);
        r->rows[s].n_outputs = 1;
        r->rows[s].generated = true;
        r->rows[s].rules = r->caps->samples ? &greedy : NULL;
    }
    return r->ops->submit(r->backend, &(struct backend_step){r->rows, batch}, r->err);
}

/* As many steps ahead of the oldest as the backend takes, as the engine does. */
static sluice_status decode(struct runner *r, uint32_t batch, uint32_t from, uint32_t n, uint64_t *weight_bytes) {
    uint32_t ahead = r->caps->steps_ahead;
    for (uint32_t submitted = 0, done = 0; done < n; done++) {
        for (; submitted < n && submitted <= done + ahead; submitted++) {
            TRY(submit_decode(r, batch, from + submitted));
        }
        struct backend_output out = {0};
        TRY(r->ops->wait(r->backend, &out, r->err));
        *weight_bytes += out.weight_bytes;
        progress(r, batch);
    }
    return SLUICE_OK;
}

/* The rows keep their pages from test to test: what follows the depth is overwritten, the depth itself stays valid.
 * Notes the new state; true when it has to be computed first. */
static bool needs_fill(struct runner *r, uint32_t batch, uint32_t depth) {
    bool needed = depth > 0 && (r->filled != depth || r->filled_n < batch);
    if (needed || depth == 0) {
        r->filled = depth;
        r->filled_n = batch;
    }
    return needed;
}

/* ---- Tests */

/* GB/s at which the device reads its weights' memory at best. */
static sluice_status measure_reads(struct runner *r, double seconds, double *gb_s) {
    if (!r->ops->read_rate) {
        const struct backend_caps *caps = r->ops->caps(r->backend);
        *gb_s = probe_read_bandwidth(r->setup.n_threads, seconds, caps->weights, caps->weights_bytes, r->err);
        return *gb_s > 0 ? SLUICE_OK : r->err->status;
    }
    TRY(r->ops->read_rate(r->backend, seconds, gb_s, r->err));
    *gb_s *= 1e-9;
    return SLUICE_OK;
}

/* Sets the limit that this result is compared with: the best measurement of the run so far. Of the rates of products,
 * only the host's own is measured. */
static sluice_status measure_roof(struct runner *r, struct raw_result *t) {
    double seconds = r->options->roof_seconds > 0 ? r->options->roof_seconds : 0.4;
    if (t->kind == RAW_DECODE) {
        double gb_s = 0;
        TRY(measure_reads(r, seconds, &gb_s));
        r->read_roof = gb_s > r->read_roof ? gb_s : r->read_roof;
        t->roof_kind = "read";
        t->roof = r->read_roof;
    } else if (!r->ops->read_rate) {
        if (r->compute_roof <= 0) {
            r->compute_roof = probe_compute_peak(r->compute_kind, r->setup.n_threads, seconds, NULL, r->err);
            if (r->compute_roof <= 0) {
                return r->err->status;
            }
        }
        t->roof_kind = r->compute_kind;
        t->roof = r->compute_roof;
    }
    return SLUICE_OK;
}

static void derive_decode(const struct runner *r, struct raw_result *t, uint64_t counted, uint64_t steps) {
    const struct model *m = r->model;
    if (counted) {
        t->weight_bytes_step = (double)counted / (double)steps;
    } else if (m->n_expert == 0 || t->batch == 1) {
        t->weight_bytes_step =
            (double)m->decode_bytes; /* exact: every row uses the same matrices, or there is one row */
    }
    /* position p reads the keys and values of 0..p: depth + 1 at the first step, one more at each later one */
    double positions = t->depth + (t->n_tokens + 1) / 2.0;
    t->kv_bytes_step = positions * (double)model_kv_bytes_per_token(m) * t->batch;
    if (t->weight_bytes_step > 0) {
        t->gb_s = (t->weight_bytes_step + t->kv_bytes_step) * t->rate.median / t->batch * 1e-9;
        t->roof_share = t->roof > 0 ? t->gb_s / t->roof : 0;
        t->experts_step = r->expert_bytes > 0 ? (t->weight_bytes_step - r->dense_bytes) / r->expert_bytes : 0;
    }
}

static void derive_prefill(const struct runner *r, struct raw_result *t) {
    t->gop_s = t->rate.median * (r->gop_per_token + r->output_gop / t->n_tokens);
    t->roof_share = t->roof > 0 ? t->gop_s / t->roof : 0;
}

static sluice_status run_test(struct runner *r, struct raw_result *t) {
    uint64_t counted = 0;
    raw_test_name(t->kind, t->n_tokens, t->depth, t->batch, t->test);
    r->test = t->test;
    t->reps = r->options->reps;
    if (needs_fill(r, t->batch, t->depth)) {
        TRY(prefill(r, t->batch, 0, t->depth, false));
    }
    TRY(measure_roof(r, t));
    for (uint32_t i = 0; i < r->options->warmups + t->reps; i++) {
        uint64_t step_bytes = 0;
        if (i == r->options->warmups && r->options->profile) {
            r->ops->profile(r->backend, &t->profile); /* starts anew */
        }
        uint64_t start = clock_ns();
        if (t->kind == RAW_PREFILL) {
            TRY(prefill(r, t->batch, t->depth, t->n_tokens, true));
        } else {
            TRY(decode(r, t->batch, t->depth, t->n_tokens, &step_bytes));
        }
        double ms = clock_ms_since(start);
        if (i >= r->options->warmups) {
            uint32_t k = i - r->options->warmups;
            t->ms[k] = ms;
            t->tok_s[k] = ms > 0 ? 1e3 * t->n_tokens * t->batch / ms : 0;
            counted += step_bytes;
        }
    }
    if (r->options->profile) {
        r->ops->profile(r->backend, &t->profile);
    }
    if (!stats_summarise(t->tok_s, t->reps, &t->rate)) {
        return fail(r->err, SLUICE_E_NOMEM, "raw: out of memory");
    }
    if (t->kind == RAW_DECODE) {
        derive_decode(r, t, counted, (uint64_t)t->reps * t->n_tokens);
    } else {
        derive_prefill(r, t);
    }
    if (r->callbacks->on_result) {
        r->callbacks->on_result(r->callbacks->ctx, &r->setup, t);
    }
    return SLUICE_OK;
}

/* Calls visit for every test in the order they run: per depth and batch first the prompts, then the generations. */
static sluice_status for_each_test(struct runner *r, struct raw_result *t,
                                   sluice_status (*visit)(struct runner *, struct raw_result *)) {
    const struct raw_options *o = r->options;
    for (uint32_t d = 0; d < o->depth.n; d++) {
        for (uint32_t b = 0; b < o->batch.n; b++) {
            for (uint32_t i = 0; i < o->prompt.n + o->decode.n; i++) {
                bool is_prefill = i < o->prompt.n;
                uint32_t n = is_prefill ? o->prompt.v[i] : o->decode.v[i - o->prompt.n];
                if (n == 0) {
                    continue;
                }
                memset(t, 0, sizeof *t);
                t->kind = is_prefill ? RAW_PREFILL : RAW_DECODE;
                t->n_tokens = n;
                t->depth = o->depth.v[d];
                t->batch = o->batch.v[b];
                TRY(visit(r, t));
            }
        }
    }
    return SLUICE_OK;
}

static sluice_status plan_test(struct runner *r, struct raw_result *t) {
    struct plan *p = &r->plan;
    uint64_t positions = (uint64_t)t->depth + t->n_tokens;
    if (positions > r->model->n_ctx_train) {
        return fail(r->err, SLUICE_E_LIMIT,
                    "raw: depth %u plus %u tokens is more than the model's context of %u tokens", t->depth, t->n_tokens,
                    r->model->n_ctx_train);
    }
    if (t->batch == 0 || t->batch > LIMIT_SLOTS) {
        return fail(r->err, SLUICE_E_ARG, "raw: a batch has 1 to %u rows, not %u", LIMIT_SLOTS, t->batch);
    }
    p->positions_max = positions > p->positions_max ? (uint32_t)positions : p->positions_max;
    p->batch_max = t->batch > p->batch_max ? t->batch : p->batch_max;
    p->tokens_total += (uint64_t)t->batch * t->n_tokens * (r->options->reps + r->options->warmups);
    p->tokens_total += needs_fill(r, t->batch, t->depth) ? (uint64_t)t->batch * t->depth : 0;
    return SLUICE_OK;
}

/* ---- Setting up */

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static sluice_status open_backend(struct runner *r) {
    struct backend_options options = {
        .n_threads = r->options->n_threads,
        .n_slots = r->plan.batch_max,
        .n_pages = r->plan.batch_max * r->pages_per_row,
        .step_outputs_max = r->plan.batch_max,
    };
    TRY(r->ops->open(r->model, &options, &r->backend, r->err));
    r->caps = r->ops->caps(r->backend);
    uint32_t chunk = r->caps->prefill_chunk;
    chunk = chunk == 0 || chunk > r->caps->step_tokens_max ? r->caps->step_tokens_max : chunk;
    if (chunk == 0 || r->caps->step_outputs_max < r->plan.batch_max || r->caps->step_tokens_max < r->plan.batch_max) {
        return fail(r->err, SLUICE_E_LIMIT, "raw: backend %s computes at most %u rows in one step; use a smaller -b",
                    r->ops->name, r->caps->step_tokens_max);
    }
    r->setup = (struct raw_setup){
        .model = base_name(r->options->model_path),
        .architecture = r->model->architecture,
        .backend = r->ops->name,
        .device = r->caps->device,
        .file_bytes = r->model->file->file_bytes,
        .n_params = r->model->n_params,
        .decode_bytes = r->model->decode_bytes,
        .n_threads = r->caps->n_threads,
        .weight_bytes = r->caps->weight_bytes,
        .kv_bytes = r->caps->kv_bytes,
        .work_bytes = r->caps->work_bytes,
        .pinned_bytes = r->caps->pinned_bytes,
        .other_bytes = r->caps->other_bytes,
        .prefill_chunk = chunk,
        .n_expert = r->model->n_expert,
        .n_expert_used = r->model->n_expert_used,
    };
    return SLUICE_OK;
}

static sluice_status make_inputs(struct runner *r) {
    uint32_t batch = r->plan.batch_max;
    size_t n = (size_t)batch * r->plan.positions_max;
    r->pages = mem_alloc((size_t)batch * r->pages_per_row * sizeof *r->pages);
    r->tokens = mem_alloc(n * sizeof *r->tokens);
    r->rows = mem_calloc(batch, sizeof *r->rows);
    r->done = mem_calloc(batch, sizeof *r->done);
    if (!r->pages || !r->tokens || !r->rows || !r->done) {
        return fail(r->err, SLUICE_E_NOMEM, "raw: no memory for %zu test tokens", n);
    }
    for (uint32_t i = 0; i < batch * r->pages_per_row; i++) {
        r->pages[i] = i;
    }
    for (size_t i = 0; i < n; i++) {
        r->tokens[i] = (int32_t)next_random(r, r->model->n_vocab);
    }
    return SLUICE_OK;
}

static sluice_status run_all(struct runner *r, struct raw_result *t) {
    TRY(backend_find(r->options->backend, &r->ops, r->err));
    if (r->options->profile && !r->ops->profile) {
        return fail(r->err, SLUICE_E_UNSUPPORTED, "raw: backend %s does not time its stages; leave out --profile",
                    r->ops->name);
    }
    TRY(model_load(r->options->model_path, &r->model, r->err));
    count_model(r);
    TRY(for_each_test(r, t, plan_test));
    r->filled = r->filled_n = 0;
    if (r->plan.batch_max == 0) {
        return fail(r->err, SLUICE_E_ARG, "raw: there is nothing to measure; give -p or -n a number above 0");
    }
    r->pages_per_row = (r->plan.positions_max + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    TRY(open_backend(r));
    TRY(make_inputs(r));
    if (r->callbacks->on_setup) {
        r->callbacks->on_setup(r->callbacks->ctx, &r->setup);
    }
    return for_each_test(r, t, run_test);
}

sluice_status raw_run(const struct raw_options *options, const struct raw_callbacks *callbacks, sluice_error *err) {
    if (options->reps == 0 || options->reps > RAW_REPS_MAX) {
        return fail(err, SLUICE_E_ARG, "raw: 1 to %u repetitions, not %u", RAW_REPS_MAX, options->reps);
    }
    sluice_error local;
    struct runner r = {.options = options, .callbacks = callbacks, .random = options->seed, .err = err ? err : &local};
    struct raw_result *t = mem_alloc(sizeof *t);
    if (!t) {
        return fail(err, SLUICE_E_NOMEM, "raw: out of memory");
    }
    sluice_status status = run_all(&r, t);
    if (r.backend) {
        r.ops->close(r.backend);
    }
    if (r.model) {
        model_free(r.model);
    }
    mem_free(r.pages);
    mem_free(r.tokens);
    mem_free(r.rows);
    mem_free(r.done);
    mem_free(t);
    return status;
}
