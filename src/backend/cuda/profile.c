/*
 * Where the time of steps goes: an event after each stage's kernels, read when the step is over. Stages are those of
 * forward.c. While it is on, steps run kernel by kernel instead of as graphs, and no kernel begins before the one
 * before has ended: a stage's time is what its kernels take alone, so that the sum is more than a step takes otherwise.
 */
#include "backend/cuda/cuda.h"

#include "base/mem.h"
#include "base/status.h"

#include <string.h>

enum { MARKS_MAX = 4096 }; /* LIMIT_LAYERS layers of at most ten stages, and the ends */

struct cuda_marks {
    cudaEvent_t events[MARKS_MAX];
    uint8_t stage[MARKS_MAX]; /* that ended with the event; the first one's stage has no meaning */
    uint32_t n;
};

static const char *const names[CUDA_STAGES] = {
    [CUDA_STAGE_START] = "embedding, angles",
    [CUDA_STAGE_QKV] = "q, k, v",
    [CUDA_STAGE_ATTEND] = "attention",
    [CUDA_STAGE_ATTN_OUT] = "attention output",
    [CUDA_STAGE_CONV_IN] = "in_proj, conv",
    [CUDA_STAGE_CONV_OUT] = "conv out_proj",
    [CUDA_STAGE_ROUTE] = "routing",
    [CUDA_STAGE_GATE_UP] = "gate, up",
    [CUDA_STAGE_DOWN] = "down",
    [CUDA_STAGE_HEAD] = "output",
    [CUDA_STAGE_DRAW] = "drawing",
};

static void free_marks(struct cuda_marks *m) {
    for (uint32_t i = 0; m && i < MARKS_MAX; i++) {
        if (m->events[i]) {
            cudaEventDestroy(m->events[i]);
        }
    }
    mem_free(m);
}

void cuda_profile_close(struct cuda *c) {
    for (uint32_t i = 0; i < CUDA_TURNS; i++) {
        free_marks(c->turns[i].marks);
        c->turns[i].marks = NULL;
    }
}

void cuda_mark(struct cuda *c, enum cuda_stage stage) {
    struct cuda_marks *m = c->turn->marks;
    if (!m || m->n == MARKS_MAX) {
        return;
    }
    if (!m->events[m->n] && cudaEventCreate(&m->events[m->n]) != cudaSuccess) {
        m->events[m->n] = NULL; /* this stage's time counts as the next one's */
        return;
    }
    if (cudaEventRecord(m->events[m->n], c->stream) == cudaSuccess) {
        m->stage[m->n++] = (uint8_t)stage;
    }
}

void cuda_profile_begin(struct cuda *c) {
    if (c->turn->marks) {
        c->turn->marks->n = 0;
        cuda_mark(c, CUDA_STAGE_START);
    }
}

static void add_matrix(struct backend_stage *s, const struct weight *w, uint64_t n_read, uint64_t n_products) {
    if (w->data) {
        s->bytes += w->mat_bytes * n_read;
        s->macs += (uint64_t)w->n_rows * w->n_cols * n_products;
    }
}

/* What the step read and multiplied, stage by stage. */
static void add_costs(struct cuda *c, const struct cuda_turn *turn) {
    const struct model *m = c->m;
    struct backend_stage *s = c->profile.stages;
    uint64_t n = turn->n;
    for (uint32_t i = 0; i < m->n_layer; i++) {
        const struct model_layer *l = &m->layers[i];
        add_matrix(&s[CUDA_STAGE_QKV], &l->wq, 1, n);
        add_matrix(&s[CUDA_STAGE_QKV], &l->wk, 1, n);
        add_matrix(&s[CUDA_STAGE_QKV], &l->wv, 1, n);
        add_matrix(&s[CUDA_STAGE_ATTN_OUT], &l->wo, 1, n);
        add_matrix(&s[CUDA_STAGE_CONV_IN], &l->in_proj, 1, n);
        add_matrix(&s[CUDA_STAGE_CONV_OUT], &l->out_proj, 1, n);
        uint64_t experts = !l->is_moe ? 1 : turn->counted ? turn->touched[i] : m->n_expert_used;
        uint64_t used = l->is_moe ? m->n_expert_used : 1;
        add_matrix(&s[CUDA_STAGE_ROUTE], &l->router, 1, n);
        add_matrix(&s[CUDA_STAGE_GATE_UP], &l->gate, experts, n * used);
        add_matrix(&s[CUDA_STAGE_GATE_UP], &l->up, experts, n * used);
        add_matrix(&s[CUDA_STAGE_DOWN], &l->down, experts, n * used);
    }
    s[CUDA_STAGE_ATTEND].bytes += turn->positions * model_kv_bytes_per_token(m);
    if (turn->n_outputs) {
        add_matrix(&s[CUDA_STAGE_HEAD], &m->output, 1, turn->n_outputs);
    }
}

void cuda_profile_step(struct cuda *c, struct cuda_turn *turn) {
    struct cuda_marks *m = turn->marks;
    if (!m || m->n == 0) {
        return;
    }
    for (uint32_t i = 1; i < m->n; i++) {
        float ms = 0;
        if (cudaEventElapsedTime(&ms, m->events[i - 1], m->events[i]) == cudaSuccess) {
            c->profile.stages[m->stage[i]].ns += (uint64_t)(ms * 1e6f);
        }
    }
    m->n = 0;
    c->profile.n_steps++;
    add_costs(c, turn);
}

/* In struct backend_ops. Without memory for the events nothing is timed. */
void cuda_profile(struct backend *base, struct backend_profile *out) {
    struct cuda *c = (struct cuda *)base;
    for (uint32_t i = 0; i < CUDA_TURNS; i++) {
        struct cuda_turn *turn = &c->turns[i];
        turn->marks = turn->marks ? turn->marks : mem_calloc(1, sizeof *turn->marks);
    }
    *out = c->profile;
    c->profile = (struct backend_profile){.n_stages = CUDA_STAGES};
    for (uint32_t i = 0; i < CUDA_STAGES; i++) {
        c->profile.stages[i].name = out->stages[i].name = names[i];
    }
    out->n_stages = CUDA_STAGES;
}
