/*
 * One token of one row from its id to its logits in one kernel: a block per 16 channels, all of them resident at once,
 * so that weights stream on while vectors travel. A layer has four phases, each a product of a vector that all blocks
 * wrote: in_proj (or q, k, v and attention), out_proj, gate and up, down. What stands between two of them decides the
 * speed, so everything that does not depend on the vector is done before it comes:
 *
 *   warps 0-15   compute. Warp w takes block w % 8 of 256 values: the first eight wait for theirs (token.cuh),
 *                normalise and quantise them, then all multiply, tiles of 16 rows in turn. Warp 15 ends most phases:
 *                sums, convolution, residual.
 *   warp 16      fetches the rows whose place is known as soon as those of the layer before are used
 *   warp 17      guesses the experts while out_proj is computed and fetches theirs; if the guess was wrong, the right
 *                ones'
 *   warp 18      fetches what a layer needs beside matrices
 *   warp 19      chooses the experts; before the first layer it clears the next token's exchange
 *
 * The guess: the router's logits are linear in h = before + out_proj . y up to the norm's scale, so with the product of
 * both matrices (token_guess.cu) each block adds its channels' share when it gives out y, one phase before h is there.
 * The scale is that of the operator's norm times what stood between both last time. It only moves fetching ahead; the
 * choice is made as ever.
 *
 * Limit: the weights' bytes, and two trips to L2 from one phase's values to the next one's. sm_90; the arithmetic is
 * that of decode.cu and attention.cu.
 */
#include "backend/cuda/launch.cuh"
#include "backend/cuda/token_compute.cuh"

__global__ void __launch_bounds__(THREADS, 1) decode_token(const __grid_constant__ cuda_token_job job) {
#if __CUDA_ARCH__ >= 900
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (shared_address(token_memory) != SHARED_BASE) {
        __trap();
    }
    if (threadIdx.x == 0) {
        for (int i = 0; i < SLOTS_MAX; i++) {
            slot_init(&here.full[i], 1);
            slot_init(&here.empty[i], i < KNOWN ? (int)WARPS : (int)BLOCKS);
        }
        for (int i = 0; i < 2; i++) {
            slot_init(&here.prepared_full[i], 1);
            slot_init(&here.prepared_empty[i], 1);
        }
        slot_init(&here.guessed, 1);
        slot_init(&here.judged, 1);
        slot_init(&here.attended, WARPS);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    for (uint32_t i = threadIdx.x; i < sizeof job / 4; i += THREADS) {
        ((uint32_t *)&here.job)[i] = ((const uint32_t *)&job)[i];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        wait_for_input();
        here.token = job.step.tokens[0];
        here.token.id = token_of(here.token.id, job.step.drawn);
        here.row = job.step.rows[here.token.row];
        here.page = job.step.pages[here.row.first_page + here.token.pos / 64];
        uint32_t turn = __ldcg(job.turn) & 1;
        size_t floats = (size_t)job.layer_floats * job.n_layer + D;
        here.exchange = job.exchange + turn * floats;
        here.acts = KNOWN * job.known_slot + job.n_slots * job.slot;
        here.router = here.acts + job.scratch;
        here.terms = here.router + 4 * job.n_expert * ROUTER_ROW * 4;
    }
    __syncthreads();
    if (warp < WARPS) {
        compute_token();
        if (blockIdx.x == 0 && threadIdx.x == 0) { /* every block has read it: their values came */
            *job.turn = here.exchange == job.exchange ? 1 : 0;
        }
    } else {
        if (warp == WARPS) {
            fetch_known(lane);
        } else if (warp == WARPS + 1) {
            fetch_chosen(lane);
        } else if (warp == WARPS + 2) {
            prepare_layers(lane);
        } else {
            size_t floats = (size_t)job.layer_floats * job.n_layer + D;
            clear_next((uint4 *)(here.exchange == job.exchange ? job.exchange + floats : job.exchange), floats / 4,
                       lane);
            choose_all(lane);
        }
    }
    let_next_start();
#endif
}

/* ---- The host's side */

static uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static bool known_type(const cuda_mat &m) {
    return m.type == CUDA_Q4_K || m.type == CUDA_Q6_K;
}

extern "C" bool cuda_token_fit(struct cuda_token_job *j, const struct cuda_token_layer *layers, int shared_max) {
    cudaFuncAttributes own;
    if (cudaFuncGetAttributes(&own, decode_token) != cudaSuccess) {
        cudaGetLastError();
        return false;
    }
    j->known_slot = j->slot = j->n_qkv = j->n_hidden = 0;
    j->terms = OWN * DOWN_ROW * 4;
    for (uint32_t i = 0; i < j->n_layer; i++) {
        const cuda_token_layer *l = &layers[i];
        uint32_t n = l->is_moe ? j->used : 1, qkv = 0, blocks = n * (l->down.n_cols / 256);
        if (l->down.n_rows != D || l->out.n_cols != D || l->out.n_rows != D || l->gate.type != l->up.type ||
            blocks > HIDDEN_MAX || (l->is_moe && (j->used > 4 || l->down.n_cols > D)) || !known_type(l->out) ||
            !known_type(l->gate) || !known_type(l->down)) {
            return false;
        }
        for (int k = 0; k < 3; k++) {
            qkv += l->first[k].n_rows;
            if (!known_type(l->first[k]) || l->first[k].n_cols != D || l->first_rows[k] > OWN ||
                (l->is_attention ? l->first_rows[k] * j->n_blocks != l->first[k].n_rows
                                 : 3 * OWN * j->n_blocks != l->first[k].n_rows)) {
                return false;
            }
            j->known_slot = larger(j->known_slot, tile_room(l->first[k].type, D, l->first_rows[k]));
        }
        j->known_slot = larger(j->known_slot, tile_room(l->out.type, D, OWN));
        j->slot = larger(j->slot, tile_room(l->gate.type, D, 16));
        if (l->is_moe) {
            j->slot = larger(j->slot, tile_room(l->down.type, l->down.n_cols, OWN));
        }
        j->terms = larger(j->terms, (n * l->gate.n_rows / 8 + GRID - 1) / GRID * 16 * BLOCKS * 4);
        j->n_hidden = larger(j->n_hidden, n * l->gate.n_rows);
        j->n_qkv = l->is_attention ? larger(j->n_qkv, qkv) : j->n_qkv;
    }
    j->dense_rows = OWN;
    for (uint32_t i = 0; i < j->n_layer; i++) { /* rows of a dense layer's down may be long: as many as a slot holds */
        const cuda_mat *down = &layers[i].down;
        while (!layers[i].is_moe && j->dense_rows && tile_room(down->type, down->n_cols, j->dense_rows) > j->slot) {
            j->dense_rows -= 2;
        }
    }
    j->head_rows = 16;
    while (j->head_rows && tile_room(j->output.type, D, j->head_rows) > j->slot) {
        j->head_rows -= 2;
    }
    j->known_slot = (j->known_slot + 127) / 128 * 128;
    j->slot = (j->slot + 127) / 128 * 128;
    j->scratch = HIDDEN_MAX * ACTS;
    j->layer_floats = (3 * D + j->n_hidden + j->n_qkv + 64 + 2 * GRID * PART_ROW + 31) / 32 * 32;
    if (!known_type(j->output) || j->output.n_rows % (2 * GRID) || !j->head_rows || !j->dense_rows ||
        (j->output.n_rows / j->n_blocks / j->head_rows + 2) * 16 * BLOCKS * 4 > KNOWN * j->known_slot) {
        return false;
    }
    uint32_t rest = STATE_BYTES + KNOWN * j->known_slot + j->scratch + 4 * j->n_expert * ROUTER_ROW * 4 + j->terms,
             most = (uint32_t)shared_max - (uint32_t)own.sharedSizeBytes;
    j->n_slots = rest < most ? (most - rest) / j->slot : 0;
    j->n_slots = j->n_slots < SLOTS_MAX - KNOWN ? j->n_slots : (uint32_t)(SLOTS_MAX - KNOWN);
    j->shared = rest + j->n_slots * j->slot;
    return j->n_slots >= 2 && j->n_slots * j->slot >= TOKEN_ATTENTION_SCRATCH &&
           cudaFuncSetAttribute(decode_token, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)j->shared) ==
               cudaSuccess;
}

extern "C" size_t cuda_token_exchange(const struct cuda_token_job *j) {
    return (size_t)j->layer_floats * j->n_layer + D;
}

extern "C" cudaError_t cuda_decode_token(const struct cuda_token_job *j, cudaStream_t stream) {
    return launch(decode_token, dim3(j->n_blocks), THREADS, j->shared, stream, *j);
}
