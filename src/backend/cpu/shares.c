#include "backend/cpu/shares.h"

#include <string.h>

enum {
    PACE = 8, /* a layer moves the parts by this fraction of what it suggests, */
    MOST = 4, /* which is at most a quarter more or less: a thread that was interrupted says nothing about its core */
    SMALLEST = 4, /* no part becomes less than this fraction of an equal one, or it could not be measured any more */
};

void shares_reset(struct shares *s, uint32_t n) {
    memset(s, 0, sizeof *s);
    for (uint32_t i = 0; i <= n; i++) {
        s->cut[0][i] = s->cut[1][i] = (uint32_t)((uint64_t)SHARES_WHOLE * i / n);
    }
}

void shares_begin(struct shares *s, uint32_t n_layers, uint32_t n) {
    const uint32_t *last = s->cut[n_layers & 1];
    memmove(s->cut[0], last, (n + 1) * sizeof last[0]);
}

void shares_learn(struct shares *s, uint32_t layer, uint32_t n) {
    const uint32_t *now = s->cut[layer & 1];
    uint32_t *next = s->cut[~layer & 1]; /* still those of the layer before */
    float speed[LIMIT_THREADS];
    float all = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t ns = s->busy[i].ns[~layer & 1];
        speed[i] = ns ? (float)(next[i + 1] - next[i]) / (float)ns : 0;
        all += speed[i];
        if (layer == 0 || ns == 0) { /* nothing measured: goes on as it is */
            memcpy(next, now, (n + 1) * sizeof now[0]);
            return;
        }
    }
    float total = 0;
    for (uint32_t i = 0; i < n; i++) {
        float part = (float)(now[i + 1] - now[i]);
        float due = SHARES_WHOLE * speed[i] / all;
        float least = part - part / MOST;
        float most = part + part / MOST;
        due = due < least ? least : due > most ? most : due;
        part += (due - part) / PACE;
        float smallest = (float)(SHARES_WHOLE / SMALLEST) / (float)n;
        speed[i] = part < smallest ? smallest : part;
        total += speed[i];
    }
    float end = 0;
    for (uint32_t i = 0; i + 1 < n; i++) {
        end += speed[i];
        next[i + 1] = (uint32_t)(SHARES_WHOLE * (end / total));
    }
}

struct span shares_rows(const uint32_t *cut, uint32_t n_rows, uint32_t unit, uint32_t i) {
    uint64_t units = (n_rows + unit - 1) / unit;
    uint64_t begin = (units * cut[i] + SHARES_WHOLE / 2) / SHARES_WHOLE * unit;
    uint64_t end = (units * cut[i + 1] + SHARES_WHOLE / 2) / SHARES_WHOLE * unit;
    return (struct span){begin < n_rows ? (uint32_t)begin : n_rows, end < n_rows ? (uint32_t)end : n_rows};
}
