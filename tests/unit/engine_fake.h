/*
 * A scripted backend, whose logits depend on the token history alone, and a model for it.
 *
 * It keeps the history in KV pages and a running hash in the slot's state, with a snapshot of that hash in every full
 * page, and reads both back for every row. A wrong page, a page given away too early, a stale slot or snapshot, a lost
 * chunk or a forgotten rewind changes the answer or counts as a violation of the seam's rules (backend/backend.h).
 */
#ifndef ENGINE_FAKE_H
#define ENGINE_FAKE_H

#include "engine/draft.h"
#include "unit/engine_rig.h"

#include <math.h>

#define RIG_VOCAB 160
#define RIG_END   159
#define RIG_CTX   6144
/* With two classes, tokens below are never generated; prompts made of them cannot spell what another request generated,
 * for there such a backend's answers may differ by design (design section 4.4). */
#define RIG_NEVER_SAID 80

/* ---- How it behaves ---------------------------------------------------------------------------------------- */

struct rig_mode {             /* of the next backend that is opened */
    uint32_t step_tokens_max; /* 0 = 256 */
    bool samples;             /* draws tokens itself and runs one step ahead, as a device does */
    bool no_rewind;
    bool periodic;    /* few distinct tokens, and mostly the one that followed the last two the time before */
    bool two_classes; /* logits depend on which tokens were generated, too */
    bool null;        /* constant work per token, nothing is checked: for measurements */
};

static struct {
    struct rig_mode mode;
    atomic_uint delay_us, pad_us; /* of each step, whatever it holds: asleep, and awake (exact) */
    /* count down to the call that fails; 0 = never */
    atomic_int fail_submit, fail_wait, fail_rewind, fail_save, fail_load, nan_row;
    atomic_uint steps, violations, resumes, rewinds, most_rows;
    atomic_uint ahead;                             /* steps submitted while another was under way */
    atomic_uint prompt_steps, lonely_prompt_steps; /* steps with prompt tokens; those that generated nothing beside */
    atomic_uint prompt_tokens;                     /* in rows of that role */
    /* with mode.null: time that the engine thread spent in submit and wait, rows of all steps */
    atomic_uint_fast64_t inside_wall_ns, inside_cpu_ns, rows;
} rig_fake;

#define RIG_REQUIRE(ok) rig_require(ok, #ok, __LINE__)

static inline bool rig_require(bool ok, const char *what, int line) {
    if (!ok && atomic_fetch_add(&rig_fake.violations, 1) < 10) {
        fprintf(stderr, "engine_fake.h:%d: violation of %s\n", line, what);
    }
    return ok;
}

static inline bool rig_countdown(atomic_int *n) {
    return atomic_load(n) > 0 && atomic_fetch_sub(n, 1) == 1;
}

/* ---- What it holds ----------------------------------------------------------------------------------------- */

struct rig_page {
    int32_t tokens[KV_PAGE_TOKENS];
    uint8_t generated[KV_PAGE_TOKENS];
    uint64_t snapshot; /* state after the last position */
    uint64_t full;     /* the snapshot is there; nothing but a new first position may be written */
};

struct rig_slot {
    uint64_t state; /* hash of all tokens so far */
    uint32_t length;
    int32_t drawn; /* by the last row; -1 = nothing */
    /* of the last row, if it had drafts */
    uint32_t n_drafts, first_draft; /* first_draft: its position */
    uint64_t draft_step;
    uint64_t states[DRAFT_TOKENS_MAX + 1]; /* after k drafts */
    uint32_t draft_pages[3];               /* of positions first_draft - 1 and after */
};

#define RIG_RESULTS 4 /* two steps under way, and those whose results may still be read */

struct rig_results {
    uint64_t step; /* 0 = free */
    bool waited;
    uint32_t submits_since;
    uint64_t due_ns;        /* when the device is through with it */
    float *logits;          /* [step_outputs_max][n_vocab] */
    struct sample *samples; /* [step_outputs_max] */
    uint32_t n_logits, n_samples;
    bool broken; /* the step broke the seam's rules */
};

struct rig_backend {
    struct backend base;
    struct rig_mode mode;
    struct backend_options options;
    struct backend_caps caps;
    uint32_t n_vocab;
    struct rig_page *pages;  /* [n_pages] */
    uint64_t *page_reader;   /* [n_pages] the last step in which a row read the page, */
    uint64_t *page_writer;   /* [n_pages] or wrote to it */
    struct rig_slot *slots;  /* [n_slots] */
    struct sampler *sampler; /* draws for the engine */
    struct rig_results results[RIG_RESULTS];
    uint64_t submitted, waited; /* steps are numbered from 1 */
    uint64_t busy_until_ns;     /* steps queue up: one runs at a time */
    bool just_waited;           /* no submit since the last wait */
};

static sluice_status rig_probe(sluice_error *err) {
    (void)err;
    return SLUICE_OK;
}

static uint64_t rig_memory(void) {
    return mem_available();
}

static void rig_backend_close(struct backend *backend) {
    struct rig_backend *b = (struct rig_backend *)backend;
    for (uint32_t i = 0; i < RIG_RESULTS; i++) {
        mem_free(b->results[i].logits);
        mem_free(b->results[i].samples);
    }
    sampler_free(b->sampler);
    mem_free(b->pages);
    mem_free(b->page_reader);
    mem_free(b->page_writer);
    mem_free(b->slots);
    mem_free(b);
}

static inline uint32_t rig_or(uint32_t n, uint32_t otherwise) {
    return n ? n : otherwise;
}

static sluice_status rig_backend_alloc(struct rig_backend *b, sluice_error *err) {
    uint32_t n_pages = b->options.n_pages, n_outputs = b->caps.step_outputs_max;
    bool ok = (b->pages = mem_calloc(n_pages, sizeof *b->pages)) &&
              (b->page_reader = mem_calloc(n_pages, sizeof *b->page_reader)) &&
              (b->page_writer = mem_calloc(n_pages, sizeof *b->page_writer)) &&
              (b->slots = mem_calloc(b->options.n_slots, sizeof *b->slots));
    for (uint32_t i = 0; ok && i < RIG_RESULTS; i++) {
        struct rig_results *r = &b->results[i];
        ok = (r->logits = mem_calloc((size_t)n_outputs * b->n_vocab, sizeof *r->logits)) &&
             (r->samples = mem_calloc(n_outputs, sizeof *r->samples));
        for (size_t k = 0; ok && b->mode.null && k < (size_t)n_outputs * b->n_vocab; k++) {
            r->logits[k] = (float)(rig_mix(k) >> 40) * (12 * 0x1p-24f) - 6;
        }
    }
    return ok ? sampler_create(b->n_vocab, &b->sampler, err)
              : (fail)(err, SLUICE_E_NOMEM, "no memory for the scripted backend");
}

static sluice_status rig_backend_open(const struct model *model, const struct backend_options *options,
                                      struct backend **out, sluice_error *err) {
    struct rig_backend *b = mem_calloc(1, sizeof *b);
    if (!b) {
        return (fail)(err, SLUICE_E_NOMEM, "no memory for the scripted backend");
    }
    b->mode = rig_fake.mode;
    b->options = *options;
    b->n_vocab = model->n_vocab;
    uint32_t most = rig_or(options->step_tokens_max, rig_or(b->mode.step_tokens_max, 256));
    b->caps = (struct backend_caps){.name = "scripted",
                                    .device = "none",
                                    .n_threads = 1,
                                    .step_tokens_max = most,
                                    .step_outputs_max = rig_or(options->step_outputs_max, options->n_slots),
                                    .step_drafts_max = b->mode.no_rewind ? 0 : options->step_drafts_max,
                                    .steps_ahead = b->mode.samples,
                                    .samples = b->mode.samples,
                                    .prefill_chunk = most,
                                    .page_bytes = sizeof(struct rig_page),
                                    .page_format = "scripted-1"};
    sluice_status status = rig_backend_alloc(b, err);
    if (status != SLUICE_OK) {
        rig_backend_close(&b->base);
        return status;
    }
    *out = &b->base;
    return SLUICE_OK;
}

static const struct backend_caps *rig_caps(const struct backend *backend) {
    return &((const struct rig_backend *)backend)->caps;
}

/* ---- The model: a hash of the history, and logits from it -------------------------------------------------- */

static inline uint64_t rig_chain(uint64_t h, int32_t token, bool marked) {
    return rig_mix(h + 0x9E3779B97F4A7C15u + (uint64_t)(uint32_t)token + ((uint64_t)marked << 32));
}

/* Favours twelve ids and, but for one position in eight, the guess: what followed the last two tokens before. */
static inline void rig_make_periodic(float *logits, uint32_t first, uint64_t history, int32_t guess) {
    for (uint32_t v = first; v < first + 12; v++) {
        logits[v] += 3;
    }
    if (guess >= 0 && rig_mix(history) % 8 != 0) {
        logits[guess] += 12;
    }
}

/* Logits behind a history with this hash. guess: what followed its last two tokens before, or -1. */
static inline void rig_logits(const struct rig_mode *mode, uint64_t history, int32_t guess, float *logits) {
    for (uint32_t v = 0; v < RIG_VOCAB; v++) {
        logits[v] = (float)(rig_mix(history ^ (v * 0xD1342543DE82EF95u)) >> 40) * (12 * 0x1p-24f) - 6;
        logits[v] -= mode->two_classes && v < RIG_NEVER_SAID ? 60 : 0;
    }
    if (mode->periodic) {
        rig_make_periodic(logits, mode->two_classes ? RIG_NEVER_SAID : 0, history, guess);
    }
}

/* What the null mode draws behind a history with this hash. */
static inline int32_t rig_null_token(uint64_t history) {
    return (int32_t)('A' - ' ' + rig_mix(history) % 26);
}

static inline int32_t rig_token_at(const struct rig_backend *b, const struct backend_row *row, uint32_t at) {
    return b->pages[row->pages[at / KV_PAGE_TOKENS]].tokens[at % KV_PAGE_TOKENS];
}

static int32_t rig_guess(const struct rig_backend *b, const struct backend_row *row, uint32_t at) {
    for (uint32_t k = at; at > 0 && k-- > 1;) {
        if (rig_token_at(b, row, k) == rig_token_at(b, row, at) &&
            rig_token_at(b, row, k - 1) == rig_token_at(b, row, at - 1)) {
            return rig_token_at(b, row, k + 1);
        }
    }
    return -1;
}

/* ---- A row ------------------------------------------------------------------------------------------------- */

/* No page that one row writes to may be used by another row of the step. */
static bool rig_claim_pages(struct rig_backend *b, const struct backend_row *row) {
    uint32_t n = (row->first_pos + row->n_tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t page = row->pages[i];
        if (!RIG_REQUIRE(page < b->options.n_pages) || !RIG_REQUIRE(b->page_writer[page] != b->submitted)) {
            return false;
        }
        if (i < row->first_pos / KV_PAGE_TOKENS) {
            b->page_reader[page] = b->submitted;
        } else {
            RIG_REQUIRE(b->page_reader[page] != b->submitted);
            b->page_writer[page] = b->submitted;
        }
    }
    return true;
}

/* The state before the row's first token. */
static uint64_t rig_state_before(struct rig_backend *b, const struct backend_row *row, struct rig_slot *s) {
    if (row->resume) {
        if (RIG_REQUIRE(row->first_pos > 0 && row->first_pos % KV_PAGE_TOKENS == 0)) {
            const struct rig_page *page = &b->pages[row->pages[row->first_pos / KV_PAGE_TOKENS - 1]];
            RIG_REQUIRE(page->full);
            atomic_fetch_add(&rig_fake.resumes, 1);
            return page->snapshot;
        }
    } else if (row->first_pos > 0) {
        RIG_REQUIRE(s->length == row->first_pos);
        RIG_REQUIRE(s->n_drafts == 0 || s->draft_step <= b->waited); /* else it is not known where the row begins */
        return s->state;
    }
    return 0;
}

static uint64_t rig_write(struct rig_backend *b, const struct backend_row *row, uint32_t at, int32_t token,
                          uint64_t state) {
    struct rig_page *page = &b->pages[row->pages[at / KV_PAGE_TOKENS]];
    uint32_t place = at % KV_PAGE_TOKENS;
    RIG_REQUIRE(place == 0 || !page->full);
    page->full = place == KV_PAGE_TOKENS - 1;
    page->tokens[place] = token;
    page->generated[place] = row->generated;
    page->snapshot = rig_chain(state, token, b->mode.two_classes && row->generated);
    return page->snapshot;
}

/* What the pages say the state is after `end` positions. */
static uint64_t rig_history(const struct rig_backend *b, const struct backend_row *row, uint32_t end) {
    uint64_t history = 0;
    for (uint32_t at = 0; at < end; at++) {
        const struct rig_page *page = &b->pages[row->pages[at / KV_PAGE_TOKENS]];
        bool marked = b->mode.two_classes && page->generated[at % KV_PAGE_TOKENS];
        history = rig_chain(history, page->tokens[at % KV_PAGE_TOKENS], marked);
    }
    return history;
}

/* The rules with seen tables of their own, so that tokens can be added that the engine has not seen yet. */
static struct sample_rules rig_copy_rules(const struct sample_rules *rules) {
    struct sample_rules copy = *rules;
    if (rules->seen) {
        size_t seen = rules->seen_max * sizeof *copy.seen, index = (rules->index_mask + 1ull) * sizeof *copy.seen_index;
        copy.seen = memcpy(malloc(seen), rules->seen, seen);
        copy.seen_index = memcpy(malloc(index), rules->seen_index, index);
    }
    return copy;
}

static void rig_put_result(struct rig_backend *b, const struct backend_row *row, const struct sample_rules *rules,
                           struct rig_slot *s, struct rig_results *out, uint32_t at, uint64_t state) {
    float here[RIG_VOCAB];
    float *logits = row->rules ? here : out->logits + (size_t)out->n_logits++ * b->n_vocab;
    if (!b->mode.null) {
        rig_logits(&b->mode, state, b->mode.periodic ? rig_guess(b, row, at) : -1, logits);
    }
    if (rig_countdown(&rig_fake.nan_row)) {
        logits[7] = NAN;
    }
    if (!row->rules) {
        s->drawn = -1;
        return;
    }
    struct sample *sample = &out->samples[out->n_samples++];
    if (b->mode.null) {
        sample->token = rig_null_token(state);
        sample->n_top = 0;
    } else {
        (void)sampler_draw(b->sampler, rules, logits, (uint64_t)at + 1, sample, NULL);
    }
    s->drawn = sample->token < 0 ? 0 : sample->token; /* what follows a failure is anything */
}

/* What rewind needs to know, in s. */
static void rig_note_drafts(struct rig_backend *b, const struct backend_row *row, struct rig_slot *s) {
    s->n_drafts = row->n_drafts;
    if (row->n_drafts == 0) {
        return;
    }
    uint32_t end = row->first_pos + row->n_tokens;
    s->first_draft = end - row->n_drafts;
    s->draft_step = b->submitted;
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t page = (s->first_draft - 1) / KV_PAGE_TOKENS + i;
        s->draft_pages[i] = page * KV_PAGE_TOKENS < end ? row->pages[page] : UINT32_MAX;
    }
}

static void rig_row(struct rig_backend *b, const struct backend_row *row, struct rig_results *out) {
    if (!RIG_REQUIRE(row->slot < b->options.n_slots) || !RIG_REQUIRE(row->n_tokens > 0) ||
        !RIG_REQUIRE(row->n_drafts < row->n_tokens && row->n_drafts <= DRAFT_TOKENS_MAX) ||
        !RIG_REQUIRE(row->n_outputs <= row->n_tokens) || !RIG_REQUIRE(!row->rules || b->caps.samples) ||
        !RIG_REQUIRE(out->n_logits + out->n_samples + row->n_outputs <= b->caps.step_outputs_max) ||
        (!b->mode.null && !rig_claim_pages(b, row))) {
        out->broken = true;
        return;
    }
    struct rig_slot *s = &b->slots[row->slot];
    RIG_REQUIRE(row->tokens || (b->caps.samples && row->n_tokens == 1 && row->first_pos > 0 && s->drawn >= 0));
    uint64_t state = rig_state_before(b, row, s);
    uint32_t end = row->first_pos + row->n_tokens;
    bool adds = row->rules && row->rules->seen && (!row->tokens || row->n_drafts > 0);
    struct sample_rules copy = adds ? rig_copy_rules(row->rules) : (struct sample_rules){0};
    for (uint32_t t = 0; t < row->n_tokens; t++) {
        int32_t token = row->tokens ? row->tokens[t] : s->drawn;
        RIG_REQUIRE(token >= 0 && (uint32_t)token < b->n_vocab);
        state = rig_write(b, row, row->first_pos + t, token, state);
        if (t + 1 >= row->n_tokens - row->n_drafts) {
            s->states[t + 1 - (row->n_tokens - row->n_drafts)] = state;
        }
        if (t >= row->n_tokens - row->n_outputs) {
            if (adds && (!row->tokens || t >= row->n_tokens - row->n_drafts)) {
                sample_rules_accept(&copy, token);
            }
            rig_put_result(b, row, adds ? &copy : row->rules, s, out, row->first_pos + t, state);
        }
    }
    if (adds) {
        free(copy.seen);
        free(copy.seen_index);
    }
    s->drawn = row->n_outputs > 0 ? s->drawn : -1;
    s->state = state;
    s->length = end;
    rig_note_drafts(b, row, s);
    RIG_REQUIRE(b->mode.null || rig_history(b, row, end) == state);
}

/* ---- A step ------------------------------------------------------------------------------------------------ */

/* Results that may not be read any more turn into nonsense. */
static struct rig_results *rig_next_results(struct rig_backend *b) {
    struct rig_results *next = NULL;
    for (uint32_t i = 0; i < RIG_RESULTS; i++) {
        struct rig_results *r = &b->results[i];
        r->submits_since += r->waited;
        for (size_t k = 0; r->submits_since == 1 && !b->mode.null && k < r->n_logits * b->n_vocab; k++) {
            r->logits[k] = NAN;
        }
        if (r->submits_since == 2) {
            for (uint32_t k = 0; k < r->n_samples; k++) {
                r->samples[k] = (struct sample){.token = 11, .logprob = NAN};
            }
            r->step = 0;
        }
        next = r->step == 0 ? r : next;
    }
    if (next) {
        *next = (struct rig_results){.step = b->submitted, .logits = next->logits, .samples = next->samples};
        uint64_t now = clock_ns(), begin = now > b->busy_until_ns ? now : b->busy_until_ns;
        next->due_ns = begin + 1000ull * (atomic_load(&rig_fake.delay_us) + atomic_load(&rig_fake.pad_us));
        b->busy_until_ns = next->due_ns;
    }
    return next;
}

static void rig_count_step(struct rig_backend *b, const struct backend_step *step) {
    uint32_t tokens = 0, drafts = 0, generating = 0, prompt = 0;
    for (uint32_t i = 0; i < step->n_rows; i++) {
        const struct backend_row *row = &step->rows[i];
        for (uint32_t k = 0; k < i && !b->mode.null; k++) {
            RIG_REQUIRE(step->rows[k].slot != row->slot);
        }
        tokens += row->n_tokens;
        drafts += row->n_drafts;
        generating += row->generated && row->n_outputs > 0;
        prompt += row->generated ? 0 : row->n_tokens;
    }
    RIG_REQUIRE(step->n_rows > 0 && tokens <= b->caps.step_tokens_max && drafts <= b->caps.step_drafts_max);
    atomic_fetch_add(&rig_fake.steps, 1);
    atomic_fetch_add(&rig_fake.prompt_tokens, prompt);
    atomic_fetch_add(&rig_fake.prompt_steps, prompt > 0);
    atomic_fetch_add(&rig_fake.lonely_prompt_steps, prompt > 0 && generating == 0);
    if (step->n_rows > atomic_load(&rig_fake.most_rows)) {
        atomic_store(&rig_fake.most_rows, step->n_rows);
    }
}

static sluice_status rig_submit_real(struct backend *backend, const struct backend_step *step, sluice_error *err) {
    struct rig_backend *b = (struct rig_backend *)backend;
    if (rig_countdown(&rig_fake.fail_submit)) {
        return (fail)(err, SLUICE_E_IO, "scripted failure of submit");
    }
    RIG_REQUIRE(b->submitted - b->waited <= b->caps.steps_ahead);
    atomic_fetch_add(&rig_fake.ahead, b->submitted > b->waited);
    b->submitted++;
    b->just_waited = false;
    rig_count_step(b, step);
    struct rig_results *out = rig_next_results(b);
    if (!RIG_REQUIRE(out != NULL)) {
        return (fail)(err, SLUICE_E_BACKEND, "too many steps are under way");
    }
    for (uint32_t i = 0; i < step->n_rows; i++) {
        rig_row(b, &step->rows[i], out);
    }
    return SLUICE_OK;
}

static sluice_status rig_wait_real(struct backend *backend, struct backend_output *out, sluice_error *err) {
    struct rig_backend *b = (struct rig_backend *)backend;
    if (!RIG_REQUIRE(b->waited < b->submitted)) {
        return (fail)(err, SLUICE_E_BACKEND, "no step is under way");
    }
    b->waited++;
    b->just_waited = true;
    struct rig_results *r = b->results;
    while (r->step != b->waited) {
        r++;
    }
    r->waited = true;
    uint64_t now = clock_ns(), busy = 1000ull * atomic_load(&rig_fake.pad_us);
    if (r->due_ns > now + busy) {
        usleep((useconds_t)((r->due_ns - now - busy) / 1000));
    }
    while (clock_ns() < r->due_ns) {
    }
    if (rig_countdown(&rig_fake.fail_wait) || r->broken) {
        return (fail)(err, SLUICE_E_BACKEND, "scripted failure of wait");
    }
    *out = (struct backend_output){
        .logits = r->logits, .samples = r->samples, .n_logits = r->n_logits, .n_samples = r->n_samples};
    return SLUICE_OK;
}

struct rig_moment {
    uint64_t wall_ns, cpu_ns;
};

static inline struct rig_moment rig_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (struct rig_moment){clock_ns(), (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec};
}

static inline void rig_add_inside(struct rig_moment from) {
    struct rig_moment now = rig_now();
    atomic_fetch_add(&rig_fake.inside_wall_ns, now.wall_ns - from.wall_ns);
    atomic_fetch_add(&rig_fake.inside_cpu_ns, now.cpu_ns - from.cpu_ns);
}

static sluice_status rig_submit_step(struct backend *backend, const struct backend_step *step, sluice_error *err) {
    if (!((struct rig_backend *)backend)->mode.null) {
        return rig_submit_real(backend, step, err);
    }
    struct rig_moment start = rig_now();
    sluice_status status = rig_submit_real(backend, step, err);
    atomic_fetch_add(&rig_fake.rows, step->n_rows);
    rig_add_inside(start);
    return status;
}

static sluice_status rig_wait_step(struct backend *backend, struct backend_output *out, sluice_error *err) {
    if (!((struct rig_backend *)backend)->mode.null) {
        return rig_wait_real(backend, out, err);
    }
    struct rig_moment start = rig_now();
    sluice_status status = rig_wait_real(backend, out, err);
    rig_add_inside(start);
    return status;
}

static sluice_status rig_rewind(struct backend *backend, uint32_t slot, uint32_t n_kept, sluice_error *err) {
    struct rig_backend *b = (struct rig_backend *)backend;
    struct rig_slot *s = &b->slots[slot];
    if (!RIG_REQUIRE(slot < b->options.n_slots) || !RIG_REQUIRE(n_kept < s->n_drafts) ||
        !RIG_REQUIRE(s->draft_step == b->waited && b->just_waited)) {
        return (fail)(err, SLUICE_E_BACKEND, "nothing to rewind");
    }
    atomic_fetch_add(&rig_fake.rewinds, 1);
    if (rig_countdown(&rig_fake.fail_rewind)) {
        return (fail)(err, SLUICE_E_BACKEND, "scripted failure of rewind");
    }
    s->state = s->states[n_kept];
    s->length = s->first_draft + n_kept;
    s->n_drafts = 0;
    s->drawn = -1;
    for (uint32_t i = 0; i < 3 && s->draft_pages[i] != UINT32_MAX; i++) { /* full no more: dropped drafts filled them */
        uint32_t page_end = ((s->first_draft - 1) / KV_PAGE_TOKENS + i + 1) * KV_PAGE_TOKENS;
        if (page_end > s->length) {
            b->pages[s->draft_pages[i]].full = 0;
        }
    }
    return SLUICE_OK;
}

static sluice_status rig_page_save(struct backend *backend, uint32_t page, void *bytes, sluice_error *err) {
    struct rig_backend *b = (struct rig_backend *)backend;
    if (!RIG_REQUIRE(page < b->options.n_pages) || rig_countdown(&rig_fake.fail_save)) {
        return (fail)(err, SLUICE_E_BACKEND, "scripted failure of page_save");
    }
    RIG_REQUIRE(b->pages[page].full);
    memcpy(bytes, &b->pages[page], sizeof b->pages[page]);
    return SLUICE_OK;
}

static sluice_status rig_page_load(struct backend *backend, uint32_t page, const void *bytes, sluice_error *err) {
    struct rig_backend *b = (struct rig_backend *)backend;
    if (!RIG_REQUIRE(page < b->options.n_pages) || rig_countdown(&rig_fake.fail_load)) {
        return (fail)(err, SLUICE_E_BACKEND, "scripted failure of page_load");
    }
    memcpy(&b->pages[page], bytes, sizeof b->pages[page]);
    RIG_REQUIRE(b->pages[page].full == 1);
    return SLUICE_OK;
}

static const struct backend_ops rig_fake_ops = {.name = "scripted",
                                                .probe = rig_probe,
                                                .memory = rig_memory,
                                                .open = rig_backend_open,
                                                .close = rig_backend_close,
                                                .caps = rig_caps,
                                                .submit = rig_submit_step,
                                                .wait = rig_wait_step,
                                                .rewind = rig_rewind,
                                                .page_save = rig_page_save,
                                                .page_load = rig_page_load};

/* Between tests; true if the engine kept the seam's rules. */
static inline bool rig_fake_reset(void) {
    atomic_uint *const zero[] = {&rig_fake.delay_us, &rig_fake.pad_us, &rig_fake.most_rows};
    atomic_int *const never[] = {&rig_fake.fail_submit, &rig_fake.fail_wait, &rig_fake.fail_rewind,
                                 &rig_fake.fail_save,   &rig_fake.fail_load, &rig_fake.nan_row};
    for (size_t i = 0; i < sizeof zero / sizeof zero[0]; i++) {
        atomic_store(zero[i], 0);
    }
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        atomic_store(never[i], 0);
    }
    rig_fake.mode = (struct rig_mode){0};
    return atomic_exchange(&rig_fake.violations, 0) == 0;
}

/* ---- A model for it: letters, parts of characters, words, control tokens ----------------------------------- */

static struct token_entry rig_tokens[RIG_VOCAB];
static char rig_letters[96];
static struct model_layer rig_layer = {.is_attention = true, .n_head_kv = 1};
static struct model rig_weights = {.n_vocab = RIG_VOCAB,
                                   .n_ctx_train = RIG_CTX,
                                   .n_layer = 1,
                                   .n_attn_layers = 1,
                                   .head_dim = 16,
                                   .conv_taps = 3,
                                   .layers = &rig_layer};

static sluice_model rig_model;
static int32_t rig_prompt[RIG_CTX]; /* something to say */

static inline int rig_setup(void **state) {
    (void)state;
    static const char *const words[] = {" the", "STOP", "ST", "OP", "\xc3", "\xa9", "\xe2", "\x82", "\xac", "\n\n"};
    for (uint32_t i = 0; i < 95; i++) {
        rig_letters[i] = (char)(' ' + i);
        rig_tokens[i] = (struct token_entry){.bytes = &rig_letters[i], .n_bytes = 1};
    }
    for (uint32_t i = 95; i < 150; i++) {
        const char *word = words[i % 10];
        rig_tokens[i] = (struct token_entry){.bytes = word, .n_bytes = (uint32_t)strlen(word)};
    }
    rig_tokens[157] = (struct token_entry){"<|cot_start|>", 13, TOKEN_FLAG_CONTROL};
    rig_tokens[158] = (struct token_entry){"<|tool_call_start|>", 19, TOKEN_FLAG_CONTROL | TOKEN_FLAG_MARKER};
    rig_tokens[RIG_END] = (struct token_entry){"<|im_end|>", 10, TOKEN_FLAG_CONTROL | TOKEN_FLAG_END};
    rig_model =
        (sluice_model){.model = &rig_weights,
                       .tokens = rig_tokens,
                       .info = {.name = "scripted",
                                .n_vocab = RIG_VOCAB,
                                .n_ctx_train = RIG_CTX,
                                .kv_bytes_per_token = model_kv_bytes_per_token(&rig_weights),
                                .fingerprint = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                                .recommended = {.temperature = 1, .top_p = 1, .repetition_penalty = 1}}};
    for (int i = 0; i < RIG_CTX; i++) {
        rig_prompt[i] = (int32_t)(rig_mix((uint64_t)i) % RIG_VOCAB);
    }
    return 0;
}

/* After each test: everything as before, and not one of the seam's rules broken. */
static inline int rig_clean(void **state) {
    (void)state;
    return rig_fake_reset() ? 0 : -1;
}

/* ---- Engines and requests ---------------------------------------------------------------------------------- */

static inline sluice_engine *rig_open(const sluice_engine_options *options) {
    sluice_engine *e = NULL;
    sluice_error err = {0};
    if (engine_create_on(&rig_model, &rig_fake_ops, options, &e, &err) != SLUICE_OK) {
        fail_msg("create: %s", err.text);
    }
    return e;
}

static inline sluice_engine_options rig_options(uint32_t n_slots, uint32_t chunk, uint32_t ctx) {
    sluice_engine_options o = sluice_engine_options_default();
    o.n_slots = n_slots;
    o.prefill_chunk = chunk;
    o.ctx_per_slot = ctx;
    o.queue_max = 2000;
    return o;
}

static inline sluice_engine *rig_open_shape(uint32_t n_slots, uint32_t chunk, uint32_t ctx) {
    sluice_engine_options o = rig_options(n_slots, chunk, ctx);
    return rig_open(&o);
}

/* The judge of the others: one slot, no cache, no drafts. */
static inline sluice_engine *rig_open_solo(uint32_t chunk, uint32_t ctx) {
    sluice_engine_options o = rig_options(1, chunk, ctx);
    o.cache_bytes_max = 0;
    o.draft_max = 0;
    return rig_open(&o);
}

/* A request that generates exactly n tokens. */
static inline sluice_request_options rig_exactly(const int32_t *prompt, size_t n_prompt, uint32_t n) {
    sluice_request_options o = sluice_request_options_default(&rig_model);
    o.tokens = prompt;
    o.n_tokens = n_prompt;
    o.max_tokens = n;
    o.ignore_eos = true;
    return o;
}

/* Tokens that go round and round, with more of them expected (mode.periodic): guesses come true. */
static inline sluice_request_options rig_periodic(uint32_t n) {
    static int32_t round[64];
    for (int i = 0; i < 64; i++) {
        round[i] = i % 7;
    }
    sluice_request_options o = rig_exactly(round, 64, n);
    o.sampling.temperature = 0;
    return o;
}

static inline void rig_expect_refused(sluice_engine *e, sluice_request_options o, sluice_status status,
                                      const char *words) {
    sluice_request *r = NULL;
    sluice_error err = {0};
    assert_int_equal(sluice_request_submit(e, &o, &r, &err), status);
    assert_int_equal(err.status, status);
    if (!strstr(err.text, words)) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
    }
    assert_null(r);
}

#endif
