/*
 * Two sets of hash chains over the history, one for n-grams of DRAFT_MATCH_LONG tokens and one for DRAFT_MATCH_MIN. A
 * chain links the ends of the n-grams of one bucket, latest first; before[e - 1] is the end that comes after e in it.
 *
 * An entry is `base` + position. A reset moves the base past every position handed out, which makes all entries stale
 * at once, heads and links alike; only when 32 bits are used up are the heads cleared. The first base lies a few
 * histories below that point, so that this rare path is walked soon after every start and not after years.
 */
#include "base/arena.h"
#include "base/mem.h"
#include "base/status.h"
#include "engine/draft.h"

#include <string.h>

#define LAPS_BEFORE_CLEAR 4u

struct chains {
    uint32_t gram;
    uint32_t *head;   /* [1 << bits] base + end of the latest n-gram in the bucket */
    uint32_t *before; /* [n_max] base + end of the one before; indexed by end - 1 */
};

struct draft_index {
    struct chains by_length[2]; /* long n-grams first */
    uint32_t n_max;             /* tokens it can remember */
    uint32_t n_seen;            /* ends 1..n_seen are in the chains */
    uint32_t base;              /* entries below are of earlier requests; >= 1, so that zeroed memory is stale */
    uint32_t bits;              /* of the bucket numbers */
    void *map;
    size_t map_bytes;
};

static size_t lay_out(struct draft_index *x, char *base) {
    size_t used = 0;
    for (int i = 0; i < 2; i++) {
        x->by_length[i].head = arena_take(base, &used, (size_t)1 << x->bits, sizeof(uint32_t));
        x->by_length[i].before = arena_take(base, &used, x->n_max, sizeof(uint32_t));
    }
    return used;
}

sluice_status draft_index_create(uint32_t n_tokens, struct draft_index **out, sluice_error *err) {
    *out = NULL;
    if (n_tokens == 0 || n_tokens > UINT32_MAX / (2 * LAPS_BEFORE_CLEAR)) {
        return fail(err, SLUICE_E_ARG, "a history of %u tokens was asked for; the range is 1 to %u", n_tokens,
                    UINT32_MAX / (2 * LAPS_BEFORE_CLEAR));
    }
    struct draft_index *x = mem_calloc(1, sizeof *x);
    if (!x) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for a drafting index");
    }
    x->n_max = n_tokens;
    x->bits = 8;
    while (((uint32_t)1 << x->bits) < n_tokens) { /* at most one n-gram per bucket on average */
        x->bits++;
    }
    x->by_length[0].gram = DRAFT_MATCH_LONG;
    x->by_length[1].gram = DRAFT_MATCH_MIN;
    x->base = UINT32_MAX - LAPS_BEFORE_CLEAR * n_tokens;
    x->map_bytes = lay_out(x, NULL);
    x->map = mem_map(x->map_bytes);
    if (!x->map) {
        sluice_status status = fail(err, SLUICE_E_NOMEM, "out of memory for a drafting index of %u tokens (%zu bytes)",
                                    n_tokens, x->map_bytes);
        mem_free(x);
        return status;
    }
    lay_out(x, x->map);
    *out = x;
    return SLUICE_OK;
}

void draft_index_free(struct draft_index *x) {
    if (x) {
        mem_unmap(x->map, x->map_bytes);
        mem_free(x);
    }
}

void draft_index_reset(struct draft_index *x) {
    x->base += x->n_seen + 1;
    x->n_seen = 0;
    if (x->base >= UINT32_MAX - x->n_max) { /* the next request's entries, or the base after it, would wrap around */
        for (int i = 0; i < 2; i++) {
            memset(x->by_length[i].head, 0, sizeof(uint32_t) << x->bits);
        }
        x->base = 1;
    }
}

/* The bucket of the `gram` tokens before end. */
static uint32_t bucket(const struct draft_index *x, const int32_t *end, uint32_t gram) {
    uint64_t h = 0;
    for (uint32_t i = 1; i <= gram; i++) {
        h = (h ^ (uint32_t)end[-(int)i]) * 0x9E3779B97F4A7C15u; /* 2^64 / golden ratio: spreads into the high bits */
        h ^= h >> 32;
    }
    return (uint32_t)(h * 0x9E3779B97F4A7C15u >> (64 - x->bits));
}

/* Takes in every n-gram that ends before the last token: the end itself must not be found. */
static void take_in(struct draft_index *x, const int32_t *tokens, uint32_t n) {
    uint32_t last = n - 1 < x->n_max ? n - 1 : x->n_max;
    for (uint32_t e = x->n_seen + 1; e <= last; e++) {
        for (int i = 0; i < 2; i++) {
            struct chains *c = &x->by_length[i];
            if (e >= c->gram) {
                uint32_t *head = &c->head[bucket(x, tokens + e, c->gram)];
                c->before[e - 1] = *head;
                *head = x->base + e;
            }
        }
    }
    x->n_seen = last > x->n_seen ? last : x->n_seen;
}

/* How many tokens before a equal those before b. */
static uint32_t same_before(const int32_t *tokens, uint32_t a, uint32_t b, uint32_t most) {
    uint32_t m = 0;
    while (m < most && tokens[a - 1 - m] == tokens[b - 1 - m]) {
        m++;
    }
    return m;
}

/* The end of the longest, then latest, occurrence of the history's end along one chain; its length in *match. */
static uint32_t longest(const struct draft_index *x, const struct chains *c, const int32_t *tokens, uint32_t n,
                        uint32_t *match) {
    uint32_t best = 0;
    *match = c->gram - 1; /* to be exceeded */
    uint32_t entry = c->head[bucket(x, tokens + n, c->gram)];
    for (uint32_t i = 0; i < DRAFT_CANDIDATES && entry > x->base && *match < DRAFT_MATCH_MAX; i++) {
        uint32_t e = entry - x->base;
        entry = c->before[e - 1];
        if (e >= n || e <= *match || tokens[e - 1 - *match] != tokens[n - 1 - *match]) {
            continue; /* too short to be better */
        }
        uint32_t m = same_before(tokens, e, n, e < DRAFT_MATCH_MAX ? e : DRAFT_MATCH_MAX);
        if (m > *match) {
            *match = m;
            best = e;
        }
    }
    return best;
}

uint32_t draft_index_find(struct draft_index *x, const int32_t *tokens, uint32_t n, uint32_t most, int32_t *out,
                          uint32_t *match) {
    *match = 0;
    if (n == 0 || most == 0) {
        return 0; /* what is new is taken in by the next call */
    }
    take_in(x, tokens, n);
    for (int i = 0; i < 2; i++) {
        uint32_t m, e = n > x->by_length[i].gram ? longest(x, &x->by_length[i], tokens, n, &m) : 0;
        if (e > 0) {
            *match = m;
            for (uint32_t k = 0; k < most; k++) {
                out[k] = e + k < n ? tokens[e + k] : out[k - (n - e)];
            }
            return most;
        }
    }
    return 0;
}
