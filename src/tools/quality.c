#include "tools/quality.h"

#include "backend/backend.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/stats.h"
#include "base/status.h"
#include "tools/logits.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static double log_sum_exp(const float *x, uint32_t n) {
    double top = -INFINITY;
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        top = x[i] > top ? x[i] : top;
    }
    for (uint32_t i = 0; i < n; i++) {
        sum += exp(x[i] - top);
    }
    return top + log(sum);
}

/* ---- Making a file */

struct writer {
    FILE *f;
    const char *path;
    uint32_t n_vocab, top;
    const struct quality_progress *progress;
    int32_t *ids; /* [top], greatest logit first; equal ones by id */
};

static void keep_greatest(struct writer *w, const float *x) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->n_vocab; i++) {
        if (n == w->top && !(x[i] > x[w->ids[n - 1]])) {
            continue;
        }
        uint32_t at = n < w->top ? n++ : n - 1;
        for (; at > 0 && x[i] > x[w->ids[at - 1]]; at--) {
            w->ids[at] = w->ids[at - 1];
        }
        w->ids[at] = (int32_t)i;
    }
}

static sluice_status put_position(void *ctx, uint32_t pos, const float *logits, sluice_error *err) {
    struct writer *w = ctx;
    double lse = log_sum_exp(logits, w->n_vocab);
    if (!isfinite(lse)) {
        return fail(err, SLUICE_E_BACKEND, "the logits of position %u are not finite", pos);
    }
    keep_greatest(w, logits);
    bool ok = fprintf(w->f, "%.12g", lse) > 0;
    for (uint32_t i = 0; ok && i < w->top; i++) {
        ok = fprintf(w->f, " %d:%.9g", w->ids[i], (double)logits[w->ids[i]]) > 0;
    }
    if (!ok || fputc('\n', w->f) == EOF) {
        return fail(err, SLUICE_E_IO, "%s: could not be written: %s", w->path, strerror(errno));
    }
    if (w->progress) {
        w->progress->update(w->progress->ctx, pos + 1);
    }
    return SLUICE_OK;
}

sluice_status quality_make(const struct model *model, const char *model_sha256, uint32_t n_threads,
                           const int32_t *tokens, uint32_t n, const char *path, const struct quality_progress *progress,
                           sluice_error *err) {
    struct writer w = {.path = path, .n_vocab = model->n_vocab, .progress = progress};
    w.top = model->n_vocab < QUALITY_TOP ? model->n_vocab : QUALITY_TOP;
    if (n == 0 || n > QUALITY_LIMIT) {
        return fail(err, SLUICE_E_ARG, "a reference has 1 to %u positions, not %u", QUALITY_LIMIT, n);
    }
    w.ids = mem_alloc(w.top * sizeof *w.ids);
    if (!w.ids) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a reference");
    }
    w.f = fopen(path, "we");
    if (!w.f) {
        mem_free(w.ids);
        return fail(err, SLUICE_E_IO, "%s: cannot be created: %s", path, strerror(errno));
    }
    fprintf(w.f, "sluice-reference 1\nmodel_sha256 %s\nmodel_bytes %" PRIu64 "\nvocab %u\npositions %u\ntop %u\ntokens",
            model_sha256 && model_sha256[0] ? model_sha256 : "-", model->file->file_bytes, model->n_vocab, n, w.top);
    for (uint32_t i = 0; i < n; i++) {
        fprintf(w.f, " %d", tokens[i]);
    }
    fputc('\n', w.f);
    sluice_status status = logits_run(model, "ref", n_threads, tokens, n, 1, put_position, &w, err);
    struct stat kind;
    bool failed = ferror(w.f) != 0;
    bool regular = fstat(fileno(w.f), &kind) == 0 && S_ISREG(kind.st_mode);
    if ((fclose(w.f) != 0 || failed) && status == SLUICE_OK) {
        status = fail(err, SLUICE_E_IO, "%s: could not be written: %s", path, strerror(errno));
    }
    mem_free(w.ids);
    if (status != SLUICE_OK && regular) { /* half a reference is none; a device stays where it is */
        remove(path);
    }
    return status;
}

/* ---- Reading one */

struct reader {
    FILE *f;
    const char *path;
    char *line;
    size_t cap;
    uint32_t number; /* of the line in hand */
    char *at;
    sluice_error *err;
};

static sluice_status wrong(const struct reader *r, const char *what) {
    return fail(r->err, SLUICE_E_FORMAT, "%s: line %u: %s", r->path, r->number, what);
}

static sluice_status next_line(struct reader *r) {
    r->number++;
    ssize_t n = getline(&r->line, &r->cap, r->f);
    if (n <= 0) {
        return wrong(r, "is missing; the file is cut off");
    }
    if (strlen(r->line) != (size_t)n) {
        return wrong(r, "holds a zero byte");
    }
    if (r->line[n - 1] != '\n') {
        return wrong(r, "has no end; the file is cut off");
    }
    r->line[strcspn(r->line, "\n")] = '\0';
    r->at = r->line;
    return SLUICE_OK;
}

/* "key value" with a whole number from 1 to most. */
static sluice_status header(struct reader *r, const char *key, uint64_t most, uint64_t *out) {
    char *end = NULL;
    size_t n = strlen(key);
    TRY(next_line(r));
    errno = 0;
    bool named = strncmp(r->line, key, n) == 0 && r->line[n] == ' ' && r->line[n + 1] >= '0' && r->line[n + 1] <= '9';
    *out = named ? strtoull(r->line + n + 1, &end, 10) : 0;
    if (!named || *end || errno || *out == 0 || *out > most) {
        char what[120];
        snprintf(what, sizeof what, "must be \"%s\" and a number from 1 to %" PRIu64, key, most);
        return wrong(r, what);
    }
    return SLUICE_OK;
}

static sluice_status id(struct reader *r, char stop, uint32_t n_vocab, int32_t *out) {
    char *end;
    errno = 0;
    long v = strtol(r->at, &end, 10);
    if (end == r->at || errno || v < 0 || (unsigned long)v >= n_vocab || (*end != stop && *end != '\0')) {
        return wrong(r, "holds something that is no token id of this vocabulary");
    }
    *out = (int32_t)v;
    r->at = end;
    return SLUICE_OK;
}

static sluice_status real(struct reader *r, double *out) {
    char *end;
    *out = strtod(r->at, &end);
    if (end == r->at || !isfinite(*out) || (*end != ' ' && *end != '\0')) {
        return wrong(r, "holds something that is no finite number");
    }
    r->at = end;
    return SLUICE_OK;
}

static sluice_status read_position(struct reader *r, struct quality_reference *q, uint32_t pos) {
    double v;
    double kept = 0;
    TRY(next_line(r));
    TRY(real(r, &q->lse[pos]));
    for (uint32_t i = 0; i < q->top; i++) {
        size_t at = (size_t)pos * q->top + i;
        if (*r->at++ != ' ') {
            return wrong(r, "has fewer logits than \"top\" says");
        }
        TRY(id(r, ':', q->n_vocab, &q->ids[at]));
        if (*r->at++ != ':') {
            return wrong(r, "has an id without a logit");
        }
        TRY(real(r, &v));
        q->logits[at] = (float)v;
        if (i > 0 && q->logits[at] > q->logits[at - 1]) {
            return wrong(r, "has its logits out of order");
        }
        kept += exp(v - q->lse[pos]);
    }
    if (*r->at) {
        return wrong(r, "has more logits than \"top\" says");
    }
    return kept <= 1 + 1e-5 ? SLUICE_OK : wrong(r, "has probabilities that sum to more than 1");
}

static sluice_status read_header(struct reader *r, struct quality_reference *q) {
    uint64_t v;
    TRY(next_line(r));
    if (strcmp(r->line, "sluice-reference 1") != 0) {
        return wrong(r, "is not \"sluice-reference 1\": this is no reference file");
    }
    TRY(next_line(r));
    if (strncmp(r->line, "model_sha256 ", 13) != 0 ||
        (strcmp(r->line + 13, "-") != 0 &&
         (strlen(r->line + 13) != 64 || strspn(r->line + 13, "0123456789abcdef") != 64))) {
        return wrong(r, "must be \"model_sha256\" and 64 hexadecimal digits, or -");
    }
    if (r->line[13] != '-') {
        memcpy(q->model_sha256, r->line + 13, 65);
    }
    TRY(header(r, "model_bytes", UINT64_MAX / 2, &q->model_bytes));
    TRY(header(r, "vocab", LIMIT_VOCAB, &v));
    q->n_vocab = (uint32_t)v;
    TRY(header(r, "positions", QUALITY_LIMIT, &v));
    q->n = (uint32_t)v;
    TRY(header(r, "top", q->n_vocab < 1024 ? q->n_vocab : 1024, &v));
    q->top = (uint32_t)v;
    return SLUICE_OK;
}

static sluice_status read_all(struct reader *r, struct quality_reference *q) {
    TRY(read_header(r, q));
    q->tokens = mem_alloc(q->n * sizeof *q->tokens);
    q->lse = mem_alloc(q->n * sizeof *q->lse);
    q->ids = mem_alloc((size_t)q->n * q->top * sizeof *q->ids);
    q->logits = mem_alloc((size_t)q->n * q->top * sizeof *q->logits);
    if (!q->tokens || !q->lse || !q->ids || !q->logits) {
        return fail(r->err, SLUICE_E_NOMEM, "no memory for the reference %s", r->path);
    }
    TRY(next_line(r));
    if (strncmp(r->line, "tokens", 6) != 0) {
        return wrong(r, "must be \"tokens\" and the ids");
    }
    r->at += 6;
    for (uint32_t i = 0; i < q->n; i++) {
        if (*r->at++ != ' ') {
            return wrong(r, "has fewer ids than \"positions\" says");
        }
        TRY(id(r, ' ', q->n_vocab, &q->tokens[i]));
    }
    if (*r->at) {
        return wrong(r, "has more ids than \"positions\" says");
    }
    for (uint32_t i = 0; i < q->n; i++) {
        TRY(read_position(r, q, i));
    }
    return SLUICE_OK;
}

sluice_status quality_read(const char *path, struct quality_reference *out, sluice_error *err) {
    *out = (struct quality_reference){0};
    struct reader r = {.f = fopen(path, "re"), .path = path, .err = err};
    if (!r.f) {
        return fail(err, SLUICE_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    }
    sluice_status status = read_all(&r, out);
    fclose(r.f);
    free(r.line); /* getline's */
    if (status != SLUICE_OK) {
        quality_free(out);
    }
    return status;
}

void quality_free(struct quality_reference *r) {
    mem_free(r->tokens);
    mem_free(r->lse);
    mem_free(r->ids);
    mem_free(r->logits);
    *r = (struct quality_reference){0};
}

/* ---- Judging a backend */

double quality_kl(const struct quality_reference *r, uint32_t pos, const float *logits, bool *same_top) {
    double lse = log_sum_exp(logits, r->n_vocab);
    double kl = 0;
    double p_kept = 0;
    double q_kept = 0;
    const int32_t *ids = r->ids + (size_t)pos * r->top;
    for (uint32_t i = 0; i < r->top; i++) {
        double ln_p = (double)r->logits[(size_t)pos * r->top + i] - r->lse[pos];
        double ln_q = (double)logits[ids[i]] - lse;
        kl += exp(ln_p) * (ln_p - ln_q);
        p_kept += exp(ln_p);
        q_kept += exp(ln_q);
    }
    double p_rest = 1 - p_kept;
    double q_rest = 1 - q_kept;
    if (p_rest > 1e-12 && q_rest > 1e-12) { /* below that the difference is rounding */
        kl += p_rest * log(p_rest / q_rest);
    }
    *same_top = true;
    for (uint32_t i = 0; i < r->n_vocab; i++) {
        *same_top = *same_top && !(logits[i] > logits[ids[0]]);
    }
    return isfinite(kl) ? fmax(kl, 0) : INFINITY;
}

struct judge {
    const struct quality_reference *reference;
    const struct quality_progress *progress;
    double *kl;
    uint32_t same;
};

static sluice_status judge_position(void *ctx, uint32_t pos, const float *logits, sluice_error *err) {
    struct judge *j = ctx;
    bool same = false;
    (void)err;
    j->kl[pos] = quality_kl(j->reference, pos, logits, &same);
    j->same += same;
    if (j->progress) {
        j->progress->update(j->progress->ctx, pos + 1);
    }
    return SLUICE_OK;
}

sluice_status quality_measure(const struct model *model, const char *model_sha256, const char *backend,
                              uint32_t n_threads, const struct quality_reference *reference,
                              const struct quality_progress *progress, struct quality_result *out, sluice_error *err) {
    bool other = model->n_vocab != reference->n_vocab || model->file->file_bytes != reference->model_bytes;
    if (model_sha256 && model_sha256[0] && reference->model_sha256[0]) {
        other = other || strcmp(model_sha256, reference->model_sha256) != 0;
    }
    if (other) {
        return fail(err, SLUICE_E_ARG, "the reference was made from another model file");
    }
    struct judge j = {.reference = reference, .progress = progress};
    j.kl = mem_alloc(reference->n * sizeof *j.kl);
    if (!j.kl) {
        return fail(err, SLUICE_E_NOMEM, "no memory for %u divergences", reference->n);
    }
    sluice_status status =
        logits_run(model, backend, n_threads, reference->tokens, reference->n, 0, judge_position, &j, err);
    if (status == SLUICE_OK) {
        uint32_t n = reference->n;
        stats_sort(j.kl, n);
        *out = (struct quality_result){
            .n = n,
            .kl_mean = stats_mean(j.kl, n),
            .kl_median = stats_quantile_sorted(j.kl, n, 0.5),
            .kl_p999 = stats_quantile_sorted(j.kl, n, 0.999),
            .kl_max = j.kl[n - 1],
            .top1_agreement = (double)j.same / n,
        };
    }
    mem_free(j.kl);
    return status;
}

void quality_judge(const struct quality_result *r, char *why, size_t cap) {
    why[0] = '\0';
    if (!(r->kl_mean <= QUALITY_KL_MEAN)) {
        snprintf(why, cap, "the mean divergence from the plain F32 model is %.2g, more than %.2g", r->kl_mean,
                 QUALITY_KL_MEAN);
    } else if (r->top1_agreement < QUALITY_TOP1_SHARE) {
        snprintf(why, cap, "the likeliest token agrees in %.1f%% of positions, less than %.0f%%",
                 100 * r->top1_agreement, 100 * QUALITY_TOP1_SHARE);
    }
}
