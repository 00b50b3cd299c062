/* What can be said about a row beside its figures: the cache's state, batching, and whether the work was the work
 * asked for. */
#include "bench/client.h"
#include "bench/row.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPAN_LEAST      0.8 /* of the server's time for an answer, from its first token to its last as they came */
#define SHARE_MOST      1.1 /* of the measured bandwidth: more was not read */
#define TEMPLATE_TOKENS 16  /* shared by any two requests where the template is not known */

/* Streams that decode at the same time, of c that were sent together. */
#define QUEUED_STREAMS 1.3
#define BATCHED_SHARE  0.7
#define QUEUED_SPACING 0.5 /* and their first tokens come a good part of a service time apart */

const char *const batching_names[] = {"single", "batched", "queued", "mixed", "unknown"};
const char *const cache_state_names[] = {"verified", "unverified", "invalid", NULL};

/* ---- Cache */

static bool counts(const struct sample *s) {
    return s->ok && !s->warmup;
}

/* The sample that contradicts the row's cache state, or NULL; *unknown: some request has no count. */
static const struct sample *find_contradiction(const struct row *row, int64_t most, bool *unknown) {
    *unknown = false;
    for (uint32_t i = 0; i < row->n_samples; i++) {
        const struct sample *s = &row->samples[i];
        if (!counts(s)) {
            continue;
        }
        if (s->cached_tokens < 0) {
            *unknown = true;
        } else if (row->cell.cache == CACHE_COLD ? s->cached_tokens > most : 2 * s->cached_tokens < s->prompt_tokens) {
            return s;
        }
    }
    return NULL;
}

static void judge_cache(struct row *row, bool reports_cached) {
    bool cold = row->cell.cache == CACHE_COLD;
    int64_t most = row->template_tokens >= 0 ? row->template_tokens : TEMPLATE_TOKENS;
    bool unknown;
    if (row->cell.cache == CACHE_NONE || row->n_ok == 0) {
        row->cache_state = row->cell.cache == CACHE_NONE ? CACHE_NO_STATE : CACHE_UNVERIFIED;
        snprintf(row->cache_reason, sizeof row->cache_reason, "%s",
                 row->cell.cache == CACHE_NONE ? "" : "no request went well");
        return;
    }
    const struct sample *s = find_contradiction(row, most, &unknown);
    if (s) {
        row->cache_state = CACHE_INVALID;
        if (cold) {
            snprintf(
                row->cache_reason, sizeof row->cache_reason,
                "request %u of run %u took %lld of %lld prompt tokens from a cache; the template before the nonce has "
                "%s%lld",
                s->stream + 1, s->run + 1, (long long)s->cached_tokens, (long long)s->prompt_tokens,
                row->template_tokens >= 0 ? "" : "at most ", (long long)most);
        } else {
            snprintf(
                row->cache_reason, sizeof row->cache_reason,
                "request %u of run %u took only %lld of %lld prompt tokens from the cache, though the same prompt had "
                "just been sent",
                s->stream + 1, s->run + 1, (long long)s->cached_tokens, (long long)s->prompt_tokens);
        }
        row_add_reason(row, ROW_INVALID, "not %s: %s", cache_names[row->cell.cache], row->cache_reason);
    } else if (unknown) {
        row->cache_state = CACHE_UNVERIFIED;
        snprintf(row->cache_reason, sizeof row->cache_reason, "%s",
                 reports_cached ? "not every reply had a count of cached tokens"
                                : "the server reports no count of cached tokens");
    } else {
        const struct stats_summary *m = &row->metric[METRIC_CACHED];
        row->cache_state = CACHE_VERIFIED;
        snprintf(row->cache_reason, sizeof row->cache_reason, "%.0f to %.0f cached tokens reported, %s %lld", m->min,
                 m->max, cold ? "allowed are" : "of a prompt of",
                 cold ? (long long)most : (long long)row->metric[METRIC_PROMPT].median);
    }
}

/* ---- Batching */

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Mean distance of the first tokens of a round, in service times (first to last token): about 1 where each request
 * waits for the one before it, near 0 where all run side by side. Negative: not known. */
static double round_spacing(const struct sample *s, uint32_t n) {
    double first[CLIENT_STREAMS_MAX];
    double service = 0;
    if (n < 2 || n > sizeof first / sizeof first[0]) {
        return -1;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!s[i].ok || s[i].last_token_ms <= s[i].first_token_ms || s[i].first_token_ms < 0) {
            return -1;
        }
        first[i] = s[i].send_ms + s[i].first_token_ms;
        service += (s[i].last_token_ms - s[i].first_token_ms) / n;
    }
    qsort(first, n, sizeof first[0], compare_doubles);
    return (first[n - 1] - first[0]) / (n - 1) / service;
}

static double row_spacing(const struct row *row) {
    double sum = 0;
    uint32_t n = 0, c = row->cell.concurrency;
    for (uint32_t i = 0; i + c <= row->n_samples; i += c) {
        double v = row->samples[i].warmup ? -1 : round_spacing(row->samples + i, c);
        if (v >= 0) {
            sum += v;
            n++;
        }
    }
    return n ? sum / n : -1;
}

static void judge_batching(struct row *row) {
    uint32_t c = row->cell.concurrency;
    const struct stats_summary *streams = &row->metric[METRIC_STREAMS];
    double spacing = row->cell.arrival == ARRIVAL_CLOSED ? row_spacing(row) : -1;
    if (row->cell.arrival == ARRIVAL_POISSON) {
        snprintf(row->batching_reason, sizeof row->batching_reason, "requests come one by one");
        return;
    }
    if (c == 1) {
        row->batching = BATCHING_SINGLE;
        return;
    }
    if (streams->n == 0 || spacing < 0) {
        snprintf(row->batching_reason, sizeof row->batching_reason, "the times of single tokens are not known");
        return;
    }
    if (streams->median <= QUEUED_STREAMS && spacing >= QUEUED_SPACING) {
        row->batching = BATCHING_QUEUED;
    } else if (streams->median >= BATCHED_SHARE * c) {
        row->batching = BATCHING_BATCHED;
    } else {
        row->batching = BATCHING_MIXED;
    }
    snprintf(row->batching_reason, sizeof row->batching_reason,
             "%.1f of %u streams decode at a time; first tokens come %.2f service times apart", streams->median, c,
             spacing);
}

/* ---- Work */

static void judge_work(struct row *row) {
    uint32_t wrong_prompt = 0, wrong_output = 0, uncounted = 0;
    const struct sample *prompt = NULL, *output = NULL;
    for (uint32_t i = 0; i < row->n_samples; i++) {
        const struct sample *s = &row->samples[i];
        if (!counts(s)) {
            continue;
        }
        uncounted += s->prompt_tokens < 0 || s->output_tokens < 0;
        if (s->prompt_tokens >= 0 && row->prompt_wanted >= 0 && s->prompt_tokens != row->prompt_wanted) {
            prompt = prompt ? prompt : s;
            wrong_prompt++;
        }
        if (s->output_tokens >= 0 && !row->natural_stop && s->output_tokens != (int64_t)row->cell.max_tokens) {
            output = output ? output : s;
            wrong_output++;
        }
    }
    if (uncounted) {
        row_add_reason(row, ROW_INVALID, "the server did not count the tokens of %u request%s", uncounted,
                       uncounted == 1 ? "" : "s");
    }
    if (prompt) {
        row_add_reason(row, ROW_INVALID, "prompts of %lld tokens were asked for; %u had another number, one %lld",
                       (long long)row->prompt_wanted, wrong_prompt, (long long)prompt->prompt_tokens);
    }
    if (output) {
        row_add_reason(row, ROW_INVALID,
                       "answers of %u tokens were asked for; %u had another length, one %lld (%s): the server ends "
                       "answers although ignore_eos was sent",
                       row->cell.max_tokens, wrong_output, (long long)output->output_tokens,
                       output->finish[0] ? output->finish : "no finish reason");
    }
    if (row->n_failed) {
        row_add_reason(row, ROW_INVALID, "%u of %u requests failed", row->n_failed, row->n_failed + row->n_ok);
    }
}

/* Where the server says how long an answer took, its tokens cannot all have come in much less: then something between the
 * two, or this program itself, was kept from the processor, and the times of tokens are those of its waking up. */
static void judge_times(struct row *row) {
    uint32_t late = 0, known = 0;
    const struct sample *worst = NULL;
    for (uint32_t i = 0; i < row->n_samples; i++) {
        const struct sample *s = &row->samples[i];
        if (!counts(s) || !(s->server_predicted_ms > 0) || s->output_tokens < 2) {
            continue;
        }
        known++;
        if (s->last_token_ms - s->first_token_ms < SPAN_LEAST * s->server_predicted_ms) {
            late++;
            worst = worst ? worst : s;
        }
    }
    if (late) {
        row_add_reason(row, ROW_NOISY,
                       "the tokens of %u of %u answers came faster than the server says it made them (%.1f ms for "
                       "%.1f): the client was kept from reading",
                       late, known, worst->last_token_ms - worst->first_token_ms, worst->server_predicted_ms);
    }
}

void row_judge(struct row *row, bool reports_cached) {
    if (row->test == TEST_RAW) {
        row->batching = row->batch > 1 ? BATCHING_BATCHED : BATCHING_SINGLE;
        return;
    }
    judge_cache(row, reports_cached);
    judge_batching(row);
    judge_work(row);
    judge_times(row);
}

/* ---- Limit */

/* Experts that n tokens reach together when each picks `used` of `all` independently of the others. */
static double experts_reached(double all, double used, double n) {
    return all > 0 ? all * (1 - pow(1 - used / all, n)) : 0;
}

static void set_read_limit(struct row *row, struct row_limit *l, const struct model_facts *file, double read_gb_s,
                           bool drafts) {
    const struct stats_summary *streams = &row->metric[METRIC_STREAMS];
    bool many = row->cell.concurrency > 1;
    const struct stats_summary *rate = &row->metric[many ? METRIC_AGGREGATE : METRIC_DECODE];
    double n = many && streams->n ? fmax(1, streams->median) : 1;
    if (rate->n == 0 || file->decode_bytes == 0 || read_gb_s <= 0 || (many && streams->n == 0)) {
        return;
    }
    char shared[40] = "";
    if (many) {
        snprintf(shared, sizeof shared, ", shared by %.1f streams", n);
    }
    double dense = (double)(file->decode_bytes - file->expert_bytes);
    double experts = (double)file->expert_bytes;
    if (file->n_expert && n > 1) {
        experts *= experts_reached(file->n_expert, file->n_expert_used, n) / file->n_expert_used;
    }
    double positions = row->metric[METRIC_PROMPT].median + row->metric[METRIC_OUTPUT].median / 2;
    l->kind = LIMIT_READ;
    l->bytes_per_token = (dense + experts) / n + positions * (double)file->kv_bytes_per_token;
    l->measured = read_gb_s;
    l->share = l->bytes_per_token * rate->median * 1e-9 / read_gb_s;
    snprintf(l->rule, sizeof l->rule, "weights of one pass%s%s, and keys and values at mid-answer%s%s",
             file->n_expert == 0 ? ""
             : n > 1             ? " with as many experts as independent routing reaches"
                                 : " with the experts of one token",
             shared, many ? "; the rate has prefill in it" : "",
             drafts ? "; a pass may yield several tokens, as the server guesses ahead" : "");
}

/* A prompt alone on the machine: with others beside it the time to the first token is not its own. */
static void set_matrix_limit(struct row *row, struct row_limit *l, const struct model_facts *file,
                             const struct limits *limits) {
    const struct stats_summary *rate = &row->metric[row->test == TEST_RAW ? METRIC_TOK_S : METRIC_PREFILL];
    if (rate->n == 0 || file->prefill_ops == 0 || limits->matrix_tops <= 0) {
        return;
    }
    l->kind = LIMIT_MATRIX;
    l->ops_per_token = (double)file->prefill_ops;
    l->measured = limits->matrix_tops;
    l->share = l->ops_per_token * rate->median * 1e-12 / limits->matrix_tops;
    snprintf(l->rule, sizeof l->rule, "2 operations per weight that a prompt token uses, attention apart; %s peak",
             limits->matrix_kind);
}

void row_set_limit(struct row *row, const struct model_facts *file, const struct limits *limits, bool drafts) {
    if (row->test == TEST_RAW) {
        if (row->limit.kind == LIMIT_NONE && strcmp(row->workload, "pp") == 0) {
            set_matrix_limit(row, &row->limit, file, limits);
        }
        return;
    }
    if (row->cell.arrival == ARRIVAL_POISSON) {
        return;
    }
    bool depth = row->cell.is_depth;
    set_read_limit(row, depth ? &row->other_limit : &row->limit, file, limits->read_gb_s, drafts);
    if (!depth && !drafts && row->limit.kind == LIMIT_READ && row->limit.share > SHARE_MOST) {
        row_add_reason(row, ROW_NOISY,
                       "tokens came at %.0f%% of what the measured bandwidth allows: the probe or the "
                       "times were disturbed",
                       100 * row->limit.share);
    }
    if (row->cell.concurrency == 1) {
        set_matrix_limit(row, depth ? &row->limit : &row->other_limit, file, limits);
    }
}
