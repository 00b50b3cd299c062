/* Matrix products by NVIDIA's library, opened at run time: the rate that others reach on this card. Declarations follow the
 * cuBLASLt API reference (CUDA 12 and 13); nothing of its header is needed to build. */
#include "backend/cuda/probe.h"

#include "base/mem.h"

#include <dlfcn.h>
#include <stdio.h>

typedef void *handle;
enum { COMPUTE_32F = 68, COMPUTE_32I = 72 };                                   /* cublasComputeType_t */
enum { R_32F = 0, R_16F = 2, R_8I = 3, R_32I = 10, R_16BF = 14, R_E4M3 = 28 }; /* cudaDataType_t */
enum { DESC_TRANSA = 3, PREF_WORKSPACE = 1, OP_T = 1 };

struct heuristic { /* cublasLtMatmulHeuristicResult_t */
    uint64_t algo[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

#define FUNCTIONS(F)                                                                                                   \
    F(cublasLtCreate, (handle *))                                                                                      \
    F(cublasLtDestroy, (handle))                                                                                       \
    F(cublasLtMatmulDescCreate, (handle *, int, int))                                                                  \
    F(cublasLtMatmulDescDestroy, (handle))                                                                             \
    F(cublasLtMatmulDescSetAttribute, (handle, int, const void *, size_t))                                             \
    F(cublasLtMatrixLayoutCreate, (handle *, int, uint64_t, uint64_t, int64_t))                                        \
    F(cublasLtMatrixLayoutDestroy, (handle))                                                                           \
    F(cublasLtMatmulPreferenceCreate, (handle *))                                                                      \
    F(cublasLtMatmulPreferenceDestroy, (handle))                                                                       \
    F(cublasLtMatmulPreferenceSetAttribute, (handle, int, const void *, size_t))                                       \
    F(cublasLtMatmulAlgoGetHeuristic,                                                                                  \
      (handle, handle, handle, handle, handle, handle, handle, int, struct heuristic *, int *))                        \
    F(cublasLtMatmul, (handle, handle, const void *, const void *, handle, const void *, handle, const void *,         \
                       const void *, handle, void *, handle, const void *, void *, size_t, void *))

struct cublaslt {
    void *library;
    handle lt;
#define FIELD(name, args) int(*name) args;
    FUNCTIONS(FIELD)
#undef FIELD
};

static const struct {
    int type, compute, scale, result;
} formats[] = {
    [CUBLASLT_BF16] = {R_16BF, COMPUTE_32F, R_32F, R_16BF},
    [CUBLASLT_FP16] = {R_16F, COMPUTE_32F, R_32F, R_16F},
    [CUBLASLT_INT8] = {R_8I, COMPUTE_32I, R_32I, R_32I},
    [CUBLASLT_FP8] = {R_E4M3, COMPUTE_32F, R_32F, R_16BF},
};

static bool bind(struct cublaslt *l) {
    bool all = true;
#define BIND(name, args) all = (*(void **)&l->name = dlsym(l->library, #name)) != NULL && all;
    FUNCTIONS(BIND)
#undef BIND
    return all;
}

struct cublaslt *cublaslt_open(char *reason, size_t cap) {
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
    struct cublaslt *l = mem_calloc(1, sizeof *l);
    if (!l) {
        snprintf(reason, cap, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !l->library; i++) {
        l->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    }
    if (!l->library || !bind(l) || l->cublasLtCreate(&l->lt) != 0) {
        snprintf(reason, cap, "%s", l->library ? "cuBLASLt does not start" : "cuBLASLt is not installed");
        cublaslt_close(l);
        return NULL;
    }
    return l;
}

void cublaslt_close(struct cublaslt *l) {
    if (!l) {
        return;
    }
    if (l->lt) {
        l->cublasLtDestroy(l->lt);
    }
    if (l->library) {
        dlclose(l->library);
    }
    mem_free(l);
}

bool cublaslt_product(struct cublaslt *l, enum cublaslt_kind kind, uint32_t n, const void *a, const void *b, void *c,
                      void *workspace, size_t workspace_bytes, uint32_t times) {
    handle desc = NULL;
    handle in = NULL;
    handle out = NULL;
    handle preference = NULL;
    struct heuristic best = {.state = 1};
    int found = 0;
    const int transposed = OP_T; /* what the byte formats ask for, and no worse for the others */
    const float one_f = 1, zero_f = 0;
    const int32_t one_i = 1, zero_i = 0;
    bool integer = formats[kind].scale == R_32I;
    bool ok = l->cublasLtMatmulDescCreate(&desc, formats[kind].compute, formats[kind].scale) == 0 &&
              l->cublasLtMatmulDescSetAttribute(desc, DESC_TRANSA, &transposed, sizeof transposed) == 0 &&
              l->cublasLtMatrixLayoutCreate(&in, formats[kind].type, n, n, n) == 0 &&
              l->cublasLtMatrixLayoutCreate(&out, formats[kind].result, n, n, n) == 0 &&
              l->cublasLtMatmulPreferenceCreate(&preference) == 0 &&
              l->cublasLtMatmulPreferenceSetAttribute(preference, PREF_WORKSPACE, &workspace_bytes,
                                                      sizeof workspace_bytes) == 0 &&
              l->cublasLtMatmulAlgoGetHeuristic(l->lt, desc, in, in, out, out, preference, 1, &best, &found) == 0 &&
              found > 0 && best.state == 0;
    for (uint32_t i = 0; ok && i < times; i++) {
        ok = l->cublasLtMatmul(l->lt, desc, integer ? (const void *)&one_i : &one_f, a, in, b, in,
                               integer ? (const void *)&zero_i : &zero_f, c, out, c, out, best.algo, workspace,
                               workspace_bytes, NULL) == 0;
    }
    if (preference) {
        l->cublasLtMatmulPreferenceDestroy(preference);
    }
    if (in) {
        l->cublasLtMatrixLayoutDestroy(in);
    }
    if (out) {
        l->cublasLtMatrixLayoutDestroy(out);
    }
    if (desc) {
        l->cublasLtMatmulDescDestroy(desc);
    }
    return ok;
}
