/*
 * What the tests of the cpu backend's kernels stand on: this machine's tables, memory between guards, matrices with
 * activations, and a plain evaluator of the arithmetic in docs/numerics.md that every table has to equal bit for bit.
 */
#ifndef KERNELS_RIG_H
#define KERNELS_RIG_H

#include "backend/cpu/kernels.h"

#include <stdbool.h>
#include <stdint.h>

enum { N_TYPES = 8, N_ISAS = 5 };
extern const enum dtype types[N_TYPES];
extern const char *const isas[N_ISAS]; /* "ref" first */

/* The table of an ISA; where there is no AMX, its kernels on emulated tiles. NULL: this machine lacks it, or it is left
 * out. */
const struct kernels *isa_kernels(const char *name);
/* Leaves out every ISA but "ref" and the n named; false if one of them is none. */
bool isa_choose(int n, char *const *names);

/* Seeds the sequence of rnd and gauss. */
void rnd_seed(uint64_t seed);
uint32_t rnd(void); /* 31 bits */
float gauss(void);

/* n * size bytes between guards: zeroed, 64-byte aligned. AddressSanitizer lets nobody touch what lies around them. */
void *guarded(size_t n, size_t size);
/* Frees and fails the test if a guard was written to; p may be NULL. */
void guarded_free(void *p);

/* Activations of n tokens: blocks where n_cols is a multiple of 256. */
struct acts new_acts(uint32_t n, uint32_t n_cols);
void free_acts(struct acts *a);

enum fill {
    FILL_GAUSS,
    FILL_EXTREME, /* K-quants' quants at either end, scales at their largest; activations +-10^4 */
    FILL_LIMIT,   /* the same, a block's activations of one sign: sums as large as they get */
    FILL_TINY,    /* activations that blocks of integers round to nothing */
    FILL_BITS,    /* K-quants' bytes at random, d and dmin of any sign and size */
    FILL_SPECIAL, /* the same; infinities, NaN and empty blocks among activations and d */
};

/* A matrix and n tokens' activations. */
struct fixture {
    enum dtype type;
    uint32_t n_cols, n_rows, n;
    uint8_t *rows; /* [n_rows][row_bytes], as in a file: for judges */
    size_t row_bytes;
    uint8_t *w; /* the same as kernels take it: strips, or `rows` itself */
    struct acts x;
    void *scratch;
};

struct fixture new_fixture(enum dtype type, uint32_t n_rows, uint32_t n_cols, uint32_t n, enum fill fill);
void free_fixture(struct fixture *f);
/* Everything that the table's kernels want of the activations; nothing is left of another table's. */
void prepare(const struct kernels *k, struct fixture *f);
/* The job of all tokens: y [n][y_stride]. */
struct mm whole_job(const struct fixture *f, float *y, size_t y_stride);

/* ---- The arithmetic ---- */

/* A token's activations as integers: a, and the scale per 256. */
struct model_token {
    const float *f; /* [n_cols] */
    int16_t *a;     /* [n_cols] */
    float *scale;   /* [n_cols / 256] */
};
/* A row of weights: as floats; of K-quants also scale * quant, the minima per 32 (Q6_K: 0), d and dmin per 256. */
struct model_row {
    enum dtype type;
    uint32_t n_cols;
    float *w;
    int16_t *q;
    int16_t *m;
    float *d, *dmin;
};

/* scale and a of one block. */
float model_quantize(const float f[QK], int16_t a[QK]);
struct model_token model_token_new(const struct fixture *f, uint32_t token);
void model_token_free(struct model_token *t);
struct model_row model_row_new(const struct fixture *f, uint32_t row);
void model_row_free(struct model_row *r);
/* Row times token, by the rule of its type. */
float model_product(const struct model_row *r, const struct model_token *t);
/* The same bits, or NaN both. */
bool model_equal(float a, float b);

/* ---- Speed: test_kernels --bench (kernels_bench.c) ---- */

/* Prints one thread's speed in every kernel of the ISAs chosen. */
void kernels_bench(void);

#endif
