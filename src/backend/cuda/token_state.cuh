/*
 * What a block of the token kernel (token.cu) keeps in shared memory, and where the vectors lie that travel.
 */
#ifndef CUDA_TOKEN_STATE_CUH
#define CUDA_TOKEN_STATE_CUH

#include "backend/cuda/token_attention.cuh"
#include "backend/cuda/token_tile.cuh"

enum {
    D = 2048, /* n_embd */
    BLOCKS = D / 256,
    OWN = 16, /* channels of a block */
    WARPS = 16,
    COMPUTE = WARPS * 32,
    THREADS = COMPUTE + 128,
    KNOWN = 4, /* slots of rows whose place is known: in_proj or q, k, v; out_proj */
    GRID = D / OWN,
    SLOTS_MAX = 16,
    TAPS = 3,
    HIDDEN_MAX = 32, /* blocks of 256 hidden units that meet down, of all experts */
    DOWN_ROW = 36,   /* floats of a row's terms with hidden units, eight of an expert, without bank conflicts */
    PART_ROW = CUDA_EXPERTS_MAX, /* a constant, so that addresses take no registers */
    ROUTER_ROW = 20,             /* floats of 16 channels of an expert in shared memory, without bank conflicts */
    /* named barriers; attention has its own from 8 on */
    COMPUTING = 1, /* the sixteen warps */
    GUESSABLE = 2, /* warps 8 to 15 and 17: the guess's sums are here */
    ROUTABLE = 3,  /* warps 8 to 15 and 19: the router's, and the norm's scale */
    SQUARED = 4,   /* warps 0 to 8: the norm's squares are here */
    GIVEN = 5      /* warps 14 and 15: the operator's output is */
};

/* A phase, for the computing warps: items are tiles in slots, blocks the vector's 256s. */
struct alignas(16) phase_plan {
    const float *x, *gain; /* the vector, and the gain of a norm or NULL */
    float *out, *parts;    /* the results; or NULL, where the block's part of the router's sums goes */
    const float *sums;     /* NULL, or all blocks' parts, to be added while the vector is awaited */
    uint32_t n_blocks, n_items;
    uint32_t known;                 /* first slot of rows whose place is known, or CUDA_NONE: the ring */
    uint32_t per, step;             /* blocks that an item's rows meet, from block step * item on */
    uint32_t turns;                 /* 8: two groups of warps take items in turns */
    uint32_t rows, stride, columns; /* of terms: rows from item to item, from row to row, columns from item to item */
    uint32_t routed, halves;        /* whether experts are chosen; halves of tiles to a warp, if all is of Q4_K */
};

enum { OPERATOR, MIX, GATE_UP, DOWN, PHASES };

/* What a layer needs beside matrices, fetched ahead by warp 18. */
struct alignas(16) prepared {
    cuda_token_layer layer;
    phase_plan plans[PHASES];
    token_attention attention;
    alignas(16) float head_gains[2][64]; /* of q and k */
    float past[OWN][8];                  /* of the convolution: TAPS taps, from 4 on columns */
    float gain[OWN];                     /* the FFN norm's, of the block's channels */
};

struct ring { /* a place in the ring's slots, and how often it went round */
    uint32_t slot, round;
};

/* The choice of experts, or the guess. */
struct router_sums {
    float parts[8][CUDA_EXPERTS_MAX], sums[CUDA_EXPERTS_MAX], score[CUDA_EXPERTS_MAX], bias[CUDA_EXPERTS_MAX];
    float gains[CUDA_USED_MAX];
    uint32_t ids[CUDA_USED_MAX];
};

/* What warp 17 copies of one matrix, or of gate and up: a plane to each of eight lanes. */
struct fetched {
    const uint8_t *from[8];
    uint32_t bytes[8], at[8]; /* of a row, and of the planes before it */
    uint32_t type, n_cols, row_bytes;
};

struct token_shared {
    cuda_token_job job;
    uint64_t full[SLOTS_MAX], empty[SLOTS_MAX]; /* slots: KNOWN, the ring's */
    uint64_t prepared_full[2], prepared_empty[2];
    uint64_t guessed, judged; /* a layer's guess and choice are made */
    uint64_t attended;        /* and its attention */
    tile tiles[SLOTS_MAX];
    prepared layers[2];
    float cos_sin[64];
    float squares[8], scale[HIDDEN_MAX];
    router_sums choice, guess;
    int sums32[HIDDEN_MAX][8];
    uint32_t wrong;   /* the guess was */
    fetched fetch[2]; /* gate and up; what follows them */
    ring fetching;    /* where warp 17 is in the ring */
    cuda_token token;
    cuda_row row;
    uint32_t page;
    float *exchange;              /* of this token */
    uint32_t acts, router, terms; /* where in token_bytes */
    float norm, operator_norm;
    alignas(16) float given[OWN], before[OWN]; /* the block's channels: just made; what the guess starts from */
    float h[OWN];                              /* of the residual */
    ring flow[WARPS]; /* where a computing warp is in the ring, and in the phases; in registers they would spill */
    uint32_t at[WARPS];
};

/* The block's shared memory at a literal address, which the kernel verifies: that of a symbol is computed anew at each
 * use from the block's number in its cluster, 50 cycles in the middle of a chain. */
enum { SHARED_BASE = 1024, STATE_BYTES = (sizeof(token_shared) + 127) / 128 * 128 };
extern __shared__ __align__(1024) uint8_t token_memory[];
#define here        (*(token_shared *)__cvta_shared_to_generic(SHARED_BASE))
#define token_bytes ((uint8_t *)__cvta_shared_to_generic(SHARED_BASE + STATE_BYTES))

/* ---- Places */

/* [n_expert][ROUTER_ROW] of a layer: the block's channels of the router, and of the table of guesses. */
__device__ __forceinline__ float *router_at(uint32_t i) {
    return (float *)(token_bytes + here.router) + (i & 1) * 2 * here.job.n_expert * ROUTER_ROW;
}

__device__ __forceinline__ float *guess_at(uint32_t i) {
    return router_at(i) + here.job.n_expert * ROUTER_ROW;
}

/* The vectors of layer i that travel. */
struct exchange {
    __device__ __forceinline__ static float *x(uint32_t i) { /* its input */
        return here.exchange + (size_t)i * here.job.layer_floats;
    }
    __device__ __forceinline__ static float *mixed(uint32_t i) { /* the operator's output */
        return x(i) + D;
    }
    __device__ __forceinline__ static float *h(uint32_t i) { /* the FFN's input */
        return x(i) + 2 * D;
    }
    __device__ __forceinline__ static float *hidden(uint32_t i) {
        return x(i) + 3 * D;
    }
    __device__ __forceinline__ static float *qkv(uint32_t i) {
        return hidden(i) + here.job.n_hidden;
    }
    __device__ __forceinline__ static uint32_t *arrived(uint32_t i) { /* [64] */
        return (uint32_t *)(qkv(i) + here.job.n_qkv);
    }
    __device__ __forceinline__ static float *
    parts(uint32_t i) { /* the router's sums [128 groups of 16 channels][PART_ROW experts] */
        return qkv(i) + here.job.n_qkv + 64;
    }
    __device__ __forceinline__ static float *guess(uint32_t i) { /* likewise */
        return parts(i) + GRID * PART_ROW;
    }
};

/* The block's share of `all`, which are under 2^25. */
__device__ __forceinline__ uint32_t share_begin(uint32_t all) {
    return all * blockIdx.x / GRID;
}

__device__ __forceinline__ uint32_t share_end(uint32_t all) {
    return all * (blockIdx.x + 1) / GRID;
}

#endif
