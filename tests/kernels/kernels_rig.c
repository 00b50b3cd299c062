#include "kernels/kernels_rig.h"

#include "base/half.h"
#include "quant/quant.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define FENCE(p, bytes)   __asan_poison_memory_region(p, bytes)
#define UNFENCE(p, bytes) __asan_unpoison_memory_region(p, bytes)
#else
#define FENCE(p, bytes)   ((void)(p))
#define UNFENCE(p, bytes) ((void)(p))
#endif

const enum dtype types[N_TYPES] = {DTYPE_F32,  DTYPE_F16,  DTYPE_BF16, DTYPE_Q4_0,
                                   DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
const char *const isas[N_ISAS] = {"ref", "avx2", "avx512", "amx", "neon"};
static bool left_out[N_ISAS];

extern const struct kernels kernels_amx_emulated;

const struct kernels *isa_kernels(const char *name) {
    for (int i = 0; i < N_ISAS; i++) {
        if (left_out[i] && strcmp(isas[i], name) == 0) {
            return NULL;
        }
    }
    const struct kernels *k = kernels_by_name(name);
    bool emulated = !k && strcmp(name, "amx") == 0 && kernels_by_name("avx512") && kernels_amx_emulated.name;
    return emulated ? &kernels_amx_emulated : k;
}

bool isa_choose(int n, char *const *names) {
    for (int i = 1; i < N_ISAS; i++) {
        left_out[i] = n > 0;
    }
    for (int j = 0; j < n; j++) {
        bool known = false;
        for (int i = 0; i < N_ISAS; i++) {
            if (strcmp(isas[i], names[j]) == 0) {
                left_out[i] = false;
                known = true;
            }
        }
        if (!known) {
            return false;
        }
    }
    return true;
}

static uint64_t state = 0x9E3779B97F4A7C15u;

void rnd_seed(uint64_t seed) {
    state = seed;
}

uint32_t rnd(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

float gauss(void) {
    float s = -6;
    for (int i = 0; i < 12; i++) {
        s += (float)rnd() / 2147483648.0f;
    }
    return s;
}

/* ---- Memory between guards ---- */

enum { GUARD = 128 /* bytes before, which begin with the size, and after */, GUARD_BYTE = 0xA5 };

static size_t rounded(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

void *guarded(size_t n, size_t size) {
    size_t bytes = n * size;
    size_t whole = GUARD + rounded(bytes) + GUARD;
    uint8_t *p = aligned_alloc(64, whole);
    assert_non_null(p);
    memset(p, GUARD_BYTE, whole);
    memcpy(p, &bytes, sizeof bytes);
    memset(p + GUARD, 0, bytes);
    FENCE(p, GUARD);
    FENCE(p + GUARD + bytes, whole - GUARD - bytes);
    return p + GUARD;
}

void guarded_free(void *data) {
    if (!data) {
        return;
    }
    uint8_t *p = (uint8_t *)data - GUARD;
    size_t bytes;
    UNFENCE(p, GUARD);
    memcpy(&bytes, p, sizeof bytes);
    size_t whole = GUARD + rounded(bytes) + GUARD;
    UNFENCE(p, whole);
    for (size_t i = sizeof bytes; i < whole; i++) {
        if ((i < GUARD || i >= GUARD + bytes) && p[i] != GUARD_BYTE) {
            fail_msg("a byte %s %zu was written to, %zu from its begin", i < GUARD ? "before" : "behind", bytes,
                     i < GUARD ? GUARD - i : i - GUARD);
        }
    }
    free(p);
}

/* ---- Fixtures ---- */

struct acts new_acts(uint32_t n, uint32_t n_cols) {
    struct acts a = {.n_cols = n_cols, .f = guarded((size_t)n * n_cols, sizeof(float))};
    if (n_cols % QK == 0) {
        a.blocks = guarded((size_t)n * (n_cols / QK), sizeof(struct act_block));
    }
    return a;
}

void free_acts(struct acts *a) {
    guarded_free(a->f);
    guarded_free(a->blocks);
    guarded_free(a->packs);
}

/* d or dmin: mostly of a size that leaves every block its say, of any size now and then; finite unless wild. */
static uint16_t half_bits(bool wild) {
    uint32_t bits = rnd();
    uint32_t exponent = rnd() % 8 ? 8 + rnd() % 6 : rnd() % 31;
    if (wild && rnd() % 64 == 0) {
        exponent = 31;
        bits = rnd() % 2 ? bits & ~1023u : bits;
    }
    return (uint16_t)((bits & 0x83FF) | exponent << 10);
}

static void fill_block(enum dtype type, uint8_t *p, uint32_t bytes, enum fill fill) {
    const uint32_t halves = type == DTYPE_Q6_K ? 1 : 2;
    const uint32_t d = type == DTYPE_Q6_K ? 208 : 0;
    if (fill == FILL_GAUSS || fill == FILL_TINY) {
        return;
    }
    for (uint32_t i = 0; i < bytes; i++) {
        p[i] = (uint8_t)rnd();
    }
    for (uint32_t i = 0; i < halves; i++) {
        uint16_t h = half_bits(fill == FILL_SPECIAL);
        memcpy(p + d + 2 * i, &h, sizeof h);
    }
    if (fill != FILL_EXTREME && fill != FILL_LIMIT) {
        return;
    }
    if (type == DTYPE_Q6_K) {
        memset(p, rnd() & 1 ? 0xFF : 0x00, 192);
        memset(p + 192, rnd() & 1 ? 0x80 : 0x7F, 16);
    } else {
        memset(p + 4, 0xFF, 12);
        memset(p + 16, rnd() & 1 ? 0xFF : 0x00, bytes - 16);
    }
}

static float activation(enum fill fill, bool negative_block) {
    switch (fill) {
    case FILL_EXTREME:
        return rnd() & 1 ? 1e4f : -1e4f;
    case FILL_LIMIT:
        return negative_block ? -1e4f : 1e4f;
    case FILL_TINY:
        return 1e-36f * gauss();
    case FILL_SPECIAL: {
        static const float odd[] = {INFINITY, -INFINITY, NAN, 1e38f};
        uint32_t at = rnd() % 1500;
        return at < 4 ? odd[at] : gauss();
    }
    default:
        return gauss();
    }
}

struct fixture new_fixture(enum dtype type, uint32_t n_rows, uint32_t n_cols, uint32_t n, enum fill fill) {
    enum { DISTINCT = 37 }; /* rows: no row is like its neighbours, nor like the same lane of a strip nearby */
    const struct dtype_info *info = dtype_get(type);
    struct fixture f = {
        .type = type, .n_cols = n_cols, .n_rows = n_rows, .n = n, .row_bytes = dtype_row_bytes(info, n_cols)};
    const bool strips = strip_words(type) != 0;
    f.rows = guarded(n_rows, f.row_bytes);
    float *row = guarded(n_cols, sizeof(float));
    for (uint32_t r = 0; r < n_rows; r++) {
        uint8_t *to = f.rows + r * f.row_bytes;
        if (r >= DISTINCT) { /* making blocks of floats takes far longer than any product here */
            memcpy(to, to - DISTINCT * f.row_bytes, f.row_bytes);
            continue;
        }
        for (uint32_t c = 0; c < n_cols; c++) {
            row[c] = gauss() * 0.02f;
        }
        if (!strips || fill == FILL_GAUSS || fill == FILL_TINY) {
            quantize_row(type, row, to, n_cols);
        }
        for (uint32_t b = 0; strips && b < n_cols / QK; b++) {
            fill_block(type, to + (size_t)b * info->block_bytes, info->block_bytes, fill);
        }
    }
    guarded_free(row);
    f.w = f.rows;
    if (strips) {
        const size_t bytes = strip_bytes(type, n_cols);
        f.w = guarded(1, strips_bytes(type, n_rows, n_cols));
        for (uint32_t r = 0; r < n_rows; r += STRIP_ROWS) {
            uint32_t some = n_rows - r < STRIP_ROWS ? n_rows - r : STRIP_ROWS;
            strip_pack(type, f.rows + r * f.row_bytes, f.row_bytes, some, n_cols, f.w + r / STRIP_ROWS * bytes);
        }
    }
    f.x = new_acts(n, n_cols);
    bool negative = false;
    bool empty = false;
    for (size_t i = 0; i < (size_t)n * n_cols; i++) {
        if (i % QK == 0) {
            negative = rnd() & 1;
            empty = fill == FILL_SPECIAL && rnd() % 8 == 0;
        }
        f.x.f[i] = empty ? 0 : activation(fill, negative);
    }
    f.scratch = guarded(kernels_scratch_bytes(n_cols), 1);
    return f;
}

void free_fixture(struct fixture *f) {
    if (f->w != f->rows) {
        guarded_free(f->w);
    }
    guarded_free(f->rows);
    guarded_free(f->scratch);
    free_acts(&f->x);
}

void prepare(const struct kernels *k, struct fixture *f) {
    memset(f->scratch, 0xFF, kernels_scratch_bytes(f->n_cols));
    guarded_free(f->x.packs);
    f->x.packs = NULL;
    if (!f->x.blocks) {
        return;
    }
    memset(f->x.blocks, 0xFF, (size_t)f->n * (f->n_cols / QK) * sizeof(struct act_block));
    for (uint32_t i = 0; i < f->n; i++) {
        k->quantize(&f->x, i);
    }
    if (k->pack) {
        size_t bytes = kernels_pack_bytes(f->n_cols);
        f->x.packs = guarded((f->n + KERNELS_PACK - 1) / KERNELS_PACK, bytes);
        for (uint32_t i = 0; i < f->n; i += KERNELS_PACK) {
            k->pack(&f->x, NULL, i, f->n - i < KERNELS_PACK ? f->n - i : KERNELS_PACK,
                    f->x.packs + i / KERNELS_PACK * bytes);
        }
    }
}

struct mm whole_job(const struct fixture *f, float *y, size_t y_stride) {
    return (struct mm){.w = f->w,
                       .row_bytes = f->row_bytes,
                       .type = f->type,
                       .n_cols = f->n_cols,
                       .x = &f->x,
                       .packs = f->x.packs,
                       .n = f->n,
                       .y = y,
                       .y_stride = y_stride};
}

/* ---- The arithmetic ---- */

float model_quantize(const float f[QK], int16_t a[QK]) {
    float top = 0;
    for (int c = 0; c < QK; c++) {
        top = fabsf(f[c]) > top ? fabsf(f[c]) : top; /* NaN is not seen */
    }
    float inverse = top > 1e-30f ? 2047 / top : 0;
    for (int c = 0; c < QK; c++) {
        float v = f[c] * inverse;
        v = v > -2047 ? v : -2047; /* NaN becomes the least */
        v = v < 2047 ? v : 2047;
        a[c] = (int16_t)nearbyintf(v);
    }
    if (isinf(top)) {
        return INFINITY;
    }
    return top > 1e-30f ? top * (1.0f / 2047) : 0;
}

struct model_token model_token_new(const struct fixture *f, uint32_t token) {
    struct model_token t = {.f = f->x.f + (size_t)token * f->n_cols};
    t.a = guarded(f->n_cols, sizeof *t.a);
    t.scale = guarded(f->n_cols / QK + 1, sizeof *t.scale);
    for (uint32_t b = 0; b < f->n_cols / QK; b++) {
        t.scale[b] = model_quantize(t.f + (size_t)b * QK, t.a + (size_t)b * QK);
    }
    return t;
}

void model_token_free(struct model_token *t) {
    guarded_free(t->a);
    guarded_free(t->scale);
}

/* A block with its d and dmin replaced, as floats: with 1 and 0 scale * quant is left, with 0 and 1 minus the
 * minima. */
static void block_with(enum dtype type, const uint8_t *block, float d, float dmin, float out[QK]) {
    uint8_t copy[sizeof(struct block_q6_k)];
    const uint16_t halves[2] = {f32_to_f16(d), f32_to_f16(dmin)};
    memcpy(copy, block, dtype_get(type)->block_bytes);
    memcpy(copy + (type == DTYPE_Q6_K ? 208 : 0), halves, type == DTYPE_Q6_K ? 2 : 4);
    dequantize_row(type, copy, out, QK);
}

static float half_of(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return f16_to_f32(h);
}

struct model_row model_row_new(const struct fixture *f, uint32_t row) {
    const uint32_t n_blocks = f->n_cols / QK;
    const uint8_t *p = f->rows + row * f->row_bytes;
    const bool minima = f->type == DTYPE_Q4_K || f->type == DTYPE_Q5_K;
    struct model_row r = {.type = f->type, .n_cols = f->n_cols, .w = guarded(f->n_cols, sizeof *r.w)};
    dequantize_row(f->type, p, r.w, f->n_cols);
    if (!strip_words(f->type)) {
        return r;
    }
    r.q = guarded(f->n_cols, sizeof *r.q);
    r.m = guarded(f->n_cols / 32, sizeof *r.m);
    r.d = guarded(n_blocks, sizeof *r.d);
    r.dmin = guarded(n_blocks, sizeof *r.dmin);
    for (uint32_t b = 0; b < n_blocks; b++, p += dtype_get(f->type)->block_bytes) {
        float v[QK];
        block_with(f->type, p, 1, 0, v);
        for (int c = 0; c < QK; c++) {
            r.q[(size_t)b * QK + c] = (int16_t)v[c];
        }
        r.d[b] = half_of(p + (f->type == DTYPE_Q6_K ? 208 : 0));
        if (minima) {
            r.dmin[b] = half_of(p + 2);
            block_with(f->type, p, 0, 1, v);
            for (int s = 0; s < QK / 32; s++) {
                r.m[b * (QK / 32) + s] = (int16_t)-v[32 * s];
            }
        }
    }
    return r;
}

void model_row_free(struct model_row *r) {
    guarded_free(r->w);
    guarded_free(r->q);
    guarded_free(r->m);
    guarded_free(r->d);
    guarded_free(r->dmin);
}

static float strip_product(const struct model_row *r, const struct model_token *t) {
    float acc = 0;
    for (uint32_t b = 0; b < r->n_cols / QK; b++) {
        int64_t sum = 0;
        int64_t minima = 0;
        for (uint32_t c = b * QK; c < (b + 1) * QK; c++) {
            sum += r->q[c] * t->a[c];
            minima += r->m[c / 32] * t->a[c];
        }
        assert_true(sum == (int32_t)sum && minima == (int32_t)minima);
        float d = r->d[b] * t->scale[b];
        acc = fmaf((float)sum, d, acc);
        if (r->type != DTYPE_Q6_K) {
            float dmin = r->dmin[b] * t->scale[b];
            acc = fmaf(-(float)minima, dmin, acc);
        }
    }
    return acc;
}

float model_product(const struct model_row *r, const struct model_token *t) {
    if (r->q) {
        return strip_product(r, t);
    }
    float lanes[16] = {0};
    for (uint32_t c = 0; c < r->n_cols; c++) {
        lanes[c % 16] = fmaf(r->w[c], t->f[c], lanes[c % 16]);
    }
    for (int half = 8; half; half /= 2) {
        for (int i = 0; i < half; i++) {
            lanes[i] += lanes[i + half];
        }
    }
    return lanes[0];
}

bool model_equal(float a, float b) {
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}
