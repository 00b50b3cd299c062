/*
 * A model's weights as this backend holds them. The kernels read K-quant matrices in strips (strips.h), so these are
 * packed once, when the backend opens, into memory of its own, and the file's pages are given back on the way: no
 * matrix is ever held twice. All other types are computed on where the file is mapped, and rows of token embeddings are
 * looked up there.
 */
#ifndef CPU_WEIGHTS_H
#define CPU_WEIGHTS_H

#include "backend/cpu/strips.h"
#include "base/threads.h"
#include "model/model.h"

struct weights {
    /* The file's model, but for matrices in strips: there data points to strips and mat_bytes is what those of one
     * matrix take; row_bytes stays the file's. tok_embd is always the file's rows. */
    struct model model;
    uint8_t *strips;
    size_t strips_bytes;
    uint64_t bytes; /* held in all: strips, and what stays in the file */
};

/* Packs on all threads of the pool. `available`: bytes of memory that the strips may take, 0 = unknown; SLUICE_E_NOMEM
 * says what is missing. m stays the caller's, outlives w and is not changed; its tensors' pages leave this process's
 * memory. */
sluice_status weights_open(const struct model *m, struct pool *pool, uint64_t available, struct weights *w,
                           sluice_error *err);
/* Also on one that failed to open, or that is all zero. */
void weights_close(struct weights *w);

/* Bytes of one matrix in the file, which is what counts as read: strips may be padded. */
static inline uint64_t weight_file_bytes(const struct weight *w) {
    return (uint64_t)w->n_rows * w->row_bytes;
}

#endif
