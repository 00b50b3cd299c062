#include "engine/sampler.h"

#include "base/half.h"
#include "base/mem.h"
#include "base/status.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define BLOCK     64    /* logits per block maximum: 1024 maxima for a vocabulary of 65,536 stay in L1 */
#define TAIL_CUT  32.0f /* e^-32 times the largest vocabulary is under 1e-7 of the likeliest */
#define BINS      256
#define CUT_SLACK 0.001f /* logf of min_p may differ between C libraries; the weight itself decides */

struct candidate {
    float z; /* (logit - maximum) / temperature */
    float w; /* what a cut counts: exp(z), or 1 */
    int32_t id;
};

struct sampler {
    uint32_t n_vocab, n_blocks;
    float *row;  /* [n_vocab] edited copy */
    float *bmax; /* [n_blocks] maximum of each block of the row in use */
    float *kth;  /* [n_blocks] work of kth_largest */
    uint8_t *dirty;
    float *z, *w; /* [n_blocks * BLOCK, the last few unused] candidates in ascending id order */
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
        s->id = mem_calloc(n_vocab, sizeof *s->id);
        s->order = mem_calloc(n_vocab, sizeof *s->order);
    }
    if (!s || !s->row || !s->bmax || !s->kth || !s->dirty || !s->z || !s->w || !s->id || !s->order) {
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
        mem_free(s->id);
        mem_free(s->order);
        mem_free(s);
    }
}

uint64_t sampler_bytes(const struct sampler *s) {
    return (uint64_t)s->n_vocab * (4 * sizeof(float) + sizeof(struct candidate)) +
           (uint64_t)s->n_blocks * (2 * sizeof(float) + 1);
}

double sampler_uniform(uint64_t seed, uint64_t position) {
    uint64_t h = seed;
    for (int round = 0; round < 2; round++) { /* the finaliser of splitmix64, once per key */
        h += round == 0 ? 0x9E3779B97F4A7C15u : position * 0xD1342543DE82EF95u + 0x9E3779B97F4A7C15u;
        h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9u;
        h = (h ^ h >> 27) * 0x94D049BB133111EBu;
        h ^= h >> 31;
    }
    return (double)(h >> 11) * 0x1p-53;
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

/* w = exp(z) for n values; both arrays have room for n rounded up to 4. */
static void exp_all(const float *z, float *w, size_t n) {
    for (size_t i = 0; i < n; i += 4) {
        float4 v;
        memcpy(&v, z + i, sizeof v);
        v = exp_neg(v);
        memcpy(w + i, &v, sizeof v);
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
        edit(s, rules->edits[i].token, s->row[rules->edits[i].token] + rules->edits[i].bias);
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

/* Equal steps of z from 0 to -TAIL_CUT; everything below is in the last bin. */
static inline uint32_t bin_of(float z) {
    float bin = z * -((float)BINS / TAIL_CUT);
    return bin < BINS - 1 ? (uint32_t)(int32_t)bin : BINS - 1;
}

static inline bool before(const struct candidate *a, const struct candidate *b) {
    return a->z > b->z || (a->z == b->z && a->id < b->id);
}

static inline void swap(struct candidate *a, struct candidate *b) {
    struct candidate t = *a;
    *a = *b;
    *b = t;
}

/* In the order greatest first (ties: lower id first), the candidate with which the sum of w reaches target: a
 * quickselect that adds up the part it leaves behind. Reorders c. */
static struct candidate cut_at(struct candidate *c, size_t n, double target) {
    size_t lo = 0, hi = n;
    double sum = 0;
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
        double part = 0;
        for (size_t i = lo; i < hi - 1; i++) {
            if (before(&c[i], &c[hi - 1])) {
                part += (double)c[i].w;
                swap(&c[i], &c[at++]);
            }
        }
        swap(&c[at], &c[hi - 1]);
        if (at > lo && sum + part >= target) {
            hi = at;
        } else if (sum + part + (double)c[at].w >= target || at + 1 == hi) {
            return c[at];
        } else {
            sum += part + (double)c[at].w;
            lo = at + 1;
        }
    }
    return c[lo];
}

/* Narrows the search of cut_at to the candidates of one bin: copies to s->order those among which the sum reaches
 * target, and lowers target by what comes before them. Selecting among 65,536 candidates directly would take a
 * millisecond. */
static size_t crossing_bin(struct sampler *s, size_t n, bool unit, double *target) {
    double mass[2][BINS] = {{0}}; /* two, because adding to one bin twice in a row waits for the first addition */
    for (size_t i = 0; i < n; i++) {
        mass[i & 1][bin_of(s->z[i])] += unit ? 1.0 : (double)s->w[i];
    }
    uint32_t last = 0; /* the last bin that is not empty: the sum may end just below target */
    for (uint32_t b = 0; b < BINS; b++) {
        last = mass[0][b] + mass[1][b] > 0 ? b : last;
    }
    uint32_t bin = 0;
    for (; bin<last && * target> mass[0][bin] + mass[1][bin]; bin++) {
        *target -= mass[0][bin] + mass[1][bin];
    }
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        s->order[found] = (struct candidate){.z = s->z[i], .w = unit ? 1 : s->w[i], .id = s->id[i]};
        found += bin_of(s->z[i]) == bin;
    }
    return found;
}

/* Keeps the greatest candidates up to the one where the sum of weights (or, unit: their number) reaches target. */
static size_t cut(struct sampler *s, size_t n, bool unit, double target) {
    size_t found = crossing_bin(s, n, unit, &target);
    struct candidate last = cut_at(s->order, found, target);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        struct candidate c = {.z = s->z[i], .id = s->id[i]};
        s->z[kept] = c.z;
        s->w[kept] = s->w[i];
        s->id[kept] = c.id;
        kept += !before(&last, &c);
    }
    return kept;
}

/* Sum in a fixed order with four running sums, because one alone waits for every addition. */
static double sum_of(const float *w, size_t n) {
    double a[4] = {0};
    size_t i = 0;
    for (; i < (n & ~(size_t)3); i += 4) {
        for (int k = 0; k < 4; k++) {
            a[k] += (double)w[i + (size_t)k];
        }
    }
    for (; i < n; i++) {
        a[0] += (double)w[i];
    }
    return (a[0] + a[1]) + (a[2] + a[3]);
}

static int32_t pick(const struct sampler *s, size_t n, double uniform) {
    double target = uniform * sum_of(s->w, n);
    size_t i = 0;
    for (; i + BLOCK < n; i += BLOCK) { /* whole blocks first: 65,536 dependent additions would take 100 us */
        double block = sum_of(s->w + i, BLOCK);
        if (target < block) {
            break;
        }
        target -= block;
    }
    int32_t last = s->id[0];
    for (; i < n; i++) {
        if (s->w[i] > 0) {
            last = s->id[i];
            target -= (double)s->w[i];
            if (target < 0) {
                break;
            }
        }
    }
    return last;
}

static int32_t draw(struct sampler *s, const struct sample_rules *rules, const float *x, float max, double uniform) {
    const sluice_sampling *p = &rules->s;
    float reach = TAIL_CUT; /* how far below the maximum a candidate may lie, in units of the temperature */
    bool nucleus = p->top_p < 1;
    if (p->min_p > 0 && !nucleus) { /* top_p must see the mass that min_p drops later */
        float wanted = -logf(p->min_p) + CUT_SLACK;
        reach = wanted < reach ? wanted : reach;
    }
    float floor = max - reach * p->temperature;
    size_t k = p->top_k > 0 && (uint32_t)p->top_k < s->n_vocab ? (size_t)p->top_k : 0;
    if (k > 0 && k <= s->n_blocks) {
        float kth = kth_block_max(s, k);
        floor = kth > floor ? kth : floor;
    }
    size_t n = gather(s, x, floor, max, 1.0f / p->temperature);
    if (k > 0 && n > k) {
        n = cut(s, n, true, (double)k);
    }
    exp_all(s->z, s->w, n);
    if (nucleus && n > 1) {
        n = cut(s, n, false, fmax((double)p->top_p * sum_of(s->w, n), DBL_MIN));
    }
    if (p->min_p > 0) {
        size_t kept = 0;
        for (size_t i = 0; i < n; i++) {
            s->w[kept] = s->w[i];
            s->id[kept] = s->id[i];
            kept += s->w[i] >= p->min_p;
        }
        n = kept;
    }
    return pick(s, n, uniform);
}

/* log of the sum of exp over the raw row, above its maximum. */
static double log_sum(const struct sampler *s, const float *x, float max) {
    double sum = 0;
    for (size_t b = 0; b < s->n_blocks; b++) {
        float z[BLOCK] = {0}, w[BLOCK];
        size_t len = block_len(s, b);
        const float *v = x + b * BLOCK;
        for (size_t i = 0; i < len; i++) {
            z[i] = v[i] - max;
        }
        exp_all(z, w, len);
        sum += sum_of(w, len);
    }
    return log(sum);
}

static int by_z(const void *a, const void *b) {
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
        n = cut(s, n, true, (double)want);
    }
    for (size_t i = 0; i < n; i++) {
        s->order[i] = (struct candidate){.z = x[s->id[i]], .id = s->id[i]};
    }
    qsort(s->order, n, sizeof *s->order, by_z);
    out->n_top = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        out->top[i].token = s->order[i].id;
        out->top[i].logprob = (float)((double)s->order[i].z - base);
    }
}

sluice_status sampler_draw(struct sampler *s, const struct sample_rules *rules, const float *logits, uint64_t position,
                           struct sample *out, sluice_error *err) {
    bool edits = rules->n_seen > 0 || rules->n_edits > 0;
    const float *x = edits ? s->row : logits;
    float max = scan(s, logits, edits ? s->row : NULL);
    if (max == -INFINITY) {
        return fail(err, SLUICE_E_BACKEND, "the logits for position %llu are not finite", (unsigned long long)position);
    }
    if (edits) {
        max = apply_edits(s, rules);
        if (max == -INFINITY) {
            return fail(err, SLUICE_E_ARG, "logit_bias bans every token, so none can be generated");
        }
        if (!isfinite(max)) {
            return fail(err, SLUICE_E_BACKEND, "the logits for position %llu overflow under the penalties",
                        (unsigned long long)position);
        }
    }
    out->logprob = 0;
    out->n_top = 0;
    out->token = rules->greedy ? find_max(s, x, max) : draw(s, rules, x, max, sampler_uniform(rules->s.seed, position));
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
