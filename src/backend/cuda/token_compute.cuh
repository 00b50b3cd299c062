/*
 * The computing warps of the token kernel (token.cu). Every phase runs through the same code as far as it can: what a
 * layer runs through must fit the instruction caches.
 */
#ifndef CUDA_TOKEN_COMPUTE_CUH
#define CUDA_TOKEN_COMPUTE_CUH

#include "backend/cuda/token_fetch.cuh"
#include "backend/cuda/weight.cuh"

#if __CUDA_ARCH__ >= 900

/* The thread's number, read anew: what is derived from it is then derived again where it is used, not kept in registers
 * through all phases, which would have others spilled. */
__device__ __forceinline__ uint32_t this_thread() {
    uint32_t tid;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(tid));
    return tid;
}

__device__ __forceinline__ float norm_of_squares() {
    float4 a = *(const float4 *)here.squares, b = *(const float4 *)(here.squares + 4);
    float sum = (((((((0.0f + a.x) + a.y) + a.z) + a.w) + b.x) + b.y) + b.z) + b.w;
    return norm_scale(sum, D, here.job.eps);
}

/* Waits for the vector's blocks warp, warp + 16 and quantises them; under a norm a vector has eight blocks, and their
 * squares are added. */
__device__ __forceinline__ void read_blocks(const phase_plan &plan) {
    uint32_t tid = this_thread(), lane = tid % 32, warp = tid / 32;
    uint32_t n = plan.n_blocks;
    if (warp >= n) {
        return;
    }
    const float *gain = plan.gain, *from = plan.x + warp * 256 + lane * 8;
    float4 g0 = {}, g1 = {};
    if (gain) {
        g0 = *(const float4 *)(gain + warp * 256 + lane * 8);
        g1 = *(const float4 *)(gain + warp * 256 + lane * 8 + 4);
    }
    uint4 a = look4(from), b = look4(from + 4);
    uint32_t spins = 0;
#pragma unroll 1
    for (uint32_t k = warp; k < n; k += WARPS) {
        const float *next = from + WARPS * 256;
        uint4 c = a, d = a;
        if (k + WARPS < n) { /* the next block's values travel meanwhile */
            c = look4(next);
            d = look4(next + 4);
        }
        while (!__all_sync(FULL, is_there(a) && is_there(b))) {
            if (!is_there(a)) {
                a = look4(from);
            }
            if (!is_there(b)) {
                b = look4(from + 4);
            }
            count_spin(&spins);
        }
        float u[8] = {__uint_as_float(a.x), __uint_as_float(a.y), __uint_as_float(a.z), __uint_as_float(a.w),
                      __uint_as_float(b.x), __uint_as_float(b.y), __uint_as_float(b.z), __uint_as_float(b.w)};
        if (gain) {
            float sum = squares_256(u);
            if (lane == 0) {
                here.squares[k] = sum;
            }
            __syncwarp();
            block_arrive<SQUARED, 9 * 32>();
            u[0] *= g0.x, u[1] *= g0.y, u[2] *= g0.z, u[3] *= g0.w, u[4] *= g1.x, u[5] *= g1.y, u[6] *= g1.z,
                u[7] *= g1.w;
        }
        uint2 hi, lo;
        int sum;
        float top = quantize_256(u, &hi, &lo, &sum);
        store_operands(token_bytes + here.acts + k * ACTS, hi, lo, lane);
        if (lane % 4 == 0) {
            here.sums32[k][lane / 4] = sum;
        }
        if (lane == 0) {
            here.scale[k] = top;
        }
        a = c;
        b = d;
        from = next;
    }
}

/* Warps 8 to 15: of each expert the groups j, j + 8, j + 16 ... of 16 channels, added as docs/numerics.md adds
 * lanes. */
__device__ __forceinline__ void add_parts(const float *parts, router_sums &r) {
    uint32_t tid = this_thread(), lane = tid % 32, j = tid / 32 - BLOCKS, n = here.job.n_expert;
#pragma unroll 1
    for (uint32_t e = lane; e - lane < n; e += 32) {
        float x[16], sum[4];
        await_pairs<16>(parts + j * PART_ROW + (e < n ? e : 0), 16 * PART_ROW, 8 * PART_ROW, x);
#pragma unroll
        for (int k = 0; k < 4; k++) { /* lane j + 8k: groups j + 8k + 32a */
            sum[k] = ((x[k] + x[k + 4]) + x[k + 8]) + x[k + 12];
        }
        if (e < n) {
            r.parts[j][e] = (sum[0] + sum[2]) + (sum[1] + sum[3]);
        }
    }
    __syncwarp();
}

/* Warp 8: the norm's scale, while the others still quantise. */
__device__ __forceinline__ void make_norm(bool of_operator) {
    block_sync<SQUARED, 9 * 32>();
    float norm = norm_of_squares();
    if (this_thread() % 32 == 0) {
        here.norm = norm;
        if (of_operator) {
            here.operator_norm = norm;
        }
    }
    __syncwarp();
}

__device__ __forceinline__ operands operands_of(uint32_t block, float norm, uint32_t lane) {
    return load_operands(token_bytes + here.acts + block * ACTS, here.sums32[block], here.scale[block] * norm, lane);
}

/* A slot of the ring has been read by this warp: eight of them read each. */
__device__ __forceinline__ void leave_slot(uint32_t slot, uint32_t lane) {
    __syncwarp();
    if (lane == 0) {
        slot_arrive(&here.empty[slot]);
    }
}

/* The term of super-block b of a lane's row of the tile in `slot`, which the warp then leaves, and the row itself, or
 * CUDA_NONE: not this lane's to keep. */
__device__ __forceinline__ float term_of_slot(uint32_t slot, uint32_t b, const operands &x, bool leave, uint32_t *row) {
    uint32_t lane = this_thread() % 32, own = row_of_lane(lane);
    const tile is = here.tiles[slot];
    lane_row w[2];
    *row = lane % 4 >= 2 || own % 8 >= is.n_half ? CUDA_NONE : own < 8 ? own : own - 8 + is.n_half;
    if (is.type == CUDA_Q4_K) {
        load_rows<CUDA_Q4_K>(token_bytes + is.at, is, b, lane, w);
        if (leave) {
            leave_slot(slot, lane);
        }
        return tile_term<CUDA_Q4_K>(w, x, lane);
    }
    load_rows<CUDA_Q6_K>(token_bytes + is.at, is, b, lane, w);
    if (leave) {
        leave_slot(slot, lane);
    }
    return tile_term<CUDA_Q6_K>(w, x, lane);
}

/* Half a tile of Q4_K, a piece of a row to a lane; its slot has been filled. */
struct half_tile {
    lane_row w;
    uint32_t n, row; /* rows of it; where the first one's term goes */
};

__device__ __forceinline__ half_tile take_half(uint32_t known, uint32_t k, uint32_t block, uint32_t lane) {
    half_tile h;
    const tile is = here.tiles[known + k / 2];
    half_planes planes = planes_of<CUDA_Q4_K>(token_bytes + is.at + (k % 2 ? is.second : 0), is.n_half, D);
    h.n = is.n_half;
    h.row = k / 2 * OWN + k % 2 * is.n_half;
    h.w = load_row<CUDA_Q4_K>(planes, lane / 4 < is.n_half ? lane / 4 : is.n_half - 1u, D, block, lane % 4);
    return h;
}

/* The terms [row][BLOCKS] of rows of Q4_K whose place is known, by halves of tiles, so that all warps have as many,
 * `each`. */
__device__ __forceinline__ void multiply_halves(uint32_t known, uint32_t each, bool normed, uint32_t i, float *terms) {
    uint32_t tid = this_thread(), lane = tid % 32, block = tid / 32 % BLOCKS, k = tid / 32 / BLOCKS * each,
             end = k + each;
    operands x = operands_of(block, normed ? here.norm : 1.0f, lane);
#pragma unroll 1
    for (; k < end; k++) {
        slot_wait(&here.full[known + k / 2], i & 1);
        half_tile h = take_half(known, k, block, lane);
        float term = half_term(h.w, x);
        if (lane % 4 == 0 && lane / 4 < h.n) {
            terms[(h.row + lane / 4) * BLOCKS + block] = term;
        }
    }
    __syncwarp();
    if (lane < each) {
        slot_arrive(&here.empty[known + lane]);
    }
}

/* The terms [row][BLOCKS] of tiles that two groups of warps take in turns. */
__device__ __forceinline__ void multiply_turns(const phase_plan &plan, uint32_t i, float *terms) {
    uint32_t tid = this_thread(), warp = tid / 32, block = warp % BLOCKS, n = plan.n_items, rows = plan.rows,
             known = plan.known;
    ring r = here.flow[warp];
    operands x = operands_of(block, plan.gain ? here.norm : 1.0f, tid % 32);
    bool in_ring = known == CUDA_NONE;
    ring at = in_ring ? advance(r, warp / BLOCKS) : r;
#pragma unroll 1
    for (uint32_t k = warp / BLOCKS; k < n; k += 2) {
        uint32_t slot = in_ring ? KNOWN + at.slot : known + k, row;
        slot_wait(&here.full[slot], in_ring ? at.round : i & 1);
        float term = term_of_slot(slot, block, x, in_ring, &row);
        if (row != CUDA_NONE) {
            terms[(k * rows + row) * BLOCKS + block] = term;
        }
        at = advance(at, 2);
    }
    __syncwarp();
    if (in_ring) {
        here.flow[warp] = advance(r, n);
    } else if (tid % 32 < n) {
        slot_arrive(&here.empty[known + tid % 32]);
    }
}

/* The terms [16 rows][DOWN_ROW] of down's tiles, a vector of hidden units for each; of a dense layer's, which share
 * one. */
__device__ __forceinline__ void multiply_down(const phase_plan &plan, float *terms) {
    uint32_t warp = this_thread() / 32, n = plan.n_items, per = plan.per, step = plan.step;
    ring r = here.flow[warp];
#pragma unroll 1
    for (uint32_t k = 0, first = 0; k < n; k++, first += step, r = advance(r, 1)) {
        uint32_t slot = KNOWN + r.slot, b = (warp - first) & (WARPS - 1), row;
        if (step && b >= BLOCKS) {
            continue;
        }
        slot_wait(&here.full[slot], r.round);
#pragma unroll 1
        for (; b < per; b += WARPS) {
            operands x = operands_of(first + b, 1.0f, this_thread() % 32);
            float term = term_of_slot(slot, b, x, false, &row);
            if (row != CUDA_NONE) {
                terms[(step ? row : k * plan.rows + row) * DOWN_ROW + (step ? k * BLOCKS : 0) + b] = term;
            }
        }
        if (!step) {
            block_sync<COMPUTING, COMPUTE>(); /* all warps have read it */
        }
        if (warp < BLOCKS || step) {
            leave_slot(slot, this_thread() % 32);
        }
    }
    here.flow[warp] = r;
    __syncwarp();
}

/* The sum of a row's eight terms, in order. */
__device__ __forceinline__ float sum_of_row(const float *terms) {
    float4 a = *(const float4 *)terms, b = *(const float4 *)(terms + 4);
    return (((((((0.0f + a.x) + a.y) + a.z) + a.w) + b.x) + b.y) + b.z) + b.w;
}

/* rows[e] . x, in order, added to sum: a lane's expert and the block's 16 channels in shared memory. */
__device__ __forceinline__ float add_channels(const float *row, const float *x, float sum) {
#pragma unroll
    for (int k = 0; k < OWN; k += 4) {
        float4 a = *(const float4 *)(row + k), b = *(const float4 *)(x + k);
        sum = fmaf(a.x, b.x, sum);
        sum = fmaf(a.y, b.y, sum);
        sum = fmaf(a.z, b.z, sum);
        sum = fmaf(a.w, b.w, sum);
    }
    return sum;
}

/* Warp 14: the block's part of the guess's sums: what h was before, then the operator's output, which warp 15 makes
 * meanwhile. */
__device__ __forceinline__ void give_guess(const prepared &p, float *parts, uint32_t i) {
    uint32_t lane = this_thread() % 32, n = here.job.n_expert;
    if (lane < OWN) {
        here.before[lane] = p.gain[lane] * here.h[lane];
    }
    __syncwarp();
    float sum[CUDA_EXPERTS_MAX / 32];
#pragma unroll
    for (uint32_t k = 0; k < CUDA_EXPERTS_MAX / 32; k++) {
        uint32_t e = k * 32 + lane < n ? k * 32 + lane : 0;
        sum[k] = k * 32 < n ? add_channels(router_at(i) + e * ROUTER_ROW, here.before, 0) : 0.0f;
    }
    block_sync<GIVEN, 64>();
#pragma unroll
    for (uint32_t k = 0; k < CUDA_EXPERTS_MAX / 32; k++) {
        if (k * 32 + lane < n) {
            publish(parts + k * 32 + lane,
                    add_channels(guess_at(i) + (k * 32 + lane) * ROUTER_ROW, here.given, sum[k]));
        }
    }
}

/* Warp 15: a channel's convolution of TAPS, to a lane; its state moves on. */
__device__ __forceinline__ void end_conv(const prepared &p, const phase_plan &plan, const float *terms) {
    uint32_t lane = this_thread() % 32, c = lane % OWN;
    float4 past = *(const float4 *)p.past[c]; /* taps */
    float2 columns = *(const float2 *)(p.past[c] + 4);
    float b = sum_of_row(terms + c * BLOCKS), gate = sum_of_row(terms + (OWN + c) * BLOCKS),
          x = sum_of_row(terms + (2 * OWN + c) * BLOCKS), u = b * x,
          y = gate * fmaf(past.z, u, fmaf(past.y, columns.y, past.x * columns.x));
    if (lane < OWN) {
        publish(plan.out + c, y);
        here.given[c] = y;
    }
    __syncwarp();
    if (plan.parts) {
        block_arrive<GIVEN, 64>();
    }
    if (lane < OWN) {
        const cuda_conv &v = p.layer.conv;
        float *state = v.state + here.row.slot * v.slot_stride + blockIdx.x * OWN + c;
        state[0] = columns.y;
        state[D] = u;
        if (here.row.first_pos % 64 == 63) {
            float *snapshot = v.snapshots + here.page * v.page_stride + blockIdx.x * OWN + c;
            snapshot[0] = columns.y;
            snapshot[D] = u;
        }
    }
}

/* Warp 15: residual, and the block's 16 channels of the router. */
__device__ __forceinline__ void end_mix(const prepared &p, const phase_plan &plan, uint32_t i, const float *terms) {
    uint32_t lane = this_thread() % 32, c = lane % OWN;
    float h = here.h[c] + sum_of_row(terms + c * BLOCKS);
    if (lane < OWN) {
        publish(plan.out + c, h);
        here.h[c] = h;
    }
    if (!plan.parts) {
        return;
    }
    if (lane < OWN) {
        here.given[c] = p.gain[c] * h;
    }
    __syncwarp();
#pragma unroll 1
    for (uint32_t e = lane; e < here.job.n_expert; e += 32) {
        publish(plan.parts + e, add_channels(router_at(i) + e * ROUTER_ROW, here.given, 0));
    }
}

/* Warp 15: the block's rows of q, k and v. */
__device__ __forceinline__ void end_qkv(const prepared &p, uint32_t i, const float *terms) {
    uint32_t tid = this_thread(), lane = tid % 32;
    float *to = exchange::qkv(i);
#pragma unroll 1
    for (uint32_t k = 0; k < 3; k++) {
        uint32_t n = p.layer.first_rows[k];
        if (lane < n) {
            publish(to + blockIdx.x * n + lane, sum_of_row(terms + (k * OWN + lane) * BLOCKS));
        }
        to += p.layer.first[k].n_rows;
    }
}

/* Warps 12 to 15: hidden units, of whose rows of gate the terms are followed by those of up eight rows on. */
__device__ __forceinline__ void end_gate_up(const phase_plan &plan, const float *terms) {
#pragma unroll 1
    for (uint32_t u = this_thread() - 12 * 32; u < plan.n_items * 8; u += 128) {
        const float *gate = terms + (u / 8 * 16 + u % 8) * BLOCKS;
        float x = sum_of_row(gate), up = sum_of_row(gate + 8 * BLOCKS);
        publish(plan.out + u, x * sigmoid(x) * up);
    }
}

/* Warp 15: the experts' weighted sum, or the dense layer's, and the residual. */
__device__ __forceinline__ void end_down(const phase_plan &plan, const float *terms) {
    uint32_t tid = this_thread(), lane = tid % 32;
    uint32_t per = plan.per;
    float h = here.h[lane % OWN];
    terms += lane % OWN * DOWN_ROW;
    if (plan.step) { /* the lower half of the lanes takes two experts, the upper one the others */
        float sum[2] = {0, 0}, gain[2];
#pragma unroll
        for (uint32_t j = 0; j < 2; j++) {
            uint32_t k = lane / OWN * 2 + j;
            float4 a = *(const float4 *)(terms + k * BLOCKS), b = *(const float4 *)(terms + k * BLOCKS + 4);
            float x[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
            gain[j] = here.choice.gains[k];
#pragma unroll
            for (uint32_t c = 0; c < 8; c++) {
                sum[j] = c < per ? sum[j] + x[c] : sum[j];
            }
        }
#pragma unroll
        for (uint32_t k = 0; k < 4; k++) {
            float x = __shfl_sync(FULL, sum[k & 1], (k / 2) * OWN + lane % OWN),
                  g = __shfl_sync(FULL, gain[k & 1], (k / 2) * OWN);
            h = k < here.job.used ? fmaf(g, x, h) : h;
        }
    } else {
        float sum = 0;
#pragma unroll 4
        for (uint32_t b = 0; b < per; b++) {
            sum += terms[b];
        }
        h += sum;
    }
    if (lane < OWN) {
        publish(plan.out + lane, h);
        here.h[lane] = h;
    }
}

/* The block's channels of the token's vector, and the angles of its position. */
__device__ __noinline__ static void start_token(uint32_t warp, uint32_t lane) {
    if (warp == WARPS - 1 && lane < OWN) {
        float x = weight_at(here.job.embedding, here.token.id, blockIdx.x * OWN + lane);
        publish(exchange::x(0) + blockIdx.x * OWN + lane, x);
        here.h[lane] = x;
    }
    if (warp == WARPS - 2) {
        double sine, cosine;
        sincos(here.token.pos * here.job.rates[lane], &sine, &cosine);
        here.cos_sin[lane] = (float)cosine;
        here.cos_sin[32 + lane] = (float)sine;
    }
    if (lane == 0) {
        here.flow[warp] = {0, 0};
        here.at[warp] = 0;
    }
    __syncwarp();
}

__device__ __forceinline__ void end_phase(const prepared &p, uint32_t i, uint32_t phase, const float *terms) {
    const phase_plan &plan = p.plans[phase];
    uint32_t warp = this_thread() / 32;
    bool last = warp == WARPS - 1;
    if (phase == GATE_UP) {
        if (warp >= 12) {
            end_gate_up(plan, terms);
        }
    } else if (phase == OPERATOR && p.layer.is_attention) {
        if (last) {
            end_qkv(p, i, terms);
        }
        attend_token(p.attention, warp, this_thread() % 32);
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); /* its memory is the ring's again */
        __syncwarp();
        if (this_thread() % 32 == 0) {
            slot_arrive(&here.attended);
        }
    } else if (phase == OPERATOR && warp == WARPS - 2) {
        if (plan.parts) {
            give_guess(p, plan.parts, i);
        }
    } else if (last) {
        if (phase == OPERATOR) {
            end_conv(p, plan, terms);
        } else if (phase == MIX) {
            end_mix(p, plan, i, terms);
        } else {
            end_down(plan, terms);
            __syncwarp();
            if (this_thread() % 32 == 0) {
                slot_arrive(&here.prepared_empty[i & 1]);
            }
        }
    }
}

__device__ __forceinline__ void compute_token(void) {
    start_token(this_thread() / 32, this_thread() % 32);
#pragma unroll 1
    for (;;) {
        uint32_t tid = this_thread(), warp = tid / 32, at = here.at[warp], i = at / PHASES, phase = at % PHASES;
        const prepared &p = here.layers[i & 1];
        const phase_plan &plan = p.plans[phase];
        bool head = i == here.job.n_layer;
        float *terms = (float *)(token_bytes + (head ? 0 : here.terms)); /* then known rows need no more room */
        if (phase == OPERATOR) {
            slot_wait(&here.prepared_full[i & 1], i >> 1 & 1);
        }
        uint32_t known = plan.known, each = plan.halves;
        bool normed = plan.gain;
        read_blocks(plan);
        if (plan.sums && warp >= BLOCKS) {
            add_parts(plan.sums, plan.routed ? here.choice : here.guess);
        }
        if (plan.gain && warp == BLOCKS) {
            make_norm(phase == OPERATOR);
        }
        if (plan.sums && warp >= BLOCKS) {
            if (plan.routed) {
                block_arrive<ROUTABLE, 9 * 32>();
            } else {
                block_arrive<GUESSABLE, 9 * 32>();
            }
        }
        block_sync<COMPUTING, COMPUTE>();
        if (each) {
            multiply_halves(known, each, normed, i, terms);
        } else if (phase == DOWN) {
            multiply_down(plan, terms);
        } else {
            bool again = plan.routed, repeated = false;
#pragma unroll 1
            do {
                multiply_turns(plan, i, terms);
                if (again) { /* once more if these were not the chosen experts' weights: then they come now */
                    slot_wait(&here.judged, p.layer.n_routed & 1);
                    again = here.wrong && !repeated;
                    repeated = true;
                }
            } while (again);
        }
        block_sync<COMPUTING, COMPUTE>();
        if (head) {
            break;
        }
        end_phase(p, i, phase, terms);
        __syncwarp();
        if (this_thread() % 32 == 0) {
            here.at[this_thread() / 32]++;
        }
        __syncwarp();
    }
    uint32_t begin = share_begin(here.job.output.n_rows), n = share_end(here.job.output.n_rows) - begin;
    for (uint32_t k = this_thread(); k < n; k += COMPUTE) {
        here.job.logits[begin + k] = sum_of_row((const float *)token_bytes + k * BLOCKS);
    }
}
#endif

#endif
