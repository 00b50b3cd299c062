/*
 * The warps of the token kernel (token.cu) that fetch and choose while the others compute.
 */
#ifndef CUDA_TOKEN_FETCH_CUH
#define CUDA_TOKEN_FETCH_CUH

#include "backend/cuda/route.cuh"
#include "backend/cuda/token_state.cuh"

#if __CUDA_ARCH__ >= 900

/* ---- Warp 16: rows whose place is known */

__device__ __noinline__ static void fetch_known(uint32_t lane) {
#pragma unroll 1
    for (uint32_t at = 0; at < here.job.n_layer * KNOWN; at++) { /* a slot as soon as the layer before has used it */
        uint32_t i = at / KNOWN, k = at % KNOWN;
        const cuda_token_layer &l = here.job.layers[i];
        const cuda_mat *m = k < 3 ? &l.first[k] : &l.out;
        lane_plane p = plane_of(m, m, lane);
        uint32_t n = k < 3 ? l.first_rows[k] : (uint32_t)OWN, half = (n + 1) / 2;
        uint32_t row = (k < 3 ? l.first_row[k] : 0) + blockIdx.x * n;
        slot_wait(&here.empty[k], (i & 1) ^ 1);
        copy_tile(p, row, half, row + half, n - half, k * here.job.known_slot, token_bytes, &here.tiles[k],
                  &here.full[k], lane);
    }
}

/* ---- Warp 17: the guess, the chosen experts' rows, the head's */

/* The router's sums from eight partial ones, by lanes as docs/numerics.md has it, then the choice. */
__device__ __noinline__ static void choose(router_sums &r, const float *bias, float scale, uint32_t lane) {
#pragma unroll 1
    for (uint32_t e = lane; e < here.job.n_expert; e += 32) {
        float t[8];
#pragma unroll
        for (int k = 0; k < 8; k++) {
            t[k] = r.parts[k][e];
        }
        r.sums[e] = ((t[0] + t[4]) + (t[2] + t[6])) + ((t[1] + t[5]) + (t[3] + t[7]));
    }
    __syncwarp();
    cuda_route route = {};
    route.bias = bias ? r.bias : NULL;
    route.n_expert = here.job.n_expert;
    route.used = here.job.used;
    route.expert_scale = here.job.expert_scale;
    choose_experts(route, r.sums, r.score, scale, (int)lane, r.ids, r.gains);
}

__device__ __forceinline__ void fetch_bias(router_sums &r, const float *bias, uint32_t lane) {
    for (uint32_t e = lane; bias && e < here.job.n_expert; e += 32) {
        r.bias[e] = bias[e];
    }
}

__device__ __forceinline__ void describe_fetch(fetched &f, const cuda_mat *m, const cuda_mat *other, uint32_t lane) {
    lane_plane p = plane_of(m, other, lane);
    if (lane < 8) {
        f.from[lane] = p.from;
        f.bytes[lane] = p.bytes;
        f.at[lane] = p.at;
    }
    if (lane == 0) {
        f.type = p.type;
        f.n_cols = p.n_cols;
        f.row_bytes = p.row_bytes;
    }
    __syncwarp();
}

/* The place n items on. */
__device__ __forceinline__ ring advance(ring r, uint32_t n) {
    for (r.slot += n; r.slot >= here.job.n_slots; r.slot -= here.job.n_slots) {
        r.round ^= 1;
    }
    return r;
}

/* n tiles to the next slots of the ring: with ff, eight hidden units each of gate and up from tile `begin` on, of
 * experts ids; else rows [begin, end) of each matrix in tiles of `each`. Eight lanes to a tile, a plane of a half to a
 * lane, and as many tiles at once as are free. */
__device__ __noinline__ static void fetch_tiles(uint32_t ff, uint32_t begin, uint32_t end, uint32_t each, uint32_t n,
                                                const uint32_t *ids, uint32_t lane) {
    const fetched &m = here.fetch[ff ? 0 : 1];
    uint32_t plane = lane % 8, per = ff ? ff / 8 : (end - begin + each - 1) / each, half = plane / 4,
             bytes = m.bytes[plane], plane_at = m.at[plane], type = m.type, n_cols = m.n_cols, row_bytes = m.row_bytes;
    const uint8_t *from = m.from[plane];
    ring r = here.fetching;
#pragma unroll 1
    for (uint32_t k0 = 0, step = 0; k0 < n; k0 += step) {
        step = ff && !k0 ? 4 : 2; /* all slots are free before gate and up, then they become so by twos */
        step = step < here.job.n_slots ? step : here.job.n_slots;
        uint32_t k = k0 + lane / 8;
        bool mine = lane / 8 < step && k < n;
        ring at = advance(r, mine ? lane / 8 : 0);
        uint32_t slot = KNOWN + at.slot, where = KNOWN * here.job.known_slot + at.slot * here.job.slot;
        uint32_t tile_of = ff ? begin + k : k, vector = tile_of / per, in_vector = tile_of - vector * per,
                 id = mine && ids ? ids[vector] : 0, rows = 16, first, second_first;
        if (ff) {
            first = second_first = id * ff + in_vector * 8;
        } else {
            uint32_t row = begin + in_vector * each;
            rows = end - row < each ? end - row : each;
            first = id * D + row;
            second_first = first + (rows + 1) / 2;
        }
        uint32_t n_half = (rows + 1) / 2, n_rows = half ? rows / 2 : n_half, second = second_half(type, n_cols, n_half);
        slot_wait(&here.empty[slot], at.round ^ 1);
        if (mine && plane == 0) {
            here.tiles[slot] = {(uint16_t)type, (uint16_t)n_half, n_cols, second, where};
            slot_expect(&here.full[slot], rows * row_bytes);
        }
        __syncwarp();
        if (mine && bytes && n_rows) {
            bulk_copy(token_bytes + where + (half ? second : 0) + n_rows * plane_at,
                      from + (size_t)(half ? second_first : first) * bytes, n_rows * bytes, &here.full[slot]);
        }
        r = advance(r, k0 + step < n ? step : n - k0);
    }
    __syncwarp();
    if (lane == 0) {
        here.fetching = r;
    }
    __syncwarp();
}

__device__ __noinline__ static void fetch_chosen(uint32_t lane) {
    uint32_t n_attended = 0;
    if (lane == 0) {
        here.fetching = {0, 0};
    }
    __syncwarp();
#pragma unroll 1
    for (uint32_t i = 0; i < here.job.n_layer; i++) {
        const cuda_token_layer &l = here.job.layers[i];
        bool moe = l.is_moe, guessed = moe && l.guess;
        uint32_t used = moe ? here.job.used : 1, ff = l.gate.n_rows, parity = l.n_routed & 1,
                 each = moe ? (uint32_t)OWN : here.job.dense_rows, begin = share_begin(used * (ff / 8)),
                 n_gate = share_end(used * (ff / 8)) - begin;
        describe_fetch(here.fetch[0], &l.gate, &l.up, lane);
        describe_fetch(here.fetch[1], &l.down, &l.down, lane);
        if (l.is_attention) { /* it works in the ring's memory */
            slot_wait(&here.attended, n_attended++ & 1);
        }
        if (guessed) {
            const float *bias = l.bias;
            fetch_bias(here.guess, bias, lane);
            float ratio = here.job.ratios[i] > 0 ? here.job.ratios[i] : 1.0f; /* 0: never yet */
            block_sync<GUESSABLE, 9 * 32>();
            choose(here.guess, bias, here.operator_norm * ratio, lane);
            if (lane == 0) {
                slot_arrive(&here.guessed);
            }
            fetch_tiles(ff, begin, 0, 0, n_gate, here.guess.ids, lane);
        }
        if (moe) {
            slot_wait(&here.judged, parity);
        }
        if (!guessed || here.wrong) {
            fetch_tiles(ff, begin, 0, 0, n_gate, moe ? here.choice.ids : NULL, lane);
        }
        fetch_tiles(0, blockIdx.x * OWN, blockIdx.x * OWN + OWN, each, used * ((OWN + each - 1) / each),
                    moe ? here.choice.ids : NULL, lane);
    }
    describe_fetch(here.fetch[1], &here.job.output, &here.job.output, lane);
    uint32_t begin = share_begin(here.job.output.n_rows), end = share_end(here.job.output.n_rows),
             each = here.job.head_rows;
    fetch_tiles(0, begin, end, each, (end - begin + each - 1) / each, NULL, lane);
}

/* ---- Warp 19: the choice of experts */

__device__ __noinline__ static void choose_all(uint32_t lane) {
    uint32_t n_guessed = 0;
#pragma unroll 1
    for (uint32_t i = 0; i < here.job.n_layer; i++) {
        const cuda_token_layer &l = here.job.layers[i];
        if (!l.is_moe) {
            continue;
        }
        const float *bias = l.bias;
        bool guessed = l.guess;
        fetch_bias(here.choice, bias, lane);
        float before = here.job.ratios[i];
        block_sync<ROUTABLE, 9 * 32>();
        float norm = here.norm;
        choose(here.choice, bias, norm, lane);
        bool wrong = false;
        if (guessed) {
            slot_wait(&here.guessed, n_guessed++ & 1);
            wrong = lane < here.job.used && here.guess.ids[lane] != here.choice.ids[lane];
        }
        wrong = __any_sync(FULL, wrong);
        if (lane == 0) {
            here.wrong = wrong;
            slot_arrive(&here.judged);
            float ratio = norm / here.operator_norm;
            if (guessed && blockIdx.x == 0 && ratio != before) {
                here.job.ratios[i] = ratio;
            }
        }
        __syncwarp();
    }
}

/* ---- Warp 18: what a layer needs beside matrices */

__device__ __forceinline__ void prepare_conv(prepared &p, const cuda_conv &v, uint32_t lane) {
    uint32_t own = blockIdx.x * OWN;
    const float *from = here.row.resume_page != CUDA_NONE ? v.snapshots + here.row.resume_page * v.page_stride
                                                          : v.state + here.row.slot * v.slot_stride;
#pragma unroll
    for (uint32_t k = lane; k < OWN * 8; k += 32) {
        uint32_t c = k / 8, at = k % 4;
        float x = 0;
        if (k % 8 < TAPS) {
            x = v.taps[(size_t)(own + c) * TAPS + at];
        } else if (k % 8 >= 4 && at + 1 < TAPS && here.row.first_pos) {
            x = from[(size_t)at * D + own + c];
        }
        p.past[c][k % 8] = x;
    }
}

__device__ __forceinline__ void prepare_attention(prepared &p, uint32_t i, uint32_t lane) {
    const cuda_token_layer &l = p.layer;
    for (uint32_t k = lane; k < 64; k += 32) {
        p.head_gains[0][k] = l.q_norm[k];
        p.head_gains[1][k] = l.k_norm[k];
    }
    if (lane == 0) {
        token_attention &a = p.attention;
        a.qkv = exchange::qkv(i);
        a.out = exchange::mixed(i);
        a.arrived = exchange::arrived(i);
        a.part = here.job.part;
        a.keys = l.keys;
        a.values = l.values;
        a.page_stride = here.job.page_stride;
        a.pages = here.job.step.pages + here.row.first_page;
        a.q_gain = p.head_gains[0];
        a.k_gain = p.head_gains[1];
        a.cos_sin = here.cos_sin;
        a.pos = here.token.pos;
        a.window = here.job.window;
        a.n_head = here.job.n_head;
        a.n_head_kv = l.n_head_kv;
        a.eps = here.job.eps;
        a.scale = here.job.attn_scale;
        a.scratch = token_bytes + KNOWN * here.job.known_slot; /* the ring's memory, empty meanwhile */
    }
    __syncwarp();
    prefetch_attention(p.attention, lane);
}

/* Lane k: phase k of layer i; layer n_layer has one phase, the head. */
__device__ __forceinline__ void prepare_plans(prepared &p, uint32_t i, uint32_t lane) {
    const cuda_token_layer &l = p.layer;
    uint32_t own = blockIdx.x * OWN;
    phase_plan r = {exchange::x(i),
                    l.attn_norm,
                    exchange::mixed(i) + own,
                    NULL,
                    NULL,
                    BLOCKS,
                    3,
                    0,
                    BLOCKS,
                    0,
                    8,
                    OWN,
                    BLOCKS,
                    0,
                    0,
                    0};
    if (i == here.job.n_layer) {
        uint32_t rows = here.job.head_rows, begin = share_begin(here.job.output.n_rows),
                 n = share_end(here.job.output.n_rows) - begin;
        r.gain = here.job.output_norm;
        r.out = here.job.logits + begin;
        r.n_items = (n + rows - 1) / rows;
        r.known = CUDA_NONE;
        r.rows = rows;
    } else if (lane == MIX) {
        r.x = exchange::mixed(i);
        r.gain = NULL;
        r.out = exchange::h(i) + own;
        r.n_items = 1;
        r.known = 3;
    } else if (lane == GATE_UP) {
        uint32_t all = (l.is_moe ? here.job.used : 1) * (l.gate.n_rows / 8), begin = share_begin(all);
        r.x = exchange::h(i);
        r.gain = l.ffn_norm;
        r.out = exchange::hidden(i) + begin * 8;
        r.n_items = share_end(all) - begin;
        r.known = CUDA_NONE;
        r.routed = l.is_moe;
    } else if (lane == DOWN) {
        r.x = exchange::hidden(i);
        r.gain = NULL;
        r.out = exchange::x(i + 1) + own;
        r.per = l.down.n_cols / 256;
        r.n_blocks = (l.is_moe ? here.job.used : 1) * r.per;
        r.n_items = l.is_moe ? here.job.used : (OWN + here.job.dense_rows - 1) / here.job.dense_rows;
        r.known = CUDA_NONE;
        r.step = l.is_moe ? r.per : 0;
        r.turns = 0;
        r.rows = l.is_moe ? 0 : here.job.dense_rows;
        r.stride = DOWN_ROW;
        r.columns = l.is_moe ? BLOCKS : 0;
    }
    if (i < here.job.n_layer && lane == OPERATOR) {
        r.halves = l.first[0].type == CUDA_Q4_K && l.first[1].type == CUDA_Q4_K && l.first[2].type == CUDA_Q4_K ? 3 : 0;
        r.parts = l.is_moe && l.guess ? exchange::guess(i) + blockIdx.x * PART_ROW : NULL;
    } else if (lane == MIX) {
        r.halves = l.out.type == CUDA_Q4_K ? 1 : 0;
        r.parts = l.is_moe ? exchange::parts(i) + blockIdx.x * PART_ROW : NULL;
        r.sums = l.is_moe && l.guess ? exchange::guess(i) : NULL;
    } else if (lane == GATE_UP) {
        r.sums = l.is_moe ? exchange::parts(i) : NULL;
    }
    if (lane < PHASES) {
        p.plans[lane] = r;
    }
}

__device__ __noinline__ static void prepare_layers(uint32_t lane) {
    uint32_t own = blockIdx.x * OWN;
#pragma unroll 1
    for (uint32_t i = 0; i <= here.job.n_layer; i++) {
        prepared &p = here.layers[i & 1];
        const cuda_token_layer &l = p.layer;
        uint4 part = make_uint4(0, 0, 0, 0);
        static_assert(sizeof(cuda_token_layer) % 16 == 0 && sizeof(cuda_token_layer) <= 512,
                      "a warp copies it at once");
        bool more = i < here.job.n_layer;
        if (more && lane < sizeof l / 16) {
            part = ((const uint4 *)(here.job.layers + i))[lane];
        }
        slot_wait(&here.prepared_empty[i & 1], (i >> 1 & 1) ^ 1);
        if (lane < sizeof l / 16) {
            ((uint4 *)&p.layer)[lane] = part;
        }
        __syncwarp();
        prepare_plans(p, i, lane);
        if (more) {
#pragma unroll 1
            for (uint32_t at = lane * 32; at < D; at += 1024) { /* to L2 */
                asm volatile("prefetch.global.L2 [%0];" ::"l"(l.attn_norm + at));
                asm volatile("prefetch.global.L2 [%0];" ::"l"(l.ffn_norm + at));
            }
            if (lane < OWN) {
                p.gain[lane] = l.ffn_norm[own + lane];
            }
            if (l.is_attention) {
                prepare_attention(p, i, lane);
            } else {
                prepare_conv(p, l.conv, lane);
            }
#pragma unroll 4
            for (uint32_t k = lane; l.is_moe && k < here.job.n_expert * 4; k += 32) {
                uint32_t to = k / 4 * ROUTER_ROW + k % 4 * 4;
                size_t from = (size_t)(k / 4) * D + own + k % 4 * 4;
                *(float4 *)(router_at(i) + to) = *(const float4 *)(l.router + from);
                if (l.guess) {
                    *(float4 *)(guess_at(i) + to) = *(const float4 *)(l.guess + from);
                }
            }
        }
        __syncwarp();
        if (lane == 0) {
            slot_arrive(&here.prepared_full[i & 1]);
        }
    }
}

/* ---- Warp 19: the exchange of the token after this one */
__device__ __forceinline__ void clear_next(uint4 *to, size_t n, uint32_t lane) {
    for (size_t k = (size_t)blockIdx.x * 32 + lane; k < n; k += (size_t)gridDim.x * 32) {
        to[k] = make_uint4(EMPTY, EMPTY, EMPTY, EMPTY);
    }
}
#endif

#endif
