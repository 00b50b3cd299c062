/* Sends the requests of one row: rounds of requests released together, or single ones at times fixed in advance. */
#include "bench/bench.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "bench/prompt.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PRIME_TOKENS 1u
#define LEAD_MS      20.0 /* between the making of an open loop's schedule and its first request */

struct round {
    struct client_request *requests; /* [n] */
    struct buf *bodies;
    struct sample *primed;
    uint32_t n;
};

static bool stopped(const struct bench *b) {
    return b->options->stop && atomic_load(b->options->stop);
}

static void round_free(struct round *r) {
    for (uint32_t i = 0; r->bodies && i < r->n; i++) {
        buf_free(&r->bodies[i]);
    }
    mem_free(r->bodies);
    mem_free(r->requests);
    mem_free(r->primed);
}

static sluice_status round_alloc(struct round *r, uint32_t n, sluice_error *err) {
    *r = (struct round){.n = n,
                        .requests = mem_calloc(n, sizeof *r->requests),
                        .bodies = mem_calloc(n, sizeof *r->bodies),
                        .primed = mem_calloc(n, sizeof *r->primed)};
    return r->requests && r->bodies && r->primed ? SLUICE_OK
                                                 : fail(err, SLUICE_E_NOMEM, "no memory for %u requests", n);
}

/* Request i with its nonce; the prompt's sum goes to its sample. */
static sluice_status make_request(struct bench *b, struct round *r, uint32_t i, const struct prompt *prompt,
                                  uint64_t nonce, uint32_t max_tokens, struct sample *s, sluice_error *err) {
    struct buf messages = {0};
    prompt_messages(prompt, nonce, &messages);
    buf_reset(&r->bodies[i]);
    if (!messages.failed) {
        target_body(&b->target, messages.data, max_tokens, &r->bodies[i]);
        prompt_sha256(&messages, s->prompt_sha256);
    }
    bool failed = messages.failed || r->bodies[i].failed;
    buf_free(&messages);
    if (failed) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a request");
    }
    r->requests[i] = (struct client_request){
        .body = r->bodies[i].data, .body_len = r->bodies[i].len, .due_ms = -1, .max_tokens = max_tokens, .sample = s};
    return SLUICE_OK;
}

/* Sends the same prompts once, so that the cache holds them. A failure shows in the request that follows. */
static sluice_status prime(struct bench *b, struct round *r, const struct prompt *prompt, uint64_t nonce,
                           sluice_error *err) {
    for (uint32_t i = 0; i < r->n; i++) {
        sample_reset(&r->primed[i]);
        TRY(make_request(b, r, i, prompt, nonce + i, PRIME_TOKENS, &r->primed[i], err));
    }
    sluice_status status = client_run(b->target.client, r->requests, r->n, NULL, NULL, err);
    for (uint32_t i = 0; i < r->n; i++) {
        sample_free(&r->primed[i]);
    }
    b->target.setup_requests += r->n;
    return status;
}

static sluice_status send_round(struct bench *b, struct row *row, struct round *r, const struct prompt *prompt,
                                uint32_t index, sluice_error *err) {
    const struct cell *cell = &row->cell;
    bool warmup = index < cell->warmups;
    uint32_t max_tokens = warmup && cell->warmup_tokens ? cell->warmup_tokens : cell->max_tokens;
    uint64_t nonce = b->nonce;
    b->nonce += r->n;
    if (cell->cache == CACHE_WARM) {
        TRY(prime(b, r, prompt, nonce, err));
    }
    struct sample *s = row_add_samples(row, r->n);
    if (!s) {
        return fail(err, SLUICE_E_NOMEM, "no memory for samples");
    }
    for (uint32_t i = 0; i < r->n; i++) {
        s[i].run = warmup ? index : index - cell->warmups;
        s[i].stream = i;
        s[i].warmup = warmup;
        s[i].prompt_tokens_wanted = prompt->wanted;
        TRY(make_request(b, r, i, prompt, nonce + i, max_tokens, &s[i], err));
    }
    return client_run(b->target.client, r->requests, r->n, NULL, NULL, err);
}

static bool all_ok(const struct sample *s, uint32_t n, bool *reports_cached) {
    bool ok = true;
    for (uint32_t i = 0; i < n; i++) {
        ok = ok && s[i].ok;
        *reports_cached |= s[i].cached_tokens >= 0;
    }
    return ok;
}

static void progress(const struct bench *b, const struct row *row) {
    if (b->options->on_progress) {
        b->options->on_progress(b->options->ctx, row->key, b->requests_done, b->requests_total);
    }
}

static sluice_status send_all(struct bench *b, struct row *row, struct round *r, const struct prompt *prompt,
                              uint64_t deadline_ns, sluice_error *err) {
    const struct cell *cell = &row->cell;
    uint32_t rounds = cell->warmups + cell->runs;
    for (uint32_t i = 0; i < rounds; i++) {
        uint64_t start = clock_ns();
        bool warmup = i < cell->warmups;
        TRY(send_round(b, row, r, prompt, i, err));
        struct sample *s = row->samples + row->n_samples - r->n;
        bool ok = all_ok(s, r->n, &b->target.reports_cached);
        if (warmup && !ok) { /* what the warm-up cannot do, no run can: it is kept as the only run, with its error */
            for (uint32_t k = 0; k < r->n; k++) {
                s[k].warmup = false;
                s[k].run = 0;
            }
        }
        row->warmups += warmup && ok;
        row->runs += !warmup || !ok;
        b->requests_done += r->n;
        progress(b, row);
        TRY(bench_write_samples(b, row, err));
        if (stopped(b)) {
            return fail(err, SLUICE_E_CANCELLED, "interrupted");
        }
        uint64_t now = clock_ns();
        bool late =
            deadline_ns && row->runs > 0 && now + (now - start) * 5 / 4 > deadline_ns; /* the next may be slower */
        if (!ok || (late && i + 1 < rounds)) {
            row->cut = ok;
            b->requests_done += (uint64_t)(rounds - 1 - i) * r->n;
            break;
        }
    }
    return SLUICE_OK;
}

sluice_status bench_send_rounds(struct bench *b, struct row *row, const struct prompt *prompt, uint64_t deadline_ns,
                                sluice_error *err) {
    struct round r;
    sluice_status status = round_alloc(&r, row->cell.concurrency, err);
    if (status == SLUICE_OK) {
        status = send_all(b, row, &r, prompt, deadline_ns, err);
    }
    round_free(&r);
    return status;
}

/* ---- Open loop */

/* Uniform in (0, 1], the same for every run of a rate: two records meet the same arrivals. */
static double draw(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return ((double)((z ^ z >> 31) >> 11) + 1) / 9007199254740992.0;
}

struct open_loop {
    struct bench *bench;
    struct row *row;
    uint64_t done_before;
};

static void on_ended(void *ctx, uint32_t n) {
    struct open_loop *o = ctx;
    o->bench->requests_done = o->done_before + n;
    progress(o->bench, o->row);
}

static sluice_status send_schedule(struct bench *b, struct row *row, struct round *r, const struct prompt *prompt,
                                   sluice_error *err) {
    uint64_t state = 1;
    struct sample *s = row_add_samples(row, r->n);
    if (!s) {
        return fail(err, SLUICE_E_NOMEM, "no memory for samples");
    }
    for (uint32_t i = 0; i < r->n; i++) {
        s[i].run = i;
        s[i].prompt_tokens_wanted = prompt->wanted;
        TRY(make_request(b, r, i, prompt, b->nonce++, row->cell.max_tokens, &s[i], err));
    }
    double due = clock_ms_since(b->zero_ns) + LEAD_MS;
    for (uint32_t i = 0; i < r->n; i++) {
        due += i ? -log(draw(&state)) * 1000 / row->cell.rate_rps : 0;
        s[i].intended_ms = line_round_ms(due);
        r->requests[i].due_ms = due;
    }
    struct open_loop o = {b, row, b->requests_done};
    return client_run(b->target.client, r->requests, r->n, on_ended, &o, err);
}

sluice_status bench_send_open_loop(struct bench *b, struct row *row, const struct prompt *prompt, sluice_error *err) {
    struct round r;
    bool reports = false;
    sluice_status status = round_alloc(&r, row->cell.runs, err);
    if (status == SLUICE_OK) {
        status = send_schedule(b, row, &r, prompt, err);
    }
    round_free(&r);
    if (status != SLUICE_OK) {
        return status;
    }
    (void)all_ok(row->samples, row->n_samples, &reports);
    row->runs = row->n_samples;
    TRY(bench_write_samples(b, row, err));
    return stopped(b) ? fail(err, SLUICE_E_CANCELLED, "interrupted") : SLUICE_OK;
}
