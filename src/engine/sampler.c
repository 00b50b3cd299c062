#include "engine/sampler.h"

#include "base/half.h"
#include "base/mem.h"
#include "base/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define BLOCK 64 /* logits per block maximum: 1024 maxima for a vocabulary of 65,536 stay in L1 */
#define BINS  256

struct candidate {
    float x;         /* logit */
    uint64_t weight; /* what a cut counts: its weight, or 1 */
    int32_t id;
};

struct sampler {
    uint32_t n_vocab, n_blocks;
    float *row;  /* [n_vocab] edited copy */
    float *bmax; /* [n_blocks] maximum of each block of the row in use */
    float *kth;  /* [n_blocks] work of kth_largest */
    uint8_t *dirty;
    /* [n_blocks * BLOCK, the last few unused] candidates in ascending id order */
    float *z, *w;     /* (logit - maximum) / temperature; exp(z) */
    uint64_t *weight; /* exp(z) in multiples of 2^-SAMPLE_ONE_BITS */
    int32_t *id;
    struct candidate *order; /* [n_vocab] work of cut_at */
};

sluice_status sampler_create(uint32_t n_vocab, struct sampler **out, sluice_error *err) {
    struct sampler *s = mem_calloc(1, sizeof *s);
    if (s) {
        s->n_vocab = n_vocab;
        s->n_blocks = (n_vocab + BLOCK - 1) / BLOCK;
        s->row = mem_calloc(n_vocab, sizeof *s->row);
        s->bmax = mem_calloc(s->n_blocks, sizeof *s->bmax);
        s->kth = mem_calloc(s->n_blocks, sizeof *s->kth);
        s->dirty = mem_calloc(s->n_blocks, 1);
        s->z = mem_calloc(s->n_blocks * (size_t)BLOCK, sizeof *s->z);
        s->w = mem_calloc(s->n_blocks * (size_t)BLOCK, sizeof *s->w);
        s->weight = mem_calloc(s->n_blocks * (size_t)BLOCK, sizeof *s->weight);
        s->id = mem_calloc(n_vocab, sizeof *s->id);
        s->order = mem_calloc(n_vocab, sizeof *s->order);
    }
    if (!s || !s->row || !s->bmax || !s->kth || !s->dirty || !s->z || !s->w || !s->weight || !s->id || !s->order) {
        sampler_free(s);
        return fail(err, SLUICE_E_NOMEM, "out of memory for the sampler");
    }
    *out = s;
    return SLUICE_OK;
}

void sampler_free(struct sampler *s) {
    if (s) {
        mem_free(s->row);
        mem_free(s->bmax);
        mem_free(s->kth);
        mem_free(s->dirty);
        mem_free(s->z);
        mem_free(s->w);
        mem_free(s->weight);
        mem_free(s->id);
        mem_free(s->order);
        mem_free(s);
    }
}

uint64_t sampler_bytes(const struct sampler *s) {
    return (uint64_t)s->n_vocab * (4 * sizeof(float) + sizeof(uint64_t) + sizeof(struct candidate)) +
           (uint64_t)s->n_blocks * (2 * sizeof(float) + 1);
}

double sampler_uniform(uint64_t seed, uint64_t position) {
    return (double)(sample_random(seed, position) >> 11) * 0x1p-53;
}

typedef float float4 __attribute__((vector_size(16)));
typedef uint32_t bits4 __attribute__((vector_size(16)));

/* exp for x <= 0 from float additions and multiplications alone, so that every machine gives the same bits; of 0 it is
 * 1. Error below 2 units in the last place; 0 below -87. */
static inline float4 exp_neg(float4 x) {
    float4 n = x * 1.44269504f + 12582912.0f; /* adding 1.5 * 2^23 rounds to an integer, kept in the low bits */
    bits4 scale = ((bits4)n - 0x4B400000u + 127) << 23;
    n -= 12582912.0f;
    float4 r = (x - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts */
    float4 p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    float4 y = ((p * (r * r) + r) + 1.0f) * (float4)scale;
    return (float4)((bits4)y & (bits4)(x >= -87.0f));
}

/* Adding 2^52 rounds to a whole number, kept in the low bits. */
#define WHOLE_BITS ((1ull << 52) - 1)

/* w = exp(z) for n values, and their weights; the arrays have room for n rounded up to 4. */
static void weigh(const float *z, float *w, uint64_t *weight, size_t n) {
    const double one = (double)(1ull << SAMPLE_ONE_BITS);
    for (size_t i = 0; i < n; i += 4) {
        float4 v;
        memcpy(&v, z + i, sizeof v);
        v = exp_neg(v);
        memcpy(w + i, &v, sizeof v);
#ifdef __SSE2__
        const __m128 x = (__m128)v;
        const __m128d halves[2] = {_mm_cvtps_pd(x), _mm_cvtps_pd(_mm_movehl_ps(x, x))};
        for (size_t k = 0; k < 2; k++) {
            __m128d whole = _mm_add_pd(_mm_mul_pd(halves[k], _mm_set1_pd(one)), _mm_set1_pd(0x1p52));
            __m128i bits = _mm_and_si128(_mm_castpd_si128(whole), _mm_set1_epi64x((long long)WHOLE_BITS));
            _mm_storeu_si128((__m128i *)(void *)(weight + i + 2 * k), bits);
        }
#else
        for (size_t k = 0; k < 4; k++) {
            double whole = (double)v[k] * one + 0x1p52;
            memcpy(weight + i + k, &whole, sizeof whole);
            weight[i + k] &= WHOLE_BITS;
        }
#endif
    }
}

/* Maximum of x[0..n); *sum0 becomes NaN if any of them is NaN or infinite. copy: NULL or where x is copied to. */
static float block_max(const float *x, size_t n, float *copy, float *sum0) {
    float max = -INFINITY;
    float zero = *sum0;
    size_t i = 0;
#ifdef __SSE2__
    if (n == BLOCK) {
        __m128 m[4], bad = _mm_setzero_ps();
        for (int k = 0; k < 4; k++) {
            m[k] = _mm_set1_ps(-INFINITY);
        }
        for (; i < BLOCK; i += 16) {
            for (int k = 0; k < 4; k++) {
                __m128 v = _mm_loadu_ps(x + i + 4 * k);
                m[k] = _mm_max_ps(m[k], v);
                bad = _mm_add_ps(bad, _mm_mul_ps(v, _mm_setzero_ps()));
                if (copy) {
                    _mm_storeu_ps(copy + i + 4 * k, v);
                }
            }
        }
        float lanes[4], bads[4];
        _mm_storeu_ps(lanes, _mm_max_ps(_mm_max_ps(m[0], m[1]), _mm_max_ps(m[2], m[3])));
        _mm_storeu_ps(bads, bad);
        for (int k = 0; k < 4; k++) {
            max = lanes[k] > max ? lanes[k] : max;
            zero += bads[k];
        }
    }
#endif
    for (; i < n; i++) {
        max = x[i] > max ? x[i] : max;
        zero += x[i] * 0.0f;
        if (copy) {
            copy[i] = x[i];
        }
    }
    *sum0 = zero;
    return max;
}

static inline size_t block_len(const struct sampler *s, size_t block) {
    size_t left = s->n_vocab - block * BLOCK;
    return left < BLOCK ? left : BLOCK;
}

/* Fills bmax and gives the maximum of the row; -INFINITY if the row holds a value that is not finite. */
static float scan(struct sampler *s, const float *x, float *copy) {
    float max = -INFINITY, sum0 = 0;
    for (size_t b = 0; b < s->n_blocks; b++) {
        s->bmax[b] = block_max(x + b * BLOCK, block_len(s, b), copy ? copy + b * BLOCK : NULL, &sum0);
        max = s->bmax[b] > max ? s->bmax[b] : max;
    }
    return sum0 == 0 ? max : -INFINITY;
}

/* Writes one edited logit and keeps the block maximum right, or marks the block for a second look. */
static inline void edit(struct sampler *s, int32_t id, float v) {
    size_t b = (size_t)id / BLOCK;
    float old = s->row[id];
    s->row[id] = v;
    if (v >= s->bmax[b]) {
        s->bmax[b] = v;
    } else if (old == s->bmax[b]) {
        s->dirty[b] = 1;
    }
}

/* Penalties, biases and bans on the copied row; returns its new maximum. */
static float apply_edits(struct sampler *s, const struct sample_rules *rules) {
    float repetition = rules->s.repetition_penalty, presence = rules->s.presence_penalty;
    float frequency = rules->s.frequency_penalty;
    memset(s->dirty, 0, s->n_blocks);
    for (uint32_t i = 0; i < rules->n_seen; i++) {
        struct seen_token t = rules->seen[i];
        float v = s->row[t.token];
        v = v > 0 ? v / repetition : v * repetition;
        if (t.n_output > 0) {
            v -= presence + frequency * (float)t.n_output;
        }
        edit(s, t.token, v);
    }
    for (size_t i = 0; i < rules->n_edits; i++) {
        float v = s->row[rules->edits[i].token] + rules->edits[i].bias;
        edit(s, rules->edits[i].token, isnan(v) ? -INFINITY : v); /* infinity that is banned */
    }
    float max = -INFINITY, ignored = 0;
    for (size_t b = 0; b < s->n_blocks; b++) {
        if (s->dirty[b]) {
            s->bmax[b] = block_max(s->row + b * BLOCK, block_len(s, b), NULL, &ignored);
        }
        max = s->bmax[b] > max ? s->bmax[b] : max;
    }
    return max;
}

/* The lowest id whose logit is max. */
static int32_t find_max(const struct sampler *s, const float *x, float max) {
    for (size_t b = 0; b < s->n_blocks; b++) {
        if (s->bmax[b] == max) {
            size_t i = b * BLOCK;
            while (x[i] != max) {
                i++;
            }
            return (int32_t)i;
        }
    }
    return 0;
}

/* The k-th largest block maximum (1 <= k <= n_blocks): at least k logits reach it, so nothing below is in the top k. */
static float kth_block_max(struct sampler *s, size_t k) {
    float *v = s->kth;
    memcpy(v, s->bmax, s->n_blocks * sizeof *v);
    size_t lo = 0, hi = s->n_blocks, want = k - 1; /* descending order */
    while (hi - lo > 1) {
        float pivot = v[lo + (hi - 1 - lo) / 2]; /* never the last, so both parts shrink */
        size_t i = lo, j = hi - 1;
        while (true) {
            while (v[i] > pivot) {
                i++;
            }
            while (v[j] < pivot) {
                j--;
            }
            if (i >= j) {
                break;
            }
            float t = v[i];
            v[i++] = v[j];
            v[j--] = t;
        }
        if (want <= j) {
            hi = j + 1;
        } else {
            lo = j + 1;
        }
    }
    return v[want];
}

/* All logits >= floor as candidates in id order: z and id. */
static size_t gather(struct sampler *s, const float *x, float floor, float max, float scale) {
    size_t n = 0;
    for (size_t b = 0; b < s->n_blocks; b++) {
        if (s->bmax[b] < floor) {
            continue;
        }
        size_t len = block_len(s, b);
        const float *v = x + b * BLOCK;
        for (size_t i = 0; i < len; i++) {
            s->z[n] = (v[i] - max) * scale;
            s->id[n] = (int32_t)(b * BLOCK + i);
            n += v[i] >= floor;
        }
    }
    return n;
}

/* Equal steps of z from 0 to -SAMPLE_REACH; everything below is in the last bin. */
static inline uint32_t bin_of(float z) {
    float bin = z * -((float)BINS / SAMPLE_REACH);
    return bin < BINS - 1 ? (uint32_t)(int32_t)bin : BINS - 1;
}

static inline bool before(const struct candidate *a, const struct candidate *b) {
    return a->x > b->x || (a->x == b->x && a->id < b->id);
}

static inline void swap(struct candidate *a, struct candidate *b) {
    struct candidate t = *a;
    *a = *b;
    *b = t;
}

/* In the order greatest first (ties: lower id first), the candidate with which the sum of weights reaches target: a
 * quickselect that adds up the part it leaves behind. Reorders c. */
static struct candidate cut_at(struct candidate *c, size_t n, uint64_t target) {
    size_t lo = 0, hi = n;
    uint64_t sum = 0;
    while (hi - lo > 1) {
        struct candidate *a = &c[lo], *m = &c[lo + (hi - lo) / 2], *z = &c[hi - 1];
        if (before(m, a)) {
            swap(m, a);
        }
        if (before(z, m)) {
            swap(z, m);
            if (before(m, a)) {
                swap(m, a);
            }
        }
        swap(m, z); /* the median of three is the pivot, parked at the end */
        size_t at = lo;
        uint64_t part = 0;
        for (size_t i = lo; i < hi - 1; i++) {
            if (before(&c[i], &c[hi - 1])) {
                part += c[i].weight;
                swap(&c[i], &c[at++]);
            }
        }
        swap(&c[at], &c[hi - 1]);
        if (at > lo && sum + part >= target) {
            hi = at;
        } else if (sum + part + c[at].weight >= target || at + 1 == hi) {
            return c[at];
        } else {
            sum += part + c[at].weight;
            lo = at + 1;
        }
    }
    return c[lo];
}

/* Narrows the search of cut_at to the candidates of one bin: copies to s->order those among which the sum reaches
 * target, and lowers target by what comes before them. Selecting among 65,536 candidates directly would take a
 * millisecond. */
static size_t crossing_bin(struct sampler *s, const float *x, size_t n, bool unit, uint64_t *target) {
    uint64_t mass[2][BINS] = {{0}}; /* two, because adding to one bin twice in a row waits for the first addition */
    for (size_t i = 0; i < n; i++) {
        mass[i & 1][bin_of(s->z[i])] += unit ? 1 : s->weight[i];
    }
    uint32_t bin = 0;
    for (; bin < BINS - 1 && *target > mass[0][bin] + mass[1][bin]; bin++) {
        *target -= mass[0][bin] + mass[1][bin];
    }
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        s->order[found] = (struct candidate){.x = x[s->id[i]], .weight = unit ? 1 : s->weight[i], .id = s->id[i]};
        found += bin_of(s->z[i]) == bin;
    }
    return found;
}

/* Keeps the greatest candidates up to the one where the sum of weights (or, unit: their number) reaches target, which
 * all of them together do. */
static size_t cut(struct sampler *s, const float *x, size_t n, bool unit, uint64_t target) {
    size_t found = crossing_bin(s, x, n, unit, &target);
    struct candidate last = cut_at(s->order, found, target);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        struct candidate c = {.x = x[s->id[i]], .id = s->id[i]};
        s->z[kept] = s->z[i];
        s->w[kept] = s->w[i];
        s->weight[kept] = s->weight[i];
        s->id[kept] = c.id;
        kept += !before(&last, &c);
    }
    return kept;
}

/* With four running sums: one alone waits for every addition. */
static uint64_t sum_of(const uint64_t *weight, size_t n) {
    typedef uint64_t words2 __attribute__((vector_size(16)));
    words2 a = {0, 0}, b = {0, 0};
    size_t i = 0;
    for (; i < n / 4 * 4; i += 4) {
        words2 x, y;
        memcpy(&x, weight + i, sizeof x);
        memcpy(&y, weight + i + 2, sizeof y);
        a += x;
        b += y;
    }
    uint64_t sum = a[0] + a[1] + b[0] + b[1];
    for (; i < n; i++) {
        sum += weight[i];
    }
    return sum;
}

/* Along ascending ids, the candidate in whose weight the share random / 2^64 of all of it lies. */
static int32_t pick(const struct sampler *s, size_t n, uint64_t random) {
    uint64_t target = (uint64_t)((unsigned __int128)random * sum_of(s->weight, n) >> 64);
    size_t i = 0;
    for (; i + BLOCK < n; i += BLOCK) { /* whole blocks first: so many dependent comparisons would take long */
        uint64_t block = sum_of(s->weight + i, BLOCK);
        if (target < block) {
            break;
        }
        target -= block;
    }
    while (i + 1 < n && target >= s->weight[i]) {
        target -= s->weight[i++];
    }
    return s->id[i];
}

static int32_t draw(struct sampler *s, const struct sample_rules *rules, const float *x, float max, uint64_t random) {
    const sluice_sampling *p = &rules->s;
    bool nucleus = p->top_p < 1;
    float floor = max - sample_reach(rules) * p->temperature;
    size_t k = p->top_k > 0 && (uint32_t)p->top_k < s->n_vocab ? (size_t)p->top_k : 0;
    if (k > 0 && k <= s->n_blocks) {
        float kth = kth_block_max(s, k);
        floor = kth > floor ? kth : floor;
    }
    size_t n = gather(s, x, floor, max, 1.0f / p->temperature);
    if (k > 0 && n > k) {
        n = cut(s, x, n, true, k);
    }
    weigh(s->z, s->w, s->weight, n);
    if (nucleus && n > 1) {
        n = cut(s, x, n, false, sample_nucleus(p->top_p, sum_of(s->weight, n)));
    }
    if (p->min_p > 0) {
        size_t kept = 0;
        for (size_t i = 0; i < n; i++) {
            s->weight[kept] = s->weight[i];
            s->id[kept] = s->id[i];
            kept += s->w[i] >= p->min_p;
        }
        n = kept;
    }
    return pick(s, n, random);
}

/* log of the sum of exp over the raw row, above its maximum. */
static double log_sum(const struct sampler *s, const float *x, float max) {
    uint64_t sum = 0;
    for (size_t b = 0; b < s->n_blocks; b++) {
        float z[BLOCK] = {0}, w[BLOCK];
        uint64_t weight[BLOCK];
        size_t len = block_len(s, b);
        const float *v = x + b * BLOCK;
        for (size_t i = 0; i < len; i++) {
            z[i] = v[i] - max;
        }
        weigh(z, w, weight, len);
        sum += sum_of(weight, len);
    }
    return sample_log(sum);
}

static int by_rank(const void *a, const void *b) {
    return before(a, b) ? -1 : 1;
}

static void fill_logprobs(struct sampler *s, const struct sample_rules *rules, const float *x, struct sample *out) {
    float max = scan(s, x, NULL);
    double base = (double)max + log_sum(s, x, max);
    out->logprob = (float)((double)x[out->token] - base);
    size_t want = rules->n_top < s->n_vocab ? rules->n_top : s->n_vocab;
    if (want == 0) {
        return;
    }
    size_t n = gather(s, x, want <= s->n_blocks ? kth_block_max(s, want) : -INFINITY, max, 1);
    if (n > want) {
        n = cut(s, x, n, true, want);
    }
    for (size_t i = 0; i < n; i++) {
        s->order[i] = (struct candidate){.x = x[s->id[i]], .id = s->id[i]};
    }
    qsort(s->order, n, sizeof *s->order, by_rank);
    out->n_top = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        out->top[i].token = s->order[i].id;
        out->top[i].logprob = (float)((double)s->order[i].x - base);
    }
}

sluice_status sampler_failed(int32_t failure, uint64_t position, sluice_error *err) {
    unsigned long long at = position;
    switch (failure) {
    case SAMPLE_BANNED:
        return fail(err, SLUICE_E_ARG, "logit_bias bans every token, so none can be generated");
    case SAMPLE_OVERFLOW:
        return fail(err, SLUICE_E_BACKEND, "the logits for position %llu overflow under the penalties", at);
    default:
        return fail(err, SLUICE_E_BACKEND, "the logits for position %llu are not finite", at);
    }
}

sluice_status sampler_draw(struct sampler *s, const struct sample_rules *rules, const float *logits, uint64_t position,
                           struct sample *out, sluice_error *err) {
    bool edits = rules->n_seen > 0 || rules->n_edits > 0;
    const float *x = edits ? s->row : logits;
    float max = scan(s, logits, edits ? s->row : NULL);
    int32_t failure = max == -INFINITY ? SAMPLE_NOT_FINITE : 0;
    if (failure == 0 && edits) {
        max = apply_edits(s, rules);
        failure = max == -INFINITY ? SAMPLE_BANNED : max == INFINITY ? SAMPLE_OVERFLOW : 0;
    }
    *out = (struct sample){.token = failure};
    if (failure != 0) {
        return sampler_failed(failure, position, err);
    }
    out->token = rules->greedy ? find_max(s, x, max) : draw(s, rules, x, max, sample_random(rules->s.seed, position));
    if (rules->want_logprob) {
        fill_logprobs(s, rules, logits, out);
    }
    return SLUICE_OK;
}

sluice_status sampler_given(struct sampler *s, const struct sample_rules *rules, const float *logits, int32_t token,
                            struct sample *out, sluice_error *err) {
    *out = (struct sample){.token = token};
    if (rules->want_logprob) {
        if (scan(s, logits, NULL) == -INFINITY) {
            return fail(err, SLUICE_E_BACKEND, "the logits before a given token are not finite");
        }
        fill_logprobs(s, rules, logits, out);
    }
    return SLUICE_OK;
}
