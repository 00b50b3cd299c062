/* How long a row will take, from what the rows before it showed: decides which rows of a suite with an end fit, and says
 * of the others why they were left out. */
#include "bench/bench.h"

#include "base/clock.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define COUNTING_S    0.3 /* small requests around the cutting of a prompt */
#define LONGER        4   /* a prompt so many times as long as the one that showed the pace is computed faster: 1.6 */
#define LONGER_FASTER 1.5 /* times as fast on two cores, 31 against 602 tokens, and more on wider machines */

void bench_learn_pace(struct bench *b, const struct row *row) {
    bool raw = row->test == TEST_RAW, one = raw ? row->batch == 1 : row->cell.concurrency == 1;
    bool prompt = raw && strcmp(row->workload, "pp") == 0;
    const struct stats_summary *fill = &row->metric[raw ? METRIC_TOK_S : METRIC_PREFILL];
    const struct stats_summary *step = &row->metric[raw ? METRIC_TOK_S : METRIC_DECODE];
    if (one && (raw ? prompt : row->cell.cache == CACHE_COLD) && fill->n && fill->median > b->pace_prefill) {
        b->pace_prefill = fill->median;
        b->pace_prompt = row->metric[METRIC_PROMPT].median;
    }
    if (one && !prompt && step->n) {
        b->pace_decode = step->median;
    }
}

/* Seconds for n streams computed one after the other: a server that batches is done sooner. 0 where the pace is unknown. */
static double stream_s(const struct bench *b, uint32_t prompt, uint32_t answer, uint32_t n) {
    double prefill = b->pace_prefill * (prompt > LONGER * b->pace_prompt ? LONGER_FASTER : 1);
    return prefill > 0 && b->pace_decode > 0 ? n * (prompt / prefill + answer / b->pace_decode) : 0;
}

static double round_s(const struct bench *b, const struct cell *c, uint32_t answer) {
    return stream_s(b, c->prompt_tokens, answer, c->concurrency); /* a warm round is primed by the same prompt */
}

/* What a cell takes at least: its prompt, unless that is at hand, and one round. */
static double least_s(const struct bench *b, const struct cell *c, const struct cell *before) {
    bool at_hand = before && before->workload == c->workload && before->prompt_tokens == c->prompt_tokens;
    return (at_hand ? 0 : COUNTING_S + stream_s(b, c->prompt_tokens, 0, 1)) + round_s(b, c, c->max_tokens);
}

static void leave_out(struct bench *b, const char *key, const char *fmt, va_list args) {
    if (b->n_left == LEFT_OUT_MAX) {
        return;
    }
    struct left_out *l = &b->left[b->n_left++];
    snprintf(l->row, sizeof l->row, "%s", key);
    vsnprintf(l->reason, sizeof l->reason, fmt, args);
}

void bench_leave_out_key(struct bench *b, const char *key, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    leave_out(b, key, fmt, args);
    va_end(args);
}

void bench_leave_out(struct bench *b, const struct cell *c, const char *fmt, ...) {
    char key[64];
    va_list args;
    cell_key(c, b->options->natural_stop || !b->target.takes[FIELD_IGNORE_EOS], key, sizeof key);
    va_start(args, fmt);
    leave_out(b, key, fmt, args);
    va_end(args);
}

/* A warm row needs a prompt of which the server can keep half: whole pages, and the last token is always computed. */
static bool keeps_half(const struct target *t, const struct cell *c) {
    uint32_t page = t->cache_page;
    return page == 0 || 2 * ((c->prompt_tokens - 1) / page * page) >= c->prompt_tokens;
}

bool bench_fits(struct bench *b, uint32_t i, uint64_t end_ns, struct cell *cell, uint64_t *deadline_ns) {
    const struct cell *cells = b->suite.cells, *before = i ? &cells[i - 1] : NULL;
    uint64_t now = clock_ns();
    double left = end_ns > now ? (double)(end_ns - now) * 1e-9 : 0;
    *cell = cells[i];
    *deadline_ns = 0;
    if (cell->cache == CACHE_WARM && !keeps_half(&b->target, cell)) {
        bench_leave_out(b, cell, "not possible: the server's cache keeps pages of %u tokens, and the prompt has %u",
                        b->target.cache_page, cell->prompt_tokens);
        return false;
    }
    if (b->suite.seconds <= 0) {
        return true;
    }
    double need = least_s(b, cell, before);
    if (b->n_api_rows > 0 && need >= left) { /* the first row is always made: a record without any says nothing */
        bench_leave_out(b, cell, "for lack of time: it takes about %.0f s, and %.0f of the suite's %.0f s were left",
                        ceil(need), floor(left), b->suite.seconds);
        return false;
    }
    double later = 0; /* for the rows behind it that still fit once this one has its least */
    for (uint32_t k = i + 1; k < b->suite.n_cells; k++) {
        double s = cells[k].stand_in ? 0 : least_s(b, &cells[k], &cells[k - 1]);
        later += need + later + s < left ? s : 0;
    }
    if (cell->warm_where_time && need + round_s(b, cell, cell->warmup_tokens) + later > left) {
        cell->warmups = 0;
    }
    *deadline_ns = now + (uint64_t)(fmax(left - later, 0) * 1e9);
    return true;
}
