#include "tools/logits.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"

static sluice_status feed(struct backend *b, const int32_t *tokens, uint32_t n, uint32_t ubatch, const uint32_t *pages,
                          uint32_t n_vocab, logits_sink sink, void *ctx, sluice_error *err) {
    for (uint32_t at = 0; at < n; at += ubatch) {
        uint32_t m = n - at < ubatch ? n - at : ubatch;
        struct backend_row row = {
            .first_pos = at, .n_tokens = m, .tokens = tokens + at, .pages = pages, .n_outputs = m};
        struct backend_step step = {.rows = &row, .n_rows = 1};
        struct backend_output out;
        TRY(b->ops->submit(b, &step, err));
        TRY(b->ops->wait(b, &out, err));
        for (uint32_t i = 0; i < m; i++) {
            TRY(sink(ctx, at + i, out.logits + (size_t)i * n_vocab, err));
        }
    }
    return SLUICE_OK;
}

sluice_status logits_run(const struct model *model, const char *backend, uint32_t n_threads, const int32_t *tokens,
                         uint32_t n_tokens, uint32_t ubatch, logits_sink sink, void *ctx, sluice_error *err) {
    const struct backend_ops *ops;
    TRY(backend_find(backend, &ops, err));
    /* at most 64 positions at a time unless told otherwise: a row of logits is n_vocab floats */
    uint32_t chunk = ubatch ? ubatch : 64;
    chunk = chunk < n_tokens ? chunk : n_tokens ? n_tokens : 1;
    uint32_t n_pages = (n_tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    uint32_t *pages = mem_alloc((n_pages ? n_pages : 1) * sizeof *pages);
    if (!pages) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a page table of %u entries", n_pages);
    }
    for (uint32_t i = 0; i < n_pages; i++) {
        pages[i] = i;
    }
    struct backend_options options = {.n_threads = n_threads,
                                      .n_slots = 1,
                                      .n_pages = n_pages ? n_pages : 1,
                                      .step_tokens_max = chunk,
                                      .step_outputs_max = chunk};
    struct backend *b;
    sluice_status status = ops->open(model, &options, &b, err);
    if (status == SLUICE_OK) {
        status = feed(b, tokens, n_tokens, chunk, pages, model->n_vocab, sink, ctx, err);
        ops->close(b);
    }
    mem_free(pages);
    return status;
}
