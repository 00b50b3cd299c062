/*
 * Turns: the words that describe a step to the device, and memory for what comes back. Words lie in pinned memory and
 * travel on a stream of their own, beside the step before.
 */
#include "backend/cuda/cuda.h"

#include "base/mem.h"
#include "base/status.h"

#include <string.h>

enum {
    WORDS_TOKEN = sizeof(struct cuda_token) / 4,
    WORDS_ROW = sizeof(struct cuda_row) / 4,
    WORDS_TABLES = 1 << 20, /* most words of page tables, and */
    WORDS_LISTS = 1 << 16,  /* words of lists, before there is need for more */
};

/* ---- Memory */

/* Pinned memory, and where the device sees it. */
static sluice_status take_pinned(struct cuda *c, size_t bytes, void *host, void *device, sluice_error *err) {
    c->pinned_bytes += bytes;
    if (cudaHostAlloc(host, bytes, cudaHostAllocMapped) != cudaSuccess) {
        cudaGetLastError();
        return fail(
            err, SLUICE_E_NOMEM,
            "the host cannot pin %.1f MiB of memory for a step's results: lower --slots or --draft-max, or raise the "
            "limit of locked memory (ulimit -l)",
            (double)bytes / 0x1p20);
    }
    return cuda_check(cudaHostGetDevicePointer(device, *(void **)host, 0), "mapping results", err);
}

static sluice_status take_words(struct cuda *c, struct cuda_turn *t, sluice_error *err) {
    TRY(cuda_check(cudaMallocHost((void **)&t->words, c->words_max * 4), "taking pinned memory for steps", err));
    return cuda_check(cudaMalloc((void **)&t->words_device, c->words_max * 4), "taking memory for steps", err);
}

static void drop_words(struct cuda_turn *t) {
    cudaFreeHost(t->words);
    cudaFree(t->words_device);
    t->words = t->words_device = NULL;
}

static void drop_all_words(struct cuda *c) {
    for (uint32_t i = 0; i < CUDA_TURNS; i++) {
        drop_words(&c->turns[i]);
    }
}

/* Room for steps of n words: page tables and lists are longer than ever before. */
static sluice_status grow_words(struct cuda *c, size_t n, sluice_error *err) {
    TRY(cuda_check(cudaStreamSynchronize(c->stream), "computing a step", err));
    cuda_forget_graphs(c); /* they hold the old places */
    drop_all_words(c);
    c->words_max = 2 * n;
    for (uint32_t i = 0; i < CUDA_TURNS; i++) {
        sluice_status status = take_words(c, &c->turns[i], err);
        if (status != SLUICE_OK) {
            drop_all_words(c);
            c->words_max = 0;
            return status;
        }
    }
    return SLUICE_OK;
}

static sluice_status take_turn(struct cuda *c, struct cuda_turn *t, sluice_error *err) {
    size_t outputs = c->limits.step_outputs_max;
    t->samples = mem_calloc(outputs, sizeof *t->samples);
    t->wants = mem_calloc(outputs, 1);
    if (!t->samples || !t->wants) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the results of a step");
    }
    TRY(take_words(c, t, err));
    TRY(take_pinned(c, outputs * c->m->n_vocab * sizeof(float), &t->logits, &t->logits_device, err));
    TRY(take_pinned(c, outputs * sizeof *t->drawn, &t->drawn, &t->drawn_device, err));
    TRY(take_pinned(c, c->m->n_layer * sizeof *t->touched, &t->touched, &t->touched_device, err));
    return cuda_check(cudaEventCreateWithFlags(&t->done, cudaEventDisableTiming), "preparing steps", err);
}

static void drop_turn(struct cuda_turn *t) {
    drop_words(t);
    cudaFreeHost(t->logits);
    cudaFreeHost(t->drawn);
    cudaFreeHost(t->touched);
    mem_free(t->samples);
    mem_free(t->wants);
    if (t->done) {
        cudaEventDestroy(t->done);
    }
}

sluice_status cuda_take_turns(struct cuda *c, sluice_error *err) {
    const struct backend_options *o = &c->limits;
    size_t tables = (size_t)o->n_slots * o->n_pages;
    c->words_max = (size_t)o->step_tokens_max * WORDS_TOKEN + o->n_slots * WORDS_ROW +
                   o->step_outputs_max * (1 + CUDA_WORDS_DRAW) + 1 + (tables < WORDS_TABLES ? tables : WORDS_TABLES) +
                   WORDS_LISTS;
    for (uint32_t i = 0; i < CUDA_TURNS; i++) {
        TRY(take_turn(c, &c->turns[i], err));
    }
    c->turn = c->turns;
    return SLUICE_OK;
}

void cuda_drop_turns(struct cuda *c) {
    for (uint32_t i = 0; i < CUDA_TURNS; i++) {
        drop_turn(&c->turns[i]);
    }
}

/* ---- A step's words */

static uint32_t pages_of(const struct backend_row *row) {
    return (uint32_t)(((uint64_t)row->first_pos + row->n_tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS);
}

/* Where the parts of a step's words begin. Page tables and lists come last: graphs rely on the places of the others. */
struct words_places {
    size_t rows, outputs, draws, pages, lists, all;
};

static struct words_places place_words(const struct backend_step *step, uint32_t n, uint32_t n_outputs) {
    struct words_places p = {.rows = (size_t)n * WORDS_TOKEN};
    p.outputs = p.rows + (size_t)step->n_rows * WORDS_ROW;
    p.draws = (p.outputs + n_outputs + 1) / 2 * 2; /* they hold 8-byte words */
    p.pages = p.draws + (size_t)n_outputs * CUDA_WORDS_DRAW;
    p.lists = p.pages;
    for (uint32_t r = 0; r < step->n_rows; r++) {
        p.lists += pages_of(&step->rows[r]);
    }
    p.all = p.lists;
    for (uint32_t r = 0; r < step->n_rows; r++) {
        p.all += cuda_draw_words(&step->rows[r]);
    }
    return p;
}

/* The step in words. Returns whether all rows have one token and one output. */
static bool describe(struct cuda *c, const struct backend_step *step, const struct words_places *p,
                     uint32_t *positions_max) {
    struct cuda_turn *turn = c->turn;
    uint32_t *words = turn->words, *pages = words + p->pages, at = 0, first_page = 0;
    struct cuda_token *tokens = (struct cuda_token *)(void *)words;
    struct cuda_row *rows = (struct cuda_row *)(void *)(words + p->rows);
    bool plain = true;
    *positions_max = 0;
    turn->positions = 0;
    for (uint32_t r = 0; r < step->n_rows; r++) {
        const struct backend_row *row = &step->rows[r];
        uint32_t end = row->first_pos + row->n_tokens, n_pages = pages_of(row);
        rows[r] = (struct cuda_row){
            .slot = row->slot,
            .first_pos = row->first_pos,
            .first_token = at,
            .n_tokens = row->n_tokens,
            .n_drafts = row->n_drafts,
            .draft_first = turn->drafts.of[row->slot].first,
            .resume_page = row->resume ? row->pages[row->first_pos / KV_PAGE_TOKENS - 1] : CUDA_NONE,
            .first_page = first_page,
        };
        for (uint32_t t = 0; t < row->n_tokens; t++) {
            uint32_t id = row->tokens ? (uint32_t)row->tokens[t] : CUDA_FED | row->slot;
            tokens[at++] = (struct cuda_token){.id = id, .row = r, .pos = row->first_pos + t, .seq = c->seq};
        }
        memcpy(pages + first_page, row->pages, n_pages * sizeof *pages);
        first_page += n_pages;
        plain = plain && row->n_tokens == 1 && row->n_outputs == 1;
        *positions_max = end > *positions_max ? end : *positions_max;
        turn->positions += end;
    }
    step_outputs(step, words + p->outputs);
    size_t lists = p->lists;
    cuda_describe_draws(c, step, (struct cuda_draw *)(void *)(words + p->draws), &lists);
    /* the same places on the device */
    const uint32_t *device = turn->words_device;
    c->step = (struct cuda_step){.tokens = (const struct cuda_token *)(const void *)device,
                                 .rows = (const struct cuda_row *)(const void *)(device + p->rows),
                                 .outputs = device + p->outputs,
                                 .pages = device + p->pages,
                                 .drawn = c->drawn,
                                 .n = turn->n,
                                 .n_rows = step->n_rows,
                                 .n_outputs = turn->n_outputs};
    struct cuda_drawing *d = &c->drawing;
    d->draws = (const struct cuda_draw *)(const void *)(device + p->draws);
    d->words = device;
    d->logits = c->logits;
    d->n = turn->n_outputs;
    d->n_vocab = c->m->n_vocab;
    d->drawn = c->drawn;
    d->out = turn->drawn_device;
    return plain;
}

/* The words travel beside the step before. The host waits for them while that step computes, and not the stream: there
 * the wait would be time between two steps. */
static sluice_status send_words(struct cuda *c, size_t n, sluice_error *err) {
    struct cuda_turn *t = c->turn;
    TRY(cuda_check(cudaMemcpyAsync(t->words_device, t->words, n * 4, cudaMemcpyHostToDevice, c->words_stream),
                   "sending a step", err));
    return cuda_check(cudaStreamSynchronize(c->words_stream), "sending a step", err);
}

sluice_status cuda_send_step(struct cuda *c, const struct backend_step *step, uint32_t *positions_max, bool *plain,
                             sluice_error *err) {
    struct words_places places = place_words(step, c->turn->n, c->turn->n_outputs);
    if (places.all > c->words_max) {
        TRY(grow_words(c, places.all, err));
    }
    c->seq++;
    *plain = describe(c, step, &places, positions_max);
    return send_words(c, places.all, err);
}
